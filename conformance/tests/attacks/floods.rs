//! Floods: limits hold, and the host goes on.

use crate::stage::{Stage, User, by_root, excerpt};
use anyhow::{Context, Result, ensure};
use conformance::{AT_ONCE, Outcome};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LIMITS: &[&str] = &["--memory=64M", "--pids=200"];

/// How many of it there were.
fn count(outcome: &Outcome, what: &str) -> Result<u64> {
    let line = outcome.stdout.lines().find(|line| line.contains(what));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("{what}: {}{}", excerpt(&outcome.stdout), excerpt(&outcome.stderr)))
}

pub fn counted(stage: &Stage) -> Result<()> {
    let limits = [
        ("processes", "processes", 200),
        ("memory", "MiB", 64),
        ("disk", "MiB", 64),
        ("inodes", "inodes", 100_000),
    ];
    for (way, what, most) in limits {
        let count = count(&stage.attack(LIMITS, "floods", &[way])?, what).context(way)?;
        ensure!((1..=most).contains(&count), "{way}: {count} {what}");
    }
    for way in ["pipes", "log"] {
        let outcome = stage.attack(LIMITS, "floods", &[way])?;
        ensure!(outcome.stdout.contains("held"), "{way}: {}", excerpt(&outcome.stderr));
    }
    Ok(())
}

pub fn raw(stage: &Stage) -> Result<()> {
    // Twice what the program may have, and a few: a program that is executed has two for a moment.
    let processes = count(&stage.attack(LIMITS, "floods", &["raw_processes"])?, "processes")?;
    ensure!((1..=464).contains(&processes), "{processes} host processes");
    // Where no cgroup can be made, the host does not count (docs/security.md).
    if stage.user == User::Caller && cgroups_can_be_made() {
        let outcome = stage.attack(LIMITS, "floods", &["raw_memory"])?;
        ensure!(!outcome.stdout.contains("512 MiB"), "memory: {}", excerpt(&outcome.stdout));
        ensure!(outcome.status == 125, "memory: {}", excerpt(&outcome.stderr));
    }
    let descriptors = count(&stage.attack(LIMITS, "floods", &["raw_descriptors"])?, "descriptors")?;
    ensure!(descriptors < 1_100_000, "{descriptors} host descriptors");
    Ok(())
}

/// As root, with the controller in place.
fn cgroups_can_be_made() -> bool {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = own.lines().find_map(|line| line.split_once(":memory:"));
    let version_1 = group.is_some_and(|(_, path)| {
        Path::new("/sys/fs/cgroup/memory").join(path.trim_start_matches('/')).exists()
    });
    let version_2 = std::fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").unwrap_or_default();
    by_root() && (version_1 || own.trim() == "0::/" && version_2.contains("memory"))
}

pub fn output(stage: &Stage) -> Result<()> {
    let mut child = stage.command(&[], "floods", &["output"])?.stdout(Stdio::piped()).spawn()?;
    // Nobody reads: it fills the pipe and waits, and still ends at once.
    std::thread::sleep(Duration::from_millis(500));
    let since = Instant::now();
    Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
    while child.try_wait()?.is_none() {
        ensure!(since.elapsed() < AT_ONCE, "it goes on");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
