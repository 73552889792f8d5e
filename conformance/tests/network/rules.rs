//! Rules of the command line as programs meet them: names, networks and ports of both families, and what is denied whatever else allows
//! it; and a broker that is asked for more than there is.

use super::{AT_ONCE, denials, python, sandbox};
use conformance::{run, sandbox_exec, scratch};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

/// Says hello to everybody, at one port of both loopback addresses; answers datagrams with what they say.
fn servers() -> u16 {
    loop {
        let v4 = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = v4.local_addr().expect("its address").port();
        let (v6, udp) = (TcpListener::bind(("::1", port)), UdpSocket::bind(("::1", port)));
        let (Ok(v6), Ok(udp)) = (v6, udp) else { continue };
        for listener in [v4, v6] {
            std::thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    // Kept until the other side ends it.
                    std::thread::spawn(move || {
                        let _ = stream.write_all(b"hello");
                        let _ = stream.read(&mut [0]);
                    });
                }
            });
        }
        std::thread::spawn(move || {
            let mut bytes = [0; 100];
            while let Ok((length, from)) = udp.recv_from(&mut bytes) {
                let _ = udp.send_to(&bytes[..length], from);
            }
        });
        return port;
    }
}

/// Connects to each place that it is given, and says what came of it.
const CONNECT: &str = "import errno, socket, sys
for place in sys.argv[1:]:
    host, _, port = place.rpartition('/')
    try:
        with socket.create_connection((host, int(port)), 20) as s: print(place, s.recv(5).decode())
    except socket.gaierror: print(place, 'no such name')
    except OSError as error: print(place, errno.errorcode[error.errno])
";

#[test]
fn names_networks_and_ports_are_allowed_and_denied_as_the_rules_say() {
    let (one, other) = (servers(), servers());
    let resolve = ["a.zone.test", "b.zone.test", "zone.test", "c.other.test"]
        .map(|name| format!("--resolve={name}:{}", if name.starts_with('b') { "::1" } else { "127.0.0.1" }));
    let resolve = resolve.iter().map(String::as_str);
    let tried = |rules: &[String], places: &[&str]| {
        let options: Vec<&str> = rules.iter().map(String::as_str).chain(resolve.clone()).collect();
        let places: Vec<String> = places.iter().map(|place| place.replace('@', &one.to_string())).collect();
        let (outcome, log) = python(&options, CONNECT, &places);
        for line in log.lines() {
            let entry: serde_json::Value =
                serde_json::from_str(line).expect("each decision is a line of JSON");
            assert!(entry["decision"].is_string(), "{line}");
        }
        outcome.stdout.replace(&one.to_string(), "@")
    };
    // What is below a name, of both families, and not the name itself; of a port, that one alone.
    let rules = [format!("--allow-net=*.zone.test:{one}")];
    let places = ["a.zone.test/@", "b.zone.test/@", "zone.test/@", "c.other.test/@", "127.0.0.1/@"];
    // The address was found by a name that is allowed: it is judged by that.
    let expected = "a.zone.test/@ hello\nb.zone.test/@ hello\nzone.test/@ no such name\nc.other.test/@ no such name\n127.0.0.1/@ hello\n";
    assert_eq!(tried(&rules, &places), expected);
    let elsewhere = format!("a.zone.test/{other}");
    assert_eq!(tried(&rules, &[&elsewhere]), format!("{elsewhere} EACCES\n"));
    assert_eq!(tried(&rules, &["127.0.0.2/@"]), "127.0.0.2/@ EACCES\n");
    // Networks.
    let networks = [format!("--allow-net=127.0.0.0/8:{one}"), format!("--allow-net=[::1/128]:{one}-{one}")];
    assert_eq!(tried(&networks, &["127.0.0.1/@", "::1/@"]), "127.0.0.1/@ hello\n::1/@ hello\n");
    assert_eq!(tried(&networks[..1], &["127.0.0.1/@", "::1/@"]), "127.0.0.1/@ hello\n::1/@ EACCES\n");
    // What is denied is denied, whatever allows it: a network, a name below one that is allowed, a port.
    let denied = |rule: &str| {
        let deny = format!("--deny-net={rule}");
        [format!("--allow-net=127.0.0.0/8:{one}"), format!("--allow-net=*.zone.test:{one}"), deny]
    };
    assert_eq!(tried(&denied("127.0.0.1"), &["127.0.0.1/@"]), "127.0.0.1/@ EACCES\n");
    assert_eq!(tried(&denied("127.0.0.0/30"), &["127.0.0.1/@"]), "127.0.0.1/@ EACCES\n");
    assert_eq!(tried(&denied(&format!("*:{other}")), &["127.0.0.1/@"]), "127.0.0.1/@ hello\n");
    let places = ["a.zone.test/@", "b.zone.test/@"];
    assert_eq!(tried(&denied("a.zone.test"), &places), "a.zone.test/@ no such name\nb.zone.test/@ hello\n");
}

