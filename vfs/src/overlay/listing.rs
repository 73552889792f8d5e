//! Open directories of overlays.

use crate::Result;
use crate::attributes::{AttributeChange, Attributes};
use crate::file::{self, DirEntry, Emit, FileOps};
use crate::host::HostInode;
use crate::inode::Inode;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kernel::sync::Mutex;
use linux_raw_sys::general as raw;

/// A name as a listing shows it: name, inode number, `DT_*`.
pub(super) type Listed = (Box<[u8]>, u64, u8);

/// A directory whose names are those of its layers together.
pub(super) trait Listable: Inode {
    /// All names but `.` and `..`.
    fn list(&self) -> Result<Vec<Listed>>;

    /// The open directory whose names are all of them, if one layer has them.
    fn plain(&self) -> Result<Option<Arc<dyn FileOps>>> {
        Ok(None)
    }

    /// Its inode number.
    fn number(&self) -> u64;
}

/// The names of a host directory.
pub(super) fn names_of(directory: &HostInode) -> Result<Vec<Listed>> {
    let mut names = Vec::new();
    let listing = directory.arc()?.open(raw::O_RDONLY | raw::O_DIRECTORY)?;
    listing.read_dir(0, usize::MAX, &mut |entry| {
        if !matches!(entry.name, b"." | b"..") {
            names.push((entry.name.into(), entry.ino, entry.kind));
        }
        true
    })?;
    Ok(names)
}

/// An open directory. The listing is made when reading starts (again) and positions count in it, as in Linux's overlayfs
/// for merged directories; where one layer has all names, positions are that layer's.
pub(super) struct OpenDirectory<N> {
    node: Arc<N>,
    list: Mutex<Option<Names>>,
}

/// The names of an open directory.
#[derive(Clone)]
enum Names {
    Plain(Arc<dyn FileOps>),
    Merged(Arc<Vec<Listed>>),
}

impl<N: Listable> OpenDirectory<N> {
    pub(super) fn new(node: Arc<N>) -> OpenDirectory<N> {
        OpenDirectory { node, list: Mutex::new(None) }
    }

    fn listing(&self, again: bool) -> Result<Names> {
        if !again && let Some(list) = &*self.list.lock() {
            return Ok(list.clone());
        }
        let list = match self.node.plain()? {
            Some(directory) => Names::Plain(directory),
            None => Names::Merged(Arc::new(self.node.list()?)),
        };
        let old = self.list.lock().replace(list.clone());
        drop(old);
        Ok(list)
    }
}

impl<N: Listable + 'static> FileOps for OpenDirectory<N> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, offset: i64, whence: u32) -> Result<u64> {
        file::seek_entries(position, offset, whence)
    }

    fn read_dir(&self, position: u64, room: usize, emit: Emit<'_>) -> Result<()> {
        let list = match self.listing(position == 0)? {
            Names::Plain(directory) => return directory.read_dir(position, room, emit),
            Names::Merged(list) => list,
        };
        let dots = [&b"."[..], b".."].map(|name| (name, self.node.number(), raw::DT_DIR as u8));
        let names = list.iter().map(|(name, ino, kind)| (&**name, *ino, *kind));
        let all = dots.into_iter().chain(names).zip(1u64..);
        for ((name, ino, kind), next) in all.skip(usize::try_from(position).unwrap_or(usize::MAX)) {
            if !emit(DirEntry { ino, next, kind, name }) {
                break;
            }
        }
        Ok(())
    }

    fn attributes(&self) -> Result<Attributes> {
        self.node.attributes()
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        self.node.set_attributes(change)
    }

    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }
}
