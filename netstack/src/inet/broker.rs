//! The way out (`--network=broker`): a process outside, the broker, makes the sockets that programs ask for, if the rules of the
//! command line allow them, and passes them in. The sandbox itself makes none.
//!
//! Whoever needs a socket sends a request and sleeps; the warden takes the replies ([`serve`]).
//!
//! The table of requests is a wait-queue-level lock in the lock order: nothing but memory is taken under it.

use super::tcp;
use super::udp::{self, Udp};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Weak;
use alloc::vec;
use alloc::vec::Vec;
use boundary::broker::{MAX_MESSAGE, MAX_QUERY, Protocol, Reply, Request, decode, encode};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hashbrown::HashMap;
use kernel::poll::PollEvents;
use kernel::sync::{BootCell, Mutex};
use kernel::{boot, task, wait};
use linux_raw_sys::{general as raw, net};
use trap_handler::host;

/// The port of name servers (RFC 1035, section 4.2).
const NAME_SERVER: u16 = 53;
/// Queries whose answers are waited for at most; what is asked beyond is lost, as datagrams are.
const QUERIES_MAX: usize = 1024;
/// Replies that the warden takes in a row.
const AT_ONCE: usize = 64;

/// A host descriptor that is closed when nobody has it any more.
pub struct Descriptor(i32);

impl Descriptor {
    /// Its number.
    pub fn number(&self) -> i32 {
        self.0
    }

    /// Its number, which is the caller's to close from now on.
    pub fn into_number(self) -> i32 {
        let fd = self.0;
        core::mem::forget(self);
        fd
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        let _ = host::close(self.0);
    }
}

/// What became of a request for a socket.
pub enum Way {
    /// A socket, and the address it has on the host.
    Socket(Descriptor, SocketAddr),
    /// A name server in the program's eyes: what is sent there goes to [`resolve`].
    NameServer,
}

enum Asked {
    Waits,
    Came(Result<Way>),
    /// A query by a socket to the name server at this address.
    Query(Weak<Udp>, SocketAddr),
}

struct Broker {
    fd: i32,
    /// It also reaches the host's loopback addresses.
    host_loopback: bool,
    gone: AtomicBool,
    next: AtomicU64,
    asked: Mutex<HashMap<u64, Asked>>,
    queue: wait::WaitQueue,
}

static BROKER: BootCell<Box<Broker>> = BootCell::new();

/// Sets up. Called once, at boot.
pub fn init() {
    let Some(config) = boot::config().filter(|config| config.fds.broker >= 0) else { return };
    BROKER.set(Box::new(Broker {
        fd: config.fds.broker,
        host_loopback: config.options.host_loopback,
        gone: AtomicBool::new(false),
        next: AtomicU64::new(0),
        asked: Mutex::new(HashMap::new()),
        queue: wait::WaitQueue::new(),
    }));
}

/// The socket that the warden is to watch for it; -1 if there is none.
pub fn descriptor() -> i32 {
    BROKER.get().filter(|broker| !broker.gone.load(Ordering::SeqCst)).map_or(-1, |broker| broker.fd)
}

