//! Host descriptors that were handed over: the standard input, output and error of the sandbox.
//!
//! They may be pipes, terminals, sockets, regular files or `/dev/null`. Transfers are host calls on program memory;
//! a call that blocks does so on the host, until a signal ends it. For a regular file the host's own offset is the
//! position, because others outside (and the other standard descriptors) may share it: `(sandbox-exec a; b) > log`.

mod terminal;

pub use terminal::Terminal;

use crate::attributes::{Attributes, Kind};
use crate::file::{FileOps, FileRef, OpenFile};
use crate::host::seek_in;
use crate::host::stat;
use crate::identity::HostIds;
use crate::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use boundary::layout::PAGE_SIZE;
use core::any::Any;
use kernel::hostpoll::Watch;
use kernel::mm::{Backing, Mappable};
use kernel::poll::{PollEvents, PollTable};
use kernel::sync::Mutex;
use kernel::uaccess::{Sink, Source, Span};
use linux_raw_sys::general as raw;
use trap_handler::host;

/// Longest write to a pipe that says it is writable and still cannot block (pipe(7), `PIPE_BUF`).
const PIPE_BUF: u64 = 4096;

/// An open host descriptor that was handed over.
pub struct HostStream {
    fd: i32,
    ids: HostIds,
    kind: Kind,
    /// The host's device and inode number.
    id: (u64, u64),
    rdev: u64,
    /// The host itself appends to it.
    appends: bool,
    terminal: Option<Arc<Terminal>>,
    /// `None` for files that are always ready.
    watch: Option<Arc<Watch>>,
    /// Closed with the last reference: who has it on the other side hears of that. What was there at the start is the sandbox's for
    /// as long as it runs.
    closes: bool,
    /// Regular files: the position that the caller believes in. As long as it is the one passed, the host's offset counts.
    believed: Mutex<u64>,
    this: Weak<HostStream>,
}

/// Opens what was handed over as descriptors 0, 1 and 2, before the filter is installed (the flags are asked for); `None` where one is closed. Descriptors of one terminal share it.
pub fn open_standard(fds: [i32; 3], ids: HostIds) -> [Option<FileRef>; 3] {
    let mut terminals: Vec<(u64, Arc<Terminal>)> = Vec::new();
    fds.map(|fd| if fd < 0 { None } else { HostStream::open_first(fd, ids, &mut terminals).ok() })
}

/// Opens what came for a process that enters: descriptors and their flags. A terminal among them is only a stream: the filter allows
/// nothing else on it. Closes all in any case: with the last reference, or at once where one cannot be opened.
pub fn open_entering(fds: [Option<(i32, u32)>; 3], ids: HostIds) -> Result<[Option<FileRef>; 3]> {
    let opened = fds.map(|fd| {
        fd.map(|(fd, flags)| {
            HostStream::open(fd, flags, ids, |_| None, true).inspect_err(|_| {
                let _ = host::close(fd);
            })
        })
    });
    let [input, output, error] = opened;
    Ok([input.transpose()?, output.transpose()?, error.transpose()?])
}

impl HostStream {
    fn open_first(fd: i32, ids: HostIds, terminals: &mut Vec<(u64, Arc<Terminal>)>) -> Result<FileRef> {
        let flags = host::file_flags(fd)?;
        let terminal_of = |rdev| {
            if !Terminal::is_one(fd, rdev) {
                return None;
            }
            let known = terminals.iter().find(|(known, _)| *known == rdev);
            let shared = known.map_or_else(Arc::default, |(_, terminal)| terminal.clone());
            terminals.push((rdev, shared.clone()));
            Some(shared)
        };
        HostStream::open(fd, flags, ids, terminal_of, false)
    }

