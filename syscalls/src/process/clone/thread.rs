//! New host threads: for threads of the program, and for processes that share their parent's memory.

use super::{Request, Told, inherit_executable, new_tables, new_task, write_id};
use crate::ptrace::{self, stops};
use crate::table::Context;
use crate::thread::{self, Thread};
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kernel::task::{SLOT_TASK, SLOT_THREAD, Task, lock_table};
use linux_raw_sys::general as raw;
use trap_handler::block::ThreadBlock;
use trap_handler::regs::Regs;
use trap_handler::{entry, stack};

/// A kernel stack on which a new thread of this address space is ready to start.
pub(super) struct Prepared {
    slot: u64,
}

/// The registers and the thread pointer that a new task starts with.
pub(super) fn first_regs(context: &Context<'_>, request: &Request) -> (Regs, u64) {
    let mut regs = *context.regs;
    regs.rax = 0;
    regs.orig_rax = Regs::NO_CALL;
    if request.stack != 0 {
        regs.rsp = request.stack;
    }
    (regs, if request.has(raw::CLONE_SETTLS) { request.tls } else { stack::fs_base() })
}

/// Takes a kernel stack for `child` and lays out the registers it starts with; those of the vectors are the running task's.
pub(super) fn prepare(child: &Arc<Thread>, (regs, fs_base): (Regs, u64)) -> Result<Prepared> {
    let slot = child.memory().users().enter(&child.task)?;
    child.initial_fs_base.store(fs_base, Ordering::Relaxed);
    let block = stack::block_of(slot);
    // SAFETY: the slot was just prepared for the new thread, which does not run yet.
    unsafe {
        *(*block).regs.get() = regs;
        let (xmm, mxcsr) = ThreadBlock::current().vector();
        (*block).set_vector(&xmm, mxcsr);
        (*block).set_slot(SLOT_THREAD, Arc::into_raw(child.clone()) as u64);
        (*block).set_slot(SLOT_TASK, Arc::as_ptr(&child.task) as u64);
    }
    Ok(Prepared { slot })
}

impl Prepared {
    /// Starts the host thread. After an error it is as if nothing had been prepared.
    pub(super) fn start(self, child: &Arc<Thread>) -> Result<()> {
        const HOST_FLAGS: u32 = raw::CLONE_VM
            | raw::CLONE_FS
            | raw::CLONE_FILES
            | raw::CLONE_SIGHAND
            | raw::CLONE_THREAD
            | raw::CLONE_SYSVSEM
            | raw::CLONE_PARENT_SETTID
            | raw::CLONE_CHILD_CLEARTID;
        child.task.set_host_ids(kernel::task::current().host_ids().0, 0);
        // SAFETY: the slot is prepared and ours; the tid words live in the task (kept alive by the table until the thread has
        // ended) and in the thread block.
        let started = unsafe {
            stack::spawn(
                self.slot,
                u64::from(HOST_FLAGS),
                child.task.host_tid.as_ptr() as u64,
                stack::occupied_word(self.slot),
                first,
                self.slot,
            )
        };
        if started.is_err() {
            self.undo(child);
        }
        started.map(|_| ())
    }

    /// Gives everything back: the thread is not to run.
    pub(super) fn undo(&self, child: &Arc<Thread>) {
        stack::release(self.slot);
        child.memory().users().leave(self.slot);
        // SAFETY: the reference that `prepare` put into the block, which nobody uses.
        drop(unsafe { Arc::from_raw(Arc::as_ptr(child)) });
    }
}

/// First function of a new host thread.
unsafe extern "C" fn first(slot: u64) -> ! {
    // SAFETY: `prepare` made the slot ready for this thread, which runs on its stack.
    if unsafe { stack::adopt(slot) }.is_err() {
        kernel::log::fatal("a new thread could not take its kernel stack");
    }
    let thread = thread::current();
    // The host has written the task's number before it let the thread run.
    let _ = stack::set_fs_base(thread.initial_fs_base.load(Ordering::Relaxed));
    entry::leave()
}

/// `CLONE_THREAD`: a thread of the caller's process.
pub(super) fn clone_thread(context: &mut Context<'_>, request: &Request) -> Result<u64> {
    let parent = context.thread;
    let group = parent.task.group.clone();
    let tid = lock_table()?.new_id(group.space)?;
    let task = new_task(parent, group, tid, request);
    let (files, fs) = new_tables(context, request.flags);
    let child = Thread::new(task.clone(), parent.memory(), files, fs);
    inherit_executable(parent, &child);
    let prepared = prepare(&child, first_regs(context, request))?;
    let told = Told::prepare(context, request, &child).inspect_err(|_| prepared.undo(&child))?;
    let event = request.event(parent);
    let traced = event.is_some() || request.has(raw::CLONE_PTRACE);
    if let Err(errno) = join_group(parent, &task, traced) {
        told.undo(context);
        prepared.undo(&child);
        return Err(errno);
    }
    thread::register(&child);
    told.write(request);
    write_id(request.has(raw::CLONE_CHILD_SETTID), request.child_tid, told.tid);
    if let Err(errno) = prepared.start(&child) {
        told.undo(context);
        leave_group(&task);
        return Err(errno);
    }
    if let Some(event) = event {
        stops::event_about(parent, context.regs, event, tid);
    }
    Ok(told.tid as u64)
}

fn join_group(parent: &Thread, task: &Arc<Task>, traced: bool) -> Result<()> {
    let mut table = lock_table()?;
    let mut signals = task.group.signals.lock();
    if signals.exit.is_some() {
        return Err(Errno::ERESTARTNOINTR);
    }
    signals.tasks.push(task.clone());
    drop(signals);
    task.group.alive.fetch_add(1, Ordering::SeqCst);
    table.insert(task);
    if traced {
        ptrace::inherit(&table, &parent.task, task);
    }
    Ok(())
}

/// The host refused the thread: everything as before.
fn leave_group(task: &Arc<Task>) {
    thread::unregister(task.tid());
    if let Ok(mut table) = lock_table() {
        task.unlink_from_tracer(None);
        table.remove_task(task.tid());
    }
    task.group.signals.lock().tasks.retain(|other| !Arc::ptr_eq(other, task));
    task.group.alive.fetch_sub(1, Ordering::SeqCst);
}
