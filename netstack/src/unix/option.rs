//! Options that unix sockets have beyond the common ones.

use super::Unix;
use crate::message::Credentials;
use crate::options::OptionValue;
use crate::{Errno, Result};
use linux_raw_sys::net;

/// getsockopt(2).
pub fn get(socket: &Unix, level: u32, name: u32) -> Result<OptionValue> {
    if level != net::SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP);
    }
    match name {
        net::SO_ACCEPTCONN => Ok(OptionValue::Number(u32::from(socket.inbox.lock().is_listening()))),
        net::SO_PEERCRED => {
            let known = socket.link.lock().peer_credentials.unwrap_or(Credentials::NONE);
            let pid = kernel::task::current().group.space.shown(known.pid);
            let words = [pid as u32, known.uid, known.gid];
            Ok(OptionValue::Bytes(words.iter().flat_map(|word| word.to_ne_bytes()).collect()))
        }
        // As the kernel knows the process, for who makes the descriptor.
        net::SO_PEERPIDFD => {
            let known = socket.link.lock().peer_credentials.unwrap_or(Credentials::NONE);
            Ok(OptionValue::Number(known.pid.number() as u32))
        }
        net::SO_PEERNAME => {
            use crate::socket::Socket;
            Ok(OptionValue::Bytes(socket.peer_name()?.bytes().to_vec()))
        }
        _ => Err(Errno::ENOPROTOOPT),
    }
}
