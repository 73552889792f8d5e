//! Host calls on threads, signals, time and the boot.

use super::{call, call_interruptible};
use crate::{Errno, gadget};
use linux_raw_sys::general as raw;

/// `SA_SIGINFO`.
pub const SA_SIGINFO: u64 = 4;
/// `SA_ONSTACK`.
pub const SA_ONSTACK: u64 = 0x0800_0000;
/// `SA_NODEFER`.
pub const SA_NODEFER: u64 = 0x4000_0000;
/// `SA_RESTORER`.
pub const SA_RESTORER: u64 = 0x0400_0000;
/// `SIG_IGN`.
pub const SIG_IGN: u64 = 1;

/// arch_prctl(2): set GS.
pub const ARCH_SET_GS: u32 = 0x1001;
/// arch_prctl(2): set FS.
pub const ARCH_SET_FS: u32 = 0x1002;
/// arch_prctl(2): read FS.
pub const ARCH_GET_FS: u32 = 0x1003;

/// `struct sigaction` of the kernel's ABI.
#[repr(C)]
pub struct SigAction {
    /// Function, `SIG_IGN` or `SIG_DFL`.
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Code that returns from the handler.
    pub restorer: u64,
    /// Blocked while the handler runs.
    pub mask: u64,
}

/// `stack_t`.
#[repr(C)]
pub struct SigAltStack {
    /// Lowest address.
    pub sp: u64,
    /// `SS_*`.
    pub flags: i32,
    /// Unused.
    pub pad: i32,
    /// Bytes.
    pub size: u64,
}

/// Nanoseconds as a timespec.
pub fn timespec(ns: u64) -> raw::timespec {
    raw::timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 }
}

/// rt_sigaction(2), at boot only: the filter does not allow it later.
pub fn rt_sigaction(signal: i32, action: &SigAction) -> Result<(), Errno> {
    // SAFETY: `action` is valid; handlers are this crate's.
    unsafe { call(raw::__NR_rt_sigaction, [signal as u64, action as *const _ as u64, 0, 8, 0, 0]) }
        .map(|_| ())
}

/// rt_sigprocmask(2) `SIG_SETMASK`: at boot, and with the guard.
pub fn set_signal_mask(mask: u64) -> Result<(), Errno> {
    // SAFETY: the pointer is valid for the call.
    unsafe { call(raw::__NR_rt_sigprocmask, [2, &raw const mask as u64, 0, 8, 0, 0]) }.map(|_| ())
}

/// sigaltstack(2).
pub fn sigaltstack(stack: &SigAltStack) -> Result<(), Errno> {
    // SAFETY: the pointer is valid; the stack is the calling thread's own slot.
    unsafe { call(raw::__NR_sigaltstack, [stack as *const _ as u64, 0, 0, 0, 0, 0]) }.map(|_| ())
}

/// arch_prctl(2).
pub fn arch_prctl(code: u32, address: u64) -> Result<(), Errno> {
    // SAFETY: sets a segment base, or writes one to the kernel variable at `address`.
    unsafe { call(raw::__NR_arch_prctl, [u64::from(code), address, 0, 0, 0, 0]) }.map(|_| ())
}

/// prctl(2) `PR_SET_NAME`: what the host's ps(1) shows for the calling thread.
pub fn set_name(name: &[u8; 16]) -> Result<(), Errno> {
    const PR_SET_NAME: u64 = 15;
    // SAFETY: reads sixteen bytes at most.
    unsafe { call(raw::__NR_prctl, [PR_SET_NAME, name.as_ptr() as u64, 0, 0, 0, 0]) }.map(|_| ())
}

/// prctl(2) with numbers only, at boot.
pub fn prctl(option: u32, arguments: [u64; 4]) -> Result<u64, Errno> {
    // SAFETY: the options used take no pointers.
    unsafe {
        call(raw::__NR_prctl, [u64::from(option), arguments[0], arguments[1], arguments[2], arguments[3], 0])
    }
}

/// Installs a seccomp program for the calling thread and all it makes (seccomp(2)), at boot. With `listening` gives the descriptor
/// that tells of calls for which the program says `SECCOMP_RET_USER_NOTIF`; otherwise 0.
pub fn install_filter(program: &[u64], listening: bool) -> Result<i32, Errno> {
    const SET_MODE_FILTER: u64 = 1;
    const NEW_LISTENER: u64 = 8;
    /// `struct sock_fprog`.
    #[repr(C)]
    struct Program {
        length: u16,
        filter: u64,
    }
    let program = Program { length: program.len() as u16, filter: program.as_ptr() as u64 };
    let flags = if listening { NEW_LISTENER } else { 0 };
    let arguments = [SET_MODE_FILTER, flags, &raw const program as u64, 0, 0, 0];
    // SAFETY: the program is valid for the call.
    unsafe { call(raw::__NR_seccomp, arguments) }.map(|fd| fd as i32)
}

