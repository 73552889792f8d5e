//! name_to_handle_at(2), whose handles can be compared and kept, and open_by_handle_at(2), which is refused.

use super::{Walk, file};
use crate::args::Args;
use crate::table::{Context, Row, Show, partial, refused};
use crate::{Errno, Result};
use alloc::vec::Vec;
use kernel::uaccess;
use linux_raw_sys::general as raw;
use vfs::host::HostInode;
use vfs::inode::Inode;
use vfs::namespace::{self, Target, WalkFlags};

/// The rows of this file.
pub const ROWS: &[Row] = &[
    partial(
        raw::__NR_name_to_handle_at,
        "name_to_handle_at",
        sys_name_to_handle_at,
        &[Show::Fd, Show::Path, Show::Address, Show::Address, Show::Unsigned],
        "EOPNOTSUPP on everything but tmpfs and host directories; AT_HANDLE_FID and unique mount ids are refused",
    ),
    refused(
        raw::__NR_open_by_handle_at,
        "open_by_handle_at",
        sys_open_by_handle_at,
        &[Show::Fd, Show::Address, Show::Unsigned],
        "EPERM: needs a capability in the initial user namespace",
    ),
];

/// Longest handle (`MAX_HANDLE_SZ`).
const HANDLE_MAX: u32 = 128;
/// `f_type` of tmpfs.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Words of a handle, which stands for one inode for ever. All are of type 1.
fn handle(inode: &dyn Inode) -> Result<Vec<u32>> {
    const TYPE: u32 = 1;
    let attributes = inode.attributes()?;
    let (low, high) = (attributes.ino as u32, (attributes.ino >> 32) as u32);
    let words = if inode.as_any().is::<HostInode>() {
        // Inode number and generation (`FILEID_INO32_GEN`), which the host does not tell: who takes a number over was made later.
        let generation =
            attributes.btime.map_or(high, |made| made.tv_sec as u32 ^ (made.tv_nsec as u32) << 2 ^ high);
        [8, TYPE, low, generation].into()
    } else if inode.filesystem()?.f_type == TMPFS_MAGIC {
        // Generation and the two halves of the inode number (`shmem_encode_fh`).
        [12, TYPE, 0, low, high].into()
    } else {
        return Err(Errno::EOPNOTSUPP);
    };
    Ok(words)
}

/// open_by_handle_at(2), which asks for CAP_DAC_READ_SEARCH in the initial user namespace after it has looked at what it was given.
fn sys_open_by_handle_at(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let [size, kind]: [u32; 2] = uaccess::read(args.u64(1))?;
    if size == 0 || size > HANDLE_MAX || (kind as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    if args.i32(0) != raw::AT_FDCWD {
        file(context, args.i32(0))?;
    }
    Err(Errno::EPERM)
}

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
    let handle = handle(&**place.inode())?;
    let room: u32 = uaccess::read(args.u64(2))?;
    if room > HANDLE_MAX {
        return Err(Errno::EINVAL);
    }
    let needed = handle.first().copied().unwrap_or(0);
    uaccess::write(args.u64(3), &(place.mount.id as i32))?;
    if room < needed {
        uaccess::write(args.u64(2), &needed)?;
        return Err(Errno::EOVERFLOW);
    }
    let bytes: Vec<u8> = handle.iter().flat_map(|word| word.to_ne_bytes()).collect();
    uaccess::write_bytes(args.u64(2), &bytes)?;
    Ok(0)
}
