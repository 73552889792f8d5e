//! The image's text on huge pages of its own.
//!
//! Until a process forks again and again, its text is pages of the command's file, which all sandboxes share; the host then
//! copies an entry of the page tables for each of hundreds of pages at every fork. A private copy on a transparent huge page is
//! one entry, and costs the processor one translation. Where the host has no huge page to give it is as good as before.

use crate::{Result, boot};
use boundary::layout::{IMAGE_OFFSET, IMAGE_SIZE};
use linux_raw_sys::general as raw;
use trap_handler::{host, region};

const HUGE_PAGE: u64 = 2 << 20;

/// Puts the text of the calling process on huge pages, in one step for all who run it.
pub fn to_huge_pages() {
    let (start, end) = boot::config().map_or((0, 0), |config| config.host.text);
    if start == end {
        return;
    }
    if let Err(errno) = replace(start, end) {
        crate::debug!("the text stays on small pages: {errno}");
    }
}

fn replace(start: u64, end: u64) -> Result<()> {
    let size = (end - start).next_multiple_of(HUGE_PAGE);
    // The far half of the image's room: nothing else is ever there.
    let copy = region::base() + IMAGE_OFFSET + IMAGE_SIZE / 2;
    host::map_anonymous_fixed(copy, size, host::PROT_READ | host::PROT_WRITE)?;
    let moved = host::madvise(copy, size, raw::MADV_HUGEPAGE)
        .and_then(|()| {
            // SAFETY: the text is mapped and readable, the copy was just mapped and is at least as long.
            unsafe {
                core::ptr::copy_nonoverlapping(start as *const u8, copy as *mut u8, (end - start) as usize)
            };
            host::mprotect(copy, size, host::PROT_READ | host::PROT_EXEC)
        })
        .and_then(|()| host::mremap_fixed(copy, size, size, 0, start));
    if moved.is_err() {
        let _ = host::munmap(copy, size);
    }
    moved.map(drop)
}
