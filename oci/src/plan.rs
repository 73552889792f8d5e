//! From a bundle to what is to be launched: config.json is read and checked here, whole, before anything is made.

use crate::command::Writes;
use crate::mounts::Purpose;
use crate::network::{self, Network};
use crate::pod::Role;
use crate::state::{Container, Record};
use crate::{fields, hooks, inside, log, mounts, namespaces, personality, scheduling, seccomp};
use anyhow::Context;
use boundary::boot::BootOptions;
use boundary::process::{Capabilities, Process as First};
use boundary::sysctl::SYSCTLS;
use oci_spec::runtime::{Linux, LinuxNamespaceType, PosixRlimitType, Process, Spec};
use runtime::launch::{self, IMAGE, MOST_TASKS, Request};
use runtime::view::View;
use std::fs;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The annotation that chooses where writes go.
const WRITES_ANNOTATION: &str = "dev.trapbox.overlay";

/// A checked bundle.
pub struct Bundle {
    /// Its directory.
    pub directory: PathBuf,
    /// The root's.
    pub rootfs: PathBuf,
    /// config.json.
    pub spec: Spec,
    /// Where writes to the root go.
    pub writes: Writes,
}

impl Bundle {
    /// Reads a bundle, and refuses what cannot be done.
    pub fn read(directory: &Path, writes: Writes) -> anyhow::Result<Bundle> {
        let directory =
            fs::canonicalize(directory).with_context(|| format!("--bundle {}", directory.display()))?;
        let path = directory.join("config.json");
        let text = fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                anyhow::anyhow!("JSON specification file {} not found", path.display())
            }
            _ => anyhow::Error::new(error).context(path.display().to_string()),
        })?;
        let config: serde_json::Value = serde_json::from_slice(&text).context("config.json")?;
        let findings = fields::check(&config);
        anyhow::ensure!(findings.refused.is_empty(), "config.json: {}", findings.refused.join("; "));
        for line in &findings.ignored {
            log::warn(&format!("config.json: {line}"));
        }
        let spec: Spec = serde_json::from_value(config).context("config.json")?;
        check(&spec)?;
        let root = spec.root().as_ref().context("config.json: root is missing")?.path();
        let rootfs = fs::canonicalize(directory.join(root))
            .with_context(|| format!("root.path {}", root.display()))?;
        anyhow::ensure!(rootfs.is_dir(), "root.path {} is not a directory", rootfs.display());
        anyhow::ensure!(rootfs != Path::new("/"), "root.path: the host's own root cannot be a container's");
        let asked = spec.annotations().as_ref().and_then(|annotations| annotations.get(WRITES_ANNOTATION));
        let writes = match asked.map(String::as_str) {
            None => writes,
            Some("memory") => Writes::Memory,
            Some("host") => Writes::Host,
            Some(other) => {
                anyhow::bail!("annotation {WRITES_ANNOTATION}: {other:?} is neither \"memory\" nor \"host\"")
            }
        };
        Ok(Bundle { directory, rootfs, spec, writes })
    }
}

fn check(spec: &Spec) -> anyhow::Result<()> {
    anyhow::ensure!(spec.version().starts_with("1."), "ociVersion {}: only 1.x is known", spec.version());
    let process = spec.process().as_ref().context("config.json: process is missing")?;
    check_process(process)?;
    let linux = spec.linux().as_ref().context("config.json: linux is missing")?;
    namespaces::check(spec, &Role::of(spec)?)?;
    match linux.rootfs_propagation().as_deref() {
        None | Some("" | "private" | "rprivate") => {}
        Some(other) => anyhow::bail!(
            "linux.rootfsPropagation: {other:?} is not supported; a sandbox's mounts are private"
        ),
    }
    for (field, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        let Some(name) = namespaces::named(name) else { continue };
        anyhow::ensure!(
            namespaces::has(spec, LinuxNamespaceType::Uts),
            "{field}: a container without a uts namespace of its own cannot have one"
        );
        anyhow::ensure!(name.len() <= 64, "{field}: {name:?} is longer than 64 bytes");
    }
    spec.hooks().as_ref().map_or(Ok(()), hooks::check)
}

