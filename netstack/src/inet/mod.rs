//! Internet sockets on the loopback interface, in memory: no packets, no timers, nothing lost. Of the addresses there are, 127.0.0.0/8
//! and ::1 are here; everything else is unreachable at once, unless there is a broker ([`broker`]) or an interface ([`stack`]).

pub mod broker;
pub mod endpoint;
mod options;
mod outside;
mod ping;
mod ports;
mod remains;
mod remote;
mod report;
pub mod stack;
pub mod tcp;
pub mod udp;

pub use options::Congestion;
pub use remains::REMAINS_MAX;
pub use report::{Line, counts, lines, tcp_table, udp_table};

use crate::socket::Socket;
use crate::{Errno, Result};
use alloc::sync::Arc;
use linux_raw_sys::net;

/// Protocol numbers.
const TCP: u32 = 6;
const UDP: u32 = 17;
const UDP_LITE: u32 = 136;

/// Sets up what internet sockets share. Called once, at boot.
pub fn init() {
    broker::init();
    ping::init();
    stack::init();
    tcp::init();
    udp::init();
}

/// socket(2) for `AF_INET` and `AF_INET6`: `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`, `EPERM` for raw sockets, of which there are those of
/// ICMP alone, for who has the capability.
pub fn create(family: u32, kind: u32, protocol: u32) -> Result<Arc<dyn Socket>> {
    match (kind, protocol) {
        (net::SOCK_STREAM, 0 | TCP) => Ok(tcp::Tcp::new(family)),
        (net::SOCK_DGRAM, 0 | UDP) => Ok(udp::Udp::new(family, UDP)),
        (net::SOCK_DGRAM, ping::ICMP) if family == net::AF_INET => Ok(ping::Ping::new(family, protocol)?),
        (net::SOCK_DGRAM, ping::ICMP_V6) if family == net::AF_INET6 => Ok(ping::Ping::new(family, protocol)?),
        (net::SOCK_DGRAM, UDP_LITE) => Ok(udp::Udp::new(family, UDP_LITE)),
        (net::SOCK_RAW, ping::ICMP) if family == net::AF_INET => Ok(ping::Ping::raw(family, protocol)?),
        (net::SOCK_RAW, ping::ICMP_V6) if family == net::AF_INET6 => Ok(ping::Ping::raw(family, protocol)?),
        (net::SOCK_RAW, 1..=255) => Err(Errno::EPERM),
        (net::SOCK_STREAM | net::SOCK_DGRAM | net::SOCK_RAW, _) if protocol > 255 => Err(Errno::EINVAL),
        (net::SOCK_STREAM | net::SOCK_DGRAM | net::SOCK_RAW, _) => Err(Errno::EPROTONOSUPPORT),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}
