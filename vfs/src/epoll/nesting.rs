//! Epolls in epolls: no circles, and no chain of more than five (epoll_ctl(2) `ELOOP`).
//!
//! News travel up such a chain within one call, so its length also bounds the kernel stack. Measured on Linux 6.18: five are
//! allowed and six are not, in whatever order the chain is made.

use super::Epoll;
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hashbrown::HashMap;
use kernel::sync::{BootCell, Mutex, MutexGuard};

/// Epolls in a chain.
const MAX_CHAIN: usize = 5;

/// Keeps two threads from making a circle together. Stands above the interest lists.
static NESTING: BootCell<Box<Mutex<()>>> = BootCell::new();

/// Sets up. Called once, at boot.
pub fn init() {
    NESTING.set(Box::new(Mutex::new(())));
}

/// Checks that `inner` may be added to `outer`: `ELOOP`. Until the guard goes, no other epoll is nested.
pub fn check(outer: &Epoll, inner: &Epoll) -> Result<MutexGuard<'static, ()>> {
    let guard = NESTING.get().ok_or(Errno::ENOMEM)?.lock();
    let below = longest(inner, outer, Epoll::nested, &mut HashMap::new())?;
    let above = longest(outer, inner, Epoll::nesting, &mut HashMap::new())?;
    if below + above > MAX_CHAIN { Err(Errno::ELOOP) } else { Ok(guard) }
}

/// The number of epolls in the longest chain from `start` in one direction: `ELOOP` if it leads to `forbidden`. What is there
/// has no circles and is not deeper than allowed, so this comes to an end.
fn longest(
    start: &Epoll,
    forbidden: &Epoll,
    next: fn(&Epoll) -> Vec<Arc<Epoll>>,
    known: &mut HashMap<*const Epoll, usize>,
) -> Result<usize> {
    if let Some(&length) = known.get(&core::ptr::from_ref(start)) {
        return Ok(length);
    }
    let mut most = 0;
    for other in next(start) {
        if core::ptr::eq(&*other, forbidden) {
            return Err(Errno::ELOOP);
        }
        most = most.max(longest(&other, forbidden, next, known)?);
    }
    known.insert(start, most + 1);
    Ok(most + 1)
}
