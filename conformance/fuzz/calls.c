/* calls SEED SECONDS [COUNT]: COUNT random system calls with plausible arguments in each of several processes. What they do is of no interest; the
 * kernel must survive it. Each process says nothing; the first ends with status 0. The same seed makes the same calls, as far as
 * processes do not meet. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PROCESSES = 4, LIFES = 100000, AREA = 1 << 20 };

static uint64_t state;
static char *area;

static uint64_t next(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

static uint64_t below(uint64_t most) { return next() % most; }

static const char *const paths[] = {
    "f", "d", "d/e", "d/../f", "link", "/tmp/x", "/dev/shm/y", "/proc/self/status", "/proc/self/fd/3", "/proc/self/mem", "/proc/1/maps",
    "/dev/null", "/dev/zero", "/dev/tty", "/dev/ptmx", "/dev/pts/0", "/etc/passwd", "/usr/bin", "/", ".", "..", "", "/sys/class", "/proc",
    "/proc/self/task", "/dev/full", "/proc/self/oom_score_adj", "/proc/sys/kernel/hostname", "sock", "pipe", "/proc/self/exe", "/tmp",
    "////tmp//./x", "d/", "f/", "\xff\xfe", "/proc/self/ns/user", "/dev/urandom", "/proc/self/environ", "/dev/mqueue/q", "/q",
};

static uint64_t edge(void) {
    static const uint64_t values[] = { 0, 1, 2, 3, 7, 8, 16, 63, 64, 255, 256, 4095, 4096, 4097, 65535, 65536, 1 << 20, 0x7fffffff, 0x80000000,
        0xffffffff, 1ull << 32, 1ull << 40, 0x7fffffffffff, 0x7ffffffff000, 1ull << 63, ~0ull, ~0ull - 1, ~0ull - 99, ~0ull - 4095,
        0xffffffffff600000, 0xffff800000000000 };
    return values[below(sizeof values / sizeof *values)];
}

static uint64_t pointer(void) {
    switch (below(12)) {
    case 0: return 0;
    case 1: return edge();
    case 2: return (uint64_t)area + AREA - below(64);          /* ends in the middle */
    case 3: return (uint64_t)area + AREA + 4096 + below(64);   /* nothing */
    case 4: return (uint64_t)area + AREA + 8192;               /* read-only */
    default: return ((uint64_t)area + below(AREA - 8192)) & ~(next() & 7);
    }
}

static uint64_t argument(void) {
    switch (below(10)) {
    case 0: case 1: return below(24);                          /* a descriptor */
    case 2: return edge();
    case 3: return next() & next() & next() & 0xffffffff;      /* few flags */
    case 4: return 1ull << below(33);
    case 5: return (uint64_t)paths[below(sizeof paths / sizeof *paths)];
    case 6: return below(8192);
    case 7: return (uint64_t)-100;                             /* AT_FDCWD */
    default: return pointer();
    }
}

/* Fills structures with what calls may look for. */
static void scribble(void) {
    char *at = area + (below(AREA - 8192) & ~7ul);
    switch (below(7)) {
    case 0: for (int i = 0; i < 16; i++) ((uint64_t *)at)[i] = argument(); break;
    case 1: for (int i = 0; i < 32; i++) ((uint32_t *)at)[i] = below(100); break;
    case 2: strcpy(at, paths[below(sizeof paths / sizeof *paths)]); break;
    case 3: ((struct sockaddr_un *)at)->sun_family = below(20); strcpy(at + 2, "sock"); break;
    case 4: for (int i = 0; i < 8; i++) { ((uint64_t *)at)[2 * i] = pointer(); ((uint64_t *)at)[2 * i + 1] = below(10000); } break;
    case 5: ((struct timespec *)at)->tv_sec = 0; ((struct timespec *)at)->tv_nsec = below(1000000); break;
    default: for (int i = 0; i < 64; i++) at[i] = next(); break;
    }
}

/* Calls by which a process ends, stops or loses itself: they would only shorten the run. */
static int left_out(long number) {
    switch (number) {
    case SYS_exit: case SYS_exit_group: case SYS_rt_sigreturn: case SYS_pause: case SYS_rt_sigsuspend: case SYS_vfork: case SYS_fork:
    case SYS_clone: case SYS_clone3: case SYS_kill: case SYS_tkill: case SYS_tgkill: case SYS_rt_sigqueueinfo: case SYS_rt_tgsigqueueinfo:
    case SYS_execve: case SYS_execveat: case SYS_arch_prctl: case SYS_ptrace: case SYS_munmap: case SYS_seccomp: case SYS_uselib:
    case SYS_pidfd_send_signal: case SYS_reboot: case SYS_rt_sigtimedwait: case SYS_brk: case SYS_mremap: case SYS_shmat:
    case SYS_rseq: case SYS_setrlimit: case SYS_prlimit64: case SYS_vhangup: case SYS_sigaltstack: case SYS_set_robust_list: case SYS_rt_sigaction:
    case SYS_rt_sigprocmask: case SYS_alarm: case SYS_setitimer: case SYS_timer_create: case SYS_prctl:
        return 1;
    }
    return 0;
}

