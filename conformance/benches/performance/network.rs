//! Ways out of the sandbox through the broker: to a server of the host, and from a client of the host to a published port.

use crate::{Row, Table, Way, median, quick};
use anyhow::{Context, Result, ensure};
use conformance::scratch;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PORT: &str = "17720";
const ACCEPTING: &str = "17721";
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

/// Whether a port of the host is listened on.
fn listens(port: &str) -> bool {
    let wanted = format!(":{:04X} ", port.parse::<u16>().unwrap_or(0));
    ["tcp", "tcp6"].iter().any(|table| {
        let text = std::fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default();
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
        let _server = serving(server, || listens(PORT))?;
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
        let _server = serving(server, || listens(ACCEPTING))?;
        let once = |way: &Way| printed(way.command(&connecting("127.0.0.1"), directory)?);
        rows.push(row("broker, connecting to a server of the host", None, &allowed, once)?);
    }
    let publish = format!("{PORT}:{PORT}");
    let published: Vec<Way> = ways.iter().map(|way| way.with_options(&["--publish", &publish])).collect();
    let once = |way: &Way| {
        let server = way.command(&["iperf3", "-s", "-1", "-p", PORT], directory)?;
        let _server = serving(server, || listens(PORT))?;
        // The broker listens before the program does.
        std::thread::sleep(Duration::from_millis(500));
        let mut outside = Command::new("iperf3");
        outside.args(&client("127.0.0.1", &[])[1..]);
        transfer(outside)
    };
    rows.push(row("published port, 1 MiB from a client of the host", Some(1.11), &published, once)?);
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
    } else {
        eprintln!("left out: the network: there is no iperf3 (`ci/setup bench` installs it)");
    }
    Ok(Table { columns, ..Table::new("Through the broker", "µs", rows) })
}
