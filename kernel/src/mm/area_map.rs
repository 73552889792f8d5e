//! The areas of an address space by address: insertion with merging, removal with splitting, and the search for a gap.
//! Pure bookkeeping; nothing here asks the host.

use super::area::{Area, AreaFlags};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Kept free below an area that grows downwards (Linux's `stack_guard_gap`, 256 pages).
pub const STACK_GUARD: u64 = 1 << 20;

/// Sums over all areas, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// All areas (`VmSize`).
    pub total: u64,
    /// Private and writable, without stacks (`VmData`).
    pub data: u64,
    /// Areas that grow downwards (`VmStk`).
    pub stack: u64,
    /// Executable and not writable (`VmExe` and `VmLib`).
    pub exec: u64,
    /// Locked (`VmLck`).
    pub locked: u64,
    /// Accessible at all.
    pub accessible: u64,
}

impl Totals {
    fn change(&mut self, area: &Area, start: u64, add: bool) {
        use super::area::Prot;
        let bytes = area.end.saturating_sub(start);
        let apply = |sum: &mut u64, counts: bool| {
            if counts {
                *sum = if add { sum.wrapping_add(bytes) } else { sum.wrapping_sub(bytes) };
            }
        };
        let code = area.prot.contains(Prot::EXEC) && !area.prot.contains(Prot::WRITE);
        apply(&mut self.total, true);
        apply(&mut self.data, area.is_data());
        apply(&mut self.stack, area.flags.contains(AreaFlags::GROWS_DOWN));
        apply(&mut self.exec, code);
        apply(&mut self.locked, area.flags.contains(AreaFlags::LOCKED));
        apply(&mut self.accessible, !area.prot.is_empty());
    }
}

/// The areas of one address space. They never overlap, neither each other nor the reserved ranges (the
/// kernel's region, trampolines).
pub struct AreaMap {
    areas: BTreeMap<u64, Area>,
    totals: Totals,
    /// In order.
    reserved: Vec<(u64, u64)>,
    /// Where [`Self::pick`] starts, going down.
    ceiling: u64,
    /// No gap between this address and the ceiling is larger than `largest_above`.
    searched_to: u64,
    largest_above: u64,
}

impl Clone for AreaMap {
    fn clone(&self) -> AreaMap {
        self.areas.values().for_each(|area| area.tell_file(true));
        AreaMap { areas: self.areas.clone(), reserved: self.reserved.clone(), ..*self }
    }
}

impl Drop for AreaMap {
    fn drop(&mut self) {
        self.areas.values().for_each(|area| area.tell_file(false));
    }
}

impl AreaMap {
    /// No areas; nothing will be placed in `reserved`.
    pub fn new(reserved: (u64, u64), ceiling: u64) -> AreaMap {
        AreaMap {
            areas: BTreeMap::new(),
            totals: Totals::default(),
            reserved: Vec::from([reserved]),
            ceiling,
            searched_to: ceiling,
            largest_above: 0,
        }
    }

    /// One more range in which nothing will be placed. It must be free.
    pub fn reserve(&mut self, start: u64, end: u64) {
        self.reserved.push((start, end));
        self.reserved.sort_unstable();
    }

    /// The parts of `[start, end)` that are not reserved, in order.
    pub fn outside_reserved(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut parts = Vec::new();
        let mut at = start;
        for &(first, last) in &self.reserved {
            if first < end && last > at {
                if at < first {
                    parts.push((at, first));
                }
                at = last;
            }
        }
        if at < end {
            parts.push((at, end));
        }
        parts
    }

    /// The reserved range that has an address of `[start, end)`, if there is one.
    fn reserved_within(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        self.reserved.iter().copied().find(|(first, last)| *first < end && *last > start)
    }

    /// Changes where [`Self::pick`] starts.
    pub fn set_ceiling(&mut self, ceiling: u64) {
        (self.ceiling, self.searched_to, self.largest_above) = (ceiling, ceiling, 0);
    }

    /// Where [`Self::pick`] starts.
    pub fn ceiling(&self) -> u64 {
        self.ceiling
    }

    /// Sums over all areas.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Number of areas.
    pub fn count(&self) -> usize {
        self.areas.len()
    }

