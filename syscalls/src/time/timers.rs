//! Interval timers and POSIX timers: setitimer(2), alarm(2), timer_create(2).

use crate::args::Args;
use crate::table::{Context, Row, Show, full, partial};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicI32, Ordering};
use hashbrown::HashMap;
use kernel::signal::{self, COUNT, SIGALRM, SigInfo, si};
use kernel::sync::{BootCell, Mutex};
use kernel::task::{Task, ThreadGroup, lock_table};
use kernel::timer::{self, Expire, TimerId};
use kernel::{time, uaccess};
use linux_raw_sys::general as raw;
use trap_handler::host;

const A: Show = Show::Address;
const NO_CPU: &str = "ITIMER_VIRTUAL and ITIMER_PROF";
const NO_CPU_CLOCK: &str = "clocks of processor time";

/// The rows of this file.
pub const ROWS: &[Row] = &[
    partial(raw::__NR_getitimer, "getitimer", sys_getitimer, &[Show::Int, A], NO_CPU),
    partial(raw::__NR_setitimer, "setitimer", sys_setitimer, &[Show::Int, A, A], NO_CPU),
    full(raw::__NR_alarm, "alarm", sys_alarm, &[Show::Unsigned]),
    partial(raw::__NR_timer_create, "timer_create", sys_timer_create, &[Show::Int, A, A], NO_CPU_CLOCK),
    full(raw::__NR_timer_settime, "timer_settime", sys_timer_settime, &[Show::Int, Show::Int, A, A]),
    full(raw::__NR_timer_gettime, "timer_gettime", sys_timer_gettime, &[Show::Int, A]),
    full(raw::__NR_timer_getoverrun, "timer_getoverrun", sys_timer_getoverrun, &[Show::Int]),
    full(raw::__NR_timer_delete, "timer_delete", sys_timer_delete, &[Show::Int]),
];

/// Who is told of an expiry.
enum Target {
    Group(Weak<ThreadGroup>),
    Thread(Weak<Task>),
    Nobody,
}

#[derive(Default)]
struct Setting {
    /// `CLOCK_MONOTONIC` of the next expiry.
    next: Option<u64>,
    interval: u64,
    armed: Option<TimerId>,
}

/// One timer of a program.
struct ProgramTimer {
    clock: u32,
    target: Target,
    info: SigInfo,
    setting: Mutex<Setting>,
    overrun: AtomicI32,
    this: Weak<ProgramTimer>,
}

/// A process's timers.
#[derive(Default)]
struct ProcessTimers {
    real: Mutex<Option<Arc<ProgramTimer>>>,
    posix: Mutex<HashMap<i32, Arc<ProgramTimer>>>,
    next_id: AtomicI32,
}

/// By process id.
type Directory = Mutex<HashMap<i32, Arc<ProcessTimers>>>;

static TIMERS: BootCell<Box<Directory>> = BootCell::new();

/// Sets up. Called once, at boot.
pub fn init() {
    TIMERS.set(Box::default());
}

fn timers_of(context: &Context<'_>) -> Result<Arc<ProcessTimers>> {
    let timers = TIMERS.get().ok_or(Errno::ENOSYS)?;
    Ok(timers.lock().entry(context.thread.task.group.tgid).or_default().clone())
}

/// The process has ended: its timers go.
pub fn process_ended(tgid: i32) {
    let gone = TIMERS.get().and_then(|timers| timers.lock().remove(&tgid));
    drop(gone);
}

/// A new program keeps interval timers and loses POSIX ones (execve(2)).
pub fn executed(tgid: i32) {
    let own = TIMERS.get().and_then(|timers| timers.lock().get(&tgid).cloned());
    if let Some(own) = own {
        let gone = core::mem::take(&mut *own.posix.lock());
        drop(gone);
    }
}

