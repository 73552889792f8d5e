//! The command line of `sandbox-exec`.

use crate::broker::{self, Broker};
use crate::changes::{Collector, Wanted};
use crate::filter::{self, Configuration};
use crate::grants::{self, Grants};
use crate::launch::{self, KernelGuard, Layer, Walls};
use crate::program::{self, ProgramError};
use crate::setup;
use crate::stack::{self, Guard};
use crate::supervisor::{self, End};
use crate::terminal::{self, Terminal};
use crate::view::{Request, View};
use anyhow::Context;
use boundary::boot::BootOptions;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Run a program in a sandbox: on a Linux kernel of its own, in its own address space.
///
/// The program sees the system's read-only parts, its own directory and the working directory (what it writes stays in
/// memory), and empty /tmp, /run and home directories. It has no network unless you allow one, and no secrets of yours.
#[derive(Debug, Parser)]
#[command(name = "sandbox-exec", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Options {
    #[command(flatten)]
    grants: Grants,

    /// Set a variable, or pass one on by its NAME.
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,

    /// Pass all of the environment on, not only the harmless names.
    #[arg(long)]
    keep_env: bool,

    /// Start in DIRECTORY instead of the working directory.
    #[arg(long, value_name = "DIRECTORY")]
    workdir: Option<PathBuf>,

    /// The host name that the program sees, and finds in /etc/hosts.
    #[arg(long, value_name = "NAME", default_value = "sandbox")]
    hostname: String,

    /// Memory that the sandbox may use for its files, and that it shows as its own (K, M, G) [default: half of the host's].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,

    /// Processes and threads at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 32768)]
    pids: u32,

    /// Processors that the sandbox may use, at most [default: those that the caller may use].
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<usize>,

    /// Leave the program's code as it is: every system call traps. For programs that check their own code.
    #[arg(long)]
    no_patch: bool,

    /// Close the kernel's memory to the program with the processor's protection keys: a second line behind the filter. Needs Linux 6.12.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = KernelGuard::Off)]
    kernel_guard: KernelGuard,

    #[command(flatten)]
    network: broker::options::Options,

    /// Give the sandbox a terminal of its own, which yours is passed on to: for shells and other interactive programs. Without it
    /// Ctrl-C ends the sandbox.
    #[arg(short = 't', long)]
    tty: bool,

    /// Print the program's system calls as strace(1) does, to standard error or to FILE.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    strace: Option<Option<PathBuf>>,

    /// Print a table of the program's system calls at its end, to standard error or to FILE: how many, how they came in, what
    /// they cost, and which call sites could not be rewritten.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    stats: Option<Option<PathBuf>>,

    /// List what the program has changed in its overlays (the working directory is one), to standard error or to FILE: A made,
    /// C changed, D gone, O with all that was in it gone.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    diff: Option<Option<PathBuf>>,

    /// Pack what the program has changed in its overlays into FILE, a tar archive in the form of an OCI image layer.
    #[arg(long, value_name = "FILE")]
    export_changes: Option<PathBuf>,

    /// What the kernel logs.
    #[arg(long, value_name = "LEVEL", default_value = "error", value_parser = ["error", "warn", "info", "debug", "trace"])]
    log: String,

    /// Where the kernel logs to [default: standard error].
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,

    /// Go on although the host lacks this layer (may be given again): a second fence, or, with `userns`, all namespaces.
    #[arg(long, value_name = "LAYER", value_enum)]
    allow_missing: Vec<Layer>,

    /// Print the host calls that this configuration allows, with reasons, and exit.
    #[arg(long)]
    show_filter: bool,

    /// With --show-filter: as JSON.
    #[arg(long, requires = "show_filter")]
    json: bool,

    /// Print the table of system calls and how far each is done, and exit.
    #[arg(long)]
    list_syscalls: bool,

    /// The program and its arguments.
    #[arg(trailing_var_arg = true, value_name = "PROGRAM [ARGS]",
          required_unless_present_any = ["show_filter", "list_syscalls"])]
    program: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  sandbox-exec ls -la                              list the working directory, from inside
  sandbox-exec -- sh -c 'echo hi > f; cat f'       the file f is gone afterwards
  sandbox-exec --bind \"$PWD\" make                  let a build write to the working directory
  sandbox-exec --strace python3 -c 'print(1)'      watch what a program asks for
  sandbox-exec --allow-net example.com:443 curl https://example.com/     one server, and nothing else
  sudo sandbox-exec setup                          once, where AppArmor refuses user namespaces to ordinary users

