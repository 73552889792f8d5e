//! Pods: containers that share one kernel. The CRI makes a container that is the pod's sandbox, and says in annotations of the others
//! which one that is; their network, ipc and uts namespaces are given as those of its process. Here they join its kernel.

use crate::plan::Plan;
use crate::state::{self, Container, Status};
use crate::verbs::exec;
use crate::{control, hooks, log, namespaces, signals};
use anyhow::Context;
use boundary::process::{Container as Joining, ProcessIds};
use nix::sys::signal::SigSet;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use runtime::attach::{self, Attached, Files};
use runtime::launch;
use runtime::supervisor::End;
use runtime::terminal::{self, Terminal};
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Annotations that say what a container is in its pod, and of which: containerd's and CRI-O's.
const ANNOTATIONS: &[(&str, &str)] = &[
    ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"),
    ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"),
];

/// Below a sandbox's directory: where the trees of containers that join it are mounted, by none who is seen.
const HUB: &str = "pod";

/// What a container is in its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Nothing is said of it: its kernel is its own, or it is the sandbox of a pod of Podman's.
    Alone,
    /// The pod's kernel is its.
    Sandbox,
    /// It joins this one.
    Member(String),
}

impl Role {
    /// By config.json's annotations.
    pub fn of(spec: &Spec) -> anyhow::Result<Role> {
        let value = |name: &str| spec.annotations().as_ref()?.get(name).map(String::as_str);
        for (kind, sandbox) in ANNOTATIONS {
            match value(kind) {
                None => {}
                Some("sandbox") => return Ok(Role::Sandbox),
                Some("container") => {
                    let id = value(sandbox).with_context(|| format!("annotation {sandbox} is missing"))?;
                    state::check_id(id).with_context(|| format!("annotation {sandbox}"))?;
                    return Ok(Role::Member(id.to_owned()));
                }
                Some(other) => {
                    anyhow::bail!("annotation {kind}: {other:?} is neither \"sandbox\" nor \"container\"")
                }
            }
        }
        Ok(Role::Alone)
    }

    /// The score that the host is to have. What shields a pod's sandbox is meant for a process that only waits, and would shield all
    /// containers with it.
    pub fn oom_score_adj(&self, asked: i32) -> Option<i32> {
        (*self != Role::Sandbox || asked >= 0).then_some(asked)
    }
}

/// Makes the hub of a container that others may join.
pub fn make_hub(directory: &Path) -> anyhow::Result<PathBuf> {
    let hub = hub(directory);
    fs::create_dir_all(hub.join(launch::TREE)).with_context(|| format!("making {}", hub.display()))?;
    hub_on_host(directory)
}

/// The hub's path without links, which lead elsewhere where trees are made: the host's root is not the root there.
fn hub_on_host(directory: &Path) -> anyhow::Result<PathBuf> {
    let hub = hub(directory);
    fs::canonicalize(&hub).with_context(|| format!("stat {}", hub.display()))
}

fn hub(directory: &Path) -> PathBuf {
    directory.join(HUB)
}

/// The directory of another container of the same `--root`.
fn beside(directory: &Path, id: &str) -> PathBuf {
    directory.with_file_name(id)
}

/// The sandbox that a container is to join, which must be there, and right for it.
pub fn check(spec: &Spec, root: &Path) -> anyhow::Result<()> {
    let Role::Member(id) = Role::of(spec)? else { return Ok(()) };
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "a container can join a pod only if root creates it: its tree is mounted outside"
    );
    let sandbox = Container::read(&root.join(&id))?
        .with_context(|| format!("the pod's sandbox {id:?} does not exist"))?;
    let running = sandbox.status();
    anyhow::ensure!(running == Status::Running, "the pod's sandbox {id} is {running}, not running");
    anyhow::ensure!(hub(&sandbox.directory).exists(), "{id} is a container that no others can join");
    namespaces::check_member(spec, &sandbox.record.spec, sandbox.pid())?;
    anyhow::ensure!(
        hooks::all(spec, hooks::START_CONTAINER).is_empty(),
        "hooks.startContainer: a container that joins a pod cannot have any"
    );
    let hostname = |spec: &Spec| spec.hostname().clone().unwrap_or_default();
    let (own, pods) = (hostname(spec), hostname(&sandbox.record.spec));
    anyhow::ensure!(own.is_empty() || own == pods, "hostname: {own:?} is not that of the pod, {pods:?}");
    let settings =
        |spec: &Spec| spec.linux().as_ref().and_then(|linux| linux.sysctl().clone()).unwrap_or_default();
    let of_the_pod = settings(&sandbox.record.spec);
    for (name, value) in settings(spec) {
        anyhow::ensure!(
            of_the_pod.get(&name) == Some(&value),
            "linux.sysctl: {name} is the pod's to set, not a container's"
        );
    }
    process_ids(spec, &sandbox)?;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    if resources.is_some_and(|all| all.memory().is_some() || all.cpu().is_some() || all.pids().is_some()) {
        log::warn(
            "linux.resources: limits of the pod's sandbox, and of what is around it, hold for a container of a pod",
        );
    }
    Ok(())
}

