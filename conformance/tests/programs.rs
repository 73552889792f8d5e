//! Programs that talk over the network, in the three ways that leave a sandbox: through the broker to the host, through a published port
//! from the host, and over an interface of the sandbox's own. (Both ends inside: `applications/servers.sh`.)

use conformance::cable::{Cable, INSIDE, OUTSIDE};
use conformance::{Background, Outcome, free_port, run, sandbox_exec};
use std::process::Command;
use std::time::{Duration, Instant};

/// What iperf3 is asked for: a stream each way, several, and datagrams.
const MEASUREMENTS: [&[&str]; 4] =
    [&["-n", "20M"], &["-n", "20M", "-R"], &["-n", "20M", "-P", "3"], &["-u", "-b", "20M", "-t", "1"]];

/// Tries until the server is there, and not busy with the one before.
fn until_served(mut client: impl FnMut() -> Command) -> Outcome {
    let start = Instant::now();
    loop {
        let outcome = run(&mut client()).expect("runs");
        if outcome.status == 0 || start.elapsed() > Duration::from_secs(60) {
            return outcome;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn measures(client: impl Fn(&[&str]) -> Command) {
    for what in MEASUREMENTS {
        let outcome = until_served(|| client(what));
        assert_eq!(outcome.status, 0, "{what:?}: {}{}", outcome.stdout, outcome.stderr);
        assert!(
            outcome.stdout.contains("receiver") && outcome.stdout.contains("iperf Done."),
            "{}",
            outcome.stdout
        );
        // Datagrams may be lost, but not all.
        assert!(!outcome.stdout.contains("(100%)"), "{}", outcome.stdout);
    }
}

fn iperf<'a>(at: &'a str, port: &'a str, what: &[&'a str]) -> Vec<&'a str> {
    [&["/usr/bin/iperf3", "-c", at, "-p", port], what].concat()
}

#[test]
fn iperf3_measures_through_the_broker() {
    let port = free_port().to_string();
    let _server = Background::start(Command::new("iperf3").args(["-s", "-B", "127.0.0.1", "-p", &port]));
    measures(|what| {
        let mut command = Command::new(sandbox_exec());
        command.arg(format!("--allow-net=127.0.0.1:{port}")).arg("--").args(iperf("127.0.0.1", &port, what));
        command
    });
}

#[test]
fn iperf3_measures_through_published_ports() {
    let port = free_port().to_string();
    let mut server = Command::new(sandbox_exec());
    server.args([format!("--publish={port}:5201"), format!("--publish={port}:5201/udp")]);
    let _server = Background::start(server.args(["--", "/usr/bin/iperf3", "-s"]));
    measures(|what| {
        let argv = iperf("127.0.0.1", &port, what);
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]);
        command
    });
}

#[test]
fn iperf3_measures_over_an_interface_from_either_end() {
    let Some(cable) = Cable::new().expect("a cable") else { return };
    {
        let _server = Background::start(&mut cable.outside(&["iperf3", "-s"]));
        measures(|what| cable.sandboxed(&[], &iperf(OUTSIDE[0], "5201", what)));
        measures(|what| cable.sandboxed(&[], &iperf(OUTSIDE[1], "5201", what)));
    }
    let _server = Background::start(&mut cable.sandboxed(&[], &["/usr/bin/iperf3", "-s"]));
    measures(|what| cable.outside(&iperf(INSIDE[0], "5201", what)));
}

/// A name server of the domain `test`: every name has the address 192.0.2.7.
const NAME_SERVER: &str = r"
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], int(sys.argv[2])))
while True:
    q, c = s.recvfrom(2000); end = q.index(b'\0', 12) + 5
    s.sendto(q[:2] + b'\x85\x80' + struct.pack('>HHHH', 1, 1, 0, 0) + q[12:end] + b'\xc0\x0c' + struct.pack('>HHIH', 1, 1, 60, 4) + bytes([192, 0, 2, 7]), c)
";

fn asks(client: impl Fn(&[&str]) -> Command, at: &str, port: &str) {
    let at = format!("@{at}");
    let outcome = until_served(|| {
        client(&["/usr/bin/dig", &at, "-p", port, "+short", "+tries=1", "+time=2", "a.test"])
    });
    assert_eq!((outcome.status, &*outcome.stdout), (0, "192.0.2.7\n"), "{}", outcome.stderr);
}

