//! The filesystem in memory.
