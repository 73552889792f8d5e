//! What a sandbox gets of the launcher. Its descriptors are all there before the launched process is, so that the supervisor knows their
//! numbers, too: it compiles the filter, which names some of them, while the launched process lays out the tree.

use super::{LaunchError, Request, facts};
use crate::filter::{self, Configuration};
use boundary::boot::{BootFds, HostFacts};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

const MFD_NOEXEC_SEAL: u32 = 8;
const MFD_EXEC: u32 = 0x10;

/// Those that the launcher makes, and the numbers of all.
pub struct Handover {
    heap: OwnedFd,
    frames: OwnedFd,
    /// Holds the number until there is a root.
    root: OwnedFd,
    /// As the image is told.
    pub fds: BootFds,
}

impl Handover {
    /// Makes them; `control` is the sandbox's end of its control socket.
    pub fn new(request: &Request, control: &OwnedFd) -> Result<Handover, LaunchError> {
        // What is never mapped executable is sealed so.
        let heap = memory_file(c"trapbox-heap", MFD_NOEXEC_SEAL)?;
        let frames = memory_file(c"trapbox-frames", MFD_EXEC)?;
        let root = control.try_clone().map_err(|source| LaunchError::host("a descriptor", source))?;
        let fd_of = |fd: &Option<OwnedFd>| fd.as_ref().map_or(-1, |fd| fd.as_raw_fd());
        let fds = BootFds {
            stdio: match &request.terminal {
                Some(_) => [-1; 3],
                None => crate::standard::descriptors(),
            },
            root: root.as_raw_fd(),
            control: control.as_raw_fd(),
            log: fd_of(&request.log),
            strace: fd_of(&request.strace),
            terminal: fd_of(&request.terminal),
            stats: fd_of(&request.stats),
            broker: fd_of(&request.broker),
            packet: request.stack.as_ref().map_or(-1, |(_, packet)| packet.as_raw_fd()),
            changes: fd_of(&request.changes),
            heap: heap.as_raw_fd(),
            frames: frames.as_raw_fd(),
        };
        Ok(Handover { heap, frames, root, fds })
    }

    /// Gives the memory its size, in the launched process, which has lifted its limits.
    pub fn size_memory(&self) -> Result<(), LaunchError> {
        for (fd, size) in
            [(&self.heap, boundary::layout::HEAP_SIZE), (&self.frames, boundary::layout::FRAMES_SIZE)]
        {
            nix::unistd::ftruncate(fd, size as i64).map_err(|error| LaunchError::Missing {
                what: "memory for the sandbox".into(),
                reason: error.to_string(),
                way_out: "lift the limit on file sizes (`ulimit -f unlimited`)".into(),
            })?;
        }
        Ok(())
    }

    /// Puts the root of the sandbox's tree in its place.
    pub fn set_root(&self, root: OwnedFd) -> Result<(), LaunchError> {
        // SAFETY: only numbers; the number is this structure's own.
        if unsafe { libc::dup3(root.as_raw_fd(), self.root.as_raw_fd(), libc::O_CLOEXEC) } < 0 {
            return Err(LaunchError::last("the descriptor of the new root"));
        }
        Ok(())
    }

    /// What the filter depends on.
    pub fn configuration(&self, request: &Request) -> Configuration {
        let is_terminal = |fd: RawFd| {
            // SAFETY: asks about a standard descriptor; one that is closed is no terminal.
            fd >= 0 && unsafe { libc::isatty(fd) } == 1
        };
        let number = |fd: RawFd| u64::try_from(fd).ok();
        Configuration {
            walls: request.walls,
            writable_bind: request.view.has_writable_host_path() || request.view.pod.is_some(),
            granted: request.view.granted,
            container: request.options.container,
            kernel_guard: request.options.kernel_guard,
            terminal: self.fds.stdio.into_iter().any(is_terminal),
            control_fd: self.fds.control as u64,
            broker_fd: number(self.fds.broker),
            packet_fd: number(self.fds.packet),
            frames_fd: self.fds.frames as u64,
            last_fd: self.all().into_iter().max().and_then(number).unwrap_or(2),
        }
    }

