//! Messages on the control socket: `postcard`-encoded, one a packet, at most [`MAX_MESSAGE`] bytes.
//!
//! The supervisor treats what it receives as hostile: a packet that is too long or does not decode ends the
//! sandbox with a report; text is shown with control characters escaped.

use alloc::string::String;
use serde::{Deserialize, Serialize};

/// Longest packet in either direction.
pub const MAX_MESSAGE: usize = 16 << 10;

/// The first process, as messages name it; those that enter later have numbers of the supervisor's choice.
pub const FIRST: u32 = 0;

/// From the warden to the supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum FromSandbox {
    /// A process executes its program.
    Started {
        /// Which.
        process: u32,
    },
    /// A process has ended. After the first one's end the warden exits.
    Exited {
        /// Which.
        process: u32,
        /// A wait status as wait(2) has it.
        status: i32,
    },
    /// The program could not be executed at all.
    NotExecuted {
        /// Whose.
        process: u32,
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

/// As [`FromSandbox::Fatal`], byte for byte, for one who must not allocate.
///
/// # Errors
/// The buffer is too small.
pub fn encode_fatal<'b>(report: &str, buffer: &'b mut [u8]) -> Result<&'b [u8], postcard::Error> {
    /// The variants of [`FromSandbox`] in their order.
    #[derive(Serialize)]
    enum Brief<'a> {
        #[allow(dead_code, reason = "keeps the place")]
        Started,
        #[allow(dead_code, reason = "keeps the place")]
        Exited,
        #[allow(dead_code, reason = "keeps the place")]
        NotExecuted,
        Fatal {
            report: &'a str,
        },
    }
    postcard::to_slice(&Brief::Fatal { report }, buffer).map(|bytes| &*bytes)
}

/// Most descriptors that come with a message.
pub const MAX_DESCRIPTORS: usize = 5;

/// Standard files of a process that enters.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Standard {
    /// A terminal of the sandbox's own, passed on through a stream socket that does not block.
    Terminal {
        /// Size of its window: rows, columns, and both in pixels.
        size: [u16; 4],
    },
    /// Descriptors as they are.
    Files {
        /// For each of the three its flags (fcntl(2) `F_GETFL`), or `None` where it is closed and does not come along.
        flags: [Option<u32>; 3],
    },
}

/// From the supervisor to the warden.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToSandbox {
    /// Start another process: with descriptors, first of a memory file with a [`Process`](crate::process::Process), then those of
    /// its `standard` files.
    Enter {
        /// Its number, not used before.
        process: u32,
        /// The container whose tree it sees: the number of its first process.
        container: u32,
        /// Bytes of the encoded process, at most [`MAX_PROCESS`](crate::process::MAX_PROCESS).
        length: u64,
        /// Its standard input, output and error.
        standard: Standard,
    },
    /// Start the first process of another container of the pod: with descriptors, first of a memory file with a
    /// [`Container`](crate::process::Container), then of the directory with its tree, then those of its `standard` files.
    Contain {
        /// Its number, not used before, and the container's.
        process: u32,
        /// Bytes of the encoded container, at most [`MAX_PROCESS`](crate::process::MAX_PROCESS).
        length: u64,
        /// Its standard input, output and error.
        standard: Standard,
    },
    /// Send this signal to a process.
    Signal {
        /// Which.
        process: u32,
        /// Signal number.
        number: i32,
    },
    /// Send this signal to the first process's group, as the keyboard of a terminal does.
    Key {
        /// Signal number.
        number: i32,
    },
    /// Send this signal to every process of a container.
    SignalAll {
        /// The number of its first process.
        container: u32,
        /// Signal number.
        number: i32,
    },
    /// The window that is a process's terminal outside has another size now: rows, columns, and both in pixels.
    WindowChanged {
        /// Whose.
        process: u32,
        /// As `struct winsize` has them.
        size: [u16; 4],
    },
    /// A process's terminal outside has gone: the sandbox's own is hung up.
    TerminalGone {
        /// Whose.
        process: u32,
    },
    /// The first process, which waits for it ([`BootOptions::held`](crate::boot::BootOptions::held)), may execute its program.
    Go,
    /// There may be this many tasks from now on. Those that there are stay.
    Tasks {
        /// At most.
        limit: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brief_fatal_report_is_read_as_any_other() {
        let mut buffer = [0; 64];
        let bytes = encode_fatal("lost", &mut buffer).expect("fits");
        assert!(matches!(postcard::from_bytes(bytes), Ok(FromSandbox::Fatal { report }) if report == "lost"));
    }
}
