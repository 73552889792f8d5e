//! Ways out of the sandbox: the broker to a server of the host, a published port, and the stack over a pair of virtual interfaces
//! between two network namespaces of our own.

use crate::{Row, Table, Way, median, quick};
use anyhow::{Context, Result, ensure};
use conformance::scratch;
use std::io::BufRead;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PORT: &str = "17720";
const ACCEPTING: &str = "17721";
const OUTSIDE: &str = "10.99.71.1";
const INSIDE: &str = "10.99.71.2";
/// The columns of other tools would show the host's own network.
const WAYS: usize = 2;

/// Accepts connections and ends them, for ever.
const ACCEPTS: &str = "import socket, sys\n\
    s = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=1024)\n\
    while True: s.accept()[0].close()";
/// Connects, waits for the end and closes; prints the microseconds of one.
const CONNECTS: &str = "import socket, sys, time\n\
    count = int(sys.argv[3])\n\
    start = time.monotonic()\n\
    for _ in range(count):\n\
    \x20   with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as s: s.recv(1)\n\
    print((time.monotonic() - start) / count * 1e6)";

/// A process that is ended with the value; ours, by its number.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network namespace, held by a process.
struct Namespace(Running);

impl Namespace {
    fn new() -> Result<Namespace> {
        let script = "ip link set lo up && echo up && exec sleep 100000";
        let mut holder =
            Command::new("unshare").args(["--net", "sh", "-c", script]).stdout(Stdio::piped()).spawn()?;
        let output = holder.stdout.take().context("a pipe")?;
        let mut line = String::new();
        std::io::BufReader::new(output).read_line(&mut line)?;
        ensure!(line == "up\n", "a network namespace cannot be made");
        Ok(Namespace(Running(holder)))
    }

    fn id(&self) -> String {
        self.0.0.id().to_string()
    }

    /// The command, run in here.
    fn enter(&self, command: &Command) -> Command {
        let mut entering = Command::new("nsenter");
        entering
            .arg(format!("--net=/proc/{}/ns/net", self.id()))
            .arg(command.get_program())
            .args(command.get_args());
        entering.stdin(Stdio::null()).stderr(Stdio::null());
        if let Some(directory) = command.get_current_dir() {
            entering.current_dir(directory);
        }
        entering
    }
}

fn sh(script: &str) -> Result<()> {
    ensure!(Command::new("sh").args(["-ec", script]).status()?.success(), "{script}: failed");
    Ok(())
}

/// A server is there once its port is taken.
fn serving(mut server: Command, listens: impl Fn() -> bool) -> Result<Running> {
    let running = Running(server.stdout(Stdio::null()).spawn()?);
    let end = Instant::now() + Duration::from_secs(30);
    while !listens() {
        ensure!(Instant::now() < end, "{server:?} does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(running)
}

/// Whether a port is listened on in the network namespace of a process.
fn listens(pid: &str, port: &str) -> bool {
    let wanted = format!(":{:04X} ", port.parse::<u16>().unwrap_or(0));
    ["tcp", "tcp6"].iter().any(|table| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        text.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.nth(1).is_some_and(|local| format!("{local} ").ends_with(&wanted))
                && words.nth(1) == Some("0A")
        })
    })
}

/// Microseconds for a MiB, as iperf3 has seen it at the receiver.
fn transfer(mut client: Command) -> Result<f64> {
    let output = client.output()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).context("iperf3's report")?;
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64();
    let rate = rate.with_context(|| format!("iperf3: {}", report["error"]))?;
    Ok(8.0 * 1048576.0 * 1e6 / rate)
}

fn printed(mut command: Command) -> Result<f64> {
    let output = command.output()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().context("a number was to be printed")
}

fn row(name: &str, aim: Option<f64>, ways: &[Way], once: impl Fn(&Way) -> Result<f64>) -> Result<Row> {
    eprintln!("  {name}");
    let mut values = vec![Vec::new(); ways.len()];
    for _ in 0..if quick() { 1 } else { 5 } {
        for (way, values) in ways.iter().zip(&mut values) {
            values.push(once(way).with_context(|| format!("{name}, {}", way.name))?);
        }
    }
    Ok(Row { name: name.into(), values: values.into_iter().map(median).collect(), aim })
}

fn client<'a>(server: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["iperf3", "-c", server, "-p", PORT, "-t", if quick() { "1" } else { "3" }, "-J"], more].concat()
}

fn connecting(server: &str) -> Vec<&str> {
    vec!["/usr/bin/python3", "-c", CONNECTS, server, ACCEPTING, if quick() { "20" } else { "1000" }]
}

