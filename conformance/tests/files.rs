//! Files under strain: random operations, caches that are bounded, filesystems that are full, and a host that changes or fails
//! below.

use conformance::{Outcome, compile, run, sandbox_exec, scratch};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Runs `ci/fuzz-files` with a fixed seed; that goes on for as long as one likes.
fn fuzz(programs: &str, rounds: &str, operations: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/fuzz-files");
    let mut command = Command::new(script);
    command.arg("100").env("SANDBOX_EXEC", sandbox_exec()).env("PROGRAMS", programs);
    command.env("SEED", "1").env("ROUNDS", rounds).env("OPERATIONS", operations);
    let outcome = run(&mut command).expect("the script runs");
    assert_eq!(outcome.status, 0, "{}{}", outcome.stdout, outcome.stderr);
}

#[test]
fn files_hold_what_was_put_into_them() {
    fuzz("contents", "3", "1500");
}

#[test]
fn paths_lead_where_they_lead_natively() {
    fuzz("paths", "4", "1000");
}

fn sandbox(arguments: &[&str], directory: &Path) -> Outcome {
    run(Command::new(sandbox_exec()).args(arguments).current_dir(directory)).expect("sandbox-exec runs")
}

fn said(outcome: &Outcome) -> &str {
    assert_eq!(outcome.status, 0, "{}{}", outcome.stdout, outcome.stderr);
    outcome.stdout.trim_end()
}

/// Names that the kernel keeps in the memory that is given below (`vfs::namespace`): as many fill its cache.
const CACHED_NAMES: u64 = 32 << 10;

/// A count for every day, or the one of an environment variable.
fn count(variable: &str, everyday: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(everyday)
}

/// What the sandbox's kernel may hold more than before: a second walk finds the caches full.
const MAY_STAY: i64 = 4 << 20;

/// Runs `first`, which fills the caches, and `then`, which must leave them as large as they are.
fn memory_is_where_it_was(first: &str, then: &str, options: &[&str], directory: &Path) {
    let script = format!(
        "import os\n\
         def used(): return int(open('/sys/fs/cgroup/memory.current').read())\n\
         {first}\nbefore = used()\n{then}\nprint(used() - before)"
    );
    let outcome =
        sandbox(&[options, &["--memory", "1G", "/usr/bin/python3", "-c", &script]].concat(), directory);
    let grown: i64 = said(&outcome).lines().last().and_then(|line| line.parse().ok()).expect("a number");
    assert!(grown < MAY_STAY, "{options:?}: {grown} bytes more");
}

#[test]
fn names_that_come_and_go_leave_no_memory() {
    let directory = scratch().expect("a directory");
    let count = count("FILES_NAMES", 40_000);
    let path = directory.path().to_string_lossy().into_owned();
    for (place, options) in [("/tmp", vec![]), (".", vec![]), (".", vec!["--bind", &path])] {
        let names = |from: u64, to: u64| {
            format!(
                "os.chdir('{place}')\n\
                 for n in range({from}, {to}):\n\
                 \x20   name = f'name-{{n}}'\n\
                 \x20   os.close(os.open(name, os.O_CREAT | os.O_WRONLY))\n\
                 \x20   os.unlink(name)\n\
                 \x20   try: os.stat(f'absent-{{n}}')\n\
                 \x20   except FileNotFoundError: pass"
            )
        };
        memory_is_where_it_was(
            &names(0, CACHED_NAMES),
            &names(CACHED_NAMES, CACHED_NAMES + count),
            &options,
            directory.path(),
        );
    }
}

#[test]
fn walking_a_large_tree_leaves_no_memory() {
    let directory = scratch().expect("a directory");
    let files = count("FILES_TREE", 70_000);
    for part in 0..files / 1000 {
        let below = directory.path().join(format!("part-{part}"));
        std::fs::create_dir(&below).expect("a directory");
        (0..1000).for_each(|number| {
            std::fs::write(below.join(format!("file-{number}")), "x").expect("a file");
        });
    }
    let path = directory.path().to_string_lossy().into_owned();
    let script = |parts: std::ops::Range<u64>| {
        format!(
            "seen = 0\n\
             for part in range({}, {}):\n\
             \x20   for top, directories, files in os.walk(f'part-{{part}}'):\n\
             \x20       for name in files: seen += os.lstat(os.path.join(top, name)).st_size\n\
             assert seen == {}, seen",
            parts.start,
            parts.end,
            (parts.end - parts.start) * 1000
        )
    };
    let (half, all) = (files / 2000, files / 1000);
    for options in [vec![], vec!["--bind", &path], vec!["--ro-bind", &path]] {
        memory_is_where_it_was(&script(0..half), &script(half..all), &options, directory.path());
    }
}

