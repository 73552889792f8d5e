//! From a checked request to a process that runs the kernel image: namespaces, the tree, confinement, the jump.

mod cgroup;
mod confine;
mod courier;
mod facts;
mod fence;
mod granted;
mod guard;
mod handover;
mod helper;
mod idmap;
mod image;
mod keys;
mod namespaces;
mod pod;
mod tree;
mod walls;

pub use confine::close_others;
pub use facts::{Identity, caller, container};
pub use granted::closed;
pub use image::IMAGE;
pub use keys::KernelGuard;
pub use namespaces::Layer;
pub use pod::container_tree;
pub use tree::TREE;
pub use walls::Walls;

use crate::attributes::Door;
use crate::filter;
use crate::view::View;
use boundary::boot::{BootConfig, BootOptions, HostFacts, Interface};
use boundary::process::Process;
use handover::{Handover, Prepared};
use idmap::Idmapped;
use keys::Keys;
use namespaces::Rest;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::convert::Infallible;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// What keeps a sandbox from starting: the thing, the reason, the way out.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A host call failed.
    #[error("{what}: {source}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// What the host said.
        source: std::io::Error,
    },
    /// The host lacks something, or refuses it.
    #[error("{what}: {reason}; {way_out}")]
    Missing {
        /// What.
        what: String,
        /// Why.
        reason: String,
        /// What can be done.
        way_out: String,
    },
    /// A path could not be laid out.
    #[error("{path}: {what}: {source}")]
    Path {
        /// Which.
        path: String,
        /// What was tried.
        what: &'static str,
        /// What the host said.
        source: std::io::Error,
    },
    /// The embedded image is not what this program expects.
    #[error("the kernel image inside this program is broken ({0}); build it again")]
    Image(&'static str),
    /// Arguments and environment do not fit the boot page.
    #[error(
        "arguments and environment take {bytes} bytes, more than the {room} that a sandbox can start with"
    )]
    TooLarge {
        /// What they take.
        bytes: usize,
        /// What there is.
        room: usize,
    },
    /// The launched process failed before the kernel ran, and said this.
    #[error("{0}")]
    Launched(String),
    /// The filter.
    #[error(transparent)]
    Filter(#[from] filter::FilterError),
}

impl LaunchError {
    pub(crate) fn last(what: &'static str) -> LaunchError {
        LaunchError::Host { what, source: std::io::Error::last_os_error() }
    }
}

