/* Who may do what to whose files: every combination of directory, file, caller and call, as the tests of file systems have it. */
#include "report.h"
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

enum { ONE = 1001, TWO = 1002, SHARED = 1003 };

static void become(int user) {
    if (seteuid(0) || setegid(0)) abort();
    gid_t groups[] = {SHARED};
    if (setgroups(user == TWO, groups) || setegid(user) || seteuid(user)) abort();
}
static void clean(void) {
    become(0);
    static const char *const left[] = {"p/f", "p/g", "p/n", "p/d/x", "q/f", "q/g", "q/n"};
    for (unsigned i = 0; i < sizeof left / sizeof *left; i++) unlink(left[i]);
    rmdir("p/d");
    rmdir("p/n");
    rmdir("q/d");
    rmdir("q/n");
    rmdir("p");
    rmdir("q");
}

struct object { int mode, uid, gid; };

static void make(struct object parent, struct object file) {
    clean();
    mkdir("p", 0700);
    mkdir("q", 0777);
    chmod("q", 0777);
    close(open("p/f", O_CREAT | O_WRONLY, 0600));
    mkdir("p/d", 0700);
    chown("p/d", file.uid, file.gid);
    chmod("p/d", file.mode & 0777);
    chown("p/f", file.uid, file.gid);
    chmod("p/f", file.mode);
    chown("p", parent.uid, parent.gid);
    chmod("p", parent.mode);
}

static int opened(int f) { if (f >= 0) close(f); return f < 0 ? -1 : 0; }
static int o_read(void) { return opened(open("p/f", O_RDONLY)); }
static int o_write(void) { return opened(open("p/f", O_WRONLY)); }
static int o_both(void) { return opened(open("p/f", O_RDWR)); }
static int o_trunc(void) { return opened(open("p/f", O_RDONLY | O_TRUNC)); }
static int o_noatime(void) { return opened(open("p/f", O_RDONLY | O_NOATIME)); }
static int o_create(void) { return opened(open("p/n", O_CREAT | O_EXCL | O_RDWR, 0666)); }
static int o_create_there(void) { return opened(open("p/f", O_CREAT | O_RDWR, 0666)); }
static int o_temporary(void) { return opened(open("p", O_TMPFILE | O_RDWR, 0666)); }
static int o_directory(void) { return opened(open("p/d", O_RDONLY | O_DIRECTORY)); }
static int o_path(void) { return opened(open("p/f", O_PATH)); }
static int c_write(void) {
    int f = open("p/f", O_WRONLY);
    if (f < 0) return -1;
    int r = write(f, "x", 1) == 1 ? 0 : -1;
    close(f);
    return r;
}
static int c_truncate(void) { return truncate("p/f", 3); }
static int c_chmod(void) { return chmod("p/f", 0640); }
static int c_chmod_bits(void) { return chmod("p/f", 06775); }
static int c_chmod_sticky(void) { return chmod("p/f", 01644); }
static int c_chown(void) { return chown("p/f", TWO, -1); }
static int c_chown_same(void) { struct stat s; stat("p/f", &s); return chown("p/f", s.st_uid, s.st_gid); }
static int c_chown_none(void) { return chown("p/f", -1, -1); }
static int c_chgrp(void) { return chown("p/f", -1, SHARED); }
static int c_chgrp_foreign(void) { return chown("p/f", -1, 4242); }
static int c_chgrp_directory(void) { return chown("p/d", -1, SHARED); }
static int c_times_now(void) { return utimensat(AT_FDCWD, "p/f", NULL, 0); }
static int c_times(void) { struct timespec t[2] = {{1, 0}, {2, 0}}; return utimensat(AT_FDCWD, "p/f", t, 0); }
static int c_times_one(void) { struct timespec t[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}}; return utimensat(AT_FDCWD, "p/f", t, 0); }
static int c_unlink(void) { return unlink("p/f"); }
static int c_rmdir(void) { return rmdir("p/d"); }
static int c_mkdir(void) { return mkdir("p/n", 0777); }
static int c_mkfifo(void) { return mkfifo("p/n", 0666); }
static int c_mknod(void) { return mknod("p/n", S_IFCHR | 0666, makedev(1, 3)); }
static int c_symlink(void) { return symlink("x", "p/n"); }
static int c_link(void) { return link("p/f", "q/g"); }
static int c_link_in(void) { return link("p/f", "p/g"); }
static int c_rename_out(void) { return rename("p/f", "q/f"); }
static int c_rename(void) { return rename("p/f", "p/g"); }
static int c_rename_directory(void) { return rename("p/d", "q/d"); }
static int c_rename_over(void) { close(open("q/n", O_CREAT | O_WRONLY, 0666)); return rename("q/n", "p/f"); }
static int c_exchange(void) { close(open("q/n", O_CREAT | O_WRONLY, 0666)); return renameat2(AT_FDCWD, "q/n", AT_FDCWD, "p/f", RENAME_EXCHANGE); }
static int c_in_directory(void) { return opened(open("p/d/x", O_CREAT | O_WRONLY, 0600)); }
static int c_stat(void) { struct stat s; return stat("p/f", &s); }
static int c_access_r(void) { return faccessat(AT_FDCWD, "p/f", R_OK, AT_EACCESS); }
static int c_access_w(void) { return faccessat(AT_FDCWD, "p/f", W_OK, AT_EACCESS); }
static int c_access_x(void) { return faccessat(AT_FDCWD, "p/f", X_OK, AT_EACCESS); }
static int c_chdir(void) { return faccessat(AT_FDCWD, "p/d", X_OK, AT_EACCESS); }
static int c_chroot(void) { int r = chroot("no"); return r; }

