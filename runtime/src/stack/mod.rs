//! An interface for the network stack of a sandbox (`--network=stack`): what is read of it before it is taken over, the packet
//! socket, and what is given back at the end.
//!
//! The host's kernel would answer for the interface's addresses, too, and reset every connection that it knows nothing of. So the
//! addresses are taken off the interface, after they were read; that is only done in a network namespace that is not the host's
//! own.

mod guard;
mod route;

pub use guard::Guard;

use boundary::boot::{Interface, Route};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use route::Tables;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Addresses and routes at most: what the stack's tables hold.
const ADDRESSES_MAX: usize = 8;
const ROUTES_MAX: usize = 16;
/// Bytes of frames that may wait for the sandbox.
const ROOM: libc::c_int = 16 << 20;

/// Why there is no interface for the stack: the thing, the reason, the way out.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The host refused something.
    #[error("--network=stack: {what}: {source}{hint}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// What the host said.
        source: io::Error,
        /// The way out, where there is one.
        hint: &'static str,
    },
    /// This is the host's own network.
    #[error(
        "--network=stack: this is the host's own network namespace, whose addresses cannot be taken from it; start in one that \
         is the sandbox's: ip netns exec NAME sandbox-exec ..."
    )]
    HostsOwn,
    /// No interface, or not this one.
    #[error("--network=stack: {0}")]
    Interface(String),
}

fn host(what: &'static str) -> impl FnOnce(io::Error) -> StackError {
    move |source| {
        let hint = match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => "; it needs CAP_NET_ADMIN and CAP_NET_RAW here",
            _ => "",
        };
        StackError::Host { what, source, hint }
    }
}

/// An interface that was looked at, and the socket to it.
pub struct Stack {
    /// What the sandbox is to know of it.
    pub interface: Interface,
    /// A packet socket on it: [`boundary::boot::BootFds::packet`].
    pub packet: OwnedFd,
    tables: Tables,
    addresses: Vec<AddressMessage>,
    routes: Vec<RouteMessage>,
}

/// Whether this is the network namespace that the host booted with. Only that has the settings of what all of them share.
fn is_hosts_own() -> io::Result<bool> {
    // Both are there wherever /proc/sys is; the second is every namespace's.
    let (shared, own) =
        (Path::new("/proc/sys/net/core/netdev_max_backlog"), Path::new("/proc/sys/net/core/somaxconn"));
    if shared.try_exists()? {
        return Ok(true);
    }
    if own.try_exists()? { Ok(false) } else { Err(io::Error::other("/proc/sys/net cannot be read")) }
}

/// Looks at an interface of this process's network namespace, the only one that is up if none is named, and opens a packet socket
/// on it. Nothing is changed yet.
///
/// # Errors
/// The host's own namespace; no such interface; one that is not like Ethernet, or has no address; missing capabilities.
pub fn gather(name: Option<&str>) -> Result<Stack, StackError> {
    if is_hosts_own().map_err(host("looking at the network namespace"))? {
        return Err(StackError::HostsOwn);
    }
    let mut tables = Tables::open().map_err(host("the host's routing tables"))?;
    let links = tables.links().map_err(host("the interfaces"))?;
    let link = choose(&links, name)?;
    let mut interface = described(link)?;
    let index = interface.index;
    let addresses = tables.addresses().map_err(host("the interface's addresses"))?;
    let addresses: Vec<_> = addresses.into_iter().filter(|address| address.header.index == index).collect();
    let routes = tables.routes().map_err(host("the routes"))?;
    let routes: Vec<_> = routes.into_iter().filter(|route| is_ours(route, index)).collect();
    interface.addresses = addresses.iter().filter_map(address_of).collect();
    // What reaches far comes first: the first of a family is what is sent from by default.
    interface.addresses.sort_by_key(|(ip, _)| is_link_local(*ip));
    interface.addresses.truncate(ADDRESSES_MAX);
    if interface.addresses.is_empty() {
        return Err(StackError::Interface(format!("{} has no address; give it one first", interface.name)));
    }
    for route in &routes {
        interface.routes.extend(route_of(route, &interface)?);
    }
    interface.routes.dedup();
    if interface.routes.len() > ROUTES_MAX {
        let message = format!("{} has more than {ROUTES_MAX} routes; leave some out", interface.name);
        return Err(StackError::Interface(message));
    }
    let packet = packet_socket(index).map_err(host("a packet socket"))?;
    Ok(Stack { interface, packet, tables, addresses, routes })
}

fn name_of(link: &LinkMessage) -> &str {
    let name = |attribute: &'_ LinkAttribute| matches!(attribute, LinkAttribute::IfName(_));
    match link.attributes.iter().find(|attribute| name(attribute)) {
        Some(LinkAttribute::IfName(name)) => name,
        _ => "",
    }
}

