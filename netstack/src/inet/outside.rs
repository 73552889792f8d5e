//! What a socket of TCP stands for if its peer is not in the sandbox.

use super::tcp::Tcp;
use crate::Result;
use crate::common::Common;
use crate::message::{Incoming, Outgoing};
use crate::socket::Shutdown;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use kernel::poll::{PollEvents, PollTable};

/// A connection to the outside. The methods are those of [`crate::socket::Socket`]; `common` is the socket's.
pub trait Outside: Send + Sync {
    /// Its own place, as programs are to see it.
    fn local(&self) -> SocketAddr;

    /// The other side's.
    fn peer(&self) -> SocketAddr;

    /// No program has `socket`, whose this is, any more: whether it keeps its port until the connection has come to its end, of which it
    /// is told then ([`Tcp::ended_on_stack`]).
    fn leave(&self, _socket: &Arc<Tcp>) -> bool {
        false
    }

    /// connect(2) once more: waits for the connection, or says how it stands: `EALREADY`, `EISCONN`, `EINPROGRESS` when the time
    /// is up, or why there is none.
    fn finish_connect(&self, common: &Common, nonblocking: bool) -> Result<()>;

    /// Whether there is a connection, as far as getpeername(2) is concerned.
    fn is_connected(&self) -> bool;

    /// Takes the error that waits over to `common`.
    fn gather_error(&self, common: &Common);

    /// Sends bytes.
    fn send(&self, common: &Common, message: &mut Outgoing<'_, '_>) -> Result<usize>;

    /// Receives bytes.
    fn receive(&self, common: &Common, message: &mut Incoming<'_, '_>) -> Result<usize>;

    /// shutdown(2).
    fn shutdown(&self, how: Shutdown) -> Result<()>;

    /// What it is ready for; changes wake the socket's queue.
    fn poll(&self, common: &Common, table: &mut PollTable) -> PollEvents;

    /// `FIONREAD`, `TIOCOUTQ`, `SIOCOUTQNSD`, `SIOCATMARK`: `ENOTTY` for what it cannot tell.
    fn count(&self, command: u32) -> Result<i32>;

    /// `TCP_INFO`.
    fn info(&self) -> Result<Vec<u8>>;

    /// State number of the host kernel (`TCP_*`).
    fn state_number(&self) -> u32;

    /// An option was set.
    fn option_set(&self, level: u32, name: u32, value: &[u8]);
}
