//! The sandbox's host tree: a fresh root with bind mounts of what was granted, and nothing else.

use super::{Identity, LaunchError, idmap, namespaces};
use crate::view::{self, HostPath, View};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::ffi::{CStr, CString, OsString};
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the scaffold is mounted: any directory that every system has.
const SCAFFOLD: &[&str] = &["/tmp", "/mnt", "/run", "/usr"];

const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;
/// Owners are shown through a user namespace.
pub const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;

/// `struct mount_attr` (mount_setattr(2)).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

fn at(path: &Path, what: &'static str) -> impl Fn(std::io::Error) -> LaunchError {
    let path = path.display().to_string();
    move |source| LaunchError::Path { path: path.clone(), what, source }
}

fn at_nix(path: &Path, what: &'static str) -> impl Fn(nix::Error) -> LaunchError {
    let wrapped = at(path, what);
    move |error| wrapped(error.into())
}

/// Where the host's root is while a tree is built, and where the tree is.
const OLD: &str = "/old";
const NEW: &str = "/new";

/// Builds the tree, moves into it, and gives an `O_PATH` descriptor of its root. `idmapped` has a detached mount for those
/// of the view's host paths that need one ([`idmap::prepare`]).
pub fn build(view: &View, idmapped: &[Option<OwnedFd>], identity: &Identity) -> Result<OwnedFd, LaunchError> {
    let new = Path::new(NEW);
    enter_scaffold()?;
    lay_out(view, idmapped, identity, new)?;
    enter(new)?;
    open_root()
}

