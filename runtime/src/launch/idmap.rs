//! Granted directories of a sandbox that root starts. On the host such a sandbox is nobody (65534); a granted directory is
//! shown to it through an idmapped mount that swaps the directory's owner with nobody, so that it may do there what the owner
//! may (mount_setattr(2), `MOUNT_ATTR_IDMAP`, Linux 5.12; the filesystem must support it).
//!
//! Only the initial user namespace may map a filesystem's ids, so the parent makes detached mounts, while the launched process does other
//! things, and sends them; that attaches them (move_mount(2)).

use super::helper::{self, Stack};
use super::tree::{MOUNT_ATTR_IDMAP, attributes_of, set_attributes};
use super::{Identity, namespaces};
use crate::view::HostPath;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Ids of an owner: user and group.
type Owner = (u32, u32);

/// Detached idmapped mounts.
#[derive(Default)]
pub struct Idmapped {
    /// For each host path, in order, one if it needs one and can have one.
    mounts: Vec<Option<OwnedFd>>,
    /// What is still to be waited for.
    _holders: Vec<Holder>,
}

impl Idmapped {
    /// Sends them to the launched process, a byte for each host path. One that has ended takes none, and has told why.
    pub fn send(&self, to: &UnixStream) {
        for mount in &self.mounts {
            let fd = mount.as_ref().map(|mount| [mount.as_raw_fd()]);
            let rights = fd.as_ref().map(|fd| ControlMessage::ScmRights(fd));
            let byte = [u8::from(fd.is_some())];
            let vectors = [IoSlice::new(&byte)];
            let _ = sendmsg::<()>(to.as_raw_fd(), &vectors, rights.as_slice(), MsgFlags::MSG_NOSIGNAL, None);
        }
    }
}

/// Takes what was sent for so many host paths: an error is the end of the supervisor.
pub fn receive(from: &UnixStream, host_paths: usize) -> io::Result<Vec<Option<OwnedFd>>> {
    (0..host_paths).map(|_| receive_one(from)).collect()
}

