//! `trapbox`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(oci::command::main())
}
