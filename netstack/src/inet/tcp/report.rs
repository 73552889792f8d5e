//! What `/proc/net/tcp` and sock_diag(7) tell.

use super::{Tcp, ports};
use crate::inet::report::Line;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The lines of `/proc/net/tcp`.
pub fn lines() -> Vec<Line> {
    let Ok(ports) = ports() else { return Vec::new() };
    let mut sockets = ports.all();
    // Accepted sockets share the port of the listening one: they are found as peers.
    let peers: Vec<_> = sockets.iter().filter_map(|socket| socket.link.lock().peer.clone()).collect();
    for peer in peers {
        if !sockets.iter().any(|socket| Arc::ptr_eq(socket, &peer)) && !peer.link.lock().closed {
            sockets.push(peer);
        }
    }
    let line = |socket: Arc<Tcp>| {
        let (local, peer) = {
            let link = socket.link.lock();
            (link.local?, link.peer_place)
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
        Some(Line {
            family: socket.common.family,
            local,
            peer,
            state: remote.map_or_else(|| socket.state_number(), |remote| remote.state_number()),
            waiting,
            limit,
            owner: (socket.common.birth.uid, socket.common.birth.ino),
        })
    };
    sockets.into_iter().filter_map(line).collect()
}
