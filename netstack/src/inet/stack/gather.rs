//! Segments of one connection over IPv6, gathered into one long frame that the host cuts again: pure logic. smoltcp 0.14 makes such frames
//! for IPv4 alone; what it makes for IPv6 is put together here, segment by segment, as Linux does it with what comes in (GRO).

use super::frame::ETHERNET;

const NETWORK: usize = 40;
/// Where the payload length is in the header of IPv6, the next header, and its end.
const LENGTH: core::ops::Range<usize> = ETHERNET + 4..ETHERNET + 6;
const NEXT: usize = ETHERNET + 6;
/// Where TCP begins, and its fields from there.
const TCP: usize = ETHERNET + NETWORK;
const SEQUENCE: core::ops::Range<usize> = TCP + 4..TCP + 8;
const HEAD: usize = TCP + 12;
const FLAGS: usize = TCP + 13;
const SUM: core::ops::Range<usize> = TCP + 16..TCP + 18;
const SHORTEST: usize = TCP + 20;
const PUSH: u8 = 8;
const ACK: u8 = 0x10;
/// Longest frame that the host leaves to an interface to cut (`GSO_LEGACY_MAX_SIZE`).
const LONGEST: usize = (1 << 16) - 1;

/// A frame that others may be put behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gathered {
    /// Bytes of the frame.
    pub length: usize,
    /// Bytes of data in each of its segments, but for the last one.
    pub size: u16,
    /// Bytes of its headers.
    head: usize,
    /// The sequence number behind it.
    next: u32,
    /// There is more than one segment in it.
    pub several: bool,
}

fn field<const N: usize>(frame: &[u8], at: core::ops::Range<usize>) -> Option<[u8; N]> {
    frame.get(at)?.try_into().ok()
}

impl Gathered {
    /// A frame with a segment of data over IPv6 that another one may follow.
    pub fn begin(frame: &[u8]) -> Option<Gathered> {
        const TCP_PROTOCOL: u8 = 6;
        let is_tcp = frame.get(12..14)? == [0x86, 0xdd] && *frame.get(NEXT)? == TCP_PROTOCOL;
        // One that is pushed is the last for now; one with another flag is by itself.
        if !is_tcp || *frame.get(FLAGS)? != ACK {
            return None;
        }
        let head = TCP + usize::from(frame.get(HEAD)? >> 4) * 4;
        let data = frame.len().checked_sub(head).filter(|data| *data > 0 && head >= SHORTEST)?;
        let size = u16::try_from(data).ok()?;
        let next = u32::from_be_bytes(field(frame, SEQUENCE)?).wrapping_add(size.into());
        Some(Gathered { length: frame.len(), size, head, next, several: false })
    }

    /// Puts the data of a frame behind those in `whole`, if it is the next segment of the same connection and there is room.
    /// `None` if it is not; otherwise whether a further one may follow.
    pub fn join(&mut self, whole: &mut [u8], frame: &[u8]) -> Option<bool> {
        let data = frame.get(self.head..)?;
        let length = self.length + data.len();
        if data.is_empty() || data.len() > self.size.into() || length > LONGEST || !self.follows(whole, frame)
        {
            return None;
        }
        whole.get_mut(self.length..length)?.copy_from_slice(data);
        let pushed = *frame.get(FLAGS)?;
        *whole.get_mut(FLAGS)? = pushed;
        let payload = u16::try_from(length - TCP).ok()?;
        whole.get_mut(LENGTH)?.copy_from_slice(&payload.to_be_bytes());
        self.length = length;
        self.next = self.next.wrapping_add(data.len() as u32);
        self.several = true;
        let room = length + usize::from(self.size) <= LONGEST;
        Some(room && pushed & PUSH == 0 && data.len() == self.size.into())
    }

