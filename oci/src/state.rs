//! What is remembered of a container: a directory of its own below `--root`, which appears and changes in one step each, so that a
//! kill at any moment leaves one that `delete --force` can read.
//!
//! | file | is |
//! | --- | --- |
//! | `state.json` | the [`Record`] |
//! | `control` | the monitor's socket |
//! | `started` | there from `start` on |

use crate::cgroup::{self, Group};
use crate::command::{Global, Writes};
use crate::process::Process;
use anyhow::Context;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const RECORD: &str = "state.json";
const STARTED: &str = "started";
/// What is in it while hooks run before the program.
const HELD: &[u8] = b"held";
/// Names of directories that are being made begin so; no container is called so.
const NEW: &str = ".new-";
/// The version of the runtime specification that this is written to.
pub const OCI_VERSION: &str = "1.2.0";

/// What is known of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its name.
    pub id: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The root's directory.
    pub rootfs: PathBuf,
    /// When it was created (RFC 3339).
    pub created: String,
    /// The process that creates it.
    pub creator: Process,
    /// The monitor, once there is one.
    pub init: Option<Process>,
    /// Creation is complete.
    pub complete: bool,
    /// Its control group.
    pub group: Group,
    /// Where writes to the root go.
    pub writes: Writes,
    /// Who created it.
    pub owner: u32,
    /// config.json as it was then: later changes of the file have no effect.
    pub spec: Spec,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It waits for `start`.
    Created,
    /// Its program runs.
    Running,
    /// Its program is stopped for the time being.
    Paused,
    /// Its program has ended.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// What hooks get on their standard input (runtime-spec, "State").
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HookState<'a> {
    oci_version: &'static str,
    id: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "is_zero")]
    pid: i32,
    bundle: &'a Path,
    annotations: HashMap<String, String>,
}

impl HookState<'_> {
    /// With the process id as the hook sees it.
    pub fn with_pid(self, pid: i32) -> Self {
        HookState { pid, ..self }
    }
}

fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

/// A container on disk.
#[derive(Debug)]
pub struct Container {
    /// Its directory.
    pub directory: PathBuf,
    /// What is known of it.
    pub record: Record,
}

/// Where containers are kept.
pub fn root(global: &Global) -> PathBuf {
    if let Some(root) = &global.root {
        return std::path::absolute(root).unwrap_or_else(|_| root.clone());
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(directory) if Caller::this().is_ordinary() => Path::new(&directory).join("trapbox"),
        _ => "/run/trapbox".into(),
    }
}

/// Who asks.
pub struct Caller {
    is_root: bool,
    /// Its user namespace is not the host's.
    is_mapped: bool,
    name: Option<String>,
}

impl Caller {
    /// Who asks this process.
    pub fn this() -> Caller {
        Caller {
            is_root: nix::unistd::geteuid().is_root(),
            is_mapped: fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| is_mapped(&map)),
            name: std::env::var("USER").ok(),
        }
    }

    /// Whether it is an ordinary user, also as the root of a user namespace, which is what Podman makes of one (runc has the same rule).
    /// Its containers are in its own runtime directory, and may lack control groups.
    pub fn is_ordinary(&self) -> bool {
        !self.is_root || self.is_mapped && self.name.as_deref() != Some("root")
    }
}

/// Whether the text of `/proc/self/uid_map` is that of a user namespace below the host's.
fn is_mapped(map: &str) -> bool {
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// A name is a plain file name (runc has the same rule).
pub fn check_id(id: &str) -> anyhow::Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    let fits = (1..=255).contains(&id.len()) && id.chars().all(plain);
    anyhow::ensure!(
        fits && id != "." && id != ".." && !id.starts_with(NEW),
        "invalid container ID format: {id:?}"
    );
    Ok(())
}

