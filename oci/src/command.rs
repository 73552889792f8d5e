//! The command line, which is runc's: verbs, flags and what goes to the log.

use crate::{log, verbs};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Run containers on a Linux kernel of their own, in user space: an OCI runtime for containerd, Docker and Podman.
#[derive(Debug, Parser)]
#[command(name = "trapbox", version, max_term_width = 110, disable_help_subcommand = true)]
pub struct Options {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What stands before the verb.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Where the state of containers is kept [default: /run/trapbox, or trapbox below $XDG_RUNTIME_DIR].
    #[arg(long, value_name = "DIRECTORY")]
    pub root: Option<PathBuf>,
    /// Where messages go, beside standard error.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How they look there.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Log more.
    #[arg(long)]
    pub debug: bool,
    /// Make control groups through systemd: cgroupsPath is SLICE:PREFIX:NAME.
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Whether control groups may be out of reach.
    #[arg(long, value_name = "auto|true|false", default_value = "auto")]
    pub rootless: String,
    /// Where what a container writes to its root goes: to the bundle's directory, or to memory, which is forgotten.
    #[arg(long, value_enum, default_value_t = Writes::Host)]
    pub overlay: Writes,
}

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Where writes to a container's root go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Writes {
    /// The bundle's root directory.
    Host,
    /// Memory.
    Memory,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a container from a bundle.
    Create(Create),
    /// Run the program of a created container.
    Start(Id),
    /// Create a container, run its program, and remove the container.
    Run(Run),
    /// Print what a container is and does.
    State(Id),
    /// Send a signal to a container's program.
    Kill(Kill),
    /// Remove a container.
    Delete(Delete),
    /// Run another program in a running container.
    Exec(Exec),
    /// List the host processes of a container.
    Ps(Ps),
    /// List containers.
    List(List),
    /// Stop all that a container does.
    Pause(Id),
    /// Let a paused container go on.
    Resume(Id),
    /// Change a container's limits.
    Update(Update),
    /// Print what happens to a container, and what it uses.
    Events(Events),
    /// Write a config.json to begin with.
    Spec(Spec),
    /// Print what this runtime can do.
    Features,
    /// Refused: sandboxes cannot be saved.
    Checkpoint(Refused),
    /// Refused: sandboxes cannot be saved.
    Restore(Refused),
    /// Make this runtime known to Docker (daemon.json).
    Install(Install),
    /// Take this runtime out of Docker's daemon.json.
    Uninstall(Install),
}

