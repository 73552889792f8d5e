//! TCP (tcp(7)) between sockets of the sandbox: what one writes lies in the other's inbox at once. What a program can tell of the
//! protocol is kept: half-closed connections, resets, connections that wait to be accepted or even to be asked for.
//!
//! Locks, in order: the ports, a socket's link, an inbox. No two links and no two inboxes at once, but for a socket that nobody
//! knows yet.

mod connect;
mod end;
mod outside;
mod report;
mod stream;
mod urgent;

use super::options::{CONGESTION_NAME, Congestion, Numbers};
use super::outside::Outside;
use super::ports::{Bound, Ports};
use super::{TCP, endpoint};
use crate::address::Address;
use crate::common::Common;
use crate::message::{Incoming, Outgoing};
use crate::options::OptionValue;
use crate::socket::{Shutdown, Socket};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use kernel::poll::{PollEvents, PollTable};
use kernel::sync::{BootCell, Mutex};
use kernel::{time, uaccess};
use linux_raw_sys::{ioctl, net};
pub use outside::{arrived, listening};
pub use report::lines;
use vfs::namespace::Lookup;
use vfs::pipe::Ring;

/// `SO_RCVBUF` and `SO_SNDBUF` of a new socket (`net.ipv4.tcp_{r,w}mem`).
const RECEIVE_DEFAULT: u32 = 131_072;
const SEND_DEFAULT: u32 = 16_384;
/// What the host kernel lets the send buffer grow to on a fresh loopback connection.
const SEND_CONNECTED: u32 = 2_626_560;
/// Bytes on their way at most, as long as the program did not set sizes of its own: what a cache holds.
const ON_THE_WAY_DEFAULT: usize = 512 << 10;

/// `MSG_FASTOPEN` of `<linux/socket.h>`.
const FAST_OPEN: u32 = 0x2000_0000;
/// `SIOCOUTQNSD` of `<linux/sockios.h>`.
pub(super) const NOT_SENT: u32 = 0x894b;

/// State numbers of the host kernel.
const FIN_WAIT2: u32 = 5;
const CLOSE: u32 = 7;

static PORTS: BootCell<Box<Ports<Tcp>>> = BootCell::new();

/// Sets up. Called once, at boot.
pub fn init() {
    PORTS.set(Box::default());
}

fn ports() -> Result<&'static Ports<Tcp>> {
    PORTS.get().map(|ports| &**ports).ok_or(Errno::ENETDOWN)
}

/// Where a socket is in its life. The host kernel's states beyond that follow from [`Shutdown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Fresh,
    Listening,
    /// In the queue of a listening socket that has no place.
    Connecting,
    Connected,
    /// Reset, closed, or ended by both sides.
    Ended,
}

#[derive(Default)]
struct Link {
    state: State,
    local: Option<SocketAddr>,
    /// It is in the table of ports.
    has_port: bool,
    /// bind(2) gave the port, and the address.
    bound: (bool, bool),
    peer_place: Option<SocketAddr>,
    peer: Option<Arc<Tcp>>,
    /// A connect(2) that did not wait, and of which nothing was told yet.
    unreported: bool,
    /// No program has it any more.
    closed: bool,
    /// It was closed while the other side may still send (`FIN_WAIT2`): until when its port is kept for that.
    waits_until: Option<u64>,
    /// It waits to be accepted.
    is_queued: bool,
}

/// What waits in a socket.
#[derive(Default)]
struct Inbox {
    ring: Ring,
    /// How many bytes may be there, as the writer saw it last.
    capacity: usize,
    closed: bool,
    /// Of a listening socket: how many may wait, who does, and who waits to wait.
    backlog: Option<usize>,
    ready: VecDeque<Arc<Tcp>>,
    asking: VecDeque<Arc<Tcp>>,
    /// The urgent byte, if there is one.
    urgent: Option<urgent::Mark>,
    /// Connections from outside that wait.
    arrived: VecDeque<outside::Arrival>,
}

impl Inbox {
    fn has_place(&self) -> bool {
        self.backlog.is_some_and(|backlog| self.ready.len() + self.arrived.len() <= backlog)
    }
}

