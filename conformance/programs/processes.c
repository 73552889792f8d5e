/* fork, exec, wait, ids. */
#include "report.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
extern char **environ;
static void status(const char *what, int st) { if (WIFSIGNALED(st)) printf("%s: killed by %d\n", what, WTERMSIG(st)); else printf("%s: exit %d\n", what, WEXITSTATUS(st)); }
int main(int argc, char **argv) {
    if (argc > 1) { printf("argc %d argv1 %s A=%s\n", argc, argv[1], getenv("A")); return 5; }
    int e; pid_t c = fork(); if (!c) _exit(getppid() != 1 ? 7 : 8); YES(waitpid(c, &e, 0) == c); status("fork", e); CALL(waitpid(c, &e, 0)); CALL(waitpid(-1, &e, 0)); CALL(waitpid(-1, &e, WNOHANG)); CALL(waitpid(-1, &e, 0x40));
    c = vfork(); if (!c) { execl("/bin/sh", "sh", "-c", "exit 6", NULL); _exit(1); } waitpid(c, &e, 0); status("vfork", e);
    char *av[] = {argv[0], "x y", NULL}, *en[] = {"A=b", NULL}; c = fork(); if (!c) { execve("/proc/self/exe", av, en); _exit(1); } waitpid(c, &e, 0); status("exec", e);
    CALL(execl("/nonexistent", "x", NULL)); CALL(execl("/etc/passwd", "x", NULL)); CALL(execl("/usr", "x", NULL)); CALL(execve((char *)1, av, en)); CALL(execl("/etc/passwd/x", "x", NULL)); CALL(execl("", "x", NULL));
    int f = open("empty", O_CREAT | O_WRONLY, 0755); close(f); CALL(execl("./empty", "x", NULL)); f = open("text", O_CREAT | O_WRONLY, 0755); write(f, "hello\n", 6); close(f); CALL(execl("./text", "x", NULL)); f = open("elf", O_CREAT | O_WRONLY, 0755); write(f, "\177ELF\2\1\1", 7); close(f); CALL(execl("./elf", "x", NULL));
    f = open("loop", O_CREAT | O_WRONLY, 0755); write(f, "#!./loop\n", 9); close(f); CALL(execl("./loop", "x", NULL)); f = open("script", O_CREAT | O_WRONLY, 0755); write(f, "#!/bin/echo one two  \n", 22); close(f); c = fork(); if (!c) { execl("./script", "zero", "arg", NULL); _exit(1); } waitpid(c, &e, 0); status("script", e);
    static char big[200000]; memset(big, 'a', sizeof big - 1); CALL(execl("/bin/true", "x", big, NULL)); char **many = malloc(sizeof(char *) * 300001); for (int i = 0; i < 300000; i++) many[i] = "0123456789"; many[300000] = 0; CALL(execve("/bin/true", many, en));
    pid_t p; char *tv[] = {"true", NULL}; CALL(posix_spawn(&p, "/bin/true", 0, 0, tv, environ)); waitpid(p, &e, 0); status("spawn", e);
    int fds[2]; pipe(fds); fcntl(fds[1], F_SETFD, FD_CLOEXEC); c = fork(); if (!c) { char cmd[64]; sprintf(cmd, "echo x >&%d", fds[1]); execl("/bin/sh", "sh", "-c", cmd, NULL); } close(fds[1]); char b; CALL(read(fds[0], &b, 1)); waitpid(c, &e, 0);
    YES(getpgrp() == getpgid(0)); c = fork(); if (!c) { YES(setsid() == getpid()); CALL(setsid()); YES(getsid(0) == getpid()); CALL(setpgid(0, 0)); _exit(0); } waitpid(c, &e, 0); CALL(setpgid(0, 999999)); CALL(getpgid(999999)); CALL(setpgid(-1, 0));
    siginfo_t si; c = fork(); if (!c) _exit(3); CALL(waitid(P_PID, c, &si, WEXITED | WNOWAIT)); printf("%d %d\n", si.si_code, si.si_status); CALL(waitid(P_PID, c, &si, WEXITED)); CALL(waitid(P_PID, c, &si, WEXITED)); CALL(waitid(P_ALL, 0, &si, 0));
    CALL(unshare(CLONE_NEWNS) == -1 || 1); struct rlimit rl; CALL(getrlimit(RLIMIT_NOFILE, &rl)); rl.rlim_cur = 20; CALL(setrlimit(RLIMIT_NOFILE, &rl)); int n = 0; while (dup(0) >= 0) n++; printf("last %s\n", strerrorname_np(errno)); CALL(close_range(3, ~0u, 0)); rl.rlim_cur = rl.rlim_max + (rl.rlim_max != RLIM_INFINITY); CALL(getrlimit(99, &rl)); 
    cpu_set_t cs; YES(sched_getaffinity(0, sizeof cs, &cs) == 0 && CPU_COUNT(&cs) > 0); CALL(sched_getscheduler(0)); CALL(sched_get_priority_max(SCHED_FIFO)); CALL(sched_get_priority_min(99)); CALL(sched_yield());
    c = fork(); if (!c) { if (!fork()) { usleep(50000); _exit(0); } _exit(0); } waitpid(c, &e, 0); CALL(waitpid(-1, &e, 0));
    CALL(syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0, 0, 0)); CALL(syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0)); struct { unsigned long w[11]; } ca = {{0}}; CALL(syscall(SYS_clone3, &ca, 8)); ca.w[4] = 200; CALL(syscall(SYS_clone3, &ca, sizeof ca));
    for (int i = 0; i < 50; i++) if (!fork()) _exit(i); int total = 0; while (wait(&e) > 0) total += WEXITSTATUS(e); printf("sum %d\n", total);
    return 0;
}
