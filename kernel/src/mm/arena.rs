//! The private memory that trampolines lie in.

use super::code::{close_code, while_writable};
use super::screen::rewrite::{Piece, replace_trampolines};
use crate::{Errno, Result};
use trap_handler::patch::{self, ARENA, SLOT, Shape};
use trap_handler::{copy, host, keys};

#[derive(Debug, Clone)]
pub(super) struct Arena {
    pub start: u64,
    /// It was just made: it can be written, and not yet executed.
    pub fresh: bool,
    /// A bit a slot; slot 0 holds the address to jump to.
    used: [u64; (ARENA / SLOT / 64) as usize],
}

impl Arena {
    /// A free slot that the jump of a site with this head can lead to.
    pub fn take(&mut self, shape: Shape, head: u64) -> Option<u64> {
        for (index, word) in self.used.iter_mut().enumerate() {
            for bit in 0..64u64 {
                let slot = self.start + (index as u64 * 64 + bit) * SLOT;
                if *word & 1 << bit == 0 && patch::fits(shape, head, slot) {
                    *word |= 1 << bit;
                    return Some(slot);
                }
            }
        }
        None
    }

    /// Maps an arena that nobody jumps to yet.
    pub fn map(start: u64) -> Result<Arena> {
        use linux_raw_sys::general as raw;
        super::host_map::check(start, ARENA)?;
        let flags = raw::MAP_PRIVATE | raw::MAP_ANONYMOUS | raw::MAP_NORESERVE;
        // With the guard it is never writable.
        let write = if keys::on() { 0 } else { raw::PROT_WRITE };
        host::map_fixed(start, ARENA, raw::PROT_READ | write, flags, -1, 0)?;
        let entry = patch::entry_point().to_le_bytes();
        let written =
            if keys::on() { replace_trampolines(&[(start, &entry)]) } else { copy::to_user(start, &entry) };
        if written.is_err() || !patch::add_arena(start) {
            let _ = host::munmap(start, ARENA);
            return Err(Errno::ENOMEM);
        }
        let mut used = [0; (ARENA / SLOT / 64) as usize];
        used[0] = 1;
        Ok(Arena { start, fresh: true, used })
    }

    /// Writes into slots.
    pub fn write(&mut self, pieces: &[Piece<'_>]) -> Result<()> {
        if pieces.is_empty() {
            return Ok(());
        }
        if keys::on() {
            return replace_trampolines(pieces);
        }
        let write = || pieces.iter().try_for_each(|(slot, code)| copy::to_user(*slot, code));
        if self.fresh {
            write()?;
            close_code(self.start, ARENA)?;
            self.fresh = false;
            return Ok(());
        }
        while_writable(self.start, self.start + ARENA, write)
    }
}
