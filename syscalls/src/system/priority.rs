//! Nice values: getpriority(2), setpriority(2). They are kept and inherited; the host is not told.

use crate::args::Args;
use crate::table::{Context, Row, Show, partial};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kernel::cred::cap;
use kernel::task::{Task, ThreadGroup, lock_table};
use linux_raw_sys::general as raw;

const WHICH: &[(u64, &str)] = &[(0, "PRIO_PROCESS"), (1, "PRIO_PGRP"), (2, "PRIO_USER")];
const KEPT: &str = "kept, not applied";

/// The rows of this file.
pub const ROWS: &[Row] = &[
    partial(raw::__NR_getpriority, "getpriority", sys_getpriority, &[Show::OneOf(WHICH), Show::Int], KEPT),
    partial(
        raw::__NR_setpriority,
        "setpriority",
        sys_setpriority,
        &[Show::OneOf(WHICH), Show::Int, Show::Int],
        KEPT,
    ),
];

/// Whether the program means the sandbox by a number: process 1 where that is none of the program's. It has no threads to ask.
pub(super) fn is_sandbox(context: &Context<'_>, number: i32) -> bool {
    let group = context.named(number).ok().and_then(|pid| lock_table().ok()?.group(pid));
    group.is_some_and(|group| group.is_sandbox)
}

/// The tasks that the two numbers mean. `ESRCH` if there are none.
pub(super) fn targets(context: &Context<'_>, which: i32, who: i32) -> Result<Vec<Arc<Task>>> {
    let own = &context.thread.task;
    let of_groups = |wanted: &dyn Fn(&ThreadGroup) -> bool| -> Result<Vec<Arc<Task>>> {
        let groups = lock_table()?.groups();
        let groups = groups.iter().filter(|group| wanted(group));
        Ok(groups.flat_map(|group| group.signals.lock().tasks.clone()).collect())
    };
    let found = match which {
        0 if who == 0 => [own.clone()].into(),
        0 => [crate::thread::task(context.named(who)?)?].into(),
        1 => {
            let pgid = if who == 0 { own.group.place().0 } else { context.named(who)? };
            of_groups(&|group| group.family.lock().pgid == pgid)?
        }
        2 => {
            let uid = if who == 0 { own.cred().uid } else { who as u32 };
            let mut all = of_groups(&|group| context.shown(group.tgid) != 0)?;
            all.retain(|task| task.cred().uid == uid);
            all
        }
        _ => return Err(Errno::EINVAL),
    };
    if found.is_empty() { Err(Errno::ESRCH) } else { Ok(found) }
}

fn sys_getpriority(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const PRIO_PROCESS: i32 = 0;
    // The call's own range: 40 for a nice value of -20, down to 1 for 19.
    let shown = |nice: i32| (20 - nice).clamp(1, 40) as u64;
    let tasks = match targets(context, args.i32(0), args.i32(1)) {
        Err(Errno::ESRCH) if args.i32(0) == PRIO_PROCESS && is_sandbox(context, args.i32(1)) => {
            return Ok(shown(0));
        }
        found => found?,
    };
    Ok(tasks.iter().map(|task| shown(task.scheduling.lock().nice)).max().unwrap_or(shown(0)))
}

fn sys_setpriority(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let nice = args.i32(2).clamp(-20, 19);
    let own = context.cred();
    let mut outcome = Ok(0);
    for task in targets(context, args.i32(0), args.i32(1))? {
        let theirs = task.cred();
        let same = theirs.uid == own.euid || theirs.euid == own.euid;
        let set = if same || own.has(cap::SYS_NICE) {
            set_nice(context, &task, nice, Errno::EACCES)
        } else {
            Err(Errno::EPERM)
        };
        if set.is_err() {
            outcome = set;
        }
    }
    outcome
}

/// Whether a task's limit lets it have a nice value (`RLIMIT_NICE`), or the caller may give any.
pub fn may_have(context: &Context<'_>, task: &Task, nice: i32) -> bool {
    const RLIMIT_NICE: u32 = 13;
    let allowed = (20 - nice).max(0) as u64 <= task.rlimit(RLIMIT_NICE);
    allowed || context.cred().has(cap::SYS_NICE)
}

/// Sets a nice value. Going below the present one takes CAP_SYS_NICE or a limit that allows it (`RLIMIT_NICE`), otherwise
/// `refusal`.
pub fn set_nice(context: &Context<'_>, task: &Task, nice: i32, refusal: Errno) -> Result<u64> {
    let allowed = may_have(context, task, nice);
    let mut scheduling = task.scheduling.lock();
    if nice < scheduling.nice && !allowed {
        return Err(refusal);
    }
    scheduling.nice = nice;
    Ok(0)
}
