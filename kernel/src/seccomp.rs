//! Filters that programs put over their own calls (seccomp(2)): classic BPF over `struct seccomp_data`
//! (the host kernel's `kernel/seccomp.c`, `net/core/filter.c`). They bind the program, not the sandbox: its walls are the host's.

use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Instructions of one filter, and of all that a task has (each of which counts for four more), at most.
const MAX_INSTRUCTIONS: usize = 4096;
const MAX_ALL: usize = (1 << 18) / 8;
/// Call numbers for which it is known whether a filter looks at no more than them.
const KNOWN: u32 = 512;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// What a filter sees (`struct seccomp_data`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Call {
    /// Number of the call.
    pub number: u32,
    /// `AUDIT_ARCH_*` of how it was made.
    pub arch: u32,
    /// Behind the instruction that made it.
    pub ip: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let half =
            |value: u64, offset: u32| if offset & 4 == 0 { value as u32 } else { (value >> 32) as u32 };
        match offset {
            0 => self.number,
            4 => self.arch,
            8 | 12 => half(self.ip, offset.wrapping_sub(8)),
            _ => {
                let at = offset.wrapping_sub(16) / 8;
                self.args.get(at as usize).map_or(0, |value| half(*value, offset))
            }
        }
    }
}

/// What becomes of a call. The data of an action is the low half of what the filter returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The process ends.
    KillProcess,
    /// The thread ends.
    KillThread,
    /// SIGSYS, with this as `si_errno`.
    Trap(u16),
    /// The call gives this error.
    Errno(u16),
    /// Somebody with a listener decides; nobody has one.
    Notify,
    /// The tracer decides, with this as the event's message.
    Trace(u16),
    /// It is made.
    Allow,
}

impl Action {
    /// The action of a filter's value: Linux takes one it does not know for the strictest.
    fn of(value: u32) -> Action {
        let data = value as u16;
        match value & 0xffff_0000 {
            0x0000_0000 => Action::KillThread,
            0x0003_0000 => Action::Trap(data),
            0x0005_0000 => Action::Errno(data),
            0x7fc0_0000 => Action::Notify,
            0x7ff0_0000 => Action::Trace(data),
            // SECCOMP_RET_LOG: there is no audit log.
            0x7ffc_0000 | 0x7fff_0000 => Action::Allow,
            _ => Action::KillProcess,
        }
    }

    /// Whether `value` is the code of an action that is there (`SECCOMP_GET_ACTION_AVAIL`).
    pub fn is_available(value: u32) -> bool {
        matches!(value, 0x8000_0000 | 0 | 0x3_0000 | 0x5_0000 | 0x7ff0_0000 | 0x7ffc_0000 | 0x7fff_0000)
    }
}

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    value: u32,
}

impl Instruction {
    /// From its bytes in memory order.
    fn of(word: u64) -> Instruction {
        Instruction {
            code: word as u16,
            jump_true: (word >> 16) as u8,
            jump_false: (word >> 24) as u8,
            value: (word >> 32) as u32,
        }
    }
}

/// A filter, and those that were there before it: all are asked, the strictest answer counts.
#[derive(Debug)]
pub struct Filter {
    program: Vec<Instruction>,
    before: Option<Arc<Filter>>,
    /// How many there are with it.
    count: u32,
    /// Instructions of all.
    length: usize,
    /// Bits of call numbers (of 64-bit calls) that all filters allow without a look at anything else.
    allowed: [u64; KNOWN as usize / 64],
}

const LOAD_WORD: u16 = 0x20;
const LOAD_LENGTH: u16 = 0x80;
const LOAD_X_LENGTH: u16 = 0x81;
const LOAD_VALUE: u16 = 0x00;
const LOAD_X_VALUE: u16 = 0x01;
const LOAD_MEMORY: u16 = 0x60;
const LOAD_X_MEMORY: u16 = 0x61;
const STORE: u16 = 0x02;
const STORE_X: u16 = 0x03;
const TO_X: u16 = 0x07;
const FROM_X: u16 = 0x87;
const RETURN_VALUE: u16 = 0x06;
const RETURN_A: u16 = 0x16;
const NEGATE: u16 = 0x84;
const JUMP: u16 = 0x05;
/// Size of `struct seccomp_data`.
const DATA_SIZE: u32 = 64;
/// Words of scratch memory (`BPF_MEMWORDS`).
const MEMORY: u32 = 16;
/// Operand X instead of the value.
const OPERAND_X: u16 = 0x08;

