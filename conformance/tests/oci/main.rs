//! `trapbox` as a caller uses it: bundles, verbs, messages, and what is left on the host. Where runc is installed, it is the oracle.

mod bundle;
mod console;
mod fields;
mod killed;
mod memory;
mod ordinary;
mod pids;
mod pods;
mod start_hooks;
mod validation;

use bundle::{Bundle, wait_for};
use conformance::{run, trapbox};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Containers of root only: an ordinary user has no control groups to be tested here.
fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("not root: nothing was tested");
    }
    root
}

/// The oracle, where it is installed.
fn runc() -> Option<PathBuf> {
    ["/usr/sbin/runc", "/usr/bin/runc"].map(PathBuf::from).into_iter().find(|path| path.exists())
}

/// A shell that starts 30 processes and says "all", or is told why not, and ends them.
const CROWD: &str =
    "trap 'kill -9 -1' EXIT; i=0; while [ $i -lt 30 ]; do sleep 100000 & i=$((i+1)); done; echo all";

/// What is compared with runc: a change of config.json, and a script.
type Variation = (&'static str, fn(&mut Value), &'static str);

/// A change of config.json that is refused, and a word of the message.
type Refusal = (fn(&mut Value), &'static str);

const VARIATIONS: &[Variation] = &[
    ("plain", |_| {}, "echo out; echo err >&2; pwd; env | sort; hostname; exit 7"),
    ("process 1", |_| {}, "echo $$ $PPID; kill -9 $$; echo alive; (sleep 0.1; exit 3) & wait $!; echo $?"),
    ("killed", |_| {}, "sh -c 'kill -SEGV $$'; echo $?"),
    (
        "user",
        |config| {
            config["process"]["user"] =
                json!({ "uid": 1000, "gid": 1000, "additionalGids": [5, 7], "umask": 63 });
        },
        "id; umask; echo $HOME; touch /tmp/f || echo refused; cat /proc/self/status | grep -E '^(Uid|Gid|Groups)'",
    ),
    ("directory", |config| config["process"]["cwd"] = json!("/made/here"), "pwd; ls -ld ."),
    (
        "limits",
        |config| {
            config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 99, "hard": 100 },
                                               { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }]);
        },
        "ulimit -n; ulimit -Hn; ulimit -c",
    ),
    (
        "capabilities",
        |config| {
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set] = json!(["CAP_CHOWN", "CAP_KILL"]);
            }
            config["process"]["capabilities"]["inheritable"] = json!([]);
            config["process"]["capabilities"]["ambient"] = json!([]);
        },
        "grep -E '^(Cap|NoNew)' /proc/self/status; touch /f; chown 5:6 /f; ls -ln /f | cut -c1-30; \
        echo text > /g; for how in 'echo x >> /g' ': > /g' 'truncate -s 9 /g' 'dd if=/proc/self/cmdline of=/g conv=notrunc' 'chown 0:0 /g'; do \
        chmod 6755 /g; eval \"$how\" 2>/dev/null; stat -c '%a %s' /g; chmod 2644 /g; eval \"$how\" 2>/dev/null; stat -c %a /g; done",
    ),
    (
        "named pipes with set-ID bits",
        |_| {},
        "mknod -m 6755 /tmp/p p; mkfifo -m 2711 /tmp/q; mkdir -m 2755 /d; mkfifo /d/r; stat -c '%a %F %g' /tmp/p /tmp/q /d/r",
    ),
    (
        "no capabilities",
        |config| {
            config["process"]["capabilities"] = json!({});
            config["process"]["noNewPrivileges"] = json!(false);
        },
        "grep -E '^(Cap|NoNew)' /proc/self/status; touch /f; chown 5:6 /f 2>&1; mkdir /d; chmod 0 /d; ls /d 2>&1",
    ),
    (
        "read-only root",
        |config| config["root"]["readonly"] = json!(true),
        "touch /f 2>&1; touch /tmp/f 2>&1; echo x > /dev/shm/f; cat /dev/shm/f; echo > /dev/null",
    ),
    (
        "tmpfs",
        |config| {
            add_mount(
                config,
                json!({ "destination": "/t", "type": "tmpfs", "source": "tmpfs",
                                  "options": ["nosuid", "noexec", "size=64k", "mode=1770"] }),
            );
        },
        "stat -c '%a %F' /t; head -c 100000 /dev/zero > /t/x; stat -c %s /t/x; cp /bin/busybox /tmp/b; cp /tmp/b /t/b 2>/dev/null; \
        echo '#!/bin/sh' > /t/y; chmod +x /t/y; /t/y 2>&1; echo $?",
    ),
    (
        "bind",
        |config| {
            add_mount(
                config,
                json!({ "destination": "/deep/hosts", "type": "bind", "source": "/etc/hosts",
                                  "options": ["rbind", "rprivate", "ro"] }),
            );
            add_mount(
                config,
                json!({ "destination": "/etc/data", "type": "none", "source": "rootfs/etc", "options": ["bind", "ro"] }),
            );
        },
        "cat /deep/hosts | wc -l; echo x >> /deep/hosts; ls /etc/data; touch /etc/data/x; stat -c %F /deep/hosts",
    ),
    (
        "masked",
        |config| {
            config["linux"]["maskedPaths"] = json!(["/proc/meminfo", "/etc", "/no/such"]);
            config["linux"]["readonlyPaths"] = json!(["/tmp", "/proc/sys"]);
        },
        "wc -c < /proc/meminfo; ls -A /etc; touch /etc/x 2>&1; touch /tmp/x 2>&1; (echo a > /proc/sys/kernel/hostname) 2>&1",
    ),
    (
        "seccomp",
        |config| {
            config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 },
                         { "names": ["symlink", "symlinkat"], "action": "SCMP_ACT_KILL_PROCESS" }] });
        },
        "mkdir /x 2>&1; echo $?; ln -s a /y; echo $?; grep Seccomp: /proc/self/status",
    ),
    (
        "environment",
        |config| {
            config["process"]["env"] = json!(["PATH=/nowhere:/bin", "A=1", "A=2", "HOME=/x"]);
        },
        "env | sort",
    ),
    (
        // runc makes a link `core` where the host's kernel has /proc/kcore, which the kernel of a sandbox has not.
        "devices",
        |_| {},
        "ls -1 /dev | grep -v -x -e console -e core; ls -l /dev/null | cut -c1-10; readlink /dev/fd /dev/stdin; echo x > /dev/full",
    ),
    (
        "names",
        |config| config["linux"]["readonlyPaths"] = json!([]),
        "cd /proc/sys/kernel; cat hostname domainname; echo new > hostname; hostname; printf 'one\ntwo' >> hostname; hostname; \
         printf '%080d' 7 > hostname; hostname; (echo ab >&3; echo cd >&3; printf x >&3; cat hostname) 3> hostname; echo other > domainname; \
         cat domainname; echo > domainname; cat domainname; ls -l hostname | cut -c1-10; \
         printf 'ab' > hostname; (printf y >&3; printf z >&3; cat hostname) 3<> hostname; su user -c 'echo x > hostname'; hostname",
    ),
    (
        "nodes of devices",
        |config| {
            config["linux"]["devices"] = json!([
                { "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 384, "uid": 7, "gid": 8 },
                { "path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 416, "gid": 5 },
                { "path": "/dev/owned", "type": "c", "major": 1, "minor": 5, "uid": 9 },
                { "path": "/dev/plain", "type": "c", "major": 1, "minor": 5 }
            ]);
            config["linux"]["resources"] = json!({ "devices": [{ "allow": true, "access": "rwm" }] });
            config["process"]["user"] = json!({ "uid": 7, "gid": 7 });
        },
        "cd /dev; stat -c '%n %a %u %g %t %T %F' null mine owned plain zero; echo x > null && echo mine; cat mine",
    ),
    ("score", |config| config["process"]["oomScoreAdj"] = json!(100), "cat /proc/self/oom_score_adj"),
];

fn add_mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().expect("mounts").push(mount);
}

