//! `delete`: what is left of a container goes.

use crate::command::{Delete, Global};
use crate::hooks;
use crate::state::{self, Container, Status};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// How long a killed monitor may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the verb.
pub fn delete(global: &Global, options: &Delete) -> anyhow::Result<u8> {
    // A create that was killed at its very beginning has left no container, but perhaps a directory without a name.
    state::sweep(&state::root(global));
    let container = match Container::find(global, &options.id)? {
        Some(container) => container,
        None if options.force => return Ok(0),
        None => Container::load(global, &options.id)?,
    };
    let status = container.status();
    if !options.force && !matches!(status, Status::Stopped | Status::Created) {
        anyhow::bail!("cannot delete container {} that is not stopped: {status}", options.id);
    }
    destroy(&container)?;
    Ok(0)
}

/// Ends what runs and removes what is there.
pub fn destroy(container: &Container) -> anyhow::Result<()> {
    let record = &container.record;
    if let Some(init) = record.init {
        init.signal(Signal::SIGKILL);
        // A frozen one ends once it is let go.
        if container.status() == Status::Paused {
            record.group.freeze(false)?;
        }
        let end = Instant::now() + PATIENCE;
        while init.is_alive() {
            anyhow::ensure!(Instant::now() < end, "process {} does not end", init.pid);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    record.group.remove()?;
    container.remove()?;
    hooks::run_all(container, hooks::POSTSTOP, Status::Stopped);
    Ok(())
}
