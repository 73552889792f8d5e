//! Places in the tree, and their text.

use super::{Dentry, Mount};
use crate::inode::Inode;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A place in the tree.
#[derive(Clone)]
pub struct Path {
    /// Which mount.
    pub mount: Arc<Mount>,
    /// Which name in it.
    pub dentry: Arc<Dentry>,
}

impl Path {
    /// What is there.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.dentry.inode()
    }

    /// Whether two paths are the same place.
    pub fn is(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }

    /// What is mounted here last, if anything is.
    pub fn entered(mut self) -> Path {
        while self.dentry.is_mountpoint() {
            let Some(mount) = self.mount.child_at(&self.dentry) else { break };
            mount.note_use();
            self = Path { dentry: mount.root.clone(), mount };
        }
        self
    }

    /// Whether it is the root of its mount.
    pub fn is_mount_root(&self) -> bool {
        Arc::ptr_eq(&self.dentry, &self.mount.root)
    }

    /// The text as `/proc/PID/fd` shows it (Linux's d_path): from `root`, with ` (deleted)` where the name is gone. What lies
    /// outside `root` is shown from the root of its mount tree.
    pub fn text(&self, root: &Path) -> Vec<u8> {
        let (mut text, _) = walk_up(self, Some(root));
        if self.dentry.is_removed() {
            text.extend_from_slice(b" (deleted)");
        }
        text
    }

    /// The text from the root of the mount tree, whoever asks: for names that are noted down.
    pub fn full_text(&self) -> Vec<u8> {
        let (mut text, _) = walk_up(self, None);
        if self.dentry.is_removed() {
            text.extend_from_slice(b" (deleted)");
        }
        text
    }

    /// The text as getcwd(2) gives it: `None` if the name is gone; `(unreachable)` goes before what lies outside `root`.
    pub fn cwd_text(&self, root: &Path) -> Option<Vec<u8>> {
        if self.dentry.is_removed() {
            return None;
        }
        let (text, reached) = walk_up(self, Some(root));
        Some(if reached { text } else { [b"(unreachable)", &*text].concat() })
    }
}

/// The text, if `path` lies below `root`.
pub(super) fn reachable_text(path: &Path, root: &Path) -> Option<Vec<u8>> {
    let (text, reached) = walk_up(path, Some(root));
    reached.then_some(text)
}

fn walk_up(path: &Path, root: Option<&Path>) -> (Vec<u8>, bool) {
    let mut names = Vec::new();
    let mut at = path.clone();
    let reached = loop {
        if root.is_some_and(|root| at.is(root)) {
            break true;
        }
        if at.is_mount_root() {
            match at.mount.mountpoint() {
                Some(place) => at = place,
                None => break false,
            }
            continue;
        }
        let Some(parent) = at.dentry.parent() else { break false };
        names.push(at.dentry.name());
        at.dentry = parent;
    };
    (joined(&names), reached)
}

/// Names from the innermost on, as an absolute path.
fn joined(names: &[Vec<u8>]) -> Vec<u8> {
    let mut text = Vec::new();
    for name in names.iter().rev() {
        text.push(b'/');
        text.extend_from_slice(name);
    }
    if text.is_empty() {
        text.push(b'/');
    }
    text
}

/// The text of a dentry from the root of its filesystem.
pub(super) fn tree_text(dentry: &Arc<Dentry>) -> Vec<u8> {
    let mut names = Vec::new();
    let mut at = dentry.clone();
    while let Some(parent) = at.parent() {
        names.push(at.name());
        at = parent;
    }
    joined(&names)
}
