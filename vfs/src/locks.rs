//! Locks on files: fcntl(2) record locks of processes and of open file descriptions, and flock(2).
//!
//! The locks of an inode are one object, found through its filesystem and kept by the descriptions that were used to lock. A
//! process is told from others by its descriptor table, as in Linux, so its record locks go when any of its descriptors for
//! the file is closed, and are not inherited by fork. Deadlocks are looked for among the record locks of one filesystem.
//!
//! Locks here: a filesystem's register, then a file's state, then the record of who waits.

use crate::file::{FileRef, OpenFile};
use crate::inode::Inode;
use crate::namespace::Tree;
use crate::table::FileTable;
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use hashbrown::HashMap;
use kernel::poll::PollEvents;
use kernel::sync::Mutex;
use kernel::task::{self, Pid};
use kernel::wait::{self, WaitQueue};
use linux_raw_sys::general as raw;

/// Last byte of a range that goes to the end of the file, however far that moves (`OFFSET_MAX`).
pub const TO_END: u64 = i64::MAX as u64;

/// Who holds a lock: a descriptor table or an open file description, by address. Neither dies while it holds one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Process(usize),
    Description(usize),
}

/// A lock on bytes `first..=last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    first: u64,
    last: u64,
    exclusive: bool,
    holder: Holder,
    /// `None` for a description's.
    pid: Option<Pid>,
}

#[derive(Default)]
struct State {
    records: Vec<Record>,
    /// flock(2): description, exclusive.
    whole: Vec<(usize, bool)>,
}

/// The locks of one inode.
pub(crate) struct FileLocks {
    state: Mutex<State>,
    changed: WaitQueue,
    home: Option<(Weak<Tree>, Arc<dyn Inode>)>,
}

/// The locks of one filesystem.
#[derive(Default)]
pub(crate) struct Register {
    files: Mutex<HashMap<usize, Weak<FileLocks>>>,
    count: AtomicU32,
    waits: Mutex<Vec<Wait>>,
}

/// A thread that waits for a process's record lock. It is noted and taken out with the file's state locked, so that it is there
/// only while `holder` has a lock that is in the way: another's search must not find a circle through a lock that was given up.
#[derive(Debug, Clone, Copy)]
struct Wait {
    tid: Pid,
    waiter: Holder,
    holder: Holder,
    /// Address of its [`FileLocks`].
    file: usize,
}

fn key(inode: &Arc<dyn Inode>) -> usize {
    Arc::as_ptr(inode).cast::<()>() as usize
}

