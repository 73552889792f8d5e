//! Echo sockets of ICMP (icmp(7)): a request to one of the sandbox's own addresses comes back as the reply at once; others go over the
//! interface, if there is one. Raw ones ([`raw`]) are the same, but for what their messages may be.

mod raw;

use super::options::{IP, Numbers};
use super::{endpoint, stack};
use crate::address::{self, Address};
use crate::common::Common;
use crate::message::{Incoming, Outgoing};
use crate::options::OptionValue;
use crate::socket::{Shutdown, Socket};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use boundary::sysctl::PING_GROUPS;
use core::any::Any;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::poll::{PollEvents, PollTable};
use kernel::sync::{BootCell, Mutex};
use kernel::{boot, task, uaccess};
use linux_raw_sys::{ioctl, net};
use vfs::namespace::Lookup;

/// Protocol numbers.
pub(super) const ICMP: u32 = 1;
pub(super) const ICMP_V6: u32 = 58;
/// Type of a request and of a reply, in each.
const ECHO: (u8, u8) = (8, 0);
const ECHO_V6: (u8, u8) = (128, 129);
/// Type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;
/// Hop limit of what comes from here.
const HOPS: i32 = 64;
/// Longest message.
const LENGTH_MAX: usize = 65_507;

#[derive(Default)]
struct Link {
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
    /// It is among [`SOCKETS`].
    listed: bool,
}

#[derive(Default)]
struct Inbox {
    replies: VecDeque<Reply>,
    used: usize,
}

/// A reply, who sent it, and its hop limit.
type Reply = (Vec<u8>, IpAddr, i32);

/// The sockets that have an identifier: to whom replies from outside may be.
static SOCKETS: BootCell<Box<Mutex<Vec<Weak<Ping>>>>> = BootCell::new();

/// Sets up. Called once, at boot.
pub(super) fn init() {
    SOCKETS.set(Box::default());
}

fn sockets() -> Vec<Arc<Ping>> {
    let listed = |sockets: &Mutex<Vec<Weak<Ping>>>| sockets.lock().iter().filter_map(Weak::upgrade).collect();
    SOCKETS.get().map_or_else(Vec::new, |sockets| listed(sockets))
}

/// A message whose checksum holds has come: a reply is for every socket with its identifier, and raw sockets see all.
pub(super) fn arrived(from: IpAddr, to: IpAddr, message: &[u8], hops: u8) {
    raw::arrived(from, to, message, hops);
    let Some([kind, .., high, low]) = message.first_chunk::<6>() else { return };
    let (_, answers) = if from.is_ipv4() { ECHO } else { ECHO_V6 };
    if *kind != answers {
        return;
    }
    let identifier = u16::from_be_bytes([*high, *low]);
    for socket in sockets().into_iter().filter(|socket| !socket.is_raw()) {
        let wanted = {
            let link = socket.link.lock();
            link.local.is_some_and(|local| local.port() == identifier)
                && link.peer.is_none_or(|peer| peer.ip() == from)
                && from.is_ipv4() == (socket.common.family == net::AF_INET)
        };
        if wanted {
            socket.take((message.to_vec(), from, hops.into()));
        }
    }
}

/// An echo socket. The port of its address is the identifier of its messages.
pub struct Ping {
    common: Common,
    this: Weak<Ping>,
    link: Mutex<Link>,
    inbox: Mutex<Inbox>,
    shut: AtomicU32,
    numbers: Numbers,
    /// Types that a raw socket is not to see, a bit each.
    filter: raw::Filter,
}

/// Sum of the words of a message (RFC 1071), complemented.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    };
    let sum = bytes.chunks(2).fold(0u64, |sum, pair| sum + u64::from(word(pair)));
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !(folded as u16)
}

/// Those in a range of groups may (`ping_init_sock`).
fn may_have_them() -> Result<()> {
    let range = boot::sysctl_number(&PING_GROUPS, 0)..=boot::sysctl_number(&PING_GROUPS, 1);
    let cred = task::current().cred();
    let mut groups = core::iter::once(cred.egid).chain(cred.groups.iter().copied());
    if groups.any(|group| range.contains(&u64::from(group))) { Ok(()) } else { Err(Errno::EACCES) }
}

