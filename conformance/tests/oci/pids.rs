//! Process ids of a pod's containers: each has its own, unless it shares those of the sandbox or of another container. Natively the same is
//! pid namespaces of unshare(1).

use crate::bundle::{Bundle, wait_for};
use crate::is_root;
use crate::pods::{Pod, says};
use conformance::{Outcome, compile, run, scratch};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const OPTIONS: &[&str] = &["-O1", "-w", "-pthread", "-D_GNU_SOURCE", "-static"];

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// As the first process of a pid namespace, and with IPC objects that are nobody else's.
fn natively(argv: &[&str]) -> Outcome {
    let unshare = ["--pid", "--fork", "--mount-proc", "--ipc"];
    run(Command::new("unshare").args(unshare).args(argv)).expect("unshare runs")
}

/// Every capability, as a native run by root has.
fn able(config: &mut Value) {
    for set in config["process"]["capabilities"].as_object_mut().expect("capabilities").values_mut() {
        *set = json!([
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FOWNER",
            "CAP_IPC_LOCK",
            "CAP_IPC_OWNER",
            "CAP_KILL",
            "CAP_SETGID",
            "CAP_SETPCAP",
            "CAP_SETUID",
            "CAP_SYS_ADMIN",
            "CAP_SYS_NICE",
            "CAP_SYS_PTRACE",
            "CAP_SYS_RESOURCE"
        ]);
    }
    config["process"].as_object_mut().expect("a process").remove("rlimits");
}

/// With the process ids of another container.
fn sharing(with: &Bundle) -> impl FnOnce(&mut Value) {
    let path = format!("/proc/{}/ns/pid", with.pid());
    move |config| {
        let all = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        all.iter_mut().find(|one| one["type"] == "pid").expect("a pid namespace")["path"] = json!(path);
    }
}

/// Says which line is another.
fn same_lines(inside: &str, native: &str) {
    let both = inside.lines().zip(native.lines()).enumerate();
    if let Some((number, (inside, native))) = both.into_iter().find(|(_, (inside, native))| inside != native)
    {
        panic!("line {}: {inside:?}, natively {native:?}", number + 1);
    }
    assert_eq!(inside.lines().count(), native.lines().count(), "{inside}");
}

fn started(bundle: Bundle) -> Bundle {
    bundle.create();
    bundle.start();
    bundle
}

#[test]
fn the_first_process_of_a_container_sees_what_that_of_a_pid_namespace_does() {
    if !is_root() {
        return;
    }
    let pod = Pod::start();
    let bundle = pod.bundle("", |config| {
        able(config);
        config["process"]["args"] = json!(["/pid_space"]);
    });
    let binary = bundle.rootfs().join("pid_space");
    compile("gcc", OPTIONS, &program("pods/pid_space.c"), &binary).expect("compiled");
    let native = natively(&[&binary.to_string_lossy()]);
    assert_eq!(native.status, 7, "{}{}", native.stdout, native.stderr);
    // Beside another, whose numbers are the same.
    let other = pod.container("echo $$; while :; do sleep 0.05; done");
    says(&other, "1\n");
    let bundle = started(bundle);
    bundle.reaches("stopped");
    same_lines(&bundle.out(), &native.stdout);
    assert_eq!(other.status(), "running");
}

/// Programs of the differential suite that are about processes, with a shell as process 1.
const PROGRAMS: &[&str] = &[
    "crowds",
    "ends",
    "futexes",
    "job_control",
    "killed_parents",
    "mqueue",
    "proc_files",
    "process_vm",
    "processor_time",
    "ptrace_attach",
    "ptrace_calls",
    "ptrace_events",
    "pty_jobs",
    "remains",
    "retargeted",
    "scheduling",
    "sigio",
    "signals",
    "sysv_msg",
    "sysv_sem",
    "sysv_shm",
    "threads",
    "unix_messages",
];

