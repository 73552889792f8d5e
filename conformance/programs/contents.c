/* Contents of files: read and write in all their forms, positions, holes, truncate, fallocate, copy_file_range, sendfile. */
#include "report.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static char b[65536];
static long size_of(int f) {
    struct stat st;
    return fstat(f, &st) == 0 ? (long)st.st_size : -1;
}
static int fresh(const char *text) {
    int f = open("file", O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (write(f, text, strlen(text)) < 0) perror("write");
    lseek(f, 0, SEEK_SET);
    return f;
}
static int signals;
static void too_large(int number) { (void)number; signals++; }
static void show(int f) {
    ssize_t length = pread(f, b, 200, 0);
    printf("'");
    for (ssize_t i = 0; i < length; i++) printf(b[i] >= ' ' ? "%c" : "\\%d", b[i]);
    printf("' size %ld\n", size_of(f));
}

static void plain(void) {
    int f = fresh("0123456789");
    CALL(read(f, b, 4)), CALL(read(f, b, 100)), CALL(read(f, b, 100)), CALL(read(f, b, 0));
    CALL(read(f, NULL, 0)), CALL(read(f, (void *)1, 10));
    lseek(f, 0, SEEK_SET);
    CALL(read(f, (void *)1, 10)), CALL(write(f, (void *)1, 10)), CALL(write(f, (void *)1, 0));
    CALL(read(99, b, 1)), CALL(write(99, b, 1)), CALL(read(-1, b, 1));
    CALL(read(f, b, -1ul)), CALL(read(f, b, SSIZE_MAX));
    CALL(pread(f, b, 3, 8)), CALL(pread(f, b, 3, 100)), CALL(pread(f, b, 3, -1)), CALL(pwrite(f, "x", 1, -1));
    CALL(pread(f, b, 3, LONG_MAX)), CALL(pwrite(f, "x", 1, LONG_MAX));
    CALL(pwrite(f, "AB", 2, 12));
    show(f);
    CALL(lseek(f, 0, SEEK_CUR));
    CALL(lseek(f, -3, SEEK_END)), CALL(lseek(f, -1, SEEK_SET)), CALL(lseek(f, 5, 99));
    CALL(lseek(f, 1, SEEK_CUR)), CALL(lseek(99, 0, SEEK_SET)), CALL(lseek(f, 1000, SEEK_SET)), CALL(read(f, b, 1));
    close(f);
    int d = open(".", O_RDONLY);
    CALL(read(d, b, 1)), CALL(write(d, b, 1)), CALL(pread(d, b, 1, 0)), CALL(ftruncate(d, 0));
    close(d);
}

static void vectors(void) {
    int f = fresh("0123456789");
    char x[4] = "", y[4] = "", z[16] = "";
    struct iovec in[] = {{x, 3}, {NULL, 0}, {y, 3}, {z, 15}};
    CALL(readv(f, in, 4));
    printf("%s %s %s\n", x, y, z);
    struct iovec out[] = {{"ab", 2}, {"", 0}, {"cdef", 4}};
    CALL(pwritev(f, out, 3, 2));
    show(f);
    CALL(writev(f, out, 0)), CALL(writev(f, out, -1)), CALL(writev(f, out, 1025)), CALL(writev(f, (void *)1, 1)),
        CALL(writev(f, NULL, 0));
    struct iovec bad[] = {{"ok", 2}, {(void *)1, 3}};
    CALL(pwritev(f, bad, 2, 0));
    struct iovec huge[] = {{x, -1ul}}, much[] = {{x, LONG_MAX}, {x, 1}};
    CALL(writev(f, huge, 1)), CALL(readv(f, much, 2));
    CALL(preadv2(f, in, 4, 0, 0)), CALL(preadv2(f, in, 4, -1, 0)), CALL(preadv2(f, in, 4, 0, 0x1000)),
        CALL(preadv(f, in, 4, -1));
    lseek(f, 2, SEEK_SET);
    CALL(preadv2(f, in, 1, -1, 0)), CALL(lseek(f, 0, SEEK_CUR));
    CALL(pwritev2(f, out, 1, 0, RWF_APPEND)), CALL(pwritev2(f, out, 1, 0, RWF_DSYNC | RWF_SYNC));
    show(f);
    CALL(preadv2(f, in, 1, 0, RWF_HIPRI) >= 0);
    int pipes[2];
    pipe(pipes);
    CALL(preadv(pipes[0], in, 1, 0)), CALL(pwritev(pipes[1], out, 1, 0)), CALL(pwritev2(pipes[1], out, 3, -1, 0));
    CALL(preadv2(pipes[0], in, 4, -1, RWF_NOWAIT)), CALL(preadv2(pipes[0], in, 4, -1, RWF_NOWAIT));
    close(f);
}

static void lengths(void) {
    int f = fresh("0123456789");
    CALL(ftruncate(f, 4)), show(f);
    CALL(ftruncate(f, 8)), show(f);
    CALL(ftruncate(f, -1)), CALL(truncate("file", -1)), CALL(truncate("missing", 0)), CALL(truncate(".", 0)),
        CALL(truncate("file", 3));
    show(f);
    char *far = calloc(2, PATH_MAX);
    memset(far, '/', PATH_MAX + 1), CALL(truncate(far, -1)), CALL(truncate(far, 0)), CALL(truncate(NULL, -1)), free(far);
    struct rlimit small = {100, RLIM_INFINITY}, before;
    getrlimit(RLIMIT_FSIZE, &before), signal(SIGXFSZ, too_large), setrlimit(RLIMIT_FSIZE, &small);
    int reader = open("file", O_RDONLY);
    CALL(truncate("missing", 101)), CALL(truncate(".", 101)), CALL(ftruncate(reader, 101)), CALL(truncate(NULL, 101));
    printf("signals: %d\n", signals), CALL(truncate("file", 101)), CALL(ftruncate(f, 101)), printf("signals: %d\n", signals);
    CALL(fallocate(f, 0, 0, 101)), CALL(fallocate(f, FALLOC_FL_KEEP_SIZE, 0, 101)), CALL(fallocate(reader, 0, 0, 101));
    setrlimit(RLIMIT_FSIZE, &before), CALL(ftruncate(f, 300)), setrlimit(RLIMIT_FSIZE, &small);
    CALL(truncate("file", 300)), CALL(truncate("file", 200)), CALL(fallocate(f, 0, 0, 150)), CALL(fallocate(f, 0, 0, 201)), CALL(ftruncate(f, 3));
    printf("signals: %d\n", signals), setrlimit(RLIMIT_FSIZE, &before), close(reader);
    int shown = open("/proc/self/comm", O_RDWR);
    CALL(ftruncate(shown, 0)), CALL(ftruncate(shown, 9)), CALL(truncate("/proc/self/comm", 0)), CALL(fallocate(shown, 0, 0, 10)), close(shown);
    CALL(truncate("file/", 3)), CALL(truncate("", 3)), CALL(ftruncate(99, 0));
    int pipes[2];
    pipe(pipes);
    CALL(ftruncate(pipes[0], 0));
    int r = open("file", O_RDONLY);
    CALL(ftruncate(r, 0));
    CALL(ftruncate(f, 1 << 30)), CALL(pread(f, b, 4, (1 << 30) - 2)), CALL(ftruncate(f, 0));
    struct rlimit old, now;
    getrlimit(RLIMIT_FSIZE, &old);
    now = old, now.rlim_cur = 1000;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &now);
    CALL(ftruncate(f, 1001)), CALL(ftruncate(f, 1000)), CALL(pwrite(f, b, 10, 995)), CALL(pwrite(f, b, 10, 1000)),
        CALL(pwrite(f, b, 10, 2000));
    CALL(fallocate(f, 0, 0, 2000));
    setrlimit(RLIMIT_FSIZE, &old);
    close(f), close(r);
}

