//! The container's network. In a network namespace that somebody has put an interface into, the sandbox's own stack takes that over;
//! without a network namespace the broker makes connections to whatever the host can reach; otherwise there is the loopback interface
//! alone, which every sandbox has inside.

use anyhow::Context;
use boundary::boot::Interface;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use runtime::broker::{Broker, Rules, Settings};
use runtime::stack;
use std::os::fd::OwnedFd;

/// What the launcher gets of it.
#[derive(Default)]
pub struct Network {
    /// The interface that the sandbox takes over, and a packet socket on it.
    pub stack: Option<(Interface, OwnedFd)>,
    /// The broker's process, as long as the container runs.
    pub broker: Option<Broker>,
    /// The socket to it.
    pub to_broker: Option<OwnedFd>,
    /// The broker reaches the host's loopback addresses, too.
    pub host_loopback: bool,
}

/// Sets up the network of a container whose monitor this process is. `own`: config.json has a network namespace, which this process
/// is in.
pub fn set_up(own: bool) -> anyhow::Result<Network> {
    if own {
        let interface = usable_interface().context("the network namespace's interfaces")?;
        let taken = interface.map(|name| stack::gather(Some(&name))?.take_over()).transpose()?;
        return Ok(Network { stack: taken, ..Network::default() });
    }
    let settings = Settings {
        rules: Rules { everything: true, ..Rules::default() },
        hosts: Vec::new(),
        published: Vec::new(),
        log: None,
    };
    let host_loopback = settings.reach_loopback();
    let (broker, socket) = Broker::start(settings).context("the broker")?;
    Ok(Network { stack: None, broker: Some(broker), to_broker: Some(socket), host_loopback })
}

/// The first interface that is up and leads out.
fn usable_interface() -> nix::Result<Option<String>> {
    let leads_out = |flags: InterfaceFlags| {
        flags.contains(InterfaceFlags::IFF_UP) && !flags.contains(InterfaceFlags::IFF_LOOPBACK)
    };
    let mut all = getifaddrs()?.filter(|interface| leads_out(interface.flags));
    let has_address = |address: &nix::ifaddrs::InterfaceAddress| {
        address.address.as_ref().is_some_and(|address| {
            let v6 = address.as_sockaddr_in6().map(|address| address.ip());
            // What every interface gives itself leads no further than the link.
            address.as_sockaddr_in().is_some() || v6.is_some_and(|ip| !ip.is_unicast_link_local())
        })
    };
    Ok(all.find(has_address).map(|interface| interface.interface_name))
}
