//! The tables behind the stack's lock: connections, timers, and the interface between them and the packets.

use super::connection::Connection;
use super::datagrams::Datagrams;
use super::frame::{self, Content, HOST_HEADER, Segment};
use super::link::{FRAME_ROOM, Link};
use super::{Place, instant};
use crate::inet::tcp::{self, Tcp};
use crate::{Errno, Result};
use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use boundary::boot;
use core::net::{IpAddr, SocketAddr};
use hashbrown::{HashMap, HashSet};
use kernel::poll::PollEvents;
use kernel::time;
use kernel::wait::WaitQueue;
use smoltcp::iface::{Config, Interface, PollResult, Route, SocketSet};
use smoltcp::socket::tcp::State as Phase;
use smoltcp::wire::{EthernetAddress, IpCidr, IpListenEndpoint};
use trap_handler::host;

/// Connections that are being made by others at most: the oldest one goes for one more, so that a flood of them keeps nobody out for
/// long.
const HALF_OPEN_MAX: usize = 1024;
/// Connections that have ended and are kept for what may still be on its way, at most.
const TIME_WAIT_MAX: usize = 1024;

/// Everything behind the lock.
pub struct State {
    pub interface: Interface,
    pub link: Link,
    hardware: [u8; 6],
    /// A set without sockets, for what concerns the interface alone.
    empty: SocketSet<'static>,
    connections: HashMap<Place, Connection>,
    half_open: VecDeque<(Place, u64)>,
    time_wait: VecDeque<(Place, u64)>,
    /// Connections whose neighbour is being asked for.
    blocked: HashMap<IpAddr, HashSet<Place>>,
    timers: BTreeSet<(u64, Place)>,
    pub datagrams: Datagrams,
    frames: Vec<u8>,
    next: u64,
    /// Whom to wake, and what to drop, without the lock.
    pub news: Vec<(WaitQueue, PollEvents)>,
    pub kept: Vec<Arc<Tcp>>,
}

