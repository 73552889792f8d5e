//! The bytes of a pipe: a ring that grows as it is needed, and the bounds of packets.

use super::PIPE_BUF;
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use kernel::uaccess::{Sink, Source};

/// A stretch of bytes: one packet (`O_DIRECT`), or what was written as a stream between packets.
#[derive(Debug, Clone, Copy)]
struct Record {
    length: usize,
    packet: bool,
}

/// Bytes in flight. The buffer's size is zero or a power of two.
#[derive(Default)]
pub struct Ring {
    bytes: Box<[u8]>,
    head: usize,
    length: usize,
    /// Empty as long as no packet is in the ring; else all bytes in order.
    records: VecDeque<Record>,
}

/// The size of a buffer for so many bytes.
fn buffer_size(bytes: usize) -> usize {
    bytes.max(PIPE_BUF).checked_next_power_of_two().unwrap_or(bytes)
}

impl Ring {
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no byte is in it.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Copies bytes from behind the first `skip` without taking them, `most` at most.
    pub fn peek(&self, skip: usize, most: usize, sink: &mut Sink<'_>) -> Result<usize> {
        let (first, second) = self.slices(skip.saturating_add(most));
        let parts = [
            first.get(skip.min(first.len())..),
            second.get(skip.saturating_sub(first.len()).min(second.len())..),
        ];
        let mut total = 0;
        for part in parts.into_iter().flatten().filter(|part| !part.is_empty()) {
            match sink.put(part) {
                Ok(put) => {
                    total += put;
                    if put < part.len() {
                        break;
                    }
                }
                Err(errno) if total == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(total)
    }

    /// How many bytes a pipe of `capacity` takes. Each packet counts for a page at least, as on Linux.
    pub fn room(&self, capacity: usize) -> usize {
        if self.records.len() >= capacity / PIPE_BUF { 0 } else { capacity.saturating_sub(self.length) }
    }

    /// Makes the buffer `size` bytes long, a power of two not below what is in it: `ENOMEM`.
    fn resize(&mut self, size: usize) -> Result<()> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
        let (first, second) = self.slices(self.length);
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        bytes.resize(size, 0);
        self.bytes = bytes.into_boxed_slice();
        self.head = 0;
        Ok(())
    }

    /// Makes place for `more` bytes and two more records: `ENOMEM`.
    fn reserve(&mut self, more: usize) -> Result<()> {
        self.records.try_reserve(2).map_err(|_| Errno::ENOMEM)?;
        let wanted = self.length.checked_add(more).ok_or(Errno::ENOMEM)?;
        if wanted > self.bytes.len() { self.resize(buffer_size(wanted)) } else { Ok(()) }
    }

    /// Gives back what a pipe of `capacity` cannot use: `ENOMEM`.
    pub fn shrink(&mut self, capacity: usize) -> Result<()> {
        let size = buffer_size(capacity.max(self.length));
        if self.bytes.len() > size { self.resize(size) } else { Ok(()) }
    }

    /// The first `most` bytes as one or two slices.
    pub fn slices(&self, most: usize) -> (&[u8], &[u8]) {
        let most = most.min(self.length);
        let size = self.bytes.len();
        let first = most.min(size - self.head.min(size));
        let part = self.bytes.get(self.head..self.head + first).unwrap_or(&[]);
        (part, self.bytes.get(..most - first).unwrap_or(&[]))
    }

    /// The contiguous free part behind the bytes, `most` at most.
    fn free(&mut self, most: usize) -> &mut [u8] {
        let size = self.bytes.len();
        let end = self.head + self.length;
        let (from, to) = if end < size { (end, size) } else { (end - size, self.head) };
        let to = to.min(from.saturating_add(most));
        if self.length == size { &mut [] } else { self.bytes.get_mut(from..to).unwrap_or(&mut []) }
    }

    /// The length of what one read takes first, and whether that is a packet.
    pub fn next_record(&self) -> (usize, bool) {
        self.records.front().map_or((self.length, false), |record| (record.length, record.packet))
    }

    /// Takes bytes out at the front.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.length);
        self.length -= count;
        // An empty ring starts over: the first page of its buffer is the one that is warm.
        self.head = if self.length == 0 { 0 } else { (self.head + count) & (self.bytes.len() - 1) };
        let mut left = count;
        while left > 0
            && let Some(record) = self.records.front_mut()
        {
            let part = left.min(record.length);
            record.length -= part;
            left -= part;
            if record.length == 0 {
                self.records.pop_front();
            }
        }
        if self.records.iter().all(|record| !record.packet) {
            self.records.clear();
        }
    }

    /// Reads as far as there are bytes, or one packet, the end of which is lost if it does not fit.
    pub fn read(&mut self, sink: &mut Sink<'_>) -> Result<usize> {
        let mut total = 0;
        loop {
            let (available, packet) = self.next_record();
            let wanted = available.min(sink.left());
            if wanted == 0 {
                return Ok(total);
            }
            let mut left = wanted;
            while left > 0 {
                let (part, _) = self.slices(left);
                let put = match sink.put(part) {
                    Ok(put) if put > 0 => put,
                    Err(errno) if total == 0 => return Err(errno),
                    _ => return Ok(total),
                };
                self.consume(put);
                total += put;
                left -= put;
            }
            if packet {
                self.consume(available - wanted);
                return Ok(total);
            }
        }
    }

