//! Stops and continues of whole processes (job control).

use crate::ptrace;
use crate::thread::Thread;
use core::sync::atomic::Ordering;
use kernel::poll::PollEvents;
use kernel::signal::{self, SIG_IGN, SIGCHLD, SIGSTOP, SigInfo, sa, si};
use kernel::task::{Task, ThreadGroup, is_orphaned, work};
use kernel::wait;

/// Stops the calling thread's process for `signal`, which it has taken. A stop of the terminal does nothing in an orphaned
/// process group, and none does once SIGCONT has come.
pub fn stop_group(thread: &Thread, signal: i32) {
    let group = &thread.task.group;
    let pgid = group.family.lock().pgid;
    if signal != SIGSTOP && is_orphaned(pgid) {
        return;
    }
    {
        let mut signals = group.signals.lock();
        let traced = thread.task.trace.is_traced();
        let stopped = signals.stop.is_some();
        if signals.exit.is_some() || (stopped && !traced) || !signals.stop_taken {
            return;
        }
        for task in &signals.tasks {
            let mut own = task.signals.lock();
            own.trap |= task.trace.is_traced();
            own.stopping = !stopped && !task.trace.is_traced();
        }
        signals.stop = Some(signal);
        signals.stop_taken = false;
        signals.stop_complete = false;
        signals.stop_reported = false;
        signals.continued = false;
        signal::kick_all(&signals, Some(&thread.task), work::SIGNAL);
    }
    complete_stop(group);
}

/// Tells the parent of the stop once the last thread has come to it (or has ended). Tracees show their stops one by one.
pub fn complete_stop(group: &ThreadGroup) {
    let signal = {
        let mut signals = group.signals.lock();
        let Some(signal) = signals.stop else { return };
        let running = signals.tasks.iter().any(|task| task.signals.lock().stopping);
        if running || signals.stop_complete || signals.exit.is_some() {
            return;
        }
        signals.stop_complete = true;
        signal
    };
    // A parent that traces the process sees the stop as its tracer.
    let parent = group.family.lock().parent.upgrade();
    if !parent.is_some_and(|parent| ptrace::traces(&parent, group)) {
        tell_parent(group, si::CLD_STOPPED, signal);
    }
}

/// The thread has come to a stop of its process.
pub fn come_to_stop(task: &Task) {
    let was_running = {
        let _signals = task.group.signals.lock();
        core::mem::take(&mut task.signals.lock().stopping)
    };
    if was_running {
        complete_stop(&task.group);
    }
}

/// Sleeps while the process is stopped.
pub fn wait_while_stopped(thread: &Thread) {
    let group = &thread.task.group;
    let task = &thread.task;
    come_to_stop(task);
    // Continued and stopped again before it looked: it comes to the new stop.
    let goes_on = || {
        let signals = group.signals.lock();
        signals.stop.is_none() || task.signals.lock().stopping
    };
    let wanted = || task.state.work.load(Ordering::SeqCst) & work::LOAN != 0;
    wait::killable(&group.stop_queue, || goes_on() || task.trace.is_traced() || wanted());
}

/// Tells the parent that a stop has ended: with `CLD_STOPPED` if it was never complete (`prepare_signal`).
pub fn tell_of_continuation(thread: &Thread, code: i32) {
    let status = if code == si::CLD_CONTINUED { signal::SIGCONT } else { 0 };
    tell_parent(&thread.task.group, code, status);
}

fn tell_parent(group: &ThreadGroup, code: i32, status: i32) {
    let Some(parent) = group.family.lock().parent.upgrade() else { return };
    let action = parent.signals.lock().action(SIGCHLD).unwrap_or_default();
    if !parent.is_sandbox && action.handler != SIG_IGN && action.flags & sa::NOCLDSTOP == 0 {
        let uid = group.real_user();
        let info = SigInfo::child(SIGCHLD, code, group.tgid, uid, status, (0, 0));
        let _ = signal::send_to_group(&parent, info);
    }
    parent.child_queue.wake_all(PollEvents::IN);
}
