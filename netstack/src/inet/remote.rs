//! A socket of the host that the broker connected. Data go between it and the program's memory directly; what it is ready for is
//! the host's to say, and the warden watches it for those who wait for several things.

use super::broker::Descriptor;
use super::outside::Outside;
use super::tcp::NOT_SENT;
use crate::common::Common;
use crate::message::{Incoming, Outgoing};
use crate::socket::Shutdown;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::hostpoll::Watch;
use kernel::poll::{PollEvents, PollTable};
use kernel::uaccess::Span;
use kernel::{task, time};
use linux_raw_sys::{general as raw, net};
use trap_handler::host;

/// Options that the host is told of: level and name. The filter allows these and no other.
const PASSED_ON: &[(u32, u32)] = &[
    (net::SOL_SOCKET, net::SO_KEEPALIVE),
    (net::SOL_SOCKET, net::SO_LINGER),
    (net::SOL_SOCKET, net::SO_OOBINLINE),
    (net::SOL_TCP, net::TCP_NODELAY),
    (net::SOL_TCP, net::TCP_CORK),
    (net::SOL_TCP, net::TCP_KEEPIDLE),
    (net::SOL_TCP, net::TCP_KEEPINTVL),
    (net::SOL_TCP, net::TCP_KEEPCNT),
    (net::SOL_TCP, net::TCP_USER_TIMEOUT),
];
/// Flags of calls that mean something to the host.
const SENDING: u32 = net::MSG_OOB | net::MSG_MORE;
const RECEIVING: u32 = net::MSG_OOB | net::MSG_PEEK | net::MSG_TRUNC | net::MSG_WAITALL;
/// Longest datagram there is.
const DATAGRAM_MAX: usize = 1 << 16;

/// A connected socket of the host.
pub struct Remote {
    fd: i32,
    watch: Arc<Watch>,
    /// Its own address, as programs are to see it.
    pub local: SocketAddr,
    /// Whom it is connected to.
    pub peer: SocketAddr,
    connecting: AtomicBool,
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.watch.close();
    }
}

impl Remote {
    /// For the socket that has `common`. One that is `connecting` was not seen to be connected yet.
    pub fn new(
        common: &Common,
        descriptor: Descriptor,
        (local, peer): (SocketAddr, SocketAddr),
        connecting: bool,
    ) -> Arc<Remote> {
        let fd = descriptor.into_number();
        let watch = Watch::on(fd, common.queue.clone());
        Arc::new(Remote { fd, watch, local, peer, connecting: AtomicBool::new(connecting) })
    }

    /// Waits on the host, as [`crate::common::Waiting`] does on queues.
    fn wait(&self, events: PollEvents, timeout: u64) -> Result<()> {
        let deadline = (timeout != 0).then(|| time::monotonic().saturating_add(timeout));
        loop {
            let left = deadline.map(|deadline| deadline.saturating_sub(time::monotonic()));
            let mut fds = [raw::pollfd { fd: self.fd, events: events.bits() as i16, revents: 0 }];
            match host::ppoll_interruptible(&mut fds, left) {
                Ok(0) => return Err(Errno::EAGAIN),
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => self.interrupted(timeout)?,
                Err(error) => return Err(error),
            }
        }
    }

    /// A host call was interrupted: goes on if only another task had asked something of this one.
    fn interrupted(&self, timeout: u64) -> Result<()> {
        match task::current().serve_calls() {
            true => Ok(()),
            false if timeout != 0 => Err(Errno::EINTR),
            false => Err(Errno::ERESTARTSYS),
        }
    }

    /// One host call, repeated as the caller waits.
    fn send_span(&self, common: &Common, span: Span, flags: u32, nonblocking: bool) -> Result<usize> {
        let timeout = common.send_timeout.load(Ordering::Relaxed);
        let at_once = if nonblocking || timeout != 0 { net::MSG_DONTWAIT } else { 0 };
        loop {
            match host::send_interruptible(self.fd, span, flags | at_once) {
                Err(Errno::EAGAIN) if !nonblocking => self.wait(PollEvents::OUT, timeout)?,
                Err(Errno::EINTR) => self.interrupted(timeout)?,
                outcome => {
                    // Those who are told of changes only (EPOLLET) hear of the next one.
                    if outcome.map_or(true, |count| (count as u64) < span.length) {
                        self.watch.arm_for_listeners(PollEvents::OUT);
                    }
                    return outcome;
                }
            }
        }
    }

