//! The ways into the kernel and out of it when its memory is closed to program code ([`crate::keys`]).
//!
//! Anyone can jump to any instruction here. What holds all the same:
//!
//! - Behind each WRPKRU comes a look at what it was given: one that opens leads into the kernel and nowhere else, one that closes has
//!   closed. A jump behind it faults on closed memory.
//! - What must be stored before the keys open, and loaded after they close, are the program's own registers. They lie on the thread's
//!   porch, a page of the program's key.
//! - GS is this thread's block or nothing: program code has no WRGSBASE (it is kept out of its pages), a selector gives base 0, and the
//!   kernel's own use of the instruction touches closed memory next.
//! - `inside` says whether kernel code runs on this thread. A signal that finds program code has its frame at the one place where the host
//!   puts it, which nothing else ever writes, and its number is erased when it is taken: no frame is taken twice, and none can be forged.
//!   A signal that finds kernel code is the host's, since nobody else runs on this thread then.

use crate::block::ThreadBlock;
use crate::handler::{SigInfo, UContext};
use crate::regs::Regs;
use crate::{Errno, entry, gadget, handler, host, keys, region, stack};
use boundary::layout::{STACK_SLOT_SIZE, STACKS_SIZE};
use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

/// Bytes from the start of a signal frame to its context and its information (`struct rt_sigframe`).
const CONTEXT_AT: u64 = 8;
const INFO_AT: u64 = CONTEXT_AT + 304;
const SLOT_SHIFT: u32 = STACK_SLOT_SIZE.trailing_zeros();
const STACKS_GIB: u64 = STACKS_SIZE >> 30;
const _: () = assert!(STACKS_SIZE.is_multiple_of(1 << 30) && size_of::<UContext>() <= 304);

/// Where kernel stacks begin, for the gate of signals.
pub(crate) static STACKS: AtomicU64 = AtomicU64::new(0);
/// Bytes that the host takes for a signal's frame from the top of an alternate stack; 0: not known yet.
static FRAME_BYTES: AtomicU64 = AtomicU64::new(0);

macro_rules! way_in {
    ($name:literal, $to:literal) => {
        concat!(
            ".balign 16\n.globl ",
            $name,
            "\n",
            $name,
            ":\n",
            // No instruction changes a flag before the stub has stored them.
            "mov gs:[{rax}], rax\n",
            "mov gs:[{rcx}], rcx\n",
            "mov gs:[{rdx}], rdx\n",
            "mov eax, 0\n",
            "mov ecx, 0\n",
            "mov edx, 0\n",
            "wrpkru\n",
            "mov ecx, eax\n",
            "jrcxz 2f\n",
            "ud2\n",
            "2:\n",
            "mov dword ptr gs:[{inside}], 1\n",
            "mov rax, gs:[{rax}]\n",
            "mov rcx, gs:[{rcx}]\n",
            "mov rdx, gs:[{rdx}]\n",
            "jmp ",
            $to,
            "\n",
        )
    };
}

global_asm!(
    ".globl ways_in",
    "ways_in:",
    way_in!("way_in_patched", "entry_patched"),
    way_in!("way_in_call", "entry_call"),
    way_in!("way_in_aside", "entry_aside"),
    ".globl ways_in_end",
    "ways_in_end:",
    rax = const porch(offset_of!(Porch, rax)),
    rcx = const porch(offset_of!(Porch, rcx)),
    rdx = const porch(offset_of!(Porch, rdx)),
    inside = const offset_of!(ThreadBlock, inside),
);

