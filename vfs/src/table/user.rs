//! What a thread does with its descriptor table.
//!
//! Files are looked up as fdget() of Linux does it: where one thread alone uses the table, nobody else can change it, so that it
//! needs neither the table's lock nor a reference to the file. Others may look at it meanwhile (`/proc/PID/fd`): what changes
//! the table takes the lock for them.

use super::{FileTable, NUMBER_MAX, Slot, close_file, close_files};
use crate::file::FileRef;
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::sync::RwLock;
use linux_raw_sys::general as raw;

/// A thread's use of a table. Each thread has one, and each is one thread's.
pub struct TableUse(Arc<FileTable>);

impl Drop for TableUse {
    fn drop(&mut self) {
        // What this thread changed is seen by the one that finds itself alone.
        self.0.users.fetch_sub(1, Ordering::Release);
    }
}

impl Default for TableUse {
    fn default() -> Self {
        Self::of(Arc::default())
    }
}

impl TableUse {
    fn of(table: Arc<FileTable>) -> TableUse {
        table.users.fetch_add(1, Ordering::Relaxed);
        TableUse(table)
    }

    /// The table, as anybody may look at it.
    pub fn table(&self) -> &Arc<FileTable> {
        &self.0
    }

    /// The table for the thread whose use this is.
    ///
    /// # Safety
    /// The calling thread is that thread, and does not use an [`UnusedTable`] while the result lives.
    pub unsafe fn own(&self) -> OwnTable<'_> {
        OwnTable { table: &self.0, of_the_thread: PhantomData }
    }

    /// The table for the thread whose use this is, while it uses no file of it.
    ///
    /// # Safety
    /// The calling thread is that thread, and nothing that came from [`Self::own`] or from here lives.
    pub unsafe fn unused(&self) -> UnusedTable<'_> {
        UnusedTable(OwnTable { table: &self.0, of_the_thread: PhantomData })
    }

    /// The table of a thread that does not run yet.
    pub fn before_its_thread(&mut self) -> UnusedTable<'_> {
        // SAFETY: an exclusive reference, so nothing that came from it lives, and no other thread is at it.
        unsafe { self.unused() }
    }
}

/// A file that a call uses: with a reference of its own only where somebody else could close it.
pub struct UsedFile<'a> {
    file: ManuallyDrop<FileRef>,
    counted: bool,
    of: PhantomData<&'a FileTable>,
}

impl From<FileRef> for UsedFile<'_> {
    fn from(file: FileRef) -> Self {
        UsedFile { file: ManuallyDrop::new(file), counted: true, of: PhantomData }
    }
}

impl Deref for UsedFile<'_> {
    type Target = FileRef;

    fn deref(&self) -> &FileRef {
        &self.file
    }
}

impl Drop for UsedFile<'_> {
    fn drop(&mut self) {
        if self.counted {
            // SAFETY: counted, so the reference is its own; it is not used again.
            unsafe { ManuallyDrop::drop(&mut self.file) }
        }
    }
}

/// A thread's own table: files may be looked up and added.
#[derive(Clone, Copy)]
pub struct OwnTable<'a> {
    table: &'a Arc<FileTable>,
    of_the_thread: PhantomData<*const ()>,
}

impl Deref for OwnTable<'_> {
    type Target = FileTable;

    fn deref(&self) -> &FileTable {
        self.table
    }
}

