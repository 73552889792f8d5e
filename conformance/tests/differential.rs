//! Every C program of `programs/` and every application of the table below, natively and in the sandbox.

#[path = "differential/debuggers.rs"]
mod debuggers;

use conformance::{
    Case, as_it_is, compare, compile, scratch, without_addresses, without_digits, without_numbers,
};
use libtest_mimic::{Arguments, Failed, Trial};
use std::path::{Path, PathBuf};

fn failed(error: anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}

const C_OPTIONS: &[&str] = &["-O1", "-Wall", "-pthread", "-D_GNU_SOURCE"];

/// A C program: compiled once, run twice.
fn program(source: PathBuf) -> Trial {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Trial::test(format!("program::{stem}"), move || {
        let bin = scratch().map_err(failed)?;
        let binary = bin.path().join("program");
        compile("gcc", C_OPTIONS, &source, &binary).map_err(failed)?;
        let directory = scratch().map_err(failed)?;
        let path = binary.to_string_lossy().into_owned();
        let side_effects = !BOUND_DIFFER.contains(&stem.as_str());
        let argv = [path.as_str()];
        let case = Case { argv: &argv, options: &[], normalise: as_it_is, side_effects, succeeds: true };
        compare(&case, directory.path()).map_err(failed)
    })
}

/// Programs that meet what bound host directories lack (owners of the program's choice: on the host, all is its caller's; execution
/// of what only its owner may read, since the host opens it for us; set-user-ID bits), and one whose file holds addresses.
const BOUND_DIFFER: &[&str] = &["attributes", "files", "permissions", "start", "patched_registers"];

/// Programs about names and files, once more in an overlay whose upper is a directory of the host. `attributes` is not among them:
/// set-user-ID bits never reach a file of the host.
const OVERLAID: &[&str] =
    &["contents", "entries", "leases", "mapping", "mounts", "naming", "trees", "views", "walking"];

fn overlaid(source: PathBuf, stem: &'static str) -> Trial {
    Trial::test(format!("overlay::{stem}"), move || {
        let bin = scratch().map_err(failed)?;
        let binary = bin.path().join("program");
        compile("gcc", C_OPTIONS, &source, &binary).map_err(failed)?;
        let directory = scratch().map_err(failed)?;
        on_host(&[&binary.to_string_lossy()], directory.path()).map_err(failed)
    })
}

fn on_host(argv: &[&str], directory: &Path) -> anyhow::Result<()> {
    let upper = scratch()?;
    let overlay = format!("{}:{}", directory.display(), upper.path().display());
    let options = ["--overlay", overlay.as_str()];
    let case = Case { argv, options: &options, normalise: as_it_is, side_effects: false, succeeds: true };
    compare(&case, directory)
}

/// What is there already is changed in every way, in both kinds of overlay and in a bound directory.
fn layers() -> Trial {
    Trial::test("overlay::layers", || {
        let applications = Path::new(env!("CARGO_MANIFEST_DIR")).join("applications");
        let script = applications.join("layers.py");
        let directory = scratch().map_err(failed)?;
        let script = std::fs::copy(script, directory.path().join("layers.py")).map(|_| "layers.py");
        let script = script.map_err(|error| Failed::from(error.to_string()))?;
        let mut prepare = std::process::Command::new("python3");
        let prepared = conformance::run(prepare.args([script, "prepare"]).current_dir(directory.path()));
        assert_eq!(prepared.map_err(failed)?.status, 0, "the tree is made");
        let argv = ["/usr/bin/python3", script, "change"];
        on_host(&argv, directory.path()).map_err(failed)?;
        // Something granted: attributes of the host's files are read.
        let options = ["--ro-bind", "/usr/share"];
        let case =
            Case { argv: &argv, options: &options, normalise: as_it_is, side_effects: true, succeeds: true };
        compare(&case, directory.path()).map_err(failed)
    })
}

