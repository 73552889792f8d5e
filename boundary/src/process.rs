//! What a process starts with that is not made by another one inside: the first one, and those that enter a running sandbox.

use crate::boot::MountSpec;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Longest encoded [`Process`] of one that enters, or [`Container`]: what arguments, environment and a filter need at most.
pub const MAX_PROCESS: u64 = 4 << 20;

/// A process to start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its name and arguments (argv). Never empty.
    pub argv: Vec<Vec<u8>>,
    /// Path of the program inside the sandbox: absolute, relative to `cwd`, or a bare name that is looked for in the `PATH` of
    /// `env`.
    pub program: Vec<u8>,
    /// Environment, `NAME=value` each.
    pub env: Vec<Vec<u8>>,
    /// Working directory inside the sandbox.
    pub cwd: Vec<u8>,
    /// User id (real, effective, saved).
    pub uid: u32,
    /// Group id, likewise.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// umask(2).
    pub umask: u32,
    /// `None`: user 0 has every capability, others none.
    pub capabilities: Option<Capabilities>,
    /// prctl(2) `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// Resource limits by `RLIMIT_*` number: soft, hard; `u64::MAX` is infinity, also of those left out.
    pub rlimits: Vec<(u64, u64)>,
    /// Signals that it ignores from the start, as its caller has it: bit 0 is signal 1.
    pub ignored_signals: u64,
    /// `/proc/PID/oom_score_adj`.
    pub oom_score_adj: i32,
    /// personality(2).
    pub personality: u32,
    /// How its threads ask to be scheduled.
    pub scheduling: Scheduling,
    /// Filters of its calls (seccomp(2)), each a program of `sock_filter`s, eight bytes in memory order each.
    pub filters: Vec<Vec<u64>>,
}

/// A container that joins others on their kernel: a pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Container {
    /// Its name: no other's in the pod.
    pub id: String,
    /// Its first process.
    pub first: Process,
    /// Whose process ids it has.
    pub process_ids: ProcessIds,
    /// Its mount table, as [`BootConfig::mounts`](crate::boot::BootConfig::mounts); host paths are below the directory that comes
    /// with it.
    pub mounts: Vec<MountSpec>,
}

/// Whose process ids a container has that joins others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessIds {
    /// Nobody else's: its first process is number 1.
    #[default]
    Own,
    /// Those of the sandbox, which sees all.
    Sandboxs,
    /// Those of another container, by that one's name.
    Of(String),
}

/// How a thread asks to be scheduled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// `SCHED_OTHER`, `SCHED_BATCH` or `SCHED_IDLE` (sched(7)).
    pub policy: u32,
    /// Nice value, -20 to 19.
    pub nice: i32,
    /// Children do not inherit privileges (`SCHED_FLAG_RESET_ON_FORK`).
    pub reset_on_fork: bool,
    /// What ioprio_set(2) sets; 0: nothing was set.
    pub io_priority: u16,
}

/// Sets of capabilities(7), a bit for each by its number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// What no program that it executes can exceed.
    pub bounding: u64,
    /// What it may do.
    pub effective: u64,
    /// What it may take up.
    pub permitted: u64,
    /// What may pass to programs that it executes.
    pub inheritable: u64,
    /// What does pass to them.
    pub ambient: u64,
}
