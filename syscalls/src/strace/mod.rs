//! `--strace`: one line a call, as strace(1) prints it.

pub mod errors;
pub mod flags;

use crate::args::Args;
use crate::table::{Row, Show};
use crate::{Errno, Result, thread};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use kernel::task::lock_table;
use kernel::{boot, uaccess};
use linux_raw_sys::general as raw;
use trap_handler::host;

/// Longest string that is shown.
const MAX_STRING: usize = 32;

/// Whether calls are to be printed.
pub fn enabled() -> bool {
    boot::config().is_some_and(|config| config.fds.strace >= 0)
}

/// Stands for an argument that the call fills, until it has.
const FILLED: char = '\u{1}';

/// The part of a line that is known before the call: name and arguments that the program passes in. The calls that end
/// the thread are written here.
pub fn entry(number: u64, row: Option<&Row>, args: &Args) -> String {
    let Some(row) = row else { return format!("{}(...)", crate::names::describe(number)) };
    let mut text = String::from(row.name);
    text.push('(');
    for (index, show) in row.show.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        match show {
            Show::BytesOut | Show::TimespecOut | Show::LimitOut => text.push(FILLED),
            // The second array of strings is execve(2)'s environment, too long to be shown.
            Show::Strings if row.show.get(..index).is_some_and(|before| before.contains(show)) => {
                environment(&mut text, args.u64(index));
            }
            _ => argument(&mut text, *show, args, index),
        }
    }
    text.push(')');
    if matches!(number as u32, raw::__NR_exit | raw::__NR_exit_group) {
        write_line(&text, "?");
    }
    text
}

/// Completes the line with the result and writes it.
pub fn exit(mut line: String, row: Option<&Row>, args: &Args, result: &Result<u64>) {
    for (index, show) in row.map_or(&[][..], |row| row.show).iter().enumerate() {
        let at = args.u64(index);
        let shown = match (show, result) {
            (Show::BytesOut, Ok(count)) => quoted(at, *count as usize),
            (Show::TimespecOut, Ok(_)) => timespec(at),
            (Show::LimitOut, Ok(_)) => limit(at),
            (Show::BytesOut | Show::TimespecOut | Show::LimitOut, Err(_)) => address(at),
            _ => continue,
        };
        line = line.replacen(FILLED, &shown, 1);
    }
    let number = row.map_or(u32::MAX, |row| u32::from(row.number));
    write_line(&line, &shown_result(number, result));
}

/// What stands behind the equals sign.
fn shown_result(number: u32, result: &Result<u64>) -> String {
    match result {
        Ok(value) => match number {
            raw::__NR_mmap | raw::__NR_mremap | raw::__NR_brk | raw::__NR_shmat => format!("{value:#x}"),
            raw::__NR_umask => format!("0{value:o}"),
            _ => format!("{}", *value as i64),
        },
        Err(errno) => match (errors::restart(*errno), errors::message(*errno)) {
            (Some(how), _) => format!("? {errno} ({how})"),
            (None, Some(message)) => format!("-1 {errno} ({message})"),
            (None, None) => format!("-1 ({errno})"),
        },
    }
}

/// Column of the equals sign.
const RESULT_COLUMN: usize = 40;

fn write_line(call: &str, result: &str) {
    let tid = thread::current().task.tid();
    // As strace(1): the id is shown while there is more than one.
    let many = tid != crate::start::first_id() || lock_table().is_ok_and(|table| table.len() > 1);
    let prefix = if many { format!("[pid {:>5}] ", tid.number()) } else { String::new() };
    let line = aligned(&prefix, call, result);
    if let Some(config) = boot::config() {
        let _ = host::write(config.fds.strace, line.as_bytes().into());
    }
}

fn aligned(prefix: &str, call: &str, result: &str) -> String {
    let width = RESULT_COLUMN.saturating_sub(prefix.len() + 1);
    format!("{prefix}{call:<width$} = {result}\n")
}

fn address(value: u64) -> String {
    if value == 0 { "NULL".into() } else { format!("{value:#x}") }
}

fn argument(text: &mut String, show: Show, args: &Args, index: usize) {
    let value = args.u64(index);
    let _ = match show {
        Show::Int => write!(text, "{}", args.i32(index)),
        Show::Unsigned => write!(text, "{value}"),
        Show::Octal => write!(text, "0{:o}", args.u32(index)),
        Show::Fd if args.i32(index) == raw::AT_FDCWD => write!(text, "AT_FDCWD"),
        Show::Fd => write!(text, "{}", args.i32(index)),
        Show::Signal => write!(text, "{}", signal(args.i32(index))),
        Show::Path => match uaccess::read_path(value) {
            Ok(path) => write!(text, "{}", escape(&path, false)),
            Err(_) => write!(text, "{}", address(value)),
        },
        Show::BytesIn => write!(text, "{}", quoted(value, args.u64(index + 1) as usize)),
        Show::Strings => write!(text, "{}", strings(value)),
        Show::Timespec => write!(text, "{}", timespec(value)),
        Show::Limit => write!(text, "{}", limit(value)),
        Show::OpenFlags => write!(text, "{}", flags::open(u64::from(args.u32(index)))),
        Show::Flags(table) => write!(text, "{}", flags::names(table, value)),
        Show::OneOf(table) => match table.iter().find(|(number, _)| *number == value) {
            Some((_, name)) => write!(text, "{name}"),
            None => write!(text, "{value:#x}"),
        },
        Show::Address | Show::BytesOut | Show::TimespecOut | Show::LimitOut => {
            write!(text, "{}", address(value))
        }
    };
}

