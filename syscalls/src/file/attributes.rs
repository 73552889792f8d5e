//! chmod(2), chown(2), utimensat(2), truncate(2), umask(2) and their families.

use super::{Walk, file};
use crate::args::Args;
use crate::memory;
use crate::strace::flags::AT_FLAGS;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use kernel::signal::SIGXFSZ;
use kernel::uaccess;
use linux_raw_sys::general as raw;
use vfs::attributes::Kind;
use vfs::namespace::{self, Target, Times, target_of};
use vfs::pipe::PipeEnd;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_chmod, "chmod", sys_chmod, &[Show::Path, Show::Octal]),
    full(raw::__NR_fchmod, "fchmod", sys_fchmod, &[Show::Fd, Show::Octal]),
    full(raw::__NR_fchmodat, "fchmodat", sys_fchmodat, &[Show::Fd, Show::Path, Show::Octal]),
    full(
        raw::__NR_fchmodat2,
        "fchmodat2",
        sys_fchmodat2,
        &[Show::Fd, Show::Path, Show::Octal, Show::Flags(AT_FLAGS)],
    ),
    full(raw::__NR_chown, "chown", sys_chown, &[Show::Path, Show::Int, Show::Int]),
    full(raw::__NR_lchown, "lchown", sys_lchown, &[Show::Path, Show::Int, Show::Int]),
    full(raw::__NR_fchown, "fchown", sys_fchown, &[Show::Fd, Show::Int, Show::Int]),
    full(
        raw::__NR_fchownat,
        "fchownat",
        sys_fchownat,
        &[Show::Fd, Show::Path, Show::Int, Show::Int, Show::Flags(AT_FLAGS)],
    ),
    full(raw::__NR_utime, "utime", sys_utime, &[Show::Path, Show::Address]),
    full(raw::__NR_utimes, "utimes", sys_utimes, &[Show::Path, Show::Address]),
    full(raw::__NR_futimesat, "futimesat", sys_futimesat, &[Show::Fd, Show::Path, Show::Address]),
    full(
        raw::__NR_utimensat,
        "utimensat",
        sys_utimensat,
        &[Show::Fd, Show::Path, Show::Address, Show::Flags(AT_FLAGS)],
    ),
    full(raw::__NR_truncate, "truncate", sys_truncate, &[Show::Path, Show::Int]),
    full(raw::__NR_ftruncate, "ftruncate", sys_ftruncate, &[Show::Fd, Show::Int]),
    full(raw::__NR_fallocate, "fallocate", sys_fallocate, &[Show::Fd, Show::Unsigned, Show::Int, Show::Int]),
    full(raw::__NR_umask, "umask", sys_umask, &[Show::Octal]),
];

const HERE: i32 = raw::AT_FDCWD;

fn find(context: &Context<'_>, base: i32, path: &[u8], flags: u32) -> Result<Target> {
    if flags & !(raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    namespace::find_at(&Walk::new(context).lookup(), base, path, flags)
}

fn chmod(context: &Context<'_>, target: &Target, mode: u32) -> Result<u64> {
    namespace::change_mode(&Walk::new(context).lookup(), target, mode & 0o7777)?;
    Ok(0)
}

fn sys_chmod(context: &mut Context<'_>, args: Args) -> Result<u64> {
    chmod(context, &find(context, HERE, &args.path(0)?, 0)?, args.u32(1))
}

fn sys_fchmodat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    chmod(context, &find(context, args.i32(0), &args.path(1)?, 0)?, args.u32(2))
}

fn sys_fchmodat2(context: &mut Context<'_>, args: Args) -> Result<u64> {
    chmod(context, &find(context, args.i32(0), &args.path(1)?, args.u32(3))?, args.u32(2))
}

fn sys_fchmod(context: &mut Context<'_>, args: Args) -> Result<u64> {
    chmod(context, &target_of(&*file(context, args.i32(0))?), args.u32(1))
}

/// Two ids from `index` on; -1 leaves one as it is.
fn chown(context: &Context<'_>, target: &Target, args: Args, index: usize) -> Result<u64> {
    let id = |index| Some(args.u32(index)).filter(|&id| id != u32::MAX);
    namespace::change_owner(&Walk::new(context).lookup(), target, id(index), id(index + 1))?;
    Ok(0)
}

fn sys_chown(context: &mut Context<'_>, args: Args) -> Result<u64> {
    chown(context, &find(context, HERE, &args.path(0)?, 0)?, args, 1)
}

fn sys_lchown(context: &mut Context<'_>, args: Args) -> Result<u64> {
    chown(context, &find(context, HERE, &args.path(0)?, raw::AT_SYMLINK_NOFOLLOW)?, args, 1)
}

fn sys_fchownat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    chown(context, &find(context, args.i32(0), &args.path(1)?, args.u32(4))?, args, 2)
}

fn sys_fchown(context: &mut Context<'_>, args: Args) -> Result<u64> {
    chown(context, &target_of(&*file(context, args.i32(0))?), args, 1)
}

