//! Calls that go on after an interruption with the time that is left (restart_syscall(2)).

/// What to continue, and until when.
#[derive(Debug, Clone, Copy)]
pub enum Restart {
    /// A sleep until `deadline` (`CLOCK_MONOTONIC`, ns); the remaining time goes to `remaining` if that is not 0.
    Sleep {
        /// When it ends.
        deadline: u64,
        /// Address of a timespec of the program.
        remaining: u64,
    },
    /// A futex wait with an absolute deadline.
    Futex {
        /// futex(2)'s arguments.
        arguments: [u64; 6],
        /// When it ends (`CLOCK_MONOTONIC`, ns).
        deadline: u64,
    },
    /// poll(2) with an absolute deadline.
    Poll {
        /// Address of the pollfd array.
        fds: u64,
        /// Its length.
        count: u64,
        /// When it ends (`CLOCK_MONOTONIC`, ns).
        deadline: u64,
    },
}
