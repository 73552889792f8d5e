//! The ways out of a sandbox (`--network=broker`, `--publish`) and what they refuse, with servers on the host's loopback interface.
//! Nothing here needs the internet.

mod rules;
mod tables;

use conformance::{AT_ONCE, Outcome, free_port, run, sandbox_exec, scratch};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A web server that gives every request this answer.
struct Web {
    at: SocketAddr,
    served: Arc<AtomicUsize>,
}

impl Web {
    fn new(answer: &str) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("its address");
        let served = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (served.clone(), answer.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                count.fetch_add(1, Ordering::SeqCst);
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Web { at, served }
    }

    fn page(text: &str) -> Web {
        let length = text.len();
        Web::new(&format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"))
    }

    fn port(&self) -> u16 {
        self.at.port()
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

/// Runs a command with options of the network; what it showed, and the log of decisions.
fn sandbox(options: &[&str], command: &[&str]) -> (Outcome, String) {
    let directory = scratch().expect("a directory");
    let log = directory.path().join("net.log");
    let outcome = run(Command::new(sandbox_exec())
        .args(options)
        .arg(format!("--net-log={}", log.display()))
        .arg("--")
        .args(command)
        .env_remove("http_proxy")
        .current_dir(directory.path()))
    .expect("runs");
    (outcome, std::fs::read_to_string(log).unwrap_or_default())
}

fn curl<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    [&["/usr/bin/curl", "-sS", "--noproxy", "*", "-m", "20"], rest].concat()
}

fn denials(log: &str) -> usize {
    log.lines().filter(|line| line.contains("\"decision\":\"deny\"")).count()
}

#[test]
fn a_fetch_succeeds_to_the_one_name_that_is_allowed_and_to_no_other() {
    let web = Web::page("from outside\n");
    let allow = format!("--allow-net=a.test:{}", web.port());
    let options = [&*allow, "--resolve=a.test:127.0.0.1", "--resolve=b.test:127.0.0.1"];
    let fetch = |host: &str| sandbox(&options, &curl(&[&format!("http://{host}:{}/", web.port())]));
    let (outcome, log) = fetch("a.test");
    assert_eq!((outcome.status, &*outcome.stdout), (0, "from outside\n"), "{} {log}", outcome.stderr);
    assert_eq!(denials(&log), 0, "{log}");
    assert_eq!(web.served(), 1);
    for host in ["b.test", "sub.a.test", "a.test.evil.test", "192.0.2.1", "169.254.169.254", "[fe80::1]"] {
        let (outcome, log) = fetch(host);
        assert_ne!(outcome.status, 0, "{host}: {log}");
        assert!(denials(&log) > 0, "{host}: {log}");
    }
    assert_eq!(web.served(), 1);
}

#[test]
fn an_allowed_name_has_no_other_port() {
    let (web, other) = (Web::page("a"), Web::page("b"));
    let allow = format!("--allow-net=a.test:{}", web.port());
    let options = [&*allow, "--resolve=a.test:127.0.0.1"];
    let (outcome, log) = sandbox(&options, &curl(&[&format!("http://a.test:{}/", other.port())]));
    assert_eq!((outcome.status, other.served()), (7, 0), "{log}");
    assert!(log.contains("no rule allows port"), "{log}");
}

#[test]
fn no_form_of_an_address_leads_where_no_rule_does() {
    let (web, other) = (Web::page("a"), Web::page("b"));
    // So that the broker is asked for what is loopback, too.
    let allow = format!("--allow-net=127.0.0.1:{}", other.port());
    let forms = [
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[::]",
        "[::1]",
        "localhost",
    ];
    for form in forms {
        let (outcome, log) = sandbox(&[&*allow], &curl(&[&format!("http://{form}:{}/", web.port())]));
        assert_ne!(outcome.status, 0, "{form}: {}", outcome.stdout);
        assert!(denials(&log) > 0, "{form}: {log}");
    }
    assert_eq!(web.served(), 0);
}

#[test]
fn a_redirect_leads_nowhere_else() {
    let inner = Web::page("secret");
    let hop = |to: u16| Web::new(&format!("HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:{to}/\r\n\r\n"));
    let last = hop(inner.port());
    let first = hop(last.port());
    let (allow, allow_last) =
        (format!("--allow-net=127.0.0.1:{}", first.port()), format!("--allow-net=127.0.0.1:{}", last.port()));
    let (outcome, log) =
        sandbox(&[&*allow, &*allow_last], &curl(&["-L", &format!("http://127.0.0.1:{}/", first.port())]));
    assert_eq!((outcome.status, last.served(), inner.served()), (7, 1, 0), "{log}");
    assert_eq!(denials(&log), 1, "{log}");
}

#[test]
fn without_a_network_everything_but_loopback_is_unreachable_at_once() {
    let script = "import socket, errno
for family, kind, to in ((socket.AF_INET, socket.SOCK_STREAM, '192.0.2.1'), (socket.AF_INET, socket.SOCK_DGRAM, '192.0.2.1'),
                         (socket.AF_INET6, socket.SOCK_STREAM, '2001:db8::1')):
    try: socket.socket(family, kind).connect((to, 80)); print('connected')
    except OSError as error: print(errno.errorcode[error.errno])
";
    let outcome =
        run(Command::new(sandbox_exec()).args(["--", "/usr/bin/python3", "-c", script])).expect("runs");
    assert_eq!(outcome.stdout, "ENETUNREACH\n".repeat(3), "{}", outcome.stderr);
}

/// A Python program that is given a port of the host as its argument.
fn python(options: &[&str], script: &str, arguments: &[String]) -> (Outcome, String) {
    let mut command = vec!["/usr/bin/python3", "-c", script];
    command.extend(arguments.iter().map(String::as_str));
    sandbox(options, &command)
}

#[test]
fn datagrams_go_to_several_servers_and_come_back() {
    let echo = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("its address").port();
        std::thread::spawn(move || {
            let mut bytes = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut bytes) {
                let answer = [format!("{port}:").as_bytes(), &bytes[..length]].concat();
                let _ = socket.send_to(&answer, from);
            }
        });
        port.to_string()
    };
    let script = "import socket, sys, select
ports = [int(port) for port in sys.argv[1:3]]
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in ports: one.sendto(b'x', ('127.0.0.1', port))
got = []
for _ in ports:
    select.select([one], [], [], 10)
    data, place = one.recvfrom(100)
    got.append(data == b'%d:x' % place[1] and place[1] in ports)
print(got)
two = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
two.connect(('127.0.0.1', ports[0]))
two.send(b'y' * 1000)
two.settimeout(10)
print(len(two.recv(10)), two.getpeername()[1] == ports[0])
three = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try: three.sendto(b'z', ('127.0.0.1', int(sys.argv[3])))
except PermissionError: print('refused')
";
    let ports = [echo(), echo(), echo()];
    let allow: Vec<String> = ports[..2].iter().map(|port| format!("--allow-net=127.0.0.1:{port}")).collect();
    let (outcome, log) = python(&[&allow[0], &allow[1]], script, &ports);
    assert_eq!(outcome.stdout, "[True, True]\n10 True\nrefused\n", "{} {log}", outcome.stderr);
}

