//! stat(2), statx(2), access(2), readlink(2), statfs(2).

use super::{Walk, any_file};
use crate::args::Args;
use crate::strace::flags::AT_FLAGS;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use kernel::uaccess;
use linux_raw_sys::general as raw;
use vfs::attributes::Attributes;
use vfs::namespace::{self, target_of};

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_stat, "stat", sys_stat, &[Show::Path, Show::Address]),
    full(raw::__NR_lstat, "lstat", sys_lstat, &[Show::Path, Show::Address]),
    full(raw::__NR_fstat, "fstat", sys_fstat, &[Show::Fd, Show::Address]),
    full(
        raw::__NR_newfstatat,
        "newfstatat",
        sys_newfstatat,
        &[Show::Fd, Show::Path, Show::Address, Show::Flags(AT_FLAGS)],
    ),
    full(
        raw::__NR_statx,
        "statx",
        sys_statx,
        &[Show::Fd, Show::Path, Show::Flags(AT_FLAGS), Show::Address, Show::Address],
    ),
    full(raw::__NR_access, "access", sys_access, &[Show::Path, Show::Int]),
    full(raw::__NR_faccessat, "faccessat", sys_faccessat, &[Show::Fd, Show::Path, Show::Int]),
    full(
        raw::__NR_faccessat2,
        "faccessat2",
        sys_faccessat2,
        &[Show::Fd, Show::Path, Show::Int, Show::Flags(AT_FLAGS)],
    ),
    full(raw::__NR_readlink, "readlink", sys_readlink, &[Show::Path, Show::BytesOut, Show::Unsigned]),
    full(
        raw::__NR_readlinkat,
        "readlinkat",
        sys_readlinkat,
        &[Show::Fd, Show::Path, Show::BytesOut, Show::Unsigned],
    ),
    full(raw::__NR_statfs, "statfs", sys_statfs, &[Show::Path, Show::Address]),
    full(raw::__NR_fstatfs, "fstatfs", sys_fstatfs, &[Show::Fd, Show::Address]),
];

const HERE: i32 = raw::AT_FDCWD;

/// `struct stat` from attributes.
fn encode(attributes: &Attributes) -> raw::stat {
    // SAFETY: `stat` is plain data, for which zero is a value (it has padding).
    let mut stat: raw::stat = unsafe { core::mem::zeroed() };
    stat.st_dev = attributes.dev;
    stat.st_ino = attributes.ino;
    stat.st_nlink = attributes.nlink;
    stat.st_mode = attributes.mode;
    stat.st_uid = attributes.uid;
    stat.st_gid = attributes.gid;
    stat.st_rdev = attributes.rdev;
    stat.st_size = attributes.size as i64;
    stat.st_blksize = i64::from(attributes.blksize);
    stat.st_blocks = attributes.blocks as i64;
    stat.st_atime = attributes.atime.tv_sec as u64;
    stat.st_atime_nsec = attributes.atime.tv_nsec as u64;
    stat.st_mtime = attributes.mtime.tv_sec as u64;
    stat.st_mtime_nsec = attributes.mtime.tv_nsec as u64;
    stat.st_ctime = attributes.ctime.tv_sec as u64;
    stat.st_ctime_nsec = attributes.ctime.tv_nsec as u64;
    stat
}

/// Attributes of an open file.
pub fn of_file(file: &vfs::file::FileRef) -> Result<Attributes> {
    namespace::status_of_open(file)
}

/// Attributes of what a path (or with `AT_EMPTY_PATH` a descriptor) names.
fn of_path(context: &Context<'_>, base: i32, path: &[u8], flags: u32) -> Result<Attributes> {
    let walk = Walk::new(context);
    namespace::status_at(&walk.lookup(), base, path, flags)
}

fn write_stat(address: u64, attributes: &Attributes) -> Result<u64> {
    uaccess::write(address, &encode(attributes))?;
    Ok(0)
}

fn sys_stat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    write_stat(args.u64(1), &of_path(context, HERE, &args.path(0)?, 0)?)
}

fn sys_lstat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    write_stat(args.u64(1), &of_path(context, HERE, &args.path(0)?, raw::AT_SYMLINK_NOFOLLOW)?)
}

fn sys_fstat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    write_stat(args.u64(1), &of_file(&*any_file(context, args.i32(0))?)?)
}

/// A path that may be a null pointer where a descriptor is meant (Linux since 6.11).
fn optional_path(args: Args, index: usize, flags: u32) -> Result<uaccess::Text> {
    if args.u64(index) == 0 && flags & raw::AT_EMPTY_PATH != 0 {
        Ok(uaccess::Text::new())
    } else {
        args.path(index)
    }
}

