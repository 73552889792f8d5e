//! Overlays and devices as the command line asks for them: what is seen inside, and what is left outside.

use conformance::{Outcome, run, sandbox_exec, scratch};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

fn sandbox(arguments: &[&str], directory: &Path) -> Outcome {
    run(Command::new(sandbox_exec()).args(arguments).current_dir(directory)).expect("sandbox-exec runs")
}

/// A directory with a `lower` that has files and an empty `upper`.
fn layers() -> tempfile::TempDir {
    let place = scratch().expect("a directory");
    for directory in ["lower/d", "upper"] {
        std::fs::create_dir_all(place.path().join(directory)).expect("a directory");
    }
    for file in ["lower/kept", "lower/changed", "lower/d/removed"] {
        std::fs::write(place.path().join(file), "lower\n").expect("a file");
    }
    place
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| error.kind().to_string())
}

#[test]
fn an_upper_keeps_what_was_changed_for_the_next_sandbox() {
    let place = layers();
    let in_lower = |script: &str| {
        let script = format!("cd lower; {script}");
        sandbox(&["--overlay", "lower:upper", "sh", "-c", &script], place.path())
    };
    let first = in_lower("echo more >> changed; rm d/removed; mkdir new; echo x > new/x; ls");
    assert_eq!((first.stdout.as_str(), first.status), ("changed\nd\nkept\nnew\n", 0), "{}", first.stderr);
    assert_eq!(text(&place.path().join("lower/changed")), "lower\n");
    assert_eq!(text(&place.path().join("upper/changed")), "lower\nmore\n");
    assert_eq!(text(&place.path().join("upper/d/.wh.removed")), "");
    assert!(!place.path().join("upper/kept").exists());
    let second = in_lower("cat changed new/x; ls -A d; mv new d; echo back > d/removed");
    assert_eq!((second.stdout.as_str(), second.status), ("lower\nmore\nx\n", 0), "{}", second.stderr);
    assert_eq!(text(&place.path().join("upper/d/removed")), "back\n");
    assert!(!place.path().join("upper/d/.wh.removed").exists());
}

#[test]
fn without_an_upper_nothing_is_left_and_of_the_lower_nothing_else_can_be_written() {
    let place = layers();
    let script =
        "rm -r lower/d; echo x > lower/kept; cat lower/kept; ls lower; echo y > upper/y || echo refused";
    let outcome = sandbox(&["--overlay", "lower", "--ro-bind", "upper", "sh", "-c", script], place.path());
    assert_eq!(outcome.stdout, "x\nchanged\nkept\nrefused\n", "{}", outcome.stderr);
    assert_eq!(text(&place.path().join("lower/kept")), "lower\n");
    assert_eq!(text(&place.path().join("lower/d/removed")), "lower\n");
}

#[test]
fn a_read_only_upper_is_refused_by_the_host_and_nothing_is_lost() {
    let place = layers();
    std::fs::set_permissions(place.path().join("upper"), std::fs::Permissions::from_mode(0o555))
        .expect("mode");
    let script = "echo x > lower/new; cat lower/kept";
    let outcome = sandbox(&["--overlay", "lower:upper", "sh", "-c", script], place.path());
    assert!(outcome.stdout == "lower\n" && outcome.stderr.contains("lower/new"), "{}", outcome.stderr);
}

#[test]
fn what_is_asked_for_nests_whatever_the_order() {
    let place = layers();
    let orders: [&[&str]; 2] = [
        &["--tmpfs", "/t", "--ro-bind", "lower:/t/b", "--overlay", "lower", "--tmpfs", "/t/b/d"],
        &["--tmpfs", "/t/b/d", "--overlay", "lower", "--ro-bind", "lower:/t/b", "--tmpfs", "/t"],
    ];
    for order in orders {
        let script = "ls /t/b; touch /t/b/d/x && ls -A /t/b/d; touch /t/b/x; touch lower/x && ls lower";
        let outcome = sandbox(&[order, &["sh", "-c", script]].concat(), place.path());
        assert_eq!(outcome.stdout, "changed\nd\nkept\nx\nchanged\nd\nkept\nx\n", "{}", outcome.stderr);
        assert!(outcome.stderr.contains("Read-only"), "{}", outcome.stderr);
    }
}

#[test]
fn devices_are_the_sandboxs_own_and_others_are_refused_by_name() {
    let place = layers();
    let script = "echo x > /srv/null; head -c 3 /srv/zero | od -An -tx1; echo x > /srv/full || echo full";
    let devices = ["--dev-bind", "/dev/null:/srv/null", "--dev-bind", "/dev/zero:/srv/zero"];
    let devices = [&devices[..], &["--dev-bind", "/dev/full:/srv/full", "sh", "-c", script]].concat();
    assert_eq!(sandbox(&devices, place.path()).stdout, " 00 00 00\nfull\n");
    let refused = sandbox(&["--dev-bind", "/dev/kvm", "true"], place.path());
    assert!(refused.status == 125 && refused.stderr.contains("/dev/kvm"), "{}", refused.stderr);
    for overlay in ["lower:lower", "lower:.", "lower/kept", "no-such"] {
        let refused = sandbox(&["--overlay", overlay, "true"], place.path());
        assert_eq!(
            (refused.status, refused.stderr.lines().count()),
            (125, 1),
            "{overlay}: {}",
            refused.stderr
        );
    }
}

