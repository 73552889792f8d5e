/* Leases (fcntl(2)): who gets one, what breaks it, and what its holder is told. */
#include "report.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static volatile sig_atomic_t got, got_fd, got_code;
static void handler(int signal, siginfo_t *info, void *context) {
    (void)context;
    got = signal;
    got_fd = info->si_fd;
    got_code = info->si_code;
}
static const char *name(int lease) {
    return lease == F_RDLCK ? "read" : lease == F_WRLCK ? "write" : lease == F_UNLCK ? "none" : strerrorname_np(errno);
}
static void show(int f) { printf("lease: %s\n", name(fcntl(f, F_GETLEASE))); }
/* Waits for the signal of a lease that breaks. */
static void await(void) {
    for (int i = 0; i < 3000 && !got; i++) usleep(1000);
    printf("signal: %s\n", got ? "came" : "none");
}
/* Another process opens the file; its outcome is its status. */
static pid_t opens(int flags) {
    pid_t child = fork();
    if (child) return child;
    /* Of the descriptions only the parent's are left: with the last one goes the lease. */
    for (int inherited = 3; inherited < 16; inherited++) close(inherited);
    int f = open("f", flags, 0600);
    _exit(f < 0 ? errno : 0);
}
static void ended(pid_t child) {
    int status;
    waitpid(child, &status, 0);
    printf("open: %s\n", WEXITSTATUS(status) ? strerrorname_np(WEXITSTATUS(status)) : "ok");
}

int main(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGIO, &action, NULL);
    sigaction(SIGRTMIN, &action, NULL);
    close(open("f", O_CREAT | O_WRONLY, 0644));
    mkdir("d", 0755);
    int r = open("f", O_RDONLY), w, d = open("d", O_RDONLY), p[2];
    pipe(p);
    show(r);
    CALL(fcntl(r, F_SETLEASE, F_UNLCK));
    CALL(fcntl(r, F_SETLEASE, 77));
    CALL(fcntl(d, F_SETLEASE, F_RDLCK));
    CALL(fcntl(p[0], F_SETLEASE, F_RDLCK));
    CALL(fcntl(r, F_SETLEASE, F_WRLCK));
    show(r);
    CALL(fcntl(r, F_SETLEASE, F_RDLCK));
    show(r);
    int r2 = open("f", O_RDONLY);
    CALL(fcntl(r2, F_SETLEASE, F_WRLCK));
    CALL(fcntl(r2, F_SETLEASE, F_RDLCK));
    CALL(fcntl(r, F_SETLEASE, F_WRLCK));
    CALL(fcntl(r2, F_SETLEASE, F_UNLCK));
    close(r2);
    CALL(fcntl(r, F_SETLEASE, F_UNLCK));
    w = open("f", O_RDWR);
    CALL(fcntl(w, F_SETLEASE, F_RDLCK));
    CALL(fcntl(r, F_SETLEASE, F_RDLCK));
    CALL(fcntl(w, F_SETLEASE, F_WRLCK));
    close(r);
    CALL(fcntl(w, F_SETLEASE, F_WRLCK));
    close(w);

    /* A reader goes on, a writer waits until the lease is given up. */
    r = open("f", O_RDONLY);
    CALL(fcntl(r, F_SETLEASE, F_RDLCK));
    ended(opens(O_RDONLY));
    printf("signal: %s\n", got ? "came" : "none");
    ended(opens(O_RDWR | O_NONBLOCK));
    await();
    show(r);
    CALL(fcntl(r, F_SETLEASE, F_RDLCK));
    CALL(fcntl(r, F_SETLEASE, F_UNLCK));
    got = 0;
    CALL(fcntl(r, F_SETLEASE, F_RDLCK));
    pid_t child = opens(O_WRONLY);
    await();
    CALL(waitpid(child, NULL, WNOHANG));
    CALL(fcntl(r, F_SETLEASE, F_UNLCK));
    ended(child);
    close(r);

    /* With a signal of its own, and the descriptor told. */
    w = open("f", O_RDWR);
    CALL(fcntl(w, F_SETSIG, SIGRTMIN));
    CALL(fcntl(w, F_SETLEASE, F_WRLCK));
    got = 0;
    child = opens(O_RDONLY);
    await();
    printf("%s %d %d\n", got == SIGRTMIN ? "own signal" : "another", got_fd == w, got_code);
    show(w);
    CALL(fcntl(w, F_SETLEASE, F_RDLCK));
    CALL(fcntl(w, F_SETLEASE, F_UNLCK));
    ended(child);
    CALL(fcntl(w, F_SETLEASE, F_WRLCK));
    got = 0;
    child = opens(O_WRONLY | O_TRUNC);
    await();
    show(w);
    close(w);
    ended(child);

    /* O_PATH looks at nothing, and truncate(2) is a write. */
    r = open("f", O_RDONLY);
    CALL(fcntl(r, F_SETLEASE, F_RDLCK));
    got = 0;
    ended(opens(O_PATH));
    printf("signal: %s\n", got ? "came" : "none");
    child = fork();
    if (!child) _exit(truncate("f", 0) ? errno : 0);
    await();
    CALL(fcntl(r, F_SETLEASE, F_UNLCK));
    ended(child);

    /* A duplicate is the same description; so is what a child has. */
    CALL(fcntl(r, F_SETLEASE, F_RDLCK));
    int copy = dup(r);
    show(copy);
    child = fork();
    if (!child) {
        show(r);
        CALL(fcntl(r, F_SETLEASE, F_UNLCK));
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    show(r);
    CALL(fcntl(r, F_SETLEASE, F_RDLCK));
    close(r);
    show(copy);
    close(copy);
    if (!getuid()) {
        r = open("f", O_RDONLY);
        if (seteuid(1)) return 1;
        CALL(fcntl(r, F_SETLEASE, F_RDLCK));
    }
    return 0;
}
