//! The host's signal handler: looks at where the thread was and moves its instruction pointer. It locks nothing, allocates
//! nothing and never blocks.

use crate::block::{CAUSE_FAULT, CAUSE_INT80, CAUSE_POKE, Fault, ThreadBlock, ThreadState};
use crate::entry::{Bug, kernel};
use crate::regs::FLAG_TF;
use crate::{Errno, copy, entry, gadget, gates, host, keys, patch, region, stack};
use core::sync::atomic::Ordering;

/// The host signal by which one thread makes another look at its `work` word.
pub const POKE: i32 = 63;

/// Signals that are sent, as a mask; the others are raised by what a thread does.
pub(crate) const SENT: u64 = 1 << (POKE - 1) | 1 << (SIGCHLD - 1);

const SIGILL: i32 = 4;
const SIGTRAP: i32 = 5;
const SIGBUS: i32 = 7;
const SIGFPE: i32 = 8;
const SIGSEGV: i32 = 11;
const SIGCHLD: i32 = 17;
const SIGSYS: i32 = 31;

const SYS_SECCOMP: i32 = 1;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;

/// Code and stack segment of 64-bit programs (`arch/x86/include/asm/segment.h`).
const USER_CS: u16 = 0x33;
const USER_SS: u64 = 0x2b;
/// Access that the protection of a page refuses, and that its key does.
const SEGV_ACCERR: i32 = 2;
const SEGV_PKUERR: i32 = 4;
/// `SI_KERNEL`.
const SI_KERNEL: i32 = 0x80;

/// `siginfo_t` as far as the handler reads it (sigaction(2)).
#[repr(C)]
pub(crate) struct SigInfo {
    signal: i32,
    errno: i32,
    code: i32,
    pad: i32,
    /// `si_addr` / `si_call_addr`.
    address: u64,
    /// `si_syscall`.
    syscall: i32,
    /// `si_arch`.
    arch: u32,
}

/// `ucontext_t` of x86-64 (`arch/x86/include/uapi/asm/{ucontext,sigcontext}.h`).
#[repr(C)]
pub(crate) struct UContext {
    flags: u64,
    link: u64,
    stack: [u64; 3],
    r8: u64,
    r9: u64,
    r10: u64,
    pub(crate) r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    pub(crate) rdx: u64,
    pub(crate) rax: u64,
    pub(crate) rcx: u64,
    rsp: u64,
    pub(crate) rip: u64,
    pub(crate) eflags: u64,
    segments: u64,
    err: u64,
    trapno: u64,
    oldmask: u64,
    cr2: u64,
    /// The extended state (Intel SDM volume 1, chapter 13, standard format).
    pub(crate) fpstate: u64,
}

/// Installs the handler for every signal that the kernel uses. Called once, at boot, before the filter; processes
/// made later inherit it.
pub fn install() -> Result<(), Errno> {
    let action = host::SigAction {
        handler: if keys::on() {
            address_of(&raw const gates::gate_of_signals)
        } else {
            host_signal as *const () as u64
        },
        flags: host::SA_SIGINFO | host::SA_ONSTACK | host::SA_NODEFER | host::SA_RESTORER,
        restorer: &raw const gadget::gadget_sigreturn as u64,
        mask: SENT,
    };
    for signal in [SIGSYS, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGCHLD, POKE] {
        host::rt_sigaction(signal, &action)?;
    }
    // What a terminal or a stray kill could send must not end host processes: signals to the sandbox are virtual.
    let ignore = host::SigAction { handler: host::SIG_IGN, flags: 0, restorer: 0, mask: 0 };
    for signal in [1, 2, 3, 10, 12, 13, 14, 15, 18, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30] {
        host::rt_sigaction(signal, &ignore)?;
    }
    Ok(())
}

fn address_of(symbol: *const u8) -> u64 {
    symbol as u64
}

unsafe extern "C" fn host_signal(signal: i32, info: *const SigInfo, context: *mut UContext) {
    // SAFETY: the host passes a siginfo and the saved context on this thread's alternate stack.
    let (info, context) = unsafe { (&*info, &mut *context) };
    handle(signal, info, context);
}

/// Decides where the thread goes on.
pub(crate) fn handle(signal: i32, info: &SigInfo, context: &mut UContext) {
    if context.segments as u16 != USER_CS {
        other_code_segment(context);
        return;
    }
    match signal {
        SIGSYS if info.code == SYS_SECCOMP => trapped(info, context),
        POKE => poked(context),
        SIGCHLD if info.code > 0 => {
            // Noted for one that is between its last look at its children and its sleep.
            ThreadBlock::current().state().work.fetch_or(ThreadState::CHILD_ENDED, Ordering::SeqCst);
            poked(context);
        }
        SIGSEGV | SIGBUS | SIGFPE | SIGILL | SIGTRAP if info.code > 0 => fault(signal, info, context),
        // Sent by somebody, not raised by the processor: only code that has taken over a process can do that.
        _ => {}
    }
}

/// The thread has jumped to 32-bit code, or to another segment of its own. No stub can run there, and there is no way back: for the
/// program it is a fault, whatever the signal was.
fn other_code_segment(context: &mut UContext) {
    if region::is_kernel_code(context.rip) {
        bug(SIGSEGV, SI_KERNEL, context.segments, context);
    }
    context.segments = u64::from(USER_CS) | USER_SS << 48;
    // SAFETY: this thread was in program code, so nothing reads the record now.
    unsafe {
        *ThreadBlock::current().fault.get() = Fault { signal: SIGSEGV, code: SI_KERNEL, ..Fault::default() }
    };
    aside(context, CAUSE_FAULT);
}

