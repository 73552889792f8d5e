//! What the launched process gives up before the kernel image runs.

use super::{Identity, LaunchError, Walls};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid};
use std::os::fd::{BorrowedFd, RawFd};

/// Ends this process when the supervisor ends, also if it has already: it then holds no end of `control` any more.
pub fn die_with_parent(control: BorrowedFd<'_>) -> Result<(), LaunchError> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
        .map_err(|error| LaunchError::from(("PR_SET_PDEATHSIG", error)))?;
    let mut fds = [PollFd::new(control, PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).map_err(|error| LaunchError::from(("the control socket", error)))?;
    if fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)) {
        std::process::exit(125);
    }
    Ok(())
}

/// No signal blocked, none handled or ignored, no alternate stack: what the supervisor and Rust's start-up code set is of no
/// use to the image, and would point into memory that it unmaps. (A blocked SIGSYS would be a kill.)
pub fn reset_signals() -> Result<(), LaunchError> {
    // `struct kernel_sigaction`: handler, flags, restorer, mask. The C library's call would keep its own two signals as they are.
    let default = [libc::SIG_DFL as u64; 4];
    for number in 1..=64 {
        // SAFETY: the default action needs no handler. SIGKILL and SIGSTOP are refused, rightly.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, &default, 0, size_of::<u64>()) };
    }
    let off = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    // SAFETY: no handler is left that would need the stack.
    unsafe { libc::sigaltstack(&off, std::ptr::null_mut()) };
    nix::sys::signal::SigSet::empty().thread_set_mask().map_err(|error| ("the signal mask", error).into())
}

/// `SECBIT_NOROOT`, `SECBIT_NO_SETUID_FIXUP` is left alone (giving up root clears the sets), `SECBIT_NO_CAP_AMBIENT_RAISE`,
/// each with its lock, and the lock of `SECBIT_KEEP_CAPS` (capabilities(7)).
const SECURE_BITS: libc::c_ulong = 0x1 | 0x2 | 0x20 | 0x40 | 0x80;

/// What a container keeps, over files of its own user namespace: the owners and permissions of its tree are as they look inside.
const OVER_FILES: [caps::Capability; 5] = [
    caps::Capability::CAP_CHOWN,
    caps::Capability::CAP_DAC_OVERRIDE,
    caps::Capability::CAP_DAC_READ_SEARCH,
    caps::Capability::CAP_FOWNER,
    caps::Capability::CAP_FSETID,
];

/// No capability but a container's over files, no way to get one, an ordinary host identity. This process is in its own user
/// namespace.
pub fn drop_privileges(identity: &Identity, control: BorrowedFd<'_>) -> Result<(), LaunchError> {
    let host = |what: &'static str| move |error: nix::Error| LaunchError::from((what, error));
    // These two need capabilities, which the change of identity takes away: the new user namespace gave this process all.
    for one in 0..=last_capability() {
        // SAFETY: only numbers. The host knows them all.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, one, 0, 0, 0) } != 0 {
            return Err(LaunchError::last("giving up capabilities"));
        }
    }
    // SAFETY: only numbers.
    if unsafe { libc::prctl(libc::PR_SET_SECUREBITS, SECURE_BITS, 0, 0, 0) } != 0 {
        return Err(LaunchError::last("PR_SET_SECUREBITS"));
    }
    if identity.becomes_nobody() {
        nix::unistd::setgroups(&[]).map_err(host("giving up groups"))?;
        let (uid, gid) = (Uid::from_raw(identity.host_uid), Gid::from_raw(identity.host_gid));
        nix::unistd::setresgid(gid, gid, gid).map_err(host("giving up the group"))?;
        nix::unistd::setresuid(uid, uid, uid).map_err(host("giving up root"))?;
    }
    drop_capabilities(if identity.container { &OVER_FILES } else { &[] })?;
    nix::sys::prctl::set_dumpable(false).map_err(host("PR_SET_DUMPABLE"))?;
    // A change of ids or capabilities clears the parent-death signal.
    die_with_parent(control)
}

/// A session of its own, without a terminal.
pub fn own_session() -> Result<(), LaunchError> {
    nix::unistd::setsid().map_err(|error| LaunchError::from(("setsid", error)))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    Ok(())
}