/// Whether there is a way out to `ip`, which is not one of the sandbox's own addresses.
pub fn routes(ip: IpAddr) -> bool {
    let group = match ip {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    BROKER.get().is_some() && !group
}

/// Whether what nobody in the sandbox serves may be served outside.
pub fn may_serve(protocol: Protocol, to: SocketAddr) -> bool {
    let Some(broker) = BROKER.get() else { return false };
    // The name server that a program without a resolv.conf asks is on the loopback interface (resolv.conf(5)).
    let named = protocol == Protocol::Udp && to.port() == NAME_SERVER;
    to.port() != 0 && routes(to.ip()) && (!to.ip().is_loopback() || broker.host_loopback || named)
}

/// Asks for a socket that is connected to `to`: `EACCES` if the rules do not allow it, the host's error, `ENETDOWN` if the broker
/// is gone, `ERESTARTSYS` for a signal.
pub fn open(protocol: Protocol, to: SocketAddr) -> Result<Way> {
    let broker = BROKER.get().ok_or(Errno::ENETUNREACH)?;
    let id = broker.next.fetch_add(1, Ordering::Relaxed);
    broker.asked.lock().insert(id, Asked::Waits);
    let outcome = broker.send(&Request::Connect { id, protocol, to: to.into() }).and_then(|()| {
        let came = || {
            let mut asked = broker.asked.lock();
            if let Some(Asked::Came(_)) = asked.get(&id)
                && let Some(Asked::Came(outcome)) = asked.remove(&id)
            {
                return Some(outcome);
            }
            drop(asked);
            broker.gone.load(Ordering::SeqCst).then_some(Err(Errno::ENETDOWN))
        };
        wait::until(&[&broker.queue], None, came).map_err(|ended| ended.errno(Errno::ETIMEDOUT))?
    });
    // A signal ends the wait; a descriptor that comes later, or came meanwhile, is closed.
    let forgotten = broker.asked.lock().remove(&id);
    drop(forgotten);
    outcome
}

/// Asks the name server that `socket` takes `server` for. There is no answer to what cannot be asked.
pub fn resolve(socket: Weak<Udp>, server: SocketAddr, query: Vec<u8>) {
    let Some(broker) = BROKER.get() else { return };
    if query.len() > MAX_QUERY {
        return;
    }
    let id = broker.next.fetch_add(1, Ordering::Relaxed);
    {
        let mut asked = broker.asked.lock();
        if asked.len() >= QUERIES_MAX {
            asked.retain(|_, asked| match asked {
                Asked::Query(socket, _) => socket.strong_count() > 0,
                _ => true,
            });
        }
        if asked.len() >= QUERIES_MAX {
            return;
        }
        asked.insert(id, Asked::Query(socket, server));
    }
    if broker.send(&Request::Resolve { id, query }).is_err() {
        let forgotten = broker.asked.lock().remove(&id);
        drop(forgotten);
    }
}

/// Takes the replies that have come. Called by the warden when [`descriptor`] is readable.
pub fn serve() {
    let Some(broker) = BROKER.get() else { return };
    let mut packet = vec![0; MAX_MESSAGE];
    for _ in 0..AT_ONCE {
        let (length, [fd]) = match host::receive_with(broker.fd, &mut packet) {
            Ok((0, [-1])) => return broker.is_gone(),
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            Err(_) => return broker.is_gone(),
        };
        let descriptor = (fd >= 0).then_some(Descriptor(fd));
        let reply = packet.get(..length).and_then(decode::<Reply>);
        match reply {
            Some(reply) => broker.take(reply, descriptor),
            None => kernel::warn!("the broker sent a message that cannot be read"),
        }
    }
}

impl Broker {
    fn is_gone(&self) {
        kernel::warn!("the broker is gone: there is no network any more");
        self.gone.store(true, Ordering::SeqCst);
        self.queue.wake_all(PollEvents::READABLE);
    }

    fn take(&self, reply: Reply, descriptor: Option<Descriptor>) {
        match reply {
            // Without its descriptor, the sandbox has as many as the host lets it have.
            Reply::Connected { id, local } => {
                let socket = descriptor.map(|descriptor| Way::Socket(descriptor, local.into()));
                self.came(id, socket.ok_or(Errno::ENFILE));
            }
            Reply::Refused { id, errno } => self.came(id, Err(Errno(errno.clamp(1, 133)))),
            Reply::NameServer { id } => self.came(id, Ok(Way::NameServer)),
            Reply::Resolved { id, answer } => {
                let asked = self.asked.lock().remove(&id);
                if let Some(Asked::Query(socket, server)) = asked
                    && let Some(socket) = socket.upgrade()
                {
                    socket.answered(server, answer);
                }
            }
            Reply::Accepted { port, from } => {
                if let Some(descriptor) = descriptor {
                    tcp::arrived(port, from.into(), descriptor);
                }
            }
            Reply::Datagram { port, from, bytes } => {
                if let Some(descriptor) = descriptor {
                    udp::arrived_outside(port, from.into(), bytes, descriptor);
                }
            }
        }
    }

    fn came(&self, id: u64, outcome: Result<Way>) {
        // Dropped behind the lock.
        let unasked = match self.asked.lock().get_mut(&id) {
            Some(asked @ Asked::Waits) => {
                *asked = Asked::Came(outcome);
                None
            }
            _ => Some(outcome),
        };
        drop(unasked);
        self.queue.wake_all(PollEvents::READABLE);
    }

    fn send(&self, request: &Request) -> Result<()> {
        let packet = encode(request).map_err(|_| Errno::EMSGSIZE)?;
        loop {
            match host::send_interruptible(self.fd, packet.as_slice().into(), net::MSG_DONTWAIT) {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => {
                    let mut fds =
                        [raw::pollfd { fd: self.fd, events: PollEvents::OUT.bits() as i16, revents: 0 }];
                    let _ = host::ppoll_interruptible(&mut fds, None);
                    if task::current().interrupted() && !task::current().serve_calls() {
                        return Err(Errno::ERESTARTSYS);
                    }
                }
                Err(Errno::EINTR) => {
                    if !task::current().serve_calls() {
                        return Err(Errno::ERESTARTSYS);
                    }
                }
                Err(_) => return Err(Errno::ENETDOWN),
            }
        }
    }
}

/// The sandbox's address that a published port is reached at.
pub fn published(port: u16) -> [SocketAddr; 2] {
    [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].map(|ip: IpAddr| SocketAddr::new(ip, port))
}
