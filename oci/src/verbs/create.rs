//! `create`: a container that waits for `start`.

use crate::command::{Create, Global};
use crate::hooks;
use crate::monitor::{Making, Monitor};
use crate::namespaces::Network;
use crate::plan::{Bundle, Plan};
use crate::pod;
use crate::process::Process;
use crate::state::{self, Container, Record, Status};
use crate::{cgroup, console};
use anyhow::Context;
use nix::unistd::Pid;
use std::os::fd::OwnedFd;

/// Where the program's terminal is, if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// At the end of `--console-socket`.
    Sent,
    /// It is the caller's.
    Callers,
}

/// Runs the verb.
pub fn create(global: &Global, options: &Create) -> anyhow::Result<u8> {
    make(global, options, Terminal::Sent).context("create failed")?;
    Ok(0)
}

/// Makes a container; its monitor is a child of this process.
pub fn make(global: &Global, options: &Create, terminal: Terminal) -> anyhow::Result<(Container, Pid)> {
    anyhow::ensure!(
        options.preserve_fds == 0,
        "--preserve-fds is not supported: a container has the standard descriptors only"
    );
    let bundle = Bundle::read(&options.bundle, global.overlay)?;
    let wants = bundle.spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    match (wants, terminal, &options.console_socket) {
        (true, Terminal::Sent, None) => {
            anyhow::bail!("cannot allocate tty if trapbox will detach without setting console socket")
        }
        (false, _, Some(_)) | (_, Terminal::Callers, Some(_)) => {
            anyhow::bail!("cannot use console socket if trapbox will not detach or allocate tty")
        }
        _ => {}
    }
    pod::check(&bundle.spec, &state::root(global))?;
    let connection = options.console_socket.as_deref().map(console::connect_to).transpose()?;
    let record = Record {
        id: options.id.clone(),
        group: cgroup::Group::new(&bundle.spec, &options.id, global),
        bundle: bundle.directory,
        rootfs: bundle.rootfs,
        created: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Nanos, true),
        creator: Process::own().context("/proc is not mounted")?,
        init: None,
        complete: false,
        writes: bundle.writes,
        owner: nix::unistd::getuid().as_raw(),
        spec: bundle.spec,
    };
    let mut container = Container::create(&state::root(global), record)?;
    let mut making = None;
    let built =
        build(&mut container, &mut making, connection, terminal == Terminal::Callers && wants, global)
            .and_then(|pid| {
                if let Some(path) = &options.pid_file {
                    state::write_whole(path, pid.to_string().as_bytes()).context("--pid-file")?;
                }
                Ok(pid)
            });
    match built {
        Ok(pid) => Ok((container, pid)),
        Err(error) => {
            if let Some(making) = making {
                making.end();
            }
            let _ = container.record.group.remove();
            hooks::run_all(&container, hooks::POSTSTOP, Status::Stopped);
            let _ = container.remove();
            Err(error)
        }
    }
}

fn build(
    container: &mut Container,
    making: &mut Option<Making>,
    console: Option<OwnedFd>,
    foreground: bool,
    global: &Global,
) -> anyhow::Result<Pid> {
    let mut plan = Plan::new(&container.record)?;
    if plan.may_be_joined() {
        plan.set_hub(pod::make_hub(&container.directory)?);
    }
    let for_monitor = Container { directory: container.directory.clone(), record: container.record.clone() };
    let monitor = Monitor { container: for_monitor, plan, console, foreground, network: Network::Own };
    let made = &*making.insert(monitor.start()?);
    container.record.init = Process::of(made.pid.as_raw());
    container.save()?;
    let resources = container.record.spec.linux().as_ref().and_then(|linux| linux.resources().clone());
    container.record.group.make(made.pid, resources.as_ref(), may_lack_groups(global))?;
    made.order()?;
    hooks::run(container, hooks::PRESTART, Status::Creating)?;
    hooks::run(container, hooks::CREATE_RUNTIME, Status::Creating)?;
    made.order()?;
    container.record.complete = true;
    container.save()?;
    made.order()?;
    Ok(made.pid)
}

/// Whether a container may be without a control group.
fn may_lack_groups(global: &Global) -> bool {
    match global.rootless.as_str() {
        "true" => true,
        "false" => false,
        _ => state::Caller::this().is_ordinary(),
    }
}
