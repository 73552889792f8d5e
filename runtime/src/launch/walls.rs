//! What stands between a sandbox and the host beside the filter: namespaces, or, where the host refuses them and the caller goes on
//! without (`--allow-missing=userns`), Landlock's rules alone.

use super::{LaunchError, Layer, namespaces};

/// The rules that are needed where there is nothing else: files, and since this version signals and abstract sockets (Linux 6.12).
const LANDLOCK_NEEDED: i64 = 6;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Walls {
    /// Namespaces, and a tree of what was granted. Landlock is a second fence.
    #[default]
    Namespaces,
    /// The host's own tree and process numbers, fenced in by Landlock.
    Landlock,
}

impl Walls {
    /// What this host gives this caller. Asks the host only where the caller would go on without namespaces.
    pub fn choose(allow_missing: &[Layer]) -> Result<Walls, LaunchError> {
        if !allow_missing.contains(&Layer::Userns) {
            return Ok(Walls::Namespaces);
        }
        let Some(refused) = namespaces::refusal(allow_missing)? else { return Ok(Walls::Namespaces) };
        // What root may do with the files of others Landlock has no rules for, and the supervisor would do it for the sandbox.
        if is_privileged() {
            let LaunchError::Missing { what, reason, way_out } = refused else { return Err(refused) };
            let way_out =
                format!("{way_out}, or start it as an ordinary user, for whom --allow-missing=userns is");
            return Err(LaunchError::Missing { what, reason, way_out });
        }
        judge(landlock_version())?;
        Ok(Walls::Landlock)
    }
}

fn is_privileged() -> bool {
    let capabilities = caps::read(None, caps::CapSet::Effective);
    nix::unistd::geteuid().is_root() || !capabilities.is_ok_and(|capabilities| capabilities.is_empty())
}

/// landlock_create_ruleset(2) with `LANDLOCK_CREATE_RULESET_VERSION`; 0 for none.
fn landlock_version() -> i64 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: asks for the version only; no structure is read.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, VERSION) }.max(0)
}

fn judge(version: i64) -> Result<(), LaunchError> {
    if version >= LANDLOCK_NEEDED {
        return Ok(());
    }
    let has = if version == 0 { "none".into() } else { format!("version {version}") };
    Err(LaunchError::Missing {
        what: "landlock".into(),
        reason: format!("without user namespaces version {LANDLOCK_NEEDED} of it is needed, and the host has {has}"),
        way_out: "use Linux 6.12 or newer with `landlock` in the boot parameter lsm=, or a host that allows user namespaces".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_older_rules_is_refused_by_name() {
        for (version, named) in [(0, "none"), (5, "version 5")] {
            let refused = judge(version).expect_err("refused").to_string();
            assert!(refused.starts_with("landlock: ") && refused.contains(named), "{refused}");
        }
        assert!(judge(6).is_ok() && judge(7).is_ok());
    }

    #[test]
    fn namespaces_are_taken_where_nobody_goes_on_without() {
        assert_eq!(Walls::choose(&[Layer::Landlock]).ok(), Some(Walls::Namespaces));
    }
}
