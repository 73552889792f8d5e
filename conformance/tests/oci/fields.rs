//! Fields of config.json that the installed runc need not know, so that it cannot be the oracle: what they must do is written out.

use crate::bundle::{Bundle, wait_for};
use crate::{CROWD, add_mount, is_root, runc};
use conformance::trapbox;
use serde_json::{Value, json};

/// A change of config.json, a script, and what it must print.
type Field = (&'static str, fn(&mut Value), &'static str, &'static str);

const FIELDS: &[Field] = &[
    (
        "domainname",
        |config| config["domainname"] = json!("example.org"),
        "cat /proc/sys/kernel/domainname; dnsdomainname -y 2>/dev/null || busybox domainname 2>/dev/null || cat /proc/sys/kernel/domainname",
        "example.org\nexample.org\n",
    ),
    (
        "hostname",
        |config| config["hostname"] = json!("named"),
        "cat /proc/sys/kernel/hostname; uname -n",
        "named\nnamed\n",
    ),
    (
        "personality",
        |config| config["linux"]["personality"] = json!({ "domain": "LINUX32" }),
        "uname -m; cat /proc/self/personality",
        "i686\n00000008\n",
    ),
    (
        "personality with a flag",
        |config| {
            config["linux"]["personality"] = json!({ "domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"] })
        },
        "uname -m; cat /proc/self/personality; a=$(grep stack /proc/self/maps); b=$(grep stack /proc/self/maps); test \"$a\" = \"$b\" && echo same",
        "x86_64\n00040000\nsame\n",
    ),
    (
        "scheduling",
        |config| {
            config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 7 });
            config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
        },
        "cut -d' ' -f19,41 /proc/self/stat; ionice -p $$; ionice -p 1",
        "7 3\nbest-effort: prio 6\nbest-effort: prio 6\n",
    ),
    (
        "a device under another name",
        |config| {
            config["linux"]["devices"] = json!([
                { "path": "/dev/zero", "type": "c", "major": 1, "minor": 5 },
                { "path": "/dev/other", "type": "c", "major": 1, "minor": 5 },
                { "path": "/srv/full", "type": "c", "major": 1, "minor": 7 }
            ]);
        },
        "head -c 3 /dev/other | od -An -tx1; echo x > /srv/full; echo $?; head -c 1 /dev/zero | wc -c",
        " 00 00 00\n1\n1\n",
    ),
    (
        "every device allowed, as with --privileged",
        |config| {
            config["linux"]["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }, { "allow": true, "access": "rwm" }] });
            config["linux"]["devices"] = json!([
                { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 },
                { "path": "/dev/null", "type": "c", "major": 1, "minor": 3 }
            ]);
        },
        "test -e /dev/fuse || echo left out; echo x > /dev/null && echo null",
        "left out\nnull\n",
    ),
];

#[test]
fn fields_do_what_the_specification_says() {
    if !is_root() {
        return;
    }
    let mut wrong = Vec::new();
    for (name, change, script, wanted) in FIELDS {
        let bundle = Bundle::with(script, change);
        let outcome = bundle.run_with(&trapbox());
        if outcome.stdout != *wanted {
            wrong.push(format!("{name}: {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_left_out_is_named_in_the_log() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::with("true", |config| {
        config["linux"]["resources"] = json!({ "devices": [{ "allow": true, "access": "rwm" }] });
        config["linux"]["devices"] = json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 }]);
        config["linux"]["mountLabel"] = json!("system_u:object_r:svirt_sandbox_file_t:s0:c715,c811");
        config["process"]["apparmorProfile"] = json!("acme_secure_profile");
        config["newest"] = json!({ "field": 1 });
    });
    assert_eq!(bundle.run_with(&trapbox()).status, 0);
    let log = std::fs::read_to_string(bundle.place.path().join("log")).expect("a log");
    for name in ["/dev/fuse", "linux.mountLabel", "process.apparmorProfile", "newest"] {
        assert!(log.contains(name), "{name} is not in {log}");
    }
}

