//! Who has which port: the rules of bind(2) (socket(7), `SO_REUSEADDR`, `SO_REUSEPORT`), and who is found at an address.
//!
//! A port is had by those who were bound to it, by connections that a listening socket has accepted there, and for a while by what
//! connections have left ([`super::remains`]).

use super::remains::{Remains, Waiting};
use crate::common::{Common, Switches};
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use boundary::sysctl::{LOCAL_PORTS, UNPRIVILEGED_PORTS};
use core::net::{IpAddr, SocketAddr};
use hashbrown::HashMap;
use kernel::cred::cap;
use kernel::sync::Mutex;
use kernel::{boot, task, time};

/// What has a port.
pub trait Bound {
    /// Its options.
    fn common(&self) -> &Common;
    /// Whether it listens: then it does not share its port by `SO_REUSEADDR`.
    fn is_listening(&self) -> bool;
    /// Whether it is a stream: datagram sockets share by `SO_REUSEADDR` whatever they do.
    fn is_stream(&self) -> bool;
    /// Whether its connection is over, and with it what it had of a port that it did not ask for.
    fn is_over(&self) -> bool {
        false
    }
    /// The other end of its connection.
    fn peer(&self) -> Option<SocketAddr> {
        None
    }
}

struct Entry<S> {
    socket: Weak<S>,
    ip: IpAddr,
    only_v6: bool,
    uid: u32,
}

/// The ports of one protocol.
pub struct Ports<S> {
    table: Mutex<Table<S>>,
}

struct Table<S> {
    entries: HashMap<u16, Vec<Entry<S>>>,
    /// Accepted connections, by port and inode number.
    accepted: BTreeMap<(u16, u64), Entry<S>>,
    /// Those whose place is on the host alone, by inode number: they have no port here.
    elsewhere: BTreeMap<u64, Weak<S>>,
    waiting: Waiting,
    /// Ports that are handed out: the first and the last, and the next one.
    handed_out: (u16, u16),
    next: u16,
    turn: usize,
}

impl<S> Default for Ports<S> {
    fn default() -> Self {
        let end = |place| u16::try_from(boot::sysctl_number(&LOCAL_PORTS, place)).unwrap_or(u16::MAX);
        let (first, last) = (end(0), end(1));
        let seed = time::monotonic() / 1000 % (u64::from(last.saturating_sub(first)) + 1);
        Ports {
            table: Mutex::new(Table {
                entries: HashMap::new(),
                accepted: BTreeMap::new(),
                elsewhere: BTreeMap::new(),
                waiting: Waiting::default(),
                handed_out: (first, last),
                next: first + seed as u16,
                turn: 0,
            }),
        }
    }
}

/// Whether two bound addresses have one in common.
fn overlap(a: (IpAddr, bool), b: (IpAddr, bool)) -> bool {
    let covers = |(ip, only_v6): (IpAddr, bool), other: IpAddr| {
        ip.is_unspecified() && (ip.is_ipv4() == other.is_ipv4() || ip.is_ipv6() && !only_v6)
    };
    a.0 == b.0 || covers(a, b.0) || covers(b, a.0)
}

impl<S: Bound> Table<S> {
    fn accepted_at(&self, port: u16) -> impl Iterator<Item = &Entry<S>> {
        self.accepted.range((port, 0)..=(port, u64::MAX)).map(|(_, entry)| entry)
    }

    fn conflicts(&self, socket: &S, at: SocketAddr, only_v6: bool) -> bool {
        let shares = |switch| socket.common().is_on(switch);
        let uid = task::current().cred().euid;
        let mut entries =
            self.entries.get(&at.port()).into_iter().flatten().chain(self.accepted_at(at.port()));
        let others = entries.any(|entry| {
            let Some(other) = entry.socket.upgrade() else { return false };
            if core::ptr::eq(&*other, socket)
                || !overlap((entry.ip, entry.only_v6), (at.ip(), only_v6))
                || other.is_over()
            {
                return false;
            }
            let both = |switch| shares(switch) && other.common().is_on(switch);
            let by_address = both(Switches::REUSE_ADDRESS) && !(socket.is_stream() && other.is_listening());
            let by_port = both(Switches::REUSE_PORT) && entry.uid == uid;
            !by_address && !by_port
        });
        others
            || self.waiting.at(at.port()).any(|remains| {
                let both = |switch| shares(switch) && remains.shared.contains(switch);
                overlap((remains.local.ip(), true), (at.ip(), only_v6))
                    && !both(Switches::REUSE_ADDRESS)
                    && !both(Switches::REUSE_PORT)
            })
    }

