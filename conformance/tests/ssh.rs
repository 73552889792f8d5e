//! ssh(1) and sshd(8): both in one sandbox, from a sandbox to the host through the broker, from the host to a sandbox through a
//! published port, and either over an interface of the sandbox's own. What the client prints is what it prints between two native
//! ends. Needs root, whom sshd lets in and changes to.

use conformance::ways::{self, SANDBOXED, Server, Way};
use conformance::{Outcome, run, scratch};
use std::path::Path;
use std::process::Command;

/// What the server does at an address and a port, with the keys of a directory: `/run/sshd` is what a distribution's start script
/// makes, and the log of logins is what a host has had since it was set up.
const SERVER: &str = r#"mkdir -p -m 755 /run/sshd /var/log; : >>/var/log/lastlog
exec /usr/sbin/sshd -D -e -p "$3" -f /dev/null -h "$1/host" -o ListenAddress="$2" -o AuthorizedKeysFile="$1/user.pub" \
  -o StrictModes=no -o UsePAM=yes -o PidFile=none -o 'Subsystem=sftp internal-sftp'"#;

/// What the client does, with the keys of a directory, for the server at an address and a port, once it is there: not only somebody
/// who would pass on to it.
const CLIENT: &str = r#"
exec 3<>/dev/tcp/$2/$3 && IFS= read -t 10 -rn 4 greeting <&3 && [ "$greeting" = SSH- ] || exit; exec 3>&-
options=(-p "$3" -i "$1/user" -F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR)
ssh "${options[@]}" "$2" 'echo said; echo complained >&2; exit 3' </dev/null; echo "status $?"
seq 300000 | ssh "${options[@]}" "$2" md5sum
ssh "${options[@]}" "$2" 'seq 300000' </dev/null | md5sum
ssh "${options[@]}" -tt "$2" 'tty | sed "s/[0-9]*$/N/"; stty size' </dev/null | tr -d '\r'
printf 'put %s/user.pub %s/copy\nget %s/copy %s\n' "$1" "$PWD" "$PWD" "$PWD/back" |
  sftp -q -P "$3" "${options[@]:2}" -b - "$2" >/dev/null; echo "sftp $?"
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

fn met(way: Way, keys: &Path) -> Option<Outcome> {
    let place = scratch().expect("a directory");
    // The server writes there as the host's root.
    let (grant, write) =
        (format!("--ro-bind={}", keys.display()), format!("--bind={}", place.path().display()));
    let keys = keys.to_str().expect("a path");
    let argv = ["bash", "-c", SERVER, "server", keys];
    let server = Server { place: place.path(), options: &[&grant, &write], argv: &argv, v6: false };
    let mut outcome = None;
    let client = ["bash", "-c", CLIENT, "client", keys];
    ways::meet(way, &server, |meeting| {
        outcome = Some(meeting.ask(&[&client[..], &[meeting.at, meeting.port]].concat()));
    })
    .expect("a server");
    outcome
}

/// What the client shows between two native ends.
fn natively(keys: &Path) -> Outcome {
    let outcome = met(Way::Natively, keys).expect("native ends always meet");
    assert!(
        outcome.stdout.starts_with("said\nstatus 3\n") && outcome.stdout.ends_with("sftp 0\n"),
        "{outcome:?}"
    );
    outcome
}

#[test]
fn a_client_in_a_sandbox_or_its_server_or_both_say_what_native_ones_say() {
    if !is_root() {
        return;
    }
    let keys = keys();
    let native = natively(keys.path());
    for way in SANDBOXED {
        if let Some(outcome) = met(way, keys.path()) {
            assert_eq!(outcome, native, "{way:?}");
        }
    }
}
