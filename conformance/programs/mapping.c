/* mmap(2), munmap(2), mprotect(2) in all their forms: what is mapped, what a touch of it does, and which error a bad request gives. */
#include "report.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define PAGE 4096ul
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

static sigjmp_buf back;
static volatile int code;
static void *volatile where;

static void caught(int number, siginfo_t *info, void *context) {
    code = info->si_code;
    where = info->si_addr;
    siglongjmp(back, number);
}

/* What reading, writing or executing at an address does. */
static void touch(const char *what, volatile char *at, int kind) {
    int number = sigsetjmp(back, 1);
    if (number == 0) {
        if (kind == 'w') *at = *at + 1;
        else if (kind == 'x') ((void (*)(void))at)();
        else (void)*at;
        printf("%s %c: ok\n", what, kind);
    } else {
        printf("%s %c: signal %d code %d address %s\n", what, kind, number, code, where == at ? "right" : "wrong");
    }
}

/* The areas between two addresses, relative to the first, as /proc/self/maps shows them. */
static void areas(const char *what, char *from, char *to) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512], perm[8];
    unsigned long low, high, offset;
    printf("%s:", what);
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx %7s %lx", &low, &high, perm, &offset) != 4) continue;
        if (low < (unsigned long)from || high > (unsigned long)to) continue;
        printf(" [%ld-%ld %s %lx]", (low - (unsigned long)from) / PAGE, (high - (unsigned long)from) / PAGE, perm, offset);
    }
    printf("\n");
    fclose(maps);
}

/* A hole of address space whose neighbours are unmapped, so that areas inside do not merge with others. */
static char *room(size_t pages) {
    char *p = mmap(NULL, (pages + 2) * PAGE, PROT_NONE, ANON, -1, 0);
    munmap(p, (pages + 2) * PAGE);
    return p + PAGE;
}

static void anonymous(void) {
    char *p = room(8);
    YES(mmap(p, 8 * PAGE, RW, ANON | MAP_FIXED, -1, 0) == p);
    areas("one", p, p + 8 * PAGE);
    touch("fresh", p + 7 * PAGE, 'w');
    CALL(mprotect(p + 2 * PAGE, 2 * PAGE, PROT_READ));
    areas("split in three", p, p + 8 * PAGE);
    touch("read-only", p + 2 * PAGE, 'r');
    touch("read-only", p + 3 * PAGE, 'w');
    touch("not executable", p + 3 * PAGE, 'x');
    CALL(mprotect(p + 2 * PAGE, 2 * PAGE, RW));
    areas("merged again", p, p + 8 * PAGE);
    CALL(mprotect(p, PAGE, PROT_NONE));
    touch("none", p, 'r');
    touch("none", p, 'w');
    CALL(mprotect(p, PAGE, PROT_WRITE));
    touch("write alone lets read", p, 'w');
    CALL(munmap(p + 4 * PAGE, PAGE));
    CALL(munmap(p + 4 * PAGE, PAGE));
    areas("a hole", p, p + 8 * PAGE);
    touch("hole", p + 4 * PAGE, 'r');
    CALL(mprotect(p + 3 * PAGE, 3 * PAGE, PROT_READ));
    areas("protected up to the hole", p, p + 8 * PAGE);
    CALL(munmap(p, 8 * PAGE));
    areas("nothing", p, p + 8 * PAGE);
    CALL(mprotect(p, PAGE, PROT_READ));
    CALL(mprotect(p, 0, PROT_READ));
    CALL(mprotect(p + 1, PAGE, PROT_READ));
    CALL(mprotect(p, PAGE, 0x40));
    CALL(mprotect(p, PAGE, PROT_READ | PROT_GROWSDOWN | PROT_GROWSUP));
    CALL(munmap(p + 1, PAGE));
    CALL(munmap(p, 0));
    CALL(munmap((void *)-PAGE, PAGE));
    CALL(munmap((void *)0x7ffffffff000, PAGE));
    CALL(munmap(p, -PAGE));
}

