//! Docker with this runtime, beside Docker with runc: the same command must show the same. The daemons are ours.

mod daemon;
mod images;
mod others;
mod podman;
mod pods;

use conformance::Outcome;
use daemon::{Daemons, IMAGE, wait_for};
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Options of `docker run`, and a script.
type Variation = (&'static [&'static str], &'static str);

const VARIATIONS: &[Variation] = &[
    (&[], "echo out; echo err >&2; id; pwd; env | grep -v HOSTNAME | sort; exit 42"),
    (&[], "grep -E '^(Cap|Seccomp:|NoNew)' /proc/self/status; echo $$; kill -9 $$; echo alive"),
    (&["--user", "user"], "id; umask; touch /f || echo refused; echo $HOME"),
    (&["--user", "1234:99", "--group-add", "50"], "id; touch /tmp/f && ls -ln /tmp/f | cut -c1-35"),
    (&["--workdir", "/made/here"], "pwd; ls -ld . | cut -c1-30"),
    (
        &["--hostname", "named", "--add-host", "other:192.0.2.7", "--dns", "192.0.2.1"],
        "hostname; cat /etc/hosts | grep other; cat /etc/resolv.conf",
    ),
    (
        &["--read-only", "--tmpfs", "/t:size=1m,mode=1770"],
        "touch /f 2>&1; stat -c %a /t; head -c 3000000 /dev/zero > /t/x; stat -c %s /t/x",
    ),
    (
        &["--cap-drop", "ALL", "--cap-add", "CHOWN"],
        "grep ^Cap /proc/self/status; touch /f; chown 5:6 /f; ls -ln /f | cut -c1-28",
    ),
    (
        &["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"],
        "grep -E '^(Seccomp:|NoNew)' /proc/self/status",
    ),
    (
        &["--ulimit", "nofile=99:100", "--oom-score-adj", "77"],
        "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj",
    ),
    (&["--init"], "cat /proc/1/comm; test -d /proc/$$ && ls -d /proc/1; sh -c 'sleep 0 &'; exit 3"),
    (
        &["--sysctl", "net.core.somaxconn=99"],
        "cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/ip_unprivileged_port_start",
    ),
    (&["--env", "A=b c", "--entrypoint", "/bin/env"], "true"),
    (&["--network", "none"], "ip addr show lo | grep -c 'inet '"),
    (
        &["--shm-size", "2m", "--ipc", "private"],
        "head -c 9000000 /dev/zero > /dev/shm/x; stat -c %s /dev/shm/x",
    ),
    (
        &[],
        "wc -c < /proc/kcore; ls -A /proc/acpi 2>/dev/null | wc -l; (echo x > /proc/sysrq-trigger) 2>&1; (echo x > /proc/sys/kernel/hostname) 2>&1",
    ),
    (
        &[],
        "touch /etc/x /root/y; chown 1000:50 /etc/x; chmod 4755 /root/y; ls -ln /etc/x /root/y | cut -c1-28; mkfifo /p; ls -l /p | cut -c1",
    ),
    (&[], "no-such-program; echo $?; exec /etc/passwd"),
    // runc makes a link `core` where the host's kernel has /proc/kcore, which the kernel of a sandbox has not.
    (&["--stop-signal", "USR1"], "ls /dev | grep -v -x core | sort | tr '\\n' ' '"),
];

struct Suite {
    daemons: Daemons,
    failures: Vec<String>,
}

impl Suite {
    fn check(&mut self, what: &str, good: bool, shown: &str) {
        eprintln!("{} {what}", if good { "ok    " } else { "FAILED" });
        if !good {
            self.failures.push(format!("{what}: {shown}"));
        }
    }

    fn same(&mut self, what: &str, with: impl Fn(&Daemons, &str) -> Outcome) {
        let (wanted, found) = (with(&self.daemons, "runc"), with(&self.daemons, "trapbox"));
        self.check(what, wanted == found, &format!("\n  runc: {wanted:?}\n  here: {found:?}"));
    }
}

/// One daemon for everything: it takes longer to start than most tests.
#[test]
fn docker_does_with_this_runtime_what_it_does_with_runc() {
    let Some(daemons) = Daemons::start() else { return };
    let mut suite = Suite { daemons, failures: Vec::new() };
    for (options, script) in VARIATIONS {
        suite.same(&format!("run {options:?} {script}"), |daemons, runtime| {
            let head = ["run", "--rm", "--runtime", runtime];
            daemons.docker(&[&head[..], options, &[IMAGE, "sh", "-c", script]].concat())
        });
    }
    words(&mut suite);
    life(&mut suite);
    stopping(&mut suite);
    changes(&mut suite);
    limits(&mut suite);
    restarts(&mut suite);
    health(&mut suite);
    many(&mut suite);
    others::interactive(&mut suite);
    others::network(&mut suite);
    others::ctr(&mut suite);
    podman::podman(&mut suite);
    images::build(&mut suite);
    images::services(&mut suite);
    images::published(&mut suite);
    images::devices(&mut suite);
    live_restore(&mut suite);
    assert!(suite.failures.is_empty(), "{}", suite.failures.join("\n"));
}

