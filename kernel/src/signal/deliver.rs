//! Delivery: what a thread has to do before it goes back to the program.

use super::*;
use crate::Errno;
use crate::task::{GroupSignals, Task, work};
use core::sync::atomic::Ordering;
use trap_handler::block::Fault;
use trap_handler::regs::Regs;

/// What to do next.
#[derive(Debug, Clone, Copy)]
pub enum Next {
    /// Nothing: back to the program.
    Nothing,
    /// The thread ends: its group ends with this wait status (or another thread executes a new program).
    Exit,
    /// The group is to end with this wait status, by this thread's doing.
    EndGroup(i32),
    /// The group is stopped: sleep until it is continued, then ask again.
    Stopped,
    /// Stop the group for this signal, then ask again. A stop of the terminal (not SIGSTOP) is nothing in an orphaned process
    /// group: who stops it looks, because that takes the process table.
    Stop(i32),
    /// A stop of the group has ended: tell its parent so (`CLD_*`), then ask again.
    Continued(i32),
    /// Run this handler.
    Handle(SigInfo, Action),
    /// Stop for the tracer: it asked for that, or the group is stopped.
    Trap,
    /// Let the tracer see this signal, then [`decide`].
    Trace(SigInfo),
}

/// Takes the running task's next signal, if any, and says what it means.
pub fn next(task: &Task) -> Next {
    let mut signals = task.group.signals.lock();
    loop {
        if signals.must_end(task) {
            return Next::Exit;
        }
        let traced = task.trace.is_traced();
        let mut own = task.signals.lock();
        let killed = (own.pending.set() | signals.pending.set()) & bit(SIGKILL);
        if killed == 0 && traced && own.trap {
            return Next::Trap;
        }
        if killed == 0 && !traced && signals.stop.is_some() {
            return Next::Stopped;
        }
        if let Some(code) = signals.untold.take() {
            return Next::Continued(code);
        }
        let allowed = if killed != 0 { killed } else { !own.blocked };
        let info = own.pending.take(allowed).or_else(|| signals.pending.take(allowed));
        drop(own);
        let Some(info) = info else {
            task.update_signal_work_locked(&signals);
            return Next::Nothing;
        };
        if traced && info.signal != SIGKILL {
            // Until the tracer lets it go on: SIGCONT meanwhile takes a stop back.
            signals.stop_taken = true;
            return Next::Trace(info);
        }
        if let Some(next) = decide_locked(&mut signals, &info) {
            signals.stop_taken |= matches!(next, Next::Stop(_));
            return next;
        }
    }
}

/// What a signal that a tracer has let through means; `None` if nothing.
pub fn decide(task: &Task, info: &SigInfo) -> Option<Next> {
    decide_locked(&mut task.group.signals.lock(), info)
}

fn decide_locked(signals: &mut GroupSignals, info: &SigInfo) -> Option<Next> {
    let action = signals.action(info.signal).unwrap_or_default();
    match action.handler {
        SIG_IGN if info.signal != SIGKILL && info.signal != SIGSTOP => None,
        SIG_DFL | SIG_IGN => match default_action(info.signal) {
            Default::Ignore => None,
            // What could not be caught was dropped when it was sent, if it was to be.
            _ if signals.unkillable && !matches!(info.signal, SIGKILL | SIGSTOP) => None,
            Default::Stop => Some(Next::Stop(info.signal)),
            Default::Terminate => Some(Next::EndGroup(info.signal)),
        },
        _ => {
            if action.flags & sa::RESETHAND != 0 {
                signals.set_action(info.signal, Action { handler: SIG_DFL, ..action });
            }
            Some(Next::Handle(*info, action))
        }
    }
}

/// Settles the result of an interrupted call before a signal's handler runs (`handler` given) or the program goes on:
/// restart it, or `EINTR` (signal(7), "Interruption of system calls").
pub fn finish_call(regs: &mut Regs, handler: Option<&Action>) {
    const RESTART_SYSCALL: u64 = 219;
    if regs.orig_rax == Regs::NO_CALL {
        return;
    }
    let result = Errno((regs.rax as i64).wrapping_neg().clamp(0, 4095) as i32);
    let restart = match (result, handler) {
        (Errno::ERESTARTSYS, Some(action)) if action.flags & sa::RESTART != 0 => regs.orig_rax,
        (Errno::ERESTARTNOINTR, _) => regs.orig_rax,
        (Errno::ERESTARTSYS | Errno::ERESTARTNOHAND | Errno::ERESTART_RESTARTBLOCK, Some(_)) => {
            regs.rax = Errno::EINTR.as_result() as u64;
            regs.orig_rax = Regs::NO_CALL;
            return;
        }
        (Errno::ERESTARTSYS | Errno::ERESTARTNOHAND, None) => regs.orig_rax,
        (Errno::ERESTART_RESTARTBLOCK, None) => RESTART_SYSCALL,
        _ => return,
    };
    // Two bytes back: `syscall` (or the patched site's, which still holds it) runs again.
    regs.rax = restart;
    regs.rip = regs.rip.wrapping_sub(2);
    regs.orig_rax = Regs::NO_CALL;
}

/// Turns a processor fault into the program's signal.
pub fn fault(task: &Task, fault: &Fault, code: i32) {
    task.signals.lock().fault = (fault.trapno, fault.error, fault.cr2);
    force(task, SigInfo::at_address(fault.signal, code, fault.address));
}

/// Sends the running task a signal that it cannot escape: where it is blocked or ignored it ends the process (`force_sig_info`).
pub fn force(task: &Task, info: SigInfo) {
    let mut signals = task.group.signals.lock();
    let mut own = task.signals.lock();
    let signal = info.signal;
    let ignored = signals.action(signal).is_some_and(|action| action.handler == SIG_IGN);
    if own.blocked & bit(signal) != 0 || ignored {
        own.blocked &= !bit(signal);
        signals.set_action(signal, Action::default());
    }
    if signals.action(signal).is_some_and(|action| action.handler == SIG_DFL) {
        signals.unkillable = false;
    }
    own.pending.add(info);
    task.state.work.fetch_or(work::SIGNAL, Ordering::SeqCst);
}
