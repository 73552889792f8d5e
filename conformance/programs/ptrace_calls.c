/* ptrace: calls of a child before and after, registers, changed arguments and results, calls left out. */
#include "report.h"
#include <elf.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

static long trace(long request, pid_t pid, void *address, void *data) { return syscall(SYS_ptrace, request, pid, address, data); }
static void show(int status) {
    if (WIFSTOPPED(status)) printf("stopped by %d event %d\n", WSTOPSIG(status), status >> 16);
    else if (WIFEXITED(status)) printf("exit %d\n", WEXITSTATUS(status));
    else printf("killed by %d\n", WTERMSIG(status));
}
static int next(long request, pid_t pid, long signal) {
    int status = -1;
    if (request >= 0 && trace(request, pid, 0, (void *)signal)) { printf("request %ld: %s\n", request, strerrorname_np(errno)); return -1; }
    if (waitpid(pid, &status, 0) != pid) printf("wait: %s\n", strerrorname_np(errno));
    show(status);
    return status;
}
static pid_t child(void (*run)(void)) {
    pid_t pid = fork();
    if (pid == 0) { if (trace(PTRACE_TRACEME, 0, 0, 0)) _exit(99); raise(SIGSTOP); run(); _exit(3); }
    next(-1, pid, 0);
    return pid;
}
static void again(void) { CALL(trace(PTRACE_TRACEME, 0, 0, 0)); }
static void calls(void) { syscall(SYS_getppid); syscall(SYS_write, 1, "child\n", 6); syscall(SYS_close, 777); syscall(5000, 1, 2, 3, 4, 5, 6); syscall(SYS_exit_group, 5); }
static void info(pid_t pid) {
    struct ptrace_syscall_info i; memset(&i, 0, sizeof i);
    long size = trace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof i, &i);
    printf("info %ld op %d arch %x", size, i.op, i.arch);
    if (i.op == PTRACE_SYSCALL_INFO_ENTRY) { printf(" nr %lld", i.entry.nr); if (i.entry.nr == SYS_write || i.entry.nr == 5000 || i.entry.nr == SYS_close) printf(" %lld %lld", i.entry.args[0], i.entry.nr == SYS_write ? i.entry.args[2] : i.entry.args[0]); }
    if (i.op == PTRACE_SYSCALL_INFO_EXIT) printf(" value %lld error %d", i.exit.rval == getpid() ? 1 : i.exit.rval, i.exit.is_error);
    printf("\n");
}
static void follow(void) {
    pid_t pid = child(calls); info(pid);
    CALL(trace(PTRACE_SETOPTIONS, pid, 0, (void *)PTRACE_O_TRACESYSGOOD));
    for (;;) {
        int status = next(PTRACE_SYSCALL, pid, 0); if (!WIFSTOPPED(status)) break;
        struct user_regs_struct r, s; CALL(trace(PTRACE_GETREGS, pid, 0, &r)); struct iovec v = {&s, sizeof s}; CALL(trace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &v));
        YES(v.iov_len == sizeof r && !memcmp(&r, &s, sizeof r)); YES(r.cs == 0x33 && r.ss == 0x2b && r.fs_base != 0 && r.gs_base == 0);
        long peeked = -1; CALL(trace(PTRACE_PEEKUSR, pid, (void *)offsetof(struct user_regs_struct, orig_rax), &peeked)); printf("call %ld\n", peeked);
        if ((long long)r.rax < 0) printf("rax %lld\n", r.rax);
        siginfo_t si; CALL(trace(PTRACE_GETSIGINFO, pid, 0, &si)); printf("signo %d code %x own %d\n", si.si_signo, si.si_code, si.si_pid == pid);
        unsigned long m = 9; CALL(trace(PTRACE_GETEVENTMSG, pid, 0, &m)); printf("message %lu\n", m); info(pid);
        /* The two bytes before are the instruction, whatever the kernel below has made of the call's site. */
        long code = 0; CALL(trace(PTRACE_PEEKTEXT, pid, (void *)(r.rip - 2), &code)); YES((code & 0xffff) == 0x050f);
    }
}
static void change(void) {
    pid_t pid = child(calls); CALL(trace(PTRACE_SETOPTIONS, pid, 0, (void *)PTRACE_O_TRACESYSGOOD)); struct user_regs_struct r;
    next(PTRACE_SYSCALL, pid, 0); trace(PTRACE_GETREGS, pid, 0, &r); r.orig_rax = -1; r.rax = 77; CALL(trace(PTRACE_SETREGS, pid, 0, &r)); next(PTRACE_SYSCALL, pid, 0); trace(PTRACE_GETREGS, pid, 0, &r); printf("left out: rax %lld orig %lld\n", r.rax, r.orig_rax);
    next(PTRACE_SYSCALL, pid, 0); trace(PTRACE_GETREGS, pid, 0, &r); r.rdx = 3; CALL(trace(PTRACE_SETREGS, pid, 0, &r)); next(PTRACE_SYSCALL, pid, 0); trace(PTRACE_GETREGS, pid, 0, &r); printf("\nshorter: %lld\n", r.rax);
    next(PTRACE_SYSCALL, pid, 0); CALL(trace(PTRACE_POKEUSR, pid, (void *)offsetof(struct user_regs_struct, orig_rax), (void *)SYS_getpid)); next(PTRACE_SYSCALL, pid, 0); trace(PTRACE_GETREGS, pid, 0, &r); YES(r.rax == (unsigned)pid); YES(r.orig_rax == SYS_getpid);
    next(PTRACE_SYSCALL, pid, 0); next(PTRACE_SYSCALL, pid, 0); next(PTRACE_SYSCALL, pid, 0); trace(PTRACE_GETREGS, pid, 0, &r); r.rdi = 9; trace(PTRACE_SETREGS, pid, 0, &r); next(PTRACE_SYSCALL, pid, 0);
}
static void emulate(void) {
    pid_t pid = child(calls); struct user_regs_struct r;
    next(PTRACE_SYSEMU, pid, 0); trace(PTRACE_GETREGS, pid, 0, &r); printf("nr %lld rax %lld\n", r.orig_rax, r.rax);
    next(PTRACE_SYSEMU, pid, 0); trace(PTRACE_GETREGS, pid, 0, &r); printf("nr %lld rax %lld\n", r.orig_rax, r.rax); next(PTRACE_CONT, pid, 0);
}
static void registers(void) {
    pid_t pid = child(calls); struct user_regs_struct r; trace(PTRACE_GETREGS, pid, 0, &r); long w;
    r.cs = 0; CALL(trace(PTRACE_SETREGS, pid, 0, &r)); r.cs = 0x33; r.fs_base = 1ul << 63; CALL(trace(PTRACE_SETREGS, pid, 0, &r)); CALL(trace(PTRACE_GETREGS, pid, 0, (void *)8));
    CALL(trace(PTRACE_PEEKUSR, pid, (void *)1, &w)); CALL(trace(PTRACE_PEEKUSR, pid, (void *)928, &w)); CALL(trace(PTRACE_PEEKUSR, pid, (void *)-8, &w)); CALL(trace(PTRACE_PEEKUSR, pid, (void *)0, (void *)8)); CALL(trace(PTRACE_PEEKUSR, pid, (void *)offsetof(struct user, u_debugreg), &w)); printf("%lx\n", w); CALL(trace(PTRACE_POKEUSR, pid, (void *)offsetof(struct user, u_debugreg[7]), 0)); CALL(trace(PTRACE_POKEUSR, pid, (void *)400, 0));
    CALL(trace(PTRACE_POKEUSR, pid, (void *)offsetof(struct user_regs_struct, eflags), (void *)0xffffffff)); trace(PTRACE_PEEKUSR, pid, (void *)offsetof(struct user_regs_struct, eflags), &w); printf("flags %lx\n", w & ~0x40100l & 0xffffff); CALL(trace(PTRACE_POKEUSR, pid, (void *)offsetof(struct user_regs_struct, eflags), (void *)0x202));
    struct user_fpregs_struct f, g; CALL(trace(PTRACE_GETFPREGS, pid, 0, &f)); f.xmm_space[0] = 0x12345678; CALL(trace(PTRACE_SETFPREGS, pid, 0, &f)); struct iovec v = {&g, sizeof g}; CALL(trace(PTRACE_GETREGSET, pid, (void *)NT_PRFPREG, &v)); printf("xmm0 %x cw %x mxcsr %x len %zu\n", g.xmm_space[0], g.cwd, g.mxcsr, v.iov_len); g.mxcsr = 0xffffffff; v.iov_len = sizeof g; CALL(trace(PTRACE_SETREGSET, pid, (void *)NT_PRFPREG, &v)); v.iov_len = 8; CALL(trace(PTRACE_SETREGSET, pid, (void *)NT_PRFPREG, &v)); v.iov_len = 7; CALL(trace(PTRACE_GETREGSET, pid, (void *)NT_PRFPREG, &v)); v.iov_len = 16; CALL(trace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &v)); printf("%zu\n", v.iov_len); CALL(trace(PTRACE_GETREGSET, pid, (void *)0x999, &v)); CALL(trace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, (void *)8));
    static char x[8192]; v.iov_base = x; v.iov_len = sizeof x; CALL(trace(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &v)); YES(v.iov_len >= 576 && (x[464] & 3) == 3); x[160] = 0x55; CALL(trace(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, &v)); CALL(trace(PTRACE_GETFPREGS, pid, 0, &f)); printf("%x\n", f.xmm_space[0] & 0xff); x[527] = 1; CALL(trace(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, &v)); v.iov_len = 512; CALL(trace(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, &v));
    CALL(trace(0x7777, pid, 0, 0)); CALL(trace(PTRACE_CONT, pid, 0, (void *)65)); CALL(trace(PTRACE_SETOPTIONS, pid, 0, (void *)0x40000000)); CALL(trace(PTRACE_INTERRUPT, pid, 0, 0)); CALL(trace(PTRACE_LISTEN, pid, 0, 0));
    CALL(trace(PTRACE_KILL, pid, 0, 0)); next(-1, pid, 0); CALL(trace(PTRACE_CONT, pid, 0, 0)); CALL(trace(PTRACE_CONT, 99999, 0, 0)); CALL(trace(PTRACE_ATTACH, getpid(), 0, 0)); CALL(trace(PTRACE_ATTACH, 99999, 0, 0)); CALL(trace(PTRACE_CONT, getpid(), 0, 0)); CALL(trace(0x7777, 99999, 0, 0)); CALL(trace(PTRACE_SEIZE, getpid(), (void *)1, 0));
}
int main(void) { next(PTRACE_CONT, child(again), 0); follow(); change(); emulate(); registers(); return 0; }
