//! The initial stack: laid out by hand, by its limits, and as Linux built it for this very process.

use loader::stack::{AuxValues, MAX_ARG_STRLEN, StackInput, build, check_limits};
use std::os::unix::fs::FileExt;

const TOP: u64 = 0x7fff_0000_0000;
const MIB8: u64 = 8 << 20;

fn input<'a>(argv: &'a [&'a [u8]], envp: &'a [&'a [u8]]) -> StackInput<'a, &'a [u8]> {
    StackInput {
        top: TOP,
        argv,
        envp,
        execfn: b"/bin/x",
        stack_limit: MIB8,
        random: [9; 16],
        shift: 0,
        aux: AuxValues::default(),
    }
}

fn word(bytes: &[u8], at: u64) -> u64 {
    u64::from_le_bytes(bytes[at as usize..at as usize + 8].try_into().unwrap())
}

#[test]
fn argc_and_pointers_lie_where_the_abi_says() {
    let s = build(&input(&[b"x", b"yy"], &[b"A=1"])).unwrap();
    let at = |address: u64| word(&s.bytes, address - s.sp);
    assert_eq!((s.sp % 16, s.sp + s.bytes.len() as u64, at(s.sp)), (0, TOP, 2));
    assert_eq!(s.env_end, TOP - 8 - 7);
    assert_eq!((s.arg_start, s.env_start), (s.env_end - 9, s.env_end - 4));
    let pointers: Vec<u64> = (1..6).map(|i| at(s.sp + 8 * i)).collect();
    assert_eq!(pointers, [s.arg_start, s.arg_start + 2, 0, s.env_start, 0]);
    let strings = &s.bytes[(s.arg_start - s.sp) as usize..];
    assert_eq!(strings, b"x\0yy\0A=1\0/bin/x\0\0\0\0\0\0\0\0\0");
    assert_eq!(s.bytes[48..48 + s.auxv.len()], s.auxv);
}

#[test]
fn an_empty_argument_list_becomes_one_empty_string() {
    let s = build(&input(&[], &[])).unwrap();
    assert_eq!((word(&s.bytes, 0), s.arg_end - s.arg_start), (1, 1));
}

#[test]
fn the_vdso_is_left_out_where_there_is_none() {
    let without = build(&input(&[b"x"], &[])).unwrap().auxv;
    let aux = AuxValues { sysinfo_ehdr: 0x1000, ..AuxValues::default() };
    let with = build(&StackInput { aux, ..input(&[b"x"], &[]) }).unwrap().auxv;
    assert_eq!((with.len() - without.len(), word(&with, 0), word(&without, 0)), (16, 33, 51));
}

#[test]
fn a_string_may_have_128_kib_with_its_nul() {
    let long = vec![b'a'; MAX_ARG_STRLEN];
    let answer = |string: &[u8]| check_limits(&[string], &[], b"/x", 64 << 20).map_err(|e| e.errno.0);
    assert_eq!(answer(&long[1..]), Ok(()));
    assert_eq!(answer(&long), Err(7));
}

/// `strings` strings of 1000 bytes each, and one of `rest`.
fn total(strings: usize, rest: usize, stack: u64) -> Result<(), i32> {
    let mut argv = vec![vec![b'a'; 999]; strings];
    argv.push(vec![b'a'; rest - 1]);
    check_limits(&argv, &[], b"/x", stack).map_err(|e| e.errno.0)
}

#[test]
fn everything_may_have_a_quarter_of_the_stack_between_128_kib_and_6_mib() {
    for (stack, limit) in [(0, 131072), (4 << 20, 1 << 20), (u64::MAX, 6 << 20)] {
        let strings = (limit - 2000) / 1008;
        let rest = limit - strings * 1008 - 8 - 3;
        assert_eq!(total(strings, rest, stack), Ok(()));
        assert_eq!(total(strings, rest + 1, stack), Err(7));
    }
}

#[test]
fn pointers_alone_may_be_too_much() {
    assert_eq!(check_limits(&vec![b""; 131072 / 8], &[], b"/x", 0).unwrap_err().errno.0, 7);
}

#[test]
fn a_stack_without_room_is_enomem() {
    let error = build(&StackInput { top: 0x100, ..input(&[b"x"], &[]) }).unwrap_err();
    assert_eq!((error.errno.0, error.fatal), (12, true));
}

/// Rebuilds this process's stack from what Linux says went into it, and compares with what Linux made of it.
#[test]
fn linux_built_the_stack_of_this_process_the_same_way() {
    let read = |path: &str| std::fs::read(path).unwrap();
    let split = |bytes: Vec<u8>| -> Vec<Vec<u8>> {
        let mut strings: Vec<Vec<u8>> = bytes.split(|&b| b == 0).map(<[u8]>::to_vec).collect();
        strings.pop();
        strings
    };
    let (argv, envp) = (split(read("/proc/self/cmdline")), split(read("/proc/self/environ")));
    let stat = String::from_utf8(read("/proc/self/stat")).unwrap();
    let fields: Vec<u64> =
        stat.rsplit_once(')').unwrap().1.split_whitespace().skip(1).map(|f| f.parse().unwrap_or(0)).collect();
    // Fields 28, 48 and 51 of proc_pid_stat(5); the first here is field 4.
    let (sp, arg_start, env_end) = (fields[28 - 4], fields[48 - 4], fields[51 - 4]);
    let auxv = read("/proc/self/auxv");
    let aux = |tag: u64| auxv.chunks_exact(16).find(|e| word(e, 0) == tag).map_or(0, |e| word(e, 8));

    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let execfn = aux(31);
    let mut name = vec![0; 4096.min((((execfn + 4095) & !4095) - execfn) as usize)];
    memory.read_exact_at(&mut name, execfn).unwrap();
    let name = name.split(|&b| b == 0).next().unwrap().to_vec();
    let top = execfn + name.len() as u64 + 1 + 8;
    let mut theirs = vec![0; (top - sp) as usize];
    memory.read_exact_at(&mut theirs, sp).unwrap();

    let random_at = aux(25);
    let platform_end = aux(15) + 7;
    let random = theirs[(random_at - sp) as usize..][..16].try_into().unwrap();
    let ours = build(&StackInput {
        top,
        argv: &argv,
        envp: &envp,
        execfn: &name,
        stack_limit: u64::MAX,
        random,
        // What arch_align_stack took away: anything that rounds down to the end of the platform string.
        shift: arg_start - platform_end,
        aux: AuxValues {
            sysinfo_ehdr: aux(33),
            minsigstksz: aux(51),
            hwcap: aux(16),
            hwcap2: aux(26),
            phdr: aux(3),
            phent: aux(4),
            phnum: aux(5),
            base: aux(7),
            flags: aux(8),
            entry: aux(9),
            uid: aux(11) as u32,
            euid: aux(12) as u32,
            gid: aux(13) as u32,
            egid: aux(14) as u32,
            secure: aux(23) != 0,
        },
    })
    .unwrap();
    assert_eq!((top % 4096, ours.arg_start, ours.env_end), (0, arg_start, env_end));
    let tags = |auxv: &[u8]| -> Vec<(u64, u64)> {
        // AT_RSEQ_FEATURE_SIZE and AT_RSEQ_ALIGN are not offered.
        let entries = auxv.chunks_exact(16).map(|e| (word(e, 0), word(e, 8)));
        entries.filter(|(tag, _)| !matches!(tag, 27 | 28)).collect()
    };
    assert_eq!(tags(&ours.auxv), tags(&auxv));
    // The two entries left out make our stack pointer 32 bytes higher.
    assert_eq!(ours.sp, sp + 32);
    let from_random = |bytes: &[u8], sp: u64| bytes[(random_at - sp) as usize..].to_vec();
    assert_eq!(from_random(&ours.bytes, ours.sp), from_random(&theirs, sp));
    let pointers = 8 * (argv.len() + envp.len() + 3);
    assert_eq!(ours.bytes[..pointers], theirs[..pointers]);
}