    fn open(
        fd: i32,
        flags: u32,
        ids: HostIds,
        terminal_of: impl FnOnce(u64) -> Option<Arc<Terminal>>,
        closes: bool,
    ) -> Result<FileRef> {
        let now = host::statx(fd, c"", raw::AT_EMPTY_PATH, stat::MASK)?;
        let attributes = stat::attributes(&now, &ids);
        let kind = attributes.kind();
        let terminal = if kind == Kind::CharDevice { terminal_of(attributes.rdev) } else { None };
        let waits = matches!(kind, Kind::Fifo | Kind::Socket) || terminal.is_some();
        let position = if kind == Kind::Regular { host::lseek(fd, 0, raw::SEEK_CUR)? } else { 0 };
        let stream = Arc::new_cyclic(|this| HostStream {
            this: this.clone(),
            fd,
            ids,
            kind,
            id: (attributes.dev, attributes.ino),
            rdev: attributes.rdev,
            appends: flags & raw::O_APPEND != 0,
            terminal,
            watch: waits.then(|| Watch::new(fd)),
            closes,
            believed: Mutex::new(position),
        });
        let kept = raw::O_ACCMODE | raw::O_APPEND | raw::O_NONBLOCK;
        let file = OpenFile::new(stream, None, flags & kept);
        *file.position.lock() = position;
        Ok(file)
    }

    /// The terminal, if it is one.
    pub fn terminal(&self) -> Option<&Arc<Terminal>> {
        self.terminal.as_ref()
    }

    fn ready(&self, events: PollEvents) -> PollEvents {
        let revents = host::poll_now(self.fd, events.bits() as i16);
        PollEvents::from_bits_truncate(u32::from(revents as u16))
    }

    /// Somebody who listens is to hear when `events` come about (again).
    fn arm_for_listeners(&self, events: PollEvents) {
        if let Some(watch) = &self.watch {
            watch.arm_for_listeners(events);
        }
    }

    /// One transfer on a stream, repeated while a host descriptor that does not block says `EAGAIN` to a file that does.
    fn stream(
        &self,
        file: &OpenFile,
        events: PollEvents,
        mut transfer: impl FnMut() -> Result<usize>,
    ) -> Result<usize> {
        loop {
            let wanted = events | PollEvents::ALWAYS;
            if self.watch.is_some() && file.nonblocking() && !self.ready(events).intersects(wanted) {
                self.arm_for_listeners(events);
                return Err(Errno::EAGAIN);
            }
            match transfer() {
                Err(Errno::EINTR) => return Err(Errno::ERESTARTSYS),
                Err(Errno::EAGAIN) if !file.nonblocking() => {
                    let mut fds = [raw::pollfd { fd: self.fd, events: events.bits() as i16, revents: 0 }];
                    match host::ppoll_interruptible(&mut fds, None) {
                        Err(Errno::EINTR) => return Err(Errno::ERESTARTSYS),
                        Err(error) => return Err(error),
                        Ok(_) => {}
                    }
                }
                other => {
                    // Those who are told of changes only (EPOLLET) hear of the next one.
                    self.arm_for_listeners(events);
                    return other;
                }
            }
        }
    }

    /// One transfer on a regular file, at the host's offset unless the caller means another place.
    fn positioned(&self, offset: u64, transfer: impl FnOnce() -> Result<usize>) -> Result<usize> {
        let mut believed = self.believed.lock();
        if *believed != offset {
            host::lseek(self.fd, offset as i64, raw::SEEK_SET)?;
            *believed = offset;
        }
        let count = transfer()?;
        *believed = offset.saturating_add(count as u64);
        Ok(count)
    }

    fn read_span(&self, span: Span) -> Result<usize> {
        if self.kind == Kind::Regular {
            host::read(self.fd, span)
        } else {
            host::read_interruptible(self.fd, span)
        }
    }

    fn write_span(&self, file: &OpenFile, span: Span) -> Result<usize> {
        match self.kind {
            Kind::Regular => host::write(self.fd, span),
            _ if file.nonblocking() && self.watch.is_some() => {
                let length = span.length.min(PIPE_BUF);
                host::write_interruptible(self.fd, Span { length, ..span })
            }
            _ => host::write_interruptible(self.fd, span),
        }
    }
}

