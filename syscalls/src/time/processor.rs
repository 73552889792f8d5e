//! Clocks of processor time: what a process or a thread has used, as the host counts it (time(7), clock_getcpuclockid(3)).

use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering;
use kernel::task::{Task, ThreadGroup, Times, current, lock_table};
use linux_raw_sys::general as raw;
use trap_handler::host;

/// What is counted: the low bits of a clock's number (`include/linux/posix-timers.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Program and kernel, by ticks: `CPUCLOCK_PROF`.
    Profile = 0,
    /// The program alone: `CPUCLOCK_VIRT`.
    Virtual = 1,
    /// Program and kernel, exactly: `CPUCLOCK_SCHED`.
    Exact = 2,
}

/// Bit of a clock's number that makes it a thread's: `CPUCLOCK_PERTHREAD_MASK`.
const THREAD: i32 = 4;

/// Whose time it is.
#[derive(Clone)]
pub enum Owner {
    /// All threads of a process.
    Process(Weak<ThreadGroup>),
    /// One thread. The host shows it to threads of the same host process only.
    Thread(Weak<Task>),
}

/// A clock of processor time.
#[derive(Clone)]
pub struct ProcessorClock {
    /// Whose time.
    pub owner: Owner,
    which: Which,
}

/// The number by which the host knows the clock of one of its processes or threads.
fn host_number(id: i32, which: Which, thread: i32) -> u32 {
    ((!id << 3) | which as i32 | thread) as u32
}

impl ProcessorClock {
    /// A process's clock.
    pub fn of_process(group: &Arc<ThreadGroup>, which: Which) -> ProcessorClock {
        ProcessorClock { owner: Owner::Process(Arc::downgrade(group)), which }
    }

    /// The clock with this number; `None` if it is not one of processor time. `EINVAL` for one that is not there, or that
    /// belongs to a thread of another process.
    pub fn numbered(clock: i32, task: &Arc<Task>) -> Result<Option<ProcessorClock>> {
        let (id, which, thread) = match clock {
            clock if clock == raw::CLOCK_PROCESS_CPUTIME_ID as i32 => (0, Which::Exact, false),
            clock if clock == raw::CLOCK_THREAD_CPUTIME_ID as i32 => (0, Which::Exact, true),
            0.. => return Ok(None),
            _ => {
                let which = match clock & 3 {
                    0 => Which::Profile,
                    1 => Which::Virtual,
                    2 => Which::Exact,
                    _ => return Err(Errno::EINVAL),
                };
                (!(clock >> 3), which, clock & THREAD != 0)
            }
        };
        let named = |id| task.group.space.named(id);
        let owner = if thread {
            let of = match id {
                0 => Some(task.clone()),
                id => named(id).and_then(|id| task.group.find(id)),
            };
            Owner::Thread(Arc::downgrade(&of.ok_or(Errno::EINVAL)?))
        } else {
            let of = match id {
                0 => Some(task.group.clone()),
                id => named(id).and_then(|id| lock_table().ok()?.group(id)),
            };
            Owner::Process(Arc::downgrade(&of.ok_or(Errno::EINVAL)?))
        };
        Ok(Some(ProcessorClock { owner, which }))
    }

    /// Nanoseconds used so far. `EINVAL` if the owner is gone, or is a thread of another host process.
    pub fn now(&self) -> Result<u64> {
        match &self.owner {
            Owner::Process(group) => {
                let pid = group.upgrade().map_or(0, |group| group.host_pid.load(Ordering::SeqCst));
                if pid == 0 { Err(Errno::EINVAL) } else { host::clock_ns(host_number(pid, self.which, 0)) }
            }
            Owner::Thread(task) => {
                let task = task.upgrade().ok_or(Errno::EINVAL)?;
                let tid = if core::ptr::eq(&*task, current()) { 0 } else { task.host_ids().1 };
                host::clock_ns(host_number(tid, self.which, THREAD))
            }
        }
    }

    /// Whether it counts the calling thread, which then cannot sleep for it.
    pub fn is_current_thread(&self) -> bool {
        matches!(&self.owner, Owner::Thread(task) if task.as_ptr() == current())
    }

    /// The least real time, nanoseconds, in which `used` can pass on it: all its threads may run at once.
    pub fn real_time_for(&self, used: u64) -> u64 {
        let threads = match &self.owner {
            Owner::Process(group) => group.upgrade().map_or(1, |group| group.alive.load(Ordering::SeqCst)),
            Owner::Thread(_) => 1,
        };
        let processors = kernel::boot::config().map_or(1, |config| config.host.cpus.len() as u64);
        used / u64::from(threads).clamp(1, processors.max(1))
    }
}

/// What a living process has used; of one whose threads have ended, what they had used.
pub fn times(group: &Arc<ThreadGroup>) -> Times {
    let clock = |which| ProcessorClock::of_process(group, which).now();
    let clocks = (clock(Which::Exact), clock(Which::Virtual), clock(Which::Profile));
    match (group.alive.load(Ordering::SeqCst), clocks) {
        (1.., (Ok(exact), Ok(user), Ok(all))) => shared_out(exact, user, all),
        _ => *group.ended_times.lock(),
    }
}

/// Shares the exact time out as the ticks, which may have missed much of it, fell to program and kernel (Linux's
/// `cputime_adjust`).
fn shared_out(exact: u64, user_ticks: u64, all_ticks: u64) -> Times {
    let user = match u128::from(user_ticks.min(all_ticks)) * u128::from(exact) {
        product if all_ticks > 0 => (product / u128::from(all_ticks)) as u64,
        _ => exact,
    };
    Times { user, system: exact - user }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_time_is_shared_out_by_ticks() {
        let shared = |exact, user, all| {
            let times = shared_out(exact, user, all);
            (times.user, times.system)
        };
        assert_eq!(shared(50, 20, 20), (50, 0));
        assert_eq!(shared(50, 0, 0), (50, 0));
        assert_eq!(shared(40, 10, 40), (10, 30));
        assert_eq!(shared(u64::MAX, 3, 3), (u64::MAX, 0));
    }
}
