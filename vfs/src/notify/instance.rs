//! An inotify instance: its watches, and the events that wait to be read.

use super::Mark;
use crate::anonymous::shared_attributes;
use crate::attributes::Attributes;
use crate::file::{FileOps, OpenFile};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};
use hashbrown::HashMap;
use kernel::poll::{PollEvents, PollTable};
use kernel::sync::{BootCell, Mutex, MutexGuard};
use kernel::task;
use kernel::uaccess::{self, Sink};
use kernel::wait::{self, WaitQueue};
use linux_raw_sys::general as raw;

/// What `/proc/sys/fs/inotify` states.
pub mod limits {
    /// Events of an instance that wait at most.
    pub const QUEUED_EVENTS: usize = 16384;
    /// Instances of a user at most.
    pub const USER_INSTANCES: u32 = 128;
    /// Watches of a user at most.
    pub const USER_WATCHES: u32 = 65536;
}

/// Bytes of a `struct inotify_event` without its name.
const HEADER: usize = size_of::<raw::inotify_event>();

/// What a user has.
#[derive(Default, Clone, Copy)]
struct Usage {
    instances: u32,
    watches: u32,
}

#[derive(Default)]
struct Shared {
    users: Mutex<HashMap<u32, Usage>>,
    cookie: AtomicU32,
}

static SHARED: BootCell<Box<Shared>> = BootCell::new();

/// Sets up what all instances share. Called once, at boot.
pub fn init() {
    SHARED.set(Box::default());
}

/// The number that the two halves of a rename have in common.
pub(super) fn new_cookie() -> u32 {
    SHARED.get().map_or(0, |shared| shared.cookie.fetch_add(1, Ordering::Relaxed).wrapping_add(1))
}

fn account<T>(uid: u32, change: impl FnOnce(&mut Usage) -> Result<T>) -> Result<T> {
    let shared = SHARED.get().ok_or(Errno::ENOSYS)?;
    let mut users = shared.users.lock();
    let usage = users.entry(uid).or_default();
    let result = change(usage);
    if usage.instances == 0 && usage.watches == 0 {
        users.remove(&uid);
    }
    result
}

#[derive(PartialEq, Eq)]
struct Event {
    wd: i32,
    mask: u32,
    cookie: u32,
    name: Box<[u8]>,
}

impl Event {
    /// Bytes that it takes when it is read: names are filled up to whole headers.
    fn size(&self) -> usize {
        if self.name.is_empty() { HEADER } else { HEADER + (self.name.len() + 1).next_multiple_of(HEADER) }
    }

    fn encode(&self) -> Vec<u8> {
        let size = self.size();
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(&self.wd.to_ne_bytes());
        bytes.extend_from_slice(&self.mask.to_ne_bytes());
        bytes.extend_from_slice(&self.cookie.to_ne_bytes());
        bytes.extend_from_slice(&((size - HEADER) as u32).to_ne_bytes());
        bytes.extend_from_slice(&self.name);
        bytes.resize(size, 0);
        bytes
    }
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    /// An overflow waits to be read.
    overflowed: bool,
    watches: BTreeMap<i32, Arc<Mark>>,
    last_wd: i32,
}

impl State {
    fn push(&mut self, event: Event) {
        // One that says the same as the last adds nothing (`inotify_merge`).
        let same = |last: &Event| (last.wd, last.mask, &last.name) == (event.wd, event.mask, &event.name);
        if self.events.back().is_some_and(same) {
            return;
        }
        if self.events.len() < limits::QUEUED_EVENTS {
            self.events.push_back(event);
        } else if !self.overflowed {
            self.overflowed = true;
            self.events.push_back(Event {
                wd: -1,
                mask: raw::IN_Q_OVERFLOW,
                cookie: 0,
                name: Box::default(),
            });
        }
    }
}

/// An inotify instance.
pub struct Inotify {
    this: Weak<Inotify>,
    uid: u32,
    state: Mutex<State>,
    adding: Mutex<()>,
    queue: WaitQueue,
}

impl Inotify {
    /// inotify_init(2): `EMFILE` at the user's limit.
    pub fn new() -> Result<Arc<Inotify>> {
        let uid = task::current().cred().uid;
        account(uid, |usage| {
            if usage.instances >= limits::USER_INSTANCES {
                return Err(Errno::EMFILE);
            }
            usage.instances += 1;
            Ok(())
        })?;
        Ok(Arc::new_cyclic(|this| Inotify {
            this: this.clone(),
            uid,
            state: Mutex::default(),
            adding: Mutex::new(()),
            queue: WaitQueue::new(),
        }))
    }

    pub(super) fn weak(&self) -> Weak<Inotify> {
        self.this.clone()
    }

