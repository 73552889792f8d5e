//! The broker's process, spoken to as a hostile sandbox would: it answers what is asked properly, and lives on whatever else comes.
//!
//! It is forked, for which this program must have one thread: it has a `main` of its own.

use boundary::broker::{MAX_MESSAGE, MAX_REQUEST, Protocol, Reply, Request, decode, encode};
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, send, setsockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use runtime::broker::{Broker, Rule, Rules, Settings};
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

struct Sandbox {
    socket: OwnedFd,
    broker: Option<Broker>,
    log: tempfile::NamedTempFile,
}

impl Sandbox {
    fn new(allow: &[String]) -> Sandbox {
        let log = tempfile::NamedTempFile::new().expect("a file");
        let allow = allow.iter().flat_map(|text| Rule::parse(text).expect("a rule")).collect();
        let settings = Settings {
            rules: Rules { allow, ..Rules::default() },
            hosts: vec![("a.test".into(), "127.0.0.1".parse().expect("an address"))],
            published: Vec::new(),
            log: Some(File::options().append(true).open(log.path()).expect("the file")),
        };
        let (broker, socket) = Broker::start(settings).expect("a broker");
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(5)).expect("a timeout");
        Sandbox { socket, broker: Some(broker), log }
    }

    fn send(&self, packet: &[u8], flags: MsgFlags) -> nix::Result<usize> {
        send(self.socket.as_raw_fd(), packet, flags | MsgFlags::MSG_NOSIGNAL)
    }

    fn receive(&self) -> (Reply, Option<OwnedFd>) {
        let mut packet = vec![0; MAX_MESSAGE];
        let mut control = nix::cmsg_space!([i32; 4]);
        let mut buffers = [IoSliceMut::new(&mut packet)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<UnixAddr>(self.socket.as_raw_fd(), &mut buffers, Some(&mut control), flags)
            .expect("the broker answers");
        let mut fds = Vec::new();
        for control in message.cmsgs().expect("room") {
            if let ControlMessageOwned::ScmRights(received) = control {
                // SAFETY: descriptors that were just received.
                fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let length = message.bytes;
        (decode(&packet[..length]).expect("a reply"), fds.pop())
    }

    fn connect(&self, id: u64, protocol: Protocol, to: SocketAddr) -> (Reply, Option<OwnedFd>) {
        let request = encode(&Request::Connect { id, protocol, to: to.into() }).expect("fits");
        self.send(&request, MsgFlags::empty()).expect("the broker takes requests");
        self.receive()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).expect("the log")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let (nothing, _) = nix::unistd::pipe().expect("a descriptor");
        drop(std::mem::replace(&mut self.socket, nothing));
        if let Some(broker) = self.broker.take() {
            let start = std::time::Instant::now();
            broker.finish();
            assert!(start.elapsed().as_secs() < 2, "the broker ends with its sandbox");
        }
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its address");
    (listener, at)
}

fn what_is_allowed_is_connected_and_passed_in() {
    let (listener, at) = listener();
    let sandbox = Sandbox::new(&[at.to_string()]);
    let (reply, socket) = sandbox.connect(7, Protocol::Tcp, at);
    let (mut theirs, from) = listener.accept().expect("a connection");
    assert_eq!(reply, Reply::Connected { id: 7, local: from.into() });
    let mut ours = TcpStream::from(socket.expect("a descriptor"));
    theirs.write_all(b"through").expect("written");
    let mut bytes = [0; 7];
    ours.read_exact(&mut bytes).expect("read");
    assert_eq!(&bytes, b"through");
    let (reply, none) = sandbox.connect(8, Protocol::Tcp, SocketAddr::new(at.ip(), at.port() ^ 1));
    assert_eq!(reply, Reply::Refused { id: 8, errno: libc::EACCES });
    assert!(none.is_none());
    let lines: Vec<String> = sandbox.log().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].contains("\"decision\":\"allow\"") && lines[1].contains("\"decision\":\"deny\""),
        "{lines:?}"
    );
}

fn no_form_of_an_address_is_another_one() {
    let sandbox = Sandbox::new(&["192.0.2.1".into(), "*".into()]);
    for to in [
        "0.0.0.0:80",
        "[::]:80",
        "[::ffff:127.0.0.1]:80",
        "127.9.9.9:80",
        "[::1]:80",
        "169.254.169.254:80",
        "[::127.0.0.1]:80",
    ] {
        let (reply, socket) = sandbox.connect(1, Protocol::Tcp, to.parse().expect("an address"));
        assert_eq!(reply, Reply::Refused { id: 1, errno: libc::EACCES }, "{to}");
        assert!(socket.is_none());
    }
    let log = sandbox.log();
    assert_eq!(log.lines().filter(|line| line.contains("\"deny\"")).count(), 7, "{log}");
}

