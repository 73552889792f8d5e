/* keys_more WHAT [NUMBER...]: more attempts against a kernel whose memory is closed by protection keys (--kernel-guard=on), beside keys.c: those
 * that need the kernel's help, or its timing. Numbers are offsets of instructions of the image: for steps and guesses that of the gadget's first
 * `syscall` (and for steps, if given, that of way_in_patched), for own_slot that of WRGSBASE; for turning and peeking, seconds. */
#include "takeover.h"
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

static unsigned long heap;
static __thread sigjmp_buf back;
static void faulted(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info, (void)context;
    siglongjmp(back, 1);
}
static int can_read(unsigned long at) {
    if (sigsetjmp(back, 0)) return 0;
    return (*(volatile unsigned char *)at, 1);
}
static void look(const char *what) {
    if (can_read(heap)) escaped("the heap can be read after %s", what);
}
/* xor %eax,%eax; xor %ecx,%ecx; xor %edx,%edx; wrpkru; ret */
static const unsigned char WRPKRU[] = {0x31, 0xc0, 0x31, 0xc9, 0x31, 0xd2, 0x0f, 0x01, 0xef, 0xc3};
static void run(void *code, const char *what) {
    if (!sigsetjmp(back, 0)) ((void (*)(void))code)();
    look(what);
}

static unsigned char area[4096] __attribute__((aligned(64)));

/* Single steps begin with the return from a signal, at an instruction of the kernel's: it must not run with the keys open. The `ret` takes
 * what the thread's record holds for R15. */
static unsigned long ret;
static void goes_to_kernel(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    registers[REG_RIP] = (greg_t)ret;
    registers[REG_RSP] = (greg_t)block;
    registers[REG_R15] = (greg_t)look;
    registers[REG_EFL] |= 0x100;
}
static volatile int on_the_way;
static void stepped(int signal, siginfo_t *info, void *context) {
    (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    if ((unsigned long)registers[REG_RIP] == (unsigned long)look) escaped("the kernel's memory was read by a step into it (signal %d)", signal);
    /* Steps of the program's own code on its way there. */
    else if (signal == SIGTRAP && on_the_way-- > 0) return;
    siglongjmp(back, 1);
}

/* The same by the way in of a rewritten call, which is told where the program goes on (R11 in place of RCX). The `ret` takes RIP from the
 * record; no frame of a signal is put there, where the alternate stack ends. */
static void step_by_call(unsigned long way_in) {
    __asm__ volatile("mov %[ret], %%r11; mov %[look], %%rcx; mov $39, %%eax\n"
                     "mov %[own], %%rsp; pushfq; orq $0x100, (%%rsp); popfq; mov %[block], %%rsp; jmp *%%rdx"
                     :
                     : [look] "r"((unsigned long)look), [ret] "r"(ret), [block] "r"(block + 128), "d"(way_in), [own] "r"(area + 4096)
                     : "r11", "rcx", "rax", "memory");
}
static void steps(unsigned long way_in) {
    static char own[65536];
    stack_t stack = {.ss_sp = own, .ss_size = sizeof own};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = stepped, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
    for (int i = 0; i < 5; i++) sigaction(signals[i], &action, NULL);
    action.sa_sigaction = goes_to_kernel, action.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &action, NULL);
    if (sigsetjmp(back, 1)) return;
    if (way_in) on_the_way = 8, step_by_call(way_in);
    else raise(SIGUSR1);
}

/* Code in a file: sites of `mov $39,%eax; syscall; ret`, which the kernel rewrites, 32 bytes apart from the start of the page; the last one at
 * its end. */
#define AT ((unsigned char *)0x100000000000ul)
static void put_site(unsigned char *at) { memcpy(at, "\xb8\x27\0\0\0\x0f\x05\xc3", 8); }
static int sites_file(int count) {
    unsigned char page[PAGE];
    memset(page, 0x90, PAGE);
    for (int i = 0; i < count; i++) put_site(page + 32 * i);
    put_site(page + PAGE - 8);
    char name[] = "/tmp/sites-XXXXXX";
    int file = mkstemp(name);
    unlink(name);
    if (write(file, page, PAGE) != PAGE) exit(2);
    return file;
}
static void call(unsigned char *site, int times) {
    for (volatile int i = 0; i < times; i++) ((int (*)(void))site)();
}

/* Trampolines: a site that cannot be rewritten, for what lies behind it, has the kernel map memory for them. What calls write there must not
 * be executable once another site is rewritten. */
