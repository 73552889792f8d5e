//! Files whose contents are made when they are opened: the nodes of `/proc` and `/sys`.
//!
//! The trees themselves are put together above, where processes are known; this file only knows that a directory can be
//! listed and looked into, that a file has contents, and that a link leads somewhere.

use crate::attributes::{AttributeChange, Attributes, Kind};
use crate::file::{DirEntry, Emit, FileOps, OpenFile};
use crate::inode::{Inode, LinkTarget};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kernel::sync::Mutex;
use kernel::task::Pid;
use kernel::time;
use kernel::uaccess::{Sink, Source};
use linux_raw_sys::general as raw;

/// What all nodes have.
#[derive(Debug, Clone, Copy)]
pub struct Common {
    /// Device number of the filesystem.
    pub dev: u64,
    /// `f_type` of the filesystem (`PROC_SUPER_MAGIC`, `SYSFS_MAGIC`).
    pub magic: u32,
    /// Inode number.
    pub ino: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
}

impl Common {
    /// What stat(2) tells of a node of this kind.
    pub fn attributes(&self, kind: Kind) -> Attributes {
        let now = time::file_time();
        Attributes {
            dev: self.dev,
            ino: self.ino,
            mode: kind.mode_bits() | self.mode,
            nlink: if kind == Kind::Directory { 2 } else { 1 },
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            size: 0,
            blksize: 1024,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: None,
        }
    }

    /// What statfs(2) tells.
    pub fn statfs(&self) -> Result<raw::statfs> {
        Ok(self.filesystem())
    }

    fn filesystem(&self) -> raw::statfs {
        // SAFETY: `statfs` is plain data, for which zero is a value.
        let mut stat: raw::statfs = unsafe { core::mem::zeroed() };
        stat.f_type = self.magic as _;
        stat.f_bsize = 4096;
        stat.f_namelen = 255;
        stat.f_frsize = 4096;
        stat
    }
}

/// A number for a node that is the same whenever the node is made: a hash of where it is (FNV-1a).
pub fn stable_ino(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for part in parts {
        for byte in part.iter().chain(b"/") {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    (hash & 0xffff_ffff) | 0x1_0000_0000
}

type List = Box<dyn Fn() -> Result<Vec<(Vec<u8>, Kind)>> + Send + Sync>;
type Find = Box<dyn Fn(&[u8]) -> Result<Arc<dyn Inode>> + Send + Sync>;
type Read = Box<dyn Fn() -> Result<Vec<u8>> + Send + Sync>;
type Check = Box<dyn Fn() -> Result<()> + Send + Sync>;
type Write = Box<dyn Fn(&[u8]) -> Result<()> + Send + Sync>;
type Open = Box<dyn Fn(u32) -> Result<Arc<dyn FileOps>> + Send + Sync>;
type Follow = Box<dyn Fn() -> Result<LinkTarget> + Send + Sync>;

/// A directory.
pub struct Directory {
    /// Number, owner.
    pub common: Common,
    /// Its entries now.
    pub list: List,
    /// One entry: `ENOENT`.
    pub find: Find,
    /// The process that the whole directory is about, if it is about one.
    pub process: Option<Pid>,
}

/// The process that an open directory is about (`/proc/PID`).
pub fn process_of(directory: &dyn FileOps) -> Option<Pid> {
    directory.as_any().downcast_ref::<OpenDirectory>().and_then(|open| open.0.process)
}

/// A file.
pub struct File {
    /// Number, owner.
    pub common: Common,
    /// Whether it can be opened now.
    pub check: Option<Check>,
    /// Its contents now.
    pub read: Read,
    /// Takes what is written, if anything may be.
    pub write: Option<Write>,
}

/// A file whose open files are of a kind of their own.
pub struct Special {
    /// Number, owner.
    pub common: Common,
    /// Opens it, with open(2)'s flags.
    pub open: Open,
}

/// A symbolic link.
pub struct Link {
    /// Number, owner.
    pub common: Common,
    /// What lstat(2) says of its size: not the length of its text.
    pub size: u64,
    /// Where it leads.
    pub follow: Follow,
}

fn may_not_change(change: &AttributeChange) -> Result<()> {
    // Shells truncate what they redirect to; times and modes of these files are nobody's.
    let AttributeChange { mode, uid, gid, .. } = change;
    if mode.is_some() || uid.is_some() || gid.is_some() { Err(Errno::EPERM) } else { Ok(()) }
}

impl Inode for Directory {
    fn attributes(&self) -> Result<Attributes> {
        Ok(self.common.attributes(Kind::Directory))
    }

    fn kind(&self) -> Kind {
        Kind::Directory
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        may_not_change(change)
    }

    fn open(self: Arc<Self>, _flags: u32) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(OpenDirectory(self)))
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        (self.find)(name)
    }

    fn cacheable(&self) -> bool {
        false
    }

    fn revalidate(&self, _parent: &dyn Inode, _name: &[u8], _told: &mut Option<Attributes>) -> bool {
        false
    }

    // There is no such thing as a name that is free (Linux's proc_lookup gives `ENOENT`, not a negative dentry).
    fn is_immutable(&self) -> bool {
        true
    }

    fn filesystem(&self) -> Result<raw::statfs> {
        Ok(self.common.filesystem())
    }
}

/// Where an entry stands in its directory. Processes, threads and descriptors stand where their numbers put them, so that
/// none is passed over when others go while the directory is read.
fn place(index: usize, name: &[u8]) -> u64 {
    const NUMBERED: u64 = 256;
    let number = core::str::from_utf8(name).ok().and_then(|name| name.parse::<u32>().ok());
    number.map_or(index as u64, |number| NUMBERED + u64::from(number))
}

