//! unshare(2): what needs no privilege. Namespaces are refused as Linux refuses them to the unprivileged.

use crate::args::Args;
use crate::strace::flags::CLONE;
use crate::table::{Context, Row, Show, partial};
use crate::{Errno, Result};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;

/// The rows of this file.
pub const ROWS: &[Row] =
    &[partial(raw::__NR_unshare, "unshare", sys_unshare, &[Show::Flags(CLONE)], "namespaces: EPERM")];

const NAMESPACES: u32 = raw::CLONE_NEWNS
    | raw::CLONE_NEWCGROUP
    | raw::CLONE_NEWUTS
    | raw::CLONE_NEWIPC
    | raw::CLONE_NEWUSER
    | raw::CLONE_NEWPID
    | raw::CLONE_NEWNET
    | raw::CLONE_NEWTIME;
/// What only a process with one thread has already (`check_unshare_flags`).
const OF_ONE_THREAD: u32 = raw::CLONE_THREAD | raw::CLONE_SIGHAND | raw::CLONE_VM;

fn sys_unshare(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = args.u32(0);
    let known = NAMESPACES | OF_ONE_THREAD | raw::CLONE_FS | raw::CLONE_FILES | raw::CLONE_SYSVSEM;
    if args.u64(0) & !u64::from(known) != 0 {
        return Err(Errno::EINVAL);
    }
    let thread = context.thread;
    let group = &thread.task.group;
    if flags & OF_ONE_THREAD != 0 && group.alive.load(Ordering::SeqCst) > 1 {
        return Err(Errno::EINVAL);
    }
    if flags & NAMESPACES != 0 {
        return Err(Errno::EPERM);
    }
    if flags & raw::CLONE_FS != 0 {
        context.unshare_fs();
    }
    if flags & raw::CLONE_FILES != 0 {
        context.unshare_files();
    }
    if flags & raw::CLONE_SYSVSEM != 0 {
        thread.task.sem_undo.leave(group.tgid);
    }
    Ok(0)
}
