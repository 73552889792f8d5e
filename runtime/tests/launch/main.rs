//! Launches a small image instead of the kernel's, which says from inside what it finds: identity, capabilities, descriptors,
//! the tree, and what the supervisor makes of its messages.
//!
//! The launch forks and goes on in the child without exec, so that its program must have one thread: this test has a `main` of
//! its own. Run by root it does everything a second time as an ordinary user.

use boundary::boot::BootOptions;
use boundary::process::Process;
use runtime::filter;
use runtime::launch::{self, LaunchError};
use runtime::supervisor::{self, End};
use runtime::view::{Asked, Grant, Request, View};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Some user that owns nothing.
const USER: u32 = 54321;

fn main() {
    if std::env::var_os(IGNORED).is_some() {
        return started_with_ignored_signals();
    }
    // Blocked before anything is launched, as the command does.
    let signals = supervisor::block_signals(false).expect("signals can be blocked");
    let place = std::env::var_os("LAUNCH_TEST_PLACE").map(PathBuf::from);
    let as_root = nix::unistd::geteuid().is_root();
    let scratch = tempfile::Builder::new().prefix("launch-").tempdir().expect("a directory");
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let image = match &place {
        Some(file) => file.clone(),
        None => compile(scratch.path()),
    };
    let bytes: &'static [u8] = fs::read(&image).expect("the image").leak();
    let test = Test { image: bytes, signals, scratch: scratch.path().into() };
    let cases: &[Case] = &[
        ("the_warden_has_no_privilege_and_no_descriptor_too_many", privileges),
        ("the_tree_holds_what_was_granted_and_no_secret", tree),
        ("a_grant_of_the_root_shows_no_secret_and_no_proc", everything),
        ("landlock_refuses_what_the_namespaces_would_allow", landlock),
        ("the_host_takes_the_filter_and_acts_on_it", host_filter),
        ("the_sandbox_ends_with_its_supervisor", orphan),
        ("nothing_is_writable_but_a_writable_grant", writing),
        ("a_private_directory_of_the_caller_can_be_granted", private_directory),
        ("the_programs_exit_code_comes_out", exit_code),
        ("a_warden_that_ends_without_a_word_is_reported", silent_end),
        ("hostile_messages_end_the_sandbox", hostile_messages),
        ("a_warden_that_closes_its_socket_and_goes_on_is_killed", hiding),
        ("a_request_to_end_that_is_not_taken_ends_the_sandbox", deaf),
        ("a_signal_that_the_caller_ignores_is_not_passed_in", ignored),
        ("what_cannot_be_laid_out_is_said", launch_failure),
    ];
    for (name, case) in cases {
        eprintln!("test {name} as {} ...", if as_root { "root" } else { "an ordinary user" });
        case(&test);
    }
    if as_root {
        // /proc/self/exe can be executed even where the build directory is out of the user's reach.
        let mut user = Command::new("/proc/self/exe");
        user.uid(USER)
            .gid(USER)
            .env("LAUNCH_TEST_PLACE", &image)
            .env("HOME", "/nonexistent")
            .current_dir("/");
        assert!(user.status().expect("runs").success(), "the cases fail for an ordinary user");
    }
}

