//! Calls on signals: rt_sigaction(2), rt_sigprocmask(2), kill(2) and their families.

mod actions;
mod send;
mod waiting;

use crate::table::Row;

/// The rows of this family, a slice a file.
pub const ROWS: &[&[Row]] = &[actions::ROWS, send::ROWS, waiting::ROWS];
