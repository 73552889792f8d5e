//! Clocks and sleeps: clock_gettime(2), nanosleep(2) and their families.

pub mod processor;
pub mod timers;

use crate::args::Args;
use crate::restart::Restart;
use crate::table::{Context, Row, Show, full, refused};
use crate::{Errno, Result};
use kernel::task::Times;
use kernel::{time, uaccess, wait};
use linux_raw_sys::general as raw;
use processor::ProcessorClock;
use trap_handler::host;

const CLOCKS: &[(u64, &str)] = &[
    (0, "CLOCK_REALTIME"),
    (1, "CLOCK_MONOTONIC"),
    (2, "CLOCK_PROCESS_CPUTIME_ID"),
    (3, "CLOCK_THREAD_CPUTIME_ID"),
    (4, "CLOCK_MONOTONIC_RAW"),
    (5, "CLOCK_REALTIME_COARSE"),
    (6, "CLOCK_MONOTONIC_COARSE"),
    (7, "CLOCK_BOOTTIME"),
    (11, "CLOCK_TAI"),
];

/// The rows of this family.
pub const ROWS: &[Row] = &[
    full(raw::__NR_clock_gettime, "clock_gettime", sys_clock_gettime, &[Show::OneOf(CLOCKS), Show::Address]),
    full(raw::__NR_clock_getres, "clock_getres", sys_clock_getres, &[Show::OneOf(CLOCKS), Show::Address]),
    refused(
        raw::__NR_clock_settime,
        "clock_settime",
        sys_clock_settime,
        &[Show::OneOf(CLOCKS), Show::Address],
        "the clocks are the host's",
    ),
    full(
        raw::__NR_clock_nanosleep,
        "clock_nanosleep",
        sys_clock_nanosleep,
        &[Show::OneOf(CLOCKS), Show::Int, Show::Address, Show::Address],
    ),
    full(raw::__NR_nanosleep, "nanosleep", sys_nanosleep, &[Show::Address, Show::Address]),
    full(raw::__NR_gettimeofday, "gettimeofday", sys_gettimeofday, &[Show::Address, Show::Address]),
    refused(
        raw::__NR_settimeofday,
        "settimeofday",
        |_, _| Err(Errno::EPERM),
        &[Show::Address, Show::Address],
        "the clocks are the host's",
    ),
    full(raw::__NR_time, "time", sys_time, &[Show::Address]),
    full(raw::__NR_times, "times", sys_times, &[Show::Address]),
    full(raw::__NR_restart_syscall, "restart_syscall", sys_restart_syscall, &[]),
];

/// The time on a clock of the system, or of processor time.
fn clock_now(context: &Context<'_>, clock: i32) -> Result<u64> {
    match ProcessorClock::numbered(clock, &context.thread.task)? {
        Some(clock) => clock.now(),
        None => host::clock_ns(system_clock(clock)?),
    }
}

