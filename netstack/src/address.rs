//! Socket addresses as programs pass them (`struct sockaddr_*`).

use crate::{Errno, Result};
use linux_raw_sys::net;

/// Longest address (`struct sockaddr_storage`).
pub const LENGTH_MAX: usize = 128;

/// An address that a call gives back: its bytes from `sa_family` on.
#[derive(Clone, Copy)]
pub struct Address {
    bytes: [u8; LENGTH_MAX],
    length: usize,
}

impl Address {
    /// From its parts, cut to [`LENGTH_MAX`].
    pub fn new(family: u32, rest: &[u8]) -> Address {
        let mut address = Address { bytes: [0; LENGTH_MAX], length: 2 };
        let family = (family as u16).to_ne_bytes();
        for (slot, byte) in address.bytes.iter_mut().zip(family.iter().chain(rest)) {
            *slot = *byte;
        }
        address.length = LENGTH_MAX.min(2 + rest.len());
        address
    }

    /// No address at all (length 0), as recvmsg(2) reports a sender without a name.
    pub fn none() -> Address {
        Address { bytes: [0; LENGTH_MAX], length: 0 }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

/// `sa_family` of an address: `EINVAL` if it is too short to have one.
pub fn family(address: &[u8]) -> Result<u32> {
    match address {
        [first, second, ..] => Ok(u32::from(u16::from_ne_bytes([*first, *second]))),
        _ => Err(Errno::EINVAL),
    }
}

/// Whether connect(2) is to dissolve an association (`AF_UNSPEC`).
pub fn is_unspecified(address: &[u8]) -> bool {
    family(address) == Ok(net::AF_UNSPEC)
}
