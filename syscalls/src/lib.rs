//! The table of system calls, and the process that ties memory, files and signals together.
//!
//! A call is found by its name: each family's module has a `ROWS` table (number, name, function, status) at its top and
//! the functions below. A function decodes its arguments once, from [`args::Args`], and does the thing or calls the
//! layer that does.

#![no_std]
extern crate alloc;

pub mod args;
pub mod boot;
pub mod changes;
pub mod dispatch;
pub mod fault;
pub mod file;
pub mod filter;

pub mod futex;
pub mod hosts;
pub mod int80;
pub mod ipc;
pub mod memory;
pub mod mounts;
pub mod names;
pub mod pod;
pub mod proc;
pub mod process;
pub mod ptrace;
pub mod restart;
pub mod signal;
pub mod socket;
mod stand_in;
pub mod start;
pub mod stats;
pub mod strace;
pub mod system;
pub mod table;
pub mod thread;
pub mod time;
pub mod warden;

pub use kernel::{Errno, Result};
