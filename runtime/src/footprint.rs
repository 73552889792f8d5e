//! What the supervisor holds of memory while it waits.

use std::ffi::{c_int, c_void};

/// Lets go of the pages of the command's code and constants, which only launching needed: they are pages of a file, and come
/// back when they are touched.
pub fn release() {
    // SAFETY: the function has the type that dl_iterate_phdr(3) asks for, and keeps nothing of what it is shown.
    unsafe { libc::dl_iterate_phdr(Some(release_object), std::ptr::null_mut()) };
}

/// Called for the command, which is the only object of its process but the vDSO; the result ends the walk.
unsafe extern "C" fn release_object(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut c_void,
) -> c_int {
    // SAFETY: the C library's own description of a loaded object, with so many headers.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
    };
    const PAGE: u64 = boundary::layout::PAGE_SIZE;
    for header in headers.iter().filter(|one| one.p_type == libc::PT_LOAD && one.p_flags & libc::PF_W == 0) {
        let start = (base + header.p_vaddr) / PAGE * PAGE;
        let end = (base + header.p_vaddr + header.p_filesz).next_multiple_of(PAGE);
        // SAFETY: a private mapping of a file that nobody writes to: its pages are read again from the file.
        unsafe { libc::madvise(start as *mut c_void, (end - start) as usize, libc::MADV_DONTNEED) };
    }
    1
}
