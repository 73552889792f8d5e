/* splice, tee, vmsplice, sendfile, copy_file_range, preadv2, pwritev2, sync_file_range, readahead, close_range. */
#include "children.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <linux/close_range.h>

static char big[1 << 18] __attribute__((aligned(4096))), b[1 << 18];
static int held(int fd) { int n = -1; ioctl(fd, FIONREAD, &n); return n; }
static int made(const char *path, int n) { int f = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600); write(f, big, n); lseek(f, 0, SEEK_SET); return f; }
static void got(int fd, int n) { memset(b, 0, sizeof b); long r = read(fd, b, n); printf("%ld %.20s\n", r, b); }

static void splices(void)
{
    int p[2], q[2]; pipe(p); pipe(q); int f = made("f", 100000), g = made("g", 0); loff_t at = 10, to = 5;
    CALL(splice(f, NULL, p[1], NULL, 10, 0)); got(p[0], 100); CALL(lseek(f, 0, SEEK_CUR)); CALL(splice(f, &at, p[1], NULL, 5, SPLICE_F_MOVE)); printf("%ld\n", (long)at); got(p[0], 100); CALL(lseek(f, 0, SEEK_CUR));
    lseek(f, 4096, SEEK_SET); CALL(splice(f, NULL, p[1], NULL, 1 << 20, 0)); printf("%d\n", held(p[0])); CALL(splice(f, NULL, p[1], NULL, 10, SPLICE_F_NONBLOCK)); CALL(splice(p[0], NULL, g, NULL, 100, 0)); CALL(lseek(g, 0, SEEK_CUR)); CALL(splice(p[0], NULL, g, &to, 100, 0)); printf("%ld\n", (long)to); CALL(splice(p[0], NULL, q[1], NULL, 1000, 0)); printf("%d %d\n", held(p[0]), held(q[0])); CALL(splice(p[0], NULL, g, NULL, 1 << 20, 0)); CALL(splice(p[0], NULL, g, NULL, 10, SPLICE_F_NONBLOCK));
    struct stat st; fstat(g, &st); printf("%ld\n", (long)st.st_size); got(q[0], 2000);
    lseek(f, 99990, SEEK_SET); CALL(splice(f, NULL, p[1], NULL, 100, 0)); CALL(splice(f, NULL, p[1], NULL, 100, 0)); got(p[0], 100); at = 200000; CALL(splice(f, &at, p[1], NULL, 100, 0)); at = -1; CALL(splice(f, &at, p[1], NULL, 100, 0));
    CALL(splice(f, NULL, g, NULL, 1, 0)); CALL(splice(p[0], &at, g, NULL, 1, 0)); CALL(splice(f, NULL, p[1], &at, 1, 0)); CALL(splice(p[0], NULL, p[1], NULL, 1, 0)); CALL(splice(p[1], NULL, g, NULL, 1, 0)); CALL(splice(f, NULL, p[0], NULL, 1, 0)); CALL(splice(99, NULL, p[1], NULL, 1, 0)); CALL(splice(f, NULL, 99, NULL, 1, 0)); CALL(splice(99, NULL, 99, NULL, 0, 99)); CALL(splice(f, NULL, p[1], NULL, 1, 16)); CALL(splice(f, (void *)8, p[1], NULL, 1, 0)); CALL(splice(f, NULL, p[1], NULL, 0, 0));
    int a = open("g", O_WRONLY | O_APPEND), e = eventfd(1, 0), w = open("f", O_WRONLY), z = open("/dev/zero", O_RDONLY), n = open("/dev/null", O_WRONLY); write(p[1], "abc", 3);
    CALL(splice(p[0], NULL, a, NULL, 1, 0)); CALL(splice(w, NULL, p[1], NULL, 1, 0)); CALL(splice(p[0], NULL, n, NULL, 2, 0)); printf("%d\n", held(p[0])); got(p[0], 10); CALL(splice(z, NULL, p[1], NULL, 7, 0)); printf("%d\n", held(p[0])); got(p[0], 10);
    pid_t c = CHILD(CALL(splice(p[0], NULL, g, NULL, 100, 0))); sleeps(c); write(p[1], "hello", 5); printf("%x\n", reaped(c));
    c = CHILD(CALL(splice(p[0], NULL, q[1], NULL, 100, 0))); sleeps(c); write(p[1], "hello", 5); printf("%x\n", reaped(c)); got(q[0], 10);
    fcntl(p[0], F_SETFL, O_NONBLOCK); CALL(splice(p[0], NULL, g, NULL, 100, 0)); fcntl(p[0], F_SETFL, 0);
    while (write(p[1], big, 4096) == 4096 && held(p[0]) < 65536) ; c = CHILD(lseek(f, 0, SEEK_SET); CALL(splice(f, NULL, p[1], NULL, 100, 0))); sleeps(c); read(p[0], b, 8192); printf("%x\n", reaped(c)); read(p[0], b, sizeof b);
    close(p[1]); CALL(splice(p[0], NULL, g, NULL, 10, 0)); signal(SIGPIPE, SIG_IGN); close(q[0]); CALL(splice(f, NULL, q[1], NULL, 10, 0)); pipe(p); write(p[1], "x", 1); CALL(splice(p[0], NULL, q[1], NULL, 1, 0)); CALL(tee(p[0], q[1], 1, 0)); CALL(vmsplice(q[1], &(struct iovec){ big, 1 }, 1, 0));
    close(p[0]); close(p[1]); close(q[1]); close(a); close(e); close(w); close(z); close(n); close(f); close(g);
}

