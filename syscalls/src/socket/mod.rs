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
use netstack::socket::{self, Socket};
use vfs::file::FileRef;

/// What sending lacks.
const NOT_SENT: &str = "urgent data (MSG_OOB) gives EOPNOTSUPP";
/// What receiving lacks.
const NOT_RECEIVED: &str = "no urgent data, error queues or time stamps";

/// The rows of this family, a slice a file.
pub const ROWS: &[&[Row]] = &[connections::ROWS, messages::ROWS, options::ROWS, transfers::ROWS];

/// The socket of a descriptor, and its open file: `EBADF`, `ENOTSOCK`.
fn socket(context: &Context<'_>, fd: i32) -> Result<(Arc<dyn Socket>, FileRef)> {
    let file = crate::file::file(context, fd)?;
    Ok((socket::of(&file)?.clone(), file))
}
