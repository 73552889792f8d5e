//! The ELF header and program headers, checked as Linux checks them.
//!
//! Sources: elf(5); the x86-64 psABI; fs/binfmt_elf.c of Linux 6.18, whose answers were compared on a running
//! kernel. What surprises:
//!
//! - Linux looks at the magic number, `e_type`, `e_machine`, `e_phentsize` and `e_phnum`, and at nothing else of the
//!   header: a wrong class, byte order or version in `e_ident` does not stop a program.
//! - A program header table that cannot be read is `ENOEXEC`, an interpreter path that cannot be is `EIO`.
//! - What is wrong with a `PT_LOAD` is found out when the old program is gone already: see [`LoadError::fatal`].
//! - A program without any `PT_LOAD` is started all the same, and dies at its first instruction.

use crate::error::{Errno, LoadError};
use crate::image::{Image, read_all, read_up_to, u16_at, u32_at, u64_at};
use crate::page::{PAGE_SIZE, TASK_SIZE, page_end, page_offset, page_start};
use alloc::vec;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::ops::Range;
use linux_raw_sys::elf_uapi;

/// `sizeof(Elf64_Ehdr)`.
const HEADER_SIZE: usize = 64;
/// `sizeof(Elf64_Phdr)`, the only `e_phentsize` there is.
const PHDR_SIZE: usize = 56;
/// Bytes that the program header table may have (`load_elf_phdrs`), so `e_phnum` is at most 1170.
const PHDRS_MAX: usize = 65536;
/// Longest path with its NUL, limits.h.
const PATH_MAX: u64 = 4096;

bitflags! {
    /// Access to a mapping; the bits are those of `PROT_*` in mmap(2).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Prot: u32 {
        /// `PROT_READ`.
        const READ = 1;
        /// `PROT_WRITE`.
        const WRITE = 2;
        /// `PROT_EXEC`.
        const EXEC = 4;
    }
}

/// Where a program may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `ET_EXEC`: at the addresses in the file.
    Exec,
    /// `ET_DYN`: anywhere; all addresses in the file are moved by one load bias.
    Dyn,
}

/// One `PT_LOAD`. File offset and address agree modulo the page size unless `file_size` is 0, and
/// `vaddr + mem_size` is at most [`TASK_SIZE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// `p_vaddr`, before the load bias.
    pub vaddr: u64,
    /// `p_offset`.
    pub offset: u64,
    /// `p_filesz`, at most `mem_size`.
    pub file_size: u64,
    /// `p_memsz`.
    pub mem_size: u64,
    /// From `p_flags`.
    pub prot: Prot,
}

/// What the headers of an executable say. Addresses are before the load bias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// `ET_EXEC` or `ET_DYN`.
    pub kind: Kind,
    /// `e_entry`.
    pub entry: u64,
    /// Where the program headers are in memory: in the last `PT_LOAD` whose part of the file holds `e_phoff`, 0 when
    /// none does. (Linux does not look at `PT_PHDR`.)
    pub phdr_vaddr: u64,
    /// `e_phentsize`, always 56.
    pub phent: u16,
    /// `e_phnum`.
    pub phnum: u16,
    /// Path of the interpreter without its NUL, from the first `PT_INTERP`. May be empty, which no file is named.
    pub interp: Option<Vec<u8>>,
    /// `PT_LOAD`s in the order of the file, which need be neither sorted nor disjoint.
    pub segments: Vec<Segment>,
    /// The last `PT_GNU_STACK` asks for an executable stack. Without one the stack is not executable
    /// (arch/x86/include/asm/elf.h, the table for x86-64).
    pub stack_exec: bool,
    /// File range of `PT_GNU_PROPERTY`: offset and size, unchecked. Linux ignores it on x86-64.
    pub property: Option<(u64, u64)>,
    /// From the start of the lowest page to the highest end of all segments; empty without segments.
    pub span: Range<u64>,
    /// Largest alignment asked for by a `PT_LOAD`; a power of two and at least a page. Others are ignored.
    pub align: u64,
    /// Size of the file, beyond which mapped pages give `SIGBUS`.
    pub file_size: u64,
}

impl Program {
    /// Bytes of address space from the first to the last page of the program.
    pub fn span_len(&self) -> u64 {
        page_end(self.span.end.saturating_sub(self.span.start)).unwrap_or(u64::MAX)
    }

    fn add_segment(&mut self, segment: Segment, align: u64, phoff: u64) {
        let start = page_start(segment.vaddr);
        let end = segment.vaddr.saturating_add(segment.mem_size);
        self.span = if self.segments.is_empty() {
            start..end
        } else {
            self.span.start.min(start)..self.span.end.max(end)
        };
        if align.is_power_of_two() {
            self.align = self.align.max(align);
        }
        if let Some(into) = phoff.checked_sub(segment.offset).filter(|&into| into < segment.file_size) {
            self.phdr_vaddr = segment.vaddr.saturating_add(into);
        }
        self.segments.push(segment);
    }
}

