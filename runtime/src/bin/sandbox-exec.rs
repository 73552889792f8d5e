//! `sandbox-exec`: runs a program in a sandbox.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(runtime::command::main())
}
