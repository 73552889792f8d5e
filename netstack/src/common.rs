//! What every socket has: its family, options of the level `SOL_SOCKET`, timeouts, pending error, wait queue.

use crate::message::Incoming;
use crate::{Errno, Result};
use core::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};
use kernel::sync::Mutex;
use kernel::time;
use kernel::wait::{self, Ended, WaitQueue};
use linux_raw_sys::net;
use vfs::anonymous::Birth;
use vfs::signal_io::Owner;

bitflags::bitflags! {
    /// Options that are on or off.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Switches: u32 {
        /// `SO_DEBUG`
        const DEBUG = 1;
        /// `SO_REUSEADDR`
        const REUSE_ADDRESS = 2;
        /// `SO_REUSEPORT`
        const REUSE_PORT = 4;
        /// `SO_DONTROUTE`
        const DONT_ROUTE = 8;
        /// `SO_BROADCAST`
        const BROADCAST = 0x10;
        /// `SO_KEEPALIVE`
        const KEEP_ALIVE = 0x20;
        /// `SO_OOBINLINE`
        const OOB_INLINE = 0x40;
        /// `SO_PASSCRED`
        const PASS_CREDENTIALS = 0x80;
        /// `SO_PASSPIDFD`
        const PASS_PIDFD = 0x100;
        /// `SO_TIMESTAMP`
        const TIMESTAMP = 0x200;
        /// `SO_TIMESTAMPNS`
        const TIMESTAMP_NS = 0x400;
        /// `SO_RXQ_OVFL`
        const OVERFLOWS = 0x800;
        /// `SO_NO_CHECK`
        const NO_CHECK = 0x1000;
        /// `SO_PASSSEC`
        const PASS_SECURITY = 0x2000;
        /// `SO_ZEROCOPY`
        const ZERO_COPY = 0x4000;
        /// `SO_SELECT_ERR_QUEUE`
        const SELECT_ERROR_QUEUE = 0x8000;
    }
}

/// Default of `SO_SNDBUF` and `SO_RCVBUF` (`net.core.{r,w}mem_default`).
pub const BUFFER_DEFAULT: u32 = 212_992;

/// The part that all sockets have.
pub struct Common {
    /// `AF_*`.
    pub family: u32,
    /// `SOCK_*`.
    pub kind: u32,
    /// Protocol number.
    pub protocol: u32,
    /// Inode number, owner.
    pub birth: Birth,
    /// Permission bits, and owner as fchown(2) set it.
    pub(crate) mode: AtomicU32,
    pub(crate) owner: (AtomicU32, AtomicU32),
    /// Woken at every change of readiness.
    pub queue: WaitQueue,
    /// Whom SIGURG goes to.
    pub(crate) owner_of_signals: Mutex<Owner>,
    switches: AtomicU32,
    error: AtomicI32,
    /// `SO_SNDBUF`, `SO_RCVBUF` in bytes as getsockopt(2) reports them, `SO_RCVLOWAT`.
    pub(crate) send_buffer: AtomicU32,
    pub(crate) receive_buffer: AtomicU32,
    pub(crate) low_water: AtomicU32,
    /// `SO_SNDTIMEO`, `SO_RCVTIMEO` in nanoseconds; 0 for none.
    pub(crate) send_timeout: AtomicU64,
    pub(crate) receive_timeout: AtomicU64,
    /// `SO_LINGER` in seconds; negative when off (the seconds are kept, complemented).
    pub(crate) linger: AtomicI64,
    /// `SO_PEEK_OFF`; negative when off.
    pub(crate) peek_offset: AtomicI32,
    pub(crate) priority: AtomicU32,
    pub(crate) mark: AtomicU32,
}

impl Common {
    /// Of a new socket that the running task makes.
    pub fn new(family: u32, kind: u32, protocol: u32) -> Common {
        Common {
            family,
            kind,
            protocol,
            birth: Birth::by_current(),
            mode: AtomicU32::new(0o777),
            owner: (AtomicU32::new(u32::MAX), AtomicU32::new(u32::MAX)),
            queue: WaitQueue::new(),
            owner_of_signals: Mutex::default(),
            switches: AtomicU32::new(0),
            error: AtomicI32::new(0),
            send_buffer: AtomicU32::new(BUFFER_DEFAULT),
            receive_buffer: AtomicU32::new(BUFFER_DEFAULT),
            low_water: AtomicU32::new(1),
            send_timeout: AtomicU64::new(0),
            receive_timeout: AtomicU64::new(0),
            linger: AtomicI64::new(-1),
            peek_offset: AtomicI32::new(-1),
            priority: AtomicU32::new(0),
            mark: AtomicU32::new(0),
        }
    }

