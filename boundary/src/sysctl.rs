//! The settings of `/proc/sys` that a sandbox can be given: those that Linux keeps for each ipc or network namespace, and that mean
//! something to our kernel.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

/// A setting.
#[derive(Debug)]
pub struct Sysctl {
    /// Its name, with dots.
    pub name: &'static str,
    /// What it is if nothing else is said: as many numbers as it has.
    pub otherwise: &'static str,
    /// What each of these may be.
    pub ranges: &'static [RangeInclusive<u64>],
}

impl Sysctl {
    /// The value that `text` says: as many numbers as there have to be, each in its range, with tabs between them as in `/proc/sys`.
    /// `None` if it says no such thing.
    pub fn parse(&self, text: &str) -> Option<String> {
        let mut numbers = Vec::new();
        for number in text.split_ascii_whitespace() {
            let number: u64 = number.parse().ok()?;
            self.ranges.get(numbers.len())?.contains(&number).then_some(())?;
            numbers.push(number);
        }
        let ordered = self.name != LOCAL_PORTS.name || numbers.is_sorted();
        let texts: Vec<String> = numbers.iter().map(u64::to_string).collect();
        (ordered && numbers.len() == self.ranges.len()).then(|| texts.join("\t"))
    }
}

const fn sysctl(
    name: &'static str,
    otherwise: &'static str,
    ranges: &'static [RangeInclusive<u64>],
) -> Sysctl {
    Sysctl { name, otherwise, ranges }
}

/// Any number that an `int` holds and that is not negative.
const INT: RangeInclusive<u64> = 0..=i32::MAX as u64;
/// What the kernel inside copies in one piece.
const BYTES: RangeInclusive<u64> = 0..=16 << 20;
const PORT: RangeInclusive<u64> = 1..=65535;
const GROUP: RangeInclusive<u64> = 0..=u32::MAX as u64;
/// Places of identifiers (`IPCMNI`).
const OBJECTS: RangeInclusive<u64> = 0..=32768;

/// Longest queue of connections (listen(2)).
pub const SOMAXCONN: Sysctl = sysctl("net.core.somaxconn", "4096", &[INT]);
/// First port that needs no capability (ip(7)).
pub const UNPRIVILEGED_PORTS: Sysctl = sysctl("net.ipv4.ip_unprivileged_port_start", "1024", &[0..=65535]);
/// First and last group that may have echo sockets (icmp(7)).
pub const PING_GROUPS: Sysctl = sysctl("net.ipv4.ping_group_range", "0\t2147483647", &[GROUP, GROUP]);
/// First and last port that is given to who does not ask for one (ip(7)).
pub const LOCAL_PORTS: Sysctl = sysctl("net.ipv4.ip_local_port_range", "32768\t60999", &[PORT, PORT]);
/// Seconds of silence before a connection is probed (tcp(7)).
pub const KEEPALIVE_TIME: Sysctl = sysctl("net.ipv4.tcp_keepalive_time", "7200", &[1..=32767]);
/// Seconds between probes.
pub const KEEPALIVE_INTERVAL: Sysctl = sysctl("net.ipv4.tcp_keepalive_intvl", "75", &[1..=32767]);
/// Probes before a connection is given up.
pub const KEEPALIVE_PROBES: Sysctl = sysctl("net.ipv4.tcp_keepalive_probes", "9", &[1..=127]);
/// Bytes of a shared memory segment at most (shmget(2)).
pub const SHMMAX: Sysctl = sysctl("kernel.shmmax", "18446744073692774399", &[0..=u64::MAX]);
/// Pages of all segments at most.
pub const SHMALL: Sysctl = sysctl("kernel.shmall", "18446744073692774399", &[0..=u64::MAX]);
/// Segments at most.
pub const SHMMNI: Sysctl = sysctl("kernel.shmmni", "4096", &[OBJECTS]);
/// Bytes of a message at most (msgop(2)).
pub const MSGMAX: Sysctl = sysctl("kernel.msgmax", "8192", &[BYTES]);
/// Bytes of a queue of messages.
pub const MSGMNB: Sysctl = sysctl("kernel.msgmnb", "16384", &[INT]);
/// Queues at most.
pub const MSGMNI: Sysctl = sysctl("kernel.msgmni", "32000", &[OBJECTS]);
/// Semaphores of a set, of all sets, operations of a call, and sets, each at most (semget(2)).
pub const SEM: Sysctl =
    sysctl("kernel.sem", "32000\t1024000000\t500\t32000", &[0..=65536, INT, 0..=32767, OBJECTS]);
/// POSIX message queues at most (mq_overview(7)).
pub const QUEUES_MAX: Sysctl = sysctl("fs.mqueue.queues_max", "256", &[INT]);
/// Messages of a queue at most.
pub const MSG_MAX: Sysctl = sysctl("fs.mqueue.msg_max", "10", &[1..=65536]);
/// Messages of a queue where nothing is said.
pub const MSG_DEFAULT: Sysctl = sysctl("fs.mqueue.msg_default", "10", &[1..=65536]);
/// Bytes of a message at most.
pub const MSGSIZE_MAX: Sysctl = sysctl("fs.mqueue.msgsize_max", "8192", &[128..=16 << 20]);
/// Bytes of a message where nothing is said.
pub const MSGSIZE_DEFAULT: Sysctl = sysctl("fs.mqueue.msgsize_default", "8192", &[128..=16 << 20]);

/// All of them.
pub const SYSCTLS: &[Sysctl] = &[
    SHMMAX,
    SHMALL,
    SHMMNI,
    MSGMAX,
    MSGMNB,
    MSGMNI,
    SEM,
    QUEUES_MAX,
    MSG_MAX,
    MSG_DEFAULT,
    MSGSIZE_MAX,
    MSGSIZE_DEFAULT,
    SOMAXCONN,
    LOCAL_PORTS,
    UNPRIVILEGED_PORTS,
    PING_GROUPS,
    KEEPALIVE_TIME,
    KEEPALIVE_INTERVAL,
    KEEPALIVE_PROBES,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_good_as_it_is() {
        for setting in SYSCTLS {
            assert_eq!(
                setting.parse(setting.otherwise).as_deref(),
                Some(setting.otherwise),
                "{}",
                setting.name
            );
        }
    }

    #[test]
    fn values_are_as_many_numbers_as_the_setting_has() {
        assert_eq!(SEM.parse("250 32000  100\t128\n").as_deref(), Some("250\t32000\t100\t128"));
        for bad in ["", "1", "1 2 3", "1 2 3 4 5", "1 2 3 -4", "1 2 3 x", "1 2 3 32769"] {
            assert_eq!(SEM.parse(bad), None, "{bad:?}");
        }
        assert_eq!(LOCAL_PORTS.parse("0 1"), None);
        assert_eq!(LOCAL_PORTS.parse("2000 1999"), None);
    }
}
