//! epoll(7).
//!
//! Each item listens on the queues of its file; news puts the item on the ready list and wakes the waiters. epoll_wait looks only
//! at that list. An item knows its file weakly: when the last descriptor closes, the item goes.

use crate::attributes::Attributes;
use crate::file::{FileOps, FileRef, OpenFile};
use crate::pipe::anonymous_attributes;
use crate::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};
use hashbrown::HashMap;
use kernel::poll::{PollEvents, PollTable};
use kernel::sync::Mutex;
use kernel::wait::{self, Ended, WaitQueue, Wake};

/// Report once a change (`EPOLLET`).
const EDGE: u32 = 1 << 31;
/// Report once, then wait for `EPOLL_CTL_MOD` (`EPOLLONESHOT`).
const ONE_SHOT: u32 = 1 << 30;
/// Wake one of several (`EPOLLEXCLUSIVE`).
const EXCLUSIVE: u32 = 1 << 28;
/// Epolls in epolls, at most (`EP_MAX_NESTS`).
const MAX_DEPTH: usize = 4;

/// An event as the program has it (`struct epoll_event`, packed).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// `EPOLL*` bits.
    pub events: u32,
    /// The program's own.
    pub data: u64,
}

/// A descriptor number and the open file behind it.
type Key = (i32, usize);

struct Item {
    file: Weak<OpenFile>,
    settings: Mutex<Event>,
    /// On the ready list.
    queued: AtomicBool,
    epoll: Weak<Epoll>,
    key: Key,
    this: Weak<Item>,
}

impl Wake for Item {
    fn wake(&self, _events: PollEvents) {
        if let (Some(epoll), Some(this)) = (self.epoll.upgrade(), self.this.upgrade()) {
            epoll.enqueue(&this);
        }
    }
}

struct Registered {
    item: Arc<Item>,
    /// Listens on the file's queues as long as it lives.
    _table: PollTable,
}

/// An epoll instance.
pub struct Epoll {
    items: Mutex<HashMap<Key, Registered>>,
    ready: Mutex<VecDeque<Arc<Item>>>,
    queue: WaitQueue,
    this: Weak<Epoll>,
}

fn key(fd: i32, file: &FileRef) -> Key {
    (fd, Arc::as_ptr(file) as usize)
}

impl Epoll {
    /// Without items.
    pub fn new() -> Arc<Epoll> {
        Arc::new_cyclic(|this| Epoll {
            items: Mutex::default(),
            ready: Mutex::default(),
            queue: WaitQueue::new(),
            this: this.clone(),
        })
    }

    fn enqueue(&self, item: &Arc<Item>) {
        if !item.queued.swap(true, Ordering::SeqCst) {
            self.ready.lock().push_back(item.clone());
        }
        self.queue.wake(PollEvents::READABLE);
    }

    /// `EPOLL_CTL_ADD`: `EEXIST`, `EPERM` for files without readiness, `ELOOP` and `EINVAL` for epolls in a circle or too deep.
    pub fn add(&self, fd: i32, file: &FileRef, event: Event) -> Result<()> {
        if !file.ops.pollable() {
            return Err(Errno::EPERM);
        }
        if let Some(inner) = file.ops.as_any().downcast_ref::<Epoll>() {
            if event.events & EXCLUSIVE != 0 {
                return Err(Errno::EINVAL);
            }
            if core::ptr::eq(inner, self) {
                return Err(Errno::EINVAL);
            }
            if inner.reaches(self, 1) {
                return Err(Errno::ELOOP);
            }
        }
        const WITH_EXCLUSIVE: u32 = 0x1 | 0x4 | 0x8 | 0x10 | EDGE | EXCLUSIVE | (1 << 29);
        if event.events & EXCLUSIVE != 0 && event.events & !WITH_EXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        let key = key(fd, file);
        let item = Arc::new_cyclic(|this| Item {
            file: Arc::downgrade(file),
            settings: Mutex::new(event),
            queued: AtomicBool::new(false),
            epoll: self.this.clone(),
            key,
            this: this.clone(),
        });
        let mut table = if event.events & EXCLUSIVE != 0 {
            PollTable::exclusive(item.clone())
        } else {
            PollTable::new(item.clone())
        };
        let mut items = self.items.lock();
        self.forget_closed(&mut items);
        if items.contains_key(&key) {
            return Err(Errno::EEXIST);
        }
        let now = file.ops.poll(&mut table);
        items.insert(key, Registered { item: item.clone(), _table: table });
        drop(items);
        if !now.is_empty() {
            self.enqueue(&item);
        }
        Ok(())
    }

