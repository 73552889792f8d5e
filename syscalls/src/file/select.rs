//! select(2), pselect6(2).

use super::events::{deadline_from_timespec, with_mask};
use super::poll::write_left;
use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use alloc::vec::Vec;
use kernel::poll::PollEvents;
use kernel::{time, uaccess};
use linux_raw_sys::general as raw;
use vfs::poll_set;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(
        raw::__NR_select,
        "select",
        sys_select,
        &[Show::Int, Show::Address, Show::Address, Show::Address, Show::Address],
    ),
    full(
        raw::__NR_pselect6,
        "pselect6",
        sys_pselect6,
        &[Show::Int, Show::Address, Show::Address, Show::Address, Show::Address, Show::Address],
    ),
];

/// What the three sets ask for, and what counts as an answer (`POLLIN_SET` and relatives of `fs/select.c`).
const SETS: [(PollEvents, PollEvents); 3] = [
    (
        PollEvents::READABLE.union(PollEvents::RDBAND),
        PollEvents::READABLE.union(PollEvents::RDBAND).union(PollEvents::ALWAYS),
    ),
    (
        PollEvents::WRITABLE.union(PollEvents::WRBAND),
        PollEvents::WRITABLE.union(PollEvents::WRBAND).union(PollEvents::ERR),
    ),
    (PollEvents::PRI, PollEvents::PRI),
];

fn read_set(address: u64, bytes: usize) -> Result<Vec<u8>> {
    if address == 0 { Ok(Vec::new()) } else { uaccess::read_bytes(address, bytes) }
}

fn has(set: &[u8], fd: usize) -> bool {
    set.get(fd / 8).is_some_and(|byte| byte & (1 << (fd % 8)) != 0)
}

fn select(context: &Context<'_>, args: Args, deadline: Option<u64>) -> Result<u64> {
    let count = args.i32(0);
    if count < 0 {
        return Err(Errno::EINVAL);
    }
    let files = context.files();
    // What lies beyond the table is not looked at.
    let count = (count as usize).min(files.size().max(64).next_multiple_of(64));
    let bytes = count.div_ceil(64) * 8;
    let mut sets = Vec::new();
    for index in 0..3 {
        sets.push(read_set(args.u64(1 + index), bytes)?);
    }
    let mut fds = Vec::new();
    let mut entries = Vec::new();
    for fd in 0..count {
        let mut wanted = PollEvents::empty();
        for (set, (asked, _)) in sets.iter().zip(SETS) {
            if has(set, fd) {
                wanted |= asked;
            }
        }
        if !wanted.is_empty() {
            let file = files.use_file(fd as i32)?;
            fds.push((fd, wanted));
            entries.push((Some(file), wanted));
        }
    }
    let mut polled = poll_set::gather(entries.into_iter());
    let outcome = poll_set::wait(&mut polled, deadline).map_err(|errno| match errno {
        Errno::EINTR => Errno::ERESTARTNOHAND,
        other => other,
    })?;
    let _ = outcome;
    let mut total = 0;
    for (index, (set, (asked, answers))) in sets.iter().zip(SETS).enumerate() {
        if set.is_empty() {
            continue;
        }
        let mut result = alloc::vec![0u8; bytes];
        for ((fd, _), polled) in fds.iter().zip(&polled) {
            if has(set, *fd) && polled.ready.intersects(answers) && !asked.is_empty() {
                if let Some(byte) = result.get_mut(fd / 8) {
                    *byte |= 1 << (fd % 8);
                }
                total += 1;
            }
        }
        uaccess::write_bytes(args.u64(1 + index), &result)?;
    }
    Ok(total)
}

fn sys_select(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let timeout: Option<raw::timeval> = uaccess::read_optional(args.u64(4))?;
    let deadline = match &timeout {
        None => None,
        // Microseconds may exceed a second here: Linux normalises.
        Some(timeout) if timeout.tv_sec < 0 || timeout.tv_usec < 0 => return Err(Errno::EINVAL),
        Some(timeout) => {
            let ns = (timeout.tv_sec as u64)
                .saturating_mul(time::SECOND)
                .saturating_add((timeout.tv_usec as u64).saturating_mul(1000));
            Some(if ns == 0 { 0 } else { time::monotonic().saturating_add(ns) })
        }
    };
    let outcome = select(context, args, deadline);
    if let Some(deadline) = deadline {
        let left = deadline.saturating_sub(time::monotonic());
        let _ = uaccess::write_optional(args.u64(4), &time::timeval(left));
    }
    outcome
}

fn sys_pselect6(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let timeout: Option<raw::timespec> = uaccess::read_optional(args.u64(4))?;
    let deadline = deadline_from_timespec(timeout.as_ref())?;
    let mask: Option<[u64; 2]> = uaccess::read_optional(args.u64(5))?;
    let [address, size] = mask.unwrap_or([0, 8]);
    let outcome = with_mask(context, address, size, |context| select(context, args, deadline));
    write_left(args.u64(4), deadline);
    outcome
}
