//! What a traced thread (ptrace(2)) and its tracer share: who traces whom, the stop that the tracee is in and its registers as
//! of that stop.
//!
//! A tracee stops in its own kernel code and lays its registers open here; the tracer reads and changes them in place, and the
//! tracee takes them back when it is resumed. The list of a tracer's tracees is in its group's [`super::Family`], guarded by
//! the table's lock; a link is made and broken under that lock.

pub use super::watch::DebugRegisters;
use super::{Family, Pid, Task, ThreadGroup};
use crate::poll::PollEvents;
use crate::signal::SigInfo;
use crate::sync::{Mutex, MutexGuard};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use trap_handler::regs::{FLAG_TF, Regs};
use trap_handler::xstate::Area;

/// Bits of [`Trace::flags`], which the tracee looks at on its way in and out.
pub mod traced {
    /// Has a tracer.
    pub const ANY: u32 = 1;
    /// The tracer used `PTRACE_SEIZE`.
    pub const SEIZED: u32 = 2;
    /// Stops before and after calls (`PTRACE_SYSCALL`).
    pub const CALLS: u32 = 4;
    /// Stops after one instruction (`PTRACE_SINGLESTEP`).
    pub const STEP: u32 = 8;
    /// Stops before a call, which is then left out (`PTRACE_SYSEMU`).
    pub const EMULATE: u32 = 16;
    /// A debug register is enabled.
    pub const WATCH: u32 = 32;
    /// How it goes on after a stop.
    pub const MODE: u32 = CALLS | STEP | EMULATE;
}

/// Who traces a thread.
#[derive(Clone)]
pub struct Link {
    /// The thread whose requests count.
    pub tracer: Weak<Task>,
    /// Its process, which is told and which waits.
    pub group: Arc<ThreadGroup>,
    /// `PTRACE_SEIZE` was used.
    pub seized: bool,
    /// `PTRACE_O_*`.
    pub options: u32,
}

/// What kind of stop it is, for `PTRACE_GET_SYSCALL_INFO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopKind {
    /// Before a call.
    CallEntry,
    /// After a call.
    CallExit,
    /// Before a signal is delivered.
    Signal,
    /// Any other.
    Other,
}

/// A stop of a tracee.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// What the tracer's wait shows, less the low byte: a signal number, with the event above.
    pub code: i32,
    /// Kind.
    pub kind: StopKind,
    /// For `PTRACE_GETSIGINFO`; a group-stop has none.
    pub info: Option<SigInfo>,
    /// The tracer's wait has shown it.
    pub reported: bool,
    /// `PTRACE_LISTEN`: not to be shown again, but it ends with the next event.
    pub listening: bool,
}

impl Stop {
    /// Whether it shows a signal that is about to be delivered.
    pub fn is_for_signal(&self) -> bool {
        self.kind == StopKind::Signal
    }
}

/// Registers of a tracee in a stop.
pub struct Registers {
    /// General ones.
    pub general: Regs,
    /// Thread pointer.
    pub fs_base: u64,
    /// Extended state, as in a signal frame.
    pub extended: Area,
    /// The tracer has replaced the extended state.
    pub extended_changed: bool,
}

/// State under the lock of [`Trace`].
#[derive(Default)]
pub struct TraceState {
    /// Who traces it.
    pub link: Option<Link>,
    /// The stop that it is in.
    pub stop: Option<Stop>,
    /// Signal that the tracer resumed it with, until it has seen that.
    pub resumed_with: i32,
    /// What the stop that it was resumed from showed, as the tracer left it.
    pub info: Option<SigInfo>,
    /// `PTRACE_GETEVENTMSG`.
    pub message: u64,
    /// Its registers, once it has stopped.
    pub registers: Option<Box<Registers>>,
    /// Debug registers.
    pub debug: DebugRegisters,
    /// Wait status, when the thread has ended and its tracer has not seen it yet.
    pub ended: Option<i32>,
}

/// A task's side of being traced.
#[derive(Default)]
pub struct Trace {
    pub(super) flags: AtomicU32,
    /// The program runs with a trap flag that is the tracer's.
    armed: AtomicBool,
    state: Mutex<TraceState>,
}