/// Fills a directory that has room for a mebibyte; what stays is what was said to have been written.
const FILL: &str = "import errno, os, sys\n\
    def says(call):\n\
    \x20   try: call()\n\
    \x20   except OSError as error: return error.strerror\n\
    \x20   return 'fine'\n\
    def fill():\n\
    \x20   while True: written.append(os.write(fd, b'x' * 70000))\n\
    os.chdir(sys.argv[1])\n\
    fd, written = os.open('big', os.O_CREAT | os.O_RDWR, 0o644), []\n\
    print(says(fill))\n\
    size = os.stat('big').st_size\n\
    print(size == sum(written), size > 700000, size <= 1 << 20)\n\
    print(says(lambda: os.posix_fallocate(os.open('more', os.O_CREAT | os.O_RDWR), 0, 1 << 20)))\n\
    print(os.pread(fd, 3, size - 3))\n\
    print(says(lambda: os.truncate('big', 1000)))\n\
    print(says(lambda: os.pwrite(fd, b'y' * 70000, 0)))\n\
    print(os.stat('big').st_size)\n";
const FILLED: &str =
    "No space left on device\nTrue True True\nNo space left on device\nb'xxx'\nfine\nfine\n70000";

#[test]
fn a_full_tmpfs_says_so() {
    let directory = scratch().expect("a directory");
    let outcome =
        sandbox(&["--tmpfs", "/full:1M", "/usr/bin/python3", "-c", FILL, "/full"], directory.path());
    assert_eq!(said(&outcome), FILLED);
}

/// A filesystem of a mebibyte, mounted on a directory while this lives. `None` for an ordinary user.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> Option<Small> {
        let directory = scratch().ok()?;
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1M,mode=777", "small"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        mount.is_ok_and(|status| status.success()).then_some(Small(directory))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(self.0.path()).status();
    }
}

#[test]
fn a_full_host_disk_says_so_and_harms_nothing_else() {
    let Some(small) = Small::new() else {
        eprintln!("left out: it needs root, to mount a filesystem");
        return;
    };
    let path = small.0.path().to_string_lossy().into_owned();
    let natively = run(Command::new("/usr/bin/python3").args(["-c", FILL, &path])).expect("python3 runs");
    assert_eq!(said(&natively), FILLED);
    std::fs::remove_file(small.0.path().join("big")).expect("removed");
    let directory = scratch().expect("a directory");
    let outcome = sandbox(&["--bind", &path, "/usr/bin/python3", "-c", FILL, &path], directory.path());
    assert_eq!(said(&outcome), FILLED);
}

/// A filesystem whose reads and writes fail, served by a process of ours. `None` for an ordinary user.
struct Failing {
    directory: tempfile::TempDir,
    server: Child,
}

