//! The entry and exit stubs: the one way into the kernel and the one way out.
//!
//! Entry finds the kernel stack through GS, saves every register that Linux preserves (the kernel itself is compiled
//! for SSE2, so xmm0-15 are saved and nothing above them is ever touched), and calls the dispatcher.
//! Exit looks for pending work one last time and restores the program from the record. Every instruction of it lies in
//! the window `[exit_to_user, exit_window_end)`, or, where the kernel's memory is closed to the program, ends in [`crate::gates`]: a poke that lands there restarts the exit (the record is
//! only read), so work is never missed.

use crate::block::{Cause, ThreadBlock, ThreadState, XmmRegs};
use crate::regs::Regs;
use core::arch::global_asm;
use core::mem::offset_of;

const _: () =
    assert!(size_of::<Regs>() == 160 && offset_of!(Regs, rflags) == 136 && offset_of!(Regs, rip) == 128);

global_asm!(
    // A call from a trampoline: RCX holds the return address, R11 where to go on when the program continues there.
    ".balign 64",
    ".globl entry_patched",
    "entry_patched:",
    "mov gs:[{resume_from}], rcx",
    "mov gs:[{resume_to}], r11",
    "mov gs:[{user_rsp}], rsp",
    "mov rsp, gs:[{regs_end}]",
    "lea rsp, [rsp - 8]",
    "push qword ptr gs:[{user_rsp}]",
    "pushfq",
    "mov r11, [rsp]", // as `syscall` leaves it
    "push rcx",
    "push rax",
    "mov qword ptr gs:[{cause}], 0",
    "jmp 5f",
    // A system call that trapped: RCX holds the return address, RSP and the rest are the program's.
    ".balign 16",
    ".globl entry_call",
    "entry_call:",
    "mov qword ptr gs:[{resume_from}], 0",
    "mov gs:[{user_rsp}], rsp",
    "mov rsp, gs:[{regs_end}]",
    "lea rsp, [rsp - 8]",
    "push qword ptr gs:[{user_rsp}]",
    "push qword ptr gs:[{aside_flags}]",
    "push rcx",
    "push rax",
    "mov qword ptr gs:[{cause}], 0",
    "jmp 5f",
    // Any other trap: every register is the program's, the interrupted RIP was kept aside by the handler.
    ".balign 16",
    ".globl entry_aside",
    "entry_aside:",
    "mov qword ptr gs:[{resume_from}], 0",
    "mov gs:[{user_rsp}], rsp",
    "mov rsp, gs:[{regs_end}]",
    "lea rsp, [rsp - 8]",
    "push qword ptr gs:[{user_rsp}]",
    "push qword ptr gs:[{aside_flags}]",
    "push qword ptr gs:[{aside_rip}]",
    "push -1",
    "5:",
    "push rdi",
    "push rsi",
    "push rdx",
    "push rcx",
    "push rax",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "test dword ptr [rsp + {rflags}], 0x40100", // AC or TF: kernel code must not run with them
    "jnz 6f",
    "7:",
    "movaps gs:[{xmm} + 0], xmm0",
    "movaps gs:[{xmm} + 16], xmm1",
    "movaps gs:[{xmm} + 32], xmm2",
    "movaps gs:[{xmm} + 48], xmm3",
    "movaps gs:[{xmm} + 64], xmm4",
    "movaps gs:[{xmm} + 80], xmm5",
    "movaps gs:[{xmm} + 96], xmm6",
    "movaps gs:[{xmm} + 112], xmm7",
    "movaps gs:[{xmm} + 128], xmm8",
    "movaps gs:[{xmm} + 144], xmm9",
    "movaps gs:[{xmm} + 160], xmm10",
    "movaps gs:[{xmm} + 176], xmm11",
    "movaps gs:[{xmm} + 192], xmm12",
    "movaps gs:[{xmm} + 208], xmm13",
    "movaps gs:[{xmm} + 224], xmm14",
    "movaps gs:[{xmm} + 240], xmm15",
    "stmxcsr gs:[{mxcsr}]",
    "mov rax, gs:[{state}]",
    "mov dword ptr [rax], 0", // ThreadState::KERNEL
    "mov rdi, rsp",
    "mov rsp, gs:[{stack}]",
    "xor ebp, ebp",
    "call {dispatch}",
    // Out again.
    ".globl exit_to_user",
    "exit_to_user:",
    "mov rsp, gs:[{this}]", // the record
    "mov rax, gs:[{state}]",
    "mov ecx, 1", // ThreadState::USER
    "xchg [rax], ecx",
    "cmp dword ptr [rax + {work}], 0",
    "jne 8f",
    "movaps xmm0, gs:[{xmm} + 0]",
    "movaps xmm1, gs:[{xmm} + 16]",
    "movaps xmm2, gs:[{xmm} + 32]",
    "movaps xmm3, gs:[{xmm} + 48]",
    "movaps xmm4, gs:[{xmm} + 64]",
    "movaps xmm5, gs:[{xmm} + 80]",
    "movaps xmm6, gs:[{xmm} + 96]",
    "movaps xmm7, gs:[{xmm} + 112]",
    "movaps xmm8, gs:[{xmm} + 128]",
    "movaps xmm9, gs:[{xmm} + 144]",
    "movaps xmm10, gs:[{xmm} + 160]",
    "movaps xmm11, gs:[{xmm} + 176]",
    "movaps xmm12, gs:[{xmm} + 192]",
    "movaps xmm13, gs:[{xmm} + 208]",
    "movaps xmm14, gs:[{xmm} + 224]",
    "movaps xmm15, gs:[{xmm} + 240]",
    "ldmxcsr gs:[{mxcsr}]",
    "test dword ptr [rsp + {rflags}], 0x100", // TF: only the host's sigreturn sets it for the program alone
    "jnz 9f",
    "cmp dword ptr gs:[{guarded}], 0",
    "jne way_out",
    "mov rcx, [rsp + {rip}]",
    "cmp rcx, gs:[{resume_from}]",
    "cmove rcx, gs:[{resume_to}]",
    "mov gs:[{return_rip}], rcx",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rax",
    "pop rcx",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "lea rsp, [rsp + 16]", // orig_rax, rip
    "popfq",
    "pop rsp",
    "jmp qword ptr gs:[{return_rip}]",
    "9:",
    ".globl exit_by_signal",
    "exit_by_signal:", // the handler puts the record into the context that it returns to
    "ud2",
    ".globl exit_window_end",
    "exit_window_end:",
    ".globl entry_clear_flags",
    "entry_clear_flags:",
    "6:",
    "push 0x202",
    "popfq",
    "jmp 7b",
    ".globl entry_clear_flags_end",
    "entry_clear_flags_end:",
    "8:",
    "mov dword ptr [rax], 0",
    "mov rdi, rsp",
    "mov rsp, gs:[{stack}]",
    "call {exit_work}",
    "jmp exit_to_user",
    user_rsp = const offset_of!(ThreadBlock, user_rsp),
    regs_end = const offset_of!(ThreadBlock, regs_end),
    cause = const offset_of!(ThreadBlock, cause),
    aside_rip = const offset_of!(ThreadBlock, aside_rip),
    aside_flags = const offset_of!(ThreadBlock, aside_flags),
    resume_from = const offset_of!(ThreadBlock, resume_from),
    resume_to = const offset_of!(ThreadBlock, resume_to),
    return_rip = const offset_of!(ThreadBlock, return_rip),
    state = const offset_of!(ThreadBlock, state),
    stack = const offset_of!(ThreadBlock, stack),
    this = const offset_of!(ThreadBlock, this),
    guarded = const offset_of!(ThreadBlock, guarded),
    mxcsr = const offset_of!(ThreadBlock, mxcsr),
    xmm = const offset_of!(ThreadBlock, xmm) + offset_of!(XmmRegs, 0),
    rflags = const offset_of!(Regs, rflags),
    rip = const offset_of!(Regs, rip),
    work = const offset_of!(ThreadState, work),
    dispatch = sym dispatch,
    exit_work = sym exit_work,
);

