/* Path walking in all its forms: resolve flags, links, slashes, O_PATH, empty paths, times, and directories that move meanwhile. */
#include "report.h"
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>

static int here;

static void touch(const char *path) { close(open(path, O_CREAT | O_WRONLY, 0644)); }
static long open2(int base, const char *path, unsigned long flags, unsigned long resolve) {
    struct open_how how = {.flags = flags, .resolve = resolve, .mode = flags & O_CREAT ? 0600 : 0};
    return syscall(SYS_openat2, base, path, &how, sizeof how);
}
static const char *outcome(long fd) {
    static char text[512];
    if (fd < 0) return strerrorname_np(errno);
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%ld", fd);
    ssize_t n = readlink(link, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = 0;
    struct stat s;
    fstat(fd, &s);
    close(fd);
    /* The last component, and what it is. */
    char *last = strrchr(text, '/');
    static char shown[600];
    snprintf(shown, sizeof shown, "%s %o", last && last[1] ? last + 1 : "/", s.st_mode & S_IFMT);
    return shown;
}
static void tree(void) {
    mkdir("d", 0755);
    mkdir("d/sub", 0755);
    touch("d/f");
    touch("f");
    symlink("f", "d/tof");
    symlink("../f", "d/up");
    symlink("/", "d/root");
    symlink("sub", "d/tosub");
    symlink("sub/", "d/tosubslash");
    symlink("nothing", "d/dangling");
    symlink("/proc/self/fd/0", "d/magic");
    symlink("loop", "d/loop");
    symlink(".", "d/dot");
    symlink("..", "d/dotdot");
}
static void resolving(void) {
    static const struct { unsigned long flag; const char *name; } flags[] = {
        {0, "none"}, {RESOLVE_NO_XDEV, "xdev"}, {RESOLVE_NO_MAGICLINKS, "magic"}, {RESOLVE_NO_SYMLINKS, "symlinks"},
        {RESOLVE_BENEATH, "beneath"}, {RESOLVE_IN_ROOT, "in_root"}, {RESOLVE_BENEATH | RESOLVE_NO_XDEV, "beneath+xdev"},
        {RESOLVE_BENEATH | RESOLVE_IN_ROOT, "both"}, {0x1000, "unknown"}};
    static const char *const paths[] = {"f", "tof", "up", "root", "tosub", "tosub/", "tosubslash", "dangling", "loop", "dot",
        "dotdot", "..", ".", "sub/..", "sub/../f", "sub/../..", "sub/../../f", "../d/f", "/", "/f", "/tof", "/sub/../../f", "//",
        "f/", "f/.", "f/..", "dot/dot/dot/f", "dotdot/f", "dotdot/d/f", "tosub/../tof", "root/etc", "", "sub/nothing/.."};
    int d = open("d", O_PATH | O_DIRECTORY);
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++)
        for (unsigned j = 0; j < sizeof paths / sizeof *paths; j++)
            printf("%s \"%s\": %s\n", flags[i].name, paths[j], outcome(open2(d, paths[j], O_PATH, flags[i].flag)));
    for (unsigned j = 0; j < sizeof paths / sizeof *paths; j++)
        printf("nofollow \"%s\": %s\n", paths[j], outcome(open2(d, paths[j], O_PATH | O_NOFOLLOW, RESOLVE_BENEATH)));
    for (unsigned i = 0; i < 6; i++) {
        printf("magic link, %s: %s\n", flags[i].name,
            open2(AT_FDCWD, "/proc/self/fd/0", O_RDONLY, flags[i].flag) < 0 ? strerrorname_np(errno) : "opens");
        printf("self, %s: %s\n", flags[i].name,
            open2(AT_FDCWD, "/proc/self/status", O_RDONLY, flags[i].flag) < 0 ? strerrorname_np(errno) : "opens");
        printf("create, %s: %s\n", flags[i].name, outcome(open2(d, "new", O_CREAT | O_WRONLY, flags[i].flag)));
        printf("create above, %s: %s\n", flags[i].name, outcome(open2(d, "../new", O_CREAT | O_WRONLY, flags[i].flag)));
        unlink("d/new");
        unlink("new");
        printf("create at dangling, %s: %s\n", flags[i].name, outcome(open2(d, "dangling", O_CREAT | O_WRONLY, flags[i].flag)));
        unlink("d/nothing");
    }
    /* A filesystem may have to be asked, always. */
    int cached = open2(d, "f", O_RDONLY, RESOLVE_CACHED);
    printf("cached: %d\n", cached >= 0 || errno == EAGAIN);
    if (cached >= 0) close(cached);
    printf("cached: %s\n", outcome(open2(d, "f", O_RDONLY | O_TRUNC, RESOLVE_CACHED)));
    struct open_how how = {.flags = O_PATH};
    CALL(syscall(SYS_openat2, d, "f", &how, sizeof how - 1));
    CALL(syscall(SYS_openat2, d, "f", &how, 0));
    char big[64] = {0};
    memcpy(big, &how, sizeof how);
    OK(syscall(SYS_openat2, d, "f", big, sizeof big));
    big[60] = 1;
    CALL(syscall(SYS_openat2, d, "f", big, sizeof big));
    CALL(syscall(SYS_openat2, d, "f", &how, 1 << 20));
    CALL(syscall(SYS_openat2, d, "f", NULL, sizeof how));
    static const struct open_how bad[] = {{.flags = O_RDONLY, .mode = 0600}, {.flags = O_CREAT | O_RDWR, .mode = 010000},
        {.flags = 1ull << 40}, {.flags = O_PATH | O_RDWR}, {.flags = O_TMPFILE | O_RDONLY, .mode = 0600},
        {.flags = O_PATH | O_CREAT}, {.flags = O_ACCMODE}, {.flags = O_PATH | O_CLOEXEC | O_DIRECTORY}};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        how = bad[i];
        printf("how %u: %s\n", i, outcome(syscall(SYS_openat2, d, ".", &how, sizeof how)));
    }
    int f = open("d/f", O_RDONLY);
    printf("base is a file: %s\n", outcome(open2(f, "x", O_PATH, 0)));
    printf("base is a file: %s\n", outcome(open2(f, "/", O_PATH, 0)));
    printf("base is a file, in root: %s\n", outcome(open2(f, "/", O_PATH, RESOLVE_IN_ROOT)));
    printf("base is closed: %s\n", outcome(open2(999, "x", O_PATH, 0)));
    close(f);
    close(d);
}
static void limits(void) {
    char name[16], target[16];
    for (int i = 0; i <= 41; i++) {
        snprintf(name, sizeof name, "l%d", i);
        snprintf(target, sizeof target, i ? "l%d" : "f", i - 1);
        symlink(target, name);
    }
    CALL(access("l39", F_OK));
    CALL(access("l40", F_OK));
    OK(close(open("l39", O_RDONLY)));
    CALL(open("l40", O_RDONLY));
    CALL(access("l41", F_OK));
    CALL(access("d/loop", F_OK));
    OK(faccessat(AT_FDCWD, "d/loop", F_OK, AT_SYMLINK_NOFOLLOW));
    char path[8192] = "";
    for (int i = 0; i < 40; i++) strcat(path, "d/dot/../");
    strcat(path, "f");
    CALL(access(path, F_OK));
    path[strlen(path) - 1] = 0;
    strcat(path, "d/dot/../f");
    CALL(access(path, F_OK));
    memset(path, '/', 4095);
    path[4095] = 0;
    CALL(access(path, F_OK));
    path[4095] = '/';
    path[4096] = 0;
    CALL(access(path, F_OK));
    memset(path, 'n', 255);
    path[255] = 0;
    CALL(access(path, F_OK));
    path[255] = 'n';
    path[256] = 0;
    CALL(access(path, F_OK));
    strcat(path, "/../f");
    CALL(access(path, F_OK));
    for (int i = 0; i <= 41; i++) {
        snprintf(name, sizeof name, "l%d", i);
        unlink(name);
    }
    memset(path, 'x', 4096);
    path[4095] = 0;
    CALL(symlink(path, "long"));
    path[4094] = 0;
    CALL(symlink(path, "long"));
    CALL(readlink("long", target, 4));
    CALL(access("long", F_OK));
    CALL(unlink("long"));
    CALL(symlink("", "empty"));
}
static void slashes(void) {
    static const char *const names[] = {"f/", "f/.", "d/", "d/.", "d//", "d/tof/", "d/tosub/", "d/dangling/", "nothing/", "d/.."};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        const char *n = names[i];
        printf("== %s\n", n);
        struct stat s;
        char text[64];
        OK(stat(n, &s));
        OK(lstat(n, &s));
        OK(readlink(n, text, sizeof text));
        OK(close(open(n, O_RDONLY | O_NOFOLLOW)));
        OK(close(open(n, O_RDONLY | O_DIRECTORY)));
        OK(close(open(n, O_CREAT | O_RDWR, 0600)));
        OK(close(open(n, O_CREAT | O_EXCL | O_RDWR, 0600)));
        OK(close(open(n, O_PATH)));
        OK(unlink(n));
        OK(mkdir(n, 0755));
        OK(mknod(n, S_IFREG | 0600, 0));
        OK(symlink("x", n));
        OK(link("f", n));
        OK(link(n, "made"));
        unlink("made");
        OK(truncate(n, 0));
        OK(rename(n, n));
        OK(rename("f", n));
        rename("made", "f");
        if (access("f", F_OK)) touch("f");
        rmdir("nothing");
        rmdir("d/nothing");
        if (strcmp(n, "d/..")) OK(chmod(n, 0755));
    }
    mkdir("e", 0755);
    CALL(rmdir("e/."));
    CALL(rmdir("e/.."));
    CALL(rmdir("."));
    CALL(rmdir(".."));
    CALL(rename("e", "e/."));
    CALL(rename("e/.", "x"));
    CALL(rename("e", "x/"));
    CALL(rename("x/", "e"));
    symlink("e", "toe");
    CALL(rename("toe/", "y"));
    CALL(rename("e", "toe"));
    CALL(rename("e", "toe/"));
    CALL(rmdir("toe/"));
    CALL(rmdir("toe"));
    CALL(unlink("toe/"));
    CALL(mkdir("toe/", 0700));
    CALL(unlink("toe"));
    symlink("later", "tolater");
    CALL(mkdir("tolater", 0700));
    CALL(mkdir("tolater/", 0700));
    CALL(rmdir("later"));
    unlink("tolater");
    CALL(rmdir("e"));
}
static void path_only(void) {
    int p = open("d/f", O_PATH), l = open("d/tof", O_PATH | O_NOFOLLOW), d = open("d", O_PATH), w = open("d/f", O_RDWR);
    char text[64] = "";
    struct stat s;
    CALL(read(p, text, 1));
    CALL(write(p, text, 1));
    CALL(pread(p, text, 1, 0));
    CALL(lseek(p, 0, SEEK_SET));
    CALL(fchmod(p, 0600));
    CALL(fchown(p, -1, -1));
    CALL(ftruncate(p, 0));
    CALL(fsync(p));
    CALL(fallocate(p, 0, 0, 1));
    CALL(flock(p, 2));
    CALL(syscall(SYS_getdents64, d, text, sizeof text));
    CALL(ioctl(p, 0x5401, text));
    CALL((long)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, p, 0));
    CALL(fgetxattr(p, "user.x", text, sizeof text));
    CALL(fsetxattr(p, "user.x", "1", 1, 0));
    CALL(flistxattr(p, text, sizeof text));
    CALL(futimens(p, NULL));
    CALL(fcntl(p, F_GETFL) & ~O_LARGEFILE);
    CALL(fcntl(l, F_GETFL) & ~O_LARGEFILE);
    CALL(fcntl(p, F_SETFL, O_NONBLOCK));
    CALL(fcntl(p, F_GETFD));
    struct flock lock = {.l_type = F_RDLCK};
    CALL(fcntl(p, F_SETLK, &lock));
    CALL(fcntl(p, F_GETOWN));
    OK(fstat(p, &s));
    struct statfs fs;
    OK(fstatfs(p, &fs));
    OK(close(dup(p)));
    CALL(fchdir(p));
    CALL(fchdir(d));
    CALL(chdir(".."));
    fstat(l, &s);
    printf("%o\n", s.st_mode & S_IFMT);
    CALL(readlinkat(l, "", text, sizeof text));
    CALL(readlinkat(p, "", text, sizeof text));
    CALL(readlinkat(l, "x", text, sizeof text));
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", p);
    OK(close(open(self, O_RDWR)));
    snprintf(self, sizeof self, "/proc/self/fd/%d", l);
    CALL(open(self, O_RDONLY));
    OK(close(open(self, O_PATH)));
    snprintf(self, sizeof self, "/proc/self/fd/%d", d);
    OK(close(open(self, O_RDONLY | O_DIRECTORY)));
    /* Empty paths. */
    OK(fstatat(p, "", &s, AT_EMPTY_PATH));
    OK(fstatat(p, "", &s, 0));
    OK(fstatat(AT_FDCWD, "", &s, AT_EMPTY_PATH));
    OK(fstatat(999, "", &s, AT_EMPTY_PATH));
    OK(fstatat(p, "", &s, 0x10000000));
    struct statx x;
    OK(statx(p, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x));
    OK(statx(p, NULL, AT_EMPTY_PATH, STATX_BASIC_STATS, &x));
    OK(statx(p, "", 0, STATX_BASIC_STATS, &x));
    OK(fchownat(p, "", -1, -1, AT_EMPTY_PATH));
    OK(fchownat(p, "", -1, -1, 0));
    OK(fchownat(l, "", -1, -1, AT_EMPTY_PATH));
    OK(faccessat(p, "", R_OK, AT_EMPTY_PATH));
    OK(faccessat(p, "", X_OK, AT_EMPTY_PATH));
    OK(utimensat(p, "", NULL, AT_EMPTY_PATH));
    OK(utimensat(w, NULL, NULL, 0));
    OK(utimensat(p, NULL, NULL, 0));
    OK(utimensat(AT_FDCWD, NULL, NULL, 0));
    OK(utimensat(w, NULL, NULL, AT_SYMLINK_NOFOLLOW));
    OK(syscall(452, p, "", 0640, AT_EMPTY_PATH));
    OK(syscall(452, AT_FDCWD, "d/tof", 0640, AT_SYMLINK_NOFOLLOW));
    OK(syscall(452, AT_FDCWD, "d/tof", 0640, 0x800000));
    OK(close(openat(p, "", O_RDONLY)));
    OK(unlinkat(p, "", 0));
    OK(mkdirat(d, "", 0700));
    OK(renameat(d, "", d, "x"));
    OK(linkat(d, "", d, "x", 0));
    OK(symlinkat("x", d, ""));
    close(p);
    close(l);
    close(d);
    close(w);
}
static void times(void) {
    struct stat s;
    struct timespec t[2] = {{1, 2}, {3, 4}};
    CALL(utimensat(AT_FDCWD, "f", t, 0));
    stat("f", &s);
    printf("%ld.%ld %ld.%ld\n", s.st_atim.tv_sec, s.st_atim.tv_nsec, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    t[0].tv_nsec = UTIME_OMIT;
    t[1] = (struct timespec){-5, 999999999};
    CALL(utimensat(AT_FDCWD, "f", t, 0));
    stat("f", &s);
    printf("%ld.%ld %ld.%ld\n", s.st_atim.tv_sec, s.st_atim.tv_nsec, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    t[1].tv_nsec = UTIME_NOW;
    CALL(utimensat(AT_FDCWD, "f", t, 0));
    stat("f", &s);
    printf("%ld.%ld %d\n", s.st_atim.tv_sec, s.st_atim.tv_nsec, s.st_mtim.tv_sec > 1000000000);
    t[0].tv_nsec = t[1].tv_nsec = UTIME_OMIT;
    CALL(utimensat(AT_FDCWD, "f", t, 0));
    CALL(utimensat(AT_FDCWD, "nothing", t, 0));
    t[0].tv_nsec = 1000000000;
    CALL(utimensat(AT_FDCWD, "f", t, 0));
    t[0].tv_nsec = -1;
    CALL(utimensat(AT_FDCWD, "f", t, 0));
    t[0] = (struct timespec){7, 0};
    t[1] = (struct timespec){8, 0};
    CALL(utimensat(AT_FDCWD, "d/tof", t, AT_SYMLINK_NOFOLLOW));
    lstat("d/tof", &s);
    printf("%ld\n", s.st_mtim.tv_sec);
    CALL(utimensat(AT_FDCWD, "f", t, 0x4000));
    CALL(utimensat(AT_FDCWD, "f", (void *)1, 0));
    CALL(utimensat(999, "f", t, 0));
    CALL(utimensat(AT_FDCWD, "f/", t, 0));
}
static void renaming(void) {
    mkdir("a", 0755);
    mkdir("b", 0755);
    touch("a/f");
    touch("g");
    static const unsigned flags[] = {0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_NOREPLACE | RENAME_EXCHANGE, 8,
        RENAME_WHITEOUT | RENAME_EXCHANGE};
    static const char *const names[] = {"a", "b", "g", "no", "a/f", "a/no", "a/f/x", ".", "a/.", "d/tof", "d/dangling", "a/a"};
    for (unsigned i = 1; i < sizeof flags / sizeof *flags; i++)
        for (unsigned j = 0; j < sizeof names / sizeof *names; j++)
            for (unsigned k = 0; k < sizeof names / sizeof *names; k++) {
                long r = renameat2(AT_FDCWD, names[j], AT_FDCWD, names[k], flags[i]);
                printf("%u %s %s: %s\n", flags[i], names[j], names[k], r ? strerrorname_np(errno) : "ok");
                /* Back again. */
                if (!r) printf("back: %s\n", renameat2(AT_FDCWD, names[k], AT_FDCWD, names[j], flags[i]) ? strerrorname_np(errno) : "ok");
            }
    link("g", "g2");
    CALL(rename("g", "g2"));
    CALL(access("g", F_OK));
    CALL(renameat2(AT_FDCWD, "g", AT_FDCWD, "g2", RENAME_NOREPLACE));
    CALL(renameat2(AT_FDCWD, "g", AT_FDCWD, "g2", RENAME_EXCHANGE));
    unlink("g2");
    unlink("g");
    unlink("a/f");
    rmdir("a");
    rmdir("b");
}
static atomic_int stop;
static void *mover(void *unused) {
    while (!stop) {
        rename("m/x/y", "m/z/y");
        rename("m/z/y", "m/x/y");
    }
    return unused;
}
/* Who walks up from a directory that moves gets to where it is or was, and nowhere else. */
static void races(void) {
    mkdir("m", 0755);
    mkdir("m/x", 0755);
    mkdir("m/z", 0755);
    mkdir("m/x/y", 0755);
    mkdir("m/x/y/deep", 0755);
    struct stat x, z, s;
    stat("m/x", &x);
    stat("m/z", &z);
    int y = open("m/x/y/deep", O_PATH), m = open("m", O_PATH);
    pthread_t thread;
    pthread_create(&thread, NULL, mover, NULL);
    int bad = 0, escaped = 0;
    for (int i = 0; i < 20000; i++) {
        if (fstatat(y, "../..", &s, 0) || (s.st_ino != x.st_ino && s.st_ino != z.st_ino)) bad++;
        int f = open2(m, "x/y/../../x/y/deep/../../../z", O_PATH, RESOLVE_BENEATH);
        if (f >= 0) {
            fstat(f, &s);
            if (s.st_ino != z.st_ino) escaped++;
            close(f);
        } else if (errno != ENOENT && errno != EAGAIN && errno != EXDEV) {
            escaped++;
        }
    }
    stop = 1;
    pthread_join(thread, NULL);
    printf("%d bad, %d escaped\n", bad, escaped);
    close(y);
    close(m);
}

int main(void) {
    here = open(".", O_PATH);
    umask(022);
    tree();
    resolving();
    limits();
    slashes();
    path_only();
    times();
    renaming();
    races();
    return 0;
}
