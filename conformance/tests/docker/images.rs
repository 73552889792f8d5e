//! Images that are made of the host's own programs: what is built by `docker build` with this runtime, and services of several
//! containers.

use crate::daemon::{Daemons, IMAGE};
use crate::{Suite, wait_for};
use conformance::{Outcome, run};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An image with programs of the host, the libraries that they need, and directories. `None`, which is said, if one is not installed.
fn import(daemons: &Daemons, name: &str, programs: &[&str], directories: &[&str]) -> Option<()> {
    let missing = programs.iter().chain(directories).find(|path| !Path::new(path).exists());
    if let Some(path) = missing {
        eprintln!("{path} is not installed: image {name} was not tested");
        return None;
    }
    let mut files: BTreeSet<String> = programs.iter().map(|&path| path.to_owned()).collect();
    let mut needing: Vec<PathBuf> = programs.iter().map(PathBuf::from).collect();
    for directory in directories {
        let loaded = Path::new(directory).join("lib-dynload");
        needing.extend(fs::read_dir(loaded).into_iter().flatten().flatten().map(|entry| entry.path()));
    }
    let listed = run(Command::new("ldd").args(&needing)).expect("ldd runs").stdout;
    files.extend(
        listed
            .split_whitespace()
            .filter(|word| word.starts_with('/') && !word.ends_with(':'))
            .map(str::to_owned),
    );
    let archive = daemons.path(&format!("{name}.tar"));
    // Links are followed: each file is there under the name by which it is asked for.
    let mut tar = Command::new("tar");
    tar.args([
        "-C",
        "/",
        "--dereference",
        "--exclude=__pycache__",
        "--exclude=dist-packages",
        "--exclude=test",
        "-cf",
    ]);
    tar.arg(&archive)
        .args(files.iter().map(String::as_str).chain(directories.iter().copied()).map(|path| &path[1..]));
    assert!(tar.status().expect("tar runs").success(), "{name}");
    daemons.ok(&["import", &archive.display().to_string(), name]);
    Some(())
}

/// The version of the host's Python, as its directory has it.
fn python() -> Option<String> {
    let script = "import sys; print('/usr/lib/python%d.%d' % sys.version_info[:2])";
    let told = run(Command::new("/usr/bin/python3").args(["-c", script])).ok()?;
    Some(told.stdout.trim().to_owned())
}

const TOOLS: &[&str] = &[
    "/bin/sh",
    "/bin/cat",
    "/bin/chmod",
    "/bin/chown",
    "/bin/cp",
    "/bin/ls",
    "/bin/ln",
    "/bin/mkdir",
    "/bin/mv",
    "/bin/rm",
    "/bin/sed",
    "/bin/touch",
    "/bin/tar",
    "/bin/grep",
    "/usr/bin/sort",
    "/usr/bin/tr",
    "/usr/bin/find",
    "/usr/bin/xargs",
    "/usr/bin/env",
    "/usr/bin/id",
    "/usr/bin/wc",
    "/usr/bin/diff",
    "/usr/bin/dpkg",
    "/usr/bin/dpkg-deb",
    "/usr/bin/dpkg-split",
    "/usr/bin/dpkg-query",
    "/usr/sbin/start-stop-daemon",
    "/sbin/ldconfig",
];

const DOCKERFILE: &str = r#"FROM tools
COPY data /srv/data
ENV GREETING=hello
WORKDIR /made
RUN for i in 1 2 3; do echo "line $i" > "$i"; done; cat 1 2 3 | sort -r | sed s/line/LINE/ | tr 1 7 > all
RUN echo "$GREETING $(pwd) $(id -u)" > said && chmod 4750 said && chown 1000:50 said && ln -s said link && touch -d @1000000000 old
RUN mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates /tmp && touch /var/lib/dpkg/status
COPY package.deb /tmp/
RUN dpkg -i /tmp/package.deb && rm /tmp/package.deb && dpkg -s greeting | grep Status > status
RUN rm -r /srv/data/gone && mv 1 moved
RUN ["/usr/bin/env", "sh", "-c", "find / -xdev -name 'data*' | sort > found; exit 0"]
USER 1000:50
CMD ["sh", "-c", "id -u; cat said all status found; greeting"]
"#;

