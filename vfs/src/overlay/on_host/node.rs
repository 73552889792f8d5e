//! Inodes of an overlay on the host: what they are in either layer.

use super::OnHost;
use crate::attributes::{AttributeChange, Attributes, Kind, Owner};
use crate::file::FileOps;
use crate::host::HostInode;
use crate::inode::{AclMode, Inode, LinkTarget, NewNode};
use crate::overlay::OVERLAYFS_SUPER_MAGIC;
use crate::overlay::listing::{Listable, Listed, OpenDirectory};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use kernel::sync::Mutex;
use linux_raw_sys::general as raw;

/// Where a node is: what copying it up needs to know.
struct Place {
    parent: Option<Arc<Node>>,
    name: Box<[u8]>,
    /// Its last name was taken away.
    gone: bool,
}

/// An inode.
pub(in crate::overlay) struct Node {
    pub(super) fs: Arc<OnHost>,
    me: Weak<Node>,
    kind: Kind,
    /// The number it shows, but for those that [`Self::alone`] means.
    id: (u64, u64),
    /// A file of the lower with several names, of which this is one: each is copied up by itself, and has its own number then.
    alone: bool,
    pub(super) lower: Option<Arc<HostInode>>,
    upper: Mutex<Option<Arc<HostInode>>>,
    place: Mutex<Place>,
}

impl Node {
    pub(super) fn new(
        fs: &Arc<OnHost>,
        parent: Option<Arc<Node>>,
        name: &[u8],
        (lower, upper): (Option<Arc<HostInode>>, Option<Arc<HostInode>>),
    ) -> Result<Arc<Node>> {
        let top = upper.as_ref().or(lower.as_ref()).ok_or(Errno::EIO)?;
        let kind = top.kind();
        let id = match (&lower, &upper) {
            (Some(lower), _) => lower.id(),
            (None, _) => fs.shown(top.id()),
        };
        let alone = upper.is_none() && kind != Kind::Directory && top.attributes()?.nlink > 1;
        Ok(Arc::new_cyclic(|me| Node {
            fs: fs.clone(),
            me: me.clone(),
            kind,
            id,
            alone,
            lower,
            upper: Mutex::new(upper),
            place: Mutex::new(Place { parent, name: name.into(), gone: false }),
        }))
    }

    pub(super) fn arc(&self) -> Result<Arc<Node>> {
        self.me.upgrade().ok_or(Errno::ENOENT)
    }

    /// What it is found by in the table of nodes.
    pub(super) fn key(&self) -> Option<(u64, u64)> {
        (!self.alone).then_some(self.id)
    }

    /// Device and inode number as programs see them.
    pub(super) fn id(&self) -> (u64, u64) {
        match self.upper() {
            Some(upper) if self.alone => upper.id(),
            _ => self.id,
        }
    }

    /// What it is in the upper.
    pub(in crate::overlay) fn upper(&self) -> Option<Arc<HostInode>> {
        self.upper.lock().clone()
    }

    pub(super) fn set_upper(&self, upper: Arc<HostInode>) {
        let old = self.upper.lock().replace(upper);
        drop(old);
    }

    /// What is seen of it.
    pub(super) fn top(&self) -> Result<Arc<HostInode>> {
        self.upper().or_else(|| self.lower.clone()).ok_or(Errno::EIO)
    }

    /// Its directory and its name there: `ENOENT` once it is gone.
    pub(super) fn place(&self) -> Result<(Arc<Node>, Box<[u8]>)> {
        let place = self.place.lock();
        match &place.parent {
            Some(parent) if !place.gone => Ok((parent.clone(), place.name.clone())),
            _ => Err(Errno::ENOENT),
        }
    }

    pub(super) fn move_to(&self, parent: &Arc<Node>, name: &[u8]) {
        let place = Place { parent: Some(parent.clone()), name: name.into(), gone: false };
        let old = core::mem::replace(&mut *self.place.lock(), place);
        drop(old);
    }

    pub(super) fn set_gone(&self) {
        self.place.lock().gone = true;
    }

    pub(super) fn is_gone(&self) -> bool {
        self.place.lock().gone
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.alone {
            self.fs.forget(self.id);
        }
        // Parents are let go in a loop: a chain of last references would recurse as deep as the tree is.
        let mut parent = self.place.get_mut().parent.take();
        while let Some(node) = parent {
            parent = Arc::into_inner(node).and_then(|mut node| node.place.get_mut().parent.take());
        }
    }
}

impl Listable for Node {
    fn list(&self) -> Result<Vec<Listed>> {
        self.merged()
    }

    fn number(&self) -> u64 {
        self.id.1
    }
}

impl Inode for Node {
    fn attributes(&self) -> Result<Attributes> {
        let mut attributes = self.top()?.attributes()?;
        let merged = self.kind == Kind::Directory && self.lower.is_some() && self.upper().is_some();
        (attributes.dev, attributes.ino) = self.id();
        if merged {
            // The link count of a merged directory says nothing; 1 tells find(1) so.
            attributes.nlink = 1;
        }
        if self.is_gone() && (self.kind == Kind::Directory || self.upper().is_none()) {
            attributes.nlink = 0;
        }
        Ok(attributes)
    }

    fn owner(&self) -> Result<Owner> {
        self.top()?.owner()
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        match (self.kind, change.size) {
            (Kind::Directory, Some(_)) => return Err(Errno::EISDIR),
            (Kind::Regular, _) | (_, None) => {}
            _ => return Err(Errno::EINVAL),
        }
        self.copied_up(change.size.unwrap_or(u64::MAX))?.set_attributes(change)
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<dyn FileOps>> {
        match self.kind {
            Kind::Directory => Ok(Arc::new(OpenDirectory::new(self))),
            Kind::Regular => {
                let truncates = flags & raw::O_TRUNC != 0;
                if truncates || flags & raw::O_ACCMODE != raw::O_RDONLY {
                    self.copied_up(if truncates { 0 } else { u64::MAX })?.open(flags)
                } else {
                    self.top()?.open(flags)
                }
            }
            _ => self.top()?.open(flags),
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
        Ok(self.make_unnamed(node)?)
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
        self.top()?.read_link()
    }

    fn filesystem(&self) -> Result<raw::statfs> {
        let mut statfs = self.top()?.filesystem()?;
        statfs.f_type = OVERLAYFS_SUPER_MAGIC;
        Ok(statfs)
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.top()?.xattr(name)
    }

    fn set_xattr(&self, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result<()> {
        self.copied_up(u64::MAX)?.set_xattr(name, value, flags)
    }

    fn keeps_acls(&self) -> bool {
        self.top().is_ok_and(|top| top.keeps_acls())
    }

    fn hands_acls_on(&self) -> bool {
        true
    }

    fn set_acl(&self, name: &[u8], value: Option<Vec<u8>>, mode: &AclMode) -> Result<()> {
        self.copied_up(u64::MAX)?.set_acl(name, value, mode)
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        self.top()?.list_xattr()
    }
}