/// What cannot run is told by exit codes and messages.
fn words(suite: &mut Suite) {
    for program in ["no-such-program", "/no/such", "/etc/passwd", "/etc"] {
        suite.same(&format!("exit code of {program}"), |daemons, runtime| {
            let outcome = daemons.docker(&["run", "--rm", "--runtime", runtime, IMAGE, program]);
            Outcome { stderr: String::new(), ..outcome }
        });
    }
    let refused =
        suite.daemons.docker(&["run", "--rm", "--runtime", "trapbox", "--pid", "host", IMAGE, "true"]);
    suite.check(
        "--pid=host is refused",
        refused.status == 125 && refused.stderr.contains("pid namespace"),
        &refused.stderr,
    );
    let refused = suite.daemons.docker(&[
        "run",
        "--rm",
        "--runtime",
        "trapbox",
        "--device",
        "/dev/kmsg",
        IMAGE,
        "true",
    ]);
    suite.check(
        "a device is refused",
        refused.status == 125 && refused.stderr.contains("/dev/kmsg"),
        &refused.stderr,
    );
}

fn life(suite: &mut Suite) {
    let daemons = &suite.daemons;
    daemons.ok(&[
        "run",
        "-d",
        "--name",
        "life",
        "--runtime",
        "trapbox",
        IMAGE,
        "sh",
        "-c",
        "trap 'echo usr; exit 9' USR1; echo up; while :; do sleep 0.1; done",
    ]);
    wait_for(|| daemons.ok(&["logs", "life"]) == "up\n");
    let mut found = vec![];
    let exec = daemons.docker(&[
        "exec",
        "-u",
        "1000",
        "-w",
        "/tmp",
        "-e",
        "B=1",
        "life",
        "sh",
        "-c",
        "id -u; pwd; echo $B; exit 5",
    ]);
    found.push(("exec", (exec.status, exec.stdout.as_str()) == (5, "1000\n/tmp\n1\n"), format!("{exec:?}")));
    let missing = daemons.docker(&["exec", "life", "no-such"]);
    let said = missing.stdout + &missing.stderr;
    found.push((
        "exec of nothing",
        missing.status == 126 && said.contains("executable file not found"),
        said,
    ));
    let mut piped = daemons.command(&["exec", "-i", "life", "cat"]);
    let mut child = piped.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("docker runs");
    child.stdin.take().expect("a pipe").write_all(b"through\n").expect("written");
    let output = child.wait_with_output().expect("ends");
    found.push(("exec -i", output.stdout == b"through\n", format!("{output:?}")));
    let top = daemons.docker(&["top", "life"]);
    found.push(("top", top.status == 0 && top.stdout.contains("sh"), format!("{top:?}")));
    let stats = daemons.docker(&["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", "life"]);
    let first = stats.stdout.split(' ').next().and_then(|pids| pids.parse::<u32>().ok());
    found.push(("stats", first.is_some_and(|pids| pids > 1), format!("{stats:?}")));
    daemons.ok(&["pause", "life"]);
    let paused = daemons.ok(&["inspect", "-f", "{{.State.Status}}", "life"]);
    daemons.ok(&["unpause", "life"]);
    found.push(("pause", paused == "paused\n", paused));
    daemons.ok(&["kill", "-s", "USR1", "life"]);
    let code = daemons.ok(&["wait", "life"]);
    found.push(("kill -s", code == "9\n", code));
    let logs = daemons.ok(&["logs", "life"]);
    found.push(("logs", logs == "up\nusr\n", logs));
    daemons.ok(&["start", "life"]);
    daemons.ok(&["rm", "-f", "life"]);
    for (what, good, shown) in found {
        suite.check(what, good, &shown);
    }
}