/// Reads the headers of a program that is to be executed.
///
/// # Errors
/// `ENOEXEC` for what is no x86-64 executable; `EIO`, `EINVAL` or the image's own error where the interpreter's
/// path cannot be read; fatal `EINVAL` or `EOVERFLOW` for a `PT_LOAD` that cannot be mapped.
pub fn parse(image: &(impl Image + ?Sized)) -> Result<Program, LoadError> {
    // A file shorter than the header reads as zeros behind its end, as in bprm->buf.
    let mut raw = [0; HEADER_SIZE];
    read_up_to(image, 0, &mut raw).map_err(|e| LoadError::returned(e, "the file cannot be read"))?;
    let header = Header::decode(&raw);
    header.check_format(Errno::ENOEXEC)?;
    let kind = header.kind().ok_or(LoadError::returned(Errno::ENOEXEC, "not an executable ELF file"))?;
    let phdrs = header.read_phdrs(image, Errno::ENOEXEC)?;

    let interp = match phdrs.iter().find(|p| p.p_type == elf_uapi::PT_INTERP) {
        Some(phdr) => Some(read_interp_path(image, phdr)?),
        None => None,
    };
    assemble(image, &header, kind, &phdrs, interp, Errno::EINVAL)
}

/// Reads the headers of the file that `PT_INTERP` names, usually ld.so. Its own `PT_INTERP` means nothing.
///
/// # Errors
/// `EIO` for a file shorter than an ELF header; `ELIBBAD` for what is no x86-64 executable; fatal `EINVAL` without
/// `PT_LOAD`; fatal `ENOMEM`, `EINVAL` or `EOVERFLOW` for a `PT_LOAD` that cannot be mapped.
pub fn parse_interpreter(image: &(impl Image + ?Sized)) -> Result<Program, LoadError> {
    let mut raw = [0; HEADER_SIZE];
    read_all(image, 0, &mut raw).map_err(|e| LoadError::returned(e, "the interpreter cannot be read"))?;
    let header = Header::decode(&raw);
    header.check_format(Errno::ELIBBAD)?;
    let phdrs = header.read_phdrs(image, Errno::ELIBBAD)?;
    // Linux asks for the type only in load_elf_interp, behind the point of no return.
    let kind = header.kind().ok_or(LoadError::fatal(Errno::ELIBBAD, "the interpreter is not executable"))?;
    let program = assemble(image, &header, kind, &phdrs, None, Errno::ENOMEM)?;
    if program.segments.is_empty() {
        return Err(LoadError::fatal(Errno::EINVAL, "the interpreter has no PT_LOAD segment"));
    }
    Ok(program)
}

/// The fields of `Elf64_Ehdr` that Linux looks at.
struct Header {
    magic: u32,
    e_type: u16,
    machine: u16,
    entry: u64,
    phoff: u64,
    phentsize: u16,
    phnum: u16,
}

impl Header {
    fn decode(raw: &[u8; HEADER_SIZE]) -> Self {
        Header {
            magic: u32_at(raw, 0),
            e_type: u16_at(raw, 16),
            machine: u16_at(raw, 18),
            entry: u64_at(raw, 24),
            phoff: u64_at(raw, 32),
            phentsize: u16_at(raw, 54),
            phnum: u16_at(raw, 56),
        }
    }

    fn check_format(&self, errno: Errno) -> Result<(), LoadError> {
        if self.magic != u32::from_le_bytes(*b"\x7fELF") {
            return Err(LoadError::returned(errno, "not an ELF file"));
        }
        if u32::from(self.machine) != elf_uapi::EM_X86_64 {
            return Err(LoadError::returned(errno, "the ELF file is for another machine than x86-64"));
        }
        Ok(())
    }

    fn kind(&self) -> Option<Kind> {
        match u32::from(self.e_type) {
            elf_uapi::ET_EXEC => Some(Kind::Exec),
            elf_uapi::ET_DYN => Some(Kind::Dyn),
            _ => None,
        }
    }

    /// `load_elf_phdrs`; whatever goes wrong, the caller's one error number says so.
    fn read_phdrs(&self, image: &(impl Image + ?Sized), errno: Errno) -> Result<Vec<Phdr>, LoadError> {
        if usize::from(self.phentsize) != PHDR_SIZE {
            return Err(LoadError::returned(errno, "program headers have a strange size"));
        }
        let size = usize::from(self.phnum).saturating_mul(PHDR_SIZE);
        if size == 0 || size > PHDRS_MAX {
            return Err(LoadError::returned(errno, "no program headers, or too many"));
        }
        let mut raw = vec![0; size];
        read_all(image, self.phoff, &mut raw)
            .map_err(|_| LoadError::returned(errno, "the program headers lie outside of the file"))?;
        Ok(raw.chunks_exact(PHDR_SIZE).map(Phdr::decode).collect())
    }
}

