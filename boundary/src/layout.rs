//! Where the kernel's regions lie, relative to one random base that all processes of a sandbox share.
//!
//! Everything the kernel owns is inside `[base, base + REGION_SIZE)`, so "is this address the program's?" is
//! one range check, and the program can be given every other address.

/// Bytes of address space reserved for the kernel, at a random base in every sandbox.
pub const REGION_SIZE: u64 = 512 << 30;
/// The base is a multiple of this.
pub const REGION_ALIGN: u64 = 1 << 30;
/// Lowest base the launcher picks: above the addresses that non-PIE programs, Go's arenas (`0xc0_0000_0000`)
/// and sanitizer shadows (`0x1000_7fff_8000`) ask for by number.
pub const REGION_BASE_MIN: u64 = 0x2000_0000_0000;
/// End of the range that bases are picked from; below the usual place of PIE programs and `mmap`.
pub const REGION_BASE_MAX: u64 = 0x5000_0000_0000;

/// The kernel image (private mapping; load bias = base + this).
pub const IMAGE_OFFSET: u64 = 0;
/// Room for the image.
pub const IMAGE_SIZE: u64 = 64 << 20;

/// Kernel stacks (private, one a thread). Close to the image, so that the first ones share its page tables.
pub const STACKS_OFFSET: u64 = IMAGE_OFFSET + IMAGE_SIZE;
/// Room for stacks.
pub const STACKS_SIZE: u64 = 31 << 30;
/// One slot: a guard page, the stack, and the thread block at its end. A power of two; slots are aligned to it.
pub const STACK_SLOT_SIZE: u64 = 256 << 10;

/// The kernel heap (shared `memfd`).
pub const HEAP_OFFSET: u64 = 64 << 30;
/// Size of the heap's `memfd`; sparse, grown on touch.
pub const HEAP_SIZE: u64 = 64 << 30;
/// Bytes at the start of the heap that hold the boot page: [`crate::boot::BootHeader`] and the encoded
/// [`crate::boot::BootConfig`]. The allocator starts behind them.
pub const HEAP_BOOT_BYTES: u64 = 1 << 20;

/// Page frames (shared `memfd`).
pub const FRAMES_OFFSET: u64 = 128 << 30;
/// Size of the frames' `memfd`; sparse, grown on touch.
pub const FRAMES_SIZE: u64 = 256 << 30;

/// Size of a page.
pub const PAGE_SIZE: u64 = 4096;
/// First address that user mode cannot have (47-bit address space).
pub const USER_END: u64 = 0x7fff_ffff_f000;
