//! Scheduling: sched_*(2).

use crate::args::Args;
use crate::table::{Context, Row, Show, full, partial};
use crate::{Errno, Result};
use alloc::sync::Arc;
use boundary::process::Scheduling;
use kernel::cred::cap;
use kernel::task::Task;
use kernel::uaccess;
use linux_raw_sys::general as raw;
use trap_handler::host;

const ONLY_OTHER: &str = "policies are kept, not applied; real-time ones are refused";

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_sched_yield, "sched_yield", sys_sched_yield, &[]),
    partial(
        raw::__NR_sched_getscheduler,
        "sched_getscheduler",
        sys_sched_getscheduler,
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
    partial(
        raw::__NR_sched_setattr,
        "sched_setattr",
        sys_sched_setattr,
        &[Show::Int, Show::Address, Show::Unsigned],
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
];

/// A task by its id; 0 is the calling one.
pub(super) fn of(context: &Context<'_>, tid: i32) -> Result<Arc<Task>> {
    match tid {
        0 => Ok(context.thread.task.clone()),
        tid => crate::thread::task(context.named(tid)?),
    }
}

/// How a task is scheduled. The sandbox has no threads that could be asked.
fn scheduling(context: &Context<'_>, tid: i32) -> Result<Scheduling> {
    match tid {
        i32::MIN..=-1 => Err(Errno::EINVAL),
        tid => match of(context, tid) {
            Ok(task) => Ok(*task.scheduling.lock()),
            Err(_) if super::priority::is_sandbox(context, tid) => Ok(Scheduling::default()),
            Err(errno) => Err(errno),
        },
    }
}

fn sys_sched_yield(_context: &mut Context<'_>, _args: Args) -> Result<u64> {
    host::sched_yield();
    Ok(0)
}

/// `SCHED_OTHER`, `SCHED_BATCH`, `SCHED_IDLE`.
fn is_ordinary(policy: u32) -> bool {
    matches!(policy, 0 | 3 | 5)
}

fn priority(policy: i32, real_time: u64) -> Result<u64> {
    match policy {
        1 | 2 => Ok(real_time),
        6 => Ok(0),
        policy if policy >= 0 && is_ordinary(policy as u32) => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// Only the same user, or CAP_SYS_NICE, may change a task's scheduling: `EPERM`.
pub(super) fn may_set(context: &Context<'_>, task: &Task) -> Result<()> {
    let (own, theirs) = (context.cred(), task.cred());
    let same = own.euid == theirs.euid || own.euid == theirs.uid;
    if same || own.has(cap::SYS_NICE) { Ok(()) } else { Err(Errno::EPERM) }
}

const RESET_ON_FORK: u32 = 0x4000_0000;

/// Whether a change of policy needs no privilege: leaving `SCHED_IDLE` counts as a lower nice value, and the reset at fork stays
/// on (Linux's user_check_sched_setscheduler).
fn may_change(context: &Context<'_>, task: &Task, policy: u32, reset_on_fork: bool) -> Result<()> {
    const IDLE: u32 = 5;
    let now = *task.scheduling.lock();
    let leaves_idle = now.policy == IDLE && policy != IDLE;
    let unprivileged = (!leaves_idle || super::priority::may_have(context, task, now.nice))
        && (!now.reset_on_fork || reset_on_fork);
    if unprivileged || context.cred().has(cap::SYS_NICE) { Ok(()) } else { Err(Errno::EPERM) }
}

fn set_policy(
    context: &Context<'_>,
    task: &Task,
    policy: u32,
    priority: i32,
    reset_on_fork: bool,
) -> Result<u64> {
    match policy {
        policy if is_ordinary(policy) => {
            if priority != 0 {
                return Err(Errno::EINVAL);
            }
            may_change(context, task, policy, reset_on_fork)?;
            let mut scheduling = task.scheduling.lock();
            (scheduling.policy, scheduling.reset_on_fork) = (policy, reset_on_fork);
            Ok(0)
        }
        1 | 2 if (1..=99).contains(&priority) => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_sched_getscheduler(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let scheduling = scheduling(context, args.i32(0))?;
    Ok(u64::from(scheduling.policy | if scheduling.reset_on_fork { RESET_ON_FORK } else { 0 }))
}

fn sys_sched_setscheduler(context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.i32(0) < 0 || args.i32(1) < 0 || args.u64(2) == 0 {
        return Err(Errno::EINVAL);
    }
    let priority: i32 = uaccess::read(args.u64(2))?;
    let task = of(context, args.i32(0))?;
    may_set(context, &task)?;
    set_policy(context, &task, args.u32(1) & !RESET_ON_FORK, priority, args.u32(1) & RESET_ON_FORK != 0)
}

fn sys_sched_setparam(context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.i32(0) < 0 || args.u64(1) == 0 {
        return Err(Errno::EINVAL);
    }
    let priority: i32 = uaccess::read(args.u64(1))?;
    let task = of(context, args.i32(0))?;
    let now = *task.scheduling.lock();
    set_policy(context, &task, now.policy, priority, now.reset_on_fork)
}

fn sys_sched_getparam(context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.u64(1) == 0 {
        return Err(Errno::EINVAL);
    }
    scheduling(context, args.i32(0))?;
    uaccess::write(args.u64(1), &0i32)?;
    Ok(0)
}

/// `struct sched_attr`: size, policy, flags (64 bits), nice, priority, three 64-bit numbers for deadlines.
type Attributes = [u32; 12];
const ATTRIBUTES_SIZE: u32 = 48;

fn sys_sched_getattr(context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.u64(1) == 0 || !(ATTRIBUTES_SIZE..=4096).contains(&args.u32(2)) || args.u32(3) != 0 {
        return Err(Errno::EINVAL);
    }
    let scheduling = scheduling(context, args.i32(0))?;
    let mut attributes: Attributes = [0; 12];
    attributes[0] = ATTRIBUTES_SIZE;
    attributes[1] = scheduling.policy;
    attributes[2] = u32::from(scheduling.reset_on_fork);
    attributes[4] = scheduling.nice as u32;
    uaccess::write(args.u64(1), &attributes)?;
    Ok(0)
}

fn sys_sched_setattr(context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.u64(1) == 0 || args.i32(0) < 0 || args.u32(2) != 0 {
        return Err(Errno::EINVAL);
    }
    let attributes: Attributes = uaccess::read(args.u64(1))?;
    if attributes[0] != 0 && attributes[0] < ATTRIBUTES_SIZE {
        return Err(Errno::E2BIG);
    }
    let (policy, flags, nice) = (attributes[1], attributes[2], attributes[4] as i32);
    if flags & !1 != 0 || attributes[3] != 0 {
        return Err(Errno::EINVAL);
    }
    let task = of(context, args.i32(0))?;
    may_set(context, &task)?;
    set_policy(context, &task, policy, attributes[5] as i32, flags & 1 != 0)?;
    super::priority::set_nice(context, &task, nice.clamp(-20, 19), Errno::EPERM)
}

fn sys_sched_rr_get_interval(context: &mut Context<'_>, args: Args) -> Result<u64> {
    scheduling(context, args.i32(0))?;
    uaccess::write(args.u64(1), &raw::timespec { tv_sec: 0, tv_nsec: 4_000_000 })?;
    Ok(0)
}
