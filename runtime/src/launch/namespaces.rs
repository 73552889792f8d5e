//! The namespaces of a sandbox: which ones, the clone that makes them, the id maps, and what to say when the host refuses.

use super::helper::{self, Stack, futex_wait, futex_wake};
use super::{Identity, LaunchError};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// A layer that `--allow-missing` can go on without. Each but the first is a second fence only: the strict filter allows no call of what
/// these namespaces separate (no socket, no SysV object, no host name, no cgroup file).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Layer {
    /// All namespaces: for ordinary users on hosts that refuse them. Landlock alone keeps files and processes apart then.
    Userns,
    /// Network namespace.
    NetNamespace,
    /// IPC namespace.
    IpcNamespace,
    /// UTS namespace (host name).
    UtsNamespace,
    /// Cgroup namespace.
    CgroupNamespace,
    /// Landlock: the mount tree holds only what was granted, read-only where it was granted so.
    Landlock,
}

impl fmt::Display for Layer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Layer::Userns => "userns",
            Layer::NetNamespace => "net-namespace",
            Layer::IpcNamespace => "ipc-namespace",
            Layer::UtsNamespace => "uts-namespace",
            Layer::CgroupNamespace => "cgroup-namespace",
            Layer::Landlock => "landlock",
        })
    }
}

/// A namespace: its name in `/proc/self/ns`, its flag, and the layer it is if it may be missing.
struct Namespace(&'static str, libc::c_int, Option<Layer>);

const NAMESPACES: &[Namespace] = &[
    Namespace("user", libc::CLONE_NEWUSER, None),
    Namespace("mnt", libc::CLONE_NEWNS, None),
    Namespace("pid", libc::CLONE_NEWPID, None),
    Namespace("net", libc::CLONE_NEWNET, Some(Layer::NetNamespace)),
    Namespace("ipc", libc::CLONE_NEWIPC, Some(Layer::IpcNamespace)),
    Namespace("uts", libc::CLONE_NEWUTS, Some(Layer::UtsNamespace)),
    Namespace("cgroup", libc::CLONE_NEWCGROUP, Some(Layer::CgroupNamespace)),
];

/// Names of the namespaces that the host's kernel has.
fn known() -> Vec<OsString> {
    fs::read_dir("/proc/self/ns").into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
}

/// The flags for clone(2). A namespace that the host's kernel does not have is left out if that was allowed.
fn flags(allow_missing: &[Layer]) -> Result<libc::c_int, LaunchError> {
    let mut flags = libc::SIGCHLD;
    let known = known();
    for Namespace(name, flag, layer) in NAMESPACES {
        if known.iter().any(|one| one == name) {
            flags |= flag;
            continue;
        }
        let way_out = match layer {
            Some(layer) if allow_missing.contains(layer) => continue,
            Some(layer) => format!("use a kernel with it, or go on without by --allow-missing={layer}"),
            None => "use a kernel with it, and see that /proc is mounted".into(),
        };
        return Err(LaunchError::Missing {
            what: format!("{name} namespaces"),
            reason: "the host's kernel does not have them".into(),
            way_out,
        });
    }
    Ok(flags)
}

/// Those that take the host longest to make, by far: [`Rest`] makes them while the launched process goes on.
const REST: libc::c_int = libc::CLONE_NEWNET | libc::CLONE_NEWIPC;

/// fork(2) into new namespaces: the child's pid, or 0 in the child, which is to enter the rest of them. The caller has one thread.
pub fn clone(allow_missing: &[Layer]) -> Result<(libc::pid_t, libc::c_int), LaunchError> {
    let flags = flags(allow_missing)?;
    Ok((fork(flags & !REST).map_err(refused)?, flags & REST))
}

/// Namespaces in the making, by a process of its own.
pub struct Rest {
    work: Box<Work>,
    pid: Pid,
    process: OwnedFd,
    _stack: Stack,
}

struct Work {
    flags: libc::c_int,
    /// A futex word: one of the values below.
    state: AtomicU32,
}

const AT_WORK: u32 = 0;
const MADE: u32 = 1;
const REFUSED: u32 = 2;

impl Rest {
    /// Begins to make those of `flags`. The caller is in its user namespace already, as it is to own them.
    pub fn begin(flags: libc::c_int) -> Result<Rest, LaunchError> {
        let mut work = Box::new(Work { flags, state: AtomicU32::new(AT_WORK) });
        let mut stack = Stack::new();
        let argument = std::ptr::from_mut(&mut *work).cast();
        // Its end sends no signal: it is waited for here.
        // SAFETY: it allocates nothing, and stack and work stay until it was waited for.
        let (pid, process) = unsafe { helper::share_memory(0, &mut stack, make, argument) }
            .map_err(|source| LaunchError::Host { what: "a process for namespaces", source })?;
        Ok(Rest { work, pid: Pid::from_raw(pid), process, _stack: stack })
    }

    /// Enters them. What they were made by is about to end.
    pub fn enter(&self) -> Result<(), LaunchError> {
        let state = loop {
            match self.work.state.load(Ordering::SeqCst) {
                AT_WORK => futex_wait(&self.work.state, AT_WORK),
                state => break state,
            }
        };
        // SAFETY: only numbers.
        let entered = state == MADE && unsafe { libc::setns(self.process.as_raw_fd(), self.work.flags) } == 0;
        let _ = kill(self.pid, Signal::SIGKILL);
        // Nothing came of it: here it is seen why, or it is done.
        // SAFETY: only numbers.
        if !entered && unsafe { libc::unshare(self.work.flags) } != 0 {
            return Err(refused(io::Error::last_os_error()));
        }
        Ok(())
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, Some(WaitPidFlag::__WALL));
    }
}

