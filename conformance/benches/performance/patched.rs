//! How many calls come in through rewritten call sites, once a sandbox has warmed up.

use crate::work::Work;
use crate::{Row, Table, Way, quick};
use anyhow::{Context, Result, ensure};
use conformance::{sandbox_exec, scratch};
use std::path::Path;
use std::process::Command;

const PROGRAMS: &[Work] = &[
    Work::timed("Python start-up", "", "/usr/bin/python3 -c 'import json'"),
    Work::timed(
        "a gcc build",
        "for i in $(seq 4); do echo '#include <stdio.h>' > m$i.c; echo \"int f$i(void) { return printf(\\\"%d\\\", $i); }\" >> m$i.c; done; \
         printf 'OBJECTS = $(patsubst %%.c,%%.o,$(wildcard m*.c))\\nall: $(OBJECTS)\\n' > Makefile",
        "rm -f *.o; make -s CFLAGS=-O1",
    )
    .needs(&["gcc", "make"]),
    Work::timed(
        "git",
        "mkdir r; cd r; git init -q .; for d in $(seq 20); do mkdir d$d; for f in $(seq 20); do echo $d $f > d$d/f$f; done; done",
        "rm -rf c; cp -r r c; cd c; export HOME=$PWD; git add . && git -c user.name=a -c user.email=a@b commit -q -m all && git status --short && git log --stat",
    )
    .needs(&["git"]),
    Work::timed(
        "SQLite",
        "{ echo 'create table t(a integer primary key, b text);'; for i in $(seq 500); do echo \"insert into t(b) values('row $i');\"; done; } > s.sql",
        "rm -f x.db; sqlite3 x.db < s.sql",
    )
    .needs(&["sqlite3"]),
];

/// Calls in all and those that came in through rewritten sites, of a sandbox that does the work so often.
fn counted(work: &Work, times: usize, directory: &Path) -> Result<(f64, f64)> {
    let stats = directory.join("stats");
    let script =
        format!("export HOME=$PWD; for i in $(seq {times}); do ( {}\n) >/dev/null 2>&1; done", work.command);
    let status = Command::new(sandbox_exec())
        .arg(format!("--stats={}", stats.display()))
        .args(["--", "bash", "-c", &script])
        .current_dir(directory)
        .status()?;
    ensure!(status.success(), "{} does not run: {status}", work.name);
    let text = std::fs::read_to_string(&stats).context("the table of --stats")?;
    let total =
        text.lines().find(|line| line.ends_with(" total")).context("no total in the table of --stats")?;
    let mut numbers =
        total.split_whitespace().skip(3).map(|number| number.parse::<f64>().unwrap_or(f64::NAN));
    Ok((numbers.next().unwrap_or(f64::NAN), numbers.next().unwrap_or(f64::NAN)))
}

/// Percent: what more work adds, so that the warm-up does not count.
pub fn measure(_ways: &[Way]) -> Result<Table> {
    let (few, many) = if quick() { (12, 18) } else { (20, 40) };
    let mut rows = Vec::new();
    for work in PROGRAMS {
        let directory = scratch()?;
        if let Some(reason) = work.prepare(directory.path())? {
            eprintln!("left out: {}: {reason}", work.name);
            continue;
        }
        let (calls, patched) = counted(work, few, directory.path())?;
        let (more_calls, more_patched) = counted(work, many, directory.path())?;
        let share = (more_patched - patched) / (more_calls - calls) * 100.0;
        rows.push(Row { name: work.name.into(), values: vec![f64::NAN, share], aim: Some(98.0) });
    }
    Ok(Table { share: true, ..Table::new("Calls through rewritten sites, after warm-up", "%", rows) })
}
