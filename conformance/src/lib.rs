//! The differential harness: runs the same command natively and in the sandbox, and compares what can be seen of it.
//!
//! Linux is the oracle: a program prints what it saw in a form that is the same from run to run (no ids, addresses or times),
//! and its output and status in the sandbox must be those on the host.

pub mod cable;
mod tree;
pub mod ways;

pub use tree::{Tree, restore};

use anyhow::{Context, Result, bail, ensure};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a run showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit code; 128+n for a death by signal n, as a shell has it.
    pub status: i32,
}

/// How long one run may take. A hang is a failure; a slow machine with much other work is none.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// How long something that happens at once may take on such a machine.
pub const AT_ONCE: Duration = Duration::from_secs(60);

/// The sandbox command: `SANDBOX_EXEC`, or the release build of this workspace.
pub fn sandbox_exec() -> PathBuf {
    built("SANDBOX_EXEC", "sandbox-exec")
}

/// The container runtime: `TRAPBOX`, or the release build of this workspace.
pub fn trapbox() -> PathBuf {
    built("TRAPBOX", "trapbox")
}

fn built(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    target.join("x86_64-unknown-linux-gnu/release").join(name)
}

/// A fresh directory that the sandbox's host identity can read, too.
pub fn scratch() -> Result<tempfile::TempDir> {
    let directory = tempfile::Builder::new().prefix("conformance-").tempdir()?;
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))?;
    Ok(directory)
}

/// Runs a command to its end, or to the time limit: then it and all it started are killed.
pub fn run(command: &mut Command) -> Result<Outcome> {
    run_until_asked(command, TIME_LIMIT)
}

/// As [`run`]; from some time on the command is asked to end by SIGTERM, again and again.
pub fn run_until_asked(command: &mut Command, after: Duration) -> Result<Outcome> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
    let (stdout, stderr) = (child.stdout.take().context("stdout")?, child.stderr.take().context("stderr")?);
    let read = |mut from: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let (stdout, stderr) = (read(Box::new(stdout)), read(Box::new(stderr)));
    let status = wait(&mut child, after);
    let (stdout, stderr) = (stdout.join(), stderr.join());
    let status = status.with_context(|| format!("{command:?}"))?;
    let (Ok(stdout), Ok(stderr)) = (stdout, stderr) else { bail!("a reader thread panicked") };
    let status = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
    Ok(Outcome { stdout, stderr, status })
}

fn wait(child: &mut Child, after: Duration) -> Result<std::process::ExitStatus> {
    let started = Instant::now();
    let mut ask = after;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if started.elapsed() > ask {
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            ask += Duration::from_secs(1);
        }
        if started.elapsed() > TIME_LIMIT {
            // The child leads a process group of its own: ours to end, with all it started.
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status();
            let _ = child.wait();
            bail!("took longer than {} seconds", TIME_LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A port of the host's loopback interface that nobody has just now.
///
/// # Panics
/// There is none.
pub fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr());
    socket.expect("a port").port()
}

/// Something that runs until this is dropped; then it is asked to end (SIGTERM), and waited for.
pub struct Background(Child);

impl Background {
    /// Starts it, without standard streams.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command) -> Result<Background> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Background(command.spawn().with_context(|| format!("starting {command:?}"))?))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// One comparison.
pub struct Case<'a> {
    /// Program and arguments.
    pub argv: &'a [&'a str],
    /// Options of sandbox-exec.
    pub options: &'a [&'a str],
    /// What differs from run to run is brought into one form.
    pub normalise: fn(&str) -> String,
    /// Whether it runs once more with the directory bound, and what it leaves there is compared, too.
    pub side_effects: bool,
    /// Whether it must end well natively: a test program that fails there has not tested what it should.
    pub succeeds: bool,
}