fn stopping(suite: &mut Suite) {
    // Patience that the end does not need, or that is waited out.
    for (what, script, patience, quick) in [
        ("with a handler", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done", 120, true),
        ("without one", "echo up; while :; do sleep 0.1; done", 2, false),
    ] {
        suite.same(&format!("stop {what}"), |daemons, runtime| {
            daemons.ok(&["run", "-d", "--name", "stopping", "--runtime", runtime, IMAGE, "sh", "-c", script]);
            let up = wait_for(|| daemons.ok(&["logs", "stopping"]) == "up\n");
            let start = Instant::now();
            daemons.ok(&["stop", "-t", &patience.to_string(), "stopping"]);
            let was_quick = start.elapsed() < Duration::from_secs(patience);
            let mut outcome =
                daemons.docker(&["inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}}", "stopping"]);
            daemons.ok(&["rm", "stopping"]);
            outcome.stdout.push_str(if up && was_quick == quick { "in time" } else { "not in time" });
            outcome
        });
    }
}

/// What a container writes is Docker's layer.
fn changes(suite: &mut Suite) {
    let volume = suite.daemons.path("volume");
    std::fs::create_dir(&volume).expect("made");
    let bound = format!("{}:/v", volume.display());
    suite.same("volumes, diff, cp, commit", |daemons, runtime| {
        let script = "echo new > /new; rm /etc/group; echo more >> /etc/passwd; mkdir /d; echo f > /d/f; cat /v/in 2>/dev/null; echo out > /v/out";
        std::fs::write(volume.join("in"), "from the host\n").expect("written");
        let ran = daemons.docker(&["run", "--name", "changed", "-v", &bound, "--runtime", runtime, IMAGE, "sh", "-c", script]);
        let mut all = format!("{ran:?}");
        all += &std::fs::read_to_string(volume.join("out")).unwrap_or_default();
        let diff = daemons.ok(&["diff", "changed"]);
        let mut lines: Vec<&str> = diff.lines().collect();
        lines.sort_unstable();
        all += &lines.join(" ");
        all += &daemons.ok(&["cp", "changed:/d/f", "-"]).contains("f\n").to_string();
        daemons.ok(&["commit", "changed", "again"]);
        all += &daemons.ok(&["run", "--rm", "--runtime", runtime, "again", "sh", "-c", "cat /new /d/f; ls /etc"]);
        daemons.ok(&["rm", "changed"]);
        daemons.ok(&["rmi", "again"]);
        std::fs::remove_file(volume.join("out")).expect("removed");
        Outcome { stdout: all, stderr: String::new(), status: 0 }
    });
    suite.same("cp into a running container", |daemons, runtime| {
        daemons.ok(&[
            "run",
            "-d",
            "--name",
            "changed",
            "--runtime",
            runtime,
            IMAGE,
            "sh",
            "-c",
            "ls /; while :; do sleep 0.1; done",
        ]);
        daemons.docker(&["exec", "changed", "ls", "/copied"]);
        let file = daemons.path("copied");
        std::fs::write(&file, "copied\n").expect("written");
        daemons.ok(&["cp", &file.display().to_string(), "changed:/copied"]);
        let outcome = daemons.docker(&["exec", "changed", "cat", "/copied"]);
        daemons.ok(&["rm", "-f", "changed"]);
        outcome
    });
    let ran = suite.daemons.docker(&[
        "run",
        "--name",
        "memory",
        "--runtime",
        "in-memory",
        IMAGE,
        "sh",
        "-c",
        "echo x > /x; cat /x",
    ]);
    let diff = suite.daemons.ok(&["diff", "memory"]);
    suite.daemons.ok(&["rm", "memory"]);
    suite.check(
        "--overlay=memory leaves the layer alone",
        ran.stdout == "x\n" && !diff.contains("/x"),
        &format!("{ran:?} {diff}"),
    );
}

fn limits(suite: &mut Suite) {
    suite.same("OOMKilled", |daemons, runtime| {
        let script = "x=$(head -c 30000000 /dev/zero | tr '\\0' a); y=$x$x$x$x; echo survived";
        let options = ["--memory", "40m", "--memory-swap", "40m", "--runtime", runtime];
        let once = || {
            daemons.docker(&[&["run", "--name", "oom"], &options[..], &[IMAGE, "sh", "-c", script]].concat());
            let outcome =
                daemons.docker(&["inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}}", "oom"]);
            daemons.ok(&["rm", "oom"]);
            outcome
        };
        // Docker misses it, with any runtime, if it hears of the end first.
        let mut outcome = once();
        for _ in 0..9 {
            if outcome.stdout == "137 true\n" {
                break;
            }
            outcome = once();
        }
        outcome
    });
    suite.same("--pids-limit", |daemons, runtime| {
        // The shell forks once itself, before there is no room.
        let script = "(for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 100000 & done); exit 0";
        let outcome = daemons.docker(&[
            "run",
            "--rm",
            "--pids-limit",
            "8",
            "--runtime",
            runtime,
            IMAGE,
            "sh",
            "-c",
            script,
        ]);
        let refused = (outcome.stdout + &outcome.stderr).contains("can't fork");
        Outcome { stdout: refused.to_string(), stderr: String::new(), status: outcome.status }
    });
    suite.same("update", |daemons, runtime| {
        daemons.ok(&["run", "-d", "--name", "updated", "--runtime", runtime, IMAGE, "sleep", "100000"]);
        let outcome = daemons.docker(&[
            "update",
            "--memory",
            "64m",
            "--memory-swap",
            "64m",
            "--cpus",
            "0.5",
            "--pids-limit",
            "50",
            "updated",
        ]);
        let seen = daemons.docker(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "updated"]).stdout;
        daemons.ok(&["rm", "-f", "updated"]);
        Outcome { stdout: outcome.stdout + seen.split('/').nth(1).unwrap_or_default(), ..outcome }
    });
}

