//! System V IPC (sysvipc(7)): identifiers, permissions, semaphore sets and message queues. Shared memory is `vfs::shm`'s,
//! which needs files; it uses the identifiers of this module.

mod ids;
pub mod msg;
pub mod sem;
mod sem_undo;

pub use ids::{Ids, Object};
pub use sem_undo::Undo;

use crate::cred::{Cred, cap};
use crate::sync::BootCell;
use crate::{Errno, Result, boot, task, time};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

/// ipc(2)'s constants, which the generated bindings lack (`linux/ipc.h`).
#[allow(missing_docs, reason = "the names are svipc(7)'s")]
pub mod abi {
    pub const IPC_PRIVATE: i32 = 0;
    pub const IPC_CREAT: u32 = 0o1000;
    pub const IPC_EXCL: u32 = 0o2000;
    pub const IPC_NOWAIT: u32 = 0o4000;
}

/// Who may do what with an object (`struct kern_ipc_perm`).
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names are ipc_perm's, svipc(7)")]
pub struct Perm {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
    /// Permission bits; for shared memory also `SHM_DEST` and `SHM_LOCKED`.
    pub mode: u32,
}

impl Perm {
    /// Of an object that the running task makes.
    pub fn new(key: i32, flags: u32) -> Perm {
        let cred = task::current().cred();
        Perm { key, uid: cred.euid, gid: cred.egid, cuid: cred.euid, cgid: cred.egid, mode: flags & 0o777 }
    }

    /// Whether `cred` may use the object as the bits of `wanted` say, wherever in the three groups they stand (`ipcperms`):
    /// `EACCES`.
    pub fn check(&self, cred: &Cred, wanted: u32) -> Result<()> {
        let wanted = (wanted >> 6) | (wanted >> 3) | wanted;
        let in_group = |gid: u32| cred.egid == gid || cred.groups.contains(&gid);
        let granted = if cred.euid == self.cuid || cred.euid == self.uid {
            self.mode >> 6
        } else if in_group(self.cgid) || in_group(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        if wanted & !granted & 0o7 == 0 || cred.has(cap::IPC_OWNER) { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Whether `cred` may change or remove the object: `EPERM`.
    pub fn check_owner(&self, cred: &Cred) -> Result<()> {
        let owns = cred.euid == self.cuid || cred.euid == self.uid;
        if owns || cred.has(cap::SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// `IPC_SET`.
    pub fn set(&mut self, uid: u32, gid: u32, mode: u32) {
        (self.uid, self.gid) = (uid, gid);
        self.mode = (self.mode & !0o777) | (mode & 0o777);
    }
}

/// Seconds of `CLOCK_REALTIME`, as the times of IPC objects are told.
pub fn seconds() -> i64 {
    (time::realtime() / time::SECOND) as i64
}

/// Kernel memory that programs have taken up with semaphores and messages.
struct Budget {
    limit: u64,
    used: AtomicU64,
}

static BUDGET: BootCell<Box<Budget>> = BootCell::new();

/// Memory charged for a semaphore set or a message; given back when dropped.
pub struct Charge(u64);

impl Charge {
    /// Takes so many bytes: `ENOMEM` when the sandbox's share for IPC is used up.
    pub fn new(bytes: u64) -> Result<Charge> {
        let budget = BUDGET.get().ok_or(Errno::ENOMEM)?;
        let fits = |used: u64| used.checked_add(bytes).filter(|&used| used <= budget.limit);
        budget
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map(|_| Charge(bytes))
            .map_err(|_| Errno::ENOMEM)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(budget) = BUDGET.get() {
            budget.used.fetch_sub(self.0, Ordering::Relaxed);
        }
    }
}

/// Sets up the tables. Called once, at boot.
pub fn init() {
    /// The share of the sandbox's memory that semaphores and messages may take.
    const SHARE: u64 = 4;
    let limit = boot::config().map_or(0, |config| config.options.memory_limit / SHARE);
    BUDGET.set(Box::new(Budget { limit, used: AtomicU64::new(0) }));
    sem::init();
    msg::init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_those_of_owner_group_or_others_and_bits_may_stand_anywhere() {
        let perm = Perm { key: 1, uid: 10, gid: 20, cuid: 11, cgid: 21, mode: 0o640 };
        let who = |uid, gid| Cred::new(uid, gid, [].into());
        assert_eq!(perm.check(&who(10, 1), 0o600), Ok(()));
        assert_eq!(perm.check(&who(11, 1), 0o006), Ok(()));
        assert_eq!(perm.check(&who(1, 20), 0o400), Ok(()));
        assert_eq!(perm.check(&who(1, 21), 0o200), Err(Errno::EACCES));
        assert_eq!(perm.check(&who(1, 1), 0o4), Err(Errno::EACCES));
        assert_eq!(perm.check(&who(0, 0), 0o777), Ok(()));
        assert_eq!(perm.check_owner(&who(1, 20)), Err(Errno::EPERM));
    }
}
