//! The broker's work: one task for requests, one for each published port, one for each query. All in one thread.

use super::Settings;
use super::datagrams;
use super::log::Log;
use super::names::Names;
use super::process::Listener;
use super::rules::{Rules, Verdict};
use anyhow::Context;
use boundary::broker::{MAX_REQUEST, Place, Protocol, Reply, Request, decode, encode};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, getsockname, recv,
    sendmsg, socket,
};
use std::fs::File;
use std::io::{IoSlice, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

/// Queries that are worked on at once; more are not answered, as by a name server that is too busy.
const QUERIES_MAX: usize = 64;
/// The port of name servers.
const NAME_SERVER: u16 = 53;

struct Serving {
    socket: AsyncFd<OwnedFd>,
    rules: Rules,
    names: Names,
    log: Log,
    /// The addresses of this host.
    own: Vec<IpAddr>,
    queries: Arc<Semaphore>,
}

/// Serves until the sandbox has ended; says on `begins` that it does.
pub fn run(
    settings: Settings,
    listeners: Vec<(Listener, u16)>,
    socket: OwnedFd,
    begins: OwnedFd,
) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("its event loop")?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async move {
        let flags = OFlag::from_bits_truncate(fcntl(&socket, FcntlArg::F_GETFL)?);
        fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        // SAFETY: an owned descriptor stays what it is until it is dropped.
        let socket = unsafe { AsyncFd::register(socket)? };
        let serving = Rc::new(Serving {
            socket,
            rules: settings.rules,
            names: Names::new(settings.hosts),
            log: Log(settings.log),
            own: own_addresses(),
            queries: Arc::new(Semaphore::new(QUERIES_MAX)),
        });
        super::process::fence()?;
        File::from(begins).write_all(b"r").context("its pipe")?;
        for (listener, port) in listeners {
            match listener {
                Listener::Tcp(listener) => {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    tokio::task::spawn_local(accept(serving.clone(), listener, port));
                }
                Listener::Udp(socket) => {
                    let socket = tokio::net::UdpSocket::from_std(socket)?;
                    tokio::task::spawn_local(receive(serving.clone(), socket, port));
                }
            }
        }
        serving.requests().await
    })
}

fn own_addresses() -> Vec<IpAddr> {
    let Ok(addresses) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    addresses.filter_map(|one| one.address.as_ref().and_then(place_of)).map(|place| place.ip()).collect()
}

pub(super) fn place_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|at| SocketAddr::new(at.ip().into(), at.port()));
    v4.or_else(|| address.as_sockaddr_in6().map(|at| SocketAddr::new(at.ip().into(), at.port())))
}