impl Ping {
    /// socket(2).
    /// `EACCES` unless the caller is in one of the groups that may have them.
    pub fn new(family: u32, protocol: u32) -> Result<Arc<Ping>> {
        may_have_them()?;
        Ok(Ping::of_kind(family, net::SOCK_DGRAM, protocol))
    }

    fn of_kind(family: u32, kind: u32, protocol: u32) -> Arc<Ping> {
        Arc::new_cyclic(|this| Ping {
            common: Common::new(family, kind, protocol),
            this: this.clone(),
            link: Mutex::default(),
            inbox: Mutex::default(),
            shut: AtomicU32::new(0),
            numbers: Numbers::default(),
            filter: raw::Filter::default(),
        })
    }

    fn is_raw(&self) -> bool {
        self.common.kind == net::SOCK_RAW
    }

    fn echo(&self) -> (u8, u8) {
        if self.common.family == net::AF_INET { ECHO } else { ECHO_V6 }
    }

    /// Its identifier, which it gets now if it has none.
    fn identifier(&self) -> u16 {
        let mut link = self.link.lock();
        let any = SocketAddr::new(endpoint::any(self.common.family), 0);
        let local = link.local.get_or_insert(any);
        if local.port() == 0 {
            // Nobody else is sent to by it: it need not be one of its own.
            let number = self.common.birth.ino % u64::from(u16::MAX);
            local.set_port(number as u16 + 1);
        }
        let identifier = local.port();
        drop(link);
        self.list();
        identifier
    }

    /// It is to be found by what comes.
    fn list(&self) {
        let is_new = !core::mem::replace(&mut self.link.lock().listed, true);
        if let Some(sockets) = SOCKETS.get().filter(|_| is_new) {
            let mut sockets = sockets.lock();
            sockets.retain(|socket| socket.strong_count() > 0);
            sockets.push(self.this.clone());
        }
    }

    /// A reply has come.
    fn take(&self, reply: Reply) {
        let mut inbox = self.inbox.lock();
        if inbox.used < self.common.receive_room() && !self.is_shut(Shutdown::RECEIVE) {
            inbox.used += reply.0.len();
            inbox.replies.push_back(reply);
        }
        drop(inbox);
        self.common.queue.wake(PollEvents::READABLE);
    }

    /// The address that it sends to `ip` from.
    fn source(&self, ip: IpAddr) -> IpAddr {
        let bound = self.link.lock().local.map(|local| local.ip());
        bound.filter(|own| !own.is_unspecified()).unwrap_or_else(|| endpoint::source_for(ip))
    }

    fn is_shut(&self, how: Shutdown) -> bool {
        self.shut.load(Ordering::SeqCst) & how.bits() != 0
    }

    fn address(&self, bytes: &[u8]) -> Result<SocketAddr> {
        let at = endpoint::read(self.common.family, bytes)?;
        let own = at.is_ipv4() == (self.common.family == net::AF_INET);
        if own { Ok(at) } else { Err(Errno::EINVAL) }
    }

    fn try_receive(&self, message: &mut Incoming<'_, '_>) -> Option<Result<usize>> {
        let (reply, from, hops) = {
            let mut inbox = self.inbox.lock();
            if message.has(net::MSG_PEEK) {
                inbox.replies.front().cloned()
            } else {
                let reply = inbox.replies.pop_front();
                inbox.used -= reply.as_ref().map_or(0, |reply| reply.0.len());
                reply
            }
        }
        .or_else(|| {
            self.is_shut(Shutdown::RECEIVE).then(|| (Vec::new(), endpoint::any(self.common.family), HOPS))
        })?;
        let part = reply.get(..message.sink.left()).unwrap_or(&reply);
        if let Err(errno) = message.sink.put(part) {
            return Some(Err(errno));
        }
        if part.len() < reply.len() {
            message.report |= net::MSG_TRUNC;
        }
        message.from = Some(endpoint::shown(self.common.family, SocketAddr::new(from, 0)));
        self.common.stamp(message);
        let (level, option, kind) = match from {
            IpAddr::V4(_) => (IP, net::IP_RECVTTL, net::IP_TTL),
            IpAddr::V6(_) => (net::SOL_IPV6, net::IPV6_RECVHOPLIMIT, net::IPV6_HOPLIMIT),
        };
        if self.numbers.is_on(level, option) {
            message.ancillary.push((level, kind, hops.to_ne_bytes().to_vec()));
        }
        // As it was before RFC 3542.
        if from.is_ipv6() && self.numbers.is_on(level, net::IPV6_2292HOPLIMIT) {
            message.ancillary.push((level, net::IPV6_2292HOPLIMIT, hops.to_ne_bytes().to_vec()));
        }
        // Unlike other datagram sockets, not the whole length for `MSG_TRUNC`.
        Some(Ok(if self.is_raw() && message.has(net::MSG_TRUNC) { reply.len() } else { part.len() }))
    }

