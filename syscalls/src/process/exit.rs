//! exit(2), exit_group(2): the end of threads and processes.

use super::Loan;
use crate::args::Args;
use crate::ptrace::{self, stops};
use crate::table::{Context, Row, Show, full};
use crate::thread::{self, Thread, Users};
use crate::{Result, futex};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kernel::poll::PollEvents;
use kernel::signal::{self, SIG_IGN, SIGCHLD, SigInfo, sa, si};
use kernel::task::{Exit, Family, Pid, Table, Task, ThreadGroup, Times, lock_table, work};
use linux_raw_sys::general as raw;
use trap_handler::{gadget, host, stack};

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_exit, "exit", sys_exit, &[Show::Int]),
    full(raw::__NR_exit_group, "exit_group", sys_exit_group, &[Show::Int]),
];

fn sys_exit(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let thread = context.thread;
    let status = (args.i32(0) & 0xff) << 8;
    thread.task.exit_status.store(status, Ordering::Relaxed);
    exit_thread(thread)
}

fn sys_exit_group(context: &mut Context<'_>, args: Args) -> Result<u64> {
    exit_group(context.thread, (args.i32(0) & 0xff) << 8)
}

/// Ends the whole process with a wait status (a signal number for a death by signal).
pub fn exit_group(thread: &Thread, status: i32) -> ! {
    {
        let mut signals = thread.task.group.signals.lock();
        if !matches!(signals.exit, Some(Exit::Group(_))) {
            signals.exit = Some(Exit::Group(status));
            signal::kick_all(&signals, Some(&thread.task), work::EXIT);
        }
    }
    exit_thread(thread)
}

/// Ends the calling thread; the last one ends the process.
pub fn exit_thread(thread: &Thread) -> ! {
    let task = thread.task.clone();
    let group = task.group.clone();
    let status = own_status(&task);
    if task.trace.is_traced() {
        stops::exiting(thread, status);
    }
    // Whoever joins the thread finds its id gone.
    leave_group(thread, &group, status);
    futex::exit_robust_list(&task);
    futex::clear_child_tid(&task);
    if let Some(vfork) = thread.vfork.lock().take() {
        vfork.finish();
    }
    let loan = thread.loan.lock().take();
    add_times(&task, loan.as_deref());
    task.sem_undo.leave(group.tgid);
    let last = group.alive.fetch_sub(1, Ordering::SeqCst) == 1;
    group.exit_queue.wake_all(PollEvents::IN);
    tell_tracer(&task, status);
    let users = thread.memory().users();
    // SAFETY: the calling thread, whose call does not go on.
    unsafe { thread.let_go() };
    // What its last descriptors had to tell.
    task.do_postponed();
    drop(Thread::release());
    task.host_tid.store(0, Ordering::SeqCst);
    if last {
        become_zombie(&group);
    }
    if let Some(loan) = loan {
        loan.take_thread(&task);
        drop((task, group, users));
        loan.give_back()
    }
    drop((task, group));
    leave_host(users)
}

/// Ends the calling host thread, which no task runs on any more; the last one of an address space ends the host process.
pub fn leave_host(users: Arc<Users>) -> ! {
    let last = users.leave(stack::current_slot());
    drop(users);
    if last {
        host::exit_group(0)
    }
    // SAFETY: nothing on this stack is shared; the host clears the slot's word when the thread is gone.
    unsafe { gadget::exit_thread(0) }
}

/// Wait status of the running thread, which is about to end.
fn own_status(task: &Task) -> i32 {
    match task.group.signals.lock().exit {
        Some(Exit::Group(status)) => status,
        Some(Exit::Exec(_)) => 0,
        None => task.exit_status.load(Ordering::Relaxed),
    }
}

/// What the calling host thread has used.
pub fn thread_times() -> Times {
    const RUSAGE_THREAD: i32 = 1;
    let ns =
        |time: raw::__kernel_old_timeval| (time.tv_sec as u64) * 1_000_000_000 + (time.tv_usec as u64) * 1000;
    host::getrusage(RUSAGE_THREAD)
        .map_or(Times::default(), |usage| Times { user: ns(usage.ru_utime), system: ns(usage.ru_stime) })
}

fn add_times(task: &Task, loan: Option<&Loan>) {
    let used = thread_times();
    let used = loan.map_or(used, |loan| loan.own_times(used));
    let mut times = task.group.ended_times.lock();
    times.user += used.user;
    times.system += used.system;
}