/// What it says, and the test of it.
type Case = (&'static str, fn(&Test));

struct Test {
    image: &'static [u8],
    signals: nix::sys::signal::SigSet,
    scratch: PathBuf,
}

fn compile(directory: &Path) -> PathBuf {
    let image = directory.join("image");
    let flags = [
        "-O1",
        "-nostdlib",
        "-static-pie",
        "-fPIE",
        "-ffreestanding",
        "-fno-stack-protector",
        "-fcf-protection=none",
    ];
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/launch/image.c");
    let mut cc = Command::new("cc");
    cc.args(flags)
        .args(["-Wl,-z,max-page-size=4096", "-Wl,-z,separate-code", "-Wl,-z,noexecstack", "-o"])
        .arg(&image)
        .arg(source);
    assert!(
        cc.status().expect("a C compiler, which Rust needs too").success(),
        "the test's image does not build"
    );
    image
}

impl Test {
    fn directory(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.scratch.join(name);
        fs::create_dir_all(&path).expect("a directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
        path
    }

    fn launch(&self, request: &Request, commands: &[String]) -> Result<launch::Launched, LaunchError> {
        launch::launch(launch::Request {
            image: self.image,
            allow_missing: Vec::new(),
            walls: launch::Walls::Namespaces,
            first: Process {
                argv: commands.iter().map(|command| command.clone().into_bytes()).collect(),
                program: b"/test".to_vec(),
                cwd: b"/".to_vec(),
                ..Process::default()
            },
            identity: launch::caller(),
            oom_score_adj: 500,
            hostname: "test".into(),
            domainname: String::new(),
            view: View::new(request),
            options: BootOptions {
                log_level: 0,
                memory_limit: 1 << 30,
                pids_limit: 100,
                container: false,
                held: false,
                sysctls: Vec::new(),
                changes_with_data: false,
                host_xattrs: false,
                kernel_guard: false,
                patch_calls: false,
                terminal_size: [24, 80, 0, 0],
                host_loopback: false,
                host_pids: false,
            },
            memory: None,
            log: None,
            strace: None,
            stats: None,
            changes: None,
            terminal: None,
            broker: None,
            stack: None,
        })
    }

    /// Runs the commands inside; how the sandbox ended, and the answers.
    fn run(&self, request: &Request, commands: &[String]) -> (End, Vec<String>) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let stdout = nix::unistd::dup(std::io::stdout()).expect("a descriptor");
        nix::unistd::dup2_stdout(&writer).expect("a descriptor");
        let launched = self.launch(request, commands);
        nix::unistd::dup2_stdout(&stdout).expect("a descriptor");
        drop((writer, stdout));
        let end = supervisor::watch(launched.expect("the launch succeeds"), &self.signals, None, None)
            .expect("the sandbox is watched");
        let mut text = String::new();
        let mut reader = reader;
        reader.read_to_string(&mut text).expect("the image writes text");
        (
            end,
            text.lines()
                .map(|line| line.split_once('=').map_or(line, |(_, answer)| answer).to_owned())
                .collect(),
        )
    }

    fn ask(&self, request: &Request, commands: &[&str]) -> Vec<String> {
        let commands: Vec<String> = commands.iter().map(|command| (*command).to_owned()).collect();
        self.run(request, &commands).1
    }
}

fn nothing() -> Request {
    Request { workdir: "/".into(), ..Request::default() }
}

fn privileges(test: &Test) {
    let identity = launch::caller();
    let questions = [
        ("uid", identity.host_uid.to_string()),
        ("gid", identity.host_gid.to_string()),
        ("pid", "1".into()),
        ("session", "1".into()),
        ("umask", "0".into()),
        ("capabilities", "0".into()),
        ("no-new-privs", "1".into()),
        ("securebits", 0xe3.to_string()),
        ("death-signal", libc::SIGKILL.to_string()),
        ("mask", "0".into()),
        ("handlers", "0".into()),
        // Standard input, output and error; root, control socket, heap, frames.
        ("descriptors", "7".into()),
    ];
    let answers = test.ask(&nothing(), &questions.each_ref().map(|(question, _)| *question));
    for ((question, wanted), answer) in questions.iter().zip(&answers) {
        assert_eq!(answer, wanted, "{question}");
    }
    assert_ne!(identity.host_uid, 0);
}

fn tree(test: &Test) {
    let workdir = test.directory("tree", 0o755);
    fs::write(workdir.join("file"), "some text").expect("a file");
    let inside = workdir.join("file");
    let size = format!("size {}", inside.display());
    let request = Request { workdir, ..Request::default() };
    let answers = test
        .ask(&request, &["list /", &size, "list /tmp", "size /etc/shadow", "list /proc", "size /etc/passwd"]);
    let root: Vec<&str> = answers[0].split_whitespace().collect();
    assert!(root.contains(&"usr") && root.contains(&"etc"), "{root:?}");
    for absent in ["proc", "sys", "dev", "home", "root", "boot", "var", "old"] {
        assert!(!root.contains(&absent), "{absent} is in the host tree: {root:?}");
    }
    assert_eq!(answers[1], "9");
    let name = test.scratch.file_name().expect("a name").to_string_lossy();
    assert_eq!(answers[2].trim(), name, "only the way to the granted directory is in /tmp");
    let host_has_shadow = Path::new("/etc/shadow").exists();
    assert_eq!(
        answers[3],
        if host_has_shadow { "0" } else { "-2" },
        "/etc/shadow is covered by an empty file"
    );
    assert_eq!(answers[4], "-2");
    assert!(answers[5].parse::<i32>().is_ok_and(|size| size > 0), "/etc/passwd is shown");
}

fn everything(test: &Test) {
    let grant = Grant { source: "/".into(), target: "/".into(), writable: false };
    let request = Request { asked: vec![Asked::Host(grant)], workdir: "/".into(), ..Request::default() };
    let answers = test.ask(
        &request,
        &["list /", "list /proc", "list /sys", "list /dev", "size /etc/shadow", "create /tmp/new"],
    );
    assert!(answers[0].split_whitespace().any(|name| name == "home"), "{answers:?}");
    assert_eq!(&answers[1..4], ["", "", ""], "nothing of the kernel's own directories");
    assert!(["0", "-2"].contains(&&*answers[4]), "{answers:?}");
    assert!(answers[5].starts_with('-'), "{answers:?}");
}

/// The image runs without the filter here: a TCP bind in the sandbox's own network namespace is what Landlock alone refuses.
fn landlock(test: &Test) {
    const VERSION: u32 = 1;
    // SAFETY: asks for the version, and reads no memory.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, VERSION) };
    let wanted = if abi >= 4 { (-libc::EACCES).to_string() } else { "0".into() };
    assert_eq!(test.ask(&nothing(), &["bind"]), [wanted], "the host's Landlock is {abi}");
}

/// Installs a filter in a child and makes calls from its gadget and from elsewhere.
fn host_filter(_: &Test) {
    const GADGET: u64 = 0x2345_0000_0000;
    // SAFETY: a fresh page, shared with the child, which notes how far it came.
    let progress = unsafe {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(page, libc::MAP_FAILED);
        std::sync::atomic::AtomicI64::from_ptr(page.cast())
    };
    let status = in_child(|| {
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: a fresh page; the code is `syscall; ret` behind moves of the arguments to where system calls have them.
        unsafe {
            let page = libc::mmap(GADGET as *mut _, 4096, protection, flags, -1, 0).cast::<[u8; 9]>();
            // mov eax, edi; mov edi, esi; mov esi, edx; syscall; ret
            page.write([0x89, 0xf8, 0x89, 0xf7, 0x89, 0xd6, 0x0f, 0x05, 0xc3]);
            let call: extern "C" fn(u32, u32, u32) -> i64 = std::mem::transmute(page);
            let allowlist = filter::allowlist(&Default::default()).expect("compiles");
            let program = filter::guarded(allowlist, (GADGET, GADGET + 4096), 0).expect("is guarded");
            let description =
                libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr() as *mut _ };
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            if libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &description) != 0 {
                return;
            }
            progress.store(call(libc::SYS_getpid as u32, 0, 0), Ordering::Relaxed);
            // Not in the table: the end.
            call(libc::SYS_getppid as u32, 0, 0);
            progress.store(-1, Ordering::Relaxed);
        }
    });
    assert_eq!(
        status,
        libc::SIGSYS,
        "a call from the gadget is allowed by the table, and one that is not in it kills"
    );
}

