//! A container as the kernel and the supervisor see it: process 1, owners and set-ID bits of its tree, processes that enter, with
//! files and with a terminal of their own.
//!
//! The launch forks, so that this program must have one thread: it has a `main` of its own.

use boundary::boot::{BootOptions, MountKind, MountSpec};
use boundary::control::Standard;
use boundary::process::{Capabilities, Process};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, listen,
    recv, sendmsg, socket,
};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use runtime::attach::{self, Files};
use runtime::entrance::{Entrance, Reply, Request};
use runtime::launch;
use runtime::supervisor::{self, End};
use runtime::terminal;
use runtime::view::{HostPath, View};
use std::fs;
use std::io::{IoSlice, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const BUSYBOX: &str = "/bin/busybox";

fn main() {
    if !Path::new(BUSYBOX).exists() {
        eprintln!("container: {BUSYBOX} is not installed (ci/setup does it): nothing was tested");
        std::process::exit(1);
    }
    let cases: &[(&str, fn())] = &[
        ("the_first_process_is_number_1_and_adopts_orphans", first),
        ("process_1_is_not_ended_by_what_it_does_not_handle", unkillable),
        ("owners_and_set_id_bits_reach_the_tree", owners),
        ("mounts_are_masked_and_made_read_only", masked),
        ("capabilities_umask_and_limits_are_as_given", identity),
        ("processes_enter_with_files", entering),
        ("what_cannot_enter_says_why", not_entering),
        ("what_comes_with_an_unreadable_process_is_let_go_of", unreadable),
        ("a_process_enters_with_a_terminal", entering_with_terminal),
        ("signals_reach_whom_they_are_for", signals),
    ];
    for (name, case) in cases {
        eprintln!("test {name} ...");
        case();
    }
}

fn process(argv: &[&str]) -> Process {
    let bytes = |text: &str| text.as_bytes().to_vec();
    Process {
        argv: argv.iter().map(|text| bytes(text)).collect(),
        program: bytes(argv[0]),
        env: vec![bytes("PATH=/bin")],
        cwd: bytes("/"),
        umask: 0o022,
        ..Process::default()
    }
}

fn shell(script: &str) -> Process {
    process(&["sh", "-c", script])
}

/// A container that runs in a process of its own, with this one as its client.
struct Container {
    directory: tempfile::TempDir,
    monitor: nix::unistd::Pid,
    output: std::io::PipeReader,
}

impl Container {
    fn start(first: Process, mounts: Vec<MountSpec>) -> Container {
        let directory = tempfile::Builder::new().prefix("container-").tempdir().expect("a directory");
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("bin")).expect("a directory");
        for name in ["sh", "busybox"] {
            fs::copy(BUSYBOX, root.join("bin").join(name)).expect("a copy");
        }
        let (output, writer) = std::io::pipe().expect("a pipe");
        let (ready, mut started) = std::io::pipe().expect("a pipe");
        // SAFETY: this program has one thread.
        match unsafe { fork() }.expect("forks") {
            ForkResult::Child => {
                drop((output, ready));
                nix::unistd::dup2_stdout(&writer).expect("a descriptor");
                drop(writer);
                let on_start = move || drop(started.write_all(b"s"));
                let code = monitor(directory.path(), &root, first, mounts, on_start);
                std::process::exit(i32::from(code));
            }
            ForkResult::Parent { child } => {
                drop((writer, started));
                let mut byte = [0];
                let mut ready = ready;
                ready.read_exact(&mut byte).expect("the first process starts");
                Container { directory, monitor: child, output }
            }
        }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn entrance(&self) -> PathBuf {
        self.directory.path().join("entrance")
    }

    /// Waits for its end: the exit code and what the first process has written.
    fn finish(mut self) -> (i32, String) {
        let mut text = String::new();
        self.output.read_to_string(&mut text).expect("text");
        match waitpid(self.monitor, None).expect("a child") {
            WaitStatus::Exited(_, code) => (code, text),
            other => panic!("{other:?}"),
        }
    }

    /// Lets a process enter: how it ended, and what it has written.
    fn enter(&self, process: &Process, input: Option<&str>) -> (End, String) {
        let (mut output, writer) = std::io::pipe().expect("a pipe");
        let (reader, mut to) = std::io::pipe().expect("a pipe");
        let standard = [Some(reader.as_fd()), Some(writer.as_fd()), Some(writer.as_fd())];
        let attached =
            attach::enter(&self.entrance(), None, process, Files::Standard(standard)).expect("enters");
        drop((reader, writer));
        to.write_all(input.unwrap_or_default().as_bytes()).expect("written");
        drop(to);
        let mut text = String::new();
        // Ends when nobody inside has the pipe any more.
        output.read_to_string(&mut text).expect("text");
        (attached.watch(&nix::sys::signal::SigSet::empty(), None).expect("watched"), text)
    }
}

fn monitor(
    directory: &Path,
    root: &Path,
    first: Process,
    mounts: Vec<MountSpec>,
    started: impl FnOnce() + 'static,
) -> u8 {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).expect("a socket");
    bind(listener.as_raw_fd(), &UnixAddr::new(&directory.join("entrance")).expect("a name")).expect("bound");
    listen(&listener, Backlog::MAXCONN).expect("listens");
    let signals = supervisor::block_signals(false).expect("signals");
    let path = root.strip_prefix("/").expect("absolute").as_os_str().as_bytes().to_vec();
    let host = |kind| MountSpec { target: b"/".to_vec(), kind, read_only: false, flags: 0 };
    let at = |target: &str, kind| MountSpec {
        target: target.as_bytes().to_vec(),
        kind,
        read_only: false,
        flags: 0,
    };
    let mut all = vec![
        host(MountKind::Host { path, shared: false }),
        at("/proc", MountKind::Proc),
        at("/dev", MountKind::Dev),
        at("/dev/pts", MountKind::DevPts),
    ];
    all.extend(mounts);
    let host_paths = vec![HostPath { path: root.into(), writable: true, granted: true }];
    let request = launch::Request {
        image: launch::IMAGE,
        allow_missing: Vec::new(),
        walls: launch::Walls::Namespaces,
        first,
        identity: launch::container(),
        oom_score_adj: 0,
        hostname: "container".into(),
        domainname: String::new(),
        view: View { mounts: all, host_paths, granted: true, pod: None },
        options: BootOptions {
            log_level: 1,
            memory_limit: 1 << 30,
            pids_limit: 100,
            container: true,
            host_pids: false,
            held: false,
            sysctls: Vec::new(),
            changes_with_data: false,
            host_xattrs: true,
            kernel_guard: false,
            patch_calls: true,
            terminal_size: [24, 80, 0, 0],
            host_loopback: false,
        },
        memory: None,
        log: Some(nix::unistd::dup(std::io::stderr()).expect("a descriptor")),
        strace: None,
        stats: None,
        changes: None,
        terminal: None,
        broker: None,
        stack: None,
    };
    let launched = launch::launch(request).expect("the launch succeeds");
    match supervisor::watch(launched, &signals, None, Some(Entrance::new(listener, started))) {
        Ok(End::Exited(code)) => code,
        Ok(End::Signalled(signal)) => 128 + signal,
        other => panic!("{other:?}"),
    }
}

