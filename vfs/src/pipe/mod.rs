//! Pipes and FIFOs (pipe(7), fifo(7)).
//!
//! The bytes lie in a ring in the kernel heap, made at the first write. One short lock a call; nobody is woken who does not
//! sleep, so a write and a read between running threads make no host call.

use crate::attributes::{Attributes, Kind};
use crate::file::{FileOps, FileRef, OpenFile};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::poll::{PollEvents, PollTable};
use kernel::signal::SIGPIPE;
use kernel::sync::{BootCell, Mutex};
use kernel::uaccess::{self, Sink, Source};
use kernel::wait::{self, WaitQueue};
use kernel::{task, time};
use linux_raw_sys::general as raw;

/// Writes up to this many bytes are not split (`PIPE_BUF`).
pub const PIPE_BUF: usize = 4096;
/// Capacity of a new pipe.
const DEFAULT_CAPACITY: usize = 64 << 10;
/// Largest capacity (`fs.pipe-max-size`).
const MAX_CAPACITY: usize = 1 << 20;

/// The bytes in flight.
#[derive(Default)]
struct Ring {
    bytes: Box<[u8]>,
    head: usize,
    length: usize,
}

impl Ring {
    /// The filled part as one or two slices.
    fn filled(&self) -> (&[u8], &[u8]) {
        let end = self.head + self.length;
        let size = self.bytes.len();
        if end <= size {
            (self.bytes.get(self.head..end).unwrap_or(&[]), &[])
        } else {
            (self.bytes.get(self.head..).unwrap_or(&[]), self.bytes.get(..end - size).unwrap_or(&[]))
        }
    }

    /// The contiguous free part behind the filled one.
    fn free(&mut self) -> &mut [u8] {
        let size = self.bytes.len();
        let end = self.head + self.length;
        let (from, to) = if end < size { (end, size) } else { (end - size, self.head) };
        if self.length == size { &mut [] } else { self.bytes.get_mut(from..to).unwrap_or(&mut []) }
    }

    fn consume(&mut self, count: usize) {
        self.length -= count.min(self.length);
        self.head = if self.length == 0 || self.bytes.is_empty() {
            0
        } else {
            (self.head + count) % self.bytes.len()
        };
    }
}

struct State {
    ring: Ring,
    capacity: usize,
    readers: usize,
    writers: usize,
    /// Lengths of packets (`O_DIRECT`), when the pipe is in packet mode.
    packets: Option<VecDeque<usize>>,
}

/// A pipe.
pub struct Pipe {
    state: Mutex<State>,
    /// Woken when there is something to read, or no writer any more.
    readable: WaitQueue,
    /// Woken when there is room, or no reader any more.
    writable: WaitQueue,
    ino: u64,
}

/// One end of a pipe, or both (a FIFO opened for reading and writing).
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
}

/// The pipe of a FIFO's inode.
pub struct FifoState {
    pipe: Arc<Pipe>,
    /// Woken when somebody opens.
    opened: WaitQueue,
    /// How often it was opened for reading and for writing.
    counts: Mutex<(u64, u64)>,
}

impl Default for FifoState {
    fn default() -> Self {
        FifoState { pipe: Pipe::new(), opened: WaitQueue::new(), counts: Mutex::new((0, 0)) }
    }
}

static NEXT_INO: BootCell<Box<AtomicU64>> = BootCell::new();

/// Sets up inode numbers of anonymous files. Called once, at boot.
pub fn init() {
    NEXT_INO.set(Box::new(AtomicU64::new(1000)));
}

/// A number for an anonymous file.
pub fn next_ino() -> u64 {
    NEXT_INO.get().map_or(1, |next| next.fetch_add(1, Ordering::Relaxed))
}

