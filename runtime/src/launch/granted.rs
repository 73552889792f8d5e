//! Landlock as the only fence around files: where the sandbox has no mount namespace it is in the host's own tree, and rules name what of
//! that was granted (landlock(7)). Rules only ever add, and hold for all that is below: so around a secret everything else is named.

use super::LaunchError;
use crate::view::{self, HostPath, View};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// All of it is needed: see [`super::walls`].
const RULES: ABI = ABI::V6;

/// Entries that are looked at around secrets, at most.
const MOST_ENTRIES: usize = 10_000;

/// What may be done below a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grant {
    /// Files and directories are read.
    Read,
    /// And changed, removed and made; no devices, and nothing is executed by the host.
    Write,
    /// Directories are listed: what is around a secret.
    List,
}

impl Grant {
    fn access(self, directory: bool) -> BitFlags<AccessFs> {
        let access = match self {
            Grant::Read => AccessFs::ReadFile | AccessFs::ReadDir,
            Grant::Write => {
                AccessFs::from_all(RULES)
                    & !(AccessFs::Execute | AccessFs::IoctlDev | AccessFs::MakeChar | AccessFs::MakeBlock)
            }
            Grant::List => AccessFs::ReadDir.into(),
        };
        if directory { access } else { access & AccessFs::from_file(RULES) }
    }
}

/// Fences this process and its children in, in the host's tree. It has `no_new_privs`.
pub fn raise(view: &View) -> Result<(), LaunchError> {
    let rules = rules(view)?;
    let missing = |reason: String| LaunchError::Missing {
        what: "landlock".into(),
        reason,
        way_out: "report this with the output of `uname -a`".into(),
    };
    let status = restrict(&rules).map_err(|error| missing(error.to_string()))?;
    // Nothing less will do, whatever else the caller has allowed to be missing.
    match status.ruleset {
        RulesetStatus::FullyEnforced if status.no_new_privs => Ok(()),
        other => Err(missing(format!("the rules are not in force ({other:?})"))),
    }
}

fn restrict(rules: &[(File, BitFlags<AccessFs>)]) -> Result<RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::from_all(RULES))?
        .scope(Scope::from_all(RULES))?
        .create()?;
    for (file, access) in rules {
        ruleset = ruleset.add_rule(PathBeneath::new(file, *access))?;
    }
    ruleset.restrict_self()
}

fn rules(view: &View) -> Result<Vec<(File, BitFlags<AccessFs>)>, LaunchError> {
    refuse_read_only_below_writable(&view.host_paths)?;
    let mut walk = Walk { closed: closed(view), entries: 0, found: Vec::new() };
    for HostPath { path, writable, .. } in &view.host_paths {
        let failed = |source: io::Error| LaunchError::Path {
            path: path.display().to_string(),
            what: "cannot be granted",
            source,
        };
        let real = std::fs::canonicalize(path).map_err(failed)?;
        walk.grant(&real, if *writable { Grant::Write } else { Grant::Read }).map_err(failed)?;
    }
    Ok(walk.found)
}

/// Rules only add: what may be written to as a whole cannot be closed to writes in part.
fn refuse_read_only_below_writable(host_paths: &[HostPath]) -> Result<(), LaunchError> {
    let mut writable = host_paths.iter().filter(|outer| outer.writable);
    let pair = writable.find_map(|outer| {
        let inner = host_paths.iter().find(|inner| !inner.writable && inner.path.starts_with(&outer.path));
        inner.map(|inner| (inner, outer))
    });
    let Some((inner, outer)) = pair else { return Ok(()) };
    Err(LaunchError::Missing {
        what: "user namespaces".into(),
        reason: format!(
            "without them {} cannot be granted read-only, as it lies in {}, which is granted for writing",
            inner.path.display(),
            outer.path.display()
        ),
        way_out: "grant directories apart from each other".into(),
    })
}

