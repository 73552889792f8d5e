//! fsync(2) and what else brings data to where it stays, and advice about files.

use super::file;
use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use linux_raw_sys::general as raw;
use vfs::attributes::Kind;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_fsync, "fsync", |context, args| sync(context, args, false), &[Show::Fd]),
    full(raw::__NR_fdatasync, "fdatasync", |context, args| sync(context, args, true), &[Show::Fd]),
    // What the sandbox holds in memory has nowhere else to go; granted host files are the host's to write back.
    full(raw::__NR_sync, "sync", |_, _| Ok(0), &[]),
    full(raw::__NR_syncfs, "syncfs", |context, args| file(context, args.i32(0)).map(|_| 0), &[Show::Fd]),
    full(
        raw::__NR_sync_file_range,
        "sync_file_range",
        sys_sync_file_range,
        &[Show::Fd, Show::Int, Show::Int, Show::Unsigned],
    ),
    full(raw::__NR_fadvise64, "fadvise64", sys_fadvise64, &[Show::Fd, Show::Int, Show::Int, Show::Int]),
    full(raw::__NR_readahead, "readahead", sys_readahead, &[Show::Fd, Show::Int, Show::Unsigned]),
];

fn sync(context: &Context<'_>, args: Args, data_only: bool) -> Result<u64> {
    file(context, args.i32(0))?.ops.sync(data_only)?;
    Ok(0)
}

fn sys_sync_file_range(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let file = file(context, args.i32(0))?;
    let (offset, length) = (args.i64(1), args.i64(2));
    if args.u32(3) & !7 != 0 || offset < 0 || length < 0 || offset.checked_add(length).is_none() {
        return Err(Errno::EINVAL);
    }
    if !file.ops.seekable() {
        return Err(Errno::ESPIPE);
    }
    file.ops.sync(true).map(|()| 0)
}

fn sys_fadvise64(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let file = file(context, args.i32(0))?;
    if !file.ops.seekable() {
        return Err(Errno::ESPIPE);
    }
    if !(0..=5).contains(&args.i32(3)) || args.i64(2) < 0 {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}

fn sys_readahead(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let file = file(context, args.i32(0))?;
    if !file.readable() {
        return Err(Errno::EBADF);
    }
    match super::attributes_of(&file)?.kind() {
        Kind::Regular | Kind::BlockDevice => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}
