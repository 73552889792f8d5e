//! Pods as Kubernetes makes them: containerd's CRI, asked by `applications/cri.py`, with CNI. The same pod with runc must say the same.

use crate::daemon::{self, end, inside};
use conformance::{run, scratch, trapbox};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const PLUGINS: &str = "/usr/lib/cni";
const IMAGE: &str = "docker.io/library/tree:latest";
/// `NamespaceMode` of the CRI: kubelet's default for process ids, and what `shareProcessNamespace` makes of it.
const OF_CONTAINER: i32 = 1;
const OF_POD: i32 = 0;
/// What a debug container asks for: those of another container.
const OF_TARGET: i32 = 3;
/// Whether the shell is process 1, and whether it sees the pod's sandbox.
const SEEN: &str = "[ $$ = 1 ] && echo first; ps -o args | grep -c '^sleep 10000[0]'";
/// `ContainerState`.
const EXITED: i32 = 2;

struct Cri {
    place: tempfile::TempDir,
    containerd: Child,
    network: Child,
}

impl Cri {
    fn start() -> Option<Cri> {
        let there = |name: &str| {
            let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
            found.is_ok_and(|found| found.status.success())
        };
        let installed = ["containerd", "runc", "ctr", "curl", "python3"].into_iter().all(there)
            && Path::new(PLUGINS).join("ptp").exists();
        if !installed || !nix::unistd::geteuid().is_root() {
            eprintln!(
                "containerd or CNI plugins are not installed (ci/setup does it), or not root: nothing was tested"
            );
            return None;
        }
        let place = scratch().expect("a directory");
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("cni")).expect("made");
        let network = json!({
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [{ "type": "ptp", "ipam": {
                "type": "host-local", "dataDir": at("ipam"), "ranges": [[{ "subnet": "10.88.7.0/24" }]],
                "routes": [{ "dst": "0.0.0.0/0" }] } }],
        });
        fs::write(at("cni/10-pods.conflist"), network.to_string()).expect("written");
        let runtime = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes";
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n[grpc]\naddress = {:?}\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = {IMAGE:?}\nnetns_mounts_under_state_dir = true\n\
             restrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = {PLUGINS:?}\nconf_dir = {:?}\n\
             {runtime}.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
             {runtime}.trapbox]\nruntime_type = \"io.containerd.runc.v2\"\n\
             {runtime}.trapbox.options]\nBinaryName = {:?}\n",
            at("containerd"),
            at("state"),
            at("containerd.sock"),
            at("cni"),
            trapbox()
        );
        fs::write(at("containerd.toml"), config).expect("written");
        let network = daemon::network();
        let child = inside(&network, "containerd", &at("containerd.log"))
            .arg("--config")
            .arg(at("containerd.toml"))
            .spawn()
            .expect("containerd starts");
        let cri = Cri { place, containerd: child, network };
        wait("containerd answers", || cri.try_call("Status", &json!({})).is_some());
        cri.import();
        Some(cri)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// An image of one layer, as `docker save` writes them.
    fn import(&self) {
        let place = self.path("image");
        fs::create_dir(&place).expect("made");
        daemon::tree(&self.path("tree"));
        let tar = |directory: &Path, archive: &Path, names: &[&str]| {
            let mut command = Command::new("tar");
            command.arg("-C").arg(directory).arg("-cf").arg(archive).args(names);
            assert!(command.status().expect("tar runs").success());
        };
        tar(&self.path("tree"), &place.join("layer.tar"), &["."]);
        let sum = Command::new("sha256sum").arg(place.join("layer.tar")).output().expect("sha256sum runs");
        let sum = String::from_utf8_lossy(&sum.stdout).split(' ').next().expect("a sum").to_owned();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": { "Cmd": ["sleep", "100000"], "Env": ["PATH=/bin"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] }, "history": [{}],
        });
        let manifest = json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]);
        fs::write(place.join("config.json"), config.to_string()).expect("written");
        fs::write(place.join("manifest.json"), manifest.to_string()).expect("written");
        let archive = self.path("image.tar");
        tar(&place, &archive, &["config.json", "manifest.json", "layer.tar"]);
        let mut import = Command::new("ctr");
        import
            .arg("-a")
            .arg(self.path("containerd.sock"))
            .args(["-n", "k8s.io", "images", "import"])
            .arg(archive);
        let imported = run(&mut import).expect("ctr runs");
        assert_eq!(imported.status, 0, "{}", imported.stderr);
    }

    fn asked(&self, method: &str, request: &Value) -> conformance::Outcome {
        let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("applications/cri.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(client).arg(self.path("containerd.sock")).arg(method).arg(request.to_string());
        run(&mut command).expect("python3 runs")
    }

    fn try_call(&self, method: &str, request: &Value) -> Option<Value> {
        let answer = self.asked(method, request);
        (answer.status == 0).then(|| serde_json::from_str(&answer.stdout).expect("JSON"))
    }

    fn call(&self, method: &str, request: &Value) -> Value {
        let answer = self.asked(method, request);
        assert_eq!(answer.status, 0, "{method} {request}: {}", answer.stderr);
        serde_json::from_str(&answer.stdout).expect("JSON")
    }
}

