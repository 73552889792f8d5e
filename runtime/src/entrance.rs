//! How processes enter a running sandbox: the supervisor listens on a socket; a client connects and asks for a process, for a signal,
//! or for nothing more than news. One connection is one process, which ends with it.
//!
//! Who can connect is who may write to the socket's directory: the container's owner. Clients are still bounded and checked, and
//! what the sandbox says of a process reaches that process's client only.

use boundary::control::{FIRST, FromSandbox, MAX_DESCRIPTORS, MAX_MESSAGE, Standard, ToSandbox};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, UnixAddr, accept4, recvmsg, send, sendmsg,
};
use serde::{Deserialize, Serialize};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Clients at once.
const MAX_CLIENTS: usize = 4096;

/// From a client: one packet each.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// A process, with descriptors as [`ToSandbox::Enter`] has them. First of all on its connection, and once.
    Enter {
        /// Bytes of the encoded process.
        length: u64,
        /// Its standard files.
        standard: Standard,
        /// The container of the pod that it enters; `None` is the sandbox's own.
        container: Option<String>,
    },
    /// The first process of a container that joins, with descriptors as [`ToSandbox::Contain`] has them. Likewise.
    Contain {
        /// The container's name.
        container: String,
        /// Bytes of the encoded container.
        length: u64,
        /// Its standard files.
        standard: Standard,
    },
    /// A signal to the connection's process; without one, to the first process of a container.
    Signal {
        /// Signal number.
        number: i32,
        /// Which, as for `Enter`.
        container: Option<String>,
    },
    /// A signal to every process of a container.
    SignalAll {
        /// Signal number.
        number: i32,
        /// Which, as for `Enter`.
        container: Option<String>,
    },
    /// The terminal outside has another size.
    Window {
        /// Rows, columns, and both in pixels.
        size: [u16; 4],
    },
    /// The terminal outside has gone.
    TerminalGone,
    /// The first process may execute its program.
    Go,
    /// So many tasks at most from now on.
    Tasks {
        /// At most.
        limit: u32,
    },
}

/// To a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Its process executes the program.
    Started,
    /// There will be no such process.
    NotExecuted {
        /// Linux error number.
        errno: i32,
        /// What it was about.
        what: String,
    },
    /// Its process has ended, with this wait status.
    Exited {
        /// As wait(2) has it.
        status: i32,
    },
    /// The sandbox was told.
    Done,
    /// The sandbox takes no message now.
    Busy,
    /// There is no such container.
    Unknown,
}

struct Client {
    socket: OwnedFd,
    /// Number of its process, as long as that lives.
    process: Option<u32>,
    /// Name of the container that its process is the first one of.
    container: Option<String>,
    /// Nothing is to be heard of it any more.
    gone: bool,
}

/// The supervisor's side.
pub struct Entrance {
    listener: OwnedFd,
    clients: Vec<Client>,
    last: u32,
    /// Whether containers may join: the sandbox is a pod's.
    pod: bool,
    /// Called when the first process executes its program.
    started: Option<Box<dyn FnOnce()>>,
}

impl Entrance {
    /// `listener` is a listening `SOCK_SEQPACKET` socket that does not block; `started` is called when the first process executes
    /// its program.
    pub fn new(listener: OwnedFd, started: impl FnOnce() + 'static) -> Entrance {
        Entrance { listener, clients: Vec::new(), last: FIRST, pod: false, started: Some(Box::new(started)) }
    }

    /// Lets containers join.
    pub fn for_pod(mut self) -> Entrance {
        self.pod = true;
        self
    }

    /// What to wait for.
    pub fn interests(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let clients = self.clients.iter().map(|client| client.socket.as_fd());
        std::iter::once(self.listener.as_fd()).chain(clients)
    }

