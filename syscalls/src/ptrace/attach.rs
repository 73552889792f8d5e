//! Who traces whom: attaching, seizing, detaching, and what the ends of both sides mean.

use super::{Request, pt};
use crate::table::Context;
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kernel::cred::cap;
use kernel::poll::PollEvents;
use kernel::signal::{self, SIGKILL, SIGSTOP, SigInfo, bit, si};
use kernel::task::trace::Link;
use kernel::task::{Pid, Table, Task, ThreadGroup, lock_table, work};

/// Whose ids an access check looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The real ones (calls).
    Real,
    /// Those of the filesystem (`/proc`).
    Filesystem,
}

/// Whether `own` may look into `target` (ptrace(2), "Ptrace access mode checking"): `EPERM`.
pub fn may_access(own: &Task, target: &Task, access: Access) -> Result<()> {
    if Arc::ptr_eq(&own.group, &target.group) {
        return Ok(());
    }
    let (ours, theirs) = (own.cred(), target.cred());
    if ours.has(cap::SYS_PTRACE) {
        return Ok(());
    }
    let (uid, gid) = match access {
        Access::Real => (ours.uid, ours.gid),
        Access::Filesystem => (ours.fsuid, ours.fsgid),
    };
    let same = [theirs.uid, theirs.euid, theirs.suid].iter().all(|id| *id == uid)
        && [theirs.gid, theirs.egid, theirs.sgid].iter().all(|id| *id == gid);
    let dumpable = target.group.dumpable.load(Ordering::Relaxed) == 1;
    if same && dumpable { Ok(()) } else { Err(Errno::EPERM) }
}

/// `PTRACE_TRACEME`: the parent traces the caller.
pub fn trace_me(context: &Context<'_>) -> Result<u64> {
    let task = &context.thread.task;
    let table = lock_table()?;
    if task.trace.is_traced() {
        return Err(Errno::EPERM);
    }
    let (parent, maker) = {
        let family = task.group.family.lock();
        (family.parent.upgrade(), family.maker.upgrade())
    };
    let Some(parent) = parent.filter(|parent| !parent.is_sandbox) else { return Ok(0) };
    let tracer = maker.filter(|maker| Arc::ptr_eq(&maker.group, &parent)).or_else(|| parent.leader());
    let Some(tracer) = tracer else { return Ok(0) };
    task.link_to_tracer(Link { tracer: Arc::downgrade(&tracer), group: parent, seized: false, options: 0 });
    drop(table);
    Ok(0)
}

