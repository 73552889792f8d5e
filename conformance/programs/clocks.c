/* Clocks, sleeps, timers, limits, prctl, scheduling, identity and what the system says of itself. */
#include "report.h"
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>

static volatile int alarms;
static void count(int number) { alarms++; }
static long since(const struct timespec *start) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000;
}
#define TAKES(low, ...) do { struct timespec t_; clock_gettime(CLOCK_MONOTONIC, &t_); __VA_ARGS__; printf("  took at least %d ms: %s\n", low, since(&t_) >= low ? "yes" : "no"); } while (0)

static void sleeps(void) {
    struct timespec wait = {0, 20000000}, left = {0}, wrong = {0, 1000000000}, negative = {-1, 0}, at;
    TAKES(20, CALL(nanosleep(&wait, NULL)));
    TAKES(20, CALL(clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, NULL)));
    TAKES(20, CALL(clock_nanosleep(CLOCK_REALTIME, 0, &wait, NULL)));
    TAKES(20, CALL(clock_nanosleep(CLOCK_BOOTTIME, 0, &wait, NULL)));
    clock_gettime(CLOCK_REALTIME, &at), at.tv_nsec += 20000000;
    if (at.tv_nsec >= 1000000000) at.tv_sec++, at.tv_nsec -= 1000000000;
    TAKES(19, CALL(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &at, NULL)));
    CALL(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){1, 0}, NULL)), CALL(nanosleep(&wrong, NULL)),
        CALL(nanosleep(&negative, NULL)), CALL(nanosleep((void *)1, NULL)), CALL(clock_nanosleep(99, 0, &wait, NULL)),
        CALL(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &wait, NULL)), CALL(clock_nanosleep(CLOCK_MONOTONIC, 0, &wrong, NULL)),
        CALL(clock_nanosleep(CLOCK_MONOTONIC, 8, &(struct timespec){0, 1}, NULL));
    struct sigaction action = {.sa_handler = count};
    sigaction(SIGALRM, &action, NULL);
    ualarm(20000, 0), wait.tv_nsec = 500000000;
    CALL(nanosleep(&wait, &left)), YES(left.tv_sec == 0 && left.tv_nsec > 50000000 && left.tv_nsec < 500000000);
    ualarm(20000, 0), left.tv_nsec = 7,
        CALL(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){1l << 40, 0}, &left)),
        printf("untouched %ld\n", left.tv_nsec);
    action.sa_flags = SA_RESTART, sigaction(SIGALRM, &action, NULL), ualarm(20000, 0), CALL(nanosleep(&wait, &left)),
        printf("alarms %d\n", alarms);
    signal(SIGALRM, SIG_IGN), ualarm(10000, 0), wait.tv_nsec = 40000000;
    TAKES(40, CALL(nanosleep(&wait, NULL)));
}

static void stopped(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct timespec wait = {0, 60000000};
        TAKES(60, CALL(nanosleep(&wait, NULL)));
        TAKES(60, CALL(poll(NULL, 0, 60)));
        _exit(0);
    }
    for (int i = 0; i < 2; i++) usleep(20000), kill(child, SIGSTOP), usleep(10000), kill(child, SIGCONT), usleep(50000);
    waitpid(child, NULL, 0);
}

