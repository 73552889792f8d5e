//! Advisory locks: POSIX record locks, open-file-description locks (fcntl(2)) and flock(2).
//!
//! One table for the sandbox, keyed by device and inode number. Kinds do not see each other, as on Linux local filesystems.

use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::vec::Vec;
use hashbrown::HashMap;
use kernel::poll::PollEvents;
use kernel::sync::{BootCell, Mutex};
use kernel::wait::{self, WaitQueue};

/// Device and inode number.
pub type FileId = (u64, u64);

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A process (POSIX record locks), by its id.
    Process(i32),
    /// An open file description, by its address (OFD locks).
    Description(usize),
    /// An open file description (flock).
    Flock(usize),
}

impl Owner {
    /// Whether locks of the two owners can conflict at all.
    fn same_kind(self, other: Owner) -> bool {
        let record = |owner| !matches!(owner, Owner::Flock(_));
        record(self) == record(other)
    }
}

/// A locked range: `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// First byte.
    pub start: u64,
    /// First byte behind it; `u64::MAX` is to the end of the file, however it grows.
    pub end: u64,
    /// For writing (exclusive).
    pub exclusive: bool,
    /// Who.
    pub owner: Owner,
}

#[derive(Default)]
struct Table {
    files: Mutex<HashMap<FileId, Vec<Lock>>>,
    /// Which process waits for which (deadlock detection).
    waiting: Mutex<HashMap<i32, i32>>,
    changed: WaitQueue,
}

static TABLE: BootCell<Box<Table>> = BootCell::new();

/// Sets up the table. Called once, at boot.
pub fn init() {
    TABLE.set(Box::default());
}

fn table() -> Result<&'static Table> {
    TABLE.get().map(|table| &**table).ok_or(Errno::ENOLCK)
}

fn conflict(locks: &[Lock], wanted: &Lock) -> Option<Lock> {
    locks
        .iter()
        .find(|lock| {
            lock.owner != wanted.owner
                && lock.owner.same_kind(wanted.owner)
                && (lock.exclusive || wanted.exclusive)
                && lock.start < wanted.end
                && wanted.start < lock.end
        })
        .copied()
}

/// Takes the range out of the owner's locks, then puts `new` in, joined with neighbours of its kind.
fn replace(locks: &mut Vec<Lock>, range: &Lock, new: bool) {
    let mut kept = Vec::new();
    for lock in locks.drain(..) {
        if lock.owner != range.owner || lock.end <= range.start || lock.start >= range.end {
            kept.push(lock);
            continue;
        }
        if lock.start < range.start {
            kept.push(Lock { end: range.start, ..lock });
        }
        if lock.end > range.end {
            kept.push(Lock { start: range.end, ..lock });
        }
    }
    if new {
        let mut joined = *range;
        kept.retain(|lock| {
            let touches = lock.owner == joined.owner
                && lock.exclusive == joined.exclusive
                && lock.start <= joined.end
                && joined.start <= lock.end;
            if touches {
                joined.start = joined.start.min(lock.start);
                joined.end = joined.end.max(lock.end);
            }
            !touches
        });
        kept.push(joined);
    }
    kept.sort_by_key(|lock| lock.start);
    *locks = kept;
}

/// The lock that stands in the way of `wanted` (`F_GETLK`).
pub fn test(file: FileId, wanted: &Lock) -> Result<Option<Lock>> {
    Ok(table()?.files.lock().get(&file).and_then(|locks| conflict(locks, wanted)))
}

/// Takes a lock; the holder in the way, if any.
fn attempt(file: FileId, wanted: &Lock) -> Result<Option<Lock>> {
    let table = table()?;
    let mut files = table.files.lock();
    let locks = files.entry(file).or_default();
    if let Some(holder) = conflict(locks, wanted) {
        return Ok(Some(holder));
    }
    replace(locks, wanted, true);
    drop(files);
    // A lock that became shared, or smaller, may let others in.
    table.changed.wake_all(PollEvents::OUT);
    Ok(None)
}

