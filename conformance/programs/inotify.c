/* inotify: every event, in order, with its flags; limits and errors. */
#include "children.h"
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>

static int in;
static const char *names[] = { "ACCESS", "MODIFY", "ATTRIB", "CLOSE_WRITE", "CLOSE_NOWRITE", "OPEN", "MOVED_FROM", "MOVED_TO", "CREATE", "DELETE", "DELETE_SELF", "MOVE_SELF", "?", "UNMOUNT", "Q_OVERFLOW", "IGNORED" };
static void show(const char *what)
{
    static char b[1 << 16]; long n; unsigned cookie = 0;
    printf("%s:\n", what);
    while ((n = read(in, b, sizeof b)) > 0)
        for (long i = 0; i < n;) {
            struct inotify_event *e = (void *)(b + i); printf("   %d", e->wd);
            for (int k = 0; k < 16; k++) if (e->mask & (1u << k)) printf(" %s", names[k]);
            if (e->mask & IN_ISDIR) printf(" ISDIR");
            if (e->mask & ~(IN_ALL_EVENTS | IN_ISDIR | IN_IGNORED | IN_Q_OVERFLOW)) printf(" %x", e->mask);
            if (e->cookie) { printf(" cookie %s", e->cookie == cookie ? "same" : "new"); cookie = e->cookie; }
            if (e->len && e->name[0] == '#') printf(" #"); else if (e->len) printf(" %s %u", e->name, e->len);
            puts(""); i += sizeof *e + e->len;
        }
    if (n == 0 || (n < 0 && errno != EAGAIN)) printf("   read %ld %s\n", n, strerrorname_np(errno));
}
#define DO(...) do { __VA_ARGS__; show(#__VA_ARGS__); } while (0)
static int made(const char *path) { int f = open(path, O_CREAT | O_RDWR, 0644); return f; }

static void files(void)
{
    char b[4096]; int f, g, p[2];
    mkdir("w", 0755); CALL(inotify_add_watch(in, "w", IN_ALL_EVENTS));
    DO(f = open("w/f", O_CREAT | O_RDWR | O_TRUNC, 0600)); CALL(inotify_add_watch(in, "w/f", IN_ALL_EVENTS));
    DO(write(f, "abc", 3)); DO(write(f, "abc", 3); write(f, "abc", 3)); DO(pread(f, b, 1, 0)); DO(pread(f, b, 1, 100)); DO(pwrite(f, b, 1, 1)); DO(writev(f, &(struct iovec){ b, 2 }, 1)); DO(preadv2(f, &(struct iovec){ b, 2 }, 1, 0, 0)); DO(pwritev2(f, &(struct iovec){ b, 2 }, 1, 0, RWF_APPEND)); DO(write(f, "", 0)); DO(fsync(f)); DO(lseek(f, 0, SEEK_SET));
    DO(ftruncate(f, 10)); DO(ftruncate(f, 10)); DO(truncate("w/f", 5)); DO(fallocate(f, 0, 0, 100)); DO(futimens(f, NULL)); DO(futimens(f, (struct timespec[]){ { 0, UTIME_OMIT }, { 5, 0 } })); DO(futimens(f, (struct timespec[]){ { 5, 0 }, { 0, UTIME_OMIT } })); DO(futimens(f, (struct timespec[]){ { 0, UTIME_OMIT }, { 0, UTIME_OMIT } })); DO(fchown(f, getuid(), -1)); DO(chmod("w/f", 0600)); DO(fchmod(f, 0644));
    DO(g = dup(f); close(f)); DO(close(g)); DO(f = open("w/f", O_RDWR | O_TRUNC)); DO(close(f)); DO(f = open("w/f", O_RDONLY | O_CREAT, 0600)); DO(close(f)); DO(f = open("w/f", O_PATH)); DO(close(f)); DO(stat("w/f", &(struct stat){ 0 })); DO(access("w/f", R_OK)); DO(f = open("w/f", O_WRONLY | O_APPEND)); DO(write(f, "x", 1)); DO(close(f)); DO(CALL(open("w/f", O_CREAT | O_EXCL)));
    f = open("w/f", O_RDWR); pipe(p); g = open("other", O_CREAT | O_RDWR, 0600); write(g, "0123456789", 10); show("-");
    DO(lseek(g, 0, 0); CALL(sendfile(f, g, NULL, 10))); DO(CALL(splice(f, &(loff_t){ 0 }, p[1], NULL, 3, 0))); DO(CALL(splice(p[0], NULL, f, &(loff_t){ 0 }, 3, 0))); DO(CALL(copy_file_range(f, &(loff_t){ 0 }, g, &(loff_t){ 0 }, 3, 0))); DO(CALL(copy_file_range(g, &(loff_t){ 0 }, f, &(loff_t){ 0 }, 3, 0)));
    close(g); close(p[0]); close(p[1]);
    pid_t c = fork(); if (c == 0) _exit(0);
    waitpid(c, NULL, 0); show("a forked child ends"); DO(close(f));
    DO(c = fork(); if (c == 0) { f = open("w/f", O_RDONLY); read(f, b, 1); _exit(0); } waitpid(c, NULL, 0));
    unlink("other");
}

