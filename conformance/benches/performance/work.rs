//! Programs that do a piece of work, each prepared once, natively, and run by a shell inside.

use crate::{Row, Table, Way, median, quick};
use anyhow::{Context, Result};
use conformance::scratch;
use std::path::Path;
use std::process::Command;

/// So many times native is measured once.
const MUCH: f64 = 4.0;

/// What is measured of a piece of work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Milliseconds of the command's second run in one sandbox: what a first run finds out is left to a first run, and
    /// start-up does not count.
    SecondRun,
    /// A number that the command prints, less being better.
    Printed,
}

/// A piece of work.
pub struct Work {
    /// As its row is headed.
    pub name: &'static str,
    /// Commands without which it is left out.
    pub needs: &'static [&'static str],
    /// Run natively before, in the directory; if it fails, the work is left out with a message.
    pub prepare: &'static str,
    /// Run in the directory.
    pub command: &'static str,
    /// What counts.
    pub value: Value,
    /// The ratio that is aimed at.
    pub aim: Option<f64>,
}

impl Work {
    /// A command whose second run counts.
    pub const fn timed(name: &'static str, prepare: &'static str, command: &'static str) -> Work {
        Work { name, needs: &[], prepare, command, value: Value::SecondRun, aim: None }
    }

    /// Which needs these commands.
    pub const fn needs(self, needs: &'static [&'static str]) -> Work {
        Work { needs, ..self }
    }

    /// With an aim.
    pub const fn aim(self, aim: f64) -> Work {
        Work { aim: Some(aim), ..self }
    }

    /// Does what comes before the command; why the work cannot be done, if it cannot.
    pub fn prepare(&self, directory: &Path) -> Result<Option<String>> {
        let missing = self.needs.iter().find(|command| !is_there(command));
        if let Some(missing) = missing {
            return Ok(Some(format!("there is no {missing} (`ci/setup bench` installs what can be had)")));
        }
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/source");
        let prepared = Command::new("bash")
            .args(["-ec", self.prepare])
            .current_dir(directory)
            .env("HOME", directory)
            .env("CARGO_HOME", home().join(".cargo"))
            .env("RUSTUP_HOME", home().join(".rustup"))
            .env("SOURCE", sources)
            .output()?;
        if !prepared.status.success() {
            return Ok(Some(String::from_utf8_lossy(&prepared.stderr).trim().to_owned()));
        }
        // The sandbox runs as somebody else on the host.
        Command::new("chmod").args(["-R", "a+rX,a+w"]).arg(directory).status()?;
        Ok(None)
    }

    fn script(&self) -> String {
        let command = self.command;
        match self.value {
            // Microseconds.
            Value::SecondRun => format!(
                "export HOME=$PWD; ( {command}\n) >/dev/null 2>&1; s=$EPOCHREALTIME; ( {command}\n) >/dev/null 2>&1 || exit 9; \
                 e=$EPOCHREALTIME; echo $(( ${{e/./}} - ${{s/./}} ))"
            ),
            Value::Printed => format!("export HOME=$PWD; {command}"),
        }
    }

    /// One run; NaN if it does not run this way.
    fn once(&self, way: &Way, directory: &Path) -> Result<f64> {
        let output = way.command(&["bash", "-c", &self.script()], directory)?.output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default().trim();
        if !output.status.success() {
            eprintln!("{}: {} does not run: {}", self.name, way.name, output.status);
            return Ok(f64::NAN);
        }
        let number: f64 = last.parse().with_context(|| format!("{}: printed {text:?}", self.name))?;
        Ok(if self.value == Value::SecondRun { number / 1e3 } else { number })
    }

    fn row(&self, ways: &[Way], runs: usize) -> Result<Option<Row>> {
        let directory = scratch()?;
        if let Some(reason) = self.prepare(directory.path())? {
            eprintln!("left out: {}: {reason}", self.name);
            return Ok(None);
        }
        let mut values = vec![Vec::new(); ways.len()];
        let mut native = None;
        for _ in 0..runs {
            for (way, values) in ways.iter().zip(&mut values) {
                // What did not run once does not run, and what took so long that one figure says enough is not run again.
                let first: Option<f64> = values.first().copied();
                let enough =
                    first.is_some_and(|first| first.is_nan() || first > MUCH * native.unwrap_or(first));
                if !enough {
                    values.push(self.once(way, directory.path())?);
                }
                native = native.or(values.first().copied());
            }
        }
        let values = values.into_iter().map(median).collect();
        Ok(Some(Row { name: self.name.into(), values, aim: self.aim }))
    }
}

fn is_there(command: &str) -> bool {
    let look = format!("PATH=$PATH:/usr/sbin:$(echo /usr/lib/postgresql/*/bin); command -v {command}");
    Command::new("bash").args(["-c", &look]).output().is_ok_and(|output| output.status.success())
}

fn home() -> std::path::PathBuf {
    std::env::var_os("HOME").map_or_else(|| "/root".into(), Into::into)
}

/// All of them in turns.
pub fn measure(
    title: &'static str,
    unit: &'static str,
    works: &[Work],
    ways: &[Way],
    runs: usize,
) -> Result<Table> {
    let mut rows = Vec::new();
    for work in works {
        eprintln!("  {}", work.name);
        rows.extend(work.row(ways, if quick() { 1 } else { runs })?);
    }
    Ok(Table::new(title, unit, rows))
}
