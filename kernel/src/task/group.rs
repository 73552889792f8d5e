//! A thread group: what the program calls a process.

use super::io::Transfers;
use super::rlimits::ResourceLimits;
use super::{AtomicPid, ControllingTerminal, Pid, PidSpace, Task};
use crate::signal::{Action, Pending, SIG_DFL, SIG_IGN};
use crate::sync::Mutex;
use crate::wait::WaitQueue;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// Processor time, nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// In program code (and in our kernel).
    pub user: u64,
    /// In the host's kernel.
    pub system: u64,
}

/// How a group ends, once that is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All threads end; this is the wait status.
    Group(i32),
    /// A thread executes a new program: all but the one with this tid end.
    Exec(Pid),
}

/// State under the signal lock.
pub struct GroupSignals {
    /// Living threads, the oldest first.
    pub tasks: Vec<Arc<Task>>,
    /// Ids of threads that have ended and are still to be waited for: the main one's, and those of tracees.
    pub remains: Vec<Pid>,
    /// Signals sent to the process.
    pub pending: Pending,
    /// Actions by number; `actions[0]` is signal 1. Shared when made with `CLONE_SIGHAND` (always within a group).
    actions: [Action; 64],
    /// The group is ending.
    pub exit: Option<Exit>,
    /// Stopped by this signal.
    pub stop: Option<i32>,
    /// A thread has taken a stop signal and is about to stop the group; SIGCONT takes that back (`JOBCTL_STOP_DEQUEUED`).
    pub stop_taken: bool,
    /// All threads have stopped, and the parent has been told.
    pub stop_complete: bool,
    /// The stop was waited for (waitid consumes it).
    pub stop_reported: bool,
    /// Continued since the parent last looked.
    pub continued: bool,
    /// Signals whose action is the default do nothing, unless they come from outside and cannot be caught: the process is number 1
    /// of a container (`SIGNAL_UNKILLABLE`).
    pub unkillable: bool,
    /// What the parent was not told yet of a stop that has ended (`CLD_*`): the next thread that looks does it.
    pub untold: Option<i32>,
}

impl GroupSignals {
    /// The action for `signal`; `None` for a number that is none.
    pub fn action(&self, signal: i32) -> Option<Action> {
        self.actions.get(usize::try_from(signal - 1).ok()?).copied()
    }

    /// Sets an action; unknown numbers are ignored.
    pub fn set_action(&mut self, signal: i32, action: Action) {
        if let Some(slot) = usize::try_from(signal - 1).ok().and_then(|index| self.actions.get_mut(index)) {
            *slot = action;
        }
    }

    /// The table of actions, for a fork.
    pub fn actions(&self) -> [Action; 64] {
        self.actions
    }

    /// Replaces the table of actions (fork).
    pub fn set_actions(&mut self, actions: [Action; 64]) {
        self.actions = actions;
    }

    /// Handlers become the default; ignored stays ignored (execve(2)).
    pub fn reset_handlers(&mut self) {
        for action in &mut self.actions {
            let handler = if action.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *action = Action { handler, ..Action::default() };
        }
    }

    /// Ids of the threads that can be seen, dead ones that nobody has waited for included.
    pub fn visible(&self) -> Vec<Pid> {
        let mut ids: Vec<Pid> = self.tasks.iter().map(|task| task.tid()).collect();
        ids.extend(&self.remains);
        ids.sort_unstable();
        ids
    }

    /// Whether `task` has to end now.
    pub fn must_end(&self, task: &Task) -> bool {
        match self.exit {
            Some(Exit::Group(_)) => true,
            Some(Exit::Exec(tid)) => task.tid() != tid,
            None => false,
        }
    }
}

/// Relations to other processes; guarded by the process table's lock.
pub struct Family {
    /// Who waits for it; `None` once nobody does.
    pub parent: Weak<ThreadGroup>,
    /// Living and dead children.
    pub children: Vec<Arc<ThreadGroup>>,
    /// Process group.
    pub pgid: Pid,
    /// Session.
    pub sid: Pid,
    /// Terminal that controls the session, as long as the process has not given it up (`TIOCNOTTY`).
    pub terminal: Option<Arc<dyn ControllingTerminal>>,
    /// Of a session leader whose terminal was hung up: the group that was in its foreground, which learns of the leader's end;
    /// none is [`Pid::NONE`].
    pub hung_up_foreground: Pid,
    /// Has executed a program since it was forked (setpgid(2) cares).
    pub executed: bool,
    /// Wait status, once all its threads have ended.
    pub zombie: Option<i32>,
    /// Adopts the orphans below it (prctl(2) `PR_SET_CHILD_SUBREAPER`).
    pub subreaper: bool,
    /// Threads that its threads trace (ptrace(2)), ended ones included until they were waited for.
    pub tracees: Vec<Arc<Task>>,
    /// The process that traces its main thread, or [`Pid::NONE`]. Stays until the dead main thread was waited for.
    pub tracer: Pid,
    /// The thread that made it.
    pub maker: Weak<Task>,
}

