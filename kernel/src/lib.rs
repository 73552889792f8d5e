//! The core of the kernel: what every other part stands on.
//!
//! Everything here lives in the kernel heap, which all processes of the sandbox share; nothing reachable from a shared
//! object may lie on a stack. See [`sync`] for the kernel's lock order.

#![no_std]
extern crate alloc;

pub mod boot;
pub mod cred;
pub mod frames;
pub mod heap;
pub mod hostpoll;
pub mod ipc;
pub mod log;
pub mod mm;
pub mod poll;
pub mod seccomp;
pub mod signal;
pub mod sync;
pub mod task;
pub mod time;
pub mod timer;
pub mod uaccess;
pub mod wait;

pub use trap_handler::Errno;

/// A list that is mostly so short that it needs no memory of the heap: what a call gathers for its own time.
pub type Short<T> = smallvec::SmallVec<[T; 8]>;

/// The result of nearly everything in the kernel.
pub type Result<T, E = Errno> = core::result::Result<T, E>;
