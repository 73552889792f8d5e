//! What the program sees: the sandbox's mounts, and what of the host has to be laid out for them.

mod asked;

pub use asked::{Asked, Device, Grant, MemoryDirectory, Overlay};

use boundary::boot::{MountKind, MountSpec};
use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What to show.
#[derive(Debug, Default)]
pub struct Request {
    /// What the command line asks for, in order.
    pub asked: Vec<Asked>,
    /// Working directory.
    pub workdir: PathBuf,
    /// The program's path on the host, as it was found.
    pub program: Option<PathBuf>,
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
    /// Granted by the caller (or by standing in it), not a part of every system: where root starts the sandbox, its owner's
    /// files are in reach.
    pub granted: bool,
}

/// The result.
#[derive(Debug, Default)]
pub struct View {
    /// The sandbox's mount table, in order.
    pub mounts: Vec<MountSpec>,
    /// What to bind into the host tree.
    pub host_paths: Vec<HostPath>,
    /// The command line grants something of the host.
    pub granted: bool,
    /// It is the sandbox of a pod: a directory of its own with an empty one in it, below which the trees of containers that join are
    /// mounted ([`crate::launch::container_tree`]). The program does not see it.
    pub pod: Option<PathBuf>,
}

/// Read-only parts of every Linux system, and the stores of NixOS and Guix.
const SYSTEM: &[&str] = &["/usr", "/opt", "/etc", "/nix/store", "/gnu/store"];
/// Directories that are links into `/usr` on merged systems.
const MERGED: &[&str] = &["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// Fresh directories in memory.
const FRESH: &[(&str, u32)] =
    &[("/tmp", 0o1777), ("/var/tmp", 0o1777), ("/run", 0o755), ("/root", 0o700), ("/home", 0o755)];

/// Directories that are not granted because one stands in them or a program lies there: too much would come with them.
const TOO_MUCH: &[&str] = &[
    "/", "/root", "/home", "/tmp", "/var", "/var/tmp", "/var/lib", "/run", "/boot", "/mnt", "/media", "/srv",
    "/proc", "/sys", "/dev",
];
/// hosts(5).
const HOSTS: &str = "/etc/hosts";
/// Directories that the kernel fills itself, and of which nothing of the host is shown.
pub const OF_THE_KERNEL: &[&str] = &["/proc", "/sys", "/dev"];

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
    "/etc/letsencrypt",
    "/etc/pki/tls/private",
    "/etc/ipsec.secrets",
    "/etc/openvpn",
    "/etc/bind/rndc.key",
    "/etc/mysql/debian.cnf",
    "/etc/cups/ssl",
    "/etc/docker",
    "/etc/kubernetes",
];

/// Secrets whose names vary: the host's SSH keys. `root` is where the host's root lies now.
pub fn varying_secrets(root: &Path) -> Vec<PathBuf> {
    let keys = std::fs::read_dir(root.join("etc/ssh")).into_iter().flatten().flatten();
    keys.map(|entry| Path::new("/etc/ssh").join(entry.file_name()))
        .filter(|path| path.to_string_lossy().ends_with("_key"))
        .collect()
}

fn relative(path: &Path) -> Vec<u8> {
    path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes().to_vec()
}

/// Whether granting a directory because of where one stands would show too much: a whole home, or a directory of everybody.
fn too_much(directory: &Path, request: &Request) -> bool {
    request.home.as_deref() == Some(directory)
        || TOO_MUCH.iter().any(|path| directory == Path::new(path))
        || starts_with_any(directory, OF_THE_KERNEL)
}