#[test]
fn a_container_sees_what_it_would_see_with_runc() {
    let Some(runc) = runc().filter(|_| is_root()) else { return };
    let mut differences = Vec::new();
    for (name, change, script) in VARIATIONS {
        let outcome = |runtime: &Path| {
            let bundle = Bundle::with(script, change);
            bundle.run_with(runtime)
        };
        let (wanted, found) = (outcome(&runc), outcome(&trapbox()));
        if wanted != found {
            differences.push(format!("{name}:\n  runc: {wanted:?}\n  here: {found:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn a_container_lives_from_create_to_delete() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::new("trap 'echo term; exit 5' TERM; echo up; while :; do sleep 0.05; done");
    bundle.create();
    let state: Value = serde_json::from_str(&bundle.ok(&["state", &bundle.id])).expect("JSON");
    assert_eq!(
        (state["status"].as_str(), state["pid"].as_i64()),
        (Some("created"), Some(bundle.pid().into()))
    );
    assert_eq!(state["bundle"].as_str(), bundle.place.path().to_str());
    assert!(bundle.fails(&["create", &bundle.id], 1).contains("container with given ID already exists"));
    bundle.start();
    wait_for("output", || bundle.out() == "up\n");
    assert_eq!(bundle.status(), "running");
    assert!(bundle.fails(&["start", &bundle.id], 1).contains("cannot start an already running container"));
    assert!(bundle.fails(&["delete", &bundle.id], 1).contains("that is not stopped: running"));

    let listed: Value = serde_json::from_str(&bundle.ok(&["list", "--format", "json"])).expect("JSON");
    assert_eq!(listed[0]["id"].as_str(), Some(bundle.id.as_str()));
    assert_eq!(bundle.ok(&["list", "-q"]), format!("{}\n", bundle.id));
    let pids: Vec<i32> =
        serde_json::from_str(&bundle.ok(&["ps", "--format", "json", &bundle.id])).expect("JSON");
    assert!(pids.contains(&bundle.pid()) && pids.len() >= 3, "{pids:?}");

    bundle.ok(&["pause", &bundle.id]);
    assert_eq!(bundle.status(), "paused");
    assert!(bundle.fails(&["exec", &bundle.id, "true"], 255).contains("cannot exec in a paused container"));
    bundle.ok(&["resume", &bundle.id]);
    assert!(bundle.fails(&["resume", &bundle.id], 1).contains("container not paused"));

    bundle.ok(&["kill", &bundle.id, "TERM"]);
    bundle.reaches("stopped");
    assert_eq!(bundle.out(), "up\nterm\n");
    assert!(bundle.fails(&["kill", &bundle.id, "TERM"], 1).contains("container not running"));
    bundle.ok(&["delete", &bundle.id]);
    assert!(bundle.fails(&["state", &bundle.id], 1).contains("does not exist"));
    assert!(bundle.fails(&["delete", &bundle.id], 1).contains("does not exist"));
    bundle.ok(&["delete", "--force", &bundle.id]);
    assert_eq!(bundle.left(), Vec::<String>::new());
}

#[test]
fn signals_reach_the_program_or_all_and_process_1_is_protected() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::new(
        "trap 'echo one' USR1; sh -c 'trap \"echo two\" USR2; echo ready; while :; do sleep 0.05; done' & while :; do wait; done",
    );
    bundle.create();
    bundle.start();
    wait_for("ready", || bundle.out() == "ready\n");
    bundle.ok(&["kill", &bundle.id, "USR1"]);
    wait_for("one", || bundle.out() == "ready\none\n");
    bundle.ok(&["kill", &bundle.id]);
    bundle.ok(&["kill", "--all", &bundle.id, "SIGUSR2"]);
    wait_for("two", || bundle.out().contains("two\n"));
    assert_eq!(bundle.status(), "running");
    assert!(bundle.fails(&["kill", &bundle.id, "NOTHING"], 1).contains("unknown signal"));
    bundle.ok(&["kill", &bundle.id, "9"]);
    bundle.reaches("stopped");
}

#[test]
fn what_cannot_be_executed_is_said_in_the_words_that_callers_look_for() {
    if !is_root() {
        return;
    }
    for (name, words) in [
        ("nothing", "exec: \"nothing\": executable file not found in $PATH"),
        ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
    ] {
        let bundle = Bundle::with("", |config| config["process"]["args"] = json!([name]));
        let said = bundle.fails(&["create", &bundle.id], 1);
        assert!(said.contains(&format!("unable to start container process: {words}")), "{said}");
        assert_eq!(bundle.left(), Vec::<String>::new());
    }
    let bundle = Bundle::new("sleep 100000");
    bundle.create();
    bundle.start();
    assert!(
        bundle.fails(&["exec", &bundle.id, "nothing"], 255).contains("executable file not found in $PATH")
    );
}

#[test]
fn what_is_not_supported_is_refused_by_name_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let cases: &[Refusal] = &[
        (|config| config["process"]["args"] = json!([]), "process.args"),
        (|config| config["process"]["cwd"] = json!("relative"), "process.cwd"),
        (
            |config| config["process"]["scheduler"] = json!({ "policy": "SCHED_RR", "priority": 1 }),
            "SCHED_RR",
        ),
        (|config| config["root"]["path"] = json!("nowhere"), "root.path"),
        (|config| config["linux"]["rootfsPropagation"] = json!("shared"), "linux.rootfsPropagation"),
        (
            |config| {
                config["linux"]["devices"] =
                    json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 }])
            },
            "/dev/fuse",
        ),
        (|config| config["linux"]["namespaces"] = json!([{ "type": "ipc" }]), "pid namespace"),
        (
            |config| add_mount(config, json!({ "destination": "/x", "type": "ext4", "source": "/dev/sda" })),
            "ext4",
        ),
        (
            |config| {
                add_mount(
                    config,
                    json!({ "destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"] }),
                )
            },
            "no such file or directory",
        ),
        (|config| config["linux"]["sysctl"] = json!({ "kernel.no_such": "1" }), "kernel.no_such"),
        (|config| config["linux"]["sysctl"] = json!({ "kernel.sem": "1 2" }), "kernel.sem"),
        (|config| config["domainname"] = json!("x".repeat(65)), "domainname"),
        (
            |config| {
                config["linux"]["personality"] = json!({ "domain": "LINUX", "flags": ["STICKY_TIMEOUTS"] })
            },
            "STICKY_TIMEOUTS",
        ),
        (|config| config["ociVersion"] = json!("2.0.0"), "ociVersion"),
    ];
    for (change, name) in cases {
        let bundle = Bundle::with("true", change);
        let said = bundle.fails(&["create", &bundle.id], 1);
        assert!(said.to_lowercase().contains(&name.to_lowercase()), "{name}: {said}");
        assert_eq!(bundle.left(), Vec::<String>::new(), "{name}");
    }
    let bundle = Bundle::new("true");
    assert!(bundle.fails(&["checkpoint", &bundle.id], 1).contains("not supported"));
    assert!(bundle.fails(&["create", "a/b"], 1).contains("invalid container ID format"));
}

