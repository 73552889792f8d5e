//! Inodes of an overlay: attributes and copying up.

use super::data::UpperData;
use super::directory::Directory;
use super::file::OverlayFile;
use super::listing::{Listable, Listed, OpenDirectory};
use super::{OVERLAYFS_SUPER_MAGIC, OverlayFs};
use crate::acl;
use crate::attributes::{AttributeChange, Attributes, Kind, Owner};
use crate::device::open_device;
use crate::file::FileOps;
use crate::host::HostInode;
use crate::inode::{AclMode, Inode, LinkTarget, NewKind, NewNode};
use crate::namespace::without_set_ids;
use crate::pipe::{FifoState, open_fifo};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::cred::cap;
use kernel::sync::Mutex;
use kernel::task;
use kernel::time::file_time;
use linux_raw_sys::general as raw;

/// What the upper knows of an inode.
#[derive(Clone)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) nlink: u64,
    pub(super) atime: raw::timespec,
    pub(super) mtime: raw::timespec,
    pub(super) ctime: raw::timespec,
    pub(super) btime: Option<raw::timespec>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// An inode of an overlay.
pub struct OverlayInode {
    pub(super) fs: Arc<OverlayFs>,
    me: Weak<OverlayInode>,
    kind: Kind,
    dev: u64,
    pub(super) ino: u64,
    rdev: u64,
    /// What it is, or was before it was changed, in the lower.
    pub(super) lower: Option<Arc<HostInode>>,
    /// `None` as long as nothing was changed.
    meta: Mutex<Option<Meta>>,
    /// Whether there is some: never taken back, read without the lock.
    changed: AtomicBool,
    /// Entries of the upper, for directories.
    pub(super) directory: Mutex<Directory>,
    /// Contents of a regular file, once they are in the upper.
    data: Mutex<Option<Arc<UpperData>>>,
    /// Text of a symbolic link made in the upper.
    link: Box<[u8]>,
    held: AtomicBool,
    /// The pipe of a FIFO: the overlay's own, whoever has the lower's open outside.
    fifo: Option<Arc<FifoState>>,
}

impl OverlayInode {
    /// The unchanged inode over one of the lower.
    pub(super) fn over(fs: Arc<OverlayFs>, lower: Arc<HostInode>) -> Arc<OverlayInode> {
        let ((dev, ino), kind) = (lower.id(), lower.kind());
        Arc::new_cyclic(|me| OverlayInode {
            fs,
            me: me.clone(),
            kind,
            dev,
            ino,
            rdev: 0,
            lower: Some(lower),
            meta: Mutex::new(None),
            changed: AtomicBool::new(false),
            directory: Mutex::default(),
            data: Mutex::new(None),
            link: Box::default(),
            held: AtomicBool::new(false),
            fifo: (kind == Kind::Fifo).then(Arc::default),
        })
    }

    /// A new inode of the upper.
    pub(super) fn make(fs: Arc<OverlayFs>, node: &NewNode<'_>, nlink: u64) -> Arc<OverlayInode> {
        let (kind, rdev) = match node.what {
            NewKind::Regular => (Kind::Regular, 0),
            NewKind::Directory => (Kind::Directory, 0),
            NewKind::Symlink(_) => (Kind::Symlink, 0),
            NewKind::Fifo => (Kind::Fifo, 0),
            NewKind::Socket => (Kind::Socket, 0),
            NewKind::Device(kind, rdev) => (kind, rdev),
        };
        let link = if let NewKind::Symlink(text) = node.what { Box::from(text) } else { Box::default() };
        let now = file_time();
        let meta = Meta {
            mode: kind.mode_bits() | (node.mode & 0o7777),
            uid: node.uid,
            gid: node.gid,
            nlink,
            atime: now,
            mtime: now,
            ctime: now,
            btime: Some(now),
            xattrs: BTreeMap::new(),
        };
        let data = (kind == Kind::Regular).then(|| Arc::new(UpperData::default()));
        let (dev, ino) = (fs.dev, fs.new_ino());
        Arc::new_cyclic(|me| OverlayInode {
            fs,
            me: me.clone(),
            kind,
            dev,
            ino,
            rdev,
            lower: None,
            meta: Mutex::new(Some(meta)),
            changed: AtomicBool::new(true),
            directory: Mutex::default(),
            data: Mutex::new(data),
            link,
            held: AtomicBool::new(false),
            fifo: (kind == Kind::Fifo).then(Arc::default),
        })
    }

