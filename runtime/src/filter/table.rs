//! The one table of what the strict filter allows: the host call, the checks on its arguments, why it is needed and what
//! brings it in.

use Check::{AtMost, Broker, Control, Equal, Frames, Launched, Masked, NoneOf, Packet};

/// A check of one argument (0 to 5) that BPF can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// It has this value.
    Equal(u32, u64),
    /// It is not larger.
    AtMost(u32, u64),
    /// It has none of these bits.
    NoneOf(u32, u64),
    /// Under this mask, it has this value.
    Masked(u32, u64, u64),
    /// It is the control socket.
    Control(u32),
    /// It is the socket to the broker.
    Broker(u32),
    /// It is the packet socket.
    Packet(u32),
    /// It is the memory file of the page frames.
    Frames(u32),
    /// It is a descriptor that was there when the program started: standard ones, logs, sockets, memory, the warden's event. Those that
    /// are opened later can have a smaller number, but only where nobody listens: they are files of the tree.
    Launched(u32),
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
    /// The sandbox is a container (`trapbox`): its tree on the host is its own, and processes enter it.
    Container,
    /// A standard descriptor is a terminal.
    Terminal,
    /// There is a broker (`--network=broker`, `--network=host`).
    Broker,
    /// The sandbox has taken an interface over (`--network=stack`).
    Stack,
    /// The sandbox has namespaces.
    Namespaces,
    /// As `WritableBind`, and it has namespaces: read-only mounts keep these calls from what is granted for reading. Landlock has no rules
    /// for them. Without namespaces the supervisor makes them ([`crate::attributes`]).
    WritableMount,
    /// It has none (`--allow-missing=userns`): process numbers are the host's.
    Landlock,
    /// The kernel's memory is closed to the program (`--kernel-guard`).
    Guard,
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

const fn container(call: &'static str, checks: &'static [Check], why: &'static str) -> Row {
    Row { call, checks, why, when: When::Container }
}

const fn attribute(call: &'static str, checks: &'static [Check]) -> Row {
    Row { call, checks, why: "attributes of files in a granted host directory", when: When::WritableMount }
}

const fn terminal(command: &'static [Check]) -> Row {
    Row { call: "ioctl", checks: command, why: "the host terminal", when: When::Terminal }
}

const fn stack(call: &'static str, checks: &'static [Check], why: &'static str) -> Row {
    Row { call, checks, why, when: When::Stack }
}

const fn broker(call: &'static str, checks: &'static [Check], why: &'static str) -> Row {
    Row { call, checks, why, when: When::Broker }
}

/// Ways to open that change nothing: `O_CLOEXEC | O_NOFOLLOW | O_PATH | O_DIRECTORY | O_NONBLOCK | O_NOCTTY | O_SYNC`.
const OPEN_TO_READ: u64 = 0o2_000_000 | 0o400_000 | 0o10_000_000 | 0o200_000 | 0o4000 | 0o400 | 0o4_010_000;
/// `O_WRONLY | O_RDWR | O_CREAT | O_EXCL | O_TRUNC | __O_TMPFILE`.
const OPEN_TO_CHANGE: u64 = 0o1 | 0o2 | 0o100 | 0o200 | 0o1000 | 0o20_000_000;
/// All but permissions and the sticky bit: no set-user-ID and set-group-ID bits.
const OTHER_MODE: u64 = !0o1777;
/// All but permissions, the sticky bit and those.
const OTHER_MODE_BITS: u64 = !0o7777;
const SET_IDS: &str = "set-user-ID and set-group-ID bits in the container's tree";
/// All but `AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT`.
const OTHER_AT: u64 = !0x1900;
/// All but `PROT_READ | PROT_WRITE | PROT_EXEC`.
const OTHER_PROT: u64 = !7;
const MAP_FIXED: u64 = 0x10;
/// `MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_POPULATE`.
const MAP_KINDS: u64 = 0x1 | 0x2 | 0x20 | 0x4000 | 0x8000;
/// `MREMAP_MAYMOVE | MREMAP_FIXED`, and `MREMAP_DONTUNMAP`.
const MREMAP_MOVE: u64 = 3;
const MREMAP_DONTUNMAP: u64 = 4;
/// `CLONE_FILES` with SIGCHLD: a child of the warden.
const CLONE_OF_WARDEN: u64 = 0x400 | 17;
/// `CLONE_FILES | CLONE_PARENT`: a program's child is the warden's, too.
const CLONE_PROCESS: u64 = 0x400 | 0x8000;
/// `CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID`.
const CLONE_THREAD: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000 | 0x10_0000 | 0x20_0000;
/// All but `FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME`, of an `int`.
const FUTEX_COMMAND: u64 = 0xffff_ffff & !0x180;
/// wait4(2): `WNOHANG | __WALL`.
const NO_HANG_ALL: u64 = 0x4000_0001;
/// Any child.
const ANY: u64 = u64::MAX;
/// The largest key: that of code which the kernel changes.
const CODE_KEY: u64 = boundary::boot::CODE_KEY as u64;
const MSG_DONTWAIT: u64 = 0x40;
/// All but `MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE`: above all no `MSG_FASTOPEN`.
const OTHER_SEND: u64 = !0xc041;
/// All but `MSG_OOB | MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT | MSG_WAITALL`.
const OTHER_RECEIVE: u64 = !0x163;
/// All but `MSG_DONTWAIT | MSG_CMSG_CLOEXEC`.
const OTHER_RECVMSG: u64 = !0x4000_0040;
/// All but `S_IFIFO` and permission bits: no device can be made, and no directory is.
const OTHER_THAN_FIFO: u64 = !0o1_1777;
/// All but `S_IFSOCK` and permission bits: of its bits no device can be made either.
const OTHER_THAN_SOCKET: u64 = !0o14_1777;

