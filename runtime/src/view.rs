//! What the program sees: the sandbox's mounts, and what of the host has to be laid out for them.

use boundary::boot::{MountKind, MountSpec};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A grant of the command line.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Path on the host, absolute.
    pub source: PathBuf,
    /// Path inside.
    pub target: PathBuf,
    /// Writes reach the host.
    pub writable: bool,
}

/// A directory in memory that the command line asks for.
#[derive(Debug, Clone)]
pub struct MemoryDirectory {
    /// Path inside.
    pub target: PathBuf,
    /// Limit in bytes; 0 for none of its own.
    pub size: u64,
}

/// What to show.
#[derive(Debug, Default)]
pub struct Request {
    /// `--bind`, `--ro-bind`, in order.
    pub grants: Vec<Grant>,
    /// `--tmpfs`.
    pub memory: Vec<MemoryDirectory>,
    /// Working directory.
    pub workdir: PathBuf,
    /// The program's directory on the host, if it has one.
    pub program_directory: Option<PathBuf>,
    /// The user's home.
    pub home: Option<PathBuf>,
}

/// One piece of the host that has to be in the sandbox's host tree, at the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPath {
    /// Absolute path.
    pub path: PathBuf,
    /// Writes reach the host.
    pub writable: bool,
}

/// The result.
#[derive(Debug, Default)]
pub struct View {
    /// The sandbox's mount table, in order.
    pub mounts: Vec<MountSpec>,
    /// What to bind into the host tree.
    pub host_paths: Vec<HostPath>,
}

/// Read-only parts of every Linux system.
const SYSTEM: &[&str] = &["/usr", "/opt", "/etc"];
/// Directories that are links into `/usr` on merged systems.
const MERGED: &[&str] = &["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// Fresh directories in memory.
const FRESH: &[(&str, u32)] =
    &[("/tmp", 0o1777), ("/var/tmp", 0o1777), ("/run", 0o755), ("/root", 0o700), ("/home", 0o755)];

/// Secrets below the system's directories: covered in the host tree, so that nothing inside can read them.
pub const SECRETS: &[&str] = &[
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssl/private",
    "/etc/security/opasswd",
    "/etc/wireguard",
    "/etc/NetworkManager/system-connections",
    "/etc/ppp",
    "/etc/krb5.keytab",
    "/etc/machine-id",
    "/etc/docker",
    "/etc/kubernetes",
];

/// Secrets whose names vary: host keys and the like.
pub fn varying_secrets() -> Vec<PathBuf> {
    let keys = std::fs::read_dir("/etc/ssh").into_iter().flatten().flatten();
    keys.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with("_key")).collect()
}

fn relative(path: &Path) -> Vec<u8> {
    path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes().to_vec()
}

