//! wait4(2), waitid(2).

use super::exit::{describe_end, forget_child, reap, reap_tracee};
use super::pidfd::target_of;
use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kernel::poll::PollEvents;
use kernel::signal::{SIGCHLD, SIGCONT, SigInfo, si};
use kernel::task::{Exit, Pid, Table, Task, ThreadGroup, Times, lock_table};
use kernel::{time, uaccess, wait};
use linux_raw_sys::general as raw;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_wait4, "wait4", sys_wait4, &[Show::Int, Show::Address, Show::Flags(FLAGS), Show::Address]),
    full(
        raw::__NR_waitid,
        "waitid",
        sys_waitid,
        &[Show::Int, Show::Int, Show::Address, Show::Flags(FLAGS), Show::Address],
    ),
];

const FLAGS: &[(u64, &str)] = &[
    (1, "WNOHANG"),
    (2, "WSTOPPED"),
    (4, "WEXITED"),
    (8, "WCONTINUED"),
    (0x100_0000, "WNOWAIT"),
    (0x2000_0000, "__WNOTHREAD"),
    (0x4000_0000, "__WALL"),
    (0x8000_0000, "__WCLONE"),
];

const P_PIDFD: i32 = 3;

const WNOHANG: u32 = 1;
const WUNTRACED: u32 = 2;
const WEXITED: u32 = 4;
const WCONTINUED: u32 = 8;
const WNOWAIT: u32 = 0x100_0000;
const WNOTHREAD: u32 = 0x2000_0000;
const WALL: u32 = 0x4000_0000;
const WCLONE: u32 = 0x8000_0000;

/// Which children.
#[derive(Clone, Copy)]
enum Which {
    Any,
    Process(Pid),
    Group(Pid),
}

/// What became of a child.
struct Found {
    pid: Pid,
    uid: u32,
    /// Wait status.
    status: i32,
    /// A stop of a tracee.
    trapped: bool,
    times: Times,
}

fn sys_wait4(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (pid, options) = (args.i32(0), args.u32(2));
    if options & !(WNOHANG | WUNTRACED | WCONTINUED | WNOTHREAD | WALL | WCLONE) != 0 {
        return Err(Errno::EINVAL);
    }
    // Who is not seen is no child.
    let seen = |number| context.named(number).map_err(|_| Errno::ECHILD);
    let which = match pid {
        -1 => Which::Any,
        0 => Which::Group(context.thread.task.group.place().0),
        i32::MIN => return Err(Errno::ESRCH),
        pid if pid < 0 => Which::Group(seen(-pid)?),
        pid => Which::Process(seen(pid)?),
    };
    let found = wait_for(context, which, options | WEXITED)?;
    let Some(found) = found else { return Ok(0) };
    uaccess::write_optional(args.u64(1), &found.status)?;
    if args.u64(3) != 0 {
        uaccess::write(args.u64(3), &usage(&found.times))?;
    }
    Ok(context.shown(found.pid) as u64)
}

fn sys_waitid(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (kind, id, options) = (args.i32(0), args.i32(1), args.u32(3));
    let known = WNOHANG | WUNTRACED | WEXITED | WCONTINUED | WNOWAIT | WNOTHREAD | WALL | WCLONE;
    if options & !known != 0 || options & (WEXITED | WUNTRACED | WCONTINUED) == 0 {
        return Err(Errno::EINVAL);
    }
    let mut pidfd_nonblocking = false;
    let seen = |number| context.named(number).map_err(|_| Errno::ECHILD);
    let which = match kind {
        0 => Which::Any,
        1 if id > 0 => Which::Process(seen(id)?),
        2 if id > 0 => Which::Group(seen(id)?),
        2 if id == 0 => Which::Group(context.thread.task.group.place().0),
        P_PIDFD if id >= 0 => {
            let (target, file) = target_of(context, id)?;
            let pid = target.group().tgid;
            pidfd_nonblocking = file.nonblocking();
            Which::Process(pid)
        }
        _ => return Err(Errno::EINVAL),
    };
    let nonblocking = options & WNOHANG == 0 && pidfd_nonblocking;
    let found = wait_for(context, which, if nonblocking { options | WNOHANG } else { options })?;
    if nonblocking && found.is_none() {
        return Err(Errno::EAGAIN);
    }
    let info = match &found {
        None => SigInfo::new(0, 0),
        Some(found) => {
            let (code, value) = match found.status {
                0xffff => (si::CLD_CONTINUED, SIGCONT),
                status if found.trapped => (si::CLD_TRAPPED, status >> 8),
                status if status & 0xff == 0x7f => (si::CLD_STOPPED, status >> 8),
                status => describe_end(status),
            };
            let info = SigInfo::child(SIGCHLD, code, found.pid, found.uid, value, (0, 0));
            info.seen_in(context.thread.task.group.space)
        }
    };
    uaccess::write_optional(args.u64(2), &info)?;
    if let Some(found) = &found
        && args.u64(4) != 0
    {
        uaccess::write(args.u64(4), &usage(&found.times))?;
    }
    Ok(0)
}

fn usage(times: &Times) -> raw::rusage {
    // SAFETY: `rusage` is plain data, for which zero is a value.
    let mut usage: raw::rusage = unsafe { core::mem::zeroed() };
    usage.ru_utime = time::usage_timeval(times.user);
    usage.ru_stime = time::usage_timeval(times.system);
    usage
}

