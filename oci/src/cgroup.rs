//! The control group of a container, through libcgroups: version 1, 2 and both at once, made directly or by systemd.

use crate::command::Global;
use crate::usage;
use anyhow::Context;
use libcgroups::common::{
    AnyCgroupManager, CgroupConfig, CgroupManager, CgroupSetup, ControllerOpt, FreezerState,
    create_cgroup_manager, get_cgroup_setup,
};
use libcgroups::stats::Stats;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxPidsBuilder, LinuxResources, Spec};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a group may take to become empty.
const PATIENCE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(2);

/// Which group.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Group {
    path: PathBuf,
    systemd: bool,
    name: String,
    /// There is none, because its user may make none.
    absent: bool,
}

impl Group {
    /// The group of a new container.
    pub fn new(spec: &Spec, id: &str, global: &Global) -> Group {
        let asked = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
        let otherwise = || match global.systemd_cgroup {
            true => format!(":trapbox:{id}").into(),
            false => format!("/trapbox-{id}").into(),
        };
        let path = asked.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(otherwise);
        Group { path, systemd: global.systemd_cgroup, name: id.into(), absent: false }
    }

    fn manager(&self) -> anyhow::Result<AnyCgroupManager> {
        create_cgroup_manager(CgroupConfig {
            cgroup_path: self.path.clone(),
            systemd_cgroup: self.systemd,
            container_name: self.name.clone(),
        })
        .context("control groups")
    }

    /// Makes the group with `pid` in it, and sets the limits. An ordinary user who may make none and asks for no limit goes
    /// without.
    pub fn make(
        &mut self,
        pid: Pid,
        resources: Option<&LinuxResources>,
        rootless: bool,
    ) -> anyhow::Result<()> {
        let none = LinuxResources::default();
        let resources = resources.unwrap_or(&none);
        let made = self.manager().and_then(|manager| {
            manager
                .add_task(nix_of_libcgroups::unistd::Pid::from_raw(pid.as_raw()))
                .context("making the control group")?;
            apply(&manager, resources)
        });
        match made {
            Err(_) if rootless && !limits(resources) => {
                self.absent = true;
                Ok(())
            }
            other => other,
        }
    }

    /// Sets other limits.
    pub fn update(&self, resources: &LinuxResources) -> anyhow::Result<()> {
        apply(&self.present()?, resources)
    }

    fn present(&self) -> anyhow::Result<AnyCgroupManager> {
        anyhow::ensure!(!self.absent, "the container has no control group: its user may make none");
        self.manager()
    }

    /// Stops all processes, or lets them go on.
    pub fn freeze(&self, frozen: bool) -> anyhow::Result<()> {
        let state = if frozen { FreezerState::Frozen } else { FreezerState::Thawed };
        self.present()?.freeze(state).context("the freezer")
    }

    /// What is used by the group, in which this process is.
    pub fn stats(&self, pid: i32) -> anyhow::Result<Stats> {
        let manager = self.present()?;
        let stats = match get_cgroup_setup().context("control groups")? {
            CgroupSetup::Unified => {
                let directory = directory_of(pid, "memory").context("container not running")?;
                usage::of_version_2(&directory)
            }
            CgroupSetup::Hybrid | CgroupSetup::Legacy => manager.stats().map_err(Into::into),
        };
        stats.context("reading the control group")
    }

