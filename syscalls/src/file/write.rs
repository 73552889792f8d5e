//! write(2) and its family.

use super::file;
use super::read::{RWF_NOAPPEND, check_range, one_span};
use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use kernel::signal::{SIGPIPE, SIGXFSZ};
use kernel::uaccess::{self, Source};
use linux_raw_sys::general as raw;
use vfs::file::FileRef;
use vfs::host_stream::HostStream;
use vfs::notify;
use vfs::table::UsedFile;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_write, "write", sys_write, &[Show::Fd, Show::BytesIn, Show::Unsigned]),
    full(raw::__NR_pwrite64, "pwrite64", sys_pwrite64, &[Show::Fd, Show::BytesIn, Show::Unsigned, Show::Int]),
    full(raw::__NR_writev, "writev", sys_writev, &[Show::Fd, Show::Address, Show::Unsigned]),
    full(raw::__NR_pwritev, "pwritev", sys_pwritev, &[Show::Fd, Show::Address, Show::Unsigned, Show::Int]),
    full(
        raw::__NR_pwritev2,
        "pwritev2",
        sys_pwritev2,
        &[Show::Fd, Show::Address, Show::Unsigned, Show::Int, Show::Int, Show::Address],
    ),
];

fn writable<'a>(context: &'a Context<'_>, fd: i32) -> Result<UsedFile<'a>> {
    let file = file(context, fd)?;
    if file.writable() { Ok(file) } else { Err(Errno::EBADF) }
}

/// A writing call is over: it is counted, and what was written is told to those who watch the file.
fn done(context: &Context<'_>, file: &FileRef, outcome: Result<usize>) -> Result<u64> {
    let count = outcome.unwrap_or(0);
    context.thread.task.io.written(count as u64);
    if count > 0 {
        notify::written(file);
    }
    outcome.map(|count| count as u64)
}

/// Checks `RLIMIT_FSIZE` (setrlimit(2)): what goes beyond the limit is not written; SIGXFSZ and `EFBIG` at the limit.
fn check_limit(context: &Context<'_>, file: &FileRef, offset: u64, source: &mut Source<'_>) -> Result<()> {
    let limit = context.thread.task.rlimit(raw::RLIMIT_FSIZE);
    if limit == u64::MAX || source.left() == 0 || file.path.is_none() {
        return Ok(());
    }
    if offset >= limit {
        context.thread.task.raise(SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    source.cut(limit - offset);
    Ok(())
}

/// Writes at the file's own position, its end (`O_APPEND`), or to a stream.
pub fn write_here(context: &Context<'_>, file: &FileRef, source: &mut Source<'_>) -> Result<usize> {
    if !file.ops.seekable() {
        let outcome = file.ops.write_at(file, 0, source);
        // Pipes of ours raise it themselves.
        if outcome == Err(Errno::EPIPE) && file.ops.as_any().is::<HostStream>() {
            context.thread.task.raise(SIGPIPE);
        }
        return outcome;
    }
    if file.ops.waits() {
        let position = *file.position.lock();
        let count = file.ops.write_at(file, position, source)?;
        *file.position.lock() = position.wrapping_add(count as u64);
        return Ok(count);
    }
    let mut position = file.position.lock();
    if file.flags() & raw::O_APPEND != 0 {
        let (count, end) = file.ops.append(file, source)?;
        *position = end;
        return Ok(count);
    }
    check_range(*position, source.left())?;
    check_limit(context, file, *position, source)?;
    let count = file.ops.write_at(file, *position, source)?;
    *position += count as u64;
    Ok(count)
}

/// Writes at an offset. With `O_APPEND` Linux appends all the same (pwrite(2), BUGS).
pub fn write_there(
    context: &Context<'_>,
    file: &FileRef,
    offset: i64,
    source: &mut Source<'_>,
) -> Result<usize> {
    let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    if !file.ops.seekable() {
        return Err(Errno::ESPIPE);
    }
    if file.flags() & raw::O_APPEND != 0 {
        return file.ops.append(file, source).map(|(count, _)| count);
    }
    check_range(offset, source.left())?;
    check_limit(context, file, offset, source)?;
    file.ops.write_at(file, offset, source)
}

fn sys_write(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let file = writable(context, args.i32(0))?;
    let spans = [one_span(args.u64(1), args.u64(2))?];
    let outcome = write_here(context, &file, &mut Source::user(&spans));
    done(context, &file, outcome)
}

fn sys_pwrite64(context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.i64(3) < 0 {
        return Err(Errno::EINVAL);
    }
    let file = writable(context, args.i32(0))?;
    let spans = [one_span(args.u64(1), args.u64(2))?];
    let outcome = write_there(context, &file, args.i64(3), &mut Source::user(&spans));
    done(context, &file, outcome)
}

fn sys_writev(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let file = writable(context, args.i32(0))?;
    let spans = uaccess::read_iovec(args.u64(1), args.u64(2))?;
    let outcome = write_here(context, &file, &mut Source::user(&spans));
    done(context, &file, outcome)
}

fn sys_pwritev(context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.i64(3) < 0 {
        return Err(Errno::EINVAL);
    }
    let file = writable(context, args.i32(0))?;
    let spans = uaccess::read_iovec(args.u64(1), args.u64(2))?;
    let outcome = write_there(context, &file, args.i64(3), &mut Source::user(&spans));
    done(context, &file, outcome)
}

fn sys_pwritev2(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const HINTS: u32 = raw::RWF_HIPRI | raw::RWF_DSYNC | raw::RWF_SYNC;
    let flags = args.u32(5);
    let mut file = writable(context, args.i32(0))?;
    let spans = uaccess::read_iovec(args.u64(1), args.u64(2))?;
    if flags & !(HINTS | raw::RWF_NOWAIT | raw::RWF_APPEND | RWF_NOAPPEND) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if flags & raw::RWF_APPEND != 0 && flags & RWF_NOAPPEND != 0 || args.i64(3) < -1 {
        return Err(Errno::EINVAL);
    }
    if flags & raw::RWF_NOWAIT != 0 && !file.ops.seekable() {
        file = file.without_blocking().into();
    }
    let mut source = Source::user(&spans);
    let outcome = if flags & RWF_NOAPPEND != 0 && file.ops.seekable() && args.i64(3) >= 0 {
        check_limit(context, &file, args.u64(3), &mut source)?;
        file.ops.write_at(&file, args.u64(3), &mut source)
    } else if flags & raw::RWF_APPEND != 0 && file.ops.seekable() && args.i64(3) == -1 {
        let mut position = file.position.lock();
        file.ops.append(&file, &mut source).map(|(count, end)| {
            *position = end;
            count
        })
    } else if flags & raw::RWF_APPEND != 0 && file.ops.seekable() {
        file.ops.append(&file, &mut source).map(|(count, _)| count)
    } else if args.i64(3) == -1 {
        write_here(context, &file, &mut source)
    } else {
        write_there(context, &file, args.i64(3), &mut source)
    };
    done(context, &file, outcome)
}
