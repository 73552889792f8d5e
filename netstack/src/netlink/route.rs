//! rtnetlink(7): what there is to tell of interfaces, addresses and routes.

use super::diag;
use crate::Errno;
use crate::interfaces::{self, Interface};
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;
use linux_raw_sys::{net, netlink};

/// Size of a `struct nlmsghdr`.
const HEADER: usize = 16;
/// Types of messages (rtnetlink(7)).
const DONE: u16 = 3;
const ERROR: u16 = 2;
const FIRST_OWN: u16 = 16;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const LAST: u16 = 130;
/// Flags of a question and of an answer.
const REQUEST: u16 = 1;
const MULTI: u16 = 2;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
/// `IFF_LOWER_UP`, beside what ioctl(2) tells.
const LOWER_UP: u32 = 0x10000;
/// `RT_SCOPE_UNIVERSE`, `RT_SCOPE_LINK`, `RT_SCOPE_HOST`, `IFA_F_PERMANENT`.
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;
const PERMANENT: u8 = 0x80;
/// `RT_TABLE_MAIN`, `RTPROT_KERNEL`, `RTPROT_BOOT`, `RTN_UNICAST`.
const TABLE_MAIN: u8 = 254;
const BY_KERNEL: u8 = 2;
const BY_BOOT: u8 = 3;
const UNICAST: u8 = 1;
/// `IF_OPER_UP`.
const OPERATES: u8 = 6;

