//! Files: mounts, dentries, inodes behind one trait, open files behind another, descriptor tables.
//!
//! ```text
//!   descriptor ─> OpenFile (flags, offset) ─> dyn FileOps          (pipes, sockets, epoll, ... have no more than this)
//!                     └─> Path { mount, dentry } ─> dyn Inode      (the same inode under every name)
//! ```

#![no_std]
extern crate alloc;

pub mod acl;
pub mod anonymous;
pub mod attributes;
pub mod context;
pub mod device;
pub mod epoll;
pub mod eventfd;
pub mod file;
pub mod generated;
pub mod host;
pub mod host_stream;
pub mod identity;
pub mod inode;
pub mod leases;
pub mod locks;
pub mod memfd;
pub mod mqueue;
pub mod namespace;
pub mod notify;
pub mod overlay;
pub mod page_file;
pub mod pipe;
pub mod poll_set;
pub mod shm;
pub mod signal_io;
pub mod signalfd;
pub mod table;
pub mod timerfd;
pub mod tmpfs;
pub mod tty;

pub use kernel::{Errno, Result};
