//! Tasks (placeholder of the shape; being written).
use crate::cred::Cred;
use crate::sync::Mutex;
use crate::wait::Waiter;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use trap_handler::block::{ThreadBlock, ThreadState};

/// A thread of the program.
pub struct Task {
    /// Words for the stubs.
    pub state: ThreadState,
    /// Virtual thread id.
    pub tid: i32,
    /// What it sleeps on.
    pub waiter: Arc<Waiter>,
    cred: Mutex<Arc<Cred>>,
}

impl Task {
    /// Whether a signal is to be delivered, or the thread is to end.
    pub fn interrupted(&self) -> bool {
        self.state.work.load(Ordering::SeqCst) != 0
    }

    /// Its credentials now.
    pub fn cred(&self) -> Arc<Cred> {
        self.cred.lock().clone()
    }

    /// Sends it a signal that its own call caused (SIGPIPE, SIGXFSZ).
    pub fn raise(&self, _signal: i32) {}

    /// Soft limit of a resource of its process (`RLIMIT_*`); `u64::MAX` is infinity.
    pub fn rlimit(&self, _resource: u32) -> u64 {
        u64::MAX
    }
}

/// The running task.
pub fn current() -> &'static Task {
    // SAFETY: slot 0 holds the task of the running thread, which holds a reference to it.
    unsafe { &*(ThreadBlock::current().slot(0) as *const Task) }
}

/// Whether spinning may help: more than one processor.
pub fn may_spin() -> bool {
    false
}
