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
/// By component: its size, its place in the standard format, and a bit if it is aligned in the compacted one. CPUID is slow where a
/// hypervisor answers it.
static LAYOUT: [AtomicU64; 63] = [const { AtomicU64::new(0) }; 63];
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
        let all = xcr0();
        for (component, layout) in (2..63u32).zip(LAYOUT.iter().skip(2)) {
            if all & (1 << component) != 0 {
                let leaf = __cpuid_count(0xd, component);
                let (size, place) = (u64::from(leaf.eax), u64::from(leaf.ebx) & 0x7fff_ffff);
                layout.store(size | place << 32 | u64::from(leaf.ecx & 2) << 62, Ordering::Relaxed);
            }
        }
        // The keys that are closed are not the program's to see or to change.
        let keys = if keys::on() { 1 << keys::PKRU } else { 0 };
        let enabled = all & !(WITHHELD | keys);
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

/// Why [`restore`] did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The processor would have wanted more of the image than there was to read.
    TooShort,
    /// The processor would not have taken it (#GP).
    Malformed,
}

/// XRSTOR as a program asked for it, in place of the processor: the components `requested` (EDX:EAX) of an image of the program's, of which
/// `read` bytes could be read; but for PKRU, which is never loaded. In the standard or the compacted format (Intel SDM volume 1, 13.8).
pub fn restore(area: &mut Area, read: usize, requested: u64) -> Result<(), Refused> {
    if read < MIN_SIZE {
        return Err(Refused::TooShort);
    }
    let word = |at: usize| {
        let bytes = area.0.get(at..).and_then(|bytes| bytes.first_chunk::<8>());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let (present, format) = (word(512), word(520));
    let compacted = format & COMPACTED != 0;
    let requested = requested & components() & !(1 << keys::PKRU);
    let mxcsr = u32::from_le_bytes([area.0[24], area.0[25], area.0[26], area.0[27]]);
    let loads_mxcsr = if compacted { requested & present & SSE != 0 } else { requested & (SSE | AVX) != 0 };
    if loads_mxcsr && mxcsr & !(MXCSR_MASK.load(Ordering::Relaxed) as u32) != 0 {
        return Err(Refused::Malformed);
    }
    let needed = if compacted {
        compacted_size(format, requested & present)
    } else {
        standard_size(requested & present)
    };
    if needed > read {
        return Err(Refused::TooShort);
    }
    // SAFETY: aligned, and as long as what is loaded; a malformed image is caught.
    if !unsafe { copy::xrstor(area.0.as_ptr(), requested) } {
        return Err(Refused::Malformed);
    }
    let block = ThreadBlock::current();
    let (mut xmm, mut control) = block.vector();
    if requested & SSE != 0 {
        xmm = if present & SSE != 0 { xmm_of(area) } else { XmmRegs::default() };
    }
    if loads_mxcsr {
        control = mxcsr;
    } else if compacted && requested & SSE != 0 {
        control = INITIAL_MXCSR;
    }
    block.set_vector(&xmm, control);
    Ok(())
}

const SSE: u64 = 2;
const AVX: u64 = 4;
const COMPACTED: u64 = 1 << 63;
const INITIAL_MXCSR: u32 = 0x1f80;

fn xmm_of(area: &Area) -> XmmRegs {
    let mut xmm = XmmRegs::default();
    for (value, slot) in xmm.0.iter_mut().zip(area.0[160..416].as_chunks::<16>().0) {
        *value = u128::from_le_bytes(*slot);
    }
    xmm
}

/// Size, place and alignment of a component, as its leaf has them.
fn component(number: u32) -> (usize, usize, bool) {
    let known = LAYOUT.get(number as usize).map_or(0, |layout| layout.load(Ordering::Relaxed));
    ((known & 0xffff_ffff) as usize, (known >> 32 & 0x7fff_ffff) as usize, known >> 63 != 0)
}

/// Bytes of an image in the standard format up to the last of these components.
fn standard_size(loaded: u64) -> usize {
    let ends = (2..63).filter(|number| loaded & 1 << number != 0).map(|number| {
        let (size, offset, _) = component(number);
        offset + size
    });
    ends.max().unwrap_or(0).max(MIN_SIZE)
}

/// Bytes of an image in the compacted format that has the components `format`, up to the last of those that are loaded.
fn compacted_size(format: u64, loaded: u64) -> usize {
    let (mut end, mut needed) = (MIN_SIZE, MIN_SIZE);
    for number in (2..63).filter(|number| format & 1 << number != 0) {
        let (size, _, aligned) = component(number);
        if aligned {
            end = end.next_multiple_of(64);
        }
        end += size;
        if loaded & 1 << number != 0 {
            needed = end;
        }
    }
    needed
}

/// Puts the extended state into its initial form (execve).
pub fn reset() {
    let mut area = Area::new();
    area.0[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
    area.0[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
    let _ = load(&mut area);
}
