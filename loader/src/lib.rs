//! From a program file to what has to be mapped and put on the stack: pure logic, without a system call.
//!
//! Every field of a file is checked before use and the errors are Linux's (`fs/binfmt_elf.c`, `fs/binfmt_script.c`, `fs/exec.c`).
//! Inside the sandbox it serves execve(2); outside, the launcher maps the kernel image with it.

#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod elf;
pub mod plan;
pub mod script;
pub mod stack;

use core::fmt;

/// Why a file cannot be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadError {
    /// Linux's error number for it.
    pub errno: i32,
    /// What is wrong, for people.
    pub what: &'static str,
}

impl LoadError {
    pub(crate) const fn new(errno: i32, what: &'static str) -> LoadError {
        LoadError { errno, what }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (errno {})", self.what, self.errno)
    }
}

/// Error numbers of execve(2) that arise here.
pub mod errno {
    /// Argument list too long.
    pub const E2BIG: i32 = 7;
    /// Exec format error.
    pub const ENOEXEC: i32 = 8;
    /// Input/output error.
    pub const EIO: i32 = 5;
    /// Out of memory.
    pub const ENOMEM: i32 = 12;
    /// Invalid argument.
    pub const EINVAL: i32 = 22;
    /// Accessing a corrupted shared library.
    pub const ELIBBAD: i32 = 80;
}

/// A file to be loaded.
pub trait Image {
    /// Reads at `offset` into `buffer` as far as the file goes; the number of bytes. `Err` is the error number.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, i32>;
}

impl Image for &[u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, i32> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or(&[]);
        let length = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), rest.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }
}

/// Size of a page.
pub const PAGE: u64 = 4096;

/// First address that a program cannot have (47-bit address space).
pub const USER_END: u64 = 0x7fff_ffff_f000;

pub(crate) fn page_down(address: u64) -> u64 {
    address & !(PAGE - 1)
}

pub(crate) fn page_up(address: u64) -> Option<u64> {
    address.checked_add(PAGE - 1).map(page_down)
}