/// Runs something in a child that then exits with 0; its wait status.
fn in_child(what: impl FnOnce()) -> libc::c_int {
    // SAFETY: this program has one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // No core file, no report of a signal.
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0)
            .expect("a lower limit");
        what();
        std::process::exit(0);
    }
    let mut status = 0;
    // SAFETY: our own child.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    status & 0x7f
}

fn orphan(test: &Test) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    in_child(|| {
        nix::unistd::dup2_stdout(&writer).expect("a descriptor");
        let _launched = test.launch(&nothing(), &["stay".into()]).expect("the launch succeeds");
        // The supervisor is killed as the out-of-memory killer would.
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
    });
    drop(writer);
    let mut text = String::new();
    let mut reader = reader;
    // Ends when no process holds the writing end any more: it would last for ever if the warden did.
    reader.read_to_string(&mut text).expect("text");
}

fn writing(test: &Test) {
    let (workdir, granted) = (test.directory("read-only", 0o777), test.directory("granted", 0o755));
    let create = |path: &Path| format!("create {}", path.join("new").display());
    let remount = format!("remount {}", workdir.display());
    let commands =
        [create(&workdir), create(&granted), "create /new".into(), "create /usr/new".into(), remount];
    let grant = Grant { source: granted.clone(), target: granted.clone(), writable: true };
    let request = Request { asked: vec![Asked::Host(grant)], workdir: workdir.clone(), ..Request::default() };
    let answers = test.run(&request, &commands).1;
    let read_only = (-libc::EROFS).to_string();
    // Where the host has Landlock it is asked first.
    let refused = |answer: &String| *answer == read_only || *answer == (-libc::EACCES).to_string();
    assert!(refused(&answers[0]) && refused(&answers[2]) && refused(&answers[3]), "{answers:?}");
    assert_eq!(answers[1], "5", "a writable grant can be written to");
    assert_eq!(answers[4], (-libc::EPERM).to_string(), "nothing can be mounted");
    let made = fs::metadata(granted.join("new")).expect("the file is on the host");
    assert_eq!(made.uid(), nix::unistd::geteuid().as_raw(), "what is made in a grant belongs to the caller");
    assert!(!workdir.join("new").exists());
}

