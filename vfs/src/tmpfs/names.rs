//! Names of tmpfs directories: how they come, change places and go.

use super::TmpInode;
use crate::{Errno, Result};
use alloc::sync::Arc;
use kernel::time::file_time;

impl TmpInode {
    /// A directory's names have changed; `links` is how many subdirectories came or went.
    pub(super) fn names_changed(&self, links: i64) {
        let now = file_time();
        let mut meta = self.meta.lock();
        (meta.mtime, meta.ctime) = (now, now);
        meta.nlink = meta.nlink.saturating_add_signed(links);
    }

    /// A name of this inode went.
    pub(super) fn unlinked(&self) {
        let now = file_time();
        let mut meta = self.meta.lock();
        meta.nlink = if self.is_directory() { 0 } else { meta.nlink.saturating_sub(1) };
        meta.ctime = now;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.directory().map_or(true, |directory| directory.lock().entries.len() == 0)
    }

    pub(super) fn child(&self, name: &[u8]) -> Result<Arc<TmpInode>> {
        self.directory()?.lock().entries.get(name).cloned().ok_or(Errno::ENOENT)
    }

    /// A directory has gone.
    pub(super) fn mark_dead(&self) {
        if let Ok(directory) = self.directory() {
            directory.lock().dead = true;
        }
    }

    pub(super) fn put(&self, name: &[u8], inode: &Arc<TmpInode>) -> Result<()> {
        {
            let mut directory = self.directory()?.lock();
            if directory.dead {
                return Err(Errno::ENOENT);
            }
            if directory.entries.get(name).is_some() {
                return Err(Errno::EEXIST);
            }
            directory.entries.insert(name, inode.clone());
        }
        if let Ok(directory) = inode.directory() {
            directory.lock().parent = self.me.clone();
        }
        self.names_changed(i64::from(inode.is_directory()));
        Ok(())
    }

    pub(super) fn exchange(&self, name: &[u8], other: &TmpInode, other_name: &[u8]) -> Result<()> {
        let (first, second) = (self.child(name)?, other.child(other_name)?);
        // One after the other: both may be the same directory.
        let old = self.directory()?.lock().entries.insert(name, second.clone());
        let other_old = other.directory()?.lock().entries.insert(other_name, first.clone());
        drop((old, other_old));
        for (inode, parent) in [(&first, other), (&second, self)] {
            if let Ok(directory) = inode.directory() {
                directory.lock().parent = parent.me.clone();
            }
            inode.changed();
        }
        let gained = i64::from(second.is_directory()) - i64::from(first.is_directory());
        let same = core::ptr::eq(self, other);
        self.names_changed(if same { 0 } else { gained });
        other.names_changed(if same { 0 } else { -gained });
        Ok(())
    }
}