fn signal(number: i32) -> String {
    const RTMIN: i32 = 32;
    const MAX: i32 = 64;
    match flags::SIGNALS.iter().find(|(known, _)| i64::from(number) == *known as i64) {
        Some((_, name)) => (*name).into(),
        None if number == RTMIN => "SIGRTMIN".into(),
        None if (RTMIN..=MAX).contains(&number) => format!("SIGRT_{}", number - RTMIN),
        None => format!("{number}"),
    }
}

fn timespec(at: u64) -> String {
    match uaccess::read::<[i64; 2]>(at) {
        Ok([seconds, nanoseconds]) => format!("{{tv_sec={seconds}, tv_nsec={nanoseconds}}}"),
        Err(_) => address(at),
    }
}

fn limit(at: u64) -> String {
    match uaccess::read::<[u64; 2]>(at) {
        Ok([soft, hard]) => format!("{{rlim_cur={}, rlim_max={}}}", limit_value(soft), limit_value(hard)),
        Err(_) => address(at),
    }
}

fn limit_value(value: u64) -> String {
    match value {
        u64::MAX => "RLIM64_INFINITY".into(),
        value if value > 1024 && value % 1024 == 0 => format!("{}*1024", value / 1024),
        value => format!("{value}"),
    }
}

fn quoted(at: u64, length: usize) -> String {
    let shown = length.min(MAX_STRING);
    match uaccess::read_bytes(at, shown) {
        Ok(bytes) => escape(&bytes, length > shown),
        Err(_) => address(at),
    }
}

/// A C string literal of bytes.
fn escape(bytes: &[u8], cut: bool) -> String {
    let mut text = String::from("\"");
    for (index, byte) in bytes.iter().enumerate() {
        let _ = match byte {
            b'\n' => write!(text, "\\n"),
            b'\t' => write!(text, "\\t"),
            b'\r' => write!(text, "\\r"),
            0x0b => write!(text, "\\v"),
            0x0c => write!(text, "\\f"),
            b'"' => write!(text, "\\\""),
            b'\\' => write!(text, "\\\\"),
            0x20..=0x7e => write!(text, "{}", *byte as char),
            // As short as the next character allows.
            _ if bytes.get(index + 1).is_some_and(u8::is_ascii_digit) => write!(text, "\\{byte:03o}"),
            _ => write!(text, "\\{byte:o}"),
        };
    }
    text.push('"');
    if cut {
        text.push_str("...");
    }
    text
}

fn strings(at: u64) -> String {
    let mut shown: Vec<String> = Vec::new();
    let mut address = at;
    loop {
        match uaccess::read::<u64>(address) {
            Ok(0) => break,
            Ok(_) if shown.len() == MAX_STRING => {
                shown.push("...".into());
                break;
            }
            Ok(pointer) => shown.push(string(pointer)),
            Err(_) => return self::address(at),
        }
        address = address.wrapping_add(8);
    }
    format!("[{}]", shown.join(", "))
}

/// A string of the program, cut.
fn string(at: u64) -> String {
    match uaccess::read_string(at, MAX_STRING + 1, Errno::E2BIG) {
        Ok(string) => escape(&string, false),
        Err(Errno::E2BIG) => quoted(at, MAX_STRING + 1),
        Err(_) => address(at),
    }
}

/// An environment: its address and how many variables it has.
fn environment(text: &mut String, at: u64) {
    /// More are not counted.
    const MANY: usize = 4096;
    let mut count = 0;
    while at != 0 && count < MANY {
        match uaccess::read::<u64>(at.wrapping_add(count as u64 * 8)) {
            Ok(0) | Err(_) => break,
            Ok(_) => count += 1,
        }
    }
    let plural = if count == 1 { "" } else { "s" };
    let _ = write!(text, "{} /* {count} var{plural} */", address(at));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_strace_escapes_them() {
        assert_eq!(escape(b"a\n\"\\\x01\x7f", false), "\"a\\n\\\"\\\\\\1\\177\"");
        assert_eq!(escape(b"\x001", true), "\"\\0001\"...");
        assert_eq!(escape(b"\x0b\x0c\t\r", false), "\"\\v\\f\\t\\r\"");
    }

    #[test]
    fn results_stand_in_a_column_and_name_errors() {
        assert_eq!(aligned("", "close(3)", "0"), "close(3)                                = 0\n");
        assert_eq!(aligned("[pid   123] ", "close(3)", "0"), "[pid   123] close(3)                    = 0\n");
        let long = "a".repeat(60);
        assert_eq!(aligned("", &long, "0"), format!("{long} = 0\n"));
        assert_eq!(shown_result(2, &Err(Errno::ENOENT)), "-1 ENOENT (No such file or directory)");
        assert_eq!(shown_result(raw::__NR_brk, &Ok(0x40_0000)), "0x400000");
        assert_eq!(shown_result(raw::__NR_umask, &Ok(0o22)), "022");
        assert_eq!(
            shown_result(0, &Err(Errno::ERESTARTSYS)),
            "? ERESTARTSYS (To be restarted if SA_RESTART is set)"
        );
    }

    #[test]
    fn values_have_the_names_that_strace_gives_them() {
        assert_eq!(signal(11), "SIGSEGV");
        assert_eq!((signal(32), signal(34), signal(65)), ("SIGRTMIN".into(), "SIGRT_2".into(), "65".into()));
        assert_eq!(limit_value(8 << 20), "8192*1024");
        assert_eq!((limit_value(1024), limit_value(u64::MAX)), ("1024".into(), "RLIM64_INFINITY".into()));
    }
}
