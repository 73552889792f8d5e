//! clone(2), clone3(2), fork(2), vfork(2).

use super::pidfd::{self, Target};
use crate::args::Args;
use crate::ptrace::stops;
use crate::table::{Context, Row, Show, full, partial};
use crate::thread::Thread;
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kernel::cred::cap;
use kernel::signal::SIGCHLD;
use kernel::task::{Pid, Task, ThreadGroup, lock_table, work};
use kernel::uaccess;
use linux_raw_sys::general as raw;
use linux_raw_sys::ptrace as pt;
use vfs::context::FsContext;
use vfs::table::TableUse;

mod loan;
mod process;
mod thread;

pub use loan::{Loan, end_loan, look_at_loan};
pub use process::VforkDone;

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
    full(raw::__NR_vfork, "vfork", sys_vfork, &[]),
    partial(raw::__NR_clone3, "clone3", sys_clone3, &[Show::Address, Show::Unsigned], MISSING),
];

const MISSING: &str =
    "namespaces and cgroups are refused; CLONE_SIGHAND without CLONE_THREAD; CLONE_IO shares nothing";

/// What a new task shares and where its ids go.
struct Request {
    flags: u64,
    exit_signal: i32,
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    /// Where the pidfd goes.
    pidfd: u64,
    tls: u64,
}

impl Request {
    fn has(&self, flag: u32) -> bool {
        self.flags & u64::from(flag) != 0
    }

    /// The event by which the caller's tracer is told, if it wants to be: it traces the child then.
    fn event(&self, parent: &Thread) -> Option<u32> {
        let event = if self.has(raw::CLONE_UNTRACED) {
            return None;
        } else if self.has(raw::CLONE_VFORK) {
            pt::PTRACE_EVENT_VFORK
        } else if self.exit_signal != SIGCHLD || self.has(raw::CLONE_THREAD) {
            pt::PTRACE_EVENT_CLONE
        } else {
            pt::PTRACE_EVENT_FORK
        };
        stops::wants(&parent.task, event).then_some(event)
    }

    /// A fork with `flags`, without anything else.
    fn plain(flags: u32) -> Request {
        Request {
            flags: u64::from(flags),
            exit_signal: SIGCHLD,
            stack: 0,
            parent_tid: 0,
            child_tid: 0,
            pidfd: 0,
            tls: 0,
        }
    }
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
            // The same argument: the flags exclude each other.
            pidfd: args.u64(2),
            tls: args.u64(4),
        },
    )
}

fn sys_fork(context: &mut Context<'_>, _args: Args) -> Result<u64> {
    do_clone(context, Request::plain(0))
}

fn sys_vfork(context: &mut Context<'_>, _args: Args) -> Result<u64> {
    do_clone(context, Request::plain(raw::CLONE_VFORK | raw::CLONE_VM))
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
            pidfd: word(1),
            tls: word(7),
        },
    )
}

fn check(request: &Request) -> Result<()> {
    let has = |flag| request.has(flag);
    if has(raw::CLONE_SIGHAND) && !has(raw::CLONE_VM)
        || has(raw::CLONE_THREAD) && !has(raw::CLONE_SIGHAND)
        || has(raw::CLONE_FS) && has(raw::CLONE_NEWNS)
        || has(raw::CLONE_THREAD) && request.flags & u64::from(raw::CLONE_NEWUSER | raw::CLONE_NEWPID) != 0
        || request.flags & CLEAR_SIGHAND != 0 && has(raw::CLONE_SIGHAND)
        || has(raw::CLONE_PIDFD) && has(raw::CLONE_DETACHED)
        || has(raw::CLONE_PIDFD) && has(raw::CLONE_PARENT_SETTID) && request.pidfd == request.parent_tid
    {
        return Err(Errno::EINVAL);
    }
    if request.flags & NAMESPACES != 0 {
        return Err(Errno::EPERM);
    }
    // Process 1 has no siblings.
    if has(raw::CLONE_PARENT) && kernel::task::current().group.signals.lock().unkillable {
        return Err(Errno::EINVAL);
    }
    // Handlers shared between processes: nobody uses it outside threads; copying would be wrong.
    if has(raw::CLONE_SIGHAND) && !has(raw::CLONE_THREAD) {
        kernel::warn!("clone: CLONE_SIGHAND without CLONE_THREAD is not implemented: EINVAL");
        return Err(Errno::EINVAL);
    }
    check_task_limit()
}