fn wait_for(context: &mut Context<'_>, which: Which, options: u32) -> Result<Option<Found>> {
    let group = context.thread.task.group.clone();
    let mut outcome = look(&group, which, options)?;
    if outcome.is_none() && options & WNOHANG == 0 {
        outcome = wait::until(&[&group.child_queue], None, || match look(&group, which, options) {
            Ok(None) => None,
            done => Some(done),
        })
        .map_err(|ended| ended.errno(Errno::EINTR))??;
    }
    Ok(outcome)
}

/// One look at the children. `ECHILD` if none can ever match.
fn look(group: &Arc<ThreadGroup>, which: Which, options: u32) -> Result<Option<Found>> {
    let mut table = lock_table()?;
    let (children, tracees) = {
        let family = group.family.lock();
        (family.children.clone(), family.tracees.clone())
    };
    let mut candidates = false;
    for tracee in tracees {
        let matches = match which {
            Which::Any => true,
            Which::Process(id) => tracee.tid() == id,
            Which::Group(pgid) => tracee.group.family.lock().pgid == pgid,
        };
        if !matches {
            continue;
        }
        candidates = true;
        if let Some(found) = look_at_tracee(&mut table, group, &tracee, options) {
            return Ok(Some(found));
        }
    }
    for child in children {
        let family = child.family.lock();
        let matches = match which {
            Which::Any => true,
            Which::Process(pid) => child.tgid == pid,
            Which::Group(pgid) => family.pgid == pgid,
        };
        let is_clone = child.exit_signal.load(Ordering::Relaxed) != SIGCHLD;
        if !matches || (options & WALL == 0 && is_clone != (options & WCLONE != 0)) {
            continue;
        }
        // One that has ended can be waited for as such only (waitid(2) without `WEXITED`).
        if family.zombie.is_some() && options & WEXITED == 0 {
            continue;
        }
        candidates = true;
        let uid = child.real_user();
        let tracer = family.tracer;
        if let Some(status) = family.zombie {
            drop(family);
            if !tracer.is_none() && tracer != group.tgid {
                continue;
            }
            let mut times = *child.ended_times.lock();
            let below = *child.children_times.lock();
            if options & WNOWAIT == 0 {
                times.user += below.user;
                times.system += below.system;
                let mut ours = group.children_times.lock();
                ours.user += times.user;
                ours.system += times.system;
                drop(ours);
                let transfers = child.transfers();
                *group.ended_io.lock() += transfers;
                {
                    let mut family = group.family.lock();
                    forget_child(&mut family, &child);
                    family
                        .tracees
                        .retain(|tracee| !Arc::ptr_eq(&tracee.group, &child) || !tracee.is_leader());
                }
                reap(&mut table, child.tgid);
            }
            return Ok(Some(Found { pid: child.tgid, uid, status, trapped: false, times }));
        }
        drop(family);
        // The stops of a child that this process traces are those of a tracee.
        let options = if tracer == group.tgid { options & !WUNTRACED } else { options };
        if let Some(status) = stop_or_continue(&child, options) {
            return Ok(Some(Found { pid: child.tgid, uid, status, trapped: false, times: Times::default() }));
        }
    }
    if candidates { Ok(None) } else { Err(Errno::ECHILD) }
}

/// A stop that has not been shown, or the end of a thread, or of a process that is another's child.
fn look_at_tracee(
    table: &mut Table,
    group: &Arc<ThreadGroup>,
    tracee: &Arc<Task>,
    options: u32,
) -> Option<Found> {
    let keep = options & WNOWAIT != 0;
    let (pid, uid) = (tracee.tid(), tracee.cred().uid);
    let found = |status, trapped| Some(Found { pid, uid, status, trapped, times: Times::default() });
    let ended = {
        let mut state = tracee.trace.lock();
        if let Some(stop) = state.stop.as_mut().filter(|stop| !stop.reported && !stop.listening) {
            stop.reported = !keep;
            return found(stop.code << 8 | 0x7f, true);
        }
        state.ended
    };
    if options & WEXITED == 0 {
        return None;
    }
    if !tracee.is_leader() {
        let alone = ended?;
        // Once the whole process ends, its status is every thread's (`wait_task_zombie`).
        let ended = match tracee.group.signals.lock().exit {
            Some(Exit::Group(status)) => status,
            _ => alone,
        };
        if !keep {
            reap_tracee(tracee);
        }
        return found(ended, false);
    }
    let (status, parent) = {
        let family = tracee.group.family.lock();
        (family.zombie?, family.parent.upgrade())
    };
    // A child of our own is shown as that.
    if parent.is_some_and(|parent| Arc::ptr_eq(&parent, group)) {
        return None;
    }
    if !keep {
        tracee.unlink_from_tracer(None);
        if let Some(parent) = super::tell_of_end(table, &tracee.group, status) {
            parent.child_queue.wake_all(PollEvents::IN);
        }
    }
    found(status, false)
}

fn stop_or_continue(child: &Arc<ThreadGroup>, options: u32) -> Option<i32> {
    let mut signals = child.signals.lock();
    let keep = options & WNOWAIT != 0;
    if let Some(signal) = signals.stop
        && options & WUNTRACED != 0
        && signals.stop_complete
        && !signals.stop_reported
    {
        signals.stop_reported = !keep;
        return Some(signal << 8 | 0x7f);
    }
    if signals.continued && options & WCONTINUED != 0 {
        signals.continued = keep;
        return Some(0xffff);
    }
    None
}
