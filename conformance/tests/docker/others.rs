//! Terminals, networks, and who else calls an OCI runtime: ctr and Podman.

use crate::daemon::{Daemons, IMAGE};
use crate::{Suite, wait_for};
use conformance::{Outcome, run, trapbox};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// A terminal for `docker run -it` and `docker exec -it`, by script(1).
pub fn interactive(suite: &mut Suite) {
    let daemons = &suite.daemons;
    let typed = |arguments: &str, keys: &str| {
        let docker = format!("docker -H {} {arguments}", daemons.host());
        let mut command = Command::new("script");
        command.args(["-qec", &docker, "/dev/null"]).env("DOCKER_CONFIG", daemons.path("config"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script(1) runs");
        let (mut input, mut output) =
            (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let mut shown = String::new();
        let mut piece = [0u8; 1024];
        // The shell asks when it reads.
        while !shown.contains("# ")
            && let Ok(length @ 1..) = output.read(&mut piece)
        {
            shown.push_str(&String::from_utf8_lossy(&piece[..length]));
        }
        let _ = input.write_all(keys.as_bytes());
        while let Ok(length @ 1..) = output.read(&mut piece) {
            shown.push_str(&String::from_utf8_lossy(&piece[..length]));
        }
        (child.wait().expect("ends").code(), shown)
    };
    let run = typed(
        &format!("run -it --name talk --runtime trapbox {IMAGE} sh"),
        "test -t 0 && test -t 1 && echo ter''minal; tty\nexit 9\n",
    );
    let detached = typed("start -ai talk", "echo before\n\x10\x11");
    let state = daemons.ok(&["inspect", "-f", "{{.State.Status}}", "talk"]);
    let entered = typed("exec -it talk sh", "tty; exit 5\n");
    daemons.ok(&["rm", "-f", "talk"]);
    let good = run.0 == Some(9) && run.1.contains("terminal\r\n") && run.1.contains("/dev/pts/0");
    suite.check("run -it", good, &format!("{run:?}"));
    suite.check("detach keys", state == "running\n", &format!("{detached:?} {state}"));
    let good = entered.0 == Some(5) && entered.1.contains("/dev/pts/1");
    suite.check("exec -it", good, &format!("{entered:?}"));
}

/// A server in a container, seen from the daemon's network and from other containers.
pub fn network(suite: &mut Suite) {
    suite.same("a published server", |daemons, runtime| {
        let serve = "mkdir /w; echo page > /w/index.html; exec httpd -f -p 80 -h /w";
        let head = ["run", "-d", "--name", "web", "-p", "18080:80", "--runtime", runtime];
        daemons.ok(&[&head[..], &[IMAGE, "sh", "-c", serve]].concat());
        let address = daemons.ok(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]);
        let url = format!("http://{}/", address.trim());
        let mut all = fetched(daemons, &url) + &fetched(daemons, "http://127.0.0.1:18080/");
        for client in ["runc", "trapbox"] {
            all += &daemons.docker(&["run", "--rm", "--runtime", client, IMAGE, "wget", "-qO-", &url]).stdout;
        }
        daemons.ok(&["rm", "-f", "web"]);
        Outcome { stdout: all, stderr: String::new(), status: 0 }
    });
    suite.same("services that find each other by name", |daemons, runtime| {
        daemons.ok(&["network", "create", "together"]);
        let head = ["run", "-d", "--name", "service", "--network", "together", "--runtime", runtime];
        daemons.ok(&[&head[..], &[IMAGE, "httpd", "-f", "-p", "8000", "-h", "/etc"]].concat());
        // The host's own Python: the image's programs are static, and cannot resolve names.
        let parts = ["-v", "/usr:/usr:ro", "-v", "/usr/lib:/lib:ro", "-v", "/usr/lib64:/lib64:ro"];
        let script = "import socket, time, urllib.request as u\n\
                      def page():\n\
                      \x20 for _ in range(1800):\n\
                      \x20   try: return u.urlopen('http://service:8000/passwd', timeout=180).read()\n\
                      \x20   except OSError: time.sleep(0.1)\n\
                      print(page())\n\
                      try: socket.getaddrinfo('nobody', 80)\n\
                      except socket.gaierror as error: print(error.errno)\n\
                      try: socket.create_connection(('127.0.0.1', 81))\n\
                      except OSError as error: print(error.errno)\n";
        let head = ["run", "--rm", "--network", "together", "--runtime", runtime];
        let outcome =
            daemons.docker(&[&head[..], &parts, &[IMAGE, "/usr/bin/python3", "-c", script]].concat());
        daemons.ok(&["rm", "-f", "service"]);
        daemons.ok(&["network", "rm", "together"]);
        outcome
    });
    suite.same("addresses and routes", |daemons, runtime| {
        let script = "ip -4 addr show eth0 | grep -c inet; ip route | grep -c default";
        daemons.docker(&["run", "--rm", "--runtime", runtime, IMAGE, "sh", "-c", script])
    });
    suite.same("--network=host reaches what the host reaches", |daemons, runtime| {
        daemons.ok(&[
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "host",
            IMAGE,
            "httpd",
            "-f",
            "-p",
            "18081",
            "-h",
            "/etc",
        ]);
        let url = "http://127.0.0.1:18081/passwd";
        wait_for(|| !fetched(daemons, url).is_empty());
        let head = ["run", "--rm", "--network", "host", "--runtime", runtime];
        let outcome = daemons.docker(&[&head[..], &[IMAGE, "wget", "-qO-", url]].concat());
        daemons.ok(&["rm", "-f", "web"]);
        outcome
    });
    let daemons = &suite.daemons;
    daemons.ok(&["run", "-d", "--name", "other", "--runtime", "runc", IMAGE, "sleep", "100000"]);
    let refused = daemons.docker(&[
        "run",
        "--rm",
        "--network",
        "container:other",
        "--runtime",
        "trapbox",
        IMAGE,
        "true",
    ]);
    let address = daemons.ok(&["exec", "other", "sh", "-c", "ip -4 addr show eth0 | grep -c inet"]);
    daemons.ok(&["rm", "-f", "other"]);
    let good = refused.stderr.contains("another container's") && address == "1\n";
    suite.check(
        "another container's network is refused and left alone",
        good,
        &format!("{refused:?} {address}"),
    );
}

/// What a server says to a client in the daemons' network.
fn fetched(daemons: &Daemons, url: &str) -> String {
    let mut page = String::new();
    wait_for(|| {
        page = run(&mut daemons.in_network("busybox", &["wget", "-qO-", url])).expect("runs").stdout;
        !page.is_empty()
    });
    page
}

/// containerd's own client, without Docker.
pub fn ctr(suite: &mut Suite) {
    let daemons = &suite.daemons;
    let archive = daemons.path("image.tar").display().to_string();
    daemons.ok(&["save", "-o", &archive, IMAGE]);
    let binary = trapbox().display().to_string();
    let ctr = |arguments: &[&str]| {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(daemons.containerd_socket()).args(["--namespace", "conformance"]);
        run(command.args(arguments)).expect("ctr runs")
    };
    ctr(&["images", "import", &archive]);
    let image = format!("docker.io/library/{IMAGE}:latest");
    let ran = ctr(&["run", "--rm", "--runc-binary", &binary, &image, "one", "sh", "-c", "echo here; exit 3"]);
    ctr(&["run", "-d", "--runc-binary", &binary, &image, "two", "sh", "-c", "while :; do sleep 0.1; done"]);
    let entered = ctr(&["task", "exec", "--exec-id", "e", "two", "echo", "entered"]);
    ctr(&["task", "pause", "two"]);
    let paused = ctr(&["task", "ls"]);
    ctr(&["task", "resume", "two"]);
    ctr(&["task", "kill", "-s", "KILL", "two"]);
    wait_for(|| ctr(&["task", "ls"]).stdout.contains("STOPPED"));
    let removed = ctr(&["task", "rm", "two"]);
    ctr(&["containers", "rm", "two"]);
    ctr(&["images", "rm", &image]);
    let good = (ran.status, ran.stdout.as_str()) == (3, "here\n");
    suite.check("ctr run", good, &format!("{ran:?}"));
    suite.check("ctr task exec", entered.stdout == "entered\n", &format!("{entered:?}"));
    suite.check("ctr task pause", paused.stdout.contains("PAUSED"), &format!("{paused:?}"));
    suite.check("ctr task rm", removed.status == 137 || removed.status == 0, &format!("{removed:?}"));
}

/// Podman, with conmon in place of containerd; without a network, which needs its own plugins.
pub fn podman(suite: &mut Suite) {
    let found = Command::new("sh").args(["-c", "command -v podman"]).output();
    if !found.is_ok_and(|found| found.status.success()) {
        eprintln!("podman is not installed: not tested");
        return;
    }
    let place = suite.daemons.path("podman");
    let archive = suite.daemons.path("tree.tar").display().to_string();
    let binary = trapbox();
    let podman = |runtime: &Path, arguments: &[&str]| {
        let mut command = Command::new("podman");
        command.arg("--root").arg(place.join("root")).arg("--runroot").arg(place.join("run"));
        command.arg("--tmpdir").arg(place.join("tmp")).arg("--runtime").arg(runtime);
        command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        run(command.args(arguments)).expect("podman runs")
    };
    podman(&binary, &["import", &archive, IMAGE]);
    let runc = Path::new("runc");
    for (options, script) in [
        (&[][..], "echo out; id; env | grep -v -E 'HOSTNAME|container' | sort; exit 42"),
        (
            &["--user", "1000:5", "--workdir", "/tmp", "--tmpfs", "/t"][..],
            "id; pwd; touch /t/x; stat -c %a /t",
        ),
        (&["--read-only", "--cap-drop", "all"][..], "touch /f 2>&1; grep ^CapEff /proc/self/status"),
    ] {
        let with = |runtime: &Path| {
            // Podman's own limits may be above what the caller may set.
            let limits = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"];
            let head = [&["run", "--rm", "--network", "none"][..], &limits[..]].concat();
            podman(runtime, &[&head[..], options, &[IMAGE, "sh", "-c", script]].concat())
        };
        let (wanted, found) = (with(runc), with(&binary));
        let shown = format!("\n  runc: {wanted:?}\n  here: {found:?}");
        suite.check(&format!("podman run {options:?}"), wanted == found, &shown);
    }
    // The containers of a pod, on their loopback interface.
    let pod = {
        let made = ["pod", "create", "--name", "two", "--network", "none", "--infra-image", IMAGE];
        podman(&binary, &[&made[..], &["--infra-command", "sleep 1000"]].concat());
        let limits = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"];
        let run = |more: &[&str], script: &str| {
            let head = [&["run", "--pod", "two"][..], more, &limits[..]].concat();
            podman(&binary, &[&head[..], &[IMAGE, "sh", "-c", script]].concat())
        };
        run(&["-d"], "while :; do echo hello | nc -l -p 80; done");
        let client = run(
            &["--rm"],
            "until nc 127.0.0.1 80 </dev/null; do sleep 0.1; done 2>/dev/null; hostname; exit 3",
        );
        podman(&binary, &["pod", "rm", "--time", "0", "--force", "two"]);
        (client.status, client.stdout)
    };
    // Not beside runc: the infra container has Podman's own limits, which may be above what runc may set.
    suite.check("podman pod", pod == (3, "hello\ntwo\n".into()), &format!("{pod:?}"));
    let loops = "trap 'exit 7' TERM; echo > /up; while :; do sleep 0.1; done";
    podman(&binary, &["run", "-d", "--name", "pod", "--network", "none", IMAGE, "sh", "-c", loops]);
    wait_for(|| podman(&binary, &["exec", "pod", "test", "-e", "/up"]).status == 0);
    let entered = podman(&binary, &["exec", "pod", "sh", "-c", "echo in; exit 5"]);
    let missing = podman(&binary, &["exec", "pod", "no-such"]);
    podman(&binary, &["stop", "-t", "120", "pod"]);
    let code = podman(&binary, &["inspect", "-f", "{{.State.ExitCode}}", "pod"]);
    let removed = podman(&binary, &["rm", "pod"]);
    let good = (entered.status, entered.stdout.as_str()) == (5, "in\n") && missing.status == 127;
    suite.check("podman exec", good, &format!("{entered:?} {missing:?}"));
    suite.check("podman stop", code.stdout == "7\n" && removed.status == 0, &format!("{code:?} {removed:?}"));
}
