//! From an ELF file or a script to a list of mappings and an initial stack, as Linux makes them.
//!
//! The crate is pure logic: it reads a file through [`Image`], decides, and hands back data. It makes no system
//! call and touches no memory but its own, so the kernel uses it for `execve` and the launcher outside uses it to
//! map the kernel image itself. An `execve` goes through it like this:
//!
//! 1. [`script::parse`] on the first bytes of the file; while it is a script, [`script::Script::rewrite_argv`] and
//!    start again with the interpreter, at most [`script::MAX_REWRITES`] times.
//! 2. [`elf::parse`], and [`elf::parse_interpreter`] on the file that `PT_INTERP` names.
//! 3. [`stack::check_limits`]. From here on Linux has thrown the old program away.
//! 4. [`plan::choose_bias`] and [`plan::plan`] for both files; the kernel carries out the [`plan::Step`]s.
//! 5. [`stack::build`], copied to the new program; start at the entry point of the interpreter, if any.
//!
//! Every byte read is hostile. Nothing here panics: the lints below forbid the constructs that could.

#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

extern crate alloc;

pub mod elf;
pub mod error;
pub mod image;
pub mod page;
pub mod plan;
pub mod script;
pub mod section;
pub mod stack;

pub use elf::{Kind, Program, Prot, Segment, parse, parse_interpreter};
pub use error::{Errno, LoadError};
pub use image::Image;
pub use plan::{Limits, Plan, Step, Window, choose_bias, choose_brk};
pub use section::section_range;