/// Settings that have a meaning to the kernel inside: what `/proc/sys` shows, and what calls do.
#[test]
fn settings_of_the_kernel_are_the_containers() {
    if !is_root() {
        return;
    }
    let wanted = "\
        proc: 65536 20 2 100 200 1 10 12 5 3 20 7 4096 512 1 40000 40001 77 7 3\n\
        shm: too long EINVAL, one 0, too many pages ENOSPC, few 0, a third ENOSPC\n\
        msg: queue 0, too long EINVAL, 100 bytes 0, 100 bytes 0, full EAGAIN, second ENOSPC\n\
        sem: of a set EINVAL, ten 0, too many of all ENOSPC, two 0, none left ENOSPC, one again 0, operations E2BIG\n\
        mq: default 7 512, second ENOSPC, without a name ENOSPC, above EINVAL, at most 0\n\
        ports: 80001, then EADDRINUSE\n\
        keepalive: 77 7 3\n";
    for runtime in [runc(), Some(trapbox())].into_iter().flatten() {
        let bundle = Bundle::with("", |config| {
            config["linux"]["sysctl"] = json!({
                "kernel.shmmax": "65536", "kernel.shmall": "20", "kernel.shmmni": "2", "kernel.msgmax": "100",
                "kernel.msgmnb": "200", "kernel.msgmni": "1", "kernel.sem": "10 12 5 3", "fs.mqueue.msg_max": "20",
                "fs.mqueue.msg_default": "7", "fs.mqueue.msgsize_max": "4096", "fs.mqueue.msgsize_default": "512",
                "fs.mqueue.queues_max": "1", "net.ipv4.ip_local_port_range": "40000 40001",
                "net.ipv4.tcp_keepalive_time": "77", "net.ipv4.tcp_keepalive_intvl": "7",
                "net.ipv4.tcp_keepalive_probes": "3",
            });
            for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
                config["process"]["capabilities"][set] = json!([]);
            }
            config["process"]["args"] = json!(["/test/sysctls"]);
            let source = built();
            add_mount(
                config,
                json!({ "destination": "/test", "type": "bind", "source": source, "options": ["bind", "ro"] }),
            );
        });
        let outcome = bundle.run_with(&runtime);
        assert_eq!((outcome.stdout.as_str(), outcome.status), (wanted, 0), "{runtime:?}: {}", outcome.stderr);
    }
}

/// The directory of the compiled program that asks.
fn built() -> std::path::PathBuf {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("sysctls");
    std::fs::create_dir_all(&directory).expect("made");
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oci/sysctls.c");
    conformance::compile("cc", &["-O1", "-static"], &source, &directory.join("sysctls")).expect("compiles");
    directory
}

#[test]
fn a_changed_number_of_processes_is_kept_inside() {
    if !is_root() {
        return;
    }
    // It adopts what its children leave, and takes no notice.
    let bundle = Bundle::with("trap '' CHLD; exec sleep 100000", |config| {
        config["linux"]["resources"] = json!({ "pids": { "limit": 10 } });
    });
    bundle.create();
    // One that is not started yet begins with the new number.
    bundle.ok(&["update", "--pids-limit", "11", &bundle.id]);
    bundle.start();
    let most = |bundle: &Bundle| bundle.ok(&["exec", &bundle.id, "cat", "/sys/fs/cgroup/pids.max"]);
    assert_eq!(most(&bundle), "11\n");
    let fits = |bundle: &Bundle| {
        let outcome = bundle.call(&["exec", &bundle.id, "sh", "-c", CROWD]);
        assert_ne!(outcome.stdout == "all\n", outcome.stderr.contains("can't fork"), "{outcome:?}");
        outcome.stdout == "all\n"
    };
    assert!(!fits(&bundle));
    bundle.ok(&["update", "--pids-limit", "60", &bundle.id]);
    assert_eq!(most(&bundle), "60\n");
    assert!(fits(&bundle));
    // One that is paused follows when it goes on.
    bundle.ok(&["pause", &bundle.id]);
    bundle.ok(&["update", "--pids-limit", "9", &bundle.id]);
    bundle.ok(&["resume", &bundle.id]);
    wait_for("the new number", || most(&bundle) == "9\n");
    assert!(!fits(&bundle));
}

/// What the host can apply, it does.
#[test]
fn scheduling_is_the_hosts_too() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::with("echo up; exec sleep 100000", |config| {
        config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 5 });
        config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 });
    });
    bundle.create();
    bundle.start();
    wait_for("the program", || bundle.out() == "up\n");
    let pids: Vec<i32> =
        serde_json::from_str(&bundle.ok(&["ps", "--format", "json", &bundle.id])).expect("JSON");
    assert!(pids.len() > 2, "{pids:?}");
    for pid in pids {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        // The 19th and the 41st of proc(5), of which two are before the bracket.
        assert_eq!((fields[16], fields[38]), ("5", "3"), "{stat}");
        // SAFETY: only numbers.
        let priority = unsafe { nix::libc::syscall(nix::libc::SYS_ioprio_get, 1, pid) };
        assert_eq!(priority >> 13, 3, "{pid}");
    }
}
