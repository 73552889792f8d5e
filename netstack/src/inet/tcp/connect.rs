//! Connecting, listening, accepting.

use super::{State, Tcp, outside, ports};
use crate::address;
use crate::inet::{broker, endpoint, stack};
use crate::message::Outgoing;
use crate::socket::Shutdown;
use crate::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use boundary::broker::Protocol;
use core::net::SocketAddr;
use core::sync::atomic::Ordering;
use kernel::poll::PollEvents;

/// What became of an attempt to get into a listening socket's queue.
enum Asked {
    Connected,
    /// No place: it waits.
    Waits,
    Refused,
}

/// Where a connection that is accepted comes from.
enum Accepted {
    Inside(Arc<Tcp>),
    Outside(outside::Arrival),
}

impl Tcp {
    /// connect(2). One that does not wait says `EINPROGRESS` even if the connection is there at once, as on Linux.
    pub(super) fn connect_to(&self, address: &[u8], nonblocking: bool) -> Result<()> {
        if address::is_unspecified(address) {
            return self.disconnect();
        }
        let to = endpoint::read(self.common.family, address)?;
        if let Some(remote) = self.remote() {
            return self.finish_connect(&*remote, nonblocking);
        }
        {
            let mut link = self.link.lock();
            let unreported = core::mem::take(&mut link.unreported);
            match link.state {
                State::Connected if unreported => return Ok(()),
                State::Fresh if unreported => {
                    return Err(self.common.take_error().unwrap_or(Errno::ECONNABORTED));
                }
                State::Connecting if nonblocking => {
                    link.unreported = true;
                    return Err(Errno::EALREADY);
                }
                State::Connecting => {
                    drop(link);
                    return self.wait_for_place();
                }
                State::Fresh => {}
                _ => return Err(Errno::EISCONN),
            }
        }
        let to = SocketAddr::new(endpoint::reach(to.ip(), self.only_v6())?, to.port());
        // A server on all addresses is on all of the sandbox's, not of the world's.
        let listener = if endpoint::is_here(to.ip()) { outside::listening(to) } else { None };
        // A reset of an earlier connection is no news for this one.
        self.shut.store(0, Ordering::SeqCst);
        let over_interface = stack::routes(to.ip()) && !endpoint::is_here(to.ip());
        if over_interface || listener.is_none() && broker::may_serve(Protocol::Tcp, to) {
            return self.connect_outside(to, nonblocking);
        }
        let from = self.place_for(to)?;
        let asked = match &listener {
            Some(listener) => self.ask(listener, from, to),
            // Both are being connected to each other (RFC 9293, section 3.5).
            None if from == to => self.connect_to_itself(to),
            None => Asked::Refused,
        };
        match asked {
            Asked::Connected | Asked::Waits if nonblocking => {
                self.link.lock().unreported = true;
                Err(Errno::EINPROGRESS)
            }
            Asked::Connected => Ok(()),
            Asked::Waits => self.wait_for_place(),
            Asked::Refused => {
                self.forget_place();
                if !nonblocking {
                    return Err(Errno::ECONNREFUSED);
                }
                self.refused();
                self.link.lock().unreported = true;
                Err(Errno::EINPROGRESS)
            }
        }
    }

    /// sendto(2) with `MSG_FASTOPEN`: connects first, as where there was no connection before that has left a cookie (RFC 7413, section
    /// 4.1.1). There never is one: only its opening packet would be spared, and on loopback there is none.
    pub(super) fn connect_to_send(&self, message: &Outgoing<'_, '_>) -> Result<()> {
        match message.to {
            Some(to) if address::is_unspecified(to.address) => Err(Errno::EOPNOTSUPP),
            Some(to) => self.connect_to(to.address, message.nonblocking),
            None if self.remote().is_some() || self.state() != State::Fresh => Err(Errno::EISCONN),
            None => Err(Errno::EINVAL),
        }
    }

    /// Tells of a refusal that nobody waits for: as after a reset, nothing is received or sent any more.
    fn refused(&self) {
        self.common.set_error(Errno::ECONNREFUSED);
        self.shut.store(Shutdown::all().bits(), Ordering::SeqCst);
        let events = PollEvents::ERR | PollEvents::HUP | PollEvents::READABLE | PollEvents::WRITABLE;
        self.common.queue.wake_all(events);
    }

