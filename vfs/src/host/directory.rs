//! Open host directories: listings.

use super::listing::Listing;
use super::{HostFd, HostInode};

use crate::Result;
use crate::attributes::{AttributeChange, Attributes};
use crate::file::{self, DirEntry, Emit, FileOps};
use crate::inode::Inode;
use alloc::sync::Arc;
use alloc::vec;
use core::any::Any;
use kernel::sync::Mutex;
use linux_raw_sys::general as raw;
use trap_handler::host;

/// Bytes of entries asked for at once.
pub(super) const BUFFER: usize = 32 << 10;
/// No position of the host's.
const UNKNOWN: u64 = u64::MAX;
/// Bytes of an entry with a name of 255 bytes.
const LONGEST_ENTRY: usize = (19usize + 255 + 1).next_multiple_of(8);

/// An open host directory. Positions are the host's (`d_off`), which are stable under changes.
pub struct HostDirectory {
    inode: Arc<HostInode>,
    entries: Entries,
}

/// Where its entries come from.
enum Entries {
    /// The host, through a descriptor; the position of that, where it is known to be.
    Host(Arc<HostFd>, Mutex<u64>),
    /// A listing that was kept; the position reached last, and where that is in it.
    Kept(Arc<Listing>, Mutex<(u64, usize)>),
}

impl HostDirectory {
    pub(super) fn open(inode: Arc<HostInode>) -> Result<HostDirectory> {
        if let Some(listing) = inode.listing() {
            return Ok(HostDirectory { inode, entries: Entries::Kept(listing, Mutex::default()) });
        }
        let directory = inode.directory()?;
        let flags = raw::O_RDONLY | raw::O_DIRECTORY;
        // Not through its name: the O_PATH descriptor is the directory itself.
        let fd = inode.fs.tree.pool.open_at(&directory, c".", flags, 0)?;
        if inode.wants_listing() {
            let listing = inode.fs.tree.listings.read(fd.number())?;
            inode.keep_listing(listing.clone());
            if let Some(listing) = listing {
                return Ok(HostDirectory { inode, entries: Entries::Kept(listing, Mutex::default()) });
            }
        }
        // A listing that turned out too long to keep has moved it.
        let at = if inode.immutable() { UNKNOWN } else { 0 };
        Ok(HostDirectory { inode, entries: Entries::Host(fd, Mutex::new(at)) })
    }

    fn read_host(fd: &HostFd, at: &mut u64, position: u64, room: usize, emit: Emit<'_>) -> Result<()> {
        // The host's entries are as long as those that they become: what is asked for fits, and nothing is asked for twice.
        let mut buffer = vec![0; BUFFER.min(room)];
        let mut left = room;
        if *at != position {
            *at = host::lseek(fd.number(), position as i64, raw::SEEK_SET)?;
        }
        loop {
            if left < room && (room <= BUFFER || left < LONGEST_ENTRY) {
                return Ok(());
            }
            let filled =
                host::getdents64(fd.number(), buffer.get_mut(..left.min(BUFFER)).unwrap_or_default())?;
            left = left.saturating_sub(filled);
            let mut rest = buffer.get(..filled).unwrap_or(&[]);
            if rest.is_empty() {
                return Ok(());
            }
            while let Some((entry, length)) = parse_entry(rest) {
                let next = entry.next;
                if !emit(entry) {
                    // The host's descriptor is at the end of the buffer: have it sought next time.
                    *at = UNKNOWN;
                    return Ok(());
                }
                *at = next;
                rest = rest.get(length..).unwrap_or(&[]);
            }
        }
    }
}

/// The fields of one `linux_dirent64`, and how long it is.
pub(crate) fn parse_entry(bytes: &[u8]) -> Option<(DirEntry<'_>, usize)> {
    let field = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let length = usize::from(u16::from_ne_bytes(bytes.get(16..18)?.try_into().ok()?));
    let name = bytes.get(19..length)?;
    let name = name.get(..name.iter().position(|&byte| byte == 0)?)?;
    Some((DirEntry { ino: field(0)?, next: field(8)?, kind: *bytes.get(18)?, name }, length))
}

impl FileOps for HostDirectory {
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
        match &self.entries {
            Entries::Host(fd, at) => HostDirectory::read_host(fd, &mut at.lock(), position, room, emit),
            Entries::Kept(listing, reached) => {
                let mut reached = reached.lock();
                *reached = listing.give(listing.start(position, *reached), position, emit);
                Ok(())
            }
        }
    }

    fn attributes(&self) -> Result<Attributes> {
        self.inode.attributes()
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        self.inode.set_attributes(change)
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        match &self.entries {
            Entries::Host(fd, _) if !self.inode.fs.read_only => host::fsync(fd.number(), data_only),
            _ => Ok(()),
        }
    }

    fn describe(&self) -> alloc::string::String {
        alloc::string::String::from_utf8_lossy(&self.inode.host_path()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_getdents64_lays_them_out_and_damaged_ones_end_the_list() {
        let mut bytes = [0u8; 24];
        bytes[..8].copy_from_slice(&7u64.to_ne_bytes());
        bytes[8..16].copy_from_slice(&99u64.to_ne_bytes());
        bytes[16..18].copy_from_slice(&24u16.to_ne_bytes());
        bytes[18] = 8;
        bytes[19..22].copy_from_slice(b"abc");
        let (entry, length) = parse_entry(&bytes).expect("a whole entry");
        assert_eq!((entry.ino, entry.next, entry.kind, entry.name, length), (7, 99, 8, &b"abc"[..], 24));
        assert!(parse_entry(&bytes[..20]).is_none());
        bytes[16..18].copy_from_slice(&3u16.to_ne_bytes());
        assert!(parse_entry(&bytes).is_none());
    }
}
