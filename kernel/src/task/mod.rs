//! Tasks (threads), thread groups (processes) and how they relate: parents, process groups, sessions.

pub mod calls;
mod group;
pub mod io;
mod pid;
mod rlimits;
mod sessions;
mod table;
pub mod trace;
mod watch;

pub use group::{Exit, Family, GroupSignals, ThreadGroup, Times};
pub use pid::{AtomicPid, Pid, PidSpace};
pub use sessions::{ControllingTerminal, is_orphaned, signal_process_group};
pub use table::{Table, init_table, lock_table, table};

use crate::cred::Cred;
use crate::signal::{AltStack, Pending, SigSet};
use crate::sync::{BootCell, Mutex, Owned};
use crate::wait::Waiter;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::process::Scheduling;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use trap_handler::block::{ThreadBlock, ThreadState};

/// Bits of `ThreadState::work`.
pub mod work {
    /// A signal may be deliverable, or the group is stopped.
    pub const SIGNAL: u32 = 1;
    /// The thread is to end.
    pub const EXIT: u32 = 2;
    /// Somebody has work for the thread to do in its own context.
    pub const CALLS: u32 = 4;
    /// The thread that the task runs on, which another has lent it, is wanted back.
    pub const LOAN: u32 = 8;
}

/// Thread block slot of the running [`Task`].
pub const SLOT_TASK: usize = 0;
/// Thread block slot of the running process thread (crate `syscalls`).
pub const SLOT_THREAD: usize = 1;

/// A task's own signal state; guarded by its group's signal lock as well where both matter.
#[derive(Debug, Default)]
pub struct TaskSignals {
    /// Blocked signals.
    pub blocked: SigSet,
    /// Signals sent to this thread.
    pub pending: Pending,
    /// Alternate stack.
    pub altstack: AltStack,
    /// Mask to go back to once the signal that a temporary mask let through was dealt with (sigsuspend, ppoll).
    pub restore_mask: Option<SigSet>,
    /// Signals that sigtimedwait(2) waits for though they are blocked.
    pub waits_for: SigSet,
    /// Trap number, error code and CR2 of the last fault, for saved contexts.
    pub fault: (u64, u64, u64),
    /// The tracee is to stop for its tracer (an interrupt, a group-stop).
    pub trap: bool,
    /// The process stops, and this thread has not come to it yet (`JOBCTL_STOP_CONSUME`).
    pub stopping: bool,
}

/// Timer slack of a new thread.
pub const TIMER_SLACK_NS: u64 = 50_000;

/// A thread of the program.
pub struct Task {
    /// Words for the stubs and for whoever pokes the thread.
    pub state: ThreadState,
    tid: AtomicPid,
    /// The process it belongs to.
    pub group: Arc<ThreadGroup>,
    host_pid: AtomicI32,
    /// Host thread id; 0 before it runs and after it ended. The host itself writes it (clone's tid arguments).
    pub host_tid: AtomicI32,
    /// What it sleeps on.
    pub waiter: Arc<Waiter>,
    /// Signal state.
    pub signals: Mutex<TaskSignals>,
    cred: Owned<Arc<Cred>>,
    /// prctl(2) `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: AtomicBool,
    /// `comm` (prctl(2) `PR_SET_NAME`), NUL-padded.
    pub comm: Mutex<[u8; 16]>,
    /// Address that is zeroed and woken at the thread's end (set_tid_address(2)); 0 for none.
    pub clear_child_tid: AtomicU64,
    /// Address of the robust futex list; 0 for none.
    pub robust_list: AtomicU64,
    /// `CLOCK_MONOTONIC` at its start.
    pub started: u64,
    /// Parent-death signal (prctl(2) `PR_SET_PDEATHSIG`).
    pub death_signal: AtomicI32,
    /// Nanoseconds (prctl(2) `PR_SET_TIMERSLACK`). Told, not applied.
    pub timer_slack: AtomicU64,
    /// What sched_setscheduler(2), setpriority(2) and ioprio_set(2) set. The host is not told.
    pub scheduling: Mutex<Scheduling>,
    /// Which processors it may use.
    pub affinity: Mutex<Affinity>,
    /// What its end takes back of semaphores (semop(2) `SEM_UNDO`).
    pub sem_undo: crate::ipc::Undo,
    /// Who traces it, and the stop that it is in.
    pub trace: trace::Trace,
    /// Wait status with which the thread ends if it ends alone.
    pub exit_status: AtomicI32,
    /// What it has read and written.
    pub io: io::Counters,
    /// Filters of its calls.
    pub seccomp: Mutex<crate::seccomp::Mode>,
    /// There are some: the only word that each call looks at.
    pub filtered: AtomicBool,
    /// It has made a file shorter that somebody maps, and mappings are still to be told.
    pub cut_a_mapped_file: AtomicBool,
    /// Who runs on its host thread meanwhile, and whether somebody does.
    borrower: Mutex<Option<Arc<Task>>>,
    lends: AtomicBool,
    /// What it does when it holds no lock any more ([`Task::postpone`]).
    postponed: Mutex<Vec<Box<dyn calls::Call>>>,
}

/// The processors that a thread may use, noted for when nobody else can tell the host, or ask it.
#[derive(Debug, Clone, Default)]
pub struct Affinity {
    /// As sched_setaffinity(2) takes it; `None` for all that the sandbox has.
    pub mask: Option<Vec<u8>>,
    /// The thread has not told the host yet.
    pub due: bool,
}

/// What a child starts with of its parent's scheduling.
pub fn inherited(from: Scheduling) -> Scheduling {
    // As Linux: only what would be a privilege is reset.
    let nice = if from.reset_on_fork { from.nice.max(0) } else { from.nice };
    Scheduling { nice, reset_on_fork: false, ..from }
}