/// Every row.
pub const ROWS: &[Row] = &[
    row("read", &[Launched(0)], "standard input, the warden's event"),
    row("write", &[Launched(0)], "standard output and error, log lines, the warden's event"),
    row("pread64", &[], "reads of host files"),
    row("openat", &[NoneOf(2, !OPEN_TO_READ)], "opening granted files, for reading"),
    row("close", &[], "closing host files"),
    row("newfstatat", &[NoneOf(3, OTHER_AT)], "attributes of host files"),
    row("statx", &[NoneOf(2, OTHER_AT)], "attributes of host files"),
    row("fstatfs", &[], "statfs(2) on host directories"),
    row("readlinkat", &[], "host symbolic links"),
    row("getdents64", &[], "listing host directories"),
    row("lseek", &[], "listing host directories, holes in host files"),
    row(
        "fallocate",
        &[Frames(0), Equal(1, 3)],
        "giving page frames back (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)",
    ),
    row(
        "mmap",
        &[NoneOf(2, OTHER_PROT), Masked(3, !MAP_KINDS, MAP_FIXED)],
        "the program's memory, where the kernel says",
    ),
    row("munmap", &[], "the program's memory"),
    row("mprotect", &[NoneOf(2, OTHER_PROT)], "the program's memory"),
    row("mremap", &[Equal(3, 0)], "the program's memory, grown in place"),
    row("mremap", &[Masked(3, !MREMAP_DONTUNMAP, MREMAP_MOVE)], "the program's memory, moved"),
    // Not MADV_MERGEABLE: that memory is the same in two sandboxes shows in the time that writing to it takes.
    row("madvise", &[AtMost(2, 11)], "MADV_NORMAL to MADV_DOFORK"),
    row("madvise", &[Masked(2, !1, 14)], "MADV_HUGEPAGE, MADV_NOHUGEPAGE"),
    row("madvise", &[Masked(2, !3, 16)], "MADV_DONTDUMP to MADV_KEEPONFORK"),
    row("madvise", &[Masked(2, !3, 20)], "MADV_COLD to MADV_POPULATE_WRITE"),
    row("madvise", &[Masked(2, !1, 24)], "MADV_DONTNEED_LOCKED, MADV_COLLAPSE"),
    row("madvise", &[Masked(2, !1, 102)], "MADV_GUARD_INSTALL, MADV_GUARD_REMOVE"),
    row("mincore", &[], "mincore(2)"),
    row("msync", &[NoneOf(2, !7)], "msync(2)"),
    row("mlock", &[], "mlock(2)"),
    row("munlock", &[], "mlock(2)"),
    row("membarrier", &[NoneOf(1, !1)], "membarrier(2)"),
    // Priority inheritance is our kernel's own: the host's has had more than its share of holes.
    row(
        "futex",
        &[Masked(1, FUTEX_COMMAND & !1, 0)],
        "FUTEX_WAIT, FUTEX_WAKE: the kernel's locks and sleeps",
    ),
    row("futex", &[Masked(1, FUTEX_COMMAND, 9)], "FUTEX_WAIT_BITSET: sleeps with a deadline"),
    row("futex", &[Masked(1, FUTEX_COMMAND, 10)], "FUTEX_WAKE_BITSET: the program's futexes"),
    row("futex", &[Masked(1, FUTEX_COMMAND, 3)], "FUTEX_REQUEUE: the program's futexes"),
    row(
        "futex",
        &[Masked(1, FUTEX_COMMAND & !1, 4)],
        "FUTEX_CMP_REQUEUE, FUTEX_WAKE_OP: the program's futexes",
    ),
    // Made by the host's kernel in place of the call, with the arguments that were checked then; there is none of its own to make.
    row("restart_syscall", &[], "sleeps with a deadline that were stopped: SIGSTOP, a freezer, suspend"),
    row("futex_waitv", &[Equal(2, 0)], "futex_waitv(2)"),
    row("clone", &[Equal(0, CLONE_PROCESS)], "processes"),
    row("clone", &[Equal(0, CLONE_OF_WARDEN)], "fresh address spaces for new programs"),
    row("clone", &[Equal(0, CLONE_THREAD)], "threads"),
    row("exit", &[], "the end of threads"),
    row("exit_group", &[], "the end of processes"),
    row("wait4", &[Equal(0, ANY), Equal(2, NO_HANG_ALL), Equal(3, 0)], "the warden reaps"),
    row("tgkill", &[Equal(2, 63)], "poking a thread, with this one signal"),
    row("getpid", &[], "a new process learns its number"),
    row("gettid", &[], "a new thread learns its number"),
    row("rt_sigreturn", &[], "the return from the host's signal handler"),
    row("sigaltstack", &[Equal(1, 0)], "a new thread's kernel stack"),
    row("arch_prctl", &[Equal(0, 0x1001)], "GS, where user mode cannot set it"),
    row("arch_prctl", &[Equal(0, 0x1002)], "FS, where user mode cannot set it"),
    row("arch_prctl", &[Equal(0, 0x1003)], "FS, where user mode cannot read it"),
    row("ppoll", &[Equal(3, 0)], "readiness of host descriptors"),
    row("clock_gettime", &[], "clocks"),
    row("clock_getres", &[], "clocks"),
    row("getrusage", &[], "processor time"),
    row("getrandom", &[Equal(2, 0)], "random bytes"),
    row("sched_yield", &[], "sched_yield(2)"),
    Row { call: "sched_getaffinity", checks: &[], why: "sched_getaffinity(2)", when: When::Namespaces },
    Row { call: "sched_setaffinity", checks: &[], why: "sched_setaffinity(2)", when: When::Namespaces },
    Row {
        call: "sched_getaffinity",
        checks: &[Equal(0, 0)],
        why: "of the calling thread",
        when: When::Landlock,
    },
    Row {
        call: "sched_setaffinity",
        checks: &[Equal(0, 0)],
        why: "of the calling thread",
        when: When::Landlock,
    },
    row("sendto", &[Control(0), Equal(3, 0x4000), Equal(4, 0)], "messages to the supervisor"),
    row("recvmsg", &[Control(0), NoneOf(2, OTHER_RECVMSG)], "messages from the supervisor"),
    Row { call: "fgetxattr", checks: &[], why: "extended attributes of granted files", when: When::Granted },
    Row { call: "flistxattr", checks: &[], why: "extended attributes of granted files", when: When::Granted },
    bind("openat", &[NoneOf(2, !(OPEN_TO_READ | OPEN_TO_CHANGE)), NoneOf(3, OTHER_MODE)]),
    bind("pwrite64", &[]),
    bind("ftruncate", &[]),
    bind("fallocate", &[]),
    bind("fsync", &[]),
    bind("fdatasync", &[]),
    bind("mkdirat", &[NoneOf(2, OTHER_MODE)]),
    bind("unlinkat", &[NoneOf(2, !0x200)]),
    // Not RENAME_WHITEOUT, which makes a device.
    bind("renameat2", &[NoneOf(4, !3)]),
    // With AT_EMPTY_PATH, which names a file without a name.
    bind("linkat", &[NoneOf(4, !0x1000)]),
    bind("symlinkat", &[]),
    bind("mknodat", &[NoneOf(2, OTHER_THAN_FIFO)]),
    bind("mknodat", &[NoneOf(2, OTHER_THAN_SOCKET)]),
    attribute("fchmod", &[NoneOf(1, OTHER_MODE)]),
    attribute("fchmodat", &[NoneOf(2, OTHER_MODE)]),
    attribute("fchownat", &[NoneOf(4, OTHER_AT)]),
    attribute("utimensat", &[NoneOf(3, OTHER_AT)]),
    attribute("fsetxattr", &[]),
    attribute("fremovexattr", &[]),
    container("openat", &[NoneOf(2, !(OPEN_TO_READ | OPEN_TO_CHANGE)), NoneOf(3, OTHER_MODE_BITS)], SET_IDS),
    container("mkdirat", &[NoneOf(2, OTHER_MODE_BITS)], SET_IDS),
    container("fchmod", &[NoneOf(1, OTHER_MODE_BITS)], SET_IDS),
    container("fchmodat", &[NoneOf(2, OTHER_MODE_BITS)], SET_IDS),
    container("prctl", &[Equal(0, 15)], "PR_SET_NAME: what ps(1) outside shows"),
    // Their descriptors come while the sandbox runs, among those of files of the tree.
    container("read", &[], "standard input of processes that enter"),
    container("write", &[], "standard output of processes that enter"),
    terminal(&[AtMost(0, 2), Equal(1, 0x5401)]),
    terminal(&[AtMost(0, 2), Equal(1, 0x5402)]),
    terminal(&[AtMost(0, 2), Equal(1, 0x5403)]),
    terminal(&[AtMost(0, 2), Equal(1, 0x5404)]),
    terminal(&[AtMost(0, 2), Equal(1, 0x540b)]),
    terminal(&[AtMost(0, 2), Equal(1, 0x5413)]),
    terminal(&[AtMost(0, 2), Equal(1, 0x541b)]),
    Row {
        call: "rt_sigprocmask",
        checks: &[Equal(0, 2), Equal(2, 0), Equal(3, 8)],
        why: "no signal finds a thread that has not taken its kernel stack yet",
        when: When::Guard,
    },
    Row {
        call: "pkey_mprotect",
        checks: &[NoneOf(2, OTHER_PROT), AtMost(3, CODE_KEY)],
        why: "code that is looked through or changed before it is executed",
        when: When::Guard,
    },
    // Without an address a datagram socket sends to whom it is connected. sendmsg(2) would have one where no filter sees it.
    broker("sendto", &[Equal(4, 0), NoneOf(3, OTHER_SEND)], "data to a connected socket"),
    broker("recvfrom", &[Equal(4, 0), NoneOf(3, OTHER_RECEIVE)], "data from a connected socket"),
    broker("recvmsg", &[Broker(0), NoneOf(2, OTHER_RECVMSG)], "connected sockets from the broker"),
    broker("shutdown", &[], "half-closed connections"),
    broker("getsockopt", &[Equal(1, 1), Equal(2, 4)], "SO_ERROR: how connecting went"),
    broker("getsockopt", &[Equal(1, 6), Equal(2, 11)], "TCP_INFO"),
    broker("setsockopt", &[Equal(1, 1), Equal(2, 9)], "SO_KEEPALIVE"),
    broker("setsockopt", &[Equal(1, 1), Equal(2, 10)], "SO_OOBINLINE"),
    broker("setsockopt", &[Equal(1, 1), Equal(2, 13)], "SO_LINGER"),
    broker("setsockopt", &[Equal(1, 6), Equal(2, 1)], "TCP_NODELAY"),
    broker("setsockopt", &[Equal(1, 6), Equal(2, 3)], "TCP_CORK"),
    broker("setsockopt", &[Equal(1, 6), Equal(2, 4)], "TCP_KEEPIDLE"),
    broker("setsockopt", &[Equal(1, 6), Equal(2, 5)], "TCP_KEEPINTVL"),
    broker("setsockopt", &[Equal(1, 6), Equal(2, 6)], "TCP_KEEPCNT"),
    broker("setsockopt", &[Equal(1, 6), Equal(2, 18)], "TCP_USER_TIMEOUT"),
    broker("ioctl", &[Equal(1, 0x541b)], "FIONREAD: bytes that wait"),
    broker("ioctl", &[Equal(1, 0x5411)], "TIOCOUTQ: bytes on their way"),
    broker("ioctl", &[Equal(1, 0x8905)], "SIOCATMARK: whether the next byte is urgent"),
    // Without an address a frame goes to the interface that the socket is bound to. sendmsg(2) and sendmmsg(2) would have one, with
    // another interface in it, where no filter sees it.
    stack("sendto", &[Packet(0), Equal(3, MSG_DONTWAIT), Equal(4, 0)], "frames to the interface"),
    stack("recvmmsg", &[Packet(0), Equal(3, MSG_DONTWAIT), Equal(4, 0)], "frames from the interface"),
];