fn target(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn starts_with_any(path: &Path, directories: &[&str]) -> bool {
    directories.iter().any(|directory| path.starts_with(directory))
}

impl View {
    /// Makes the default view with the request's grants on top.
    pub fn new(request: &Request) -> View {
        let granted = request.asked.iter().any(Asked::shows_host);
        let mut view = View { granted, ..View::default() };
        let everything =
            request.asked.iter().any(|asked| asked.shows_host() && asked.target() == Path::new("/"));
        if !everything {
            view.mount("/", MountKind::Tmpfs { size: 0, mode: 0o755 }, false);
            view.system();
            view.fresh(request);
            view.own_directories(request);
        }
        view.explicit(&request.asked, |target| target == Path::new("/"));
        view.kernel_filesystems();
        view.explicit(&request.asked, |target| target != Path::new("/"));
        view.order_host_paths();
        view
    }

    /// In the host tree a path can be there once only, and an inner one has to come after what is around it.
    fn order_host_paths(&mut self) {
        self.host_paths.sort_by(|one, other| one.path.cmp(&other.path));
        self.host_paths.dedup_by(|again, first| {
            let same = again.path == first.path;
            if same {
                first.writable |= again.writable;
                first.granted |= again.granted;
            }
            same
        });
    }

    fn mount(&mut self, at: &str, kind: MountKind, read_only: bool) {
        self.mounts.push(MountSpec { target: at.as_bytes().to_vec(), kind, read_only, flags: 0 });
    }

    fn lay_out(&mut self, path: &Path, writable: bool, granted: bool) {
        self.host_paths.push(HostPath { path: path.into(), writable, granted });
    }

    fn system(&mut self) {
        for directory in SYSTEM {
            if Path::new(directory).is_dir() {
                self.host_read_only(Path::new(directory), false);
            }
        }
        for directory in MERGED {
            let path = Path::new(directory);
            match std::fs::read_link(path) {
                Ok(text) => {
                    self.mount(
                        directory,
                        MountKind::Symlink { text: text.as_os_str().as_bytes().to_vec() },
                        true,
                    );
                }
                Err(_) if path.is_dir() => self.host_read_only(path, false),
                Err(_) => {}
            }
        }
    }

    fn host_read_only(&mut self, path: &Path, granted: bool) {
        // A link of the host (such as /opt to /var/opt) would lead nowhere in the sandbox's host tree.
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
        self.lay_out(&real, false, granted);
        let kind = MountKind::Host { path: relative(&real), shared: false };
        self.mounts.push(MountSpec { target: target(path), kind, read_only: true, flags: 0 });
    }

    fn fresh(&mut self, request: &Request) {
        for (directory, mode) in FRESH {
            self.mount(directory, MountKind::Tmpfs { size: 0, mode: *mode }, false);
        }
        self.mount("/var/run", MountKind::Symlink { text: b"/run".to_vec() }, true);
        if let Some(home) = &request.home
            && home.is_absolute()
            && home != Path::new("/")
            && !FRESH.iter().any(|(directory, _)| home == Path::new(directory))
            && !starts_with_any(home, SYSTEM)
            && !starts_with_any(home, OF_THE_KERNEL)
        {
            let kind = MountKind::Tmpfs { size: 0, mode: 0o700 };
            self.mounts.push(MountSpec { target: target(home), kind, read_only: false, flags: 0 });
        }
    }

    /// The working directory and the program's own: read through, written in memory. Not where that would show all of a
    /// home or of the host: of such a directory, the program's file alone is shown.
    fn own_directories(&mut self, request: &Request) {
        let mut directories = vec![request.workdir.clone()];
        let mut files = Vec::new();
        if let Some(program) = &request.program {
            let real = std::fs::canonicalize(program).ok();
            for path in [Some(program.clone()), real].into_iter().flatten() {
                let Some(directory) = path.parent() else { continue };
                if too_much(directory, request) {
                    files.push(path)
                } else {
                    directories.push(directory.into())
                }
            }
        }
        // Outer ones first: an inner one is then part of it.
        directories.sort();
        for directory in directories {
            if !too_much(&directory, request) && directory.is_dir() && !self.shows_host(&directory, request) {
                self.lay_out(&directory, false, true);
                let kind = MountKind::Overlay { lower: relative(&directory), upper: None };
                self.mounts.push(MountSpec { target: target(&directory), kind, read_only: false, flags: 0 });
            }
        }
        files.dedup();
        for file in files {
            if file.is_file() && !starts_with_any(&file, OF_THE_KERNEL) && !self.shows_host(&file, request) {
                self.host_read_only(&file, true);
            }
        }
    }

    /// Whether a mount made so far or a grant shows what the host has at `path`.
    fn shows_host(&self, path: &Path, request: &Request) -> bool {
        self.on_host(path).is_some()
            || request.asked.iter().any(|asked| asked.shows_host() && path.starts_with(asked.target()))
    }

    fn kernel_filesystems(&mut self) {
        self.mount("/proc", MountKind::Proc, false);
        self.mount("/sys", MountKind::Sys, true);
        self.mount("/sys/fs/cgroup", MountKind::Cgroup, true);
        self.mount("/dev", MountKind::Dev, false);
        self.mount("/dev/pts", MountKind::DevPts, false);
        self.mount("/dev/shm", MountKind::Tmpfs { size: 0, mode: 0o1777 }, false);
        self.mount("/dev/mqueue", MountKind::Mqueue, false);
    }

    /// Lets the program find the sandbox by its own name, as far as the host's hosts(5) is what it sees. One that the command line
    /// names, or that the program may change, is as it is.
    pub fn name_sandbox(&mut self, name: &str, addresses: Vec<IpAddr>) {
        let hosts = Path::new(HOSTS);
        let of_the_system = self.innermost(hosts).is_some_and(|mount| {
            mount.read_only && mount.target != target(hosts) && matches!(mount.kind, MountKind::Host { .. })
        });
        if of_the_system && self.on_host(hosts).as_deref() == Some(hosts) {
            self.mount(HOSTS, MountKind::Hosts { name: name.into(), addresses }, true);
        }
    }

    /// Whether the sandbox has a directory at `path` to start in.
    pub fn has_directory(&self, path: &Path) -> bool {
        self.on_host(path).is_some_and(|path| path.is_dir())
            || self.mounts.iter().any(|mount| Path::new(OsStr::from_bytes(&mount.target)).starts_with(path))
    }

    /// Whether a secret was itself granted (`--ro-bind /etc/ssl/private`): a grant of what is around it is not enough.
    pub fn names_secret(&self, secret: &Path) -> bool {
        self.host_paths.iter().any(|path| path.granted && path.path.starts_with(secret))
    }

    /// Whether any host path may be written.
    pub fn has_writable_host_path(&self) -> bool {
        self.host_paths.iter().any(|path| path.writable)
    }

    /// The mount that shows `path` of the inside.
    fn innermost(&self, path: &Path) -> Option<&MountSpec> {
        self.mounts
            .iter()
            .filter(|mount| path.starts_with(Path::new(OsStr::from_bytes(&mount.target))))
            .max_by_key(|mount| Path::new(OsStr::from_bytes(&mount.target)).components().count())
    }

    /// Where `path` of the inside lies on the host, if a mount shows it.
    pub fn on_host(&self, path: &Path) -> Option<PathBuf> {
        let best = self.innermost(path)?;
        let rest = path.strip_prefix(OsStr::from_bytes(&best.target)).ok()?;
        match &best.kind {
            MountKind::Host { path, .. } | MountKind::Overlay { lower: path, .. } => {
                let base = Path::new("/").join(OsStr::from_bytes(path));
                Some(if rest.as_os_str().is_empty() { base } else { base.join(rest) })
            }
            MountKind::Symlink { text } => {
                let link = Path::new(OsStr::from_bytes(&best.target));
                let parent = link.parent().unwrap_or(Path::new("/"));
                self.on_host(&parent.join(OsStr::from_bytes(text)).join(rest))
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
        let directory = tempfile::tempdir().expect("a directory");
        let here = directory.path().to_path_buf();
        let view = View::new(&Request { workdir: here.clone(), ..Request::default() });
        let find = |path: &str| view.mounts.iter().find(|mount| mount.target == path.as_bytes());
        assert!(find("/usr").is_some_and(|mount| mount.read_only));
        assert!(matches!(
            find(&here.to_string_lossy()).map(|mount| &mount.kind),
            Some(MountKind::Overlay { .. })
        ));
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
    fn of_a_directory_of_everybody_only_the_program_is_shown() {
        let program = tempfile::NamedTempFile::new_in("/tmp").expect("a file");
        let request =
            Request { workdir: "/".into(), program: Some(program.path().into()), ..Request::default() };
        let view = View::new(&request);
        assert_eq!(view.on_host(program.path()), Some(program.path().into()));
        assert!(!view.host_paths.iter().any(|path| path.path == Path::new("/tmp")));
    }

    #[test]
    fn a_grant_of_the_working_directory_is_not_hidden_by_its_overlay() {
        let directory = tempfile::tempdir().expect("a directory");
        let here = directory.path().to_path_buf();
        let grant = Grant { source: here.clone(), target: here.clone(), writable: true };
        let view = View::new(&Request {
            asked: vec![Asked::Host(grant)],
            workdir: here.clone(),
            ..Request::default()
        });
        let at_it: Vec<_> = view.mounts.iter().filter(|mount| mount.target == target(&here)).collect();
        assert!(matches!(
            at_it.as_slice(),
            [MountSpec { kind: MountKind::Host { shared: true, .. }, read_only: false, .. }]
        ));
    }

    #[test]
    fn an_inner_directory_of_an_overlay_is_part_of_it() {
        let outer = tempfile::tempdir().expect("a directory");
        let program = outer.path().join("bin/tool");
        std::fs::create_dir(outer.path().join("bin")).expect("a directory");
        std::fs::write(&program, "#!/bin/sh").expect("a file");
        let view = View::new(&Request {
            workdir: outer.path().into(),
            program: Some(program),
            ..Request::default()
        });
        let overlays = view.mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Overlay { .. }));
        assert_eq!(overlays.count(), 1);
    }

    #[test]
    fn a_secret_is_shown_only_if_it_is_named_itself() {
        let with = |source: &str| {
            let grant = Grant { source: source.into(), target: source.into(), writable: false };
            View::new(&Request { asked: vec![Asked::Host(grant)], workdir: "/".into(), ..Request::default() })
        };
        assert!(!with("/etc").names_secret(Path::new("/etc/ssl/private")));
        assert!(with("/etc/ssl/private").names_secret(Path::new("/etc/ssl/private")));
    }

    #[test]
    fn mounts_that_are_asked_for_do_not_hide_each_other() {
        let grant = |source: &str, target: &str, writable| {
            Asked::Host(Grant { source: source.into(), target: target.into(), writable })
        };
        let view = View::new(&Request {
            asked: vec![
                grant("/usr/bin", "/srv/bin", false),
                grant("/usr/share", "/dev/share", true),
                grant("/usr", "/u", true),
                Asked::Memory(MemoryDirectory { target: "/srv".into(), size: 0 }),
            ],
            workdir: "/".into(),
            ..Request::default()
        });
        let place =
            |path: &str| view.mounts.iter().rposition(|mount| mount.target == path.as_bytes()).expect(path);
        assert!(place("/srv") < place("/srv/bin"));
        assert!(place("/dev") < place("/dev/share"));
        let at =
            |path: &str| view.host_paths.iter().position(|host| host.path == Path::new(path)).expect(path);
        assert!(
            at("/usr") < at("/usr/bin")
                && view.host_paths[at("/usr")].writable
                && !view.host_paths[at("/usr/bin")].writable
        );
    }

    #[test]
    fn a_fresh_home_can_be_stood_in() {
        let home = Some(PathBuf::from("/home/user"));
        let view = View::new(&Request { workdir: "/home/user".into(), home, ..Request::default() });
        assert!(view.has_directory(Path::new("/home/user")));
        assert!(!view.has_directory(Path::new("/no/such/place")));
    }

    #[test]
    fn granting_the_root_replaces_the_default_view() {
        let grant = Grant { source: "/".into(), target: "/".into(), writable: false };
        let view = View::new(&Request {
            asked: vec![Asked::Host(grant)],
            workdir: "/".into(),
            ..Request::default()
        });
        assert_eq!(view.mounts.first().map(|mount| mount.target.as_slice()), Some(&b"/"[..]));
        assert_eq!(view.host_paths.len(), 1);
    }
}