#[test]
fn programs_see_the_same_with_process_ids_of_their_own() {
    if !is_root() {
        return;
    }
    let (pod, place) = (Pod::start(), scratch().expect("a directory"));
    let bundle = pod.bundle("while :; do sleep 0.05; done", |config| {
        able(config);
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        mounts.push(json!({
            "destination": "/programs", "type": "bind", "source": place.path(), "options": ["rbind", "ro"]
        }));
        mounts.push(json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" }));
    });
    let bundle = started(bundle);
    for name in PROGRAMS {
        let binary = place.path().join(name);
        compile("gcc", OPTIONS, &program(&format!("programs/{name}.c")), &binary).expect("compiled");
        let directory = scratch().expect("a directory");
        let (there, binary) = (directory.path().display(), binary.display());
        let native = natively(&["/bin/busybox", "sh", "-c", &format!("cd {there}; {binary}; exit $?")]);
        let script = format!("mkdir /tmp/{name}; cd /tmp/{name}; /programs/{name}; exit $?");
        let inside = bundle.call(&["exec", &bundle.id, "sh", "-c", &script]);
        let told = |outcome: &Outcome| (outcome.stdout.clone(), outcome.status);
        assert_eq!(told(&inside), told(&native), "{name}: {}", inside.stderr);
    }
}

#[test]
fn containers_with_process_ids_of_their_own_have_no_numbers_to_each_other() {
    if !is_root() {
        return;
    }
    let (pod, place) = (Pod::start(), scratch().expect("a directory"));
    let binary = place.path().join("pid_spaces");
    compile("gcc", OPTIONS, &program("pods/pid_spaces.c"), &binary).expect("compiled");
    let (binary, native) = (binary.display(), scratch().expect("a directory"));
    let both = format!(
        "cd {}; for i in server client; do unshare --pid --fork --mount-proc {binary} $i . > $i & done; wait",
        native.path().display()
    );
    let outcome = run(Command::new("unshare").args(["--ipc", "--net", "sh", "-c", &both])).expect("runs");
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let member = |role: &str| {
        let bundle = pod.bundle("", |config| {
            able(config);
            config["process"]["args"] = json!(["/volume/pid_spaces", role, "/volume"]);
            config["mounts"].as_array_mut().expect("mounts").push(json!({
                "destination": "/volume", "type": "bind", "source": place.path(), "options": ["rbind", "rw"]
            }));
        });
        started(bundle)
    };
    let roles = ["server", "client"].map(|role| (role, member(role)));
    for (role, bundle) in &roles {
        bundle.reaches("stopped");
        let expected = fs::read_to_string(native.path().join(role)).expect("readable");
        same_lines(&bundle.out(), &expected);
    }
}

#[test]
fn the_sandbox_sees_all_and_is_obeyed() {
    if !is_root() {
        return;
    }
    let pod = Pod::start();
    let member = pod.container(
        "sleep 4444 & sleep 5555 & trap 'echo USR1' USR1; echo ready; while :; do sleep 0.05; done",
    );
    says(&member, "ready");
    let sandbox = |script: &str| pod.sandbox.ok(&["exec", &pod.sandbox.id, "sh", "-c", script]);
    let numbers = sandbox("for i in /proc/[0-9]*; do grep -s ^NSpid $i/status; done; true");
    let first = numbers.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let number = words.next()?;
        (words.next() == Some("1")).then(|| number.to_owned())
    });
    let first = first.unwrap_or_else(|| panic!("{numbers}"));
    assert!(first.parse::<i32>().expect("a number") < 4_194_304, "{first}");
    // As of a child of its own, and unlike one of process 1's own, SIGKILL counts; SIGTERM has no handler, and the other one has.
    sandbox(&format!("kill {first}; kill -USR1 {first}; kill -HUP {first}"));
    says(&member, "USR1");
    assert_eq!(member.status(), "running");
    let links = sandbox(&format!("for i in self 1 {first}; do readlink /proc/$i/ns/pid; done"));
    let links: Vec<_> = links.lines().collect();
    assert!(links[0] == links[1] && links[1] != links[2], "{links:?}");
    assert_eq!(member.ok(&["exec", &member.id, "readlink", "/proc/self/ns/pid"]).trim(), links[2]);

    // What enters is in the container: it has a number there, nobody as parent, and process 1 takes no notice of what would end it.
    let entered = member.ok(&[
        "exec",
        &member.id,
        "sh",
        "-c",
        "echo $PPID; kill 1; kill -9 1; kill -STOP 1; kill -9 4194302 65537 2>&1; (sleep 6666 >/dev/null 2>&1 &); sleep 0.2; ps -o pid,ppid,args",
    ]);
    let lines: Vec<_> = entered.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines[0], ["0"], "{entered}");
    assert_eq!(entered.matches("No such process").count(), 2, "{entered}");
    let parent = |name: &str| {
        let line = lines
            .iter()
            .find(|words| words.ends_with(&["sleep", name]))
            .unwrap_or_else(|| panic!("{entered}"));
        assert!(line[0].parse::<i32>().expect("a number") < 300, "{entered}");
        line[1]
    };
    assert_eq!([parent("4444"), parent("5555"), parent("6666")], ["1", "1", "1"], "{entered}");
    assert!(!entered.contains("exit 5"), "the sandbox is seen: {entered}");
    assert_eq!(member.status(), "running");
    let inside = pod.inside();
    assert!(["4444", "5555", "6666"].iter().all(|sleep| inside.contains(sleep)), "{inside}");

    // Its end is that of all in it.
    sandbox(&format!("kill -9 {first}"));
    member.reaches("stopped");
    let inside = pod.inside();
    assert!(!["4444", "5555", "6666"].iter().any(|sleep| inside.contains(sleep)), "{inside}");
    assert_eq!(pod.sandbox.status(), "running");
}

