//! The client of [`crate::entrance`]: enters a running sandbox with a process, and watches that.

use crate::entrance::{Received, Reply, Request, receive, send_with};
use crate::supervisor::{self, End};
use crate::terminal::{self, Terminal};
use boundary::control::Standard;
use boundary::process::{Container, MAX_PROCESS, Process};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde::Serialize;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// Standard files of the process.
pub enum Files<'a> {
    /// Descriptors as they are; `None` where one is closed.
    Standard([Option<BorrowedFd<'a>>; 3]),
    /// A terminal of its own, passed on through this end of [`terminal::socket`].
    Terminal(OwnedFd),
}

/// A process that has entered.
pub struct Attached {
    socket: OwnedFd,
}

fn connection(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// Starts `process` in the sandbox whose entrance listens at `path`, in a container of its pod if one is named. [`Attached::started`]
/// says whether that could be done.
pub fn enter(
    path: &Path,
    container: Option<&str>,
    process: &Process,
    files: Files<'_>,
) -> io::Result<Attached> {
    let (file, length) = memory_file(process)?;
    let mut descriptors = vec![file.as_fd()];
    let standard = standard_of(&files, &mut descriptors)?;
    let socket = connection(path)?;
    let container = container.map(str::to_owned);
    send_with(socket.as_fd(), &Request::Enter { length, standard, container }, &descriptors)?;
    Ok(Attached { socket })
}

/// Has a container join the pod's sandbox whose entrance listens at `path`. `tree` is the directory that its mounts' host paths are
/// below. It ends with its first process, for which [`Attached`] stands.
pub fn contain(
    path: &Path,
    name: &str,
    container: &Container,
    tree: BorrowedFd<'_>,
    files: Files<'_>,
) -> io::Result<Attached> {
    let (file, length) = memory_file(container)?;
    let mut descriptors = vec![file.as_fd(), tree];
    let standard = standard_of(&files, &mut descriptors)?;
    let socket = connection(path)?;
    let request = Request::Contain { container: name.to_owned(), length, standard };
    send_with(socket.as_fd(), &request, &descriptors)?;
    Ok(Attached { socket })
}

/// A memory file with what a process starts with, and how long that is.
fn memory_file(content: &impl Serialize) -> io::Result<(OwnedFd, u64)> {
    let encoded = postcard::to_allocvec(content).map_err(io::Error::other)?;
    let length = encoded.len() as u64;
    if length > MAX_PROCESS {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    let file = memfd_create(c"process", MFdFlags::MFD_CLOEXEC)?;
    std::fs::File::from(file.try_clone()?).write_all(&encoded)?;
    Ok((file, length))
}

/// Adds the descriptors of standard files.
fn standard_of<'f>(files: &'f Files<'f>, descriptors: &mut Vec<BorrowedFd<'f>>) -> io::Result<Standard> {
    Ok(match files {
        Files::Terminal(socket) => {
            descriptors.push(socket.as_fd());
            Standard::Terminal { size: terminal::size() }
        }
        Files::Standard(fds) => {
            descriptors.extend(fds.iter().flatten());
            let mut flags = [None; 3];
            for (slot, fd) in flags.iter_mut().zip(fds) {
                *slot = fd.map(|fd| fcntl(fd, FcntlArg::F_GETFL)).transpose()?.map(|flags| flags as u32);
            }
            Standard::Files { flags }
        }
    })
}

/// Sends a signal to the first process of a container (`None`: the sandbox's own), or to `all` of it.
pub fn signal(path: &Path, container: Option<&str>, number: i32, all: bool) -> io::Result<()> {
    let container = container.map(str::to_owned);
    ask(
        path,
        &if all { Request::SignalAll { number, container } } else { Request::Signal { number, container } },
    )
}

/// Lets the first process execute its program, if it waits for that (`BootOptions::held`).
pub fn go(path: &Path) -> io::Result<()> {
    ask(path, &Request::Go)
}

/// Sets how many tasks the sandbox may have, and waits until it was told, unless it cannot be now.
pub fn limit_tasks(path: &Path, limit: u32, wait: bool) -> io::Result<()> {
    let request = Request::Tasks { limit };
    if wait { ask(path, &request) } else { say(path, &request).map(drop) }
}

fn say(path: &Path, request: &Request) -> io::Result<OwnedFd> {
    let socket = connection(path)?;
    send_with::<_>(socket.as_fd(), request, &[] as &[OwnedFd])?;
    Ok(socket)
}

fn ask(path: &Path, request: &Request) -> io::Result<()> {
    let socket = say(path, request)?;
    match next(socket.as_fd(), None)? {
        Some(Reply::Busy) => Err(io::Error::from_raw_os_error(libc::EAGAIN)),
        Some(Reply::Unknown) => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        _ => Ok(()),
    }
}

/// Waits for a reply; `None` when the sandbox has ended. `ETIMEDOUT` if none comes before `end`.
fn next(socket: BorrowedFd<'_>, end: Option<Instant>) -> io::Result<Option<Reply>> {
    loop {
        match receive(socket)? {
            Received::Message(reply, _) => return Ok(Some(reply)),
            Received::End => return Ok(None),
            Received::Nothing => {}
        }
        let timeout = match end.map(|end| end.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
            // Rounded up, so as not to look again and again in the last millisecond.
            Some(rest) => PollTimeout::try_from(rest + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        match poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The end of a process whose sandbox has ended without a word.
const LOST: End = End::Signalled(libc::SIGKILL as u8);

fn end_of(reply: Reply) -> Option<End> {
    match reply {
        Reply::Exited { status } => Some(supervisor::end_of(status)),
        Reply::NotExecuted { errno, what } => Some(End::NotExecuted(errno, supervisor::harmless_name(&what))),
        Reply::Started | Reply::Done | Reply::Busy | Reply::Unknown => None,
    }
}

impl Attached {
    /// Waits until the program runs. Otherwise how it ended before that.
    pub fn started(&self) -> io::Result<Result<(), End>> {
        loop {
            match next(self.socket.as_fd(), None)? {
                Some(Reply::Started) => return Ok(Ok(())),
                Some(reply) => {
                    if let Some(end) = end_of(reply) {
                        return Ok(Err(end));
                    }
                }
                None => return Ok(Err(LOST)),
            }
        }
    }

    /// Waits until the process has ended. `ETIMEDOUT` if it has not before `end`: it is killed then, as always when nobody attends
    /// to it any more.
    pub fn end(self, end: Option<Instant>) -> io::Result<End> {
        loop {
            match next(self.socket.as_fd(), end)? {
                Some(reply) => {
                    if let Some(end) = end_of(reply) {
                        return Ok(end);
                    }
                }
                None => return Ok(LOST),
            }
        }
    }

    /// Passes signals in (those of [`supervisor::block_signals`]), and what is typed and shown on `terminal`, until the process has
    /// ended.
    pub fn watch(self, signals: &SigSet, mut terminal: Option<Terminal>) -> anyhow::Result<End> {
        let signal_fd = SignalFd::with_flags(signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let end = loop {
            match receive(self.socket.as_fd())? {
                Received::Message(reply, _) => match end_of(reply) {
                    Some(end) => break end,
                    None => continue,
                },
                Received::End => break LOST,
                Received::Nothing => {}
            }
            if terminal.as_mut().is_some_and(Terminal::serve) {
                self.say(&Request::TerminalGone);
            }
            while let Ok(Some(info)) = signal_fd.read_signal() {
                match Signal::try_from(info.ssi_signo as i32) {
                    Ok(Signal::SIGWINCH) => self.say(&Request::Window { size: terminal::size() }),
                    Ok(Signal::SIGCHLD | Signal::SIGTSTP) | Err(_) => {}
                    Ok(Signal::SIGHUP) if terminal.is_some() => self.say(&Request::TerminalGone),
                    Ok(signal) => self.say(&Request::Signal { number: signal as i32, container: None }),
                }
            }
            let mut fds = vec![
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(signal_fd.as_fd(), PollFlags::POLLIN),
            ];
            let interests = terminal.as_ref().map(Terminal::interests).unwrap_or_default();
            fds.extend(interests.into_iter().map(|(fd, events)| PollFd::new(fd, events)));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        if let Some(terminal) = terminal {
            terminal.finish();
        }
        Ok(end)
    }

    fn say(&self, request: &Request) {
        // A sandbox that takes nothing more is about to end.
        let _ = send_with(self.socket.as_fd(), request, &[] as &[OwnedFd]);
    }
}