/// A process.
pub struct ThreadGroup {
    /// Virtual process id.
    pub tgid: Pid,
    /// Whom it sees. That of its children, too.
    pub space: PidSpace,
    /// It stands for the sandbox itself: it has no threads, and takes the ends of its children.
    pub is_sandbox: bool,
    /// The container of the pod that it belongs to, by the supervisor's number of that one's first process. Passed on to children.
    pub container: AtomicU32,
    /// Signal the parent gets at its end (clone(2)); 0 for none.
    pub exit_signal: AtomicI32,
    /// Signals, threads, stop and exit.
    pub signals: Mutex<GroupSignals>,
    /// The parent's process id, of those that have one: getppid(2) takes no lock.
    parent_id: AtomicPid,
    /// Parent, children, process group, session.
    pub family: Mutex<Family>,
    /// Woken when a child changes state.
    pub child_queue: WaitQueue,
    /// Woken when a signal arrives (signalfd, sigtimedwait).
    pub signal_queue: WaitQueue,
    /// Woken when the group is continued or killed.
    pub stop_queue: WaitQueue,
    /// Woken when a thread ends (execve waits for the others), and when the group is dead (pidfd).
    pub exit_queue: WaitQueue,
    rlimits: ResourceLimits,
    /// Threads that have not ended.
    pub alive: AtomicU32,
    /// Time of threads that ended.
    pub ended_times: Mutex<Times>,
    /// Time of children that were waited for.
    pub children_times: Mutex<Times>,
    /// What threads that ended have read and written, and children that were waited for. Below the signal lock.
    pub ended_io: Mutex<Transfers>,
    /// `CLOCK_MONOTONIC` at its start.
    pub started: u64,
    /// Host process; 0 before it runs. A vfork child that has not executed yet borrows its parent's.
    pub host_pid: AtomicI32,
    /// May be dumped or traced (prctl(2) `PR_SET_DUMPABLE`).
    pub dumpable: AtomicI32,
    /// personality(2).
    pub personality: AtomicU32,
    /// `/proc/PID/oom_score_adj`. Told, not applied.
    pub oom_score_adj: AtomicI32,
    /// `/proc/PID/coredump_filter`. Told, not applied.
    pub coredump_filter: AtomicU32,
    /// Real user of its last thread, once that has ended.
    pub ended_user: AtomicU32,
    /// `/proc/PID/loginuid`: who has logged in, and the number of that session; all bits if nobody has.
    pub login: (AtomicU32, AtomicU32),
    /// What other processes ask it to do ([`super::calls`]).
    pub(super) calls: Mutex<VecDeque<Arc<super::calls::Pending>>>,
}

impl ThreadGroup {
    /// What all its threads have read and written, and the children that it has waited for.
    pub fn transfers(&self) -> Transfers {
        let signals = self.signals.lock();
        let mut sum = *self.ended_io.lock();
        for task in &signals.tasks {
            sum += task.io.sum();
        }
        sum
    }

    /// A new process without threads in a space, made by `maker`, whose session and limits it inherits, as a child of `parent` (the
    /// same but for `CLONE_PARENT`).
    pub fn new(
        (tgid, space): (Pid, PidSpace),
        maker: &ThreadGroup,
        parent: &Arc<ThreadGroup>,
        exit_signal: i32,
    ) -> Arc<ThreadGroup> {
        let (pgid, sid, terminal) = {
            let family = maker.family.lock();
            (family.pgid, family.sid, family.terminal.clone())
        };
        let rlimits = maker.rlimits.copy();
        let group = Self::with((tgid, space, false), Arc::downgrade(parent), exit_signal, rlimits, pgid, sid);
        group.family.lock().terminal = terminal;
        group.container.store(maker.container.load(Ordering::Relaxed), Ordering::Relaxed);
        group.personality.store(maker.personality.load(Ordering::Relaxed), Ordering::Relaxed);
        group.oom_score_adj.store(maker.oom_score_adj.load(Ordering::Relaxed), Ordering::Relaxed);
        group.coredump_filter.store(maker.coredump_filter.load(Ordering::Relaxed), Ordering::Relaxed);
        group.login.0.store(maker.login.0.load(Ordering::Relaxed), Ordering::Relaxed);
        group.login.1.store(maker.login.1.load(Ordering::Relaxed), Ordering::Relaxed);
        group.dumpable.store(maker.dumpable.load(Ordering::Relaxed), Ordering::Relaxed);
        group
    }