fn receive_one(from: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0u8; 1];
    let mut vectors = [IoSliceMut::new(&mut byte)];
    let mut room = nix::cmsg_space!([RawFd; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(from.as_raw_fd(), &mut vectors, Some(&mut room), flags)?;
    let mount = message.cmsgs()?.find_map(|part| match part {
        // SAFETY: descriptors that the call has just made.
        ControlMessageOwned::ScmRights(fds) => fds.first().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => None,
    });
    match message.bytes {
        1 if mount.is_some() == (byte == [1]) => Ok(mount),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Makes them for a view's host paths.
pub fn prepare(host_paths: &[HostPath], identity: &Identity) -> Idmapped {
    let mut namespaces: BTreeMap<Owner, File> = BTreeMap::new();
    let mut holders = Vec::new();
    let mut mounts = Vec::with_capacity(host_paths.len());
    for host_path in host_paths {
        mounts.push(match owner_to_map(host_path, identity) {
            // A filesystem that cannot do it is bound as it is: `tree` says so where the sandbox could then not use it.
            Some(owner) => detached(host_path, owner, identity, &mut namespaces, &mut holders).ok(),
            None => None,
        });
    }
    Idmapped { mounts, _holders: holders }
}

/// The owner whose place the sandbox takes. Never of the root directory: granting everything is not granting root's files.
fn owner_to_map(host_path: &HostPath, identity: &Identity) -> Option<Owner> {
    if !identity.becomes_nobody() || !host_path.granted || host_path.path == Path::new("/") {
        return None;
    }
    let metadata = fs::metadata(&host_path.path).ok()?;
    let owner = (metadata.uid(), metadata.gid());
    (owner != (identity.host_uid, identity.host_gid)).then_some(owner)
}

fn detached(
    host_path: &HostPath,
    owner: Owner,
    identity: &Identity,
    namespaces: &mut BTreeMap<Owner, File>,
    holders: &mut Vec<Holder>,
) -> io::Result<OwnedFd> {
    let namespace = match namespaces.entry(owner) {
        Entry::Occupied(made) => made.into_mut(),
        Entry::Vacant(none) => none.insert(swapping_namespace(owner, identity, holders)?),
    };
    let tree = open_tree(&host_path.path)?;
    let attributes = attributes_of(host_path) | MOUNT_ATTR_IDMAP;
    set_attributes(Some(&tree), c"", attributes, Some(namespace.as_raw_fd()))?;
    Ok(tree)
}

/// A detached copy of the mounts at `path` (open_tree(2)).
pub fn open_tree(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as u32 | libc::AT_RECURSIVE as u32;
    // SAFETY: a terminated path.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

const OPEN_TREE_CLONE: u32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;

/// Attaches a detached mount at `target`.
pub fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes())?;
    // SAFETY: terminated paths.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A process that was needed for its user namespace: it was killed, and its end takes place beside the launch.
struct Holder {
    pid: nix::unistd::Pid,
    /// It may still be on its way there.
    _stack: Stack,
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = waitpid(self.pid, Some(WaitPidFlag::__WALL));
    }
}

/// A user namespace in which the owner and the sandbox's host identity have changed places.
fn swapping_namespace((uid, gid): Owner, identity: &Identity, holders: &mut Vec<Holder>) -> io::Result<File> {
    let mut stack = Stack::new();
    // Its end sends no signal, which the supervisor would wake up for.
    // SAFETY: it allocates nothing, and the stack stays until it was waited for.
    let (pid, _process) = unsafe {
        helper::share_memory(libc::CLONE_NEWUSER, &mut stack, hold_namespace, std::ptr::null_mut())
    }?;
    holders.push(Holder { pid: nix::unistd::Pid::from_raw(pid), _stack: stack });
    let made = namespaces::write_proc(pid, "uid_map", &swap(uid, identity.host_uid))
        .and_then(|()| namespaces::write_proc(pid, "gid_map", &swap(gid, identity.host_gid)))
        .and_then(|()| File::open(format!("/proc/{pid}/ns/user")));
    // SAFETY: our own child, which was not waited for yet.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    made
}

/// Holds the namespace until the parent has a descriptor of it, or ends.
extern "C" fn hold_namespace(_: *mut libc::c_void) -> libc::c_int {
    loop {
        // SAFETY: no argument that is a pointer.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::pause();
        }
    }
}

/// An id map of everything in which `one` and `other` are swapped.
fn swap(one: u32, other: u32) -> String {
    let mut map = String::new();
    let mut next = 0u32;
    let pairs = if one == other {
        vec![]
    } else {
        vec![(one.min(other), one.max(other)), (one.max(other), one.min(other))]
    };
    for (inside, outside) in pairs {
        if inside > next {
            map.push_str(&format!("{next} {next} {}\n", inside - next));
        }
        map.push_str(&format!("{inside} {outside} 1\n"));
        next = inside.saturating_add(1);
    }
    if next < u32::MAX {
        map.push_str(&format!("{next} {next} {}\n", u32::MAX - next));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_path_has_its_own_mount_or_none() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let file = |path: &str| Some(OwnedFd::from(File::open(path).expect("it is there")));
        let mounts = vec![None, file("/"), file("/proc"), None];
        let sent = Idmapped { mounts, _holders: Vec::new() };
        sent.send(&ours);
        drop(ours);
        let inode = |fd: &OwnedFd| nix::sys::stat::fstat(fd).expect("it is open").st_ino;
        let inodes = |mounts: &[Option<OwnedFd>]| -> Vec<_> {
            mounts.iter().map(|mount| mount.as_ref().map(inode)).collect()
        };
        let received = receive(&theirs, 4).expect("they arrive");
        assert_eq!(inodes(&received), inodes(&sent.mounts));
        assert!(receive(&theirs, 1).is_err());
    }

    #[test]
    fn a_swap_leaves_every_other_id_alone() {
        assert_eq!(swap(0, 65534), "0 65534 1\n1 1 65533\n65534 0 1\n65535 65535 4294901760\n");
        assert_eq!(
            swap(1000, 65534),
            "0 0 1000\n1000 65534 1\n1001 1001 64533\n65534 1000 1\n65535 65535 4294901760\n"
        );
    }
}
