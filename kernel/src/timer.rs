//! The sandbox's timers: ordered by deadline, served by the warden.

use crate::sync::{BootCell, Mutex};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// What is told of an expiry. Runs in the warden, without any lock held: must not block.
pub trait Expire: Send + Sync {
    /// The deadline has passed. May come although the timer was cancelled a moment before.
    fn expire(&self);
}

/// Names a timer: its deadline and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId(u64, u64);

/// Targets by deadline, those of one deadline in the order in which they came.
struct Timers<T> {
    by_deadline: BTreeMap<TimerId, T>,
    next: u64,
    /// The warden is at it, and looks at the earliest deadline afterwards.
    running: bool,
}

impl<T> Timers<T> {
    const fn new() -> Timers<T> {
        Timers { by_deadline: BTreeMap::new(), next: 1, running: false }
    }

    /// The new timer, and whether the warden has to be told of it.
    fn add(&mut self, deadline: u64, target: T) -> (TimerId, bool) {
        let id = TimerId(deadline, self.next);
        self.next = self.next.wrapping_add(1).max(1);
        self.by_deadline.insert(id, target);
        (id, !self.running && self.by_deadline.keys().next() == Some(&id))
    }

    fn next_deadline(&self) -> Option<u64> {
        self.by_deadline.keys().next().map(|id| id.0)
    }

    /// Takes out what is due, the earliest first.
    fn take_due(&mut self, now: u64) -> BTreeMap<TimerId, T> {
        if self.next_deadline().is_none_or(|earliest| earliest > now) {
            return BTreeMap::new();
        }
        let later = now
            .checked_add(1)
            .map(|first| self.by_deadline.split_off(&TimerId(first, 0)))
            .unwrap_or_default();
        core::mem::replace(&mut self.by_deadline, later)
    }
}

/// Timers do not keep alive what they tell: who goes, goes, and takes its timer out when dropped.
type Target = Weak<dyn Expire>;

static TIMERS: BootCell<Box<Mutex<Timers<Target>>>> = BootCell::new();
static WAKE: BootCell<fn()> = BootCell::new();

/// Sets up; `wake` makes the warden look at the earliest deadline again, and must not block. Called once, at boot.
pub fn set_wake(wake: fn()) {
    TIMERS.set(Box::new(Mutex::new(Timers::new())));
    WAKE.set(wake);
}

/// Adds a timer for `deadline` (`CLOCK_MONOTONIC`, ns). It does not keep `target` alive.
pub fn add<T: Expire + 'static>(deadline: u64, target: Arc<T>) -> TimerId {
    let Some(timers) = TIMERS.get() else { return TimerId(deadline, 0) };
    let target: Arc<dyn Expire> = target;
    let (id, tell) = timers.lock().add(deadline, Arc::downgrade(&target));
    if tell && let Some(wake) = WAKE.get() {
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
    TIMERS.get().and_then(|timers| timers.lock().next_deadline())
}

/// Tells everyone whose deadline has passed. The warden asks for [`next_deadline`] afterwards.
pub fn run(now: u64) {
    let Some(timers) = TIMERS.get() else { return };
    let due: Vec<Target> = {
        let mut timers = timers.lock();
        timers.running = true;
        timers.take_due(now).into_values().collect()
    };
    for target in due {
        if let Some(target) = target.upgrade() {
            target.expire();
        }
    }
    timers.lock().running = false;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_out_in_the_order_of_deadlines() {
        let mut timers = Timers::new();
        for (deadline, name) in [(30, "c"), (10, "a"), (20, "b"), (10, "a2"), (40, "d")] {
            timers.add(deadline, name);
        }
        assert_eq!(timers.next_deadline(), Some(10));
        assert!(timers.take_due(9).is_empty());
        assert_eq!(timers.take_due(30).into_values().collect::<Vec<_>>(), ["a", "a2", "b", "c"]);
        assert_eq!(timers.next_deadline(), Some(40));
        assert_eq!(timers.take_due(u64::MAX).len(), 1);
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn the_warden_is_told_only_of_an_earlier_deadline() {
        let mut timers = Timers::new();
        assert!(timers.add(20, ()).1);
        assert!(!timers.add(20, ()).1);
        assert!(!timers.add(30, ()).1);
        let (first, told) = timers.add(10, ());
        assert!(told);
        timers.by_deadline.remove(&first);
        timers.running = true;
        assert!(!timers.add(5, ()).1);
    }
}
