/* ptrace of a process whose call sites have been used a thousand times: it is in its own code, and that is what is read. */
#include "report.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

void spin(volatile int *flag);
extern char spin_head[], spin_other[], spin_end[];
__asm__(".text\n.globl spin\nspin: push %rbx\npush %r12\nmov %rdi,%rbx\nmov $102,%r12d\n.globl spin_head\nspin_head: mov $110,%eax\nsyscall\nincl 4(%rbx)\n"
    ".globl spin_other\nspin_other: mov %r12d,%eax\nnop\nsyscall\ncmp $-4096,%rax\nja 1f\ncmpl $9,(%rbx)\njne spin_head\n1: pop %r12\npop %rbx\nret\n.globl spin_end\nspin_end:");

static volatile int *flag; static int status;
static unsigned long rip(pid_t pid) { struct user_regs_struct r; ptrace(PTRACE_GETREGS, pid, 0, &r); return r.rip; }
static int step(pid_t pid) { ptrace(PTRACE_SINGLESTEP, pid, 0, 0); waitpid(pid, &status, 0); return WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP; }
static int inside(pid_t pid) { return rip(pid) >= (unsigned long)spin && rip(pid) < (unsigned long)spin_end; }
static void code(pid_t pid) {
    unsigned char seen[64] = {0}; size_t length = spin_end - spin_head; struct iovec l = {seen, length}, r = {spin_head, length};
    printf("read %ld:", (long)process_vm_readv(pid, &l, 1, &r, 1, 0)); for (size_t i = 0; i < length; i++) printf(" %02x", seen[i]); printf("\n");
}
static void count(pid_t pid) {
    int outside = 0, odd = 0, rounds[3];
    for (int i = 0; i < 100 && rip(pid) != (unsigned long)spin_head; i++) { odd += !step(pid); outside += !inside(pid); }
    for (int round = 0; round < 3; round++) { rounds[round] = 0; do { odd += !step(pid); outside += !inside(pid); rounds[round]++; } while (rip(pid) != (unsigned long)spin_head && rounds[round] < 100); }
    printf("steps %d %d %d outside %d odd %d\n", rounds[0], rounds[1], rounds[2], outside, odd);
}
int main(void) {
    flag = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); pid_t pid = fork(); if (pid == 0) { prctl(PR_SET_PDEATHSIG, SIGKILL); spin(flag); _exit(8); }
    for (int turn = 0; turn < 4; turn++) {
        for (int from = flag[1]; flag[1] < from + 2000;) usleep(1000);
        printf("-- turn %d\n", turn); code(pid); CALL(ptrace(turn & 1 ? PTRACE_SEIZE : PTRACE_ATTACH, pid, 0, 0)); if (turn & 1) CALL(ptrace(PTRACE_INTERRUPT, pid, 0, 0)); waitpid(pid, &status, 0); printf("%x\n", status); YES(inside(pid)); count(pid); code(pid);
        for (int i = 0; i < 20; i++) { ptrace(PTRACE_SYSCALL, pid, 0, 0); waitpid(pid, &status, 0); if (WSTOPSIG(status) != SIGTRAP || !inside(pid)) printf("odd stop %x\n", status); }
        long old = ptrace(PTRACE_PEEKTEXT, pid, spin_other, 0); CALL(ptrace(PTRACE_POKETEXT, pid, spin_other, (old & ~0xffl) | 0xcc)); ptrace(PTRACE_CONT, pid, 0, 0); waitpid(pid, &status, 0); printf("%x\n", status); YES(rip(pid) == (unsigned long)spin_other + 1); CALL(ptrace(PTRACE_POKETEXT, pid, spin_other, old)); struct user_regs_struct r; ptrace(PTRACE_GETREGS, pid, 0, &r); r.rip--; ptrace(PTRACE_SETREGS, pid, 0, &r); CALL(ptrace(PTRACE_DETACH, pid, 0, 0));
    }
    *flag = 9; waitpid(pid, &status, 0); printf("end %x\n", status); return 0;
}
