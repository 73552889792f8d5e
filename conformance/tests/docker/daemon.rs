//! A containerd and a dockerd of our own, in a network namespace of their own, with everything below a scratch directory. They end with
//! the test, also if it fails.

use conformance::{Outcome, run, scratch, trapbox};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long what must come at once may take on a machine that has much else to do.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Whether it comes.
pub fn wait_for(mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    true
}

const BUSYBOX: &str = "/bin/busybox";
/// The image that every test uses.
pub const IMAGE: &str = "tree";

pub struct Daemons {
    place: tempfile::TempDir,
    containerd: Child,
    dockerd: Option<Child>,
    /// Holds the network namespace while no daemon does.
    network: Child,
}

impl Daemons {
    /// `None` where they are not installed, or this is not root.
    pub fn start() -> Option<Daemons> {
        let installed = ["containerd", "dockerd", "docker", "runc"].iter().all(|name| {
            Command::new("sh")
                .args(["-c", &format!("command -v {name}")])
                .output()
                .is_ok_and(|found| found.status.success())
        });
        if !installed || !nix::unistd::geteuid().is_root() {
            eprintln!("docker.io is not installed (ci/setup does it), or not root: nothing was tested");
            return None;
        }
        let place = scratch().expect("a directory");
        let at = |name: &str| place.path().join(name);
        let containerd = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {:?}\n",
            at("containerd"),
            at("state"),
            at("containerd.sock")
        );
        fs::write(at("containerd.toml"), containerd).expect("written");
        configure(&at("daemon.json"), "runc");
        let network = network();
        let child = inside(&network, "containerd", &at("containerd.log"))
            .arg("--config")
            .arg(at("containerd.toml"))
            .spawn()
            .expect("containerd starts");
        let mut daemons = Daemons { place, containerd: child, dockerd: None, network };
        daemons.appears("containerd.sock");
        daemons.start_dockerd();
        daemons.import();
        Some(daemons)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn start_dockerd(&mut self) {
        let mut command = inside(&self.network, "dockerd", &self.path("dockerd.log"));
        command.arg("--config-file").arg(self.path("daemon.json"));
        command.arg("--containerd").arg(self.path("containerd.sock"));
        command.arg("--data-root").arg(self.path("data")).arg("--exec-root").arg(self.path("exec"));
        command.arg("--pidfile").arg(self.path("dockerd.pid"));
        command.args(["--iptables=false", "--ip6tables=false", "-H", &self.host()]);
        self.dockerd = Some(command.spawn().expect("dockerd starts"));
        let end = Instant::now() + PATIENCE;
        while self.docker(&["version"]).status != 0 {
            assert!(
                Instant::now() < end,
                "dockerd: {}",
                fs::read_to_string(self.path("dockerd.log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Has the daemon use this runtime where nobody names one, as `docker build` does not.
    pub fn set_default_runtime(&self, name: &str) {
        configure(&self.path("daemon.json"), name);
        let dockerd = fs::read_to_string(self.path("dockerd.pid")).expect("a pid file");
        assert!(Command::new("kill").args(["-HUP", dockerd.trim()]).status().expect("kill runs").success());
        let now = || self.ok(&["info", "--format", "{{.DefaultRuntime}}"]);
        assert!(wait_for(|| now().trim() == name), "the default runtime stays {}", now());
    }

    /// Ends dockerd alone, and starts it again.
    pub fn restart_dockerd(&mut self) {
        if let Some(mut dockerd) = self.dockerd.take() {
            end(&mut dockerd);
        }
        let _ = fs::remove_file(self.path("docker.sock"));
        self.start_dockerd();
    }

    fn appears(&self, name: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.path(name).exists() {
            assert!(Instant::now() < end, "{name} does not appear");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.path("docker.sock").display())
    }

    /// A docker command.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.host()).env("DOCKER_CONFIG", self.path("config")).args(arguments);
        command
    }

    pub fn docker(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(arguments)).expect("docker runs")
    }

    /// One that must succeed; what it prints.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let outcome = self.docker(arguments);
        assert_eq!(outcome.status, 0, "docker {arguments:?}: {}", outcome.stderr);
        outcome.stdout
    }

    /// A command in the network that the daemons have for the host's.
    pub fn in_network(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.network.id())).arg(program).args(arguments);
        command
    }

    pub fn containerd_socket(&self) -> PathBuf {
        self.path("containerd.sock")
    }

    fn import(&self) {
        let tree = self.path("tree");
        self::tree(&tree);
        let archive = self.path("tree.tar");
        let packed = Command::new("tar")
            .arg("-C")
            .arg(&tree)
            .arg("-cf")
            .arg(&archive)
            .arg(".")
            .status()
            .expect("tar runs");
        assert!(packed.success());
        self.ok(&["import", &archive.display().to_string(), IMAGE]);
    }
}

fn configure(file: &Path, default: &str) {
    let runtimes = json!({
        "trapbox": { "path": trapbox() },
        "in-memory": { "path": trapbox(), "runtimeArgs": ["--overlay=memory"] },
    });
    let configuration = json!({ "runtimes": runtimes, "live-restore": true, "default-runtime": default });
    fs::write(file, configuration.to_string()).expect("written");
}

/// Holds a network namespace for daemons.
pub fn network() -> Child {
    let mut network = Command::new("unshare");
    network
        .args(["--net", "sh", "-c", "ip link set lo up; echo up; exec sleep 100000"])
        .stdout(Stdio::piped());
    let mut network = network.spawn().expect("unshare runs");
    let mut line = String::new();
    let output = network.stdout.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("a line");
    assert_eq!(line, "up\n");
    network
}

/// The files of the image that every test uses.
pub fn tree(tree: &Path) {
    for directory in ["bin", "etc", "root", "tmp"] {
        fs::create_dir_all(tree.join(directory)).expect("made");
    }
    fs::copy(BUSYBOX, tree.join("bin/busybox")).expect("busybox-static is installed");
    let list = Command::new(BUSYBOX).arg("--list").output().expect("busybox runs");
    for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", tree.join("bin").join(applet)).expect("made");
    }
    fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n")
        .expect("written");
    fs::write(tree.join("etc/group"), "root:x:0:\nuser:x:1000:\nmore:x:50:user\n").expect("written");
}

/// What daemons have mounted below a directory and not let go of.
pub fn unmount_below(place: &Path) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let place = place.display().to_string();
    for mount in
        mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(|at| at.starts_with(&place))
    {
        let _ = Command::new("umount").args(["-l", mount]).status();
    }
}

/// A daemon in the network namespace, which leads a process group and writes to a log.
pub fn inside(network: &Child, program: &str, log: &Path) -> Command {
    let log = fs::File::options().append(true).create(true).open(log).expect("a log");
    let errors = log.try_clone().expect("a descriptor");
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{}/ns/net", network.id())).arg(program);
    command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
    command
}

/// Ends a daemon by its id, with patience.
pub fn end(daemon: &mut Child) {
    let _ = Command::new("kill").arg(daemon.id().to_string()).status();
    let patience = Instant::now() + PATIENCE;
    while matches!(daemon.try_wait(), Ok(None)) && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = daemon.kill();
    let _ = daemon.wait();
}

impl Drop for Daemons {
    fn drop(&mut self) {
        let all = self.docker(&["ps", "-aq"]).stdout;
        for container in all.lines() {
            self.docker(&["rm", "--force", container]);
        }
        if let Some(dockerd) = &mut self.dockerd {
            end(dockerd);
        }
        end(&mut self.containerd);
        let _ = self.network.kill();
        let _ = self.network.wait();
        unmount_below(self.place.path());
    }
}
