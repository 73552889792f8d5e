//! Calls on sockets. What sockets are is in crate `netstack`; addresses, control messages and options are copied here.

mod address;
mod connections;
mod control;
mod flags;
mod messages;
mod options;
mod transfers;

use crate::Result;
use crate::table::{Context, Row};
use alloc::sync::Arc;
use linux_raw_sys::net;
use netstack::message::Incoming;
use netstack::socket::{self, Socket};
use vfs::table::UsedFile;

/// What sending lacks.
const NOT_SENT: &str = "urgent data of unix sockets (MSG_OOB) gives EOPNOTSUPP; no zero copy or time stamps";
/// What receiving lacks.
const NOT_RECEIVED: &str = "no urgent data of unix sockets, time stamps of datagrams only";

/// The rows of this family, a slice a file.
pub const ROWS: &[&[Row]] = &[connections::ROWS, messages::ROWS, options::ROWS, transfers::ROWS];

/// Receives, from the queue of errors if the caller asks for that.
fn receive(socket: &dyn Socket, message: &mut Incoming<'_, '_>) -> Result<usize> {
    if message.has(net::MSG_ERRQUEUE) { socket.receive_error(message) } else { socket.receive(message) }
}

/// The socket of a descriptor, and its open file: `EBADF`, `ENOTSOCK`.
fn socket<'a>(context: &'a Context<'_>, fd: i32) -> Result<(Arc<dyn Socket>, UsedFile<'a>)> {
    let file = crate::file::file(context, fd)?;
    Ok((socket::of(&file)?.clone(), file))
}
