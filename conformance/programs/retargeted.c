/* A signal to the process that a thread was to take, which blocks it just then: another one takes it. */
#include "report.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
enum { ROUNDS = 3000 };
static volatile int taken;
static void take(int signal) { (void)signal; taken++; }
static void *other(void *x) { for (;;) pause(); return x; }

int main(void)
{
    volatile int *round = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sigset_t set; pthread_t thread; int lost = 0;
    sigemptyset(&set); sigaddset(&set, SIGUSR1);
    pid_t parent = getpid(), child = fork();
    if (!child) for (int sent = 0;;) if (*round != sent) { sent = *round; kill(parent, SIGUSR1); } else usleep(0);
    signal(SIGUSR1, take); pthread_create(&thread, NULL, other, NULL); usleep(20000);
    for (int i = 0; i < ROUNDS && !lost; i++) {
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        *round = i + 1;
        for (volatile int spin = 0; spin < i % 100 * 100; spin++) ;
        pthread_sigmask(SIG_BLOCK, &set, NULL);
        for (int waited = 0; taken != i + 1 && !lost; waited++) { if (waited > 1000) usleep(1000); lost = waited > 4000; }
    }
    printf("lost %d, taken %d\n", lost, taken); kill(child, SIGKILL); waitpid(child, NULL, 0);
    return 0;
}
