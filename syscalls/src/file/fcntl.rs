//! fcntl(2): everything but locks, which are in `locks`.

use super::{any_file, descriptor_limit, locks};
use crate::args::Args;
use crate::strace::flags::FCNTL;
use crate::table::{Context, Row, Show, partial};
use crate::{Errno, Result};
use kernel::signal::COUNT;
use kernel::task::lock_table;
use kernel::uaccess;
use linux_raw_sys::general as raw;
use vfs::file::{FileRef, SETTABLE_FLAGS};
use vfs::memfd::Memfd;
use vfs::pipe::PipeEnd;

/// The rows of this file.
pub const ROWS: &[Row] = &[partial(
    raw::__NR_fcntl,
    "fcntl",
    sys_fcntl,
    &[Show::Fd, Show::OneOf(FCNTL), Show::Address],
    "O_ASYNC sends no signals; leases and F_NOTIFY",
)];

/// `F_OWNER_TID` and `F_OWNER_PID`.
const OWNER_THREAD: i32 = 0;
const OWNER_PROCESS: i32 = 1;
const F_LINUX: u32 = 1024;
const F_DUPFD_QUERY: u32 = F_LINUX + 3;
const F_GETLEASE: u32 = F_LINUX + 1;
const F_SETLEASE: u32 = F_LINUX;
const F_GET_RW_HINT: u32 = F_LINUX + 11;
const F_SET_RW_HINT: u32 = F_LINUX + 12;
const F_UNLCK: u64 = 2;

fn sys_fcntl(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (fd, command, argument) = (args.i32(0), args.u32(1), args.u64(2));
    let file = any_file(context, fd)?;
    let files = context.thread.files();
    match command {
        raw::F_DUPFD | raw::F_DUPFD_CLOEXEC => {
            let limit = descriptor_limit(context);
            let from = argument as i32;
            if from < 0 || from as u64 >= limit {
                return Err(Errno::EINVAL);
            }
            return files
                .insert_from(from as u64, file, command == raw::F_DUPFD_CLOEXEC, limit)
                .map(|fd| fd as u64);
        }
        raw::F_GETFD => return files.close_on_exec_flag(fd).map(u64::from),
        raw::F_SETFD => return files.set_close_on_exec(fd, argument & 1 != 0).map(|()| 0),
        raw::F_GETFL => return Ok(u64::from(shown_flags(&file))),
        F_DUPFD_QUERY => {
            let other = any_file(context, argument as i32)?;
            return Ok(u64::from(alloc::sync::Arc::ptr_eq(&file, &other)));
        }
        _ if file.flags() & raw::O_PATH != 0 => return Err(Errno::EBADF),
        _ => {}
    }
    match command {
        raw::F_SETFL => {
            let noatime_asked = argument as u32 & raw::O_NOATIME & !file.flags() != 0;
            if noatime_asked && !super::open::owns(context, &file)? {
                return Err(Errno::EPERM);
            }
            file.set_flags(argument as u32 & SETTABLE_FLAGS);
            Ok(0)
        }
        raw::F_GETLK
        | raw::F_SETLK
        | raw::F_SETLKW
        | raw::F_OFD_GETLK
        | raw::F_OFD_SETLK
        | raw::F_OFD_SETLKW => locks::fcntl(context, &file, command, argument),
        raw::F_GETOWN => {
            let (owner, _) = *file.owner.lock();
            // Process groups are shown as negative numbers.
            let id = if owner.type_ == 2 { owner.pid.wrapping_neg() } else { owner.pid };
            Ok(id as i64 as u64)
        }
        raw::F_SETOWN => {
            let id = argument as i32;
            let (type_, pid) = if id < 0 { (2, id.checked_neg().ok_or(Errno::EINVAL)?) } else { (1, id) };
            set_owner(&file, raw::f_owner_ex { type_, pid })
        }
        raw::F_GETOWN_EX => {
            let owner = file.owner.lock().0;
            uaccess::write(argument, &owner)?;
            Ok(0)
        }
        raw::F_SETOWN_EX => {
            let owner: raw::f_owner_ex = uaccess::read(argument)?;
            if !(0..=2).contains(&owner.type_) {
                return Err(Errno::EINVAL);
            }
            set_owner(&file, owner)
        }
        raw::F_GETSIG => Ok(file.owner.lock().1 as u64),
        raw::F_SETSIG => {
            if argument > COUNT as u64 {
                return Err(Errno::EINVAL);
            }
            file.owner.lock().1 = argument as i32;
            Ok(0)
        }
        F_GETLEASE => Ok(F_UNLCK),
        F_SETLEASE if argument == F_UNLCK => Err(Errno::EAGAIN),
        F_SETLEASE => Err(Errno::EINVAL),
        raw::F_GETPIPE_SZ | raw::F_SETPIPE_SZ => {
            let pipe = file.ops.as_any().downcast_ref::<PipeEnd>().ok_or(Errno::EBADF)?;
            if command == raw::F_GETPIPE_SZ {
                Ok(pipe.capacity())
            } else {
                pipe.set_capacity(argument as u32)
            }
        }
        raw::F_ADD_SEALS | raw::F_GET_SEALS => {
            let memfd = file.ops.as_any().downcast_ref::<Memfd>().ok_or(Errno::EINVAL)?;
            if command == raw::F_GET_SEALS {
                return Ok(u64::from(memfd.seals()));
            }
            if !file.writable() {
                return Err(Errno::EPERM);
            }
            memfd.add_seals(argument as u32).map(|()| 0)
        }
        F_GET_RW_HINT | F_SET_RW_HINT => {
            if command == F_GET_RW_HINT {
                uaccess::write(argument, &0u64)?;
            }
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Who gets the signals of a file (`F_SETOWN`): `ESRCH` for nobody; 0 takes the owner away.
fn set_owner(file: &FileRef, owner: raw::f_owner_ex) -> Result<u64> {
    let id = owner.pid;
    if id != 0 {
        let found = match owner.type_ {
            OWNER_THREAD => lock_table()?.task(id).is_some(),
            OWNER_PROCESS => lock_table()?.group(id).is_some(),
            _ => {
                let groups = lock_table()?.groups();
                groups.iter().any(|group| group.family.lock().pgid == id)
            }
        };
        if !found {
            return Err(Errno::ESRCH);
        }
    }
    file.owner.lock().0 = owner;
    Ok(0)
}

/// What `F_GETFL` shows: with `O_LARGEFILE`, as on every 64-bit open (files that have a name).
fn shown_flags(file: &FileRef) -> u32 {
    const O_LARGEFILE: u32 = 0o100_000;
    let flags = file.flags() & !raw::O_CLOEXEC;
    if file.path.is_some() && flags & raw::O_PATH == 0 { flags | O_LARGEFILE } else { flags }
}
