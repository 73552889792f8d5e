/* Costs of calls, in nanoseconds: `calls DIRECTORY [NAME ...]` prints a line each, "NAME NANOSECONDS". DIRECTORY lies on the
 * filesystem to be measured. Each figure is the least of ROUNDS rounds of at least ROUND
 * nanoseconds, short enough that some are not interrupted. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
enum { ROUNDS = 80, ROUND = 1000000 };

static char buffer[1 << 20] __attribute__((aligned(4096)));
static char path[4096], directory[4096];
static int file, ends[2], back[2], pair[2], event, epoll;
static void *memory;
static volatile int handled;

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}
#define MUST(expression) do { if ((long)(expression) < 0) die(#expression); } while (0)

static void getppid_(void) { syscall(SYS_getppid); }
static void pread_1(void) { MUST(pread(file, buffer, 1, 0)); }
static void pread_4k(void) { MUST(pread(file, buffer, 4096, 4096)); }
static void pwrite_4k(void) { MUST(pwrite(file, buffer, 4096, 4096)); }
static void pread_1m(void) { MUST(pread(file, buffer, 1 << 20, 0)); }
static void pwrite_1m(void) { MUST(pwrite(file, buffer, 1 << 20, 0)); }
static void pipe_(void) { MUST(write(ends[1], buffer, 1)); MUST(read(ends[0], buffer, 1)); }
static void pipe_4k(void) { MUST(write(ends[1], buffer, 4096)); MUST(read(ends[0], buffer, 4096)); }
static void eventfd_(void) { uint64_t n = 1; MUST(write(event, &n, 8)); MUST(read(event, &n, 8)); }
static void fstat_(void) { struct stat s; MUST(fstat(file, &s)); }
static void stat_(void) { struct stat s; MUST(stat(path, &s)); }
static void stat_usr(void) { struct stat s; MUST(stat("/usr/lib/os-release", &s)); }
static void stat_missing(void) { struct stat s; if (stat("/usr/lib/no-such-file", &s) == 0) exit(1); }
static void open_close(void) { int fd; MUST(fd = open(path, O_RDONLY)); close(fd); }
static void open_close_usr(void) { int fd; MUST(fd = open("/usr/lib/os-release", O_RDONLY)); close(fd); }
static void create_unlink(void) {
    char name[4200];
    int fd;
    snprintf(name, sizeof name, "%s/created", directory);
    MUST(fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600));
    close(fd);
    MUST(unlink(name));
}
static void dup_close(void) { int fd; MUST(fd = dup(file)); close(fd); }
static void fcntl_(void) { MUST(fcntl(file, F_GETFL)); }
static void lseek_(void) { MUST(lseek(file, 0, SEEK_SET)); }
static void unix_pair(void) { MUST(write(pair[0], buffer, 1)); MUST(read(pair[1], buffer, 1)); }
static void futex_wake(void) { static int word; MUST(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0)); }
static void epoll_ready(void) { struct epoll_event e; if (epoll_wait(epoll, &e, 1, 0) != 1) exit(1); }
static void poll_zero(void) { struct pollfd p = {ends[0], POLLIN, 0}; MUST(poll(&p, 1, 0)); }
static void yield(void) { sched_yield(); }
static void mmap_munmap(void) {
    void *p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) die("mmap");
    munmap(p, 65536);
}
static void mprotect_(void) {
    static int flip;
    MUST(mprotect(memory, 4096, (flip ^= 1) ? PROT_READ : PROT_READ | PROT_WRITE));
}
static void madvise_(void) { MUST(madvise(memory, 65536, MADV_DONTNEED)); }
static void clock_vdso(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); }
static void clock_cpu(void) { struct timespec t; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); }
static void sigprocmask_(void) { sigset_t s; MUST(sigprocmask(SIG_BLOCK, NULL, &s)); }
static void signal_self(void) { MUST(kill(getpid(), SIGUSR1)); }

static void reap(pid_t pid) {
    int status;
    MUST(waitpid(pid, &status, 0));
    if (status) exit(1);
}
static void fork_exit(void) {
    pid_t pid;
    MUST(pid = fork());
    if (!pid) _exit(0);
    reap(pid);
}
static void spawn_true(void) {
    char *argv[] = {"true", NULL};
    pid_t pid;
    if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ)) die("spawn");
    reap(pid);
}
static void *nothing(void *argument) { return argument; }
static void thread(void) {
    pthread_t id;
    if (pthread_create(&id, NULL, nothing, NULL)) die("thread");
    pthread_join(id, NULL);
}
static void *echo(void *argument) {
    char byte;
    while (read(ends[0], &byte, 1) == 1 && byte != 'q')
        if (write(back[1], &byte, 1) != 1) break;
    return argument;
}
static void ping(void) { MUST(write(ends[1], "p", 1)); MUST(read(back[0], buffer, 1)); }

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static double measure(void (*once)(void)) {
    double best = 1e18;
    long count = 1;
    for (int round = 0; round <= ROUNDS;) {
        long long start = now();
        for (long i = 0; i < count; i++) once();
        long long took = now() - start;
        if (took < ROUND && count < 1 << 30) {
            count = took < ROUND / 16 ? count * 4 : count * 2;
            continue;
        }
        if (round++ && (double)took / count < best) best = (double)took / count;
    }
    return best;
}

static double between_threads(void) {
    pthread_t id;
    if (pthread_create(&id, NULL, echo, NULL)) die("thread");
    double took = measure(ping);
    MUST(write(ends[1], "q", 1));
    pthread_join(id, NULL);
    return took;
}
static double between_processes(void) {
    pid_t pid;
    MUST(pid = fork());
    if (!pid) {
        echo(NULL);
        _exit(0);
    }
    double took = measure(ping);
    MUST(write(ends[1], "q", 1));
    reap(pid);
    return took;
}
static void handler(int signal) { handled += signal; }

static const struct {
    const char *name;
    void (*once)(void);
    double (*whole)(void);
} BENCHES[] = {
    {"getppid", getppid_, 0}, {"clock_gettime", clock_vdso, 0}, {"clock_thread", clock_cpu, 0}, {"sched_yield", yield, 0},
    {"lseek", lseek_, 0}, {"fcntl", fcntl_, 0}, {"dup+close", dup_close, 0}, {"fstat", fstat_, 0}, {"stat", stat_, 0},
    {"stat_usr", stat_usr, 0}, {"stat_missing", stat_missing, 0}, {"open+close", open_close, 0}, {"open+close_usr", open_close_usr, 0},
    {"create+unlink", create_unlink, 0}, {"pread_1", pread_1, 0}, {"pread_4k", pread_4k, 0}, {"pwrite_4k", pwrite_4k, 0},
    {"pread_1m", pread_1m, 0}, {"pwrite_1m", pwrite_1m, 0}, {"pipe", pipe_, 0}, {"pipe_4k", pipe_4k, 0}, {"eventfd", eventfd_, 0},
    {"unix_pair", unix_pair, 0}, {"poll", poll_zero, 0}, {"epoll_wait", epoll_ready, 0}, {"futex_wake", futex_wake, 0},
    {"sigprocmask", sigprocmask_, 0}, {"signal_self", signal_self, 0}, {"mmap+munmap", mmap_munmap, 0}, {"mprotect", mprotect_, 0},
    {"madvise", madvise_, 0}, {"thread", thread, 0}, {"fork", fork_exit, 0}, {"spawn", spawn_true, 0},
    {"ping_threads", 0, between_threads}, {"ping_processes", 0, between_processes},
};

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: calls DIRECTORY [NAME ...]\n");
        return 2;
    }
    snprintf(directory, sizeof directory, "%s", argv[1]);
    snprintf(path, sizeof path, "%.4000s/bench-file", directory);
    MUST(file = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600));
    MUST(write(file, buffer, sizeof buffer));
    MUST(pipe(ends));
    MUST(pipe(back));
    MUST(event = eventfd(0, 0));
    MUST(epoll = epoll_create1(0));
    int ready;
    MUST(ready = eventfd(1, 0));
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, ready, &(struct epoll_event){.events = EPOLLIN}));
    int sockets = socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    signal(SIGUSR1, handler);
    for (unsigned i = 0; i < sizeof BENCHES / sizeof *BENCHES; i++) {
        int wanted = argc == 2;
        for (int a = 2; a < argc; a++) wanted |= !strcmp(argv[a], BENCHES[i].name);
        if (!wanted || (sockets < 0 && BENCHES[i].once == unix_pair)) continue;
        printf("%s %.2f\n", BENCHES[i].name, BENCHES[i].once ? measure(BENCHES[i].once) : BENCHES[i].whole());
        fflush(stdout);
    }
    unlink(path);
    return 0;
}
