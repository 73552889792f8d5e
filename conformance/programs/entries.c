/* Every way into the kernel: syscall, int 0x80, x32 numbers, the vsyscall page, the vDSO; and what each leaves of the registers. */
#include "report.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

struct registers { long a, b, c, d, si, di, bp, r8, r9, r10, r11, r12, r13, r14, r15, flags; };

/* Makes a call with every register set, and reads them back. */
#define ENTER(instruction, r) ({ __asm__ volatile( \
    "push %%rbp\n push %%rbx\n mov %0, %%rax\n push %%rax\n mov 8(%%rax), %%rbx\n mov 16(%%rax), %%rcx\n mov 24(%%rax), %%rdx\n mov 32(%%rax), %%rsi\n" \
    "mov 40(%%rax), %%rdi\n mov 48(%%rax), %%rbp\n mov 56(%%rax), %%r8\n mov 64(%%rax), %%r9\n mov 72(%%rax), %%r10\n mov 80(%%rax), %%r11\n" \
    "mov 88(%%rax), %%r12\n mov 96(%%rax), %%r13\n mov 104(%%rax), %%r14\n mov 112(%%rax), %%r15\n mov (%%rax), %%rax\n stc\n" \
    instruction "\n push %%rax\n pushfq\n mov 16(%%rsp), %%rax\n mov %%rbx, 8(%%rax)\n mov %%rcx, 16(%%rax)\n mov %%rdx, 24(%%rax)\n mov %%rsi, 32(%%rax)\n" \
    "mov %%rdi, 40(%%rax)\n mov %%rbp, 48(%%rax)\n mov %%r8, 56(%%rax)\n mov %%r9, 64(%%rax)\n mov %%r10, 72(%%rax)\n mov %%r11, 80(%%rax)\n" \
    "mov %%r12, 88(%%rax)\n mov %%r13, 96(%%rax)\n mov %%r14, 104(%%rax)\n mov %%r15, 112(%%rax)\n pop %%rcx\n mov %%rcx, 120(%%rax)\n pop %%rcx\n mov %%rcx, (%%rax)\n" \
    "pop %%rax\n pop %%rbx\n pop %%rbp" :: "r"(r) : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", \
        "r14", "r15", "memory", "cc"); })

static struct registers set(long number) {
    return (struct registers){number, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0};
}
static void show(const char *name, const struct registers *r, int syscall) {
    printf("%s: b %lx d %lx si %lx di %lx bp %lx 8 %lx 9 %lx 10 %lx 12 %lx 13 %lx 14 %lx 15 %lx carry %ld", name, r->b, r->d,
        r->si, r->di, r->bp, r->r8, r->r9, r->r10, r->r12, r->r13, r->r14, r->r15, r->flags & 1);
    if (!syscall) printf(" c %lx 11 %lx", r->c, r->r11);
    printf("\n");
}

static void registers(void) {
    struct registers r = set(SYS_getpid);
    ENTER("syscall", &r), show("syscall", &r, 1), YES(r.a == getpid());
    r = set(-1), ENTER("syscall", &r), show("no such call", &r, 1), printf("%ld\n", r.a);
    /* The same site again and again: however it is entered later, it looks the same. */
    for (int i = 0; i < 50; i++) r = set(SYS_getppid), ENTER("syscall", &r);
    show("fiftieth time", &r, 1), YES(r.a == getppid());
}

static sigjmp_buf back;
static void caught(int number) { siglongjmp(back, number); }
#define TRIED(what, code) do { int s_ = sigsetjmp(back, 1); if (s_ == 0) { code; } else printf("%s: signal %d\n", what, s_); } while (0)

