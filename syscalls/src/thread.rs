//! A thread with all that belongs to it: the kernel's task, and the memory, files and filesystem context it uses.

mod users;

pub use users::Users;

use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use hashbrown::HashMap;
use kernel::mm::AddressSpace;
use kernel::sync::{BootCell, Mutex, Owned, RwLock};
use kernel::task::{Pid, SLOT_TASK, SLOT_THREAD, Task};
use trap_handler::block::ThreadBlock;
use trap_handler::host;
use vfs::context::FsContext;
use vfs::table::{FileTable, TableUse};

/// Memory of a process and what is bound to it on the host.
pub struct Memory {
    /// The record of areas.
    pub space: Arc<AddressSpace>,
    /// Threads that run in it, of one process or (`CLONE_VM`, vfork) of several.
    users: Arc<Users>,
    /// Arguments and environment as exec laid them out, for other processes that look into `/proc`.
    strings: Mutex<(Vec<u8>, Vec<u8>)>,
    /// How many programs it has held.
    programs: AtomicU32,
    /// Threads that sleep, or are about to, on a futex of the program.
    futex_waiters: AtomicU32,
    /// How often its process was forked, or those that it was forked from.
    forks: AtomicU32,
}

impl Memory {
    /// For a process with one thread, on the first kernel stack.
    pub fn new(space: Arc<AddressSpace>) -> Arc<Memory> {
        Self::with(space, Users::one())
    }

    /// For a process that is about to be forked from the calling one, whose memory `parents` is.
    pub fn for_fork(parents: &Memory) -> Arc<Memory> {
        let copy = Self::with(Arc::default(), parents.users.for_fork());
        copy.set_strings(parents.strings());
        copy
    }

    fn with(space: Arc<AddressSpace>, users: Users) -> Arc<Memory> {
        Arc::new(Memory {
            space,
            users: Arc::new(users),
            strings: Mutex::default(),
            programs: AtomicU32::new(0),
            futex_waiters: AtomicU32::new(0),
            forks: AtomicU32::new(0),
        })
    }

    /// The threads that run in it.
    pub fn users(&self) -> Arc<Users> {
        self.users.clone()
    }

    /// Arguments and environment, each string with its NUL.
    pub fn strings(&self) -> (Vec<u8>, Vec<u8>) {
        self.strings.lock().clone()
    }

    /// Notes them (execve, fork).
    pub fn set_strings(&self, strings: (Vec<u8>, Vec<u8>)) {
        *self.strings.lock() = strings;
    }

    /// A number for the program that it holds now, other than for those before.
    pub fn program_number(&self) -> u32 {
        self.programs.load(Ordering::SeqCst)
    }

    /// A new program takes it over.
    pub fn note_exec(&self) {
        self.programs.fetch_add(1, Ordering::SeqCst);
    }

    /// Its process, the calling one, is about to be forked into one with `copy`: what pays from the second time on is done.
    pub fn note_fork(&self, copy: &Memory) {
        let before = self.forks.fetch_add(1, Ordering::Relaxed);
        if before == 1 {
            kernel::mm::text::to_huge_pages();
        }
        if before % FORKS_TO_FORGET == 1 {
            kernel::heap::forget_tables();
        }
        copy.forks.store(before.saturating_add(1), Ordering::Relaxed);
    }

    /// Its process was forked from one that has been forked so often.
    pub fn set_forks(&self, forks: u32) {
        self.forks.store(forks, Ordering::Relaxed);
    }

    /// Whether some thread in it may sleep on a futex that was looked at before the caller's last store: a waiter counts itself
    /// first and has the host look at the word then, so one of both sees the other.
    pub fn has_futex_waiters(&self) -> bool {
        fence(Ordering::SeqCst);
        self.futex_waiters.load(Ordering::SeqCst) != 0
    }

    /// Runs `wait`, which may sleep on a futex.
    pub fn while_waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.futex_waiters.fetch_add(1, Ordering::SeqCst);
        let result = wait();
        self.futex_waiters.fetch_sub(1, Ordering::SeqCst);
        result
    }
}

/// After how many forks a process forgets again which pages of the heap it has touched.
const FORKS_TO_FORGET: u32 = 64;

