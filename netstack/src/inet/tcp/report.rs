//! What `/proc/net/tcp` and sock_diag(7) tell.

use super::outside::{Arrival, StateOf};
use super::{CLOSE, FIN_WAIT2, Tcp, ports};
use crate::inet::remains::Remains;
use crate::inet::report::Line;
use alloc::vec::Vec;
use core::net::SocketAddr;
use linux_raw_sys::ioctl;

/// `TCP_TIME_WAIT`, the state of what is left of a connection.
const TIME_WAIT: u32 = 6;

/// The lines of `/proc/net/tcp`: who listens, and connections. As on Linux, a port alone is none.
pub fn lines() -> Vec<Line> {
    let Ok(ports) = ports() else { return Vec::new() };
    let sockets = ports.all();
    let own = sockets.iter().filter_map(|socket| line(socket));
    let arrived = sockets.iter().flat_map(|socket| arrived(socket));
    let lines = own.chain(arrived).filter(|line| line.state != CLOSE);
    lines.chain(ports.remains().into_iter().map(what_is_left)).collect()
}

fn line(socket: &Tcp) -> Option<Line> {
    let (local, peer, queued, until) = {
        let link = socket.link.lock();
        (link.local, link.peer_place, link.is_queued, link.waits_until)
    };
    let remote = socket.remote();
    let local = remote.as_ref().map(|remote| remote.local()).or(local)?;
    let peer = remote.as_ref().map(|remote| remote.peer()).or(peer);
    let (mut waiting, limit) = {
        let inbox = socket.inbox.lock();
        match inbox.backlog {
            Some(limit) => (inbox.ready.len() + inbox.arrived.len(), limit),
            None => (inbox.ring.len(), 0),
        }
    };
    // All that was sent to a socket of the sandbox has arrived.
    let mut sending = 0;
    if let Some(remote) = &remote {
        let count = |command| remote.count(command).ok().and_then(|count| usize::try_from(count).ok());
        waiting = count(ioctl::FIONREAD).unwrap_or(0);
        sending = count(ioctl::TIOCOUTQ).unwrap_or(0);
    }
    let state = remote.map_or_else(|| socket.state_number(), |remote| remote.state_number());
    // What no program has is nobody's.
    let birth = &socket.common.birth;
    let owner = if queued || until.is_some() { (0, 0) } else { (birth.uid, birth.ino) };
    let until = until.filter(|_| state == FIN_WAIT2);
    Some(Line { family: socket.common.family, local, peer, state, waiting, sending, limit, owner, until })
}

/// Connections from outside that wait to be accepted.
fn arrived(listener: &Tcp) -> Vec<Line> {
    let facts: Vec<_> = listener.inbox.lock().arrived.iter().map(Arrival::facts).collect();
    let line = |(local, peer, state): (SocketAddr, SocketAddr, StateOf)| Line {
        family: listener.common.family,
        local,
        peer: Some(peer),
        state: state.number(),
        ..Line::default_at(local)
    };
    facts.into_iter().map(line).collect()
}

fn what_is_left(remains: Remains) -> Line {
    let Remains { family, local, peer, until, .. } = remains;
    Line { family, peer: Some(peer), state: TIME_WAIT, until: Some(until), ..Line::default_at(local) }
}
