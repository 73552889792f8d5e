//! Page arithmetic that cannot overflow.

/// Bytes in a page (x86-64).
pub const PAGE_SIZE: u64 = 4096;
/// First address that user mode cannot have: Linux's `TASK_SIZE` with a 47-bit address space.
pub const TASK_SIZE: u64 = 0x7fff_ffff_f000;

const IN_PAGE: u64 = PAGE_SIZE - 1;

/// Start of the page that holds `address`.
pub const fn page_start(address: u64) -> u64 {
    address & !IN_PAGE
}

/// Bytes from the start of the page to `address`.
pub const fn page_offset(address: u64) -> u64 {
    address & IN_PAGE
}

/// `address` rounded up to a page; `None` where that is beyond 64 bits.
pub const fn page_end(address: u64) -> Option<u64> {
    match address.checked_add(IN_PAGE) {
        Some(sum) => Some(page_start(sum)),
        None => None,
    }
}
