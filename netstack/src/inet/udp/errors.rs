//! The queue of errors (ip(7), `IP_RECVERR`): datagrams that nobody took come back with what ICMP would have told.

use super::Udp;
use crate::inet::endpoint;
use crate::inet::options::IP;
use crate::message::Incoming;
use crate::{Errno, Result};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use kernel::poll::PollEvents;
use linux_raw_sys::net;

/// Reports that wait at most.
const REPORTS_MAX: usize = 256;

/// A datagram that did not arrive.
pub(super) struct Report {
    bytes: Vec<u8>,
    to: SocketAddr,
    error: Errno,
}

/// `SO_EE_ORIGIN_ICMP`, with type and code of "port unreachable" and "host unreachable" (RFC 792), and the same of ICMPv6 (RFC 4443).
const PORT_UNREACHABLE: [u8; 3] = [2, 3, 3];
const PORT_UNREACHABLE_V6: [u8; 3] = [3, 1, 4];
const HOST_UNREACHABLE: [u8; 3] = [2, 3, 1];
const HOST_UNREACHABLE_V6: [u8; 3] = [3, 1, 3];

impl Report {
    /// `struct sock_extended_err`, and who told: the host that was meant, without a port.
    fn description(&self) -> (u32, u32, Vec<u8>) {
        let port = self.error == Errno::ECONNREFUSED;
        let (level, kind, family, told) = match (self.to.ip(), port) {
            (IpAddr::V4(_), true) => (IP, net::IP_RECVERR, net::AF_INET, PORT_UNREACHABLE),
            (IpAddr::V4(_), false) => (IP, net::IP_RECVERR, net::AF_INET, HOST_UNREACHABLE),
            (IpAddr::V6(_), true) => (net::SOL_IPV6, net::IPV6_RECVERR, net::AF_INET6, PORT_UNREACHABLE_V6),
            (IpAddr::V6(_), false) => (net::SOL_IPV6, net::IPV6_RECVERR, net::AF_INET6, HOST_UNREACHABLE_V6),
        };
        let mut data = self.error.0.to_ne_bytes().to_vec();
        data.extend_from_slice(&told);
        data.resize(16, 0);
        data.extend_from_slice(endpoint::shown(family, SocketAddr::new(self.to.ip(), 0)).bytes());
        (level, kind, data)
    }
}

impl Udp {
    /// Nobody took a datagram. Only those who are connected, or ask for it, hear of it.
    pub(super) fn refused(&self, to: SocketAddr, bytes: Vec<u8>) {
        self.failed(to, bytes, Errno::ECONNREFUSED);
    }

    /// A datagram did not arrive, for this reason.
    pub(super) fn failed(&self, to: SocketAddr, bytes: Vec<u8>, error: Errno) {
        let (level, name) = match to.ip() {
            IpAddr::V4(_) => (IP, net::IP_RECVERR),
            IpAddr::V6(_) => (net::SOL_IPV6, net::IPV6_RECVERR),
        };
        let asks = self.numbers.is_on(level, name);
        if !asks && self.link.lock().peer != Some(to) {
            return;
        }
        if asks {
            let mut errors = self.errors.lock();
            if errors.len() < REPORTS_MAX {
                errors.push_back(Report { bytes, to, error });
            }
        }
        self.common.set_error(error);
        self.common.queue.wake_all(PollEvents::ERR);
    }

    /// recv(2) with `MSG_ERRQUEUE`: the datagram, where it was to go, and what became of it.
    pub(super) fn take_report(&self, message: &mut Incoming<'_, '_>) -> Result<usize> {
        let (report, next) = {
            let mut errors = self.errors.lock();
            let report = errors.pop_front().ok_or(Errno::EAGAIN)?;
            (report, errors.front().map(|next| next.error))
        };
        // The pending error is that of the next report (`sock_dequeue_err_skb`).
        self.common.take_error();
        if let Some(next) = next {
            self.common.set_error(next);
        }
        let part = report.bytes.get(..message.sink.left()).unwrap_or(&report.bytes);
        message.sink.put(part)?;
        if part.len() < report.bytes.len() {
            message.report |= net::MSG_TRUNC;
        }
        message.report |= net::MSG_ERRQUEUE;
        message.from = Some(endpoint::shown(self.common.family, report.to));
        message.ancillary.push(report.description());
        Ok(part.len())
    }
}
