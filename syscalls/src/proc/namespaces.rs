//! `/proc/PID/ns` (namespaces(7)): one namespace of each kind, the sandbox's, with the numbers of Linux's initial ones. They can
//! be told apart and opened; there is no other that setns(2) could enter.

use super::nodes::{Common, PROC};
use super::process::{may_inspect, of_process};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use linux_raw_sys::general as raw;
use vfs::attributes::{Attributes, Kind, device};
use vfs::file::{FileOps, OpenFile};
use vfs::generated::{Directory, Link};
use vfs::inode::{Inode, LinkTarget};
use vfs::{Errno, Result};

/// Name of the link, kind, inode number (`include/uapi/linux/nsfs.h`).
const ALL: [(&str, &str, u64); 10] = [
    ("cgroup", "cgroup", 0xeffffffb),
    ("ipc", "ipc", 0xefffffff),
    ("mnt", "mnt", 0xeffffff8),
    ("net", "net", 0xeffffff9),
    ("pid", "pid", 0xeffffffc),
    ("pid_for_children", "pid", 0xeffffffc),
    ("time", "time", 0xeffffffa),
    ("time_for_children", "time", 0xeffffffa),
    ("user", "user", 0xeffffffd),
    ("uts", "uts", 0xeffffffe),
];
const DEVICE: u64 = device(0, 4);
const NSFS_MAGIC: u32 = 0x6e73_6673;

/// An open namespace.
struct Namespace {
    kind: &'static str,
    ino: u64,
}

impl Namespace {
    fn common(&self) -> Common {
        Common { dev: DEVICE, magic: NSFS_MAGIC, ino: self.ino, mode: 0o444, owner: (0, 0) }
    }
}

impl FileOps for Namespace {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(self.common().attributes(Kind::Regular))
    }

    fn filesystem(&self) -> Option<raw::statfs> {
        self.common().statfs().ok()
    }

    fn describe(&self) -> String {
        format!("{}:[{}]", self.kind, self.ino)
    }

    fn reopen(&self, _flags: u32) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(Namespace { kind: self.kind, ino: self.ino }))
    }
}

/// The directory of a process or thread.
pub fn directory(place: &[&[u8]], owner: (u32, u32), tid: i32) -> Arc<dyn Inode> {
    let list = || Ok(ALL.iter().map(|(name, ..)| (name.as_bytes().to_vec(), Kind::Symlink)).collect());
    let find = move |name: &[u8]| -> Result<Arc<dyn Inode>> {
        let &(_, kind, ino) = ALL.iter().find(|(link, ..)| link.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let follow = move || {
            may_inspect(&*of_process(tid)?)?;
            let namespace = Namespace { kind, ino };
            let text = namespace.describe().into_bytes();
            Ok(LinkTarget::Object(OpenFile::new(Arc::new(namespace), None, raw::O_RDONLY), text))
        };
        let number = format!("{tid}");
        let common = PROC.node(&[number.as_bytes(), b"ns", name], 0o777, owner);
        Ok(Arc::new(Link { common, size: 0, follow: Box::new(follow) }))
    };
    let common = PROC.node(place, 0o511, owner);
    Arc::new(Directory { common, list: Box::new(list), find: Box::new(find), process: None })
}
