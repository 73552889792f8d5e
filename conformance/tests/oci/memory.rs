//! Where what a container writes to its root goes.

use crate::bundle::{Bundle, wait_for};
use crate::{add_mount, is_root};
use conformance::trapbox;
use serde_json::json;

#[test]
fn writes_go_to_the_root_or_to_memory() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::new("echo x > /written; cat /written");
    assert_eq!(bundle.run_with(&trapbox()).stdout, "x\n");
    assert!(bundle.rootfs().join("written").exists());
    let bundle = Bundle::new("echo x > /written; cat /written");
    assert_eq!(bundle.ok(&["--overlay", "memory", "run", &bundle.id]), "x\n");
    assert!(!bundle.rootfs().join("written").exists());
    let bundle = Bundle::with("echo x > /written; cat /written", |config| {
        config["annotations"] = json!({ "dev.trapbox.overlay": "memory" });
    });
    assert_eq!(bundle.ok(&["run", &bundle.id]), "x\n");
    assert!(!bundle.rootfs().join("written").exists());
    assert_eq!(bundle.left(), Vec::<String>::new());
}

#[test]
fn what_is_only_in_memory_can_be_executed() {
    if !is_root() {
        return;
    }
    let script = "cp /bin/busybox /bin/busybox-made; cp /bin/busybox /t/busybox-also; echo up; while :; do sleep 0.05; done";
    let bundle = Bundle::with(script, |config| {
        config["annotations"] = json!({ "dev.trapbox.overlay": "memory" });
        config["process"]["env"] = json!(["PATH=/t:/bin"]);
        add_mount(config, json!({ "destination": "/t", "type": "tmpfs" }));
    });
    bundle.create();
    bundle.start();
    wait_for("up", || bundle.out() == "up\n");
    for program in ["/bin/busybox-made", "/t/busybox-also", "ls"] {
        let outcome = bundle.call(&["exec", &bundle.id, program, "--help"]);
        assert!(
            outcome.stderr.contains("BusyBox") || outcome.stdout.contains("BusyBox"),
            "{program}: {outcome:?}"
        );
    }
    assert!(bundle.fails(&["exec", &bundle.id, "nothing"], 255).contains("no such file or directory"));
}