    /// Whether the headers differ in nothing but what follows from the place in the stream.
    fn follows(&self, whole: &[u8], frame: &[u8]) -> bool {
        let own = |range: core::ops::Range<usize>| (whole.get(range.clone()), frame.get(range));
        let same = |range| {
            let (one, other) = own(range);
            one.is_some() && one == other
        };
        let flags = frame.get(FLAGS).is_some_and(|flags| flags & !PUSH == ACK);
        let begins = field(frame, SEQUENCE).is_some_and(|bytes| u32::from_be_bytes(bytes) == self.next);
        flags
            && begins
            && same(0..LENGTH.start)
            && same(LENGTH.end..SEQUENCE.start)
            && same(SEQUENCE.end..FLAGS)
            && same(FLAGS + 1..SUM.start)
            && same(SUM.end..self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    /// A segment at `sequence` with so many bytes of data.
    fn segment(sequence: u32, data: usize, flags: u8) -> Vec<u8> {
        let mut frame = vec![0; SHORTEST];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[ETHERNET] = 0x60;
        frame[LENGTH].copy_from_slice(&(20 + data as u16).to_be_bytes());
        frame[NEXT] = 6;
        frame[SEQUENCE].copy_from_slice(&sequence.to_be_bytes());
        frame[HEAD] = 5 << 4;
        frame[FLAGS] = flags;
        frame.extend((0..data).map(|at| (sequence as usize + at) as u8));
        frame
    }

    fn begun(frame: &[u8]) -> (Gathered, Vec<u8>) {
        let mut whole = frame.to_vec();
        whole.resize(70_000, 0);
        (Gathered::begin(frame).expect("a segment"), whole)
    }

    #[test]
    fn segments_of_a_stream_become_one_frame() {
        let (mut gathered, mut whole) = begun(&segment(u32::MAX - 999, 1000, ACK));
        assert_eq!(gathered.join(&mut whole, &segment(0, 1000, ACK)), Some(true));
        // One that is shorter, or pushed, is the last.
        assert_eq!(gathered.join(&mut whole, &segment(1000, 400, ACK | PUSH)), Some(false));
        let mut expected = segment(u32::MAX - 999, 2400, ACK | PUSH);
        for (at, byte) in expected.iter_mut().skip(SHORTEST).enumerate() {
            *byte = (u32::MAX - 999).wrapping_add(at as u32) as u8;
        }
        assert_eq!(whole[..gathered.length], expected);
        assert_eq!((gathered.size, gathered.several), (1000, true));
    }

    #[test]
    fn what_does_not_follow_stays_by_itself() {
        let (first, next) = (segment(5000, 1000, ACK), segment(6000, 1000, ACK));
        let differing = [
            segment(6001, 1000, ACK),
            segment(5000, 1000, ACK),
            segment(6000, 1001, ACK),
            segment(6000, 0, ACK),
            segment(6000, 1000, ACK | 1),
            segment(6000, 1000, 0),
        ];
        for other in differing {
            let (mut gathered, mut whole) = begun(&first);
            assert_eq!(gathered.join(&mut whole, &other), None);
        }
        // Any byte of the headers that is not about the place in the stream or the sum.
        for at in (0..SHORTEST).filter(|at| !LENGTH.contains(at) && !SUM.contains(at)) {
            let (mut gathered, mut whole) = begun(&first);
            let mut other = next.clone();
            other[at] ^= 0x40;
            assert_eq!(gathered.join(&mut whole, &other), None, "{at}");
        }
    }

    #[test]
    fn nothing_begins_a_frame_but_data_that_others_may_follow() {
        assert!(Gathered::begin(&segment(1, 10, ACK)).is_some());
        for flags in [0, ACK | PUSH, ACK | 1, ACK | 2, ACK | 4, ACK | 0x20] {
            assert_eq!(Gathered::begin(&segment(1, 10, flags)), None);
        }
        assert_eq!(Gathered::begin(&segment(1, 0, ACK)), None);
        let whole = segment(1, 10, ACK);
        for (at, value) in [(12, 8), (NEXT, 17), (HEAD, 4 << 4), (HEAD, 15 << 4)] {
            let mut other = whole.clone();
            other[at] = value;
            assert_eq!(Gathered::begin(&other), None);
        }
        for length in 0..SHORTEST {
            assert_eq!(Gathered::begin(&whole[..length]), None);
        }
    }

    #[test]
    fn a_frame_is_never_too_long_for_the_host() {
        for size in [8, 500, 1220, 1440, 8940, 30_000] {
            let (mut gathered, mut whole) = begun(&segment(0, size, ACK));
            let mut sequence = size as u32;
            while gathered.join(&mut whole, &segment(sequence, size, ACK)) == Some(true) {
                sequence += size as u32;
            }
            assert!(gathered.length <= LONGEST && gathered.length + size > LONGEST, "{size}");
        }
    }
}