    /// All areas in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &Area)> {
        self.areas.iter().map(|(start, area)| (*start, area))
    }

    /// The area that contains `address`.
    pub fn find(&self, address: u64) -> Option<(u64, &Area)> {
        let (start, area) = self.areas.range(..=address).next_back()?;
        (area.end > address).then_some((*start, area))
    }

    /// The areas that have a page in `[start, end)`, in order and whole.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, &Area)> {
        let first = self.find(start).filter(|_| start < end).map_or(start, |(first, _)| first);
        self.areas.range(first..end.max(first)).map(|(start, area)| (*start, area))
    }

    /// The first area that starts at or after `address`.
    pub fn next(&self, address: u64) -> Option<(u64, &Area)> {
        self.areas.range(address..).next().map(|(start, area)| (*start, area))
    }

    /// The last area that ends at or before `address`.
    pub fn previous(&self, address: u64) -> Option<(u64, &Area)> {
        let mut below = self.areas.range(..address).rev().map(|(start, area)| (*start, area));
        below.find(|(_, area)| area.end <= address)
    }

    /// Whether nothing is in `[start, end)`, the reserved ranges included.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.reserved_within(start, end).is_none() && self.overlapping(start, end).next().is_none()
    }

    /// As [`Self::is_free`], with the guard below an area that grows downwards.
    pub fn is_free_guarded(&self, start: u64, end: u64) -> bool {
        self.is_free(start, end) && self.next(start).is_none_or(|(next, area)| guarded(next, area) >= end)
    }

    /// The parts of `[start, end)` that areas cover, and whether they cover all of it.
    pub fn covered(&self, start: u64, end: u64) -> (Vec<(u64, u64)>, bool) {
        let mut parts = Vec::new();
        let (mut at, mut whole) = (start, true);
        for (first, area) in self.overlapping(start, end) {
            let part = (first.max(start), area.end.min(end));
            whole &= part.0 == at;
            at = part.1;
            parts.push(part);
        }
        (parts, whole && at == end)
    }

    /// Bytes in `[start, end)` that areas cover.
    pub fn covered_bytes(&self, start: u64, end: u64) -> u64 {
        self.overlapping(start, end).map(|(first, area)| area.end.min(end) - first.max(start)).sum()
    }

    fn put(&mut self, start: u64, area: Area) {
        self.totals.change(&area, start, true);
        area.tell_file(true);
        self.areas.insert(start, area);
    }

    fn take(&mut self, start: u64) -> Option<Area> {
        let area = self.areas.remove(&start)?;
        self.totals.change(&area, start, false);
        area.tell_file(false);
        Some(area)
    }

    /// Adds an area to a free range and merges it with its neighbours where they continue each other.
    pub fn insert(&mut self, mut start: u64, mut area: Area) {
        let before = self.areas.range(..start).next_back();
        if let Some((&first, previous)) = before
            && previous.end == start
            && previous.joins(first, &area)
            && let Some(previous) = self.take(first)
        {
            area = Area { end: area.end, ..previous };
            start = first;
        }
        if let Some(next) = self.areas.get(&area.end)
            && area.joins(start, next)
            && let Some(next) = self.take(area.end)
        {
            area.end = next.end;
        }
        self.put(start, area);
    }

    /// Makes the area that ends at an address and the one that starts there one, where they are parts of one mapping that grew.
    pub fn weld(&mut self, at: u64) {
        let Some((start, _)) = self.previous(at).filter(|(_, area)| area.end == at) else { return };
        if let (Some(first), Some(second)) = (self.take(start), self.take(at)) {
            self.put(start, Area { end: second.end, ..first });
        }
    }

    fn split(&mut self, at: u64) {
        let Some((start, area)) = self.find(at) else { return };
        if start == at {
            return;
        }
        let tail = area.tail(start, at);
        if let Some(mut head) = self.take(start) {
            head.end = at;
            self.put(start, head);
            self.put(at, tail);
        }
    }

    /// How many areas more there are for a while when `[start, end)` is cut out of the map.
    pub fn splits(&self, start: u64, end: u64) -> usize {
        let inside = |at: u64| self.find(at).is_some_and(|(first, _)| first < at);
        usize::from(inside(start)) + usize::from(inside(end))
    }

    /// Takes `[start, end)` out of the map, splitting areas at its ends; gives what was there.
    pub fn remove(&mut self, start: u64, end: u64) -> Vec<(u64, Area)> {
        self.split(start);
        self.split(end);
        let keys: Vec<u64> = self.areas.range(start..end.max(start)).map(|(start, _)| *start).collect();
        let mut removed = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(area) = self.take(key) {
                removed.push((key, area));
            }
        }
        if !removed.is_empty() {
            let top = self.next(end).map_or(self.ceiling, |(next, _)| next).min(self.ceiling);
            self.searched_to = self.searched_to.max(top);
        }
        removed
    }

    /// Changes the areas in `[start, end)`, splitting before and merging after.
    pub fn update(&mut self, start: u64, end: u64, mut change: impl FnMut(&mut Area)) {
        for (start, mut area) in self.remove(start, end) {
            change(&mut area);
            self.insert(start, area);
        }
        // What lies behind may now continue the last one.
        if let Some(next) = self.take(end) {
            self.insert(end, next);
        }
    }

    /// The highest place for `length` bytes in `[low, high)` outside the reserved ranges; with it, the size of the largest part
    /// above it (or of all) that was too small.
    fn fit(&self, low: u64, high: u64, length: u64) -> (Option<u64>, u64) {
        let (mut top, mut largest) = (high, 0);
        for &(first, last) in self.reserved.iter().rev() {
            if first >= top || last <= low {
                continue;
            }
            let room = top.saturating_sub(last);
            if room >= length {
                return (Some(top - length), largest);
            }
            largest = largest.max(room);
            top = first;
        }
        let room = top.saturating_sub(low);
        if room >= length { (Some(top - length), largest) } else { (None, largest.max(room)) }
    }

    /// The highest gap of `length` bytes in `[floor, ceiling)`; with it, the size of the largest gap passed over.
    fn search_down(&self, floor: u64, ceiling: u64, length: u64) -> (Option<u64>, u64) {
        let mut top = self.next(ceiling).map_or(ceiling, |(next, area)| guarded(next, area).min(ceiling));
        let mut passed = 0;
        for (&start, area) in self.areas.range(..ceiling).rev() {
            if top <= floor {
                return (None, passed);
            }
            let (found, small) = self.fit(area.end.max(floor), top, length);
            passed = passed.max(small);
            if found.is_some() {
                return (found, passed);
            }
            top = top.min(guarded(start, area));
        }
        let (found, small) = self.fit(floor, top, length);
        (found, passed.max(small))
    }

    /// The highest gap of `length` bytes in `[floor, ceiling)`.
    pub fn highest_gap(&self, floor: u64, ceiling: u64, length: u64) -> Option<u64> {
        self.search_down(floor, ceiling, length).0
    }

    /// As [`Self::highest_gap`] below the map's ceiling, without looking again at gaps known to be too small.
    pub fn pick(&mut self, floor: u64, length: u64) -> Option<u64> {
        if length <= self.largest_above {
            (self.searched_to, self.largest_above) = (self.ceiling, 0);
        }
        let (found, passed) = self.search_down(floor, self.searched_to, length);
        self.largest_above = self.largest_above.max(passed);
        if let Some(found) = found {
            self.searched_to = found.saturating_add(length);
        }
        found
    }

    /// The lowest gap of `length` bytes in `[floor, ceiling)`.
    pub fn lowest_gap(&self, floor: u64, ceiling: u64, length: u64) -> Option<u64> {
        let mut at = self.find(floor).map_or(floor, |(_, area)| area.end);
        loop {
            let end = at.checked_add(length).filter(|end| *end <= ceiling)?;
            if let Some((_, last)) = self.reserved_within(at, end) {
                at = last;
                if let Some((_, area)) = self.find(at) {
                    at = area.end;
                }
                continue;
            }
            match self.next(at) {
                Some((next, area)) if guarded(next, area) < end => at = area.end,
                _ => return Some(at),
            }
        }
    }
}

/// Where an area begins for those who look for room below it.
fn guarded(start: u64, area: &Area) -> u64 {
    if area.flags.contains(AreaFlags::GROWS_DOWN) { start.saturating_sub(STACK_GUARD) } else { start }
}
