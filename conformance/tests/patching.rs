//! Which calls come in through rewritten call sites, seen through `--stats`.

use conformance::{compile, run, sandbox_exec, scratch};
use std::path::Path;
use std::process::Command;

/// Calls by how they came in.
struct Counts {
    patched: u64,
    trapped: u64,
}

/// The line of a call, or of `total`.
fn counts(stats: &str, name: &str) -> Counts {
    let line = stats.lines().find(|line| line.split_whitespace().last() == Some(name));
    let fields: Vec<&str> =
        line.unwrap_or_else(|| panic!("no {name} in {stats}")).split_whitespace().collect();
    let number = |index: usize| fields[index].parse().expect("a number");
    Counts { patched: number(4), trapped: number(5) }
}

fn stats_of(options: &[&str], argv: &[&str], directory: &Path) -> (String, String) {
    let file = directory.join("stats");
    let option = format!("--stats={}", file.display());
    let mut command = Command::new(sandbox_exec());
    command.arg(&option).args(options).arg("--").args(argv).current_dir(directory);
    let outcome = run(&mut command).expect("runs");
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    (std::fs::read_to_string(file).expect("statistics"), outcome.stdout)
}

fn program(name: &str, directory: &Path) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name).with_extension("c");
    let binary = directory.join(name);
    compile("gcc", &["-O1", "-pthread", "-D_GNU_SOURCE"], &source, &binary).expect("compiles");
    binary.to_string_lossy().into_owned()
}

#[test]
fn a_site_that_traps_again_and_again_is_rewritten() {
    let directory = scratch().expect("a directory");
    let program = program("patched_sites", directory.path());
    let (stats, _) = stats_of(&[], &[&program], directory.path());
    let close = counts(&stats, "close");
    assert!(close.patched > 20 * close.trapped, "{stats}");
    assert!(stats.contains("its code is not a file's"), "{stats}");
}

#[test]
fn without_patching_every_call_traps() {
    let directory = scratch().expect("a directory");
    let program = program("patched_registers", directory.path());
    let (stats, _) = stats_of(&["--no-patch"], &[&program], directory.path());
    let total = counts(&stats, "total");
    assert!(total.patched == 0 && total.trapped > 1000, "{stats}");
}

#[test]
fn later_processes_start_rewritten() {
    let directory = scratch().expect("a directory");
    let (stats, _) =
        stats_of(&[], &["sh", "-c", "for i in $(seq 60); do ls / >/dev/null; done"], directory.path());
    let total = counts(&stats, "total");
    assert!(total.patched > 10 * total.trapped, "{stats}");
}

#[test]
fn programs_that_check_their_own_code_can_be_left_alone() {
    let directory = scratch().expect("a directory");
    let source = directory.path().join("check.c");
    let text = "#include <stdio.h>\n#include <unistd.h>\nextern char __executable_start, etext;\n\
        int main(void) { unsigned before = 0, after = 0;\n\
        for (unsigned char *p = (void *)main; p < (unsigned char *)&etext; p++) before = before * 31 + *p;\n\
        for (int i = 0; i < 100; i++) { long r; __asm__ volatile(\"mov $110,%%eax\\nsyscall\" : \"=a\"(r) :: \"rcx\", \"r11\"); }\n\
        for (unsigned char *p = (void *)main; p < (unsigned char *)&etext; p++) after = after * 31 + *p;\n\
        puts(before == after ? \"same\" : \"changed\"); return 0; }\n";
    std::fs::write(&source, text).expect("written");
    let binary = directory.path().join("check");
    compile("gcc", &["-O1", "-D_GNU_SOURCE"], &source, &binary).expect("compiles");
    let binary = binary.to_string_lossy();
    let (_, said) = stats_of(&["--no-patch"], &[&binary], directory.path());
    assert_eq!(said, "same\n");
    let (_, said) = stats_of(&[], &[&binary], directory.path());
    assert_eq!(said, "changed\n", "the site is no longer rewritten: this test proves nothing");
}