static void tees(void)
{
    int p[2], q[2]; pipe(p); pipe(q); write(p[1], "hello world", 11);
    CALL(tee(p[0], q[1], 5, 0)); got(q[0], 20); CALL(tee(p[0], q[1], 100, 0)); got(q[0], 20); got(p[0], 20); CALL(tee(p[0], q[1], 1, SPLICE_F_NONBLOCK)); CALL(tee(p[0], p[1], 1, 0)); CALL(tee(0, q[1], 1, 0)); CALL(tee(p[1], q[1], 1, 0)); CALL(tee(p[0], q[0], 1, 0)); CALL(tee(99, q[1], 1, 0)); CALL(tee(p[0], q[1], 0, 0)); CALL(tee(p[0], q[1], 1, 99)); CALL(tee(99, 99, 0, 0));
    pid_t c = CHILD(CALL(tee(p[0], q[1], 3, 0))); sleeps(c); write(p[1], "abcdef", 6); printf("%x\n", reaped(c)); got(q[0], 10); got(p[0], 10); close(p[1]); CALL(tee(p[0], q[1], 1, 0)); close(p[0]); close(q[0]); close(q[1]);
    /* A stream that is both kept and passed on. */
    pipe(p); pipe(q); int f = made("copy", 0); for (int i = 0; i < 5; i++) { write(p[1], big + i * 1000, 1000); CALL(tee(p[0], q[1], 1000, 0)); CALL(splice(p[0], NULL, f, NULL, 1000, 0)); } printf("%d\n", held(q[0])); memset(b, 0, 5000); pread(f, b, 5000, 0); YES(!memcmp(b, big, 5000)); read(q[0], b, 5000); YES(!memcmp(b, big, 5000)); close(f); close(p[0]); close(p[1]); close(q[0]); close(q[1]);
}

static void vmsplices(void)
{
    int p[2]; pipe(p); struct iovec v[] = { { "hello ", 6 }, { "", 0 }, { "world", 5 } }, one = { big, sizeof big };
    CALL(vmsplice(p[1], v, 3, 0)); got(p[0], 20); CALL(vmsplice(p[1], &one, 1, SPLICE_F_GIFT)); printf("%d\n", held(p[0])); CALL(vmsplice(p[1], &one, 1, SPLICE_F_NONBLOCK)); struct iovec in[] = { { b, 10 }, { b + 10, 90 } }; CALL(vmsplice(p[0], in, 2, 0)); YES(!memcmp(b, big, 100)); read(p[0], b, sizeof b); CALL(vmsplice(p[0], in, 2, SPLICE_F_NONBLOCK)); CALL(vmsplice(p[1], v, 0, 0)); CALL(vmsplice(p[1], NULL, 1, 0)); CALL(vmsplice(p[1], v, 3, 99)); CALL(vmsplice(99, v, 3, 0)); CALL(vmsplice(0, v, 3, 0)); CALL(vmsplice(p[1], v, 1025, 0)); v[0].iov_base = (void *)8; CALL(vmsplice(p[1], v, 1, 0));
    pid_t c = CHILD(CALL(vmsplice(p[0], in, 2, 0))); sleeps(c); write(p[1], "x", 1); printf("%x\n", reaped(c)); close(p[1]); CALL(vmsplice(p[0], in, 2, 0)); close(p[0]);
}