    fn receive_span(&self, common: &Common, span: Span, flags: u32, nonblocking: bool) -> Result<usize> {
        let timeout = common.receive_timeout.load(Ordering::Relaxed);
        let at_once = if nonblocking || timeout != 0 { net::MSG_DONTWAIT } else { 0 };
        loop {
            match host::receive_interruptible(self.fd, span, flags | at_once) {
                Err(Errno::EAGAIN) if !nonblocking => self.wait(PollEvents::IN, timeout)?,
                Err(Errno::EINTR) => self.interrupted(timeout)?,
                outcome => {
                    self.watch.arm_for_listeners(PollEvents::IN);
                    return outcome;
                }
            }
        }
    }

    /// Sends one datagram.
    pub fn send_datagram(&self, common: &Common, bytes: &[u8], nonblocking: bool) -> Result<usize> {
        self.send_span(common, bytes.into(), 0, nonblocking)
    }

    /// Receives one datagram if there is one: its length and how much of it was put into the sink.
    pub fn try_receive_datagram(&self, message: &mut Incoming<'_, '_>) -> Result<(usize, usize)> {
        let flags = message.flags & net::MSG_PEEK | net::MSG_TRUNC | net::MSG_DONTWAIT;
        let left = message.sink.left();
        let direct = message.sink.span().filter(|span| span.length >= left as u64);
        let outcome = match direct {
            Some(span) => {
                let span = Span { length: left as u64, ..span };
                host::receive_interruptible(self.fd, span, flags).map(|length| {
                    let part = length.min(left);
                    message.sink.advance(part);
                    (length, part)
                })
            }
            None => {
                let mut bytes = vec![0; left.min(DATAGRAM_MAX)];
                host::receive_interruptible(self.fd, bytes.as_mut_slice().into(), flags).and_then(|length| {
                    let part = bytes.get(..length).unwrap_or(&bytes);
                    Ok((length, message.sink.put(part)?))
                })
            }
        };
        self.watch.arm_for_listeners(PollEvents::IN);
        outcome
    }

    /// Whether a datagram waits; if none does, those who listen will hear of it.
    pub fn has_datagram(&self) -> bool {
        let has = self.watch.ready(PollEvents::IN).intersects(PollEvents::IN | PollEvents::ALWAYS);
        if !has {
            self.watch.arm_for_listeners(PollEvents::IN);
        }
        has
    }

    /// Options that [`Self::option_set`] passes on, for what was set before there was a connection.
    pub fn passed_on() -> &'static [(u32, u32)] {
        PASSED_ON
    }
}

/// State number (`TCP_*`) of a socket of the host.
pub fn state_of(fd: i32) -> u32 {
    const CLOSE: u32 = 7;
    // It is the first byte of `struct tcp_info`.
    let mut state = [0; 1];
    match host::getsockopt(fd, net::SOL_TCP, net::TCP_INFO, &mut state) {
        Ok(_) => state[0].into(),
        Err(_) => CLOSE,
    }
}

