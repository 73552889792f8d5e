//! Containers, with runc, with our runtime and, where it runs, gVisor's in turns: by Docker (daemons of our own, as in the tests), and by the runtimes' own verbs.

#[path = "../../tests/oci/bundle.rs"]
#[allow(dead_code)]
mod bundle;
#[path = "../../tests/docker/daemon.rs"]
#[allow(dead_code)]
mod daemon;

use crate::memory::{family, proportional};
use crate::{Row, Table, Way, median, quick};
use anyhow::{Context, Result, ensure};
use bundle::Bundle;
use conformance::{scratch, trapbox};
use daemon::{Daemons, IMAGE};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const AT_ONCE: usize = 50;

/// What makes containers.
struct Runtime {
    /// As the column is headed.
    head: String,
    /// As Docker knows it.
    name: &'static str,
    program: PathBuf,
}

/// runc, ours, and gVisor's as it runs here: a script in `place` gives it what the way to run commands in it has as options.
fn runtimes(ways: &[Way], place: &Path) -> Result<Vec<Runtime>> {
    let plain = |name: &'static str, program| Runtime { head: name.into(), name, program };
    let mut all = vec![plain("runc", "runc".into()), plain("trapbox", trapbox())];
    if let Some((way, options)) = ways.iter().find_map(|way| Some((way, way.options_of("runsc")?))) {
        let program = place.join("runsc");
        std::fs::write(&program, format!("#!/bin/sh\nexec runsc {} \"$@\"\n", options.join(" ")))?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
        all.push(Runtime { head: way.name.clone(), name: "runsc", program });
    }
    Ok(all)
}

/// Tells the daemon of the runtimes that it does not know.
fn make_known(daemons: &Daemons, runtimes: &[Runtime]) -> Result<()> {
    let file = daemons.path("daemon.json");
    let mut configuration: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    for runtime in runtimes.iter().filter(|runtime| runtime.name != "runc") {
        configuration["runtimes"][runtime.name] = json!({ "path": runtime.program });
    }
    std::fs::write(&file, configuration.to_string())?;
    let daemon = std::fs::read_to_string(daemons.path("dockerd.pid"))?;
    ensure!(Command::new("kill").args(["-HUP", daemon.trim()]).status()?.success(), "dockerd is gone");
    let known = || {
        let known = daemons.ok(&["info", "--format", "{{range $name, $_ := .Runtimes}}{{$name}}\n{{end}}"]);
        runtimes.iter().all(|runtime| known.lines().any(|name| name == runtime.name))
    };
    ensure!(daemon::wait_for(known), "dockerd does not read its configuration");
    Ok(())
}

/// Medians of what `once` gives for each runtime, in turns.
fn in_turns(
    runtimes: &[Runtime],
    name: &str,
    runs: usize,
    mut once: impl FnMut(&Runtime) -> Result<f64>,
) -> Result<Row> {
    eprintln!("  {name}");
    let mut values = vec![Vec::new(); runtimes.len()];
    for run in 0..=if quick() { 1 } else { runs } {
        for (runtime, values) in runtimes.iter().zip(&mut values) {
            let value = once(runtime)?;
            // The first round warms up.
            if run > 0 {
                values.push(value);
            }
        }
    }
    let aim = name.ends_with("ms").then_some(1.0);
    Ok(Row { name: name.into(), values: values.into_iter().map(median).collect(), aim })
}

/// The parent of a process.
fn parent(pid: &str) -> Result<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).context("no parent")?;
    parent.trim().parse().context("a pid")
}

fn milliseconds(what: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    what()?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

fn by_docker(runtimes: &[Runtime], daemons: &Daemons, rows: &mut Vec<Row>) -> Result<()> {
    rows.push(in_turns(runtimes, "`docker run --rm … true`, ms", 11, |runtime| {
        milliseconds(|| {
            let outcome =
                daemons.docker(&["run", "--rm", "--runtime", runtime.name, "--network=none", IMAGE, "true"]);
            ensure!(outcome.status == 0, "docker run: {}", outcome.stderr);
            Ok(())
        })
    })?);
    rows.push(in_turns(runtimes, "50 × `docker run -d`, all at once, ms", 3, |runtime| {
        let start = ["run", "-d", "--runtime", runtime.name, "--network=none", IMAGE, "sleep", "1000"];
        let time = milliseconds(|| {
            let started: Vec<_> = (0..AT_ONCE)
                .map(|_| daemons.command(&start).stdout(std::process::Stdio::null()).spawn())
                .collect::<std::io::Result<_>>()?;
            for mut child in started {
                ensure!(child.wait()?.success(), "docker run fails");
            }
            Ok(())
        })?;
        let all = daemons.ok(&["ps", "-q"]);
        ensure!(all.lines().count() == AT_ONCE, "not all run");
        let all: Vec<&str> = all.lines().collect();
        daemons.ok(&[&["rm", "--force"], &all[..]].concat());
        Ok(time)
    })?);
    rows.push(in_turns(runtimes, "an idle container, proportional memory, KiB", 3, |runtime| {
        let start = ["run", "-d", "--runtime", runtime.name, "--network=none", IMAGE, "sleep", "1000"];
        let id = daemons.ok(&start).trim().to_owned();
        std::thread::sleep(Duration::from_secs(1));
        let pid = daemons.ok(&["inspect", "--format", "{{.State.Pid}}", &id]);
        // All that is below the shim, and not the shim: gVisor's file server is no child of the process that is named.
        let shim = parent(pid.trim())?;
        let memory = family(shim).into_iter().skip(1).map(proportional).sum::<u64>();
        daemons.ok(&["rm", "--force", &id]);
        Ok(memory as f64)
    })?);
    Ok(())
}

/// Medians with runc, which the ratios are to, with ours and gVisor's.
pub fn measure(ways: &[Way]) -> Result<Table> {
    let place = scratch()?;
    let runtimes = runtimes(ways, place.path())?;
    let mut rows = Vec::new();
    // Without Docker, or as an ordinary user, there is nothing to compare.
    if let Some(daemons) = Daemons::start() {
        make_known(&daemons, &runtimes)?;
        rows.push(in_turns(&runtimes, "`run` by the runtime itself, ms", 21, |runtime| {
            let bundle = Bundle::new("exit 0");
            milliseconds(|| {
                let outcome = bundle.run_with(&runtime.program);
                ensure!(outcome.status == 0, "{} run: {}", runtime.name, outcome.stderr);
                Ok(())
            })
        })?);
        by_docker(&runtimes, &daemons, &mut rows)?;
    }
    let columns = runtimes.into_iter().map(|runtime| runtime.head).collect();
    Ok(Table { columns, ..Table::new("Containers", "", rows) })
}
