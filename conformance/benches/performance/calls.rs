//! Single calls: `benches/calls.c`, run as a whole in turns.

use crate::{Row, Table, Way, median, quick};
use anyhow::{Context, Result, ensure};
use conformance::{compile, scratch};
use std::path::Path;

const RUNS: usize = 5;

/// Names as `calls.c` has them, what they are, and the ratio that is aimed at.
const CALLS: &[(&str, &str, Option<f64>)] = &[
    ("getppid", "`getppid`", Some(0.3)),
    ("clock_gettime", "`clock_gettime` (vDSO)", None),
    ("clock_thread", "`clock_gettime` of a thread's time", Some(1.25)),
    ("sched_yield", "`sched_yield`", Some(1.25)),
    ("lseek", "`lseek`", Some(0.5)),
    ("fcntl", "`fcntl(F_GETFL)`", Some(0.5)),
    ("dup+close", "`dup` + `close`", Some(0.5)),
    ("fstat", "`fstat`", Some(0.5)),
    ("stat", "`stat`, hot, tmpfs", Some(0.6)),
    ("stat_usr", "`stat`, hot, read-only host tree", Some(0.6)),
    ("stat_missing", "`stat` of what is not there", Some(0.6)),
    ("stat_cold", "`stat`, cold, read-only host tree", None),
    ("getdents", "`getdents` of 10,000 entries", Some(0.5)),
    ("open+close", "`open` + `close`, tmpfs", Some(0.6)),
    ("open+close_usr", "`open` + `close`, read-only host tree", Some(0.6)),
    ("create+unlink", "`open(O_CREAT)` + `close` + `unlink`, tmpfs", None),
    ("pread_1", "`pread` 1 B, tmpfs", Some(0.5)),
    ("pread_4k", "`pread` 4 KiB, tmpfs", Some(0.5)),
    ("pwrite_1", "`pwrite` 1 B, tmpfs", Some(0.5)),
    ("pwrite_4k", "`pwrite` 4 KiB, tmpfs", Some(0.5)),
    ("pread_1m", "`pread` 1 MiB, tmpfs", None),
    ("pwrite_1m", "`pwrite` 1 MiB, tmpfs", None),
    ("pipe", "pipe, `write` + `read` 1 B", Some(0.5)),
    ("pipe_4k", "pipe, `write` + `read` 4 KiB", Some(0.5)),
    ("eventfd", "eventfd, `write` + `read`", Some(0.5)),
    ("unix_pair", "unix socket pair, `write` + `read` 1 B", Some(0.6)),
    ("tcp_pair", "loopback TCP, `write` + `read` 1 B", Some(0.6)),
    ("unix_round", "unix socket, round trip between threads", Some(0.6)),
    ("tcp_round", "loopback TCP, round trip between threads", Some(0.6)),
    ("unix_64k", "unix socket, 64 KiB to another thread", None),
    ("tcp_64k", "loopback TCP, 64 KiB to another thread", None),
    ("poll", "`poll`, nothing ready, no time", Some(0.5)),
    ("epoll_wait", "`epoll_wait`, one ready", Some(0.5)),
    ("futex_wake", "`futex` wake, nobody waits", Some(1.25)),
    ("sigprocmask", "`rt_sigprocmask`", Some(0.5)),
    ("signal_self", "signal to self with a handler", None),
    ("mmap+munmap", "`mmap` + `munmap` 64 KiB", Some(1.25)),
    ("mprotect", "`mprotect`", Some(1.25)),
    ("madvise", "`madvise(DONTNEED)`", Some(1.25)),
    ("thread", "thread create + join", Some(1.25)),
    ("fork", "`fork` + `exit` + `wait`", Some(1.3)),
    ("vfork", "`vfork` + `exec /bin/true` + `wait`", Some(1.0)),
    ("spawn", "`posix_spawn` `/bin/true` + `wait`", Some(1.0)),
    ("ping_threads", "pipe ping-pong, two threads", Some(0.3)),
    ("ping_processes", "pipe ping-pong, two processes", Some(1.1)),
];

/// Making and removing a name: on a filesystem in the host's memory. ext4 without a journal looks at each inode of the last five
/// seconds before it gives one out (`recently_deleted`), which comes to milliseconds for whoever runs second.
const CREATE: &str = "create+unlink";

