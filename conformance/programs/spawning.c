/* vfork, clone with shared memory, pidfds. */
#include "report.h"
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;
static volatile int shared;
static char stack[65536] __attribute__((aligned(16)));

static void status(const char *what, int st) {
    if (WIFSIGNALED(st))
        printf("%s: killed by %d\n", what, WTERMSIG(st));
    else
        printf("%s: exit %d\n", what, WEXITSTATUS(st));
}

static void vfork_shares_memory(void) {
    int e, before = shared;
    pid_t c = vfork();
    if (!c) {
        shared++;
        _exit(3);
    }
    printf("vfork child wrote: %d\n", shared - before);
    YES(waitpid(c, &e, 0) == c);
    status("vfork", e);
    c = vfork();
    if (!c) {
        shared++;
        execl("/bin/sh", "sh", "-c", "exit 6", NULL);
        _exit(1);
    }
    printf("vfork child wrote: %d\n", shared - before);
    waitpid(c, &e, 0);
    status("vfork exec", e);
    c = vfork();
    if (!c) {
        raise(SIGKILL);
        _exit(1);
    }
    waitpid(c, &e, 0);
    status("vfork killed", e);
    pid_t volatile inner = 0;
    c = vfork();
    if (!c) {
        inner = vfork();
        if (!inner) {
            shared += 10;
            execl("/bin/true", "true", NULL);
            _exit(1);
        }
        int st;
        waitpid(inner, &st, 0);
        _exit(shared - before == 12 ? 42 : 43);
    }
    waitpid(c, &e, 0);
    status("vfork in vfork", e);
    c = vfork();
    if (!c) {
        pid_t f = fork();
        if (!f) {
            shared = 1000;
            _exit(9);
        }
        int st;
        waitpid(f, &st, 0);
        _exit(WEXITSTATUS(st));
    }
    waitpid(c, &e, 0);
    status("fork in vfork", e);
    YES(shared - before == 12);
}

static void spawn_reports_exec_errors(void) {
    pid_t p = -1;
    char *av[] = {"x", NULL};
    printf("spawn missing: %s\n", strerrorname_np(posix_spawn(&p, "/nonexistent", 0, 0, av, environ)));
    printf("spawn not executable: %s\n", strerrorname_np(posix_spawn(&p, "/etc/passwd", 0, 0, av, environ)));
    printf("spawn directory: %s\n", strerrorname_np(posix_spawn(&p, "/usr", 0, 0, av, environ)));
    CALL(waitpid(-1, NULL, 0));
    for (int i = 0; i < 20; i++) {
        int e;
        char *tv[] = {"true", NULL};
        if (posix_spawn(&p, "/bin/true", 0, 0, tv, environ) || waitpid(p, &e, 0) != p || e)
            printf("spawn %d failed\n", i);
    }
    FILE *pipe = popen("echo popen works", "r");
    char line[64] = "";
    fgets(line, sizeof line, pipe);
    printf("%s", line);
    printf("pclose %d system %d\n", pclose(pipe), WEXITSTATUS(system("exit 4")));
}

static int child_main(void *argument) {
    shared += (int)(long)argument;
    return getpid() == syscall(SYS_gettid) ? 11 : 12;
}

static int child_execs(void *argument) {
    (void)argument;
    execl("/bin/sh", "sh", "-c", "exit 8", NULL);
    return 1;
}

static int child_outlives(void *argument) {
    int *fds = argument;
    char byte;
    close(fds[1]);
    return read(fds[0], &byte, 1) == 0 ? 0 : 1;
}

