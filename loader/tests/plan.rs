//! Mappings as `elf_load` makes them.

mod common;
use common::*;
use loader::plan::plan;
use loader::{Limits, Prot, Step, Window, choose_bias, choose_brk, parse};

const READ: Prot = Prot::READ;
const RW_PROT: Prot = Prot::READ.union(Prot::WRITE);

#[test]
fn data_and_bss_become_file_pages_a_zeroed_tail_and_anonymous_pages() {
    let file = elf(
        EXEC,
        0x400080,
        &[load(R, 0, 0x400000, 0x800, 0x800), load(RW, 0x1f10, 0x402f10, 0x200, 0x3000)],
        0x3000,
    );
    let p = plan(&parse(&file).unwrap(), 0, &limits()).unwrap();
    assert_eq!(
        p.steps,
        [
            Step::MapFile { addr: 0x400000, len: 0x1000, offset: 0, prot: READ },
            Step::MapFile { addr: 0x402000, len: 0x2000, offset: 0x1000, prot: RW_PROT },
            Step::ZeroTail { addr: 0x403110, len: 0xef0 },
            Step::MapAnonymous { addr: 0x404000, len: 0x2000, prot: RW_PROT },
        ]
    );
    assert_eq!((p.range, p.brk, p.entry), (0x400000..0x406000, 0x406000, 0x400080));
    assert_eq!((p.code, p.data), (0..0, 0x402f10..0x403110));
}

#[test]
fn a_tail_is_zeroed_only_in_writable_segments_and_bss_is_writable_in_all() {
    let file = elf(EXEC, 0x400000, &[load(RX, 0, 0x400000, 0x10, 0x1010)], 0x3000);
    assert_eq!(
        plan(&parse(&file).unwrap(), 0, &limits()).unwrap().steps,
        [
            Step::MapFile { addr: 0x400000, len: 0x1000, offset: 0, prot: READ | Prot::EXEC },
            Step::MapAnonymous { addr: 0x401000, len: 0x1000, prot: RW_PROT | Prot::EXEC },
        ]
    );
}

#[test]
fn a_segment_without_file_bytes_is_anonymous() {
    let file = elf(EXEC, 0x400000, &[load(RW, 0, 0x400123, 0, 0x1000), load(R, 0, 0x500000, 0, 0)], 0);
    let p = plan(&parse(&file).unwrap(), 0, &limits()).unwrap();
    assert_eq!(p.steps, [Step::MapAnonymous { addr: 0x400000, len: 0x2000, prot: RW_PROT }]);
}

#[test]
fn a_truncated_file_is_mapped_but_its_missing_page_cannot_be_zeroed() {
    let far = |flags, memsz| elf(EXEC, 0x400000, &[load(flags, 0x5000, 0x400000, 0x10, memsz)], 0x1000);
    assert!(plan(&parse(&far(RW, 0x10)).unwrap(), 0, &limits()).is_ok());
    assert!(plan(&parse(&far(R, 0x20)).unwrap(), 0, &limits()).is_ok());
    assert_eq!(answer(plan(&parse(&far(RW, 0x20)).unwrap(), 0, &limits())), (14, true));
}

#[test]
fn overlapping_segments_are_mapped_one_over_the_other() {
    let file = elf(
        EXEC,
        0x400000,
        &[load(R, 0, 0x400000, 0x2000, 0x2000), load(RW, 0x1000, 0x401000, 0x1000, 0x1000)],
        0x2000,
    );
    assert_eq!(plan(&parse(&file).unwrap(), 0, &limits()).unwrap().steps.len(), 2);
}

#[test]
fn addresses_outside_of_the_limits_are_refused() {
    let at = |vaddr| {
        let file = elf(EXEC, vaddr, &[load(R, 0, vaddr, 0x10, 0x10)], 0x1000);
        plan(&parse(&file).unwrap(), 0, &limits())
    };
    assert_eq!(answer(at(0)), (1, true));
    assert_eq!(answer(at(0x2000_0000_0000)), (17, true));
    assert_eq!(answer(at(0x207f_ffff_f000)), (17, true));
    assert!(at(0x1fff_ffff_f000).is_ok() && at(0x2080_0000_0000).is_ok());
    let file = elf(DYN, 0, &[load(R, 0, 0, 0x10, 0x10)], 0x1000);
    let program = parse(&file).unwrap();
    for bias in [0x7fff_ffff_f000, !0xfff] {
        assert!(plan(&program, bias, &limits()).unwrap_err().fatal);
    }
    assert_eq!(answer(plan(&program, 0x10_0800, &limits())), (22, true));
}

