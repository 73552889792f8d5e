//! Waiting for signals: rt_sigsuspend(2), rt_sigtimedwait(2), pause(2).

use super::actions::{check_size, set_temporary_mask};
use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use kernel::signal::{SigInfo, SigSet, UNBLOCKABLE};
use kernel::wait::{self, Ended};
use kernel::{time, uaccess};
use linux_raw_sys::general as raw;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_pause, "pause", sys_pause, &[]),
    full(raw::__NR_rt_sigsuspend, "rt_sigsuspend", sys_rt_sigsuspend, &[Show::Address, Show::Unsigned]),
    full(
        raw::__NR_rt_sigtimedwait,
        "rt_sigtimedwait",
        sys_rt_sigtimedwait,
        &[Show::Address, Show::Address, Show::Address, Show::Unsigned],
    ),
];

fn sleep() -> Result<u64> {
    let _ = wait::until_woken::<()>(None, || None);
    Err(Errno::ERESTARTNOHAND)
}

fn sys_pause(_context: &mut Context<'_>, _args: Args) -> Result<u64> {
    sleep()
}

fn sys_rt_sigsuspend(context: &mut Context<'_>, args: Args) -> Result<u64> {
    check_size(args.u64(1))?;
    let mask: SigSet = uaccess::read(args.u64(0))?;
    set_temporary_mask(context, mask);
    sleep()
}

fn sys_rt_sigtimedwait(context: &mut Context<'_>, args: Args) -> Result<u64> {
    check_size(args.u64(3))?;
    let wanted = uaccess::read::<SigSet>(args.u64(0))? & !UNBLOCKABLE;
    let timeout: Option<raw::timespec> = uaccess::read_optional(args.u64(2))?;
    let deadline = match &timeout {
        Some(timeout) => Some(time::monotonic().saturating_add(time::from_timespec(timeout)?)),
        None => None,
    };
    let task = &context.thread.task;
    let take = || -> Option<SigInfo> {
        let mut signals = task.group.signals.lock();
        let own = task.signals.lock().pending.take(wanted);
        own.or_else(|| signals.pending.take(wanted))
    };
    task.signals.lock().waits_for = wanted;
    let outcome = wait::until(&[&task.group.signal_queue], deadline, take);
    task.signals.lock().waits_for = 0;
    // A signal that arrived together with another one that interrupts is still the answer.
    let outcome = match outcome {
        Err(ended) => take().ok_or(ended),
        info => info,
    };
    task.update_signal_work();
    match outcome {
        Ok(info) => {
            uaccess::write_optional(args.u64(1), &info)?;
            Ok(info.signal as u64)
        }
        Err(Ended::TimedOut) => Err(Errno::EAGAIN),
        Err(Ended::Interrupted) => Err(Errno::EINTR),
    }
}
