//! Pages become executable.

use super::super::area::{Area, AreaFlags, Content, Prot};
use super::super::host_map;
use super::super::lock_calls::lock_on_host;
use super::super::range_set::RangeSet;
use super::super::space::Inner;
use super::find::{self, Kind, SIDE};
use super::{Action, BREAKPOINT, StandIn};
use crate::{Errno, Result};
use alloc::vec::Vec;
use boundary::layout::{IMAGE_OFFSET, IMAGE_SIZE, PAGE_SIZE};
use iced_x86::{Decoder, DecoderOptions};
use linux_raw_sys::general as raw;
use trap_handler::{copy, host, keys, patch, region};

/// Bytes that are opened at once: a fault costs as much as this takes to copy and to search.
pub(super) const WINDOW: u64 = 128 << 10;

const READ_EXECUTE: u32 = host::PROT_READ | host::PROT_EXEC;

/// What became of a page that the program wants to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// It can be run.
    Opened,
    /// It has the bytes of this, and this is the first time that it matters.
    Refused(Kind),
    /// That was said before.
    RefusedAgain,
    /// There is nothing: it is behind the end of a file.
    Nothing,
    /// The host lacks memory.
    Failed,
}

/// Pages that were searched.
struct Searched {
    start: u64,
    /// What is to be there, with [`SIDE`] bytes more at both ends.
    code: Vec<u8>,
    sites: Vec<(u64, StandIn)>,
    refused: Vec<(u64, Kind)>,
}

enum Search {
    Done(Searched),
    /// An instruction has bytes in other pages: these are to be searched together.
    Wider(u64, u64),
    Unreadable,
}

impl Inner {
    /// Makes the page at `page` executable, with others around it: the program has run into it, and its area allows it.
    pub fn open_code(&mut self, page: u64) -> Opening {
        let Some((first, area)) = self.map.find(page) else { return Opening::Nothing };
        if !area.prot.contains(Prot::EXEC) || area.shared() {
            return Opening::Nothing;
        }
        let area = area.clone();
        let writable = area.prot.contains(Prot::WRITE);
        if !writable {
            // Another thread came first.
            if self.screen.opened.find(page).is_some() {
                return Opening::Opened;
            }
            if self.screen.refused.contains_key(&page) {
                return self.refusal(page);
            }
        }
        // What was said about a page that is written to again and again is not said again.
        let said = self.screen.refused.get(&page).is_some_and(|(_, said)| *said);
        self.screen.refused.remove(&page);
        let outcome = if writable {
            self.open_written(page, &area)
        } else {
            let (start, end) = self.window(page, first, &area);
            match self.open_range(start, end, first, &area) {
                Ok(Opening::Nothing) if end - start > PAGE_SIZE => {
                    self.open_range(page, page + PAGE_SIZE, first, &area)
                }
                other => other,
            }
        };
        if let Some((_, known)) = self.screen.refused.get_mut(&page) {
            *known |= said;
        }
        match outcome {
            Ok(Opening::Opened) if self.screen.refused.contains_key(&page) => self.refusal(page),
            Ok(outcome) => outcome,
            Err(error) => {
                crate::warn!("kernel guard: the code at {page:#x} could not be made executable: {error}");
                Opening::Failed
            }
        }
    }

    fn refusal(&mut self, page: u64) -> Opening {
        match self.screen.refused.get_mut(&page) {
            Some((kind, said)) if !*said => {
                *said = true;
                Opening::Refused(*kind)
            }
            _ => Opening::RefusedAgain,
        }
    }

    /// The pages around `page` that are opened with it: those that are not yet open, and neither refused nor behind the end of a file.
    fn window(&self, page: u64, first: u64, area: &Area) -> (u64, u64) {
        let low = first.max(page & !(WINDOW - 1));
        let high = area.end.min((page & !(WINDOW - 1)).saturating_add(WINDOW));
        let (mut start, mut end) = (low, high);
        let apart = self.screen.opened.within(low, high).into_iter().chain(self.beyond.within(low, high));
        let refused = self.screen.refused.range(low..high).map(|(at, _)| (*at, *at + PAGE_SIZE));
        for (from, to) in apart.chain(refused) {
            if to <= page {
                start = start.max(to);
            } else if from > page {
                end = end.min(from);
            }
        }
        (start, end)
    }

