//! Debuggers inside the sandbox: strace and gdb show there what they show natively.

use super::{Application, application};
use conformance::without_addresses;

/// Addresses and ids become words, runs of blanks (columns as wide as an id) one blank.
fn shown(text: &str) -> String {
    let mut result = String::new();
    for line in without_addresses(text).lines() {
        let mut before = "";
        for word in line.split_whitespace() {
            let of_id = matches!(before, "process" | "(process" | "LWP" | "(LWP" | "pid");
            result.push_str(if of_id { word.trim_start_matches(|c: char| c.is_ascii_digit()) } else { word });
            result.push(' ');
            before = word;
        }
        result.push('\n');
    }
    result
}

const fn debugger(name: &'static str, prepare: &'static str, command: &'static str) -> Application {
    Application { normalise: shown, ..application(name, prepare, command) }
}

const SUMS: &str = concat!(
    "cat > sums.c <<'END'\n",
    include_str!("../../applications/sums.c"),
    "END\ngcc -g -O0 -o sums sums.c"
);
const WORKERS: &str = concat!(
    "cat > workers.c <<'END'\n",
    include_str!("../../applications/workers.c"),
    "END\ngcc -g -O0 -pthread -o workers workers.c"
);
const SPIN: &str = concat!(
    "cat > spin.c <<'END'\n",
    include_str!("../../applications/spin.c"),
    "END\ngcc -g -O0 -o spin spin.c"
);
const LINES: &str = "for i in $(seq 300); do echo \"line $i\"; done > lines";

macro_rules! gdb {
    ($($argument:literal)*) => {
        concat!("gdb -nx -q -batch -iex 'set pagination off' -iex 'set debuginfod enabled off' -iex 'set style enabled off'", $(" ", $argument),*)
    };
}

/// All of them.
pub const APPLICATIONS: &[Application] = &[
    // A file a process: lines of several processes would come in any order.
    debugger(
        "strace_of_a_pipeline",
        LINES,
        "env -i PATH=/usr/bin:/bin strace -qq -ff -o log -e signal=none -e trace=openat,read,write,pipe2,dup2,exit_group,chdir sh -c 'cat lines | wc -l; (exit 3)'; \
         echo $?; cat log.* | sort; rm log.*",
    ),
    debugger(
        "strace_counts_calls",
        LINES,
        "env -i PATH=/usr/bin:/bin strace -f -c -e trace=read,write,close,execve,exit_group -o log sh -c 'cat lines | sort -r | head -1'; \
         awk '$1 ~ /^[0-9]/ { print $4, $NF }' log | sort; rm log",
    ),
    debugger(
        "strace_attaches",
        "",
        "sh -c 'while [ ! -e stop ]; do sleep 0.05; done; echo bye' & pid=$!; \
         strace -qq -o log -e trace=write,exit_group -e signal=none -p $pid & \
         while ! grep -q 'TracerPid:[[:space:]]*[1-9]' /proc/$pid/status; do sleep 0.05; done; touch stop; \
         wait $pid; echo $?; wait; cat log",
    ),
    debugger(
        "gdb_runs_a_program",
        SUMS,
        gdb!("-ex 'break main' -ex run -ex bt -ex 'info registers rip' -ex next -ex next -ex next -ex step -ex next -ex next -ex bt"
             "-ex 'info locals' -ex finish -ex 'print pair' -ex 'set var pair.first = 77' -ex 'x/s text' -ex 'print add(40, 2)'"
             "-ex 'print counter' -ex 'tbreak add' -ex continue -ex up -ex 'info breakpoints' -ex stepi -ex 'x/i $pc' -ex continue ./sums 2>&1"),
    ),
    debugger(
        "gdb_watches_by_stepping",
        SUMS,
        gdb!(
            "-ex 'set can-use-hw-watchpoints 0' -ex 'break add' -ex run -ex 'watch counter' -ex continue -ex kill ./sums 2>&1"
        ),
    ),
    debugger(
        "gdb_watches_by_debug_registers",
        SUMS,
        gdb!("-ex 'break main' -ex run -ex 'watch counter' -ex continue -ex continue -ex 'info watchpoints' -ex 'delete 2' -ex 'hbreak add'"
             "-ex continue -ex bt -ex delete -ex continue ./sums 2>&1"),
    ),
    debugger(
        "gdb_and_threads",
        WORKERS,
        gdb!("-ex 'set print thread-events off' -ex 'break ready' -ex run -ex 'info threads' -ex 'thread apply all -s frame function run'"
             "-ex 'thread 3' -ex 'break work if number == 1' -ex continue -ex 'print number' -ex 'bt 2' -ex 'set scheduler-locking on'"
             "-ex finish -ex 'print worked[1]' -ex 'set scheduler-locking off' -ex delete -ex continue ./workers 2>&1"),
    ),
    debugger(
        "gdb_attaches",
        SPIN,
        concat!(
            "touch out; ./spin > out & pid=$!; while ! grep -q ready out; do sleep 0.05; done; ",
            gdb!("-p $pid -ex bt -ex 'print done' -ex 'set var done = 1' -ex detach 2>&1"),
            "; wait $pid; echo $?; cat out"
        ),
    ),
    debugger(
        "gdb_follows_forks",
        "",
        gdb!("-ex 'set follow-fork-mode child' -ex 'set detach-on-fork off' -ex 'catch exec' -ex run -ex 'info inferiors' -ex kill"
             "--args sh -c '/bin/true; exit 3' 2>&1"),
    ),
    debugger(
        "gdb_and_signals",
        "printf 'handle SIGUSR1 stop print nopass\\nrun\\nbt 1\\nsignal 0\\n' > commands",
        gdb!(
            "-x commands --args sh -c 'trap \"echo caught\" USR1; kill -USR1 $$; kill -SEGV $$; exit 2' 2>&1"
        ),
    ),
];
