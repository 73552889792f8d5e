//! futex(2), robust lists, and what a thread's end does to futexes.
//!
//! Waits and wakes go to the host's futex on the same program address: the host knows which memory is the same.
//! Priority-inheritance operations are our own (see [`pi`]), because the word holds thread ids and the program knows only
//! virtual ones.

mod pi;
mod robust;
mod waitv;

pub use robust::{clear_child_tid, exit_robust_list};

use crate::args::Args;
use crate::restart::Restart;
use crate::strace::flags::FUTEX_OPS;
use crate::table::{Context, Row, Show, full, partial, refused};
use crate::{Errno, Result, thread};
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
        "priorities are not inherited",
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
    full(
        raw::__NR_futex_waitv,
        "futex_waitv",
        waitv::sys_futex_waitv,
        &[Show::Address, Show::Unsigned, Show::Unsigned, Show::Address, Show::Int],
    ),
    refused(raw::__NR_futex_wake, "futex_wake", |_, _| Err(Errno::ENOSYS), &[Show::Address], NEWER),
    refused(raw::__NR_futex_wait, "futex_wait", |_, _| Err(Errno::ENOSYS), &[Show::Address], NEWER),
    refused(raw::__NR_futex_requeue, "futex_requeue", |_, _| Err(Errno::ENOSYS), &[Show::Address], NEWER),
];

const NEWER: &str = "as a kernel before Linux 6.7, which has them first; programs fall back";

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
const WAIT_REQUEUE_PI: u32 = 11;
const CMP_REQUEUE_PI: u32 = 12;
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
    let realtime = operation & CLOCK_REALTIME != 0;
    // In Linux's order: the timeout, the operation, the addresses.
    let timeout = match command {
        WAIT | WAIT_BITSET | WAIT_REQUEUE_PI | LOCK_PI | LOCK_PI2 => {
            let timeout: Option<raw::timespec> = uaccess::read_optional(args.u64(3))?;
            timeout.as_ref().map(time::from_timespec).transpose()?
        }
        _ => None,
    };
    if realtime && !matches!(command, WAIT_BITSET | WAIT_REQUEUE_PI | LOCK_PI2)
        || !matches!(command, WAIT | WAKE | REQUEUE..=LOCK_PI2)
    {
        return Err(Errno::ENOSYS);
    }
    if matches!(command, WAIT_REQUEUE_PI | CMP_REQUEUE_PI) && address == args.u64(4) {
        return Err(Errno::EINVAL);
    }
    check_address(address)?;
    if matches!(command, REQUEUE | CMP_REQUEUE | WAKE_OP | WAIT_REQUEUE_PI | CMP_REQUEUE_PI) {
        check_address(args.u64(4))?;
    }
    let tid = context.thread.task.own_tid() as u32;
    match command {
        // Nobody can hear a wake-up of private words; the host has nothing to do.
        WAKE if operation & PRIVATE != 0 && !context.memory().has_futex_waiters() => Ok(0),
        WAKE | WAKE_BITSET => {
            call([address, u64::from(operation), u64::from(value), 0, 0, u64::from(args.u32(5))])
        }
        REQUEUE | CMP_REQUEUE | WAKE_OP => call(args.0),
        LOCK_PI => pi::lock(tid, address, timeout.map(from_realtime), false),
        LOCK_PI2 => {
            let deadline = if realtime { timeout.map(from_realtime) } else { timeout };
            pi::lock(tid, address, deadline, false)
        }
        TRYLOCK_PI => pi::try_lock(tid, address),
        UNLOCK_PI => pi::unlock(tid, address),
        CMP_REQUEUE_PI => cmp_requeue_pi(args),
        WAIT_REQUEUE_PI => wait_requeue_pi(tid, args, timeout),
        _ => wait(context, args, timeout),
    }
}

/// A time of `CLOCK_REALTIME` in `CLOCK_MONOTONIC`.
fn from_realtime(at: u64) -> u64 {
    time::monotonic().saturating_add(at.saturating_sub(time::realtime()))
}

