//! `run`: create, start, and unless `--detach` wait for the end and delete.

use super::create::{Terminal, make};
use super::{delete, start};
use crate::command::{Global, Run};
use anyhow::Context;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Signals that mean the program.
const PASSED_ON: &[Signal] =
    &[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Runs the verb; the exit code is the program's.
pub fn run(global: &Global, options: &Run) -> anyhow::Result<u8> {
    let terminal = if options.detach { Terminal::Sent } else { Terminal::Callers };
    let (container, monitor) = make(global, &options.create, terminal).context("run failed")?;
    let signals = block(!options.detach)?;
    let started = start::begin(&container);
    if started.is_ok() && options.detach {
        return Ok(0);
    }
    let code = match &started {
        Ok(()) => wait(monitor, &signals),
        Err(_) => Ok(1),
    };
    if !options.keep || started.is_err() {
        delete::destroy(&container)?;
        // Where the program never ran, the monitor has ended only now.
        let _ = waitpid(monitor, Some(WaitPidFlag::WNOHANG));
    }
    started.context("run failed")?;
    code
}

fn block(really: bool) -> anyhow::Result<SigSet> {
    let mut set = SigSet::empty();
    set.extend(PASSED_ON.iter().copied());
    set.add(Signal::SIGCHLD);
    if really {
        set.thread_block().context("blocking signals")?;
    }
    Ok(set)
}

fn wait(monitor: Pid, signals: &SigSet) -> anyhow::Result<u8> {
    loop {
        match waitpid(monitor, Some(WaitPidFlag::WNOHANG)).context("waiting for the container")? {
            WaitStatus::Exited(_, code) => return Ok(code as u8),
            WaitStatus::Signaled(_, signal, _) => return Ok(128 + signal as u8),
            _ => {}
        }
        match signals.wait() {
            Ok(Signal::SIGCHLD) | Err(nix::Error::EINTR) => {}
            Ok(signal) => drop(kill(monitor, signal)),
            Err(error) => return Err(error).context("waiting for the container"),
        }
    }
}
