//! The packet socket as the device of the interface: a frame at a time.

use super::frame::{self, ETHERNET, HOST_HEADER};
use super::gather::Gathered;
use alloc::vec;
use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroUsize};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{IPV4_HEADER_LEN, TCP_HEADER_LEN};
use trap_handler::host;

/// Longest packet (the length field of IPv4).
const PACKET_MAX: usize = 65535;
/// Room for a frame with the host's header, and for a tag of a virtual LAN.
pub const FRAME_ROOM: usize = (HOST_HEADER + ETHERNET + 4 + PACKET_MAX).next_multiple_of(64);

/// Longest frame with a segment of TCP that the host may leave to the interface to cut: as many full segments as there is room for in what
/// the host takes for one (`GSO_LEGACY_MAX_SIZE`; what is longer it cuts itself, each piece of which then goes all the way alone).
fn longest_to_cut(mtu: usize) -> usize {
    const HEADERS: usize = IPV4_HEADER_LEN + TCP_HEADER_LEN;
    let segment = mtu.saturating_sub(HEADERS).max(1);
    let room = PACKET_MAX - ETHERNET - HEADERS;
    ETHERNET + HEADERS + (room / segment).max(1) * segment
}

/// The way to the interface.
pub struct Link {
    fd: i32,
    mtu: usize,
    out: Vec<u8>,
    /// A frame that may have to go into another.
    single: Vec<u8>,
    /// Frames are gathered in `out`, and the one that is there.
    gathers: bool,
    gathered: Option<Gathered>,
    /// Segments of TCP that were sent.
    pub segments: u64,
    /// What has come and gone.
    pub traffic: Traffic,
}

/// Bytes and frames, as `/proc/net/dev` counts them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// That have come in.
    pub received: (u64, u64),
    /// That have gone out.
    pub sent: (u64, u64),
}

impl Traffic {
    fn add(count: &mut (u64, u64), bytes: usize) {
        *count = (count.0.wrapping_add(bytes as u64), count.1.wrapping_add(1));
    }

    /// A frame has come in.
    pub fn came(&mut self, bytes: usize) {
        Traffic::add(&mut self.received, bytes);
    }
}

impl Link {
    /// Over the packet socket `fd`.
    pub fn new(fd: i32, mtu: usize) -> Link {
        Link {
            fd,
            mtu,
            out: vec![0; FRAME_ROOM],
            single: vec![0; mtu + ETHERNET],
            gathers: false,
            gathered: None,
            segments: 0,
            traffic: Traffic::default(),
        }
    }

    /// Longest packet.
    pub fn mtu(&self) -> usize {
        self.mtu
    }

    /// Receives frames that wait, as [`host::receive_frames`].
    pub fn receive(&self, frames: &mut [u8], lengths: &mut [usize; host::FRAMES_AT_ONCE]) -> usize {
        // What cannot be received now will be told of again by the host's poll.
        host::receive_frames(self.fd, frames, FRAME_ROOM, lengths).unwrap_or(0)
    }

    /// What is sent from now on may wait for more of its kind, until [`Link::send_gathered`].
    pub fn gather(&mut self) {
        self.gathers = true;
    }

    /// Sends what has waited, and from now on all at once.
    pub fn send_gathered(&mut self) {
        self.gathers = false;
        self.flush();
    }

    fn flush(&mut self) {
        if let Some(gathered) = self.gathered.take() {
            let size = gathered.several.then_some(gathered.size);
            self.send(gathered.length, size);
        }
    }

    /// Sends the frame of this length in `out`; whether it is a segment of TCP.
    fn send(&mut self, length: usize, size: Option<u16>) -> bool {
        let Some(out) = self.out.get_mut(..HOST_HEADER + length) else { return false };
        let Some((header, frame)) = out.split_first_chunk_mut::<HOST_HEADER>() else { return false };
        let is_segment = frame::prepare(header, frame, size);
        // A frame that finds no room is lost, as frames are.
        if host::send_frame(self.fd, out).is_ok() {
            Traffic::add(&mut self.traffic.sent, length);
        }
        is_segment
    }

    /// Makes a frame that may wait for more of its kind.
    fn put<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let Link { out, single, gathered, .. } = self;
        let frame = single.get_mut(..length).unwrap_or(&mut []);
        let result = fill(frame);
        let room = out.get_mut(HOST_HEADER..).unwrap_or(&mut []);
        if let Some(whole) = gathered
            && let Some(more) = whole.join(room, frame)
        {
            self.segments += 1;
            if !more {
                self.flush();
            }
            return result;
        }
        self.flush();
        let Link { out, single, .. } = self;
        let frame = single.get(..length).unwrap_or(&[]);
        if let Some(room) = out.get_mut(HOST_HEADER..HOST_HEADER + length) {
            room.copy_from_slice(frame);
        }
        self.gathered = Gathered::begin(frame);
        if self.gathered.is_some() || self.send(length, None) {
            self.segments += 1;
        }
        result
    }

    /// The device on which this frame, if any, has just come in.
    pub fn with<'a>(&'a mut self, frame: Option<&'a [u8]>) -> Port<'a> {
        Port { link: self, frame }
    }
}

/// The device for one look of the interface at it.
pub struct Port<'a> {
    link: &'a mut Link,
    frame: Option<&'a [u8]>,
}

/// A frame that has come in.
pub struct Received<'a>(&'a [u8]);

/// A frame that is to go out.
pub struct Sending<'a> {
    link: &'a mut Link,
    size: Option<NonZeroU16>,
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

impl TxToken for Sending<'_> {
    fn set_meta(&mut self, meta: PacketMeta) {
        self.size = meta.segmentation_offload_size;
    }

    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let link = self.link;
        if link.gathers && length <= link.single.len() {
            return link.put(length, fill);
        }
        link.flush();
        let Some(frame) = link.out.get_mut(HOST_HEADER..HOST_HEADER + length) else {
            // Longer than any packet: filled in, and lost.
            return fill(&mut vec![0; length]);
        };
        let result = fill(frame);
        if link.send(length, self.size.map(NonZeroU16::get)) {
            link.segments += 1;
        }
        result
    }
}

impl Device for Port<'_> {
    type RxToken<'b>
        = Received<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Sending<'b>
    where
        Self: 'b;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let frame = self.frame.take()?;
        Some((Received(frame), Sending { link: self.link, size: None }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        Some(Sending { link: self.link, size: None })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.link.mtu + ETHERNET;
        // Looked at before a frame comes here, and the host's to fill in.
        capabilities.checksum.tcp = Checksum::None;
        capabilities.checksum.udp = Checksum::Tx;
        // smoltcp 0.14 does not let IPv6 packets be cut, as it takes them for too long: see [`super::gather`].
        capabilities.segmentation.tcpv4 = NonZeroUsize::new(longest_to_cut(self.link.mtu));
        capabilities
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_is_to_be_cut_is_of_full_segments_and_not_too_long_for_the_host() {
        assert_eq!(longest_to_cut(1500), 14 + 40 + 44 * 1460);
        for mtu in [576, 1280, 1500, 9000, 40_000] {
            assert!(longest_to_cut(mtu) < 1 << 16, "{mtu}");
        }
        // Nothing fits twice: a frame is as long as the link lets it be.
        for mtu in [40_000, 65_535] {
            assert_eq!(longest_to_cut(mtu), 14 + mtu);
        }
    }
}
