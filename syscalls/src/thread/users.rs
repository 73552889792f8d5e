//! The host threads of an address space and the kernel stacks they run on.

use crate::{Errno, Result};
use alloc::collections::VecDeque;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::sync::Mutex;
use kernel::task::Task;
use trap_handler::stack;

/// The host threads that run in one address space. Outlives the record of the memory, which a thread gives up before its very
/// last steps.
pub struct Users {
    count: AtomicU32,
    stacks: Mutex<Stacks>,
}

/// Which kernel stack slots may be had. A new thread must find one without a look at all: there may be thousands.
struct Stacks {
    /// The first so many have memory.
    mapped: u64,
    /// A forked process inherits slots of its parent's other threads, which nobody uses in it; [`Stacks::own`] lies among them.
    inherited: Range<u64>,
    /// The slot of the thread that forked.
    own: u64,
    /// Slots whose threads are about to leave them or have done so, the longest ago first.
    left: VecDeque<u64>,
}

/// How many slots are looked at that a thread is about to leave, before another one is taken.
const LOOKS: usize = 2;

impl Stacks {
    fn take_left(&mut self) -> Option<u64> {
        for _ in 0..LOOKS {
            let slot = self.left.pop_front()?;
            // SAFETY: threads of this process have used it.
            if unsafe { stack::is_left(slot) } {
                return Some(slot);
            }
            self.left.push_back(slot);
        }
        None
    }

    fn take_inherited(&mut self) -> Option<u64> {
        self.inherited.find(|slot| *slot != self.own)
    }
}

impl Users {
    /// One thread, on the first slot.
    pub(super) fn one() -> Users {
        Users::with(1, 0..0, 0)
    }

    /// One thread, a copy of the calling one in a copy of its process.
    pub(super) fn for_fork(&self) -> Users {
        let mapped = self.stacks.lock().mapped;
        Users::with(mapped, 0..mapped, stack::current_slot())
    }

    fn with(mapped: u64, inherited: Range<u64>, own: u64) -> Users {
        let stacks = Stacks { mapped, inherited, own, left: VecDeque::new() };
        Users { count: AtomicU32::new(1), stacks: Mutex::new(stacks) }
    }

    /// A kernel stack for a new thread of the calling process, with a fresh block. The thread is counted from now on.
    pub fn enter(&self, task: &Task) -> Result<u64> {
        let mut stacks = self.stacks.lock();
        let fresh = stacks.mapped;
        let slot = match stacks.take_left().or_else(|| stacks.take_inherited()) {
            Some(slot) => slot,
            None if fresh < stack::SLOTS => fresh,
            None => return Err(Errno::EAGAIN),
        };
        // SAFETY: nobody uses the slot, and nobody else can take it.
        unsafe { stack::prepare(slot, slot < fresh, &task.state) }?;
        if slot == fresh {
            stacks.mapped += 1;
        }
        self.count.fetch_add(1, Ordering::SeqCst);
        Ok(slot)
    }

    /// The thread on `slot` is about to end, or was never started; whether it was the last.
    pub fn leave(&self, slot: u64) -> bool {
        self.stacks.lock().left.push_back(slot);
        self.count.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// A task more runs in the address space, on a host thread of another one's.
    pub fn join(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes [`Self::join`] back. The host thread's own task is still there.
    pub fn part(&self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether more than the calling thread runs.
    pub fn are_several(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 1
    }
}
