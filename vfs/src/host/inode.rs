//! Inodes of host trees: where they are on the host, what is known of them, how they are opened.

use super::directory::HostDirectory;
use super::file::HostFile;
use super::listing::Listing;
use super::{HostFd, HostFs, Name, stat};
use crate::acl;
use crate::attributes::{AttributeChange, Attributes, Kind, Owner};
use crate::file::FileOps;
use crate::inode::{AclMode, Inode, LinkTarget, NewNode};
use crate::pipe::{FifoState, open_fifo};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::sync::Mutex;
use linux_raw_sys::general as raw;
use trap_handler::host;

/// A directory and a name in it.
pub(crate) type Place = (Arc<HostInode>, Box<[u8]>);

/// An inode of a host tree.
pub struct HostInode {
    pub(super) fs: Arc<HostFs>,
    me: Weak<HostInode>,
    kind: Kind,
    id: (u64, u64),
    used: AtomicBool,
    /// Attributes, if they can never change: read without a lock.
    fixed: Option<Attributes>,
    /// Held by appends, so that two of the sandbox do not take the same place.
    pub(super) end: Mutex<()>,
    pub(super) state: Mutex<State>,
}

/// What changes about an inode.
#[derive(Default)]
pub(super) struct State {
    /// Its names as far as they are known, the one seen last first. None: it is the host root, or has been removed.
    pub(super) places: Vec<Place>,
    /// Text of a symbolic link that can never change.
    link: Option<Box<[u8]>>,
    /// The entries of a directory that can never change, if they were read.
    listing: Option<Arc<Listing>>,
    /// They are too many to keep.
    long: bool,
    /// Kept to be used again: an `O_PATH` descriptor of a directory, a read-only one of a file that can never change.
    kept: Option<Arc<HostFd>>,
    /// The descriptor that made a file: the open(2) that asked for it gets it, whatever the permission bits say.
    pub(super) made: Option<Arc<HostFd>>,
    /// What it was when its last name was taken away.
    pub(super) gone: Option<Box<Attributes>>,
    /// The access control list that can never change, or that there is none, if that was asked.
    pub(super) access_list: Option<Option<Box<[u8]>>>,
    /// The pipe of a named one: the sandbox's own, which the host knows nothing of.
    pub(super) fifo: Option<Arc<FifoState>>,
    /// The descriptor opened last: attributes are asked through it while it is open, so a removed file has some.
    open: Weak<HostFd>,
}

impl HostInode {
    pub(super) fn new(
        fs: Arc<HostFs>,
        stat: &raw::statx,
        place: Option<Place>,
        root: Option<Arc<HostFd>>,
    ) -> Arc<HostInode> {
        let fixed = fs.immutable().then(|| stat::attributes(stat, &fs.tree.ids));
        Arc::new_cyclic(|me| HostInode {
            me: me.clone(),
            kind: stat::kind(stat),
            id: stat::identity(stat),
            used: AtomicBool::new(true),
            fixed,
            end: Mutex::new(()),
            state: Mutex::new(State { places: place.into_iter().collect(), kept: root, ..State::default() }),
            fs,
        })
    }

    /// Device and inode number on the host.
    pub fn id(&self) -> (u64, u64) {
        self.id
    }

    /// Whether nothing in its tree ever changes.
    pub fn immutable(&self) -> bool {
        self.fs.immutable()
    }

    pub(crate) fn arc(&self) -> Result<Arc<HostInode>> {
        self.me.upgrade().ok_or(Errno::ENOENT)
    }

    /// Whether this is the name that it was seen under last.
    fn is_first_at(&self, parent: &HostInode, name: &[u8]) -> bool {
        let state = self.state.lock();
        state.places.first().is_some_and(|place| core::ptr::eq(&*place.0, parent) && *place.1 == *name)
    }

    /// Notes a name that it was just seen under.
    pub(super) fn found_at(&self, place: Place) {
        // Where nothing changes, one name is as good as another, and most files have one.
        if self.fixed.is_some_and(|attributes| attributes.nlink < 2 || self.kind == Kind::Directory) {
            return;
        }
        let mut state = self.state.lock();
        let same = |other: &Place| Arc::ptr_eq(&other.0, &place.0) && other.1 == place.1;
        match state.places.iter().position(same) {
            Some(0) => {}
            Some(index) => state.places.swap(0, index),
            None => {
                state.places.push(place);
                let last = state.places.len() - 1;
                state.places.swap(0, last);
            }
        }
    }

