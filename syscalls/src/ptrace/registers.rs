//! Registers of a tracee in a stop: `struct user_regs_struct` and the extended state (`arch/x86/kernel/ptrace.c`).

use super::Request;
use crate::{Errno, Result};
use boundary::layout::USER_END;
use kernel::task::trace::Registers;
use kernel::uaccess;
use linux_raw_sys::elf_uapi as elf;
use linux_raw_sys::general as raw;
use trap_handler::xstate::{self, MAX_SIZE};

/// Words of `struct user_regs_struct`.
const WORDS: usize = 27;
/// Bytes of `struct user`.
const USER_SIZE: u64 = 928;
/// Where the debug registers lie in it.
const DEBUG_REGISTERS: u64 = 848;
/// Bytes of the x87 and SSE state (`struct user_fpregs_struct`).
const LEGACY_SIZE: usize = 512;
/// Where an image says which components it has, as Linux shows it to debuggers (`XSTATE_BV` software bytes).
const SHOWN_COMPONENTS: usize = 464;

/// Flags that a debugger may set: the arithmetic ones, DF, TF, NT, AC and RF (`FLAG_MASK`).
const DEBUGGER_FLAGS: u64 = 0x5_4dd5;
const USER_CS: u64 = 0x33;
const USER_SS: u64 = 0x2b;

impl Request<'_> {
    fn with_registers<T>(&self, act: impl FnOnce(&mut Registers) -> Result<T>) -> Result<T> {
        let mut state = self.tracee.trace.lock();
        if state.stop.is_none() {
            return Err(Errno::ESRCH);
        }
        act(state.registers.as_mut().ok_or(Errno::ESRCH)?)
    }
}

/// The words in the order of `struct user_regs_struct`.
fn words(registers: &Registers) -> [u64; WORDS] {
    let r = &registers.general;
    [
        r.r15,
        r.r14,
        r.r13,
        r.r12,
        r.rbp,
        r.rbx,
        r.r11,
        r.r10,
        r.r9,
        r.r8,
        r.rax,
        r.rcx,
        r.rdx,
        r.rsi,
        r.rdi,
        r.orig_rax,
        r.rip,
        USER_CS,
        r.rflags,
        r.rsp,
        USER_SS,
        registers.fs_base,
        0,
        0,
        0,
        0,
        0,
    ]
}

/// Sets one word (`putreg`): `EIO` for what a program cannot have.
fn put(registers: &mut Registers, index: usize, value: u64) -> Result<()> {
    let fits = |fixed: u64| if value == fixed { Ok(()) } else { Err(Errno::EIO) };
    let r = &mut registers.general;
    match index {
        0 => r.r15 = value,
        1 => r.r14 = value,
        2 => r.r13 = value,
        3 => r.r12 = value,
        4 => r.rbp = value,
        5 => r.rbx = value,
        6 => r.r11 = value,
        7 => r.r10 = value,
        8 => r.r9 = value,
        9 => r.r8 = value,
        10 => r.rax = value,
        11 => r.rcx = value,
        12 => r.rdx = value,
        13 => r.rsi = value,
        14 => r.rdi = value,
        15 => r.orig_rax = value,
        16 => r.rip = value,
        17 => return fits(USER_CS),
        18 => r.rflags = (r.rflags & !DEBUGGER_FLAGS) | (value & DEBUGGER_FLAGS),
        19 => r.rsp = value,
        20 => return fits(USER_SS),
        21 if value >= USER_END => return Err(Errno::EIO),
        21 => registers.fs_base = value,
        // GS is the kernel's; data segments are flat.
        _ => return fits(0),
    }
    Ok(())
}

fn put_words(registers: &mut Registers, values: &[u8]) -> Result<()> {
    for (index, word) in values.chunks_exact(8).take(WORDS).enumerate() {
        put(registers, index, u64::from_le_bytes(word.try_into().unwrap_or([0; 8])))?;
    }
    Ok(())
}

