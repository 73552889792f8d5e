//! Host calls on descriptors and paths. Paths are relative to a directory descriptor and NUL-terminated here.

use super::{call, call_interruptible};
use crate::Errno;
use core::ffi::CStr;
use linux_raw_sys::general as raw;

/// Data for a host read or write: kernel memory, or an address range that was checked to be the program's.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// First byte.
    pub address: u64,
    /// Number of bytes.
    pub length: u64,
}

impl Span {
    /// A checked range of the program's memory: the host itself reports `EFAULT` for what is not mapped.
    pub fn user(address: u64, length: u64) -> Result<Span, Errno> {
        if crate::region::is_user(address, length) {
            Ok(Span { address, length })
        } else {
            Err(Errno::EFAULT)
        }
    }
}

impl From<&mut [u8]> for Span {
    fn from(bytes: &mut [u8]) -> Span {
        Span { address: bytes.as_mut_ptr() as u64, length: bytes.len() as u64 }
    }
}

impl From<&[u8]> for Span {
    fn from(bytes: &[u8]) -> Span {
        Span { address: bytes.as_ptr() as u64, length: bytes.len() as u64 }
    }
}

macro_rules! transfer {
    ($(#[$doc:meta])* $name:ident, $how:ident, $nr:ident $(, $offset:ident)?) => {
        $(#[$doc])*
        pub fn $name(fd: i32, span: Span $(, $offset: u64)?) -> Result<usize, Errno> {
            #[allow(unused_mut, unused_assignments, reason = "not every transfer has an offset")]
            let mut at = 0u64;
            $(at = $offset;)?
            // SAFETY: a Span is memory that the host may read or write for this call.
            unsafe { $how(raw::$nr, [fd as u64, span.address, span.length, at, 0, 0]) }.map(|n| n as usize)
        }
    };
}

transfer!(
    /// read(2) that may block.
    read_interruptible, call_interruptible, __NR_read);
transfer!(
    /// write(2) that may block.
    write_interruptible, call_interruptible, __NR_write);
transfer!(
    /// write(2) that is not expected to block for long (log lines).
    write, call, __NR_write);
transfer!(
    /// read(2) that is not expected to block.
    read, call, __NR_read);
transfer!(
    /// pread64(2).
    pread, call, __NR_pread64, offset);
transfer!(
    /// pwrite64(2).
    pwrite, call, __NR_pwrite64, offset);

/// openat(2).
pub fn openat(directory: i32, path: &CStr, flags: u32, mode: u32) -> Result<i32, Errno> {
    // SAFETY: `path` is a terminated string.
    unsafe {
        call(
            raw::__NR_openat,
            [directory as u64, path.as_ptr() as u64, u64::from(flags), u64::from(mode), 0, 0],
        )
    }
    .map(|fd| fd as i32)
}

/// close(2).
pub fn close(fd: i32) -> Result<(), Errno> {
    // SAFETY: no pointers; the caller owns the descriptor.
    unsafe { call(raw::__NR_close, [fd as u64, 0, 0, 0, 0, 0]) }.map(|_| ())
}

/// newfstatat(2) (with `AT_EMPTY_PATH` and an empty path: fstat).
pub fn fstatat(directory: i32, path: &CStr, flags: u32) -> Result<raw::stat, Errno> {
    // SAFETY: `stat` is plain data, for which zero is a value.
    let mut stat: raw::stat = unsafe { core::mem::zeroed() };
    // SAFETY: both pointers are valid for the call.
    unsafe {
        call(
            raw::__NR_newfstatat,
            [directory as u64, path.as_ptr() as u64, &raw mut stat as u64, u64::from(flags), 0, 0],
        )
    }?;
    Ok(stat)
}

/// statx(2).
pub fn statx(directory: i32, path: &CStr, flags: u32, mask: u32) -> Result<raw::statx, Errno> {
    // SAFETY: `statx` is plain data, for which zero is a value.
    let mut stat: raw::statx = unsafe { core::mem::zeroed() };
    // SAFETY: both pointers are valid for the call.
    unsafe {
        call(
            raw::__NR_statx,
            [
                directory as u64,
                path.as_ptr() as u64,
                u64::from(flags),
                u64::from(mask),
                &raw mut stat as u64,
                0,
            ],
        )
    }?;
    Ok(stat)
}

/// fstatfs(2).
pub fn fstatfs(fd: i32) -> Result<raw::statfs, Errno> {
    // SAFETY: `statfs` is plain data, for which zero is a value.
    let mut stat: raw::statfs = unsafe { core::mem::zeroed() };
    // SAFETY: the pointer is valid for the call.
    unsafe { call(raw::__NR_fstatfs, [fd as u64, &raw mut stat as u64, 0, 0, 0, 0]) }?;
    Ok(stat)
}

/// readlinkat(2); the number of bytes.
pub fn readlinkat(directory: i32, path: &CStr, target: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: both pointers are valid for the call.
    unsafe {
        call(
            raw::__NR_readlinkat,
            [directory as u64, path.as_ptr() as u64, target.as_mut_ptr() as u64, target.len() as u64, 0, 0],
        )
    }
    .map(|n| n as usize)
}

/// getdents64(2); the number of bytes of entries.
pub fn getdents64(fd: i32, entries: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the buffer is ours.
    unsafe {
        call(raw::__NR_getdents64, [fd as u64, entries.as_mut_ptr() as u64, entries.len() as u64, 0, 0, 0])
    }
    .map(|n| n as usize)
}

/// lseek(2).
pub fn lseek(fd: i32, offset: i64, whence: u32) -> Result<u64, Errno> {
    // SAFETY: no pointers.
    unsafe { call(raw::__NR_lseek, [fd as u64, offset as u64, u64::from(whence), 0, 0, 0]) }
}

/// fallocate(2) on the kernel's own memory files and granted files.
pub fn fallocate(fd: i32, mode: u32, offset: u64, length: u64) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(raw::__NR_fallocate, [fd as u64, u64::from(mode), offset, length, 0, 0]) }.map(|_| ())
}

