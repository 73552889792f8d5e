//! Datagrams over the interface: UDP, and the messages of ICMP. smoltcp has no part in them but to find neighbours and to put together
//! and take apart what is too long for one frame: whose a datagram is, is known here.

use super::frame::{Content, Control, Datagram, ETHERNET};
use super::instant;
use super::state::State;
use crate::inet::{ping, udp};
use crate::{Errno, Result};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use kernel::time;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::raw::{PacketBuffer, PacketMetadata, Socket};
use smoltcp::wire::{
    Icmpv4Packet, Icmpv6Packet, IpAddress, IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet, UdpPacket, UdpRepr,
};

/// Longest packet that is taken apart (smoltcp's `fragmentation-buffer-size`).
const CUT_MAX: usize = 16384;
/// Room for any packet.
const ROOM: usize = 1 << 16;
/// Packets that wait for a neighbour's answer at most.
const UNSENT_MAX: usize = 64;
/// How often a neighbour is asked for, and for how long.
const AGAIN: u64 = time::SECOND;
const PATIENCE: u64 = 3 * time::SECOND;
/// Bytes of the header of UDP, and the longest one of IP that is sent.
const UDP_HEADER: usize = 8;
const HOPS: u8 = 64;

/// A packet whose neighbour is not known yet.
struct Unsent {
    outbox: Outbox,
    from: SocketAddr,
    to: SocketAddr,
    again: u64,
    ends: u64,
}

/// A socket of whole packets, in a set of its own.
struct Outbox {
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

impl Outbox {
    fn new(incoming: usize, outgoing: usize) -> Outbox {
        let buffer = |room: usize| PacketBuffer::new(vec![PacketMetadata::EMPTY; 4], vec![0; room]);
        let mut sockets = SocketSet::new(vec![]);
        let handle = sockets.add(Socket::new(None, None, buffer(incoming), buffer(outgoing)));
        Outbox { sockets, handle }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

/// What the stack keeps for datagrams.
pub struct Datagrams {
    /// Takes packets that were put together.
    whole: Outbox,
    outbox: Option<Outbox>,
    unsent: Vec<Unsent>,
}

impl Datagrams {
    pub fn new() -> Datagrams {
        Datagrams { whole: Outbox::new(ROOM, 0), outbox: None, unsent: Vec::new() }
    }

    /// When a neighbour is to be asked for again.
    pub fn deadline(&self) -> Option<u64> {
        self.unsent.iter().map(|unsent| unsent.again.min(unsent.ends)).min()
    }
}

impl State {
    /// A datagram has come: whether it is somebody's, or nobody's to complain about.
    pub fn datagram(&mut self, datagram: &Datagram<'_>) -> bool {
        let Datagram { from, to, bytes, hops, class } = *datagram;
        let everybody = matches!(to.ip(), IpAddr::V4(ip) if ip.is_broadcast());
        let group = everybody || to.ip().is_multicast() || super::is_broadcast(to.ip());
        let ours = group || self.interface.has_ip_addr(to.ip());
        !ours || udp::arrived(from, to, bytes, hops, class) || group
    }

    /// Packets that a part of one has made whole, as frames.
    pub fn reassemble(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let now = instant(time::monotonic());
        let hardware = self.hardware();
        let whole = &mut self.datagrams.whole;
        self.interface.poll_ingress_single(now, &mut self.link.with(Some(frame)), &mut whole.sockets);
        let mut frames = Vec::new();
        let head = frame.get(..ETHERNET).unwrap_or(&[]);
        while let Ok(packet) = whole.socket().recv() {
            // Nothing that would be put together once more.
            let again = [head, packet].concat();
            if super::frame::content(&again, hardware, true) != Content::Fragment {
                frames.push(again);
            }
        }
        frames
    }

    /// Sends a datagram. `EMSGSIZE` if it is longer than what can be taken apart.
    pub fn send_datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8], hops: u8) -> Result<()> {
        let (source, target) = (IpAddress::from(from.ip()), IpAddress::from(to.ip()));
        let sums = ChecksumCapabilities::default();
        self.send_packet((from, to), IpProtocol::Udp, UDP_HEADER + bytes.len(), hops, |payload| {
            let head = UdpRepr { src_port: from.port(), dst_port: to.port() };
            let mut packet = UdpPacket::new_unchecked(payload);
            head.emit(&mut packet, &source, &target, bytes.len(), |room| room.copy_from_slice(bytes), &sums);
        })
    }