    /// A port of the kernel's choice that nobody has; what connections have left keeps it unless `may_follow` says otherwise.
    fn free(&mut self, may_follow: impl Fn(&Remains) -> bool) -> Result<u16> {
        let (first, last) = self.handed_out;
        for _ in first..=last {
            let port = self.next;
            self.next = if port >= last { first } else { port + 1 };
            let taken = self.entries.contains_key(&port) || self.accepted_at(port).next().is_some();
            if !taken && self.waiting.at(port).all(&may_follow) {
                return Ok(port);
            }
        }
        Err(Errno::EADDRINUSE)
    }

    fn enter(&mut self, socket: &Arc<S>, place: SocketAddr, only_v6: bool) {
        let uid = task::current().cred().euid;
        let entry = Entry { socket: Arc::downgrade(socket), ip: place.ip(), only_v6, uid };
        self.entries.entry(place.port()).or_default().push(entry);
    }
}

impl<S: Bound> Ports<S> {
    /// Gives `socket` a place: `EACCES` for a privileged port, `EADDRINUSE`. Port 0 asks for one that is free. The place.
    pub fn bind(&self, socket: &Arc<S>, at: SocketAddr, only_v6: bool) -> Result<SocketAddr> {
        let cred = task::current().cred();
        let privileged = 1..boot::sysctl_number(&UNPRIVILEGED_PORTS, 0);
        if privileged.contains(&u64::from(at.port())) && !cred.has(cap::NET_BIND_SERVICE) {
            return Err(Errno::EACCES);
        }
        let mut table = self.table.lock();
        table.waiting.expire();
        let place = if at.port() == 0 {
            SocketAddr::new(at.ip(), table.free(|_| false)?)
        } else if table.conflicts(socket, at, only_v6) {
            return Err(Errno::EADDRINUSE);
        } else {
            at
        };
        table.enter(socket, place, only_v6);
        Ok(place)
    }

    /// Gives `socket` a place at `source` to connect to `to` from: `EADDRINUSE` if there is no port left.
    pub fn bind_to_connect(
        &self,
        socket: &Arc<S>,
        source: IpAddr,
        only_v6: bool,
        to: SocketAddr,
    ) -> Result<SocketAddr> {
        let mut table = self.table.lock();
        table.waiting.expire();
        let now = time::monotonic();
        let follows = |remains: &Remains| {
            let same = remains.peer == to && remains.local.ip() == source;
            !remains.was_bound && (!same || remains.may_be_followed(now))
        };
        let place = SocketAddr::new(source, table.free(follows)?);
        table.waiting.forget(place, to);
        table.enter(socket, place, only_v6);
        Ok(place)
    }

    /// Whether a socket that has a place already may connect to `to` from there: `EADDRNOTAVAIL` if there is such a connection. What
    /// an earlier one has left gives way: the program has asked for the port (`__inet_check_established`).
    pub fn check_connect(&self, socket: &S, place: SocketAddr, to: SocketAddr) -> Result<()> {
        let mut table = self.table.lock();
        table.waiting.expire();
        let mut sockets = table.entries.get(&place.port()).into_iter().flatten();
        let same = sockets.any(|entry| {
            let Some(other) = entry.socket.upgrade() else { return false };
            let same = entry.ip == place.ip() && !core::ptr::eq(&*other, socket);
            same && other.peer() == Some(to) && !other.is_over()
        });
        if same {
            return Err(Errno::EADDRNOTAVAIL);
        }
        table.waiting.forget(place, to);
        Ok(())
    }

    /// A listening socket has been asked for a connection, which shares its port from now on; it may follow one between the same
    /// places at once (RFC 6191).
    pub fn share(&self, socket: &Arc<S>, at: SocketAddr, peer: SocketAddr) {
        let mut table = self.table.lock();
        table.waiting.forget(at, peer);
        let common = socket.common();
        let entry =
            Entry { socket: Arc::downgrade(socket), ip: at.ip(), only_v6: true, uid: common.birth.uid };
        table.accepted.insert((at.port(), common.birth.ino), entry);
    }

