//! Kernel stacks: one slot a thread, `[guard page][stack][thread block]`, aligned to its size.
//!
//! The stack is the host's alternate signal stack and the kernel's stack at once: program code never runs on it, and
//! kernel code interrupted by a signal has its frame put below it. Where the kernel's memory is closed to the program ([`crate::keys`]),
//! the slot begins with its porch, a page that is the program's, and the kernel's frames leave room above them for the frame of a signal
//! that interrupts program code: `[porch][guard page][stack][room][thread block]`.

use crate::block::{ThreadBlock, ThreadState};
use crate::{Errno, gadget, gates, handler, host, keys};
use boundary::layout::{PAGE_SIZE, STACK_SLOT_SIZE, STACKS_OFFSET, STACKS_SIZE};
use core::sync::atomic::{AtomicBool, Ordering};

/// Number of slots.
pub const SLOTS: u64 = STACKS_SIZE / STACK_SLOT_SIZE;

static HAS_FSGSBASE: AtomicBool = AtomicBool::new(false);

/// Bytes kept at the end of a slot for the thread block.
pub(crate) const BLOCK_BYTES: u64 = (size_of::<ThreadBlock>() as u64).next_multiple_of(PAGE_SIZE);

/// Notes whether the host lets user mode write GS and FS (bit 1 of AT_HWCAP2). Called once, at boot.
pub fn set_fsgsbase(available: bool) {
    HAS_FSGSBASE.store(available, Ordering::Relaxed);
}

fn slot_start(slot: u64) -> u64 {
    crate::region::base() + STACKS_OFFSET + slot * STACK_SLOT_SIZE
}

/// Where the thread block of `slot` lies; also the top of its stack.
pub fn block_of(slot: u64) -> *mut ThreadBlock {
    (slot_start(slot) + STACK_SLOT_SIZE - BLOCK_BYTES) as *mut ThreadBlock
}

/// Whether the thread that was prepared on `slot` has left it for good.
///
/// # Safety
/// The slot's memory is mapped in the calling process, which has prepared it.
pub unsafe fn is_left(slot: u64) -> bool {
    // SAFETY: mapped, as the caller vouches; the word is the host's and ours to read.
    unsafe { (*block_of(slot)).occupied.load(Ordering::Acquire) == 0 }
}

/// Slot of the running thread.
pub fn current_slot() -> u64 {
    (ThreadBlock::current().this - slot_start(0)) / STACK_SLOT_SIZE
}

/// Gives back a prepared slot on which no thread was started.
pub fn release(slot: u64) {
    // SAFETY: a prepared slot is mapped.
    unsafe { (*block_of(slot)).occupied.store(0, Ordering::Release) };
}

/// Address of the word that the host clears when the thread on `slot` has ended.
pub fn occupied_word(slot: u64) -> u64 {
    // SAFETY: only computes an address.
    unsafe { &raw const (*block_of(slot)).occupied as u64 }
}

/// Where its memory begins, behind what guards it.
fn low(slot: u64) -> u64 {
    slot_start(slot) + if keys::on() { 2 * PAGE_SIZE } else { PAGE_SIZE }
}

/// Where the kernel's frames begin.
fn top(slot: u64) -> u64 {
    gates::stack_below(block_of(slot) as u64)
}

/// Makes slot memory usable, unless it is `mapped` already, and writes a fresh block there.
///
/// # Safety
/// No thread uses the slot.
pub unsafe fn prepare(slot: u64, mapped: bool, state: *const ThreadState) -> Result<(), Errno> {
    let (low, read_write) = (low(slot), host::PROT_READ | host::PROT_WRITE);
    let length = slot_start(slot) + STACK_SLOT_SIZE - low;
    if !mapped && keys::on() {
        // Reserved by the launcher, with the kernel's key, which it keeps.
        host::mprotect(low, length, read_write)?;
        host::map_anonymous_fixed(slot_start(slot), PAGE_SIZE, read_write)?;
    } else if !mapped {
        host::map_anonymous_fixed(low, length, read_write)?;
    }
    // SAFETY: it is mapped, and the caller vouches that nobody uses it.
    unsafe {
        ThreadBlock::init(block_of(slot), state);
        gates::take_frame_away(block_of(slot) as u64);
    }
    Ok(())
}

