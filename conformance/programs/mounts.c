/* mount(2), umount2(2) and what is told of mounts. Natively in a namespace of its own, so that nothing of it is left. */
#include "report.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>

static char here[4096];

static void put(const char *path, const char *text) {
    int f = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (f < 0) { printf("put %s: %s\n", path, strerrorname_np(errno)); return; }
    if (write(f, text, strlen(text)) < 0) printf("write %s: %s\n", path, strerrorname_np(errno));
    close(f);
}
static void get(const char *path) {
    char text[256] = "";
    int f = open(path, O_RDONLY);
    if (f < 0) { printf("%s: %s\n", path, strerrorname_np(errno)); return; }
    ssize_t n = read(f, text, sizeof text - 1);
    printf("%s: %zd %s\n", path, n, text);
    close(f);
}
/* Options that kernels show as they were built. */
static void without(char *text, const char *word) {
    char *at = strstr(text, word);
    if (at) memmove(at, at + strlen(word), strlen(at + strlen(word)) + 1);
}
/* The last line of `mounts` and of `mountinfo` that is about a path below here, without numbers. */
static void lines(const char *name) {
    char line[8192], found[2][8192] = {"(none)\n", "(none)\n"}, wanted[4200];
    snprintf(wanted, sizeof wanted, "%s/%s ", here, name);
    FILE *f = fopen("/proc/self/mounts", "r");
    while (fgets(line, sizeof line, f)) if (strstr(line, wanted)) strcpy(found[0], line);
    fclose(f);
    f = fopen("/proc/self/mountinfo", "r");
    while (fgets(line, sizeof line, f)) {
        char *at = strstr(line, wanted);
        /* Where in its filesystem a bound directory lies, natively depends on where this runs: only the end counts. */
        if (at) { strcpy(found[1], at + strlen(here)); }
    }
    fclose(f);
    for (int i = 0; i < 2; i++) { without(found[i], ",inode64"); without(found[i], ",seclabel"); }
    char *at = strstr(found[0], wanted);
    printf("mounts: %s", at ? at + strlen(here) : found[0]);
    printf("mountinfo: %s", found[1]);
}
static void type(const char *path) {
    struct statfs s;
    struct statvfs v;
    if (statfs(path, &s) || statvfs(path, &v)) { printf("%s: %s\n", path, strerrorname_np(errno)); return; }
    printf("%s: type %lx flags %lx\n", path, (long)s.f_type, v.f_flag);
}
static int run(const char *path) {
    pid_t child = fork();
    if (!child) { execl(path, path, NULL); _exit(100 + (errno == EACCES)); }
    int status;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}
static void copy_true(const char *to) {
    char buffer[1 << 16];
    int from = open("/bin/true", O_RDONLY), f = open(to, O_WRONLY | O_CREAT, 0755);
    ssize_t n;
    while ((n = read(from, buffer, sizeof buffer)) > 0) if (write(f, buffer, n) < 0) break;
    close(from);
    close(f);
}

