//! Terminals: dialogues with interactive programs natively, in a sandbox with the terminal passed on (`--tty`), and wholly inside
//! of one; and what becomes of the caller's terminal.

use conformance::{Outcome, run, sandbox_exec, scratch};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

const PYTHON: &str = "/usr/bin/python3";

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("applications").join(name)
}

/// One at a time: what a user types, and when, is part of a dialogue, and one of the tests lets a fork bomb loose.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a dialogue with `before` in front of the driver and `between` in front of the shell.
fn dialogue(name: &str, before: &[&str], between: &[&str]) -> Outcome {
    let directory = scratch().expect("a directory");
    let driver = directory.path().join("terminal.py");
    std::fs::copy(script("terminal.py"), &driver).expect("the driver");
    std::fs::copy(script("front.py"), directory.path().join("front.py")).expect("what it starts");
    let driver = driver.to_string_lossy().into_owned();
    let shell = ["bash", "--norc", "-i"];
    let mut words: Vec<&str> = before.to_vec();
    words.extend([PYTHON, &driver, name]);
    words.extend(between.iter().chain(&shell));
    run(Command::new(words[0]).args(&words[1..]).current_dir(directory.path())).expect("the dialogue runs")
}

fn same_everywhere(name: &str) {
    let _alone = alone();
    let sandbox = sandbox_exec().to_string_lossy().into_owned();
    let native = dialogue(name, &[], &[]);
    assert_eq!(native.status, 0, "natively:\n{}{}", native.stdout, native.stderr);
    for (where_, outcome) in [
        ("with the terminal passed on", dialogue(name, &[], &[&sandbox, "-t", "--"])),
        ("inside", dialogue(name, &[&sandbox, "--"], &[])),
    ] {
        let different =
            native.stdout.lines().zip(outcome.stdout.lines()).find(|(native, other)| native != other);
        assert_eq!(native, outcome, "{where_}; the first difference: {different:?}");
    }
}

#[test]
fn a_shell_with_jobs_and_a_history_shows_the_same_everywhere() {
    same_everywhere("shell");
}

#[test]
fn programs_of_the_whole_screen_show_the_same_everywhere() {
    same_everywhere("programs");
}

#[test]
fn a_terminal_that_hangs_up_ends_its_session_everywhere() {
    same_everywhere("hang_up");
}

#[test]
fn the_callers_terminal_is_passed_on_and_given_back() {
    let _alone = alone();
    let outcome = run(Command::new(PYTHON).arg(script("host_terminal.py")).arg(sandbox_exec()))
        .expect("the script runs");
    assert_eq!(outcome.status, 0, "{}{}", outcome.stdout, outcome.stderr);
}