impl Pipe {
    fn new() -> Arc<Pipe> {
        let state = State {
            ring: Ring::default(),
            capacity: DEFAULT_CAPACITY,
            readers: 0,
            writers: 0,
            packets: None,
        };
        Arc::new(Pipe {
            state: Mutex::new(state),
            readable: WaitQueue::new(),
            writable: WaitQueue::new(),
            ino: next_ino(),
        })
    }
}

/// pipe2(2): the reading and the writing end; `flags` are `O_NONBLOCK`, `O_DIRECT`.
pub fn pipe(flags: u32) -> (FileRef, FileRef) {
    let pipe = Pipe::new();
    if flags & raw::O_DIRECT != 0 {
        pipe.state.lock().packets = Some(VecDeque::new());
    }
    let end = |reads, writes| PipeEnd::new(pipe.clone(), reads, writes);
    let status = flags & (raw::O_NONBLOCK | raw::O_DIRECT);
    (
        OpenFile::new(end(true, false), None, raw::O_RDONLY | status),
        OpenFile::new(end(false, true), None, raw::O_WRONLY | status),
    )
}

/// Opens a FIFO (fifo(7)): blocks for the other end unless `O_NONBLOCK` or for both directions.
pub fn open_fifo(fifo: &Arc<FifoState>, flags: u32) -> Result<Arc<dyn FileOps>> {
    let (reads, writes) = match flags & raw::O_ACCMODE {
        raw::O_RDONLY => (true, false),
        raw::O_WRONLY => (false, true),
        _ => (true, true),
    };
    let nonblocking = flags & raw::O_NONBLOCK != 0;
    if writes && !reads && nonblocking && fifo.pipe.state.lock().readers == 0 {
        return Err(Errno::ENXIO);
    }
    let end = PipeEnd::new(fifo.pipe.clone(), reads, writes);
    let (seen_readers, seen_writers) = {
        let mut counts = fifo.counts.lock();
        counts.0 += u64::from(reads);
        counts.1 += u64::from(writes);
        *counts
    };
    fifo.opened.wake_all(PollEvents::IN);
    if (reads && writes) || nonblocking {
        return Ok(end);
    }
    wait::until(&[&fifo.opened], None, || {
        let state = fifo.pipe.state.lock();
        let counts = fifo.counts.lock();
        // Somebody may have opened and closed the other end meanwhile: that counts too.
        let met = if reads {
            state.writers > 0 || counts.1 != seen_writers
        } else {
            state.readers > 0 || counts.0 != seen_readers
        };
        met.then_some(())
    })
    .map_err(|ended| ended.errno(Errno::EINTR))?;
    Ok(end)
}

impl PipeEnd {
    fn new(pipe: Arc<Pipe>, reads: bool, writes: bool) -> Arc<PipeEnd> {
        {
            let mut state = pipe.state.lock();
            state.readers += usize::from(reads);
            state.writers += usize::from(writes);
        }
        Arc::new(PipeEnd { pipe, reads, writes })
    }

    /// `F_GETPIPE_SZ`.
    pub fn capacity(&self) -> u64 {
        self.pipe.state.lock().capacity as u64
    }

    /// `F_SETPIPE_SZ`: rounds up to a power of two of pages; `EBUSY` if what is in it does not fit, `EPERM` beyond the limit.
    pub fn set_capacity(&self, wanted: u32) -> Result<u64> {
        let capacity = rounded_capacity(wanted)?;
        let mut state = self.pipe.state.lock();
        if state.ring.length > capacity {
            return Err(Errno::EBUSY);
        }
        if !state.ring.bytes.is_empty() {
            let mut bytes = vec![0; capacity].into_boxed_slice();
            let (first, second) = state.ring.filled();
            let length = first.len() + second.len();
            for (slot, byte) in bytes.iter_mut().zip(first.iter().chain(second)) {
                *slot = *byte;
            }
            state.ring = Ring { bytes, head: 0, length };
        }
        state.capacity = capacity;
        drop(state);
        self.pipe.writable.wake(PollEvents::WRITABLE);
        Ok(capacity as u64)
    }

