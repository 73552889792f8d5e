//! From the start of a command to its end, for commands that do next to nothing.

use crate::{Row, Table, Way, median, quick};
use anyhow::{Result, ensure};
use conformance::scratch;
use std::process::Stdio;
use std::time::Instant;

const RUNS: usize = 41;

const COMMANDS: &[(&str, &[&str])] = &[
    ("`/bin/true`", &["/bin/true"]),
    ("`sh -c :`", &["/bin/sh", "-c", ":"]),
    ("`python3 -c pass`", &["/usr/bin/python3", "-c", "pass"]),
    ("`node -e 0`", &["node", "-e", "0"]),
];

/// Milliseconds, in turns.
pub fn measure(ways: &[Way]) -> Result<Table> {
    let directory = scratch()?;
    let mut rows = Vec::new();
    for (name, argv) in COMMANDS {
        let mut times = vec![Vec::new(); ways.len()];
        let runs = match argv[0] {
            _ if quick() => 1,
            "node" => RUNS / 4,
            _ => RUNS,
        };
        for run in 0..=runs {
            for (way, times) in ways.iter().zip(&mut times) {
                let started = Instant::now();
                let status = way.command(argv, directory.path())?.stdout(Stdio::null()).status()?;
                ensure!(status.success(), "{} does not run {name}", way.name);
                // The first round warms up.
                if run > 0 {
                    times.push(started.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
        rows.push(Row { name: (*name).into(), values: times.into_iter().map(median).collect(), aim: None });
    }
    Ok(Table::new("Start to end", "ms", rows))
}
