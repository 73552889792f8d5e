//! Calls on a process: what one of its threads is asked to do in its own context, at its next look at pending work.
//!
//! This is how one process reaches another's memory: the other's thread does the copying. The asking thread sleeps and serves
//! what it is asked itself meanwhile, so that two may ask each other.

use super::{Task, ThreadGroup, work};
use crate::poll::PollEvents;
use crate::signal;
use crate::sync::BootCell;
use crate::wait::{self, Waiter};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

/// Something to be done by a thread of a process. What it needs and gives is in the object, in the kernel heap.
pub trait Call: Send + Sync {
    /// Does it. Called by a thread of the process, without locks.
    fn run(&self);
}

/// A call that waits to be served.
pub struct Pending {
    call: Arc<dyn Call>,
    done: AtomicBool,
    asker: Arc<Waiter>,
}

static ON_LOOK: BootCell<fn(&Task)> = BootCell::new();

/// What else a thread does when it looks for [`work::CALLS`]. Called once, at boot.
pub fn set_on_look(look: fn(&Task)) {
    ON_LOOK.set(look);
}

impl Task {
    /// Does what the running thread has been asked; whether there was anything.
    pub fn serve_calls(&self) -> bool {
        if self.state.work.load(Ordering::SeqCst) & work::CALLS == 0 {
            return false;
        }
        self.state.work.fetch_and(!work::CALLS, Ordering::SeqCst);
        self.do_postponed();
        if let Some(look) = ON_LOOK.get() {
            look(self);
        }
        self.group.serve_calls();
        true
    }

    /// Has `call` done by this task, the running one, when it holds no lock any more: before it sleeps, or at the end of its
    /// call. For what takes a lock above those that it may hold.
    pub fn postpone(&self, call: Box<dyn Call>) {
        self.postponed.lock().push(call);
        self.state.work.fetch_or(work::CALLS, Ordering::SeqCst);
    }

    /// Does what the running thread, which holds no lock, has postponed.
    pub fn do_postponed(&self) {
        let calls = core::mem::take(&mut *self.postponed.lock());
        calls.iter().for_each(|call| call.run());
    }

    fn ask_to_look(&self) {
        signal::kick(self, work::CALLS);
    }
}

impl ThreadGroup {
    /// Does what its threads have been asked. Called by a thread that runs in its memory.
    pub fn serve_calls(&self) {
        loop {
            let next = self.calls.lock().pop_front();
            let Some(next) = next else { return };
            next.call.run();
            next.done.store(true, Ordering::SeqCst);
            next.asker.wake(PollEvents::IN);
        }
    }
}

/// How long one thread is given to answer.
const PATIENCE_NS: u64 = 50_000_000;

/// Has `call` done by a thread of `group`, `first` if that lives. `ESRCH` if the process ends before; `EINTR` if the calling
/// thread is to end. The caller holds no lock.
pub fn ask(group: &Arc<ThreadGroup>, first: Option<&Task>, call: Arc<dyn Call>) -> Result<()> {
    let own = super::current();
    let pending = Arc::new(Pending { call, done: AtomicBool::new(false), asker: own.waiter.clone() });
    group.calls.lock().push_back(pending.clone());
    let mut preferred = first;
    wait::killable_looking(&group.exit_queue, Some(PATIENCE_NS), || {
        if pending.done.load(Ordering::SeqCst) || group.alive.load(Ordering::SeqCst) == 0 {
            return true;
        }
        // One thread first; if that does not answer soon, whoever can.
        match preferred.take() {
            Some(task) => task.ask_to_look(),
            None => group.signals.lock().tasks.iter().for_each(|task| task.ask_to_look()),
        }
        false
    });
    group.calls.lock().retain(|other| !Arc::ptr_eq(other, &pending));
    if pending.done.load(Ordering::SeqCst) {
        Ok(())
    } else if group.alive.load(Ordering::SeqCst) == 0 {
        Err(Errno::ESRCH)
    } else {
        Err(Errno::EINTR)
    }
}
