//! Pods: a sandbox, and containers that join its kernel, as the CRI would make them.

use crate::bundle::{Bundle, wait_for};
use crate::console::{master, sees, shown};
use crate::{Refusal, is_root};
use conformance::compile;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

const TYPE: &str = "io.kubernetes.cri.container-type";
const ID: &str = "io.kubernetes.cri.sandbox-id";

/// A sandbox that runs, and bundles for containers in it.
pub struct Pod {
    pub sandbox: Bundle,
}

impl Pod {
    pub fn start() -> Pod {
        Pod::kept_in(None)
    }

    fn kept_in(state: Option<PathBuf>) -> Pod {
        let mut sandbox = Bundle::with("trap 'exit 5' TERM; while :; do sleep 0.05; done", |config| {
            config["hostname"] = json!("podhost");
        });
        sandbox.config["annotations"] = json!({ TYPE: "sandbox", ID: sandbox.id });
        sandbox.state = state;
        sandbox.write();
        sandbox.create();
        sandbox.start();
        Pod { sandbox }
    }

    /// A bundle of a container, in the same state directory.
    pub fn bundle(&self, script: &str, change: impl FnOnce(&mut Value)) -> Bundle {
        let mut bundle = Bundle::new(script);
        bundle.state = Some(self.sandbox.root());
        bundle.config["annotations"] = json!({ TYPE: "container", ID: self.sandbox.id });
        bundle.config["hostname"] = json!("");
        let sandbox = self.sandbox.pid();
        for namespace in bundle.config["linux"]["namespaces"].as_array_mut().expect("namespaces") {
            let name = match namespace["type"].as_str().expect("a type") {
                "network" => "net",
                name @ ("ipc" | "uts") => name,
                _ => continue,
            };
            namespace["path"] = json!(format!("/proc/{sandbox}/ns/{name}"));
        }
        change(&mut bundle.config);
        bundle.write();
        bundle
    }

    pub fn container(&self, script: &str) -> Bundle {
        let bundle = self.bundle(script, |_| {});
        bundle.create();
        bundle.start();
        bundle
    }

    /// Names of the programs that run inside.
    pub fn inside(&self) -> String {
        self.sandbox.ok(&["exec", &self.sandbox.id, "ps", "-o", "args"])
    }
}

/// Waits for the output of a container.
pub fn says(bundle: &Bundle, text: &str) {
    wait_for(text, || bundle.out().contains(text));
}

#[test]
fn containers_of_a_pod_share_all_but_their_trees_and_process_ids() {
    if !is_root() {
        return;
    }
    let pod = Pod::start();
    let server = pod.container(
        "hostname; echo mine > /mine; ls /mine 2>&1; ls /yours 2>&1; readlink /proc/self/ns/mnt; readlink /proc/self/ns/net; \
         while :; do echo hello | nc -l -p 8080; done",
    );
    says(&server, "net:[");
    let client = pod.container(
        "hostname; echo yours > /yours; ls /mine 2>&1; ls /yours 2>&1; readlink /proc/self/ns/mnt; readlink /proc/self/ns/net; \
         until nc 127.0.0.1 8080 </dev/null; do sleep 0.05; done; ps -o args | grep -c '[h]ello'; exit 7",
    );
    client.reaches("stopped");
    let lines = |bundle: &Bundle| bundle.out().lines().map(str::to_owned).collect::<Vec<_>>();
    let (server_said, client_said) = (lines(&server), lines(&client));
    assert_eq!(server_said[..3], ["podhost", "/mine", "ls: /yours: No such file or directory"]);
    assert_eq!(client_said[..3], ["podhost", "ls: /mine: No such file or directory", "/yours"]);
    assert_ne!(server_said[3], client_said[3], "one mount namespace");
    assert_eq!(server_said[4], client_said[4], "two networks");
    assert_eq!(client_said[5], "hello");
    assert_eq!(client_said[6], "0", "the server's processes are seen");
    assert!(client.rootfs().join("yours").exists() && !client.rootfs().join("mine").exists());
    assert_eq!(server.status(), "running");
}

/// As Docker's `/var/run/docker` is on Debian.
#[test]
fn containers_may_be_kept_behind_a_link() {
    if !is_root() {
        return;
    }
    let place = conformance::scratch().expect("a directory");
    let link = place.path().join("link");
    fs::create_dir(place.path().join("kept")).expect("made");
    symlink(place.path().join("kept"), &link).expect("made");
    let pod = Pod::kept_in(Some(link.join("state")));
    let member = pod.container("hostname; exit 7");
    member.reaches("stopped");
    assert_eq!(member.out(), "podhost\n");
}

