//! The ways in which a server and those who ask it meet over the network: in one sandbox, or with one of them outside.

use crate::cable::{Cable, INSIDE, OUTSIDE};
use crate::{AT_ONCE, Background, Outcome, free_port, run, sandbox_exec};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How two programs meet, and which of them is in the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Neither is.
    Natively,
    /// Both are, and meet on loopback.
    Inside,
    /// A client, which is let out to the host's loopback interface.
    ClientThroughTheBroker,
    /// A server, whose port is one of the host's.
    ServerAtAPublishedPort,
    /// A client, which has an interface of its own.
    ClientOverAnInterface,
    /// Likewise a server.
    ServerOverAnInterface,
}

/// All that have a part in a sandbox.
pub const SANDBOXED: [Way; 5] = [
    Way::Inside,
    Way::ClientThroughTheBroker,
    Way::ServerAtAPublishedPort,
    Way::ClientOverAnInterface,
    Way::ServerOverAnInterface,
];

/// A server.
pub struct Server<'a> {
    /// The directory where it, and its clients, run.
    pub place: &'a Path,
    /// Options of the sandbox that one of them is in.
    pub options: &'a [&'a str],
    /// Its command, behind which its address and its port are put.
    pub argv: &'a [&'a str],
    /// Over an interface, it has an address of IPv6.
    pub v6: bool,
}

/// Makes a client's command of its program and arguments.
type Asks<'a> = Box<dyn Fn(&[&str]) -> Command + 'a>;

/// Where a server is met.
pub struct Meeting<'a> {
    /// How.
    pub way: Way,
    /// The server's address.
    pub at: &'a str,
    /// Its port.
    pub port: &'a str,
    command: &'a dyn Fn(&[&str]) -> Command,
}

impl Meeting<'_> {
    /// Runs a client until it ends well: at first the server may not be there yet, or still be busy with the one before.
    ///
    /// # Panics
    /// It cannot be run.
    pub fn ask(&self, argv: &[&str]) -> Outcome {
        let start = Instant::now();
        loop {
            let outcome = run((self.command)(argv).env("LC_ALL", "C")).expect("runs");
            if outcome.status == 0 || start.elapsed() > 2 * AT_ONCE {
                return outcome;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Runs a server, of as many arguments as the first one says, and behind it a client, which is asked again as [`Meeting::ask`] does.
const BOTH: &str = r#"count=$1; shift; kept=$(mktemp -d); "${@:1:count}" >/dev/null 2>&1 & shift $count
until "$@" >$kept/out 2>$kept/err; status=$?; [ $status -eq 0 ] || [ $SECONDS -gt 120 ]; do sleep 0.1; done
cat $kept/out; cat $kept/err >&2; exit $status"#;

/// Starts a server and has it asked. That a way is left out, because this account may not go it, is said.
///
/// # Errors
/// What it takes to start it.
pub fn meet(way: Way, server: &Server<'_>, asks: impl FnOnce(&Meeting<'_>)) -> Result<()> {
    let port = free_port().to_string();
    let plain = |argv: &[&str]| {
        let mut command = Command::new("env");
        command.args(argv);
        command
    };
    let sandboxed = |more: &[String], argv: &[&str]| {
        let mut command = Command::new(sandbox_exec());
        command.args(server.options).args(more).arg("--").args(argv);
        command
    };
    let allowed = [format!("--allow-net=127.0.0.1:{port}")];
    let published = ["", "/udp"].map(|protocol| format!("--publish={port}:{port}{protocol}"));
    let over_interface = matches!(way, Way::ClientOverAnInterface | Way::ServerOverAnInterface);
    let cable = if over_interface { Cable::new()? } else { None };
    let at = match way {
        Way::ClientOverAnInterface => OUTSIDE[usize::from(server.v6)],
        Way::ServerOverAnInterface => INSIDE[usize::from(server.v6)],
        _ => "127.0.0.1",
    };
    let serve = [server.argv, &[at, &port]].concat();
    let both = |argv: &[&str]| {
        let count = serve.len().to_string();
        sandboxed(&[], &[&["bash", "-c", BOTH, "both", &count], &serve[..], argv].concat())
    };
    let (serving, client): (Option<Command>, Asks<'_>) = match (way, &cable) {
        (Way::Natively, _) => (Some(plain(&serve)), Box::new(plain)),
        (Way::Inside, _) => (None, Box::new(both)),
        (Way::ClientThroughTheBroker, _) => (Some(plain(&serve)), Box::new(|argv| sandboxed(&allowed, argv))),
        (Way::ServerAtAPublishedPort, _) => (Some(sandboxed(&published, &serve)), Box::new(plain)),
        (Way::ClientOverAnInterface, Some(cable)) => {
            (Some(cable.outside(&serve)), Box::new(|argv| cable.sandboxed(server.options, argv)))
        }
        (Way::ServerOverAnInterface, Some(cable)) => {
            (Some(cable.sandboxed(server.options, &serve)), Box::new(|argv| cable.outside(argv)))
        }
        (_, None) => return Ok(()),
    };
    let start = |mut command: Command| Background::start(command.current_dir(server.place));
    let background = serving.map(start).transpose().context("the server")?;
    let command = |argv: &[&str]| {
        let mut command = client(argv);
        command.current_dir(server.place);
        command
    };
    asks(&Meeting { way, at, port: &port, command: &command });
    drop(background);
    Ok(())
}
