//! Headers, good and bad, and Linux's answers.

mod common;
use common::*;
use loader::{Kind, Prot, parse, parse_interpreter, section_range};

const ENOEXEC: (i32, bool) = (8, false);
const EIO: (i32, bool) = (5, false);
const EINVAL: (i32, bool) = (22, false);
const ELIBBAD: (i32, bool) = (80, false);
const EINVAL_FATAL: (i32, bool) = (22, true);

fn simple() -> Vec<u8> {
    elf(EXEC, 0x401000, &[load(RX, 0, 0x400000, 0x2000, 0x2000)], 0x2000)
}

#[test]
fn a_fixed_program_is_described_by_its_headers() {
    let p = parse(&simple()).unwrap();
    assert_eq!((p.kind, p.entry, p.phdr_vaddr, p.phent, p.phnum), (Kind::Exec, 0x401000, 0x400040, 56, 1));
    assert_eq!((p.interp, p.stack_exec, p.span, p.align), (None, false, 0x400000..0x402000, 0x1000));
    assert_eq!(p.segments[0].prot, Prot::READ | Prot::EXEC);
}

#[test]
fn class_byte_order_and_version_of_the_identification_do_not_matter() {
    for at in 4..16 {
        assert!(parse(&put(simple(), at, &[0x77])).is_ok());
    }
}

#[test]
fn what_is_no_x86_64_executable_is_enoexec() {
    let too_many = elf(EXEC, 0, &[load(R, 0, 0x400000, 1, 1); 1171], 0);
    for file in [
        vec![],
        b"abc".to_vec(),
        put(simple(), 1, b"X"),
        put(simple(), 16, &[1, 0]),
        put(simple(), 18, &[183, 0]),
        put(simple(), 54, &[32, 0]),
        put(simple(), 56, &[0, 0]),
        put(simple(), 32, &(1u64 << 40).to_le_bytes()),
        put(simple(), 32, &u64::MAX.to_le_bytes()),
        simple()[..40].to_vec(),
        simple()[..64].to_vec(),
        simple()[..119].to_vec(),
        too_many,
    ] {
        assert_eq!(answer(parse(&file)), ENOEXEC);
    }
    assert!(parse(&elf(EXEC, 0, &[load(R, 0, 0x400000, 1, 1); 1170], 0)).is_ok());
}

#[test]
fn interpreter_paths_are_bounded_terminated_and_end_at_their_first_nul() {
    let file = |filesz, path: &[u8]| put(elf(DYN, 0, &[interp(0x200, filesz)], 0x2000), 0x200, path);
    assert_eq!(parse(&file(7, b"/ld.so\0")).unwrap().interp.unwrap(), b"/ld.so");
    assert_eq!(parse(&file(9, b"/ld\0junk\0")).unwrap().interp.unwrap(), b"/ld");
    assert_eq!(parse(&file(2, b"\0\0")).unwrap().interp.unwrap(), b"");
    assert_eq!(parse(&file(4096, &[b'a'; 4095])).unwrap().interp.unwrap().len(), 4095);
    for (size, path) in [(0, &b""[..]), (1, b"\0"), (4097, b"/ld"), (u64::MAX, b"/ld"), (3, b"/ld")] {
        assert_eq!(answer(parse(&file(size, path))), ENOEXEC);
    }
    assert_eq!(answer(parse(&elf(DYN, 0, &[interp(1 << 40, 9)], 0x2000))), EIO);
    assert_eq!(answer(parse(&elf(DYN, 0, &[interp(1 << 63, 9)], 0x2000))), EINVAL);
}

#[test]
fn a_bad_interpreter_is_elibbad_and_a_short_one_eio() {
    assert!(parse_interpreter(&simple()).is_ok());
    assert_eq!(answer(parse_interpreter(&simple()[..63].to_vec())), EIO);
    for file in [
        put(simple(), 1, b"X"),
        put(simple(), 18, &[3, 0]),
        put(simple(), 54, &[32, 0]),
        simple()[..100].to_vec(),
    ] {
        assert_eq!(answer(parse_interpreter(&file)), ELIBBAD);
    }
    assert_eq!(answer(parse_interpreter(&put(simple(), 16, &[1, 0]))), (80, true));
    assert_eq!(answer(parse_interpreter(&elf(DYN, 0, &[interp(0, 0)], 0x1000))), EINVAL_FATAL);
    let nested = elf(DYN, 0, &[interp(0, 1), load(R, 0, 0, 64, 64)], 0x1000);
    assert_eq!(parse_interpreter(&nested).unwrap().interp, None);
    let large = elf(DYN, 0, &[load(R, 0, 0, 2, 1)], 0x1000);
    assert_eq!(answer(parse_interpreter(&large)), (12, true));
}