static void placement(void) {
    char *p = room(8);
    YES(mmap(p, PAGE, RW, ANON, -1, 0) == p);
    YES(mmap(p, PAGE, RW, ANON, -1, 0) != p);
    CALL((long)mmap(p + 1, PAGE, RW, ANON | MAP_FIXED, -1, 0));
    CALL((long)mmap(p, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0));
    CALL((long)mmap(p - PAGE, 3 * PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0));
    YES(mmap(p + 4 * PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == p + 4 * PAGE);
    p[0] = 'x';
    YES(mmap(p, PAGE, RW, ANON | MAP_FIXED, -1, 0) == p && p[0] == 0);
    CALL((long)mmap((void *)0x7ffffffff000, PAGE, RW, ANON | MAP_FIXED, -1, 0));
    CALL((long)mmap((void *)-PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0));
    CALL((long)mmap((void *)0x7fffffffe000, 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0));
    CALL((long)mmap(NULL, 1ul << 47, RW, ANON, -1, 0));
    CALL((long)mmap(NULL, -1ul, RW, ANON, -1, 0));
    CALL((long)mmap(NULL, -PAGE, RW, ANON, -1, 0));
    CALL((long)mmap(NULL, 0, RW, ANON, -1, 0));
    YES((unsigned long)mmap((void *)(1ul << 60), PAGE, RW, ANON, -1, 0) < 1ul << 47);
    char *low = mmap(NULL, PAGE, RW, ANON | MAP_32BIT, -1, 0);
    YES(low != MAP_FAILED && (unsigned long)low < 1ul << 31);
    YES(mmap(NULL, PAGE, RW, ANON | MAP_STACK | MAP_NORESERVE | MAP_DENYWRITE | MAP_EXECUTABLE, -1, 0) != MAP_FAILED);
    char *filled = mmap(NULL, 4 * PAGE, RW, ANON | MAP_POPULATE, -1, 0);
    unsigned char in[4] = {0};
    CALL(mincore(filled, 4 * PAGE, in));
    printf("populated %d%d%d%d\n", in[0] & 1, in[1] & 1, in[2] & 1, in[3] & 1);
    CALL((long)mmap(NULL, PAGE, RW, MAP_ANONYMOUS, -1, 0));
    CALL((long)mmap(NULL, PAGE, RW, MAP_ANONYMOUS | MAP_SHARED_VALIDATE | 0x10000000, -1, 0));
    YES(mmap(NULL, PAGE, RW, MAP_ANONYMOUS | MAP_SHARED, -1, 0) != MAP_FAILED);
    CALL((long)mmap(NULL, PAGE, RW, ANON, -1, 1));
    YES(mmap(NULL, PAGE, RW, ANON, 99, 0) != MAP_FAILED);
}

static void files(void) {
    int f = open("file", O_RDWR | O_CREAT | O_TRUNC, 0644);
    char text[3 * PAGE];
    for (unsigned i = 0; i < sizeof text; i++) text[i] = 'a' + i / PAGE;
    CALL(write(f, text, sizeof text - 100));
    char *s = mmap(NULL, 4 * PAGE, RW, MAP_SHARED, f, 0), *p = mmap(NULL, 4 * PAGE, RW, MAP_PRIVATE, f, 0);
    char *o = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, f, PAGE);
    YES(s != MAP_FAILED && p != MAP_FAILED && o != MAP_FAILED);
    printf("%c%c%c %c\n", s[0], s[PAGE], s[2 * PAGE], o[0]);
    printf("after the end: %d %d\n", s[3 * PAGE - 1], p[3 * PAGE - 50]);
    touch("page after the end", s + 3 * PAGE, 'r');
    touch("page after the end", p + 3 * PAGE, 'w');
    s[PAGE] = 'S';
    p[2 * PAGE] = 'P';
    char c;
    pread(f, &c, 1, PAGE);
    printf("shared: file %c, other %c, private %c\n", c, o[0], p[PAGE]);
    pread(f, &c, 1, 2 * PAGE);
    printf("private: file %c, shared %c, own %c\n", c, s[2 * PAGE], p[2 * PAGE]);
    pwrite(f, "Q", 1, 2 * PAGE + 1);
    printf("a write is seen by shared %c, not by a private page of its own %c\n", s[2 * PAGE + 1], p[2 * PAGE + 1]);
    pwrite(f, "R", 1, 0);
    printf("and by an untouched private one %c\n", p[0]);
    CALL(ftruncate(f, PAGE + 10));
    touch("cut off", s + 2 * PAGE, 'r');
    printf("tail of the last page: %d\n", s[PAGE + 11]);
    CALL(ftruncate(f, 3 * PAGE));
    touch("grown again", s + 2 * PAGE, 'w');
    printf("zeros: %d %d\n", s[PAGE + 11], s[2 * PAGE + 1]);
    CALL(close(f));
    touch("mapped still", s, 'w');
    CALL(msync(s, 3 * PAGE, MS_SYNC));
    f = open("file", O_RDONLY);
    CALL(read(f, &c, 1));
    printf("%c\n", c);
    CALL((long)mmap(NULL, PAGE, RW, MAP_SHARED, f, 0));
    YES(mmap(NULL, PAGE, RW, MAP_PRIVATE, f, 0) != MAP_FAILED);
    CALL((long)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, f, 100));
    CALL((long)mmap(NULL, PAGE, PROT_READ, 0, f, 0));
    CALL((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, f, -PAGE));
    OK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE | 0x10000000, f, 0));
    CALL((long)mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, f, 0));
    char *beyond = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, f, 1 << 20);
    touch("far beyond the end", beyond, 'r');
    char *ro = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, f, 0);
    CALL(mprotect(ro, PAGE, RW));
    int w = open("file", O_WRONLY);
    CALL((long)mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, w, 0));
    CALL((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, w, 0));
    int path = open("file", O_PATH);
    CALL((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, path, 0));
    CALL((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 99, 0));
    int d = open(".", O_RDONLY), pipes[2];
    CALL((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, d, 0));
    pipe(pipes);
    CALL((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, pipes[0], 0));
    int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR);
    CALL((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, null, 0));
    char *z = mmap(NULL, 2 * PAGE, RW, MAP_PRIVATE, zero, 0), *zs = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, zero, 0);
    touch("/dev/zero private", z + PAGE, 'w');
    touch("/dev/zero shared", zs + PAGE, 'w');
    CALL(unlink("file"));
    touch("unlinked", s, 'r');
}

