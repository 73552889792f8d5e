//! Terminals, networks, and who else calls an OCI runtime: ctr (Podman is `podman`'s).

use crate::daemon::{Daemons, IMAGE};
use crate::{Suite, wait_for};
use conformance::{Outcome, run, trapbox};
use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// What a command shows on a terminal, to which this is typed once a shell asks, and its exit code.
pub fn typed(command: &mut Command, keys: &str) -> (Option<i32>, String) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script(1) runs");
    let (mut input, mut output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
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
}

/// A terminal for `docker run -it` and `docker exec -it`, by script(1).
pub fn interactive(suite: &mut Suite) {
    let daemons = &suite.daemons;
    let typed = |arguments: &str, keys: &str| {
        let mut command = Command::new("script");
        command.args(["-qec", &format!("docker -H {} {arguments}", daemons.host()), "/dev/null"]);
        typed(command.env("DOCKER_CONFIG", daemons.path("config")), keys)
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
    let address = daemons.containerd_socket().display().to_string();
    let head = ["--address", &address, "--namespace", "conformance"];
    let ctr = |arguments: &[&str]| run(Command::new("ctr").args(head).args(arguments)).expect("ctr runs");
    ctr(&["images", "import", &archive]);
    let image = format!("docker.io/library/{IMAGE}:latest");
    let ran = |binary: &str| {
        let run = |options: &[&str], name: &str, script: &str| {
            let head = [&["run", "--runc-binary", binary][..], options, &[&image, name, "sh", "-c", script]];
            ctr(&head.concat())
        };
        let mut seen = vec![format!("{:?}", run(&["--rm"], "one", "echo here; exit 3"))];
        let keys = "test -t 0 && test -t 1 && echo ter''minal; exit 9\n";
        let line = format!("ctr {} run -t --rm --runc-binary {binary} {image} talk sh", head.join(" "));
        let (code, shown) = typed(Command::new("script").args(["-qec", &line, "/dev/null"]), keys);
        seen.push(format!("{code:?} {}", shown.contains("terminal\r\n")));
        let log = daemons.path("two.log");
        let file = format!("file://{}", log.display());
        let options = ["-d", "--log-uri", &file, "--memory-limit", "67108864"];
        run(&options, "two", "trap 'echo term; exit 5' TERM; echo up; while :; do sleep 0.1; done");
        let said =
            |text: &str| wait_for(|| std::fs::read_to_string(&log).is_ok_and(|all| all == text)).to_string();
        seen.push(said("up\n"));
        seen.push(format!(
            "{:?}",
            ctr(&["task", "exec", "--exec-id", "e", "two", "sh", "-c", "echo entered; exit 4"])
        ));
        let metrics = ctr(&["task", "metrics", "two"]);
        seen.push(format!("{} {}", metrics.status, metrics.stdout.contains("67108864")));
        seen.push(ctr(&["task", "ps", "two"]).status.to_string());
        ctr(&["task", "pause", "two"]);
        seen.push(ctr(&["task", "ls"]).stdout.contains("PAUSED").to_string());
        ctr(&["task", "resume", "two"]);
        ctr(&["task", "kill", "-s", "TERM", "two"]);
        seen.push(wait_for(|| ctr(&["task", "ls"]).stdout.contains("STOPPED")).to_string());
        seen.push(said("up\nterm\n"));
        seen.push(ctr(&["task", "rm", "two"]).status.to_string());
        seen.push(ctr(&["containers", "rm", "two"]).status.to_string());
        seen.push(ctr(&["containers", "ls", "-q"]).stdout);
        let _ = std::fs::remove_file(log);
        seen.join("|")
    };
    let (wanted, found) = (ran("runc"), ran(&trapbox().display().to_string()));
    ctr(&["images", "rm", &image]);
    suite.check(
        "ctr: run, a terminal, exec, metrics, ps, pause, kill, rm",
        wanted == found && wanted.contains("here"),
        &format!("\n  runc: {wanted}\n  here: {found}"),
    );
}
