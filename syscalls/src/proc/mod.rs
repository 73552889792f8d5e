//! `/proc` (proc(5)): what the kernel says about itself and its processes, put together from [`vfs::generated`] nodes.

mod cgroup;
mod memory_file;
mod name_file;
mod namespaces;
mod network;
mod nodes;
mod process;
mod process_files;
mod status;
mod sys;
mod sysctl;
mod system;

pub use cgroup::root as cgroup_root;
pub use namespaces::{NS_GET_PARENT, NS_GET_USERNS, owner as namespace_owner, parent as namespace_parent};
pub use sys::root as sys_root;

use crate::thread;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kernel::task::{Pid, PidSpace, lock_table};
use nodes::{Entry, PROC, directory, link_text};
use vfs::Errno;
use vfs::attributes::Kind;
use vfs::generated::Directory;
use vfs::inode::Inode;

/// The root of `/proc`, which shows the processes of a space.
pub fn root(space: PidSpace) -> Arc<dyn Inode> {
    Arc::new(Directory {
        common: PROC.node(&[b"proc"], 0o555, (0, 0)),
        list: alloc::boxed::Box::new(move || {
            let mut entries: Vec<(Vec<u8>, Kind)> =
                entries(space).iter().map(|entry| (entry.name.as_bytes().to_vec(), entry.kind)).collect();
            for group in lock_table()?.groups() {
                let shown = space.shown(group.tgid);
                if !group.is_sandbox && shown != 0 {
                    entries.push((format!("{shown}").into_bytes(), Kind::Directory));
                }
            }
            Ok(entries)
        }),
        find: alloc::boxed::Box::new(move |name| {
            if let Some(number) = number(name) {
                return process::directory(space, space.named(number).ok_or(Errno::ENOENT)?);
            }
            entries(space)
                .into_iter()
                .find(|entry| entry.name.as_bytes() == name)
                .map(|entry| (entry.make)())
                .ok_or(Errno::ENOENT)
        }),
        process: None,
    })
}

/// A decimal number without a leading zero, as process directories are named.
fn number(name: &[u8]) -> Option<i32> {
    let text = core::str::from_utf8(name).ok()?;
    if text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Inode number of an open file, where it has one.
fn nodes_ino(file: &vfs::file::FileRef) -> u64 {
    crate::file::attributes_of(file).map_or(0, |attributes| attributes.ino)
}

/// The number of who looks: `ENOENT` if this `/proc` does not show it.
fn seen(space: PidSpace, pid: Pid) -> vfs::Result<i32> {
    Some(space.shown(pid)).filter(|shown| *shown != 0).ok_or(Errno::ENOENT)
}

fn entries(space: PidSpace) -> Vec<Entry> {
    let mut entries = system::entries();
    entries.push(Entry {
        name: "self",
        kind: Kind::Symlink,
        make: alloc::boxed::Box::new(move || {
            link_text(&[b"self"], move || Ok(format!("{}", seen(space, thread::current().task.group.tgid)?)))
        }),
    });
    entries.push(Entry {
        name: "thread-self",
        kind: Kind::Symlink,
        make: alloc::boxed::Box::new(move || {
            link_text(&[b"thread-self"], move || {
                let task = &thread::current().task;
                Ok(format!("{}/task/{}", seen(space, task.group.tgid)?, seen(space, task.tid())?))
            })
        }),
    });
    entries.push(Entry {
        name: "sys",
        kind: Kind::Directory,
        make: alloc::boxed::Box::new(|| directory(&[b"sys"], sysctl::entries())),
    });
    entries
}