    /// Sends a message of ICMP that has all but its checksum.
    pub fn send_message(&mut self, from: IpAddr, to: IpAddr, message: &[u8]) -> Result<()> {
        let protocol = if to.is_ipv4() { IpProtocol::Icmp } else { IpProtocol::Icmpv6 };
        let places = (SocketAddr::new(from, 0), SocketAddr::new(to, 0));
        self.send_packet(places, protocol, message.len(), HOPS, |payload| {
            payload.copy_from_slice(message);
            match (from, to) {
                (IpAddr::V4(_), _) => Icmpv4Packet::new_unchecked(payload).fill_checksum(),
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    Icmpv6Packet::new_unchecked(payload).fill_checksum(&from, &to);
                }
                _ => {}
            }
        })
    }

    fn send_packet(
        &mut self,
        (from, to): (SocketAddr, SocketAddr),
        protocol: IpProtocol,
        length: usize,
        hops: u8,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<()> {
        let head = IpRepr::new(from.ip().into(), to.ip().into(), protocol, length, hops.max(1));
        let total = head.buffer_len();
        let most = if from.is_ipv4() { CUT_MAX.max(self.link.mtu()) } else { self.link.mtu() };
        if total > most {
            return Err(Errno::EMSGSIZE);
        }
        let mut outbox = self.datagrams.outbox.take().unwrap_or_else(|| Outbox::new(0, ROOM));
        let room = outbox.socket().send(total).map_err(|_| Errno::ENOBUFS)?;
        head.emit(&mut *room, &ChecksumCapabilities::default());
        fill(room.get_mut(head.header_len()..).unwrap_or(&mut []));
        self.drain(&mut outbox.sockets);
        if outbox.socket().send_queue() == 0 {
            self.datagrams.outbox = Some(outbox);
            return Ok(());
        }
        if self.datagrams.unsent.len() < UNSENT_MAX {
            let now = time::monotonic();
            let (again, ends) = (now + AGAIN, now + PATIENCE);
            self.datagrams.unsent.push(Unsent { outbox, from, to, again, ends });
        }
        Ok(())
    }

    /// Tries once more what waits for neighbours. Who is connected hears of it if there is none.
    pub fn look_at_unsent(&mut self) {
        if self.datagrams.unsent.is_empty() {
            return;
        }
        let now = time::monotonic();
        let mut left = Vec::new();
        for mut unsent in core::mem::take(&mut self.datagrams.unsent) {
            self.drain(&mut unsent.outbox.sockets);
            if unsent.outbox.socket().send_queue() == 0 {
                continue;
            }
            if now >= unsent.ends {
                udp::unreachable(unsent.from, unsent.to, Errno::EHOSTUNREACH, &[]);
                continue;
            }
            if now >= unsent.again {
                unsent.again = now + AGAIN;
            }
            left.push(unsent);
        }
        self.datagrams.unsent.append(&mut left);
    }

    /// A message of ICMP: replies to echoes, and what became of what was sent. Requests are the interface's to answer.
    pub fn control(&mut self, control: &Control<'_>) {
        if !self.interface.has_ip_addr(control.to) {
            return;
        }
        let (kind, code) = match (control.from, control.to) {
            (IpAddr::V4(_), _) => match Icmpv4Packet::new_checked(control.bytes) {
                Ok(packet) if packet.verify_checksum() => (u8::from(packet.msg_type()), packet.msg_code()),
                _ => return,
            },
            (IpAddr::V6(from), IpAddr::V6(to)) => match Icmpv6Packet::new_checked(control.bytes) {
                Ok(packet) if packet.verify_checksum(&from, &to) => {
                    (u8::from(packet.msg_type()), packet.msg_code())
                }
                _ => return,
            },
            _ => return,
        };
        ping::arrived(control.from, control.to, control.bytes, control.hops);
        if let Some(error) = unreachable_error(control.from.is_ipv4(), kind, code) {
            self.unreached(control, error);
        }
    }

    fn unreached(&mut self, control: &Control<'_>, error: Errno) {
        const MESSAGE: usize = 8;
        let Some(packet) = control.bytes.get(MESSAGE..) else { return };
        let Some((protocol, from, to, payload)) = sent_packet(packet) else { return };
        match protocol {
            IpProtocol::Tcp => self.unreachable(from, to, error),
            IpProtocol::Udp => udp::unreachable(from, to, error, payload.get(UDP_HEADER..).unwrap_or(&[])),
            _ => {}
        }
    }
}

/// The error that a message of "destination unreachable" stands for (`icmp_err_convert`, `icmpv6_err_convert`).
fn unreachable_error(v4: bool, kind: u8, code: u8) -> Option<Errno> {
    Some(match (v4, kind, code) {
        (true, 3, 0 | 6 | 9 | 11) => Errno::ENETUNREACH,
        (true, 3, 2) => Errno::ENOPROTOOPT,
        (true, 3, 3) | (false, 1, 4) => Errno::ECONNREFUSED,
        // Too long for the way: the length to try is not acted upon.
        (true, 3, 4) => return None,
        (true, 3, 1..=15) => Errno::EHOSTUNREACH,
        (false, 1, 0) => Errno::ENETUNREACH,
        (false, 1, 1) => Errno::EACCES,
        (false, 1, 2 | 3) => Errno::EHOSTUNREACH,
        _ => return None,
    })
}

/// A packet that comes back in a message, of which only the first bytes may be there: protocol, places and payload.
fn sent_packet(packet: &[u8]) -> Option<(IpProtocol, SocketAddr, SocketAddr, &[u8])> {
    const V6_HEADER: usize = 40;
    let (protocol, from, to, payload): (_, IpAddr, IpAddr, _) = match packet.first()? >> 4 {
        4 => {
            const V4_HEADER: usize = 20;
            packet.get(..V4_HEADER)?;
            let head = Ipv4Packet::new_unchecked(packet);
            let payload = packet.get(usize::from(head.header_len())..)?;
            (head.next_header(), head.src_addr().into(), head.dst_addr().into(), payload)
        }
        6 => {
            packet.get(..V6_HEADER)?;
            let head = Ipv6Packet::new_unchecked(packet);
            (head.next_header(), head.src_addr().into(), head.dst_addr().into(), packet.get(V6_HEADER..)?)
        }
        _ => return None,
    };
    let port = |at: usize| payload.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes);
    Some((protocol, SocketAddr::new(from, port(0)?), SocketAddr::new(to, port(2)?), payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_comes_back_tells_whose_it_was() {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
        packet.extend([0x12, 0x34, 0, 53, 0, 8, 0, 0]);
        let (protocol, from, to, _) = sent_packet(&packet).expect("a packet");
        assert_eq!(protocol, IpProtocol::Udp);
        assert_eq!(
            (from, to),
            ("10.0.0.2:4660".parse().expect("a place"), "10.0.0.1:53".parse().expect("a place"))
        );
        assert_eq!(unreachable_error(true, 3, 3), Some(Errno::ECONNREFUSED));
        assert_eq!(unreachable_error(true, 3, 4), None);
        assert_eq!(unreachable_error(true, 8, 0), None);
    }

    proptest! {
        #[test]
        fn no_packet_that_comes_back_is_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            sent_packet(&bytes);
        }
    }
}