/// Refuses a process that cannot be.
pub fn check_process(process: &Process) -> anyhow::Result<()> {
    anyhow::ensure!(process.cwd().is_absolute(), "process.cwd: {:?} is not an absolute path", process.cwd());
    let arguments = process.args().as_deref().unwrap_or_default();
    anyhow::ensure!(!arguments.is_empty(), "process.args must not be empty");
    Ok(())
}

/// Whether a container has files in its root that the outside does not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hidden {
    /// It has none.
    None,
    /// It runs, and writes to memory.
    Some,
}

/// What a process starts with. The program must be there.
pub fn first(view: &View, process: &Process, linux: Option<&Linux>, hidden: Hidden) -> anyhow::Result<First> {
    let arguments = process.args().as_deref().unwrap_or_default();
    let name = arguments.first().context("process.args must not be empty")?;
    let mut env: Vec<String> = process.env().clone().unwrap_or_default();
    let path = env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).map(str::to_owned);
    let program = match inside::program(view, name, path.as_deref(), process.cwd()) {
        // It may be there in memory.
        Err(_) if hidden == Hidden::Some => PathBuf::from(name),
        found => found.context("unable to start container process")?,
    };
    let user = process.user();
    // setgroups(2) keeps them in order.
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    groups.sort_unstable();
    if !env.iter().any(|variable| variable.starts_with("HOME=")) {
        let home = inside::home(view, user.uid()).unwrap_or_else(|| "/".into());
        env.push(format!("HOME={home}"));
    }
    Ok(First {
        argv: arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
        program: program.as_os_str().as_bytes().to_vec(),
        env: env.into_iter().map(String::into_bytes).collect(),
        cwd: process.cwd().as_os_str().as_bytes().to_vec(),
        uid: user.uid(),
        gid: user.gid(),
        groups,
        umask: user.umask().unwrap_or(0o022),
        capabilities: Some(capabilities(process)?),
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        rlimits: limits(process)?,
        ignored_signals: 0,
        oom_score_adj: process.oom_score_adj().unwrap_or(0),
        scheduling: scheduling::of(process)?,
        personality: linux
            .and_then(|linux| linux.personality().as_ref())
            .map_or(Ok(0), personality::number)?,
        filters: linux
            .and_then(|linux| linux.seccomp().as_ref())
            .map(seccomp::compile)
            .transpose()?
            .into_iter()
            .collect(),
    })
}

/// The sets of capabilities by number; a process for which none are named has none.
fn capabilities(process: &Process) -> anyhow::Result<Capabilities> {
    let Some(named) = process.capabilities() else { return Ok(Capabilities::default()) };
    Ok(Capabilities {
        bounding: bits(named.bounding())?,
        effective: bits(named.effective())?,
        permitted: bits(named.permitted())?,
        inheritable: bits(named.inheritable())?,
        ambient: bits(named.ambient())?,
    })
}

fn bits(set: &Option<oci_spec::runtime::Capabilities>) -> anyhow::Result<u64> {
    set.iter().flatten().try_fold(0, |all, one| {
        let one: caps::Capability =
            format!("CAP_{one}").parse().with_context(|| format!("process.capabilities: {one}"))?;
        Ok(all | one.bitmask())
    })
}

/// The limits by number: those of this process, but for the ones that config.json sets.
fn limits(process: &Process) -> anyhow::Result<Vec<(u64, u64)>> {
    let mut limits = runtime::program::resource_limits();
    let mut seen = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let number = number_of(limit.typ());
        anyhow::ensure!(!seen.contains(&number), "process.rlimits: {} is there twice", limit.typ());
        seen.push(number);
        anyhow::ensure!(limit.soft() <= limit.hard(), "process.rlimits: {}: soft is above hard", limit.typ());
        if let Some(place) = limits.get_mut(number) {
            *place = (limit.soft(), limit.hard());
        }
    }
    Ok(limits)
}