/// `PTRACE_O_*` from a program: `EINVAL`, `EPERM`.
pub fn check_options(context: &Context<'_>, options: u64) -> Result<u32> {
    let options = u32::try_from(options).map_err(|_| Errno::EINVAL)?;
    if options & !pt::PTRACE_O_MASK != 0 {
        return Err(Errno::EINVAL);
    }
    if options & pt::PTRACE_O_SUSPEND_SECCOMP != 0 && !context.cred().has(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    Ok(options)
}

/// `PTRACE_ATTACH`, `PTRACE_SEIZE`.
pub fn attach(request: &Request<'_>, seize: bool) -> Result<u64> {
    let (own, tracee) = (&request.context.thread.task, &request.tracee);
    let options = if seize {
        if request.address != 0 {
            return Err(Errno::EIO);
        }
        check_options(request.context, request.data).map_err(|_| Errno::EIO)?
    } else {
        0
    };
    if Arc::ptr_eq(&own.group, &tracee.group) {
        return Err(Errno::EPERM);
    }
    may_access(own, tracee, Access::Real)?;
    let table = lock_table()?;
    let gone = !table.task(tracee.tid()).is_some_and(|task| Arc::ptr_eq(&task, tracee));
    if gone || tracee.trace.is_traced() || tracee.group.signals.lock().must_end(tracee) {
        return Err(Errno::EPERM);
    }
    tracee.link_to_tracer(Link {
        tracer: Arc::downgrade(own),
        group: own.group.clone(),
        seized: seize,
        options,
    });
    drop(table);
    if !seize {
        let _ = signal::send_to_task(tracee, SigInfo::new(SIGSTOP, si::KERNEL));
    }
    // One that is stopped already stops once more, for its tracer.
    let stopped = tracee.group.signals.lock().stop.is_some();
    if stopped {
        tracee.signals.lock().trap = true;
        signal::kick(tracee, work::SIGNAL);
    }
    Ok(0)
}

/// `PTRACE_DETACH`.
pub fn detach(request: &Request<'_>) -> Result<u64> {
    let signal = request.signal()?;
    let table = lock_table()?;
    release(&request.tracee, Some(signal));
    drop(table);
    Ok(0)
}

/// Ends the tracing of a living task and lets it look at where that leaves it.
fn release(tracee: &Arc<Task>, signal: Option<i32>) {
    tracee.unlink_from_tracer(signal);
    tracee.signals.lock().trap = false;
    signal::kick(tracee, work::SIGNAL);
}

/// Who traces `parent` traces its new child as well: links it before anybody can find it. The table's lock is held.
pub fn inherit(_table: &Table, parent: &Task, child: &Arc<Task>) {
    let Some(link) = parent.trace.lock().link.clone() else { return };
    let seized = link.seized;
    child.link_to_tracer(link);
    let mut own = child.signals.lock();
    if seized {
        own.trap = true;
    } else {
        own.pending.add(SigInfo::new(SIGSTOP, si::USER));
    }
    child.state.work.fetch_or(work::SIGNAL, Ordering::SeqCst);
}

/// Whether `group` traces the main thread of `child`.
pub fn traces(group: &ThreadGroup, child: &ThreadGroup) -> bool {
    child.family.lock().tracer == group.tgid
}

/// The running thread ends: those that it traces are let go, or killed if it said so (`exit_ptrace`).
pub fn tracer_ends(table: &mut Table, task: &Task) {
    let tracees = task.group.family.lock().tracees.clone();
    let mut dead = alloc::vec::Vec::new();
    for tracee in tracees {
        let (mine, options) = {
            let state = tracee.trace.lock();
            let link = state.link.as_ref();
            (
                link.is_some_and(|link| core::ptr::eq(link.tracer.as_ptr(), task)),
                link.map_or(0, |link| link.options),
            )
        };
        if !mine {
            continue;
        }
        let lives = table.task(tracee.tid()).is_some_and(|other| Arc::ptr_eq(&other, &tracee));
        if !lives {
            if tracee.is_leader() {
                tracee.unlink_from_tracer(None);
                dead.push(tracee);
            } else {
                crate::process::reap_tracee(&tracee);
            }
            continue;
        }
        if options & pt::PTRACE_O_EXITKILL != 0 {
            let _ = signal::send_to_task(&tracee, SigInfo::new(SIGKILL, si::KERNEL));
        }
        release(&tracee, None);
    }
    // Zombies that their parents have not heard of: now they do.
    for tracee in dead {
        let status = tracee.group.family.lock().zombie;
        let parent = tracee.group.family.lock().parent.upgrade();
        let reparented = parent.is_none_or(|parent| !Arc::ptr_eq(&parent, &task.group));
        if let Some(status) = status.filter(|_| reparented)
            && let Some(parent) = crate::process::tell_of_end(table, &tracee.group, status)
        {
            parent.child_queue.wake_all(PollEvents::IN);
        }
    }
}

/// A traced thread that was not the main one executes a program and is the main one now: nobody is told of the old one's end.
/// `running` is the task.
pub fn leader_replaced(table: &Table, running: &Arc<Task>) {
    let tracer = running.trace.tracer_group().map_or(Pid::NONE, |group| group.tgid);
    // The old main thread's tracer may be another one.
    let old_tracer = running.group.family.lock().tracer;
    for tgid in [old_tracer, tracer] {
        let Some(group) = table.group(tgid) else { continue };
        group.family.lock().tracees.retain(|other| {
            let stale = Arc::ptr_eq(&other.group, &running.group) && !Arc::ptr_eq(other, running);
            !(stale && other.is_leader())
        });
    }
    running.group.family.lock().tracer = tracer;
}

/// Whether `SIGKILL` is pending, which no stop holds up.
pub fn is_killed(task: &Task) -> bool {
    let signals = task.group.signals.lock();
    (signals.pending.set() | task.signals.lock().pending.set()) & bit(SIGKILL) != 0
}
