//! UDP (udp(7)).

mod errors;
mod outside;
mod receive;
mod send;

use super::options::Numbers;
use super::ports::{Bound, Ports};
use super::report::Line;
use super::{UDP, endpoint};
use crate::address::{self, Address};
use crate::common::{Common, Switches};
use crate::message::{Incoming, Outgoing};
use crate::options::OptionValue;
use crate::socket::{Shutdown, Socket};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::poll::{PollEvents, PollTable};
use kernel::sync::{BootCell, Mutex};
use kernel::uaccess;
use linux_raw_sys::{ioctl, net};
use outside::Outside;
pub use outside::{arrived, arrived_outside, unreachable};
use receive::Inbox;
use vfs::namespace::Lookup;

/// Longest datagram: what the length field of IPv4 leaves, and of IPv6.
const LENGTH_MAX_V4: usize = 65_507;
const LENGTH_MAX_V6: usize = 65_527;
/// States of the host kernel that `/proc/net/udp` shows.
const ESTABLISHED: u32 = 1;
const CLOSE: u32 = 7;

/// The ports of UDP, and of UDP-Lite.
static PORTS: BootCell<Box<[Ports<Udp>; 2]>> = BootCell::new();

/// Sets up. Called once, at boot.
pub fn init() {
    PORTS.set(Box::default());
}

fn ports(protocol: u32) -> Result<&'static Ports<Udp>> {
    let [plain, lite] = &**PORTS.get().ok_or(Errno::ENETDOWN)?;
    Ok(if protocol == UDP { plain } else { lite })
}

#[derive(Default)]
struct Link {
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
    /// bind(2) gave the address: it outlives an association.
    address_bound: bool,
    port_bound: bool,
    closed: bool,
}

/// A UDP socket.
pub struct Udp {
    common: Common,
    this: Weak<Udp>,
    link: Mutex<Link>,
    inbox: Mutex<Inbox>,
    /// `IP_RECVERR`: what became of datagrams.
    errors: Mutex<VecDeque<errors::Report>>,
    /// Destinations outside, the oldest first.
    destinations: Mutex<Vec<(SocketAddr, Outside)>>,
    shut: AtomicU32,
    numbers: Numbers,
    /// What is put together from several calls.
    corked: send::Corked,
}

impl Bound for Udp {
    fn common(&self) -> &Common {
        &self.common
    }

    fn is_listening(&self) -> bool {
        false
    }

    fn is_stream(&self) -> bool {
        false
    }
}

impl Udp {
    /// socket(2).
    pub fn new(family: u32, protocol: u32) -> Arc<Udp> {
        Arc::new_cyclic(|this| Udp {
            common: Common::new(family, net::SOCK_DGRAM, protocol),
            this: this.clone(),
            link: Mutex::default(),
            inbox: Mutex::default(),
            errors: Mutex::default(),
            destinations: Mutex::default(),
            shut: AtomicU32::new(0),
            numbers: Numbers::default(),
            corked: send::Corked::default(),
        })
    }

    fn this(&self) -> Result<Arc<Udp>> {
        self.this.upgrade().ok_or(Errno::EBADF)
    }

    fn only_v6(&self) -> bool {
        self.numbers.is_on(net::SOL_IPV6, net::IPV6_V6ONLY)
    }

    fn is_shut(&self, how: Shutdown) -> bool {
        self.shut.load(Ordering::SeqCst) & how.bits() != 0
    }

    /// Its place, with a port of the kernel's choice if it has none: `EAGAIN` if there is none left.
    fn place(&self) -> Result<SocketAddr> {
        if let Some(local) = self.link.lock().local {
            return Ok(local);
        }
        let any = SocketAddr::new(endpoint::any(self.common.family), 0);
        let place = ports(self.common.protocol)?
            .bind(&self.this()?, any, self.only_v6())
            .map_err(|_| Errno::EAGAIN)?;
        Ok(self.set_place(place, false))
    }

    /// Notes a place; if another thread was faster, that is given back.
    fn set_place(&self, place: SocketAddr, bound: bool) -> SocketAddr {
        let mut link = self.link.lock();
        if let Some(local) = link.local {
            drop(link);
            if let Ok(ports) = ports(self.common.protocol) {
                ports.release(self, place.port());
            }
            return local;
        }
        link.local = Some(place);
        link.address_bound = bound && !place.ip().is_unspecified();
        link.port_bound = bound;
        place
    }

