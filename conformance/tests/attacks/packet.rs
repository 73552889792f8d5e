//! What a sandbox that was taken over can do with the packet socket of `--network=stack`: in a network namespace of its own, with one
//! interface that it has, and another one.

use crate::stage::{Stage, User, by_root};
use crate::suite::Ends;
use anyhow::{Context, Result, ensure};
use conformance::{Outcome, run};
use std::process::Command;

/// Runs a command between two cables, and tells which of its frames have come out where, and how the interfaces are then.
const BETWEEN: &str = r#"
import socket, subprocess, sys
def ip(words): subprocess.run(["ip", *words.split()], check=True)
ip("link set lo up")
for n in "01":
    ip(f"link add eth{n} type veth peer name far{n}")
    ip(f"link set eth{n} up"); ip(f"link set far{n} up")
ip("addr add 10.77.0.2/24 dev eth0")
ends = {}
for name in ["far0", "far1", "lo"]:
    ends[name] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
    ends[name].bind((name, 0x88B5)); ends[name].setblocking(False)
status = subprocess.run([word.replace("OTHER", str(socket.if_nametoindex("eth1"))) for word in sys.argv[1:]]).returncode
for name, end in ends.items():
    try:
        while True:
            print(name, "has", end.recv(2000)[14:].split(b"\0")[0].decode(), flush=True)
    except BlockingIOError: pass
for name in ["eth0", "eth1"]:
    shown = subprocess.run(["ip", "-d", "link", "show", name], capture_output=True, text=True).stdout
    if "promiscuity 0" not in shown or ",UP" not in shown: print("ESCAPED:", shown, flush=True)
sys.exit(status)
"#;

fn attack(stage: &Stage, way: &str) -> Result<Outcome> {
    let options = ["--network=stack", "--interface=eth0"];
    let command = stage.command(&options, "packet", &[way, "OTHER"])?;
    let directory = command.get_current_dir().context("a directory")?;
    let mut between = Command::new("unshare");
    between
        .args(["-n", "/usr/bin/python3", "-c", BETWEEN])
        .arg(command.get_program())
        .args(command.get_args());
    let outcome = run(between.current_dir(directory))?;
    stage.judge(&outcome)?;
    for place in ["far1 has", "lo has"] {
        ensure!(!outcome.stdout.contains(place), "{way}: {}", outcome.stdout);
    }
    Ok(outcome)
}

pub fn packet_socket(stage: &Stage) -> Result<()> {
    // Nobody else can have an interface taken over.
    if stage.user != User::Caller || !by_root() {
        return Ok(());
    }
    // What it can: any frame on its own interface, whatever it says of it.
    for (way, arrives) in [("own", "far0 has own\n"), ("lies", "far0 has after_lies\n")] {
        let outcome = attack(stage, way)?;
        Ends::Held.check(&outcome).context(way)?;
        ensure!(outcome.stdout.contains(arrives), "{way}: {}", outcome.stdout);
    }
    let list = attack(stage, "list")?;
    let ways: Vec<&str> = list.stdout.lines().filter_map(|line| line.strip_prefix("way ")).collect();
    ensure!(ways.len() > 10, "only {} ways", ways.len());
    for way in ways {
        let outcome = attack(stage, way)?;
        Ends::ByFilter.check(&outcome).context(way.to_owned())?;
        ensure!(!outcome.stdout.contains("far0 has"), "{way}: {}", outcome.stdout);
    }
    Ok(())
}