#[test]
fn hooks_run_in_their_order_with_the_state_and_a_failure_undoes_the_container() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::new("echo program >> /seen");
    let seen = bundle.rootfs().join("seen");
    let hook = |name: &str| {
        let script = format!(
            "state=$(cat); echo {name} $(echo \"$state\" | grep -o '\"status\":\"[a-z]*\"' | cut -d'\"' -f4) \
             $(echo \"$state\" | grep -c '{}') >> {}",
            bundle.id,
            seen.display()
        );
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": 180 }])
    };
    let hooks = json!({ "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
        "createContainer": hook("createContainer"), "poststart": hook("poststart"), "poststop": hook("poststop") });
    let mut bundle = bundle;
    bundle.config["hooks"] = hooks;
    bundle.write();
    bundle.create();
    bundle.start();
    bundle.reaches("stopped");
    bundle.ok(&["delete", &bundle.id]);
    let mut lines: Vec<String> =
        fs::read_to_string(&seen).expect("seen").lines().map(str::to_owned).collect();
    // The program runs beside the hooks that follow its start.
    let program = lines.iter().position(|line| line == "program").expect("it ran");
    assert!(program >= 3);
    lines.remove(program);
    let wanted = [
        "prestart creating 1",
        "createRuntime creating 1",
        "createContainer creating 1",
        "poststart running 1",
        "poststop stopped 1",
    ];
    // A program that has ended by then has stopped.
    assert_eq!(lines, wanted);

    for (hooks, words) in [
        (
            json!({ "prestart": [{ "path": "/bin/sh", "args": ["sh", "-c", "echo no >&2; exit 3"] }] }),
            "prestart hook #0: exit status 3, stderr: no",
        ),
        (
            json!({ "createRuntime": [{ "path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1 }] }),
            "timed out after 1 s",
        ),
        (json!({ "createContainer": [{ "path": "/no/such" }] }), "createContainer hook #0"),
    ] {
        let bundle = Bundle::with("true", |config| config["hooks"] = hooks);
        let said = bundle.fails(&["create", &bundle.id], 1);
        assert!(said.contains(words), "{said}");
        assert_eq!(bundle.left(), Vec::<String>::new());
    }
}

#[test]
fn a_hook_finds_the_containers_network_namespace_by_the_pid_in_the_state() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::new("true");
    let seen = bundle.place.path().join("seen");
    let script = format!(
        "pid=$(grep -o '\"pid\":[0-9]*' | cut -d: -f2); readlink /proc/$pid/ns/net /proc/self/ns/net > {}",
        seen.display()
    );
    let mut bundle = bundle;
    bundle.config["hooks"] = json!({ "prestart": [{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }] });
    bundle.write();
    bundle.create();
    let text = fs::read_to_string(seen).expect("seen");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 2 && lines[0] != lines[1], "{text}");
}

#[test]
fn processes_enter_with_their_own_identity_and_end_with_their_own_status() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::new("while :; do sleep 0.05; done");
    bundle.create();
    assert!(
        bundle
            .fails(&["exec", &bundle.id, "true"], 255)
            .contains("cannot exec in a container in the created state")
    );
    bundle.start();
    let outcome = bundle.call(&[
        "exec",
        "--user",
        "1000:1000",
        "--env",
        "A=1",
        "--cwd",
        "/tmp",
        &bundle.id,
        "sh",
        "-c",
        "id; echo $A; pwd; echo e >&2; exit 7",
    ]);
    assert_eq!(
        (outcome.status, outcome.stdout.as_str(), outcome.stderr.as_str()),
        (7, "uid=1000(user) gid=1000\n1\n/tmp\n", "e\n")
    );
    assert_eq!(bundle.call(&["exec", &bundle.id, "sh", "-c", "kill -TERM $$"]).status, 128 + 15);
    let file = bundle.place.path().join("process.json");
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["sh", "-c", "echo entered > /entered; sleep 100000"]);
    fs::write(&file, process.to_string()).expect("written");
    // What it leaves behind holds the descriptors that it was given.
    let mut entering = bundle.command(&[
        "exec",
        "--process",
        "process.json",
        "--detach",
        "--pid-file",
        "entered.pid",
        &bundle.id,
    ]);
    entering.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(entering.status().expect("runs").success());
    wait_for("the file", || bundle.rootfs().join("entered").exists());
    let pid = fs::read_to_string(bundle.place.path().join("entered.pid")).expect("a pid file");
    let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    assert!(group.contains(&bundle.id), "{group}");
    // Who signals the process on the host means the one inside.
    assert!(bundle.ok(&["exec", &bundle.id, "ps", "-o", "args"]).contains("sleep 100000"));
    run(std::process::Command::new("kill").arg(&pid)).expect("kill runs");
    wait_for("its end", || !bundle.ok(&["exec", &bundle.id, "ps", "-o", "args"]).contains("entered >"));
}

