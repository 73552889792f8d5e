/* Faults of a program as its signals: siginfo, what the saved context says, and that a handler may change it; alternate stacks. */
#include "report.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <ucontext.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

static sigjmp_buf back;
static siginfo_t seen;
static long trap, error, address, instruction;
static void caught(int number, siginfo_t *info, void *context) {
    /* A handler runs with the program's alignment check flag. */
    __asm__ volatile("pushfq\n andq $~0x40000, (%%rsp)\n popfq" ::: "memory", "cc");
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    seen = *info;
    trap = registers[REG_TRAPNO], error = registers[REG_ERR], address = registers[REG_CR2], instruction = registers[REG_RIP];
    siglongjmp(back, 1);
}
#define FAULT(name, ...) do { if (sigsetjmp(back, 1) == 0) { __VA_ARGS__; printf("%s: no fault\n", name); } \
    else printf("%s: signal %d code %d errno %d trap %ld error %ld\n", name, seen.si_signo, seen.si_code, seen.si_errno, trap, \
        error); } while (0)
#define AT(expected) printf("  si_addr %s, cr2 %s\n", seen.si_addr == (void *)(expected) ? "right" : "wrong", (long)seen.si_addr == address ? "same" : "other")

static volatile int zero, one = 1;
extern char after_int3[], at_ud2[], at_hlt[], at_div[], at_far[];
static void kinds(void) {
    char *none = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
        *read_only = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *data = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FAULT("read of null", *(volatile int *)0); AT(0);
    FAULT("write to null", *(volatile int *)8 = 1); AT(8);
    FAULT("call of null", ((void (*)(void))0)()); AT(0); printf("  rip %s\n", instruction == 0 ? "right" : "wrong");
    FAULT("read of none", *(volatile char *)none); AT(none);
    FAULT("write to read-only", *(volatile char *)(read_only + 5) = 1); AT(read_only + 5);
    FAULT("jump to data", ((void (*)(void))data)()); AT(data);
    printf("  rip %s\n", instruction == (long)data ? "right" : "wrong");
    FAULT("read of the kernel's half", *(volatile char *)0xffff800000001000); AT(0xffff800000001000);
    FAULT("not canonical", *(volatile char *)0x8000000000000000); AT(0);
    FAULT("jump to the kernel's half", ((void (*)(void))0xffff800000001000)());
    FAULT("division by zero", __asm__ volatile(".globl at_div\nat_div: idivl %1" :: "a"(one), "m"(zero), "d"(0))); AT(at_div);
    FAULT("division overflow",
        __asm__ volatile("movl $0x80000000, %%eax\n cltd\n movl $-1, %%ecx\n idivl %%ecx" ::: "eax", "ecx", "edx"));
    FAULT("ud2", __asm__ volatile(".globl at_ud2\nat_ud2: ud2")); AT(at_ud2);
    printf("  rip %s\n", instruction == (long)at_ud2 ? "right" : "wrong");
    FAULT("int3", __asm__ volatile("int3\n.globl after_int3\nafter_int3: nop"));
    printf("  rip %s\n", instruction == (long)after_int3 ? "right" : "wrong");
    FAULT("hlt", __asm__ volatile(".globl at_hlt\nat_hlt: hlt")); AT(0);
    printf("  rip %s\n", instruction == (long)at_hlt ? "right" : "wrong");
    FAULT("in", __asm__ volatile("inb $0x80, %%al" ::: "eax"));
    FAULT("cli", __asm__ volatile("cli"));
    FAULT("int 13", __asm__ volatile("int $13"));
    FAULT("int 4", __asm__ volatile("int $4"));
    FAULT("trap flag", __asm__ volatile("pushfq\n orq $0x100, (%%rsp)\n popfq\n nop\n nop" ::: "memory", "cc"));
    FAULT("alignment check",
        __asm__ volatile("pushfq\n orq $0x40000, (%%rsp)\n popfq\n movl 1(%0), %%eax" :: "r"(data) : "eax", "memory", "cc"));
    FAULT("segment", __asm__ volatile("mov %0, %%ds" :: "r"(0x1234)));
    double a = 1, b = 0;
    unsigned control = 0x1f80 & ~0x200, usual = 0x1f80;
    FAULT("SSE division by zero", __asm__ volatile("ldmxcsr %1\n divsd %2, %0" : "+x"(a) : "m"(control), "x"(b)));
    __asm__ volatile("ldmxcsr %0" :: "m"(usual));
    unsigned short x87 = 0x37b;
    FAULT("x87 division by zero", __asm__ volatile("fldcw %0\n fldz\n fld1\n fdivp\n fwait" :: "m"(x87)));
    __asm__ volatile("fninit");
}

