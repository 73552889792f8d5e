//! What a sandbox does when its program goes too far, when its user has had enough, and when the host takes a process away.

use conformance::{AT_ONCE, Outcome, run, sandbox_exec, scratch};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Forks until that fails; says how often it worked, and the error.
const BOMB: &str = "import os, signal, sys\n\
    count = 0\n\
    try:\n\
    \x20   while True:\n\
    \x20       if os.fork() == 0: signal.pause(); os._exit(0)\n\
    \x20       count += 1\n\
    except OSError as error: print(count, error.strerror, flush=True)\n\
    os.kill(os.getpid(), signal.SIGTERM)\n";

fn in_scratch(arguments: &[&str]) -> Outcome {
    let directory = scratch().expect("a directory");
    run(Command::new(sandbox_exec()).args(arguments).current_dir(directory.path()))
        .expect("sandbox-exec runs")
}

#[test]
fn a_fork_bomb_ends_in_eagain_at_the_ceiling_of_the_sandbox() {
    let outcome = in_scratch(&["--pids=100", "/usr/bin/python3", "-c", BOMB]);
    assert_eq!(outcome.stdout, "99 Resource temporarily unavailable\n", "{}", outcome.stderr);
}

#[test]
fn a_thread_bomb_ends_in_eagain_too() {
    let script = "import threading\n\
        stop, count = threading.Event(), 0\n\
        try:\n\
        \x20   while True: threading.Thread(target=stop.wait).start(); count += 1\n\
        except RuntimeError as error: print(count, error)\n\
        stop.set()\n";
    let outcome = in_scratch(&["--pids=100", "/usr/bin/python3", "-c", script]);
    assert_eq!(outcome.stdout, "99 can't start new thread\n", "{}", outcome.stderr);
}

#[test]
fn a_users_limit_of_processes_holds() {
    let script = format!(
        "import os, resource\n\
         if os.getuid() == 0: os.setgid(54321); os.setuid(54321)\n\
         resource.setrlimit(resource.RLIMIT_NPROC, (20, 20))\n{BOMB}"
    );
    let outcome = in_scratch(&["/usr/bin/python3", "-c", &script]);
    assert_eq!(outcome.stdout, "19 Resource temporarily unavailable\n", "{}", outcome.stderr);
}

#[test]
fn a_limit_of_descriptors_holds() {
    let script = "import os, resource\n\
        resource.setrlimit(resource.RLIMIT_NOFILE, (30, 40))\n\
        fds = []\n\
        try:\n\
        \x20   while True: fds.append(os.dup(0))\n\
        except OSError as error: print(max(fds), error.strerror)\n\
        for call in (lambda: os.dup2(0, 30), os.pipe, lambda: os.open('/', 0), lambda: os.memfd_create('x')):\n\
        \x20   try: print(call())\n\
        \x20   except OSError as error: print(error.strerror)\n";
    let outcome = in_scratch(&["/usr/bin/python3", "-c", script]);
    let expected = "29 Too many open files\nBad file descriptor\nToo many open files\nToo many open files\nToo many open files\n";
    assert_eq!(outcome.stdout, expected, "{}", outcome.stderr);
}

/// A sandbox that runs a shell script, and has said "ready".
fn ready(options: &[&str], script: &str) -> (tempfile::TempDir, Child) {
    let directory = scratch().expect("a directory");
    let mut command = Command::new(sandbox_exec());
    command.args(options).args(["--", "bash", "-c", script]).current_dir(directory.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("sandbox-exec runs");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("stdout")).read_line(&mut line).expect("a line");
    if line != "ready\n" {
        let outcome = child.wait_with_output().expect("its output");
        panic!("{line:?} of {script:?}: {}: {}", outcome.status, String::from_utf8_lossy(&outcome.stderr));
    }
    (directory, child)
}

fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().expect("kill runs").success());
}