#[test]
fn a_connection_to_the_outside_is_as_any_other() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    // A server that echoes until the end of what is sent, and then says so.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut bytes = Vec::new();
                let _ = stream.read_to_end(&mut bytes);
                let _ = stream.write_all(format!("{} bytes", bytes.len()).as_bytes());
            });
        }
    });
    let script = "import socket, sys, select, errno, threading
port = int(sys.argv[1])
s = socket.socket(); s.setblocking(False)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
print(errno.errorcode[s.connect_ex(('127.0.0.1', port))])
poll = select.epoll(); poll.register(s, select.EPOLLOUT | select.EPOLLIN | select.EPOLLET)
print([event for _, event in poll.poll(10)] == [select.EPOLLOUT])
print(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), s.connect_ex(('127.0.0.1', port)))
try: s.recv(1)
except BlockingIOError: print('nothing yet')
print(s.getpeername() == ('127.0.0.1', port), s.getsockname()[0])
total = 0
while total < 3000000:
    try: total += s.send(b'x' * 100000)
    except BlockingIOError: poll.poll(10)
s.shutdown(socket.SHUT_WR)
while True:
    if any(event & select.EPOLLIN for _, event in poll.poll(10)): break
s.setblocking(True)
print(s.recv(100).decode() == '%d bytes' % total, s.recv(100))
try: s.getpeername()
except OSError as error: print(errno.errorcode[error.errno], s.getsockname()[0])
s.close()
t = socket.create_connection(('127.0.0.1', port)); t.settimeout(0.2)
try: t.recv(1)
except socket.timeout: print('timed out')
t.settimeout(None)
threading.Timer(0.2, lambda: t.shutdown(socket.SHUT_RD)).start()
print(t.recv(1))
u = socket.socket()
print(errno.errorcode[u.connect_ex(('127.0.0.1', int(sys.argv[2])))])
print(u.connect_ex(('127.0.0.1', port)))
v = socket.socket(); v.setblocking(False)
v.connect_ex(('127.0.0.1', int(sys.argv[2])))
select.select([], [v], [], 10)
print(errno.errorcode[v.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)])
";
    // A port that nobody listens at.
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port").port();
    let allow = [port, closed].map(|port| format!("--allow-net=127.0.0.1:{port}"));
    let arguments = [port.to_string(), closed.to_string()];
    let native = run(Command::new("/usr/bin/python3").args(["-c", script]).args(&arguments)).expect("runs");
    assert_eq!(native.status, 0, "{}", native.stderr);
    let (outcome, log) = python(&[&allow[0], &allow[1]], script, &arguments);
    assert_eq!(outcome.stdout, native.stdout, "{} {log}", outcome.stderr);
}