Exit codes:
  the program's own, or 128+n if signal n killed it
  125  sandbox-exec itself failed
  126  the program cannot be executed
  127  the program is not found";

/// Exit code of a failure of sandbox-exec itself.
pub const FAILED: u8 = 125;

pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().find(|(_, c)| !c.is_ascii_digit()) {
        Some((at, _)) => text.split_at(at),
        None => (text, ""),
    };
    let factor = match unit.to_ascii_uppercase().as_str() {
        "" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1u64 << 30,
        _ => return Err(format!("'{unit}' is no unit; use K, M or G")),
    };
    let number: u64 = digits.parse().map_err(|_| "not a number".to_string())?;
    number.checked_mul(factor).ok_or_else(|| "too large".into())
}

/// What the host said, without its number.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Runs the command; the exit code.
pub fn main() -> u8 {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(options) = setup::asked(&arguments) {
        let done = setup::run(options).and_then(|text| print(&text));
        return match done {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("sandbox-exec: setup: {}", without_controls(&format!("{error:#}")));
                FAILED
            }
        };
    }
    let parsed = Options::command()
        .try_get_matches()
        .and_then(|matches| Options::from_arg_matches(&matches).map(|options| (options, matches)));
    let (options, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) if error.use_stderr() => {
            eprintln!("sandbox-exec: {}; see sandbox-exec --help", one_line(&error));
            return FAILED;
        }
        Err(text) => {
            let _ = text.print();
            return 0;
        }
    };
    match run(options, &matches) {
        Ok(code) => code,
        Err(error) => {
            let code = error.downcast_ref::<ProgramError>().map_or(FAILED, ProgramError::exit_code);
            eprintln!("sandbox-exec: {}", without_controls(&format!("{error:#}")));
            code
        }
    }
}

/// A message stays one line, and does nothing to a terminal, whatever names are in it.
fn without_controls(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// A usage error on one line: what was wrong and clap's tip, without the usage that follows.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let wanted = text.lines().take_while(|line| !line.starts_with("Usage:"));
    let line: Vec<&str> =
        wanted.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    let line = line.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// Takes the caller's first processors, as many as `--cpus` names: every process made from here on has those alone.
fn limit_processors(limit: Option<usize>) -> anyhow::Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    anyhow::ensure!(limit > 0, "--cpus 0: name at least 1");
    let own = nix::unistd::Pid::from_raw(0);
    let allowed = nix::sched::sched_getaffinity(own).context("asking for the processors")?;
    let mut kept = nix::sched::CpuSet::new();
    let numbers = 0..nix::sched::CpuSet::count();
    for cpu in numbers.filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).take(limit) {
        kept.set(cpu).context("choosing processors")?;
    }
    nix::sched::sched_setaffinity(own, &kept).context("--cpus: choosing processors")
}

fn run(options: Options, matches: &ArgMatches) -> anyhow::Result<u8> {
    if options.list_syscalls {
        print(include_str!(env!("TRAPBOX_SYSCALLS")))?;
        return Ok(0);
    }
    check_hostname(&options.hostname)?;
    anyhow::ensure!(options.pids > 0, "--pids 0: the program itself is one; name at least 1");
    limit_processors(options.cpus)?;
    let workdir = match &options.workdir {
        // A directory of the sandbox need not exist on the host (--tmpfs).
        Some(directory) => std::fs::canonicalize(directory).unwrap_or_else(|_| directory.clone()),
        None => {
            std::env::current_dir().context("the working directory is gone; change to one that exists")?
        }
    };
    let asked = grants::asked(matches)?;
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let mut request = Request { asked, workdir: workdir.clone(), program: None, home };
    if options.show_filter {
        let view = View::new(&request);
        let walls = Walls::choose(&options.allow_missing)?;
        show_filter(&view, walls, &options)?;
        return Ok(0);
    }
    let name = options.program.first().context("name a program to run; see --help")?;
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let found = program::find(name, &path, &workdir)?;
    request.program = Some(found.clone());
    let view = View::new(&request);
    program::check_visible(name, &found, &view)?;
    let workdir = match &options.workdir {
        _ if view.has_directory(&workdir) => workdir,
        Some(directory) => anyhow::bail!(
            "--workdir {}: the sandbox has no such directory; name one that exists, or grant it with --ro-bind",
            directory.display()
        ),
        // The caller stands where the sandbox shows nothing.
        None => PathBuf::from("/"),
    };
    supervise(options, view, &found, &workdir)
}

