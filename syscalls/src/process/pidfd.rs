//! pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2).

use crate::args::Args;
use crate::file::descriptor_limit;
use crate::signal::{check_number, read_info, send_group, send_task_to};
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result, thread};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::Ordering;
use kernel::cred::cap;
use kernel::poll::{PollEvents, PollTable};
use kernel::signal::{SigInfo, si};
use kernel::task::{Pid, PidSpace, Task, ThreadGroup, lock_table};
use kernel::uaccess;
use linux_raw_sys::general as raw;
use vfs::anonymous::shared_attributes;
use vfs::attributes::Attributes;
use vfs::file::{FileOps, OpenFile};
use vfs::table::UsedFile;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_pidfd_open, "pidfd_open", sys_pidfd_open, &[Show::Int, Show::Flags(FLAGS)]),
    full(
        raw::__NR_pidfd_send_signal,
        "pidfd_send_signal",
        sys_pidfd_send_signal,
        &[Show::Fd, Show::Signal, Show::Address, Show::Unsigned],
    ),
    full(raw::__NR_pidfd_getfd, "pidfd_getfd", sys_pidfd_getfd, &[Show::Fd, Show::Int, Show::Unsigned]),
];

const THREAD: u32 = raw::O_EXCL;
const FLAGS: &[(u64, &str)] = &[(0o4000, "PIDFD_NONBLOCK"), (0o200, "PIDFD_THREAD")];

/// What a pidfd stands for.
#[derive(Clone)]
pub enum Target {
    /// A process.
    Group(Arc<ThreadGroup>),
    /// One thread (`PIDFD_THREAD`).
    Task(Arc<Task>),
}

impl Target {
    /// The process.
    pub fn group(&self) -> &Arc<ThreadGroup> {
        match self {
            Target::Group(group) => group,
            Target::Task(task) => &task.group,
        }
    }

    /// Virtual id while it lives or is a zombie; `None` once it was waited for.
    fn id(&self) -> Option<Pid> {
        let (id, there) = match self {
            Target::Group(group) => {
                let named = lock_table().ok()?.group(group.tgid);
                (group.tgid, named.is_some_and(|other| Arc::ptr_eq(&other, group)))
            }
            Target::Task(task) => {
                (task.tid(), thread::task(task.tid()).is_ok_and(|other| Arc::ptr_eq(&other, task)))
            }
        };
        there.then_some(id)
    }

    fn ended(&self) -> bool {
        match self {
            Target::Group(group) => {
                group.alive.load(Ordering::SeqCst) == 0 && group.family.lock().zombie.is_some()
            }
            Target::Task(task) => !lock_table()
                .is_ok_and(|table| table.task(task.tid()).is_some_and(|other| Arc::ptr_eq(&other, task))),
        }
    }
}

/// A descriptor that stands for a process.
pub struct PidFd(Target);

impl FileOps for PidFd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &OpenFile, _offset: u64, _sink: &mut uaccess::Sink<'_>) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn write_at(&self, _file: &OpenFile, _offset: u64, _source: &mut uaccess::Source<'_>) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn poll(&self, table: &mut PollTable) -> PollEvents {
        table.add(&self.0.group().exit_queue);
        if !self.0.ended() {
            return PollEvents::empty();
        }
        // Hung up once nobody can wait for it any more.
        if self.0.id().is_none() { PollEvents::READABLE | PollEvents::HUP } else { PollEvents::READABLE }
    }

    fn pollable(&self) -> bool {
        true
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(shared_attributes())
    }

    fn describe(&self) -> String {
        "anon_inode:[pidfd]".into()
    }
}

/// What `/proc/PID/fdinfo` of a pidfd says beside the usual, where its reader's `/proc` shows `space`; `None` for another file.
pub fn fdinfo(file: &OpenFile, space: PidSpace) -> Option<String> {
    let target = &file.ops.as_any().downcast_ref::<PidFd>()?.0;
    Some(match target.id() {
        Some(id) => {
            format!("Pid:\t{}\nNSpid:\t{}\n", space.shown(id), numbers(space, target.group().space, id))
        }
        None => String::from("Pid:\t-1\nNSpid:\t-1\n"),
    })
}

/// The numbers of a process in the spaces that it is in, from `seen_from` on inwards (`NSpid`).
pub fn numbers(seen_from: PidSpace, own: PidSpace, id: Pid) -> String {
    let outer = seen_from.shown(id);
    if own == seen_from || outer == 0 { format!("{outer}") } else { format!("{outer}\t{}", own.shown(id)) }
}

/// Makes a pidfd; `flags` may have `O_NONBLOCK`.
pub fn install(context: &Context<'_>, target: Target, flags: u32) -> Result<i32> {
    let file = OpenFile::new(Arc::new(PidFd(target)), None, raw::O_RDWR | flags);
    context.files().insert(file, true, descriptor_limit(context))
}

/// Makes a pidfd for the process `pid`: `ESRCH`.
pub fn install_for(context: &Context<'_>, pid: Pid) -> Result<i32> {
    let group = lock_table()?.group(pid).ok_or(Errno::ESRCH)?;
    install(context, Target::Group(group), 0)
}