    /// The parent of processes that nobody inside has made. Programs see it as process 1, unless they have one of their own, to which
    /// it is `outside`, 0.
    pub fn sandbox(outside: bool) -> Arc<ThreadGroup> {
        let tgid = if outside { Pid::NONE } else { PidSpace::ALL.first() };
        Self::with((tgid, PidSpace::ALL, true), Weak::new(), 0, ResourceLimits::none(), tgid, tgid)
    }

    fn with(
        (tgid, space, is_sandbox): (Pid, PidSpace, bool),
        parent: Weak<ThreadGroup>,
        exit_signal: i32,
        rlimits: ResourceLimits,
        pgid: Pid,
        sid: Pid,
    ) -> Arc<ThreadGroup> {
        Arc::new(ThreadGroup {
            tgid,
            space,
            is_sandbox,
            container: AtomicU32::new(0),
            exit_signal: AtomicI32::new(exit_signal),
            signals: Mutex::new(GroupSignals {
                tasks: Vec::new(),
                remains: Vec::new(),
                pending: Pending::default(),
                actions: [Action::default(); 64],
                exit: None,
                stop: None,
                stop_taken: false,
                stop_complete: false,
                stop_reported: false,
                continued: false,
                unkillable: false,
                untold: None,
            }),
            parent_id: AtomicPid::new(parent.upgrade().map_or(Pid::NONE, |parent| parent.tgid)),
            family: Mutex::new(Family {
                parent,
                children: Vec::new(),
                pgid,
                sid,
                terminal: None,
                hung_up_foreground: Pid::NONE,
                executed: false,
                zombie: None,
                subreaper: false,
                tracees: Vec::new(),
                tracer: Pid::NONE,
                maker: Weak::new(),
            }),
            child_queue: WaitQueue::new(),
            signal_queue: WaitQueue::new(),
            stop_queue: WaitQueue::new(),
            exit_queue: WaitQueue::new(),
            rlimits,
            alive: AtomicU32::new(0),
            ended_times: Mutex::default(),
            children_times: Mutex::default(),
            ended_io: Mutex::default(),
            started: crate::time::monotonic(),
            host_pid: AtomicI32::new(0),
            dumpable: AtomicI32::new(1),
            personality: AtomicU32::new(0),
            oom_score_adj: AtomicI32::new(0),
            coredump_filter: AtomicU32::new(0x33),
            ended_user: AtomicU32::new(0),
            login: (AtomicU32::new(u32::MAX), AtomicU32::new(u32::MAX)),
            calls: Mutex::default(),
        })
    }

    /// Process group and session.
    pub fn place(&self) -> (Pid, Pid) {
        let family = self.family.lock();
        (family.pgid, family.sid)
    }

    /// Soft and hard limit of a resource (`RLIMIT_*`); `u64::MAX` is infinity, also for numbers that are none.
    pub fn rlimit(&self, resource: u32) -> (u64, u64) {
        self.rlimits.get(resource)
    }

    /// The soft limit alone.
    pub fn soft_limit(&self, resource: u32) -> u64 {
        self.rlimits.soft(resource)
    }

    /// Sets a limit; rules are the caller's.
    pub fn set_rlimit(&self, resource: u32, limit: (u64, u64)) {
        self.rlimits.set(resource, limit);
    }

    /// A thread of the group.
    pub fn find(&self, tid: Pid) -> Option<Arc<Task>> {
        self.signals.lock().tasks.iter().find(|task| task.tid() == tid).cloned()
    }

    /// The main thread (or the oldest that lives).
    pub fn leader(&self) -> Option<Arc<Task>> {
        self.signals.lock().tasks.first().cloned()
    }

    /// Real user: that of its main thread, or of the last one if it has ended.
    pub fn real_user(&self) -> u32 {
        self.leader().map_or_else(|| self.ended_user.load(Ordering::Relaxed), |leader| leader.cred().uid)
    }

    /// Parent's process id; [`Pid::NONE`] when there is none.
    pub fn parent_id(&self) -> Pid {
        self.parent_id.load()
    }

    /// Gives it another parent; its [`Family`] is locked.
    pub fn give_to(&self, family: &mut Family, parent: &Arc<ThreadGroup>) {
        family.parent = Arc::downgrade(parent);
        self.parent_id.store(parent.tgid);
    }
}
