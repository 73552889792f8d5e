//! The program's general registers, as the entry stub leaves them.

/// One trap's record of the program's registers. It lies in the thread block, above the kernel stack, so that
/// no signal frame can overwrite it; the exit stub restores the program from it.
///
/// The field order is the order of pushes in `entry.rs`, backwards.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs, reason = "the names are the machine's")]
pub struct Regs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The call's number, or `u64::MAX` when the trap was no call (or the call must not be restarted).
    pub orig_rax: u64,
    pub rip: u64,
    pub rflags: u64,
    pub rsp: u64,
    /// Keeps the record a multiple of 16 bytes, so that the stack below is aligned.
    pub pad: u64,
}

impl Regs {
    /// Value of `orig_rax` outside system calls.
    pub const NO_CALL: u64 = u64::MAX;

    /// The six arguments of a system call, in order.
    pub fn args(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }
}

/// Flags that a program may set through sigreturn or a debugger: the arithmetic flags, DF, TF, AC, RF and ID
/// (the host kernel's `FIX_EFLAGS`).
pub const USER_FLAGS: u64 = 0x0025_4dd5;
/// Trap flag.
pub const FLAG_TF: u64 = 0x100;
/// Direction flag.
pub const FLAG_DF: u64 = 0x400;
/// Alignment check.
pub const FLAG_AC: u64 = 0x4_0000;
/// Resume flag.
pub const FLAG_RF: u64 = 0x1_0000;
/// Interrupts enabled, and the bit that is always one.
pub const FLAGS_FIXED: u64 = 0x202;
