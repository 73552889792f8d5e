/* mremap(2), madvise(2), mincore(2), msync(2), mlock(2) and its family. */
#include "report.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PAGE 4096ul
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static sigjmp_buf back;
static void caught(int number) { siglongjmp(back, number); }

static const char *state(volatile char *at) {
    static char text[32];
    int number = sigsetjmp(back, 1);
    if (number == 0) snprintf(text, sizeof text, "%d", *at);
    else snprintf(text, sizeof text, "signal %d", number);
    return text;
}

static char *room(size_t pages) {
    char *p = mmap(NULL, (pages + 2) * PAGE, PROT_NONE, ANON, -1, 0);
    munmap(p, (pages + 2) * PAGE);
    return p + PAGE;
}

static char *numbered(size_t pages) {
    char *p = mmap(room(pages + 8), pages * PAGE, RW, ANON, -1, 0);
    for (size_t i = 0; i < pages; i++) p[i * PAGE] = i + 1;
    return p;
}

static void sizes(void) {
    char *p = numbered(4);
    YES(mremap(p, 4 * PAGE, 2 * PAGE, 0) == p);
    printf("shrunk: %s", state(p + PAGE)), printf(" %s\n", state(p + 2 * PAGE));
    YES(mremap(p, 2 * PAGE, 4 * PAGE, 0) == p);
    printf("grown in place: %s", state(p + PAGE)), printf(" %s\n", state(p + 3 * PAGE));
    YES(mremap(p, 4 * PAGE, 4 * PAGE, 0) == p);
    YES(mmap(p + 4 * PAGE, PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0) == p + 4 * PAGE);
    CALL((long)mremap(p, 4 * PAGE, 8 * PAGE, 0));
    char *q = mremap(p, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE);
    YES(q != MAP_FAILED && q != p);
    printf("moved: %s", state(q + PAGE)), printf(" %s", state(q + 7 * PAGE)), printf(" %s\n", state(p));
    CALL((long)mremap(q, 0, PAGE, MREMAP_MAYMOVE));
    CALL((long)mremap(q, PAGE, 0, MREMAP_MAYMOVE));
    CALL((long)mremap(q + 1, PAGE, PAGE, 0));
    CALL((long)mremap(q, PAGE, PAGE, 0x80));
    CALL((long)mremap(q, 16 * PAGE, 32 * PAGE, MREMAP_MAYMOVE));
    CALL((long)mremap((void *)0x10000, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
    YES(mremap(q, 100, 200, 0) == q);
    mprotect(q, PAGE, PROT_READ);
    CALL((long)mremap(q, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE));
}

static void fixed(void) {
    char *p = numbered(4), *to = mmap(NULL, 8 * PAGE, PROT_READ, ANON, -1, 0);
    YES(mremap(p, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    printf("%s", state(to + 3 * PAGE)), printf(" %s\n", state(p));
    CALL((long)mremap(to, 4 * PAGE, 4 * PAGE, MREMAP_FIXED, p));
    CALL((long)mremap(to, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + PAGE));
    CALL((long)mremap(to, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + 1));
    CALL((long)mremap(to, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)0x7ffffffff000));
    YES(mremap(to, 4 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p) == p);
    printf("%s", state(p + PAGE)), printf(" %s", state(to + 3 * PAGE)), printf(" %s\n", state(to + 4 * PAGE));
    char *q = mremap(p, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    YES(q != MAP_FAILED && q != p);
    printf("left behind: %s", state(p + PAGE)), printf(", moved: %s\n", state(q + PAGE));
    CALL((long)mremap(q, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL));
    CALL((long)mremap(q, 2 * PAGE, 2 * PAGE, MREMAP_DONTUNMAP, NULL));
}

static void shared(void) {
    int f = memfd_create("shared", 0);
    ftruncate(f, 4 * PAGE);
    char *s = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, f, 0);
    s[0] = 7;
    char *twin = mremap(s, 0, 2 * PAGE, MREMAP_MAYMOVE);
    YES(twin != MAP_FAILED && twin != s);
    twin[1] = 8;
    printf("twins: %d %d\n", twin[0], s[1]);
    char *longer = mremap(s, 2 * PAGE, 6 * PAGE, MREMAP_MAYMOVE);
    pwrite(f, "\x09", 1, 3 * PAGE);
    printf("more of the file: %s", state(longer + 3 * PAGE)), printf(" beyond: %s\n", state(longer + 5 * PAGE));
}

static void advice(void) {
    static const int kinds[] = {MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE,
        MADV_DONTFORK,
        MADV_DOFORK, MADV_MERGEABLE, MADV_UNMERGEABLE, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_DODUMP,
            MADV_WIPEONFORK,
        MADV_KEEPONFORK, MADV_COLD, MADV_PAGEOUT, 22, 23, 5, 26, 1000, -1};
    char *p = numbered(4);
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        errno = 0;
        int result = madvise(p, PAGE, kinds[i]);
        printf("madvise %d: %s\n", kinds[i], result == 0 ? "ok" : strerrorname_np(errno));
    }
    CALL(madvise(p, 4 * PAGE, MADV_DONTNEED));
    printf("zeros: %s\n", state(p + 2 * PAGE));
    CALL(madvise(p + 1, PAGE, MADV_NORMAL));
    CALL(madvise(p, 0, MADV_NORMAL));
    CALL(madvise(p, 0, 1000));
    CALL(madvise(p, -PAGE, MADV_NORMAL));
    munmap(p + PAGE, PAGE);
    p[0] = p[2 * PAGE] = 5;
    CALL(madvise(p, 4 * PAGE, MADV_DONTNEED));
    printf("both sides of the hole: %d %d\n", p[0], p[2 * PAGE]);
    CALL(madvise(p + PAGE, PAGE, MADV_WILLNEED));
    int f = memfd_create("m", 0);
    ftruncate(f, 4 * PAGE);
    pwrite(f, "abc", 3, PAGE);
    char *s = mmap(NULL, 4 * PAGE, RW, MAP_SHARED, f, 0), *v = mmap(NULL, 4 * PAGE, RW, MAP_PRIVATE, f, 0);
    v[PAGE] = 'X';
    CALL(madvise(v, 4 * PAGE, MADV_DONTNEED));
    CALL(madvise(s, 4 * PAGE, MADV_DONTNEED));
    printf("the file's again: %c %c\n", v[PAGE], s[PAGE]);
    CALL(madvise(s, 2 * PAGE, MADV_REMOVE));
    char c = 1;
    pread(f, &c, 1, PAGE);
    printf("removed: %d %d %d\n", s[PAGE], v[PAGE], c);
    CALL(madvise(v, PAGE, MADV_REMOVE));
    CALL(madvise(p, PAGE, MADV_REMOVE));
    CALL(madvise(s, PAGE, MADV_FREE));
    mprotect(p, PAGE, PROT_READ);
    CALL(madvise(p, PAGE, 23));
    CALL(mlock(p + 2 * PAGE, PAGE));
    CALL(madvise(p + 2 * PAGE, PAGE, MADV_DONTNEED));
    munlock(p + 2 * PAGE, PAGE);
}

static void residency(void) {
    char *p = mmap(NULL, 4 * PAGE, RW, ANON, -1, 0);
    unsigned char in[8] = {0};
    p[PAGE] = 1;
    CALL(mincore(p, 4 * PAGE, in));
    printf("%d%d%d%d\n", in[0] & 1, in[1] & 1, in[2] & 1, in[3] & 1);
    CALL(mincore(p, 2 * PAGE + 1, in));
    CALL(mincore(p + 1, PAGE, in));
    CALL(mincore(p, PAGE, (void *)1));
    CALL(mincore((void *)0x10000, PAGE, in));
    CALL(mincore(p, 0, in));
    CALL(mincore(p, -PAGE, in));
    munmap(p + 2 * PAGE, PAGE);
    CALL(mincore(p, 4 * PAGE, in));
}

static void synced(void) {
    int f = open("file", O_RDWR | O_CREAT | O_TRUNC, 0644);
    ftruncate(f, 2 * PAGE);
    char *s = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, f, 0);
    s[0] = 1;
    CALL(msync(s, 2 * PAGE, MS_SYNC));
    CALL(msync(s, 2 * PAGE, MS_ASYNC));
    CALL(msync(s, 2 * PAGE, MS_INVALIDATE));
    CALL(msync(s, 2 * PAGE, 0));
    CALL(msync(s, 2 * PAGE, MS_SYNC | MS_ASYNC));
    CALL(msync(s, 2 * PAGE, 8));
    CALL(msync(s + 1, PAGE, MS_SYNC));
    CALL(msync(s, 0, MS_SYNC));
    munmap(s + PAGE, PAGE);
    CALL(msync(s, 2 * PAGE, MS_SYNC));
    CALL(msync((void *)0x10000, PAGE, MS_SYNC));
}

static long locked(const char *name) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long value = -1;
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name))) sscanf(line + strlen(name), ": %ld", &value);
    fclose(file);
    return value;
}

