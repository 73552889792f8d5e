//! Namespaces of config.json. The sandbox always has host namespaces of its own, which show it nothing; those of config.json are what
//! others expect to find around a container: the monitor is in them. So a network plugin finds the container's interfaces by the
//! monitor's process id, and hooks run where they should.

use crate::pod::Role;
use anyhow::Context;
use nix::sched::{CloneFlags, setns, unshare};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

fn all(spec: &Spec) -> &[LinuxNamespace] {
    spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default()
}

fn find(spec: &Spec, kind: LinuxNamespaceType) -> Option<&LinuxNamespace> {
    all(spec).iter().find(|namespace| namespace.typ() == kind)
}

/// Whether config.json asks for this kind at all.
pub fn has(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    find(spec, kind).is_some()
}

/// Whose namespace of this kind config.json asks for, if it is not to be a new one.
pub fn path_of(spec: &Spec, kind: LinuxNamespaceType) -> Option<&PathBuf> {
    find(spec, kind)?.path().as_ref()
}

/// Refuses what one kernel a container cannot give. Those that join another's kernel are looked at by [`check_member`].
pub fn check(spec: &Spec, role: &Role) -> anyhow::Result<()> {
    use LinuxNamespaceType as Kind;
    let member = matches!(role, Role::Member(_));
    let shared = |kind: Kind| match find(spec, kind) {
        None => Some("that of the host"),
        Some(namespace) if namespace.path().is_some() => Some("that of another"),
        Some(_) => None,
    };
    for (kind, what) in [(Kind::Pid, "processes"), (Kind::Ipc, "IPC objects")] {
        if member && find(spec, kind).is_some() {
            continue;
        }
        if let Some(whose) = shared(kind) {
            anyhow::bail!(
                "linux.namespaces: the {kind} namespace is {whose}, but a container has a kernel of its own, whose {what} are seen by \
                 no other; ask for a new one"
            );
        }
    }
    if has(spec, Kind::User) {
        anyhow::bail!(
            "linux.namespaces: user namespaces are not supported: ids are the sandbox's own; leave it out"
        );
    }
    if find(spec, Kind::Cgroup).is_some_and(|namespace| namespace.path().is_some()) {
        anyhow::bail!(
            "linux.namespaces: a cgroup namespace of another is not supported: a sandbox sees its own group only"
        );
    }
    if has(spec, Kind::Time) {
        anyhow::bail!("linux.namespaces: time namespaces are not supported; leave it out");
    }
    for (index, namespace) in all(spec).iter().enumerate() {
        let before = all(spec).get(..index).unwrap_or_default();
        anyhow::ensure!(
            before.iter().all(|other| other.typ() != namespace.typ()),
            "linux.namespaces: {} is there twice",
            namespace.typ()
        );
    }
    Ok(())
}

/// Refuses what a container of a pod cannot have: other network, IPC objects or host name than its sandbox, whose monitor is `sandbox`.
/// Process ids may be its own.
pub fn check_member(spec: &Spec, sandboxs: &Spec, sandbox: i32) -> anyhow::Result<()> {
    use LinuxNamespaceType as Kind;
    for (kind, name) in [(Kind::Network, "net"), (Kind::Ipc, "ipc"), (Kind::Uts, "uts"), (Kind::Pid, "pid")] {
        let path = match find(spec, kind) {
            Some(namespace) if kind == Kind::Pid && namespace.path().is_none() => continue,
            Some(namespace) => namespace.path().as_ref(),
            None if !has(sandboxs, kind) => continue,
            None => None,
        };
        let pods = format!("/proc/{sandbox}/ns/{name}");
        let same = path.is_some_and(|path| {
            std::fs::metadata(path).is_ok_and(|one| {
                std::fs::metadata(&pods)
                    .is_ok_and(|other| (one.dev(), one.ino()) == (other.dev(), other.ino()))
            })
        });
        anyhow::ensure!(
            same,
            "linux.namespaces: the {kind} namespace is not that of the pod's sandbox ({pods}), whose kernel the container joins"
        );
    }
    Ok(())
}

/// Whose network the monitor is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// That of who creates the container: the host's, as it sees it.
    Callers,
    /// That of another process.
    Others,
    /// The container's own.
    Own,
    /// None: an ordinary user can make none for others to find, and the sandbox's own is empty.
    Alone,
}

fn network_now() -> anyhow::Result<PathBuf> {
    std::fs::read_link("/proc/self/ns/net").context("the network namespace")
}

/// Joins and makes the namespaces that the monitor is to be in; an ordinary user's makes none, but the sandbox does. A new uts namespace
/// gets the names that config.json has.
pub fn enter(spec: &Spec) -> anyhow::Result<Network> {
    let callers = network_now()?;
    let makes_none = !nix::unistd::geteuid().is_root();
    let kinds = [
        (LinuxNamespaceType::Network, CloneFlags::CLONE_NEWNET),
        (LinuxNamespaceType::Uts, CloneFlags::CLONE_NEWUTS),
    ];
    for (kind, flag) in kinds {
        let Some(namespace) = find(spec, kind) else { continue };
        match namespace.path() {
            Some(path) => {
                let file =
                    File::open(path).with_context(|| format!("linux.namespaces: {}", path.display()))?;
                setns(&file, flag)
                    .with_context(|| format!("linux.namespaces: joining {}", path.display()))?;
            }
            None if makes_none => {}
            None => {
                unshare(flag).with_context(|| format!("linux.namespaces: a new {kind} namespace"))?;
                match kind {
                    LinuxNamespaceType::Network => loopback_up()?,
                    _ => set_names(spec)?,
                }
            }
        }
    }
    let asked = find(spec, LinuxNamespaceType::Network);
    let path = asked.and_then(|namespace| namespace.path().as_ref());
    Ok(match path {
        None if asked.is_some() && makes_none => Network::Alone,
        _ if network_now()? == callers => Network::Callers,
        Some(path) if path.starts_with("/proc") => Network::Others,
        _ => Network::Own,
    })
}

fn set_names(spec: &Spec) -> anyhow::Result<()> {
    if let Some(name) = named(spec.hostname()) {
        nix::unistd::sethostname(name).context("hostname")?;
    }
    if let Some(name) = named(spec.domainname()) {
        // SAFETY: the bytes of a string, and how many they are.
        let result = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
        anyhow::ensure!(result == 0, "domainname: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

/// A name that is there.
pub fn named(name: &Option<String>) -> Option<&str> {
    name.as_deref().filter(|name| !name.is_empty())
}

/// Brings `lo` up in a new network namespace, as others expect it.
fn loopback_up() -> anyhow::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .context("the loopback interface")?;
    // SAFETY: all zeros is a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: a request of the right type, with a terminated name.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) };
    anyhow::ensure!(result == 0, "the loopback interface: {}", std::io::Error::last_os_error());
    Ok(())
}
