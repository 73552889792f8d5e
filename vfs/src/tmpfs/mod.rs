//! Filesystem `tmpfs` (tmpfs(5)): everything in memory, data in page frames.
//!
//! Locks: a directory's entries are a directory lock, an inode's attributes an inode lock below it. Who changes more than one
//! directory at once (rename) is kept apart from others by the dentries' locks above.

mod directory;
mod file;
mod names;

use crate::acl;
use crate::attributes::{AttributeChange, Attributes, Kind, Owner, device};
use crate::file::FileOps;
use crate::inode::{AclMode, Inode, LinkTarget, NewKind, NewNode};
use crate::page_file::{PageFile, Quota};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use boundary::layout::PAGE_SIZE;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
pub(crate) use directory::Entries;
use directory::{Directory, TmpDirectory};
use file::TmpFile;
use kernel::sync::Mutex;
use kernel::time::file_time;
use linux_raw_sys::general as raw;

/// `TMPFS_MAGIC`.
const MAGIC: i64 = 0x0102_1994;
/// Inodes that every filesystem may have, however small it is.
const INODES_MIN: u64 = 4096;
/// What a name counts for in the size of its directory (`BOGO_DIRENT_SIZE`).
const NAME_SIZE: u64 = 20;
/// Names and values of extended attributes of one inode, in bytes.
const XATTR_MAX: usize = 128 << 10;

/// One mounted filesystem.
pub(crate) struct Filesystem {
    dev: u64,
    quota: Arc<Quota>,
    inodes: AtomicU64,
    inodes_max: u64,
    next_ino: AtomicU64,
}

/// A new, empty filesystem of at most `size` bytes; its root directory. `owner` is user and group of that.
pub fn mount(size: u64, mode: u32, owner: (u32, u32)) -> Result<Arc<dyn Inode>> {
    let pages = size.div_ceil(PAGE_SIZE);
    let fs = Arc::new_cyclic(|fs: &Weak<Filesystem>| Filesystem {
        // Its address tells it from others: a counter would have to be shared by all processes.
        dev: device(0, (fs.as_ptr() as u64 >> 7 & 0xf_ffff) as u32),
        quota: Quota::new(pages),
        inodes: AtomicU64::new(0),
        inodes_max: pages.max(INODES_MIN),
        next_ino: AtomicU64::new(1),
    });
    let node = NewNode { what: NewKind::Directory, mode, uid: owner.0, gid: owner.1 };
    let root: Arc<TmpInode> = TmpInode::new(&fs, &node, 2)?;
    root.directory()?.lock().parent = Arc::downgrade(&root);
    Ok(root)
}

struct Meta {
    /// Permission bits.
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u64,
    atime: raw::timespec,
    mtime: raw::timespec,
    ctime: raw::timespec,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

enum Content {
    File(Arc<PageFile>),
    Directory(Mutex<Directory>),
    Link(Box<[u8]>),
    Fifo(Arc<crate::pipe::FifoState>),
    Socket,
    Device(u64),
}

/// An inode.
pub struct TmpInode {
    fs: Arc<Filesystem>,
    me: Weak<TmpInode>,
    ino: u64,
    kind: Kind,
    btime: raw::timespec,
    content: Content,
    meta: Mutex<Meta>,
}

impl TmpInode {
    fn new(fs: &Arc<Filesystem>, node: &NewNode<'_>, nlink: u64) -> Result<Arc<TmpInode>> {
        let fits = |count: u64| (count < fs.inodes_max).then_some(count + 1);
        fs.inodes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|_| Errno::ENOSPC)?;
        let (kind, content) = match &node.what {
            NewKind::Regular => (Kind::Regular, Content::File(PageFile::new(Some(fs.quota.clone())))),
            NewKind::Directory => (Kind::Directory, Content::Directory(Mutex::default())),
            NewKind::Symlink(text) => (Kind::Symlink, Content::Link((*text).into())),
            NewKind::Fifo => (Kind::Fifo, Content::Fifo(Arc::default())),
            NewKind::Socket => (Kind::Socket, Content::Socket),
            NewKind::Device(kind, rdev) => (*kind, Content::Device(*rdev)),
        };
        let now = file_time();
        let meta = Meta {
            mode: node.mode & 0o7777,
            uid: node.uid,
            gid: node.gid,
            nlink,
            atime: now,
            mtime: now,
            ctime: now,
            xattrs: BTreeMap::new(),
        };
        Ok(Arc::new_cyclic(|me| TmpInode {
            fs: fs.clone(),
            me: me.clone(),
            ino: fs.next_ino.fetch_add(1, Ordering::Relaxed),
            kind,
            btime: now,
            content,
            meta: Mutex::new(meta),
        }))
    }

