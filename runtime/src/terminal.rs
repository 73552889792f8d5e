//! The caller's terminal (`--tty`): put into raw mode and passed on, byte by byte, to the terminal that the sandbox has of its
//! own. Nothing of the sandbox holds the caller's terminal, and what comes from inside is only ever written to it.
//!
//! However the sandbox or this process ends, the terminal gets its modes back: a small process of its own, the watcher, waits for
//! that and restores them if this process could not.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{ForkResult, Pid, fork, pipe, setpgid};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Bytes that wait for the other side at most, in each direction.
const WAITING: usize = 64 << 10;
/// Bytes that pass at once.
const PIECE: usize = 4096;
/// Bytes that a terminal takes at once when it says that it is ready.
const SMALL: usize = 256;

/// Rows, columns and the size in pixels.
pub type Size = [u16; 4];

/// The size of the window that any of the standard descriptors is; 24 lines of 80 columns where none is one.
pub fn size() -> Size {
    let of = |fd: i32| {
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the call fills the structure.
        let done = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &mut size) } == 0;
        (done && size.ws_row > 0).then_some([size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel])
    };
    [0, 1, 2].into_iter().find_map(of).unwrap_or([24, 80, 0, 0])
}

/// The two ends of the way between the caller's terminal and the sandbox's. Neither blocks.
pub fn socket() -> nix::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socketpair(AddressFamily::Unix, SockType::Stream, None, flags)
}

/// What was changed of the caller's terminal, and who gives it back.
struct Raw {
    saved: Termios,
    watcher: Pid,
    /// A byte in it tells the watcher that there is nothing to do.
    done: OwnedFd,
}

impl Raw {
    /// Starts the watcher, then changes the modes. `None` if the standard input is no terminal.
    fn start() -> nix::Result<Option<Raw>> {
        let Ok(saved) = tcgetattr(std::io::stdin()) else { return Ok(None) };
        let (watched, done) = pipe()?;
        // SAFETY: this process has one thread; the child uses only calls that are safe after a fork.
        let watcher = match unsafe { fork() }? {
            ForkResult::Child => watch_over(&watched, done, &saved),
            ForkResult::Parent { child } => child,
        };
        let raw = Raw { saved, watcher, done };
        raw.enter()?;
        Ok(Some(raw))
    }

    fn enter(&self) -> nix::Result<()> {
        let mut modes = self.saved.clone();
        cfmakeraw(&mut modes);
        tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &modes)
    }

    fn leave(&self) {
        let _ = restore(&self.saved);
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.leave();
        let _ = nix::unistd::write(&self.done, b"d");
        let _ = nix::sys::wait::waitpid(self.watcher, None);
    }
}

/// Also from the background, where the signal for it would stop us.
fn restore(modes: &Termios) -> nix::Result<()> {
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGTTOU);
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&blocked), Some(&mut before))?;
    let outcome = tcsetattr(std::io::stdin(), SetArg::TCSANOW, modes);
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    outcome
}