    /// One try to read: `None` if the reader has to wait.
    fn try_read(&self, sink: &mut Sink<'_>) -> Option<Result<usize>> {
        let mut guard = self.pipe.state.lock();
        let state = &mut *guard;
        if state.ring.length == 0 {
            return (state.writers == 0).then_some(Ok(0));
        }
        // In packet mode one read takes one packet; what does not fit is lost.
        let packet = state.packets.as_mut().and_then(VecDeque::pop_front);
        let most = packet.unwrap_or(state.ring.length);
        let (first, second) = state.ring.filled();
        let first = first.get(..most.min(first.len())).unwrap_or(first);
        let second = second.get(..most - first.len()).unwrap_or(&[]);
        let mut outcome = sink.put(first);
        if let Ok(count) = outcome
            && count == first.len()
            && !second.is_empty()
        {
            outcome = match sink.put(second) {
                Ok(more) => Ok(count + more),
                Err(_) if count > 0 => Ok(count),
                Err(errno) => Err(errno),
            };
        }
        if let Ok(count) = outcome {
            state.ring.consume(packet.unwrap_or(count));
        }
        drop(guard);
        if outcome.is_ok() {
            self.pipe.writable.wake(PollEvents::WRITABLE);
        }
        Some(outcome)
    }

    /// One try to write: `None` if the writer has to wait for room for `need` bytes.
    fn try_write(&self, source: &mut Source<'_>, need: usize, packet: bool) -> Option<Result<usize>> {
        let mut guard = self.pipe.state.lock();
        let state = &mut *guard;
        if state.readers == 0 {
            return Some(Err(Errno::EPIPE));
        }
        if state.capacity - state.ring.length < need {
            return None;
        }
        if state.ring.bytes.is_empty() {
            state.ring.bytes = vec![0; state.capacity].into_boxed_slice();
        }
        let limit = if packet { PIPE_BUF } else { usize::MAX };
        let mut total = 0;
        let mut failure = None;
        while source.left() > 0 && total < limit {
            let room = state.ring.free();
            let length = room.len().min(limit - total);
            let room = room.get_mut(..length).unwrap_or(&mut []);
            if room.is_empty() {
                break;
            }
            match source.take(room) {
                Ok(0) => break,
                Ok(count) => {
                    state.ring.length += count;
                    total += count;
                }
                Err(errno) => {
                    failure = Some(errno);
                    break;
                }
            }
        }
        if let Some(packets) = &mut state.packets
            && total > 0
        {
            packets.push_back(total);
        }
        drop(guard);
        if total > 0 {
            self.pipe.readable.wake(PollEvents::READABLE);
        }
        match failure {
            Some(errno) if total == 0 => Some(Err(errno)),
            _ => Some(Ok(total)),
        }
    }
}

/// The capacity for a wish in bytes.
fn rounded_capacity(wanted: u32) -> Result<usize> {
    let wanted = wanted as usize;
    if wanted > 1 << 31 {
        return Err(Errno::EINVAL);
    }
    let capacity = wanted.max(4096).checked_next_power_of_two().ok_or(Errno::EINVAL)?;
    if capacity > MAX_CAPACITY && !task::current().cred().has(kernel::cred::cap::SYS_RESOURCE) {
        return Err(Errno::EPERM);
    }
    Ok(capacity)
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let (last_reader, last_writer) = {
            let mut state = self.pipe.state.lock();
            state.readers -= usize::from(self.reads);
            state.writers -= usize::from(self.writes);
            if state.readers == 0 && state.writers == 0 {
                // A FIFO that nobody has open any more forgets what was in it.
                state.ring = Ring::default();
            }
            (self.reads && state.readers == 0, self.writes && state.writers == 0)
        };
        if last_writer {
            self.pipe.readable.wake_all(PollEvents::HUP);
        }
        if last_reader {
            self.pipe.writable.wake_all(PollEvents::ERR);
        }
    }
}

