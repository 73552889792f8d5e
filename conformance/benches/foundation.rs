//! Start-up, the cost of a trapped call, and peak memory: native and sandboxed in turns, medians and ratios, as a Markdown
//! table. `cargo bench --package conformance` prints it; with `--write` it goes to `docs/performance.md`.

use anyhow::{Context, Result, ensure};
use conformance::{compile, sandbox_exec, scratch};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Runs of each command.
const RUNS: usize = 41;

/// A loop of one call; prints nanoseconds a call.
const CALL_LOOP: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv) {
    int n = atoi(argv[1]); struct timespec a, b;
    for (int i = 0; i < 1000; i++) syscall(SYS_getppid);
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < n; i++) syscall(SYS_getppid);
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / n);
}
"#;

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A way to run a command.
struct Way {
    name: &'static str,
    prefix: Vec<String>,
}

impl Way {
    fn command(&self, argv: &[&str], directory: &Path) -> Command {
        let all: Vec<&str> = self.prefix.iter().map(String::as_str).chain(argv.iter().copied()).collect();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).current_dir(directory).stdin(Stdio::null()).stderr(Stdio::null());
        command
    }
}

fn ways() -> Vec<Way> {
    let mut ways = vec![
        Way { name: "native", prefix: vec![] },
        Way {
            name: "sandbox-exec",
            prefix: vec![sandbox_exec().to_string_lossy().into_owned(), "--".into()],
        },
    ];
    if Command::new("bwrap")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        let options = [
            "bwrap",
            "--unshare-all",
            "--die-with-parent",
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
        ];
        ways.push(Way { name: "bubblewrap", prefix: options.map(String::from).to_vec() });
    }
    ways
}

/// Milliseconds from start to end of `/bin/true`, in turns.
fn start_up(ways: &[Way], directory: &Path) -> Result<Vec<f64>> {
    let mut times = vec![Vec::new(); ways.len()];
    for run in 0..=RUNS {
        for (way, times) in ways.iter().zip(&mut times) {
            let started = Instant::now();
            let status = way.command(&["/bin/true"], directory).stdout(Stdio::null()).status()?;
            ensure!(status.success(), "{} does not run /bin/true", way.name);
            // The first round warms up.
            if run > 0 {
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok(times.into_iter().map(median).collect())
}

fn printed_number(mut command: Command) -> Result<f64> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("{command:?} printed {text:?}"))
}

fn calls(ways: &[Way], program: &str, directory: &Path) -> Result<Vec<f64>> {
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..7 {
        for (way, times) in ways.iter().zip(&mut times) {
            times.push(printed_number(way.command(&[program, "100000"], directory))?);
        }
    }
    Ok(times.into_iter().map(median).collect())
}

/// Memory of all processes of a running `sleep`, in KiB, seen from outside by `of`.
fn memory(ways: &[Way], directory: &Path, of: fn(u32) -> u64) -> Result<Vec<f64>> {
    ways.iter()
        .map(|way| {
            let mut child = way.command(&["sleep", "3"], directory).stdout(Stdio::null()).spawn()?;
            std::thread::sleep(std::time::Duration::from_millis(700));
            let kib = family(child.id()).iter().map(|pid| of(*pid)).sum::<u64>() as f64;
            // Our own child, by its number; the sandbox ends with it.
            child.kill()?;
            child.wait()?;
            Ok(kib)
        })
        .collect()
}

/// A process and all below it.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        all.extend(family(child));
    }
    all
}

fn proportional(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find(|line| line.starts_with("Pss:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Peak resident set.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

fn row(text: &mut String, what: &str, unit: &str, values: &[f64]) {
    text.push_str(&format!("| {what} |"));
    let native = values[0];
    for value in values {
        text.push_str(&format!(" {value:.2} {unit} ({:.2}) |", value / native));
    }
    text.push('\n');
}

fn main() -> Result<()> {
    let bin = scratch()?;
    let (source, program) = (bin.path().join("loop.c"), bin.path().join("loop"));
    std::fs::write(&source, CALL_LOOP)?;
    compile("gcc", &["-O1"], &source, &program)?;
    let program = program.to_string_lossy().into_owned();
    let directory = scratch()?;
    let ways = ways();
    let mut text = String::from("| |");
    for way in &ways {
        text.push_str(&format!(" {} |", way.name));
    }
    text.push_str(&format!("\n|{}\n", " --- |".repeat(ways.len() + 1)));
    row(&mut text, "start to end of `/bin/true`", "ms", &start_up(&ways, directory.path())?);
    row(&mut text, "`getppid`, trapped in the sandbox", "ns", &calls(&ways, &program, bin.path())?);
    row(
        &mut text,
        "proportional memory of `sleep` and all around it",
        "KiB",
        &memory(&ways, directory.path(), proportional)?,
    );
    row(
        &mut text,
        "sum of the peak resident sets of the same",
        "KiB",
        &memory(&ways, directory.path(), peak)?,
    );
    print!("{text}");
    if std::env::args().any(|argument| argument == "--write") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
        let page = std::fs::read_to_string(&path).context("docs/performance.md")?;
        let (start, end) = ("<!-- measured -->", "<!-- end -->");
        let (before, rest) = page.split_once(start).context("no mark in docs/performance.md")?;
        let (_, after) = rest.split_once(end).context("no end mark in docs/performance.md")?;
        std::fs::write(&path, format!("{before}{start}\n{text}{end}{after}"))?;
    }
    Ok(())
}
