//! From a [`Program`] to the mappings that make it up, in the order in which to make them.
//!
//! Source: `elf_load`, `elf_map` and the end of `load_elf_binary` in fs/binfmt_elf.c of Linux 6.18. Worth knowing:
//!
//! - Segments may overlap: each step replaces what earlier steps put there (`MAP_FIXED`).
//! - Anonymous pages behind the file's part of a segment are readable and writable whatever the segment says, and
//!   executable if it is (`vm_brk_flags`).
//! - The last page of the file's part is zeroed to its end, but only if the segment is writable; else the bytes of the
//!   file that follow are seen.
//!
//! The kernel image is mapped with the same plan: `Limits` are its place in the region, the bias is the base.

use crate::elf::{Kind, Program, Prot, Segment};
use crate::error::{Errno, LoadError};
use crate::page::{PAGE_SIZE, TASK_SIZE, page_end, page_offset, page_start};
use alloc::vec::Vec;
use core::ops::Range;

/// `ELF_ET_DYN_BASE` (arch/x86/include/asm/elf.h): two thirds of the address space.
const ELF_ET_DYN_BASE: u64 = 0x5555_5555_4aaa;
/// How far `arch_randomize_brk` moves the start of the heap at most.
const BRK_RANDOM_SPAN: u64 = 1 << 30;

/// Addresses that a program may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// First address that may be mapped: `vm.mmap_min_addr` for programs.
    pub start: u64,
    /// End of the addresses that may be mapped: [`TASK_SIZE`] for programs.
    pub end: u64,
    /// Addresses between that are taken, such as the kernel's region; may be empty.
    pub reserved: Range<u64>,
}

/// Where an `ET_DYN` program is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Lowest address of the program's first segment (less after rounding down to its alignment).
    pub base: u64,
    /// Random bytes are added below this many; 0 for no randomisation.
    pub random_span: u64,
}

impl Window {
    /// Where Linux puts programs that have an interpreter: 28 random bits of pages above `ELF_ET_DYN_BASE`. Programs
    /// without one (static-pie, or ld.so called by its name) go where `mmap` puts a file instead.
    pub const PIE: Window = Window { base: page_start(ELF_ET_DYN_BASE), random_span: 1 << 40 };
}

/// One thing to do to an address space. Addresses and lengths are whole pages, except in `ZeroTail`; lengths are not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Map the file, privately and at this address. Pages wholly behind the end of the file give `SIGBUS`.
    MapFile {
        /// First address.
        addr: u64,
        /// Bytes.
        len: u64,
        /// Place in the file.
        offset: u64,
        /// Access.
        prot: Prot,
    },
    /// Map zeroed pages, privately and at this address.
    MapAnonymous {
        /// First address.
        addr: u64,
        /// Bytes.
        len: u64,
        /// Access.
        prot: Prot,
    },
    /// Write zeros, less than a page and within one, to what an earlier step mapped writable.
    ZeroTail {
        /// First address.
        addr: u64,
        /// Bytes, to the end of the page.
        len: u64,
    },
}

impl Step {
    /// The addresses it changes.
    pub fn range(&self) -> Range<u64> {
        let (Step::MapFile { addr, len, .. }
        | Step::MapAnonymous { addr, len, .. }
        | Step::ZeroTail { addr, len }) = *self;
        addr..addr.saturating_add(len)
    }
}

/// A program at its place. Every address is inside the [`Limits`] it was planned for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What to do, in this order.
    pub steps: Vec<Step>,
    /// From the first to the last page of all steps; empty if there are none.
    pub range: Range<u64>,
    /// Added to every address of the file (modulo 2^64). `AT_BASE` if this is the interpreter.
    pub bias: u64,
    /// Where it starts; `AT_ENTRY`.
    pub entry: u64,
    /// `AT_PHDR`.
    pub phdr: u64,
    /// End of the program, rounded up to a page: where the heap may start at the earliest. See [`choose_brk`].
    pub brk: u64,
    /// `start_code` and `end_code` of proc_pid_stat(5): executable segments, as far as they are in the file.
    pub code: Range<u64>,
    /// `start_data` and `end_data` of proc_pid_stat(5): the highest start, and the highest end in the file.
    pub data: Range<u64>,
}