impl<'a> OwnTable<'a> {
    /// The open file of a number: `EBADF`. Also one opened with `O_PATH`.
    pub fn use_any(self, fd: i32) -> Result<UsedFile<'a>> {
        if self.users.load(Ordering::Acquire) != 1 {
            return self.get_any(fd).map(UsedFile::from);
        }
        // SAFETY: this thread alone changes the table, as it has the only `TableUse`, and it does not now.
        let slots = unsafe { &*self.slots.data_ptr() };
        let file = &slots.get(fd).ok_or(Errno::EBADF)?.file;
        // SAFETY: a second `Arc` without a reference, never dropped. The table's stays while this lives: to take it out, or to
        // let another thread do so, needs an `UnusedTable`.
        let file = ManuallyDrop::new(unsafe { core::ptr::read(file) });
        Ok(UsedFile { file, counted: false, of: PhantomData })
    }

    /// The open file of a number, for calls that do not take one opened with `O_PATH`: `EBADF`.
    pub fn use_file(self, fd: i32) -> Result<UsedFile<'a>> {
        self.use_any(fd)
            .and_then(|file| if file.flags() & raw::O_PATH == 0 { Ok(file) } else { Err(Errno::EBADF) })
    }

    /// Gives a file the lowest free number: `EMFILE`. `limit` is `RLIMIT_NOFILE`.
    pub fn insert(self, file: FileRef, close_on_exec: bool, limit: u64) -> Result<i32> {
        self.slots.write().insert(0, limit, Slot { file, close_on_exec })
    }

    /// Gives two files (pipe(2), socketpair(2)) the lowest free numbers, or neither: `EMFILE`.
    pub fn insert_pair(
        self,
        files: (FileRef, FileRef),
        close_on_exec: bool,
        limit: u64,
    ) -> Result<(i32, i32)> {
        let mut slots = self.slots.write();
        let first = slots.insert(0, limit, Slot { file: files.0, close_on_exec })?;
        match slots.insert(0, limit, Slot { file: files.1, close_on_exec }) {
            Ok(second) => Ok((first, second)),
            Err(error) => {
                let taken = slots.take(first as usize);
                drop(slots);
                drop(taken);
                Err(error)
            }
        }
    }

    /// fcntl(2) `F_DUPFD`: the lowest free number from `min` on: `EINVAL` if that is not below the limit, `EMFILE`.
    pub fn insert_from(self, min: u64, file: FileRef, close_on_exec: bool, limit: u64) -> Result<i32> {
        if min >= limit {
            return Err(Errno::EINVAL);
        }
        let min = usize::try_from(min).map_err(|_| Errno::EINVAL)?;
        self.slots.write().insert(min, limit, Slot { file, close_on_exec })
    }

    /// Sets `FD_CLOEXEC`: `EBADF`.
    pub fn set_close_on_exec(self, fd: i32, close_on_exec: bool) -> Result<()> {
        let mut slots = self.slots.write();
        let number = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let slot = slots.slots.get_mut(number).and_then(Option::as_mut).ok_or(Errno::EBADF)?;
        slot.close_on_exec = close_on_exec;
        Ok(())
    }

    /// close_range(2) with `CLOSE_RANGE_CLOEXEC`; both ends included.
    pub fn close_range_on_exec(self, first: u32, last: u32) {
        let range = first as usize..=last as usize;
        let mut slots = self.slots.write();
        for (number, slot) in slots.slots.iter_mut().enumerate() {
            if let Some(slot) = slot
                && range.contains(&number)
            {
                slot.close_on_exec = true;
            }
        }
    }

    /// A copy for a forked process, or for unshare(2) with `CLONE_FILES`.
    pub fn fork(self) -> TableUse {
        let slots = RwLock::new(self.slots.read().copy());
        TableUse::of(Arc::new(FileTable { slots, users: AtomicU32::new(0) }))
    }

    /// A copy if somebody else uses the table, too (execve(2), unshare(2)).
    pub fn unshared(self) -> Option<TableUse> {
        (self.users.load(Ordering::Relaxed) > 1).then(|| self.fork())
    }
}

/// A thread's own table, of which it uses no file: files may be taken out, and others may get to use it.
///
/// ```compile_fail
/// let mut own = vfs::table::TableUse::default();
/// let mut unused = own.before_its_thread();
/// let used = unused.table().use_any(0);
/// unused.close(0);
/// drop(used);
/// ```
pub struct UnusedTable<'a>(OwnTable<'a>);

impl Deref for UnusedTable<'_> {
    type Target = FileTable;

    fn deref(&self) -> &FileTable {
        &self.0
    }
}