/// What the process does: it makes them, and holds them until it is killed.
extern "C" fn make(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `begin` gave this process work that stays until it has ended.
    let work = unsafe { &*argument.cast::<Work>() };
    // SAFETY: only numbers.
    let made = unsafe { libc::unshare(work.flags) } == 0;
    work.state.store(if made { MADE } else { REFUSED }, Ordering::SeqCst);
    futex_wake(&work.state);
    loop {
        // SAFETY: no argument.
        unsafe { libc::pause() };
    }
}

/// Whether the host refuses this caller the namespaces that nothing else stands in for, and why: a process in new ones makes its mounts
/// private and ends.
pub fn refusal(allow_missing: &[Layer]) -> Result<Option<LaunchError>, LaunchError> {
    let known = known();
    let is_known = |Namespace(name, ..): &Namespace| known.iter().any(|one| one == name);
    if !NAMESPACES.iter().filter(|namespace| namespace.2.is_none()).all(is_known) {
        return Ok(Some(refused(io::Error::from_raw_os_error(libc::ENOSYS))));
    }
    let pid = match fork(flags(allow_missing)?) {
        Ok(pid) => pid,
        Err(error) => return Ok(Some(refused(error))),
    };
    if pid == 0 {
        // SAFETY: ends this process without running what its parent has registered.
        unsafe { libc::_exit(make_mounts_private().err().map_or(0, |error| error as libc::c_int)) }
    }
    match waitpid(Pid::from_raw(pid), None) {
        Ok(WaitStatus::Exited(_, 0)) => Ok(None),
        Ok(WaitStatus::Exited(_, error @ (libc::EPERM | libc::EACCES))) => {
            Ok(Some(refused(io::Error::from_raw_os_error(error))))
        }
        Ok(WaitStatus::Exited(_, error)) => Err(mount_refused(nix::Error::from_raw(error))),
        _ => Err(LaunchError::Host {
            what: "trying new namespaces",
            source: io::Error::other("it was killed"),
        }),
    }
}

/// Nothing that is mounted from here on is seen outside. The first thing that new namespaces are for.
pub fn make_mounts_private() -> nix::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
}

/// fork(2) with the flags of clone(2).
pub fn fork(flags: libc::c_int) -> io::Result<libc::pid_t> {
    // SAFETY: without a new stack and without CLONE_VM this is fork(2); the callers' program has one thread, so that no lock
    // is held by a thread that the child lacks.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_ulong, 0, 0, 0, 0) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid as libc::pid_t) }
}

