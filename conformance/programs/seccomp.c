// seccomp(2): filters of a program's own, their actions, inheritance, and what is refused.
#define _GNU_SOURCE
#include "report.h"
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define ARG(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[n]))
#define IF(v, t, f) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, v, t, f)
#define RET(v) BPF_STMT(BPF_RET | BPF_K, v)

static int install(struct sock_filter *f, unsigned n, unsigned flags) {
    struct sock_fprog p = {n, f};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p);
}
#define INSTALL(flags, ...) ({ struct sock_filter f_[] = {__VA_ARGS__}; install(f_, sizeof f_ / sizeof *f_, flags); })
// getppid (110) does `action`, all else is allowed.
#define ON_GETPPID(action) INSTALL(0, NR, IF(SYS_getppid, 0, 1), RET(action), RET(SECCOMP_RET_ALLOW))

static void show(const char *what, long r) { printf("%s %ld %s\n", what, r < 0 ? -1 : r, r < 0 ? strerrorname_np(errno) : ""); }

static void in_child(const char *what, void (*f)(void)) {
    fflush(stdout);
    pid_t child = fork();
    if (!child) { f(); fflush(stdout); _exit(0); }
    int status;
    waitpid(child, &status, 0);
    if (WIFEXITED(status)) printf("%s: exited %d\n", what, WEXITSTATUS(status));
    else printf("%s: signal %d\n", what, WTERMSIG(status));
}

