//! Locks, as `lock_api` wrappers over a futex word that all processes of the sandbox share.
//!
//! # Lock order
//!
//! A thread may take a lock only if it holds none that stands below it in this list. Nothing that may block (a wait
//! queue, a host call that can sleep, a copy from a slow file) is done under any of them; copies to and from
//! program memory may be (they cannot block: a fault that the host cannot serve ends in `EFAULT`).
//!
//! 1. `process table` (task::table)
//! 2. thread group (task list, children, job control)
//! 3. address space (memory areas); then the identifiers of System V objects, an object, what a waiting receiver is told, the
//!    list of what semaphores take back
//! 4. file table, filesystem context (cwd, root)
//! 5. mount table
//! 6. dentry / directory inode, list of pseudo-terminals; two directories in address order
//! 7. inode (data, attributes); two inodes in address order
//! 8. open file (offset, flags), pipe, pseudo-terminal, eventfd, epoll interest list;
//!    sockets: ports, descriptors in flight, names, a socket's link, its inbox
//! 9. signal state of a group, then of a task, then what it shares with its tracer; calls on a process
//! 10. wait queue; epoll ready list; timer heap
//! 11. page frames
//! 12. kernel heap
//!
//! A host process that dies while it holds a lock ends the sandbox (the warden sees to that), so locks are not
//! robust. The warden itself, which has no task, looks after the dead while it waits for a lock: [`set_late`].

use core::sync::atomic::{AtomicU32, Ordering, fence};
use trap_handler::block::ThreadBlock;
use trap_handler::host;

/// How often a taker looks again before it sleeps: a critical section is shorter than a host futex call.
const SPINS: u32 = 200;

/// How long the warden waits for a lock before it looks whether the holder has died.
const LATE_NS: u64 = 100_000_000;

static LATE: BootCell<fn()> = BootCell::new();

/// What the warden does whenever a lock is late: it must neither lock nor allocate. Called once, at boot.
pub fn set_late(look: fn()) {
    LATE.set(look);
}

/// Sleeps until a lock's word is no longer `value`, or for no reason.
fn wait_for_holder(word: &AtomicU32, value: u32) {
    match LATE.get() {
        Some(look) if ThreadBlock::current().slot(crate::task::SLOT_TASK) == 0 => {
            host::futex_wait_until(word, value, crate::time::monotonic().saturating_add(LATE_NS));
            look();
        }
        _ => host::futex_wait_lock(word, value),
    }
}

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// A mutex over one shared futex word.
pub struct RawMutex(AtomicU32);

// SAFETY: mutual exclusion by compare-and-swap of the word; `unlock` is only called by the holder.
unsafe impl lock_api::RawMutex for RawMutex {
    #[allow(clippy::declare_interior_mutable_const, reason = "lock_api's form of an initial value")]
    const INIT: RawMutex = RawMutex(AtomicU32::new(FREE));
    type GuardMarker = lock_api::GuardNoSend;

