//! What a connection leaves for a while when it has ended in order (`TIME_WAIT`; RFC 9293, section 3.3.2): its places, at the side that
//! ended first. On loopback, nothing is under way that could come late, and over an interface the stack sees to that; but programs see
//! that the port is taken.

use crate::common::Switches;
use alloc::collections::{BTreeMap, VecDeque};
use core::net::{IpAddr, SocketAddr};
use kernel::time;

/// How long (`TCP_TIMEWAIT_LEN`), in nanoseconds.
pub const TIME_WAIT: u64 = 60 * time::SECOND;
/// How many there are at most (`net.ipv4.tcp_max_tw_buckets`); a connection beyond leaves nothing.
pub const REMAINS_MAX: usize = 16_384;
/// How soon the same side may connect to the same place again from a port of the kernel's choice (`net.ipv4.tcp_tw_reuse`, which is for
/// loopback by default).
const FOLLOWED: u64 = time::SECOND;

/// What one connection has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remains {
    /// Family of the socket.
    pub family: u32,
    /// Its place.
    pub local: SocketAddr,
    /// The other side's.
    pub peer: SocketAddr,
    /// Of the socket's switches, those that decide on sharing its port.
    pub shared: Switches,
    /// The program had asked for the port.
    pub was_bound: bool,
    /// When it goes.
    pub until: u64,
}

impl Remains {
    /// Whether the same side may have a new connection between the same places.
    pub fn may_be_followed(&self, now: u64) -> bool {
        let on_loopback = self.local.ip().is_loopback() || self.peer.ip().is_loopback();
        on_loopback && now.saturating_add(TIME_WAIT) >= self.until.saturating_add(FOLLOWED)
    }
}

/// Sorts by port first; `None` is before all others of a port.
type Key = (u16, Option<(SocketAddr, IpAddr)>);

fn key(local: SocketAddr, peer: SocketAddr) -> Key {
    (local.port(), Some((peer, local.ip())))
}

/// All that were left, for one protocol.
#[derive(Default)]
pub struct Waiting {
    remains: BTreeMap<Key, Remains>,
    /// In the order of their end. What was forgotten since is still in it.
    order: VecDeque<(u64, Key)>,
}

impl Waiting {
    /// Those at a port.
    pub fn at(&self, port: u16) -> impl Iterator<Item = &Remains> {
        self.remains
            .range((port, None)..)
            .take_while(move |(key, _)| key.0 == port)
            .map(|(_, remains)| remains)
    }

    /// All.
    pub fn all(&self) -> impl Iterator<Item = &Remains> {
        self.remains.values()
    }

    /// One more.
    pub fn add(&mut self, remains: Remains) {
        self.expire();
        if self.order.len() < REMAINS_MAX {
            let key = key(remains.local, remains.peer);
            self.remains.insert(key, remains);
            self.order.push_back((remains.until, key));
        }
    }

    /// A new connection between the places follows.
    pub fn forget(&mut self, local: SocketAddr, peer: SocketAddr) {
        self.remains.remove(&key(local, peer));
    }

    /// Those whose time is up go.
    pub fn expire(&mut self) {
        self.expire_at(time::monotonic());
    }

    fn expire_at(&mut self, now: u64) {
        while let Some((until, key)) = self.order.front().copied()
            && until <= now
        {
            self.order.pop_front();
            if self.remains.get(&key).is_some_and(|remains| remains.until == until) {
                self.remains.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn remains(local: &str, peer: &str, until: u64) -> Remains {
        let place = |text: &str| text.parse().expect("a place");
        let (local, peer) = (place(local), place(peer));
        Remains { family: 2, local, peer, shared: Switches::empty(), was_bound: false, until }
    }

    #[test]
    fn what_is_left_is_found_by_its_port_and_goes_in_time() {
        let mut waiting = Waiting::default();
        let (one, two) =
            (remains("127.0.0.1:80", "127.0.0.1:1", 5), remains("127.0.0.1:80", "127.0.0.1:2", 6));
        for each in [one, two, remains("127.0.0.1:81", "127.0.0.1:1", 7)] {
            waiting.remains.insert(key(each.local, each.peer), each);
            waiting.order.push_back((each.until, key(each.local, each.peer)));
        }
        assert_eq!(waiting.at(80).copied().collect::<Vec<_>>(), [one, two]);
        assert_eq!((waiting.at(79).count(), waiting.at(81).count()), (0, 1));
        waiting.expire_at(5);
        assert_eq!(waiting.at(80).copied().collect::<Vec<_>>(), [two]);
        waiting.forget(two.local, two.peer);
        // A later connection between the same places stays its own time.
        let again = remains("127.0.0.1:80", "127.0.0.1:2", 9);
        waiting.remains.insert(key(again.local, again.peer), again);
        waiting.expire_at(8);
        assert_eq!(waiting.all().copied().collect::<Vec<_>>(), [again]);
    }

    #[test]
    fn a_new_connection_follows_after_a_second_on_loopback() {
        let one = remains("127.0.0.1:80", "127.0.0.1:1", TIME_WAIT + 10);
        assert!(!one.may_be_followed(10) && !one.may_be_followed(10 + FOLLOWED - 1));
        assert!(one.may_be_followed(10 + FOLLOWED));
        let far = remains("192.0.2.1:80", "192.0.2.2:1", TIME_WAIT + 10);
        assert!(!far.may_be_followed(10 + FOLLOWED));
    }
}