    /// The place that it connects from: `EADDRNOTAVAIL` if there is no port left, or a connection between the same places.
    pub(super) fn place_for(&self, to: SocketAddr) -> Result<SocketAddr> {
        let source = endpoint::source_for(to.ip());
        let bound = self.link.lock().local;
        let place = match bound {
            Some(local) if local.ip().is_unspecified() => {
                let place = SocketAddr::new(source, local.port());
                ports()?.check_connect(self, place, to)?;
                ports()?.moved(self, place);
                place
            }
            Some(local) => {
                ports()?.check_connect(self, local, to)?;
                local
            }
            None => ports()?
                .bind_to_connect(&self.this()?, source, self.only_v6(), to)
                .map_err(|_| Errno::EADDRNOTAVAIL)?,
        };
        let mut link = self.link.lock();
        (link.local, link.has_port) = (Some(place), true);
        Ok(place)
    }

    /// The connection came to nothing: what bind(2) did not give is given back.
    pub(super) fn forget_place(&self) {
        let (place, port_bound) = {
            let mut link = self.link.lock();
            let place = link.local;
            if !link.bound.0 {
                (link.local, link.has_port) = (None, false);
            } else if !link.bound.1 {
                link.local =
                    place.map(|place| SocketAddr::new(endpoint::any(self.common.family), place.port()));
            }
            (place, link.bound.0)
        };
        if let (Some(place), Ok(ports), false) = (place, ports(), port_bound) {
            ports.release(self, place.port());
        }
    }

    /// A connection with itself: what it sends, it receives.
    fn connect_to_itself(&self, place: SocketAddr) -> Asked {
        let Some(this) = self.this.upgrade() else { return Asked::Refused };
        {
            let mut link = self.link.lock();
            link.state = State::Connected;
            link.peer_place = Some(place);
            link.peer = Some(this);
        }
        self.grow();
        self.common.queue.wake_all(PollEvents::WRITABLE);
        Asked::Connected
    }

