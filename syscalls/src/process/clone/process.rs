//! New processes: with a copy of the memory (a new host process) or sharing it (a host thread of the same one).

use super::super::exit::forget_unborn;
use super::loan::{self, lend};
use super::thread::{first_regs, prepare};
use super::{CLEAR_SIGHAND, Request, Told, inherit_executable, new_tables, new_task, write_id};
use crate::ptrace::{self, stops};
use crate::table::Context;
use crate::thread::{self, Memory, Thread};
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::poll::PollEvents;
use kernel::task::{Pid, ThreadGroup, lock_table};
use kernel::wait::{self, WaitQueue};
use linux_raw_sys::general as raw;
use linux_raw_sys::ptrace::PTRACE_EVENT_VFORK_DONE;
use trap_handler::regs::Regs;
use trap_handler::{entry, host, stack};

/// What a vfork parent waits for.
pub struct VforkDone {
    done: AtomicU32,
    queue: WaitQueue,
}

impl VforkDone {
    fn new() -> Arc<VforkDone> {
        Arc::new(VforkDone { done: AtomicU32::new(0), queue: WaitQueue::new() })
    }

    /// The child has executed a program or ended.
    pub fn finish(&self) {
        self.done.store(1, Ordering::SeqCst);
        self.queue.wake_all(PollEvents::IN);
    }

    /// Waits for that. As in Linux, only the end of the parent itself ends the wait early.
    fn wait(&self) {
        wait::killable(&self.queue, || self.done.load(Ordering::SeqCst) != 0);
    }
}

/// A process of its own: fork(2), vfork(2) and clone(2) without `CLONE_THREAD`.
pub(super) fn clone_process(context: &mut Context<'_>, request: &Request) -> Result<u64> {
    let parent = context.thread;
    let shares = request.has(raw::CLONE_VM);
    if shares && request.has(raw::CLONE_VFORK) && loan::repay(parent) {
        return Err(Errno::ERESTARTNOINTR);
    }
    let tid = lock_table()?.new_id(parent.task.group.space)?;
    let child = new_process(context, tid, request)?;
    let event = request.event(parent);
    let vfork = request.has(raw::CLONE_VFORK).then(VforkDone::new);
    *child.vfork.lock() = vfork.clone();
    let told = Told::prepare(context, request, &child)?;
    publish(parent, &child, request, event.is_some())?;
    let started = if shares {
        told.write(request);
        write_id(request.has(raw::CLONE_CHILD_SETTID), request.child_tid, told.tid);
        share_memory(context, &child, request, vfork.is_some() && event.is_none())
    } else {
        copy_memory(context, &child, request).inspect(|()| told.write(request))
    };
    if let Err(errno) = started {
        told.undo(context);
        forget_unborn(&child);
        return Err(if errno == Errno::ENOMEM { errno } else { Errno::EAGAIN });
    }
    drop(child);
    if let Some(event) = event {
        stops::event_about(parent, context.regs, event, tid);
    }
    if let Some(vfork) = vfork {
        vfork.wait();
        stops::event_about(parent, context.regs, PTRACE_EVENT_VFORK_DONE, tid);
    }
    Ok(told.tid as u64)
}

/// The objects of a new process, not yet to be found by anybody.
fn new_process(context: &mut Context<'_>, tid: Pid, request: &Request) -> Result<Arc<Thread>> {
    let parent = context.thread;
    let own_group = &parent.task.group;
    let group = ThreadGroup::new(
        (tid, own_group.space),
        own_group,
        &parent_group(parent, request),
        request.exit_signal,
    );
    {
        let actions = own_group.signals.lock().actions();
        let mut signals = group.signals.lock();
        signals.set_actions(actions);
        if request.flags & CLEAR_SIGHAND != 0 {
            signals.reset_handlers();
        }
    }
    let maker = if request.has(raw::CLONE_PARENT) {
        own_group.family.lock().maker.clone()
    } else {
        Arc::downgrade(&parent.task)
    };
    group.family.lock().maker = maker;
    let task = new_task(parent, group.clone(), tid, request);
    let memory = parent.memory();
    let child_memory = if request.has(raw::CLONE_VM) {
        memory
    } else {
        // Filled when the host process is made.
        Memory::for_fork(&memory)
    };
    let (files, fs) = new_tables(context, request.flags);
    let child = Thread::new(task.clone(), child_memory, files, fs);
    inherit_executable(parent, &child);
    group.signals.lock().tasks.push(task);
    group.alive.store(1, Ordering::SeqCst);
    crate::time::timers::cpu_limit_changed(&group);
    Ok(child)
}

/// Who will be the parent: the caller, or with `CLONE_PARENT` its own.
fn parent_group(parent: &Thread, request: &Request) -> Arc<ThreadGroup> {
    let own = &parent.task.group;
    let above = if request.has(raw::CLONE_PARENT) { own.family.lock().parent.upgrade() } else { None };
    above.unwrap_or_else(|| own.clone())
}

/// Puts the new process where others find it.
fn publish(parent: &Thread, child: &Arc<Thread>, request: &Request, traced: bool) -> Result<()> {
    let of = parent_group(parent, request);
    let mut table = lock_table()?;
    table.insert(&child.task);
    of.family.lock().children.push(child.task.group.clone());
    if traced || request.has(raw::CLONE_PTRACE) {
        ptrace::inherit(&table, &parent.task, &child.task);
    }
    drop(table);
    thread::register(child);
    Ok(())
}

/// The child runs on a host thread of this host process: the caller's own, which is to sleep, or a new one.
fn share_memory(context: &Context<'_>, child: &Arc<Thread>, request: &Request, sleeps: bool) -> Result<()> {
    let parent = &context.thread.task;
    child.task.group.host_pid.store(parent.host_ids().0, Ordering::SeqCst);
    let first = first_regs(context, request);
    // A tracer may want to see the call of a parent before the child has ended.
    if sleeps && !parent.trace.is_traced() && lend(context.thread, child, first) {
        return Ok(());
    }
    prepare(child, first)?.start(child)
}

/// The child runs in a host process of its own, with a copy of the memory.
fn copy_memory(context: &mut Context<'_>, child: &Arc<Thread>, request: &Request) -> Result<()> {
    let fs_base = stack::fs_base();
    let (own, copy) = (context.thread.memory(), child.memory());
    own.space.rewrite_for_children(!own.users().are_several());
    own.note_fork(&copy);
    own.space.copy_for_fork(&copy.space, || {
        // SAFETY: the child goes on below with its own objects only; shared ones are counted for both.
        match unsafe { host::clone_process(u64::from(raw::CLONE_FILES | raw::CLONE_PARENT)) }? {
            0 => become_child(context, child, request, fs_base),
            _ => Ok(()),
        }
    })
}

/// The forked child's first steps, on its copy of the parent's kernel stack. It never returns through the frames above: what
/// they own in the shared heap is the parent's to drop, once.
fn become_child(context: &mut Context<'_>, child: &Arc<Thread>, request: &Request, fs_base: u64) -> ! {
    // The copied block holds the parent's thread, whose reference is the parent's.
    child.install();
    child.adopt_host_process();
    let tls = if request.has(raw::CLONE_SETTLS) { request.tls } else { fs_base };
    let _ = stack::set_fs_base(tls);
    if request.stack != 0 {
        context.regs.rsp = request.stack;
    }
    write_id(request.has(raw::CLONE_CHILD_SETTID), request.child_tid, child.task.own_tid());
    context.regs.orig_rax = Regs::NO_CALL;
    context.regs.rax = 0;
    child.task.update_signal_work();
    entry::leave()
}
