//! A bundle in a scratch directory: a busybox tree and a config.json to be changed.

use conformance::{Outcome, run, scratch, trapbox};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const BUSYBOX: &str = "/bin/busybox";
static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Bundle {
    pub place: tempfile::TempDir,
    pub config: Value,
    pub id: String,
    /// Where containers are kept, if not beside the tree: those of a pod are together.
    pub state: Option<PathBuf>,
}

impl Bundle {
    /// With a shell that runs `script`.
    pub fn new(script: &str) -> Bundle {
        let place = scratch().expect("a directory");
        let rootfs = place.path().join("rootfs");
        for directory in ["bin", "etc", "root", "tmp", "proc"] {
            fs::create_dir_all(rootfs.join(directory)).expect("made");
        }
        fs::copy(BUSYBOX, rootfs.join("bin/busybox")).expect("busybox-static is installed");
        let list = Command::new(BUSYBOX).arg("--list").output().expect("busybox runs");
        for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", rootfs.join("bin").join(applet)).expect("made");
        }
        fs::write(
            rootfs.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        )
        .expect("written");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("conformance-{}-{number}", std::process::id());
        let made =
            Command::new(trapbox()).args(["spec", "--bundle"]).arg(place.path()).status().expect("runs");
        assert!(made.success(), "trapbox spec fails");
        let text = fs::read(place.path().join("config.json")).expect("config.json");
        let mut config: Value = serde_json::from_slice(&text).expect("JSON");
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", script]);
        config["root"]["readonly"] = json!(false);
        let bundle = Bundle { place, config, id, state: None };
        bundle.write();
        bundle
    }

    /// With another configuration.
    pub fn with(script: &str, change: impl FnOnce(&mut Value)) -> Bundle {
        let mut bundle = Bundle::new(script);
        change(&mut bundle.config);
        bundle.write();
        bundle
    }

    pub fn write(&self) {
        fs::write(self.place.path().join("config.json"), self.config.to_string()).expect("written");
    }

    pub fn rootfs(&self) -> PathBuf {
        self.place.path().join("rootfs")
    }

    pub fn root(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| self.place.path().join("state"))
    }

    fn with_runtime(&self, runtime: &Path) -> Command {
        let mut command = Command::new(runtime);
        command.arg("--root").arg(self.root()).arg("--log").arg(self.place.path().join("log"));
        command.args(["--log-format", "json"]);
        command
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.with_runtime(&trapbox());
        command.args(arguments).current_dir(self.place.path());
        command
    }

    pub fn call(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(arguments)).expect("trapbox runs")
    }

    /// A verb that must succeed; what it prints.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let outcome = self.call(arguments);
        assert_eq!(outcome.status, 0, "{arguments:?}: {}", outcome.stderr);
        outcome.stdout
    }

    /// A verb that must fail; the last message of the log.
    pub fn fails(&self, arguments: &[&str], status: i32) -> String {
        let outcome = self.call(arguments);
        assert_eq!(outcome.status, status, "{arguments:?}: {}", outcome.stderr);
        let log = fs::read_to_string(self.place.path().join("log")).expect("a log");
        let last: Value = serde_json::from_str(log.lines().last().expect("a line")).expect("JSON");
        assert_eq!(last["level"], "error");
        assert!(last["time"].as_str().is_some_and(|time| time.ends_with('Z')));
        last["msg"].as_str().expect("a message").to_owned()
    }

    /// `run` in the foreground, with this runtime or another.
    pub fn run_with(&self, runtime: &Path) -> Outcome {
        let mut command = self.with_runtime(runtime);
        command.args(["run", "--bundle"]).arg(self.place.path()).arg(&self.id);
        run(&mut command).expect("the runtime runs")
    }

    /// `create` with output to the file `out`.
    pub fn create(&self) {
        let out = fs::File::create(self.place.path().join("out")).expect("a file");
        let errors = out.try_clone().expect("a descriptor");
        let mut command = self.command(&["create", "--pid-file", "pid", &self.id]);
        let status =
            command.stdin(std::process::Stdio::null()).stdout(out).stderr(errors).status().expect("runs");
        assert!(status.success(), "create fails: {}", self.out());
    }

    pub fn start(&self) {
        self.ok(&["start", &self.id]);
    }

    pub fn out(&self) -> String {
        fs::read_to_string(self.place.path().join("out")).unwrap_or_default()
    }

    pub fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.ok(&["state", &self.id])).expect("JSON");
        state["status"].as_str().expect("a status").to_owned()
    }

    pub fn pid(&self) -> i32 {
        fs::read_to_string(self.place.path().join("pid"))
            .expect("a pid file")
            .trim()
            .parse()
            .expect("a number")
    }

    /// Waits for the container to be in this state.
    pub fn reaches(&self, status: &str) {
        wait_for(status, || self.status() == status);
    }

    /// What is left of the container on the host.
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for entry in fs::read_dir(self.root()).into_iter().flatten().flatten() {
            left.push(entry.path().display().to_string());
        }
        let name = format!("trapbox-{}", self.id);
        let controllers = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let groups = controllers
            .map(|entry| entry.path().join(&name))
            .chain([Path::new("/sys/fs/cgroup").join(&name)]);
        left.extend(groups.filter(|group| group.exists()).map(|group| group.display().to_string()));
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let place = self.place.path().display().to_string();
        left.extend(mounts.lines().filter(|line| line.contains(&place)).map(str::to_owned));
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&place) {
                left.push(entry.path().display().to_string());
            }
        }
        left
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.command(&["delete", "--force", &self.id]).output();
    }
}

/// How long what must come at once may take on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(180);

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}: does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}
