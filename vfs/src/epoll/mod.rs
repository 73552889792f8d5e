//! epoll(7).
//!
//! Each item listens on the queues of its file; news put the item on the ready list and wake a waiter. epoll_wait(2) looks at
//! that list alone and asks the files on it: those that are ready are reported, and go to its end if they are
//! level-triggered.
//!
//! Locks, in order: nesting, interest list; then those of files (inner epolls among them) and their wait queues; an item's
//! interest; the ready list; the epoll's own wait queues. No file is asked, and no reference to one is dropped, under any of
//! the epoll's own.

mod item;
mod nesting;
mod state;

pub use nesting::init;

use crate::anonymous::shared_attributes;
use crate::attributes::Attributes;
use crate::file::{FileOps, FileRef};
use crate::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use hashbrown::HashMap;
use item::{Item, Key, key};
use kernel::Short;
use kernel::poll::{PollEvents, PollTable};
use kernel::sync::Mutex;
use kernel::wait::{self, Ended, WaitQueue};
use linux_raw_sys::general as raw;
use state::{Interest, List};

/// Report once a change.
const EDGE: u32 = raw::EPOLLET;
/// Report once, then wait for `EPOLL_CTL_MOD`.
const ONE_SHOT: u32 = raw::EPOLLONESHOT;
/// Keep the system awake: nothing to do.
const WAKEUP: u32 = raw::EPOLLWAKEUP;
/// Wake one of several.
const EXCLUSIVE: u32 = raw::EPOLLEXCLUSIVE;
/// What may go with [`EXCLUSIVE`] (`EPOLLEXCLUSIVE_OK_BITS`).
const WITH_EXCLUSIVE: u32 =
    raw::EPOLLIN | raw::EPOLLOUT | raw::EPOLLERR | raw::EPOLLHUP | WAKEUP | EDGE | EXCLUSIVE;
/// Items before closed ones are looked for at all.
const FIRST_SWEEP: usize = 32;

/// An event as the program has it (`struct epoll_event`, packed).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// `EPOLL*` bits.
    pub events: u32,
    /// The program's own.
    pub data: u64,
}

/// The part that items know: it must not keep anything but items alive.
struct Ready {
    list: Mutex<List<Arc<Item>>>,
    /// epoll_wait(2).
    waiters: WaitQueue,
    /// poll(2) and epolls that this one is in.
    pollers: WaitQueue,
}

impl Ready {
    /// Something is left on the list: another waiter may take it.
    fn pass_on(&self) {
        if !self.waiters.is_empty() && !self.list.lock().is_empty() {
            self.waiters.wake(PollEvents::READABLE);
        }
    }
}

struct Registered {
    item: Arc<Item>,
    /// Listens on the file's queues as long as it lives.
    table: Option<PollTable>,
    /// The epoll behind the descriptor, if it is one.
    nested: Option<Weak<Epoll>>,
}

struct Items {
    map: HashMap<Key, Registered>,
    /// So many items, and those whose file was closed are looked for.
    sweep_at: usize,
}

impl Items {
    /// Takes out items whose file was closed everywhere. Done when their number has doubled, so that it does not count.
    fn sweep(&mut self) -> Vec<Registered> {
        if self.map.len() < self.sweep_at {
            return Vec::new();
        }
        let closed = |registered: &Registered| registered.item.file.strong_count() == 0;
        let gone: Vec<_> =
            self.map.extract_if(|_, registered| closed(registered)).map(|(_, gone)| gone).collect();
        self.sweep_at = (self.map.len() * 2).max(FIRST_SWEEP);
        gone
    }
}

/// An epoll instance.
pub struct Epoll {
    items: Mutex<Items>,
    ready: Arc<Ready>,
    /// Epolls that this one was added to; some may have dropped it since.
    outer: Mutex<Vec<Weak<Epoll>>>,
    this: Weak<Epoll>,
}

