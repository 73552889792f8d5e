//! A connection over the interface as a socket of TCP has it.

use super::connection::Connection;
use super::state::State;
use super::{Place, with};
use crate::common::Common;
use crate::inet::outside::Outside;
use crate::inet::tcp::{NOT_SENT, Tcp};
use crate::message::{Incoming, Outgoing};
use crate::socket::Shutdown;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::poll::{PollEvents, PollTable};
use linux_raw_sys::{ioctl, net};
use smoltcp::socket::tcp::State as Phase;

/// A connection that a program has, or that waits to be accepted. It is left when this goes.
pub struct Stream {
    place: Place,
    id: u64,
    /// connect(2) has told of it.
    reported: AtomicBool,
    /// `SO_LINGER` with no time: it ends by a reset.
    abruptly: AtomicBool,
    /// Somebody else sees to its end.
    disowned: AtomicBool,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.disowned.load(Ordering::Relaxed) {
            let at_once = self.abruptly.load(Ordering::Relaxed);
            with(|state| state.leave(self.place, self.id, at_once, None));
        }
    }
}

/// What finds a connection that may have gone.
pub struct Handle {
    place: Place,
    id: u64,
}

impl Handle {
    /// State number of the host kernel (`TCP_*`).
    pub fn state_number(&self) -> u32 {
        const CLOSE: u32 = 7;
        let state = |state: &mut State| state.get(self.place, self.id).map(|found| found.state_number());
        with(state).flatten().unwrap_or(CLOSE)
    }
}

impl Stream {
    /// Of the connection with this number.
    pub(super) fn new(place: Place, id: u64) -> Stream {
        Stream {
            place,
            id,
            reported: AtomicBool::new(true),
            abruptly: AtomicBool::new(false),
            disowned: AtomicBool::new(false),
        }
    }

    /// Asks for a connection: `EADDRNOTAVAIL`.
    pub fn connect(local: SocketAddr, peer: SocketAddr, socket: &Arc<Tcp>) -> Result<Stream> {
        let place = Place { local, peer };
        let asked = with(|state| state.connect(place, socket)).unwrap_or(Err(Errno::ENETUNREACH))?;
        let stream = Stream::new(place, asked);
        stream.reported.store(false, Ordering::Relaxed);
        Ok(stream)
    }

    /// What finds its connection, without keeping it.
    pub fn handle(&self) -> Handle {
        Handle { place: self.place, id: self.id }
    }

    /// Its end is seen to by somebody else.
    pub(super) fn disown(&self) {
        self.disowned.store(true, Ordering::Relaxed);
    }

    /// A program has accepted it.
    pub fn accepted(&self, socket: &Arc<Tcp>) {
        self.look(|connection| connection.belongs_to(socket));
    }

    /// Looks at the connection, if it is still there.
    fn look<R>(&self, action: impl FnOnce(&mut Connection) -> R) -> Option<R> {
        with(|state| state.get(self.place, self.id).map(action)).flatten()
    }

    /// Does something with the connection, if it is still there: what follows from it is done, too.
    fn change<R>(&self, action: impl FnOnce(&mut Connection) -> R) -> Option<R> {
        let change = |state: &mut State| {
            let result = action(state.get(self.place, self.id)?);
            state.settle(self.place);
            Some(result)
        };
        with(change).flatten()
    }

    /// Whether the connection is there, or why there is none; `None` if it is still being made.
    fn outcome(&self) -> Option<Result<()>> {
        let look = |connection: &mut Connection| match connection.take_error() {
            Err(error) => Some(Err(error)),
            Ok(()) if connection.established => Some(Ok(())),
            Ok(()) if connection.is_connecting() => None,
            Ok(()) => Some(Err(Errno::ECONNABORTED)),
        };
        self.look(look).unwrap_or(Some(Err(Errno::ECONNABORTED)))
    }

    fn write(&self, message: &mut Outgoing<'_, '_>, waited: bool) -> Option<Result<usize>> {
        let write = |connection: &mut Connection| {
            if let Err(error) = connection.take_error() {
                return Some(Err(error));
            }
            if connection.is_connecting() {
                return None;
            }
            if connection.shut.contains(Shutdown::SEND) || !connection.socket().may_send() {
                return Some(Err(Errno::EPIPE));
            }
            if waited && !connection.is_roomy() {
                connection.wants_room = true;
                return None;
            }
            let outcome = fill(connection, message);
            connection.wants_room |= message.source.left() > 0;
            outcome
        };
        self.change(write).unwrap_or(Some(Err(Errno::EPIPE)))
    }