/// A question's header.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    whole: &'a [u8],
    kind: u16,
    flags: u16,
    sequence: u32,
    pub(super) body: &'a [u8],
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// The answers to a datagram of questions, each a datagram, for the socket with number `port`; of sockets (`diag`), or of what is
/// told here.
pub fn answer(questions: &[u8], diag: bool, port: u32) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    let mut rest = questions;
    while let Some(length) = word(rest, 0).map(|length| length as usize)
        && let Some(whole) = rest.get(..length)
        && let (Some(body), Some(kind), Some(flags), Some(sequence)) =
            (whole.get(HEADER..), half(whole, 4), half(whole, 6), word(whole, 8))
    {
        let question = Question { whole, kind, flags, sequence, body };
        if flags & REQUEST != 0 && kind >= FIRST_OWN {
            one(&question, diag, port, &mut answers);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    answers
}

fn one(question: &Question<'_>, diag: bool, port: u32, answers: &mut Vec<Vec<u8>>) {
    let dump = question.flags & DUMP == DUMP;
    let multi = if dump { MULTI } else { 0 };
    // Get requests are the third of each four types.
    let get = question.kind % 4 == 2;
    let outcome = match question.kind {
        diag::BY_FAMILY if diag && dump => diag::answer(question, multi, port),
        _ if diag => Err(if question.kind == diag::BY_FAMILY { Errno::EOPNOTSUPP } else { Errno::EINVAL }),
        _ if question.kind > LAST => Err(Errno::EOPNOTSUPP),
        _ if !get => Err(Errno::EPERM),
        GET_LINK => {
            let wanted = interfaces::all().into_iter().filter(|one| dump || is_meant(question.body, one));
            let told: Vec<_> =
                wanted.map(|one| message(question, NEW_LINK, multi, port, &link(&one))).collect();
            if told.is_empty() { Err(Errno::ENODEV) } else { Ok(told) }
        }
        GET_ROUTE if dump => {
            let family = u32::from(question.body.first().copied().unwrap_or(0));
            let routes = interfaces::routes();
            let wanted = routes.iter().filter(|route| family == 0 || family == family_of(route.to.0));
            Ok(wanted.map(|one| message(question, NEW_ROUTE, multi, port, &route(one))).collect())
        }
        GET_ADDRESS if dump => {
            let family = u32::from(question.body.first().copied().unwrap_or(0));
            let wanted = addresses().into_iter().filter(|(own, _)| family == 0 || family == *own);
            Ok(wanted.map(|(_, body)| message(question, NEW_ADDRESS, multi, port, &body)).collect())
        }
        // Neighbours, rules: none.
        _ if dump => Ok(Vec::new()),
        _ => Err(Errno::ENETUNREACH),
    };
    match outcome {
        Ok(messages) => {
            answers.extend(datagrams(messages));
            if dump {
                answers.push(message(question, DONE, MULTI, port, &[0; 4]));
            } else if question.flags & ACK != 0 {
                answers.push(error(question, port, 0));
            }
        }
        Err(errno) => answers.push(error(question, port, -errno.0)),
    }
}

/// Messages put together to datagrams that fit the buffers of those who ask (netlink(7): 8192 bytes).
fn datagrams(messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    const DATAGRAM: usize = 8192;
    let mut datagrams: Vec<Vec<u8>> = Vec::new();
    for message in messages {
        match datagrams.last_mut() {
            Some(last) if last.len() + message.len() <= DATAGRAM => last.extend(message),
            _ => datagrams.push(message),
        }
    }
    datagrams
}

fn error(question: &Question<'_>, port: u32, code: i32) -> Vec<u8> {
    let mut body = code.to_ne_bytes().to_vec();
    let copied = if code == 0 { question.whole.get(..HEADER).unwrap_or(&[]) } else { question.whole };
    body.extend_from_slice(copied);
    message(question, ERROR, 0, port, &body)
}

pub(super) fn message(question: &Question<'_>, kind: u16, flags: u16, port: u32, body: &[u8]) -> Vec<u8> {
    let length = HEADER + body.len();
    let mut bytes = (length as u32).to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&question.sequence.to_ne_bytes());
    bytes.extend_from_slice(&port.to_ne_bytes());
    bytes.extend_from_slice(body);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// Whether a `struct ifinfomsg` and its attributes ask for an interface.
fn is_meant(body: &[u8], interface: &Interface) -> bool {
    const ATTRIBUTES: usize = 16;
    if word(body, 4) == Some(interface.index) {
        return true;
    }
    let mut rest = body.get(ATTRIBUTES..).unwrap_or(&[]);
    while let (Some(length), Some(kind)) = (half(rest, 0).map(usize::from), half(rest, 2)) {
        let Some(value) = rest.get(4..length) else { return false };
        if u32::from(kind) == netlink::IFLA_IFNAME as u32 {
            return value.split(|byte| *byte == 0).next() == Some(interface.name.as_bytes());
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    false
}

pub(super) fn attribute(to: &mut Vec<u8>, kind: u32, value: &[u8]) {
    let length = 4 + value.len();
    to.extend_from_slice(&(length as u16).to_ne_bytes());
    to.extend_from_slice(&(kind as u16).to_ne_bytes());
    to.extend_from_slice(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// `struct ifinfomsg` and its attributes.
fn link(interface: &Interface) -> Vec<u8> {
    let (kind, address) = interface.hardware;
    let (operates, broadcast) = if interface.is_loopback() { (0, [0; 6]) } else { (OPERATES, [0xff; 6]) };
    let mut body = vec![0, 0];
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(&interface.index.to_ne_bytes());
    body.extend_from_slice(&(interface.flags | LOWER_UP).to_ne_bytes());
    body.extend_from_slice(&[0; 4]);
    attribute(&mut body, netlink::IFLA_IFNAME as u32, &[interface.name.as_bytes(), b"\0"].concat());
    attribute(&mut body, netlink::IFLA_TXQLEN as u32, &1000u32.to_ne_bytes());
    attribute(&mut body, netlink::IFLA_OPERSTATE as u32, &[operates]);
    attribute(&mut body, netlink::IFLA_LINKMODE as u32, &[0]);
    attribute(&mut body, netlink::IFLA_MTU as u32, &interface.mtu.to_ne_bytes());
    attribute(&mut body, netlink::IFLA_GROUP as u32, &[0; 4]);
    attribute(&mut body, netlink::IFLA_QDISC as u32, b"noqueue\0");
    attribute(&mut body, netlink::IFLA_ADDRESS as u32, &address);
    attribute(&mut body, netlink::IFLA_BROADCAST as u32, &broadcast);
    body
}

fn family_of(ip: IpAddr) -> u32 {
    if ip.is_ipv4() { net::AF_INET } else { net::AF_INET6 }
}

fn bytes_of(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Family and `struct ifaddrmsg` with attributes of each address.
fn addresses() -> Vec<(u32, Vec<u8>)> {
    let mut all = Vec::new();
    for interface in interfaces::all() {
        for (ip, prefix) in &interface.addresses {
            let scope = match ip {
                _ if interface.is_loopback() => SCOPE_HOST,
                IpAddr::V6(ip) if ip.is_unicast_link_local() => SCOPE_LINK,
                _ => SCOPE_UNIVERSE,
            };
            let family = family_of(*ip);
            let mut body = vec![family as u8, *prefix, PERMANENT, scope];
            body.extend_from_slice(&interface.index.to_ne_bytes());
            attribute(&mut body, netlink::IFA_ADDRESS as u32, &bytes_of(*ip));
            if ip.is_ipv4() {
                attribute(&mut body, netlink::IFA_LOCAL as u32, &bytes_of(*ip));
                let label = [interface.name.as_bytes(), b"\0"].concat();
                attribute(&mut body, netlink::IFA_LABEL as u32, &label);
            }
            attribute(&mut body, netlink::IFA_FLAGS as u32, &u32::from(PERMANENT).to_ne_bytes());
            all.push((family, body));
        }
    }
    // Those of one family follow each other (`inet_dump_ifaddr`, `inet6_dump_addr`).
    all.sort_by_key(|(family, _)| *family);
    all
}

/// `struct rtmsg` and its attributes.
fn route(route: &interfaces::Route) -> Vec<u8> {
    let (to, prefix) = route.to;
    let scope = if route.via.is_none() && to.is_ipv4() { SCOPE_LINK } else { SCOPE_UNIVERSE };
    let by = if route.source.is_some() || route.via.is_none() { BY_KERNEL } else { BY_BOOT };
    let mut body = vec![family_of(to) as u8, prefix, 0, 0, TABLE_MAIN, by, scope, UNICAST, 0, 0, 0, 0];
    attribute(&mut body, netlink::rtattr_type_t::RTA_TABLE as u32, &u32::from(TABLE_MAIN).to_ne_bytes());
    if prefix > 0 {
        attribute(&mut body, netlink::rtattr_type_t::RTA_DST as u32, &bytes_of(to));
    }
    if let Some(via) = route.via {
        attribute(&mut body, netlink::rtattr_type_t::RTA_GATEWAY as u32, &bytes_of(via));
    }
    if let Some(source) = route.source {
        attribute(&mut body, netlink::rtattr_type_t::RTA_PREFSRC as u32, &bytes_of(source));
    }
    attribute(&mut body, netlink::rtattr_type_t::RTA_OIF as u32, &route.interface.0.to_ne_bytes());
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A question whose header is likely to be right.
    fn question() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![Just(None), any::<u32>().prop_map(Some), (0..64u32).prop_map(Some)];
        let body = proptest::collection::vec(any::<u8>(), 0..48);
        (length, 0..140u16, prop_oneof![any::<u16>(), Just(REQUEST | DUMP)], body).prop_map(
            |(length, kind, flags, body)| {
                let length = length.unwrap_or((HEADER + body.len()) as u32);
                let mut bytes = length.to_ne_bytes().to_vec();
                bytes.extend(kind.to_ne_bytes());
                bytes.extend(flags.to_ne_bytes());
                bytes.extend([7; 8]);
                bytes.extend(body);
                bytes
            },
        )
    }

    proptest! {
        #[test]
        fn every_answer_is_whole_whatever_was_asked(
            questions in proptest::collection::vec(question(), 0..8),
        ) {
            for datagram in answer(&questions.concat(), false, 7) {
                let mut rest = datagram.as_slice();
                while !rest.is_empty() {
                    let length = word(rest, 0).unwrap_or(0) as usize;
                    prop_assert!(length >= HEADER && length <= rest.len());
                    rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
                }
            }
        }
    }
}