/// Picks the load bias: 0 for `ET_EXEC`; else such that the first segment lies at a random, aligned place of the
/// window. Not uniform to the last bit, as `random` is taken modulo the room.
///
/// # Errors
/// Fatal `ENOMEM`, `EPERM` or `EEXIST` where the program does not fit inside the limits there.
pub fn choose_bias(
    program: &Program,
    random: u64,
    window: Window,
    limits: &Limits,
) -> Result<u64, LoadError> {
    let first = match (program.kind, program.segments.first()) {
        (Kind::Dyn, Some(first)) => first,
        _ => return Ok(0),
    };
    let too_big = LoadError::fatal(Errno::ENOMEM, "no room for the program");
    let last_base = limits.end.checked_sub(program.span_len()).ok_or(too_big)?;
    let room = last_base.checked_sub(window.base).ok_or(too_big)?;
    let choices = window.random_span.min(room.saturating_add(1));
    let base = window.base.saturating_add(random.checked_rem(choices).unwrap_or(0));
    // The two masks are Linux's: first the alignment, then the page, below the first segment's address.
    let aligned = base & !program.align.wrapping_sub(1);
    let bias = page_start(aligned.wrapping_sub(first.vaddr));

    let low = bias.wrapping_add(program.span.start);
    check_range(low, program.span_len(), limits)?;
    Ok(bias)
}

/// Lays a program out at a load bias, which must be a multiple of the page size, as [`choose_bias`] gives it or any
/// other that suits (0 for `ET_EXEC`).
///
/// # Errors
/// All fatal: `EPERM` below the limits, `ENOMEM` beyond, `EEXIST` in reserved addresses; `EINVAL` for an entry point
/// outside of the address space (asked of programs without an interpreter only) or a bias inside a page; `EFAULT`
/// where the last page of a writable segment is to be zeroed but lies behind the end of the file.
pub fn plan(program: &Program, bias: u64, limits: &Limits) -> Result<Plan, LoadError> {
    if page_offset(bias) != 0 {
        return Err(LoadError::fatal(Errno::EINVAL, "the load bias is not a multiple of the page size"));
    }
    let entry = bias.wrapping_add(program.entry);
    if program.interp.is_none() && entry >= TASK_SIZE {
        return Err(LoadError::fatal(Errno::EINVAL, "the entry point lies outside of the address space"));
    }
    let mut steps = Vec::with_capacity(program.segments.len().saturating_mul(2));
    for segment in &program.segments {
        push_steps(&mut steps, segment, program.file_size, bias, limits)?;
    }

    let mut range = steps.first().map_or(0..0, Step::range);
    for step in &steps {
        let of_step = step.range();
        range = range.start.min(of_step.start)..range.end.max(of_step.end);
    }
    let file_end = |s: &Segment| s.vaddr.saturating_add(s.file_size);
    let code = program.segments.iter().filter(|s| s.prot.contains(Prot::EXEC));
    let code = bounds(code.clone().map(|s| s.vaddr).min(), code.map(file_end).max(), bias);
    let all = program.segments.iter();
    let data = bounds(all.clone().map(|s| s.vaddr).max(), all.map(file_end).max(), bias);
    let brk = page_end(bias.wrapping_add(program.span.end)).unwrap_or(limits.end);

    Ok(Plan {
        steps,
        range,
        bias,
        entry,
        phdr: bias.wrapping_add(program.phdr_vaddr),
        brk: brk.max(limits.start).min(limits.end),
        code,
        data,
    })
}