fn general_bytes(registers: &Registers) -> [u8; WORDS * 8] {
    let mut bytes = [0; WORDS * 8];
    for (slot, word) in bytes.chunks_exact_mut(8).zip(words(registers)) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Number of the debug register at an offset of `struct user`.
fn debug_register(offset: u64) -> Option<usize> {
    let number = offset.checked_sub(DEBUG_REGISTERS)? / 8;
    (number < 8).then_some(number as usize)
}

pub fn peek_user(request: &Request<'_>) -> Result<u64> {
    if request.address & 7 != 0 || request.address >= USER_SIZE {
        return Err(Errno::EIO);
    }
    let value = match debug_register(request.address) {
        Some(number) => request.tracee.trace.lock().debug.get(number),
        // What is no register reads as zero.
        None => request.with_registers(|registers| {
            Ok(words(registers).get((request.address / 8) as usize).copied().unwrap_or(0))
        })?,
    };
    uaccess::write(request.data, &value)?;
    Ok(0)
}

pub fn poke_user(request: &Request<'_>) -> Result<u64> {
    if request.address & 7 != 0 || request.address >= USER_SIZE {
        return Err(Errno::EIO);
    }
    let index = (request.address / 8) as usize;
    if index < WORDS {
        return request.with_registers(|registers| put(registers, index, request.data)).map(|()| 0);
    }
    let number = debug_register(request.address).ok_or(Errno::EIO)?;
    request.tracee.trace.set_debug_register(number, request.data).map(|()| 0)
}

pub fn get_general(request: &Request<'_>) -> Result<u64> {
    let bytes = request.with_registers(|registers| Ok(general_bytes(registers)))?;
    uaccess::write(request.data, &bytes)?;
    Ok(0)
}

pub fn set_general(request: &Request<'_>) -> Result<u64> {
    let bytes: [u8; WORDS * 8] = uaccess::read(request.data)?;
    request.with_registers(|registers| put_words(registers, &bytes))?;
    Ok(0)
}

fn legacy_bytes(request: &Request<'_>) -> Result<[u8; LEGACY_SIZE]> {
    request.with_registers(|registers| {
        let mut bytes = [0; LEGACY_SIZE];
        bytes.copy_from_slice(&registers.extended.0[..LEGACY_SIZE]);
        Ok(bytes)
    })
}

fn put_legacy(request: &Request<'_>, bytes: &[u8; LEGACY_SIZE]) -> Result<()> {
    request.with_registers(|registers| {
        let mut area = xstate::Area::new();
        area.0.copy_from_slice(&registers.extended.0);
        area.0[..SHOWN_COMPONENTS].copy_from_slice(&bytes[..SHOWN_COMPONENTS]);
        area.0[512] |= 3;
        put_extended(registers, area)
    })
}

fn put_extended(registers: &mut Registers, area: xstate::Area) -> Result<()> {
    if !xstate::is_valid(&area) {
        return Err(Errno::EINVAL);
    }
    registers.extended = area;
    registers.extended_changed = true;
    Ok(())
}

pub fn get_legacy(request: &Request<'_>) -> Result<u64> {
    let bytes = legacy_bytes(request)?;
    uaccess::write(request.data, &bytes)?;
    Ok(0)
}

pub fn set_legacy(request: &Request<'_>) -> Result<u64> {
    let bytes: [u8; LEGACY_SIZE] = uaccess::read(request.data)?;
    put_legacy(request, &bytes)?;
    Ok(0)
}

/// A register set by its note type: bytes as the debugger sees them.
fn set_bytes(request: &Request<'_>) -> Result<alloc::vec::Vec<u8>> {
    match u32::try_from(request.address) {
        Ok(elf::NT_PRSTATUS) => request.with_registers(|registers| Ok(general_bytes(registers).to_vec())),
        Ok(elf::NT_PRFPREG) => Ok(legacy_bytes(request)?.to_vec()),
        Ok(elf::NT_X86_XSTATE) => request.with_registers(|registers| {
            let mut bytes = registers.extended.0[..xstate::size().min(MAX_SIZE)].to_vec();
            if let Some(shown) = bytes.get_mut(SHOWN_COMPONENTS..SHOWN_COMPONENTS + 8) {
                shown.copy_from_slice(&xstate::components().to_le_bytes());
            }
            Ok(bytes)
        }),
        _ => Err(Errno::EINVAL),
    }
}

pub fn get_set(request: &Request<'_>) -> Result<u64> {
    let iovec: raw::iovec = uaccess::read(request.data)?;
    let bytes = set_bytes(request)?;
    if !iovec.iov_len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let length = bytes.len().min(usize::try_from(iovec.iov_len).unwrap_or(usize::MAX));
    uaccess::write_bytes(iovec.iov_base as u64, bytes.get(..length).unwrap_or(&[]))?;
    uaccess::write(request.data.wrapping_add(8), &(length as u64))?;
    Ok(0)
}

pub fn set_set(request: &Request<'_>) -> Result<u64> {
    let iovec: raw::iovec = uaccess::read(request.data)?;
    let whole = set_bytes(request)?.len();
    if !iovec.iov_len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let length = whole.min(usize::try_from(iovec.iov_len).unwrap_or(usize::MAX));
    let bytes = uaccess::read_bytes(iovec.iov_base as u64, length)?;
    match request.address as u32 {
        elf::NT_PRSTATUS => request.with_registers(|registers| put_words(registers, &bytes))?,
        elf::NT_PRFPREG => {
            let bytes = bytes.as_slice().try_into().map_err(|_| Errno::EINVAL)?;
            put_legacy(request, bytes)?;
        }
        _ if length != whole => return Err(Errno::EFAULT),
        _ => request.with_registers(|registers| {
            let mut area = xstate::Area::new();
            let room = area.0.get_mut(..length).ok_or(Errno::EFAULT)?;
            room.copy_from_slice(&bytes);
            area.0[SHOWN_COMPONENTS..LEGACY_SIZE].fill(0);
            put_extended(registers, area)
        })?,
    }
    uaccess::write(request.data.wrapping_add(8), &(length as u64))?;
    Ok(0)
}

/// arch_prctl(2) on the tracee: the thread pointer.
pub fn arch_prctl(request: &Request<'_>) -> Result<u64> {
    const SET_GS: u64 = 0x1001;
    const SET_FS: u64 = 0x1002;
    const GET_FS: u64 = 0x1003;
    const GET_GS: u64 = 0x1004;
    match request.data {
        GET_FS => {
            let base = request.with_registers(|registers| Ok(registers.fs_base))?;
            uaccess::write(request.address, &base)?;
        }
        GET_GS => uaccess::write(request.address, &0u64)?,
        SET_FS if request.address >= USER_END => return Err(Errno::EPERM),
        SET_FS => request.with_registers(|registers| {
            registers.fs_base = request.address;
            Ok(())
        })?,
        SET_GS if request.address == 0 => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
