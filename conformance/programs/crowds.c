/* Many threads, and many processes that share their memory: what they do at their ends must not grow with the square of their
   number, and no sleep must miss its thread's end. */
#define _GNU_SOURCE
#include "report.h"
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
enum { THREADS = 4000, DEPTH = 1000, KILLED = 200, PATIENCE = 20 };
static volatile int go, taken, reached;
static void take(int s) { taken = s; }
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }
static void *until_go(void *x) { while (!go) usleep(100000); return x; }

/* All end at once, while a signal that they block waits for the process. */
static void threads_end(void) {
    static pthread_t t[THREADS]; pthread_attr_t a; sigset_t set; long sum = 0; int made = 0; void *r; double start;
    pthread_attr_init(&a); pthread_attr_setstacksize(&a, 64 << 10);
    signal(SIGUSR1, take); sigemptyset(&set); sigaddset(&set, SIGUSR1); pthread_sigmask(SIG_BLOCK, &set, 0);
    for (long i = 0; i < THREADS; i++) made += pthread_create(&t[i], &a, until_go, (void *)i) == 0;
    printf("made %d\n", made); CALL(kill(getpid(), SIGUSR1));
    start = now(); go = 1;
    for (int i = 0; i < made; i++) { pthread_join(t[i], &r); sum += (long)r; }
    printf("sum %ld, in time %d, taken %d\n", sum, now() - start < PATIENCE, taken);
    pthread_sigmask(SIG_UNBLOCK, &set, 0); printf("taken %d\n", taken == SIGUSR1);
}

/* Each is suspended until the next has ended. */
static int chain(int depth) {
    int status;
    reached = depth;
    if (depth == DEPTH) return 7;
    pid_t pid = vfork();
    if (pid == 0) _exit(chain(depth + 1));
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return 1;
    return WEXITSTATUS(status);
}

/* A process is killed at any moment before or in the sleep of its vfork. */
static void killed_in_vfork(void) {
    int ends = 0, status; double start = now();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (int i = 0; i < KILLED; i++) {
        int gate[2]; pid_t child = 0;
        if (pipe(gate)) return;
        pid_t pid = fork();
        if (pid == 0) {
            if (vfork() == 0) { child = getpid(); write(gate[1], &child, sizeof child); for (;;) pause(); }
            _exit(1);
        }
        read(gate[0], &child, sizeof child); usleep(i % 20 * 10); kill(pid, SIGKILL);
        ends += waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        kill(child, SIGKILL); waitpid(child, 0, 0); close(gate[0]); close(gate[1]);
    }
    printf("killed %d, in time %d\n", ends, now() - start < PATIENCE);
}

int main(void) {
    double start;
    threads_end();
    start = now(); printf("chain %d", chain(0)); printf(", reached %d, in time %d\n", reached, now() - start < PATIENCE);
    killed_in_vfork();
    return 0;
}
