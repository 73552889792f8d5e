//! Calls on signals: rt_sigaction(2), rt_sigprocmask(2), kill(2) and their families.

mod actions;
mod send;
mod waiting;

pub use actions::{check_size, end_temporary_mask, set_temporary_mask};
pub use send::{check_number, read_info, send_group, send_task_to};

use crate::table::Row;

/// The rows of this family, a slice a file.
pub const ROWS: &[&[Row]] = &[actions::ROWS, send::ROWS, waiting::ROWS];
