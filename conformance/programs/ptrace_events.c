/* ptrace: events (fork, vfork, clone, exec, exit), threads, ends of tracers and tracees. */
#include "report.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

static pid_t tracee, other;
static const char *name(pid_t pid) { return pid == tracee ? "tracee" : pid == other ? "other" : pid == 0 ? "nobody" : pid == -1 ? "error" : "unknown"; }
static int status;
static void show(const char *what, pid_t pid) {
    printf("%s: %s ", what, name(pid));
    if (pid <= 0) printf("%s\n", pid ? strerrorname_np(errno) : "");
    else if (WIFSTOPPED(status)) printf("stopped by %d event %d\n", WSTOPSIG(status), status >> 16);
    else if (WIFEXITED(status)) printf("exit %d\n", WEXITSTATUS(status));
    else printf("killed by %d\n", WTERMSIG(status));
}
static void await(const char *what, pid_t pid) { show(what, waitpid(pid, &status, __WALL)); }
static void go(int request, pid_t pid, long signal) { if (ptrace(request, pid, 0, signal)) printf("request %d: %s\n", request, strerrorname_np(errno)); }
static unsigned long message(pid_t pid) { unsigned long m = -1; if (ptrace(PTRACE_GETEVENTMSG, pid, 0, &m)) printf("message: %s\n", strerrorname_np(errno)); return m; }
static void start(void (*run)(void), long options) {
    tracee = other = 0; tracee = fork();
    if (tracee == 0) { ptrace(PTRACE_TRACEME, 0, 0, 0); raise(SIGSTOP); run(); _exit(7); }
    await("start", tracee); if (ptrace(PTRACE_SETOPTIONS, tracee, 0, options)) perror("options");
}
static void forks(void) { pid_t p = fork(); if (p == 0) { syscall(SYS_getppid); _exit(3); } int st, w = waitpid(p, &st, 0); printf("waited %d status %x\n", w == p, st); fflush(stdout); _exit(4); }
static void fork_events(void) {
    printf("-- fork\n"); start(forks, PTRACE_O_TRACEFORK | PTRACE_O_TRACEEXIT); go(PTRACE_CONT, tracee, 0); await("fork", tracee); other = message(tracee); YES(other > 0 && other != tracee);
    siginfo_t si; ptrace(PTRACE_GETSIGINFO, tracee, 0, &si); printf("code %x\n", si.si_code); struct user_regs_struct r; ptrace(PTRACE_GETREGS, tracee, 0, &r); printf("rax %lld\n", r.rax);
    await("child", other); ptrace(PTRACE_GETSIGINFO, other, 0, &si); printf("signo %d code %x\n", si.si_signo, si.si_code); ptrace(PTRACE_GETREGS, other, 0, &r); printf("child's rax %lld\n", r.rax);
    go(PTRACE_SYSCALL, other, 0); await("child", other); ptrace(PTRACE_GETREGS, other, 0, &r); printf("call %lld\n", r.orig_rax); go(PTRACE_CONT, other, 0); await("child", other); printf("status %lx\n", message(other)); go(PTRACE_CONT, tracee, 0); go(PTRACE_CONT, other, 0); await("child", other);
    await("parent", tracee); go(PTRACE_CONT, tracee, 17); await("parent", tracee); printf("status %lx\n", message(tracee)); go(PTRACE_CONT, tracee, 0); await("parent", tracee); await("none", -1);
}
static void vforks(void) { pid_t p = vfork(); if (p == 0) _exit(3); int st; waitpid(p, &st, 0); _exit(4); }
static void vfork_events(void) {
    printf("-- vfork\n"); start(vforks, PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE); go(PTRACE_CONT, tracee, 0); await("vfork", tracee); other = message(tracee); await("child", other); go(PTRACE_CONT, tracee, 0); printf("parent waits: %s\n", name(waitpid(tracee, &status, WNOHANG | __WALL))); go(PTRACE_CONT, other, 0); await("child", other); await("done", tracee); YES(message(tracee) == (unsigned)other); go(PTRACE_CONT, tracee, 0); await("signal", tracee); go(PTRACE_CONT, tracee, 0); await("parent", tracee);
}
static void execs(void) { execl("/bin/sh", "sh", "-c", "exit 6", NULL); }
static void exec_events(void) {
    printf("-- exec\n"); start(execs, 0); go(PTRACE_CONT, tracee, 0); await("plain", tracee); siginfo_t si; ptrace(PTRACE_GETSIGINFO, tracee, 0, &si); printf("code %d own %d\n", si.si_code, si.si_pid == tracee); struct user_regs_struct r; ptrace(PTRACE_GETREGS, tracee, 0, &r); printf("rax %lld rdi %lld\n", r.rax, r.rdi); go(PTRACE_CONT, tracee, 0); await("end", tracee);
    start(execs, PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD); go(PTRACE_SYSCALL, tracee, 0); await("entry", tracee); go(PTRACE_SYSCALL, tracee, 0); await("event", tracee); YES(message(tracee) == (unsigned)tracee); ptrace(PTRACE_GETREGS, tracee, 0, &r); printf("call %lld rax %lld\n", r.orig_rax, r.rax); go(PTRACE_SYSCALL, tracee, 0); await("exit", tracee); ptrace(PTRACE_GETREGS, tracee, 0, &r); printf("call %lld rax %lld\n", r.orig_rax, r.rax); go(PTRACE_SYSCALL, tracee, 0); await("next", tracee); ptrace(PTRACE_GETREGS, tracee, 0, &r); printf("call %lld rax %lld\n", r.orig_rax, r.rax); go(PTRACE_CONT, tracee, 0); await("end", tracee);
    start(execs, PTRACE_O_TRACEEXEC); go(PTRACE_CONT, tracee, 0); await("event", tracee); go(PTRACE_DETACH, tracee, 0); await("end", tracee);
}
static void vfork_execs(void) { pid_t p = vfork(); if (p == 0) { execl("/bin/true", "true", NULL); _exit(1); } int st; waitpid(p, &st, 0); _exit(st ? 9 : 8); }
static void vfork_exec_events(void) {
    printf("-- vfork and exec\n"); start(vfork_execs, PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD); go(PTRACE_CONT, tracee, 0); await("vfork", tracee); other = message(tracee); await("child", other); go(PTRACE_CONT, tracee, 0); go(PTRACE_SYSCALL, other, 0); await("entry", other); go(PTRACE_SYSCALL, other, 0); await("exec", other); struct user_regs_struct r; ptrace(PTRACE_GETREGS, other, 0, &r); printf("call %lld rax %lld\n", r.orig_rax, r.rax); errno = 0; ptrace(PTRACE_PEEKTEXT, other, r.rip, 0); printf("peek %d\n", errno); go(PTRACE_SYSCALL, other, 0); await("exit", other); ptrace(PTRACE_GETREGS, other, 0, &r); printf("call %lld rax %lld\n", r.orig_rax, r.rax); go(PTRACE_CONT, other, 0); await("child", other); await("signal", tracee); go(PTRACE_CONT, tracee, 0); await("parent", tracee);
}
static void *quick(void *argument) { syscall(SYS_getuid); return argument; }
static void threads(void) { pthread_t t; pthread_create(&t, 0, quick, 0); pthread_join(t, 0); usleep(50000); _exit(5); }
static void clone_events(void) {
    printf("-- clone\n"); start(threads, PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXIT); go(PTRACE_CONT, tracee, 0); await("clone", tracee); other = message(tracee); await("thread", other); struct user_regs_struct r; ptrace(PTRACE_GETREGS, other, 0, &r); printf("rax %lld\n", r.rax); char path[64]; sprintf(path, "/proc/%d/task/%d/stat", tracee, other); FILE *f = fopen(path, "r"); char state = 0; fscanf(f, "%*d %*s %c", &state); fclose(f); printf("state %c\n", state); go(PTRACE_CONT, tracee, 0); go(PTRACE_CONT, other, 0); await("thread ends", other); printf("status %lx\n", message(other)); go(PTRACE_CONT, other, 0); await("thread", other); go(PTRACE_CONT, other, 0); await("process ends", tracee); printf("status %lx\n", message(tracee)); go(PTRACE_CONT, tracee, 0); await("process", tracee);
}
static void *exec_thread(void *argument) { usleep(20000); execl("/bin/sh", "sh", "-c", "exit 9", NULL); return argument; }
static void exec_in_thread(void) { pthread_t t; pthread_create(&t, 0, exec_thread, 0); for (;;) pause(); }
static void exec_of_thread(void) {
    printf("-- exec of another thread\n"); start(exec_in_thread, PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC); go(PTRACE_CONT, tracee, 0); await("clone", tracee); other = message(tracee); await("thread", other); go(PTRACE_CONT, tracee, 0); go(PTRACE_CONT, other, 0); await("exec", tracee); YES(message(tracee) == (unsigned)other); show("gone", waitpid(other, &status, __WALL)); go(PTRACE_CONT, tracee, 0); await("end", tracee);
}
static void killed(void) {
    printf("-- killed\n"); start(forks, PTRACE_O_TRACEEXIT); kill(tracee, SIGKILL); await("killed in a stop", tracee); if (WIFSTOPPED(status)) { printf("status %lx\n", message(tracee)); go(PTRACE_CONT, tracee, 0); await("end", tracee); }
    start(forks, 0); kill(tracee, SIGKILL); await("killed", tracee); printf("%ld %s\n", ptrace(PTRACE_CONT, tracee, 0, 0), strerrorname_np(errno));
}
static void tracer_ends(int kill_it) {
    printf("-- the tracer ends, %d\n", kill_it); int *flag = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); tracee = fork();
    if (tracee == 0) { while (*flag < 2) usleep(1000); _exit(12); }
    pid_t tracer = fork(); if (tracer == 0) { YES(ptrace(PTRACE_SEIZE, tracee, 0, kill_it ? PTRACE_O_EXITKILL : 0) == 0); ptrace(PTRACE_INTERRUPT, tracee, 0, 0); await("interrupted", tracee); *flag = 1; fflush(stdout); _exit(0); }
    waitpid(tracer, &status, 0); *flag = 2; await("end", tracee);
}
static void zombie(void) {
    printf("-- whose child\n"); int gate[2], done[2]; pipe(gate); pipe(done); char c; tracee = fork(); if (tracee == 0) { close(gate[1]); read(gate[0], &c, 1); _exit(13); }
    pid_t tracer = fork(); if (tracer == 0) { close(gate[0]); YES(ptrace(PTRACE_SEIZE, tracee, 0, 0) == 0); close(gate[1]); siginfo_t si; memset(&si, 0, sizeof si); CALL(waitid(P_PID, tracee, &si, WEXITED | WNOWAIT)); printf("code %d status %d\n", si.si_code, si.si_status); fflush(stdout); write(done[1], "x", 1); usleep(50000); if (waitpid(tracee, &status, __WALL) != tracee) _exit(1); _exit(WEXITSTATUS(status)); }
    close(gate[1]); read(done[0], &c, 1); printf("parent: %s\n", name(waitpid(tracee, &status, WNOHANG))); fflush(stdout); if (waitpid(tracee, &status, 0) != tracee) printf("not waited\n"); int own = status; waitpid(tracer, &status, 0); printf("parent %x tracer %x\n", own, status);
}
static void ignored(void) { signal(SIGCHLD, SIG_IGN); start(forks, 0); ptrace(PTRACE_KILL, tracee, 0, 0); await("SIGCHLD ignored", tracee); signal(SIGCHLD, SIG_DFL); }
int main(void) { fork_events(); vfork_events(); exec_events(); vfork_exec_events(); clone_events(); exec_of_thread(); killed(); tracer_ends(0); tracer_ends(1); zombie(); ignored(); return 0; }