#[test]
fn datagrams_of_ipv6_go_out_and_come_back() {
    let port = servers().to_string();
    let script = "import socket, sys
at = ('::1', int(sys.argv[1]))
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.settimeout(20)
s.sendto(b'hello', at); print(s.recvfrom(10)[0], s.recvfrom.__name__)
s.connect(at); s.send(b'again', socket.MSG_MORE); s.send(b' and again'); print(s.recv(100), s.getpeername()[:2] == at, s.getsockname()[0])
";
    let native = run(Command::new("/usr/bin/python3").args(["-c", script, &port])).expect("runs");
    assert_eq!(native.status, 0, "{}", native.stderr);
    let (outcome, log) = python(&[&format!("--allow-net=[::1]:{port}")], script, &[port]);
    assert_eq!(outcome.stdout, native.stdout, "{} {log}", outcome.stderr);
}

#[test]
fn a_port_is_published_to_ipv6() {
    let port = conformance::free_port();
    let script = "import socket
l = socket.create_server(('::', 7777), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    s, peer = l.accept(); s.sendall(repr((s.recv(5), peer[0])).encode()); s.close()
";
    let child = Command::new(sandbox_exec())
        .args(["--publish", &format!("[::1]:{port}:7777"), "--", "/usr/bin/python3", "-c", script])
        .spawn();
    let mut child = child.expect("starts");
    let begin = Instant::now();
    let mut said = String::new();
    // Until the server inside listens, what comes is ended.
    while said.is_empty() && begin.elapsed() < AT_ONCE {
        std::thread::sleep(Duration::from_millis(20));
        let Ok(mut stream) = TcpStream::connect(("::1", port)) else { continue };
        let _ = stream.write_all(b"hello").and_then(|()| stream.read_to_string(&mut said));
    }
    let _ = child.kill().and_then(|()| child.wait());
    assert_eq!(said, "(b'hello', '::1')");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// More connections than the sandbox has host descriptors for, more queries than the broker answers at once, and requests from many
/// threads: what there is no place for fails, and what comes later works.
#[test]
fn a_broker_that_is_asked_for_more_than_there_is_lives_on() {
    let port = servers();
    let script = "import errno, socket, sys, threading
port, held, errors = int(sys.argv[1]), [], set()
def connect():
    try:
        s = socket.create_connection(('127.0.0.1', port), 20)
        # Ended by a reset, it leaves nothing at the host's ports.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\\1\\0\\0\\0\\0\\0\\0\\0')
        held.append(s); return s.recv(5)
    except OSError as error: errors.add(errno.errorcode[error.errno]); return None
while connect() and len(held) < 2000: pass
print('full', 100 < len(held) < 1000, errors <= {'ENFILE', 'EMFILE'})
for s in held: s.close()
held.clear(); errors.clear()
print('again', connect())
query = b'xx\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\1a\\4test\\0\\0\\1\\0\\1'
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(50)]
for i in range(5000): sockets[i % 50].sendto(query, ('192.0.2.53', 53))
for s in sockets: s.close()
threads = [threading.Thread(target=lambda: [connect() for _ in range(20)]) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print('threads', len(held), errors)
for s in held: s.close()
print('named', socket.gethostbyname('a.test'))
for host in ['192.0.2.1', '10.0.0.1']:
    for _ in range(1000):
        try: socket.create_connection((host, 80), 20)
        except PermissionError: pass
print('last', connect())
";
    let directory = scratch().expect("a directory");
    let log = directory.path().join("net.log");
    let command = "ulimit -Sn 500; exec \"$@\"";
    let outcome = run(Command::new("sh")
        .args(["-c", command, "sh"])
        .arg(sandbox_exec())
        .args([&format!("--allow-net=127.0.0.1:{port}"), "--allow-net=a.test", "--resolve=a.test:192.0.2.7"])
        .arg(format!("--net-log={}", log.display()))
        .args(["--", "/usr/bin/python3", "-c", script, &port.to_string()])
        .current_dir(directory.path()))
    .expect("runs");
    let expected = "full True True\nagain b'hello'\nthreads 161 set()\nnamed 192.0.2.7\nlast b'hello'\n";
    assert_eq!(outcome.stdout, expected, "{}", outcome.stderr);
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(denials(&log) >= 2000, "{}", denials(&log));
}

#[test]
fn a_network_without_bounds_is_said_loudly() {
    let (outcome, _) = sandbox(&["--help"], &[]);
    assert!(outcome.stdout.contains("EVERYTHING that this host can reach"), "{}", outcome.stdout);
}
