//! Signal frames: the program's registers on its own stack, exactly as Linux lays them out
//! (`arch/x86/include/uapi/asm/sigcontext.h`, `arch/x86/kernel/signal_64.c`).

use super::*;
use crate::task::Task;
use crate::uaccess;
use crate::{Errno, Result};
use alloc::boxed::Box;
use boundary::layout::USER_END;
use trap_handler::regs::{FLAG_DF, FLAG_RF, FLAG_TF, FLAGS_FIXED, Regs, USER_FLAGS};
use trap_handler::xstate;

/// `struct ucontext` with `struct sigcontext`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct UContext {
    flags: u64,
    link: u64,
    stack_sp: u64,
    stack_flags: i32,
    stack_pad: i32,
    stack_size: u64,
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    eflags: u64,
    /// cs, gs, fs, ss: 16 bits each.
    segments: u64,
    err: u64,
    trapno: u64,
    oldmask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
    mask: SigSet,
}

/// `struct rt_sigframe`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Frame {
    restorer: u64,
    context: UContext,
    info: SigInfo,
}

// SAFETY: integers only, no padding.
unsafe impl Plain for Frame {}
// SAFETY: integers only, no padding.
unsafe impl Plain for UContext {}

const _: () = assert!(size_of::<UContext>() == 304 && size_of::<Frame>() == 440);

/// cs 0x33, ss 0x2b, as every 64-bit program has.
const SEGMENTS: u64 = 0x33 | 0x2b << 48;
/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const CONTEXT_FLAGS: u64 = 7;
const RED_ZONE: u64 = 128;
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
/// Where the frame's image describes itself (`fx_sw_bytes`).
const SW_BYTES: usize = 464;

/// Sets the program up to run `action`'s handler for `info`. `Err` when the frame cannot be written: the caller then forces
/// SIGSEGV.
pub fn deliver_to_handler(task: &Task, regs: &mut Regs, info: &SigInfo, action: &Action) -> Result<()> {
    if action.flags & sa::RESTORER == 0 {
        return Err(Errno::EFAULT);
    }
    let mut own = task.signals.lock();
    let (mask, stack) = (own.restore_mask.take().unwrap_or(own.blocked), own.altstack);
    let (trapno, err, cr2) = own.fault;

    let mut sp = regs.rsp.wrapping_sub(RED_ZONE);
    let nested = stack.contains(regs.rsp);
    if action.flags & sa::ONSTACK != 0 && stack.size != 0 && !nested {
        sp = stack.sp.wrapping_add(stack.size);
    }
    let state_size = xstate::size() as u64;
    let fpstate = sp.wrapping_sub(state_size + 4) & !63;
    let at = (fpstate.wrapping_sub(size_of::<Frame>() as u64) & !15).wrapping_sub(8);
    // A stack that overflows the alternate stack is the program's end (SIGSEGV), as in Linux.
    if (nested || (action.flags & sa::ONSTACK != 0 && stack.size != 0)) && !stack.holds(at) {
        return Err(Errno::EFAULT);
    }

    let mut area = Box::new(xstate::Area::new());
    xstate::save(&mut area);
    let describe = |area: &mut xstate::Area| -> Option<()> {
        let sw = area.0.get_mut(SW_BYTES..SW_BYTES + 24)?;
        sw.get_mut(0..4)?.copy_from_slice(&FP_XSTATE_MAGIC1.to_le_bytes());
        sw.get_mut(4..8)?.copy_from_slice(&(state_size as u32 + 4).to_le_bytes());
        sw.get_mut(8..16)?.copy_from_slice(&xstate::components().to_le_bytes());
        sw.get_mut(16..20)?.copy_from_slice(&(state_size as u32).to_le_bytes());
        Some(())
    };
    describe(&mut area).ok_or(Errno::EFAULT)?;
    uaccess::write_bytes(fpstate, area.0.get(..state_size as usize).ok_or(Errno::EFAULT)?)?;
    uaccess::write(fpstate.wrapping_add(state_size), &FP_XSTATE_MAGIC2)?;

    let context = UContext {
        flags: CONTEXT_FLAGS,
        stack_sp: stack.sp,
        stack_flags: stack.flags(regs.rsp),
        stack_size: stack.size,
        r8: regs.r8,
        r9: regs.r9,
        r10: regs.r10,
        r11: regs.r11,
        r12: regs.r12,
        r13: regs.r13,
        r14: regs.r14,
        r15: regs.r15,
        rdi: regs.rdi,
        rsi: regs.rsi,
        rbp: regs.rbp,
        rbx: regs.rbx,
        rdx: regs.rdx,
        rax: regs.rax,
        rcx: regs.rcx,
        rsp: regs.rsp,
        rip: regs.rip,
        eflags: regs.rflags,
        segments: SEGMENTS,
        err,
        trapno,
        oldmask: mask,
        cr2,
        fpstate,
        mask,
        ..UContext::default()
    };
    uaccess::write(at, &Frame { restorer: action.restorer, context, info: *info })?;

    if stack.autodisarm {
        own.altstack = AltStack::default();
    }
    drop(own);
    let itself = if action.flags & sa::NODEFER == 0 { bit(info.signal) } else { 0 };
    task.set_blocked(mask | action.mask | itself);

    regs.rdi = info.signal as u64;
    regs.rsi = at + core::mem::offset_of!(Frame, info) as u64;
    regs.rdx = at + core::mem::offset_of!(Frame, context) as u64;
    regs.rax = 0;
    regs.rip = action.handler;
    regs.rsp = at;
    regs.rflags &= !(FLAG_DF | FLAG_RF | FLAG_TF);
    regs.orig_rax = Regs::NO_CALL;
    Ok(())
}

