/* Signals. */
#include "report.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
static volatile int count, last, depth, code; static volatile long value; static sigjmp_buf back;
static void plain(int s) { count++; last = s; }
static void info(int s, siginfo_t *i, void *c) { count++; last = s; code = i->si_code; value = (long)i->si_value.sival_ptr; printf("signal %d code %d from me %d\n", s, i->si_code, i->si_pid == getpid()); }
static void jump(int s, siginfo_t *i, void *c) { ucontext_t *u = c; printf("fault %d code %d trap %d\n", s, i->si_code, (int)u->uc_mcontext.gregs[REG_TRAPNO]); siglongjmp(back, 1); }
static void skip(int s, siginfo_t *i, void *c) { ucontext_t *u = c; u->uc_mcontext.gregs[REG_RIP] += 2; u->uc_mcontext.gregs[REG_RBX] = 42; }
static void on_stack(int s) { char here; stack_t st; sigaltstack(0, &st); printf("on stack %d flags %d\n", &here >= (char *)st.ss_sp && &here < (char *)st.ss_sp + st.ss_size, st.ss_flags); }
static void nest(int s) { printf("in %d\n", s); if (s == SIGUSR1) raise(SIGUSR2); printf("out %d\n", s); }
static void try(int sig, void (*f)(void)) { struct sigaction a = {.sa_sigaction = jump, .sa_flags = SA_SIGINFO}; sigaction(sig, &a, 0); if (!sigsetjmp(back, 1)) f(); }
static void segv(void) { *(volatile int *)8 = 1; } static void fpe(void) { volatile int z = 0; printf("%d\n", 1 / z); } static void ill(void) { __asm__ volatile("ud2"); } static void trap(void) { __asm__ volatile("int3"); } static void gp(void) { *(volatile int *)0x8000000000000000ul = 1; }
static void status(const char *what, int st) { if (WIFSIGNALED(st)) printf("%s: killed by %d\n", what, WTERMSIG(st)); else if (WIFEXITED(st)) printf("%s: exit %d\n", what, WEXITSTATUS(st)); else printf("%s: %x\n", what, st); }
int main(void) {
    struct sigaction a = {.sa_handler = plain}, old; sigset_t set, o;
    CALL(sigaction(SIGUSR1, &a, &old)); YES(old.sa_handler == SIG_DFL); CALL(raise(SIGUSR1)); printf("%d %d\n", count, last);
    CALL(sigaction(SIGKILL, &a, 0)); CALL(sigaction(0, &a, 0)); CALL(sigaction(65, &a, 0)); CALL(kill(getpid(), 65)); CALL(kill(999999, 0)); CALL(kill(getpid(), 0));
    sigemptyset(&set); sigaddset(&set, SIGUSR1); CALL(sigprocmask(SIG_BLOCK, &set, &o)); raise(SIGUSR1); raise(SIGUSR1); printf("blocked %d\n", count); sigpending(&o); YES(sigismember(&o, SIGUSR1)); CALL(sigprocmask(SIG_UNBLOCK, &set, 0)); printf("then %d\n", count);
    CALL(sigprocmask(77, &set, 0)); a.sa_sigaction = info; a.sa_flags = SA_SIGINFO; sigaction(SIGRTMIN, &a, 0); sigaction(SIGUSR2, &a, 0);
    union sigval v = {.sival_int = 7}; sigemptyset(&set); sigaddset(&set, SIGRTMIN); sigprocmask(SIG_BLOCK, &set, 0); for (int i = 0; i < 3; i++) { v.sival_int = i; sigqueue(getpid(), SIGRTMIN, v); } count = 0; sigprocmask(SIG_UNBLOCK, &set, 0); printf("queued %d\n", count); kill(getpid(), SIGUSR2);
    try(SIGSEGV, segv); try(SIGSEGV, gp); try(SIGFPE, fpe); try(SIGILL, ill); try(SIGTRAP, trap);
    a.sa_sigaction = skip; sigaction(SIGILL, &a, 0); long rbx; __asm__ volatile("ud2; mov %%rbx, %0" : "=r"(rbx)::"rbx"); printf("rbx %ld\n", rbx);
    stack_t st = {.ss_sp = malloc(65536), .ss_size = 65536}, so; CALL(sigaltstack(&st, &so)); YES(so.ss_flags == SS_DISABLE); a.sa_handler = on_stack; a.sa_flags = SA_ONSTACK; sigaction(SIGUSR1, &a, 0); raise(SIGUSR1); st.ss_size = 100; CALL(sigaltstack(&st, 0));
    a.sa_handler = nest; a.sa_flags = 0; sigaction(SIGUSR1, &a, 0); sigaction(SIGUSR2, &a, 0); raise(SIGUSR1); a.sa_flags = SA_RESETHAND; sigaction(SIGUSR2, &a, 0); raise(SIGUSR2); sigaction(SIGUSR2, 0, &old); YES(old.sa_handler == SIG_DFL);
    a.sa_handler = plain; a.sa_flags = 0; sigaction(SIGALRM, &a, 0); struct itimerval it = {.it_value = {0, 30000}}; count = 0; CALL(setitimer(ITIMER_REAL, &it, 0)); CALL(pause()); printf("alarm %d %d\n", count, last);
    it.it_value.tv_usec = 20000; setitimer(ITIMER_REAL, &it, 0); struct timespec ts = {5, 0}, left; CALL(nanosleep(&ts, &left)); YES(left.tv_sec == 4); a.sa_flags = SA_RESTART; sigaction(SIGALRM, &a, 0); int p[2]; pipe(p); it.it_interval.tv_usec = 0; setitimer(ITIMER_REAL, &it, 0); if (fork() == 0) { usleep(100000); write(p[1], "x", 1); _exit(0); } char b; CALL(read(p[0], &b, 1)); wait(0);
    CALL(alarm(100)); CALL(alarm(0)); sigemptyset(&set); sigaddset(&set, SIGUSR1); sigprocmask(SIG_BLOCK, &set, 0); kill(getpid(), SIGUSR1); siginfo_t si; ts.tv_sec = 0; CALL(sigtimedwait(&set, &si, &ts)); CALL(sigtimedwait(&set, &si, &ts)); int e, n; kill(getpid(), SIGUSR1); CALL(sigwait(&set, &n)); printf("%d\n", n);
    sigemptyset(&o); kill(getpid(), SIGUSR1); a.sa_handler = plain; sigaction(SIGUSR1, &a, 0); count = 0; CALL(sigsuspend(&o)); printf("suspend %d\n", count); sigprocmask(0, 0, &o); YES(sigismember(&o, SIGUSR1));
    int sigs[] = {SIGTERM, SIGABRT, SIGSEGV, SIGKILL, SIGPIPE, SIGALRM, SIGRTMIN + 3, SIGCHLD, SIGURG};
    for (int i = 0; i < 9; i++) { pid_t c = fork(); if (!c) { signal(sigs[i], SIG_DFL); raise(sigs[i]); _exit(9); } waitpid(c, &e, 0); status("child", e); }
    pid_t c = fork(); if (!c) abort(); waitpid(c, &e, 0); status("abort", e); c = fork(); if (!c) { signal(SIGSEGV, SIG_IGN); *(volatile int *)0 = 1; _exit(1); } waitpid(c, &e, 0); status("ignored fault", e);
    c = fork(); if (!c) { raise(SIGSTOP); usleep(500000); _exit(3); } waitpid(c, &e, WUNTRACED); YES(WIFSTOPPED(e) && WSTOPSIG(e) == SIGSTOP); kill(c, SIGCONT); waitpid(c, &e, WCONTINUED); YES(WIFCONTINUED(e)); waitpid(c, &e, 0); status("stopped", e);
    return 0;
}