/// A thread.
pub struct Thread {
    /// The kernel's part.
    pub task: Arc<Task>,
    memory: Owned<Arc<Memory>>,
    files: Owned<TableUse>,
    fs: Owned<Arc<FsContext>>,
    /// The program's thread pointer as clone(2) set it, until the thread runs.
    pub initial_fs_base: AtomicU64,
    /// What restart_syscall(2) continues.
    pub restart: Mutex<Option<crate::restart::Restart>>,
    executable: Mutex<Option<vfs::file::FileRef>>,
    /// It has ended: what is left is for whoever waits for it.
    ended: AtomicBool,
    /// A vfork parent waits for this: 1 while the child has neither executed a program nor ended.
    pub vfork: Mutex<Option<Arc<crate::process::VforkDone>>>,
    /// The vfork parent whose host thread it runs on.
    pub loan: Mutex<Option<Arc<crate::process::Loan>>>,
}

impl Thread {
    /// A thread for `task`.
    pub fn new(task: Arc<Task>, memory: Arc<Memory>, files: TableUse, fs: Arc<FsContext>) -> Arc<Thread> {
        Arc::new(Thread {
            task,
            memory: Owned::new(memory),
            files: Owned::new(files),
            fs: Owned::new(fs),
            initial_fs_base: AtomicU64::new(0),
            restart: Mutex::new(None),
            executable: Mutex::new(None),
            ended: AtomicBool::new(false),
            vfork: Mutex::new(None),
            loan: Mutex::new(None),
        })
    }

    /// A call trapped that returns to `return_address`: its site may be worth rewriting.
    pub fn call_trapped(&self, return_address: u64, number: u64) {
        const LENGTH_OF_SYSCALL: u64 = 2;
        let memory = self.memory.read();
        let site = return_address.wrapping_sub(LENGTH_OF_SYSCALL);
        memory.space.call_trapped(site, number, !memory.users.are_several());
    }

    /// Its process's memory.
    pub fn memory(&self) -> Arc<Memory> {
        self.memory.read().clone()
    }

    /// The same for itself.
    ///
    /// # Safety
    /// The caller is this thread, and does not replace it ([`Self::set_memory`], [`Self::let_go`]) while the result lives.
    pub unsafe fn own_memory(&self) -> &Arc<Memory> {
        // SAFETY: the caller's promise.
        unsafe { self.memory.own() }
    }

    /// Replaces the memory (execve).
    ///
    /// # Safety
    /// The caller is this thread, and nothing that came from [`Self::own_memory`] lives.
    pub unsafe fn set_memory(&self, memory: Arc<Memory>) {
        // SAFETY: the caller's promise.
        drop(unsafe { self.memory.replace(memory) });
    }

    /// The areas of its process's memory.
    pub fn space(&self) -> Arc<AddressSpace> {
        self.memory.read().space.clone()
    }

    /// Its descriptor table, to look at.
    pub fn files(&self) -> Arc<FileTable> {
        self.files.read().table().clone()
    }

    /// Its use of its descriptor table, for itself.
    ///
    /// # Safety
    /// The caller is this thread, and does not replace it ([`Self::unshare_files`], [`Self::let_go`]) while the result lives.
    pub unsafe fn own_files(&self) -> &TableUse {
        // SAFETY: the caller's promise.
        unsafe { self.files.own() }
    }

    /// Gives it a descriptor table that nobody else uses (execve, unshare).
    ///
    /// # Safety
    /// The caller is this thread, and nothing that came from [`Self::own_files`] lives.
    pub unsafe fn unshare_files(&self) {
        // SAFETY: the caller's promise.
        let shared = unsafe {
            let own = self.files.own().own().unshared();
            own.map(|own| self.files.replace(own))
        };
        drop(shared);
    }

    /// Whether it has ended, and only waits to be waited for.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Notes that it has ended.
    pub fn note_end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Gives up memory, descriptors and places, for the end of the thread: others hold the thread itself until it was waited for,
    /// and its process must not be seen to have ended before its files are closed and its memory is gone.
    ///
    /// # Safety
    /// The caller is this thread, and uses nothing any more that came from [`Self::own_files`], [`Self::own_fs`] or
    /// [`Self::own_memory`].
    pub unsafe fn let_go(&self) {
        let executable = self.executable.lock().take();
        drop(executable);
        let fs = self.fs();
        if let Some(root) = fs.namespace().root() {
            let nowhere = FsContext::new(fs.namespace().clone(), root.clone(), root, fs.umask());
            // SAFETY: the caller's promise; `fs` is counted.
            drop(unsafe { self.fs.replace(nowhere) });
        }
        drop(fs);
        // SAFETY: the caller's promise.
        drop(unsafe { self.files.replace(TableUse::default()) });
        // SAFETY: the caller's promise.
        drop(unsafe { self.memory.replace(Memory::new(Arc::default())) });
    }

    /// Root, working directory, umask.
    pub fn fs(&self) -> Arc<FsContext> {
        self.fs.read().clone()
    }

