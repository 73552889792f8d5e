//! Screening of code, where the kernel's memory is closed to the program by protection keys (`--kernel-guard`): no page is
//! executable while it holds the bytes of an instruction that could open a key or move GS.
//!
//! The host never gets `PROT_EXEC` from the calls that map or protect memory ([`host_bits`]). It gets it here alone ([`open`]), when the
//! program first runs a page and the host reports a fault: the pages become the process's own, so that a file that changes changes no
//! code, and are searched ([`find`]) together with their executable neighbours. An instruction that a program means to be there becomes a
//! breakpoint, and the kernel does what it says ([`Inner::stand_in_at`]); a page with anything else stays closed. Whatever may change
//! content or neighbours takes `PROT_EXEC` away again ([`Inner::close_code`]); what is run after that is searched again.
//!
//! Memory that is writable and executable is one or the other on the host, page by page, whichever was tried last.

pub mod find;
mod open;
mod operand;
pub(super) mod rewrite;
#[cfg(test)]
mod tests;

pub use open::Opening;

pub use find::Kind;

use super::area::{Area, Prot};
use super::host_map;
use super::range_set::RangeSet;
use super::space::{AddressSpace, Inner};
use crate::sync::{BootCell, Mutex};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::layout::PAGE_SIZE;
use core::sync::atomic::{AtomicBool, Ordering};
use trap_handler::{copy, host, keys};

/// Bytes of the longest instruction.
const LONGEST: u64 = find::AFTER as u64;
const BREAKPOINT: u8 = 0xcc;

/// An instruction that the kernel does in place of the processor.
#[derive(Debug, Clone, Copy)]
pub struct StandIn {
    /// Its bytes, [`Self::length`] of them.
    pub code: [u8; find::AFTER],
    /// Bytes.
    pub length: u8,
    /// What is done instead.
    pub action: Action,
}

/// What the kernel does where it stands in for an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// What the instruction says, as far as the guard allows.
    Perform(Kind),
    /// The jump or call that has the bytes in its distance.
    Branch,
    /// The thread goes on here, where the same is done by other bytes.
    GoTo(u64),
}

