//! The attacks, one a row: what is tried, what stops it, and how the attempt must end.

use crate::stage::{Stage, excerpt};
use crate::{floods, outside, packet, special};
use anyhow::{Result, ensure};
use conformance::Outcome;

const SIGTERM: i32 = 15;

/// One attack.
pub struct Attack {
    pub name: &'static str,
    /// For `docs/security.md`: what is tried.
    pub tries: &'static str,
    /// For `docs/security.md`: what stops it.
    pub stopped_by: &'static str,
    pub how: How,
}

/// How it is done.
pub enum How {
    /// A program with one set of arguments after the other, and how each must end.
    Program {
        name: &'static str,
        options: &'static [&'static str],
        runs: &'static [&'static [&'static str]],
        ends: Ends,
    },
    /// What needs more than that.
    Special(fn(&Stage) -> Result<()>),
}

/// How an attempt must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Nothing was reached: the program says so at its end.
    Held,
    /// As `Held`, in a process whose kernel was damaged, so that the sandbox may also have been ended with a report, or the process
    /// may run in a circle until the sandbox is asked to end.
    HeldOrReported,
    /// The host's filter ended the sandbox.
    ByFilter,
    /// The attempt ended the process or the sandbox; it did not come back.
    NotBack,
    /// A signal ended the process, as any other program.
    BySignal,
}

impl Attack {
    pub fn run(&self, stage: &Stage) -> Result<()> {
        match &self.how {
            How::Program { name, options, runs, ends } => {
                for arguments in *runs {
                    let outcome = match ends {
                        Ends::HeldOrReported => stage.endless_attack(options, name, arguments)?,
                        _ => stage.attack(options, name, arguments)?,
                    };
                    ends.check(&outcome)
                        .map_err(|error| error.context(format!("{name} {}", arguments.join(" "))))?;
                }
                Ok(())
            }
            How::Special(run) => run(stage),
        }
    }
}

impl Ends {
    pub fn check(self, outcome: &Outcome) -> Result<()> {
        let Outcome { stdout, stderr, status } = outcome;
        let all = || format!("status {status}\n{}\n{}", excerpt(stdout), excerpt(stderr));
        let held = stdout.lines().any(|line| line == "held");
        let reported = *status == 125 && stderr.contains("the sandbox has ended");
        match self {
            Ends::Held => ensure!(*status == 0 && held, "it does not say that it held: {}", all()),
            Ends::HeldOrReported => {
                ensure!(stdout.contains("trying"), "nothing was tried: {}", all());
                let asked = *status == 128 + SIGTERM;
                ensure!(reported || asked || *status == 0 && held, "neither held nor reported: {}", all());
            }
            Ends::ByFilter => {
                ensure!(stdout.contains("trying"), "nothing was tried: {}", all());
                ensure!(reported && stderr.contains("filter"), "not ended by the filter: {}", all());
            }
            Ends::BySignal => {
                ensure!(stdout.contains("trying"), "nothing was tried: {}", all());
                ensure!(*status > 128 && stderr.is_empty(), "no signal ended it: {}", all());
            }
            Ends::NotBack => {
                ensure!(stdout.contains("trying"), "nothing was tried: {}", all());
                ensure!(!held && (reported || *status > 128), "it came back: {}", all());
            }
        }
        Ok(())
    }
}

const fn program(name: &'static str, runs: &'static [&'static [&'static str]], ends: Ends) -> How {
    How::Program { name, options: &[], runs, ends }
}

const GADGET: &str =
    "strict filter: whatever lies at the gadget's address, its calls are checked; elsewhere calls trap";
const TREE: &str = "mount namespace: the tree holds only what was granted, without the host's `/proc`, `/sys` and `/dev`; without, Landlock";
const OWN_KERNEL: &str = "the calls are our kernel's, which asks the host for nothing of the kind";

