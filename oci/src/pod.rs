//! Pods: containers that share one kernel. The CRI makes a container that is the pod's sandbox, and says in annotations of the others
//! which one that is; their network, ipc and uts namespaces are given as those of its process. Here they join its kernel.

use crate::monitor::{FAILED, KILLED, NOT_EXECUTED};
use crate::plan::Plan;
use crate::state::{self, Container, Status};
use crate::{control, namespaces, signals};
use anyhow::Context;
use boundary::process::Container as Joining;
use nix::sys::signal::SigSet;
use oci_spec::runtime::Spec;
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
    /// It is in none: its kernel is its own.
    Alone,
    /// Others may join it.
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
}

/// Makes the hub of a pod's sandbox.
pub fn make_hub(directory: &Path) -> anyhow::Result<PathBuf> {
    let hub = hub(directory);
    fs::create_dir_all(hub.join(launch::TREE)).with_context(|| format!("making {}", hub.display()))?;
    Ok(hub)
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
    anyhow::ensure!(
        Role::of(&sandbox.record.spec)? == Role::Sandbox,
        "{id} is a container that no others can join"
    );
    namespaces::check_member(spec, &sandbox.record.spec, sandbox.pid())?;
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
    Ok(())
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
    let (tree, mounts) = launch::container_tree(view, &hub(&directory))?;
    let mut passed_on = SigSet::empty();
    passed_on.extend(signals::PASSED_ON.iter().copied());
    passed_on.thread_block().context("blocking signals")?;
    let entrance = control::address(&directory, control::ENTRANCE)?;
    let joining = Joining { first, mounts };
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
        Ok(match self.attached.watch(&self.signals, self.terminal)? {
            End::Exited(code) => code,
            End::Signalled(signal) => 128 + signal,
            End::NotExecuted(..) => NOT_EXECUTED,
            End::Failed(_) => FAILED,
        })
    }
}

/// The exit code of a container that has not come to be, and why.
pub fn not_begun(end: &End, name: &str) -> (u8, String) {
    match end {
        End::NotExecuted(errno, what) => {
            let reason = nix::errno::Errno::from_raw(*errno).desc().to_lowercase();
            let about = if what.is_empty() || what == name { String::new() } else { format!(" ({what})") };
            (NOT_EXECUTED, format!("unable to start container process: exec: {name:?}: {reason}{about}"))
        }
        _ => (KILLED, "the pod's sandbox ended meanwhile".into()),
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
