//! Copies from one descriptor to another: sendfile(2), copy_file_range(2). Pipes are in `splice`.

use super::file;
use super::read::{read_here, read_there};
use super::stat::of_file;
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
use vfs::notify;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_sendfile, "sendfile", sys_sendfile, &[Show::Fd, Show::Fd, Show::Address, Show::Unsigned]),
    full(
        raw::__NR_copy_file_range,
        "copy_file_range",
        sys_copy_file_range,
        &[Show::Fd, Show::Address, Show::Fd, Show::Address, Show::Unsigned, Show::Unsigned],
    ),
];

/// Bytes moved through the kernel at once.
const CHUNK: usize = 64 << 10;

/// A position that the caller may have given by address.
pub(super) struct Place {
    address: u64,
    pub offset: Option<i64>,
}

impl Place {
    pub fn read(address: u64) -> Result<Place> {
        let offset: Option<i64> = uaccess::read_optional(address)?;
        if offset.is_some_and(|offset| offset < 0) {
            return Err(Errno::EINVAL);
        }
        Ok(Place { address, offset })
    }

    pub fn advance(&mut self, count: usize) {
        self.offset = self.offset.map(|offset| offset.saturating_add(count as i64));
    }

    pub fn write_back(&self) -> Result<()> {
        match self.offset {
            Some(offset) => uaccess::write(self.address, &offset),
            None => Ok(()),
        }
    }
}

fn is_regular(file: &FileRef) -> bool {
    file.path.as_ref().is_some_and(|path| path.inode().kind() == Kind::Regular)
}

/// Copies up to `length` bytes; what was copied before an error counts.
fn copy(
    context: &Context<'_>,
    (from, from_place): (&FileRef, &mut Place),
    (to, to_place): (&FileRef, &mut Place),
    length: u64,
) -> Result<u64> {
    let mut left = length.min(MAX_TRANSFER) as usize;
    let mut total = 0u64;
    let mut buffer: Vec<u8> = vec![0; CHUNK.min(left.max(1))];
    while left > 0 {
        let room = buffer.get_mut(..left.min(CHUNK)).unwrap_or(&mut []);
        let mut sink = Sink::kernel(room);
        let count = match from_place.offset {
            Some(offset) => read_there(from, offset, &mut sink),
            None => read_here(from, &mut sink),
        };
        let count = match count {
            Ok(0) => break,
            Ok(count) => count,
            Err(errno) => return if total > 0 { Ok(total) } else { Err(errno) },
        };
        from_place.advance(count);
        let mut written = 0;
        while written < count {
            let mut source = Source::kernel(buffer.get(written..count).unwrap_or(&[]));
            let put = match to_place.offset {
                Some(offset) => write_there(context, to, offset, &mut source),
                None => write_here(context, to, &mut source),
            };
            match put {
                Ok(put) if put > 0 => {
                    to_place.advance(put);
                    written += put;
                }
                outcome => {
                    unread(from, from_place, count - written);
                    total += written as u64;
                    return match outcome {
                        Err(errno) if total == 0 => Err(errno),
                        _ => Ok(total),
                    };
                }
            }
        }
        total += count as u64;
        left -= count;
        if count < CHUNK && !is_regular(from) {
            break;
        }
    }
    Ok(total)
}

/// Gives back what was read but could not be written.
pub(super) fn unread(file: &FileRef, place: &mut Place, count: usize) {
    match &mut place.offset {
        Some(offset) => *offset -= count as i64,
        None if file.ops.seekable() => {
            let mut position = file.position.lock();
            *position = position.saturating_sub(count as u64);
        }
        None => {}
    }
}

fn sys_sendfile(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (to, from) = (file(context, args.i32(0))?, file(context, args.i32(1))?);
    if !from.readable() || !to.writable() {
        return Err(Errno::EBADF);
    }
    let directory = from.path.as_ref().is_some_and(|path| path.dentry.is_directory());
    if to.flags() & raw::O_APPEND != 0 || !from.ops.seekable() || directory {
        return Err(Errno::EINVAL);
    }
    let mut from_place = Place::read(args.u64(2))?;
    let mut to_place = Place { address: 0, offset: None };
    let count = copy(context, (&from, &mut from_place), (&to, &mut to_place), args.u64(3))?;
    done(context, &from, &to, count);
    from_place.write_back()?;
    Ok(count)
}

/// A call that read and wrote is over: it is counted, and what was copied is told to those who watch the files.
fn done(context: &Context<'_>, from: &FileRef, to: &FileRef, count: u64) {
    context.thread.task.io.read(count);
    context.thread.task.io.written(count);
    if count > 0 {
        notify::read(from);
        notify::written(to);
    }
}

fn sys_copy_file_range(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (from, to) = (file(context, args.i32(0))?, file(context, args.i32(2))?);
    let place = |address| uaccess::read_optional(address).map(|offset| Place { address, offset });
    let (mut from_place, mut to_place) = (place(args.u64(1))?, place(args.u64(3))?);
    if args.u32(5) != 0 {
        return Err(Errno::EINVAL);
    }
    let (source, target) = (of_file(&from)?, of_file(&to)?);
    for kind in [source.kind(), target.kind()] {
        match kind {
            Kind::Regular => {}
            Kind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    if !from.readable() || !to.writable() || to.flags() & raw::O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    if source.dev != target.dev {
        return Err(Errno::EXDEV);
    }
    let at =
        |file: &FileRef, place: &Place| place.offset.map_or_else(|| *file.position.lock(), |at| at as u64);
    let (start, to_start) = (at(&from, &from_place), at(&to, &to_place));
    let wanted = args.u64(4);
    // Whether an offset is negative is asked last, as on Linux.
    if start.checked_add(wanted).is_none() || to_start.checked_add(wanted).is_none() {
        return Err(Errno::EOVERFLOW);
    }
    if start < source.size && to_start.saturating_add(wanted) > i64::MAX as u64 {
        return Err(Errno::EFBIG);
    }
    if start.max(to_start) > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let length = wanted.min(source.size.saturating_sub(start));
    if source.ino == target.ino
        && to_start.saturating_add(length) > start
        && to_start < start.saturating_add(length)
    {
        return Err(Errno::EINVAL);
    }
    let count = copy(context, (&from, &mut from_place), (&to, &mut to_place), length)?;
    done(context, &from, &to, count);
    from_place.write_back()?;
    to_place.write_back()?;
    Ok(count)
}
