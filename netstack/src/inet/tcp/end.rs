//! The end of a connection: in order, when both sides have said that they send no more, or by a reset.

use super::{State, Tcp, ports};
use crate::Errno;
use crate::common::Switches;
use crate::inet::outside::Outside;
use crate::inet::remains::{Remains, TIME_WAIT};
use crate::inet::stack::Place;
use crate::socket::Shutdown;
use core::net::SocketAddr;
use core::sync::atomic::Ordering;
use kernel::time;

impl Tcp {
    /// Gives its port back.
    pub(super) fn release_port(&self) {
        let port = {
            let mut link = self.link.lock();
            let had = core::mem::replace(&mut link.has_port, false);
            link.local.filter(|_| had).map(|local| local.port())
        };
        if let (Some(port), Ok(ports)) = (port, ports()) {
            ports.release(self, port);
        }
    }

    /// The other side has reset the connection.
    pub(super) fn reset(&self) {
        let told = self.is_shut(Shutdown::RECEIVE);
        let waited = {
            let mut link = self.link.lock();
            if link.state == State::Ended && link.waits_until.is_none() {
                return;
            }
            if !link.closed {
                self.common.set_error(if told { Errno::EPIPE } else { Errno::ECONNRESET });
            }
            link.state = State::Ended;
            link.waits_until.take().is_some()
        };
        if waited {
            self.release_port();
        } else {
            self.shut(Shutdown::all());
        }
    }

    /// This side, which had not done so yet, has said that it sends no more: whether that was the end of the connection, because the
    /// other one had said so before.
    pub(super) fn send_end(&self, peer: &Tcp) -> bool {
        peer.shut(Shutdown::RECEIVE);
        // Of two that say so at the same moment, both may have been the first, as in TCP.
        let over = peer.is_shut(Shutdown::SEND);
        if over {
            peer.wait_out();
            let mut link = self.link.lock();
            if link.state == State::Connected {
                link.state = State::Ended;
            }
        }
        over
    }

    /// The connection is over, and this side had ended it first: its places stay taken for a while.
    fn wait_out(&self) {
        let (places, was_bound, waited) = {
            let mut link = self.link.lock();
            let waited = link.waits_until.take().is_some();
            if link.state != State::Connected && !waited {
                return;
            }
            link.state = State::Ended;
            (link.local.zip(link.peer_place), link.bound.0, waited)
        };
        if let (Some((local, peer)), Ok(ports)) = (places, ports()) {
            ports.leave(self.remains(local, peer, was_bound));
        }
        if waited {
            self.release_port();
        }
    }

    fn remains(&self, local: SocketAddr, peer: SocketAddr, was_bound: bool) -> Remains {
        let switches = [Switches::REUSE_ADDRESS, Switches::REUSE_PORT];
        Remains {
            family: self.common.family,
            local,
            peer,
            shared: switches.into_iter().filter(|switch| self.common.is_on(*switch)).collect(),
            was_bound,
            until: time::monotonic().saturating_add(TIME_WAIT),
        }
    }

    /// The connection over an interface that it stood for has come to its end: in order, if it leaves places. Called under the stack's
    /// lock.
    pub fn ended_on_stack(&self, left: Option<Place>) {
        let (was_bound, waited) = {
            let mut link = self.link.lock();
            (link.bound.0, link.waits_until.take().is_some())
        };
        if let (Some(Place { local, peer }), Ok(ports)) = (left, ports()) {
            ports.leave(self.remains(local, peer, was_bound));
        }
        if waited {
            self.release_port();
        }
    }

    /// The last description has gone, but what it stood for outside goes on: whether it is to keep its port.
    fn stays_for(&self, remote: &dyn Outside) -> bool {
        let Ok(this) = self.this() else { return false };
        // Before the end can come.
        {
            let mut link = self.link.lock();
            (link.closed, link.state) = (true, State::Ended);
            link.waits_until = Some(time::monotonic().saturating_add(TIME_WAIT));
        }
        let stays = remote.leave(&this);
        if !stays {
            self.link.lock().waits_until = None;
        }
        stays
    }

    /// The last description has gone. What was not read is lost, of which the other side is to hear (RFC 2525, section 2.17).
    pub(super) fn leave(&self) {
        if self.remote().is_some_and(|remote| self.stays_for(&*remote)) {
            return;
        }
        self.set_remote(None);
        match self.state() {
            State::Listening => self.stop_listening(),
            State::Connecting => self.leave_queue(),
            _ => {}
        }
        let (unread, ring) = {
            let mut inbox = self.inbox.lock();
            inbox.closed = true;
            (!inbox.ring.is_empty(), core::mem::take(&mut inbox.ring))
        };
        drop(ring);
        let abruptly = unread || self.common.linger.load(Ordering::Relaxed) == 0;
        let (peer, in_order) = {
            let mut link = self.link.lock();
            link.closed = true;
            let before = core::mem::replace(&mut link.state, State::Ended);
            let in_order = before == State::Connected && !abruptly;
            link.waits_until = in_order.then(|| time::monotonic().saturating_add(TIME_WAIT));
            (link.peer.take(), in_order)
        };
        let before = self.shut(Shutdown::all());
        match peer {
            Some(peer) if in_order => {
                // Otherwise it waits for the other side's end.
                if before.contains(Shutdown::SEND) || !self.send_end(&peer) {
                    return;
                }
                self.link.lock().waits_until = None;
            }
            Some(peer) if abruptly => peer.reset(),
            _ => {}
        }
        self.release_port();
    }
}
