//! poll(2), ppoll(2).

use super::events::{deadline_from_ms, deadline_from_timespec, with_mask};
use crate::args::Args;
use crate::restart::Restart;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use kernel::poll::PollEvents;
use kernel::{Short, time, uaccess};
use linux_raw_sys::general as raw;
use vfs::poll_set;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_poll, "poll", sys_poll, &[Show::Address, Show::Unsigned, Show::Int]),
    full(
        raw::__NR_ppoll,
        "ppoll",
        sys_ppoll,
        &[Show::Address, Show::Unsigned, Show::Address, Show::Address, Show::Unsigned],
    ),
];

/// One wait over the array at `address`.
fn poll(context: &Context<'_>, address: u64, count: u64, deadline: Option<u64>) -> Result<u64> {
    if count > context.thread.task.rlimit(raw::RLIMIT_NOFILE) {
        return Err(Errno::EINVAL);
    }
    let mut entries: Short<raw::pollfd> = uaccess::read_array(address, count as usize)?;
    let files = context.files();
    let mut polled = poll_set::gather(entries.iter().filter(|entry| entry.fd >= 0).map(|entry| {
        let wanted = PollEvents::from_bits_truncate(u32::from(entry.events as u16));
        (files.use_file(entry.fd).ok(), wanted)
    }));
    let ready = poll_set::wait(&mut polled, deadline)?;
    let mut outcomes = polled.iter();
    for (index, entry) in entries.iter_mut().enumerate() {
        entry.revents = match entry.fd {
            fd if fd < 0 => 0,
            _ => outcomes.next().map_or(0, |polled| polled.ready.bits() as i16),
        };
        let at = address.wrapping_add(index as u64 * 8 + 6);
        uaccess::write(at, &entry.revents)?;
    }
    Ok(ready as u64)
}

/// poll(2) with a deadline that an interruption does not move.
pub fn restart_poll(context: &mut Context<'_>, fds: u64, count: u64, deadline: u64) -> Result<u64> {
    match poll(context, fds, count, Some(deadline).filter(|&deadline| deadline != u64::MAX)) {
        Err(Errno::EINTR) => {
            *context.thread.restart.lock() = Some(Restart::Poll { fds, count, deadline });
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
        other => other,
    }
}

fn sys_poll(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let deadline = deadline_from_ms(args.i32(2)).unwrap_or(u64::MAX);
    restart_poll(context, args.u64(0), args.u64(1), deadline)
}

/// Writes the time that is left, as Linux does for ppoll and pselect6.
pub fn write_left(address: u64, deadline: Option<u64>) {
    if let Some(deadline) = deadline {
        let left = deadline.saturating_sub(time::monotonic());
        // A timeout in read-only memory is no error.
        let _ = uaccess::write_optional(address, &time::timespec(left));
    }
}

fn sys_ppoll(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let timeout: Option<raw::timespec> = uaccess::read_optional(args.u64(2))?;
    let deadline = deadline_from_timespec(timeout.as_ref())?;
    let outcome = with_mask(context, args.u64(3), args.u64(4), |context| {
        poll(context, args.u64(0), args.u64(1), deadline).map_err(|errno| match errno {
            Errno::EINTR => Errno::ERESTARTNOHAND,
            other => other,
        })
    });
    write_left(args.u64(2), deadline);
    outcome
}
