//! Stops and continues of whole processes (job control).

use crate::thread::Thread;
use kernel::poll::PollEvents;
use kernel::signal::{self, SIG_IGN, SIGCHLD, SigInfo, sa, si};
use kernel::task::{ThreadGroup, work};
use kernel::wait;

/// Stops the calling thread's process for `signal` and tells the parent.
pub fn stop_group(thread: &Thread, signal: i32) {
    let group = &thread.task.group;
    {
        let mut signals = group.signals.lock();
        if signals.exit.is_some() || signals.stop.is_some() {
            return;
        }
        signals.stop = Some(signal);
        signals.stop_reported = false;
        signals.continued = false;
        signal::kick_all(&signals, Some(&thread.task), work::SIGNAL);
    }
    tell_parent(group, si::CLD_STOPPED, signal);
}

/// Sleeps while the process is stopped; tells the parent of the continuation.
pub fn wait_while_stopped(thread: &Thread) {
    let group = &thread.task.group;
    wait::killable(&group.stop_queue, || group.signals.lock().stop.is_none());
    let continued = {
        let signals = group.signals.lock();
        signals.continued && signals.tasks.first().is_some_and(|first| first.is_current())
    };
    if continued {
        tell_parent(group, si::CLD_CONTINUED, signal::SIGCONT);
    }
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