/// ftruncate(2).
pub fn ftruncate(fd: i32, length: u64) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(raw::__NR_ftruncate, [fd as u64, length, 0, 0, 0, 0]) }.map(|_| ())
}

/// fsync(2) or, with `data_only`, fdatasync(2).
pub fn fsync(fd: i32, data_only: bool) -> Result<(), Errno> {
    let number = if data_only { raw::__NR_fdatasync } else { raw::__NR_fsync };
    // SAFETY: no pointers.
    unsafe { call(number, [fd as u64, 0, 0, 0, 0, 0]) }.map(|_| ())
}

/// A call that names one path below a directory: unlinkat(2), mkdirat(2), fchmodat(2), ... `number` is one of the rows
/// that a writable mount brings into the filter; the other arguments are plain numbers.
pub fn path_call(number: u32, directory: i32, path: &CStr, rest: [u64; 3]) -> Result<(), Errno> {
    // SAFETY: `path` is a terminated string; the rest are numbers.
    unsafe { call(number, [directory as u64, path.as_ptr() as u64, rest[0], rest[1], rest[2], 0]) }
        .map(|_| ())
}

/// fchmod(2).
pub fn fchmod(fd: i32, mode: u32) -> Result<(), Errno> {
    // SAFETY: numbers only.
    unsafe { call(raw::__NR_fchmod, [fd as u64, u64::from(mode), 0, 0, 0, 0]) }.map(drop)
}

/// A call that names two paths: renameat2(2), linkat(2).
pub fn two_path_call(
    number: u32,
    (from_directory, from): (i32, &CStr),
    (to_directory, to): (i32, &CStr),
    flags: u32,
) -> Result<(), Errno> {
    // SAFETY: both are terminated strings.
    unsafe {
        call(
            number,
            [
                from_directory as u64,
                from.as_ptr() as u64,
                to_directory as u64,
                to.as_ptr() as u64,
                u64::from(flags),
                0,
            ],
        )
    }
    .map(|_| ())
}

/// symlinkat(2).
pub fn symlinkat(text: &CStr, directory: i32, path: &CStr) -> Result<(), Errno> {
    // SAFETY: both are terminated strings.
    unsafe {
        call(raw::__NR_symlinkat, [text.as_ptr() as u64, directory as u64, path.as_ptr() as u64, 0, 0, 0])
    }
    .map(|_| ())
}

/// utimensat(2); `times` is access and modification time.
pub fn utimensat(directory: i32, path: &CStr, times: &[raw::timespec; 2], flags: u32) -> Result<(), Errno> {
    // SAFETY: both pointers are valid for the call.
    unsafe {
        call(
            raw::__NR_utimensat,
            [directory as u64, path.as_ptr() as u64, times.as_ptr() as u64, u64::from(flags), 0, 0],
        )
    }
    .map(|_| ())
}

/// ioctl(2) with a structure in kernel memory (or a number for commands that take one).
///
/// # Safety
/// `argument` must be what `command` takes.
pub unsafe fn ioctl(fd: i32, command: u32, argument: u64) -> Result<u64, Errno> {
    // SAFETY: the caller's.
    unsafe { call(raw::__NR_ioctl, [fd as u64, u64::from(command), argument, 0, 0, 0]) }
}

/// fcntl(2) `F_GETFL`, at boot only: the filter does not allow it later.
pub fn file_flags(fd: i32) -> Result<u32, Errno> {
    // SAFETY: no pointers.
    unsafe { call(raw::__NR_fcntl, [fd as u64, u64::from(raw::F_GETFL), 0, 0, 0, 0]) }
        .map(|flags| flags as u32)
}

/// ppoll(2) without a signal mask; `timeout_ns` `None` waits for ever.
pub fn ppoll_interruptible(fds: &mut [raw::pollfd], timeout_ns: Option<u64>) -> Result<usize, Errno> {
    let mut timeout = timeout_ns.map(super::timespec);
    let pointer = timeout.as_mut().map_or(0, |timeout| &raw mut *timeout as u64);
    // SAFETY: both pointers are valid for the call.
    unsafe {
        call_interruptible(raw::__NR_ppoll, [fds.as_mut_ptr() as u64, fds.len() as u64, pointer, 0, 0, 0])
    }
    .map(|n| n as usize)
}

/// What a host descriptor is ready for right now.
pub fn poll_now(fd: i32, events: i16) -> i16 {
    let mut fds = [raw::pollfd { fd, events, revents: 0 }];
    let mut timeout = super::timespec(0);
    // SAFETY: both pointers are valid for the call.
    let result =
        unsafe { call(raw::__NR_ppoll, [fds.as_mut_ptr() as u64, 1, &raw mut timeout as u64, 0, 0, 0]) };
    if result.is_ok() { fds[0].revents } else { 0 }
}
