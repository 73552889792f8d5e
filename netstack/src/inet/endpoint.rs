//! Internet addresses of sockets (ip(7), ipv6(7)).

use super::{broker, stack};
use crate::address::{self, Address};
use crate::{Errno, Result};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use linux_raw_sys::net;

/// `sizeof(struct sockaddr_in)`, and of the shortest `struct sockaddr_in6` there was (RFC 2133).
const LENGTH_V4: usize = 16;
const LENGTH_V6: usize = 24;

/// Reads the address of a call on a socket of `family`: `EINVAL` if it is too short, `EAFNOSUPPORT` for another family. IPv4
/// addresses in IPv6 ones come out as what they mean.
pub fn read(family: u32, bytes: &[u8]) -> Result<SocketAddr> {
    let found = address::family(bytes)?;
    if family == net::AF_INET {
        if bytes.len() < LENGTH_V4 {
            return Err(Errno::EINVAL);
        }
        let (port, ip) = (port(bytes)?, array::<4>(bytes, 4)?);
        // Programs that leave the family out may bind to any address.
        if found != net::AF_INET && (found != net::AF_UNSPEC || ip != [0; 4]) {
            return Err(Errno::EAFNOSUPPORT);
        }
        return Ok(SocketAddr::new(Ipv4Addr::from(ip).into(), port));
    }
    if bytes.len() < LENGTH_V6 {
        return Err(Errno::EINVAL);
    }
    if found != net::AF_INET6 {
        return Err(Errno::EAFNOSUPPORT);
    }
    let ip = Ipv6Addr::from(array::<16>(bytes, 8)?);
    Ok(SocketAddr::new(ip.to_canonical(), port(bytes)?))
}

fn port(bytes: &[u8]) -> Result<u16> {
    array::<2>(bytes, 2).map(u16::from_be_bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).ok_or(Errno::EINVAL)
}

/// As a socket of `family` shows it.
pub fn shown(family: u32, at: SocketAddr) -> Address {
    let port = at.port().to_be_bytes();
    if family == net::AF_INET {
        let ip = match at.ip() {
            IpAddr::V4(ip) => ip.octets(),
            IpAddr::V6(_) => [0; 4],
        };
        let mut rest = [0; LENGTH_V4 - 2];
        fill(&mut rest, &[&port, &ip]);
        return Address::new(family, &rest);
    }
    let ip = match at.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut rest = [0; 26];
    fill(&mut rest, &[&port, &[0; 4], &ip.octets()]);
    Address::new(family, &rest)
}

fn fill(to: &mut [u8], parts: &[&[u8]]) {
    for (slot, byte) in to.iter_mut().zip(parts.iter().copied().flatten()) {
        *slot = *byte;
    }
}

/// The wildcard address of a family.
pub fn any(family: u32) -> IpAddr {
    if family == net::AF_INET { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Where a packet to `ip` goes: the wildcard means this host. `ENETUNREACH` for what is not here, unless there is a way out; an
/// IPv6 socket that is not to use IPv4 does not reach it.
pub fn reach(ip: IpAddr, only_v6: bool) -> Result<IpAddr> {
    let ip = match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let there = is_here(ip) || broker::routes(ip) || stack::routes(ip);
    if there && !(only_v6 && ip.is_ipv4()) { Ok(ip) } else { Err(Errno::ENETUNREACH) }
}

/// Whether `ip` is one of the sandbox's own addresses.
pub fn is_here(ip: IpAddr) -> bool {
    ip.is_loopback() || stack::is_own(ip)
}

/// The address that packets to `ip` come from: from itself, if it is one of the sandbox's.
pub fn source_for(ip: IpAddr) -> IpAddr {
    if stack::is_own(ip) {
        return ip;
    }
    if !ip.is_loopback()
        && let Some(source) = stack::source_for(ip)
    {
        return source;
    }
    if ip.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::arbitrary::any as random;
    use proptest::{prop_assert_eq, proptest};

    #[test]
    fn addresses_come_out_as_they_went_in() {
        let v4: SocketAddr = "127.0.0.1:80".parse().expect("an address");
        assert_eq!(read(net::AF_INET, shown(net::AF_INET, v4).bytes()), Ok(v4));
        assert_eq!(read(net::AF_INET6, shown(net::AF_INET6, v4).bytes()), Ok(v4));
        let v6: SocketAddr = "[::1]:65535".parse().expect("an address");
        assert_eq!(read(net::AF_INET6, shown(net::AF_INET6, v6).bytes()), Ok(v6));
        assert_eq!(shown(net::AF_INET6, v6).bytes().len(), 28);
    }

    #[test]
    fn only_this_host_is_reached() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(reach(ip("0.0.0.0"), false), Ok(ip("127.0.0.1")));
        assert_eq!(reach(ip("127.9.9.9"), false), Ok(ip("127.9.9.9")));
        assert_eq!(reach(ip("10.0.0.1"), false), Err(Errno::ENETUNREACH));
        assert_eq!(reach(ip("127.0.0.1"), true), Err(Errno::ENETUNREACH));
    }

    proptest! {
        #[test]
        fn an_address_of_any_bytes_is_refused_or_comes_out_again(
            bytes in proptest::collection::vec(random::<u8>(), 0..40),
            v6 in random::<bool>(),
        ) {
            let family = if v6 { net::AF_INET6 } else { net::AF_INET };
            let mut address = (family as u16).to_ne_bytes().to_vec();
            address.extend(bytes);
            for wanted in [net::AF_INET, net::AF_INET6] {
                if let Ok(at) = read(wanted, &address) {
                    prop_assert_eq!(read(wanted, shown(wanted, at).bytes()), Ok(at));
                }
            }
        }
    }
}