static void new_ones(void) {
    CALL(mount("none", "t", "tmpfs", 0, "size=1m,mode=750"));
    lines("t");
    struct stat s;
    stat("t", &s);
    printf("%o %d\n", s.st_mode, s.st_uid);
    struct statfs f;
    statfs("t", &f);
    printf("%ld blocks\n", (long)f.f_blocks);
    type("t");
    put("t/f", "inside");
    CALL(umount("t"));
    CALL(access("t/f", F_OK));
    static const struct { unsigned long flags; const char *name; } all[] = {
        {MS_NOSUID, "nosuid"}, {MS_NODEV, "nodev"}, {MS_NOEXEC, "noexec"}, {MS_NOATIME, "noatime"}, {MS_RDONLY, "ro"},
        {MS_NODIRATIME, "nodiratime"}, {MS_STRICTATIME, "strictatime"}, {MS_RELATIME, "relatime"},
        {MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY | MS_NOATIME, "all"}, {MS_MGC_VAL | MS_NODEV, "magic"}};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        printf("%s: %d ", all[i].name, mount("source", "t", "tmpfs", all[i].flags, NULL));
        lines("t");
        type("t");
        umount("t");
    }
    CALL(mount("x", "t", "tmpfs", MS_NODEV | MS_NOEXEC, ""));
    CALL(mknod("t/null", S_IFCHR | 0666, makedev(1, 3)));
    CALL(open("t/null", O_RDWR));
    copy_true("t/true");
    printf("run: %d\n", run("./t/true"));
    CALL(mount(NULL, "t", NULL, MS_REMOUNT | MS_BIND, NULL));
    OK(close(open("t/null", O_RDWR)));
    printf("run: %d\n", run("./t/true"));
    CALL(umount("t"));
    CALL(mount("proc", "t", "proc", 0, NULL));
    YES(access("t/self/status", R_OK) == 0);
    type("t");
    lines("t");
    CALL(umount("t"));
    CALL(mount("none", "t", "frobfs", 0, NULL));
    CALL(mount("none", "t", NULL, 0, NULL));
    CALL(mount("none", "t", "tmpfs", 0, "frobnicate=1"));
    CALL(mount("none", "t", "tmpfs", 0, "size=banana"));
    CALL(mount("none", "t", "tmpfs", 1u << 31, NULL));
    CALL(mount("none", "no", "tmpfs", 0, NULL));
    CALL(mount("none", "file", "tmpfs", 0, NULL));
    CALL(mount("none", (char *)1, "tmpfs", 0, NULL));
    CALL(mount("none", "t", (char *)1, 0, NULL));
    CALL(mount((char *)1, "t", "tmpfs", 0, NULL));
}
static void ends(void) {
    mount("x", "t", "tmpfs", 0, NULL);
    put("t/f", "kept");
    int f = open("t/f", O_RDONLY);
    CALL(umount("t"));
    CALL(umount2("t", MNT_EXPIRE));
    CALL(rmdir("t"));
    CALL(rename("t", "u"));
    CALL(umount2("t", MNT_DETACH));
    CALL(umount("t"));
    char text[8] = "";
    CALL(read(f, text, 4));
    printf("%s\n", text);
    close(f);
    CALL(access("t/f", F_OK));
    mount("x", "t", "tmpfs", 0, NULL);
    CALL(umount2("t", MNT_EXPIRE));
    CALL(access("t/none", F_OK));
    CALL(umount2("t", MNT_EXPIRE));
    CALL(umount2("t", MNT_EXPIRE | MNT_DETACH));
    CALL(umount2("t", MNT_EXPIRE));
    CALL(umount2("t", 0x80));
    CALL(umount("no"));
    CALL(umount("file"));
    CALL(umount((char *)1));
    mount("x", "t", "tmpfs", 0, NULL);
    symlink("t", "link");
    CALL(umount2("link", UMOUNT_NOFOLLOW));
    CALL(umount("link"));
    unlink("link");
    mount("x", "t", "tmpfs", 0, NULL);
    mkdir("t/in", 0755);
    mount("y", "t/in", "tmpfs", 0, NULL);
    CALL(umount("t"));
    CALL(chdir("t/in"));
    CALL(umount("."));
    CALL(umount2("../../t", MNT_DETACH));
    put("left", "still there");
    get("left");
    CALL(access("../f", F_OK));
    CALL(chdir(here));
    CALL(access("t/in", F_OK));
    mount("one", "t", "tmpfs", 0, NULL);
    put("t/one", "1");
    mount("two", "t", "tmpfs", 0, NULL);
    put("t/two", "2");
    CALL(access("t/one", F_OK));
    CALL(umount("t"));
    get("t/one");
    CALL(umount("t"));
    CALL(umount("t"));
}
static void binds(void) {
    mkdir("d", 0755);
    mkdir("d/sub", 0755);
    put("d/f", "bound");
    CALL(mount("d", "t", NULL, MS_BIND, NULL));
    get("t/f");
    put("t/g", "both");
    get("d/g");
    CALL(link("d/f", "t/link"));
    CALL(rename("d/g", "t/h"));
    CALL(umount("t"));
    CALL(mount("d/f", "file", "ignored", MS_BIND, "ignored"));
    get("file");
    CALL(unlink("file"));
    CALL(rename("file", "elsewhere"));
    put("file", "through");
    get("d/f");
    CALL(umount("file"));
    get("file");
    CALL(mount("d/f", "t", NULL, MS_BIND, NULL));
    CALL(mount("d", "file", NULL, MS_BIND, NULL));
    CALL(mount("", "t", NULL, MS_BIND, NULL));
    CALL(mount(NULL, "t", NULL, MS_BIND, NULL));
    CALL(mount("none", "t", NULL, MS_BIND, NULL));
    mount("in", "d/sub", "tmpfs", MS_NODEV, "mode=700");
    put("d/sub/deep", "deep");
    CALL(mount("d", "t", NULL, MS_BIND, NULL));
    CALL(access("t/sub/deep", F_OK));
    CALL(umount("t"));
    CALL(mount("d", "t", NULL, MS_BIND | MS_REC, NULL));
    get("t/sub/deep");
    lines("t/sub");
    CALL(mount(NULL, "t", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
    CALL(open("t/new", O_CREAT | O_WRONLY, 0600));
    CALL(access("t", W_OK));
    CALL(chmod("t/f", 0600));
    put("t/sub/deep", "inner ones stay writable");
    put("d/f", "and so does the original");
    type("t/sub");
    CALL(mount(NULL, "t/sub", NULL, MS_REMOUNT | MS_RDONLY, NULL));
    CALL(open("t/sub/x", O_CREAT | O_WRONLY, 0600));
    CALL(mount(NULL, "t/f", NULL, MS_REMOUNT | MS_BIND, NULL));
    CALL(mount(NULL, "d", NULL, MS_REMOUNT, NULL));
    struct open_how how = {.flags = O_PATH, .resolve = RESOLVE_NO_XDEV};
    CALL(syscall(SYS_openat2, AT_FDCWD, "t/f", &how, sizeof how));
    CALL(syscall(SYS_openat2, AT_FDCWD, "d/sub", &how, sizeof how));
    int inside = open("t", O_PATH);
    CALL(syscall(SYS_openat2, inside, "..", &how, sizeof how));
    OK(syscall(SYS_openat2, inside, "f", &how, sizeof how));
    close(inside);
    CALL(umount("t"));
    CALL(umount("t/sub"));
    CALL(umount2("t", MNT_DETACH));
    CALL(umount("d/sub"));
}
static void moves(void) {
    mount("x", "t", "tmpfs", 0, NULL);
    put("t/f", "moved");
    mkdir("t/in", 0755);
    mkdir("u", 0755);
    CALL(mount("t", "u", NULL, MS_MOVE, NULL));
    get("u/f");
    CALL(access("t/f", F_OK));
    CALL(mount("u", "u/in", NULL, MS_MOVE, NULL));
    CALL(mount("d", "t", NULL, MS_MOVE, NULL));
    CALL(mount("u/in", "t", NULL, MS_MOVE, NULL));
    CALL(mount("u", "file", NULL, MS_MOVE, NULL));
    CALL(mount("", "t", NULL, MS_MOVE, NULL));
    CALL(umount("u"));
    mount("x", "t", "tmpfs", 0, NULL);
    CALL(mount(NULL, "t", NULL, MS_PRIVATE, NULL));
    CALL(mount(NULL, "t", NULL, MS_SLAVE | MS_REC, NULL));
    CALL(mount(NULL, "t", NULL, MS_PRIVATE | MS_SLAVE, NULL));
    CALL(mount(NULL, "t", NULL, MS_PRIVATE | MS_NOEXEC, NULL));
    CALL(mount(NULL, "d", NULL, MS_PRIVATE, NULL));
    CALL(mount(NULL, "t", NULL, MS_UNBINDABLE, NULL));
    CALL(mount("t", "u", NULL, MS_BIND, NULL));
    CALL(mount(NULL, "t", NULL, MS_PRIVATE, NULL));
    CALL(mount("t", "u", NULL, MS_BIND, NULL));
    CALL(umount("u"));
    CALL(umount("t"));
    rmdir("u");
}
static void unprivileged(void) {
    mount("x", "t", "tmpfs", 0, NULL);
    pid_t child = fork();
    if (!child) {
        if (setresuid(1, 1, 1)) _exit(1);
        CALL(mount("x", "t", "tmpfs", 0, NULL));
        CALL(mount("d", "t", NULL, MS_BIND, NULL));
        CALL(mount(NULL, "t", NULL, MS_REMOUNT | MS_RDONLY, NULL));
        CALL(umount("t"));
        CALL(umount("no"));
        CALL(umount2("t", 0x80));
        CALL(mount("x", "no", "tmpfs", 0, NULL));
        CALL(mount("x", "t", "tmpfs", 1u << 31, NULL));
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    CALL(umount("t"));
}

int main(void) {
    if (!getcwd(here, sizeof here)) return 1;
    mkdir("t", 0755);
    put("file", "file");
    if (getuid()) {
        CALL(mount("x", "t", "tmpfs", 0, NULL));
        CALL(umount("t"));
        return 0;
    }
    if (!unshare(CLONE_NEWNS)) mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    chmod(here, 0755);
    new_ones();
    ends();
    binds();
    moves();
    unprivileged();
    return 0;
}
