//! futex_waitv(2): waiting on several futexes at once (Linux's Documentation/userspace-api/futex2.rst).

use super::check_address;
use crate::args::Args;
use crate::table::Context;
use crate::{Errno, Result};
use kernel::{time, uaccess};
use linux_raw_sys::general as raw;
use trap_handler::host;

/// Waiters at most (`FUTEX_WAITV_MAX`).
const MAX: u32 = 128;
/// `FUTEX2_SIZE_U32`: the one size there is.
const SIZE_U32: u32 = 2;
/// `FUTEX2_PRIVATE`.
const PRIVATE: u32 = 128;

pub(super) fn sys_futex_waitv(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (count, clock) = (args.u32(1), args.u32(4));
    if args.u32(2) != 0 || count == 0 || count > MAX || args.u64(0) == 0 {
        return Err(Errno::EINVAL);
    }
    let timeout: Option<raw::timespec> = if args.u64(3) == 0 {
        None
    } else {
        if !matches!(clock, raw::CLOCK_MONOTONIC | raw::CLOCK_REALTIME) {
            return Err(Errno::EINVAL);
        }
        let timeout = uaccess::read(args.u64(3))?;
        time::from_timespec(&timeout)?;
        Some(timeout)
    };
    let waiters = uaccess::read_array::<raw::futex_waitv>(args.u64(0), count as usize)?;
    for waiter in &waiters {
        if waiter.flags & !(SIZE_U32 | PRIVATE) != 0 || waiter.flags & SIZE_U32 == 0 || waiter.__reserved != 0
        {
            return Err(Errno::EINVAL);
        }
    }
    for waiter in &waiters {
        check_address(waiter.uaddr)?;
    }
    // SAFETY: the addresses were checked, and the list is the kernel's own copy.
    let wait = || unsafe { host::futex_waitv(&waiters, timeout.as_ref(), clock) };
    match context.thread.memory().while_waiting(wait) {
        // The deadline is absolute: the call can run again as it is.
        Err(Errno::EINTR) => Err(Errno::ERESTARTSYS),
        other => other,
    }
}
