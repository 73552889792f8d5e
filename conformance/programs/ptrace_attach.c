/* ptrace: attaching to and seizing processes that run, sleep and are stopped; group-stops; who may. */
#include "report.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>

static volatile int *flag; static int status, lines[2];
static void show(const char *what, long pid) {
    printf("%s: ", what);
    if (pid <= 0) printf("%ld %s\n", pid, pid ? strerrorname_np(errno) : "");
    else if (WIFCONTINUED(status)) printf("continued\n");
    else if (WIFSTOPPED(status)) printf("stopped by %d event %d\n", WSTOPSIG(status), status >> 16);
    else if (WIFEXITED(status)) printf("exit %d\n", WEXITSTATUS(status));
    else printf("killed by %d\n", WTERMSIG(status));
}
static void await(const char *what, pid_t pid) { show(what, waitpid(pid, &status, __WALL)); }
static void go(int request, pid_t pid, long signal) { if (ptrace(request, pid, 0, signal)) printf("request %d: %s\n", request, strerrorname_np(errno)); }
static pid_t start(void (*run)(void)) { *flag = 0; pid_t pid = fork(); if (pid == 0) { prctl(PR_SET_PDEATHSIG, SIGKILL); run(); _exit(7); } while (*flag == 0) usleep(1000); usleep(10000); return pid; }
static void end(pid_t pid) { kill(pid, SIGKILL); await("end", pid); }
static void state(pid_t pid) {
    char path[64], line[256]; sprintf(path, "/proc/%d/status", pid); FILE *f = fopen(path, "r");
    while (fgets(line, sizeof line, f)) { int tracer; if (!strncmp(line, "State:", 6) && line[7] != 'R' && line[7] != 'S') fputs(line, stdout); if (sscanf(line, "TracerPid: %d", &tracer) == 1) printf("traced by %s\n", tracer == getpid() ? "us" : tracer ? "another" : "nobody"); }
    fclose(f);
}
static void spins(void) { *flag = 1; while (*flag != 9) ; _exit(11); }
static void reads(void) { char c; *flag = 1; long n = read(lines[0], &c, 1); printf("read %ld %s\n", n, n < 0 ? strerrorname_np(errno) : ""); fflush(stdout); _exit(n == 1 ? c : 100); }
static void sleeps(void) { *flag = 1; struct timespec t = {0, 300000000}; long n = nanosleep(&t, 0); printf("slept %ld\n", n); fflush(stdout); _exit(3); }
static void polls(void) { *flag = 1; struct pollfd p = {lines[0], POLLIN, 0}; long n = poll(&p, 1, 300); printf("polled %ld %s\n", n, n < 0 ? strerrorname_np(errno) : ""); fflush(stdout); _exit(3); }
static void epolls(void) { int e = epoll_create1(0); *flag = 1; struct epoll_event v; long n = epoll_wait(e, &v, 1, 300); printf("epoll %ld %s\n", n, n < 0 ? strerrorname_np(errno) : ""); fflush(stdout); _exit(3); }
static void stops(void) { *flag = 1; raise(SIGSTOP); printf("on\n"); fflush(stdout); for (;;) pause(); }
static void pauses(void) { *flag = 1; for (;;) pause(); }

