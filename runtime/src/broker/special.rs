//! Addresses that are not the public internet's: what they lead to is inside, and a program must not reach it by a name that was
//! made to point there.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Its addresses.
    pub net: IpNet,
    /// For people.
    pub what: &'static str,
}

const fn v4(a: u8, b: u8, c: u8, prefix: u8, what: &'static str) -> Range {
    Range { net: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)), what }
}

const fn v6(first: u16, second: u16, prefix: u8, what: &'static str) -> Range {
    Range {
        net: IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), prefix)),
        what,
    }
}

/// From the registries of special-purpose addresses (RFC 6890 and its updates), the narrower first.
const RANGES: &[Range] = &[
    v4(0, 0, 0, 8, "this-network"),
    v4(10, 0, 0, 8, "private"),
    v4(100, 64, 0, 10, "private (carrier)"),
    v4(127, 0, 0, 8, "loopback"),
    v4(169, 254, 0, 16, "link-local (metadata service)"),
    v4(172, 16, 0, 12, "private"),
    v4(192, 0, 0, 24, "protocol-assignment"),
    v4(192, 168, 0, 16, "private"),
    v4(198, 18, 0, 15, "benchmarking"),
    v4(224, 0, 0, 4, "multicast"),
    v4(240, 0, 0, 4, "reserved"),
    // Those of IPv6 that lead to IPv4 addresses could lead to any of the above.
    Range { net: IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)), what: "loopback" },
    v6(0, 0, 8, "reserved"),
    v6(0x64, 0xff9b, 32, "IPv4-translation"),
    v6(0x100, 0, 64, "discard-only"),
    v6(0x2001, 0, 23, "protocol-assignment"),
    v6(0x2002, 0, 16, "6to4"),
    v6(0xfc00, 0, 7, "private"),
    v6(0xfe80, 0, 10, "link-local"),
    v6(0xfec0, 0, 10, "private (site-local)"),
    v6(0xff00, 0, 8, "multicast"),
];

/// The special range that an address is in, if any. `own` are the addresses of this host.
pub fn special(ip: IpAddr, own: &[IpAddr]) -> Option<Range> {
    let ip = ip.to_canonical();
    let listed = RANGES.iter().find(|range| range.net.contains(&ip)).copied();
    // What listens on all of the host's addresses is reached by each of them.
    listed.or_else(|| own.contains(&ip).then(|| Range { net: ip.into(), what: "this host's own" }))
}
