//! Call sites that jump to the kernel: what can be rewritten, the code that is put in its place, and what the host's signal
//! handler does when a thread is found there.
//!
//! - Shape *number*: `mov $nr,%eax` right before `syscall`. The five bytes of the `mov` become a jump to a trampoline; the
//!   `syscall` stays.
//! - Shape *next*: `syscall` and one following instruction that runs anywhere. The jump covers the `syscall` and the first
//!   three bytes of the instruction, which the trampoline runs after the call. Somebody may jump to that instruction:
//!   trampolines are placed so that the byte that then stands there is an opcode that 64-bit mode lacks, and the handler of
//!   SIGILL goes on in the trampoline.
//!
//! Trampolines lie in arenas, private memory of the process within reach of the site, in slots of [`SLOT`] bytes. An arena's
//! first word is the address that all its trampolines jump to.

use crate::handler::UContext;
use crate::{copy, entry, gates, keys};
use core::sync::atomic::{AtomicU64, Ordering};

/// Bytes of an arena; its address is a multiple.
pub const ARENA: u64 = 0x1_0000;
/// Bytes of one trampoline's slot.
pub const SLOT: u64 = 64;
/// Length of the jump that is put into a site.
pub const JUMP: u64 = 5;
/// Offset of the moved instruction in a trampoline of shape *next*.
pub const MOVED_AT: u64 = 20;

/// Opcodes that raise #UD in 64-bit mode (Intel SDM volume 2, appendix A).
const INVALID: [u8; 16] =
    [0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x9a, 0xd6, 0xea];

/// How a call site can be rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `mov $nr,%eax; syscall`.
    Number(u32),
    /// `syscall` and this instruction.
    Next(Movable),
}

impl Shape {
    /// Where the jump goes, for the `syscall` at `site`.
    pub fn head(self, site: u64) -> u64 {
        match self {
            Shape::Number(_) => site.wrapping_sub(JUMP),
            Shape::Next(_) => site,
        }
    }
}

/// The shape of a site: from the eight bytes before the `syscall`, the number that it was called with, and what follows it. The
/// reason if it has none.
pub fn shape(before: &[u8; 8], number: u64, after: &[u8]) -> Result<Shape, &'static str> {
    const MOV_EAX: u8 = 0xb8;
    let [third, second, prefix, opcode, immediate @ ..] = *before;
    let immediate = u32::from_le_bytes(immediate);
    // A prefix would make it another instruction: REX (`mov $nr,%r8d`), or operand size.
    let prefixed = (0x40..=0x4f).contains(&prefix) || prefix == 0x66;
    // Nor is it one if the byte is the displacement of one that ends in the same number: mov, cmp and the like, imul, test.
    let with_number = |opcode| matches!(opcode, 0xc7 | 0x81 | 0x69 | 0xf7);
    let displacement =
        (with_number(second) && prefix >> 6 == 1) || (with_number(third) && second & 0xc7 == 0x44);
    if opcode == MOV_EAX && u64::from(immediate) == number && !prefixed && !displacement {
        return Ok(Shape::Number(immediate));
    }
    match movable(after) {
        Some(next) if u64::from(next.length) + 2 >= JUMP => Ok(Shape::Next(next)),
        Some(_) => Err("the next instruction is too short"),
        None => Err("the next instruction cannot be moved"),
    }
}

/// An instruction that can be run elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movable {
    /// Bytes.
    pub length: u8,
    /// Offset of a 32-bit distance from the instruction's end, which has to be changed; 0 if there is none.
    distance_at: u8,
}