/// Every attack.
pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "every_number",
        tries: "every call number from 0 to 512 and beyond, x32's and negative ones, by a jump to the gadget, with benign and with hostile arguments",
        stopped_by: "strict filter: what is not in the table ends the sandbox",
        how: How::Special(special::every_number),
    },
    Attack {
        name: "allowed_calls",
        tries: "the calls of the table with hostile arguments: kernel addresses, huge lengths, negative descriptors",
        stopped_by: "the host's own checks; argument checks of the filter",
        how: How::Special(special::allowed_calls),
    },
    Attack {
        name: "sockets_beside_the_broker",
        tries: "with `--network=host`: to make, connect, bind or address a socket by itself, by a jump to the gadget",
        stopped_by: "strict filter: a broker brings in what a connected socket needs, and no address",
        how: How::Special(special::sockets_beside_the_broker),
    },
    Attack {
        name: "packet_socket",
        tries: "with `--network=stack`: frames to another interface by an address, sendmsg, sendmmsg, bind, connect; promiscuous mode, rings, fan-out, filters and other options of the packet socket; a second socket; false headers before frames",
        stopped_by: "strict filter: `sendto` without an address and `recvmmsg`, on that one socket; the host checks the headers",
        how: How::Special(packet::packet_socket),
    },
    Attack {
        name: "other_abis",
        tries: "`int 0x80` with every number, x32 numbers",
        stopped_by: "trap filter: every other ABI is our kernel's to answer",
        how: program("other_abi", &[&["int80", "SECRET"], &["x32", "SECRET"]], Ends::Held),
    },
    Attack {
        name: "other_doors",
        tries: "`sysenter`, a far jump to 32-bit code, the middle of the vsyscall page",
        stopped_by: "trap filter; 32-bit code ends its process; the page can only be executed at its entries",
        how: program(
            "other_abi",
            &[&["sysenter", "SECRET"], &["far_jump", "SECRET"], &["vsyscall", "SECRET"]],
            Ends::BySignal,
        ),
    },
    Attack {
        name: "host_files",
        tries: "raw `openat` of the host's secrets, with every flag, by name, from every descriptor up to 1023, climbing with `..`, with empty paths and magic links; where the supervisor works",
        stopped_by: TREE,
        how: How::Special(special::host_files),
    },
    Attack {
        name: "pages_then_files",
        tries: "map over, rewrite, copy, move, unmap and drop the gadget; overwrite thread block, kernel stack, alternate stack, handler, heap, file table, trampolines; then open the host's files",
        stopped_by: TREE,
        how: How::Program { name: "pages", options: &[], runs: PAGES_FILES, ends: Ends::HeldOrReported },
    },
    Attack {
        name: "pages_then_execve",
        tries: "the same damage, then execute a program of the host",
        stopped_by: GADGET,
        how: How::Special(special::pages_then_execve),
    },
    Attack {
        name: "forged_frames",
        tries: "`rt_sigreturn` with forged frames: kernel addresses and segments, I/O privilege, 32-bit mode",
        stopped_by: "the host's checks of frames; the fault ends the process or is reported",
        how: program(
            "frames",
            &[
                &["kernel_address"],
                &["non_canonical"],
                &["kernel_segment"],
                &["ring_0_segment"],
                &["io_privilege"],
                &["compatibility_mode"],
            ],
            Ends::NotBack,
        ),
    },
    Attack {
        name: "blocked_sigsys",
        tries: "block SIGSYS by a forged frame and make a call; a frame that makes an `execve` itself",
        stopped_by: "a trap that is blocked kills (seccomp(2)); strict filter",
        how: program("frames", &[&["blocked_sigsys"], &["gadget_with_execve"]], Ends::ByFilter),
    },
    Attack {
        name: "other_processes",
        tries: "signals, `ptrace`, `process_vm_*`, pidfds, priorities and limits of host processes; `prctl`, `seccomp`, `setns`, `unshare`, namespaces by `clone`; mounts; `mknodat`; sockets; `splice`; opening for writing; `TIOCSTI` and other terminal calls; more than eighty ways in all",
        stopped_by: "strict filter",
        how: How::Special(special::other_processes),
    },
    Attack {
        name: "processes_by_allowed_calls",
        tries: "`tgkill` and `sched_setaffinity` of host processes",
        stopped_by: "pid namespace; without, Landlock's scope of signals, and the filter: affinity is the calling thread's only",
        how: How::Special(special::processes_by_allowed_calls),
    },
    Attack {
        name: "tree",
        tries: "hard links, `..` from moved and removed directories, mounts over and away, namespaces and `chroot`, device nodes, guessed file handles (shocker)",
        stopped_by: "our kernel, and behind it the mount namespace (`nodev`, `nosuid`) and the filter",
        how: How::Program {
            name: "tree",
            options: &["--bind", "."],
            runs: &[
                &["hard_links", "SECRET"],
                &["dots", "SECRET"],
                &["mounts", "SECRET"],
                &["namespaces", "SECRET"],
                &["devices", "SECRET"],
                &["handles", "SECRET"],
            ],
            ends: Ends::Held,
        },
    },
    Attack {
        name: "symlink_race",
        tries: "a name in a bound directory that turns from a file into a link and back while another process opens it",
        stopped_by: TREE,
        how: How::Program {
            name: "tree",
            options: &["--bind", "."],
            runs: &[&["symlinks", "SECRET"]],
            ends: Ends::Held,
        },
    },
    Attack {
        name: "changes_outside",
        tries: "write, make, remove, move and link in and out of what was granted for writing, and change modes, owners, times and attributes of files that were not: by name, by descriptor, climbing, through links",
        stopped_by: "mount namespace; without, Landlock, and for attributes the strict filter: the supervisor makes such a change only where writing was granted",
        how: How::Special(special::outside),
    },
    Attack {
        name: "setuid_files",
        tries: "leave a setuid or setgid file in a bound directory, for an accomplice on the host to run",
        stopped_by: "our kernel refuses these bits on the host's files, and the filter calls that set them",
        how: How::Special(special::setuid_files),
    },
    Attack {
        name: "own_program",
        tries: "overwrite the runtime through `/proc/self/exe` (the mechanism of CVE-2019-5736)",
        stopped_by: "the launcher's program is neither mapped nor open inside, and its file not in the tree",
        how: program("tree", &[&["own_program", "SECRET"]], Ends::Held),
    },
    Attack {
        name: "left_over_directories",
        tries: "a working directory or descriptor that the runtime left open (the mechanism of CVE-2024-21626)",
        stopped_by: "all descriptors are closed but those handed over; the working directory is inside the tree",
        how: program("tree", &[&["left_over", "SECRET"]], Ends::Held),
    },
    Attack {
        name: "release_agent",
        tries: "`release_agent`, `core_pattern`, `modprobe`, `uevent_helper`, `binfmt_misc`",
        stopped_by: "no host `/proc`, `/sys` or cgroup file system inside; what is written goes to our kernel",
        how: How::Special(special::release_agent),
    },
    Attack {
        name: "read_only_files",
        tries: "write to a file that is only readable: through a pipe (the mechanism of CVE-2022-0847), shared mappings, `/proc/self/mem`, raw host writes",
        stopped_by: "the strict filter has no `splice`; host files are open for reading only, on read-only mounts",
        how: program("read_only", &[&["/etc/hostname"], &["/usr/bin/env"]], Ends::Held),
    },
    Attack {
        name: "control_garbage",
        tries: "messages to the supervisor that are garbage, empty, too long, lie about lengths, or are no UTF-8",
        stopped_by: "the supervisor decodes with bounds, and ends the sandbox",
        how: program(
            "control",
            &[
                &["garbage"],
                &["empty"],
                &["too_long"],
                &["length_that_lies"],
                &["not_utf8"],
                &["closed_and_on"],
            ],
            Ends::NotBack,
        ),
    },
    Attack {
        name: "control_descriptors",
        tries: "send descriptors to the supervisor (`SCM_RIGHTS`), or messages to another address",
        stopped_by: "strict filter: no `sendmsg`, no address; the supervisor takes no descriptors",
        how: program("control", &[&["descriptors"], &["to_an_address"]], Ends::ByFilter),
    },
    Attack {
        name: "control_text",
        tries: "terminal escape sequences, forged lines and reversed text in reports",
        stopped_by: "the supervisor shows text on one line, without control characters",
        how: How::Special(special::control_text),
    },
    Attack {
        name: "control_flood",
        tries: "a flood of messages; an announced end that does not come; messages stolen from the warden",
        stopped_by: "the supervisor keeps one message at a time, and kills after its patience ends",
        how: How::Special(special::control_flood),
    },
    Attack {
        name: "terminal",
        tries: "push input into the caller's terminal (`TIOCSTI`), as it is handed on and with `--tty`",
        stopped_by: "our kernel refuses it, the filter ends the sandbox; with `--tty` no descriptor of it is inside",
        how: How::Special(outside::terminal),
    },
    Attack {
        name: "environment_and_memory",
        tries: "read the caller's environment and what the launcher had in memory",
        stopped_by: "cleared environment; the launcher's memory is unmapped before the program runs",
        how: How::Special(outside::environment_and_memory),
    },
    Attack {
        name: "kernel_pointers",
        tries: "learn kernel addresses from `/proc`, `/sys` and the kernel log",
        stopped_by: OWN_KERNEL,
        how: How::Special(outside::kernel_pointers),
    },
    Attack {
        name: "other_sandboxes",
        tries: "find another sandbox's files, shared memory, message queues, sockets and processes",
        stopped_by: "namespaces; each sandbox has a kernel of its own, and no host object to share",
        how: How::Special(outside::other_sandboxes),
    },
    Attack {
        name: "set_up",
        tries: "find a capability, a group, a way to new privileges, a host descriptor or a shared namespace that the set-up forgot",
        stopped_by: "each is looked for from outside in the host's `/proc`",
        how: How::Special(outside::set_up),
    },
    Attack {
        name: "floods",
        tries: "more processes, memory, disk, inodes and pipes than allowed; endless log lines",
        stopped_by: "limits of our kernel",
        how: How::Special(floods::counted),
    },
    Attack {
        name: "raw_floods",
        tries: "the same by raw host calls, which our kernel does not count: processes, descriptors, memory",
        stopped_by: "`RLIMIT_NPROC` in the user namespace (without, the caller's own), `RLIMIT_NOFILE`, a cgroup for `--memory` where one can be made",
        how: How::Special(floods::raw),
    },
    Attack {
        name: "left_over_processes",
        tries: "host processes that our kernel does not know, some of which make another and end all the time, while the program, the warden or the supervisor ends or is killed",
        stopped_by: "pid namespace; without, the process group, which the supervisor ends as a whole, or the guard if that was killed",
        how: How::Special(outside::left_over_processes),
    },
    Attack {
        name: "output_flood",
        tries: "endless output, while the caller wants it to end",
        stopped_by: "the supervisor does not touch the output, and ends the sandbox at once",
        how: How::Special(floods::output),
    },
];

/// Every damage of `pages`, and then the files.
const PAGES_FILES: &[&[&str]] = &[
    &["gadget_mapped_over", "files", "SECRET"],
    &["gadget_rewritten", "files", "SECRET"],
    &["gadget_aliased", "files", "SECRET"],
    &["gadget_moved", "files", "SECRET"],
    &["gadget_unmapped", "files", "SECRET"],
    &["gadget_dropped", "files", "SECRET"],
    &["thread_block", "files", "SECRET"],
    &["kernel_stack", "files", "SECRET"],
    &["alternate_stack", "files", "SECRET"],
    &["handler", "files", "SECRET"],
    &["heap", "files", "SECRET"],
    &["file_table", "files", "SECRET"],
    &["trampolines", "files", "SECRET"],
];

/// The names of the damages.
pub fn damages() -> impl Iterator<Item = &'static str> {
    PAGES_FILES.iter().filter_map(|arguments| arguments.first().copied())
}
