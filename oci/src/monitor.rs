//! The monitor: the process that stands for a container on the host. `create` makes it, and it outlives that; it holds the container's
//! namespaces, waits for `start`, launches the sandbox, watches it, and ends as the program ends.

use crate::control::{self, Asker, Reply, Request};
use crate::namespaces::Network as Whose;
use crate::network::Network;
use crate::plan::Plan;
use crate::pod::{self, Role};
use crate::process::Process;
use crate::state::{Container, Status};
use crate::verbs::exec;
use crate::{console, hooks, log, namespaces, scheduling, start_hooks, word};
use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::unistd::{ForkResult, Pid, fork};
use runtime::broker::Broker;
use runtime::entrance::Entrance;
use runtime::launch::{self, close_others};
use runtime::supervisor::{self, End};
use runtime::terminal::{self, Terminal};
use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

/// Exit code of a program that could not be executed, as runc has it.
const NOT_EXECUTED: u8 = 255;
/// Exit code where the sandbox itself failed.
const FAILED: u8 = 125;
/// Exit code of what was killed.
const KILLED: u8 = 137;

/// What the monitor needs.
pub struct Monitor {
    /// The container.
    pub container: Container,
    /// What to launch.
    pub plan: Plan,
    /// `--console-socket`, connected.
    pub console: Option<OwnedFd>,
    /// The program's terminal is the caller's.
    pub foreground: bool,
    /// Whose network it is in.
    pub network: Whose,
}

/// A monitor that is being made, as `create` sees it.
pub struct Making {
    /// Its process.
    pub pid: Pid,
    orders: OwnedFd,
}

impl Monitor {
    /// Makes the process, which waits for its first order. This process has one thread.
    pub fn start(self) -> anyhow::Result<Making> {
        let control = control::listener(&self.container.directory, control::CONTROL)?;
        let entrance = control::listener(&self.container.directory, control::ENTRANCE)?;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .context("a socket for the monitor")?;
        // SAFETY: this process has one thread.
        match unsafe { fork() }.context("a process for the monitor")? {
            ForkResult::Parent { child } => Ok(Making { pid: child, orders: ours }),
            ForkResult::Child => {
                drop(ours);
                let code = self.live(control, entrance, theirs);
                // Nothing of the command that made this process is to run at its end.
                // SAFETY: ends this process.
                unsafe { libc::_exit(libc::c_int::from(code)) }
            }
        }
    }

    fn live(mut self, control: OwnedFd, entrance: OwnedFd, orders: OwnedFd) -> u8 {
        // Until the container is complete, nothing of it is to be left if the command is killed.
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        self.container.record.init = Process::own();
        obey(&orders, || self.prepare([&control, &entrance, &orders]));
        obey(&orders, || hooks::run(&self.container, hooks::CREATE_CONTAINER, Status::Creating));
        obey(&orders, || prctl::set_pdeathsig(None).context("PR_SET_PDEATHSIG"));
        drop(orders);
        log::close();
        let asker = match wait(&control, &mut self.plan) {
            Ok(asker) => asker,
            Err(error) => return failed(&error),
        };
        drop(control);
        match self.plan.role.clone() {
            Role::Member(sandbox) => {
                // Processes enter by the sandbox's.
                drop(entrance);
                self.join(asker, &sandbox)
            }
            _ => self.launch(asker, entrance),
        }
    }

    /// The namespaces, the terminal, and what else must be right before hooks run.
    fn prepare(&mut self, kept: [&OwnedFd; 3]) -> anyhow::Result<()> {
        let spec = &self.container.record.spec;
        let kept = kept.into_iter().chain(&self.console).map(|fd| fd.as_raw_fd());
        log::close();
        close_others(&kept.collect::<Vec<_>>())?;
        std::env::set_current_dir("/").context("the root directory")?;
        if !self.foreground {
            nix::unistd::setsid().context("setsid")?;
        }
        self.network = namespaces::enter(spec)?;
        let process = spec.process().as_ref();
        let asked = process.and_then(|process| process.oom_score_adj());
        if let Some(adjustment) = asked.and_then(|asked| self.plan.role.oom_score_adj(asked)) {
            std::fs::write("/proc/self/oom_score_adj", adjustment.to_string())
                .context("process.oomScoreAdj")?;
        }
        scheduling::apply(&self.plan.first.scheduling)?;
        if let Some(console) = self.console.take() {
            console::take(&console, process.and_then(|process| process.console_size()))?;
        }
        Ok(())
    }

    /// Joins a pod, and stands for the container from then on.
    fn join(self, asker: Asker, sandbox: &str) -> u8 {
        let name = self.container.program().unwrap_or_default();
        let begun = self
            .container
            .mark_started(false)
            .context("the container's directory")
            .and_then(|()| pod::join(&self.container, self.plan, sandbox));
        let joined = match begun {
            Ok(Ok(joined)) => joined,
            Ok(Err(End::NotExecuted(libc::ENOEXEC, _))) => {
                asker.answer(&Reply::Done);
                eprintln!("{}", not_a_program(&name));
                return NOT_EXECUTED;
            }
            Ok(Err(end)) => {
                asker.answer(&Reply::Failed(exec::why(&end, &name)));
                return if matches!(end, End::NotExecuted(..)) { NOT_EXECUTED } else { KILLED };
            }
            Err(error) => {
                asker.answer(&Reply::Failed(format!("unable to start container process: {error:#}")));
                return FAILED;
            }
        };
        asker.answer(&Reply::Done);
        joined.watch().unwrap_or_else(|error| failed(&error))
    }