    /// 0 at the end of the stream.
    fn read(
        &self,
        message: &mut Incoming<'_, '_>,
        peek: Option<usize>,
        total: usize,
    ) -> Option<Result<usize>> {
        let read = |connection: &mut Connection| {
            let waiting = connection.socket().recv_queue();
            if waiting > peek.unwrap_or(0) {
                let outcome = match peek {
                    Some(skip) => look_ahead(connection, message, skip),
                    None => drain(connection, message),
                };
                return Some(outcome);
            }
            if connection.is_connecting() {
                return None;
            }
            // An error is for the next call, if this one has something to tell.
            if total == 0
                && let Err(error) = connection.take_error()
            {
                return Some(Err(error));
            }
            let ended = connection.is_shut_for_reading() || connection.error.is_some();
            ended.then_some(Ok(0))
        };
        self.change(read).unwrap_or(Some(Ok(0)))
    }
}

/// Takes as many bytes of a message as there is room for.
fn fill(connection: &mut Connection, message: &mut Outgoing<'_, '_>) -> Option<Result<usize>> {
    let mut total = 0;
    // The room may be in two pieces.
    for _ in 0..2 {
        let taken = connection.socket_mut().send(|room| {
            let most = room.len().min(message.source.left());
            match message.source.take(room.get_mut(..most).unwrap_or(&mut [])) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            }
        });
        match taken.unwrap_or(Err(Errno::EPIPE)) {
            Ok(0) => break,
            Ok(count) => total += count,
            Err(_) if total > 0 => break,
            Err(error) => return Some(Err(error)),
        }
    }
    (total > 0 || message.source.left() == 0).then_some(Ok(total))
}

