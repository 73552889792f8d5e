//! Locks on files: the locking commands of fcntl(2), flock(2), and what closing a descriptor does to them.

use super::{any_file, file};
use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use alloc::sync::Arc;
use kernel::uaccess;
use linux_raw_sys::general as raw;
use vfs::file::FileRef;
use vfs::record_locks::{self, FileId, Lock, Owner};

const OPERATIONS: &[(u64, &str)] = &[
    (1, "LOCK_SH"),
    (2, "LOCK_EX"),
    (5, "LOCK_SH|LOCK_NB"),
    (6, "LOCK_EX|LOCK_NB"),
    (8, "LOCK_UN"),
];

/// The rows of this file.
pub const ROWS: &[Row] = &[full(raw::__NR_flock, "flock", sys_flock, &[Show::Fd, Show::OneOf(OPERATIONS)])];

const F_RDLCK: i16 = 0;
const F_WRLCK: i16 = 1;
const F_UNLCK: i16 = 2;

fn id_of(file: &FileRef) -> Result<FileId> {
    let attributes = super::stat::of_file(file)?;
    Ok((attributes.dev, attributes.ino))
}

/// The byte range of a `struct flock` (fcntl(2)): `EINVAL`, `EOVERFLOW`.
fn range(file: &FileRef, lock: &raw::flock) -> Result<(u64, u64)> {
    let base = match lock.l_whence as u32 {
        raw::SEEK_SET => 0,
        raw::SEEK_CUR => *file.position.lock() as i64,
        raw::SEEK_END => super::stat::of_file(file)?.size as i64,
        _ => return Err(Errno::EINVAL),
    };
    let first = base.checked_add(lock.l_start).ok_or(Errno::EOVERFLOW)?;
    let (start, end) = match lock.l_len {
        0 => (first, None),
        length if length > 0 => (first, Some(first.checked_add(length).ok_or(Errno::EOVERFLOW)?)),
        length => (first.checked_add(length).ok_or(Errno::EINVAL)?, Some(first)),
    };
    let start = u64::try_from(start).map_err(|_| Errno::EINVAL)?;
    Ok((start, end.map_or(u64::MAX, |end| end as u64)))
}

/// The locking commands of fcntl(2).
pub fn fcntl(context: &Context<'_>, file: &FileRef, command: u32, address: u64) -> Result<u64> {
    let mut lock: raw::flock = uaccess::read(address)?;
    let of_description = matches!(command, raw::F_OFD_GETLK | raw::F_OFD_SETLK | raw::F_OFD_SETLKW);
    if of_description && lock.l_pid != 0 {
        return Err(Errno::EINVAL);
    }
    let owner = if of_description {
        Owner::Description(Arc::as_ptr(file) as usize)
    } else {
        Owner::Process(context.thread.task.group.tgid)
    };
    let (start, end) = range(file, &lock)?;
    let kind = lock.l_type;
    let wanted = Lock { start, end, exclusive: kind == F_WRLCK, owner };
    let id = id_of(file)?;
    match command {
        raw::F_GETLK | raw::F_OFD_GETLK => {
            if !matches!(kind, F_RDLCK | F_WRLCK) {
                return Err(Errno::EINVAL);
            }
            match record_locks::test(id, &wanted)? {
                None => lock.l_type = F_UNLCK,
                Some(holder) => {
                    lock.l_type = if holder.exclusive { F_WRLCK } else { F_RDLCK };
                    lock.l_whence = raw::SEEK_SET as i16;
                    lock.l_start = holder.start as i64;
                    lock.l_len = if holder.end == u64::MAX { 0 } else { (holder.end - holder.start) as i64 };
                    lock.l_pid = match holder.owner {
                        Owner::Process(pid) => pid,
                        _ => -1,
                    };
                }
            }
            uaccess::write(address, &lock)?;
            Ok(0)
        }
        _ => {
            let wait = matches!(command, raw::F_SETLKW | raw::F_OFD_SETLKW);
            match kind {
                F_RDLCK if !file.readable() => Err(Errno::EBADF),
                F_WRLCK if !file.writable() => Err(Errno::EBADF),
                F_RDLCK | F_WRLCK => record_locks::lock(id, &wanted, wait).map(|()| 0),
                F_UNLCK => record_locks::unlock(id, &wanted).map(|()| 0),
                _ => Err(Errno::EINVAL),
            }
        }
    }
}

fn sys_flock(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const NONBLOCK: u32 = 4;
    let file = file(context, args.i32(0))?;
    let owner = Owner::Flock(Arc::as_ptr(&file) as usize);
    let id = id_of(&file)?;
    let whole = |exclusive| Lock { start: 0, end: u64::MAX, exclusive, owner };
    let wait = args.u32(1) & NONBLOCK == 0;
    match args.u32(1) & !NONBLOCK {
        1 => record_locks::lock(id, &whole(false), wait)?,
        2 => record_locks::lock(id, &whole(true), wait)?,
        8 => record_locks::unlock(id, &whole(false))?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// A descriptor is about to be closed: the process's record locks on its file go, whichever descriptor they were taken
/// through (fcntl(2)), and those of its description with the last descriptor.
pub fn descriptor_closed(context: &Context<'_>, fd: i32) {
    if !record_locks::any() {
        return;
    }
    let Ok(file) = any_file(context, fd) else { return };
    let Ok(id) = id_of(&file) else { return };
    record_locks::release(Some(id), Owner::Process(context.thread.task.group.tgid));
    // The table's reference and ours: nobody else has it open.
    if Arc::strong_count(&file) <= 2 {
        release_description(&file);
    }
}

/// Gives back what an open file description holds.
fn release_description(file: &FileRef) {
    let address = Arc::as_ptr(file) as usize;
    record_locks::release(None, Owner::Description(address));
    record_locks::release(None, Owner::Flock(address));
}

/// A process ends: its record locks go, and those of descriptions that only it had open.
pub fn process_ended(tgid: i32, files: &vfs::table::FileTable) {
    if !record_locks::any() {
        return;
    }
    record_locks::release(None, Owner::Process(tgid));
    for (_, file, _) in files.list() {
        if Arc::strong_count(&file) <= 2 {
            release_description(&file);
        }
    }
}
