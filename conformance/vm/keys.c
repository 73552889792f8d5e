/* What protection keys (pkeys(7)) refuse, and what they do not: prints a line for each way around a page whose key is closed. As a
   machine's first process it turns the machine off then. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <immintrin.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { PAGE = 4096, PKRU = 9 };
static sigjmp_buf back;
static int key;
static volatile char *page;

static void faulted(int signal) { (void)signal; siglongjmp(back, 1); }
static void keys(int rights) { pkey_set(key, rights); }
static int can_read(const volatile char *at) {
    if (sigsetjmp(back, 1)) return 0;
    char value = *at;
    (void)value;
    return 1;
}
static void says(const char *what, int works) { printf("%-66s %s\n", what, works ? "works" : "is refused"); }
static volatile char *closed_page(int protection) {
    char *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(at, 0xc3, PAGE);
    pkey_mprotect(at, PAGE, protection, key);
    keys(PKEY_DISABLE_ACCESS);
    return at;
}
static unsigned pkru_offset(void) {
    unsigned size, offset, c, d;
    return __get_cpuid_count(0xd, PKRU, &size, &offset, &c, &d) ? offset : 0;
}
static void opens(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    ucontext_t *at = context;
    memset((char *)at->uc_mcontext.fpregs + pkru_offset(), 0, 4);
}
/* Opens every key before it touches its stack. */
void opens_first(int signal);
__asm__("opens_first: xor %eax, %eax; xor %ecx, %ecx; xor %edx, %edx; wrpkru; ret");
__attribute__((target("xsave"))) static void restore(void *area) { _xrstor(area, 1ull << PKRU); }

static int look(void) {
    key = pkey_alloc(0, 0);
    if (key < 0) { puts("this processor or kernel has no protection keys"); return 77; }
    signal(SIGSEGV, faulted);
    page = closed_page(PROT_READ | PROT_WRITE);
    says("a load", can_read(page));
    volatile char *code = closed_page(PROT_READ | PROT_EXEC);
    says("a load from a page with code", can_read(code));
    ((void (*)(void))(uintptr_t)code)();
    says("a jump into it", 1);
    says("mprotect(2)", mprotect((void *)page, PAGE, PROT_READ) == 0);
    says("munmap(2) of it and mmap(2) in its place", munmap((void *)code, PAGE) == 0 &&
         mmap((void *)code, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == code && can_read(code));
    says("madvise(2) MADV_DONTNEED, which empties it", madvise((void *)page, PAGE, MADV_DONTNEED) == 0);
    int pipes[2];
    if (pipe(pipes)) return 1;
    says("write(2) from it", write(pipes[1], (void *)page, 1) == 1);
    struct sigaction action = {.sa_sigaction = opens, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    keys(PKEY_DISABLE_ACCESS);
    raise(SIGUSR1);
    says("a load after rt_sigreturn(2) with a frame of one's own", can_read(page));
    keys(PKEY_DISABLE_ACCESS);
    static char area[8192] __attribute__((aligned(64)));
    restore(area);
    says("a load after XRSTOR from memory of one's own", can_read(page));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        stack_t stack = {.ss_sp = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), .ss_size = 16 * PAGE};
        pkey_mprotect(stack.ss_sp, stack.ss_size, PROT_READ | PROT_WRITE, key);
        keys(PKEY_DISABLE_ACCESS);
        sigaltstack(&stack, NULL);
        signal(SIGSEGV, SIG_DFL);
        struct sigaction on = {.sa_handler = opens_first, .sa_flags = SA_ONSTACK};
        sigaction(SIGUSR2, &on, NULL);
        raise(SIGUSR2);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    says("a signal whose stack has the closed key (Linux 6.12)", status == 0);
    return 0;
}

int main(void) {
    if (getpid() != 1) return look();
    int status;
    pid_t child = fork();
    if (child == 0) {
        status = look();
        fflush(stdout);
        _exit(status);
    }
    waitpid(child, &status, 0);
    sleep(1);
    return reboot(RB_POWER_OFF);
}
