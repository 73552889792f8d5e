//! Connections to and from the outside: the socket stands for one of the host's, which the broker has made, or for one over the
//! interface of the sandbox's own stack.

use super::{Tcp, ports};
use crate::common::Switches;
use crate::inet::broker::{self, Descriptor, Way};
use crate::inet::outside::Outside;
use crate::inet::remote::{self, Remote};
use crate::inet::stack::{self, Stream};
use crate::{Errno, Result};
use alloc::sync::Arc;
use boundary::broker::Protocol;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering;
use kernel::poll::PollEvents;
use kernel::wait::WaitQueue;
use linux_raw_sys::net;

/// A connection from outside that was not accepted yet.
pub(super) enum Arrival {
    /// A socket of the host, its place here and the other side's.
    Host(Descriptor, SocketAddr, SocketAddr),
    /// Over the interface.
    Stack(Stream),
}

impl Arrival {
    /// Its place here, the other side's, and how it is to be asked for its state: when no lock is held.
    pub(super) fn facts(&self) -> (SocketAddr, SocketAddr, StateOf) {
        match self {
            Arrival::Host(descriptor, at, from) => {
                (*at, *from, StateOf::Known(remote::state_of(descriptor.number())))
            }
            Arrival::Stack(stream) => (stream.local(), stream.peer(), StateOf::InStack(stream.handle())),
        }
    }
}

/// The state of a connection that waits to be accepted.
pub(super) enum StateOf {
    /// Number of the host kernel's (`TCP_*`).
    Known(u32),
    /// The stack's to say.
    InStack(stack::Handle),
}

impl StateOf {
    /// Number of the host kernel's (`TCP_*`).
    pub(super) fn number(self) -> u32 {
        match self {
            StateOf::Known(state) => state,
            StateOf::InStack(handle) => handle.state_number(),
        }
    }
}

/// How often another port is tried if a connection that nobody has any more is still ending between the same places.
const TRIES: usize = 16;

/// Somebody has connected to a published port: waits to be accepted, if there is a server, and room in its queue. Called by the
/// warden.
pub fn arrived(port: u16, from: SocketAddr, descriptor: Descriptor) {
    let server = |at| Some((listening(at)?, at));
    let Some((server, at)) = broker::published(port).into_iter().find_map(server) else { return };
    {
        let mut inbox = server.inbox.lock();
        if !inbox.has_place() {
            return;
        }
        inbox.arrived.push_back(Arrival::Host(descriptor, at, from));
    }
    server.common.queue.wake(PollEvents::READABLE);
}

/// Who listens at a place.
pub fn listening(at: SocketAddr) -> Option<Arc<Tcp>> {
    ports().ok()?.find(at, |socket: &Tcp| socket.inbox.lock().backlog.map(|_| 0))
}

impl Tcp {
    /// What it stands for outside.
    pub(super) fn remote(&self) -> Option<Arc<dyn Outside>> {
        if self.is_outside.load(Ordering::Acquire) { self.remote.lock().clone() } else { None }
    }

    pub(super) fn set_remote(&self, remote: Option<Arc<dyn Outside>>) {
        if remote.is_none() && !self.is_outside.load(Ordering::Acquire) {
            return;
        }
        if remote.is_none()
            && let (Ok(ports), Ok(this)) = (ports(), self.this())
        {
            ports.set_elsewhere(&this, false);
        }
        self.is_outside.store(remote.is_some(), Ordering::Release);
        let before = core::mem::replace(&mut *self.remote.lock(), remote);
        drop(before);
    }

    /// Whether there is place for one more connection that waits to be accepted.
    pub fn has_place(&self) -> bool {
        self.inbox.lock().has_place()
    }

    /// What tells of its readiness.
    pub fn queue(&self) -> &WaitQueue {
        &self.common.queue
    }

    /// A connection over the interface is there, and waits to be accepted; it comes back if nobody listens any more.
    pub fn arrived_on_stack(&self, stream: Stream) -> core::result::Result<(), Stream> {
        let mut inbox = self.inbox.lock();
        if inbox.backlog.is_none() {
            return Err(stream);
        }
        inbox.arrived.push_back(Arrival::Stack(stream));
        Ok(())
    }