/// A clock that runs by itself.
fn system_clock(clock: i32) -> Result<u32> {
    match clock {
        0 | 1 | 4..=9 | 11 => Ok(clock as u32),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_clock_gettime(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let now = clock_now(context, args.i32(0))?;
    uaccess::write(args.u64(1), &time::timespec(now))?;
    Ok(0)
}

fn sys_clock_getres(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let clock = match ProcessorClock::numbered(args.i32(0), &context.thread.task)? {
        Some(_) => raw::CLOCK_PROCESS_CPUTIME_ID,
        None => system_clock(args.i32(0))?,
    };
    uaccess::write_optional(args.u64(1), &host::clock_resolution(clock)?)?;
    Ok(0)
}

fn sys_clock_settime(context: &mut Context<'_>, args: Args) -> Result<u64> {
    clock_now(context, args.i32(0))?;
    let wanted: raw::timespec = uaccess::read(args.u64(1))?;
    time::from_timespec(&wanted)?;
    if args.i32(0) != raw::CLOCK_REALTIME as i32 { Err(Errno::EINVAL) } else { Err(Errno::EPERM) }
}

/// Sleeps until a monotonic deadline; what is left goes to `remaining` (unless 0) when a signal comes first.
fn sleep(context: &Context<'_>, deadline: u64, remaining: u64) -> Result<u64> {
    if wait::sleep_until(deadline).is_ok() {
        return Ok(0);
    }
    let left = deadline.saturating_sub(time::monotonic());
    if left == 0 {
        return Ok(0);
    }
    uaccess::write_optional(remaining, &time::timespec(left))?;
    *context.thread.restart.lock() = Some(Restart::Sleep { deadline, remaining });
    Err(Errno::ERESTART_RESTARTBLOCK)
}

fn sys_nanosleep(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let wanted: raw::timespec = uaccess::read(args.u64(0))?;
    let ns = time::from_timespec(&wanted)?;
    sleep(context, time::monotonic().saturating_add(ns), args.u64(1))
}

fn sys_clock_nanosleep(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const TIMER_ABSTIME: i32 = 1;
    let clock = args.i32(0);
    let relative = args.i32(1) & TIMER_ABSTIME == 0;
    if let Some(clock) = ProcessorClock::numbered(clock, &context.thread.task)? {
        let wanted: raw::timespec = uaccess::read(args.u64(2))?;
        return processor_sleep(&clock, time::from_timespec(&wanted)?, relative, args.u64(3));
    }
    match system_clock(clock)? {
        raw::CLOCK_MONOTONIC_RAW | raw::CLOCK_REALTIME_COARSE | raw::CLOCK_MONOTONIC_COARSE => {
            return Err(Errno::EOPNOTSUPP);
        }
        _ => {}
    }
    let wanted: raw::timespec = uaccess::read(args.u64(2))?;
    let ns = time::from_timespec(&wanted)?;
    if relative {
        return sleep(context, time::monotonic().saturating_add(ns), args.u64(3));
    }
    let now = host::clock_ns(system_clock(clock)?)?;
    // An absolute sleep restarts as it is: nothing is written back.
    let deadline = time::monotonic().saturating_add(ns.saturating_sub(now));
    wait::sleep_until(deadline).map(|()| 0).map_err(|_| Errno::ERESTARTNOHAND)
}

/// Sleeps while others use up processor time.
fn processor_sleep(clock: &ProcessorClock, ns: u64, relative: bool, remaining: u64) -> Result<u64> {
    /// How often to look at most.
    const LOOK_NS: u64 = 1_000_000;
    if clock.is_current_thread() {
        return Err(Errno::EINVAL);
    }
    let until = if relative { clock.now()?.saturating_add(ns) } else { ns };
    loop {
        let left = until.saturating_sub(clock.now()?);
        if left == 0 {
            return Ok(0);
        }
        let wait = clock.real_time_for(left).max(LOOK_NS);
        if wait::sleep_until(time::monotonic().saturating_add(wait)).is_err() {
            if relative {
                uaccess::write_optional(remaining, &time::timespec(left))?;
            }
            return Err(if relative { Errno::EINTR } else { Errno::ERESTARTNOHAND });
        }
    }
}

fn sys_gettimeofday(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    uaccess::write_optional(args.u64(0), &time::timeval(time::realtime()))?;
    uaccess::write_optional(args.u64(1), &[0i32; 2])?;
    Ok(0)
}

fn sys_time(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    let seconds = time::realtime() / time::SECOND;
    uaccess::write_optional(args.u64(0), &seconds)?;
    Ok(seconds)
}

/// Processor time of the calling process so far.
pub fn process_times() -> Times {
    let usage = host::getrusage(0);
    let ns =
        |time: raw::__kernel_old_timeval| (time.tv_sec as u64) * time::SECOND + time.tv_usec as u64 * 1000;
    usage.map_or(Times::default(), |usage| Times { user: ns(usage.ru_utime), system: ns(usage.ru_stime) })
}

fn sys_times(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let ticks = |ns: u64| ns / 10_000_000;
    let own = process_times();
    let below = *context.thread.task.group.children_times.lock();
    let times = [ticks(own.user), ticks(own.system), ticks(below.user), ticks(below.system)];
    uaccess::write_optional(args.u64(0), &times)?;
    Ok(ticks(time::monotonic()))
}

fn sys_restart_syscall(context: &mut Context<'_>, _args: Args) -> Result<u64> {
    let restart = context.thread.restart.lock().take();
    match restart {
        None => Err(Errno::EINTR),
        Some(Restart::Sleep { deadline, remaining }) => sleep(context, deadline, remaining),
        Some(Restart::Futex { arguments, deadline }) => {
            match crate::futex::wait_until(arguments, Some(deadline)) {
                Err(Errno::EINTR) => {
                    *context.thread.restart.lock() = restart;
                    Err(Errno::ERESTART_RESTARTBLOCK)
                }
                other => other,
            }
        }
        Some(Restart::Poll { fds, count, deadline }) => {
            crate::file::restart_poll(context, fds, count, deadline)
        }
    }
}