#[test]
fn segments_that_cannot_be_mapped_end_the_program() {
    let one = |ph| answer(parse(&elf(EXEC, 0, &[ph], 0x1000)));
    assert_eq!(one(load(R, 0, 0x400000, 2, 1)), EINVAL_FATAL);
    assert_eq!(one(load(R, 0, 0x7fff_ffff_f000, 0, 0)), EINVAL_FATAL);
    assert_eq!(one(load(R, 0, 0x400000, 0, 0x8000_0000_0000)), EINVAL_FATAL);
    assert_eq!(one(load(R, 0, 0x7fff_ffff_e000, 0, 0x1001)), EINVAL_FATAL);
    assert_eq!(one(load(R, 0, u64::MAX - 4, 4, 4)), EINVAL_FATAL);
    assert_eq!(one(load(R, 0, 0x400000, u64::MAX, u64::MAX)), EINVAL_FATAL);
    assert_eq!(one(load(R, 0x10, 0x400000, 4, 4)), EINVAL_FATAL);
    assert_eq!(one(load(R, i64::MAX as u64 & !0xfff, 0x400000, 4, 4)), (75, true));
}

#[test]
fn the_place_in_the_file_does_not_matter_to_a_segment_without_bytes_in_it() {
    assert!(parse(&elf(EXEC, 0, &[load(RW, 0x10, 0x400000, 0, 4)], 0)).is_ok());
}

#[test]
fn a_program_without_segments_is_accepted() {
    let none = Ph { kind: 0, ..load(0, 0, 0, 0, 0) };
    assert_eq!(parse(&elf(EXEC, 0x400000, &[none], 0)).unwrap().span_len(), 0);
}

#[test]
fn the_last_stack_header_says_whether_the_stack_is_executable() {
    let stack = |flags| Ph { kind: PT_GNU_STACK, flags, ..load(0, 0, 0, 0, 0) };
    let exec = |phdrs: &[Ph]| parse(&elf(DYN, 0, phdrs, 0)).unwrap().stack_exec;
    assert!(exec(&[stack(7)]));
    assert!(!exec(&[stack(6)]));
    assert!(!exec(&[stack(7), stack(6)]));
    assert!(!exec(&[interp(64, 2)].map(|p| Ph { kind: 0, ..p })));
}

#[test]
fn program_headers_are_found_in_the_last_segment_that_holds_them() {
    let a = load(R, 0, 0x400000, 0x1000, 0x1000);
    let b = load(R, 0, 0x500000, 0x1000, 0x1000);
    assert_eq!(parse(&elf(EXEC, 0, &[a, b], 0)).unwrap().phdr_vaddr, 0x500040);
    assert_eq!(parse(&elf(EXEC, 0, &[load(R, 0x1000, 0x400000, 9, 9)], 0)).unwrap().phdr_vaddr, 0);
}

#[test]
fn alignments_that_are_no_powers_of_two_are_ignored() {
    let aligned = |align| Ph { align, ..load(R, 0, 0, 9, 9) };
    let file = elf(DYN, 0, &[aligned(0), aligned(0x30000), aligned(1), aligned(0x20_0000)], 0);
    assert_eq!(parse(&file).unwrap().align, 0x20_0000);
    assert_eq!(parse(&elf(DYN, 0, &[aligned(3)], 0)).unwrap().align, 0x1000);
}

#[test]
fn a_section_is_found_by_its_whole_name() {
    let names = b"\0.gadget\0.names\0";
    let mut file = put(elf(DYN, 0, &[], 0x400), 0x100, names);
    let mut section = |index: usize, name: u32, addr: u64, offset: u64, size: u64| {
        let at = 0x200 + 64 * index;
        file[at..at + 4].copy_from_slice(&name.to_le_bytes());
        for (word, value) in [(16, addr), (24, offset), (32, size)] {
            file[at + word..at + word + 8].copy_from_slice(&u64::to_le_bytes(value));
        }
    };
    section(1, 1, 0x7000, 0x3000, 0x2000);
    section(2, 9, 0, 0x100, names.len() as u64);
    let file = put(file, 40, &0x200u64.to_le_bytes());
    let file = put(file, 58, &[64, 0, 3, 0, 2, 0]);
    assert_eq!(section_range(&file, b".gadget"), Some((0x7000, 0x2000)));
    assert_eq!(section_range(&file, b".gad"), None);
    assert_eq!(section_range(&file, b"gadget.names"), None);
    assert_eq!(section_range(&put(file, 62, &[3, 0]), b".gadget"), None);
}
