//! Who has which port: the rules of bind(2) (socket(7), `SO_REUSEADDR`, `SO_REUSEPORT`), and who is found at an address.

use crate::common::{Common, Switches};
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use boundary::sysctl::{LOCAL_PORTS, UNPRIVILEGED_PORTS};
use core::net::{IpAddr, SocketAddr};
use hashbrown::HashMap;
use kernel::cred::cap;
use kernel::sync::Mutex;
use kernel::{boot, task, time};

/// Ports that are handed out: the first and the last.
fn handed_out() -> (u16, u16) {
    let end = |place| u16::try_from(boot::sysctl_number(&LOCAL_PORTS, place)).unwrap_or(u16::MAX);
    (end(0), end(1))
}

/// What has a port.
pub trait Bound {
    /// Its options.
    fn common(&self) -> &Common;
    /// Whether it listens: then it does not share its port by `SO_REUSEADDR`.
    fn is_listening(&self) -> bool;
    /// Whether it is a stream: datagram sockets share by `SO_REUSEADDR` whatever they do.
    fn is_stream(&self) -> bool;
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
    next: u16,
    turn: usize,
}

impl<S> Default for Ports<S> {
    fn default() -> Self {
        let (first, last) = handed_out();
        let seed = time::monotonic() / 1000 % (u64::from(last.saturating_sub(first)) + 1);
        Ports { table: Mutex::new(Table { entries: HashMap::new(), next: first + seed as u16, turn: 0 }) }
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
    fn conflicts(&self, socket: &S, at: SocketAddr, only_v6: bool) -> bool {
        let shares = |switch| socket.common().is_on(switch);
        let uid = task::current().cred().euid;
        self.entries.get(&at.port()).into_iter().flatten().any(|entry| {
            let Some(other) = entry.socket.upgrade() else { return false };
            if core::ptr::eq(&*other, socket) || !overlap((entry.ip, entry.only_v6), (at.ip(), only_v6)) {
                return false;
            }
            let both = |switch| shares(switch) && other.common().is_on(switch);
            let by_address = both(Switches::REUSE_ADDRESS) && !(socket.is_stream() && other.is_listening());
            let by_port = both(Switches::REUSE_PORT) && entry.uid == uid;
            !by_address && !by_port
        })
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
        let place = if at.port() == 0 {
            let (first, last) = handed_out();
            let mut tries = first..=last;
            loop {
                tries.next().ok_or(Errno::EADDRINUSE)?;
                let port = table.next;
                table.next = if port >= last { first } else { port + 1 };
                if !table.entries.contains_key(&port) {
                    break SocketAddr::new(at.ip(), port);
                }
            }
        } else if table.conflicts(socket, at, only_v6) {
            return Err(Errno::EADDRINUSE);
        } else {
            at
        };
        let entry = Entry { socket: Arc::downgrade(socket), ip: place.ip(), only_v6, uid: cred.euid };
        table.entries.entry(place.port()).or_default().push(entry);
        Ok(place)
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

    /// Everyone who has a port.
    pub fn all(&self) -> Vec<Arc<S>> {
        let table = self.table.lock();
        table.entries.values().flatten().filter_map(|entry| entry.socket.upgrade()).collect()
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