/// Arithmetic (`BPF_ALU`) and jumps (`BPF_JMP`) with the value or X, by their operation bits.
fn is_arithmetic(code: u16) -> bool {
    code & !(OPERAND_X | 0x70) == 0x04 || code & !OPERAND_X == 0xa4
}

fn is_conditional(code: u16) -> bool {
    matches!(code & !OPERAND_X, 0x15 | 0x25 | 0x35 | 0x45)
}

impl Filter {
    /// Checks a program, each instruction its eight bytes in memory order, and puts it before `before`.
    ///
    /// # Errors
    /// `EINVAL` for one that Linux refuses, `ENOMEM` if there would be too many instructions in all.
    pub fn new(program: &[u64], before: Option<Arc<Filter>>) -> Result<Arc<Filter>> {
        let program: Vec<Instruction> = program.iter().map(|word| Instruction::of(*word)).collect();
        check(&program)?;
        let (count, above) = before.as_ref().map_or((0, 0), |before| (before.count, before.length + 4));
        let length = above + program.len();
        if length > MAX_ALL {
            return Err(Errno::ENOMEM);
        }
        let mut filter = Filter { program, before, count: count.saturating_add(1), length, allowed: [0; 8] };
        let all = [u64::MAX; 8];
        let earlier = filter.before.as_ref().map_or(all, |before| before.allowed);
        for number in 0..KNOWN {
            let (at, bit) = ((number / 64) as usize, 1u64 << (number % 64));
            let call = Call { number, arch: AUDIT_ARCH_X86_64, ..Call::default() };
            if earlier.get(at).is_some_and(|bits| bits & bit != 0)
                && execute(&filter.program, |offset| (offset < 8).then(|| call.word(offset)))
                    .is_some_and(|value| Action::of(value) == Action::Allow)
                && let Some(bits) = filter.allowed.get_mut(at)
            {
                *bits |= bit;
            }
        }
        Ok(Arc::new(filter))
    }

    /// How many filters there are (`Seccomp_filters` of `/proc/PID/status`).
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether `other` is this one or was there before it.
    pub fn descends_from(self: &Arc<Filter>, other: &Arc<Filter>) -> bool {
        self.chain().any(|filter| core::ptr::eq(filter, &**other))
    }

    fn chain(&self) -> impl Iterator<Item = &Filter> {
        core::iter::successors(Some(self), |filter| filter.before.as_deref())
    }

    /// Whether the call is allowed whatever its arguments.
    pub fn allows_always(&self, number: u32, arch: u32) -> bool {
        let bits = self.allowed.get((number / 64) as usize);
        arch == AUDIT_ARCH_X86_64 && number < KNOWN && bits.is_some_and(|bits| bits >> (number % 64) & 1 != 0)
    }

    /// What becomes of a call.
    pub fn judge(&self, call: &Call) -> Action {
        if self.allows_always(call.number, call.arch) {
            return Action::Allow;
        }
        // A checked program loads nothing else. The smallest value of those that count as signed is the strictest; of equals, the
        // newest filter's.
        let value_of =
            |filter: &Filter| execute(&filter.program, |offset| Some(call.word(offset))).unwrap_or(0);
        let action_of = |value: u32| (value & 0xffff_0000) as i32;
        let strictest = self.chain().map(value_of).min_by_key(|value| action_of(*value));
        Action::of(strictest.unwrap_or(0))
    }
}

impl Drop for Filter {
    /// In a loop: a chain of last references would recurse as deep as it is long.
    fn drop(&mut self) {
        let mut next = self.before.take();
        while let Some(filter) = next {
            next = Arc::into_inner(filter).and_then(|mut filter| filter.before.take());
        }
    }
}