static void attach(void) {
    printf("-- attach\n"); pid_t pid = start(spins); state(pid); CALL(ptrace(PTRACE_CONT, pid, 0, 0)); CALL(ptrace(PTRACE_ATTACH, pid, 0, 0)); CALL(ptrace(PTRACE_ATTACH, pid, 0, 0)); await("stop", pid); state(pid);
    siginfo_t si; CALL(ptrace(PTRACE_GETSIGINFO, pid, 0, &si)); printf("signo %d code %x pid %d\n", si.si_signo, si.si_code, si.si_pid); struct user_regs_struct r; CALL(ptrace(PTRACE_GETREGS, pid, 0, &r)); YES(r.orig_rax == -1ull); YES(r.rip >= (unsigned long)spins && r.rip < (unsigned long)spins + 200);
    CALL(ptrace(PTRACE_SEIZE, pid, 0, 0)); for (int i = 0; i < 5; i++) { go(PTRACE_SINGLESTEP, pid, 0); waitpid(pid, &status, 0); if (WSTOPSIG(status) != SIGTRAP) printf("not a step\n"); } CALL(ptrace(PTRACE_INTERRUPT, pid, 0, 0)); CALL(ptrace(PTRACE_DETACH, pid, 0, 65)); CALL(ptrace(PTRACE_DETACH, pid, 0, 0)); CALL(ptrace(PTRACE_DETACH, pid, 0, 0)); state(pid); *flag = 9; await("end", pid);
    pid = start(spins); CALL(ptrace(PTRACE_ATTACH, pid, 0, 0)); await("stop", pid); CALL(ptrace(PTRACE_DETACH, pid, 0, SIGUSR1)); await("end", pid);
    pid = start(spins); CALL(ptrace(PTRACE_ATTACH, pid, 0, 0)); await("stop", pid); go(PTRACE_CONT, pid, 0); kill(pid, SIGUSR2); await("signal", pid); CALL(ptrace(PTRACE_GETREGS, pid, 0, &r)); go(PTRACE_CONT, pid, 0); kill(pid, SIGTERM); await("signal", pid); go(PTRACE_CONT, pid, SIGTERM); await("end", pid);
}
static void in_calls(void) {
    void (*runs[])(void) = {reads, sleeps, polls, epolls};
    for (int i = 0; i < 4; i++) {
        printf("-- in call %d\n", i); pipe(lines); pid_t pid = start(runs[i]); CALL(ptrace(PTRACE_ATTACH, pid, 0, 0)); await("stop", pid); struct user_regs_struct r; ptrace(PTRACE_GETREGS, pid, 0, &r); printf("call %lld rax %lld\n", r.orig_rax, r.rax); go(PTRACE_CONT, pid, 0); usleep(20000); if (i == 0) write(lines[1], "A", 1); await("end", pid);
        pid = start(runs[i]); CALL(ptrace(PTRACE_SEIZE, pid, 0, 0)); CALL(ptrace(PTRACE_INTERRUPT, pid, 0, 0)); await("stop", pid); ptrace(PTRACE_GETREGS, pid, 0, &r); printf("call %lld rax %lld\n", r.orig_rax, r.rax); go(PTRACE_DETACH, pid, 0); usleep(20000); if (i == 0) write(lines[1], "B", 1); await("end", pid); close(lines[0]); close(lines[1]);
    }
}
static void seize(void) {
    printf("-- seize\n"); pid_t pid = start(spins); CALL(ptrace(PTRACE_SEIZE, pid, 1, 0)); CALL(ptrace(PTRACE_SEIZE, pid, 0, 0x40000000)); CALL(ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD)); show("nothing", waitpid(pid, &status, __WALL | WNOHANG)); CALL(ptrace(PTRACE_INTERRUPT, pid, 0, 0)); await("interrupt", pid); siginfo_t si; CALL(ptrace(PTRACE_GETSIGINFO, pid, 0, &si)); printf("signo %d code %x own %d\n", si.si_signo, si.si_code, si.si_pid == pid); CALL(ptrace(PTRACE_INTERRUPT, pid, 0, 0)); go(PTRACE_CONT, pid, 0); await("again", pid); go(PTRACE_CONT, pid, 0);
    kill(pid, SIGSTOP); await("signal", pid); CALL(ptrace(PTRACE_LISTEN, pid, 0, 0)); go(PTRACE_CONT, pid, SIGSTOP); await("group-stop", pid); CALL(ptrace(PTRACE_GETSIGINFO, pid, 0, &si)); printf("signo %d code %x\n", si.si_signo, si.si_code); state(pid); CALL(ptrace(PTRACE_LISTEN, pid, 0, 0)); CALL(ptrace(PTRACE_LISTEN, pid, 0, 0)); CALL(ptrace(PTRACE_GETSIGINFO, pid, 0, &si)); show("nothing", waitpid(pid, &status, __WALL | WNOHANG)); kill(pid, SIGCONT); await("notified", pid); go(PTRACE_CONT, pid, 0); await("signal", pid); go(PTRACE_CONT, pid, SIGCONT); CALL(ptrace(PTRACE_INTERRUPT, pid, 0, 0)); await("runs", pid); go(PTRACE_CONT, pid, 0);
    kill(pid, SIGSTOP); await("signal", pid); go(PTRACE_CONT, pid, SIGSTOP); await("group-stop", pid); CALL(ptrace(PTRACE_LISTEN, pid, 0, 0)); CALL(ptrace(PTRACE_INTERRUPT, pid, 0, 0)); await("interrupt", pid); go(PTRACE_CONT, pid, 0); usleep(10000); state(pid); *flag = 9; await("end", pid);
    pid = start(spins); CALL(ptrace(PTRACE_SEIZE, pid, 0, 0)); kill(pid, SIGSTOP); await("signal", pid); go(PTRACE_CONT, pid, SIGSTOP); await("group-stop", pid); go(PTRACE_DETACH, pid, 0); show("as parent", waitpid(pid, &status, WUNTRACED | WNOHANG) ? 1 : 0); usleep(20000); state(pid); kill(pid, SIGCONT); show("continued", waitpid(pid, &status, WCONTINUED)); end(pid);
}
static void groups(void) {
    printf("-- group-stop\n"); pid_t pid = start(spins); CALL(ptrace(PTRACE_ATTACH, pid, 0, 0)); await("stop", pid); go(PTRACE_CONT, pid, SIGSTOP); await("group-stop", pid); siginfo_t si; CALL(ptrace(PTRACE_GETSIGINFO, pid, 0, &si)); CALL(ptrace(PTRACE_LISTEN, pid, 0, 0)); go(PTRACE_CONT, pid, 0); usleep(10000); state(pid); *flag = 9; await("end", pid);
    printf("-- attached while stopped\n"); pid = start(stops); show("stopped", waitpid(pid, &status, WUNTRACED)); CALL(ptrace(PTRACE_SEIZE, pid, 0, 0)); await("seized", pid); CALL(ptrace(PTRACE_GETSIGINFO, pid, 0, &si)); printf("signo %d code %x\n", si.si_signo, si.si_code); state(pid); go(PTRACE_DETACH, pid, 0); usleep(20000); state(pid); CALL(ptrace(PTRACE_ATTACH, pid, 0, 0)); await("attached", pid); kill(pid, SIGCONT); go(PTRACE_CONT, pid, 0); await("signal", pid); go(PTRACE_CONT, pid, SIGCONT); usleep(20000); end(pid);
    printf("-- continued by the tracer\n"); pid = start(stops); show("stopped", waitpid(pid, &status, WUNTRACED)); CALL(ptrace(PTRACE_SEIZE, pid, 0, 0)); await("seized", pid); go(PTRACE_CONT, pid, 0); usleep(20000); state(pid); end(pid);
}
static int caught; static siginfo_t last;
static void child_handler(int number, siginfo_t *info, void *context) { caught++; last = *info; }
static void waits(void) {
    printf("-- waits\n"); struct sigaction sa = {.sa_sigaction = child_handler, .sa_flags = SA_SIGINFO | SA_RESTART}; sigaction(SIGCHLD, &sa, 0); pid_t pid = start(spins); caught = 0; CALL(ptrace(PTRACE_ATTACH, pid, 0, 0)); siginfo_t si; CALL(waitid(P_PID, pid, &si, WSTOPPED | WNOWAIT)); printf("code %d status %x\n", si.si_code, si.si_status); while (!caught) usleep(1000); printf("SIGCHLD code %d status %x own %d\n", last.si_code, last.si_status, last.si_pid == pid); CALL(waitid(P_PID, pid, &si, WSTOPPED | WNOHANG)); memset(&si, 0, sizeof si); CALL(waitid(P_PID, pid, &si, WSTOPPED | WNOHANG)); printf("%d\n", si.si_pid); CALL(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXIT)); sa.sa_flags |= SA_NOCLDSTOP; sigaction(SIGCHLD, &sa, 0); caught = 0; *flag = 9; go(PTRACE_CONT, pid, 0); CALL(waitid(P_PID, pid, &si, WEXITED | WSTOPPED)); printf("code %d status %x caught %d\n", si.si_code, si.si_status, caught); go(PTRACE_CONT, pid, 0); await("end", pid); signal(SIGCHLD, SIG_DFL);
}
static void masks(void) {
    printf("-- masks\n"); pid_t pid = start(pauses); CALL(ptrace(PTRACE_ATTACH, pid, 0, 0)); await("stop", pid); unsigned long mask = 1; CALL(ptrace(PTRACE_GETSIGMASK, pid, 8, &mask)); printf("%lx\n", mask); CALL(ptrace(PTRACE_GETSIGMASK, pid, 7, &mask)); mask = 1ul << (SIGUSR1 - 1) | 1ul << 39 | 1ul << (SIGKILL - 1); CALL(ptrace(PTRACE_SETSIGMASK, pid, 8, &mask)); CALL(ptrace(PTRACE_GETSIGMASK, pid, 8, &mask)); printf("%lx\n", mask); CALL(ptrace(PTRACE_SETSIGMASK, pid, 8, 8));
    sigqueue(pid, 40, (union sigval){5}); sigqueue(pid, 40, (union sigval){6}); kill(pid, SIGUSR1); syscall(SYS_tkill, pid, SIGUSR1); siginfo_t si[8]; struct __ptrace_peeksiginfo_args a = {0, PTRACE_PEEKSIGINFO_SHARED, 8}; long n = ptrace(PTRACE_PEEKSIGINFO, pid, &a, si); printf("shared %ld\n", n); for (int i = 0; i < n; i++) printf("%d %d\n", si[i].si_signo, si[i].si_code); a.off = 1; a.nr = 1; CALL(ptrace(PTRACE_PEEKSIGINFO, pid, &a, si)); printf("%d\n", si[0].si_value.sival_int); a.flags = 0; a.off = 0; n = ptrace(PTRACE_PEEKSIGINFO, pid, &a, si); printf("own %ld %d %d\n", n, si[0].si_signo, si[0].si_code); a.flags = 2; CALL(ptrace(PTRACE_PEEKSIGINFO, pid, &a, si)); a.flags = 0; a.nr = -1; CALL(ptrace(PTRACE_PEEKSIGINFO, pid, &a, si)); a.off = 5; a.nr = 1; CALL(ptrace(PTRACE_PEEKSIGINFO, pid, &a, si)); CALL(ptrace(PTRACE_PEEKSIGINFO, pid, 8, si));
    mask = 0; CALL(ptrace(PTRACE_SETSIGMASK, pid, 8, &mask)); go(PTRACE_CONT, pid, 0); await("unblocked", pid); go(PTRACE_CONT, pid, 0); await("next", pid); end(pid);
}
static void may(void) {
    printf("-- who may\n"); fflush(stdout); pid_t root = start(pauses), user = fork();
    if (user == 0) {
        CALL(setresgid(1000, 1000, 1000)); CALL(setresuid(1000, 1000, 1000)); CALL(ptrace(PTRACE_ATTACH, root, 0, 0)); char path[64]; sprintf(path, "/proc/%d/mem", root); CALL(open(path, O_RDONLY)); CALL(prctl(PR_GET_DUMPABLE)); prctl(PR_SET_DUMPABLE, 1);
        pid_t pid = start(pauses); CALL(ptrace(PTRACE_SEIZE, pid, 0, 0)); end(pid); prctl(PR_SET_DUMPABLE, 0); pid = start(pauses); CALL(ptrace(PTRACE_SEIZE, pid, 0, 0)); end(pid); pid = fork(); if (pid == 0) { CALL(ptrace(PTRACE_TRACEME, 0, 0, 0)); _exit(0); } await("traceme", pid); fflush(stdout); _exit(0);
    }
    waitpid(user, &status, 0); end(root); CALL(ptrace(PTRACE_ATTACH, 0, 0, 0)); CALL(ptrace(PTRACE_ATTACH, -1, 0, 0));
}
static volatile int tids[3];
static void *worker(void *argument) { tids[(long)argument] = gettid(); (*flag)++; for (;;) if (*flag == 9) return 0; }
static void many(void) { tids[0] = gettid(); pthread_t t[2]; for (long i = 1; i < 3; i++) pthread_create(&t[i - 1], 0, worker, (void *)i); while (*flag < 2) ; memcpy((void *)(flag + 1), (void *)tids, sizeof tids); *flag = 3; for (int i = 0; i < 2; i++) pthread_join(t[i], 0); _exit(14); }
static void threads(void) {
    printf("-- threads\n"); pid_t pid = start(many); while (*flag != 3) usleep(1000); int t[3]; memcpy(t, (void *)(flag + 1), sizeof t); for (int i = 0; i < 3; i++) { CALL(ptrace(PTRACE_ATTACH, t[i], 0, 0)); await("stop", t[i]); } struct user_regs_struct r; for (int i = 0; i < 3; i++) CALL(ptrace(PTRACE_GETREGS, t[i], 0, &r)); state(t[1]); for (int i = 0; i < 3; i++) go(PTRACE_CONT, t[i], 0); usleep(1000); syscall(SYS_tkill, t[1], SIGUSR1); await("signal", t[1]); go(PTRACE_CONT, t[1], 0); kill(pid, SIGSTOP); int stopped = 0; pid_t who = waitpid(-1, &status, __WALL); show("signal", who); go(PTRACE_CONT, who, SIGSTOP); for (int i = 0; i < 3; i++) { who = waitpid(-1, &status, __WALL); stopped += WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP; } printf("stopped %d\n", stopped); for (int i = 0; i < 3; i++) go(PTRACE_CONT, t[i], 0); *flag = 9; int ends = 0; for (int i = 1; i < 3; i++) ends += waitpid(t[i], &status, __WALL) == t[i] && WIFEXITED(status); printf("ends %d\n", ends); await("end", pid);
}
int main(void) { setvbuf(stdout, 0, _IONBF, 0); flag = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); attach(); in_calls(); seize(); groups(); waits(); masks(); may(); threads(); return 0; }
