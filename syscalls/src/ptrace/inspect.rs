//! What a tracer asks about a stop: signals, masks, events, calls.

use super::{Request, pt};
use crate::{Errno, Result};
use kernel::signal::{self, SigInfo, SigSet, UNBLOCKABLE};
use kernel::task::trace::StopKind;
use kernel::uaccess;
use trap_handler::regs::Regs;

pub fn event_message(request: &Request<'_>) -> Result<u64> {
    let message = request.tracee.trace.lock().message;
    uaccess::write(request.data, &message)?;
    Ok(0)
}

pub fn get_info(request: &Request<'_>) -> Result<u64> {
    let stop = request.tracee.trace.lock().stop.ok_or(Errno::ESRCH)?;
    uaccess::write(request.data, &stop.info.ok_or(Errno::EINVAL)?)?;
    Ok(0)
}

pub fn set_info(request: &Request<'_>) -> Result<u64> {
    let new = uaccess::read::<SigInfo>(request.data)?.filled_in();
    let mut state = request.tracee.trace.lock();
    let stop = state.stop.as_mut().ok_or(Errno::ESRCH)?;
    *stop.info.as_mut().ok_or(Errno::EINVAL)? = new;
    Ok(0)
}

/// `struct ptrace_peeksiginfo_args`: offset, flags, count.
pub fn peek_infos(request: &Request<'_>) -> Result<u64> {
    let [offset, rest]: [u64; 2] = uaccess::read(request.address)?;
    let (flags, count) = (rest as u32, (rest >> 32) as i32);
    if flags & !pt::PTRACE_PEEKSIGINFO_SHARED != 0 || count < 0 {
        return Err(Errno::EINVAL);
    }
    let group = &request.tracee.group;
    let infos = {
        let signals = group.signals.lock();
        if flags & pt::PTRACE_PEEKSIGINFO_SHARED != 0 {
            signals.pending.list()
        } else {
            request.tracee.signals.lock().pending.list()
        }
    };
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut shown = 0u64;
    for info in infos.iter().skip(from).take(count as usize) {
        let at = request.data.wrapping_add(shown * size_of::<SigInfo>() as u64);
        match uaccess::write(at, info) {
            Ok(()) => shown += 1,
            Err(errno) if shown == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(shown)
}

fn check_mask_size(request: &Request<'_>) -> Result<()> {
    if request.address == size_of::<SigSet>() as u64 { Ok(()) } else { Err(Errno::EINVAL) }
}

pub fn get_mask(request: &Request<'_>) -> Result<u64> {
    check_mask_size(request)?;
    let mask = {
        let own = request.tracee.signals.lock();
        own.restore_mask.unwrap_or(own.blocked)
    };
    uaccess::write(request.data, &mask)?;
    Ok(0)
}

pub fn set_mask(request: &Request<'_>) -> Result<u64> {
    check_mask_size(request)?;
    let mask: SigSet = uaccess::read(request.data)?;
    request.tracee.signals.lock().blocked = mask & !UNBLOCKABLE;
    // What the new mask lets through is looked for when the tracee goes on.
    signal::kick(&request.tracee, kernel::task::work::SIGNAL);
    Ok(0)
}

/// `struct ptrace_syscall_info`; gives its whole size, however much there is room for.
pub fn call_info(request: &Request<'_>) -> Result<u64> {
    const AUDIT_ARCH_X86_64: u64 = 0xc000_003e;
    let (stop, regs) = {
        let state = request.tracee.trace.lock();
        let registers = state.registers.as_ref().ok_or(Errno::ESRCH)?;
        (state.stop.ok_or(Errno::ESRCH)?, registers.general)
    };
    // Without PTRACE_O_TRACESYSGOOD a call's stop cannot be told from others.
    let kind = if stop.code & 0x80 != 0 { stop.kind } else { StopKind::Other };
    let (operation, length) = match kind {
        StopKind::CallEntry => (pt::PTRACE_SYSCALL_INFO_ENTRY, 80),
        StopKind::CallExit => (pt::PTRACE_SYSCALL_INFO_EXIT, 33),
        StopKind::Signal | StopKind::Other => (pt::PTRACE_SYSCALL_INFO_NONE, 24),
    };
    let mut words = [0u64; 11];
    words[0] = u64::from(operation) | AUDIT_ARCH_X86_64 << 32;
    words[1] = regs.rip;
    words[2] = regs.rsp;
    match kind {
        StopKind::CallEntry => {
            words[3] = regs.orig_rax;
            words[4..10].copy_from_slice(&regs.args());
        }
        StopKind::CallExit => {
            words[3] = regs.rax;
            words[4] = u64::from(is_error(&regs));
        }
        StopKind::Signal | StopKind::Other => {}
    }
    let bytes: alloc::vec::Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let room = usize::try_from(request.address).unwrap_or(usize::MAX).min(length);
    uaccess::write_bytes(request.data, bytes.get(..room).unwrap_or(&[]))?;
    Ok(length as u64)
}

fn is_error(regs: &Regs) -> bool {
    (-4095..0).contains(&(regs.rax as i64))
}
