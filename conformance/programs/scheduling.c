/* Policies, nice values, who may be asked. */
#include "report.h"
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void show(const char *what) {
    char text[1024];
    int fd = open("/proc/self/stat", O_RDONLY);
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    long priority, nice;
    sscanf(strrchr(text, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %ld %ld", &priority, &nice);
    /* Policy is the 41st field of all, and the 39th behind the name. */
    char *field = strrchr(text, ')') + 1;
    for (int number = 1; number < 39; number++) field = strchr(field + 1, ' ');
    errno = 0;
    printf("%s: nice %d, policy %d, stat %ld %ld %ld\n", what, getpriority(PRIO_PROCESS, 0), sched_getscheduler(0), priority, nice,
           strtol(field, NULL, 10));
}

struct attributes { unsigned size, policy; unsigned long flags; int nice; unsigned priority; unsigned long runtime, deadline, period; };

static void policies(void) {
    struct sched_param none = {0}, high = {.sched_priority = 5};
    show("start");
    CALL(sched_setscheduler(0, SCHED_BATCH, &none));
    show("batch");
    CALL(sched_setscheduler(0, SCHED_IDLE | SCHED_RESET_ON_FORK, &none));
    CALL(sched_getscheduler(0));
    if (fork() == 0) { show("child"); _exit(0); }
    wait(NULL);
    CALL(sched_setscheduler(0, SCHED_OTHER, &none));
    CALL(sched_setscheduler(0, SCHED_OTHER, &high));
    CALL(sched_setscheduler(0, SCHED_FIFO, &none));
    CALL(sched_setscheduler(0, 4, &none));
    CALL(sched_setscheduler(-1, SCHED_OTHER, &none));
    CALL(sched_setscheduler(0, SCHED_OTHER, NULL));
    CALL(sched_getscheduler(-1));
    CALL(sched_getscheduler(99999999));
    CALL(sched_getscheduler(1) >= 0);
    CALL(sched_getparam(0, NULL));
    cpu_set_t set;
    CALL(sched_getaffinity(-1, sizeof set, &set));
    CALL(sched_getaffinity(99999999, sizeof set, &set));
    CALL(sched_getaffinity(0, 3, &set));
    struct attributes attributes = {.size = 48, .policy = SCHED_BATCH, .nice = 3};
    CALL(syscall(SYS_sched_setattr, 0, &attributes, 0));
    memset(&attributes, 0, sizeof attributes);
    CALL(syscall(SYS_sched_getattr, 0, &attributes, 48, 0));
    printf("size %u policy %u flags %lu nice %d\n", attributes.size, attributes.policy, attributes.flags, attributes.nice);
    CALL(syscall(SYS_sched_getattr, 0, &attributes, 47, 0));
    CALL(syscall(SYS_sched_setattr, 0, &attributes, 1));
    show("attributes");
}

static atomic_int tid, told;
static int go[2];

/* Whether a thread has one processor, and which it is. */
static int only(int of, int cpu) {
    cpu_set_t set;
    return sched_getaffinity(of, sizeof set, &set) == 0 && CPU_COUNT(&set) == 1 && CPU_ISSET(cpu, &set);
}

static void *sleeps_then_runs(void *first) {
    char byte;
    tid = gettid();
    if (read(go[0], &byte, 1) != 1) return "no byte";
    if (!only(0, *(int *)first)) return "it was told while it slept, and was not";
    tid = -1;
    while (!told) {}
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0 ? "fine" : "no set";
}

static void *has_it(void *first) { return only(0, *(int *)first) ? "has it" : "has others"; }

/* What one thread asks for another. */
static void affinity_of_others(void) {
    cpu_set_t all, one, none;
    pthread_t thread;
    void *said;
    OK(sched_getaffinity(0, sizeof all, &all));
    int first = 0;
    while (!CPU_ISSET(first, &all)) first++;
    CPU_ZERO(&one);
    CPU_ZERO(&none);
    CPU_SET(first, &one);
    OK(pipe(go));
    pthread_create(&thread, NULL, sleeps_then_runs, &first);
    while (!tid) sched_yield();
    int other = tid;
    CALL(sched_setaffinity(other, sizeof none, &none));
    CALL(sched_setaffinity(other, sizeof one, &one));
    YES(only(other, first));
    YES(!only(0, first) || CPU_COUNT(&all) == 1);
    CALL(write(go[1], "x", 1));
    while (tid != -1) sched_yield();
    CALL(sched_setaffinity(other, sizeof all, &all));
    cpu_set_t now;
    YES(sched_getaffinity(other, sizeof now, &now) == 0 && CPU_EQUAL(&now, &all));
    told = 1;
    pthread_join(thread, &said);
    printf("%s\n", (char *)said);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setaffinity_np(&attributes, sizeof one, &one);
    CALL(pthread_create(&thread, &attributes, has_it, &first));
    pthread_join(thread, &said);
    printf("%s\n", (char *)said);
    /* A child has what its parent has. */
    CALL(sched_setaffinity(0, sizeof one, &one));
    int status;
    pid_t child = fork();
    if (child == 0) _exit(only(0, first) && only(getppid(), first));
    wait(&status);
    printf("child %d\n", WEXITSTATUS(status));
    child = fork();
    if (child == 0) { pause(); _exit(0); }
    CALL(sched_setaffinity(child, sizeof all, &all));
    YES(sched_getaffinity(child, sizeof now, &now) == 0 && CPU_EQUAL(&now, &all));
    kill(child, SIGKILL);
    wait(&status);
    printf("signal %d\n", WTERMSIG(status));
    CALL(sched_setaffinity(0, sizeof all, &all));
}

static void nice_values(void) {
    CALL(setpriority(PRIO_PROCESS, 0, 5));
    show("five");
    errno = 0;
    CALL(nice(3));
    if (fork() == 0) { show("child"); _exit(0); }
    wait(NULL);
    CALL(setpriority(PRIO_PROCESS, 0, 100));
    show("most");
    CALL(setpriority(3, 0, 0));
    CALL(setpriority(PRIO_PROCESS, 99999999, 0));
    errno = 0;
    CALL(getpriority(PRIO_PROCESS, 99999999));
    setpgid(0, 0);
    pid_t child = fork();
    if (child == 0) { pause(); _exit(0); }
    CALL(setpriority(PRIO_PGRP, 0, 19));
    CALL(getpriority(PRIO_PGRP, 0));
    CALL(getpriority(PRIO_PROCESS, child));
    kill(child, SIGKILL);
    wait(NULL);
}

static void directories(void) {
    /* A directory of /proc is as good as a pidfd for one call. */
    pid_t child = fork();
    if (child == 0) { pause(); _exit(0); }
    char path[32];
    snprintf(path, sizeof path, "/proc/%d", child);
    int fd = open(path, O_DIRECTORY);
    CALL(syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0));
    int status;
    waitpid(child, &status, 0);
    printf("ended by %d\n", WTERMSIG(status));
    CALL(syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0));
    close(fd);
    fd = open("/proc", O_DIRECTORY);
    CALL(syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0));
    close(fd);
    /* Descriptors that go while their directory is read hide no others. */
    int pipes[40];
    for (int i = 0; i < 40; i += 2) pipe(pipes + i);
    fd = open("/proc/self/fd", O_DIRECTORY);
    char entries[256];
    ssize_t length;
    int seen = 0;
    while ((length = syscall(SYS_getdents64, fd, entries, sizeof entries)) > 0)
        for (ssize_t at = 0; at < length; at += *(unsigned short *)(entries + at + 16)) {
            int number = atoi(entries + at + 19);
            for (int i = 0; i < 40; i++)
                if (number == pipes[i]) { seen++; close(number); }
        }
    printf("seen and closed: %d\n", seen);
}

