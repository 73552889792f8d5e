//! Instructions that must not be run by the program: where their bytes are, and whether they are an instruction there.
//!
//! Opcodes: Intel SDM volume 2. The bytes count at any alignment: a program can jump into the middle of anything.

use alloc::vec::Vec;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};

/// What the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// WRPKRU opens the kernel's keys.
    WritePkru,
    /// XRSTOR and XRSTOR64 can load PKRU.
    Xrstor,
    /// WRGSBASE moves what the kernel finds its thread by.
    WriteGsBase,
}

impl Kind {
    /// Its name in the manual.
    pub fn name(self) -> &'static str {
        match self {
            Kind::WritePkru => "WRPKRU",
            Kind::Xrstor => "XRSTOR",
            Kind::WriteGsBase => "WRGSBASE",
        }
    }

    fn of(bytes: [u8; 3]) -> Option<Kind> {
        match bytes {
            [0x0f, 0x01, 0xef] => Some(Kind::WritePkru),
            [0x0f, 0xae, 0x28..=0x2f | 0x68..=0x6f | 0xa8..=0xaf] => Some(Kind::Xrstor),
            [0x0f, 0xae, 0xd8..=0xdf] => Some(Kind::WriteGsBase),
            _ => None,
        }
    }

    /// Whether an instruction is what the bytes are.
    pub fn is(self, instruction: &Instruction) -> bool {
        let mnemonic = instruction.mnemonic();
        match self {
            Kind::WritePkru => mnemonic == Mnemonic::Wrpkru,
            Kind::Xrstor => matches!(mnemonic, Mnemonic::Xrstor | Mnemonic::Xrstor64),
            Kind::WriteGsBase => mnemonic == Mnemonic::Wrgsbase,
        }
    }
}

/// Bytes that tell an occurrence.
pub const LENGTH: usize = 3;
/// Bytes around what is searched that can belong to an occurrence in it: prefixes, and an occurrence.
pub const SIDE: usize = 16;
/// Bytes in front of an occurrence from which decoding starts at the earliest.
const BEFORE: usize = 96;
/// The longest instruction.
pub const AFTER: usize = 15;
/// Bytes in front of an occurrence, and from it on, that have to look like code.
pub const STRETCH: usize = 256;
/// See [`STRETCH`].
pub const STRETCH_BEHIND: usize = 96;
/// Decoding starts no nearer than this: it is in step with the code by then.
const NEAREST: usize = 32;
/// So many ways of decoding have to lead to the instruction.
const AGREE: usize = 16;

/// Where in `code` the bytes are.
pub fn occurrences(code: &[u8]) -> impl Iterator<Item = (usize, Kind)> + '_ {
    let mut at = 0;
    core::iter::from_fn(move || {
        loop {
            at = next_opcode(code, at)?;
            let bytes = code.get(at..)?.first_chunk::<LENGTH>()?;
            at += 1;
            if let Some(kind) = Kind::of(*bytes)
                && (kind != Kind::WriteGsBase || may_be_prefixed(code.get(..at - 1)?))
            {
                return Some((at - 1, kind));
            }
        }
    })
}

/// Whether the prefixes that end here have the one that makes WRGSBASE what it is (REP).
fn may_be_prefixed(before: &[u8]) -> bool {
    for (distance, byte) in before.iter().rev().enumerate() {
        match byte {
            0xf3 => return true,
            0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 if distance < AFTER => {}
            _ => return false,
        }
    }
    // What stands there is not known.
    true
}

/// The first opcode of those looked for, without its last byte, from `at` on. Whole libraries are searched when they are first run: eight
/// places at once.
fn next_opcode(code: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    // Bytes that are zero have their top bit set, and perhaps some above one that is.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
    while let Some(&[first, second, third, fourth, fifth, sixth, seventh, eighth, ninth]) =
        code.get(at..)?.first_chunk::<9>()
    {
        let here =
            u64::from_le_bytes([first, second, third, fourth, fifth, sixth, seventh, eighth]) ^ (ONES * 0x0f);
        let next = u64::from_le_bytes([second, third, fourth, fifth, sixth, seventh, eighth, ninth]);
        if zeros(here | (next ^ ONES)) | zeros(here | (next ^ (ONES * 0xae))) != 0 {
            break;
        }
        at += 8;
    }
    let rest = code.get(at..)?;
    let mut places = rest.windows(2);
    places.position(|pair| matches!(pair, [0x0f, 0x01 | 0xae])).map(|found| at + found)
}