#[test]
fn a_container_of_a_pod_shares_process_ids_if_it_is_asked_to() {
    if !is_root() {
        return;
    }
    let pod = Pod::start();
    let script = "echo $$; sleep 7777 & while :; do sleep 0.05; done";
    let sees_all = started(pod.bundle(script, sharing(&pod.sandbox)));
    let own = pod.container(script);
    says(&own, "1\n");
    let beside_own = started(pod.bundle(script, sharing(&own)));
    wait_for("their numbers", || beside_own.out().ends_with('\n') && sees_all.out().ends_with('\n'));
    for bundle in [&sees_all, &beside_own] {
        let number: i32 = bundle.out().trim().parse().expect("a number");
        assert!(number > 1 && number < 300, "{number}");
    }
    let sleepers =
        |bundle: &Bundle| bundle.ok(&["exec", &bundle.id, "ps", "-o", "args"]).matches("sleep 7777").count();
    wait_for("all sleep", || sleepers(&sees_all) >= 3);
    // The scripts are arguments, too.
    assert_eq!([&sees_all, &own, &beside_own].map(sleepers), [6, 4, 4]);
    let space = |bundle: &Bundle| bundle.ok(&["exec", &bundle.id, "readlink", "/proc/self/ns/pid"]);
    assert_eq!(space(&own), space(&beside_own));
    assert_eq!(space(&pod.sandbox), space(&sees_all));

    let wrong = pod.bundle("true", |config| {
        let all = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        all.iter_mut().find(|one| one["type"] == "pid").expect("a pid namespace")["path"] =
            json!(format!("/proc/{}/ns/pid", std::process::id()));
    });
    let message = wrong.fails(&["create", &wrong.id], 1);
    assert!(message.contains("pid namespace"), "{message}");

    // One that others are in ends with them.
    own.ok(&["kill", &own.id, "KILL"]);
    own.reaches("stopped");
    beside_own.reaches("stopped");
    assert_eq!(sleepers(&sees_all), 2);
    assert_eq!(sees_all.status(), "running");
}

/// Numbers of containers that are gone serve others.
#[test]
fn a_pod_has_as_many_containers_as_it_likes_one_after_the_other() {
    if !is_root() {
        return;
    }
    let pod = Pod::start();
    for turn in 0..80 {
        let bundle = pod.container("echo $$ $(sh -c 'echo $$')");
        bundle.reaches("stopped");
        assert_eq!(bundle.out(), "1 2\n", "{turn}");
        bundle.ok(&["delete", &bundle.id]);
    }
}
