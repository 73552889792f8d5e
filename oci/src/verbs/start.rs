//! `start`: the program runs from here on.

use crate::command::Global;
use crate::control::{self, Request};
use crate::hooks;
use crate::state::{Container, Status};

/// Runs the verb.
pub fn start(global: &Global, id: &str) -> anyhow::Result<u8> {
    begin(&Container::load(global, id)?)?;
    Ok(0)
}

/// Has the monitor launch the sandbox.
pub fn begin(container: &Container) -> anyhow::Result<()> {
    match container.status() {
        Status::Created => {}
        Status::Stopped => anyhow::bail!("cannot start a container that has stopped"),
        Status::Running => anyhow::bail!("cannot start an already running container"),
        other => anyhow::bail!("cannot start a container in the {other} state"),
    }
    control::ask(&container.directory, &Request::Start)?;
    hooks::run_all(container, hooks::POSTSTART, Status::Running);
    Ok(())
}
