//! `trapbox`, the OCI runtime: what containerd, Docker and Podman call to create, start and end containers, with runc's verbs, flags
//! and messages. The program of a container runs in a sandbox as `sandbox-exec` makes it.
//!
//! A container is a *monitor* process (`monitor.rs`), which is what the caller takes for the container's init: its host process id
//! is reported, it ends as the program ends, and the sandbox ends with it. Everything else about a container is in a directory
//! (`state.rs`), so that a verb needs nothing but that and the monitor's socket (`control.rs`).

mod cgroup;
pub mod command;
mod console;
mod control;
pub mod fields;
mod hooks;
mod inside;
mod log;
mod monitor;
mod mounts;
mod namespaces;
mod network;
mod personality;
mod plan;
mod pod;
mod process;
mod scheduling;
mod seccomp;
mod signals;
mod start_hooks;
mod state;
mod usage;
mod verbs;
mod word;
