//! Listings of directories that never change: kept in memory, so that listing one again asks nobody.

use super::HostInode;
use super::directory::parse_entry;
use crate::Result;
use crate::file::DirEntry;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::sync::Mutex;
use trap_handler::host;

/// A longer one, in bytes, is not kept.
const LONGEST: usize = 1 << 20;
/// Bytes of all that are kept, at least and at most.
const KEPT_BYTES: RangeInclusive<u64> = 1 << 20..=32 << 20;
/// Bytes of the sandbox's memory for each of them.
const MEMORY_PER_BYTE: u64 = 1 << 10;
/// How many are kept at most.
const KEPT: usize = 32 << 10;

/// The entries of a directory, as getdents64(2) gave them.
pub(crate) struct Listing {
    bytes: Box<[u8]>,
    kept: Arc<Listings>,
}

/// The listings that are kept, and how many bytes they take.
#[derive(Default)]
pub(crate) struct Listings {
    bytes: AtomicU64,
    /// The directories, the one listed longest ago first.
    of: Mutex<VecDeque<Weak<HostInode>>>,
}

fn kept_bytes() -> u64 {
    let memory = kernel::boot::config().map_or(0, |config| config.options.memory_limit);
    (memory / MEMORY_PER_BYTE).clamp(*KEPT_BYTES.start(), *KEPT_BYTES.end())
}

impl Listings {
    /// Reads a host directory from its start; `None` if that is too long to keep.
    pub(super) fn read(self: &Arc<Self>, fd: i32) -> Result<Option<Arc<Listing>>> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; super::directory::BUFFER];
        loop {
            let count = host::getdents64(fd, &mut buffer)?;
            if count == 0 {
                break;
            }
            bytes.extend_from_slice(buffer.get(..count).unwrap_or(&[]));
            if bytes.len() > LONGEST {
                return Ok(None);
            }
        }
        let listing = Listing { bytes: bytes.into_boxed_slice(), kept: self.clone() };
        self.bytes.fetch_add(listing.bytes.len() as u64, Ordering::Relaxed);
        Ok(Some(Arc::new(listing)))
    }

    /// Notes that `inode` keeps one; others lose theirs for that. No lock of an inode may be held.
    pub(super) fn keep(&self, inode: Weak<HostInode>) {
        self.of.lock().push_back(inode);
        loop {
            let oldest = {
                let mut of = self.of.lock();
                if of.len() <= KEPT && self.bytes.load(Ordering::Relaxed) <= kept_bytes() {
                    return;
                }
                of.pop_front()
            };
            let Some(oldest) = oldest else { return };
            if let Some(inode) = oldest.upgrade() {
                inode.forget_listing();
            }
        }
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.kept.bytes.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

impl Listing {
    /// Where the entries behind a position begin: `hint` is a position and where that was found to be.
    pub(super) fn start(&self, position: u64, hint: (u64, usize)) -> usize {
        if position == 0 {
            return 0;
        }
        if hint.0 == position {
            return hint.1;
        }
        let mut at = 0;
        while let Some((entry, length)) = self.entry(at) {
            at += length;
            if entry.next == position {
                break;
            }
        }
        at
    }

    fn entry(&self, at: usize) -> Option<(DirEntry<'_>, usize)> {
        self.bytes.get(at..).and_then(parse_entry)
    }

    /// Gives entries from `start` on until one is not taken: the last position and where that is.
    pub(super) fn give(
        &self,
        start: usize,
        position: u64,
        take: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> (u64, usize) {
        let mut reached = (position, start);
        while let Some((entry, length)) = self.entry(reached.1) {
            let next = entry.next;
            if !take(entry) {
                break;
            }
            reached = (next, reached.1 + length);
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: &[(&str, u64)]) -> Listing {
        let mut bytes = Vec::new();
        for (name, next) in names {
            let mut entry = vec![0u8; 32];
            entry[..8].copy_from_slice(&7u64.to_ne_bytes());
            entry[8..16].copy_from_slice(&next.to_ne_bytes());
            entry[16..18].copy_from_slice(&32u16.to_ne_bytes());
            entry[19..19 + name.len()].copy_from_slice(name.as_bytes());
            bytes.extend(entry);
        }
        Listing { bytes: bytes.into_boxed_slice(), kept: Arc::default() }
    }

    #[test]
    fn a_listing_goes_on_wherever_it_was_left() {
        // Positions are the host's: in no order.
        let listing = listing(&[(".", 90), ("..", 5), ("a", 70), ("b", u64::MAX >> 1)]);
        let names_from = |position, hint, most: usize| {
            let mut names = Vec::new();
            let start = listing.start(position, hint);
            let reached = listing.give(start, position, &mut |entry| {
                let room = names.len() < most;
                if room {
                    names.push(entry.name.to_vec());
                }
                room
            });
            (names, reached)
        };
        let (first, reached) = names_from(0, (0, 0), 2);
        assert_eq!((first, reached), (vec![b".".to_vec(), b"..".to_vec()], (5, 64)));
        assert_eq!(names_from(5, reached, 9).0, [b"a", b"b"]);
        assert_eq!(names_from(90, reached, 1), (vec![b"..".to_vec()], (5, 64)));
        assert!(names_from(u64::MAX >> 1, (0, 0), 9).0.is_empty());
        assert!(names_from(1234, (0, 0), 9).0.is_empty());
    }
}
