//! Protection keys (pkeys(7)), where the sandbox has them: everything of the kernel's carries a key that is closed while program code
//! runs. The ways in and out are in [`crate::gates`].
//!
//! A key refuses loads, stores and the host's copies, and nothing else, so three things go with it. A jump to the gadget reaches its
//! `syscall`: the filter honours a host call only with this sandbox's token in the upper half of an argument, which lies in closed memory.
//! Code that could open a key by itself is kept out of the program's pages (the kernel's part). And the host opens every key for a signal
//! handler's frame only since Linux 6.12: before, a signal whose stack is closed ends the process.

use crate::handler::UContext;
use core::arch::x86_64::__cpuid_count;
use core::sync::atomic::{AtomicU64, Ordering};

/// The key of everything that is the program's.
pub const PROGRAM: i32 = 0;
/// The key of code that is being changed: program code may read and execute it, kernel code alone can write it.
pub const CODE: i32 = boundary::boot::CODE_KEY;
/// Number of the component of the extended state that PKRU is (Intel SDM volume 1, 13.1).
pub const PKRU: u32 = 9;
/// PKRU while program code runs: two bits a key, the first refuses everything, the second writes.
pub const CLOSED: u32 = {
    /// Every key but 0 is closed (the host's `init_pkru_value`).
    const OTHERS: u32 = 0x5555_5554;
    OTHERS & !(3 << (2 * CODE)) | 2 << (2 * CODE)
};

/// In its upper half, what the filter asks for; 0: the guard is off.
pub(crate) static TOKEN: AtomicU64 = AtomicU64::new(0);
/// Where PKRU lies in a signal frame's extended state.
static PKRU_OFFSET: AtomicU64 = AtomicU64::new(0);

/// Turns the guard on: `token`, which is not 0, is what the filter asks for. Called once, at boot, before anything that asks.
#[allow(unused_unsafe, reason = "cpuid is safe to call from some compiler version on")]
pub fn turn_on(token: u32) {
    // SAFETY: a processor with protection keys has this leaf.
    let offset = unsafe { __cpuid_count(0xd, PKRU) }.ebx;
    PKRU_OFFSET.store(u64::from(offset), Ordering::Relaxed);
    TOKEN.store(u64::from(token) << 32, Ordering::Relaxed);
}

/// Whether the kernel's memory is closed to program code in this sandbox.
pub fn on() -> bool {
    TOKEN.load(Ordering::Relaxed) != 0
}

/// Puts the token into the arguments of a host call, where the host does not look and its filter does: the upper half of the sixth, which
/// no call of the table but mmap(2) has or has as more than an `int`; of mmap(2)'s descriptor.
#[inline]
pub(crate) fn seal(number: u64, arguments: &mut [u64; 6]) {
    const MMAP: u64 = linux_raw_sys::general::__NR_mmap as u64;
    let token = TOKEN.load(Ordering::Relaxed);
    if token != 0 {
        let [.., fifth, sixth] = arguments;
        let place = if number == MMAP { fifth } else { sixth };
        *place = *place & 0xffff_ffff | token;
    }
}

/// Makes the return from a signal close the keys: what it goes back to is program code.
pub(crate) fn close_at_return(context: &mut UContext) {
    /// Of the header, which components the area holds (Intel SDM volume 1, 13.4.2).
    const PRESENT: u64 = 512;
    let area = context.fpstate;
    // SAFETY: the host wrote the frame on this thread's closed stack, with its extended state, of which every processor with keys has PKRU.
    unsafe {
        ((area + PKRU_OFFSET.load(Ordering::Relaxed)) as *mut u32).write(CLOSED);
        let present = (area + PRESENT) as *mut u64;
        present.write(present.read() | 1 << PKRU);
    }
}
