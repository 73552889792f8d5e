//! Processes that do something beside the launcher, or hold something for it, in its memory.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicU32;

/// The stack of a process that [`share_memory`] starts: one of the launcher's needs a few pages.
pub struct Stack(Vec<u128>);

impl Stack {
    /// Memory that is touched as far as it is used.
    pub fn new() -> Stack {
        Stack(Vec::with_capacity(4096))
    }
}

/// A process with the flags of clone(2) that shares this one's memory and runs `body` on `stack`; it ends with what that returns. Nothing
/// is copied for it, neither when it starts nor later, which takes half the time of a fork. Gives its id and a descriptor of it (pidfd).
///
/// The two share `errno`: where a call fails in the new process, one that fails in the caller at the same moment may be told with its
/// reason. So what the new process does is expected to succeed, or to be done again by the caller.
///
/// # Safety
///
/// `stack`, and what `argument` points to, stay until the process has ended. It and the caller must not both use the C library's
/// allocator meanwhile: in a program of one thread that takes no lock.
pub unsafe fn share_memory(
    flags: libc::c_int,
    stack: &mut Stack,
    body: extern "C" fn(*mut libc::c_void) -> libc::c_int,
    argument: *mut libc::c_void,
) -> io::Result<(libc::pid_t, OwnedFd)> {
    let mut process: RawFd = -1;
    let flags = flags | libc::CLONE_VM | libc::CLONE_PIDFD;
    let end = stack.0.spare_capacity_mut().as_mut_ptr_range().end;
    // SAFETY: the stack ends there, aligned to 16 bytes, and is the new process's alone (see above).
    let pid = unsafe { libc::clone(body, end.cast(), flags, argument, &mut process) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(process) }))
}

/// Sleeps while `word`, in memory that others share, has the value.
pub fn futex_wait(word: &AtomicU32, value: u32) {
    let no_timeout = std::ptr::null::<libc::timespec>();
    // SAFETY: the word is mapped; the call changes no memory.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, no_timeout) };
}

/// Wakes all who sleep there.
pub fn futex_wake(word: &AtomicU32) {
    // SAFETY: the word is mapped; the call changes no memory.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
