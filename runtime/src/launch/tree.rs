//! The sandbox's host tree: a fresh root with bind mounts of what was granted, and nothing else.

use super::{Identity, LaunchError};
use crate::view::{self, HostPath, View};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::ffi::CString;
use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the scaffold is mounted: any directory that every system has.
const SCAFFOLD: &[&str] = &["/tmp", "/mnt", "/run", "/usr"];

const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;

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

/// Builds the tree, moves into it, and gives an `O_PATH` descriptor of its root.
pub fn build(view: &View, identity: &Identity) -> Result<OwnedFd, LaunchError> {
    let none: Option<&str> = None;
    let root = Path::new("/");
    mount(none, root, none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(at_nix(root, "making mounts private"))?;
    let scaffold = scaffold()?;
    let (old, new) = (Path::new("/old"), Path::new("/new"));
    for directory in [old, new] {
        let path = scaffold.join(directory.strip_prefix("/").unwrap_or(directory));
        fs::create_dir(&path).map_err(at(&path, "making a directory of the scaffold"))?;
    }
    nix::unistd::pivot_root(&scaffold, &scaffold.join("old")).map_err(at_nix(&scaffold, "pivot_root"))?;
    std::env::set_current_dir("/").map_err(at(root, "entering the scaffold"))?;
    mount(Some("tmpfs"), new, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
        .map_err(at_nix(new, "mounting the new root"))?;

    let blank = Blank::make()?;
    for host_path in &view.host_paths {
        bind(host_path, old, new, identity)?;
    }
    for secret in view::SECRETS.iter().map(PathBuf::from).chain(secrets_below(old)) {
        blank.cover(&secret, new)?;
    }
    // The tree is complete: its own root cannot change any more either.
    if !view.host_paths.iter().any(|host_path| host_path.path == root) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(none, new, none, flags, none).map_err(at_nix(new, "making the new root read-only"))?;
    }
    umount2(old, MntFlags::MNT_DETACH).map_err(at_nix(old, "letting go of the old root"))?;
    enter(new)?;
    open_root()
}

fn scaffold() -> Result<PathBuf, LaunchError> {
    let mut last = nix::Error::ENOENT;
    for directory in SCAFFOLD {
        match mount(Some("tmpfs"), *directory, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755")) {
            Ok(()) => return Ok(PathBuf::from(directory)),
            Err(error) => last = error,
        }
    }
    Err(LaunchError::Host { what: "mounting a tmpfs in the sandbox's mount namespace", source: last.into() })
}

/// Goes to `new` as the root and drops the scaffold.
fn enter(new: &Path) -> Result<(), LaunchError> {
    std::env::set_current_dir(new).map_err(at(new, "entering the new root"))?;
    nix::unistd::pivot_root(".", ".").map_err(at_nix(new, "pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(at_nix(new, "letting go of the scaffold"))?;
    std::env::set_current_dir("/").map_err(at(new, "entering the new root"))
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

/// Binds one granted path to the same place below `new`.
fn bind(host_path: &HostPath, old: &Path, new: &Path, identity: &Identity) -> Result<(), LaunchError> {
    let path = &host_path.path;
    let source = below(old, path);
    let target = below(new, path);
    let metadata = fs::metadata(&source).map_err(at(path, "cannot be granted"))?;
    check_reach(path, &metadata, identity)?;
    let none: Option<&str> = None;
    if path != Path::new("/") {
        make_target(&target, metadata.is_dir())?;
    }
    mount(Some(&source), &target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .map_err(at_nix(path, "binding it into the sandbox"))?;
    let mut attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    if !host_path.writable {
        attributes |= MOUNT_ATTR_RDONLY;
    }
    set_attributes(&target, attributes).map_err(at(path, "protecting its mounts (mount_setattr, Linux 5.12)"))
}

/// Started by root, the sandbox is nobody on the host: a granted directory that only its owner can read would be empty to
/// it, which is better said now.
fn check_reach(path: &Path, metadata: &fs::Metadata, identity: &Identity) -> Result<(), LaunchError> {
    let needed = if metadata.is_dir() { 0o5 } else { 0o4 };
    if identity.by_root && metadata.mode() & needed != needed {
        let source = std::io::Error::other(
            "only its owner can read it, and a sandbox that root starts is nobody on the host; chmod o+rx it, or \
             work in a directory that others can read",
        );
        return Err(LaunchError::Path { path: path.display().to_string(), what: "cannot be granted", source });
    }
    Ok(())
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

fn set_attributes(target: &Path, set: u64) -> std::io::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes())?;
    let attributes = MountAttr { set, clear: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: a terminated path and a structure of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::AT_RECURSIVE,
            &attributes,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn secrets_below(old: &Path) -> Vec<PathBuf> {
    let keys = fs::read_dir(below(old, Path::new("/etc/ssh"))).into_iter().flatten().flatten();
    keys.map(|entry| Path::new("/etc/ssh").join(entry.file_name()))
        .filter(|path| path.to_string_lossy().ends_with("_key"))
        .collect()
}

/// An empty file and an empty directory to put over secrets.
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
        mount(Some(cover), &target, none, MsFlags::MS_BIND, none).map_err(at_nix(secret, "covering a secret"))?;
        set_attributes(&target, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
            .map_err(at(secret, "covering a secret"))
    }
}
