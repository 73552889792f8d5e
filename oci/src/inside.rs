//! Where paths of the inside lie on the host, as far as the outside can tell: for what must be known of a container before its kernel
//! runs (whether the program is there, who has which home).

use nix::errno::Errno;
use runtime::view::View;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// Symbolic links in one path at most, as Linux has it.
const MOST_LINKS: usize = 40;

/// What is read of a container's `/etc/passwd`.
const LONGEST_PASSWD: u64 = 1 << 20;

/// A place in the container's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its path inside, free of links.
    pub inside: PathBuf,
    /// Its path on the host; `None` in a filesystem that only the container's kernel knows.
    pub host: Option<PathBuf>,
}

fn components(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}

/// Follows `path`, which is absolute or relative to the root, through links and mounts.
pub fn find(view: &View, path: &Path) -> Result<Place, Errno> {
    let mut rest: VecDeque<OsString> = components(path).collect();
    let mut at = Place { inside: "/".into(), host: view.on_host(Path::new("/")) };
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            at.inside.pop();
            at.host = view.on_host(&at.inside);
            continue;
        }
        let inside = at.inside.join(&name);
        let Some(host) = view.on_host(&inside) else {
            at = Place { inside, host: None };
            continue;
        };
        match fs::symlink_metadata(&host) {
            Ok(metadata) if metadata.is_symlink() => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::ELOOP);
                }
                let text = fs::read_link(&host).map_err(|error| errno(&error))?;
                if text.is_absolute() {
                    at = Place { inside: "/".into(), host: view.on_host(Path::new("/")) };
                }
                for name in components(&text).rev() {
                    rest.push_front(name);
                }
            }
            Ok(_) => at = Place { inside, host: Some(host) },
            // A place that the kernel makes when it mounts there.
            Err(_) if is_above_a_mount(view, &inside) => at = Place { inside, host: None },
            Err(error) => return Err(errno(&error)),
        }
    }
    Ok(at)
}