fn trapped(info: &SigInfo, context: &mut UContext) {
    if region::is_kernel_code(context.rip) {
        bug(SIGSYS, info.code, info.syscall as u64, context);
    }
    if info.arch == AUDIT_ARCH_X86_64 {
        // RCX holds the return address already, except behind a vsyscall.
        context.rcx = context.rip;
        keep_flags(context);
        context.rip =
            address_of(if keys::on() { &raw const gates::way_in_call } else { &raw const entry::entry_call });
        return;
    }
    debug_assert!(info.arch == AUDIT_ARCH_I386);
    aside(context, CAUSE_INT80);
}

fn aside(context: &mut UContext, cause: u64) {
    if patch::touches_arena(context.rip, 1) {
        // SAFETY: this thread's own; set before a fault comes here.
        let signal = unsafe { (*ThreadBlock::current().fault.get()).signal };
        match patch::program_rip(context.rip) {
            Some(rip) => context.rip = rip,
            // Nothing that the kernel has put there faults but by steps: the program has jumped to where there is nothing.
            None if cause == CAUSE_FAULT && signal != SIGTRAP => {}
            // On the way in, the kernel looks at its work word by itself.
            None => return,
        }
    }
    let block = ThreadBlock::current();
    block.aside_rip.store(context.rip, Ordering::Relaxed);
    block.cause.store(cause, Ordering::Relaxed);
    keep_flags(context);
    context.rip =
        address_of(if keys::on() { &raw const gates::way_in_aside } else { &raw const entry::entry_aside });
}

/// Keeps the program's flags for its record; the way in is not to be stepped through.
fn keep_flags(context: &mut UContext) {
    ThreadBlock::current().aside_flags.store(context.eflags, Ordering::Relaxed);
    context.eflags &= !FLAG_TF;
}

/// The exit stub cannot set the trap flag without stepping through itself: the return from this handler does.
fn leave_with_trap_flag(context: &mut UContext) {
    let block = ThreadBlock::current();
    // SAFETY: this thread is in the exit stub, which only reads the record.
    let regs = unsafe { *block.regs.get() };
    context.r15 = regs.r15;
    context.r14 = regs.r14;
    context.r13 = regs.r13;
    context.r12 = regs.r12;
    context.rbp = regs.rbp;
    context.rbx = regs.rbx;
    context.r11 = regs.r11;
    context.r10 = regs.r10;
    context.r9 = regs.r9;
    context.r8 = regs.r8;
    context.rax = regs.rax;
    context.rcx = regs.rcx;
    context.rdx = regs.rdx;
    context.rsi = regs.rsi;
    context.rdi = regs.rdi;
    context.eflags = regs.rflags;
    context.rsp = regs.rsp;
    context.rip = block.resumed(regs.rip);
}

fn poked(context: &mut UContext) {
    let rip = context.rip;
    if !region::is_kernel_code(rip) {
        aside(context, CAUSE_POKE);
        return;
    }
    let within = |start: *const u8, end: *const u8| rip >= address_of(start) && rip < address_of(end);
    if within(&raw const entry::exit_to_user, &raw const entry::exit_window_end) || gates::goes_out(rip) {
        context.rip = address_of(&raw const entry::exit_to_user);
        context.rsp = ThreadBlock::current().regs.get() as u64;
    } else if within(&raw const gadget::gadget_call_interruptible, &raw const gadget::gadget_window_end) {
        context.rip = address_of(&raw const gadget::gadget_interrupted);
    }
    // Anywhere else the kernel will look at its work word by itself.
}

fn fault(signal: i32, info: &SigInfo, context: &mut UContext) {
    if matches!(signal, SIGSEGV | SIGBUS) && gadget::is_at(context.rip) {
        stack::end_without_a_call();
    }
    if context.rip == address_of(&raw const entry::exit_by_signal) {
        leave_with_trap_flag(context);
        return;
    }
    if let Some(exit) = copy::fixup(context.rip) {
        context.rip = exit;
        return;
    }
    if patch::put_right(context.trapno, context) || steps_in(context) {
        return;
    }
    if region::is_kernel_code(context.rip) {
        bug(signal, info.code, info.address, context);
    }
    let block = ThreadBlock::current();
    // SAFETY: this thread was in program code, so nothing reads the record now.
    unsafe {
        *block.fault.get() = Fault {
            signal,
            // The keys are the kernel's own affair.
            code: if (signal, info.code) == (SIGSEGV, SEGV_PKUERR) { SEGV_ACCERR } else { info.code },
            address: info.address,
            trapno: context.trapno,
            error: context.err,
            cr2: context.cr2,
        };
    }
    aside(context, CAUSE_FAULT);
}

/// Whether a program that runs with the trap flag is on its way into the kernel, which clears the flag for itself.
fn steps_in(context: &UContext) -> bool {
    const DEBUG_EXCEPTION: u64 = 1;
    let stubs = address_of(&raw const entry::entry_patched)..address_of(&raw const entry::exit_to_user);
    let rest =
        address_of(&raw const entry::entry_clear_flags)..address_of(&raw const entry::entry_clear_flags_end);
    context.trapno == DEBUG_EXCEPTION
        && (stubs.contains(&context.rip) || rest.contains(&context.rip) || gates::comes_in(context.rip))
}

fn bug(signal: i32, code: i32, address: u64, context: &UContext) -> ! {
    let what = Bug { signal, code, rip: context.rip, rsp: context.rsp, rbp: context.rbp, address };
    match kernel() {
        Some(kernel) => kernel.bug(what),
        None => host::exit_group(134),
    }
}
