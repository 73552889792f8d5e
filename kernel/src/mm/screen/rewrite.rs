//! Code that the kernel itself changes.
//!
//! A page is never writable where it is executable, not for a moment and not for the kernel alone: a call of another thread could be
//! about to write there for the program. What is open is put together elsewhere, searched, and takes the old pages' place in one step.

use super::super::area::AreaFlags;
use super::super::lock_calls::lock_on_host;
use super::super::space::Inner;
use super::find::{self, SIDE};
use super::open::{WINDOW, take_place};
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use boundary::layout::PAGE_SIZE;
use trap_handler::{copy, host, keys};

/// Bytes that are to be at an address.
pub type Piece<'a> = (u64, &'a [u8]);

/// Whether open code in `[start, end)` can be replaced in one step.
pub(in super::super) fn is_one_step(start: u64, end: u64) -> bool {
    start / WINDOW == end.saturating_sub(1) / WINDOW
}

/// The parts of a piece on its pages.
fn by_page<'a>((at, bytes): Piece<'a>) -> impl Iterator<Item = Piece<'a>> {
    let mut done = 0;
    core::iter::from_fn(move || {
        let start = at.checked_add(done as u64)?;
        let rest = bytes.get(done..).filter(|rest| !rest.is_empty())?;
        let room = (PAGE_SIZE - start % PAGE_SIZE) as usize;
        let part = rest.get(..room).unwrap_or(rest);
        done += part.len();
        Some((start, part))
    })
}

/// What is at `[start, end)` with these changes, and [`SIDE`] zeros on both sides.
fn changed(start: u64, end: u64, pieces: &[Piece<'_>]) -> Result<Vec<u8>> {
    let length = (end - start) as usize;
    let mut code = Vec::new();
    code.try_reserve_exact(length + 2 * SIDE).map_err(|_| Errno::ENOMEM)?;
    code.resize(length + 2 * SIDE, 0);
    copy::from_user(code.get_mut(SIDE..SIDE + length).ok_or(Errno::EFAULT)?, start)?;
    for (at, bytes) in pieces {
        let from = at.checked_sub(start).ok_or(Errno::EFAULT)? as usize + SIDE;
        code.get_mut(from..from + bytes.len()).ok_or(Errno::EFAULT)?.copy_from_slice(bytes);
    }
    Ok(code)
}

fn body(code: &[u8]) -> &[u8] {
    code.get(SIDE..code.len().saturating_sub(SIDE)).unwrap_or_default()
}

impl Inner {
    /// Writes to code of private mappings of files. What other threads run meanwhile is the old or the new, if each piece [`is_one_step`].
    pub(in super::super) fn replace_code(&mut self, pieces: &[Piece<'_>]) -> Result<()> {
        let mut open: BTreeMap<(u64, u64), Vec<Piece<'_>>> = BTreeMap::new();
        for (at, bytes) in pieces.iter().copied().flat_map(by_page) {
            let page = at & !(PAGE_SIZE - 1);
            let (first, area) = self.map.find(at).ok_or(Errno::EFAULT)?;
            match self.screen.opened.find(page) {
                Some((from, to)) => {
                    let window = at & !(WINDOW - 1);
                    let start = from.max(window).max(first);
                    let end = to.min(window.saturating_add(WINDOW)).min(area.end);
                    open.entry((start, end)).or_default().push((at, bytes));
                }
                None => {
                    let after = super::host_bits(area.prot);
                    host::pkey_mprotect(page, PAGE_SIZE, host::PROT_READ | host::PROT_WRITE, keys::CODE)?;
                    let written = copy::to_user(at, bytes);
                    host::pkey_mprotect(page, PAGE_SIZE, after, keys::PROGRAM)?;
                    written?;
                }
            }
        }
        for ((start, end), pieces) in open {
            let mut code = changed(start, end, &pieces)?;
            self.add_neighbours(&mut code, start, end, &self.screen.running.lock());
            // With its neighbours it may have become what is not to be executed: it is searched again when it is run.
            let harmless = find::occurrences(&code).next().is_none();
            let flags = self.map.find(start).map_or(AreaFlags::empty(), |(_, area)| area.flags);
            let execute = if harmless { host::PROT_EXEC } else { 0 };
            take_place(start, body(&code), host::PROT_READ | execute, flags.contains(AreaFlags::DONT_FORK))?;
            self.screen.own.insert(start, end);
            if !harmless {
                self.screen.opened.remove(start, end);
            }
            if flags.contains(AreaFlags::LOCKED) {
                lock_on_host(start, end - start);
            }
        }
        Ok(())
    }
}

/// Writes to an arena, each piece within a page.
pub(in super::super) fn replace_trampolines(pieces: &[Piece<'_>]) -> Result<()> {
    let mut pages: BTreeMap<u64, Vec<Piece<'_>>> = BTreeMap::new();
    for piece in pieces {
        pages.entry(piece.0 & !(PAGE_SIZE - 1)).or_default().push(*piece);
    }
    for (page, pieces) in pages {
        let code = changed(page, page + PAGE_SIZE, &pieces)?;
        if !super::is_harmless(page, body(&code)) {
            return Err(Errno::ENOEXEC);
        }
        take_place(page, body(&code), host::PROT_READ | host::PROT_EXEC, false)?;
    }
    Ok(())
}
