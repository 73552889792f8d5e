//! The interfaces as ioctl(2) tells of them (netdevice(7)).

use super::{Interface, all};
use crate::{Errno, Result};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};
use kernel::uaccess;
use linux_raw_sys::{ioctl, net};

/// `sizeof(struct ifreq)`, of which the name is the first part.
const REQUEST: usize = 40;
const NAME_LENGTH: usize = 16;
const VALUE: u64 = NAME_LENGTH as u64;

/// Answers a query of interfaces; `None` for commands that are none. `ENODEV` for other interfaces, `EPERM` for changes.
pub fn ioctl(command: u32, argument: u64) -> Option<Result<u64>> {
    const FIRST: u32 = ioctl::SIOCGIFNAME;
    const LAST: u32 = ioctl::SIOCGIFTXQLEN + 1;
    if !(FIRST..=LAST).contains(&command) && command != ioctl::SIOCGIFMAP {
        return None;
    }
    Some(query(command, argument).map(|()| 0))
}

fn query(command: u32, argument: u64) -> Result<()> {
    match command {
        ioctl::SIOCGIFCONF => return list(argument),
        ioctl::SIOCGIFNAME => {
            let index: u32 = uaccess::read(argument.checked_add(VALUE).ok_or(Errno::EFAULT)?)?;
            let found = all().into_iter().find(|interface| interface.index == index);
            return uaccess::write(argument, &name(&found.ok_or(Errno::ENODEV)?));
        }
        _ => {}
    }
    let asked: [u8; NAME_LENGTH] = uaccess::read(argument)?;
    let asked = asked.split(|byte| *byte == 0).next().unwrap_or(&[]);
    // Labels of addresses are names of interfaces with something behind them.
    let asked = asked.split(|byte| *byte == b':').next().unwrap_or(&[]);
    let interface =
        all().into_iter().find(|interface| interface.name.as_bytes() == asked).ok_or(Errno::ENODEV)?;
    let own = v4(&interface).next().ok_or(Errno::EADDRNOTAVAIL);
    let at = argument.checked_add(VALUE).ok_or(Errno::EFAULT)?;
    match command {
        ioctl::SIOCGIFFLAGS => uaccess::write(at, &(interface.flags as u16)),
        ioctl::SIOCGIFADDR | ioctl::SIOCGIFDSTADDR => uaccess::write(at, &place(own?.0)),
        ioctl::SIOCGIFBRDADDR => {
            let (ip, prefix) = own?;
            let broadcast = Ipv4Addr::from(u32::from(ip) | !super::mask(prefix));
            let has_one = !interface.is_loopback() && prefix < 31;
            uaccess::write(at, &place(if has_one { broadcast } else { Ipv4Addr::UNSPECIFIED }))
        }
        ioctl::SIOCGIFNETMASK => uaccess::write(at, &place(super::mask(own?.1).into())),
        ioctl::SIOCGIFMTU => uaccess::write(at, &interface.mtu),
        ioctl::SIOCGIFINDEX => uaccess::write(at, &interface.index),
        ioctl::SIOCGIFMETRIC => uaccess::write(at, &0u32),
        ioctl::SIOCGIFTXQLEN => uaccess::write(at, &1000u32),
        ioctl::SIOCGIFMAP => uaccess::write(at, &[0u8; 24]),
        ioctl::SIOCGIFHWADDR => {
            let (kind, address) = interface.hardware;
            let mut bytes = [0u8; 16];
            for (slot, byte) in bytes.iter_mut().zip(kind.to_ne_bytes().into_iter().chain(address)) {
                *slot = byte;
            }
            uaccess::write(at, &bytes)
        }
        _ => Err(Errno::EPERM),
    }
}

/// Its IPv4 addresses.
fn v4(interface: &Interface) -> impl Iterator<Item = (Ipv4Addr, u8)> {
    interface.addresses.iter().filter_map(|(ip, prefix)| match ip {
        IpAddr::V4(ip) => Some((*ip, *prefix)),
        IpAddr::V6(_) => None,
    })
}

fn name(interface: &Interface) -> [u8; NAME_LENGTH] {
    let mut name = [0; NAME_LENGTH];
    // The last byte ends it.
    for (slot, byte) in name.iter_mut().take(NAME_LENGTH - 1).zip(interface.name.bytes()) {
        *slot = byte;
    }
    name
}

/// A `struct sockaddr_in` without port.
fn place(ip: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    let family = (net::AF_INET as u16).to_ne_bytes();
    for (slot, byte) in bytes.iter_mut().zip(family.into_iter().chain([0, 0]).chain(ip.octets())) {
        *slot = byte;
    }
    bytes
}

/// `SIOCGIFCONF`: a length and the address of room for requests, one for each IPv4 address; no address asks for the length that
/// would be used.
fn list(argument: u64) -> Result<()> {
    let length: i32 = uaccess::read(argument)?;
    let room: u64 = uaccess::read(argument.checked_add(8).ok_or(Errno::EFAULT)?)?;
    let mut requests: Vec<[u8; REQUEST]> = Vec::new();
    for interface in all() {
        for (ip, _) in v4(&interface) {
            let mut request = [0u8; REQUEST];
            for (slot, byte) in request.iter_mut().zip(name(&interface).into_iter().chain(place(ip))) {
                *slot = byte;
            }
            requests.push(request);
        }
    }
    if room != 0 {
        requests.truncate(usize::try_from(length).unwrap_or(0) / REQUEST);
        uaccess::write_bytes(room, &requests.concat())?;
    }
    uaccess::write(argument, &((requests.len() * REQUEST) as i32))
}
