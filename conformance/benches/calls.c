/* Costs of calls, in nanoseconds: `calls [-q] DIRECTORY [NAME ...]` prints a line each, "NAME NANOSECONDS". DIRECTORY lies on
 * the filesystem to be measured. Each figure is the least of ROUNDS rounds (a few with -q) of at least ROUND nanoseconds, short
 * enough that some are not interrupted. What only a first time shows (stat_cold) is the mean of one pass. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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
enum { ROUNDS = 80, ROUND = 1000000, ENTRIES = 10000, CHUNK = 65536 };
static int rounds = ROUNDS;

static char buffer[1 << 20] __attribute__((aligned(4096)));
static char path[4096], directory[4096];
static int file, ends[2], back[2], pair[2], tcp[2], event, epoll;
static void *memory;
static volatile int handled;

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}
#define MUST(expression) do { if ((long)(expression) < 0) die(#expression); } while (0)

static void getppid_(void) { syscall(SYS_getppid); }
static void pread_1(void) { MUST(pread(file, buffer, 1, 0)); }
static void pwrite_1(void) { MUST(pwrite(file, buffer, 1, 0)); }
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
static void tcp_pair(void) { MUST(write(tcp[0], buffer, 1)); MUST(read(tcp[1], buffer, 1)); }
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
static void vfork_true(void) {
    pid_t pid;
    MUST(pid = vfork());
    if (!pid) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
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
    for (int round = 0; round <= rounds;) {
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
/* A round trip of a byte, or the way of a chunk, between two threads over a pair of sockets. */
static int sockets[2];
static void *echo_sockets(void *argument) {
    char byte;
    while (read(sockets[1], &byte, 1) == 1 && byte != 'q')
        if (write(sockets[1], &byte, 1) != 1) break;
    return argument;
}
static void *drain(void *argument) {
    static char chunk[CHUNK];
    ssize_t got;
    while ((got = read(sockets[1], chunk, sizeof chunk)) > 0 && chunk[got - 1] != 'q') {}
    return argument;
}
static void ping_sockets(void) { MUST(write(sockets[0], "p", 1)); MUST(read(sockets[0], buffer, 1)); }
static void push(void) { if (write(sockets[0], buffer, CHUNK) != CHUNK) die("write"); }
static double with_peer(int *of, void *(*peer)(void *), void (*once)(void)) {
    pthread_t id;
    memcpy(sockets, of, sizeof sockets);
    if (pthread_create(&id, NULL, peer, NULL)) die("thread");
    double took = measure(once);
    MUST(write(sockets[0], "q", 1));
    pthread_join(id, NULL);
    return took;
}
static double unix_round(void) { return with_peer(pair, echo_sockets, ping_sockets); }
static double tcp_round(void) { return with_peer(tcp, echo_sockets, ping_sockets); }
static double unix_bandwidth(void) { return with_peer(pair, drain, push); }
static double tcp_bandwidth(void) { return with_peer(tcp, drain, push); }
static int connect_tcp(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (listener < 0 || bind(listener, (void *)&address, length) || listen(listener, 1) ||
        getsockname(listener, (void *)&address, &length) || (tcp[0] = socket(AF_INET, SOCK_STREAM, 0)) < 0 ||
        connect(tcp[0], (void *)&address, length) || (tcp[1] = accept(listener, NULL, NULL)) < 0)
        return -1;
    for (int i = 0; i < 2; i++) setsockopt(tcp[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return close(listener);
}

/* The entries of a directory that nobody has looked at before, one after the other. */
static double stat_cold(void) {
    static const char place[] = "/usr/include/linux";
    DIR *entries = opendir(place);
    struct dirent *entry;
    struct stat s;
    long long took = 0;
    int count = 0;
    if (!entries) die(place);
    while ((entry = readdir(entries))) {
        if (entry->d_name[0] == '.') continue;
        long long start = now();
        MUST(fstatat(dirfd(entries), entry->d_name, &s, AT_SYMLINK_NOFOLLOW));
        took += now() - start;
        count++;
    }
    closedir(entries);
    return (double)took / count;
}
static char many[4200];
static void list(void) {
    DIR *entries = opendir(many);
    int count = 0;
    if (!entries) die(many);
    while (readdir(entries)) count++;
    closedir(entries);
    if (count != ENTRIES + 2) die("entries");
}
static double getdents(void) {
    char name[4300];
    snprintf(many, sizeof many, "%.4000s/many", directory);
    MUST(mkdir(many, 0700));
    for (int i = 0; i < ENTRIES; i++) {
        int fd;
        snprintf(name, sizeof name, "%s/%d", many, i);
        MUST(fd = open(name, O_CREAT | O_WRONLY, 0600));
        close(fd);
    }
    double took = measure(list);
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(name, sizeof name, "%s/%d", many, i);
        unlink(name);
    }
    rmdir(many);
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
    {"stat_usr", stat_usr, 0}, {"stat_missing", stat_missing, 0}, {"stat_cold", 0, stat_cold}, {"getdents", 0, getdents},
    {"pwrite_1", pwrite_1, 0}, {"open+close", open_close, 0}, {"open+close_usr", open_close_usr, 0},
    {"create+unlink", create_unlink, 0}, {"pread_1", pread_1, 0}, {"pread_4k", pread_4k, 0}, {"pwrite_4k", pwrite_4k, 0},
    {"pread_1m", pread_1m, 0}, {"pwrite_1m", pwrite_1m, 0}, {"pipe", pipe_, 0}, {"pipe_4k", pipe_4k, 0}, {"eventfd", eventfd_, 0},
    {"unix_pair", unix_pair, 0}, {"tcp_pair", tcp_pair, 0}, {"unix_round", 0, unix_round}, {"tcp_round", 0, tcp_round},
    {"unix_64k", 0, unix_bandwidth}, {"tcp_64k", 0, tcp_bandwidth},
    {"poll", poll_zero, 0}, {"epoll_wait", epoll_ready, 0}, {"futex_wake", futex_wake, 0},
    {"sigprocmask", sigprocmask_, 0}, {"signal_self", signal_self, 0}, {"mmap+munmap", mmap_munmap, 0}, {"mprotect", mprotect_, 0},
    {"madvise", madvise_, 0}, {"thread", thread, 0}, {"fork", fork_exit, 0}, {"vfork", vfork_true, 0}, {"spawn", spawn_true, 0},
    {"ping_threads", 0, between_threads}, {"ping_processes", 0, between_processes},
};

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "-q")) {
        rounds = 4;
        argc--, argv++;
    }
    if (argc < 2) {
        fprintf(stderr, "usage: calls [-q] DIRECTORY [NAME ...]\n");
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
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) pair[0] = -1;
    if (connect_tcp()) tcp[0] = -1;
    memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    signal(SIGUSR1, handler);
    for (unsigned i = 0; i < sizeof BENCHES / sizeof *BENCHES; i++) {
        int wanted = argc == 2;
        for (int a = 2; a < argc; a++) wanted |= !strcmp(argv[a], BENCHES[i].name);
        if (!wanted || (pair[0] < 0 && !strncmp(BENCHES[i].name, "unix", 4)) || (tcp[0] < 0 && !strncmp(BENCHES[i].name, "tcp", 3)))
            continue;
        printf("%s %.2f\n", BENCHES[i].name, BENCHES[i].once ? measure(BENCHES[i].once) : BENCHES[i].whole());
        fflush(stdout);
    }
    unlink(path);
    return 0;
}
