//! Character devices, and what a fresh `/dev` has.

mod memory;

use crate::attributes::{Kind, device};
use crate::file::FileOps;
use crate::inode::{Inode, NewKind, NewNode};
use crate::{Errno, Result, tmpfs, tty};
use alloc::sync::Arc;
use memory::{Memory, MemoryDevice};

/// The controlling terminal of whoever opens it.
pub const TTY: u64 = device(5, 0);
/// The system's console.
pub const CONSOLE: u64 = device(5, 1);

/// Nodes of a fresh `/dev`: name, device number, permission bits.
pub const NODES: &[(&str, u64, u32)] = &[
    ("null", memory::NULL, 0o666),
    ("zero", memory::ZERO, 0o666),
    ("full", memory::FULL, 0o666),
    ("random", memory::RANDOM, 0o666),
    ("urandom", memory::URANDOM, 0o666),
    ("tty", TTY, 0o666),
    ("ptmx", tty::PTMX, 0o666),
];

/// Links of a fresh `/dev`.
pub const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Directories of a fresh `/dev` and their permission bits: everybody may put shared memory and message queues into theirs.
pub const DIRECTORIES: &[(&str, u32)] = &[("shm", 0o1777), ("pts", 0o755), ("mqueue", 0o1777)];

/// Fills the root directory of a filesystem that becomes `/dev`, before it is mounted.
pub fn populate_dev(root: &Arc<dyn Inode>) -> Result<()> {
    let make = |name: &str, what, mode| {
        root.create(name.as_bytes(), &NewNode { what, mode, uid: 0, gid: 0 }).map(|_| ())
    };
    for &(name, rdev, mode) in NODES {
        make(name, NewKind::Device(Kind::CharDevice, rdev), mode)?;
    }
    for &(name, text) in LINKS {
        make(name, NewKind::Symlink(text.as_bytes()), 0o777)?;
    }
    for &(name, mode) in DIRECTORIES {
        make(name, NewKind::Directory, mode)?;
    }
    Ok(())
}

/// One of [`NODES`], to be mounted by itself, if need be with other permission bits, user and group: `ENXIO`.
pub fn alone(name: &str, node: Option<(u32, u32, u32)>) -> Result<Arc<dyn Inode>> {
    let &(_, rdev, mode) = NODES.iter().find(|(known, ..)| *known == name).ok_or(Errno::ENXIO)?;
    let what = NewKind::Device(Kind::CharDevice, rdev);
    let (mode, uid, gid) = node.unwrap_or((mode, 0, 0));
    tmpfs::mount(1 << 12, 0o755, (0, 0))?
        .create(name.as_bytes(), &NewNode { what, mode: mode & 0o7777, uid, gid })
}

/// Opens a character device by its number: `ENXIO` for one that is not there, for a controlling terminal that the task does
/// not have; `ENODEV` for the console, which the sandbox has none of (`tty_open`).
pub fn open_device(rdev: u64, flags: u32) -> Result<Arc<dyn FileOps>> {
    if let Some(memory) = Memory::with_number(rdev) {
        return Ok(Arc::new(MemoryDevice(memory)));
    }
    match rdev {
        TTY => tty::open_current(flags),
        tty::PTMX => tty::open_master(flags),
        CONSOLE => Err(Errno::ENODEV),
        _ => match tty::slave_number(rdev) {
            Some(number) => tty::open_slave(number, flags),
            None => Err(Errno::ENXIO),
        },
    }
}
