/* ptrace: debug registers: watchpoints on writes, breakpoints on instructions, what is refused. */
#include "report.h"
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

static volatile int value, other; static volatile long wide; static volatile char bytes[8]; static int pipes[2];
static __attribute__((noinline)) void called(int number) { other += number; }
static int status;
#define DR(n) offsetof(struct user, u_debugreg[n])
static void stop(const char *what, pid_t pid) {
    waitpid(pid, &status, 0); printf("%s: %x", what, status);
    if (WIFSTOPPED(status)) { siginfo_t si; ptrace(PTRACE_GETSIGINFO, pid, 0, &si); printf(" code %d hits %lx value %d", si.si_code, ptrace(PTRACE_PEEKUSER, pid, DR(6), 0) & 15, (int)ptrace(PTRACE_PEEKDATA, pid, &value, 0)); ptrace(PTRACE_POKEUSER, pid, DR(6), 0); }
    printf("\n");
}
static unsigned long rip(pid_t pid) { struct user_regs_struct r; ptrace(PTRACE_GETREGS, pid, 0, &r); return r.rip; }
int main(void) {
    pipe(pipes); write(pipes[1], "abcdefgh", 8); pid_t pid = fork();
    if (pid == 0) { ptrace(PTRACE_TRACEME, 0, 0, 0); raise(SIGSTOP); for (int i = 0; i < 100; i++) other++; value = 5; value = 6; bytes[3] = 1; wide = 1l << 40; called(1); called(2); _exit(9); }
    stop("start", pid); printf("%lx %lx\n", ptrace(PTRACE_PEEKUSER, pid, DR(6), 0), ptrace(PTRACE_PEEKUSER, pid, DR(7), 0));
    CALL(ptrace(PTRACE_POKEUSER, pid, DR(0), &value)); CALL(ptrace(PTRACE_POKEUSER, pid, DR(7), 0xd0001)); YES(ptrace(PTRACE_PEEKUSER, pid, DR(0), 0) == (long)&value); printf("%lx\n", ptrace(PTRACE_PEEKUSER, pid, DR(7), 0));
    CALL(ptrace(PTRACE_POKEUSER, pid, DR(0), (char *)&value + 1)); CALL(ptrace(PTRACE_POKEUSER, pid, DR(1), 1l << 62)); CALL(ptrace(PTRACE_POKEUSER, pid, DR(4), 1)); CALL(ptrace(PTRACE_POKEUSER, pid, DR(5), 1)); CALL(ptrace(PTRACE_POKEUSER, pid, DR(7), 0x20001)); CALL(ptrace(PTRACE_POKEUSER, pid, DR(7), 0x40001)); CALL(ptrace(PTRACE_POKEUSER, pid, DR(7), 0xd0001));
    CALL(ptrace(PTRACE_CONT, pid, 0, 0)); stop("first", pid); CALL(ptrace(PTRACE_CONT, pid, 0, 0)); stop("second", pid);
    CALL(ptrace(PTRACE_POKEUSER, pid, DR(7), 0)); CALL(ptrace(PTRACE_POKEUSER, pid, DR(0), &bytes[3])); CALL(ptrace(PTRACE_POKEUSER, pid, DR(2), &wide)); CALL(ptrace(PTRACE_POKEUSER, pid, DR(7), 0x9010011)); CALL(ptrace(PTRACE_CONT, pid, 0, 0)); stop("byte", pid); CALL(ptrace(PTRACE_CONT, pid, 0, 0)); stop("wide", pid);
    CALL(ptrace(PTRACE_POKEUSER, pid, DR(7), 0)); CALL(ptrace(PTRACE_POKEUSER, pid, DR(3), called)); CALL(ptrace(PTRACE_POKEUSER, pid, DR(7), 0x40)); CALL(ptrace(PTRACE_CONT, pid, 0, 0)); stop("called", pid); YES(rip(pid) == (unsigned long)called); CALL(ptrace(PTRACE_CONT, pid, 0, 0)); stop("again", pid); YES(rip(pid) == (unsigned long)called);
    CALL(ptrace(PTRACE_POKEUSER, pid, DR(7), 0)); CALL(ptrace(PTRACE_SINGLESTEP, pid, 0, 0)); stop("step", pid); CALL(ptrace(PTRACE_CONT, pid, 0, 0)); stop("end", pid); return 0;
}