    /// `EPOLL_CTL_MOD`: `ENOENT`.
    pub fn modify(&self, fd: i32, file: &FileRef, event: Event) -> Result<()> {
        let item = self.items.lock().get(&key(fd, file)).map(|registered| registered.item.clone());
        let item = item.ok_or(Errno::ENOENT)?;
        if event.events & EXCLUSIVE != 0 || item.settings.lock().events & EXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        *item.settings.lock() = event;
        if !file.ops.poll(&mut PollTable::none()).is_empty() {
            self.enqueue(&item);
        }
        Ok(())
    }

    /// `EPOLL_CTL_DEL`: `ENOENT`.
    pub fn delete(&self, fd: i32, file: &FileRef) -> Result<()> {
        let removed = self.items.lock().remove(&key(fd, file));
        let Some(removed) = removed else { return Err(Errno::ENOENT) };
        self.ready.lock().retain(|item| !Arc::ptr_eq(item, &removed.item));
        Ok(())
    }

    /// Items whose file has been closed everywhere.
    fn forget_closed(&self, items: &mut HashMap<Key, Registered>) {
        items.retain(|_, registered| registered.item.file.strong_count() > 0);
    }

    /// Whether `target` is among the epolls below this one, or the nesting is too deep.
    fn reaches(&self, target: &Epoll, depth: usize) -> bool {
        if depth > MAX_DEPTH {
            return true;
        }
        let below: Vec<FileRef> =
            self.items.lock().values().filter_map(|registered| registered.item.file.upgrade()).collect();
        below.iter().any(|file| {
            file.ops
                .as_any()
                .downcast_ref::<Epoll>()
                .is_some_and(|inner| core::ptr::eq(inner, target) || inner.reaches(target, depth + 1))
        })
    }

    /// Takes up to `max` events off the ready list.
    fn collect(&self, max: usize) -> Vec<Event> {
        let mut events = Vec::new();
        let rounds = self.ready.lock().len();
        for _ in 0..rounds {
            if events.len() >= max {
                break;
            }
            let Some(item) = self.ready.lock().pop_front() else { break };
            item.queued.store(false, Ordering::SeqCst);
            let Some(file) = item.file.upgrade() else {
                let removed = self.items.lock().remove(&item.key);
                drop(removed);
                continue;
            };
            let settings = *item.settings.lock();
            let wanted = PollEvents::from_bits_truncate(settings.events) | PollEvents::ALWAYS;
            let now = file.ops.poll(&mut PollTable::none()) & wanted;
            // Disarmed after its one shot: only ERR and HUP bits are left, and those are not reported either.
            let armed = settings.events & 0x0fff_ffff != 0;
            if now.is_empty() || !armed {
                continue;
            }
            events.push(Event { events: now.bits(), data: settings.data });
            if settings.events & ONE_SHOT != 0 {
                item.settings.lock().events &= EDGE | ONE_SHOT | EXCLUSIVE | (1 << 29);
            } else if settings.events & EDGE == 0 && !item.queued.swap(true, Ordering::SeqCst) {
                // Level: it is looked at again next time, behind the others.
                self.ready.lock().push_back(item);
            }
        }
        events
    }

    /// epoll_wait(2): up to `max` events; none when the deadline (`CLOCK_MONOTONIC`, ns; 0 asks only) has passed. `EINTR`.
    pub fn wait(&self, max: usize, deadline: Option<u64>) -> Result<Vec<Event>> {
        let try_collect = || {
            let events = self.collect(max);
            (!events.is_empty()).then_some(events)
        };
        if let Some(events) = try_collect() {
            return Ok(events);
        }
        if deadline == Some(0) {
            return Ok(Vec::new());
        }
        match wait::until(&[&self.queue], deadline, try_collect) {
            Ok(events) => Ok(events),
            Err(Ended::TimedOut) => Ok(Vec::new()),
            Err(Ended::Interrupted) => Err(Errno::EINTR),
        }
    }
}

impl FileOps for Epoll {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn poll(&self, table: &mut PollTable) -> PollEvents {
        table.add(&self.queue);
        let candidates: Vec<Arc<Item>> = self.ready.lock().iter().cloned().collect();
        let ready = candidates.iter().any(|item| {
            let wanted = PollEvents::from_bits_truncate(item.settings.lock().events) | PollEvents::ALWAYS;
            item.file.upgrade().is_some_and(|file| file.ops.poll(&mut PollTable::none()).intersects(wanted))
        });
        if ready { PollEvents::READABLE } else { PollEvents::empty() }
    }

    fn pollable(&self) -> bool {
        true
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(anonymous_attributes(0o600, 1))
    }

    fn describe(&self) -> String {
        "anon_inode:[eventpoll]".into()
    }

    fn fdinfo(&self) -> String {
        let mut text = String::new();
        for registered in self.items.lock().values() {
            let settings = *registered.item.settings.lock();
            text.push_str(&format!(
                "tfd: {:8} events: {:8x} data: {:16x}\n",
                registered.item.key.0, settings.events, settings.data
            ));
        }
        text
    }
}
