//! Options of the levels `IPPROTO_IP`, `IPPROTO_IPV6`, `IPPROTO_TCP` and `IPPROTO_UDP`. What would shape packets is kept and told
//! again, as there are none.

use super::stack;
use crate::options::{OptionValue, number};
use crate::{Errno, Result};
use alloc::vec::Vec;
use boundary::sysctl::{KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, KEEPALIVE_TIME};
use kernel::boot;
use kernel::sync::Mutex;
use linux_raw_sys::net;

/// Level numbers that have no other name.
pub const IP: u32 = 0;

/// An option that is a number: level, name, default, least, most.
type Known = (u32, u32, i32, i32, i32);

const ON_OFF: (i32, i32) = (0, 1);

const fn flag(level: u32, name: u32) -> Known {
    (level, name, 0, ON_OFF.0, ON_OFF.1)
}

const KNOWN: &[Known] = &[
    (IP, net::IP_TOS, 0, i32::MIN, i32::MAX),
    (IP, net::IP_TTL, 64, -1, 255),
    flag(IP, net::IP_PKTINFO),
    flag(IP, net::IP_RECVERR),
    flag(IP, net::IP_RECVTTL),
    flag(IP, net::IP_RECVTOS),
    flag(IP, net::IP_RECVOPTS),
    flag(IP, net::IP_RETOPTS),
    flag(IP, net::IP_FREEBIND),
    flag(IP, net::IP_BIND_ADDRESS_NO_PORT),
    flag(IP, net::IP_RECVORIGDSTADDR),
    (IP, net::IP_MTU_DISCOVER, 1, 0, 5),
    (IP, net::IP_MULTICAST_TTL, 1, -1, 255),
    (IP, net::IP_MULTICAST_LOOP, 1, 0, 1),
    (IP, net::IP_MULTICAST_ALL, 1, 0, 1),
    (IP, net::IP_MINTTL, 0, 0, 255),
    flag(net::SOL_IPV6, net::IPV6_V6ONLY),
    flag(net::SOL_IPV6, net::IPV6_RECVPKTINFO),
    flag(net::SOL_IPV6, net::IPV6_RECVERR),
    flag(net::SOL_IPV6, net::IPV6_RECVTCLASS),
    flag(net::SOL_IPV6, net::IPV6_RECVHOPLIMIT),
    flag(net::SOL_IPV6, net::IPV6_2292HOPLIMIT),
    flag(net::SOL_IPV6, net::IPV6_FREEBIND),
    flag(net::SOL_IPV6, net::IPV6_AUTOFLOWLABEL),
    (net::SOL_IPV6, net::IPV6_TCLASS, 0, -1, 255),
    (net::SOL_IPV6, net::IPV6_UNICAST_HOPS, 64, -1, 255),
    (net::SOL_IPV6, net::IPV6_MULTICAST_HOPS, 1, -1, 255),
    (net::SOL_IPV6, net::IPV6_MULTICAST_LOOP, 1, 0, 1),
    (net::SOL_IPV6, net::IPV6_MTU_DISCOVER, 1, 0, 5),
    (net::SOL_IPV6, net::IPV6_DONTFRAG, 0, 0, 1),
    flag(net::SOL_TCP, net::TCP_NODELAY),
    flag(net::SOL_TCP, net::TCP_CORK),
    (net::SOL_TCP, net::TCP_MAXSEG, 536, 88, 32767),
    (net::SOL_TCP, net::TCP_KEEPIDLE, 7200, 1, 32767),
    (net::SOL_TCP, net::TCP_KEEPINTVL, 75, 1, 32767),
    (net::SOL_TCP, net::TCP_KEEPCNT, 9, 1, 127),
    (net::SOL_TCP, net::TCP_SYNCNT, 6, 1, 127),
    (net::SOL_TCP, net::TCP_LINGER2, 60, i32::MIN, i32::MAX),
    (net::SOL_TCP, net::TCP_DEFER_ACCEPT, 0, i32::MIN, i32::MAX),
    (net::SOL_TCP, net::TCP_WINDOW_CLAMP, 0, 0, i32::MAX),
    (net::SOL_TCP, net::TCP_QUICKACK, 1, i32::MIN, i32::MAX),
    (net::SOL_TCP, net::TCP_USER_TIMEOUT, 0, 0, i32::MAX),
    (net::SOL_TCP, net::TCP_FASTOPEN, 0, 0, i32::MAX),
    (net::SOL_TCP, net::TCP_NOTSENT_LOWAT, 0, i32::MIN, i32::MAX),
    flag(net::SOL_TCP, net::TCP_FASTOPEN_CONNECT),
    flag(net::SOL_TCP, net::TCP_INQ),
    flag(net::SOL_UDP, 1),
    (net::SOL_UDPLITE, 10, 0, 0, 65535),
    (net::SOL_UDPLITE, 11, 0, 0, 65535),
];

/// Multicast groups: there is no interface for them.
const MEMBERSHIPS: &[(u32, u32)] = &[
    (IP, net::IP_ADD_MEMBERSHIP),
    (IP, net::IP_DROP_MEMBERSHIP),
    (IP, net::IP_ADD_SOURCE_MEMBERSHIP),
    (net::SOL_IPV6, net::IPV6_ADD_MEMBERSHIP),
    (net::SOL_IPV6, net::IPV6_DROP_MEMBERSHIP),
];