impl ProgramTimer {
    fn new(clock: u32, target: Target, info: SigInfo) -> Arc<ProgramTimer> {
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
    fn get(&self) -> (u64, u64) {
        let setting = self.setting.lock();
        (setting.next.map_or(0, |next| next.saturating_sub(time::monotonic()).max(1)), setting.interval)
    }

    /// Arms (or with `None` disarms) it; what was set.
    fn set(&self, first: Option<u64>, interval: u64) -> (u64, u64) {
        let old = self.get();
        let armed = {
            let mut setting = self.setting.lock();
            setting.next = first;
            setting.interval = interval;
            setting.armed.take()
        };
        if let Some(id) = armed {
            timer::cancel(id);
        }
        self.arm(first);
        old
    }

    fn arm(&self, at: Option<u64>) {
        if let (Some(at), Some(this)) = (at, self.this.upgrade()) {
            let id = timer::add(at, this);
            self.setting.lock().armed = Some(id);
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
        let now = time::monotonic();
        let next = {
            let mut setting = self.setting.lock();
            let Some(due) = setting.next.filter(|due| *due <= now) else { return };
            let missed = (now - due).checked_div(setting.interval);
            self.overrun.store(missed.unwrap_or(0).min(i32::MAX as u64) as i32, Ordering::Relaxed);
            setting.next =
                missed.map(|missed| due.saturating_add((missed + 1).saturating_mul(setting.interval)));
            setting.next
        };
        self.arm(next);
        match &self.target {
            Target::Group(group) => {
                if let Some(group) = group.upgrade() {
                    let _ = signal::send_to_group(&group, self.info);
                }
            }
            Target::Thread(task) => {
                if let Some(task) = task.upgrade() {
                    let _ = signal::send_to_task(&task, self.info);
                }
            }
            Target::Nobody => {}
        }
    }
}

fn real_timer(context: &Context<'_>) -> Result<Arc<ProgramTimer>> {
    let timers = timers_of(context)?;
    let mut real = timers.real.lock();
    let timer = real.get_or_insert_with(|| {
        let target = Target::Group(Arc::downgrade(&context.thread.task.group));
        ProgramTimer::new(raw::CLOCK_MONOTONIC, target, SigInfo::new(SIGALRM, si::KERNEL))
    });
    Ok(timer.clone())
}

/// Only ITIMER_REAL is there.
fn check_kind(kind: i32) -> Result<()> {
    match kind {
        0 => Ok(()),
        1 | 2 => {
            kernel::warn!("setitimer: timers of processor time are not supported: EINVAL");
            Err(Errno::EINVAL)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn shown((left, interval): (u64, u64)) -> raw::itimerval {
    // What is left is never shown as zero while the timer runs.
    let micro = |ns: u64| time::timeval(if ns > 0 { ns.max(1000) } else { 0 });
    raw::itimerval { it_interval: time::timeval(interval), it_value: micro(left) }
}

fn sys_getitimer(context: &mut Context<'_>, args: Args) -> Result<u64> {
    check_kind(args.i32(0))?;
    uaccess::write(args.u64(1), &shown(real_timer(context)?.get()))?;
    Ok(0)
}

fn after(ns: u64) -> Option<u64> {
    (ns > 0).then(|| time::monotonic().saturating_add(ns))
}

fn sys_setitimer(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let new: Option<raw::itimerval> = uaccess::read_optional(args.u64(1))?;
    let (value, interval) = match &new {
        Some(new) => (time::from_timeval(&new.it_value)?, time::from_timeval(&new.it_interval)?),
        None => (0, 0),
    };
    check_kind(args.i32(0))?;
    let old = real_timer(context)?.set(after(value), interval);
    uaccess::write_optional(args.u64(2), &shown(old))?;
    Ok(0)
}

fn sys_alarm(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (left, _) = real_timer(context)?.set(after(u64::from(args.u32(0)).saturating_mul(time::SECOND)), 0);
    // Rounded to seconds, but a running alarm is never 0.
    let seconds = left.saturating_add(time::SECOND / 2) / time::SECOND;
    Ok(if left > 0 { seconds.max(1) } else { 0 })
}

fn sys_timer_create(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const SIGEV_NONE: i32 = 1;
    const SIGEV_SIGNAL: i32 = 0;
    const SIGEV_THREAD_ID: i32 = 4;
    let clock = args.u32(0);
    match clock {
        raw::CLOCK_REALTIME | raw::CLOCK_MONOTONIC | raw::CLOCK_BOOTTIME | raw::CLOCK_TAI => {}
        raw::CLOCK_PROCESS_CPUTIME_ID | raw::CLOCK_THREAD_CPUTIME_ID => {
            kernel::warn!("timer_create: timers of processor time are not supported: EOPNOTSUPP");
            return Err(Errno::EOPNOTSUPP);
        }
        _ => return Err(Errno::EINVAL),
    }
    // struct sigevent: value, signal, notify, thread id.
    let event: Option<[u64; 3]> = uaccess::read_optional(args.u64(1))?;
    let timers = timers_of(context)?;
    let id = timers.next_id.fetch_add(1, Ordering::Relaxed);
    let task = &context.thread.task;
    let group = Target::Group(Arc::downgrade(&task.group));
    let (target, number, value) = match event {
        None => (group, SIGALRM, id as u64),
        Some([value, packed, tid]) => {
            let (number, notify) = (packed as i32, (packed >> 32) as i32);
            let target = match notify {
                SIGEV_NONE => Target::Nobody,
                SIGEV_SIGNAL => group,
                SIGEV_THREAD_ID => {
                    let target = lock_table()?.task(tid as i32).ok_or(Errno::EINVAL)?;
                    if !Arc::ptr_eq(&target.group, &task.group) {
                        return Err(Errno::EINVAL);
                    }
                    Target::Thread(Arc::downgrade(&target))
                }
                _ => return Err(Errno::EINVAL),
            };
            if notify != SIGEV_NONE && !(1..=COUNT).contains(&number) {
                return Err(Errno::EINVAL);
            }
            (target, number, value)
        }
    };
    let mut info = SigInfo::new(number, si::TIMER);
    info.fields[0] = u64::from(id as u32);
    info.fields[1] = value;
    uaccess::write(args.u64(2), &id)?;
    timers.posix.lock().insert(id, ProgramTimer::new(clock, target, info));
    Ok(0)
}

fn posix_timer(context: &Context<'_>, id: i32) -> Result<Arc<ProgramTimer>> {
    timers_of(context)?.posix.lock().get(&id).cloned().ok_or(Errno::EINVAL)
}

fn shown_exact((left, interval): (u64, u64)) -> raw::itimerspec {
    raw::itimerspec { it_interval: time::timespec(interval), it_value: time::timespec(left) }
}

fn sys_timer_settime(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const ABSTIME: i32 = 1;
    let new: raw::itimerspec = uaccess::read(args.u64(2))?;
    let (value, interval) = (time::from_timespec(&new.it_value)?, time::from_timespec(&new.it_interval)?);
    let timer = posix_timer(context, args.i32(0))?;
    let first = if value > 0 && args.i32(1) & ABSTIME != 0 {
        let left = value.saturating_sub(host::clock_ns(timer.clock)?);
        Some(time::monotonic().saturating_add(left))
    } else {
        after(value)
    };
    let old = timer.set(first, interval);
    uaccess::write_optional(args.u64(3), &shown_exact(old))?;
    Ok(0)
}

fn sys_timer_gettime(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let timer = posix_timer(context, args.i32(0))?;
    uaccess::write(args.u64(1), &shown_exact(timer.get()))?;
    Ok(0)
}

fn sys_timer_getoverrun(context: &mut Context<'_>, args: Args) -> Result<u64> {
    Ok(posix_timer(context, args.i32(0))?.overrun.load(Ordering::Relaxed) as u64)
}

fn sys_timer_delete(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let removed = timers_of(context)?.posix.lock().remove(&args.i32(0));
    removed.map(|_| 0).ok_or(Errno::EINVAL)
}
