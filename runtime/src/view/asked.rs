//! What the command line asks for beside the default view.

use super::{View, relative, target};
use boundary::boot::{MountKind, MountSpec};
use std::ffi::OsStr;
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

/// A directory of the host that is read through, shown at its own path.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// What is read: its path on the host, absolute.
    pub lower: PathBuf,
    /// What is written: a directory of the host; `None` for memory.
    pub upper: Option<PathBuf>,
}

/// A device of the sandbox's own at a path of the caller's choice.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its name in `/dev`.
    pub name: String,
    /// Path inside.
    pub target: PathBuf,
}

/// One thing that the command line asks for.
#[derive(Debug, Clone)]
pub enum Asked {
    /// `--bind`, `--ro-bind`.
    Host(Grant),
    /// `--tmpfs`.
    Memory(MemoryDirectory),
    /// `--overlay`.
    Overlay(Overlay),
    /// `--dev-bind`.
    Device(Device),
}

impl Asked {
    /// Path inside.
    pub fn target(&self) -> &Path {
        match self {
            Asked::Host(grant) => &grant.target,
            Asked::Memory(memory) => &memory.target,
            Asked::Overlay(overlay) => &overlay.lower,
            Asked::Device(device) => &device.target,
        }
    }

    /// Whether it shows something of the host.
    pub(super) fn shows_host(&self) -> bool {
        matches!(self, Asked::Host(_) | Asked::Overlay(_))
    }
}

impl View {
    /// What was asked for at `wanted` targets, outer directories first, so that none hides another. What is at the same place
    /// comes in the order of the command line: the last is seen.
    pub(super) fn explicit(&mut self, asked: &[Asked], wanted: impl Fn(&Path) -> bool) {
        let mut mounts: Vec<MountSpec> = Vec::new();
        for one in asked.iter().filter(|one| wanted(one.target())) {
            let (kind, read_only) = match one {
                Asked::Memory(memory) => (MountKind::Tmpfs { size: memory.size, mode: 0o1777 }, false),
                Asked::Device(device) => (MountKind::Device { name: device.name.clone(), node: None }, false),
                Asked::Host(grant) => {
                    self.lay_out(&grant.source, grant.writable, true);
                    let path = relative(&grant.source);
                    (MountKind::Host { path, shared: grant.writable }, !grant.writable)
                }
                Asked::Overlay(overlay) => {
                    self.lay_out(&overlay.lower, false, true);
                    if let Some(upper) = &overlay.upper {
                        self.lay_out(upper, true, true);
                        // Seen through the lower, which must not change, it would change.
                        if upper.starts_with(&overlay.lower) {
                            let kind = MountKind::Tmpfs { size: 0, mode: 0o555 };
                            mounts.push(MountSpec { target: target(upper), kind, read_only: true, flags: 0 });
                        }
                    }
                    let upper = overlay.upper.as_deref().map(relative);
                    (MountKind::Overlay { lower: relative(&overlay.lower), upper }, false)
                }
            };
            mounts.push(MountSpec { target: target(one.target()), kind, read_only, flags: 0 });
        }
        mounts.sort_by_key(|mount| Path::new(OsStr::from_bytes(&mount.target)).components().count());
        self.mounts.extend(mounts);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Request;
    use super::*;

    fn overlay(lower: &str, upper: Option<&str>) -> Asked {
        Asked::Overlay(Overlay { lower: lower.into(), upper: upper.map(PathBuf::from) })
    }

    fn view(asked: Vec<Asked>) -> View {
        View::new(&Request { asked, workdir: "/".into(), ..Request::default() })
    }

    #[test]
    fn of_two_at_one_place_the_last_is_seen() {
        let grant = Grant { source: "/usr".into(), target: "/srv".into(), writable: false };
        let memory = MemoryDirectory { target: "/srv".into(), size: 0 };
        let last = |asked: Vec<Asked>| view(asked).mounts.pop().expect("a mount").kind;
        let (grant, memory) = (Asked::Host(grant), Asked::Memory(memory));
        assert!(matches!(last(vec![grant.clone(), memory.clone()]), MountKind::Tmpfs { .. }));
        assert!(matches!(last(vec![memory, grant]), MountKind::Host { .. }));
    }

    #[test]
    fn only_the_upper_of_an_overlay_is_writable_and_the_lower_does_not_show_it() {
        let view = view(vec![overlay("/usr", Some("/usr/share"))]);
        let writable: Vec<_> = view.host_paths.iter().filter(|path| path.writable).collect();
        assert_eq!(writable.len(), 1);
        assert_eq!(writable[0].path, Path::new("/usr/share"));
        let place = |path: &[u8]| view.mounts.iter().rposition(|mount| mount.target == path).expect("there");
        assert!(place(b"/usr") < place(b"/usr/share"));
        assert!(matches!(view.mounts[place(b"/usr/share")].kind, MountKind::Tmpfs { .. }));
    }

    #[test]
    fn an_overlay_of_the_root_replaces_the_default_view() {
        let view = view(vec![overlay("/", None)]);
        assert!(matches!(view.mounts.first().map(|mount| &mount.kind), Some(MountKind::Overlay { .. })));
        assert_eq!(view.host_paths.len(), 1);
    }
}
