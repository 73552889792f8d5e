/* Stops and continues: what the stopped see, what their parents see. */
#include "report.h"
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

struct shared { atomic_int step, count, got; };
static struct shared *shared;
static volatile sig_atomic_t got[65];
static void note(int signal) { got[signal]++; }
static void handle(int signal, int flags, void (*function)(int))
{
    struct sigaction action = {.sa_handler = function, .sa_flags = flags};
    sigaction(signal, &action, NULL);
}
static void at(int step) { while (atomic_load(&shared->step) < step) usleep(500); }
static void step(int step) { atomic_store(&shared->step, step); }

static void show(const char *what, pid_t child, int options)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    errno = 0;
    int result = waitid(P_PID, child, &info, options);
    printf("%s: ", what);
    if (result) printf("%s\n", strerrorname_np(errno));
    else if (!info.si_pid) printf("nothing\n");
    else printf("code %d %s%s\n", info.si_code, info.si_code == CLD_EXITED ? "" : sigabbrev_np(info.si_status),
                info.si_code == CLD_EXITED ? (info.si_status == 0 ? "0" : "not 0") : "");
}
static pid_t start(void (*function)(void))
{
    step(0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) { function(); fflush(stdout); _exit(0); }
    return child;
}
static void stop(pid_t child) { kill(child, SIGSTOP); show("stopped", child, WSTOPPED); }
static void go(pid_t child) { kill(child, SIGCONT); show("continued", child, WCONTINUED); }

static void waits(void) { step(1); for (;;) pause(); }
static void reports(void)
{
    printf("-- reports\n");
    pid_t child = start(waits);
    at(1);
    show("nothing yet", child, WSTOPPED | WCONTINUED | WNOHANG);
    kill(child, SIGCONT);
    show("a running one is not continued", child, WCONTINUED | WNOHANG);
    kill(child, SIGSTOP);
    show("kept", child, WSTOPPED | WNOWAIT);
    show("kept", child, WSTOPPED | WNOWAIT | WEXITED);
    show("taken", child, WSTOPPED);
    show("once", child, WSTOPPED | WNOHANG);
    kill(child, SIGSTOP); kill(child, SIGTSTP);
    show("stopped again while stopped", child, WSTOPPED | WNOHANG);
    kill(child, SIGCONT);
    show("kept", child, WCONTINUED | WNOWAIT);
    show("taken", child, WCONTINUED);
    show("once", child, WCONTINUED | WNOHANG);
    stop(child);
    kill(child, SIGCONT);
    stop(child);
    show("a continuation that was overtaken", child, WCONTINUED | WNOHANG);
    kill(child, SIGTERM);
    show("ends later", child, WEXITED | WNOHANG);
    kill(child, SIGCONT);
    show("now", child, WEXITED);
    child = start(waits);
    at(1);
    int status;
    kill(child, SIGTSTP);
    waitpid(child, &status, WUNTRACED); printf("%x\n", status);
    kill(child, SIGCONT);
    waitpid(child, &status, WCONTINUED); printf("%x\n", status);
    kill(child, SIGTTIN);
    waitpid(0, &status, WUNTRACED); printf("%x\n", status);
    kill(child, SIGKILL);
    waitpid(-1, &status, WUNTRACED | WCONTINUED); printf("%x\n", status);
}

static void child_info(int signal, siginfo_t *info, void *context)
{
    (void)signal; (void)context;
    printf("SIGCHLD code %d %s\n", info->si_code, sigabbrev_np(info->si_status));
    got[SIGCHLD]++;
}
static void parent_told(void)
{
    printf("-- SIGCHLD\n");
    for (int flags = 0; flags <= SA_NOCLDSTOP; flags += SA_NOCLDSTOP) {
        struct sigaction action = {.sa_sigaction = child_info, .sa_flags = SA_SIGINFO | SA_RESTART | flags};
        sigaction(SIGCHLD, &action, NULL);
        got[SIGCHLD] = 0;
        pid_t child = start(waits);
        at(1);
        kill(child, SIGSTOP);
        if (!flags) while (got[SIGCHLD] < 1) usleep(500);
        show("stopped", child, WSTOPPED);
        kill(child, SIGCONT);
        if (!flags) while (got[SIGCHLD] < 2) usleep(500);
        show("continued", child, WCONTINUED);
        kill(child, SIGKILL);
        while (got[SIGCHLD] < (flags ? 1 : 3)) usleep(500);
        show("dead", child, WEXITED);
    }
    signal(SIGCHLD, SIG_DFL);
}

