//! Scheduling: sched_*(2), getpriority(2), ioprio_get(2).

use crate::args::Args;
use crate::table::{Context, Row, Show, full, partial};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use kernel::task::{Task, lock_table};
use kernel::uaccess;
use linux_raw_sys::general as raw;
use trap_handler::host;

const ONLY_OTHER: &str = "SCHED_OTHER, SCHED_BATCH and SCHED_IDLE are one; real-time policies are refused";

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_sched_yield, "sched_yield", sys_sched_yield, &[]),
    full(
        raw::__NR_sched_getaffinity,
        "sched_getaffinity",
        sys_sched_getaffinity,
        &[Show::Int, Show::Unsigned, Show::Address],
    ),
    full(
        raw::__NR_sched_setaffinity,
        "sched_setaffinity",
        sys_sched_setaffinity,
        &[Show::Int, Show::Unsigned, Show::Address],
    ),
    partial(
        raw::__NR_sched_getscheduler,
        "sched_getscheduler",
        |_, args| of(args.i32(0)).map(|_| 0),
        &[Show::Int],
        ONLY_OTHER,
    ),
    partial(
        raw::__NR_sched_setscheduler,
        "sched_setscheduler",
        sys_sched_setscheduler,
        &[Show::Int, Show::Int, Show::Address],
        ONLY_OTHER,
    ),
    partial(
        raw::__NR_sched_getparam,
        "sched_getparam",
        sys_sched_getparam,
        &[Show::Int, Show::Address],
        ONLY_OTHER,
    ),
    partial(
        raw::__NR_sched_setparam,
        "sched_setparam",
        sys_sched_setparam,
        &[Show::Int, Show::Address],
        ONLY_OTHER,
    ),
    partial(
        raw::__NR_sched_getattr,
        "sched_getattr",
        sys_sched_getattr,
        &[Show::Int, Show::Address, Show::Unsigned, Show::Unsigned],
        ONLY_OTHER,
    ),
    full(
        raw::__NR_sched_get_priority_max,
        "sched_get_priority_max",
        |_, args| priority(args.i32(0), 99),
        &[Show::Int],
    ),
    full(
        raw::__NR_sched_get_priority_min,
        "sched_get_priority_min",
        |_, args| priority(args.i32(0), 1),
        &[Show::Int],
    ),
    full(
        raw::__NR_sched_rr_get_interval,
        "sched_rr_get_interval",
        sys_sched_rr_get_interval,
        &[Show::Int, Show::Address],
    ),
    partial(raw::__NR_getpriority, "getpriority", sys_getpriority, &[Show::Int, Show::Int], "always 0"),
    partial(
        raw::__NR_setpriority,
        "setpriority",
        sys_setpriority,
        &[Show::Int, Show::Int, Show::Int],
        "has no effect",
    ),
    partial(raw::__NR_ioprio_get, "ioprio_get", |_, _| Ok(0), &[Show::Int, Show::Int], "always none"),
    partial(
        raw::__NR_ioprio_set,
        "ioprio_set",
        |_, _| Ok(0),
        &[Show::Int, Show::Int, Show::Int],
        "has no effect",
    ),
];

/// A task by its id; 0 is the calling one.
fn of(tid: i32) -> Result<Option<Arc<Task>>> {
    match tid {
        0 => Ok(None),
        tid if tid < 0 => Err(Errno::EINVAL),
        tid => lock_table()?.task(tid).map(Some).ok_or(Errno::ESRCH),
    }
}

fn host_thread(tid: i32) -> Result<i32> {
    Ok(of(tid)?.map_or(0, |task| task.host_ids().1))
}

fn sys_sched_yield(_context: &mut Context<'_>, _args: Args) -> Result<u64> {
    host::sched_yield();
    Ok(0)
}

fn sys_sched_getaffinity(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    let size = args.u32(1) as usize;
    if size & 7 != 0 {
        return Err(Errno::EINVAL);
    }
    let mut mask = vec![0u8; size.min(1024)];
    let count = host::sched_getaffinity(host_thread(args.i32(0))?, &mut mask)?;
    uaccess::write_bytes(args.u64(2), mask.get(..count).unwrap_or(&mask))?;
    Ok(count as u64)
}

fn sys_sched_setaffinity(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    let mask = uaccess::read_bytes(args.u64(2), (args.u32(1) as usize).min(1024))?;
    host::sched_setaffinity(host_thread(args.i32(0))?, &mask)?;
    Ok(0)
}

/// `SCHED_OTHER`, `SCHED_BATCH`, `SCHED_IDLE`.
fn is_ordinary(policy: i32) -> bool {
    matches!(policy, 0 | 3 | 5)
}

fn priority(policy: i32, real_time: u64) -> Result<u64> {
    match policy {
        1 | 2 => Ok(real_time),
        6 => Ok(0),
        policy if is_ordinary(policy) => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

fn set_policy(policy: i32, priority: i32) -> Result<u64> {
    const RESET_ON_FORK: i32 = 0x4000_0000;
    match policy & !RESET_ON_FORK {
        policy if is_ordinary(policy) => {
            if priority == 0 {
                Ok(0)
            } else {
                Err(Errno::EINVAL)
            }
        }
        1 | 2 if (1..=99).contains(&priority) => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_sched_setscheduler(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.i32(0) < 0 || args.i32(1) < 0 || args.u64(2) == 0 {
        return Err(Errno::EINVAL);
    }
    let priority: i32 = uaccess::read(args.u64(2))?;
    of(args.i32(0))?;
    set_policy(args.i32(1), priority)
}

fn sys_sched_setparam(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.i32(0) < 0 || args.u64(1) == 0 {
        return Err(Errno::EINVAL);
    }
    let priority: i32 = uaccess::read(args.u64(1))?;
    of(args.i32(0))?;
    set_policy(0, priority)
}

fn sys_sched_getparam(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.u64(1) == 0 {
        return Err(Errno::EINVAL);
    }
    of(args.i32(0))?;
    uaccess::write(args.u64(1), &0i32)?;
    Ok(0)
}

fn sys_sched_getattr(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    const SIZE: u32 = 48;
    if args.u64(1) == 0 || args.u32(2) < SIZE || args.u32(3) != 0 {
        return Err(Errno::EINVAL);
    }
    of(args.i32(0))?;
    let mut attributes = [0u32; 12];
    attributes[0] = SIZE;
    uaccess::write(args.u64(1), &attributes)?;
    Ok(0)
}

fn sys_sched_rr_get_interval(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    of(args.i32(0))?;
    uaccess::write(args.u64(1), &raw::timespec { tv_sec: 0, tv_nsec: 4_000_000 })?;
    Ok(0)
}

fn sys_getpriority(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    // The kernel's range is 40 to 1; 20 is a nice value of 0.
    if (0..=2).contains(&args.i32(0)) { Ok(20) } else { Err(Errno::EINVAL) }
}

fn sys_setpriority(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    match (args.i32(0), args.i32(2)) {
        (0..=2, nice) if nice < 0 => Err(Errno::EACCES),
        (0..=2, _) => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}
