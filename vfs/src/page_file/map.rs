//! Which page frames hold which pages of a file. Pure bookkeeping: no memory is touched here.
//!
//! Frames come in runs of a power of two. A run's mask says which of its pages hold data; the others are holes whose frames
//! may hold anything. In long runs one bit stands for several pages (a granule), so a mask is one word.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use kernel::frames::{MAX_ORDER, Run};

/// Bits of a mask.
const BITS: u32 = 64;

/// A run of frames in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The frames.
    pub run: Run,
    /// Granules that hold data, the first in the lowest bit.
    mask: u64,
}

impl Extent {
    fn granule(&self) -> u64 {
        1 << self.run.order.saturating_sub(BITS.ilog2())
    }

    fn all(&self) -> u64 {
        let granules = self.run.pages() / self.granule();
        if granules >= u64::from(BITS) { u64::MAX } else { (1 << granules) - 1 }
    }

    /// Pages that count as used.
    fn used(&self) -> u64 {
        u64::from(self.mask.count_ones()) * self.granule()
    }
}

/// What a page of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Data: the frame of the page, and how many pages from there on hold data in frames that follow each other.
    Data {
        /// Frame.
        frame: u64,
        /// At least 1.
        pages: u64,
    },
    /// No data, for so many pages at least.
    Hole {
        /// At least 1.
        pages: u64,
    },
}

/// The frames of a file.
#[derive(Debug, Default)]
pub struct PageMap {
    /// By first page; they do not overlap.
    extents: BTreeMap<u64, Extent>,
    used: u64,
}

impl PageMap {
    /// Pages that hold data.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The run that covers a page, and its first page.
    pub fn extent(&self, page: u64) -> Option<(u64, Extent)> {
        let (&start, &extent) = self.extents.range(..=page).next_back()?;
        (page - start < extent.run.pages()).then_some((start, extent))
    }

    fn next_extent(&self, page: u64) -> u64 {
        self.extents.range(page..).next().map_or(u64::MAX, |(&start, _)| start)
    }

    /// What a page is.
    pub fn place(&self, page: u64) -> Place {
        let Some((start, extent)) = self.extent(page) else {
            return Place::Hole { pages: self.next_extent(page) - page };
        };
        let within = page - start;
        let granule = extent.granule();
        let index = within / granule;
        let rest = extent.mask >> index;
        let data = rest & 1 != 0;
        let same = if data { (!rest).trailing_zeros() } else { rest.trailing_zeros() };
        let end = ((index + u64::from(same)) * granule).min(extent.run.pages());
        let pages = end - within;
        if data { Place::Data { frame: extent.run.first + within, pages } } else { Place::Hole { pages } }
    }

    /// How long a run to take for `page`, which no run covers, when `wanted` pages are to be filled from there on. A file that
    /// grows gets longer and longer runs, and holds a quarter more than it needs at most.
    pub fn order_for(&self, page: u64, wanted: u64) -> u32 {
        let gap = self.next_extent(page) - page;
        let grows = page > 0 && self.extent(page - 1).is_some();
        let ahead = if grows { self.used / 4 } else { 0 };
        wanted.max(ahead).min(gap).max(1).ilog2().min(MAX_ORDER)
    }

    /// Adds a run whose pages hold no data yet. No run may cover its pages.
    pub fn add(&mut self, page: u64, run: Run) {
        self.extents.insert(page, Extent { run, mask: 0 });
    }

    /// The granules of `[first, end)` in the run at `start`, as a mask: those that are touched, or only those that lie inside.
    fn granules(start: u64, extent: &Extent, first: u64, end: u64, inside: bool) -> u64 {
        let granule = extent.granule();
        let (first, end) = (first.max(start) - start, end.min(start + extent.run.pages()).max(start) - start);
        let (from, to) = if inside {
            (first.div_ceil(granule), end / granule)
        } else {
            (first / granule, end.div_ceil(granule))
        };
        if from >= to {
            return 0;
        }
        Self::below(to) & !Self::below(from) & extent.all()
    }

    /// The bits below `index`.
    fn below(index: u64) -> u64 {
        if index >= u64::from(BITS) { u64::MAX } else { (1 << index) - 1 }
    }

    /// The pages `[start, end)` of the granule that a page is in.
    pub fn granule(&self, page: u64) -> (u64, u64) {
        let Some((start, extent)) = self.extent(page) else { return (page, page + 1) };
        let granule = extent.granule();
        let first = start + (page - start) / granule * granule;
        (first, first + granule)
    }

    /// How many pages would come to hold data if the range was filled, as far as runs are there.
    pub fn missing(&self, first: u64, end: u64) -> u64 {
        let Some((start, extent)) = self.extent(first) else { return 0 };
        let touched = Self::granules(start, &extent, first, end, false);
        u64::from((touched & !extent.mask).count_ones()) * extent.granule()
    }

    /// Notes that a range, within one run, holds data.
    pub fn fill(&mut self, first: u64, end: u64) {
        let Some((start, _)) = self.extent(first) else { return };
        let Some(extent) = self.extents.get_mut(&start) else { return };
        let before = extent.used();
        extent.mask |= Self::granules(start, extent, first, end, false);
        self.used += extent.used() - before;
    }

