//! Extended attributes (xattr(7)).

use super::{Walk, file};
use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use alloc::vec::Vec;
use kernel::uaccess;
use linux_raw_sys::general as raw;
use vfs::namespace::{self, Target, target_of};

const ON_PATH: &[Show] = &[Show::Path, Show::Path, Show::Address, Show::Unsigned, Show::Int];
const ON_FD: &[Show] = &[Show::Fd, Show::Path, Show::Address, Show::Unsigned, Show::Int];

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(
        raw::__NR_setxattr,
        "setxattr",
        |context, args| set(context, target(context, args, 0)?, args),
        ON_PATH,
    ),
    full(
        raw::__NR_lsetxattr,
        "lsetxattr",
        |context, args| set(context, target(context, args, raw::AT_SYMLINK_NOFOLLOW)?, args),
        ON_PATH,
    ),
    full(raw::__NR_fsetxattr, "fsetxattr", |context, args| set(context, of_fd(context, args)?, args), ON_FD),
    full(
        raw::__NR_getxattr,
        "getxattr",
        |context, args| get(context, target(context, args, 0)?, args),
        ON_PATH,
    ),
    full(
        raw::__NR_lgetxattr,
        "lgetxattr",
        |context, args| get(context, target(context, args, raw::AT_SYMLINK_NOFOLLOW)?, args),
        ON_PATH,
    ),
    full(raw::__NR_fgetxattr, "fgetxattr", |context, args| get(context, of_fd(context, args)?, args), ON_FD),
    full(
        raw::__NR_listxattr,
        "listxattr",
        |context, args| list(context, target(context, args, 0)?, args),
        &[Show::Path, Show::Address, Show::Unsigned],
    ),
    full(
        raw::__NR_llistxattr,
        "llistxattr",
        |context, args| list(context, target(context, args, raw::AT_SYMLINK_NOFOLLOW)?, args),
        &[Show::Path, Show::Address, Show::Unsigned],
    ),
    full(
        raw::__NR_flistxattr,
        "flistxattr",
        |context, args| list(context, of_fd(context, args)?, args),
        &[Show::Fd, Show::Address, Show::Unsigned],
    ),
    full(
        raw::__NR_removexattr,
        "removexattr",
        |context, args| remove(context, target(context, args, 0)?, args),
        &[Show::Path, Show::Path],
    ),
    full(
        raw::__NR_lremovexattr,
        "lremovexattr",
        |context, args| remove(context, target(context, args, raw::AT_SYMLINK_NOFOLLOW)?, args),
        &[Show::Path, Show::Path],
    ),
    full(
        raw::__NR_fremovexattr,
        "fremovexattr",
        |context, args| remove(context, of_fd(context, args)?, args),
        &[Show::Fd, Show::Path],
    ),
];

/// Longest value (`XATTR_SIZE_MAX`) and list (`XATTR_LIST_MAX`).
const MAX_SIZE: u64 = 65536;
/// Longest name with its NUL (`XATTR_NAME_MAX` + 1).
const MAX_NAME: usize = 256;

fn target(context: &Context<'_>, args: Args, flags: u32) -> Result<Target> {
    namespace::find_at(&Walk::new(context).lookup(), raw::AT_FDCWD, &args.path(0)?, flags)
}

fn of_fd(context: &Context<'_>, args: Args) -> Result<Target> {
    file(context, args.i32(0)).map(|file| target_of(&file))
}

fn name(args: Args) -> Result<Vec<u8>> {
    let name = uaccess::read_string(args.u64(1), MAX_NAME, Errno::ERANGE)?;
    if name.is_empty() { Err(Errno::ERANGE) } else { Ok(name) }
}

fn set(context: &Context<'_>, target: Target, args: Args) -> Result<u64> {
    if args.u32(4) & !3 != 0 {
        return Err(Errno::EINVAL);
    }
    let name = name(args)?;
    if args.u64(3) > MAX_SIZE {
        return Err(Errno::E2BIG);
    }
    let value = uaccess::read_bytes(args.u64(2), args.u64(3) as usize)?;
    namespace::set_xattr(&Walk::new(context).lookup(), &target, &name, &value, args.u32(4))?;
    Ok(0)
}

fn remove(context: &Context<'_>, target: Target, args: Args) -> Result<u64> {
    namespace::remove_xattr(&Walk::new(context).lookup(), &target, &name(args)?)?;
    Ok(0)
}

/// Gives a value or list to the program: its size alone for a room of 0, `ERANGE` for too small a room.
fn give(bytes: &[u8], to: u64, room: u64) -> Result<u64> {
    if room > 0 {
        if room < bytes.len() as u64 {
            return Err(Errno::ERANGE);
        }
        uaccess::write_bytes(to, bytes)?;
    }
    Ok(bytes.len() as u64)
}

fn get(context: &Context<'_>, target: Target, args: Args) -> Result<u64> {
    let value = namespace::get_xattr(&Walk::new(context).lookup(), &target, &name(args)?)?;
    give(&value, args.u64(2), args.u64(3))
}

fn list(context: &Context<'_>, target: Target, args: Args) -> Result<u64> {
    let names = namespace::list_xattr(&Walk::new(context).lookup(), &target)?;
    give(&names, args.u64(1), args.u64(2))
}
