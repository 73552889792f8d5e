//! Which program is meant: `PATH` look-up as execvp(3) does it, and the environment it gets.

use crate::inherited;
use crate::view::View;
use boundary::process::Process;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why a program cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// There is none. Exit code 127.
    #[error(
        "{program}: not found{place}; name a program that exists, or grant its directory with --ro-bind DIR"
    )]
    NotFound {
        /// As named.
        program: String,
        /// Where it was looked for.
        place: String,
    },
    /// It is there but cannot be executed. Exit code 126.
    #[error("{program}: cannot be executed: {reason}")]
    NotExecutable {
        /// As named.
        program: String,
        /// Why.
        reason: String,
    },
}

impl ProgramError {
    /// The exit code that says it.
    pub fn exit_code(&self) -> u8 {
        match self {
            ProgramError::NotFound { .. } => 127,
            ProgramError::NotExecutable { .. } => 126,
        }
    }
}

/// The first process of a sandbox: it is the caller, with the caller's limits.
pub fn process(argv: &[OsString], program: &Path, workdir: &Path, env: Vec<Vec<u8>>) -> Process {
    let groups = nix::unistd::getgroups().unwrap_or_default();
    Process {
        argv: argv.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
        program: program.as_os_str().as_bytes().to_vec(),
        env,
        cwd: workdir.as_os_str().as_bytes().to_vec(),
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
        groups: groups.into_iter().map(|group| group.as_raw()).collect(),
        umask: 0o022,
        rlimits: resource_limits(),
        ignored_signals: inherited::ignored_signals(),
        ..Process::default()
    }
}

/// The limits of this process, by `RLIMIT_*` number: soft and hard.
pub fn resource_limits() -> Vec<(u64, u64)> {
    (0..16)
        .map(|resource| {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: fills the structure.
            match unsafe { libc::getrlimit(resource, &mut limit) } {
                0 => (limit.rlim_cur, limit.rlim_max),
                _ => (u64::MAX, u64::MAX),
            }
        })
        .collect()
}

/// Finds `name` as a shell would: as a path if it has a slash, otherwise in `path`. The result is absolute.
pub fn find(name: &OsStr, path: &OsStr, workdir: &Path) -> Result<PathBuf, ProgramError> {
    let shown = name.to_string_lossy().into_owned();
    let not_found = |place: String| ProgramError::NotFound { program: shown.clone(), place };
    if name.is_empty() {
        return Err(not_found(String::new()));
    }
    if name.as_bytes().contains(&b'/') {
        let candidate = workdir.join(name);
        return match check(&candidate) {
            Ok(()) => Ok(candidate),
            Err(None) => Err(not_found(String::new())),
            Err(Some(reason)) => Err(ProgramError::NotExecutable { program: shown, reason }),
        };
    }
    let mut refused = None;
    for directory in std::env::split_paths(path) {
        let candidate = workdir.join(&directory).join(name);
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(None) => {}
            Err(Some(reason)) => refused = refused.or(Some(reason)),
        }
    }
    match refused {
        Some(reason) => Err(ProgramError::NotExecutable { program: shown, reason }),
        None => Err(not_found(" in PATH".into())),
    }
}

/// Refuses a program that the sandbox would not show: what it was found as on the host must be there inside.
pub fn check_visible(name: &OsStr, found: &Path, view: &View) -> Result<(), ProgramError> {
    if view.on_host(found).is_some() {
        return Ok(());
    }
    let place = format!(": {} is not shown in the sandbox", found.display());
    Err(ProgramError::NotFound { program: name.to_string_lossy().into_owned(), place })
}

/// `Err(None)` if it does not exist.
fn check(path: &Path) -> Result<(), Option<String>> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(None),
        Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => return Err(None),
        Err(error) => return Err(Some(format!("{error}; check the permissions of its directories"))),
    };
    if metadata.is_dir() {
        return Err(Some("it is a directory; name a program in it".into()));
    }
    if !metadata.is_file() {
        return Err(Some("it is not a regular file".into()));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(Some("no execute permission; chmod +x it, or name its interpreter".into()));
    }
    if metadata.len() == 0 {
        return Err(Some("the file is empty".into()));
    }
    Ok(())
}

/// Variables that say nothing secret.
const HARMLESS: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "LANG",
    "LANGUAGE",
    "TZ",
    "PWD",
    "COLUMNS",
    "LINES",
    "EDITOR",
    "PAGER",
];

/// The program's environment: harmless names of ours (or all), then what `--env` says (`NAME=VALUE`, or `NAME` to pass on).
pub fn environment(keep_all: bool, wanted: &[OsString]) -> Vec<Vec<u8>> {
    let mut variables: Vec<(OsString, OsString)> = std::env::vars_os()
        .filter(|(name, _)| {
            let name = name.to_string_lossy();
            keep_all || HARMLESS.contains(&&*name) || name.starts_with("LC_")
        })
        .collect();
    for entry in wanted {
        let bytes = entry.as_bytes();
        let (name, value) = match bytes.iter().position(|&byte| byte == b'=') {
            Some(at) => {
                (OsStr::from_bytes(&bytes[..at]), Some(OsStr::from_bytes(&bytes[at + 1..]).to_owned()))
            }
            None => (entry.as_os_str(), std::env::var_os(entry)),
        };
        variables.retain(|(other, _)| other != name);
        if let Some(value) = value {
            variables.push((name.to_owned(), value));
        }
    }
    let join = |(name, value): (OsString, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
    variables.into_iter().map(join).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_slash_is_looked_for_in_path() {
        let found =
            find(OsStr::new("sh"), OsStr::new("/nowhere:/bin"), Path::new("/")).expect("there is a shell");
        assert_eq!(found, Path::new("/bin/sh"));
        let error = find(OsStr::new("no-such-program"), OsStr::new("/bin"), Path::new("/")).unwrap_err();
        assert_eq!(error.exit_code(), 127);
    }

    #[test]
    fn a_directory_and_a_file_without_permission_cannot_be_executed() {
        for path in ["/usr", "/etc/passwd"] {
            let error = find(OsStr::new(path), OsStr::new(""), Path::new("/")).unwrap_err();
            assert_eq!(error.exit_code(), 126, "{path}: {error}");
        }
    }

    #[test]
    fn the_environment_has_what_was_asked_for_and_no_secrets() {
        let variables = environment(false, &["A=1".into(), "A=2".into()]);
        assert_eq!(variables.iter().filter(|variable| variable.starts_with(b"A=")).count(), 1);
        assert!(variables.contains(&b"A=2".to_vec()));
        assert!(!variables.iter().any(|variable| variable.starts_with(b"CARGO")));
    }
}