impl Epoll {
    /// Without items.
    pub fn new() -> Arc<Epoll> {
        let ready =
            Ready { list: Mutex::new(List::new()), waiters: WaitQueue::new(), pollers: WaitQueue::new() };
        Arc::new_cyclic(|this| Epoll {
            items: Mutex::new(Items { map: HashMap::new(), sweep_at: FIRST_SWEEP }),
            ready: Arc::new(ready),
            outer: Mutex::default(),
            this: this.clone(),
        })
    }

    /// `EPOLL_CTL_ADD`: `EEXIST`, `EPERM` for files without readiness, `EINVAL` for itself and for what `EPOLLEXCLUSIVE` does not
    /// go with, `ELOOP` for epolls in a circle or too deep, `ENOMEM`.
    pub fn add(&self, fd: i32, file: &FileRef, event: Event) -> Result<()> {
        if !file.ops.pollable() {
            return Err(Errno::EPERM);
        }
        let inner = file.ops.as_any().downcast_ref::<Epoll>();
        if inner.is_some_and(|inner| core::ptr::eq(inner, self)) {
            return Err(Errno::EINVAL);
        }
        let exclusive = event.events & EXCLUSIVE != 0;
        if exclusive && (inner.is_some() || event.events & !WITH_EXCLUSIVE != 0) {
            return Err(Errno::EINVAL);
        }
        let item = Item::new(key(fd, file), file, Interest::new(event), &self.ready);
        {
            let _guard = inner.map(|inner| nesting::check(self, inner)).transpose()?;
            self.register(&item, inner)?;
        }
        let mut table =
            if exclusive { PollTable::exclusive(item.clone()) } else { PollTable::new(item.clone()) };
        let now = file.ops.poll(&mut table);
        self.listen(&item, table);
        item.news(now);
        Ok(())
    }

    fn register(&self, item: &Arc<Item>, inner: Option<&Epoll>) -> Result<()> {
        let gone = {
            let mut items = self.items.lock();
            if items.map.contains_key(&item.key) {
                return Err(Errno::EEXIST);
            }
            let gone = items.sweep();
            items.map.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            self.ready.list.lock().reserve(items.map.len() + 1).map_err(|_| Errno::ENOMEM)?;
            let nested = inner.map(|inner| inner.this.clone());
            items.map.insert(item.key, Registered { item: item.clone(), table: None, nested });
            gone
        };
        for registered in gone {
            registered.item.remove();
        }
        if let Some(inner) = inner {
            let mut outer = inner.outer.lock();
            outer.retain(|other| other.strong_count() > 0 && !core::ptr::eq(other.as_ptr(), self));
            outer.push(self.this.clone());
        }
        Ok(())
    }

    /// Keeps an item's listeners, unless the item was deleted meanwhile.
    fn listen(&self, item: &Arc<Item>, table: PollTable) {
        let mut items = self.items.lock();
        let registered = items.map.get_mut(&item.key).filter(|other| Arc::ptr_eq(&other.item, item));
        let unused = match registered {
            Some(registered) => registered.table.replace(table),
            None => Some(table),
        };
        drop(items);
        drop(unused);
    }

    /// `EPOLL_CTL_MOD`: `ENOENT`, `EINVAL` for `EPOLLEXCLUSIVE`.
    pub fn modify(&self, fd: i32, file: &FileRef, event: Event) -> Result<()> {
        if event.events & EXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        let item = self.items.lock().map.get(&key(fd, file)).map(|registered| registered.item.clone());
        let item = item.ok_or(Errno::ENOENT)?;
        {
            let mut interest = item.interest.lock();
            if interest.exclusive() {
                return Err(Errno::EINVAL);
            }
            interest.set(event);
        }
        item.news(file.ops.poll(&mut PollTable::none()));
        Ok(())
    }

    /// `EPOLL_CTL_DEL`: `ENOENT`.
    pub fn delete(&self, fd: i32, file: &FileRef) -> Result<()> {
        let removed = self.items.lock().map.remove(&key(fd, file));
        removed.ok_or(Errno::ENOENT)?.item.remove();
        Ok(())
    }

