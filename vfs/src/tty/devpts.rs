//! Filesystem `devpts`: a name for each slave whose master is open, and `ptmx`.

use super::{Pair, SLAVE_MAJOR, find, numbers, open_master, open_slave};
use crate::anonymous::Birth;
use crate::attributes::{AttributeChange, Attributes, Kind, device};
use crate::file::FileOps;
use crate::generated::{Common, Directory};
use crate::inode::Inode;
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use kernel::sync::Mutex;
use kernel::time;
use linux_raw_sys::general as raw;

/// `DEVPTS_SUPER_MAGIC`.
const MAGIC: u32 = 0x1cd1;
/// Device of the filesystem.
pub(super) const DEVICE: u64 = device(0, 24);
/// Group of slaves: `tty`, as distributions mount it (`gid=5,mode=620`).
const TTY_GROUP: u32 = 5;

/// What is behind a name.
enum Terminal {
    /// `ptmx`.
    Multiplexer,
    /// A slave.
    Slave(u32, Weak<Pair>),
}

/// An inode.
pub struct Node {
    terminal: Terminal,
    attributes: Mutex<Attributes>,
}

impl Node {
    fn new(terminal: Terminal, ino: u64, rdev: u64, mode: u32, owner: (u32, u32)) -> Arc<Node> {
        let birth = Birth { ino, uid: owner.0, gid: owner.1, time: time::file_time() };
        let mut attributes = birth.attributes(DEVICE, Kind::CharDevice.mode_bits() | mode);
        attributes.rdev = rdev;
        attributes.blksize = 1024;
        Arc::new(Node { terminal, attributes: Mutex::new(attributes) })
    }

    /// The name of a pair's slave, which belongs to a user.
    pub(super) fn of_slave(index: u32, pair: Weak<Pair>, owner: u32) -> Arc<Node> {
        let ino = u64::from(index) + 3;
        let owner = (owner, TTY_GROUP);
        Node::new(Terminal::Slave(index, pair), ino, device(SLAVE_MAJOR, index), 0o620, owner)
    }
}

impl Inode for Node {
    fn attributes(&self) -> Result<Attributes> {
        Ok(*self.attributes.lock())
    }

    fn kind(&self) -> Kind {
        Kind::CharDevice
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        if change.size.is_some() {
            return Err(Errno::EINVAL);
        }
        let mut attributes = self.attributes.lock();
        if let Some(mode) = change.mode {
            attributes.mode = Kind::CharDevice.mode_bits() | mode & 0o7777;
        }
        attributes.uid = change.uid.unwrap_or(attributes.uid);
        attributes.gid = change.gid.unwrap_or(attributes.gid);
        attributes.atime = change.atime.unwrap_or(attributes.atime);
        attributes.mtime = change.mtime.unwrap_or(attributes.mtime);
        attributes.ctime = time::file_time();
        Ok(())
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<dyn FileOps>> {
        match &self.terminal {
            Terminal::Multiplexer => open_master(flags),
            Terminal::Slave(index, _) => open_slave(*index, flags),
        }
    }

    fn cacheable(&self) -> bool {
        false
    }

    /// A number that was given away again is another terminal.
    fn revalidate(&self, _parent: &dyn Inode, _name: &[u8], _told: &mut Option<Attributes>) -> bool {
        match &self.terminal {
            Terminal::Multiplexer => true,
            Terminal::Slave(index, pair) => {
                find(*index).is_some_and(|now| core::ptr::eq(Arc::as_ptr(&now), pair.as_ptr()))
            }
        }
    }

    fn filesystem(&self) -> Result<raw::statfs> {
        COMMON.statfs()
    }
}

const COMMON: Common = Common { dev: DEVICE, magic: MAGIC, ino: 1, mode: 0o755, owner: (0, 0) };

/// The root of `/dev/pts`.
pub fn root() -> Arc<dyn Inode> {
    let multiplexer = Node::new(Terminal::Multiplexer, 2, super::PTMX, 0o666, (0, 0));
    Arc::new(Directory {
        common: COMMON,
        list: Box::new(|| {
            let names = numbers().into_iter().map(|number| format!("{number}").into_bytes());
            let all = core::iter::once(b"ptmx".to_vec()).chain(names);
            Ok(all.map(|name| (name, Kind::CharDevice)).collect::<Vec<_>>())
        }),
        find: Box::new(move |name| {
            if name == b"ptmx" {
                return Ok(multiplexer.clone());
            }
            let number: u32 =
                core::str::from_utf8(name).ok().and_then(|name| name.parse().ok()).ok_or(Errno::ENOENT)?;
            if format!("{number}").as_bytes() != name {
                return Err(Errno::ENOENT);
            }
            find(number).map(|pair| pair.node.clone() as Arc<dyn Inode>).ok_or(Errno::ENOENT)
        }),
        process: None,
    })
}