impl Task {
    /// A new task of `group`, not yet in the table and without a host thread.
    pub fn new(tid: Pid, group: Arc<ThreadGroup>, cred: Arc<Cred>, comm: [u8; 16]) -> Task {
        Task {
            state: ThreadState::default(),
            tid: AtomicPid::new(tid),
            group,
            host_pid: AtomicI32::new(0),
            host_tid: AtomicI32::new(0),
            waiter: Arc::default(),
            signals: Mutex::new(TaskSignals::default()),
            cred: Owned::new(cred),
            no_new_privs: AtomicBool::new(false),
            comm: Mutex::new(comm),
            clear_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            started: crate::time::monotonic(),
            death_signal: AtomicI32::new(0),
            timer_slack: AtomicU64::new(TIMER_SLACK_NS),
            scheduling: Mutex::default(),
            affinity: Mutex::default(),
            sem_undo: crate::ipc::Undo::default(),
            trace: trace::Trace::default(),
            exit_status: AtomicI32::new(0),
            io: io::Counters::default(),
            seccomp: Mutex::default(),
            filtered: AtomicBool::new(false),
            cut_a_mapped_file: AtomicBool::new(false),
            borrower: Mutex::default(),
            lends: AtomicBool::new(false),
            postponed: Mutex::default(),
        }
    }

    /// Virtual thread id. Changes only when a thread that is not the main one executes a new program.
    pub fn tid(&self) -> Pid {
        self.tid.load()
    }

    /// The same as its own program sees it (gettid(2)).
    pub fn own_tid(&self) -> i32 {
        self.group.space.shown(self.tid())
    }

    /// Takes over the main thread's id (execve(2)).
    pub fn become_leader(&self) {
        self.tid.store(self.group.tgid);
    }

    /// Host process and thread; thread 0 if none.
    pub fn host_ids(&self) -> (i32, i32) {
        (self.host_pid.load(Ordering::SeqCst), self.host_tid.load(Ordering::SeqCst))
    }

    /// Notes the host thread that runs the task.
    pub fn set_host_ids(&self, process: i32, thread: i32) {
        self.host_pid.store(process, Ordering::SeqCst);
        self.host_tid.store(thread, Ordering::SeqCst);
    }

    /// The task that runs on its host thread meanwhile, as a vfork child does: it has to look for what is sent to this one.
    pub fn borrower(&self) -> Option<Arc<Task>> {
        // Pairs with `set_borrower`: who has requested work sees the borrower, or the lender sees the work.
        if self.lends.load(Ordering::SeqCst) { self.borrower.lock().clone() } else { None }
    }

    /// Notes it, or that the host thread is back. The lender looks for work after the first.
    pub fn set_borrower(&self, borrower: Option<Arc<Task>>) {
        let lends = borrower.is_some();
        let old = core::mem::replace(&mut *self.borrower.lock(), borrower);
        self.lends.store(lends, Ordering::SeqCst);
        drop(old);
    }

    /// Whether it is the running one.
    pub fn is_current(&self) -> bool {
        ThreadBlock::current().slot(SLOT_TASK) == core::ptr::from_ref(self) as u64
    }

    /// Whether a blocking call must end: a signal is to be delivered, or the thread is to end.
    pub fn interrupted(&self) -> bool {
        self.state.work.load(Ordering::SeqCst) != 0
    }

    /// Whether the thread is to end, whatever else it would do.
    pub fn is_ending(&self) -> bool {
        let signals = self.group.signals.lock();
        let killed = signals.pending.set() | self.signals.lock().pending.set();
        signals.must_end(self) || killed & crate::signal::bit(crate::signal::SIGKILL) != 0
    }

    /// Its credentials now.
    pub fn cred(&self) -> Arc<Cred> {
        self.cred.read().clone()
    }

    /// Its credentials now, for its own thread.
    ///
    /// # Safety
    /// The caller is this task, and does not replace them ([`Self::set_cred`]) while the result lives.
    pub unsafe fn own_cred(&self) -> &Arc<Cred> {
        // SAFETY: the caller's promise.
        unsafe { self.cred.own() }
    }

    /// Replaces its credentials.
    ///
    /// # Safety
    /// The caller is this task, and nothing that came from [`Self::own_cred`] lives.
    pub unsafe fn set_cred(&self, cred: Arc<Cred>) {
        // SAFETY: the caller's promise.
        drop(unsafe { self.cred.replace(cred) });
    }

    /// Soft limit of a resource of its process (`RLIMIT_*`); `u64::MAX` is infinity.
    pub fn rlimit(&self, resource: u32) -> u64 {
        self.group.soft_limit(resource)
    }
}

/// The running task.
pub fn current() -> &'static Task {
    // SAFETY: slot 0 holds the task of the running thread, which holds a reference to it.
    unsafe { &*(ThreadBlock::current().slot(SLOT_TASK) as *const Task) }
}

/// The running task; `None` in the warden, which is none.
pub fn current_if_any() -> Option<&'static Task> {
    let task = ThreadBlock::current().slot(SLOT_TASK) as *const Task;
    // SAFETY: as in `current`; a thread without a task has a null pointer there.
    unsafe { task.as_ref() }
}

static CPUS: BootCell<usize> = BootCell::new();

/// Notes how many processors the sandbox may use. Called once, at boot.
pub fn set_cpus(count: usize) {
    CPUS.set(count);
}

/// Whether spinning may help: more than one processor.
pub fn may_spin() -> bool {
    CPUS.get().is_some_and(|&count| count > 1)
}