static void across_fork(void) {
    char *s = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0), *p = mmap(NULL, PAGE, RW, ANON, -1, 0);
    int m = memfd_create("m", 0);
    ftruncate(m, PAGE);
    char *f = mmap(NULL, PAGE, RW, MAP_SHARED, m, 0);
    strcpy(p, "parent");
    pid_t child = fork();
    if (child == 0) {
        printf("child sees %s\n", p);
        strcpy(s, "shared"), strcpy(p, "private"), strcpy(f, "file");
        _exit(0);
    }
    waitpid(child, NULL, 0);
    printf("parent sees %s, %s, %s\n", s, p, f);
    CALL(madvise(p, PAGE, MADV_DONTFORK));
    child = fork();
    if (child == 0) {
        touch("not inherited", p, 'r');
        _exit(0);
    }
    waitpid(child, NULL, 0);
    CALL(madvise(p, PAGE, MADV_DOFORK));
    CALL(madvise(p, PAGE, MADV_WIPEONFORK));
    child = fork();
    if (child == 0) {
        printf("wiped: %d\n", p[0]);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    CALL(madvise(s, PAGE, MADV_WIPEONFORK));
    CALL(madvise(p, PAGE, MADV_KEEPONFORK));
}

static void limits(void) {
    struct rlimit old, now;
    getrlimit(RLIMIT_AS, &old);
    now = old;
    now.rlim_cur = 64 << 20;
    CALL(setrlimit(RLIMIT_AS, &now));
    CALL((long)mmap(NULL, 64 << 20, RW, ANON, -1, 0));
    CALL((long)mmap(NULL, 64 << 20, PROT_NONE, ANON | MAP_NORESERVE, -1, 0));
    void *small = mmap(NULL, PAGE, RW, ANON, -1, 0);
    YES(small != MAP_FAILED);
    CALL((long)mremap(small, PAGE, 64 << 20, MREMAP_MAYMOVE));
    YES(sbrk(128 << 20) == (void *)-1);
    setrlimit(RLIMIT_AS, &old);
    getrlimit(RLIMIT_DATA, &old);
    now = old;
    now.rlim_cur = 1 << 20;
    CALL(setrlimit(RLIMIT_DATA, &now));
    CALL((long)mmap(NULL, 8 << 20, RW, ANON, -1, 0));
    YES(mmap(NULL, 8 << 20, PROT_READ, ANON, -1, 0) != MAP_FAILED);
    void *later = mmap(NULL, 8 << 20, PROT_READ, ANON, -1, 0);
    CALL(mprotect(later, 8 << 20, RW));
    YES(sbrk(8 << 20) == (void *)-1);
    setrlimit(RLIMIT_DATA, &old);
}