    fn directory(&self) -> Result<&Mutex<Directory>> {
        match &self.content {
            Content::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    fn same_filesystem(&self, other: &Arc<dyn Inode>) -> Result<Arc<TmpInode>> {
        let other = other.as_any().downcast_ref::<TmpInode>().ok_or(Errno::EXDEV)?;
        if Arc::ptr_eq(&self.fs, &other.fs) {
            other.me.upgrade().ok_or(Errno::ENOENT)
        } else {
            Err(Errno::EXDEV)
        }
    }

    fn changed(&self) {
        let now = file_time();
        self.meta.lock().ctime = now;
    }

    /// Its contents were read: as `relatime` has it, once after each change.
    fn accessed(&self) {
        let mut meta = self.meta.lock();
        let stamp = |time: &raw::timespec| (time.tv_sec, time.tv_nsec);
        if stamp(&meta.atime) <= stamp(&meta.mtime) || stamp(&meta.atime) <= stamp(&meta.ctime) {
            meta.atime = file_time();
        }
    }
}

impl Drop for TmpInode {
    fn drop(&mut self) {
        self.fs.inodes.fetch_sub(1, Ordering::Relaxed);
        // In a loop: a tree would recurse as deep as it is.
        let mut left = Vec::new();
        if let Content::Directory(directory) = &mut self.content {
            left.extend(directory.get_mut().entries.take_all());
        }
        while let Some(inode) = left.pop() {
            if let Some(mut inode) = Arc::into_inner(inode)
                && let Content::Directory(directory) = &mut inode.content
            {
                left.extend(directory.get_mut().entries.take_all());
            }
        }
    }
}

impl Inode for TmpInode {
    fn attributes(&self) -> Result<Attributes> {
        let (size, blocks, rdev) = match &self.content {
            Content::File(data) => {
                let (size, blocks) = data.size_and_blocks();
                (size, blocks, 0)
            }
            Content::Directory(directory) => {
                ((directory.lock().entries.len() as u64 + 2).saturating_mul(NAME_SIZE), 0, 0)
            }
            Content::Link(text) => (text.len() as u64, 0, 0),
            Content::Device(rdev) => (0, 0, *rdev),
            Content::Fifo(_) | Content::Socket => (0, 0, 0),
        };
        let meta = self.meta.lock();
        Ok(Attributes {
            dev: self.fs.dev,
            ino: self.ino,
            mode: self.kind.mode_bits() | meta.mode,
            nlink: meta.nlink,
            uid: meta.uid,
            gid: meta.gid,
            rdev,
            size,
            blksize: PAGE_SIZE as u32,
            blocks,
            atime: meta.atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            btime: Some(self.btime),
        })
    }

    fn owner(&self) -> Result<Owner> {
        let meta = self.meta.lock();
        let acl = !meta.xattrs.is_empty() && meta.xattrs.contains_key(acl::ACCESS);
        Ok(Owner { mode: self.kind.mode_bits() | meta.mode, uid: meta.uid, gid: meta.gid, acl })
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        let now = file_time();
        if let Some(size) = change.size {
            let Content::File(data) = &self.content else { return Err(Errno::EINVAL) };
            data.truncate(size)?;
        }
        let mut meta = self.meta.lock();
        if let Some(mode) = change.mode {
            meta.mode = mode & 0o7777;
            if let Some(list) = meta.xattrs.get_mut(acl::ACCESS) {
                acl::change_mode(list, mode);
            }
        }
        meta.uid = change.uid.unwrap_or(meta.uid);
        meta.gid = change.gid.unwrap_or(meta.gid);
        meta.atime = change.atime.unwrap_or(meta.atime);
        meta.mtime = match change.mtime {
            Some(mtime) => mtime,
            None if change.size.is_some() => now,
            None => meta.mtime,
        };
        meta.ctime = now;
        Ok(())
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<dyn FileOps>> {
        match &self.content {
            Content::File(data) => {
                let file = TmpFile { data: data.clone(), inode: self.clone() };
                if flags & raw::O_TRUNC != 0 {
                    self.set_attributes(&AttributeChange { size: Some(0), ..AttributeChange::default() })?;
                    file.written();
                }
                Ok(Arc::new(file))
            }
            Content::Directory(_) => Ok(Arc::new(TmpDirectory(self))),
            Content::Link(_) => Err(Errno::ELOOP),
            Content::Fifo(state) => crate::pipe::open_fifo(state, flags),
            Content::Socket => Err(Errno::ENXIO),
            Content::Device(rdev) if self.kind == Kind::CharDevice => {
                crate::device::open_device(*rdev, flags)
            }
            Content::Device(_) => Err(Errno::ENXIO),
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Ok(self.child(name)?)
    }

    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        let nlink = if matches!(node.what, NewKind::Directory) { 2 } else { 1 };
        let inode = TmpInode::new(&self.fs, node, nlink)?;
        self.put(name, &inode)?;
        Ok(inode)
    }

    fn create_unnamed(&self, node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        self.directory()?;
        Ok(TmpInode::new(&self.fs, node, 0)?)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target = self.same_filesystem(target)?;
        self.put(name, &target)?;
        let now = file_time();
        let mut meta = target.meta.lock();
        meta.nlink += 1;
        meta.ctime = now;
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        let gone = self.directory()?.lock().entries.remove(name).ok_or(Errno::ENOENT)?;
        gone.unlinked();
        self.names_changed(0);
        Ok(())
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        let victim = self.child(name)?;
        if !victim.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        victim.mark_dead();
        let gone = self.directory()?.lock().entries.remove(name);
        drop(gone);
        victim.unlinked();
        self.names_changed(-1);
        Ok(())
    }

    fn rename(&self, name: &[u8], new_parent: &Arc<dyn Inode>, new_name: &[u8], flags: u32) -> Result<()> {
        if flags & !(raw::RENAME_NOREPLACE | raw::RENAME_EXCHANGE) != 0 {
            return Err(Errno::EINVAL);
        }
        let new_parent = self.same_filesystem(new_parent)?;
        if flags & raw::RENAME_EXCHANGE != 0 {
            return self.exchange(name, &new_parent, new_name);
        }
        let moved = self.child(name)?;
        let replaced = new_parent.child(new_name).ok();
        if let Some(replaced) = &replaced {
            if flags & raw::RENAME_NOREPLACE != 0 {
                return Err(Errno::EEXIST);
            }
            if !replaced.is_empty() {
                return Err(Errno::ENOTEMPTY);
            }
            replaced.mark_dead();
        }
        let old = self.directory()?.lock().entries.remove(name);
        let over = new_parent.directory()?.lock().entries.insert(new_name, moved.clone());
        drop((old, over));
        if let Some(replaced) = &replaced {
            replaced.unlinked();
        }
        if let Ok(directory) = moved.directory() {
            directory.lock().parent = new_parent.me.clone();
        }
        moved.changed();
        let directory = i64::from(moved.is_directory());
        let lost = i64::from(replaced.is_some_and(|replaced| replaced.is_directory()));
        self.names_changed(-directory);
        new_parent.names_changed(directory - lost);
        Ok(())
    }

    fn read_link(&self) -> Result<LinkTarget> {
        match &self.content {
            Content::Link(text) => Ok(LinkTarget::Text(text.to_vec())),
            _ => Err(Errno::EINVAL),
        }
    }

    fn filesystem(&self) -> Result<raw::statfs> {
        let (limit, used) = self.fs.quota.pages();
        let free = limit.saturating_sub(used) as i64;
        let inodes = self.fs.inodes.load(Ordering::Relaxed);
        let id = self.fs.dev;
        Ok(raw::statfs {
            f_type: MAGIC,
            f_bsize: PAGE_SIZE as i64,
            f_blocks: limit as i64,
            f_bfree: free,
            f_bavail: free,
            f_files: self.fs.inodes_max as i64,
            f_ffree: self.fs.inodes_max.saturating_sub(inodes) as i64,
            f_fsid: raw::__kernel_fsid_t { val: [id as i32, (id >> 32) as i32] },
            f_namelen: 255,
            f_frsize: PAGE_SIZE as i64,
            f_flags: 0,
            f_spare: [0; 4],
        })
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        if !acl::is_name(name) {
            known_xattr(name)?;
        }
        let meta = self.meta.lock();
        meta.xattrs.get(name).cloned().ok_or(Errno::ENODATA)
    }

    fn set_xattr(&self, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result<()> {
        known_xattr(name)?;
        let now = file_time();
        let mut meta = self.meta.lock();
        let xattrs = &mut meta.xattrs;
        match (xattrs.contains_key(name), value) {
            (true, Some(_)) if flags & raw::XATTR_CREATE != 0 => return Err(Errno::EEXIST),
            (false, Some(_)) if flags & raw::XATTR_REPLACE != 0 => return Err(Errno::ENODATA),
            (false, None) => return Err(Errno::ENODATA),
            (true, None) => {
                xattrs.remove(name);
            }
            (_, Some(value)) => {
                let others = xattrs.iter().filter(|(other, _)| other.as_slice() != name);
                let used: usize = others.map(|(name, value)| name.len() + value.len()).sum();
                if used + name.len() + value.len() > XATTR_MAX {
                    return Err(Errno::ENOSPC);
                }
                xattrs.insert(name.to_vec(), value.to_vec());
            }
        }
        meta.ctime = now;
        Ok(())
    }

    fn keeps_acls(&self) -> bool {
        self.kind != Kind::Symlink
    }

    fn set_acl(&self, name: &[u8], value: Option<Vec<u8>>, mode: &AclMode) -> Result<()> {
        let now = file_time();
        let mut meta = self.meta.lock();
        meta.mode = mode.apply(meta.mode);
        match value {
            Some(value) => drop(meta.xattrs.insert(name.to_vec(), value)),
            None => drop(meta.xattrs.remove(name)),
        }
        meta.ctime = now;
        Ok(())
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        Ok(acl::names(self.meta.lock().xattrs.keys()))
    }
}

/// `EOPNOTSUPP` for namespaces of extended attributes that this filesystem does not have.
fn known_xattr(name: &[u8]) -> Result<()> {
    let known: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    if known.iter().any(|prefix| name.starts_with(prefix) && name.len() > prefix.len()) {
        Ok(())
    } else {
        Err(Errno::EOPNOTSUPP)
    }
}