/// fork(2) without shared memory, made with clone(2): `flags` decide about parent and descriptors. 0 in the child.
///
/// # Safety
/// The caller goes on in both processes; only one may use what exists once (shared objects' ownership).
pub unsafe fn clone_process(flags: u64) -> Result<i32, Errno> {
    // SAFETY: without a new stack the child continues on its copy of this one.
    unsafe { call(raw::__NR_clone, [flags, 0, 0, 0, 0, 0]) }.map(|pid| pid as i32)
}

/// exit_group(2).
pub fn exit_group(status: i32) -> ! {
    loop {
        // SAFETY: ends the process.
        unsafe { gadget::call(u64::from(raw::__NR_exit_group), [status as u64, 0, 0, 0, 0, 0]) };
    }
}

/// wait4(2) for any child without blocking: pid and wait status, or `None` when none has ended.
pub fn wait_any() -> Result<Option<(i32, i32)>, Errno> {
    let mut status = 0i32;
    let no_hang_all = 1u64 | 0x4000_0000; // WNOHANG | __WALL
    // SAFETY: the pointer is valid for the call.
    let pid =
        unsafe { call(raw::__NR_wait4, [u64::MAX, &raw mut status as u64, no_hang_all, 0, 0, 0]) }? as i32;
    Ok((pid != 0).then_some((pid, status)))
}

/// tgkill(2).
pub fn tgkill(process: i32, thread: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(raw::__NR_tgkill, [process as u64, thread as u64, signal as u64, 0, 0, 0]) }.map(|_| ())
}

/// gettid(2).
pub fn gettid() -> i32 {
    // SAFETY: no pointers.
    unsafe { call(raw::__NR_gettid, [0; 6]) }.map_or(0, |tid| tid as i32)
}

/// getpid(2).
pub fn getpid() -> i32 {
    // SAFETY: no pointers.
    unsafe { call(raw::__NR_getpid, [0; 6]) }.map_or(0, |pid| pid as i32)
}

/// Sleeps while the word is `expected`, until woken or until `deadline_ns` of `CLOCK_MONOTONIC`. Shared between processes.
/// `Ok` and `EAGAIN` both mean: look again.
pub fn futex_wait(
    word: &core::sync::atomic::AtomicU32,
    expected: u32,
    deadline_ns: Option<u64>,
) -> Result<(), Errno> {
    let deadline = deadline_ns.map(timespec);
    let timeout = deadline.as_ref().map_or(0, |deadline| deadline as *const _ as u64);
    let bitset_wait = 9; // FUTEX_WAIT_BITSET, absolute monotonic time
    // SAFETY: the word is kernel heap, mapped in every process.
    unsafe {
        call_interruptible(
            raw::__NR_futex,
            [word.as_ptr() as u64, bitset_wait, u64::from(expected), timeout, 0, u64::from(u32::MAX)],
        )
    }
    .map(|_| ())
}

/// As [`futex_wait`], not ended by pending work (but by a poke that arrives during it).
pub fn futex_wait_until(word: &core::sync::atomic::AtomicU32, expected: u32, deadline_ns: u64) {
    let deadline = timespec(deadline_ns);
    let bitset_wait = 9; // FUTEX_WAIT_BITSET
    // SAFETY: the word is kernel heap, mapped in every process; the deadline is valid for the call.
    let _ = unsafe {
        call(
            raw::__NR_futex,
            [
                word.as_ptr() as u64,
                bitset_wait,
                u64::from(expected),
                &raw const deadline as u64,
                0,
                u64::from(u32::MAX),
            ],
        )
    };
}

/// As [`futex_wait`] without a deadline and not ended by pending work: for locks.
pub fn futex_wait_lock(word: &core::sync::atomic::AtomicU32, expected: u32) {
    // SAFETY: as above.
    let _ = unsafe { call(raw::__NR_futex, [word.as_ptr() as u64, 0, u64::from(expected), 0, 0, 0]) };
}

/// Wakes sleepers of a kernel word.
pub fn futex_wake(word: &core::sync::atomic::AtomicU32, count: u32) {
    // SAFETY: as above.
    let _ = unsafe { call(raw::__NR_futex, [word.as_ptr() as u64, 1, u64::from(count), 0, 0, 0]) };
}

