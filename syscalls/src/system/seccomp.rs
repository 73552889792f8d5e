//! seccomp(2), prctl(2) `PR_SET_SECCOMP`, and what becomes of a call under filters.

use crate::args::Args;
use crate::process;
use crate::table::{Context, Row, Show, partial};
use crate::thread::Thread;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kernel::cred::cap;
use kernel::seccomp::{Action, Call, Filter, Mode};
use kernel::signal::{self, SIGKILL, SIGSYS, SigInfo};
use kernel::task::Task;
use kernel::uaccess;
use linux_raw_sys::general as raw;
use trap_handler::regs::Regs;

/// The rows of this file.
pub const ROWS: &[Row] = &[partial(
    raw::__NR_seccomp,
    "seccomp",
    sys_seccomp,
    &[Show::Int, Show::Int, Show::Address],
    "listeners (SECCOMP_FILTER_FLAG_NEW_LISTENER)",
)];

const SET_MODE_STRICT: u32 = 0;
const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;

const FLAG_TSYNC: u32 = 1;
const FLAG_LOG: u32 = 2;
const FLAG_SPEC_ALLOW: u32 = 4;
const FLAG_TSYNC_ESRCH: u32 = 16;
/// What a filter may have without a listener.
const FLAGS: u32 = FLAG_TSYNC | FLAG_LOG | FLAG_SPEC_ALLOW | FLAG_TSYNC_ESRCH;

/// Longest program (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: u16 = 4096;
/// `SYS_SECCOMP`: `si_code` of the signal.
const SYS_SECCOMP: i32 = 1;

/// How a call was made: `AUDIT_ARCH_*`.
pub const ARCH_X86_64: u32 = 0xc000_003e;
/// By `int 0x80`.
pub const ARCH_I386: u32 = 0x4000_0003;

fn sys_seccomp(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (operation, flags, address) = (args.u32(0), args.u32(1), args.u64(2));
    match operation {
        SET_MODE_STRICT if flags == 0 && address == 0 => set_strict(context),
        SET_MODE_FILTER => set_filter(context, flags, address),
        GET_ACTION_AVAIL if flags == 0 => {
            let action: u32 = uaccess::read(address)?;
            if Action::is_available(action) { Ok(0) } else { Err(Errno::EOPNOTSUPP) }
        }
        _ => Err(Errno::EINVAL),
    }
}

/// prctl(2) `PR_SET_SECCOMP`: modes 1 and 2.
pub fn set_by_prctl(context: &Context<'_>, mode: u64, address: u64) -> Result<u64> {
    match mode {
        1 => set_strict(context),
        2 => set_filter(context, 0, address),
        _ => Err(Errno::EINVAL),
    }
}

/// prctl(2) `PR_GET_SECCOMP`.
pub fn mode(context: &Context<'_>) -> u64 {
    u64::from(context.thread.task.seccomp.lock().shown().0)
}

fn set_strict(context: &Context<'_>) -> Result<u64> {
    let task = &context.thread.task;
    let mut mode = task.seccomp.lock();
    if matches!(*mode, Mode::Filtered(_)) {
        return Err(Errno::EINVAL);
    }
    *mode = Mode::Strict;
    task.filtered.store(true, Ordering::SeqCst);
    Ok(0)
}

fn set_filter(context: &Context<'_>, flags: u32, address: u64) -> Result<u64> {
    if flags & !FLAGS != 0 {
        kernel::warn!("seccomp: flags {flags:#x} ask for what is not supported: EINVAL");
        return Err(Errno::EINVAL);
    }
    let task = &context.thread.task;
    let cred = task.cred();
    let [length, program]: [u64; 2] = uaccess::read(address)?;
    let length = length as u16;
    if length == 0 || length > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    if !task.no_new_privs.load(Ordering::Relaxed) && !cred.has(cap::SYS_ADMIN) {
        return Err(Errno::EACCES);
    }
    let words = uaccess::read_array::<u64>(program, usize::from(length))?;
    let before = match &*task.seccomp.lock() {
        Mode::Strict => return Err(Errno::EINVAL),
        mode => mode.filter().cloned(),
    };
    let filter = Filter::new(&words, before.clone())?;
    if flags & FLAG_TSYNC != 0 {
        return synchronize(task, before.as_ref(), &filter, flags);
    }
    put(task, filter);
    Ok(0)
}