    /// connect(2) to an address that nobody here serves.
    pub(super) fn connect_outside(&self, to: SocketAddr, nonblocking: bool) -> Result<()> {
        let remote: Arc<dyn Outside> = if stack::routes(to.ip()) {
            Arc::new(self.ask_over_interface(to)?)
        } else {
            match broker::open(Protocol::Tcp, to)? {
                Way::Socket(descriptor, local) => {
                    ports()?.set_elsewhere(&self.this()?, true);
                    Remote::new(&self.common, descriptor, (local, to), true)
                }
                Way::NameServer => return Err(Errno::ECONNREFUSED),
            }
        };
        self.pass_options_on(&*remote);
        self.set_remote(Some(remote.clone()));
        // Those who wait for a socket that is not connected look again.
        self.common.queue.wake_all(PollEvents::WRITABLE);
        if nonblocking {
            return Err(Errno::EINPROGRESS);
        }
        self.finish_connect(&*remote, false)
    }

    fn ask_over_interface(&self, to: SocketAddr) -> Result<Stream> {
        let everybody =
            matches!(to.ip(), IpAddr::V4(ip) if ip.is_broadcast()) || stack::is_broadcast(to.ip());
        if everybody || to.ip().is_multicast() {
            return Err(Errno::ENETUNREACH);
        }
        for _ in 0..TRIES {
            let from = self.place_for(to)?;
            if from.ip().is_loopback() {
                self.forget_place();
                return Err(Errno::EINVAL);
            }
            match Stream::connect(from, to, &self.this()?) {
                Err(Errno::EADDRNOTAVAIL) => self.forget_place(),
                outcome => return outcome.inspect_err(|_| self.forget_place()),
            }
        }
        Err(Errno::EADDRNOTAVAIL)
    }

    /// connect(2) on a socket that has one of the host's. A failure leaves it as it was before.
    pub(super) fn finish_connect(&self, remote: &dyn Outside, nonblocking: bool) -> Result<()> {
        let outcome = remote.finish_connect(&self.common, nonblocking);
        const GOES_ON: &[Errno] =
            &[Errno::EALREADY, Errno::EINPROGRESS, Errno::EISCONN, Errno::EINTR, Errno::ERESTARTSYS];
        if outcome.is_err_and(|error| !GOES_ON.contains(&error)) {
            self.set_remote(None);
            self.forget_place();
        }
        outcome
    }

    pub(super) fn accept_from_outside(&self, arrival: Arrival) -> Arc<Tcp> {
        let child = Tcp::new(self.common.family);
        child.inherit(self);
        let remote: Arc<dyn Outside> = match arrival {
            Arrival::Host(descriptor, at, from) => {
                let local = self.link.lock().local.filter(|local| !local.ip().is_unspecified()).unwrap_or(at);
                Remote::new(&child.common, descriptor, (local, from), false)
            }
            Arrival::Stack(stream) => {
                stream.accepted(&child);
                Arc::new(stream)
            }
        };
        if let Ok(ports) = ports() {
            ports.share(&child, remote.local(), remote.peer());
        }
        {
            let mut link = child.link.lock();
            (link.local, link.has_port) = (Some(remote.local()), true);
        }
        child.pass_options_on(&*remote);
        child.set_remote(Some(remote));
        child
    }

    /// Tells the outside of the options that were set already.
    fn pass_options_on(&self, remote: &dyn Outside) {
        for &(level, name) in Remote::passed_on() {
            let value = match (level, name) {
                (net::SOL_SOCKET, net::SO_KEEPALIVE) => i32::from(self.common.is_on(Switches::KEEP_ALIVE)),
                (net::SOL_SOCKET, net::SO_OOBINLINE) => i32::from(self.common.is_on(Switches::OOB_INLINE)),
                (net::SOL_SOCKET, _) => {
                    let linger = self.common.linger.load(Ordering::Relaxed);
                    if linger >= 0 {
                        let mut bytes = 1u32.to_ne_bytes().to_vec();
                        bytes.extend_from_slice(&(linger as u32).to_ne_bytes());
                        remote.option_set(level, name, &bytes);
                    }
                    continue;
                }
                _ => match self.numbers.if_set(level, name) {
                    Some(value) => value,
                    None => continue,
                },
            };
            if value != 0 {
                remote.option_set(level, name, &value.to_ne_bytes());
            }
        }
    }
}