fn run(script: &str) -> (i32, String) {
    Container::start(shell(script), Vec::new()).finish()
}

fn first() {
    // The inner shell ends before its child, which process 1 then waits for.
    let script = "echo $$ $PPID; sh -c '(sleep 0.2; exit 5) & echo $!' > /pid; read orphan < /pid; \
                  sleep 0.1; grep PPid /proc/$orphan/status; sleep 0.3; ls -d /proc/$orphan 2>&1; exit 7";
    let (code, text) = run(script);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((code, &lines[..2]), (7, &["1 0", "PPid:\t1"][..]), "{text}");
}

fn unkillable() {
    let (code, text) = run(
        "kill -TERM 1; kill -KILL 1; sh -c 'kill -KILL 1; kill -STOP 1'; busybox ps -o pid,comm | head -2; echo alive; \
                            trap 'echo caught; exit 3' USR1; kill -USR1 1; sleep 5",
    );
    assert_eq!((code, text.as_str()), (3, "PID   COMMAND\n    1 sh\nalive\ncaught\n"));
    let container = Container::start(shell("echo up; while :; do sleep 1; done"), Vec::new());
    attach::signal(&container.entrance(), None, libc::SIGTERM, false).expect("sent");
    assert_eq!(container.enter(&shell("echo $PPID; ls -d /proc/1"), None).1, "0\n/proc/1\n");
    attach::signal(&container.entrance(), None, libc::SIGKILL, false).expect("sent");
    assert_eq!(container.finish().0, 128 + libc::SIGKILL);
}

