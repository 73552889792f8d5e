//! Interval timers: setitimer(2), getitimer(2), alarm(2).

use super::super::processor::{ProcessorClock, Which};
use super::program_timer::{Clock, ProgramTimer, Target};
use super::timers_of;
use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use alloc::sync::Arc;
use kernel::signal::{SIGALRM, SIGPROF, SIGVTALRM, SigInfo, si};
use kernel::{time, uaccess};
use linux_raw_sys::general as raw;

const A: Show = Show::Address;
const WHICH: &[(u64, &str)] = &[(0, "ITIMER_REAL"), (1, "ITIMER_VIRTUAL"), (2, "ITIMER_PROF")];

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_getitimer, "getitimer", sys_getitimer, &[Show::OneOf(WHICH), A]),
    full(raw::__NR_setitimer, "setitimer", sys_setitimer, &[Show::OneOf(WHICH), A, A]),
    full(raw::__NR_alarm, "alarm", sys_alarm, &[Show::Unsigned]),
];

fn interval_timer(context: &Context<'_>, which: i32) -> Result<Arc<ProgramTimer>> {
    let group = &context.thread.task.group;
    let timers = timers_of(group.tgid)?;
    let slot = usize::try_from(which).ok().and_then(|which| timers.intervals.get(which));
    let mut slot = slot.ok_or(Errno::EINVAL)?.lock();
    let timer = slot.get_or_insert_with(|| {
        let processor = |which| Clock::Processor(ProcessorClock::of_process(group, which));
        let (clock, signal) = match which {
            0 => (Clock::System(raw::CLOCK_MONOTONIC), SIGALRM),
            1 => (processor(Which::Virtual), SIGVTALRM),
            _ => (processor(Which::Profile), SIGPROF),
        };
        ProgramTimer::new(clock, Target::Group(Arc::downgrade(group)), SigInfo::new(signal, si::KERNEL))
    });
    Ok(timer.clone())
}

fn shown((left, interval): (u64, u64)) -> raw::itimerval {
    // What is left is never shown as zero while the timer runs.
    let micro = |ns: u64| time::timeval(if ns > 0 { ns.max(1000) } else { 0 });
    raw::itimerval { it_interval: time::timeval(interval), it_value: micro(left) }
}

fn sys_getitimer(context: &mut Context<'_>, args: Args) -> Result<u64> {
    uaccess::write(args.u64(1), &shown(interval_timer(context, args.i32(0))?.get()))?;
    Ok(0)
}

fn sys_setitimer(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let new: Option<raw::itimerval> = uaccess::read_optional(args.u64(1))?;
    let (value, interval) = match &new {
        Some(new) => (time::from_timeval(&new.it_value)?, time::from_timeval(&new.it_interval)?),
        None => (0, 0),
    };
    let old = interval_timer(context, args.i32(0))?.set(value, interval)?;
    uaccess::write_optional(args.u64(2), &shown(old))?;
    Ok(0)
}

fn sys_alarm(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let after = u64::from(args.u32(0)).saturating_mul(time::SECOND);
    let (left, _) = interval_timer(context, 0)?.set(after, 0)?;
    // Rounded to seconds, but a running alarm is never 0.
    let seconds = left.saturating_add(time::SECOND / 2) / time::SECOND;
    Ok(if left > 0 { seconds.max(1) } else { 0 })
}
