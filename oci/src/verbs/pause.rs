//! `pause` and `resume`: the host's freezer.

use crate::command::Global;
use crate::pod;
use crate::state::{Container, Status};

/// Stops all that a container does.
pub fn pause(global: &Global, id: &str) -> anyhow::Result<u8> {
    let container = Container::load(global, id)?;
    pod::refuse_member(&container, "paused")?;
    match container.status() {
        Status::Running | Status::Created => container.record.group.freeze(true)?,
        _ => anyhow::bail!("container not running or created"),
    }
    Ok(0)
}

/// Lets it go on.
pub fn resume(global: &Global, id: &str) -> anyhow::Result<u8> {
    let container = Container::load(global, id)?;
    anyhow::ensure!(container.status() == Status::Paused, "container not paused");
    container.record.group.freeze(false)?;
    Ok(0)
}
