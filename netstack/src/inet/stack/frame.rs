//! What a frame is about, and whether its checksum holds: pure logic. Packets are as hostile as programs.

use core::net::{IpAddr, SocketAddr};
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket,
};

/// Bytes of the header that the host puts before every frame (`struct virtio_net_hdr`, virtio 1.1, section 5.1.6).
pub const HOST_HEADER: usize = 10;
/// Bytes of the link layer's header.
pub const ETHERNET: usize = 14;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`, `VIRTIO_NET_HDR_F_DATA_VALID`: the sender has left the sum to the hardware and there was none on
/// the way; the hardware has looked.
const NEEDS_SUM: u8 = 1;
const SUM_IS_VALID: u8 = 2;

/// A segment of TCP, as far as it matters whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub syn: bool,
    pub ack: bool,
    pub reset: bool,
}

/// A datagram of UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: &'a [u8],
    pub hops: u8,
    pub class: u8,
}

/// A packet of ICMP, without a look into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control<'a> {
    pub from: IpAddr,
    pub to: IpAddr,
    pub bytes: &'a [u8],
    pub hops: u8,
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    Tcp(Segment),
    Udp(Datagram<'a>),
    Icmp(Control<'a>),
    /// A part of an IPv4 packet.
    Fragment,
    /// Neighbours (ARP), groups, and protocols that nobody here speaks: for the interface.
    Other,
    /// Broken, or for somebody else.
    Nothing,
}

/// Whether the host vouches for the sum of a frame with this header of its own.
pub fn is_vouched(header: &[u8]) -> bool {
    header.first().is_some_and(|flags| flags & (NEEDS_SUM | SUM_IS_VALID) != 0)
}

/// What a frame carries, which is for the hardware address `own` or a group. The sums of TCP and UDP are looked at unless the host
/// has vouched for them; those of IPv4 and ICMP are the interface's to check.
pub fn content(frame: &[u8], own: [u8; 6], vouched: bool) -> Content<'_> {
    let Ok(frame) = EthernetFrame::new_checked(frame) else { return Content::Nothing };
    let to = frame.dst_addr();
    if to.0 != own && !to.is_multicast() && !to.is_broadcast() {
        return Content::Nothing;
    }
    match frame.ethertype() {
        EthernetProtocol::Arp => Content::Other,
        EthernetProtocol::Ipv4 => v4(frame.payload(), vouched),
        EthernetProtocol::Ipv6 => v6(frame.payload(), vouched),
        EthernetProtocol::Unknown(_) => Content::Nothing,
    }
}

fn v4(packet: &[u8], vouched: bool) -> Content<'_> {
    let Ok(packet) = Ipv4Packet::new_checked(packet) else { return Content::Nothing };
    if !packet.verify_checksum() {
        return Content::Nothing;
    }
    if packet.more_frags() || packet.frag_offset() != 0 {
        return Content::Fragment;
    }
    let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
    let class = packet.dscp() << 2 | packet.ecn();
    carried(packet.next_header(), from, to, packet.payload(), packet.hop_limit(), class, vouched)
}

fn v6(packet: &[u8], vouched: bool) -> Content<'_> {
    let Ok(packet) = Ipv6Packet::new_checked(packet) else { return Content::Nothing };
    let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
    let next = match packet.next_header() {
        // Queries for groups come with options for routers on the way (RFC 3810, section 5).
        IpProtocol::HopByHop if packet.payload().first() == Some(&u8::from(IpProtocol::Icmpv6)) => {
            return Content::Other;
        }
        IpProtocol::HopByHop => return Content::Nothing,
        next => next,
    };
    let class = packet.traffic_class();
    carried(next, from, to, packet.payload(), packet.hop_limit(), class, vouched)
}

fn carried<'a>(
    protocol: IpProtocol,
    from: IpAddress,
    to: IpAddress,
    bytes: &'a [u8],
    hops: u8,
    class: u8,
    vouched: bool,
) -> Content<'a> {
    match protocol {
        IpProtocol::Tcp => {
            let Ok(segment) = TcpPacket::new_checked(bytes) else { return Content::Nothing };
            if !vouched && !segment.verify_checksum(&from, &to) {
                return Content::Nothing;
            }
            Content::Tcp(Segment {
                from: SocketAddr::new(from.into(), segment.src_port()),
                to: SocketAddr::new(to.into(), segment.dst_port()),
                syn: segment.syn(),
                ack: segment.ack(),
                reset: segment.rst(),
            })
        }
        IpProtocol::Udp => {
            let Ok(datagram) = UdpPacket::new_checked(bytes) else { return Content::Nothing };
            // RFC 768: no sum at all; RFC 8200, section 8.1: not over IPv6.
            let no_sum = datagram.checksum() == 0;
            if no_sum && matches!(to, IpAddress::Ipv6(_))
                || !no_sum && !vouched && !datagram.verify_checksum(&from, &to)
            {
                return Content::Nothing;
            }
            Content::Udp(Datagram {
                from: SocketAddr::new(from.into(), datagram.src_port()),
                to: SocketAddr::new(to.into(), datagram.dst_port()),
                bytes: datagram.payload(),
                hops,
                class,
            })
        }
        IpProtocol::Icmp | IpProtocol::Icmpv6 => {
            Content::Icmp(Control { from: from.into(), to: to.into(), bytes, hops })
        }
        _ => Content::Other,
    }
}

/// The neighbour whose hardware address a frame tells of: who speaks in ARP (RFC 826), who asks or is told of in neighbour discovery
/// (RFC 4861, sections 4.3 and 4.4).
pub fn neighbour(frame: &[u8]) -> Option<IpAddr> {
    const SENDER: usize = ETHERNET + 14;
    const SOURCE_V6: usize = ETHERNET + 8;
    const MESSAGE_V6: usize = ETHERNET + 40;
    const SOLICITS: u8 = 135;
    const ADVERTISES: u8 = 136;
    let v6 = |at: usize| frame.get(at..)?.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes));
    match frame.get(12..14)? {
        [8, 6] => frame.get(SENDER..)?.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        [0x86, 0xdd] if frame.get(ETHERNET + 6) == Some(&u8::from(IpProtocol::Icmpv6)) => {
            match *frame.get(MESSAGE_V6)? {
                SOLICITS => v6(SOURCE_V6),
                ADVERTISES => v6(MESSAGE_V6 + 8),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Completes the header that goes to the host with a frame: a segment of TCP has its sum, and its cutting into segments of `size`
/// bytes if there is one, done by the host. Whether it is one.
pub fn prepare(header: &mut [u8; HOST_HEADER], frame: &mut [u8], size: Option<u16>) -> bool {
    *header = [0; HOST_HEADER];
    prepare_segment(header, frame, size).is_some()
}

fn prepare_segment(header: &mut [u8; HOST_HEADER], frame: &mut [u8], size: Option<u16>) -> Option<()> {
    let (network, v4) = tcp_within(frame)?;
    let start = ETHERNET + network;
    let segment = frame.get(start..)?;
    let (length, head) = (segment.len(), usize::from(segment.get(12)? >> 4) * 4);
    let sum = pseudo_sum(frame, v4, length)?;
    let place = frame.get_mut(start + SUM_OFFSET..start + SUM_OFFSET + 2)?;
    place.copy_from_slice(&sum.to_be_bytes());
    // `VIRTIO_NET_HDR_GSO_TCPV4`, `VIRTIO_NET_HDR_GSO_TCPV6`.
    let kind = match (size, v4) {
        (None, _) => 0,
        (Some(_), true) => 1,
        (Some(_), false) => 4,
    };
    let [head_low, head_high] = ((start + head) as u16).to_ne_bytes();
    let [size_low, size_high] = size.unwrap_or(0).to_ne_bytes();
    let [start_low, start_high] = (start as u16).to_ne_bytes();
    let [offset_low, offset_high] = (SUM_OFFSET as u16).to_ne_bytes();
    *header = [
        NEEDS_SUM,
        kind,
        head_low,
        head_high,
        size_low,
        size_high,
        start_low,
        start_high,
        offset_low,
        offset_high,
    ];
    Some(())
}

/// Where the sum is in a segment.
const SUM_OFFSET: usize = 16;

/// Length of the network layer's header and whether it is IPv4's, if a segment of TCP is behind it.
fn tcp_within(frame: &[u8]) -> Option<(usize, bool)> {
    const V6_HEADER: usize = 40;
    let tcp = u8::from(IpProtocol::Tcp);
    match (frame.get(12..14)?, frame.get(ETHERNET)?) {
        ([8, 0], first) => (*frame.get(ETHERNET + 9)? == tcp).then_some((usize::from(first & 0xf) * 4, true)),
        ([0x86, 0xdd], _) => (*frame.get(ETHERNET + 6)? == tcp).then_some((V6_HEADER, false)),
        _ => None,
    }
}

/// The sum of the pseudo-header (RFC 9293, section 3.1), which is what the hardware goes on from.
fn pseudo_sum(frame: &[u8], v4: bool, length: usize) -> Option<u16> {
    let addresses = if v4 { frame.get(26..34)? } else { frame.get(22..54)? };
    let words = addresses.chunks_exact(2).map(|pair| match pair {
        [high, low] => u64::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    });
    let length = length as u64;
    let sum = words.sum::<u64>() + u64::from(u8::from(IpProtocol::Tcp)) + (length & 0xffff) + (length >> 16);
    let folded = (sum & 0xffff) + (sum >> 16);
    Some(((folded & 0xffff) + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{IpRepr, TcpControl, TcpRepr, TcpSeqNumber, UdpRepr};

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn frame(
        protocol: IpProtocol,
        v6: bool,
        length: usize,
        fill: impl FnOnce(&IpRepr, &mut [u8]),
    ) -> Vec<u8> {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let (from, to) = if v6 { ("fd00::1", "fd00::2") } else { ("10.0.0.1", "10.0.0.2") };
        let head = IpRepr::new(ip(from).into(), ip(to).into(), protocol, length, 64);
        let mut bytes = alloc::vec![0; ETHERNET + head.header_len() + length];
        bytes[..6].copy_from_slice(&OWN);
        bytes[12..14].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[8, 0] });
        head.emit(&mut bytes[ETHERNET..], &ChecksumCapabilities::default());
        fill(&head, &mut bytes[ETHERNET + head.header_len()..]);
        bytes
    }

    fn segment(v6: bool, payload: &[u8]) -> Vec<u8> {
        let repr = TcpRepr {
            src_port: 1000,
            dst_port: 80,
            control: TcpControl::Syn,
            seq_number: TcpSeqNumber(1),
            ack_number: None,
            window_len: 100,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        frame(IpProtocol::Tcp, v6, repr.buffer_len(), |head, bytes| {
            let mut packet = TcpPacket::new_unchecked(bytes);
            repr.emit(&mut packet, &head.src_addr(), &head.dst_addr(), &ChecksumCapabilities::default());
        })
    }

    #[test]
    fn a_sum_that_does_not_hold_is_noticed_unless_the_host_vouches_for_it() {
        for v6 in [false, true] {
            let mut frame = segment(v6, b"some bytes");
            let Content::Tcp(found) = content(&frame, OWN, false) else { panic!("no segment") };
            assert!(found.syn && !found.ack && !found.reset);
            assert_eq!((found.from.port(), found.to.port()), (1000, 80));
            *frame.last_mut().expect("bytes") ^= 1;
            assert_eq!(content(&frame, OWN, false), Content::Nothing);
            assert_eq!(content(&frame, OWN, true), Content::Tcp(found));
        }
    }

    #[test]
    fn a_frame_for_another_station_is_nothing_to_us() {
        assert_eq!(content(&segment(false, b""), [2, 0, 0, 0, 0, 9], false), Content::Nothing);
    }

    #[test]
    fn a_datagram_without_a_sum_is_taken_over_ipv4_alone() {
        for v6 in [false, true] {
            let frame = frame(IpProtocol::Udp, v6, 8 + 2, |head, bytes| {
                let mut packet = UdpPacket::new_unchecked(bytes);
                let repr = UdpRepr { src_port: 5, dst_port: 6 };
                let none = ChecksumCapabilities::ignored();
                repr.emit(
                    &mut packet,
                    &head.src_addr(),
                    &head.dst_addr(),
                    2,
                    |to| to.copy_from_slice(b"hi"),
                    &none,
                );
                packet.set_checksum(0);
            });
            match content(&frame, OWN, false) {
                Content::Udp(datagram) => assert_eq!((datagram.bytes, v6), (&b"hi"[..], false)),
                other => assert!(v6 && other == Content::Nothing),
            }
        }
    }

    #[test]
    fn what_the_host_is_to_sum_up_starts_with_the_pseudo_headers_sum() {
        for v6 in [false, true] {
            let whole = segment(v6, b"odd");
            let mut frame = whole.clone();
            let mut header = [0xff; HOST_HEADER];
            prepare(&mut header, &mut frame, None);
            let start = usize::from(u16::from_ne_bytes([header[6], header[7]]));
            assert_eq!((header[0], header[1], start), (1, 0, ETHERNET + if v6 { 40 } else { 20 }));
            // What the host does (skb_checksum_help): the sum over the segment with the start value in its place.
            let sum = frame[start..].chunks(2).fold(0u32, |sum, pair| {
                sum + u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
            });
            let folded = (sum & 0xffff) + (sum >> 16);
            let folded = !(((folded & 0xffff) + (folded >> 16)) as u16);
            assert_eq!(folded.to_be_bytes(), whole[start + 16..start + 18]);
            prepare(&mut header, &mut frame, Some(1448));
            assert_eq!(
                (header[1], u16::from_ne_bytes([header[4], header[5]])),
                (if v6 { 4 } else { 1 }, 1448)
            );
        }
    }

    proptest! {
        #[test]
        fn no_frame_is_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..120), v6 in any::<bool>(), at in 0..120usize) {
            let mut frame = segment(v6, b"some bytes that are here");
            for (slot, byte) in frame.iter_mut().skip(at).zip(&bytes) {
                *slot = *byte;
            }
            content(&frame, OWN, true);
            content(&bytes, OWN, true);
            let mut header = [0; HOST_HEADER];
            prepare(&mut header, &mut frame, Some(1));
            neighbour(&frame);
            neighbour(&bytes);
        }
    }
}