/// Picks where the heap starts, as `load_elf_binary` does when `kernel.randomize_va_space` is 2: a page and up to 1 GiB
/// behind the program; for programs that lie among the `mmap` areas (no interpreter) up to 1 GiB above
/// `ELF_ET_DYN_BASE` instead. `random` is `None` where randomisation is off. A place that is not free is the end of the
/// program.
pub fn choose_brk(program: &Program, plan: &Plan, random: Option<u64>, limits: &Limits) -> u64 {
    let moved = program.kind == Kind::Dyn && program.interp.is_none();
    let floor = if moved { page_end(ELF_ET_DYN_BASE).unwrap_or(plan.brk) } else { plan.brk };
    let start = match random {
        Some(random) => {
            let gap = if moved { 0 } else { PAGE_SIZE };
            floor.saturating_add(gap).saturating_add(page_start(random % BRK_RANDOM_SPAN))
        }
        None => floor,
    };
    if check_range(start, PAGE_SIZE, limits).is_ok() { start } else { plan.brk }
}

fn bounds(low: Option<u64>, high: Option<u64>, bias: u64) -> Range<u64> {
    match (low, high) {
        (Some(low), Some(high)) => bias.wrapping_add(low)..bias.wrapping_add(high),
        _ => 0..0,
    }
}

/// `elf_load` for one segment.
fn push_steps(
    steps: &mut Vec<Step>,
    segment: &Segment,
    file_size: u64,
    bias: u64,
    limits: &Limits,
) -> Result<(), LoadError> {
    if segment.mem_size == 0 {
        // elf_load maps nothing then.
        return Ok(());
    }
    let too_far = LoadError::fatal(Errno::ENOMEM, "a segment does not fit into the address space");
    let first = bias.wrapping_add(segment.vaddr);
    let addr = page_start(first);
    let mem_end = first.checked_add(segment.mem_size).and_then(page_end).ok_or(too_far)?;
    let file_end = first.checked_add(segment.file_size).ok_or(too_far)?;
    let file_pages_end = page_end(file_end).ok_or(too_far)?;
    check_range(addr, mem_end.saturating_sub(addr), limits)?;

    let mut anonymous = addr;
    if segment.file_size > 0 {
        let offset = page_start(segment.offset);
        steps.push(Step::MapFile {
            addr,
            len: file_pages_end.saturating_sub(addr),
            offset,
            prot: segment.prot,
        });
        anonymous = file_pages_end;
        let tail = file_pages_end.saturating_sub(file_end);
        if segment.mem_size > segment.file_size && tail > 0 && segment.prot.contains(Prot::WRITE) {
            let tail_in_file = offset.saturating_add(page_start(file_end).saturating_sub(addr));
            if tail_in_file >= file_size {
                return Err(LoadError::fatal(
                    Errno::EFAULT,
                    "the file ends before the last page of a segment that is to be zeroed from there",
                ));
            }
            steps.push(Step::ZeroTail { addr: file_end, len: tail });
        }
    }
    if mem_end > anonymous {
        steps.push(Step::MapAnonymous {
            addr: anonymous,
            len: mem_end.saturating_sub(anonymous),
            prot: Prot::READ | Prot::WRITE | (segment.prot & Prot::EXEC),
        });
    }
    Ok(())
}

/// Is `[addr, addr + len)` free to be mapped?
fn check_range(addr: u64, len: u64, limits: &Limits) -> Result<(), LoadError> {
    if addr < limits.start {
        // cap_mmap_addr in security/commoncap.c
        return Err(LoadError::fatal(Errno::EPERM, "an address is below vm.mmap_min_addr"));
    }
    let end = match addr.checked_add(len) {
        Some(end) if end <= limits.end => end,
        _ => return Err(LoadError::fatal(Errno::ENOMEM, "an address is beyond the address space")),
    };
    if addr < limits.reserved.end && end > limits.reserved.start {
        // MAP_FIXED_NOREPLACE of the first segment; for later ones ours is the stricter answer.
        return Err(LoadError::fatal(Errno::EEXIST, "an address is taken by the kernel"));
    }
    Ok(())
}
