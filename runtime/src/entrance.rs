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
    },
    /// A signal to the connection's process; without one, to the first process.
    Signal {
        /// Signal number.
        number: i32,
    },
    /// A signal to every process.
    SignalAll {
        /// Signal number.
        number: i32,
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
}

struct Client {
    socket: OwnedFd,
    /// Number of its process, as long as that lives.
    process: Option<u32>,
    /// Nothing is to be heard of it any more.
    gone: bool,
}

/// The supervisor's side.
pub struct Entrance {
    listener: OwnedFd,
    clients: Vec<Client>,
    last: u32,
    /// Called when the first process executes its program.
    started: Option<Box<dyn FnOnce()>>,
}

impl Entrance {
    /// `listener` is a listening `SOCK_SEQPACKET` socket that does not block; `started` is called when the first process executes
    /// its program.
    pub fn new(listener: OwnedFd, started: impl FnOnce() + 'static) -> Entrance {
        Entrance { listener, clients: Vec::new(), last: FIRST, started: Some(Box::new(started)) }
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
            self.clients.push(Client { socket, process: None, gone: false });
        }
        let Entrance { clients, last, .. } = self;
        clients.iter_mut().for_each(|client| client.serve(control, last));
        clients.retain(|client| !client.gone);
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
                client.process = None;
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

impl Client {
    fn serve(&mut self, control: BorrowedFd<'_>, last: &mut u32) {
        loop {
            let (request, descriptors) = match receive::<Request>(self.socket.as_fd()) {
                Ok(Received::Message(request, descriptors)) => (request, descriptors),
                Ok(Received::Nothing) => return,
                Ok(Received::End) | Err(_) => {
                    if let Some(process) = self.process.take() {
                        tell(control, &ToSandbox::Signal { process, number: libc::SIGKILL }, &[]);
                    }
                    self.gone = true;
                    return;
                }
            };
            self.answer(control, request, &descriptors, last);
        }
    }

    fn answer(&mut self, control: BorrowedFd<'_>, request: Request, descriptors: &[OwnedFd], last: &mut u32) {
        match request {
            Request::Enter { length, standard } => {
                let number = last.wrapping_add(1).max(1);
                if self.process.is_some() || descriptors.len() != expected(&standard) {
                    self.reply(&Reply::NotExecuted { errno: libc::EINVAL, what: "request".into() });
                } else if tell(control, &ToSandbox::Enter { process: number, length, standard }, descriptors)
                {
                    *last = number;
                    self.process = Some(number);
                } else {
                    self.reply(&Reply::NotExecuted { errno: libc::EAGAIN, what: "sandbox".into() });
                }
            }
            Request::Signal { number } => {
                let process = self.process.unwrap_or(FIRST);
                let sent = tell(control, &ToSandbox::Signal { process, number }, &[]);
                if self.process.is_none() {
                    self.reply(if sent { &Reply::Done } else { &Reply::Busy });
                }
            }
            Request::SignalAll { number } => self.pass_on(control, &ToSandbox::SignalAll { number }),
            Request::Go => self.pass_on(control, &ToSandbox::Go),
            Request::Tasks { limit } => self.pass_on(control, &ToSandbox::Tasks { limit }),
            Request::Window { size } => {
                if let Some(process) = self.process {
                    tell(control, &ToSandbox::WindowChanged { process, size }, &[]);
                }
            }
            Request::TerminalGone => {
                if let Some(process) = self.process {
                    tell(control, &ToSandbox::TerminalGone { process }, &[]);
                }
            }
        }
    }

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