/// Runs a case in `directory` natively and in the sandbox; an error shows the difference. Each run finds the directory as it was,
/// and the sandboxed one must leave it so; with `side_effects`, a third run writes through and must leave what the native one
/// left.
pub fn compare(case: &Case<'_>, directory: &Path) -> Result<()> {
    let original = scratch()?;
    restore(directory, original.path())?;
    let (program, arguments) = case.argv.split_first().context("an empty command")?;
    let native = run(Command::new(program).args(arguments).current_dir(directory))?;
    let native = normal(case, &native);
    ensure!(!case.succeeds || native.status == 0, "natively it ends with status {}", native.status);
    let left = Tree::of(directory)?;

    restore(original.path(), directory)?;
    let before = Tree::of(directory)?;
    let sandboxed = normal(case, &run(&mut in_sandbox(case, &[], directory))?);
    ensure!(native == sandboxed, "{}", difference(&native, &sandboxed));
    let after = Tree::of(directory)?;
    ensure!(after == before, "it wrote through to the host:\n{}", before.difference(&after));
    if !case.side_effects {
        return Ok(());
    }

    let path = directory.to_string_lossy();
    let bound = normal(case, &run(&mut in_sandbox(case, &["--bind", &path], directory))?);
    ensure!(native == bound, "with --bind:\n{}", difference(&native, &bound));
    let after = Tree::of(directory)?;
    ensure!(after == left, "with --bind:\n{}", left.difference(&after));
    Ok(())
}

fn in_sandbox(case: &Case<'_>, options: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(sandbox_exec());
    command.args(options).args(case.options).arg("--").args(case.argv).current_dir(directory);
    command
}

fn normal(case: &Case<'_>, outcome: &Outcome) -> Outcome {
    Outcome {
        stdout: (case.normalise)(&outcome.stdout),
        stderr: (case.normalise)(&outcome.stderr),
        status: outcome.status,
    }
}

/// The lines in which two outcomes differ.
fn difference(native: &Outcome, sandboxed: &Outcome) -> String {
    let mut text = String::new();
    for (name, left, right) in
        [("stdout", &native.stdout, &sandboxed.stdout), ("stderr", &native.stderr, &sandboxed.stderr)]
    {
        let (left, right): (Vec<&str>, Vec<&str>) = (left.lines().collect(), right.lines().collect());
        let mut shown = 0;
        for index in 0..left.len().max(right.len()) {
            let (native, sandboxed) = (left.get(index), right.get(index));
            if native != sandboxed && shown < 20 {
                shown += 1;
                let line =
                    |line: Option<&&str>| line.map_or("(nothing)".to_string(), |line| line.to_string());
                text.push_str(&format!(
                    "{name} line {}:\n  native:  {}\n  sandbox: {}\n",
                    index + 1,
                    line(native),
                    line(sandboxed)
                ));
            }
        }
    }
    if native.status != sandboxed.status {
        text.push_str(&format!("status: native {}, sandbox {}\n", native.status, sandboxed.status));
    }
    text
}

/// Nothing to bring into one form.
pub fn as_it_is(text: &str) -> String {
    text.to_string()
}

/// Hexadecimal numbers become one word.
pub fn without_addresses(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("0x") {
        result.push_str(&rest[..at]);
        result.push_str("ADDRESS");
        rest = rest[at + 2..].trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    result.push_str(rest);
    result
}

/// Digits are dropped, and with them the spaces that made columns of them.
pub fn without_digits(text: &str) -> String {
    let mut result = String::new();
    for c in text.chars().filter(|c| !c.is_ascii_digit()) {
        if c != ' ' || !result.ends_with(' ') {
            result.push(c);
        }
    }
    result
}

/// Numbers become one word, and so does the space before each: columns are as wide as their numbers.
pub fn without_numbers(text: &str) -> String {
    let mut result = String::new();
    for line in text.lines() {
        let words = line
            .split_whitespace()
            .map(|word| if word.starts_with(|c: char| c.is_ascii_digit()) { "NUMBER" } else { word });
        result.push_str(&words.collect::<Vec<_>>().join(" "));
        result.push('\n');
    }
    result
}

/// Compiles a C program to `output` with gcc (or another compiler) and its options.
pub fn compile(compiler: &str, options: &[&str], source: &Path, output: &Path) -> Result<()> {
    let outcome = run(Command::new(compiler).args(options).arg("-o").arg(output).arg(source))?;
    ensure!(outcome.status == 0, "{compiler} {}: {}", source.display(), outcome.stderr);
    std::fs::set_permissions(output, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}
