/* Parents that die while their vfork child, or a thread of theirs, executes a program. */
#include "report.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <pthread.h>

static void spawn_for_ever(void)
{
    for (;;) {
        pid_t child = vfork();
        if (child == 0) {
            execl("/bin/true", "true", (char *)0);
            _exit(1);
        }
        waitpid(child, 0, 0);
    }
}

static void *executes(void *unused)
{
    (void)unused;
    execl("/bin/true", "true", (char *)0);
    return 0;
}

static void threads_for_ever(void)
{
    pthread_t thread;
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            pthread_create(&thread, 0, executes, 0);
            pause();
        }
        usleep(200);
        kill(child, SIGKILL);
        waitpid(child, 0, 0);
    }
}

static void kill_at_random(const char *what, void (*body)(void), int rounds)
{
    int killed = 0;
    for (int round = 0; round < rounds; round++) {
        pid_t child = fork();
        if (child == 0) {
            body();
        }
        usleep(300 + round * 7919 % 3000);
        kill(child, SIGKILL);
        int status = 0;
        waitpid(child, &status, 0);
        killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        /* Orphans, too, end. */
        while (waitpid(-1, 0, WNOHANG) > 0) {
        }
    }
    printf("%s: %d of %d killed\n", what, killed, rounds);
}

int main(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    kill_at_random("in vfork and exec", spawn_for_ever, 400);
    kill_at_random("with threads that execute", threads_for_ever, 100);
    while (wait(0) > 0) {
    }
    puts("all gone");
    return 0;
}
