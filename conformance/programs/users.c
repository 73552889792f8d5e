/* What counts by user: RLIMIT_NPROC, and the user that a child's end names. */
#define _GNU_SOURCE
#include "report.h"
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { ONE = 54321, TWO = 54322 };

static void become(int user) {
    if (setgroups(0, NULL) || setresgid(user, user, user) || setresuid(user, user, user)) perror("become"), _exit(9);
}
static pid_t child(void) {
    pid_t pid = fork();
    if (pid == 0) for (;;) pause();
    return pid;
}
static void end(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
static void *sleeps(void *unused) { for (;;) pause(); return unused; }

/* As many as the limit says, threads and dead ones included, and nobody else's. */
static void limited(void) {
    struct rlimit three = {3, 3};
    become(ONE);
    CALL(setrlimit(RLIMIT_NPROC, &three));
    pid_t first = child(), second = child();
    printf("two more: %d %d\n", first > 0, second > 0);
    pid_t third = child();
    printf("a third: %s\n", third < 0 ? strerrorname_np(errno) : "ok");
    pthread_t thread;
    printf("a thread: %s\n", strerrorname_np(pthread_create(&thread, NULL, sleeps, NULL)));
    kill(first, SIGKILL);
    siginfo_t info;
    CALL(waitid(P_PID, first, &info, WEXITED | WNOWAIT));
    third = child();
    printf("beside a dead one: %s\n", third < 0 ? strerrorname_np(errno) : "ok");
    end(first);
    printf("a thread: %d\n", pthread_create(&thread, NULL, sleeps, NULL));
    third = child();
    printf("beside a thread: %s\n", third < 0 ? strerrorname_np(errno) : "ok");
    end(second);
    third = child();
    printf("again: %s\n", third < 0 ? strerrorname_np(errno) : "ok");
    end(third);
    fflush(stdout);
    _exit(0);
}

static volatile int told = -1;
static void on_end(int number, siginfo_t *info, void *context) { (void)number, (void)context; told = info->si_uid; }

int main(void) {
    if (getuid()) return 0;
    struct sigaction action = {.sa_sigaction = on_end, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGCHLD, &action, NULL);
    int ready[2];
    char c;
    if (pipe(ready)) return 1;
    fflush(stdout);
    pid_t other = fork();
    if (other == 0) {
        setpgid(0, 0), become(TWO), child(), child();
        if (write(ready[1], "x", 1) == 1) for (;;) pause();
    }
    if (read(ready[0], &c, 1) != 1) return 1;
    pid_t pid = fork();
    if (pid == 0) limited();
    siginfo_t info;
    CALL(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
    printf("user %d, told %d, code %d\n", info.si_uid, told, info.si_code);
    waitpid(pid, NULL, 0);
    signal(SIGCHLD, SIG_DFL);
    kill(other, SIGSTOP);
    CALL(waitid(P_PID, other, &info, WSTOPPED));
    printf("user %d, code %d\n", info.si_uid, info.si_code);
    kill(-other, SIGKILL);
    waitpid(other, NULL, 0);
    return 0;
}
