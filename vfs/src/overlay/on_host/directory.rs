//! Names: what they mean in the two layers together, and how they come and go.

use super::{Node, OPAQUE, child, is_marker, whiteout_of};
use crate::attributes::Kind;
use crate::host::HostInode;
use crate::inode::{Inode, NewKind, NewNode};
use crate::overlay::listing::{Listed, names_of};
use crate::{Errno, Result};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;

/// A marker: an empty file that nobody needs to read.
const MARKER: NewNode<'static> =
    NewNode { what: NewKind::Regular, mode: 0o600, uid: u32::MAX, gid: u32::MAX };

/// Puts a marker into a directory of the upper, unless it is there.
pub(super) fn mark(directory: &HostInode, name: &[u8]) -> Result<()> {
    if child(directory, name)?.is_some() {
        return Ok(());
    }
    directory.create_node(name, &MARKER).map(drop)
}

/// Takes a marker away, if it is there.
pub(super) fn unmark(directory: &HostInode, name: &[u8]) -> Result<()> {
    match directory.unlink(name) {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

impl Node {
    pub(super) fn lower_child(&self, name: &[u8]) -> Result<Option<Arc<HostInode>>> {
        match &self.lower {
            Some(lower) => child(lower, name),
            None => Ok(None),
        }
    }

    /// Whether a whiteout hides what the lower has.
    pub(super) fn is_hidden(&self, name: &[u8]) -> Result<bool> {
        match (self.upper(), whiteout_of(name)) {
            (Some(upper), Ok(whiteout)) => Ok(child(&upper, &whiteout)?.is_some()),
            _ => Ok(false),
        }
    }

    /// What `name` is in this directory.
    pub(super) fn find(&self, name: &[u8]) -> Result<Option<Arc<Node>>> {
        if self.kind() != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if is_marker(name) {
            return Ok(None);
        }
        let above = match self.upper() {
            Some(upper) => child(&upper, name)?,
            None => None,
        };
        let below = match &above {
            Some(above) if above.kind() != Kind::Directory => None,
            Some(above) if child(above, OPAQUE)?.is_some() => None,
            _ if self.is_hidden(name)? => None,
            _ => self.lower_child(name)?,
        };
        let below = below.filter(|below| above.is_none() || below.kind() == Kind::Directory);
        match (&below, &above) {
            (None, None) => Ok(None),
            _ => self.fs.node(self, name, (below, above)).map(Some),
        }
    }

    /// All names, those of the upper first.
    pub(super) fn merged(&self) -> Result<Vec<Listed>> {
        let above = match self.upper() {
            Some(upper) => names_of(&upper)?,
            None => Vec::new(),
        };
        let below = match &self.lower {
            Some(lower) => names_of(lower)?,
            None => Vec::new(),
        };
        let hidden: BTreeSet<&[u8]> = above.iter().map(|(name, ..)| &**name).collect();
        let below = below.into_iter().filter(|(name, ..)| {
            !is_marker(name)
                && !hidden.contains(&**name)
                && !whiteout_of(name).is_ok_and(|whiteout| hidden.contains(&*whiteout))
        });
        let below: Vec<Listed> = below.collect();
        let mut all = Vec::with_capacity(above.len() + below.len());
        for (name, ino, kind) in above.iter().filter(|(name, ..)| !is_marker(name)) {
            all.push((name.clone(), self.shown_number(name, *ino, *kind)?, *kind));
        }
        all.extend(below);
        Ok(all)
    }

    /// The number that stat(2) gives for a name of the upper: a merged directory or a copied file has that of the lower.
    fn shown_number(&self, name: &[u8], ino: u64, kind: u8) -> Result<u64> {
        if u32::from(kind) == raw::DT_DIR && self.lower_child(name)?.is_some() {
            return Ok(self.find(name)?.map_or(ino, |node| node.id().1));
        }
        let dev = self.top()?.id().0;
        Ok(self.fs.shown((dev, ino)).1)
    }

    fn is_empty(&self) -> Result<bool> {
        Ok(self.merged()?.is_empty())
    }

    /// Makes `name` through `make`, which gets this directory's upper.
    fn add<T>(&self, name: &[u8], make: impl FnOnce(&HostInode) -> Result<T>) -> Result<T> {
        // The upper's own markers cannot be told from files of these names.
        if is_marker(name) {
            return Err(Errno::EPERM);
        }
        let upper = self.copied_up(u64::MAX)?;
        let _alone = self.fs.changes.lock();
        if self.is_gone() {
            return Err(Errno::ENOENT);
        }
        if self.find(name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        let made = make(&upper)?;
        if let Ok(whiteout) = whiteout_of(name) {
            unmark(&upper, &whiteout)?;
        }
        Ok(made)
    }

    pub(super) fn make_entry(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<Node>> {
        let made = self.add(name, |upper| {
            let made = upper.create_node(name, node)?;
            // While its whiteout is there, it is opaque, so the mark is never late.
            if made.kind() == Kind::Directory && self.lower_child(name)?.is_some() {
                mark(&made, OPAQUE)?;
            }
            Ok(made)
        })?;
        self.fs.node(self, name, (None, Some(made)))
    }

    pub(super) fn make_unnamed(&self, node: &NewNode<'_>) -> Result<Arc<Node>> {
        let made = self.copied_up(u64::MAX)?.create_without_name(node)?;
        let made = Node::new(&self.fs, Some(self.arc()?), b"", (None, Some(made)))?;
        made.set_gone();
        Ok(made)
    }

    pub(super) fn same_overlay(&self, other: &Arc<dyn Inode>) -> Result<Arc<Node>> {
        let other = other.as_any().downcast_ref::<Node>().ok_or(Errno::EXDEV)?;
        if Arc::ptr_eq(&self.fs, &other.fs) { other.arc() } else { Err(Errno::EXDEV) }
    }

    pub(super) fn link_entry(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target = self.same_overlay(target)?;
        if target.kind() == Kind::Directory {
            return Err(Errno::EPERM);
        }
        let file: Arc<dyn Inode> = target.copied_up(u64::MAX)?;
        self.add(name, |upper| upper.link(name, &file))?;
        target.move_to(&self.arc()?, name);
        Ok(())
    }

    /// Hides `name` of the lower, if it has it.
    pub(super) fn hide(&self, upper: &HostInode, name: &[u8]) -> Result<()> {
        if self.lower_child(name)?.is_some() { mark(upper, &whiteout_of(name)?) } else { Ok(()) }
    }

    /// A node that has lost a name: whether that was its last one.
    pub(super) fn lost_name(&self) -> Result<()> {
        let last = match self.upper() {
            Some(upper) if self.kind() != Kind::Directory => match upper.attributes() {
                Ok(attributes) => attributes.nlink == 0,
                // Nobody has it open.
                Err(_) => true,
            },
            _ => true,
        };
        if last {
            self.set_gone();
            if let Some(upper) = self.upper() {
                self.fs.origins.lock().remove(&upper.id());
            }
        }
        Ok(())
    }

    pub(super) fn remove_file(&self, name: &[u8]) -> Result<()> {
        let upper = self.copied_up(u64::MAX)?;
        let _alone = self.fs.changes.lock();
        let node = self.find(name)?.ok_or(Errno::ENOENT)?;
        if node.kind() == Kind::Directory {
            return Err(Errno::EISDIR);
        }
        self.hide(&upper, name)?;
        if node.upper().is_some() {
            upper.unlink(name)?;
        }
        node.lost_name()
    }

    /// Empties the upper of a directory whose names are all hidden: `ENOTEMPTY`.
    pub(super) fn clear_markers(&self) -> Result<()> {
        if !self.is_empty()? {
            return Err(Errno::ENOTEMPTY);
        }
        let Some(upper) = self.upper() else { return Ok(()) };
        // What is half copied belongs to nobody.
        for (marker, _, kind) in names_of(&upper)? {
            if u32::from(kind) == raw::DT_DIR { upper.rmdir(&marker)? } else { unmark(&upper, &marker)? }
        }
        Ok(())
    }

    pub(super) fn remove_directory(&self, name: &[u8]) -> Result<()> {
        let upper = self.copied_up(u64::MAX)?;
        let _alone = self.fs.changes.lock();
        let node = self.find(name)?.ok_or(Errno::ENOENT)?;
        if node.kind() != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if !node.is_empty()? {
            return Err(Errno::ENOTEMPTY);
        }
        // Before its markers go: with a whiteout beside it, nothing shows through.
        self.hide(&upper, name)?;
        if node.upper().is_some() {
            node.clear_markers()?;
            upper.rmdir(name)?;
        }
        node.lost_name()
    }
}