    /// Writes `most` bytes at most, as a packet or as part of the stream: `ENOMEM`, `EFAULT`.
    pub fn write(&mut self, source: &mut Source<'_>, most: usize, packet: bool) -> Result<usize> {
        let most = most.min(source.left());
        self.reserve(most)?;
        let before = self.length;
        let mut failure = None;
        while self.length - before < most {
            let room = self.free(most - (self.length - before));
            match source.take(room) {
                Ok(count) if count > 0 => self.length += count,
                Ok(_) => break,
                Err(errno) => {
                    failure = Some(errno);
                    break;
                }
            }
        }
        let total = self.length - before;
        if total > 0 {
            self.note(before, total, packet);
        }
        match failure {
            Some(errno) if total == 0 => Err(errno),
            _ => Ok(total),
        }
    }

    /// Notes what was written behind `before` bytes.
    fn note(&mut self, before: usize, length: usize, packet: bool) {
        if self.records.is_empty() {
            if !packet {
                return;
            }
            if before > 0 {
                self.records.push_back(Record { length: before, packet: false });
            }
        }
        match self.records.back_mut() {
            Some(last) if !packet && !last.packet => last.length += length,
            _ => self.records.push_back(Record { length, packet }),
        }
    }

    /// Puts bytes back in front: `ENOMEM`.
    pub fn put_back(&mut self, bytes: &[u8]) -> Result<()> {
        self.reserve(bytes.len())?;
        if !self.records.is_empty() {
            self.records.push_front(Record { length: bytes.len(), packet: false });
        }
        for byte in bytes.iter().rev() {
            self.head = self.head.wrapping_sub(1) & (self.bytes.len() - 1);
            if let Some(slot) = self.bytes.get_mut(self.head) {
                *slot = *byte;
            }
        }
        self.length += bytes.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn write(ring: &mut Ring, bytes: &[u8], packet: bool) {
        assert_eq!(ring.write(&mut Source::kernel(bytes), usize::MAX, packet), Ok(bytes.len()));
    }

    fn read(ring: &mut Ring, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let count = ring.read(&mut Sink::kernel(&mut bytes)).expect("kernel memory");
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn bytes_come_out_in_the_order_they_went_in_however_the_ring_wraps_and_grows() {
        let mut ring = Ring::default();
        let (mut put, mut taken) = (0u32, 0u32);
        let mut state = 7u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % below) as usize
        };
        for _ in 0..3000 {
            let count = random(9000);
            if ring.len() + count < 60_000 {
                let bytes: Vec<u8> = (0..count as u32).map(|index| ((put + index) % 251) as u8).collect();
                write(&mut ring, &bytes, false);
                put += count as u32;
            }
            let mut bytes = read(&mut ring, random(9000));
            assert!(bytes.iter().enumerate().all(|(at, &byte)| byte == ((taken + at as u32) % 251) as u8));
            if random(4) == 0 {
                let back = bytes.split_off(bytes.len() / 2);
                ring.put_back(&back).expect("memory");
            }
            taken += bytes.len() as u32;
            assert_eq!(ring.len() as u32, put - taken);
        }
    }

    #[test]
    fn a_small_write_needs_a_small_buffer() {
        let mut ring = Ring::default();
        write(&mut ring, b"x", false);
        assert_eq!(ring.bytes.len(), PIPE_BUF);
        write(&mut ring, &[0; 5000], false);
        assert_eq!(ring.bytes.len(), 8192);
        read(&mut ring, 4999);
        ring.shrink(4096).expect("memory");
        assert_eq!((ring.bytes.len(), ring.len()), (PIPE_BUF, 2));
    }

    #[test]
    fn a_packet_is_read_alone_and_its_rest_is_lost() {
        let mut ring = Ring::default();
        write(&mut ring, b"stream", false);
        write(&mut ring, b"one", true);
        write(&mut ring, b"two", true);
        write(&mut ring, b"more", false);
        write(&mut ring, b"!", false);
        assert_eq!(read(&mut ring, 4), b"stre");
        assert_eq!(read(&mut ring, 4), b"amon");
        assert_eq!(read(&mut ring, 2), b"tw");
        assert_eq!(read(&mut ring, 20), b"more!");
        assert!(ring.records.is_empty() && ring.is_empty());
    }

    #[test]
    fn each_packet_counts_for_a_page() {
        let mut ring = Ring::default();
        for _ in 0..16 {
            assert!(ring.room(65536) > 0);
            write(&mut ring, b"a", true);
        }
        assert_eq!(ring.room(65536), 0);
        read(&mut ring, 1);
        assert_eq!(ring.room(65536), 65536 - 15);
    }
}
