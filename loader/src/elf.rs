//! The ELF header and the program headers (elf(5)), checked as `load_elf_binary` does.

use crate::errno::{EINVAL, EIO, ELIBBAD, ENOEXEC, ENOMEM};
use crate::{Image, LoadError, PAGE, USER_END, page_down, page_up};
use alloc::vec;
use alloc::vec::Vec;

const HEADER_SIZE: usize = 64;
const PROGRAM_HEADER_SIZE: usize = 56;
const SECTION_HEADER_SIZE: usize = 64;
/// `ELF_MIN_ALIGN`-independent bound of `load_elf_phdrs`.
const MAX_TABLE: usize = 65536;
const PATH_MAX: u64 = 4096;

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;
const PT_GNU_STACK: u32 = 0x6474_e551;

/// Execute permission in a program header.
pub const PF_X: u32 = 1;
/// Write permission.
pub const PF_W: u32 = 2;
/// Read permission.
pub const PF_R: u32 = 4;

/// Whether the file has fixed addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Fixed addresses (`ET_EXEC`).
    Fixed,
    /// Goes anywhere (`ET_DYN`).
    Relocatable,
}

/// A `PT_LOAD` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// `PF_*`.
    pub flags: u32,
    /// Offset in the file.
    pub offset: u64,
    /// Address, without the load bias.
    pub address: u64,
    /// Bytes from the file.
    pub file_size: u64,
    /// Bytes in memory, at least `file_size`.
    pub memory_size: u64,
}

/// A checked program file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Fixed or relocatable.
    pub kind: Kind,
    /// Entry point, without the load bias.
    pub entry: u64,
    /// Address of the program headers in memory (`AT_PHDR`), without the load bias; 0 if they are not loaded.
    pub headers_address: u64,
    /// Size of one program header (`AT_PHENT`).
    pub header_size: u16,
    /// Number of program headers (`AT_PHNUM`).
    pub header_count: u16,
    /// Path of the interpreter.
    pub interpreter: Option<Vec<u8>>,
    /// What to load, in file order; not empty.
    pub segments: Vec<Segment>,
    /// Whether the stack is to be executable (`PT_GNU_STACK`; a file without one gets an executable stack on no
    /// 64-bit Linux since 5.8, which this follows).
    pub executable_stack: bool,
    /// Largest power-of-two alignment of a segment, at least a page.
    pub alignment: u64,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    array(bytes, at).map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    array(bytes, at).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    array(bytes, at).map_or(0, u64::from_le_bytes)
}

fn read_exact(image: &dyn Image, offset: u64, buffer: &mut [u8]) -> Result<(), LoadError> {
    let mut done = 0;
    while done < buffer.len() {
        let at = offset.checked_add(done as u64).ok_or(LoadError::new(EINVAL, "an offset overflows"))?;
        let rest = buffer.get_mut(done..).unwrap_or(&mut []);
        match image.read_at(at, rest) {
            Ok(0) => return Err(LoadError::new(EIO, "the file ends too early")),
            Ok(count) => done += count,
            Err(errno) => return Err(LoadError::new(errno, "the file cannot be read")),
        }
    }
    Ok(())
}

struct Header {
    kind: Kind,
    entry: u64,
    table_offset: u64,
    count: u16,
    sections_offset: u64,
    section_count: u16,
    names_section: u16,
}

