/* What is seen of processes and threads that have ended and that nobody has waited for yet. */
#include "report.h"
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const char *const LINES[] = { "Name", "Umask", "State", "FDSize", "VmSize", "VmRSS", "CoreDumping", "Threads" };

static void status(const char *path)
{
    char line[300]; FILE *file = fopen(path, "r");
    if (!file) { printf("status: %s\n", strerrorname_np(errno)); return; }
    while (fgets(line, sizeof line, file))
        for (unsigned i = 0; i < sizeof LINES / sizeof *LINES; i++)
            if (!strncmp(line, LINES[i], strlen(LINES[i]))) printf("%.*s%s", line[0] == 'V' ? 6 : 40, line, line[0] == 'V' ? "\n" : "");
    fclose(file);
}

static int entries(const char *path)
{
    DIR *directory = opendir(path); int count = 0;
    if (!directory) return -1;
    for (struct dirent *entry; (entry = readdir(directory));) count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

/* What opens, and what reads. */
static void texts_of(const char *directory)
{
    static const char *const names[] = {"auxv", "cmdline", "environ", "io", "maps", "mem", "smaps", "smaps_rollup", "syscall", "wchan", "limits", "mounts", "mountinfo", "mountstats", "cgroup", "stat", "statm", "status", "sched", "schedstat",
        "personality", "oom_score", "oom_score_adj", "oom_adj", "coredump_filter", "timerslack_ns", "comm", "setgroups", "uid_map",
        "loginuid", "sessionid", "net/tcp"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        char path[100], text[4096];
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        int fd = open(path, O_RDONLY);
        ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text);
        printf("%s: open %s, read %s\n", names[i], fd < 0 ? strerrorname_np(errno) : "ok", n < 0 ? strerrorname_np(errno) : n ? "something" : "nothing");
        close(fd);
    }
}

/* Calls that take its id. */
static void named(int pid, int tid)
{
    cpu_set_t processors; struct rlimit limit; struct timespec slice; clockid_t clock; siginfo_t info; struct sched_param none = {0};
    CALL(kill(tid, 0)), CALL(kill(-pid, 0)), CALL(syscall(SYS_tkill, tid, 0)), CALL(syscall(SYS_tgkill, pid, tid, 0));
    CALL(syscall(SYS_tgkill, pid, tid, SIGUSR1)), CALL(syscall(SYS_tkill, tid, SIGUSR1)), CALL(syscall(SYS_tgkill, pid + 1, tid, 0));
    YES(getpgid(tid) == getpgrp()), YES(getsid(tid) == getsid(0)), CALL(setpgid(tid, 0));
    CALL(sched_getscheduler(tid)), CALL(sched_setscheduler(tid, 0, &none)), CALL(sched_rr_get_interval(tid, &slice));
    CALL(sched_getaffinity(tid, sizeof processors, &processors)), CALL(sched_setaffinity(tid, sizeof processors, &processors));
    CALL(getpriority(PRIO_PROCESS, tid)), CALL(setpriority(PRIO_PROCESS, tid, 0)), CALL(prlimit(tid, RLIMIT_NOFILE, NULL, &limit));
    CALL(clock_getcpuclockid(tid, &clock)), OK(syscall(SYS_pidfd_open, tid, 0)), OK(syscall(SYS_pidfd_open, tid, O_EXCL));
    CALL(ptrace(PTRACE_ATTACH, tid, 0, 0)), CALL(ptrace(PTRACE_SEIZE, tid, 0, 0)), CALL(ptrace(PTRACE_INTERRUPT, tid, 0, 0));
    CALL(ptrace(PTRACE_PEEKDATA, tid, 0, 0)), CALL(ptrace(PTRACE_GETSIGINFO, tid, 0, &info)), CALL(ptrace(PTRACE_DETACH, tid, 0, 0));
}

