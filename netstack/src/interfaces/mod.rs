//! The network interfaces there are: the loopback one, and the one that the sandbox's own stack is on, if it has one.

mod ioctl;
mod proc;

pub use ioctl::ioctl;
pub use proc::{addresses_v6, devices, routes_v4, routes_v6};

use crate::inet::stack;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `IFF_*`.
const UP: u32 = 0x1;
const BROADCAST: u32 = 0x2;
const LOOPBACK: u32 = 0x8;
const RUNNING: u32 = 0x40;
const MULTICAST: u32 = 0x1000;
/// `ARPHRD_LOOPBACK`, `ARPHRD_ETHER`.
const HARDWARE_LOOPBACK: u16 = 772;
const HARDWARE_ETHERNET: u16 = 1;
/// What Linux says of the loopback interface.
const LOOPBACK_INDEX: u32 = 1;
const LOOPBACK_MTU: u32 = 65536;
const LOOPBACK_PREFIX: u8 = 8;

/// An interface.
pub struct Interface {
    /// Its name.
    pub name: &'static str,
    /// Its number.
    pub index: u32,
    /// Longest packet.
    pub mtu: u32,
    /// `IFF_*`.
    pub flags: u32,
    /// `ARPHRD_*`, and its address as such.
    pub hardware: (u16, [u8; 6]),
    /// Its addresses, with the lengths of their networks' prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
}

impl Interface {
    /// Whether it is the loopback one.
    pub fn is_loopback(&self) -> bool {
        self.flags & LOOPBACK != 0
    }
}

/// A route.
pub struct Route {
    /// Number and name of its interface.
    pub interface: (u32, &'static str),
    /// Where it leads.
    pub to: (IpAddr, u8),
    /// Through which gateway; `None` on the link itself.
    pub via: Option<IpAddr>,
    /// What is sent from, on the link.
    pub source: Option<IpAddr>,
}

/// All of them.
pub fn all() -> Vec<Interface> {
    let mut all = vec![Interface {
        name: "lo",
        index: LOOPBACK_INDEX,
        mtu: LOOPBACK_MTU,
        flags: UP | LOOPBACK | RUNNING,
        hardware: (HARDWARE_LOOPBACK, [0; 6]),
        addresses: vec![(Ipv4Addr::LOCALHOST.into(), LOOPBACK_PREFIX), (Ipv6Addr::LOCALHOST.into(), 128)],
    }];
    all.extend(stack::interface().map(|interface| Interface {
        name: &interface.name,
        index: interface.index,
        mtu: interface.mtu,
        flags: UP | BROADCAST | RUNNING | MULTICAST,
        hardware: (HARDWARE_ETHERNET, interface.hardware),
        addresses: interface.addresses.clone(),
    }));
    all
}

/// The routes of the main table: to the networks that the addresses are of, and through gateways.
pub fn routes() -> Vec<Route> {
    let Some(own) = stack::interface() else { return Vec::new() };
    let interface = (own.index, own.name.as_str());
    let is_network = |prefix: u8, ip: IpAddr| prefix < if ip.is_ipv4() { 32 } else { 128 };
    let on_link = own.addresses.iter().filter(|(ip, prefix)| is_network(*prefix, *ip));
    let on_link = on_link.map(|&(ip, prefix)| Route {
        interface,
        to: (network(ip, prefix), prefix),
        via: None,
        source: Some(ip).filter(|ip| ip.is_ipv4()),
    });
    let through = own.routes.iter().map(|route| Route {
        interface,
        to: route.to,
        via: Some(route.via).filter(|via| *via != route.to.0),
        source: None,
    });
    let mut all: Vec<Route> = on_link.chain(through).collect();
    // Those of IPv4 lie in the order of their networks (`fib_trie`).
    all.sort_by_key(|route| match route.to.0 {
        IpAddr::V4(ip) => (0, u32::from(ip)),
        IpAddr::V6(_) => (1, 0),
    });
    all
}

/// The address with all bits behind the prefix cleared.
fn network(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => (ip & Ipv4Addr::from(mask(prefix))).into(),
        IpAddr::V6(ip) => {
            let clear = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
            Ipv6Addr::from(u128::from(ip) & !clear).into()
        }
    }
}

/// The mask of an IPv4 network.
fn mask(prefix: u8) -> u32 {
    !u32::MAX.checked_shr(prefix.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_no_bits_behind_its_prefix() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(network(ip("10.1.2.3"), 20), ip("10.1.0.0"));
        assert_eq!(network(ip("10.1.2.3"), 32), ip("10.1.2.3"));
        assert_eq!(network(ip("10.1.2.3"), 0), ip("0.0.0.0"));
        assert_eq!(network(ip("fd00::1:2"), 64), ip("fd00::"));
        assert_eq!(network(ip("fd00::1:2"), 128), ip("fd00::1:2"));
    }
}