static long old(long number, long b, long c, long d) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(b), "c"(c), "d"(d) : "r8", "r9", "r10", "r11", "memory");
    return result;
}
static void old_calls(void) {
    char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    struct registers r = set(20);
    ENTER("int $0x80", &r),
        printf("int 0x80: b %lx d %lx si %lx di %lx bp %lx 12 %lx 13 %lx 14 %lx 15 %lx\n", r.b, r.d, r.si, r.di, r.bp, r.r12,
        r.r13, r.r14, r.r15), YES(r.a == getpid());
    strcpy(low, "written by int 0x80\n");
    fflush(stdout);
    printf("%ld\n", old(4, 1, (long)low, 20));
    strcpy(low, "made");
    long f = old(5, (long)low, O_RDWR | O_CREAT, 0600);
    YES(f >= 3), printf("%ld %ld %ld\n", old(4, f, (long)low, 4), old(19, f, 0, 0), old(3, f, (long)low + 100, 10)),
        printf("'%s' %ld %ld\n", low + 100, old(6, f, 0, 0), old(6, f, 0, 0)), printf("%ld\n", old(10, (long)low, 0, 0));
    YES(old(20, 0, 0, 0) == getpid()), YES(old(64, 0, 0, 0) == getppid()), YES(old(24, 0, 0, 0) >= 0),
        YES(old(13, 0, 0, 0) > 1600000000),
        printf("%ld %ld %ld\n", old(60, 022, 0, 0), old(33, (long)low, 0, 0), old(4, 1, 8, 3));
    /* Pointers are cut to 32 bits, arguments too. */
    printf("%ld\n", old(6, 0x1000003ff, 0, 0));
    printf("no such call %ld\n", old(999, 0, 0, 0));
    pid_t child = fork();
    if (child == 0) old(1, 42, 0, 0), _exit(9);
    int status;
    waitpid(child, &status, 0), printf("exit %d\n", WEXITSTATUS(status));
}

static void wide_numbers(void) {
    CALL(syscall(0x40000000 | SYS_getpid)), CALL(syscall(0x40000000 | 520));
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(0x100000000 | SYS_getpid) : "rcx", "r11", "memory");
    YES(result == getpid());
    __asm__ volatile("syscall" : "=a"(result) : "a"(0xffffffffffffffff) : "rcx", "r11", "memory");
    printf("%ld\n", result);
}

static void fixed_page(void) {
    struct timeval tv;
    time_t now = time(NULL), t = 0;
    TRIED("vsyscall time", printf("%d\n", ((time_t (*)(time_t *))0xffffffffff600400)(&t) - now < 3));
    TRIED("vsyscall gettimeofday", printf("%d\n", ((int (*)(struct timeval *, void *))0xffffffffff600000)(&tv, NULL)));
    TRIED("vsyscall getcpu", printf("%d\n", ((int (*)(unsigned *, unsigned *, void *))0xffffffffff600800)(NULL, NULL, NULL)));
    TRIED("vsyscall elsewhere", ((void (*)(void))0xffffffffff600010)());
    TRIED("vsyscall read", printf("%d\n", *(volatile unsigned char *)0xffffffffff600000 >= 0));
}

static void fast_page(void) {
    unsigned char *vdso = (unsigned char *)getauxval(AT_SYSINFO_EHDR);
    YES(vdso != NULL && memcmp(vdso, "\177ELF", 4) == 0);
    struct timespec a, b;
    struct timeval tv;
    for (int clock = 0; clock < 12; clock++) if (clock != 10) printf("clock %d: %d %d\n", clock, clock_gettime(clock, &a),
        (int)syscall(SYS_clock_gettime, clock, &b));
    clock_gettime(CLOCK_MONOTONIC, &a), syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &b);
    YES(b.tv_sec > a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec >= a.tv_nsec)),
        YES(gettimeofday(&tv, NULL) == 0 && tv.tv_sec - time(NULL) < 2);
}

/* A call made on a page of its own: code that comes and goes. */
static void made_code(void) {
    static const unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};
    unsigned char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int place = 0; place < 4096 - 8; place += 511) {
        memcpy(p + place, code, sizeof code);
        int good = 0;
        for (int i = 0; i < 40; i++) good += ((int (*)(void))(p + place))() == getpid();
        printf("%d %d\n", place, good);
    }
    p[1] = 110;
    int good = 0;
    for (int i = 0; i < 40; i++) good += ((int (*)(void))p)() == getppid();
    printf("rewritten: %d\n", good);
    mprotect(p, 4096, PROT_READ | PROT_EXEC);
    for (int i = good = 0; i < 40; i++) good += ((int (*)(void))p)() == getppid();
    printf("made read-only: %d, protection kept: ", good);
    TRIED("write", p[0] = 1);
    munmap(p, 4096);
    TRIED("after munmap", ((int (*)(void))p)());
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    signal(SIGSEGV, caught), signal(SIGILL, caught), signal(SIGBUS, caught), signal(SIGSYS, caught);
    registers();
    old_calls();
    wide_numbers();
    fixed_page();
    fast_page();
    made_code();
    return 0;
}
