//! Host calls on memory. Addresses are checked by the caller to be the program's, or are the kernel's own slots.

use super::call;
use crate::Errno;
use linux_raw_sys::general as raw;

/// Readable.
pub const PROT_READ: u32 = raw::PROT_READ;
/// Writable.
pub const PROT_WRITE: u32 = raw::PROT_WRITE;
/// Executable.
pub const PROT_EXEC: u32 = raw::PROT_EXEC;
/// No access.
pub const PROT_NONE: u32 = raw::PROT_NONE;

/// mmap(2) at a fixed address that the caller has chosen. `flags` is without `MAP_FIXED`, which is added.
pub fn map_fixed(
    address: u64,
    length: u64,
    prot: u32,
    flags: u32,
    fd: i32,
    offset: u64,
) -> Result<(), Errno> {
    // SAFETY: the caller's record of areas says that these addresses are free or to be replaced.
    unsafe {
        call(
            raw::__NR_mmap,
            [address, length, u64::from(prot), u64::from(flags | raw::MAP_FIXED), fd as i64 as u64, offset],
        )
    }
    .map(|_| ())
}

/// Private anonymous memory at a fixed address, not reserved in advance.
pub fn map_anonymous_fixed(address: u64, length: u64, prot: u32) -> Result<(), Errno> {
    map_fixed(address, length, prot, raw::MAP_PRIVATE | raw::MAP_ANONYMOUS | raw::MAP_NORESERVE, -1, 0)
}

/// munmap(2).
pub fn munmap(address: u64, length: u64) -> Result<(), Errno> {
    // SAFETY: as for `map_fixed`.
    unsafe { call(raw::__NR_munmap, [address, length, 0, 0, 0, 0]) }.map(|_| ())
}

/// mprotect(2).
pub fn mprotect(address: u64, length: u64, prot: u32) -> Result<(), Errno> {
    // SAFETY: as for `map_fixed`.
    unsafe { call(raw::__NR_mprotect, [address, length, u64::from(prot), 0, 0, 0]) }.map(|_| ())
}

/// pkey_mprotect(2).
pub fn pkey_mprotect(address: u64, length: u64, prot: u32, key: i32) -> Result<(), Errno> {
    // SAFETY: as for `map_fixed`.
    unsafe { call(raw::__NR_pkey_mprotect, [address, length, u64::from(prot), i64::from(key) as u64, 0, 0]) }
        .map(|_| ())
}

/// mremap(2) with `MREMAP_MAYMOVE | MREMAP_FIXED` (or with the flags given beside those).
pub fn mremap_fixed(old: u64, old_length: u64, new_length: u64, flags: u32, new: u64) -> Result<u64, Errno> {
    // SAFETY: as for `map_fixed`.
    unsafe {
        call(
            raw::__NR_mremap,
            [old, old_length, new_length, u64::from(flags | raw::MREMAP_MAYMOVE | raw::MREMAP_FIXED), new, 0],
        )
    }
}

/// mremap(2) in place (no flags): grows only if the host has room behind the area.
pub fn mremap_in_place(old: u64, old_length: u64, new_length: u64) -> Result<u64, Errno> {
    // SAFETY: as for `map_fixed`.
    unsafe { call(raw::__NR_mremap, [old, old_length, new_length, 0, 0, 0]) }
}

/// madvise(2).
pub fn madvise(address: u64, length: u64, advice: u32) -> Result<(), Errno> {
    // SAFETY: as for `map_fixed`.
    unsafe { call(raw::__NR_madvise, [address, length, u64::from(advice), 0, 0, 0]) }.map(|_| ())
}

/// mincore(2): a byte for each page, into kernel memory.
pub fn mincore(address: u64, pages: &mut [u8]) -> Result<(), Errno> {
    let length = pages.len() as u64 * boundary::layout::PAGE_SIZE;
    // SAFETY: the host writes one byte a page to `pages`.
    unsafe { call(raw::__NR_mincore, [address, length, pages.as_mut_ptr() as u64, 0, 0, 0]) }.map(|_| ())
}

/// msync(2).
pub fn msync(address: u64, length: u64, flags: u32) -> Result<(), Errno> {
    // SAFETY: changes no memory.
    unsafe { call(raw::__NR_msync, [address, length, u64::from(flags), 0, 0, 0]) }.map(|_| ())
}

/// mlock(2).
pub fn mlock(address: u64, length: u64) -> Result<(), Errno> {
    // SAFETY: changes no memory.
    unsafe { call(raw::__NR_mlock, [address, length, 0, 0, 0, 0]) }.map(|_| ())
}

/// munlock(2).
pub fn munlock(address: u64, length: u64) -> Result<(), Errno> {
    // SAFETY: changes no memory.
    unsafe { call(raw::__NR_munlock, [address, length, 0, 0, 0, 0]) }.map(|_| ())
}

/// membarrier(2).
pub fn membarrier(command: i32, flags: u32) -> Result<u64, Errno> {
    // SAFETY: no pointers.
    unsafe { call(raw::__NR_membarrier, [command as u64, u64::from(flags), 0, 0, 0, 0]) }
}
