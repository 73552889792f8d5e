//! Copying socket addresses.

use crate::{Errno, Result};
use alloc::vec::Vec;
use kernel::uaccess;
use netstack::address::{Address, LENGTH_MAX};

/// An address that the program passes in: `EINVAL` for a length that no address has.
pub fn read(at: u64, length: i32) -> Result<Vec<u8>> {
    let length = usize::try_from(length).ok().filter(|length| *length <= LENGTH_MAX).ok_or(Errno::EINVAL)?;
    uaccess::read_bytes(at, length)
}

/// Gives an address to the program as far as the length at `length_at` allows, and writes its real length there.
pub fn write(address: &Address, at: u64, length_at: u64) -> Result<()> {
    let room: i32 = uaccess::read(length_at)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let bytes = address.bytes();
    uaccess::write_bytes(at, bytes.get(..room).unwrap_or(bytes))?;
    uaccess::write(length_at, &(bytes.len() as i32))
}
