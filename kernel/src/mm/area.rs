//! One memory area: a range of pages with the same protection, flags and content.

use super::Mappable;
use alloc::string::String;
use alloc::sync::Arc;

bitflags::bitflags! {
    /// Access to pages; the bits are `PROT_*`'s.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Prot: u32 {
        /// `PROT_READ`.
        const READ = 1;
        /// `PROT_WRITE`.
        const WRITE = 2;
        /// `PROT_EXEC`.
        const EXEC = 4;
    }
}

bitflags::bitflags! {
    /// What else distinguishes an area.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct AreaFlags: u32 {
        /// Mapped with `MAP_SHARED`.
        const SHARED = 1 << 0;
        /// Grows downwards on access below it (`MAP_GROWSDOWN`, the main stack).
        const GROWS_DOWN = 1 << 1;
        /// Not reserved in advance.
        const NO_RESERVE = 1 << 2;
        /// Locked in memory (mlock(2)).
        const LOCKED = 1 << 3;
        /// Locked page by page, when touched (`MLOCK_ONFAULT`).
        const LOCKED_ON_FAULT = 1 << 4;
        /// Not in a forked child (`MADV_DONTFORK`).
        const DONT_FORK = 1 << 5;
        /// Zeros in a forked child (`MADV_WIPEONFORK`).
        const WIPE_ON_FORK = 1 << 6;
        /// `MADV_HUGEPAGE`.
        const HUGE_PAGE = 1 << 7;
        /// `MADV_NOHUGEPAGE`.
        const NO_HUGE_PAGE = 1 << 8;
        /// `MADV_SEQUENTIAL`.
        const SEQUENTIAL = 1 << 9;
        /// `MADV_RANDOM`.
        const RANDOM = 1 << 10;
        /// `MADV_MERGEABLE`.
        const MERGEABLE = 1 << 11;
        /// `MADV_DONTDUMP`.
        const DONT_DUMP = 1 << 12;
    }
}

impl AreaFlags {
    /// Both kinds of locking.
    pub const ANY_LOCK: AreaFlags = AreaFlags::LOCKED.union(AreaFlags::LOCKED_ON_FAULT);
}

/// What an area's pages hold.
#[derive(Clone)]
pub enum Content {
    /// Private zeros at first.
    Anonymous,
    /// A file (or shared anonymous memory) from this offset on.
    File(Arc<dyn Mappable>, u64),
    /// Pages of the host kernel that the program may have (`[vdso]`, `[vvar]`), by name.
    Special(Arc<String>),
}

/// A memory area; its start is its key in the map.
#[derive(Clone)]
pub struct Area {
    /// First address behind it.
    pub end: u64,
    /// Access now.
    pub prot: Prot,
    /// Access that mprotect(2) may give.
    pub may: Prot,
    /// Flags.
    pub flags: AreaFlags,
    /// Content.
    pub content: Content,
}

impl Area {
    /// Private anonymous memory up to `end`.
    pub fn anonymous(end: u64, prot: Prot, flags: AreaFlags) -> Area {
        Area { end, prot, may: Prot::all(), flags, content: Content::Anonymous }
    }

    /// Tells the file that one more area maps it, or (`added` false) one less.
    pub(super) fn tell_file(&self, added: bool) {
        match &self.content {
            Content::File(file, _) if added => file.area_added(),
            Content::File(file, _) => file.area_removed(),
            _ => {}
        }
    }

    /// Whether changes are seen by others.
    pub fn shared(&self) -> bool {
        self.flags.contains(AreaFlags::SHARED)
    }

    /// Counts towards `RLIMIT_DATA`: private, writable and no stack (Linux's `is_data_mapping`).
    pub fn is_data(&self) -> bool {
        self.prot.contains(Prot::WRITE) && !self.flags.intersects(AreaFlags::SHARED | AreaFlags::GROWS_DOWN)
    }

    /// The part from `at` on, for an area that starts at `start`.
    pub(super) fn tail(&self, start: u64, at: u64) -> Area {
        let mut tail = self.clone();
        if let Content::File(_, offset) = &mut tail.content {
            *offset = offset.wrapping_add(at.wrapping_sub(start));
        }
        tail
    }

    /// Whether `next`, which starts where this area ends, continues it.
    pub(super) fn joins(&self, start: u64, next: &Area) -> bool {
        let same = self.prot == next.prot && self.may == next.may && self.flags == next.flags;
        same && match (&self.content, &next.content) {
            (Content::Anonymous, Content::Anonymous) => true,
            (Content::File(file, offset), Content::File(next_file, next_offset)) => {
                Arc::ptr_eq(file, next_file)
                    && file.segment_size().is_none()
                    && offset.checked_add(self.end.wrapping_sub(start)) == Some(*next_offset)
            }
            _ => false,
        }
    }
}
