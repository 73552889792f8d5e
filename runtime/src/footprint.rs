//! What the supervisor holds of memory while it waits.

use std::ffi::{c_int, c_void};

/// Pages of the command's code and constants, which only launching needed: they are pages of a file, and come back when they are
/// touched.
pub struct Pages(Vec<(*mut c_void, usize)>);

impl Pages {
    /// All of them.
    pub fn of_command() -> Pages {
        let mut pages = Pages(Vec::new());
        // SAFETY: the function has the type that dl_iterate_phdr(3) asks for, and keeps nothing of what it is shown.
        unsafe { libc::dl_iterate_phdr(Some(note_object), (&raw mut pages).cast()) };
        pages
    }

    /// Lets go of them. What runs from here on brings its own back, with those around it: so this comes right before a long wait.
    #[inline(always)]
    pub fn release(&self) {
        for &(start, length) in &self.0 {
            // SAFETY: a private mapping of a file that nobody writes to: its pages are read again from the file.
            unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
        }
    }
}

/// Gives back what was allocated for launching, and freed.
pub fn trim_heap() {
    // SAFETY: only the allocator's own free memory.
    unsafe { libc::malloc_trim(0) };
}

/// Called for the command, which is the only object of its process but the vDSO; the result ends the walk.
unsafe extern "C" fn note_object(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    pages: *mut c_void,
) -> c_int {
    // SAFETY: the C library's own description of a loaded object, with so many headers; `of_command` gave the pages.
    let (base, headers, pages) = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        (info.dlpi_addr, headers, &mut *pages.cast::<Pages>())
    };
    const PAGE: u64 = boundary::layout::PAGE_SIZE;
    for header in headers.iter().filter(|one| one.p_type == libc::PT_LOAD && one.p_flags & libc::PF_W == 0) {
        let start = (base + header.p_vaddr) / PAGE * PAGE;
        let end = (base + header.p_vaddr + header.p_filesz).next_multiple_of(PAGE);
        pages.0.push((start as *mut c_void, (end - start) as usize));
    }
    1
}