static void processes_that_share_memory(void) {
    int e, before = shared;
    pid_t c = clone(child_main, stack + sizeof stack, CLONE_VM | SIGCHLD, (void *)5);
    YES(waitpid(c, &e, 0) == c);
    status("clone vm", e);
    printf("clone vm child wrote: %d\n", shared - before);
    c = clone(child_execs, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
    waitpid(c, &e, 0);
    status("clone vm exec", e);
    c = clone(child_main, stack + sizeof stack, CLONE_VM | CLONE_FILES | CLONE_FS, (void *)1);
    CALL(waitpid(c, &e, 0));
    YES(waitpid(c, &e, __WALL) == c);
    status("clone without a signal", e);
    c = fork();
    if (!c) {
        int fds[2];
        pipe(fds);
        clone(child_outlives, stack + sizeof stack, CLONE_VM | SIGCHLD, fds);
        _exit(0);
    }
    waitpid(c, &e, 0);
    status("a parent that leaves a sharer", e);
}

static void pidfds(void) {
    int e, fd = -1;
    siginfo_t si;
    struct pollfd p = {.events = POLLIN};
    CALL(syscall(SYS_pidfd_open, 0, 0));
    CALL(syscall(SYS_pidfd_open, -1, 0));
    CALL(syscall(SYS_pidfd_open, 999999, 0));
    CALL(syscall(SYS_pidfd_open, getpid(), 1));
    pid_t c = fork();
    if (!c) {
        pause();
        _exit(0);
    }
    p.fd = syscall(SYS_pidfd_open, c, 0);
    YES(p.fd >= 0 && fcntl(p.fd, F_GETFD) == FD_CLOEXEC);
    CALL(poll(&p, 1, 0));
    CALL(syscall(SYS_pidfd_send_signal, p.fd, 0, NULL, 0));
    CALL(syscall(SYS_pidfd_send_signal, p.fd, 99, NULL, 0));
    CALL(syscall(SYS_pidfd_send_signal, p.fd, SIGTERM, NULL, 64));
    CALL(syscall(SYS_pidfd_send_signal, 0, SIGTERM, NULL, 0));
    CALL(syscall(SYS_pidfd_send_signal, p.fd, SIGTERM, NULL, 0));
    CALL(poll(&p, 1, 5000));
    printf("revents %#x\n", p.revents);
    CALL(waitid(P_PIDFD, p.fd, &si, WEXITED));
    printf("%d %d\n", si.si_code, si.si_status);
    CALL(waitid(P_PIDFD, p.fd, &si, WEXITED));
    CALL(waitid(P_PIDFD, 0, &si, WEXITED));
    CALL(syscall(SYS_pidfd_send_signal, p.fd, 0, NULL, 0));
    char byte;
    CALL(read(p.fd, &byte, 1));
    CALL(poll(&p, 1, 0));
    close(p.fd);
    struct {
        unsigned long flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } args = {.flags = CLONE_PIDFD, .pidfd = (unsigned long)&fd, .exit_signal = SIGCHLD};
    c = syscall(SYS_clone3, &args, sizeof args);
    if (!c)
        _exit(fd == -1 ? 5 : 6);
    YES(fd >= 0);
    p.fd = fd;
    CALL(poll(&p, 1, 5000));
    YES(waitpid(c, &e, 0) == c);
    status("clone3 pidfd", e);
    args.pidfd = 1;
    CALL(syscall(SYS_clone3, &args, sizeof args));
    CALL(waitpid(-1, &e, 0));
    int fds[2];
    pipe(fds);
    int self = syscall(SYS_pidfd_open, getpid(), O_NONBLOCK);
    CALL(fcntl(self, F_GETFL));
    int copy = syscall(SYS_pidfd_getfd, self, fds[1], 0);
    YES(copy >= 0);
    CALL(write(copy, "x", 1));
    CALL(read(fds[0], &byte, 1));
    CALL(syscall(SYS_pidfd_getfd, self, 999, 0));
    CALL(syscall(SYS_pidfd_getfd, self, fds[1], 1));
    CALL(syscall(SYS_pidfd_getfd, fds[0], fds[1], 0));
}

int main(void) {
    vfork_shares_memory();
    spawn_reports_exec_errors();
    processes_that_share_memory();
    pidfds();
    return 0;
}