fn choose<'a>(links: &'a [LinkMessage], name: Option<&str>) -> Result<&'a LinkMessage, StackError> {
    let is_up = |link: &&LinkMessage| link.header.flags.contains(LinkFlags::Up);
    let is_loopback = |link: &&LinkMessage| link.header.flags.contains(LinkFlags::Loopback);
    if let Some(name) = name {
        let link = links.iter().find(|link| name_of(link) == name);
        let link = link.ok_or_else(|| {
            StackError::Interface(format!("there is no interface {}; see `ip link`", name.escape_debug()))
        })?;
        if !is_up(&link) {
            return Err(StackError::Interface(format!("{name} is down; bring it up: ip link set {name} up")));
        }
        return Ok(link);
    }
    let up: Vec<_> = links.iter().filter(is_up).filter(|link| !is_loopback(link)).collect();
    match up[..] {
        [link] => Ok(link),
        [] => Err(StackError::Interface(
            "no interface but the loopback one is up here; bring one up first".into(),
        )),
        _ => {
            let names: Vec<&str> = up.iter().map(|link| name_of(link)).collect();
            let names = names.join(", ");
            Err(StackError::Interface(format!(
                "several interfaces are up ({names}); name one by --interface"
            )))
        }
    }
}

fn described(link: &LinkMessage) -> Result<Interface, StackError> {
    let name = name_of(link).to_owned();
    let (mut hardware, mut mtu) = (None, 1500);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => hardware = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            LinkAttribute::Mtu(value) => mtu = *value,
            _ => {}
        }
    }
    let ethernet =
        link.header.link_layer_type == LinkLayerType::Ether && !link.header.flags.contains(LinkFlags::Noarp);
    // The first bit is that of groups (IEEE 802).
    match hardware.filter(|hardware| ethernet && hardware[0] & 1 == 0) {
        // RFC 791 and RFC 8200: what every link carries; and what the length field can say.
        Some(_) if !(576..=65535).contains(&mtu) => Err(StackError::Interface(format!(
            "{name} has an MTU of {mtu} bytes; the stack takes 576 to 65535: ip link set {name} mtu 1500"
        ))),
        Some(hardware) => Ok(Interface {
            name,
            index: link.header.index,
            hardware,
            mtu,
            addresses: Vec::new(),
            routes: Vec::new(),
        }),
        None => Err(StackError::Interface(format!("{name} is no Ethernet interface; name another one"))),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// An address as the stack has it: on a link of two ends, the near one.
fn address_of(address: &AddressMessage) -> Option<(IpAddr, u8)> {
    let (mut far, mut near) = (None, None);
    for attribute in &address.attributes {
        match attribute {
            AddressAttribute::Address(ip) => far = Some(*ip),
            AddressAttribute::Local(ip) => near = Some(*ip),
            _ => {}
        }
    }
    let usable = address.header.scope != AddressScope::Host;
    near.or(far).filter(|_| usable).map(|ip| (ip, address.header.prefix_len))
}

fn is_ours(route: &RouteMessage, index: u32) -> bool {
    let out = route.attributes.contains(&RouteAttribute::Oif(index));
    out && route.header.kind == RouteType::Unicast && route.header.table == RouteHeader::RT_TABLE_MAIN
}

/// What the sandbox's own name means: the addresses that others reach it at; of IPv4, which some programs know alone, there is one in
/// any case.
pub fn own_addresses(interface: Option<&Interface>) -> Vec<IpAddr> {
    let addresses = interface.into_iter().flat_map(|interface| &interface.addresses);
    let addresses = addresses.map(|(ip, _)| *ip).filter(|ip| !is_link_local(*ip));
    let first = |v4: bool| addresses.clone().find(|ip| ip.is_ipv4() == v4);
    let v4 = first(true).unwrap_or(Ipv4Addr::LOCALHOST.into());
    [Some(v4), first(false)].into_iter().flatten().collect()
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

/// A route as the stack has it; none for what follows from the addresses. What it could not follow is refused: packets would go
/// nowhere, silently.
fn route_of(route: &RouteMessage, interface: &Interface) -> Result<Option<Route>, StackError> {
    let (mut to, mut via) = (None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip_of(address),
            RouteAttribute::Gateway(address) => via = ip_of(address),
            _ => {}
        }
    }
    let length = route.header.destination_prefix_length;
    let any = match route.header.address_family {
        netlink_packet_route::AddressFamily::Inet => IpAddr::from([0u8; 4]),
        _ => IpAddr::from([0u8; 16]),
    };
    let to = to.unwrap_or(any);
    let is_group = to.is_multicast();
    let is_connected =
        interface.addresses.iter().any(|(ip, prefix)| *prefix <= length && same_network(*ip, to, *prefix));
    let is_one = length == if to.is_ipv4() { 32 } else { 128 };
    match via {
        Some(via) if via.is_ipv4() == to.is_ipv4() => Ok(Some(Route { to: (to, length), via })),
        None if is_group || is_connected || route.header.protocol == RouteProtocol::Kernel => Ok(None),
        None if is_one => Ok(Some(Route { to: (to, length), via: to })),
        _ => Err(StackError::Interface(format!(
            "the route to {to}/{length} has no gateway that the stack can use; remove it, or give {} an address of that network",
            interface.name
        ))),
    }
}

fn same_network(a: IpAddr, b: IpAddr, length: u8) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)) << 96,
        IpAddr::V6(ip) => u128::from(ip),
    };
    let differ = (bits(a) ^ bits(b)).checked_shr(128 - u32::from(length.min(128))).unwrap_or(0);
    a.is_ipv4() == b.is_ipv4() && differ == 0
}

