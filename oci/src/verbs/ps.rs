//! `ps`: the host processes of a container.

use super::print;
use crate::command::{Global, ListFormat, Ps};
use crate::state::Container;
use anyhow::Context;
use std::process::Command;

/// Runs the verb.
pub fn ps(global: &Global, options: &Ps) -> anyhow::Result<u8> {
    let container = Container::load(global, &options.id)?;
    let pids = container.record.group.processes()?;
    if options.format == ListFormat::Json {
        print(&format!("{}\n", serde_json::to_string(&pids)?))?;
        return Ok(0);
    }
    let default = ["-ef".to_owned()];
    let arguments = if options.options.is_empty() { &default[..] } else { &options.options };
    let output = Command::new("ps").args(arguments).output().context("ps")?;
    anyhow::ensure!(output.status.success(), "ps: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    print(&only(&String::from_utf8_lossy(&output.stdout), &pids)?)?;
    Ok(0)
}

/// The lines about these processes, with the title.
fn only(table: &str, pids: &[i32]) -> anyhow::Result<String> {
    let title = table.lines().next().unwrap_or_default();
    let column = title
        .split_whitespace()
        .position(|name| name == "PID")
        .context("couldn't find PID field in ps output")?;
    let is_ours = |line: &&str| {
        line.split_whitespace()
            .nth(column)
            .and_then(|pid| pid.parse().ok())
            .is_some_and(|pid| pids.contains(&pid))
    };
    let lines = std::iter::once(title).chain(table.lines().skip(1).filter(is_ours));
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_processes_are_shown() {
        let table = "UID PID CMD\nroot 1 init\nroot 12 sh 1\n";
        assert_eq!(only(table, &[12]).expect("a table"), "UID PID CMD\nroot 12 sh 1\n");
        assert!(only("CMD\n", &[1]).is_err());
    }
}
