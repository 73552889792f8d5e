//! The kernel heap's allocator: size classes carved from page runs, all in memory that every process shares.
//!
//! The allocator's own state lies at the start of the heap, so it is the same for every process. Small objects come
//! from free lists by size class; larger ones are runs of pages, a power of two each, with a free list per order. Pages of
//! large freed runs are given back to the host.

use crate::sync::RawMutex;
use boundary::layout::{HEAP_BOOT_BYTES, HEAP_OFFSET, HEAP_SIZE, PAGE_SIZE};
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;
use linux_raw_sys::general as raw;
use lock_api::RawMutex as _;
use trap_handler::{host, region};

/// Sizes of small objects. Powers of two among them are aligned to their size.
const CLASSES: [u32; 20] = [
    16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384,
];
/// Pages of a chunk that small objects are carved from.
const CHUNK: u64 = 64 << 10;
const ORDERS: usize = 25;
/// A heap of this size has its new chunks filled with pages at once: it grows, and a fault for each page costs more. A small one
/// takes no page before it needs it.
const LARGE: u64 = 16 << 20;
/// Freed runs from this size on give their pages back.
const GIVE_BACK: u64 = 256 << 10;

struct Class {
    free: *mut FreeObject,
    fresh: u64,
    fresh_end: u64,
}

struct FreeObject {
    next: *mut FreeObject,
}

struct State {
    next_page: u64,
    classes: [Class; CLASSES.len()],
    runs: [*mut FreeObject; ORDERS],
    used: u64,
}

#[repr(C)]
struct Shared {
    lock: RawMutex,
    state: State,
}

/// The image's global allocator.
pub struct Heap;

fn shared() -> *mut Shared {
    (region::base() + HEAP_OFFSET + HEAP_BOOT_BYTES) as *mut Shared
}

/// Sets up the heap. Called once, at boot, before the first allocation.
pub fn init() {
    let start = shared() as u64 + (size_of::<Shared>() as u64).next_multiple_of(PAGE_SIZE);
    let state = State {
        next_page: start,
        classes: [const { Class { free: null_mut(), fresh: 0, fresh_end: 0 } }; CLASSES.len()],
        runs: [null_mut(); ORDERS],
        used: 0,
    };
    // SAFETY: the heap is mapped and nobody uses it yet.
    unsafe { shared().write(Shared { lock: RawMutex::INIT, state }) }
    copy_tables_on_fork();
}

/// Makes the host's fork copy the page tables of the heap, as it does for a mapping that ever had a guard page (madvise(2),
/// `MADV_GUARD_INSTALL`, for shared mappings since Linux 6.15): less than the faults of a child that finds none. Where it
/// cannot be had, those faults are all.
fn copy_tables_on_fork() {
    const MADV_GUARD_INSTALL: u32 = 102;
    const MADV_GUARD_REMOVE: u32 = 103;
    let last_page = region::base() + HEAP_OFFSET + HEAP_SIZE - PAGE_SIZE;
    if host::madvise(last_page, PAGE_SIZE, MADV_GUARD_INSTALL).is_ok() {
        let _ = host::madvise(last_page, PAGE_SIZE, MADV_GUARD_REMOVE);
    }
}

/// Has the calling process forget which pages of a heap that has grown it has touched: a fork copies an entry of the page tables
/// for each, and the end of the child clears it, while few of them are used again. What is used comes back with faults, many pages
/// at one.
pub fn forget_tables() {
    /// Below this there is little to copy.
    const GROWN: u64 = 2 << 20;
    let start = region::base() + HEAP_OFFSET;
    // SAFETY: as in `used`.
    let end = unsafe { (&raw const (*shared()).state.next_page).read_volatile() };
    if end.saturating_sub(start) > GROWN {
        // The pages are those of the shared file, which keeps them.
        let _ = host::madvise(start, end - start, raw::MADV_DONTNEED);
    }
}

/// Bytes in use by kernel objects.
pub fn used() -> u64 {
    // SAFETY: the state lives as long as the sandbox; a torn read of one word cannot happen.
    unsafe { (&raw const (*shared()).state.used).read_volatile() }
}

fn class_for(size: usize, align: usize) -> Option<usize> {
    let wanted = if align > 16 { size.max(align).next_power_of_two() } else { size.max(1) };
    let index = CLASSES.partition_point(|&class| (class as usize) < wanted);
    (index < CLASSES.len()).then_some(index)
}

