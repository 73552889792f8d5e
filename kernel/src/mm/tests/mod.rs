//! The bookkeeping against a naive model, and the calls against the host kernel itself.

extern crate std;

mod against_linux;
mod bookkeeping;
mod model;

use super::{Backing, Mappable};
use crate::Result;
use alloc::vec::Vec;

/// A file that is one host descriptor.
pub struct HostFile(pub i32);

impl Mappable for HostFile {
    fn backing(&self, offset: u64, length: u64, _shared: bool, _writable: bool) -> Result<Backing> {
        Ok(Backing::Host { fd: self.0, offset, length })
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        (0x10_0803, 77, Vec::from(*b"/a file"))
    }
}
