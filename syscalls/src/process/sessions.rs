//! Process groups and sessions: setpgid(2), getpgid(2), setsid(2), getsid(2), and what their ends mean.

use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result, thread};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kernel::signal::{self, SIGCONT, SIGHUP, SigInfo, si};
use kernel::task::{Pid, Table, ThreadGroup, lock_table};
use linux_raw_sys::general as raw;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_setpgid, "setpgid", sys_setpgid, &[Show::Int, Show::Int]),
    full(raw::__NR_getpgid, "getpgid", sys_getpgid, &[Show::Int]),
    full(
        raw::__NR_getpgrp,
        "getpgrp",
        |context, _| Ok(context.shown(context.thread.task.group.place().0) as u64),
        &[],
    ),
    full(raw::__NR_setsid, "setsid", sys_setsid, &[]),
    full(raw::__NR_getsid, "getsid", sys_getsid, &[Show::Int]),
];

/// The process of that id, or of the thread of that id.
/// The process with this number, 0 for the caller's: `ESRCH`.
fn find(context: &Context<'_>, table: &Table, number: i32) -> Result<Arc<ThreadGroup>> {
    let own = &context.thread.task.group;
    if number == 0 {
        return Ok(own.clone());
    }
    let pid = context.named(number)?;
    if pid == own.tgid {
        return Ok(own.clone());
    }
    table.group(pid).map_or_else(|| thread::task(pid).map(|task| task.group.clone()), Ok)
}

fn sys_setpgid(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let own = context.thread.task.group.clone();
    let (pid, pgid) = (args.i32(0), args.i32(1));
    if pgid < 0 || (pgid == 0 && pid < 0) {
        return Err(Errno::EINVAL);
    }
    let mut table = lock_table()?;
    let target = find(context, &table, pid)?;
    if pid != 0 && pid != context.shown(target.tgid) {
        return Err(Errno::EINVAL);
    }
    let pgid = if pgid == 0 { target.tgid } else { context.named(pgid).map_err(|_| Errno::EPERM)? };
    let own_sid = own.family.lock().sid;
    {
        let family = target.family.lock();
        let is_child = family.parent.upgrade().is_some_and(|parent| Arc::ptr_eq(&parent, &own));
        if !Arc::ptr_eq(&target, &own) {
            if !is_child {
                return Err(Errno::ESRCH);
            }
            if family.sid != own_sid {
                return Err(Errno::EPERM);
            }
            if family.executed {
                return Err(Errno::EACCES);
            }
        }
        if family.sid == target.tgid {
            return Err(Errno::EPERM);
        }
    }
    let exists = |pgid| table.process_group(pgid).iter().any(|member| member.place().1 == own_sid);
    if pgid != target.tgid && !exists(pgid) {
        return Err(Errno::EPERM);
    }
    let sid = target.place().1;
    table.place(&target, pgid, sid);
    Ok(0)
}

fn sys_getpgid(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let table = lock_table()?;
    let group = find(context, &table, args.i32(0))?;
    Ok(context.shown(group.place().0) as u64)
}

fn sys_getsid(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let table = lock_table()?;
    let group = find(context, &table, args.i32(0))?;
    Ok(context.shown(group.place().1) as u64)
}

fn sys_setsid(context: &mut Context<'_>, _args: Args) -> Result<u64> {
    let own = &context.thread.task.group;
    let mut table = lock_table()?;
    if !table.process_group(own.tgid).is_empty() {
        return Err(Errno::EPERM);
    }
    table.place(own, own.tgid, own.tgid);
    let terminal = own.family.lock().terminal.take();
    drop(table);
    drop(terminal);
    Ok(context.shown(own.tgid) as u64)
}

/// `ended` has lost its last thread, and its `children` have new parents: process groups that are orphaned by that and have
/// stopped members get SIGHUP and SIGCONT (`exit_notify`, POSIX 3.2.2.2).
pub fn orphan_groups(table: &Table, ended: &Arc<ThreadGroup>, children: &[Arc<ThreadGroup>]) {
    let (own_pgid, own_sid) = ended.place();
    // It was a connection to its children's groups, and its own group's connection to its parent.
    let below = children.iter().map(|child| child.place()).filter(|place| place.0 != own_pgid);
    let mut groups: Vec<Pid> = below.filter(|place| place.1 == own_sid).map(|place| place.0).collect();
    let parent = ended.family.lock().parent.upgrade().filter(|parent| !parent.is_sandbox);
    if parent.is_some_and(|parent| parent.place().0 != own_pgid && parent.place().1 == own_sid) {
        groups.push(own_pgid);
    }
    groups.sort_unstable();
    groups.dedup();
    for pgid in groups {
        let members = table.process_group(pgid);
        let stopped = |member: &Arc<ThreadGroup>| member.signals.lock().stop.is_some();
        if members.iter().any(stopped) && table.is_orphaned(pgid, Some(ended)) {
            for signal in [SIGHUP, SIGCONT] {
                for member in &members {
                    let _ = signal::send_to_group(member, SigInfo::new(signal, si::KERNEL));
                }
            }
        }
    }
}
