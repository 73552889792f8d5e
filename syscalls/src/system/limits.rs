//! Resource limits and usage: getrlimit(2), prlimit64(2), getrusage(2).

use crate::args::Args;
use crate::table::{Context, Row, Show, full, partial};
use crate::{Errno, Result};
use alloc::sync::Arc;
use kernel::cred::cap;
use kernel::task::ThreadGroup;
use kernel::{time, uaccess};
use linux_raw_sys::general as raw;
use trap_handler::host;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_getrlimit, "getrlimit", sys_getrlimit, &[Show::Int, Show::Address]),
    full(raw::__NR_setrlimit, "setrlimit", sys_setrlimit, &[Show::Int, Show::Address]),
    full(
        raw::__NR_prlimit64,
        "prlimit64",
        sys_prlimit64,
        &[Show::Int, Show::Int, Show::Address, Show::Address],
    ),
    partial(
        raw::__NR_getrusage,
        "getrusage",
        sys_getrusage,
        &[Show::Int, Show::Address],
        "children: times only",
    ),
];

const RESOURCES: u32 = 16;

fn check(resource: u32) -> Result<()> {
    if resource < RESOURCES { Ok(()) } else { Err(Errno::EINVAL) }
}

fn set(
    context: &Context<'_>,
    group: &Arc<ThreadGroup>,
    resource: u32,
    (soft, hard): (u64, u64),
) -> Result<()> {
    /// Descriptors at most (`fs.nr_open`).
    const NR_OPEN: u64 = 1 << 20;
    if soft > hard {
        return Err(Errno::EINVAL);
    }
    if resource == raw::RLIMIT_NOFILE && hard > NR_OPEN {
        return Err(Errno::EPERM);
    }
    let (_, old_hard) = group.rlimit(resource);
    if hard > old_hard && !context.cred().has(cap::SYS_RESOURCE) {
        return Err(Errno::EPERM);
    }
    group.set_rlimit(resource, (soft, hard));
    if resource == raw::RLIMIT_CPU {
        crate::time::timers::cpu_limit_changed(group);
    }
    Ok(())
}

fn sys_getrlimit(context: &mut Context<'_>, args: Args) -> Result<u64> {
    check(args.u32(0))?;
    let (soft, hard) = context.thread.task.group.rlimit(args.u32(0));
    uaccess::write(args.u64(1), &[soft, hard])?;
    Ok(0)
}

fn sys_setrlimit(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let [soft, hard]: [u64; 2] = uaccess::read(args.u64(1))?;
    check(args.u32(0))?;
    set(context, &context.thread.task.group, args.u32(0), (soft, hard))?;
    Ok(0)
}

/// The process to look at: `ESRCH`, `EPERM` unless all ids match or with CAP_SYS_RESOURCE.
fn target(context: &Context<'_>, pid: i32) -> Result<Arc<ThreadGroup>> {
    let own = &context.thread.task;
    if pid == 0 {
        return Ok(own.group.clone());
    }
    let task = crate::thread::task(context.named(pid)?)?;
    let (ours, theirs) = (own.cred(), task.cred());
    let same = [theirs.uid, theirs.euid, theirs.suid].iter().all(|id| *id == ours.uid)
        && [theirs.gid, theirs.egid, theirs.sgid].iter().all(|id| *id == ours.gid);
    if same || ours.has(cap::SYS_RESOURCE) { Ok(task.group.clone()) } else { Err(Errno::EPERM) }
}

fn sys_prlimit64(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let resource = args.u32(1);
    check(resource)?;
    let new: Option<[u64; 2]> = uaccess::read_optional(args.u64(2))?;
    let group = target(context, args.i32(0))?;
    let (soft, hard) = group.rlimit(resource);
    if let Some([new_soft, new_hard]) = new {
        set(context, &group, resource, (new_soft, new_hard))?;
    }
    uaccess::write_optional(args.u64(3), &[soft, hard])?;
    Ok(0)
}

fn sys_getrusage(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const CHILDREN: i32 = -1;
    let usage = match args.i32(0) {
        who @ (0 | 1) => host::getrusage(who)?,
        CHILDREN => {
            let below = *context.thread.task.group.children_times.lock();
            // SAFETY: `rusage` is plain data, for which zero is a value.
            let mut usage: raw::rusage = unsafe { core::mem::zeroed() };
            usage.ru_utime = time::usage_timeval(below.user);
            usage.ru_stime = time::usage_timeval(below.system);
            usage
        }
        _ => return Err(Errno::EINVAL),
    };
    uaccess::write(args.u64(1), &usage)?;
    Ok(0)
}
