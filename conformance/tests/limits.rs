//! The size of a sandbox (`--memory`, `--pids`, `--cpus`) as programs see it, by whatever way they ask.

use conformance::{run, sandbox_exec, scratch};
use std::process::Command;

const SIZE: [&str; 3] = ["--memory=512M", "--pids=200", "--cpus=1"];

fn says(script: &str) -> String {
    let directory = scratch().expect("a directory");
    let mut command = Command::new(sandbox_exec());
    command.args(SIZE).args(["sh", "-c", script]).current_dir(directory.path());
    let outcome = run(&mut command).expect("sandbox-exec runs");
    assert_eq!(outcome.status, 0, "{}{}", outcome.stdout, outcome.stderr);
    outcome.stdout.trim_end().to_string()
}

#[test]
fn control_groups_show_the_limits_in_both_forms() {
    let unified =
        says("cd /sys/fs/cgroup; cat memory.max memory.swap.max pids.max cpu.max cgroup.controllers");
    assert_eq!(unified, "536870912\n0\n200\nmax 100000\ncpuset cpu memory pids");
    let first =
        says("cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us");
    assert_eq!(first, "536870912\n200\n-1");
    let found = says(
        "stat -f -c %t /sys/fs/cgroup; cat /proc/self/cgroup; grep -c ' cgroup2 ' /proc/self/mountinfo; cat /proc/self/cpuset",
    );
    assert_eq!(found, "63677270\n0::/\n1\n/");
    // The shell that asks, and cat.
    assert_eq!(says("cat /sys/fs/cgroup/pids.current; wc -l < /sys/fs/cgroup/cgroup.procs"), "2\n2");
    assert_eq!(says("mkdir /sys/fs/cgroup/x 2>/dev/null || echo none"), "none");
}

#[test]
fn memory_in_use_is_what_files_hold() {
    let more = says(
        "cd /sys/fs/cgroup; a=$(cat memory.current); head -c 50000000 /dev/zero > /tmp/f; b=$(cat memory.current)\n\
         rm /tmp/f; c=$(cat memory.current); echo $(((b - a) / 10000000)) $(((c - a) / 10000000))",
    );
    assert_eq!(more, "5 0");
}

#[test]
fn every_way_to_ask_for_processors_and_memory_gives_the_same() {
    assert_eq!(
        says("nproc; nproc --all; getconf _NPROCESSORS_ONLN; grep -c ^processor /proc/cpuinfo"),
        "1\n1\n1\n1"
    );
    assert_eq!(
        says("grep -c '^cpu[0-9]' /proc/stat; ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l"),
        "1\n1"
    );
    assert_eq!(
        says("cmp /sys/devices/system/cpu/online /sys/fs/cgroup/cpuset.cpus.effective && echo same"),
        "same"
    );
    assert_eq!(
        says("awk '/^MemTotal/ { print $2 }' /proc/meminfo; free -m | awk '/^Mem/ { print $2 }'"),
        "524288\n512"
    );
    let python = "import os, multiprocessing as m; print(os.cpu_count(), len(os.sched_getaffinity(0)), m.cpu_count())\n\
        print(os.sysconf('SC_PHYS_PAGES') * 4096)\n\
        try: os.sched_setaffinity(0, range(64))\n\
        except OSError: pass\n\
        print(len(os.sched_getaffinity(0)))";
    assert_eq!(says(&format!("/usr/bin/python3 -c \"{python}\"")), "1 1 1\n536870912\n1");
}

#[test]
fn runtimes_size_themselves_by_the_limits() {
    let node = says(
        "node -p 'const os = require(\"os\"); [os.totalmem(), os.cpus().length, process.constrainedMemory?.()].join()'",
    );
    assert!(node.starts_with("536870912,1"), "{node}");
    let java = says(
        "java -Xlog:os+container=info -XX:+PrintFlagsFinal -version 2>/dev/null | grep -E 'MaxHeapSize|ActiveProcessorCount '",
    );
    // A quarter of the memory.
    assert!(java.contains("= 134217728"), "{java}");
}
