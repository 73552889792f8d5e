//! The outside of a sandbox: command line, host set-up, the filter's compilation, supervision.
//!
//! What comes from inside (control messages, exit states, log lines) is hostile and treated so.

pub mod broker;
pub mod changes;
pub mod command;
pub mod filter;
mod footprint;
mod grants;
pub mod launch;
pub mod program;
pub mod setup;
pub mod stack;
pub mod standard;
pub mod supervisor;
pub mod terminal;
pub mod view;
