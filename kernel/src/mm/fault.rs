//! What a fault of the program means.

use super::area::{Area, AreaFlags, Content, Prot};
use super::area_map::STACK_GUARD;
use super::screen::{Kind, Opening};
use super::space::{AddressSpace, Inner, Limits};
use super::{Backing, host_map};
use crate::task;
use alloc::vec::Vec;
use boundary::layout::PAGE_SIZE;
use core::sync::atomic::Ordering;
use trap_handler::{keys, region};

/// Bytes of the longest instruction.
const LONGEST: u64 = 15;

const SIGBUS: i32 = 7;
const SIGSEGV: i32 = 11;
/// Address not mapped.
const SEGV_MAPERR: i32 = 1;
/// Access not allowed.
const SEGV_ACCERR: i32 = 2;
/// Behind the end of a file.
const BUS_ADRERR: i32 = 2;

/// A memory fault as the host reported it.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// `SIGSEGV` or `SIGBUS`.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub address: u64,
    /// The processor's error code for a page fault.
    pub error: u64,
    /// Where the program was.
    pub rip: u64,
}

/// Bits of [`Fault::error`] (Intel SDM volume 3, 5.7).
const ERROR_WRITE: u64 = 1 << 1;
const ERROR_FETCH: u64 = 1 << 4;

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultOutcome {
    /// The access will work now: go back to the instruction.
    Retry,
    /// The program gets this signal.
    Signal {
        /// Number.
        signal: i32,
        /// `si_code`.
        code: i32,
    },
}

/// A file that is mapped was made shorter: the call that did it has the pages taken away ([`AddressSpace::cut_behind_ends`]) in
/// every process once it holds no lock.
pub fn note_cut_file() {
    // Without processes there is no thread block to ask either.
    if let Some(task) = task::table().and_then(|_| task::current_if_any()) {
        task.cut_a_mapped_file.store(true, Ordering::SeqCst);
    }
}

impl AddressSpace {
    /// What a fault means: pages of a file that came into being since it was mapped are mapped now, areas that grow
    /// downwards grow, anything else is the program's signal. For the calling process.
    pub fn resolve_fault(&self, fault: Fault, limits: &Limits) -> FaultOutcome {
        let Fault { signal, code, address, .. } = fault;
        let page = address & !(PAGE_SIZE - 1);
        if keys::on()
            && (signal, code) == (SIGSEGV, SEGV_ACCERR)
            && region::is_user(page, PAGE_SIZE)
            && let Some(outcome) = self.resolve_closed(page, fault)
        {
            return outcome;
        }
        match (signal, code) {
            (SIGBUS, BUS_ADRERR) if self.extend_file(page) => FaultOutcome::Retry,
            // Where the kernel lies there is nothing, for the program.
            (SIGSEGV, SEGV_ACCERR) if !region::is_user(page, PAGE_SIZE) => {
                FaultOutcome::Signal { signal, code: SEGV_MAPERR }
            }
            (SIGSEGV, SEGV_MAPERR) if self.inner.write().grow_down(page, limits) => FaultOutcome::Retry,
            _ => FaultOutcome::Signal { signal, code },
        }
    }

    /// What a fault means that the guard may be the reason of: the page is executable, or writable, where the area allows both.
    fn resolve_closed(&self, page: u64, fault: Fault) -> Option<FaultOutcome> {
        let prot = {
            let inner = self.inner.read();
            let (_, area) = inner.map.find(page)?;
            area.prot
        };
        if fault.error & ERROR_FETCH != 0 && prot.contains(Prot::EXEC) {
            let behind_end = || self.inner.read().beyond.find(page).is_some();
            if behind_end() && !self.extend_file(page) {
                return Some(FaultOutcome::Signal { signal: SIGBUS, code: BUS_ADRERR });
            }
            let opening = self.inner.write().open_code(page);
            return match opening {
                Opening::Opened => Some(FaultOutcome::Retry),
                Opening::Nothing => Some(FaultOutcome::Signal { signal: SIGBUS, code: BUS_ADRERR }),
                Opening::Refused(kind) => {
                    self.tell_refused(page, kind);
                    None
                }
                Opening::RefusedAgain | Opening::Failed => None,
            };
        }
        if fault.error & ERROR_WRITE != 0 && prot.contains(Prot::WRITE | Prot::EXEC) {
            // Not both at once, which it would go on asking for.
            if (fault.rip..fault.rip.saturating_add(LONGEST)).any(|at| at & !(PAGE_SIZE - 1) == page) {
                crate::error!(
                    "kernel guard: the code at {:#x} writes to its own page, which is not possible; run with --kernel-guard=off",
                    fault.rip
                );
                return None;
            }
            self.make_writable(page, 1);
            return Some(FaultOutcome::Retry);
        }
        None
    }