/// Builds the tree below the directory `hub`, in its place `root`, and gives a descriptor of `hub` with it: a detached mount, which
/// goes with the descriptor (open_tree(2)). The caller is in a mount namespace that is to go.
pub fn detached(view: &View, identity: &Identity, hub: &Path) -> Result<OwnedFd, LaunchError> {
    let none: Option<&str> = None;
    let new = Path::new(NEW);
    enter_scaffold()?;
    mount(Some(&below(Path::new(OLD), hub)), new, none, MsFlags::MS_BIND, none)
        .map_err(at_nix(hub, "binding it"))?;
    protect(new, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
        .map_err(at(hub, "protecting it"))?;
    lay_out(view, &[], identity, &new.join(TREE))?;
    idmap::open_tree(new).map_err(at(hub, "taking its mounts"))
}

/// The place of a tree in a pod's hub.
pub const TREE: &str = "root";

/// Goes to an empty root with directories for the old one and for the tree.
fn enter_scaffold() -> Result<(), LaunchError> {
    namespaces::make_mounts_private().map_err(namespaces::mount_refused)?;
    let scaffold = scaffold()?;
    for directory in [OLD, NEW] {
        let path = below(&scaffold, Path::new(directory));
        fs::create_dir(&path).map_err(at(&path, "making a directory of the scaffold"))?;
    }
    nix::unistd::pivot_root(&scaffold, &below(&scaffold, Path::new(OLD)))
        .map_err(at_nix(&scaffold, "pivot_root"))?;
    std::env::set_current_dir("/").map_err(at(Path::new("/"), "entering the scaffold"))
}

/// Mounts what the view needs at `new`.
fn lay_out(
    view: &View,
    idmapped: &[Option<OwnedFd>],
    identity: &Identity,
    new: &Path,
) -> Result<(), LaunchError> {
    let none: Option<&str> = None;
    let (root, old) = (Path::new("/"), Path::new(OLD));
    mount(Some("tmpfs"), new, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
        .map_err(at_nix(new, "mounting the new root"))?;

    let blank = Blank::make()?;
    for (index, host_path) in view.host_paths.iter().enumerate() {
        let tree = idmapped.get(index).and_then(Option::as_ref);
        bind(host_path, tree, old, new, identity)?;
    }
    if let Some(hub) = &view.pod {
        bind(&HostPath { path: hub.clone(), writable: false, granted: true }, None, old, new, identity)?;
    }
    for secret in view::SECRETS.iter().map(PathBuf::from).chain(view::varying_secrets(old)) {
        if !view.names_secret(&secret) {
            blank.cover(&secret, new)?;
        }
    }
    if view.host_paths.iter().any(|host_path| host_path.path == root) {
        // It brings the host's own with it. Elsewhere there is nothing in these places but grants below /dev/shm.
        for directory in view::OF_THE_KERNEL {
            blank.cover(Path::new(directory), new)?;
        }
    } else {
        // The tree is complete: its own root cannot change any more either.
        let flags = MsFlags::MS_REMOUNT
            | MsFlags::MS_BIND
            | MsFlags::MS_RDONLY
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NODEV;
        mount(none, new, none, flags, none).map_err(at_nix(new, "making the new root read-only"))?;
    }
    Ok(())
}

fn scaffold() -> Result<PathBuf, LaunchError> {
    let mut last = nix::Error::ENOENT;
    for directory in SCAFFOLD {
        match mount(
            Some("tmpfs"),
            *directory,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some("mode=755"),
        ) {
            Ok(()) => return Ok(PathBuf::from(directory)),
            Err(error) => last = error,
        }
    }
    Err(LaunchError::Host { what: "mounting a tmpfs in the sandbox's mount namespace", source: last.into() })
}

/// Goes to `new` as the root and drops the scaffold with the host's root in it: at once, as the host waits for its processors with every
/// call that unmounts.
fn enter(new: &Path) -> Result<(), LaunchError> {
    std::env::set_current_dir(new).map_err(at(new, "entering the new root"))?;
    nix::unistd::pivot_root(".", ".").map_err(at_nix(new, "pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(at_nix(new, "letting go of the old root"))?;
    std::env::set_current_dir("/").map_err(at(new, "entering the new root"))
}

/// The host's own root, for a sandbox without a mount namespace.
pub fn of_the_host() -> Result<OwnedFd, LaunchError> {
    let root = Path::new("/");
    std::env::set_current_dir(root).map_err(at(root, "entering the root"))?;
    open_root()
}

fn open_root() -> Result<OwnedFd, LaunchError> {
    // SAFETY: the path is a terminated string.
    let fd = unsafe { libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(LaunchError::last("opening the new root"));
    }
    // SAFETY: a descriptor that was just made.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn below(base: &Path, path: &Path) -> PathBuf {
    base.join(path.strip_prefix("/").unwrap_or(path))
}

/// Puts one granted path at the same place below `new`.
fn bind(
    host_path: &HostPath,
    tree: Option<&OwnedFd>,
    old: &Path,
    new: &Path,
    identity: &Identity,
) -> Result<(), LaunchError> {
    let path = &host_path.path;
    let source = below(old, path);
    let target = below(new, path);
    let metadata = fs::metadata(&source).map_err(at(path, "cannot be granted"))?;
    if path != Path::new("/") {
        make_target(&target, metadata.is_dir())?;
    }
    if let Some(tree) = tree {
        return idmap::attach(tree, &target).map_err(at(path, "attaching it to the sandbox"));
    }
    check_reach(host_path, &metadata, identity)?;
    let none: Option<&str> = None;
    mount(Some(&source), &target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .map_err(at_nix(path, "binding it into the sandbox"))?;
    protect(&target, attributes_of(host_path)).map_err(at(path, "protecting its mounts"))
}

/// Started by root, the sandbox is nobody on the host. Where no idmapped mount could change that, a granted path that others
/// cannot use would be empty to it, or refuse every write, which is better said now.
fn check_reach(
    host_path: &HostPath,
    metadata: &fs::Metadata,
    identity: &Identity,
) -> Result<(), LaunchError> {
    if !identity.becomes_nobody() || !host_path.granted || host_path.path == Path::new("/") {
        return Ok(());
    }
    let others = metadata.mode() & 0o7;
    let read = if metadata.is_dir() { 0o5 } else { 0o4 };
    let (needed, missing) = if host_path.writable { (read | 0o2, "change") } else { (read, "read") };
    if others & needed == needed || metadata.uid() == identity.host_uid {
        return Ok(());
    }
    let source = std::io::Error::other(format!(
        "only its owner can {missing} it, a sandbox that root starts is nobody on the host, and this filesystem has no idmapped \
         mounts; give others the permission (chmod), or use a directory on ext4, xfs, btrfs or tmpfs and Linux 6.3 or newer"
    ));
    Err(LaunchError::Path { path: host_path.path.display().to_string(), what: "cannot be granted", source })
}

/// Makes the mount point, if what is mounted so far does not have it.
fn make_target(target: &Path, directory: bool) -> Result<(), LaunchError> {
    if target.exists() {
        return Ok(());
    }
    let parent = target.parent().unwrap_or(Path::new("/"));
    let made = fs::create_dir_all(if directory { target } else { parent })
        .and_then(|()| if directory { Ok(()) } else { fs::write(target, []) });
    made.map_err(at(target, "making a mount point"))
}

/// What a host path's mounts have.
pub fn attributes_of(host_path: &HostPath) -> u64 {
    MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | if host_path.writable { 0 } else { MOUNT_ATTR_RDONLY }
}

/// Sets attributes on the mount at `path` (below `tree`, if given) and on all mounts below it: mount_setattr(2).
pub fn set_attributes(
    tree: Option<&OwnedFd>,
    path: &CStr,
    set: u64,
    userns: Option<RawFd>,
) -> std::io::Result<()> {
    let userns_fd = userns.and_then(|fd| u64::try_from(fd).ok()).unwrap_or(0);
    let attributes = MountAttr { set, clear: 0, propagation: 0, userns_fd };
    let (directory, flags) = match tree {
        Some(tree) => (tree.as_raw_fd(), libc::AT_RECURSIVE | libc::AT_EMPTY_PATH),
        None => (libc::AT_FDCWD, libc::AT_RECURSIVE),
    };
    // SAFETY: a terminated path and a structure of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory,
            path.as_ptr(),
            flags,
            &attributes,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Protects the mount at `target` and all below it; mount by mount where the host is older than mount_setattr(2) (5.12).
fn protect(target: &Path, set: u64) -> std::io::Result<()> {
    let path = CString::new(target.as_os_str().as_bytes())?;
    match set_attributes(None, &path, set, None) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => remount_each(target, set),
        other => other,
    }
}

fn remount_each(target: &Path, set: u64) -> std::io::Result<()> {
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    if set & MOUNT_ATTR_RDONLY != 0 {
        flags |= MsFlags::MS_RDONLY;
    }
    let none: Option<&str> = None;
    // The host's /proc is still there, below the old root.
    let table = fs::read("/old/proc/self/mountinfo")?;
    for line in table.split(|&byte| byte == b'\n') {
        let mut fields = line.split(|&byte| byte == b' ');
        let (Some(point), Some(options)) = (fields.nth(4), fields.next()) else { continue };
        let point = PathBuf::from(OsString::from_vec(unescape(point)));
        if point.starts_with(target) {
            mount(none, &point, none, flags | locked(options), none)?;
        }
    }
    Ok(())
}

/// Flags that the host's mount has and that a user namespace must keep.
fn locked(options: &[u8]) -> MsFlags {
    let has = |name: &[u8]| options.split(|&byte| byte == b',').any(|option| option == name);
    let pairs = [
        (&b"ro"[..], MsFlags::MS_RDONLY),
        (b"noexec", MsFlags::MS_NOEXEC),
        (b"noatime", MsFlags::MS_NOATIME),
        (b"nodiratime", MsFlags::MS_NODIRATIME),
        (b"relatime", MsFlags::MS_RELATIME),
    ];
    pairs.into_iter().filter(|(name, _)| has(name)).fold(MsFlags::empty(), |all, (_, flag)| all | flag)
}

/// `\040` and the like, as proc(5) writes paths.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let octal =
            behind.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(first);
                rest = behind;
            }
        }
    }
    plain
}

/// An empty file and an empty directory to put over what must not be seen.
struct Blank {
    file: PathBuf,
    directory: PathBuf,
}

impl Blank {
    fn make() -> Result<Blank, LaunchError> {
        let blank = Blank { file: "/blank".into(), directory: "/blank.d".into() };
        fs::write(&blank.file, []).map_err(at(&blank.file, "making a cover"))?;
        fs::create_dir(&blank.directory).map_err(at(&blank.directory, "making a cover"))?;
        Ok(blank)
    }

    fn cover(&self, secret: &Path, new: &Path) -> Result<(), LaunchError> {
        let target = below(new, secret);
        let Ok(metadata) = fs::symlink_metadata(&target) else { return Ok(()) };
        if metadata.is_symlink() {
            return Ok(());
        }
        let cover = if metadata.is_dir() { &self.directory } else { &self.file };
        let none: Option<&str> = None;
        mount(Some(cover), &target, none, MsFlags::MS_BIND, none).map_err(at_nix(secret, "covering it"))?;
        protect(&target, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
            .map_err(at(secret, "covering it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_spaces_are_read_as_proc_writes_them() {
        assert_eq!(unescape(br"/a\040b\134c\"), br"/a b\c\");
    }

    #[test]
    fn flags_of_the_host_are_kept() {
        assert_eq!(
            locked(b"ro,noexec,relatime"),
            MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME
        );
    }
}
