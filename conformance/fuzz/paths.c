/* Random operations on a tree of files, printed with what came of each: natively and in the sandbox that must be the same.
 *
 *   paths DIRECTORY SEED OPERATIONS [as-user]
 *
 * Nothing is printed that may differ from run to run or from filesystem to filesystem: inode numbers, times that were not set
 * on purpose, sizes of directories, the order of entries. as-user: without privilege, where permission bits count. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HELD 5
#define USER 54321
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static uint64_t state;
static int held[HELD], base_fd;
static char base[4096];
static int as_user, bound;

static uint64_t randomly(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    uint64_t x = state;
    x ^= x >> 29; x *= 0xbf58476d1ce4e5b9u; x ^= x >> 32;
    return x;
}
static unsigned below(unsigned n) { return randomly() % n; }
static int one_in(int n) { return below(n) == 0; }

/* A path of few names, so that they meet. Each call has its own room. */
/* In calls with two paths, or that look for two things, none is too long: which error comes first is not worth anybody's while. */
static int one_of_two;
static const char *path(void) {
    static char room[4][5000];
    static int turn;
    char *to = room[turn++ % 4];
    *to = 0;
    if (one_in(200)) return to;
    if (!one_of_two && one_in(150)) { memset(to, 'x', 255 + below(2)), to[256] = 0; to[255] = one_in(2) ? 0 : to[255]; return to; }
    if (!one_of_two && one_in(300)) { for (int i = 0; i < 4090 + (int)below(10); i += 2) strcat(to, "./"); return to; }
    if (one_in(25)) strcpy(to, one_in(2) ? "/a/base/" : "/");
    int depth = 1 + below(one_in(3) ? 5 : 2);
    for (int i = 0; i < depth; i++) {
        static const char *names[] = {"a", "b", "c", "d", "e", "f", "..", "."};
        strcat(to, names[below(one_in(3) ? 8 : 6)]);
        if (i + 1 < depth) strcat(to, one_in(20) ? "//" : "/");
    }
    if (one_in(8)) strcat(to, one_in(4) ? "/." : "/");
    return to;
}

/* A directory to start from: the working directory or a descriptor. */
static int where(void) { return one_in(2) ? AT_FDCWD : one_in(60) ? 999 : held[below(HELD)]; }

static void result(long r, const char *format, ...) {
    int error = errno;
    va_list list;
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    if (r < 0) printf(" = %s\n", strerrorname_np(error) ?: "?");
    else printf(" = ok\n");
}

static const char *at_name(int fd) {
    static char room[2][16];
    static int turn;
    char *to = room[turn++ % 2];
    if (fd == AT_FDCWD) return ".";
    for (int i = 0; i < HELD; i++) if (held[i] == fd) return sprintf(to, "#%d", i), to;
    return "?";
}

