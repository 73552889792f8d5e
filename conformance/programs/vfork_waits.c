/* vfork: what becomes of a parent that waits and of a child that does more than to execute. */
#define _GNU_SOURCE
#include "report.h"
#include <asm/prctl.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;
static volatile int shared, handled, handled_by;
static char stack[65536] __attribute__((aligned(64)));
static char second[65536] __attribute__((aligned(64)));

static void status(const char *what, int st) {
    if (WIFSIGNALED(st)) printf("%s: killed by %d\n", what, WTERMSIG(st));
    else printf("%s: exit %d\n", what, WEXITSTATUS(st));
}
static int ended(pid_t pid) { int st = -1; while (waitpid(pid, &st, 0) < 0 && errno == EINTR) ; return st; }
static void handler(int signal) { (void)signal; handled++; handled_by = getpid(); }
static void quiet_exit(int code) { syscall(SYS_exit_group, code); }

/* The letter of a process's state; 0 if there is none. */
static char state(pid_t pid) {
    char path[64], line[512] = ""; snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY); if (fd < 0) return 0;
    long n = read(fd, line, sizeof line - 1); close(fd);
    char *end = n > 0 ? strrchr(line, ')') : NULL; return end ? end[2] : 0;
}
static void becomes(pid_t pid, char wanted) { while (state(pid) != wanted) usleep(1000); }

/* Vector, floating point and segment registers of the parent, whatever the child does to its own. */
__attribute__((target("avx"))) static void registers(void) {
    uint64_t before[4] = {1, 2, 3, 4}, after[4] = {0}; uint32_t mxcsr = 0x1f80 | 0x6000, got = 0; uint16_t control = 0x7f, control_got = 0;
    uint32_t usual = 0x1f80; unsigned long base = 0, base_after = 0;
    int avx = __builtin_cpu_supports("avx");
    syscall(SYS_arch_prctl, ARCH_GET_FS, &base);
    if (avx) __asm__ volatile("vmovups %0, %%ymm9" :: "m"(before) : "xmm9");
    __asm__ volatile("ldmxcsr %0; fldcw %1" :: "m"(mxcsr), "m"(control));
    long pid; register long r10 __asm__("r10") = 0; register long r8 __asm__("r8") = 0;
    long rbx = 0x1234, r12 = 0;
    __asm__ volatile(
        "mov $0x5678, %%r12; mov $56, %%eax; syscall; test %%rax, %%rax; jnz 1f;"
        "xor %%ebx, %%ebx; xor %%r12d, %%r12d; fninit; ldmxcsr %[usual]; test %[avx], %[avx]; jz 2f; vxorps %%ymm9, %%ymm9, %%ymm9;"
        "2: mov $158, %%eax; mov $0x1002, %%edi; xor %%esi, %%esi; syscall;"
        "mov $60, %%eax; mov $5, %%edi; syscall; hlt;"
        "1: mov %%r12, %[r12]"
        : "=a"(pid), "+b"(rbx), [r12] "=m"(r12)
        : "D"(CLONE_VM | CLONE_VFORK | SIGCHLD), "S"(stack + sizeof stack), "d"(0L), "r"(r10), "r"(r8), [usual] "m"(usual), [avx] "r"(avx)
        : "rcx", "r11", "r12", "memory");
    if (avx) __asm__ volatile("vmovups %%ymm9, %0" : "=m"(after));
    __asm__ volatile("stmxcsr %0; fnstcw %1; fninit; ldmxcsr %2" : "=m"(got), "=m"(control_got) : "m"(usual));
    syscall(SYS_arch_prctl, ARCH_GET_FS, &base_after);
    YES(!avx || !memcmp(before, after, sizeof before)); YES((got & ~0x3f) == mxcsr); YES(control_got == control);
    YES(base == base_after); YES(rbx == 0x1234 && r12 == 0x5678);
    status("registers", ended(pid));
}