impl<'a> UnusedTable<'a> {
    /// To look files up, and to add some, for as long as nothing is to be taken out.
    pub fn table(&self) -> OwnTable<'_> {
        self.0
    }

    /// The same for good.
    pub fn into_table(self) -> OwnTable<'a> {
        self.0
    }

    /// dup2(2), dup3(2): puts a file at a number and closes what was there. `EBADF` if the number is not below the limit.
    pub fn replace_at(&mut self, fd: i32, file: FileRef, close_on_exec: bool, limit: u64) -> Result<i32> {
        let number = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        if number as u64 >= limit.min(NUMBER_MAX) {
            return Err(Errno::EBADF);
        }
        let old = self.slots.write().put(number, Slot { file, close_on_exec })?;
        if let Some(old) = old {
            let _ = close_file(self, old.file);
        }
        Ok(fd)
    }

    /// close(2): `EBADF`, or what the file has to say.
    pub fn close(&mut self, fd: i32) -> Result<()> {
        let number = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let taken = self.slots.write().take(number);
        close_file(self, taken.ok_or(Errno::EBADF)?.file)
    }

    /// close_range(2) without `CLOSE_RANGE_CLOEXEC`; both ends included.
    pub fn close_range(&mut self, first: u32, last: u32) {
        let range = first as usize..=last as usize;
        let files = self.slots.write().take_where(|number, _| range.contains(&number));
        close_files(self, files);
    }

    /// Closes what execve(2) is to close.
    pub fn close_on_exec(&mut self) {
        let files = self.slots.write().take_where(|_, slot| slot.close_on_exec);
        close_files(self, files);
    }

    /// For another thread, which uses the same table (`CLONE_FILES`).
    pub fn share(&mut self) -> TableUse {
        TableUse::of(self.0.table.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{FileOps, OpenFile};

    struct Nothing;

    impl FileOps for Nothing {
        fn as_any(&self) -> &dyn core::any::Any {
            self
        }
    }

    fn file(flags: u32) -> FileRef {
        OpenFile::new(Arc::new(Nothing), None, flags)
    }

    #[test]
    fn a_file_is_counted_only_where_somebody_else_uses_the_table() {
        let (mut own, file) = (TableUse::default(), file(0));
        let fd = own.before_its_thread().table().insert(file.clone(), false, 8).expect("room");
        let counted = |own: &mut TableUse| {
            let table = own.before_its_thread().into_table();
            let used = table.use_any(fd).expect("open");
            assert!(Arc::ptr_eq(&used, &file));
            Arc::strong_count(&file) - 2
        };
        assert_eq!(counted(&mut own), 0);
        let other = own.before_its_thread().share();
        assert_eq!(counted(&mut own), 1);
        drop(other);
        assert_eq!(counted(&mut own), 0);
        own.before_its_thread().close(fd).expect("open");
        assert_eq!(Arc::strong_count(&file), 1);
    }

    #[test]
    fn a_table_that_nobody_else_uses_is_not_copied() {
        let mut own = TableUse::default();
        let looked_at = own.table().clone();
        assert!(own.before_its_thread().table().unshared().is_none());
        let mut other = own.before_its_thread().share();
        let copy = other.before_its_thread().table().unshared().expect("shared");
        assert!(!Arc::ptr_eq(copy.table(), own.table()) && Arc::ptr_eq(&looked_at, own.table()));
        drop(other);
        assert!(own.before_its_thread().table().unshared().is_none());
    }

    #[test]
    fn most_calls_do_not_take_what_is_open_as_a_path_only() {
        let mut own = TableUse::default();
        let mut unused = own.before_its_thread();
        let fd = unused.table().insert(file(raw::O_PATH), false, 8).expect("room");
        assert_eq!(
            (unused.table().use_file(fd).err(), unused.table().use_any(fd).err()),
            (Some(Errno::EBADF), None)
        );
        assert_eq!(unused.table().use_any(fd + 1).err(), Some(Errno::EBADF));
        unused.close(fd).expect("open");
        assert_eq!(unused.table().use_any(fd).err(), Some(Errno::EBADF));
    }
}
