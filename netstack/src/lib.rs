//! Sockets (socket(7)): unix(7), loopback tcp(7) and udp(7), and netlink(7) route queries, all served in memory.
//!
//! ```text
//!   descriptor ─> OpenFile ─> SocketFile ─> dyn Socket       (unix::Unix, inet::tcp::Tcp, inet::udp::Udp, netlink::Netlink)
//!                                              └─> Common    (options, timeouts, the one wait queue)
//! ```
//!
//! A socket owns what was sent to it; who sends puts it there directly and wakes the receiver. A socket that lost its last
//! description is *closed*, though others may still hold it as their peer.

#![no_std]
extern crate alloc;

pub mod address;
pub mod common;
pub mod inet;
pub mod interfaces;
pub mod message;
pub mod netlink;
pub mod options;
pub mod socket;
pub mod unix;

pub use kernel::{Errno, Result};

/// Sets up what all sockets share. Called once, at boot.
pub fn init() {
    unix::init();
    inet::init();
}