    /// Notes that whole granules in `[first, end)` hold no data any more. Gives the runs that hold none at all and are out of
    /// the map, and the frames (first, count) that were emptied in runs that stay.
    pub fn clear(&mut self, first: u64, end: u64) -> (Vec<Run>, Vec<(u64, u64)>) {
        let begin = self.extent(first).map_or(first, |(start, _)| start);
        let starts: Vec<u64> = self.extents.range(begin..end.max(begin)).map(|(&start, _)| start).collect();
        let (mut gone, mut emptied) = (Vec::new(), Vec::new());
        for start in starts {
            let Some(extent) = self.extents.get_mut(&start) else { continue };
            let before = extent.used();
            let cleared = Self::granules(start, extent, first, end, true) & extent.mask;
            extent.mask &= !cleared;
            self.used -= before - extent.used();
            if extent.mask == 0 {
                gone.push(extent.run);
                self.extents.remove(&start);
            } else if cleared != 0 {
                let granule = extent.granule();
                let (low, high) = (u64::from(cleared.trailing_zeros()), u64::from(cleared.ilog2()) + 1);
                if extent.mask & (Self::below(high) & !Self::below(low)) == 0 {
                    emptied.push((extent.run.first + low * granule, (high - low) * granule));
                }
            }
        }
        (gone, emptied)
    }

    /// Takes out the run that covers a page if none of its pages holds data.
    pub fn take_empty(&mut self, page: u64) -> Option<Run> {
        let (start, extent) = self.extent(page)?;
        if extent.mask != 0 {
            return None;
        }
        self.extents.remove(&start).map(|extent| extent.run)
    }

    /// The first page from `page` on that holds data.
    pub fn next_data(&self, page: u64) -> Option<u64> {
        let mut at = page;
        loop {
            match self.place(at) {
                Place::Data { .. } => return Some(at),
                Place::Hole { pages } => at = at.checked_add(pages).filter(|&at| at != u64::MAX)?,
            }
        }
    }

    /// The first page from `page` on that holds none.
    pub fn next_hole(&self, page: u64) -> u64 {
        let mut at = page;
        while let Place::Data { pages, .. } = self.place(at) {
            at += pages;
        }
        at
    }

    /// Takes everything out.
    pub fn take_all(&mut self) -> impl Iterator<Item = Run> + use<> {
        self.used = 0;
        core::mem::take(&mut self.extents).into_values().map(|extent| extent.run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, order: u32) -> Run {
        Run { first, order }
    }

    #[test]
    fn pages_are_found_in_their_runs_and_holes_between_them() {
        let mut map = PageMap::default();
        map.add(4, run(100, 2));
        assert_eq!(map.place(0), Place::Hole { pages: 4 });
        assert_eq!(map.place(5), Place::Hole { pages: 3 });
        map.fill(5, 7);
        assert_eq!(map.place(5), Place::Data { frame: 101, pages: 2 });
        assert_eq!(map.place(4), Place::Hole { pages: 1 });
        assert_eq!((map.next_data(0), map.next_hole(5), map.next_data(7)), (Some(5), 7, None));
        assert_eq!(map.used(), 2);
    }

    #[test]
    fn runs_grow_with_the_file_but_not_into_each_other() {
        let mut map = PageMap::default();
        assert_eq!(map.order_for(0, 1), 0);
        assert_eq!(map.order_for(0, 5), 2);
        assert_eq!(map.order_for(0, 1 << 20), MAX_ORDER);
        map.add(0, run(0, 6));
        map.fill(0, 64);
        assert_eq!(map.order_for(64, 1), 4);
        assert_eq!(map.order_for(1000, 1), 0);
        map.add(67, run(500, 0));
        assert_eq!(map.order_for(64, 100), 1);
    }

    #[test]
    fn a_run_goes_when_its_last_page_does() {
        let mut map = PageMap::default();
        map.add(0, run(10, 1));
        map.fill(0, 2);
        assert_eq!(map.clear(0, 1), (Vec::new(), [(10, 1)].into()));
        assert_eq!(map.place(0), Place::Hole { pages: 1 });
        assert_eq!(map.clear(1, u64::MAX), ([run(10, 1)].into(), Vec::new()));
        assert_eq!(map.used(), 0);
        assert_eq!(map.place(0), Place::Hole { pages: u64::MAX });
    }

    #[test]
    fn long_runs_keep_account_by_granules() {
        let mut map = PageMap::default();
        map.add(0, run(0, 9));
        assert_eq!(map.granule(9), (8, 16));
        assert_eq!(map.missing(7, 9), 16);
        map.fill(0, 512);
        assert_eq!(map.used(), 512);
        assert_eq!(map.clear(1, 15), (Vec::new(), Vec::new()));
        assert_eq!(map.clear(1, 17), (Vec::new(), [(8, 8)].into()));
        assert_eq!(map.place(0), Place::Data { frame: 0, pages: 8 });
        assert_eq!(map.place(8), Place::Hole { pages: 8 });
        assert_eq!(map.used(), 504);
    }

    #[test]
    fn random_changes_agree_with_a_plain_array() {
        let mut map = PageMap::default();
        let mut model = [false; 256];
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for round in 0..4000 {
            let first = random(256);
            let end = (first + 1 + random(32)).min(256);
            if round % 3 == 0 {
                map.clear(first, end);
                (first..end).for_each(|page| model[page as usize] = false);
            } else {
                let mut page = first;
                while page < end {
                    let (start, extent) = match map.extent(page) {
                        Some(found) => found,
                        None => {
                            let order = map.order_for(page, end - page);
                            map.add(page, run(10_000 + page, order));
                            map.extent(page).expect("just added")
                        }
                    };
                    let until = end.min(start + extent.run.pages());
                    map.fill(page, until);
                    (page..until).for_each(|page| model[page as usize] = true);
                    page = until;
                }
            }
            for page in 0..256 {
                assert_eq!(
                    matches!(map.place(page), Place::Data { .. }),
                    model[page as usize],
                    "page {page}"
                );
            }
            assert_eq!(map.used(), model.iter().filter(|&&data| data).count() as u64);
        }
    }
}
