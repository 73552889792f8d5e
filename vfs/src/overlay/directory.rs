//! Directories of an overlay: merged names, whiteouts, and what changes them.

use super::OverlayInode;
use super::listing::{Listed, names_of};
use crate::attributes::Kind;
use crate::host::HostInode;
use crate::inode::{Inode, NewNode};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;

/// What the upper says about a name.
pub(super) struct Entry {
    /// What it is; `None` is a whiteout.
    node: Option<Arc<OverlayInode>>,
}

/// The upper's part of a directory.
#[derive(Default)]
pub(super) struct Directory {
    entries: BTreeMap<Box<[u8]>, Entry>,
    /// Removed: nothing can be made in it any more.
    dead: bool,
}

impl Directory {
    fn set(&mut self, name: &[u8], node: Option<Arc<OverlayInode>>, covers: bool) -> Option<Entry> {
        if node.is_none() && !covers {
            return self.entries.remove(name);
        }
        self.entries.insert(name.into(), Entry { node })
    }
}

/// A name and what the upper says it is.
pub(super) type Named = (Box<[u8]>, Option<Arc<OverlayInode>>);

impl OverlayInode {
    pub(super) fn lower_child(&self, name: &[u8]) -> Result<Option<Arc<HostInode>>> {
        match &self.lower {
            None => Ok(None),
            Some(lower) => match lower.child(name) {
                Ok(child) => Ok(Some(child)),
                Err(Errno::ENOENT) => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// What `name` is in this directory.
    pub(super) fn find(&self, name: &[u8]) -> Result<Option<Arc<OverlayInode>>> {
        if self.kind() != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if let Some(entry) = self.directory.lock().entries.get(name) {
            return Ok(entry.node.clone());
        }
        Ok(self.lower_child(name)?.map(|lower| self.fs.node(lower)))
    }

    pub(super) fn lower_names(&self) -> Result<Vec<Listed>> {
        self.lower.as_ref().map_or(Ok(Vec::new()), |lower| names_of(lower))
    }

    /// Whether its names are the lower's.
    pub(super) fn has_no_entries(&self) -> bool {
        self.directory.lock().entries.is_empty()
    }

    /// What the upper says, name by name; `None` is a whiteout.
    pub(super) fn upper_entries(&self) -> Vec<Named> {
        let directory = self.directory.lock();
        directory.entries.iter().map(|(name, entry)| (name.clone(), entry.node.clone())).collect()
    }

    /// All names, those of the lower first.
    pub(super) fn merged(&self) -> Result<Vec<Listed>> {
        let mut names = self.lower_names()?;
        let directory = self.directory.lock();
        names.retain(|(name, ..)| !directory.entries.contains_key(name));
        for (name, entry) in &directory.entries {
            if let Some(node) = &entry.node {
                names.push((name.clone(), node.ino, node.kind().directory_type()));
            }
        }
        Ok(names)
    }

    /// Closes an empty directory for good: `ENOTEMPTY`.
    fn kill_empty(&self) -> Result<()> {
        let lower = self.lower_names()?;
        let mut directory = self.directory.lock();
        let shown = directory.entries.values().any(|entry| entry.node.is_some())
            || lower.iter().any(|(name, ..)| !directory.entries.contains_key(name));
        if shown {
            return Err(Errno::ENOTEMPTY);
        }
        directory.dead = true;
        Ok(())
    }

    /// A subdirectory came or went: counts as a link of a directory of the upper (its `..`).
    fn count_subdirectory(&self, child: &OverlayInode, came: bool) -> Result<()> {
        if self.lower.is_some() || child.kind() != Kind::Directory {
            return Ok(());
        }
        self.change(|meta| {
            meta.nlink = if came { meta.nlink.saturating_add(1) } else { meta.nlink.saturating_sub(1) };
        })
    }

    fn add(&self, name: &[u8], node: &Arc<OverlayInode>) -> Result<()> {
        if self.kind() != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let covers = self.lower_child(name)?.is_some();
        {
            let mut directory = self.directory.lock();
            if directory.dead {
                return Err(Errno::ENOENT);
            }
            match directory.entries.get(name) {
                Some(Entry { node: Some(_) }) => return Err(Errno::EEXIST),
                None if covers => return Err(Errno::EEXIST),
                _ => {}
            }
            directory.set(name, Some(node.clone()), covers);
        }
        self.count_subdirectory(node, true)?;
        self.modified()
    }

    pub(super) fn make_entry(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<OverlayInode>> {
        let directory = matches!(node.what, crate::inode::NewKind::Directory);
        let made = OverlayInode::make(self.fs.clone(), node, if directory { 2 } else { 1 });
        self.add(name, &made)?;
        Ok(made)
    }

    fn same_overlay<'a>(&self, other: &'a Arc<dyn Inode>) -> Result<&'a OverlayInode> {
        let other = other.as_any().downcast_ref::<OverlayInode>().ok_or(Errno::EXDEV)?;
        if Arc::ptr_eq(&self.fs, &other.fs) { Ok(other) } else { Err(Errno::EXDEV) }
    }

    pub(super) fn link_entry(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target = self.same_overlay(target)?.arc()?;
        if target.kind() == Kind::Directory {
            return Err(Errno::EPERM);
        }
        self.add(name, &target)?;
        target.linked()
    }

    fn take_off(&self, name: &[u8], child: &OverlayInode) -> Result<()> {
        let covers = self.lower_child(name)?.is_some();
        let old = self.directory.lock().set(name, None, covers);
        drop(old);
        self.count_subdirectory(child, false)?;
        child.unlinked()?;
        self.modified()
    }

    pub(super) fn remove_file(&self, name: &[u8]) -> Result<()> {
        let child = self.find(name)?.ok_or(Errno::ENOENT)?;
        if child.kind() == Kind::Directory {
            return Err(Errno::EISDIR);
        }
        self.take_off(name, &child)
    }

    pub(super) fn remove_directory(&self, name: &[u8]) -> Result<()> {
        let _alone = self.fs.renames.lock();
        let child = self.find(name)?.ok_or(Errno::ENOENT)?;
        if child.kind() != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        child.kill_empty()?;
        self.take_off(name, &child)
    }

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
        let exchange = flags & raw::RENAME_EXCHANGE != 0;
        let to = self.same_overlay(new_parent)?;
        let _alone = self.fs.renames.lock();
        let moved = self.find(name)?.ok_or(Errno::ENOENT)?;
        let target = to.find(new_name)?;
        match &target {
            Some(_) if flags & raw::RENAME_NOREPLACE != 0 => return Err(Errno::EEXIST),
            None if exchange => return Err(Errno::ENOENT),
            Some(target) if Arc::ptr_eq(target, &moved) => return Ok(()),
            Some(target) if !exchange => match (moved.kind(), target.kind()) {
                (Kind::Directory, Kind::Directory) => target.kill_empty()?,
                (Kind::Directory, _) => return Err(Errno::ENOTDIR),
                (_, Kind::Directory) => return Err(Errno::EISDIR),
                _ => {}
            },
            _ => {}
        }
        let covered = (self.lower_child(name)?.is_some(), to.lower_child(new_name)?.is_some());
        let back = if exchange { target.clone() } else { None };
        self.replace_both(to, (name, back, covered.0), (new_name, Some(moved.clone()), covered.1))?;

        self.count_subdirectory(&moved, false)?;
        to.count_subdirectory(&moved, true)?;
        if let Some(target) = &target {
            to.count_subdirectory(target, false)?;
            if exchange {
                self.count_subdirectory(target, true)?;
                target.change(|meta| meta.ctime = kernel::time::file_time())?;
            } else {
                target.unlinked()?;
            }
        }
        moved.change(|meta| meta.ctime = kernel::time::file_time())?;
        self.modified()?;
        to.modified()
    }

    /// Sets one entry here and one in `to`, which may be the same directory, at once.
    fn replace_both(
        &self,
        to: &OverlayInode,
        here: (&[u8], Option<Arc<OverlayInode>>, bool),
        there: (&[u8], Option<Arc<OverlayInode>>, bool),
    ) -> Result<()> {
        let old = if core::ptr::eq(self, to) {
            let mut directory = self.directory.lock();
            if directory.dead {
                return Err(Errno::ENOENT);
            }
            (directory.set(here.0, here.1, here.2), directory.set(there.0, there.1, there.2))
        } else {
            let first_self = core::ptr::from_ref(self) < core::ptr::from_ref(to);
            let (first, second) = if first_self { (self, to) } else { (to, self) };
            let mut first = first.directory.lock();
            let mut second = second.directory.lock();
            if first.dead || second.dead {
                return Err(Errno::ENOENT);
            }
            let (own, other) =
                if first_self { (&mut *first, &mut *second) } else { (&mut *second, &mut *first) };
            (own.set(here.0, here.1, here.2), other.set(there.0, there.1, there.2))
        };
        drop(old);
        Ok(())
    }
}