    /// The host processes in it.
    pub fn processes(&self) -> anyhow::Result<Vec<i32>> {
        let mut pids: Vec<i32> = self
            .present()?
            .get_all_pids()
            .context("reading the control group")?
            .iter()
            .map(|pid| pid.as_raw())
            .collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// Ends what is still in it, and removes it.
    pub fn remove(&self) -> anyhow::Result<()> {
        if self.absent || self.path.as_os_str().is_empty() {
            return Ok(());
        }
        let manager = self.manager()?;
        let _ = manager.freeze(FreezerState::Thawed);
        let end = Instant::now() + PATIENCE;
        while let Ok(pids) = manager.get_all_pids()
            && !pids.is_empty()
            && Instant::now() < end
        {
            for pid in pids {
                let _ = kill(Pid::from_raw(pid.as_raw()), Signal::SIGKILL);
            }
            std::thread::sleep(TICK);
        }
        manager.remove().context("removing the control group")
    }
}

/// What of the limits the host is to hold. A sandbox needs more host processes than it shows: the monitor and the warden, the watcher
/// of a terminal, one in reserve, and a second one for a moment where a program is executed. The exact number is kept inside.
fn for_host(resources: &LinuxResources) -> LinuxResources {
    let mut resources = resources.clone();
    if let Some(limit) = resources.pids().as_ref().map(|pids| pids.limit()).filter(|&limit| limit > 0) {
        let limit = limit.saturating_mul(2).saturating_add(64);
        resources.set_pids(LinuxPidsBuilder::default().limit(limit).build().ok());
    }
    // No process of a sandbox can open a device: its mounts are nodev, and its filter refuses to make one.
    resources.set_devices(None);
    resources
}

fn apply(manager: &AnyCgroupManager, resources: &LinuxResources) -> anyhow::Result<()> {
    let options = ControllerOpt {
        resources: &for_host(resources),
        disable_oom_killer: resources
            .memory()
            .as_ref()
            .and_then(|memory| memory.disable_oom_killer())
            .unwrap_or(false),
        oom_score_adj: None,
        freezer_state: None,
    };
    manager.apply(&options).context("setting the limits of the control group")
}

/// Whether any limit is asked for.
fn limits(resources: &LinuxResources) -> bool {
    let bounded = |limit: Option<i64>| limit.is_some_and(|limit| limit > 0);
    bounded(resources.memory().as_ref().and_then(|memory| memory.limit()))
        || bounded(resources.pids().as_ref().map(|pids| pids.limit()))
        || bounded(resources.cpu().as_ref().and_then(|cpu| cpu.quota()))
}

/// The directory of the group that a process is in: with `controller`, or of version 2.
pub fn directory_of(pid: i32, controller: &str) -> Option<PathBuf> {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    place(Path::new("/sys/fs/cgroup"), &own, controller)
}

fn place(root: &Path, own: &str, controller: &str) -> Option<PathBuf> {
    let mut second = None;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        if controllers.split(',').any(|one| one == controller) {
            // Controllers that share a tree have a directory each, at least as a link.
            return Some(root.join(controller).join(path));
        }
        if controllers.is_empty() {
            second = Some(root.join(path));
        }
    }
    second
}

/// Puts this process into the groups that another is in. One that has gone meanwhile is not made again.
pub fn join_those_of(pid: i32) -> anyhow::Result<()> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).context("container not running")?;
    let own = std::process::id().to_string();
    for line in groups.lines() {
        let Some((controllers, path)) = line.split_once(':').and_then(|(_, rest)| rest.split_once(':'))
        else {
            continue;
        };
        let controller = controllers.split(',').next().unwrap_or_default();
        let controller = controller.strip_prefix("name=").unwrap_or(controller);
        let tree = Path::new("/sys/fs/cgroup").join(controller);
        let group = tree.join(path.trim_start_matches('/'));
        // The tree of version 2 beside others has no controllers, and lies elsewhere.
        if group.is_dir() && path != "/" {
            fs::write(group.join("cgroup.procs"), &own)
                .with_context(|| format!("joining {}", group.display()))?;
        }
    }
    Ok(())
}

/// Whether a process is in a group that is stopped, or being stopped.
pub fn is_frozen(pid: i32) -> bool {
    let Some(directory) = directory_of(pid, "freezer") else { return false };
    match fs::read_to_string(directory.join("freezer.state")) {
        Ok(state) => state.trim() != "THAWED",
        Err(_) => fs::read_to_string(directory.join("cgroup.freeze")).is_ok_and(|state| state.trim() == "1"),
    }
}

/// How often the host has ended a process of the group for want of memory.
pub fn out_of_memory(pid: i32) -> Option<u64> {
    let directory = directory_of(pid, "memory")?;
    let text = fs::read_to_string(directory.join("memory.oom_control"))
        .or_else(|_| fs::read_to_string(directory.join("memory.events")))
        .ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_has_its_own_tree_or_is_in_that_of_version_2() {
        let root = Path::new("/r");
        let hybrid = "5:cpu,cpuacct:/x\n4:memory:/a:b\n1:name=systemd:/\n0::/\n";
        assert_eq!(place(root, hybrid, "memory"), Some("/r/memory/a:b".into()));
        assert_eq!(place(root, hybrid, "cpuacct"), Some("/r/cpuacct/x".into()));
        assert_eq!(place(root, "0::/x/y\n", "memory"), Some("/r/x/y".into()));
    }

    #[test]
    fn the_host_leaves_room_for_what_is_not_shown() {
        let mut resources = LinuxResources::default();
        resources.set_pids(LinuxPidsBuilder::default().limit(10).build().ok());
        assert_eq!(for_host(&resources).pids().as_ref().map(|pids| pids.limit()), Some(84));
        assert!(limits(&resources) && !limits(&LinuxResources::default()));
    }
}