    pub(super) fn arc(&self) -> Result<Arc<OverlayInode>> {
        self.me.upgrade().ok_or(Errno::ENOENT)
    }

    /// Whether the upper knows more of it than where it is.
    pub(super) fn is_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    fn copied_meta(&self) -> Result<Meta> {
        let node = self.lower.as_ref().ok_or(Errno::EIO)?;
        let lower = node.attributes()?;
        let mut xattrs = BTreeMap::new();
        for name in node.list_xattr()?.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            xattrs.insert(name.to_vec(), node.xattr(name)?);
        }
        Ok(Meta {
            mode: lower.mode,
            uid: lower.uid,
            gid: lower.gid,
            // The link count of a merged directory says nothing; 1 tells find(1) so.
            nlink: if self.kind == Kind::Directory { 1 } else { lower.nlink },
            atime: lower.atime,
            mtime: lower.mtime,
            ctime: lower.ctime,
            btime: lower.btime,
            xattrs,
        })
    }

    /// Changes what the upper knows, after copying it up if need be.
    pub(super) fn change<T>(&self, action: impl FnOnce(&mut Meta) -> T) -> Result<T> {
        let copied = if self.is_changed() { None } else { Some(self.copied_meta()?) };
        let (result, named) = {
            let mut meta = self.meta.lock();
            let meta = match (&mut *meta, copied) {
                (Some(meta), _) => meta,
                (none, Some(copied)) => none.insert(copied),
                (None, None) => return Err(Errno::EIO),
            };
            self.changed.store(true, Ordering::Release);
            (action(meta), meta.nlink > 0)
        };
        if let Some(lower) = &self.lower {
            if named && !self.held.swap(true, Ordering::SeqCst) {
                self.fs.hold(lower.id(), self.arc()?);
            } else if !named && self.held.swap(false, Ordering::SeqCst) {
                self.fs.release(lower.id());
            }
        }
        Ok(result)
    }

    /// The contents or the entries were changed.
    pub(super) fn modified(&self) -> Result<()> {
        let now = file_time();
        self.change(|meta| (meta.mtime, meta.ctime) = (now, now))
    }

    /// The contents were written: set-ID bits go with it unless the caller may keep them.
    pub(super) fn written(&self) -> Result<()> {
        let now = file_time();
        self.change(|meta| {
            (meta.mtime, meta.ctime) = (now, now);
            if meta.mode & (raw::S_ISUID | raw::S_ISGID) != 0 {
                let cred = task::current().cred();
                if !cred.has(cap::FSETID) {
                    let owner = Owner { mode: meta.mode, uid: meta.uid, gid: meta.gid, acl: false };
                    meta.mode = (meta.mode & raw::S_IFMT) | without_set_ids(&cred, &owner);
                }
            }
        })
    }

    /// One name more.
    pub(super) fn linked(&self) -> Result<()> {
        let now = file_time();
        self.change(|meta| {
            meta.nlink = meta.nlink.saturating_add(1);
            meta.ctime = now;
        })
    }

    /// One name fewer; a directory has none then.
    pub(super) fn unlinked(&self) -> Result<()> {
        let now = file_time();
        let directory = self.kind == Kind::Directory;
        self.change(|meta| {
            meta.nlink = if directory { 0 } else { meta.nlink.saturating_sub(1) };
            meta.ctime = now;
        })
    }

    /// The contents in the upper, if they are there.
    pub(super) fn upper_data(&self) -> Option<Arc<UpperData>> {
        self.data.lock().clone()
    }

    /// Copies the contents up, at most `limit` bytes of them. Outside of all locks: two may copy, one copy stays.
    pub(super) fn copy_up(&self, limit: u64) -> Result<Arc<UpperData>> {
        if let Some(data) = self.upper_data() {
            return Ok(data);
        }
        let lower = self.lower.as_ref().ok_or(Errno::EIO)?;
        let data = Arc::new(UpperData::default());
        let size = lower.attributes()?.size.min(limit);
        if size > 0 {
            data.fill_from(&*lower.open_for_copy()?, size)?;
        }
        data.truncate(size)?;
        let data = self.data.lock().get_or_insert(data).clone();
        self.change(|_| ())?;
        Ok(data)
    }

    fn open_regular(self: Arc<Self>, flags: u32) -> Result<Arc<dyn FileOps>> {
        let truncated = flags & raw::O_TRUNC != 0;
        if truncated || flags & raw::O_ACCMODE != raw::O_RDONLY {
            let data = self.copy_up(if truncated { 0 } else { u64::MAX })?;
            if truncated {
                data.truncate(0)?;
                self.written()?;
            }
            return Ok(Arc::new(OverlayFile::new(self, data)));
        }
        match (self.upper_data(), &self.lower) {
            (Some(data), _) => Ok(Arc::new(OverlayFile::new(self, data))),
            (None, Some(lower)) => lower.clone().open(raw::O_RDONLY),
            (None, None) => Err(Errno::EIO),
        }
    }
}

