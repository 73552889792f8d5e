//! Directories in memory: names, and the positions that listings go by.

use super::TmpInode;
use crate::Result;
use crate::attributes::{AttributeChange, Attributes};
use crate::file::{self, DirEntry, Emit, FileOps};
use crate::inode::Inode;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use hashbrown::HashMap;
use linux_raw_sys::general as raw;

/// Positions of `.` and `..` come first.
const FIRST_COOKIE: u64 = 2;
/// Entries looked at under the lock at once.
const BATCH: usize = 64;

/// What a directory holds. A name keeps its position (cookie) as long as it is there, and no position is used twice, so a
/// listing that goes on while names come and go shows each name that stays once.
pub struct Entries<T> {
    by_name: HashMap<Arc<[u8]>, (u64, T)>,
    by_cookie: BTreeMap<u64, Arc<[u8]>>,
    next: u64,
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Entries { by_name: HashMap::new(), by_cookie: BTreeMap::new(), next: FIRST_COOKIE }
    }
}

impl<T> Entries<T> {
    /// What a name is.
    pub fn get(&self, name: &[u8]) -> Option<&T> {
        self.by_name.get(name).map(|(_, entry)| entry)
    }

    /// Puts a name in; what it was before.
    pub fn insert(&mut self, name: &[u8], entry: T) -> Option<T> {
        if let Some((_, old)) = self.by_name.get_mut(name) {
            return Some(core::mem::replace(old, entry));
        }
        let name: Arc<[u8]> = name.into();
        self.by_cookie.insert(self.next, name.clone());
        self.by_name.insert(name, (self.next, entry));
        self.next += 1;
        None
    }

    /// Takes a name out.
    pub fn remove(&mut self, name: &[u8]) -> Option<T> {
        let (cookie, entry) = self.by_name.remove(name)?;
        self.by_cookie.remove(&cookie);
        Some(entry)
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Names from a position on, with their positions.
    pub fn from(&self, cookie: u64) -> impl Iterator<Item = (u64, &Arc<[u8]>, &T)> {
        self.by_cookie.range(cookie..).filter_map(|(&cookie, name)| Some((cookie, name, self.get(name)?)))
    }

    /// Takes everything out.
    pub fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.by_cookie.clear();
        core::mem::take(&mut self.by_name).into_values().map(|(_, entry)| entry)
    }
}

/// A directory's own part of an inode.
#[derive(Default)]
pub(super) struct Directory {
    pub entries: Entries<Arc<TmpInode>>,
    /// `..`; a root is its own.
    pub parent: Weak<TmpInode>,
    /// Was removed: nothing may be made in it.
    pub dead: bool,
}

/// An open directory.
pub(super) struct TmpDirectory(pub Arc<TmpInode>);

impl FileOps for TmpDirectory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, offset: i64, whence: u32) -> Result<u64> {
        file::seek_entries(position, offset, whence)
    }

    fn read_dir(&self, position: u64, _room: usize, emit: Emit<'_>) -> Result<()> {
        let directory = raw::DT_DIR as u8;
        let parent = {
            let inner = self.0.directory()?.lock();
            inner.parent.upgrade().map_or(self.0.ino, |parent| parent.ino)
        };
        let mut at = position;
        for (name, ino) in [(&b"."[..], self.0.ino), (b"..", parent)].into_iter().skip(at.min(2) as usize) {
            if !emit(DirEntry { ino, next: at + 1, kind: directory, name }) {
                return Ok(());
            }
            at += 1;
        }
        loop {
            let batch: Vec<_> = {
                let inner = self.0.directory()?.lock();
                let entry = |(cookie, name, inode): (u64, &Arc<[u8]>, &Arc<TmpInode>)| {
                    (cookie, name.clone(), inode.ino, inode.kind.directory_type())
                };
                inner.entries.from(at).take(BATCH).map(entry).collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            for (cookie, name, ino, kind) in batch {
                if !emit(DirEntry { ino, next: cookie + 1, kind, name: &name }) {
                    return Ok(());
                }
                at = cookie + 1;
            }
        }
    }

    fn attributes(&self) -> Result<Attributes> {
        self.0.attributes()
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        self.0.set_attributes(change)
    }

    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_shows_what_stays_once_whatever_comes_and_goes() {
        let mut entries = Entries::default();
        for name in [b"a", b"b", b"c", b"d"] {
            entries.insert(name, ());
        }
        let first: Vec<_> =
            entries.from(0).take(2).map(|(cookie, name, ())| (cookie, name.to_vec())).collect();
        let (last, _) = first[1];
        entries.remove(b"a");
        entries.remove(b"c");
        entries.insert(b"a", ());
        entries.insert(b"e", ());
        let rest: Vec<_> = entries.from(last + 1).map(|(_, name, ())| name.to_vec()).collect();
        assert_eq!(rest, [b"d", b"a", b"e"]);
    }

    #[test]
    fn a_replaced_name_keeps_its_position() {
        let mut entries = Entries::default();
        entries.insert(b"x", 1);
        entries.insert(b"y", 2);
        assert_eq!(entries.insert(b"x", 3), Some(1));
        assert_eq!(
            entries.from(0).map(|(cookie, _, &value)| (cookie, value)).collect::<Vec<_>>(),
            [(2, 3), (3, 2)]
        );
        assert_eq!(entries.len(), 2);
    }
}
