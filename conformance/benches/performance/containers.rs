//! Containers, with runc and with our runtime in turns: by Docker (daemons of our own, as in the tests), and by the runtimes' own verbs.

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
use conformance::trapbox;
use daemon::{Daemons, IMAGE};
use std::path::Path;
use std::time::{Duration, Instant};

const RUNTIMES: [&str; 2] = ["runc", "trapbox"];
const AT_ONCE: usize = 50;

/// Medians of what `once` gives for each runtime, in turns.
fn in_turns(name: &str, runs: usize, mut once: impl FnMut(&str) -> Result<f64>) -> Result<Row> {
    eprintln!("  {name}");
    let mut values = vec![Vec::new(); RUNTIMES.len()];
    for run in 0..=if quick() { 1 } else { runs } {
        for (runtime, values) in RUNTIMES.iter().zip(&mut values) {
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

fn milliseconds(what: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    what()?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

fn by_docker(daemons: &Daemons, rows: &mut Vec<Row>) -> Result<()> {
    rows.push(in_turns("`docker run --rm … true`, ms", 11, |runtime| {
        milliseconds(|| {
            let outcome =
                daemons.docker(&["run", "--rm", "--runtime", runtime, "--network=none", IMAGE, "true"]);
            ensure!(outcome.status == 0, "docker run: {}", outcome.stderr);
            Ok(())
        })
    })?);
    rows.push(in_turns("50 × `docker run -d`, all at once, ms", 3, |runtime| {
        let start = ["run", "-d", "--runtime", runtime, "--network=none", IMAGE, "sleep", "1000"];
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
    rows.push(in_turns("an idle container, proportional memory, KiB", 3, |runtime| {
        let start = ["run", "-d", "--runtime", runtime, "--network=none", IMAGE, "sleep", "1000"];
        let id = daemons.ok(&start).trim().to_owned();
        std::thread::sleep(Duration::from_secs(1));
        let pid = daemons.ok(&["inspect", "--format", "{{.State.Pid}}", &id]);
        let memory = family(pid.trim().parse().context("a pid")?).into_iter().map(proportional).sum::<u64>();
        daemons.ok(&["rm", "--force", &id]);
        Ok(memory as f64)
    })?);
    Ok(())
}

/// Medians with runc, which the ratios are to, and with ours.
pub fn measure(_ways: &[Way]) -> Result<Table> {
    let mut rows = Vec::new();
    // Without Docker, or as an ordinary user, there is nothing to compare.
    if let Some(daemons) = Daemons::start() {
        rows.push(in_turns("`run` by the runtime itself, ms", 21, |runtime| {
            let bundle = Bundle::new("exit 0");
            let program = if runtime == "runc" { Path::new("runc").to_owned() } else { trapbox() };
            milliseconds(|| {
                let outcome = bundle.run_with(&program);
                ensure!(outcome.status == 0, "{runtime} run: {}", outcome.stderr);
                Ok(())
            })
        })?);
        by_docker(&daemons, &mut rows)?;
    }
    Ok(Table { columns: RUNTIMES.map(String::from).to_vec(), ..Table::new("Containers", "", rows) })
}
