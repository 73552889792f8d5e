//! Datagrams to and from the outside: through sockets of the host that the broker connected, one for each destination, or over the
//! interface of the sandbox's own stack.

use super::receive::Datagram;
use super::{Udp, ports};
use crate::inet::broker::{self, Descriptor, Way};
use crate::inet::outside::Outside as _;
use crate::inet::remote::Remote;
use crate::inet::{UDP, endpoint, stack};
use crate::message::Incoming;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::broker::Protocol;
use core::net::SocketAddr;
use linux_raw_sys::{ioctl, net};

/// Destinations of one socket; the one that was asked for first is forgotten for one more.
const DESTINATIONS_MAX: usize = 64;
/// Hop limit of answers that the broker gives.
const HOPS: i32 = 64;

/// What is behind a destination.
#[derive(Clone)]
pub(super) enum Outside {
    /// A socket of the host.
    Remote(Arc<Remote>),
    /// One that somebody has sent through to a published port: whatever the address is inside, answers go there.
    Client(Arc<Remote>),
    /// The broker, as a name server.
    NameServer,
}

/// A datagram has come over the interface: whether there is somebody who takes it.
pub fn arrived(from: SocketAddr, to: SocketAddr, bytes: &[u8], hops: u8, class: u8) -> bool {
    let Ok(ports) = ports(UDP) else { return false };
    let Some(socket) = ports.find(to, |socket: &Udp| socket.score(from)) else { return false };
    let mut copy = Vec::new();
    // Without room for it, it is lost, as datagrams are.
    if copy.try_reserve_exact(bytes.len()).is_ok() {
        copy.extend_from_slice(bytes);
        socket.deliver(Datagram { bytes: copy, from, to: to.ip(), hops: hops.into(), class: class.into() });
    }
    true
}

/// Somebody outside has sent a first datagram to a published port: more of them come by the socket, and answers go there. Called by the
/// warden.
pub fn arrived_outside(port: u16, from: SocketAddr, bytes: Vec<u8>, descriptor: Descriptor) {
    let Ok(ports) = ports(UDP) else { return };
    let server = |at| Some((ports.find(at, |socket: &Udp| socket.score(from))?, at));
    let Some((socket, at)) = broker::published(port).into_iter().find_map(server) else { return };
    // One that was sent before the first one had made the socket has made another, which is not needed.
    if socket.client(from).is_none() {
        let remote = Remote::new(&socket.common, descriptor, (at, from), false);
        socket.add_destination(from, Outside::Client(remote));
    }
    socket.deliver(Datagram { bytes, from, to: at.ip(), hops: HOPS, class: 0 });
}

/// What became of a datagram that had gone out over the interface.
pub fn unreachable(from: SocketAddr, to: SocketAddr, error: Errno, bytes: &[u8]) {
    let Ok(ports) = ports(UDP) else { return };
    if let Some(socket) = ports.find(from, |socket: &Udp| socket.score(to)) {
        socket.failed(to, bytes.to_vec(), error);
    }
}

impl Udp {
    /// Whether a datagram goes out over the interface.
    pub(super) fn goes_over_interface(&self, to: SocketAddr) -> bool {
        self.common.protocol == UDP && !endpoint::is_here(to.ip()) && stack::routes(to.ip())
    }

    /// Whether what nobody here takes may go out.
    pub(super) fn may_go_out(&self, to: SocketAddr) -> bool {
        self.common.protocol == UDP && broker::may_serve(Protocol::Udp, to)
    }

    /// What is behind a destination, which is asked of the broker the first time.
    pub(super) fn outside(&self, to: SocketAddr) -> Result<Outside> {
        if let Some((_, known)) = self.destinations.lock().iter().find(|(known, _)| *known == to) {
            return Ok(known.clone());
        }
        let new = match broker::open(Protocol::Udp, to)? {
            Way::NameServer => Outside::NameServer,
            Way::Socket(descriptor, local) => {
                Outside::Remote(Remote::new(&self.common, descriptor, (local, to), false))
            }
        };
        self.add_destination(to, new.clone());
        Ok(new)
    }