/// Whatever capabilities this process may have but those `kept`, and the way to get others.
pub fn drop_capabilities(kept: &[caps::Capability]) -> Result<(), LaunchError> {
    let capability = |error: caps::errors::CapsError| LaunchError::Host {
        what: "giving up capabilities",
        source: std::io::Error::other(error.to_string()),
    };
    for set in [caps::CapSet::Ambient, caps::CapSet::Inheritable] {
        caps::clear(None, set).map_err(capability)?;
    }
    for set in [caps::CapSet::Effective, caps::CapSet::Permitted] {
        caps::set(None, set, &kept.iter().copied().collect()).map_err(capability)?;
    }
    nix::sys::prctl::set_no_new_privs().map_err(|error| LaunchError::from(("PR_SET_NO_NEW_PRIVS", error)))
}

/// The highest capability that the host knows: asking for one that it does not know fails.
fn last_capability() -> libc::c_int {
    // SAFETY: only numbers.
    (0..64)
        .take_while(|&one| unsafe { libc::prctl(libc::PR_CAPBSET_READ, one, 0, 0, 0) } >= 0)
        .last()
        .unwrap_or(0)
}

/// No core dumps of the kernel; as many processes as the sandbox may have; as much of everything else as the caller may have: the
/// kernel keeps the program's own limits.
pub fn limits(walls: Walls, pids: u32, oom_score_adj: i32) -> Result<(), LaunchError> {
    let failed = |error: nix::Error| LaunchError::from(("resource limits", error));
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(failed)?;
    for resource in [
        Resource::RLIMIT_NOFILE,
        Resource::RLIMIT_STACK,
        Resource::RLIMIT_AS,
        Resource::RLIMIT_DATA,
        Resource::RLIMIT_FSIZE,
        Resource::RLIMIT_MEMLOCK,
    ] {
        let (_, hard) = getrlimit(resource).map_err(failed)?;
        setrlimit(resource, hard, hard).map_err(failed)?;
    }
    // Without a user namespace of its own the host would count all that its user has.
    let release = nix::sys::utsname::uname().map_err(failed)?;
    if walls == Walls::Namespaces && counts_by_namespace(&release.release().to_string_lossy()) {
        // Each task may have a second process for a moment, while it executes a program; the warden is one, too.
        let (_, hard) = getrlimit(Resource::RLIMIT_NPROC).map_err(failed)?;
        let most = hard.min(u64::from(pids) * 2 + 64);
        setrlimit(Resource::RLIMIT_NPROC, most, most).map_err(failed)?;
    }
    // The host need not have it, or let us lower it.
    let _ = std::fs::write("/proc/self/oom_score_adj", oom_score_adj.to_string());
    Ok(())
}

/// Since Linux 5.14 `RLIMIT_NPROC` counts a user's processes in each user namespace by themselves. Before, it would count all that the
/// user has.
fn counts_by_namespace(release: &str) -> bool {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0u32));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 14)
}

/// Closes every descriptor but the standard ones and `keep`.
pub fn close_others(keep: &[RawFd]) -> Result<(), LaunchError> {
    let mut keep: Vec<u32> =
        keep.iter().filter_map(|&fd| u32::try_from(fd).ok()).filter(|&fd| fd > 2).collect();
    keep.sort_unstable();
    keep.dedup();
    let mut first = 3u32;
    for fd in keep.into_iter().map(Some).chain([None]) {
        let last = fd.map_or(u32::MAX, |fd| fd - 1);
        // SAFETY: nothing refers to these descriptors any more: the next thing this process does is to jump away.
        if first <= last && unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } != 0 {
            return Err(LaunchError::Missing {
                what: "close_range".into(),
                reason: std::io::Error::last_os_error().to_string(),
                way_out: "use Linux 5.9 or newer".into(),
            });
        }
        match fd {
            Some(fd) => first = fd + 1,
            None => break,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_says_how_processes_are_counted() {
        assert!(counts_by_namespace("5.14.0-503.el9.x86_64") && counts_by_namespace("6.1"));
        assert!(!counts_by_namespace("5.10.0-30-amd64") && !counts_by_namespace("odd"));
    }
}
