//! The sandbox's own network stack (`--network=stack`), on one end of a cable between two network namespaces that the tests make:
//! what programs see is what they see between two native ends, and segments made by hand are answered as they should be. Needs root.

use conformance::cable::{Cable, INSIDE, OUTSIDE, ip};
use conformance::{run, sandbox_exec, scratch};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const PYTHON: &str = "/usr/bin/python3";
/// An address that nobody has.
const NOBODY: &str = "10.77.0.99";
/// An address that a test answers for by hand.
const BY_HAND: &str = "10.77.0.50";

fn script(name: &str) -> String {
    scripts().join(name).to_str().expect("a path").to_owned()
}

/// A command in a sandbox that takes the inner end over, with the scripts.
fn sandboxed(cable: &Cable, argv: &[&str]) -> Command {
    cable.sandboxed(&[&format!("--ro-bind={}", scripts().display())], argv)
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stack")
}

/// A server that has said that it is ready; it ends with the test.
struct Server(Child);

impl Server {
    fn start(mut command: Command) -> Server {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("runs");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("reads");
        assert_eq!(line, "ready\n");
        // What it says later must not fill the pipe.
        std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
        Server(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // ip(8) has become the program; a sandbox ends in order, so that the interface is given back.
        if let Ok(None) = self.0.try_wait() {
            let _ = Command::new("kill").arg(self.0.id().to_string()).status();
            let _ = self.0.wait();
        }
    }
}

fn check(mut command: Command) -> String {
    let outcome = run(&mut command).expect("runs");
    assert_eq!(outcome.status, 0, "{}{}", outcome.stdout, outcome.stderr);
    outcome.stdout
}

#[test]
fn both_ends_see_what_two_native_ends_see() {
    let Some(cable) = Cable::new().expect("a cable") else { return };
    compare_ends(&cable);
}

/// TAP devices: the host sums up and cuts for an interface that cannot, and what comes in was summed up by it.
#[test]
fn an_interface_that_does_nothing_by_itself_is_enough() {
    let Some(cable) = Cable::of_taps().expect("a cable") else { return };
    compare_ends(&cable);
}

#[test]
fn packets_are_as_long_as_the_interface_lets_them_be() {
    for mtu in [1450, 9000] {
        let Some(cable) = Cable::with_mtu(mtu).expect("a cable") else { return };
        compare_ends(&cable);
    }
}

fn compare_ends(cable: &Cable) {
    let peers = script("peers.py");
    let serve = [PYTHON, &*peers, "serve"];
    let to_inside = [PYTHON, &*peers, "check", INSIDE[0], INSIDE[1], NOBODY];
    let to_outside = [PYTHON, &*peers, "check", OUTSIDE[0], OUTSIDE[1], NOBODY];
    let before = cable.settings();
    let native = {
        let _server = Server::start(cable.native(&serve));
        check(cable.outside(&to_inside))
    };
    {
        let _server = Server::start(sandboxed(cable, &serve));
        assert_ne!(cable.settings(), before, "the host has kept the addresses");
        assert_eq!(check(cable.outside(&to_inside)), native, "the server is in the sandbox");
    }
    assert_eq!(cable.settings(), before, "the host has the interface back");
    let native = native.replace(INSIDE[0], OUTSIDE[0]).replace(INSIDE[1], OUTSIDE[1]);
    let _server = Server::start(cable.outside(&serve));
    assert_eq!(check(sandboxed(cable, &to_outside)), native, "the client is in the sandbox");
}

#[test]
fn thousands_of_connections_are_there_at_once() {
    let Some(cable) = Cable::new().expect("a cable") else { return };
    let crowd = script("crowd.py");
    let ask = |host| [PYTHON, &*crowd, "ask", host, "4000"];
    {
        let _server = Server::start(sandboxed(&cable, &[PYTHON, &*crowd, "serve"]));
        assert_eq!(check(cable.outside(&ask(INSIDE[0]))), "4000\n", "the server is in the sandbox");
        assert_eq!(check(cable.outside(&ask(INSIDE[1]))), "4000\n", "once more, over IPv6");
    }
    let _server = Server::start(cable.outside(&[PYTHON, &*crowd, "serve"]));
    assert_eq!(check(sandboxed(&cable, &ask(OUTSIDE[0]))), "4000\n", "the client is in the sandbox");
}

/// Keepalive and `TCP_USER_TIMEOUT`: who was there is there no more, and says nothing.
#[test]
fn a_peer_that_falls_silent_is_given_up_in_time() {
    let Some(cable) = Cable::new().expect("a cable") else { return };
    let waits = format!(
        "import errno, socket, sys, threading, time\n\
         T = socket.IPPROTO_TCP\n\
         def made(options):\n\
        \x20   s = socket.create_connection(('{}', 7000), 20)\n\
        \x20   s.settimeout(60)\n\
        \x20   for option in options: s.setsockopt(*option)\n\
        \x20   s.sendall(b'echo\\nx'); s.recv(1); return s\n\
         probed = made([(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (T, socket.TCP_KEEPIDLE, 1), (T, socket.TCP_KEEPINTVL, 1), (T, socket.TCP_KEEPCNT, 3)])\n\
         owed = made([(T, socket.TCP_USER_TIMEOUT, 2000)])\n\
         patient = made([])\n\
         print('ready', flush=True); sys.stdin.readline(); said = {{}}\n\
         def wait(name, s):\n\
        \x20   start = time.monotonic()\n\
        \x20   try: s.recv(1)\n\
        \x20   except OSError as error: said[name] = errno.errorcode.get(error.errno), 1 < time.monotonic() - start < 9\n\
         owed.sendall(b'more'); patient.settimeout(10); patient.sendall(b'more')\n\
         threads = [threading.Thread(target=wait, args=one) for one in [('probed', probed), ('owed', owed), ('patient', patient)]]\n\
         for t in threads: t.start()\n\
         for t in threads: t.join()\n\
         print(sorted(said.items()))",
        OUTSIDE[0]
    );
    let peers = script("peers.py");
    let said = |mut command: Command| {
        let _server = Server::start(cable.outside(&[PYTHON, &*peers, "serve"]));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        said.read_line(&mut line).expect("reads");
        assert_eq!(line, "ready\n");
        let address = format!("{}/24", OUTSIDE[0]);
        check(cable.outside(&["ip", "addr", "del", &address, "dev", "eth0"]));
        drop(child.stdin.take());
        line.clear();
        said.read_to_string(&mut line).expect("reads");
        let _ = child.wait();
        check(cable.outside(&["ip", "addr", "add", &address, "dev", "eth0"]));
        line
    };
    let native = said(cable.native(&[PYTHON, "-c", &waits]));
    let expected =
        "[('owed', ('ETIMEDOUT', True)), ('patient', (None, False)), ('probed', ('ETIMEDOUT', True))]\n";
    assert_eq!(native, expected);
    assert_eq!(said(sandboxed(&cable, &[PYTHON, "-c", &waits])), native);
}

#[test]
fn connections_leave_at_their_ports_what_native_ones_leave() {
    let Some(cable) = Cable::new().expect("a cable") else { return };
    let peers = script("peers.py");
    let _server = Server::start(cable.outside(&[PYTHON, &*peers, "serve"]));
    let remains = [PYTHON, &*peers, "remains", OUTSIDE[0], INSIDE[0]];
    let native = check(cable.native(&remains));
    assert_eq!(check(sandboxed(&cable, &remains)), native);
}

#[test]
fn segments_made_by_hand_are_answered_as_they_should_be() {
    let Some(cable) = Cable::new().expect("a cable") else { return };
    let (peers, segments) = (script("peers.py"), script("segments.py"));
    let _server = Server::start(sandboxed(&cable, &[PYTHON, &*peers, "serve"]));
    let said = check(cable.outside(&[PYTHON, &*segments, "eth0", INSIDE[0], BY_HAND]));
    assert!(said.lines().count() > 20 && !said.contains("WRONG"), "{said}");
}

/// The interface sums up and cuts by itself what the sandbox leaves to it, so that what is captured is what would be on a wire.
#[test]
fn every_packet_of_whole_connections_is_as_it_should_be() {
    let Some(cable) = Cable::new().expect("a cable") else { return };
    let (peers, capture) = (script("peers.py"), script("capture.py"));
    check(cable.native(&[PYTHON, &*capture, "plain", "eth0"]));
    {
        let _server = Server::start(sandboxed(&cable, &[PYTHON, &*peers, "serve"]));
        assert_eq!(check(cable.outside(&[PYTHON, &*capture, "ask", "eth0", INSIDE[0]])), "True\nright\n");
    }
    let mut command = cable.outside(&[PYTHON, &*capture, "serve", "eth0", INSIDE[0]]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("runs");
    let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    said.read_line(&mut line).expect("reads");
    assert_eq!(line, "ready\n");
    let got = run(&mut sandboxed(&cable, &[PYTHON, &*capture, "client", OUTSIDE[0]])).expect("runs");
    let mut rest = String::new();
    if got.status != 0 {
        let _ = child.kill();
    }
    said.read_to_string(&mut rest).expect("reads");
    let _ = child.wait();
    assert_eq!((&*got.stdout, &*rest), ("b'got it'\n", "True\nright\n"), "{}", got.stderr);
}

/// What is longer than the host lets an interface cut, the host cuts itself, before any of it is sent.
#[test]
fn long_segments_are_left_whole_for_the_interface_to_cut() {
    let Some(cable) = Cable::new().expect("a cable") else { return };
    let (peers, capture) = (script("peers.py"), script("capture.py"));
    let _server = Server::start(sandboxed(&cable, &[PYTHON, &*peers, "serve"]));
    for (address, full) in [(INSIDE[0], 44 * (1500 - 40)), (INSIDE[1], 45 * (1500 - 60))] {
        let said = check(cable.outside(&[PYTHON, &*capture, "longest", "eth0", address]));
        assert_eq!(said, format!("{full}\nright\n"));
    }
}

#[test]
fn programs_see_the_interface_and_its_routes_as_on_the_host() {
    let Some(cable) = Cable::new().expect("a cable") else { return };
    for what in ["-br addr", "-br link", "route", "-6 addr show dev eth0 scope global", "link show dev eth0"]
    {
        let argv = [&["/usr/bin/env", "ip"], &*what.split(' ').collect::<Vec<_>>()].concat();
        // What only the host can know: namespaces on the other end, queues, and how an address came to be.
        let plain = |text: String| {
            let hidden = ["link-netns", "valid_lft"];
            let lines = text.lines().filter(|line| !line.trim_start().starts_with(hidden[1]));
            let known = lines.map(|line| line.split(hidden[0]).next().unwrap_or(line).replace("@if2", ""));
            let words = known.map(|line| line.replace(" nodad", ""));
            // Columns are as wide as what was hidden.
            let words = words.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
            words.collect::<Vec<_>>().join("\n")
        };
        let native = plain(check(cable.native(&argv)));
        assert_eq!(plain(check(sandboxed(&cable, &argv))), native, "ip {what}");
    }
    let program = "import socket; print(sorted(socket.if_nameindex()))";
    let argv = [PYTHON, "-c", program];
    assert_eq!(check(sandboxed(&cable, &argv)), check(cable.native(&argv)));
    // Its own name means the address that others reach.
    let program =
        "import socket; n = socket.gethostname(); print([a[4][0] for a in socket.getaddrinfo(n, 1, type=1)])";
    let said = check(sandboxed(&cable, &[PYTHON, "-c", program]));
    assert!(INSIDE.iter().all(|address| said.contains(address)) && !said.contains("127."), "{said}");
    for file in ["route", "if_inet6"] {
        // Whether an address was looked for before it was taken is the host's to know.
        let shown = format!("sort /proc/net/{file} | sed 's/ 82 / 80 /'");
        let argv = ["sh", "-c", &*shown];
        assert_eq!(check(sandboxed(&cable, &argv)), check(cable.native(&argv)), "{file}");
    }
}

#[test]
fn curl_fetches_from_outside_and_a_server_inside_is_reached_on_all_its_addresses() {
    let Some(cable) = Cable::new().expect("a cable") else { return };
    let place = scratch().expect("a directory");
    std::fs::write(place.path().join("page"), "a page\n").expect("a file");
    let serve = "import http.server as h, sys; s = h.ThreadingHTTPServer(('', 8000), h.SimpleHTTPRequestHandler); \
                 print('ready', flush=True); s.serve_forever()";
    {
        let mut server = cable.outside(&[PYTHON, "-c", serve]);
        let _server = Server::start({
            server.current_dir(place.path()).stderr(Stdio::null());
            server
        });
        let url = format!("http://{}:8000/page", OUTSIDE[0]);
        assert_eq!(check(sandboxed(&cable, &["/usr/bin/curl", "-sS", "-m", "20", &url])), "a page\n");
        let urllib = format!("import urllib.request as r; print(r.urlopen('{url}').read())");
        assert_eq!(check(sandboxed(&cable, &[PYTHON, "-c", &urllib])), "b'a page\\n'\n");
    }
    // The same server answers on loopback, on its own address from inside, and from outside; nothing inside catches what goes out.
    let inside = format!(
        "import socket, http.server as h, threading, urllib.request as r\n\
         s = h.ThreadingHTTPServer(('', 8000), h.SimpleHTTPRequestHandler)\n\
         s.RequestHandlerClass.log_message = lambda *_: None\n\
         threading.Thread(target=s.serve_forever, daemon=True).start()\n\
         for ip in ['127.0.0.1', '{}']: assert r.urlopen(f'http://{{ip}}:8000/').status == 200\n\
         try: socket.create_connection(('{}', 8000), 5)\n\
         except ConnectionRefusedError: print('ready', flush=True)\n\
         __import__('sys').stdin.read()",
        INSIDE[0], OUTSIDE[0]
    );
    let mut command = sandboxed(&cable, &[PYTHON, "-c", &inside]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("reads");
    assert_eq!(line, "ready\n");
    let url = format!("http://{}:8000/", INSIDE[0]);
    let fetched = check(cable.outside(&[
        "/usr/bin/curl",
        "-sS",
        "-m",
        "20",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &url,
    ]));
    assert_eq!(fetched, "200");
    drop(child.stdin.take());
    let _ = child.wait();
}

#[test]
fn the_interface_is_given_back_even_if_the_supervisor_is_killed() {
    let Some(cable) = Cable::new().expect("a cable") else { return };
    let before = cable.settings();
    let peers = script("peers.py");
    let mut server = Server::start(sandboxed(&cable, &[PYTHON, &*peers, "serve"]));
    server.0.kill().expect("killed");
    server.0.wait().expect("ended");
    let start = std::time::Instant::now();
    while cable.settings() != before {
        assert!(start.elapsed().as_secs() < 20, "{}", cable.settings());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn what_cannot_be_taken_over_is_refused_by_name() {
    let sandbox =
        |options: &[&str]| run(Command::new(sandbox_exec()).args(options).arg("true")).expect("runs");
    let outcome = sandbox(&["--network=broker", "--interface=eth0"]);
    assert!(outcome.status == 125 && outcome.stderr.contains("--interface"), "{}", outcome.stderr);
    let outcome = sandbox(&["--network=stack", "--allow-net=*"]);
    assert!(outcome.status == 125 && outcome.stderr.contains("broker"), "{}", outcome.stderr);
    let Some(cable) = Cable::new().expect("a cable") else { return };
    let path = sandbox_exec();
    let path = path.to_str().expect("a path");
    let refused = |options: &[&str], what: &str| {
        let argv = [&[path], options, &["true"]].concat();
        let outcome = run(&mut cable.native(&argv)).expect("runs");
        assert!(outcome.status == 125 && outcome.stderr.contains(what), "{options:?}: {}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    };
    refused(&["--network=stack", "--interface=none0"], "none0");
    refused(&["--network=stack", "--interface=lo"], "lo is no Ethernet interface");
    let made = ip(&format!("-n {} link add more type veth peer name less", cable.inside));
    assert_eq!(made.status, 0, "{}", made.stderr);
    ip(&format!("-n {} link set more up", cable.inside));
    refused(&["--network=stack"], "--interface");
    refused(&["--network=stack", "--interface=more"], "more");
    ip(&format!("-n {} route add 10.99.0.0/16 dev eth0", cable.inside));
    refused(&["--network=stack", "--interface=eth0"], "10.99.0.0/16");
}
