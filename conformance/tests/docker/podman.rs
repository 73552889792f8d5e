//! Podman, with conmon in place of containerd; without a network, which needs its own plugins.

use crate::daemon::IMAGE;
use crate::others::typed;
use crate::{Suite, wait_for};
use conformance::{Outcome, run, trapbox};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Podman's own limits may be above what the caller may set.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"];

struct Podman {
    place: PathBuf,
    runtime: PathBuf,
}

impl Podman {
    fn arguments(&self) -> Vec<String> {
        let at = |name: &str| self.place.join(name).display().to_string();
        let mut all =
            vec!["--root".into(), at("root"), "--runroot".into(), at("run"), "--tmpdir".into(), at("tmp")];
        all.extend(["--runtime".into(), self.runtime.display().to_string()]);
        all.extend(["--cgroup-manager", "cgroupfs", "--events-backend", "none"].map(String::from));
        all
    }

    /// In its own place: conmon leaves a file `oom` where it is started.
    fn podman(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new("podman");
        run(command.args(self.arguments()).args(arguments).current_dir(&self.place)).expect("podman runs")
    }

    fn run(&self, options: &[&str], script: &str) -> Outcome {
        let head = [&["run", "--network", "none"][..], &LIMITS, options, &[IMAGE, "sh", "-c", script]];
        self.podman(&head.concat())
    }

    /// What `podman inspect` says of a container, on one line.
    fn told(&self, name: &str, what: &str) -> String {
        self.podman(&["inspect", "-f", what, name]).stdout.trim().into()
    }

    fn says(&self, name: &str, text: &str) -> bool {
        wait_for(|| self.podman(&["logs", name]).stdout == text)
    }

    fn on_a_terminal(&self, arguments: &str, keys: &str) -> (Option<i32>, String) {
        let line = format!("podman {} {arguments}", self.arguments().join(" "));
        typed(Command::new("script").args(["-qec", &line, "/dev/null"]).current_dir(&self.place), keys)
    }
}

pub fn podman(suite: &mut Suite) {
    let found = Command::new("sh").args(["-c", "command -v podman"]).output();
    if !found.is_ok_and(|found| found.status.success()) {
        eprintln!("podman is not installed: not tested");
        return;
    }
    let place = suite.daemons.path("podman");
    std::fs::create_dir_all(&place).expect("a directory is made");
    let archive = suite.daemons.path("tree.tar").display().to_string();
    let with = |runtime: &Path| Podman { place: place.clone(), runtime: runtime.into() };
    let (runc, here) = (with(Path::new("runc")), with(&trapbox()));
    here.podman(&["import", &archive, IMAGE]);
    for (some, options, script) in [
        ("out\\n", &[][..], "echo out; id; env | grep -v -E 'HOSTNAME|container' | sort; exit 42"),
        (
            "uid=1000",
            &["--user", "1000:5", "--workdir", "/tmp", "--tmpfs", "/t"][..],
            "id; pwd; touch /t/x; stat -c %a /t",
        ),
        (
            "Read-only",
            &["--read-only", "--cap-drop", "all"][..],
            "touch /f 2>&1; grep ^CapEff /proc/self/status",
        ),
    ] {
        let ran = |podman: &Podman| podman.run(&[&["--rm"][..], options].concat(), script);
        same(suite, &format!("podman run {options:?}"), some, (&runc, &here), |podman| {
            format!("{:?}", ran(podman))
        });
    }
    let both = (&runc, &here);
    same(suite, "podman: signals, exec, pause, logs", "|paused|running|9\n|true|0|true|", both, life);
    same(suite, "podman stop", "exited 137 false", both, stopping);
    same(suite, "podman run -it", "Some(9) true true|Some(5) true", both, terminal);
    same(suite, "podman: limits", "|0 true|67108864", both, limits);
    same(suite, "podman: volumes, diff, commit, cp", "from the host", both, changes);
    same(suite, "podman: restart policy", "exited 2 3once", both, restarts);
    same(suite, "podman healthcheck", "1 0", both, health);
    same(suite, "podman: host names, shared memory, devices", "named\\n", both, given);
    pod(suite, &here);
}

