//! sock_diag(7): the sockets there are, for ss(8).

use super::route::{Question, attribute, message};
use crate::inet::{self, endpoint};
use crate::{Errno, Result, unix};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use linux_raw_sys::net;

/// `SOCK_DIAG_BY_FAMILY`, of questions and answers alike.
pub(super) const BY_FAMILY: u16 = 20;
/// `sizeof(struct inet_diag_req_v2)` and of `struct unix_diag_req`.
const INET_QUESTION: usize = 56;
const UNIX_QUESTION: usize = 24;
/// Attributes of unix sockets (`UNIX_DIAG_*`), and the bits that ask for them (`UDIAG_SHOW_*`).
const UNIX_NAME: u32 = 0;
const UNIX_QUEUES: u32 = 4;
const SHOW_NAME: u32 = 1;
const SHOW_QUEUES: u32 = 0x10;

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map(u32::from_ne_bytes).ok_or(Errno::EINVAL)
}

/// The answers to a question for all sockets of a kind: `EINVAL` for a family that there is none of here.
pub(super) fn answer(question: &Question<'_>, flags: u16, port: u32) -> Result<Vec<Vec<u8>>> {
    let body = question.body;
    let family = u32::from(body.first().copied().ok_or(Errno::EINVAL)?);
    let answers = match family {
        net::AF_INET | net::AF_INET6 if body.len() >= INET_QUESTION => {
            let protocol = u32::from(body.get(1).copied().unwrap_or(0));
            internet(family, protocol, word(body, 4)?)
        }
        net::AF_UNIX if body.len() >= UNIX_QUESTION => unix_sockets(word(body, 4)?, word(body, 12)?),
        net::AF_NETLINK | net::AF_PACKET => Vec::new(),
        net::AF_INET | net::AF_INET6 | net::AF_UNIX => return Err(Errno::EINVAL),
        _ => return Err(Errno::ENOENT),
    };
    Ok(answers.into_iter().map(|body| message(question, BY_FAMILY, flags, port, &body)).collect())
}

/// `struct inet_diag_msg` of each socket in one of the states of a mask.
fn internet(family: u32, protocol: u32, states: u32) -> Vec<Vec<u8>> {
    let wanted = |line: &inet::Line| line.family == family && states & (1 << line.state) != 0;
    inet::lines(protocol)
        .iter()
        .filter(|line| wanted(line))
        .map(|line| {
            let peer = line.peer.unwrap_or(SocketAddr::new(endpoint::any(family), 0));
            let (uid, ino) = line.owner;
            // The kind of the timer (`TIME_WAIT`'s), and the milliseconds that are left of it.
            let (timer, left) = line.left().map_or((0, 0), |left| (3, left / 1_000_000));
            let mut body = vec![family as u8, line.state as u8, timer, 0];
            body.extend_from_slice(&line.local.port().to_be_bytes());
            body.extend_from_slice(&peer.port().to_be_bytes());
            body.extend_from_slice(&address(family, line.local.ip()));
            body.extend_from_slice(&address(family, peer.ip()));
            // No interface; the cookie, which tells sockets apart.
            body.extend_from_slice(&[0; 4]);
            body.extend_from_slice(&ino.to_ne_bytes());
            // Of a listening socket, the second one is how many connections may wait.
            let second = line.limit.max(line.sending);
            let words = [left as u32, line.waiting as u32, second as u32, uid, ino as u32];
            body.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
            body
        })
        .collect()
}

fn address(family: u32, ip: IpAddr) -> [u8; 16] {
    let mut bytes = [0; 16];
    match ip {
        IpAddr::V4(ip) if family == net::AF_INET => {
            for (slot, byte) in bytes.iter_mut().zip(ip.octets()) {
                *slot = byte;
            }
        }
        IpAddr::V4(ip) => bytes = ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => bytes = ip.octets(),
    }
    bytes
}

/// `struct unix_diag_msg` of each socket, with its name and queues if they are asked for.
fn unix_sockets(states: u32, show: u32) -> Vec<Vec<u8>> {
    unix::lines()
        .into_iter()
        .filter(|line| states & (1 << line.state) != 0)
        .map(|line| {
            let mut body = vec![net::AF_UNIX as u8, line.kind as u8, line.state as u8, 0];
            body.extend_from_slice(&(line.ino as u32).to_ne_bytes());
            body.extend_from_slice(&line.ino.to_ne_bytes());
            if show & SHOW_NAME != 0 && !line.name.is_empty() {
                attribute(&mut body, UNIX_NAME, &line.name);
            }
            if show & SHOW_QUEUES != 0 {
                attribute(&mut body, UNIX_QUEUES, &[0; 8]);
            }
            body
        })
        .collect()
}
