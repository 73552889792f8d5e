//! The tree that programs see: mounts and dentries (placeholder of the shape; being written).

use crate::inode::Inode;
use alloc::sync::Arc;

/// A mounted filesystem.
pub struct Mount {}

/// A name in the tree and what it means.
pub struct Dentry {
    /// What it means.
    pub inode: Arc<dyn Inode>,
}

/// A place in the tree.
#[derive(Clone)]
pub struct Path {
    /// Which mount.
    pub mount: Arc<Mount>,
    /// Which name in it.
    pub dentry: Arc<Dentry>,
}