    /// A page of an area that is writable, too. In it nothing is done in place of instructions: the program reads what it has written.
    fn open_written(&mut self, page: u64, area: &Area) -> Result<Opening> {
        host_map::check(page, PAGE_SIZE)?;
        let end = page + PAGE_SIZE;
        let running = self.screen.running.clone();
        // Held until it can be executed: who wants to write there, or have the kernel write there, waits for it.
        let mut running = running.lock();
        running.remove(page, end);
        host::pkey_mprotect(page, PAGE_SIZE, host::PROT_READ, keys::PROGRAM)?;
        let opened = self.search_written(page, area, &mut running);
        if !matches!(opened, Ok(Opening::Opened)) || self.screen.refused.contains_key(&page) {
            running.remove(page, end);
            host::pkey_mprotect(page, PAGE_SIZE, super::host_bits(area.prot), keys::PROGRAM)?;
        }
        opened
    }

    fn search_written(&mut self, page: u64, area: &Area, running: &mut RangeSet) -> Result<Opening> {
        let end = page + PAGE_SIZE;
        let mut code = Vec::new();
        code.try_reserve_exact(PAGE_SIZE as usize + 2 * SIDE).map_err(|_| Errno::ENOMEM)?;
        code.resize(PAGE_SIZE as usize + 2 * SIDE, 0);
        let Some(body) = code.get_mut(SIDE..SIDE + PAGE_SIZE as usize) else { return Ok(Opening::Nothing) };
        if copy::from_user(body, page).is_err() {
            return Ok(Opening::Nothing);
        }
        self.add_neighbours(&mut code, page, end, running);
        if let Some((_, kind)) = find::occurrences(&code).next() {
            self.screen.refused.insert(page, (kind, false));
            return Ok(Opening::Opened);
        }
        if matches!(area.content, Content::Anonymous) {
            host::pkey_mprotect(page, PAGE_SIZE, host::PROT_READ | host::PROT_EXEC, keys::PROGRAM)?;
        } else {
            let body = code.get(SIDE..SIDE + PAGE_SIZE as usize).unwrap_or_default();
            take_place(page, body, READ_EXECUTE, area.flags.contains(AreaFlags::DONT_FORK))?;
            self.screen.own.insert(page, end);
            if area.flags.contains(AreaFlags::LOCKED) {
                lock_on_host(page, PAGE_SIZE);
            }
        }
        running.insert(page, end);
        Ok(Opening::Opened)
    }

    fn open_range(&mut self, start: u64, end: u64, first: u64, area: &Area) -> Result<Opening> {
        host_map::check(start, end - start)?;
        if matches!(area.content, Content::Anonymous) {
            // Whatever was left when the host could not change all of a range.
            host::pkey_mprotect(start, end - start, host::PROT_READ, keys::PROGRAM)?;
        }
        let mut search = self.search(start, end, first, area, true);
        if let Search::Wider(start, end) = search {
            self.close_code(start, end)?;
            search = self.search(start, end, first, area, false);
        }
        match search {
            Search::Done(searched) => self.let_run(searched, area).map(|()| Opening::Opened),
            Search::Wider(..) => Err(Errno::ENOEXEC),
            Search::Unreadable => Ok(Opening::Nothing),
        }
    }

    /// Searches what is readable of `[start, end)`. `widens`: more pages may be asked for, for an instruction that lies across the end.
    fn search(&mut self, start: u64, end: u64, first: u64, area: &Area, widens: bool) -> Search {
        let mut code = Vec::new();
        let length = (end - start) as usize;
        if code.try_reserve_exact(length + 2 * SIDE).is_err() {
            return Search::Unreadable;
        }
        code.resize(length + 2 * SIDE, 0);
        let Some(body) = code.get_mut(SIDE..SIDE + length) else { return Search::Unreadable };
        let read = copy::from_user_partial(body, start) & !(PAGE_SIZE as usize - 1);
        if read == 0 {
            return Search::Unreadable;
        }
        code.truncate(read + 2 * SIDE);
        let end = start + read as u64;
        self.add_neighbours(&mut code, start, end, &self.screen.running.lock());

        let mut searched = Searched { start, code, sites: Vec::new(), refused: Vec::new() };
        let found: Vec<(usize, Kind)> = find::occurrences(&searched.code).collect();
        for (offset, kind) in found {
            let at = start - SIDE as u64 + offset as u64;
            // Covered by the breakpoints of the one before.
            if searched.sites.iter().any(|(head, site)| *head <= at && site.end(*head) > at) {
                continue;
            }
            match self.stand_in(at, kind, first, area) {
                Some((head, site)) if head >= start && site.end(head) <= end => {
                    searched.sites.push((head, site));
                    let from = (head - start) as usize + SIDE;
                    if let Some(bytes) = searched.code.get_mut(from..from + usize::from(site.length)) {
                        bytes.fill(BREAKPOINT);
                    }
                }
                Some((head, site)) if widens => {
                    let low = start.min(head & !(PAGE_SIZE - 1));
                    return Search::Wider(low, end.max(site.end(head).next_multiple_of(PAGE_SIZE)));
                }
                _ => searched.refused.push((at.clamp(start, end - 1) & !(PAGE_SIZE - 1), kind)),
            }
        }
        Search::Done(searched)
    }