fn check_hostname(name: &str) -> anyhow::Result<()> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    anyhow::ensure!(
        plain && (1..=64).contains(&name.len()),
        "--hostname {}: not a host name; use up to 64 letters, digits, hyphens and dots",
        name.escape_debug()
    );
    Ok(())
}

/// To standard output. A reader that has had enough (`| head`) is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            anyhow::bail!("standard output: {}; write to another place", reason(&error))
        }
        _ => Ok(()),
    }
}

fn show_filter(view: &View, walls: Walls, options: &Options) -> anyhow::Result<()> {
    let network = &options.network;
    let configuration = Configuration {
        walls,
        writable_bind: view.has_writable_host_path(),
        granted: view.granted,
        terminal: !options.tty
            && (0..3).any(|fd| {
                // SAFETY: standard descriptors; a closed one is no terminal.
                unsafe { libc::isatty(fd) == 1 }
            }),
        broker_fd: network.has_broker().then_some(0),
        packet_fd: network.has_stack().then_some(0),
        kernel_guard: options.kernel_guard.choose()?,
        ..Configuration::default()
    };
    if options.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&filter::describe_json(&configuration))?))?;
    } else {
        print(&filter::describe(&configuration))?;
    }
    Ok(())
}

fn supervise(options: Options, mut view: View, program: &Path, workdir: &Path) -> anyhow::Result<u8> {
    let open_log = |path: &Option<PathBuf>| -> anyhow::Result<OwnedFd> {
        match path {
            Some(path) => Ok(std::fs::File::create(path)
                .map_err(|error| {
                    anyhow::anyhow!(
                        "{}: cannot be written: {}; name another file",
                        path.display(),
                        reason(&error)
                    )
                })?
                .into()),
            // A terminal only to be written to, if it can be had so.
            None if std::io::stderr().is_terminal()
                && let Ok(file) = std::fs::File::options().append(true).open("/proc/self/fd/2") =>
            {
                Ok(file.into())
            }
            None => Ok(nix::unistd::dup(std::io::stderr()).context("standard error")?),
        }
    };
    let strace = options.strace.as_ref().map(&open_log).transpose()?;
    let stats = options.stats.as_ref().map(&open_log).transpose()?;
    let memory = options.memory.unwrap_or_else(half_of_memory);
    // What is not in memory fills a disk of the caller's choice already; records take room, too.
    let limit = (!view.has_writable_host_path()).then(|| memory.saturating_mul(2));
    let diff = options.diff.as_ref().map(&open_log).transpose()?;
    let wanted = Wanted::new(diff, options.export_changes.as_deref(), limit)?;
    let (changes, told) = match wanted.any() {
        true => {
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map(|(read, write)| (Some(read), Some(write)))
        }
        false => Ok((None, None)),
    }
    .context("a pipe for the changes")?;
    let (outside, inside) = match options.tty {
        true => terminal::socket().map(|(outside, inside)| (Some(outside), Some(inside))),
        false => Ok((None, None)),
    }
    .context("a socket for the terminal")?;
    let settings = options.network.settings(["info", "debug", "trace"].contains(&options.log.as_str()))?;
    let host_loopback = settings.as_ref().is_some_and(|settings| settings.reach_loopback());
    let (broker, to_broker) = settings.map(Broker::start).transpose()?.unzip();
    let (stack, _guard) = take_interface(&options.network)?.unzip();
    let interface = stack.as_ref().map(|(interface, _)| interface);
    view.name_sandbox(&options.hostname, stack::own_addresses(interface));
    let host_xattrs = view.granted;
    let env = program::environment(options.keep_env, &options.env);
    let walls = Walls::choose(&options.allow_missing)?;
    let request = launch::Request {
        image: launch::IMAGE,
        allow_missing: options.allow_missing.clone(),
        walls,
        first: program::process(&options.program, program, workdir, env),
        identity: launch::caller(),
        // The sandbox goes before its user's other programs.
        oom_score_adj: 500,
        hostname: options.hostname.clone(),
        domainname: "(none)".into(),
        view,
        options: BootOptions {
            log_level: ["error", "warn", "info", "debug", "trace"]
                .iter()
                .position(|level| *level == options.log)
                .unwrap_or(0) as u8,
            memory_limit: memory,
            pids_limit: options.pids,
            container: false,
            held: false,
            sysctls: Vec::new(),
            changes_with_data: wanted.with_data(),
            host_xattrs,
            kernel_guard: options.kernel_guard.choose()?,
            patch_calls: !options.no_patch,
            terminal_size: terminal::size(),
            host_loopback,
            host_pids: walls == Walls::Landlock,
        },
        memory: options.memory,
        log: Some(open_log(&options.log_file)?),
        strace,
        stats,
        changes: told,
        terminal: inside,
        broker: to_broker,
        stack,
    };
    let signals = supervisor::block_signals(options.tty).context("blocking signals")?;
    let modes = terminal_modes();
    let launched = launch::launch(request)?;
    let terminal = match outside.map(Terminal::take).transpose() {
        Ok(terminal) => terminal,
        Err(error) => {
            supervisor::end(&launched);
            return Err(error);
        }
    };
    let collector = changes.map(|stream| wanted.collect(stream));
    let end = supervisor::watch(launched, &signals, terminal, None);
    if let Some(broker) = broker {
        broker.finish();
    }
    if let Some(modes) = modes {
        let _ = nix::sys::termios::tcsetattr(std::io::stdin(), nix::sys::termios::SetArg::TCSANOW, &modes);
    }
    if let Some(collector) = collector {
        report_changes(collector);
    }
    match end? {
        End::Exited(code) => Ok(code),
        End::Signalled(signal) => Ok(128 + signal),
        End::NotExecuted(errno, path) => {
            let why = reason(&std::io::Error::from_raw_os_error(errno));
            eprintln!(
                "sandbox-exec: {path}: cannot be executed: {why}; run with --log info for the kernel's reason"
            );
            Ok(if errno == libc::ENOENT { 127 } else { 126 })
        }
        End::Failed(report) => {
            anyhow::bail!("the sandbox has ended: {}", report.trim_end());
        }
    }
}