fn by_broker(ways: &[Way], directory: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let to = format!("127.0.0.1:{PORT}-{ACCEPTING}");
    let allowed: Vec<Way> = ways.iter().map(|way| way.with_options(&["--allow-net", &to])).collect();
    {
        let mut server = Command::new("iperf3");
        server.args(["-s", "-p", PORT, "-B", "127.0.0.1"]).stderr(Stdio::null());
        let _server = serving(server, || listens("self", PORT))?;
        for (name, more) in
            [("broker, 1 MiB to a server of the host", &[][..]), ("broker, 1 MiB from it", &["-R"])]
        {
            let once = |way: &Way| transfer(way.command(&client("127.0.0.1", more), directory)?);
            rows.push(row(name, Some(1.11), &allowed, once)?);
        }
    }
    {
        let mut server = Command::new("/usr/bin/python3");
        server.args(["-c", ACCEPTS, "127.0.0.1", ACCEPTING]);
        let _server = serving(server, || listens("self", ACCEPTING))?;
        let once = |way: &Way| printed(way.command(&connecting("127.0.0.1"), directory)?);
        rows.push(row("broker, connecting to a server of the host", None, &allowed, once)?);
    }
    let publish = format!("{PORT}:{PORT}");
    let published: Vec<Way> = ways.iter().map(|way| way.with_options(&["--publish", &publish])).collect();
    let once = |way: &Way| {
        let server = way.command(&["iperf3", "-s", "-1", "-p", PORT], directory)?;
        let _server = serving(server, || listens("self", PORT))?;
        // The broker listens before the program does.
        std::thread::sleep(Duration::from_millis(500));
        let mut outside = Command::new("iperf3");
        outside.args(&client("127.0.0.1", &[])[1..]);
        transfer(outside)
    };
    rows.push(row("published port, 1 MiB from a client of the host", Some(1.11), &published, once)?);
    Ok(())
}

fn by_stack(ways: &[Way], directory: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let (outer, inner) = (Namespace::new()?, Namespace::new()?);
    let (out, inside) = (outer.id(), inner.id());
    sh(&format!(
        "ip link add peer netns {out} type veth peer name eth0 netns {inside}; \
         nsenter --net=/proc/{out}/ns/net sh -ec 'ip addr add {OUTSIDE}/24 dev peer; ip link set peer up'; \
         nsenter --net=/proc/{inside}/ns/net sh -ec 'ip addr add {INSIDE}/24 dev eth0; ip link set eth0 up'"
    ))?;
    let stacked: Vec<Way> = ways.iter().map(|way| way.with_options(&["--network=stack"])).collect();
    let mut server = Command::new("iperf3");
    server.args(["-s", "-p", PORT]);
    let _iperf = serving(outer.enter(&server), || listens(&out, PORT))?;
    let mut server = Command::new("/usr/bin/python3");
    server.args(["-c", ACCEPTS, OUTSIDE, ACCEPTING]);
    let _accepting = serving(outer.enter(&server), || listens(&out, ACCEPTING))?;
    for (name, more) in
        [("stack over veth, 1 MiB to a server", &[][..]), ("stack over veth, 1 MiB from it", &["-R"])]
    {
        let once = |way: &Way| transfer(inner.enter(&way.command(&client(OUTSIDE, more), directory)?));
        rows.push(row(name, None, &stacked, once)?);
    }
    let once = |way: &Way| printed(inner.enter(&way.command(&connecting(OUTSIDE), directory)?));
    rows.push(row("stack over veth, connecting to a server", None, &stacked, once)?);
    Ok(())
}

/// Microseconds.
pub fn measure(ways: &[Way]) -> Result<Table> {
    let ways = ways.get(..WAYS).context("native and sandboxed")?;
    let columns = ways.iter().map(|way| way.name.clone()).collect();
    let directory = scratch()?;
    let mut rows = Vec::new();
    if Command::new("iperf3").arg("--version").output().is_ok_and(|output| output.status.success()) {
        by_broker(ways, directory.path(), &mut rows)?;
        if nix::unistd::geteuid().is_root() {
            by_stack(ways, directory.path(), &mut rows)?;
        } else {
            eprintln!("left out: the stack, which takes root to give it interfaces");
        }
    } else {
        eprintln!("left out: the network: there is no iperf3 (`ci/setup bench` installs it)");
    }
    Ok(Table { columns, ..Table::new("Network, to and from outside", "µs", rows) })
}
