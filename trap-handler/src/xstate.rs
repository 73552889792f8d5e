//! Extended processor state for signal frames: everything above xmm0-15 lives in the registers while the kernel runs,
//! because kernel code never touches it; xmm0-15 and mxcsr are in the thread block.
//!
//! Layout: Intel SDM volume 1, chapter 13 (standard format, as Linux puts it into signal frames).

use crate::block::{ThreadBlock, XmmRegs};
use crate::{copy, keys};
use core::arch::x86_64::{__cpuid_count, _xgetbv};
use core::sync::atomic::{AtomicU64, Ordering};

/// Components that need permission from the host (AMX tiles) are not offered.
const WITHHELD: u64 = 3 << 17;
/// Room for a signal frame's state: all components up to AVX-512 and PKRU end below this.
pub const MAX_SIZE: usize = 4096;
/// Bytes of the legacy area and the header, which every image has.
pub const MIN_SIZE: usize = 576;

static COMPONENTS: AtomicU64 = AtomicU64::new(3);
static SIZE: AtomicU64 = AtomicU64::new(MIN_SIZE as u64);
static MXCSR_MASK: AtomicU64 = AtomicU64::new(0xffbf);

/// An aligned buffer for one image.
#[repr(C, align(64))]
pub struct Area(pub [u8; MAX_SIZE]);

impl Area {
    /// All zero.
    pub const fn new() -> Area {
        Area([0; MAX_SIZE])
    }
}

impl Default for Area {
    fn default() -> Self {
        Self::new()
    }
}

/// Finds out what the processor has. Called once, at boot.
#[allow(unused_unsafe, reason = "cpuid is safe to call from some compiler version on")]
pub fn detect() {
    // SAFETY: every x86-64 processor with XSAVE enabled by the host (all that we support) has these instructions; XGETBV
    // only reads.
    unsafe {
        if __cpuid_count(1, 0).ecx & (1 << 27) == 0 {
            return;
        }
        // The keys that are closed are not the program's to see or to change.
        let keys = if keys::on() { 1 << keys::PKRU } else { 0 };
        let enabled = xcr0() & !(WITHHELD | keys);
        let mut size = MIN_SIZE as u64;
        let mut components = enabled & 3;
        for component in 2..63u32 {
            if enabled & (1 << component) == 0 {
                continue;
            }
            let leaf = __cpuid_count(0xd, component);
            let end = u64::from(leaf.ebx) + u64::from(leaf.eax);
            if end <= MAX_SIZE as u64 {
                components |= 1 << component;
                size = size.max(end);
            }
        }
        COMPONENTS.store(components, Ordering::Relaxed);
        SIZE.store(size, Ordering::Relaxed);
    }
    let mut area = Area::new();
    // SAFETY: the area is aligned and large enough.
    unsafe { copy::xsave(area.0.as_mut_ptr(), 3) };
    let mask = u32::from_le_bytes([area.0[28], area.0[29], area.0[30], area.0[31]]);
    if mask != 0 {
        MXCSR_MASK.store(u64::from(mask), Ordering::Relaxed);
    }
}

#[target_feature(enable = "xsave")]
fn xcr0() -> u64 {
    // SAFETY: the caller checked OSXSAVE.
    unsafe { _xgetbv(0) }
}

/// The components of a program's state (XCR0 bits).
pub fn components() -> u64 {
    COMPONENTS.load(Ordering::Relaxed)
}

/// Bytes of one image.
pub fn size() -> usize {
    SIZE.load(Ordering::Relaxed) as usize
}

/// Stores the program's complete extended state.
pub fn save(area: &mut Area) {
    area.0.fill(0);
    // SAFETY: aligned, zeroed, MAX_SIZE covers all components.
    unsafe { copy::xsave(area.0.as_mut_ptr(), components()) };
    let (xmm, mxcsr) = ThreadBlock::current().vector();
    area.0[24..28].copy_from_slice(&mxcsr.to_le_bytes());
    for (slot, value) in area.0[160..416].chunks_exact_mut(16).zip(xmm.0) {
        slot.copy_from_slice(&value.to_le_bytes());
    }
    // SSE state and mxcsr are valid whatever the registers held just now.
    area.0[512] |= 2;
}

fn mxcsr(area: &Area) -> u32 {
    u32::from_le_bytes([area.0[24], area.0[25], area.0[26], area.0[27]])
}

/// Whether the processor will take an image: no unknown components, no reserved bits.
pub fn is_valid(area: &Area) -> bool {
    let mask = MXCSR_MASK.load(Ordering::Relaxed) as u32;
    let mut present = [0u8; 8];
    present.copy_from_slice(&area.0[512..520]);
    mxcsr(area) & !mask == 0
        && u64::from_le_bytes(present) & !components() == 0
        && area.0[520..576].iter().all(|&byte| byte == 0)
}

/// Replaces the program's extended state by an image that may come from the program: unknown components and reserved bits
/// are refused. `false` if the image is not valid; then the state is undefined and the program must not go on.
#[must_use]
pub fn load(area: &mut Area) -> bool {
    if !is_valid(area) {
        return false;
    }
    let mxcsr = mxcsr(area);
    let mut present = [0u8; 8];
    present.copy_from_slice(&area.0[512..520]);
    // SAFETY: aligned and of full size; a malformed image is caught.
    if !unsafe { copy::xrstor(area.0.as_ptr(), components()) } {
        return false;
    }
    let mut xmm = XmmRegs::default();
    if u64::from_le_bytes(present) & 2 != 0 {
        for (value, slot) in xmm.0.iter_mut().zip(area.0[160..416].chunks_exact(16)) {
            let mut bytes = [0u8; 16];
            bytes.copy_from_slice(slot);
            *value = u128::from_le_bytes(bytes);
        }
    }
    ThreadBlock::current().set_vector(&xmm, mxcsr);
    true
}

/// Puts the extended state into its initial form (execve).
pub fn reset() {
    let mut area = Area::new();
    area.0[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
    area.0[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
    let _ = load(&mut area);
}