static void timers(void) {
    struct itimerval set = {{0, 10000}, {0, 10000}}, old;
    signal(SIGALRM, count), alarms = 0;
    CALL(setitimer(ITIMER_REAL, &set, NULL));
    while (alarms < 3) pause();
    CALL(getitimer(ITIMER_REAL, &old)), printf("interval %ld\n", (long)old.it_interval.tv_usec), set = (struct itimerval){0},
        CALL(setitimer(ITIMER_REAL, &set, &old)), YES(old.it_value.tv_usec <= 10000), CALL(setitimer(9, &set, NULL)),
        CALL(setitimer(0, (void *)1, NULL)), set.it_value.tv_usec = 1000000, CALL(setitimer(0, &set, NULL)),
        CALL(getitimer(0, (void *)1));
    CALL(alarm(100)), CALL(alarm(50)), CALL(alarm(0)), CALL(alarm(0));
    timer_t id;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    struct itimerspec every = {{0, 5000000}, {0, 5000000}}, now, off = {0};
    CALL(timer_create(CLOCK_MONOTONIC, &event, &id)), alarms = 0, CALL(timer_settime(id, 0, &every, NULL));
    while (alarms < 3) pause();
    CALL(timer_gettime(id, &now)), printf("%ld\n", now.it_interval.tv_nsec), CALL(timer_settime(id, 0, &off, NULL)),
        YES(timer_getoverrun(id) >= 0), CALL(timer_delete(id)), CALL(timer_delete(id)), event.sigev_signo = 99,
        CALL(timer_create(CLOCK_MONOTONIC, &event, &id)), event.sigev_signo = SIGALRM, event.sigev_notify = 77,
        CALL(timer_create(CLOCK_MONOTONIC, &event, &id));
    sigset_t block;
    sigemptyset(&block), sigaddset(&block, SIGUSR1), sigprocmask(SIG_BLOCK, &block, NULL);
    event = (struct sigevent){.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 1234},
        every = (struct itimerspec){{0, 1000000}, {0, 1000000}};
    timer_create(CLOCK_REALTIME, &event, &id), timer_settime(id, 0, &every, NULL), usleep(30000);
    siginfo_t info;
    CALL(sigwaitinfo(&block, &info)),
        printf("code %d value %d, overrun %s\n", info.si_code, info.si_value.sival_int, info.si_overrun > 3 ? "yes" : "no"),
        timer_delete(id);
    event = (struct sigevent){.sigev_notify = SIGEV_NONE}, CALL(timer_create(CLOCK_MONOTONIC, &event, &id)),
        every = (struct itimerspec){{0, 0}, {0, 500000000}}, CALL(timer_settime(id, 0, &every, NULL)),
        CALL(timer_gettime(id, &now)), YES(now.it_value.tv_nsec > 50000000), timer_delete(id);
}

static void limits(void) {
    struct rlimit l, was;
    for (int i = 0; i < 16; i++) {
        getrlimit(i, &l);
        if (i != RLIMIT_NPROC && i != RLIMIT_SIGPENDING) printf("limit %d: %lx %lx\n", i, (long)l.rlim_cur, (long)l.rlim_max);
    }
    CALL(getrlimit(16, &l)), CALL(getrlimit(-1, &l)), CALL(getrlimit(0, (void *)1)), CALL(setrlimit(0, (void *)1)),
        CALL(prlimit(0, RLIMIT_NOFILE, NULL, &was));
    l = was, l.rlim_cur = l.rlim_max + 1, CALL(setrlimit(RLIMIT_NOFILE, &l)), l = was, l.rlim_cur = 17,
        CALL(prlimit(0, RLIMIT_NOFILE, &l, &was)), CALL(getrlimit(RLIMIT_NOFILE, &l)),
        printf("%ld %d\n", (long)l.rlim_cur, getdtablesize()), setrlimit(RLIMIT_NOFILE, &was),
        CALL(prlimit(999999, RLIMIT_NOFILE, NULL, &l));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        l = (struct rlimit){5, 5}, CALL(setrlimit(RLIMIT_NOFILE, &l)), CALL(setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0})),
            _exit(0);
    }
    waitpid(child, NULL, 0);
}