#[test]
fn an_entry_point_outside_of_the_address_space_matters_only_without_an_interpreter() {
    let wild = u64::MAX;
    let file = elf(EXEC, wild, &[load(R, 0, 0x400000, 0x10, 0x10)], 0x1000);
    assert_eq!(answer(plan(&parse(&file).unwrap(), 0, &limits())), (22, true));
    let file =
        put(elf(EXEC, wild, &[load(R, 0, 0x400000, 0x10, 0x10), interp(0x200, 3)], 0x1000), 0x200, b"/l");
    assert!(plan(&parse(&file).unwrap(), 0, &limits()).is_ok());
}

#[test]
fn an_unrandomised_pie_lies_where_linux_puts_it() {
    let file = elf(DYN, 0x80, &[load(RX, 0, 0, 0x1000, 0x1000)], 0x1000);
    let window = Window { random_span: 0, ..Window::PIE };
    assert_eq!(choose_bias(&parse(&file).unwrap(), 7, window, &limits()).unwrap(), 0x5555_5555_4000);
}

#[test]
fn a_biased_program_starts_at_an_aligned_place() {
    for vaddr in [0, 0x20_1000] {
        let ph = Ph { align: 0x20_0000, ..load(RX, 0, vaddr, 0x1000, 0x1000) };
        let program = parse(&elf(DYN, vaddr, &[ph], 0x1000)).unwrap();
        for random in [0, 1, 12345678, u64::MAX / 3, u64::MAX] {
            let bias = choose_bias(&program, random, Window::PIE, &limits()).unwrap();
            assert_eq!(bias.wrapping_add(vaddr) % 0x20_0000, 0);
            assert!(plan(&program, bias, &limits()).is_ok());
        }
    }
}

#[test]
fn a_fixed_program_has_no_bias_and_a_giant_one_no_place() {
    let fixed = parse(&elf(EXEC, 0x400000, &[load(R, 0, 0x400000, 9, 9)], 0)).unwrap();
    assert_eq!(choose_bias(&fixed, 77, Window::PIE, &limits()).unwrap(), 0);
    let giant = parse(&elf(DYN, 0, &[load(RW, 0, 0, 0, 0x7000_0000_0000)], 0)).unwrap();
    assert_eq!(answer(choose_bias(&giant, 77, Window::PIE, &limits())), (12, true));
    let ph = Ph { align: 1 << 63, ..load(R, 0, 0, 9, 9) };
    let aligned = parse(&elf(DYN, 0, &[ph], 0)).unwrap();
    assert_eq!(answer(choose_bias(&aligned, 77, Window::PIE, &limits())), (1, true));
}

#[test]
fn the_kernel_image_fits_its_place_or_is_refused() {
    let base = 0x2000_0000_0000;
    let place = Limits { start: base, end: base + (64 << 20), reserved: 0..0 };
    let image = |memsz| parse(&elf(DYN, 0x40, &[load(RW, 0, 0, 0x1000, memsz)], 0x1000)).unwrap();
    assert_eq!(plan(&image(0x3000), base, &place).unwrap().entry, base + 0x40);
    assert!(plan(&image((64 << 20) + 1), base, &place).is_err());
}

#[test]
fn the_heap_starts_behind_the_program_or_in_the_pie_area() {
    let fixed = parse(&elf(EXEC, 0x400000, &[load(R, 0, 0x400000, 9, 9)], 0)).unwrap();
    let place = plan(&fixed, 0, &limits()).unwrap();
    assert_eq!(choose_brk(&fixed, &place, None, &limits()), 0x401000);
    let random = choose_brk(&fixed, &place, Some(u64::MAX), &limits());
    assert_eq!(random % 4096, 0);
    assert!((0x402000..0x402000 + (1 << 30)).contains(&random));
    let bare = parse(&elf(DYN, 0, &[load(R, 0, 0, 9, 9)], 0)).unwrap();
    let place = plan(&bare, 0x7f00_0000_0000, &limits()).unwrap();
    assert_eq!(choose_brk(&bare, &place, None, &limits()), 0x5555_5555_5000);
}