impl Drop for Cri {
    fn drop(&mut self) {
        end(&mut self.containerd);
        let _ = self.network.kill();
        let _ = self.network.wait();
        daemon::unmount_below(self.place.path());
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "{what}: does not come");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A pod that runs.
struct Pod<'a> {
    cri: &'a Cri,
    config: Value,
    id: String,
    pids: i32,
}

impl Pod<'_> {
    fn run<'a>(cri: &'a Cri, handler: &str, pids: i32) -> Pod<'a> {
        let options = json!({ "security_context": { "namespace_options": { "pid": pids } } });
        let config = json!({
            "metadata": { "name": format!("{handler}-{pids}"), "uid": "uid", "namespace": "default" },
            "hostname": "podhost", "log_directory": cri.path("logs"), "dns_config": { "servers": ["192.0.2.1"] },
            "linux": options,
        });
        let made = cri.call("RunPodSandbox", &json!({ "config": config, "runtime_handler": handler }));
        let id = made["pod_sandbox_id"].as_str().expect("an id").to_owned();
        Pod { cri, config, id, pids }
    }

    fn address(&self) -> String {
        let status = self.cri.call("PodSandboxStatus", &json!({ "pod_sandbox_id": self.id }));
        status["status"]["network"]["ip"].as_str().expect("an address").to_owned()
    }

    fn container(&self, name: &str, script: &str) -> String {
        self.container_with(name, script, &json!({ "pid": self.pids }))
    }

    fn container_with(&self, name: &str, script: &str, namespaces: &Value) -> String {
        let config = json!({
            "metadata": { "name": name }, "image": { "image": IMAGE }, "command": ["sh", "-c"], "args": [script],
            "log_path": format!("{}-{name}", self.id),
            "linux": {
                "resources": { "memory_limit_in_bytes": 100_000_000 },
                "security_context": { "namespace_options": namespaces },
            },
        });
        let request = json!({ "pod_sandbox_id": self.id, "config": config, "sandbox_config": self.config });
        let made = self.cri.call("CreateContainer", &request);
        let id = made["container_id"].as_str().expect("an id").to_owned();
        self.cri.call("StartContainer", &json!({ "container_id": id }));
        id
    }

    /// What a container has said, without times.
    fn said(&self, name: &str) -> String {
        let log = fs::read_to_string(self.cri.path("logs").join(format!("{}-{name}", self.id)));
        let lines = log.unwrap_or_default();
        lines.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).map(|line| format!("{line}\n")).collect()
    }

    fn exit_code(&self, container: &str) -> i64 {
        let status =
            || self.cri.call("ContainerStatus", &json!({ "container_id": container }))["status"].clone();
        wait("the container ends", || status()["state"] == EXITED);
        status()["exit_code"].as_i64().unwrap_or(0)
    }

    fn remove(self, containers: &[&str]) {
        for container in containers {
            self.cri.call("RemoveContainer", &json!({ "container_id": container }));
        }
        self.cri.call("StopPodSandbox", &json!({ "pod_sandbox_id": self.id }));
        self.cri.call("RemovePodSandbox", &json!({ "pod_sandbox_id": self.id }));
    }
}