    /// The bytes on either side, where they are executable; nothing elsewhere can be run on into these pages, or from them.
    pub(super) fn add_neighbours(&self, code: &mut [u8], start: u64, end: u64, running: &RangeSet) {
        let runs = |at: u64| {
            self.screen.opened.find(at).is_some() || running.find(at).is_some() || patch::touches_arena(at, 1)
        };
        if let Some(before) = code.first_chunk_mut::<SIDE>() {
            let at = start.saturating_sub(SIDE as u64);
            // Side pages are of a page or more.
            if !(runs(start.saturating_sub(1)) && copy::from_user(before, at).is_ok()) {
                *before = [0; SIDE];
            }
        }
        if let Some(after) = code.last_chunk_mut::<SIDE>()
            && !(runs(end) && copy::from_user(after, end).is_ok())
        {
            *after = [0; SIDE];
        }
    }

    /// What the kernel can stand in for to keep the occurrence at `at` out, and where that starts.
    fn stand_in(&mut self, at: u64, kind: Kind, first: u64, area: &Area) -> Option<(u64, StandIn)> {
        let before = at.checked_sub(first)?.min(find::STRETCH as u64);
        let behind = area.end.checked_sub(at)?.min(find::STRETCH_BEHIND as u64);
        let mut code = [0u8; find::STRETCH + find::STRETCH_BEHIND];
        let code = code.get_mut(..(before + behind) as usize)?;
        let read = copy::from_user_partial(code, at - before);
        let code = code.get_mut(..read)?;
        self.screen.show_original_code(at - before, code);
        let opcode = before as usize;
        let (from, instruction) = find::covering(code, opcode)?;
        let base = at - before;
        if kind.is(&instruction) {
            return self.site(base, code, (from, instruction.len()), Action::Perform(kind));
        }
        if !find::is_code(code, opcode) {
            return None;
        }
        // The bytes are in the numbers of another instruction, or of two or three: one of them less is enough.
        let mut from = from;
        while from < opcode + find::LENGTH {
            let rest = code.get(from..)?;
            let instruction = Decoder::new(64, rest, DecoderOptions::NONE).decode();
            if instruction.is_invalid() {
                return None;
            }
            let place = (from, instruction.len());
            if find::is_branch(&instruction) {
                return self.site(base, code, place, Action::Branch);
            }
            if let Some((head, mut site)) = self.site(base, code, place, Action::Branch)
                && let Some(slot) = self.move_away(head, &site)
            {
                site.action = Action::GoTo(slot);
                return Some((head, site));
            }
            from += instruction.len();
        }
        None
    }

    fn site(
        &self,
        base: u64,
        code: &[u8],
        (from, length): (usize, usize),
        action: Action,
    ) -> Option<(u64, StandIn)> {
        let head = base + from as u64;
        let mut site = StandIn { code: [0; find::AFTER], length: length as u8, action };
        site.code.get_mut(..length)?.copy_from_slice(code.get(from..from + length)?);
        // A rewritten call site is put back byte by byte.
        (!self.patches.are_in(head, site.end(head))).then_some((head, site))
    }

    /// Writes the same instruction elsewhere, with a jump back behind it; where.
    fn move_away(&mut self, head: u64, site: &StandIn) -> Option<u64> {
        if let Some((known, slot)) = self.screen.moved.get(&head)
            && known.bytes() == site.bytes()
        {
            return Some(*slot);
        }
        let slot = self.write_moved(head, |slot| {
            let (bytes, length) = find::moved(site.bytes(), head, slot)?;
            let code = patch::moved_away(bytes.get(..length)?, slot, head, site.end(head))?;
            super::is_harmless(slot, &code).then(|| Vec::from(code))
        })?;
        self.screen.moved.insert(head, (*site, slot));
        Some(slot)
    }

