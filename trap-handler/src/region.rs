//! Which addresses are the kernel's and which are the program's.

use crate::gates;
use boundary::layout;
use core::sync::atomic::{AtomicU64, Ordering};

static BASE: AtomicU64 = AtomicU64::new(0);

/// Notes where the region lies. Called once, at boot, before anything else.
pub fn set_base(base: u64) {
    BASE.store(base, Ordering::Relaxed);
    gates::STACKS.store(base + layout::STACKS_OFFSET, Ordering::Relaxed);
}

/// Start of the kernel's region.
pub fn base() -> u64 {
    BASE.load(Ordering::Relaxed)
}

/// End of the kernel's region.
pub fn end() -> u64 {
    base() + layout::REGION_SIZE
}

/// Whether every byte of `[address, address + length)` may be the program's: below the end of user space and outside
/// the kernel's region. Says nothing about what is mapped there.
pub fn is_user(address: u64, length: u64) -> bool {
    let Some(last) = address.checked_add(length) else { return false };
    last <= layout::USER_END && (last <= base() || address >= end())
}

/// Whether an instruction pointer is inside the kernel's region.
pub fn is_kernel_code(rip: u64) -> bool {
    rip >= base() && rip < end()
}