/// A container.
#[derive(Debug, Args)]
pub struct Id {
    /// Which container.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// `create`.
#[derive(Debug, Clone, Args)]
pub struct Create {
    /// The directory with config.json.
    #[arg(short, long, default_value = ".")]
    pub bundle: PathBuf,
    /// A socket that is sent the master of the container's terminal.
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Where the container's host process id goes.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Taken for runc's sake: the root is changed without pivot_root(2) anyway.
    #[arg(long)]
    pub no_pivot: bool,
    /// Taken for runc's sake: a container has no keyring of the host.
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Descriptors to pass in beside the standard ones: must be 0.
    #[arg(long, default_value_t = 0)]
    pub preserve_fds: u32,
    /// Its name.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// As for `create`.
    #[command(flatten)]
    pub create: Create,
    /// Come back at once.
    #[arg(short, long)]
    pub detach: bool,
    /// Keep the container once it has stopped.
    #[arg(long)]
    pub keep: bool,
    /// Taken for runc's sake: nothing of a sandbox outlives its monitor.
    #[arg(long)]
    pub no_subreaper: bool,
}

/// `kill`.
#[derive(Debug, Args)]
pub struct Kill {
    /// To every process of the container.
    #[arg(short, long)]
    pub all: bool,
    /// Which container.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
    /// Name or number.
    #[arg(default_value = "SIGTERM")]
    pub signal: String,
}

/// `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Also if it runs, and if it is not there.
    #[arg(short, long)]
    pub force: bool,
    /// Which container.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// `exec`.
#[derive(Debug, Args)]
pub struct Exec {
    /// A socket that is sent the master of the process's terminal.
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Working directory.
    #[arg(long)]
    pub cwd: Option<PathBuf>,
    /// Set a variable (may be given again).
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Give it a terminal.
    #[arg(short, long)]
    pub tty: bool,
    /// Who it is.
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// Groups beside the first (may be given again).
    #[arg(short = 'g', long, value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// A file with the process, as config.json has one.
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Come back at once.
    #[arg(short, long)]
    pub detach: bool,
    /// Where the host process id goes.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Ignored: no label of the host's applies inside.
    #[arg(long)]
    pub process_label: Option<String>,
    /// Ignored: no profile of the host's applies inside.
    #[arg(long)]
    pub apparmor: Option<String>,
    /// No privileges by execve(2).
    #[arg(long)]
    pub no_new_privs: bool,
    /// A capability more (may be given again).
    #[arg(short, long, value_name = "CAPABILITY")]
    pub cap: Vec<String>,
    /// Descriptors to pass in beside the standard ones: must be 0.
    #[arg(long, default_value_t = 0)]
    pub preserve_fds: u32,
    /// A control group below the container's: not supported.
    #[arg(long)]
    pub cgroup: Option<String>,
    /// Wait until a paused container goes on.
    #[arg(long)]
    pub ignore_paused: bool,
    /// Which container.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM [ARGS]")]
    pub command: Vec<String>,
}

/// How lists are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// `ps`.
#[derive(Debug, Args)]
pub struct Ps {
    /// How.
    #[arg(short, long, value_enum, default_value_t = ListFormat::Table)]
    pub format: ListFormat,
    /// Which container.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
    /// What ps(1) is called with [default: -ef].
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

/// `list`.
#[derive(Debug, Args)]
pub struct List {
    /// How.
    #[arg(short, long, value_enum, default_value_t = ListFormat::Table)]
    pub format: ListFormat,
    /// Names only.
    #[arg(short, long)]
    pub quiet: bool,
}

/// `update`.
#[derive(Debug, Args)]
pub struct Update {
    /// A file with `linux.resources`; `-` for standard input.
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Weight among control groups, 10 to 1000.
    #[arg(long)]
    pub blkio_weight: Option<u16>,
    /// Length of a period in microseconds.
    #[arg(long)]
    pub cpu_period: Option<u64>,
    /// Microseconds of processor time in a period.
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Weight among control groups.
    #[arg(long, alias = "cpu-shares")]
    pub cpu_share: Option<u64>,
    /// Which processors.
    #[arg(long)]
    pub cpuset_cpus: Option<String>,
    /// Which memory nodes.
    #[arg(long)]
    pub cpuset_mems: Option<String>,
    /// Memory at most (k, m, g; -1 for no limit).
    #[arg(long, value_parser = parse_memory, allow_hyphen_values = true)]
    pub memory: Option<i64>,
    /// Memory that is kept for the container where it is short.
    #[arg(long, value_parser = parse_memory, allow_hyphen_values = true)]
    pub memory_reservation: Option<i64>,
    /// Memory and swap together at most.
    #[arg(long, value_parser = parse_memory, allow_hyphen_values = true)]
    pub memory_swap: Option<i64>,
    /// Processes at most.
    #[arg(long, allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Which container.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// How often what is used is printed.
    #[arg(long, value_parser = parse_interval, default_value = "5s")]
    pub interval: std::time::Duration,
    /// Print what is used, once.
    #[arg(long)]
    pub stats: bool,
    /// Which container.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// `spec`.
#[derive(Debug, Args)]
pub struct Spec {
    /// Where it is written to.
    #[arg(short, long, default_value = ".")]
    pub bundle: PathBuf,
    /// For a container of an ordinary user.
    #[arg(long)]
    pub rootless: bool,
}

/// What is not there.
#[derive(Debug, Args)]
pub struct Refused {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<String>,
}

/// `install` and `uninstall`.
#[derive(Debug, Args)]
pub struct Install {
    /// Docker's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/docker/daemon.json")]
    pub config: PathBuf,
    /// The name for `docker run --runtime NAME`.
    #[arg(long, value_name = "NAME", default_value = "trapbox")]
    pub name: String,
    /// What the runtime is called with (may be given again), for example --overlay=memory.
    #[arg(long = "runtime-arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// Bytes, with runc's units; -1 is no limit.
fn parse_memory(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let lower = text.to_ascii_lowercase();
    let plain = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, shift) = match plain.chars().last() {
        Some('k') => (plain.strip_suffix('k'), 10),
        Some('m') => (plain.strip_suffix('m'), 20),
        Some('g') => (plain.strip_suffix('g'), 30),
        Some('t') => (plain.strip_suffix('t'), 40),
        _ => (Some(plain), 0),
    };
    let number: i64 =
        digits.unwrap_or_default().parse().map_err(|_| format!("'{text}' is no size; use k, m or g"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("'{text}' is too large"))
}

/// As Go writes durations, of one unit.
fn parse_interval(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("'{text}' is no duration; use ms, s, m or h");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..at].parse().map_err(|_| wrong())?;
    let milliseconds = match &text[at..] {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    milliseconds.filter(|&length| length > 0).map(std::time::Duration::from_millis).ok_or_else(wrong)
}

/// Runs the command; the exit code.
pub fn main() -> u8 {
    let parsed = Options::command().try_get_matches().and_then(|matches| Options::from_arg_matches(&matches));
    let options = match parsed {
        Ok(options) => options,
        Err(error) => {
            let wrong = error.use_stderr();
            let _ = error.print();
            return u8::from(wrong);
        }
    };
    log::open(&options.global);
    match run(options) {
        Ok(code) => code,
        Err(error) => {
            log::error(&format!("{error:#}"));
            1
        }
    }
}

fn run(options: Options) -> anyhow::Result<u8> {
    let global = &options.global;
    match options.verb {
        Verb::Create(create) => verbs::create::create(global, &create),
        Verb::Start(id) => verbs::start::start(global, &id.id),
        Verb::Run(run) => verbs::run::run(global, &run),
        Verb::State(id) => verbs::state::state(global, &id.id),
        Verb::Kill(kill) => verbs::kill::kill(global, &kill),
        Verb::Delete(delete) => verbs::delete::delete(global, &delete),
        Verb::Exec(exec) => verbs::exec::exec(global, &exec),
        Verb::Ps(ps) => verbs::ps::ps(global, &ps),
        Verb::List(list) => verbs::list::list(global, &list),
        Verb::Pause(id) => verbs::pause::pause(global, &id.id),
        Verb::Resume(id) => verbs::pause::resume(global, &id.id),
        Verb::Update(update) => verbs::update::update(global, &update),
        Verb::Events(events) => verbs::events::events(global, &events),
        Verb::Spec(spec) => verbs::spec::spec(&spec),
        Verb::Features => verbs::features::features(),
        Verb::Checkpoint(_) | Verb::Restore(_) => {
            anyhow::bail!("checkpoint and restore are not supported: a sandbox's kernel cannot be saved")
        }
        Verb::Install(install) => verbs::install::install(&install),
        Verb::Uninstall(install) => verbs::install::uninstall(&install),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn the_calls_that_containerd_makes_are_understood() {
        for line in [
            "trapbox --root /r --log /l --log-format json create --bundle /b --pid-file /p --console-socket /s id",
            "trapbox --root /r --log /l --log-format json --systemd-cgroup exec --process /f --detach --pid-file /p id",
            "trapbox ps --format json id",
            "trapbox update --resources - id",
            "trapbox kill --all id 9",
            "trapbox kill id",
            "trapbox delete --force id",
            "trapbox exec -t -e A=1 --cwd /tmp id sh -c true",
            "trapbox events --stats --interval 1s id",
        ] {
            Options::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn sizes_and_durations_are_as_runc_takes_them() {
        assert_eq!(parse_memory("64m"), Ok(64 << 20));
        assert_eq!(parse_memory("-1"), Ok(-1));
        assert_eq!(parse_memory("7"), Ok(7));
        assert!(parse_memory("m").is_err() && parse_memory("9999999999t").is_err());
        assert_eq!(parse_interval("2s"), Ok(std::time::Duration::from_secs(2)));
        assert!(parse_interval("5").is_err() && parse_interval("0s").is_err());
    }
}
