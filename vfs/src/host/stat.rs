//! What the host's statx(2) says, in this kernel's terms.

use crate::attributes::{Attributes, Kind, device};
use crate::identity::HostIds;
use linux_raw_sys::general as raw;

/// What is asked for.
pub const MASK: u32 = raw::STATX_BASIC_STATS | raw::STATX_BTIME;

fn time(stamp: &raw::statx_timestamp) -> raw::timespec {
    raw::timespec { tv_sec: stamp.tv_sec, tv_nsec: i64::from(stamp.tv_nsec) }
}

/// Device and inode number: what tells two inodes apart.
pub fn identity(stat: &raw::statx) -> (u64, u64) {
    (device(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino)
}

/// Kind of the inode.
pub fn kind(stat: &raw::statx) -> Kind {
    Kind::from_mode(u32::from(stat.stx_mode)).unwrap_or(Kind::Regular)
}

/// All of it.
pub fn attributes(stat: &raw::statx, ids: &HostIds) -> Attributes {
    let (dev, ino) = identity(stat);
    Attributes {
        dev,
        ino,
        mode: u32::from(stat.stx_mode),
        nlink: u64::from(stat.stx_nlink),
        uid: ids.uid(stat.stx_uid),
        gid: ids.gid(stat.stx_gid),
        rdev: device(stat.stx_rdev_major, stat.stx_rdev_minor),
        size: stat.stx_size,
        blksize: stat.stx_blksize,
        blocks: stat.stx_blocks,
        atime: time(&stat.stx_atime),
        mtime: time(&stat.stx_mtime),
        ctime: time(&stat.stx_ctime),
        btime: (stat.stx_mask & raw::STATX_BTIME != 0).then(|| time(&stat.stx_btime)),
    }
}
