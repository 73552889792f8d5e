//! The one table of host calls: every request the kernel can make of the host is a function here. The strict filter
//! allows these and nothing else (its table, with reasons and argument checks, is in the `runtime` crate).
//!
//! Results are Linux's: `Err` for -4095..-1. Functions named `..._interruptible` give `EINTR` when work is pending for the
//! thread or when it is poked; the caller looks why and decides whether to go on.

mod file;
mod memory;
mod packet;
mod socket;
mod thread;
mod xattr;

pub use file::*;
pub use memory::*;
pub use packet::*;
pub use socket::*;
pub use thread::*;
pub use xattr::*;

use crate::{Errno, gadget};
pub use linux_raw_sys::general as raw;

/// Turns a raw result into a value or an error.
pub fn check(result: i64) -> Result<u64, Errno> {
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result as u64) }
}

/// A host call whose pointers, if any, are to memory that the caller owns or has checked to be the program's.
///
/// # Safety
/// See [`gadget::call`].
pub(crate) unsafe fn call(number: u32, args: [u64; 6]) -> Result<u64, Errno> {
    // SAFETY: the caller's.
    check(unsafe { gadget::call(u64::from(number), args) })
}

/// As [`call`], ended early by pending work.
///
/// # Safety
/// See [`gadget::call`].
pub(crate) unsafe fn call_interruptible(number: u32, args: [u64; 6]) -> Result<u64, Errno> {
    // SAFETY: the caller's.
    check(unsafe { gadget::call_interruptible(u64::from(number), args) })
}
