//! Bytes between pipes and other files, or memory: splice(2), tee(2), vmsplice(2). The bytes are copied, which a program
//! cannot tell from moving them, except that memory given to vmsplice(2) may be changed at once.

use super::file;
use super::read::{read_here, read_there};
use super::transfer::{CHUNK, Place, unread};
use super::write::{write_here, write_there};
use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use alloc::vec;
use alloc::vec::Vec;
use kernel::uaccess::{self, MAX_TRANSFER, Sink, Source};
use linux_raw_sys::general as raw;
use vfs::attributes::Kind;
use vfs::file::FileRef;
use vfs::pipe::{self, PipeEnd};

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(
        raw::__NR_splice,
        "splice",
        sys_splice,
        &[Show::Fd, Show::Address, Show::Fd, Show::Address, Show::Unsigned, Show::Unsigned],
    ),
    full(raw::__NR_tee, "tee", sys_tee, &[Show::Fd, Show::Fd, Show::Unsigned, Show::Unsigned]),
    full(
        raw::__NR_vmsplice,
        "vmsplice",
        sys_vmsplice,
        &[Show::Fd, Show::Address, Show::Unsigned, Show::Unsigned],
    ),
];

const NONBLOCK: u32 = raw::SPLICE_F_NONBLOCK;
const ALL_FLAGS: u32 = raw::SPLICE_F_MOVE | NONBLOCK | raw::SPLICE_F_MORE | raw::SPLICE_F_GIFT;

fn as_pipe(file: &FileRef) -> Option<&PipeEnd> {
    file.ops.as_any().downcast_ref()
}

fn sys_splice(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (length, flags) = (args.u64(4).min(MAX_TRANSFER) as usize, args.u32(5));
    if length == 0 {
        return Ok(0);
    }
    if flags & !ALL_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let (from, to) = (file(context, args.i32(0))?, file(context, args.i32(2))?);
    let (from_pipe, to_pipe) = (as_pipe(&from), as_pipe(&to));
    if from_pipe.is_some() && args.u64(1) != 0 || to_pipe.is_some() && args.u64(3) != 0 {
        return Err(Errno::ESPIPE);
    }
    let (mut from_place, mut to_place) = (Place::read(args.u64(1))?, Place::read(args.u64(3))?);
    if !from.readable() || !to.writable() {
        return Err(Errno::EBADF);
    }
    let nonblocking = |pipe: &FileRef| flags & NONBLOCK != 0 || pipe.nonblocking();
    let count = match (from_pipe, to_pipe) {
        (Some(from_pipe), Some(to_pipe)) => {
            pipe::transfer(from_pipe, to_pipe, length, nonblocking(&from) || nonblocking(&to), false)?
        }
        (Some(pipe), None) => from_pipe_to(context, pipe, (&to, &mut to_place), length, nonblocking(&from))?,
        (None, Some(pipe)) => to_pipe_from((&from, &mut from_place), pipe, length, nonblocking(&to))?,
        (None, None) => return Err(Errno::EINVAL),
    };
    from_place.write_back()?;
    to_place.write_back()?;
    Ok(count as u64)
}