    fn add_destination(&self, to: SocketAddr, new: Outside) {
        let forgotten = {
            let mut destinations = self.destinations.lock();
            destinations.push((to, new));
            (destinations.len() > DESTINATIONS_MAX).then(|| destinations.remove(0))
        };
        drop(forgotten);
    }

    /// The way to somebody who has sent to a published port.
    pub(super) fn client(&self, to: SocketAddr) -> Option<Arc<Remote>> {
        self.destinations.lock().iter().find_map(|(known, outside)| match outside {
            Outside::Client(remote) if *known == to => Some(remote.clone()),
            _ => None,
        })
    }

    /// Sends a datagram that nobody here takes.
    pub(super) fn send_out(&self, to: SocketAddr, bytes: Vec<u8>, nonblocking: bool) -> Result<usize> {
        match self.outside(to)? {
            Outside::Remote(remote) | Outside::Client(remote) => {
                remote.send_datagram(&self.common, &bytes, nonblocking)
            }
            Outside::NameServer => {
                let length = bytes.len();
                broker::resolve(self.this.clone(), to, bytes);
                Ok(length)
            }
        }
    }

    /// The broker has answered a query that went to `server`.
    pub(in crate::inet) fn answered(&self, server: SocketAddr, answer: Vec<u8>) {
        let (local, peer) = {
            let link = self.link.lock();
            (link.local, link.peer)
        };
        if peer.is_none_or(|peer| peer == server) {
            let to = local.map(|local| local.ip()).filter(|ip| !ip.is_unspecified());
            let to = to.unwrap_or(endpoint::source_for(server.ip()));
            self.deliver(Datagram { bytes: answer, from: server, to, hops: HOPS, class: 0 });
        }
    }

    /// Takes a datagram that waits on the host.
    pub(super) fn receive_from_outside(&self, message: &mut Incoming<'_, '_>) -> Option<Result<usize>> {
        let connected = self.link.lock().peer.is_some();
        let remotes = self.remotes();
        for remote in remotes {
            match remote.try_receive_datagram(message) {
                Ok((length, part)) => {
                    if part < length {
                        message.report |= net::MSG_TRUNC;
                    }
                    message.from = Some(endpoint::shown(self.common.family, remote.peer));
                    self.common.stamp(message);
                    return Some(Ok(if message.has(net::MSG_TRUNC) { length } else { part }));
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                // What ICMP told is for those who are connected (udp(7)).
                Err(error) if connected => return Some(Err(error)),
                Err(_) => {}
            }
        }
        None
    }

    /// The host's sockets that it has.
    pub(super) fn remotes(&self) -> Vec<Arc<Remote>> {
        let destinations = self.destinations.lock();
        let remote = |(_, outside): &(SocketAddr, Outside)| match outside {
            Outside::Remote(remote) | Outside::Client(remote) => Some(remote.clone()),
            Outside::NameServer => None,
        };
        destinations.iter().filter_map(remote).collect()
    }

    /// Length of the next datagram on the host.
    pub(super) fn waiting_outside(&self) -> usize {
        let counts = self.remotes().into_iter().filter_map(|remote| remote.count(ioctl::FIONREAD).ok());
        counts.map(|count| usize::try_from(count).unwrap_or(0)).find(|count| *count > 0).unwrap_or(0)
    }

    /// Forgets the destinations but `kept`.
    pub(super) fn forget_destinations(&self, kept: Option<SocketAddr>) {
        let (left, forgotten): (Vec<_>, Vec<_>) = core::mem::take(&mut *self.destinations.lock())
            .into_iter()
            .partition(|(to, _)| Some(*to) == kept);
        self.destinations.lock().extend(left);
        drop(forgotten);
    }
}
