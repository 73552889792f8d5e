//! Locks with priority inheritance (`FUTEX_LOCK_PI` and relatives), as far as a kernel without priorities has them: ownership
//! is handed over in the word, nobody's priority is raised.

use crate::table::Context;
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::vec::Vec;
use kernel::poll::PollEvents;
use kernel::sync::{BootCell, Mutex};
use kernel::task::lock_table;
use kernel::time;
use kernel::wait::{self, Ended, WaitQueue};
use trap_handler::copy;

const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const TID_MASK: u32 = 0x3fff_ffff;
const BUCKETS: usize = 64;

struct Buckets {
    queues: Vec<WaitQueue>,
    /// Number of waiters by address, to know whether the waiters bit must stay.
    waiting: Mutex<hashbrown::HashMap<u64, u32>>,
}

static QUEUES: BootCell<Box<Buckets>> = BootCell::new();

/// Sets up the wait queues. Called once, at boot.
pub fn init() {
    let queues = (0..BUCKETS).map(|_| WaitQueue::new()).collect();
    QUEUES.set(Box::new(Buckets { queues, waiting: Mutex::default() }));
}

fn buckets() -> Result<&'static Buckets> {
    QUEUES.get().map(|buckets| &**buckets).ok_or(Errno::ENOSYS)
}

fn queue(address: u64) -> Result<WaitQueue> {
    // The address alone: a collision between processes only wakes somebody in vain.
    let index = (address >> 2) as usize % BUCKETS;
    buckets()?.queues.get(index).cloned().ok_or(Errno::ENOSYS)
}

/// A lock whose owner died: its waiters look again.
pub(super) fn wake_after_death(address: u64) {
    if let Ok(queue) = queue(address) {
        queue.wake_all(PollEvents::IN);
    }
}

/// One try: `Some` when decided. Takes a free lock; otherwise marks it as waited for.
fn attempt(address: u64, tid: u32, mark: bool) -> Result<bool> {
    let mut seen = copy::load_u32_user(address)?;
    loop {
        let owner = seen & TID_MASK;
        if owner == tid {
            return Err(Errno::EDEADLK);
        }
        let wanted = if owner == 0 {
            tid | (seen & (WAITERS | OWNER_DIED))
        } else if mark && seen & WAITERS == 0 {
            seen | WAITERS
        } else {
            return Ok(false);
        };
        let now = copy::compare_exchange_u32_user(address, seen, wanted)?;
        if now != seen {
            seen = now;
        } else if owner == 0 {
            return Ok(true);
        } else {
            return Ok(false);
        }
    }
}

/// `FUTEX_TRYLOCK_PI`.
pub(super) fn try_lock(context: &Context<'_>, address: u64) -> Result<u64> {
    if attempt(address, context.thread.task.tid() as u32, false)? { Ok(0) } else { Err(Errno::EAGAIN) }
}

/// `FUTEX_LOCK_PI`, with an absolute deadline.
pub(super) fn lock(
    context: &Context<'_>,
    address: u64,
    deadline: Option<u64>,
    realtime: bool,
) -> Result<u64> {
    let tid = context.thread.task.tid() as u32;
    let deadline = match deadline {
        Some(at) if realtime => Some(time::monotonic().saturating_add(at.saturating_sub(time::realtime()))),
        other => other,
    };
    let queue = queue(address)?;
    let buckets = buckets()?;
    *buckets.waiting.lock().entry(address).or_insert(0) += 1;
    let outcome = wait::until(&[&queue], deadline, || match attempt(address, tid, true) {
        Ok(true) => Some(Ok(0)),
        Ok(false) => check_owner(address).err().map(Err),
        Err(errno) => Some(Err(errno)),
    });
    {
        let mut waiting = buckets.waiting.lock();
        if let Some(count) = waiting.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&address);
            }
        }
    }
    match outcome {
        Ok(result) => result,
        Err(Ended::TimedOut) => Err(Errno::ETIMEDOUT),
        Err(Ended::Interrupted) => Err(Errno::ERESTARTSYS),
    }
}

/// `ESRCH` for a lock that a thread holds which does not exist.
fn check_owner(address: u64) -> Result<()> {
    let word = copy::load_u32_user(address)?;
    let owner = word & TID_MASK;
    if owner == 0 || word & OWNER_DIED != 0 || lock_table()?.task(owner as i32).is_some() {
        Ok(())
    } else {
        Err(Errno::ESRCH)
    }
}

/// `FUTEX_UNLOCK_PI`.
pub(super) fn unlock(context: &Context<'_>, address: u64) -> Result<u64> {
    let tid = context.thread.task.tid() as u32;
    let mut seen = copy::load_u32_user(address)?;
    loop {
        if seen & TID_MASK != tid {
            return Err(Errno::EPERM);
        }
        let waited_for = buckets()?.waiting.lock().contains_key(&address);
        let now = copy::compare_exchange_u32_user(address, seen, if waited_for { WAITERS } else { 0 })?;
        if now == seen {
            queue(address)?.wake_all(PollEvents::OUT);
            return Ok(0);
        }
        seen = now;
    }
}
