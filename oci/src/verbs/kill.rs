//! `kill`: a signal for a container's program.

use crate::command::{Global, Kill};
use crate::control::{self, Request};
use crate::state::{Container, Status};
use crate::{pod, signals};
use anyhow::Context;
use nix::sys::signal::Signal;
use runtime::attach;

/// Runs the verb.
pub fn kill(global: &Global, options: &Kill) -> anyhow::Result<u8> {
    let container = Container::load(global, &options.id)?;
    let number = signals::parse(&options.signal)?;
    let status = container.status();
    if status == Status::Stopped {
        // With --all runc takes it for done.
        anyhow::ensure!(options.all, "container not running");
        return Ok(0);
    }
    let (directory, name) = pod::entrance_of(&container)?;
    // One of a pod ends when its last process has, which its monitor hears of; without that it ends with its monitor, too.
    if number == Signal::SIGKILL as i32 && !(name.is_some() && status == Status::Running) {
        // The sandbox ends with its monitor.
        if let Some(init) = container.record.init {
            init.signal(Signal::SIGKILL);
        }
        if status == Status::Paused {
            container.record.group.freeze(false)?;
        }
        return Ok(0);
    }
    if status == Status::Created {
        control::ask(&container.directory, &Request::Signal(number))?;
        return Ok(0);
    }
    let entrance = control::address(&directory, control::ENTRANCE)?;
    attach::signal(&entrance.path, name.as_deref(), number, options.all).context("container not running")?;
    Ok(0)
}