    /// Its place in the eyes of programs: one that is connected outside has the host's.
    fn shown_place(&self, local: SocketAddr, peer: Option<SocketAddr>) -> SocketAddr {
        let outside = peer.and_then(|_| self.remotes().into_iter().next());
        outside.map_or(local, |remote| remote.local)
    }

    fn dissolve(&self) -> Result<()> {
        let released = {
            let mut link = self.link.lock();
            link.peer = None;
            match link.local {
                Some(local) if !link.port_bound => {
                    link.local = None;
                    Some((local, true))
                }
                Some(local) if !link.address_bound => {
                    let any = SocketAddr::new(endpoint::any(self.common.family), local.port());
                    link.local = Some(any);
                    Some((any, false))
                }
                _ => None,
            }
        };
        match released {
            Some((local, true)) => ports(self.common.protocol)?.release(self, local.port()),
            Some((local, false)) => ports(self.common.protocol)?.moved(self, local),
            None => {}
        }
        self.forget_destinations(None);
        Ok(())
    }

    /// How well it fits a datagram from `from`; `None` if it is connected to somebody else.
    fn score(&self, from: SocketAddr) -> Option<u32> {
        match self.link.lock().peer {
            Some(peer) => (peer == from).then_some(1),
            None => Some(0),
        }
    }
}