static void controls(void) {
    char name[32] = "unset";
    int value = -1;
    CALL(prctl(PR_SET_NAME, "")), CALL(prctl(PR_GET_NAME, name)), printf("'%s'\n", name),
        CALL(prctl(PR_SET_NAME, "exactly-15-char")), CALL(prctl(PR_GET_NAME, name)), printf("'%s'\n", name),
        CALL(prctl(PR_SET_NAME, 1)), CALL(prctl(PR_GET_NAME, 1));
    CALL(prctl(PR_SET_PDEATHSIG, SIGUSR2)), CALL(prctl(PR_GET_PDEATHSIG, &value)), printf("%d\n", value),
        CALL(prctl(PR_SET_PDEATHSIG, 0)), CALL(prctl(PR_SET_PDEATHSIG, 65));
    CALL(prctl(PR_GET_DUMPABLE)), CALL(prctl(PR_SET_DUMPABLE, 0)), CALL(prctl(PR_GET_DUMPABLE)),
        CALL(prctl(PR_SET_DUMPABLE, 2)), CALL(prctl(PR_SET_DUMPABLE, 1));
    CALL(prctl(PR_GET_KEEPCAPS)), CALL(prctl(PR_SET_KEEPCAPS, 1)), CALL(prctl(PR_GET_KEEPCAPS)),
        CALL(prctl(PR_SET_KEEPCAPS, 0)), CALL(prctl(PR_GET_TIMING)), CALL(prctl(PR_SET_TIMING, 1)),
        CALL(prctl(PR_GET_SECCOMP) >= 0), CALL(prctl(PR_GET_CHILD_SUBREAPER, &value)), printf("%d\n", value),
        CALL(prctl(PR_SET_CHILD_SUBREAPER, 1)), CALL(prctl(PR_GET_CHILD_SUBREAPER, &value)), printf("%d\n", value),
        CALL(prctl(PR_SET_CHILD_SUBREAPER, 0));
    CALL(prctl(PR_SET_TIMERSLACK, 1234)), CALL(prctl(PR_GET_TIMERSLACK)), CALL(prctl(PR_SET_TIMERSLACK, 0)),
        CALL(prctl(PR_GET_TIMERSLACK)), CALL(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0)),
        CALL(prctl(PR_GET_THP_DISABLE, 1, 0, 0, 0)), CALL(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0)),
        CALL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)), CALL(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)),
        CALL(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)), CALL(prctl(12345, 1, 2, 3, 4)), CALL(prctl(PR_GET_TSC, &value)),
        printf("%d\n", value), CALL(prctl(PR_GET_SECUREBITS)), CALL(prctl(PR_CAPBSET_READ, 64)),
        CALL(prctl(PR_GET_TID_ADDRESS, 1)), CALL(prctl(PR_SET_MM, PR_SET_MM_BRK, 1, 0, 0) == 0),
        CALL(prctl(PR_GET_UNALIGN, &value)), CALL(prctl(PR_SET_ENDIAN, 0)),
        CALL(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 99, 0, 0)),
        CALL(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)), CALL(prctl(PR_CAP_AMBIENT, 99, 0, 0, 0));
}

