//! The one network interface there is, as ioctl(2) tells of it (netdevice(7)).

use crate::{Errno, Result};
use kernel::uaccess;
use linux_raw_sys::{ioctl, net};

/// Name, index and greatest packet of the loopback interface.
pub const NAME: &[u8] = b"lo";
pub const INDEX: u32 = 1;
pub const MTU: u32 = 65536;
/// `IFF_UP | IFF_LOOPBACK | IFF_RUNNING`.
pub const FLAGS: u32 = 0x49;
/// `ARPHRD_LOOPBACK`.
pub const HARDWARE: u16 = 772;

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
            return if index == INDEX { uaccess::write(argument, &name()) } else { Err(Errno::ENODEV) };
        }
        _ => {}
    }
    let asked: [u8; NAME_LENGTH] = uaccess::read(argument)?;
    if asked.split(|byte| *byte == 0).next() != Some(NAME) {
        return Err(Errno::ENODEV);
    }
    let at = argument.checked_add(VALUE).ok_or(Errno::EFAULT)?;
    match command {
        ioctl::SIOCGIFFLAGS => uaccess::write(at, &(FLAGS as u16)),
        ioctl::SIOCGIFADDR | ioctl::SIOCGIFDSTADDR => uaccess::write(at, &place([127, 0, 0, 1])),
        ioctl::SIOCGIFBRDADDR => uaccess::write(at, &place([0; 4])),
        ioctl::SIOCGIFNETMASK => uaccess::write(at, &place([255, 0, 0, 0])),
        ioctl::SIOCGIFMTU => uaccess::write(at, &MTU),
        ioctl::SIOCGIFINDEX => uaccess::write(at, &INDEX),
        ioctl::SIOCGIFMETRIC => uaccess::write(at, &0u32),
        ioctl::SIOCGIFTXQLEN => uaccess::write(at, &1000u32),
        ioctl::SIOCGIFMAP => uaccess::write(at, &[0u8; 24]),
        ioctl::SIOCGIFHWADDR => {
            let mut address = [0u8; 16];
            for (slot, byte) in address.iter_mut().zip(HARDWARE.to_ne_bytes()) {
                *slot = byte;
            }
            uaccess::write(at, &address)
        }
        _ => Err(Errno::EPERM),
    }
}

fn name() -> [u8; NAME_LENGTH] {
    let mut name = [0; NAME_LENGTH];
    for (slot, byte) in name.iter_mut().zip(NAME) {
        *slot = *byte;
    }
    name
}

/// A `struct sockaddr_in` without port.
fn place(ip: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    let family = (net::AF_INET as u16).to_ne_bytes();
    for (slot, byte) in bytes.iter_mut().zip(family.into_iter().chain([0, 0]).chain(ip)) {
        *slot = byte;
    }
    bytes
}

/// `SIOCGIFCONF`: a length and the address of room for requests; no address asks for the length that would be used.
fn list(argument: u64) -> Result<()> {
    let length: i32 = uaccess::read(argument)?;
    let room: u64 = uaccess::read(argument.checked_add(8).ok_or(Errno::EFAULT)?)?;
    let mut used = REQUEST as i32;
    if room != 0 {
        if length < used {
            used = 0;
        } else {
            let mut request = [0u8; REQUEST];
            for (slot, byte) in request.iter_mut().zip(name().into_iter().chain(place([127, 0, 0, 1]))) {
                *slot = byte;
            }
            uaccess::write(room, &request)?;
        }
    }
    uaccess::write(argument, &used)
}
