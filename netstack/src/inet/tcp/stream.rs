//! Sending and receiving on a connection.

use super::{State, Tcp};
use crate::message::{Incoming, Outgoing};
use crate::socket::Shutdown;
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kernel::poll::PollEvents;
use kernel::uaccess::Sink;
use linux_raw_sys::net;

impl Tcp {
    /// Whether a third of the window is free: enough for a writer to go on.
    pub(super) fn has_room(&self, peer: &Tcp) -> bool {
        let inbox = peer.inbox.lock();
        inbox.closed || is_roomy(inbox.ring.len(), self.window(peer))
    }

    /// Waits until a connection that is being made is there; its peer. `EPIPE` if there is none, or the error of the connection.
    fn wait_connected(&self, nonblocking: bool) -> Result<Arc<Tcp>> {
        self.common.sending(nonblocking).until(&[&self.common.queue], || {
            let link = self.link.lock();
            match (link.state, &link.peer) {
                (State::Connected, Some(peer)) => Some(Ok(peer.clone())),
                (State::Connecting, _) => None,
                _ => Some(Err(self.common.take_error().unwrap_or(Errno::EPIPE))),
            }
        })
    }

    fn try_write(&self, peer: &Tcp, message: &mut Outgoing<'_, '_>, waited: bool) -> Option<Result<usize>> {
        if self.is_shut(Shutdown::SEND) || self.common.has_error() {
            return Some(Err(self.common.take_error().unwrap_or(Errno::EPIPE)));
        }
        let window = self.window(peer);
        let mut inbox = peer.inbox.lock();
        if inbox.closed {
            return Some(Ok(0));
        }
        let used = inbox.ring.len();
        if used >= window || waited && !is_roomy(used, window) {
            return None;
        }
        inbox.capacity = window;
        let outcome = inbox.ring.write(message.source, window - used, false);
        if message.has(net::MSG_OOB) && message.source.left() == 0 && outcome.is_ok_and(|count| count > 0) {
            inbox.mark_last(peer.urgent_is_inline());
        }
        Some(outcome)
    }

    pub(super) fn send_bytes(&self, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        let broken = |message: &Outgoing<'_, '_>, errno| match errno {
            Errno::EPIPE => message.broken_pipe(),
            errno => errno,
        };
        let peer = self.wait_connected(message.nonblocking).map_err(|errno| broken(message, errno))?;
        let wanted = message.source.left();
        let mut waiting = self.common.sending(message.nonblocking);
        let mut total = 0;
        loop {
            let outcome = match self.try_write(&peer, message, false) {
                Some(outcome) => outcome,
                None => waiting.sleep(&[&self.common.queue], || self.try_write(&peer, message, true)),
            };
            match outcome {
                // The peer is closed: what is sent is lost, and answered by a reset.
                Ok(0) if total < wanted => {
                    self.reset();
                    peer.reset();
                    return Ok(wanted);
                }
                Ok(count) => {
                    peer.common.queue.wake(PollEvents::READABLE);
                    total += count;
                    if message.source.left() == 0 {
                        if message.has(net::MSG_OOB) && count > 0 {
                            peer.tell_of_urgent();
                        }
                        return Ok(total);
                    }
                }
                Err(_) if total > 0 => return Ok(total),
                Err(errno) => return Err(broken(message, errno)),
            }
        }
    }

    pub(super) fn receive_bytes(&self, message: &mut Incoming<'_, '_>) -> Result<usize> {
        if message.has(net::MSG_OOB) {
            return self.receive_urgent(message);
        }
        if self.state() == State::Listening {
            return Err(Errno::ENOTCONN);
        }
        let peeking = message.has(net::MSG_PEEK);
        let target = self.common.target(message.has(net::MSG_WAITALL), message.sink.left());
        let mut waiting = self.common.receiving(message.nonblocking);
        let start = self.common.peek_offset.load(Ordering::Relaxed);
        let mut total = 0;
        let outcome = loop {
            let skip = peeking.then(|| usize::try_from(start).unwrap_or(0).saturating_add(total));
            let attempt = waiting.until(&[&self.common.queue], || self.try_read(message, skip, total));
            match attempt {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    total += count;
                    if total >= target || message.sink.left() == 0 {
                        break Ok(());
                    }
                }
                Err(errno) => break Err(errno),
            }
        };
        if total > 0 {
            self.common.move_peek_offset(peeking, total);
        }
        if total > 0 { Ok(total) } else { outcome.map(|()| 0) }
    }

    /// One try: 0 at the end of the stream; `None` if there is nothing yet.
    fn try_read(
        &self,
        message: &mut Incoming<'_, '_>,
        peek: Option<usize>,
        total: usize,
    ) -> Option<Result<usize>> {
        let (outcome, became_roomy) = {
            let mut inbox = self.inbox.lock();
            let before = is_roomy(inbox.ring.len(), inbox.capacity);
            let inline = self.urgent_is_inline();
            if inbox.at_mark() && peek.unwrap_or(0) == 0 {
                if total > 0 {
                    return Some(Ok(0));
                }
                if !inline && peek.is_none() {
                    inbox.pass_mark();
                }
            }
            let skip = inbox.behind_mark(peek.unwrap_or(0), inline);
            let available = inbox.ring.len();
            if available <= skip {
                return self.nothing_to_read(total);
            }
            // Reading stops before the urgent byte, and goes on behind it (tcp(7)).
            let most = inbox.until_mark(skip).unwrap_or(available - skip);
            let outcome = match peek {
                Some(_) => inbox.ring.peek(skip, most, message.sink),
                // tcp(7): the bytes are thrown away.
                None if message.has(net::MSG_TRUNC) => {
                    let count = most.min(message.sink.left());
                    inbox.consume(count);
                    message.sink.advance(count);
                    Ok(count)
                }
                None if most < available => {
                    let outcome = inbox.ring.peek(0, most, message.sink);
                    inbox.consume(outcome.unwrap_or(0));
                    outcome
                }
                None => {
                    let outcome = read(&mut inbox.ring, message.sink);
                    inbox.consumed(outcome.unwrap_or(0));
                    outcome
                }
            };
            (outcome, !before && is_roomy(inbox.ring.len(), inbox.capacity))
        };
        if became_roomy {
            let peer = self.link.lock().peer.clone();
            if let Some(peer) = peer {
                peer.common.queue.wake(PollEvents::WRITABLE);
            }
        }
        Some(outcome)
    }

    /// An empty inbox: its error, the end of the stream, or nothing yet.
    fn nothing_to_read(&self, total: usize) -> Option<Result<usize>> {
        if total > 0 && (self.common.has_error() || self.is_shut(Shutdown::RECEIVE)) {
            return Some(Ok(0));
        }
        if let Some(error) = self.common.take_error() {
            return Some(Err(error));
        }
        if self.is_shut(Shutdown::RECEIVE) {
            return Some(Ok(0));
        }
        (self.state() == State::Fresh).then_some(Err(Errno::ENOTCONN))
    }
}

fn read(ring: &mut vfs::pipe::Ring, sink: &mut Sink<'_>) -> Result<usize> {
    if sink.left() == 0 { Ok(0) } else { ring.read(sink) }
}

/// The host kernel's rule for a writer to be woken: a third of the buffer is free (`sk_stream_is_writeable`).
fn is_roomy(used: usize, window: usize) -> bool {
    used.saturating_mul(3) <= window.saturating_mul(2)
}