#[test]
fn a_volume_of_two_containers_is_one_filesystem() {
    if !is_root() {
        return;
    }
    let pod = Pod::start();
    let volume = conformance::scratch().expect("a directory");
    let source = volume.path().display().to_string();
    let with = |script: &str, options: &[&str]| {
        let bundle = pod.bundle(script, |config| {
            let mounts = config["mounts"].as_array_mut().expect("mounts");
            mounts.push(
                json!({ "destination": "/volume", "type": "bind", "source": source, "options": options }),
            );
            // For flock(1), which busybox has not.
            for directory in ["/usr", "/lib", "/lib64"] {
                mounts.push(json!({ "destination": directory, "type": "bind", "source": directory, "options": ["rbind", "ro"] }));
            }
        });
        bundle.create();
        bundle.start();
        bundle
    };
    let first = with(
        "mkfifo /volume/pipe; /usr/bin/flock /volume/lock sh -c 'echo locked; cat /volume/pipe'; echo let go",
        &["rbind", "rw"],
    );
    says(&first, "locked");
    let second = with(
        "/usr/bin/flock -n /volume/lock true; echo $?; echo through > /volume/pipe; /usr/bin/flock /volume/lock true; echo $?",
        &["rbind", "rw"],
    );
    second.reaches("stopped");
    assert_eq!(second.out(), "1\n0\n");
    first.reaches("stopped");
    assert_eq!(first.out(), "locked\nthrough\nlet go\n");
    let third = with("cat /volume/f; echo x > /volume/f", &["rbind", "ro"]);
    third.reaches("stopped");
    assert!(third.out().contains("Read-only file system"), "{}", third.out());
    assert!(!volume.path().join("f").exists());
}

#[test]
fn a_container_of_a_pod_has_a_terminal_and_may_write_to_memory() {
    if !is_root() {
        return;
    }
    let pod = Pod::start();
    let bundle = pod.bundle("", |config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["args"] = json!(["sh"]);
        config["annotations"]["dev.trapbox.overlay"] = json!("memory");
    });
    let listener = UnixListener::bind(bundle.place.path().join("console")).expect("a socket");
    bundle.ok(&["create", "--console-socket", "console", "--pid-file", "pid", &bundle.id]);
    let mut terminal = master(&listener);
    let (output, mut all) = (shown(&terminal), String::new());
    bundle.start();
    terminal.write_all(b"tty; echo kept > /file; cat /file; echo mar''ked\n").expect("typed");
    sees(&output, &mut all, "marked\r\n");
    assert!(all.contains("/dev/pts/") && all.contains("kept\r\n"), "{all}");
    assert_eq!(bundle.ok(&["exec", &bundle.id, "cat", "/file"]), "kept\n");
    assert!(!bundle.rootfs().join("file").exists());
    terminal.write_all(b"exit 4\n").expect("typed");
    bundle.reaches("stopped");
}

#[test]
fn a_container_ends_as_a_whole_and_alone() {
    if !is_root() {
        return;
    }
    let pod = Pod::start();
    // Its first process adopts orphans, as process 1 does.
    let dying = pod.container(
        "(sh -c 'sleep 1111 & sleep 0.1' &); sleep 0.3; ps -o ppid,args | grep ' sleep [1]111$'; echo $$; exit 9",
    );
    let staying = pod.container("trap 'echo got it' USR1; echo ready; while :; do sleep 0.05; done");
    says(&staying, "ready");
    dying.reaches("stopped");
    let out = dying.out();
    let mut lines = out.lines();
    let parent = lines.next().expect("a line").split_whitespace().next().expect("a number").to_owned();
    assert_eq!(lines.next(), Some(parent.as_str()), "{out}");
    assert!(!pod.inside().contains("1111"), "{}", pod.inside());

    staying.ok(&["kill", &staying.id, "USR1"]);
    says(&staying, "got it");
    let name = staying.rootfs().join("name");
    fs::write(name, "staying").expect("written");
    assert_eq!(staying.ok(&["exec", &staying.id, "cat", "/name"]), "staying");
    assert_eq!(staying.call(&["exec", &staying.id, "sh", "-c", "exit 3"]).status, 3);
    assert_eq!(staying.call(&["exec", &pod.sandbox.id, "cat", "/name"]).status, 1);
    let message = staying.fails(&["pause", &staying.id], 1);
    assert!(message.contains("cannot be paused by itself"), "{message}");
    let mut entering = staying.command(&["exec", "--detach", &staying.id, "sleep", "2222"]);
    entering.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(entering.status().expect("runs").success());
    staying.ok(&["kill", &staying.id, "KILL"]);
    staying.reaches("stopped");
    assert!(!pod.inside().contains("2222"), "{}", pod.inside());
    assert_eq!(pod.sandbox.status(), "running");

    // `kill --all` is for one container, the sandbox included.
    let spared = pod.container("trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done");
    says(&spared, "ready");
    pod.sandbox.ok(&["kill", "--all", &pod.sandbox.id, "CONT"]);
    spared.ok(&["kill", "--all", &spared.id, "TERM"]);
    spared.reaches("stopped");
    assert_eq!(pod.sandbox.status(), "running");
}

