//! Actions, masks, alternate stacks and the return from handlers.

use crate::args::Args;
use crate::strace::flags::SIGPROCMASK_HOW;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result, process};
use kernel::signal::{self, Action, AltStack, SIGSEGV, SigSet, UNBLOCKABLE, bit, sa};
use kernel::uaccess;
use linux_raw_sys::general as raw;
use trap_handler::regs::Regs;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(
        raw::__NR_rt_sigaction,
        "rt_sigaction",
        sys_rt_sigaction,
        &[Show::Signal, Show::Address, Show::Address, Show::Unsigned],
    ),
    full(
        raw::__NR_rt_sigprocmask,
        "rt_sigprocmask",
        sys_rt_sigprocmask,
        &[Show::OneOf(SIGPROCMASK_HOW), Show::Address, Show::Address, Show::Unsigned],
    ),
    full(raw::__NR_rt_sigpending, "rt_sigpending", sys_rt_sigpending, &[Show::Address, Show::Unsigned]),
    full(raw::__NR_sigaltstack, "sigaltstack", sys_sigaltstack, &[Show::Address, Show::Address]),
    full(raw::__NR_rt_sigreturn, "rt_sigreturn", sys_rt_sigreturn, &[]),
];

/// `sigset_t` is eight bytes; calls say so.
pub fn check_size(size: u64) -> Result<()> {
    if size == 8 { Ok(()) } else { Err(Errno::EINVAL) }
}

fn sys_rt_sigaction(context: &mut Context<'_>, args: Args) -> Result<u64> {
    check_size(args.u64(3))?;
    let signal = args.i32(0);
    let new: Option<Action> = uaccess::read_optional(args.u64(1))?;
    if bit(signal) == 0 || (new.is_some() && bit(signal) & UNBLOCKABLE != 0) {
        return Err(Errno::EINVAL);
    }
    let old = {
        let mut signals = context.thread.task.group.signals.lock();
        let old = signals.action(signal).unwrap_or_default();
        if let Some(new) = new {
            let flags = new.flags & sa::KNOWN;
            signals.set_action(signal, Action { flags, mask: new.mask & !UNBLOCKABLE, ..new });
            signal::flush_ignored(&mut signals, signal);
        }
        old
    };
    uaccess::write_optional(args.u64(2), &old)?;
    Ok(0)
}

/// Sets the running thread's mask.
pub fn set_mask(context: &Context<'_>, mask: SigSet) {
    context.thread.task.set_blocked(mask);
}

/// Sets a mask for the time of a call that waits (ppoll, sigsuspend): taken back by the exit path.
pub fn set_temporary_mask(context: &Context<'_>, mask: SigSet) {
    {
        let mut own = context.thread.task.signals.lock();
        if own.restore_mask.is_none() {
            own.restore_mask = Some(own.blocked);
        }
    }
    context.thread.task.set_blocked(mask);
}

/// Takes a temporary mask back at once: the call ended without a signal.
pub fn end_temporary_mask(context: &Context<'_>) {
    let mask = context.thread.task.signals.lock().restore_mask.take();
    if let Some(mask) = mask {
        set_mask(context, mask);
    }
}

fn sys_rt_sigprocmask(context: &mut Context<'_>, args: Args) -> Result<u64> {
    check_size(args.u64(3))?;
    let set: Option<SigSet> = uaccess::read_optional(args.u64(1))?;
    let old = context.thread.task.signals.lock().blocked;
    if let Some(set) = set {
        let new = match args.i32(0) {
            0 => old | set,
            1 => old & !set,
            2 => set,
            _ => return Err(Errno::EINVAL),
        };
        set_mask(context, new);
    }
    uaccess::write_optional(args.u64(2), &old)?;
    Ok(0)
}

fn sys_rt_sigpending(context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.u64(1) > 8 {
        return Err(Errno::EINVAL);
    }
    let task = &context.thread.task;
    let shared = task.group.signals.lock().pending.set();
    let pending = {
        let own = task.signals.lock();
        (own.pending.set() | shared) & own.blocked
    };
    let bytes = pending.to_le_bytes();
    uaccess::write_bytes(args.u64(0), bytes.get(..args.u64(1) as usize).unwrap_or(&bytes))?;
    Ok(0)
}

fn sys_sigaltstack(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const SS_ONSTACK: i32 = 1;
    const SS_DISABLE: i32 = 2;
    const SS_AUTODISARM: i32 = i32::MIN;
    let sp = context.regs.rsp;
    let new: Option<raw::sigaltstack> = uaccess::read_optional(args.u64(0))?;
    let old = {
        let mut own = context.thread.task.signals.lock();
        let old = own.altstack;
        if let Some(new) = new {
            if old.contains(sp) {
                return Err(Errno::EPERM);
            }
            let mode = new.ss_flags & !SS_AUTODISARM;
            own.altstack = match mode {
                SS_DISABLE => AltStack::default(),
                0 | SS_ONSTACK if new.ss_size < minimum() => return Err(Errno::ENOMEM),
                0 | SS_ONSTACK => AltStack {
                    sp: new.ss_sp as u64,
                    size: new.ss_size,
                    autodisarm: new.ss_flags & SS_AUTODISARM != 0,
                },
                _ => return Err(Errno::EINVAL),
            };
        }
        old
    };
    if args.u64(1) != 0 {
        // SAFETY: `sigaltstack` is plain data, for which zero is a value (it has padding).
        let mut shown: raw::sigaltstack = unsafe { core::mem::zeroed() };
        shown.ss_sp = old.sp as *mut _;
        shown.ss_flags = old.flags(sp);
        shown.ss_size = old.size as _;
        uaccess::write(args.u64(1), &shown)?;
    }
    Ok(0)
}

/// `MINSIGSTKSZ` of the x86-64 ABI: Linux takes 2048 unless strict checks were booted.
fn minimum() -> u64 {
    2048
}

fn sys_rt_sigreturn(context: &mut Context<'_>, _args: Args) -> Result<u64> {
    if signal::sigreturn(&context.thread.task, context.regs).is_err() {
        kernel::debug!("rt_sigreturn from a frame that is not valid: SIGSEGV");
        process::exit_group(context.thread, SIGSEGV);
    }
    context.regs.orig_rax = Regs::NO_CALL;
    Ok(0)
}