static void locking(void) {
    char *p = mmap(NULL, 8 * PAGE, RW, ANON, -1, 0);
    CALL(mlock(p + 1, PAGE));
    printf("VmLck %ld\n", locked("VmLck"));
    CALL(munlock(p, 8 * PAGE));
    printf("VmLck %ld\n", locked("VmLck"));
    CALL(mlock2(p, PAGE, MLOCK_ONFAULT));
    CALL(mlock2(p, PAGE, 2));
    CALL(mlock(p, 0));
    CALL(mlock(p, -PAGE));
    CALL(mlock((void *)0x10000, PAGE));
    CALL(munlock((void *)0x10000, PAGE));
    munmap(p + 4 * PAGE, PAGE);
    CALL(mlock(p, 8 * PAGE));
    CALL(munlock(p, 4 * PAGE));
    CALL(mlockall(0));
    CALL(mlockall(MCL_ONFAULT));
    CALL(mlockall(16));
    CALL(munlockall());
    printf("VmLck %ld\n", locked("VmLck"));
    CALL(mlockall(MCL_FUTURE));
    char *q = mmap(NULL, 4 * PAGE, RW, ANON, -1, 0);
    printf("VmLck %s\n", locked("VmLck") >= 16 ? "grew" : "did not grow");
    munmap(q, 4 * PAGE);
    CALL(munlockall());
    char *l = mmap(NULL, 2 * PAGE, RW, ANON | MAP_LOCKED, -1, 0);
    YES(l != MAP_FAILED);
    printf("VmLck %ld\n", locked("VmLck"));
    munmap(l, 2 * PAGE);
}

int main(void) {
    signal(SIGSEGV, caught);
    signal(SIGBUS, caught);
    sizes();
    fixed();
    shared();
    advice();
    residency();
    synced();
    locking();
    return 0;
}