/// `Elf64_Phdr`, but for `p_paddr`.
struct Phdr {
    p_type: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    filesz: u64,
    memsz: u64,
    align: u64,
}

impl Phdr {
    fn decode(raw: &[u8]) -> Self {
        Phdr {
            p_type: u32_at(raw, 0),
            flags: u32_at(raw, 4),
            offset: u64_at(raw, 8),
            vaddr: u64_at(raw, 16),
            filesz: u64_at(raw, 32),
            memsz: u64_at(raw, 40),
            align: u64_at(raw, 48),
        }
    }

    fn prot(&self) -> Prot {
        let mut prot = Prot::empty();
        prot.set(Prot::READ, self.flags & elf_uapi::PF_R != 0);
        prot.set(Prot::WRITE, self.flags & elf_uapi::PF_W != 0);
        prot.set(Prot::EXEC, self.flags & elf_uapi::PF_X != 0);
        prot
    }

    /// The checks of `load_elf_binary` and `load_elf_interp`, and those of the mmap(2) that they call.
    fn segment(&self, too_big: Errno) -> Result<Segment, LoadError> {
        if self.filesz > self.memsz {
            return Err(LoadError::fatal(too_big, "a segment is larger in the file than in memory"));
        }
        let end = self.vaddr.checked_add(self.memsz);
        if self.vaddr >= TASK_SIZE || end.is_none_or(|end| end > TASK_SIZE) {
            return Err(LoadError::fatal(too_big, "a segment reaches beyond the address space"));
        }
        if self.filesz > 0 {
            // elf_map asks for the page that holds p_offset at the page that holds p_vaddr.
            if page_offset(self.offset) != page_offset(self.vaddr) {
                return Err(LoadError::fatal(
                    Errno::EINVAL,
                    "a segment's place in the file and its address differ within the page",
                ));
            }
            let end = self.offset.checked_add(self.filesz).and_then(page_end);
            if end.is_none_or(|end| i64::try_from(end).is_err()) {
                return Err(LoadError::fatal(
                    Errno::EOVERFLOW,
                    "a segment lies beyond the largest file offset",
                ));
            }
        }
        Ok(Segment {
            vaddr: self.vaddr,
            offset: self.offset,
            file_size: self.filesz,
            mem_size: self.memsz,
            prot: self.prot(),
        })
    }
}

/// The path in `PT_INTERP`: from 2 bytes to `PATH_MAX` with its NUL, which must be there. The path ends at the first
/// NUL, which need not be the last byte.
fn read_interp_path(image: &(impl Image + ?Sized), phdr: &Phdr) -> Result<Vec<u8>, LoadError> {
    if phdr.filesz > PATH_MAX || phdr.filesz < 2 {
        return Err(LoadError::returned(
            Errno::ENOEXEC,
            "the path of the interpreter is too short or too long",
        ));
    }
    let mut path = vec![0; phdr.filesz as usize];
    read_all(image, phdr.offset, &mut path)
        .map_err(|e| LoadError::returned(e, "the path of the interpreter cannot be read"))?;
    if path.last() != Some(&0) {
        return Err(LoadError::returned(Errno::ENOEXEC, "the path of the interpreter has no end"));
    }
    let len = path.iter().position(|&byte| byte == 0).unwrap_or(0);
    path.truncate(len);
    Ok(path)
}

fn assemble(
    image: &(impl Image + ?Sized),
    header: &Header,
    kind: Kind,
    phdrs: &[Phdr],
    interp: Option<Vec<u8>>,
    too_big: Errno,
) -> Result<Program, LoadError> {
    let mut program = Program {
        kind,
        entry: header.entry,
        phdr_vaddr: 0,
        phent: header.phentsize,
        phnum: header.phnum,
        interp,
        segments: Vec::new(),
        stack_exec: false,
        property: None,
        span: 0..0,
        align: PAGE_SIZE,
        file_size: image.len(),
    };
    for phdr in phdrs {
        match phdr.p_type {
            elf_uapi::PT_LOAD => program.add_segment(phdr.segment(too_big)?, phdr.align, header.phoff),
            elf_uapi::PT_GNU_STACK => program.stack_exec = phdr.flags & elf_uapi::PF_X != 0,
            elf_uapi::PT_GNU_PROPERTY => program.property = Some((phdr.offset, phdr.filesz)),
            _ => {}
        }
    }
    Ok(program)
}