impl FileOps for PipeEnd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, file: &OpenFile, _offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        if sink.left() == 0 {
            return Ok(0);
        }
        if let Some(outcome) = self.try_read(sink) {
            return outcome;
        }
        if file.nonblocking() {
            return Err(Errno::EAGAIN);
        }
        wait::until(&[&self.pipe.readable], None, || self.try_read(sink))
            .map_err(|ended| ended.errno(Errno::EINTR))?
    }

    fn write_at(&self, file: &OpenFile, _offset: u64, source: &mut Source<'_>) -> Result<usize> {
        let mut total = 0;
        let packet = file.flags() & raw::O_DIRECT != 0;
        while source.left() > 0 {
            // Up to PIPE_BUF goes in one piece; more goes as far as there is room for anything.
            let need = if source.left() <= PIPE_BUF && total == 0 { source.left() } else { 1 };
            let mut outcome = self.try_write(source, need, packet);
            if outcome.is_none() {
                if file.nonblocking() {
                    return if total > 0 { Ok(total) } else { Err(Errno::EAGAIN) };
                }
                outcome = match wait::until(&[&self.pipe.writable], None, || {
                    self.try_write(source, need, packet)
                }) {
                    Ok(outcome) => Some(outcome),
                    Err(_) if total > 0 => return Ok(total),
                    Err(ended) => return Err(ended.errno(Errno::EINTR)),
                };
            }
            match outcome {
                Some(Ok(count)) => total += count,
                Some(Err(Errno::EPIPE)) => {
                    task::current().raise(SIGPIPE);
                    return if total > 0 { Ok(total) } else { Err(Errno::EPIPE) };
                }
                Some(Err(errno)) => return if total > 0 { Ok(total) } else { Err(errno) },
                None => {}
            }
        }
        Ok(total)
    }

    fn poll(&self, table: &mut PollTable) -> PollEvents {
        if self.reads {
            table.add(&self.pipe.readable);
        }
        if self.writes {
            table.add(&self.pipe.writable);
        }
        let state = self.pipe.state.lock();
        let mut events = PollEvents::empty();
        if self.reads {
            events.set(PollEvents::READABLE, state.ring.length > 0);
            events.set(PollEvents::HUP, state.writers == 0);
        }
        if self.writes {
            events.set(PollEvents::WRITABLE, state.capacity - state.ring.length >= PIPE_BUF);
            events.set(PollEvents::ERR, state.readers == 0);
        }
        events
    }

    fn pollable(&self) -> bool {
        true
    }

    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> Result<u64> {
        if command != linux_raw_sys::ioctl::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let length = self.pipe.state.lock().ring.length as i32;
        uaccess::write(argument, &length)?;
        Ok(0)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(anonymous_attributes(Kind::Fifo.mode_bits() | 0o600, self.pipe.ino))
    }

    fn describe(&self) -> String {
        format!("pipe:[{}]", self.pipe.ino)
    }
}

/// What fstat(2) tells of a file that was never in a tree.
pub fn anonymous_attributes(mode: u32, ino: u64) -> Attributes {
    let now = time::file_time();
    let cred = task::current().cred();
    Attributes {
        dev: crate::attributes::device(0, 14),
        ino,
        mode,
        nlink: 1,
        uid: cred.fsuid,
        gid: cred.fsgid,
        rdev: 0,
        size: 0,
        blksize: 4096,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
        btime: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_wraps_around_and_keeps_the_order() {
        let mut ring = Ring { bytes: vec![0; 4].into_boxed_slice(), head: 3, length: 0 };
        ring.free()[..1].copy_from_slice(b"a");
        ring.length = 1;
        ring.free()[..2].copy_from_slice(b"bc");
        ring.length = 3;
        assert_eq!(ring.filled(), (&b"a"[..], &b"bc"[..]));
        ring.consume(2);
        assert_eq!(ring.filled().0, b"c");
    }
}
