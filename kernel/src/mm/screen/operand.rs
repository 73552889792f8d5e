//! The operand of an instruction that the kernel does.

use super::StandIn;
use iced_x86::{Decoder, DecoderOptions, Register};
use trap_handler::regs::Regs;

impl StandIn {
    /// The address of its operand in memory, where it stands at `start`; `None` where it depends on GS, which is the kernel's, or has an address size
    /// prefix, which no compiler emits.
    pub fn operand(&self, start: u64, regs: &Regs, fs_base: u64) -> Option<u64> {
        let instruction = Decoder::with_ip(64, self.bytes(), start, DecoderOptions::NONE).decode();
        instruction.virtual_address(0, 0, |register, _, _| value(register, regs, fs_base))
    }
}

/// Where a jump or call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Branch {
    /// Where to.
    pub target: u64,
    /// The low bits of a conditional jump's opcode, which tell its condition.
    pub condition: Option<u8>,
    /// It leaves a return address.
    pub calls: bool,
}

impl StandIn {
    /// The jump or call that it is, where it stands at `start`.
    pub fn branch(&self, start: u64) -> Option<Branch> {
        let instruction = Decoder::with_ip(64, self.bytes(), start, DecoderOptions::NONE).decode();
        let mut opcode = self.bytes().iter().skip_while(|byte| !matches!(byte, 0x0f | 0x70..=0x7f));
        let condition = instruction.is_jcc_short_or_near().then(|| match opcode.next() {
            Some(0x0f) => opcode.next().copied(),
            first => first.copied(),
        });
        let condition = condition.flatten().map(|opcode| opcode & 15);
        let known =
            instruction.is_jcc_short_or_near() == condition.is_some() && super::find::is_branch(&instruction);
        let calls = instruction.is_call_near();
        known.then(|| Branch { target: instruction.near_branch_target(), condition, calls })
    }
}

fn value(register: Register, regs: &Regs, fs_base: u64) -> Option<u64> {
    let whole = match register {
        Register::RAX => regs.rax,
        Register::RBX => regs.rbx,
        Register::RCX => regs.rcx,
        Register::RDX => regs.rdx,
        Register::RSI => regs.rsi,
        Register::RDI => regs.rdi,
        Register::RBP => regs.rbp,
        Register::RSP => regs.rsp,
        Register::R8 => regs.r8,
        Register::R9 => regs.r9,
        Register::R10 => regs.r10,
        Register::R11 => regs.r11,
        Register::R12 => regs.r12,
        Register::R13 => regs.r13,
        Register::R14 => regs.r14,
        Register::R15 => regs.r15,
        Register::CS | Register::DS | Register::ES | Register::SS => 0,
        Register::FS => fs_base,
        _ => return None,
    };
    Some(whole)
}
