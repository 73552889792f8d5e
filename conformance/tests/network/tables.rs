//! What `/proc/net/*` and sock_diag(7) tell of sockets whose other end is outside, beside what they tell natively.

use super::{AT_ONCE, python};
use conformance::{free_port, run, sandbox_exec, scratch};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Finds a socket's lines in a table, and shows them as far as they do not depend on the run.
const TABLES: &str = "import os, socket, struct, subprocess, sys, time
def at(text):
    ip, port = text.split(':')
    packed = b''.join(struct.pack('=I', int(ip[i:i + 8], 16)) for i in range(0, len(ip), 8))
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed), int(port, 16)
def lines(table, chosen):
    found = []
    for line in open('/proc/net/' + table).read().splitlines()[1:]:
        words = line.split()
        if chosen(at(words[1]), at(words[2])):
            found.append((at(words[1]), at(words[2]), words[3], words[4], int(words[7]), int(words[9])))
    return found
def show(table, s, name=None, peer=None):
    name, peer = name or s.getsockname()[:2], peer or s.getpeername()[:2]
    for local, remote, state, queues, uid, inode in lines(table, lambda local, remote: local == name):
        sent, waiting = (int(part, 16) for part in queues.split(':'))
        told = waiting if table.startswith('tcp') else waiting > 0
        print(table, state, remote == peer, sent, told, uid == os.getuid(), inode == os.fstat(s.fileno()).st_ino)
def becomes(table, s, state):
    name, end = s.getsockname()[:2], time.monotonic() + 10
    while [line[2] for line in lines(table, lambda local, remote: local == name)] != [state] and time.monotonic() < end:
        time.sleep(0.01)
def ss(*words):
    found = subprocess.run(['ss', '-nH', *words], capture_output=True, text=True).stdout
    return [line.split() for line in found.splitlines()]
";

/// A server that says hello, closes its side when it is told to, and keeps what it has.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.write_all(b"hello");
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|count| count > 0) {
                    if byte == *b"c" {
                        let _ = stream.shutdown(Shutdown::Write);
                    }
                }
                std::thread::sleep(AT_ONCE);
            });
        }
    });
    port
}

#[test]
fn connections_to_the_outside_are_in_the_tables() {
    let script = format!(
        "{TABLES}
port, udp = int(sys.argv[1]), int(sys.argv[2])
a = socket.create_connection(('127.0.0.1', port))
a.recv(5, socket.MSG_PEEK | socket.MSG_WAITALL)
show('tcp', a)
print([(word[0], word[1], word[2], word[4] == '127.0.0.1:%d' % port) for word in ss('-t', 'sport', '=', ':%d' % a.getsockname()[1])])
a.recv(5); show('tcp', a)
a.shutdown(socket.SHUT_WR); becomes('tcp', a, '05'); show('tcp', a)
b = socket.create_connection(('127.0.0.1', port))
b.sendall(b'c')
while b.recv(10): pass
becomes('tcp', b, '08'); show('tcp', b)
c = socket.socket(socket.AF_INET6)
c.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
c.connect(('::ffff:127.0.0.1', port)); c.recv(5); show('tcp6', c)
print([word[0] for word in ss('-t', 'sport', '=', ':%d' % c.getsockname()[1])])
d = socket.socket(); d.bind(('127.0.0.1', 0)); d.connect(('127.0.0.1', port)); d.recv(5); show('tcp', d)
name = d.getsockname(); d.close()
print([line for line in lines('tcp', lambda local, remote: local == name) if line[2] == '01'])
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.connect(('127.0.0.1', udp)); show('udp', u)
u.send(b'hello'); u.recv(5, socket.MSG_PEEK); show('udp', u)
print([word[-1] == '127.0.0.1:%d' % udp for word in ss('-u', 'sport', '=', ':%d' % u.getsockname()[1])])
v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
v.sendto(b'hello', ('127.0.0.1', udp)); print(v.recvfrom(5)[0])
show('udp', v, peer=('0.0.0.0', 0))
"
    );
    let echo = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let udp = echo.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        let mut bytes = [0; 100];
        while let Ok((length, from)) = echo.recv_from(&mut bytes) {
            let _ = echo.send_to(&bytes[..length], from);
        }
    });
    let ports = [server(), udp];
    let arguments = ports.map(|port| port.to_string());
    let native = run(Command::new("/usr/bin/python3").args(["-c", &script]).args(&arguments)).expect("runs");
    assert_eq!(native.status, 0, "{}", native.stderr);
    assert_eq!(native.stdout.matches("True True\n").count(), 9, "{}", native.stdout);
    let allow = ports.map(|port| format!("--allow-net=127.0.0.1:{port}"));
    let (outcome, log) = python(&[&allow[0], &allow[1]], &script, &arguments);
    assert_eq!(outcome.stdout, native.stdout, "{} {log}", outcome.stderr);
}

