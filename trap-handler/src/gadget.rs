//! The host-call gadget: the only `syscall` instructions that the host filter honours, on pages of their own.

use crate::block::{ThreadBlock, ThreadState};
use crate::keys;
use core::arch::global_asm;
use core::mem::offset_of;

global_asm!(
    ".pushsection .gadget, \"ax\", @progbits",
    ".balign 4096",
    ".globl gadget_start",
    "gadget_start:",
    // Plain host call: number and arguments are in their registers.
    ".globl gadget_call",
    "gadget_call:",
    "syscall",
    "ret",
    // Interruptible host call. A poke that lands between the look at `work` and the end of the syscall
    // instruction sends the thread to `gadget_interrupted`, so no wake-up is lost.
    ".balign 16",
    ".globl gadget_call_interruptible",
    "gadget_call_interruptible:",
    "mov rcx, gs:[{state}]",
    "cmp dword ptr [rcx + {work}], 0",
    "jne gadget_interrupted",
    "syscall",
    ".globl gadget_window_end",
    "gadget_window_end:",
    "ret",
    ".globl gadget_interrupted",
    "gadget_interrupted:",
    "mov rax, -4", // -EINTR
    "ret",
    // clone(2) with a new stack: the child finds its first function and that function's argument there.
    ".balign 16",
    ".globl gadget_clone",
    "gadget_clone:",
    "syscall",
    "test rax, rax",
    "jz 2f",
    "ret",
    "2:",
    "xor ebp, ebp",
    "pop rdi",
    "pop rax",
    "call rax",
    "ud2",
    // The end of a thread whose stack is about to be used by another: no memory access from here on.
    ".balign 16",
    ".globl gadget_exit_thread",
    "gadget_exit_thread:",
    "mov eax, 60",
    "syscall",
    "ud2",
    // Return from the host's signal handler (its restorer). With the guard, R9 holds the token.
    ".balign 16",
    ".globl gadget_sigreturn",
    "gadget_sigreturn:",
    "mov eax, 15",
    "syscall",
    "ud2",
    ".balign 4096",
    ".globl gadget_end",
    "gadget_end:",
    ".popsection",
    state = const offset_of!(ThreadBlock, state),
    work = const offset_of!(ThreadState, work),
);

unsafe extern "C" {
    pub(crate) static gadget_start: u8;
    pub(crate) static gadget_end: u8;
    pub(crate) static gadget_call_interruptible: u8;
    pub(crate) static gadget_window_end: u8;
    pub(crate) static gadget_interrupted: u8;
    pub(crate) static gadget_sigreturn: u8;
}

/// Address range of the gadget's pages.
pub fn range() -> (u64, u64) {
    (&raw const gadget_start as u64, &raw const gadget_end as u64)
}

/// Whether `rip` is in the gadget. Its instructions touch only memory that the kernel keeps in place: a memory fault there says that
/// a program has taken the gadget, or that memory, away.
pub(crate) fn is_at(rip: u64) -> bool {
    let (start, end) = range();
    (start..=end).contains(&rip)
}

/// A host call that is not interrupted by pokes in between. The result is the raw RAX.
///
/// # Safety
/// The call and its pointers must be sound for the running process (a host call can do anything to its memory).
#[inline]
pub unsafe fn call(number: u64, mut args: [u64; 6]) -> i64 {
    keys::seal(number, &mut args);
    let result: i64;
    // SAFETY: the caller vouches for the effects; the gadget clobbers what `syscall` does.
    unsafe {
        core::arch::asm!("call gadget_call",
            inlateout("rax") number as i64 => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _);
    }
    result
}

/// A host call that may sleep: gives `-EINTR` at once when work is pending for the thread, or as soon as it is poked.
///
/// # Safety
/// As [`call`].
#[inline]
pub unsafe fn call_interruptible(number: u64, mut args: [u64; 6]) -> i64 {
    keys::seal(number, &mut args);
    let result: i64;
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("call gadget_call_interruptible",
            inlateout("rax") number as i64 => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _);
    }
    result
}

/// clone(2) of a thread that starts in `first(argument)` on `stack_top`.
///
/// # Safety
/// `stack_top` ends a writable, 16-byte aligned stack that nobody uses; `args` are clone's arguments, of which the
/// stack pointer is filled in here. `first` never returns.
pub unsafe fn clone_onto(
    stack_top: u64,
    first: unsafe extern "C" fn(u64) -> !,
    argument: u64,
    mut args: [u64; 6],
) -> i64 {
    let sp = stack_top - 16;
    // SAFETY: the caller gives the stack to us.
    unsafe {
        (sp as *mut u64).write(argument);
        ((sp + 8) as *mut u64).write(first as usize as u64);
    }
    args[1] = sp;
    keys::seal(56, &mut args);
    let result: i64;
    // SAFETY: as for `call`; the child never returns to this frame.
    unsafe {
        core::arch::asm!("call gadget_clone",
            inlateout("rax") 56i64 => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _);
    }
    result
}

/// Ends the running host thread without touching its stack again.
///
/// # Safety
/// Nothing that other threads need may still live on this stack.
pub unsafe fn exit_thread(status: i32) -> ! {
    let mut args = [status as u64, 0, 0, 0, 0, 0];
    keys::seal(60, &mut args);
    // SAFETY: the gadget's code does not return.
    unsafe {
        core::arch::asm!("jmp gadget_exit_thread", in("rdi") args[0], in("r9") args[5], options(noreturn))
    }
}
