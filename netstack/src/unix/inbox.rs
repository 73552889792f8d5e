//! What waits in a unix socket: bytes of a stream, datagrams, or connections to be accepted.

use super::Unix;
use super::bytes::Bytes;
use super::datagram::Datagram;
use super::rights::Rights;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The queue of a socket. One of its parts is used, by the socket's type and whether it listens.
#[derive(Default)]
pub struct Inbox {
    pub bytes: Bytes,
    pub datagrams: VecDeque<Datagram>,
    /// What the sender's `SO_SNDBUF` was when it wrote last: who reads knows when to wake it.
    pub capacity: usize,
    backlog: Option<usize>,
    connections: VecDeque<Arc<Unix>>,
    closed: bool,
}

/// What was in the inbox of a socket that was closed. To be dropped without its lock.
pub struct Emptied {
    /// Something was there that nobody will read.
    pub unread: bool,
    /// Connections that nobody will accept.
    pub embryos: VecDeque<Arc<Unix>>,
    _bytes: Bytes,
    _datagrams: VecDeque<Datagram>,
}

impl Inbox {
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes of the stream.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_readable(&self) -> bool {
        self.bytes.len() > 0 || !self.datagrams.is_empty() || !self.connections.is_empty()
    }

    /// What `FIONREAD` tells.
    pub fn next_length(&self) -> usize {
        self.datagrams.front().map_or(self.bytes.len(), Datagram::len)
    }

    /// Whether more than `most` datagrams wait.
    pub fn is_full(&self, most: usize) -> bool {
        self.datagrams.len() > most
    }

    pub fn listen(&mut self, backlog: usize) {
        self.backlog = Some(backlog);
    }

    pub fn is_listening(&self) -> bool {
        self.backlog.is_some()
    }

    pub fn has_place_for_connection(&self) -> bool {
        self.backlog.is_some_and(|backlog| self.connections.len() <= backlog)
    }

    pub fn connect(&mut self, socket: Arc<Unix>) {
        self.connections.push_back(socket);
    }

    pub fn accept(&mut self) -> Option<Arc<Unix>> {
        self.connections.pop_front()
    }

    /// Connections that wait to be accepted.
    pub fn waiting(&self) -> Vec<Arc<Unix>> {
        self.connections.iter().cloned().collect()
    }

    pub fn rights(&self) -> impl Iterator<Item = &Rights> {
        self.bytes.rights().chain(self.datagrams.iter().filter_map(|datagram| datagram.rights.as_ref()))
    }

    pub fn take_rights(&mut self) -> Vec<Rights> {
        let datagrams = self.datagrams.iter_mut().filter_map(|datagram| datagram.rights.take());
        self.bytes.take_rights().chain(datagrams).collect()
    }

    /// Takes everything out; nothing comes in any more.
    pub fn close(&mut self) -> Emptied {
        self.closed = true;
        self.backlog = None;
        Emptied {
            unread: self.bytes.len() > 0 || !self.datagrams.is_empty(),
            embryos: core::mem::take(&mut self.connections),
            _bytes: core::mem::take(&mut self.bytes),
            _datagrams: core::mem::take(&mut self.datagrams),
        }
    }
}
