//! splice(2), tee(2), vmsplice(2). Bytes are copied once: pages do not change hands, which no program can tell.

use super::file;
use super::read::{read_here, read_there};
use super::transfer::{Place, unread};
use super::write::{write_here, write_there};
use crate::args::Args;
use crate::strace::flags::Names;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use alloc::vec;
use alloc::vec::Vec;
use kernel::uaccess::{self, Sink, Source};
use linux_raw_sys::general as raw;
use vfs::file::FileRef;
use vfs::notify;
use vfs::pipe::{self, PipeEnd};

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(
        raw::__NR_splice,
        "splice",
        sys_splice,
        &[Show::Fd, Show::Address, Show::Fd, Show::Address, Show::Unsigned, Show::Flags(FLAGS)],
    ),
    full(raw::__NR_tee, "tee", sys_tee, &[Show::Fd, Show::Fd, Show::Unsigned, Show::Flags(FLAGS)]),
    full(
        raw::__NR_vmsplice,
        "vmsplice",
        sys_vmsplice,
        &[Show::Fd, Show::Address, Show::Unsigned, Show::Flags(FLAGS)],
    ),
];

const FLAGS: Names = &[
    (raw::SPLICE_F_MOVE as u64, "SPLICE_F_MOVE"),
    (raw::SPLICE_F_NONBLOCK as u64, "SPLICE_F_NONBLOCK"),
    (raw::SPLICE_F_MORE as u64, "SPLICE_F_MORE"),
    (raw::SPLICE_F_GIFT as u64, "SPLICE_F_GIFT"),
];
const KNOWN: u32 = raw::SPLICE_F_MOVE | raw::SPLICE_F_NONBLOCK | raw::SPLICE_F_MORE | raw::SPLICE_F_GIFT;

/// Bytes that are in the kernel at once.
const CHUNK: usize = 64 << 10;

/// Bytes that a call is asked to move.
fn most(length: u64) -> usize {
    length.min(uaccess::MAX_TRANSFER) as usize
}

fn pipe_of(file: &FileRef) -> Option<&PipeEnd> {
    file.ops.as_any().downcast_ref::<PipeEnd>()
}

fn sys_splice(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = args.u32(5);
    if args.u64(4) == 0 {
        return Ok(0);
    }
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let (from, to) = (file(context, args.i32(0))?, file(context, args.i32(2))?);
    let (source, target) = (pipe_of(&from), pipe_of(&to));
    if source.is_some() && args.u64(1) != 0 || target.is_some() && args.u64(3) != 0 {
        return Err(Errno::ESPIPE);
    }
    let mut to_place = Place::read(args.u64(3))?;
    let mut from_place = Place::read(args.u64(1))?;
    if !from.readable() || !to.writable() {
        return Err(Errno::EBADF);
    }
    let nonblocking = flags & raw::SPLICE_F_NONBLOCK != 0;
    let wanted = most(args.u64(4));
    let count = match (source, target) {
        (Some(source), Some(target)) => {
            let nonblocking = nonblocking || from.nonblocking() || to.nonblocking();
            pipe::transfer(source, target, wanted, nonblocking, false)?
        }
        (Some(source), None) => {
            if to_place.offset.is_some() && !to.ops.seekable() || to.flags() & raw::O_APPEND != 0 {
                return Err(Errno::EINVAL);
            }
            from_pipe(context, source, (&to, &mut to_place), wanted, nonblocking || from.nonblocking())?
        }
        (None, Some(target)) => {
            if from_place.offset.is_some() && !from.ops.seekable() || !gives_pages(&from) {
                return Err(Errno::EINVAL);
            }
            into_pipe((&from, &mut from_place), target, wanted, nonblocking || to.nonblocking())?
        }
        (None, None) => return Err(Errno::EINVAL),
    };
    if count > 0 {
        notify::read(&from);
        notify::written(&to);
    }
    from_place.write_back()?;
    to_place.write_back()?;
    Ok(count as u64)
}