/// Waits for a condition, then for the lock that the waker names. Those who are requeued sleep on the lock's word and are
/// woken by its unlock like any other waiter; each takes the lock itself.
fn wait_requeue_pi(tid: u32, args: Args, timeout: Option<u64>) -> Result<u64> {
    let operation = WAIT_BITSET | (args.u32(1) & CLOCK_REALTIME);
    let arguments = [args.u64(0), u64::from(operation), u64::from(args.u32(2)), 0, 0, u64::from(u32::MAX)];
    // Whether it was requeued before a signal came is not known: Linux's answer for a requeued one, a wake-up
    // without a cause, fits both.
    let no_cause = |errno| match errno {
        Errno::EINTR | Errno::ERESTARTNOINTR => Errno::EAGAIN,
        other => other,
    };
    wait_until(arguments, timeout).map_err(no_cause)?;
    let realtime = args.u32(1) & CLOCK_REALTIME != 0;
    let deadline = if realtime { timeout.map(from_realtime) } else { timeout };
    pi::lock(tid, args.u64(4), deadline, true).map_err(no_cause)
}

fn cmp_requeue_pi(args: Args) -> Result<u64> {
    let [address, _, wake, requeue, lock, expected] = args.0;
    if wake as u32 != 1 {
        return Err(Errno::EINVAL);
    }
    pi::mark_waited_for(lock)?;
    call([address, u64::from(CMP_REQUEUE), 1, u64::from(requeue as u32), lock, u64::from(expected as u32)])
}

/// Sleeps on a checked address, whichever process wakes it.
fn wait_shared(address: u64, expected: u32, deadline: u64) -> Result<u64> {
    let arguments = [address, u64::from(WAIT_BITSET), u64::from(expected), 0, 0, u64::from(u32::MAX)];
    wait_until(arguments, Some(deadline))
}

/// Wakes one sleeper on a program address, whichever process it is in.
fn wake_shared(address: u64) {
    if check_address(address).is_ok() {
        let _ = call([address, u64::from(WAKE), 1, 0, 0, 0]);
    }
}

fn call(arguments: [u64; 6]) -> Result<u64> {
    // SAFETY: addresses were checked to be the program's; argument 3 is a count.
    unsafe { host::futex_user_at_once(arguments) }
}

fn wait(context: &mut Context<'_>, args: Args, timeout: Option<u64>) -> Result<u64> {
    // FUTEX_WAIT's timeout is relative; the other's is absolute, in the clock of the flag.
    let relative = args.u32(1) & !(PRIVATE | CLOCK_REALTIME) == WAIT;
    let bitset = if relative { u32::MAX } else { args.u32(5) };
    let operation = WAIT_BITSET | (args.u32(1) & (PRIVATE | CLOCK_REALTIME));
    let deadline = if relative { timeout.map(|ns| time::monotonic().saturating_add(ns)) } else { timeout };
    let arguments = [args.u64(0), u64::from(operation), u64::from(args.u32(2)), 0, 0, u64::from(bitset)];
    match wait_until(arguments, deadline) {
        Err(Errno::EINTR) => match deadline {
            None => Err(Errno::ERESTARTSYS),
            Some(deadline) => {
                *context.thread.restart.lock() = Some(Restart::Futex { arguments, deadline });
                Err(Errno::ERESTART_RESTARTBLOCK)
            }
        },
        other => other,
    }
}

/// A wait with an absolute deadline in the clock that the operation names.
pub fn wait_until(mut arguments: [u64; 6], deadline: Option<u64>) -> Result<u64> {
    let deadline = deadline.map(time::timespec);
    if let Some(deadline) = &deadline {
        arguments[3] = deadline as *const _ as u64;
    }
    // SAFETY: the address was checked to be the program's; argument 3 is null or kernel memory.
    thread::current().memory().while_waiting(|| unsafe { host::futex_user(arguments) })
}