/// Something from the distribution, through the shell.
struct Application {
    name: &'static str,
    /// Prepares files in the working directory, natively.
    prepare: &'static str,
    command: &'static str,
    normalise: fn(&str) -> String,
}

const fn application(name: &'static str, prepare: &'static str, command: &'static str) -> Application {
    Application { name, prepare, command, normalise: as_it_is }
}

/// For an ordinary user, who has no other identities in the sandbox, groups of other people's files are not told apart.
fn ls_lines(text: &str) -> String {
    let root =
        std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if root {
        return text.to_string();
    }
    let line = |line: &str| {
        let words = line.split_whitespace().enumerate().filter(|(index, _)| *index != 3);
        words.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

const LINES: &str = "for i in $(seq 300); do echo \"line $i $((i * 7919 % 1000))\"; done > lines";

/// Copies every kind of file.
const fn copies(name: &'static str, command: &'static str) -> Application {
    application(name, concat!("cp ", env!("CARGO_MANIFEST_DIR"), "/applications/kinds.sh ."), command)
}

const APPLICATIONS: &[Application] = &[
    Application { normalise: ls_lines, ..application("ls", "", "exec /bin/ls -la /usr/bin") },
    application("sha256sum_of_a_sparse_gibibyte", "truncate -s 1G sparse", "exec sha256sum sparse"),
    application("sort", LINES, "exec sort -k3 -n lines"),
    application("grep", "", "exec grep -r root /etc/pam.d"),
    application(
        "tar",
        LINES,
        "mkdir t && cp lines t && tar -cf t.tar --mtime=@0 t && tar -tf t.tar && tar -xOf t.tar t/lines | md5sum",
    ),
    copies("tar_of_every_kind_of_file", "exec bash kinds.sh tar"),
    copies("cp_keeps_every_kind_of_file", "exec bash kinds.sh cp"),
    copies("rsync_keeps_every_kind_of_file", "exec bash kinds.sh rsync"),
    application(
        "find_and_du_of_two_thousand_files",
        "for i in $(seq 40); do mkdir -p t/$((i % 7))/$i; (cd t/$((i % 7))/$i; seq 1 $i > n; for j in $(seq 50); do echo $i.$j > f$j; done); done",
        "find t -type f -name 'f*1' | sort | md5sum; find t -type d -empty; find t -size +1 | sort | md5sum; find t -newer t/1/1/n -type f | wc -l >/dev/null\n\
         du -a --apparent-size -b t | grep -v '^4096' | sort | md5sum; find t -type f | wc -l; find t -depth -name '*7*' -delete; find t | wc -l; rm -r t",
    ),
    application(
        "sqlite_in_wal_mode_from_four_processes",
        "",
        "sqlite3 w.db 'pragma journal_mode=wal; create table t(p, n, text); create index i on t(n);'\n\
         for p in 1 2 3 4; do (for n in $(seq 25); do sqlite3 -cmd '.timeout 60000' w.db \"begin immediate; insert into t values($p, $n, hex(zeroblob($n * 40))); \
           update t set text = text || 'x' where n = $n and p = $p; commit;\" || echo failed; done) & done; wait\n\
         sqlite3 w.db 'select count(*), sum(p * n), sum(length(text)) from t; pragma integrity_check; pragma journal_mode; pragma wal_checkpoint(truncate);'\n\
         rm -f w.db*",
    ),
    application(
        "fio_verifies_what_it_wrote",
        "",
        "for engine in psync pvsync mmap; do fio --name=$engine --ioengine=$engine --rw=randrw --bs=4k --size=2M --verify=crc32c --do_verify=1 --verify_fatal=1 \
           --fallocate=none --randseed=1 --minimal >/dev/null 2>fio.err; echo $engine $?; cat fio.err; rm -f $engine.* fio.err *.state; done",
    ),
    // What they print differs; that they find what they look for does not.
    application(
        "tools_that_look_at_the_system",
        "",
        "look() { \"$@\" >out 2>err </dev/null; echo \"$*: $? $([ -s out ] && echo something) $(cat err)\"; }\n\
         look ps aux; look ps -eLf; look ps -eo pid,comm,cgroup,wchan,sched,psr,nlwp,oomadj,netns,pidns,userns; look top -b -n1; look free -h\n\
         look uptime; look lscpu; look lscpu -e; look mount; look df; look nproc; look findmnt; look vmstat; look vmstat -s; look pgrep sh; look w\n\
         look lsns; look prlimit; look ipcs; look getconf -a; look pidof sh; look ls -l /proc/self/ns/\n\
         pid=$$; for command in 'pmap' 'pmap -x' 'pwdx' 'taskset -p'; do $command $pid >out 2>err; echo $command $? $([ -s out ] && echo something); done\n\
         rm out err",
    ),
    application("gzip", LINES, "gzip -k lines && gzip -dc lines.gz | md5sum"),
    application("xz", LINES, "xz -k -T2 lines && xz -dc lines.xz | md5sum"),
    application("awk", LINES, "exec awk '{ sum += $3 } END { print sum }' lines"),
    application(
        "sqlite",
        "",
        "sqlite3 x.db 'create table t(a, b); insert into t values (1, 2), (3, 4); select sum(a * b) from t;' && \
         sqlite3 x.db 'update t set b = 5; select * from t; pragma integrity_check;'",
    ),
    application(
        "python",
        "",
        "exec /usr/bin/python3 -c '\nimport threading, ctypes, mmap, decimal, faulthandler\nfaulthandler.enable()\nl = []\n\
         ts = [threading.Thread(target=lambda i=i: l.append(i)) for i in range(20)]\n[t.start() for t in ts]\n[t.join() for t in ts]\n\
         m = mmap.mmap(-1, 8192); m[0:3] = b\"abc\"\n\
         print(sorted(l), m[0:3], decimal.Decimal(1) / 3, ctypes.CDLL(None).abs(-3))\n'",
    ),
    application(
        "python_subprocess",
        "",
        "exec /usr/bin/python3 -c 'import subprocess; print(subprocess.run([\"sh\", \"-c\", \"echo out; exit 3\"], capture_output=True))'",
    ),
    application(
        "perl",
        "",
        "exec perl -e 'print join(\",\", map { $_ * 2 } 1 .. 5), \"\\n\"; my $p = fork; exit 4 unless $p; waitpid $p, 0; print $? >> 8, \"\\n\"'",
    ),
    application(
        "node_with_workers",
        "",
        "exec node -e 'const { Worker } = require(\"worker_threads\"); const w = new Worker(\"require(\\\"worker_threads\\\").parentPort.postMessage(6 * 7)\", { eval: true }); w.on(\"message\", m => console.log(m));'",
    ),
    application(
        "java",
        "echo 'public class H { public static void main(String[] a) { System.gc(); System.out.println(\"hello\"); } }' > H.java && javac H.java",
        "exec java -cp . H",
    ),
    application(
        "go_with_a_thousand_goroutines",
        "printf 'package main\\nimport (\"fmt\"; \"sync\")\\nfunc main() { var w sync.WaitGroup; var m sync.Mutex; s := 0\\nfor i := 0; i < 1000; i++ { w.Add(1); go func(i int) { defer w.Done(); m.Lock(); s += i; m.Unlock() }(i) }\\nw.Wait(); fmt.Println(s) }\\n' > g.go && HOME=$PWD CGO_ENABLED=0 go build -o g g.go && chmod -R u+w . && rm -rf go .cache",
        "exec ./g",
    ),
    application(
        "musl",
        "printf '#include <stdio.h>\\nint main(void) { puts(\"musl\"); return 3; }\\n' > m.c && musl-gcc -static -o m m.c",
        "exec ./m",
    ),
    application(
        "nostdlib",
        "printf 'void _start(void) { __asm__ volatile(\"syscall\" :: \"a\"(231), \"D\"(7)); }\\n' > n.c && gcc -nostdlib -static -o n n.c",
        "exec ./n",
    ),
    application("busybox", "", include_str!("../applications/busybox.sh")),
    application(
        "a_program_that_faults",
        "printf 'int main(void) { *(volatile int *)0 = 1; }\\n' > s.c && gcc -o s s.c",
        "./s; echo $?",
    ),
    application(
        "git",
        "",
        "export HOME=$PWD GIT_AUTHOR_DATE=2020-01-01T00:00:00Z GIT_COMMITTER_DATE=2020-01-01T00:00:00Z\n\
         git config --global user.name n; git config --global user.email e@example.org\n\
         git init -q -b main r; cd r; for i in $(seq 30); do seq $i > f$i; done; git add .; git commit -qm one\n\
         git mv f1 g1; echo x >> f2; git commit -qam two; git tag t; git gc -q; git fsck --full; git log --stat | tail -3\n\
         cd ..; git clone -q r c; git clone -q --no-local r far; cd far; echo y > n; git add n; git commit -qm three\n\
         git push -q origin HEAD:x; git -C ../r rev-parse x; git status; git -C ../c fsck; git rebase -q HEAD~1; git log --oneline\n\
         # An index holds times.\n\
         rm ../*/.git/index",
    ),
    application(
        "xargs_with_many_at_once",
        "",
        "seq 200 | xargs -P 8 -n 1 sh -c 'echo $0' | sort -n | md5sum; seq 9 | xargs -P 4 -n 1 sh -c 'exit $(($0 % 3))'; echo $?",
    ),
    application(
        "python_processes",
        concat!("cp ", env!("CARGO_MANIFEST_DIR"), "/applications/python_processes.py ."),
        "exec /usr/bin/python3 python_processes.py subprocess fork futures",
    ),
    application(
        "go_processes",
        concat!(
            "cp ",
            env!("CARGO_MANIFEST_DIR"),
            "/applications/go_processes.go . && HOME=$PWD CGO_ENABLED=0 \
                 go build -o main go_processes.go && chmod -R u+w . && rm -rf go .cache"
        ),
        "exec ./main",
    ),
    Application {
        normalise: without_numbers,
        ..application("openssl_speed", "", "exec openssl speed -seconds 1 sha256 2>&1")
    },
    application(
        "a_compiler_and_what_it_made",
        "printf '#include <stdio.h>\\nint main(void) { puts(\"made\"); return 4; }\\n' > c.c",
        "gcc -O2 -o c c.c && ./c; status=$?; rm c; echo $status",
    ),
    Application {
        normalise: without_addresses,
        ..application(
            "python_tells_of_a_fault",
            "",
            "/usr/bin/python3 -X faulthandler -c 'import ctypes; ctypes.string_at(0)'; echo $?",
        )
    },
    application(
        "python_maps_a_file",
        LINES,
        "exec /usr/bin/python3 -c '\nimport mmap, os\nwith open(\"lines\", \"r+b\") as f:\n m = mmap.mmap(f.fileno(), 0)\n\
         m[0:4] = b\"LINE\"; m.flush(); print(len(m), m[:10], m.find(b\"line 7\"), os.stat(\"lines\").st_size)\n'",
    ),
    Application { normalise: without_addresses, ..application("ldd", "", "exec ldd /bin/ls") },
    application("ld_so_by_name", "", "exec /lib64/ld-linux-x86-64.so.2 /bin/echo hello"),
    application(
        "a_script_with_one_argument",
        "printf '#!/usr/bin/env -S sh -e\\necho $0 $1; false; echo no\\n' > s; chmod +x s",
        "./s x; echo $?",
    ),
    // Only what it makes: natively there are others.
    Application {
        normalise: without_digits,
        ..application(
            "ipcs",
            "",
            "for k in 'M 5000' 'S 3' 'Q'; do id=$(ipcmk -$k | sed 's/.* //'); t=$(echo $k | cut -c1 | tr MSQ msq); \
             ipcs -$t -i $id; ipcrm -$t $id; ipcrm -$t $id; echo $?; done 2>&1; ipcs -l",
        )
    },
    application(
        "a_shell_pipeline",
        "",
        "seq 1000 | sort -r | head -3 | tr 1 x; (exit 5); echo $?; kill -TERM $$",
    ),
];

fn applications() -> impl Iterator<Item = Trial> {
    APPLICATIONS.iter().chain(debuggers::APPLICATIONS).map(|application| {
        Trial::test(format!("application::{}", application.name), || {
            let directory = scratch().map_err(failed)?;
            if !application.prepare.is_empty() {
                let mut prepare = std::process::Command::new("sh");
                prepare.args(["-ec", application.prepare]).current_dir(directory.path());
                let outcome = conformance::run(&mut prepare).map_err(failed)?;
                if outcome.status != 0 {
                    return Err(Failed::from(format!("preparing: {}", outcome.stderr)));
                }
            }
            let case = Case {
                argv: &["sh", "-c", application.command],
                options: &[],
                normalise: application.normalise,
                side_effects: true,
                succeeds: false,
            };
            compare(&case, directory.path()).map_err(failed)
        })
    })
}

/// Programs whose headers were changed at random (from a fixed seed): the same status as on Linux, whatever is wrong with them.
fn hostile_elf_files() -> Trial {
    Trial::test("program::hostile_elf_files", || {
        let directory = scratch().map_err(failed)?;
        hostile_files(directory.path()).map_err(failed)?;
        let script =
            "for f in m*; do timeout -s KILL 5 ./$f >/dev/null 2>&1 </dev/null; echo $f $?; done 2>/dev/null";
        let case = Case {
            argv: &["bash", "-c", script],
            options: &[],
            normalise: as_it_is,
            side_effects: false,
            succeeds: false,
        };
        compare(&case, directory.path()).map_err(failed)
    })
}

/// A dynamic program, a static one and one at a fixed address, with a few bytes of their headers changed, or cut off.
fn hostile_files(directory: &Path) -> anyhow::Result<()> {
    let source = directory.join("source.c");
    std::fs::write(
        &source,
        "void _start(void) { __asm__ volatile(\"syscall\" :: \"a\"(231), \"D\"(7)); }\n",
    )?;
    let mut originals = vec![std::fs::read("/bin/true")?];
    for options in
        [&["-nostdlib", "-static"][..], &["-nostdlib", "-static-pie", "-fpie"], &["-nostdlib", "-no-pie"]]
    {
        let program = directory.join("program");
        compile("gcc", options, &source, &program)?;
        originals.push(std::fs::read(&program)?);
        std::fs::remove_file(&program)?;
    }
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    for number in 0..400 {
        let mut bytes = originals[number % originals.len()].clone();
        let headers = 64 + 56 * usize::from(bytes[56]);
        for _ in 0..=random(2) {
            let at = 16 + random(headers - 16);
            bytes[at] = [0, 0xff, 0x7f, 1, random(256) as u8][random(5)];
        }
        if random(10) == 0 {
            bytes.truncate(1 + random(bytes.len()));
        }
        let path = directory.join(format!("m{number:03}"));
        std::fs::write(&path, bytes)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    Ok(())
}

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let programs = std::env::var_os("CONFORMANCE_PROGRAMS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("programs"), PathBuf::from);
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(OVERLAID.iter().map(|stem| overlaid(programs.join(stem).with_extension("c"), stem)));
    if let Ok(files) = std::fs::read_dir(programs) {
        let sources = files.flatten().map(|entry| entry.path());
        trials.extend(sources.filter(|path| path.extension().is_some_and(|ext| ext == "c")).map(program));
    }
    trials.push(hostile_elf_files());
    trials.push(layers());
    trials.extend(applications());
    trials.sort_by(|a, b| a.name().cmp(b.name()));
    libtest_mimic::run(&arguments, trials).exit();
}