/// The life of a pod of two containers, as far as it must be the same everywhere.
fn life(cri: &Cri, handler: &str, pids: i32) -> Vec<String> {
    let pod = Pod::run(cri, handler, pids);
    let server = pod.container(
        "server",
        &format!(
            "trap 'exit 4' TERM; hostname; {SEEN}; cat /etc/resolv.conf; echo shared > /dev/shm/x; echo mine > /mine; \
             while :; do echo hello | nc -l -p 8080 & wait $!; done"
        ),
    );
    let client = pod.container(
        "client",
        "until nc 127.0.0.1 8080 </dev/null; do sleep 0.1; done 2>/dev/null; cat /dev/shm/x; ls /mine 2>&1; exit 9",
    );
    let mut seen = vec![pod.exit_code(&client).to_string(), pod.said("client")];
    let script = json!(["sh", "-c", "hostname; cat /mine; echo $PPID; echo error >&2; exit 3"]);
    let executed = cri.call("ExecSync", &json!({ "container_id": server, "cmd": script, "timeout": 20 }));
    seen.push(executed.to_string());
    // One that has the server's process ids sees that in any case, and the sandbox if that does.
    let target = json!({ "pid": OF_TARGET, "target_id": server });
    let debug = pod.container_with("debug", &format!("{SEEN}; ps -o args | grep -c '[t]rap'"), &target);
    seen.push(pod.exit_code(&debug).to_string());
    seen.push(pod.said("debug"));
    cri.call("RemoveContainer", &json!({ "container_id": debug }));
    // From outside, by the address that CNI gave the pod.
    let ask = format!("until nc {} 8080 </dev/null; do sleep 0.1; done 2>/dev/null", pod.address());
    let mut outside = Command::new("nsenter");
    outside.arg(format!("--net=/proc/{}/ns/net", cri.network.id())).args(["busybox", "sh", "-c", &ask]);
    seen.push(run(&mut outside).expect("nsenter runs").stdout);
    cri.call("StopContainer", &json!({ "container_id": server, "timeout": 20 }));
    seen.push(pod.exit_code(&server).to_string());
    seen.push(pod.said("server"));
    // One is started again in a pod that stays.
    let again = pod.container("again", "ls /mine 2>&1; cat /dev/shm/x");
    seen.push(pod.exit_code(&again).to_string());
    seen.push(pod.said("again"));
    pod.remove(&[&server, &client, &again]);
    seen
}

#[test]
fn a_pod_of_the_cri_lives_as_with_runc() {
    let Some(cri) = Cri::start() else { return };
    for pids in [OF_POD, OF_CONTAINER] {
        let (wanted, found) = (life(&cri, "runc", pids), life(&cri, "trapbox", pids));
        assert_eq!(wanted, found, "with process ids of mode {pids}");
        assert_eq!(found[..2], ["9", "hello\nshared\nls: /mine: No such file or directory\n"]);
        let seen = if pids == OF_POD { "1\n1\n" } else { "0\n1\n" };
        assert_eq!(found[4], seen, "with process ids of mode {pids}");
        assert_eq!(found[5], "hello\n");
        assert_eq!(found[7].contains("first\n0\n"), pids == OF_CONTAINER, "{}", found[7]);
    }
    // A sandbox that goes takes its containers along, in whatever order they are removed.
    let pod = Pod::run(&cri, "trapbox", OF_CONTAINER);
    let container = pod.container("c", "sleep 1000");
    cri.call("StopPodSandbox", &json!({ "pod_sandbox_id": pod.id }));
    assert_eq!(pod.exit_code(&container), 137);
    pod.remove(&[&container]);
}
