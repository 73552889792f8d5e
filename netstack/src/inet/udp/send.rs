//! Sending.

use super::{LENGTH_MAX_V4, LENGTH_MAX_V6, Udp, ports};
use crate::address;
use crate::common::Switches;
use crate::inet::options::IP;
use crate::inet::udp::receive::Datagram;
use crate::inet::{endpoint, stack};
use crate::message::Outgoing;
use crate::socket::Shutdown;
use crate::{Errno, Result};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::sync::Mutex;
use linux_raw_sys::net;

/// `UDP_CORK` of `<linux/udp.h>`.
pub(super) const CORK: u32 = 1;

/// A datagram and its way.
struct Ready {
    to: SocketAddr,
    bytes: Vec<u8>,
    hops: i32,
    class: i32,
}

/// A datagram that is put together from several calls (`UDP_CORK`, `MSG_MORE`).
#[derive(Default)]
pub(super) struct Corked {
    /// Whether there is one, for who only wants to know that.
    any: AtomicBool,
    ready: Mutex<Option<Ready>>,
}

impl Corked {
    fn put(&self, slot: &mut Option<Ready>, ready: Option<Ready>) -> Option<Ready> {
        self.any.store(ready.is_some(), Ordering::SeqCst);
        core::mem::replace(slot, ready)
    }

    fn take(&self) -> Option<Ready> {
        self.put(&mut self.ready.lock(), None)
    }
}

impl Udp {
    /// What a datagram is sent with: what comes with the message, else what the socket's options say.
    fn hops_and_class(&self, message: &Outgoing<'_, '_>, to: SocketAddr) -> (i32, i32) {
        let (level, hops, hops_option, class) = match to.ip() {
            IpAddr::V4(_) => (IP, net::IP_TTL, net::IP_TTL, net::IP_TOS),
            IpAddr::V6(_) => (net::SOL_IPV6, net::IPV6_HOPLIMIT, net::IPV6_UNICAST_HOPS, net::IPV6_TCLASS),
        };
        let given = |name: u32| {
            let mut numbers = message.attached.numbers.iter().rev();
            let number = numbers.find(|number| (number.0, number.1) == (level, name)).map(|number| number.2);
            // -1 is the socket's own (RFC 3542, section 6.3).
            number.filter(|number| *number >= 0)
        };
        let value =
            |name, option| given(name).unwrap_or_else(|| self.numbers.value(level, option).unwrap_or(0));
        (value(hops, hops_option), value(class, class))
    }

    /// sendmsg(2): `EDESTADDRREQ`, `EMSGSIZE`, `EPIPE`, `ENETUNREACH`, and errors that were pending.
    pub(super) fn send_message(&self, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        let length = message.source.left();
        let to = destination(self, message)?;
        // IPv6 does not ask (`udpv6_sendmsg`).
        if message.has(net::MSG_OOB) && to.is_ipv4() {
            return Err(Errno::EOPNOTSUPP);
        }
        if length > longest(to) {
            return Err(Errno::EMSGSIZE);
        }
        if let Some(error) = self.common.take_error() {
            return Err(error);
        }
        if self.is_shut(Shutdown::SEND) {
            return Err(message.broken_pipe());
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| Errno::ENOBUFS)?;
        bytes.resize(length, 0);
        if message.source.take(&mut bytes)? != length {
            return Err(Errno::EFAULT);
        }
        let (hops, class) = self.hops_and_class(message, to);
        let ready = Ready { to, bytes, hops, class };
        let more = message.has(net::MSG_MORE) || self.numbers.is_on(net::SOL_UDP, CORK);
        let ready = match more || self.corked.any.load(Ordering::SeqCst) {
            true => self.put_together(ready, more)?,
            false => Some(ready),
        };
        if let Some(ready) = ready {
            self.send_ready(ready, message.nonblocking)?;
        }
        Ok(length)
    }