/// `TCP_CA_NAME_MAX`.
pub const CONGESTION_NAME: usize = 16;

/// Ways to control congestion (`TCP_CONGESTION`). In memory there is none; over an interface it is smoltcp's Reno, and there is no other
/// (its Cubic, of version 0.14, needs the standard library).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Congestion {
    /// RFC 9438.
    Cubic,
    /// RFC 6582.
    Reno,
}

impl Congestion {
    /// Those there are, the usual one first.
    pub fn available() -> &'static [Congestion] {
        match stack::interface() {
            Some(_) => &[Congestion::Reno],
            None => &[Congestion::Cubic, Congestion::Reno],
        }
    }

    /// What a socket has by default.
    pub fn usual() -> Congestion {
        Congestion::available().first().copied().unwrap_or(Congestion::Reno)
    }

    /// As programs write it: `EINVAL` for no name, `ENOENT` for one that there is not.
    pub fn named(value: &[u8]) -> Result<Congestion> {
        if value.is_empty() {
            return Err(Errno::EINVAL);
        }
        let name = value.get(..CONGESTION_NAME - 1).unwrap_or(value);
        let name = name.split(|byte| *byte == 0).next().unwrap_or(name);
        let mut known = Congestion::available().iter().copied();
        known.find(|control| control.name().as_bytes() == name).ok_or(Errno::ENOENT)
    }

    /// From what `as u32` has made of it.
    pub fn of_number(number: u32) -> Congestion {
        if number == Congestion::Reno as u32 { Congestion::Reno } else { Congestion::Cubic }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Congestion::Cubic => "cubic",
            Congestion::Reno => "reno",
        }
    }
}

/// What a program has set.
#[derive(Default)]
pub struct Numbers(Mutex<Vec<(u32, u32, i32)>>);

fn known(level: u32, name: u32) -> Option<&'static Known> {
    KNOWN.iter().find(|known| (known.0, known.1) == (level, name))
}

/// What the sandbox has for all sockets (tcp(7)).
fn setting(level: u32, name: u32) -> Option<i32> {
    let setting = match (level, name) {
        (net::SOL_TCP, net::TCP_KEEPIDLE) => &KEEPALIVE_TIME,
        (net::SOL_TCP, net::TCP_KEEPINTVL) => &KEEPALIVE_INTERVAL,
        (net::SOL_TCP, net::TCP_KEEPCNT) => &KEEPALIVE_PROBES,
        _ => return None,
    };
    i32::try_from(boot::sysctl_number(setting, 0)).ok()
}

impl Numbers {
    /// The value of an option that is a number, of a socket of `family`: `EOPNOTSUPP` for a level that it does not have,
    /// `ENOPROTOOPT`.
    pub fn get(&self, family: u32, level: u32, name: u32) -> Result<OptionValue> {
        let has_level = match level {
            net::SOL_IPV6 => family == net::AF_INET6,
            level => KNOWN.iter().any(|known| known.0 == level),
        };
        if !has_level {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(OptionValue::Number(self.value(level, name)? as u32))
    }

    /// As [`Self::get`], the number itself.
    pub fn value(&self, level: u32, name: u32) -> Result<i32> {
        let default = known(level, name).ok_or(Errno::ENOPROTOOPT)?.2;
        Ok(self.if_set(level, name).or_else(|| setting(level, name)).unwrap_or(default))
    }

    /// What a program has set it to, if it has.
    pub fn if_set(&self, level: u32, name: u32) -> Option<i32> {
        self.0.lock().iter().find(|set| (set.0, set.1) == (level, name)).map(|set| set.2)
    }

    /// Whether an option is on.
    pub fn is_on(&self, level: u32, name: u32) -> bool {
        self.value(level, name).is_ok_and(|value| value != 0)
    }

    /// Sets one: `EINVAL` outside its range, `ENOPROTOOPT`; `ENODEV` for multicast groups.
    pub fn set(&self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        if MEMBERSHIPS.contains(&(level, name)) {
            return Err(Errno::ENODEV);
        }
        let Some(&(_, _, default, least, most)) = known(level, name) else { return Err(Errno::ENOPROTOOPT) };
        // Options of the level IP may be single bytes.
        let value = match value {
            [byte] if level == IP => i32::from(*byte),
            _ => number(value)? as i32,
        };
        let value = if (least, most) == ON_OFF { i32::from(value != 0) } else { value };
        if !(least..=most).contains(&value) {
            return Err(Errno::EINVAL);
        }
        let value = if value == -1 && least == -1 { default } else { value };
        let mut numbers = self.0.lock();
        match numbers.iter_mut().find(|set| (set.0, set.1) == (level, name)) {
            Some(set) => set.2 = value,
            None => numbers.push((level, name, value)),
        }
        Ok(())
    }

    /// Takes over what a listening socket has.
    pub fn inherit(&self, from: &Numbers) {
        let copied = from.0.lock().clone();
        *self.0.lock() = copied;
    }
}