#[test]
fn dig_asks_a_name_server_each_way() {
    let port = free_port().to_string();
    let serve = |at, port| ["/usr/bin/python3", "-c", NAME_SERVER, at, port];
    let started = |argv: [&str; 5]| Background::start(Command::new(argv[0]).args(&argv[1..]));
    {
        let _server = started(serve("127.0.0.1", &port));
        let allow = format!("--allow-net=127.0.0.1:{port}");
        let client = |argv: &[&str]| {
            let mut command = Command::new(sandbox_exec());
            command.args([&*allow, "--"]).args(argv);
            command
        };
        asks(client, "127.0.0.1", &port);
    }
    let native = |argv: &[&str]| {
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]);
        command
    };
    {
        let mut command = Command::new(sandbox_exec());
        command.args([format!("--publish={port}:53/udp"), "--".into()]).args(serve("127.0.0.1", "53"));
        let _server = Background::start(&mut command);
        asks(native, "127.0.0.1", &port);
    }
    let Some(cable) = Cable::new().expect("a cable") else { return };
    let _server = Background::start(&mut cable.outside(&serve(OUTSIDE[0], "53")));
    asks(|argv| cable.sandboxed(&[], argv), OUTSIDE[0], "53");
}

/// Serves one page, whatever is asked for, and says nothing.
const WEB_SERVERS: [(&str, &[&str]); 2] = [
    (
        "python",
        &[
            "/usr/bin/python3",
            "-c",
            "import http.server as h, sys
class Page(h.BaseHTTPRequestHandler):
    log_message = lambda *rest: None
    def do_GET(self):
        self.send_response(200); self.send_header('Content-Length', '5000000'); self.end_headers(); self.wfile.write(b'x' * 5000000)
h.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Page).serve_forever()",
        ],
    ),
    (
        "node",
        &[
            "node",
            "-e",
            "require('http').createServer((q, r) => r.end('x'.repeat(5000000))).listen(+process.argv[2], process.argv[1])",
        ],
    ),
];

/// Fetches a page, of which it tells the length.
const WEB_CLIENTS: [(&str, &str); 4] = [
    ("curl", "exec curl -sS --noproxy '*' -m 30 -o /dev/null -w '%{size_download}\\n' \"$1\""),
    ("wget", "wget -q --no-proxy -T 30 -t 1 -O - \"$1\" | wc -c; exit ${PIPESTATUS[0]}"),
    (
        "python",
        "exec /usr/bin/python3 -c 'import sys, urllib.request as r; print(len(r.build_opener(r.ProxyHandler({})).open(sys.argv[1]).read()))' \"$1\"",
    ),
    (
        "node",
        "exec node -e 'require(\"http\").get(process.argv[1], (r) => { let n = 0; r.on(\"data\", (d) => n += d.length); r.on(\"end\", () => console.log(n)) })' \"$1\"",
    ),
];

fn fetches(client: impl Fn(&[&str]) -> Command, at: &str, port: &str, who: &str) {
    let url = format!("http://{at}:{port}/page");
    for (name, script) in WEB_CLIENTS {
        let outcome = until_served(|| client(&["bash", "-c", script, name, &url]));
        assert_eq!(
            (outcome.status, &*outcome.stdout),
            (0, "5000000\n"),
            "{name} from {who}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn web_clients_fetch_from_web_servers_each_way() {
    for (name, server) in WEB_SERVERS {
        let port = free_port().to_string();
        let start = |command: &mut Command, at: &str, port: &str| {
            Background::start(command.args(server).args([at, port]))
        };
        {
            let _server = start(&mut Command::new("env"), "127.0.0.1", &port);
            let allow = format!("--allow-net=127.0.0.1:{port}");
            let client = |argv: &[&str]| {
                let mut command = Command::new(sandbox_exec());
                command.args([&*allow, "--"]).args(argv);
                command
            };
            fetches(client, "127.0.0.1", &port, name);
        }
        {
            let mut command = Command::new(sandbox_exec());
            command.args([format!("--publish={port}:8000"), "--".into()]);
            let _server = start(&mut command, "127.0.0.1", "8000");
            let client = |argv: &[&str]| {
                let mut command = Command::new(argv[0]);
                command.args(&argv[1..]);
                command
            };
            fetches(client, "127.0.0.1", &port, name);
        }
        let Some(cable) = Cable::new().expect("a cable") else { return };
        {
            let _server = start(&mut cable.outside(&["env"]), OUTSIDE[0], "8000");
            fetches(|argv| cable.sandboxed(&[], argv), OUTSIDE[0], "8000", name);
        }
        let _server = start(&mut cable.sandboxed(&[], &["env"]), INSIDE[0], "8000");
        fetches(|argv| cable.outside(argv), INSIDE[0], "8000", name);
    }
}
