//! The one notion of readiness, for poll(2), select(2), epoll(7) and blocking calls alike.

use crate::wait::{WaitQueue, Wake};
use alloc::sync::Arc;
use alloc::vec::Vec;

bitflags::bitflags! {
    /// What a file is ready for: poll(2)'s bits, which are also epoll's.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct PollEvents: u32 {
        /// Data to read.
        const IN = 0x1;
        /// Exceptional condition.
        const PRI = 0x2;
        /// Room to write.
        const OUT = 0x4;
        /// Error (always reported).
        const ERR = 0x8;
        /// Hang-up (always reported).
        const HUP = 0x10;
        /// Not open (poll only).
        const NVAL = 0x20;
        /// As IN.
        const RDNORM = 0x40;
        /// Priority band data.
        const RDBAND = 0x80;
        /// As OUT.
        const WRNORM = 0x100;
        /// Priority band room.
        const WRBAND = 0x200;
        /// The peer shut down its writing half.
        const RDHUP = 0x2000;
    }
}

impl PollEvents {
    /// Readable, as files report it.
    pub const READABLE: PollEvents = PollEvents::IN.union(PollEvents::RDNORM);
    /// Writable, as files report it.
    pub const WRITABLE: PollEvents = PollEvents::OUT.union(PollEvents::WRNORM);
    /// What is reported whether asked for or not.
    pub const ALWAYS: PollEvents = PollEvents::ERR.union(PollEvents::HUP);
}

/// Puts one listener on the wait queues of the files that are asked; takes it off again when dropped.
#[derive(Default)]
pub struct PollTable {
    wake: Option<Arc<dyn Wake>>,
    exclusive: bool,
    deferred: bool,
    entries: Vec<(WaitQueue, u64)>,
}

impl PollTable {
    /// Only asks; nobody is told later.
    pub fn none() -> PollTable {
        PollTable::default()
    }

    /// `wake` is told of changes to every queue added.
    pub fn new(wake: Arc<dyn Wake>) -> PollTable {
        PollTable::with(wake, false, false)
    }

    /// As [`Self::new`], as an exclusive listener (`EPOLLEXCLUSIVE`).
    pub fn exclusive(wake: Arc<dyn Wake>) -> PollTable {
        PollTable::with(wake, true, false)
    }

    /// As [`Self::new`]; the listener is told without the queue's lock ([`WaitQueue::add_deferred`]).
    pub fn deferred(wake: Arc<dyn Wake>) -> PollTable {
        PollTable::with(wake, false, true)
    }

    fn with(wake: Arc<dyn Wake>, exclusive: bool, deferred: bool) -> PollTable {
        PollTable { wake: Some(wake), exclusive, deferred, entries: Vec::new() }
    }

    /// Called by a file's `poll`, before it looks at its state, for each queue that announces changes of it.
    pub fn add(&mut self, queue: &WaitQueue) {
        if let Some(wake) = &self.wake {
            let id = if self.deferred {
                queue.add_deferred(wake.clone())
            } else {
                queue.add(wake.clone(), self.exclusive)
            };
            self.entries.push((queue.clone(), id));
        }
    }

    /// Whether a listener is there (a file may save work otherwise).
    pub fn listens(&self) -> bool {
        self.wake.is_some()
    }

    /// Stops adding: the first round has put the listener everywhere.
    pub fn seal(&mut self) {
        self.wake = None;
    }
}

impl Drop for PollTable {
    fn drop(&mut self) {
        for (queue, id) in self.entries.drain(..) {
            queue.remove(id);
        }
    }
}
