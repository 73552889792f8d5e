//! Connections to and from the outside: the socket stands for one of the host's, which the broker has made.

use super::{Tcp, ports};
use crate::common::Switches;
use crate::inet::broker::{self, Descriptor, Way};
use crate::inet::remote::Remote;
use crate::{Errno, Result};
use alloc::sync::Arc;
use boundary::broker::Protocol;
use core::net::SocketAddr;
use core::sync::atomic::Ordering;
use kernel::poll::PollEvents;
use linux_raw_sys::net;

/// A connection from outside that was not accepted yet.
pub(super) struct Arrival {
    descriptor: Descriptor,
    at: SocketAddr,
    from: SocketAddr,
}

/// Somebody has connected to a published port: waits to be accepted, if there is a server, and room in its queue. Called by the
/// warden.
pub fn arrived(port: u16, from: SocketAddr, descriptor: Descriptor) {
    let Ok(ports) = ports() else { return };
    let places = broker::published(port);
    let server = |at| Some((ports.find(at, |socket: &Tcp| socket.inbox.lock().backlog.map(|_| 0))?, at));
    let Some((server, at)) = places.into_iter().find_map(server) else { return };
    {
        let mut inbox = server.inbox.lock();
        if !inbox.has_place() {
            return;
        }
        inbox.arrived.push_back(Arrival { descriptor, at, from });
    }
    server.common.queue.wake(PollEvents::READABLE);
}

impl Tcp {
    /// The host's socket that it stands for.
    pub(super) fn remote(&self) -> Option<Arc<Remote>> {
        if self.is_outside.load(Ordering::Acquire) { self.remote.lock().clone() } else { None }
    }

    pub(super) fn set_remote(&self, remote: Option<Arc<Remote>>) {
        if remote.is_none() && !self.is_outside.load(Ordering::Acquire) {
            return;
        }
        self.is_outside.store(remote.is_some(), Ordering::Release);
        let before = core::mem::replace(&mut *self.remote.lock(), remote);
        drop(before);
    }

    /// connect(2) to an address that nobody here serves.
    pub(super) fn connect_outside(&self, to: SocketAddr, nonblocking: bool) -> Result<()> {
        let remote = match broker::open(Protocol::Tcp, to)? {
            Way::Socket(descriptor, local) => Remote::new(&self.common, descriptor, (local, to), true),
            Way::NameServer => return Err(Errno::ECONNREFUSED),
        };
        self.pass_options_on(&remote);
        self.set_remote(Some(remote.clone()));
        // Those who wait for a socket that is not connected look again.
        self.common.queue.wake_all(PollEvents::WRITABLE);
        if nonblocking {
            return Err(Errno::EINPROGRESS);
        }
        self.finish_connect(&remote, false)
    }

    /// connect(2) on a socket that has one of the host's. A failure leaves it as it was before.
    pub(super) fn finish_connect(&self, remote: &Remote, nonblocking: bool) -> Result<()> {
        let outcome = remote.finish_connect(&self.common, nonblocking);
        const GOES_ON: &[Errno] =
            &[Errno::EALREADY, Errno::EINPROGRESS, Errno::EISCONN, Errno::EINTR, Errno::ERESTARTSYS];
        if outcome.is_err_and(|error| !GOES_ON.contains(&error)) {
            self.set_remote(None);
        }
        outcome
    }

    pub(super) fn accept_from_outside(&self, arrival: Arrival) -> Arc<Tcp> {
        let child = Tcp::new(self.common.family);
        child.common.inherit(&self.common);
        child.numbers.inherit(&self.numbers);
        let Arrival { descriptor, at, from } = arrival;
        let local = self.link.lock().local.filter(|local| !local.ip().is_unspecified()).unwrap_or(at);
        let remote = Remote::new(&child.common, descriptor, (local, from), false);
        child.pass_options_on(&remote);
        child.set_remote(Some(remote));
        child
    }

    /// Tells the host of the options that were set already.
    fn pass_options_on(&self, remote: &Remote) {
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
