//! The one table of what the strict filter allows: the host call, the checks on its arguments, why it is needed and what
//! brings it in.

use Check::{Equal, NoneOf};

/// A check of one argument that BPF can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Argument (0 to 5) has this value.
    Equal(u32, u64),
    /// Argument has none of these bits.
    NoneOf(u32, u64),
}

/// When a row applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In every sandbox.
    Always,
    /// The command line grants something of the host (`--ro-bind`, `--bind`, `--overlay`).
    Granted,
    /// A host directory is granted for writing (`--bind`, `--overlay` with an upper).
    WritableBind,
    /// A standard descriptor is a terminal.
    Terminal,
}

/// One row: a call is allowed if one of its rows' checks all hold.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Name, as in syscalls(2).
    pub call: &'static str,
    /// What its arguments must be.
    pub checks: &'static [Check],
    /// Why the kernel needs it.
    pub why: &'static str,
    /// What brings it in.
    pub when: When,
}

const fn row(call: &'static str, checks: &'static [Check], why: &'static str) -> Row {
    Row { call, checks, why, when: When::Always }
}

const fn bind(call: &'static str, checks: &'static [Check]) -> Row {
    Row { call, checks, why: "changes to a granted host directory", when: When::WritableBind }
}

const fn terminal(command: &'static [Check]) -> Row {
    Row { call: "ioctl", checks: command, why: "the host terminal", when: When::Terminal }
}

/// Stands for the control socket's number in a check; replaced when the filter is made.
pub const CONTROL_FD: u64 = 0xffff_0001;

const NEW_NAMESPACES: u64 = 0x7e02_0080;
/// `O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | __O_TMPFILE`.
const OPEN_TO_CHANGE: u64 = 0o1 | 0o2 | 0o100 | 0o1000 | 0o20_000_000;
/// All but `PROT_READ | PROT_WRITE | PROT_EXEC`.
const OTHER_PROT: u64 = !7;
/// All but `PROT_READ | PROT_WRITE | PROT_EXEC | PROT_GROWSDOWN`.
const OTHER_MPROTECT: u64 = !0x0100_0007;
/// All but `S_IFIFO` and permission bits: no device can be made, and no directory is.
const OTHER_THAN_FIFO: u64 = !0o1_7777;
/// All but `S_IFSOCK` and permission bits: of its bits no device can be made either.
const OTHER_THAN_SOCKET: u64 = !0o14_7777;
/// `MAP_HUGETLB`.
const MAP_HUGETLB: u64 = 0x4_0000;

/// Every row.
pub const ROWS: &[Row] = &[
    row("read", &[], "standard input, the warden's event"),
    row("write", &[], "standard output and error, log lines, the warden's event"),
    row("pread64", &[], "reads of host files"),
    row("openat", &[NoneOf(2, OPEN_TO_CHANGE)], "opening granted files, for reading"),
    row("close", &[], "closing host files"),
    row("newfstatat", &[], "attributes of host files"),
    row("statx", &[], "attributes of host files"),
    row("fstatfs", &[], "statfs(2) on host directories"),
    row("readlinkat", &[], "host symbolic links"),
    row("getdents64", &[], "listing host directories"),
    row("lseek", &[], "listing host directories, holes in host files"),
    row("fallocate", &[Equal(1, 3)], "giving page frames back (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)"),
    row("mmap", &[NoneOf(2, OTHER_PROT), NoneOf(3, MAP_HUGETLB)], "the program's memory"),
    row("munmap", &[], "the program's memory"),
    row("mprotect", &[NoneOf(2, OTHER_MPROTECT)], "the program's memory"),
    row("mremap", &[], "the program's memory"),
    row("madvise", &[], "the program's memory"),
    row("mincore", &[], "mincore(2)"),
    row("msync", &[], "msync(2)"),
    row("mlock", &[], "mlock(2)"),
    row("munlock", &[], "mlock(2)"),
    row("membarrier", &[], "membarrier(2)"),
    row("futex", &[], "the kernel's locks and sleeps, the program's futexes"),
    row("futex_waitv", &[Equal(2, 0)], "futex_waitv(2)"),
    row("clone", &[NoneOf(0, NEW_NAMESPACES)], "threads and processes, in no new namespace"),
    row("exit", &[], "the end of threads"),
    row("exit_group", &[], "the end of processes"),
    row("wait4", &[], "the warden reaps"),
    row("tgkill", &[Equal(2, 63)], "poking a thread, with this one signal"),
    row("getpid", &[], "a new process learns its number"),
    row("gettid", &[], "a new thread learns its number"),
    row("rt_sigreturn", &[], "the return from the host's signal handler"),
    row("sigaltstack", &[], "a new thread's kernel stack"),
    row("arch_prctl", &[Equal(0, 0x1001)], "GS, where user mode cannot set it"),
    row("arch_prctl", &[Equal(0, 0x1002)], "FS, where user mode cannot set it"),
    row("arch_prctl", &[Equal(0, 0x1003)], "FS, where user mode cannot read it"),
    row("ppoll", &[], "readiness of host descriptors"),
    row("clock_gettime", &[], "clocks"),
    row("clock_getres", &[], "clocks"),
    row("getrusage", &[], "processor time"),
    row("getrandom", &[], "random bytes"),
    row("sched_yield", &[], "sched_yield(2)"),
    row("sched_getaffinity", &[], "sched_getaffinity(2)"),
    row("sched_setaffinity", &[], "sched_setaffinity(2)"),
    row("sendto", &[Equal(0, CONTROL_FD), Equal(4, 0)], "messages to the supervisor"),
    row("recvfrom", &[Equal(0, CONTROL_FD), Equal(4, 0)], "messages from the supervisor"),
    Row { call: "fgetxattr", checks: &[], why: "extended attributes of granted files", when: When::Granted },
    Row { call: "flistxattr", checks: &[], why: "extended attributes of granted files", when: When::Granted },
    bind("openat", &[]),
    bind("pwrite64", &[]),
    bind("ftruncate", &[]),
    bind("fallocate", &[]),
    bind("fsync", &[]),
    bind("fdatasync", &[]),
    bind("mkdirat", &[]),
    bind("unlinkat", &[]),
    bind("renameat2", &[]),
    bind("linkat", &[]),
    bind("symlinkat", &[]),
    bind("mknodat", &[NoneOf(2, OTHER_THAN_FIFO)]),
    bind("mknodat", &[NoneOf(2, OTHER_THAN_SOCKET)]),
    bind("fchmod", &[]),
    bind("fchmodat", &[]),
    bind("fchownat", &[]),
    bind("utimensat", &[]),
    bind("fsetxattr", &[]),
    bind("fremovexattr", &[]),
    terminal(&[Equal(1, 0x5401)]),
    terminal(&[Equal(1, 0x5402)]),
    terminal(&[Equal(1, 0x5403)]),
    terminal(&[Equal(1, 0x5404)]),
    terminal(&[Equal(1, 0x540b)]),
    terminal(&[Equal(1, 0x5413)]),
    terminal(&[Equal(1, 0x541b)]),
];