static void identity(void) {
    uid_t r, e, s;
    CALL(getresuid(&r, &e, &s)), YES(r == e && e == s), CALL(setuid(r)), CALL(setreuid(-1, -1)), CALL(setresuid(r, e, s)),
        CALL(setuid(-1)), CALL(getresuid((void *)1, &e, &s)), YES(setfsuid(-1) == (int)e), YES(setfsgid(-1) == (int)getegid()),
        CALL(getgroups(-1, NULL)), CALL(getgroups(0, NULL) >= 0);
    YES(getpid() == getpgrp() || getpgrp() > 0), CALL(getpgid(999999)), CALL(getsid(999999)), CALL(setpgid(-1, 0)),
        CALL(setpgid(0, -1)), CALL(setpgid(999999, 0)), YES(getsid(0) == getsid(getpid()));
    struct utsname u;
    CALL(uname(&u)), printf("%s %s\n", u.sysname, u.machine), CALL(uname((void *)1)), CALL(gethostname((char *)&u, 1)),
        CALL(sethostname((char *)1, 5) == 0), CALL(sethostname("x", 65)), CALL(setdomainname("x", -1));
    struct sysinfo i;
    CALL(sysinfo(&i)), YES(i.uptime > 0 && i.procs > 0 && i.mem_unit > 0 && i.freeram <= i.totalram), CALL(sysinfo((void *)1));
    struct rusage u2;
    CALL(getrusage(RUSAGE_SELF, &u2)), YES(u2.ru_maxrss > 0), CALL(getrusage(RUSAGE_CHILDREN, &u2)),
        CALL(getrusage(RUSAGE_THREAD, &u2)), CALL(getrusage(5, &u2)), CALL(getrusage(0, (void *)1));
    struct tms t;
    CALL(times(&t) > 0), CALL(syscall(SYS_times, (void *)1)), CALL(times(NULL) > 0);
    unsigned char bytes[600], none = 0;
    CALL(getrandom(bytes, 600, 0)), CALL(getrandom(bytes, 0, 0)), CALL(getrandom(bytes, 10, GRND_NONBLOCK)),
        CALL(getrandom(bytes, 10, GRND_RANDOM)), CALL(getrandom(bytes, 10, 4)), CALL(getrandom(bytes, 10, 6)),
        CALL(getrandom(bytes, 10, 64)), CALL(getrandom((void *)1, 10, 0));
    for (int k = 0; k < 600; k++) none |= bytes[k];
    YES(none != 0);
    unsigned cpu, node;
    CALL(getcpu(&cpu, &node)), YES((long)cpu < sysconf(_SC_NPROCESSORS_CONF)), CALL(syscall(SYS_getcpu, 1, NULL, NULL)),
        CALL(syscall(SYS_getcpu, NULL, NULL, NULL));
}

static void scheduling(void) {
    cpu_set_t set;
    struct sched_param p = {0};
    CALL(sched_getaffinity(0, sizeof set, &set)), YES(CPU_COUNT(&set) >= 1),
        YES(syscall(SYS_sched_getaffinity, 0, sizeof set, &set) >= 8), CALL(sched_setaffinity(0, sizeof set, &set)),
        CALL(syscall(SYS_sched_getaffinity, 0, 3, &set)), CALL(sched_getaffinity(999999, sizeof set, &set)),
        memset(&set, 0, sizeof set), CALL(sched_setaffinity(0, sizeof set, &set)),
        CALL(sched_setaffinity(0, sizeof set, (void *)1));
    CALL(sched_getscheduler(0)), CALL(sched_getscheduler(-1)), CALL(sched_getscheduler(999999)), CALL(sched_getparam(0, &p)),
        printf("%d\n", p.sched_priority), CALL(sched_setscheduler(0, SCHED_BATCH, &p)), CALL(sched_getscheduler(0)),
        CALL(sched_setscheduler(0, SCHED_OTHER, &p)), p.sched_priority = 5, CALL(sched_setscheduler(0, SCHED_OTHER, &p)),
        CALL(sched_setscheduler(0, 99, &p)), CALL(syscall(SYS_sched_getparam, 0, NULL)), CALL(sched_get_priority_max(SCHED_FIFO)),
        CALL(sched_get_priority_min(SCHED_RR)), CALL(sched_get_priority_max(SCHED_OTHER)), CALL(sched_get_priority_max(77)),
        CALL(sched_yield());
    struct timespec slice;
    CALL(sched_rr_get_interval(-1, &slice)), CALL(sched_rr_get_interval(999999, &slice)), CALL(getpriority(PRIO_PROCESS, 0)),
        CALL(setpriority(PRIO_PROCESS, 0, 5)), CALL(getpriority(PRIO_PROCESS, 0)), CALL(nice(3)),
        CALL(setpriority(PRIO_PROCESS, 0, 100)), CALL(getpriority(PRIO_PROCESS, 0)), CALL(getpriority(9, 0)),
        CALL(getpriority(PRIO_PROCESS, 999999)), CALL(getpriority(PRIO_USER, 999999));
}

int main(void) {
    sleeps();
    stopped();
    timers();
    limits();
    controls();
    identity();
    scheduling();
    return 0;
}