impl Drop for HostStream {
    fn drop(&mut self) {
        match &self.watch {
            _ if !self.closes => {}
            Some(watch) => watch.close(),
            None => {
                let _ = host::close(self.fd);
            }
        }
    }
}

impl FileOps for HostStream {
    fn as_any(&self) -> &dyn Any {
        self
    }

    /// The same host description: the host's `/proc` is out of reach, so there is no other to be had.
    fn reopen(&self, _flags: u32) -> Result<Arc<dyn FileOps>> {
        self.this.upgrade().map(|this| this as Arc<dyn FileOps>).ok_or(Errno::ENXIO)
    }

    fn read_at(&self, file: &OpenFile, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        let mut done = 0;
        while sink.left() > 0
            && let Some(span) = sink.span()
        {
            let span = Span { length: span.length.min(sink.left() as u64), ..span };
            let result = if self.kind == Kind::Regular {
                self.positioned(offset.saturating_add(done as u64), || self.read_span(span))
            } else {
                self.stream(file, PollEvents::IN, || self.read_span(span))
            };
            match result {
                Ok(count) => {
                    sink.advance(count);
                    done += count;
                    // A stream that gave something is not asked again if that could block.
                    let full = count as u64 == span.length;
                    if !full
                        || (self.kind != Kind::Regular
                            && !self.ready(PollEvents::IN).contains(PollEvents::IN))
                    {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn write_at(&self, file: &OpenFile, offset: u64, source: &mut Source<'_>) -> Result<usize> {
        let mut done = 0;
        while source.left() > 0
            && let Some(span) = source.span()
        {
            let span = Span { length: span.length.min(source.left() as u64), ..span };
            let result = if self.kind == Kind::Regular {
                self.positioned(offset.saturating_add(done as u64), || self.write_span(file, span))
            } else {
                self.stream(file, PollEvents::OUT, || self.write_span(file, span))
            };
            match result {
                // The host's signal is ignored inside; the program's own is raised by write(2).
                Ok(0) => break,
                Ok(count) => {
                    source.advance(count);
                    done += count;
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn append(&self, file: &OpenFile, source: &mut Source<'_>) -> Result<(usize, u64)> {
        if self.kind != Kind::Regular {
            return self.write_at(file, 0, source).map(|done| (done, 0));
        }
        let mut believed = self.believed.lock();
        if !self.appends {
            // `O_APPEND` was set inside. The filter has no call that would append for us.
            host::lseek(self.fd, 0, raw::SEEK_END)?;
        }
        let mut done = 0;
        while source.left() > 0
            && let Some(span) = source.span()
        {
            let span = Span { length: span.length.min(source.left() as u64), ..span };
            match host::write(self.fd, span) {
                Ok(count) => {
                    source.advance(count);
                    done += count;
                    if (count as u64) < span.length {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        *believed = host::lseek(self.fd, 0, raw::SEEK_CUR)?;
        Ok((done, *believed))
    }

    fn seekable(&self) -> bool {
        self.kind == Kind::Regular
    }

    fn seek(&self, position: u64, offset: i64, whence: u32) -> Result<u64> {
        if self.kind != Kind::Regular {
            return Err(Errno::ESPIPE);
        }
        let mut believed = self.believed.lock();
        // The host's offset is the truth while the caller has not been elsewhere.
        let position = if position == *believed { host::lseek(self.fd, 0, raw::SEEK_CUR)? } else { position };
        let find = |start| host::lseek(self.fd, start as i64, whence);
        let to = seek_in((position, offset, whence), || Ok(self.attributes()?.size), find)?;
        host::lseek(self.fd, to as i64, raw::SEEK_SET)?;
        *believed = to;
        Ok(to)
    }

    fn poll(&self, table: &mut PollTable) -> PollEvents {
        let Some(watch) = &self.watch else { return PollEvents::READABLE | PollEvents::WRITABLE };
        watch.poll(table)
    }

    fn pollable(&self) -> bool {
        self.watch.is_some()
    }

    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> Result<u64> {
        if let Some(terminal) = &self.terminal {
            return terminal.ioctl(self.fd, command, argument);
        }
        Err(Errno::ENOTTY)
    }

    fn attributes(&self) -> Result<Attributes> {
        let now = host::statx(self.fd, c"", raw::AT_EMPTY_PATH, stat::MASK)?;
        Ok(stat::attributes(&now, &self.ids))
    }

    fn set_attributes(&self, _change: &crate::attributes::AttributeChange) -> Result<()> {
        // What belongs to the outside is written to and stays as it is otherwise: the filter allows no more.
        Err(Errno::EPERM)
    }

    fn mappable(&self, _file: &OpenFile) -> Result<Arc<dyn Mappable>> {
        if self.kind != Kind::Regular {
            return Err(Errno::ENODEV);
        }
        Ok(Arc::new(StreamMapping(self.this.upgrade().ok_or(Errno::EBADF)?)))
    }

    fn sync(&self, _data_only: bool) -> Result<()> {
        // What was written is the host's; the filter has no call to have it put on the disk without a writable mount.
        if self.kind == Kind::Regular { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn allocate(&self, _mode: u32, _offset: u64, _length: u64) -> Result<()> {
        match self.kind {
            Kind::Regular => Err(Errno::EOPNOTSUPP),
            Kind::Fifo => Err(Errno::ESPIPE),
            _ => Err(Errno::ENODEV),
        }
    }

    fn describe(&self) -> String {
        name(self.kind, self.id.1, self.rdev)
    }
}

/// Text for `/proc/PID/fd`: what the descriptor would be called inside.
fn name(kind: Kind, ino: u64, rdev: u64) -> String {
    let (major, minor) = ((rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xff_ff00));
    match (kind, major) {
        (Kind::Fifo, _) => format!("pipe:[{ino}]"),
        (Kind::Socket, _) => format!("socket:[{ino}]"),
        (Kind::CharDevice, 136..=143) => format!("/dev/pts/{}", (major - 136) * 256 + minor),
        (Kind::CharDevice, 1) if minor == 3 => "/dev/null".into(),
        (Kind::CharDevice, 1) if minor == 5 => "/dev/zero".into(),
        (Kind::CharDevice, 5) if minor == 0 => "/dev/tty".into(),
        (Kind::CharDevice, 4) => format!("/dev/tty{minor}"),
        (Kind::CharDevice, _) => "/dev/console".into(),
        // Its name outside is nobody's business inside.
        _ => format!("host:[{ino}]"),
    }
}

/// A mapping of a regular file among them.
struct StreamMapping(Arc<HostStream>);

impl Mappable for StreamMapping {
    fn backing(&self, offset: u64, length: u64, _shared: bool, _writable: bool) -> Result<Backing> {
        Ok(Backing::Host { fd: self.0.fd, offset, length: length.next_multiple_of(PAGE_SIZE) })
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        (self.0.id.0, self.0.id.1, self.0.describe().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::device;

    #[test]
    fn descriptors_are_called_what_linux_calls_them() {
        assert_eq!(name(Kind::Fifo, 42, 0), "pipe:[42]");
        assert_eq!(name(Kind::CharDevice, 5, device(136, 7)), "/dev/pts/7");
        assert_eq!(name(Kind::CharDevice, 5, device(137, 1)), "/dev/pts/257");
        assert_eq!(name(Kind::CharDevice, 5, device(136, 300)), "/dev/pts/300");
        assert_eq!(name(Kind::CharDevice, 5, device(1, 3)), "/dev/null");
    }
}