    /// Puts a part behind those that wait, whose destination it takes; the whole, if it is to go. A whole that would be too long is
    /// lost (`ip_flush_pending_frames`).
    fn put_together(&self, part: Ready, more: bool) -> Result<Option<Ready>> {
        // It has a port from the first part on.
        self.place()?;
        let mut slot = self.corked.ready.lock();
        let whole = match slot.take() {
            None => part,
            Some(mut whole) => {
                let fits = whole.bytes.len() + part.bytes.len() <= longest(whole.to);
                if !fits || whole.bytes.try_reserve(part.bytes.len()).is_err() {
                    self.corked.any.store(false, Ordering::SeqCst);
                    return Err(if fits { Errno::ENOBUFS } else { Errno::EMSGSIZE });
                }
                whole.bytes.extend_from_slice(&part.bytes);
                whole
            }
        };
        let (kept, goes) = if more { (Some(whole), None) } else { (None, Some(whole)) };
        self.corked.put(&mut slot, kept);
        Ok(goes)
    }

    /// `UDP_CORK` was taken off: what waits goes.
    pub(super) fn uncork(&self) {
        if let Some(ready) = self.corked.take() {
            // Nobody is told of an error (`udp_lib_setsockopt`).
            let _ = self.send_ready(ready, true);
        }
    }

    fn send_ready(&self, ready: Ready, nonblocking: bool) -> Result<()> {
        let Ready { to, bytes, hops, class } = ready;
        let client = self.client(to);
        let place = self.place()?;
        let ip = if place.ip().is_unspecified() { endpoint::source_for(to.ip()) } else { place.ip() };
        let from = SocketAddr::new(ip, place.port());
        if let Some(client) = client {
            return client.send_datagram(&self.common, &bytes, nonblocking).map(drop);
        }
        // A server on all addresses is on all of the sandbox's, not of the world's.
        let target = match endpoint::is_here(to.ip()) {
            true => ports(self.common.protocol)?.find(to, |socket: &Udp| socket.score(from)),
            false => None,
        };
        match target {
            Some(target) => target.deliver(Datagram { bytes, from, to: to.ip(), hops, class }),
            None if self.goes_over_interface(to) => {
                if from.ip().is_loopback() {
                    return Err(Errno::EINVAL);
                }
                stack::send_datagram(from, to, &bytes, u8::try_from(hops).unwrap_or(u8::MAX))?;
            }
            None if self.may_go_out(to) => return self.send_out(to, bytes, nonblocking).map(drop),
            // What ICMP would tell: only those who are connected, or ask for it, hear of it.
            None => {
                self.refused(to, bytes);
            }
        }
        Ok(())
    }
}

fn longest(to: SocketAddr) -> usize {
    if to.is_ipv4() { LENGTH_MAX_V4 } else { LENGTH_MAX_V6 }
}

/// Where a message goes: `EDESTADDRREQ`, `EINVAL`, `EAFNOSUPPORT`, `ENETUNREACH`.
fn destination(socket: &Udp, message: &Outgoing<'_, '_>) -> Result<SocketAddr> {
    let family = socket.common.family;
    let to = match message.to {
        Some(to) if family == net::AF_INET6 && address::family(to.address)? == net::AF_INET => {
            endpoint::read(net::AF_INET, to.address)?
        }
        Some(to) if address::is_unspecified(to.address) && family == net::AF_INET6 => {
            socket.link.lock().peer.ok_or(Errno::EDESTADDRREQ)?
        }
        Some(to) => endpoint::read(family, to.address)?,
        None => return socket.link.lock().peer.ok_or(Errno::EDESTADDRREQ),
    };
    if to.port() == 0 {
        return Err(Errno::EINVAL);
    }
    if let IpAddr::V4(ip) = to.ip()
        && (ip.is_broadcast() || stack::is_broadcast(to.ip()))
        && !socket.common.is_on(Switches::BROADCAST)
    {
        return Err(Errno::EACCES);
    }
    Ok(SocketAddr::new(endpoint::reach(to.ip(), socket.only_v6())?, to.port()))
}
