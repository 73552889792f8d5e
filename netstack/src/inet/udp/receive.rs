//! Receiving.

use super::Udp;
use crate::inet::endpoint;
use crate::inet::options::IP;
use crate::message::Incoming;
use crate::socket::Shutdown;
use crate::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering;
use kernel::poll::PollEvents;
use linux_raw_sys::net;

/// What a datagram counts for beyond its bytes (the host kernel's `truesize`).
const COST: usize = 768;

/// A datagram that waits.
pub(super) struct Datagram {
    pub(super) bytes: Vec<u8>,
    pub(super) from: SocketAddr,
    pub(super) to: IpAddr,
    /// Hop limit (time to live) and traffic class (type of service).
    pub(super) hops: i32,
    pub(super) class: i32,
}

/// What waits in a socket.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) queue: VecDeque<Datagram>,
    pub(super) used: usize,
}

impl Udp {
    pub(super) fn try_receive(&self, message: &mut Incoming<'_, '_>) -> Option<Result<usize>> {
        let peeking = message.has(net::MSG_PEEK);
        let (datagram, outcome) = {
            let mut inbox = self.inbox.lock();
            if let Some(error) = self.common.take_error() {
                return Some(Err(error));
            }
            let offset = self.common.peek_offset.load(Ordering::Relaxed);
            let mut skip = if peeking { usize::try_from(offset).unwrap_or(0) } else { 0 };
            let mut waiting = inbox.queue.iter();
            // Peeking with an offset goes from one datagram to the next.
            let datagram = waiting.find(|datagram| {
                let goes_on = skip > 0 && skip >= datagram.bytes.len();
                skip -= if goes_on { datagram.bytes.len() } else { 0 };
                !goes_on
            });
            let Some(datagram) = datagram else {
                return (self.is_shut(Shutdown::RECEIVE) && !message.nonblocking).then_some(Ok(0));
            };
            let outcome = self.copy(datagram, skip, message);
            if peeking {
                (None, outcome)
            } else {
                let datagram = inbox.queue.pop_front();
                inbox.used -= datagram.as_ref().map_or(0, |datagram| datagram.bytes.len() + COST);
                (datagram, outcome)
            }
        };
        drop(datagram);
        Some(outcome)
    }

    /// Gives what lies behind the first `skip` bytes.
    fn copy(&self, datagram: &Datagram, skip: usize, message: &mut Incoming<'_, '_>) -> Result<usize> {
        let length = datagram.bytes.len();
        let rest = datagram.bytes.get(skip..).unwrap_or(&[]);
        let part = rest.get(..message.sink.left()).unwrap_or(rest);
        if message.sink.put(part)? < part.len() {
            return Err(Errno::EFAULT);
        }
        // `udp_recvmsg` counts what it tells.
        let told = if message.has(net::MSG_TRUNC) { length } else { part.len() };
        self.common.move_peek_offset(message.has(net::MSG_PEEK), told);
        if part.len() < rest.len() {
            message.report |= net::MSG_TRUNC;
        }
        message.from = Some(endpoint::shown(self.common.family, datagram.from));
        self.common.stamp(message);
        self.tell_destination(datagram.to, message);
        self.tell_hops(datagram, message);
        Ok(told)
    }

    /// `IP_PKTINFO`, `IPV6_RECVPKTINFO`: by which interface and to which address it came.
    fn tell_destination(&self, to: IpAddr, message: &mut Incoming<'_, '_>) {
        const LOOPBACK: u32 = 1;
        if let IpAddr::V4(ip) = to
            && self.numbers.is_on(IP, net::IP_PKTINFO)
        {
            let mut data = LOOPBACK.to_ne_bytes().to_vec();
            data.extend_from_slice(&ip.octets());
            data.extend_from_slice(&ip.octets());
            message.ancillary.push((IP, net::IP_PKTINFO, data));
        }
        if self.numbers.is_on(net::SOL_IPV6, net::IPV6_RECVPKTINFO) {
            let ip = match to {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            let mut data = ip.octets().to_vec();
            data.extend_from_slice(&LOOPBACK.to_ne_bytes());
            message.ancillary.push((net::SOL_IPV6, net::IPV6_PKTINFO, data));
        }
    }

    /// `IP_RECVTTL`, `IP_RECVTOS`, `IPV6_RECVHOPLIMIT`, `IPV6_RECVTCLASS`.
    fn tell_hops(&self, datagram: &Datagram, message: &mut Incoming<'_, '_>) {
        let mut tell = |level, option, kind, bytes: &[u8]| {
            if self.numbers.is_on(level, option) {
                message.ancillary.push((level, kind, bytes.to_vec()));
            }
        };
        let (hops, class) = (datagram.hops.to_ne_bytes(), datagram.class.to_ne_bytes());
        if datagram.to.is_ipv4() {
            tell(IP, net::IP_RECVTTL, net::IP_TTL, &hops);
            tell(IP, net::IP_RECVTOS, net::IP_TOS, &[datagram.class as u8]);
        }
        if self.common.family == net::AF_INET6 {
            tell(net::SOL_IPV6, net::IPV6_RECVHOPLIMIT, net::IPV6_HOPLIMIT, &hops);
            tell(net::SOL_IPV6, net::IPV6_RECVTCLASS, net::IPV6_TCLASS, &class);
        }
    }

    /// Puts a datagram into the inbox; one that finds no room is lost.
    pub(super) fn deliver(&self, datagram: Datagram) {
        let delivered = {
            let mut inbox = self.inbox.lock();
            let used = inbox.used + datagram.bytes.len() + COST;
            let room = inbox.used < self.common.receive_room() && inbox.queue.try_reserve(1).is_ok();
            if room && !self.is_shut(Shutdown::RECEIVE) {
                inbox.used = used;
                inbox.queue.push_back(datagram);
            }
            room
        };
        if delivered {
            self.common.queue.wake(PollEvents::READABLE);
        }
    }
}
