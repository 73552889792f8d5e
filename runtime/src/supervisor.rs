//! Watches a running sandbox: passes signals in, takes its messages, and says how it ended.
//!
//! Messages come from inside and are hostile: their size is bounded, what does not decode ends the sandbox, and text is
//! shown without control characters. Nothing that the inside does, or leaves undone, keeps the caller's signals from ending
//! it: a sandbox that does not take its messages, or closes the socket and goes on, is killed.

mod end;

use crate::entrance::Entrance;
use crate::footprint;
use crate::inherited;
use crate::launch::Launched;
use crate::terminal::{self, Terminal};
use boundary::control::{FIRST, MAX_MESSAGE, ToSandbox};
pub use end::End;
pub(crate) use end::{end_of, harmless_name};
use end::{not_allowed, read, said, unexplained};
use libseccomp::ScmpNotifReq;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Signals that are passed in.
const FORWARDED: &[Signal] =
    &[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// How long the sandbox may take over a message, and over its end after it has closed the control socket; and how close
/// together two requests to end it are an order.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the program has after Ctrl-C.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// Blocks the signals that [`watch`] takes, so that none is lost between the launch and it. A signal that the caller ignores
/// (nohup(1), background jobs) stays ignored: a blocked one would be queued all the same.
///
/// With a terminal to give back (`terminal`) also the one that stops us.
pub fn block_signals(terminal: bool) -> nix::Result<SigSet> {
    // An ignored SIGCHLD would not tell of the warden's end (wait(2)).
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed.
    unsafe { sigaction(Signal::SIGCHLD, &default)? };
    let mut set = SigSet::empty();
    let ignored = inherited::ignored_signals();
    for signal in FORWARDED {
        if ignored & 1 << (*signal as i32 - 1) == 0 {
            set.add(*signal);
        }
    }
    set.add(Signal::SIGCHLD);
    set.add(Signal::SIGWINCH);
    if terminal {
        set.add(Signal::SIGTSTP);
    }
    set.thread_block()?;
    Ok(set)
}

/// Watches until the sandbox has ended and nothing of it is left.
///
/// With a `terminal` it also passes on what is typed and shown; the terminal has its modes back afterwards. Through an `entrance`
/// other processes come in.
pub fn watch(
    launched: Launched,
    signals: &SigSet,
    mut terminal: Option<Terminal>,
    mut entrance: Option<Entrance>,
) -> anyhow::Result<End> {
    let (pid, walls) = (Pid::from_raw(launched.pid), launched.walls);
    let watched = SignalFd::with_flags(signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(anyhow::Error::from)
        .and_then(|signal_fd| Watch::new(&launched, terminal.as_mut(), entrance.as_mut()).run(&signal_fd));
    if watched.is_err() {
        // Without a supervisor there is no sandbox.
        walls.end(pid);
    }
    let killed_by = walls.reap(pid);
    if let Some(terminal) = terminal {
        terminal.finish();
    }
    Ok(watched?.unwrap_or_else(|| unexplained(killed_by)))
}

/// Ends a sandbox that cannot be watched.
pub fn end(launched: &Launched) {
    let pid = Pid::from_raw(launched.pid);
    launched.walls.end(pid);
    let _ = launched.walls.reap(pid);
}

struct Watch<'a> {
    launched: &'a Launched,
    /// The caller's terminal, if it is passed on.
    terminal: Option<&'a mut Terminal>,
    /// Where processes come in.
    entrance: Option<&'a mut Entrance>,
    pid: Pid,
    /// The socket is open; a closed one is readable for ever.
    open: bool,
    /// The filter's listener, as long as there is something to hear.
    listener: Option<&'a OwnedFd>,
    /// What the sandbox said of its end.
    end: Option<End>,
    /// When patience ends: a message is not taken yet, or the socket was closed.
    deadline: Option<(Instant, End)>,
    /// The last request to end.
    asked: Option<(Signal, Instant)>,
    /// When it ends, whatever it says: Ctrl-C was typed.
    ends_at: Option<(Instant, End)>,
    /// Let go of before the first wait.
    pages: footprint::Pages,
    waited: bool,
}

impl<'a> Watch<'a> {
    fn new(
        launched: &'a Launched,
        terminal: Option<&'a mut Terminal>,
        entrance: Option<&'a mut Entrance>,
    ) -> Watch<'a> {
        Watch {
            launched,
            terminal,
            entrance,
            pid: Pid::from_raw(launched.pid),
            open: true,
            listener: launched.listener.as_ref(),
            end: None,
            deadline: None,
            asked: None,
            ends_at: None,
            pages: footprint::Pages::of_command(),
            waited: false,
        }
    }

    /// Until the warden has ended, or was killed; what is known of the reason.
    fn run(mut self, signal_fd: &SignalFd) -> anyhow::Result<Option<End>> {
        footprint::trim_heap();
        loop {
            self.wait(signal_fd)?;
            self.hear();
            if self.open {
                self.receive();
            }
            if let Some(entrance) = &mut self.entrance {
                entrance.serve(self.launched.control.as_fd());
            }
            if self.terminal.as_mut().is_some_and(|terminal| terminal.serve()) {
                self.tell(&ToSandbox::TerminalGone { process: FIRST });
            }
            while let Ok(Some(info)) = signal_fd.read_signal() {
                if let Ok(signal) = Signal::try_from(info.ssi_signo as i32) {
                    // Nobody but a terminal sends signals as the kernel.
                    self.signalled(signal, info.ssi_code == libc::SI_KERNEL);
                }
            }
            if self.has_ended() {
                while self.open && self.receive() {}
                return Ok(self.end);
            }
            self.check_patience();
        }
    }

    fn wait(&mut self, signal_fd: &SignalFd) -> anyhow::Result<()> {
        let control = if self.open { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut fds = vec![PollFd::new(signal_fd.as_fd(), PollFlags::POLLIN)];
        // A closed socket is always ready (POLLHUP): left out, or this would spin.
        if self.open {
            fds.push(PollFd::new(self.launched.control.as_fd(), control));
        }
        if let Some(listener) = self.listener {
            fds.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        }
        let terminal = self.terminal.as_ref().map(|terminal| terminal.interests()).unwrap_or_default();
        fds.extend(terminal.into_iter().map(|(fd, events)| PollFd::new(fd, events)));
        let entrance = self.entrance.iter().flat_map(|entrance| entrance.interests());
        fds.extend(entrance.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let deadlines = [&self.deadline, &self.ends_at];
        let timeout = match deadlines.into_iter().flatten().map(|(at, _)| at).min() {
            Some(at) => {
                let rest = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        if !std::mem::replace(&mut self.waited, true) {
            self.pages.release();
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the filter has stopped a call: that ends the sandbox. What is reported comes from the host. The call is never
    /// answered, and so never made, but for those that the supervisor makes itself ([`crate::attributes`]).
    fn hear(&mut self) {
        let Some(listener) = self.listener else { return };
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if !poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
            return;
        }
        let called = fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN));
        let call = called.then(|| ScmpNotifReq::receive(listener.as_raw_fd()));
        match (&call, &self.launched.door) {
            (Some(Ok(call)), Some(door)) if door.serve(listener, call) => return,
            // It was interrupted, and asks again if it lives.
            (Some(Err(_)), Some(_)) => return,
            _ => {}
        }
        // Without a call it is the end of the last process, for ever readable.
        self.listener = None;
        if let Some(call) = call {
            let end = match call {
                Ok(call) => End::Failed(not_allowed(&call)),
                // The process was killed meanwhile; nobody else could have been.
                Err(_) => End::Failed("it made a host call that its filter does not allow".into()),
            };
            // It counts more than anything that the inside may have said.
            self.end = None;
            self.kill(end);
        }
    }

    /// Takes one message, if there is one.
    fn receive(&mut self) -> bool {
        let mut bytes = vec![0u8; MAX_MESSAGE + 1];
        let length = match recv(self.launched.control.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN | Errno::EINTR) => return false,
            Ok(0) | Err(_) => {
                // It is about to end, as it should be; or it goes on unwatched, which it must not.
                self.open = false;
                let end = End::Failed("it closed its control socket and went on".into());
                self.deadline = Some((Instant::now() + PATIENCE, end));
                return false;
            }
            Ok(length) => length,
        };
        let message = read(bytes.get(..length).unwrap_or_default());
        let new = match said(message.as_ref()) {
            // A kernel that reports has ended, and one that cannot speak is none: nothing of the sandbox may go on.
            Some(failed @ End::Failed(_)) => return self.kill(failed),
            Some(end) => end,
            None => match (&mut self.entrance, &message) {
                (Some(entrance), Some(message)) => {
                    entrance.told(message);
                    return true;
                }
                // Nobody has entered.
                _ => return self.kill(End::Failed("it sent a message that makes no sense".into())),
            },
        };
        // The first word counts: a program that cannot be executed also exits. The warden ends after it.
        if self.end.is_none() {
            self.deadline = Some((Instant::now() + PATIENCE, new.clone()));
        }
        self.end.get_or_insert(new);
        true
    }

    /// Ends every process of the sandbox, for this reason if there is none yet. Says that a message was taken.
    fn kill(&mut self, end: End) -> bool {
        self.launched.walls.end(self.pid);
        self.end.get_or_insert(end);
        self.deadline = None;
        true
    }

    fn signalled(&mut self, signal: Signal, by_terminal: bool) {
        match signal {
            Signal::SIGCHLD => {}
            Signal::SIGWINCH => {
                self.tell(&ToSandbox::WindowChanged { process: FIRST, size: terminal::size() });
            }
            Signal::SIGTSTP => {
                if let Some(terminal) = &self.terminal {
                    terminal.suspend();
                    self.tell(&ToSandbox::WindowChanged { process: FIRST, size: terminal::size() });
                }
            }
            Signal::SIGHUP if self.terminal.is_some() => {
                self.tell(&ToSandbox::TerminalGone { process: FIRST });
            }
            // Ctrl-C, from a terminal that the sandbox has no own one in place of: what runs gets a moment to put its things
            // in order, and no more.
            Signal::SIGINT if by_terminal => {
                let end = End::Signalled(signal as u8);
                if self.asked.is_some() || !self.tell(&ToSandbox::Key { number: signal as i32 }) {
                    self.kill(end);
                } else {
                    let now = Instant::now();
                    self.asked = Some((signal, now));
                    self.ends_at = Some((now + LAST_MOMENT, end));
                }
            }
            _ => {
                let end = End::Signalled(signal as u8);
                let ending = matches!(signal, Signal::SIGINT | Signal::SIGTERM);
                if ending && self.is_order(signal) {
                    self.kill(end);
                    return;
                }
                let taken = self.tell(&ToSandbox::Signal { process: FIRST, number: signal as i32 });
                if ending {
                    let now = Instant::now();
                    self.asked = Some((signal, now));
                    // No reaction is a message that stays in the socket, not a program that takes its time to end.
                    if self.end.is_none() && self.open {
                        self.deadline.get_or_insert((now + PATIENCE, end.clone()));
                    }
                    if !taken {
                        self.kill(end);
                    }
                }
            }
        }
    }

    /// Whether this request to end is the second within a moment.
    fn is_order(&self, signal: Signal) -> bool {
        self.asked.is_some_and(|(last, at)| last == signal && at.elapsed() < PATIENCE)
    }

    fn check_patience(&mut self) {
        if let Some((at, end)) = &self.ends_at
            && *at <= Instant::now()
        {
            let end = end.clone();
            self.ends_at = None;
            self.kill(end);
        }
        let Some((at, end)) = &self.deadline else { return };
        // Only a request that waits for its message to be taken can be met this way.
        if self.open && self.end.is_none() && self.all_taken() {
            self.deadline = None;
        } else if *at <= Instant::now() {
            let end = end.clone();
            self.kill(end);
        }
    }

    /// False if the sandbox does not take messages any more: the socket is full.
    fn tell(&mut self, message: &ToSandbox) -> bool {
        let Ok(bytes) = postcard::to_allocvec(message) else { return true };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        !matches!(send(self.launched.control.as_raw_fd(), &bytes, flags), Err(Errno::EAGAIN))
    }

    /// Whether the sandbox has taken every message sent to it (unix(7), `SIOCOUTQ`).
    fn all_taken(&self) -> bool {
        let mut bytes: libc::c_int = 0;
        // SAFETY: writes one int that is ours.
        let result = unsafe { libc::ioctl(self.launched.control.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
        result == 0 && bytes == 0
    }

    /// Whether the warden has ended; leaves it to be waited for.
    fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(waitid(Id::Pid(self.pid), flags), Ok(WaitStatus::StillAlive))
    }
}
