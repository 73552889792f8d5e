//! Rewriting call sites that trap again and again, so that later calls jump straight to the kernel.
//!
//! What can be rewritten, and how, is in `trap_handler::patch`. Only private mappings of files that are executable and not
//! writable are touched. A site goes back to what it was before its memory changes protection or moves: a program that
//! changes its own code sees its own code.

use super::area::{AreaFlags, Content, Prot};
use super::space::{AddressSpace, Inner, lowest};
use crate::{Errno, Result, boot};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use boundary::layout::{PAGE_SIZE, USER_END};
use trap_handler::block::ThreadBlock;
use trap_handler::patch::{self, ARENA, JUMP, SLOT, Shape};
use trap_handler::{copy, host};

/// A site is rewritten when it has trapped so often: rewriting costs as much as some ten traps.
const THRESHOLD: u8 = 8;
/// Sites whose traps are counted, at most.
const COUNTED: usize = 4096;

/// How often calls trapped, by the address of their `syscall`.
pub(super) type Trapped = BTreeMap<u64, u8>;

#[derive(Debug, Clone)]
struct Patch {
    /// The bytes that the jump took the place of.
    original: [u8; JUMP as usize],
}

#[derive(Debug, Clone)]
struct Arena {
    start: u64,
    /// A bit a slot; slot 0 holds the address to jump to.
    used: [u64; (ARENA / SLOT / 64) as usize],
}

/// The rewritten sites of an address space.
#[derive(Debug, Clone, Default)]
pub(super) struct Patches {
    /// By the head, the address of the jump.
    sites: BTreeMap<u64, Patch>,
    arenas: Vec<Arena>,
}

impl Patches {
    /// The memory in `[start, end)` is gone, and with it the sites.
    pub fn forget(&mut self, start: u64, end: u64) {
        if self.sites.range(start.saturating_sub(JUMP)..end.max(start)).next().is_some() {
            self.sites.retain(|head, _| *head + JUMP <= start || *head >= end);
        }
    }
}

impl AddressSpace {
    /// A call trapped: the `syscall` at `site`, with this number. Rewrites the site when it is worth it; `alone` if no other
    /// thread runs in this memory. Called by a thread of the process.
    pub fn call_trapped(&self, site: u64, number: u64, alone: bool) {
        if !boot::config().is_some_and(|config| config.options.patch_calls) {
            return;
        }
        let count = {
            let mut trapped = self.trapped.lock();
            if trapped.len() >= COUNTED && !trapped.contains_key(&site) {
                return;
            }
            let count = trapped.entry(site).or_insert(0);
            *count = count.saturating_add(1);
            *count
        };
        if count == THRESHOLD
            && let Err(reason) = self.inner.write().rewrite(site, number, alone)
        {
            crate::debug!("the call at {site:#x} (number {number}) stays a trap: {reason}");
        }
    }
}

impl Inner {
    fn rewrite(&mut self, site: u64, number: u64, alone: bool) -> Result<(), &'static str> {
        const READABLE: &str = "its code cannot be read";
        let mut before = [0u8; 6];
        let mut code = [0u8; 16];
        copy::from_user(&mut before, site.wrapping_sub(6)).map_err(|_| READABLE)?;
        let length = copy::from_user_partial(&mut code, site);
        let [0x0f, 0x05, after @ ..] = code.get(..length).unwrap_or_default() else {
            return Err("there is no syscall instruction");
        };
        let shape = patch::shape(&before, number, after)?;
        let head = shape.head(site);
        let end = match shape {
            Shape::Number(_) => site + 2,
            Shape::Next(length) => site + 2 + u64::from(length),
        };
        self.check_code(head, end)?;
        // One site, one shape: a trampoline returns onto what the other shape would overwrite.
        if self.patches.sites.range(head.saturating_sub(JUMP - 1)..end).next().is_some() {
            return Err("it overlaps another site");
        }
        let slot = self.slot_for(shape, head)?;
        let arena = slot & !(ARENA - 1);
        let code = patch::trampoline(shape, site, after, arena, slot).ok_or("it is out of reach")?;
        let original = match shape {
            Shape::Number(_) => [before[1], before[2], before[3], before[4], before[5]],
            Shape::Next(_) => match *after {
                [a, b, c, ..] => [0x0f, 0x05, a, b, c],
                _ => return Err(READABLE),
            },
        };
        let jump = patch::jump(head, slot).ok_or("it is out of reach")?;
        write_code(slot, &code).map_err(|_| "the host refused to change its trampoline")?;
        exchange(head, jump, alone, false).map_err(|_| "the host refused to change its code")?;
        if let Shape::Next(_) = shape {
            // The calling thread returns from this very call.
            ThreadBlock::current().resume_at(site + 2, slot + patch::MOVED_AT);
        }
        self.patches.sites.insert(head, Patch { original });
        Ok(())
    }

    fn check_code(&self, start: u64, end: u64) -> Result<(), &'static str> {
        let (_, area) = self.map.find(start).ok_or("it is not in a mapping")?;
        if area.end < end {
            return Err("it lies across the end of a mapping");
        }
        if !matches!(area.content, Content::File(..)) || area.flags.contains(AreaFlags::SHARED) {
            return Err("its code is not a private mapping of a file");
        }
        if area.prot != Prot::READ | Prot::EXEC {
            return Err("its code is writable");
        }
        Ok(())
    }

    /// A free slot that the site can jump to.
    fn slot_for(&mut self, shape: Shape, head: u64) -> Result<u64, &'static str> {
        for arena in &mut self.patches.arenas {
            if let Some(slot) = arena.take(shape, head) {
                return Ok(slot);
            }
        }
        let mut arena = self.new_arena(head)?;
        let slot = arena.take(shape, head).ok_or("no trampoline is in reach")?;
        self.patches.arenas.push(arena);
        Ok(slot)
    }

    /// Maps an arena within reach of `head`, away from where mappings and the heap grow.
    fn new_arena(&mut self, head: u64) -> Result<Arena, &'static str> {
        const FAR: u64 = (2 << 30) - (64 << 20);
        const NEAR: u64 = 1 << 30;
        // With room to align it.
        const ROOM: u64 = 2 * ARENA;
        let floor = head.saturating_sub(FAR).max(lowest()).next_multiple_of(PAGE_SIZE);
        let below = self.map.highest_gap(floor, head.saturating_sub(NEAR) & !(PAGE_SIZE - 1), ROOM);
        let above = || {
            let floor = (head + NEAR).next_multiple_of(PAGE_SIZE);
            self.map.lowest_gap(floor, head.saturating_add(FAR).min(USER_END), ROOM)
        };
        let gap = below.or_else(above).ok_or("there is no room for trampolines")?;
        let start = gap.next_multiple_of(ARENA);
        make_arena(start).map_err(|_| "the host refused memory for trampolines")?;
        self.map.reserve(start, start + ARENA);
        let mut used = [0; (ARENA / SLOT / 64) as usize];
        used[0] = 1;
        Ok(Arena { start, used })
    }

    /// Puts the original code of sites in `[start, end)` back.
    pub fn restore_calls(&mut self, start: u64, end: u64) {
        let heads: Vec<u64> =
            self.patches.sites.range(start.saturating_sub(JUMP)..end).map(|(head, _)| *head).collect();
        for head in heads {
            if head + JUMP > start
                && let Some(site) = self.patches.sites.remove(&head)
                && exchange(head, site.original, false, true).is_err()
            {
                crate::warn!("the code at {head:#x} could not be put back");
            }
        }
    }
}