/// Status, as a shell has it, and standard error of a sandbox that must end at once.
fn ends_at_once(mut child: Child) -> (i32, String) {
    let since = Instant::now();
    loop {
        if child.try_wait().expect("a status").is_some() {
            break;
        }
        if since.elapsed() > AT_ONCE {
            let _ = child.kill();
            panic!("the sandbox goes on");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let outcome = child.wait_with_output().expect("its output");
    let status = std::os::unix::process::ExitStatusExt::signal(&outcome.status).map(|signal| 128 + signal);
    let status = status.or(outcome.status.code()).unwrap_or(-1);
    (status, String::from_utf8_lossy(&outcome.stderr).into_owned())
}

#[test]
fn ctrl_c_ends_a_pipeline_and_a_fork_bomb_at_once() {
    let scripts = [
        "echo ready; sleep 100 | cat; sleep 100",
        // The first shell forks once, before the bomb leaves it no room: for a pipeline of its own it would fork twice, and give up.
        "bomb() { bomb | bomb & }; (bomb) 2>/dev/null & echo ready; exec sleep 100",
        "for i in {1..200}; do sleep 100 & done; echo ready; wait",
    ];
    for script in scripts {
        let (_directory, child) = ready(&["--pids=300"], script);
        std::thread::sleep(Duration::from_millis(300));
        kill("-INT", child.id());
        let (status, stderr) = ends_at_once(child);
        assert_eq!(status, 130, "{script}: {stderr}");
    }
}

#[test]
fn two_requests_in_a_row_end_what_does_not_listen() {
    let (_directory, child) = ready(&[], "trap '' INT TERM; echo ready; while :; do sleep 100; done");
    for signal in ["-TERM", "-TERM"] {
        std::thread::sleep(Duration::from_millis(100));
        kill(signal, child.id());
    }
    assert_eq!(ends_at_once(child).0, 143);
}

/// Host processes below the warden: its children.
fn host_processes(supervisor: u32) -> Vec<u32> {
    let children = |of: u32| -> Vec<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
        let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        lists
            .flat_map(|list| {
                list.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect::<Vec<_>>()
            })
            .collect()
    };
    children(supervisor).into_iter().flat_map(children).collect()
}

/// They, as soon as they are so many, or as they are after a while: that of a process that has ended may take a moment longer.
fn settled_host_processes(supervisor: u32, count: usize) -> Vec<u32> {
    let since = Instant::now();
    loop {
        let processes = host_processes(supervisor);
        if processes.len() == count || since.elapsed() > AT_ONCE {
            return processes;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the host says of all of them that they are stopped.
fn are_stopped(processes: &[u32]) -> bool {
    processes.iter().all(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    })
}

/// As with Ctrl-Z and `fg`, with a frozen control group or a machine that was suspended: the host restarts what waits with a deadline.
#[test]
fn a_sandbox_that_the_host_stops_goes_on_afterwards() {
    let script = "sleep 1000 & /usr/bin/python3 -c 'import threading; threading.Event().wait(1000)' & \
        trap 'exit 7' TERM; sleep 0.5; echo ready; wait";
    let (_directory, child) = ready(&[], script);
    let processes = settled_host_processes(child.id(), 3);
    assert_eq!(processes.len(), 3, "the shell, sleep, Python");
    for _ in 0..3 {
        processes.iter().for_each(|&pid| kill("-STOP", pid));
        let since = Instant::now();
        while !are_stopped(&processes) {
            assert!(since.elapsed() < AT_ONCE, "they do not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
        processes.iter().for_each(|&pid| kill("-CONT", pid));
        std::thread::sleep(Duration::from_millis(100));
    }
    kill("-TERM", child.id());
    assert_eq!(ends_at_once(child), (7, String::new()));
}

#[test]
fn a_host_process_that_is_taken_away_ends_the_sandbox_with_a_report() {
    // Asleep in a call, in program code, with threads; any of the processes.
    let script = "sleep 100 & { while :; do :; done; } & \
        /usr/bin/python3 -c 'import threading, time; threading.Thread(target=time.sleep, args=(100,)).start()' & \
        sleep 0.5; echo ready; wait";
    for number in 0..4 {
        let (_directory, child) = ready(&[], script);
        let processes = settled_host_processes(child.id(), 4);
        assert_eq!(processes.len(), 4, "the shell, sleep, the loop, Python");
        kill("-KILL", processes[number]);
        let (status, stderr) = ends_at_once(child);
        assert_eq!(status, 125, "{stderr}");
        for part in ["a process of the sandbox was lost", "killed from outside", "threads"] {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
        let named = ["bash", "sleep", "bash", "python3"][number];
        assert!(stderr.contains(&format!("({named})")), "{named}: {stderr}");
        assert!(host_processes_are_gone(&processes), "processes are left");
    }
}

/// Whatever lock the process held: the warden notices, and nothing waits for ever.
#[test]
fn a_host_process_may_be_taken_away_at_any_moment() {
    let script = "echo ready; for i in 1 2 3; do { while :; do (:); /bin/true | cat; done; } & done; wait";
    for round in 0..25u64 {
        let (_directory, child) = ready(&[], script);
        std::thread::sleep(Duration::from_micros(20_000 + round * 7919 % 5000));
        // One that ends by itself meanwhile is no loss.
        let end = std::iter::repeat_with(|| host_processes(child.id())).take(200).find_map(|processes| {
            let index = (round as usize * 5 + 1) % processes.len().max(1);
            let _ = Command::new("kill")
                .args(["-KILL", &processes.get(index)?.to_string()])
                .stderr(Stdio::null())
                .status();
            std::thread::sleep(Duration::from_millis(20));
            host_processes(child.id()).is_empty().then_some(())
        });
        assert_eq!(end, Some(()), "the sandbox goes on");
        let (status, stderr) = ends_at_once(child);
        assert_eq!(status, 125, "{stderr}");
        assert!(stderr.contains("a process of the sandbox was lost"), "{stderr}");
        assert!(stderr.contains("killed from outside"), "{stderr}");
    }
}

fn host_processes_are_gone(processes: &[u32]) -> bool {
    !processes.iter().any(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists())
}

#[test]
fn the_wardens_death_ends_the_sandbox_too() {
    let (_directory, child) = ready(&[], "sleep 100 & echo ready; wait");
    let processes = host_processes(child.id());
    let warden =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).expect("children");
    kill("-KILL", warden.trim().parse().expect("one child"));
    let (status, stderr) = ends_at_once(child);
    assert_eq!(status, 125, "{stderr}");
    assert!(stderr.contains("the warden was killed from outside"), "{stderr}");
    assert!(host_processes_are_gone(&processes), "processes are left");
}