/// Takes the task out of its group and the table; those that it traces are let go. The status of the last one is the process's,
/// if that does not end by another's doing (`synchronize_group_exit`).
fn leave_group(thread: &Thread, group: &Arc<ThreadGroup>, status: i32) {
    let task = &thread.task;
    let Ok(mut table) = lock_table() else { return };
    ptrace::tracer_ends(&mut table, task);
    let mut signals = group.signals.lock();
    group.ended_user.store(task.cred().uid, Ordering::Relaxed);
    signals.tasks.retain(|other| !Arc::ptr_eq(other, task));
    *group.ended_io.lock() += task.io.sum();
    if signals.tasks.is_empty() && signals.exit.is_none() {
        signals.exit = Some(Exit::Group(status));
    }
    signal::retarget(&signals, !task.signals.lock().blocked);
    thread.note_end();
    let remains = task.is_leader() || task.trace.is_traced();
    if remains {
        signals.remains.push(task.tid());
    }
    drop(signals);
    table.remove_task(task.tid());
    drop(table);
    if !remains {
        thread::unregister(task.tid());
    }
    // It may have been the one that a stop waited for.
    super::complete_stop(group);
}

/// Tells the tracer of the end of a thread. A main thread's end is the process's, and shows when that is dead.
fn tell_tracer(task: &Task, status: i32) {
    if !task.trace.is_traced() || task.is_leader() {
        return;
    }
    let tracer = {
        let mut state = task.trace.lock();
        state.ended = Some(status);
        state.link.as_ref().map(|link| link.group.clone())
    };
    if let Some(tracer) = tracer {
        send_end(&tracer, task.tid(), task.cred().uid, SIGCHLD, status, Times::default());
        tracer.child_queue.wake_all(PollEvents::IN);
    }
}

/// The process has no threads any more: orphans go to their new parent, the parent learns of the end.
fn become_zombie(group: &Arc<ThreadGroup>) {
    let status = match group.signals.lock().exit {
        Some(Exit::Group(status)) => status,
        _ => 0,
    };
    vfs::tty::process_ended(group);
    crate::time::timers::process_ended(group.tgid);
    let Ok(mut table) = lock_table() else { return };
    let orphans = core::mem::take(&mut group.family.lock().children);
    // Who has no children looks for nobody to adopt them: a chain of processes may be thousands deep.
    if !orphans.is_empty() {
        give_away(&mut table, group, &orphans);
    }
    super::sessions::orphan_groups(&table, group, &orphans);
    let (parent, tracer) = {
        let mut family = group.family.lock();
        family.zombie = Some(status);
        (family.parent.upgrade(), family.tracer)
    };
    // A tracer that is not the parent hears of it first; the parent when the tracer has waited.
    let tracer = table.group(tracer).filter(|tracer| {
        !tracer.is_sandbox && parent.as_ref().is_none_or(|parent| !Arc::ptr_eq(parent, tracer))
    });
    let waiting = match tracer {
        Some(tracer) => {
            send_end(&tracer, group.tgid, group.real_user(), SIGCHLD, status, *group.ended_times.lock());
            Some(tracer)
        }
        None => tell_of_end(&mut table, group, status),
    };
    drop(table);
    if let Some(waiting) = waiting {
        waiting.child_queue.wake_all(PollEvents::IN);
    }
    group.exit_queue.wake_all(PollEvents::IN);
    crate::start::ended(group, status);
}

/// Hands the children of an ended process to their new parent.
fn give_away(table: &mut Table, group: &Arc<ThreadGroup>, orphans: &[Arc<ThreadGroup>]) {
    let adopter = adopter_of(group, table.adopter(group.space));
    for child in orphans {
        let zombie = {
            let mut family = child.family.lock();
            child.give_to(&mut family, &adopter);
            family.zombie.is_some()
        };
        child.exit_signal.store(SIGCHLD, Ordering::Relaxed);
        send_death_signal(child, group);
        if zombie && adopter.is_sandbox {
            reap(table, child.tgid);
        } else {
            adopter.family.lock().children.push(child.clone());
        }
    }
    adopter.child_queue.wake_all(PollEvents::IN);
}

