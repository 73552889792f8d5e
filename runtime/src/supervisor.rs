//! Watches a running sandbox: passes signals in, takes its messages, and says how it ended.
//!
//! Messages come from inside and are hostile: their size is bounded, what does not decode ends the sandbox, and text is
//! shown without control characters.

use crate::launch::Launched;
use boundary::control::{FromSandbox, MAX_MESSAGE, ToSandbox};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// How a sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The program exited with this code.
    Exited(u8),
    /// The program died of this signal.
    Signalled(u8),
    /// The program could not be executed: error number and its path.
    NotExecuted(i32, String),
    /// The sandbox itself failed: a report for people.
    Failed(String),
}

/// Signals that are passed in.
const FORWARDED: &[Signal] = &[
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// How long the program may take over SIGTERM or SIGINT before a second one ends the sandbox.
const PATIENCE: Duration = Duration::from_secs(2);

/// Blocks the forwarded signals, so that none is lost between the launch and [`watch`].
pub fn block_signals() -> nix::Result<SigSet> {
    let mut set = SigSet::empty();
    for signal in FORWARDED {
        set.add(*signal);
    }
    set.add(Signal::SIGCHLD);
    set.add(Signal::SIGWINCH);
    set.thread_block()?;
    Ok(set)
}

/// Watches until the sandbox has ended and nothing of it is left.
pub fn watch(launched: Launched, signals: &SigSet) -> anyhow::Result<End> {
    let signal_fd = SignalFd::with_flags(signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let pid = Pid::from_raw(launched.pid);
    let mut failure = String::new();
    (&launched.failure).take(64 << 10).read_to_string(&mut failure)?;
    let mut end = (!failure.is_empty()).then_some(End::Failed(failure));
    let mut stopping: Option<Instant> = None;
    loop {
        let mut fds =
            [PollFd::new(launched.control.as_fd(), PollFlags::POLLIN), PollFd::new(signal_fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let readable = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        let (message, signal) = (readable(&fds[0]), readable(&fds[1]));
        if message && receive(&launched, &mut end) == Received::Closed {
            return Ok(finish(pid, end));
        }
        while signal && let Ok(Some(info)) = signal_fd.read_signal() {
            let Ok(signal) = Signal::try_from(info.ssi_signo as i32) else { continue };
            match signal {
                Signal::SIGCHLD => {}
                Signal::SIGWINCH => tell(&launched, &ToSandbox::WindowChanged),
                _ => {
                    let ending = matches!(signal, Signal::SIGINT | Signal::SIGTERM);
                    if ending && stopping.is_some_and(|since| since.elapsed() < PATIENCE) {
                        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
                        end.get_or_insert(End::Signalled(signal as u8));
                    }
                    if ending {
                        stopping = Some(Instant::now());
                    }
                    tell(&launched, &ToSandbox::Signal { number: signal as i32 });
                }
            }
        }
        if end.is_none() && ended(pid) {
            // Drain what it sent last.
            while receive(&launched, &mut end) == Received::Message {}
            return Ok(finish(pid, end));
        }
    }
}

#[derive(PartialEq, Eq)]
enum Received {
    Message,
    Nothing,
    Closed,
}

fn receive(launched: &Launched, end: &mut Option<End>) -> Received {
    let mut bytes = vec![0u8; MAX_MESSAGE + 1];
    let length = match recv(launched.control.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
        Ok(0) => return Received::Closed,
        Ok(length) => length,
        Err(Errno::EAGAIN | Errno::EINTR) => return Received::Nothing,
        Err(_) => return Received::Closed,
    };
    let message = if length <= MAX_MESSAGE { postcard::from_bytes(&bytes[..length]).ok() } else { None };
    let new = match message {
        Some(FromSandbox::Exited { status }) => match (status & 0x7f) as u8 {
            0 => End::Exited((status >> 8) as u8),
            signal => End::Signalled(signal),
        },
        Some(FromSandbox::ExecFailed { errno, reason }) => End::NotExecuted(errno, harmless(&reason)),
        Some(FromSandbox::Fatal { report }) => {
            // A kernel that reports has ended: nothing of the sandbox may go on.
            let _ = nix::sys::signal::kill(Pid::from_raw(launched.pid), Signal::SIGKILL);
            End::Failed(harmless(&report))
        }
        None => {
            let _ = nix::sys::signal::kill(Pid::from_raw(launched.pid), Signal::SIGKILL);
            End::Failed("it sent a message that cannot be read".into())
        }
    };
    // The first word counts: a program that cannot be executed also exits.
    end.get_or_insert(new);
    Received::Message
}

fn tell(launched: &Launched, message: &ToSandbox) {
    if let Ok(bytes) = postcard::to_allocvec(message) {
        // A sandbox that does not listen any more has ended, or is about to.
        let _ = send(launched.control.as_raw_fd(), &bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
    }
}

/// Whether the warden has ended; leaves it to be waited for.
fn ended(pid: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(nix::sys::wait::waitid(nix::sys::wait::Id::Pid(pid), flags), Ok(WaitStatus::StillAlive))
}

/// Waits for the warden; with it, as process 1 of its namespace, every process of the sandbox has ended.
fn finish(pid: Pid, end: Option<End>) -> End {
    let status = loop {
        match waitpid(pid, None) {
            Err(Errno::EINTR) => {}
            other => break other,
        }
    };
    end.unwrap_or_else(|| match status {
        Ok(WaitStatus::Signaled(_, Signal::SIGSYS, _)) => {
            End::Failed("the warden made a host call that its filter does not allow".into())
        }
        Ok(WaitStatus::Signaled(_, signal, _)) => End::Failed(format!("the warden was killed by {signal}")),
        Ok(WaitStatus::Exited(_, code)) => {
            End::Failed(format!("the kernel ended with status {code} and without a word"))
        }
        _ => End::Failed("the kernel ended without a word".into()),
    })
}

/// Text from inside, without what a terminal would act on.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).take(8 << 10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_inside_cannot_control_the_terminal() {
        assert_eq!(harmless("a\x1b[31mb\nc\r"), "a\u{fffd}[31mb\nc\u{fffd}");
    }
}