    /// Puts what was searched where it is to be run.
    fn let_run(&mut self, searched: Searched, area: &Area) -> Result<()> {
        let Searched { start, code, sites, refused } = searched;
        let body = code.get(SIDE..code.len().saturating_sub(SIDE)).unwrap_or_default();
        let end = start + body.len() as u64;
        for (page, kind) in &refused {
            self.screen.refused.entry(*page).or_insert((*kind, false));
        }
        let last = end.saturating_sub(1);
        let is_refused = |at: u64| refused.iter().any(|(page, _)| *page == at & !(PAGE_SIZE - 1));
        // Nothing is left to chance: what was changed is searched as it will be.
        let changed = !(sites.is_empty() && refused.is_empty());
        if changed
            && find::occurrences(&code).any(|(offset, _)| {
                !is_refused((start + offset as u64).saturating_sub(SIDE as u64).clamp(start, last))
            })
        {
            return Err(Errno::ENOEXEC);
        }
        let mut at = start;
        while at < end {
            let mut to = at;
            while to < end && !is_refused(to) {
                to += PAGE_SIZE;
            }
            if to > at {
                let part = body.get((at - start) as usize..(to - start) as usize).unwrap_or_default();
                self.run_part(at, part, &sites, area)?;
            }
            at = to + PAGE_SIZE;
        }
        Ok(())
    }

    fn run_part(&mut self, at: u64, code: &[u8], sites: &[(u64, StandIn)], area: &Area) -> Result<()> {
        let length = code.len() as u64;
        let end = at + length;
        let sites = sites.iter().filter(|(head, _)| (at..end).contains(head));
        if matches!(area.content, Content::Anonymous) {
            let sites: Vec<_> = sites.clone().collect();
            if !sites.is_empty() {
                host::pkey_mprotect(at, length, host::PROT_READ | host::PROT_WRITE, keys::CODE)?;
                for (head, site) in &sites {
                    copy::to_user(*head, [BREAKPOINT; find::AFTER].get(..site.bytes().len()).unwrap_or(&[]))?;
                }
                host::pkey_mprotect(at, length, host::PROT_READ, keys::PROGRAM)?;
                // A call of another thread may have been told to write there meanwhile.
                let mut now = Vec::new();
                now.try_reserve_exact(code.len()).map_err(|_| Errno::ENOMEM)?;
                now.resize(code.len(), 0);
                copy::from_user(&mut now, at)?;
                if now != code {
                    return Err(Errno::EAGAIN);
                }
            }
            // Before the host can have changed a part: neighbours ask.
            self.screen.opened.insert(at, end);
            if let Err(error) =
                host::pkey_mprotect(at, length, host::PROT_READ | host::PROT_EXEC, keys::PROGRAM)
            {
                if host::pkey_mprotect(at, length, host::PROT_READ, keys::PROGRAM).is_ok() {
                    self.screen.opened.remove(at, end);
                }
                return Err(error);
            }
        } else {
            take_place(at, code, READ_EXECUTE, area.flags.contains(AreaFlags::DONT_FORK))?;
            self.screen.own.insert(at, end);
            if area.flags.contains(AreaFlags::LOCKED) {
                lock_on_host(at, length);
            }
        }
        self.screen.opened.insert(at, end);
        self.screen.stand_ins.extend(sites.copied());
        Ok(())
    }
}

/// Puts anonymous memory with this content and protection at `at`, in one step for all who run it or read it.
///
/// A private copy of a file's page is not enough: when the file is made shorter, the host takes that away, too, and what the file holds
/// when it has become longer again is mapped in its place.
pub(super) fn take_place(at: u64, code: &[u8], prot: u32, dont_fork: bool) -> Result<()> {
    let length = code.len() as u64;
    // Room of the kernel's, which calls do not write to for programs. The lock of the address space makes it one at a time.
    let room = region::base() + IMAGE_OFFSET + IMAGE_SIZE - 2 * WINDOW;
    if length > 2 * WINDOW {
        return Err(Errno::ENOMEM);
    }
    host::map_anonymous_fixed(room, length, host::PROT_NONE)?;
    let placed = host::pkey_mprotect(room, length, host::PROT_READ | host::PROT_WRITE, keys::CODE)
        .and_then(|()| {
            // One call for all of its pages, in place of a fault for each; a host that does not know it has the faults.
            let _ = host::madvise(room, length, raw::MADV_POPULATE_WRITE);
            // SAFETY: the room was just mapped, is as long as the code, and nobody else's.
            unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), room as *mut u8, code.len()) };
            if dont_fork {
                host::madvise(room, length, raw::MADV_DONTFORK)?;
            }
            host::pkey_mprotect(room, length, prot, keys::PROGRAM)
        })
        .and_then(|()| host::mremap_fixed(room, length, length, 0, at));
    if placed.is_err() {
        let _ = host::munmap(room, length);
    }
    placed.map(drop)
}