impl Serving {
    /// Takes one request after the other. The next one is taken when the reply has gone: a sandbox that takes no replies gets
    /// nothing done.
    async fn requests(self: Rc<Self>) -> anyhow::Result<()> {
        let mut packet = vec![0; MAX_REQUEST + 1];
        loop {
            let receive = |socket: &OwnedFd| {
                recv(socket.as_raw_fd(), &mut packet, MsgFlags::MSG_TRUNC).map_err(std::io::Error::from)
            };
            let length = match self.socket.async_io(Interest::READABLE, receive).await {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error).context("its socket"),
            };
            let sent = match packet.get(..length).and_then(decode::<Request>) {
                Some(Request::Connect { id, protocol, to }) => self.connect(id, protocol, to.into()).await,
                Some(Request::Resolve { id, query }) => {
                    self.clone().resolve(id, query);
                    Ok(())
                }
                None => {
                    self.log.malformed(length);
                    Ok(())
                }
            };
            if sent.is_err() {
                return Ok(());
            }
        }
    }

    /// Sends a reply, with a descriptor if there is one.
    async fn send(&self, reply: &Reply, descriptor: Option<&OwnedFd>) -> std::io::Result<()> {
        let packet = encode(reply).map_err(std::io::Error::other)?;
        self.socket
            .async_io(Interest::WRITABLE, |socket| {
                let fds: Vec<_> = descriptor.iter().map(|fd| fd.as_raw_fd()).collect();
                let rights = [ControlMessage::ScmRights(&fds)];
                let control = if fds.is_empty() { &[][..] } else { &rights[..] };
                let flags = MsgFlags::MSG_NOSIGNAL;
                sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&packet)], control, flags, None)
                    .map(drop)
                    .map_err(std::io::Error::from)
            })
            .await
    }

    async fn connect(&self, id: u64, protocol: Protocol, to: SocketAddr) -> std::io::Result<()> {
        // The host would connect to its loopback address.
        let ip = match to.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let to = SocketAddr::new(ip, to.port());
        let names = self.names.of(ip);
        let verdict = self.rules.judge(to, &names, &self.own);
        let outcome = match &verdict {
            Verdict::Denied(_) if protocol == Protocol::Udp && to.port() == NAME_SERVER => {
                return self.send(&Reply::NameServer { id }, None).await;
            }
            Verdict::Denied(_) => Err(Errno::EACCES),
            Verdict::Allowed(_) => connected(protocol, to),
        };
        self.log.connect(protocol, to, &names, &verdict);
        match outcome {
            Ok((socket, local)) => {
                let sent = self.send(&Reply::Connected { id, local }, Some(&socket)).await;
                match sent.as_ref().err().and_then(std::io::Error::raw_os_error) {
                    // As many descriptors as the host allows are on their way.
                    Some(libc::ETOOMANYREFS) => {
                        self.send(&Reply::Refused { id, errno: libc::ENFILE }, None).await
                    }
                    _ => sent,
                }
            }
            Err(error) => self.send(&Reply::Refused { id, errno: error as i32 }, None).await,
        }
    }

    fn resolve(self: Rc<Self>, id: u64, query: Vec<u8>) {
        let Ok(permit) = self.queries.clone().try_acquire_owned() else { return };
        tokio::task::spawn_local(async move {
            let looked = self.names.answer(&query, &self.rules, &self.own).await;
            self.log.resolve(&looked);
            if let Some(answer) = looked.answer {
                let _ = self.send(&Reply::Resolved { id, answer }, None).await;
            }
            drop(permit);
        });
    }
}

/// A socket that is connected, or being connected, and the address it has. It blocks: whoever has it decides call by call.
fn connected(protocol: Protocol, to: SocketAddr) -> nix::Result<(OwnedFd, Place)> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = match protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    let local = getsockname::<SockaddrStorage>(socket.as_raw_fd())?;
    let local = place_of(&local).ok_or(Errno::EAFNOSUPPORT)?;
    block(&socket)?;
    Ok((socket, local.into()))
}

pub(super) fn block(socket: impl AsFd) -> nix::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(&socket, FcntlArg::F_GETFL)?);
    fcntl(&socket, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).map(drop)
}

async fn accept(serving: Rc<Serving>, listener: tokio::net::TcpListener, port: u16) {
    let host_port = listener.local_addr().map_or(0, |at| at.port());
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            // No descriptor left, most likely: others may be closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        serving.log.accept(Protocol::Tcp, from, host_port, port);
        let Ok(stream) = stream.into_std() else { continue };
        if block(&stream).is_err() {
            continue;
        }
        let reply = Reply::Accepted { port, from: from.into() };
        if serving
            .send(&reply, Some(&stream.into()))
            .await
            .is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
        {
            return;
        }
    }
}

/// Takes the first datagrams of those outside; each gets a socket of its own, by which the next ones go.
async fn receive(serving: Rc<Serving>, socket: tokio::net::UdpSocket, port: u16) {
    let host_port = socket.local_addr().map_or(0, |at| at.port());
    loop {
        let received = socket.async_io(Interest::READABLE, || datagrams::receive(&socket)).await;
        // Errors are about datagrams that were sent, of which there are none here.
        let Ok((bytes, from, to)) = received else { continue };
        let Some(sender) = place_of(&from) else { continue };
        let Ok(answering) = datagrams::connected(&from, to, host_port) else {
            // No descriptor left, most likely: as datagrams may, this one is lost.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        serving.log.accept(Protocol::Udp, sender, host_port, port);
        let reply = Reply::Datagram { port, from: sender.into(), bytes };
        if serving
            .send(&reply, Some(&answering))
            .await
            .is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
        {
            return;
        }
    }
}