static void signals(void) {
    struct sigaction sa = {.sa_handler = handler}; sigaction(SIGUSR1, &sa, NULL);
    volatile int early = 0, own = 0; pid_t parent = getpid(); handled = 0;
    pid_t c = vfork();
    if (!c) {
        kill(parent, SIGUSR1); kill(parent, SIGUSR1); usleep(20000); early = handled;
        raise(SIGUSR1); own = handled_by == getpid();
        sigset_t all; sigfillset(&all); sigprocmask(SIG_SETMASK, &all, NULL);
        signal(SIGUSR2, SIG_IGN); stack_t alt = {.ss_sp = second, .ss_size = sizeof second}; sigaltstack(&alt, NULL);
        raise(SIGUSR1); _exit(handled);
    }
    printf("before the end of the child %d, its own %d\n", early, own);
    status("signals", ended(c)); YES(handled == 2 && handled_by == parent);
    sigset_t mask; sigprocmask(SIG_SETMASK, NULL, &mask); YES(!sigismember(&mask, SIGTERM));
    stack_t now; sigaltstack(NULL, &now); YES(now.ss_flags == SS_DISABLE);
    struct sigaction usr2; sigaction(SIGUSR2, NULL, &usr2); YES(usr2.sa_handler == SIG_DFL);
    c = vfork(); if (!c) { kill(getpid(), SIGKILL); _exit(0); }
    status("killed", ended(c));
    c = vfork(); if (!c) { *(volatile int *)8 = 1; _exit(0); }
    status("fault", ended(c));
    sigset_t block; sigemptyset(&block); sigaddset(&block, SIGCHLD); sigprocmask(SIG_BLOCK, &block, NULL);
    c = vfork(); if (!c) _exit(9);
    siginfo_t info; YES(sigwaitinfo(&block, &info) == SIGCHLD && info.si_pid == c && info.si_status == 9);
    sigprocmask(SIG_UNBLOCK, &block, NULL); status("taken", ended(c));
}

static void ids(void) {
    pid_t parent = getpid(); volatile pid_t pid = 0, tid = 0, above = 0;
    cpu_set_t before, after, one; sched_getaffinity(0, sizeof before, &before); CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE; i++) if (CPU_ISSET(i, &before)) { CPU_SET(i, &one); break; }
    pid_t c = vfork();
    if (!c) { pid = getpid(); tid = syscall(SYS_gettid); above = getppid(); sched_setaffinity(0, sizeof one, &one); chdir("/usr"); umask(07); _exit(1); }
    YES(pid == c && tid == c && above == parent); YES(getpid() == parent && syscall(SYS_gettid) == parent);
    usleep(1000); sched_getaffinity(0, sizeof after, &after); YES(CPU_EQUAL(&before, &after));
    char here[256]; YES(getcwd(here, sizeof here) && strcmp(here, "/usr")); status("ids", ended(c));
    c = vfork(); if (!c) { sched_setaffinity(0, sizeof one, &one); execl("/bin/sh", "sh", "-c", "test $(nproc) = 1", NULL); _exit(9); }
    status("processors after exec", ended(c));
    volatile int error = 0; c = vfork();
    if (!c) { execl("/nonexistent", "x", NULL); error = errno; execl("/etc/passwd", "x", NULL); error = error * 1000 + errno; _exit(127); }
    YES(error == ENOENT * 1000 + EACCES); status("not executed", ended(c));
}

static int thread_main(void *argument) { (void)argument; shared++; syscall(SYS_futex, &shared, FUTEX_WAKE, 1, NULL, NULL, 0); syscall(SYS_exit, 0); return 0; }
static void *exits(void *gate) { char byte; read(*(int *)gate, &byte, 1); quiet_exit(7); return NULL; }
static void *executes(void *gate) { char byte; read(*(int *)gate, &byte, 1); execl("/bin/sh", "sh", "-c", "exit 8", NULL); return NULL; }

static void threads(void) {
    shared = 0; pid_t c = vfork();
    if (!c) {
        clone(thread_main, second + sizeof second, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, NULL);
        while (shared == 0) syscall(SYS_futex, &shared, FUTEX_WAIT, 0, NULL, NULL, 0);
        _exit(shared);
    }
    status("a thread of the child", ended(c));
    shared = 0; c = vfork();
    if (!c) {
        clone(thread_main, second + sizeof second, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, NULL);
        while (shared == 0) ;
        execl("/bin/sh", "sh", "-c", "exit 6", NULL); _exit(1);
    }
    status("a child that had threads executes", ended(c));
    void *(*ends[])(void *) = {exits, executes};
    for (int i = 0; i < 2; i++) {
        int gate[2], held[2], news[2]; pipe(gate); pipe(held); pipe(news);
        pid_t p = fork();
        if (!p) {
            pthread_t t; pthread_create(&t, NULL, ends[i], gate); close(held[1]);
            if (!vfork()) { char byte; pid_t me = getpid(); write(news[1], &me, sizeof me); read(held[0], &byte, 1); write(news[1], "c", 1); _exit(0); }
            quiet_exit(1);
        }
        pid_t child; char byte = 0; read(news[0], &child, sizeof child); becomes(child, 'S'); write(gate[1], "x", 1);
        status(i ? "another thread executes" : "another thread exits", ended(p));
        write(held[1], "x", 1); close(news[1]); read(news[0], &byte, 1); YES(byte == 'c');
        close(gate[0]); close(gate[1]); close(held[0]); close(held[1]); close(news[0]);
    }
}