fn sys_newfstatat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = args.u32(3);
    if flags & !(raw::AT_SYMLINK_NOFOLLOW | raw::AT_NO_AUTOMOUNT | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = optional_path(args, 1, flags)?;
    write_stat(args.u64(2), &of_path(context, args.i32(0), &path, flags)?)
}

fn sys_statx(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const SYNC_TYPE: u32 = 0x6000;
    let (flags, mask) = (args.u32(2), args.u32(3));
    let known = raw::AT_SYMLINK_NOFOLLOW | raw::AT_NO_AUTOMOUNT | raw::AT_EMPTY_PATH | SYNC_TYPE;
    if flags & !known != 0 || flags & SYNC_TYPE == SYNC_TYPE || mask & raw::STATX__RESERVED != 0 {
        return Err(Errno::EINVAL);
    }
    let path = optional_path(args, 1, flags)?;
    let attributes = of_path(context, args.i32(0), &path, flags)?;
    // SAFETY: `statx` is plain data, for which zero is a value.
    let mut stat: raw::statx = unsafe { core::mem::zeroed() };
    stat.stx_mask = raw::STATX_BASIC_STATS;
    stat.stx_blksize = attributes.blksize;
    stat.stx_nlink = attributes.nlink as u32;
    stat.stx_uid = attributes.uid;
    stat.stx_gid = attributes.gid;
    stat.stx_mode = attributes.mode as u16;
    stat.stx_ino = attributes.ino;
    stat.stx_size = attributes.size;
    stat.stx_blocks = attributes.blocks;
    let time = |time: raw::timespec| raw::statx_timestamp {
        tv_sec: time.tv_sec,
        tv_nsec: time.tv_nsec as u32,
        __reserved: 0,
    };
    stat.stx_atime = time(attributes.atime);
    stat.stx_mtime = time(attributes.mtime);
    stat.stx_ctime = time(attributes.ctime);
    if let Some(btime) = attributes.btime {
        stat.stx_mask |= raw::STATX_BTIME;
        stat.stx_btime = time(btime);
    }
    let split = |device: u64| {
        let major = ((device >> 8) & 0xfff) | ((device >> 32) & !0xfff);
        let minor = (device & 0xff) | ((device >> 12) & !0xff);
        (major as u32, minor as u32)
    };
    (stat.stx_dev_major, stat.stx_dev_minor) = split(attributes.dev);
    (stat.stx_rdev_major, stat.stx_rdev_minor) = split(attributes.rdev);
    uaccess::write(args.u64(4), &stat)?;
    Ok(0)
}

fn access(context: &Context<'_>, base: i32, path: &[u8], mode: u32, flags: u32) -> Result<u64> {
    const AT_EACCESS: u32 = 0x200;
    if mode & !7 != 0 || flags & !(AT_EACCESS | raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    namespace::access(&Walk::new(context).lookup(), base, path, mode, flags)?;
    Ok(0)
}

fn sys_access(context: &mut Context<'_>, args: Args) -> Result<u64> {
    access(context, HERE, &args.path(0)?, args.u32(1), 0)
}

fn sys_faccessat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    access(context, args.i32(0), &args.path(1)?, args.u32(2), 0)
}

fn sys_faccessat2(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let path = optional_path(args, 1, args.u32(3))?;
    access(context, args.i32(0), &path, args.u32(2), args.u32(3))
}

fn read_link(context: &Context<'_>, base: i32, path: &[u8], to: u64, room: i32) -> Result<u64> {
    if room <= 0 {
        return Err(Errno::EINVAL);
    }
    let text = namespace::read_link(&Walk::new(context).lookup(), base, path)?;
    let shown = text.get(..room as usize).unwrap_or(&text);
    uaccess::write_bytes(to, shown)?;
    Ok(shown.len() as u64)
}

fn sys_readlink(context: &mut Context<'_>, args: Args) -> Result<u64> {
    read_link(context, HERE, &args.path(0)?, args.u64(1), args.i32(2))
}

fn sys_readlinkat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    read_link(context, args.i32(0), &args.path(1)?, args.u64(2), args.i32(3))
}

fn sys_statfs(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let walk = Walk::new(context);
    let target = namespace::find_at(&walk.lookup(), HERE, &args.path(0)?, 0)?;
    uaccess::write(args.u64(1), &namespace::statfs(&target)?)?;
    Ok(0)
}

fn sys_fstatfs(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let target = target_of(&*any_file(context, args.i32(0))?);
    uaccess::write(args.u64(1), &namespace::statfs(&target)?)?;
    Ok(0)
}
