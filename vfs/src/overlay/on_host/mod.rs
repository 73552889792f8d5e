//! Overlays whose upper is a directory of the host.
//!
//! The upper has the form of an OCI image layer (image-spec, `layer.md`): what was changed is there as it is now, an empty file
//! `.wh.NAME` says that `NAME` of the lower is gone, and `.wh..wh..opq` in a directory that nothing of the lower shows through.
//! Linux's own forms (character devices 0:0, `trusted.*` attributes) take privileges that the sandbox has nowhere.
//!
//! As Linux's overlayfs without `redirect_dir` and `index`: a directory that the lower has gives `EXDEV` when it is renamed, so
//! that mv(1) copies; a file of the lower with several names is copied up under the one that was written to. Inode numbers are
//! those of the lower and stay as they are while the sandbox runs. Nobody else may change the two directories meanwhile.
//!
//! If the sandbox is killed between two steps, what is there means the state before or after: what the upper has goes before a
//! whiteout beside it, and a directory beside its whiteout is opaque. Files half copied have names that begin with `.wh..wh.#`.
//!
//! Locks: `changes` comes after the dentries' `ops` and before a node's own; host calls are made under it, as under `ops`.

mod changes;
mod copy_up;
mod directory;
mod node;
mod rename;
#[cfg(test)]
mod tests;

use crate::host::HostInode;
use crate::inode::Inode;
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
pub(super) use changes::tell;
use core::sync::atomic::AtomicU64;
use hashbrown::HashMap;
use kernel::sync::Mutex;
pub(super) use node::Node;
pub(super) use node::Node as OnHostNode;

/// Before the name of what is gone.
pub(super) const WHITEOUT: &[u8] = b".wh.";
/// In a directory that hides the lower's.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";

/// Before the number of what is not copied up yet: no name could have this whiteout.
const TEMPORARY: &[u8] = b".wh..wh.#";

/// One mounted overlay.
pub(super) struct OnHost {
    /// Held while what a name means changes, against copying up at the same time.
    changes: Mutex<()>,
    /// Nodes in use, by the number they show. Nothing may be dropped under this lock that could be the last reference to one.
    nodes: Mutex<HashMap<(u64, u64), Weak<Node>>>,
    /// What the files of the upper that were copied up have been in the lower: their number stays.
    origins: Mutex<HashMap<(u64, u64), (u64, u64)>>,
    temporaries: AtomicU64,
}

/// An overlay of the host directory `upper` over `lower`: its root.
pub fn mount(lower: Arc<HostInode>, upper: Arc<HostInode>) -> Result<Arc<dyn Inode>> {
    let fs = Arc::new(OnHost {
        changes: Mutex::new(()),
        nodes: Mutex::default(),
        origins: Mutex::default(),
        temporaries: AtomicU64::new(0),
    });
    Ok(Node::new(&fs, None, b"", (Some(lower), Some(upper)))?)
}

/// The name of the whiteout of `name`: `ENAMETOOLONG`.
fn whiteout_of(name: &[u8]) -> Result<Vec<u8>> {
    let whiteout = [WHITEOUT, name].concat();
    if whiteout.len() > crate::host::NAME_MAX { Err(Errno::ENAMETOOLONG) } else { Ok(whiteout) }
}

/// Names that mean something to the overlay and are no files.
fn is_marker(name: &[u8]) -> bool {
    name.starts_with(WHITEOUT)
}

/// The child of a host directory, if it is there.
fn child(directory: &HostInode, name: &[u8]) -> Result<Option<Arc<HostInode>>> {
    match directory.child(name) {
        Ok(child) => Ok(Some(child)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

impl OnHost {
    /// The node of `name` in `parent`, given what the layers have there.
    fn node(
        self: &Arc<OnHost>,
        parent: &Node,
        name: &[u8],
        layers: (Option<Arc<HostInode>>, Option<Arc<HostInode>>),
    ) -> Result<Arc<Node>> {
        let made = Node::new(self, Some(parent.arc()?), name, layers)?;
        let Some(id) = made.key() else { return Ok(made) };
        let mut nodes = self.nodes.lock();
        let known = nodes.get(&id).and_then(Weak::upgrade);
        match known {
            Some(node) if node.kind() == made.kind() && !node.is_gone() => {
                drop(nodes);
                Ok(node)
            }
            other => {
                nodes.insert(id, Arc::downgrade(&made));
                drop(nodes);
                drop(other);
                Ok(made)
            }
        }
    }

    /// The number that a file of the upper shows.
    fn shown(&self, upper: (u64, u64)) -> (u64, u64) {
        self.origins.lock().get(&upper).copied().unwrap_or(upper)
    }

    fn forget(&self, id: (u64, u64)) {
        let mut nodes = self.nodes.lock();
        if nodes.get(&id).is_some_and(|node| node.strong_count() == 0) {
            nodes.remove(&id);
        }
    }
}
