//! Programs that have taken over the kernel in their address space. What must hold then is the strict filter.

use conformance::{Outcome, compile, run, sandbox_exec, scratch};
use std::path::Path;
use std::process::Command;

fn attack(program: &Path, arguments: &[String]) -> Outcome {
    attack_with(&[], program, arguments)
}

fn attack_with(options: &[&str], program: &Path, arguments: &[String]) -> Outcome {
    let directory = program.parent().expect("in a directory");
    let mut command = Command::new(sandbox_exec());
    run(command.args(options).arg("--").arg(program).args(arguments).current_dir(directory)).expect("runs")
}

/// Numbers of the calls in the table.
fn allowed() -> Vec<i64> {
    let table = run(Command::new(sandbox_exec()).args(["--show-filter", "--json"])).expect("runs");
    let number = |line: &str| line.trim().strip_prefix("\"number\": ")?.trim_end_matches(',').parse().ok();
    table.stdout.lines().filter_map(number).collect()
}

/// uretprobe(2) and uprobe(2): Linux lets them pass every filter (`seccomp_uprobe_exception`), and answers calls that do not come
/// from a probe's own trampoline with SIGILL and `ENXIO`. No filter can change that.
const PASSED_BY_LINUX: [i64; 2] = [335, 336];

#[test]
fn every_call_outside_the_table_ends_the_sandbox_even_from_the_gadget() {
    let directory = scratch().expect("a directory");
    let program = directory.path().join("gadget");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks/gadget.c");
    compile("gcc", &["-O1", "-mfsgsbase"], &source, &program).expect("compiles");
    let allowed = allowed();
    assert!(allowed.len() > 20, "the table has {} rows", allowed.len());
    for number in (0..=470).chain([1000, 0x4000_0000, 0x4000_003b]) {
        if allowed.contains(&number) || PASSED_BY_LINUX.contains(&number) {
            continue;
        }
        let outcome = attack(&program, &[number.to_string()]);
        assert!(outcome.stdout.starts_with("found"), "call {number}: {}{}", outcome.stdout, outcome.stderr);
        assert!(!outcome.stdout.contains("survived"), "call {number} was made: {}", outcome.stdout);
        assert_eq!(outcome.status, 125, "call {number}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("filter"), "call {number}: {}", outcome.stderr);
    }
}

#[test]
fn arguments_that_the_table_does_not_name_end_the_sandbox() {
    let directory = scratch().expect("a directory");
    let program = directory.path().join("gadget");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks/gadget.c");
    compile("gcc", &["-O1", "-mfsgsbase"], &source, &program).expect("compiles");
    // With all arguments zero: tgkill with signal 0, sendto on descriptor 0, arch_prctl with code 0, fallocate with mode 0.
    for number in [234, 44, 158, 285] {
        let outcome = attack(&program, &[number.to_string()]);
        assert!(!outcome.stdout.contains("survived"), "call {number}: {}", outcome.stdout);
        assert_eq!(outcome.status, 125, "call {number}: {}", outcome.stderr);
    }
}

#[test]
fn with_a_network_no_socket_can_be_made_connected_or_addressed() {
    let directory = scratch().expect("a directory");
    let program = directory.path().join("gadget");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks/gadget.c");
    compile("gcc", &["-O1", "-mfsgsbase"], &source, &program).expect("compiles");
    // socket, connect, accept, sendmsg, recvmsg on descriptor 0, bind, listen, getsockname, getpeername, socketpair, setsockopt and
    // getsockopt of nothing that is listed, accept4, recvmmsg, sendmmsg.
    for number in [41, 42, 43, 46, 47, 49, 50, 51, 52, 53, 54, 55, 288, 299, 307] {
        let outcome = attack_with(&["--network=host"], &program, &[number.to_string()]);
        assert!(outcome.stdout.starts_with("found"), "call {number}: {}{}", outcome.stdout, outcome.stderr);
        assert!(!outcome.stdout.contains("survived"), "call {number} was made: {}", outcome.stdout);
        assert_eq!(outcome.status, 125, "call {number}: {}", outcome.stderr);
    }
}
