//! Raw sockets (raw(7)) of ICMP, for those who have the capability: any message is sent as it is, and every one that comes to the sandbox
//! is seen, with its header if it is one of IPv4. Headers of the program's own (`IP_HDRINCL`) are refused.

use super::{
    ECHO, ECHO_V6, HOPS, ICMP, ICMP_V6, Ping, arrived as tell_all, checksum, endpoint, sockets, stack,
};
use crate::options::{OptionValue, number};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::cred::cap;
use kernel::task;
use linux_raw_sys::net;

/// Options of the levels `SOL_RAW` and `SOL_ICMPV6` (`linux/icmp.h`, `linux/icmpv6.h`, `linux/in6.h`).
const ICMP_FILTER: u32 = 1;
const ICMPV6_FILTER: u32 = 1;
const IPV6_CHECKSUM: u32 = 7;
/// Words of the longer filter.
const WORDS: usize = 8;
/// Header of IPv4 without options; where in it the sum is. "Don't fragment" (RFC 791, section 3.1).
const HEADER_V4: usize = 20;
const SUM: core::ops::Range<usize> = 10..12;
const DONT_FRAGMENT: u16 = 0x4000;
/// `ICMPV6_HDRLEN`: type, code and sum.
const SHORTEST_V6: usize = 4;
/// Where the sum of a message is.
const MESSAGE_SUM: core::ops::Range<usize> = 2..4;

/// A bit for each type that is not wanted; one of IPv4 has the first word alone.
pub(super) type Filter = [AtomicU32; WORDS];

/// Whether there is such an option.
pub(super) fn has(family: u32, level: u32, name: u32) -> bool {
    match family {
        net::AF_INET => (level, name) == (net::SOL_RAW, ICMP_FILTER),
        _ => (level, name) == (net::SOL_ICMPV6, ICMPV6_FILTER),
    }
}

/// Shows a message to the raw sockets that want it.
pub(super) fn arrived(from: IpAddr, to: IpAddr, message: &[u8], hops: u8) {
    for socket in sockets().into_iter().filter(|socket| socket.is_raw()) {
        if socket.wants(from, to, message) {
            let shown = match (from, to) {
                (IpAddr::V4(from), IpAddr::V4(to)) => with_header(from.octets(), to.octets(), message, hops),
                _ => message.to_vec(),
            };
            socket.take((shown, from, hops.into()));
        }
    }
}

/// A message of IPv4 behind its header.
fn with_header(from: [u8; 4], to: [u8; 4], message: &[u8], hops: u8) -> Vec<u8> {
    let length = u16::try_from(HEADER_V4 + message.len()).unwrap_or(u16::MAX).to_be_bytes();
    let flags = if message.first() == Some(&ECHO.0) { DONT_FRAGMENT } else { 0 }.to_be_bytes();
    // Version 4, five words; no identification, as nothing was taken apart.
    let mut packet =
        Vec::from([0x45, 0, length[0], length[1], 0, 0, flags[0], flags[1], hops, ICMP as u8, 0, 0]);
    packet.extend_from_slice(&from);
    packet.extend_from_slice(&to);
    let sum = checksum(&packet).to_be_bytes();
    if let Some(place) = packet.get_mut(SUM) {
        place.copy_from_slice(&sum);
    }
    packet.extend_from_slice(message);
    packet
}

/// The sum of a message of IPv6 goes over its addresses, too (RFC 8200, section 8.1).
fn fill_sum_v6(from: IpAddr, to: IpAddr, message: &mut [u8]) {
    let (IpAddr::V6(from), IpAddr::V6(to)) = (from, to) else { return };
    let Some(place) = message.get_mut(MESSAGE_SUM) else { return };
    place.fill(0);
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let summed =
        [&from.octets()[..], &to.octets(), &length.to_be_bytes(), &ICMP_V6.to_be_bytes(), message].concat();
    let sum = checksum(&summed).to_be_bytes();
    if let Some(place) = message.get_mut(MESSAGE_SUM) {
        place.copy_from_slice(&sum);
    }
}