fn private_directory(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

impl Container {
    /// Makes the directory of a new container.
    pub fn create(root: &Path, record: Record) -> anyhow::Result<Container> {
        check_id(&record.id)?;
        let id = record.id.clone();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .with_context(|| format!("making {}", root.display()))?;
        sweep(root);
        let directory = root.join(&id);
        let exists = || anyhow::anyhow!("container with given ID already exists: {id}");
        if directory.exists() {
            return Err(exists());
        }
        let new = root.join(format!("{NEW}{}", std::process::id()));
        let _ = fs::remove_dir_all(&new);
        private_directory(&new).with_context(|| format!("making {}", new.display()))?;
        let container = Container { directory: new.clone(), record };
        container.save()?;
        match renameat2(AT_FDCWD, &new, AT_FDCWD, &directory, RenameFlags::RENAME_NOREPLACE) {
            Ok(()) => Ok(Container { directory, ..container }),
            Err(error) => {
                let _ = fs::remove_dir_all(&new);
                Err(match error {
                    nix::Error::EEXIST => exists(),
                    error => anyhow::Error::new(error).context(format!("making {}", directory.display())),
                })
            }
        }
    }

    /// Reads what is known of a container.
    pub fn load(global: &Global, id: &str) -> anyhow::Result<Container> {
        Container::find(global, id)?.with_context(|| format!("container {id:?} does not exist"))
    }

    /// As [`Container::load`]; `None` if there is none.
    pub fn find(global: &Global, id: &str) -> anyhow::Result<Option<Container>> {
        check_id(id)?;
        Container::read(&root(global).join(id))
    }

    /// Reads what is known of the container whose directory this is.
    pub fn read(directory: &Path) -> anyhow::Result<Option<Container>> {
        let path = directory.join(RECORD);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let record =
            serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Some(Container { directory: directory.into(), record }))
    }

    /// All containers, by name.
    pub fn all(global: &Global) -> anyhow::Result<Vec<Container>> {
        Container::all_below(&root(global))
    }

    /// All containers of a `--root`.
    pub fn all_below(root: &Path) -> anyhow::Result<Vec<Container>> {
        let entries = match fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| root.display().to_string()),
        };
        let mut all = Vec::new();
        for entry in entries.flatten() {
            if !entry.file_name().to_string_lossy().starts_with(NEW) {
                all.extend(Container::read(&entry.path())?);
            }
        }
        all.sort_by(|one, other| one.record.id.cmp(&other.record.id));
        Ok(all)
    }

    /// Writes the record, in one step.
    pub fn save(&self) -> anyhow::Result<()> {
        let text = serde_json::to_vec(&self.record)?;
        write_whole(&self.directory.join(RECORD), &text)
    }

    /// Forgets the container: first in name, so that a kill meanwhile leaves nothing half there.
    pub fn remove(&self) -> anyhow::Result<()> {
        let parent = self.directory.parent().unwrap_or(Path::new("/"));
        let gone = parent.join(format!("{NEW}{}", std::process::id()));
        let _ = fs::remove_dir_all(&gone);
        let moved = match fs::rename(&self.directory, &gone) {
            Ok(()) => fs::remove_dir_all(&gone),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        moved.with_context(|| format!("removing {}", self.directory.display()))
    }

    /// Remembers that the program was started, or with `held` its kernel alone, for the hooks that run before it.
    pub fn mark_started(&self, held: bool) -> anyhow::Result<()> {
        write_whole(&self.directory.join(STARTED), if held { HELD } else { b"" })
    }

    /// What others are told: to verbs, a container whose first hooks run is there as any that runs, but it is created only
    /// (runtime-spec, "Lifecycle").
    pub fn told_status(&self) -> Status {
        match self.status() {
            Status::Running if fs::read(self.directory.join(STARTED)).is_ok_and(|text| text == HELD) => {
                Status::Created
            }
            status => status,
        }
    }

    /// What it does.
    pub fn status(&self) -> Status {
        let Some(init) = self.record.init else {
            return if self.record.creator.is_alive() { Status::Creating } else { Status::Stopped };
        };
        if !init.is_alive() {
            return Status::Stopped;
        }
        if !self.record.complete {
            return Status::Creating;
        }
        match self.directory.join(STARTED).exists() {
            _ if cgroup::is_frozen(init.pid) => Status::Paused,
            true => Status::Running,
            false => Status::Created,
        }
    }

    /// The host process id to report: 0 for a container that has stopped.
    pub fn pid(&self) -> i32 {
        self.record.init.filter(Process::is_alive).map_or(0, |init| init.pid)
    }

    /// The name of its program.
    pub fn program(&self) -> Option<String> {
        self.record.spec.process().as_ref()?.args().as_ref()?.first().cloned()
    }

    /// What a hook is told.
    pub fn hook_state(&self, status: Status) -> HookState<'_> {
        HookState {
            oci_version: OCI_VERSION,
            id: &self.record.id,
            status,
            pid: if status == Status::Stopped { 0 } else { self.pid() },
            bundle: &self.record.bundle,
            annotations: self.record.spec.annotations().clone().unwrap_or_default(),
        }
    }
}

/// Removes directories whose makers were killed.
pub fn sweep(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(NEW)?.parse::<i32>().ok());
        if maker.is_some_and(|pid| Process::of(pid).is_none()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Writes a file that is there whole or not at all.
pub fn write_whole(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = path.with_file_name(format!(".{name}-{}", std::process::id()));
    fs::write(&part, text)
        .and_then(|()| fs::rename(&part, path))
        .inspect_err(|_| drop(fs::remove_file(&part)))
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> Record {
        Record {
            id: id.into(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: String::new(),
            creator: Process::own().expect("this process"),
            init: None,
            complete: false,
            group: Group::default(),
            writes: Writes::Host,
            owner: 0,
            spec: Spec::default(),
        }
    }

    #[test]
    fn a_name_can_be_taken_once() {
        let root = tempfile::tempdir().expect("a directory");
        let first = Container::create(root.path(), record("a")).expect("made");
        let error = Container::create(root.path(), record("a")).expect_err("taken").to_string();
        assert!(error.contains("already exists"), "{error}");
        assert_eq!(first.status(), Status::Creating);
        first.remove().expect("removed");
        first.remove().expect("nothing to remove is no error");
        assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 0);
        Container::create(root.path(), record("a")).expect("free again");
    }

    #[test]
    fn what_a_killed_maker_left_is_swept() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir(root.path().join(".new-999999999")).expect("made");
        Container::create(root.path(), record("a")).expect("made");
        assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 1);
    }

    #[test]
    fn the_root_of_a_users_namespace_is_that_user() {
        let at = |is_root, is_mapped, name: Option<&str>| {
            Caller { is_root, is_mapped, name: name.map(str::to_owned) }.is_ordinary()
        };
        assert!(at(false, false, Some("user")) && at(true, true, Some("user")) && at(true, true, None));
        assert!(!at(true, false, Some("root")) && !at(true, false, None) && !at(true, true, Some("root")));
        assert!(!is_mapped("         0          0 4294967295\n"));
        assert!(is_mapped("         0       1000          1\n         1     100000      65536\n"));
    }

    #[test]
    fn names_are_plain() {
        for id in ["", ".", "..", "a/b", ".new-1", "a b", "ä"] {
            assert!(check_id(id).is_err(), "{id}");
        }
        for id in ["a", "A_1+2-3.4", ".hidden"] {
            check_id(id).expect(id);
        }
    }
}