static void no_privilege(void) {
    if (geteuid() == 0 && setresuid(65534, 65534, 65534)) return;
    show("without no_new_privs", INSTALL(0, RET(SECCOMP_RET_ALLOW)));
}
static void errors(void) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    show("empty", install(0, 0, 0));
    show("bad address", install((void *)8, 1, 0));
    show("no return", INSTALL(0, NR));
    show("load behind the end", INSTALL(0, BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), RET(0)));
    show("load of a byte", INSTALL(0, BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), RET(0)));
    show("jump behind the end", INSTALL(0, BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0), RET(0)));
    show("modulo", INSTALL(0, BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 2), RET(0)));
    show("division by zero", INSTALL(0, BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), RET(0)));
    show("unwritten memory", INSTALL(0, BPF_STMT(BPF_LD | BPF_MEM, 1), RET(0)));
    show("unknown flag", INSTALL(1 << 20, RET(SECCOMP_RET_ALLOW)));
    show("unknown operation", syscall(SYS_seccomp, 77, 0, 0));
    show("strict with an argument", syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, 0));
    for (unsigned i = 0; i < 3; i++) {
        unsigned action = (unsigned[]){SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW, 0x12340000}[i];
        show("available", syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action));
    }
    show("mode", prctl(PR_GET_SECCOMP));
}
static void errno_of(void) {
    show("install", ON_GETPPID(SECCOMP_RET_ERRNO | ENOTNAM));
    show("getppid", syscall(SYS_getppid));
    show("getpid", syscall(SYS_getpid) > 0);
    show("mode", prctl(PR_GET_SECCOMP));
    // A later filter can only be stricter.
    show("install", ON_GETPPID(SECCOMP_RET_ALLOW));
    show("getppid", syscall(SYS_getppid));
    show("install", ON_GETPPID(SECCOMP_RET_ERRNO | ENOMEDIUM));
    show("getppid", syscall(SYS_getppid));
    show("install", ON_GETPPID(SECCOMP_RET_ERRNO | 0));
    show("getppid of nothing", syscall(SYS_getppid));
    show("install", ON_GETPPID(SECCOMP_RET_TRACE | 5));
    fflush(stdout);
    if (!fork()) { show("in a child", syscall(SYS_getppid)); fflush(stdout); execl("/bin/sh", "sh", "-c", "grep ^Seccomp /proc/self/status; exit 3", (char *)0); _exit(9); }
    int status; wait(&status); printf("child %x\n", status);
}
static void traced(void) {
    ON_GETPPID(SECCOMP_RET_TRACE | 5);
    show("trace without a tracer", syscall(SYS_getppid));
}
static volatile sig_atomic_t told;
static void on_sigsys(int s, siginfo_t *i, void *u) {
    (void)u; told++;
    printf("SIGSYS %d code %d errno %d syscall %d arch %x address %d\n", s, i->si_code, i->si_errno, i->si_syscall, i->si_arch, i->si_call_addr != 0);
}
static void trap(void) {
    struct sigaction a = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &a, 0);
    ON_GETPPID(SECCOMP_RET_TRAP | 77);
    printf("getppid %ld told %d\n", syscall(SYS_getppid), told);
    signal(SIGSYS, SIG_IGN);
    syscall(SYS_getppid);
    printf("not reached\n");
}
static void kill_process(void) { ON_GETPPID(SECCOMP_RET_KILL_PROCESS); syscall(SYS_getppid); printf("not reached\n"); }
static void unknown_action(void) { ON_GETPPID(0x00110000); syscall(SYS_getppid); printf("not reached\n"); }
static void *call_it(void *x) { syscall(SYS_getppid); return x; }
static void kill_thread(void) {
    ON_GETPPID(SECCOMP_RET_KILL_THREAD);
    pthread_t t;
    pthread_create(&t, 0, call_it, (void *)1);
    void *r = (void *)2;
    pthread_join(t, &r);
    printf("a thread has ended, the process goes on\n");
    fflush(stdout);
    syscall(SYS_getppid);
}
static void strict(void) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    fflush(stdout);
    show("strict", prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
    fflush(stdout);
    write(1, "written\n", 8);
    syscall(SYS_getpid);
}
static void arguments(void) {
    show("install", INSTALL(0, NR, IF(SYS_dup, 0, 5), ARG(0), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff), IF(200, 0, 2),
        RET(SECCOMP_RET_ERRNO | EUCLEAN), RET(SECCOMP_RET_ERRNO | EXDEV), RET(SECCOMP_RET_ALLOW)));
    show("dup 200", syscall(SYS_dup, 200));
    show("dup 0x1c8", syscall(SYS_dup, 0x1c8));
    show("dup 0", syscall(SYS_dup, 0));
}
static pthread_barrier_t barrier;
static void *waits(void *x) { pthread_barrier_wait(&barrier); pthread_barrier_wait(&barrier); errno = 0; syscall(SYS_getppid); return (void *)(intptr_t)errno; (void)x; }
static void synchronized(void) {
    pthread_t t; void *r;
    pthread_barrier_init(&barrier, 0, 2);
    pthread_create(&t, 0, waits, 0);
    pthread_barrier_wait(&barrier);
    show("tsync", INSTALL(SECCOMP_FILTER_FLAG_TSYNC, NR, IF(SYS_getppid, 0, 1), RET(SECCOMP_RET_ERRNO | ENOTNAM), RET(SECCOMP_RET_ALLOW)));
    pthread_barrier_wait(&barrier);
    pthread_join(t, &r);
    printf("the other thread: %s\n", strerrorname_np((int)(intptr_t)r));
}
static long by_int80(long nr) { long r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(nr) : "memory"); return r; }
static void other_abi(void) {
    show("install", INSTALL(0, BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)), IF(AUDIT_ARCH_I386, 0, 1), RET(SECCOMP_RET_ERRNO | EL2HLT), RET(SECCOMP_RET_ALLOW)));
    printf("int 0x80 getpid %ld\n", by_int80(20));
    printf("getpid %d\n", getpid() > 0);
}

int main(void) {
    in_child("no privilege", no_privilege);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    in_child("errors", errors);
    in_child("errno", errno_of);
    in_child("traced", traced);
    in_child("trap", trap);
    in_child("kill process", kill_process);
    in_child("unknown action", unknown_action);
    in_child("kill thread", kill_thread);
    in_child("strict", strict);
    in_child("arguments", arguments);
    in_child("synchronized", synchronized);
    in_child("other abi", other_abi);
    return 0;
}
