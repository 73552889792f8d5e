//! Programs that talk over the network: in one sandbox, through the broker to the host, through a published port from the host, and
//! over an interface of the sandbox's own.

mod pairs;
mod web;

use conformance::ways::{self, Meeting, SANDBOXED, Server, Way};
use conformance::{Outcome, run, scratch};
use std::process::Command;

/// Whether all of these are installed; what is not is named.
fn have(programs: &[&str]) -> bool {
    let script = "PATH=$(echo /usr/lib/postgresql/*/bin):/usr/sbin:$PATH; for name; do command -v $name >/dev/null || echo $name; done";
    let missing = run(Command::new("bash").args(["-c", script, "have"]).args(programs)).expect("runs").stdout;
    if !missing.is_empty() {
        eprintln!("skipped: not installed: {}", missing.split_whitespace().collect::<Vec<_>>().join(", "));
    }
    missing.is_empty()
}

/// What iperf3 is asked for: a stream each way, several, and datagrams.
const MEASUREMENTS: [&[&str]; 4] =
    [&["-n", "20M"], &["-n", "20M", "-R"], &["-n", "20M", "-P", "3"], &["-u", "-b", "20M", "-t", "1"]];

const IPERF: [&str; 4] = ["bash", "-c", "exec iperf3 -s -B \"$1\" -p \"$2\"", "server"];

fn measures(meeting: &Meeting<'_>) {
    for what in MEASUREMENTS {
        let outcome = meeting.ask(&[&["iperf3", "-c", meeting.at, "-p", meeting.port], what].concat());
        let Outcome { status, stdout, stderr } = outcome;
        assert_eq!(status, 0, "{:?}, {what:?}: {stdout}{stderr}", meeting.way);
        assert!(stdout.contains("receiver") && stdout.contains("iperf Done."), "{stdout}");
        // Datagrams may be lost, but not all.
        assert!(!stdout.contains("(100%)"), "{stdout}");
    }
}

#[test]
fn iperf3_measures_each_way() {
    let place = scratch().expect("a directory");
    let server = Server { place: place.path(), options: &[], argv: &IPERF, v6: false };
    for way in SANDBOXED {
        ways::meet(way, &server, measures).expect("a server");
    }
    let server = Server { v6: true, ..server };
    for way in [Way::ClientOverAnInterface, Way::ServerOverAnInterface] {
        ways::meet(way, &server, measures).expect("a server");
    }
}

/// A name server of the domain `test`: every name has the address 192.0.2.7.
const NAME_SERVER: &str = r"
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], int(sys.argv[2])))
while True:
    q, c = s.recvfrom(2000); end = q.index(b'\0', 12) + 5
    s.sendto(q[:2] + b'\x85\x80' + struct.pack('>HHHH', 1, 1, 0, 0) + q[12:end] + b'\xc0\x0c' + struct.pack('>HHIH', 1, 1, 60, 4) + bytes([192, 0, 2, 7]), c)
";

#[test]
fn dig_asks_a_name_server_each_way() {
    let place = scratch().expect("a directory");
    let argv = ["/usr/bin/python3", "-c", NAME_SERVER];
    let server = Server { place: place.path(), options: &[], argv: &argv, v6: false };
    let asks = |meeting: &Meeting<'_>| {
        let at = format!("@{}", meeting.at);
        let argv = ["/usr/bin/dig", &at, "-p", meeting.port, "+short", "+tries=1", "+time=2", "a.test"];
        let Outcome { status, stdout, stderr } = meeting.ask(&argv);
        assert_eq!((status, &*stdout), (0, "192.0.2.7\n"), "{:?}: {stderr}", meeting.way);
    };
    for way in SANDBOXED {
        ways::meet(way, &server, asks).expect("a server");
    }
}
