//! Descriptor tables: from the program's descriptor numbers to open files.

mod user;

pub use user::{OwnTable, TableUse, UnusedTable, UsedFile};

use crate::file::FileRef;
use crate::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;
use kernel::sync::RwLock;

/// Linux's `sysctl_nr_open`: no descriptor number is as high, whatever the limit says.
pub const NUMBER_MAX: u64 = 1 << 20;

/// A descriptor: the open file and its close-on-exec flag.
pub struct Slot<F> {
    /// What it is open on.
    pub file: F,
    /// `FD_CLOEXEC`.
    pub close_on_exec: bool,
}

/// The numbers in use. Apart from the lock, so that its rules can be tested by themselves.
pub struct Slots<F> {
    slots: Vec<Option<Slot<F>>>,
    /// No number below is free.
    lowest_free: usize,
}

impl<F> Default for Slots<F> {
    fn default() -> Self {
        Slots { slots: Vec::new(), lowest_free: 0 }
    }
}

impl<F: Clone> Slots<F> {
    fn get(&self, fd: i32) -> Option<&Slot<F>> {
        self.slots.get(usize::try_from(fd).ok()?)?.as_ref()
    }

    /// The lowest free number from `min` on: `EMFILE` unless below `limit`.
    fn free(&self, min: usize, limit: u64) -> Result<usize> {
        let from = min.max(self.lowest_free);
        let used = self.slots.iter().skip(from).take_while(|slot| slot.is_some()).count();
        let number = from + used;
        if number as u64 >= limit.min(NUMBER_MAX) { Err(Errno::EMFILE) } else { Ok(number) }
    }

    fn put(&mut self, number: usize, slot: Slot<F>) -> Result<Option<Slot<F>>> {
        if number >= self.slots.len() {
            let more = number + 1 - self.slots.len();
            self.slots.try_reserve(more).map_err(|_| Errno::ENOMEM)?;
            self.slots.resize_with(number + 1, || None);
        }
        let place = self.slots.get_mut(number).ok_or(Errno::EMFILE)?;
        if number == self.lowest_free {
            self.lowest_free = number + 1;
        }
        Ok(place.replace(slot))
    }

    fn insert(&mut self, min: usize, limit: u64, slot: Slot<F>) -> Result<i32> {
        let number = self.free(min, limit)?;
        self.put(number, slot)?;
        Ok(number as i32)
    }

    fn take(&mut self, number: usize) -> Option<Slot<F>> {
        let slot = self.slots.get_mut(number)?.take()?;
        self.lowest_free = self.lowest_free.min(number);
        Some(slot)
    }

    fn take_where(&mut self, mut wanted: impl FnMut(usize, &Slot<F>) -> bool) -> Vec<F> {
        let mut taken = Vec::new();
        for number in 0..self.slots.len() {
            if self.slots.get(number).and_then(Option::as_ref).is_some_and(|slot| wanted(number, slot))
                && let Some(slot) = self.take(number)
            {
                taken.push(slot.file);
            }
        }
        taken
    }

    fn copy(&self) -> Slots<F> {
        let last = self.slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let copy = |slot: &Slot<F>| Slot { file: slot.file.clone(), close_on_exec: slot.close_on_exec };
        let slots = self.slots.iter().take(last).map(|slot| slot.as_ref().map(copy)).collect();
        Slots { slots, lowest_free: self.lowest_free.min(last) }
    }
}

/// The descriptor table of a process (or of several that share it, `CLONE_FILES`), as anybody may look at it. It is changed
/// by those that use it alone ([`TableUse`]).
#[derive(Default)]
pub struct FileTable {
    slots: RwLock<Slots<FileRef>>,
    /// How many threads use it.
    users: AtomicU32,
}

impl Drop for FileTable {
    fn drop(&mut self) {
        let files = self.slots.get_mut().take_where(|_, _| true);
        close_files(self, files);
    }
}

/// What close(2) does once the number is free again.
fn close_file(table: &FileTable, file: FileRef) -> Result<()> {
    crate::locks::descriptor_closed(table, &file);
    crate::notify::descriptor_closed(table, &file);
    file.ops.flush()
}

fn close_files(table: &FileTable, files: Vec<FileRef>) {
    for file in files {
        let _ = close_file(table, file);
    }
}

impl FileTable {
    /// The open file of a number: `EBADF`. Also one opened with `O_PATH`.
    pub fn get_any(&self, fd: i32) -> Result<FileRef> {
        self.slots.read().get(fd).map(|slot| slot.file.clone()).ok_or(Errno::EBADF)
    }

    /// `FD_CLOEXEC` of a number: `EBADF`.
    pub fn close_on_exec_flag(&self, fd: i32) -> Result<bool> {
        self.slots.read().get(fd).map(|slot| slot.close_on_exec).ok_or(Errno::EBADF)
    }

    /// All numbers with their files and close-on-exec flags, in order (`/proc/PID/fd`).
    pub fn list(&self) -> Vec<(i32, FileRef, bool)> {
        let slots = self.slots.read();
        let entry = |(number, slot): (usize, &Option<Slot<FileRef>>)| {
            slot.as_ref().map(|slot| (number as i32, slot.file.clone(), slot.close_on_exec))
        };
        slots.slots.iter().enumerate().filter_map(entry).collect()
    }

    /// How many numbers the table has room for (`FDSize` of `/proc/PID/status`).
    pub fn size(&self) -> usize {
        self.slots.read().slots.len().next_multiple_of(64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(slots: &mut Slots<u32>, min: usize, limit: u64) -> Result<i32> {
        slots.insert(min, limit, Slot { file: 7, close_on_exec: false })
    }

    #[test]
    fn the_lowest_free_number_is_given() {
        let mut slots = Slots::default();
        assert_eq!(
            (0..4).map(|_| open(&mut slots, 0, 1024)).collect::<Result<Vec<_>>>(),
            Ok([0, 1, 2, 3].into())
        );
        assert!(slots.take(1).is_some() && slots.take(2).is_some());
        assert_eq!(open(&mut slots, 0, 1024), Ok(1));
        assert_eq!(open(&mut slots, 3, 1024), Ok(4));
        assert_eq!(open(&mut slots, 0, 1024), Ok(2));
        assert_eq!(open(&mut slots, 0, 1024), Ok(5));
        assert_eq!(open(&mut slots, 100, 1024), Ok(100));
        assert_eq!(open(&mut slots, 0, 1024), Ok(6));
    }

    #[test]
    fn numbers_stay_below_the_limit() {
        let mut slots = Slots::default();
        assert_eq!(open(&mut slots, 0, 1), Ok(0));
        assert_eq!(open(&mut slots, 0, 1), Err(Errno::EMFILE));
        assert_eq!(open(&mut slots, 5, 5), Err(Errno::EMFILE));
        assert_eq!(open(&mut slots, (1 << 20) - 1, u64::MAX), Ok((1 << 20) - 1));
        assert_eq!(open(&mut slots, 1 << 20, u64::MAX), Err(Errno::EMFILE));
    }

    #[test]
    fn a_copy_has_the_same_numbers_and_goes_its_own_way() {
        let mut slots = Slots::default();
        for _ in 0..3 {
            open(&mut slots, 0, 10).expect("room");
        }
        slots.take(1);
        let mut copy = slots.copy();
        assert_eq!(open(&mut copy, 0, 10), Ok(1));
        assert!(slots.get(1).is_none() && slots.get(2).is_some() && slots.get(-1).is_none());
    }
}