#[test]
fn a_pod_is_deleted_in_any_order_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let is_clean = |bundles: &[&Bundle]| bundles.iter().all(|bundle| bundle.left().is_empty());
    for sandbox_first in [true, false] {
        let pod = Pod::start();
        let waiting = pod.bundle("sleep 60", |_| {});
        waiting.create();
        let running = pod.container("sleep 60");
        let delete = |bundle: &Bundle| drop(bundle.ok(&["delete", "--force", &bundle.id]));
        if sandbox_first {
            delete(&pod.sandbox);
            running.reaches("stopped");
            let message = waiting.fails(&["start", &waiting.id], 1);
            assert!(message.contains("the pod's sandbox is not running"), "{message}");
        }
        delete(&waiting);
        delete(&running);
        delete(&pod.sandbox);
        wait_for("nothing is left", || is_clean(&[&pod.sandbox, &waiting, &running]));
    }
    // The monitor of the sandbox, or of a container, is killed.
    let pod = Pod::start();
    let (one, other) = (pod.container("sleep 3333"), pod.container("sleep 60"));
    let kill = |pid: i32| {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
            .expect("killed");
    };
    kill(one.pid());
    one.reaches("stopped");
    wait_for("its program ends", || !pod.inside().contains("3333"));
    assert_eq!(other.status(), "running");
    kill(pod.sandbox.pid());
    other.reaches("stopped");
    let late = pod.bundle("true", |_| {});
    let message = late.fails(&["create", &late.id], 1);
    assert!(message.contains("is stopped, not running") || message.contains("namespaces"), "{message}");
    for bundle in [&other, &one, &pod.sandbox] {
        bundle.ok(&["delete", "--force", &bundle.id]);
    }
    wait_for("nothing is left", || is_clean(&[&pod.sandbox, &one, &other]));
}

#[test]
fn what_a_container_of_a_pod_cannot_have_is_refused_by_name() {
    if !is_root() {
        return;
    }
    let pod = Pod::start();
    let refusals: [Refusal; 6] = [
        (|config| config["annotations"][ID] = json!("no-such-pod"), "no-such-pod"),
        (|config| config["annotations"][TYPE] = json!("pod"), TYPE),
        (|config| config["hostname"] = json!("other"), "hostname"),
        (|config| config["linux"]["sysctl"] = json!({ "net.core.somaxconn": "7" }), "net.core.somaxconn"),
        (
            |config| {
                let all = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
                let network = all.iter_mut().find(|one| one["type"] == "network").expect("a network");
                network.as_object_mut().expect("an object").remove("path");
            },
            "net namespace",
        ),
        (
            |config| {
                let all = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
                all.iter_mut().find(|one| one["type"] == "ipc").expect("ipc")["path"] =
                    json!("/proc/1/ns/net");
            },
            "ipc namespace",
        ),
    ];
    for (change, word) in refusals {
        let bundle = pod.bundle("true", change);
        let message = bundle.fails(&["create", &bundle.id], 1);
        assert!(message.contains(word), "{word}: {message}");
    }
    // Nor can others join what is no sandbox, and changes no files.
    let alone = Bundle::with("sleep 60", |config| config["root"]["readonly"] = json!(true));
    alone.create();
    alone.start();
    let mut member = pod.bundle("true", |config| config["annotations"][ID] = json!(alone.id));
    member.state = Some(alone.root());
    let message = member.fails(&["create", &member.id], 1);
    assert!(message.contains("no others can join"), "{message}");
    let missing = pod.bundle("true", |config| config["process"]["args"] = json!(["no-such-program"]));
    let message = missing.fails(&["create", &missing.id], 1);
    assert!(message.contains("executable file not found in $PATH"), "{message}");
}

/// The whole pod is one trust domain; what is around it is not in it.
#[test]
fn a_taken_over_container_reaches_nothing_around_its_pod() {
    if !is_root() {
        return;
    }
    let pod = Pod::start();
    let place = conformance::scratch().expect("a directory");
    let (secret, volume) = (place.path().join("secret"), place.path().join("volume"));
    fs::create_dir(&volume).expect("made");
    fs::write(&secret, "SECRET").expect("written");
    fs::write(volume.join("file"), "kept").expect("written");
    let hub = pod.sandbox.root().join(&pod.sandbox.id).join("pod");
    let bundle = pod.bundle("", |config| {
        let mount =
            json!({ "destination": "/volume", "type": "bind", "source": volume, "options": ["rbind", "ro"] });
        config["mounts"].as_array_mut().expect("mounts").push(mount);
        config["process"]["args"] = json!(["/attack", secret, hub, volume]);
    });
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks/pod.c");
    let program = bundle.rootfs().join("attack");
    compile("gcc", &["-O1", "-mfsgsbase", "-static"], &source, &program).expect("compiled");
    bundle.create();
    bundle.start();
    bundle.reaches("stopped");
    // The host's standard output is that of the sandbox.
    assert_eq!(pod.sandbox.out(), "looked around\nheld\n");
    let names = |directory: &Path| {
        let entries = fs::read_dir(directory).expect("readable").flatten();
        entries.map(|entry| entry.file_name().into_string().expect("text")).collect::<Vec<_>>()
    };
    assert_eq!(names(&hub), ["root"]);
    assert_eq!(names(&hub.join("root")), Vec::<String>::new());
    assert_eq!(names(&volume), ["file"]);
    assert_eq!(fs::read_to_string(volume.join("file")).expect("readable"), "kept");
}
