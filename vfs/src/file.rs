//! The open-file side: what an open file can do, whatever it is, and the open file description around it.

use crate::attributes::{AttributeChange, Attributes};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::mm::{Backing, Mappable};
use kernel::poll::{PollEvents, PollTable};
use kernel::sync::Mutex;
use kernel::uaccess::{Sink, Source};
use linux_raw_sys::general as raw;

/// Takes an entry of a directory: `false` if it has no room for it.
pub type Emit<'a> = &'a mut (dyn FnMut(DirEntry<'_>) -> bool + 'a);

/// One entry of a directory.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// Inode number.
    pub ino: u64,
    /// Position after this entry (`d_off`).
    pub next: u64,
    /// `DT_*`.
    pub kind: u8,
    /// Name.
    pub name: &'a [u8],
}

/// What an open file can do. Defaults are Linux's answers for files that cannot.
///
/// Blocking is the implementation's (with `kernel::wait`), by `OpenFile::nonblocking`; results are those of the calls.
pub trait FileOps: Send + Sync {
    /// For code that deals with one kind of file (pipes in splice, epoll in epoll_ctl, sockets).
    fn as_any(&self) -> &dyn Any;

    /// Reads at `offset` (ignored by streams). 0 at the end. `file` is the description used, for its flags.
    fn read_at(&self, file: &OpenFile, _offset: u64, _sink: &mut Sink<'_>) -> Result<usize> {
        Err(file.no_transfer())
    }

    /// Writes at `offset` (ignored by streams).
    fn write_at(&self, _file: &OpenFile, _offset: u64, _source: &mut Source<'_>) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Appends: writes at the end as it is at that moment; bytes written and the end offset after.
    fn append(&self, _file: &OpenFile, _source: &mut Source<'_>) -> Result<(usize, u64)> {
        Err(Errno::EINVAL)
    }

    /// Whether it has a position: pread(2), lseek(2) give `ESPIPE` otherwise.
    fn seekable(&self) -> bool {
        false
    }

    /// Whether a seekable file's reads and writes wait for others: its position is not held then.
    fn waits(&self) -> bool {
        false
    }

    /// lseek(2) for a seekable file; `position` is the current one; gives the new one.
    fn seek(&self, _position: u64, _offset: i64, _whence: u32) -> Result<u64> {
        Err(Errno::ESPIPE)
    }

    /// Lists a directory from `position` on, until `emit` says `false` (the entry was not taken) or the end; or, once something was given,
    /// until about `room` bytes of `linux_dirent64` are full, where to go on would be in vain.
    fn read_dir(&self, _position: u64, _room: usize, _emit: Emit<'_>) -> Result<()> {
        Err(Errno::ENOTDIR)
    }

    /// What it is ready for; adds its queues to `table` first. Files without notion of readiness are always ready.
    fn poll(&self, _table: &mut PollTable) -> PollEvents {
        PollEvents::READABLE | PollEvents::WRITABLE
    }

    /// Whether epoll_ctl(2) takes it (`EPERM` otherwise): not regular files and directories.
    fn pollable(&self) -> bool {
        false
    }

    /// Whether it sends signals when it becomes ready (`O_ASYNC`, fcntl(2)).
    fn signals_io(&self) -> bool {
        false
    }

    /// ioctl(2); `argument` may be an address of the program.
    fn ioctl(&self, _file: &OpenFile, _command: u32, _argument: u64) -> Result<u64> {
        Err(Errno::ENOTTY)
    }

    /// What fstat(2) tells, for files without a place in the tree; files with an inode need not answer.
    fn attributes(&self) -> Result<Attributes> {
        Err(Errno::EBADF)
    }

    /// Attribute changes through a descriptor without an inode (memfd: ftruncate, fchmod).
    fn set_attributes(&self, _change: &AttributeChange) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// What fstatfs(2) tells, for files without a place in the tree; `None` where one filesystem stands for all.
    fn filesystem(&self) -> Option<raw::statfs> {
        None
    }

    /// What mmap(2) maps: `ENODEV`.
    fn mappable(&self, _file: &OpenFile) -> Result<Arc<dyn Mappable>> {
        Err(Errno::ENODEV)
    }

    /// fsync(2), fdatasync(2).
    fn sync(&self, _data_only: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// fallocate(2).
    fn allocate(&self, _mode: u32, _offset: u64, _length: u64) -> Result<()> {
        Err(Errno::ENODEV)
    }

    /// Text shown for it in `/proc/PID/fd` when it has no place in the tree, such as `pipe:[7]`.
    fn describe(&self) -> alloc::string::String {
        "anon_inode:[unknown]".into()
    }

    /// More lines of `/proc/PID/fdinfo/N`.
    fn fdinfo(&self) -> alloc::string::String {
        alloc::string::String::new()
    }

    /// One descriptor (of possibly several) was closed.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// A new description of the same object, for open(2) of `/proc/PID/fd/N` on a file without a place in the tree (pipes,
    /// memfd). `ENXIO` for what cannot be opened by name.
    fn reopen(&self, _flags: u32) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }

    /// Who gets the file's signals has changed (`F_SETOWN`).
    fn owner_changed(&self, _owner: &crate::signal_io::Owner) {}

    /// `O_NONBLOCK`, `O_ASYNC`, ... changed by fcntl(2).
    fn flags_changed(&self, _flags: u32) {}
}

/// An open file description (open(2)): shared by dup(2) and fork(2).
pub struct OpenFile {
    /// What it does.
    pub ops: Arc<dyn FileOps>,
    /// Its place in the tree, if it has one.
    pub path: Option<crate::namespace::Path>,
    flags: AtomicU32,
    /// File position. Held while a call uses it, so that two calls do not use the same one.
    pub position: Mutex<u64>,
    /// Signal-driven I/O: owner and signal (fcntl(2) `F_SETOWN`, `F_SETSIG`).
    pub owner: Mutex<crate::signal_io::Owner>,
    /// Its queues, while it sends signals (`O_ASYNC`).
    pub(crate) listening: Mutex<Option<PollTable>>,
    /// The locks of its inode, once it was used to lock.
    pub(crate) locks: Mutex<Option<Arc<crate::locks::FileLocks>>>,
}

/// lseek(2) on a directory whose positions count its entries.
pub(crate) fn seek_entries(position: u64, offset: i64, whence: u32) -> Result<u64> {
    match whence {
        raw::SEEK_SET => u64::try_from(offset).map_err(|_| Errno::EINVAL),
        raw::SEEK_CUR => position.checked_add_signed(offset).ok_or(Errno::EINVAL),
        _ => Err(Errno::EINVAL),
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        crate::notify::closed(self);
        crate::leases::closed(self);
        if let Some(locks) = self.locks.get_mut().take() {
            crate::locks::description_closed(self, &locks);
        }
    }
}

/// A mapping of a file that has a place in the tree.
struct NamedMapping {
    content: Arc<dyn Mappable>,
    path: crate::namespace::Path,
}

impl Mappable for NamedMapping {
    fn backing(&self, offset: u64, length: u64, shared: bool, writable: bool) -> Result<Backing> {
        self.content.backing(offset, length, shared, writable)
    }