/// Whether Linux takes the program (`bpf_check_classic`, `seccomp_check_filter`).
fn check(program: &[Instruction]) -> Result<()> {
    if program.is_empty() || program.len() > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    let mut written = alloc::vec![u16::MAX; program.len()];
    let mut stored = 0u16;
    for (at, instruction) in program.iter().enumerate() {
        // Memory that some way here has not written may not be read (`check_load_and_stores`).
        stored &= written.get(at).copied().unwrap_or(0);
        let rest = (program.len() - at - 1) as u32;
        let mut reaches = |distance: u32, stored: u16| {
            let reached = written.get_mut(at + 1 + distance as usize);
            reached.filter(|_| distance < rest).map(|reached| *reached &= stored).is_some()
        };
        let code = instruction.code;
        let value = instruction.value;
        let good = match code {
            LOAD_WORD => value < DATA_SIZE && value.is_multiple_of(4),
            LOAD_LENGTH | LOAD_X_LENGTH | LOAD_VALUE | LOAD_X_VALUE | TO_X | FROM_X | RETURN_VALUE
            | RETURN_A | NEGATE => true,
            LOAD_MEMORY | LOAD_X_MEMORY => value < MEMORY && stored & 1 << value != 0,
            STORE | STORE_X => {
                stored |= 1u16.checked_shl(value).unwrap_or(0);
                value < MEMORY
            }
            JUMP => {
                let good = reaches(value, stored);
                stored = u16::MAX;
                good
            }
            _ if is_conditional(code) => {
                let good = reaches(u32::from(instruction.jump_true), stored)
                    && reaches(u32::from(instruction.jump_false), stored);
                stored = u16::MAX;
                good
            }
            // Division by zero, and shifts by all bits and more.
            0x34 => value != 0,
            0x64 | 0x74 => value < 32,
            // BPF_MOD and BPF_XOR share the upper half; seccomp has the second alone.
            _ => is_arithmetic(code),
        };
        if !good {
            return Err(Errno::EINVAL);
        }
    }
    let returns = program.last().is_some_and(|last| matches!(last.code, RETURN_VALUE | RETURN_A));
    if returns { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Runs a checked program over what `load` gives; `None` if that gives nothing.
fn execute(program: &[Instruction], load: impl Fn(u32) -> Option<u32>) -> Option<u32> {
    let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; MEMORY as usize]);
    let mut at = 0usize;
    // Jumps only go forward.
    while let Some(instruction) = program.get(at) {
        at += 1;
        let value = instruction.value;
        let operand = if instruction.code & OPERAND_X != 0 { x } else { value };
        match instruction.code {
            LOAD_WORD => a = load(value)?,
            LOAD_VALUE => a = value,
            LOAD_X_VALUE => x = value,
            LOAD_LENGTH => a = DATA_SIZE,
            LOAD_X_LENGTH => x = DATA_SIZE,
            LOAD_MEMORY => a = memory.get(value as usize).copied().unwrap_or(0),
            LOAD_X_MEMORY => x = memory.get(value as usize).copied().unwrap_or(0),
            STORE | STORE_X => {
                if let Some(word) = memory.get_mut(value as usize) {
                    *word = if instruction.code == STORE { a } else { x };
                }
            }
            TO_X => x = a,
            FROM_X => a = x,
            RETURN_VALUE => return Some(value),
            RETURN_A => return Some(a),
            JUMP => at += value as usize,
            code if code & 0x07 == 0x05 => {
                let holds = match code & 0xf0 {
                    0x10 => a == operand,
                    0x20 => a > operand,
                    0x30 => a >= operand,
                    _ => a & operand != 0,
                };
                at += usize::from(if holds { instruction.jump_true } else { instruction.jump_false });
            }
            code => {
                a = match code & 0xf0 {
                    0x00 => a.wrapping_add(operand),
                    0x10 => a.wrapping_sub(operand),
                    0x20 => a.wrapping_mul(operand),
                    // By X, which may be 0: the filter then returns 0 (classic BPF).
                    0x30 => match a.checked_div(operand) {
                        Some(quotient) => quotient,
                        None => return Some(0),
                    },
                    0x40 => a | operand,
                    0x50 => a & operand,
                    0x60 => a.wrapping_shl(operand),
                    0x70 => a.wrapping_shr(operand),
                    0x80 => a.wrapping_neg(),
                    _ => a ^ operand,
                };
            }
        }
    }
    // A checked program ends with a return.
    Some(0)
}

/// How a task's calls are filtered.
#[derive(Debug, Clone, Default)]
pub enum Mode {
    /// Not at all.
    #[default]
    Disabled,
    /// read(2), write(2), exit(2) and rt_sigreturn(2) alone.
    Strict,
    /// By filters.
    Filtered(Arc<Filter>),
}