/// What is seen with both runtimes is the same, and `some` is in it.
fn same(
    suite: &mut Suite,
    what: &str,
    some: &str,
    (runc, here): (&Podman, &Podman),
    with: impl Fn(&Podman) -> String,
) {
    let (wanted, found) = (with(runc), with(here));
    let good = wanted == found && wanted.contains(some);
    suite.check(what, good, &format!("\n  runc: {wanted}\n  here: {found}"));
}

/// The containers of a pod, on their loopback interface. Not beside runc: the infra container has Podman's own limits, which may be
/// above what runc may set.
fn pod(suite: &mut Suite, podman: &Podman) {
    let made = ["pod", "create", "--name", "two", "--network", "none", "--infra-image", IMAGE];
    podman.podman(&[&made[..], &["--infra-command", "sleep 1000"]].concat());
    let run = |more: &[&str], script: &str| {
        let head = [&["run", "--pod", "two"][..], more, &LIMITS];
        podman.podman(&[&head.concat()[..], &[IMAGE, "sh", "-c", script]].concat())
    };
    run(&["-d"], "while :; do echo hello | nc -l -p 80; done");
    let client =
        run(&["--rm"], "until nc 127.0.0.1 80 </dev/null; do sleep 0.1; done 2>/dev/null; hostname; exit 3");
    podman.podman(&["pod", "rm", "--time", "0", "--force", "two"]);
    suite.check(
        "podman pod",
        (client.status, client.stdout.as_str()) == (3, "hello\ntwo\n"),
        &format!("{client:?}"),
    );
}

fn life(podman: &Podman) -> String {
    let script = "trap 'echo usr; exit 9' USR1; echo up; while :; do sleep 0.1; done";
    podman.run(&["-d", "--name", "life"], script);
    let mut seen = vec![podman.says("life", "up\n").to_string()];
    let entered = ["exec", "-u", "1000", "-w", "/tmp", "-e", "B=1", "life", "sh", "-c"];
    let entered = podman.podman(&[&entered[..], &["id -u; pwd; echo $B; exit 5"]].concat());
    seen.push(format!("{} {}", entered.stdout, entered.status));
    seen.push(podman.podman(&["exec", "life", "no-such"]).status.to_string());
    seen.push(podman.podman(&["stats", "--no-stream", "--format", "{{.Name}}", "life"]).stdout);
    podman.podman(&["pause", "life"]);
    seen.push(podman.told("life", "{{.State.Status}}"));
    podman.podman(&["unpause", "life"]);
    seen.push(podman.told("life", "{{.State.Status}}"));
    podman.podman(&["kill", "-s", "USR1", "life"]);
    seen.push(podman.podman(&["wait", "life"]).stdout);
    seen.push(podman.says("life", "up\nusr\n").to_string());
    seen.push(podman.podman(&["start", "life"]).status.to_string());
    seen.push(wait_for(|| podman.told("life", "{{.State.Status}}") == "running").to_string());
    seen.push(podman.podman(&["rm", "-f", "-t", "0", "life"]).status.to_string());
    seen.push(podman.podman(&["ps", "-aq"]).stdout);
    seen.join("|")
}

