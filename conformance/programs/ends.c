/* Ends and stops of processes with many threads: whose status counts, and when the parent learns of it. */
#include "children.h"
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

static atomic_int gate;
static void *leaves_at_once(void *status)
{
    atomic_fetch_add(&gate, 1);
    while (atomic_load(&gate) < 4) ;
    syscall(SYS_exit, (int)(long)status);
    return NULL;
}
static void exits_of_threads(void)
{
    printf("-- threads that leave by exit(2)\n");
    int wrong = 0;
    for (int round = 0; round < 200; round++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            pthread_t thread;
            for (int i = 0; i < 3; i++) pthread_create(&thread, NULL, leaves_at_once, (void *)7);
            leaves_at_once((void *)7);
        }
        int status = -1;
        waitpid(child, &status, 0);
        wrong += status != 7 << 8;
    }
    printf("another status than the threads': %d times\n", wrong);
}

static void *waits_then_exits(void *status) { usleep(50000); syscall(SYS_exit, (int)(long)status); return NULL; }
static void last_one_counts(void)
{
    pid_t child = CHILD({ pthread_t t; pthread_create(&t, NULL, waits_then_exits, (void *)5); syscall(SYS_exit, 3); });
    printf("the main thread first: %x\n", reaped(child));
    child = CHILD({ pthread_t t; pthread_create(&t, NULL, waits_then_exits, (void *)5); usleep(200000); syscall(SYS_exit, 3); });
    printf("the main thread last: %x\n", reaped(child));
}

/* How many threads of a process are not stopped. */
static int running(pid_t pid)
{
    char path[300], line[512];
    int count = 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/stat", pid, entry->d_name);
        FILE *file = fopen(path, "r");
        if (!file) continue;
        if (fgets(line, sizeof line, file)) count += strrchr(line, ')')[2] != 'T';
        fclose(file);
    }
    closedir(directory);
    return count;
}
static void *spins(void *unused) { atomic_fetch_add(&gate, 1); for (;;) getppid(); return unused; }
static void *sleeps_on(void *unused) { atomic_fetch_add(&gate, 1); for (;;) pause(); return unused; }
static void stops_of_threads(void)
{
    printf("-- stops of a process with eight threads\n");
    atomic_int *ready = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    atomic_store(&gate, 0);
    pid_t child = CHILD({
        pthread_t t;
        for (int i = 0; i < 7; i++) pthread_create(&t, NULL, i & 1 ? spins : sleeps_on, NULL);
        while (atomic_load(&gate) < 7) usleep(1000);
        atomic_store(ready, 1);
        for (;;) pause();
    });
    while (!atomic_load(ready)) usleep(1000);
    int early = 0, wrong = 0;
    for (int round = 0; round < 100; round++) {
        int status = 0;
        kill(child, SIGSTOP);
        waitpid(child, &status, WUNTRACED);
        wrong += !WIFSTOPPED(status) || WSTOPSIG(status) != SIGSTOP;
        early += running(child) > 0;
        kill(child, SIGCONT);
        waitpid(child, &status, WCONTINUED);
        wrong += !WIFCONTINUED(status);
    }
    printf("told while a thread ran: %d times; another status: %d times\n", early, wrong);
    kill(child, SIGKILL);
    printf("killed: %x\n", reaped(child));
}

static void group_ids_stay_taken(void)
{
    printf("-- a process group outlives its leader\n");
    int ends[2];
    pipe(ends);
    pid_t leader = CHILD({ setpgid(0, 0); if (fork() == 0) { char c; close(ends[1]); read(ends[0], &c, 1); _exit(0); } });
    close(ends[0]);
    reaped(leader);
    CALL(kill(-leader, 0));
    pid_t joins = CHILD({ CALL(setpgid(0, leader)); YES(getpgid(0) == leader); CALL(setsid() < 0 ? -1 : 0); YES(getsid(0) == getpid()); });
    reaped(joins);
    close(ends[1]);
    while (kill(-leader, 0) == 0) usleep(1000);
    CALL(kill(-leader, 0));
    pid_t late = CHILD({ CALL(setpgid(0, leader)); });
    reaped(late);
}

int main(void)
{
    exits_of_threads();
    last_one_counts();
    stops_of_threads();
    group_ids_stay_taken();
    return 0;
}
