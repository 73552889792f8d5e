//! Copies to and from program memory.
//!
//! Every instruction here that touches program memory lies in a known range; when it faults, the signal handler moves the
//! thread to the range's error exit and the copy reports `EFAULT`. Program memory may change under our eyes at any
//! time: a value is copied once, and what is checked is the copy.

use crate::{Errno, keys, region};
use core::arch::global_asm;

global_asm!(
    // copy_bytes(rdi = to, rsi = from, rdx = length) -> rax = bytes not copied
    ".balign 16",
    ".globl copy_bytes",
    "copy_bytes:",
    "mov rcx, rdx",
    // The string instruction takes longer to start than a few words take to copy.
    "cmp rcx, 64",
    "ja 4f",
    "2:",
    "cmp rcx, 8",
    "jb copy_bytes_one_by_one",
    "copy_words_start:",
    "mov rax, [rsi]",
    "mov [rdi], rax",
    "copy_words_end:",
    "add rsi, 8",
    "add rdi, 8",
    "sub rcx, 8",
    "jmp 2b",
    // Also after a fault on a word: to the very byte.
    "copy_bytes_one_by_one:",
    "test ecx, ecx",
    "jz copy_bytes_fixup",
    "copy_bytes_start:",
    "mov al, [rsi]",
    "mov [rdi], al",
    "inc rsi",
    "inc rdi",
    "dec ecx",
    "jmp copy_bytes_one_by_one",
    "4:",
    "rep movsb",
    "copy_bytes_fixup:",
    "mov rax, rcx",
    "ret",
    // zero_bytes(rdi = to, rsi = length) -> rax = bytes not written
    ".balign 16",
    ".globl zero_bytes",
    "zero_bytes:",
    "mov rcx, rsi",
    "xor eax, eax",
    "zero_bytes_start:",
    "rep stosb",
    "zero_bytes_fixup:",
    "mov rax, rcx",
    "ret",
    // Word accesses: rax = 0 when done, 1 on a fault; the value read in rdx.
    ".balign 16",
    ".globl load_u32",
    "load_u32:", // (rdi = address)
    "word_start:",
    "mov edx, [rdi]",
    "xor eax, eax",
    "ret",
    ".globl load_u64",
    "load_u64:",
    "mov rdx, [rdi]",
    "xor eax, eax",
    "ret",
    ".globl store_u32",
    "store_u32:", // (rdi = address, esi = value)
    "mov [rdi], esi",
    "xor eax, eax",
    "ret",
    ".globl store_u64",
    "store_u64:",
    "mov [rdi], rsi",
    "xor eax, eax",
    "ret",
    ".globl exchange_u32",
    "exchange_u32:", // (rdi = address, esi = expected, edx = new) -> edx = what was there
    "mov eax, esi",
    "lock cmpxchg [rdi], edx",
    "mov edx, eax",
    "xor eax, eax",
    "ret",
    ".globl xsave_area",
    "xsave_area:", // (rdi = area, rsi = components)
    "mov eax, esi",
    "mov rdx, rsi",
    "shr rdx, 32",
    "xsave64 [rdi]",
    "xor eax, eax",
    "ret",
    "word_end:",
    "word_fixup:",
    "mov eax, 1",
    "ret",
    ".balign 16",
    ".globl xrstor_area",
    "xrstor_area:",
    "mov eax, esi",
    "mov rdx, rsi",
    "shr rdx, 32",
    // Whoever jumps here could open the keys: what has been loaded is looked at, also after a fault.
    "xrstor_start:",
    "xrstor64 [rdi]",
    "xrstor_end:",
    "xor edx, edx",
    "5:",
    "test eax, {pkru}",
    "jz 6f",
    "cmp qword ptr [rip + {token}], 0",
    "je 6f",
    "ud2",
    "6:",
    "mov eax, edx",
    "ret",
    "xrstor_fixup:",
    "mov edx, 1",
    "jmp 5b",
    ".globl copy_fixups",
    ".pushsection .data.rel.ro.copy_fixups, \"aw\"",
    ".balign 8",
    "copy_fixups:",
    ".quad copy_words_start, copy_words_end, copy_bytes_one_by_one",
    ".quad copy_bytes_start, copy_bytes_fixup, copy_bytes_fixup",
    ".quad zero_bytes_start, zero_bytes_fixup, zero_bytes_fixup",
    ".quad xrstor_start, xrstor_end, xrstor_fixup",
    ".quad word_start, word_end, word_fixup",
    ".popsection",
    pkru = const 1 << keys::PKRU,
    token = sym keys::TOKEN,
);

unsafe extern "C" {
    static copy_fixups: [[u64; 3]; 5];
    fn copy_bytes(to: u64, from: u64, length: u64) -> u64;
    fn zero_bytes(to: u64, length: u64) -> u64;
    fn xsave_area(area: u64, components: u64) -> u64;
    fn xrstor_area(area: u64, components: u64) -> u64;
}

/// The error exit for a fault at `rip`, if that is an instruction of a copy.
pub(crate) fn fixup(rip: u64) -> Option<u64> {
    // SAFETY: a constant table of the assembly above.
    let table = unsafe { &copy_fixups };
    table.iter().find(|[start, end, _]| (*start..*end).contains(&rip)).map(|[_, _, exit]| *exit)
}

