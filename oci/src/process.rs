//! A host process, told from a later one with the same number by the time of its start.

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs;

/// A process of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since the host's boot (proc(5)).
    start: u64,
}

impl Process {
    /// The one that has this number now.
    pub fn of(pid: i32) -> Option<Process> {
        stat(pid).map(|(_, start)| Process { pid, start })
    }

    /// This one.
    pub fn own() -> Option<Process> {
        Process::of(std::process::id() as i32)
    }

    /// Whether it is there and has not ended: one that only waits to be reaped has.
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|(state, start)| start == self.start && !matches!(state, 'Z' | 'X'))
    }

    /// Sends it a signal; false if it has gone.
    pub fn signal(&self, signal: Signal) -> bool {
        self.is_alive() && nix::sys::signal::kill(Pid::from_raw(self.pid), signal).is_ok()
    }
}

/// State and time of start.
fn stat(pid: i32) -> Option<(char, u64)> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(stat: &str) -> Option<(char, u64)> {
    // The name is in brackets and may hold anything, brackets too.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let fields: Vec<String> = (1..40).map(|number| number.to_string()).collect();
        let line = format!("7 (a) Z 9) S {}", fields.join(" "));
        assert_eq!(parse(&line), Some(('S', 19)));
    }

    #[test]
    fn a_process_that_waits_to_be_reaped_has_ended() {
        assert!(Process::own().expect("this process").is_alive());
        let mut child = std::process::Command::new("true").spawn().expect("starts");
        let process = Process::of(child.id() as i32).expect("there");
        while process.is_alive() {
            std::thread::yield_now();
        }
        child.wait().expect("reaped");
        assert!(!process.signal(Signal::SIGTERM));
    }
}
