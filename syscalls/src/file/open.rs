//! open(2) and its family, mkdir(2) and what else makes names.

use super::{Walk, descriptor_limit};
use crate::args::Args;
use crate::memory;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use kernel::cred::cap;
use kernel::uaccess;
use linux_raw_sys::general as raw;
use vfs::namespace::{self, Resolve};

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_open, "open", sys_open, &[Show::Path, Show::OpenFlags, Show::Octal]),
    full(raw::__NR_openat, "openat", sys_openat, &[Show::Fd, Show::Path, Show::OpenFlags, Show::Octal]),
    full(raw::__NR_openat2, "openat2", sys_openat2, &[Show::Fd, Show::Path, Show::Address, Show::Unsigned]),
    full(raw::__NR_creat, "creat", sys_creat, &[Show::Path, Show::Octal]),
    full(raw::__NR_mkdir, "mkdir", sys_mkdir, &[Show::Path, Show::Octal]),
    full(raw::__NR_mkdirat, "mkdirat", sys_mkdirat, &[Show::Fd, Show::Path, Show::Octal]),
    full(raw::__NR_mknod, "mknod", sys_mknod, &[Show::Path, Show::Octal, Show::Unsigned]),
    full(raw::__NR_mknodat, "mknodat", sys_mknodat, &[Show::Fd, Show::Path, Show::Octal, Show::Unsigned]),
    full(raw::__NR_symlink, "symlink", sys_symlink, &[Show::Path, Show::Path]),
    full(raw::__NR_symlinkat, "symlinkat", sys_symlinkat, &[Show::Path, Show::Fd, Show::Path]),
];

/// Every flag that open(2) knows; others are dropped, as Linux does.
const KNOWN: u32 =
    0o37_777_703 | raw::O_NOCTTY | raw::O_TRUNC | raw::O_APPEND | raw::O_NONBLOCK | raw::FASYNC;
const HERE: i32 = raw::AT_FDCWD;

/// `path` is read when the flags are known to be good, as Linux does.
fn open(
    context: &Context<'_>,
    base: i32,
    path: impl FnOnce() -> Result<uaccess::Text>,
    flags: u32,
    mode: u32,
    resolve: u64,
) -> Result<u64> {
    let resolve = Resolve::from_bits_truncate(resolve);
    namespace::check_flags(flags, resolve)?;
    let walk = Walk::new(context);
    let file = namespace::open(&walk.lookup(), base, &path()?, flags, mode, resolve)?;
    if flags & raw::O_TRUNC != 0 {
        memory::tell_of_cut_file(context.thread);
    }
    let cloexec = flags & raw::O_CLOEXEC != 0;
    let fd = context.files().insert(file, cloexec, descriptor_limit(context))?;
    Ok(fd as u64)
}

fn sys_open(context: &mut Context<'_>, args: Args) -> Result<u64> {
    open(context, HERE, || args.path(0), args.u32(1) & KNOWN, args.u32(2) & 0o7777, 0)
}

fn sys_creat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = raw::O_CREAT | raw::O_WRONLY | raw::O_TRUNC;
    open(context, HERE, || args.path(0), flags, args.u32(1) & 0o7777, 0)
}

fn sys_openat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    open(context, args.i32(0), || args.path(1), args.u32(2) & KNOWN, args.u32(3) & 0o7777, 0)
}

fn sys_openat2(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const SIZE: u64 = size_of::<raw::open_how>() as u64;
    let size = args.u64(3);
    if size < SIZE {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let how: raw::open_how = uaccess::read(args.u64(2))?;
    let rest = uaccess::read_bytes(args.u64(2).wrapping_add(SIZE), (size - SIZE) as usize)?;
    if rest.iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    let creates = how.flags as u32 & (raw::O_CREAT | 0o20_000_000) != 0;
    let bad_mode = if creates { how.mode & !0o7777 != 0 } else { how.mode != 0 };
    let scope = u64::from(raw::RESOLVE_BENEATH | raw::RESOLVE_IN_ROOT);
    let bad_resolve = how.resolve & !0x3f != 0 || how.resolve & scope == scope;
    // What open(2) would drop beside O_PATH.
    let with_path = raw::O_PATH | raw::O_DIRECTORY | raw::O_NOFOLLOW | raw::O_CLOEXEC;
    let bad_path = how.flags as u32 & raw::O_PATH != 0 && how.flags & !u64::from(with_path) != 0;
    if how.flags & !u64::from(KNOWN) != 0 || bad_resolve || bad_mode || bad_path {
        return Err(Errno::EINVAL);
    }
    open(context, args.i32(0), || args.path(1), how.flags as u32, how.mode as u32, how.resolve)
}

fn make_directory(context: &Context<'_>, base: i32, path: &[u8], mode: u32) -> Result<u64> {
    namespace::make_directory(&Walk::new(context).lookup(), base, path, mode)?;
    Ok(0)
}

fn sys_mkdir(context: &mut Context<'_>, args: Args) -> Result<u64> {
    make_directory(context, HERE, &args.path(0)?, args.u32(1))
}

fn sys_mkdirat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    make_directory(context, args.i32(0), &args.path(1)?, args.u32(2))
}

fn make_node(context: &Context<'_>, base: i32, path: &[u8], mode: u32, device: u64) -> Result<u64> {
    namespace::make_node(&Walk::new(context).lookup(), base, path, mode, device)?;
    Ok(0)
}

fn sys_mknod(context: &mut Context<'_>, args: Args) -> Result<u64> {
    make_node(context, HERE, &args.path(0)?, args.u32(1), u64::from(args.u32(2)))
}

fn sys_mknodat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    make_node(context, args.i32(0), &args.path(1)?, args.u32(2), u64::from(args.u32(3)))
}

fn symlink(context: &Context<'_>, text: &[u8], base: i32, path: &[u8]) -> Result<u64> {
    namespace::symlink(&Walk::new(context).lookup(), text, base, path)?;
    Ok(0)
}

fn sys_symlink(context: &mut Context<'_>, args: Args) -> Result<u64> {
    symlink(context, &args.path(0)?, HERE, &args.path(1)?)
}

fn sys_symlinkat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    symlink(context, &args.path(0)?, args.i32(1), &args.path(2)?)
}

/// Whether the caller owns an open file (or may act as if): `O_NOATIME` is for owners.
pub fn owns(context: &Context<'_>, file: &vfs::file::FileRef) -> Result<bool> {
    let cred = context.cred();
    Ok(cred.has(cap::FOWNER) || super::stat::of_file(file)?.uid == cred.fsuid)
}
