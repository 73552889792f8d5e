//! The end of a sandbox without a pid namespace. Its processes are one process group, which none can leave: the filter allows neither
//! setpgid(2) nor setsid(2). The host signals a group as a whole, and no fork(2) that is under way slips through. The supervisor does it
//! when the warden has ended; the guard, a process of that group which is not under the filter, does it when the supervisor has.

use super::{LaunchError, confine, namespaces};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getppid};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Lets the supervisor inherit the processes of a warden that has ended, so that it can wait for them.
pub fn adopt() -> Result<(), LaunchError> {
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|error| LaunchError::from(("PR_SET_CHILD_SUBREAPER", error)))
}

/// Starts the guard, a child of `supervisor`, in the group of the calling process, which leads it and is not confined yet.
pub fn start(supervisor: u32) -> Result<(), LaunchError> {
    let supervisor = Pid::from_raw(supervisor as libc::pid_t);
    let pid = namespaces::fork(libc::CLONE_PARENT | libc::SIGCHLD)
        .map_err(|source| LaunchError::Host { what: "a process that guards the sandbox", source })?;
    if pid == 0 {
        watch(supervisor);
        // All of the group, and so this process too.
        let _ = killpg(Pid::from_raw(0), Signal::SIGKILL);
        // SAFETY: ends this process without running what its parent has registered.
        unsafe { libc::_exit(0) }
    }
    Ok(())
}

/// Until the supervisor has ended. A guard that cannot watch does not wait: without a supervisor there is no sandbox.
fn watch(supervisor: Pid) {
    let _ = SigSet::all().thread_set_mask();
    // SAFETY: only numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, supervisor.as_raw(), 0) };
    // If it had ended before, the number could be another's by now; it would not be the parent.
    if fd < 0 || getppid() != supervisor {
        return;
    }
    // SAFETY: a descriptor that was just made.
    let supervisor = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // The standard descriptors, too: a pipe of the caller's must not stay open for the guard's sake.
    for number in 0..3 {
        // SAFETY: this process uses none of them.
        unsafe { libc::close(number) };
    }
    if confine::close_others(&[supervisor.as_raw_fd()]).is_err() {
        return;
    }
    loop {
        let mut fds = [PollFd::new(supervisor.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(0) | Err(Errno::EINTR) => {}
            _ => return,
        }
    }
}

/// Ends every process of the group of `leader`, in the supervisor. The group has the number for itself as long as the leader was not
/// waited for.
pub fn end(leader: Pid) {
    let _ = killpg(leader, Signal::SIGKILL);
    // Before it leads a group.
    let _ = nix::sys::signal::kill(leader, Signal::SIGKILL);
}

/// Waits for what is left of a group whose leader was waited for: all of it are the supervisor's children by then.
pub fn reap(leader: Pid) {
    while !matches!(
        waitpid(Pid::from_raw(-leader.as_raw()), Some(WaitPidFlag::__WALL)),
        Err(Errno::ECHILD | Errno::EINVAL)
    ) {}
}