impl Failing {
    fn new() -> Option<Failing> {
        let applications = Path::new(env!("CARGO_MANIFEST_DIR")).join("applications");
        let (directory, bin) = (scratch().ok()?, scratch().ok()?);
        let program = bin.path().join("failing");
        compile("gcc", &["-O1"], &applications.join("failing_fuse.c"), &program).expect("it compiles");
        let mut command = Command::new(&program);
        command.arg(directory.path()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = command.spawn().ok()?;
        let mut line = String::new();
        BufReader::new(server.stdout.take()?).read_line(&mut line).ok()?;
        (line == "mounted\n").then_some(Failing { directory, server })
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.directory.path()).status();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn a_host_that_cannot_read_is_passed_on_as_such() {
    let Some(failing) = Failing::new() else {
        eprintln!("left out: it needs root and FUSE, to mount a filesystem");
        return;
    };
    let path = failing.directory.path().to_string_lossy().into_owned();
    let script = include_str!("../applications/failing_reads.py");
    let natively = run(Command::new("/usr/bin/python3").args(["-c", script, &path])).expect("python3 runs");
    assert!(said(&natively).contains("Input/output error"), "{}", natively.stdout);
    let directory = scratch().expect("a directory");
    let inside = sandbox(&["--bind", &path, "/usr/bin/python3", "-c", script, &path], directory.path());
    assert_eq!(said(&inside), said(&natively));
}

/// A sandbox that answers a line with a line.
struct Talk {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Talk {
    /// Each line is evaluated as Python, and answered with the value or the error's text.
    fn new(options: &[&str], directory: &Path) -> Talk {
        let script = "import os, sys\n\
            for line in sys.stdin:\n\
            \x20   try: print(eval(line), flush=True)\n\
            \x20   except OSError as error: print(error.strerror, flush=True)\n";
        let mut command = Command::new(sandbox_exec());
        command.args(options).args(["/usr/bin/python3", "-c", script]).current_dir(directory);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sandbox-exec runs");
        let answers = BufReader::new(child.stdout.take().expect("stdout"));
        Talk { child, answers }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.child.stdin.as_mut().expect("stdin"), "{line}").expect("a question");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("an answer");
        answer.trim_end().into()
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_removed_and_changed_from_outside_is_seen_inside() {
    let directory = scratch().expect("a directory");
    let (file, below) = (directory.path().join("f"), directory.path().join("d"));
    std::fs::write(&file, "old").expect("a file");
    std::fs::create_dir(&below).expect("a directory");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("its mode");
    let mut talk = Talk::new(&["--bind", &directory.path().to_string_lossy()], directory.path());
    assert_eq!(talk.ask("os.open('f', os.O_RDWR), os.open('d', os.O_RDONLY)"), "(3, 4)");
    std::fs::write(&file, "longer").expect("a write");
    assert_eq!(talk.ask("os.pread(3, 10, 0), os.stat('f').st_size"), "(b'longer', 6)");
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(talk.ask("os.pread(3, 10, 0), os.fstat(3).st_nlink"), "(b'longer', 0)");
    assert_eq!(talk.ask("os.stat('f')"), "No such file or directory");
    assert_eq!(talk.ask("os.listdir('.')"), "['d']");
    std::fs::write(&file, "new").expect("a file");
    assert_eq!(talk.ask("open('f').read(), os.pread(3, 10, 0)"), "('new', b'longer')");
    std::fs::remove_dir(&below).expect("removed");
    assert_eq!(talk.ask("os.listdir(4)"), "[]");
    assert_eq!(talk.ask("os.mkdir('x', dir_fd=4)"), "No such file or directory");
    assert_eq!(talk.ask("os.mkdir('d/x')"), "No such file or directory");
    assert_eq!(talk.ask("os.mkdir('d')"), "None");
    assert!(below.is_dir());
}

/// Whoever is outside swaps a directory for a link to what was not granted, again and again.
#[test]
fn a_directory_that_turns_into_a_link_leads_nobody_out() {
    let (granted, outside) = (scratch().expect("a directory"), scratch().expect("a directory"));
    std::fs::write(outside.path().join("secret"), "secret\n").expect("a file");
    std::fs::set_permissions(outside.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("its mode");
    std::fs::create_dir(granted.path().join("d")).expect("a directory");
    std::fs::set_permissions(granted.path().join("d"), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("its mode");
    std::os::unix::fs::symlink(outside.path(), granted.path().join("link")).expect("a link");
    let script = "import os, time\n\
        end, found = time.monotonic() + 4, 0\n\
        while time.monotonic() < end:\n\
        \x20   for call in (lambda: open('d/new', 'w').write('x'), lambda: os.mkdir('d/sub'), lambda: os.rename('d/new', 'd/other'),\n\
        \x20                lambda: os.unlink('d/other'), lambda: os.rmdir('d/sub'), lambda: os.link('d/new', 'd/third'),\n\
        \x20                lambda: os.symlink('x', 'd/fourth'), lambda: os.unlink('d/fourth'), lambda: os.chmod('d/secret', 0)):\n\
        \x20       try: call()\n\
        \x20       except OSError: pass\n\
        \x20   try: found += open('d/secret').read() == 'secret\\n'\n\
        \x20   except OSError: pass\n\
        print('secrets found:', found)\n";
    let mut command = Command::new(sandbox_exec());
    command.arg("--bind").arg(granted.path()).args(["/usr/bin/python3", "-c", script]);
    let mut child = command.current_dir(granted.path()).stdout(Stdio::piped()).spawn().expect("runs");
    let (there, link, away) =
        (granted.path().join("d"), granted.path().join("link"), granted.path().join("away"));
    while child.try_wait().expect("a status").is_none() {
        let _ = std::fs::rename(&there, &away);
        let _ = std::fs::rename(&link, &there);
        let _ = std::fs::rename(&there, &link);
        let _ = std::fs::rename(&away, &there);
    }
    let outcome = child.wait_with_output().expect("its output");
    assert_eq!(String::from_utf8_lossy(&outcome.stdout), "secrets found: 0\n");
    let names: Vec<_> = std::fs::read_dir(outside.path()).expect("a list").flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(std::fs::read_to_string(outside.path().join("secret")).expect("a file"), "secret\n");
}

/// `acls.sh` in a directory that it has prepared, and what is there then: natively, or inside with `options`. With `whose` "own" no
/// ids but the caller's are named.
fn access_lists(caller: &[&str], whose: &str, options: &[&str], directory: &Path) -> [String; 2] {
    let path = directory.to_string_lossy();
    let step = |before: &[&str], step: &str| {
        let text = include_str!("../applications/acls.sh");
        let command = [caller, before, &["/bin/sh", "-c", text, "acls.sh", step, &path, whose]].concat();
        let (program, arguments) = command.split_first().expect("a command");
        let outcome = run(Command::new(program).args(arguments).current_dir(directory)).expect("it runs");
        assert_eq!(outcome.stderr, "", "{step} {options:?}");
        outcome.stdout.replace(&*path, "DIRECTORY")
    };
    step(&[], "make");
    // The build directory may be out of the caller's reach.
    let copy = scratch().expect("a directory");
    let sandbox = copy.path().join("sandbox-exec");
    std::fs::copy(sandbox_exec(), &sandbox).expect("copied");
    let sandbox = sandbox.to_string_lossy();
    let sandboxed = [&[&*sandbox][..], options].concat();
    let shown = step(if options.is_empty() { &[] } else { &sandboxed }, "use");
    [shown, step(&[], "show")]
}

fn access_lists_are_the_hosts(caller: &[&str], whose: &str) {
    let place = || {
        let directory = scratch().expect("a directory");
        if !caller.is_empty() {
            std::os::unix::fs::chown(directory.path(), Some(DAEMON), Some(DAEMON)).expect("its owner");
        }
        let path = directory.path().to_string_lossy().into_owned();
        (directory, path)
    };
    let native = access_lists(caller, whose, &[], place().0.path());
    let (bound, path) = place();
    assert_eq!(access_lists(caller, whose, &["--bind", &path], bound.path()), native);
    let ((lower, path), (_upper, upper)) = (place(), place());
    let over = format!("{path}:{upper}");
    assert_eq!(access_lists(caller, whose, &["--overlay", &over], lower.path())[0], native[0]);
    let (lower, path) = place();
    assert_eq!(access_lists(caller, whose, &["--overlay", &path], lower.path())[0], native[0]);
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Debian's user and group `daemon`.
const DAEMON: u32 = 1;

#[test]
fn access_control_lists_of_granted_directories_are_the_hosts() {
    access_lists_are_the_hosts(&[], if is_root() { "" } else { "own" });
}

#[test]
fn an_ordinary_users_access_control_lists_name_whom_its_user_namespace_maps() {
    if !is_root() {
        return;
    }
    let caller = ["setpriv", "--reuid", "daemon", "--regid", "daemon", "--clear-groups", "--inh-caps=-all"];
    access_lists_are_the_hosts(&caller, "own");
}

/// A program of the differential suite, natively and in the sandbox, in a directory that was granted.
fn same_in_a_granted_directory(program: &str, arguments: &[&str]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(program);
    let bin = scratch().expect("a directory");
    let compiled = bin.path().join("program");
    compile("gcc", &["-O1", "-D_GNU_SOURCE"], &source, &compiled).expect("it compiles");
    let text = compiled.to_string_lossy();
    let (native, granted) = (scratch().expect("a directory"), scratch().expect("a directory"));
    let natively =
        run(Command::new(&compiled).args(arguments).current_dir(native.path())).expect("the program runs");
    let path = granted.path().to_string_lossy();
    let options = ["--bind", &path, "--ro-bind", &text, &text];
    let inside = sandbox(&[&options, arguments].concat(), granted.path());
    assert_eq!(said(&inside), said(&natively), "{program}");
}

#[test]
fn what_has_lost_its_name_can_be_opened_by_its_place() {
    same_in_a_granted_directory("removed_places.c", &[]);
}

#[test]
fn handles_stand_for_files_of_granted_directories() {
    same_in_a_granted_directory("handles.c", &["."]);
}

#[test]
fn directories_below_dev_shm_can_be_granted() {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("mode");
    std::fs::write(directory.path().join("f"), "out\n").expect("a file");
    let path = directory.path().to_string_lossy();
    let script = format!("cat {path}/f; echo in >{path}/g; echo more >/dev/shm/other; ls /dev/shm/other");
    let outcome = sandbox(&["--bind", &path, "/bin/sh", "-c", &script], Path::new("/"));
    assert_eq!(said(&outcome), "out\n/dev/shm/other");
    assert_eq!(std::fs::read_to_string(directory.path().join("g")).expect("a file"), "in\n");
    assert!(!Path::new("/dev/shm/other").exists());
}

/// Names that are remembered are asked about together; each of them may mean something else by now.
#[test]
fn a_remembered_path_that_changes_outside_is_walked_as_it_is() {
    let directory = scratch().expect("a directory");
    let at = |path: &str| directory.path().join(path);
    let open_to_all = |path: &str| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(at(path), mode).expect("its mode");
    };
    let make = |path: &str, text: &str| {
        std::fs::create_dir_all(at(path)).expect("directories");
        std::fs::write(at(path).join("f"), text).expect("a file");
        open_to_all(path);
    };
    make("a/b/c", "first");
    let mut talk = Talk::new(&["--bind", &directory.path().to_string_lossy()], directory.path());
    let absolute = at("a/b/c/f").to_string_lossy().into_owned();
    let look = |talk: &mut Talk| {
        let first =
            talk.ask("open('a/b/c/f').read(), os.stat('a/b/c/f').st_size, sorted(os.listdir('a/b/c'))");
        assert_eq!(
            talk.ask(&format!(
                "open('{absolute}').read(), os.stat('{absolute}').st_size, sorted(os.listdir('a/b/c'))"
            )),
            first
        );
        first
    };
    assert_eq!(look(&mut talk), "('first', 5, ['f'])");
    assert_eq!(look(&mut talk), "('first', 5, ['f'])");
    // Another directory in its place, and a link to it.
    std::fs::rename(at("a/b"), at("a/old")).expect("moved");
    make("a/b/c", "another");
    assert_eq!(look(&mut talk), "('another', 7, ['f'])");
    std::fs::rename(at("a/b"), at("a/new")).expect("moved");
    std::os::unix::fs::symlink("old", at("a/b")).expect("a link");
    assert_eq!(look(&mut talk), "('first', 5, ['f'])");
    std::fs::remove_file(at("a/b")).expect("removed");
    std::os::unix::fs::symlink("/nowhere", at("a/b")).expect("a link");
    assert_eq!(look(&mut talk), "No such file or directory");
    std::fs::remove_file(at("a/b")).expect("removed");
    std::fs::write(at("a/b"), "").expect("a file");
    assert_eq!(look(&mut talk), "Not a directory");
    std::fs::remove_file(at("a/b")).expect("removed");
    assert_eq!(look(&mut talk), "No such file or directory");
    std::fs::rename(at("a/old"), at("a/b")).expect("moved");
    assert_eq!(look(&mut talk), "('first', 5, ['f'])");
    // A whole tree higher up, with a file of the same name.
    std::fs::rename(at("a"), at("z")).expect("moved");
    assert_eq!(look(&mut talk), "No such file or directory");
    make("a/b/c", "third one");
    assert_eq!(look(&mut talk), "('third one', 9, ['f'])");
    open_to_all("a/b");
    assert_eq!(talk.ask("os.mkdir('a/b/c/made'), sorted(os.listdir('a/b/c'))"), "(None, ['f', 'made'])");
    assert!(at("a/b/c/made").is_dir() && !at("z/b/c/made").exists());
}