    /// Takes what clients say, without waiting; `control` leads to the sandbox.
    pub fn serve(&mut self, control: BorrowedFd<'_>) {
        while self.clients.len() < MAX_CLIENTS {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let Ok(socket) = accept4(&self.listener, flags) else { break };
            self.clients.push(Client { socket, process: None, container: None, gone: false });
        }
        for index in 0..self.clients.len() {
            self.serve_one(index, control);
        }
        self.clients.retain(|client| !client.gone);
    }

    /// What the sandbox says of a process that is not the first to end.
    pub fn told(&mut self, message: &FromSandbox) {
        let (number, reply, ends) = match message {
            FromSandbox::Started { process: FIRST } => {
                if let Some(started) = self.started.take() {
                    started();
                }
                return;
            }
            FromSandbox::Started { process } => (*process, Reply::Started, false),
            FromSandbox::Exited { process, status } => (*process, Reply::Exited { status: *status }, true),
            FromSandbox::NotExecuted { process, errno, reason } => {
                (*process, Reply::NotExecuted { errno: *errno, what: reason.clone() }, true)
            }
            FromSandbox::Fatal { .. } => return,
        };
        let client = self.clients.iter_mut().find(|client| client.process == Some(number));
        if let Some(client) = client {
            client.reply(&reply);
            if ends {
                (client.process, client.container) = (None, None);
            }
        }
    }
}

impl Drop for Entrance {
    /// The sandbox has ended, and with it every process.
    fn drop(&mut self) {
        for client in self.clients.iter().filter(|client| client.process.is_some()) {
            client.reply(&Reply::Exited { status: libc::SIGKILL });
        }
    }
}

impl Entrance {
    fn serve_one(&mut self, index: usize, control: BorrowedFd<'_>) {
        while let Some(client) = self.clients.get_mut(index) {
            match receive::<Request>(client.socket.as_fd()) {
                Ok(Received::Message(request, descriptors)) => {
                    self.answer(index, control, request, &descriptors);
                }
                Ok(Received::Nothing) => return,
                Ok(Received::End) | Err(_) => {
                    if let Some(process) = client.process.take() {
                        tell(control, &ToSandbox::Signal { process, number: libc::SIGKILL }, &[]);
                    }
                    client.gone = true;
                    return;
                }
            }
        }
    }

    /// The number of a container's first process, as long as that lives.
    fn number_of(&self, container: Option<&String>) -> Option<u32> {
        let Some(name) = container else { return Some(FIRST) };
        self.clients.iter().find(|client| client.container.as_ref() == Some(name))?.process
    }

