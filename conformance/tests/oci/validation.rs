//! Counterparts of the cases of the specification's own suite (opencontainers/runtime-tools, `validation/`) that no other test here
//! has. Where the others are:
//!
//! | case | is |
//! | --- | --- |
//! | `create`, `delete`, `start`, `state`, `kill` | `a_container_lives_from_create_to_delete`, and below |
//! | `hooks`, `hooks_stdin`, `prestart`, `poststart`, `poststop`, `prestart_fail` | `hooks_run_in_their_order…`, `start_hooks.rs` |
//! | `hostname`, `linux_devices`, `default` | `VARIATIONS`, `fields.rs` |
//! | `linux_masked_paths`, `linux_readonly_paths`, `linux_seccomp`, `mounts`, `root_readonly_true` | `VARIATIONS` |
//! | `linux_mount_label`, `linux_process_apparmor_profile` | `what_is_left_out_is_named_in_the_log` |
//! | `linux_rootfs_propagation`, `linux_uid_mappings`, `linux_gid_mappings` | `what_is_not_supported_is_refused…` |
//! | `linux_sysctl` | `settings_of_the_kernel_are_the_containers` |
//! | `process`, `process_capabilities`, `process_oom_score_adj`, `process_rlimits`, `process_user` | `VARIATIONS` |
//!
//! `linux_cgroups_devices` has none: device rules have no effect, as no device is opened. `linux_cgroups_network` needs controllers
//! that few hosts have.

use crate::bundle::{Bundle, wait_for};
use crate::{add_mount, is_root};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

#[test]
fn a_changed_config_has_no_effect_on_a_container_that_was_created() {
    if !is_root() {
        return;
    }
    let mut bundle = Bundle::new("echo first");
    bundle.create();
    bundle.config["process"]["args"] = json!(["sh", "-c", "echo second"]);
    bundle.write();
    bundle.start();
    bundle.reaches("stopped");
    assert_eq!(bundle.out(), "first\n");
}

#[test]
fn verbs_for_a_container_that_is_not_there_or_in_another_state_fail_and_change_nothing() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::new("echo ran");
    for verb in ["start", "state", "kill", "delete"] {
        assert!(bundle.fails(&[verb, "nobody"], 1).contains("does not exist"), "{verb}");
    }
    assert_ne!(bundle.call(&["create"]).status, 0);
    // One that is created can be killed, and deleted.
    bundle.create();
    bundle.ok(&["kill", &bundle.id, "KILL"]);
    bundle.reaches("stopped");
    let before = bundle.ok(&["state", &bundle.id]);
    assert!(bundle.fails(&["kill", &bundle.id, "TERM"], 1).contains("container not running"));
    assert!(bundle.fails(&["start", &bundle.id], 1).contains("cannot start a container that has stopped"));
    assert_eq!(bundle.ok(&["state", &bundle.id]), before);
    assert_eq!(bundle.out(), "");
    bundle.ok(&["delete", &bundle.id]);
    bundle.create();
    bundle.ok(&["delete", &bundle.id]);
    assert_eq!(bundle.left(), Vec::<String>::new());
}

#[test]
fn every_signal_by_name_and_number_reaches_the_program() {
    if !is_root() {
        return;
    }
    let script = "for s in HUP INT QUIT USR1 USR2 ALRM TERM CONT URG WINCH; do trap \"echo $s\" $s; done; echo up; while :; do sleep 0.05; done";
    let bundle = Bundle::new(script);
    bundle.create();
    bundle.start();
    wait_for("the traps", || bundle.out() == "up\n");
    let mut wanted = "up\n".to_owned();
    for (name, shown) in [
        ("HUP", "HUP"),
        ("SIGINT", "INT"),
        ("3", "QUIT"),
        ("sigusr1", "USR1"),
        ("12", "USR2"),
        ("ALRM", "ALRM"),
        ("TERM", "TERM"),
        ("SIGCONT", "CONT"),
        ("URG", "URG"),
        ("28", "WINCH"),
    ] {
        bundle.ok(&["kill", &bundle.id, name]);
        wanted.push_str(&format!("{shown}\n"));
        wait_for(name, || bundle.out() == wanted);
    }
}

#[test]
fn the_pid_file_and_the_state_name_the_same_process() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::with("sleep 100", |config| config["annotations"] = json!({ "org.example.a": "1" }));
    bundle.create();
    let state: Value = serde_json::from_str(&bundle.ok(&["state", &bundle.id])).expect("JSON");
    assert_eq!(state["pid"], bundle.pid());
    assert!(Path::new(&format!("/proc/{}", bundle.pid())).exists());
    assert_eq!(state["annotations"]["org.example.a"], "1");
    assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")));
    assert_eq!(state["id"], bundle.id.as_str());
}