fn restarts(suite: &mut Suite) {
    suite.same("restart policy", |daemons, runtime| {
        daemons.ok(&[
            "run",
            "-d",
            "--name",
            "restarted",
            "--restart",
            "on-failure:2",
            "--runtime",
            runtime,
            IMAGE,
            "sh",
            "-c",
            "echo once; exit 3",
        ]);
        let state = || {
            daemons.ok(&[
                "inspect",
                "-f",
                "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}",
                "restarted",
            ])
        };
        wait_for(|| state() == "exited 2 3\n");
        let all = state() + &daemons.ok(&["logs", "restarted"]);
        daemons.ok(&["rm", "-f", "restarted"]);
        Outcome { stdout: all, stderr: String::new(), status: 0 }
    });
}

fn health(suite: &mut Suite) {
    suite.same("healthcheck", |daemons, runtime| {
        let head = [
            "run",
            "-d",
            "--name",
            "healthy",
            "--runtime",
            runtime,
            "--health-cmd",
            "test -e /well",
            "--health-interval",
            "0.5s",
            "--health-retries",
            "1",
        ];
        daemons.ok(&[&head[..], &[IMAGE, "sleep", "100000"]].concat());
        let reaches = |wanted: &str| {
            let status = || daemons.ok(&["inspect", "-f", "{{.State.Health.Status}}", "healthy"]);
            wait_for(|| status().trim() == wanted)
        };
        let ill = reaches("unhealthy");
        daemons.ok(&["exec", "healthy", "touch", "/well"]);
        let all = format!("{ill} {}", reaches("healthy"));
        daemons.ok(&["rm", "-f", "healthy"]);
        Outcome { stdout: all, stderr: String::new(), status: 0 }
    });
}

/// Containers beside each other.
fn many(suite: &mut Suite) {
    let daemons = &suite.daemons;
    let all: Vec<_> = (0..20)
        .map(|number| {
            let script = format!("echo {number}; sleep 1");
            let mut command =
                daemons.command(&["run", "--rm", "--runtime", "trapbox", IMAGE, "sh", "-c", &script]);
            (number, command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("docker runs"))
        })
        .collect();
    let outputs: Vec<_> =
        all.into_iter().map(|(number, child)| (number, child.wait_with_output().expect("ends"))).collect();
    let good = outputs
        .iter()
        .all(|(number, output)| output.status.success() && output.stdout == format!("{number}\n").as_bytes());
    suite.check("20 containers at once", good, &format!("{outputs:?}"));
}

/// A daemon that is started again finds its containers alive.
fn live_restore(suite: &mut Suite) {
    suite.daemons.ok(&[
        "run",
        "-d",
        "--name",
        "restored",
        "--runtime",
        "trapbox",
        IMAGE,
        "sh",
        "-c",
        "trap 'exit 6' TERM; echo up; while :; do sleep 0.1; done",
    ]);
    wait_for(|| suite.daemons.ok(&["logs", "restored"]) == "up\n");
    suite.daemons.restart_dockerd();
    let state = suite.daemons.docker(&["inspect", "-f", "{{.State.Status}}", "restored"]);
    let entered = suite.daemons.docker(&["exec", "restored", "echo", "here"]);
    suite.daemons.docker(&["stop", "-t", "120", "restored"]);
    let code = suite.daemons.docker(&["inspect", "-f", "{{.State.ExitCode}}", "restored"]);
    suite.daemons.docker(&["rm", "-f", "restored"]);
    let good = state.stdout == "running\n" && entered.stdout == "here\n" && code.stdout == "6\n";
    suite.check("live restore", good, &format!("{state:?} {entered:?} {code:?}"));
}