static void links(void)
{
    int f;
    DO(link("w/f", "w/g")); DO(f = open("w/g", O_RDWR)); DO(close(f)); DO(unlink("w/g")); f = open("w/f", O_RDWR); show("-"); DO(unlink("w/f")); DO(write(f, "x", 1)); DO(fchmod(f, 0600)); DO(close(f));
    close(made("w/h")); CALL(inotify_add_watch(in, "w/h", IN_ALL_EVENTS)); show("-");
    DO(rename("w/h", "w/i")); DO(close(open("w/i", O_RDONLY))); close(made("w/j")); CALL(inotify_add_watch(in, "w/j", IN_ALL_EVENTS)); show("-"); DO(rename("w/i", "w/j")); DO(unlink("w/j")); DO(CALL(unlink("w/j"))); DO(CALL(rename("w/no", "w/nothing")));
    close(made("w/k")); link("w/k", "w/l"); show("-"); DO(CALL(rename("w/k", "w/l"))); DO(unlink("w/l")); DO(rename("w/k", "out")); DO(rename("out", "w/in")); DO(unlink("w/in"));
    DO(symlink("target", "w/s")); DO(unlink("w/s")); DO(mknod("w/fifo", S_IFIFO | 0600, 0)); CALL(inotify_add_watch(in, "w/fifo", IN_ALL_EVENTS)); DO(f = open("w/fifo", O_RDWR)); DO(write(f, "x", 1)); char b[4]; DO(read(f, b, 1)); DO(close(f)); DO(unlink("w/fifo"));
    DO(f = open("w", O_TMPFILE | O_RDWR, 0600)); if (f >= 0) { DO(write(f, "x", 1)); char p[64]; sprintf(p, "/proc/self/fd/%d", f); DO(linkat(AT_FDCWD, p, AT_FDCWD, "w/named", AT_SYMLINK_FOLLOW)); close(f); show("-"); DO(unlink("w/named")); }
    DO(f = open("w/x", O_CREAT | O_RDWR, 0600)); DO(CALL(fsetxattr(f, "user.a", "b", 1, 0))); DO(fgetxattr(f, "user.a", b, 1)); DO(CALL(removexattr("w/x", "user.a"))); close(f); unlink("w/x"); show("-");
}

