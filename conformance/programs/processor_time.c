/* Timers and clocks of processor time: setitimer, timer_create, clock_nanosleep, RLIMIT_CPU, /proc/PID/stat. */
#include "report.h"
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static volatile sig_atomic_t got[65];
static volatile sig_atomic_t code;
static void count(int signal, siginfo_t *info, void *context) {
    (void)context;
    got[signal]++;
    code = info->si_code;
}

static long long on(clockid_t clock) {
    struct timespec now;
    if (clock_gettime(clock, &now)) return -errno;
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void burn(long long ns) {
    long long until = on(CLOCK_THREAD_CPUTIME_ID) + ns;
    while (on(CLOCK_THREAD_CPUTIME_ID) < until)
        for (volatile int i = 0; i < 10000; i++) {}
}

static void catch(int signal) {
    struct sigaction action = {.sa_sigaction = count, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(signal, &action, NULL);
}

static void intervals(void) {
    struct { int which, signal; } kinds[] = {{ITIMER_VIRTUAL, SIGVTALRM}, {ITIMER_PROF, SIGPROF}};
    for (unsigned k = 0; k < 2; k++) {
        catch(kinds[k].signal);
        struct itimerval set = {.it_interval = {0, 20000}, .it_value = {0, 20000}}, now;
        CALL(setitimer(kinds[k].which, &set, NULL));
        getitimer(kinds[k].which, &now);
        printf("interval %ld.%06ld, left %s\n", now.it_interval.tv_sec, now.it_interval.tv_usec,
               now.it_value.tv_usec > 0 && now.it_value.tv_usec <= 40000 ? "some" : "none");
        usleep(60000);
        printf("while asleep: %s\n", got[kinds[k].signal] ? "signals" : "none");
        while (got[kinds[k].signal] < 3) for (volatile int i = 0; i < 100000; i++) {}
        printf("while busy: signals, code %d\n", code);
        struct itimerval off = {0};
        CALL(setitimer(kinds[k].which, &off, &now));
        got[kinds[k].signal] = 0;
        burn(40000000);
        printf("disarmed: %d\n", (int)got[kinds[k].signal]);
    }
    struct itimerval set = {0};
    CALL(setitimer(3, &set, NULL));
    CALL(getitimer(-1, &set));
}

static volatile int stop;
static void *busy(void *argument) {
    clockid_t *clock = argument;
    CALL(pthread_getcpuclockid(pthread_self(), clock));
    stop = 1;
    while (stop != 2) for (volatile int i = 0; i < 10000; i++) {}
    return NULL;
}

static void posix(void) {
    clockid_t clocks[] = {CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
    catch(SIGUSR1);
    for (unsigned k = 0; k < 2; k++) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
        timer_t timer;
        CALL(timer_create(clocks[k], &event, &timer));
        struct itimerspec set = {.it_interval = {0, 10000000}, .it_value = {0, 10000000}}, now;
        CALL(timer_settime(timer, 0, &set, NULL));
        got[SIGUSR1] = 0;
        while (got[SIGUSR1] < 3) for (volatile int i = 0; i < 100000; i++) {}
        printf("signals, code %d\n", code);
        CALL(timer_gettime(timer, &now));
        printf("interval %ld\n", now.it_interval.tv_nsec);
        set = (struct itimerspec){.it_value = {0, 1}};
        got[SIGUSR1] = 0;
        CALL(timer_settime(timer, TIMER_ABSTIME, &set, NULL));
        burn(30000000);
        printf("already past: %d\n", (int)got[SIGUSR1]);
        CALL(timer_delete(timer));
    }
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    CALL(timer_create(99, &event, &timer));
    CALL(timer_create(CLOCK_MONOTONIC_RAW, &event, &timer));
}

static void clocks(void) {
    clockid_t process, other, thread;
    struct timespec step, wait = {0, 20000000};
    CALL(clock_getcpuclockid(0, &process));
    CALL(clock_getres(process, &step));
    printf("step %ld.%09ld\n", (long)step.tv_sec, step.tv_nsec);
    CALL(clock_getcpuclockid(getpid(), &process));
    long long before = on(process);
    burn(20000000);
    printf("process clock runs: %d\n", on(process) - before >= 20000000);
    pid_t child = fork();
    if (child == 0) {
        burn(50000000);
        pause();
        _exit(0);
    }
    CALL(clock_getcpuclockid(child, &other));
    while (on(other) < 40000000) usleep(1000);
    printf("a child's clock runs\n");
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", child);
    for (long user = 0; user < 3; usleep(1000)) {
        FILE *file = fopen(path, "r");
        text[fread(text, 1, sizeof text - 1, file)] = 0;
        fclose(file);
        long system;
        sscanf(strrchr(text, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user, &system);
        user += system;
    }
    printf("/proc shows it\n");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    printf("children's time: %d\n", usage.ru_utime.tv_usec + usage.ru_stime.tv_usec >= 30000);
    CALL(clock_getcpuclockid(child, &other));

    pthread_t id;
    pthread_create(&id, NULL, busy, &thread);
    while (!stop) usleep(1000);
    printf("a thread's clock runs: %d\n", on(thread) >= 0);
    errno = clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &wait, NULL);
    printf("slept on the process's clock: %s\n", strerror(errno));
    stop = 2;
    pthread_join(id, NULL);
    /* The id goes a moment after the thread. */
    for (int i = 0; i < 1000 && on(thread) >= 0; i++) usleep(1000);
    printf("of a thread that is gone: %lld\n", on(thread) < 0 ? -1LL : 0);
    errno = clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &wait, NULL);
    printf("on its own: %s\n", strerror(errno));
    errno = clock_nanosleep(CLOCK_MONOTONIC_COARSE, 0, &wait, NULL);
    printf("coarse: %s\n", strerror(errno));
}

static void limit(int handler) {
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {1, 2};
        setrlimit(RLIMIT_CPU, &limit);
        if (handler) catch(SIGXCPU);
        else signal(SIGXCPU, SIG_DFL);
        while (!got[SIGXCPU]) {}
        getrlimit(RLIMIT_CPU, &limit);
        printf("SIGXCPU; the limit is now %d %d\n", (int)limit.rlim_cur, (int)limit.rlim_max);
        fflush(stdout);
        for (;;) {}
    }
    int status;
    waitpid(child, &status, 0);
    printf("ended by signal %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : -1);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    intervals();
    posix();
    clocks();
    limit(0);
    limit(1);
    return 0;
}
