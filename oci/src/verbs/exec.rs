//! `exec`: another program in a running container. What stands for it on the host is this process, or with `--detach` one that this
//! leaves behind: it passes signals and the terminal on, and ends as the program ends.

use crate::command::{Exec, Global, Writes};
use crate::plan::Hidden;
use crate::state::{self, Container, Status};
use crate::{cgroup, console, control, log, plan, pod, signals, word};
use anyhow::Context;
use boundary::process::Process as First;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::unistd::{ForkResult, fork};
use oci_spec::runtime::{Capabilities, Process, User};
use runtime::attach::{self, Attached, Files};
use runtime::launch::close_others;
use runtime::supervisor::End;
use runtime::terminal::{self, Terminal};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Exit code of runc's `exec` where there is no process.
const FAILED: u8 = 255;

/// Runs the verb.
pub fn exec(global: &Global, options: &Exec) -> anyhow::Result<u8> {
    match enter(global, options).context("exec failed") {
        Ok(code) => Ok(code),
        Err(error) => {
            log::error(&format!("{error:#}"));
            Ok(FAILED)
        }
    }
}

fn enter(global: &Global, options: &Exec) -> anyhow::Result<u8> {
    anyhow::ensure!(
        options.preserve_fds == 0,
        "--preserve-fds is not supported: a process has the standard descriptors only"
    );
    anyhow::ensure!(
        options.cgroup.is_none(),
        "--cgroup is not supported: all processes of a container are in its group"
    );
    let container = Container::load(global, &options.id)?;
    match container.status() {
        Status::Running => {}
        Status::Paused if options.ignore_paused => {}
        Status::Paused => {
            anyhow::bail!("cannot exec in a paused container (use --ignore-paused to override)")
        }
        Status::Stopped => anyhow::bail!("cannot exec in a stopped container"),
        other => anyhow::bail!("cannot exec in a container in the {other} state"),
    }
    let process = wanted(&container, options)?;
    plan::check_process(&process)?;
    let linux = container.record.spec.linux().as_ref();
    let hidden = match container.record.writes {
        Writes::Host => Hidden::None,
        Writes::Memory => Hidden::Some,
    };
    let first = plan::first(&plan::view_of(&container)?, &process, linux, hidden)?;
    let terminal = process.terminal().unwrap_or(false);
    match (terminal, options.detach, &options.console_socket) {
        (true, true, None) => {
            anyhow::bail!("cannot allocate tty if trapbox will detach without setting console socket")
        }
        (false, _, Some(_)) => {
            anyhow::bail!("cannot use console socket if trapbox will not detach or allocate tty")
        }
        _ => {}
    }
    let connection = options.console_socket.as_deref().map(console::connect_to).transpose()?;
    let entering = Entering { container, process, first, terminal, console: connection };
    if options.detach { entering.detach(options) } else { entering.stay(options) }
}

/// The process: that of `--process`, or the container's own with what the flags say.
fn wanted(container: &Container, options: &Exec) -> anyhow::Result<Process> {
    if let Some(path) = &options.process {
        let text = std::fs::read(path).with_context(|| format!("--process {}", path.display()))?;
        return serde_json::from_slice(&text).with_context(|| format!("--process {}", path.display()));
    }
    anyhow::ensure!(!options.command.is_empty(), "process args cannot be empty");
    let mut process = container.record.spec.process().clone().context("the container has no process")?;
    process.set_args(Some(options.command.clone())).set_terminal(Some(options.tty)).set_console_size(None);
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(options.env.iter().cloned());
    process.set_env(Some(env));
    if let Some(user) = &options.user {
        process.set_user(parse_user(user)?);
    }
    if !options.additional_gids.is_empty() {
        let mut user = process.user().clone();
        user.set_additional_gids(Some(options.additional_gids.clone()));
        process.set_user(user);
    }
    if options.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    add_capabilities(&mut process, &options.cap)?;
    Ok(process)
}

fn parse_user(text: &str) -> anyhow::Result<User> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    let number = |text: &str| text.parse::<u32>().with_context(|| format!("--user {text:?}: not a number"));
    let mut user = User::default();
    user.set_uid(number(uid)?).set_gid(number(gid)?);
    Ok(user)
}

fn add_capabilities(process: &mut Process, names: &[String]) -> anyhow::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let more: Capabilities = serde_json::from_value(serde_json::json!(names))
        .with_context(|| format!("--cap {}", names.join(", ")))?;
    let mut sets = process.capabilities().clone().unwrap_or_default();
    let with = |set: &Option<Capabilities>| {
        Some(set.iter().flatten().chain(&more).copied().collect::<Capabilities>())
    };
    let (bounding, effective, permitted) =
        (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    process.set_capabilities(Some(sets));
    Ok(())
}

struct Entering {
    container: Container,
    process: Process,
    first: First,
    terminal: bool,
    console: Option<OwnedFd>,
}

impl Entering {
    /// In this process.
    fn stay(mut self, options: &Exec) -> anyhow::Result<u8> {
        if let Some(console) = self.console.take() {
            nix::unistd::setsid().context("setsid")?;
            console::take(&console, self.process.console_size())?;
        }
        let (attached, signals, terminal) = self.begin()?;
        if let Some(path) = &options.pid_file {
            state::write_whole(path, std::process::id().to_string().as_bytes()).context("--pid-file")?;
        }
        code(attached.watch(&signals, terminal)?)
    }