static void directories(void)
{
    int f; char b[4096];
    DO(mkdir("w/d", 0755)); CALL(inotify_add_watch(in, "w/d", IN_ALL_EVENTS)); DO(f = open("w/d", O_RDONLY)); DO(syscall(SYS_getdents64, f, b, sizeof b)); DO(syscall(SYS_getdents64, f, b, sizeof b)); DO(close(f)); DO(chmod("w/d", 0700)); DO(mkdir("w/d/e", 0755)); DO(rmdir("w/d/e")); DO(close(made("w/d/f"))); DO(CALL(rmdir("w/d"))); DO(unlink("w/d/f")); DO(rename("w/d", "w/e")); DO(rename("w/e", "moved")); DO(close(made("moved/f"))); unlink("moved/f"); show("-"); DO(rmdir("moved"));
    mkdir("w/a", 0755); mkdir("w/b", 0755); CALL(inotify_add_watch(in, "w/a", IN_ALL_EVENTS)); CALL(inotify_add_watch(in, "w/b", IN_ALL_EVENTS)); show("-"); DO(renameat2(AT_FDCWD, "w/a", AT_FDCWD, "w/b", RENAME_EXCHANGE)); DO(rename("w/a", "w/b")); DO(rmdir("w/b"));
    mkdir("w/a", 0755); mkdir("w/b", 0755); show("-"); DO(close(made("w/a/f"))); DO(rename("w/a/f", "w/b/f")); CALL(inotify_add_watch(in, "w/a", IN_MOVED_FROM)); CALL(inotify_add_watch(in, "w/b", IN_MOVED_TO)); DO(rename("w/b/f", "w/a/g")); DO(rename("w/a/g", "w/b/h")); unlink("w/b/h");
    /* Removed while it is somebody's working directory. */
    f = open("w/b", O_RDONLY); DO(rmdir("w/b")); DO(close(f)); rmdir("w/a"); show("-");
}