fn target(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

impl View {
    /// Makes the default view with the request's grants on top.
    pub fn new(request: &Request) -> View {
        let mut view = View::default();
        let everything = request.grants.iter().any(|grant| grant.target == Path::new("/"));
        if !everything {
            view.mount("/", MountKind::Tmpfs { size: 0, mode: 0o755 }, false);
            view.system();
            view.fresh(request);
            view.own_directories(request);
        }
        for grant in &request.grants {
            let kind = MountKind::Host { path: relative(&grant.source), shared: grant.writable };
            view.host_paths.push(HostPath { path: grant.source.clone(), writable: grant.writable });
            view.mounts.push(MountSpec { target: target(&grant.target), kind, read_only: !grant.writable });
        }
        view.kernel_filesystems();
        for memory in &request.memory {
            let kind = MountKind::Tmpfs { size: memory.size, mode: 0o1777 };
            view.mounts.push(MountSpec { target: target(&memory.target), kind, read_only: false });
        }
        view
    }

    fn mount(&mut self, at: &str, kind: MountKind, read_only: bool) {
        self.mounts.push(MountSpec { target: at.as_bytes().to_vec(), kind, read_only });
    }

    fn system(&mut self) {
        for directory in SYSTEM {
            if Path::new(directory).is_dir() {
                self.host_read_only(Path::new(directory));
            }
        }
        for directory in MERGED {
            let path = Path::new(directory);
            match std::fs::read_link(path) {
                Ok(text) => {
                    self.mount(directory, MountKind::Symlink { text: text.as_os_str().as_bytes().to_vec() }, true);
                }
                Err(_) if path.is_dir() => self.host_read_only(path),
                Err(_) => {}
            }
        }
    }

    fn host_read_only(&mut self, path: &Path) {
        self.host_paths.push(HostPath { path: path.into(), writable: false });
        let kind = MountKind::Host { path: relative(path), shared: false };
        self.mounts.push(MountSpec { target: target(path), kind, read_only: true });
    }

    fn fresh(&mut self, request: &Request) {
        for (directory, mode) in FRESH {
            self.mount(directory, MountKind::Tmpfs { size: 0, mode: *mode }, false);
        }
        if let Some(home) = &request.home
            && home.starts_with("/")
            && home != Path::new("/")
            && !FRESH.iter().any(|(directory, _)| home == Path::new(directory))
            && !SYSTEM.iter().any(|directory| home.starts_with(directory))
        {
            let kind = MountKind::Tmpfs { size: 0, mode: 0o700 };
            self.mounts.push(MountSpec { target: target(home), kind, read_only: false });
        }
    }

    /// The working directory and the program's own: read through, written in memory. Not where that would show all of a
    /// home or of the host.
    fn own_directories(&mut self, request: &Request) {
        let mut directories: Vec<PathBuf> = Vec::new();
        directories.extend(Some(request.workdir.clone()));
        directories.extend(request.program_directory.clone());
        directories.sort();
        directories.dedup();
        for directory in directories {
            let too_much = directory == Path::new("/")
                || request.home.as_deref() == Some(&*directory)
                || ["/root", "/home", "/tmp", "/var", "/var/tmp", "/run", "/proc", "/sys", "/dev"]
                    .iter()
                    .any(|path| directory == Path::new(path))
                || ["/proc", "/sys", "/dev"].iter().any(|path| directory.starts_with(path));
            let shown = SYSTEM.iter().chain(MERGED).any(|path| directory.starts_with(path));
            if too_much || shown || !directory.is_dir() {
                continue;
            }
            self.host_paths.push(HostPath { path: directory.clone(), writable: false });
            let kind = MountKind::Overlay { lower: relative(&directory) };
            self.mounts.push(MountSpec { target: target(&directory), kind, read_only: false });
        }
    }

    fn kernel_filesystems(&mut self) {
        self.mount("/proc", MountKind::Proc, false);
        self.mount("/sys", MountKind::Sys, true);
        self.mount("/dev", MountKind::Dev, false);
        self.mount("/dev/pts", MountKind::DevPts, false);
        self.mount("/dev/shm", MountKind::Tmpfs { size: 0, mode: 0o1777 }, false);
        self.mount("/dev/mqueue", MountKind::Mqueue, false);
    }

    /// Whether any host path may be written.
    pub fn has_writable_host_path(&self) -> bool {
        self.host_paths.iter().any(|path| path.writable)
    }

    /// Where `path` of the inside lies on the host, if a mount shows it.
    pub fn on_host(&self, path: &Path) -> Option<PathBuf> {
        let best = self
            .mounts
            .iter()
            .filter(|mount| path.starts_with(Path::new(std::ffi::OsStr::from_bytes(&mount.target))))
            .max_by_key(|mount| mount.target.len())?;
        let rest = path.strip_prefix(std::ffi::OsStr::from_bytes(&best.target)).ok()?;
        match &best.kind {
            MountKind::Host { path, .. } | MountKind::Overlay { lower: path } => {
                let base = Path::new("/").join(std::ffi::OsStr::from_bytes(path));
                Some(if rest.as_os_str().is_empty() { base } else { base.join(rest) })
            }
            MountKind::Symlink { text } => {
                let link = Path::new(std::ffi::OsStr::from_bytes(&best.target));
                let parent = link.parent().unwrap_or(Path::new("/"));
                self.on_host(&parent.join(std::ffi::OsStr::from_bytes(text)).join(rest))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_working_directory_is_an_overlay_and_the_system_is_read_only() {
        let view = View::new(&Request { workdir: "/srv".into(), ..Request::default() });
        let find = |path: &str| view.mounts.iter().find(|mount| mount.target == path.as_bytes());
        assert!(find("/usr").is_some_and(|mount| mount.read_only));
        assert!(matches!(find("/srv").map(|mount| &mount.kind), Some(MountKind::Overlay { .. })));
        assert!(!view.has_writable_host_path());
    }

    #[test]
    fn a_home_or_the_root_is_not_granted_because_one_stands_in_it() {
        for directory in ["/", "/root", "/home/user"] {
            let home = Some(PathBuf::from("/home/user"));
            let view = View::new(&Request { workdir: directory.into(), home, ..Request::default() });
            assert!(!view.host_paths.iter().any(|path| path.path == Path::new(directory)), "{directory}");
        }
    }

    #[test]
    fn granting_the_root_replaces_the_default_view() {
        let grant = Grant { source: "/".into(), target: "/".into(), writable: false };
        let view = View::new(&Request { grants: vec![grant], workdir: "/".into(), ..Request::default() });
        assert_eq!(view.mounts.first().map(|mount| mount.target.as_slice()), Some(&b"/"[..]));
        assert_eq!(view.host_paths.len(), 1);
    }
}
