//! How a host inode is reached: through descriptors that are kept or open, or by its place.

use super::{HostFd, HostInode, Name, stat};
use crate::attributes::{Attributes, Kind};
use crate::inode::{Inode, LinkTarget};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;
use trap_handler::host;

/// Flags of open(2) that go on to the host. `O_NONBLOCK`: should the name have become a pipe, the open must not wait for its other
/// end.
fn passed_flags(flags: u32) -> u32 {
    flags & (raw::O_ACCMODE | raw::O_SYNC | raw::O_DSYNC) | raw::O_NONBLOCK | raw::O_NOCTTY
}

impl HostInode {
    fn kept(&self) -> Option<Arc<HostFd>> {
        let kept = self.state.lock().kept.clone();
        if kept.is_some() {
            self.used.store(true, Ordering::Relaxed);
        }
        kept
    }

    fn keep(&self, fd: Arc<HostFd>) -> Arc<HostFd> {
        let kept = {
            let mut state = self.state.lock();
            match &state.kept {
                Some(other) => return other.clone(),
                None => state.kept.insert(fd).clone(),
            }
        };
        self.used.store(true, Ordering::Relaxed);
        self.fs.tree.pool.keep(self.me.clone());
        kept
    }

    /// A descriptor of a directory, which may be `O_PATH`: the kept one, or reopened through its parents.
    pub(super) fn directory(&self) -> Result<Arc<HostFd>> {
        if self.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if let Some(fd) = self.kept() {
            return Ok(fd);
        }
        // Not recursive: a kernel stack is small and a tree may be deep.
        let mut missing = Vec::new();
        let mut at = self.arc()?;
        let mut fd = loop {
            if let Some(fd) = at.kept() {
                break fd;
            }
            let place = at.state.lock().places.first().cloned();
            let (parent, name) = place.ok_or(Errno::ENOENT)?;
            missing.push((at, name));
            at = parent;
        };
        while let Some((inode, name)) = missing.pop() {
            fd = inode.open_directory(&fd, &Name::new(&name)?)?;
            inode.check(&fd)?;
            fd = inode.keep(fd);
        }
        Ok(fd)
    }

    /// For reading where there may be access control lists, which a descriptor that is only a place does not give.
    fn open_directory(&self, above: &HostFd, name: &Name) -> Result<Arc<HostFd>> {
        let open = |flags| self.fs.tree.pool.open_at(above, name.as_c_str(), flags | raw::O_DIRECTORY, 0);
        if !self.has_lists() {
            return open(raw::O_PATH);
        }
        match open(raw::O_RDONLY) {
            Err(Errno::EACCES) => open(raw::O_PATH),
            other => other,
        }
    }

    /// `ESTALE` if the name has come to mean something else.
    fn check(&self, fd: &HostFd) -> Result<()> {
        if !self.fs.shared {
            return Ok(());
        }
        let stat = host::statx(fd.number(), c"", raw::AT_EMPTY_PATH, raw::STATX_BASIC_STATS)?;
        if stat::identity(&stat) == self.id && stat::kind(&stat) == self.kind {
            Ok(())
        } else {
            Err(Errno::ESTALE)
        }
    }

    /// Its parent's descriptor and its name there.
    pub(super) fn place(&self) -> Result<(Arc<HostFd>, Name)> {
        let place = self.state.lock().places.first().cloned();
        let (parent, name) = place.ok_or(Errno::ENOENT)?;
        Ok((parent.directory()?, Name::new(&name)?))
    }

    /// Makes a host call that names this inode: by an open descriptor with `AT_EMPTY_PATH` where there is one, by its place
    /// with `AT_SYMLINK_NOFOLLOW` otherwise.
    pub(super) fn with_target<T>(&self, call: impl Fn(i32, &CStr, u32) -> Result<T>) -> Result<T> {
        let open = {
            let state = self.state.lock();
            state.kept.clone().or_else(|| state.open.upgrade()).or_else(|| state.made.clone())
        };
        if let Some(fd) = open {
            return call(fd.number(), c"", raw::AT_EMPTY_PATH);
        }
        let (directory, name) = self.place()?;
        call(directory.number(), name.as_c_str(), raw::AT_SYMLINK_NOFOLLOW)
    }

    /// The descriptor that is open, not only for its place, if one is.
    pub(super) fn open_descriptor(&self) -> Option<Arc<HostFd>> {
        let state = self.state.lock();
        let kept = state.kept.as_ref().filter(|kept| kept.is_open());
        state.open.upgrade().or_else(|| state.made.clone()).or_else(|| kept.cloned())
    }

