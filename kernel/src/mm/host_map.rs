//! Mapping an area's content on the host.

use super::area::{Area, AreaFlags, Content, Prot};
use super::{Backing, Mappable, screen};
use crate::{Errno, Result, frames};
use alloc::vec::Vec;
use boundary::layout::{FRAMES_SIZE, PAGE_SIZE};
use linux_raw_sys::general as raw;
use trap_handler::{host, patch, region};

/// Private anonymous memory. `populate` is 0 or `MAP_POPULATE`.
pub fn anonymous(start: u64, length: u64, prot: Prot, flags: AreaFlags, populate: u32) -> Result<()> {
    check(start, length)?;
    let mut host_flags = raw::MAP_PRIVATE | raw::MAP_ANONYMOUS | populate;
    if flags.contains(AreaFlags::NO_RESERVE) {
        host_flags |= raw::MAP_NORESERVE;
    }
    host::map_fixed(start, length, screen::host_bits(prot), host_flags, -1, 0)
}

/// What a file gives for `[offset, offset + length)`, all of it. Asked before anything is mapped, since a file may have to
/// provide pages first, which can fail.
pub fn pieces(file: &dyn Mappable, offset: u64, length: u64, area: &Area) -> Result<Vec<Backing>> {
    let writable = if area.shared() { area.may } else { area.prot }.contains(Prot::WRITE);
    let mut pieces = Vec::new();
    let mut done = 0;
    while done < length {
        let at = offset.checked_add(done).ok_or(Errno::EOVERFLOW)?;
        let left = length - done;
        // mmap(2) knows no ENOSPC: memory for the file's pages is what lacks.
        let piece = file
            .backing(at, left, area.shared(), writable)
            .map_err(|error| if error == Errno::ENOSPC { Errno::ENOMEM } else { error })?;
        let covered = piece.length().min(left);
        if covered == 0 || covered % PAGE_SIZE != 0 {
            return Err(Errno::EIO);
        }
        pieces.push(match piece {
            Backing::Host { fd, offset, .. } => Backing::Host { fd, offset, length: covered },
            Backing::Zero { .. } => Backing::Zero { length: covered },
            Backing::BeyondEnd { .. } => Backing::BeyondEnd { length: covered },
        });
        done += covered;
    }
    Ok(pieces)
}

/// Maps pieces of a file one after the other; the ranges that are behind its end.
///
/// What is behind the end of a page-frame file is mapped behind the end of the frames' memory file, so that the host
/// itself raises SIGBUS there and mprotect(2) and mremap(2) need not know.
pub fn file(start: u64, area: &Area, pieces: &[Backing], populate: u32) -> Result<Vec<(u64, u64)>> {
    let sharing = if area.shared() { raw::MAP_SHARED } else { raw::MAP_PRIVATE };
    let reserve = if area.flags.contains(AreaFlags::NO_RESERVE) { raw::MAP_NORESERVE } else { 0 };
    let prot = screen::host_bits(area.prot);
    let mut beyond = Vec::new();
    let mut at = start;
    for piece in pieces {
        let length = piece.length();
        check(at, length)?;
        match *piece {
            Backing::Host { fd, offset, .. } => {
                host::map_fixed(at, length, prot, sharing | reserve | populate, fd, offset)?
            }
            Backing::Zero { .. } => anonymous(at, length, area.prot, area.flags, populate)?,
            Backing::BeyondEnd { .. } => {
                host::map_fixed(
                    at,
                    length,
                    prot,
                    sharing | raw::MAP_NORESERVE,
                    frames::host_fd(),
                    FRAMES_SIZE,
                )?;
                beyond.push((at, at + length));
            }
        }
        at += length;
    }
    Ok(beyond)
}

/// Maps `[start, area.end)` of an area whose content begins at `start`; the ranges behind a file's end.
pub fn area(start: u64, area: &Area, populate: u32) -> Result<Vec<(u64, u64)>> {
    let length = area.end.saturating_sub(start);
    match &area.content {
        Content::Anonymous => anonymous(start, length, area.prot, area.flags, populate).map(|()| Vec::new()),
        Content::File(mappable, offset) => {
            let pieces = pieces(&**mappable, *offset, length, area)?;
            file(start, area, &pieces, populate)
        }
        Content::Special(_) => Err(Errno::EFAULT),
    }
}

/// Moves pages with mremap(2). The host may have split the range where our record has one area (a file's pieces, memory
/// that was copied by different forks); it refuses to move several of its areas at once with `EFAULT`, so halves are
/// moved then.
pub fn relocate(from: u64, length: u64, to: u64, flags: u32) -> Result<()> {
    check(from, length)?;
    check(to, length)?;
    match host::mremap_fixed(from, length, length, flags, to) {
        Ok(_) => return Ok(()),
        Err(Errno::EFAULT) if length > PAGE_SIZE => {}
        Err(error) => return Err(error),
    }
    let half = (length / PAGE_SIZE / 2) * PAGE_SIZE;
    relocate(from, half, to, flags)?;
    if let Err(error) = relocate(from + half, length - half, to + half, flags) {
        let _ = relocate(to, half, from, 0);
        return Err(error);
    }
    Ok(())
}

/// The last line of defence of the kernel's own region and of the trampolines.
pub fn check(start: u64, length: u64) -> Result<()> {
    let free = region::is_user(start, length) && !patch::touches_arena(start, length);
    if free { Ok(()) } else { Err(Errno::ENOMEM) }
}
