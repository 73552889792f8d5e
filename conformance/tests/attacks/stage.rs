//! Where an attack happens: a directory that the sandbox is shown, a secret that it is not shown, and a look at both afterwards.

use anyhow::{Context, Result, bail, ensure};
use conformance::{Outcome, Tree, compile, run, sandbox_exec, scratch};
use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

/// Stands in the file that no attack may read, and in the supervisor's environment.
pub const SECRET: &str = "SECRET-4b1f0c2e";

/// Who starts the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Who runs the suite.
    Caller,
    /// An ordinary user, where root runs the suite.
    Ordinary,
}

impl User {
    pub fn all() -> &'static [User] {
        if by_root() { &[User::Caller, User::Ordinary] } else { &[User::Caller] }
    }
}

pub fn by_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            User::Caller if by_root() => "root",
            User::Caller => "caller",
            User::Ordinary => "user",
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
        if user == User::Ordinary {
            std::os::unix::fs::chown(directory.path(), Some(1), Some(1))?;
        }
        let mut watched: Vec<PathBuf> = OF_THE_HOST.iter().map(PathBuf::from).collect();
        watched.retain(|path| path.exists());
        watched.extend([secret, tools()?.join("sandbox-exec")]);
        let before =
            watched.into_iter().map(|path| Ok((path.clone(), hash(&path)?))).collect::<Result<_>>()?;
        Ok(Stage { user, directory, outside, before })
    }

    /// The file that no attack may read.
    pub fn secret(&self) -> String {
        self.outside.path().join("secret").to_string_lossy().into_owned()
    }

    /// sandbox-exec with options, as this stage's user.
    pub fn sandbox(&self, options: &[&str]) -> Result<Command> {
        let executable = tools()?.join("sandbox-exec");
        let mut command = match self.user {
            User::Caller => Command::new(executable),
            User::Ordinary => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=1", "--regid=1", "--clear-groups", "--inh-caps=-all", "env"]);
                command.args(["HOME=/nonexistent", "USER=daemon", "LOGNAME=daemon"]).arg(executable);
                command
            }
        };
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
        Ok(())
    }
}

/// Enough of an output to see what happened.
pub fn excerpt(text: &str) -> String {
    text.chars().take(1500).collect()
}