/// futex(2) on program memory: addresses checked by the caller to be the program's, `timeout` (arguments\[3\]) either a
/// count or the address of kernel memory. Sleeps are interruptible.
///
/// # Safety
/// As said.
pub unsafe fn futex_user(arguments: [u64; 6]) -> Result<u64, Errno> {
    // SAFETY: the caller's.
    unsafe { call_interruptible(raw::__NR_futex, arguments) }
}

/// As [`futex_user`] for operations that never sleep: pending work does not keep them from being done.
///
/// # Safety
/// As there.
pub unsafe fn futex_user_at_once(arguments: [u64; 6]) -> Result<u64, Errno> {
    // SAFETY: the caller's.
    unsafe { call(raw::__NR_futex, arguments) }
}

/// futex_waitv(2) with an absolute deadline (0 for none) in `clock`. Interruptible. `ENOSYS` from hosts before Linux 5.16.
///
/// # Safety
/// The addresses in `waiters` were checked to be the program's.
pub unsafe fn futex_waitv(
    waiters: &[raw::futex_waitv],
    deadline: Option<&raw::timespec>,
    clock: u32,
) -> Result<u64, Errno> {
    let deadline = deadline.map_or(0, |deadline| deadline as *const raw::timespec as u64);
    let arguments = [waiters.as_ptr() as u64, waiters.len() as u64, 0, deadline, u64::from(clock), 0];
    // SAFETY: the caller's; the list and the deadline are valid for the call.
    unsafe { call_interruptible(raw::__NR_futex_waitv, arguments) }
}

/// clock_gettime(2) in nanoseconds.
pub fn clock_ns(clock: u32) -> Result<u64, Errno> {
    let mut now = timespec(0);
    // SAFETY: the pointer is valid for the call.
    unsafe { call(raw::__NR_clock_gettime, [u64::from(clock), &raw mut now as u64, 0, 0, 0, 0]) }?;
    Ok((now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64))
}

/// clock_getres(2).
pub fn clock_resolution(clock: u32) -> Result<raw::timespec, Errno> {
    let mut step = timespec(0);
    // SAFETY: the pointer is valid for the call.
    unsafe { call(raw::__NR_clock_getres, [u64::from(clock), &raw mut step as u64, 0, 0, 0, 0]) }?;
    Ok(step)
}

/// getrandom(2).
pub fn getrandom(bytes: &mut [u8], flags: u32) -> Result<usize, Errno> {
    // SAFETY: the buffer is ours.
    unsafe {
        call(raw::__NR_getrandom, [bytes.as_mut_ptr() as u64, bytes.len() as u64, u64::from(flags), 0, 0, 0])
    }
    .map(|n| n as usize)
}

/// sched_yield(2).
pub fn sched_yield() {
    // SAFETY: no pointers.
    let _ = unsafe { call(raw::__NR_sched_yield, [0; 6]) };
}

/// sched_getaffinity(2) of a host thread; the number of bytes written.
pub fn sched_getaffinity(thread: i32, mask: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the buffer is ours.
    unsafe {
        call(
            raw::__NR_sched_getaffinity,
            [thread as u64, mask.len() as u64, mask.as_mut_ptr() as u64, 0, 0, 0],
        )
    }
    .map(|n| n as usize)
}

/// sched_setaffinity(2) of a host thread.
pub fn sched_setaffinity(thread: i32, mask: &[u8]) -> Result<(), Errno> {
    // SAFETY: the buffer is ours.
    unsafe {
        call(raw::__NR_sched_setaffinity, [thread as u64, mask.len() as u64, mask.as_ptr() as u64, 0, 0, 0])
    }
    .map(|_| ())
}

/// getrusage(2) of the calling process (0), its children (-1) or the calling thread (1).
pub fn getrusage(who: i32) -> Result<raw::rusage, Errno> {
    // SAFETY: `rusage` is plain data, for which zero is a value.
    let mut usage: raw::rusage = unsafe { core::mem::zeroed() };
    // SAFETY: the pointer is valid for the call.
    unsafe { call(raw::__NR_getrusage, [who as u64, &raw mut usage as u64, 0, 0, 0, 0]) }?;
    Ok(usage)
}

/// eventfd2(2), at boot only: the descriptor that wakes the warden.
pub fn eventfd() -> Result<i32, Errno> {
    const EFD_CLOEXEC_NONBLOCK: u64 = 0o2000000 | 0o4000;
    // SAFETY: no pointers.
    unsafe { call(raw::__NR_eventfd2, [0, EFD_CLOEXEC_NONBLOCK, 0, 0, 0, 0]) }.map(|fd| fd as i32)
}