impl Mode {
    /// Number and count of filters, as `/proc/PID/status` has them.
    pub fn shown(&self) -> (u32, u32) {
        match self {
            Mode::Disabled => (0, 0),
            Mode::Strict => (1, 0),
            Mode::Filtered(filter) => (2, filter.count()),
        }
    }

    /// The filters, if there are any.
    pub fn filter(&self) -> Option<&Arc<Filter>> {
        if let Mode::Filtered(filter) = self { Some(filter) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u16, jump_true: u8, jump_false: u8, value: u32) -> u64 {
        u64::from(code) | u64::from(jump_true) << 16 | u64::from(jump_false) << 24 | u64::from(value) << 32
    }

    const ALLOW: u32 = 0x7fff_0000;

    fn call(number: u32, first: u64) -> Call {
        Call { number, arch: AUDIT_ARCH_X86_64, ip: 0x1000, args: [first, 0, 0, 0, 0, 0] }
    }

    #[test]
    fn what_linux_refuses_is_refused() {
        let end = instruction(RETURN_VALUE, 0, 0, ALLOW);
        let refused: &[&[u64]] = &[
            &[],
            &[instruction(LOAD_WORD, 0, 0, 0)],
            &[instruction(LOAD_WORD, 0, 0, 64), end],
            &[instruction(LOAD_WORD, 0, 0, 2), end],
            &[instruction(0x28, 0, 0, 0), end],
            &[instruction(JUMP, 0, 0, 1), end],
            &[instruction(JUMP, 0, 0, u32::MAX), end],
            &[instruction(0x15, 0, 1, 0), end],
            &[instruction(0x34, 0, 0, 0), end],
            &[instruction(0x64, 0, 0, 32), end],
            &[instruction(0x94, 0, 0, 1), end],
            &[instruction(LOAD_MEMORY, 0, 0, 0), end],
            &[instruction(STORE, 0, 0, 16), end],
            // One way does not write what is read.
            &[
                instruction(0x15, 0, 1, 0),
                instruction(STORE, 0, 0, 3),
                instruction(LOAD_MEMORY, 0, 0, 3),
                end,
            ],
        ];
        for program in refused {
            assert_eq!(Filter::new(program, None).err(), Some(Errno::EINVAL), "{program:x?}");
        }
        assert!(
            Filter::new(&[instruction(STORE, 0, 0, 3), instruction(LOAD_MEMORY, 0, 0, 3), end], None).is_ok()
        );
    }

    #[test]
    fn the_strictest_of_all_filters_counts() {
        let refuse_39 = [
            instruction(LOAD_WORD, 0, 0, 0),
            instruction(0x15, 0, 1, 39),
            instruction(RETURN_VALUE, 0, 0, 0x5_0001),
            instruction(RETURN_VALUE, 0, 0, ALLOW),
        ];
        let first_argument = [
            instruction(LOAD_WORD, 0, 0, 16),
            instruction(0x15, 0, 1, 7),
            instruction(RETURN_VALUE, 0, 0, 0x8000_0000),
            instruction(RETURN_VALUE, 0, 0, ALLOW),
        ];
        let one = Filter::new(&refuse_39, None).expect("good");
        assert_eq!((one.judge(&call(39, 0)), one.judge(&call(1, 7))), (Action::Errno(1), Action::Allow));
        assert!(one.allowed[0] & 1 << 1 != 0 && one.allowed[0] & 1 << 39 == 0);
        let both = Filter::new(&first_argument, Some(one.clone())).expect("good");
        assert_eq!(
            (both.judge(&call(39, 0)), both.judge(&call(39, 7))),
            (Action::Errno(1), Action::KillProcess)
        );
        assert_eq!((both.count(), both.allowed), (2, [0; 8]));
        assert!(both.descends_from(&one) && !one.descends_from(&both));
    }

    #[test]
    fn a_long_chain_ends_without_recursion() {
        let allow = [instruction(RETURN_VALUE, 0, 0, ALLOW)];
        let mut filter = None;
        for _ in 0..6000 {
            filter = Some(Filter::new(&allow, filter).expect("room"));
        }
        assert_eq!(filter.as_ref().map(|filter| filter.judge(&call(600, 0))), Some(Action::Allow));
        let more = (0..1000).try_fold(filter, |filter, _| Filter::new(&allow, filter).map(Some));
        assert_eq!(more.err(), Some(Errno::ENOMEM));
    }
}
