//! From a checked request to a process that runs the kernel image: namespaces, the tree, confinement, the jump.

mod confine;
mod facts;
mod image;
mod tree;

pub use facts::{Identity, caller};
pub use image::IMAGE;

use crate::filter::{self, Configuration};
use crate::view::View;
use boundary::boot::{BootConfig, BootFds, BootOptions, HostFacts};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

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
    /// The host refuses user namespaces.
    #[error(
        "user namespaces: the host refuses them ({source}); an administrator can allow them with `sysctl \
         kernel.unprivileged_userns_clone=1`, `sysctl user.max_user_namespaces=10000`, or (Ubuntu) an AppArmor profile \
         for this program"
    )]
    UserNamespaces {
        /// What the host said.
        source: std::io::Error,
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
    #[error("arguments and environment take {bytes} bytes, more than the {room} that a sandbox can start with")]
    TooLarge {
        /// What they take.
        bytes: usize,
        /// What there is.
        room: usize,
    },
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
        LaunchError::Host { what, source: error.into() }
    }
}

/// What to launch.
pub struct Request {
    /// Arguments of the program.
    pub argv: Vec<Vec<u8>>,
    /// Its path inside.
    pub program: Vec<u8>,
    /// Its environment.
    pub env: Vec<Vec<u8>>,
    /// Its working directory.
    pub cwd: Vec<u8>,
    /// Who it is.
    pub identity: Identity,
    /// Its host name.
    pub hostname: String,
    /// What it sees.
    pub view: View,
    /// What the kernel is to do.
    pub options: BootOptions,
    /// Where log lines go.
    pub log: Option<OwnedFd>,
    /// Where `--strace` lines go.
    pub strace: Option<OwnedFd>,
}

/// A launched sandbox.
pub struct Launched {
    /// Host process id of the warden.
    pub pid: libc::pid_t,
    /// The control socket.
    pub control: OwnedFd,
    /// What went wrong before the kernel ran, if anything: one message, read until its end.
    pub failure: File,
}

/// Starts the warden's process. It becomes process 1 of its own pid namespace.
pub fn launch(request: Request) -> Result<Launched, LaunchError> {
    let facts = facts::gather()?;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|error| ("the control socket", error))?;
    let (failure_read, failure_write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map_err(|error| ("a pipe", error))?;
    let (ready_read, ready_write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map_err(|error| ("a pipe", error))?;
    let flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP
        | libc::SIGCHLD;
    // SAFETY: without a new stack this is fork(2) into new namespaces; this program has one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_ulong, 0, 0, 0, 0) } as libc::pid_t;
    if pid < 0 {
        let source = std::io::Error::last_os_error();
        return Err(LaunchError::UserNamespaces { source });
    }
    if pid == 0 {
        drop((ours, failure_read, ready_write));
        let mut failure = File::from(failure_write);
        let mut ready = [0u8; 1];
        if File::from(ready_read).read_exact(&mut ready).is_err() {
            // The parent could not write the maps, and says so itself.
            std::process::exit(125);
        }
        let error = become_warden(request, facts, theirs, &failure);
        let _ = failure.write_all(error.to_string().as_bytes());
        std::process::exit(125);
    }
    drop((theirs, failure_write, ready_read));
    if let Err(error) = facts::write_id_maps(pid, &request.identity) {
        // SAFETY: our own child.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
        return Err(error);
    }
    File::from(ready_write).write_all(b"r").map_err(|source| LaunchError::Host { what: "a pipe", source })?;
    Ok(Launched { pid, control: ours, failure: File::from(failure_read) })
}

/// In the launched process: everything up to the jump. Comes back only with an error.
fn become_warden(request: Request, facts: HostFacts, control: OwnedFd, failure: &File) -> LaunchError {
    match prepare(request, facts, control, failure) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

enum Never {}

fn memory_file(name: &std::ffi::CStr, size: u64) -> Result<OwnedFd, LaunchError> {
    // SAFETY: the name is a terminated string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(LaunchError::last("memory for the sandbox (memfd_create)"));
    }
    // SAFETY: a descriptor that was just made.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    nix::unistd::ftruncate(&fd, size as i64).map_err(|error| ("sizing the sandbox's memory", error))?;
    Ok(fd)
}

fn prepare(
    request: Request,
    mut facts: HostFacts,
    control: OwnedFd,
    failure: &File,
) -> Result<Never, LaunchError> {
    confine::die_with_parent()?;
    let heap = memory_file(c"trapbox-heap", boundary::layout::HEAP_SIZE)?;
    let frames = memory_file(c"trapbox-frames", boundary::layout::FRAMES_SIZE)?;
    facts::special_maps(&mut facts)?;
    let root = tree::build(&request.view, &request.identity)?;
    confine::drop_privileges(&request.identity)?;
    let mapped = image::map(heap.as_raw_fd(), frames.as_raw_fd())?;
    let standard = |fd: RawFd| if nix::fcntl::fcntl(borrowed(fd), nix::fcntl::FcntlArg::F_GETFD).is_ok() { fd } else { -1 };
    let stdio = [standard(0), standard(1), standard(2)];
    let fd_of = |fd: &Option<OwnedFd>| fd.as_ref().map_or(-1, |fd| fd.as_raw_fd());
    let fds = BootFds {
        stdio,
        root: root.as_raw_fd(),
        control: control.as_raw_fd(),
        log: fd_of(&request.log),
        strace: fd_of(&request.strace),
        heap: heap.as_raw_fd(),
        frames: frames.as_raw_fd(),
    };
    let configuration = Configuration {
        writable_bind: request.view.has_writable_host_path(),
        terminal: stdio.iter().any(|&fd| fd >= 0 && nix::unistd::isatty(borrowed(fd)).unwrap_or(false)),
        control_fd: control.as_raw_fd() as u64,
    };
    facts.gadget = mapped.gadget;
    let config = BootConfig {
        argv: request.argv,
        program: request.program,
        env: request.env,
        cwd: request.cwd,
        identity: request.identity.boot(),
        hostname: request.hostname,
        mounts: request.view.mounts,
        filter: filter::compile(&configuration, mapped.gadget)?,
        fds,
        options: request.options,
        host: facts,
    };
    confine::close_others(&[fds.root, fds.control, fds.log, fds.strace, fds.heap, fds.frames, failure.as_raw_fd()])?;
    // The supervisor takes the end of this pipe as "the kernel runs".
    // SAFETY: the descriptor is not used again: a failure from here on has its own exit status.
    unsafe { libc::close(failure.as_raw_fd()) };
    Err(image::enter(&mapped, &config))
}

fn borrowed(fd: RawFd) -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: used for standard descriptors, which stay as they are for the process's life.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}