    /// A connection has ended in order; it leaves this.
    pub fn leave(&self, remains: Remains) {
        self.table.lock().waiting.add(remains);
    }

    /// What connections have left.
    pub fn remains(&self) -> Vec<Remains> {
        let mut table = self.table.lock();
        table.waiting.expire();
        table.waiting.all().copied().collect()
    }

    /// Whether a bound socket may go on to listen: `EADDRINUSE`.
    pub fn check_listen(&self, socket: &S, at: SocketAddr, only_v6: bool) -> Result<()> {
        if self.table.lock().conflicts(socket, at, only_v6) { Err(Errno::EADDRINUSE) } else { Ok(()) }
    }

    /// The socket's address has become another one, at the same port (connect(2)).
    pub fn moved(&self, socket: &S, to: SocketAddr) {
        let mut table = self.table.lock();
        let entries = table.entries.get_mut(&to.port()).into_iter().flatten();
        for entry in entries.filter(|entry| core::ptr::eq(entry.socket.as_ptr(), socket)) {
            entry.ip = to.ip();
        }
    }

    /// Gives the place back.
    pub fn release(&self, socket: &S, port: u16) {
        let mut table = self.table.lock();
        if table.accepted.remove(&(port, socket.common().birth.ino)).is_some() {
            return;
        }
        if let Some(entries) = table.entries.get_mut(&port) {
            entries.retain(|entry| !core::ptr::eq(entry.socket.as_ptr(), socket));
            if entries.is_empty() {
                table.entries.remove(&port);
            }
        }
    }

    /// Who takes what is sent to `to`: `score` says how well a socket fits, beside its address. Several that fit equally
    /// well (`SO_REUSEPORT`) take turns.
    pub fn find(&self, to: SocketAddr, score: impl Fn(&S) -> Option<u32>) -> Option<Arc<S>> {
        let mut table = self.table.lock();
        let mut best: Vec<Arc<S>> = Vec::new();
        let mut most = 0;
        for entry in table.entries.get(&to.port())? {
            let Some(socket) = entry.socket.upgrade() else { continue };
            if !overlap((entry.ip, entry.only_v6), (to.ip(), true)) {
                continue;
            }
            let Some(fits) = score(&socket) else { continue };
            let exact =
                if entry.ip == to.ip() { 2 } else { u32::from(entry.ip.is_ipv4() == to.ip().is_ipv4()) };
            let total = fits * 4 + exact + 1;
            if total > most {
                (most, best) = (total, Vec::new());
            }
            if total == most {
                best.push(socket);
            }
        }
        table.turn = table.turn.wrapping_add(1);
        let chosen = table.turn % best.len().max(1);
        drop(table);
        best.into_iter().nth(chosen)
    }

    /// The socket has a place on the host, or none any more.
    pub fn set_elsewhere(&self, socket: &Arc<S>, there: bool) {
        let mut table = self.table.lock();
        let ino = socket.common().birth.ino;
        match there {
            true => table.elsewhere.insert(ino, Arc::downgrade(socket)),
            false => table.elsewhere.remove(&ino),
        };
    }

    /// Everyone who has a port, here or on the host.
    pub fn all(&self) -> Vec<Arc<S>> {
        let table = self.table.lock();
        let entries = table.entries.values().flatten().chain(table.accepted.values());
        let here = entries.map(|entry| &entry.socket);
        let mut all: Vec<_> =
            here.chain(table.elsewhere.values()).filter_map(|socket| socket.upgrade()).collect();
        drop(table);
        // One that was bound before it was connected outside has both.
        all.sort_unstable_by_key(|socket| socket.common().birth.ino);
        all.dedup_by_key(|socket| socket.common().birth.ino);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_overlap_with_what_they_cover() {
        let at = |text: &str, only| (text.parse::<IpAddr>().expect("an address"), only);
        assert!(overlap(at("0.0.0.0", false), at("127.0.0.1", false)));
        assert!(overlap(at("::", false), at("127.0.0.1", false)));
        assert!(!overlap(at("::", true), at("0.0.0.0", false)));
        assert!(overlap(at("::", true), at("::1", false)));
        assert!(!overlap(at("127.0.0.1", false), at("127.0.0.2", false)));
    }
}
