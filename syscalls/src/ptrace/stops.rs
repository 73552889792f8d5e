//! The stops of a tracee: it lays its registers open, tells its tracer and sleeps until it is resumed.

use super::attach::is_killed;
use super::{notification, pt};
use crate::process;
use crate::thread::Thread;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kernel::poll::PollEvents;
use kernel::signal::{self, SIG_IGN, SIGCHLD, SIGTRAP, SigInfo, bit, sa, si};
use kernel::task::trace::{Registers, Stop, StopKind, traced};
use kernel::task::{Pid, Task, ThreadGroup, work};
use kernel::wait;
use trap_handler::block::ThreadBlock;
use trap_handler::regs::Regs;
use trap_handler::{stack, xstate};

/// A stop that is to be made.
struct Wanted {
    code: i32,
    kind: StopKind,
    info: Option<SigInfo>,
    /// `CLD_TRAPPED` or `CLD_STOPPED`, for the tracer's `SIGCHLD`.
    why: i32,
    message: u64,
    /// What ends the stop without the tracer.
    ending: fn(&Task) -> bool,
}

/// How a stop ended.
struct Resumed {
    signal: i32,
    info: Option<SigInfo>,
}

/// Stops the running thread for its tracer. `None` if there is none, or the thread is to end.
fn stop(thread: &Thread, regs: &mut Regs, wanted: Wanted) -> Option<Resumed> {
    let task = &thread.task;
    if !task.trace.is_traced() || (wanted.ending)(task) {
        return None;
    }
    thread.space().stop_rewriting();
    if wanted.why != si::CLD_STOPPED {
        task.signals.lock().trap = false;
    }
    let tracer = publish(task, regs, &wanted)?;
    tell_tracer(task, &tracer, wanted.code, wanted.why);
    drop(tracer);
    let over = || {
        let pending = task.signals.lock().trap;
        task.trace.lock().stop.is_none_or(|stop| stop.listening && pending)
    };
    wait::killable_woken(over, wanted.ending);
    let resumed = take_back(task, regs);
    task.trace.begin_watching();
    if !task.trace.is_traced() {
        thread.space().allow_rewriting();
    }
    Some(resumed)
}

/// Lays the registers open; the tracer's process. `None` if the tracer has just gone.
fn publish(task: &Task, regs: &Regs, wanted: &Wanted) -> Option<Arc<ThreadGroup>> {
    let mut state = task.trace.lock();
    let tracer = state.link.as_ref()?.group.clone();
    let registers = state.registers.get_or_insert_with(|| {
        Box::new(Registers {
            general: Regs::default(),
            fs_base: 0,
            extended: xstate::Area::new(),
            extended_changed: false,
        })
    });
    registers.general = *regs;
    registers.fs_base = stack::fs_base();
    registers.extended_changed = false;
    xstate::save(&mut registers.extended);
    (state.resumed_with, state.info, state.message) = (0, None, wanted.message);
    state.stop = Some(Stop {
        code: wanted.code,
        kind: wanted.kind,
        info: wanted.info,
        reported: false,
        listening: false,
    });
    Some(tracer)
}

/// Takes the registers back as the tracer left them.
fn take_back(task: &Task, regs: &mut Regs) -> Resumed {
    let mut state = task.trace.lock();
    // Still there when the thread was killed, or stops again.
    state.stop = None;
    let resumed = Resumed { signal: core::mem::take(&mut state.resumed_with), info: state.info.take() };
    if let Some(registers) = &mut state.registers {
        *regs = registers.general;
        let _ = stack::set_fs_base(registers.fs_base);
        if registers.extended_changed && !xstate::load(&mut registers.extended) {
            xstate::reset();
        }
    }
    resumed
}

/// Wakes the tracer's waits and sends it `SIGCHLD` (`do_notify_parent_cldstop`).
fn tell_tracer(task: &Task, tracer: &Arc<ThreadGroup>, code: i32, why: i32) {
    let action = tracer.signals.lock().action(SIGCHLD).unwrap_or_default();
    if action.handler != SIG_IGN && action.flags & sa::NOCLDSTOP == 0 {
        let uid = task.cred().uid;
        let info = SigInfo::child(SIGCHLD, why, task.tid(), uid, code & 0x7f, (0, 0));
        let _ = signal::send_to_group(tracer, info);
    }
    tracer.child_queue.wake_all(PollEvents::IN);
}

fn send_to_self(task: &Arc<Task>, info: SigInfo) {
    let _ = signal::send_to_task(task, info);
}

/// A stop that shows itself as `SIGTRAP` with `code`; the signal that the tracer resumed it with.
fn notify(
    thread: &Thread,
    regs: &mut Regs,
    code: i32,
    kind: StopKind,
    message: u64,
    ending: fn(&Task) -> bool,
) -> i32 {
    let info = Some(notification(&thread.task, SIGTRAP, code));
    let wanted = Wanted { code, kind, info, why: si::CLD_TRAPPED, message, ending };
    stop(thread, regs, wanted).map_or(0, |resumed| resumed.signal)
}

/// Shows the tracer a signal that is about to be delivered; the one to deliver instead, if any (`ptrace_signal`).
pub fn signal(thread: &Thread, regs: &mut Regs, info: SigInfo) -> Option<SigInfo> {
    let task = &thread.task;
    let wanted = Wanted {
        code: info.signal,
        kind: StopKind::Signal,
        info: Some(info),
        why: si::CLD_TRAPPED,
        message: 0,
        ending: Task::is_ending,
    };
    let Some(resumed) = stop(thread, regs, wanted) else { return Some(info) };
    if resumed.signal == 0 {
        return None;
    }
    let mut info = resumed.info.unwrap_or(info);
    if info.signal != resumed.signal {
        let cred = task.cred();
        info = SigInfo::from_process(resumed.signal, si::USER, task.trace.tracer_id(), cred.uid)
            .seen_in(task.group.space);
    }
    let _signals = task.group.signals.lock();
    let mut own = task.signals.lock();
    if own.blocked & bit(info.signal) != 0 {
        own.pending.add(info);
        return None;
    }
    Some(info)
}

