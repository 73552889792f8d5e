//! `/proc/net/tcp`, `/proc/net/udp` and their IPv6 relatives.

use super::{tcp, udp};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::net::{IpAddr, SocketAddr};
use kernel::time;
use linux_raw_sys::net;

/// One line's facts.
pub struct Line {
    /// Family of the socket.
    pub family: u32,
    /// Its own place, and its peer's.
    pub local: SocketAddr,
    /// The peer's place, if it has one.
    pub peer: Option<SocketAddr>,
    /// State number of the host kernel (`TCP_*`).
    pub state: u32,
    /// Bytes that wait in it, or connections.
    pub waiting: usize,
    /// Bytes that were sent and are not acknowledged.
    pub sending: usize,
    /// Connections that may wait in it.
    pub limit: usize,
    /// Owner and inode number.
    pub owner: (u32, u64),
    /// When it goes by itself (`TIME_WAIT`, and `FIN_WAIT2` that no program has).
    pub until: Option<u64>,
}

impl Line {
    /// Of a socket that nothing waits in and that no program has.
    pub fn default_at(local: SocketAddr) -> Line {
        let family = if local.is_ipv4() { net::AF_INET } else { net::AF_INET6 };
        let (waiting, sending, limit) = (0, 0, 0);
        Line { family, local, peer: None, state: 0, waiting, sending, limit, owner: (0, 0), until: None }
    }

    /// Nanoseconds until then.
    pub fn left(&self) -> Option<u64> {
        self.until.map(|until| until.saturating_sub(time::monotonic()))
    }
}

const HEAD: &str =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
const HEAD_V6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr \
                       tm->when retrnsmt   uid  timeout inode\n";

/// The sockets with a port of a protocol (TCP, UDP).
pub fn lines(protocol: u32) -> Vec<Line> {
    match protocol {
        super::TCP => tcp::lines(),
        super::UDP => udp::lines(),
        _ => Vec::new(),
    }
}

/// How many sockets with a port there are of a protocol, of IPv4 and of IPv6.
pub fn counts(protocol: u32) -> (usize, usize) {
    let lines = lines(protocol);
    let v4 = lines.iter().filter(|line| line.family == net::AF_INET).count();
    (v4, lines.len() - v4)
}

/// The TCP sockets of one family.
pub fn tcp_table(family: u32) -> String {
    table(family, tcp::lines())
}

/// The UDP sockets of one family.
pub fn udp_table(family: u32) -> String {
    table(family, udp::lines())
}

fn table(family: u32, lines: Vec<Line>) -> String {
    let mut text = String::from(if family == net::AF_INET { HEAD } else { HEAD_V6 });
    for (index, line) in lines.iter().filter(|line| line.family == family).enumerate() {
        let _ = write!(text, "{index:4}: ");
        place(&mut text, family, line.local);
        text.push(' ');
        place(&mut text, family, line.peer.unwrap_or(SocketAddr::new(super::endpoint::any(family), 0)));
        let (uid, ino) = line.owner;
        let state = line.state;
        let _ = match line.left() {
            // `get_timewait4_sock`: the time is in hundredths of a second.
            Some(left) => writeln!(
                text,
                " {state:02X} 00000000:00000000 03:{:08X} 00000000     0        0 0 3 0000000000000000",
                left / (time::SECOND / 100)
            ),
            None => writeln!(
                text,
                " {state:02X} {:08X}:{:08X} 00:00000000 00000000 {uid:5}        0 {ino} 1 0000000000000000 100 0 0 10 0",
                line.sending, line.waiting
            ),
        };
    }
    text
}

/// The words of an address as they lie in memory, in hexadecimal.
fn place(text: &mut String, family: u32, at: SocketAddr) {
    let mut words = |bytes: &[u8]| {
        for word in bytes.chunks_exact(4) {
            let word = word.try_into().map_or(0, u32::from_ne_bytes);
            let _ = write!(text, "{word:08X}");
        }
    };
    match at.ip() {
        IpAddr::V4(ip) if family == net::AF_INET => words(&ip.octets()),
        IpAddr::V4(ip) => words(&ip.to_ipv6_mapped().octets()),
        IpAddr::V6(ip) => words(&ip.octets()),
    }
    let _ = write!(text, ":{:04X}", at.port());
}
