//! Where an attack happens: a directory that the sandbox is shown, a secret that it is not shown, and a look at both afterwards.

use anyhow::{Context, Result, bail, ensure};
use conformance::{Outcome, Tree, compile, run, run_until_asked, sandbox_exec, scratch};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// Stands in the file that no attack may read, and in the supervisor's environment.
pub const SECRET: &str = "SECRET-4b1f0c2e";

/// Who starts the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Who runs the suite.
    Caller,
    /// An ordinary user, where root runs the suite.
    Ordinary,
    /// An ordinary user of a host that refuses user namespaces.
    WithoutNamespaces,
    /// An ordinary user of a host without Landlock.
    WithoutLandlock,
}

impl User {
    pub fn all() -> &'static [User] {
        match (by_root(), landlock_version()) {
            (true, 6..) => &[User::Caller, User::Ordinary, User::WithoutNamespaces, User::WithoutLandlock],
            (false, 6..) => &[User::Caller, User::WithoutNamespaces, User::WithoutLandlock],
            (true, _) => &[User::Caller, User::Ordinary, User::WithoutLandlock],
            (false, _) => &[User::Caller, User::WithoutLandlock],
        }
    }

    /// What such a host lacks, as `refusing` and `--allow-missing` call it.
    fn lacks(self) -> Option<&'static str> {
        match self {
            User::Caller | User::Ordinary => None,
            User::WithoutNamespaces => Some("userns"),
            User::WithoutLandlock => Some("landlock"),
        }
    }
}

/// landlock_create_ruleset(2) with `LANDLOCK_CREATE_RULESET_VERSION`.
fn landlock_version() -> i64 {
    // SAFETY: asks for the version only; no structure is read.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, 1) }
}

pub fn by_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            User::Caller if by_root() => "root",
            User::Caller => "caller",
            User::Ordinary => "user",
            User::WithoutNamespaces => "without_namespaces",
            User::WithoutLandlock => "without_landlock",
        })
    }
}

/// What must not change on the host.
const OF_THE_HOST: &[&str] = &["/etc/passwd", "/etc/hostname", "/etc/hosts", "/usr/bin/id", "/usr/bin/env"];

pub struct Stage {
    pub user: User,
    /// The working directory, with the programs: shown to the sandbox.
    pub directory: tempfile::TempDir,
    /// Holds the secret, and is not shown.
    outside: tempfile::TempDir,
    before: HashMap<PathBuf, u64>,
    /// What lies outside, and how.
    untouched: Vec<String>,
}

static TOOLS: OnceLock<Result<tempfile::TempDir, String>> = OnceLock::new();

/// Takes away what all attacks shared: nobody drops a static.
pub fn tidy() {
    if let Some(Ok(directory)) = TOOLS.get() {
        let _ = std::fs::remove_dir_all(directory.path());
    }
}

/// Everything once for all attacks: the command and the programs, where any user can reach them.
fn tools() -> Result<&'static Path> {
    let made = TOOLS.get_or_init(|| {
        let make = || -> Result<tempfile::TempDir> {
            let directory = scratch()?;
            let command = directory.path().join("sandbox-exec");
            std::fs::copy(sandbox_exec(), &command)?;
            std::fs::set_permissions(&command, std::fs::Permissions::from_mode(0o755))?;
            Ok(directory)
        };
        make().map_err(|error| format!("{error:#}"))
    });
    match made {
        Ok(directory) => Ok(directory.path()),
        Err(error) => bail!("{error}"),
    }
}

/// The compiled program of a source in `attacks`.
fn program(name: &str) -> Result<PathBuf> {
    static BUILT: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let output = tools()?.join(name);
    let mut built = BUILT.lock().map_err(|_| anyhow::anyhow!("another attack panicked"))?;
    if !built.iter().any(|other| other == name) {
        let sources = std::env::var_os("CONFORMANCE_ATTACKS")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks"), PathBuf::from);
        compile("gcc", &["-O1", "-mfsgsbase", "-pthread"], &sources.join(format!("{name}.c")), &output)?;
        built.push(name.into());
    }
    Ok(output)
}

fn hash(path: &Path) -> Result<u64> {
    let mut hash = DefaultHasher::new();
    std::fs::read(path).with_context(|| path.display().to_string())?.hash(&mut hash);
    Ok(hash.finish())
}