#[test]
fn connections_from_the_outside_are_in_the_tables() {
    let script = format!(
        "{TABLES}
server = socket.create_server(('127.0.0.1', int(sys.argv[1])))
ours = lambda local, remote: local == server.getsockname()
waiting = lambda: sorted((line[2], line[5] != 0) for line in lines('tcp', ours))
end = time.monotonic() + 10
while len(waiting()) < 3 and time.monotonic() < end: time.sleep(0.01)
print(waiting())
print(sorted((word[1], word[2]) for word in ss('-lt', 'sport', '=', ':%s' % sys.argv[1])))
one, peer = server.accept()
print([(line[2], line[1] == peer, line[5] == os.fstat(one.fileno()).st_ino) for line in lines('tcp', ours) if line[1] == peer])
print(waiting(), flush=True)
sys.stdin.read()
"
    );
    let directory = scratch().expect("a directory");
    let shown = |mut command: Command, port: u16, inside: u16| {
        let child = command
            .args(["/usr/bin/python3", "-c", &script, &inside.to_string()])
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        // Natively, nobody listens at first; a published port is there before its server is, and ends what finds none.
        let begin = Instant::now();
        let mut kept = Vec::new();
        while kept.len() < 2 && begin.elapsed() < AT_ONCE {
            std::thread::sleep(Duration::from_millis(20));
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
            if stream.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
                kept.push(stream);
            }
        }
        let output = child.wait_with_output().expect("ends");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let port = free_port();
    let native = shown(Command::new("env"), port, port);
    assert!(native.starts_with("[('01', False), ('01', False), ('0A', True)]\n"), "{native}");
    let port = free_port();
    let mut command = Command::new(sandbox_exec());
    command.args(["--publish", &format!("{port}:7777"), "--"]);
    assert_eq!(shown(command, port, 7777), native);
}

/// What the Java virtual machine asks of netlink, of ioctl(2) and of `/proc/net`, beside a network namespace that has loopback alone.
#[test]
fn a_jvm_sees_the_interfaces_that_there_are() {
    if !run(Command::new("java").arg("-version")).is_ok_and(|outcome| outcome.status == 0) {
        eprintln!("skipped: there is no java");
        return;
    }
    const INTERFACES: &str = "import java.net.*; import java.util.*;
class Interfaces { public static void main(String[] none) throws Exception {
    for (NetworkInterface one : Collections.list(NetworkInterface.getNetworkInterfaces())) {
        System.out.println(one.getName() + one.getIndex() + one.isUp() + one.isLoopback() + one.isPointToPoint() + one.supportsMulticast() + one.getMTU());
        System.out.println(Arrays.toString(one.getHardwareAddress()) + one.getInterfaceAddresses());
    }
    System.out.println(NetworkInterface.getByInetAddress(InetAddress.getByName(\"127.0.0.1\")));
    System.out.println(InetAddress.getLoopbackAddress().isReachable(1000));
    InetAddress.getLocalHost();
} }";
    let directory = scratch().expect("a directory");
    std::fs::write(directory.path().join("Interfaces.java"), INTERFACES).expect("a file");
    let java = ["java", "Interfaces.java"];
    let alone = ["--map-root-user", "--net", "sh", "-c", "ip link set lo up; exec \"$@\"", "sh"];
    let native = run(Command::new("unshare").args(alone).args(java).current_dir(directory.path()));
    let native = native.expect("runs");
    assert_eq!(native.status, 0, "{}", native.stderr);
    let inside = run(Command::new(sandbox_exec()).args(java).current_dir(directory.path())).expect("runs");
    assert_eq!((inside.status, inside.stdout), (0, native.stdout), "{}", inside.stderr);
}
