//! timerfd_create(2).

use crate::attributes::Attributes;
use crate::file::{FileOps, OpenFile};
use crate::pipe::anonymous_attributes;
use crate::{Errno, Result};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use kernel::poll::{PollEvents, PollTable};
use kernel::sync::Mutex;
use kernel::time;
use kernel::timer::{self, Expire, TimerId};
use kernel::uaccess::Sink;
use kernel::wait::{self, WaitQueue};

#[derive(Default)]
struct State {
    /// `CLOCK_MONOTONIC` of the next expiry; `None` when disarmed.
    next: Option<u64>,
    interval: u64,
    /// Expiries that were not read.
    count: u64,
    timer: Option<TimerId>,
}

/// A timer that is read.
pub struct TimerFd {
    /// Host clock that settings are in.
    pub clock: u32,
    state: Mutex<State>,
    queue: WaitQueue,
    this: Weak<TimerFd>,
}

impl TimerFd {
    /// A disarmed timer of a clock (`CLOCK_MONOTONIC`, `CLOCK_REALTIME`, `CLOCK_BOOTTIME`).
    pub fn new(clock: u32) -> Arc<TimerFd> {
        Arc::new_cyclic(|this| TimerFd {
            clock,
            state: Mutex::default(),
            queue: WaitQueue::new(),
            this: this.clone(),
        })
    }

    /// Arms it for `first` (`CLOCK_MONOTONIC`, ns; `None` disarms) and then every `interval` ns (0: once). Gives what was set:
    /// nanoseconds to the next expiry, and the interval.
    pub fn set(&self, first: Option<u64>, interval: u64) -> (u64, u64) {
        let old = self.get();
        let cancelled = {
            let mut state = self.state.lock();
            state.next = first;
            state.interval = interval;
            state.count = 0;
            state.timer.take()
        };
        if let Some(id) = cancelled {
            timer::cancel(id);
        }
        self.arm(first);
        old
    }

    /// Nanoseconds to the next expiry (0 when disarmed), and the interval.
    pub fn get(&self) -> (u64, u64) {
        self.catch_up();
        let state = self.state.lock();
        let left = state.next.map_or(0, |next| next.saturating_sub(time::monotonic()).max(1));
        (left, state.interval)
    }

    fn arm(&self, at: Option<u64>) {
        if let (Some(at), Some(this)) = (at, self.this.upgrade()) {
            let id = timer::add(at, this);
            self.state.lock().timer = Some(id);
        }
    }

    /// Counts the expiries up to now; gives the next one to arm for, if that has changed.
    fn catch_up(&self) {
        let now = time::monotonic();
        let mut state = self.state.lock();
        let Some(next) = state.next.filter(|next| *next <= now) else { return };
        let Some(periods) = (now - next).checked_div(state.interval) else {
            state.next = None;
            state.count += 1;
            return;
        };
        let missed = periods.saturating_add(1);
        state.count = state.count.saturating_add(missed);
        state.next = Some(next.saturating_add(missed.saturating_mul(state.interval)));
    }

    fn try_read(&self) -> Option<u64> {
        self.catch_up();
        let mut state = self.state.lock();
        let count = core::mem::take(&mut state.count);
        (count > 0).then_some(count)
    }
}

impl Expire for TimerFd {
    fn expire(&self) {
        self.catch_up();
        let next = self.state.lock().next;
        self.arm(next);
        self.queue.wake_all(PollEvents::READABLE);
    }
}

impl Drop for TimerFd {
    fn drop(&mut self) {
        if let Some(id) = self.state.lock().timer.take() {
            timer::cancel(id);
        }
    }
}

impl FileOps for TimerFd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, file: &OpenFile, _offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        if sink.left() < 8 {
            return Err(Errno::EINVAL);
        }
        let count = match self.try_read() {
            Some(count) => count,
            None if file.nonblocking() => return Err(Errno::EAGAIN),
            None => wait::until(&[&self.queue], None, || self.try_read())
                .map_err(|ended| ended.errno(Errno::EINTR))?,
        };
        sink.put(&count.to_ne_bytes())
    }

    fn poll(&self, table: &mut PollTable) -> PollEvents {
        table.add(&self.queue);
        self.catch_up();
        if self.state.lock().count > 0 { PollEvents::READABLE } else { PollEvents::empty() }
    }

    fn pollable(&self) -> bool {
        true
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(anonymous_attributes(0o600, 1))
    }

    fn describe(&self) -> String {
        "anon_inode:[timerfd]".into()
    }
}
