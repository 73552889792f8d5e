//! `--strace`: one line a call, as strace(1) prints it.

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
use trap_handler::host;

/// Longest string that is shown.
const MAX_STRING: usize = 32;

/// Whether calls are to be printed.
pub fn enabled() -> bool {
    boot::config().is_some_and(|config| config.fds.strace >= 0)
}

/// The part of a line that is known before the call: name and arguments that the program passes in.
pub fn entry(number: u64, row: Option<&Row>, args: &Args) -> String {
    let Some(row) = row else { return format!("{}(...)", crate::names::describe(number)) };
    let mut text = String::from(row.name);
    text.push('(');
    for (index, show) in row.show.iter().enumerate() {
        if *show == Show::Octal && index > 0 && !makes_file(row, args, index) {
            break;
        }
        if index > 0 {
            text.push_str(", ");
        }
        if *show == Show::BytesOut {
            // Filled by the call: shown from its result.
            text.push('\u{1}');
            continue;
        }
        argument(&mut text, *show, args, index);
    }
    text.push(')');
    text
}

/// Whether the mode at `index` means something: only with open(2)'s flags before it that make a file.
fn makes_file(row: &Row, args: &Args, index: usize) -> bool {
    const MAKING: u64 = 0o20_000_100;
    !row.name.starts_with("open") || args.u64(index - 1) & MAKING != 0
}

/// Writes the line of a call that does not return.
pub fn last(mut line: String) {
    line.push_str(" = ?\n");
    write(line);
}

/// Completes the line with the result and writes it.
pub fn exit(mut line: String, row: Option<&Row>, args: &Args, result: &Result<u64>) {
    if let Some(row) = row
        && let Some(index) = row.show.iter().position(|show| *show == Show::BytesOut)
    {
        let shown = match result {
            Ok(count) => quoted(args.u64(index), *count as usize),
            Err(_) => address(args.u64(index)),
        };
        line = line.replace('\u{1}', &shown);
    }
    match result {
        Ok(value) if *value > 0xffff_ffff => {
            let _ = writeln!(line, " = {value:#x}");
        }
        Ok(value) => {
            let _ = writeln!(line, " = {value}");
        }
        Err(errno @ (Errno::ERESTARTSYS | Errno::ERESTARTNOHAND | Errno::ERESTART_RESTARTBLOCK)) => {
            let _ = writeln!(line, " = ? {errno} (To be restarted if SA_RESTART is set)");
        }
        Err(errno) => {
            let _ = writeln!(line, " = -1 {errno} ({})", flags::message(*errno));
        }
    }
    write(line);
}

fn write(line: String) {
    let many = lock_table().is_ok_and(|table| table.len() > 1);
    let prefixed = if many { format!("[pid {:>5}] {line}", thread::current().task.tid()) } else { line };
    if let Some(config) = boot::config() {
        let _ = host::write(config.fds.strace, prefixed.as_bytes().into());
    }
}

fn address(value: u64) -> String {
    if value == 0 { "NULL".into() } else { format!("{value:#x}") }
}

fn argument(text: &mut String, show: Show, args: &Args, index: usize) {
    let value = args.u64(index);
    let _ = match show {
        Show::Int => write!(text, "{}", args.i64(index) as i32 as i64),
        Show::Unsigned => write!(text, "{value}"),
        Show::Octal => write!(text, "0{:o}", args.u32(index)),
        Show::Fd if args.i32(index) == linux_raw_sys::general::AT_FDCWD => write!(text, "AT_FDCWD"),
        Show::Fd => write!(text, "{}", args.i32(index)),
        Show::Signal => match flags::SIGNALS.iter().find(|(number, _)| *number == value) {
            Some((_, name)) => write!(text, "{name}"),
            None => write!(text, "{}", args.i32(index)),
        },
        Show::Path => match uaccess::read_path(value) {
            Ok(path) => write!(text, "{}", escape(&path, false)),
            Err(_) => write!(text, "{}", address(value)),
        },
        Show::BytesIn => write!(text, "{}", quoted(value, args.u64(index + 1) as usize)),
        Show::Strings => write!(text, "{}", strings(value)),
        Show::Flags(table) => write!(text, "{}", flags::names(table, value)),
        Show::OneOf(table) => match table.iter().find(|(number, _)| *number == value) {
            Some((_, name)) => write!(text, "{name}"),
            None => write!(text, "{value:#x}"),
        },
        Show::Address | Show::BytesOut => write!(text, "{}", address(value)),
    };
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
    while shown.len() < MAX_STRING {
        match uaccess::read::<u64>(address) {
            Ok(0) => break,
            Ok(pointer) => {
                let string = uaccess::read_string(pointer, 4096, Errno::E2BIG).unwrap_or_default();
                let cut = string.len() > MAX_STRING;
                shown.push(escape(string.get(..MAX_STRING).unwrap_or(&string), cut));
            }
            Err(_) => return self::address(at),
        }
        address = address.wrapping_add(8);
    }
    format!("[{}]", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_strace_escapes_them() {
        assert_eq!(escape(b"a\n\"\\\x01\x7f", false), "\"a\\n\\\"\\\\\\1\\177\"");
        assert_eq!(escape(b"\x001", true), "\"\\0001\"...");
    }
}
