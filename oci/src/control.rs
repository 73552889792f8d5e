//! The monitor's sockets. On one it is asked to start, or to end before that: a request and its reply are a packet each. The other is
//! the entrance of the running sandbox. Their directory is private, so who can connect may do all.

use anyhow::Context;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, connect, listen, recv,
    send, socket,
};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// Where the monitor is asked to start.
pub const CONTROL: &str = "control";
/// Where the running sandbox is asked ([`runtime::entrance`]).
pub const ENTRANCE: &str = "entrance";
/// Longest packet.
const LONGEST: usize = 64 << 10;

/// From a verb.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Run the program.
    Start,
    /// Send the program a signal.
    Signal(i32),
    /// So many tasks at most.
    Tasks(u32),
}

/// To a verb.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// It is not, for this reason.
    Failed(String),
}

/// A socket's path, short enough for an address (unix(7)) however long the directory's is: through a descriptor of it.
pub struct Address {
    /// The path, as long as this is there.
    pub path: PathBuf,
    _directory: File,
}

/// The path of a socket in a container's directory.
pub fn address(directory: &Path, name: &str) -> anyhow::Result<Address> {
    let opened = File::open(directory).with_context(|| directory.display().to_string())?;
    Ok(Address { path: format!("/proc/self/fd/{}/{name}", opened.as_raw_fd()).into(), _directory: opened })
}

/// Makes a socket, for the monitor.
pub fn listener(directory: &Path, name: &str) -> anyhow::Result<OwnedFd> {
    let address = address(directory, name)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener =
        socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).context("the control socket")?;
    bind(listener.as_raw_fd(), &UnixAddr::new(&address.path)?).context("binding the control socket")?;
    listen(&listener, Backlog::new(64)?).context("the control socket")?;
    Ok(listener)
}

/// Asks the monitor of the container in `directory`.
pub fn ask(directory: &Path, request: &Request) -> anyhow::Result<()> {
    let address = address(directory, CONTROL)?;
    let connection = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(connection.as_raw_fd(), &UnixAddr::new(&address.path)?).context("container not running")?;
    send(connection.as_raw_fd(), &serde_json::to_vec(request)?, MsgFlags::MSG_NOSIGNAL)
        .context("container not running")?;
    let mut packet = vec![0u8; LONGEST];
    let length = loop {
        match recv(connection.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            Err(nix::Error::EINTR) => {}
            other => break other.context("the container's monitor")?,
        }
    };
    match serde_json::from_slice(packet.get(..length).unwrap_or_default()) {
        Ok(Reply::Done) => Ok(()),
        Ok(Reply::Failed(reason)) => anyhow::bail!("{reason}"),
        Err(_) => anyhow::bail!("the container's monitor ended without an answer"),
    }
}

/// A verb that waits for its answer.
#[derive(Debug)]
pub struct Asker(OwnedFd);

impl Asker {
    /// Takes the next that has come, with what it asks. One that has gone, or says what is not understood, is let go.
    pub fn next(listener: &OwnedFd) -> Option<(Asker, Request)> {
        let connection = accept4(listener, SockFlag::SOCK_CLOEXEC).ok()?;
        let mut packet = vec![0u8; LONGEST];
        let length = recv(connection.as_raw_fd(), &mut packet, MsgFlags::empty()).ok()?;
        let request = serde_json::from_slice(packet.get(..length)?).ok()?;
        Some((Asker(connection), request))
    }

    /// Its socket, for who closes all others.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Answers, once. Who has gone need not hear it.
    pub fn answer(self, reply: &Reply) {
        self.tell(reply);
    }

    /// As [`Asker::answer`], for one of several processes of which only one will.
    pub fn tell(&self, reply: &Reply) {
        if let Ok(bytes) = serde_json::to_vec(reply) {
            let _ = send(self.0.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT);
        }
    }
}
