//! The entry point, the allocator and the end of a kernel that has panicked.

use core::arch::global_asm;
use core::panic::PanicInfo;

extern crate alloc;

#[global_allocator]
static HEAP: kernel::heap::Heap = kernel::heap::Heap;

// The launcher jumps here with rdi = region base. The image is linked at 0: apply the RELATIVE relocations (the only kind that
// a static-pie without imports has), using nothing that needs them.
global_asm!(
    ".globl _start",
    "_start:",
    "lea rax, [rip + __ehdr_start]",
    "lea rcx, [rip + _DYNAMIC]",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "2:",
    "mov rdx, [rcx]",
    "test rdx, rdx",
    "jz 3f",
    "cmp rdx, 7", // DT_RELA
    "cmove r8, [rcx + 8]",
    "cmp rdx, 8", // DT_RELASZ
    "cmove r9, [rcx + 8]",
    "add rcx, 16",
    "jmp 2b",
    "3:",
    "add r8, rax",
    "add r9, r8",
    "4:",
    "cmp r8, r9",
    "jae 6f",
    "cmp dword ptr [r8 + 8], 8", // R_X86_64_RELATIVE
    "jne 5f",
    "mov rdx, [r8]",
    "mov rsi, [r8 + 16]",
    "add rsi, rax",
    "mov [rax + rdx], rsi",
    "5:",
    "add r8, 24",
    "jmp 4b",
    "6:",
    "and rsp, -16",
    "xor ebp, ebp",
    "call {main}",
    "ud2",
    main = sym image_main,
);

unsafe extern "C" fn image_main(base: u64) -> ! {
    syscalls::boot::start(base)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    syscalls::boot::panicked(info)
}

/// Referenced by precompiled parts of `core`; never called, because panics abort.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    syscalls::boot::unreachable_unwind()
}
