//! Rewriting call sites that trap again and again, so that later calls jump straight to the kernel.
//!
//! What can be rewritten, and how, is in `trap_handler::patch`; what was learned about files, in [`super::learned`]. Only
//! private mappings of files that are executable and not writable are touched. A site goes back to what it was before its
//! memory changes protection or moves: a program that changes its own code sees its own code.

use super::area::{AreaFlags, Content, Prot};
use super::arena::Arena;
use super::code::{exchange, while_writable};
use super::learned::{self, AFTER, Advice, BEFORE, Code, FileId, Known};
use super::screen::{self, rewrite};
use super::space::{AddressSpace, Inner, lowest};
use crate::Result;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use boundary::layout::{PAGE_SIZE, USER_END};
use trap_handler::block::ThreadBlock;
use trap_handler::patch::{self, ARENA, JUMP, SLOT, Shape};
use trap_handler::{copy, keys};

#[derive(Debug, Clone)]
struct Patch {
    /// The bytes that the jump took the place of.
    original: [u8; JUMP as usize],
}

/// Traps of a process at one site before the site is rewritten in a mapping that was there before: that costs as much as
/// some ten traps.
const THRESHOLD: u8 = 8;
/// Traps of a process in one mapping before all that is known of its file is rewritten there: many programs hardly call from most of
/// theirs, and each page that is rewritten is copied.
const HARDLY: u8 = 4;
/// Sites whose traps are counted at most.
const COUNTED: usize = 1024;

/// How often calls trapped in a process, by the address of their `syscall`. A forked child starts anew.
pub(super) type Trapped = BTreeMap<u64, u8>;

/// The rewritten sites of an address space.
#[derive(Debug, Clone, Default)]
pub(super) struct Patches {
    /// By the head, the address of the jump.
    sites: BTreeMap<u64, Patch>,
    arenas: Vec<Arena>,
    /// Nothing more is rewritten.
    stopped: bool,
    /// What was known ([`learned::generation`]) when all mappings were last rewritten.
    generation: u64,
}

/// A site and all that is to be written for it.
struct Plan {
    site: u64,
    shape: Shape,
    head: u64,
    jump: [u8; JUMP as usize],
    original: [u8; JUMP as usize],
    slot: u64,
    trampoline: [u8; SLOT as usize],
}

impl Plan {
    /// The calling thread returns from this very call.
    fn resume(&self) {
        if let Shape::Next(_) = self.shape {
            ThreadBlock::current().resume_at(self.site + 2, self.slot + patch::MOVED_AT);
        }
    }
}

