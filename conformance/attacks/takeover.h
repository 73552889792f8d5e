/* A program that owns its address space, our kernel included: it finds the gadget, whose `syscall` instructions are the only ones
 * that the host's filter honours, and makes host calls of its own. What it prints tells the test how far it came: "trying" before
 * an attempt that must not come back, "ESCAPED: ..." for a hole, "held" at the end. */
#ifndef TAKEOVER_H
#define TAKEOVER_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GIB (1ul << 30)
/* The kernel's regions from its base (boundary/src/layout.rs). */
#define HEAP (64 * GIB)
#define FRAMES (128 * GIB)
#define PAGE 4096ul

static unsigned char *gadget;
static unsigned long block, base;

static sigjmp_buf not_there;
static void skip_page(int signal) { (void)signal; siglongjmp(not_there, 1); }

/* Through GS to the thread block of the first stack, which lies in the same GiB as the image, whose pages have gaps between them. */
__attribute__((unused)) static void take_over(void) {
    struct sigaction old, action = {.sa_handler = skip_page};
    sigaction(SIGSEGV, &action, &old);
    __asm__ volatile("rdgsbase %0" : "=r"(block));
    base = block & ~(GIB - 1);
    for (unsigned char *volatile p = (unsigned char *)base; !gadget && p < (unsigned char *)base + (16ul << 20); p += PAGE) {
        if (sigsetjmp(not_there, 1)) continue;
        if (p[0] == 0x0f && p[1] == 0x05 && p[2] == 0xc3) gadget = p; /* syscall; ret */
    }
    sigaction(SIGSEGV, &old, NULL);
    if (!gadget) { puts("no gadget"); exit(2); }
}

/* For a kernel whose memory is closed, in which nothing can be looked for: where it lies, and who takes the faults. Its base. */
__attribute__((unused)) static unsigned long look_around(void (*faulted)(int, siginfo_t *, void *)) {
    struct sigaction action = {.sa_sigaction = faulted, .sa_flags = SA_SIGINFO | SA_NODEFER};
    int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
    for (int i = 0; i < 5; i++) sigaction(signals[i], &action, NULL);
    __asm__ volatile("rdgsbase %0" : "=r"(block));
    return base = block & ~(GIB - 1);
}

__attribute__((unused)) static long host(long number, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    /* Not over the red zone. */
    __asm__ volatile("sub $128, %%rsp; call *%[gadget]; add $128, %%rsp"
                     : "=a"(result)
                     : "a"(number), [gadget] "r"(gadget), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#define HOST_(n, a, b, c, d, e, f, ...) host(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define HOST(...) HOST_(__VA_ARGS__, 0, 0, 0, 0, 0, 0)

/* To the host's standard output, with or without our kernel. */
__attribute__((unused, format(printf, 1, 2))) static void say(const char *format, ...) {
    char text[512];
    va_list list;
    va_start(list, format);
    int length = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (length > (int)sizeof text - 1) length = sizeof text - 1;
    if (gadget) HOST(SYS_write, 1, text, length);
    else if (write(1, text, length) < 0) _exit(3);
}

#define escaped(...) do { say("ESCAPED: " __VA_ARGS__); say("\n"); } while (0)

__attribute__((unused)) static void trying(void) { say("trying\n"); }

__attribute__((unused)) static void held(void) { say("held\n"); }

__attribute__((unused)) static int is(const char *one, const char *other) { return strcmp(one, other) == 0; }

#endif