    /// A request with this socket's identifier: `EINVAL` if it is none.
    fn marked(&self, mut request: Vec<u8>) -> Result<Vec<u8>> {
        let identifier = self.identifier().to_be_bytes();
        let (asks, _) = self.echo();
        let head = request.get_mut(..HEADER).ok_or(Errno::EINVAL)?;
        let [kind, code, high, low, id_high, id_low, ..] = head else { return Err(Errno::EINVAL) };
        if *kind != asks || *code != 0 {
            return Err(Errno::EINVAL);
        }
        (*high, *low) = (0, 0);
        [*id_high, *id_low] = identifier;
        Ok(request)
    }

    /// The reply to a request.
    fn reply_to(&self, mut request: Vec<u8>) -> Vec<u8> {
        let (_, answers) = self.echo();
        if let Some([kind, _, high, low]) = request.first_chunk_mut() {
            (*kind, *high, *low) = (answers, 0, 0);
        }
        let sum = checksum(&request).to_be_bytes();
        if let Some(place) = request.get_mut(2..4) {
            place.copy_from_slice(&sum);
        }
        request
    }
}

impl Socket for Ping {
    fn common(&self) -> &Common {
        &self.common
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn bind(&self, address: &[u8], _lookup: &Lookup<'_>) -> Result<()> {
        let at = self.address(address)?;
        if !(endpoint::is_here(at.ip()) || at.ip().is_unspecified()) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let mut link = self.link.lock();
        if !self.is_raw() && link.local.is_some_and(|local| local.port() != 0) {
            return Err(Errno::EINVAL);
        }
        link.local = Some(at);
        drop(link);
        if !self.is_raw() {
            self.identifier();
        }
        Ok(())
    }

    fn connect(&self, address: &[u8], _lookup: &Lookup<'_>, _nonblocking: bool) -> Result<()> {
        if address::is_unspecified(address) {
            self.link.lock().peer = None;
            return Ok(());
        }
        let to = self.address(address)?;
        let ip = reached(to.ip())?;
        if !self.is_raw() {
            self.identifier();
        }
        self.link.lock().peer = Some(SocketAddr::new(ip, to.port()));
        Ok(())
    }

    fn name(&self) -> Result<Address> {
        let family = self.common.family;
        let (local, peer) = {
            let link = self.link.lock();
            (link.local.unwrap_or(SocketAddr::new(endpoint::any(family), 0)), link.peer)
        };
        let ip = peer
            .filter(|_| local.ip().is_unspecified())
            .map_or(local.ip(), |to| endpoint::source_for(to.ip()));
        let port = if self.is_raw() { self.common.protocol as u16 } else { local.port() };
        Ok(endpoint::shown(family, SocketAddr::new(ip, port)))
    }

    fn peer_name(&self) -> Result<Address> {
        let peer = self.link.lock().peer.ok_or(Errno::ENOTCONN)?;
        Ok(endpoint::shown(self.common.family, peer))
    }

    fn send(&self, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        let length = message.source.left();
        if length > LENGTH_MAX {
            return Err(Errno::EMSGSIZE);
        }
        if length < HEADER && !self.is_raw() {
            return Err(Errno::EINVAL);
        }
        if message.has(net::MSG_OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let to = match message.to {
            Some(to) => self.address(to.address)?,
            None => self.link.lock().peer.ok_or(Errno::EDESTADDRREQ)?,
        };
        let ip = reached(to.ip())?;
        if self.is_shut(Shutdown::SEND) {
            return Err(message.broken_pipe());
        }
        let mut request = Vec::new();
        request.try_reserve_exact(length).map_err(|_| Errno::ENOBUFS)?;
        request.resize(length, 0);
        if message.source.take(&mut request)? != length {
            return Err(Errno::EFAULT);
        }
        if self.is_raw() {
            self.send_raw(ip, request)?;
            return Ok(length);
        }
        let request = self.marked(request)?;
        if endpoint::is_here(ip) {
            raw::arrived(self.source(ip), ip, &request, HOPS as u8);
            let reply = self.reply_to(request);
            raw::arrived(ip, self.source(ip), &reply, HOPS as u8);
            self.take((reply, ip, HOPS));
        } else {
            stack::send_message(self.source(ip), ip, &request)?;
        }
        Ok(length)
    }

    fn receive(&self, message: &mut Incoming<'_, '_>) -> Result<usize> {
        if message.has(net::MSG_OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut waiting = self.common.receiving(message.nonblocking);
        waiting.until(&[&self.common.queue], || self.try_receive(message))
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.shut.fetch_or(how.bits(), Ordering::SeqCst);
        self.common.queue.wake_all(PollEvents::READABLE | PollEvents::HUP);
        self.link.lock().peer.map(drop).ok_or(Errno::ENOTCONN)
    }

    fn poll(&self, _table: &mut PollTable) -> PollEvents {
        let mut events = PollEvents::WRITABLE | PollEvents::WRBAND;
        let shut = Shutdown::from_bits_truncate(self.shut.load(Ordering::SeqCst));
        let readable = !self.inbox.lock().replies.is_empty();
        events.set(PollEvents::READABLE, readable || shut.contains(Shutdown::RECEIVE));
        events.set(PollEvents::RDHUP, shut.contains(Shutdown::RECEIVE));
        events.set(PollEvents::HUP, shut.is_all());
        events
    }

    fn option(&self, level: u32, name: u32) -> Result<OptionValue> {
        match (level, name) {
            (net::SOL_SOCKET, net::SO_ACCEPTCONN) => Ok(OptionValue::Number(0)),
            (net::SOL_SOCKET, _) => Err(Errno::ENOPROTOOPT),
            (net::SOL_TCP | net::SOL_UDP, _) => Err(Errno::EOPNOTSUPP),
            _ if self.is_raw() && raw::has(self.common.family, level, name) => Ok(self.filter()),
            _ => self.numbers.get(self.common.family, level, name),
        }
    }

    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        match level {
            net::SOL_SOCKET | net::SOL_TCP | net::SOL_UDP => Err(Errno::ENOPROTOOPT),
            net::SOL_RAW | net::SOL_ICMPV6 if self.is_raw() => self.set_raw_option(level, name, value),
            _ => self.numbers.set(level, name, value),
        }
    }

    fn ioctl(&self, command: u32, argument: u64) -> Result<u64> {
        let bytes = match command {
            ioctl::FIONREAD => self.inbox.lock().replies.front().map_or(0, |reply| reply.0.len()),
            ioctl::TIOCOUTQ => 0,
            _ => return Err(Errno::ENOTTY),
        };
        uaccess::write(argument, &(bytes as i32))?;
        Ok(0)
    }

    fn close(&self) {
        let emptied = core::mem::take(&mut *self.inbox.lock());
        drop(emptied);
    }
}

/// The address that is meant, if there is a way to it: the broker makes none.
fn reached(ip: IpAddr) -> Result<IpAddr> {
    let ip = endpoint::reach(ip, false)?;
    if endpoint::is_here(ip) || stack::routes(ip) { Ok(ip) } else { Err(Errno::ENETUNREACH) }
}

#[cfg(test)]
mod tests {
    use super::checksum;

    #[test]
    fn a_message_with_its_checksum_sums_up_to_nothing() {
        // An echo reply of RFC 792's form with an odd number of bytes.
        let mut message = [0, 0, 0, 0, 0x12, 0x34, 0, 1, b'a', b'b', b'c'];
        let sum = checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
        assert_eq!(checksum(&message), 0);
    }
}
