//! Sending: kill(2), tgkill(2), rt_sigqueueinfo(2).

use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::thread::task;
use crate::{Errno, Result};
use alloc::sync::Arc;
use kernel::cred::{Cred, cap};
use kernel::signal::{self, COUNT, SIGCONT, SigInfo, si};
use kernel::task::{Pid, Task, ThreadGroup, lock_table};
use kernel::uaccess;
use linux_raw_sys::general as raw;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_kill, "kill", sys_kill, &[Show::Int, Show::Signal]),
    full(raw::__NR_tkill, "tkill", sys_tkill, &[Show::Int, Show::Signal]),
    full(raw::__NR_tgkill, "tgkill", sys_tgkill, &[Show::Int, Show::Int, Show::Signal]),
    full(
        raw::__NR_rt_sigqueueinfo,
        "rt_sigqueueinfo",
        sys_rt_sigqueueinfo,
        &[Show::Int, Show::Signal, Show::Address],
    ),
    full(
        raw::__NR_rt_tgsigqueueinfo,
        "rt_tgsigqueueinfo",
        sys_rt_tgsigqueueinfo,
        &[Show::Int, Show::Int, Show::Signal, Show::Address],
    ),
];

/// `EINVAL` for what is no signal, and not 0 either.
pub fn check_number(signal: i32) -> Result<()> {
    if (0..=COUNT).contains(&signal) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Who may send: same user, or CAP_KILL; SIGCONT goes anywhere within the session (kill(2)).
fn may_send(context: &Context<'_>, target: &ThreadGroup, signal: i32) -> bool {
    let own = context.cred();
    let Some(leader) = target.leader() else { return true };
    let theirs: Arc<Cred> = leader.cred();
    let same_user = [own.euid, own.uid].iter().any(|id| *id == theirs.uid || *id == theirs.suid);
    let same_session = || context.thread.task.group.family.lock().sid == target.family.lock().sid;
    same_user
        || own.has(cap::KILL)
        || core::ptr::eq(target, &*context.thread.task.group)
        || (signal == SIGCONT && same_session())
}

fn from_us(context: &Context<'_>, signal: i32, code: i32) -> SigInfo {
    SigInfo::from_process(signal, code, context.thread.task.group.tgid, context.cred().uid)
}

/// Sends to a process if the caller may; signal 0 only asks.
pub fn send_group(context: &Context<'_>, target: &Arc<ThreadGroup>, info: SigInfo) -> Result<()> {
    if !may_send(context, target, info.signal) {
        return Err(Errno::EPERM);
    }
    if info.signal == 0 { Ok(()) } else { signal::send_to_group(target, info) }
}

fn sys_kill(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (pid, signal) = (args.i32(0), args.i32(1));
    check_number(signal)?;
    let info = from_us(context, signal, si::USER);
    if pid > 0 {
        // Also by the id of a thread.
        let pid = context.named(pid)?;
        let target = lock_table()?.group(pid).map_or_else(|| task(pid).map(|task| task.group.clone()), Ok)?;
        send_group(context, &target, info)?;
        return Ok(0);
    }
    if pid == i32::MIN {
        return Err(Errno::ESRCH);
    }
    let own = context.thread.task.group.clone();
    let pgid = match pid {
        -1 => Pid::NONE,
        0 => own.place().0,
        _ => context.named(-pid)?,
    };
    let groups = lock_table()?.groups();
    let targets = groups.iter().filter(|group| match pid {
        -1 => context.shown(group.tgid) > 1 && !Arc::ptr_eq(group, &own),
        _ => group.place().0 == pgid && !group.is_sandbox,
    });
    let mut outcome = Err(Errno::ESRCH);
    for target in targets {
        match send_group(context, target, info) {
            Ok(()) => outcome = Ok(0),
            Err(errno) if outcome.is_err() => outcome = Err(errno),
            Err(_) => {}
        }
    }
    outcome
}

fn thread_of(context: &Context<'_>, tgid: Option<i32>, tid: i32) -> Result<Arc<Task>> {
    if tid <= 0 || tgid.is_some_and(|tgid| tgid <= 0) {
        return Err(Errno::EINVAL);
    }
    let task = task(context.named(tid)?)?;
    if tgid.is_some_and(|tgid| context.shown(task.group.tgid) != tgid) {
        return Err(Errno::ESRCH);
    }
    Ok(task)
}

fn send_task(context: &Context<'_>, tgid: Option<i32>, tid: i32, info: SigInfo) -> Result<u64> {
    send_task_to(context, &thread_of(context, tgid, tid)?, info)?;
    Ok(0)
}

/// Sends to a thread if the caller may; signal 0 only asks.
pub fn send_task_to(context: &Context<'_>, task: &Arc<Task>, info: SigInfo) -> Result<()> {
    if !may_send(context, &task.group, info.signal) {
        return Err(Errno::EPERM);
    }
    if info.signal == 0 { Ok(()) } else { signal::send_to_task(task, info) }
}

fn sys_tkill(context: &mut Context<'_>, args: Args) -> Result<u64> {
    check_number(args.i32(1))?;
    send_task(context, None, args.i32(0), from_us(context, args.i32(1), si::TKILL))
}

fn sys_tgkill(context: &mut Context<'_>, args: Args) -> Result<u64> {
    check_number(args.i32(2))?;
    send_task(context, Some(args.i32(0)), args.i32(1), from_us(context, args.i32(2), si::TKILL))
}

/// A siginfo of the program's making: it may not pretend to come from the kernel or from kill(2) to others. `target` is whom the program
/// names, if that is anybody.
pub fn read_info(context: &Context<'_>, address: u64, signal: i32, target: Option<Pid>) -> Result<SigInfo> {
    let mut info: SigInfo = uaccess::read(address)?;
    info.signal = signal;
    if (info.code >= 0 || info.code == si::TKILL) && target != Some(context.thread.task.group.tgid) {
        return Err(Errno::EPERM);
    }
    Ok(info.filled_in_by_sender())
}

fn sys_rt_sigqueueinfo(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (pid, signal) = (args.i32(0), args.i32(1));
    let pid = context.named(pid);
    let info = read_info(context, args.u64(2), signal, pid.ok())?;
    check_number(signal)?;
    let target = lock_table()?.group(pid?).ok_or(Errno::ESRCH)?;
    send_group(context, &target, info)?;
    Ok(0)
}

fn sys_rt_tgsigqueueinfo(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (tgid, tid, signal) = (args.i32(0), args.i32(1), args.i32(2));
    let info = read_info(context, args.u64(3), signal, context.named(tgid).ok())?;
    check_number(signal)?;
    send_task(context, Some(tgid), tid, info)
}
