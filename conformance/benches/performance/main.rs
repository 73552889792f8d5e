//! What the sandbox costs: every figure native and sandboxed in turns in one run, medians and ratios, as Markdown tables and
//! plots. `ci/bench` writes them to `docs/performance.md`; `cargo bench --package conformance -- NAME...` prints some of them.

mod applications;
mod calls;
mod memory;
mod patched;
mod plot;
mod servers;
mod stack;
mod start_up;
mod work;

use anyhow::{Context, Result, bail};
use conformance::sandbox_exec;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// A way to run a command.
#[derive(Clone)]
pub struct Way {
    /// As the column is headed.
    pub name: String,
    prefix: Vec<String>,
}

impl Way {
    /// The command, run this way in `directory`.
    pub fn command(&self, argv: &[&str], directory: &Path) -> Command {
        let mut all = self.prefix.iter().map(String::as_str).chain(argv.iter().copied());
        let mut command = Command::new(all.next().unwrap_or_default());
        command.args(all).current_dir(directory).stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// The way with options of ours, if it is the sandbox.
    pub fn with_options(&self, options: &[&str]) -> Way {
        let ours = self.name == "sandbox-exec";
        let part = |part: &String| {
            let options = options.iter().filter(|_| ours && part == "--").map(|option| option.to_string());
            options.chain([part.clone()]).collect::<Vec<_>>()
        };
        Way { name: self.name.clone(), prefix: self.prefix.iter().flat_map(part).collect() }
    }
}

/// Native, sandboxed, and what else is installed. bubblewrap gets everything of the host, read-only.
fn ways() -> Vec<Way> {
    let way = |name: &str, prefix: &[&str]| Way {
        name: name.into(),
        prefix: prefix.iter().map(|part| part.to_string()).collect(),
    };
    let mut ways = vec![way("native", &[]), way("sandbox-exec", &[&sandbox_exec().to_string_lossy(), "--"])];
    if let Some(version) = version("bwrap") {
        let options = [
            "bwrap",
            "--unshare-all",
            "--die-with-parent",
            "--bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
        ];
        ways.push(way(&version, &options));
    }
    if let Some(version) = version("runsc") {
        let options = ["runsc", "--platform=systrap", "--network=none", "--ignore-cgroups", "do", "--"];
        ways.push(way(&format!("{version}, systrap"), &options));
    }
    if version("runc").is_some() {
        eprintln!("left out: runc, which runs images and no single commands");
    }
    ways
}

/// The first line of `--version`, if the command is there.
fn version(command: &str) -> Option<String> {
    let output = Command::new(command).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned();
    output.status.success().then_some(text)
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One line of a table: what was measured, and a value each way (NaN where it does not run).
pub struct Row {
    /// What.
    pub name: String,
    /// In `unit`s.
    pub values: Vec<f64>,
    /// The ratio to native that is aimed at, if there is an aim.
    pub aim: Option<f64>,
}

/// A table.
pub struct Table {
    /// Its heading, and the word that chooses it on the command line.
    pub title: &'static str,
    /// Unit of the values.
    pub unit: &'static str,
    /// Lines.
    pub rows: Vec<Row>,
    /// Not measured natively; aims are what is to be reached at least.
    pub share: bool,
}

impl Table {
    fn markdown(&self, ways: &[Way]) -> String {
        if self.share {
            return self.markdown_of_shares();
        }
        let aims = self.rows.iter().any(|row| row.aim.is_some());
        let mut text = format!("### {}\n\n| {} |", self.title, self.unit);
        for way in ways {
            text.push_str(&format!(" {} |", way.name));
        }
        text.push_str(if aims { " aim |\n|" } else { "\n|" });
        text.push_str(&" --- |".repeat(ways.len() + 1 + usize::from(aims)));
        text.push('\n');
        for row in &self.rows {
            text.push_str(&format!("| {} |", row.name));
            let native = row.values.first().copied().unwrap_or(f64::NAN);
            for (index, value) in row.values.iter().enumerate() {
                let ratio = value / native;
                match (value.is_nan(), index) {
                    (true, _) => text.push_str(" does not run |"),
                    (_, 0) => text.push_str(&format!(" {} |", shown(*value))),
                    _ => text.push_str(&format!(" {} ({ratio:.2}) |", shown(*value))),
                }
            }
            if aims {
                let ratio = row.values.get(1).copied().unwrap_or(f64::NAN) / native;
                text.push_str(&match row.aim {
                    Some(aim) if ratio <= aim => format!(" {aim} |"),
                    Some(aim) => format!(" {aim}, missed |"),
                    None => " |".into(),
                });
            }
            text.push('\n');
        }
        text.push('\n');
        text
    }
}

impl Table {
    fn markdown_of_shares(&self) -> String {
        let mut text =
            format!("### {}\n\n| {} | sandbox-exec | aim |\n| --- | --- | --- |\n", self.title, self.unit);
        for row in &self.rows {
            let value = row.values.get(1).copied().unwrap_or(f64::NAN);
            let aim = match row.aim {
                Some(aim) if value >= aim => format!("{aim}"),
                Some(aim) => format!("{aim}, missed"),
                None => String::new(),
            };
            text.push_str(&format!("| {} | {value:.1} | {aim} |\n", row.name));
        }
        text.push('\n');
        text
    }
}

/// Three digits that matter.
fn shown(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

type Measure = fn(&[Way]) -> Result<Table>;

const TABLES: [(&str, Measure); 9] = [
    ("start-up", start_up::measure),
    ("calls", calls::measure),
    ("host-files", calls::measure_host_files),
    ("computing", applications::measure_computing),
    ("applications", applications::measure),
    ("servers", servers::measure),
    ("stack", stack::measure),
    ("patched", patched::measure),
    ("memory", memory::measure),
];

static QUICK: AtomicBool = AtomicBool::new(false);

/// Everything once and briefly: whether it runs, not what it costs.
pub fn quick() -> bool {
    QUICK.load(Ordering::Relaxed)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (options, wanted): (Vec<&String>, Vec<&String>) =
        arguments.iter().partition(|argument| argument.starts_with("--"));
    let write = options.iter().any(|option| *option == "--write");
    QUICK.store(options.iter().any(|option| *option == "--quick"), Ordering::Relaxed);
    if let Some(unknown) = wanted.iter().find(|word| !TABLES.iter().any(|(name, _)| name == **word)) {
        bail!("there is no table {unknown}; there are {}", TABLES.map(|(name, _)| name).join(", "));
    }
    let ways = ways();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut text = String::new();
    for (name, measure) in TABLES {
        if !wanted.is_empty() && !wanted.iter().any(|word| *word == name) {
            continue;
        }
        eprintln!("measuring {name} ...");
        let table = measure(&ways).with_context(|| format!("measuring {name}"))?;
        let part = table.markdown(&ways);
        println!("{part}");
        text.push_str(&part);
        if write && !table.share {
            let plot = format!("performance-{name}.svg");
            plot::write(&table, &ways, &docs.join(&plot))?;
            text.push_str(&format!("![{} as ratios to native]({plot})\n\n", table.title));
        }
    }
    if write {
        let path = docs.join("performance.md");
        let page = std::fs::read_to_string(&path).context("docs/performance.md")?;
        let (start, end) = ("<!-- measured -->", "<!-- end -->");
        let (before, rest) = page.split_once(start).context("no mark in docs/performance.md")?;
        let (_, after) = rest.split_once(end).context("no end mark in docs/performance.md")?;
        std::fs::write(&path, format!("{before}{start}\n{text}{end}{after}"))?;
    }
    Ok(())
}