    fn end(&self) -> Option<u64> {
        self.content.end()
    }

    fn remove(&self, offset: u64, length: u64) -> Option<Result<()>> {
        self.content.remove(offset, length)
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        let (dev, ino, _) = self.content.describe();
        (dev, ino, self.path.full_text())
    }
}

/// A counted open file.
pub type FileRef = Arc<OpenFile>;

/// Flags that fcntl(2) `F_SETFL` can change.
pub const SETTABLE_FLAGS: u32 =
    raw::O_APPEND | raw::O_NONBLOCK | raw::FASYNC | raw::O_DIRECT | raw::O_NOATIME;

impl OpenFile {
    /// A new description; `flags` are open(2)'s without those that only matter while opening.
    pub fn new(ops: Arc<dyn FileOps>, path: Option<crate::namespace::Path>, flags: u32) -> FileRef {
        let kept = flags & !(raw::O_CREAT | raw::O_EXCL | raw::O_NOCTTY | raw::O_TRUNC | raw::O_CLOEXEC);
        Arc::new(OpenFile {
            ops,
            path,
            flags: AtomicU32::new(kept),
            position: Mutex::new(0),
            owner: Mutex::default(),
            listening: Mutex::new(None),
            locks: Mutex::new(None),
        })
    }

    /// What mmap(2) maps. A regular file is shown in `/proc/PID/maps` by its name in the tree at that moment.
    pub fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        let content = self.ops.mappable(self)?;
        match &self.path {
            Some(path) if path.inode().kind() == crate::attributes::Kind::Regular => {
                Ok(Arc::new(NamedMapping { content, path: path.clone() }))
            }
            _ => Ok(content),
        }
    }

    /// `O_*` flags now.
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Replaces the flags that may be changed.
    pub fn set_flags(&self, flags: u32) {
        let old = self.flags.load(Ordering::Relaxed);
        self.flags.store((old & !SETTABLE_FLAGS) | (flags & SETTABLE_FLAGS), Ordering::Relaxed);
        self.ops.flags_changed(self.flags());
    }

    /// Whether calls must not block.
    pub fn nonblocking(&self) -> bool {
        self.flags() & raw::O_NONBLOCK != 0
    }

    /// Whether it was opened for reading. The access mode 3 is for ioctl(2) alone (open(2)).
    pub fn readable(&self) -> bool {
        matches!(self.flags() & (raw::O_ACCMODE | raw::O_PATH), raw::O_RDONLY | raw::O_RDWR)
    }

    /// Whether it was opened for writing.
    pub fn writable(&self) -> bool {
        matches!(self.flags() & (raw::O_ACCMODE | raw::O_PATH), raw::O_WRONLY | raw::O_RDWR)
    }

    /// Whether reading it is noted in its time of access: not with `O_NOATIME`, nor where its mount says so.
    pub fn notes_access(&self) -> bool {
        use crate::namespace::MountFlags;
        let never = MountFlags::NO_ATIME | MountFlags::READ_ONLY;
        self.flags() & raw::O_NOATIME == 0
            && self.path.as_ref().is_none_or(|path| !path.mount.flags().intersects(never))
    }

    /// A description of the same file whose calls do not block (`RWF_NOWAIT`). Only for files without a position.
    pub fn without_blocking(&self) -> FileRef {
        OpenFile::new(self.ops.clone(), self.path.clone(), self.flags() | raw::O_NONBLOCK)
    }

    /// The error of reads and writes of what can do neither.
    fn no_transfer(&self) -> Errno {
        let kind = self.path.as_ref().map(|path| path.inode().kind());
        if kind == Some(crate::attributes::Kind::Directory) { Errno::EISDIR } else { Errno::EINVAL }
    }
}