#define OF(name) {#name, name}
static const struct { const char *name; int (*call)(void); } calls[] = {
    OF(o_read), OF(o_write), OF(o_both), OF(o_trunc), OF(o_noatime), OF(o_create), OF(o_create_there), OF(o_temporary),
    OF(o_directory), OF(o_path), OF(c_write), OF(c_truncate), OF(c_chmod), OF(c_chmod_bits), OF(c_chmod_sticky), OF(c_chown),
    OF(c_chown_same), OF(c_chown_none), OF(c_chgrp), OF(c_chgrp_foreign), OF(c_chgrp_directory), OF(c_times_now), OF(c_times),
    OF(c_times_one), OF(c_unlink), OF(c_rmdir), OF(c_mkdir), OF(c_mkfifo), OF(c_mknod), OF(c_symlink), OF(c_link), OF(c_link_in),
    OF(c_rename_out), OF(c_rename), OF(c_rename_directory), OF(c_rename_over), OF(c_exchange), OF(c_in_directory), OF(c_stat),
    OF(c_access_r), OF(c_access_w), OF(c_access_x), OF(c_chdir), OF(c_chroot)};

static void after(const char *path) {
    struct stat s;
    if (lstat(path, &s)) return;
    printf(" %s %o %d:%d", path, s.st_mode, s.st_uid, s.st_gid);
}
static void all(struct object parent, struct object file, int caller) {
    printf("== %o %d:%d / %o %d:%d / %d\n", parent.mode, parent.uid, parent.gid, file.mode, file.uid, file.gid, caller);
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        make(parent, file);
        become(caller);
        errno = 0;
        int r = calls[i].call();
        int error = errno;
        become(0);
        printf("%s: %s", calls[i].name, r ? strerrorname_np(error) : "ok");
        /* What it left, where it did something. */
        if (!r) { after("p/f"); after("p/n"); after("q/f"); after("p/d"); }
        printf("\n");
    }
}

int main(void) {
    if (getuid()) return 0;
    umask(022);
    chmod(".", 0755);
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    static const struct object parents[] = {{0755, ONE, ONE}, {0777, 0, 0}, {01777, 0, 0}, {01777, ONE, ONE}, {0700, TWO, TWO},
        {02775, 0, SHARED}, {0555, ONE, ONE}, {0711, 0, 0}};
    static const struct object files[] = {{0644, ONE, ONE}, {0000, ONE, ONE}, {0666, 0, 0}, {06755, ONE, SHARED}, {0060, ONE, SHARED},
        {02745, TWO, ONE}};
    static const int callers[] = {0, ONE, TWO};
    for (unsigned i = 0; i < sizeof parents / sizeof *parents; i++)
        for (unsigned j = 0; j < sizeof files / sizeof *files; j++)
            for (unsigned k = 0; k < sizeof callers / sizeof *callers; k++) all(parents[i], files[j], callers[k]);
    clean();
    /* On a filesystem in memory, where the rest is done by the same code. */
    char place[] = "/tmp/permissions.XXXXXX";
    if (!mkdtemp(place) || chmod(place, 0755) || chdir(place)) return 1;
    for (unsigned j = 0; j < sizeof files / sizeof *files; j++)
        for (unsigned k = 0; k < sizeof callers / sizeof *callers; k++) all(parents[1], files[j], callers[k]);
    clean();
    return chdir("/") || rmdir(place);
}