fn number_of(kind: PosixRlimitType) -> usize {
    use PosixRlimitType as Kind;
    let number = match kind {
        Kind::RlimitCpu => libc::RLIMIT_CPU,
        Kind::RlimitFsize => libc::RLIMIT_FSIZE,
        Kind::RlimitData => libc::RLIMIT_DATA,
        Kind::RlimitStack => libc::RLIMIT_STACK,
        Kind::RlimitCore => libc::RLIMIT_CORE,
        Kind::RlimitRss => libc::RLIMIT_RSS,
        Kind::RlimitNproc => libc::RLIMIT_NPROC,
        Kind::RlimitNofile => libc::RLIMIT_NOFILE,
        Kind::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        Kind::RlimitAs => libc::RLIMIT_AS,
        Kind::RlimitLocks => libc::RLIMIT_LOCKS,
        Kind::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        Kind::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        Kind::RlimitNice => libc::RLIMIT_NICE,
        Kind::RlimitRtprio => libc::RLIMIT_RTPRIO,
        Kind::RlimitRttime => libc::RLIMIT_RTTIME,
    };
    number as usize
}

/// What the monitor launches.
pub struct Plan {
    view: View,
    /// Its first process.
    pub first: First,
    /// Hooks run in the container before that.
    pub held: bool,
    hostname: Option<String>,
    domainname: Option<String>,
    memory: u64,
    /// Tasks at most.
    pub pids: u32,
    sysctls: Vec<(String, String)>,
    /// The program has a terminal.
    pub terminal: bool,
    /// What it is in a pod.
    pub role: Role,
}

impl Plan {
    /// Works everything out, and makes what is missing in the root.
    pub fn new(record: &Record) -> anyhow::Result<Plan> {
        let spec = &record.spec;
        let process = spec.process().as_ref().context("config.json: process is missing")?;
        let view = mounts::view(spec, &record.bundle, &record.rootfs, record.writes, Purpose::Make)?;
        let first = first(&view, process, spec.linux().as_ref(), Hidden::None)?;
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let positive = |limit: i64| u64::try_from(limit).ok().filter(|&limit| limit > 0);
        let memory = resources.and_then(|resources| resources.memory().as_ref()?.limit()).and_then(positive);
        let pids = resources.and_then(|resources| resources.pids().as_ref().map(|pids| pids.limit()));
        Ok(Plan {
            view,
            first,
            held: !hooks::all(spec, hooks::START_CONTAINER).is_empty(),
            hostname: namespaces::named(spec.hostname()).map(str::to_owned),
            domainname: namespaces::named(spec.domainname()).map(str::to_owned),
            sysctls: sysctls(spec)?,
            memory: memory.unwrap_or_else(half_of_memory),
            pids: tasks(pids),
            terminal: process.terminal().unwrap_or(false),
            role: Role::of(spec)?,
        })
    }

    /// The directory below which trees of containers that join are mounted, for a pod's sandbox.
    pub fn set_hub(&mut self, hub: PathBuf) {
        self.view.pod = Some(hub);
    }

    /// Whether others may join: a pod's sandbox, and what Podman makes one of, which its annotations do not say. Nothing is lost by that
    /// where the filter has what changes files.
    pub fn may_be_joined(&self) -> bool {
        match self.role {
            Role::Sandbox => true,
            Role::Alone => nix::unistd::geteuid().is_root() && self.view.has_writable_host_path(),
            Role::Member(_) => false,
        }
    }

    /// What a container takes along that joins a pod.
    pub fn into_parts(self) -> (View, First) {
        (self.view, self.first)
    }

    /// The name servers that the container is told of.
    pub fn name_servers(&self) -> Vec<IpAddr> {
        let file = inside::find(&self.view, Path::new("/etc/resolv.conf")).ok().and_then(|place| place.host);
        let text = file.and_then(|file| fs::read_to_string(file).ok());
        text.map(|text| network::name_servers(&text)).unwrap_or_default()
    }