/// Why a site is not rewritten.
enum Refusal {
    /// Nor will it be elsewhere.
    Always(&'static str),
    /// Not here, not now.
    Here(&'static str),
}

impl Patches {
    /// Whether there may be sites in `[start, end)`.
    pub fn are_in(&self, start: u64, end: u64) -> bool {
        self.sites.range(start.saturating_sub(JUMP)..end.max(start)).next().is_some()
    }

    /// The memory in `[start, end)` is gone, and with it the sites.
    pub fn forget(&mut self, start: u64, end: u64) {
        if self.are_in(start, end) {
            self.sites.retain(|head, _| *head + JUMP <= start || *head >= end);
        }
    }

    /// What remains when a new program takes the place of the old.
    pub fn for_new_program(&self) -> Patches {
        Patches { stopped: self.stopped, ..Patches::default() }
    }

    /// What a forked child starts with: who traces its parent may not trace it.
    pub fn for_child(&mut self) {
        self.stopped = false;
    }

    /// Whether the `syscall` at `site` belongs to a rewritten site. It can trap all the same: of shape *number*, when somebody
    /// jumps to it or a call is restarted.
    fn has_site(&self, site: u64) -> bool {
        self.sites.contains_key(&site) || self.sites.contains_key(&site.wrapping_sub(JUMP))
    }
}

/// A call after which there are no others.
fn ends_process(number: u64) -> bool {
    use linux_raw_sys::general as raw;
    number == u64::from(raw::__NR_exit_group)
}

/// The code around the `syscall` at `site`, and how much of it there is behind. What lies in front of the mapping, which
/// starts at `start`, counts as zeros.
fn code_around(site: u64, start: u64) -> Option<(Code, usize)> {
    let mut code = [0u8; (BEFORE + AFTER) as usize];
    let (before, after) = code.split_at_mut(BEFORE as usize);
    let mapped = site.checked_sub(start)?.min(BEFORE);
    copy::from_user(before.get_mut((BEFORE - mapped) as usize..)?, site - mapped).ok()?;
    let length = copy::from_user_partial(after, site);
    (length > 0).then_some((code, BEFORE as usize + length))
}

impl AddressSpace {
    /// A call trapped: the `syscall` at `site`, with this number. Rewrites the site when it is worth it; `alone` if no other
    /// thread runs in this memory. Called by a thread of the process.
    pub fn call_trapped(&self, site: u64, number: u64, alone: bool) {
        if !learned::enabled() {
            return;
        }
        {
            let inner = self.inner.read();
            if inner.patches.stopped || inner.patches.has_site(site) {
                return;
            }
            let Some((id, offset, path)) = inner.file_at(site) else { return };
            match learned::trapped(id, offset, &path) {
                Advice::Leave => return,
                Advice::Look => inner.look(id, offset, site, number),
                Advice::Rewrite => {}
            }
        }
        if alone && !ends_process(number) && self.rewrite_at_last(site) {
            return;
        }
        if self.count_trap(site)
            && let Err(Refusal::Always(reason) | Refusal::Here(reason)) =
                self.inner.write().rewrite(site, number, alone)
        {
            crate::debug!("the call at {site:#x} (number {number}) is not rewritten: {reason}");
        }
    }

    /// Notes a trap at a site that can be rewritten; whether it is time to.
    fn count_trap(&self, site: u64) -> bool {
        self.note_trap(site).is_multiple_of(THRESHOLD)
    }

    /// How often a site has trapped with this time, or a mapping, by its first byte.
    fn note_trap(&self, place: u64) -> u8 {
        let mut trapped = self.trapped.lock();
        if trapped.len() >= COUNTED && !trapped.contains_key(&place) {
            trapped.clear();
        }
        let count = trapped.entry(place).or_insert(0);
        *count = count.wrapping_add(1);
        *count
    }

    /// Notes a trap in a mapping of a file of which something is known, and rewrites that when the program calls from there more than
    /// once in a while; whether the site is rewritten now. No other thread runs in this memory.
    fn rewrite_at_last(&self, site: u64) -> bool {
        let found = self.inner.read().map.find(site).map(|(start, area)| (start, area.end));
        let Some((start, end)) = found else { return false };
        if self.note_trap(start) != HARDLY {
            return false;
        }
        let plans = self.inner.write().rewrite_known(start, end);
        let plan = plans.iter().find(|plan| plan.site == site);
        if let Some(plan) = plan {
            plan.resume();
        }
        plan.is_some()
    }

    /// Rewrites what is known of the files that are mapped in `[start, end)`, which nobody runs yet.
    pub fn rewrite_new(&self, start: u64, end: u64) {
        let mut inner = self.inner.write();
        let texts: Vec<(u64, u64)> =
            inner.map.overlapping(start, end).map(|(start, area)| (start, area.end)).collect();
        for (start, end) in texts {
            inner.rewrite_known(start, end);
        }
    }

    /// A process that forks again and again has all that is known rewritten, for its children. `alone`: as above.
    pub fn rewrite_for_children(&self, alone: bool) {
        let generation = learned::generation();
        if !alone || self.inner.read().patches.generation == generation {
            return;
        }
        let mut inner = self.inner.write();
        inner.patches.generation = generation;
        let text = |(start, area): (u64, &super::area::Area)| {
            area.prot.contains(Prot::EXEC).then_some((start, area.end))
        };
        let areas: Vec<(u64, u64)> = inner.map.iter().filter_map(text).collect();
        for (start, end) in areas {
            inner.rewrite_known(start, end);
        }
    }

    /// Puts all code back to what it was, and rewrites nothing any more: the process is traced, and single steps and breakpoints
    /// have to see its own code. Called by a thread of the process, which goes on where its own code is.
    pub fn stop_rewriting(&self) {
        let mut inner = self.inner.write();
        inner.patches.stopped = true;
        inner.restore_calls(0, USER_END);
        drop(inner);
        ThreadBlock::current().forget_site();
    }

    /// Ends that: the process is no longer traced.
    pub fn allow_rewriting(&self) {
        self.inner.write().patches.stopped = false;
    }
}

impl Inner {
    /// The file that is mapped at `address`, the offset in it, and its path; the address itself for memory without a file.
    fn file_at(&self, address: u64) -> Option<(FileId, u64, Vec<u8>)> {
        let (start, area) = self.map.find(address)?;
        Some(match &area.content {
            Content::File(file, offset) => {
                let (dev, ino, path) = file.describe();
                ((dev, ino), offset.wrapping_add(address - start), path)
            }
            _ => ((0, 0), address, Vec::new()),
        })
    }

    /// Finds out whether the `syscall` at `site` can be rewritten.
    fn look(&self, id: FileId, offset: u64, site: u64, number: u64) {
        let code = self.map.find(site).and_then(|(start, _)| code_around(site, start));
        let Some((code, length)) = code else { return };
        match self.judge(site, code.get(..length).unwrap_or_default(), number) {
            Ok(_) => learned::found(id, Known { offset, code, number }),
            Err(Refusal::Always(reason)) => {
                crate::debug!("the call at {site:#x} (number {number}) stays a trap: {reason}");
                learned::refused(id, offset, reason);
            }
            Err(Refusal::Here(reason)) => {
                crate::debug!("the call at {site:#x} (number {number}) is not rewritten: {reason}");
            }
        }
    }

    fn rewrite(&mut self, site: u64, number: u64, alone: bool) -> Result<(), Refusal> {
        if self.patches.has_site(site) {
            return Err(Refusal::Here("it was rewritten a moment ago"));
        }
        let (start, _) = self.map.find(site).ok_or(Refusal::Here("it is not in a mapping"))?;
        let (code, length) = code_around(site, start).ok_or(Refusal::Here("its code cannot be read"))?;
        let plan = self.plan(site, code.get(..length).unwrap_or_default(), number)?;
        self.write_trampolines(core::slice::from_ref(&plan))
            .map_err(|_| Refusal::Here("the host refused to change its trampoline"))?;
        self.exchange(plan.head, plan.jump, alone, false)
            .map_err(|_| Refusal::Here("the host refused to change its code"))?;
        plan.resume();
        self.patches.sites.insert(plan.head, Patch { original: plan.original });
        Ok(())
    }

    /// The shape of a site with this code around it, if it can be rewritten here.
    fn judge(&self, site: u64, code: &[u8], number: u64) -> Result<Shape, Refusal> {
        let split = code.split_at_checked(BEFORE as usize);
        let Some((before, [0x0f, 0x05, after @ ..])) = split else {
            return Err(Refusal::Here("there is no syscall instruction"));
        };
        let before: &[u8; BEFORE as usize] =
            before.try_into().map_err(|_| Refusal::Here("its code cannot be read"))?;
        let shape = patch::shape(before, number, after).map_err(Refusal::Always)?;
        let head = shape.head(site);
        let end = match shape {
            Shape::Number(_) => site + 2,
            Shape::Next(next) => site + 2 + u64::from(next.length),
        };
        self.check_code(head, end)?;
        // One site, one shape: a trampoline returns onto what the other shape would overwrite.
        if self.patches.sites.range(head.saturating_sub(JUMP - 1)..end).next().is_some() {
            return Err(Refusal::Here("it overlaps another site"));
        }
        if self.screen.stands_in(head, end.max(head + JUMP)) {
            return Err(Refusal::Here("it overlaps an instruction that the kernel does"));
        }
        if keys::on() && !rewrite::is_one_step(head, head + JUMP) {
            return Err(Refusal::Here("it cannot be replaced in one step"));
        }
        Ok(shape)
    }

    /// What is to be written to rewrite a site, with a slot taken for its trampoline.
    fn plan(&mut self, site: u64, code: &[u8], number: u64) -> Result<Plan, Refusal> {
        let shape = self.judge(site, code, number)?;
        let head = shape.head(site);
        let (before, behind) = code.split_at_checked(BEFORE as usize).unwrap_or_default();
        let original = match shape {
            Shape::Number(_) => before.last_chunk().copied(),
            Shape::Next(_) => behind.first_chunk().copied(),
        };
        let after = behind.get(2..).unwrap_or_default();
        let original = original.ok_or(Refusal::Here("its code cannot be read"))?;
        let slot = self.slot_for(shape, head).map_err(Refusal::Here)?;
        let out_of_reach = || Refusal::Here("it is out of reach");
        let trampoline =
            patch::trampoline(shape, site, after, slot & !(ARENA - 1), slot).ok_or_else(out_of_reach)?;
        let jump = patch::jump(head, slot).ok_or_else(out_of_reach)?;
        if keys::on()
            && !(screen::is_harmless_exchange(head, &original, &jump)
                && screen::is_harmless(slot, &trampoline))
        {
            return Err(Refusal::Here("its jump has the bytes of an instruction that the guard keeps out"));
        }
        Ok(Plan { site, shape, head, jump, original, slot, trampoline })
    }

    /// Rewrites what is known of the file that is mapped at `[start, end)`; the sites. No other thread may run it now.
    fn rewrite_known(&mut self, start: u64, end: u64) -> Vec<Plan> {
        let mut plans = Vec::new();
        if !learned::enabled() || self.patches.stopped {
            return plans;
        }
        let Some((first, area)) = self.map.find(start) else { return plans };
        let Content::File(file, offset) = &area.content else { return plans };
        if area.prot != Prot::READ | Prot::EXEC || area.flags.contains(AreaFlags::SHARED) {
            return plans;
        }
        let (dev, ino, _) = file.describe();
        let offset = offset.wrapping_add(start - first);
        for known in learned::known((dev, ino), offset, offset.saturating_add(end - start)) {
            let site = start + (known.offset - offset);
            if let Some((code, length)) = code_around(site, first)
                && code == known.code
                && let Ok(plan) = self.plan(site, code.get(..length).unwrap_or_default(), known.number)
            {
                self.patches.sites.insert(plan.head, Patch { original: plan.original });
                plans.push(plan);
            }
        }
        let (Some(first), Some(last)) = (plans.first(), plans.last()) else { return plans };
        // All of the mapping, so that the host need not split it and put it together again; but not what lies behind its file.
        let (first, last) = if self.beyond.within(start, end).is_empty() {
            (start, end)
        } else {
            (first.head, last.head + JUMP)
        };
        let written = self.write_trampolines(&plans).and_then(|()| {
            if keys::on() {
                let jumps = plans.iter().map(|plan| (plan.head, &plan.jump[..]));
                return self.replace_code(&jumps.collect::<Vec<_>>());
            }
            while_writable(first, last, || {
                plans.iter().try_for_each(|plan| copy::to_user(plan.head, &plan.jump))
            })
        });
        if written.is_err() {
            crate::warn!("known call sites at {start:#x} could not be rewritten: the host refused");
            self.restore_calls(first, last);
            plans.clear();
        }
        plans
    }

    /// Writes the trampolines of sites, arena by arena.
    fn write_trampolines(&mut self, plans: &[Plan]) -> Result<()> {
        for arena in &mut self.patches.arenas {
            let here = plans.iter().filter(|plan| plan.slot & !(ARENA - 1) == arena.start);
            arena.write(&here.map(|plan| (plan.slot, &plan.trampoline[..])).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Writes code of up to [`SLOT`] bytes into a slot in reach of `head`, that `code` makes for it; the slot.
    pub(super) fn write_moved(
        &mut self,
        head: u64,
        code: impl FnOnce(u64) -> Option<Vec<u8>>,
    ) -> Option<u64> {
        // As far as that of a jump.
        let slot = self.slot_for(Shape::Number(0), head).ok()?;
        let code = code(slot).filter(|code| code.len() as u64 <= SLOT)?;
        let arena = self.patches.arenas.iter_mut().find(|arena| arena.start == slot & !(ARENA - 1))?;
        arena.write(&[(slot, &code)]).ok()?;
        Some(slot)
    }

    /// Exchanges the bytes at `head`; see [`exchange`].
    fn exchange(&mut self, head: u64, code: [u8; JUMP as usize], alone: bool, restores: bool) -> Result<()> {
        if keys::on() { self.replace_code(&[(head, &code)]) } else { exchange(head, code, alone, restores) }
    }

    fn check_code(&self, start: u64, end: u64) -> Result<(), Refusal> {
        let (_, area) = self.map.find(start).ok_or(Refusal::Here("it is not in a mapping"))?;
        if area.end < end {
            return Err(Refusal::Here("it lies across the end of a mapping"));
        }
        if !matches!(area.content, Content::File(..)) {
            return Err(Refusal::Always("its code is not a file's"));
        }
        if area.flags.contains(AreaFlags::SHARED) {
            return Err(Refusal::Here("its code is a shared mapping"));
        }
        if area.prot != Prot::READ | Prot::EXEC {
            return Err(Refusal::Here("its code is writable"));
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
        let arena = Arena::map(start).map_err(|_| "the host refused memory for trampolines")?;
        self.map.reserve(start, start + ARENA);
        Ok(arena)
    }

    /// Puts the original code of rewritten sites into what was read at `start`.
    pub fn show_original_code(&self, start: u64, bytes: &mut [u8]) {
        let end = start.saturating_add(bytes.len() as u64);
        self.screen.show_original_code(start, bytes);
        for (head, site) in self.patches.sites.range(start.saturating_sub(JUMP)..end) {
            for (at, original) in (*head..).zip(site.original) {
                if let Some(byte) = at.checked_sub(start).and_then(|offset| bytes.get_mut(offset as usize)) {
                    *byte = original;
                }
            }
        }
    }

    /// Puts the original code of sites in `[start, end)` back.
    pub fn restore_calls(&mut self, start: u64, end: u64) {
        let heads: Vec<u64> =
            self.patches.sites.range(start.saturating_sub(JUMP)..end).map(|(head, _)| *head).collect();
        for head in heads {
            if head + JUMP > start
                && let Some(site) = self.patches.sites.remove(&head)
                && self.exchange(head, site.original, false, true).is_err()
            {
                crate::warn!("the code at {head:#x} could not be put back");
            }
        }
    }
}
