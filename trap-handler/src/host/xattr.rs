//! Host calls on extended attributes, through an open descriptor.

use super::call;
use crate::Errno;
use core::ffi::CStr;
use linux_raw_sys::general as raw;

/// fgetxattr(2); the number of bytes.
pub fn fgetxattr(fd: i32, name: &CStr, value: &mut [u8]) -> Result<usize, Errno> {
    let arguments = [fd as u64, name.as_ptr() as u64, value.as_mut_ptr() as u64, value.len() as u64, 0, 0];
    // SAFETY: a terminated string and a buffer that is ours.
    unsafe { call(raw::__NR_fgetxattr, arguments) }.map(|n| n as usize)
}

/// flistxattr(2); the number of bytes.
pub fn flistxattr(fd: i32, names: &mut [u8]) -> Result<usize, Errno> {
    let arguments = [fd as u64, names.as_mut_ptr() as u64, names.len() as u64, 0, 0, 0];
    // SAFETY: the buffer is ours.
    unsafe { call(raw::__NR_flistxattr, arguments) }.map(|n| n as usize)
}

/// fsetxattr(2).
pub fn fsetxattr(fd: i32, name: &CStr, value: &[u8], flags: u32) -> Result<(), Errno> {
    let (address, length) = (value.as_ptr() as u64, value.len() as u64);
    let arguments = [fd as u64, name.as_ptr() as u64, address, length, u64::from(flags), 0];
    // SAFETY: a terminated string and a value that is ours.
    unsafe { call(raw::__NR_fsetxattr, arguments) }.map(drop)
}

/// fremovexattr(2).
pub fn fremovexattr(fd: i32, name: &CStr) -> Result<(), Errno> {
    // SAFETY: a terminated string.
    unsafe { call(raw::__NR_fremovexattr, [fd as u64, name.as_ptr() as u64, 0, 0, 0, 0]) }.map(drop)
}
