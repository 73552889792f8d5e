//! The sandbox's timers: a heap by deadline, served by the warden.

use crate::sync::{BootCell, Mutex};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// What is told of an expiry. Runs in the warden: must not block.
pub trait Expire: Send + Sync {
    /// The deadline has passed.
    fn expire(&self);
}

/// Names a timer: its deadline and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId(u64, u64);

#[derive(Default)]
struct Timers {
    /// Timers do not keep what they tell alive.
    by_deadline: BTreeMap<TimerId, Weak<dyn Expire>>,
    next: u64,
}

static TIMERS: BootCell<Box<Mutex<Timers>>> = BootCell::new();
static WAKE: BootCell<fn()> = BootCell::new();

/// Sets up; `wake` makes the warden look at the earliest deadline again. Called once, at boot.
pub fn set_wake(wake: fn()) {
    TIMERS.set(Box::default());
    WAKE.set(wake);
}

/// Adds a timer for `deadline` (`CLOCK_MONOTONIC`, ns).
pub fn add<T: Expire + 'static>(deadline: u64, target: Arc<T>) -> TimerId {
    let Some(timers) = TIMERS.get() else { return TimerId(deadline, 0) };
    let (id, first) = {
        let mut timers = timers.lock();
        timers.next += 1;
        let id = TimerId(deadline, timers.next);
        let target: Arc<dyn Expire> = target;
        timers.by_deadline.insert(id, Arc::downgrade(&target));
        (id, timers.by_deadline.keys().next() == Some(&id))
    };
    if first && let Some(wake) = WAKE.get() {
        wake();
    }
    id
}

/// Takes a timer out, if it has not expired.
pub fn cancel(id: TimerId) {
    let removed = TIMERS.get().and_then(|timers| timers.lock().by_deadline.remove(&id));
    drop(removed);
}

/// The earliest deadline.
pub fn next_deadline() -> Option<u64> {
    TIMERS.get().and_then(|timers| timers.lock().by_deadline.keys().next().map(|id| id.0))
}

/// Tells everyone whose deadline has passed.
pub fn run(now: u64) {
    let Some(timers) = TIMERS.get() else { return };
    let due: Vec<Weak<dyn Expire>> = {
        let mut timers = timers.lock();
        let later = timers.by_deadline.split_off(&TimerId(now.saturating_add(1), 0));
        core::mem::replace(&mut timers.by_deadline, later).into_values().collect()
    };
    for target in due {
        if let Some(target) = target.upgrade() {
            target.expire();
        }
    }
}
