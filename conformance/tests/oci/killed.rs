//! SIGKILL of the runtime at any moment: `delete --force` clears what is left.

use crate::bundle::{Bundle, wait_for};
use crate::is_root;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Kills `arguments` after this long.
fn cut_short(bundle: &Bundle, arguments: &[&str], after: Duration) {
    let mut command = bundle.command(arguments);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    std::thread::sleep(after);
    let _ = child.kill();
    let _ = child.wait();
}

/// How long a verb takes when it is left alone.
fn length(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Moments from none to a little more than all of it.
fn moments(whole: Duration) -> impl Iterator<Item = Duration> {
    (0..24).map(move |step| whole * step / 20)
}

fn gone(bundle: &Bundle, after: Duration) {
    bundle.ok(&["delete", "--force", &bundle.id]);
    // A process that was killed with the command may take a moment over its end.
    wait_for(&format!("the end of everything, killed after {after:?},"), || bundle.left().is_empty());
}

#[test]
fn a_create_that_is_killed_leaves_nothing_after_delete() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::new("sleep 100000");
    let whole = length(|| bundle.create());
    gone(&bundle, whole);
    for after in moments(whole) {
        cut_short(&bundle, &["create", "--pid-file", "pid", &bundle.id], after);
        gone(&bundle, after);
    }
}

#[test]
fn a_start_or_an_exec_that_is_killed_leaves_nothing_after_delete() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::new("sleep 100000");
    bundle.create();
    let whole = length(|| bundle.start());
    let entering = length(|| drop(bundle.ok(&["exec", &bundle.id, "true"])));
    gone(&bundle, whole);
    for after in moments(whole) {
        bundle.create();
        cut_short(&bundle, &["start", &bundle.id], after);
        gone(&bundle, after);
    }
    for after in moments(entering) {
        bundle.create();
        bundle.start();
        cut_short(&bundle, &["exec", "--detach", &bundle.id, "sleep", "100000"], after);
        gone(&bundle, after);
    }
}

#[test]
fn a_monitor_that_is_killed_takes_its_sandbox_along() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::new("sleep 100000");
    bundle.create();
    bundle.start();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(bundle.pid()), nix::sys::signal::Signal::SIGKILL)
        .expect("killed");
    bundle.reaches("stopped");
    bundle.ok(&["delete", &bundle.id]);
    assert_eq!(bundle.left(), Vec::<String>::new());
}
