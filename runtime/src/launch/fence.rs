//! Landlock as a second fence (landlock(7)): even where the mount tree had a hole, the sandbox could only read, could change
//! only what was granted for that, could signal nothing outside, and could bind or connect nothing.

use super::{LaunchError, Layer};
use crate::view::View;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};

/// The newest rules that are asked for; an older host gets those it has, one without Landlock none.
const NEWEST: ABI = ABI::V6;

/// Fences this process and its children in. It has moved to the sandbox's host tree, and has `no_new_privs`.
pub fn raise(view: &View, allow_missing: &[Layer]) -> Result<(), LaunchError> {
    let status = restrict(view).map_err(|error| LaunchError::Missing {
        what: "landlock".into(),
        reason: error.to_string(),
        way_out: if is_out_of_descriptors(&*error) {
            "raise the limit on open files (`ulimit -n`)".into()
        } else {
            "report this with the output of `uname -a`".into()
        },
    })?;
    judge(status.ruleset, allow_missing)
}

/// A host with older rules gave those it has; one that gave none lacks the layer.
fn judge(status: RulesetStatus, allow_missing: &[Layer]) -> Result<(), LaunchError> {
    if status != RulesetStatus::NotEnforced || allow_missing.contains(&Layer::Landlock) {
        return Ok(());
    }
    Err(LaunchError::Missing {
        what: "landlock".into(),
        reason: "the host's kernel does not have it, or does not use it".into(),
        way_out: "use Linux 5.13 or newer with `landlock` in the boot parameter lsm=, or go on without by --allow-missing=landlock"
            .into(),
    })
}

fn is_out_of_descriptors(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        let cause = cause.downcast_ref::<std::io::Error>();
        cause.and_then(std::io::Error::raw_os_error) == Some(libc::EMFILE)
    })
}

fn restrict(view: &View) -> Result<RestrictionStatus, Box<dyn std::error::Error>> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new("/")?, AccessFs::from_read(NEWEST)))?;
    let writable = view.host_paths.iter().filter(|host_path| host_path.writable);
    // Trees of containers that join have their mounts to say who may write where: each lies below the pod's hub.
    for path in writable.map(|host_path| &host_path.path).chain(&view.pod) {
        // Device nodes cannot be opened (the mounts are nodev), and so need no ioctl.
        let access = AccessFs::from_all(NEWEST) & !AccessFs::IoctlDev;
        rules = rules.add_rule(PathBeneath::new(PathFd::new(path)?, access))?;
    }
    Ok(rules.restrict_self()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_landlock_is_refused_unless_that_is_allowed() {
        let refused = judge(RulesetStatus::NotEnforced, &[]).expect_err("refused").to_string();
        assert!(refused.contains("--allow-missing=landlock"), "{refused}");
        assert!(judge(RulesetStatus::NotEnforced, &[Layer::Landlock]).is_ok());
        assert!(judge(RulesetStatus::PartiallyEnforced, &[]).is_ok());
    }
}