impl From<(&'static str, nix::Error)> for LaunchError {
    fn from((what, error): (&'static str, nix::Error)) -> Self {
        LaunchError::host(what, error.into())
    }
}

impl LaunchError {
    /// What the host refused, with the way out where there is one.
    fn host(what: &'static str, source: std::io::Error) -> LaunchError {
        match source.raw_os_error() {
            Some(libc::EMFILE) => LaunchError::Missing {
                what: what.into(),
                reason: source.to_string(),
                way_out: "raise the limit on open files (`ulimit -n`)".into(),
            },
            _ => LaunchError::Host { what, source },
        }
    }
}

/// Tasks of a container that the host lets it have, whatever its kernel allows: its control group bounds them as its owner wants.
pub const MOST_TASKS: u32 = 32768;

/// What to launch.
pub struct Request {
    /// The kernel image: [`IMAGE`].
    pub image: &'static [u8],
    /// Layers to go on without where the host lacks them.
    pub allow_missing: Vec<Layer>,
    /// What separates it from the host.
    pub walls: Walls,
    /// The first process.
    pub first: Process,
    /// How the host sees the sandbox.
    pub identity: Identity,
    /// Where memory is short, the host ends what has most of this first (`/proc/PID/oom_score_adj`).
    pub oom_score_adj: i32,
    /// Its host name.
    pub hostname: String,
    /// Its NIS domain name, `(none)` by default as on Linux.
    pub domainname: String,
    /// What it sees.
    pub view: View,
    /// What the kernel is to do.
    pub options: BootOptions,
    /// A limit of memory that the caller has asked for: the host is to hold it, too.
    pub memory: Option<u64>,
    /// Where log lines go.
    pub log: Option<OwnedFd>,
    /// Where `--strace` lines go.
    pub strace: Option<OwnedFd>,
    /// The socket that is the master of the sandbox's terminal, if it is to have one instead of the caller's standard
    /// descriptors.
    pub terminal: Option<OwnedFd>,
    /// Where the table of `--stats` goes.
    pub stats: Option<OwnedFd>,
    /// The socket to the broker, if there is one.
    pub broker: Option<OwnedFd>,
    /// The interface that the sandbox takes over, and the packet socket on it ([`crate::stack`]).
    pub stack: Option<(Interface, OwnedFd)>,
    /// Where the changes are told.
    pub changes: Option<OwnedFd>,
}

/// A launched sandbox.
pub struct Launched {
    /// Host process id of the warden.
    pub pid: libc::pid_t,
    /// What separates it from the host.
    pub walls: Walls,
    /// The control socket.
    pub control: OwnedFd,
    /// Holds the sandbox, where the host allows it; goes with it.
    pub group: Option<cgroup::Group>,
    /// Tells of host calls that the filter does not allow, if the host can.
    pub listener: Option<OwnedFd>,
    /// Makes some of them, for a sandbox without a mount namespace that may write to the host.
    pub door: Option<Door>,
}

impl Walls {
    /// Ends every process of the sandbox of this warden, which was not waited for yet. Safe at any time before that.
    pub fn end(self, warden: Pid) {
        match self {
            // Process 1 of its namespace.
            Walls::Namespaces => drop(nix::sys::signal::kill(warden, nix::sys::signal::Signal::SIGKILL)),
            Walls::Landlock => guard::end(warden),
        }
    }

    /// Waits for the warden's end; afterwards nothing of the sandbox is left.
    pub fn reap(self, warden: Pid) -> nix::Result<WaitStatus> {
        if self == Walls::Landlock {
            // Its number is the group's until it is waited for.
            let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            while waitid(Id::Pid(warden), ended) == Err(Errno::EINTR) {}
            guard::end(warden);
        }
        let status = loop {
            match waitpid(warden, None) {
                Err(Errno::EINTR) => {}
                other => break other,
            }
        };
        if self == Walls::Landlock {
            guard::reap(warden);
        }
        status
    }
}

/// Starts the warden's process, process 1 of its own pid namespace if it has one, and comes back when the kernel image runs in it.
/// The caller has one thread.
pub fn launch(request: Request) -> Result<Launched, LaunchError> {
    filter::check_host().map_err(|source| LaunchError::Missing {
        what: "seccomp filters".into(),
        reason: source.to_string(),
        way_out: "use a kernel with CONFIG_SECCOMP_FILTER, Linux 4.14 or newer".into(),
    })?;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|error| ("the control socket", error))?;
    let (listener, courier) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|error| ("a socket for the filter's listener", error))?;
    let (failure_read, failure_write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map_err(|error| LaunchError::from(("a pipe", error)))?;
    let (mut prepared, supervisors) =
        UnixStream::pair().map_err(|source| LaunchError::host("a socket", source))?;
    let group = request.memory.and_then(cgroup::Group::make);
    let (walls, supervisor) = (request.walls, std::process::id());
    let handover = Handover::new(&request, &theirs)?;
    let door = match walls {
        Walls::Namespaces => None,
        Walls::Landlock => Door::new(&request.view),
    };
    let (pid, rest) = match walls {
        Walls::Namespaces => namespaces::clone(&request.allow_missing)?,
        Walls::Landlock => {
            guard::adopt()?;
            let pid = namespaces::fork(libc::SIGCHLD)
                .map_err(|source| LaunchError::Host { what: "a process for the sandbox", source })?;
            (pid, 0)
        }
    };
    if pid == 0 {
        drop((ours, listener, failure_read, prepared));
        let failure = File::from(failure_write);
        let ends = Ends { control: theirs, courier, failure: &failure, supervisors, supervisor, rest };
        let Err(error) = prepare(request, handover, ends);
        let _ = (&failure).write_all(error.to_string().as_bytes());
        std::process::exit(125);
    }
    drop((theirs, courier, failure_write, supervisors));
    // Where the host lets us make a cgroup and not use it, there is none.
    let group = group.filter(|group| group.take(pid).is_ok());
    let mapped = match walls {
        Walls::Namespaces => namespaces::write_id_maps(pid, &request.identity),
        Walls::Landlock => Ok(()),
    };
    let begun = mapped.and_then(|()| {
        // One that has failed by now takes nothing more, and tells why.
        let _ = prepared.write_all(b"r");
        let idmapped = match walls {
            Walls::Namespaces => idmap::prepare(&request.view.host_paths, &request.identity),
            Walls::Landlock => Idmapped::default(),
        };
        idmapped.send(&prepared);
        Prepared::send(&handover.configuration(&request), prepared)?;
        drop((handover, idmapped));
        // Closed without a word when the kernel image takes over.
        let mut said = String::new();
        let _ = File::from(failure_read).take(64 << 10).read_to_string(&mut said);
        if said.is_empty() { Ok(()) } else { Err(LaunchError::Launched(said)) }
    });
    if let Err(error) = begun {
        walls.end(Pid::from_raw(pid));
        let _ = walls.reap(Pid::from_raw(pid));
        return Err(error);
    }
    // Its end of the socket is closed by then, or closed soon.
    let listener = courier::receive(&listener);
    let launched = Launched { pid, walls, control: ours, listener, group, door };
    if launched.door.is_some() && launched.listener.is_none() {
        walls.end(Pid::from_raw(pid));
        let _ = walls.reap(Pid::from_raw(pid));
        return Err(LaunchError::Missing {
            what: "a listener of the filter".into(),
            reason: "without user namespaces what is granted for writing needs one, and a filter around this process has it"
                .into(),
            way_out: "grant for reading only (--ro-bind, --overlay), or start it outside of that".into(),
        });
    }
    Ok(launched)
}

