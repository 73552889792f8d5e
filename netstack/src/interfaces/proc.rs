//! The interfaces and routes as `/proc/net` shows them (proc(5)).

use super::{all, routes};
use crate::inet::stack;
use alloc::string::String;
use core::fmt::Write;
use core::net::{IpAddr, Ipv6Addr};

const DEVICES: &str = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop \
                       fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n";
const ROUTES: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
/// Of each line (`seq_setwidth`).
const WIDTH: usize = 127;
/// `IFA_F_PERMANENT`; `IPV6_ADDR_LOOPBACK`, `IPV6_ADDR_LINKLOCAL`.
const PERMANENT: u32 = 0x80;
const SCOPE_HOST: u32 = 0x10;
const SCOPE_LINK: u32 = 0x20;
/// `RTF_UP`, `RTF_GATEWAY`, `RTF_HOST`, and `RTF_LOCAL | RTF_NONEXTHOP | RTF_UP` of an address of one's own.
const UP: u32 = 1;
const GATEWAY: u32 = 2;
const HOST: u32 = 4;
const LOCAL: u32 = 0x8020_0001;
/// Metrics that Linux gives routes of IPv6 on the link, and those through gateways.
const METRIC_LINK: u32 = 0x100;
const METRIC_GATEWAY: u32 = 0x400;

/// `/proc/net/dev`.
pub fn devices() -> String {
    let mut text = String::from(DEVICES);
    for interface in all() {
        // Nothing is counted on the loopback interface, which has no packets.
        let traffic = if interface.is_loopback() { stack::Traffic::default() } else { stack::traffic() };
        let name = interface.name;
        let stack::Traffic { received: (bytes, frames), sent: (bytes_out, frames_out) } = traffic;
        let _ = writeln!(
            text,
            "{name:>6}: {bytes:7} {frames:7}    0    0    0     0          0         0 {bytes_out:8} {frames_out:7}    0    0    0     0       0          0"
        );
    }
    text
}

/// `/proc/net/route`.
pub fn routes_v4() -> String {
    let mut text = alloc::format!("{ROUTES:<WIDTH$}\n");
    for route in routes() {
        let (IpAddr::V4(to), prefix) = route.to else { continue };
        let word = |ip: core::net::Ipv4Addr| u32::from_ne_bytes(ip.octets());
        let via = match route.via {
            Some(IpAddr::V4(via)) => word(via),
            _ => 0,
        };
        let flags = UP | if via != 0 { GATEWAY } else { 0 } | if prefix == 32 { HOST } else { 0 };
        let mask = super::mask(prefix).to_be();
        let name = route.interface.1;
        let line =
            alloc::format!("{name}\t{:08X}\t{via:08X}\t{flags:04X}\t0\t0\t0\t{mask:08X}\t0\t0\t0", word(to));
        let _ = writeln!(text, "{line:<WIDTH$}");
    }
    text
}

fn plain(ip: Ipv6Addr) -> String {
    ip.octets().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `/proc/net/if_inet6`.
pub fn addresses_v6() -> String {
    let mut text = String::new();
    for interface in all().iter().rev() {
        for (ip, prefix) in &interface.addresses {
            let IpAddr::V6(ip) = ip else { continue };
            let scope = match ip {
                ip if ip.is_loopback() => SCOPE_HOST,
                ip if ip.is_unicast_link_local() => SCOPE_LINK,
                _ => 0,
            };
            let (index, name) = (interface.index, interface.name);
            let _ = writeln!(
                text,
                "{} {index:02x} {prefix:02x} {scope:02x} {PERMANENT:02x} {name:>8}",
                plain(*ip)
            );
        }
    }
    text
}

/// `/proc/net/ipv6_route`.
pub fn routes_v6() -> String {
    let mut text = String::new();
    let none = plain(Ipv6Addr::UNSPECIFIED);
    let mut line = |to: Ipv6Addr, prefix: u8, via: Option<Ipv6Addr>, metric: u32, flags: u32, name: &str| {
        let via = plain(via.unwrap_or(Ipv6Addr::UNSPECIFIED));
        let to = plain(to);
        let _ = writeln!(
            text,
            "{to} {prefix:02x} {none} 00 {via} {metric:08x} 00000001 00000000 {flags:08x} {name:>8}"
        );
    };
    for route in routes() {
        let (IpAddr::V6(to), prefix) = route.to else { continue };
        match route.via {
            Some(IpAddr::V6(via)) => {
                line(to, prefix, Some(via), METRIC_GATEWAY, UP | GATEWAY, route.interface.1)
            }
            _ => line(to, prefix, None, METRIC_LINK, UP, route.interface.1),
        }
    }
    for interface in all() {
        for (ip, _) in &interface.addresses {
            if let IpAddr::V6(ip) = ip {
                line(*ip, 128, None, 0, LOCAL, interface.name);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_interface_there_is_what_linux_tells_of_the_loopback_one() {
        assert!(devices().ends_with(
            "\n    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n"
        ));
        assert_eq!(routes_v4(), alloc::format!("{ROUTES:<127}\n"));
        assert_eq!(addresses_v6(), "00000000000000000000000000000001 01 80 10 80       lo\n");
        assert_eq!(
            routes_v6(),
            "00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 \
             00000000 00000001 00000000 80200001       lo\n"
        );
    }
}