static void show(const struct stat *st) {
    printf(" mode %o owner %d:%d", st->st_mode, (int)st->st_uid, (int)st->st_gid);
    printf(" links %d", (int)st->st_nlink);
    if (!S_ISDIR(st->st_mode)) printf(" size %ld", (long)st->st_size);
    if (st->st_mtime < 1000000000) printf(" modified %ld", (long)st->st_mtime);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

/* The names in a directory, sorted; `types` besides. The number, or -1. */
static int list(int fd, char *names[], int most, int types) {
    DIR *directory = fdopendir(fd);
    if (!directory) { int error = errno; close(fd); errno = error; return -1; }
    rewinddir(directory);
    int count = 0;
    for (struct dirent *entry; count < most && (entry = readdir(directory));) {
        char *line;
        if (asprintf(&line, types ? "%s:%d" : "%s", entry->d_name, entry->d_type) < 0) abort();
        names[count++] = line;
    }
    closedir(directory);
    qsort(names, count, sizeof *names, by_name);
    return count;
}

/* The tree below a directory. A file with several names is told from others by the first of them. */
static struct { dev_t dev; ino_t ino; char name[300]; } seen[4000];
static int seen_count;
static void dump(int at, const char *prefix, int depth) {
    char *names[2000];
    int fd = openat(at, ".", O_RDONLY | O_DIRECTORY);
    int count = fd < 0 ? -1 : list(fd, names, 2000, 0);
    if (count < 0) { printf("%s: %s\n", prefix, strerrorname_np(errno)); return; }
    for (int i = 0; i < count; i++) {
        char *name = names[i], full[300];
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) { free(name); continue; }
        snprintf(full, sizeof full, "%.200s/%.90s", prefix, name);
        struct stat st;
        if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW)) { printf("%s: %s\n", full, strerrorname_np(errno)); free(name); continue; }
        printf("  %s:", full), show(&st);
        if (S_ISLNK(st.st_mode)) {
            char target[5000];
            ssize_t n = readlinkat(at, name, target, sizeof target);
            printf(" to %.*s", n < 60 ? (int)n : 60, target);
        }
        if (!S_ISDIR(st.st_mode) && st.st_nlink > 1) {
            int k = 0;
            while (k < seen_count && (seen[k].ino != st.st_ino || seen[k].dev != st.st_dev)) k++;
            if (k == seen_count && k < 4000) seen[k].dev = st.st_dev, seen[k].ino = st.st_ino, strcpy(seen[k].name, full), seen_count++;
            printf(" is %s", seen[k].name);
        }
        printf("\n");
        if (S_ISDIR(st.st_mode) && depth < 12) {
            int next = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
            if (next < 0) printf("  %s: %s\n", full, strerrorname_np(errno));
            else dump(next, full, depth + 1), close(next);
        }
        free(name);
    }
}

static void do_make(void) {
    const char *p = path();
    int d = where(), mode = one_in(3) ? below(01000) | 0700 : 0755;
    switch (below(as_user || bound ? 4 : 5)) {
        case 0: case 1: result(mkdirat(d, p, mode), "mkdir %s %.300s %o", at_name(d), p, mode); break;
        case 2: { const char *t = path(); result(symlinkat(t, d, p), "symlink %.300s %s %.300s", t, at_name(d), p); break; }
        case 3: result(mknodat(d, p, S_IFREG | mode, 0), "mknod %s %.300s %o", at_name(d), p, mode); break;
        case 4: result(mknodat(d, p, S_IFIFO | mode, 0), "mkfifo %s %.300s %o", at_name(d), p, mode); break;
    }
}

static void do_remove(void) {
    const char *p = path();
    int d = where(), flags = one_in(50) ? 0x40 : one_in(2) ? AT_REMOVEDIR : 0;
    result(unlinkat(d, p, flags), "unlink %s %.300s %#x", at_name(d), p, flags);
}

static void do_rename(void) {
    static const unsigned kinds[] = {0, 0, 0, 1, 2, 3, 4, 8, 6};
    const char *p = path(), *q = path();
    int d = where(), e = where();
    unsigned flags = one_in(2) ? 0 : kinds[below(4 + (one_in(2) ? 0 : 2) + (one_in(20) ? 3 : 0))];
    if (flags & 4) flags = 8;
    result(renameat2(d, p, e, q, flags), "rename %s %.300s %s %.300s %#x", at_name(d), p, at_name(e), q, flags);
}

static void do_link(void) {
    const char *p = path(), *q = path();
    int d = where(), e = where(), flags = one_in(40) ? 0x100000 : one_in(3) ? AT_SYMLINK_FOLLOW : 0;
    result(linkat(d, p, e, q, flags), "link %s %.300s %s %.300s %#x", at_name(d), p, at_name(e), q, flags);
}