/// Whether a file can be spliced from (`f_op->splice_read`): not directories, nor what has no type, such as eventfds.
fn gives_pages(file: &FileRef) -> bool {
    let mode = match &file.path {
        Some(path) => path.inode().kind().mode_bits(),
        None => file.ops.attributes().map_or(0, |attributes| attributes.mode & raw::S_IFMT),
    };
    !matches!(mode, 0 | raw::S_IFDIR)
}

/// A pipe to something else: waits for the first bytes only.
fn from_pipe(
    context: &Context<'_>,
    source: &PipeEnd,
    (to, place): (&FileRef, &mut Place),
    wanted: usize,
    nonblocking: bool,
) -> Result<usize> {
    let mut buffer: Vec<u8> = vec![0; wanted.min(CHUNK)];
    let mut total = 0;
    while total < wanted {
        let room = buffer.get_mut(..(wanted - total).min(CHUNK)).unwrap_or(&mut []);
        let count = match source.read(&mut Sink::kernel(room), nonblocking || total > 0) {
            Ok(0) => break,
            Err(_) if total > 0 => break,
            count => count?,
        };
        let bytes = buffer.get(..count).unwrap_or(&[]);
        let mut input = Source::kernel(bytes);
        let put = match place.offset {
            Some(offset) => write_there(context, to, offset, &mut input),
            None => write_here(context, to, &mut input),
        };
        let done = put.unwrap_or(0);
        if done < count {
            source.put_back(bytes.get(done..).unwrap_or(&[]))?;
        }
        place.advance(done);
        total += done;
        match put {
            Err(errno) if total == 0 => return Err(errno),
            _ if done < count => break,
            _ => {}
        }
    }
    Ok(total)
}

/// Something else to a pipe: as much as there is room for in it.
fn into_pipe(
    (from, place): (&FileRef, &mut Place),
    target: &PipeEnd,
    wanted: usize,
    nonblocking: bool,
) -> Result<usize> {
    let room = target.wait_for_room(nonblocking)?;
    let mut buffer: Vec<u8> = vec![0; wanted.min(room)];
    let mut input = Sink::kernel(&mut buffer);
    let count = match place.offset {
        Some(offset) => read_there(from, offset, &mut input),
        None => read_here(from, &mut input),
    }?;
    place.advance(count);
    let bytes = buffer.get(..count).unwrap_or(&[]);
    // The room may have gone to others meanwhile: what came from a stream can only wait for more.
    let may_wait = !from.ops.seekable();
    let put = target.write(&mut Source::kernel(bytes), nonblocking && !may_wait, false);
    unread(from, place, count - put.unwrap_or(0));
    put
}

fn sys_tee(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = args.u32(3);
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    if args.u64(2) == 0 {
        return Ok(0);
    }
    let (from, to) = (file(context, args.i32(0))?, file(context, args.i32(1))?);
    if !from.readable() || !to.writable() {
        return Err(Errno::EBADF);
    }
    let (Some(source), Some(target)) = (pipe_of(&from), pipe_of(&to)) else { return Err(Errno::EINVAL) };
    let nonblocking = flags & raw::SPLICE_F_NONBLOCK != 0 || from.nonblocking() || to.nonblocking();
    pipe::transfer(source, target, most(args.u64(2)), nonblocking, true).map(|count| count as u64)
}

fn sys_vmsplice(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = args.u32(3);
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let file = file(context, args.i32(0))?;
    if !file.readable() && !file.writable() {
        return Err(Errno::EBADF);
    }
    let spans = uaccess::read_iovec(args.u64(1), args.u64(2))?;
    let total: u64 = spans.iter().map(|span| span.length).sum();
    if total == 0 {
        return Ok(0);
    }
    let pipe = pipe_of(&file).ok_or(Errno::EBADF)?;
    let nonblocking = flags & raw::SPLICE_F_NONBLOCK != 0;
    let count = if file.writable() {
        pipe.write_some(&mut Source::user(&spans), nonblocking)?
    } else {
        pipe.read(&mut Sink::user(&spans), nonblocking)?
    };
    Ok(count as u64)
}
