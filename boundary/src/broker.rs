//! Messages between the sandbox and the broker, the process outside that makes connections for it: `postcard`-encoded, one a
//! packet of a `SOCK_SEQPACKET` socket, at most [`MAX_MESSAGE`] bytes. A descriptor goes with the replies that say so.
//!
//! The broker treats requests as hostile: one that is too long or does not decode is logged and answered by nothing. The sandbox
//! believes the broker.

use alloc::vec::Vec;
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};

/// Longest packet in either direction: a datagram of any length, and what is said of it.
pub const MAX_MESSAGE: usize = 66 << 10;

/// Longest packet to the broker.
pub const MAX_REQUEST: usize = 8 << 10;

/// Longest query that is passed on (RFC 6891 recommends 1232 bytes for answers; queries are far shorter).
pub const MAX_QUERY: usize = 1 << 10;

/// Transport protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// tcp(7).
    Tcp,
    /// udp(7).
    Udp,
}

/// A place: address and port. IPv4 addresses are never written as IPv6 ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The address's bytes.
    ip: Ip,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Ip {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl From<SocketAddr> for Place {
    fn from(at: SocketAddr) -> Place {
        let ip = match at.ip().to_canonical() {
            core::net::IpAddr::V4(ip) => Ip::V4(ip.octets()),
            core::net::IpAddr::V6(ip) => Ip::V6(ip.octets()),
        };
        Place { ip, port: at.port() }
    }
}

impl From<Place> for SocketAddr {
    /// In canonical form, whatever the other side wrote.
    fn from(place: Place) -> SocketAddr {
        let ip = match place.ip {
            Ip::V4(ip) => core::net::IpAddr::from(ip),
            Ip::V6(ip) => core::net::IpAddr::from(ip),
        };
        SocketAddr::new(ip.to_canonical(), place.port)
    }
}

/// From the sandbox to the broker. `id` comes back with the reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A socket that is connected to `to`, or being connected.
    Connect {
        /// Of this request.
        id: u64,
        /// How.
        protocol: Protocol,
        /// Where to.
        to: Place,
    },
    /// A query of the domain name system (RFC 1035), as the program sent it.
    Resolve {
        /// Of this request.
        id: u64,
        /// Its bytes.
        query: Vec<u8>,
    },
}

/// From the broker to the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// With a descriptor: the socket that was asked for. A TCP connection may still be on its way.
    Connected {
        /// Of the request.
        id: u64,
        /// The address it has on the host.
        local: Place,
    },
    /// There will be no socket.
    Refused {
        /// Of the request.
        id: u64,
        /// Linux error number.
        errno: i32,
    },
    /// No socket, but what is sent there is to come as [`Request::Resolve`]: it is a name server in the program's eyes.
    NameServer {
        /// Of the request.
        id: u64,
    },
    /// The answer to a query.
    Resolved {
        /// Of the request.
        id: u64,
        /// Its bytes.
        answer: Vec<u8>,
    },
    /// With a descriptor: somebody has connected to a published port.
    Accepted {
        /// The port inside.
        port: u16,
        /// Who.
        from: Place,
    },
    /// With a descriptor, a socket that is connected to the sender: somebody new has sent a datagram to a published port.
    Datagram {
        /// The port inside.
        port: u16,
        /// Who.
        from: Place,
        /// What.
        bytes: Vec<u8>,
    },
}

/// Reads a packet: `None` if it is too long, not a message, or has something behind it.
pub fn decode<'a, T: Deserialize<'a>>(packet: &'a [u8]) -> Option<T> {
    if packet.len() > MAX_MESSAGE {
        return None;
    }
    match postcard::take_from_bytes(packet) {
        Ok((message, [])) => Some(message),
        _ => None,
    }
}

/// Writes a packet.
///
/// # Errors
/// The message is longer than [`MAX_MESSAGE`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, postcard::Error> {
    let packet = postcard::to_allocvec(message)?;
    if packet.len() > MAX_MESSAGE { Err(postcard::Error::SerializeBufferFull) } else { Ok(packet) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form_whatever_was_sent() {
        let mapped = Place { ip: Ip::V6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1]), port: 80 };
        assert_eq!(SocketAddr::from(mapped), "127.0.0.1:80".parse().expect("an address"));
        let v6: SocketAddr = "[2001:db8::1]:53".parse().expect("an address");
        assert_eq!(SocketAddr::from(Place::from(v6)), v6);
    }

    #[test]
    fn what_is_behind_a_message_makes_it_none() {
        let to = "192.0.2.1:80".parse::<SocketAddr>().expect("an address").into();
        let request = Request::Connect { id: 1, protocol: Protocol::Tcp, to };
        let mut packet = encode(&request).expect("fits");
        assert_eq!(decode(&packet), Some(request));
        packet.push(0);
        assert_eq!(decode::<Request>(&packet), None);
        assert_eq!(decode::<Request>(&[]), None);
    }
}
