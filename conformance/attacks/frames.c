/* frames WHAT: forged frames for the host's rt_sigreturn, which loads every register and the signal mask. */
#include "takeover.h"
#include <signal.h>
#include <ucontext.h>

static unsigned char stack[1 << 16];
static long next_rax;
static char program[] = "/usr/bin/id";

static void arrive(void) {
    say("arrived\n");
    HOST(SYS_exit_group, 0);
}

static void masked(void) {
    /* SIGSYS is blocked now at the host. A call that the filter traps then kills. */
    syscall(SYS_getpid);
    escaped("a call was made with SIGSYS blocked");
    HOST(SYS_exit_group, 1);
}

static void privileged(void) {
    __asm__ volatile("in $0x80, %%al" : : : "rax");
    escaped("a port was read");
    HOST(SYS_exit_group, 1);
}

static void restore(unsigned long rip, unsigned long eflags, unsigned short cs, unsigned short ss, unsigned long mask) {
    /* `struct rt_sigframe` behind its return address: ucontext first, with the kernel's 8-byte mask. */
    static struct { ucontext_t context; } frame __attribute__((aligned(64)));
    memset(&frame, 0, sizeof frame);
    greg_t *registers = frame.context.uc_mcontext.gregs;
    registers[REG_RIP] = rip;
    registers[REG_RSP] = ((unsigned long)stack + sizeof stack - 4096) | 8;
    registers[REG_EFL] = eflags;
    registers[REG_RAX] = next_rax;
    registers[REG_RDI] = (long)program;
    registers[REG_CSGSFS] = cs | (long)ss << 48;
    frame.context.uc_flags = 6; /* UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS */
    memcpy(&frame.context.uc_sigmask, &mask, sizeof mask);
    frame.context.uc_stack.ss_flags = SS_DISABLE;
    /* rt_sigreturn looks for the frame 8 bytes below the stack pointer; the call pushed 8 bytes. */
    __asm__ volatile("mov %[frame], %%rsp; mov $15, %%eax; jmp *%[gadget]" : : [frame] "D"(&frame), [gadget] "S"(gadget) : "memory");
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    take_over();
    trying();
    unsigned long all = ~0ul;
    if (is(argv[1], "well_formed")) restore((unsigned long)arrive, 0x202, 0x33, 0x2b, 0); /* shows that forging works */
    if (is(argv[1], "kernel_address")) restore(0xffffffff81000000, 0x202, 0x33, 0x2b, 0);
    if (is(argv[1], "non_canonical")) restore(0x8000000000000000, 0x202, 0x33, 0x2b, 0);
    if (is(argv[1], "kernel_segment")) restore((unsigned long)arrive, 0x202, 0x10, 0x18, 0);
    if (is(argv[1], "ring_0_segment")) restore((unsigned long)privileged, 0x202, 0x30, 0x28, 0);
    if (is(argv[1], "io_privilege")) restore((unsigned long)privileged, 0x3202, 0x33, 0x2b, 0);
    if (is(argv[1], "compatibility_mode")) restore(base, 0x202, 0x23, 0x2b, 0);
    if (is(argv[1], "blocked_sigsys")) restore((unsigned long)masked, 0x202, 0x33, 0x2b, all);
    if (is(argv[1], "gadget_with_execve")) {
        /* The way of sigreturn-oriented programming: the frame itself makes the call. */
        next_rax = SYS_execve;
        restore((unsigned long)gadget, 0x202, 0x33, 0x2b, 0);
    }
    return 0;
}