fn header(image: &dyn Image, bad: i32) -> Result<Header, LoadError> {
    let mut bytes = [0u8; HEADER_SIZE];
    let count =
        image.read_at(0, &mut bytes).map_err(|errno| LoadError::new(errno, "the file cannot be read"))?;
    if count < 4 || bytes.get(..4) != Some(b"\x7fELF") {
        return Err(LoadError::new(bad, "not an ELF file"));
    }
    // A header that is cut off is zeros from there on, and so fails one of these.
    if bytes[4] != 2 || bytes[5] != 1 {
        return Err(LoadError::new(bad, "not a 64-bit little-endian ELF file"));
    }
    let kind = match u16_at(&bytes, 16) {
        ET_EXEC => Kind::Fixed,
        ET_DYN => Kind::Relocatable,
        _ => return Err(LoadError::new(bad, "neither an executable nor a shared object")),
    };
    if u16_at(&bytes, 18) != EM_X86_64 {
        return Err(LoadError::new(bad, "not for x86-64"));
    }
    if usize::from(u16_at(&bytes, 54)) != PROGRAM_HEADER_SIZE {
        return Err(LoadError::new(bad, "program headers of an unknown size"));
    }
    let count = u16_at(&bytes, 56);
    if count == 0 || usize::from(count) * PROGRAM_HEADER_SIZE > MAX_TABLE {
        return Err(LoadError::new(bad, "no program headers, or too many"));
    }
    Ok(Header {
        kind,
        entry: u64_at(&bytes, 24),
        table_offset: u64_at(&bytes, 32),
        count,
        sections_offset: u64_at(&bytes, 40),
        section_count: u16_at(&bytes, 60),
        names_section: u16_at(&bytes, 62),
    })
}

/// Reads and checks a program. `ENOEXEC` for what is no program for this machine.
pub fn parse(image: &dyn Image) -> Result<Program, LoadError> {
    parse_as(image, ENOEXEC)
}

/// Reads and checks a program's interpreter: as [`parse`], but `ELIBBAD` for what is none.
pub fn parse_interpreter(image: &dyn Image) -> Result<Program, LoadError> {
    parse_as(image, ELIBBAD)
}

fn parse_as(image: &dyn Image, bad: i32) -> Result<Program, LoadError> {
    let header = header(image, bad)?;
    let mut table = vec![0u8; usize::from(header.count) * PROGRAM_HEADER_SIZE];
    read_exact(image, header.table_offset, &mut table).map_err(|error| LoadError {
        errno: if error.errno == EIO { bad } else { error.errno },
        what: "the program headers are not all in the file",
    })?;

    let mut program = Program {
        kind: header.kind,
        entry: header.entry,
        headers_address: 0,
        header_size: PROGRAM_HEADER_SIZE as u16,
        header_count: header.count,
        interpreter: None,
        segments: Vec::new(),
        executable_stack: false,
        alignment: PAGE,
    };
    let mut declared_headers = None;
    for entry in table.chunks_exact(PROGRAM_HEADER_SIZE) {
        let (offset, address) = (u64_at(entry, 8), u64_at(entry, 16));
        let file_size = u64_at(entry, 32);
        match u32_at(entry, 0) {
            PT_INTERP if program.interpreter.is_none() && bad == ENOEXEC => {
                program.interpreter = Some(interpreter_path(image, offset, file_size)?);
            }
            PT_PHDR => declared_headers = Some(address),
            PT_GNU_STACK => program.executable_stack = u32_at(entry, 4) & PF_X != 0,
            PT_LOAD => {
                let segment = Segment {
                    flags: u32_at(entry, 4),
                    offset,
                    address,
                    file_size,
                    memory_size: u64_at(entry, 40),
                };
                check_segment(&segment)?;
                let alignment = u64_at(entry, 48);
                if alignment.is_power_of_two() && alignment < 1 << 30 {
                    program.alignment = program.alignment.max(alignment);
                }
                program.segments.push(segment);
            }
            _ => {}
        }
    }
    if program.segments.is_empty() {
        return Err(LoadError::new(if bad == ENOEXEC { EINVAL } else { bad }, "nothing to load"));
    }
    program.headers_address =
        declared_headers.or_else(|| loaded_address(&program.segments, header.table_offset)).unwrap_or(0);
    check_span(&program)?;
    Ok(program)
}

fn interpreter_path(image: &dyn Image, offset: u64, size: u64) -> Result<Vec<u8>, LoadError> {
    if !(2..=PATH_MAX).contains(&size) {
        return Err(LoadError::new(ENOEXEC, "the interpreter's path is too short or too long"));
    }
    let mut path = vec![0u8; size as usize];
    read_exact(image, offset, &mut path)?;
    if path.pop() != Some(0) {
        return Err(LoadError::new(ENOEXEC, "the interpreter's path is not terminated"));
    }
    // What follows an inner NUL is not seen by open(2).
    if let Some(end) = path.iter().position(|&byte| byte == 0) {
        path.truncate(end);
    }
    Ok(path)
}

