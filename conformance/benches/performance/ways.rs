//! The ways in which a command is run: natively, in our sandbox, and in what else is installed.

use anyhow::{Context, Result};
use conformance::sandbox_exec;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A way to run a command.
#[derive(Clone)]
pub struct Way {
    /// As the column is headed.
    pub name: String,
    prefix: Vec<String>,
    /// Of a runtime that takes commands from a file.
    bundle: Option<Arc<Bundle>>,
}

impl Way {
    /// A way with words in front of the command.
    pub fn with_prefix(name: &str, prefix: &[&str]) -> Way {
        Way { name: name.into(), prefix: prefix.iter().map(|part| part.to_string()).collect(), bundle: None }
    }

    /// A way with bundles of a runtime, in a network namespace that has this path or in a new one.
    pub fn in_bundles(name: &str, runtime: &[&str], network: Option<&str>) -> Result<Way> {
        let bundle = Some(Arc::new(Bundle::new(runtime, network)?));
        Ok(Way { name: name.into(), prefix: Vec::new(), bundle })
    }

    /// The command, run this way in `directory`.
    pub fn command(&self, argv: &[&str], directory: &Path) -> Result<Command> {
        let own = self.bundle.as_ref().map(|bundle| bundle.prefix(argv, directory)).transpose()?;
        let prefix = own.as_ref().unwrap_or(&self.prefix);
        let argv = if own.is_some() { &[] } else { argv };
        let mut all = prefix.iter().map(String::as_str).chain(argv.iter().copied());
        let mut command = Command::new(all.next().unwrap_or_default());
        command.args(all).current_dir(directory).stdin(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    /// The way with options of ours, if it is the sandbox.
    pub fn with_options(&self, options: &[&str]) -> Way {
        let ours = self.name == "sandbox-exec";
        let part = |part: &String| {
            let options = options.iter().filter(|_| ours && part == "--").map(|option| option.to_string());
            options.chain([part.clone()]).collect::<Vec<_>>()
        };
        Way { prefix: self.prefix.iter().flat_map(part).collect(), ..self.clone() }
    }

    /// The options with which commands are run, if `program` runs them.
    pub fn options_of(&self, program: &str) -> Option<Vec<&str>> {
        let (first, rest) = self.prefix.split_first()?;
        let options = rest.iter().map(String::as_str).take_while(|word| word.starts_with("--"));
        (first == program).then(|| options.collect())
    }

    /// Whether commands are run in containers of another runtime.
    pub fn is_container(&self) -> bool {
        self.bundle.is_some()
    }

    /// Ends what is left of commands that were killed: what a runtime has started does not end with it.
    pub fn clear(&self) {
        if let Some(bundle) = &self.bundle {
            bundle.clear();
        }
    }
}

/// A runtime's form of a command: a directory with a tree, which has everything of the host, and a description.
struct Bundle {
    /// The runtime, with what comes before it and its options.
    runtime: Vec<String>,
    /// The network namespace, if it is not to have a new one.
    network: Option<String>,
    place: tempfile::TempDir,
    started: AtomicUsize,
}

impl Bundle {
    fn new(runtime: &[&str], network: Option<&str>) -> Result<Bundle> {
        let place = tempfile::Builder::new().prefix("bench-bundle-").tempdir()?;
        let tree = place.path().join("rootfs");
        std::fs::create_dir(&tree)?;
        for entry in std::fs::read_dir("/")?.flatten() {
            let (kind, to) = (entry.file_type()?, tree.join(entry.file_name()));
            if kind.is_symlink() {
                std::os::unix::fs::symlink(std::fs::read_link(entry.path())?, to)?;
            } else if kind.is_dir() {
                std::fs::create_dir(to)?;
            }
        }
        let runtime = runtime.iter().map(|word| word.to_string()).collect();
        Ok(Bundle { runtime, network: network.map(str::to_owned), place, started: AtomicUsize::new(0) })
    }

    fn state(&self) -> String {
        self.place.path().join("state").to_string_lossy().into_owned()
    }

    fn id(&self, number: usize) -> String {
        format!("bench-{}-{number}", std::process::id())
    }

    fn description(&self, argv: &[&str], directory: &Path) -> Result<Value> {
        let mut mounts = Vec::new();
        for entry in std::fs::read_dir("/")?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() && !["dev", "proc", "sys"].contains(&name.as_str()) {
                let path = format!("/{name}");
                mounts.push(
                    json!({"destination": path, "source": path, "type": "bind", "options": ["rbind", "rw"]}),
                );
            }
        }
        for (at, kind, options) in [
            ("/proc", "proc", &[][..]),
            ("/dev", "tmpfs", &["mode=755"]),
            ("/dev/pts", "devpts", &["newinstance", "ptmxmode=0666"]),
            ("/dev/shm", "tmpfs", &["mode=1777"]),
        ] {
            mounts.push(json!({"destination": at, "source": kind, "type": kind, "options": options}));
        }
        let environment: Vec<String> =
            std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
        let all = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETUID", "CAP_SETGID", "CAP_KILL"];
        let mut namespaces: Vec<Value> =
            ["pid", "ipc", "uts", "mount"].iter().map(|kind| json!({"type": kind})).collect();
        namespaces.push(match &self.network {
            Some(path) => json!({"type": "network", "path": path}),
            None => json!({"type": "network"}),
        });
        Ok(json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "mounts": mounts,
            "process": {
                "args": argv, "cwd": directory, "env": environment, "user": {"uid": 0, "gid": 0},
                "noNewPrivileges": true,
                "capabilities": {"bounding": all, "effective": all, "permitted": all},
            },
            "linux": {"namespaces": namespaces},
        }))
    }

    fn prefix(&self, argv: &[&str], directory: &Path) -> Result<Vec<String>> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        // One that starts at the moment reads the old description or the new one.
        let new = self.place.path().join("config.json.new");
        std::fs::write(&new, self.description(argv, directory)?.to_string())?;
        std::fs::rename(&new, self.place.path().join("config.json")).context("a bundle")?;
        let bundle = self.place.path().to_string_lossy().into_owned();
        let (state, id) = (self.state(), self.id(number));
        let verb = ["--root", &state, "run", "--bundle", &bundle, &id].map(String::from);
        Ok(self.runtime.iter().cloned().chain(verb).collect())
    }

    fn clear(&self) {
        let left = std::fs::read_dir(self.state()).into_iter().flatten().flatten();
        for id in left.map(|entry| entry.file_name()) {
            let delete = ["--root", &self.state(), "delete", "--force"];
            let (program, options) =
                self.runtime.split_first().map_or(("runc", &[][..]), |(first, rest)| (first, rest));
            let _ = Command::new(program).args(options).args(delete).arg(id).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.clear();
    }
}