/// The first instruction if it is one of those that compilers put behind `syscall` and that mean the same at another
/// address: moves, comparisons and arithmetic between registers, memory and numbers.
fn movable(code: &[u8]) -> Option<Movable> {
    let (rex, rest) = match code {
        [rex @ 0x40..=0x4f, rest @ ..] => (Some(*rex), rest),
        rest => (None, rest),
    };
    let prefixes = u8::from(rex.is_some());
    // Opcode bytes before an operand, and bytes of a number behind it.
    let (opcode, number) = match *rest {
        // endbr64, which the site does not need: nobody jumps to a moved one.
        [0xf3, 0x0f, 0x1e, 0xfa, ..] if rex.is_none() => return Some(Movable { length: 4, distance_at: 0 }),
        // nop; movzx, movsx.
        [0x0f, 0x1f | 0xb6 | 0xb7 | 0xbe | 0xbf, ..] => (2, 0),
        // add, or, and, sub, xor, cmp (register forms); test; mov; lea; movslq.
        [0x01 | 0x03 | 0x09 | 0x0b | 0x21 | 0x23 | 0x29 | 0x2b | 0x31 | 0x33 | 0x39 | 0x3b, ..]
        | [0x63 | 0x85 | 0x89 | 0x8b | 0x8d, ..] => (1, 0),
        // cmp, test, mov of bytes.
        [0x38 | 0x3a | 0x84 | 0x88 | 0x8a, ..] => (1, 0),
        [0x80 | 0x83 | 0xc6, ..] => (1, 1),
        [0x81 | 0xc7, ..] => (1, 4),
        // cmp $imm32,%eax or %rax; mov $imm32,reg (with REX.W it would have eight bytes).
        [0x3d, ..] => return whole(code, prefixes + 1 + 4, 0),
        [0xb8..=0xbf, ..] if rex.is_none_or(|rex| rex & 8 == 0) => return whole(code, prefixes + 1 + 4, 0),
        _ => return None,
    };
    let (operand, relative) = operand(rest.get(usize::from(opcode)..)?)?;
    // The distance stands behind the ModRM byte.
    let distance_at = if relative { prefixes + opcode + 1 } else { 0 };
    whole(code, prefixes + opcode + operand + number, distance_at)
}

fn whole(code: &[u8], length: u8, distance_at: u8) -> Option<Movable> {
    (usize::from(length) <= code.len()).then_some(Movable { length, distance_at })
}

/// Length of a ModRM byte with what belongs to it, and whether it is an address relative to the next instruction.
fn operand(code: &[u8]) -> Option<(u8, bool)> {
    let modrm = *code.first()?;
    let (mode, register) = (modrm >> 6, modrm & 7);
    let sib = mode != 3 && register == 4;
    let base_is_number = sib && mode == 0 && code.get(1)? & 7 == 5;
    let relative = mode == 0 && register == 5;
    let displacement = match mode {
        0 if relative || base_is_number => 4,
        1 => 1,
        2 => 4,
        _ => 0,
    };
    Some((1 + u8::from(sib) + displacement, relative))
}

impl Movable {
    /// Its bytes at `to`, for the instruction that stands at `from`.
    fn moved(self, code: &[u8], from: u64, to: u64) -> Option<([u8; 16], usize)> {
        let length = usize::from(self.length);
        let mut bytes = [0; 16];
        bytes.get_mut(..length)?.copy_from_slice(code.get(..length)?);
        if self.distance_at != 0 {
            let distance = bytes.get_mut(usize::from(self.distance_at)..)?.first_chunk_mut::<4>()?;
            let old = i64::from(i32::from_le_bytes(*distance));
            let new = old.checked_add(from.wrapping_sub(to) as i64)?;
            *distance = i32::try_from(new).ok()?.to_le_bytes();
        }
        Some((bytes, length))
    }
}

fn relative(next: u64, target: u64) -> Option<i32> {
    i32::try_from(target.wrapping_sub(next) as i64).ok()
}

/// The jump from `head` to `target`; `None` if it is out of reach.
pub fn jump(head: u64, target: u64) -> Option<[u8; 5]> {
    let [a, b, c, d] = relative(head.checked_add(JUMP)?, target)?.to_le_bytes();
    Some([0xe9, a, b, c, d])
}

/// Whether the trampoline of a site with this head may lie at `slot`.
pub fn fits(shape: Shape, head: u64, slot: u64) -> bool {
    match (shape, jump(head, slot)) {
        (_, None) => false,
        (Shape::Number(_), Some(_)) => true,
        (Shape::Next(_), Some([_, _, second, ..])) => INVALID.contains(&second),
    }
}

struct Assembler {
    code: [u8; SLOT as usize],
    length: usize,
    at: u64,
}

impl Assembler {
    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.length.checked_add(bytes.len())?;
        self.code.get_mut(self.length..end)?.copy_from_slice(bytes);
        self.length = end;
        Some(())
    }

    /// An instruction that ends in the distance from its end to `target`.
    fn relative(&mut self, opcode: &[u8], target: u64) -> Option<()> {
        self.bytes(opcode)?;
        let next = self.at + self.length as u64 + 4;
        self.bytes(&relative(next, target)?.to_le_bytes())
    }
}

