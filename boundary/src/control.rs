//! Messages on the control socket: `postcard`-encoded, one a packet, at most [`MAX_MESSAGE`] bytes.
//!
//! The supervisor treats what it receives as hostile: a packet that is too long or does not decode ends the
//! sandbox with a report; text is shown with control characters escaped.

use alloc::string::String;
use serde::{Deserialize, Serialize};

/// Longest packet in either direction.
pub const MAX_MESSAGE: usize = 16 << 10;

/// From the warden to the supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum FromSandbox {
    /// The first process has ended: a wait status as wait(2) has it. The warden exits after this.
    Exited {
        /// Wait status.
        status: i32,
    },
    /// The program could not be executed at all.
    ExecFailed {
        /// Linux error number.
        errno: i32,
        /// What was wrong, for people.
        reason: String,
    },
    /// The sandbox ends for a reason of its own (kernel panic, host process lost, filter violation).
    Fatal {
        /// The report, for people; may have several lines.
        report: String,
    },
}

/// From the supervisor to the warden.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToSandbox {
    /// Send this signal to the first process.
    Signal {
        /// Signal number.
        number: i32,
    },
    /// Send this signal to the first process's group, as the keyboard of a terminal does.
    Key {
        /// Signal number.
        number: i32,
    },
    /// The window that the host terminal is has another size now: rows, columns, and both in pixels.
    WindowChanged {
        /// As `struct winsize` has them.
        size: [u16; 4],
    },
    /// The host terminal has gone: the sandbox's own is hung up.
    TerminalGone,
}
