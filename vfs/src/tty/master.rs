//! The master's end: the terminal emulator's, script(1)'s, sshd(8)'s.

use super::line::News;
use super::slave::{Slave, write_pieces};
use super::{Pair, make_pair};
use crate::anonymous::Birth;
use crate::attributes::{Attributes, Kind};
use crate::file::{FileOps, FileRef, OpenFile};
use crate::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use kernel::poll::{PollEvents, PollTable};
use kernel::uaccess::{Sink, Source};
use kernel::{task, wait};
use linux_raw_sys::general as raw;

/// The open description of a master.
pub struct Master {
    pub(super) pair: Arc<Pair>,
}

/// Makes a new pair (`/dev/ptmx`): `ENOSPC`.
pub fn open_master(_flags: u32) -> Result<Arc<dyn FileOps>> {
    Ok(Arc::new(Master { pair: make_pair(task::current().cred().fsuid)? }))
}

/// `TIOCGPTPEER`: opens the slave of a master. `EIO` for a terminal that is none, `ENOTTY` for another file.
pub fn open_peer(file: &OpenFile, flags: u32) -> Result<FileRef> {
    let ops = file.ops.as_any();
    let master = ops.downcast_ref::<Master>();
    let master = master.ok_or(if ops.is::<Slave>() { Errno::EIO } else { Errno::ENOTTY })?;
    let slave = Slave::open(master.pair.clone(), flags)?;
    if flags & raw::O_NOCTTY == 0 && slave.readable {
        slave.pair.opened_by_leader();
    }
    Ok(OpenFile::new(Arc::new(slave), None, flags))
}

impl Master {
    fn try_read(&self, sink: &mut Sink<'_>) -> Option<Result<usize>> {
        self.pair.with(|state| {
            let line = &mut state.line;
            if line.packets && line.packet_status != 0 {
                let status = core::mem::take(&mut line.packet_status);
                return Some(sink.put(&[status as u8]));
            }
            if line.output.is_empty() {
                return state.slave_closed.then_some(Err(Errno::EIO));
            }
            let mut done = 0;
            if line.packets {
                match sink.put(&[raw::TIOCPKT_DATA as u8]) {
                    Ok(count) => done += count,
                    Err(errno) => return Some(Err(errno)),
                }
            }
            let (first, second) = line.output.as_slices();
            let mut taken = 0;
            for part in [first, second] {
                match sink.put(part) {
                    Ok(count) => taken += count,
                    Err(errno) if done + taken == 0 => return Some(Err(errno)),
                    Err(_) => break,
                }
            }
            line.output.drain(..taken);
            line.output_taken();
            Some(Ok(done + taken))
        })
    }

    fn try_write(&self, bytes: &[u8]) -> Option<Result<usize>> {
        self.pair.with(|state| {
            let count = bytes.len().min(state.room_for_typed());
            state.typed.extend(bytes.iter().take(count));
            state.deliver();
            (count > 0).then_some(Ok(count))
        })
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.pair.with(|state| {
            state.master_open = false;
            state.line.packets = false;
            state.line.output.clear();
        });
        self.pair.hang_up();
        self.pair.closed();
    }
}

impl FileOps for Master {
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
        wait::until(&[&self.pair.queues.master_read], None, || self.try_read(sink))
            .map_err(|ended| ended.errno(Errno::EINTR))?
    }

    fn write_at(&self, file: &OpenFile, _offset: u64, source: &mut Source<'_>) -> Result<usize> {
        write_pieces(file, source, &self.pair.queues.master_write, |bytes| self.try_write(bytes))
    }

    fn append(&self, file: &OpenFile, source: &mut Source<'_>) -> Result<(usize, u64)> {
        self.write_at(file, 0, source).map(|count| (count, 0))
    }

    fn poll(&self, table: &mut PollTable) -> PollEvents {
        table.add(&self.pair.queues.master_read);
        table.add(&self.pair.queues.master_write);
        let state = self.pair.state.lock();
        let mut events = PollEvents::empty();
        events.set(PollEvents::READABLE, !state.line.output.is_empty());
        if state.line.packets && state.line.packet_status != 0 {
            events |= PollEvents::PRI | PollEvents::READABLE;
        }
        events.set(PollEvents::HUP, state.slave_closed);
        events.set(PollEvents::WRITABLE, state.room_for_typed() > 0);
        events
    }

    fn pollable(&self) -> bool {
        true
    }

    fn ioctl(&self, file: &OpenFile, command: u32, argument: u64) -> Result<u64> {
        super::ioctl::master(self, file, command, argument)
    }

    fn attributes(&self) -> Result<Attributes> {
        let mut attributes = Birth { ino: 2, uid: 0, gid: 0, time: kernel::time::file_time() }
            .attributes(super::devpts::DEVICE, 0o666);
        attributes.mode |= Kind::CharDevice.mode_bits();
        attributes.rdev = super::PTMX;
        Ok(attributes)
    }

    fn describe(&self) -> String {
        "/dev/ptmx".into()
    }

    /// As opening `/dev/ptmx` by its name: another pair.
    fn reopen(&self, flags: u32) -> Result<Arc<dyn FileOps>> {
        open_master(flags)
    }
}

impl Master {
    /// `TIOCPKT`.
    pub(super) fn set_packets(&self, on: bool) {
        self.pair.with(|state| {
            if on && !state.line.packets {
                state.line.packet_status = 0;
            }
            state.line.packets = on;
        });
    }

    /// `TCOOFF`, `TCOON` on the master: holds back what is typed.
    pub(super) fn hold(&self, on: bool) {
        self.pair.with(|state| {
            state.master_stopped = on;
            state.line.news |= News::MASTER_WRITE;
        });
    }

    /// `TCIFLUSH` on the master: forgets the output that was not read.
    pub(super) fn flush_unread(&self) {
        self.pair.with(|state| {
            state.line.output.clear();
            state.line.output_taken();
        });
    }
}
