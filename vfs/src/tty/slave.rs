//! The slave's end: what programs take for their terminal.

use super::job::own_terminal;
use super::line::News;
use super::{Pair, find};
use crate::attributes::{AttributeChange, Attributes};
use crate::file::{FileOps, OpenFile};
use crate::inode::Inode;
use crate::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use kernel::cred::cap;
use kernel::poll::{PollEvents, PollTable};
use kernel::signal::{SIGTTIN, SIGTTOU};
use kernel::uaccess::{Sink, Source};
use kernel::{task, time, wait};
use linux_raw_sys::general as raw;

/// An open description of a slave.
pub struct Slave {
    pub(super) pair: Arc<Pair>,
    /// The pair's count when it was opened.
    hang_ups: u64,
    /// Opened for reading.
    pub(super) readable: bool,
}

/// Bytes that one look at the line takes from a write.
const PIECE: usize = 512;

/// How long a read waits (termios(3), `MIN` and `TIME`).
struct Patience {
    /// Bytes that end it.
    least: usize,
    /// Nanoseconds after which it ends, from its start or, `between`, from the last byte; 0 for never.
    time: u64,
    /// The time counts from each byte that has come.
    between: bool,
}

/// Opens the slave with a number (`/dev/pts/N`): `EIO` while it is locked, `EBUSY`. A session leader without a terminal gets
/// it as its own unless `O_NOCTTY` says no.
pub fn open_slave(index: u32, flags: u32) -> Result<Arc<dyn FileOps>> {
    let pair = find(index).ok_or(Errno::EIO)?;
    let slave = Slave::open(pair, flags)?;
    if flags & raw::O_NOCTTY == 0 && slave.readable {
        slave.pair.opened_by_leader();
    }
    Ok(Arc::new(slave))
}

/// Opens the terminal that controls the running task's session (`/dev/tty`): `ENXIO` if there is none.
pub fn open_current(flags: u32) -> Result<Arc<dyn FileOps>> {
    let pair = own_terminal().ok_or(Errno::ENXIO)?;
    Ok(Arc::new(Slave::open(pair, flags)?))
}

impl Slave {
    pub(super) fn open(pair: Arc<Pair>, flags: u32) -> Result<Slave> {
        let hang_ups = pair.with(|state| {
            if !state.master_open || state.locked {
                return Err(Errno::EIO);
            }
            if state.exclusive && !task::current().cred().has(cap::SYS_ADMIN) {
                return Err(Errno::EBUSY);
            }
            state.slaves += 1;
            state.slave_closed = false;
            Ok(state.hang_ups)
        })?;
        Ok(Slave { pair, hang_ups, readable: flags & raw::O_ACCMODE != raw::O_WRONLY })
    }

    pub(super) fn hung_up(&self) -> bool {
        self.pair.state.lock().hang_ups != self.hang_ups
    }

    fn patience(&self) -> Patience {
        const TENTH: u64 = time::SECOND / 10;
        let state = self.pair.state.lock();
        let settings = &state.line.settings;
        if settings.local(raw::ICANON) {
            return Patience { least: 0, time: 0, between: false };
        }
        let (least, time) =
            (settings.character(raw::VMIN), u64::from(settings.character(raw::VTIME)) * TENTH);
        if least > 0 {
            Patience { least: usize::from(least), time, between: true }
        } else {
            Patience { least: 1, time, between: false }
        }
    }

    /// One look: what a read takes, or 0 or an error where nothing will come. `None` if it has to wait.
    fn try_read(&self, sink: &mut Sink<'_>) -> Option<Result<usize>> {
        self.pair.with(|state| {
            state.deliver();
            if let Some(outcome) = state.line.read(sink) {
                state.deliver();
                return Some(outcome);
            }
            if !state.master_open {
                return Some(Err(Errno::EIO));
            }
            (state.hang_ups != self.hang_ups).then_some(Ok(0))
        })
    }

    fn try_write(&self, bytes: &[u8]) -> Option<Result<usize>> {
        self.pair.with(|state| {
            if state.hang_ups != self.hang_ups || !state.master_open {
                return Some(Err(Errno::EIO));
            }
            let count = state.line.write(bytes);
            (count > 0).then_some(Ok(count))
        })
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        let last = self.pair.with(|state| {
            state.slaves = state.slaves.saturating_sub(1);
            let last = state.slaves == 0;
            state.slave_closed |= last;
            if last {
                state.line.news |= News::MASTER_READ | News::MASTER_WRITE;
            }
            last
        });
        if last {
            self.pair.queues.master_read.wake_all(PollEvents::HUP);
            self.pair.closed();
        }
    }
}