    #[inline]
    fn lock(&self) {
        if !self.try_lock() {
            self.lock_slow();
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.0.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    unsafe fn unlock(&self) {
        if self.0.swap(FREE, Ordering::Release) == CONTENDED {
            host::futex_wake(&self.0, 1);
        }
    }
}

impl RawMutex {
    #[cold]
    fn lock_slow(&self) {
        use lock_api::RawMutex as _;
        for _ in 0..SPINS {
            if self.0.load(Ordering::Relaxed) == FREE && self.try_lock() {
                return;
            }
            core::hint::spin_loop();
        }
        while self.0.swap(CONTENDED, Ordering::Acquire) != FREE {
            wait_for_holder(&self.0, CONTENDED);
        }
    }
}

const WRITER: u32 = u32::MAX;

/// A reader-writer lock: a count of readers or [`WRITER`], and a word that sleepers wait on.
pub struct RawRwLock {
    state: AtomicU32,
    released: AtomicU32,
}

// SAFETY: exclusion by compare-and-swap of `state`.
unsafe impl lock_api::RawRwLock for RawRwLock {
    #[allow(clippy::declare_interior_mutable_const, reason = "lock_api's form of an initial value")]
    const INIT: RawRwLock = RawRwLock { state: AtomicU32::new(0), released: AtomicU32::new(0) };
    type GuardMarker = lock_api::GuardNoSend;

    fn lock_shared(&self) {
        self.acquire(Self::try_lock_shared);
    }

    fn try_lock_shared(&self) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        state < WRITER - 1
            && self.state.compare_exchange(state, state + 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    unsafe fn unlock_shared(&self) {
        if self.state.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.wake();
        }
    }

    fn lock_exclusive(&self) {
        self.acquire(Self::try_lock_exclusive);
    }

    fn try_lock_exclusive(&self) -> bool {
        self.state.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    unsafe fn unlock_exclusive(&self) {
        self.state.swap(0, Ordering::SeqCst);
        self.wake();
    }
}

/// Bit of `released` that says somebody sleeps.
const SLEEPERS: u32 = 1;

impl RawRwLock {
    fn acquire(&self, attempt: impl Fn(&Self) -> bool) {
        loop {
            for _ in 0..SPINS {
                if attempt(self) {
                    return;
                }
                core::hint::spin_loop();
            }
            let seen = self.released.fetch_or(SLEEPERS, Ordering::SeqCst) | SLEEPERS;
            // Pairs with `wake`: one of both sees what the other wrote.
            fence(Ordering::SeqCst);
            if attempt(self) {
                return;
            }
            wait_for_holder(&self.released, seen);
        }
    }

    /// Wakes those that sleep. What set the state free was sequentially consistent, so no fence is needed here, which would
    /// cost as much again.
    fn wake(&self) {
        let seen = self.released.load(Ordering::SeqCst);
        if seen & SLEEPERS != 0 {
            // A new even value: sleepers that are about to wait on the old one return at once.
            self.released.store(seen.wrapping_add(1), Ordering::SeqCst);
            host::futex_wake(&self.released, u32::MAX >> 1);
        }
    }
}

/// Mutual exclusion.
pub type Mutex<T> = lock_api::Mutex<RawMutex, T>;
/// Guard of a [`Mutex`].
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawMutex, T>;
/// Many readers or one writer.
pub type RwLock<T> = lock_api::RwLock<RawRwLock, T>;
/// Read guard of a [`RwLock`].
pub type ReadGuard<'a, T> = lock_api::RwLockReadGuard<'a, RawRwLock, T>;
/// Write guard of a [`RwLock`].
pub type WriteGuard<'a, T> = lock_api::RwLockWriteGuard<'a, RawRwLock, T>;

/// A value that one thread, its owner, alone replaces: the owner reads it without a lock, everybody else under one.
pub struct Owned<T>(RwLock<T>);

impl<T> Owned<T> {
    /// With a first value.
    pub const fn new(value: T) -> Owned<T> {
        Owned(RwLock::new(value))
    }

    /// The value, for whoever is not the owner.
    pub fn read(&self) -> ReadGuard<'_, T> {
        self.0.read()
    }

    /// The value, for the owner.
    ///
    /// # Safety
    /// The caller is the owner, and replaces nothing while it has the reference.
    pub unsafe fn own(&self) -> &T {
        // SAFETY: only the caller writes, and does not now; others read.
        unsafe { &*self.0.data_ptr() }
    }

    /// Replaces the value; gives the one before, which is to be dropped without a lock.
    ///
    /// # Safety
    /// The caller is the owner, and has no reference from [`Self::own`] that it still uses.
    #[must_use]
    pub unsafe fn replace(&self, value: T) -> T {
        core::mem::replace(&mut *self.0.write(), value)
    }
}

/// A value that is set once at boot, before the first fork, and read by everyone afterwards.
pub struct BootCell<T>(core::cell::UnsafeCell<Option<T>>);

// SAFETY: written by the only thread at boot; read-only since.
unsafe impl<T: Sync> Sync for BootCell<T> {}

impl<T> BootCell<T> {
    /// Empty.
    pub const fn new() -> BootCell<T> {
        BootCell(core::cell::UnsafeCell::new(None))
    }

    /// Sets the value; at boot only.
    pub fn set(&self, value: T) {
        // SAFETY: one thread runs at boot, and no reference was given out: `get` gives none before this.
        unsafe { *self.0.get() = Some(value) }
    }

    /// The value, once set.
    pub fn get(&self) -> Option<&T> {
        // SAFETY: no writer exists after boot.
        unsafe { (*self.0.get()).as_ref() }
    }
}

impl<T> Default for BootCell<T> {
    fn default() -> Self {
        Self::new()
    }
}
