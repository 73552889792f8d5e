//! close(2), dup(2), close_range(2), ioctl(2).

use super::{any_file, descriptor_limit, file};
use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use kernel::uaccess;
use linux_raw_sys::general as raw;
use vfs::attributes::Kind;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_close, "close", sys_close, &[Show::Fd]),
    full(
        raw::__NR_close_range,
        "close_range",
        sys_close_range,
        &[Show::Unsigned, Show::Unsigned, Show::Unsigned],
    ),
    full(raw::__NR_dup, "dup", sys_dup, &[Show::Fd]),
    full(raw::__NR_dup2, "dup2", sys_dup2, &[Show::Fd, Show::Fd]),
    full(raw::__NR_dup3, "dup3", sys_dup3, &[Show::Fd, Show::Fd, Show::Flags(crate::strace::flags::OPEN)]),
    full(raw::__NR_ioctl, "ioctl", sys_ioctl, &[Show::Fd, Show::Address, Show::Address]),
];

fn sys_close(context: &mut Context<'_>, args: Args) -> Result<u64> {
    context.unused_files().close(args.i32(0))?;
    Ok(0)
}

fn sys_close_range(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const UNSHARE: u32 = 2;
    const CLOEXEC: u32 = 4;
    let (first, last, flags) = (args.u32(0), args.u32(1), args.u32(2));
    if flags & !(UNSHARE | CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    if flags & UNSHARE != 0 {
        context.unshare_files();
    }
    let mut files = context.unused_files();
    if flags & CLOEXEC != 0 {
        files.table().close_range_on_exec(first, last);
    } else {
        files.close_range(first, last);
    }
    Ok(0)
}

fn sys_dup(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let file = any_file(context, args.i32(0))?.clone();
    let fd = context.files().insert(file, false, descriptor_limit(context))?;
    Ok(fd as u64)
}

fn duplicate_to(context: &mut Context<'_>, from: i32, to: i32, cloexec: bool) -> Result<u64> {
    if to < 0 || to as u64 >= descriptor_limit(context) {
        return Err(Errno::EBADF);
    }
    let file = any_file(context, from)?.clone();
    let limit = descriptor_limit(context);
    context.unused_files().replace_at(to, file, cloexec, limit)?;
    Ok(to as u64)
}

fn sys_dup2(context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.i32(0) == args.i32(1) {
        any_file(context, args.i32(0))?;
        return Ok(args.i32(1) as u64);
    }
    duplicate_to(context, args.i32(0), args.i32(1), false)
}

fn sys_dup3(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = args.u32(2);
    if flags & !raw::O_CLOEXEC != 0 || args.i32(0) == args.i32(1) {
        return Err(Errno::EINVAL);
    }
    duplicate_to(context, args.i32(0), args.i32(1), flags & raw::O_CLOEXEC != 0)
}

fn sys_ioctl(context: &mut Context<'_>, args: Args) -> Result<u64> {
    use crate::proc::{NS_GET_PARENT, NS_GET_USERNS};
    use linux_raw_sys::ioctl::{FIOASYNC, FIOCLEX, FIONBIO, FIONCLEX, FIONREAD, TIOCGPTPEER};
    let (fd, command, argument) = (args.i32(0), args.u32(1), args.u64(2));
    let file = file(context, fd)?;
    // What every file has; the rest is the file's own.
    match command {
        FIOCLEX | FIONCLEX => {
            context.files().set_close_on_exec(fd, command == FIOCLEX)?;
            Ok(0)
        }
        FIONBIO | FIOASYNC => {
            let on: i32 = uaccess::read(argument)?;
            let bit = if command == FIONBIO { raw::O_NONBLOCK } else { raw::FASYNC };
            let flags = file.flags();
            // As Linux, which knows by its own means that a file sends no signals.
            let changes = (on != 0) != (flags & bit != 0);
            if command == FIOASYNC && changes && !file.ops.signals_io() {
                return Err(Errno::ENOTTY);
            }
            file.set_flags(if on != 0 { flags | bit } else { flags & !bit });
            vfs::signal_io::follow_flags(&file, fd);
            Ok(0)
        }
        // Of a regular file: the bytes from the position to the end.
        FIONREAD if file.path.as_ref().is_some_and(|path| path.inode().kind() == Kind::Regular) => {
            let left = super::attributes_of(&file)?.size.saturating_sub(*file.position.lock());
            uaccess::write(argument, &(left as i32))?;
            Ok(0)
        }
        TIOCGPTPEER => {
            let flags = argument as u32;
            let peer = vfs::tty::open_peer(&file, flags)?;
            let cloexec = flags & raw::O_CLOEXEC != 0;
            Ok(context.files().insert(peer, cloexec, descriptor_limit(context))? as u64)
        }
        NS_GET_USERNS => {
            let owner = crate::proc::namespace_owner(&file)?;
            Ok(context.files().insert(owner, true, descriptor_limit(context))? as u64)
        }
        NS_GET_PARENT if let Some(parent) = crate::proc::namespace_parent(&file) => {
            Ok(context.files().insert(parent?, true, descriptor_limit(context))? as u64)
        }
        _ => file.ops.ioctl(&file, command, argument),
    }
}
