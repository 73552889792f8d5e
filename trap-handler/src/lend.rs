//! A kernel stack that another task uses for a while: what the lender has on it, and its thread block, are kept aside.
//!
//! The borrower's program enters the kernel at the top of the same stack, so the lender's frames would be written over. They go
//! back to where they were, which keeps every pointer into them valid.

use crate::block::ThreadBlock;
use crate::{keys, stack};
use core::arch::global_asm;
use core::mem::offset_of;

/// Words for the stack of a call and its thread block. What takes more is not lent.
const WORDS: usize = 1534;

/// Where the stack and the block are kept. Its contents are [`lend`]'s alone.
#[repr(C)]
pub struct Place {
    stack_pointer: u64,
    length: u64,
    words: [u64; WORDS],
}

global_asm!(
    // rdi: place, rsi: end of the block, rdx: function, rcx: its argument.
    ".balign 16",
    "lend_stack:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov r8, rcx",
    "mov rcx, rsi",
    "sub rcx, rsp",
    "cmp rcx, {room}",
    "ja 2f",
    "mov [rdi + {stack_pointer}], rsp",
    "mov [rdi + {length}], rcx",
    "add rdi, {words}",
    "mov rsi, rsp",
    "shr rcx, 3",
    "rep movsq",
    "mov rdi, r8",
    "sub rsp, 8", // the stack is aligned at a call
    "call rdx",
    "ud2",
    "2:",
    "xor eax, eax",
    "jmp 3f",
    // rdi: place. The frame of a poke that comes meanwhile lies below what is put back.
    ".balign 16",
    "return_stack:",
    "mov r8, [rdi + {stack_pointer}]",
    "mov rcx, [rdi + {length}]",
    "lea rsp, [r8 - 256]",
    "lea rsi, [rdi + {words}]",
    "mov rdi, r8",
    "shr rcx, 3",
    "rep movsq",
    "mov rsp, r8",
    "mov eax, 1",
    "3:",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    room = const WORDS * 8,
    stack_pointer = const offset_of!(Place, stack_pointer),
    length = const offset_of!(Place, length),
    words = const offset_of!(Place, words),
);

unsafe extern "C" {
    fn lend_stack(place: *mut Place, end: u64, first: unsafe extern "C" fn(u64) -> !, argument: u64) -> u32;
    fn return_stack(place: *mut Place) -> !;
}

/// Runs `first(argument)`, which makes another task the running one and leaves for its program, and returns when [`give_back`] is
/// called with the same place: everything is as it was then but the thread pointer and the extended state. `false` if the stack
/// holds too much, and where it is closed to the program: its signal frames have a place of their own there.
///
/// # Safety
/// `place` may be written, and stays until this returns; it need not hold anything.
pub unsafe fn lend(place: *mut Place, first: unsafe extern "C" fn(u64) -> !, argument: u64) -> bool {
    if keys::on() {
        return false;
    }
    let end = stack::block_of(stack::current_slot()) as u64 + size_of::<ThreadBlock>() as u64;
    // SAFETY: the running thread's stack and block reach up to `end`; the caller vouches for the rest.
    unsafe { lend_stack(place, end, first, argument) != 0 }
}

/// Lets the lender go on; what the stack holds now is forgotten.
///
/// # Safety
/// The calling thread runs on the stack that was lent with `place`, and nothing on it needs dropping.
pub unsafe fn give_back(place: *mut Place) -> ! {
    // SAFETY: the caller's.
    unsafe { return_stack(place) }
}