impl Outside for Remote {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn finish_connect(&self, common: &Common, nonblocking: bool) -> Result<()> {
        if !self.connecting.load(Ordering::SeqCst) {
            return Err(Errno::EISCONN);
        }
        if !self.watch.ready(PollEvents::OUT).intersects(PollEvents::OUT | PollEvents::ALWAYS) {
            if nonblocking {
                return Err(Errno::EALREADY);
            }
            let timeout = common.send_timeout.load(Ordering::Relaxed);
            self.wait(PollEvents::OUT, timeout).map_err(|error| match error {
                Errno::EAGAIN => Errno::EINPROGRESS,
                error => error,
            })?;
        }
        self.gather_error(common);
        if let Some(error) = common.take_error() {
            return Err(error);
        }
        if self.watch.ready(PollEvents::OUT).contains(PollEvents::HUP) {
            // Its error was told to somebody else.
            return Err(Errno::ECONNABORTED);
        }
        self.connecting.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn is_connected(&self) -> bool {
        let ready = self.watch.ready(PollEvents::OUT);
        match self.connecting.load(Ordering::SeqCst) {
            true => ready.contains(PollEvents::OUT) && !ready.intersects(PollEvents::ALWAYS),
            // Ended by both sides.
            false => !ready.contains(PollEvents::HUP),
        }
    }

    fn gather_error(&self, common: &Common) {
        let mut error = [0; 4];
        if host::getsockopt(self.fd, net::SOL_SOCKET, net::SO_ERROR, &mut error) == Ok(4) {
            let error = i32::from_ne_bytes(error);
            if error > 0 {
                common.set_error(Errno(error));
            }
        }
    }

    fn send(&self, common: &Common, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        if let Some(error) = common.take_error() {
            return Err(error);
        }
        let flags = message.flags & SENDING;
        let mut total = 0;
        while let Some(span) = message.source.span() {
            let left = message.source.left() as u64;
            let span = Span { length: span.length.min(left), ..span };
            // More pieces of one message: no packets of their own.
            let more = if span.length < left { net::MSG_MORE } else { 0 };
            match self.send_span(common, span, flags | more, message.nonblocking) {
                Ok(count) => {
                    message.source.advance(count);
                    total += count;
                    if (count as u64) < span.length && message.nonblocking {
                        break;
                    }
                }
                Err(_) if total > 0 => break,
                Err(Errno::EPIPE) => return Err(message.broken_pipe()),
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    fn receive(&self, common: &Common, message: &mut Incoming<'_, '_>) -> Result<usize> {
        if let Some(error) = common.take_error() {
            return Err(error);
        }
        let flags = message.flags & RECEIVING;
        let all = message.has(net::MSG_WAITALL);
        let mut total = 0;
        while let Some(span) = message.sink.span() {
            let span = Span { length: span.length.min(message.sink.left() as u64), ..span };
            let nonblocking = message.nonblocking || total > 0 && !all;
            match self.receive_span(common, span, flags, nonblocking) {
                Ok(count) => {
                    message.sink.advance(count);
                    total += count;
                    if (count as u64) < span.length || message.has(net::MSG_PEEK | net::MSG_OOB) {
                        break;
                    }
                }
                Err(_) if total > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let how = match (how.contains(Shutdown::RECEIVE), how.contains(Shutdown::SEND)) {
            (true, false) => net::SHUT_RD,
            (false, _) => net::SHUT_WR,
            (true, true) => net::SHUT_RDWR,
        };
        host::shutdown(self.fd, how)
    }

    fn poll(&self, _common: &Common, table: &mut PollTable) -> PollEvents {
        self.watch.poll(table)
    }

    fn count(&self, command: u32) -> Result<i32> {
        if command == NOT_SENT {
            let info = self.info()?;
            let at = core::mem::offset_of!(net::tcp_info, tcpi_notsent_bytes);
            let count = info.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            return count.map(i32::from_ne_bytes).ok_or(Errno::ENOTTY);
        }
        host::socket_count(self.fd, command)
    }

    fn info(&self) -> Result<Vec<u8>> {
        let mut info = vec![0; size_of::<net::tcp_info>()];
        let length = host::getsockopt(self.fd, net::SOL_TCP, net::TCP_INFO, &mut info)?;
        info.truncate(length);
        Ok(info)
    }

    fn state_number(&self) -> u32 {
        state_of(self.fd)
    }

    fn option_set(&self, level: u32, name: u32, value: &[u8]) {
        if PASSED_ON.contains(&(level, name)) {
            let _ = host::setsockopt(self.fd, level, name, value);
        }
    }
}
