//! Sending: queue the signal, choose a thread, make it look.

use super::*;
use crate::poll::PollEvents;
use crate::task::trace::traced;
use crate::task::{GroupSignals, Task, TaskSignals, ThreadGroup, work};
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use trap_handler::{handler, host};

/// Makes `task` look at its work word: wakes it if it sleeps, or is about to; else pokes its host thread, which may run program
/// code or be in a host call.
pub fn kick(task: &Task, bits: u32) {
    task.state.request_work(bits);
    if let Some(borrower) = task.borrower() {
        return kick(&borrower, work::CALLS);
    }
    if task.is_current() || task.waiter.wake(PollEvents::IN) {
        return;
    }
    let (process, thread) = task.host_ids();
    if thread != 0 {
        // ESRCH: it has just ended. A poke of a thread that got its number is harmless.
        let _ = host::tgkill(process, thread, handler::POKE);
    }
}

/// Makes every task of the group but `except` look.
pub fn kick_all(signals: &GroupSignals, except: Option<&Task>, bits: u32) {
    for task in &signals.tasks {
        if except.is_none_or(|except| !core::ptr::eq(&**task, except)) {
            kick(task, bits);
        }
    }
}

/// A thread that did not block `unblocked` has left the group, or blocks it now: somebody else has to take what of that was sent to
/// the group (`retarget_shared_pending`).
pub fn retarget(signals: &GroupSignals, unblocked: SigSet) {
    let mut wanted = signals.pending.set() & unblocked;
    for task in &signals.tasks {
        if wanted == 0 {
            return;
        }
        let blocked = task.signals.lock().blocked;
        if wanted & !blocked != 0 {
            wanted &= blocked;
            kick(task, work::SIGNAL);
        }
    }
}

fn is_ignored(action: &Action, signal: i32) -> bool {
    match action.handler {
        SIG_IGN => true,
        SIG_DFL => default_action(signal) == Default::Ignore,
        _ => false,
    }
}

/// Sends to one thread.
pub fn send_to_task(task: &Arc<Task>, mut info: SigInfo) -> Result<()> {
    let from_outside = info.address_to(task.group.space);
    let mut signals = task.group.signals.lock();
    if signals.exit.is_some() {
        return Ok(());
    }
    prepare(&mut signals, &task.group, info.signal);
    let mut own = task.signals.lock();
    if dropped(&signals, task, &own, info.signal, from_outside) {
        return Ok(());
    }
    limit(&task.group, own.pending.len(), &info)?;
    own.pending.add(info);
    let deliverable = own.blocked & bit(info.signal) == 0 || own.waits_for & bit(info.signal) != 0;
    drop(own);
    task.group.signal_queue.wake_all(PollEvents::IN);
    if deliverable {
        kick(task, work::SIGNAL);
    }
    Ok(())
}

/// Sends to a process: to whichever of its threads does not block the signal.
pub fn send_to_group(group: &Arc<ThreadGroup>, mut info: SigInfo) -> Result<()> {
    let from_outside = info.address_to(group.space);
    let mut signals = group.signals.lock();
    if signals.exit.is_some() {
        return Ok(());
    }
    prepare(&mut signals, group, info.signal);
    let Some(main) = signals.tasks.first().cloned() else { return Ok(()) };
    if dropped(&signals, &main, &main.signals.lock(), info.signal, from_outside) {
        return Ok(());
    }
    limit(group, signals.pending.len(), &info)?;
    signals.pending.add(info);
    // A thread that can take it now: the main thread first, as Linux prefers it.
    let taker = signals.tasks.iter().find(|task| {
        let own = task.signals.lock();
        own.blocked & bit(info.signal) == 0 || own.waits_for & bit(info.signal) != 0
    });
    let taker = taker.cloned();
    group.signal_queue.wake_all(PollEvents::IN);
    if let Some(task) = taker {
        kick(&task, work::SIGNAL);
    }
    Ok(())
}