struct OpenDirectory(Arc<Directory>);

impl FileOps for OpenDirectory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seekable(&self) -> bool {
        true
    }

    fn read_at(&self, _file: &OpenFile, _offset: u64, _sink: &mut Sink<'_>) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn seek(&self, position: u64, offset: i64, whence: u32) -> Result<u64> {
        seek_within(position, offset, whence, 0)
    }

    fn read_dir(&self, position: u64, _room: usize, emit: Emit<'_>) -> Result<()> {
        let dots: [(&[u8], Kind); 2] = [(b".", Kind::Directory), (b"..", Kind::Directory)];
        let entries = (self.0.list)()?;
        let all = dots
            .iter()
            .map(|(name, kind)| (*name, *kind))
            .chain(entries.iter().map(|(name, kind)| (name.as_slice(), *kind)));
        let mut placed: Vec<_> =
            all.enumerate().map(|(index, entry)| (place(index, entry.0), entry)).collect();
        placed.sort_unstable_by_key(|(place, _)| *place);
        for (place, (name, kind)) in placed.into_iter().filter(|(place, _)| *place >= position) {
            let ino = self.0.common.ino ^ stable_ino(&[name]);
            let entry = DirEntry { ino, next: place + 1, kind: kind.directory_type(), name };
            if !emit(entry) {
                break;
            }
        }
        Ok(())
    }

    fn sync(&self, _data_only: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }
}

/// lseek(2) in a file that ends at `end`: `EINVAL`.
pub fn seek_within(position: u64, offset: i64, whence: u32, end: u64) -> Result<u64> {
    let base = match whence {
        raw::SEEK_SET => 0,
        raw::SEEK_CUR => position,
        raw::SEEK_END => end,
        _ => return Err(Errno::EINVAL),
    };
    base.checked_add_signed(offset).filter(|&position| position <= i64::MAX as u64).ok_or(Errno::EINVAL)
}

impl Inode for File {
    fn attributes(&self) -> Result<Attributes> {
        Ok(self.common.attributes(Kind::Regular))
    }

    fn kind(&self) -> Kind {
        Kind::Regular
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        may_not_change(change)
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<dyn FileOps>> {
        if flags & raw::O_ACCMODE != raw::O_RDONLY && self.write.is_none() {
            return Err(Errno::EACCES);
        }
        self.check.as_ref().map_or(Ok(()), |check| check())?;
        Ok(Arc::new(OpenGenerated { file: self, contents: Mutex::new(None) }))
    }

    fn cacheable(&self) -> bool {
        false
    }

    fn revalidate(&self, _parent: &dyn Inode, _name: &[u8], _told: &mut Option<Attributes>) -> bool {
        false
    }

    fn filesystem(&self) -> Result<raw::statfs> {
        Ok(self.common.filesystem())
    }
}

impl Inode for Special {
    fn attributes(&self) -> Result<Attributes> {
        Ok(self.common.attributes(Kind::Regular))
    }

    fn kind(&self) -> Kind {
        Kind::Regular
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        may_not_change(change)
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<dyn FileOps>> {
        (self.open)(flags)
    }

    fn cacheable(&self) -> bool {
        false
    }

    fn revalidate(&self, _parent: &dyn Inode, _name: &[u8], _told: &mut Option<Attributes>) -> bool {
        false
    }

    fn filesystem(&self) -> Result<raw::statfs> {
        Ok(self.common.filesystem())
    }
}

/// An open generated file: contents are made at the first read from the start, so that one reader sees one state.
struct OpenGenerated {
    file: Arc<File>,
    contents: Mutex<Option<Vec<u8>>>,
}

impl FileOps for OpenGenerated {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seekable(&self) -> bool {
        true
    }

    fn read_at(&self, _file: &OpenFile, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        let fresh =
            if offset == 0 || self.contents.lock().is_none() { Some((self.file.read)()?) } else { None };
        let mut contents = self.contents.lock();
        if fresh.is_some() {
            *contents = fresh;
        }
        let contents = contents.as_deref().unwrap_or(&[]);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(contents.len());
        sink.put(contents.get(from..).unwrap_or(&[]))
    }

    fn write_at(&self, _file: &OpenFile, _offset: u64, source: &mut Source<'_>) -> Result<usize> {
        /// What any writable file of proc takes at once.
        const MAX: usize = 4096;
        let write = self.file.write.as_ref().ok_or(Errno::EIO)?;
        let mut bytes = alloc::vec![0; source.left().min(MAX)];
        let count = source.take(&mut bytes)?;
        bytes.truncate(count);
        write(&bytes)?;
        Ok(count)
    }

    fn append(&self, file: &OpenFile, source: &mut Source<'_>) -> Result<(usize, u64)> {
        self.write_at(file, 0, source).map(|count| (count, count as u64))
    }

    fn seek(&self, position: u64, offset: i64, whence: u32) -> Result<u64> {
        seek_within(position, offset, whence, 0)
    }
}

impl Inode for Link {
    fn attributes(&self) -> Result<Attributes> {
        let mut attributes = self.common.attributes(Kind::Symlink);
        attributes.size = self.size;
        Ok(attributes)
    }

    fn kind(&self) -> Kind {
        Kind::Symlink
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        may_not_change(change)
    }

    fn open(self: Arc<Self>, _flags: u32) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ELOOP)
    }

    fn cacheable(&self) -> bool {
        false
    }

    fn revalidate(&self, _parent: &dyn Inode, _name: &[u8], _told: &mut Option<Attributes>) -> bool {
        false
    }

    fn read_link(&self) -> Result<LinkTarget> {
        (self.follow)()
    }

    fn filesystem(&self) -> Result<raw::statfs> {
        Ok(self.common.filesystem())
    }
}
