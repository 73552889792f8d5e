//! What the launched process gives up before the kernel image runs.

use super::{Identity, LaunchError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid};
use std::os::fd::RawFd;

/// Ends this process when the supervisor ends.
pub fn die_with_parent() -> Result<(), LaunchError> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(|error| ("PR_SET_PDEATHSIG", error).into())
}

/// No capability, no way to get one, no terminal, an ordinary host identity.
pub fn drop_privileges(identity: &Identity) -> Result<(), LaunchError> {
    let host = |what: &'static str| move |error: nix::Error| LaunchError::from((what, error));
    nix::unistd::setsid().map_err(host("setsid"))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    limits()?;
    if identity.by_root {
        nix::unistd::setgroups(&[]).map_err(host("giving up groups"))?;
        let (uid, gid) = (Uid::from_raw(identity.host_uid), Gid::from_raw(identity.host_gid));
        nix::unistd::setresgid(gid, gid, gid).map_err(host("giving up the group"))?;
        nix::unistd::setresuid(uid, uid, uid).map_err(host("giving up root"))?;
    }
    let capability = |error: caps::errors::CapsError| LaunchError::Host {
        what: "giving up capabilities",
        source: std::io::Error::other(error.to_string()),
    };
    if caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SETPCAP).unwrap_or(false) {
        for one in caps::all() {
            // A capability that the host does not know cannot be dropped, and need not be.
            let _ = caps::drop(None, caps::CapSet::Bounding, one);
        }
    }
    for set in [caps::CapSet::Ambient, caps::CapSet::Inheritable, caps::CapSet::Effective, caps::CapSet::Permitted] {
        caps::clear(None, set).map_err(capability)?;
    }
    nix::sys::prctl::set_no_new_privs().map_err(host("PR_SET_NO_NEW_PRIVS"))?;
    // A change of ids makes a process undumpable and clears the parent-death signal.
    die_with_parent()?;
    nix::sys::prctl::set_dumpable(false).map_err(host("PR_SET_DUMPABLE"))
}

fn limits() -> Result<(), LaunchError> {
    let failed = |error: nix::Error| LaunchError::from(("resource limits", error));
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(failed)?;
    for resource in [Resource::RLIMIT_NOFILE, Resource::RLIMIT_STACK, Resource::RLIMIT_AS, Resource::RLIMIT_DATA] {
        let (_, hard) = getrlimit(resource).map_err(failed)?;
        setrlimit(resource, hard, hard).map_err(failed)?;
    }
    Ok(())
}

/// Closes every descriptor but the standard ones and `keep`.
pub fn close_others(keep: &[RawFd]) -> Result<(), LaunchError> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|&fd| u32::try_from(fd).ok()).filter(|&fd| fd > 2).collect();
    keep.sort_unstable();
    keep.dedup();
    let mut first = 3u32;
    for fd in keep.into_iter().map(Some).chain([None]) {
        let last = fd.map_or(u32::MAX, |fd| fd - 1);
        // SAFETY: nothing refers to these descriptors any more: the next thing this process does is to jump away.
        if first <= last && unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } != 0 {
            return Err(LaunchError::last("closing descriptors (close_range, Linux 5.9)"));
        }
        match fd {
            Some(fd) => first = fd + 1,
            None => break,
        }
    }
    Ok(())
}
