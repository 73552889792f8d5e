//! Processes: clone(2), execve(2), exit(2), wait4(2), ids.

mod clone;
mod exec;
mod exec_image;
mod exit;
mod ids;
pub mod pidfd;
mod sessions;
mod stop;
mod unshare;
mod wait;
mod zygote;

pub use clone::{Loan, VforkDone, end_loan, look_at_loan};
pub use exec::{ExecRequest, execute};
pub use exit::{exit_group, exit_thread, forget_unborn, reap_tracee, tell_of_end, thread_times};
pub use stop::{come_to_stop, complete_stop, stop_group, tell_of_continuation, wait_while_stopped};
pub use zygote::{init as init_zygote, serve as serve_zygote};

use crate::table::Row;

/// The rows of this family, a slice a file.
pub const ROWS: &[&[Row]] =
    &[clone::ROWS, exec::ROWS, exit::ROWS, ids::ROWS, pidfd::ROWS, sessions::ROWS, unshare::ROWS, wait::ROWS];