static pid_t in_vfork(int *held, int *news, int stops) {
    pid_t p = fork();
    if (!p) {
        close(held[1]);
        if (!vfork()) {
            char byte; pid_t me = getpid(); write(news[1], &me, sizeof me);
            if (stops) raise(SIGSTOP);
            read(held[0], &byte, 1); write(news[1], "c", 1); _exit(3);
        }
        int st; pid_t got = wait(&st); (void)got; quiet_exit(WEXITSTATUS(st));
    }
    return p;
}
static void killed_parents(void) {
    for (int stops = 0; stops < 2; stops++) {
        int held[2], news[2]; pipe(held); pipe(news); pid_t child; char byte = 0;
        pid_t p = in_vfork(held, news, stops); read(news[0], &child, sizeof child); becomes(child, stops ? 'T' : 'S');
        YES(waitpid(p, NULL, WNOHANG) == 0);
        kill(p, SIGKILL); status("killed while it waits", ended(p));
        YES(state(child) == (stops ? 'T' : 'S')); kill(child, SIGCONT);
        write(held[1], "x", 1); close(news[1]); read(news[0], &byte, 1); YES(byte == 'c');
        close(held[0]); close(held[1]); close(news[0]);
    }
}

static void stops(void) {
    int held[2], news[2]; pipe(held); pipe(news); pid_t child; char byte; int st;
    pid_t p = in_vfork(held, news, 1); read(news[0], &child, sizeof child); becomes(child, 'T');
    usleep(10000); YES(waitpid(p, &st, WNOHANG | WUNTRACED) == 0);
    kill(child, SIGCONT); becomes(child, 'S'); kill(p, SIGSTOP); usleep(10000); YES(waitpid(p, &st, WNOHANG | WUNTRACED) == 0);
    write(held[1], "x", 1); read(news[0], &byte, 1); YES(waitpid(p, &st, WUNTRACED) == p && WIFSTOPPED(st));
    kill(p, SIGCONT); status("stopped behind its child", ended(p));
    close(held[0]); close(held[1]); close(news[0]); close(news[1]);
}

static volatile long word = 0x1357;
static void looked_into(void) {
    int held[2], news[2]; pipe(held); pipe(news); pid_t child; char byte; long got = 0, set = 0x2468;
    pid_t p = in_vfork(held, news, 0); read(news[0], &child, sizeof child); becomes(child, 'S');
    struct iovec mine = {&got, sizeof got}, theirs = {(void *)&word, sizeof word}, new = {&set, sizeof set};
    CALL(process_vm_readv(p, &mine, 1, &theirs, 1, 0));
    YES(got == 0x1357);
    CALL(process_vm_writev(child, &new, 1, &theirs, 1, 0));
    CALL(process_vm_readv(p, &mine, 1, &theirs, 1, 0));
    YES(got == 0x2468);
    write(held[1], "x", 1); read(news[0], &byte, 1); status("looked into", ended(p));
    close(held[0]); close(held[1]); close(news[0]); close(news[1]);
}

/* The middle one of three is killed: the first goes on, the last is left alone. Each has a stack of its own. */
static int held[2], news[2];
static int last_of_three(void *argument) {
    char got; pid_t me = getpid(); (void)argument;
    write(news[1], &me, sizeof me); read(held[0], &got, 1); write(news[1], "c", 1); _exit(0);
}
static int middle_of_three(void *argument) {
    pid_t me = getpid(); (void)argument;
    write(news[1], &me, sizeof me); clone(last_of_three, second + sizeof second, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL); _exit(1);
}
static void nested(void) {
    pid_t middle, last; char byte = 0; pipe(held); pipe(news);
    pid_t p = fork();
    if (!p) {
        close(held[1]);
        pid_t b = clone(middle_of_three, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
        int st; waitpid(b, &st, 0); quiet_exit(WIFSIGNALED(st) ? WTERMSIG(st) : 0);
    }
    read(news[0], &middle, sizeof middle); read(news[0], &last, sizeof last); becomes(last, 'S');
    usleep(10000); YES(waitpid(p, NULL, WNOHANG) == 0);
    kill(middle, SIGKILL); status("the first of three", ended(p)); YES(state(last) == 'S');
    write(held[1], "x", 1); read(news[0], &byte, 1); YES(byte == 'c');
}

static void *spawns(void *failed) {
    for (int i = 0; i < 40; i++) {
        pid_t p; char *argv[] = {"true", NULL};
        if (posix_spawn(&p, "/bin/true", NULL, NULL, argv, environ) || ended(p)) ++*(int *)failed;
    }
    return NULL;
}
static void several(void) {
    pthread_t t[4]; int failed[4] = {0}, sum = 0;
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, spawns, &failed[i]);
    for (int i = 0; i < 4; i++) { pthread_join(t[i], NULL); sum += failed[i]; }
    printf("of four threads' programs failed: %d\n", sum);
}

int main(void) {
    registers(); signals(); ids(); threads(); killed_parents(); stops(); looked_into(); nested(); several();
    return 0;
}