/* ioprio_set(2): classes, levels, whose, who inherits. */
static void io_priorities(void) {
    enum { PROCESS = 1, GROUP = 2, USER = 3, RT = 1 << 13, BE = 2 << 13, IDLE = 3 << 13 };
    setpgid(0, 0);
    CALL(syscall(SYS_ioprio_get, PROCESS, 0));
    CALL(syscall(SYS_ioprio_get, GROUP, 0));
    CALL(syscall(SYS_ioprio_set, PROCESS, 0, BE | 3));
    CALL(syscall(SYS_ioprio_get, PROCESS, 0));
    CALL(syscall(SYS_ioprio_get, PROCESS, getpid()));
    CALL(syscall(SYS_ioprio_get, GROUP, getpgrp()));
    if (fork() == 0) {
        CALL(syscall(SYS_ioprio_get, PROCESS, 0));
        CALL(syscall(SYS_ioprio_set, PROCESS, 0, IDLE));
        CALL(syscall(SYS_ioprio_get, PROCESS, 0));
        CALL(syscall(SYS_ioprio_get, GROUP, 0));
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    CALL(syscall(SYS_ioprio_get, GROUP, 0));
    CALL(syscall(SYS_ioprio_set, GROUP, 0, IDLE));
    CALL(syscall(SYS_ioprio_get, PROCESS, 0));
    CALL(syscall(SYS_ioprio_set, PROCESS, 0, 0));
    CALL(syscall(SYS_ioprio_get, PROCESS, 0));
    CALL(syscall(SYS_ioprio_set, PROCESS, 0, 1));
    CALL(syscall(SYS_ioprio_set, PROCESS, 0, 4 << 13));
    CALL(syscall(SYS_ioprio_set, PROCESS, 0, 7 << 13));
    CALL(syscall(SYS_ioprio_set, 0, 0, BE));
    CALL(syscall(SYS_ioprio_set, 4, 0, BE));
    CALL(syscall(SYS_ioprio_get, 0, 0));
    CALL(syscall(SYS_ioprio_get, PROCESS, 99999999));
    CALL(syscall(SYS_ioprio_set, GROUP, 99999999, BE));
    CALL(syscall(SYS_ioprio_set, PROCESS, 99999999, BE));
    CALL(syscall(SYS_ioprio_get, PROCESS, -1));
}

int main(void) {
    directories();
    io_priorities();
    policies();
    affinity_of_others();
    nice_values();
    return 0;
}
