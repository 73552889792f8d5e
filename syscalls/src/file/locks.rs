//! Locks on files: the locking commands of fcntl(2), flock(2). What holds them, and what closing does, is `vfs::locks`'s.

use super::file;
use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use kernel::uaccess;
use linux_raw_sys::general as raw;
use vfs::file::FileRef;
use vfs::locks::{self, RecordRequest};

const OPERATIONS: &[(u64, &str)] =
    &[(1, "LOCK_SH"), (2, "LOCK_EX"), (5, "LOCK_SH|LOCK_NB"), (6, "LOCK_EX|LOCK_NB"), (8, "LOCK_UN")];

/// The rows of this file.
pub const ROWS: &[Row] = &[full(raw::__NR_flock, "flock", sys_flock, &[Show::Fd, Show::OneOf(OPERATIONS)])];

/// The locking commands of fcntl(2).
pub fn fcntl(context: &Context<'_>, file: &FileRef, command: u32, address: u64) -> Result<u64> {
    let mut lock: raw::flock = uaccess::read(address)?;
    let description = matches!(command, raw::F_OFD_GETLK | raw::F_OFD_SETLK | raw::F_OFD_SETLKW);
    let wait = matches!(command, raw::F_SETLKW | raw::F_OFD_SETLKW);
    if description && lock.l_pid != 0 {
        return Err(Errno::EINVAL);
    }
    let position = *file.position.lock();
    let size = if lock.l_whence as u32 == raw::SEEK_END { super::stat::of_file(file)?.size } else { 0 };
    let range = locks::range(lock.l_whence as u32, lock.l_start, lock.l_len, position, size)?;
    let kind = u32::from(lock.l_type as u16);
    let request = RecordRequest { range, kind, description, wait };
    let files = context.files();
    if !matches!(command, raw::F_GETLK | raw::F_OFD_GETLK) {
        return locks::set_record(&files, file, &request).map(|()| 0);
    }
    if !matches!(kind, raw::F_RDLCK | raw::F_WRLCK) {
        return Err(Errno::EINVAL);
    }
    match locks::get_record(&files, file, &request) {
        None => lock.l_type = raw::F_UNLCK as _,
        Some(other) => {
            lock.l_type = other.kind as _;
            lock.l_whence = raw::SEEK_SET as _;
            lock.l_start = other.first as i64;
            let to_end = other.last >= i64::MAX as u64;
            lock.l_len = if to_end { 0 } else { (other.last - other.first + 1) as i64 };
            lock.l_pid = other.pid.map_or(-1, |pid| context.shown(pid));
        }
    }
    uaccess::write(address, &lock)?;
    Ok(0)
}

fn sys_flock(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const NONBLOCK: u32 = 4;
    let file = file(context, args.i32(0))?;
    let exclusive = match args.u32(1) & !NONBLOCK {
        1 => Some(false),
        2 => Some(true),
        8 => None,
        _ => return Err(Errno::EINVAL),
    };
    locks::lock_whole(&file, exclusive, args.u32(1) & NONBLOCK == 0)?;
    Ok(0)
}
