//! A connection of TCP over the interface: smoltcp's state machine, and what a program may learn of it.

use super::Place;
use crate::inet::tcp::Tcp;
use crate::socket::Shutdown;
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec;
use boundary::sysctl::{KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, KEEPALIVE_TIME};
use core::net::IpAddr;
use kernel::poll::PollEvents;
use kernel::wait::WaitQueue;
use kernel::{boot, time};
use smoltcp::iface::{Context, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::Duration;

/// Bytes that may wait in either direction.
pub const BUFFER: usize = 256 << 10;
/// How long data may stay unacknowledged, and a connection unanswered (`net.ipv4.tcp_retries2`, `tcp_syn_retries`).
const GIVE_UP: u64 = 924;
const GIVE_UP_CONNECTING: u64 = 127;
/// How long a neighbour may take to answer (`mcast_solicit` times `retrans_time_ms`).
const NEIGHBOUR: u64 = 3 * time::SECOND;
/// How long what no program has any more may take over its end (`net.ipv4.tcp_fin_timeout`), and over the data that it has left.
const LAST: u64 = 60 * time::SECOND;

/// Keepalive, as the options say: whether, and seconds of silence, between probes, and number of these.
#[derive(Debug, Clone, Copy)]
pub struct KeepAlive {
    pub on: bool,
    pub idle: u32,
    pub interval: u32,
    pub count: u32,
}

impl Default for KeepAlive {
    fn default() -> KeepAlive {
        let number = |setting| boot::sysctl_number(setting, 0) as u32;
        KeepAlive {
            on: false,
            idle: number(&KEEPALIVE_TIME),
            interval: number(&KEEPALIVE_INTERVAL),
            count: number(&KEEPALIVE_PROBES),
        }
    }
}

/// A connection.
pub struct Connection {
    /// Tells it from others that had its place.
    pub id: u64,
    /// With this one socket. smoltcp asks each socket of a set whose a segment is, and each at every look what it has to send: so
    /// each has a set of its own, and the table of connections says whose a segment is.
    pub sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// Whom it tells.
    pub queue: Option<WaitQueue>,
    /// The socket that has its port, and that socket once no program has it any more: until the connection has come to its end.
    socket: Weak<Tcp>,
    keeper: Option<Arc<Tcp>>,
    /// Whose queue it is for, until it is there.
    pub listener: Option<Weak<Tcp>>,
    /// A program has it, or will.
    pub owned: bool,
    pub established: bool,
    /// Why it has ended, until somebody was told.
    pub error: Option<Errno>,
    /// What the program has shut.
    pub shut: Shutdown,
    /// A writer waits for room.
    pub wants_room: bool,
    /// It was asked for a second time without waiting.
    asked_again: bool,
    /// Its neighbour has not answered since then.
    pub blocked_since: Option<u64>,
    /// The neighbour, as long as it is waited for.
    pub waits_for: Option<IpAddr>,
    /// When it is given up, whatever it does.
    pub last: Option<u64>,
    /// When it is looked at again, as the timers have it.
    pub deadline: Option<u64>,
    /// What listeners were told last, and how many bytes waited then.
    told: PollEvents,
    seen: usize,
    keep_alive: KeepAlive,
    user_timeout: u32,
}

impl Connection {
    /// A socket that does nothing yet.
    pub fn new(id: u64) -> Connection {
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_congestion_control(CongestionControl::Reno);
        socket.set_timeout(Some(Duration::from_secs(GIVE_UP_CONNECTING)));
        let mut sockets = SocketSet::new(vec![]);
        let handle = sockets.add(socket);
        Connection {
            id,
            sockets,
            handle,
            queue: None,
            socket: Weak::new(),
            keeper: None,
            listener: None,
            owned: true,
            established: false,
            error: None,
            shut: Shutdown::empty(),
            wants_room: false,
            asked_again: false,
            blocked_since: None,
            waits_for: None,
            last: None,
            deadline: None,
            told: PollEvents::empty(),
            seen: 0,
            keep_alive: KeepAlive::default(),
            user_timeout: 0,
        }
    }

    /// Its state machine.
    pub fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }

    /// Likewise, to change it.
    pub fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Asks the other side for it: `EADDRNOTAVAIL`.
    pub fn ask(&mut self, context: &mut Context, place: Place) -> Result<()> {
        self.socket_mut().connect(context, place.peer, place.local).map_err(|_| Errno::EADDRNOTAVAIL)
    }

    /// The other side has answered for an earlier connection between the same places, which it still has (`TIME_WAIT`), and was told
    /// by a reset that there is none. So it can be asked again at once, which is done once: as on Linux, a second time is not to wait
    /// for the timer (`tcp_rcv_synsent_state_process`). It begins at another sequence number, as the other side has not taken the first.
    pub fn ask_again(&mut self, context: &mut Context, place: Place) {
        if !core::mem::replace(&mut self.asked_again, true) {
            self.socket_mut().abort();
            // The places were good enough before.
            let _ = self.ask(context, place);
        }
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.socket().state()
    }

    /// Whether it is still being made.
    pub fn is_connecting(&self) -> bool {
        !self.established && matches!(self.state(), State::SynSent | State::SynReceived)
    }

    /// Whether one that is asked for between the same places takes its place: nobody has it, and it only waits.
    pub fn may_be_followed(&self) -> bool {
        match self.state() {
            State::TimeWait | State::Closed => true,
            State::FinWait2 => !self.owned,
            _ => false,
        }
    }

    /// State number of the host kernel (`TCP_*`).
    pub fn state_number(&self) -> u32 {
        match self.state() {
            State::Established => 1,
            State::SynSent => 2,
            State::SynReceived => 3,
            State::FinWait1 => 4,
            State::FinWait2 => 5,
            // What is left of it is no socket's any more.
            State::TimeWait | State::Closed => 7,
            State::CloseWait => 8,
            State::LastAck => 9,
            State::Listen => 10,
            State::Closing => 11,
        }
    }

    /// Whether the other side has said that it sends no more.
    fn is_at_end(&self) -> bool {
        !matches!(
            self.state(),
            State::SynSent | State::SynReceived | State::Established | State::FinWait1 | State::FinWait2
        )
    }

    /// Whether nothing is received any more.
    pub fn is_shut_for_reading(&self) -> bool {
        self.shut.contains(Shutdown::RECEIVE) || self.is_at_end()
    }

    /// Whether a third of the buffer is free, which is when writers are woken (`sk_stream_is_writeable`).
    pub fn is_roomy(&self) -> bool {
        self.socket().send_queue() * 3 <= BUFFER * 2
    }

    /// What it is ready for; `low` bytes are enough to read (`SO_RCVLOWAT`).
    pub fn ready(&self, low: usize) -> PollEvents {
        let mut events = PollEvents::empty();
        events.set(PollEvents::ERR, self.error.is_some());
        if self.is_connecting() {
            return events;
        }
        let ended = self.state() == State::Closed;
        let shut = self.is_shut_for_reading();
        let closed_both = shut && (self.shut.contains(Shutdown::SEND) || ended);
        events.set(PollEvents::HUP, ended || closed_both);
        events.set(PollEvents::RDHUP, shut);
        events.set(PollEvents::READABLE, shut || self.socket().recv_queue() >= low);
        events.set(PollEvents::WRITABLE, !self.socket().may_send() || self.is_roomy());
        events
    }

    /// What has come about since it was asked last.
    pub fn news(&mut self) -> PollEvents {
        let (ready, waiting) = (self.ready(1), self.socket().recv_queue());
        let mut news = ready.difference(self.told);
        news.set(PollEvents::READABLE, news.contains(PollEvents::READABLE) || waiting > self.seen);
        if self.wants_room && ready.contains(PollEvents::WRITABLE) {
            self.wants_room = false;
            news |= PollEvents::WRITABLE;
        }
        (self.told, self.seen) = (ready, waiting);
        news
    }

    /// Keepalive options were set.
    pub fn set_keep_alive(&mut self, change: impl FnOnce(&mut KeepAlive)) {
        change(&mut self.keep_alive);
        let every = self.keep_alive.on.then(|| Duration::from_secs(self.keep_alive.idle.into()));
        self.socket_mut().set_keep_alive(every);
    }

    /// `TCP_USER_TIMEOUT`, in milliseconds; 0 for the default.
    pub fn set_user_timeout(&mut self, timeout: u32) {
        self.user_timeout = timeout;
    }

    /// The time that the other side may be silent depends on what it owes an answer to. (smoltcp counts it for an idle connection,
    /// too.)
    pub fn set_patience(&mut self) {
        let patience = if self.is_connecting() {
            Some(Duration::from_secs(GIVE_UP_CONNECTING))
        } else if self.socket().send_queue() > 0 {
            Some(match self.user_timeout {
                0 => Duration::from_secs(GIVE_UP),
                timeout => Duration::from_millis(timeout.into()),
            })
        } else if self.keep_alive.on {
            let KeepAlive { idle, interval, count, .. } = self.keep_alive;
            let seconds = u64::from(idle) + u64::from(interval) * u64::from(count);
            Some(Duration::from_secs(seconds))
        } else {
            None
        };
        self.socket_mut().set_timeout(patience);
    }

    /// Notes whether it waits for a neighbour; one that was never reached is given up after a while.
    pub fn note_blocked(&mut self, blocked: bool, now: u64) {
        if !blocked {
            self.blocked_since = None;
            return;
        }
        let since = *self.blocked_since.get_or_insert(now);
        if self.state() == State::SynSent && now >= since.saturating_add(NEIGHBOUR) {
            self.error = Some(Errno::EHOSTUNREACH);
            self.socket_mut().abort();
        }
    }

    /// When it gives something up by itself.
    pub fn patience_ends(&self) -> Option<u64> {
        let neighbour = self.blocked_since.filter(|_| self.state() == State::SynSent);
        let neighbour = neighbour.map(|since| since.saturating_add(NEIGHBOUR));
        [neighbour, self.last].into_iter().flatten().min()
    }

    /// A program has it: this socket is told from now on.
    pub fn belongs_to(&mut self, socket: &Arc<Tcp>) {
        self.queue = Some(socket.queue().clone());
        self.socket = Arc::downgrade(socket);
    }

    /// Whose port it has been until now; nobody's any more.
    pub fn take_socket(&mut self) -> Option<Arc<Tcp>> {
        let socket = core::mem::take(&mut self.socket);
        self.keeper.take().or_else(|| socket.upgrade())
    }

    /// Its socket is to keep the port until the connection has come to its end; whether that is still to come.
    pub fn keep(&mut self, socket: Arc<Tcp>) -> bool {
        let goes_on = !matches!(self.state(), State::Closed | State::TimeWait);
        self.keeper = Some(socket).filter(|_| goes_on);
        goes_on
    }

    /// No program has it any more: it says so to the other side, and has some time for that. What was not read yet is lost, of which
    /// the other side is to hear (RFC 2525, section 2.17).
    pub fn leave(&mut self, at_once: bool) {
        self.owned = false;
        self.queue = None;
        self.listener = None;
        let unread = self.socket().recv_queue() > 0;
        if at_once || unread || !self.established {
            self.socket_mut().abort();
        } else {
            self.socket_mut().close();
        }
        self.last = Some(time::monotonic().saturating_add(LAST));
    }

    /// The error that waits.
    pub fn take_error(&mut self) -> Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }
}
