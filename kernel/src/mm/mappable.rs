//! What can be mapped: the memory part asks, the file part answers.

use crate::Result;
use alloc::vec::Vec;

/// What the host has to map for a range of a file, from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// `length` bytes of a host descriptor at `offset` (page aligned).
    Host {
        /// Host descriptor; stays open as long as the mapping's [`Mappable`] lives.
        fd: i32,
        /// Offset in that descriptor.
        offset: u64,
        /// Bytes, a multiple of the page size.
        length: u64,
    },
    /// `length` bytes of private zeros (`/dev/zero`).
    Zero {
        /// Bytes, a multiple of the page size.
        length: u64,
    },
    /// `length` bytes behind the end of the file: an access gives SIGBUS.
    BeyondEnd {
        /// Bytes, a multiple of the page size.
        length: u64,
    },
}

impl Backing {
    /// Bytes covered.
    pub fn length(&self) -> u64 {
        match self {
            Backing::Host { length, .. } | Backing::Zero { length } | Backing::BeyondEnd { length } => {
                *length
            }
        }
    }
}

/// Identifies one registration of a mapping with its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MappingId(pub u64);

/// A file that can be mapped. Held by the areas that map it, so the file lives as long as its mappings.
pub trait Mappable: Send + Sync {
    /// What backs `[offset, offset + length)`, both page aligned: the first piece. `shared` and `writable` are those of the
    /// mapping; a file may have to provide pages (fill holes, copy up) before it answers.
    fn backing(&self, offset: u64, length: u64, shared: bool, writable: bool) -> Result<Backing>;

    /// The file's size, if what is behind its end is for this kernel to take away when it gets shorter; `None` where the host
    /// does that.
    fn end(&self) -> Option<u64> {
        None
    }

    /// Makes a page aligned range read as zero (madvise(2) `MADV_REMOVE`), if that is for this kernel to do; `None` where the host
    /// does it. Locks of address spaces may be held.
    fn remove(&self, _offset: u64, _length: u64) -> Option<Result<()>> {
        None
    }

    /// Device, inode number and name, for `/proc/PID/maps`; no name for a file of the tree, which is known by its place.
    fn describe(&self) -> (u64, u64, Vec<u8>);

    /// The size in bytes, if it is a System V segment that shmat(2) attached: shmdt(2) looks for it, and areas of it are never
    /// merged.
    fn segment_size(&self) -> Option<u64> {
        None
    }

    /// One more area of some address space maps it. Locks of address spaces may be held.
    fn area_added(&self) {}

    /// One area less maps it. Locks of address spaces may be held.
    fn area_removed(&self) {}
}
