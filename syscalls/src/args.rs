//! A call's arguments, as the program passed them.

use crate::Result;
use kernel::uaccess;

/// The six argument registers of a system call.
#[derive(Debug, Clone, Copy)]
pub struct Args(pub [u64; 6]);

impl Args {
    /// Argument `index` as it is: an address, a size.
    pub fn u64(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or(0)
    }

    /// Its low half: flags and other unsigned ints.
    pub fn u32(&self, index: usize) -> u32 {
        self.u64(index) as u32
    }

    /// Its low half, signed: descriptors, pids and other ints.
    pub fn i32(&self, index: usize) -> i32 {
        self.u64(index) as i32
    }

    /// Signed: offsets.
    pub fn i64(&self, index: usize) -> i64 {
        self.u64(index) as i64
    }

    /// The path at this address.
    pub fn path(&self, index: usize) -> Result<uaccess::Text> {
        uaccess::read_path(self.u64(index))
    }
}