    /// Every number that the sandbox keeps, and -1 for what it has not.
    pub fn all(&self) -> [RawFd; 12] {
        let fds = &self.fds;
        [
            2,
            fds.root,
            fds.control,
            fds.log,
            fds.strace,
            fds.terminal,
            fds.stats,
            fds.broker,
            fds.packet,
            fds.changes,
            fds.heap,
            fds.frames,
        ]
    }
}

/// Memory that all processes of the sandbox will share, still without a size; `sealed` where the host can (memfd_create(2), Linux 6.3).
fn memory_file(name: &std::ffi::CStr, sealed: u32) -> Result<OwnedFd, LaunchError> {
    let create = |flags: u32| {
        // SAFETY: the name is a terminated string.
        unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | flags) }
    };
    let mut fd = create(sealed);
    if fd < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        fd = create(0);
    }
    if fd < 0 {
        let source = std::io::Error::last_os_error();
        let way_out = match source.raw_os_error() {
            Some(libc::EACCES) => {
                "executable memory files are forbidden; `sysctl vm.memfd_noexec=0` allows them"
            }
            Some(libc::EMFILE) => "raise the limit on open files (`ulimit -n`)",
            _ => "use a kernel with CONFIG_MEMFD_CREATE",
        };
        return Err(LaunchError::Missing {
            what: "memory for the sandbox (memfd_create)".into(),
            reason: source.to_string(),
            way_out: way_out.into(),
        });
    }
    // SAFETY: a descriptor that was just made.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the supervisor prepares while the launched process lays out the tree.
#[derive(Debug, Serialize, Deserialize)]
pub struct Prepared {
    /// What the kernel is told of the host.
    pub facts: HostFacts,
    /// The filter's allowlist.
    pub allowlist: Vec<u64>,
}

impl Prepared {
    /// Prepares it and sends it. A launched process that has failed reads nothing, and tells why by itself.
    pub fn send(configuration: &Configuration, mut to: UnixStream) -> Result<(), LaunchError> {
        let prepared = Prepared { facts: facts::gather()?, allowlist: filter::allowlist(configuration)? };
        let bytes = postcard::to_allocvec(&prepared)
            .map_err(|_| LaunchError::Image("what is known of the host cannot be encoded"))?;
        let _ = to.write_all(&bytes);
        Ok(())
    }

    /// Takes it in the launched process: all of it, or nothing.
    pub fn receive(mut from: UnixStream) -> Result<Prepared, LaunchError> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)
            .map_err(|source| LaunchError::host("what the supervisor sends", source))?;
        postcard::from_bytes(&bytes)
            .map_err(|_| LaunchError::Launched("the supervisor did not send the filter".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allowlist_arrives_as_it_was_compiled() {
        let (read, write) = UnixStream::pair().expect("a socket pair");
        let configuration = Configuration::default();
        Prepared::send(&configuration, write).expect("it compiles");
        let sent = filter::allowlist(&configuration).expect("it compiles");
        assert_eq!(Prepared::receive(read).expect("it arrives").allowlist, sent);
    }

    #[test]
    fn what_arrives_in_part_is_not_taken() {
        let (read, write) = UnixStream::pair().expect("a socket pair");
        Prepared::send(&Configuration::default(), write).expect("it compiles");
        let mut whole = Vec::new();
        { read }.read_to_end(&mut whole).expect("it arrives");
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            let (read, mut write) = UnixStream::pair().expect("a socket pair");
            write.write_all(&whole[..length]).expect("it is written");
            drop(write);
            assert!(Prepared::receive(read).is_err(), "{length} of {} bytes", whole.len());
        }
    }
}