static void trampolines(void) {
    unsigned char *next = mmap(AT + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memcpy(next, "\x0f\x01\xef", 3);
    if (mmap(AT, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, sites_file(4), 0) != AT) exit(2);
    call(AT + PAGE - 8, 200);
    int pipes[2], wrote = 0;
    if (pipe(pipes)) exit(2);
    unsigned long top = (unsigned long)AT - GIB, found = 0;
    for (volatile unsigned long at = top & ~0xfffful; !found && at > top - (4ul << 20); at -= 0x10000) {
        if (can_read(at)) found = at;
    }
    say("memory for trampolines at %#lx\n", found);
    if (found) {
        if (write(pipes[1], WRPKRU, sizeof WRPKRU) < 0) exit(2);
        wrote = read(pipes[0], (void *)(found + 0x8000), sizeof WRPKRU) == sizeof WRPKRU;
        say("written by a call: %d\n", wrote);
    }
    call(AT, 200);
    if (found) run((void *)(found + 0x8000), "code written among trampolines");
}

/* While a site is rewritten its page can be written to, by the kernel alone: not for calls of other threads. */
static volatile int stop;
static volatile unsigned generation, finished;
static int evil;
static unsigned char *target;
static void *reads(void *none) {
    (void)none;
    while (!stop) {
        if (pread(evil, target, sizeof WRPKRU, 0) > 0) __atomic_store_n(&stop, 2, __ATOMIC_SEQ_CST);
    }
    return NULL;
}
static int evil_file(void) {
    char name[] = "/tmp/evil-XXXXXX";
    int file = mkstemp(name);
    unlink(name);
    if (write(file, WRPKRU, sizeof WRPKRU) < 0) exit(2);
    return file;
}
static void rewriting(void) {
    evil = evil_file();
    if (mmap(AT, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, sites_file(64), 0) != AT) exit(2);
    call(AT, 1);
    target = AT + 0xc00;
    pthread_t thread;
    pthread_create(&thread, NULL, reads, NULL);
    for (int i = 0; i < 64 && !stop; i++) call(AT + 32 * i, 40);
    say("a call wrote to the code: %d\n", stop == 2);
    stop = stop ? stop : 1;
    pthread_join(thread, NULL);
    run(target, "a call that wrote to code while it was rewritten");
}

/* Memory that is writable and executable: what calls write to it, at any moment, must be looked at before it runs. */
static unsigned char *both;
static int good;
static void puts_code(int file) {
    for (int tries = 0; tries < 1000 && pread(file, both, sizeof WRPKRU, 0) != sizeof WRPKRU; tries++) {}
}
static void *runs(void *number) {
    for (volatile unsigned seen = 0; !stop;) {
        if (generation == seen) { sched_yield(); continue; }
        seen = generation;
        if (!sigsetjmp(back, 0)) ((void (*)(void))both)();
        if (can_read(heap)) { escaped("the heap can be read after %s, round %u", (char *)number, generation); _exit(1); }
        __atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}
static void *peeks(void *none) {
    (void)none;
    int own = open("/proc/self/mem", O_RDONLY);
    while (!stop) {
        char byte;
        if (pread(own, &byte, 1, (off_t)(unsigned long)both) < 0) break;
    }
    return NULL;
}
/* Two threads run it at the same time: the second has it looked at once more while it is executable already. */
static void turning(int seconds, int peeking) {
    unsigned char harmless[sizeof WRPKRU];
    memset(harmless, 0xc3, sizeof harmless);
    char name[] = "/tmp/good-XXXXXX";
    good = mkstemp(name);
    unlink(name);
    if (write(good, harmless, sizeof harmless) < 0) exit(2);
    evil = evil_file();
    both = mmap(NULL, PAGE, (peeking ? 0 : PROT_READ) | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(both, 0xc3, PAGE);
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, runs, "code was written while it was looked at");
    pthread_create(&threads[1], NULL, peeking ? peeks : runs, "code was written while it was looked at");
    time_t end = time(NULL) + seconds;
    unsigned round = 0, first = peeking ? 1 : 2;
    for (; time(NULL) < end; round++) {
        puts_code(good);
        finished = 0;
        generation++;
        while (!finished) sched_yield();
        for (volatile unsigned wait = round % 32 * 100; wait; wait--) {}
        puts_code(evil);
        while (finished < first) sched_yield();
        finished = 0;
        generation++;
        while (finished < first) sched_yield();
    }
    stop = 1;
    generation++;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    say("%u rounds\n", round);
}

/* The host allows so many mappings and no more: a change of code that it refuses halfway must not stay open. The site lies across pages that
 * are opened apart, 128 KiB being opened at once. */
static void *waits(void *none) { return (pause(), none); }
static unsigned char *single[16];
static void fill_host(void) {
    for (int i = 0; i < 16; i++) single[i] = mmap(AT + GIB + 2 * i * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    /* No two of these are one mapping of the host's. */
    unsigned long count = 0;
    unsigned char *room = mmap(NULL, 140000 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (; count < 70000; count++) {
        if (mprotect(room + 2 * count * PAGE, PAGE, PROT_READ) != 0) break;
    }
    say("%lu mappings, then %s\n", count, strerror(errno));
}
/* A change of protection that the host refuses halfway: what can be written to must not become executable unseen. */
static void *stores(void *none) {
    (void)none;
    for (volatile unsigned turn = 0; !stop; turn++) {
        if (!generation) continue;
        if (sigsetjmp(back, 0)) { generation = 0; continue; }
        memset(target, 0xc3, sizeof WRPKRU);
        finished = 1;
        for (volatile unsigned wait = turn % 256 * 20; wait; wait--) {}
        memcpy(target, WRPKRU, sizeof WRPKRU);
        for (volatile unsigned wait = 0; wait < 3000; wait++) {}
    }
    return NULL;
}
static int can_write(unsigned char *at) {
    if (sigsetjmp(back, 0)) return 0;
    return (*(volatile unsigned char *)at = 0xc3, 1);
}
static void halfway(void) {
    /* Two mappings of the host's that are one for the program, and are opened apart. */
    unsigned char *first = AT + 28 * PAGE, *second = first + 4 * PAGE, *other = AT + 640 * PAGE;
    for (int i = 0; i < 2; i++) {
        unsigned char *at = i ? other : first;
        if (mmap(at, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at) exit(2);
        memset(at, 0xc3, 4 * PAGE);
        mprotect(at, 4 * PAGE, PROT_READ | PROT_EXEC);
    }
    if (mremap(other, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, second) != second) exit(2);
    target = first + 3 * PAGE;
    pthread_t thread;
    pthread_create(&thread, NULL, stores, NULL);
    fill_host();
    for (int freed = 0; freed < 16 && !can_write(target); freed++) {
        munmap(single[freed], PAGE);
        if (mprotect(target, 2 * PAGE, PROT_READ | PROT_WRITE) == 0) { say("not refused\n"); return; }
    }
    int halves = can_write(target);
    say("refused, and yet it can be written to: %d\n", halves);
    if (!halves) return;
    time_t end = time(NULL) + 8;
    unsigned round = 0, ran = 0;
    for (; time(NULL) < end; round++) {
        int refused = mprotect(target, 2 * PAGE, PROT_READ | PROT_WRITE);
        finished = 0, generation = 1;
        while (refused && !finished && generation) {}
        if (!sigsetjmp(back, 0)) ((void (*)(void))target)(), ran++;
        if (can_read(heap)) { escaped("the heap can be read after a change of protection that the host refused, round %u", round); break; }
    }
    say("%u rounds, run in %u, writable at the end: %d\n", round, ran, can_write(target));
    stop = 1;
    pthread_join(thread, NULL);
}

static void limits(void) {
    enum { PAGES = 64, EDGE = 32 };
    static unsigned char code[PAGES * 4096];
    memset(code, 0x90, sizeof code);
    unsigned char *edge = code + EDGE * PAGE;
    for (unsigned char *end = code + PAGE; end <= code + sizeof code; end += PAGE) end[-1] = 0xc3;
    edge[-1] = 0;
    put_site(edge - 2);
    put_site(code + 2 * PAGE);
    char name[] = "/tmp/edge-XXXXXX";
    int file = mkstemp(name);
    unlink(name);
    if (write(file, code, sizeof code) != sizeof code) exit(2);
    evil = evil_file();
    unsigned char *at = mmap(AT, sizeof code, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, file, 0);
    if (at != AT) exit(2);
    ((void (*)(void))(at + PAGE - 1))();
    ((void (*)(void))(at + (EDGE + 1) * PAGE - 1))();
    /* Memory for trampolines, another thread, for which sites are rewritten one by one, and mappings that can be given back one by one. */
    pthread_t thread;
    pthread_create(&thread, NULL, waits, NULL);
    call(at + 2 * PAGE, 100);
    fill_host();
    for (int freed = 0; freed < 16; freed++) {
        call(edge - code + at - 2, 40);
        if (pread(evil, at + (EDGE - 1) * PAGE + 0x100, sizeof WRPKRU, 0) > 0) {
            say("written by a call, %d free\n", freed);
            run(at + (EDGE - 1) * PAGE + 0x100, "a change of code that the host refused");
            break;
        }
        munmap(single[freed], PAGE);
    }
}

/* A rewritten call that is put back as it was, for a debugger: by then there is something else behind it, on the next page. */
static void restoring(void) {
    unsigned char page[PAGE];
    memset(page, 0x90, PAGE);
    /* push $39; pop %rax; syscall; cmp $15,%eax; and on the next page ret */
    memcpy(page + PAGE - 8, "\x6a\x27\x58\x0f\x05\x83\xf8\x0f", 8);
    char name[] = "/tmp/back-XXXXXX";
    int file = mkstemp(name);
    unlink(name);
    if (write(file, page, PAGE) != PAGE) exit(2);
    if (mmap(AT, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, file, 0) != AT) exit(2);
    unsigned char *next = mmap(AT + PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memset(next, 0xc3, PAGE);
    call(AT + PAGE - 8, 200);
    say("the call is %02x %02x %02x %02x %02x\n", AT[PAGE - 5], AT[PAGE - 4], AT[PAGE - 3], AT[PAGE - 2], AT[PAGE - 1]);
    memcpy(next, "\x01\xef", 2);
    if (!sigsetjmp(back, 0)) ((void (*)(void))(next + 8))();
    int pid = fork(), status;
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0)) say("no debugger\n");
        raise(SIGSTOP);
        say("the call is %02x %02x %02x %02x %02x\n", AT[PAGE - 5], AT[PAGE - 4], AT[PAGE - 3], AT[PAGE - 2], AT[PAGE - 1]);
        if (!sigsetjmp(back, 0)) __asm__ volatile("call *%0" : : "r"(AT + PAGE - 1), "a"(0), "c"(0), "d"(0) : "memory", "r11");
        look("a call was put back");
        _exit(0);
    }
    while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) ptrace(PTRACE_CONT, pid, 0, WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status));
}

/* Guesses of the token, each by a child. */
static void guesses(unsigned long call_at) {
    for (volatile int i = 0; i < 3; i++) {
        int pid = fork(), status;
        if (pid == 0) {
            register long r9 __asm__("r9") = (long)(i + 1) << 32, r8 __asm__("r8") = 0, r10 __asm__("r10") = 0;
            long result;
            __asm__ volatile("call *%[to]" : "=a"(result) : "a"(SYS_getpid), [to] "r"(call_at), "D"(0), "S"(0), "d"(0), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
            _exit(0);
        }
        if (waitpid(pid, &status, 0) == pid && i == 1) escaped("there is a second guess of the token");
    }
}

/* GS within the thread's own slot, at its porch, by the kernel's own instruction. */
static void own_slot(unsigned long wrgsbase) {
    unsigned long slot = block & ~((256ul << 10) - 1);
    memset((void *)slot, 0x41, PAGE);
    __asm__ volatile("jmp *%[to]" : : [to] "r"(wrgsbase), "S"(slot), "a"(slot), "c"(slot), "d"(slot), "D"(slot) : "memory");
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    heap = look_around(faulted) + HEAP;
    unsigned long number = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;
    ret = base + number + 2;
    alarm(120);
    trying();
    look("the start");
    if (is(argv[1], "steps")) steps(argc > 3 ? base + strtoul(argv[3], NULL, 0) : 0);
    else if (is(argv[1], "tls")) { if (syscall(SYS_clone, CLONE_SETTLS | SIGCHLD, 0, 0, 0, 1ul << 63) == 0) _exit(0); wait(NULL); }
    else if (is(argv[1], "trampolines")) trampolines();
    else if (is(argv[1], "rewriting")) rewriting();
    else if (is(argv[1], "turning")) turning(number ? (int)number : 10, 0);
    else if (is(argv[1], "peeking")) turning(number ? (int)number : 10, 1);
    else if (is(argv[1], "restoring")) restoring();
    else if (is(argv[1], "limits")) limits();
    else if (is(argv[1], "halfway")) halfway();
    else if (is(argv[1], "guesses")) guesses(base + number);
    else if (is(argv[1], "own_slot")) own_slot(base + number);
    else return 2;
    look(argv[1]);
    held();
    return 0;
}
