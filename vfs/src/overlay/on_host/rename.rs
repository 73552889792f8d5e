//! rename(2) in an overlay on the host.

use super::directory::{mark, unmark};
use super::{Node, OPAQUE, whiteout_of};
use crate::attributes::Kind;
use crate::host::HostInode;
use crate::inode::Inode;
use crate::{Errno, Result};
use alloc::sync::Arc;
use linux_raw_sys::general as raw;

/// A name in a directory, and that directory's upper.
struct End<'a> {
    directory: Arc<Node>,
    upper: Arc<HostInode>,
    name: &'a [u8],
}

impl End<'_> {
    /// What comes to this name must not show what the lower has there.
    fn make_opaque(&self, node: &Node) -> Result<()> {
        match node.upper() {
            Some(upper)
                if node.kind() == Kind::Directory && self.directory.lower_child(self.name)?.is_some() =>
            {
                mark(&upper, OPAQUE)
            }
            _ => Ok(()),
        }
    }

    fn unhide(&self) -> Result<()> {
        match whiteout_of(self.name) {
            Ok(whiteout) => unmark(&self.upper, &whiteout),
            Err(_) => Ok(()),
        }
    }
}

/// What can be renamed: a directory that the lower has would have to be told of there (Linux's `redirect_dir`).
fn movable(node: &Node) -> Result<()> {
    if node.kind() == Kind::Directory && node.lower.is_some() { Err(Errno::EXDEV) } else { Ok(()) }
}

impl Node {
    pub(super) fn rename_entry(
        &self,
        name: &[u8],
        new_parent: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<()> {
        if flags & !(raw::RENAME_NOREPLACE | raw::RENAME_EXCHANGE) != 0 {
            return Err(Errno::EINVAL);
        }
        if super::is_marker(new_name) {
            return Err(Errno::EPERM);
        }
        let to = self.same_overlay(new_parent)?;
        let exchange = flags & raw::RENAME_EXCHANGE != 0;
        // Linux's overlayfs would say EXDEV first; mv(1) then copies into what it must not replace.
        if let (Some(moved), Some(target), false) = (self.find(name)?, to.find(new_name)?, exchange) {
            fits(&moved, &target)?;
        }
        // What takes long, before the lock.
        for node in [self.find(name)?, if exchange { to.find(new_name)? } else { None }].into_iter().flatten()
        {
            movable(&node)?;
            node.copied_up(u64::MAX)?;
        }
        let from = End { directory: self.arc()?, upper: self.copied_up(u64::MAX)?, name };
        let to = End { upper: to.copied_up(u64::MAX)?, directory: to, name: new_name };
        let _alone = self.fs.changes.lock();
        let moved = self.find(name)?.ok_or(Errno::ENOENT)?;
        let target = to.directory.find(new_name)?;
        match (&target, exchange) {
            (Some(_), _) if flags & raw::RENAME_NOREPLACE != 0 => Err(Errno::EEXIST),
            (Some(target), _) if Arc::ptr_eq(target, &moved) => Ok(()),
            (Some(target), true) => swap(&from, &to, &moved, target),
            (None, true) => Err(Errno::ENOENT),
            (target, false) => replace(&from, &to, &moved, target.as_deref()),
        }
    }
}

/// Whether one may replace the other.
fn fits(moved: &Node, target: &Node) -> Result<()> {
    match (moved.kind(), target.kind()) {
        (Kind::Directory, Kind::Directory) if !target.merged()?.is_empty() => Err(Errno::ENOTEMPTY),
        (Kind::Directory, Kind::Directory) => Ok(()),
        (Kind::Directory, _) => Err(Errno::ENOTDIR),
        (_, Kind::Directory) => Err(Errno::EISDIR),
        _ => Ok(()),
    }
}

fn swap(from: &End<'_>, to: &End<'_>, moved: &Arc<Node>, target: &Arc<Node>) -> Result<()> {
    to.make_opaque(moved)?;
    from.make_opaque(target)?;
    let directory: Arc<dyn Inode> = to.upper.clone();
    from.upper.rename(from.name, &directory, to.name, raw::RENAME_EXCHANGE)?;
    moved.move_to(&to.directory, to.name);
    target.move_to(&from.directory, from.name);
    Ok(())
}

fn replace(from: &End<'_>, to: &End<'_>, moved: &Arc<Node>, target: Option<&Node>) -> Result<()> {
    if let Some(target) = target {
        fits(moved, target)?;
        if target.kind() == Kind::Directory {
            // With a whiteout beside it, nothing shows through once its markers are gone.
            to.directory.hide(&to.upper, to.name)?;
            target.clear_markers()?;
        }
    }
    to.make_opaque(moved)?;
    // What the upper has goes before the whiteout beside it, until it has moved.
    from.directory.hide(&from.upper, from.name)?;
    let directory: Arc<dyn Inode> = to.upper.clone();
    from.upper.rename(from.name, &directory, to.name, 0)?;
    to.unhide()?;
    if let Some(target) = target {
        target.lost_name()?;
    }
    moved.move_to(&to.directory, to.name);
    Ok(())
}