    /// The request for the launcher, which this process is about to call.
    pub fn request(self, terminal: Option<OwnedFd>, network: &mut Network) -> anyhow::Result<Request> {
        let first = self.first;
        // Those of the uts namespace that this process is in, if there are no others.
        let names = nix::sys::utsname::uname().context("the host's name")?;
        let hostname = self.hostname.unwrap_or_else(|| names.nodename().to_string_lossy().into_owned());
        let domainname = self.domainname.unwrap_or_else(|| names.domainname().to_string_lossy().into_owned());
        Ok(Request {
            image: IMAGE,
            allow_missing: Vec::new(),
            walls: launch::Walls::Namespaces,
            oom_score_adj: self.role.oom_score_adj(first.oom_score_adj).unwrap_or(0),
            first,
            identity: launch::container(),
            hostname,
            domainname,
            view: self.view,
            options: BootOptions {
                log_level: 0,
                memory_limit: self.memory,
                pids_limit: self.pids,
                container: true,
                host_pids: false,
                held: self.held,
                sysctls: self.sysctls,
                changes_with_data: false,
                host_xattrs: true,
                kernel_guard: false,
                patch_calls: true,
                host_loopback: network.host_loopback,
                terminal_size: runtime::terminal::size(),
            },
            memory: None,
            log: Some(nix::unistd::dup(std::io::stderr()).context("standard error")?),
            strace: None,
            terminal,
            stats: None,
            broker: network.to_broker.take(),
            stack: network.stack.take(),
            changes: None,
        })
    }
}

/// Settings of `/proc/sys`, of those that the kernel inside knows.
fn sysctls(spec: &Spec) -> anyhow::Result<Vec<(String, String)>> {
    let asked = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    let mut settings = Vec::new();
    for (name, value) in asked.into_iter().flatten() {
        let dotted = name.replace('/', ".");
        let known = SYSCTLS.iter().find(|known| known.name == dotted).with_context(|| {
            let names: Vec<&str> = SYSCTLS.iter().map(|known| known.name).collect();
            format!("linux.sysctl: {name} is not supported; the kernel inside has {}", names.join(", "))
        })?;
        let value =
            known.parse(value).with_context(|| format!("linux.sysctl: {name} cannot be {value:?}"))?;
        settings.push((known.name.to_owned(), value));
    }
    settings.sort();
    Ok(settings)
}

/// The number of tasks that a limit of config.json means to the kernel inside.
pub fn tasks(limit: Option<i64>) -> u32 {
    let limit = limit.filter(|&limit| limit > 0);
    limit.map_or(MOST_TASKS, |limit| u32::try_from(limit).unwrap_or(u32::MAX))
}

fn half_of_memory() -> u64 {
    nix::sys::sysinfo::sysinfo().map_or(1 << 30, |info| info.ram_total() / 2)
}

/// The view of a running container, for what enters it.
pub fn view_of(container: &Container) -> anyhow::Result<View> {
    let record = &container.record;
    mounts::view(&record.spec, &record.bundle, &record.rootfs, record.writes, Purpose::Look)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> anyhow::Result<Vec<(String, String)>> {
        let mut spec = Spec::default();
        let mut linux = spec.linux().clone().unwrap_or_default();
        linux.set_sysctl(Some([(name.to_owned(), value.to_owned())].into()));
        spec.set_linux(Some(linux));
        sysctls(&spec)
    }

    #[test]
    fn settings_that_the_kernel_inside_has_are_passed_and_others_refused() {
        let groups = with("net/ipv4/ping_group_range", "0\t2147483647").expect("known");
        assert_eq!(groups, [("net.ipv4.ping_group_range".to_owned(), "0\t2147483647".to_owned())]);
        for (name, value) in
            [("kernel.panic", "1"), ("net.core.somaxconn", "many"), ("net.ipv4.ping_group_range", "0")]
        {
            let error = with(name, value).expect_err("refused").to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
