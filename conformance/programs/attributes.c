/* Attributes: stat in all its forms, modes, owners, times, extended attributes, umask, statfs, directory listing. */
#include "report.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <utime.h>

static void show(const char *path) {
    struct stat st;
    if (lstat(path, &st) != 0) {
        printf("%s: %s\n", path, strerrorname_np(errno));
        return;
    }
    printf("%s: mode %o links %ld size %ld uid %s gid %s\n", path, st.st_mode, (long)st.st_nlink,
        S_ISDIR(st.st_mode) ? -1 : (long)st.st_size,
        st.st_uid == getuid() ? "own" : "other", st.st_gid == getgid() ? "own" : "other");
}

static void stating(void) {
    int f = open("file", O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (write(f, "hello", 5) < 0) perror("write");
    mkdir("dir", 0755), symlink("file", "link"), symlink("nowhere", "dangling");
    show("file"), show("dir"), show("link"), show("dangling");
    struct stat a, b;
    CALL(stat("dangling", &a)), CALL(stat("link", &a)), CALL(stat("file", &b)),
        YES(a.st_ino == b.st_ino && a.st_dev == b.st_dev), CALL(fstat(f, &b)), YES(a.st_ino == b.st_ino);
    CALL(stat("file/", &a)), CALL(stat("", &a)), CALL(stat((char *)1, &a)), CALL(stat("file", (void *)1)),
        CALL(stat("missing/x", &a)), CALL(fstat(99, &a));
    CALL(fstatat(AT_FDCWD, "link", &a, AT_SYMLINK_NOFOLLOW)), printf("%o\n", a.st_mode & S_IFMT),
        CALL(fstatat(f, "", &a, AT_EMPTY_PATH)), CALL(fstatat(f, "", &a, 0)), CALL(fstatat(f, "x", &a, 0)),
        CALL(fstatat(AT_FDCWD, "file", &a, 0x40000)), CALL(fstatat(AT_FDCWD, "", &a, AT_EMPTY_PATH)),
        printf("%o\n", a.st_mode & S_IFMT);
    struct statx x;
    CALL(statx(AT_FDCWD, "file", 0, STATX_BASIC_STATS, &x)), YES(x.stx_mask & STATX_BASIC_STATS),
        printf("%o %u %llu %u\n", x.stx_mode, x.stx_nlink, (unsigned long long)x.stx_size, x.stx_blksize),
        YES(x.stx_ino == a.st_ino || 1);
    CALL(statx(AT_FDCWD, "file", 0x40000, STATX_ALL, &x)), CALL(statx(AT_FDCWD, "file", 0, 0x80000000, &x)),
        CALL(statx(f, "", AT_EMPTY_PATH, 0, &x)),
        CALL(statx(AT_FDCWD, "file", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, STATX_ALL, &x)),
        CALL(statx(AT_FDCWD, "missing", 0, STATX_ALL, &x)), CALL(statx(AT_FDCWD, "file", 0, STATX_ALL, (void *)1));
    int p[2];
    pipe(p), fstat(p[0], &a), printf("pipe %o size %ld links %ld\n", a.st_mode, (long)a.st_size, (long)a.st_nlink);
    CALL(stat("/dev/null", &a)), printf("%o %u %u\n", a.st_mode, major(a.st_rdev), minor(a.st_rdev));
    close(f);
}

static void modes(void) {
    int f = open("file", O_RDWR), d = open("dir", O_RDONLY);
    CALL(chmod("file", 0)), show("file"), CALL(chmod("file", 07777)), show("file"), CALL(chmod("file", 0640)),
        CALL(fchmod(f, 0600)), show("file"), CALL(chmod("link", 0644)), show("link"), show("file");
    CALL(chmod("dir", 01777)), show("dir"), CALL(chmod("dir", 0755)), CALL(chmod("missing", 0644)),
        CALL(chmod("dangling", 0644)), CALL(chmod("file/x", 0644)), CALL(fchmod(99, 0644)), CALL(fchmod(d, 0700)), show("dir"),
        CALL(chmod("file", 0100644)), show("file");
    CALL(fchmodat(d, "../file", 0666, 0)), show("file"), CALL(fchmodat(AT_FDCWD, "link", 0600, AT_SYMLINK_NOFOLLOW)),
        CALL(syscall(452, AT_FDCWD, "file", 0644, 0)), CALL(syscall(452, AT_FDCWD, "file", 0644, 0x40)),
        CALL(syscall(452, f, "", 0604, AT_EMPTY_PATH)), show("file");
    close(f), close(d);
}

static void owners(void) {
    int f = open("file", O_RDWR);
    CALL(chown("file", -1, -1)), CALL(chown("file", getuid(), getgid())), CALL(fchown(f, -1, getgid())),
        CALL(lchown("link", getuid(), -1)), CALL(chown("missing", -1, -1)), CALL(chown("dangling", -1, -1)),
        CALL(lchown("dangling", -1, -1)), CALL(fchown(99, -1, -1)), CALL(fchownat(f, "", getuid(), -1, AT_EMPTY_PATH)),
        CALL(fchownat(AT_FDCWD, "file", -1, -1, 0x40000));
    chmod("file", 06755), CALL(chown("file", getuid(), -1)), show("file"), chmod("dir", 06755),
        CALL(chown("dir", getuid(), -1)), show("dir"), chmod("dir", 0755), chmod("file", 0644);
    close(f);
}

static void times_of(const char *path) {
    struct stat st;
    lstat(path, &st);
    printf("%s: %ld.%09ld %ld.%09ld\n", path, (long)st.st_atim.tv_sec, st.st_atim.tv_nsec, (long)st.st_mtim.tv_sec,
        st.st_mtim.tv_nsec);
}
static void times(void) {
    int f = open("file", O_RDWR);
    struct timespec two[2] = {{1000, 123456789}, {2000, 987654321}}, omit[2] = {{5, UTIME_OMIT}, {6, 7}},
        bad[2] = {{0, 1000000000}, {0, 0}}, now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
    CALL(utimensat(AT_FDCWD, "file", two, 0)), times_of("file"), CALL(utimensat(AT_FDCWD, "file", omit, 0)), times_of("file"),
        CALL(utimensat(AT_FDCWD, "file", bad, 0)), CALL(futimens(f, two)), times_of("file"),
        CALL(utimensat(AT_FDCWD, "link", omit, AT_SYMLINK_NOFOLLOW));
    struct stat st;
    lstat("link", &st), printf("link's own %ld\n", (long)st.st_mtim.tv_sec), times_of("file");
    CALL(utimensat(AT_FDCWD, "missing", two, 0)), CALL(utimensat(AT_FDCWD, "file", two, 0x8000)),
        CALL(syscall(SYS_utimensat, f, NULL, two, 0)), CALL(syscall(SYS_utimensat, AT_FDCWD, NULL, two, 0)),
        CALL(utimensat(f, "", two, AT_EMPTY_PATH)), CALL(futimens(99, two));
    CALL(utimes("file", (struct timeval[]){{10, 20}, {30, 40}})), times_of("file"),
        CALL(utimes("file", (struct timeval[]){{10, 1000000}, {30, 40}})), CALL(utime("file", &(struct utimbuf){77, 88})),
        times_of("file"), CALL(syscall(SYS_futimesat, AT_FDCWD, "file", (struct timeval[]){{11, 0}, {12, 0}})),
        times_of("file");
    CALL(futimens(f, (struct timespec[]){{-5, 0}, {1l << 33, 0}})), times_of("file");
    CALL(futimens(f, now)), fstat(f, &st), YES(st.st_mtim.tv_sec > 1600000000), CALL(futimens(f, NULL));
    futimens(f, two), CALL(pwrite(f, "x", 1, 0)), fstat(f, &st), YES(st.st_mtim.tv_sec > 1600000000),
        YES(st.st_ctim.tv_sec > 1600000000);
    futimens(f, two), CALL(ftruncate(f, 3)), fstat(f, &st), YES(st.st_mtim.tv_sec > 1600000000), futimens(f, two),
        CALL(ftruncate(f, 3)), fstat(f, &st), YES(st.st_mtim.tv_sec > 1600000000);
    utimensat(AT_FDCWD, "dir", two, 0), CALL(close(open("dir/new", O_CREAT | O_RDWR, 0644))), stat("dir", &st),
        YES(st.st_mtim.tv_sec > 1600000000), utimensat(AT_FDCWD, "dir", two, 0), CALL(unlink("dir/new")), stat("dir", &st),
        YES(st.st_mtim.tv_sec > 1600000000);
    futimens(f, two), CALL(chmod("file", 0644)), times_of("file"), CALL(rename("file", "file2")), times_of("file2"),
        rename("file2", "file");
    close(f);
}

static void extended(void) {
    char value[64] = {0};
    int f = open("file", O_RDWR);
    CALL(setxattr("file", "user.one", "value", 5, 0)), CALL(getxattr("file", "user.one", value, sizeof value)),
        printf("%s\n", value), CALL(getxattr("file", "user.one", value, 2)), CALL(getxattr("file", "user.one", NULL, 0)),
        CALL(getxattr("file", "user.none", value, 64));
    CALL(setxattr("file", "user.one", "v", 1, XATTR_CREATE)), CALL(setxattr("file", "user.two", "v", 1, XATTR_REPLACE)),
        CALL(setxattr("file", "user.one", "w", 1, XATTR_REPLACE)), CALL(setxattr("file", "user.two", "", 0, XATTR_CREATE)),
        CALL(getxattr("file", "user.two", value, 64)), CALL(setxattr("file", "user.x", "", 0, 4));
    CALL(setxattr("file", "nonsense", "v", 1, 0)), CALL(setxattr("file", "", "v", 1, 0)),
        CALL(setxattr("file", "user.", "v", 1, 0)), CALL(setxattr("missing", "user.a", "v", 1, 0)),
        CALL(setxattr("file", "other.a", "v", 1, 0)), CALL(setxattr("file", "user.big", value, 1 << 17, 0));
    CALL(listxattr("file", value, sizeof value)), CALL(listxattr("file", NULL, 0)), CALL(listxattr("file", value, 3)),
        CALL(fgetxattr(f, "user.one", value, 64)), CALL(fsetxattr(f, "user.three", "3", 1, 0)), CALL(flistxattr(f, NULL, 0)),
        CALL(fremovexattr(f, "user.three")), CALL(removexattr("file", "user.three")),
        CALL(lsetxattr("link", "user.a", "v", 1, 0)), CALL(lgetxattr("link", "user.one", value, 64)),
        CALL(getxattr("link", "user.one", value, 64)), CALL(setxattr("dir", "user.d", "d", 1, 0)),
        CALL(setxattr("/dev/null", "user.d", "d", 1, 0));
    close(f);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }
static void listing(void) {
    mkdir("many", 0755);
    char path[64];
    for (int i = 0; i < 300; i++) snprintf(path, sizeof path, "many/%03d-%.*s", i, i % 40,
        "a-long-tail-of-a-name-to-fill-the-buffer"), close(open(path, O_CREAT | O_WRONLY, 0644));
    int d = open("many", O_RDONLY | O_DIRECTORY);
    char buffer[1024], *names[400];
    long length;
    int count = 0, dots = 0, calls = 0;
    while ((length = syscall(SYS_getdents64, d, buffer, sizeof buffer)) > 0) {
        calls++;
        for (long at = 0; at < length;) {
            struct { unsigned long ino; long off; unsigned short reclen; unsigned char type; char name[];
                } *e = (void *)(buffer + at);
            if (e->name[0] == '.') dots++;
            else if (count < 400) names[count++] = strdup(e->name);
            at += e->reclen;
        }
    }
    qsort(names, count, sizeof *names, by_name);
    int twice = 0;
    for (int i = 1; i < count; i++) twice += !strcmp(names[i - 1], names[i]);
    printf("%d names, %d dots, %d twice, more than one call %s, end %ld\n", count, dots, twice, calls > 1 ? "yes" : "no",
        length);
    CALL(syscall(SYS_getdents64, d, buffer, sizeof buffer)), CALL(lseek(d, 0, SEEK_SET)),
        CALL(syscall(SYS_getdents64, d, buffer, 4)), CALL(syscall(SYS_getdents64, d, (void *)1, 1000)),
        CALL(syscall(SYS_getdents64, 99, buffer, 1000));
    int f = open("file", O_RDONLY);
    CALL(syscall(SYS_getdents64, f, buffer, 1000));
    DIR *dir = fdopendir(d);
    struct dirent *e;
    for (int i = 0; i < 100; i++) readdir(dir);
    long place = telldir(dir);
    e = readdir(dir);
    char first[256];
    strcpy(first, e->d_name);
    for (int i = 0; i < 50; i++) readdir(dir);
    seekdir(dir, place), e = readdir(dir), YES(strcmp(first, e->d_name) == 0), rewinddir(dir);
    for (count = 0; readdir(dir);) count++;
    printf("%d after rewinddir\n", count), rewinddir(dir);
    for (count = 0; (e = readdir(dir));) if (e->d_name[0] != '.') snprintf(path, sizeof path, "many/%.50s", e->d_name),
        count += unlink(path) == 0;
    printf("%d removed while listing\n", count), CALL(rmdir("many")), closedir(dir), close(f);
}

static void filesystems(void) {
    struct statfs s;
    CALL(statfs(".", &s)), YES(s.f_bsize > 0 && s.f_namelen == 255 && s.f_blocks > 0), CALL(statfs("missing", &s)),
        CALL(statfs("file/x", &s)), CALL(fstatfs(99, &s)), CALL(statfs(".", (void *)1)), CALL(statfs("/proc", &s)),
        printf("%lx\n", (long)s.f_type), CALL(statfs("/dev/shm", &s)), printf("%lx\n", (long)s.f_type);
    CALL(umask(0777) >= 0), CALL(umask(01234567)), CALL(umask(022));
}

int main(void) {
    umask(022);
    stating();
    modes();
    owners();
    times();
    extended();
    listing();
    filesystems();
    return 0;
}
