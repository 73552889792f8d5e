/* Descriptor tables that several use: threads and processes (CLONE_FILES) that close what others are in, and go their own ways again;
 * and others that look at a table while its owner changes it. */
#include "report.h"
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { STACK = 256 * 1024 };
static int ends[2], spare;

/* Waits until another thread of this process (or of the process `pid`) sleeps in a call. */
static void until_asleep(int pid, int tid) {
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
    while (state != 'S') {
        FILE *stat = fopen(path, "r");
        if (!stat || fscanf(stat, "%*d (%*[^)]) %c", &state) != 1) state = 0;
        if (stat) fclose(stat);
        sched_yield();
    }
}

/* Takes the read end away from whoever is in read(2), puts something else there, and writes. */
static void swap_under_reader(int pid, int tid) {
    until_asleep(pid, tid);
    CALL(close(ends[0]));
    CALL(open("/dev/null", O_RDONLY) == ends[0]);
    if (write(ends[1], "late", 4) != 4) puts("not written");
}

static int reader_tid;
static void *closer(void *unused) {
    (void)unused;
    swap_under_reader(getpid(), reader_tid);
    return NULL;
}

static int closing_process(void *unused) {
    (void)unused;
    swap_under_reader(getppid(), reader_tid);
    return dup2(ends[1], spare) != spare;
}

static void read_what_is_closed(const char *who) {
    char text[8] = "";
    printf("%s closes it\n", who);
    CALL(read(ends[0], text, sizeof text - 1));
    printf("read \"%s\"\n", text);
}

static void threads(void) {
    pthread_t thread;
    CALL(pipe(ends));
    reader_tid = gettid();
    pthread_create(&thread, NULL, closer, NULL);
    read_what_is_closed("a thread");
    pthread_join(thread, NULL);
    char byte;
    CALL(read(ends[0], &byte, 1)), CALL(close(ends[0])), CALL(close(ends[0])), CALL(close(ends[1]));
}

static void processes(void) {
    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int status;
    CALL(pipe(ends));
    spare = dup(0), reader_tid = gettid();
    int child = clone(closing_process, stack + STACK, CLONE_FILES | SIGCHLD, NULL);
    read_what_is_closed("a process");
    waitpid(child, &status, 0);
    printf("status %d\n", status);
    /* The table is this one's alone now, with what the other put there. */
    char byte;
    CALL(read(ends[0], &byte, 1)), CALL(write(spare, "x", 1)), CALL(close(ends[0])), CALL(close(spare)), CALL(close(ends[1]));
    munmap(stack, STACK);
}

/* A process with a table of its own again (unshare, close_range, execve) changes nothing for the others. */
static int leaving_process(void *how) {
    long way = (long)how;
    if (way == 0) CALL(unshare(CLONE_FILES));
    if (way == 1) CALL(close_range(900, 1000, CLOSE_RANGE_UNSHARE));
    if (way == 2) return execl("/bin/true", "true", NULL);
    CALL(close(spare));
    return 0;
}

static void leaving(void) {
    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (long way = 0; way < 3; way++) {
        spare = fcntl(0, F_DUPFD_CLOEXEC, 20);
        int child = clone(leaving_process, stack + STACK, CLONE_FILES | SIGCHLD, (void *)way), status;
        waitpid(child, &status, 0);
        CALL(fcntl(spare, F_GETFD)), CALL(close(spare)), CALL(close(spare));
    }
    munmap(stack, STACK);
}

/* What one call does to the file that it is using itself. */
static void by_oneself(void) {
    CALL(pipe(ends));
    CALL(dup2(ends[1], ends[0]) == ends[0]);
    CALL(write(ends[0], "x", 1)) ;
    CALL(close(ends[0])), CALL(close(ends[1]));
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    CALL(epoll_ctl(epoll, EPOLL_CTL_ADD, epoll, &event)), CALL(dup2(epoll, epoll) == epoll), CALL(close(epoll));
}

static volatile int *stop;
static int looked(int pid) {
    char path[64], name[320], target[256];
    int bad = 0, rounds = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    while (!*stop || rounds < 20) {
        DIR *directory = opendir(path);
        if (!directory) return 1;
        for (struct dirent *entry; (entry = readdir(directory));) {
            snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
            if (readlink(name, target, sizeof target) < 0 && errno != ENOENT && errno != EINVAL) bad++;
        }
        closedir(directory);
        rounds++;
    }
    return bad > 0;
}

static void looked_at(void) {
    stop = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int parent = getpid(), status, failed = 0;
    pid_t child = fork();
    if (child == 0) _exit(looked(parent));
    for (int round = 0; round < 3000; round++) {
        int made[40];
        for (int i = 0; i < 40; i++) made[i] = dup(0);
        for (int i = 0; i < 40; i++) failed += made[i] < 0 || lseek(made[i], 0, SEEK_CUR) == -2 || close(made[i]) < 0;
    }
    *stop = 1;
    waitpid(child, &status, 0);
    printf("looked at: %d, failed: %d\n", status, failed);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    threads();
    processes();
    leaving();
    by_oneself();
    looked_at();
}