/// The watcher: out of reach of the keyboard's signals, it holds nothing but the terminal and the pipe, whose end it waits for.
fn watch_over(watched: &OwnedFd, done: OwnedFd, saved: &Termios) -> ! {
    drop(done);
    let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
    let keep = watched.as_raw_fd() as u32;
    for (first, last) in [(1, keep.saturating_sub(1)), (keep + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: nothing refers to these descriptors any more in this process.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
    let mut byte = [0u8; 1];
    let told = loop {
        match nix::unistd::read(watched, &mut byte) {
            Err(Errno::EINTR) => {}
            other => break matches!(other, Ok(1)),
        }
    };
    if !told {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, saved);
    }
    // SAFETY: ends this process without running what its parent has registered.
    unsafe { libc::_exit(0) }
}

/// The caller's terminal while a sandbox runs on it.
pub struct Terminal {
    socket: OwnedFd,
    raw: Option<Raw>,
    input: End,
    output: End,
    /// Typed, on the way in.
    typed: VecDeque<u8>,
    /// From inside, on the way out.
    shown: VecDeque<u8>,
    /// The caller's input is at its end.
    input_ended: bool,
    /// The sandbox has closed its end, or the caller's terminal takes no more.
    output_ended: bool,
}

/// One of the caller's standard descriptors. Terminals and pipes are opened again, so that they need not block for us and
/// still do for everybody else who has them.
struct End {
    file: std::fs::File,
    /// It could not be opened again (the terminal of another user, after su(1)): each use may block, and is made only when poll(2)
    /// says that it will not.
    blocks: bool,
}

impl End {
    fn of(fd: BorrowedFd<'_>, access: OFlag) -> nix::Result<End> {
        let kind = SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        if (kind == SFlag::S_IFCHR || kind == SFlag::S_IFIFO)
            && let Ok(again) = open(path.as_str(), flags, Mode::empty())
        {
            return Ok(End { file: again.into(), blocks: false });
        }
        Ok(End { file: nix::unistd::dup(fd)?.into(), blocks: true })
    }

    /// Whether it can be used now.
    fn is_ready(&self, events: PollFlags) -> bool {
        let mut fds = [PollFd::new(self.file.as_fd(), events)];
        !self.blocks || poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        if self.is_ready(PollFlags::POLLIN) {
            self.file.read(bytes)
        } else {
            Err(ErrorKind::WouldBlock.into())
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = if self.blocks { SMALL } else { bytes.len() };
        let piece = bytes.get(..room).unwrap_or(bytes);
        if self.is_ready(PollFlags::POLLOUT) {
            self.file.write(piece)
        } else {
            Err(ErrorKind::WouldBlock.into())
        }
    }
}

impl Terminal {
    /// Takes the terminal over; `socket` leads to the sandbox.
    pub fn take(socket: OwnedFd) -> anyhow::Result<Terminal> {
        use anyhow::Context;
        let input = End::of(std::io::stdin().as_fd(), OFlag::O_RDONLY).context("standard input")?;
        let output = End::of(std::io::stdout().as_fd(), OFlag::O_WRONLY).context("standard output")?;
        let raw = Raw::start().context("the terminal's modes")?;
        Ok(Terminal {
            socket,
            raw,
            input,
            output,
            typed: VecDeque::new(),
            shown: VecDeque::new(),
            input_ended: false,
            output_ended: false,
        })
    }

    /// What to wait for: descriptors and events.
    pub fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let mut socket = PollFlags::empty();
        socket.set(PollFlags::POLLIN, !self.output_ended && self.shown.len() < WAITING);
        socket.set(PollFlags::POLLOUT, !self.typed.is_empty());
        let mut interests = Vec::new();
        if !socket.is_empty() {
            interests.push((self.socket.as_fd(), socket));
        }
        if !self.input_ended && self.typed.len() < WAITING {
            interests.push((self.input.file.as_fd(), PollFlags::POLLIN));
        }
        if !self.shown.is_empty() {
            interests.push((self.output.file.as_fd(), PollFlags::POLLOUT));
        }
        interests
    }

    /// Passes on what there is. True when the caller's terminal has gone.
    pub fn serve(&mut self) -> bool {
        let mut gone = false;
        let mut piece = [0u8; PIECE];
        if !self.input_ended && self.typed.len() < WAITING {
            match self.input.read(&mut piece) {
                Ok(0) => self.input_ended = true,
                Ok(count) => self.typed.extend(piece.iter().take(count)),
                Err(error) if would_wait(&error) => {}
                Err(_) => (self.input_ended, gone) = (true, true),
            }
        }
        while !self.typed.is_empty() {
            match nix::unistd::write(&self.socket, self.typed.as_slices().0) {
                Ok(count) => drop(self.typed.drain(..count)),
                Err(Errno::EAGAIN | Errno::EINTR) => break,
                Err(_) => self.typed.clear(),
            }
        }
        if self.input_ended && self.typed.is_empty() && !gone {
            // SAFETY: a socket of ours. Repeating it does no harm.
            unsafe { libc::shutdown(self.socket.as_raw_fd(), libc::SHUT_WR) };
        }
        self.show();
        gone
    }

    /// Passes output on; whether any came.
    fn show(&mut self) -> bool {
        let mut piece = [0u8; PIECE];
        let mut came = false;
        if !self.output_ended && self.shown.len() < WAITING {
            match nix::unistd::read(&self.socket, &mut piece) {
                Ok(0) => self.output_ended = true,
                Ok(count) => {
                    self.shown.extend(piece.iter().take(count));
                    came = true;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => self.output_ended = true,
            }
        }
        while !self.shown.is_empty() {
            match self.output.write(self.shown.as_slices().0) {
                Ok(count) => drop(self.shown.drain(..count)),
                Err(error) if would_wait(&error) => break,
                Err(_) => {
                    self.shown.clear();
                    self.output_ended = true;
                }
            }
        }
        came
    }

    /// The sandbox has ended: shows its last words, unless the terminal does not take them within a moment.
    pub fn finish(mut self) {
        let patience = std::time::Duration::from_secs(2);
        let mut last = std::time::Instant::now();
        while (!self.output_ended || !self.shown.is_empty()) && last.elapsed() < patience {
            let before = self.shown.len();
            if self.show() || self.shown.len() != before {
                last = std::time::Instant::now();
            } else {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
    }

    /// The caller stops us (SIGTSTP): its terminal has its own modes while we are stopped.
    pub fn suspend(&self) {
        if let Some(raw) = &self.raw {
            raw.leave();
        }
        let _ = nix::sys::signal::raise(Signal::SIGSTOP);
        if let Some(raw) = &self.raw {
            let _ = raw.enter();
        }
    }
}

fn would_wait(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
