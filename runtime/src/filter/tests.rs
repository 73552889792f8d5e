//! The compiled program is run by a small BPF interpreter, for every call number from inside and outside the gadget.

use super::*;

const GADGET: (u64, u64) = (0x2345_0000_1000, 0x2345_0000_2000);
const KILL: u32 = 0x8000_0000;
const ALLOW: u32 = 0x7fff_0000;

struct Call {
    number: u32,
    arch: u32,
    ip: u64,
    arguments: [u64; 6],
}

/// Classic BPF as far as seccomp programs use it (bpf(4)).
fn run(program: &[u64], call: &Call) -> u32 {
    let mut data = Vec::new();
    data.extend(call.number.to_le_bytes());
    data.extend(call.arch.to_le_bytes());
    data.extend(call.ip.to_le_bytes());
    for argument in call.arguments {
        data.extend(argument.to_le_bytes());
    }
    let word = |at: u32| u32::from_le_bytes(data[at as usize..at as usize + 4].try_into().unwrap());
    let (mut accumulator, mut at) = (0u32, 0usize);
    loop {
        let code = program[at] as u16;
        let (yes, no) = ((program[at] >> 16) as u8 as usize, (program[at] >> 24) as u8 as usize);
        let value = (program[at] >> 32) as u32;
        at += 1;
        let mut jump = |taken: bool| at += if taken { yes } else { no };
        match code {
            0x20 => accumulator = word(value),
            0x54 => accumulator &= value,
            0x15 => jump(accumulator == value),
            0x25 => jump(accumulator > value),
            0x35 => jump(accumulator >= value),
            0x45 => jump(accumulator & value != 0),
            0x05 => at += value as usize,
            0x06 => return value,
            other => panic!("instruction {other:#x} is not known"),
        }
    }
}

fn program(configuration: &Configuration) -> Vec<u64> {
    compile(configuration, GADGET).expect("compiles")
}

fn from_gadget(number: u32, arguments: [u64; 6]) -> Call {
    Call { number, arch: AUDIT_ARCH_X86_64, ip: GADGET.0 + 2, arguments }
}

#[test]
fn every_call_from_outside_the_gadget_traps() {
    let program = program(&Configuration::default());
    for number in (0..=600).chain([0x4000_0000, 0x4000_0027, u32::MAX]) {
        for ip in [0, 0x40_1000, GADGET.0, GADGET.1 + 1, GADGET.0 - (1 << 32), GADGET.0 + (1 << 32) + 2] {
            let call = Call { number, arch: AUDIT_ARCH_X86_64, ip, arguments: [0; 6] };
            assert_eq!(run(&program, &call), RET_TRAP, "call {number} from {ip:#x}");
        }
        let other_abi = Call { number, arch: 0x4000_0003, ip: GADGET.0 + 2, arguments: [0; 6] };
        assert_eq!(run(&program, &other_abi), RET_TRAP);
    }
}

#[test]
fn from_the_gadget_only_calls_of_the_table_are_allowed_and_all_others_kill() {
    let configuration = Configuration { control_fd: 5, ..Configuration::default() };
    let program = program(&configuration);
    let listed: Vec<u32> = configuration
        .rows()
        .map(|row| i32::from(ScmpSyscall::from_name(row.call).expect("known")) as u32)
        .collect();
    for number in (0..=600).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
        let result = run(&program, &from_gadget(number, [0; 6]));
        if !listed.contains(&number) {
            assert_eq!(result, KILL, "call {number}");
        }
    }
}

#[test]
fn arguments_are_checked() {
    let program = program(&Configuration { control_fd: 5, ..Configuration::default() });
    let openat = |flags: u64| run(&program, &from_gadget(257, [3, 0, flags, 0, 0, 0]));
    assert_eq!(openat(0o2_000_000), ALLOW);
    for flags in [0o1, 0o2, 0o100, 0o1000, 0o20_200_000] {
        assert_eq!(openat(flags), KILL, "open flags {flags:#o}");
    }
    let clone = |flags: u64| run(&program, &from_gadget(56, [flags, 0, 0, 0, 0, 0]));
    assert_eq!(clone(0x11), ALLOW);
    assert_eq!(clone(0x1000_0000), KILL, "a new user namespace");
    let tgkill = |signal: u64| run(&program, &from_gadget(234, [1, 1, signal, 0, 0, 0]));
    assert_eq!(tgkill(63), ALLOW);
    assert_eq!(tgkill(9), KILL);
    let send = |fd: u64| run(&program, &from_gadget(44, [fd, 0, 0, 0, 0, 0]));
    assert_eq!(send(5), ALLOW);
    assert_eq!(send(1), KILL);
}

#[test]
fn a_writable_bind_brings_in_what_changes_files() {
    let with = program(&Configuration { writable_bind: true, ..Configuration::default() });
    let without = program(&Configuration::default());
    let mkdirat = from_gadget(258, [3, 0, 0, 0, 0, 0]);
    assert_eq!((run(&with, &mkdirat), run(&without, &mkdirat)), (ALLOW, KILL));
}

#[test]
fn the_default_configuration_allows_at_most_45_calls() {
    assert!(Configuration::default().calls() <= 45, "{} calls", Configuration::default().calls());
}
