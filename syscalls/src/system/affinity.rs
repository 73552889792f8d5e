//! Processors: sched_setaffinity(2), sched_getaffinity(2).
//!
//! The host is asked. In a sandbox without a pid namespace the numbers of its threads are the host's, and the filter lets each thread
//! speak for itself only: what another asks for is noted, and the thread tells the host at its next look at pending work. So it is with
//! a thread that was just made and has no number yet.

use super::scheduling::{may_set, of};
use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use alloc::vec;
use kernel::signal;
use kernel::task::{Affinity, Task, work};
use kernel::{boot, uaccess};
use linux_raw_sys::general as raw;
use trap_handler::host;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(
        raw::__NR_sched_getaffinity,
        "sched_getaffinity",
        sys_sched_getaffinity,
        &[Show::Int, Show::Unsigned, Show::Address],
    ),
    full(
        raw::__NR_sched_setaffinity,
        "sched_setaffinity",
        sys_sched_setaffinity,
        &[Show::Int, Show::Unsigned, Show::Address],
    ),
];

/// More than any host has for its processors.
const MOST_BYTES: usize = 1024;

fn sys_sched_getaffinity(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let size = args.u32(1) as usize;
    if size & 7 != 0 {
        return Err(Errno::EINVAL);
    }
    let mut mask = vec![0u8; size.min(MOST_BYTES)];
    // Process 1 has no threads that could be asked.
    let sandbox = super::priority::is_sandbox(context, args.i32(0));
    let task = if sandbox { context.thread.task.clone() } else { of(context, args.i32(0))? };
    tell_if_due(&context.thread.task);
    let count = host::sched_getaffinity(on_host(&task).unwrap_or(0), &mut mask)?;
    if on_host(&task).is_none() {
        let noted = task.affinity.lock().mask.clone();
        for (index, byte) in mask.iter_mut().enumerate() {
            let has = noted.as_ref().map_or(u8::MAX, |noted| noted.get(index).copied().unwrap_or(0));
            *byte = of_the_sandbox(index) & has;
        }
    }
    uaccess::write_bytes(args.u64(2), mask.get(..count).unwrap_or(&mask))?;
    Ok(count as u64)
}

fn sys_sched_setaffinity(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let mut mask = uaccess::read_bytes(args.u64(2), (args.u32(1) as usize).min(MOST_BYTES))?;
    // As in a cpuset: others than the sandbox's are not to be had; of none but those the host says EINVAL.
    for (index, byte) in mask.iter_mut().enumerate() {
        *byte &= of_the_sandbox(index);
    }
    let task = of(context, args.i32(0))?;
    may_set(context, &task)?;
    match on_host(&task) {
        Some(thread) => {
            host::sched_setaffinity(thread, &mask)?;
            *task.affinity.lock() = Affinity { mask: Some(mask), due: false };
        }
        None if mask.iter().all(|&byte| byte == 0) => return Err(Errno::EINVAL),
        None => {
            *task.affinity.lock() = Affinity { mask: Some(mask), due: true };
            task.state.request_work(work::CALLS);
            // In the kernel it looks by itself before it is in its program again, and its sleep is not to be cut short.
            if task.state.runs_program() {
                signal::kick(&task, work::CALLS);
            }
        }
    }
    Ok(0)
}

/// The running thread tells the host what others have asked for it.
pub fn tell_if_due(task: &Task) {
    let mut affinity = task.affinity.lock();
    if !core::mem::take(&mut affinity.due) {
        return;
    }
    let mask = affinity.mask.clone();
    drop(affinity);
    let mask = mask.unwrap_or_else(|| (0..MOST_BYTES).map(of_the_sandbox).collect());
    // It was looked at when it was noted. Should the host have taken the processors away since, the thread goes on where it is.
    let _ = host::sched_setaffinity(0, &mask);
}

/// The byte at `index` of the mask of processors that the sandbox has.
fn of_the_sandbox(index: usize) -> u8 {
    let own = boot::config().map_or(&[][..], |config| config.host.cpus.as_slice());
    let allowed = own.iter().filter(|&&cpu| cpu as usize / 8 == index);
    allowed.fold(0, |bits, cpu| bits | 1u8 << (cpu % 8))
}

fn only_own() -> bool {
    boot::config().is_some_and(|config| config.options.host_pids)
}

/// The host's number of a thread, 0 for the calling one; `None` if it cannot be named, or has none yet: it was just made.
fn on_host(task: &Task) -> Option<i32> {
    match core::ptr::eq(task, kernel::task::current()) {
        true => Some(0),
        false if only_own() => None,
        false => Some(task.host_ids().1).filter(|&thread| thread != 0),
    }
}
