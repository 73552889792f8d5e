//! Unix sockets (unix(7)), as `net/unix/af_unix.c` has them.
//!
//! A connected socket holds its peer until it is closed itself, even if the peer is closed: data that is there can still be read,
//! and names asked for. A closed socket holds nobody.
//!
//! Locks, in order: the register of rights, the list of names, a socket's link, a socket's inbox. Two links or two inboxes are
//! never held at once.

mod bytes;
mod datagram;
mod inbox;
mod names;
mod option;
mod report;
mod rights;
mod stream;

pub use report::{count, lines, table as proc_table};
pub use rights::{FILES_MAX, descriptor_closed};

use crate::address::{self, Address};
use crate::common::{Common, Switches};
use crate::message::{Attached, Credentials, Incoming, Outgoing};
use crate::options::OptionValue;
use crate::socket::{Shutdown, Socket};
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use inbox::Inbox;
use kernel::poll::{PollEvents, PollTable};
use kernel::sync::Mutex;
use kernel::uaccess;
use kernel::wait::WaitQueue;
use linux_raw_sys::{ioctl, net};
use names::Name;
use rights::Rights;
use vfs::namespace::Lookup;

/// Datagrams that wait in a socket, unless they come from its own peer (`net.unix.max_dgram_qlen`).
const DATAGRAMS_MAX: usize = 10;
/// Room that `EMSGSIZE` leaves of `SO_SNDBUF`.
const DATAGRAM_OVERHEAD: usize = 32;

/// Sets up what unix sockets share. Called once, at boot.
pub fn init() {
    names::init();
    rights::init();
}

/// Who a socket is and whom it talks to.
#[derive(Default)]
struct Link {
    name: Option<Arc<Name>>,
    peer: Option<Arc<Unix>>,
    /// Connected (a datagram socket: has a peer). A peer that went away does not end it.
    connected: bool,
    /// `SO_PEERCRED`; of a listening socket, what those who connect will see.
    peer_credentials: Option<Credentials>,
    closed: bool,
}

/// A unix socket.
pub struct Unix {
    common: Common,
    this: Weak<Unix>,
    link: Mutex<Link>,
    inbox: Mutex<Inbox>,
    /// [`Shutdown`] bits. Set before waiters are woken; with the inbox's lock held it tells whether more can come.
    shut: AtomicU32,
    /// Bytes of datagrams that this socket has on their way.
    on_the_way: AtomicUsize,
    /// How often descriptors of it are in flight.
    flying: AtomicUsize,
    /// Senders wait here for a place in the inbox.
    place: WaitQueue,
    /// Made by connect(2) and not accepted yet.
    embryo: core::sync::atomic::AtomicBool,
}

