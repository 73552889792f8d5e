//! Datagrams, and sequences of packets.

use super::rights::Rights;
use super::{DATAGRAM_OVERHEAD, DATAGRAMS_MAX, Unix, dissolves, names};
use crate::address::Address;
use crate::message::{Credentials, Incoming, Outgoing};
use crate::socket::Shutdown;
use crate::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kernel::poll::PollEvents;
use linux_raw_sys::net;
use vfs::namespace::Lookup;

/// What a datagram counts for beyond its bytes, so that empty ones do not fill memory (the host kernel's `truesize`).
const COST: usize = 512;

/// A datagram that waits.
pub struct Datagram {
    bytes: Vec<u8>,
    sender: Arc<Unix>,
    credentials: Option<Credentials>,
    pub rights: Option<Rights>,
}

impl Datagram {
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Drop for Datagram {
    fn drop(&mut self) {
        self.sender.arrived(self.bytes.len() + COST);
    }
}

impl Unix {
    /// Fewer bytes are on the way: room for more.
    fn arrived(&self, bytes: usize) {
        let before = self.on_the_way.fetch_sub(bytes, Ordering::SeqCst);
        let room = self.common.send_room();
        if before.saturating_mul(4) > room && (before - bytes.min(before)).saturating_mul(4) <= room {
            self.common.queue.wake(PollEvents::WRITABLE);
        }
    }

    /// Whether a full inbox of `peer` makes this one wait: not if they are each other's peers.
    pub(super) fn must_wait_for(&self, peer: &Unix) -> bool {
        let back = peer.link.lock().peer.as_ref().map(Arc::as_ptr);
        !core::ptr::eq(self, peer) && back.is_none_or(|back| !core::ptr::eq(back, self))
    }

    /// `EPERM` if `other` only talks to somebody else.
    fn check_may_send(&self, other: &Unix) -> Result<()> {
        let back = other.link.lock().peer.as_ref().map(Arc::as_ptr);
        match back {
            Some(back) if !core::ptr::eq(back, self) => Err(Errno::EPERM),
            _ => Ok(()),
        }
    }

    /// connect(2) of a datagram socket: its messages go there, and it only takes messages from there.
    pub(super) fn connect_datagram(&self, address: &[u8], lookup: &Lookup<'_>) -> Result<()> {
        let other = match dissolves(address) {
            true => None,
            false => {
                names::checked(address)?;
                self.autobind_if_passing()?;
                let other = names::find_socket(address, lookup, self.common.kind)?;
                self.check_may_send(&other)?;
                Some(other)
            }
        };
        let old = {
            let mut link = self.link.lock();
            link.connected = other.is_some();
            link.peer_credentials = None;
            core::mem::replace(&mut link.peer, other.clone())
        };
        if let Some(old) = old.filter(|old| other.as_ref().is_none_or(|other| !Arc::ptr_eq(old, other))) {
            self.left(&old);
        }
        Ok(())
    }

    /// The old peer is none any more: what it sent is lost, and it is told.
    fn left(&self, old: &Unix) {
        let lost: VecDeque<Datagram> = core::mem::take(&mut self.inbox.lock().datagrams);
        drop(lost);
        self.place.wake_all(PollEvents::WRITABLE);
        let back = old.link.lock().peer.as_ref().map(Arc::as_ptr);
        if back.is_some_and(|back| core::ptr::eq(back, self)) && !old.inbox.lock().is_closed() {
            old.common.set_error(Errno::ECONNRESET);
            old.common.queue.wake_all(PollEvents::ERR);
        }
    }

    /// send(2) of a datagram.
    pub(super) fn send_datagram(&self, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        if message.has(net::MSG_OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let files = core::mem::take(&mut message.attached.files);
        let rights = if files.is_empty() { None } else { Some(Rights::new(files)?) };
        let mut other = match message.to {
            Some(to) => names::checked(to.address).map(|_| None)?,
            None => Some(self.peer().ok_or(Errno::ENOTCONN)?),
        };
        self.autobind_if_passing()?;
        let length = message.source.left();
        if length > self.common.send_room().saturating_sub(DATAGRAM_OVERHEAD) {
            return Err(Errno::EMSGSIZE);
        }
        let mut waiting = self.common.sending(message.nonblocking);
        let charge = length + COST;
        waiting.until(&[&self.common.queue], || self.try_charge(charge))?;
        let sender = self.this()?;
        let mut datagram = Datagram { bytes: Vec::new(), sender, credentials: None, rights };
        let uncharge = |datagram: Datagram, errno| {
            self.arrived(length - datagram.bytes.len());
            Err(errno)
        };
        if datagram.bytes.try_reserve_exact(length).is_err() {
            return uncharge(datagram, Errno::ENOBUFS);
        }
        datagram.bytes.resize(length, 0);
        if message.source.take(&mut datagram.bytes) != Ok(length) {
            return Err(Errno::EFAULT);
        }
        loop {
            let target = match (&other, message.to) {
                (Some(other), _) => other.clone(),
                (None, Some(to)) => names::find_socket(to.address, to.lookup, self.common.kind)?,
                (None, None) => return Err(Errno::ECONNRESET),
            };
            self.check_may_send(&target)?;
            datagram.credentials = self.credentials_for(&message.attached, &target);
            let limited = self.must_wait_for(&target);
            match self.try_deliver(&target, datagram, limited) {
                Delivery::Done => {
                    target.common.queue.wake(PollEvents::READABLE);
                    return Ok(length);
                }
                Delivery::Failed(errno) => return Err(errno),
                Delivery::Gone => {
                    self.lose_peer(&target)?;
                    return Err(Errno::ECONNREFUSED);
                }
                Delivery::Full(back) => {
                    datagram = back;
                    waiting.sleep(&[&target.place, &self.common.queue], || {
                        let inbox = target.inbox.lock();
                        (!inbox.is_full(DATAGRAMS_MAX) || inbox.is_closed()).then_some(Ok(()))
                    })?;
                    if message.to.is_some() {
                        other = None;
                    }
                }
            }
        }
    }

    fn try_charge(&self, charge: usize) -> Option<Result<()>> {
        if let Some(error) = self.common.take_error() {
            return Some(Err(error));
        }
        if self.is_shut(Shutdown::SEND) {
            return Some(Err(Errno::EPIPE));
        }
        let room = self.common.send_room();
        let charged = self.on_the_way.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
            (used < room).then(|| used.saturating_add(charge))
        });
        charged.is_ok().then_some(Ok(()))
    }