unsafe extern "C" {
    pub(crate) static entry_patched: u8;
    pub(crate) static entry_call: u8;
    pub(crate) static entry_aside: u8;
    pub(crate) static exit_to_user: u8;
    pub(crate) static exit_by_signal: u8;
    pub(crate) static exit_window_end: u8;
    pub(crate) static entry_clear_flags: u8;
    pub(crate) static entry_clear_flags_end: u8;
}

/// What the layers above do when a thread comes in.
pub trait Kernel: Sync {
    /// A trap: handle it, changing `regs` to what the program shall see.
    fn trap(&self, cause: Cause, regs: &mut Regs);
    /// Work is pending before the return to the program. Must clear `ThreadState::work` for what it did.
    fn exit_work(&self, regs: &mut Regs);
    /// Kernel code did something that it never does (a fault outside the copy ranges). Does not return.
    fn bug(&self, what: Bug) -> !;
}

/// A fault or signal that shows a bug of the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Bug {
    /// Host signal number.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// Where the thread was.
    pub rip: u64,
    /// Its stack pointer.
    pub rsp: u64,
    /// Its frame pointer, for a backtrace.
    pub rbp: u64,
    /// `si_addr`, or the number of the host call that the filter refused.
    pub address: u64,
}

static mut KERNEL: Option<&'static dyn Kernel> = None;

/// Sets the kernel above. Called once at boot, before any program runs.
pub fn set_kernel(kernel: &'static dyn Kernel) {
    // SAFETY: at boot there is one thread, and nothing reads this before.
    unsafe { KERNEL = Some(kernel) }
}

pub(crate) fn kernel() -> Option<&'static dyn Kernel> {
    // SAFETY: written once at boot; read-only since.
    unsafe { KERNEL }
}

unsafe extern "C" fn dispatch(regs: *mut Regs) {
    if let Some(kernel) = kernel() {
        // SAFETY: the stub passes the running thread's own record, which nothing else refers to.
        kernel.trap(ThreadBlock::current().cause(), unsafe { &mut *regs });
    }
}

unsafe extern "C" fn exit_work(regs: *mut Regs) {
    if let Some(kernel) = kernel() {
        // SAFETY: as above.
        kernel.exit_work(unsafe { &mut *regs });
    }
}

/// Leaves for the program with the registers of the running thread's record, from any depth of kernel code: what the
/// stack below holds is forgotten (nothing there may need dropping).
pub fn leave() -> ! {
    let regs = ThreadBlock::current().regs.get();
    // SAFETY: the record lies at the top of this thread's kernel stack; the exit stub takes over.
    unsafe { core::arch::asm!("mov rsp, {0}", "jmp exit_to_user", in(reg) regs, options(noreturn)) }
}