impl FileOps for Slave {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, file: &OpenFile, _offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        if self.hung_up() {
            return Ok(0);
        }
        self.pair.keep_off(SIGTTIN)?;
        let Patience { least, time, between } = self.patience();
        let after = |time| (time > 0).then(|| time::monotonic().saturating_add(time));
        let mut deadline = if between { None } else { after(time) };
        // Neither a byte nor a time is waited for: what is there now.
        let at_once = !between && least == 1 && time == 0;
        let mut done = 0;
        while sink.left() > 0 {
            let outcome = match self.try_read(sink) {
                Some(outcome) => outcome,
                None if at_once => break,
                None if file.nonblocking() && done > 0 => break,
                None if file.nonblocking() => return Err(Errno::EAGAIN),
                None => {
                    match wait::until(&[&self.pair.queues.slave_read], deadline, || self.try_read(sink)) {
                        Ok(outcome) => outcome,
                        Err(wait::Ended::TimedOut) => break,
                        Err(wait::Ended::Interrupted) if done > 0 => break,
                        Err(wait::Ended::Interrupted) => return Err(Errno::ERESTARTSYS),
                    }
                }
            };
            match outcome {
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
            if done >= least {
                break;
            }
            if outcome == Ok(0) {
                break;
            }
            if between {
                deadline = after(time);
            }
        }
        Ok(done)
    }

    fn write_at(&self, file: &OpenFile, _offset: u64, source: &mut Source<'_>) -> Result<usize> {
        if self.hung_up() {
            return Err(Errno::EIO);
        }
        if self.pair.state.lock().line.settings.local(raw::TOSTOP) {
            self.pair.keep_off(SIGTTOU)?;
        }
        write_pieces(file, source, &self.pair.queues.slave_write, |bytes| self.try_write(bytes))
    }

    fn append(&self, file: &OpenFile, source: &mut Source<'_>) -> Result<(usize, u64)> {
        self.write_at(file, 0, source).map(|count| (count, 0))
    }

    fn poll(&self, table: &mut PollTable) -> PollEvents {
        table.add(&self.pair.queues.slave_read);
        table.add(&self.pair.queues.slave_write);
        self.pair.with(|state| {
            state.deliver();
            if state.hang_ups != self.hang_ups {
                return PollEvents::READABLE | PollEvents::WRITABLE | PollEvents::ERR | PollEvents::HUP;
            }
            let settings = &state.line.settings;
            let least = if settings.character(raw::VTIME) == 0 { settings.character(raw::VMIN) } else { 1 };
            let mut events = PollEvents::empty();
            events.set(PollEvents::READABLE, state.line.has_input(usize::from(least)));
            events.set(PollEvents::WRITABLE, state.line.room() > 0);
            events
        })
    }

    fn pollable(&self) -> bool {
        true
    }

    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> Result<u64> {
        super::ioctl::slave(self, command, argument)
    }

    fn attributes(&self) -> Result<Attributes> {
        self.pair.node.attributes()
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        self.pair.node.set_attributes(change)
    }

    fn describe(&self) -> String {
        format!("/dev/pts/{}", self.pair.index)
    }

    fn reopen(&self, flags: u32) -> Result<Arc<dyn FileOps>> {
        open_slave(self.pair.index, flags)
    }
}

/// write(2) on either end: piece by piece, waiting on `queue` for room unless the description does not block. `write` takes
/// what there is room for; `None` if there is none.
pub(super) fn write_pieces(
    file: &OpenFile,
    source: &mut Source<'_>,
    queue: &wait::WaitQueue,
    write: impl Fn(&[u8]) -> Option<Result<usize>>,
) -> Result<usize> {
    let mut total = 0;
    let mut piece = [0u8; PIECE];
    while source.left() > 0 {
        let length = match source.take(&mut piece) {
            Err(errno) if total == 0 => return Err(errno),
            other => other.unwrap_or(0),
        };
        if length == 0 {
            break;
        }
        let mut done = 0;
        while done < length {
            let rest = piece.get(done..length).unwrap_or(&[]);
            let outcome = match write(rest) {
                Some(outcome) => outcome,
                None if file.nonblocking() => Err(Errno::EAGAIN),
                None => wait::until(&[queue], None, || write(rest))
                    .unwrap_or_else(|ended| Err(ended.errno(Errno::EINTR))),
            };
            match outcome {
                Ok(count) => done += count,
                Err(errno) if total + done == 0 => return Err(errno),
                Err(_) => return Ok(total + done),
            }
        }
        total += done;
    }
    Ok(total)
}
