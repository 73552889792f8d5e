//! What send and receive calls carry between the program and a socket.

use crate::address::Address;
use alloc::vec::Vec;
use kernel::task::{self, Pid};
use kernel::uaccess::{Sink, Source};
use linux_raw_sys::net;
use vfs::file::FileRef;
use vfs::namespace::Lookup;

/// Who sent something (`struct ucred`), in virtual ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Process id.
    pub pid: Pid,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Credentials {
    /// Of nobody: what `SO_PEERCRED` tells of a socket without peer.
    pub const NONE: Credentials = Credentials { pid: Pid::NONE, uid: u32::MAX, gid: u32::MAX };
    /// What a receiver sees that asked for credentials after the sender had sent.
    pub const UNKNOWN: Credentials = Credentials { pid: Pid::NONE, uid: 65534, gid: 65534 };

    /// What goes with a message of the running process: its real ids.
    pub fn of_sender() -> Credentials {
        let task = task::current();
        let cred = task.cred();
        Credentials { pid: task.group.tgid, uid: cred.uid, gid: cred.gid }
    }

    /// What a peer learns of the running process: its effective ids.
    pub fn of_peer() -> Credentials {
        let task = task::current();
        let cred = task.cred();
        Credentials { pid: task.group.tgid, uid: cred.euid, gid: cred.egid }
    }
}

/// Where a message is to go, if its socket's peer is not meant.
#[derive(Clone, Copy)]
pub struct Destination<'a> {
    /// `struct sockaddr`, as long as the program says.
    pub address: &'a [u8],
    /// For unix addresses that are paths.
    pub lookup: &'a Lookup<'a>,
}

/// What a message carries beside its bytes.
#[derive(Default)]
pub struct Attached {
    /// `SCM_CREDENTIALS`, checked.
    pub credentials: Option<Credentials>,
    /// `SCM_RIGHTS`.
    pub files: Vec<FileRef>,
    /// Numbers of other levels: level, type and value.
    pub numbers: Vec<(u32, u32, i32)>,
}

/// A message to be sent.
pub struct Outgoing<'a, 'b> {
    /// Its bytes.
    pub source: &'a mut Source<'b>,
    /// `MSG_*`.
    pub flags: u32,
    /// The call must not block (`O_NONBLOCK` or `MSG_DONTWAIT`).
    pub nonblocking: bool,
    /// Where to.
    pub to: Option<Destination<'a>>,
    /// What goes with it.
    pub attached: Attached,
}

impl Outgoing<'_, '_> {
    /// Whether `flag` (`MSG_*`) is set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// `EPIPE`, with SIGPIPE unless the caller does not want it.
    pub fn broken_pipe(&self) -> crate::Errno {
        if !self.has(net::MSG_NOSIGNAL) {
            task::current().raise(kernel::signal::SIGPIPE);
        }
        crate::Errno::EPIPE
    }
}

/// A control message that a socket makes itself: level, type and bytes.
pub type Ancillary = (u32, u32, Vec<u8>);

/// Room for a message to be received, and what is learnt of it.
pub struct Incoming<'a, 'b> {
    /// Where its bytes go.
    pub sink: &'a mut Sink<'b>,
    /// `MSG_*` of the call.
    pub flags: u32,
    /// The call must not block.
    pub nonblocking: bool,
    /// `msg_flags` to report (`MSG_TRUNC`, ...).
    pub report: u32,
    /// The caller wants to know who sent it.
    pub wants_name: bool,
    /// Who sent it; `None` for sockets that do not tell (connected streams).
    pub from: Option<Address>,
    /// Credentials of the sender, if the socket passes them.
    pub credentials: Option<Credentials>,
    /// Descriptors that were sent.
    pub files: Vec<FileRef>,
    /// Other control messages.
    pub ancillary: Vec<Ancillary>,
}

impl<'a, 'b> Incoming<'a, 'b> {
    /// A receive call with `flags` into `sink`.
    pub fn new(sink: &'a mut Sink<'b>, flags: u32, nonblocking: bool) -> Incoming<'a, 'b> {
        Incoming {
            sink,
            flags,
            nonblocking,
            report: 0,
            wants_name: false,
            from: None,
            credentials: None,
            files: Vec::new(),
            ancillary: Vec::new(),
        }
    }

    /// Whether `flag` (`MSG_*`) is set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}