/// A TCP socket.
pub struct Tcp {
    common: Common,
    this: Weak<Tcp>,
    link: Mutex<Link>,
    inbox: Mutex<Inbox>,
    /// [`Shutdown`] bits. The peer's end of stream is `RECEIVE`.
    shut: AtomicU32,
    numbers: Numbers,
    /// [`Congestion`]
    congestion: AtomicU32,
    /// What it stands for outside, and whether there is something.
    remote: Mutex<Option<Arc<dyn Outside>>>,
    is_outside: AtomicBool,
}

impl Bound for Tcp {
    fn common(&self) -> &Common {
        &self.common
    }

    fn is_listening(&self) -> bool {
        self.inbox.lock().backlog.is_some()
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn is_over(&self) -> bool {
        let link = self.link.lock();
        match link.waits_until {
            Some(until) => until <= time::monotonic(),
            None => link.state == State::Ended && !link.bound.0,
        }
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.link.lock().peer_place
    }
}

impl Tcp {
    /// socket(2).
    pub fn new(family: u32) -> Arc<Tcp> {
        let socket = Arc::new_cyclic(|this| Tcp {
            common: Common::new(family, net::SOCK_STREAM, TCP),
            this: this.clone(),
            link: Mutex::default(),
            inbox: Mutex::default(),
            shut: AtomicU32::new(0),
            numbers: Numbers::default(),
            congestion: AtomicU32::new(Congestion::usual() as u32),
            remote: Mutex::default(),
            is_outside: AtomicBool::new(false),
        });
        socket.common.send_buffer.store(SEND_DEFAULT, Ordering::Relaxed);
        socket.common.receive_buffer.store(RECEIVE_DEFAULT, Ordering::Relaxed);
        socket
    }

