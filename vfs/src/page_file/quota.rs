//! What the files of one filesystem may use together.

use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

/// What the files of a filesystem may use together.
pub struct Quota {
    limit: u64,
    used: AtomicU64,
}

impl Quota {
    /// At most so many pages.
    pub fn new(pages: u64) -> Arc<Quota> {
        Arc::new(Quota { limit: pages, used: AtomicU64::new(0) })
    }

    /// Pages at most, and in use.
    pub fn pages(&self) -> (u64, u64) {
        (self.limit, self.used.load(Ordering::Relaxed))
    }

    pub(super) fn charge(&self, pages: u64) -> Result<()> {
        let fits = |used: u64| used.checked_add(pages).filter(|&used| used <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map(|_| ())
            .map_err(|_| Errno::ENOSPC)
    }

    pub(super) fn refund(&self, pages: u64) {
        self.used.fetch_sub(pages, Ordering::Relaxed);
    }
}
