//! One end of a pipe as an open file.

use super::{MAX_CAPACITY, PIPE_BUF, Pipe, State, directions, rounded_capacity};
use crate::anonymous::PIPES;
use crate::attributes::{AttributeChange, Attributes, Kind};
use crate::file::{FileOps, OpenFile};
use crate::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use kernel::cred::cap;
use kernel::poll::{PollEvents, PollTable};
use kernel::signal::SIGPIPE;
use kernel::time::file_time;
use kernel::uaccess::{self, Sink, Source};
use kernel::{task, wait};
use linux_raw_sys::general as raw;

/// One end of a pipe, or both (a FIFO opened for reading and writing).
pub struct PipeEnd {
    pub(super) pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// A reader that did not wait for a writer sees no hang-up before one has come: how often the FIFO had been opened for
    /// writing (`f_version` of `fifo_open`).
    pub(super) no_hang_up_at: Option<u64>,
}

impl PipeEnd {
    pub(super) fn open(pipe: &Arc<Pipe>, state: &mut State, reads: bool, writes: bool) -> PipeEnd {
        state.open(reads, writes);
        PipeEnd { pipe: pipe.clone(), reads, writes, no_hang_up_at: None }
    }

    /// `F_GETPIPE_SZ`.
    pub fn capacity(&self) -> u64 {
        self.pipe.state.lock().capacity as u64
    }

    /// `F_SETPIPE_SZ`: the new capacity; `EBUSY` if what is in the pipe does not fit, `EPERM` beyond the limit, `EINVAL`.
    pub fn set_capacity(&self, wanted: u32) -> Result<u64> {
        let capacity = rounded_capacity(wanted)?;
        let may_exceed = task::current().cred().has(cap::SYS_RESOURCE);
        let became_writable = {
            let mut state = self.pipe.state.lock();
            if capacity > state.capacity && capacity > MAX_CAPACITY && !may_exceed {
                return Err(Errno::EPERM);
            }
            if state.ring.len() > capacity {
                return Err(Errno::EBUSY);
            }
            let before = state.writable();
            state.ring.shrink(capacity)?;
            state.capacity = capacity;
            !before && state.writable()
        };
        if became_writable {
            self.pipe.writable.wake(PollEvents::WRITABLE);
        }
        Ok(capacity as u64)
    }

    /// One try to read: `None` if the reader has to wait.
    fn try_read(&self, sink: &mut Sink<'_>) -> Option<Result<usize>> {
        let (outcome, became_writable) = {
            let mut state = self.pipe.state.lock();
            if state.ring.is_empty() {
                return (state.writers == 0).then_some(Ok(0));
            }
            let before = state.writable();
            (state.ring.read(sink), !before && state.writable())
        };
        if became_writable {
            self.pipe.writable.wake(PollEvents::WRITABLE);
        }
        Some(outcome)
    }

    /// One try to write: `None` if the writer has to wait because there is no room for `need` bytes.
    pub(super) fn try_write(
        &self,
        source: &mut Source<'_>,
        need: usize,
        packet: bool,
    ) -> Option<Result<usize>> {
        let outcome = {
            let mut state = self.pipe.state.lock();
            if state.readers == 0 {
                return Some(Err(Errno::EPIPE));
            }
            let room = state.room();
            if room < need {
                return None;
            }
            state.ring.write(source, if packet { room.min(PIPE_BUF) } else { room }, packet)
        };
        if outcome.is_ok() {
            self.pipe.readable.wake(PollEvents::READABLE);
        }
        Some(outcome)
    }

    /// read(2), splice(2): waits for data unless `nonblocking`. 0 when nobody writes any more; `EAGAIN`, `ERESTARTSYS`.
    pub fn read(&self, sink: &mut Sink<'_>, nonblocking: bool) -> Result<usize> {
        if sink.left() == 0 {
            return Ok(0);
        }
        if let Some(outcome) = self.try_read(sink) {
            return outcome;
        }
        if nonblocking {
            return Err(Errno::EAGAIN);
        }
        let outcome = wait::until_exclusive(&self.pipe.readable, None, || self.try_read(sink));
        self.pipe.reader_leaves();
        outcome.map_err(|ended| ended.errno(Errno::EINTR))?
    }

