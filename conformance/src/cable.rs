//! Two network namespaces with a cable between them, for tests and benches of the sandbox's own stack.

use crate::{Outcome, run, sandbox_exec};
use anyhow::{Result, ensure};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Addresses of the end that is in the sandbox and of the native one.
pub const INSIDE: [&str; 2] = ["10.77.0.2", "fd77::2"];
/// Likewise.
pub const OUTSIDE: [&str; 2] = ["10.77.0.1", "fd77::1"];

/// Two network namespaces with a cable between them, called `eth0` at both ends.
pub struct Cable {
    /// Names of the namespaces.
    pub inside: String,
    outside: String,
    /// One at a time: the host's queue of frames is one for all cables, and what it drops for another test is lost to this one.
    _turn: MutexGuard<'static, ()>,
}

/// Runs ip(8).
///
/// # Panics
/// There is none.
pub fn ip(arguments: &str) -> Outcome {
    run(Command::new("ip").args(arguments.split_whitespace())).expect("iproute2 is installed")
}

impl Cable {
    /// None if this account cannot make it; that is said.
    ///
    /// # Errors
    /// A step of it that fails.
    pub fn new() -> Result<Option<Cable>> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if run(Command::new("id").arg("-u"))?.stdout.trim() != "0" {
            eprintln!("skipped: network namespaces with names need root");
            return Ok(None);
        }
        let id = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let cable = Cable { inside: format!("tb-in-{id}"), outside: format!("tb-out-{id}"), _turn: turn };
        let Cable { inside, outside, .. } = &cable;
        let steps = [
            format!("netns add {inside}"),
            format!("netns add {outside}"),
            format!("-n {inside} link add eth0 type veth peer name eth0 netns {outside}"),
            format!("-n {inside} addr add {}/24 dev eth0", INSIDE[0]),
            format!("-n {outside} addr add {}/24 dev eth0", OUTSIDE[0]),
            format!("-n {inside} addr add {}/64 dev eth0 nodad", INSIDE[1]),
            format!("-n {outside} addr add {}/64 dev eth0 nodad", OUTSIDE[1]),
            format!("-n {inside} link set lo up"),
            format!("-n {outside} link set lo up"),
            format!("-n {inside} link set eth0 up"),
            format!("-n {outside} link set eth0 up"),
            format!("-n {inside} route add default via {}", OUTSIDE[0]),
            format!("-n {inside} -6 route add default via {}", OUTSIDE[1]),
        ];
        for step in steps {
            let outcome = ip(&step);
            ensure!(outcome.status == 0, "ip {step}: {}", outcome.stderr);
        }
        Ok(Some(cable))
    }

    /// A command in the namespace of one end.
    fn command(&self, namespace: &str, argv: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).args(argv).env_remove("http_proxy");
        command
    }

    /// A command in a sandbox that takes the inner end over.
    pub fn sandboxed(&self, options: &[&str], argv: &[&str]) -> Command {
        let sandbox = sandbox_exec();
        let sandbox = sandbox.to_string_lossy();
        self.command(&self.inside, &[&[&*sandbox, "--network=stack"], options, &["--"], argv].concat())
    }

    /// The same, without a sandbox.
    pub fn native(&self, argv: &[&str]) -> Command {
        self.command(&self.inside, argv)
    }

    /// A command at the other end.
    pub fn outside(&self, argv: &[&str]) -> Command {
        self.command(&self.outside, argv)
    }

    /// What the host has at the inner end.
    pub fn settings(&self) -> String {
        let ask = |what: &str| ip(&format!("-n {} {what}", self.inside)).stdout;
        [ask("-br addr show dev eth0"), ask("route"), ask("-6 route")].concat()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.inside));
        ip(&format!("netns del {}", self.outside));
    }
}