impl StandIn {
    fn end(&self, start: u64) -> u64 {
        start.saturating_add(u64::from(self.length))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.code.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// Pages of areas that are writable and executable which are executable now. Innermost lock: copies to the program, which are
/// made under all kinds of locks, take pages out.
pub(super) type Running = Arc<Mutex<RangeSet>>;

/// What is known of the code of an address space. Empty without the guard.
#[derive(Default)]
pub(super) struct Screen {
    /// Executable on the host, in areas that are not writable.
    opened: RangeSet,
    /// At least what is executable on the host in areas that are writable, too.
    pub running: Running,
    /// Areas of files whose pages are anonymous on the host.
    own: RangeSet,
    /// By the first byte, where a breakpoint is.
    stand_ins: BTreeMap<u64, StandIn>,
    /// Where instructions were moved to, by the first byte: they may be wanted there again.
    moved: BTreeMap<u64, (StandIn, u64)>,
    /// Pages that are not executed, and whether that was said.
    refused: BTreeMap<u64, (Kind, bool)>,
}

impl Clone for Screen {
    fn clone(&self) -> Screen {
        Screen {
            opened: self.opened.clone(),
            running: Arc::new(Mutex::new(self.running.lock().clone())),
            own: self.own.clone(),
            stand_ins: self.stand_ins.clone(),
            moved: self.moved.clone(),
            refused: self.refused.clone(),
        }
    }
}

/// Makes pages writable again that are executable now, for a copy to the program that failed or will come.
pub type MakeWritable = fn(u64, u64) -> bool;

static MAKE_WRITABLE: BootCell<MakeWritable> = BootCell::new();

/// Tells how the running thread's address space is asked. Called once, at boot.
pub fn set_make_writable(make: MakeWritable) {
    MAKE_WRITABLE.set(make);
}

/// The kernel is about to write to `[address, address + length)`, or could not: whether there were pages that only now can be written.
pub fn make_writable(address: u64, length: u64) -> bool {
    keys::on() && MAKE_WRITABLE.get().is_some_and(|make| make(address, length))
}

/// Whether an area with this protection would be refused.
pub(super) fn refuses(area: &Area) -> bool {
    // Others can write to it, and there is no knowing when.
    let refused = keys::on() && area.shared() && area.prot.contains(Prot::EXEC);
    if refused {
        crate::warn!("kernel guard: shared memory is not executable; run with --kernel-guard=off");
    }
    refused
}

/// The protection that the host gets for pages that nobody has run.
pub(super) fn host_bits(prot: Prot) -> u32 {
    unopened(prot).bits()
}

fn unopened(prot: Prot) -> Prot {
    // What can be executed can be read, on this processor.
    if keys::on() && prot.contains(Prot::EXEC) { (prot - Prot::EXEC) | Prot::READ } else { prot }
}

/// Whether the bytes make no occurrence at `address`, with what is there in front of them and behind.
pub(super) fn is_harmless(address: u64, bytes: &[u8]) -> bool {
    let mut code = Vec::with_capacity(bytes.len() + 2 * find::SIDE);
    let (before, after) = around(address, bytes.len() as u64);
    code.extend_from_slice(&before);
    code.extend_from_slice(bytes);
    code.extend_from_slice(&after);
    find::occurrences(&code).next().is_none()
}

/// Whether the five bytes at `head` can be exchanged while others run them.
pub(super) fn is_harmless_exchange(head: u64, old: &[u8; 5], new: &[u8; 5]) -> bool {
    let (before, after) = around(head, 5);
    find::exchange_is_harmless(&before, old, new, &after)
}

/// The bytes on either side; zeros, which are part of no occurrence, where nothing can be read.
fn around(address: u64, length: u64) -> ([u8; find::SIDE], [u8; find::SIDE]) {
    let (mut before, mut after) = ([0; find::SIDE], [0; find::SIDE]);
    for (byte, at) in before.iter_mut().zip(address.saturating_sub(find::SIDE as u64)..) {
        let _ = copy::from_user(core::slice::from_mut(byte), at);
    }
    for (byte, at) in after.iter_mut().zip(address.saturating_add(length)..) {
        let _ = copy::from_user(core::slice::from_mut(byte), at);
    }
    (before, after)
}

impl Screen {
    /// Whether an instruction that the kernel stands in for has a byte in `[start, end)`.
    pub fn stands_in(&self, start: u64, end: u64) -> bool {
        self.stand_ins_in(start, end).next().is_some()
    }

    fn stand_ins_in(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, &StandIn)> {
        let first = start.saturating_sub(LONGEST);
        let sites = self.stand_ins.range(first..end.max(first)).map(|(at, site)| (*at, site));
        sites.filter(move |(at, site)| site.end(*at) > start)
    }

    /// The special pages of the host, which it maps executable by itself.
    pub fn note_special(&mut self, start: u64, end: u64) {
        if keys::on() {
            self.opened.insert(start, end);
        }
    }

    /// Whether what [`Self::note_special`] was told of may be executable. Of the calling process; looked at once.
    pub fn special_is_clean(&self) -> bool {
        static LOOKED: AtomicBool = AtomicBool::new(false);
        if LOOKED.swap(true, Ordering::Relaxed) {
            return true;
        }
        self.opened.within(0, u64::MAX).into_iter().all(|(start, end)| {
            let mut code = alloc::vec![0; (end - start) as usize];
            copy::from_user(&mut code, start).is_ok() && find::occurrences(&code).next().is_none()
        })
    }

    /// The memory in `[start, end)` is gone.
    pub fn forget(&mut self, start: u64, end: u64) {
        if !keys::on() {
            return;
        }
        self.opened.remove(start, end);
        self.running.lock().remove(start, end);
        self.own.remove(start, end);
        let heads: Vec<u64> = self.stand_ins_in(start, end).map(|(at, _)| at).collect();
        self.stand_ins.retain(|at, _| !heads.contains(at));
        self.forget_refused(start, end);
    }

    fn forget_refused(&mut self, start: u64, end: u64) {
        let pages: Vec<u64> = self.refused.range(start..end.max(start)).map(|(page, _)| *page).collect();
        self.refused.retain(|page, _| !pages.contains(page));
    }

    /// A forked child has zeros in `[start, end)`.
    pub fn wiped(&mut self, start: u64, end: u64) {
        let heads: Vec<u64> = self.stand_ins_in(start, end).map(|(at, _)| at).collect();
        self.stand_ins.retain(|at, _| !heads.contains(at));
    }

    /// It describes another address space from now on, which has this.
    pub fn belongs_to(&mut self, running: &Running) {
        let mut own = self.running.lock();
        *running.lock() = core::mem::take(&mut own);
        drop(own);
        self.running = running.clone();
    }

    /// Only what is in these ranges, which are in order, remains.
    pub fn retain(&mut self, kept: &[(u64, u64)]) {
        if !keys::on() {
            return;
        }
        // The arenas are gone.
        self.moved.clear();
        let mut at = 0;
        for &(start, end) in kept {
            self.forget(at, start);
            at = end;
        }
        self.forget(at, u64::MAX);
    }

    /// Pages were moved, after they were closed.
    pub fn shift(&mut self, start: u64, length: u64, to: u64) {
        if keys::on() {
            self.own.shift(start, length, to);
        }
    }

    /// As [`Self::shift`], and the old place stays.
    pub fn share(&mut self, start: u64, length: u64, to: u64) {
        let parts = self.own.within(start, start.saturating_add(length));
        self.own.remove(to, to.saturating_add(length));
        parts.into_iter().for_each(|(from, end)| self.own.insert(from - start + to, end - start + to));
    }

    /// Puts the instructions into what was read at `start` for which there are breakpoints.
    pub fn show_original_code(&self, start: u64, bytes: &mut [u8]) {
        for (head, site) in self.stand_ins_in(start, start.saturating_add(bytes.len() as u64)) {
            for (at, original) in (head..).zip(site.bytes()) {
                if let Some(byte) = at.checked_sub(start).and_then(|offset| bytes.get_mut(offset as usize)) {
                    *byte = *original;
                }
            }
        }
    }
}

impl Inner {
    /// Takes `PROT_EXEC` in `[start, end)` away from the host, and puts its instructions back: what is there, or who is allowed to write to
    /// it, is about to change. As far as the host refuses, what is there stays as it was, code and record.
    pub(super) fn close_code(&mut self, start: u64, end: u64) -> crate::Result<()> {
        if !keys::on() {
            return Ok(());
        }
        let start = start & !(PAGE_SIZE - 1);
        let end = end.checked_next_multiple_of(PAGE_SIZE).unwrap_or(end);
        // Whole instructions.
        let sites = || self.screen.stand_ins_in(start, end);
        let first = sites().next().map_or(start, |(at, _)| start.min(at & !(PAGE_SIZE - 1)));
        let last = sites().last().map_or(end, |(at, site)| end.max(site.end(at).next_multiple_of(PAGE_SIZE)));
        for (start, end) in self.screen.opened.within(first, last) {
            self.put_back(start, end)?;
            for (start, end, prot) in self.protections(start, end) {
                host::pkey_mprotect(start, end - start, host_bits(prot), keys::PROGRAM)?;
                self.screen.opened.remove(start, end);
            }
        }
        let mut running = self.screen.running.lock();
        for (start, end) in running.within(start, end) {
            for (start, end, prot) in self.protections(start, end) {
                host::pkey_mprotect(start, end - start, host_bits(prot), keys::PROGRAM)?;
                running.remove(start, end);
            }
        }
        drop(running);
        self.screen.forget_refused(start, end);
        Ok(())
    }

    fn protections(&self, start: u64, end: u64) -> Vec<(u64, u64, Prot)> {
        let areas = self.map.overlapping(start, end);
        areas.map(|(first, area)| (first.max(start), area.end.min(end), area.prot)).collect()
    }

    /// Puts the instructions of opened pages back, which are not executable any more then.
    fn put_back(&mut self, start: u64, end: u64) -> crate::Result<()> {
        let sites: Vec<(u64, StandIn)> =
            self.screen.stand_ins_in(start, end).map(|(at, site)| (at, *site)).collect();
        for (at, site) in sites {
            let page = at & !(PAGE_SIZE - 1);
            let length = site.end(at).next_multiple_of(PAGE_SIZE) - page;
            host_map::check(page, length)?;
            host::pkey_mprotect(page, length, host::PROT_READ | host::PROT_WRITE, keys::CODE)?;
            copy::to_user(at, site.bytes())?;
            self.screen.stand_ins.remove(&at);
        }
        Ok(())
    }

    /// The content of `[start, end)` is about to be thrown away: what a private mapping of a file has instead of the file's pages is
    /// mapped anew, so that the file's content shows again.
    pub(super) fn drop_code(&mut self, start: u64, end: u64) -> crate::Result<()> {
        self.close_code(start, end)?;
        for (start, end) in self.screen.own.within(start, end) {
            let parts: Vec<(u64, Area)> = self
                .map
                .overlapping(start, end)
                .map(|(first, area)| {
                    let from = first.max(start);
                    (from, Area { end: area.end.min(end), ..area.tail(first, from) })
                })
                .collect();
            for (from, part) in parts {
                let Ok(beyond) = host_map::area(from, &part, 0) else { continue };
                beyond.into_iter().for_each(|(start, end)| self.beyond.insert(start, end));
                self.screen.own.remove(from, part.end);
            }
        }
        Ok(())
    }
}

impl AddressSpace {
    /// The instruction at `address` that the kernel has to do, for a thread that ran into the breakpoint there.
    pub fn stand_in_at(&self, address: u64) -> Option<StandIn> {
        if !keys::on() {
            return None;
        }
        self.inner.read().screen.stand_ins.get(&address).copied()
    }

    /// Makes pages of writable areas in `[address, address + length)` writable that are executable now, or were searched just now. Whether
    /// a copy may succeed.
    pub fn make_writable(&self, address: u64, length: u64) -> bool {
        let first = address & !(PAGE_SIZE - 1);
        let Some(last) = address.checked_add(length).and_then(|end| end.checked_next_multiple_of(PAGE_SIZE))
        else {
            return false;
        };
        // Not while a page is searched, which holds this.
        let mut running = self.running.lock();
        for (start, end) in running.within(first, last) {
            if host::pkey_mprotect(start, end - start, host::PROT_READ | host::PROT_WRITE, keys::PROGRAM)
                .is_ok()
            {
                running.remove(start, end);
            }
        }
        true
    }
}
