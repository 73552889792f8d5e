//! The machine and the process's place in it: uname(2), sysinfo(2), limits, scheduling, prctl(2), random bytes.

mod affinity;
mod capabilities;
mod io_priority;
mod limits;
mod machine;
mod prctl;
mod priority;
mod refusals;
mod scheduling;
pub mod seccomp;

pub use affinity::tell_if_due;
pub use machine::{NAME_MAX, Name, change_name, init, name};

use crate::table::Row;

/// The rows of this family, a slice a file.
pub const ROWS: &[&[Row]] = &[
    affinity::ROWS,
    capabilities::ROWS,
    io_priority::ROWS,
    limits::ROWS,
    machine::ROWS,
    prctl::ROWS,
    priority::ROWS,
    refusals::ROWS,
    scheduling::ROWS,
    seccomp::ROWS,
];