    /// Its last name is about to go. Whoever only has its place (`O_PATH`) can open it all the same, or change it.
    pub(super) fn outlive_name(&self) {
        match self.kind {
            Kind::Directory => drop(self.directory()),
            Kind::Regular if self.open_descriptor().is_none() => {
                let made =
                    [raw::O_RDWR, raw::O_RDONLY].into_iter().find_map(|access| self.open_data(access).ok());
                self.state.lock().made = made;
            }
            Kind::Symlink => {
                if let Ok(LinkTarget::Text(text)) = self.read_link() {
                    self.state.lock().link = Some(text.into_boxed_slice());
                }
            }
            _ => {}
        }
    }

    /// Opens the data of a regular file.
    pub(super) fn open_data(&self, flags: u32) -> Result<Arc<HostFd>> {
        let access = flags & raw::O_ACCMODE;
        // Before the host is asked: to open for a change is death by the filter where nothing is writable.
        if self.fs.read_only && (access != raw::O_RDONLY || flags & raw::O_TRUNC != 0) {
            return Err(Errno::EROFS);
        }
        if self.fs.immutable()
            && let Some(fd) = self.kept()
        {
            return Ok(fd);
        }
        let made = {
            let mut state = self.state.lock();
            // It is all that there is of a file without a name.
            if state.gone.is_some() { state.made.clone() } else { state.made.take() }
        };
        let fd = match made {
            Some(made) if !made.covers(flags) => return Err(Errno::EACCES),
            Some(made) => {
                if flags & raw::O_TRUNC != 0 {
                    host::ftruncate(made.number(), 0)?;
                }
                made
            }
            None => match self.place() {
                Ok((directory, name)) => {
                    let flags = flags & raw::O_TRUNC | passed_flags(flags);
                    let fd = self.fs.tree.pool.open_at(&directory, name.as_c_str(), flags, 0)?;
                    self.check(&fd)?;
                    fd
                }
                // A removed file opened again through `/proc/PID/fd`.
                Err(error) => self.state.lock().open.upgrade().filter(|fd| fd.covers(flags)).ok_or(error)?,
            },
        };
        if self.fs.immutable() {
            return Ok(self.keep(fd));
        }
        self.state.lock().open = Arc::downgrade(&fd);
        if flags & raw::O_TRUNC != 0 {
            self.data_changed();
        }
        Ok(fd)
    }

    /// Opens the data of a regular file in a shared tree for reading, by a name that it had when it was looked at last, with its attributes:
    /// `None` if the name means something else now, or if the host opens nothing there.
    pub(super) fn open_data_at(
        &self,
        parent: &HostInode,
        name: &[u8],
        flags: u32,
    ) -> Option<(Arc<HostFd>, Attributes)> {
        let reads = flags & (raw::O_ACCMODE | raw::O_TRUNC) == raw::O_RDONLY;
        if !reads || self.kind != Kind::Regular || !self.fs.shared || self.state.lock().made.is_some() {
            return None;
        }
        let (directory, name) = (parent.directory().ok()?, Name::new(name).ok()?);
        let flags = passed_flags(flags);
        let fd = self.fs.tree.pool.open_at(&directory, name.as_c_str(), flags, 0).ok()?;
        let stat = host::statx(fd.number(), c"", raw::AT_EMPTY_PATH, stat::MASK).ok()?;
        if stat::identity(&stat) != self.id || stat::kind(&stat) != self.kind {
            return None;
        }
        self.state.lock().open = Arc::downgrade(&fd);
        Some((fd, stat::attributes(&stat, &self.fs.tree.ids)))
    }

    /// A descriptor that data can be written through, for changes of the size.
    pub(super) fn writable(&self) -> Result<Arc<HostFd>> {
        match self.open_descriptor() {
            Some(fd) if fd.covers(raw::O_WRONLY) => Ok(fd),
            _ => {
                let (directory, name) = self.place()?;
                let flags = raw::O_WRONLY | raw::O_NONBLOCK | raw::O_NOCTTY;
                let fd = self.fs.tree.pool.open_at(&directory, name.as_c_str(), flags, 0)?;
                self.check(&fd)?;
                Ok(fd)
            }
        }
    }

    /// A descriptor to copy a regular file's contents from.
    pub(crate) fn open_for_copy(&self) -> Result<Arc<HostFd>> {
        if self.kind == Kind::Regular { self.open_data(raw::O_RDONLY) } else { Err(Errno::EINVAL) }
    }
}
