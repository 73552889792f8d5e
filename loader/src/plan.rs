//! What to map where, for a program and a load bias.

use crate::elf::{PF_W, Program};
use crate::errno::ENOMEM;
use crate::{LoadError, PAGE, USER_END, page_down, page_up};
use alloc::vec::Vec;

/// One step, in order. Addresses and lengths are page aligned (but for [`Step::ZeroTail`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Map the file privately.
    MapFile {
        /// Where.
        address: u64,
        /// Bytes.
        length: u64,
        /// Offset in the file.
        offset: u64,
        /// `PF_*`.
        flags: u32,
    },
    /// Map zeros.
    MapZero {
        /// Where.
        address: u64,
        /// Bytes.
        length: u64,
        /// `PF_*`.
        flags: u32,
    },
    /// Clear the rest of a file page behind the file's bytes. Only for writable segments; a fault is ignored, as Linux does.
    ZeroTail {
        /// First byte.
        address: u64,
        /// Bytes.
        length: u64,
    },
}

/// The steps for a program at a bias, and where its break begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What to do.
    pub steps: Vec<Step>,
    /// First address behind the program, page aligned: where brk(2) starts.
    pub end: u64,
}

/// Makes the steps. `ENOMEM` if the bias brings a segment out of the address space.
pub fn plan(program: &Program, bias: u64) -> Result<Plan, LoadError> {
    const OUTSIDE: LoadError = LoadError::new(ENOMEM, "a segment lies outside the address space");
    let mut steps = Vec::new();
    let mut end = 0;
    for segment in &program.segments {
        if segment.memory_size == 0 {
            continue;
        }
        let start = segment.address.checked_add(bias).ok_or(OUTSIDE)?;
        let file_end = start.checked_add(segment.file_size).ok_or(OUTSIDE)?;
        let memory_end = start.checked_add(segment.memory_size).ok_or(OUTSIDE)?;
        let last = page_up(memory_end).ok_or(OUTSIDE)?;
        if last > USER_END {
            return Err(OUTSIDE);
        }
        let first = page_down(start);
        let mut zero_from = first;
        if segment.file_size > 0 {
            let mapped_end = page_up(file_end).ok_or(OUTSIDE)?;
            steps.push(Step::MapFile {
                address: first,
                length: mapped_end - first,
                offset: segment.offset - (start & (PAGE - 1)).min(segment.offset),
                flags: segment.flags,
            });
            if segment.memory_size > segment.file_size && segment.flags & PF_W != 0 && mapped_end > file_end {
                steps.push(Step::ZeroTail { address: file_end, length: mapped_end - file_end });
            }
            zero_from = mapped_end;
        }
        if last > zero_from {
            steps.push(Step::MapZero { address: zero_from, length: last - zero_from, flags: segment.flags });
        }
        end = end.max(last);
    }
    Ok(Plan { steps, end })
}

/// Where Linux puts position-independent programs: two thirds of the address space (`ELF_ET_DYN_BASE`).
pub const RELOCATABLE_BASE: u64 = 0x5555_5555_4000;

/// A load bias for a relocatable program at [`RELOCATABLE_BASE`] plus 28 random bits of pages, as Linux does.
pub fn program_bias(program: &Program, random: u64) -> u64 {
    let shift = (random & 0xfff_ffff) * PAGE;
    let start = (RELOCATABLE_BASE + shift) & !(program.alignment - 1);
    start.wrapping_sub(page_down(program.span().0))
}
