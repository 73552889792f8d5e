//! fcntl(2): everything but locks, which are in `locks`.

use super::{any_file, descriptor_limit, locks};
use crate::args::Args;
use crate::strace::flags::FCNTL;
use crate::table::{Context, Row, Show, partial};
use crate::{Errno, Result};
use kernel::signal::COUNT;
use kernel::uaccess;
use linux_raw_sys::general as raw;
use vfs::file::{FileRef, OpenFile, SETTABLE_FLAGS};
use vfs::leases::{self, LeaseKind};
use vfs::memfd::Memfd;
use vfs::pipe::PipeEnd;
use vfs::signal_io::{self, Owner, Recipient};

/// The rows of this file.
pub const ROWS: &[Row] = &[partial(
    raw::__NR_fcntl,
    "fcntl",
    sys_fcntl,
    &[Show::Fd, Show::OneOf(FCNTL), Show::Address],
    "O_ASYNC for pipes, sockets, FIFOs and inotify only",
)];

const F_LINUX: u32 = 1024;
const F_DUPFD_QUERY: u32 = F_LINUX + 3;
const F_GETLEASE: u32 = F_LINUX + 1;
const F_SETLEASE: u32 = F_LINUX;
const F_NOTIFY: u32 = F_LINUX + 2;
const F_GET_RW_HINT: u32 = F_LINUX + 11;
const F_SET_RW_HINT: u32 = F_LINUX + 12;

fn sys_fcntl(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (fd, command, argument) = (args.i32(0), args.u32(1), args.u64(2));
    let file = any_file(context, fd)?;
    let files = context.files();
    match command {
        raw::F_DUPFD | raw::F_DUPFD_CLOEXEC => {
            let limit = descriptor_limit(context);
            let from = argument as i32;
            if from < 0 || from as u64 >= limit {
                return Err(Errno::EINVAL);
            }
            return files
                .insert_from(from as u64, file.clone(), command == raw::F_DUPFD_CLOEXEC, limit)
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
            // Files that send no signals do not show the flag either.
            let settable = if file.ops.signals_io() { SETTABLE_FLAGS } else { SETTABLE_FLAGS & !raw::FASYNC };
            file.set_flags(argument as u32 & settable);
            signal_io::follow_flags(&file, fd);
            Ok(0)
        }
        raw::F_GETLK
        | raw::F_SETLK
        | raw::F_SETLKW
        | raw::F_OFD_GETLK
        | raw::F_OFD_SETLK
        | raw::F_OFD_SETLKW => locks::fcntl(context, &file, command, argument),
        raw::F_GETOWN => {
            let owner = file.owner.lock().to.clone();
            let (kind, id) = owner.told();
            // Process groups are shown as negative numbers.
            let id = context.shown(id);
            let id = if kind == raw::F_OWNER_PGRP { id.wrapping_neg() } else { id };
            Ok(id as i64 as u64)
        }
        raw::F_SETOWN => {
            let id = argument as i32;
            let kind = if id < 0 { raw::F_OWNER_PGRP } else { raw::F_OWNER_PID };
            set_owner(context, &file, kind, id.checked_abs().ok_or(Errno::EINVAL)?)
        }
        raw::F_GETOWN_EX => {
            let owner = file.owner.lock().to.clone();
            let (kind, pid) = owner.told();
            let pid = context.shown(pid);
            uaccess::write(argument, &raw::f_owner_ex { type_: kind as i32, pid })?;
            Ok(0)
        }
        raw::F_SETOWN_EX => {
            let owner: raw::f_owner_ex = uaccess::read(argument)?;
            set_owner(context, &file, owner.type_ as u32, owner.pid)
        }
        raw::F_GETSIG => Ok(file.owner.lock().signal as u64),
        raw::F_SETSIG => {
            if argument > COUNT as u64 {
                return Err(Errno::EINVAL);
            }
            file.owner.lock().signal = argument as i32;
            Ok(0)
        }
        F_GETLEASE => Ok(leases::get(&file)),
        F_SETLEASE => set_lease(context, &file, fd, argument as u32),
        F_NOTIFY => vfs::notify::notify(&files, &file, fd, argument as u32).map(|()| 0),
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

/// `F_SETLEASE`. Who else has the file open is looked for in the tables of all processes, when it is asked for: so no open has to
/// count itself.
fn set_lease(context: &Context<'_>, file: &FileRef, fd: i32, kind: u32) -> Result<u64> {
    let kind = match kind {
        raw::F_UNLCK => return leases::remove(file).map(|()| 0),
        raw::F_RDLCK => LeaseKind::Read,
        raw::F_WRLCK => LeaseKind::Write,
        _ => return Err(Errno::EINVAL),
    };
    let others = |same: &dyn Fn(&OpenFile) -> bool| {
        let mut found = (false, false);
        for thread in crate::thread::all() {
            for (_, other, _) in thread.files().list() {
                let counts = !alloc::sync::Arc::ptr_eq(&other, file) && other.flags() & raw::O_PATH == 0;
                if counts && same(&other) {
                    found = (true, found.1 || other.writable());
                }
            }
        }
        found
    };
    leases::set(file, fd, kind, context.cred(), others).map(|()| 0)
}

/// `F_SETOWN`, `F_SETOWN_EX`: `EINVAL`, `ESRCH`.
fn set_owner(context: &Context<'_>, file: &FileRef, kind: u32, id: i32) -> Result<u64> {
    let to = Recipient::find(context.thread.task.group.space, kind, id)?;
    let cred = context.cred();
    let mut owner = file.owner.lock();
    *owner = Owner { to, users: (cred.uid, cred.euid), signal: owner.signal };
    file.ops.owner_changed(&owner);
    Ok(0)
}

/// What `F_GETFL` shows: with `O_LARGEFILE`, as on every 64-bit open (files that have a name).
fn shown_flags(file: &FileRef) -> u32 {
    const O_LARGEFILE: u32 = 0o100_000;
    let flags = file.flags() & !raw::O_CLOEXEC;
    if file.path.is_some() && flags & raw::O_PATH == 0 { flags | O_LARGEFILE } else { flags }
}