/// What `docker build` makes with this runtime as the default one is what it makes with runc: here with Docker's classic builder.
pub fn build(suite: &mut Suite) {
    if import(&suite.daemons, "tools", TOOLS, &[]).is_none() {
        return;
    }
    let context = suite.daemons.path("context");
    prepare(&context);
    suite.same("docker build", |daemons, runtime| {
        daemons.set_default_runtime(runtime);
        let mut command = daemons.command(&["build", "--no-cache", "--quiet", "--tag", "built"]);
        let built = run(command.env("DOCKER_BUILDKIT", "0").arg(&context)).expect("docker runs");
        daemons.set_default_runtime("runc");
        let mut all = format!("{} {}\n", built.status, built.stderr);
        let list = "find /made /srv /usr/bin/greeting /var/lib/dpkg/info -printf '%p %y %m %U %G %s %l\n' | sort; cat /srv/configured; \
                    find /made/old -printf '%T@'; wc -l < /made/found";
        for client in ["runc", "trapbox"] {
            all += &daemons.docker(&["run", "--rm", "--runtime", client, "built"]).stdout;
            all += &daemons.docker(&["run", "--rm", "-u", "0", "--runtime", client, "built", "sh", "-c", list]).stdout;
        }
        all += &daemons.docker(&["history", "--format", "{{.Size}} {{.CreatedBy}}", "built"]).stdout;
        daemons.docker(&["rmi", "built"]);
        Outcome { stdout: all, stderr: String::new(), status: built.status }
    });
    // A step that fails ends the build with its exit code.
    fs::write(context.join("Dockerfile"), "FROM tools\nRUN echo before; exit 9\nRUN echo after\n")
        .expect("written");
    suite.same("docker build of what fails", |daemons, runtime| {
        daemons.set_default_runtime(runtime);
        let mut command = daemons.command(&["build", "--no-cache", "--tag", "failed"]);
        let built = run(command.env("DOCKER_BUILDKIT", "0").arg(&context)).expect("docker runs");
        daemons.set_default_runtime("runc");
        let shown = built
            .stdout
            .lines()
            .filter(|line| ["before", "after"].contains(line))
            .collect::<Vec<_>>()
            .join(" ");
        let code = built.stderr.contains("returned a non-zero code: 9");
        Outcome { stdout: format!("{shown} {code}"), stderr: String::new(), status: built.status }
    });
}

/// What is built: files, and a package whose script writes another.
fn prepare(context: &Path) {
    let package = context.join("package");
    for directory in ["data/gone", "package/DEBIAN", "package/usr/bin"] {
        fs::create_dir_all(context.join(directory)).expect("made");
    }
    fs::write(context.join("Dockerfile"), DOCKERFILE).expect("written");
    fs::write(context.join("data/kept"), "kept\n").expect("written");
    fs::write(context.join("data/gone/file"), "gone\n").expect("written");
    let control = "Package: greeting\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: says it\n";
    let script = "#!/bin/sh\nset -e\necho \"$1\" > /srv/configured\n";
    for (path, text, mode) in [
        ("DEBIAN/control", control, 0o644),
        ("DEBIAN/postinst", script, 0o755),
        ("usr/bin/greeting", "#!/bin/sh\necho greetings\n", 0o755),
    ] {
        fs::write(package.join(path), text).expect("written");
        fs::set_permissions(package.join(path), std::os::unix::fs::PermissionsExt::from_mode(mode))
            .expect("set");
    }
    let mut packing = Command::new("dpkg-deb");
    packing.args(["--root-owner-group", "--build"]).arg(&package).arg(context.join("package.deb"));
    assert!(packing.stdout(Stdio::null()).status().expect("dpkg-deb runs").success());
}