static void flags(void)
{
    int f, wd; char b[64];
    mkdir("v", 0755); close(made("v/f")); symlink("f", "v/l"); symlink("v", "dl");
    CALL(inotify_add_watch(in, "v/f", IN_ONLYDIR | IN_OPEN)); CALL(inotify_add_watch(in, "v/l", IN_DONT_FOLLOW | IN_OPEN | IN_ATTRIB)); CALL(inotify_add_watch(in, "dl", IN_ONLYDIR | IN_DONT_FOLLOW | IN_OPEN)); DO(close(open("v/f", O_RDONLY))); DO(unlink("v/l")); unlink("dl");
    wd = inotify_add_watch(in, "v/f", IN_OPEN); YES(inotify_add_watch(in, "v/f", IN_CLOSE | IN_MASK_ADD) == wd); DO(close(open("v/f", O_RDONLY))); YES(inotify_add_watch(in, "v/f", IN_ACCESS) == wd); DO(close(open("v/f", O_RDONLY))); CALL(inotify_add_watch(in, "v/f", IN_ACCESS | IN_MASK_CREATE)); CALL(inotify_add_watch(in, "v/f", IN_ACCESS | IN_MASK_CREATE | IN_MASK_ADD)); DO(CALL(inotify_rm_watch(in, wd))); CALL(inotify_rm_watch(in, wd)); CALL(inotify_rm_watch(in, 0)); CALL(inotify_rm_watch(in, -1));
    OK(inotify_add_watch(in, "v/f", IN_ONESHOT | IN_OPEN | IN_CLOSE)); DO(close(open("v/f", O_RDONLY))); OK(inotify_add_watch(in, "v", IN_ONESHOT | IN_CREATE)); DO(close(made("v/one")); close(made("v/two")));
    OK(inotify_add_watch(in, "v", IN_EXCL_UNLINK | IN_MODIFY | IN_CLOSE)); f = open("v/f", O_RDWR); DO(write(f, "x", 1)); unlink("v/f"); DO(write(f, "x", 1); close(f));
    CALL(inotify_add_watch(in, "v", 0)); CALL(inotify_add_watch(in, "v", 1u << 31 >> 20 >> 0 & 0x1000)); OK(inotify_add_watch(in, "v", IN_ISDIR)); CALL(inotify_add_watch(in, "none", IN_OPEN)); CALL(inotify_add_watch(in, "", IN_OPEN)); CALL(inotify_add_watch(in, NULL, IN_OPEN)); CALL(inotify_add_watch(99, "v", IN_OPEN)); CALL(inotify_add_watch(1, "v", IN_OPEN)); CALL(inotify_rm_watch(1, 1)); CALL(inotify_rm_watch(99, 1)); CALL(inotify_init1(0x1234)); CALL(inotify_add_watch(99, "v", 0));
    reaped(CHILD(chmod("v", 0700); if (setgid(1234) || setuid(1234)) _exit(1); CALL(inotify_add_watch(in, "v", IN_OPEN)); CALL(inotify_add_watch(in, "v/one", IN_OPEN)))); chmod("v", 0755); show("-");
    /* Reading: only whole events, FIONREAD, poll, blocking. */
    int other = inotify_init(); YES(fcntl(other, F_GETFL) == O_RDONLY); YES(fcntl(other, F_GETFD) == 0); CALL(inotify_add_watch(other, "v", IN_CREATE | IN_DELETE)); int n = -1; CALL(ioctl(other, FIONREAD, &n)); printf("%d\n", n);
    struct pollfd p = { other, POLLIN | POLLOUT, 0 }; CALL(poll(&p, 1, 0)); close(made("v/a")); close(made("v/a-name-of-sixteen")); CALL(ioctl(other, FIONREAD, &n)); printf("%d\n", n); CALL(poll(&p, 1, 0)); printf("%x\n", p.revents); CALL(read(other, b, 16)); CALL(read(other, b, 0)); CALL(read(other, b, 31)); CALL(read(other, b, 47)); CALL(read(other, NULL, 100)); CALL(write(other, b, 1)); CALL(ioctl(other, FIONREAD, &n)); printf("%d\n", n);
    fcntl(other, F_SETFL, O_NONBLOCK); CALL(read(other, b, 64)); CALL(read(other, b, 64)); fcntl(other, F_SETFL, 0);
    pid_t c = CHILD(CALL(read(other, b, 64)); printf("%s\n", ((struct inotify_event *)b)->name)); sleeps(c); unlink("v/a"); printf("%x\n", reaped(c)); char line[128]; sprintf(b, "/proc/self/fd/%d", other); n = readlink(b, line, 127); printf("%.*s\n", n, line); close(other); show("-");
    /* Overflow: one event says so, and only once. */
    other = inotify_init1(IN_NONBLOCK); CALL(inotify_add_watch(other, "v", IN_CREATE | IN_DELETE)); for (int i = 0; i < 8200; i++) { close(made("v/many")); unlink("v/many"); }
    long events = 0, overflows = 0, got; static char big[1 << 16]; while ((got = read(other, big, sizeof big)) > 0) for (long i = 0; i < got;) { struct inotify_event *e = (void *)(big + i); events++; if (e->mask & IN_Q_OVERFLOW) { overflows++; printf("overflow %d %u %u\n", e->wd, e->len, e->cookie); } i += sizeof *e + e->len; }
    printf("%ld events, %ld overflows\n", events, overflows); close(made("v/again")); CALL(read(other, b, 64)); close(other); for (int i = 0; i < 3; i++) show("-");
    /* Closing ends watches; instances are limited. */
    int many[200], count = 0; while (count < 200 && (many[count] = inotify_init()) >= 0) count++; printf("%d instances, then %s\n", count + 1, strerrorname_np(errno)); while (count--) close(many[count]); OK(inotify_init());
    unlink("v/one"); unlink("v/two"); unlink("v/again"); unlink("v/a-name-of-sixteen"); show("-"); DO(CALL(rmdir("v")));
}

int main(void)
{
    in = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    puts("-- files"); files();
    puts("-- links"); links();
    puts("-- directories"); directories();
    puts("-- flags"); flags();
    DO(rmdir("w"));
    return 0;
}
