//! futex(2), robust lists, and what a thread's end does to futexes.
//!
//! Waits and wakes go to the host's futex on the same program address: the host knows which memory is the same.
//! Priority-inheritance operations are our own (see [`pi`]), because the word holds thread ids and the program knows only
//! virtual ones.

mod pi;
mod robust;

pub use pi::init;
pub use robust::{clear_child_tid, exit_robust_list};

use crate::args::Args;
use crate::restart::Restart;
use crate::strace::flags::FUTEX_OPS;
use crate::table::{Context, Row, Show, full, partial};
use crate::{Errno, Result};
use kernel::{time, uaccess};
use linux_raw_sys::general as raw;
use trap_handler::{host, region};

/// The rows of this family.
pub const ROWS: &[Row] = &[
    partial(
        raw::__NR_futex,
        "futex",
        sys_futex,
        &[
            Show::Address,
            Show::OneOf(FUTEX_OPS),
            Show::Unsigned,
            Show::Address,
            Show::Address,
            Show::Unsigned,
        ],
        "no priority inheritance; FUTEX_WAIT_REQUEUE_PI",
    ),
    full(
        raw::__NR_set_robust_list,
        "set_robust_list",
        robust::sys_set_robust_list,
        &[Show::Address, Show::Unsigned],
    ),
    full(
        raw::__NR_get_robust_list,
        "get_robust_list",
        robust::sys_get_robust_list,
        &[Show::Int, Show::Address, Show::Address],
    ),
    full(raw::__NR_set_tid_address, "set_tid_address", robust::sys_set_tid_address, &[Show::Address]),
];

const WAIT: u32 = 0;
const WAKE: u32 = 1;
const REQUEUE: u32 = 3;
const CMP_REQUEUE: u32 = 4;
const WAKE_OP: u32 = 5;
const LOCK_PI: u32 = 6;
const UNLOCK_PI: u32 = 7;
const TRYLOCK_PI: u32 = 8;
const WAIT_BITSET: u32 = 9;
const WAKE_BITSET: u32 = 10;
const LOCK_PI2: u32 = 13;
const PRIVATE: u32 = 128;
const CLOCK_REALTIME: u32 = 256;

fn check_address(address: u64) -> Result<()> {
    if address & 3 != 0 {
        return Err(Errno::EINVAL);
    }
    if region::is_user(address, 4) { Ok(()) } else { Err(Errno::EFAULT) }
}

fn sys_futex(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (address, operation, value) = (args.u64(0), args.u32(1), args.u32(2));
    let command = operation & !(PRIVATE | CLOCK_REALTIME);
    check_address(address)?;
    if operation & CLOCK_REALTIME != 0 && !matches!(command, WAIT_BITSET | LOCK_PI2 | 11 | WAIT) {
        return Err(Errno::ENOSYS);
    }
    match command {
        WAIT | WAIT_BITSET => wait(context, args, command),
        WAKE | WAKE_BITSET => {
            call([address, u64::from(operation), u64::from(value), 0, 0, u64::from(args.u32(5))])
        }
        REQUEUE | CMP_REQUEUE | WAKE_OP => {
            check_address(args.u64(4))?;
            call(args.0)
        }
        LOCK_PI | LOCK_PI2 => {
            let timeout: Option<raw::timespec> = uaccess::read_optional(args.u64(3))?;
            let deadline = timeout.as_ref().map(time::from_timespec).transpose()?;
            let realtime = command == LOCK_PI || operation & CLOCK_REALTIME != 0;
            pi::lock(context, address, deadline, realtime)
        }
        TRYLOCK_PI => pi::try_lock(context, address),
        UNLOCK_PI => pi::unlock(context, address),
        _ => Err(Errno::ENOSYS),
    }
}

fn call(arguments: [u64; 6]) -> Result<u64> {
    // SAFETY: addresses were checked to be the program's; argument 3 is a count or kernel memory.
    unsafe { host::futex_user(arguments) }
}

fn wait(context: &mut Context<'_>, args: Args, command: u32) -> Result<u64> {
    let timeout: Option<raw::timespec> = uaccess::read_optional(args.u64(3))?;
    let bitset = if command == WAIT { u32::MAX } else { args.u32(5) };
    let mut operation = WAIT_BITSET | (args.u32(1) & PRIVATE);
    let mut deadline = None;
    let mut relative = false;
    if let Some(timeout) = &timeout {
        let ns = time::from_timespec(timeout)?;
        if command == WAIT {
            // FUTEX_WAIT's timeout is relative, in either clock.
            relative = true;
            deadline = Some(time::monotonic().saturating_add(ns));
        } else {
            operation |= args.u32(1) & CLOCK_REALTIME;
            deadline = Some(ns);
        }
    }
    let arguments = [args.u64(0), u64::from(operation), u64::from(args.u32(2)), 0, 0, u64::from(bitset)];
    match wait_until(arguments, deadline) {
        Err(Errno::EINTR) if relative => {
            let restart = Restart::Futex { arguments, deadline: deadline.unwrap_or(0) };
            *context.thread.restart.lock() = Some(restart);
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
        Err(Errno::EINTR) => Err(Errno::ERESTARTSYS),
        other => other,
    }
}

/// A wait with an absolute deadline in the clock that the operation names.
pub fn wait_until(mut arguments: [u64; 6], deadline: Option<u64>) -> Result<u64> {
    let deadline = deadline.map(time::timespec);
    if let Some(deadline) = &deadline {
        arguments[3] = deadline as *const _ as u64;
    }
    call(arguments)
}