fn setting(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Ubuntu since 23.10 gives new user namespaces of ordinary programs no capability.
fn restricted_by_apparmor() -> bool {
    setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1")
}

fn filtered() -> bool {
    setting("/proc/self/status")
        .is_some_and(|status| status.lines().any(|line| line.replace('\t', " ") == "Seccomp: 2"))
}

/// Why the host does not let this caller have namespaces, and what allows it.
pub fn refused(source: io::Error) -> LaunchError {
    let way_out = match source.raw_os_error() {
        Some(libc::ENOSPC | libc::EUSERS) => {
            "the limit on namespaces is reached or 0: an administrator can raise it with `sysctl user.max_user_namespaces=10000` \
             (and the other user.max_*_namespaces)"
        }
        Some(libc::EINVAL | libc::ENOSYS) => {
            "the kernel is built without them (CONFIG_USER_NS): use another one"
        }
        _ if setting("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") => {
            "an administrator can allow them with `sysctl kernel.unprivileged_userns_clone=1`"
        }
        _ if restricted_by_apparmor() => {
            "AppArmor restricts them: an administrator can allow them to this program, once, with `sandbox-exec setup`"
        }
        _ if filtered() => {
            "a seccomp filter is around this process, as in a container: start that with `--security-opt seccomp=unconfined \
             --security-opt apparmor=unconfined`, or outside of it"
        }
        _ => {
            "ask the administrator to allow user namespaces for this account, or run outside of the chroot or container"
        }
    };
    LaunchError::Missing {
        what: "user namespaces".into(),
        reason: format!("the host refuses them ({source})"),
        way_out: match nix::unistd::geteuid().is_root() {
            true => way_out.into(),
            false => format!(
                "{way_out}; or go on without by --allow-missing=userns (docs/security.md says what is weaker)"
            ),
        },
    }
}

/// The error of a first mount, which is where AppArmor's restriction shows.
pub fn mount_refused(error: nix::Error) -> LaunchError {
    match error {
        nix::Error::EPERM | nix::Error::EACCES => refused(error.into()),
        _ => LaunchError::Host { what: "making mounts private", source: error.into() },
    }
}

/// Writes the maps of the user namespace of `pid`: for root one to one what this process has itself; otherwise the caller's
/// own ids, which a container has as user and group 0 (user_namespaces(7)).
pub fn write_id_maps(pid: libc::pid_t, identity: &Identity) -> Result<(), LaunchError> {
    let write = |file: &str, text: &str| write_proc(pid, file, text).map_err(refused);
    if identity.by_root {
        let same =
            |file: &str| fs::read_to_string(Path::new("/proc/self").join(file)).map(|map| one_to_one(&map));
        write("uid_map", &same("uid_map").map_err(refused)?)?;
        return write("gid_map", &same("gid_map").map_err(refused)?);
    }
    write("setgroups", "deny")?;
    let shown = |id: u32| if identity.container { 0 } else { id };
    write("uid_map", &format!("{} {} 1\n", shown(identity.host_uid), identity.host_uid))?;
    write("gid_map", &format!("{} {} 1\n", shown(identity.host_gid), identity.host_gid))
}

pub(super) fn write_proc(pid: libc::pid_t, file: &str, text: &str) -> io::Result<()> {
    fs::write(Path::new("/proc").join(pid.to_string()).join(file), text)
}

/// Every id of a map's left column, mapped to itself.
fn one_to_one(map: &str) -> String {
    ranges(map).map(|(first, count)| format!("{first} {first} {count}\n")).collect()
}

fn ranges(map: &str) -> impl Iterator<Item = (u32, u32)> + '_ {
    map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>());
        let (first, _, count) = (numbers.next()?.ok()?, numbers.next()?, numbers.next()?.ok()?);
        Some((first, count))
    })
}

/// Whether `id` exists in this process's user namespace, by its map (`uid_map` or `gid_map`).
pub fn has_id(map: &str, id: u32) -> bool {
    fs::read_to_string(Path::new("/proc/self").join(map)).is_ok_and(|text| {
        ranges(&text).any(|(first, count)| id.checked_sub(first).is_some_and(|rest| rest < count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_namespace_maps_the_ids_that_its_parent_has() {
        assert_eq!(one_to_one("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(one_to_one("0 1000 1\n1 100000 65536\n"), "0 0 1\n1 1 65536\n");
    }

    #[test]
    fn every_namespace_is_asked_for_on_this_host() {
        let all = flags(&[]).expect("this host has all of them");
        assert_eq!(all & libc::CLONE_NEWUSER, libc::CLONE_NEWUSER);
        assert_eq!(all & libc::CLONE_NEWNET, libc::CLONE_NEWNET);
    }

    #[test]
    fn a_refusal_names_the_thing_the_reason_and_the_way_out_on_one_line() {
        for error in [libc::ENOSPC, libc::EINVAL, libc::EPERM] {
            let text = refused(io::Error::from_raw_os_error(error)).to_string();
            assert!(text.starts_with("user namespaces: the host refuses them"), "{text}");
            assert!(!text.contains('\n'));
        }
    }
}