static void one_call(void) {
    long number = below(470);
    if (left_out(number)) {
        /* Some of them in a form that does no harm. */
        pid_t child;
        switch (below(8)) {
        case 0: if ((child = fork()) == 0) _exit(0); else if (child > 0) waitpid(child, NULL, 0); break;
        case 1: if ((child = vfork()) == 0) _exit(0); break;
        case 2: kill(getpid(), SIGUSR1); break;
        case 3: {
            void *here = mmap(area + AREA + 65536 + below(16) * 4096, below(8) * 4096, below(8), below(64), below(24), below(8) * 4096);
            (void)here;
            break;
        }
        case 4: syscall(SYS_mremap, area + AREA + 65536 + below(16) * 4096, below(5) * 4096, below(9) * 4096, below(8), area + AREA + (1 << 18)); break;
        case 5: syscall(SYS_prctl, below(70), argument(), argument(), argument(), argument()); break;
        case 6: munmap(area + AREA + 65536 + below(16) * 4096, below(4) * 4096); break;
        /* No PTRACE_ATTACH: it stops the others. Rarely: whoever says PTRACE_TRACEME is ended at its next signal. */
        case 7: if (below(200) == 0) syscall(SYS_ptrace, below(16), below(10), argument(), argument()); break;
        }
        return;
    }
    uint64_t a[6];
    for (int i = 0; i < 6; i++) a[i] = argument();
    /* The area's own pages stay. */
    if (number == SYS_mmap || number == SYS_mprotect || number == SYS_madvise || number == 462 /* mseal */ || number == SYS_remap_file_pages ||
        number == SYS_pkey_mprotect)
        a[0] = (uint64_t)area + AREA + 65536 + below(16) * 4096;
    if ((number == SYS_mmap || number == SYS_mprotect || number == SYS_madvise || number == 462 || number == SYS_remap_file_pages ||
         number == SYS_pkey_mprotect || number == SYS_shmdt) && a[1] > 1 << 16) a[1] = 1 << 16;
    if (number == SYS_close || number == SYS_close_range || number == SYS_dup2 || number == SYS_dup3)
        a[0] = 3 + below(20), a[1] = number == SYS_close_range ? a[0] + below(4) : 3 + below(20);
    syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void nothing(int signal) { (void)signal; }

static void setup(void) {
    area = mmap(NULL, AREA + (1 << 20), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mmap(area, AREA, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    mmap(area + AREA + 8192, 4096, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mkdir("d", 0755), symlink("f", "link"), mkfifo("pipe", 0644);
    int fds[2];
    open("f", O_RDWR | O_CREAT, 0644), open("d", O_DIRECTORY), pipe2(fds, O_NONBLOCK), socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds);
    socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, 0);
    socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
    syscall(SYS_epoll_create1, 0), syscall(SYS_eventfd2, 0, O_NONBLOCK), syscall(SYS_timerfd_create, 1, O_NONBLOCK), syscall(SYS_inotify_init1, O_NONBLOCK);
    syscall(SYS_memfd_create, "m", 0), open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK), open("/proc/self/status", O_RDONLY), open("/dev/zero", O_RDWR);
    struct sigaction action = { .sa_handler = nothing };
    for (int number = 1; number < 65; number++)
        if (number != SIGSEGV && number != SIGBUS && number != SIGILL && number != SIGKILL && number != SIGSTOP) sigaction(number, &action, NULL);
}

/* Runs calls until the time is over; interrupted every few milliseconds, so that none waits for ever. */
static void worker(uint64_t seed, int seconds, long count) {
    state = seed * 0x9e3779b97f4a7c15 + 1;
    if (!state) state = 1;
    setup();
    time_t end = time(NULL) + seconds;
    for (long i = 0; i < count; i++) {
        if (i % 64 == 0) {
            struct timespec now;
            clock_gettime(CLOCK_MONOTONIC, &now);
            if (time(NULL) > end) break;
            /* A call may have changed them. */
            struct { struct timeval interval, value; } timer = { { 0, 20000 }, { 0, 20000 } };
            syscall(SYS_setitimer, 0, &timer, NULL);
            sigset_t none;
            sigemptyset(&none);
            sigprocmask(SIG_SETMASK, &none, NULL);
        }
        scribble();
        one_call();
    }
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    uint64_t seed = strtoull(argv[1], NULL, 0);
    int seconds = atoi(argv[2]);
    long count = argc > 3 ? atol(argv[3]) : 1l << 60;
    /* A worker may end by what it did to itself, or be stuck in what another did to it: there are always some new ones. */
    int workers = 0, started = 0;
    for (time_t end = time(NULL) + seconds; time(NULL) <= end && started < LIFES;) {
        if (workers < PROCESSES) {
            started++, workers++;
            if (fork() == 0) worker(seed * LIFES + started, seconds, count);
        }
        int status;
        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
            if (WIFSTOPPED(status)) kill(pid, SIGKILL);
            else workers--;
        }
        if (workers == PROCESSES) usleep(5000);
    }
    printf("%d workers\n", started);
    return 0;
}
