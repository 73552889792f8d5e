//! name_to_handle_at(2). What it gives can be compared and kept; open_by_handle_at(2) is refused.

use super::Walk;
use crate::args::Args;
use crate::table::{Context, Row, Show, partial};
use crate::{Errno, Result};
use kernel::uaccess;
use linux_raw_sys::general as raw;
use vfs::namespace::{self, Target, WalkFlags};

/// The rows of this file.
pub const ROWS: &[Row] = &[partial(
    raw::__NR_name_to_handle_at,
    "name_to_handle_at",
    sys_name_to_handle_at,
    &[Show::Fd, Show::Path, Show::Address, Show::Address, Show::Unsigned],
    "EOPNOTSUPP on everything but tmpfs",
)];

/// Longest handle (`MAX_HANDLE_SZ`).
const HANDLE_MAX: u32 = 128;
/// A tmpfs handle: generation and the two halves of the inode number (`shmem_encode_fh`).
const HANDLE_BYTES: u32 = 12;
const HANDLE_TYPE: u32 = 1;
const TMPFS_MAGIC: i64 = 0x0102_1994;

fn sys_name_to_handle_at(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = args.u32(4);
    if flags & !(raw::AT_SYMLINK_FOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut how = WalkFlags::empty();
    how.set(WalkFlags::FOLLOW, flags & raw::AT_SYMLINK_FOLLOW != 0);
    how.set(WalkFlags::EMPTY, flags & raw::AT_EMPTY_PATH != 0);
    let path = args.path(1)?;
    let walk = Walk::new(context);
    let Target::Place(place) = namespace::find(&walk.lookup(), args.i32(0), &path, how)? else {
        return Err(Errno::EOPNOTSUPP);
    };
    if place.inode().filesystem()?.f_type != TMPFS_MAGIC {
        return Err(Errno::EOPNOTSUPP);
    }
    let room: u32 = uaccess::read(args.u64(2))?;
    if room > HANDLE_MAX {
        return Err(Errno::EINVAL);
    }
    let ino = place.inode().attributes()?.ino;
    uaccess::write(args.u64(3), &(place.mount.id as i32))?;
    if room < HANDLE_BYTES {
        uaccess::write(args.u64(2), &HANDLE_BYTES)?;
        return Err(Errno::EOVERFLOW);
    }
    uaccess::write(args.u64(2), &[HANDLE_BYTES, HANDLE_TYPE, 0, ino as u32, (ino >> 32) as u32])?;
    Ok(0)
}
