//! What `/proc/net/tcp` and sock_diag(7) tell.

use super::{CLOSE, FIN_WAIT2, Tcp, ports};
use crate::inet::remains::Remains;
use crate::inet::report::Line;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// `TCP_TIME_WAIT`, the state of what is left of a connection.
const TIME_WAIT: u32 = 6;

/// The lines of `/proc/net/tcp`: who listens, and connections. As on Linux, a port alone is none.
pub fn lines() -> Vec<Line> {
    let Ok(ports) = ports() else { return Vec::new() };
    let lines = ports.all().into_iter().filter_map(line).filter(|line| line.state != CLOSE);
    lines.chain(ports.remains().into_iter().map(what_is_left)).collect()
}

fn line(socket: Arc<Tcp>) -> Option<Line> {
    let (local, peer, queued, until) = {
        let link = socket.link.lock();
        (link.local?, link.peer_place, link.is_queued, link.waits_until)
    };
    let remote = socket.remote();
    let peer = remote.as_ref().map(|remote| remote.peer()).or(peer);
    let (waiting, limit) = {
        let inbox = socket.inbox.lock();
        match inbox.backlog {
            Some(limit) => (inbox.ready.len() + inbox.arrived.len(), limit),
            None => (inbox.ring.len(), 0),
        }
    };
    let state = remote.map_or_else(|| socket.state_number(), |remote| remote.state_number());
    // What no program has is nobody's.
    let birth = &socket.common.birth;
    let owner = if queued || until.is_some() { (0, 0) } else { (birth.uid, birth.ino) };
    let until = until.filter(|_| state == FIN_WAIT2);
    Some(Line { family: socket.common.family, local, peer, state, waiting, limit, owner, until })
}

fn what_is_left(remains: Remains) -> Line {
    let Remains { family, local, peer, until, .. } = remains;
    Line {
        family,
        local,
        peer: Some(peer),
        state: TIME_WAIT,
        waiting: 0,
        limit: 0,
        owner: (0, 0),
        until: Some(until),
    }
}