    fn try_deliver(&self, target: &Unix, datagram: Datagram, limited: bool) -> Delivery {
        let mut inbox = target.inbox.lock();
        if inbox.is_closed() {
            drop(inbox);
            return Delivery::Gone;
        }
        if target.is_shut(Shutdown::RECEIVE) {
            drop(inbox);
            return Delivery::Failed(Errno::EPIPE);
        }
        if limited && inbox.is_full(DATAGRAMS_MAX) {
            return Delivery::Full(datagram);
        }
        if inbox.datagrams.try_reserve(1).is_err() {
            drop(inbox);
            return Delivery::Failed(Errno::ENOBUFS);
        }
        inbox.datagrams.push_back(datagram);
        Delivery::Done
    }

    /// The target was closed: if it was the peer, there is none any more.
    fn lose_peer(&self, target: &Arc<Unix>) -> Result<()> {
        if self.has_connections() {
            return Err(Errno::EPIPE);
        }
        let lost = {
            let mut link = self.link.lock();
            if link.peer.as_ref().is_some_and(|peer| Arc::ptr_eq(peer, target)) {
                link.connected = false;
                link.peer.take()
            } else {
                None
            }
        };
        if let Some(old) = lost {
            self.left(&old);
        }
        Ok(())
    }

    /// recv(2) of a datagram or a packet.
    pub(super) fn receive_datagram(&self, message: &mut Incoming<'_, '_>) -> Result<usize> {
        if message.has(net::MSG_OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let peeking = message.has(net::MSG_PEEK);
        let mut waiting = self.common.receiving(message.nonblocking);
        let outcome = waiting.until(&[&self.common.queue], || self.try_receive_datagram(message, peeking));
        match outcome {
            // The end of a sequence of packets.
            Err(Errno::EAGAIN)
                if self.common.kind == net::SOCK_SEQPACKET && self.is_shut(Shutdown::RECEIVE) =>
            {
                Ok(0)
            }
            outcome => outcome,
        }
    }

    fn try_receive_datagram(&self, message: &mut Incoming<'_, '_>, peeking: bool) -> Option<Result<usize>> {
        let offset = self.common.peek_offset.load(Ordering::Relaxed);
        let (taken, from, outcome) = {
            let mut inbox = self.inbox.lock();
            if let Some(error) = self.common.take_error() {
                return Some(Err(error));
            }
            let mut skip = if peeking { usize::try_from(offset).unwrap_or(0) } else { 0 };
            let mut index = 0;
            // Peeking with an offset goes from one datagram to the next.
            while let Some(datagram) = inbox.datagrams.get(index)
                && skip > 0
                && skip >= datagram.len()
            {
                skip -= datagram.len();
                index += 1;
            }
            let Some(datagram) = inbox.datagrams.get(index) else {
                return (self.is_shut(Shutdown::RECEIVE) && !message.nonblocking).then_some(Ok(0));
            };
            let outcome = copy(datagram, skip, message);
            let from = datagram.sender.clone();
            if self.passes_credentials() {
                message.credentials = Some(datagram.credentials.unwrap_or(Credentials::UNKNOWN));
            }
            if peeking {
                let files = datagram.rights.as_ref().map(Rights::files).unwrap_or_default();
                message.files = files.to_vec();
                (None, from, outcome)
            } else {
                (inbox.datagrams.pop_front(), from, outcome)
            }
        };
        let (count, length) = match outcome {
            Ok(outcome) => outcome,
            Err(errno) => return Some(Err(errno)),
        };
        let sender: Address = from.sender_address();
        message.from = Some(sender);
        self.common.stamp(message);
        if count > 0 {
            self.common.move_peek_offset(peeking, if peeking { count } else { length });
        }
        if let Some(mut datagram) = taken {
            self.hand_over(message, datagram.rights.take());
            drop(datagram);
            self.place.wake(PollEvents::WRITABLE);
        }
        Some(Ok(if message.has(net::MSG_TRUNC) { length } else { count }))
    }
}

/// Copies a datagram's bytes behind `skip`: how many there was room for, and how many there are.
fn copy(datagram: &Datagram, skip: usize, message: &mut Incoming<'_, '_>) -> Result<(usize, usize)> {
    let bytes = datagram.bytes.get(skip..).unwrap_or(&[]);
    let room = message.sink.left();
    let part = bytes.get(..room).unwrap_or(bytes);
    if part.len() < bytes.len() {
        message.report |= net::MSG_TRUNC;
    }
    if message.sink.put(part)? < part.len() {
        return Err(Errno::EFAULT);
    }
    Ok((part.len(), bytes.len()))
}

/// How a try to deliver ended.
enum Delivery {
    Done,
    Failed(Errno),
    /// The receiver was closed.
    Gone,
    /// No place; the datagram comes back.
    Full(Datagram),
}
