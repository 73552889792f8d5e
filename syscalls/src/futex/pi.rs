//! Locks with priority inheritance (`FUTEX_LOCK_PI` and relatives), as far as a kernel without priorities has them:
//! ownership is kept in the word as Linux keeps it, nobody's priority is raised, and who asks first is not always served
//! first.
//!
//! Waiters sleep on the host's futex of the word itself, so that a lock in shared memory works between processes that
//! have it at different addresses. Always the shared kind of futex: a robust lock's dead owner must find its waiters
//! without knowing which kind they used.

use crate::{Errno, Result};
use kernel::task::lock_table;
use kernel::time;
use kernel::uaccess;
use trap_handler::copy;

const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const TID_MASK: u32 = 0x3fff_ffff;

/// How often a waiter looks whether the owner has ended without a trace in the word (a lock that is not in a robust
/// list). Linux keeps a list of such locks with the owner; here the rare waiter pays.
const OWNER_LOOK_NS: u64 = 100_000_000;

/// What a thread that wants the lock does next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Writes this value, and has it.
    Take(u32),
    /// Writes this value, to be woken by the owner.
    Mark(u32),
    /// Sleeps while the word has this value.
    Wait(u32),
    /// Has it already.
    Deadlock,
}

/// `contended`: the thread has slept, and others may still.
fn step(word: u32, tid: u32, contended: bool) -> Step {
    let owner = word & TID_MASK;
    if owner == tid {
        return Step::Deadlock;
    }
    if owner == 0 {
        let waiters = if contended { WAITERS } else { word & WAITERS };
        return Step::Take(tid | waiters | (word & OWNER_DIED));
    }
    if word & WAITERS == 0 { Step::Mark(word | WAITERS) } else { Step::Wait(word) }
}

fn owner_lives(word: u32) -> bool {
    let owner = kernel::task::current().group.space.named((word & TID_MASK) as i32);
    owner.is_some_and(|owner| lock_table().is_ok_and(|table| table.task(owner).is_some()))
}

/// `FUTEX_TRYLOCK_PI`.
pub(super) fn try_lock(tid: u32, address: u64) -> Result<u64> {
    let mut word = copy::load_u32_user(address)?;
    loop {
        let Step::Take(new) = step(word, tid, false) else {
            return Err(match word & TID_MASK {
                owner if owner == tid => Errno::EDEADLK,
                _ if !owner_lives(word) => Errno::ESRCH,
                _ => Errno::EAGAIN,
            });
        };
        let seen = uaccess::compare_exchange_u32(address, word, new)?;
        if seen == word {
            return Ok(0);
        }
        word = seen;
    }
}

/// `FUTEX_LOCK_PI`, with a deadline in `CLOCK_MONOTONIC`. `contended`: the thread was requeued here.
pub(super) fn lock(tid: u32, address: u64, deadline: Option<u64>, mut contended: bool) -> Result<u64> {
    // An owner that ended before anybody waited is the program's mistake; later it leaves the lock to a waiter.
    let mut waited = contended;
    let mut word = copy::load_u32_user(address)?;
    loop {
        let (wanted, taken) = match step(word, tid, contended) {
            Step::Deadlock => return Err(Errno::EDEADLK),
            Step::Take(new) => (new, true),
            Step::Mark(new) => (new, false),
            Step::Wait(word) => (word, false),
        };
        if wanted != word {
            let seen = uaccess::compare_exchange_u32(address, word, wanted)?;
            if seen != word {
                word = seen;
                continue;
            }
        }
        if taken {
            return Ok(0);
        }
        if !owner_lives(wanted) {
            let now = copy::load_u32_user(address)?;
            if now != wanted {
                word = now;
                continue;
            }
            if !waited {
                return Err(Errno::ESRCH);
            }
            let left = tid | WAITERS | OWNER_DIED;
            word = uaccess::compare_exchange_u32(address, wanted, left)?;
            if word == wanted {
                return Ok(0);
            }
            continue;
        }
        waited = true;
        let now = time::monotonic();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Errno::ETIMEDOUT);
        }
        let look = now.saturating_add(OWNER_LOOK_NS);
        match super::wait_shared(address, wanted, deadline.map_or(look, |deadline| deadline.min(look))) {
            // Woken by an owner: others may sleep still.
            Ok(_) => contended = true,
            Err(Errno::EAGAIN | Errno::ETIMEDOUT) => {}
            Err(Errno::EINTR) => return Err(Errno::ERESTARTNOINTR),
            Err(errno) => return Err(errno),
        }
        word = copy::load_u32_user(address)?;
    }
}

/// `FUTEX_UNLOCK_PI`.
pub(super) fn unlock(tid: u32, address: u64) -> Result<u64> {
    let mut word = copy::load_u32_user(address)?;
    loop {
        if word & TID_MASK != tid {
            return Err(Errno::EPERM);
        }
        // The one that is woken sets the waiters' bit again.
        let seen = uaccess::compare_exchange_u32(address, word, 0)?;
        if seen == word {
            if word & WAITERS != 0 {
                super::wake_shared(address);
            }
            return Ok(0);
        }
        word = seen;
    }
}

/// Makes the owner of a lock, if it has one, come to the kernel when it unlocks: somebody is about to be requeued to it.
pub(super) fn mark_waited_for(address: u64) -> Result<()> {
    let mut word = copy::load_u32_user(address)?;
    while word & TID_MASK != 0 && word & WAITERS == 0 {
        let seen = uaccess::compare_exchange_u32(address, word, word | WAITERS)?;
        if seen == word {
            break;
        }
        word = seen;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_lock_is_taken_with_the_thread_id() {
        assert_eq!(step(0, 7, false), Step::Take(7));
        assert_eq!(step(0, 7, true), Step::Take(7 | WAITERS));
        assert_eq!(step(WAITERS, 7, false), Step::Take(7 | WAITERS));
    }

    #[test]
    fn who_takes_a_dead_owners_lock_learns_of_the_death() {
        assert_eq!(step(OWNER_DIED, 7, false), Step::Take(7 | OWNER_DIED));
        assert_eq!(step(OWNER_DIED | WAITERS, 7, true), Step::Take(7 | OWNER_DIED | WAITERS));
    }

    #[test]
    fn a_held_lock_is_marked_once_and_waited_for() {
        assert_eq!(step(9, 7, false), Step::Mark(9 | WAITERS));
        assert_eq!(step(9 | WAITERS, 7, false), Step::Wait(9 | WAITERS));
        assert_eq!(step(7 | WAITERS, 7, false), Step::Deadlock);
    }
}