/// socket(2): `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`.
pub fn create(kind: u32, protocol: u32) -> Result<Arc<Unix>> {
    if protocol != 0 && protocol != net::AF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    // BSD has raw ones, which are datagrams.
    let kind = if kind == net::SOCK_RAW { net::SOCK_DGRAM } else { kind };
    if !matches!(kind, net::SOCK_STREAM | net::SOCK_DGRAM | net::SOCK_SEQPACKET) {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    Ok(Unix::new(kind))
}

/// socketpair(2).
pub fn pair(kind: u32, protocol: u32) -> Result<(Arc<Unix>, Arc<Unix>)> {
    let (first, second) = (create(kind, protocol)?, create(kind, protocol)?);
    let credentials = Some(Credentials::of_peer());
    first.join(&second, credentials);
    second.join(&first, credentials);
    Ok((first, second))
}

impl Unix {
    fn new(kind: u32) -> Arc<Unix> {
        let socket = Arc::new_cyclic(|this| Unix {
            common: Common::new(net::AF_UNIX, kind, 0),
            this: this.clone(),
            link: Mutex::default(),
            inbox: Mutex::default(),
            shut: AtomicU32::new(0),
            on_the_way: AtomicUsize::new(0),
            flying: AtomicUsize::new(0),
            place: WaitQueue::new(),
            embryo: core::sync::atomic::AtomicBool::new(false),
        });
        names::register(&socket);
        socket
    }

    fn join(&self, peer: &Arc<Unix>, credentials: Option<Credentials>) {
        let mut link = self.link.lock();
        link.peer = Some(peer.clone());
        link.connected = true;
        link.peer_credentials = credentials;
    }

    fn this(&self) -> Result<Arc<Unix>> {
        self.this.upgrade().ok_or(Errno::EBADF)
    }

    fn is_stream(&self) -> bool {
        self.common.kind == net::SOCK_STREAM
    }

    /// Whether it is a stream or a sequence of packets.
    fn has_connections(&self) -> bool {
        self.common.kind != net::SOCK_DGRAM
    }

    fn peer(&self) -> Option<Arc<Unix>> {
        self.link.lock().peer.clone()
    }

    fn is_connected(&self) -> bool {
        self.link.lock().connected
    }

    fn current_name(&self) -> Option<Arc<Name>> {
        self.link.lock().name.clone()
    }

    /// Names it; whether it had no name before.
    fn set_name(&self, name: Name) -> bool {
        let mut link = self.link.lock();
        let free = link.name.is_none() && !link.closed;
        if free {
            link.name = Some(Arc::new(name));
        }
        free
    }

    fn name_address(&self) -> Address {
        self.current_name().map_or(Address::new(net::AF_UNIX, &[]), |name| name.address())
    }

    /// As recvmsg(2) reports a sender: nothing at all if it has no name.
    fn sender_address(&self) -> Address {
        self.current_name().map_or(Address::none(), |name| name.address())
    }

    fn is_shut(&self, how: Shutdown) -> bool {
        self.shut.load(Ordering::SeqCst) & how.bits() != 0
    }

    /// Notes that directions are shut, and tells those who wait.
    fn shut(&self, how: Shutdown) {
        self.shut.fetch_or(how.bits(), Ordering::SeqCst);
        // Whoever looks under the lock has seen the inbox as it is from now on.
        drop(self.inbox.lock());
        let events = PollEvents::READABLE | PollEvents::WRITABLE | PollEvents::RDHUP | PollEvents::HUP;
        self.common.queue.wake_all(events);
        self.place.wake_all(events);
    }

    fn passes_credentials(&self) -> bool {
        self.common.is_on(Switches::PASS_CREDENTIALS) || self.common.is_on(Switches::PASS_PIDFD)
    }

    /// What goes with a message to `peer`: what the program gave, else who it is if either side wants to know.
    fn credentials_for(&self, attached: &Attached, peer: &Unix) -> Option<Credentials> {
        let wanted =
            || self.passes_credentials() || peer.passes_credentials() || peer.embryo.load(Ordering::Relaxed);
        attached.credentials.or_else(|| wanted().then(Credentials::of_sender))
    }

    /// Unix sockets among the descriptors that wait here, and in sockets that wait to be accepted.
    fn sockets_in_flight(&self) -> Vec<usize> {
        let (mut found, waiting) = {
            let inbox = self.inbox.lock();
            (rights::sockets_among(inbox.rights()), inbox.waiting())
        };
        for embryo in waiting {
            found.extend(rights::sockets_among(embryo.inbox.lock().rights()));
        }
        found
    }

    /// Takes the descriptors that wait here out.
    fn take_rights(&self) -> Vec<Rights> {
        let (mut taken, waiting) = {
            let mut inbox = self.inbox.lock();
            (inbox.take_rights(), inbox.waiting())
        };
        for embryo in waiting {
            taken.extend(embryo.inbox.lock().take_rights());
        }
        taken
    }

    fn autobind_if_passing(&self) -> Result<()> {
        if self.passes_credentials() && self.current_name().is_none() {
            names::bind_automatically(&self.this()?)?;
        }
        Ok(())
    }

    /// Hands descriptors and credentials that a read took over to the message.
    fn hand_over(&self, message: &mut Incoming<'_, '_>, rights: Option<Rights>) {
        if let Some(rights) = rights {
            message.files = rights.arrive();
        }
    }
}

impl Socket for Unix {
    fn common(&self) -> &Common {
        &self.common
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn bind(&self, address: &[u8], lookup: &Lookup<'_>) -> Result<()> {
        if names::is_automatic(address) {
            return names::bind_automatically(&self.this()?);
        }
        names::bind(&self.this()?, address, lookup)
    }

    fn connect(&self, address: &[u8], lookup: &Lookup<'_>, nonblocking: bool) -> Result<()> {
        match self.has_connections() {
            true => self.connect_stream(address, lookup, nonblocking),
            false => self.connect_datagram(address, lookup),
        }
    }

    fn listen(&self, backlog: usize) -> Result<()> {
        if !self.has_connections() {
            return Err(Errno::EOPNOTSUPP);
        }
        {
            let mut link = self.link.lock();
            if link.name.is_none() || link.connected {
                return Err(Errno::EINVAL);
            }
            link.peer_credentials = Some(Credentials::of_peer());
            self.inbox.lock().listen(backlog);
        }
        self.place.wake_all(PollEvents::WRITABLE);
        Ok(())
    }

    fn accept(&self, nonblocking: bool) -> Result<Arc<dyn Socket>> {
        if !self.has_connections() {
            return Err(Errno::EOPNOTSUPP);
        }
        let accepted = self.common.receiving(nonblocking).until(&[&self.common.queue], || {
            let mut inbox = self.inbox.lock();
            if !inbox.is_listening() {
                return Some(Err(Errno::EINVAL));
            }
            match inbox.accept() {
                Some(socket) => Some(Ok(socket)),
                None => self.is_shut(Shutdown::RECEIVE).then_some(Err(Errno::EINVAL)),
            }
        })?;
        self.place.wake(PollEvents::WRITABLE);
        accepted.embryo.store(false, Ordering::Relaxed);
        accepted.common.inherit_passing(&self.common);
        Ok(accepted)
    }

    fn name(&self) -> Result<Address> {
        Ok(self.name_address())
    }

    fn peer_name(&self) -> Result<Address> {
        self.peer().map(|peer| peer.name_address()).ok_or(Errno::ENOTCONN)
    }

    fn send(&self, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        match self.common.kind {
            net::SOCK_STREAM => self.send_stream(message),
            net::SOCK_SEQPACKET if !self.is_connected() => Err(Errno::ENOTCONN),
            net::SOCK_SEQPACKET => {
                message.to = None;
                self.send_datagram(message)
            }
            _ => self.send_datagram(message),
        }
    }

    fn receive(&self, message: &mut Incoming<'_, '_>) -> Result<usize> {
        match self.common.kind {
            net::SOCK_STREAM => self.receive_stream(message),
            net::SOCK_SEQPACKET if !self.is_connected() => Err(Errno::ENOTCONN),
            _ => self.receive_datagram(message),
        }
    }

    /// Of a connected one, the peer's other direction with it. Unlike other families' sockets it need not be connected.
    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let peer = self.peer().filter(|_| self.has_connections());
        self.shut(how);
        if let Some(peer) = peer {
            let mut other = Shutdown::empty();
            other.set(Shutdown::SEND, how.contains(Shutdown::RECEIVE));
            other.set(Shutdown::RECEIVE, how.contains(Shutdown::SEND));
            peer.shut(other);
        }
        Ok(())
    }

    fn poll(&self, table: &mut PollTable) -> PollEvents {
        let (peer, connected) = {
            let link = self.link.lock();
            (link.peer.clone(), link.connected)
        };
        let mut events = PollEvents::empty();
        let shut = Shutdown::from_bits_truncate(self.shut.load(Ordering::SeqCst));
        events.set(PollEvents::ERR, self.common.has_error());
        events.set(PollEvents::HUP, shut.is_all());
        let (readable, listening) = {
            let inbox = self.inbox.lock();
            (inbox.is_readable(), inbox.is_listening())
        };
        events.set(PollEvents::RDHUP, shut.contains(Shutdown::RECEIVE));
        events.set(PollEvents::READABLE, readable || shut.contains(Shutdown::RECEIVE));
        events.set(PollEvents::HUP, shut.is_all() || self.has_connections() && !connected && !listening);
        if !listening && self.may_send(peer.as_deref(), table) {
            events |= PollEvents::WRITABLE | PollEvents::WRBAND;
        }
        events
    }

    fn option(&self, level: u32, name: u32) -> Result<OptionValue> {
        option::get(self, level, name)
    }

    fn ioctl(&self, command: u32, argument: u64) -> Result<u64> {
        let bytes = match command {
            ioctl::FIONREAD => {
                let inbox = self.inbox.lock();
                if inbox.is_listening() {
                    return Err(Errno::EINVAL);
                }
                inbox.next_length()
            }
            ioctl::TIOCOUTQ => self.bytes_on_the_way(),
            _ => return Err(Errno::ENOTTY),
        };
        uaccess::write(argument, &i32::try_from(bytes).unwrap_or(i32::MAX))?;
        Ok(0)
    }

    fn close(&self) {
        let (name, peer) = {
            let mut link = self.link.lock();
            link.closed = true;
            link.connected = false;
            // The name stays: messages from here that still wait have it.
            (link.name.clone(), link.peer.take())
        };
        names::forget(self, name.as_deref());
        self.shut(Shutdown::all());
        let emptied = self.inbox.lock().close();
        let unread = emptied.unread || self.embryo.load(Ordering::Relaxed);
        if let Some(peer) = peer.filter(|_| self.has_connections()) {
            if unread {
                peer.common.set_error(Errno::ECONNRESET);
            }
            peer.shut(Shutdown::all());
        }
        self.place.wake_all(PollEvents::ALWAYS);
        for embryo in &emptied.embryos {
            embryo.close();
        }
        drop(emptied);
    }
}

impl Unix {
    /// Whether there is room to send: a quarter of the buffer is used at most, and a datagram's receiver has a place.
    fn may_send(&self, peer: Option<&Unix>, table: &mut PollTable) -> bool {
        if let (Some(peer), false) = (peer, self.has_connections()) {
            table.add(&peer.place);
            if self.must_wait_for(peer) && peer.inbox.lock().is_full(DATAGRAMS_MAX) {
                return false;
            }
        }
        let used = match peer {
            Some(peer) if self.is_stream() => peer.inbox.lock().length(),
            _ => self.on_the_way.load(Ordering::SeqCst),
        };
        used.saturating_mul(4) <= self.common.send_room()
    }

    fn bytes_on_the_way(&self) -> usize {
        match self.peer() {
            Some(peer) if self.is_stream() => peer.inbox.lock().length(),
            _ => self.on_the_way.load(Ordering::SeqCst),
        }
    }
}

/// Whether `address` only takes an association away.
fn dissolves(address: &[u8]) -> bool {
    address::is_unspecified(address)
}
