//! clone(2), clone3(2), fork(2), vfork(2).

use crate::args::Args;
use crate::table::{Context, Row, Show, full, partial};
use crate::thread::{self, Memory, Thread};
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::task::{Task, ThreadGroup, lock_table};
use kernel::wait::WaitQueue;
use kernel::{poll::PollEvents, uaccess, wait};
use linux_raw_sys::general as raw;
use trap_handler::block::ThreadBlock;
use trap_handler::{entry, host, stack};

/// The rows of this file.
pub const ROWS: &[Row] = &[
    partial(
        raw::__NR_clone,
        "clone",
        sys_clone,
        &[
            Show::Flags(crate::strace::flags::CLONE),
            Show::Address,
            Show::Address,
            Show::Address,
            Show::Address,
        ],
        MISSING,
    ),
    full(raw::__NR_fork, "fork", sys_fork, &[]),
    partial(raw::__NR_vfork, "vfork", sys_vfork, &[], "the child has a copy of the memory, as after fork"),
    partial(raw::__NR_clone3, "clone3", sys_clone3, &[Show::Address, Show::Unsigned], MISSING),
];

const MISSING: &str =
    "CLONE_VM without CLONE_THREAD copies the memory; namespaces, ptrace, cgroups and pidfds are refused";

/// What a new task shares and where its ids go.
struct Request {
    flags: u64,
    exit_signal: i32,
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    tls: u64,
}

/// `CLONE_CLEAR_SIGHAND` (clone3(2) only).
const CLEAR_SIGHAND: u64 = 1 << 32;

/// Flags of a new namespace: refused as Linux refuses the unprivileged.
const NAMESPACES: u64 = (raw::CLONE_NEWNS
    | raw::CLONE_NEWCGROUP
    | raw::CLONE_NEWUTS
    | raw::CLONE_NEWIPC
    | raw::CLONE_NEWUSER
    | raw::CLONE_NEWPID
    | raw::CLONE_NEWNET) as u64;

fn sys_clone(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = args.u64(0) & 0xffff_ffff;
    do_clone(
        context,
        Request {
            flags: flags & !0xff,
            exit_signal: (flags & 0xff) as i32,
            stack: args.u64(1),
            parent_tid: args.u64(2),
            child_tid: args.u64(3),
            tls: args.u64(4),
        },
    )
}

fn sys_fork(context: &mut Context<'_>, _args: Args) -> Result<u64> {
    do_clone(context, Request { flags: 0, exit_signal: 17, stack: 0, parent_tid: 0, child_tid: 0, tls: 0 })
}

fn sys_vfork(context: &mut Context<'_>, _args: Args) -> Result<u64> {
    let flags = u64::from(raw::CLONE_VFORK | raw::CLONE_VM);
    do_clone(context, Request { flags, exit_signal: 17, stack: 0, parent_tid: 0, child_tid: 0, tls: 0 })
}