impl State {
    /// Of an interface whose packet socket is `fd`.
    pub fn new(config: &boot::Interface, fd: i32, seed: &[u8; 32]) -> State {
        let mut link = Link::new(fd, config.mtu as usize);
        let mut setting = Config::new(EthernetAddress(config.hardware).into());
        setting.random_seed = seed.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        let mut interface = Interface::new(setting, &mut link.with(None), instant(time::monotonic()));
        interface.update_ip_addrs(|addresses| {
            for (ip, prefix) in &config.addresses {
                // The launcher has counted them.
                let _ = addresses.push(IpCidr::new((*ip).into(), *prefix));
            }
        });
        interface.routes_mut().update(|routes| {
            for route in &config.routes {
                let cidr = IpCidr::new(route.to.0.into(), route.to.1);
                let via_router = route.via.into();
                let _ = routes.push(Route { cidr, via_router, preferred_until: None, expires_at: None });
            }
        });
        State {
            interface,
            link,
            hardware: config.hardware,
            empty: SocketSet::new(vec![]),
            connections: HashMap::new(),
            half_open: VecDeque::new(),
            time_wait: VecDeque::new(),
            blocked: HashMap::new(),
            timers: BTreeSet::new(),
            datagrams: Datagrams::new(),
            frames: vec![0; FRAME_ROOM * host::FRAMES_AT_ONCE],
            next: 1,
            news: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// When something is to be done, whoever comes.
    pub fn deadline(&self) -> Option<u64> {
        let first = self.timers.first().map(|(deadline, _)| *deadline);
        [first, self.datagrams.deadline()].into_iter().flatten().min()
    }

    /// Takes frames that have come in; how many.
    pub fn receive(&mut self) -> usize {
        let mut frames = core::mem::take(&mut self.frames);
        let mut lengths = [0; host::FRAMES_AT_ONCE];
        let count = self.link.receive(&mut frames, &mut lengths);
        for (room, length) in frames.chunks_exact(FRAME_ROOM).zip(lengths).take(count) {
            if let Some((header, frame)) =
                room.get(..length).and_then(|room| room.split_at_checked(HOST_HEADER))
            {
                self.link.traffic.came(frame.len());
                self.frame(frame, frame::is_vouched(header));
            }
        }
        self.frames = frames;
        count
    }

    fn frame(&mut self, frame: &[u8], vouched: bool) {
        match frame::content(frame, self.hardware, vouched) {
            Content::Nothing => {}
            Content::Tcp(segment) => self.segment(frame, segment),
            Content::Udp(datagram) => {
                if !self.datagram(&datagram) {
                    self.pass(frame);
                }
            }
            Content::Icmp(control) => {
                self.control(&control);
                self.pass(frame);
                self.heard_of(frame::neighbour(frame));
            }
            Content::Fragment => {
                for whole in self.reassemble(frame) {
                    self.frame(&whole, false);
                }
            }
            Content::Other => {
                self.pass(frame);
                self.heard_of(frame::neighbour(frame));
            }
        }
    }

    /// Gives a frame to the interface alone, which answers for neighbours, echoes, and for what nobody takes.
    fn pass(&mut self, frame: &[u8]) {
        let now = instant(time::monotonic());
        self.interface.poll_ingress_single(now, &mut self.link.with(Some(frame)), &mut self.empty);
        // Reports to groups.
        self.interface.poll_egress(now, &mut self.link.with(None), &mut self.empty);
    }

    /// A neighbour may have answered: those who wait for it try again.
    fn heard_of(&mut self, neighbour: Option<IpAddr>) {
        let Some(neighbour) = neighbour else { return };
        for place in self.blocked.remove(&neighbour).unwrap_or_default() {
            if let Some(connection) = self.connections.get_mut(&place) {
                connection.waits_for = None;
                self.settle(place);
            }
        }
        self.look_at_unsent();
    }

    fn segment(&mut self, frame: &[u8], segment: Segment) {
        let place = Place { local: segment.to, peer: segment.from };
        let opens = segment.syn && !segment.ack && !segment.reset;
        if let Some(connection) = self.connections.get(&place)
            && opens
            && matches!(connection.state(), Phase::TimeWait | Phase::Closed)
        {
            self.forget(place);
        }
        let now = instant(time::monotonic());
        let Some(connection) = self.connections.get_mut(&place) else {
            if opens && let Some(listener) = tcp::listening(place.local) {
                self.open(frame, place, listener);
            } else {
                self.pass(frame);
            }
            return;
        };
        let (before, sent) = (connection.state(), self.link.segments);
        let port = &mut self.link.with(Some(frame));
        self.interface.poll_ingress_single(now, port, &mut connection.sockets);
        // What was answered by a reset was no answer.
        let answered = segment.reset || self.link.segments == sent;
        if before == Phase::SynSent && connection.state() == before && !answered {
            connection.ask_again(self.interface.context(), place);
        }
        if segment.reset && before != Phase::Closed && connection.state() == Phase::Closed {
            connection.error = Some(match before {
                Phase::SynSent => Errno::ECONNREFUSED,
                Phase::CloseWait => Errno::EPIPE,
                _ => Errno::ECONNRESET,
            });
        }
        self.settle(place);
    }

    /// Somebody asks for a connection with a server that may have no place left: then there is no answer, as on Linux.
    fn open(&mut self, frame: &[u8], place: Place, listener: Arc<Tcp>) {
        let own = self.interface.has_ip_addr(place.local.ip());
        if own && listener.has_place() {
            while self.half_open.len() >= HALF_OPEN_MAX
                && let Some((oldest, id)) = self.half_open.pop_front()
            {
                if self.get(oldest, id).is_some_and(|connection| !connection.established) {
                    self.forget(oldest);
                }
            }
            let mut connection = Connection::new(self.new_id());
            let local = IpListenEndpoint { addr: Some(place.local.ip().into()), port: place.local.port() };
            let listens = connection.socket_mut().listen(local).is_ok();
            let now = instant(time::monotonic());
            let port = &mut self.link.with(Some(frame));
            self.interface.poll_ingress_single(now, port, &mut connection.sockets);
            if listens && connection.state() == Phase::SynReceived {
                connection.listener = Some(Arc::downgrade(&listener));
                self.half_open.push_back((place, connection.id));
                self.connections.insert(place, connection);
                self.settle(place);
            }
        }
        self.kept.push(listener);
    }

    fn new_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A connection that is asked for: its number. `EADDRNOTAVAIL` if there is one between the same places.
    pub fn connect(&mut self, place: Place, socket: &Arc<Tcp>) -> Result<u64> {
        if let Some(connection) = self.connections.get(&place) {
            if !connection.may_be_followed() {
                return Err(Errno::EADDRNOTAVAIL);
            }
            self.forget(place);
        }
        let mut connection = Connection::new(self.new_id());
        let id = connection.id;
        connection.ask(self.interface.context(), place)?;
        connection.belongs_to(socket);
        self.connections.insert(place, connection);
        self.settle(place);
        Ok(id)
    }

    /// The connection with this number, if it is still there.
    pub fn get(&mut self, place: Place, id: u64) -> Option<&mut Connection> {
        self.connections.get_mut(&place).filter(|connection| connection.id == id)
    }

    /// The interface's hardware address.
    pub fn hardware(&self) -> [u8; 6] {
        self.hardware
    }

    /// Sends what is in these sockets, and all parts of it.
    pub fn drain(&mut self, sockets: &mut SocketSet<'static>) {
        let now = instant(time::monotonic());
        loop {
            let sent = self.interface.poll_egress(now, &mut self.link.with(None), sockets);
            // Without sockets, only parts are left to be waited for.
            if sent == PollResult::None && self.interface.poll_at(now, &self.empty).is_none() {
                return;
            }
        }
    }

    fn forget(&mut self, place: Place) {
        let Some(mut connection) = self.connections.remove(&place) else { return };
        if !connection.owned
            && let Some(socket) = connection.take_socket()
        {
            socket.ended_on_stack(None);
            self.kept.push(socket);
        }
        if let Some(deadline) = connection.deadline {
            self.timers.remove(&(deadline, place));
        }
        if let Some(neighbour) = connection.waits_for
            && let Some(waiting) = self.blocked.get_mut(&neighbour)
        {
            waiting.remove(&place);
            if waiting.is_empty() {
                self.blocked.remove(&neighbour);
            }
        }
    }

    /// Something has happened to a connection: sends what it has to send, tells what is new, and looks when it is next to be
    /// looked at.
    pub fn settle(&mut self, place: Place) {
        let clock = time::monotonic();
        let now = instant(clock);
        let Some(connection) = self.connections.get_mut(&place) else { return };
        connection.set_patience();
        let due = |interface: &mut Interface, connection: &Connection| {
            interface.poll_at(now, &connection.sockets).is_some_and(|at| at <= now)
        };
        if due(&mut self.interface, connection) {
            let (before, sent) = (connection.state(), self.link.segments);
            self.link.gather();
            while let PollResult::SocketStateChanged =
                self.interface.poll_egress(now, &mut self.link.with(None), &mut connection.sockets)
            {
            }
            self.link.send_gathered();
            let after = connection.state();
            if after == Phase::Closed && !matches!(before, Phase::Closed | Phase::TimeWait) {
                connection.error = Some(Errno::ETIMEDOUT);
            }
            // Something was to be sent and was not: its neighbour does not answer (yet).
            connection.note_blocked(self.link.segments == sent && after != Phase::Closed, clock);
        }
        if connection.blocked_since.is_some() && connection.waits_for.is_none() {
            let neighbour = super::next_hop(place.peer.ip());
            connection.waits_for = Some(neighbour);
            self.blocked.entry(neighbour).or_default().insert(place);
        }
        if connection.last.is_some_and(|last| clock >= last) {
            connection.socket_mut().abort();
        }
        if !connection.established
            && !matches!(
                connection.state(),
                Phase::SynSent | Phase::SynReceived | Phase::Listen | Phase::Closed
            )
        {
            connection.established = true;
            connection.set_patience();
            if let Some(listener) = connection.listener.take() {
                let id = connection.id;
                match listener.upgrade() {
                    Some(listener) => self.arrive(place, id, listener),
                    None => connection.leave(true),
                }
            }
        }
        self.conclude(place, clock);
    }

    /// A connection is there, and waits to be accepted.
    fn arrive(&mut self, place: Place, id: u64, listener: Arc<Tcp>) {
        if let Err(unwanted) = listener.arrived_on_stack(super::Stream::new(place, id)) {
            // Not to be dropped under the lock, which it would take.
            unwanted.disown();
            if let Some(connection) = self.get(place, id) {
                connection.leave(true);
            }
        } else {
            self.news.push((listener.queue().clone(), PollEvents::READABLE));
        }
        self.kept.push(listener);
    }

    fn conclude(&mut self, place: Place, clock: u64) {
        let now = instant(clock);
        let Some(connection) = self.connections.get_mut(&place) else { return };
        let news = connection.news();
        if !news.is_empty()
            && let Some(queue) = &connection.queue
        {
            self.news.push((queue.clone(), news));
        }
        // What was asked for by somebody who has thought better of it listens again, in smoltcp.
        let state = connection.state();
        if state == Phase::Listen
            || state == Phase::Closed && (!connection.owned || connection.listener.is_some())
        {
            // A reset that is still to be sent.
            self.interface.poll_egress(now, &mut self.link.with(None), &mut connection.sockets);
            return self.forget(place);
        }
        if state == Phase::TimeWait
            && let Some(socket) = connection.take_socket()
        {
            socket.ended_on_stack(Some(place));
            self.kept.push(socket);
        }
        if state == Phase::TimeWait && !connection.owned && connection.last.is_some() {
            connection.last = None;
            let id = connection.id;
            self.time_wait.push_back((place, id));
            if self.time_wait.len() > TIME_WAIT_MAX
                && let Some((oldest, id)) = self.time_wait.pop_front()
                && self.get(oldest, id).is_some()
            {
                self.forget(oldest);
            }
        }
        let Some(connection) = self.connections.get_mut(&place) else { return };
        let at = self.interface.poll_at(now, &connection.sockets);
        let at = at.map(|at| u64::try_from(at.total_micros()).unwrap_or(0).saturating_mul(1000));
        // What could not be done now is tried again in a moment, not at once.
        let at = at.map(|at| at.max(clock + 1_000_000));
        let at = [at, connection.patience_ends()].into_iter().flatten().min();
        if at != connection.deadline {
            if let Some(before) = connection.deadline {
                self.timers.remove(&(before, place));
            }
            connection.deadline = at;
            self.timers.extend(at.map(|at| (at, place)));
        }
    }

    /// Does what is due.
    pub fn expire(&mut self) {
        let clock = time::monotonic();
        while let Some(&(deadline, place)) = self.timers.first()
            && deadline <= clock
        {
            self.timers.pop_first();
            if let Some(connection) = self.connections.get_mut(&place) {
                connection.deadline = None;
                self.settle(place);
            }
        }
        self.look_at_unsent();
    }

    /// No program has a connection any more: whether `socket`, if it is given, keeps the port for it.
    pub fn leave(&mut self, place: Place, id: u64, at_once: bool, socket: Option<&Arc<Tcp>>) -> bool {
        let Some(connection) = self.get(place, id) else { return false };
        connection.leave(at_once);
        let keeps = socket.is_some_and(|socket| connection.keep(socket.clone()));
        self.settle(place);
        keeps
    }

    /// What ICMP tells of a segment that was sent between these places: a connection that is being made comes to nothing.
    pub fn unreachable(&mut self, local: SocketAddr, peer: SocketAddr, error: Errno) {
        let place = Place { local, peer };
        if let Some(connection) = self.connections.get_mut(&place)
            && connection.state() == Phase::SynSent
        {
            connection.socket_mut().abort();
            connection.error = Some(error);
            self.settle(place);
        }
    }
}