/// Takes a lock or fails with `EAGAIN`; with `wait` sleeps until it is free: `EDEADLK` for a circle of processes.
pub fn lock(file: FileId, wanted: &Lock, wait: bool) -> Result<()> {
    let Some(holder) = attempt(file, wanted)? else { return Ok(()) };
    if !wait {
        return Err(Errno::EAGAIN);
    }
    let table = table()?;
    note_wait(table, wanted, &holder)?;
    let outcome = wait::until(&[&table.changed], None, || match attempt(file, wanted) {
        Ok(None) => Some(Ok(())),
        Ok(Some(holder)) => note_wait(table, wanted, &holder).err().map(Err),
        Err(errno) => Some(Err(errno)),
    });
    if let Owner::Process(pid) = wanted.owner {
        table.waiting.lock().remove(&pid);
    }
    outcome.map_err(|ended| ended.errno(Errno::EINTR))?
}

fn note_wait(table: &Table, wanted: &Lock, holder: &Lock) -> Result<()> {
    let (Owner::Process(waiter), Owner::Process(mut next)) = (wanted.owner, holder.owner) else { return Ok(()) };
    let mut waiting = table.waiting.lock();
    // Follow who waits for whom; a circle back to us can never end.
    for _ in 0..waiting.len() + 1 {
        if next == waiter {
            waiting.remove(&waiter);
            return Err(Errno::EDEADLK);
        }
        match waiting.get(&next) {
            Some(further) => next = *further,
            None => break,
        }
    }
    if let Owner::Process(holder) = holder.owner {
        waiting.insert(waiter, holder);
    }
    Ok(())
}

/// Gives a range back.
pub fn unlock(file: FileId, range: &Lock) -> Result<()> {
    let table = table()?;
    {
        let mut files = table.files.lock();
        if let Some(locks) = files.get_mut(&file) {
            replace(locks, range, false);
            if locks.is_empty() {
                files.remove(&file);
            }
        }
    }
    table.changed.wake_all(PollEvents::OUT);
    Ok(())
}

/// Gives everything back that an owner holds on a file (or, with `None`, anywhere).
pub fn release(file: Option<FileId>, owner: Owner) {
    let Ok(table) = table() else { return };
    let mut any = false;
    table.files.lock().retain(|id, locks| {
        if file.is_none_or(|file| file == *id) {
            let before = locks.len();
            locks.retain(|lock| lock.owner != owner);
            any |= locks.len() != before;
        }
        !locks.is_empty()
    });
    if any {
        table.changed.wake_all(PollEvents::OUT);
    }
}

/// Whether anything is locked at all: closing descriptors asks this first.
pub fn any() -> bool {
    table().is_ok_and(|table| !table.files.lock().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(start: u64, end: u64, exclusive: bool, pid: i32) -> Lock {
        Lock { start, end, exclusive, owner: Owner::Process(pid) }
    }

    #[test]
    fn unlocking_the_middle_leaves_both_ends() {
        let mut locks = alloc::vec![lock(0, 100, true, 1)];
        replace(&mut locks, &lock(40, 60, true, 1), false);
        assert_eq!(locks, [lock(0, 40, true, 1), lock(60, 100, true, 1)]);
    }

    #[test]
    fn neighbours_of_one_kind_are_joined_and_a_new_kind_replaces() {
        let mut locks = alloc::vec![lock(0, 10, false, 1)];
        replace(&mut locks, &lock(10, 20, false, 1), true);
        assert_eq!(locks, [lock(0, 20, false, 1)]);
        replace(&mut locks, &lock(5, 8, true, 1), true);
        assert_eq!(locks, [lock(0, 5, false, 1), lock(5, 8, true, 1), lock(8, 20, false, 1)]);
    }

    #[test]
    fn only_locks_of_others_of_the_same_kind_conflict() {
        let held = [lock(0, 10, true, 1)];
        assert!(conflict(&held, &lock(5, 6, false, 1)).is_none());
        assert!(conflict(&held, &lock(5, 6, false, 2)).is_some());
        assert!(conflict(&held, &Lock { owner: Owner::Flock(7), ..lock(5, 6, true, 2) }).is_none());
    }
}