/// Gives bytes that have come, as many as fit.
fn drain(connection: &mut Connection, message: &mut Incoming<'_, '_>) -> Result<usize> {
    let discard = message.has(net::MSG_TRUNC);
    let mut total = 0;
    for _ in 0..2 {
        let given = connection.socket_mut().recv(|bytes| {
            let part = bytes.get(..message.sink.left()).unwrap_or(bytes);
            // tcp(7): the bytes are thrown away.
            if discard {
                message.sink.advance(part.len());
                return (part.len(), Ok(part.len()));
            }
            match message.sink.put(part) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            }
        });
        match given.unwrap_or(Ok(0)) {
            Ok(0) => break,
            Ok(count) => total += count,
            Err(_) if total > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

/// Shows bytes that have come, behind the first `skip`, and leaves them.
fn look_ahead(connection: &mut Connection, message: &mut Incoming<'_, '_>, skip: usize) -> Result<usize> {
    let waiting = connection.socket().recv_queue();
    let most = waiting.min(skip.saturating_add(message.sink.left()));
    let mut bytes = vec![0; most];
    let count = connection.socket_mut().peek_slice(&mut bytes).unwrap_or(0);
    message.sink.put(bytes.get(skip..count).unwrap_or(&[]))
}

impl Outside for Stream {
    fn local(&self) -> SocketAddr {
        self.place.local
    }

    fn peer(&self) -> SocketAddr {
        self.place.peer
    }

    fn leave(&self, socket: &Arc<Tcp>) -> bool {
        self.disown();
        let at_once = self.abruptly.load(Ordering::Relaxed);
        with(|state| state.leave(self.place, self.id, at_once, Some(socket))).unwrap_or(false)
    }

    fn finish_connect(&self, common: &Common, nonblocking: bool) -> Result<()> {
        if self.reported.load(Ordering::SeqCst) {
            return Err(Errno::EISCONN);
        }
        let outcome = common.sending(nonblocking).until(&[&common.queue], || {
            // An error that poll(2) has made somebody ask for is in the common part already.
            common.take_error().map(Err).or_else(|| self.outcome())
        });
        match outcome {
            Err(Errno::EAGAIN) if nonblocking => Err(Errno::EALREADY),
            Err(Errno::EAGAIN) => Err(Errno::EINPROGRESS),
            outcome => {
                if outcome.is_ok() {
                    self.reported.store(true, Ordering::SeqCst);
                }
                outcome
            }
        }
    }

    fn is_connected(&self) -> bool {
        let connected =
            |connection: &mut Connection| connection.established && connection.state() != Phase::Closed;
        self.look(connected).unwrap_or(false)
    }

    fn gather_error(&self, common: &Common) {
        if let Some(Err(error)) = self.look(|connection| connection.take_error()) {
            common.set_error(error);
        }
    }

    fn send(&self, common: &Common, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        if message.has(net::MSG_OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        if let Some(error) = common.take_error() {
            return Err(error);
        }
        let mut waiting = common.sending(message.nonblocking);
        let (mut total, mut waited) = (0, false);
        loop {
            // An acknowledgement that has come in may be no further away than a host call.
            let mut first = self.write(message, waited);
            if first.is_none() && super::look() {
                first = self.write(message, true);
            }
            let outcome = match first {
                Some(outcome) => outcome,
                None => waiting.sleep(&[&common.queue], || self.write(message, true)),
            };
            waited = true;
            match outcome {
                Ok(count) => {
                    total += count;
                    if message.source.left() == 0 {
                        return Ok(total);
                    }
                }
                Err(_) if total > 0 => return Ok(total),
                Err(Errno::EPIPE) => return Err(message.broken_pipe()),
                Err(error) => return Err(error),
            }
        }
    }

    fn receive(&self, common: &Common, message: &mut Incoming<'_, '_>) -> Result<usize> {
        if message.has(net::MSG_OOB) {
            return Err(Errno::EINVAL);
        }
        if let Some(error) = common.take_error() {
            return Err(error);
        }
        let peeking = message.has(net::MSG_PEEK);
        let target = common.target(message.has(net::MSG_WAITALL), message.sink.left());
        let mut waiting = common.receiving(message.nonblocking);
        let mut total = 0;
        if message.sink.left() == 0 {
            return Ok(0);
        }
        loop {
            let skip = peeking.then_some(total);
            let mut attempt = || self.read(message, skip, total);
            // What has come in may be no further away than a host call.
            let first = attempt().or_else(|| super::look().then(&mut attempt).flatten());
            let outcome = match first {
                Some(outcome) => outcome,
                None => waiting.sleep(&[&common.queue], attempt),
            };
            match outcome {
                Ok(0) => return Ok(total),
                Ok(count) => {
                    total += count;
                    if total >= target || message.sink.left() == 0 {
                        return Ok(total);
                    }
                }
                Err(_) if total > 0 => return Ok(total),
                Err(error) => return Err(error),
            }
        }
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let shut = |connection: &mut Connection| {
            if !connection.established || connection.state() == Phase::Closed {
                return Err(Errno::ENOTCONN);
            }
            connection.shut |= how;
            if how.contains(Shutdown::SEND) {
                connection.socket_mut().close();
            }
            Ok(())
        };
        self.change(shut).unwrap_or(Err(Errno::ENOTCONN))
    }

    fn poll(&self, common: &Common, _table: &mut PollTable) -> PollEvents {
        let low = common.low_water.load(Ordering::Relaxed).max(1) as usize;
        let look = |connection: &mut Connection| {
            let ready = connection.ready(low);
            connection.wants_room |= !ready.contains(PollEvents::WRITABLE);
            ready
        };
        let gone = PollEvents::READABLE | PollEvents::WRITABLE | PollEvents::HUP | PollEvents::RDHUP;
        let mut ready = self.look(look).unwrap_or(gone);
        ready.set(PollEvents::ERR, ready.contains(PollEvents::ERR) || common.has_error());
        ready
    }

    fn count(&self, command: u32) -> Result<i32> {
        // smoltcp does not say how much of its buffer it has sent.
        if command == NOT_SENT {
            return Err(Errno::ENOTTY);
        }
        let count = |connection: &mut Connection| match command {
            ioctl::FIONREAD => connection.socket().recv_queue(),
            ioctl::TIOCOUTQ => connection.socket().send_queue(),
            _ => 0,
        };
        Ok(i32::try_from(self.look(count).unwrap_or(0)).unwrap_or(i32::MAX))
    }

    fn info(&self) -> Result<Vec<u8>> {
        let mut info = vec![0; size_of::<net::tcp_info>()];
        if let Some(first) = info.first_mut() {
            *first = self.state_number() as u8;
        }
        Ok(info)
    }

    fn state_number(&self) -> u32 {
        self.handle().state_number()
    }

    fn option_set(&self, level: u32, name: u32, value: &[u8]) {
        let number = value.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        let set = |connection: &mut Connection| match (level, name) {
            (net::SOL_SOCKET, net::SO_KEEPALIVE) => connection.set_keep_alive(|keep| keep.on = number != 0),
            (net::SOL_TCP, net::TCP_KEEPIDLE) => connection.set_keep_alive(|keep| keep.idle = number),
            (net::SOL_TCP, net::TCP_KEEPINTVL) => connection.set_keep_alive(|keep| keep.interval = number),
            (net::SOL_TCP, net::TCP_KEEPCNT) => connection.set_keep_alive(|keep| keep.count = number),
            (net::SOL_TCP, net::TCP_NODELAY) => connection.socket_mut().set_nagle_enabled(number == 0),
            (net::SOL_TCP, net::TCP_USER_TIMEOUT) => connection.set_user_timeout(number),
            _ => {}
        };
        if (level, name) == (net::SOL_SOCKET, net::SO_LINGER) {
            let seconds =
                value.get(4..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
            self.abruptly.store(number != 0 && seconds == 0, Ordering::Relaxed);
            return;
        }
        self.change(set);
    }
}