/// The code of a trampoline at `slot` of the arena at `arena`, for the `syscall` at `site`; `moved` is the instruction behind
/// it.
pub fn trampoline(
    shape: Shape,
    site: u64,
    moved: &[u8],
    arena: u64,
    slot: u64,
) -> Option<[u8; SLOT as usize]> {
    const LEA_RCX: &[u8] = &[0x48, 0x8d, 0x0d];
    const LEA_R11: &[u8] = &[0x4c, 0x8d, 0x1d];
    const MOV_R11_RCX: &[u8] = &[0x49, 0x89, 0xcb];
    const JMP_MEMORY: &[u8] = &[0xff, 0x25];
    let back = site.checked_add(2)?;
    let mut to = Assembler { code: [0xcc; SLOT as usize], length: 0, at: slot };
    match shape {
        Shape::Number(number) => {
            to.bytes(&[0xb8])?;
            to.bytes(&number.to_le_bytes())?;
            to.relative(LEA_RCX, back)?;
            to.bytes(MOV_R11_RCX)?;
            to.relative(JMP_MEMORY, arena)?;
        }
        Shape::Next(next) => {
            let moved_to = slot.checked_add(MOVED_AT)?;
            to.relative(LEA_RCX, back)?;
            to.relative(LEA_R11, moved_to)?;
            to.relative(JMP_MEMORY, arena)?;
            let (bytes, length) = next.moved(moved, back, moved_to)?;
            to.bytes(bytes.get(..length)?)?;
            to.relative(&[0xe9], back.checked_add(u64::from(next.length))?)?;
        }
    }
    Some(to.code)
}

/// Where a slot of [`moved_away`] has the address behind the instruction, then [`MOVED_AWAY`], then the instruction's.
const NEXT_AT: u64 = SLOT - 24;
/// Tells such a slot. Trampolines have breakpoints there.
const MOVED_AWAY: u64 = u64::from_le_bytes(*b"MOVEAWAY");

/// The code of a slot that has an instruction from `head`, whose place something else has taken; the program goes on at `next`.
pub fn moved_away(instruction: &[u8], slot: u64, head: u64, next: u64) -> Option<[u8; SLOT as usize]> {
    let mut to = Assembler { code: [0xcc; SLOT as usize], length: 0, at: slot };
    to.bytes(instruction)?;
    to.relative(&[0xe9], next)?;
    let words = to.code.get_mut(NEXT_AT as usize..)?;
    for (place, word) in words.chunks_exact_mut(8).zip([next, MOVED_AWAY, head]) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    (to.length as u64 <= NEXT_AT).then_some(to.code)
}

fn as_words(bytes: &[u8; 24]) -> Option<[u64; 3]> {
    let (words, _) = bytes.as_chunks::<8>();
    let [first, second, third] = *words else { return None };
    Some([first, second, third].map(u64::from_le_bytes))
}

/// What an arena's first word has to be.
pub fn entry_point() -> u64 {
    if keys::on() { &raw const gates::way_in_patched as u64 } else { &raw const entry::entry_patched as u64 }
}

/// The arenas of this host process. Private memory, as the arenas are: a forked child has a copy of both.
static ARENAS: [AtomicU64; 32] = [const { AtomicU64::new(0) }; 32];

/// Notes a new arena; `false` if there are too many.
pub fn add_arena(start: u64) -> bool {
    ARENAS.iter().any(|arena| arena.compare_exchange(0, start, Ordering::SeqCst, Ordering::SeqCst).is_ok())
}

/// Forgets all arenas (execve).
pub fn forget_arenas() {
    ARENAS.iter().for_each(|arena| arena.store(0, Ordering::SeqCst));
}

/// Whether `[start, start + length)` has a byte of an arena.
pub fn touches_arena(start: u64, length: u64) -> bool {
    let arenas = ARENAS.iter().map(|arena| arena.load(Ordering::Relaxed)).take_while(|arena| *arena != 0);
    arenas.into_iter().any(|arena| start < arena + ARENA && arena < start.saturating_add(length))
}

/// Head of the site that is being exchanged (0: none), for threads that run into its breakpoint.
static HEAD: AtomicU64 = AtomicU64::new(0);
/// Head of the site that was restored last.
static RESTORED: AtomicU64 = AtomicU64::new(0);

/// Announces that the head of a site will be a breakpoint for a while.
pub fn begin(head: u64) {
    HEAD.store(head, Ordering::SeqCst);
}

/// The breakpoint is gone; `restored` if the site is as it was before it was ever rewritten.
pub fn end(restored: bool) {
    if restored {
        RESTORED.store(HEAD.load(Ordering::SeqCst), Ordering::SeqCst);
    }
    HEAD.store(0, Ordering::SeqCst);
}