fn stopping(podman: &Podman) -> String {
    let mut seen = vec![];
    for (script, patience) in [
        ("trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done", "120"),
        ("echo up; while :; do sleep 0.1; done", "2"),
    ] {
        podman.run(&["-d", "--name", "stopping"], script);
        seen.push(podman.says("stopping", "up\n").to_string());
        podman.podman(&["stop", "-t", patience, "stopping"]);
        seen.push(podman.told("stopping", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}"));
        seen.push(podman.podman(&["rm", "stopping"]).status.to_string());
    }
    seen.join("|")
}

fn terminal(podman: &Podman) -> String {
    let limits = LIMITS.join(" ");
    let ran = podman.on_a_terminal(
        &format!("run -it --name talk --network none {limits} {IMAGE} sh"),
        "test -t 0 && test -t 1 && echo ter''minal; tty\nexit 9\n",
    );
    let mut seen =
        vec![format!("{:?} {} {}", ran.0, ran.1.contains("terminal\r\n"), ran.1.contains("/dev/pts/0"))];
    podman.podman(&["start", "talk"]);
    let entered = podman.on_a_terminal("exec -it talk sh", "tty; exit 5\n");
    seen.push(format!("{:?} {}", entered.0, entered.1.contains("/dev/pts/1")));
    podman.podman(&["rm", "-f", "-t", "0", "talk"]);
    seen.join("|")
}

fn limits(podman: &Podman) -> String {
    let mut seen = vec![];
    let script = "x=$(head -c 30000000 /dev/zero | tr '\\0' a); y=$x$x$x$x; echo survived";
    let ate = podman.run(&["--name", "eats", "--memory", "40m", "--memory-swap", "40m"], script);
    seen.push(format!("{} {}", ate.status, podman.told("eats", "{{.State.OOMKilled}}")));
    podman.podman(&["rm", "eats"]);
    let script = "(for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 100000 & done); exit 0";
    let forked = podman.run(&["--rm", "--pids-limit", "8"], script);
    seen.push(format!("{} {}", forked.status, (forked.stdout + &forked.stderr).contains("can't fork")));
    podman.run(&["-d", "--name", "limited", "--memory", "64m"], "sleep 100000");
    let limit = || podman.podman(&["stats", "--no-stream", "--format", "{{.MemLimit}}", "limited"]).stdout;
    seen.push(limit());
    seen.push(
        podman.podman(&["update", "--memory", "48m", "--memory-swap", "48m", "limited"]).status.to_string(),
    );
    seen.push(limit());
    podman.podman(&["rm", "-f", "-t", "0", "limited"]);
    seen.join("|")
}

fn changes(podman: &Podman) -> String {
    let volume = podman.place.join("volume");
    std::fs::create_dir_all(&volume).expect("made");
    std::fs::write(volume.join("in"), "from the host\n").expect("written");
    let bound = format!("{}:/v", volume.display());
    let script = "echo new > /new; rm /etc/group; mkdir /d; echo f > /d/f; cat /v/in; echo out > /v/out";
    let ran = podman.run(&["--name", "changed", "-v", &bound], script);
    let mut seen = vec![format!("{ran:?}"), std::fs::read_to_string(volume.join("out")).unwrap_or_default()];
    let diff = podman.podman(&["diff", "changed"]).stdout;
    let mut lines: Vec<&str> = diff.lines().collect();
    lines.sort_unstable();
    seen.push(lines.join(" "));
    let copy = podman.place.join("copy");
    podman.podman(&["cp", "changed:/d/f", &copy.display().to_string()]);
    seen.push(std::fs::read_to_string(&copy).unwrap_or_default());
    podman.podman(&["commit", "-q", "changed", "again"]);
    seen.push(
        podman
            .podman(&[
                "run",
                "--rm",
                "--network",
                "none",
                "--ulimit",
                "nofile=1000:1000",
                "--ulimit",
                "nproc=1000:1000",
                "again",
                "cat",
                "/new",
            ])
            .stdout,
    );
    podman.podman(&["rm", "changed"]);
    podman.podman(&["rmi", "again"]);
    let _ = std::fs::remove_file(volume.join("out"));
    seen.join("|")
}

fn restarts(podman: &Podman) -> String {
    podman.run(&["-d", "--name", "restarted", "--restart", "on-failure:2"], "echo once; exit 3");
    let state = || podman.told("restarted", "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}");
    wait_for(|| state() == "exited 2 3");
    let seen = state() + &podman.podman(&["logs", "restarted"]).stdout;
    podman.podman(&["rm", "-f", "-t", "0", "restarted"]);
    seen
}

/// Without systemd nobody asks for it in intervals, so it is asked for here.
fn health(podman: &Podman) -> String {
    podman.run(
        &["-d", "--name", "healthy", "--health-cmd", "test -e /well", "--health-interval", "disable"],
        "sleep 100000",
    );
    let ask = || podman.podman(&["healthcheck", "run", "healthy"]).status.to_string();
    let ill = ask();
    podman.podman(&["exec", "healthy", "touch", "/well"]);
    let well = ask();
    podman.podman(&["rm", "-f", "-t", "0", "healthy"]);
    format!("{ill} {well}")
}

fn given(podman: &Podman) -> String {
    let options = ["--rm", "--hostname", "named", "--add-host", "other:192.0.2.7", "--shm-size", "2m"];
    let script = "hostname; grep other /etc/hosts; cat /run/.containerenv | wc -c; head -c 9000000 /dev/zero >/dev/shm/x; \
                  stat -c %s /dev/shm/x; ls /dev | grep -v -x core | sort | tr '\\n' ' '; cat /proc/1/comm";
    format!("{:?}", podman.run(&options, script))
}
