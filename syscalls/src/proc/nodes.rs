//! Short ways to make nodes.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use vfs::attributes::{Kind, device};
pub use vfs::generated::Common;
use vfs::generated::{Directory, File, Link, stable_ino};
use vfs::inode::{Inode, LinkTarget};
use vfs::{Errno, Result};

/// A filesystem of generated files.
#[derive(Clone, Copy)]
pub struct Filesystem {
    dev: u64,
    magic: u32,
}

/// proc(5).
pub const PROC: Filesystem = Filesystem { dev: device(0, 21), magic: 0x9fa0 };
/// sysfs(5).
pub const SYS: Filesystem = Filesystem { dev: device(0, 22), magic: 0x6265_6572 };

/// cgroups(7), the unified hierarchy.
pub const CGROUP: Filesystem = Filesystem { dev: device(0, 23), magic: 0x6367_7270 };

impl Filesystem {
    /// What a node at a place has.
    pub fn node(self, place: &[&[u8]], mode: u32, owner: (u32, u32)) -> Common {
        Common { dev: self.dev, magic: self.magic, ino: stable_ino(place), mode, owner }
    }
}

/// An entry of a directory whose entries are known in advance.
pub struct Entry {
    /// Name.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Makes the node.
    pub make: Box<dyn Fn() -> Arc<dyn Inode> + Send + Sync>,
}

/// An entry that is a read-only file.
pub fn text_entry(
    name: &'static str,
    read: impl Fn() -> Result<Vec<u8>> + Send + Sync + Copy + 'static,
) -> Entry {
    Entry {
        name,
        kind: Kind::Regular,
        make: Box::new(move || file(PROC, &[name.as_bytes()], 0o444, (0, 0), read)),
    }
}

/// A read-only file.
pub fn file(
    of: Filesystem,
    place: &[&[u8]],
    mode: u32,
    owner: (u32, u32),
    read: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static,
) -> Arc<dyn Inode> {
    Arc::new(File { common: of.node(place, mode, owner), check: None, read: Box::new(read), write: None })
}

/// A read-only file of `/proc` that `check` may keep from being opened.
pub fn checked(
    place: &[&[u8]],
    mode: u32,
    owner: (u32, u32),
    check: impl Fn() -> Result<()> + Send + Sync + 'static,
    read: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static,
) -> Arc<dyn Inode> {
    Arc::new(File {
        common: PROC.node(place, mode, owner),
        check: Some(Box::new(check)),
        read: Box::new(read),
        write: None,
    })
}

/// A file that takes writes.
pub fn writable(
    place: &[&[u8]],
    mode: u32,
    owner: (u32, u32),
    read: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static,
    write: impl Fn(&[u8]) -> Result<()> + Send + Sync + 'static,
) -> Arc<dyn Inode> {
    Arc::new(File {
        common: PROC.node(place, mode, owner),
        check: None,
        read: Box::new(read),
        write: Some(Box::new(write)),
    })
}

/// A link with a text that is made when it is read.
pub fn link_text(
    place: &[&[u8]],
    text: impl Fn() -> Result<String> + Send + Sync + 'static,
) -> Arc<dyn Inode> {
    let follow = move || Ok(LinkTarget::Text(text()?.into_bytes()));
    Arc::new(Link { common: PROC.node(place, 0o777, (0, 0)), size: 0, follow: Box::new(follow) })
}

/// A directory of known entries in `/proc`.
pub fn directory(place: &[&[u8]], entries: Vec<Entry>) -> Arc<dyn Inode> {
    directory_of(PROC, place, entries)
}

/// A directory of known entries.
pub fn directory_of(of: Filesystem, place: &[&[u8]], entries: Vec<Entry>) -> Arc<dyn Inode> {
    let entries = Arc::new(entries);
    let listed = entries.clone();
    Arc::new(Directory {
        common: of.node(place, 0o555, (0, 0)),
        list: Box::new(move || {
            Ok(listed.iter().map(|entry| (entry.name.as_bytes().to_vec(), entry.kind)).collect())
        }),
        find: Box::new(move |name| {
            let found = entries.iter().find(|entry| entry.name.as_bytes() == name);
            found.map(|entry| (entry.make)()).ok_or(Errno::ENOENT)
        }),
        process: None,
    })
}