impl Ping {
    /// A raw socket: `EPERM` without the capability.
    pub fn raw(family: u32, protocol: u32) -> Result<Arc<Ping>> {
        if !task::current().cred().has(cap::NET_RAW) {
            return Err(Errno::EPERM);
        }
        let socket = Ping::of_kind(family, net::SOCK_RAW, protocol);
        socket.list();
        Ok(socket)
    }

    fn wants(&self, from: IpAddr, to: IpAddr, message: &[u8]) -> bool {
        let kind = message.first().copied().unwrap_or(0);
        // Types above 31 cannot be left out (`icmp_filter`).
        let word = self.filter.get(usize::from(kind / 32)).filter(|_| !from.is_ipv4() || kind < 32);
        let filtered = word.is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (kind % 32)) != 0);
        // What is shorter has no type that the host would look at.
        let least = if from.is_ipv4() { super::HEADER } else { SHORTEST_V6 };
        let link = self.link.lock();
        !filtered
            && message.len() >= least
            && link.local.is_none_or(|local| local.ip() == to || local.ip().is_unspecified())
            && link.peer.is_none_or(|peer| peer.ip() == from)
            && from.is_ipv4() == (self.common.family == net::AF_INET)
    }

    /// Sends a message as it is. What comes to one of the sandbox's own addresses is seen there, and answered if it is a request whose
    /// sum holds.
    pub(super) fn send_raw(&self, to: IpAddr, mut message: Vec<u8>) -> Result<()> {
        let from = self.source(to);
        fill_sum_v6(from, to, &mut message);
        if !endpoint::is_here(to) {
            return stack::send_message(from, to, &message);
        }
        tell_all(from, to, &message, HOPS as u8);
        let (asks, _) = if to.is_ipv4() { ECHO } else { ECHO_V6 };
        let sound = to.is_ipv6() || checksum(&message) == 0;
        if message.len() >= super::HEADER && message.first() == Some(&asks) && sound {
            let mut reply = self.reply_to(message);
            fill_sum_v6(to, from, &mut reply);
            tell_all(to, from, &reply, HOPS as u8);
        }
        Ok(())
    }

    /// getsockopt(2): the filter.
    pub(super) fn filter(&self) -> OptionValue {
        let words = if self.common.family == net::AF_INET { 1 } else { WORDS };
        let words =
            self.filter.iter().take(words).flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
        OptionValue::Bytes(words.collect())
    }

    /// setsockopt(2) of the levels that raw sockets alone have: `EINVAL`, `ENOPROTOOPT`.
    pub(super) fn set_raw_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        if has(self.common.family, level, name) {
            let words = if self.common.family == net::AF_INET { 1 } else { WORDS };
            for (word, bytes) in self.filter.iter().take(words).zip(value.chunks_exact(4)) {
                word.store(number(bytes)?, Ordering::Relaxed);
            }
            return Ok(());
        }
        match (self.common.family, level, name) {
            // The sum is always filled in, where this says that it is.
            (net::AF_INET6, net::SOL_RAW, IPV6_CHECKSUM) => Ok(()),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_behind_a_header_whose_sum_holds() {
        let packet = with_header([127, 0, 0, 1], [127, 0, 0, 2], &[8, 0, 0, 0], 64);
        assert_eq!((packet.len(), packet[3], packet[8]), (24, 24, 64));
        assert_eq!(checksum(&packet[..20]), 0);
        assert_eq!(
            (&packet[12..16], &packet[16..20], &packet[20..]),
            (&[127, 0, 0, 1][..], &[127, 0, 0, 2][..], &[8, 0, 0, 0][..])
        );
    }

    #[test]
    fn the_sum_of_ipv6_goes_over_the_addresses() {
        // From RFC 4443's form, with the sum that Linux gives for it between ::1 and ::1.
        let ip: IpAddr = "::1".parse().expect("an address");
        let mut message = [128, 0, 9, 9, 1, 2, 0, 7];
        fill_sum_v6(ip, ip, &mut message);
        let pseudo = [&[0; 15][..], &[1], &[0; 15], &[1, 0, 0, 0, 8, 0, 0, 0, 58]].concat();
        assert_eq!(checksum(&[&pseudo[..], &message].concat()), 0);
    }
}