    fn tell_refused(&self, page: u64, kind: Kind) {
        let path = {
            let inner = self.inner.read();
            inner.map.find(page).and_then(|(_, area)| match &area.content {
                Content::File(file, _) => Some(file.describe().2),
                _ => None,
            })
        };
        let path = path.filter(|path| !path.is_empty()).unwrap_or_else(|| b"memory".to_vec());
        crate::error!(
            "kernel guard: the page at {page:#x} of {} holds the bytes of {} and is not executed; run with --kernel-guard=off",
            alloc::string::String::from_utf8_lossy(&path),
            kind.name()
        );
    }

    /// Takes away the pages that are behind the end of a file now that files may have become shorter (truncate(2)), also those
    /// that a private mapping had copied. For the calling process.
    pub fn cut_behind_ends(&self) {
        let mut inner = self.inner.write();
        let cut: Vec<_> = inner.behind_ends().collect();
        for (from, part) in cut {
            let gone = [Backing::BeyondEnd { length: part.end - from }];
            // Should the host refuse, the pages stay: the program reads what was cut off.
            if host_map::file(from, &part, &gone, 0).is_ok() {
                inner.screen.forget(from, part.end);
                inner.beyond.insert(from, part.end);
            }
        }
    }

    /// Whether there is something for [`Self::cut_behind_ends`] to take away. For any process.
    pub fn reaches_behind_ends(&self) -> bool {
        self.inner.read().behind_ends().next().is_some()
    }

    /// Maps what a file has come to hold at a page that was behind its end.
    fn extend_file(&self, page: u64) -> bool {
        let mut inner = self.inner.write();
        let Some((from, to)) = inner.beyond.find(page) else { return false };
        let Some((start, area)) = inner.map.find(page) else { return false };
        // From the page on: what is before it will say so when it is touched.
        let (from, end) = (page.max(from), to.min(area.end));
        let part = Area { end, ..area.tail(start, from) };
        let Content::File(file, offset) = &part.content else { return false };
        let Ok(pieces) = host_map::pieces(&**file, *offset, end - from, &part) else { return false };
        let Ok(beyond) = host_map::file(from, &part, &pieces, 0) else { return false };
        inner.beyond.remove(from, end);
        for (start, end) in beyond {
            inner.beyond.insert(start, end);
        }
        inner.beyond.find(page).is_none()
    }
}

impl Inner {
    /// The parts of areas that are behind the end of their file and are not known to be.
    fn behind_ends(&self) -> impl Iterator<Item = (u64, Area)> {
        self.map.iter().filter_map(|(start, area)| {
            let Content::File(file, offset) = &area.content else { return None };
            let kept = file.end()?.checked_next_multiple_of(PAGE_SIZE)?.saturating_sub(*offset);
            let from = start.saturating_add(kept);
            let known = self.beyond.find(from).is_some_and(|(_, to)| to >= area.end);
            (from < area.end && !known).then(|| (from, area.tail(start, from)))
        })
    }

    /// Grows the area above `page` down to it if it is of that kind and there is room (Linux's `expand_downwards`).
    fn grow_down(&mut self, page: u64, limits: &Limits) -> bool {
        // Another thread may have grown it since.
        if let Some((_, area)) = self.map.find(page) {
            return area.flags.contains(AreaFlags::GROWS_DOWN) && !area.prot.is_empty();
        }
        let Some((start, area)) = self.map.next(page) else { return false };
        if !area.flags.contains(AreaFlags::GROWS_DOWN) {
            return false;
        }
        let more = start - page;
        let far = area.end - page > limits.stack || !self.may_expand(limits, false, more);
        let below = page.saturating_sub(STACK_GUARD);
        let crowded = self
            .map
            .overlapping(below, page)
            .any(|(_, area)| !area.flags.contains(AreaFlags::GROWS_DOWN) && !area.prot.is_empty());
        if far || crowded || !region::is_user(below, start - below) {
            return false;
        }
        let area = Area { end: start, ..area.clone() };
        if host_map::area(page, &area, 0).is_err() {
            return false;
        }
        self.map.insert(page, area);
        true
    }
}