fn check_segment(segment: &Segment) -> Result<(), LoadError> {
    if segment.file_size > segment.memory_size {
        return Err(LoadError::new(EINVAL, "a segment is larger in the file than in memory"));
    }
    if segment.memory_size > USER_END || segment.address > USER_END - segment.memory_size {
        return Err(LoadError::new(ENOMEM, "a segment lies outside the address space"));
    }
    if segment.offset.checked_add(segment.file_size).is_none_or(|end| end > i64::MAX as u64 - PAGE) {
        return Err(LoadError::new(EINVAL, "a segment's place in the file overflows"));
    }
    if segment.file_size > 0 && (segment.offset ^ segment.address) & (PAGE - 1) != 0 {
        return Err(LoadError::new(EINVAL, "a segment's offset and address differ within the page"));
    }
    Ok(())
}

/// Segments may come in any order in a hostile file: the whole must fit, and a fixed program's must not overlap (the
/// second mapping would fail with `EEXIST` on Linux; one that is sorted and disjoint is what every linker makes).
fn check_span(program: &Program) -> Result<(), LoadError> {
    let mut ranges: Vec<(u64, u64)> = program
        .segments
        .iter()
        .filter(|segment| segment.memory_size > 0)
        .filter_map(|segment| {
            Some((page_down(segment.address), page_up(segment.address.checked_add(segment.memory_size)?)?))
        })
        .collect();
    ranges.sort_unstable();
    // Two segments may share the page where one ends and the next begins only if they are mapped one over the
    // other in order, as old linkers did; deeper overlaps are refused.
    let overlaps = ranges.windows(2).any(|pair| match pair {
        [(_, end), (start, _)] => *end > start.saturating_add(PAGE),
        _ => false,
    });
    if overlaps {
        return Err(LoadError::new(EINVAL, "segments overlap"));
    }
    Ok(())
}

fn loaded_address(segments: &[Segment], file_offset: u64) -> Option<u64> {
    segments.iter().find_map(|segment| {
        let within = file_offset.checked_sub(segment.offset)?;
        (within < segment.file_size).then(|| segment.address.checked_add(within)).flatten()
    })
}

impl Program {
    /// Lowest and highest address of the segments, page aligned, without the load bias.
    pub fn span(&self) -> (u64, u64) {
        let start = self.segments.iter().map(|segment| page_down(segment.address)).min().unwrap_or(0);
        let end = self
            .segments
            .iter()
            .filter_map(|segment| page_up(segment.address.checked_add(segment.memory_size)?))
            .max()
            .unwrap_or(0);
        (start, end.max(start))
    }
}

/// Address (without the load bias) and size of a section, by its name.
pub fn section_range(image: &dyn Image, name: &[u8]) -> Option<(u64, u64)> {
    let header = header(image, ENOEXEC).ok()?;
    let section = |index: u16| -> Option<[u8; SECTION_HEADER_SIZE]> {
        let mut bytes = [0u8; SECTION_HEADER_SIZE];
        let offset = u64::from(index).checked_mul(SECTION_HEADER_SIZE as u64)?;
        read_exact(image, header.sections_offset.checked_add(offset)?, &mut bytes).ok()?;
        Some(bytes)
    };
    let names = section(header.names_section)?;
    let names_offset = u64_at(&names, 24);
    (0..header.section_count).find_map(|index| {
        let bytes = section(index)?;
        let mut found = vec![0u8; name.len() + 1];
        let at = names_offset.checked_add(u64::from(u32_at(&bytes, 0)))?;
        read_exact(image, at, &mut found).ok()?;
        let terminated = found.pop() == Some(0);
        (terminated && found == name).then(|| (u64_at(&bytes, 16), u64_at(&bytes, 32)))
    })
}
