//! Random system calls inside a sandbox (`conformance/fuzz/calls.c`): the kernel must survive them. A short, fixed count here;
//! `ci/fuzz SECONDS` runs more, with other seeds.

use conformance::{compile, run, sandbox_exec, scratch};
use std::path::Path;
use std::process::Command;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// `FUZZ_SEED` and the seeds after it, `FUZZ_RUNS` of them, each for `FUZZ_SECONDS` at most and for `FUZZ_CALLS` calls a process.
#[test]
fn random_calls_do_not_end_the_sandbox() {
    let directory = scratch().expect("a directory");
    let program = directory.path().join("calls");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/calls.c");
    compile("gcc", &["-O1", "-w"], &source, &program).expect("compiles");
    let seed = setting("FUZZ_SEED", 1);
    let (seconds, calls) = (setting("FUZZ_SECONDS", 3).to_string(), setting("FUZZ_CALLS", 4000).to_string());
    for seed in seed..seed + setting("FUZZ_RUNS", 4) {
        for options in [&["--pids=200", "--memory=256M"][..], &["--pids=200", "--memory=256M", "--bind", "."]]
        {
            let fresh = scratch().expect("a directory");
            let mut command = Command::new(sandbox_exec());
            command
                .args(options)
                // Not where it may be written to: one that runs can be cut (there is no ETXTBSY), which ends it.
                .arg("--")
                .arg(&program)
                .args([&seed.to_string(), &seconds, &calls])
                .current_dir(fresh.path());
            let outcome = run(&mut command).expect("it ends");
            assert_eq!(outcome.status, 0, "seed {seed}, {options:?}: {}", outcome.stderr);
        }
    }
}
