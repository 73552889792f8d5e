//! Real programs doing real work. Each is prepared once, natively, and measured inside by the shell that runs it, so that
//! start-up does not count; what a first run finds out is left to a first run that does not count.

use crate::{Row, Table, Way, median};
use anyhow::{Context, Result};
use conformance::scratch;
use std::process::Command;

const RUNS: usize = 5;

struct Application {
    name: &'static str,
    /// Run natively before, in the directory; if it fails, the application is left out with a message.
    prepare: &'static str,
    /// Measured.
    command: &'static str,
    aim: Option<f64>,
}

const APPLICATIONS: &[Application] = &[
    Application {
        name: "Python, a loop of arithmetic",
        prepare: "",
        command: "/usr/bin/python3 -c 's = 0\nfor i in range(3000000): s += i * i % 7'",
        aim: Some(1.01),
    },
    Application {
        name: "Python, importing 30 modules",
        prepare: "",
        command: "/usr/bin/python3 -c 'import json, asyncio, email, http.client, unittest, sqlite3, decimal, ctypes, logging, xml.dom.minidom'",
        aim: None,
    },
    Application {
        name: "gcc, 12 C files with `make -j2`",
        prepare: "for i in $(seq 12); do { echo '#include <stdio.h>'; echo '#include <stdlib.h>'; echo '#include <string.h>'; for f in $(seq 40); do \
                  echo \"int f${i}_$f(int n) { int s = 0; for (int i = 0; i < n; i++) s += i * $f % (n + 1); char b[64]; snprintf(b, sizeof b, \\\"%d\\\", s); return atoi(b) + (int)strlen(b); }\"; done; } > m$i.c; done; \
                  { echo 'OBJECTS = $(patsubst %.c,%.o,$(wildcard m*.c))'; echo 'all: $(OBJECTS)'; } > Makefile",
        command: "make -s clean 2>/dev/null; rm -f *.o; make -s -j2 CFLAGS=-O1",
        aim: None,
    },
    Application {
        name: "`git status` of 20,000 files",
        prepare: "mkdir r; cd r; git init -q .; for d in $(seq 200); do mkdir d$d; for f in $(seq 100); do echo $d $f > d$d/f$f; done; done; \
                  git -c core.safecrlf=false add . && git -c user.name=a -c user.email=a@b commit -q -m all && git status --short",
        command: "cd r && git -c safe.directory='*' status --short",
        aim: Some(1.0),
    },
    Application {
        name: "`find /usr`",
        prepare: "",
        command: "find /usr -name '*.so' >/dev/null",
        aim: Some(1.0),
    },
    Application { name: "`du -s /usr`", prepare: "", command: "du -s /usr >/dev/null", aim: None },
    Application {
        name: "`tar` and untar of `/usr/include`",
        prepare: "",
        command: "rm -rf t t.tar; mkdir t; tar -cf t.tar -C / usr/include && tar -xf t.tar -C t",
        aim: None,
    },
    Application {
        name: "`xz -1` of 16 MiB",
        prepare: "head -c 12582912 /usr/bin/python3.* > data; head -c 4194304 /dev/zero >> data",
        command: "xz -1 -k -f data",
        aim: None,
    },
    Application {
        name: "SQLite, 20,000 inserts, then selects",
        prepare: "{ echo 'pragma synchronous=off; create table t(a integer primary key, b text);'; for i in $(seq 20000); do echo \"insert into t(b) values('row $i');\"; done; \
                  for i in $(seq 2000); do echo \"select b from t where a = $i;\"; done; } > s.sql",
        command: "rm -f x.db; sqlite3 x.db < s.sql >/dev/null",
        aim: None,
    },
    Application {
        name: "shell, 300 processes",
        prepare: "",
        command: "for i in $(seq 300); do /bin/true; done",
        aim: None,
    },
];

/// Prints seconds.
fn timed(command: &str) -> String {
    format!(
        "export HOME=$PWD; {{ {command}\n}} >/dev/null 2>&1; s=$EPOCHREALTIME; ( {command}\n) >/dev/null 2>&1 || exit 9; e=$EPOCHREALTIME; echo $(( ${{e/./}} - ${{s/./}} ))"
    )
}

/// Milliseconds, in turns.
pub fn measure(ways: &[Way]) -> Result<Table> {
    let mut rows = Vec::new();
    for application in APPLICATIONS {
        let directory = scratch()?;
        let prepared = Command::new("bash")
            .args(["-ec", application.prepare])
            .current_dir(directory.path())
            .env("HOME", directory.path())
            .output()?;
        if !prepared.status.success() {
            eprintln!("left out: {}: {}", application.name, String::from_utf8_lossy(&prepared.stderr).trim());
            continue;
        }
        // The sandbox runs as somebody else on the host.
        Command::new("chmod").args(["-R", "a+rX,a+w"]).arg(directory.path()).status()?;
        let mut times = vec![Vec::new(); ways.len()];
        for _ in 0..RUNS {
            for (way, times) in ways.iter().zip(&mut times) {
                let output =
                    way.command(&["bash", "-c", &timed(application.command)], directory.path()).output()?;
                let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                if !output.status.success() {
                    eprintln!("{}: {} does not run: {}", application.name, way.name, output.status);
                    times.push(f64::NAN);
                    continue;
                }
                let microseconds: f64 =
                    text.parse().with_context(|| format!("{}: printed {text:?}", application.name))?;
                times.push(microseconds / 1e3);
            }
        }
        rows.push(Row {
            name: application.name.into(),
            values: times.into_iter().map(median).collect(),
            aim: application.aim,
        });
    }
    Ok(Table { title: "Applications, second run in one sandbox", unit: "ms", rows })
}