fn malformed_requests_are_logged_and_answered_by_nothing() {
    let (_listener, at) = listener();
    let sandbox = Sandbox::new(&[at.to_string()]);
    let random = proptest::collection::vec(any::<u8>(), 1..3 * MAX_REQUEST);
    let good = encode(&Request::Connect { id: 1, protocol: Protocol::Tcp, to: at.into() }).expect("fits");
    // Bytes at random, and a good request with one byte changed and something behind it.
    let nearly = (0..good.len(), any::<u8>(), 1usize..20).prop_map(move |(at, byte, more)| {
        let mut packet = good.clone();
        packet[at] ^= byte;
        packet.resize(packet.len() + more, 0xff);
        packet
    });
    let mut runner = TestRunner::new(Config { cases: 500, failure_persistence: None, ..Config::default() });
    let result = runner.run(&prop_oneof![random, nearly], |packet| {
        if decode::<Request>(&packet).is_none() {
            sandbox.send(&packet, MsgFlags::empty()).expect("the broker takes it");
        }
        Ok(())
    });
    result.expect("the broker lives on");
    let (reply, socket) = sandbox.connect(99, Protocol::Tcp, at);
    assert!(matches!(reply, Reply::Connected { id: 99, .. }) && socket.is_some());
    assert!(sandbox.log().lines().filter(|line| line.contains("not a request")).count() > 100);
}

fn a_sandbox_that_takes_no_replies_gets_nothing_done_and_harms_nobody() {
    let (_listener, at) = listener();
    let sandbox = Sandbox::new(&[at.to_string()]);
    let mut sent = 0;
    for id in 0..200_000 {
        let request = encode(&Request::Connect { id, protocol: Protocol::Udp, to: at.into() }).expect("fits");
        match sandbox.send(&request, MsgFlags::MSG_DONTWAIT) {
            Ok(_) => sent += 1,
            Err(_) => {
                std::thread::sleep(std::time::Duration::from_millis(20));
                if sandbox.send(&request, MsgFlags::MSG_DONTWAIT).is_err() {
                    break;
                }
                sent += 1;
            }
        }
    }
    assert!(sent < 200_000, "the broker must not take everything");
    // All that was taken is answered, in order, and then it goes on.
    for id in 0..sent {
        let (reply, _socket) = sandbox.receive();
        match reply {
            Reply::Connected { id: answered, .. } | Reply::Refused { id: answered, .. } => {
                assert_eq!(answered, id)
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(sandbox.connect(1 << 40, Protocol::Udp, at).0, Reply::Connected { .. }));
}

fn queries_beyond_number_are_dropped_and_names_go_on() {
    let sandbox = Sandbox::new(&["a.test:80".into()]);
    let mut query =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x04test\x00\x00\x01\x00\x01".to_vec();
    for id in 0..500 {
        let request = encode(&Request::Resolve { id, query: query.clone() }).expect("fits");
        let _ = sandbox.send(&request, MsgFlags::empty());
        let (Reply::Resolved { answer, .. }, _) = sandbox.receive() else { panic!("no answer") };
        assert!(answer.starts_with(b"\x12\x34") && answer.ends_with(&[127, 0, 0, 1]));
    }
    query[13] = b'b';
    let request = encode(&Request::Resolve { id: 1, query }).expect("fits");
    sandbox.send(&request, MsgFlags::empty()).expect("sent");
    let (Reply::Resolved { answer, .. }, _) = sandbox.receive() else { panic!("no answer") };
    assert_eq!(answer[3] & 0xf, 3, "NXDOMAIN");
}

fn main() {
    let cases: &[(&str, fn())] = &[
        ("what_is_allowed_is_connected_and_passed_in", what_is_allowed_is_connected_and_passed_in),
        ("no_form_of_an_address_is_another_one", no_form_of_an_address_is_another_one),
        (
            "a_sandbox_that_takes_no_replies_gets_nothing_done_and_harms_nobody",
            a_sandbox_that_takes_no_replies_gets_nothing_done_and_harms_nobody,
        ),
        (
            "queries_beyond_number_are_dropped_and_names_go_on",
            queries_beyond_number_are_dropped_and_names_go_on,
        ),
        // Last: what proptest's generator of random numbers has open does not survive the fork of a broker.
        (
            "malformed_requests_are_logged_and_answered_by_nothing",
            malformed_requests_are_logged_and_answered_by_nothing,
        ),
    ];
    for (name, case) in cases {
        eprintln!("test {name} ...");
        case();
    }
}