    /// Takes over what an accepted socket has from the listening one.
    pub fn inherit(&self, from: &Common) {
        let copy =
            |to: &AtomicU32, from: &AtomicU32| to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        copy(&self.switches, &from.switches);
        copy(&self.send_buffer, &from.send_buffer);
        copy(&self.receive_buffer, &from.receive_buffer);
        copy(&self.low_water, &from.low_water);
        copy(&self.priority, &from.priority);
        copy(&self.mark, &from.mark);
        self.send_timeout.store(from.send_timeout.load(Ordering::Relaxed), Ordering::Relaxed);
        self.receive_timeout.store(from.receive_timeout.load(Ordering::Relaxed), Ordering::Relaxed);
        self.linger.store(from.linger.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Takes over which credentials a listening socket passes, which is all that unix sockets hand on.
    pub fn inherit_passing(&self, from: &Common) {
        let passing = Switches::PASS_CREDENTIALS | Switches::PASS_PIDFD | Switches::PASS_SECURITY;
        let bits = from.switches.load(Ordering::Relaxed) & passing.bits();
        self.switches.fetch_or(bits, Ordering::Relaxed);
    }

    /// Whether an option is on.
    pub fn is_on(&self, switch: Switches) -> bool {
        self.switches.load(Ordering::Relaxed) & switch.bits() != 0
    }

    /// Turns an option on or off.
    pub fn switch(&self, switch: Switches, on: bool) {
        if on {
            self.switches.fetch_or(switch.bits(), Ordering::Relaxed);
        } else {
            self.switches.fetch_and(!switch.bits(), Ordering::Relaxed);
        }
    }

    /// Notes an error for the next call or `SO_ERROR`.
    pub fn set_error(&self, error: Errno) {
        self.error.store(error.0, Ordering::SeqCst);
    }

    /// The pending error, which is thereby reported.
    pub fn take_error(&self) -> Option<Errno> {
        if self.error.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let error = self.error.swap(0, Ordering::SeqCst);
        (error != 0).then_some(Errno(error))
    }

    /// Whether an error is pending.
    pub fn has_error(&self) -> bool {
        self.error.load(Ordering::SeqCst) != 0
    }

    /// Bytes that may be on their way from this socket.
    pub fn send_room(&self) -> usize {
        self.send_buffer.load(Ordering::Relaxed) as usize
    }

    /// Bytes that may wait in this socket.
    pub fn receive_room(&self) -> usize {
        self.receive_buffer.load(Ordering::Relaxed) as usize
    }

    /// Bytes that a stream's receive call waits for: all of `wanted` (`MSG_WAITALL`), or `SO_RCVLOWAT`.
    pub fn target(&self, all: bool, wanted: usize) -> usize {
        if all { wanted } else { (self.low_water.load(Ordering::Relaxed) as usize).min(wanted).max(1) }
    }

    /// `SO_PEEK_OFF`: peeking moves the offset on, reading moves it back.
    pub(crate) fn move_peek_offset(&self, forward: bool, count: usize) {
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let _ = self.peek_offset.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |offset| {
            (offset >= 0).then(|| {
                if forward { offset.saturating_add(count) } else { offset.saturating_sub(count).max(0) }
            })
        });
    }

    /// `SO_TIMESTAMP`, `SO_TIMESTAMPNS`: when a message came, which is when it is received: nothing that waits here has come from
    /// far.
    pub fn stamp(&self, message: &mut Incoming<'_, '_>) {
        let in_nanoseconds = self.is_on(Switches::TIMESTAMP_NS);
        if !in_nanoseconds && !self.is_on(Switches::TIMESTAMP) {
            return;
        }
        let now = time::realtime();
        let (kind, part) = match in_nanoseconds {
            true => (net::SO_TIMESTAMPNS, now % time::SECOND),
            false => (net::SO_TIMESTAMP, now % time::SECOND / 1000),
        };
        let words = [now / time::SECOND, part];
        let data = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        message.ancillary.push((net::SOL_SOCKET, kind, data));
    }

    /// How a sending call waits.
    pub fn sending(&self, nonblocking: bool) -> Waiting {
        Waiting::new(nonblocking, self.send_timeout.load(Ordering::Relaxed))
    }

    /// How a receiving call waits.
    pub fn receiving(&self, nonblocking: bool) -> Waiting {
        Waiting::new(nonblocking, self.receive_timeout.load(Ordering::Relaxed))
    }
}

/// How long a call may wait; the time is counted from its first wait.
pub struct Waiting {
    nonblocking: bool,
    timeout: u64,
    deadline: Option<u64>,
}

impl Waiting {
    fn new(nonblocking: bool, timeout: u64) -> Waiting {
        Waiting { nonblocking, timeout, deadline: None }
    }

    /// Tries until `attempt` gives something. `EAGAIN` if the call must not wait or has waited long enough; `EINTR` for a
    /// signal when there is a timeout, `ERESTARTSYS` otherwise (signal(7)).
    pub fn until<T>(
        &mut self,
        queues: &[&WaitQueue],
        mut attempt: impl FnMut() -> Option<Result<T>>,
    ) -> Result<T> {
        if let Some(outcome) = attempt() {
            return outcome;
        }
        self.sleep(queues, attempt)
    }

    /// As [`Self::until`], for a caller that has just tried.
    pub fn sleep<T>(
        &mut self,
        queues: &[&WaitQueue],
        attempt: impl FnMut() -> Option<Result<T>>,
    ) -> Result<T> {
        if self.nonblocking {
            return Err(Errno::EAGAIN);
        }
        if self.timeout != 0 && self.deadline.is_none() {
            self.deadline = Some(time::monotonic().saturating_add(self.timeout));
        }
        wait::until(queues, self.deadline, attempt).unwrap_or_else(|ended| match ended {
            Ended::TimedOut => Err(Errno::EAGAIN),
            Ended::Interrupted if self.timeout != 0 => Err(Errno::EINTR),
            Ended::Interrupted => Err(Errno::ERESTARTSYS),
        })
    }
}