/// The other calls that reach a file of the host, with `--bind`.
const HOST: &[&str] = &[
    "fstat",
    "stat",
    "open+close",
    "pread_1",
    "pread_4k",
    "pwrite_1",
    "pwrite_4k",
    "getdents",
    "pread_1m",
    "pwrite_1m",
];

fn figures(way: &Way, argv: &[&str], directory: &Path) -> Result<Vec<(String, f64)>> {
    let (program, arguments) = argv.split_first().context("no program")?;
    let brief = if quick() { &["-q"][..] } else { &[] };
    let argv = [&[*program], brief, arguments].concat();
    let output = way.command(&argv, directory)?.output()?;
    ensure!(output.status.success(), "{} does not run the calls: {}", way.name, output.status);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    text.lines().map(|text| line(text).with_context(|| format!("calls printed {text:?}"))).collect()
}

fn table(
    ways: &[Way],
    title: &'static str,
    of: impl Fn(&Way) -> Result<Vec<(String, f64)>>,
    names: &[&str],
    aims: bool,
) -> Result<Table> {
    let mut runs = Vec::new();
    for _ in 0..if quick() { 1 } else { RUNS } {
        let run: Result<Vec<_>> = ways.iter().map(&of).collect();
        runs.push(run?);
    }
    let value = |way: usize, name: &str| {
        let of_run = |run: &Vec<Vec<(String, f64)>>| {
            run.get(way)?.iter().find(|(found, _)| found == name).map(|(_, value)| *value)
        };
        let values: Vec<f64> = runs.iter().filter_map(of_run).collect();
        median(values)
    };
    let rows = CALLS.iter().filter(|(name, ..)| names.is_empty() || names.contains(name)).map(
        |(name, what, aim)| Row {
            name: what.replace(", tmpfs", if aims { ", tmpfs" } else { "" }),
            values: (0..ways.len()).map(|way| value(way, name)).collect(),
            aim: if aims { *aim } else { None },
        },
    );
    Ok(Table::new(title, "ns", rows.collect()))
}

fn program(directory: &Path) -> Result<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/calls.c");
    let program = directory.join("calls");
    compile("gcc", &["-O2", "-pthread", "-D_GNU_SOURCE"], &source, &program)?;
    Ok(program.to_string_lossy().into_owned())
}

/// Calls on what the kernel has by itself: files in memory (`/dev/shm`), pipes, processes.
pub fn measure(ways: &[Way]) -> Result<Table> {
    let directory = scratch()?;
    let program = program(directory.path())?;
    // bubblewrap's calls are the host's: two ways are enough, and gVisor's where it is.
    let of = |way: &Way| figures(way, &[&program, "/dev/shm"], directory.path());
    let mut table = table(ways, "Calls", of, &[], true)?;
    // The way in that always works: a trap for each call.
    let trapping = ways.iter().map(|way| way.with_options(&["--no-patch"]));
    let trapped: Result<Vec<f64>> = trapping
        .map(|way| {
            let found = figures(&way, &[&program, "/dev/shm", "getppid"], directory.path())?;
            Ok(found.first().map_or(f64::NAN, |(_, value)| *value))
        })
        .collect();
    table
        .rows
        .insert(1, Row { name: "`getppid`, trapped (`--no-patch`)".into(), values: trapped?, aim: None });
    Ok(table)
}

/// Calls on a file of the host that is shared with it, which go through to the host.
pub fn measure_host_files(ways: &[Way]) -> Result<Table> {
    let directory = scratch()?;
    let shared = scratch()?;
    let in_memory = tempfile::tempdir_in("/dev/shm")?;
    let program = program(directory.path())?;
    let at = |way: &Way, place: &Path, names: &[&str]| {
        let place = place.to_string_lossy();
        let bound = way.with_options(&["--bind", &place]);
        figures(&bound, &[&[program.as_str(), &place], names].concat(), directory.path())
    };
    let of = |way: &Way| {
        let mut all = at(way, shared.path(), HOST)?;
        // The others have a /dev of their own: the directory is not there.
        if way.name == "native" || way.name == "sandbox-exec" {
            all.extend(at(way, in_memory.path(), &[CREATE])?);
        }
        Ok(all)
    };
    table(ways, "Calls on a file of the host (`--bind`)", of, &[HOST, &[CREATE]].concat(), false)
}
