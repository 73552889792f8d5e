/* What /proc/PID/io counts: bytes and calls of a thread, of a process with those that have ended, and of children that were waited for. */
#include "report.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

struct counts { long rchar, wchar, syscr, syscw, read, written, cancelled; };

static struct counts counts(const char *path)
{
    static char text[1000];
    struct counts now = {0};
    int f = open(path, O_RDONLY);
    ssize_t n = f < 0 ? -1 : read(f, text, sizeof text - 1);
    close(f);
    if (n < 0) { printf("%s: %s\n", path, strerrorname_np(errno)); return now; }
    text[n] = 0;
    if (sscanf(text, "rchar: %ld\nwchar: %ld\nsyscr: %ld\nsyscw: %ld\nread_bytes: %ld\nwrite_bytes: %ld\ncancelled_write_bytes: %ld",
               &now.rchar, &now.wchar, &now.syscr, &now.syscw, &now.read, &now.written, &now.cancelled) != 7) printf("other lines: %s", text);
    return now;
}
static const char *shown = "/proc/self/io";
/* What the reading of the file itself costs is left out: it differs by the digits. */
static void between(const char *what, void (*work)(void))
{
    struct counts before = counts(shown), between = counts(shown);
    work();
    struct counts after = counts(shown);
    long own = between.rchar - before.rchar, calls = between.syscr - before.syscr;
    long more = after.rchar - between.rchar - own;
    printf("%s: read %ld (%ld calls), written %ld (%ld calls)\n", what, more / 1000 * 1000, after.syscr - between.syscr - calls,
           after.wchar - between.wchar, after.syscw - between.syscw);
}

static int memory, ends[2], pair[2];
static char data[100000];
static void nothing(void) {}
static void writes(void) { pwrite(memory, data, 5000, 0), pwrite(memory, data, 3, 9000), lseek(memory, 0, SEEK_SET), write(memory, data, 40000); }
static void reads(void) { pread(memory, data, 5000, 0), lseek(memory, 0, SEEK_SET), read(memory, data, 20000), read(memory, data, 100000), read(memory, data, 10), read(memory, data, 0); }
static void vectors(void) { struct iovec v[2] = {{data, 3000}, {data + 3000, 4000}}; preadv(memory, v, 2, 0), pwritev(memory, v, 2, 0), preadv2(memory, v, 2, 0, 0), pwritev2(memory, v, 1, 0, 0); lseek(memory, 0, SEEK_SET), readv(memory, v, 2), writev(memory, v, 2); }
static void pipes(void) { write(ends[1], data, 4000), read(ends[0], data, 4000), write(pair[0], data, 2000), read(pair[1], data, 2000); }
static void messages(void) { send(pair[0], data, 2000, 0), recv(pair[1], data, 2000, 0); }
static void failing(void) { read(ends[0], data, 10), read(pair[0], data, 1), write(ends[0], data, 10), read(ends[1], data, 10), read(-1, data, 1), write(-1, data, 1); }
static void copying(void) { off_t at = 0, to = 60000; sendfile(ends[1], memory, &at, 9000), read(ends[0], data, 9000); at = 0; copy_file_range(memory, &at, memory, &to, 7000, 0); }
static void mapped(void) { char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0); m[0]++; munmap(m, 4096); }
static void a_child(void) { int status; pid_t c = fork(); if (!c) { pread(memory, data, 30000, 0), pwrite(memory, data, 11, 0); _exit(0); } waitpid(c, &status, 0); }
static void below(void) { int status; pid_t c = fork(); if (!c) { a_child(); _exit(0); } waitpid(c, &status, 0); }
static void *reading(void *x) { pread(memory, data, 30000, 0), pwrite(memory, data, 12, 0); return x; }
static void a_thread(void) { pthread_t t; pthread_create(&t, NULL, reading, NULL), pthread_join(t, NULL); }

int main(void)
{
    memory = memfd_create("m", 0);
    if (pipe2(ends, O_NONBLOCK) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair)) return 1;
    static const struct { const char *name; void (*work)(void); } all[] = {
        {"nothing", nothing}, {"writes", writes}, {"reads", reads}, {"vectors", vectors}, {"pipes and sockets", pipes}, {"messages", messages},
        {"failing", failing}, {"copying", copying}, {"mapped", mapped}, {"a child", a_child}, {"below a child", below}, {"a thread", a_thread}};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) between(all[i].name, all[i].work);
    shown = "/proc/thread-self/io";
    between("another thread", a_thread), between("own reads", reads);
    struct counts now;
    fflush(stdout);
    /* Only who may look into the process sees it, and it stays until the process was waited for. */
    pid_t c = fork();
    if (!c) { pwrite(memory, data, 77, 0); _exit(0); }
    siginfo_t info; char path[64];
    sprintf(path, "/proc/%d/io", c);
    waitid(P_PID, c, &info, WEXITED | WNOWAIT);
    now = counts(path), printf("of the dead: written %ld (%ld calls)\n", now.wchar, now.syscw);
    fflush(stdout);
    waitpid(c, NULL, 0);
    sprintf(path, "/proc/%d/io", getpid());
    if (!(c = fork())) { setgid(1001), setuid(1001); int f = open(path, O_RDONLY); CALL(f >= 0), CALL(read(f, data, 100)); fflush(stdout); _exit(0); }
    waitpid(c, NULL, 0);
    return 0;
}
