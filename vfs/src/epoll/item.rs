//! One registration of a file with an epoll instance.

use super::Ready;
use super::state::{Interest, News};
use crate::file::{FileRef, OpenFile};
use alloc::sync::{Arc, Weak};
use kernel::poll::{PollEvents, PollTable};
use kernel::sync::Mutex;
use kernel::wait::{Told, Wake};

/// A descriptor number and the address of the open file behind it. An item holds its file weakly, which keeps the address
/// from being used again.
pub type Key = (i32, usize);

/// The key of a file.
pub fn key(fd: i32, file: &FileRef) -> Key {
    (fd, Arc::as_ptr(file) as usize)
}

/// Listens on the queues of its file. Owns nothing whose end takes a lock, because it is told under the lock of such a queue.
pub struct Item {
    pub key: Key,
    /// When the last descriptor has closed, the item goes.
    pub file: Weak<OpenFile>,
    /// Taken before the ready list.
    pub interest: Mutex<Interest>,
    ready: Arc<Ready>,
    this: Weak<Item>,
}

impl Item {
    pub fn new(key: Key, file: &FileRef, interest: Interest, ready: &Arc<Ready>) -> Arc<Item> {
        Arc::new_cyclic(|this| Item {
            key,
            file: Arc::downgrade(file),
            interest: Mutex::new(interest),
            ready: ready.clone(),
            this: this.clone(),
        })
    }

    /// `events` may have come about: on the ready list with it. Whether somebody waits who will hear of it.
    pub fn news(&self, events: PollEvents) -> bool {
        let refused = {
            let mut interest = self.interest.lock();
            match interest.news(events) {
                News::Ignore => return false,
                News::Known => None,
                News::Queue => self.this.upgrade().and_then(|this| self.ready.list.lock().push(this)),
            }
        };
        drop(refused);
        let heard = !self.ready.waiters.is_empty();
        self.ready.waiters.wake(PollEvents::READABLE);
        self.ready.pollers.wake_all(PollEvents::READABLE);
        heard
    }

    /// Takes it off the ready list for good.
    pub fn remove(&self) {
        let queued = self.interest.lock().remove();
        if queued {
            let gone = self.ready.list.lock().remove(|item| core::ptr::eq(&**item, self));
            drop(gone);
        }
    }

    /// What its file is ready for now, without listening. `None` when it has been closed.
    pub fn ask(&self) -> Option<PollEvents> {
        self.file.upgrade().map(|file| file.ops.poll(&mut PollTable::none()))
    }
}

impl Wake for Item {
    /// With `EPOLLEXCLUSIVE`: an epoll that nobody waits on leaves the news to others, too.
    fn tell(&self, events: PollEvents) -> Told {
        Told { taken: self.news(events), sleeps: false }
    }
}
