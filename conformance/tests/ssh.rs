//! ssh(1) and sshd(8): both in one sandbox, from a sandbox to the host through the broker, and from the host to a sandbox through a
//! published port. What the client prints is what it prints between two native ends. Needs root, whom sshd lets in and changes to.

use conformance::{Background, Outcome, free_port, run, sandbox_exec, scratch};
use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What the client does: `$ssh` has the options, `$at` the destination.
const CLIENT: &str = r#"
options=(-p "$1" -i "$2/user" -F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR)
ssh "${options[@]}" 127.0.0.1 'echo said; echo complained >&2; exit 3' </dev/null; echo "status $?"
seq 300000 | ssh "${options[@]}" 127.0.0.1 md5sum
ssh "${options[@]}" 127.0.0.1 'seq 300000' </dev/null | md5sum
ssh "${options[@]}" -tt 127.0.0.1 'tty | sed "s/[0-9]*$/N/"; stty size' </dev/null | tr -d '\r'
printf 'put %s/user.pub %s/copy\nget %s/copy %s\n' "$2" "$3" "$3" "$3/back" | sftp -q -P "$1" "${options[@]:2}" -b - 127.0.0.1 >/dev/null; echo "sftp $?"
"#;

fn is_root() -> bool {
    let root = run(Command::new("id").arg("-u")).expect("runs").stdout.trim() == "0";
    if !root {
        eprintln!("skipped: sshd lets others than itself in only as root");
    }
    root
}

/// A directory with keys of a server and of a user.
fn keys() -> tempfile::TempDir {
    let directory = scratch().expect("a directory");
    for name in ["host", "user"] {
        let made = run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f", name])
            .current_dir(directory.path()))
        .expect("runs");
        assert_eq!(made.status, 0, "{}", made.stderr);
    }
    directory
}

/// The server's command: `/run/sshd` is what a distribution's start script makes, and the log of logins is what a host has had since
/// it was set up.
fn server(port: u16, keys: &Path) -> [String; 3] {
    let keys = keys.display();
    let options = format!(
        "-D -e -p {port} -f /dev/null -h {keys}/host -o ListenAddress=127.0.0.1 -o AuthorizedKeysFile={keys}/user.pub \
         -o StrictModes=no -o UsePAM=yes -o PidFile=none -o 'Subsystem=sftp internal-sftp'"
    );
    [
        "/bin/sh".into(),
        "-c".into(),
        format!("mkdir -p -m 755 /run/sshd /var/log; : >>/var/log/lastlog; exec /usr/sbin/sshd {options}"),
    ]
}

/// A server that is started, and answering at `port`.
fn start(command: &mut Command, port: u16) -> Background {
    let server = Background::start(command).expect("starts");
    let start = Instant::now();
    while !greets(port) {
        assert!(start.elapsed() < Duration::from_secs(60), "nobody answers");
        std::thread::sleep(Duration::from_millis(50));
    }
    server
}

/// Whether a server is there, not only somebody who would pass on to it.
fn greets(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting).is_ok() && &greeting == b"SSH-"
}

fn client(port: u16, keys: &Path, place: &Path, prefix: &[&str]) -> Outcome {
    let script = ["bash", "-c", CLIENT, "client"];
    let argv = [prefix, &script].concat();
    let (program, arguments) = argv.split_first().expect("a program");
    run(Command::new(program).args(arguments).arg(port.to_string()).args([keys, place]).env("LC_ALL", "C"))
        .expect("runs")
}

/// What the client shows between two native ends.
fn natively(keys: &Path) -> Outcome {
    let (port, place) = (free_port(), scratch().expect("a directory"));
    let [program, arguments @ ..] = server(port, keys);
    let _server = start(Command::new(program).args(arguments), port);
    let outcome = client(port, keys, place.path(), &[]);
    assert!(
        outcome.stdout.starts_with("said\nstatus 3\n") && outcome.stdout.ends_with("sftp 0\n"),
        "{outcome:?}"
    );
    outcome
}

#[test]
fn both_ends_are_in_one_sandbox() {
    if !is_root() {
        return;
    }
    let (keys, place) = (keys(), scratch().expect("a directory"));
    let native = natively(keys.path());
    let port = free_port();
    let [_, _, serve] = server(port, keys.path());
    let script = format!(
        "( {serve} ) 2>/dev/null & for i in $(seq 600); do (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && break; sleep 0.1; done\n{CLIENT}"
    );
    let outcome = run(Command::new(sandbox_exec())
        .args([format!("--ro-bind={}", keys.path().display()), format!("--bind={}", place.path().display())])
        .args(["--", "bash", "-c", &script, "client", &port.to_string()])
        .args([keys.path(), place.path()])
        .env("LC_ALL", "C"))
    .expect("runs");
    assert_eq!(outcome, native);
}

#[test]
fn a_sandbox_reaches_a_server_on_the_host() {
    if !is_root() {
        return;
    }
    let (keys, place) = (keys(), scratch().expect("a directory"));
    let native = natively(keys.path());
    let port = free_port();
    let [program, arguments @ ..] = server(port, keys.path());
    let _server = start(Command::new(program).args(arguments), port);
    let sandbox = sandbox_exec();
    let (sandbox, allow) = (sandbox.to_str().expect("a path"), format!("--allow-net=127.0.0.1:{port}"));
    let grant = format!("--ro-bind={}", keys.path().display());
    let write = format!("--bind={}", place.path().display());
    // The server writes there as the host's root.
    let outcome = client(port, keys.path(), place.path(), &[sandbox, &allow, &grant, &write, "--"]);
    assert_eq!(outcome, native);
}

#[test]
fn the_host_reaches_a_server_in_a_sandbox() {
    if !is_root() {
        return;
    }
    let (keys, place) = (keys(), scratch().expect("a directory"));
    let native = natively(keys.path());
    let (port, inside) = (free_port(), 2222);
    let mut command = Command::new(sandbox_exec());
    command.args([format!("--publish={port}:{inside}"), format!("--ro-bind={}", keys.path().display())]);
    command.arg(format!("--bind={}", place.path().display())).arg("--").args(server(inside, keys.path()));
    let _server = start(&mut command, port);
    assert_eq!(client(port, keys.path(), place.path(), &[]), native);
}