#[test]
fn failing_hooks_after_the_start_and_after_the_end_stop_nothing() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::new("echo ran");
    let after = bundle.place.path().join("after");
    let hooks = |name: &str| {
        let touch = format!("echo {name} >> {}", after.display());
        json!([{ "path": "/bin/false" }, { "path": "/bin/sh", "args": ["sh", "-c", touch] }])
    };
    let mut bundle = bundle;
    bundle.config["hooks"] = json!({ "poststart": hooks("poststart"), "poststop": hooks("poststop") });
    bundle.write();
    bundle.create();
    bundle.start();
    bundle.reaches("stopped");
    bundle.ok(&["delete", &bundle.id]);
    assert_eq!(bundle.out(), "ran\n");
    assert_eq!(fs::read_to_string(after).expect("seen"), "poststart\npoststop\n");
    let log = fs::read_to_string(bundle.place.path().join("log")).expect("a log");
    assert!(log.contains("poststart hook #0") && log.contains("poststop hook #0"), "{log}");
    assert_eq!(bundle.left(), Vec::<String>::new());
}

#[test]
fn what_the_container_did_not_make_stays_when_it_is_deleted() {
    if !is_root() {
        return;
    }
    let mut bundle = Bundle::new("echo made > /v/made; echo here > /here");
    let volume = bundle.place.path().join("volume");
    fs::create_dir(&volume).expect("made");
    fs::write(volume.join("before"), "x").expect("written");
    add_mount(
        &mut bundle.config,
        json!({ "destination": "/v", "type": "bind", "source": volume, "options": ["bind"] }),
    );
    bundle.write();
    bundle.create();
    bundle.start();
    bundle.reaches("stopped");
    bundle.ok(&["delete", &bundle.id]);
    for path in [volume.join("before"), volume.join("made"), bundle.rootfs().join("here")] {
        assert!(path.exists(), "{}", path.display());
    }
    assert_eq!(bundle.left(), Vec::<String>::new());
}

/// Directories of a group in the trees of both versions.
fn groups(path: &str) -> Vec<PathBuf> {
    let trees = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    let trees = trees.chain([PathBuf::from("/sys/fs/cgroup")]);
    trees.map(|tree| tree.join(path)).filter(|group| group.is_dir()).collect()
}

/// The first of these files that there is in a group.
fn limit(path: &str, files: &[&str]) -> Option<String> {
    let groups = groups(path);
    let mut all = files.iter().flat_map(|file| groups.iter().map(move |group| group.join(file)));
    all.find_map(|file| fs::read_to_string(file).ok()).map(|text| text.trim().to_owned())
}

#[test]
fn limits_are_in_the_hosts_control_group_whose_path_is_absolute_or_relative() {
    if !is_root() {
        return;
    }
    // A kernel for one processor has not got it.
    let cpuset = fs::read_to_string("/proc/cgroups").is_ok_and(|all| all.contains("cpuset\t"));
    for before in ["/", ""] {
        let bundle = Bundle::new("sleep 100");
        let parent = format!("trapbox-parent-{}", bundle.id);
        let path = format!("{parent}/inner");
        let mut bundle = bundle;
        bundle.config["linux"]["cgroupsPath"] = json!(format!("{before}{path}"));
        bundle.config["linux"]["resources"] = json!({
            "memory": { "limit": 100 << 20 }, "pids": { "limit": 40 },
            "cpu": { "shares": 512, "quota": 40000, "period": 80000 },
        });
        if cpuset {
            bundle.config["linux"]["resources"]["cpu"]["cpus"] = json!("0");
        }
        bundle.write();
        bundle.create();
        let of = |files: &[&str]| limit(&path, files);
        assert_eq!(of(&["memory.limit_in_bytes", "memory.max"]).as_deref(), Some("104857600"), "{path}");
        // What is not shown takes some, too.
        assert_eq!(of(&["pids.max"]).as_deref(), Some("144"));
        let quota = of(&["cpu.cfs_quota_us", "cpu.max"]);
        assert!(["40000", "40000 80000"].contains(&quota.as_deref().unwrap_or_default()), "{quota:?}");
        assert!(!cpuset || of(&["cpuset.cpus"]).as_deref() == Some("0"));
        let inside = groups(&path).iter().any(|group| {
            let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            processes.lines().any(|line| line == bundle.pid().to_string())
        });
        assert!(inside, "{:?}", groups(&path));
        bundle.ok(&["delete", "--force", &bundle.id]);
        assert_eq!(groups(&path), Vec::<PathBuf>::new());
        for group in groups(&parent) {
            let _ = fs::remove_dir(group);
        }
    }
}

/// A process in namespaces of its own.
struct Holder(Child);

impl Holder {
    fn start() -> Holder {
        let mut command = Command::new("unshare");
        command.args([
            "--net",
            "--uts",
            "sh",
            "-c",
            "hostname held; ip link set lo up; echo up; exec sleep 100000",
        ]);
        let mut child = command.stdout(Stdio::piped()).process_group(0).spawn().expect("unshare runs");
        let mut line = String::new();
        let output = child.stdout.take().expect("a pipe");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("a line");
        assert_eq!(line, "up\n");
        Holder(child)
    }

