/* ptrace: single steps, breakpoints, memory of a stopped child. */
#include "report.h"
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

void marks(void);
extern char mark_start[], mark_break[], mark_end[], mark_call[], mark_after[];
__asm__(".text\n.globl marks\nmarks: push %rbx\nint3\nmark_start: mov $1,%eax\nadd $2,%eax\nlea 1(%rax),%ebx\nnop\nmark_break: pushf\npop %rax\nmov $3,%ecx\n1: dec %ecx\njnz 1b\nmov $110,%eax\nmark_call: syscall\nmark_after: xchg %rbx,%rbx\nmark_end: mov %rax,%rdi\npop %rbx\nret\n"
    ".globl mark_start\n.globl mark_break\n.globl mark_end\n.globl mark_call\n.globl mark_after");

static int status;
static int go(int request, pid_t pid, long signal) {
    if (ptrace(request, pid, 0, signal) == -1) { printf("request %d: %s\n", request, strerrorname_np(errno)); return -1; }
    waitpid(pid, &status, 0);
    return WIFSTOPPED(status) ? WSTOPSIG(status) : -WEXITSTATUS(status);
}
static unsigned long rip(pid_t pid) { struct user_regs_struct r; ptrace(PTRACE_GETREGS, pid, 0, &r); return r.rip; }
static void code(pid_t pid) { siginfo_t si; ptrace(PTRACE_GETSIGINFO, pid, 0, &si); printf("si_signo %d si_code %d\n", si.si_signo, si.si_code); }
static volatile int handled, seen_sender;
static void handler(int number, siginfo_t *info, void *context) { handled = number; seen_sender = info->si_pid == getppid(); }
static void fault_handler(int number, siginfo_t *info, void *context) { ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 3; handled += 100 + number; }
static pid_t start(void (*run)(void)) {
    pid_t pid = fork();
    if (pid == 0) { ptrace(PTRACE_TRACEME, 0, 0, 0); raise(SIGSTOP); run(); _exit(7); }
    waitpid(pid, &status, 0); printf("stopped by %d\n", WSTOPSIG(status));
    return pid;
}
static void quiet(void) { for (int i = 0; i < 20; i++) syscall(SYS_getppid); marks(); }
static void steps(void) {
    pid_t pid = start(quiet);
    printf("int3: %d\n", go(PTRACE_CONT, pid, 0)); code(pid); YES(rip(pid) == (unsigned long)mark_start);
    int count = 0; struct user_regs_struct r;
    while (rip(pid) != (unsigned long)mark_call && count < 100) { if (go(PTRACE_SINGLESTEP, pid, 0) != SIGTRAP) printf("not a trap\n"); count++; if (count == 6) { ptrace(PTRACE_GETREGS, pid, 0, &r); printf("pushed flags have TF: %d, shown: %d\n", (int)(r.rax >> 8 & 1), (int)(r.eflags >> 8 & 1)); } }
    printf("steps to the call: %d\n", count); code(pid);
    printf("over the call: %d\n", go(PTRACE_SINGLESTEP, pid, 0)); code(pid); YES(rip(pid) == (unsigned long)mark_after); ptrace(PTRACE_GETREGS, pid, 0, &r); YES(r.rax == (unsigned)getpid());
    printf("on: %d\n", go(PTRACE_SINGLESTEP, pid, 0)); YES(rip(pid) == (unsigned long)mark_end); printf("end: %d\n", go(PTRACE_CONT, pid, 0)); printf("status %x\n", status);
}
static void breakpoint(void) {
    pid_t pid = start(quiet); errno = 0;
    long old = ptrace(PTRACE_PEEKTEXT, pid, mark_break, 0); YES(!memcmp(&old, mark_break, 8));
    CALL(ptrace(PTRACE_POKETEXT, pid, mark_break, (old & ~0xffl) | 0xcc)); YES((ptrace(PTRACE_PEEKTEXT, pid, mark_break, 0) & 0xff) == 0xcc);
    printf("int3: %d\n", go(PTRACE_CONT, pid, 0)); printf("breakpoint: %d\n", go(PTRACE_CONT, pid, 0)); code(pid); YES(rip(pid) == (unsigned long)mark_break + 1);
    YES(*(unsigned char *)mark_break == 0x9c);
    CALL(ptrace(PTRACE_POKETEXT, pid, mark_break, old)); struct user_regs_struct r; ptrace(PTRACE_GETREGS, pid, 0, &r); printf("eax %lld ebx %lld\n", r.rax, r.rbx); r.rip--; ptrace(PTRACE_SETREGS, pid, 0, &r);
    printf("step: %d\n", go(PTRACE_SINGLESTEP, pid, 0)); YES(rip(pid) == (unsigned long)mark_break + 1); printf("end: %d\n", go(PTRACE_CONT, pid, 0));
}
static void with_handler(void) {
    struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO}; sigaction(SIGUSR1, &sa, 0); sigaction(SIGTRAP, &sa, 0); sa.sa_sigaction = fault_handler; sigaction(SIGSEGV, &sa, 0);
    raise(SIGUSR1); printf("handled %d\n", handled); handled = 0; raise(SIGUSR2); printf("handled %d sender %d\n", handled, seen_sender); handled = 0; raise(SIGUSR1); printf("suppressed: %d\n", handled); signal(SIGURG, SIG_IGN); raise(SIGURG); raise(SIGCHLD);
    __asm__ volatile("xor %%eax,%%eax\n.byte 0x48,0x89,0x00" ::: "rax"); printf("fault %d\n", handled); fflush(stdout); handled = 0; raise(SIGUSR1); printf("stepped into %d\n", handled); fflush(stdout); raise(SIGTERM); printf("not reached\n");
}
static void signals(void) {
    pid_t pid = start(with_handler); siginfo_t si;
    printf("%d\n", go(PTRACE_CONT, pid, 0)); ptrace(PTRACE_GETSIGINFO, pid, 0, &si); printf("code %d own %d\n", si.si_code, si.si_pid == pid);
    printf("%d\n", go(PTRACE_CONT, pid, SIGUSR1)); printf("%d\n", go(PTRACE_CONT, pid, SIGUSR1)); printf("%d\n", go(PTRACE_CONT, pid, 0)); printf("%d\n", go(PTRACE_CONT, pid, SIGURG)); printf("%d\n", go(PTRACE_CONT, pid, SIGCHLD)); code(pid); printf("%d\n", go(PTRACE_CONT, pid, SIGSEGV));
    printf("%d\n", go(PTRACE_SINGLESTEP, pid, SIGUSR1)); YES(rip(pid) == (unsigned long)handler); code(pid); printf("%d\n", go(PTRACE_SINGLESTEP, pid, 0)); YES(rip(pid) > (unsigned long)handler && rip(pid) < (unsigned long)handler + 16); code(pid);
    printf("%d\n", go(PTRACE_CONT, pid, 0)); ptrace(PTRACE_GETSIGINFO, pid, 0, &si); si.si_signo = SIGKILL; CALL(ptrace(PTRACE_SETSIGINFO, pid, 0, &si)); CALL(ptrace(PTRACE_SETSIGINFO, pid, 0, 8)); go(PTRACE_CONT, pid, SIGTERM); printf("status %x\n", status);
}
static int *shared_page, *none_page; static const int constant = 42;
static void nothing(void) { sleep(100); }
static void memory(void) {
    shared_page = mmap(0, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0); none_page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); *none_page = 5; mprotect(none_page, 4096, PROT_NONE); munmap((char *)none_page + 4096, 4096);
    pid_t pid = start(nothing); long word;
    CALL(ptrace(PTRACE_POKEDATA, pid, &constant, 43l)); YES((int)ptrace(PTRACE_PEEKDATA, pid, &constant, 0) == 43); YES(*(volatile const int *)&constant == 42);
    errno = 0; CALL(ptrace(PTRACE_PEEKDATA, pid, 8, 0)); CALL(ptrace(PTRACE_POKEDATA, pid, 8, 0)); CALL(ptrace(PTRACE_PEEKDATA, pid, -8l, 0)); CALL((int)ptrace(PTRACE_PEEKDATA, pid, none_page, 0)); CALL(ptrace(PTRACE_POKEDATA, pid, none_page, 6)); CALL((int)ptrace(PTRACE_PEEKDATA, pid, none_page, 0)); CALL(ptrace(PTRACE_PEEKDATA, pid, (char *)none_page + 4092, 0)); CALL(ptrace(PTRACE_POKEDATA, pid, (char *)none_page + 4092, 0)); CALL(ptrace(PTRACE_POKEDATA, pid, shared_page, 1)); CALL(syscall(SYS_ptrace, PTRACE_PEEKDATA, pid, &constant, 8)); CALL(syscall(SYS_ptrace, PTRACE_PEEKDATA, pid, &constant, &word));
    CALL(kill(pid, SIGKILL)); waitpid(pid, &status, 0); printf("status %x\n", status);
}
int main(void) { steps(); breakpoint(); signals(); memory(); return 0; }