static void show(const char *what, int pid, int tid)
{
    static const char *const texts[] = { "cmdline", "environ", "maps", "comm" };
    static const char *const links[] = { "exe", "cwd", "root" };
    char path[100], text[4096];
    printf("-- %s\n", what);
    snprintf(path, sizeof path, "/proc/%d/status", tid); status(path);
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
    FILE *file = fopen(path, "r");
    if (file) { long size = -1; fscanf(file, "%*d %*s %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %*u %ld", text, &size); printf("stat %c, size %s\n", text[0], size ? "some" : "0"); fclose(file); }
    else printf("stat: %s\n", strerrorname_np(errno));
    snprintf(path, sizeof path, "/proc/%d/task", pid); printf("%d threads\n", entries(path));
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "/proc/%d/task/%d/%s", pid, tid, texts[i]);
        int fd = open(path, O_RDONLY); ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text);
        printf("%s: %s\n", texts[i], size < 0 ? strerrorname_np(errno) : size > 0 ? "something" : "nothing");
        close(fd);
    }
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "/proc/%d/task/%d/%s", pid, tid, links[i]);
        printf("%s: %s\n", links[i], readlink(path, text, sizeof text) < 0 ? strerrorname_np(errno) : "somewhere");
    }
    snprintf(path, sizeof path, "/proc/%d/fd", pid); printf("%d descriptors\n", entries(path) > 0);
    CALL(kill(pid, 0));
    snprintf(path, sizeof path, "/proc/%d", pid), texts_of(path);
    snprintf(path, sizeof path, "/proc/%d/task/%d", pid, tid), texts_of(path);
    named(pid, tid);
}

static void *shortly(void *x) { usleep(1000); return x; }
static void *for_ever(void *x) { for (;;) pause(); return x; }

int main(void)
{
    int status, go[2]; unsigned long tid;
    pid_t c = fork();
    if (!c) _exit(3);
    waitid(P_PID, c, NULL, WEXITED | WNOWAIT); show("a process", c, c); waitpid(c, &status, 0); printf("%x\n", status); show("waited for", c, c);

    // The main thread has ended, another has not; a new program takes its place.
    pipe(go); c = fork();
    if (!c) { signal(SIGUSR1, SIG_IGN); pthread_t t; pthread_create(&t, NULL, for_ever, NULL); close(go[0]); close(go[1]); pthread_exit(NULL); }
    close(go[1]); read(go[0], &status, 1); usleep(50000); show("a main thread", c, c); kill(c, SIGKILL); waitpid(c, &status, 0); printf("%x\n", status); close(go[0]);

    // A tracee's thread.
    c = fork();
    if (!c) { signal(SIGUSR1, SIG_IGN); ptrace(PTRACE_TRACEME); raise(SIGSTOP); pthread_t t; pthread_create(&t, NULL, shortly, NULL); pthread_join(t, NULL); for (;;) pause(); }
    waitpid(c, &status, 0); ptrace(PTRACE_SETOPTIONS, c, NULL, PTRACE_O_TRACECLONE); ptrace(PTRACE_CONT, c, NULL, NULL);
    waitpid(c, &status, 0); ptrace(PTRACE_GETEVENTMSG, c, NULL, &tid); waitpid(tid, &status, __WALL); printf("%x\n", status);
    ptrace(PTRACE_CONT, tid, NULL, NULL); ptrace(PTRACE_CONT, c, NULL, NULL); usleep(100000);
    show("a traced thread", c, tid); CALL(ptrace(PTRACE_CONT, tid, NULL, NULL)); YES(waitpid(tid, &status, __WALL) == (pid_t)tid); printf("%x\n", status);
    show("waited for", c, tid); kill(c, SIGKILL); waitpid(c, &status, 0); printf("%x\n", status);

    // A tracee's main thread.
    pipe(go); c = fork();
    if (!c) { signal(SIGUSR1, SIG_IGN); ptrace(PTRACE_TRACEME); raise(SIGSTOP); pthread_t t; pthread_create(&t, NULL, for_ever, NULL); close(go[0]); close(go[1]); pthread_exit(NULL); }
    close(go[1]); waitpid(c, &status, 0); ptrace(PTRACE_CONT, c, NULL, NULL); read(go[0], &status, 1); usleep(50000);
    show("a traced main thread", c, c); kill(c, SIGKILL); waitpid(c, &status, 0); printf("%x\n", status);
    return 0;
}
