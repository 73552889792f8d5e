//! `/proc/PID/ns` (namespaces(7)): one namespace of each kind, the sandbox's, with the numbers of Linux's initial ones; and of mounts and,
//! where they do not share that, of process ids one for each other container of a pod. They can be told apart and opened; there is no other that setns(2) could enter.

use super::nodes::{Common, PROC};
use super::process::{may_inspect, of_process};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::Ordering;
use kernel::task::Pid;
use kernel::uaccess;
use linux_raw_sys::general as raw;
use vfs::attributes::{Attributes, Kind, device};
use vfs::file::{FileOps, FileRef, OpenFile};
use vfs::generated::{Directory, Link};
use vfs::inode::{Inode, LinkTarget};
use vfs::{Errno, Result};

/// Name of the link, kind, `CLONE_NEW*`, inode number (`include/uapi/linux/nsfs.h`).
const ALL: [(&str, &str, u32, u64); 10] = [
    ("cgroup", "cgroup", raw::CLONE_NEWCGROUP, 0xeffffffb),
    ("ipc", "ipc", raw::CLONE_NEWIPC, 0xefffffff),
    ("mnt", "mnt", raw::CLONE_NEWNS, 0xeffffff8),
    ("net", "net", raw::CLONE_NEWNET, 0xeffffff9),
    ("pid", "pid", raw::CLONE_NEWPID, 0xeffffffc),
    ("pid_for_children", "pid", raw::CLONE_NEWPID, 0xeffffffc),
    ("time", "time", raw::CLONE_NEWTIME, 0xeffffffa),
    ("time_for_children", "time", raw::CLONE_NEWTIME, 0xeffffffa),
    ("user", "user", raw::CLONE_NEWUSER, 0xeffffffd),
    ("uts", "uts", raw::CLONE_NEWUTS, 0xeffffffe),
];
/// ioctl_nsfs(2).
pub const NS_GET_USERNS: u32 = 0xb701;
/// The namespace around it.
pub const NS_GET_PARENT: u32 = 0xb702;
const NS_GET_NSTYPE: u32 = 0xb703;
const NS_GET_OWNER_UID: u32 = 0xb704;

/// Below the numbers of namespaces that are made later (`PROC_DYNAMIC_FIRST`).
const FIRST_MADE: u64 = 0xf000_0000;

const DEVICE: u64 = device(0, 4);
const NSFS_MAGIC: u32 = 0x6e73_6673;

/// An open namespace.
#[derive(Clone, Copy)]
struct Namespace {
    kind: &'static str,
    clone_flag: u32,
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

    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> Result<u64> {
        let user = self.clone_flag == raw::CLONE_NEWUSER;
        match command {
            // What is around the first ones is nobody's to see.
            NS_GET_PARENT if user || self.clone_flag == raw::CLONE_NEWPID => Err(Errno::EPERM),
            NS_GET_PARENT => Err(Errno::EINVAL),
            NS_GET_NSTYPE => Ok(u64::from(self.clone_flag)),
            NS_GET_OWNER_UID if user => uaccess::write(argument, &0u32).map(|()| 0),
            NS_GET_OWNER_UID => Err(Errno::EINVAL),
            _ => Err(Errno::ENOTTY),
        }
    }

    fn describe(&self) -> String {
        format!("{}:[{}]", self.kind, self.ino)
    }

    fn reopen(&self, _flags: u32) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(*self))
    }
}

/// `NS_GET_USERNS`: the user namespace that a namespace belongs to. `EPERM` for the first user namespace itself, `ENOTTY` for
/// what is no namespace.
pub fn owner(file: &OpenFile) -> Result<FileRef> {
    let namespace = file.ops.as_any().downcast_ref::<Namespace>().ok_or(Errno::ENOTTY)?;
    if namespace.clone_flag == raw::CLONE_NEWUSER { Err(Errno::EPERM) } else { sandboxs(raw::CLONE_NEWUSER) }
}

/// `NS_GET_PARENT` of the process ids of a container, for who sees what is around them. Of others there is nothing to see, which the
/// file says itself.
pub fn parent(file: &OpenFile) -> Option<Result<FileRef>> {
    let namespace = file.ops.as_any().downcast_ref::<Namespace>()?;
    let seen = kernel::task::current().group.space.is_all();
    let made = namespace.clone_flag == raw::CLONE_NEWPID && namespace.ino > FIRST_MADE;
    (made && seen).then(|| sandboxs(raw::CLONE_NEWPID))
}

/// The sandbox's own namespace of a kind.
fn sandboxs(of: u32) -> Result<FileRef> {
    let &(_, kind, clone_flag, ino) = ALL.iter().find(|(_, _, flag, _)| *flag == of).ok_or(Errno::EINVAL)?;
    Ok(OpenFile::new(Arc::new(Namespace { kind, clone_flag, ino }), None, raw::O_RDONLY))
}

/// The directory of a process or thread.
pub fn directory(place: &[&[u8]], owner: (u32, u32), tid: Pid) -> Arc<dyn Inode> {
    let list = || Ok(ALL.iter().map(|(name, ..)| (name.as_bytes().to_vec(), Kind::Symlink)).collect());
    let find = move |name: &[u8]| -> Result<Arc<dyn Inode>> {
        let &(_, kind, clone_flag, ino) =
            ALL.iter().find(|(link, ..)| link.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let follow = move || {
            let process = of_process(tid)?;
            may_inspect(&process)?;
            let group = &process.task.group;
            let container = u64::from(group.container.load(Ordering::Relaxed));
            let ino = match clone_flag {
                raw::CLONE_NEWNS if container > 0 => FIRST_MADE + 2 * container,
                raw::CLONE_NEWPID if !group.space.is_all() => {
                    FIRST_MADE + 2 * u64::from(group.space.first().number().unsigned_abs()) + 1
                }
                _ => ino,
            };
            let namespace = Namespace { kind, clone_flag, ino };
            let text = namespace.describe().into_bytes();
            Ok(LinkTarget::Object(OpenFile::new(Arc::new(namespace), None, raw::O_RDONLY), text))
        };
        let number = format!("{}", tid.number());
        let common = PROC.node(&[number.as_bytes(), b"ns", name], 0o777, owner);
        Ok(Arc::new(Link { common, size: 0, follow: Box::new(follow) }))
    };
    let common = PROC.node(place, 0o511, owner);
    Arc::new(Directory { common, list: Box::new(list), find: Box::new(find), process: None })
}
