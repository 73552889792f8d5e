//! Signals by name and number.

use anyhow::Context;
use nix::sys::signal::Signal;

/// The highest number.
const LAST: i32 = 64;
const RTMIN: i32 = 34;

/// Signals that a process which stands for one inside passes on: every one that it can survive, but those that a terminal stops with.
pub const PASSED_ON: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGTERM,
    Signal::SIGCONT,
    Signal::SIGURG,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGWINCH,
];

/// `9`, `KILL`, `SIGKILL`, `RTMIN+3`.
pub fn parse(text: &str) -> anyhow::Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = match name.parse::<i32>() {
        Ok(number) => Some(number),
        Err(_) => named(name),
    };
    number.filter(|number| (0..=LAST).contains(number)).with_context(|| format!("unknown signal {text:?}"))
}

fn named(name: &str) -> Option<i32> {
    let offset = |text: &str, sign: char| match text.strip_prefix(sign) {
        Some(number) => number.parse::<i32>().ok().filter(|number| (0..=30).contains(number)),
        None => text.is_empty().then_some(0),
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return offset(rest, '+').map(|number| RTMIN + number);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return offset(rest, '-').map(|number| LAST - number);
    }
    format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_understood() {
        for (text, number) in
            [("9", 9), ("KILL", 9), ("sigterm", 15), ("RTMIN", 34), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)]
        {
            assert_eq!(parse(text).expect(text), number);
        }
        for text in ["", "65", "-1", "SIGNOTHING", "RTMIN+31", "RTMIN-1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
