//! The private memory that trampolines lie in.

use super::screen;
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
        if keys::on() {
            // Nobody else writes to it, from the first moment on.
            host::map_fixed(start, ARENA, raw::PROT_NONE, flags, -1, 0)?;
            host::pkey_mprotect(start, ARENA, raw::PROT_READ | raw::PROT_WRITE, keys::code_key())?;
            if !screen::is_harmless(start, &patch::entry_point().to_le_bytes()) {
                let _ = host::munmap(start, ARENA);
                return Err(Errno::ENOMEM);
            }
        } else {
            host::map_fixed(start, ARENA, raw::PROT_READ | raw::PROT_WRITE, flags, -1, 0)?;
        }
        if copy::store_u64_user(start, patch::entry_point()).is_err() || !patch::add_arena(start) {
            let _ = host::munmap(start, ARENA);
            return Err(Errno::ENOMEM);
        }
        let mut used = [0; (ARENA / SLOT / 64) as usize];
        used[0] = 1;
        Ok(Arena { start, fresh: true, used })
    }
}
