//! The network of a container: what there is in the network namespace that the monitor is in when the program is about to start.
//!
//! | there | inside |
//! | --- | --- |
//! | an interface with addresses | the kernel inside takes it over, with its addresses and routes ([`runtime::stack`]) |
//! | a name server on the loopback interface (Docker's own, 127.0.0.11) | a broker passes on what is sent to its port, and nothing else |
//! | nothing but loopback | loopback alone |
//! | another container's network | refused: its kernel, or the host's, has the addresses |
//! | the network of who created the container, which is the host's | a broker makes the connections, to everything ([`runtime::broker`]) |

use crate::namespaces::Network as Whose;
use anyhow::Context;
use boundary::boot::Interface;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use runtime::broker::{Broker, Rule, Rules, Settings};
use runtime::stack::{self, StackError};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// Port of name servers.
const DNS: u16 = 53;

/// What the sandbox is launched with.
#[derive(Default)]
pub struct Network {
    /// The interface, and the packet socket on it.
    pub stack: Option<(Interface, OwnedFd)>,
    /// The socket to the broker.
    pub to_broker: Option<OwnedFd>,
    /// The broker itself, to be ended after the sandbox.
    pub broker: Option<Broker>,
    /// What nobody inside serves on the loopback interface is the host's to serve.
    pub host_loopback: bool,
}

impl Network {
    /// Looks around, and takes what is there. `name_servers` are those of the container's resolv.conf. This process has one thread.
    pub fn take(whose: Whose, name_servers: &[IpAddr]) -> anyhow::Result<Network> {
        let interfaces = interfaces()?;
        match whose {
            Whose::Alone => Ok(Network::default()),
            Whose::Callers => Network::of_the_host(),
            _ if interfaces.is_empty() => Ok(Network::default()),
            // Its processes would lose the addresses, or its kernel has them already.
            Whose::Others => Err(belongs_to_another()),
            Whose::Own => match stack::gather(None) {
                Ok(gathered) => {
                    let network = Network::of_name_servers(name_servers)?;
                    Ok(Network { stack: Some(gathered.take_over()?), ..network })
                }
                Err(StackError::HostsOwn) => Network::of_the_host(),
                Err(error) if interfaces.values().any(|has_address| *has_address) => Err(error.into()),
                Err(_) => Err(belongs_to_another()),
            },
        }
    }

    /// A broker for name servers on the loopback interface of the namespace, which is not the one that programs see.
    fn of_name_servers(name_servers: &[IpAddr]) -> anyhow::Result<Network> {
        let mut allow = Vec::new();
        for server in name_servers.iter().filter(|server| server.is_loopback()) {
            let place = SocketAddr::new(*server, DNS).to_string();
            allow.extend(Rule::parse(&place).map_err(|reason| anyhow::anyhow!("{place}: {reason}"))?);
        }
        if allow.is_empty() {
            return Ok(Network::default());
        }
        let rules = Rules { allow, ..Rules::default() };
        let settings = Settings { rules, hosts: Vec::new(), published: Vec::new(), log: None };
        let (broker, to_broker) = Broker::start(settings)?;
        Ok(Network { broker: Some(broker), to_broker: Some(to_broker), ..Network::default() })
    }

    fn of_the_host() -> anyhow::Result<Network> {
        let rules = Rules { allow: Vec::new(), deny: Vec::new(), everything: true };
        let settings = Settings { rules, hosts: Vec::new(), published: Vec::new(), log: None };
        let (broker, to_broker) = Broker::start(settings)?;
        Ok(Network {
            broker: Some(broker),
            to_broker: Some(to_broker),
            host_loopback: true,
            ..Network::default()
        })
    }
}

/// The name servers of a resolv.conf(5).
pub fn name_servers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    lines.filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).collect()
}

fn belongs_to_another() -> anyhow::Error {
    anyhow::anyhow!(
        "linux.namespaces: the network namespace is another container's, and one kernel only can have its addresses; give the \
         container a network of its own"
    )
}

/// The interfaces that are up, but for the loopback one, and whether they have an address.
fn interfaces() -> anyhow::Result<BTreeMap<String, bool>> {
    let mut interfaces = BTreeMap::new();
    for one in getifaddrs().context("the network interfaces")? {
        let up =
            one.flags.contains(InterfaceFlags::IFF_UP) && !one.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        if up {
            let has_address = one.address.is_some_and(|address| {
                address.as_sockaddr_in().is_some() || address.as_sockaddr_in6().is_some()
            });
            *interfaces.entry(one.interface_name).or_insert(false) |= has_address;
        }
    }
    Ok(interfaces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_those_of_resolv_conf() {
        let text = "# nameserver 1.1.1.1\nsearch a.test\nnameserver 127.0.0.11\n nameserver\t::1 # local\nnameserver x\n";
        assert_eq!(
            name_servers(text),
            ["127.0.0.11", "::1"].map(|ip| ip.parse::<IpAddr>().expect("an address"))
        );
    }
}
