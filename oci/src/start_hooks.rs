//! `startContainer` hooks: programs of the container that run in it, on its kernel, before its own program is executed (runtime-spec,
//! "Lifecycle"). The kernel is started and holds the first process back; the hooks enter one after the other as the programs of `exec`
//! do, with the container's own identity, as runc has it. What sees to that is a process beside the monitor, which has to watch the
//! sandbox meanwhile; it ends with the monitor.

use crate::control::{self, Asker, Reply};
use crate::hooks;
use crate::state::{Container, Status};
use anyhow::Context;
use boundary::process::Process as First;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, fork};
use oci_spec::runtime::Hook;
use runtime::attach::{self, Files};
use runtime::launch::close_others;
use runtime::supervisor::End;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Instant;

/// The process id that the hooks are told of: they are in the container.
const FIRST: i32 = 1;

/// Has a process of its own run the hooks of a container whose kernel is about to be started, and then let the program of `first` run.
/// If one fails, `asker` is told, and the container ends. This process has one thread.
pub fn attend(container: &Container, first: &First, asker: &Asker) -> anyhow::Result<()> {
    // SAFETY: this process has one thread.
    match unsafe { fork() }.context("a process for the hooks")? {
        ForkResult::Parent { .. } => Ok(()),
        ForkResult::Child => {
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            let _ = close_others(&[asker.descriptor()]);
            serve(container, first, asker);
            // SAFETY: ends this process without running what the monitor has registered.
            unsafe { libc::_exit(0) }
        }
    }
}

fn serve(container: &Container, first: &First, asker: &Asker) {
    let Ok(entrance) = control::address(&container.directory, control::ENTRANCE) else { return };
    let outcome = run(container, first, &entrance.path)
        .and_then(|()| container.mark_started(false).context("the container's directory"))
        .and_then(|()| attach::go(&entrance.path).context("the container ended meanwhile"));
    if let Err(error) = outcome {
        asker.tell(&Reply::Failed(format!("{error:#}")));
        let _ = attach::signal(&entrance.path, None, libc::SIGKILL, false);
    }
}

fn run(container: &Container, first: &First, entrance: &Path) -> anyhow::Result<()> {
    let state = serde_json::to_vec(&container.hook_state(Status::Created).with_pid(FIRST))?;
    for (index, hook) in hooks::of(container, hooks::START_CONTAINER).iter().enumerate() {
        one(hook, first, entrance, &state)
            .with_context(|| format!("error running {} hook #{index}", hooks::START_CONTAINER.0))?;
    }
    Ok(())
}

fn one(hook: &Hook, first: &First, entrance: &Path, state: &[u8]) -> anyhow::Result<()> {
    let end = hooks::patience(hook).map(|patience| Instant::now() + patience);
    let (input, said) = (hooks::in_memory(state)?, hooks::in_memory(b"")?);
    let nothing = File::options().write(true).open("/dev/null").context("/dev/null")?;
    let files = Files::Standard([Some(input.as_fd()), Some(nothing.as_fd()), Some(said.as_fd())]);
    let entered = attach::enter(entrance, None, &process(hook, first), files)?;
    let name = hook.path().display();
    let status = match entered.end(end) {
        Ok(End::Exited(code)) => ExitStatus::from_raw(i32::from(code) << 8),
        Ok(End::Signalled(signal)) => ExitStatus::from_raw(i32::from(signal)),
        Ok(End::NotExecuted(errno, _)) => {
            return Err(std::io::Error::from_raw_os_error(errno)).context(name.to_string());
        }
        Ok(End::Failed(report)) => anyhow::bail!("{name}: {report}"),
        Err(error) if error.raw_os_error() == Some(libc::ETIMEDOUT) => return Err(hooks::too_late(hook)),
        Err(error) => return Err(error).context(name.to_string()),
    };
    hooks::judge(status, said)
}

/// A hook as a process of the container: who the first one is, with its own program, arguments and environment.
fn process(hook: &Hook, first: &First) -> First {
    let path = hook.path().as_os_str().as_bytes().to_vec();
    let arguments = hook.args().iter().flatten().map(|argument| argument.as_bytes().to_vec());
    let mut argv: Vec<Vec<u8>> = arguments.collect();
    if argv.is_empty() {
        argv.push(path.clone());
    }
    let env = hook.env().iter().flatten().map(|variable| variable.as_bytes().to_vec()).collect();
    First { argv, program: path, env, ..first.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::HookBuilder;

    #[test]
    fn a_hook_is_who_the_container_is_with_an_environment_of_its_own() {
        let first = First { uid: 7, env: vec![b"A=1".to_vec()], cwd: b"/w".to_vec(), ..First::default() };
        let bare = HookBuilder::default().path("/bin/true").build().expect("a hook");
        let entering = process(&bare, &first);
        assert_eq!((entering.uid, entering.cwd.as_slice()), (7, &b"/w"[..]));
        assert_eq!((entering.argv, entering.env), (vec![b"/bin/true".to_vec()], vec![]));
    }
}