static void use(int fd, int flags) {
    if ((flags & O_ACCMODE) != O_RDONLY && !(flags & O_PATH)) {
        ssize_t n = write(fd, "some text of a file", 1 + below(18));
        printf("  wrote %zd\n", n);
    } else if (!(flags & O_PATH)) {
        char bytes[64];
        ssize_t n = read(fd, bytes, sizeof bytes);
        printf("  read %zd %s %.*s\n", n, n < 0 ? strerrorname_np(errno) : "", n > 0 ? (int)n : 0, bytes);
    }
    struct stat st;
    printf("  it is"), (fstat(fd, &st) ? (void)printf(" %s", strerrorname_np(errno)) : show(&st)), printf("\n");
    if (S_ISDIR(st.st_mode) || one_in(8)) {
        int k = below(HELD);
        close(held[k]), held[k] = fd;
        printf("  held as #%d\n", k);
    } else close(fd);
}

static int open_flags(void) {
    static const int more[] = {O_CREAT, O_CREAT | O_EXCL, O_TRUNC, O_DIRECTORY, O_NOFOLLOW, O_PATH, O_APPEND, O_CREAT | O_DIRECTORY,
        O_PATH | O_NOFOLLOW, O_CREAT | O_TRUNC, O_CREAT | O_NOFOLLOW, O_NOATIME};
    int flags = below(3) | O_NONBLOCK;
    for (int n = below(3); n > 0; n--) flags |= more[below(12)];
    return flags;
}

static void do_open(void) {
    const char *p = path();
    int d = where(), flags = open_flags(), mode = one_in(3) ? below(01000) : 0644;
    if (bound) mode |= 0700;
    int fd = openat(d, p, flags, mode);
    result(fd, "open %s %.300s %#x %o", at_name(d), p, flags, mode);
    if (fd >= 0) use(fd, flags);
}

static void do_openat2(void) {
    /* Not RESOLVE_CACHED, which may always say EAGAIN. */
    static const unsigned long kinds[] = {0, 1, 2, 4, 8, 0x10, 0x40, 0x100};
    const char *p = path();
    int d = where();
    struct open_how how = {.flags = open_flags(), .resolve = kinds[below(one_in(20) ? 8 : 6)]};
    if (one_in(3)) how.resolve |= kinds[below(6)];
    if (how.flags & (O_CREAT | O_TMPFILE)) how.mode = 0644;
    int fd = syscall(SYS_openat2, d, p, &how, sizeof how);
    result(fd, "openat2 %s %.300s %#llx %#llx", at_name(d), p, how.flags, how.resolve);
    if (fd >= 0) use(fd, how.flags);
}

static void do_change(void) {
    const char *p = path();
    int d = where();
    switch (below(5)) {
        case 0: {
            int mode = below(010000), flags = one_in(3) ? AT_SYMLINK_NOFOLLOW : 0;
            if (one_in(2) || bound) mode = 0700 | (mode & 0777);
            result(syscall(SYS_fchmodat2, d, p, mode, flags), "chmod %s %.300s %o %#x", at_name(d), p, mode, flags);
            break;
        }
        case 1: {
            if (bound) break;
            int uid = one_in(2) ? -1 : one_in(2) ? 0 : USER, gid = one_in(2) ? -1 : USER, flags = one_in(2) ? AT_SYMLINK_NOFOLLOW : 0;
            result(fchownat(d, p, uid, gid, flags), "chown %s %.300s %d:%d %#x", at_name(d), p, uid, gid, flags);
            break;
        }
        case 2: {
            long size = one_in(20) ? -1 : (long)below(100);
            result(truncate(p, size), "truncate %.300s %ld", p, size);
            break;
        }
        case 3: {
            struct timespec times[2] = {{1000 + below(1000), 0}, {1000 + below(1000), one_in(4) ? UTIME_OMIT : one_in(40) ? 2000000000 : 0}};
            int flags = one_in(2) ? AT_SYMLINK_NOFOLLOW : 0;
            result(utimensat(d, p, times, flags), "utimens %s %.300s %ld %ld %#x", at_name(d), p, (long)times[1].tv_sec, times[1].tv_nsec, flags);
            break;
        }
        case 4: {
            int mask = one_in(3) ? below(01000) & 077 : 022;
            umask(mask), printf("umask %o\n", mask);
            break;
        }
    }
}