global_asm!(
    // The rest of `exit_to_user`: RSP is the start of the record, and xmm and mxcsr are the program's already.
    ".balign 16",
    ".globl way_out",
    "way_out:",
    "mov rcx, [rsp + {record_rip}]",
    "cmp rcx, gs:[{resume_from}]",
    "cmove rcx, gs:[{resume_to}]",
    "mov gs:[{rip}], rcx",
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
    "mov gs:[{rax}], rax",
    "pop rcx",
    "mov gs:[{rcx}], rcx",
    "pop rdx",
    "mov gs:[{rdx}], rdx",
    "pop rsi",
    "pop rdi",
    "lea rsp, [rsp + 16]", // orig_rax, rip
    "popfq",
    "pop rsp",
    "mov dword ptr gs:[{inside}], 0",
    "mov eax, {closed}",
    "mov ecx, 0",
    "mov edx, 0",
    "wrpkru",
    // The flags are the program's already.
    "lea ecx, [rax - {closed}]",
    "jrcxz 3f",
    "ud2",
    "3:",
    ".globl way_out_closed",
    "way_out_closed:",
    "mov rax, gs:[{rax}]",
    "mov rcx, gs:[{rcx}]",
    "mov rdx, gs:[{rdx}]",
    "jmp qword ptr gs:[{rip}]",
    ".globl way_out_end",
    "way_out_end:",
    record_rip = const offset_of!(Regs, rip),
    resume_from = const offset_of!(ThreadBlock, resume_from),
    resume_to = const offset_of!(ThreadBlock, resume_to),
    inside = const offset_of!(ThreadBlock, inside),
    rax = const porch(offset_of!(Porch, rax)),
    rcx = const porch(offset_of!(Porch, rcx)),
    rdx = const porch(offset_of!(Porch, rdx)),
    rip = const porch(offset_of!(Porch, rip)),
    closed = const keys::CLOSED,
);

global_asm!(
    // The host's signal handler: the host passes a frame at RSP, with the keys as they are in a new process.
    ".balign 16",
    ".globl gate_of_signals",
    "gate_of_signals:",
    "mov eax, 0",
    "mov ecx, 0",
    "mov edx, 0",
    "wrpkru",
    "test eax, eax",
    "jnz 9f",
    // GS leads to the block at the end of the slot in which the frame lies.
    "rdgsbase rax",
    "mov rcx, rsp",
    "xor rcx, rax",
    "shr rcx, {slot_shift}",
    "jnz 9f",
    "mov rcx, rax",
    "sub rcx, [rip + {stacks}]",
    "shr rcx, 30",
    "cmp rcx, {stacks_gib}",
    "jae 9f",
    "and eax, {slot_mask}",
    "cmp eax, {block_at}",
    "jne 9f",
    "mov ebx, gs:[{inside}]",
    "test ebx, ebx",
    "jnz 4f",
    "cmp rsp, gs:[{frame}]",
    "jne 9f",
    "mov dword ptr gs:[{inside}], 1",
    "4:",
    "lea rsi, [rsp + {info_at}]",
    "mov edi, [rsi]",
    "test edi, edi",
    "jz 9f",
    "mov dword ptr [rsi], 0",
    "lea rdx, [rsp + {context_at}]",
    "mov ecx, ebx",
    "mov rbp, rsp",
    "and rsp, -16",
    "cld",
    // Alignment is not checked for the kernel's code.
    "pushfq",
    "and dword ptr [rsp], {not_ac}",
    "popfq",
    "call {signal}",
    "mov gs:[{inside}], eax",
    "lea rsp, [rbp + {context_at}]",
    "mov r9, [rip + {token}]",
    "jmp {sigreturn}",
    // Nothing that the host has done leads here: the fault says so.
    "9:",
    "ud2",
    not_ac = const !0x4_0000i32,
    slot_shift = const SLOT_SHIFT,
    slot_mask = const STACK_SLOT_SIZE - 1,
    block_at = const STACK_SLOT_SIZE - stack::BLOCK_BYTES,
    stacks = sym STACKS,
    stacks_gib = const STACKS_GIB,
    inside = const offset_of!(ThreadBlock, inside),
    frame = const offset_of!(ThreadBlock, frame),
    info_at = const INFO_AT,
    context_at = const CONTEXT_AT,
    signal = sym signal,
    token = sym keys::TOKEN,
    sigreturn = sym gadget::gadget_sigreturn,
);

unsafe extern "C" {
    static ways_in: u8;
    static ways_in_end: u8;
    pub(crate) static way_in_patched: u8;
    pub(crate) static way_in_call: u8;
    pub(crate) static way_in_aside: u8;
    static way_out: u8;
    static way_out_closed: u8;
    static way_out_end: u8;
    pub(crate) static gate_of_signals: u8;
}

/// The program's registers on their way in or out, on the thread's page of the program's key. Other threads of the program may change
/// them, which is as if they had changed what the thread does next.
#[repr(C)]
struct Porch {
    rax: u64,
    rcx: u64,
    rdx: u64,
    rip: u64,
}