/* A handler that repairs: skips the instruction, or changes a register. */
static void skip(int number, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    r[REG_RIP] += 2, r[REG_RAX] = 4711, r[REG_R15] = 15, r[REG_EFL] |= 1;
}
static void repaired(void) {
    struct sigaction action = {.sa_sigaction = skip, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, NULL);
    long a = 1, r15, carry;
    __asm__ volatile("clc\n ud2\n sbb %2, %2\n mov %%r15, %1" : "+a"(a), "=r"(r15), "=r"(carry) :: "r15", "cc");
    printf("skipped: rax %ld r15 %ld carry %ld\n", a, r15, carry);
}
static char *page;
static int repairs;
static void unprotect(int number, siginfo_t *info, void *context) { repairs++; mprotect(page, 4096, PROT_READ | PROT_WRITE); }
static void retried(void) {
    struct sigaction action = {.sa_sigaction = unprotect, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[7] = 7;
    printf("after %d repair: %d\n", repairs, page[7]);
}

/* Registers and vector state survive a handler. */
static void clobber(int number) { __asm__ volatile("pxor %%xmm0, %%xmm0\n pxor %%xmm9, %%xmm9\n fninit\n fldpi" ::: "xmm0",
    "xmm9", "st"); }
static void preserved(void) {
    signal(SIGTRAP, clobber);
    double in[2] = {1.25, -2.5}, out[2];
    long rbx = 0xb, r12 = 0xc;
    __asm__ volatile("movsd %2, %%xmm0\n movsd %3, %%xmm9\n mov %4, %%rbx\n mov %5, %%r12\n xor %%eax, %%eax\n int3\n movsd %%xmm0, %0\n movsd %%xmm9, %1\n mov %%rbx, %4\n mov %%r12, %5"
        : "=m"(out[0]), "=m"(out[1]), "+m"(in[0]), "+m"(in[1]), "+m"(rbx), "+m"(r12) :: "xmm0", "xmm9", "rbx", "r12", "eax");
    printf("%g %g %lx %lx\n", out[0], out[1], rbx, r12);
}

static char *stack_low, *stack_high;
static void where(int number) {
    char here;
    stack_t now;
    sigaltstack(NULL, &now);
    printf("on the alternate stack: %d, flags %d\n", &here > stack_low && &here < stack_high, now.ss_flags);
    static char elsewhere[16384];
    stack_t other = {.ss_sp = elsewhere, .ss_size = sizeof elsewhere};
    CALL(sigaltstack(&other, NULL));
}
static int overflow(int depth) {
    volatile char frame[4096];
    frame[0] = depth;
    return overflow(depth + 1) + frame[0];
}
static void overflown(int number, siginfo_t *info, void *context) {
    char here;
    printf("stack overflow: on the alternate stack %d, code %d\n", &here > stack_low && &here < stack_high, info->si_code);
    siglongjmp(back, 1);
}
static void alternate(void) {
    stack_low = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), stack_high = stack_low + 65536;
    stack_t set = {.ss_sp = stack_low, .ss_size = 65536}, old;
    CALL(sigaltstack(NULL, &old)), printf("flags %d size %zu\n", old.ss_flags, old.ss_size), CALL(sigaltstack(&set, NULL)),
        CALL(sigaltstack(NULL, &old)), printf("flags %d size %zu %d\n", old.ss_flags, old.ss_size, old.ss_sp == stack_low);
    set.ss_size = 100, CALL(sigaltstack(&set, NULL)), set.ss_size = 65536, set.ss_flags = 99, CALL(sigaltstack(&set, NULL)),
        CALL(sigaltstack((void *)1, NULL)), CALL(sigaltstack(NULL, (void *)1));
    struct sigaction action = {.sa_handler = where, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &action, NULL), raise(SIGUSR1);
    set.ss_flags = SS_AUTODISARM, CALL(sigaltstack(&set, NULL)), CALL(sigaltstack(NULL, &old)),
        printf("flags %x\n", old.ss_flags);
    raise(SIGUSR1), CALL(sigaltstack(NULL, &old)), printf("flags %x\n", old.ss_flags);
    set.ss_flags = 0, CALL(sigaltstack(&set, NULL));
    action.sa_sigaction = overflown, action.sa_flags = SA_ONSTACK | SA_SIGINFO, sigaction(SIGSEGV, &action, NULL);
    if (sigsetjmp(back, 1) == 0) overflow(0);
    set.ss_flags = SS_DISABLE, CALL(sigaltstack(&set, NULL)), CALL(sigaltstack(NULL, &old)), printf("flags %d\n", old.ss_flags);
}

/* What a fault without a handler does to a process, as its parent sees it. */
static void child(const char *name, void (*run)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        for (int i = 1; i < 32; i++) signal(i, SIG_DFL);
        run();
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    printf("%s: %s %d core %d\n", name, WIFSIGNALED(status) ? "signal" : "status",
        WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), WIFSIGNALED(status) && WCOREDUMP(status));
}
static void by_null(void) { __asm__ volatile("movl $1, 0" ::: "memory"); }
static void by_ud2(void) { __builtin_trap(); }
static void by_division(void) { one = one / zero; }
static void by_abort(void) { abort(); }
static void by_overflow(void) { overflow(0); }
static void while_blocked(void) {
    sigset_t all;
    sigfillset(&all), sigprocmask(SIG_BLOCK, &all, NULL);
    by_null();
}
static void while_ignored(void) { signal(SIGSEGV, SIG_IGN), by_null(); }
static void again_in_handler(int number) { by_null(); }
static void in_its_handler(void) { signal(SIGSEGV, again_in_handler), by_null(); }
static void without_a_stack(void) {
    signal(SIGSEGV, again_in_handler);
    __asm__ volatile("mov $64, %rsp\n ud2\n push %rax");
}
static void unwritable_stack(void) {
    signal(SIGILL, again_in_handler);
    __asm__ volatile("mov $64, %rsp\n ud2");
}

int main(void) {
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (unsigned i = 0; i < 5; i++) sigaction(faults[i], &action, NULL);
    kinds();
    repaired();
    retried();
    preserved();
    alternate();
    child("null", by_null), child("ud2", by_ud2), child("division", by_division), child("abort", by_abort),
        child("stack overflow", by_overflow);
    child("blocked", while_blocked), child("ignored", while_ignored), child("in its own handler", in_its_handler),
        child("no stack", without_a_stack), child("no stack for a handler", unwritable_stack);
    return 0;
}