/// A stop that the tracer asked for, or that the process's stop means (`do_jobctl_trap`).
pub fn trap(thread: &Thread, regs: &mut Regs) {
    let task = &thread.task;
    let group_stop = {
        // One look: a SIGCONT that comes later asks for another stop, which must not be forgotten.
        let signals = task.group.signals.lock();
        task.signals.lock().trap = false;
        signals.stop
    };
    process::come_to_stop(task);
    let wanted = |code, info| Wanted {
        code,
        kind: StopKind::Other,
        info,
        why: si::CLD_STOPPED,
        message: 0,
        ending: Task::is_ending,
    };
    if task.trace.flags() & traced::SEIZED != 0 {
        let signal = group_stop.unwrap_or(SIGTRAP);
        let code = signal | (pt::PTRACE_EVENT_STOP as i32) << 8;
        stop(thread, regs, wanted(code, Some(notification(task, signal, code))));
    } else if let Some(signal) = group_stop {
        stop(thread, regs, wanted(signal, None));
    }
    // Also when there was no stop.
    let mut own = task.signals.lock();
    if !task.trace.is_traced() {
        own.trap = false;
    }
}

fn call_code(task: &Task) -> i32 {
    if task.trace.options() & pt::PTRACE_O_TRACESYSGOOD != 0 { SIGTRAP | 0x80 } else { SIGTRAP }
}

fn call_stop(thread: &Thread, regs: &mut Regs, kind: StopKind, message: u32) {
    let code = call_code(&thread.task);
    let signal = notify(thread, regs, code, kind, u64::from(message), Task::is_ending);
    if signal != 0 {
        send_to_self(&thread.task, SigInfo::new(signal, si::KERNEL));
    }
}

/// Before a call of a traced thread; whether the call is to be made.
pub fn call_entry(thread: &Thread, regs: &mut Regs) -> bool {
    let flags = thread.task.trace.flags();
    if flags & traced::CALLS == 0 {
        return true;
    }
    call_stop(thread, regs, StopKind::CallEntry, pt::PTRACE_EVENTMSG_SYSCALL_ENTRY);
    flags & traced::EMULATE == 0 && !thread.task.is_ending()
}

/// After a call of a traced thread, with its result in `regs`.
pub fn call_exit(thread: &Thread, regs: &mut Regs) {
    let flags = thread.task.trace.flags();
    let task = &thread.task;
    let hit = task.trace.look_at_watched(regs.rip);
    if hit || flags & traced::STEP != 0 {
        let code = if flags & traced::STEP != 0 { si::TRAP_BRKPT } else { si::TRAP_HWBKPT };
        task.signals.lock().pending.add(SigInfo::at_address(SIGTRAP, code, regs.rip));
        task.state.work.fetch_or(work::SIGNAL, Ordering::SeqCst);
    }
    if flags & traced::STEP != 0 {
        return;
    }
    if flags & (traced::CALLS | traced::EMULATE) == traced::CALLS {
        call_stop(thread, regs, StopKind::CallExit, pt::PTRACE_EVENTMSG_SYSCALL_EXIT);
    }
}

/// Whether the tracer wants to know of an event (`PTRACE_EVENT_*`).
pub fn wants(task: &Task, event: u32) -> bool {
    task.trace.options() & 1 << event != 0
}

/// Shows an event, if the tracer wants it.
pub fn event(thread: &Thread, regs: &mut Regs, event: u32, message: u64) {
    if wants(&thread.task, event) {
        let code = SIGTRAP | (event as i32) << 8;
        notify(thread, regs, code, StopKind::Other, message, Task::is_ending);
    }
}

/// Shows an event about another process or thread, by the number that the tracer sees (`ptrace_event_pid`).
pub fn event_about(thread: &Thread, regs: &mut Regs, about: u32, pid: Pid) {
    let tracer = thread.task.trace.tracer_group();
    event(thread, regs, about, tracer.map_or(0, |tracer| tracer.space.shown(pid)) as u64);
}

/// A program was executed; the thread's id was `old`.
pub fn executed(thread: &Thread, regs: &mut Regs, old: Pid) {
    let task = &thread.task;
    if wants(task, pt::PTRACE_EVENT_EXEC) {
        event_about(thread, regs, pt::PTRACE_EVENT_EXEC, old);
    } else if task.trace.flags() & (traced::ANY | traced::SEIZED) == traced::ANY {
        send_to_self(task, SigInfo::from_process(SIGTRAP, si::USER, task.tid(), task.cred().uid));
    }
}

/// The thread is about to end with this wait status.
pub fn exiting(thread: &Thread, status: i32) {
    if wants(&thread.task, pt::PTRACE_EVENT_EXIT) {
        let mut regs = ThreadBlock::current().last_regs();
        let code = SIGTRAP | (pt::PTRACE_EVENT_EXIT as i32) << 8;
        notify(thread, &mut regs, code, StopKind::Other, status as u64, is_killed);
    }
}

/// A handler's frame was made for a thread that steps: it stops at the handler's first instruction.
pub fn handler_entered(thread: &Thread, regs: &mut Regs) {
    if thread.task.trace.flags() & traced::STEP != 0 {
        notify(thread, regs, SIGTRAP, StopKind::Other, 0, Task::is_ending);
    }
}