impl Arena {
    fn take(&mut self, shape: Shape, head: u64) -> Option<u64> {
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
}

fn make_arena(start: u64) -> Result<()> {
    use linux_raw_sys::general as raw;
    super::host_map::check(start, ARENA)?;
    let flags = raw::MAP_PRIVATE | raw::MAP_ANONYMOUS | raw::MAP_NORESERVE;
    host::map_fixed(start, ARENA, raw::PROT_READ | raw::PROT_WRITE, flags, -1, 0)?;
    let made = copy::store_u64_user(start, patch::entry_point())
        .and_then(|()| host::mprotect(start, ARENA, raw::PROT_READ | raw::PROT_EXEC));
    if made.is_err() || !patch::add_arena(start) {
        let _ = host::munmap(start, ARENA);
        return Err(Errno::ENOMEM);
    }
    Ok(())
}

/// Runs `write` while the pages of `[start, end)`, which are executable, can be written.
fn while_writable(start: u64, end: u64, write: impl FnOnce() -> Result<()>) -> Result<()> {
    use linux_raw_sys::general as raw;
    let first = start & !(PAGE_SIZE - 1);
    let length = end.next_multiple_of(PAGE_SIZE) - first;
    host::mprotect(first, length, raw::PROT_READ | raw::PROT_WRITE | raw::PROT_EXEC)?;
    let written = write();
    host::mprotect(first, length, raw::PROT_READ | raw::PROT_EXEC)?;
    written
}

fn write_code(at: u64, code: &[u8]) -> Result<()> {
    while_writable(at, at + code.len() as u64, || copy::to_user(at, code))
}

/// Exchanges the five bytes at `head`. Other threads may be running them: a breakpoint comes first and the first byte last, and
/// between the steps every processor takes notice (Intel SDM volume 3, 10.1.3).
fn exchange(head: u64, code: [u8; 5], alone: bool, restores: bool) -> Result<()> {
    const BREAKPOINT: u8 = 0xcc;
    let [first, second, third, rest @ ..] = code;
    // A thread that returns from the call of shape *next* finds the third byte. It is invalid as long as what follows is not
    // the instruction that was there.
    let (middle, outer): (&[u8], [(u64, &[u8]); 2]) = (&[third], [(1, &[second]), (3, &rest)]);
    let steps: [&[(u64, &[u8])]; 2] =
        if restores { [&outer, &[(2, middle)]] } else { [&[(2, middle)], &outer] };
    while_writable(head, head + JUMP, || {
        if alone {
            return copy::to_user(head, &code);
        }
        synchronize_registered()?;
        patch::begin(head);
        let exchanged = exchange_in_steps(head, BREAKPOINT, steps, first);
        patch::end(restores);
        exchanged
    })
}

fn exchange_in_steps(head: u64, breakpoint: u8, steps: [&[(u64, &[u8])]; 2], first: u8) -> Result<()> {
    copy::to_user(head, &[breakpoint])?;
    synchronize()?;
    for step in steps {
        for (offset, bytes) in step {
            copy::to_user(head + offset, bytes)?;
        }
        synchronize()?;
    }
    copy::to_user(head, &[first])?;
    synchronize()
}

/// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE`, once a process at least.
fn synchronize_registered() -> Result<()> {
    const REGISTER: i32 = 1 << 6;
    host::membarrier(REGISTER, 0).map(drop)
}

/// `MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE`: every thread of the process executes a serialising instruction.
fn synchronize() -> Result<()> {
    const SYNC_CORE: i32 = 1 << 5;
    host::membarrier(SYNC_CORE, 0).map(drop)
}