/// Continue and stop signals cancel each other when they are sent, whatever their actions (`prepare_signal`).
fn prepare(signals: &mut GroupSignals, group: &Arc<ThreadGroup>, signal: i32) {
    if bit(signal) & STOPPING != 0 {
        discard(signals, bit(SIGCONT));
    } else if signal == SIGCONT || signal == SIGKILL {
        signals.stop_taken = false;
        if signal == SIGCONT {
            discard(signals, STOPPING);
            signals.tasks.iter().for_each(|task| tell_tracee_of_continue(task));
        }
        if signals.stop.take().is_some() {
            if signal == SIGCONT {
                signals.continued = true;
                signals.untold =
                    Some(if signals.stop_complete { si::CLD_CONTINUED } else { si::CLD_STOPPED });
            }
            signals.tasks.iter().for_each(|task| task.signals.lock().stopping = false);
            kick_all(signals, None, work::SIGNAL);
            group.stop_queue.wake_all(PollEvents::IN);
        }
    }
}

/// A tracee that was seized stops to show a continuation; for another it only ends a group-stop that has not begun
/// (`ptrace_trap_notify`).
fn tell_tracee_of_continue(task: &Task) {
    let flags = task.trace.flags();
    if flags & traced::ANY != 0 {
        task.signals.lock().trap = flags & traced::SEIZED != 0;
        if flags & traced::SEIZED != 0 {
            kick(task, work::SIGNAL);
        }
    }
}

fn discard(signals: &mut GroupSignals, set: SigSet) {
    signals.pending.discard(set);
    for task in &signals.tasks {
        task.signals.lock().pending.discard(set);
    }
}

/// Whether the signal has no effect at all. One that is blocked is kept: its action may change. A tracer sees ignored ones, too.
fn dropped(signals: &GroupSignals, task: &Task, own: &TaskSignals, signal: i32, from_outside: bool) -> bool {
    let Some(action) = signals.action(signal) else { return false };
    let uncatchable = matches!(signal, SIGKILL | SIGSTOP);
    let blocked = (own.blocked | own.waits_for | own.restore_mask.unwrap_or(0)) & bit(signal) != 0;
    if signals.unkillable && action.handler == SIG_DFL && (uncatchable || !blocked) {
        return !(uncatchable && from_outside);
    }
    let kept = blocked || task.trace.is_traced();
    !kept && signal != SIGKILL && is_ignored(&action, signal)
}

/// `RLIMIT_SIGPENDING` bounds what programs can queue; the kernel's own and standard signals always go.
fn limit(group: &ThreadGroup, queued: usize, info: &SigInfo) -> Result<()> {
    const RLIMIT_SIGPENDING: u32 = 11;
    if info.signal >= RT_MIN && info.code < 0 && queued as u64 >= group.rlimit(RLIMIT_SIGPENDING).0 {
        return Err(Errno::EAGAIN);
    }
    Ok(())
}

/// Drops pending signals that have come to be ignored (rt_sigaction(2): setting `SIG_IGN` discards).
pub fn flush_ignored(signals: &mut GroupSignals, signal: i32) {
    if signals.action(signal).is_some_and(|action| is_ignored(&action, signal)) {
        discard(signals, bit(signal));
    }
}

impl Task {
    /// Sends the task a signal that its own call caused (SIGPIPE, SIGXFSZ).
    pub fn raise(&self, signal: i32) {
        let cred = self.cred();
        let info = SigInfo::from_process(signal, si::USER, self.group.tgid, cred.uid);
        if let Some(this) = self.group.find(self.tid()) {
            let _ = send_to_task(&this, info);
        }
    }

    /// Replaces the mask of the running task.
    pub fn set_blocked(&self, mask: SigSet) {
        let mask = mask & !UNBLOCKABLE;
        let signals = self.group.signals.lock();
        let old = core::mem::replace(&mut self.signals.lock().blocked, mask);
        retarget(&signals, mask & !old);
        self.update_signal_work_locked(&signals);
    }

    /// Sets or clears the work bit by what pends and is not blocked. Called by the task itself after its mask changed.
    pub fn update_signal_work(&self) {
        let signals = self.group.signals.lock();
        self.update_signal_work_locked(&signals);
    }

    /// As [`Self::update_signal_work`], with the lock held.
    pub fn update_signal_work_locked(&self, signals: &GroupSignals) {
        let own = self.signals.lock();
        let ready = (signals.pending.set() | own.pending.set()) & !own.blocked;
        let must_stop = if self.trace.is_traced() { own.trap } else { signals.stop.is_some() };
        if ready != 0 || must_stop {
            self.state.work.fetch_or(work::SIGNAL, Ordering::SeqCst);
        } else {
            self.state.work.fetch_and(!work::SIGNAL, Ordering::SeqCst);
        }
    }
}
