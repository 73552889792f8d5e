//! One timer of a program: a clock, the next expiry, the interval, and who is told.

use super::super::processor::{Owner, ProcessorClock};
use crate::Result;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicI32, Ordering};
use kernel::signal::{self, SigInfo};
use kernel::sync::Mutex;
use kernel::task::{Task, ThreadGroup, work};
use kernel::time;
use kernel::timer::{self, Expire, TimerId};
use trap_handler::host;

/// Who is told of an expiry.
pub enum Target {
    /// A process.
    Group(Weak<ThreadGroup>),
    /// A thread.
    Thread(Weak<Task>),
    /// Nobody: the program asks.
    Nobody,
}

/// What a timer runs by.
pub enum Clock {
    /// A clock of the system, which all run as fast as `CLOCK_MONOTONIC`.
    System(u32),
    /// Processor time.
    Processor(ProcessorClock),
}

impl Clock {
    /// The time that expiries are noted in: `CLOCK_MONOTONIC`, or processor time.
    fn now(&self) -> Result<u64> {
        match self {
            Clock::System(_) => Ok(time::monotonic()),
            Clock::Processor(clock) => clock.now(),
        }
    }
}

#[derive(Default)]
struct Setting {
    /// The next expiry, by [`Clock::now`].
    next: Option<u64>,
    interval: u64,
    armed: Option<TimerId>,
}

/// One timer of a program.
pub struct ProgramTimer {
    clock: Clock,
    target: Target,
    info: SigInfo,
    setting: Mutex<Setting>,
    /// Expiries that the last signal stands for, beyond the first.
    pub overrun: AtomicI32,
    this: Weak<ProgramTimer>,
}

/// How often the warden looks at processor time at most: nothing on the host tells it of an expiry.
const LOOK_NS: u64 = 1_000_000;

impl ProgramTimer {
    /// A timer that is not armed.
    pub fn new(clock: Clock, target: Target, info: SigInfo) -> Arc<ProgramTimer> {
        Arc::new_cyclic(|this| ProgramTimer {
            clock,
            target,
            info,
            setting: Mutex::default(),
            overrun: AtomicI32::new(0),
            this: this.clone(),
        })
    }

    /// Nanoseconds to the next expiry (0 when disarmed), and the interval.
    pub fn get(&self) -> (u64, u64) {
        let now = self.clock.now().unwrap_or(0);
        let setting = self.setting.lock();
        (setting.next.map_or(0, |next| next.saturating_sub(now).max(1)), setting.interval)
    }

    /// Lets it expire `after` nanoseconds (0 disarms it) and then every `interval`; what was set.
    pub fn set(&self, after: u64, interval: u64) -> Result<(u64, u64)> {
        let first = if after > 0 { Some(self.clock.now()?.saturating_add(after)) } else { None };
        let old = self.get();
        {
            let mut setting = self.setting.lock();
            setting.next = first;
            setting.interval = interval;
        }
        self.arm();
        Ok(old)
    }

    /// What is left until `value` on the timer's clock (`TIMER_ABSTIME`); at least 1, for 0 would disarm it.
    pub fn left_until(&self, value: u64) -> Result<u64> {
        let now = match &self.clock {
            Clock::System(clock) => host::clock_ns(*clock)?,
            Clock::Processor(clock) => clock.now()?,
        };
        Ok(value.saturating_sub(now).max(1))
    }

    /// Has the warden look at the time when the next expiry can have come.
    fn arm(&self) {
        let (next, armed) = {
            let mut setting = self.setting.lock();
            (setting.next, setting.armed.take())
        };
        if let Some(id) = armed {
            timer::cancel(id);
        }
        let (Some(next), Some(this)) = (next, self.this.upgrade()) else { return };
        let at = match &self.clock {
            Clock::System(_) => next,
            Clock::Processor(clock) => {
                let left = clock.now().map_or(0, |now| next.saturating_sub(now));
                time::monotonic().saturating_add(clock.real_time_for(left).max(LOOK_NS))
            }
        };
        let id = timer::add(at, this);
        self.setting.lock().armed = Some(id);
    }

    /// Tells the target if the next expiry has come, and arms the timer for the one after it.
    fn settle(&self, now: u64) {
        let mut missed_now = 0;
        let due = {
            let mut setting = self.setting.lock();
            let due = setting.next.filter(|due| *due <= now);
            if let Some(due) = due {
                let missed = (now - due).checked_div(setting.interval);
                missed_now = missed.unwrap_or(0).min(i32::MAX as u64) as i32;
                setting.next =
                    missed.map(|missed| due.saturating_add((missed + 1).saturating_mul(setting.interval)));
            }
            due
        };
        self.arm();
        if due.is_some() {
            // What is missed while the signal pends counts together.
            let before =
                if self.pends() { self.overrun.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
            self.overrun.store(before.saturating_add(missed_now), Ordering::Relaxed);
            self.tell(missed_now);
        }
    }

    /// Whether the signal of an earlier expiry is still to be delivered.
    fn pends(&self) -> bool {
        let Some(id) = self.info.timer() else { return false };
        let signal = self.info.signal;
        match &self.target {
            Target::Group(group) => {
                group.upgrade().is_some_and(|group| group.signals.lock().pending.has_timer(signal, id))
            }
            Target::Thread(task) => {
                task.upgrade().is_some_and(|task| task.signals.lock().pending.has_timer(signal, id))
            }
            Target::Nobody => false,
        }
    }

    fn tell(&self, missed: i32) {
        let mut info = self.info;
        if info.timer().is_some() {
            info.add_overrun(missed);
        }
        match &self.target {
            Target::Group(group) => {
                if let Some(group) = group.upgrade() {
                    let _ = signal::send_to_group(&group, info);
                }
            }
            Target::Thread(task) => {
                if let Some(task) = task.upgrade() {
                    let _ = signal::send_to_task(&task, info);
                }
            }
            Target::Nobody => {}
        }
    }

    /// The calling thread looks at a timer of its own processor time, which the warden cannot see.
    pub fn look_from_thread(&self) {
        if let Clock::Processor(clock) = &self.clock
            && clock.is_current_thread()
            && let Ok(now) = clock.now()
        {
            self.settle(now);
        }
    }
}

impl Drop for ProgramTimer {
    fn drop(&mut self) {
        if let Some(id) = self.setting.lock().armed.take() {
            timer::cancel(id);
        }
    }
}

impl Expire for ProgramTimer {
    fn expire(&self) {
        if let Clock::Processor(ProcessorClock { owner: Owner::Thread(task), .. }) = &self.clock {
            let Some(task) = task.upgrade() else { return };
            // A thread inside the kernel uses no time to speak of, and must not have its sleep cut short.
            if task.state.runs_program() {
                signal::kick(&task, work::CALLS);
            }
            self.arm();
        } else if let Ok(now) = self.clock.now() {
            self.settle(now);
        }
    }
}
