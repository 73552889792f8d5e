//! Finding a section by its name. Only the launcher needs it, for the gadget of the kernel image; programs are run
//! without a look at their sections.

use crate::image::{Image, read_all, u16_at, u32_at, u64_at};
use alloc::vec;

/// `sizeof(Elf64_Shdr)`.
const SHDR_SIZE: u64 = 64;

/// Address (before the load bias) and size in bytes of the first section called `name`, such as `b".gadget"`;
/// `None` if there is none or the section table cannot be read (elf(5), "Section header"). Extended section
/// numbering, for 65280 sections and more, is not understood.
pub fn section_range(image: &(impl Image + ?Sized), name: &[u8]) -> Option<(u64, u64)> {
    let mut header = [0; 64];
    read_all(image, 0, &mut header).ok()?;
    let [table, entry_size, count, names_index] = [
        u64_at(&header, 40),
        u16_at(&header, 58).into(),
        u16_at(&header, 60).into(),
        u16_at(&header, 62).into(),
    ];
    if header.first_chunk() != Some(b"\x7fELF") || entry_size != SHDR_SIZE || names_index >= count {
        return None;
    }
    let section = |index: u64| {
        let mut raw = [0; SHDR_SIZE as usize];
        read_all(image, table.checked_add(index.checked_mul(SHDR_SIZE)?)?, &mut raw).ok()?;
        Some(raw)
    };
    let names = section(names_index)?;
    let (names_offset, names_size) = (u64_at(&names, 24), u64_at(&names, 32));

    let mut found = vec![0; name.len().checked_add(1)?];
    for index in 0..count {
        let raw = section(index)?;
        let name_at = u64::from(u32_at(&raw, 0));
        let inside = name_at.checked_add(found.len() as u64).is_some_and(|end| end <= names_size);
        if !inside {
            continue;
        }
        read_all(image, names_offset.checked_add(name_at)?, &mut found).ok()?;
        if found.split_last() == Some((&0, name)) {
            return Some((u64_at(&raw, 16), u64_at(&raw, 32)));
        }
    }
    None
}