/// A client that waits for the server, and talks to it.
const CLIENT: &str = r#"
import socket, time
def connected():
    for _ in range(1800):
        try: return socket.create_connection(('store', 6379), timeout=180)
        except OSError: time.sleep(0.1)
link = connected()
def ask(*words):
    link.sendall(b'*%d\r\n' % len(words) + b''.join(b'$%d\r\n%s\r\n' % (len(word), word) for word in words))
replies = link.makefile('rb')
ask(b'SET', b'large', b'x' * 1000000); print(replies.readline())
ask(b'GET', b'large'); print(replies.readline(), len(replies.read(1000002)))
for _ in range(1000): ask(b'INCR', b'count')
print([replies.readline() for _ in range(1000)][-1])
ask(b'CONFIG', b'GET', b'maxclients'); print(replies.readline())
"#;

/// As a compose file has it: a server and its client, each in a container, on a network of their own, by name.
pub fn services(suite: &mut Suite) {
    let Some(library) = python() else { return };
    let made = import(&suite.daemons, "redis", &["/usr/bin/redis-server"], &[])
        .and_then(|()| import(&suite.daemons, "python", &["/usr/bin/python3"], &[&library]));
    if made.is_none() {
        return;
    }
    suite.same("Redis and a client in Python", |daemons, runtime| {
        daemons.ok(&["network", "create", "pair"]);
        let head = ["run", "-d", "--name", "store", "--network", "pair", "--runtime", runtime, "redis"];
        let serve = ["/usr/bin/redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""];
        daemons.ok(&[&head[..], &serve].concat());
        let head = ["run", "--rm", "--network", "pair", "--runtime", runtime, "python"];
        let outcome = daemons.docker(&[&head[..], &["/usr/bin/python3", "-c", CLIENT]].concat());
        daemons.ok(&["rm", "-f", "store"]);
        daemons.ok(&["network", "rm", "pair"]);
        outcome
    });
}

const NGINX: &str = "user root; worker_processes 2; pid /nginx.pid; error_log /dev/stderr; daemon off;\n\
    events { worker_connections 64; }\n\
    http { access_log off; client_body_temp_path /a; proxy_temp_path /b; fastcgi_temp_path /c; uwsgi_temp_path /d; scgi_temp_path /e;\n\
    server { listen 80; root /w; location /again { return 302 /index.html; } } }\n";

/// A server of many processes behind a published port.
pub fn published(suite: &mut Suite) {
    if import(&suite.daemons, "nginx", &["/usr/sbin/nginx"], &[]).is_none() {
        return;
    }
    let site = suite.daemons.path("site");
    fs::create_dir(&site).expect("made");
    fs::write(site.join("index.html"), "page\n").expect("written");
    fs::write(site.join("large"), (0..2_000_000u32).map(|number| number as u8).collect::<Vec<_>>())
        .expect("written");
    let configuration = suite.daemons.path("nginx.conf");
    fs::write(&configuration, NGINX).expect("written");
    let users = suite.daemons.path("passwd");
    fs::write(&users, "root:x:0:0:root:/root:/bin/sh\n").expect("written");
    let groups = suite.daemons.path("group");
    fs::write(&groups, "root:x:0:\n").expect("written");
    let mounts =
        [(&site, "/w"), (&configuration, "/nginx.conf"), (&users, "/etc/passwd"), (&groups, "/etc/group")]
            .map(|(from, to)| format!("{}:{to}:ro", from.display()));
    suite.same("nginx behind a published port", |daemons, runtime| {
        let mut arguments = vec!["run", "-d", "--name", "served", "-p", "18082:80", "--runtime", runtime];
        arguments.extend(mounts.iter().flat_map(|mount| ["-v", mount]));
        arguments.extend(["nginx", "/usr/sbin/nginx", "-c", "/nginx.conf"]);
        daemons.ok(&arguments);
        let fetch = |path: &str| {
            let url = format!("http://127.0.0.1:18082/{path}");
            run(&mut daemons.in_network("busybox", &["wget", "-qO-", &url])).expect("busybox runs")
        };
        let up = wait_for(|| fetch("index.html").stdout == "page\n");
        let large = fetch("large");
        let mut all = format!("{up} {} {}", large.status, large.stdout.len());
        all += &fetch("again").stdout;
        all += &fetch("none").stderr;
        let script = "for i in 1 2 3 4 5 6 7 8; do busybox wget -qO- http://127.0.0.1:18082/large | busybox md5sum & done; wait";
        all += &run(&mut daemons.in_network("sh", &["-c", script])).expect("sh runs").stdout;
        // It ends as it is told to, with its workers.
        daemons.ok(&["stop", "-t", "120", "served"]);
        all += &daemons.docker(&["inspect", "-f", "{{.State.ExitCode}}", "served"]).stdout;
        daemons.ok(&["rm", "-f", "served"]);
        Outcome { stdout: all, stderr: String::new(), status: 0 }
    });
}

/// Devices of the sandbox's own under other names, and `--privileged`, whose effects are all inside.
pub fn devices(suite: &mut Suite) {
    suite.same("--device of what the sandbox has", |daemons, runtime| {
        let script =
            "echo x > /dev/nothing && stat -c '%F %t %T' /dev/nothing; head -c 2 /dev/zero | od -An -tx1";
        let head = [
            "run",
            "--rm",
            "--device",
            "/dev/null:/dev/nothing",
            "--device",
            "/dev/zero",
            "--runtime",
            runtime,
        ];
        daemons.docker(&[&head[..], &[IMAGE, "sh", "-c", script]].concat())
    });
    let privileged = |daemons: &Daemons, script: &str| {
        daemons.docker(&["run", "--rm", "--privileged", "--runtime", "trapbox", IMAGE, "sh", "-c", script])
    };
    // A host that gives its root less than everything cannot give runc's containers more: what is to be seen is written out.
    let script = "grep ^CapEff /proc/self/status; hostname other && hostname; mkdir /m; mount -t tmpfs none /m && touch /m/f && ls /m; \
                  umount /m; ls /m; grep -E '^(Seccomp:|NoNew)' /proc/self/status; touch /proc/sys/x 2>&1; echo x > /dev/null && echo null";
    let ran = privileged(&suite.daemons, script);
    let (capabilities, rest) = ran.stdout.split_once('\n').unwrap_or_default();
    let capabilities = capabilities.split('\t').nth(1).and_then(|set| u64::from_str_radix(set, 16).ok());
    const SYS_ADMIN: u64 = 1 << 21;
    let wanted =
        "other\nf\nNoNewPrivs:\t0\nSeccomp:\t0\ntouch: /proc/sys/x: No such file or directory\nnull\n";
    let good = capabilities.is_some_and(|set| set & SYS_ADMIN != 0) && rest == wanted;
    suite.check("--privileged", good, &format!("{ran:?}"));
    let script = "ls /dev /dev/mapper 2>/dev/null | grep -E '^(sd|vd|nvme|kmsg|mem|kvm|loop|fuse)'; cat /dev/mem /dev/kmsg 2>&1 | head -2; \
                  mknod /disk b 8 0 && head -c 1 /disk; ls /proc/1/root/host 2>&1; echo s > /proc/sysrq-trigger; ls /sys/block 2>&1";
    let ran = privileged(&suite.daemons, script);
    let none = ["sd", "vd", "nvme", "loop", "kvm", "mem\n"]
        .iter()
        .all(|name| !ran.stdout.lines().any(|line| line.starts_with(name.trim())));
    suite.check("--privileged shows nothing of the host", none, &format!("{ran:?}"));
}