fn is_above_a_mount(view: &View, path: &Path) -> bool {
    view.mounts.iter().any(|mount| Path::new(OsStr::from_bytes(&mount.target)).starts_with(path))
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// What a name that cannot be executed is told, as Go's `exec.LookPath` words it: Docker and containerd read it.
fn refused(name: &str, reason: &str) -> anyhow::Error {
    anyhow::anyhow!("exec: {name:?}: {reason}")
}

/// The path of the program `name`, which must be there and executable where that can be told; the bare name where only the container's
/// kernel can look it up.
pub fn program(view: &View, name: &str, path: Option<&str>, cwd: &Path) -> anyhow::Result<PathBuf> {
    if name.contains('/') {
        let at = cwd.join(name);
        return match executable(view, &at) {
            Ok(()) | Err(Unfit::Unknown) => Ok(at),
            Err(Unfit::Because(Errno::EACCES)) => Err(refused(name, "permission denied")),
            Err(Unfit::Because(error)) => {
                Err(refused(name, &format!("stat {name}: {}", error.desc().to_lowercase())))
            }
        };
    }
    for directory in path.unwrap_or_default().split(':').filter(|_| !name.is_empty()) {
        let directory = if directory.is_empty() { cwd.to_path_buf() } else { cwd.join(directory) };
        let at = directory.join(name);
        match executable(view, &at) {
            Ok(()) => return Ok(at),
            Err(Unfit::Unknown) => return Ok(name.into()),
            Err(Unfit::Because(_)) => {}
        }
    }
    Err(refused(name, "executable file not found in $PATH"))
}

/// Why a path is not known to be a program.
enum Unfit {
    /// It lies where only the kernel inside can look.
    Unknown,
    /// It is none.
    Because(Errno),
}

fn executable(view: &View, path: &Path) -> Result<(), Unfit> {
    let place = find(view, path).map_err(Unfit::Because)?;
    let host = place.host.ok_or(Unfit::Unknown)?;
    // Links were followed: one that is here now was put here meanwhile.
    let metadata = fs::symlink_metadata(host).map_err(|error| Unfit::Because(errno(&error)))?;
    let can = metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
    if can { Ok(()) } else { Err(Unfit::Because(Errno::EACCES)) }
}

/// The home of a user by the container's own `/etc/passwd` (passwd(5)), which the container may have replaced by anything.
pub fn home(view: &View, uid: u32) -> Option<String> {
    let host = find(view, Path::new("/etc/passwd")).ok()?.host?;
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = fs::File::options().read(true).custom_flags(flags).open(host).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(LONGEST_PASSWD).read_to_end(&mut text).ok()?;
    String::from_utf8_lossy(&text).lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (fields.next()?.parse::<u32>().ok()? == uid).then(|| fields.nth(2).map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use boundary::boot::{MountKind, MountSpec};
    use std::os::unix::fs::symlink;

    fn mount(view: &mut View, target: &str, kind: MountKind) {
        view.mounts.push(MountSpec { target: target.into(), kind, read_only: false, flags: 0 });
    }

    fn host(path: &Path) -> MountKind {
        let path = path.strip_prefix("/").expect("absolute").as_os_str().as_bytes().to_vec();
        MountKind::Host { path, shared: true }
    }

    #[test]
    fn links_stay_inside_and_mounts_are_crossed() {
        let (root, volume) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        fs::create_dir_all(root.path().join("usr/bin")).expect("made");
        fs::create_dir_all(root.path().join("data")).expect("made");
        fs::write(root.path().join("usr/bin/tool"), "x").expect("made");
        fs::set_permissions(root.path().join("usr/bin/tool"), fs::Permissions::from_mode(0o755))
            .expect("set");
        fs::write(volume.path().join("file"), "x").expect("made");
        symlink("/usr/bin", root.path().join("bin")).expect("made");
        symlink("../../../usr/bin/tool", root.path().join("up")).expect("made");
        symlink("loop", root.path().join("loop")).expect("made");
        let mut view = View::default();
        mount(&mut view, "/", host(root.path()));
        mount(&mut view, "/data", host(volume.path()));
        mount(&mut view, "/proc", MountKind::Proc);
        let at = |path: &str| find(&view, Path::new(path));
        let tool = Place { inside: "/usr/bin/tool".into(), host: Some(root.path().join("usr/bin/tool")) };
        assert_eq!(at("/bin/tool"), Ok(tool.clone()));
        assert_eq!(at("/up"), Ok(tool));
        assert_eq!(at("/data/file").map(|place| place.host), Ok(Some(volume.path().join("file"))));
        assert_eq!(at("/proc/self/exe").map(|place| place.host), Ok(None));
        assert_eq!(at("/loop"), Err(Errno::ELOOP));
        assert_eq!(at("/none"), Err(Errno::ENOENT));

        let in_kernel = super::program(&view, "tool", Some("/sbin:/proc/self:/bin"), Path::new("/"));
        assert_eq!(in_kernel.expect("for the kernel to look up"), Path::new("tool"));
        let program = |name: &str| program(&view, name, Some("/sbin:/bin"), Path::new("/"));
        assert_eq!(program("tool").expect("found"), Path::new("/bin/tool"));
        let said = |name: &str| program(name).expect_err("refused").to_string();
        assert_eq!(said("none"), "exec: \"none\": executable file not found in $PATH");
        assert_eq!(said("/none"), "exec: \"/none\": stat /none: no such file or directory");
        assert_eq!(said("/data/file"), "exec: \"/data/file\": permission denied");
        assert_eq!(said("/usr"), "exec: \"/usr\": permission denied");
    }

    #[test]
    fn a_home_is_that_of_the_containers_own_user() {
        let root = tempfile::tempdir().expect("made");
        fs::create_dir(root.path().join("etc")).expect("made");
        fs::write(root.path().join("etc/passwd"), "bad\nroot:x:0:0:root:/root:/bin/sh\na:x:7:7::/home/a:\n")
            .expect("made");
        let mut view = View::default();
        mount(&mut view, "/", host(root.path()));
        assert_eq!(home(&view, 7).as_deref(), Some("/home/a"));
        assert_eq!(home(&view, 8), None);
        // A named pipe in its place keeps nobody waiting.
        fs::remove_file(root.path().join("etc/passwd")).expect("removed");
        nix::unistd::mkfifo(&root.path().join("etc/passwd"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        assert_eq!(home(&view, 7), None);
    }
}