static void files(void)
{
    int f = made("a", 10000), g = made("c", 0), d = open(".", O_RDONLY), ap = open("c", O_WRONLY | O_APPEND), ro = open("c", O_RDONLY), wo = open("a", O_WRONLY), p[2]; pipe(p); loff_t i = 100, o = 50; struct stat st;
    CALL(copy_file_range(f, NULL, g, NULL, 100, 0)); CALL(copy_file_range(f, &i, g, &o, 1000, 0)); printf("%ld %ld\n", (long)i, (long)o); CALL(copy_file_range(f, NULL, g, NULL, 100000, 0)); CALL(copy_file_range(f, NULL, g, NULL, 100, 0)); fstat(g, &st); printf("%ld\n", (long)st.st_size); i = 20000; CALL(copy_file_range(f, &i, g, NULL, 100, 0));
    CALL(copy_file_range(f, NULL, g, NULL, 1, 1)); CALL(copy_file_range(f, NULL, ap, NULL, 1, 0)); CALL(copy_file_range(f, NULL, ro, NULL, 1, 0)); CALL(copy_file_range(wo, NULL, g, NULL, 1, 0)); CALL(copy_file_range(d, NULL, g, NULL, 1, 0)); CALL(copy_file_range(f, NULL, d, NULL, 1, 0)); CALL(copy_file_range(p[0], NULL, g, NULL, 1, 0)); CALL(copy_file_range(99, NULL, g, NULL, 1, 0)); CALL(copy_file_range(f, (void *)8, g, NULL, 1, 0)); i = -1; CALL(copy_file_range(f, &i, g, NULL, 1, 0)); i = 0; o = 10; CALL(copy_file_range(f, &i, f, &o, 100, 0)); i = 0; o = 5000; CALL(copy_file_range(f, &i, f, &o, 100, 0)); o = 0x7ffffffffffffff0; i = 0; CALL(copy_file_range(f, &i, g, &o, 100, 0));
    lseek(f, 0, SEEK_SET); off_t s = 5; CALL(sendfile(p[1], f, NULL, 10)); CALL(sendfile(p[1], f, &s, 10)); printf("%ld %ld\n", (long)s, (long)lseek(f, 0, SEEK_CUR)); CALL(sendfile(g, f, &s, 100000)); CALL(sendfile(ap, f, NULL, 1)); CALL(sendfile(p[1], p[0], NULL, 1)); CALL(sendfile(ro, f, NULL, 1)); CALL(sendfile(g, wo, NULL, 1)); CALL(sendfile(g, d, NULL, 1)); s = -1; CALL(sendfile(g, f, &s, 1)); CALL(sendfile(g, f, (void *)8, 1)); CALL(sendfile(g, f, NULL, 0)); CALL(sendfile(99, f, NULL, 1)); read(p[0], b, 100);
    CALL(sync_file_range(f, 0, 0, 0)); CALL(sync_file_range(f, 0, 100, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER)); CALL(sync_file_range(f, 0, 0, 8)); CALL(sync_file_range(f, -1, 0, 0)); CALL(sync_file_range(f, 0, -1, 0)); CALL(sync_file_range(f, 0x7fffffffffffffff, 2, 0)); CALL(sync_file_range(p[0], 0, 0, 0)); CALL(sync_file_range(d, 0, 0, 0)); CALL(sync_file_range(99, 0, 0, 0)); CALL(sync_file_range(99, 0, 0, 8)); CALL(sync_file_range(ro, 0, 0, 2));
    CALL(readahead(f, 0, 4096)); CALL(readahead(f, -1, 1)); CALL(readahead(p[0], 0, 1)); CALL(readahead(d, 0, 1)); CALL(readahead(wo, 0, 1)); CALL(readahead(99, 0, 1)); CALL(posix_fadvise(f, 0, 0, POSIX_FADV_DONTNEED)); CALL(posix_fadvise(p[0], 0, 0, 0)); CALL(posix_fadvise(f, 0, -1, 0)); CALL(posix_fadvise(f, 0, 0, 99)); CALL(posix_fadvise(99, 0, 0, 0));
    struct iovec v = { b, 10 }; lseek(f, 3, SEEK_SET); CALL(preadv2(f, &v, 1, -1, 0)); CALL(lseek(f, 0, SEEK_CUR)); CALL(preadv2(f, &v, 1, 0, RWF_HIPRI)); CALL(preadv2(f, &v, 1, -2, 0)); CALL(preadv2(f, &v, 1, 0, 0x1000)); CALL(preadv2(p[0], &v, 1, 0, 0)); CALL(preadv2(p[0], &v, 1, -1, RWF_NOWAIT)); write(p[1], "abc", 3); CALL(preadv2(p[0], &v, 1, -1, RWF_NOWAIT)); CALL(preadv2(f, &v, 1, 0, RWF_APPEND)); CALL(preadv2(f, &v, -1, 0, 0)); CALL(preadv2(wo, &v, 1, 0, 0));
    ftruncate(g, 100); lseek(g, 10, SEEK_SET); CALL(pwritev2(g, &v, 1, -1, 0)); CALL(lseek(g, 0, SEEK_CUR)); CALL(pwritev2(g, &v, 1, 0, RWF_APPEND)); fstat(g, &st); printf("%ld %ld\n", (long)st.st_size, (long)lseek(g, 0, SEEK_CUR)); CALL(pwritev2(g, &v, 1, -1, RWF_APPEND)); fstat(g, &st); printf("%ld %ld\n", (long)st.st_size, (long)lseek(g, 0, SEEK_CUR)); CALL(pwritev2(g, &v, 1, 0, RWF_DSYNC | RWF_SYNC)); CALL(pwritev2(ap, &v, 1, 0, 0x20)); fstat(g, &st); printf("%ld\n", (long)st.st_size); CALL(pwritev2(g, &v, 1, 0, RWF_APPEND | 0x20)); CALL(pwritev2(g, &v, 1, -2, 0)); CALL(pwritev2(ro, &v, 1, 0, 0)); CALL(pwritev2(p[1], &v, 1, 0, 0)); CALL(pwritev2(p[1], &v, 1, -1, RWF_NOWAIT)); CALL(pwritev2(g, &v, 1, 0, 0x10000)); CALL(pwrite(ap, b, 1, 0)); fstat(g, &st); printf("%ld\n", (long)st.st_size);
    close(f); close(g); close(d); close(ap); close(ro); close(wo); close(p[0]); close(p[1]);
}