/// The instruction that has the byte at `at`, and where it starts, if the code in front leads there. Decoded from many places: x86 code
/// comes into step with itself soon.
pub fn covering(code: &[u8], at: usize) -> Option<(usize, Instruction)> {
    let nearest = at.checked_sub(NEAREST)?;
    let first = at.saturating_sub(BEFORE);
    // Where decoding from each place arrives; from the last place on, so that each is decoded once.
    let mut arrivals = [None; BEFORE + 1];
    for from in (first..=at).rev() {
        let arrival = match decode(code, from) {
            Some(instruction) if from + instruction.len() > at => Some((from, instruction)),
            Some(instruction) => arrivals.get(from + instruction.len() - first).copied().flatten(),
            None => None,
        };
        *arrivals.get_mut(from - first)? = arrival;
    }
    let mut agreeing = arrivals.get(..=nearest - first)?.iter().flatten();
    let found = agreeing.next()?;
    let same =
        |(start, instruction): &(usize, Instruction)| (*start, instruction.len()) == (found.0, found.1.len());
    let mut count = 1;
    for other in agreeing {
        if !same(other) {
            return None;
        }
        count += 1;
    }
    (count >= AGREE).then_some(*found)
}

fn decode(code: &[u8], from: usize) -> Option<Instruction> {
    let rest = code.get(from..)?;
    let instruction = Decoder::with_ip(64, rest, 0, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// Whether what is around `at` is code and not a table that somebody reads: tables come into step with themselves as well, but hardly go on
/// for long without anything that compilers do not emit.
pub fn is_code(code: &[u8], at: usize) -> bool {
    let Some(from) = at.checked_sub(STRETCH).filter(|_| code.len() >= at + STRETCH_BEHIND) else {
        return false;
    };
    let mut decoder = Decoder::with_ip(64, code.get(from..).unwrap_or_default(), 0, DecoderOptions::NONE);
    while decoder.position() < STRETCH + STRETCH_BEHIND - AFTER {
        let start = decoder.position();
        let instruction = decoder.decode();
        if start >= NEAREST && (instruction.is_invalid() || is_unusual(instruction.mnemonic())) {
            return false;
        }
    }
    true
}

fn is_unusual(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::In
            | M::Out
            | M::Insb
            | M::Insd
            | M::Outsb
            | M::Outsd
            | M::Hlt
            | M::Cli
            | M::Sti
            | M::Iretd
            | M::Retf
            | M::Cmc
            | M::Xlatb
            | M::Int1
            | M::Int
            | M::Loop
            | M::Loope
            | M::Loopne
            | M::Jrcxz
            | M::Sahf
            | M::Lahf
            | M::Enter
            | M::Std
    )
}

/// Whether an instruction is a jump or a call to a place that its distance tells.
pub fn is_branch(instruction: &Instruction) -> bool {
    instruction.is_call_near() || instruction.is_jmp_short_or_near() || instruction.is_jcc_short_or_near()
}

/// The bytes that do at `to` what the instruction does that stands at `from`; `None` for one that has to be where it is.
pub fn moved(code: &[u8], from: u64, to: u64) -> Option<([u8; AFTER], usize)> {
    let mut decoder = Decoder::with_ip(64, code, from, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid()
        || instruction.flow_control() != FlowControl::Next
        || is_unusual(instruction.mnemonic())
    {
        return None;
    }
    let length = instruction.len();
    let mut bytes = [0; AFTER];
    bytes.get_mut(..length)?.copy_from_slice(code.get(..length)?);
    if instruction.is_ip_rel_memory_operand() {
        let place = decoder.get_constant_offsets(&instruction);
        let distance = bytes.get_mut(place.displacement_offset()..)?.first_chunk_mut::<4>()?;
        let new = i64::from(i32::from_le_bytes(*distance)).checked_add(from.wrapping_sub(to) as i64)?;
        *distance = i32::try_from(new).ok()?.to_le_bytes();
    }
    Some((bytes, length))
}

/// Whether none of the bytes that are there while `old` becomes `new` (byte by byte, the first by way of a breakpoint) is an occurrence
/// with what is `before` and `after`.
pub fn exchange_is_harmless(before: &[u8], old: &[u8; 5], new: &[u8; 5], after: &[u8]) -> bool {
    const BREAKPOINT: u8 = 0xcc;
    (0..3 << 4).all(|mix: u32| {
        let mut code = Vec::with_capacity(before.len() + old.len() + after.len());
        code.extend_from_slice(before);
        for (index, (old, new)) in old.iter().zip(new).enumerate() {
            code.push(match (index, mix >> 4) {
                (0, 0) => *old,
                (0, 1) => *new,
                (0, _) => BREAKPOINT,
                _ if mix >> (index - 1) & 1 == 0 => *old,
                _ => *new,
            });
        }
        code.extend_from_slice(after);
        occurrences(&code).next().is_none()
    })
}
