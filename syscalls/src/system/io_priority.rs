//! ioprio_set(2), ioprio_get(2). Priorities are kept and inherited; the host is not told.

use super::priority;
use crate::args::Args;
use crate::strace::flags::Names;
use crate::table::{Context, Row, Show, partial};
use crate::{Errno, Result};
use boundary::process::Scheduling;
use kernel::cred::cap;
use linux_raw_sys::general as raw;

const WHICH: Names = &[(1, "IOPRIO_WHO_PROCESS"), (2, "IOPRIO_WHO_PGRP"), (3, "IOPRIO_WHO_USER")];
const KEPT: &str = "kept, not applied";

/// The rows of this file.
pub const ROWS: &[Row] = &[
    partial(raw::__NR_ioprio_get, "ioprio_get", sys_ioprio_get, &[Show::OneOf(WHICH), Show::Int], KEPT),
    partial(
        raw::__NR_ioprio_set,
        "ioprio_set",
        sys_ioprio_set,
        &[Show::OneOf(WHICH), Show::Int, Show::Int],
        KEPT,
    ),
];

/// Above the level and its hints (`IOPRIO_CLASS_SHIFT`), and how many classes fit there.
const SHIFT: u32 = 13;
const CLASSES: u32 = 8;
/// Levels of a class (`IOPRIO_NR_LEVELS`).
const LEVELS: u32 = 8;

/// Classes (`linux/ioprio.h`).
const NONE: u32 = 0;
const REAL_TIME: u32 = 1;
const BEST_EFFORT: u32 = 2;
const IDLE: u32 = 3;
const SCHED_IDLE: u32 = 5;

fn class(priority: u32) -> u32 {
    priority >> SHIFT & (CLASSES - 1)
}

/// The number that setpriority(2) has for whose priority is meant.
fn which(args: Args) -> Result<i32> {
    let which = args.i32(0);
    if (1..=3).contains(&which) { Ok(which - 1) } else { Err(Errno::EINVAL) }
}

/// Whether there is such a priority, and whether the caller may give it (`ioprio_check_cap`).
fn check(context: &Context<'_>, priority: u32) -> Result<()> {
    match class(priority) {
        REAL_TIME => {
            let cred = context.cred();
            let may = cred.has(cap::SYS_ADMIN) || cred.has(cap::SYS_NICE);
            if may { Ok(()) } else { Err(Errno::EPERM) }
        }
        BEST_EFFORT | IDLE => Ok(()),
        NONE if priority.is_multiple_of(LEVELS) => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_ioprio_set(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let priority = args.u32(2);
    check(context, priority)?;
    let own = context.cred();
    for task in priority::targets(context, which(args)?, args.i32(1))? {
        let theirs = task.cred();
        let same = theirs.uid == own.euid || theirs.uid == own.uid;
        if !same && !own.has(cap::SYS_NICE) {
            return Err(Errno::EPERM);
        }
        task.scheduling.lock().io_priority = priority as u16;
    }
    Ok(0)
}

/// What counts of a task: without a priority of its own it follows its nice value (`__get_task_ioprio`).
fn effective(scheduling: &Scheduling) -> u64 {
    let set = u32::from(scheduling.io_priority);
    if class(set) != NONE {
        return u64::from(set);
    }
    let class = if scheduling.policy == SCHED_IDLE { IDLE } else { BEST_EFFORT };
    let level = scheduling.nice.saturating_add(20).clamp(0, 39) as u32 / 5;
    u64::from(class << SHIFT | level)
}

fn sys_ioprio_get(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const ONE: i32 = 0;
    let which = which(args)?;
    let tasks = match priority::targets(context, which, args.i32(1)) {
        // That of a sandbox that is no container has no threads to ask.
        Err(Errno::ESRCH) if which == ONE && priority::is_sandbox(context, args.i32(1)) => return Ok(0),
        found => found?,
    };
    let best = tasks.iter().map(|task| {
        let scheduling = *task.scheduling.lock();
        // One task alone tells what was set.
        if which == ONE { u64::from(scheduling.io_priority) } else { effective(&scheduling) }
    });
    best.min().ok_or(Errno::ESRCH)
}