/// A program that changes `lower` in every way that a layer can tell.
const CHANGES: &str = "cd lower; echo more >> changed; rm d/removed; rm -r gone; mkdir gone; echo new > gone/new; ln changed again; \
                       ln -s /nowhere link; chmod 600 kept; mkdir -p a/b; echo x > a/b/c; mv d moved; truncate -s 1G sparse";

/// Does what the markers of an unpacked layer say; what was there before is older than `root.marker`.
fn apply_markers(root: &Path) {
    let script = "set -e; cd \"$0\"; find . -name '.wh..wh..opq' | while read o; do d=$(dirname \"$o\"); \
                  find \"$d\" -mindepth 1 ! -cnewer \"$1\" -delete; rm \"$o\"; done; find . -name '.wh.*' | while read w; do \
                  n=$(dirname \"$w\")/$(basename \"$w\" | cut -c5-); rm -rf \"$n\" \"$w\"; done";
    let marker = root.with_extension("marker");
    let outcome = run(Command::new("sh").args(["-c", script]).args([root, &marker])).expect("runs");
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
}

#[test]
fn what_was_changed_can_be_listed_and_applied_as_a_layer() {
    for upper in ["", ":upper"] {
        let place = layers();
        std::fs::create_dir(place.path().join("lower/gone")).expect("a directory");
        std::fs::write(place.path().join("lower/gone/old"), "old").expect("a file");
        let overlay = format!("lower{upper}");
        let tree = "cd lower; find . | sort; cat changed moved/removed gone/new a/b/c; stat -c '%a %h %s' kept changed sparse; readlink link";
        let script = format!("{CHANGES}; cd ..; {tree} 2>/dev/null; exit 3");
        let options =
            ["--overlay", &overlay, "--diff=list", "--export-changes", "layer.tar", "sh", "-c", &script];
        let inside = sandbox(&options, place.path());
        assert_eq!(inside.status, 3, "{}", inside.stderr);
        let lower = place.path().join("lower");
        let inner = |name: &str| format!("{}/{name}", lower.display());
        let list = text(&place.path().join("list"));
        let expected = [
            ("C", "changed"),
            ("C", "kept"),
            ("D", "d"),
            ("A", "moved"),
            ("C", "gone"),
            ("O", "gone"),
            ("A", "gone/new"),
            ("A", "link"),
            ("A", "a"),
            ("A", "a/b"),
            ("A", "a/b/c"),
            ("A", "sparse"),
            ("A", "again"),
        ];
        for (letter, name) in expected {
            let line = format!("{letter} {}", inner(name));
            assert!(list.lines().any(|listed| listed == line), "no '{line}' in\n{list}");
        }
        assert!(!list.contains("gone/old"), "{list}");
        // The layer's paths begin at the root of the sandbox.
        let root = place.path().join("root");
        let copy = root.join(lower.strip_prefix("/").expect("absolute"));
        std::fs::create_dir_all(copy.parent().expect("a parent")).expect("a directory");
        let copied = run(Command::new("cp").arg("-a").args([&lower, &copy])).expect("cp runs");
        assert_eq!(copied.status, 0, "{}", copied.stderr);
        std::fs::write(root.with_extension("marker"), "").expect("a file");
        std::thread::sleep(std::time::Duration::from_millis(20));
        let unpacked =
            run(Command::new("sh").args(["-c", "tar -xpmf layer.tar -C root"]).current_dir(place.path()));
        assert_eq!(unpacked.expect("tar runs").status, 0);
        apply_markers(&root);
        let outside =
            run(Command::new("sh").args(["-c", tree]).current_dir(copy.parent().expect("a parent")))
                .expect("runs");
        assert_eq!(inside.stdout, outside.stdout);
    }
}

#[test]
fn a_sandbox_that_ends_without_a_word_leaves_no_archive() {
    let place = layers();
    let command = "cd lower; echo x > f; exec sleep 30";
    let mut child = Command::new(sandbox_exec())
        .args(["--overlay", "lower", "--export-changes", "layer.tar", "sh", "-c", command])
        .current_dir(place.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("runs");
    std::thread::sleep(std::time::Duration::from_secs(1));
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(!place.path().join("layer.tar").exists());
}

#[test]
fn a_place_that_cannot_be_written_is_said_before_the_program_runs() {
    let place = layers();
    let outcome = sandbox(&["--export-changes", "/no/such/layer.tar", "echo", "ran"], place.path());
    assert_eq!((outcome.status, outcome.stdout.as_str()), (125, ""));
    assert!(outcome.stderr.contains("/no/such/layer.tar"), "{}", outcome.stderr);
}
