//! What a process that stays says to the command that made it, before that ends: that all went well, or why not. One packet on a
//! socket that the two share.

use anyhow::Context;
use nix::sys::socket::{MsgFlags, recv, send};
use std::os::fd::{AsRawFd, OwnedFd};

/// Longest packet.
const LONGEST: usize = 16 << 10;

/// Says how it went. Who does not listen any more need not hear it.
pub fn say<T>(to: &OwnedFd, outcome: &anyhow::Result<T>) {
    let reason = outcome.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
    let reason = &reason.as_bytes()[..reason.len().min(LONGEST - 1)];
    // The first byte keeps the packet from being empty, which is how the end of the socket looks.
    let _ = send(to.as_raw_fd(), &[b"-", reason].concat(), MsgFlags::MSG_NOSIGNAL);
}

/// Waits for that. `lost`: what it means if the process has ended without a word.
pub fn hear(from: &OwnedFd, lost: &'static str) -> anyhow::Result<()> {
    let mut said = vec![0u8; LONGEST];
    let length = loop {
        match recv(from.as_raw_fd(), &mut said, MsgFlags::empty()) {
            Err(nix::Error::EINTR) => {}
            other => break other.context(lost)?,
        }
    };
    match said.get(1..length) {
        Some([]) => Ok(()),
        Some(reason) => anyhow::bail!("{}", String::from_utf8_lossy(reason)),
        None => anyhow::bail!("{lost}"),
    }
}
