//! `sandbox-exec setup`: what an administrator allows once, so that ordinary users can start sandboxes. Ubuntu since 23.10 gives user
//! namespaces of programs without an AppArmor profile no capability (`kernel.apparmor_restrict_unprivileged_userns`); the profile
//! that is installed here allows them to this one program, and restricts it in nothing else.
//!
//! It says what it does, does nothing twice, and with `--dry-run` does nothing.

use anyhow::{Context, bail};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROFILE: &str = "etc/apparmor.d/sandbox-exec";
const RESTRICTED: &str = "proc/sys/kernel/apparmor_restrict_unprivileged_userns";
const FORBIDDEN: &str = "proc/sys/kernel/unprivileged_userns_clone";

const USAGE: &str = "\
Allow ordinary users of this machine to start sandboxes: installs an AppArmor profile where AppArmor restricts user namespaces.

Usage: sandbox-exec setup [--dry-run]

(To run a program of this name: sandbox-exec -- setup)";

/// The options behind `setup`, if that is what the command line asks for and not a program of this name.
pub fn asked(arguments: &[OsString]) -> Option<&[OsString]> {
    let (first, rest) = arguments.split_first()?;
    let ours = |option: &OsString| ["--dry-run", "--help", "-h"].iter().any(|known| option == known);
    (first == "setup" && rest.iter().all(ours)).then_some(rest)
}

/// Does it; what is to be said.
pub fn run(options: &[OsString]) -> anyhow::Result<String> {
    if options.iter().any(|option| option != "--dry-run") {
        return Ok(format!("{USAGE}\n"));
    }
    let program = std::env::current_exe().context("the path of this program")?;
    let plan = Plan::of(Path::new("/"), &program)?;
    if options.is_empty() {
        plan.carry_out()?;
    }
    Ok(plan.describe(!options.is_empty()))
}

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Nothing(String),
    Install { path: PathBuf, text: String },
}

impl Plan {
    fn of(root: &Path, program: &Path) -> anyhow::Result<Plan> {
        let setting =
            |file: &str| fs::read_to_string(root.join(file)).ok().map(|text| text.trim().to_owned());
        if setting(FORBIDDEN).as_deref() == Some("0") {
            bail!(
                "user namespaces are forbidden to ordinary users (kernel.unprivileged_userns_clone is 0); allow them with `sysctl \
                 kernel.unprivileged_userns_clone=1`, and below /etc/sysctl.d for good"
            );
        }
        match setting(RESTRICTED).as_deref() {
            None => {
                return Ok(Plan::Nothing(
                    "AppArmor does not know how to restrict user namespaces here".into(),
                ));
            }
            Some("0") => return Ok(Plan::Nothing("AppArmor does not restrict user namespaces here".into())),
            Some(_) => {}
        }
        let text = profile(program)?;
        let path = root.join(PROFILE);
        if fs::read_to_string(&path).is_ok_and(|installed| installed == text) {
            return Ok(Plan::Nothing(format!("{} is installed already", path.display())));
        }
        Ok(Plan::Install { path, text })
    }

    fn carry_out(&self) -> anyhow::Result<()> {
        let Plan::Install { path, text } = self else { return Ok(()) };
        let shown = path.display();
        fs::write(path, text).with_context(|| format!("{shown}: cannot be written; run this as root"))?;
        let loaded = Command::new("apparmor_parser").arg("--replace").arg(path).status();
        let loaded = loaded.context("apparmor_parser cannot be run; install the package apparmor")?;
        if !loaded.success() {
            // Left there, it would count as installed.
            let _ = fs::remove_file(path);
            bail!("apparmor_parser refused {shown} ({loaded}); it was taken away again");
        }
        Ok(())
    }

    fn describe(&self, dry_run: bool) -> String {
        match self {
            Plan::Nothing(why) => format!("nothing to do: {why}\n"),
            Plan::Install { path, text } => {
                let verb = if dry_run { "would install and load" } else { "installed and loaded" };
                format!("{verb} {}:\n\n{text}", path.display())
            }
        }
    }
}

/// The profile for the program at this path.
fn profile(program: &Path) -> anyhow::Result<String> {
    let path = program
        .to_str()
        .filter(|path| path.starts_with('/'))
        .context("the path of this program is no text")?;
    // What would be a pattern, or end the quotes.
    if path.contains(|c: char| c.is_control() || "\"*?[]{}\\^@".contains(c)) {
        bail!(
            "{path}: AppArmor would take this path for a pattern; install the program under a plain one, such as /usr/local/bin"
        );
    }
    Ok(format!(
        "# Allows sandbox-exec to make user namespaces. Installed by `sandbox-exec setup`.\n\
         abi <abi/4.0>,\n\
         include <tunables/global>\n\n\
         profile sandbox-exec \"{path}\" flags=(unconfined) {{\n  userns,\n  include if exists <local/sandbox-exec>\n}}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(restricted: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for directory in ["etc/apparmor.d", "proc/sys/kernel"] {
            fs::create_dir_all(root.path().join(directory)).expect("made");
        }
        fs::write(root.path().join(RESTRICTED), restricted).expect("written");
        root
    }

    #[test]
    fn a_restricted_host_gets_a_profile_once() {
        let root = host("1\n");
        let program = Path::new("/usr/local/bin/sandbox-exec");
        let Plan::Install { path, text } = Plan::of(root.path(), program).expect("a plan") else {
            panic!("nothing to do")
        };
        assert!(
            text.contains("profile sandbox-exec \"/usr/local/bin/sandbox-exec\" flags=(unconfined)"),
            "{text}"
        );
        fs::write(path, text).expect("installed");
        assert!(matches!(Plan::of(root.path(), program), Ok(Plan::Nothing(_))));
    }

    #[test]
    fn other_hosts_are_left_alone() {
        let plan = |root: &tempfile::TempDir| Plan::of(root.path(), Path::new("/usr/bin/sandbox-exec"));
        let root = host("0\n");
        assert!(matches!(plan(&root), Ok(Plan::Nothing(_))));
        fs::remove_file(root.path().join(RESTRICTED)).expect("removed");
        assert!(matches!(plan(&root), Ok(Plan::Nothing(_))));
        fs::write(root.path().join(FORBIDDEN), "0\n").expect("written");
        assert!(plan(&root).expect_err("forbidden").to_string().contains("sysctl"));
    }

    #[test]
    fn a_path_that_is_a_pattern_is_refused() {
        for path in ["/opt/{a,b}/sandbox-exec", "/opt/*/x", "/opt/\"/x", "relative"] {
            assert!(profile(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn setup_with_other_arguments_is_a_program() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert!(asked(&words("setup")).is_some() && asked(&words("setup --dry-run")).is_some());
        assert!(asked(&words("setup install")).is_none() && asked(&words("-- setup")).is_none());
    }
}