/// The times are looked at once the path has led to something, as vfs_utimes does.
fn set_times(
    context: &Context<'_>,
    base: i32,
    path: Option<&[u8]>,
    times: Result<Times>,
    flags: u32,
) -> Result<u64> {
    let walk = Walk::new(context);
    let target = namespace::find_or_base(&walk.lookup(), base, path, flags)?;
    namespace::set_times(&walk.lookup(), &target, times?)?;
    Ok(0)
}

/// The path at an address, unless that is null: then the descriptor before it is meant, if it is one.
fn path_or_none(args: Args, index: usize) -> Result<Option<uaccess::Text>> {
    if args.u64(index) == 0 && args.i32(index - 1) != HERE { Ok(None) } else { args.path(index).map(Some) }
}

fn sys_utimensat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let times = Times::new(uaccess::read_optional(args.u64(2))?);
    // Not even the path matters then.
    if times.is_ok_and(Times::is_nothing) {
        return Ok(0);
    }
    if args.u32(3) & !(raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    set_times(context, args.i32(0), path_or_none(args, 1)?.as_deref(), times, args.u32(3))
}

fn from_timevals(address: u64) -> Result<Times> {
    let Some([access, modify]) = uaccess::read_optional::<[raw::timeval; 2]>(address)? else {
        return Times::new(None);
    };
    let exact = |time: raw::timeval| -> Result<raw::timespec> {
        if !(0..1_000_000).contains(&time.tv_usec) {
            return Err(Errno::EINVAL);
        }
        Ok(raw::timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_usec * 1000 })
    };
    Times::new(Some([exact(access)?, exact(modify)?]))
}

fn sys_utimes(context: &mut Context<'_>, args: Args) -> Result<u64> {
    set_times(context, HERE, Some(&args.path(0)?), Ok(from_timevals(args.u64(1))?), 0)
}

fn sys_futimesat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    set_times(context, args.i32(0), path_or_none(args, 1)?.as_deref(), Ok(from_timevals(args.u64(2))?), 0)
}

fn sys_utime(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let whole = |tv_sec| raw::timespec { tv_sec, tv_nsec: 0 };
    let times: Option<[i64; 2]> = uaccess::read_optional(args.u64(1))?;
    let times = Times::new(times.map(|[access, modify]| [whole(access), whole(modify)]));
    set_times(context, HERE, Some(&args.path(0)?), times, 0)
}

/// Checks a new size: `EFBIG` with SIGXFSZ beyond `RLIMIT_FSIZE`.
fn allow_size(context: &Context<'_>, size: u64) -> Result<()> {
    if size > context.thread.task.rlimit(raw::RLIMIT_FSIZE) {
        context.thread.task.raise(SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    Ok(())
}

fn sys_truncate(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let size = u64::try_from(args.i64(1)).map_err(|_| Errno::EINVAL)?;
    let path = args.path(0)?;
    let target = find(context, HERE, &path, 0)?;
    namespace::truncate(&Walk::new(context).lookup(), &target, size, |size| allow_size(context, size))?;
    memory::tell_of_cut_file(context.thread);
    Ok(0)
}

fn sys_ftruncate(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let size = u64::try_from(args.i64(1)).map_err(|_| Errno::EINVAL)?;
    let file = file(context, args.i32(0))?;
    if !file.writable() {
        return Err(Errno::EINVAL);
    }
    namespace::truncate_open(&Walk::new(context).lookup(), &file, size, |size| allow_size(context, size))?;
    memory::tell_of_cut_file(context.thread);
    Ok(0)
}

fn sys_fallocate(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let file = file(context, args.i32(0))?;
    let (offset, length) = (args.i64(2), args.i64(3));
    if offset < 0 || length <= 0 {
        return Err(Errno::EINVAL);
    }
    if !file.writable() {
        return Err(Errno::EBADF);
    }
    let kind = file.path.as_ref().map(|path| path.inode().kind());
    match kind {
        Some(Kind::Fifo) => return Err(Errno::ESPIPE),
        Some(Kind::Directory) => return Err(Errno::EISDIR),
        _ if file.ops.as_any().is::<PipeEnd>() => return Err(Errno::ESPIPE),
        _ => {}
    }
    let end = offset.checked_add(length).ok_or(Errno::EFBIG)? as u64;
    // The size, for which a filesystem may have to ask the host, only where it decides.
    let grows = args.u32(1) & raw::FALLOC_FL_KEEP_SIZE == 0;
    let limited = end > context.thread.task.rlimit(raw::RLIMIT_FSIZE);
    if grows && limited && end > namespace::status_of_open(&file)?.size {
        allow_size(context, end)?;
    }
    file.ops.allocate(args.u32(1), offset as u64, length as u64).map_err(|error| match kind {
        // A filesystem without the call.
        Some(Kind::Regular) if error == Errno::ENODEV => Errno::EOPNOTSUPP,
        _ => error,
    })?;
    vfs::notify::written(&file);
    Ok(0)
}

fn sys_umask(context: &mut Context<'_>, args: Args) -> Result<u64> {
    Ok(u64::from(context.thread.fs().set_umask(args.u32(0) & 0o777)))
}