/// A packet socket on an interface: what comes in, with what the host knows of its checksum and of segments that it has put together.
fn packet_socket(index: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: only numbers. Without a protocol it hears nothing until it is bound.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let set = |level, name, value: libc::c_int| {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the value is an int, as all of these options are.
        let outcome = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), length) };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
    const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
    set(libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
    // Those of the host's limits (CAP_NET_ADMIN there) are not ours to lift: what it lets us have will do.
    set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, ROOM)
        .or_else(|_| set(libc::SOL_SOCKET, libc::SO_RCVBUF, ROOM))?;
    set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, ROOM)
        .or_else(|_| set(libc::SOL_SOCKET, libc::SO_SNDBUF, ROOM))?;
    // SAFETY: zero is a value of this structure of numbers.
    let mut at: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    at.sll_family = libc::AF_PACKET as u16;
    at.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    at.sll_ifindex = index as i32;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: an address of its own kind and length.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const at).cast(), length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn networks_are_compared_by_their_prefix() {
        assert!(same_network(ip("10.1.2.3"), ip("10.1.9.9"), 16));
        assert!(!same_network(ip("10.1.2.3"), ip("10.2.2.3"), 16));
        assert!(same_network(ip("10.1.2.3"), ip("11.1.2.3"), 0));
        assert!(!same_network(ip("10.1.2.3"), ip("10.1.2.4"), 32));
        assert!(same_network(ip("fd00::1"), ip("fd00::2"), 64) && !same_network(ip("fd00::1"), ip("::1"), 8));
        assert!(!same_network(ip("0.0.0.0"), ip("::"), 0));
    }

    #[test]
    fn the_sandboxs_own_name_means_what_others_reach() {
        let of = |addresses: &[&str]| {
            let interface = Interface {
                name: "eth0".into(),
                index: 2,
                hardware: [2, 0, 0, 0, 0, 1],
                mtu: 1500,
                addresses: addresses.iter().map(|text| (ip(text), 24)).collect(),
                routes: Vec::new(),
            };
            own_addresses(Some(&interface))
        };
        assert_eq!(own_addresses(None), [ip("127.0.0.1")]);
        assert_eq!(of(&["10.0.0.2", "10.0.0.3", "fd00::2", "fe80::1"]), [ip("10.0.0.2"), ip("fd00::2")]);
        assert_eq!(of(&["fe80::1", "fd00::2"]), [ip("127.0.0.1"), ip("fd00::2")]);
    }

    fn route(to: &str, length: u8, via: Option<&str>) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.destination_prefix_length = length;
        route.header.protocol = RouteProtocol::Static;
        route.header.address_family = netlink_packet_route::AddressFamily::Inet;
        route.attributes = vec![RouteAttribute::Destination(ip(to).into())];
        route.attributes.extend(via.map(|via| RouteAttribute::Gateway(ip(via).into())));
        route
    }

    #[test]
    fn a_route_that_the_stack_cannot_follow_is_refused() {
        let interface = Interface {
            name: "eth0".into(),
            index: 2,
            hardware: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            addresses: vec![(ip("10.0.0.2"), 24)],
            routes: Vec::new(),
        };
        let of = |to, length, via| route_of(&route(to, length, via), &interface);
        let (to, via) = ((ip("0.0.0.0"), 0), ip("10.0.0.1"));
        assert_eq!(of("0.0.0.0", 0, Some("10.0.0.1")).expect("can"), Some(Route { to, via }));
        assert_eq!(of("10.0.0.0", 24, None).expect("connected"), None);
        let one = Route { to: (ip("169.254.1.1"), 32), via: ip("169.254.1.1") };
        assert_eq!(of("169.254.1.1", 32, None).expect("one host"), Some(one));
        assert!(of("10.9.0.0", 16, None).is_err());
    }
}