static void *thread(void *closed) { *(int *)closed = close_range(100, ~0u, CLOSE_RANGE_UNSHARE); return NULL; }

static void ranges(void)
{
    for (int i = 100; i < 110; i++) dup2(1, i);
    CALL(close_range(102, 104, 0)); YES(fcntl(101, F_GETFD) == 0 && fcntl(102, F_GETFD) < 0 && fcntl(104, F_GETFD) < 0 && fcntl(105, F_GETFD) == 0);
    CALL(close_range(106, 107, CLOSE_RANGE_CLOEXEC)); YES(fcntl(105, F_GETFD) == 0 && fcntl(106, F_GETFD) == 1 && fcntl(107, F_GETFD) == 1 && fcntl(108, F_GETFD) == 0);
    CALL(close_range(5, 4, 0)); CALL(close_range(100, 200, 1)); CALL(close_range(100, 200, 8)); CALL(close_range(1000, 2000, 0)); CALL(close_range(108, ~0u, CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)); YES(fcntl(109, F_GETFD) == 1);
    reaped(CHILD(CALL(close_range(100, ~0u, CLOSE_RANGE_UNSHARE)))); YES(fcntl(105, F_GETFD) == 0);
    int closed = 9; (void)thread; closed = close_range(100, ~0u, 0); printf("%d\n", closed); YES(fcntl(109, F_GETFD) < 0);
}

int main(void)
{
    for (unsigned i = 0; i < sizeof big; i++) big[i] = 'a' + i % 23;
    puts("-- splice"); splices();
    puts("-- tee"); tees();
    puts("-- vmsplice"); vmsplices();
    puts("-- files"); files();
    puts("-- ranges"); ranges();
    return 0;
}
