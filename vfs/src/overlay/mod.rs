//! Filesystem `overlay`: a host directory that is only read, and everything that was changed, in memory or ([`on_host`]) in
//! another host directory.
//!
//! As Linux's (the host kernel's `Documentation/filesystems/overlayfs.rst`): directories are merged, a removed name of the
//! lower is hidden by a whiteout, the first change of a file copies it up, descriptors opened for reading before that
//! keep showing the lower's data. Because the upper is in memory and knows its inodes by identity, some things are better
//! than there: merged directories can be renamed, inode numbers stay, and hard links of the lower stay links.
//!
//! An inode of the lower that was changed in any way is held by [`OverlayFs::nodes`] under its host identity, so it is found
//! again through whatever name the lower has for it; an inode made in the upper is held by the directories that name it.
//! The lower must not change while the sandbox runs. Changed inodes hold the filesystem, so it lasts as long as the sandbox.
//!
//! Locks, in this order: `renames`; a directory's entries (two in address order); an inode's state; its data; `nodes`.

pub mod changes;
mod data;
mod directory;
mod file;
mod listing;
mod node;
pub mod on_host;
#[cfg(test)]
mod tests;

pub use node::OverlayInode;

use crate::Result;
use crate::host::HostInode;
use crate::inode::Inode;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering};
use hashbrown::HashMap;
use kernel::sync::Mutex;

/// `f_type` of an overlay (statfs(2)).
const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;

/// First inode number of the upper. Above those of host filesystems, and exact in a double (Node.js reads them so).
const FIRST_INO: u64 = 1 << 52;

/// One mounted overlay.
pub(crate) struct OverlayFs {
    lower: Arc<HostInode>,
    /// Device number shown for inodes of the upper.
    dev: u64,
    next_ino: AtomicU64,
    /// Held by what needs more than one directory to stay as it is: rename(2), rmdir(2).
    renames: Mutex<()>,
    /// Nodes with a lower, by its identity. No node may be dropped under this lock.
    nodes: Mutex<HashMap<(u64, u64), Slot>>,
}

enum Slot {
    /// As the lower has it; lives as long as somebody uses it.
    Seen(Weak<OverlayInode>),
    /// Changed: what is known of it exists only here.
    Changed(Arc<OverlayInode>),
}

/// An overlay over `lower`, a directory of an exclusive read-only host tree: its root.
pub fn mount(lower: Arc<HostInode>) -> Result<Arc<dyn Inode>> {
    let fs = Arc::new(OverlayFs {
        dev: lower.id().0,
        lower: lower.clone(),
        next_ino: AtomicU64::new(FIRST_INO),
        renames: Mutex::new(()),
        nodes: Mutex::default(),
    });
    Ok(fs.node(lower))
}

impl OverlayFs {
    fn new_ino(&self) -> u64 {
        self.next_ino.fetch_add(1, Ordering::Relaxed)
    }

    /// The node over an inode of the lower.
    fn node(self: &Arc<OverlayFs>, lower: Arc<HostInode>) -> Arc<OverlayInode> {
        let id = lower.id();
        let mut nodes = self.nodes.lock();
        match nodes.get(&id) {
            Some(Slot::Changed(node)) => return node.clone(),
            Some(Slot::Seen(node)) => {
                if let Some(node) = node.upgrade() {
                    return node;
                }
            }
            None => {}
        }
        let node = OverlayInode::over(self.clone(), lower);
        nodes.insert(id, Slot::Seen(Arc::downgrade(&node)));
        node
    }

    fn hold(&self, id: (u64, u64), node: Arc<OverlayInode>) {
        let old = self.nodes.lock().insert(id, Slot::Changed(node));
        drop(old);
    }

    /// Lets go of a changed node without a name.
    fn release(&self, id: (u64, u64)) {
        let old = self.nodes.lock().remove(&id);
        drop(old);
    }

    /// A node is gone.
    fn forget(&self, id: (u64, u64)) {
        let mut nodes = self.nodes.lock();
        if matches!(nodes.get(&id), Some(Slot::Seen(node)) if node.strong_count() == 0) {
            nodes.remove(&id);
        }
    }
}
