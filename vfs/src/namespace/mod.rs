//! The tree that programs see: mounts, dentries, path walking, and the calls that name a path.
//!
//! Functions here are what the calls of the same names do, after their arguments were copied in: they take a [`Lookup`] (who
//! asks, from where), a base descriptor (`AT_FDCWD` or one for the `*at` calls) and a path, or a [`Target`] that was found
//! before (by [`find`], or from a descriptor by [`target_of`]).

mod change;
mod create;
mod dentry;
mod mount;
mod open;
mod path;
mod permission;
mod program;
mod remove;
mod rename;
#[cfg(test)]
mod tests;
mod texts;
mod walk;
mod xattr;

pub use change::{
    Times, access, change_mode, change_owner, find_or_base, set_times, statfs, status, status_of_open,
    truncate, truncate_open,
};
pub use create::{link, make_directory, make_node, make_socket, symlink};
pub use dentry::Dentry;
pub use mount::{Mount, MountFlags, MountInfo, MountOptions, Namespace};
pub use open::{check_flags, open, place_only};
pub use path::Path;
pub(crate) use permission::without_set_ids;
pub use permission::{Access, check as check_permission, check_inode as check_inode_permission, is_owner};
pub use program::{executable_name, file_size, open_executable, open_executable_at};
pub use remove::{remove_directory, unlink};
pub use rename::rename;
pub use walk::{Resolve, Target, WalkFlags, find, find_at, read_link, resolve, status_at, target_of};
pub use xattr::{get_xattr, list_xattr, remove_xattr, set_xattr};

use crate::context::FsContext;
use crate::table::OwnTable;
use crate::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;
use kernel::cred::Cred;
use kernel::sync::Mutex;

/// Longest name (`NAME_MAX`).
pub const NAME_MAX: usize = 255;
/// Longest path with its NUL (`PATH_MAX`).
pub const PATH_MAX: usize = 4096;

/// Who asks, and from where.
#[derive(Clone, Copy)]
pub struct Lookup<'a> {
    /// Root, working directory, umask, mount table.
    pub fs: &'a FsContext,
    /// Descriptors that `*at` calls start from.
    pub files: OwnTable<'a>,
    /// Permissions.
    pub cred: &'a Cred,
}

/// What all dentries of one filesystem share.
#[derive(Default)]
pub(crate) struct Tree {
    cache: dentry::Cache,
    /// Held while a directory may change its parent.
    rename: Mutex<()>,
    /// Mounts that show it.
    mounts: AtomicU32,
    /// Leases on its files.
    pub(crate) leases: crate::leases::Leases,
    /// Locks on its files.
    pub(crate) locks: crate::locks::Register,
    /// Who wants to know what happens in it.
    pub(crate) watches: crate::notify::Watches,
}

/// getcwd(2): the text without its NUL; `ENOENT` if the directory was removed.
pub fn working_directory(lookup: &Lookup<'_>) -> Result<Vec<u8>> {
    let (root, cwd) = lookup.fs.root_and_cwd();
    cwd.cwd_text(&root).ok_or(Errno::ENOENT)
}

/// Whether the caller may search a directory: `EACCES`.
pub fn check_search(lookup: &Lookup<'_>, path: &Path) -> Result<()> {
    permission::check_path(lookup.cred, path, Access::EXECUTE)
}
