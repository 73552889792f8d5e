//! Memory of an idle sandbox, and of many at once.

use crate::{Row, Table, Way, quick};
use anyhow::Result;
use conformance::scratch;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Idle sandboxes at once.
fn many() -> usize {
    if quick() { 10 } else { 200 }
}

/// Processes that run and are ended when the value goes.
struct Running<'a>(Vec<Child>, &'a Way);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Our own child, by its number; the sandbox ends with it.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.1.clear();
    }
}

fn idle<'a>(way: &'a Way, count: usize, directory: &Path) -> Result<Running<'a>> {
    let mut running = Running(Vec::new(), way);
    for _ in 0..count {
        running.0.push(way.command(&["sleep", "60"], directory)?.stdout(Stdio::null()).spawn()?);
    }
    std::thread::sleep(Duration::from_millis(700 + 10 * count as u64));
    Ok(running)
}

/// A process and all below it.
pub fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        all.extend(family(child));
    }
    all
}

fn field(path: String, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

fn sum(running: &Running<'_>, of: impl Fn(u32) -> u64) -> f64 {
    running.0.iter().flat_map(|child| family(child.id())).map(of).sum::<u64>() as f64
}

/// Proportional set size of a process, in KiB.
pub fn proportional(pid: u32) -> u64 {
    field(format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn peak(pid: u32) -> u64 {
    field(format!("/proc/{pid}/status"), "VmHWM:")
}

/// KiB, seen from outside: `sleep` and all processes around it.
pub fn measure(ways: &[Way]) -> Result<Table> {
    let directory = scratch()?;
    let mut rows = vec![
        Row { name: "proportional memory of one `sleep`".into(), values: vec![], aim: None },
        Row { name: "sum of the peak resident sets of the same".into(), values: vec![], aim: None },
        Row { name: format!("proportional memory of each of {} at once", many()), values: vec![], aim: None },
    ];
    for way in ways {
        let one = idle(way, 1, directory.path())?;
        rows[0].values.push(sum(&one, proportional));
        rows[1].values.push(sum(&one, peak));
        drop(one);
        let all = idle(way, many(), directory.path())?;
        rows[2].values.push(sum(&all, proportional) / many() as f64);
    }
    Ok(Table::new("Memory of an idle sandbox", "KiB", rows))
}
