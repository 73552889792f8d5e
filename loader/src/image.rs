//! Where the bytes of an executable come from.

use crate::error::Errno;
use alloc::vec::Vec;

/// A file that may be executed.
pub trait Image {
    /// Its size in bytes.
    fn len(&self) -> u64;

    /// Reads at `offset` as pread(2) does: the count is short at the end of the file, and 0 behind it.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Errno>;

    /// True for a file without a byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Image for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let rest = usize::try_from(offset).ok().and_then(|start| self.get(start..)).unwrap_or(&[]);
        let mut count = 0usize;
        for (to, from) in buf.iter_mut().zip(rest) {
            *to = *from;
            count = count.saturating_add(1);
        }
        Ok(count)
    }
}

impl Image for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        self.as_slice().read_at(offset, buf)
    }
}

/// Reads until `buf` is full or the file ends; gives the count. Offsets that are negative as `loff_t`, or whose end
/// is, are `EINVAL` (`rw_verify_area` in fs/read_write.c).
pub(crate) fn read_up_to(image: &(impl Image + ?Sized), offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
    let end = offset.checked_add(buf.len() as u64).ok_or(Errno::EINVAL)?;
    if i64::try_from(end).is_err() {
        return Err(Errno::EINVAL);
    }
    let mut done = 0usize;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let room = rest.len();
        let count = image.read_at(offset.saturating_add(done as u64), rest)?;
        if count > room {
            return Err(Errno::EIO);
        }
        if count == 0 {
            break;
        }
        done = done.saturating_add(count);
    }
    Ok(done)
}

/// Fills `buf`, or `EIO` where the file ends before (`elf_read` in fs/binfmt_elf.c).
pub(crate) fn read_all(image: &(impl Image + ?Sized), offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
    if read_up_to(image, offset, buf)? == buf.len() { Ok(()) } else { Err(Errno::EIO) }
}

/// The `N` bytes at `at`; zeros where the slice is too short, which callers rule out by its fixed size.
fn bytes<const N: usize>(raw: &[u8], at: usize) -> [u8; N] {
    raw.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// Little-endian field of a structure.
pub(crate) fn u16_at(raw: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes(raw, at))
}

/// Little-endian field of a structure.
pub(crate) fn u32_at(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes(raw, at))
}

/// Little-endian field of a structure.
pub(crate) fn u64_at(raw: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes(raw, at))
}