fn put(task: &Task, filter: Arc<Filter>) {
    let old = core::mem::replace(&mut *task.seccomp.lock(), Mode::Filtered(filter));
    task.filtered.store(true, Ordering::SeqCst);
    drop(old);
}

/// Gives the new filters to every thread of the process, if none has others: otherwise the id of one that has.
fn synchronize(task: &Task, before: Option<&Arc<Filter>>, filter: &Arc<Filter>, flags: u32) -> Result<u64> {
    let tasks = task.group.signals.lock().tasks.clone();
    let others = || tasks.iter().filter(|other| !core::ptr::eq(&***other, task));
    let differs = |other: &&Arc<Task>| match &*other.seccomp.lock() {
        Mode::Disabled => false,
        Mode::Strict => true,
        Mode::Filtered(theirs) => !before.is_some_and(|before| before.descends_from(theirs)),
    };
    if let Some(other) = others().find(differs) {
        return if flags & FLAG_TSYNC_ESRCH != 0 { Err(Errno::ESRCH) } else { Ok(other.own_tid() as u64) };
    }
    let no_new_privs = task.no_new_privs.load(Ordering::Relaxed);
    for other in others() {
        put(other, filter.clone());
        if no_new_privs {
            other.no_new_privs.store(true, Ordering::Relaxed);
        }
    }
    put(task, filter.clone());
    Ok(0)
}

/// Filters that a process starts with.
pub fn start_with(task: &Task, programs: &[Vec<u64>]) -> Result<()> {
    for program in programs {
        let before = task.seccomp.lock().filter().cloned();
        put(task, Filter::new(program, before)?);
    }
    Ok(())
}

/// Whether a call is to be made under the task's filters. If not, `regs` have what the program is to see, and a signal is on its way
/// if that is what they want.
#[cold]
pub fn lets_through(regs: &mut Regs, thread: &Thread, number: u32, arch: u32, args: [u64; 6]) -> bool {
    let task = &thread.task;
    let mode = match &*task.seccomp.lock() {
        Mode::Filtered(filter) if filter.allows_always(number, arch) => return true,
        mode => mode.clone(),
    };
    let action = match &mode {
        Mode::Disabled => Action::Allow,
        Mode::Strict => {
            let plain =
                matches!(number, raw::__NR_read | raw::__NR_write | raw::__NR_exit | raw::__NR_rt_sigreturn);
            if arch != ARCH_X86_64 || !plain {
                drop(mode);
                end_thread(thread, SIGKILL);
            }
            Action::Allow
        }
        Mode::Filtered(filter) => filter.judge(&Call { number, arch, ip: regs.rip, args }),
    };
    // The last reference may be here: what ends the thread below comes back no more.
    drop(mode);
    match action {
        Action::Allow => return true,
        Action::Errno(error) => regs.rax = -i64::from(error.min(4095)) as u64,
        Action::Trap(data) => {
            let mut info = SigInfo::new(SIGSYS, SYS_SECCOMP);
            info.errno = i32::from(data);
            info.fields[0] = regs.rip;
            info.fields[1] = u64::from(number) | u64::from(arch) << 32;
            // As if the call had not been made.
            regs.rax = u64::from(number);
            regs.orig_rax = Regs::NO_CALL;
            signal::force(task, info);
        }
        // Nobody listens, and no tracer is told of these.
        Action::Notify | Action::Trace(_) => regs.rax = Errno::ENOSYS.as_result() as u64,
        Action::KillThread => end_thread(thread, SIGSYS),
        Action::KillProcess => process::exit_group(thread, SIGSYS),
    }
    false
}

fn end_thread(thread: &Thread, signal: i32) -> ! {
    if thread.task.group.alive.load(Ordering::SeqCst) == 1 {
        process::exit_group(thread, signal)
    }
    thread.task.exit_status.store(signal, Ordering::Relaxed);
    process::exit_thread(thread)
}
