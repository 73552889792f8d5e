//! The host tree of a container that joins a pod. The sandbox has its own mount namespace and goes nowhere else; but a mount that is
//! attached nowhere can be handed to it as a descriptor, and is gone when that is closed.
//!
//! Landlock follows a path from the file through the mounts to the top, and knows the sandbox's rules by inode: the top of such a tree is
//! the pod's hub, which the sandbox has a rule for since its launch ([`super::fence`]).

use super::{LaunchError, container, namespaces, tree};
use crate::view::View;
use boundary::boot::{MountKind, MountSpec};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, sendmsg, socketpair,
};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Lays out a container's tree below `hub` (see [`View::pod`]): the descriptor for the sandbox, and the container's mount table with host
/// paths as they are below that. The caller has one thread, and may mount.
pub fn container_tree(view: View, hub: &Path) -> Result<(OwnedFd, Vec<MountSpec>), LaunchError> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|error| ("a socket for a container's tree", error))?;
    let pid = namespaces::fork(libc::SIGCHLD)
        .map_err(|source| LaunchError::Host { what: "a process that lays out a container's tree", source })?;
    if pid == 0 {
        drop(ours);
        let outcome = unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|error| LaunchError::from(("a mount namespace", error)))
            .and_then(|()| tree::detached(&view, &container(), hub));
        say(&theirs, outcome);
        // SAFETY: ends this process without running what its parent has registered.
        unsafe { libc::_exit(0) }
    }
    drop(theirs);
    let heard = hear(&ours);
    let _ = waitpid(Pid::from_raw(pid), None);
    Ok((heard?, view.mounts.into_iter().map(below_hub).collect()))
}

fn say(to: &OwnedFd, outcome: Result<OwnedFd, LaunchError>) {
    let (text, descriptors) = match &outcome {
        Ok(tree) => (String::from("tree"), vec![tree.as_raw_fd()]),
        Err(error) => (error.to_string(), Vec::new()),
    };
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let control = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    // Who is not there to hear it has no use for it.
    let _ = sendmsg::<UnixAddr>(
        to.as_raw_fd(),
        &[IoSlice::new(text.as_bytes())],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    );
}

fn hear(from: &OwnedFd) -> Result<OwnedFd, LaunchError> {
    let failed = |error: nix::Error| LaunchError::from(("laying out a container's tree", error));
    let mut text = vec![0u8; 4096];
    let mut room = nix::cmsg_space!([i32; 1]);
    let mut slices = [IoSliceMut::new(&mut text)];
    let received = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<UnixAddr>(from.as_raw_fd(), &mut slices, Some(&mut room), flags) {
            Err(nix::Error::EINTR) => {}
            other => break other.map_err(failed)?,
        }
    };
    let tree = received.cmsgs().map_err(failed)?.find_map(|message| match message {
        nix::sys::socket::ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let length = received.bytes;
    // SAFETY: the host has just made it for this process.
    tree.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).ok_or_else(|| {
        LaunchError::Launched(String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned())
    })
}

fn below_hub(mut mount: MountSpec) -> MountSpec {
    let move_down = |path: &mut Vec<u8>| *path = [tree::TREE.as_bytes(), b"/", path].concat();
    match &mut mount.kind {
        MountKind::Host { path, .. } => move_down(path),
        MountKind::Overlay { lower, upper } => {
            move_down(lower);
            upper.iter_mut().for_each(move_down);
        }
        _ => {}
    }
    mount
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_lie_below_the_hub_and_the_rest_stays() {
        let moved =
            |kind| below_hub(MountSpec { target: b"/".into(), kind, read_only: false, flags: 0 }).kind;
        assert!(
            matches!(moved(MountKind::Host { path: b"a/b".into(), shared: true }), MountKind::Host { path, .. } if path == b"root/a/b")
        );
        let overlay = MountKind::Overlay { lower: b"a".into(), upper: Some(b"b".into()) };
        assert!(
            matches!(moved(overlay), MountKind::Overlay { lower, upper: Some(upper) } if lower == b"root/a" && upper == b"root/b")
        );
        assert!(matches!(moved(MountKind::Proc), MountKind::Proc));
    }
}