    fn answer(&mut self, index: usize, control: BorrowedFd<'_>, request: Request, descriptors: &[OwnedFd]) {
        let number = self.last.wrapping_add(1).max(1);
        let may_join = self.pod;
        let container = match &request {
            Request::Enter { container, .. }
            | Request::Signal { container, .. }
            | Request::SignalAll { container, .. } => self.number_of(container.as_ref()),
            Request::Contain { container, .. } => self.number_of(Some(container)),
            Request::Window { .. } | Request::TerminalGone | Request::Go | Request::Tasks { .. } => None,
        };
        let Some(client) = self.clients.get_mut(index) else { return };
        let process = client.process;
        let refuse = |client: &Client, errno: i32, what: &str| {
            client.reply(&Reply::NotExecuted { errno, what: what.into() });
        };
        match request {
            Request::Enter { length, standard, .. } => {
                if process.is_some() || descriptors.len() != expected(&standard) {
                    return refuse(client, libc::EINVAL, "request");
                }
                let Some(container) = container else { return refuse(client, libc::ESRCH, "container") };
                let message = ToSandbox::Enter { process: number, container, length, standard };
                if !tell(control, &message, descriptors) {
                    return refuse(client, libc::EAGAIN, "sandbox");
                }
                client.process = Some(number);
                self.last = number;
            }
            Request::Contain { container: name, length, standard } => {
                if !may_join || process.is_some() || descriptors.len() != expected(&standard) + 1 {
                    return refuse(client, libc::EINVAL, "request");
                }
                if container.is_some() {
                    return refuse(client, libc::EEXIST, "container");
                }
                if !tell(control, &ToSandbox::Contain { process: number, length, standard }, descriptors) {
                    return refuse(client, libc::EAGAIN, "sandbox");
                }
                (client.process, client.container) = (Some(number), Some(name));
                self.last = number;
            }
            Request::Signal { number, .. } => match process.or(container) {
                Some(to) => {
                    let sent = tell(control, &ToSandbox::Signal { process: to, number }, &[]);
                    if process.is_none() {
                        client.reply(if sent { &Reply::Done } else { &Reply::Busy });
                    }
                }
                None => client.reply(&Reply::Unknown),
            },
            Request::SignalAll { number, .. } => match container {
                Some(container) => client.pass_on(control, &ToSandbox::SignalAll { container, number }),
                None => client.reply(&Reply::Unknown),
            },
            Request::Go => client.pass_on(control, &ToSandbox::Go),
            Request::Tasks { limit } => client.pass_on(control, &ToSandbox::Tasks { limit }),
            Request::Window { size } => {
                if let Some(process) = process {
                    tell(control, &ToSandbox::WindowChanged { process, size }, &[]);
                }
            }
            Request::TerminalGone => {
                if let Some(process) = process {
                    tell(control, &ToSandbox::TerminalGone { process }, &[]);
                }
            }
        }
    }
}

impl Client {
    fn pass_on(&self, control: BorrowedFd<'_>, message: &ToSandbox) {
        self.reply(if tell(control, message, &[]) { &Reply::Done } else { &Reply::Busy });
    }

    fn reply(&self, reply: &Reply) {
        if let Ok(bytes) = postcard::to_allocvec(reply) {
            // Who does not take it has gone, or will see the end of the connection.
            let _ = send(self.socket.as_raw_fd(), &bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        }
    }
}

/// Descriptors that come with a request to enter.
fn expected(standard: &Standard) -> usize {
    match standard {
        Standard::Terminal { .. } => 2,
        Standard::Files { flags } => 1 + flags.iter().flatten().count(),
    }
}

/// Sends a message to the sandbox, without waiting. Whether it took it.
fn tell(control: BorrowedFd<'_>, message: &ToSandbox, descriptors: &[OwnedFd]) -> bool {
    send_with(control, message, descriptors).is_ok()
}

/// Sends one packet with descriptors, without waiting.
pub(crate) fn send_with<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[impl AsRawFd],
) -> std::io::Result<()> {
    let bytes = postcard::to_allocvec(message).map_err(std::io::Error::other)?;
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &[][..] } else { &control[..] };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], control, flags, None)?;
    Ok(())
}

/// What a look at a socket brought.
pub(crate) enum Received<T> {
    /// A message, and the descriptors with it.
    Message(T, Vec<OwnedFd>),
    /// Not now.
    Nothing,
    /// The other side has gone.
    End,
}

/// Takes one packet, without waiting. One that is too long or no message is an error.
pub(crate) fn receive<T: serde::de::DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> std::io::Result<Received<T>> {
    let mut bytes = vec![0u8; MAX_MESSAGE + 1];
    let mut room = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let received = match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut slices, Some(&mut room), flags) {
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Received::Nothing),
        other => other?,
    };
    let length = received.bytes;
    let mut descriptors = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = message {
            // SAFETY: the host has just made them for this process.
            descriptors.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if length == 0 {
        return Ok(Received::End);
    }
    let message = bytes.get(..length).filter(|bytes| bytes.len() <= MAX_MESSAGE);
    let message = message.and_then(|bytes| postcard::from_bytes(bytes).ok());
    message
        .map(|message| Received::Message(message, descriptors))
        .ok_or_else(|| std::io::Error::other("it sent a message that cannot be read"))
}
