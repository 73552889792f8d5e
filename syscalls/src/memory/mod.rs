//! Calls on memory: mmap(2) and its family.
use crate::table::Row;

/// The rows of this family.
pub const ROWS: &[Row] = &[];
