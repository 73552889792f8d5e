//! Log lines to the host: one `write` a line, to the descriptor that the supervisor gave.

use crate::boot;
use alloc::string::String;
use core::fmt;
use core::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use trap_handler::host;

/// How grave a line is; the numbers are `BootOptions::log_level`'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The sandbox cannot go on, or something is lost.
    Error = 0,
    /// Something is not as it should be, such as a call that is not implemented.
    Warn = 1,
    /// Worth knowing.
    Info = 2,
    /// For those who debug the program.
    Debug = 3,
    /// For those who debug the kernel.
    Trace = 4,
}

static LEVEL: AtomicU8 = AtomicU8::new(1);
static FD: AtomicI32 = AtomicI32::new(-1);

/// Takes the choices of the boot configuration. Called once.
pub fn init(config: &boundary::boot::BootConfig) {
    LEVEL.store(config.options.log_level, Ordering::Relaxed);
    FD.store(config.fds.log, Ordering::Relaxed);
}

/// Whether lines of this level are written.
pub fn enabled(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// Writes one line; use the macros.
pub fn line(level: Level, text: fmt::Arguments<'_>) {
    if !enabled(level) {
        return;
    }
    let name = match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let mut line = String::new();
    // Writing to a String cannot fail.
    let _ = fmt::write(&mut line, format_args!("trapbox: {name}: {text}\n"));
    raw(line.as_bytes());
}

/// Writes bytes to the log as they are.
pub fn raw(bytes: &[u8]) {
    let fd = FD.load(Ordering::Relaxed);
    if fd >= 0 {
        let _ = host::write(fd, bytes.into());
    }
}

/// Sends a report to the supervisor and ends the sandbox: the last thing a kernel does. The report also goes to the log
/// when there is one.
pub fn fatal(report: &str) -> ! {
    if let Some(config) = boot::config() {
        boot::send(&boundary::control::FromSandbox::Fatal { report: report.into() });
        let _ = config;
    }
    host::exit_group(boot::FATAL_STATUS)
}

/// Logs an error.
#[macro_export]
macro_rules! error { ($($part:tt)*) => { $crate::log::line($crate::log::Level::Error, format_args!($($part)*)) } }
/// Logs a warning.
#[macro_export]
macro_rules! warn { ($($part:tt)*) => { $crate::log::line($crate::log::Level::Warn, format_args!($($part)*)) } }
/// Logs an information.
#[macro_export]
macro_rules! info { ($($part:tt)*) => { $crate::log::line($crate::log::Level::Info, format_args!($($part)*)) } }
/// Logs for those who debug the program.
#[macro_export]
macro_rules! debug { ($($part:tt)*) => { $crate::log::line($crate::log::Level::Debug, format_args!($($part)*)) } }