/// rt_sigreturn(2): takes the context back from the frame, sanitised. `Err` when the frame is not valid: the caller
/// forces SIGSEGV.
pub fn sigreturn(task: &Task, regs: &mut Regs) -> Result<()> {
    let at = regs.rsp.wrapping_sub(8);
    let context: UContext = uaccess::read(at.wrapping_add(core::mem::offset_of!(Frame, context) as u64))?;
    if context.rip >= USER_END {
        return Err(Errno::EFAULT);
    }
    let mut area = Box::new(xstate::Area::new());
    if context.fpstate == 0 {
        xstate::reset();
    } else {
        read_state(&mut area, context.fpstate)?;
        if !xstate::load(&mut area) {
            return Err(Errno::EFAULT);
        }
    }
    *regs = Regs {
        r15: context.r15,
        r14: context.r14,
        r13: context.r13,
        r12: context.r12,
        rbp: context.rbp,
        rbx: context.rbx,
        r11: context.r11,
        r10: context.r10,
        r9: context.r9,
        r8: context.r8,
        rax: context.rax,
        rcx: context.rcx,
        rdx: context.rdx,
        rsi: context.rsi,
        rdi: context.rdi,
        orig_rax: Regs::NO_CALL,
        rip: context.rip,
        rflags: (context.eflags & USER_FLAGS) | FLAGS_FIXED,
        rsp: context.rsp,
        pad: 0,
    };
    {
        let mut own = task.signals.lock();
        let wanted = AltStack {
            sp: context.stack_sp,
            size: context.stack_size,
            autodisarm: context.stack_flags & i32::MIN != 0,
        };
        // As `restore_altstack`: an invalid one is not an error, it just does not take effect.
        if context.stack_flags & 2 != 0 {
            own.altstack = AltStack::default();
        } else if wanted.size >= 2048 && !own.altstack.contains(regs.rsp) {
            own.altstack = wanted;
        }
    }
    task.set_blocked(context.mask);
    Ok(())
}

/// Reads the extended state of a frame: with its extension if it says it has one, else the 512 bytes of FXSAVE.
fn read_state(area: &mut xstate::Area, from: u64) -> Result<()> {
    let size = xstate::size();
    let legacy = area.0.get_mut(..512).ok_or(Errno::EFAULT)?;
    trap_handler::copy::from_user(legacy, from)?;
    let word = |at: usize| {
        let bytes = legacy.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; 4]);
        u32::from_le_bytes(bytes)
    };
    let extended = word(SW_BYTES) == FP_XSTATE_MAGIC1
        && word(SW_BYTES + 16) as usize == size
        && uaccess::read::<u32>(from.wrapping_add(size as u64)) == Ok(FP_XSTATE_MAGIC2);
    if extended {
        trap_handler::copy::from_user(area.0.get_mut(..size).ok_or(Errno::EFAULT)?, from)?;
    } else {
        // x87 and SSE come from the image, the rest is initial.
        area.0.get_mut(512..).ok_or(Errno::EFAULT)?.fill(0);
        if let Some(present) = area.0.get_mut(512) {
            *present = 3;
        }
    }
    // Software bytes are Linux's, not the processor's.
    area.0.get_mut(SW_BYTES..512).ok_or(Errno::EFAULT)?.fill(0);
    Ok(())
}
