//! What fstat(2) tells of files that were never in a tree: pipes, memfds, and the one inode that eventfd, timerfd, signalfd
//! and epoll share (`fs/anon_inodes.c`).

use crate::attributes::{Attributes, device};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::sync::BootCell;
use kernel::{task, time};
use linux_raw_sys::general as raw;

/// Device of the pipes (`pipefs`).
pub const PIPES: u64 = device(0, 14);
/// Device of memfds and shared anonymous memory (the kernel's own `tmpfs`).
pub const MEMORY: u64 = device(0, 1);
/// Device of the shared inode (`anon_inodefs`).
const SHARED: u64 = device(0, 15);
const SHARED_INO: u64 = 1;
const FIRST_INO: u64 = 1000;

struct Root {
    next_ino: AtomicU64,
    booted: raw::timespec,
}

static ROOT: BootCell<Box<Root>> = BootCell::new();

/// Sets up inode numbers. Called once, at boot.
pub fn init() {
    ROOT.set(Box::new(Root { next_ino: AtomicU64::new(FIRST_INO), booted: time::file_time() }));
}

/// Number, owner and time of birth of one such file.
#[derive(Debug, Clone, Copy)]
pub struct Birth {
    /// Inode number.
    pub ino: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was made.
    pub time: raw::timespec,
}

impl Birth {
    /// Of a file that `(uid, gid)` makes now.
    pub fn of(uid: u32, gid: u32) -> Birth {
        let ino = ROOT.get().map_or(FIRST_INO, |root| root.next_ino.fetch_add(1, Ordering::Relaxed));
        Birth { ino, uid, gid, time: time::file_time() }
    }

    /// Of a file that the running task makes now.
    pub fn by_current() -> Birth {
        let cred = task::current().cred();
        Birth::of(cred.fsuid, cred.fsgid)
    }

    /// An empty file with one link; `mode` has the kind.
    pub fn attributes(&self, dev: u64, mode: u32) -> Attributes {
        Attributes {
            dev,
            ino: self.ino,
            mode,
            nlink: 1,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            size: 0,
            blksize: 4096,
            blocks: 0,
            atime: self.time,
            mtime: self.time,
            ctime: self.time,
            btime: None,
        }
    }
}

/// The inode that files without any data share: of no kind, and the superuser's.
pub fn shared_attributes() -> Attributes {
    let time = ROOT.get().map_or(raw::timespec { tv_sec: 0, tv_nsec: 0 }, |root| root.booted);
    Birth { ino: SHARED_INO, uid: 0, gid: 0, time }.attributes(SHARED, 0o600)
}