impl Stage {
    pub fn new(user: User) -> Result<Stage> {
        let directory = scratch()?;
        let outside = tempfile::Builder::new().prefix("attack-").tempdir_in("/var/tmp")?;
        std::fs::set_permissions(outside.path(), std::fs::Permissions::from_mode(0o755))?;
        let secret = outside.path().join("secret");
        std::fs::write(&secret, format!("{SECRET}\n"))?;
        // Nothing but the sandbox keeps anyone from it.
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o666))?;
        let place = |name: &str| outside.path().join(name);
        for (name, mode) in [("open", 0o777), ("shown", 0o755)] {
            std::fs::create_dir(place(name))?;
            std::fs::set_permissions(place(name), std::fs::Permissions::from_mode(mode))?;
        }
        for name in ["mine", "shown/mine"] {
            std::fs::write(place(name), "mine\n")?;
            std::fs::set_permissions(place(name), std::fs::Permissions::from_mode(0o644))?;
        }
        if user != User::Caller && by_root() {
            for path in [directory.path().into(), place("mine"), place("shown"), place("shown/mine")] {
                std::os::unix::fs::chown(path, Some(1), Some(1))?;
            }
        }
        let untouched = look_at(outside.path())?;
        let mut watched: Vec<PathBuf> = OF_THE_HOST.iter().map(PathBuf::from).collect();
        watched.retain(|path| path.exists());
        watched.extend([secret, tools()?.join("sandbox-exec")]);
        let before =
            watched.into_iter().map(|path| Ok((path.clone(), hash(&path)?))).collect::<Result<_>>()?;
        Ok(Stage { user, directory, outside, before, untouched })
    }

    /// What lies beside the secret.
    pub fn outside(&self, name: &str) -> String {
        self.outside.path().join(name).to_string_lossy().into_owned()
    }

    /// The file that no attack may read.
    pub fn secret(&self) -> String {
        self.outside.path().join("secret").to_string_lossy().into_owned()
    }

    /// sandbox-exec with options, as this stage's user.
    pub fn sandbox(&self, options: &[&str]) -> Result<Command> {
        let executable = tools()?.join("sandbox-exec");
        let mut words: Vec<OsString> = Vec::new();
        let mut say = |more: &[&str]| words.extend(more.iter().map(OsString::from));
        let refusing = program("refusing")?.to_string_lossy().into_owned();
        if let Some(layer) = self.user.lacks() {
            say(&[&refusing, layer]);
        }
        if self.user != User::Caller && by_root() {
            say(&["setpriv", "--reuid=1", "--regid=1", "--clear-groups", "--inh-caps=-all"]);
            say(&["env", "HOME=/nonexistent", "USER=daemon", "LOGNAME=daemon"]);
        }
        if self.user == User::WithoutNamespaces {
            // The host counts all processes of a user; this one has no others.
            say(&["prlimit", "--nproc=464"]);
        }
        words.push(executable.into_os_string());
        words.extend(self.user.lacks().map(|layer| format!("--allow-missing={layer}").into()));
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().context("a command")?);
        command.args(words);
        command.args(options).current_dir(self.directory.path());
        command.env("HOST_SECRET", SECRET);
        Ok(command)
    }

    /// Where an attack's program lies; it is shown to the sandbox.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let here = self.directory.path().join(name);
        if !here.exists() {
            std::fs::copy(program(name)?, &here)?;
        }
        Ok(here)
    }

    /// sandbox-exec with an attack's program; `SECRET` among the arguments stands for the secret's path.
    pub fn command(&self, options: &[&str], name: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = self.sandbox(options)?;
        command.arg("--").arg(self.program(name)?);
        let own = std::process::id().to_string();
        let secret = self.secret();
        command.args(arguments.iter().map(|argument| match *argument {
            "SECRET" => secret.as_str(),
            "PID" => own.as_str(),
            other => other,
        }));
        Ok(command)
    }

    /// Runs an attack; whatever it is, the host must be as it was and its secret unknown.
    pub fn attack(&self, options: &[&str], name: &str, arguments: &[&str]) -> Result<Outcome> {
        self.attack_with(options, name, arguments, run)
    }

    /// As [`Stage::attack`], for what may go on for ever, as any program may: then it must end when it is asked to.
    pub fn endless_attack(&self, options: &[&str], name: &str, arguments: &[&str]) -> Result<Outcome> {
        const LONG: Duration = Duration::from_secs(15);
        self.attack_with(options, name, arguments, |command| run_until_asked(command, LONG))
    }

    fn attack_with(
        &self,
        options: &[&str],
        name: &str,
        arguments: &[&str],
        run: impl FnOnce(&mut Command) -> Result<Outcome>,
    ) -> Result<Outcome> {
        self.program(name)?;
        let tree = Tree::of(self.directory.path())?;
        let outcome = run(&mut self.command(options, name, arguments)?)?;
        self.judge(&outcome).with_context(|| format!("{name} {}", arguments.join(" ")))?;
        let after = Tree::of(self.directory.path())?;
        let bound = options.iter().any(|option| option.starts_with("--bind"));
        ensure!(bound || after == tree, "it wrote to the host:\n{}", tree.difference(&after));
        Ok(outcome)
    }

    /// What holds after every attack.
    pub fn judge(&self, outcome: &Outcome) -> Result<()> {
        let shown = format!("{}{}", outcome.stdout, outcome.stderr);
        ensure!(!shown.contains("ESCAPED"), "{}", excerpt(&shown));
        ensure!(!shown.contains(SECRET), "the secret is known: {}", excerpt(&shown));
        for (path, before) in &self.before {
            ensure!(hash(path)? == *before, "{} was changed", path.display());
        }
        let now = look_at(self.outside.path())?;
        ensure!(now == self.untouched, "it was {:?}, and now is {now:?}", self.untouched);
        Ok(())
    }
}

/// Everything in a directory, with all that the host says of it but when it was read.
fn look_at(directory: &Path) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let what = std::fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
        if what.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                waiting.push(entry?.path());
            }
        }
        let (owner, times) = ((what.uid(), what.gid()), (what.mtime_nsec(), what.ctime(), what.ctime_nsec()));
        let (mode, links, size) = (what.mode(), what.nlink(), what.size());
        seen.push(format!("{} {mode:o} {owner:?} {links} {size} {times:?}", path.display()));
    }
    seen.sort();
    Ok(seen)
}

/// Enough of an output to see what happened.
pub fn excerpt(text: &str) -> String {
    text.chars().take(1500).collect()
}