fn owners() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let container = waiting();
    let script = "echo x > /f; chown 1234:567 /f; chmod 6755 /f; mkdir /d; chown 99:98 /d; stat -c '%u:%g %a' /f /d; \
                  chmod 4755 /bin/sh; ls -ln /bin/sh | cut -c1-10";
    assert_eq!(container.enter(&shell(script), None).1, "1234:567 6755\n99:98 755\n-rwsr-xr-x\n");
    let root = container.root();
    let seen = |name: &str| {
        let now = fs::metadata(root.join(name)).expect("made");
        (now.uid(), now.gid(), now.permissions().mode() & 0o7777)
    };
    let mut user = shell("id -u; touch /d/mine || echo refused; chmod 0755 /f || echo refused; cat /f");
    user.uid = 4321;
    assert_eq!(
        container.enter(&user, None).1.replace("touch: /d/mine: Permission denied\n", ""),
        "4321\nrefused\nchmod: /f: Operation not permitted\nrefused\nx\n"
    );
    user.uid = 99;
    user.gid = 98;
    assert_eq!(
        container
            .enter(&Process { argv: shell("touch /d/mine; stat -c %u:%g /d/mine").argv, ..user }, None)
            .1,
        "99:98\n"
    );
    assert_eq!(
        (seen("f"), seen("d"), seen("d/mine")),
        ((1234, 567, 0o6755), (99, 98, 0o755), (99, 98, 0o644))
    );
    ended(container);
}

fn masked() {
    let at = |target: &str, kind, read_only| MountSpec {
        target: target.as_bytes().to_vec(),
        kind,
        read_only,
        flags: 0,
    };
    let no_exec = MountSpec {
        target: b"/scratch".to_vec(),
        kind: MountKind::Tmpfs { size: 16 << 20, mode: 0o1777 },
        read_only: false,
        flags: libc::MS_NOEXEC as u32,
    };
    let mounts = vec![
        at("/proc/cpuinfo", MountKind::Masked, false),
        at("/proc/acpi", MountKind::Masked, false),
        at("/bin", MountKind::Again, true),
        at("/proc/sys", MountKind::Again, true),
        no_exec,
    ];
    let script = "wc -c < /proc/cpuinfo; ls /proc/acpi >/dev/null 2>&1 || echo none; (: > /bin/x) 2>&1; busybox echo y; \
                  (echo x > /proc/sys/kernel/hostname) 2>&1; cp /bin/busybox /scratch; /scratch/busybox true 2>&1; echo $?";
    let (code, text) = Container::start(shell(script), mounts).finish();
    let wanted = "0\nnone\nsh: can't create /bin/x: Read-only file system\ny\n\
                  sh: can't create /proc/sys/kernel/hostname: Read-only file system\nsh: /scratch/busybox: Permission denied\n126\n";
    assert_eq!((code, text.replace("line 0: ", "").as_str()), (0, wanted));
}

