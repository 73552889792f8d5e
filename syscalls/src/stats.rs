//! `--stats`: the calls of the sandbox by number, how they came in, and what they cost, as `strace -c` would show them; and
//! the call sites that stay traps.

use crate::table::{self, NUMBERS};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::mm::learned;
use kernel::sync::BootCell;
use kernel::{boot, time};
use trap_handler::host;

/// Sites that are listed at most.
const SITES: usize = 20;

#[derive(Default)]
struct Counters {
    /// Came in through a rewritten site.
    patched: AtomicU64,
    /// Came in through SIGSYS.
    trapped: AtomicU64,
    errors: AtomicU64,
    /// Time-stamp counter units between entry and exit of the call's function, sleeping included.
    cycles: AtomicU64,
}

struct Stats {
    /// By number; the last is for all that the table does not cover.
    calls: Vec<Counters>,
    /// Time-stamp counter and `CLOCK_MONOTONIC` (ns) at boot.
    start: (u64, u64),
}

static STATS: BootCell<Box<Stats>> = BootCell::new();

/// Sets up when asked to. Called once, at boot.
pub fn init() {
    if boot::config().is_some_and(|config| config.fds.stats >= 0) {
        let calls = (0..=NUMBERS).map(|_| Counters::default()).collect();
        STATS.set(Box::new(Stats { calls, start: (cycles(), time::monotonic()) }));
    }
}

/// Whether calls are to be counted.
pub fn enabled() -> bool {
    STATS.get().is_some()
}

fn cycles() -> u64 {
    // SAFETY: the instruction only reads a counter; every x86-64 processor has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// A call that is being counted.
pub struct Counting {
    counters: &'static Counters,
    start: u64,
}

/// Counts a call that starts.
pub fn entry(number: u64, patched: bool) -> Option<Counting> {
    let stats = STATS.get()?;
    let index = usize::try_from(number).map_or(NUMBERS, |number| number.min(NUMBERS));
    let counters = stats.calls.get(index)?;
    let way = if patched { &counters.patched } else { &counters.trapped };
    way.fetch_add(1, Ordering::Relaxed);
    Some(Counting { counters, start: cycles() })
}

/// The call is over.
pub fn exit(counting: Option<Counting>, result: &Result<u64>) {
    let Some(Counting { counters, start }) = counting else { return };
    counters.cycles.fetch_add(cycles().saturating_sub(start), Ordering::Relaxed);
    if result.is_err() {
        counters.errors.fetch_add(1, Ordering::Relaxed);
    }
}

/// One line of the table.
struct Line {
    name: String,
    patched: u64,
    trapped: u64,
    errors: u64,
    /// Nanoseconds.
    time: u64,
}

fn lines(stats: &Stats) -> Vec<Line> {
    let (first_cycle, first_time) = stats.start;
    let passed = cycles().saturating_sub(first_cycle).max(1);
    let time = time::monotonic().saturating_sub(first_time);
    let nanoseconds = |cycles: u64| (u128::from(cycles) * u128::from(time) / u128::from(passed)) as u64;
    let line = |(number, counters): (usize, &Counters)| {
        let name = match table::row(number as u64) {
            Some(row) => row.name.into(),
            None if number == NUMBERS => "(other numbers)".into(),
            None => crate::names::describe(number as u64),
        };
        Line {
            name,
            patched: counters.patched.load(Ordering::Relaxed),
            trapped: counters.trapped.load(Ordering::Relaxed),
            errors: counters.errors.load(Ordering::Relaxed),
            time: nanoseconds(counters.cycles.load(Ordering::Relaxed)),
        }
    };
    let mut lines: Vec<Line> = stats.calls.iter().enumerate().map(line).collect();
    lines.retain(|line| line.patched + line.trapped > 0);
    lines.sort_by_key(|line| core::cmp::Reverse(line.time));
    lines
}

fn write_line(text: &mut String, line: &Line, total: u64) {
    let calls = line.patched + line.trapped;
    let share = line.time as f64 * 100.0 / total.max(1) as f64;
    let seconds = line.time as f64 / 1e9;
    let each = line.time as f64 / 1e3 / calls.max(1) as f64;
    let _ = writeln!(
        text,
        "{share:6.2} {seconds:11.6} {each:11.3} {calls:9} {:9} {:9} {:9} {}",
        line.patched, line.trapped, line.errors, line.name
    );
}

/// Writes the table. The sandbox is about to end.
pub fn report() {
    let (Some(stats), Some(config)) = (STATS.get(), boot::config()) else { return };
    let lines = lines(stats);
    let sum = |of: fn(&Line) -> u64| lines.iter().map(of).sum();
    let total = Line {
        name: "total".into(),
        patched: sum(|line| line.patched),
        trapped: sum(|line| line.trapped),
        errors: sum(|line| line.errors),
        time: sum(|line| line.time),
    };
    let mut text =
        String::from("% time     seconds  usecs/call     calls   patched   trapped    errors syscall\n");
    let rule = "------ ----------- ----------- --------- --------- --------- --------- ----------------\n";
    text.push_str(rule);
    for line in &lines {
        write_line(&mut text, line, total.time);
    }
    text.push_str(rule);
    write_line(&mut text, &total, total.time);
    let unpatched = learned::unpatched();
    if !unpatched.is_empty() {
        let _ = writeln!(text, "\ncall sites that stay traps: {}", unpatched.len());
    }
    for site in unpatched.iter().take(SITES) {
        let path = match &*site.path {
            [] => "memory without a file".into(),
            path => String::from_utf8_lossy(path),
        };
        let _ = writeln!(text, "{:9} {path}+{:#x}: {}", site.traps, site.offset, site.reason);
    }
    write_all(config.fds.stats, text.as_bytes());
}

fn write_all(fd: i32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match host::write(fd, bytes.into()) {
            Ok(0) => return,
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