/// Whether the site is being exchanged, or was restored a moment ago and `rip` no longer holds what raised the trap: then the
/// instruction is to be run again, until it has become what it shall be.
fn in_flux(head: u64, rip: u64) -> bool {
    const TRAPPING: [u8; 2] = [0xcc, 0x0f];
    let restored = || {
        let mut code = [0xccu8];
        RESTORED.load(Ordering::SeqCst) == head
            && copy::from_user(&mut code, rip).is_ok()
            && !TRAPPING.contains(&code[0])
            && !INVALID.contains(&code[0])
    };
    HEAD.load(Ordering::SeqCst) == head || restored()
}

/// The slot that the jump at `head` leads to, if there is one of ours.
fn target(head: u64) -> Option<u64> {
    let mut code = [0u8; 5];
    copy::from_user(&mut code, head).ok()?;
    let [0xe9, distance @ ..] = code else { return None };
    let slot = head.wrapping_add(JUMP).wrapping_add_signed(i64::from(i32::from_le_bytes(distance)));
    (touches_arena(slot, 1) && slot % SLOT == 0).then_some(slot)
}

/// Where the program is, as it shall see it, when a thread is at `rip` in an arena: the way into the kernel, where there is
/// nothing to see (`None`), or behind the call.
pub(crate) fn program_rip(rip: u64) -> Option<u64> {
    let (slot, offset) = (rip & !(SLOT - 1), rip & (SLOT - 1));
    let mut words = [0u8; 24];
    copy::from_user(&mut words, slot + NEXT_AT).ok()?;
    if let Some([next, mark, head]) = as_words(&words)
        && mark == MOVED_AWAY
    {
        return Some(if offset == 0 { head } else { next });
    }
    let mut code = [0u8; 7];
    copy::from_user(&mut code, slot).ok()?;
    match code {
        [0x48, 0x8d, 0x0d, distance @ ..] if offset >= MOVED_AT => {
            let back = slot.wrapping_add(7).wrapping_add_signed(i64::from(i32::from_le_bytes(distance)));
            Some(back.wrapping_add(offset - MOVED_AT))
        }
        _ => None,
    }
}

