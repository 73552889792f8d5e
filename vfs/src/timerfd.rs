//! timerfd_create(2).
//!
//! As on Linux a timer with an interval is not set again before its expiries were read: what nobody reads costs nothing, and
//! how often it would have expired is reckoned when somebody asks.

use crate::anonymous::shared_attributes;
use crate::attributes::Attributes;
use crate::file::{FileOps, OpenFile};
use crate::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use kernel::poll::{PollEvents, PollTable};
use kernel::sync::Mutex;
use kernel::time;
use kernel::timer::{self, Expire, TimerId};
use kernel::uaccess::Sink;
use kernel::wait::{self, WaitQueue};

/// When it expires, and how often it did. Times are `CLOCK_MONOTONIC`, ns.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Schedule {
    /// `None` when disarmed.
    next: Option<u64>,
    /// 0: once.
    interval: u64,
    /// Expiries that were not read.
    count: u64,
}

impl Schedule {
    /// Counts the expiries up to now.
    fn catch_up(&mut self, now: u64) {
        let Some(next) = self.next.filter(|next| *next <= now) else { return };
        match (now - next).checked_div(self.interval) {
            None => {
                self.next = None;
                self.count = self.count.saturating_add(1);
            }
            Some(missed) => {
                let expired = missed.saturating_add(1);
                self.count = self.count.saturating_add(expired);
                self.next = Some(next.saturating_add(expired.saturating_mul(self.interval)));
            }
        }
    }

    /// Time to the next expiry (0 when disarmed), and the interval.
    fn setting(&self, now: u64) -> (u64, u64) {
        (self.next.map_or(0, |next| next.saturating_sub(now).max(1)), self.interval)
    }
}

#[derive(Default)]
struct State {
    schedule: Schedule,
    /// What the warden serves, and for when.
    armed: Option<(u64, TimerId)>,
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
    /// nanoseconds to the next expiry (0 when disarmed), and the interval.
    pub fn set(&self, first: Option<u64>, interval: u64) -> (u64, u64) {
        let now = time::monotonic();
        let mut state = self.state.lock();
        state.schedule.catch_up(now);
        let old = state.schedule.setting(now);
        state.schedule = Schedule { next: first, interval, count: 0 };
        self.arm(&mut state);
        old
    }

    /// Nanoseconds to the next expiry (0 when disarmed), and the interval.
    pub fn get(&self) -> (u64, u64) {
        let now = time::monotonic();
        let mut state = self.state.lock();
        state.schedule.catch_up(now);
        self.arm(&mut state);
        state.schedule.setting(now)
    }

    /// Has the warden serve the next expiry, and no other.
    fn arm(&self, state: &mut State) {
        let next = state.schedule.next;
        if state.armed.map(|(at, _)| at) == next {
            return;
        }
        if let Some((_, id)) = state.armed.take() {
            timer::cancel(id);
        }
        if let (Some(at), Some(this)) = (next, self.this.upgrade()) {
            state.armed = Some((at, timer::add(at, this)));
        }
    }

    fn try_read(&self) -> Option<u64> {
        let now = time::monotonic();
        let mut state = self.state.lock();
        state.schedule.catch_up(now);
        let count = core::mem::take(&mut state.schedule.count);
        self.arm(&mut state);
        (count > 0).then_some(count)
    }
}

impl Expire for TimerFd {
    fn expire(&self) {
        let now = time::monotonic();
        let ready = {
            let mut state = self.state.lock();
            // It is out of the warden's list, unless it was armed anew meanwhile.
            state.armed = state.armed.filter(|(at, _)| *at > now);
            state.schedule.catch_up(now);
            if state.schedule.count == 0 {
                self.arm(&mut state);
            }
            state.schedule.count > 0
        };
        if ready {
            self.queue.wake_all(PollEvents::READABLE);
        }
    }
}

impl Drop for TimerFd {
    fn drop(&mut self) {
        if let Some((_, id)) = self.state.get_mut().armed.take() {
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
        let now = time::monotonic();
        let mut state = self.state.lock();
        state.schedule.catch_up(now);
        if state.schedule.count > 0 { PollEvents::READABLE } else { PollEvents::empty() }
    }

    fn pollable(&self) -> bool {
        true
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(shared_attributes())
    }

    fn describe(&self) -> String {
        "anon_inode:[timerfd]".into()
    }

    fn fdinfo(&self) -> String {
        let now = time::monotonic();
        let mut schedule = self.state.lock().schedule;
        schedule.catch_up(now);
        let (left, interval) = schedule.setting(now);
        let pair = |ns: u64| format!("({}, {})", ns / time::SECOND, ns % time::SECOND);
        format!(
            "clockid: {}\nticks: {}\nit_value: {}\nit_interval: {}\n",
            self.clock,
            schedule.count,
            pair(left),
            pair(interval)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_expiry_is_counted_once_and_disarms() {
        let mut schedule = Schedule { next: Some(100), interval: 0, count: 0 };
        schedule.catch_up(99);
        assert_eq!((schedule.count, schedule.setting(99)), (0, (1, 0)));
        schedule.catch_up(100);
        schedule.catch_up(1000);
        assert_eq!((schedule.count, schedule.setting(1000)), (1, (0, 0)));
    }

    #[test]
    fn expiries_of_an_interval_that_nobody_read_add_up() {
        let mut schedule = Schedule { next: Some(100), interval: 10, count: 0 };
        schedule.catch_up(135);
        assert_eq!((schedule.count, schedule.next), (4, Some(140)));
        schedule.catch_up(139);
        assert_eq!(schedule.count, 4);
        schedule.catch_up(u64::MAX);
        assert_eq!(schedule.next, Some(u64::MAX));
    }
}
