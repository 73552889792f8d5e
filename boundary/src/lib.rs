//! What passes between the inside of a sandbox and the outside: plain types, shared by both.
//!
//! The outside (supervisor, `runtime` crate) writes a [`boot::BootConfig`] that the kernel image reads once;
//! afterwards both sides exchange [`control`] messages over one `SOCK_SEQPACKET` socket. Whatever comes from
//! the inside is hostile: the supervisor decodes it with bounds and believes nothing it says about the host.

#![no_std]
extern crate alloc;

pub mod boot;
pub mod broker;
pub mod changes;
pub mod control;
pub mod layout;
pub mod process;
pub mod sysctl;