static void allocation(void) {
    int f = fresh("");
    memset(b, 'x', sizeof b);
    if (write(f, b, 32768) < 0) perror("write");
    CALL(fallocate(f, 0, 0, 100)), CALL(fallocate(f, 0, 32768, 4096)), printf("size %ld\n", size_of(f));
    CALL(fallocate(f, FALLOC_FL_KEEP_SIZE, 0, 1 << 20)), printf("size %ld\n", size_of(f));
    CALL(fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5000, 10000));
    CALL(pread(f, b, 10001, 4999) + b[0] + b[1] + b[10000]);
    CALL(fallocate(f, FALLOC_FL_PUNCH_HOLE, 0, 4096));
    CALL(fallocate(f, FALLOC_FL_ZERO_RANGE, 20000, 100)), CALL(pread(f, b, 1, 20050) + b[0]);
    CALL(fallocate(f, 0, -1, 10)), CALL(fallocate(f, 0, 0, 0)), CALL(fallocate(f, 0, 0, -5)), CALL(fallocate(f, 0x1000, 0, 10));
    CALL(fallocate(99, 0, 0, 10)), CALL(fallocate(f, 0, LONG_MAX, 10));
    int r = open("file", O_RDONLY), pipes[2];
    pipe(pipes);
    CALL(fallocate(r, 0, 0, 10)), CALL(fallocate(pipes[1], 0, 0, 10));
    CALL(posix_fallocate(f, 0, 50000)), printf("size %ld\n", size_of(f));
    close(f), close(r);
    f = open("sparse", O_RDWR | O_CREAT | O_TRUNC, 0644);
    CALL(ftruncate(f, 1 << 20)), CALL(pwrite(f, "x", 1, 300000));
    CALL(lseek(f, 0, SEEK_HOLE)), CALL(lseek(f, 300000, SEEK_DATA)), CALL(lseek(f, 1 << 20, SEEK_DATA)),
        CALL(lseek(f, 1 << 20, SEEK_HOLE));
    CALL(lseek(f, 2 << 20, SEEK_HOLE)), CALL(lseek(f, -1, SEEK_DATA)), CALL(lseek(f, 0, SEEK_DATA) <= 300000),
        CALL(lseek(f, 300000, SEEK_HOLE) > 300000);
    CALL(lseek(f, 500000, SEEK_DATA));
    close(f);
}

