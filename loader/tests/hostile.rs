//! Arbitrary bytes and damaged real files: no panic, and no plan that leaves its limits.

mod common;
use common::limits;
use loader::plan::plan;
use loader::stack::{AuxValues, StackInput, build};
use loader::{
    Limits, Program, Window, choose_bias, choose_brk, parse, parse_interpreter, script, section_range,
};
use proptest::prelude::*;
use std::sync::LazyLock;

static LS: LazyLock<Vec<u8>> = LazyLock::new(|| std::fs::read("/bin/ls").unwrap());

fn check(program: &Program, random: u64, limits: &Limits) {
    let chosen = choose_bias(program, random, Window::PIE, limits);
    for bias in [chosen.unwrap_or(0), random, random & !0xfff, 0] {
        let Ok(plan) = plan(program, bias, limits) else { continue };
        for step in &plan.steps {
            let range = step.range();
            assert!(range.start < range.end, "an empty step");
            assert!(range.start >= limits.start && range.end <= limits.end);
            assert!(range.end <= limits.reserved.start || range.start >= limits.reserved.end);
            assert!(plan.range.start <= range.start && range.end <= plan.range.end);
        }
        let brk = choose_brk(program, &plan, Some(random), limits);
        assert!(brk >= limits.start && brk <= limits.end && brk.is_multiple_of(4096));
    }
}

fn check_file(file: &Vec<u8>, random: u64) {
    for program in [parse(file), parse_interpreter(file)].into_iter().flatten() {
        check(&program, random, &limits());
    }
    let _ = section_range(file, b".text");
    let _ = script::parse(file);
}

/// Numbers near the edges where sums overflow.
fn word() -> impl Strategy<Value = u64> {
    let edges =
        [0u64, 0x1000, 0x10000, 0x2000_0000_0000, 0x5555_5555_4000, 0x7fff_ffff_f000, 1 << 63, u64::MAX];
    prop_oneof![
        any::<u64>(),
        (0usize..edges.len(), 0u64..0x3000).prop_map(move |(i, d)| edges[i].wrapping_add(d)),
        (0usize..edges.len(), 0u64..0x3000).prop_map(move |(i, d)| edges[i].wrapping_sub(d)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..600), random in word()) {
        check_file(&bytes, random);
        let magic = [b"\x7fELF", bytes.as_slice()].concat();
        check_file(&magic, random);
        let _ = script::parse(&[b"#!", bytes.as_slice()].concat());
    }

    #[test]
    fn a_real_file_with_damaged_headers_is_harmless(
        damage in prop::collection::vec((0usize..800, any::<u8>()), 1..6), random in word(), len in 0usize..3,
    ) {
        let mut file = LS[..[1000, 0x4000, LS.len()][len]].to_vec();
        for (at, byte) in damage {
            file[at] = byte;
        }
        check_file(&file, random);
    }

    #[test]
    fn arbitrary_segments_are_harmless(
        kind in 2u16..4, entry in word(),
        phdrs in prop::collection::vec((0u32..8, word(), word(), word(), word(), word()), 1..5), random in word(),
    ) {
        let phdrs: Vec<_> = phdrs.into_iter().map(|(flags, offset, vaddr, filesz, memsz, align)| {
            // Congruent and ordered most of the time, or nothing would come through.
            let offset = (offset & !0xfff) | (vaddr & 0xfff);
            common::Ph { kind: 1, flags, offset, vaddr, filesz: filesz.min(memsz), memsz, align }
        }).collect();
        check_file(&common::elf(kind, entry, &phdrs, 0x3000), random);
    }

    #[test]
    fn arbitrary_stacks_are_whole_and_aligned(
        argv in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..9),
        envp in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..9),
        top in word(), shift in word(), stack_limit in word(),
    ) {
        let input = StackInput {
            top, argv: &argv, envp: &envp, execfn: b"/x", stack_limit, random: [7; 16], shift, aux: AuxValues::default(),
        };
        if let Ok(stack) = build(&input) {
            prop_assert_eq!(stack.sp % 16, 0);
            prop_assert_eq!(stack.sp + stack.bytes.len() as u64, top);
            prop_assert!(stack.sp < stack.arg_start && stack.arg_start < stack.arg_end);
            prop_assert!(stack.arg_end == stack.env_start && stack.env_end < top);
        }
    }
}
