//! Calls on files and descriptors.

mod attributes;
mod descriptors;
mod directories;
mod events;
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
use alloc::sync::Arc;
use kernel::cred::Cred;
use vfs::context::FsContext;
use vfs::file::FileRef;
use vfs::namespace::Lookup;
use vfs::table::FileTable;

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

/// What path walks of a call start from; keeps its parts alive.
pub struct Walk {
    fs: Arc<FsContext>,
    files: Arc<FileTable>,
    cred: Arc<Cred>,
}

impl Walk {
    /// For the calling thread.
    pub fn new(context: &Context<'_>) -> Walk {
        let thread = context.thread;
        Walk { fs: thread.fs(), files: thread.files(), cred: thread.task.cred() }
    }

    /// For the path layer.
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup { fs: &self.fs, files: &self.files, cred: &self.cred }
    }
}

/// The open file of a descriptor: `EBADF`. Not those opened with `O_PATH`, which most calls refuse the same way.
pub fn file(context: &Context<'_>, fd: i32) -> Result<FileRef> {
    context.thread.files().get(fd)
}

/// The open file of a descriptor, `O_PATH` or not.
pub fn any_file(context: &Context<'_>, fd: i32) -> Result<FileRef> {
    context.thread.files().get_any(fd)
}

/// Soft limit for descriptors.
pub fn descriptor_limit(context: &Context<'_>) -> u64 {
    context.thread.task.rlimit(linux_raw_sys::general::RLIMIT_NOFILE)
}