/// `RLIMIT_NPROC` counts the tasks of the user; user 0 and those with `CAP_SYS_RESOURCE` or `CAP_SYS_ADMIN` are exempt (getrlimit(2)).
fn check_task_limit() -> Result<()> {
    let task = kernel::task::current();
    let limit = task.rlimit(raw::RLIMIT_NPROC);
    let cred = task.cred();
    let exempt = cred.uid == 0 || cred.has(cap::SYS_RESOURCE) || cred.has(cap::SYS_ADMIN);
    if !exempt && lock_table()?.has_so_many(cred.uid, limit) { Err(Errno::EAGAIN) } else { Ok(()) }
}

fn do_clone(context: &mut Context<'_>, request: Request) -> Result<u64> {
    check(&request)?;
    if request.has(raw::CLONE_THREAD) {
        thread::clone_thread(context, &request)
    } else {
        process::clone_process(context, &request)
    }
}

fn new_tables(context: &mut Context<'_>, flags: u64) -> (TableUse, Arc<FsContext>) {
    let mut files = context.unused_files();
    let files = if flags & u64::from(raw::CLONE_FILES) != 0 { files.share() } else { files.table().fork() };
    let fs = context.fs();
    (files, if flags & u64::from(raw::CLONE_FS) != 0 { fs.clone() } else { fs.fork() })
}

/// Ids and masks that a new task takes over.
fn new_task(parent: &Thread, group: Arc<ThreadGroup>, tid: Pid, request: &Request) -> Arc<Task> {
    let task = Task::new(tid, group, parent.task.cred(), *parent.task.comm.lock());
    {
        let mut own = task.signals.lock();
        let parents = parent.task.signals.lock();
        own.blocked = parents.blocked;
        // vfork keeps the alternate stack, a thread starts without (sigaltstack(2)).
        if !request.has(raw::CLONE_VM) || request.has(raw::CLONE_VFORK) {
            own.altstack = parents.altstack;
        }
    }
    if request.has(raw::CLONE_SYSVSEM) {
        task.sem_undo.share_with(&parent.task);
    }
    *task.scheduling.lock() = kernel::task::inherited(*parent.task.scheduling.lock());
    task.no_new_privs.store(parent.task.no_new_privs.load(Ordering::Relaxed), Ordering::Relaxed);
    let seccomp = parent.task.seccomp.lock().clone();
    task.filtered.store(parent.task.filtered.load(Ordering::SeqCst), Ordering::SeqCst);
    *task.seccomp.lock() = seccomp;
    let affinity = parent.task.affinity.lock().clone();
    if affinity.due {
        task.state.request_work(work::CALLS);
    }
    *task.affinity.lock() = affinity;
    if request.has(raw::CLONE_CHILD_CLEARTID) {
        task.clear_child_tid.store(request.child_tid, Ordering::Relaxed);
    }
    Arc::new(task)
}

fn inherit_executable(parent: &Thread, child: &Thread) {
    if let Some(file) = parent.executable() {
        child.set_executable(file);
    }
}

/// Ids that a new task's maker is told.
struct Told {
    /// As the program sees it.
    tid: i32,
    pidfd: Option<i32>,
}

impl Told {
    /// Makes the pidfd and sees that it can be written, before there is a child.
    fn prepare(context: &Context<'_>, request: &Request, child: &Arc<Thread>) -> Result<Told> {
        let tid = child.task.own_tid();
        if !request.has(raw::CLONE_PIDFD) {
            return Ok(Told { tid, pidfd: None });
        }
        let old: i32 = uaccess::read(request.pidfd)?;
        uaccess::write(request.pidfd, &old)?;
        let target = if request.has(raw::CLONE_THREAD) {
            Target::Task(child.task.clone())
        } else {
            Target::Group(child.task.group.clone())
        };
        Ok(Told { tid, pidfd: Some(pidfd::install(context, target, 0)?) })
    }

    /// Writes them. A copy of the memory must have been made already: a forked child does not see them.
    fn write(&self, request: &Request) {
        if let Some(fd) = &self.pidfd {
            let _ = uaccess::write(request.pidfd, fd);
        }
        write_id(request.has(raw::CLONE_PARENT_SETTID), request.parent_tid, self.tid);
    }

    /// There is no child after all.
    fn undo(&self, context: &mut Context<'_>) {
        if let Some(fd) = self.pidfd {
            let _ = context.unused_files().close(fd);
        }
    }
}

/// Writes an id where the program wants it, in the memory of the calling process.
fn write_id(wanted: bool, address: u64, tid: i32) {
    if wanted {
        // As Linux, which ignores a bad address here (`put_user` in `kernel_clone` and `schedule_tail`).
        let _ = uaccess::write(address, &tid);
    }
}