static void do_look(void) {
    const char *p = path();
    int d = where();
    struct stat st;
    char text[5000];
    switch (below(6)) {
        case 0: case 1: {
            int flags = one_in(2) ? AT_SYMLINK_NOFOLLOW : one_in(20) ? AT_EMPTY_PATH : one_in(40) ? 0x10 : 0, r = fstatat(d, p, &st, flags);
            result(r, "stat %s %.300s %#x", at_name(d), p, flags);
            if (r == 0) show(&st), printf("\n");
            break;
        }
        case 2: {
            ssize_t n = readlinkat(d, p, text, one_in(10) ? 1 : sizeof text);
            result(n, "readlink %s %.300s", at_name(d), p);
            if (n >= 0) printf("  %.*s\n", n < 60 ? (int)n : 60, text);
            break;
        }
        case 3: {
            int mode = below(8), flags = one_in(3) ? AT_EACCESS : one_in(3) ? AT_SYMLINK_NOFOLLOW : 0;
            result(syscall(SYS_faccessat2, d, p, mode, flags), "access %s %.300s %d %#x", at_name(d), p, mode, flags);
            break;
        }
        case 4: {
            char *names[2000];
            int fd = openat(d, p, O_RDONLY | O_DIRECTORY), count = fd < 0 ? -1 : list(fd, names, 2000, 1);
            result(count, "list %s %.300s", at_name(d), p);
            for (int i = 0; i < count; i++) printf("  %s", names[i]), free(names[i]);
            if (count >= 0) printf("\n");
            break;
        }
        case 5: {
            int r = one_in(3) ? fchdir(held[below(HELD)]) : chdir(p);
            result(r, "chdir %.300s", p);
            if (getcwd(text, sizeof text) == NULL) printf("  nowhere: %s\n", strerrorname_np(errno));
            else printf("  in %.300s\n", strncmp(text, base, strlen(base)) == 0 ? text + strlen(base) : "(outside)");
            /* Never for long outside of the tree, nor where nothing can be done. */
            if (strncmp(text, base, strlen(base)) != 0 || one_in(2)) if (fchdir(base_fd)) printf("  no way back\n");
            break;
        }
    }
}

static void top(void) {
    base_fd = open(".", O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < HELD; i++) held[i] = open(".", O_RDONLY | O_DIRECTORY);
}

int main(int count, char **arguments) {
    if (count < 4) return 2;
    /* What bound host directories do not have: named pipes, other owners, and a root that no permission bits stop. */
    bound = getenv("BOUND") != NULL;
    as_user = count > 4 && strcmp(arguments[4], "as-user") == 0;
    uint64_t seed = strtoull(arguments[2], NULL, 0) << 32;
    long operations = strtol(arguments[3], NULL, 0);
    /* Links may lead anywhere upwards: nothing but the directory is to be found there. */
    if (chdir(arguments[1]) || chroot(".")) { perror("chroot"); return 3; }
    const char *work = "/a/base";
    mkdir("/a", 0755), mkdir(work, 0755);
    if (as_user && (chown(work, USER, USER) || setgroups(0, NULL) || setgid(USER) || setuid(USER))) return 3;
    umask(022);
    if (chdir(work) || getcwd(base, sizeof base) == NULL) return 3;
    top();
    for (long i = 0; i < operations; i++) {
        /* From the number alone, so that one difference does not make the rest another story. */
        state = (seed + i) * 0x9e3779b97f4a7c15u, randomly();
        int k = below(100);
        printf("%ld ", i);
        one_of_two = k < 44;
        if (k < 16) do_make();
        else if (k < 24) do_remove();
        else if (k < 36) do_rename();
        else if (k < 44) do_link();
        else if (k < 62) do_open();
        else if (k < 70) do_openat2();
        else if (k < 82) do_change();
        else do_look();
        if (i % 100 == 99) {
            printf("tree\n"), seen_count = 0, dump(base_fd, "", 0);
        }
    }
    return 0;
}