/// A sandbox with a server in it; ended when dropped.
struct Serving(Child);

impl Serving {
    fn start(directory: &Path, publish: &str, command: &[&str]) -> Serving {
        let child = Command::new(sandbox_exec())
            .args(["--publish", publish, "--"])
            .args(command)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Serving(child.expect("starts"))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until there is an answer: the server inside takes its time to start, and until then nobody accepts.
fn fetch(port: u16, path: &str) -> String {
    let start = Instant::now();
    loop {
        let mut text = String::new();
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
            let _ = write!(stream, "GET {path} HTTP/1.0\r\n\r\n");
            let _ = stream.read_to_string(&mut text);
        }
        if !text.is_empty() || start.elapsed() > AT_ONCE {
            return text;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_server_in_the_sandbox_is_reached_through_a_published_port() {
    let directory = scratch().expect("a directory");
    std::fs::write(directory.path().join("page"), "x".repeat(1 << 20)).expect("a file");
    let port = free_port();
    let serving = Serving::start(
        directory.path(),
        &format!("{port}:8000"),
        &[
            "/usr/bin/python3",
            "-c",
            "import http.server as s
class Quiet(s.SimpleHTTPRequestHandler):
    log_message = lambda *rest: None
s.ThreadingHTTPServer(('', 8000), Quiet).serve_forever()",
        ],
    );
    assert!(fetch(port, "/page").ends_with(&"x".repeat(1 << 20)));
    let threads: Vec<_> = (0..20).map(|_| std::thread::spawn(move || fetch(port, "/page").len())).collect();
    for thread in threads {
        assert!(thread.join().expect("no panic") > 1 << 20);
    }
    drop(serving);
    // The supervisor was killed; the host ends the broker with it, in its own time.
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(start.elapsed() < AT_ONCE, "the port is free again");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Asks a server of datagrams until it answers: it takes its time to start, and until then nobody takes them.
fn ask(socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
    let mut answer = vec![0; 70_000];
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        socket.send(question).expect("sent");
        // An answer to an earlier one may come first.
        while let Ok(length) = socket.recv(&mut answer) {
            if answer.get(..question.len()) == Some(question) {
                answer.truncate(length);
                return answer;
            }
        }
    }
    panic!("no answer to {} bytes", question.len());
}

/// Answers with the question, the sender's port and how many datagrams it has had from there.
const DATAGRAM_SERVER: &str = "
import collections, socket, sys
s = socket.socket(getattr(socket, sys.argv[1]), socket.SOCK_DGRAM)
s.bind((sys.argv[2], 5353))
had = collections.Counter()
while True:
    question, sender = s.recvfrom(70000)
    had[sender] += 1
    s.sendto(question + f' from {sender[0]} {sender[1]} {had[sender]}'.encode(), sender)
";

#[test]
fn datagrams_reach_a_server_in_the_sandbox_through_a_published_port() {
    let directory = scratch().expect("a directory");
    let free = UdpSocket::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port").port();
    let client = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.connect(("127.0.0.1", free)).expect("an address");
        socket
    };
    for (family, ip, shown) in [("AF_INET", "127.0.0.1", "127.0.0.1"), ("AF_INET6", "::", "::ffff:127.0.0.1")]
    {
        let serving = Serving::start(
            directory.path(),
            &format!("{free}:5353/udp"),
            &["/usr/bin/python3", "-c", DATAGRAM_SERVER, family, ip],
        );
        let (first, second) = (client(), client());
        let own = first.local_addr().expect("its address").port();
        let answer = String::from_utf8(ask(&first, b"one")).expect("text");
        assert!(answer.starts_with(&format!("one from {shown} {own} ")), "{answer}");
        // What comes from the same sender goes on to the same server, as what it is, whatever its length.
        let had = |answer: &str| answer.rsplit_once(' ').and_then(|(_, count)| count.parse::<u32>().ok());
        let again = String::from_utf8(ask(&first, b"two")).expect("text");
        assert!(had(&again) > had(&answer), "{again}");
        let long: Vec<u8> = (0..60_000u32).map(|number| number as u8).collect();
        assert!(ask(&first, &long).starts_with(&long));
        assert!(ask(&second, &long).starts_with(&long));
        // More senders than a socket remembers, the first of them once more at the end.
        let many: Vec<_> = (0..100).map(|_| client()).collect();
        for (number, socket) in many.iter().chain([&first]).enumerate() {
            let question = format!("question {number}");
            assert!(ask(socket, question.as_bytes()).starts_with(question.as_bytes()));
        }
        drop(serving);
        // The port is free again, once the host has ended the broker.
        let start = Instant::now();
        while UdpSocket::bind(("127.0.0.1", free)).is_err() {
            assert!(start.elapsed() < AT_ONCE, "the port is free again");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// In a network namespace of its own: the host's name server may have the port.
#[test]
fn a_port_that_needs_privilege_is_published_by_root() {
    let server = DATAGRAM_SERVER.replace("5353", "53");
    let client = "import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.3); s.connect(('127.0.0.1', 53))
for _ in range(200):
    try: s.send(b'q'); print(s.recv(100).decode().split()[:3]); break
    except (TimeoutError, ConnectionError): pass";
    let script = "ip link set lo up; \"$1\" --publish 53:53/udp -- /usr/bin/python3 -c \"$2\" AF_INET 127.0.0.1 & /usr/bin/python3 -c \"$3\"; \
                  status=$?; kill $!; wait; exit $status";
    let outcome = run(Command::new("unshare")
        .args(["-n", "bash", "-c", script, "script"])
        .arg(sandbox_exec())
        .args([&*server, client])
        .current_dir(scratch().expect("a directory").path()))
    .expect("runs");
    if outcome.stderr.contains("unshare failed") {
        eprintln!("skipped: a network namespace needs root");
        return;
    }
    assert_eq!((outcome.status, &*outcome.stdout), (0, "['q', 'from', '127.0.0.1']\n"), "{}", outcome.stderr);
}

#[test]
fn a_published_port_that_is_taken_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let outcome =
        run(Command::new(sandbox_exec()).args(["--publish", &format!("{port}:80"), "true"])).expect("runs");
    assert_eq!(outcome.status, 125);
    assert!(
        outcome.stderr.contains(&port.to_string()) && outcome.stderr.lines().count() == 1,
        "{}",
        outcome.stderr
    );
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let publish = format!("{port}:80/udp");
    let outcome = run(Command::new(sandbox_exec()).args(["--publish", &publish, "true"])).expect("runs");
    assert!(outcome.status == 125 && outcome.stderr.contains(&port.to_string()), "{}", outcome.stderr);
}

#[test]
fn options_of_the_network_that_make_no_sense_are_refused() {
    let cases: [(&[&str], &str); 6] = [
        (&["--allow-net=0x7f.1", "true"], "0x7f.1"),
        (&["--allow-net=a.test:0", "true"], "port"),
        (&["--publish=80", "true"], "HOSTPORT:PORT"),
        (&["--resolve=a.test", "true"], "NAME:ADDRESS"),
        (&["--network=none", "--allow-net=a.test", "true"], "--network=broker"),
        (&["--network=broker", "--net-log=/no/such/directory/x", "true"], "/no/such/directory/x"),
    ];
    for (arguments, named) in cases {
        let outcome = run(Command::new(sandbox_exec()).args(arguments)).expect("runs");
        assert_eq!(outcome.status, 125, "{arguments:?}");
        assert!(outcome.stderr.contains(named) && outcome.stderr.lines().count() == 1, "{}", outcome.stderr);
    }
}

#[test]
fn the_hosts_network_has_everything_but_what_is_denied() {
    let (web, denied) = (Web::page("a"), Web::page("b"));
    let deny = format!("--deny-net=127.0.0.1:{}", denied.port());
    let options = ["--network=host", &*deny];
    let (outcome, log) = sandbox(&options, &curl(&[&format!("http://127.0.0.1:{}/", web.port())]));
    assert_eq!((outcome.status, &*outcome.stdout), (0, "a"), "{log}");
    let (outcome, log) = sandbox(&options, &curl(&[&format!("http://127.0.0.1:{}/", denied.port())]));
    assert_eq!((outcome.status, denied.served(), denials(&log)), (7, 0, 1), "{log}");
}

/// In a network namespace of its own, with a name server that changes its mind.
#[test]
fn a_name_that_is_made_to_point_inside_leads_nowhere() {
    let script = include_str!("../../attacks/rebinding.sh");
    let outcome = run(Command::new("unshare")
        .args(["-Urnm", "--", "bash", "-c", script, "rebinding.sh"])
        .arg(sandbox_exec())
        .current_dir(scratch().expect("a directory").path()))
    .expect("runs");
    assert_eq!(outcome.status, 0, "{}{}", outcome.stdout, outcome.stderr);
}