/// From a block to a word of its thread's porch, the first page of the slot.
const fn porch(offset: usize) -> i64 {
    offset as i64 - (STACK_SLOT_SIZE - stack::BLOCK_BYTES) as i64
}

fn address_of(symbol: *const u8) -> u64 {
    symbol as u64
}

fn within(rip: u64, start: *const u8, end: *const u8) -> bool {
    rip >= address_of(start) && rip < address_of(end)
}

/// Whether a thread is on its way in, with the keys closed or open, and nothing stored yet.
pub(crate) fn comes_in(rip: u64) -> bool {
    within(rip, &raw const ways_in, &raw const ways_in_end)
}

/// Whether a thread is on its way out, and the keys are still open.
pub(crate) fn goes_out(rip: u64) -> bool {
    within(rip, &raw const way_out, &raw const way_out_closed)
}

/// Where the host puts a signal's frame if it interrupts program code, for the thread whose stack ends at `top`.
pub(crate) fn frame_below(top: u64) -> u64 {
    top - FRAME_BYTES.load(Ordering::Relaxed)
}

/// Where the kernel's own frames begin below `top`: on whole pages, which the host's signal frames never reach.
pub(crate) fn stack_below(top: u64) -> u64 {
    top - FRAME_BYTES.load(Ordering::Relaxed).next_multiple_of(boundary::layout::PAGE_SIZE)
}

/// Makes what lies where a signal's frame would no frame: a forked child has a copy of what other threads of its parent had there.
///
/// # Safety
/// The stack below `top` is mapped and nobody's.
pub(crate) unsafe fn take_frame_away(top: u64) {
    if keys::on() && FRAME_BYTES.load(Ordering::Relaxed) != 0 {
        // SAFETY: the caller's.
        unsafe { ((frame_below(top) + INFO_AT) as *mut u32).write(0) }
    }
}

/// Learns where the host puts signal frames, by a signal. Called once, at boot, by a thread that has its alternate stack and does not
/// run on it.
pub fn learn_frames() -> Result<(), Errno> {
    let (process, thread) = (host::getpid(), host::gettid());
    host::tgkill(process, thread, handler::POKE)?;
    let block = ThreadBlock::current();
    if FRAME_BYTES.load(Ordering::Relaxed) == 0 {
        return Err(Errno::EFAULT);
    }
    block.place_frames();
    Ok(())
}

/// The rest of the gate; gives what `inside` is to be at the return.
unsafe extern "C" fn signal(signal: i32, info: *const SigInfo, context: *mut UContext, inside: u32) -> u32 {
    if FRAME_BYTES.load(Ordering::Relaxed) == 0 {
        let top = ThreadBlock::current() as *const ThreadBlock as u64;
        FRAME_BYTES.store(top - (context as u64 - CONTEXT_AT), Ordering::Relaxed);
        return inside;
    }
    // SAFETY: the gate has found that the host wrote the frame, on this thread's alternate stack.
    let (info, context) = unsafe { (&*info, &mut *context) };
    // The one place where kernel code asks to go on where the program says, which may be in the kernel's text.
    let leaves = context.rip == address_of(&raw const entry::exit_by_signal);
    if within(context.rip, &raw const way_out_closed, &raw const way_out_end) {
        finish_way_out(context);
    }
    handler::handle(signal, info, context);
    let to_program = leaves || !region::is_kernel_code(context.rip);
    if to_program
        || context.rip == address_of(&raw const way_in_call)
        || context.rip == address_of(&raw const way_in_aside)
    {
        keys::close_at_return(context);
        return 0;
    }
    // From where it was closed already it is done again from its start.
    if context.rip == address_of(&raw const entry::exit_to_user) { 1 } else { inside }
}

/// The keys are closed, and the program's last registers on the porch: as if it had gone on already.
fn finish_way_out(context: &mut UContext) {
    let porch =
        (ThreadBlock::current() as *const ThreadBlock as u64).wrapping_add_signed(porch(0)) as *const Porch;
    // SAFETY: the porch is mapped as long as the thread lives; other threads of the program may write to it.
    let porch = unsafe { porch.read_volatile() };
    (context.rax, context.rcx, context.rdx, context.rip) = (porch.rax, porch.rcx, porch.rdx, porch.rip);
}