impl Trace {
    /// Bits of [`traced`].
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::SeqCst)
    }

    /// Whether it has a tracer.
    pub fn is_traced(&self) -> bool {
        self.flags() & traced::ANY != 0
    }

    /// Replaces [`traced::MODE`].
    pub fn set_mode(&self, mode: u32) {
        let _ = self.flags.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |flags| {
            Some((flags & !traced::MODE) | (mode & traced::MODE))
        });
    }

    /// Before the program goes on: sets the trap flag for a single step.
    pub fn arm(&self, regs: &mut Regs) {
        if self.flags() & (traced::STEP | traced::WATCH) != 0 && regs.rflags & FLAG_TF == 0 {
            regs.rflags |= FLAG_TF;
            self.armed.store(true, Ordering::Relaxed);
        }
    }

    /// Back from the program: takes the tracer's trap flag off again, so that nobody sees it.
    pub fn disarm(&self, regs: &mut Regs) {
        if self.armed.load(Ordering::Relaxed) {
            self.armed.store(false, Ordering::Relaxed);
            regs.rflags &= !FLAG_TF;
        }
    }

    /// The shared state. Innermost of the locks of signals.
    pub fn lock(&self) -> MutexGuard<'_, TraceState> {
        self.state.lock()
    }

    /// The tracer's options; 0 without a tracer.
    pub fn options(&self) -> u32 {
        if !self.is_traced() {
            return 0;
        }
        self.lock().link.as_ref().map_or(0, |link| link.options)
    }

    /// Whether it is in a stop now.
    pub fn is_stopped(&self) -> bool {
        self.is_traced() && self.lock().stop.is_some()
    }

    /// Virtual id of the tracing thread, or [`Pid::NONE`].
    pub fn tracer_id(&self) -> Pid {
        let tracer = self.lock().link.as_ref().and_then(|link| link.tracer.upgrade());
        tracer.map_or(Pid::NONE, |tracer| tracer.tid())
    }

    /// The process that traces it.
    pub fn tracer_group(&self) -> Option<Arc<ThreadGroup>> {
        self.lock().link.as_ref().map(|link| link.group.clone())
    }
}

impl Task {
    /// Makes `link`'s process this task's tracer. The table's lock is held, and the task has no tracer.
    pub fn link_to_tracer(self: &Arc<Task>, link: Link) {
        if self.is_leader() {
            self.group.family.lock().tracer = link.group.tgid;
        }
        link.group.family.lock().tracees.push(self.clone());
        let flags = traced::ANY | if link.seized { traced::SEIZED } else { 0 };
        let mut state = self.trace.lock();
        state.link = Some(link);
        self.trace.flags.store(flags, Ordering::SeqCst);
    }

    /// Ends that; a stop ends with `signal` (`None`: with the one it was for if nobody has seen it). The table's lock is held.
    pub fn unlink_from_tracer(self: &Arc<Task>, signal: Option<i32>) {
        let group = {
            let mut state = self.trace.lock();
            let Some(link) = state.link.take() else { return };
            if let Some(stop) = state.stop.take() {
                let unseen = !stop.reported && stop.is_for_signal();
                state.resumed_with = signal.unwrap_or(if unseen { stop.code } else { 0 });
                state.info = stop.info;
            }
            self.trace.flags.store(0, Ordering::SeqCst);
            link.group
        };
        group.family.lock().forget_tracee(self);
        if self.is_leader() {
            self.group.family.lock().tracer = Pid::NONE;
        }
    }

    /// Lets the tracee go on from its stop with `signal`, in a [`traced::MODE`]. `false` if it is in none.
    pub fn resume_tracee(&self, signal: i32, mode: u32) -> bool {
        let mut state = self.trace.lock();
        let Some(stop) = state.stop.take() else { return false };
        state.resumed_with = signal;
        state.info = stop.info;
        self.trace.set_mode(mode);
        drop(state);
        self.waiter.wake(PollEvents::IN);
        true
    }

    /// Whether it is the main thread.
    pub fn is_leader(&self) -> bool {
        self.tid() == self.group.tgid
    }
}

impl Family {
    /// Takes a task off the list of those that this process traces.
    pub fn forget_tracee(&mut self, tracee: &Task) {
        self.tracees.retain(|other| !core::ptr::eq(&**other, tracee));
    }
}
