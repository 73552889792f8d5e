//! lseek(2), getdents64(2): calls that move a file's position.

use super::file;
use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use alloc::vec::Vec;
use kernel::uaccess;
use linux_raw_sys::general as raw;
use vfs::file::DirEntry;
use vfs::notify;

const WHENCE: &[(u64, &str)] =
    &[(0, "SEEK_SET"), (1, "SEEK_CUR"), (2, "SEEK_END"), (3, "SEEK_DATA"), (4, "SEEK_HOLE")];

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_lseek, "lseek", sys_lseek, &[Show::Fd, Show::Int, Show::OneOf(WHENCE)]),
    full(raw::__NR_getdents64, "getdents64", sys_getdents64, &[Show::Fd, Show::Address, Show::Unsigned]),
    full(raw::__NR_getdents, "getdents", sys_getdents, &[Show::Fd, Show::Address, Show::Unsigned]),
];

fn sys_lseek(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let file = file(context, args.i32(0))?;
    if args.u32(2) > raw::SEEK_HOLE {
        return Err(Errno::EINVAL);
    }
    if !file.ops.seekable() {
        return Err(Errno::ESPIPE);
    }
    let mut position = file.position.lock();
    *position = file.ops.seek(*position, args.i64(1), args.u32(2))?;
    Ok(*position)
}

/// Appends one entry; the bytes it takes depend on the name.
type Encode = fn(&DirEntry<'_>, &mut Vec<u8>);

fn encode_64(entry: &DirEntry<'_>, bytes: &mut Vec<u8>) {
    let length = (19 + entry.name.len() + 1).next_multiple_of(8);
    let end = bytes.len() + length;
    bytes.extend_from_slice(&entry.ino.to_le_bytes());
    bytes.extend_from_slice(&entry.next.to_le_bytes());
    bytes.extend_from_slice(&(length as u16).to_le_bytes());
    bytes.push(entry.kind);
    bytes.extend_from_slice(entry.name);
    bytes.resize(end, 0);
}

/// The old form: the kind is the last byte.
fn encode_old(entry: &DirEntry<'_>, bytes: &mut Vec<u8>) {
    let length = (18 + entry.name.len() + 2).next_multiple_of(8);
    let end = bytes.len() + length;
    bytes.extend_from_slice(&entry.ino.to_le_bytes());
    bytes.extend_from_slice(&entry.next.to_le_bytes());
    bytes.extend_from_slice(&(length as u16).to_le_bytes());
    bytes.extend_from_slice(entry.name);
    bytes.resize(end - 1, 0);
    bytes.push(entry.kind);
}

fn list(context: &Context<'_>, args: Args, encode: Encode) -> Result<u64> {
    let file = file(context, args.i32(0))?;
    // A directory that was removed lists nothing, not even itself.
    if file.path.as_ref().is_some_and(|path| path.dentry.is_directory() && path.dentry.is_removed()) {
        return Err(Errno::ENOENT);
    }
    let room = args.u32(2) as usize;
    let mut position = file.position.lock();
    let mut bytes: Vec<u8> = Vec::new();
    let mut next = *position;
    let mut too_small = false;
    file.ops.read_dir(*position, room, &mut |entry| {
        let before = bytes.len();
        if before == 0 {
            bytes.reserve(room.min(32 << 10));
        }
        encode(&entry, &mut bytes);
        if bytes.len() > room {
            too_small = before == 0;
            bytes.truncate(before);
            return false;
        }
        next = entry.next;
        // What was gathered is copied at once; a bound keeps a huge buffer from taking as much kernel memory.
        bytes.len() < 1 << 18
    })?;
    notify::read(&file);
    if too_small {
        return Err(Errno::EINVAL);
    }
    uaccess::write_bytes(args.u64(1), &bytes)?;
    *position = next;
    Ok(bytes.len() as u64)
}

fn sys_getdents64(context: &mut Context<'_>, args: Args) -> Result<u64> {
    list(context, args, encode_64)
}

fn sys_getdents(context: &mut Context<'_>, args: Args) -> Result<u64> {
    list(context, args, encode_old)
}