    /// The file of an item was closed everywhere.
    fn forget(&self, item: &Arc<Item>) {
        let gone = {
            let mut items = self.items.lock();
            let same = items.map.get(&item.key).is_some_and(|other| Arc::ptr_eq(&other.item, item));
            if same { items.map.remove(&item.key) } else { None }
        };
        drop(gone);
        item.remove();
    }

    /// Epolls in this one.
    fn nested(&self) -> Vec<Arc<Epoll>> {
        let items = self.items.lock();
        items.map.values().filter_map(|registered| registered.nested.as_ref()?.upgrade()).collect()
    }

    /// Epolls that this one is in.
    fn nesting(&self) -> Vec<Arc<Epoll>> {
        let mut outer: Vec<_> = self.outer.lock().iter().filter_map(Weak::upgrade).collect();
        outer.retain(|outer| outer.nested().iter().any(|nested| core::ptr::eq(&**nested, self)));
        outer
    }

    /// Asks files on the ready list, once each, until `max` events are there.
    fn collect(&self, max: usize) -> Short<Event> {
        let mut events = Short::new();
        let round = self.ready.list.lock().round();
        while events.len() < max {
            let next = self.ready.list.lock().pop(round);
            let Some((_, item)) = next else { break };
            // From here on news queue it again; the file is asked after that, so none is missed.
            item.interest.lock().taken();
            let Some(now) = item.ask() else {
                self.forget(&item);
                continue;
            };
            let mut interest = item.interest.lock();
            let (event, again) = interest.report(now);
            let refused = if again { self.ready.list.lock().push(item.clone()) } else { None };
            drop(interest);
            drop(refused);
            events.extend(event);
        }
        events
    }

    /// epoll_wait(2): up to `max` events; none when the deadline (`CLOCK_MONOTONIC`, ns; 0 asks only) has passed. `EINTR`.
    pub fn wait(&self, max: usize, deadline: Option<u64>) -> Result<Short<Event>> {
        let look = || Some(self.collect(max)).filter(|events| !events.is_empty());
        let outcome = match look() {
            Some(events) => Ok(events),
            None if deadline == Some(0) => Ok(Short::new()),
            None => wait::until_exclusive(&self.ready.waiters, deadline, look),
        };
        self.ready.pass_on();
        match outcome {
            Err(Ended::TimedOut) => Ok(Short::new()),
            Err(Ended::Interrupted) => Err(Errno::EINTR),
            Ok(events) => Ok(events),
        }
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        let listed = self.ready.list.lock().close();
        // Items and list refer to each other: both are emptied here.
        let items = core::mem::take(&mut self.items.get_mut().map);
        drop((listed, items));
    }
}

impl FileOps for Epoll {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn poll(&self, table: &mut PollTable) -> PollEvents {
        table.add(&self.ready.pollers);
        let round = self.ready.list.lock().round();
        loop {
            let next = self.ready.list.lock().pop(round);
            let Some((number, item)) = next else { return PollEvents::empty() };
            item.interest.lock().taken();
            let Some(now) = item.ask() else {
                self.forget(&item);
                continue;
            };
            let mut interest = item.interest.lock();
            let (ready, back) = interest.peek(now);
            let refused = if back { self.ready.list.lock().put_back(number, item.clone()) } else { None };
            drop(interest);
            drop(refused);
            if ready {
                // A waiter may have come upon the list while the item was off it.
                self.ready.pass_on();
                return PollEvents::READABLE;
            }
        }
    }

    fn pollable(&self) -> bool {
        true
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(shared_attributes())
    }

    fn describe(&self) -> String {
        "anon_inode:[eventpoll]".into()
    }

    fn fdinfo(&self) -> String {
        let mut text = String::new();
        for registered in self.items.lock().map.values() {
            if registered.item.file.strong_count() > 0 {
                let Event { events, data } = registered.item.interest.lock().event();
                let fd = registered.item.key.0;
                text.push_str(&format!("tfd: {fd:8} events: {events:8x} data: {data:16x}\n"));
            }
        }
        text
    }
}
