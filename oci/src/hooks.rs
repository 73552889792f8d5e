//! Hooks: programs of the bundle's author that run at fixed points of a container's life (runtime-spec, "POSIX-platform Hooks"). Each
//! gets the container's state on its standard input. All but those of [`crate::start_hooks`] run outside of the sandbox.

use crate::state::{Container, Status};
use anyhow::Context;
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{Hook, Hooks, Spec};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often a hook with a timeout is looked at.
const TICK: Duration = Duration::from_millis(5);
/// What is kept of what a failed hook said.
const SAID: u64 = 4 << 10;

/// The hooks of one point: its name, and its list.
pub type Point = (&'static str, fn(&Hooks) -> &Option<Vec<Hook>>);

/// Before the container is complete, in the caller's namespaces (deprecated, but what Docker uses).
pub const PRESTART: Point = ("prestart", Hooks::prestart);
/// Likewise.
pub const CREATE_RUNTIME: Point = ("createRuntime", Hooks::create_runtime);
/// Then, in the container's namespaces.
pub const CREATE_CONTAINER: Point = ("createContainer", Hooks::create_container);
/// In the container, before its program is executed.
pub const START_CONTAINER: Point = ("startContainer", Hooks::start_container);
/// Once the program runs.
pub const POSTSTART: Point = ("poststart", Hooks::poststart);
/// Once the container is removed.
pub const POSTSTOP: Point = ("poststop", Hooks::poststop);

/// The hooks of a point, in order.
pub fn of(container: &Container, point: Point) -> &[Hook] {
    all(&container.record.spec, point)
}

/// As [`of`], by config.json.
pub fn all(spec: &Spec, point: Point) -> &[Hook] {
    spec.hooks().as_ref().and_then(|hooks| (point.1)(hooks).as_deref()).unwrap_or_default()
}

/// Runs the hooks of a point one after the other, up to the first that fails.
pub fn run(container: &Container, point: Point, status: Status) -> anyhow::Result<()> {
    let state = serde_json::to_vec(&container.hook_state(status))?;
    for (index, hook) in of(container, point).iter().enumerate() {
        one(hook, &state).with_context(|| format!("error running {} hook #{index}", point.0))?;
    }
    Ok(())
}

/// Runs all hooks of a point; what fails is said, and stops nothing (runtime-spec, "Lifecycle").
pub fn run_all(container: &Container, point: Point, status: Status) {
    let Ok(state) = serde_json::to_vec(&container.hook_state(status)) else { return };
    for (index, hook) in of(container, point).iter().enumerate() {
        if let Err(error) = one(hook, &state) {
            crate::log::warn(&format!("error running {} hook #{index}: {error:#}", point.0));
        }
    }
}

fn one(hook: &Hook, state: &[u8]) -> anyhow::Result<()> {
    let path = hook.path();
    let mut command = Command::new(path);
    if let Some((name, arguments)) = hook.args().as_ref().and_then(|arguments| arguments.split_first()) {
        command.arg0(name).args(arguments);
    }
    command.env_clear();
    for variable in hook.env().iter().flatten() {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        command.env(name, value);
    }
    // Files in memory, not pipes: a hook may leave its input unread and say as much as it likes.
    let (input, said) = (in_memory(state)?, in_memory(b"")?);
    command.stdin(input).stdout(Stdio::null()).stderr(said.try_clone()?);
    let mut child = command.spawn().with_context(|| path.display().to_string())?;
    let status = match patience(hook) {
        None => child.wait().context("waiting")?,
        Some(patience) => match within(&mut child, patience)? {
            Some(status) => status,
            None => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(too_late(hook));
            }
        },
    };
    judge(status, said)
}

/// How long a hook may take; `None`: as long as it likes.
pub fn patience(hook: &Hook) -> Option<Duration> {
    hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs)
}

/// The error of one that took longer.
pub fn too_late(hook: &Hook) -> anyhow::Error {
    let seconds = hook.timeout().unwrap_or_default();
    anyhow::anyhow!("{}: timed out after {seconds} s", hook.path().display())
}

/// Refuses hooks that can never run: the specification wants an absolute path and a timeout above zero.
pub fn check(hooks: &Hooks) -> anyhow::Result<()> {
    for (name, of) in [PRESTART, CREATE_RUNTIME, CREATE_CONTAINER, START_CONTAINER, POSTSTART, POSTSTOP] {
        for (index, hook) in of(hooks).iter().flatten().enumerate() {
            let path = hook.path();
            anyhow::ensure!(
                path.is_absolute(),
                "hooks: {name} hook #{index}: {:?} is not an absolute path",
                path.display()
            );
            anyhow::ensure!(
                hook.timeout().is_none_or(|seconds| seconds > 0),
                "hooks: {name} hook #{index}: the timeout is not above zero"
            );
        }
    }
    Ok(())
}

/// A file in memory.
pub fn in_memory(content: &[u8]) -> anyhow::Result<File> {
    let mut file = File::from(memfd_create(c"hook", MFdFlags::MFD_CLOEXEC).context("a file in memory")?);
    file.write_all(content)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn within(child: &mut Child, patience: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let end = Instant::now() + patience;
    loop {
        match child.try_wait().context("waiting")? {
            None if Instant::now() < end => std::thread::sleep(TICK),
            other => return Ok(other),
        }
    }
}

/// What becomes of a hook that has ended with `status` and said `output`.
pub fn judge(status: ExitStatus, mut output: File) -> anyhow::Result<()> {
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    output.seek(SeekFrom::Start(0))?;
    output.take(SAID).read_to_end(&mut said)?;
    let said = String::from_utf8_lossy(&said);
    match status.signal() {
        Some(signal) => anyhow::bail!("killed by signal {signal}, stderr: {}", said.trim_end()),
        None => anyhow::bail!("exit status {}, stderr: {}", status.code().unwrap_or(-1), said.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::HookBuilder;

    fn shell(script: &str, timeout: Option<i64>) -> Hook {
        let mut builder = HookBuilder::default()
            .path("/bin/sh")
            .args(vec!["hook".to_owned(), "-c".to_owned(), script.to_owned()])
            .env(vec!["A=1".to_owned()]);
        if let Some(timeout) = timeout {
            builder = builder.timeout(timeout);
        }
        builder.build().expect("a hook")
    }

    #[test]
    fn a_hook_has_the_state_and_an_environment_of_its_own() {
        one(&shell("read state; [ \"$state\" = x ] && [ $A = 1 ] && [ -z \"$HOME\" ]", None), b"x\n")
            .expect("succeeds");
    }

    #[test]
    fn a_failure_says_what_the_hook_said() {
        let error = one(&shell("echo wrong >&2; exit 3", None), b"").expect_err("fails").to_string();
        assert_eq!(error, "exit status 3, stderr: wrong");
    }

    #[test]
    fn a_hook_that_takes_too_long_is_ended() {
        let error = one(&shell("sleep 60", Some(1)), b"").expect_err("fails").to_string();
        assert!(error.contains("timed out after 1 s"), "{error}");
    }
}
