//! Two network namespaces with a cable between them, for tests and benches of the sandbox's own stack.

use crate::{Background, Outcome, run, sandbox_exec};
use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Addresses of the end that is in the sandbox and of the native one.
pub const INSIDE: [&str; 2] = ["10.77.0.2", "fd77::2"];
/// Likewise.
pub const OUTSIDE: [&str; 2] = ["10.77.0.1", "fd77::1"];

/// Two network namespaces with a cable between them, called `eth0` at both ends.
pub struct Cable {
    /// Names of the namespaces.
    pub inside: String,
    outside: String,
    /// What carries the frames, if the host does not do that.
    carrier: Option<Background>,
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

/// Runs ip(8) with each of these.
fn take(steps: &[String]) -> Result<()> {
    for step in steps {
        let outcome = ip(step);
        ensure!(outcome.status == 0, "ip {step}: {}", outcome.stderr);
    }
    Ok(())
}

/// A TAP device in each namespace, which is there as long as the program that reads and writes its frames.
const CARRIER: &str = "import ctypes, fcntl, os, select, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
TUNSETIFF, IFF_TAP, IFF_NO_PI, CLONE_NEWNET = 0x400454ca, 2, 0x1000, 0x40000000
ends = []
for name in sys.argv[1:]:
    space = os.open('/run/netns/' + name, os.O_RDONLY)
    if libc.setns(space, CLONE_NEWNET): sys.exit(os.strerror(ctypes.get_errno()))
    end = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, TUNSETIFF, struct.pack('16sH22x', b'eth0', IFF_TAP | IFF_NO_PI))
    ends.append(end)
other = {ends[0]: ends[1], ends[1]: ends[0]}
while True:
    for end in select.select(ends, [], [])[0]:
        try:
            while True: os.write(other[end], os.read(end, 70000))
        except OSError: pass
";

fn carry(inside: &str, outside: &str) -> Result<Background> {
    let argv = ["-c", CARRIER, inside, outside];
    let carrier = Background::start(Command::new("/usr/bin/python3").args(argv))?;
    let is_there = |namespace: &str| ip(&format!("-n {namespace} link show dev eth0")).status == 0;
    let both = || (is_there(inside) && is_there(outside)).then_some(());
    (0..500)
        .find_map(|_| {
            both().or_else(|| {
                std::thread::sleep(Duration::from_millis(10));
                None
            })
        })
        .context("TAP devices: /dev/net/tun is needed")?;
    Ok(carrier)
}

impl Cable {
    /// None if this account cannot make it; that is said.
    ///
    /// # Errors
    /// A step of it that fails.
    pub fn new() -> Result<Option<Cable>> {
        Cable::of(1500, false)
    }

    /// A cable for packets of up to `mtu` bytes.
    ///
    /// # Errors
    /// A step of it that fails.
    pub fn with_mtu(mtu: u32) -> Result<Option<Cable>> {
        Cable::of(mtu, false)
    }

    /// One between two TAP devices, frame by frame through a program: interfaces that can neither sum up nor cut anything.
    ///
    /// # Errors
    /// A step of it that fails.
    pub fn of_taps() -> Result<Option<Cable>> {
        Cable::of(1500, true)
    }

    fn of(mtu: u32, taps: bool) -> Result<Option<Cable>> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if run(Command::new("id").arg("-u"))?.stdout.trim() != "0" {
            eprintln!("skipped: network namespaces with names need root");
            return Ok(None);
        }
        let id = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let (inside, outside) = (format!("tb-in-{id}"), format!("tb-out-{id}"));
        let mut cable = Cable { inside, outside, carrier: None, _turn: turn };
        let Cable { inside, outside, .. } = &cable;
        take(&[format!("netns add {inside}"), format!("netns add {outside}")])?;
        if taps {
            cable.carrier = Some(carry(inside, outside)?);
        } else {
            take(&[format!("-n {inside} link add eth0 type veth peer name eth0 netns {outside}")])?;
        }
        let Cable { inside, outside, .. } = &cable;
        take(&[
            format!("-n {inside} link set eth0 mtu {mtu}"),
            format!("-n {outside} link set eth0 mtu {mtu}"),
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
        ])?;
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
        self.carrier = None;
        ip(&format!("netns del {}", self.inside));
        ip(&format!("netns del {}", self.outside));
    }
}