impl Socket for Udp {
    fn common(&self) -> &Common {
        &self.common
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn bind(&self, address: &[u8], _lookup: &Lookup<'_>) -> Result<()> {
        let at = endpoint::read(self.common.family, address)?;
        let ip = at.ip();
        if !(endpoint::is_here(ip) || ip.is_unspecified() || ip.is_multicast()) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        if self.link.lock().local.is_some() || self.only_v6() && ip.is_ipv4() {
            return Err(Errno::EINVAL);
        }
        let place = ports(self.common.protocol)?.bind(&self.this()?, at, self.only_v6())?;
        if self.set_place(place, true) == place { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn connect(&self, address: &[u8], _lookup: &Lookup<'_>, _nonblocking: bool) -> Result<()> {
        if address::is_unspecified(address) {
            return self.dissolve();
        }
        let to = endpoint::read(self.common.family, address)?;
        let to = SocketAddr::new(endpoint::reach(to.ip(), self.only_v6())?, to.port());
        let here = || ports(self.common.protocol).is_ok_and(|ports| ports.find(to, |_| Some(0)).is_some());
        if self.may_go_out(to) && !self.goes_over_interface(to) && !(endpoint::is_here(to.ip()) && here()) {
            self.outside(to)?;
        }
        self.forget_destinations(Some(to));
        self.place()?;
        let moved = {
            let mut link = self.link.lock();
            link.peer = Some(to);
            let local = link.local.filter(|local| local.ip().is_unspecified());
            local.map(|local| {
                let place = SocketAddr::new(endpoint::source_for(to.ip()), local.port());
                link.local = Some(place);
                place
            })
        };
        if let Some(place) = moved {
            ports(self.common.protocol)?.moved(self, place);
        }
        Ok(())
    }

    fn name(&self) -> Result<Address> {
        let family = self.common.family;
        let (local, peer) = {
            let link = self.link.lock();
            (link.local.unwrap_or(SocketAddr::new(endpoint::any(family), 0)), link.peer)
        };
        Ok(endpoint::shown(family, self.shown_place(local, peer)))
    }

    fn peer_name(&self) -> Result<Address> {
        let peer = self.link.lock().peer.ok_or(Errno::ENOTCONN)?;
        Ok(endpoint::shown(self.common.family, peer))
    }

    fn send(&self, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        self.send_message(message)
    }

    fn receive(&self, message: &mut Incoming<'_, '_>) -> Result<usize> {
        let mut waiting = self.common.receiving(message.nonblocking);
        waiting.until(&[&self.common.queue], || {
            // The end of a socket that was shut down comes last.
            let local = self.try_receive(message);
            match local {
                None | Some(Ok(0)) => self.receive_from_outside(message).or(local),
                local => local,
            }
        })
    }

    fn receive_error(&self, message: &mut Incoming<'_, '_>) -> Result<usize> {
        self.take_report(message)
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.shut.fetch_or(how.bits(), Ordering::SeqCst);
        drop(self.inbox.lock());
        self.common.queue.wake_all(PollEvents::READABLE | PollEvents::WRITABLE | PollEvents::HUP);
        self.link.lock().peer.map(drop).ok_or(Errno::ENOTCONN)
    }

    fn poll(&self, _table: &mut PollTable) -> PollEvents {
        let mut events = PollEvents::WRITABLE | PollEvents::WRBAND;
        let shut = Shutdown::from_bits_truncate(self.shut.load(Ordering::SeqCst));
        let readable = !self.inbox.lock().queue.is_empty()
            | self.remotes().iter().fold(false, |any, remote| any | remote.has_datagram());
        events.set(PollEvents::READABLE, readable || shut.contains(Shutdown::RECEIVE));
        events.set(PollEvents::RDHUP, shut.contains(Shutdown::RECEIVE));
        events.set(PollEvents::HUP, shut.is_all());
        let reports = !self.errors.lock().is_empty();
        events.set(PollEvents::ERR, self.common.has_error() || reports);
        events.set(PollEvents::PRI, reports && self.common.is_on(Switches::SELECT_ERROR_QUEUE));
        events
    }

    fn option(&self, level: u32, name: u32) -> Result<OptionValue> {
        match (level, name) {
            (net::SOL_SOCKET, net::SO_ACCEPTCONN) => Ok(OptionValue::Number(0)),
            (net::SOL_SOCKET, _) => Err(Errno::ENOPROTOOPT),
            (net::SOL_TCP, _) => Err(Errno::EOPNOTSUPP),
            _ => self.numbers.get(self.common.family, level, name),
        }
    }

    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        match (level, name) {
            (net::SOL_SOCKET, _) => Err(Errno::ENOPROTOOPT),
            (net::SOL_TCP, _) => Err(Errno::ENOPROTOOPT),
            (net::SOL_IPV6, net::IPV6_V6ONLY) if self.link.lock().local.is_some() => Err(Errno::EINVAL),
            _ => self.numbers.set(level, name, value),
        }
    }

    fn option_was_set(&self, level: u32, name: u32, _value: &[u8]) {
        if (level, name) == (net::SOL_UDP, send::CORK) && !self.numbers.is_on(level, name) {
            self.uncork();
        }
    }

    fn ioctl(&self, command: u32, argument: u64) -> Result<u64> {
        let bytes = match command {
            ioctl::FIONREAD => match self.inbox.lock().queue.front().map(|datagram| datagram.bytes.len()) {
                Some(bytes) => bytes,
                None => self.waiting_outside(),
            },
            ioctl::TIOCOUTQ => 0,
            _ => return Err(Errno::ENOTTY),
        };
        uaccess::write(argument, &(bytes as i32))?;
        Ok(0)
    }

    fn close(&self) {
        let local = {
            let mut link = self.link.lock();
            link.closed = true;
            link.peer = None;
            link.local.take()
        };
        if let (Some(local), Ok(ports)) = (local, ports(self.common.protocol)) {
            ports.release(self, local.port());
        }
        let emptied = core::mem::take(&mut *self.inbox.lock());
        drop(emptied);
        self.forget_destinations(None);
    }
}

/// The lines of `/proc/net/udp`.
pub fn lines() -> Vec<Line> {
    let Ok(ports) = ports(UDP) else { return Vec::new() };
    let line = |socket: Arc<Udp>| {
        let (local, peer) = {
            let link = socket.link.lock();
            (link.local?, link.peer)
        };
        let inside = socket.inbox.lock().used;
        Some(Line {
            family: socket.common.family,
            peer,
            state: if peer.is_some() { ESTABLISHED } else { CLOSE },
            waiting: inside + socket.waiting_outside(),
            owner: (socket.common.birth.uid, socket.common.birth.ino),
            ..Line::default_at(socket.shown_place(local, peer))
        })
    };
    ports.all().into_iter().filter_map(line).collect()
}
