//! Inodes of host trees: where they are on the host, what is known of them, how they are opened.

use super::directory::HostDirectory;
use super::file::HostFile;
use super::listing::Listing;
use super::{HostFd, HostFs, Name, SET_ID, stat};
use crate::acl;
use crate::attributes::{AttributeChange, Attributes, Kind, Owner};
use crate::file::FileOps;
use crate::inode::{AclMode, Inode, LinkTarget, NewNode};
use crate::pipe::{FifoState, open_fifo};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::ffi::CString;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::cred::Cred;
use kernel::sync::Mutex;
use linux_raw_sys::general as raw;
use trap_handler::host;

/// A directory and a name in it.
pub(crate) type Place = (Arc<HostInode>, Box<[u8]>);

/// An inode of a host tree.
pub struct HostInode {
    pub(super) fs: Arc<HostFs>,
    pub(super) me: Weak<HostInode>,
    pub(super) kind: Kind,
    pub(super) id: (u64, u64),
    pub(super) used: AtomicBool,
    /// Whether it has set-ID bits, as far as this kernel knows: who writes to it may have to take them away. The host does that for
    /// sandboxes without capabilities, which cannot set them either.
    pub(super) set_ids: AtomicBool,
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
    pub(super) link: Option<Box<[u8]>>,
    /// The entries of a directory that can never change, if they were read.
    listing: Option<Arc<Listing>>,
    /// They are too many to keep.
    long: bool,
    /// Kept to be used again: an `O_PATH` descriptor of a directory, a read-only one of a file that can never change.
    pub(super) kept: Option<Arc<HostFd>>,
    /// The descriptor that made a file: the open(2) that asked for it gets it, whatever the permission bits say.
    pub(super) made: Option<Arc<HostFd>>,
    /// What it was when its last name was taken away.
    pub(super) gone: Option<Box<Attributes>>,
    /// The access control list that can never change, or that there is none, if that was asked.
    pub(super) access_list: Option<Option<Box<[u8]>>>,
    /// The pipe of a named one: the sandbox's own, which the host knows nothing of.
    pub(super) fifo: Option<Arc<FifoState>>,
    /// The descriptor opened last: attributes are asked through it while it is open, so a removed file has some.
    pub(super) open: Weak<HostFd>,
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
            set_ids: AtomicBool::new(u32::from(stat.stx_mode) & SET_ID != 0),
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

    /// Whether what the host shows under its device and inode number is it: not where it has lost its last name and nothing holds it on
    /// the host, which gives the number to another then.
    pub(super) fn may_be(&self, stat: &raw::statx) -> bool {
        self.kind == stat::kind(stat) && self.state.lock().gone.is_none()
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

    /// Notes a name that it was just seen under, mostly the one that it was seen under last.
    fn seen_at(&self, parent: &HostInode, name: &[u8]) {
        if !self.is_first_at(parent, name)
            && let Ok(parent) = parent.arc()
        {
            self.found_at((parent, name.into()));
        }
    }

    /// Notes a name that it was just found under.
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

    /// What the host says of `name` in this directory.
    pub(super) fn stat_of(&self, name: &[u8]) -> Result<raw::statx> {
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
        self.seen_at(parent, name);
        true
    }

    fn open_named(
        self: Arc<Self>,
        parent: &dyn Inode,
        name: &[u8],
        flags: u32,
    ) -> Option<(Arc<dyn FileOps>, Attributes)> {
        let parent = parent.as_any().downcast_ref::<HostInode>()?;
        let (fd, attributes) = self.open_data_at(parent, name, flags)?;
        self.seen_at(parent, name);
        Some((Arc::new(HostFile::new(self, fd)), attributes))
    }

    fn status_below(&self, cred: &Cred, path: &[u8], expected: &dyn Inode) -> Option<Attributes> {
        let expected = expected.as_any().downcast_ref::<HostInode>()?;
        if !self.fs.shared || !Arc::ptr_eq(&self.fs, &expected.fs) || !self.fs.tree.lets_search(cred) {
            return None;
        }
        // Should a name have become a link, the host follows it, to the same file or to another, which is not the expected one.
        let (directory, path) = (self.directory().ok()?, CString::new(path).ok()?);
        let flags = raw::AT_SYMLINK_NOFOLLOW | raw::AT_NO_AUTOMOUNT;
        let stat = host::statx(directory.number(), &path, flags, stat::MASK).ok()?;
        let same = stat::identity(&stat) == expected.id && stat::kind(&stat) == expected.kind;
        same.then(|| stat::attributes(&stat, &self.fs.tree.ids))
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