/// gVisor's platforms, of which the first that works here is measured: in a virtual machine, systrap is what it recommends. Debian 12's
/// knows none. KVM runs for ever, and nothing in it, where `/dev/kvm` is for guests with a kernel of a special kind (PVM).
const PLATFORMS: [&str; 3] = ["systrap", "kvm", "ptrace"];
/// So long a way may take over `/bin/true` before it is taken for one that does not run.
const PATIENCE: Duration = Duration::from_secs(10);

/// Native, sandboxed, and what else is installed and runs here. The others get everything of the host.
pub fn ways() -> Vec<Way> {
    let mut ways = vec![
        Way::with_prefix("native", &[]),
        Way::with_prefix("sandbox-exec", &[&sandbox_exec().to_string_lossy(), "--"]),
    ];
    let bubblewrap = [
        "bwrap",
        "--unshare-all",
        "--die-with-parent",
        "--bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
    ];
    ways.extend(version("bwrap").map(|version| Way::with_prefix(&version, &bubblewrap)));
    ways.extend(version("runc").and_then(|version| Way::in_bundles(&version, &["runc"], None).ok()));
    ways.extend(
        version("runsc")
            .into_iter()
            .flat_map(|version| {
                let version = version.replace("version ", "");
                PLATFORMS.map(|platform| {
                    let option = format!("--platform={platform}");
                    let words = ["runsc", &option, "--network=none", "--ignore-cgroups", "do", "--"];
                    Way::with_prefix(&format!("{version}, {platform}"), &words)
                })
            })
            .find(runs),
    );
    // gVisor was found to run above.
    ways.retain(|way| way.options_of("runsc").is_some() || runs(way));
    ways
}

/// Whether commands run this way; that they do not is said.
pub fn runs(way: &Way) -> bool {
    let runs = ends_well(way).unwrap_or(false);
    if !runs {
        eprintln!("left out: {} does not run /bin/true", way.name);
    }
    runs
}

fn ends_well(way: &Way) -> Result<bool> {
    let mut child = way.command(&["/bin/true"], Path::new("/"))?.spawn()?;
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // In order, so that it can end what it has started.
    let _ = Command::new("kill").arg(child.id().to_string()).status();
    let _ = child.wait();
    Ok(false)
}

/// The first line of `--version`, if the command is there.
fn version(command: &str) -> Option<String> {
    let output = Command::new(command).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned();
    output.status.success().then(|| text.replace(" version ", " ").replace("+ds1", ""))
}