fn sys_clone3(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const FIRST_SIZE: u64 = 64;
    const LAST_SIZE: u64 = 88;
    let size = args.u64(1);
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    if size < FIRST_SIZE {
        return Err(Errno::EINVAL);
    }
    let bytes = uaccess::read_bytes(args.u64(0), size as usize)?;
    if bytes.get(LAST_SIZE as usize..).is_some_and(|rest| rest.iter().any(|&byte| byte != 0)) {
        return Err(Errno::E2BIG);
    }
    let word = |index: usize| {
        let at = index * 8;
        bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    let (flags, stack, stack_size) = (word(0), word(5), word(6));
    let exit_signal = word(4);
    if flags & 0xff != 0 || exit_signal > 64 || (stack == 0) != (stack_size == 0) {
        return Err(Errno::EINVAL);
    }
    // A clone into a cgroup, or with chosen ids, needs privileges that a program here does not have.
    if flags >> 32 & !1 != 0 || word(9) != 0 || word(8) != 0 {
        return Err(Errno::EPERM);
    }
    do_clone(
        context,
        Request {
            flags,
            exit_signal: exit_signal as i32,
            stack: stack.checked_add(stack_size).ok_or(Errno::EINVAL)?,
            parent_tid: word(3),
            child_tid: word(2),
            tls: word(7),
        },
    )
}

fn check(request: &Request) -> Result<()> {
    let has = |flag: u32| request.flags & u64::from(flag) != 0;
    if has(raw::CLONE_SIGHAND) && !has(raw::CLONE_VM)
        || has(raw::CLONE_THREAD) && !has(raw::CLONE_SIGHAND)
        || has(raw::CLONE_FS) && has(raw::CLONE_NEWNS)
        || has(raw::CLONE_THREAD) && request.flags & u64::from(raw::CLONE_NEWUSER | raw::CLONE_NEWPID) != 0
        || has(raw::CLONE_PIDFD) && has(raw::CLONE_PARENT_SETTID)
    {
        return Err(Errno::EINVAL);
    }
    if request.flags & NAMESPACES != 0 {
        return Err(Errno::EPERM);
    }
    if has(raw::CLONE_PIDFD) {
        return Err(Errno::EINVAL);
    }
    // Handlers shared between processes: nobody uses it outside threads; copying would be wrong.
    if has(raw::CLONE_SIGHAND) && !has(raw::CLONE_THREAD) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

fn do_clone(context: &mut Context<'_>, request: Request) -> Result<u64> {
    check(&request)?;
    if request.flags & u64::from(raw::CLONE_THREAD) != 0 {
        clone_thread(context, &request)
    } else {
        clone_process(context, &request)
    }
}

fn new_tables(parent: &Thread, flags: u64) -> (Arc<vfs::table::FileTable>, Arc<vfs::context::FsContext>) {
    let files = parent.files();
    let fs = parent.fs();
    (
        if flags & u64::from(raw::CLONE_FILES) != 0 { files } else { files.fork() },
        if flags & u64::from(raw::CLONE_FS) != 0 { fs } else { fs.fork() },
    )
}

/// Ids and masks that a new task takes over.
fn new_task(parent: &Thread, group: Arc<ThreadGroup>, tid: i32, request: &Request) -> Arc<Task> {
    let task = Task::new(tid, group, parent.task.cred(), *parent.task.comm.lock());
    {
        let mut own = task.signals.lock();
        let parents = parent.task.signals.lock();
        own.blocked = parents.blocked;
        // vfork keeps the alternate stack, a thread starts without (sigaltstack(2)).
        let vm = request.flags & u64::from(raw::CLONE_VM) != 0;
        let vfork = request.flags & u64::from(raw::CLONE_VFORK) != 0;
        if !vm || vfork {
            own.altstack = parents.altstack;
        }
    }
    if request.flags & u64::from(raw::CLONE_CHILD_CLEARTID) != 0 {
        task.clear_child_tid.store(request.child_tid, Ordering::Relaxed);
    }
    Arc::new(task)
}

fn inherit_executable(parent: &Thread, child: &Thread) {
    if let Some(file) = parent.executable() {
        child.set_executable(file);
    }
}

fn clone_thread(context: &mut Context<'_>, request: &Request) -> Result<u64> {
    let parent = context.thread;
    let group = parent.task.group.clone();
    let memory = parent.memory();
    let tid = lock_table()?.new_id()?;
    let task = new_task(parent, group.clone(), tid, request);
    let slot = memory.take_stack(&task)?;
    let (files, fs) = new_tables(parent, request.flags);
    let child = Thread::new(task.clone(), memory, files, fs);
    inherit_executable(parent, &child);
    let fs_base =
        if request.flags & u64::from(raw::CLONE_SETTLS) != 0 { request.tls } else { stack::fs_base() };
    child.initial_fs_base.store(fs_base, Ordering::Relaxed);

    let block = stack::block_of(slot);
    let mut regs = *context.regs;
    regs.rax = 0;
    regs.orig_rax = trap_handler::regs::Regs::NO_CALL;
    if request.stack != 0 {
        regs.rsp = request.stack;
    }
    // SAFETY: the slot was just prepared for the new thread, which does not run yet.
    unsafe {
        *(*block).regs.get() = regs;
        let (xmm, mxcsr) = ThreadBlock::current().vector();
        (*block).set_vector(&xmm, mxcsr);
        (*block).set_slot(kernel::task::SLOT_THREAD, Arc::into_raw(child.clone()) as u64);
        (*block).set_slot(kernel::task::SLOT_TASK, Arc::as_ptr(&task) as u64);
    }
    {
        let mut table = lock_table()?;
        let mut signals = group.signals.lock();
        if signals.exit.is_some() {
            drop(signals);
            // SAFETY: the thread never ran: the block's reference is ours again.
            drop(unsafe { Arc::from_raw(Arc::as_ptr(&child)) });
            return Err(Errno::ERESTARTSYS);
        }
        signals.tasks.push(task.clone());
        drop(signals);
        group.alive.fetch_add(1, Ordering::SeqCst);
        table.insert(&task);
    }
    thread::register(&child);
    task.set_host_ids(host::getpid(), 0);
    if request.flags & u64::from(raw::CLONE_PARENT_SETTID) != 0 {
        let _ = uaccess::write(request.parent_tid, &tid);
    }
    if request.flags & u64::from(raw::CLONE_CHILD_SETTID) != 0 {
        let _ = uaccess::write(request.child_tid, &tid);
    }
    const HOST_FLAGS: u32 = raw::CLONE_VM
        | raw::CLONE_FS
        | raw::CLONE_FILES
        | raw::CLONE_SIGHAND
        | raw::CLONE_THREAD
        | raw::CLONE_SYSVSEM
        | raw::CLONE_PARENT_SETTID
        | raw::CLONE_CHILD_CLEARTID;
    // SAFETY: the slot is prepared and ours; the tid words live in the task (kept alive by the table until the thread has
    // ended) and in the thread block.
    let started = unsafe {
        stack::spawn(
            slot,
            u64::from(HOST_FLAGS),
            task.host_tid.as_ptr() as u64,
            stack::occupied_word(slot),
            thread_start,
            slot,
        )
    };
    if let Err(errno) = started {
        undo_thread(&child, slot);
        return Err(errno);
    }
    Ok(tid as u64)
}

/// The host refused the thread: everything as before.
fn undo_thread(child: &Arc<Thread>, slot: u64) {
    let task = &child.task;
    thread::unregister(task.tid());
    if let Ok(mut table) = lock_table() {
        table.remove_task(task.tid());
    }
    task.group.signals.lock().tasks.retain(|other| !Arc::ptr_eq(other, task));
    task.group.alive.fetch_sub(1, Ordering::SeqCst);
    stack::release(slot);
    // SAFETY: the reference that `clone_thread` put into the block, which nobody uses.
    drop(unsafe { Arc::from_raw(Arc::as_ptr(child)) });
}

/// First function of a new host thread.
unsafe extern "C" fn thread_start(slot: u64) -> ! {
    // SAFETY: `clone_thread` prepared the slot for this thread, which runs on its stack.
    if unsafe { stack::adopt(slot) }.is_err() {
        kernel::log::fatal("a new thread could not take its kernel stack");
    }
    let thread = thread::current();
    thread.task.set_host_ids(host::getpid(), host::gettid());
    let _ = stack::set_fs_base(thread.initial_fs_base.load(Ordering::Relaxed));
    entry::leave()
}

/// What a vfork parent waits for.
pub struct VforkDone {
    done: AtomicU32,
    queue: WaitQueue,
}

impl VforkDone {
    /// The child has executed a program or ended.
    pub fn finish(&self) {
        self.done.store(1, Ordering::SeqCst);
        self.queue.wake_all(PollEvents::IN);
    }
}

fn clone_process(context: &mut Context<'_>, request: &Request) -> Result<u64> {
    let parent = context.thread;
    let cred = parent.task.cred();
    check_process_limit(parent, cred.uid)?;
    let as_parent = request.flags & u64::from(raw::CLONE_PARENT) != 0;
    let tid = lock_table()?.new_id()?;
    let own_group = &parent.task.group;
    let of = if as_parent { own_group.family.lock().parent.upgrade() } else { None };
    let of = of.unwrap_or_else(|| own_group.clone());
    let group = ThreadGroup::new(tid, &of, request.exit_signal);
    {
        let actions = own_group.signals.lock().actions();
        let mut signals = group.signals.lock();
        signals.set_actions(actions);
        if request.flags & CLEAR_SIGHAND != 0 {
            signals.reset_handlers();
        }
    }
    let task = new_task(parent, group.clone(), tid, request);
    let memory = parent.memory();
    let child_memory = Memory::new(Arc::new(memory.space.fork_clone()), memory.stacks());
    child_memory.set_strings(memory.strings());
    let (files, fs) = new_tables(parent, request.flags);
    let child = Thread::new(task.clone(), child_memory, files, fs);
    inherit_executable(parent, &child);
    let vfork = (request.flags & u64::from(raw::CLONE_VFORK) != 0)
        .then(|| Arc::new(VforkDone { done: AtomicU32::new(0), queue: WaitQueue::new() }));
    *child.vfork.lock() = vfork.clone();
    group.signals.lock().tasks.push(task.clone());
    group.alive.store(1, Ordering::SeqCst);
    {
        let mut table = lock_table()?;
        table.insert(&task);
        of.family.lock().children.push(group.clone());
    }
    thread::register(&child);
    if request.flags & u64::from(raw::CLONE_PARENT_SETTID) != 0 {
        let _ = uaccess::write(request.parent_tid, &tid);
    }

    let fs_base = stack::fs_base();
    // SAFETY: the child goes on below with its own objects only; shared ones are counted for both.
    let cloned = unsafe { host::clone_process(u64::from(raw::CLONE_FILES | raw::CLONE_PARENT)) };
    match cloned {
        Ok(0) => become_child(context, &child, request, fs_base),
        Ok(_) => {
            drop(child);
            if let Some(vfork) = vfork {
                // As Linux: only the end of the parent itself ends the wait early.
                wait::killable(&vfork.queue, || vfork.done.load(Ordering::SeqCst) != 0);
            }
            Ok(tid as u64)
        }
        Err(errno) => {
            super::exit::forget_unborn(&child);
            Err(if errno == Errno::ENOMEM { errno } else { Errno::EAGAIN })
        }
    }
}

/// The forked child's first steps, on its copy of the parent's kernel stack. It never returns through the frames above: what
/// they own in the shared heap is the parent's to drop, once.
fn become_child(context: &mut Context<'_>, child: &Arc<Thread>, request: &Request, fs_base: u64) -> ! {
    // The copied block holds the parent's thread, whose reference is the parent's.
    child.install();
    let pid = host::getpid();
    child.task.group.host_pid.store(pid, Ordering::SeqCst);
    child.task.set_host_ids(pid, pid);
    stack::forget_others(child.memory().stacks());
    let tls = if request.flags & u64::from(raw::CLONE_SETTLS) != 0 { request.tls } else { fs_base };
    let _ = stack::set_fs_base(tls);
    if request.stack != 0 {
        context.regs.rsp = request.stack;
    }
    if request.flags & u64::from(raw::CLONE_CHILD_SETTID) != 0 {
        let _ = uaccess::write(request.child_tid, &child.task.tid());
    }
    context.regs.orig_rax = trap_handler::regs::Regs::NO_CALL;
    context.regs.rax = 0;
    child.task.update_signal_work();
    entry::leave()
}

/// `RLIMIT_NPROC` counts the tasks of the user; user 0 is exempt (getrlimit(2)).
fn check_process_limit(parent: &Thread, uid: u32) -> Result<()> {
    const RLIMIT_NPROC: u32 = 6;
    let limit = parent.task.rlimit(RLIMIT_NPROC);
    if uid != 0 && lock_table()?.len() as u64 >= limit { Err(Errno::EAGAIN) } else { Ok(()) }
}
