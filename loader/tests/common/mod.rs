//! Hand-made ELF files.
#![allow(dead_code, missing_docs)]

use loader::{Limits, LoadError};

pub const PT_LOAD: u32 = 1;
pub const PT_INTERP: u32 = 3;
pub const PT_GNU_STACK: u32 = 0x6474_e551;
pub const R: u32 = 4;
pub const RW: u32 = 6;
pub const RX: u32 = 5;
pub const EXEC: u16 = 2;
pub const DYN: u16 = 3;

#[derive(Clone, Copy)]
pub struct Ph {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub vaddr: u64,
    pub filesz: u64,
    pub memsz: u64,
    pub align: u64,
}

pub fn load(flags: u32, offset: u64, vaddr: u64, filesz: u64, memsz: u64) -> Ph {
    Ph { kind: PT_LOAD, flags, offset, vaddr, filesz, memsz, align: 0x1000 }
}

pub fn interp(offset: u64, filesz: u64) -> Ph {
    Ph { kind: PT_INTERP, flags: R, offset, vaddr: 0, filesz, memsz: filesz, align: 1 }
}

/// An ELF file of `size` bytes with its program headers behind the header.
pub fn elf(kind: u16, entry: u64, phdrs: &[Ph], size: usize) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16..18].copy_from_slice(&kind.to_le_bytes());
    file[18..20].copy_from_slice(&62u16.to_le_bytes());
    file[24..32].copy_from_slice(&entry.to_le_bytes());
    file[32..40].copy_from_slice(&64u64.to_le_bytes());
    file[54..56].copy_from_slice(&56u16.to_le_bytes());
    file[56..58].copy_from_slice(&(phdrs.len() as u16).to_le_bytes());
    for p in phdrs {
        file.extend(p.kind.to_le_bytes());
        file.extend(p.flags.to_le_bytes());
        for word in [p.offset, p.vaddr, 0, p.filesz, p.memsz, p.align] {
            file.extend(word.to_le_bytes());
        }
    }
    file.resize(size.max(file.len()), 0);
    file
}

pub fn put(mut file: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

pub fn limits() -> Limits {
    Limits { start: 0x10000, end: 0x7fff_ffff_f000, reserved: 0x2000_0000_0000..0x2080_0000_0000 }
}

/// Error number and whether the old program is gone.
pub fn answer<T: std::fmt::Debug>(result: Result<T, LoadError>) -> (i32, bool) {
    let error = result.unwrap_err();
    (error.errno.0, error.fatal)
}