static void copies(void) {
    int f = fresh("0123456789abcdef"), g = open("copy", O_RDWR | O_CREAT | O_TRUNC | 0, 0644), pipes[2];
    off_t from = 4, to = 2;
    CALL(copy_file_range(f, &from, g, &to, 6, 0)), printf("%ld %ld\n", (long)from, (long)to), show(g);
    CALL(copy_file_range(f, NULL, g, NULL, 3, 0)), CALL(lseek(f, 0, SEEK_CUR)), CALL(lseek(g, 0, SEEK_CUR)), show(g);
    CALL(copy_file_range(f, NULL, g, NULL, 3, 1)), CALL(copy_file_range(99, NULL, g, NULL, 3, 0)), from = 100;
    CALL(copy_file_range(f, &from, g, NULL, 3, 0)), from = 0, to = 2;
    int append = open("copy", O_WRONLY | O_APPEND), d = open(".", O_RDONLY);
    CALL(copy_file_range(f, NULL, append, NULL, 3, 0)), CALL(copy_file_range(d, NULL, g, NULL, 3, 0)),
        CALL(copy_file_range(append, NULL, g, NULL, 3, 0));
    pipe(pipes);
    CALL(copy_file_range(f, NULL, pipes[1], NULL, 3, 0));
    from = 2;
    CALL(sendfile(pipes[1], f, &from, 5)), printf("%ld\n", (long)from), CALL(read(pipes[0], b, 100));
    lseek(f, 14, SEEK_SET);
    CALL(sendfile(pipes[1], f, NULL, 100)), CALL(lseek(f, 0, SEEK_CUR)), CALL(sendfile(pipes[1], f, NULL, 100));
    CALL(sendfile(g, f, (off_t *)1, 5)), from = -1, CALL(sendfile(g, f, &from, 5)), CALL(sendfile(g, pipes[0], NULL, 5)),
        CALL(sendfile(f, append, NULL, 5));
    from = 0, CALL(sendfile(g, f, &from, 0)), CALL(sendfile(append, f, &from, 5));
    close(f), close(g), close(append), close(d);
}

static void synchronised(void) {
    int f = fresh("x"), pipes[2];
    pipe(pipes);
    CALL(fsync(f)), CALL(fdatasync(f)), CALL(syncfs(f)), CALL(sync_file_range(f, 0, 0, 7)), CALL(sync_file_range(f, 0, 0, 8)),
        CALL(sync_file_range(f, -1, 0, 7));
    CALL(fsync(99)), CALL(fsync(pipes[0])), CALL(fdatasync(pipes[0])), CALL(readahead(f, 0, 10)),
        CALL(readahead(pipes[0], 0, 10));
    CALL(posix_fadvise(f, 0, 0, POSIX_FADV_SEQUENTIAL)), CALL(posix_fadvise(f, 0, 0, 99)), CALL(posix_fadvise(f, 0, -1, 0)),
        CALL(posix_fadvise(pipes[0], 0, 0, 0)), CALL(posix_fadvise(99, 0, 0, 0));
    int d = open(".", O_RDONLY);
    CALL(fsync(d));
    sync();
    close(f), close(d);
}

int main(void) {
    plain();
    vectors();
    lengths();
    allocation();
    copies();
    synchronised();
    return 0;
}