macro_rules! word_access {
    ($symbol:literal, $($reg:tt = $value:expr),* ; $seen:ident) => {{
        let failed: u64;
        // SAFETY: the address was checked to be the program's; a fault ends in `word_fixup`.
        unsafe {
            core::arch::asm!(concat!("call ", $symbol), $(in($reg) $value,)* lateout("rax") failed, lateout("rdx") $seen);
        }
        if failed == 0 { Ok(()) } else { Err(Errno::EFAULT) }
    }};
}

/// Copies from the program into `to`; `EFAULT` unless all of it can be read.
pub fn from_user(to: &mut [u8], from: u64) -> Result<(), Errno> {
    if !region::is_user(from, to.len() as u64) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: `to` is ours and as long as said; faults on `from` are caught.
    let left = unsafe { copy_bytes(to.as_mut_ptr() as u64, from, to.len() as u64) };
    if left == 0 { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Copies from the program as far as it can be read; the number of bytes copied.
pub fn from_user_partial(to: &mut [u8], from: u64) -> usize {
    if !region::is_user(from, to.len() as u64) {
        return 0;
    }
    // SAFETY: as above.
    let left = unsafe { copy_bytes(to.as_mut_ptr() as u64, from, to.len() as u64) };
    to.len() - left as usize
}

/// Copies to the program; `EFAULT` unless all of it could be written (a part may have been).
pub fn to_user(to: u64, from: &[u8]) -> Result<(), Errno> {
    if to_user_partial(to, from) == from.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Copies to the program as far as it can be written; the number of bytes copied.
pub fn to_user_partial(to: u64, from: &[u8]) -> usize {
    if !region::is_user(to, from.len() as u64) {
        return 0;
    }
    // SAFETY: `from` is ours; faults on `to` are caught.
    let left = unsafe { copy_bytes(to, from.as_ptr() as u64, from.len() as u64) };
    from.len() - left as usize
}

/// Writes zeros to the program.
pub fn zero_user(to: u64, length: u64) -> Result<(), Errno> {
    if !region::is_user(to, length) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: faults are caught.
    if unsafe { zero_bytes(to, length) } == 0 { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Copies between memory that may fault for reasons other than the program's pointer (page frames of a file that
/// ran out of host memory): like [`to_user`], without the check of the address.
///
/// # Safety
/// `to` is kernel memory for `from.len()` bytes.
pub unsafe fn into_frames(to: *mut u8, from: u64, length: usize) -> Result<(), Errno> {
    // SAFETY: the caller vouches for `to`; faults are caught.
    if unsafe { copy_bytes(to as u64, from, length as u64) } == 0 { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Reads a 32-bit word of the program.
pub fn load_u32_user(address: u64) -> Result<u32, Errno> {
    if !region::is_user(address, 4) {
        return Err(Errno::EFAULT);
    }
    let seen: u64;
    word_access!("load_u32", "rdi" = address; seen).map(|()| seen as u32)
}

/// Reads a 64-bit word of the program.
pub fn load_u64_user(address: u64) -> Result<u64, Errno> {
    if !region::is_user(address, 8) {
        return Err(Errno::EFAULT);
    }
    let seen: u64;
    word_access!("load_u64", "rdi" = address; seen).map(|()| seen)
}

/// Writes a 32-bit word of the program.
pub fn store_u32_user(address: u64, value: u32) -> Result<(), Errno> {
    if !region::is_user(address, 4) {
        return Err(Errno::EFAULT);
    }
    let _seen: u64;
    word_access!("store_u32", "rdi" = address, "rsi" = u64::from(value); _seen)
}

/// Writes a 64-bit word of the program.
pub fn store_u64_user(address: u64, value: u64) -> Result<(), Errno> {
    if !region::is_user(address, 8) {
        return Err(Errno::EFAULT);
    }
    let _seen: u64;
    word_access!("store_u64", "rdi" = address, "rsi" = value; _seen)
}

/// Compares a 32-bit word of the program with `expected` and, if equal, replaces it by `new`, in one step; what was there.
pub fn compare_exchange_u32_user(address: u64, expected: u32, new: u32) -> Result<u32, Errno> {
    if !region::is_user(address, 4) || address & 3 != 0 {
        return Err(Errno::EFAULT);
    }
    let failed: u64;
    let seen: u64;
    // SAFETY: the address was checked to be the program's; a fault ends in `word_fixup`.
    unsafe {
        core::arch::asm!("call exchange_u32", in("rdi") address, in("rsi") u64::from(expected),
            inlateout("rdx") u64::from(new) => seen, lateout("rax") failed);
    }
    if failed == 0 { Ok(seen as u32) } else { Err(Errno::EFAULT) }
}

/// Stores the extended state `components` to `area` (kernel memory).
///
/// # Safety
/// `area` is 64-byte aligned, zeroed in its header, and large enough for the components.
pub(crate) unsafe fn xsave(area: *mut u8, components: u64) {
    // SAFETY: the caller's.
    unsafe { xsave_area(area as u64, components) };
}

/// Loads the extended state; `false` if the processor refuses the image.
///
/// # Safety
/// `area` is 64-byte aligned kernel memory of full size. The kernel's own code uses none of the loaded state but xmm0-15,
/// which compiled code treats as clobbered by the call.
pub(crate) unsafe fn xrstor(area: *const u8, components: u64) -> bool {
    // SAFETY: the caller's; a general-protection fault ends in `word_fixup`.
    unsafe { xrstor_area(area as u64, components) == 0 }
}