fn private_directory(test: &Test) {
    let private = test.directory("private", 0o700);
    let secret = private.join("key");
    fs::write(&secret, "12345").expect("a file");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("mode");
    let request = Request { workdir: private.clone(), ..Request::default() };
    let size = format!("size {}", secret.display());
    assert_eq!(
        test.ask(&request, &[&size]),
        ["5"],
        "the working directory can be read, whoever started the sandbox"
    );
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // An owner that is neither root nor nobody, and a file of yet another one below.
    chown(&private, Some(1234), Some(1234)).expect("root may");
    assert_eq!(test.ask(&request, &[&size]), [(-libc::EACCES).to_string()], "files of others stay closed");
    chown(&secret, Some(1234), Some(1234)).expect("root may");
    assert_eq!(test.ask(&request, &[&size]), ["5"]);
}

fn exit_code(test: &Test) {
    let (end, _) = test.run(&nothing(), &["exit".into()]);
    assert_eq!(end, End::Exited(7));
}

fn silent_end(test: &Test) {
    let (end, _) = test.run(&nothing(), &["uid".into()]);
    assert!(matches!(&end, End::Failed(report) if report.contains("status 3")), "{end:?}");
    let (end, _) = test.run(&nothing(), &["crash".into()]);
    assert!(matches!(&end, End::Failed(report) if report.contains("SIGSEGV")), "{end:?}");
}

fn hostile_messages(test: &Test) {
    for command in ["garbage", "flood"] {
        let (end, _) = test.run(&nothing(), &[command.into()]);
        assert!(matches!(&end, End::Failed(report) if report.contains("message")), "{command}: {end:?}");
    }
}

fn hiding(test: &Test) {
    let begin = Instant::now();
    let (end, _) = test.run(&nothing(), &["hide".into()]);
    assert!(matches!(&end, End::Failed(report) if report.contains("control socket")), "{end:?}");
    assert!(begin.elapsed() >= Duration::from_secs(1), "an orderly end needs a moment");
}

fn deaf(test: &Test) {
    // The signal waits until the sandbox is watched, and its message is never taken.
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).expect("a signal");
    let (end, _) = test.run(&nothing(), &["stay".into()]);
    assert_eq!(end, End::Signalled(libc::SIGTERM as u8));
}

/// Set for a process that is to say what it makes of the signals that it was started with as ignored ones.
const IGNORED: &str = "LAUNCH_TEST_IGNORED";

fn ignored(_: &Test) {
    let mut started = Command::new("/proc/self/exe");
    started.env(IGNORED, "1");
    // SAFETY: signal(2) may be called after a fork.
    unsafe {
        started.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            libc::signal(libc::SIGTERM, libc::SIG_DFL);
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            Ok(())
        })
    };
    assert!(started.status().expect("runs").success());
}

fn started_with_ignored_signals() {
    let taken = supervisor::block_signals(false).expect("signals can be blocked");
    assert!(!taken.contains(nix::sys::signal::Signal::SIGHUP), "as nohup(1) sets it");
    assert!(taken.contains(nix::sys::signal::Signal::SIGTERM));
    // SAFETY: asks for the disposition by setting one.
    let child = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    assert_eq!(child, libc::SIG_DFL, "or its end would not be told");
}

fn launch_failure(test: &Test) {
    let gone = test.scratch.join("gone");
    let grant = Grant { source: gone.clone(), target: gone.clone(), writable: false };
    let request = Request { asked: vec![Asked::Host(grant)], workdir: "/".into(), ..Request::default() };
    let error = test.launch(&request, &[]).err().expect("there is no such directory").to_string();
    assert!(error.contains("gone: cannot be granted: No such file"), "{error}");
    let broken = Test { image: b"no ELF", signals: test.signals, scratch: test.scratch.clone() };
    let error = broken.launch(&nothing(), &[]).err().expect("it is no image").to_string();
    assert!(error.contains("image") && error.contains("build it again"), "{error}");
}
