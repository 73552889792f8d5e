//! Pipes and FIFOs (pipe(7), fifo(7)).
//!
//! The bytes lie in a ring in the kernel heap, made at the first write and only as long as is needed. A call takes one short
//! lock, and nobody is woken who does not sleep, so a write and a read between running threads make no host call.
//! Blocked readers and writers are exclusive listeners: news wakes one of them, who wakes the next if something is left.
//!
//! Linux counts a pipe's capacity in pages, of which the last may be filled up; here it is bytes. What a program can tell is
//! the same: a blocked writer and poll(2) wait for a page of room.

mod end;
mod fifo;
mod ring;
mod splice;

pub use end::PipeEnd;
pub use fifo::{FifoState, open_fifo};
pub use ring::Ring;
pub use splice::transfer;

use crate::anonymous::Birth;
use crate::file::{FileRef, OpenFile};
use crate::{Errno, Result};
use alloc::sync::Arc;
use kernel::poll::PollEvents;
use kernel::sync::Mutex;
use kernel::wait::WaitQueue;
use linux_raw_sys::general as raw;

/// Writes up to this many bytes are not split.
pub const PIPE_BUF: usize = 4096;
/// Capacity of a new pipe.
const DEFAULT_CAPACITY: usize = 64 << 10;
/// Largest capacity without `CAP_SYS_RESOURCE` (`/proc/sys/fs/pipe-max-size`).
pub const MAX_CAPACITY: usize = 1 << 20;

struct State {
    ring: Ring,
    capacity: usize,
    readers: usize,
    writers: usize,
    /// How often it was opened for reading and for writing: who waits for the other end of a FIFO also sees one that came and
    /// went.
    opened: (u64, u64),
}

impl State {
    fn new() -> State {
        State { ring: Ring::default(), capacity: DEFAULT_CAPACITY, readers: 0, writers: 0, opened: (0, 0) }
    }

    fn room(&self) -> usize {
        self.ring.room(self.capacity)
    }

    fn writable(&self) -> bool {
        self.room() >= PIPE_BUF
    }

    fn open(&mut self, reads: bool, writes: bool) {
        self.readers += usize::from(reads);
        self.writers += usize::from(writes);
        self.opened.0 += u64::from(reads);
        self.opened.1 += u64::from(writes);
    }
}

/// A pipe.
struct Pipe {
    state: Mutex<State>,
    /// Woken when something was written, and when the last writer has gone.
    readable: WaitQueue,
    /// Woken when a page of room has come about, and when the last reader has gone.
    writable: WaitQueue,
    birth: Birth,
}

impl Pipe {
    fn new(birth: Birth) -> Arc<Pipe> {
        Arc::new(Pipe {
            state: Mutex::new(State::new()),
            readable: WaitQueue::new(),
            writable: WaitQueue::new(),
            birth,
        })
    }

    /// A blocked reader leaves: what it was told of and did not take is for the next one.
    fn reader_leaves(&self) {
        let left = !self.state.lock().ring.is_empty();
        if left {
            self.readable.wake(PollEvents::READABLE);
        }
    }

    /// As [`Self::reader_leaves`], for a writer.
    fn writer_leaves(&self) {
        let left = self.state.lock().writable();
        if left {
            self.writable.wake(PollEvents::WRITABLE);
        }
    }
}

/// pipe2(2): the reading and the writing end; `flags` are `O_NONBLOCK`, `O_DIRECT`.
pub fn pipe(flags: u32) -> (FileRef, FileRef) {
    let pipe = Pipe::new(Birth::by_current());
    let (reader, writer) = {
        let mut state = pipe.state.lock();
        (PipeEnd::open(&pipe, &mut state, true, false), PipeEnd::open(&pipe, &mut state, false, true))
    };
    let status = flags & (raw::O_NONBLOCK | raw::O_DIRECT);
    (
        OpenFile::new(Arc::new(reader), None, raw::O_RDONLY | status),
        OpenFile::new(Arc::new(writer), None, raw::O_WRONLY | status),
    )
}

/// Reads and writes, of open(2)'s access mode: `EINVAL`.
fn directions(flags: u32) -> Result<(bool, bool)> {
    match flags & raw::O_ACCMODE {
        raw::O_RDONLY => Ok((true, false)),
        raw::O_WRONLY => Ok((false, true)),
        raw::O_RDWR => Ok((true, true)),
        _ => Err(Errno::EINVAL),
    }
}

/// The capacity for a wish in bytes: a power of two of pages (`round_pipe_size`): `EINVAL`.
fn rounded_capacity(wanted: u32) -> Result<usize> {
    let wanted = wanted as usize;
    if wanted > 1 << 31 {
        return Err(Errno::EINVAL);
    }
    wanted.max(PIPE_BUF).checked_next_power_of_two().ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_is_a_power_of_two_of_pages() {
        let capacities = [0, 1, 4096, 4097, 65536, 65537, (1 << 31) - 1, 1 << 31].map(rounded_capacity);
        let expected = [4096, 4096, 4096, 8192, 65536, 131_072, 1 << 31, 1 << 31].map(Ok);
        assert_eq!(capacities, expected);
        assert_eq!(rounded_capacity((1 << 31) + 1), Err(Errno::EINVAL));
    }
}
