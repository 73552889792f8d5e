//! What the sandbox costs: every figure native and sandboxed in turns in one run, medians and ratios, as Markdown tables and
//! plots. `ci/bench` writes them to `docs/performance.md`; `cargo bench --package conformance -- NAME...` prints some of them.

mod applications;
mod calls;
mod containers;
mod memory;
mod network;
mod patched;
mod plot;
mod servers;
mod stack;
mod start_up;
mod ways;
mod work;

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
pub use ways::Way;

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
    /// What is compared, if it is not the ways in which commands are run; the ratios are to the first.
    pub columns: Vec<String>,
}

impl Table {
    /// Of the ways in which commands are run.
    pub fn new(title: &'static str, unit: &'static str, rows: Vec<Row>) -> Table {
        Table { title, unit, rows, share: false, columns: Vec::new() }
    }

    /// What heads the columns of values.
    pub fn columns(&self, ways: &[Way]) -> Vec<String> {
        if self.columns.is_empty() {
            ways.iter().map(|way| way.name.clone()).collect()
        } else {
            self.columns.clone()
        }
    }

    fn markdown(&self, ways: &[Way]) -> String {
        if self.share {
            return self.markdown_of_shares();
        }
        let aims = self.rows.iter().any(|row| row.aim.is_some());
        let mut text = format!("### {}\n\n| {} |", self.title, self.unit);
        let columns = self.columns(ways);
        for column in &columns {
            text.push_str(&format!(" {column} |"));
        }
        text.push_str(if aims { " aim |\n|" } else { "\n|" });
        text.push_str(&" --- |".repeat(columns.len() + 1 + usize::from(aims)));
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

const TABLES: [(&str, Measure); 11] = [
    ("start-up", start_up::measure),
    ("calls", calls::measure),
    ("memory", memory::measure),
    ("patched", patched::measure),
    ("computing", applications::measure_computing),
    ("containers", containers::measure),
    ("servers", servers::measure),
    ("network", network::measure),
    ("stack", stack::measure),
    ("host-files", calls::measure_host_files),
    ("applications", applications::measure),
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
    let all = ways::ways();
    // What runs in runc's containers makes the host's own calls: it is starting them, and their memory, that differs.
    let of_calls: Vec<Way> = all.iter().filter(|way| !way.is_container()).cloned().collect();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut text = String::new();
    for (name, measure) in TABLES {
        if !wanted.is_empty() && !wanted.iter().any(|word| *word == name) {
            continue;
        }
        eprintln!("measuring {name} ...");
        let ways = if ["start-up", "memory"].contains(&name) { &all } else { &of_calls };
        let table = measure(ways).with_context(|| format!("measuring {name}"))?;
        if table.rows.is_empty() {
            continue;
        }
        let part = table.markdown(ways);
        println!("{part}");
        text.push_str(&part);
        if write && !table.share {
            let plot = format!("performance-{name}.svg");
            let columns = table.columns(ways);
            plot::write(&table, &columns, &docs.join(&plot))?;
            let first = columns.first().map_or("", String::as_str);
            text.push_str(&format!("![{} as ratios to {first}]({plot})\n\n", table.title));
        }
        // Each as soon as it is there: what cuts a run off does not cost what it has measured.
        if write {
            let path = docs.join("performance.md");
            let page = std::fs::read_to_string(&path).context("docs/performance.md")?;
            let (start, end) = ("<!-- measured -->", "<!-- end -->");
            let (before, rest) = page.split_once(start).context("no mark in docs/performance.md")?;
            let (_, after) = rest.split_once(end).context("no end mark in docs/performance.md")?;
            std::fs::write(&path, format!("{before}{start}\n{text}{end}{after}"))?;
        }
    }
    Ok(())
}