fn identity() {
    let mut first = shell(
        "umask; ulimit -n; grep Cap /proc/self/status; grep NoNew /proc/self/status; cat /proc/self/oom_score_adj; pwd",
    );
    let sets = Capabilities { bounding: 0x3, effective: 0x3, permitted: 0x3, ..Capabilities::default() };
    first.capabilities = Some(sets);
    first.umask = 0o077;
    first.no_new_privs = true;
    first.oom_score_adj = 42;
    first.cwd = b"/new/dir".to_vec();
    first.rlimits = vec![(u64::MAX, u64::MAX); 16];
    first.rlimits[libc::RLIMIT_NOFILE as usize] = (123, 456);
    let (code, text) = Container::start(first, Vec::new()).finish();
    let caps = "CapInh:\t0000000000000000\nCapPrm:\t0000000000000003\nCapEff:\t0000000000000003\nCapBnd:\t0000000000000003\nCapAmb:\t0000000000000000\n";
    assert_eq!((code, text), (0, format!("0077\n123\n{caps}NoNewPrivs:\t1\n42\n/new/dir\n")));
}

fn waiting() -> Container {
    let container =
        Container::start(shell("trap 'exit 0' TERM; : > /up; while :; do sleep 0.05; done"), Vec::new());
    // Process 1 gets no signal before it has asked for it.
    let up = container.root().join("up");
    wait_until(|| up.exists(), "the first process's word");
    container
}

fn ended(container: Container) {
    attach::signal(&container.entrance(), None, libc::SIGTERM, false).expect("sent");
    assert_eq!(container.finish().0, 0);
}

fn entering() {
    let container = waiting();
    for round in 0..20 {
        let script = format!("read line; echo $line; echo {round} >&2; exit 4");
        assert_eq!(
            container.enter(&shell(&script), Some("hello\n")),
            (End::Exited(4), format!("hello\n{round}\n"))
        );
    }
    assert_eq!(container.enter(&shell("kill -SEGV $$"), None).0, End::Signalled(11));
    // What it leaves behind has no hold on the client.
    assert_eq!(
        container.enter(&shell("sleep 0.2 > /dev/null 2>&1 < /dev/null & echo gone"), None).1,
        "gone\n"
    );
    // What runs is seen from outside by its name.
    let devnull = fs::File::open("/dev/null").expect("opens");
    let standard = [Some(devnull.as_fd()); 3];
    let sleeping = process(&["busybox", "sleep", "100"]);
    let attached =
        attach::enter(&container.entrance(), None, &sleeping, Files::Standard(standard)).expect("enters");
    assert_eq!(attached.started().expect("a word"), Ok(()));
    assert!(names_below(container.monitor).contains(&"busybox".to_owned()));
    drop(attached);
    ended(container);
}

/// Names of a process's descendants.
fn names_below(process: nix::unistd::Pid) -> Vec<String> {
    let read = |file: String| fs::read_to_string(file).unwrap_or_default();
    let mut waiting = vec![process.to_string()];
    let mut names = Vec::new();
    while let Some(id) = waiting.pop() {
        names.push(read(format!("/proc/{id}/comm")).trim_end().to_owned());
        let children = read(format!("/proc/{id}/task/{id}/children"));
        waiting.extend(children.split_whitespace().map(str::to_owned));
    }
    names
}

fn not_entering() {
    let container = waiting();
    let (end, _) = container.enter(&process(&["nothing-of-this-name"]), None);
    assert_eq!(end, End::NotExecuted(libc::ENOENT, "nothing-of-this-name".into()));
    let nowhere = Process { cwd: b"/nowhere".to_vec(), ..shell("true") };
    assert_eq!(
        container.enter(&nowhere, None).0,
        End::NotExecuted(libc::ENOENT, "working directory /nowhere".into())
    );
    let (end, _) = container.enter(&process(&["/proc/version"]), None);
    assert_eq!(end, End::NotExecuted(libc::EACCES, "/proc/version".into()));
    ended(container);
}

fn entering_with_terminal() {
    let container = waiting();
    let (outside, inside) = terminal::socket().expect("a socket");
    let script = shell("tty; stty size; read line; echo got $line; exit 6");
    let attached =
        attach::enter(&container.entrance(), None, &script, Files::Terminal(inside)).expect("enters");
    assert_eq!(attached.started().expect("a word"), Ok(()));
    let mut typed = std::fs::File::from(outside);
    let mut text = String::new();
    expect(&mut typed, &mut text, "\n24 80\r\n");
    typed.write_all(b"typed\n").expect("written");
    expect(&mut typed, &mut text, "got typed\r\n");
    assert_eq!(attached.watch(&nix::sys::signal::SigSet::empty(), None).expect("watched"), End::Exited(6));
    let mut rest = [0; 8];
    wait_until(|| matches!(typed.read(&mut rest), Ok(0)), "the terminal's end");
    ended(container);
}

