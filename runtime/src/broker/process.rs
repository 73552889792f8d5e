//! The broker's process: started before the sandbox, from a process with one thread; it ends when nobody inside has the other
//! end of its socket any more.

use super::{Published, Settings, serve};
use anyhow::Context;
use boundary::broker::Protocol;
use caps::{CapSet, Capability, CapsHashSet};
use landlock::{ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork};
use std::fs::File;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// The broker as its parent has it.
pub struct Broker(Pid);

/// How long it may take over its end.
const PATIENCE: Duration = Duration::from_secs(2);
/// The identity it has on the host when root starts it (`nobody`).
const NOBODY: u32 = 65534;
/// Ports from here on need no capability (`net.ipv4.ip_unprivileged_port_start`, by default).
const UNPRIVILEGED: u16 = 1024;

impl Broker {
    /// Starts it; the end of its socket that is the sandbox's.
    ///
    /// # Errors
    /// A published port that cannot be had; a host that has no process or descriptor left.
    pub fn start(settings: Settings) -> anyhow::Result<(Broker, OwnedFd)> {
        let listeners = listen(&settings.published)?;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .context("a socket for the broker")?;
        let (begun, begins) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context("a pipe for the broker")?;
        let parent = nix::unistd::getpid();
        // SAFETY: this process has one thread.
        match unsafe { fork() }.context("a process for the broker")? {
            ForkResult::Parent { child } => {
                drop((ours, begins));
                // It has said on standard error what keeps it from its work.
                let said = File::from(begun).read(&mut [0]).context("the broker's pipe")?;
                anyhow::ensure!(
                    said == 1,
                    "the broker could not start; run without a network, or see what it said"
                );
                Ok((Broker(child), theirs))
            }
            ForkResult::Child => {
                drop((theirs, begun));
                let result = run(settings, listeners, ours, begins, parent);
                if let Err(error) = &result {
                    eprintln!("sandbox-exec: the broker: {error:#}");
                }
                // Nothing of the parent's is to be done here.
                // SAFETY: ends the process.
                unsafe { libc::_exit(i32::from(result.is_err())) }
            }
        }
    }

    /// Waits until it has written its last line.
    pub fn finish(self) {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            match waitpid(self.0, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {
                    std::thread::sleep(Duration::from_millis(1))
                }
                _ => return,
            }
        }
        let _ = nix::sys::signal::kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// A port of the host that was published.
pub enum Listener {
    /// Connections come.
    Tcp(TcpListener),
    /// Datagrams of those who have sent none yet.
    Udp(UdpSocket),
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Udp(socket) => socket.as_fd(),
        }
    }
}

fn listen(published: &[Published]) -> anyhow::Result<Vec<(Listener, u16)>> {
    let listen = |published: &Published| {
        let host = published.host;
        let listener = match published.protocol {
            Protocol::Tcp => TcpListener::bind(host).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(Listener::Tcp(listener))
            }),
            Protocol::Udp => super::datagrams::bind(host).map(Listener::Udp),
        };
        let listener = listener.map_err(|error| {
            anyhow::anyhow!("--publish {host}:{}: {error}; choose another port", published.port)
        })?;
        Ok((listener, published.port))
    };
    published.iter().map(listen).collect()
}

fn run(
    settings: Settings,
    listeners: Vec<(Listener, u16)>,
    socket: OwnedFd,
    begins: OwnedFd,
    parent: Pid,
) -> anyhow::Result<()> {
    detach()?;
    let mut keep: Vec<RawFd> = listeners.iter().map(|(listener, _)| listener.as_fd().as_raw_fd()).collect();
    keep.extend([socket.as_raw_fd(), begins.as_raw_fd()]);
    keep.extend(settings.log.as_ref().map(AsRawFd::as_raw_fd));
    crate::launch::close_others(&keep)?;
    if is_root_of_the_host() {
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        // Each sender of datagrams gets a socket at the same port, which only a socket's owner may have, and those below 1024 only with
        // this capability.
        let mut kept = CapsHashSet::new();
        for (listener, _) in &listeners {
            let Listener::Udp(socket) = listener else { continue };
            nix::unistd::fchown(socket, Some(user), None).context("giving up a socket")?;
            if socket.local_addr()?.port() < UNPRIVILEGED {
                kept.insert(Capability::CAP_NET_BIND_SERVICE);
            }
        }
        nix::sys::prctl::set_keepcaps(!kept.is_empty()).context("PR_SET_KEEPCAPS")?;
        nix::unistd::setgroups(&[]).context("giving up groups")?;
        nix::unistd::setresgid(group, group, group).context("giving up the group")?;
        nix::unistd::setresuid(user, user, user).context("giving up the user")?;
        for set in [CapSet::Effective, CapSet::Permitted] {
            caps::set(None, set, &kept).context("giving up capabilities")?;
        }
    }
    nix::sys::prctl::set_no_new_privs().context("PR_SET_NO_NEW_PRIVS")?;
    nix::sys::prctl::set_dumpable(false).context("PR_SET_DUMPABLE")?;
    // After the change of identity, which undoes it.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("PR_SET_PDEATHSIG")?;
    if nix::unistd::getppid() != parent {
        return Ok(());
    }
    serve::run(settings, listeners, socket, begins)
}

/// Not only of a user namespace, where nobody else may be there to become.
fn is_root_of_the_host() -> bool {
    let maps = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let everybody = maps.split_whitespace().eq(["0", "0", "4294967295"]);
    Uid::effective().is_root() && everybody
}

/// What was opened stays; nothing else of the host's files is of use to it, or to somebody who takes it over.
pub fn fence() -> anyhow::Result<()> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V6))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .restrict_self()
        .context("landlock")?;
    Ok(())
}

/// What the terminal sends is not for this process, and what it had as standard descriptors is not its own.
fn detach() -> anyhow::Result<()> {
    nix::unistd::setsid().context("setsid")?;
    SigSet::empty().thread_set_mask().context("the signal mask")?;
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }.context("SIGPIPE")?;
    let nothing = std::fs::File::options().read(true).write(true).open("/dev/null").context("/dev/null")?;
    for fd in 0..2 {
        // SAFETY: only numbers. Standard error stays, for what keeps the broker from starting.
        unsafe { libc::dup2(nothing.as_raw_fd(), fd) };
    }
    Ok(())
}