    fn launch(self, asker: Asker, entrance: OwnedFd) -> u8 {
        let name = self.container.program().unwrap_or_default();
        let is_pod = self.plan.may_be_joined();
        let begun = self
            .container
            .mark_started(self.plan.held)
            .context("the container's directory")
            .and_then(|()| match self.plan.held {
                true => start_hooks::attend(&self.container, &self.plan.first, &asker),
                false => Ok(()),
            })
            .and_then(|()| begin(self.plan, self.network));
        let Begun { launched, signals, terminal, broker } = match begun {
            Ok(begun) => begun,
            Err(error) => {
                asker.answer(&Reply::Failed(format!("unable to start container process: {error:#}")));
                return FAILED;
            }
        };
        // Who asked for the start hears of it when the program is executed, or why it is not.
        let asker = Rc::new(Cell::new(Some(asker)));
        let answer = |asker: &Cell<Option<Asker>>, reply: &Reply| {
            if let Some(asker) = asker.take() {
                asker.answer(reply);
            }
        };
        let waits = asker.clone();
        let entrance = Entrance::new(entrance, move || answer(&waits, &Reply::Done));
        let entrance = if is_pod { entrance.for_pod() } else { entrance };
        let end = supervisor::watch(launched, &signals, terminal, Some(entrance));
        if let Some(broker) = broker {
            broker.finish();
        }
        match end {
            Ok(End::Exited(code)) => code,
            Ok(End::Signalled(signal)) => 128 + signal,
            Ok(End::NotExecuted(errno, _)) => {
                let reason = Errno::from_raw(errno).desc().to_lowercase();
                if errno == libc::ENOEXEC {
                    answer(&asker, &Reply::Done);
                    eprintln!("{}", not_a_program(&name));
                } else {
                    let text = format!("unable to start container process: exec: {name:?}: {reason}");
                    answer(&asker, &Reply::Failed(text));
                }
                NOT_EXECUTED
            }
            Ok(End::Failed(report)) => {
                if crate::cgroup::out_of_memory(std::process::id() as i32).is_some_and(|kills| kills > 0) {
                    return KILLED;
                }
                let text = format!("the sandbox has ended: {}", report.trim_end());
                answer(&asker, &Reply::Failed(text.clone()));
                eprintln!("trapbox: {text}");
                FAILED
            }
            Err(error) => failed(&error),
        }
    }
}

/// What is said in the program's place, which runc's has executed by then.
fn not_a_program(name: &str) -> String {
    format!("exec {name}: {}", Errno::ENOEXEC.desc().to_lowercase())
}

fn failed(error: &anyhow::Error) -> u8 {
    eprintln!("trapbox: {error:#}");
    FAILED
}

/// A sandbox that was launched.
struct Begun {
    launched: launch::Launched,
    signals: SigSet,
    terminal: Option<Terminal>,
    broker: Option<Broker>,
}

fn begin(plan: Plan, whose: Whose) -> anyhow::Result<Begun> {
    let (outside, inside) = match plan.terminal {
        true => terminal::socket()
            .map(|(outside, inside)| (Some(outside), Some(inside)))
            .context("a socket for the terminal")?,
        false => (None, None),
    };
    let mut network = Network::take(whose, &plan.name_servers())?;
    let request = plan.request(inside, &mut network)?;
    let signals = supervisor::block_signals(outside.is_some()).context("blocking signals")?;
    let launched = launch::launch(request)?;
    match outside.map(Terminal::take).transpose() {
        Ok(terminal) => Ok(Begun { launched, signals, terminal, broker: network.broker }),
        Err(error) => {
            supervisor::end(&launched);
            Err(error)
        }
    }
}

/// Waits for `start`. A signal means this process itself until then, with its default action.
fn wait(listener: &OwnedFd, plan: &mut Plan) -> anyhow::Result<Asker> {
    loop {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error).context("waiting for start"),
        }
        match Asker::next(listener) {
            Some((asker, Request::Start)) => return Ok(asker),
            Some((asker, Request::Signal(number))) => {
                asker.answer(&Reply::Done);
                // SAFETY: only numbers.
                unsafe { libc::kill(libc::getpid(), number) };
            }
            Some((asker, Request::Tasks(limit))) => {
                plan.pids = limit;
                asker.answer(&Reply::Done);
            }
            None => {}
        }
    }
}

/// In the monitor: waits for an order, does it, and says how that went. Ends the process if it failed, or if `create` has gone.
fn obey(orders: &OwnedFd, work: impl FnOnce() -> anyhow::Result<()>) {
    let mut order = [0u8; 1];
    let given = loop {
        match recv(orders.as_raw_fd(), &mut order, MsgFlags::empty()) {
            Err(nix::Error::EINTR) => {}
            other => break matches!(other, Ok(1)),
        }
    };
    let outcome = if given { work() } else { Err(anyhow::anyhow!("there is nobody to work for")) };
    word::say(orders, &outcome);
    if outcome.is_err() {
        // SAFETY: ends this process without running what the command has registered.
        unsafe { libc::_exit(1) }
    }
}

impl Making {
    /// Gives the next order, and waits for it to be done.
    pub fn order(&self) -> anyhow::Result<()> {
        send(self.orders.as_raw_fd(), b"o", MsgFlags::MSG_NOSIGNAL).context("the monitor has ended")?;
        word::hear(&self.orders, "the monitor has ended")
    }

    /// Ends the monitor, and waits for it.
    pub fn end(self) {
        let _ = nix::sys::signal::kill(self.pid, Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(self.pid, None);
    }
}
