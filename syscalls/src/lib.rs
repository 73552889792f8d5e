//! The table of system calls, and the process that ties memory, files and signals together.
//!
//! A call is found by its name: each family's module has a `ROWS` table (number, name, function, status) at its top and
//! the functions below. A function decodes its arguments once, from [`args::Args`], and does the thing or calls the
//! layer that does.

#![no_std]
extern crate alloc;

pub mod args;
pub mod memory;
pub mod table;

pub use kernel::{Errno, Result};
