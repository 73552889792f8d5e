//! Readiness of host descriptors: the warden polls for everyone and wakes the queues.
//!
//! A [`Watch`] is armed with the events that somebody waits for; the warden puts all armed watches into its own ppoll(2)
//! and tells their queues. An event disarms what it reported, so that a file nobody reads does not keep the warden busy:
//! whoever looks at the file's state again arms it again.
//!
//! The list of watches is a wait-queue-level lock in the lock order.

use crate::poll::{PollEvents, PollTable};
use crate::sync::{BootCell, Mutex};
use crate::wait::WaitQueue;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general as raw;
use trap_handler::host;

struct Registry {
    eventfd: i32,
    watches: Mutex<Vec<Weak<Watch>>>,
}

static REGISTRY: BootCell<Box<Registry>> = BootCell::new();

/// Sets up the list. `eventfd` is a host eventfd in the warden's poll set (or -1 when there is no warden that polls).
/// Called once, at boot.
pub fn init(eventfd: i32) {
    REGISTRY.set(Box::new(Registry { eventfd, watches: Mutex::new(Vec::new()) }));
}

/// Makes the warden look at its poll set again: writes to its eventfd.
pub fn wake_warden() {
    if let Some(registry) = REGISTRY.get()
        && registry.eventfd >= 0
    {
        let one = 1u64.to_ne_bytes();
        // EAGAIN: the counter is full, so the warden is to wake anyway.
        let _ = host::write(registry.eventfd, one.as_slice().into());
    }
}

/// Interest in the readiness of one host descriptor.
pub struct Watch {
    fd: i32,
    queue: WaitQueue,
    armed: AtomicU32,
}

impl Watch {
    /// A watch on `fd`, which stays open as long as the watch lives. Nothing is armed yet.
    pub fn new(fd: i32) -> Arc<Watch> {
        Watch::on(fd, WaitQueue::new())
    }

    /// As [`Self::new`], for a file that has a queue already.
    pub fn on(fd: i32, queue: WaitQueue) -> Arc<Watch> {
        let watch = Arc::new(Watch { fd, queue, armed: AtomicU32::new(0) });
        if let Some(registry) = REGISTRY.get() {
            let mut watches = registry.watches.lock();
            watches.retain(|other| other.strong_count() > 0);
            watches.push(Arc::downgrade(&watch));
        }
        watch
    }

    /// Woken when something armed has come about.
    pub fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    /// Asks to be told once of each of `events`; errors and hang-ups are always told.
    pub fn arm(&self, events: PollEvents) {
        let wanted = events.union(PollEvents::ALWAYS).bits();
        if self.armed.fetch_or(wanted, Ordering::SeqCst) & wanted != wanted {
            wake_warden();
        }
    }

    /// What the descriptor is ready for right now.
    pub fn ready(&self, events: PollEvents) -> PollEvents {
        let revents = host::poll_now(self.fd, events.bits() as i16);
        PollEvents::from_bits_truncate(u32::from(revents as u16))
    }

    /// Those who listen, if any, are to hear when `events` come about (again).
    pub fn arm_for_listeners(&self, events: PollEvents) {
        if !self.queue.is_empty() && !events.is_empty() {
            self.arm(events);
        }
    }

    /// A file's `poll`: what it is ready for; who listens through `table` hears of what it is not.
    pub fn poll(&self, table: &mut PollTable) -> PollEvents {
        table.add(&self.queue);
        let asked = PollEvents::READABLE | PollEvents::WRITABLE | PollEvents::PRI | PollEvents::RDHUP;
        let ready = self.ready(asked);
        // The first round has put listeners on the queue; later rounds come with a table that adds nothing.
        if !ready.intersects(PollEvents::ALWAYS) {
            self.arm_for_listeners((PollEvents::IN | PollEvents::OUT).difference(ready));
            // What came about between the look and the arming is seen by the warden: its poll is level-triggered.
        }
        ready
    }

    /// Closes the descriptor, of which this watch was the last user. A poll of the warden's that has it keeps the host's file
    /// open (and a connection from ending) until it comes back.
    pub fn close(&self) {
        let armed = self.armed.swap(0, Ordering::SeqCst) != 0;
        let _ = host::close(self.fd);
        if armed {
            wake_warden();
        }
    }

    /// What is reported was told: `revents` of ppoll(2).
    fn fired(&self, revents: PollEvents) {
        let disarmed = if revents.intersects(PollEvents::ALWAYS) { !0 } else { revents.bits() };
        let left = self.armed.fetch_and(!disarmed, Ordering::SeqCst) & !disarmed;
        if left == PollEvents::ALWAYS.bits() {
            // Nothing is asked for but what cannot be left out: leave the poll set.
            let _ = self.armed.compare_exchange(left, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
        self.queue.wake_all(revents);
    }
}

fn live() -> Vec<Arc<Watch>> {
    // The references are dropped by the caller, after the lock: the last one frees memory only.
    REGISTRY
        .get()
        .map_or_else(Vec::new, |registry| registry.watches.lock().iter().filter_map(Weak::upgrade).collect())
}

/// Adds every armed watch to the warden's poll set.
pub fn collect(set: &mut Vec<raw::pollfd>) {
    for watch in live() {
        let armed = watch.armed.load(Ordering::SeqCst);
        if armed != 0 {
            set.push(raw::pollfd { fd: watch.fd, events: armed as i16, revents: 0 });
        }
    }
}

/// Tells the watches what ppoll(2) reported; entries that are no watch's are ignored.
pub fn dispatch(set: &[raw::pollfd]) {
    if set.iter().all(|entry| entry.revents == 0) {
        return;
    }
    let reported: Vec<&raw::pollfd> = set.iter().filter(|entry| entry.revents != 0).collect();
    for watch in live() {
        let revents = reported
            .iter()
            .filter(|entry| entry.fd == watch.fd)
            .fold(0, |all, entry| all | u32::from(entry.revents as u16));
        let revents = PollEvents::from_bits_truncate(revents);
        if !revents.is_empty() && watch.armed.load(Ordering::SeqCst) != 0 {
            watch.fired(revents);
        }
    }
}
