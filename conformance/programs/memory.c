/* mmap(2) and its family. */
#include "report.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
static sigjmp_buf back;
static int code; static void *where;
static void caught(int s, siginfo_t *i, void *c) { code = i->si_code; where = i->si_addr; siglongjmp(back, s); }
static void touch(const char *what, volatile char *p, int write) {
    int s = sigsetjmp(back, 1);
    if (s == 0) { if (write) *p = 1; else (void)*p; printf("%s: ok\n", what); }
    else printf("%s: signal %d code %d address %s\n", what, s, code, where == p ? "right" : "wrong");
}
int main(void) {
    struct sigaction a = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &a, 0); sigaction(SIGBUS, &a, 0);
    char *p = mmap(0, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    YES(p != MAP_FAILED); YES(p[0] == 0 && p[16383] == 0);
    CALL(mprotect(p + 4096, 4096, PROT_READ)); touch("write to read-only", p + 4096, 1); touch("read of it", p + 4096, 0);
    CALL(mprotect(p, 4096, PROT_NONE)); touch("read of none", p, 0);
    CALL(munmap(p + 8192, 4096)); touch("read of unmapped", p + 8192, 0);
    CALL(munmap(p + 1, 4096)); CALL(munmap(p, 0)); CALL(mprotect(p + 8192, 4096, PROT_READ)); CALL(mprotect(p, 0, PROT_READ));
    CALL(mprotect(p + 3, 4096, PROT_READ)); CALL((long)mmap(0, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CALL((long)mmap(0, 4096, PROT_READ, MAP_ANONYMOUS, -1, 0)); CALL((long)mmap(0, 4096, PROT_READ, MAP_PRIVATE, -1, 0));
    CALL((long)mmap(0, 4096, PROT_READ, MAP_PRIVATE, 99, 0)); CALL((long)mmap((void *)4096, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | 0, -1, 1));
    CALL((long)mmap(p + 12288, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
    YES(mmap(p + 8192, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == p + 8192);
    CALL((long)mmap(0, 1ul << 62, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    int f = open("file", O_RDWR | O_CREAT | O_TRUNC, 0644);
    CALL(write(f, "hello", 5)); CALL(ftruncate(f, 5000));
    char *s = mmap(0, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0); YES(s != MAP_FAILED);
    printf("%.5s\n", s); s[0] = 'J'; char b[8] = {0}; CALL(pread(f, b, 5, 0)); printf("%s\n", b);
    CALL(pwrite(f, "Y", 1, 1)); printf("%.5s\n", s); touch("beyond the end", s + 8192, 0); touch("rest of the last page", s + 5001, 0);
    char *v = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, f, 0); v[0] = 'P'; printf("%c %c\n", s[0], v[0]);
    int r = open("file", O_RDONLY); CALL((long)mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, r, 0));
    char *o = mmap(0, 4096, PROT_READ, MAP_SHARED, r, 0); YES(o != MAP_FAILED); CALL(mprotect(o, 4096, PROT_READ | PROT_WRITE));
    char *q = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); strcpy(q, "moved");
    char *m = mremap(q, 8192, 64 * 4096, MREMAP_MAYMOVE); YES(m != MAP_FAILED); printf("%s %d\n", m, m[63 * 4096]);
    m = mremap(m, 64 * 4096, 4096, 0); YES(m != MAP_FAILED); touch("cut off", m + 4096, 0);
    CALL((long)mremap(m, 4096, 0, 0)); CALL((long)mremap(m + 1, 4096, 8192, MREMAP_MAYMOVE)); CALL((long)mremap((void *)0x10000, 4096, 8192, MREMAP_MAYMOVE));
    strcpy(m, "gone"); CALL(madvise(m, 4096, MADV_DONTNEED)); YES(m[0] == 0); CALL(madvise(m, 4096, 9999)); CALL(madvise(m + 1, 4096, MADV_DONTNEED));
    CALL(madvise(m, 4096, MADV_WILLNEED)); CALL(madvise(p + 8192, 1 << 20, MADV_NORMAL) == 0 || errno == ENOMEM);
    unsigned char vec[4]; m[0] = 1; CALL(mincore(m, 4096, vec)); YES(vec[0] & 1); CALL(mincore(m + 1, 4096, vec)); CALL(mincore((void *)0x10000, 4096, vec));
    CALL(msync(s, 4096, MS_SYNC)); CALL(msync(s, 4096, MS_SYNC | MS_ASYNC)); CALL(msync(s + 1, 4096, MS_SYNC));
    CALL(mlock(m, 4096)); CALL(munlock(m, 4096)); CALL(mlock((void *)0x10000, 4096));
    char *h = sbrk(0); YES(sbrk(100000) == h); h[99999] = 1; YES(sbrk(-100000) == h + 100000); YES(sbrk(0) == h);
    char *sh = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fork() == 0) { strcpy(sh, "child"); _exit(0); } sleep(0); int st; extern int wait(int *); wait(&st); printf("%s\n", sh);
    CALL(ftruncate(f, 0)); 
    int z = open("/dev/zero", O_RDWR); char *zp = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, z, 0); YES(zp != MAP_FAILED && zp[5] == 0);
    FILE *maps = fopen("/proc/self/maps", "r"); char line[500]; int found = 0; unsigned long lo, hi;
    while (fgets(line, sizeof line, maps)) { char perm[8]; if (sscanf(line, "%lx-%lx %7s", &lo, &hi, perm) == 3 && lo <= (unsigned long)m && hi > (unsigned long)m) { found = 1; printf("%s\n", perm); } }
    YES(found);
    return 0;
}