fn order_for(size: usize, align: usize) -> usize {
    let pages = size.max(align).div_ceil(PAGE_SIZE as usize).next_power_of_two();
    pages.trailing_zeros() as usize
}

/// Whether the pages of such a block go back to the host when it is freed.
fn is_given_back(layout: Layout) -> bool {
    let small = class_for(layout.size(), layout.align()).is_some();
    !small && PAGE_SIZE << order_for(layout.size(), layout.align()) >= GIVE_BACK
}

impl State {
    fn run(&mut self, order: usize) -> *mut u8 {
        let Some(head) = self.runs.get_mut(order) else { return null_mut() };
        if !head.is_null() {
            let run = *head;
            // SAFETY: free runs start with their link, and the lock is held.
            *head = unsafe { (*run).next };
            return run.cast();
        }
        let bytes = PAGE_SIZE << order;
        let start = self.next_page.next_multiple_of(bytes.min(CHUNK));
        let end = region::base() + HEAP_OFFSET + HEAP_SIZE;
        if start.checked_add(bytes).is_none_or(|last| last > end) {
            return null_mut();
        }
        self.next_page = start + bytes;
        start as *mut u8
    }

    /// An object, and the chunk that was begun for it, if its pages are to come at once.
    fn small(&mut self, index: usize) -> (*mut u8, Option<u64>) {
        let mut begun = None;
        let size = u64::from(CLASSES[index]);
        let class = &mut self.classes[index];
        if !class.free.is_null() {
            let object = class.free;
            // SAFETY: free objects start with their link, and the lock is held.
            class.free = unsafe { (*object).next };
            return (object.cast(), None);
        }
        if class.fresh + size > class.fresh_end {
            let chunk = self.run((CHUNK / PAGE_SIZE).trailing_zeros() as usize) as u64;
            if chunk == 0 {
                return (null_mut(), None);
            }
            let new = chunk + CHUNK == self.next_page;
            begun = (new && chunk - region::base() > HEAP_OFFSET + LARGE).then_some(chunk);
            let class = &mut self.classes[index];
            (class.fresh, class.fresh_end) = (chunk, chunk + CHUNK);
        }
        let class = &mut self.classes[index];
        let object = class.fresh;
        class.fresh += size;
        (object as *mut u8, begun)
    }
}

fn locked<T>(action: impl FnOnce(&mut State) -> T) -> T {
    let shared = shared();
    // SAFETY: `init` has run; the state is only touched under the lock.
    unsafe {
        (*shared).lock.lock();
        let result = action(&mut (*shared).state);
        (*shared).lock.unlock();
        result
    }
}

// SAFETY: blocks are disjoint, aligned as asked (classes and runs are), and stay valid until freed.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (block, begun) = locked(|state| {
            state.used += layout.size() as u64;
            match class_for(layout.size(), layout.align()) {
                Some(index) => state.small(index),
                None => (state.run(order_for(layout.size(), layout.align())), None),
            }
        });
        if let Some(chunk) = begun {
            let populate = 23; // MADV_POPULATE_WRITE; without it the pages come with their faults
            let _ = host::madvise(chunk, CHUNK, populate);
        }
        block
    }

    /// Large blocks are zero already, but for the link that a free one starts with: their pages are touched when they are used.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            let length = if is_given_back(layout) { size_of::<FreeObject>() } else { layout.size() };
            // SAFETY: within the block that was just allocated.
            unsafe { block.write_bytes(0, length) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let class = class_for(layout.size(), layout.align());
        let order = order_for(layout.size(), layout.align());
        if is_given_back(layout) {
            let remove = 9; // MADV_REMOVE: the pages of the shared file are freed and read as zero again
            if host::madvise(block as u64, PAGE_SIZE << order, remove).is_err() {
                // SAFETY: the whole block is the caller's to give.
                unsafe { block.write_bytes(0, (PAGE_SIZE as usize) << order) };
            }
        }
        locked(|state| {
            state.used = state.used.saturating_sub(layout.size() as u64);
            let head = match class {
                Some(index) => &mut state.classes[index].free,
                None => &mut state.runs[order],
            };
            let object = block.cast::<FreeObject>();
            // SAFETY: the block is the caller's to give, and at least 16 bytes.
            unsafe { (*object).next = *head };
            *head = object;
        });
    }
}
