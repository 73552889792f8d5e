//! `sandbox-exec` as its user meets it: exit codes, messages, what is shown and what is not.

use conformance::{Outcome, run, sandbox_exec, scratch};
use std::path::Path;
use std::process::Command;

fn sandbox(arguments: &[&str], directory: &Path) -> Outcome {
    run(Command::new(sandbox_exec()).args(arguments).current_dir(directory)).expect("sandbox-exec runs")
}

fn in_scratch(arguments: &[&str]) -> Outcome {
    let directory = scratch().expect("a directory");
    sandbox(arguments, directory.path())
}

#[test]
fn a_failure_is_one_line_that_names_the_thing() {
    let cases: [(&[&str], i32, &str); 12] = [
        (&["two\nlines"], 127, "two\\nlines"),
        (&["./not-elf"], 126, "not-elf"),
        (&["./no-interpreter"], 127, "no-interpreter"),
        (&["./empty"], 126, "empty"),
        (&["./shut"], 126, "shut"),
        (&[], 125, "PROGRAM"),
        (&["no-such-program"], 127, "no-such-program"),
        (&["/etc/passwd"], 126, "/etc/passwd"),
        (&["/usr"], 126, "/usr"),
        (&["--frobnicate", "true"], 125, "--frobnicate"),
        (&["--bind", "/no/such/source", "true"], 125, "/no/such/source"),
        (&["--network=stack", "true"], 125, "stack"),
    ];
    let directory = scratch().expect("a directory");
    let files = [
        ("not-elf", "text\n", 0o755),
        ("no-interpreter", "#!/no/such\n", 0o755),
        ("empty", "", 0o755),
        ("shut", "x", 0o644),
    ];
    for (name, text, mode) in files {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .expect("its mode");
    }
    for (arguments, status, named) in cases {
        let outcome = sandbox(arguments, directory.path());
        assert_eq!(outcome.status, status, "{arguments:?}: {}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{arguments:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(named), "{arguments:?}: {}", outcome.stderr);
    }
}

#[test]
fn a_host_that_lacks_something_is_told_of_it() {
    let command = sandbox_exec();
    let command = command.to_string_lossy();
    let cases = [
        ("ulimit -n 10; exec \"$0\" true", "ulimit -n"),
        ("ulimit -v 100000; exec \"$0\" true", "ulimit -v"),
        ("exec bwrap --unshare-user --disable-userns --dev-bind / / \"$0\" true", "user.max_user_namespaces"),
        // The network namespace is made beside the launched process, which must not go on without it.
        (
            "exec unshare --user --map-root-user sh -c 'echo 0 > /proc/sys/user/max_net_namespaces; exec \"$0\" true' \"$0\"",
            "user.max_*_namespaces",
        ),
        ("mkdir gone; cd gone; rmdir ../gone; exec \"$0\" true", "working directory"),
    ];
    for (script, way_out) in cases {
        let directory = scratch().expect("a directory");
        let outcome = run(Command::new("bash").args(["-c", script, &*command]).current_dir(directory.path()))
            .expect("runs");
        assert_eq!(outcome.status, 125, "{script}: {}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{script}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(way_out), "{script}: {}", outcome.stderr);
    }
}

#[test]
fn the_command_is_a_single_static_file() {
    let file = std::fs::read(sandbox_exec()).expect("the command");
    let word = |at: usize| u16::from_le_bytes([file[at], file[at + 1]]);
    let (size, count) = (usize::from(word(54)), usize::from(word(56)));
    let start = u64::from_le_bytes(file[32..40].try_into().expect("eight bytes")) as usize;
    const PT_INTERP: u32 = 3;
    for header in (0..count).map(|index| start + index * size) {
        let kind = u32::from_le_bytes(file[header..header + 4].try_into().expect("four bytes"));
        assert_ne!(kind, PT_INTERP, "it needs a dynamic linker");
    }
}

#[test]
fn the_exit_code_is_the_programs() {
    assert_eq!(in_scratch(&["sh", "-c", "exit 42"]).status, 42);
    assert_eq!(in_scratch(&["sh", "-c", "kill -TERM $$"]).status, 128 + 15);
}

#[test]
fn a_signal_that_the_caller_ignores_is_ignored_by_the_program() {
    let ignored = |traps: &str, sandboxed: bool| {
        let command = sandbox_exec();
        let before = if sandboxed { format!("{} -- ", command.display()) } else { String::new() };
        let script = format!("{traps} exec {before}grep SigIgn /proc/self/status");
        let outcome = run(Command::new("/bin/sh").args(["-c", &script])).expect("a shell runs");
        assert_eq!(outcome.status, 0, "{script}: {}", outcome.stderr);
        outcome.stdout
    };
    for traps in
        ["", "trap '' INT QUIT;", "trap '' HUP TERM USR1;", "trap '' PIPE;", "trap '' CHLD TSTP TTOU 40 64;"]
    {
        assert_eq!(ignored(traps, true), ignored(traps, false), "{traps}");
    }
}

#[test]
fn what_is_written_stays_in_the_sandbox() {
    let directory = scratch().expect("a directory");
    std::fs::write(directory.path().join("old"), "old\n").expect("a file");
    let outcome = sandbox(&["sh", "-c", "echo new > old; echo x > new; cat old new"], directory.path());
    assert_eq!((outcome.stdout.as_str(), outcome.status), ("new\nx\n", 0), "{}", outcome.stderr);
    assert_eq!(std::fs::read_to_string(directory.path().join("old")).expect("a file"), "old\n");
    assert!(!directory.path().join("new").exists());
}

#[test]
fn a_bind_lets_writes_through() {
    let directory = scratch().expect("a directory");
    let path = directory.path().to_string_lossy().into_owned();
    let outcome =
        sandbox(&["--bind", &path, "sh", "-c", "echo x > new; mkdir d; mv new d/moved"], directory.path());
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert_eq!(std::fs::read_to_string(directory.path().join("d/moved")).expect("a file"), "x\n");
}

#[test]
fn secrets_and_the_environment_are_not_handed_out() {
    let mut command = Command::new(sandbox_exec());
    command.args(["sh", "-c", "cat /etc/shadow; echo shadow=$?; echo token=$SECRET_TOKEN; ls -A /root"]);
    let outcome = run(command.env("SECRET_TOKEN", "hush")).expect("runs");
    assert!(!outcome.stdout.contains("root:"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("token=\n"), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("hush"));
}

#[test]
fn the_sandbox_finds_itself_by_its_own_name() {
    let script = "import socket\nname = socket.gethostname()\nprint(name, socket.gethostbyname(name))\n\
                  listener = socket.socket()\nlistener.bind((name, 0))\nlistener.listen()\n\
                  socket.create_connection(listener.getsockname()[:2])\nprint(open('/etc/hosts').read(), end='')";
    let hosts = std::fs::read_to_string("/etc/hosts").expect("the host has one");
    for name in ["sandbox", "box.example"] {
        let outcome = in_scratch(&["--hostname", name, "/usr/bin/python3", "-c", script]);
        let expected = format!("{name} 127.0.0.1\n{hosts}127.0.0.1\t{name}\n");
        assert_eq!((outcome.status, outcome.stdout), (0, expected), "{}", outcome.stderr);
    }
}

#[test]
fn hosts_of_the_callers_own_are_as_they_are() {
    let directory = scratch().expect("a directory");
    std::fs::write(directory.path().join("mine"), "127.0.0.1 mine\n").expect("a file");
    let mine = format!("{}/mine:/etc/hosts", directory.path().display());
    let outcome = sandbox(&["--ro-bind", &mine, "cat", "/etc/hosts"], directory.path());
    assert_eq!((outcome.status, &*outcome.stdout), (0, "127.0.0.1 mine\n"), "{}", outcome.stderr);
    // It is in the file already.
    let hosts = std::fs::read_to_string("/etc/hosts").expect("the host has one");
    let outcome = sandbox(&["--hostname", "localhost", "cat", "/etc/hosts"], directory.path());
    assert_eq!((outcome.status, &outcome.stdout), (0, &hosts), "{}", outcome.stderr);
    // As all of the system, it is only for reading.
    let outcome = sandbox(&["sh", "-c", "echo x >> /etc/hosts"], directory.path());
    assert_ne!(outcome.status, 0);
    assert!(outcome.stderr.contains("Read-only file system"), "{}", outcome.stderr);
    assert_eq!(std::fs::read_to_string("/etc/hosts").expect("it"), hosts);
}

#[test]
fn there_is_no_way_to_the_network() {
    let script = "import socket; s = socket.socket(); s.connect((\"192.0.2.1\", 80))";
    let outcome = in_scratch(&["/usr/bin/python3", "-c", script]);
    assert_ne!(outcome.status, 0);
}

#[test]
fn a_call_that_is_not_there_is_logged_by_name() {
    let outcome = in_scratch(&[
        "--log=warn",
        "/usr/bin/python3",
        "-c",
        "import ctypes; print(ctypes.CDLL(None).syscall(180))",
    ]);
    assert!(
        outcome.stderr.contains("nfsservctl (call 180) is not implemented: ENOSYS"),
        "{}",
        outcome.stderr
    );
    assert_eq!(outcome.stdout, "-1\n");
}

#[test]
fn strace_shows_decoded_calls() {
    let outcome = in_scratch(&["--strace", "cat", "/etc/hostname"]);
    assert!(outcome.stderr.contains("openat(AT_FDCWD, \"/etc/hostname\""), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("exit_group(0)"), "{}", outcome.stderr);
}

#[test]
fn the_tables_can_be_printed() {
    let calls = in_scratch(&["--list-syscalls"]);
    assert!(calls.stdout.contains("read") && calls.stdout.contains("full"), "{}", calls.stdout);
    let filter = in_scratch(&["--show-filter"]);
    assert!(filter.stdout.contains("openat"), "{}", filter.stdout);
}

#[test]
fn a_hundred_runs_leave_nothing_behind() {
    let count = || {
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        let ours = processes.filter(|entry| {
            let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            comm.trim_end() == "sandbox-exec"
        });
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts").lines().count();
        (ours.count(), mounts)
    };
    let directory = scratch().expect("a directory");
    let (_, mounts) = count();
    for _ in 0..100 {
        assert_eq!(sandbox(&["true"], directory.path()).status, 0);
    }
    assert_eq!(count().1, mounts);
    assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 0);
}
