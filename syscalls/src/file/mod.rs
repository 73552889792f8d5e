//! Calls on files and descriptors.

mod attributes;
mod descriptors;
mod directories;
pub mod events;
mod fcntl;
mod handle;
mod inotify;
mod locks;
mod mount;
mod open;
mod poll;
mod position;
mod read;
mod select;
mod splice;
mod stat;
mod sync;
mod transfer;
mod write;
mod xattr;

pub use poll::restart_poll;
pub use read::one_span;
pub use stat::of_file as attributes_of;

use crate::Result;
use crate::table::{Context, Row};
use kernel::cred::Cred;
use vfs::context::FsContext;
use vfs::namespace::Lookup;
use vfs::table::{OwnTable, UsedFile};

/// The rows of this family, a slice a file.
pub const ROWS: &[&[Row]] = &[
    attributes::ROWS,
    descriptors::ROWS,
    directories::ROWS,
    events::ROWS,
    fcntl::ROWS,
    handle::ROWS,
    inotify::ROWS,
    locks::ROWS,
    mount::ROWS,
    open::ROWS,
    poll::ROWS,
    position::ROWS,
    read::ROWS,
    select::ROWS,
    stat::ROWS,
    sync::ROWS,
    splice::ROWS,
    transfer::ROWS,
    write::ROWS,
    xattr::ROWS,
];

/// What path walks of a call start from.
pub struct Walk<'a> {
    fs: &'a FsContext,
    files: OwnTable<'a>,
    cred: &'a Cred,
}

impl<'a> Walk<'a> {
    /// For the calling thread.
    pub fn new(context: &'a Context<'_>) -> Walk<'a> {
        Walk { fs: context.fs(), files: context.files(), cred: context.cred() }
    }

    /// For the path layer.
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup { fs: self.fs, files: self.files, cred: self.cred }
    }
}

/// The open file of a descriptor: `EBADF`. Not those opened with `O_PATH`, which most calls refuse the same way.
pub fn file<'a>(context: &'a Context<'_>, fd: i32) -> Result<UsedFile<'a>> {
    context.files().use_file(fd)
}

/// The open file of a descriptor, `O_PATH` or not.
pub fn any_file<'a>(context: &'a Context<'_>, fd: i32) -> Result<UsedFile<'a>> {
    context.files().use_any(fd)
}

/// Soft limit for descriptors.
pub fn descriptor_limit(context: &Context<'_>) -> u64 {
    context.thread.task.rlimit(linux_raw_sys::general::RLIMIT_NOFILE)
}
