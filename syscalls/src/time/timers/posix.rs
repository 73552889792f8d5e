//! POSIX timers: timer_create(2) and its family.

use super::super::processor::ProcessorClock;
use super::program_timer::{Clock, ProgramTimer, Target};
use super::timers_of;
use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kernel::signal::{COUNT, SIGALRM, SigInfo};
use kernel::task::lock_table;
use kernel::{time, uaccess};
use linux_raw_sys::general as raw;

const A: Show = Show::Address;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(
        raw::__NR_timer_create,
        "timer_create",
        sys_timer_create,
        &[Show::OneOf(super::super::CLOCKS), A, A],
    ),
    full(raw::__NR_timer_settime, "timer_settime", sys_timer_settime, &[Show::Int, Show::Int, A, A]),
    full(raw::__NR_timer_gettime, "timer_gettime", sys_timer_gettime, &[Show::Int, A]),
    full(raw::__NR_timer_getoverrun, "timer_getoverrun", sys_timer_getoverrun, &[Show::Int]),
    full(raw::__NR_timer_delete, "timer_delete", sys_timer_delete, &[Show::Int]),
];

fn sys_timer_create(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const SIGEV_NONE: i32 = 1;
    const SIGEV_SIGNAL: i32 = 0;
    const SIGEV_THREAD_ID: i32 = 4;
    let number = args.i32(0);
    let clock = match ProcessorClock::numbered(number, &context.thread.task)? {
        Some(clock) => Clock::Processor(clock),
        None => match number as u32 {
            id @ (raw::CLOCK_REALTIME | raw::CLOCK_MONOTONIC | raw::CLOCK_BOOTTIME | raw::CLOCK_TAI) => {
                Clock::System(id)
            }
            // Clocks that can be read only.
            raw::CLOCK_MONOTONIC_RAW | raw::CLOCK_REALTIME_COARSE | raw::CLOCK_MONOTONIC_COARSE => {
                return Err(Errno::EOPNOTSUPP);
            }
            _ => return Err(Errno::EINVAL),
        },
    };
    // struct sigevent: value, signal, notify, thread id.
    let event: Option<[u64; 3]> = uaccess::read_optional(args.u64(1))?;
    let timers = timers_of(context.thread.task.group.tgid)?;
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
                    let target = context.named(tid as i32).ok().and_then(|tid| lock_table().ok()?.task(tid));
                    let target = target.ok_or(Errno::EINVAL)?;
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
    let info = SigInfo::of_timer(number, id as u32, 0, value);
    uaccess::write(args.u64(2), &id)?;
    timers.posix.lock().insert(id, ProgramTimer::new(clock, target, info));
    Ok(0)
}

fn posix_timer(context: &Context<'_>, id: i32) -> Result<Arc<ProgramTimer>> {
    timers_of(context.thread.task.group.tgid)?.posix.lock().get(&id).cloned().ok_or(Errno::EINVAL)
}

fn shown_exact((left, interval): (u64, u64)) -> raw::itimerspec {
    raw::itimerspec { it_interval: time::timespec(interval), it_value: time::timespec(left) }
}

fn sys_timer_settime(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const ABSTIME: i32 = 1;
    let new: raw::itimerspec = uaccess::read(args.u64(2))?;
    let (value, interval) = (time::from_timespec(&new.it_value)?, time::from_timespec(&new.it_interval)?);
    let timer = posix_timer(context, args.i32(0))?;
    let after = if value > 0 && args.i32(1) & ABSTIME != 0 { timer.left_until(value)? } else { value };
    let old = timer.set(after, interval)?;
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
    let removed = timers_of(context.thread.task.group.tgid)?.posix.lock().remove(&args.i32(0));
    removed.map(|_| 0).ok_or(Errno::EINVAL)
}
