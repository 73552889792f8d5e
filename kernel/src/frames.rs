//! Page frames: the shared memory that holds file contents of tmpfs and overlays, shared anonymous memory and pipe buffers,
//! and that programs can map.
//!
//! Frames are handed out in runs of a power of two pages, so that a file's pages are mostly contiguous in the frames' memory
//! file and a program's mapping of them is one host mapping. Freed runs go to a bounded pool, dirty and warm; beyond
//! it their pages are given back to the host.

use crate::sync::{BootCell, Mutex};
use crate::{Errno, Result, boot};
use alloc::boxed::Box;
use alloc::vec::Vec;
use boundary::layout::{FRAMES_OFFSET, FRAMES_SIZE, PAGE_SIZE};
use trap_handler::{host, region};

/// Largest run: 2 MiB.
pub const MAX_ORDER: u32 = 9;
/// Freed frames kept warm at most.
const POOL_PAGES: u64 = 16 << 10;

/// A run of `1 << order` frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Number of the first frame.
    pub first: u64,
    /// Power of two of the length.
    pub order: u32,
}

impl Run {
    /// Number of frames.
    pub fn pages(self) -> u64 {
        1 << self.order
    }
}

#[derive(Default)]
struct Pool {
    next: u64,
    /// Freed runs by order: still resident and dirty, or given back and zero.
    dirty: [Vec<u64>; MAX_ORDER as usize + 1],
    clean: [Vec<u64>; MAX_ORDER as usize + 1],
    dirty_pages: u64,
    used_pages: u64,
    limit_pages: u64,
}

static POOL: BootCell<Box<Mutex<Pool>>> = BootCell::new();

/// Sets up the pool. Called once, at boot.
pub fn init() {
    let limit = boot::config().map_or(0, |config| config.options.memory_limit / PAGE_SIZE);
    let limit_pages = limit.min(FRAMES_SIZE / PAGE_SIZE);
    POOL.set(Box::new(Mutex::new(Pool { limit_pages, ..Pool::default() })));
}

/// Address of a frame in the kernel's own mapping.
pub fn address(frame: u64) -> u64 {
    region::base() + FRAMES_OFFSET + frame * PAGE_SIZE
}

/// Offset of a frame in the frames' memory file, for mapping it into a program.
pub fn file_offset(frame: u64) -> u64 {
    frame * PAGE_SIZE
}

/// Host descriptor of the frames' memory file.
pub fn host_fd() -> i32 {
    boot::config().map_or(-1, |config| config.fds.frames)
}

/// Frames in use and the limit, in pages.
pub fn usage() -> (u64, u64) {
    POOL.get().map_or((0, 0), |pool| {
        let pool = pool.lock();
        (pool.used_pages, pool.limit_pages)
    })
}

/// Takes a run, zeroed. `ENOSPC` at the sandbox's memory limit.
pub fn allocate(order: u32) -> Result<Run> {
    take(order, true)
}

/// Takes a run whose old contents (of this sandbox) may still be there: the caller overwrites all of it before anyone sees it.
pub fn allocate_dirty(order: u32) -> Result<Run> {
    take(order, false)
}

fn take(order: u32, zeroed: bool) -> Result<Run> {
    let order = order.min(MAX_ORDER);
    let pages = 1u64 << order;
    let index = order as usize;
    let pool = POOL.get().ok_or(Errno::ENOMEM)?;
    let (first, dirty) = {
        let mut pool = pool.lock();
        if pool.used_pages + pages > pool.limit_pages {
            return Err(Errno::ENOSPC);
        }
        pool.used_pages += pages;
        if let Some(first) = pool.dirty[index].pop() {
            pool.dirty_pages -= pages;
            (first, true)
        } else if let Some(first) = pool.clean[index].pop() {
            (first, false)
        } else {
            let first = pool.next.next_multiple_of(pages);
            if first + pages > FRAMES_SIZE / PAGE_SIZE {
                pool.used_pages -= pages;
                return Err(Errno::ENOSPC);
            }
            pool.next = first + pages;
            (first, false)
        }
    };
    if dirty && zeroed {
        // SAFETY: the run is ours alone now, and frames are mapped writable in every process.
        unsafe { core::ptr::write_bytes(address(first) as *mut u8, 0, (pages * PAGE_SIZE) as usize) };
    }
    Ok(Run { first, order })
}

/// Gives a run back. Nobody may have it mapped or use it any more.
pub fn free(run: Run) {
    let Some(pool) = POOL.get() else { return };
    let index = run.order.min(MAX_ORDER) as usize;
    let keep = {
        let mut pool = pool.lock();
        pool.used_pages = pool.used_pages.saturating_sub(run.pages());
        let keep = pool.dirty_pages + run.pages() <= POOL_PAGES;
        if keep {
            pool.dirty_pages += run.pages();
            pool.dirty[index].push(run.first);
        }
        keep
    };
    if !keep {
        let punch = 3; // FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
        let _ = host::fallocate(host_fd(), punch, file_offset(run.first), run.pages() * PAGE_SIZE);
        pool.lock().clean[index].push(run.first);
    }
}
