//! System V shared memory (shmget(2), shmat(2)): segments in page frames. Every area that maps a segment counts as an
//! attachment, whichever way it comes and goes: shmat, fork, munmap of a part, exec, exit.

use crate::attributes::device;
use crate::page_file::PageFile;
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::layout::PAGE_SIZE;
use boundary::sysctl::{SHMALL, SHMMAX, SHMMNI};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::ipc::{Ids, Object, Perm, seconds};
use kernel::mm::{Backing, Mappable};
use kernel::sync::{BootCell, Mutex, MutexGuard};
use kernel::task::{self, Pid};
use kernel::{boot, frames};

/// Bytes of a segment at most (`SHMMAX`).
pub fn size_max() -> u64 {
    boot::sysctl_number(&SHMMAX, 0)
}

/// Pages of all segments at most (`SHMALL`).
pub fn pages_max() -> u64 {
    boot::sysctl_number(&SHMALL, 0)
}

/// Flags in a segment's mode, as shmctl(2) tells them.
pub mod mode {
    /// Removed when the last process detaches it.
    pub const DEST: u32 = 0o1000;
    /// Locked in memory.
    pub const LOCKED: u32 = 0o2000;
}

/// The changing part of a segment.
#[allow(missing_docs, reason = "the names are shmid_ds's, shmctl(2)")]
pub struct State {
    pub perm: Perm,
    pub atime: i64,
    pub dtime: i64,
    pub ctime: i64,
    pub cpid: Pid,
    pub lpid: Pid,
    pub nattch: u64,
    removed: bool,
}

/// A segment.
pub struct Segment {
    id: i32,
    /// Bytes, as asked for.
    size: u64,
    data: Arc<PageFile>,
    state: Mutex<State>,
}

struct All {
    ids: Ids<Segment>,
    pages: AtomicU64,
}

static ALL: BootCell<Box<All>> = BootCell::new();

/// Sets up the table. Called once, at boot.
pub fn init() {
    ALL.set(Box::new(All {
        ids: Ids::new(boot::sysctl_number(&SHMMNI, 0) as usize),
        pages: AtomicU64::new(0),
    }));
}

/// All segments.
pub fn segments() -> Result<&'static Ids<Segment>> {
    ALL.get().map(|all| &all.ids).ok_or(Errno::ENOSYS)
}

/// Pages of all segments, whether they hold data or not.
pub fn pages() -> u64 {
    ALL.get().map_or(0, |all| all.pages.load(Ordering::Relaxed))
}

/// shmget(2): `EINVAL`, `ENOSPC`, `ENOMEM`, and what [`Ids::get`] gives.
pub fn get(key: i32, size: u64, flags: u32) -> Result<i32> {
    let fits = |segment: &Segment| if size > segment.size { Err(Errno::EINVAL) } else { Ok(()) };
    segments()?.get(key, flags, fits, |id| {
        if size == 0 || size > size_max() {
            return Err(Errno::EINVAL);
        }
        let new = size.div_ceil(PAGE_SIZE);
        if pages().saturating_add(new) > pages_max() {
            return Err(Errno::ENOSPC);
        }
        // As Linux, which wants memory for what it promises.
        if new > frames::usage().1 {
            return Err(Errno::ENOMEM);
        }
        let data = PageFile::new(None);
        data.truncate(size)?;
        if let Some(all) = ALL.get() {
            all.pages.fetch_add(new, Ordering::Relaxed);
        }
        let state = State {
            perm: Perm::new(key, flags),
            atime: 0,
            dtime: 0,
            ctime: seconds(),
            cpid: task::current().group.tgid,
            lpid: Pid::NONE,
            nattch: 0,
            removed: false,
        };
        Ok(Arc::new(Segment { id, size, data, state: Mutex::new(state) }))
    })
}

impl Object for Segment {
    fn perm(&self) -> Perm {
        self.state.lock().perm
    }

    fn id(&self) -> i32 {
        self.id
    }
}

impl Segment {
    /// Bytes, as asked for.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that hold data.
    pub fn resident(&self) -> u64 {
        self.data.size_and_blocks().1 * 512
    }

    /// The state: `EIDRM` once it was removed.
    pub fn lock(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.removed { Err(Errno::EIDRM) } else { Ok(state) }
    }

    /// What shmat(2) maps: one attachment.
    pub fn attach(self: &Arc<Self>, key: i32) -> Arc<dyn Mappable> {
        let name = alloc::format!("/SYSV{key:08x} (deleted)").into_bytes();
        let inner = self.data.mappable((device(0, 1), u64::from(self.id.unsigned_abs()), name));
        Arc::new(Attachment { segment: self.clone(), inner })
    }

    /// `IPC_RMID`: at once, or when nobody has it attached any more: `EPERM`.
    pub fn remove(&self) -> Result<()> {
        let mut state = self.lock()?;
        state.perm.check_owner(&task::current().cred())?;
        state.perm.mode |= mode::DEST;
        state.perm.key = kernel::ipc::abi::IPC_PRIVATE;
        drop(state);
        segments()?.forget_key(self.id);
        self.remove_if_unused();
        Ok(())
    }

    fn remove_if_unused(&self) {
        let Ok(ids) = segments() else { return };
        ids.remove(self.id, |_| {
            let mut state = self.state.lock();
            state.removed |= state.nattch == 0 && state.perm.mode & mode::DEST != 0;
            state.removed
        });
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Some(all) = ALL.get() {
            all.pages.fetch_sub(self.size.div_ceil(PAGE_SIZE), Ordering::Relaxed);
        }
    }
}

/// One shmat(2), with all that came of it by fork and mremap.
struct Attachment {
    segment: Arc<Segment>,
    inner: Arc<dyn Mappable>,
}

impl Attachment {
    /// `None` in the warden.
    fn pid() -> Option<Pid> {
        task::current_if_any().map(|task| task.group.tgid)
    }
}

impl Mappable for Attachment {
    fn backing(&self, offset: u64, length: u64, shared: bool, writable: bool) -> Result<Backing> {
        self.inner.backing(offset, length, shared, writable)
    }

    fn remove(&self, offset: u64, length: u64) -> Option<Result<()>> {
        self.inner.remove(offset, length)
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        self.inner.describe()
    }

    fn segment_size(&self) -> Option<u64> {
        Some(self.segment.size)
    }

    fn area_added(&self) {
        let mut state = self.segment.state.lock();
        state.nattch += 1;
        state.atime = seconds();
        state.lpid = Self::pid().unwrap_or(state.lpid);
    }

    fn area_removed(&self) {
        let mut state = self.segment.state.lock();
        state.nattch = state.nattch.saturating_sub(1);
        state.dtime = seconds();
        state.lpid = Self::pid().unwrap_or(state.lpid);
    }
}

impl Drop for Attachment {
    /// Here and not when the last area goes, because areas that are changed come and go for a moment.
    fn drop(&mut self) {
        self.segment.remove_if_unused();
    }
}