    fn namespace(&self, name: &str) -> String {
        format!("/proc/{}/ns/{name}", self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn set_namespace(config: &mut Value, kind: &str, namespace: Option<Value>) {
    let all = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
    all.retain(|namespace| namespace["type"] != kind);
    all.extend(namespace);
}

#[test]
fn namespaces_are_new_ones_the_callers_or_those_of_a_path() {
    if !is_root() {
        return;
    }
    let holder = Holder::start();
    let of = |pid: i32, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("a namespace");
    let own = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).expect("a namespace");
    let held = |name: &str| fs::read_link(holder.namespace(name)).expect("a namespace");
    let names = [("network", "net"), ("uts", "uts")];
    // With a type and no path they are new; without a type the caller's.
    let bundle = Bundle::new("true");
    bundle.create();
    for (_, name) in names {
        assert!(![own(name), held(name)].contains(&of(bundle.pid(), name)), "{name}");
    }
    let bundle = Bundle::with("true", |config| {
        for (kind, _) in names {
            set_namespace(config, kind, None);
        }
        config.as_object_mut().expect("an object").remove("hostname");
    });
    bundle.create();
    for (_, name) in names {
        assert_eq!(of(bundle.pid(), name), own(name));
    }
    // With a path they are those that are there; the kernel inside takes their name over.
    let bundle = Bundle::with("hostname", |config| {
        for (kind, name) in names {
            set_namespace(config, kind, Some(json!({ "type": kind, "path": holder.namespace(name) })));
        }
        config.as_object_mut().expect("an object").remove("hostname");
    });
    bundle.create();
    for (_, name) in names {
        assert_eq!(of(bundle.pid(), name), held(name));
    }
    bundle.start();
    bundle.reaches("stopped");
    assert_eq!(bundle.out(), "held\n");
    // A path to one of another type, or to nothing, is an error.
    for path in [holder.namespace("uts"), "/no/such".to_owned()] {
        let bundle = Bundle::with("true", |config| {
            set_namespace(config, "network", Some(json!({ "type": "network", "path": path })));
        });
        assert!(bundle.fails(&["create", &bundle.id], 1).contains(&path));
        assert_eq!(bundle.left(), Vec::<String>::new());
    }
}

/// A change of config.json that makes it wrong.
type Wrong = (&'static str, fn(&mut Value));

#[test]
fn what_is_wrong_in_a_config_is_an_error_and_what_is_not_known_is_none() {
    if !is_root() {
        return;
    }
    let wrong: &[Wrong] = &[
        ("a limit twice", |config| {
            let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024 });
            config["process"]["rlimits"] = json!([limit, limit]);
        }),
        ("no such limit", |config| {
            config["process"]["rlimits"] = json!([{ "type": "RLIMIT_TEST", "soft": 1, "hard": 1 }]);
        }),
        ("no such capability", |config| config["process"]["capabilities"]["bounding"] = json!(["CAP_TEST"])),
        ("no version", |config| config["ociVersion"] = json!("")),
        ("no such version", |config| config["ociVersion"] = json!("invalid")),
        ("a namespace twice", |config| {
            let all = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
            all.push(json!({ "type": "mount" }));
        }),
        ("no such namespace", |config| set_namespace(config, "none", Some(json!({ "type": "none" })))),
        ("a user namespace", |config| set_namespace(config, "user", Some(json!({ "type": "user" })))),
        ("mapped users", |config| {
            config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 1000, "size": 3200 }]);
        }),
        ("mapped groups", |config| {
            config["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 1000, "size": 3200 }]);
        }),
        ("a relative mount point that climbs", |config| {
            add_mount(config, json!({ "destination": "/", "type": "tmpfs" }));
        }),
        ("a number for a name", |config| config["hostname"] = json!(7)),
    ];
    for (what, change) in wrong {
        let bundle = Bundle::with("true", change);
        let outcome = bundle.call(&["create", &bundle.id]);
        assert_eq!(outcome.status, 1, "{what}");
        assert_eq!(bundle.left(), Vec::<String>::new(), "{what}");
    }
    let bundle = Bundle::with("echo ran", |config| {
        config["unknown"] = json!("value");
        config["process"]["unknown"] = json!({ "a": [1, 2] });
        config["annotations"] = json!({ "unknown.key": "", "": "nameless" });
    });
    let outcome = bundle.run_with(&conformance::trapbox());
    assert_eq!((outcome.stdout.as_str(), outcome.status), ("ran\n", 0), "{outcome:?}");
}

#[test]
fn mounts_are_made_in_their_order() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::with("cat /a/b/file; ls /a; grep -c ' /a' /proc/mounts", |config| {
        add_mount(config, json!({ "destination": "/a", "type": "tmpfs", "source": "tmpfs" }));
        add_mount(
            config,
            json!({ "destination": "/a/b", "type": "bind", "source": "rootfs/etc", "options": ["bind"] }),
        );
        add_mount(
            config,
            json!({ "destination": "/a/b/file", "type": "bind", "source": "config.json", "options": ["bind", "ro"] }),
        );
    });
    fs::write(bundle.rootfs().join("etc/file"), "covered\n").expect("written");
    let outcome = bundle.run_with(&conformance::trapbox());
    assert_eq!(outcome.stdout, format!("{}b\n3\n", bundle.config), "{outcome:?}");
}