/// A breakpoint or an invalid instruction that is there because of a rewritten site: the thread goes on as if it were not.
pub(crate) fn put_right(trap: u64, context: &mut UContext) -> bool {
    const BREAKPOINT: u64 = 3;
    const INVALID_OPCODE: u64 = 6;
    // The program's flags still hold here, and alignment may be checked, which code is not read by.
    // SAFETY: clears a flag (AC) that kernel code does not use.
    unsafe {
        core::arch::asm!("pushfq", "and dword ptr [rsp], {others}", "popfq", others = const !0x4_0000i32)
    };
    match trap {
        BREAKPOINT => {
            let head = context.rip.wrapping_sub(1);
            let transient = in_flux(head, head) || target(head).is_some();
            if transient {
                context.rip = head;
            }
            transient
        }
        INVALID_OPCODE => {
            let head = context.rip.wrapping_sub(2);
            if let Some(slot) = target(head) {
                // A jump to the instruction that was moved.
                context.rip = slot + MOVED_AT;
                return true;
            }
            in_flux(head, context.rip)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    #[test]
    fn shapes_of_libc() {
        // mov $39,%eax; syscall; ret
        assert_eq!(shape(&[0x90, 0x90, 0x90, 0xb8, 39, 0, 0, 0], 39, &[0xc3]), Ok(Shape::Number(39)));
        // The same bytes as part of mov $39,%r8d.
        assert!(shape(&[0x90, 0x90, 0x41, 0xb8, 39, 0, 0, 0], 39, &[0xc3]).is_err());
        // movl $39,-0x48(%rbp) and cmpl $39,-0x48(%rsp)
        assert!(shape(&[0x90, 0xc7, 0x45, 0xb8, 39, 0, 0, 0], 39, &[0xc3]).is_err());
        assert!(shape(&[0x81, 0x7c, 0x24, 0xb8, 39, 0, 0, 0], 39, &[0xc3]).is_err());
        // Another number: somebody jumped to the syscall.
        assert!(shape(&[0x90, 0x90, 0x90, 0xb8, 39, 0, 0, 0], 40, &[0xc3]).is_err());
        // syscall; cmp $-4096,%rax
        let cmp = [0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0x77];
        assert_eq!(shape(&[0; 8], 0, &cmp), Ok(Shape::Next(Movable { length: 6, distance_at: 0 })));
    }

    #[test]
    fn lengths_of_instructions() {
        for (code, length) in [
            (&[0x48u8, 0x89, 0xc3][..], Some(3)),                    // mov %rax,%rbx
            (&[0x85, 0xc0], Some(2)),                                // test %eax,%eax
            (&[0x48, 0x83, 0xf8, 0xff], Some(4)),                    // cmp $-1,%rax
            (&[0x83, 0xf8, 0xda], Some(3)),                          // cmp $-38,%eax
            (&[0x89, 0x44, 0x24, 0x08], Some(4)),                    // mov %eax,8(%rsp)
            (&[0x8b, 0x05, 1, 2, 3, 4], Some(6)),                    // mov 0x4030201(%rip),%eax
            (&[0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0], Some(8)),        // mov 0,%rax
            (&[0xc7, 0x84, 0x24, 0, 1, 0, 0, 5, 0, 0, 0], Some(11)), // movl $5,0x100(%rsp)
            (&[0x49, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0], None),           // movabs
            (&[0x41, 0xb8, 7, 0, 0, 0], Some(6)),                    // mov $7,%r8d
            (&[0x48, 0x63, 0xd0], Some(3)),                          // movslq %eax,%rdx
            (&[0x0f, 0x1f, 0x40, 0x00], Some(4)),                    // nopl 0(%rax)
            (&[0x80, 0xbb, 0xf8, 8, 0, 0, 0], Some(7)),              // cmpb $0,0x8f8(%rbx)
            (&[0xc6, 0x40, 0x10, 1], Some(4)),                       // movb $1,16(%rax)
            (&[0x0f, 0xb6, 0xc0], Some(3)),                          // movzbl %al,%eax
            (&[0xc3], None),
            (&[0x77, 0x10], None),
            (&[0x48, 0x3d, 0, 0], None), // cut off
        ] {
            assert_eq!(movable(code).map(|next| next.length), length, "{code:x?}");
        }
    }

    #[test]
    fn trampolines_lead_there_and_back() {
        let (arena, slot, site) = (0x7000_0000_0000u64, 0x7000_0000_0040u64, 0x7000_4000_1000u64);
        let code = trampoline(Shape::Number(39), site, &[], arena, slot).unwrap();
        assert_eq!(code[..5], [0xb8, 39, 0, 0, 0]);
        let distance = i32::from_le_bytes(code[8..12].try_into().unwrap());
        assert_eq!((slot + 12).wrapping_add_signed(distance.into()), site + 2);
        let distance = i32::from_le_bytes(code[17..21].try_into().unwrap());
        assert_eq!((slot + 21).wrapping_add_signed(distance.into()), arena);

        let moved = [0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0x77];
        let code = trampoline(Shape::Next(movable(&moved).unwrap()), site, &moved, arena, slot).unwrap();
        assert_eq!(code[MOVED_AT as usize..][..6], moved[..6]);
        let distance = i32::from_le_bytes(code[27..31].try_into().unwrap());
        assert_eq!((slot + 31).wrapping_add_signed(distance.into()), site + 8);
        assert!(trampoline(Shape::Number(39), arena + (3 << 30), &[], arena, slot).is_none());
    }

    #[test]
    fn a_distance_is_the_same_address_from_elsewhere() {
        // mov 0x100(%rip),%rax at 0x1000: the address 0x1107.
        let code = [0x48, 0x8b, 0x05, 0, 1, 0, 0];
        let next = movable(&code).unwrap();
        let (bytes, length) = next.moved(&code, 0x1000, 0x5000).unwrap();
        assert_eq!((length, i32::from_le_bytes(bytes[3..7].try_into().unwrap())), (7, 0x100 - 0x4000));
        assert_eq!(next.moved(&code, 0x1000, 0x1000 + (3 << 30)), None);
    }

    #[test]
    fn a_moved_instruction_is_an_invalid_opcode() {
        let head = 0x7000_4000_1234u64;
        let arena = 0x7000_0000_0000u64;
        let shape = Shape::Next(Movable { length: 6, distance_at: 0 });
        let slots: Vec<u64> =
            (1..ARENA / SLOT).map(|n| arena + n * SLOT).filter(|slot| fits(shape, head, *slot)).collect();
        assert!(slots.len() >= 60, "{}", slots.len());
        for slot in slots {
            assert!(INVALID.contains(&jump(head, slot).unwrap()[2]));
        }
    }
}