    /// The send buffer grows with a connection, unless the program has said how large it is to be.
    fn grow(&self) {
        let _ = self.common.send_buffer.compare_exchange(
            super::SEND_DEFAULT,
            super::SEND_CONNECTED,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// One attempt to get into the queue of `listener`.
    fn ask(&self, listener: &Arc<Tcp>, from: SocketAddr, to: SocketAddr) -> Asked {
        let child = Tcp::new(listener.common.family);
        child.inherit(listener);
        // Known before anybody can have it, and with it its end.
        if let Ok(ports) = ports() {
            ports.share(&child, to, from);
        }
        let asked = {
            let mut link = self.link.lock();
            let mut inbox = listener.inbox.lock();
            if link.closed {
                Asked::Refused
            } else if inbox.backlog.is_none() {
                link.state = State::Fresh;
                Asked::Refused
            } else if !inbox.has_place() {
                link.state = State::Connecting;
                link.peer_place = Some(to);
                link.peer = Some(listener.clone());
                if let Some(this) = self.this.upgrade() {
                    inbox.asking.push_back(this);
                }
                Asked::Waits
            } else {
                {
                    let mut theirs = child.link.lock();
                    theirs.state = State::Connected;
                    theirs.local = Some(to);
                    theirs.peer_place = Some(from);
                    theirs.peer = self.this.upgrade();
                    (theirs.has_port, theirs.is_queued) = (true, true);
                }
                link.state = State::Connected;
                link.peer_place = Some(to);
                link.peer = Some(child.clone());
                self.grow();
                child.grow();
                inbox.ready.push_back(child.clone());
                Asked::Connected
            }
        };
        if matches!(asked, Asked::Connected) {
            listener.common.queue.wake(PollEvents::READABLE);
            self.common.queue.wake_all(PollEvents::WRITABLE);
        } else if let Ok(ports) = ports() {
            ports.release(&child, to.port());
        }
        asked
    }

    /// Waits in a queue that has no place: `EINPROGRESS` when `SO_SNDTIMEO` has passed; a signal leaves the attempt going on.
    fn wait_for_place(&self) -> Result<()> {
        let outcome = self.common.sending(false).until(&[&self.common.queue], || {
            let state = self.state();
            (state != State::Connecting).then_some(Ok(state))
        });
        match outcome {
            Ok(State::Connected) => Ok(()),
            Ok(_) => Err(self.common.take_error().unwrap_or(Errno::ECONNREFUSED)),
            Err(Errno::EAGAIN) => {
                self.link.lock().unreported = true;
                Err(Errno::EINPROGRESS)
            }
            Err(errno) => {
                self.link.lock().unreported = true;
                Err(errno)
            }
        }
    }

    /// Gives up waiting for a place.
    pub(super) fn leave_queue(&self) {
        let listener = {
            let mut link = self.link.lock();
            link.state = State::Fresh;
            link.peer_place = None;
            link.peer.take()
        };
        if let Some(listener) = listener {
            let mut inbox = listener.inbox.lock();
            let asking = core::mem::take(&mut inbox.asking);
            let (gone, left): (VecDeque<_>, VecDeque<_>) =
                asking.into_iter().partition(|socket| core::ptr::eq(&**socket, self));
            inbox.asking = left;
            drop(inbox);
            drop(gone);
        }
        self.forget_place();
    }

    /// connect(2) with `AF_UNSPEC`: resets the connection; the socket can be used again.
    fn disconnect(&self) -> Result<()> {
        self.set_remote(None);
        match self.state() {
            State::Listening => self.stop_listening(),
            State::Connecting => self.leave_queue(),
            _ => {}
        }
        let (peer, was_connected) = {
            let mut link = self.link.lock();
            let was_connected = link.state == State::Connected;
            link.state = State::Fresh;
            link.unreported = false;
            link.peer_place = None;
            (link.peer.take(), was_connected)
        };
        if let Some(peer) = peer {
            peer.reset();
        }
        let old = core::mem::take(&mut *self.inbox.lock());
        drop(old);
        self.common.take_error();
        if was_connected {
            self.common.set_error(Errno::ECONNRESET);
        }
        self.shut.store(0, Ordering::SeqCst);
        self.forget_place();
        Ok(())
    }

    pub(super) fn start_listening(&self, backlog: usize) -> Result<()> {
        let (state, local) = {
            let link = self.link.lock();
            (link.state, link.local)
        };
        if !matches!(state, State::Fresh | State::Listening) || self.remote().is_some() {
            return Err(Errno::EINVAL);
        }
        let only_v6 = self.only_v6();
        match local {
            Some(local) if state == State::Fresh => {
                // Known as one that listens first, so that of two with one port only one does.
                self.inbox.lock().backlog = Some(backlog);
                if let Err(errno) = ports()?.check_listen(self, local, only_v6) {
                    self.inbox.lock().backlog = None;
                    return Err(errno);
                }
            }
            Some(_) => {}
            None => {
                let any = SocketAddr::new(endpoint::any(self.common.family), 0);
                let place = ports()?.bind(&self.this()?, any, only_v6)?;
                let mut link = self.link.lock();
                (link.local, link.has_port) = (Some(place), true);
            }
        }
        self.link.lock().state = State::Listening;
        self.shut.store(0, Ordering::SeqCst);
        self.inbox.lock().backlog = Some(backlog);
        self.admit();
        Ok(())
    }

    /// Closes the queue: connections in it are reset, who waits for a place is refused.
    pub(super) fn stop_listening(&self) {
        let (ready, asking, arrived) = {
            let mut inbox = self.inbox.lock();
            inbox.backlog = None;
            let arrived = core::mem::take(&mut inbox.arrived);
            (core::mem::take(&mut inbox.ready), core::mem::take(&mut inbox.asking), arrived)
        };
        drop(arrived);
        self.link.lock().state = State::Fresh;
        self.common.queue.wake_all(PollEvents::READABLE | PollEvents::HUP);
        for child in ready {
            let peer = child.link.lock().peer.take();
            if let Some(peer) = peer {
                peer.reset();
            }
            child.inbox.lock().closed = true;
            child.release_port();
        }
        for client in asking {
            client.turned_away();
        }
    }

    fn turned_away(&self) {
        {
            let mut link = self.link.lock();
            link.state = State::Fresh;
            link.peer = None;
            link.peer_place = None;
        }
        self.refused();
    }

    /// Lets those who wait for a place in, as many as there are places.
    fn admit(&self) {
        loop {
            let next = {
                let mut inbox = self.inbox.lock();
                if inbox.has_place() { inbox.asking.pop_front() } else { None }
            };
            let Some(client) = next else { return };
            let places = {
                let link = client.link.lock();
                (link.local, link.peer_place, link.state)
            };
            let ((Some(from), Some(to), State::Connecting), Ok(this)) = (places, self.this()) else {
                continue;
            };
            match client.ask(&this, from, to) {
                Asked::Connected => {}
                Asked::Waits => return,
                Asked::Refused => client.turned_away(),
            }
        }
    }

    pub(super) fn accept_next(&self, nonblocking: bool) -> Result<Arc<Tcp>> {
        let accepted = self.common.receiving(nonblocking).until(&[&self.common.queue], || {
            let mut inbox = self.inbox.lock();
            if inbox.backlog.is_none() {
                return Some(Err(Errno::EINVAL));
            }
            match inbox.ready.pop_front() {
                Some(child) => Some(Ok(Accepted::Inside(child))),
                None => inbox.arrived.pop_front().map(|arrival| Ok(Accepted::Outside(arrival))),
            }
        })?;
        self.admit();
        Ok(match accepted {
            Accepted::Inside(child) => {
                child.link.lock().is_queued = false;
                child
            }
            Accepted::Outside(arrival) => self.accept_from_outside(arrival),
        })
    }
}