/// What the launched process has of the supervisor.
struct Ends<'a> {
    /// The sandbox's end of the control socket.
    control: OwnedFd,
    /// Where the filter's listener goes.
    courier: OwnedFd,
    /// Where a failure is told.
    failure: &'a File,
    /// What the supervisor sends: a byte when the id maps are written, then [`Idmapped`], then [`Prepared`].
    supervisors: UnixStream,
    /// Its process id.
    supervisor: u32,
    /// Flags of the namespaces that are still to be entered.
    rest: libc::c_int,
}

/// In the launched process: everything up to the jump. Comes back only with an error.
fn prepare(request: Request, handover: Handover, ends: Ends<'_>) -> Result<Infallible, LaunchError> {
    let Ends { control, courier, failure, mut supervisors, supervisor, rest } = ends;
    confine::die_with_parent(control.as_fd())?;
    let rest = (rest != 0).then(|| Rest::begin(rest)).transpose()?;
    confine::reset_signals()?;
    let special_maps = facts::special_maps()?;
    // What is read of the host's /proc must be read before it is out of reach.
    let host_ids = request.identity.host_ids(request.walls);
    let nothing = request.terminal.as_ref().map(|_| open_null()).transpose()?;
    if supervisors.read_exact(&mut [0u8; 1]).is_err() {
        // The parent could not write the maps, and says so itself.
        std::process::exit(125);
    }
    // A container's number can be raised later, which a limit of the host cannot.
    let tasks = request.options.pids_limit.max(if request.identity.container { MOST_TASKS } else { 0 });
    confine::limits(request.walls, tasks, request.oom_score_adj)?;
    handover.size_memory()?;
    handover.set_root(match request.walls {
        Walls::Namespaces => {
            let idmapped = idmap::receive(&supervisors, request.view.host_paths.len())
                .map_err(|source| LaunchError::host("what the supervisor sends", source))?;
            let root = tree::build(&request.view, &idmapped, &request.identity)?;
            rest.iter().try_for_each(Rest::enter)?;
            confine::own_session()?;
            confine::drop_privileges(&request.identity, control.as_fd())?;
            fence::raise(&request.view, &request.allow_missing)?;
            root
        }
        Walls::Landlock => {
            let root = tree::of_the_host()?;
            confine::own_session()?;
            guard::start(supervisor)?;
            confine::drop_capabilities(&[])?;
            confine::die_with_parent(control.as_fd())?;
            granted::raise(&request.view)?;
            root
        }
    })?;
    let keys = request.options.kernel_guard.then(Keys::allocate).transpose()?;
    let mapped = image::map(request.image, handover.fds.heap, handover.fds.frames, keys.as_ref())?;
    let token = keys.map_or(0, |keys| keys.token);
    if let Some(nothing) = nothing {
        close_standard(&nothing)?;
    }
    let Prepared { facts, allowlist } = Prepared::receive(supervisors)?;
    // The socket stays open.
    let (interface, _packet) = request.stack.unzip();
    let config = BootConfig {
        first: request.first,
        host_ids,
        hostname: request.hostname,
        domainname: request.domainname,
        mounts: request.view.mounts,
        filter: filter::guarded(allowlist, mapped.gadget, token)?,
        fds: handover.fds,
        options: request.options,
        host: HostFacts { special_maps, gadget: mapped.gadget, text: mapped.text, token, ..facts },
        interface,
    };
    // The image takes the end of its only child for the courier's.
    drop(rest);
    let courier = courier::start(image::listener_word(&mapped), courier)?;
    confine::close_others(&[&handover.all()[..], &[courier, failure.as_raw_fd()]].concat())?;
    // The supervisor takes the end of this pipe as "the kernel runs".
    // SAFETY: the descriptor is not used again: a failure from here on has its own exit status.
    unsafe { libc::close(failure.as_raw_fd()) };
    Err(image::enter(&mapped, &config))
}

fn open_null() -> Result<File, LaunchError> {
    let options = File::options().read(true).write(true).open("/dev/null");
    options.map_err(|source| LaunchError::Host { what: "/dev/null", source })
}

/// Nothing of the caller's is left as a standard descriptor: the sandbox has a terminal of its own.
fn close_standard(nothing: &File) -> Result<(), LaunchError> {
    for fd in 0..3 {
        // SAFETY: only numbers; what the standard descriptors were is not used any more.
        if unsafe { libc::dup2(nothing.as_raw_fd(), fd) } < 0 {
            return Err(LaunchError::last("/dev/null"));
        }
    }
    Ok(())
}