impl Drop for FileLocks {
    fn drop(&mut self) {
        let Some((tree, inode)) = &self.home else { return };
        let Some(tree) = tree.upgrade() else { return };
        let mut files = tree.locks.files.lock();
        // Another may have taken its place.
        if files.get(&key(inode)).is_some_and(|other| other.strong_count() == 0) {
            files.remove(&key(inode));
        }
        tree.locks.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The locks of a file; makes the object unless `only_known`.
fn locks_of(file: &OpenFile, only_known: bool) -> Option<Arc<FileLocks>> {
    if let Some(locks) = file.locks.lock().as_ref() {
        return Some(locks.clone());
    }
    let new = |home| FileLocks { state: Mutex::default(), changed: WaitQueue::new(), home };
    let found = match &file.path {
        None if only_known => return None,
        None => Arc::new(new(None)),
        Some(path) => {
            let (tree, inode) = (path.dentry.tree(), path.inode());
            if only_known && tree.locks.count.load(Ordering::Acquire) == 0 {
                return None;
            }
            let mut files = tree.locks.files.lock();
            match files.get(&key(inode)).and_then(Weak::upgrade) {
                Some(found) => found,
                None if only_known => return None,
                None => {
                    let made = Arc::new(new(Some((Arc::downgrade(tree), inode.clone()))));
                    files.insert(key(inode), Arc::downgrade(&made));
                    tree.locks.count.fetch_add(1, Ordering::AcqRel);
                    made
                }
            }
        }
    };
    if only_known {
        return Some(found);
    }
    Some(file.locks.lock().get_or_insert(found).clone())
}

fn address<T>(thing: &T) -> usize {
    core::ptr::from_ref(thing) as usize
}

/// The first record that keeps `wanted` out.
fn conflict(records: &[Record], wanted: &Record) -> Option<Record> {
    let overlaps = |other: &&Record| {
        other.holder != wanted.holder
            && other.first <= wanted.last
            && wanted.first <= other.last
            && (other.exclusive || wanted.exclusive)
    };
    records.iter().filter(overlaps).min_by_key(|record| record.first).copied()
}

/// Gives a range of its holder a new state: that of `new`, or (`unlock`) none. What is left around it stays, and what touches
/// it and is of its kind is joined.
fn apply(records: &mut Vec<Record>, new: Record, unlock: bool) {
    let mut kept = Vec::with_capacity(records.len() + 2);
    let mut joined = new;
    for record in records.drain(..) {
        if record.holder != new.holder {
            kept.push(record);
            continue;
        }
        let touches =
            record.first <= new.last.saturating_add(1) && new.first <= record.last.saturating_add(1);
        if !unlock && touches && record.exclusive == new.exclusive {
            joined.first = joined.first.min(record.first);
            joined.last = joined.last.max(record.last);
            continue;
        }
        if record.first > new.last || record.last < new.first {
            kept.push(record);
            continue;
        }
        if record.first < new.first {
            kept.push(Record { last: new.first - 1, ..record });
        }
        if record.last > new.last {
            kept.push(Record { first: new.last + 1, ..record });
        }
    }
    if !unlock {
        kept.push(joined);
    }
    *records = kept;
}

/// Whether `holder` waits for `me`, over any number of others.
fn waits_for(waits: &[Wait], holder: Holder, me: Holder) -> bool {
    let mut seen = Vec::from([holder]);
    let mut index = 0;
    while let Some(&at) = seen.get(index) {
        if at == me {
            return true;
        }
        for wait in waits.iter().filter(|wait| wait.waiter == at) {
            if !seen.contains(&wait.holder) {
                seen.push(wait.holder);
            }
        }
        index += 1;
    }
    false
}

/// What a record lock is asked for: F_SETLK, F_OFD_SETLK and their kin.
#[derive(Debug, Clone, Copy)]
pub struct RecordRequest {
    /// First and last byte ([`TO_END`]), from [`range`].
    pub range: (u64, u64),
    /// `F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
    pub kind: u32,
    /// For the open file description and not for the process (`F_OFD_*`).
    pub description: bool,
    /// Wait until it can be had (`F_SETLKW`, `F_OFD_SETLKW`).
    pub wait: bool,
}

/// The bytes that a `struct flock` means; `position` and `size` are the file's. `EINVAL`, `EOVERFLOW`.
pub fn range(whence: u32, start: i64, length: i64, position: u64, size: u64) -> Result<(u64, u64)> {
    let base = match whence {
        raw::SEEK_SET => 0,
        raw::SEEK_CUR => position as i64,
        raw::SEEK_END => size as i64,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(start).ok_or(Errno::EOVERFLOW)?;
    let (first, last) = match length {
        0 => (start, i64::MAX),
        1.. => (start, start.checked_add(length - 1).ok_or(Errno::EOVERFLOW)?),
        _ => (start.checked_add(length).ok_or(Errno::EINVAL)?, start.checked_sub(1).ok_or(Errno::EINVAL)?),
    };
    match (u64::try_from(first), u64::try_from(last)) {
        (Ok(first), Ok(last)) => Ok((first, last)),
        _ => Err(Errno::EINVAL),
    }
}

fn record(table: &FileTable, file: &OpenFile, request: &RecordRequest) -> Record {
    let (holder, pid) = if request.description {
        (Holder::Description(address(file)), None)
    } else {
        (Holder::Process(address(table)), Some(task::current().group.tgid))
    };
    let (first, last) = request.range;
    Record { first, last, exclusive: request.kind == raw::F_WRLCK, holder, pid }
}

/// Takes or releases a record lock: `EAGAIN` if another holds it and the request does not wait, `EDEADLK`, `EBADF` if the file
/// is not open in the way that the kind needs, `EINVAL`.
pub fn set_record(table: &FileTable, file: &FileRef, request: &RecordRequest) -> Result<()> {
    match request.kind {
        raw::F_RDLCK if !file.readable() => return Err(Errno::EBADF),
        raw::F_WRLCK if !file.writable() => return Err(Errno::EBADF),
        raw::F_RDLCK | raw::F_WRLCK | raw::F_UNLCK => {}
        _ => return Err(Errno::EINVAL),
    }
    let unlock = request.kind == raw::F_UNLCK;
    let Some(locks) = locks_of(file, unlock) else { return Ok(()) };
    let wanted = record(table, file, request);
    let mut state = locks.state.lock();
    if unlock || conflict(&state.records, &wanted).is_none() {
        locks.give(&mut state, wanted, unlock);
    } else if request.wait {
        drop(state);
        wait_for_record(&locks, wanted)?;
    } else {
        return Err(Errno::EAGAIN);
    }
    // A range that was given up, or is only shared now.
    locks.changed.wake_all(PollEvents::all());
    Ok(())
}

/// Waits until the lock can be had, and takes it: `EDEADLK` if who has it waits for this process.
fn wait_for_record(locks: &FileLocks, wanted: Record) -> Result<()> {
    let tid = task::current().tid();
    let no_longer_waits = || locks.change_waits(|waits| waits.retain(|wait| wait.tid != tid));
    let ended = wait::until(&[&locks.changed], None, || {
        let mut state = locks.state.lock();
        no_longer_waits();
        match conflict(&state.records, &wanted) {
            Some(other) => locks.note_wait(tid, wanted.holder, other.holder).err().map(Err),
            None => {
                locks.give(&mut state, wanted, false);
                Some(Ok(()))
            }
        }
    });
    ended.unwrap_or_else(|ended| {
        no_longer_waits();
        Err(ended.errno(Errno::EAGAIN))
    })
}

impl FileLocks {
    /// Does something to the filesystem's record of who waits; what is on no filesystem has none.
    fn change_waits<T>(&self, action: impl FnOnce(&mut Vec<Wait>) -> T) -> Option<T> {
        let (tree, _) = self.home.as_ref()?;
        let tree = tree.upgrade()?;
        let mut waits = tree.locks.waits.lock();
        Some(action(&mut waits))
    }

    /// Thread `tid` of `waiter` will wait for `holder`: `EDEADLK` if that waits for it. Descriptions are not looked at
    /// (fcntl(2)).
    fn note_wait(&self, tid: Pid, waiter: Holder, holder: Holder) -> Result<()> {
        let Holder::Process(_) = waiter else { return Ok(()) };
        let noted = self.change_waits(|waits| {
            if waits_for(waits, holder, waiter) {
                return Err(Errno::EDEADLK);
            }
            waits.push(Wait { tid, waiter, holder, file: address(self) });
            Ok(())
        });
        noted.unwrap_or(Ok(()))
    }

    /// Who waits for a lock of `holder` on this file looks again, since it may have given it up, and notes itself if not.
    fn forget_waits_for(&self, holder: Holder) {
        self.change_waits(|waits| waits.retain(|wait| wait.holder != holder || wait.file != address(self)));
    }

    /// Gives a range its new state; the caller wakes who waits.
    fn give(&self, state: &mut State, new: Record, unlock: bool) {
        apply(&mut state.records, new, unlock);
        self.forget_waits_for(new.holder);
    }
}

/// A lock that is in the way: kind (`F_RDLCK`, `F_WRLCK`), first and last byte, process (`None` for a description's).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "said above")]
pub struct InTheWay {
    pub kind: u32,
    pub first: u64,
    pub last: u64,
    pub pid: Option<Pid>,
}

/// F_GETLK, F_OFD_GETLK: what would keep the lock from being taken.
pub fn get_record(table: &FileTable, file: &FileRef, request: &RecordRequest) -> Option<InTheWay> {
    let locks = locks_of(file, true)?;
    let state = locks.state.lock();
    let other = conflict(&state.records, &record(table, file, request))?;
    let kind = if other.exclusive { raw::F_WRLCK } else { raw::F_RDLCK };
    Some(InTheWay { kind, first: other.first, last: other.last, pid: other.pid })
}

/// flock(2): `exclusive` is `None` for `LOCK_UN`. `EAGAIN` (`EWOULDBLOCK`) if it would have to wait and must not.
pub fn lock_whole(file: &FileRef, exclusive: Option<bool>, wait: bool) -> Result<()> {
    let Some(locks) = locks_of(file, exclusive.is_none()) else { return Ok(()) };
    let me = address(&**file);
    let Some(exclusive) = exclusive else {
        locks.state.lock().whole.retain(|(holder, _)| *holder != me);
        locks.changed.wake_all(PollEvents::all());
        return Ok(());
    };
    // A lock of another kind is given up first: changing it is not atomic (flock(2)).
    let given_up = {
        let mut state = locks.state.lock();
        let before = state.whole.len();
        if state.whole.contains(&(me, exclusive)) {
            return Ok(());
        }
        state.whole.retain(|(holder, _)| *holder != me);
        state.whole.len() < before
    };
    if given_up {
        locks.changed.wake_all(PollEvents::all());
    }
    let attempt = || {
        let mut state = locks.state.lock();
        // Threads may ask through one description at once.
        state.whole.retain(|(holder, _)| *holder != me);
        let free = state.whole.iter().all(|(_, other)| !exclusive && !other);
        free.then(|| state.whole.push((me, exclusive)))
    };
    match attempt() {
        Some(()) => Ok(()),
        None if !wait => Err(Errno::EAGAIN),
        None => wait::until(&[&locks.changed], None, attempt).map_err(|ended| ended.errno(Errno::EAGAIN)),
    }
}

/// A descriptor of `table` for the file was closed: the process's record locks on the file go.
pub(crate) fn descriptor_closed(table: &FileTable, file: &OpenFile) {
    if let Some(locks) = locks_of(file, true) {
        let me = Holder::Process(address(table));
        release(&locks, me, |_| false);
    }
}

/// The last descriptor of a description was closed: its own locks go.
pub(crate) fn description_closed(file: &OpenFile, locks: &FileLocks) {
    let me = address(file);
    release(locks, Holder::Description(me), |holder| holder == me);
}

fn release(locks: &FileLocks, me: Holder, whole: impl Fn(usize) -> bool) {
    let released = {
        let mut state = locks.state.lock();
        let before = state.records.len() + state.whole.len();
        state.records.retain(|record| record.holder != me);
        state.whole.retain(|(holder, _)| !whole(*holder));
        locks.forget_waits_for(me);
        state.records.len() + state.whole.len() < before
    };
    if released {
        locks.changed.wake_all(PollEvents::all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::task::PidSpace;

    fn lock(first: u64, last: u64, exclusive: bool, who: usize) -> Record {
        Record { first, last, exclusive, holder: Holder::Process(who), pid: PidSpace::ALL.named(who as i32) }
    }

    fn ranges(records: &[Record]) -> Vec<(u64, u64, bool)> {
        let mut ranges: Vec<_> = records.iter().map(|r| (r.first, r.last, r.exclusive)).collect();
        ranges.sort_unstable();
        ranges
    }

    #[test]
    fn unlocking_the_middle_leaves_both_sides() {
        let mut records = Vec::new();
        apply(&mut records, lock(0, 99, true, 1), false);
        apply(&mut records, lock(40, 59, true, 1), true);
        assert_eq!(ranges(&records), [(0, 39, true), (60, 99, true)]);
        apply(&mut records, lock(40, 59, true, 1), false);
        assert_eq!(ranges(&records), [(0, 99, true)]);
    }

    #[test]
    fn another_kind_replaces_and_others_are_left_alone() {
        let mut records = Vec::new();
        apply(&mut records, lock(0, TO_END, false, 1), false);
        apply(&mut records, lock(0, 9, false, 2), false);
        apply(&mut records, lock(5, 7, true, 1), false);
        assert_eq!(ranges(&records), [(0, 4, false), (0, 9, false), (5, 7, true), (8, TO_END, false)]);
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let records = [lock(0, 9, false, 1)];
        assert!(conflict(&records, &lock(0, 9, false, 2)).is_none());
        assert!(conflict(&records, &lock(9, 20, true, 2)).is_some());
        assert!(conflict(&records, &lock(10, 20, true, 2)).is_none());
        assert!(conflict(&records, &lock(0, 20, true, 1)).is_none());
    }

    #[test]
    fn a_circle_of_waiters_is_seen() {
        let [a, b, c] = [1, 2, 3].map(Holder::Process);
        let wait = |waiter, holder| Wait { tid: Pid::NONE, waiter, holder, file: 0 };
        assert!(!waits_for(&[wait(b, c)], b, a));
        assert!(waits_for(&[wait(b, c), wait(c, a)], b, a));
    }

    #[test]
    fn ranges_are_counted_as_fcntl_counts_them() {
        assert_eq!(range(raw::SEEK_SET, 10, 5, 0, 0), Ok((10, 14)));
        assert_eq!(range(raw::SEEK_CUR, -5, 0, 20, 0), Ok((15, TO_END)));
        assert_eq!(range(raw::SEEK_END, 0, -10, 0, 100), Ok((90, 99)));
        assert_eq!(range(raw::SEEK_SET, 5, -10, 0, 0), Err(Errno::EINVAL));
        assert_eq!(range(raw::SEEK_SET, i64::MAX, 2, 0, 0), Err(Errno::EOVERFLOW));
        assert_eq!(range(9, 0, 0, 0, 0), Err(Errno::EINVAL));
    }
}
