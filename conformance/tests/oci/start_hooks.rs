//! `startContainer` hooks: programs of the container that run in it before its own.

use crate::bundle::{Bundle, wait_for};
use crate::is_root;
use conformance::trapbox;
use serde_json::{Value, json};
use std::fs;

fn hook(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script] })
}

fn with_hooks(program: &str, hooks: Value) -> Bundle {
    Bundle::with(program, |config| config["hooks"] = json!({ "startContainer": hooks }))
}

#[test]
fn start_hooks_run_in_the_container_in_their_order_before_its_program() {
    if !is_root() {
        return;
    }
    let hooks = json!([
        hook("echo one $$ $PPID > /seen; test -e /proc/1/status && echo first is there >> /seen"),
        hook("echo two >> /seen; hostname >> /seen; sleep 0.2; echo late >> /seen; echo nobody reads this"),
    ]);
    let bundle = with_hooks("echo program $$ >> /seen", hooks);
    bundle.create();
    assert!(!bundle.rootfs().join("seen").exists(), "they run at the start, not before");
    bundle.start();
    bundle.reaches("stopped");
    let seen = fs::read_to_string(bundle.rootfs().join("seen")).expect("seen");
    let lines: Vec<&str> = seen.lines().collect();
    // Nobody inside has made a hook.
    assert!(lines[0].starts_with("one ") && lines[0].ends_with(" 0") && lines[0] != "one 1 0", "{seen}");
    assert_eq!(lines[1..], ["first is there", "two", "trapbox", "late", "program 1"]);
    assert_eq!(bundle.out(), "", "{}", bundle.out());
}

/// As with runc.
#[test]
fn a_container_is_created_until_its_start_hooks_have_run() {
    if !is_root() {
        return;
    }
    let hook = hook("echo > /begun; until test -e /go; do sleep 0.05; done");
    let bundle = with_hooks("while :; do sleep 0.05; done", json!([hook]));
    bundle.create();
    let mut starting = bundle.command(&["start", &bundle.id]).spawn().expect("runs");
    wait_for("the hook", || bundle.rootfs().join("begun").exists());
    assert_eq!(bundle.status(), "created");
    assert!(bundle.ok(&["list"]).contains(" created "));
    fs::write(bundle.rootfs().join("go"), "").expect("written");
    assert!(starting.wait().expect("ends").success());
    assert_eq!(bundle.status(), "running");
}

#[test]
fn a_start_hook_has_the_state_and_the_identity_of_the_container_and_its_own_environment() {
    if !is_root() {
        return;
    }
    let script =
        "cat > /tmp/state; (id -u; id -g; umask; pwd; env; grep CapEff /proc/self/status) > /tmp/who";
    let mut bundle = with_hooks(
        "true",
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin", "OWN=1"] }]),
    );
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 5, "umask": 63 });
    bundle.config["process"]["cwd"] = json!("/tmp");
    bundle.config["process"]["env"] = json!(["PATH=/bin", "ITS=1"]);
    bundle.config["annotations"] = json!({ "a": "b" });
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        bundle.config["process"]["capabilities"][set] = json!([]);
    }
    bundle.write();
    std::os::unix::fs::chown(bundle.rootfs().join("tmp"), Some(1000), None).expect("root may");
    bundle.create();
    bundle.start();
    bundle.reaches("stopped");
    let text = fs::read_to_string(bundle.rootfs().join("tmp/state")).expect("a state");
    let state: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(state["id"], bundle.id.as_str());
    assert_eq!((&state["status"], &state["pid"]), (&json!("created"), &json!(1)));
    assert_eq!((&state["bundle"], &state["annotations"]["a"]), (&json!(bundle.place.path()), &json!("b")));
    let who = fs::read_to_string(bundle.rootfs().join("tmp/who")).expect("seen");
    // The shell has made two of its own.
    let mut lines: Vec<&str> = who.lines().filter(|line| !["SHLVL=1", "PWD=/tmp"].contains(line)).collect();
    lines[4..].sort_unstable();
    assert_eq!(lines, ["1000", "5", "0077", "/tmp", "CapEff:\t0000000000000000", "OWN=1", "PATH=/bin"]);
}

#[test]
fn a_start_hook_that_fails_or_is_late_ends_the_container_with_the_reason() {
    if !is_root() {
        return;
    }
    let late = json!({ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 });
    let cases = [
        (
            json!([hook("true"), hook("echo no >&2; exit 3"), hook("echo > /next")]),
            "startContainer hook #1: exit status 3, stderr: no",
        ),
        (json!([hook("kill -9 $$")]), "startContainer hook #0: killed by signal 9"),
        (json!([late]), "startContainer hook #0: /bin/sleep: timed out after 1 s"),
        (json!([{ "path": "/no/such" }]), "startContainer hook #0: /no/such: No such file or directory"),
    ];
    for (hooks, words) in cases {
        let bundle = with_hooks("echo ran > /ran", hooks);
        bundle.create();
        let said = bundle.fails(&["start", &bundle.id], 1);
        assert!(said.contains(words), "{said}");
        bundle.reaches("stopped");
        bundle.ok(&["delete", &bundle.id]);
        assert!(!bundle.rootfs().join("ran").exists() && !bundle.rootfs().join("next").exists(), "{words}");
        assert_eq!(bundle.left(), Vec::<String>::new(), "{words}");
    }
    let bundle = with_hooks("true", json!([hook("exit 4")]));
    let outcome = bundle.run_with(&trapbox());
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert_eq!(bundle.left(), Vec::<String>::new());
}

#[test]
fn a_container_can_be_killed_while_its_start_hook_runs() {
    if !is_root() {
        return;
    }
    let bundle = with_hooks("echo ran > /ran", json!([hook("echo > /begun; sleep 1000")]));
    bundle.create();
    let mut starting = bundle.command(&["start", &bundle.id]).spawn().expect("runs");
    wait_for("the hook", || bundle.rootfs().join("begun").exists());
    bundle.ok(&["kill", &bundle.id, "KILL"]);
    assert!(!starting.wait().expect("ends").success());
    bundle.reaches("stopped");
    bundle.ok(&["delete", &bundle.id]);
    assert!(!bundle.rootfs().join("ran").exists());
    assert_eq!(bundle.left(), Vec::<String>::new());
}

#[test]
fn hooks_that_can_never_run_are_refused() {
    if !is_root() {
        return;
    }
    for (hook, words) in [
        (json!({ "path": "bin/true" }), "not an absolute path"),
        (json!({ "path": "/bin/true", "timeout": 0 }), "the timeout is not above zero"),
    ] {
        let bundle = with_hooks("true", json!([hook]));
        let said = bundle.fails(&["create", &bundle.id], 1);
        assert!(said.contains("startContainer hook #0") && said.contains(words), "{said}");
    }
}
