//! What the bookkeeping says in particular cases.

use super::HostFile;
use crate::mm::{Area, AreaFlags, AreaMap, AreaReport, Content, Prot, STACK_GUARD};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

const MIB: u64 = 1 << 20;

fn map() -> AreaMap {
    AreaMap::new((0, MIB), 64 * MIB)
}

fn readable(end: u64) -> Area {
    Area::anonymous(end, Prot::READ, AreaFlags::empty())
}

#[test]
fn neighbours_of_one_kind_are_one_area() {
    let mut map = map();
    map.insert(2 * MIB, readable(3 * MIB));
    map.insert(4 * MIB, readable(5 * MIB));
    map.insert(3 * MIB, readable(4 * MIB));
    assert_eq!(map.count(), 1);
    assert_eq!(map.find(2 * MIB).map(|(start, area)| (start, area.end)), Some((2 * MIB, 5 * MIB)));
}

#[test]
fn pages_of_a_file_join_only_where_the_offset_goes_on() {
    let file = Arc::new(HostFile(-1));
    let part = |end, offset| Area { content: Content::File(file.clone(), offset), ..readable(end) };
    let mut map = map();
    map.insert(2 * MIB, part(3 * MIB, 0));
    map.insert(3 * MIB, part(4 * MIB, 2 * MIB));
    assert_eq!(map.count(), 2);
    map.remove(3 * MIB, 4 * MIB);
    map.insert(3 * MIB, part(4 * MIB, MIB));
    assert_eq!(map.count(), 1);
}

#[test]
fn nothing_is_placed_in_the_guard_of_a_stack() {
    let mut map = map();
    let stack = Area::anonymous(64 * MIB, Prot::READ | Prot::WRITE, AreaFlags::GROWS_DOWN);
    map.insert(60 * MIB, stack);
    assert_eq!(map.pick(MIB, 4096), Some(60 * MIB - STACK_GUARD - 4096));
    assert!(!map.is_free_guarded(59 * MIB, 60 * MIB));
    assert!(map.is_free_guarded(58 * MIB, 59 * MIB));
}

#[test]
fn a_gap_that_opens_above_is_found_again() {
    let mut map = map();
    for _ in 0..10 {
        let start = map.pick(MIB, MIB).unwrap();
        map.insert(start, readable(start + MIB));
    }
    assert_eq!(map.pick(MIB, MIB), Some(53 * MIB));
    map.remove(60 * MIB, 62 * MIB);
    assert_eq!(map.pick(MIB, 2 * MIB), Some(60 * MIB));
    assert_eq!(map.pick(MIB, MIB), Some(61 * MIB));
}

#[test]
fn maps_line_is_as_proc_5_has_it() {
    let report = AreaReport {
        start: 0x40_0000,
        end: 0x7fff_1234_5000,
        prot: Prot::READ | Prot::EXEC,
        may: Prot::all(),
        flags: AreaFlags::empty(),
        offset: 0x2000,
        dev: 0x10_0803,
        ino: 77,
        name: Vec::from(*b"/usr/bin/a b\nc"),
    };
    let mut text = Vec::new();
    report.write_line(&mut text);
    AreaReport { name: Vec::new(), flags: AreaFlags::SHARED, ..report }.write_line(&mut text);
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "00400000-7fff12345000 r-xp 00002000 08:103 77                            /usr/bin/a b\\012c"
    );
    assert_eq!(lines[0].find('/'), Some(73));
    assert_eq!(lines[1], "00400000-7fff12345000 r-xs 00002000 08:103 77 ");
}
