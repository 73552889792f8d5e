//! Names and the working directory: unlink(2), rename(2), link(2), chdir(2), getcwd(2), chroot(2).

use super::{Walk, any_file};
use crate::args::Args;
use crate::strace::flags::AT_FLAGS;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use kernel::cred::cap;
use kernel::uaccess;
use linux_raw_sys::general as raw;
use vfs::attributes::Kind;
use vfs::namespace::{self, Path, WalkFlags};

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_unlink, "unlink", sys_unlink, &[Show::Path]),
    full(raw::__NR_unlinkat, "unlinkat", sys_unlinkat, &[Show::Fd, Show::Path, Show::Flags(AT_FLAGS)]),
    full(raw::__NR_rmdir, "rmdir", sys_rmdir, &[Show::Path]),
    full(raw::__NR_rename, "rename", sys_rename, &[Show::Path, Show::Path]),
    full(raw::__NR_renameat, "renameat", sys_renameat, &[Show::Fd, Show::Path, Show::Fd, Show::Path]),
    full(
        raw::__NR_renameat2,
        "renameat2",
        sys_renameat2,
        &[Show::Fd, Show::Path, Show::Fd, Show::Path, Show::Unsigned],
    ),
    full(raw::__NR_link, "link", sys_link, &[Show::Path, Show::Path]),
    full(
        raw::__NR_linkat,
        "linkat",
        sys_linkat,
        &[Show::Fd, Show::Path, Show::Fd, Show::Path, Show::Flags(AT_FLAGS)],
    ),
    full(raw::__NR_chdir, "chdir", sys_chdir, &[Show::Path]),
    full(raw::__NR_fchdir, "fchdir", sys_fchdir, &[Show::Fd]),
    full(raw::__NR_chroot, "chroot", sys_chroot, &[Show::Path]),
    full(raw::__NR_getcwd, "getcwd", sys_getcwd, &[Show::Path, Show::Unsigned]),
];

const HERE: i32 = raw::AT_FDCWD;

fn sys_unlink(context: &mut Context<'_>, args: Args) -> Result<u64> {
    namespace::unlink(&Walk::new(context).lookup(), HERE, &args.path(0)?)?;
    Ok(0)
}

fn sys_rmdir(context: &mut Context<'_>, args: Args) -> Result<u64> {
    namespace::remove_directory(&Walk::new(context).lookup(), HERE, &args.path(0)?)?;
    Ok(0)
}

fn sys_unlinkat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let walk = Walk::new(context);
    let (base, path) = (args.i32(0), args.path(1)?);
    match args.u32(2) {
        0 => namespace::unlink(&walk.lookup(), base, &path)?,
        raw::AT_REMOVEDIR => namespace::remove_directory(&walk.lookup(), base, &path)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn rename(context: &Context<'_>, from: (i32, &[u8]), to: (i32, &[u8]), flags: u32) -> Result<u64> {
    namespace::rename(&Walk::new(context).lookup(), from.0, from.1, to.0, to.1, flags)?;
    Ok(0)
}

fn sys_rename(context: &mut Context<'_>, args: Args) -> Result<u64> {
    rename(context, (HERE, &args.path(0)?), (HERE, &args.path(1)?), 0)
}

fn sys_renameat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    rename(context, (args.i32(0), &args.path(1)?), (args.i32(2), &args.path(3)?), 0)
}

fn sys_renameat2(context: &mut Context<'_>, args: Args) -> Result<u64> {
    rename(context, (args.i32(0), &args.path(1)?), (args.i32(2), &args.path(3)?), args.u32(4))
}

fn link(context: &Context<'_>, from: (i32, &[u8]), to: (i32, &[u8]), flags: u32) -> Result<u64> {
    namespace::link(&Walk::new(context).lookup(), from.0, from.1, to.0, to.1, flags)?;
    Ok(0)
}

fn sys_link(context: &mut Context<'_>, args: Args) -> Result<u64> {
    link(context, (HERE, &args.path(0)?), (HERE, &args.path(1)?), 0)
}

fn sys_linkat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    link(context, (args.i32(0), &args.path(1)?), (args.i32(2), &args.path(3)?), args.u32(4))
}

/// A directory that the caller may search.
fn directory(context: &Context<'_>, base: i32, path: &[u8], flags: WalkFlags) -> Result<Path> {
    let walk = Walk::new(context);
    let place = namespace::find(&walk.lookup(), base, path, flags | WalkFlags::DIRECTORY)?.place()?;
    namespace::check_search(&walk.lookup(), &place)?;
    Ok(place)
}

fn sys_chdir(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let place = directory(context, HERE, &args.path(0)?, WalkFlags::FOLLOW)?;
    context.thread.fs().set_cwd(place);
    Ok(0)
}

fn sys_fchdir(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let file = any_file(context, args.i32(0))?;
    let place = file.path.clone().ok_or(Errno::ENOTDIR)?;
    if place.inode().kind() != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    namespace::check_search(&Walk::new(context).lookup(), &place)?;
    context.thread.fs().set_cwd(place);
    Ok(0)
}

fn sys_chroot(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let place = directory(context, HERE, &args.path(0)?, WalkFlags::FOLLOW)?;
    if !context.cred().has(cap::SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    context.thread.fs().set_root(place);
    Ok(0)
}

fn sys_getcwd(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let mut text = namespace::working_directory(&Walk::new(context).lookup())?;
    text.push(0);
    if (text.len() as u64) > args.u64(1) {
        return Err(Errno::ERANGE);
    }
    uaccess::write_bytes(args.u64(0), &text)?;
    Ok(text.len() as u64)
}
