//! A set of addresses as disjoint ranges.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Disjoint ranges `[start, end)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    /// The range that contains `address`.
    pub fn find(&self, address: u64) -> Option<(u64, u64)> {
        let (&start, &end) = self.0.range(..=address).next_back()?;
        (end > address).then_some((start, end))
    }

    /// The parts of `[start, end)` in the set.
    pub fn within(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let first = self.find(start).map_or(start, |(first, _)| first);
        let ranges = self.0.range(first..end.max(first));
        ranges.map(|(&from, &to)| (from.max(start), to.min(end))).collect()
    }

    /// Adds `[start, end)`.
    pub fn insert(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        self.remove(start, end);
        if let Some((&first, &last)) = self.0.range(..start).next_back()
            && last == start
        {
            self.0.remove(&first);
            start = first;
        }
        if let Some(last) = self.0.remove(&end) {
            end = last;
        }
        self.0.insert(start, end);
    }

    /// Takes `[start, end)` out.
    pub fn remove(&mut self, start: u64, end: u64) {
        if self.0.is_empty() {
            return;
        }
        for (from, to) in self.within(start, end) {
            let Some((first, last)) = self.find(from) else { continue };
            self.0.remove(&first);
            if first < from {
                self.0.insert(first, from);
            }
            if to < last {
                self.0.insert(to, last);
            }
        }
    }

    /// Moves what is in `[start, start + length)` to `to`; what was there before is gone.
    pub fn shift(&mut self, start: u64, length: u64, to: u64) {
        let parts = self.within(start, start.saturating_add(length));
        self.remove(start, start.saturating_add(length));
        self.remove(to, to.saturating_add(length));
        for (from, end) in parts {
            self.insert(from.wrapping_sub(start).wrapping_add(to), end.wrapping_sub(start).wrapping_add(to));
        }
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