fn wait_until(mut done: impl FnMut() -> bool, what: &str) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn expect(from: &mut impl Read, text: &mut String, wanted: &str) {
    let mut piece = [0; 256];
    wait_until(
        || {
            if let Ok(count) = from.read(&mut piece) {
                text.push_str(&String::from_utf8_lossy(&piece[..count]));
            }
            text.contains(wanted)
        },
        wanted,
    );
}

fn signals() {
    let container = waiting();
    let (mut output, writer): (_, PipeWriter) = std::io::pipe().expect("a pipe");
    let script = shell("trap 'echo all; exit 9' USR2; echo ready; while :; do sleep 0.05; done");
    let standard = [None, Some(writer.as_fd()), Some(writer.as_fd())];
    let attached =
        attach::enter(&container.entrance(), None, &script, Files::Standard(standard)).expect("enters");
    drop(writer);
    let mut text = [0; 6];
    output.read_exact(&mut text).expect("a word");
    attach::signal(&container.entrance(), None, libc::SIGUSR2, true).expect("sent");
    // It has no action for that in process 1, which stays.
    assert_eq!(attached.watch(&nix::sys::signal::SigSet::empty(), None).expect("watched"), End::Exited(9));
    // The end of a client is the end of its process.
    let mark = shell("echo $$ > /mark; sleep 100");
    let devnull = fs::File::open("/dev/null").expect("opens");
    let standard = [Some(devnull.as_fd()); 3];
    let attached =
        attach::enter(&container.entrance(), None, &mark, Files::Standard(standard)).expect("enters");
    let file = container.root().join("mark");
    wait_until(|| fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n')), "the mark");
    drop(attached);
    let script = shell(
        "read id < /mark; for i in 1 2 3 4 5 6 7 8 9; do [ -d /proc/$id ] || break; sleep 0.1; done; ls -d /proc/$id 2>&1",
    );
    wait_until(|| container.enter(&script, None).1.contains("No such file"), "the end of the process");
    ended(container);
}

/// What came with a process that cannot be read is let go of: who waits outside for the end of its output is not kept waiting.
fn unreadable() {
    let container = waiting();
    let (output, writer) = std::io::pipe().expect("a pipe");
    let file = memfd_create(c"process", MFdFlags::MFD_CLOEXEC).expect("a file");
    fs::File::from(file.try_clone().expect("a descriptor")).write_all(&[0xff; 16]).expect("written");
    let standard = Standard::Files { flags: [None, Some(libc::O_WRONLY as u32), None] };
    let request =
        postcard::to_allocvec(&Request::Enter { length: 16, standard, container: None }).expect("encoded");
    let client =
        socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    connect(client.as_raw_fd(), &UnixAddr::new(&container.entrance()).expect("a name")).expect("connects");
    let descriptors = [file.as_raw_fd(), writer.as_raw_fd()];
    let with = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<UnixAddr>(client.as_raw_fd(), &[IoSlice::new(&request)], &with, MsgFlags::empty(), None)
        .expect("sent");
    drop(writer);
    let mut reply = [0u8; 1024];
    let length = recv(client.as_raw_fd(), &mut reply, MsgFlags::empty()).expect("a reply");
    let reply: Reply = postcard::from_bytes(&reply[..length]).expect("decoded");
    assert!(matches!(reply, Reply::NotExecuted { errno: libc::EINVAL, .. }), "{reply:?}");
    let mut ends = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
    poll(&mut ends, PollTimeout::from(60_000u16)).expect("polls");
    assert_eq!(ends[0].revents(), Some(PollFlags::POLLHUP), "somebody inside has the pipe still");
    ended(container);
}