    /// The same for itself.
    ///
    /// # Safety
    /// The caller is this thread, and does not replace it ([`Self::unshare_fs`], [`Self::let_go`]) while the result lives.
    pub unsafe fn own_fs(&self) -> &Arc<FsContext> {
        // SAFETY: the caller's promise.
        unsafe { self.fs.own() }
    }

    /// Gives it a filesystem context of its own (unshare).
    ///
    /// # Safety
    /// The caller is this thread, and nothing that came from [`Self::own_fs`] lives.
    pub unsafe fn unshare_fs(&self) {
        let own = self.fs().fork();
        // SAFETY: the caller's promise.
        drop(unsafe { self.fs.replace(own) });
    }

    /// The program file (`/proc/PID/exe`).
    pub fn executable(&self) -> Option<vfs::file::FileRef> {
        self.executable.lock().clone()
    }

    /// Notes the program file (execve, fork).
    pub fn set_executable(&self, file: vfs::file::FileRef) {
        let old = self.executable.lock().replace(file);
        drop(old);
    }

    /// Makes it the running thread of the calling host thread. The thread block keeps a reference of its own, which
    /// [`Self::release`] gives back.
    pub fn install(self: &Arc<Thread>) {
        let block = ThreadBlock::current();
        block.set_state(&self.task.state);
        block.set_slot(SLOT_TASK, Arc::as_ptr(&self.task) as u64);
        block.set_slot(SLOT_THREAD, Arc::into_raw(self.clone()) as u64);
    }

    /// Notes the calling host process as the one that its process runs in. Called by the only thread of a new one.
    pub fn adopt_host_process(&self) {
        let pid = host::getpid();
        self.task.group.host_pid.store(pid, Ordering::SeqCst);
        self.task.set_host_ids(pid, pid);
    }

    /// Takes back the reference of the thread block. The running thread must not use `current` afterwards.
    pub fn release() -> Option<Arc<Thread>> {
        let block = ThreadBlock::current();
        let pointer = block.slot(SLOT_THREAD) as *const Thread;
        block.set_slot(SLOT_THREAD, 0);
        // SAFETY: `install` put it there with a reference.
        (!pointer.is_null()).then(|| unsafe { Arc::from_raw(pointer) })
    }
}

/// The running thread.
pub fn current() -> &'static Thread {
    // SAFETY: `install` put it there; the block's reference keeps it alive while the thread runs.
    unsafe { &*(ThreadBlock::current().slot(SLOT_THREAD) as *const Thread) }
}

/// The running thread; `None` if that has given itself up already.
pub fn current_if_any() -> Option<&'static Thread> {
    let thread = ThreadBlock::current().slot(SLOT_THREAD) as *const Thread;
    // SAFETY: as in `current`.
    unsafe { thread.as_ref() }
}

/// Threads by their virtual ids, dead ones until they were waited for. Its lock is innermost.
type Directory = RwLock<HashMap<Pid, Arc<Thread>>>;

static THREADS: BootCell<alloc::boxed::Box<Directory>> = BootCell::new();

/// Sets up the directory of threads. Called once, at boot.
pub fn init_directory() {
    THREADS.set(alloc::boxed::Box::default());
}

/// Puts a thread into the directory, for `/proc` and calls that name other processes.
pub fn register(thread: &Arc<Thread>) {
    let replaced =
        THREADS.get().and_then(|threads| threads.write().insert(thread.task.tid(), thread.clone()));
    drop(replaced);
}

/// Takes a thread out.
pub fn unregister(tid: Pid) {
    let removed = THREADS.get().and_then(|threads| threads.write().remove(&tid));
    drop(removed);
}

/// Every thread.
pub fn all() -> alloc::vec::Vec<Arc<Thread>> {
    THREADS.get().map(|threads| threads.read().values().cloned().collect()).unwrap_or_default()
}

/// A living thread by its virtual id.
pub fn find(tid: Pid) -> Option<Arc<Thread>> {
    find_dead_or_alive(tid).filter(|thread| !thread.has_ended())
}

/// The task of a thread, a dead one until it was waited for, for calls that only look or that the dead take no notice of: `ESRCH`.
pub fn task(tid: Pid) -> Result<Arc<Task>> {
    find_dead_or_alive(tid).map(|thread| thread.task.clone()).ok_or(Errno::ESRCH)
}

/// A thread by its virtual id; a dead one until it was waited for.
pub fn find_dead_or_alive(tid: Pid) -> Option<Arc<Thread>> {
    THREADS.get().and_then(|threads| threads.read().get(&tid).cloned())
}