#[test]
fn limits_are_set_changed_and_reported() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::with("exec sleep 100000", |config| {
        config["linux"]["resources"] =
            json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 20 }, "cpu": { "shares": 512 } });
    });
    bundle.create();
    bundle.start();
    let limit = |bundle: &Bundle| {
        let event: Value =
            serde_json::from_str(&bundle.ok(&["events", "--stats", &bundle.id])).expect("JSON");
        assert_eq!((event["type"].as_str(), event["id"].as_str()), (Some("stats"), Some(bundle.id.as_str())));
        event["data"]["memory"]["usage"]["limit"].as_u64().expect("a limit")
    };
    assert_eq!(limit(&bundle), 64 << 20);
    bundle.ok(&["update", "--memory", "96m", &bundle.id]);
    assert_eq!(limit(&bundle), 96 << 20);
    // More processes than the limit are refused inside.
    let outcome = bundle.call(&["exec", &bundle.id, "sh", "-c", CROWD]);
    assert!(outcome.stderr.contains("can't fork"), "{outcome:?}");
    assert_eq!(bundle.status(), "running");
}

#[test]
fn what_this_runtime_can_do_is_told() {
    let place = conformance::scratch().expect("a directory");
    let features = run(std::process::Command::new(trapbox()).arg("features")).expect("runs");
    let features: Value = serde_json::from_str(&features.stdout).expect("JSON");
    assert!(features["hooks"].as_array().is_some_and(|hooks| hooks.contains(&json!("prestart"))));
    let spec = || {
        run(std::process::Command::new(trapbox()).args(["spec", "--bundle"]).arg(place.path())).expect("runs")
    };
    assert_eq!(spec().status, 0);
    assert!(spec().stderr.contains("exists. Remove it first"));
}
