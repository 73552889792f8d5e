//! Host descriptors and the bounded pool of those that are kept only to be used again.
//!
//! The host's descriptor table is shared by all processes of the sandbox, so a descriptor that any of them opens is good in
//! all, and closing it closes it for all: it is counted, and whoever uses it holds a count.

use super::inode::HostInode;
use crate::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::sync::Mutex;
use linux_raw_sys::general as raw;
use trap_handler::host;

/// Descriptors kept open only to be used again, at most.
const MAX_KEPT: usize = 3500;
/// Descriptors of host files at most; the host's own limit is somewhat higher.
const MAX_OPEN: u32 = 16_000;

/// An open host descriptor. Closed with the last reference.
pub struct HostFd {
    number: i32,
    access: u32,
    /// `None` for a descriptor that the launcher handed over: it stays open.
    pool: Option<Arc<Pool>>,
}

impl HostFd {
    /// A descriptor that is never closed.
    pub fn borrowed(number: i32) -> Arc<HostFd> {
        Arc::new(HostFd { number, access: raw::O_PATH, pool: None })
    }

    /// A descriptor that another has opened for reading paths below it (`O_PATH`), to be closed as its own.
    pub fn taken(number: i32, pool: &Arc<Pool>) -> Arc<HostFd> {
        pool.open.fetch_add(1, Ordering::Relaxed);
        Arc::new(HostFd { number, access: raw::O_PATH, pool: Some(pool.clone()) })
    }

    /// Its number.
    pub fn number(&self) -> i32 {
        self.number
    }

    /// Whether it is more than a place.
    pub fn is_open(&self) -> bool {
        self.access & raw::O_PATH == 0
    }

    /// Whether data can be read and written as `flags` of open(2) ask.
    pub fn covers(&self, flags: u32) -> bool {
        self.access == raw::O_RDWR
            || (self.access & raw::O_PATH == 0 && self.access == flags & raw::O_ACCMODE)
    }
}

impl Drop for HostFd {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            // An error of close(2) says nothing that anyone could act on: writes were not delayed by us.
            let _ = host::close(self.number);
            pool.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Opens descriptors and decides which idle ones to close.
#[derive(Default)]
pub struct Pool {
    open: AtomicU32,
    /// Inodes that keep a descriptor, in the order in which to ask for it back (second chance).
    kept: Mutex<VecDeque<Weak<HostInode>>>,
}

impl Pool {
    /// openat(2). `EMFILE` and `ENFILE` first cost the kept descriptors.
    pub fn open_at(
        self: &Arc<Pool>,
        directory: &HostFd,
        name: &CStr,
        flags: u32,
        mode: u32,
    ) -> Result<Arc<HostFd>> {
        if self.open.load(Ordering::Relaxed) >= MAX_OPEN {
            self.close_idle();
            if self.open.load(Ordering::Relaxed) >= MAX_OPEN {
                return Err(Errno::ENFILE);
            }
        }
        let flags = flags | raw::O_CLOEXEC | raw::O_NOFOLLOW;
        let number = match host::openat(directory.number, name, flags, mode) {
            Err(Errno::EMFILE | Errno::ENFILE) => {
                self.close_idle();
                host::openat(directory.number, name, flags, mode).map_err(|error| match error {
                    Errno::EMFILE => Errno::ENFILE,
                    other => other,
                })?
            }
            other => other?,
        };
        self.open.fetch_add(1, Ordering::Relaxed);
        let access = flags & (raw::O_ACCMODE | raw::O_PATH);
        Ok(Arc::new(HostFd { number, access, pool: Some(self.clone()) }))
    }

    /// Notes that `inode` keeps a descriptor; another may lose its own for that.
    pub fn keep(&self, inode: Weak<HostInode>) {
        let mut excess = {
            let mut kept = self.kept.lock();
            kept.push_back(inode);
            kept.len().saturating_sub(MAX_KEPT)
        };
        // Each turn either shortens the queue or takes away a second chance.
        let mut turns = MAX_KEPT;
        while excess > 0 && turns > 0 {
            turns -= 1;
            let Some(oldest) = self.kept.lock().pop_front() else { return };
            match oldest.upgrade() {
                Some(inode) if inode.take_second_chance() => self.kept.lock().push_back(oldest),
                Some(inode) => {
                    inode.close_kept();
                    excess -= 1;
                }
                None => excess -= 1,
            }
        }
    }

    fn close_idle(&self) {
        let all = core::mem::take(&mut *self.kept.lock());
        for inode in all.iter().filter_map(Weak::upgrade) {
            inode.close_kept();
        }
    }
}