    /// In a process that is left behind.
    fn detach(self, options: &Exec) -> anyhow::Result<u8> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .context("a socket")?;
        // SAFETY: this process has one thread.
        let child = match unsafe { fork() }.context("a process")? {
            ForkResult::Child => {
                drop(ours);
                let code = self.stand_in(theirs);
                // SAFETY: ends this process without running what the command has registered.
                unsafe { libc::_exit(libc::c_int::from(code)) }
            }
            ForkResult::Parent { child } => child,
        };
        drop((theirs, self));
        let outcome = word::hear(&ours, "the process was lost").and_then(|()| match &options.pid_file {
            Some(path) => state::write_whole(path, child.to_string().as_bytes()).context("--pid-file"),
            None => Ok(()),
        });
        if let Err(error) = outcome {
            let _ = nix::sys::signal::kill(child, Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(child, None);
            return Err(error);
        }
        let _ = send(ours.as_raw_fd(), b"d", MsgFlags::MSG_NOSIGNAL);
        // Lets go of this process before that ends.
        let _ = recv(ours.as_raw_fd(), &mut [0u8; 1], MsgFlags::empty());
        Ok(0)
    }

    fn stand_in(mut self, to: OwnedFd) -> u8 {
        // Until the caller has heard of it, the process ends with the command that makes it.
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        let begun = self.prepare(&to).and_then(|()| self.begin());
        word::say(&to, &begun);
        // The command ends this process, or says that it has written what the caller reads.
        let mut done = [0u8; 1];
        let _ = recv(to.as_raw_fd(), &mut done, MsgFlags::empty());
        let _ = prctl::set_pdeathsig(None);
        drop(to);
        let Ok((attached, signals, terminal)) = begun else { return FAILED };
        attached.watch(&signals, terminal).and_then(code).unwrap_or(FAILED)
    }

    fn prepare(&mut self, to: &OwnedFd) -> anyhow::Result<()> {
        log::close();
        let kept = std::iter::once(to).chain(&self.console).map(|fd| fd.as_raw_fd());
        close_others(&kept.collect::<Vec<_>>())?;
        nix::unistd::setsid().context("setsid")?;
        std::env::set_current_dir("/").context("the root directory")?;
        cgroup::join_those_of(self.container.pid())?;
        if let Some(console) = self.console.take() {
            console::take(&console, self.process.console_size())?;
        }
        Ok(())
    }

    /// Lets the process enter, and waits until its program is executed.
    fn begin(&self) -> anyhow::Result<(Attached, SigSet, Option<Terminal>)> {
        let mut passed_on = SigSet::empty();
        passed_on.extend(signals::PASSED_ON.iter().copied());
        passed_on.thread_block().context("blocking signals")?;
        let (directory, name) = pod::entrance_of(&self.container)?;
        let (entrance, name) = (control::address(&directory, control::ENTRANCE)?, name.as_deref());
        let (outside, attached) = match self.terminal {
            true => {
                let (outside, inside) = terminal::socket().context("a socket for the terminal")?;
                (Some(outside), attach::enter(&entrance.path, name, &self.first, Files::Terminal(inside)))
            }
            false => {
                let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
                let standard = [Some(input.as_fd()), Some(output.as_fd()), Some(error.as_fd())];
                (None, attach::enter(&entrance.path, name, &self.first, Files::Standard(standard)))
            }
        };
        let attached = attached.context("container not running")?;
        if let Err(end) = attached.started()? {
            let name =
                String::from_utf8_lossy(self.first.argv.first().map_or(&[][..], Vec::as_slice)).into_owned();
            anyhow::bail!("{}", why(&end, &name));
        }
        let terminal = outside.map(Terminal::take).transpose()?;
        Ok((attached, passed_on, terminal))
    }
}

/// Why there is no process.
pub fn why(end: &End, name: &str) -> String {
    match end {
        End::NotExecuted(errno, what) => {
            let reason = nix::errno::Errno::from_raw(*errno).desc().to_lowercase();
            let about = if what.is_empty() || what == name { String::new() } else { format!(" ({what})") };
            format!("unable to start container process: exec: {name:?}: {reason}{about}")
        }
        _ => "the container ended meanwhile".into(),
    }
}

/// The exit code of what stands for a process.
pub fn code(end: End) -> anyhow::Result<u8> {
    match end {
        End::Exited(code) => Ok(code),
        End::Signalled(signal) => Ok(128 + signal),
        other => anyhow::bail!("the process is lost: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_number_with_or_without_a_group() {
        let user = parse_user("7:8").expect("a user");
        assert_eq!((user.uid(), user.gid()), (7, 8));
        assert!(parse_user("7").is_ok() && parse_user("name").is_err() && parse_user("1:").is_err());
    }

    #[test]
    fn a_capability_is_added_to_the_sets_that_matter() {
        let mut process = Process::default();
        add_capabilities(&mut process, &["CAP_SYS_TIME".into()]).expect("known");
        let sets = process.capabilities().as_ref().expect("sets");
        assert!(sets.effective().as_ref().is_some_and(|set| set.len() > 1));
        assert!(add_capabilities(&mut process, &["CAP_NONE".into()]).is_err());
    }
}
