//! The area map and the range set against arrays of pages.

use super::HostFile;
use crate::mm::{Area, AreaFlags, AreaMap, Content, Mappable, Prot, RangeSet, Totals};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use boundary::layout::PAGE_SIZE;
use proptest::prelude::*;

const BASE: u64 = 0x10_0000;
const PAGES: u64 = 64;
/// Pages that nothing may be placed in.
const RESERVED: (u64, u64) = (20, 24);

fn at(page: u64) -> u64 {
    BASE + page * PAGE_SIZE
}

#[derive(Debug, Clone)]
enum Step {
    Map { first: u64, pages: u64, prot: u32, file: bool, offset: u64 },
    Unmap { first: u64, pages: u64 },
    Protect { first: u64, pages: u64, prot: u32 },
    Place { pages: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let range = (0..PAGES - 8, 1..8u64);
    prop_oneof![
        (range.clone(), 0..8u32, any::<bool>(), 0..3u64).prop_map(|((first, pages), prot, file, offset)| {
            Step::Map { first, pages, prot, file, offset: offset * PAGE_SIZE + first * PAGE_SIZE }
        }),
        range.clone().prop_map(|(first, pages)| Step::Unmap { first, pages }),
        (range, 0..8u32).prop_map(|((first, pages), prot)| Step::Protect { first, pages, prot }),
        (1..8u64).prop_map(|pages| Step::Place { pages }),
    ]
}

/// Protection and, for a file's page, its offset.
type Page = Option<(u32, Option<u64>)>;

fn highest_gap(model: &[Page], length: u64) -> Option<u64> {
    let free = |page: u64| model[page as usize].is_none() && !(RESERVED.0..RESERVED.1).contains(&page);
    (0..=PAGES - length).rev().find(|first| (*first..first + length).all(free))
}

fn lowest_gap(model: &[Page], length: u64) -> Option<u64> {
    let free = |page: u64| model[page as usize].is_none() && !(RESERVED.0..RESERVED.1).contains(&page);
    (0..=PAGES - length).find(|first| (*first..first + length).all(free))
}

fn check(map: &AreaMap, model: &[Page]) -> Result<(), TestCaseError> {
    let mut seen: Vec<Page> = vec![None; PAGES as usize];
    let mut totals = Totals::default();
    let mut before: Option<(u64, Area)> = None;
    for (start, area) in map.iter() {
        prop_assert!(start < area.end);
        if let Some((first, previous)) = &before {
            prop_assert!(previous.end <= start);
            prop_assert!(previous.end < start || !previous.joins(*first, area), "left apart at {:x}", start);
        }
        for page in (start - BASE) / PAGE_SIZE..(area.end - BASE) / PAGE_SIZE {
            let offset = match &area.content {
                Content::File(_, offset) => Some(offset + at(page) - start),
                _ => None,
            };
            seen[page as usize] = Some((area.prot.bits(), offset));
        }
        let bytes = area.end - start;
        let prot = area.prot;
        totals.total += bytes;
        totals.data += if prot.contains(Prot::WRITE) { bytes } else { 0 };
        totals.exec += if prot.contains(Prot::EXEC) && !prot.contains(Prot::WRITE) { bytes } else { 0 };
        totals.accessible += if prot.is_empty() { 0 } else { bytes };
        before = Some((start, area.clone()));
    }
    prop_assert_eq!(&seen[..], model);
    prop_assert_eq!(map.totals(), totals);
    for length in 1..9 {
        let found = map.highest_gap(BASE, at(PAGES), length * PAGE_SIZE);
        prop_assert_eq!(found, highest_gap(model, length).map(at));
        let found = map.lowest_gap(BASE, at(PAGES), length * PAGE_SIZE);
        prop_assert_eq!(found, lowest_gap(model, length).map(at));
    }
    Ok(())
}

proptest! {
    #[test]
    fn area_map_is_an_array_of_pages(steps in proptest::collection::vec(step(), 1..60)) {
        let mut map = AreaMap::new((at(RESERVED.0), at(RESERVED.1)), at(PAGES));
        let mut model: Vec<Page> = vec![None; PAGES as usize];
        let file: Arc<dyn Mappable> = Arc::new(HostFile(-1));
        for step in steps {
            match step {
                Step::Map { first, pages, prot, file: mapped, offset } => {
                    if first < RESERVED.1 && first + pages > RESERVED.0 {
                        prop_assert!(!map.is_free(at(first), at(first + pages)));
                        continue;
                    }
                    let mut area =
                        Area::anonymous(at(first + pages), Prot::from_bits_truncate(prot), AreaFlags::empty());
                    if mapped {
                        area.content = Content::File(file.clone(), offset);
                    }
                    map.remove(at(first), at(first + pages));
                    map.insert(at(first), area);
                    for page in 0..pages {
                        let offset = mapped.then_some(offset + page * PAGE_SIZE);
                        model[(first + page) as usize] = Some((prot, offset));
                    }
                }
                Step::Unmap { first, pages } => {
                    map.remove(at(first), at(first + pages));
                    model[first as usize..(first + pages) as usize].fill(None);
                }
                Step::Protect { first, pages, prot } => {
                    let change = |area: &mut Area| area.prot = Prot::from_bits_truncate(prot);
                    map.update(at(first), at(first + pages), change);
                    for page in model[first as usize..(first + pages) as usize].iter_mut().flatten() {
                        page.0 = prot;
                    }
                }
                Step::Place { pages } => {
                    let found = map.pick(BASE, pages * PAGE_SIZE);
                    prop_assert_eq!(found, highest_gap(&model, pages).map(at));
                    if let Some(start) = found {
                        let end = start + pages * PAGE_SIZE;
                        map.insert(start, Area::anonymous(end, Prot::READ, AreaFlags::empty()));
                        let first = ((start - BASE) / PAGE_SIZE) as usize;
                        model[first..first + pages as usize].fill(Some((1, None)));
                    }
                }
            }
            check(&map, &model)?;
        }
    }

    #[test]
    fn range_set_is_an_array_of_bits(
        steps in proptest::collection::vec((0..3u8, 0..60u64, 1..20u64, 0..60u64), 1..60),
    ) {
        let mut set = RangeSet::default();
        let mut model = [false; 128];
        for (kind, start, length, to) in steps {
            let range = start as usize..(start + length) as usize;
            match kind {
                0 => {
                    set.insert(start, start + length);
                    model[range].fill(true);
                }
                1 => {
                    set.remove(start, start + length);
                    model[range].fill(false);
                }
                // Only disjoint ranges are ever shifted: mremap(2) refuses others.
                _ if to >= start + length || to + length <= start => {
                    set.shift(start, length, to);
                    let moved = model[range.clone()].to_vec();
                    model[range].fill(false);
                    model[to as usize..(to + length) as usize].copy_from_slice(&moved);
                }
                _ => {}
            }
            for (address, expected) in model.iter().enumerate() {
                prop_assert_eq!(set.find(address as u64).is_some(), *expected);
            }
        }
    }
}
