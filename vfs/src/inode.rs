//! The filesystem side: what an inode can do.
//!
//! Permission checks, name rules (`.`/`..`, length, trailing slashes), read-only mounts and the dentry cache are above this
//! trait (in `namespace`); an implementation deals with valid single names and with its own storage.

use crate::attributes::{AttributeChange, Attributes, Kind, Owner};
use crate::file::FileOps;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kernel::cred::Cred;
use linux_raw_sys::general as raw;

/// A node to be made.
#[derive(Debug, Clone)]
pub struct NewNode<'a> {
    /// What it is, with what that needs.
    pub what: NewKind<'a>,
    /// Permission bits, umask applied.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group (the directory's, where that has the set-group-ID bit; decided above).
    pub gid: u32,
}

/// What kind of node to make.
#[derive(Debug, Clone)]
pub enum NewKind<'a> {
    /// An empty regular file.
    Regular,
    /// An empty directory.
    Directory,
    /// A symbolic link with this text.
    Symlink(&'a [u8]),
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A device node.
    Device(Kind, u64),
}

/// What an access control list makes of the mode.
#[derive(Debug, Clone, Copy, Default)]
pub struct AclMode {
    /// The nine permission bits that it means.
    pub permissions: Option<u32>,
    /// The set-group-ID bit goes.
    pub drop_set_gid: bool,
}

impl AclMode {
    /// The mode after that.
    pub fn apply(&self, mode: u32) -> u32 {
        let mode = self.permissions.map_or(mode, |permissions| mode & !0o777 | permissions);
        if self.drop_set_gid { mode & !raw::S_ISGID } else { mode }
    }
}

/// Where a symbolic link leads.
pub enum LinkTarget {
    /// A text to walk.
    Text(Vec<u8>),
    /// An object directly (the magic links of `/proc/PID/{fd/*,cwd,root,exe}`): a place in the tree or an open file without
    /// one, and the text that readlink(2) shows.
    Object(crate::file::FileRef, Vec<u8>),
}

/// An inode of some filesystem. Methods on directories give `ENOTDIR` elsewhere by default.
pub trait Inode: Send + Sync {
    /// What stat(2) tells. May ask the host.
    fn attributes(&self) -> Result<Attributes>;

    /// What permission checks look at, for each directory of each path: an implementation that can tell it for less than all
    /// of [`Self::attributes`] does.
    fn owner(&self) -> Result<Owner> {
        self.attributes().map(|attributes| Owner::from(&attributes))
    }

    /// Its kind; never changes, never asks the host.
    fn kind(&self) -> Kind;

    /// For implementations that need to know their own kind (rename, link across).
    fn as_any(&self) -> &dyn Any;

    /// Changes attributes; rules about who may are above.
    fn set_attributes(&self, change: &AttributeChange) -> Result<()>;

    /// Opens it for reading and writing as `flags` (`O_*`) says; with `O_TRUNC` empties a regular file. Permissions were
    /// checked above. No lock is held: a named pipe may wait for its other end.
    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<dyn FileOps>>;

    /// Finds `name`: `ENOENT`.
    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOTDIR)
    }

    /// As [`Self::lookup`]; where finding it told its attributes, they are put into `told`.
    fn lookup_told(&self, name: &[u8], _told: &mut Option<Attributes>) -> Result<Arc<dyn Inode>> {
        self.lookup(name)
    }

    /// Whether dentries below may be kept without asking again. `false` for `/proc` and for shared host directories.
    fn cacheable(&self) -> bool {
        true
    }

    /// For a dentry of a directory that is not [`Self::cacheable`]: whether this inode is still what `name` in `parent` means;
    /// `told` as in [`Self::lookup_told`].
    fn revalidate(&self, _parent: &dyn Inode, _name: &[u8], _told: &mut Option<Attributes>) -> bool {
        true
    }

    /// For a regular file in such a directory: opens what `name` in `parent` means, if that still is this inode, for reading; with its
    /// attributes, for the permission to be checked. `None`: it is to be looked up first.
    fn open_named(
        self: Arc<Self>,
        _parent: &dyn Inode,
        _name: &[u8],
        _flags: u32,
    ) -> Option<(Arc<dyn FileOps>, Attributes)> {
        None
    }

    /// For a directory that is not [`Self::cacheable`]: attributes of what a path of plain names below it leads to, if that still is
    /// `expected`, and if no permission on the way there is for the walk to check. `None`: the names are to be looked up one by one.
    fn status_below(&self, _cred: &Cred, _path: &[u8], _expected: &dyn Inode) -> Option<Attributes> {
        None
    }

    /// For a directory: whether its names come and go by themselves alone (`/proc`).
    fn is_immutable(&self) -> bool {
        false
    }

    /// Makes a node: `EEXIST`, `ENOSPC`.
    fn create(&self, _name: &[u8], _node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        Err(Errno::EPERM)
    }

    /// Makes a regular file without a name (`O_TMPFILE`).
    fn create_unnamed(&self, _node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Another name for `target`, an inode of the same filesystem: `EEXIST`, `EMLINK`.
    fn link(&self, _name: &[u8], _target: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes a name that is not a directory's.
    fn unlink(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes an empty directory: `ENOTEMPTY`.
    fn rmdir(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Moves `name` to `new_name` in `new_parent`, a directory of the same filesystem; `flags` are renameat2(2)'s. Kinds,
    /// loops and permissions were checked above; `ENOTEMPTY`, `EINVAL` for flags it cannot do.
    fn rename(
        &self,
        _name: &[u8],
        _new_parent: &Arc<dyn Inode>,
        _new_name: &[u8],
        _flags: u32,
    ) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Where it leads, if it is a symbolic link.
    fn read_link(&self) -> Result<LinkTarget> {
        Err(Errno::EINVAL)
    }

    /// What statfs(2) tells of its filesystem.
    fn filesystem(&self) -> Result<raw::statfs>;

    /// Value of an extended attribute: `ENODATA`, `EOPNOTSUPP`.
    fn xattr(&self, _name: &[u8]) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets (or with `None` removes) one; `flags` are setxattr(2)'s.
    fn set_xattr(&self, _name: &[u8], _value: Option<&[u8]>, _flags: u32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Whether it keeps access control lists: [`Self::xattr`] gives their values then.
    fn keeps_acls(&self) -> bool {
        false
    }

    /// For a directory that keeps them: whether its filesystem gives new nodes their lists by itself.
    fn hands_acls_on(&self) -> bool {
        false
    }

    /// Sets (or with `None` removes) the list of that name, as it is to be kept, and changes the mode with it.
    fn set_acl(&self, _name: &[u8], _value: Option<Vec<u8>>, _mode: &AclMode) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Names, each with its NUL.
    fn list_xattr(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
}