/// What is not a pipe: `EINVAL` for what has no bytes to pass, or no positions if one was given.
fn check_other(file: &FileRef, place: &Place) -> Result<()> {
    let streams = match &file.path {
        Some(path) => path.inode().kind() != Kind::Directory,
        // An eventfd and its like have no kind at all.
        None => file.ops.attributes().is_ok_and(|attributes| attributes.mode & raw::S_IFMT != 0),
    };
    if !streams || (place.offset.is_some() && !file.ops.seekable()) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Waits for bytes only as long as none was passed on.
fn from_pipe_to(
    context: &Context<'_>,
    pipe: &PipeEnd,
    (to, place): (&FileRef, &mut Place),
    length: usize,
    nonblocking: bool,
) -> Result<usize> {
    check_other(to, place)?;
    if to.flags() & raw::O_APPEND != 0 {
        return Err(Errno::EINVAL);
    }
    let mut buffer: Vec<u8> = vec![0; CHUNK.min(length)];
    let mut total = 0;
    while total < length {
        let room = buffer.get_mut(..CHUNK.min(length - total)).unwrap_or(&mut []);
        let count = match pipe.read(&mut Sink::kernel(room), nonblocking || total > 0) {
            Ok(0) => break,
            Ok(count) => count,
            Err(errno) => return if total > 0 { Ok(total) } else { Err(errno) },
        };
        let bytes = buffer.get(..count).unwrap_or(&[]);
        let (written, failure) = write_all(context, to, place, bytes);
        total += written;
        if written < count {
            pipe.put_back(bytes.get(written..).unwrap_or(&[]))?;
            return match failure {
                Some(errno) if total == 0 => Err(errno),
                _ => Ok(total),
            };
        }
    }
    Ok(total)
}

fn write_all(context: &Context<'_>, to: &FileRef, place: &mut Place, bytes: &[u8]) -> (usize, Option<Errno>) {
    let mut written = 0;
    while written < bytes.len() {
        let mut source = Source::kernel(bytes.get(written..).unwrap_or(&[]));
        let put = match place.offset {
            Some(offset) => write_there(context, to, offset, &mut source),
            None => write_here(context, to, &mut source),
        };
        match put {
            Ok(0) => break,
            Ok(put) => {
                place.advance(put);
                written += put;
            }
            Err(errno) => return (written, Some(errno)),
        }
    }
    (written, None)
}

/// One read, of what there is room for.
fn to_pipe_from(
    (from, place): (&FileRef, &mut Place),
    pipe: &PipeEnd,
    length: usize,
    nonblocking: bool,
) -> Result<usize> {
    check_other(from, place)?;
    let room = pipe.wait_for_room(nonblocking)?;
    let mut buffer: Vec<u8> = vec![0; room.min(length)];
    let mut sink = Sink::kernel(&mut buffer);
    let count = match place.offset {
        Some(offset) => read_there(from, offset, &mut sink)?,
        None => read_here(from, &mut sink)?,
    };
    place.advance(count);
    // Another writer may have been quicker; what cannot be given back has to wait all the same.
    let bytes = buffer.get(..count).unwrap_or(&[]);
    let written = pipe.write(&mut Source::kernel(bytes), nonblocking && from.ops.seekable(), false);
    unread(from, place, count - written.unwrap_or(0));
    written
}

fn sys_tee(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (length, flags) = (args.u64(2).min(MAX_TRANSFER) as usize, args.u32(3));
    if flags & !ALL_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    if length == 0 {
        return Ok(0);
    }
    let (from, to) = (file(context, args.i32(0))?, file(context, args.i32(1))?);
    if !from.readable() || !to.writable() {
        return Err(Errno::EBADF);
    }
    let (Some(source), Some(target)) = (as_pipe(&from), as_pipe(&to)) else { return Err(Errno::EINVAL) };
    let nonblocking = flags & NONBLOCK != 0 || from.nonblocking() || to.nonblocking();
    pipe::transfer(source, target, length, nonblocking, true).map(|count| count as u64)
}

fn sys_vmsplice(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = args.u32(3);
    if flags & !ALL_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let file = file(context, args.i32(0))?;
    if !file.readable() && !file.writable() {
        return Err(Errno::EBADF);
    }
    let spans = uaccess::read_iovec(args.u64(1), args.u64(2))?;
    let nonblocking = flags & NONBLOCK != 0;
    if !file.writable() {
        let mut sink = Sink::user(&spans);
        if sink.left() == 0 {
            return Ok(0);
        }
        let pipe = as_pipe(&file).ok_or(Errno::EBADF)?;
        return pipe.read(&mut sink, nonblocking).map(|count| count as u64);
    }
    let mut source = Source::user(&spans);
    if source.left() == 0 {
        return Ok(0);
    }
    let pipe = as_pipe(&file).ok_or(Errno::EBADF)?;
    // As much as there is room for: only the first byte is waited for.
    let mut total = 0;
    while source.left() > 0 {
        let room = match pipe.wait_for_room(nonblocking || total > 0) {
            Ok(room) => room,
            Err(errno) => return if total > 0 { Ok(total as u64) } else { Err(errno) },
        };
        let mut bytes = vec![0; room.min(source.left()).min(CHUNK)];
        let count = match source.take(&mut bytes) {
            Ok(count) => count,
            Err(errno) => return if total > 0 { Ok(total as u64) } else { Err(errno) },
        };
        if count == 0 {
            break;
        }
        let bytes = bytes.get(..count).unwrap_or(&[]);
        total += pipe.write(&mut Source::kernel(bytes), false, false)?;
    }
    Ok(total as u64)
}