static void breaks(void) {
    char *start = sbrk(0);
    YES(sbrk(100000) == start);
    touch("end of the heap", start + 99999, 'w');
    YES(sbrk(-100000) == start + 100000);
    YES(sbrk(0) == start);
    YES(brk(start + 10 * PAGE) == 0);
    start[PAGE] = 1;
    YES(brk(start) == 0 && brk(start + 10 * PAGE) == 0);
    printf("given back and taken again: %d\n", start[2 * PAGE]);
    CALL(brk((void *)4096));
    CALL(brk((void *)-1));
    YES(sbrk(0) == start + 10 * PAGE);
    char *wall = (char *)(((unsigned long)start + 12 * PAGE) & ~(PAGE - 1));
    YES(mmap(wall, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == wall);
    CALL(brk(wall + 4 * PAGE));
    YES(sbrk(0) == start + 10 * PAGE);
}

static void grows_down(void) {
    char *p = room(600);
    char *top = p + 590 * PAGE;
    YES(mmap(top, 2 * PAGE, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, -1, 0) == top);
    touch("below it", top - 1, 'w');
    touch("further below", top - 4 * PAGE, 'w');
    areas("has grown", p, p + 600 * PAGE);
    YES(mmap(p, PAGE, RW, ANON | MAP_FIXED, -1, 0) == p);
    touch("in the guard gap", p + 100 * PAGE, 'w');
    CALL(mprotect(top, PAGE, PROT_READ | PROT_GROWSDOWN));
    touch("protected down to its start", top - 4 * PAGE, 'w');
    char *plain = mmap(NULL, PAGE, RW, ANON, -1, 0);
    CALL(mprotect(plain, PAGE, PROT_READ | PROT_GROWSDOWN));
    CALL(mprotect(plain, PAGE, PROT_READ | PROT_GROWSUP));
}

static int deep(int depth) {
    volatile char frame[16384];
    frame[0] = depth;
    return depth == 0 ? frame[0] : deep(depth - 1) + frame[0];
}

/* The stack grows to its limit, and no further. */
static void stack(void) {
    printf("six MiB of stack: %d\n", deep(6 << 6) != -1);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {1 << 20, 8 << 20};
        signal(SIGSEGV, SIG_DFL);
        setrlimit(RLIMIT_STACK, &limit);
        execl("/proc/self/exe", "program", "stack", NULL);
        _exit(9);
    }
    int status;
    waitpid(child, &status, 0);
    printf("beyond the limit: signal %d\n", WTERMSIG(status));
}

int main(int argc, char **argv) {
    if (argc > 1) return deep(4 << 6);
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    anonymous();
    placement();
    files();
    across_fork();
    limits();
    breaks();
    grows_down();
    stack();
    return 0;
}