impl Drop for OverlayInode {
    fn drop(&mut self) {
        if let Some(lower) = &self.lower {
            self.fs.forget(lower.id());
        }
    }
}

impl Listable for OverlayInode {
    fn list(&self) -> Result<Vec<Listed>> {
        self.merged()
    }

    fn plain(&self) -> Result<Option<Arc<dyn FileOps>>> {
        match &self.lower {
            Some(lower) if self.has_no_entries() => {
                lower.clone().open(raw::O_RDONLY | raw::O_DIRECTORY).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn number(&self) -> u64 {
        self.ino
    }
}

impl Inode for OverlayInode {
    fn attributes(&self) -> Result<Attributes> {
        let lower = match &self.lower {
            Some(lower) => Some(lower.attributes()?),
            None => None,
        };
        if !self.is_changed() {
            return lower.ok_or(Errno::EIO);
        }
        let meta = self.meta.lock();
        let meta = meta.as_ref().ok_or(Errno::EIO)?;
        let (size, blocks) = match (self.kind, self.upper_data(), lower) {
            (Kind::Regular, Some(data), _) => (data.size(), data.blocks()),
            (Kind::Symlink, _, None) => (self.link.len() as u64, 0),
            (Kind::Directory, _, None) => (4096, 8),
            (_, _, lower) => lower.map_or((0, 0), |lower| (lower.size, lower.blocks)),
        };
        Ok(Attributes {
            dev: self.dev,
            ino: self.ino,
            mode: meta.mode,
            nlink: meta.nlink,
            uid: meta.uid,
            gid: meta.gid,
            rdev: lower.map_or(self.rdev, |lower| lower.rdev),
            size,
            blksize: 4096,
            blocks,
            atime: meta.atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            btime: meta.btime,
        })
    }

    fn owner(&self) -> Result<Owner> {
        if !self.is_changed()
            && let Some(lower) = &self.lower
        {
            return lower.owner();
        }
        let meta = self.meta.lock();
        let meta = meta.as_ref().ok_or(Errno::EIO)?;
        let acl = !meta.xattrs.is_empty() && meta.xattrs.contains_key(acl::ACCESS);
        Ok(Owner { mode: meta.mode, uid: meta.uid, gid: meta.gid, acl })
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
            match self.kind {
                Kind::Regular => self.copy_up(size)?.truncate(size)?,
                Kind::Directory => return Err(Errno::EISDIR),
                _ => return Err(Errno::EINVAL),
            }
        }
        self.change(|meta| {
            if let Some(mode) = change.mode {
                meta.mode = (meta.mode & raw::S_IFMT) | (mode & 0o7777);
                if let Some(list) = meta.xattrs.get_mut(acl::ACCESS) {
                    acl::change_mode(list, mode);
                }
            }
            meta.uid = change.uid.unwrap_or(meta.uid);
            meta.gid = change.gid.unwrap_or(meta.gid);
            if change.size.is_some() {
                meta.mtime = now;
            }
            meta.atime = change.atime.unwrap_or(meta.atime);
            meta.mtime = change.mtime.unwrap_or(meta.mtime);
            meta.ctime = now;
        })
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<dyn FileOps>> {
        match (self.kind, &self.lower) {
            (Kind::Regular, _) => self.open_regular(flags),
            (Kind::Directory, _) => Ok(Arc::new(OpenDirectory::new(self))),
            (Kind::Fifo, _) => match &self.fifo {
                Some(fifo) => open_fifo(fifo, flags),
                None => Err(Errno::ENXIO),
            },
            (_, Some(lower)) => lower.clone().open(flags),
            (Kind::Symlink, None) => Err(Errno::ELOOP),
            (Kind::CharDevice, None) => open_device(self.rdev, flags),
            (_, None) => Err(Errno::ENXIO),
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        match self.find(name)? {
            Some(node) => Ok(node),
            None => Err(Errno::ENOENT),
        }
    }

    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        Ok(self.make_entry(name, node)?)
    }

    fn create_unnamed(&self, node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        if self.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok(OverlayInode::make(self.fs.clone(), node, 0))
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        self.link_entry(name, target)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.remove_file(name)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.remove_directory(name)
    }

    fn rename(&self, name: &[u8], new_parent: &Arc<dyn Inode>, new_name: &[u8], flags: u32) -> Result<()> {
        self.rename_entry(name, new_parent, new_name, flags)
    }

    fn read_link(&self) -> Result<LinkTarget> {
        match (self.kind, &self.lower) {
            (Kind::Symlink, Some(lower)) => lower.read_link(),
            (Kind::Symlink, None) => Ok(LinkTarget::Text(self.link.to_vec())),
            _ => Err(Errno::EINVAL),
        }
    }

    fn filesystem(&self) -> Result<raw::statfs> {
        let mut statfs = self.fs.lower.filesystem()?;
        statfs.f_type = OVERLAYFS_SUPER_MAGIC;
        Ok(statfs)
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        if !acl::is_name(name) {
            supported(name)?;
        }
        if let Some(meta) = &*self.meta.lock() {
            return meta.xattrs.get(name).cloned().ok_or(Errno::ENODATA);
        }
        match self.lower.as_ref().map(|lower| lower.xattr(name)) {
            // Of what the host does not tell, the upper could still have some.
            None | Some(Err(Errno::EOPNOTSUPP)) => Err(Errno::ENODATA),
            Some(value) => value,
        }
    }

    fn set_xattr(&self, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result<()> {
        supported(name)?;
        self.change(|meta| {
            let present = meta.xattrs.contains_key(name);
            match value {
                None if !present => return Err(Errno::ENODATA),
                None => drop(meta.xattrs.remove(name)),
                Some(_) if flags & raw::XATTR_CREATE != 0 && present => return Err(Errno::EEXIST),
                Some(_) if flags & raw::XATTR_REPLACE != 0 && !present => return Err(Errno::ENODATA),
                Some(value) => drop(meta.xattrs.insert(name.to_vec(), value.to_vec())),
            }
            meta.ctime = file_time();
            Ok(())
        })?
    }

    fn keeps_acls(&self) -> bool {
        self.kind != Kind::Symlink
    }

    fn set_acl(&self, name: &[u8], value: Option<Vec<u8>>, mode: &AclMode) -> Result<()> {
        self.change(|meta| {
            meta.mode = mode.apply(meta.mode);
            match value {
                Some(value) => drop(meta.xattrs.insert(name.to_vec(), value)),
                None => drop(meta.xattrs.remove(name)),
            }
            meta.ctime = file_time();
        })
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        if let Some(meta) = &*self.meta.lock() {
            return Ok(acl::names(meta.xattrs.keys()));
        }
        self.lower.as_ref().map_or(Ok(Vec::new()), |lower| lower.list_xattr())
    }
}

/// The namespaces whose names are kept as they come (xattr(7)).
fn supported(name: &[u8]) -> Result<()> {
    let kept = [&b"user."[..], b"trusted.", b"security."];
    if kept.iter().any(|prefix| name.starts_with(prefix)) { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}
