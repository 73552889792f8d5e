//! Messages, as runc writes them: to standard error, and with `--log` to a file that the caller reads back.

use crate::command::{Global, LogFormat};
use std::fs::File;
use std::io::Write;
use std::sync::Mutex;

struct Log {
    file: Option<File>,
    format: LogFormat,
}

static LOG: Mutex<Option<Log>> = Mutex::new(None);

/// Opens the log. A file that cannot be written is said so, and is no reason to stop.
pub fn open(global: &Global) {
    let file = global.log.as_ref().and_then(|path| {
        File::options()
            .append(true)
            .create(true)
            .open(path)
            .inspect_err(|error| eprintln!("trapbox: --log {}: {error}", path.display()))
            .ok()
    });
    set(Some(Log { file, format: global.log_format }));
}

/// Closes the log: it belongs to the command, and what the command leaves running does not write to it.
pub fn close() {
    set(None);
}

fn set(log: Option<Log>) {
    if let Ok(mut current) = LOG.lock() {
        *current = log;
    }
}

/// Why the command failed. What is one line here may hold anything.
pub fn error(message: &str) {
    write("error", message);
}

/// What is not done as asked, and does no harm.
pub fn warn(message: &str) {
    write("warning", message);
}

fn write(level: &str, message: &str) {
    let time = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let text = format!("time=\"{time}\" level={level} msg={message:?}\n");
    let Ok(mut log) = LOG.lock() else { return };
    if level == "error" || log.as_ref().is_none_or(|log| log.file.is_none()) {
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
    let Some(Log { file: Some(file), format }) = &mut *log else { return };
    let line = match format {
        LogFormat::Text => text,
        LogFormat::Json => {
            format!("{}\n", serde_json::json!({ "level": level, "msg": message, "time": time }))
        }
    };
    let _ = file.write_all(line.as_bytes());
}