static sigset_t set_of(int a, int b)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, a);
    if (b) sigaddset(&set, b);
    return set;
}
static void pending_one(int signal) { sigset_t set; sigpending(&set); printf("%s pends: %d\n", sigabbrev_np(signal), sigismember(&set, signal)); }
static void cancels(void)
{
    sigset_t set = set_of(SIGTSTP, SIGCONT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    kill(getpid(), SIGTSTP);
    pending_one(SIGTSTP);
    kill(getpid(), SIGCONT);
    pending_one(SIGTSTP);
    pending_one(SIGCONT);
    kill(getpid(), SIGTTOU);
    at(10);
    pending_one(SIGCONT);
    handle(SIGCONT, 0, note);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    printf("handler: %d\n", got[SIGCONT]);
    handle(SIGTSTP, 0, note);
    raise(SIGTSTP);
    printf("caught instead: %d\n", got[SIGTSTP]);
    signal(SIGTSTP, SIG_IGN);
    raise(SIGTSTP);
    signal(SIGCONT, SIG_IGN);
    fflush(stdout);
    raise(SIGSTOP);
    at(11);
    set = set_of(SIGCONT, 0);
    printf("continued though SIGCONT is ignored\n");
    sigprocmask(SIG_BLOCK, &set, NULL);
    handle(SIGCONT, 0, note);
    fflush(stdout);
    raise(SIGSTOP);
    at(12);
    printf("continued though SIGCONT is blocked\n");
    pending_one(SIGCONT);
}
static void cancelling(void)
{
    printf("-- what cancels what\n");
    fflush(stdout);
    pid_t child = start(cancels);
    for (int i = 10; i < 13; i++) {
        show("stopped", child, WSTOPPED);
        go(child);
        fflush(stdout);
        step(i);
    }
    show("dead", child, WEXITED);
}

static void calls(void)
{
    static char later[8192];
    int fds[2];
    char byte;
    setvbuf(stdout, later, _IOFBF, sizeof later);
    if (pipe(fds)) _exit(1);
    struct pollfd p = {fds[0], POLLIN, 0};
    struct timespec second = {0, 300000000}, left = {9, 9};
    step(1);
    CALL(poll(&p, 1, 300));
    step(2);
    CALL(nanosleep(&second, &left)); printf("left %ld\n", (long)left.tv_sec);
    int epoll = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {0}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fds[0], &event);
    step(3);
    CALL(epoll_wait(epoll, &event, 1, 5000));
    sigset_t set = set_of(SIGUSR1, 0);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct timespec five = {5, 0};
    step(4);
    CALL(sigtimedwait(&set, NULL, &five));
    fcntl(fds[1], 0);
    step(5);
    if (fork() == 0) { usleep(400000); if (write(fds[1], "x", 1) != 1) _exit(1); _exit(0); }
    CALL(read(fds[0], &byte, 1));
    CALL(wait(NULL) > 0);
    handle(SIGCONT, 0, note);
    step(6);
    CALL(poll(&p, 1, 5000));
    CALL(got[SIGCONT]);
    step(7);
    CALL(pause());
    at(8);
}
static void interrupted(void)
{
    printf("-- calls that a stop interrupts\n");
    fflush(stdout);
    pid_t child = start(calls);
    for (int i = 1; i <= 7; i++) {
        at(i);
        usleep(60000);
        stop(child);
        fflush(stdout);
        usleep(20000);
        go(child);
        fflush(stdout);
    }
    step(8);
    show("dead", child, WEXITED | WNOWAIT);
    show("a zombie is neither stopped nor continued", child, WSTOPPED | WCONTINUED);
    show("dead", child, WEXITED);
}

static void *counts(void *unused) { for (;;) atomic_fetch_add(&shared->count, 1); return unused; }
static void threads(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, counts, NULL);
    pthread_create(&thread, NULL, counts, NULL);
    step(1);
    for (;;) pause();
}
static void many(void)
{
    printf("-- all threads stop\n");
    pid_t child = start(threads);
    at(1);
    while (atomic_load(&shared->count) < 1000) usleep(500);
    stop(child);
    usleep(30000);
    int before = atomic_load(&shared->count);
    usleep(50000);
    YES(atomic_load(&shared->count) == before);
    go(child);
    while (atomic_load(&shared->count) == before) usleep(500);
    stop(child);
    kill(child, SIGKILL);
    show("dead", child, WEXITED);
}

static void grandchild(void)
{
    sigset_t set = set_of(SIGHUP, SIGCONT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    step(1);
    raise(SIGSTOP);
    at(2);
    struct timespec no = {0, 0};
    printf("HUP pends: %d\n", sigtimedwait(&set, NULL, &no) == SIGHUP);
    fflush(stdout);
}
/* The child's group loses its only connection; a subreaper in the same session and another group is a new one. */
static void adopted(int subreaper)
{
    printf("-- the parent of a stopped group ends, %s\n", subreaper ? "a subreaper takes over" : "nobody takes over");
    fflush(stdout);
    step(0);
    pid_t top = fork();
    if (top == 0) {
        setsid();
        if (subreaper) prctl(PR_SET_CHILD_SUBREAPER, 1);
        pid_t between = fork();
        if (between == 0) {
            pid_t last = fork();
            if (last == 0) { setpgid(0, 0); grandchild(); _exit(0); }
            atomic_store(&shared->got, last);
            at(1);
            show("stopped", last, WSTOPPED);
            fflush(stdout);
            _exit(0);
        }
        waitpid(between, NULL, 0);
        if (subreaper) kill(atomic_load(&shared->got), SIGCONT);
        step(2);
        if (subreaper) { show("grandchild", atomic_load(&shared->got), WEXITED); fflush(stdout); }
        else while (kill(atomic_load(&shared->got), 0) == 0) usleep(1000);
        _exit(0);
    }
    show("top", top, WEXITED);
}

int main(void)
{
    alarm(60);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    /* A group that is not orphaned, whoever starts this. */
    pid_t inner = fork();
    if (inner == 0) {
        setpgid(0, 0);
        reports();
        parent_told();
        cancelling();
        interrupted();
        many();
        adopted(0);
        adopted(1);
        fflush(stdout);
        _exit(0);
    }
    setpgid(inner, inner);
    int status;
    waitpid(inner, &status, 0);
    printf("%x\n", status);
    return 0;
}