/// The interface for the sandbox's network stack, if it is to have one; the host has it back when the guard goes.
fn take_interface(
    network: &broker::options::Options,
) -> anyhow::Result<Option<((boundary::boot::Interface, OwnedFd), Guard)>> {
    if !network.has_stack() {
        return Ok(None);
    }
    let (interface, packet, guard) = stack::gather(network.interface())?.take_for_a_while()?;
    Ok(Some(((interface, packet), guard)))
}

/// The program has run: what cannot be told of it is no reason to say that it failed.
fn report_changes(collector: Collector) {
    match collector.finish() {
        Ok(left_out) => left_out.iter().for_each(|line| eprintln!("sandbox-exec: {line}")),
        Err(error) => {
            eprintln!("sandbox-exec: the changes are not told: {}", without_controls(&format!("{error:#}")))
        }
    }
}

fn terminal_modes() -> Option<nix::sys::termios::Termios> {
    nix::sys::termios::tcgetattr(std::io::stdin()).ok()
}

fn half_of_memory() -> u64 {
    nix::sys::sysinfo::sysinfo().map_or(1 << 30, |info| info.ram_total() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("512"), Ok(512));
        assert!(parse_size("1X").is_err());
        assert!(parse_size("99999999999G").is_err());
    }

    #[test]
    fn options_behind_the_program_are_the_programs() {
        let options = Options::try_parse_from(["sandbox-exec", "ls", "--bind", "x"]).expect("parses");
        assert_eq!(options.program.len(), 3);
        assert!(options.grants.bind.is_empty());
    }

    #[test]
    fn a_usage_error_is_one_line() {
        let error =
            Options::try_parse_from(["sandbox-exec", "--network", "tunnel", "ls"]).expect_err("refused");
        let line = one_line(&error);
        assert!(line.contains("tunnel") && line.contains("none") && !line.contains('\n'), "{line}");
    }
}
