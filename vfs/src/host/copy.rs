//! Copies from one host file to another.

use super::HostFd;
use crate::{Errno, Result};
use alloc::vec;
use linux_raw_sys::general as raw;
use trap_handler::host;

/// Bytes at a time.
const STEP: usize = 128 << 10;

/// Where the next data begin and end, within the first `size` bytes; `None`: nothing but a hole is left. A filesystem that does
/// not know has data everywhere.
pub(crate) fn next_data(file: &HostFd, at: u64, size: u64) -> Option<(u64, u64)> {
    let fd = file.number();
    let data = match host::lseek(fd, at as i64, raw::SEEK_DATA) {
        Ok(data) => data,
        Err(Errno::ENXIO) => return None,
        Err(_) => at,
    };
    let hole = host::lseek(fd, data as i64, raw::SEEK_HOLE).unwrap_or(size).min(size);
    (data < hole).then_some((data, hole))
}

/// Copies the data, but no holes, of the first `size` bytes.
pub(super) fn contents(from: &HostFd, to: &HostFd, size: u64) -> Result<()> {
    let mut buffer = vec![0u8; STEP];
    let mut at = 0;
    while let Some((start, end)) = next_data(from, at, size) {
        at = start;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
            let room = buffer.get_mut(..most).ok_or(Errno::EIO)?;
            let count = host::pread(from.number(), room.into(), at)?;
            let mut left = buffer.get(..count).ok_or(Errno::EIO)?;
            // Shorter than it said: the rest reads as zero.
            if left.is_empty() {
                return Ok(());
            }
            while !left.is_empty() {
                let written = host::pwrite(to.number(), left.into(), at)?;
                at += written as u64;
                left = left.get(written..).unwrap_or(&[]);
            }
        }
    }
    Ok(())
}