/// Takes over the calling host thread for `slot`: GS, alternate stack.
///
/// # Safety
/// `prepare(slot)` was done; the thread runs on that slot's stack or on a stack it will soon leave.
pub unsafe fn adopt(slot: u64) -> Result<(), Errno> {
    let block = block_of(slot);
    set_gs_base(block as u64)?;
    let stack = host::SigAltStack { sp: low(slot), flags: 0, pad: 0, size: block as u64 - low(slot) };
    host::sigaltstack(&stack)?;
    // Blocked by who started the thread.
    if keys::on() { host::set_signal_mask(0) } else { Ok(()) }
}

fn set_gs_base(base: u64) -> Result<(), Errno> {
    if HAS_FSGSBASE.load(Ordering::Relaxed) {
        // SAFETY: the instruction is available; GS is the kernel's.
        unsafe {
            core::arch::asm!(
                "wrgsbase {base}",
                // With the keys closed, nobody comes back from here with another GS.
                "mov {base}, [rip + {token}]",
                base = inout(reg) base => _,
                token = sym keys::TOKEN,
                options(nostack, preserves_flags)
            )
        };
        return Ok(());
    }
    host::arch_prctl(host::ARCH_SET_GS, base)
}

/// Sets the program's thread pointer.
pub fn set_fs_base(base: u64) -> Result<(), Errno> {
    if HAS_FSGSBASE.load(Ordering::Relaxed) {
        // SAFETY: kernel code never uses FS; a non-canonical address was refused by the caller.
        unsafe { core::arch::asm!("wrfsbase {}", in(reg) base, options(nostack, preserves_flags)) };
        return Ok(());
    }
    host::arch_prctl(host::ARCH_SET_FS, base)
}

/// The program's thread pointer.
pub fn fs_base() -> u64 {
    let mut base = 0u64;
    if HAS_FSGSBASE.load(Ordering::Relaxed) {
        // SAFETY: reads a register.
        unsafe { core::arch::asm!("rdfsbase {}", out(reg) base, options(nostack, preserves_flags)) };
    } else {
        let _ = host::arch_prctl(host::ARCH_GET_FS, &raw mut base as u64);
    }
    base
}

/// Runs `first(argument)` on the stack of `slot`, leaving the present stack for good.
///
/// # Safety
/// `adopt(slot)` was done, and nothing on the present stack is needed any more.
pub unsafe fn switch_to(slot: u64, first: unsafe extern "C" fn(u64) -> !, argument: u64) -> ! {
    // SAFETY: the slot's stack is ours, its top is aligned to a page; `first` does not return.
    unsafe {
        core::arch::asm!("mov rsp, {0}", "xor ebp, ebp", "call {1}", "ud2",
            in(reg) top(slot), in(reg) first, in("rdi") argument, options(noreturn))
    }
}

/// Starts a host thread (or a process that shares memory) on `slot`; `flags`, `parent_tid`, `child_tid` are clone(2)'s.
/// The new thread begins in `first(argument)` and must call [`adopt`] before anything else.
///
/// # Safety
/// `prepare(slot)` was done and nobody uses the slot; `first` does not return; the tid addresses are valid for as long as
/// the host may write to them.
pub unsafe fn spawn(
    slot: u64,
    flags: u64,
    parent_tid: u64,
    child_tid: u64,
    first: unsafe extern "C" fn(u64) -> !,
    argument: u64,
) -> Result<i32, Errno> {
    // Until it has adopted the slot, GS leads to the block of its parent: the gate of signals does not take that for the host's doing.
    if keys::on() {
        host::set_signal_mask(handler::SENT)?;
    }
    // SAFETY: the caller vouches for slot and function.
    let result =
        unsafe { gadget::clone_onto(top(slot), first, argument, [flags, 0, parent_tid, child_tid, 0, 0]) };
    if keys::on() {
        host::set_signal_mask(0)?;
    }
    host::check(result).map(|tid| tid as i32)
}

/// Ends the process without the gadget, by a fault on the last bytes of this thread's alternate stack: the host kills what it must
/// signal there without room. With the stack pointer below the alternate stack it would begin that stack afresh, fault by fault,
/// for ever (`arch/x86/kernel/signal.c`, `get_sigframe`).
pub(crate) fn end_without_a_call() -> ! {
    const RED_ZONE: u64 = 128;
    const SLOT_MASK: i32 = -(STACK_SLOT_SIZE as i32);
    // From the start of the slot.
    let start = low(0) - slot_start(0) + RED_ZONE + 64;
    // SAFETY: the process ends here; nothing on the stack is read again.
    unsafe {
        core::arch::asm!(
            "and rsp, {slot}",
            "add rsp, {start:r}",
            "ud2",
            slot = const SLOT_MASK,
            start = in(reg) start,
            options(noreturn)
        )
    }
}
