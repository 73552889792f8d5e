//! What `/proc/PID/maps` and its relatives show.

use super::area::{AreaFlags, Content, Prot};
use super::space::AddressSpace;
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// Column of the name in `/proc/PID/maps`, less one (`show_vma_header_prefix`: 25 + 8 * 6 - 1).
const NAME_COLUMN: usize = 72;

/// One area as proc(5) shows it.
#[derive(Debug, Clone)]
pub struct AreaReport {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Access.
    pub prot: Prot,
    /// Access that may be given.
    pub may: Prot,
    /// Flags.
    pub flags: AreaFlags,
    /// Offset in the file.
    pub offset: u64,
    /// Device number as `st_dev`.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Path or name in brackets; empty for none.
    pub name: Vec<u8>,
}

impl AddressSpace {
    /// All areas in order. Files are asked for their names without the record's lock.
    pub fn areas(&self) -> Vec<AreaReport> {
        let (areas, heap, stack) = {
            let inner = self.inner.read();
            let areas: Vec<_> = inner.map.iter().map(|(start, area)| (start, area.clone())).collect();
            (areas, (inner.start_brk, inner.brk), inner.program.start_stack)
        };
        let report = |(start, area): (u64, super::Area)| {
            let (mut offset, mut dev, mut ino, mut name) = (0, 0, 0, Vec::new());
            match &area.content {
                Content::File(file, at) => {
                    offset = *at;
                    (dev, ino, name) = file.describe();
                }
                Content::Special(special) => name.extend_from_slice(special.as_bytes()),
                // Linux's vma_is_initial_heap and vma_is_initial_stack.
                Content::Anonymous if start < heap.1 && area.end > heap.0 => {
                    name.extend_from_slice(b"[heap]")
                }
                Content::Anonymous if start <= stack && stack <= area.end && stack != 0 => {
                    name.extend_from_slice(b"[stack]")
                }
                Content::Anonymous => {}
            }
            let (prot, may, flags) = (area.prot, area.may, area.flags);
            AreaReport { start, end: area.end, prot, may, flags, offset, dev, ino, name }
        };
        areas.into_iter().map(report).collect()
    }

    /// The text of `/proc/PID/maps`.
    pub fn maps(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for area in self.areas() {
            area.write_line(&mut text);
        }
        text
    }
}

struct Line<'a>(&'a mut Vec<u8>);

impl Write for Line<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.0.extend_from_slice(part.as_bytes());
        Ok(())
    }
}

impl AreaReport {
    /// `rwxp` as proc(5) shows it.
    pub fn access(&self) -> [u8; 4] {
        let letter = |bit, letter| if self.prot.contains(bit) { letter } else { b'-' };
        let sharing = if self.flags.contains(AreaFlags::SHARED) { b's' } else { b'p' };
        [letter(Prot::READ, b'r'), letter(Prot::WRITE, b'w'), letter(Prot::EXEC, b'x'), sharing]
    }

    /// Appends its line of `/proc/PID/maps`, which is also the first of its lines in `smaps`.
    pub fn write_line(&self, text: &mut Vec<u8>) {
        let before = text.len();
        let access = self.access();
        let access = core::str::from_utf8(&access).unwrap_or("----");
        let major = (self.dev >> 8 & 0xfff) | (self.dev >> 32 & !0xfff);
        let minor = (self.dev & 0xff) | (self.dev >> 12 & 0xffff_ff00);
        // Writing to a Vec cannot fail.
        let _ = write!(
            Line(text),
            "{:08x}-{:08x} {access} {:08x} {major:02x}:{minor:02x} {} ",
            self.start,
            self.end,
            self.offset,
            self.ino,
        );
        if !self.name.is_empty() {
            while text.len() - before < NAME_COLUMN {
                text.push(b' ');
            }
            text.push(b' ');
            for &byte in &self.name {
                match byte {
                    b'\n' => text.extend_from_slice(b"\\012"),
                    _ => text.push(byte),
                }
            }
        }
        text.push(b'\n');
    }
}