    /// The names that it was seen under.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.state.lock().places.clone()
    }

    /// Forgets a name that it no longer has.
    pub(super) fn lost(&self, parent: &HostInode, name: &[u8]) {
        let mut state = self.state.lock();
        let places = core::mem::take(&mut state.places);
        let (gone, left) = places
            .into_iter()
            .partition(|place: &Place| core::ptr::eq(&*place.0, parent) && *place.1 == *name);
        state.places = left;
        drop(state);
        drop::<Vec<Place>>(gone);
    }

    /// Whether its kept descriptor was used since this was asked last.
    pub(super) fn take_second_chance(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Gives up the kept descriptor; who uses it at the moment holds it a little longer.
    pub(super) fn close_kept(&self) {
        let mut state = self.state.lock();
        if state.gone.is_some() {
            return;
        }
        let (kept, made) = (state.kept.take(), state.made.take());
        drop(state);
        drop((kept, made));
    }

    /// The entries of this directory, if they were read and can never change.
    pub(super) fn listing(&self) -> Option<Arc<Listing>> {
        self.immutable().then(|| self.state.lock().listing.clone()).flatten()
    }

    /// Whether they are to be read and kept.
    pub(super) fn wants_listing(&self) -> bool {
        self.immutable() && !self.state.lock().long
    }

    /// Keeps them; `None`: there are too many.
    pub(super) fn keep_listing(&self, listing: Option<Arc<Listing>>) {
        let Some(listing) = listing else {
            self.state.lock().long = true;
            return;
        };
        let old = self.state.lock().listing.replace(listing);
        // Who raced with us has put this directory into the queue.
        if old.is_none() {
            self.fs.tree.listings.keep(self.me.clone());
        }
    }

    /// Gives them up.
    pub(super) fn forget_listing(&self) {
        let old = self.state.lock().listing.take();
        drop(old);
    }

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
                    // O_NONBLOCK: should the name have become a pipe, the open must not wait for its other end.
                    let passed = flags & (raw::O_TRUNC | raw::O_SYNC | raw::O_DSYNC);
                    let flags = access | passed | raw::O_NONBLOCK | raw::O_NOCTTY;
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
        Ok(fd)
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

    /// What the host says of `name` in this directory.
    fn stat_of(&self, name: &[u8]) -> Result<raw::statx> {
        let directory = self.directory()?;
        let flags = raw::AT_SYMLINK_NOFOLLOW | raw::AT_NO_AUTOMOUNT;
        host::statx(directory.number(), Name::new(name)?.as_c_str(), flags, stat::MASK)
    }

    /// The inode that `name` in this directory is.
    pub fn child(&self, name: &[u8]) -> Result<Arc<HostInode>> {
        Ok(self.fs.inode(&self.stat_of(name)?, self.arc()?, name))
    }

    /// Its path on the host, as far as it is known: for messages and `/proc/PID/maps`.
    pub(super) fn host_path(&self) -> Vec<u8> {
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let mut place = self.state.lock().places.first().cloned();
        while let Some((parent, name)) = place {
            names.push(name);
            place = parent.state.lock().places.first().cloned();
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }
}

impl Drop for HostInode {
    fn drop(&mut self) {
        self.fs.forget(self.id);
        // Parents are let go in a loop: a chain of last references would recurse as deep as the tree is.
        let mut places = core::mem::take(&mut self.state.get_mut().places);
        while let Some((parent, _)) = places.pop() {
            if let Some(mut parent) = Arc::into_inner(parent) {
                places.append(&mut parent.state.get_mut().places);
            }
        }
    }
}

impl Inode for HostInode {
    fn attributes(&self) -> Result<Attributes> {
        if let Some(attributes) = self.fixed {
            return Ok(attributes);
        }
        match self.with_target(|fd, name, flags| host::statx(fd, name, flags, stat::MASK)) {
            Ok(stat) => Ok(stat::attributes(&stat, &self.fs.tree.ids)),
            Err(error) => self.state.lock().gone.as_deref().copied().ok_or(error),
        }
    }

    fn owner(&self) -> Result<Owner> {
        let owner = match &self.fixed {
            Some(attributes) => Owner::from(attributes),
            None => Owner::from(&self.attributes()?),
        };
        Ok(Owner { acl: self.has_lists(), ..owner })
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        self.change_attributes(change)
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<dyn FileOps>> {
        match self.kind {
            Kind::Regular => {
                let fd = self.open_data(flags)?;
                Ok(Arc::new(HostFile::new(self, fd)))
            }
            Kind::Directory => Ok(Arc::new(HostDirectory::open(self)?)),
            Kind::Symlink => Err(Errno::ELOOP),
            Kind::Fifo if !self.fs.read_only => {
                let fifo = self.state.lock().fifo.get_or_insert_default().clone();
                open_fifo(&fifo, flags)
            }
            // What is behind them lives outside the sandbox.
            Kind::Fifo | Kind::Socket => Err(Errno::ENXIO),
            Kind::CharDevice | Kind::BlockDevice => Err(Errno::EACCES),
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Ok(self.child(name)?)
    }

    fn lookup_told(&self, name: &[u8], told: &mut Option<Attributes>) -> Result<Arc<dyn Inode>> {
        let stat = self.stat_of(name)?;
        *told = Some(stat::attributes(&stat, &self.fs.tree.ids));
        Ok(self.fs.inode(&stat, self.arc()?, name))
    }

    fn cacheable(&self) -> bool {
        !self.fs.shared
    }

    fn revalidate(&self, parent: &dyn Inode, name: &[u8], told: &mut Option<Attributes>) -> bool {
        let Some(parent) = parent.as_any().downcast_ref::<HostInode>() else { return false };
        let Ok(stat) = parent.stat_of(name) else { return false };
        if stat::identity(&stat) != self.id || stat::kind(&stat) != self.kind {
            return false;
        }
        *told = Some(stat::attributes(&stat, &self.fs.tree.ids));
        if !self.is_first_at(parent, name)
            && let Ok(parent) = parent.arc()
        {
            self.found_at((parent, name.into()));
        }
        true
    }

    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        Ok(self.create_node(name, node)?)
    }

    fn create_unnamed(&self, node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        Ok(self.create_without_name(node)?)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        self.link_node(name, target)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.remove(name, 0)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.remove(name, raw::AT_REMOVEDIR)
    }

    fn rename(&self, name: &[u8], new_parent: &Arc<dyn Inode>, new_name: &[u8], flags: u32) -> Result<()> {
        self.rename_node(name, new_parent, new_name, flags)
    }

    fn read_link(&self) -> Result<LinkTarget> {
        if self.kind != Kind::Symlink {
            return Err(Errno::EINVAL);
        }
        if let Some(text) = &self.state.lock().link {
            return Ok(LinkTarget::Text(text.to_vec()));
        }
        let (directory, name) = self.place()?;
        let mut text = alloc::vec![0; 4096];
        let length = host::readlinkat(directory.number(), name.as_c_str(), &mut text)?;
        text.truncate(length);
        if self.fs.immutable() {
            self.state.lock().link = Some(text.clone().into_boxed_slice());
        }
        Ok(LinkTarget::Text(text))
    }

    fn filesystem(&self) -> Result<raw::statfs> {
        let open = self.state.lock().open.upgrade();
        let fd = match open {
            Some(fd) => fd,
            None if self.kind == Kind::Directory => self.directory()?,
            None => self.place()?.0,
        };
        host::fstatfs(fd.number())
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        if acl::is_name(name) { self.list_of(name) } else { self.value_of(name) }
    }

    fn keeps_acls(&self) -> bool {
        self.has_lists()
    }

    fn hands_acls_on(&self) -> bool {
        true
    }

    fn set_acl(&self, name: &[u8], value: Option<Vec<u8>>, mode: &AclMode) -> Result<()> {
        self.set_list(name, value, mode)
    }

    fn set_xattr(&self, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result<()> {
        self.set_value_of(name, value, flags)
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        self.names_of_values()
    }
}