/// What a descriptor stands for; `EBADF` if it is no pidfd.
pub fn target_of<'a>(context: &'a Context<'_>, fd: i32) -> Result<(Target, UsedFile<'a>)> {
    let file = context.files().use_file(fd)?;
    let target = file.ops.as_any().downcast_ref::<PidFd>().map(|pidfd| pidfd.0.clone());
    Ok((target.ok_or(Errno::EBADF)?, file))
}

/// As [`target_of`], for the call that takes a directory of `/proc` as well.
fn target_or_directory<'a>(context: &'a Context<'_>, fd: i32) -> Result<(Target, UsedFile<'a>)> {
    let file = context.files().use_file(fd)?;
    match vfs::generated::process_of(&*file.ops) {
        None => target_of(context, fd),
        Some(pid) => {
            let group = lock_table()?.group(pid).ok_or(Errno::ESRCH)?;
            Ok((Target::Group(group), file))
        }
    }
}

fn sys_pidfd_open(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (id, flags) = (args.i32(0), args.u32(1));
    if flags & !(raw::O_NONBLOCK | THREAD) != 0 || id <= 0 {
        return Err(Errno::EINVAL);
    }
    let id = context.named(id)?;
    let target = if flags & THREAD != 0 {
        Target::Task(thread::task(id)?)
    } else {
        match (lock_table()?.group(id), thread::task(id)) {
            (Some(group), _) => Target::Group(group),
            // The id of a thread that is not the main one (Linux since 6.9 tells them apart).
            (None, Ok(_)) => return Err(Errno::ENOENT),
            (None, Err(error)) => return Err(error),
        }
    };
    install(context, target, flags & raw::O_NONBLOCK).map(|fd| fd as u64)
}

/// `PIDFD_SIGNAL_*`: to the thread, the process or the process group.
const SIGNAL_THREAD: u32 = 1;
const SIGNAL_THREAD_GROUP: u32 = 2;
const SIGNAL_PROCESS_GROUP: u32 = 4;

fn sys_pidfd_send_signal(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (signal, flags) = (args.i32(1), args.u32(3));
    if flags & !(SIGNAL_THREAD | SIGNAL_THREAD_GROUP | SIGNAL_PROCESS_GROUP) != 0 || flags.count_ones() > 1 {
        return Err(Errno::EINVAL);
    }
    let (target, _file) = target_or_directory(context, args.i32(0))?;
    let cred = context.cred();
    let info = if args.u64(2) == 0 {
        let code = if flags == SIGNAL_THREAD { si::TKILL } else { si::USER };
        SigInfo::from_process(signal, code, context.thread.task.group.tgid, cred.uid)
    } else {
        read_info(context, args.u64(2), signal, Some(target.group().tgid))?
    };
    check_number(signal)?;
    let id = target.id().ok_or(Errno::ESRCH)?;
    // Only those that the caller sees, whoever gave it the descriptor (`access_pidfd_pidns`).
    if context.shown(id) == 0 {
        return Err(Errno::EINVAL);
    }
    match (&target, flags) {
        (Target::Task(task), 0 | SIGNAL_THREAD) => send_task_to(context, task, info)?,
        (Target::Group(group), SIGNAL_THREAD) => {
            send_task_to(context, &group.leader().ok_or(Errno::ESRCH)?, info)?;
        }
        (_, SIGNAL_PROCESS_GROUP) => {
            let pgid = target.group().family.lock().pgid;
            let groups = lock_table()?.groups();
            let members = groups.iter().filter(|group| !group.is_sandbox && group.family.lock().pgid == pgid);
            let mut outcome = Err(Errno::ESRCH);
            for member in members {
                let sent = send_group(context, member, info);
                outcome = if outcome.is_ok() { outcome } else { sent };
            }
            outcome?;
        }
        _ => send_group(context, target.group(), info)?,
    }
    Ok(0)
}

fn sys_pidfd_getfd(context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.u32(2) != 0 {
        return Err(Errno::EINVAL);
    }
    let (target, _file) = target_of(context, args.i32(0))?;
    let task = match &target {
        Target::Group(group) => group.leader().ok_or(Errno::ESRCH)?,
        Target::Task(task) => task.clone(),
    };
    let theirs = thread::find(task.tid()).ok_or(Errno::ESRCH)?;
    // The rule of ptrace(2) (`PTRACE_MODE_ATTACH_REALCREDS`): the same user, or CAP_SYS_PTRACE.
    let (own, other) = (context.cred(), task.cred());
    let same = [other.uid, other.euid, other.suid].iter().all(|id| *id == own.uid)
        && [other.gid, other.egid, other.sgid].iter().all(|id| *id == own.gid);
    if !(same || own.has(cap::SYS_PTRACE)) {
        return Err(Errno::EPERM);
    }
    let file = theirs.files().get_any(args.i32(1))?;
    context.files().insert(file, true, descriptor_limit(context)).map(|fd| fd as u64)
}