/// Whose process ids a container of `sandbox`'s pod is to have. The monitors of a pod are in one namespace of the host, so of a path to one
/// what counts is whose process it names; any other path leads to that namespace and means the sandbox's.
fn process_ids(spec: &Spec, sandbox: &Container) -> anyhow::Result<ProcessIds> {
    let Some(path) = namespaces::path_of(spec, LinuxNamespaceType::Pid) else { return Ok(ProcessIds::Own) };
    let Some(pid) = process_of(path).filter(|pid| *pid != sandbox.pid()) else {
        return Ok(ProcessIds::Sandboxs);
    };
    let root = sandbox.directory.parent().context("a container's directory is below another")?;
    let members = Container::all_below(root)?.into_iter().filter(|other| {
        other.pid() == pid
            && Role::of(&other.record.spec).is_ok_and(|role| role == Role::Member(sandbox.record.id.clone()))
    });
    let of = members.map(|other| ProcessIds::Of(other.record.id)).next();
    of.with_context(|| {
        format!(
            "linux.namespaces: the pid namespace {} is neither that of the pod's sandbox nor of a container that runs in the pod",
            path.display()
        )
    })
}

/// The process of a path `/proc/PID/…`.
fn process_of(path: &Path) -> Option<i32> {
    let mut names = path.strip_prefix("/proc").ok()?.iter();
    names.next()?.to_str()?.parse().ok()
}

/// Where processes enter a container: the directory of the one whose monitor has the entrance, and the name there.
pub fn entrance_of(container: &Container) -> anyhow::Result<(PathBuf, Option<String>)> {
    Ok(match Role::of(&container.record.spec)? {
        Role::Member(sandbox) => (beside(&container.directory, &sandbox), Some(container.record.id.clone())),
        _ => (container.directory.clone(), None),
    })
}

/// Refuses a verb for which a container would have to have host processes of its own.
pub fn refuse_member(container: &Container, verb: &str) -> anyhow::Result<()> {
    if let Role::Member(sandbox) = Role::of(&container.record.spec)? {
        anyhow::bail!(
            "a container of a pod cannot be {verb} by itself: its processes run on the pod's kernel; the whole pod can be {verb}, by its \
             sandbox {sandbox}"
        );
    }
    Ok(())
}

/// A container that has joined, as its monitor watches it.
pub struct Joined {
    attached: Attached,
    signals: SigSet,
    terminal: Option<Terminal>,
}

/// Has the container join its pod; the error is of what kept its program from being executed.
pub fn join(container: &Container, plan: Plan, sandbox: &str) -> anyhow::Result<Result<Joined, End>> {
    let has_terminal = plan.terminal;
    let (view, first) = plan.into_parts();
    let directory = beside(&container.directory, sandbox);
    let sandbox = Container::read(&directory)?.filter(|sandbox| sandbox.status() == Status::Running);
    let process_ids =
        process_ids(&container.record.spec, &sandbox.context("the pod's sandbox is not running")?)?;
    let (tree, mounts) = launch::container_tree(view, &hub_on_host(&directory)?)?;
    let mut passed_on = SigSet::empty();
    passed_on.extend(signals::PASSED_ON.iter().copied());
    passed_on.thread_block().context("blocking signals")?;
    let entrance = control::address(&directory, control::ENTRANCE)?;
    let joining = Joining { id: container.record.id.clone(), first, process_ids, mounts };
    let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let (outside, files) = match has_terminal {
        true => {
            let (outside, inside) = terminal::socket().context("a socket for the terminal")?;
            (Some(outside), Files::Terminal(inside))
        }
        false => {
            let standard = [Some(input.as_fd()), Some(output.as_fd()), Some(error.as_fd())];
            (None, Files::Standard(standard))
        }
    };
    let attached = attach::contain(&entrance.path, &container.record.id, &joining, tree.as_fd(), files)
        .context("the pod's sandbox is not running")?;
    drop(tree);
    if let Err(end) = attached.started()? {
        return Ok(Err(end));
    }
    let terminal = outside.map(Terminal::take).transpose()?;
    Ok(Ok(Joined { attached, signals: passed_on, terminal }))
}

impl Joined {
    /// Until the container has ended: the exit code of what stands for it.
    pub fn watch(self) -> anyhow::Result<u8> {
        exec::code(self.attached.watch(&self.signals, self.terminal)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(annotations: &[(&str, &str)]) -> anyhow::Result<Role> {
        let mut spec = Spec::default();
        let annotations = annotations.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        spec.set_annotations(Some(annotations));
        Role::of(&spec)
    }

    #[test]
    fn of_a_path_below_proc_the_process_counts() {
        let process = |path: &str| process_of(Path::new(path));
        assert_eq!(process("/proc/17/ns/pid"), Some(17));
        assert_eq!(process("/proc/self/ns/pid"), None);
        assert_eq!(process("/run/pidns/17"), None);
    }

    #[test]
    fn annotations_of_containerd_and_of_cri_o_say_what_a_container_is() {
        assert_eq!(with(&[]).expect("known"), Role::Alone);
        let sandbox = ("io.kubernetes.cri.container-type", "sandbox");
        assert_eq!(with(&[sandbox]).expect("known"), Role::Sandbox);
        let member = ("io.kubernetes.cri-o.ContainerType", "container");
        let of = ("io.kubernetes.cri-o.SandboxID", "abc");
        assert_eq!(with(&[member, of]).expect("known"), Role::Member("abc".into()));
        assert!(with(&[member]).is_err());
        assert!(with(&[member, ("io.kubernetes.cri-o.SandboxID", "../abc")]).is_err());
        assert!(with(&[("io.kubernetes.cri.container-type", "other")]).is_err());
    }
}