/// What a grant of something around it does not open.
pub fn closed(view: &View) -> Vec<PathBuf> {
    let secrets = view::SECRETS.iter().map(PathBuf::from).chain(view::varying_secrets(Path::new("/")));
    let secrets = secrets.filter(|secret| !view.names_secret(secret));
    // A secret that is a link: what it leads to is one, too.
    let secrets = secrets.flat_map(|secret| std::fs::canonicalize(&secret).ok().into_iter().chain([secret]));
    secrets.chain(view::OF_THE_KERNEL.iter().map(PathBuf::from)).collect()
}

struct Walk {
    closed: Vec<PathBuf>,
    entries: usize,
    found: Vec<(File, BitFlags<AccessFs>)>,
}

impl Walk {
    /// Opens `path`, and all that is below it but what is closed.
    fn grant(&mut self, path: &Path, grant: Grant) -> io::Result<()> {
        // Never through a link: where that leads is not what was granted.
        let file = File::options().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
        let kind = file.metadata()?.file_type();
        if kind.is_symlink() {
            return Ok(());
        }
        let around =
            kind.is_dir() && self.closed.iter().any(|closed| closed != path && closed.starts_with(path));
        if !around {
            self.found.push((file, grant.access(kind.is_dir())));
            return Ok(());
        }
        self.found.push((file, Grant::List.access(true)));
        let entries = match std::fs::read_dir(path) {
            // What the caller cannot list the sandbox cannot open.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                return Err(io::Error::other(format!(
                    "there are more than {MOST_ENTRIES} entries around what must stay closed; name a directory further down"
                )));
            }
            let below = entry?.path();
            if !self.closed.contains(&below) {
                match self.grant(&below, grant) {
                    // It was removed meanwhile, or lies in a directory that the caller may not search.
                    Err(error)
                        if matches!(
                            error.kind(),
                            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                        ) => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    fn name(file: &File) -> PathBuf {
        std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("an open file")
    }

    #[test]
    fn around_a_secret_everything_else_is_named() {
        let tree = tempfile::tempdir().expect("a directory");
        let root = tree.path().canonicalize().expect("a path");
        for directory in ["plain/deep", "mixed/keys", "mixed/open"] {
            std::fs::create_dir_all(root.join(directory)).expect("made");
        }
        for file in ["secret", "plain/deep/file", "mixed/keys/key", "known"] {
            std::fs::write(root.join(file), "x").expect("written");
        }
        symlink("secret", root.join("way")).expect("a link");
        let closed = vec![root.join("secret"), root.join("mixed/keys")];
        let mut walk = Walk { closed, entries: 0, found: Vec::new() };
        walk.grant(&root, Grant::Read).expect("walked");
        let mut found: Vec<(PathBuf, bool)> = walk
            .found
            .iter()
            .map(|(file, access)| {
                let below = name(file).strip_prefix(&root).expect("below").to_path_buf();
                (below, access.contains(AccessFs::ReadFile))
            })
            .collect();
        found.sort();
        let expected =
            [("", false), ("known", true), ("mixed", false), ("mixed/open", true), ("plain", true)];
        assert_eq!(found, expected.map(|(path, read)| (PathBuf::from(path), read)));
    }

    #[test]
    fn a_read_only_grant_in_a_writable_one_is_refused_by_name() {
        let path = |path: &str, writable| HostPath { path: path.into(), writable, granted: true };
        let refused = refuse_read_only_below_writable(&[path("/srv/a", true), path("/srv/a/b", false)]);
        let refused = refused.expect_err("refused").to_string();
        assert!(refused.contains("/srv/a/b cannot be granted read-only"), "{refused}");
        assert!(refuse_read_only_below_writable(&[path("/srv", false), path("/srv/a", true)]).is_ok());
    }

    #[test]
    fn a_file_gets_no_rights_of_directories_and_nothing_is_executed() {
        assert_eq!(Grant::Read.access(false), BitFlags::from(AccessFs::ReadFile));
        let write = Grant::Write.access(true);
        assert!(write.contains(AccessFs::Refer | AccessFs::MakeReg) && !write.contains(AccessFs::Execute));
        assert!(!write.intersects(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev));
    }
}