    /// write(2), splice(2): up to `PIPE_BUF` bytes in one piece, more as far as there is room; waits for room unless
    /// `nonblocking`. `packet` is `O_DIRECT`. `EPIPE` with SIGPIPE when nobody reads; `EAGAIN`, `ERESTARTSYS`.
    pub fn write(&self, source: &mut Source<'_>, nonblocking: bool, packet: bool) -> Result<usize> {
        let mut total = 0;
        let mut waited = false;
        let outcome = loop {
            let left = source.left();
            if left == 0 {
                break Ok(());
            }
            let whole = packet || (left <= PIPE_BUF && total == 0);
            let need = if whole { left.min(PIPE_BUF) } else { 1 };
            let attempt = match self.try_write(source, need, packet) {
                None if nonblocking => break Err(Errno::EAGAIN),
                None => {
                    waited = true;
                    // A page of room at least: not woken for each byte that is read.
                    wait::until_exclusive(&self.pipe.writable, None, || {
                        self.try_write(source, PIPE_BUF, packet)
                    })
                    .unwrap_or_else(|ended| Err(ended.errno(Errno::EINTR)))
                }
                Some(attempt) => attempt,
            };
            match attempt {
                Ok(0) => break Ok(()),
                Ok(count) => total += count,
                Err(errno) => break Err(errno),
            }
        };
        if waited {
            self.pipe.writer_leaves();
        }
        if outcome == Err(Errno::EPIPE) {
            task::current().raise(SIGPIPE);
        }
        if total > 0 { Ok(total) } else { outcome.map(|()| 0) }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let (last_reader, last_writer, forgotten) = {
            let mut state = self.pipe.state.lock();
            state.readers -= usize::from(self.reads);
            state.writers -= usize::from(self.writes);
            let (no_reader, no_writer) = (state.readers == 0, state.writers == 0);
            // A FIFO that nobody has open any more forgets what was in it.
            let forgotten = (no_reader && no_writer).then(|| core::mem::replace(&mut *state, State::new()));
            if let Some(old) = &forgotten {
                // Who is waiting to open it counts from here.
                state.opened = old.opened;
            }
            (self.reads && no_reader, self.writes && no_writer, forgotten)
        };
        drop(forgotten);
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
        if !self.reads {
            return Err(Errno::EBADF);
        }
        self.read(sink, file.nonblocking())
    }

    fn write_at(&self, file: &OpenFile, _offset: u64, source: &mut Source<'_>) -> Result<usize> {
        if !self.writes {
            return Err(Errno::EBADF);
        }
        let done = self.write(source, file.nonblocking(), file.flags() & raw::O_DIRECT != 0)?;
        // A FIFO's times are those of its place.
        if done > 0
            && let Some(path) = &file.path
        {
            let change = AttributeChange { mtime: Some(file_time()), ..AttributeChange::default() };
            let _ = path.inode().set_attributes(&change);
        }
        Ok(done)
    }

    fn append(&self, file: &OpenFile, source: &mut Source<'_>) -> Result<(usize, u64)> {
        self.write_at(file, 0, source).map(|count| (count, 0))
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
            events.set(PollEvents::READABLE, !state.ring.is_empty());
            events.set(PollEvents::HUP, state.writers == 0 && self.no_hang_up_at != Some(state.opened.1));
        }
        if self.writes {
            events.set(PollEvents::WRITABLE, state.writable());
            events.set(PollEvents::ERR, state.readers == 0);
        }
        events
    }

    fn pollable(&self) -> bool {
        true
    }

    fn signals_io(&self) -> bool {
        true
    }

    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> Result<u64> {
        if command != linux_raw_sys::ioctl::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let length = i32::try_from(self.pipe.state.lock().ring.len()).unwrap_or(i32::MAX);
        uaccess::write(argument, &length)?;
        Ok(0)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(self.pipe.birth.attributes(PIPES, Kind::Fifo.mode_bits() | 0o600))
    }

    fn describe(&self) -> String {
        format!("pipe:[{}]", self.pipe.birth.ino)
    }

    /// Unlike a FIFO, a pipe is opened without waiting (`fifo_open`).
    fn reopen(&self, flags: u32) -> Result<Arc<dyn FileOps>> {
        let (reads, writes) = directions(flags)?;
        Ok(Arc::new(PipeEnd::open(&self.pipe, &mut self.pipe.state.lock(), reads, writes)))
    }
}