    /// Takes over what an accepted socket has from the listening one.
    fn inherit(&self, from: &Tcp) {
        self.common.inherit(&from.common);
        self.numbers.inherit(&from.numbers);
        self.congestion.store(from.congestion.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn this(&self) -> Result<Arc<Tcp>> {
        self.this.upgrade().ok_or(Errno::EBADF)
    }

    fn only_v6(&self) -> bool {
        self.numbers.is_on(net::SOL_IPV6, net::IPV6_V6ONLY)
    }

    fn state(&self) -> State {
        self.link.lock().state
    }

    fn is_shut(&self, how: Shutdown) -> bool {
        self.shut.load(Ordering::SeqCst) & how.bits() != 0
    }

    /// Ends directions; which were ended before.
    fn shut(&self, how: Shutdown) -> Shutdown {
        let before = self.shut.fetch_or(how.bits(), Ordering::SeqCst);
        // Whoever looks under the lock has seen the inbox as it is from now on.
        drop(self.inbox.lock());
        self.common.queue.wake_all(
            PollEvents::READABLE
                | PollEvents::WRITABLE
                | PollEvents::RDHUP
                | PollEvents::HUP
                | PollEvents::ERR,
        );
        Shutdown::from_bits_truncate(before)
    }

    /// Bytes that this socket may have on their way to `peer`.
    fn window(&self, peer: &Tcp) -> usize {
        let (send, receive) = (self.common.send_room(), peer.common.receive_room());
        match (send as u32, receive as u32) {
            (SEND_DEFAULT | SEND_CONNECTED, RECEIVE_DEFAULT) => ON_THE_WAY_DEFAULT,
            (SEND_DEFAULT | SEND_CONNECTED, _) => receive + ON_THE_WAY_DEFAULT / 2,
            _ => send + receive,
        }
    }

    /// State number of the host kernel (`TCP_*` of `tcp_states.h`).
    fn state_number(&self) -> u32 {
        let (state, peer, waits) = {
            let link = self.link.lock();
            (link.state, link.peer.clone(), link.waits_until.is_some())
        };
        match state {
            State::Ended if waits => FIN_WAIT2,
            State::Fresh | State::Ended => CLOSE,
            State::Listening => 10,
            State::Connecting => 2,
            State::Connected if self.is_shut(Shutdown::SEND) => FIN_WAIT2,
            State::Connected if peer.is_some_and(|peer| peer.is_shut(Shutdown::SEND)) => 8,
            State::Connected => 1,
        }
    }

    /// `TCP_INFO`: the state; nothing is measured.
    fn info(&self) -> Vec<u8> {
        let mut info = vec![0; size_of::<net::tcp_info>()];
        if let Some(first) = info.first_mut() {
            *first = self.state_number() as u8;
        }
        info
    }
}

impl Socket for Tcp {
    fn common(&self) -> &Common {
        &self.common
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn bind(&self, address: &[u8], _lookup: &Lookup<'_>) -> Result<()> {
        let at = endpoint::read(self.common.family, address)?;
        if !(endpoint::is_here(at.ip()) || at.ip().is_unspecified()) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        {
            let link = self.link.lock();
            if self.remote().is_some()
                || link.state != State::Fresh
                || link.local.is_some()
                || self.only_v6() && at.is_ipv4()
            {
                return Err(Errno::EINVAL);
            }
        }
        let place = ports()?.bind(&self.this()?, at, self.only_v6())?;
        let mut link = self.link.lock();
        if link.local.is_some() {
            drop(link);
            ports()?.release(self, place.port());
            return Err(Errno::EINVAL);
        }
        (link.local, link.has_port) = (Some(place), true);
        link.bound = (at.port() != 0, !at.ip().is_unspecified());
        Ok(())
    }

    fn connect(&self, address: &[u8], _lookup: &Lookup<'_>, nonblocking: bool) -> Result<()> {
        self.connect_to(address, nonblocking)
    }

    fn listen(&self, backlog: usize) -> Result<()> {
        self.start_listening(backlog)
    }

    fn accept(&self, nonblocking: bool) -> Result<Arc<dyn Socket>> {
        Ok(self.accept_next(nonblocking)?)
    }

    fn name(&self) -> Result<Address> {
        let family = self.common.family;
        if let Some(remote) = self.remote() {
            return Ok(endpoint::shown(family, remote.local()));
        }
        let local = self.link.lock().local.unwrap_or(SocketAddr::new(endpoint::any(family), 0));
        Ok(endpoint::shown(family, local))
    }

    fn peer_name(&self) -> Result<Address> {
        if let Some(remote) = self.remote() {
            let peer = Some(remote.peer()).filter(|_| remote.is_connected()).ok_or(Errno::ENOTCONN)?;
            return Ok(endpoint::shown(self.common.family, peer));
        }
        let link = self.link.lock();
        let peer = link.peer_place.filter(|_| link.state == State::Connected).ok_or(Errno::ENOTCONN)?;
        Ok(endpoint::shown(self.common.family, peer))
    }

    fn send(&self, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        if message.has(FAST_OPEN) {
            self.connect_to_send(message)?;
        }
        match self.remote() {
            Some(remote) => remote.send(&self.common, message),
            None => self.send_bytes(message),
        }
    }

    fn receive(&self, message: &mut Incoming<'_, '_>) -> Result<usize> {
        match self.remote() {
            Some(remote) => remote.receive(&self.common, message),
            None => self.receive_bytes(message),
        }
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        if let Some(remote) = self.remote() {
            return remote.shutdown(how);
        }
        let (state, peer) = {
            let link = self.link.lock();
            (link.state, link.peer.clone())
        };
        match state {
            State::Fresh | State::Ended => {
                self.shut(how);
                Err(Errno::ENOTCONN)
            }
            State::Listening if how.contains(Shutdown::RECEIVE) => {
                self.stop_listening();
                Ok(())
            }
            State::Listening => Ok(()),
            State::Connecting => {
                self.leave_queue();
                Ok(())
            }
            State::Connected => {
                let before = self.shut(how);
                if let Some(peer) = peer
                    && how.contains(Shutdown::SEND)
                    && !before.contains(Shutdown::SEND)
                {
                    self.send_end(&peer);
                }
                Ok(())
            }
        }
    }

    fn poll(&self, table: &mut PollTable) -> PollEvents {
        if let Some(remote) = self.remote() {
            return remote.poll(&self.common, table);
        }
        let (state, peer) = {
            let link = self.link.lock();
            (link.state, link.peer.clone())
        };
        let mut events = PollEvents::empty();
        if state == State::Listening {
            let inbox = self.inbox.lock();
            events.set(PollEvents::READABLE, !inbox.ready.is_empty() || !inbox.arrived.is_empty());
            return events;
        }
        let shut = Shutdown::from_bits_truncate(self.shut.load(Ordering::SeqCst));
        events.set(PollEvents::ERR, self.common.has_error());
        events.set(PollEvents::HUP, shut.is_all() || matches!(state, State::Fresh | State::Ended));
        events.set(PollEvents::RDHUP, shut.contains(Shutdown::RECEIVE));
        if state == State::Connecting {
            return events;
        }
        let low = self.common.low_water.load(Ordering::Relaxed) as usize;
        let (enough, urgent) = {
            let inbox = self.inbox.lock();
            (inbox.has_enough(low.max(1), self.urgent_is_inline()), inbox.urgent_waits())
        };
        events.set(PollEvents::PRI, urgent);
        events.set(PollEvents::READABLE, enough || shut.contains(Shutdown::RECEIVE));
        let room = shut.contains(Shutdown::SEND) || peer.is_none_or(|peer| self.has_room(&peer));
        events.set(PollEvents::WRITABLE, room);
        events
    }

    fn option(&self, level: u32, name: u32) -> Result<OptionValue> {
        match (level, name) {
            (net::SOL_SOCKET, net::SO_ACCEPTCONN) => {
                Ok(OptionValue::Number(u32::from(self.state() == State::Listening)))
            }
            (net::SOL_SOCKET, _) => Err(Errno::ENOPROTOOPT),
            (net::SOL_TCP, net::TCP_INFO) => match self.remote() {
                Some(remote) => Ok(OptionValue::Bytes(remote.info()?)),
                None => Ok(OptionValue::Bytes(self.info())),
            },
            (net::SOL_TCP, net::TCP_CONGESTION) => {
                let mut name =
                    Congestion::of_number(self.congestion.load(Ordering::Relaxed)).name().as_bytes().to_vec();
                name.resize(CONGESTION_NAME, 0);
                Ok(OptionValue::Bytes(name))
            }
            (net::SOL_UDP, _) => Err(Errno::EOPNOTSUPP),
            _ => self.numbers.get(self.common.family, level, name),
        }
    }

    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        match (level, name) {
            (net::SOL_SOCKET, _) => Err(Errno::ENOPROTOOPT),
            (net::SOL_IPV6, net::IPV6_V6ONLY) if self.link.lock().local.is_some() => Err(Errno::EINVAL),
            (net::SOL_TCP, net::TCP_CONGESTION) => {
                let control = Congestion::named(value)?;
                self.congestion.store(control as u32, Ordering::Relaxed);
                Ok(())
            }
            _ => self.numbers.set(level, name, value),
        }
    }

    fn gather_error(&self) {
        if let Some(remote) = self.remote() {
            remote.gather_error(&self.common);
        }
    }

    fn option_was_set(&self, level: u32, name: u32, value: &[u8]) {
        if let Some(remote) = self.remote() {
            remote.option_set(level, name, value);
        }
    }

    fn ioctl(&self, command: u32, argument: u64) -> Result<u64> {
        if let Some(remote) = self.remote()
            && matches!(command, ioctl::FIONREAD | ioctl::TIOCOUTQ | NOT_SENT | ioctl::SIOCATMARK)
        {
            return uaccess::write(argument, &remote.count(command)?).map(|()| 0);
        }
        let bytes = match command {
            ioctl::FIONREAD | ioctl::TIOCOUTQ | NOT_SENT if self.state() == State::Listening => {
                return Err(Errno::EINVAL);
            }
            ioctl::FIONREAD => self.inbox.lock().before_mark(self.urgent_is_inline()),
            // All that was sent has arrived.
            ioctl::TIOCOUTQ | NOT_SENT => 0,
            ioctl::SIOCATMARK => usize::from(self.inbox.lock().at_mark()),
            _ => return Err(Errno::ENOTTY),
        };
        uaccess::write(argument, &i32::try_from(bytes).unwrap_or(i32::MAX))?;
        Ok(0)
    }

    fn close(&self) {
        self.leave();
    }
}
