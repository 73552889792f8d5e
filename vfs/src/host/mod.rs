//! Filesystem `host`: a directory (or a single file) of the host, as far as it was granted.
//!
//! The sandbox's host root is the granted tree and nothing else, so confinement does not rest on this code. Still every
//! host call names one component below a directory descriptor and follows no link, but for one that only asks whether a path still
//! leads where it led (`Inode::status_below`). What is cached depends on the grant:
//!
//! | tree | attributes, link texts, listings | dentries | descriptors |
//! | --- | --- | --- | --- |
//! | exclusive and read-only | for good | for good | of directories and files, pooled |
//! | exclusive and writable | asked each time | for good | of directories, pooled |
//! | shared | asked each time | revalidated by device and inode number | of directories, pooled, checked when reopened |
//!
//! Locks: an inode's state is an inode lock; the table of inodes, the pool and the queue of listings are leaves below it.

mod acl;
mod change;
pub(crate) mod copy;
mod descriptor;
mod directory;
mod file;
mod inode;
mod listing;
mod name;
mod opening;
pub(crate) mod stat;
#[cfg(test)]
pub(crate) mod tests;
mod xattr;

pub(crate) use change::SET_ID;
pub use descriptor::HostFd;
pub use file::HostFile;
pub(crate) use file::seek_in;
pub use inode::HostInode;
pub use name::{NAME_MAX, Name};

use crate::attributes::Kind;
use crate::identity::HostIds;
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use descriptor::Pool;
use hashbrown::HashMap;
use kernel::cred::{Cred, cap};
use kernel::sync::Mutex;
use linux_raw_sys::general as raw;
use listing::Listings;
use trap_handler::host;

/// A root on the host that the outside handed over: the launcher's, or that of another container of the pod. All share the bounds on
/// host descriptors.
pub struct HostTree {
    root: Arc<HostFd>,
    pool: Arc<Pool>,
    listings: Arc<Listings>,
    ids: HostIds,
    rights: HostRights,
    /// The ordinary user that has started the sandbox: what it may search, the host knows best, as whose process it acts.
    caller: Option<Cred>,
}

/// What the filter allows on host trees beyond what every sandbox has.
#[derive(Debug, Clone, Copy)]
pub struct HostRights {
    /// Calls for extended attributes.
    pub xattrs: bool,
    /// Set-user-ID and set-group-ID bits: the trees are the sandbox's own, and nobody outside runs what is in them.
    pub set_ids: bool,
}

impl HostTree {
    /// `root` is the `O_PATH | O_DIRECTORY` descriptor on the granted tree; it stays open.
    pub fn new(root: i32, ids: HostIds, rights: HostRights, caller: Option<Cred>) -> Arc<HostTree> {
        Arc::new(HostTree {
            root: HostFd::borrowed(root),
            pool: Arc::default(),
            listings: Arc::default(),
            ids,
            rights,
            caller,
        })
    }

    /// Another tree, whose root is the descriptor `root`: with the bounds of this one. It is closed when nothing of the tree is in use.
    pub fn beside(&self, root: i32) -> Arc<HostTree> {
        Arc::new(HostTree {
            root: HostFd::taken(root, &self.pool),
            pool: self.pool.clone(),
            listings: self.listings.clone(),
            ids: self.ids,
            rights: self.rights,
            caller: self.caller.clone(),
        })
    }

    /// Whether whoever has these credentials is, to the host, the caller.
    fn is_caller(&self, cred: &Cred) -> bool {
        self.caller.as_ref().is_some_and(|caller| {
            (caller.fsuid, caller.fsgid) == (cred.fsuid, cred.fsgid) && caller.groups == cred.groups
        })
    }

    /// Whether the host's own permission to search its directories is all that these credentials need.
    fn lets_search(&self, cred: &Cred) -> bool {
        cred.has(cap::DAC_OVERRIDE) || cred.has(cap::DAC_READ_SEARCH) || self.is_caller(cred)
    }

    /// The filesystem whose root is `path` (without a leading slash; empty for the host root itself). `ELOOP` if a
    /// component is a symbolic link: the launcher resolves those.
    pub fn mount(self: &Arc<HostTree>, path: &[u8], shared: bool, read_only: bool) -> Result<Arc<HostInode>> {
        let fs = Arc::new(HostFs { tree: self.clone(), shared, read_only, inodes: Mutex::default() });
        let stat = host::statx(self.root.number(), c"", raw::AT_EMPTY_PATH, stat::MASK)?;
        let mut inode = fs.root(&stat);
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            inode = inode.child(name)?;
            if crate::inode::Inode::kind(&*inode) == Kind::Symlink {
                return Err(Errno::ELOOP);
            }
        }
        Ok(inode)
    }
}

/// One mounted host directory.
pub(crate) struct HostFs {
    tree: Arc<HostTree>,
    shared: bool,
    read_only: bool,
    /// The inodes in use, by device and inode number, so that a file is one inode under all its names. Nothing may be
    /// dropped under this lock that could be the last reference to an inode.
    inodes: Mutex<HashMap<(u64, u64), Weak<HostInode>>>,
}

impl HostFs {
    /// Bits of a mode that files may not have.
    fn refused_bits(&self) -> u32 {
        if self.tree.rights.set_ids { 0 } else { SET_ID }
    }

    /// Nothing in it changes while the sandbox runs.
    fn immutable(&self) -> bool {
        self.read_only && !self.shared
    }

    fn root(self: &Arc<HostFs>, stat: &raw::statx) -> Arc<HostInode> {
        let inode = HostInode::new(self.clone(), stat, None, Some(self.tree.root.clone()));
        self.inodes.lock().insert(inode.id(), Arc::downgrade(&inode));
        inode
    }

    /// The inode that `name` in `parent` is, given what the host says of it.
    fn inode(self: &Arc<HostFs>, stat: &raw::statx, parent: Arc<HostInode>, name: &[u8]) -> Arc<HostInode> {
        let id = stat::identity(stat);
        let place = (parent, Box::from(name));
        let found = self.inodes.lock().get(&id).and_then(Weak::upgrade);
        if let Some(inode) = found.filter(|inode| inode.may_be(stat)) {
            inode.found_at(place);
            return inode;
        }
        let made = HostInode::new(self.clone(), stat, Some(place), None);
        let raced = {
            let mut inodes = self.inodes.lock();
            match inodes.get(&id).and_then(Weak::upgrade) {
                Some(other) if other.may_be(stat) => Some(other),
                other => {
                    inodes.insert(id, Arc::downgrade(&made));
                    drop(inodes);
                    drop(other);
                    None
                }
            }
        };
        raced.unwrap_or(made)
    }

    /// The inode of a file without a name.
    fn unnamed(self: &Arc<HostFs>, stat: &raw::statx) -> Arc<HostInode> {
        let inode = HostInode::new(self.clone(), stat, None, None);
        let old = self.inodes.lock().insert(inode.id(), Arc::downgrade(&inode));
        drop(old);
        inode
    }

    /// The inode with this identity, if it is in use.
    fn known(&self, id: (u64, u64)) -> Option<Arc<HostInode>> {
        self.inodes.lock().get(&id).and_then(Weak::upgrade)
    }

    /// An inode is gone.
    fn forget(&self, id: (u64, u64)) {
        let mut inodes = self.inodes.lock();
        if inodes.get(&id).is_some_and(|inode| inode.strong_count() == 0) {
            inodes.remove(&id);
        }
    }
}
