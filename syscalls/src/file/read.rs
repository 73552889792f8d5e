//! read(2) and its family.

use super::file;
use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use boundary::layout::USER_END;
use kernel::uaccess::{self, MAX_TRANSFER, Sink, Span};
use linux_raw_sys::general as raw;
use vfs::file::FileRef;
use vfs::notify;
use vfs::table::UsedFile;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_read, "read", sys_read, &[Show::Fd, Show::BytesOut, Show::Unsigned]),
    full(raw::__NR_pread64, "pread64", sys_pread64, &[Show::Fd, Show::BytesOut, Show::Unsigned, Show::Int]),
    full(raw::__NR_readv, "readv", sys_readv, &[Show::Fd, Show::Address, Show::Unsigned]),
    full(raw::__NR_preadv, "preadv", sys_preadv, &[Show::Fd, Show::Address, Show::Unsigned, Show::Int]),
    full(
        raw::__NR_preadv2,
        "preadv2",
        sys_preadv2,
        &[Show::Fd, Show::Address, Show::Unsigned, Show::Int, Show::Int, Show::Address],
    ),
];

/// Writes at the offset that is given, `O_APPEND` or not (`linux/fs.h`, since Linux 6.9).
pub const RWF_NOAPPEND: u32 = 0x20;

/// One buffer, checked as Linux checks it (`access_ok`: all of it may be the program's) and cut to what a call transfers at
/// most.
pub fn one_span(address: u64, length: u64) -> Result<Span> {
    match address.checked_add(length) {
        Some(end) if end <= USER_END => Span::user(address, length.min(MAX_TRANSFER)),
        _ => Err(Errno::EFAULT),
    }
}

/// `EINVAL` if a transfer would go beyond the largest offset.
pub fn check_range(offset: u64, length: usize) -> Result<()> {
    match offset.checked_add(length as u64) {
        Some(end) if end <= i64::MAX as u64 => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

fn readable<'a>(context: &'a Context<'_>, fd: i32) -> Result<UsedFile<'a>> {
    let file = file(context, fd)?;
    if file.readable() { Ok(file) } else { Err(Errno::EBADF) }
}

/// A reading call is over: it is counted, and what was read is told to those who watch the file.
fn done(context: &Context<'_>, file: &FileRef, outcome: Result<usize>) -> Result<u64> {
    let count = outcome.unwrap_or(0);
    context.thread.task.io.read(count as u64);
    if count > 0 {
        notify::read(file);
    }
    outcome.map(|count| count as u64)
}

/// Reads at the file's own position (or from a stream).
pub fn read_here(file: &FileRef, sink: &mut Sink<'_>) -> Result<usize> {
    if !file.ops.seekable() {
        return file.ops.read_at(file, 0, sink);
    }
    if file.ops.waits() {
        let position = *file.position.lock();
        let count = file.ops.read_at(file, position, sink)?;
        *file.position.lock() = position.wrapping_add(count as u64);
        return Ok(count);
    }
    let mut position = file.position.lock();
    check_range(*position, sink.left())?;
    let count = file.ops.read_at(file, *position, sink)?;
    *position += count as u64;
    Ok(count)
}

/// Reads at an offset: `ESPIPE` for streams, `EINVAL` for a negative one.
pub fn read_there(file: &FileRef, offset: i64, sink: &mut Sink<'_>) -> Result<usize> {
    let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    if !file.ops.seekable() {
        return Err(Errno::ESPIPE);
    }
    check_range(offset, sink.left())?;
    file.ops.read_at(file, offset, sink)
}

fn sys_read(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let file = readable(context, args.i32(0))?;
    let spans = [one_span(args.u64(1), args.u64(2))?];
    done(context, &file, read_here(&file, &mut Sink::user(&spans)))
}

fn sys_pread64(context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.i64(3) < 0 {
        return Err(Errno::EINVAL);
    }
    let file = readable(context, args.i32(0))?;
    let spans = [one_span(args.u64(1), args.u64(2))?];
    done(context, &file, read_there(&file, args.i64(3), &mut Sink::user(&spans)))
}

fn sys_readv(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let file = readable(context, args.i32(0))?;
    let spans = uaccess::read_iovec(args.u64(1), args.u64(2))?;
    done(context, &file, read_here(&file, &mut Sink::user(&spans)))
}

fn sys_preadv(context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.i64(3) < 0 {
        return Err(Errno::EINVAL);
    }
    let file = readable(context, args.i32(0))?;
    let spans = uaccess::read_iovec(args.u64(1), args.u64(2))?;
    done(context, &file, read_there(&file, args.i64(3), &mut Sink::user(&spans)))
}

fn sys_preadv2(context: &mut Context<'_>, args: Args) -> Result<u64> {
    // Hints are taken and not needed. Contents in memory are there without waiting.
    const HINTS: u32 = raw::RWF_HIPRI | raw::RWF_DSYNC | raw::RWF_SYNC | raw::RWF_APPEND | RWF_NOAPPEND;
    let flags = args.u32(5);
    let mut file = readable(context, args.i32(0))?;
    let spans = uaccess::read_iovec(args.u64(1), args.u64(2))?;
    if flags & !(HINTS | raw::RWF_NOWAIT) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if flags & raw::RWF_NOWAIT != 0 && !file.ops.seekable() {
        file = file.without_blocking().into();
    }
    let mut sink = Sink::user(&spans);
    let outcome = if args.i64(3) == -1 {
        read_here(&file, &mut sink)
    } else {
        read_there(&file, args.i64(3), &mut sink)
    };
    done(context, &file, outcome)
}
