//! Clocks and sleeps: clock_gettime(2), nanosleep(2) and their families.

pub mod timers;

use crate::args::Args;
use crate::restart::Restart;
use crate::table::{Context, Row, Show, full, refused};
use crate::{Errno, Result};
use kernel::task::Times;
use kernel::{time, uaccess, wait};
use linux_raw_sys::general as raw;
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

/// A clock as the host is to be asked for it: the program's own processor clocks and those of the system. Clocks of other
/// processes (negative ids) are `EINVAL`, but those that name the caller.
fn host_clock(context: &Context<'_>, clock: i32) -> Result<u32> {
    const KIND: i32 = 7;
    const SCHED: i32 = 2;
    const THREAD: i32 = 4;
    if clock >= 0 {
        return match clock as u32 {
            0..=9 | 11 => Ok(clock as u32),
            _ => Err(Errno::EINVAL),
        };
    }
    let id = !(clock >> 3);
    let thread = clock & THREAD != 0;
    if clock & KIND & 3 != SCHED {
        return Err(Errno::EINVAL);
    }
    let task = &context.thread.task;
    match (thread, id) {
        (true, id) if id == 0 || id == task.tid() => Ok(raw::CLOCK_THREAD_CPUTIME_ID),
        (false, id) if id == 0 || id == task.group.tgid => Ok(raw::CLOCK_PROCESS_CPUTIME_ID),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_clock_gettime(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let now = host::clock_ns(host_clock(context, args.i32(0))?)?;
    uaccess::write(args.u64(1), &time::timespec(now))?;
    Ok(0)
}

fn sys_clock_getres(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let step = host::clock_resolution(host_clock(context, args.i32(0))?)?;
    uaccess::write_optional(args.u64(1), &step)?;
    Ok(0)
}

fn sys_clock_settime(context: &mut Context<'_>, args: Args) -> Result<u64> {
    host_clock(context, args.i32(0))?;
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
    match host_clock(context, clock)? {
        raw::CLOCK_THREAD_CPUTIME_ID => return Err(Errno::EINVAL),
        raw::CLOCK_MONOTONIC_RAW | raw::CLOCK_REALTIME_COARSE | raw::CLOCK_MONOTONIC_COARSE => {
            return Err(Errno::EOPNOTSUPP);
        }
        _ => {}
    }
    let wanted: raw::timespec = uaccess::read(args.u64(2))?;
    let ns = time::from_timespec(&wanted)?;
    let now = host::clock_ns(host_clock(context, clock)?)?;
    if args.i32(1) & TIMER_ABSTIME == 0 {
        return sleep(context, time::monotonic().saturating_add(ns), args.u64(3));
    }
    // An absolute sleep restarts as it is: nothing is written back.
    let deadline = time::monotonic().saturating_add(ns.saturating_sub(now));
    wait::sleep_until(deadline).map(|()| 0).map_err(|_| Errno::ERESTARTNOHAND)
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