    pub(super) fn lock_adding(&self) -> MutexGuard<'_, ()> {
        self.adding.lock()
    }

    /// A new watch descriptor for what `make` makes for it: `ENOSPC` at the user's limit.
    pub(super) fn register(&self, make: impl FnOnce(i32) -> Mark) -> Result<Arc<Mark>> {
        account(self.uid, |usage| {
            if usage.watches >= limits::USER_WATCHES {
                return Err(Errno::ENOSPC);
            }
            usage.watches += 1;
            Ok(())
        })?;
        let mut state = self.state.lock();
        // Round, and past those in use, as `idr_alloc_cyclic` goes.
        loop {
            state.last_wd = state.last_wd.checked_add(1).unwrap_or(1);
            if !state.watches.contains_key(&state.last_wd) {
                break;
            }
        }
        let mark = Arc::new(make(state.last_wd));
        state.watches.insert(mark.wd, mark.clone());
        Ok(mark)
    }

    /// Puts an event into the queue, unless the watch has ended.
    pub(super) fn queue(&self, mark: &Mark, mask: u32, cookie: u32, name: &[u8]) {
        {
            let mut state = self.state.lock();
            if !state.watches.get(&mark.wd).is_some_and(|own| core::ptr::eq(&**own, mark)) {
                return;
            }
            state.push(Event { wd: mark.wd, mask, cookie, name: name.into() });
        }
        self.queue.wake(PollEvents::READABLE);
    }

    /// Ends a watch, which is told with `IN_IGNORED`; whether there was one.
    pub fn remove(&self, wd: i32) -> bool {
        let removed = {
            let mut state = self.state.lock();
            let removed = state.watches.remove(&wd);
            if removed.is_some() {
                state.push(Event { wd, mask: raw::IN_IGNORED, cookie: 0, name: Box::default() });
            }
            removed
        };
        let Some(mark) = removed else { return false };
        self.forget(&mark);
        self.queue.wake(PollEvents::READABLE);
        true
    }

    fn forget(&self, mark: &Mark) {
        if let Some(tree) = mark.tree.upgrade() {
            tree.watches.remove(mark);
        }
        let _ = account(self.uid, |usage| {
            usage.watches = usage.watches.saturating_sub(1);
            Ok(())
        });
    }

    /// The first event, if it fits: `EINVAL` otherwise.
    fn take(&self, room: usize) -> Option<Result<Event>> {
        let mut state = self.state.lock();
        if state.events.front()?.size() > room {
            return Some(Err(Errno::EINVAL));
        }
        let event = state.events.pop_front()?;
        if event.mask == raw::IN_Q_OVERFLOW {
            state.overflowed = false;
        }
        Some(Ok(event))
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        let watches = core::mem::take(&mut self.state.get_mut().watches);
        watches.values().for_each(|mark| self.forget(mark));
        let _ = account(self.uid, |usage| {
            usage.instances = usage.instances.saturating_sub(1);
            Ok(())
        });
    }
}

impl FileOps for Inotify {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, file: &OpenFile, _offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        let mut total = 0;
        loop {
            let event = match self.take(sink.left()) {
                Some(Err(_)) | None if total > 0 => return Ok(total),
                Some(event) => event?,
                None if file.nonblocking() => return Err(Errno::EAGAIN),
                None => wait::until(&[&self.queue], None, || self.take(sink.left()))
                    .map_err(|ended| ended.errno(Errno::EINTR))??,
            };
            // As on Linux, an event that cannot be delivered for a fault is lost.
            let bytes = event.encode();
            if sink.put(&bytes)? < bytes.len() {
                return Err(Errno::EFAULT);
            }
            total += bytes.len();
        }
    }

    fn poll(&self, table: &mut PollTable) -> PollEvents {
        table.add(&self.queue);
        let empty = self.state.lock().events.is_empty();
        if empty { PollEvents::empty() } else { PollEvents::READABLE }
    }

    fn pollable(&self) -> bool {
        true
    }

    fn signals_io(&self) -> bool {
        true
    }

    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> Result<u64> {
        const FIONREAD: u32 = 0x541b;
        if command != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes: usize = self.state.lock().events.iter().map(Event::size).sum();
        uaccess::write(argument, &(bytes as i32)).map(|()| 0)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(shared_attributes())
    }

    fn describe(&self) -> String {
        "anon_inode:inotify".into()
    }

    fn fdinfo(&self) -> String {
        let state = self.state.lock();
        let line = |mark: &Arc<Mark>| {
            let (dev, ino) = mark.key;
            let (major, minor) = ((dev >> 8) & 0xfff, (dev & 0xff) | (dev >> 12 & 0xf_ff00));
            let mask = mark.mask.load(Ordering::Relaxed) & raw::IN_ALL_EVENTS;
            format!(
                "inotify wd:{:x} ino:{ino:x} sdev:{:x} mask:{mask:x} ignored_mask:0\n",
                mark.wd,
                major << 20 | minor
            )
        };
        state.watches.values().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(wd: i32, mask: u32, name: &[u8]) -> Event {
        Event { wd, mask, cookie: 0, name: name.into() }
    }

    #[test]
    fn names_are_filled_up_to_whole_headers() {
        assert_eq!(event(1, 2, b"").encode().len(), 16);
        assert_eq!(event(1, 2, b"a").encode().len(), 32);
        assert_eq!(event(1, 2, &[b'a'; 15]).encode().len(), 32);
        assert_eq!(event(1, 2, &[b'a'; 16]).encode().len(), 48);
        assert_eq!(event(1, 2, b"ab").encode().get(12..19), Some(&[16, 0, 0, 0, b'a', b'b', 0][..]));
    }

    #[test]
    fn equal_neighbours_are_one_and_a_full_queue_says_so_once() {
        let mut state = State::default();
        state.push(event(1, 2, b"a"));
        state.push(event(1, 2, b"a"));
        state.push(event(1, 2, b"b"));
        assert_eq!(state.events.len(), 2);
        for number in 0..limits::QUEUED_EVENTS as i32 * 2 {
            state.push(event(number, 4, b""));
        }
        assert_eq!(state.events.len(), limits::QUEUED_EVENTS + 1);
        assert_eq!(state.events.back().map(|event| event.mask), Some(raw::IN_Q_OVERFLOW));
    }
}
