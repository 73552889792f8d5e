//! Connections, and streams over them.

use super::{Unix, names};
use crate::message::{Credentials, Incoming, Outgoing};
use crate::socket::Shutdown;
use crate::unix::rights::Rights;
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kernel::poll::PollEvents;
use linux_raw_sys::net;
use vfs::namespace::Lookup;

impl Unix {
    /// connect(2) of a stream or a sequence of packets. Waits for a place in the queue of the listening socket.
    pub(super) fn connect_stream(
        &self,
        address: &[u8],
        lookup: &Lookup<'_>,
        nonblocking: bool,
    ) -> Result<()> {
        names::checked(address)?;
        self.autobind_if_passing()?;
        let mut waiting = self.common.sending(nonblocking);
        loop {
            let other = names::find_socket(address, lookup, self.common.kind)?;
            match self.try_connect(&other)? {
                true => return Ok(()),
                false => waiting.sleep(&[&other.place], || {
                    let inbox = other.inbox.lock();
                    (!inbox.is_listening() || inbox.has_place_for_connection()).then_some(Ok(()))
                })?,
            }
        }
    }

    /// One try; `false` if there is no place in the queue.
    fn try_connect(&self, other: &Arc<Unix>) -> Result<bool> {
        let (listener, name) = {
            let link = other.link.lock();
            (link.peer_credentials, link.name.clone())
        };
        let accepted = Unix::new(self.common.kind);
        accepted.embryo.store(true, Ordering::Relaxed);
        let outcome = {
            let mut link = self.link.lock();
            let mut inbox = other.inbox.lock();
            if !inbox.is_listening() || other.is_shut(Shutdown::RECEIVE) {
                Err(Errno::ECONNREFUSED)
            } else if !inbox.has_place_for_connection() {
                Ok(false)
            } else if link.connected {
                Err(Errno::EISCONN)
            } else if core::ptr::eq(self, &**other) {
                Err(Errno::EINVAL)
            } else {
                // Nobody knows the new socket yet, so its link may be taken under this one's.
                {
                    let mut theirs = accepted.link.lock();
                    theirs.peer = self.this.upgrade();
                    theirs.connected = true;
                    theirs.peer_credentials = Some(Credentials::of_peer());
                    // It has the listening socket's name (getsockname(2)), but is not found by it.
                    theirs.name = name;
                }
                link.peer = Some(accepted.clone());
                link.connected = true;
                link.peer_credentials = listener;
                inbox.connect(accepted.clone());
                Ok(true)
            }
        };
        match outcome {
            Ok(true) => {
                other.common.queue.wake(PollEvents::READABLE);
                self.common.queue.wake(PollEvents::WRITABLE);
            }
            _ => names::forget(&accepted, None),
        }
        outcome
    }

    /// One try to write to `peer`: `None` if there is no room. `need` is what a writer that has waited wants.
    fn try_write(
        &self,
        peer: &Unix,
        message: &mut Outgoing<'_, '_>,
        credentials: Option<Credentials>,
        rights: &mut Option<Rights>,
        waited: bool,
    ) -> Option<Result<usize>> {
        let capacity = self.common.send_room();
        let mut inbox = peer.inbox.lock();
        if inbox.is_closed() || peer.is_shut(Shutdown::RECEIVE) || self.is_shut(Shutdown::SEND) {
            return Some(Err(Errno::EPIPE));
        }
        let used = inbox.length();
        if used >= capacity || waited && used.saturating_mul(4) > capacity {
            return None;
        }
        inbox.capacity = capacity;
        Some(inbox.bytes.write(message.source, capacity - used, credentials, rights))
    }

    /// send(2) on a stream.
    pub(super) fn send_stream(&self, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        if message.has(net::MSG_OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut rights = match message.attached.files.is_empty() {
            true => None,
            false => Some(Rights::new(core::mem::take(&mut message.attached.files))?),
        };
        if message.to.is_some() {
            return Err(if self.is_connected() { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        let peer = self.peer().ok_or(Errno::ENOTCONN)?;
        if self.is_shut(Shutdown::SEND) {
            return Err(message.broken_pipe());
        }
        let credentials = self.credentials_for(&message.attached, &peer);
        let mut waiting = self.common.sending(message.nonblocking);
        let mut total = 0;
        let mut outcome = Ok(0);
        while message.source.left() > 0 {
            outcome = match self.try_write(&peer, message, credentials, &mut rights, false) {
                Some(outcome) => outcome,
                None => waiting.sleep(&[&self.common.queue], || {
                    self.try_write(&peer, message, credentials, &mut rights, true)
                }),
            };
            match outcome {
                Ok(count) if count > 0 => {
                    peer.common.queue.wake(PollEvents::READABLE);
                    total += count;
                }
                _ => break,
            }
        }
        match outcome {
            _ if total > 0 => Ok(total),
            Err(Errno::EPIPE) => Err(message.broken_pipe()),
            outcome => outcome,
        }
    }

    /// recv(2) on a stream.
    pub(super) fn receive_stream(&self, message: &mut Incoming<'_, '_>) -> Result<usize> {
        if !self.is_connected() {
            return Err(Errno::EINVAL);
        }
        if message.has(net::MSG_OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let peeking = message.has(net::MSG_PEEK);
        let start = self.common.peek_offset.load(Ordering::Relaxed);
        let target = self.common.target(message.has(net::MSG_WAITALL), message.sink.left());
        let mut waiting = self.common.receiving(message.nonblocking);
        let mut total = 0;
        let outcome = loop {
            let skip = peeking.then(|| usize::try_from(start).unwrap_or(0).saturating_add(total));
            let attempt =
                waiting.until(&[&self.common.queue], || self.try_receive(message, skip, total >= target));
            match attempt {
                Ok(None) => break Ok(()),
                Ok(Some((count, stop))) => {
                    total += count;
                    if stop || total >= target || message.sink.left() == 0 {
                        break Ok(());
                    }
                }
                Err(errno) => break Err(errno),
            }
        };
        if total > 0 {
            self.common.move_peek_offset(peeking, total);
        }
        if message.wants_name && message.from.is_none() && total > 0 {
            message.from = self.peer().and_then(|peer| peer.current_name()).map(|name| name.address());
        }
        if total > 0 { Ok(total) } else { outcome.map(|()| 0) }
    }

    /// One try: the bytes read and whether the call ends with them; `Ok(None)` at the end of the stream, or if there is
    /// nothing and enough was read before.
    #[allow(clippy::type_complexity, reason = "three outcomes of one try")]
    fn try_receive(
        &self,
        message: &mut Incoming<'_, '_>,
        peek: Option<usize>,
        enough: bool,
    ) -> Option<Result<Option<(usize, bool)>>> {
        let credentials = self.passes_credentials();
        let (met, became_writable) = {
            let mut inbox = self.inbox.lock();
            if inbox.length() <= peek.unwrap_or(0) {
                if enough {
                    return Some(Ok(None));
                }
                if let Some(error) = self.common.take_error() {
                    return Some(Err(error));
                }
                return self.is_shut(Shutdown::RECEIVE).then_some(Ok(None));
            }
            let crowded = |length: usize| length.saturating_mul(4) > inbox.capacity;
            let before = crowded(inbox.length());
            let met = inbox.bytes.read(message, peek, credentials);
            (met, before && inbox.length().saturating_mul(4) <= inbox.capacity)
        };
        if became_writable && let Some(peer) = self.peer() {
            peer.common.queue.wake(PollEvents::WRITABLE);
        }
        Some(met.map(|met| {
            self.hand_over(message, met.rights);
            Some((met.count, met.stop))
        }))
    }
}
