//! Stops and continues of whole processes (job control).

use crate::ptrace;
use crate::thread::Thread;
use kernel::poll::PollEvents;
use kernel::signal::{self, SIG_IGN, SIGCHLD, SIGSTOP, SigInfo, sa, si};
use kernel::task::{ThreadGroup, is_orphaned, work};
use kernel::wait;

/// Stops the calling thread's process for `signal`, which it has taken, and tells the parent. A stop of the terminal does
/// nothing in an orphaned process group, and none does once SIGCONT has come.
pub fn stop_group(thread: &Thread, signal: i32) {
    let group = &thread.task.group;
    let pgid = group.family.lock().pgid;
    if signal != SIGSTOP && is_orphaned(pgid) {
        return;
    }
    {
        let mut signals = group.signals.lock();
        let traced = thread.task.trace.is_traced();
        if signals.exit.is_some() || (signals.stop.is_some() && !traced) || !signals.stop_taken {
            return;
        }
        for task in signals.tasks.iter().filter(|task| task.trace.is_traced()) {
            task.signals.lock().trap = true;
        }
        signals.stop = Some(signal);
        signals.stop_taken = false;
        signals.stop_reported = false;
        signals.continued = false;
        signal::kick_all(&signals, Some(&thread.task), work::SIGNAL);
    }
    // A parent that traces the process sees the stop as its tracer.
    let parent = group.family.lock().parent.upgrade();
    if !parent.is_some_and(|parent| ptrace::traces(&parent, group)) {
        tell_parent(group, si::CLD_STOPPED, signal);
    }
}

/// Sleeps while the process is stopped.
pub fn wait_while_stopped(thread: &Thread) {
    let group = &thread.task.group;
    let task = &thread.task;
    wait::killable(&group.stop_queue, || group.signals.lock().stop.is_none() || task.trace.is_traced());
}

/// Tells the parent that the process was continued.
pub fn tell_of_continuation(thread: &Thread) {
    tell_parent(&thread.task.group, si::CLD_CONTINUED, signal::SIGCONT);
}

fn tell_parent(group: &ThreadGroup, code: i32, status: i32) {
    let Some(parent) = group.family.lock().parent.upgrade() else { return };
    let action = parent.signals.lock().action(SIGCHLD).unwrap_or_default();
    if parent.tgid != 1 && action.handler != SIG_IGN && action.flags & sa::NOCLDSTOP == 0 {
        let uid = super::ids::real_uid(group);
        let info = SigInfo::child(SIGCHLD, code, group.tgid, uid, status, (0, 0));
        let _ = signal::send_to_group(&parent, info);
    }
    parent.child_queue.wake_all(PollEvents::IN);
}
