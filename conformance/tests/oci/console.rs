//! Terminals: the master comes over `--console-socket`, and what is typed there reaches the program inside.

use crate::bundle::{Bundle, wait_for};
use crate::is_root;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::json;
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;

/// Takes the terminal that the next caller sends.
pub fn master(listener: &UnixListener) -> File {
    let (connection, _) = listener.accept().expect("a connection");
    let mut name = [0u8; 256];
    let mut room = nix::cmsg_space!([RawFd; 1]);
    let mut slices = [IoSliceMut::new(&mut name)];
    let message = recvmsg::<()>(connection.as_raw_fd(), &mut slices, Some(&mut room), MsgFlags::empty())
        .expect("a message");
    let fd = message.cmsgs().expect("control messages").find_map(|part| match part {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let length = message.bytes;
    assert!(String::from_utf8_lossy(&name[..length]).starts_with("/dev/pts/"));
    // SAFETY: a descriptor that the call has just made.
    File::from(unsafe { OwnedFd::from_raw_fd(fd.expect("a descriptor")) })
}

/// Everything that the terminal shows, as it comes.
pub fn shown(master: &File) -> mpsc::Receiver<String> {
    let mut master = master.try_clone().expect("a descriptor");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut piece = [0u8; 1024];
        while let Ok(length @ 1..) = master.read(&mut piece) {
            let _ = sender.send(String::from_utf8_lossy(&piece[..length]).into_owned());
        }
    });
    receiver
}

/// Waits until the terminal has shown this.
pub fn sees(output: &mpsc::Receiver<String>, all: &mut String, wanted: &str) {
    wait_for(wanted, || {
        all.extend(output.try_iter());
        all.contains(wanted)
    });
}

#[test]
fn a_terminal_has_its_size_its_keys_and_an_end() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::with("", |config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["consoleSize"] = json!({ "height": 33, "width": 77 });
        config["process"]["args"] = json!(["sh"]);
    });
    assert!(bundle.fails(&["create", &bundle.id], 1).contains("without setting console socket"));
    let listener = UnixListener::bind(bundle.place.path().join("console")).expect("a socket");
    bundle.ok(&["create", "--console-socket", "console", "--pid-file", "pid", &bundle.id]);
    let mut terminal = master(&listener);
    let (output, mut all) = (shown(&terminal), String::new());
    bundle.start();
    terminal.write_all(b"stty size; tty; echo mar''ked\n").expect("typed");
    sees(&output, &mut all, "marked\r\n");
    assert!(all.contains("33 77\r\n") && all.contains("/dev/pts/0"), "{all}");
    terminal.write_all(b"sleep 100; echo after $?\n").expect("typed");
    wait_for("the sleeper", || bundle.ok(&["exec", &bundle.id, "ps", "-o", "args"]).contains("sleep 100\n"));
    terminal.write_all(&[3]).expect("typed");
    terminal.write_all(b"echo aga''in\n").expect("typed");
    sees(&output, &mut all, "again\r\n");

    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["sh", "-c", "tty; read line; echo got $line"]);
    std::fs::write(bundle.place.path().join("process.json"), process.to_string()).expect("written");
    bundle.ok(&[
        "exec",
        "--detach",
        "--console-socket",
        "console",
        "--process",
        "process.json",
        "--pid-file",
        "p",
        &bundle.id,
    ]);
    let mut second = master(&listener);
    let (entered, mut text) = (shown(&second), String::new());
    second.write_all(b"typed\n").expect("typed");
    sees(&entered, &mut text, "got typed\r\n");
    assert!(text.contains("/dev/pts/1"), "{text}");

    terminal.write_all(b"exit 4\n").expect("typed");
    bundle.reaches("stopped");
}