/// Tells the parent of a dead process of its end; a process that nobody will wait for is gone then. Gives the parent, whose
/// `child_queue` is the caller's to wake: best when it has given the table back, which who waits takes first of all.
#[must_use]
pub fn tell_of_end(table: &mut Table, group: &Arc<ThreadGroup>, status: i32) -> Option<Arc<ThreadGroup>> {
    let parent = group.family.lock().parent.upgrade();
    let reaped_at_once = match &parent {
        Some(parent) => tell_parent(parent, group, status),
        None => true,
    };
    if reaped_at_once {
        if let Some(parent) = &parent {
            forget_child(&mut parent.family.lock(), group);
        }
        reap(table, group.tgid);
    }
    parent
}

/// A dead process was waited for, or nobody will.
pub fn reap(table: &mut Table, tgid: Pid) {
    table.remove_group(tgid);
    thread::unregister(tgid);
}

/// A dead thread, not the main one, was waited for by its tracer, or that is gone.
pub fn reap_tracee(task: &Arc<Task>) {
    task.unlink_from_tracer(None);
    let tid = task.tid();
    task.group.signals.lock().remains.retain(|other| *other != tid);
    thread::unregister(tid);
}

/// Who adopts the children of `group`: the next subreaper above it, or `init`, the process 1 of its space (prctl(2)).
fn adopter_of(group: &Arc<ThreadGroup>, init: &Arc<ThreadGroup>) -> Arc<ThreadGroup> {
    let mut next = group.family.lock().parent.upgrade();
    while let Some(ancestor) = next {
        let family = ancestor.family.lock();
        if family.subreaper && family.zombie.is_none() {
            drop(family);
            return ancestor;
        }
        let above = family.parent.upgrade();
        drop(family);
        next = above;
    }
    init.clone()
}

fn send_death_signal(child: &Arc<ThreadGroup>, ended: &ThreadGroup) {
    if let Some(leader) = child.leader() {
        let signal = leader.death_signal.load(Ordering::Relaxed);
        if signal != 0 {
            let _ = signal::send_to_group(child, SigInfo::from_process(signal, si::USER, ended.tgid, 0));
        }
    }
}

/// Sends the exit signal. `true` if the parent does not want to wait: the child is reaped at once (`do_notify_parent`).
fn tell_parent(parent: &Arc<ThreadGroup>, group: &Arc<ThreadGroup>, status: i32) -> bool {
    if parent.is_sandbox {
        return true;
    }
    let exit_signal = group.exit_signal.load(Ordering::Relaxed);
    let action = parent.signals.lock().action(SIGCHLD).unwrap_or_default();
    let ignored = exit_signal == SIGCHLD
        && (action.handler == SIG_IGN || action.flags & sa::NOCLDWAIT != 0)
        && !ptrace::traces(parent, group);
    if exit_signal != 0 && !(ignored && action.handler == SIG_IGN) {
        let (uid, times) = (group.real_user(), *group.ended_times.lock());
        send_end(parent, group.tgid, uid, exit_signal, status, times);
    }
    ignored
}

fn send_end(to: &Arc<ThreadGroup>, id: Pid, uid: u32, signal: i32, status: i32, times: Times) {
    let (code, value) = describe_end(status);
    let ticks = |ns: u64| ns / 10_000_000;
    let info = SigInfo::child(signal, code, id, uid, value, (ticks(times.user), ticks(times.system)));
    let _ = signal::send_to_group(to, info);
}

/// `si_code` and `si_status` of a wait status.
pub fn describe_end(status: i32) -> (i32, i32) {
    match status & 0x7f {
        0 => (si::CLD_EXITED, (status >> 8) & 0xff),
        signal if status & 0x80 != 0 => (si::CLD_DUMPED, signal),
        signal => (si::CLD_KILLED, signal),
    }
}

/// Takes a child off its parent's list.
pub fn forget_child(family: &mut Family, child: &Arc<ThreadGroup>) {
    family.children.retain(|other| !Arc::ptr_eq(other, child));
}

/// A process that the host refused to make: everything as before.
pub fn forget_unborn(child: &Arc<Thread>) {
    let task = &child.task;
    thread::unregister(task.tid());
    let Ok(mut table) = lock_table() else { return };
    task.unlink_from_tracer(None);
    table.remove_task(task.tid());
    let parent = task.group.family.lock().parent.upgrade();
    if let Some(parent) = parent {
        forget_child(&mut parent.family.lock(), &task.group);
    }
    table.remove_group(task.group.tgid);
    task.group.signals.lock().tasks.clear();
}
