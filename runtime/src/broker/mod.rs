//! The broker (`--network=broker`): a process outside the sandbox that makes connections for it, if the rules allow them.
//!
//! It has one socket to the sandbox, whose messages ([`boundary::broker`]) are hostile, and never maps anything of it. It resolves
//! names by itself, so that what a name means is decided where the rule is checked. What it passes in is a socket that is connected
//! already; the sandbox's filter has no call that connects, binds or addresses anything.

mod datagrams;
mod log;
mod names;
pub mod options;
mod process;
mod rules;
mod serve;
mod special;

pub use process::Broker;
pub use rules::{Rule, Rules, parse_name};

use boundary::broker::Protocol;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A port of the host that leads to one of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// On the host.
    pub host: SocketAddr,
    /// Inside.
    pub port: u16,
    /// Of which protocol.
    pub protocol: Protocol,
}

/// How it is written.
const PUBLISHED: &str = "write [ADDRESS:]HOSTPORT:PORT[/udp]";

impl Published {
    /// Reads `[ADDRESS:]HOSTPORT:PORT[/PROTOCOL]`. Without an address it is the host's loopback one, without a protocol TCP.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Published, String> {
        let port = |text: &str| match text.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(format!("'{}' is no port; {PUBLISHED}", text.escape_debug())),
        };
        let (text, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((text, "tcp")) => (text, Protocol::Tcp),
            Some((text, "udp")) => (text, Protocol::Udp),
            Some((_, other)) => {
                return Err(format!("'{}' is no protocol; {PUBLISHED}", other.escape_debug()));
            }
        };
        let (host, inside) = text.rsplit_once(':').ok_or(PUBLISHED)?;
        let (ip, host_port) = host.rsplit_once(':').map_or((None, host), |(ip, port)| (Some(ip), port));
        let ip = match ip {
            Some(ip) => {
                let plain = ip.trim_start_matches('[').trim_end_matches(']');
                plain.parse::<IpAddr>().map_err(|_| format!("'{}' is no address", ip.escape_debug()))?
            }
            None => Ipv4Addr::LOCALHOST.into(),
        };
        Ok(Published { host: SocketAddr::new(ip, port(host_port)?), port: port(inside)?, protocol })
    }
}

/// What the broker is told on the command line.
pub struct Settings {
    /// Which destinations are allowed.
    pub rules: Rules,
    /// `--resolve`: names and their addresses.
    pub hosts: Vec<(String, IpAddr)>,
    /// `--publish`.
    pub published: Vec<Published>,
    /// Where decisions are written.
    pub log: Option<File>,
}

impl Settings {
    /// Whether some destination is the host's own loopback interface.
    pub fn reach_loopback(&self) -> bool {
        self.rules.reach_loopback() || self.hosts.iter().any(|(_, ip)| ip.is_loopback())
    }
}

/// Reads `NAME:ADDRESS` of `--resolve`.
///
/// # Errors
/// What is wrong with it, for people.
pub fn parse_host(text: &str) -> Result<(String, IpAddr), String> {
    let (name, ip) = text.split_once(':').ok_or("write NAME:ADDRESS")?;
    let plain = ip.trim_start_matches('[').trim_end_matches(']');
    let ip = plain.parse::<IpAddr>().map_err(|_| format!("'{}' is no address", ip.escape_debug()))?;
    Ok((parse_name(name)?, ip.to_canonical()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_port_is_on_the_loopback_interface_unless_an_address_is_named() {
        let parse =
            |text| Published::parse(text).map(|published| (published.host.to_string(), published.port));
        assert_eq!(parse("8080:80"), Ok(("127.0.0.1:8080".into(), 80)));
        assert_eq!(parse("0.0.0.0:8080:80"), Ok(("0.0.0.0:8080".into(), 80)));
        assert_eq!(parse("[::]:8080:80"), Ok(("[::]:8080".into(), 80)));
        let protocol = |text| Published::parse(text).map(|published| published.protocol);
        assert_eq!(protocol("8080:80"), Ok(Protocol::Tcp));
        assert_eq!(protocol("8080:80/tcp"), Ok(Protocol::Tcp));
        assert_eq!(protocol("[::1]:5353:53/udp"), Ok(Protocol::Udp));
        for text in ["80:80/", "80:80/sctp", "80/udp", "80", "0:80", "80:x", "a:80:80", ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_has_a_name_and_an_address() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(parse_host("A.test:127.0.0.1"), Ok(("a.test".into(), ip("127.0.0.1"))));
        assert_eq!(parse_host("a.test:::1"), Ok(("a.test".into(), ip("::1"))));
        assert!(parse_host("a.test").is_err() && parse_host("1.2.3.4:1.2.3.4").is_err());
    }
}
