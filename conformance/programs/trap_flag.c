/* A program that sets the trap flag for itself. */
#include "report.h"
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>

static volatile int traps, wrong, here[64]; static long start;
static void handler(int number, siginfo_t *info, void *context) {
    ucontext_t *u = context; wrong += info->si_code != TRAP_TRACE;
    if (traps < 64) here[traps] = u->uc_mcontext.gregs[REG_RIP] - start;
    if (++traps > 200) u->uc_mcontext.gregs[REG_EFL] &= ~0x100;
}
/* The call's number is where no site can be rewritten, so every instruction shows. */
#define STEPPED(code) __asm__ volatile("lea 1f(%%rip),%%rax; mov %%rax,%0; pushf; orl $0x100,(%%rsp); 1: popf; " code "; pushf; andl $~0x100,(%%rsp); popf" : "=m"(start) :: "rax", "rcx", "r11", "memory", "cc")
int main(void) {
    struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO}; sigaction(SIGTRAP, &sa, 0);
    for (int round = 0; round < 20; round++) { traps = 0; STEPPED("nop; mov $110,%%eax; nop; syscall; nop"); if (round == 0 || round == 19) { printf("traps %d wrong %d:", traps, wrong); for (int i = 0; i < traps; i++) printf(" %d", here[i]); printf("\n"); } }
    traps = 0; for (int i = 0; i < 20; i++) getppid(); __asm__ volatile("pushf; orl $0x100,(%%rsp); popf" ::: "memory", "cc"); long parent = syscall(SYS_getppid); parent += getppid(); __asm__ volatile("pushf; andl $~0x100,(%%rsp); popf" ::: "memory", "cc"); YES(traps > 10 && !wrong && parent > 0);
    return 0;
}
