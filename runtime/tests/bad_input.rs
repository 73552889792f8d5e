//! What a user gets wrong: one line that names the thing, the reason and the way out, and the exit code that says which kind.
//! None of it comes as far as a sandbox.

use assert_cmd::Command;
use std::os::unix::fs::PermissionsExt;

/// Runs the command with these arguments: its exit code and its only line on standard error.
fn refused(arguments: &[&str]) -> (i32, String) {
    let output =
        Command::cargo_bin("sandbox-exec").expect("it is built").args(arguments).output().expect("it runs");
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(output.stdout.is_empty(), "{arguments:?} writes to standard output");
    assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
    assert!(text.starts_with("sandbox-exec: "), "{text}");
    (output.status.code().expect("it exits"), text)
}

#[track_caller]
fn check(arguments: &[&str], code: i32, words: &[&str]) {
    let (actual, text) = refused(arguments);
    assert_eq!(actual, code, "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

#[test]
fn a_program_that_does_not_exist_is_127() {
    check(&["no-such-program-anywhere"], 127, &["no-such-program-anywhere", "not found in PATH"]);
    check(&["/no/such/program"], 127, &["/no/such/program", "not found"]);
    check(&["/etc/passwd/x"], 127, &["/etc/passwd/x"]);
    check(&["--", ""], 127, &["not found"]);
}

#[test]
fn a_program_that_cannot_be_executed_is_126() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("empty");
    std::fs::write(&file, "").expect("a file");
    let path = file.to_str().expect("text");
    check(&[path], 126, &["no execute permission", "chmod"]);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("mode");
    check(&[path], 126, &["empty"]);
    check(&["/usr"], 126, &["/usr", "directory"]);
    check(&["/dev/null"], 126, &["not a regular file"]);
}

#[test]
fn unknown_options_are_125_and_named() {
    check(&["--bogus", "ls"], 125, &["--bogus", "--help"]);
    check(&["-x", "ls"], 125, &["-x"]);
    check(&["--network", "wifi", "ls"], 125, &["wifi", "none"]);
    check(&["--log", "loud", "ls"], 125, &["loud", "debug"]);
    check(&["--memory", "1X", "ls"], 125, &["1X", "K, M or G"]);
    check(&["--pids", "many", "ls"], 125, &["many"]);
    check(&["--pids", "0", "ls"], 125, &["--pids"]);
    check(&["--allow-missing", "everything", "ls"], 125, &["everything", "net-namespace"]);
    check(&["--json", "ls"], 125, &["--show-filter"]);
    check(&[], 125, &["PROGRAM"]);
}

#[test]
fn what_cannot_be_granted_is_125_and_named() {
    check(
        &["--bind", "/no/such", "ls"],
        125,
        &["--bind /no/such", "No such file", "name a path that exists"],
    );
    check(&["--ro-bind", "/usr:/a/../b", "ls"], 125, &["/a/../b", ".."]);
    check(&["--ro-bind", "/proc", "ls"], 125, &["--ro-bind /proc", "its own"]);
    check(&["--tmpfs", "relative", "ls"], 125, &["--tmpfs relative", "absolute"]);
    check(&["--tmpfs", "/x:big", "ls"], 125, &["/x", "size"]);
    check(&["--workdir", "/no/such", "/usr/bin/env"], 125, &["--workdir /no/such"]);
    check(&["--hostname", "a b", "/usr/bin/env"], 125, &["--hostname a b"]);
    check(&["--log-file", "/no/such/log", "/usr/bin/env"], 125, &["/no/such/log", "No such file"]);
}

#[test]
fn a_table_that_cannot_be_written_is_said() {
    let full = std::fs::File::create("/dev/full").expect("every Linux has it");
    let program = assert_cmd::cargo::cargo_bin("sandbox-exec");
    let output =
        std::process::Command::new(program).arg("--show-filter").stdout(full).output().expect("it runs");
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left"));
}

#[test]
fn help_and_version_are_no_errors() {
    for (option, word) in [("--help", "Examples:"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let output =
            Command::cargo_bin("sandbox-exec").expect("it is built").arg(option).output().expect("it runs");
        assert!(output.status.success() && output.stderr.is_empty());
        assert!(String::from_utf8_lossy(&output.stdout).contains(word), "{option}");
    }
}

#[test]
fn the_filter_is_shown_as_text_and_as_json() {
    let run = |arguments: &[&str]| {
        let output = Command::cargo_bin("sandbox-exec")
            .expect("it is built")
            .args(arguments)
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let text = run(&["--show-filter"]);
    assert!(text.contains("openat") && !text.contains("mkdirat"));
    assert!(run(&["--show-filter", "--bind", "/tmp"]).contains("mkdirat"));
    let json: serde_json::Value = serde_json::from_str(&run(&["--show-filter", "--json"])).expect("JSON");
    assert!(json["calls"].as_u64().is_some_and(|calls| calls <= 45));
}
