//! Resource limits of a process (getrlimit(2)).

use crate::sync::Mutex;
use core::sync::atomic::{AtomicU64, Ordering};

/// Resources that Linux knows (`RLIM_NLIMITS`).
const COUNT: usize = 16;

/// Soft and hard limits. `u64::MAX` is infinity, also for numbers that are no resource.
pub struct ResourceLimits {
    /// Read by itself without a lock: most calls that make something look at one.
    soft: [AtomicU64; COUNT],
    hard: [AtomicU64; COUNT],
    /// Held while a pair is read or changed.
    pair: Mutex<()>,
}

impl ResourceLimits {
    /// No limits.
    pub fn none() -> ResourceLimits {
        let infinite = || [const { AtomicU64::new(u64::MAX) }; COUNT];
        ResourceLimits { soft: infinite(), hard: infinite(), pair: Mutex::new(()) }
    }

    /// A child's, as they are now.
    pub fn copy(&self) -> ResourceLimits {
        let _pair = self.pair.lock();
        let values = |limits: &[AtomicU64; COUNT]| {
            limits.each_ref().map(|limit| AtomicU64::new(limit.load(Ordering::Relaxed)))
        };
        ResourceLimits { soft: values(&self.soft), hard: values(&self.hard), pair: Mutex::new(()) }
    }

    /// The soft limit of a resource (`RLIMIT_*`).
    pub fn soft(&self, resource: u32) -> u64 {
        self.soft.get(resource as usize).map_or(u64::MAX, |limit| limit.load(Ordering::Relaxed))
    }

    /// Soft and hard limit of a resource.
    pub fn get(&self, resource: u32) -> (u64, u64) {
        let _pair = self.pair.lock();
        let hard = self.hard.get(resource as usize).map_or(u64::MAX, |limit| limit.load(Ordering::Relaxed));
        (self.soft(resource), hard)
    }

    /// Sets both; rules are the caller's.
    pub fn set(&self, resource: u32, (soft, hard): (u64, u64)) {
        let _pair = self.pair.lock();
        for (limits, value) in [(&self.soft, soft), (&self.hard, hard)] {
            if let Some(limit) = limits.get(resource as usize) {
                limit.store(value, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_goes_its_own_way_and_unknown_resources_are_unlimited() {
        let limits = ResourceLimits::none();
        limits.set(7, (10, 20));
        limits.set(16, (1, 1));
        let copy = limits.copy();
        limits.set(7, (5, 5));
        assert_eq!((copy.get(7), copy.soft(7), limits.get(7)), ((10, 20), 10, (5, 5)));
        assert_eq!((limits.get(16), limits.soft(99)), ((u64::MAX, u64::MAX), u64::MAX));
    }
}
