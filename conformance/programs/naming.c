/* Names: open(2) and its flags, mkdir, link, symlink, rename, unlink and their *at forms, path rules, and which error each gives. */
#include "report.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static int mode_of(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0 ? (int)st.st_mode : -1;
}
static int links_of(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0 ? (int)st.st_nlink : -1;
}
static void put(const char *path, const char *text) {
    int f = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (f >= 0 && write(f, text, strlen(text)) < 0) perror(path);
    close(f);
}
static const char *get(const char *path) {
    static char text[64];
    int f = open(path, O_RDONLY);
    ssize_t length = f < 0 ? -1 : read(f, text, sizeof text - 1);
    if (f >= 0) close(f);
    if (length < 0) return strerrorname_np(errno);
    text[length] = 0;
    return text;
}
static int compare(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }
static void list(const char *path) {
    char *names[100];
    int count = 0;
    DIR *d = opendir(path);
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        char text[300];
        snprintf(text, sizeof text, "%s:%d", entry->d_name, entry->d_type);
        names[count++] = strdup(text);
    }
    if (d) closedir(d);
    qsort(names, count, sizeof *names, compare);
    printf("%s:", path);
    for (int i = 0; i < count; i++) printf(" %s", names[i]);
    printf("\n");
}

static void opening(void) {
    CALL(open("missing", O_RDONLY));
    CALL(open("", O_RDONLY));
    CALL(open("missing/file", O_RDONLY | O_CREAT, 0644));
    CALL(close(open("new", O_RDWR | O_CREAT | O_EXCL, 0640)));
    printf("mode %o\n", mode_of("new"));
    CALL(open("new", O_RDWR | O_CREAT | O_EXCL, 0644));
    CALL(open("new/", O_RDONLY));
    CALL(open("new/below", O_RDONLY));
    CALL(open("new", O_RDONLY | O_DIRECTORY));
    CALL(open(".", O_RDWR));
    CALL(open(".", O_WRONLY | O_TRUNC));
    CALL(open(".", O_RDONLY | O_CREAT, 0644));
    CALL(open("absent/", O_RDONLY | O_CREAT, 0644));
    CALL(open("absent/.", O_RDONLY | O_CREAT, 0644));
    CALL(open((char *)1, O_RDONLY));
    CALL(open("new", O_RDONLY | O_TMPFILE));
    CALL(open("d", O_CREAT | O_DIRECTORY, 0755));
    /* Flags are looked at before the path. */
    CALL(open((char *)1, O_CREAT | O_DIRECTORY, 0755));
    CALL(open((char *)1, O_RDONLY | O_TMPFILE));
    CALL(open((char *)1, O_RDONLY));
    struct open_how cached = { .flags = O_RDWR | O_CREAT, .mode = 0600, .resolve = RESOLVE_CACHED };
    CALL(syscall(SYS_openat2, AT_FDCWD, (char *)1, &cached, sizeof cached));
    char name[300], path[5000];
    memset(name, 'n', sizeof name), name[255] = 0;
    CALL(close(open(name, O_CREAT | O_RDWR, 0600)));
    CALL(unlink(name));
    name[255] = 'n', name[256] = 0;
    CALL(open(name, O_CREAT | O_RDWR, 0600));
    CALL(mkdir(name, 0700));
    CALL(open(name, O_RDONLY));
    path[0] = 0;
    for (int i = 0; i < 2047; i++) strcat(path, "./");
    strcat(path, ".");
    CALL(close(open(path, O_RDONLY)));
    strcat(path, "/.");
    CALL(open(path, O_RDONLY));
    put("new", "twelve bytes");
    int f = open("new", O_RDWR | O_APPEND);
    CALL(pwrite(f, "!", 1, 0));
    CALL(lseek(f, 0, SEEK_SET));
    CALL(write(f, "?", 1));
    CALL(lseek(f, 0, SEEK_CUR));
    close(f);
    printf("%s\n", get("new"));
    CALL(close(open("new", O_WRONLY | O_TRUNC)));
    printf("emptied: '%s'\n", get("new"));
    f = open("new", O_RDONLY);
    char c;
    CALL(write(f, "x", 1));
    CALL(ftruncate(f, 3));
    close(f);
    f = open("new", O_WRONLY);
    CALL(read(f, &c, 1));
    close(f);
    f = open("new", 3);
    YES(f >= 0);
    CALL(read(f, &c, 1));
    CALL(write(f, &c, 1));
    printf("flags %o\n", fcntl(f, F_GETFL) & ~0100000);
    close(f);
    CALL(close(open("new", O_RDONLY | O_NOATIME | O_SYNC | O_DIRECT * 0)));
    f = open("new", O_PATH);
    CALL(read(f, &c, 1));
    CALL(fchmod(f, 0600));
    CALL(ftruncate(f, 0));
    CALL(fcntl(f, F_GETFL) & O_PATH);
    struct stat st;
    CALL(fstat(f, &st));
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", f);
    int again = open(self, O_RDWR);
    YES(again >= 0);
    close(again), close(f);
    f = open(".", O_TMPFILE | O_RDWR, 0600);
    YES(f >= 0);
    CALL(write(f, "temporary", 9));
    fstat(f, &st);
    printf("links %ld\n", (long)st.st_nlink);
    snprintf(self, sizeof self, "/proc/self/fd/%d", f);
    CALL(linkat(AT_FDCWD, self, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    printf("%s\n", get("named"));
    close(f);
    f = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
    snprintf(self, sizeof self, "/proc/self/fd/%d", f);
    CALL(linkat(AT_FDCWD, self, AT_FDCWD, "never", AT_SYMLINK_FOLLOW));
    close(f);
    CALL(open(".", O_TMPFILE | O_RDONLY, 0600));
    CALL(creat("made", 0444));
    printf("mode %o\n", mode_of("made"));
    umask(027);
    CALL(close(open("masked", O_CREAT | O_RDWR, 0777)));
    printf("mode %o, mask %o\n", mode_of("masked"), umask(022));
    unlink("new"), unlink("made"), unlink("masked"), unlink("named");
}

static void directories(void) {
    CALL(mkdir("d", 0755));
    CALL(mkdir("d", 0755));
    CALL(mkdir("d/", 0755));
    CALL(mkdir("e/", 01777));
    printf("mode %o\n", mode_of("e"));
    CALL(mkdir("", 0755));
    CALL(mkdir(".", 0755));
    CALL(mkdir("..", 0755));
    CALL(mkdir("/", 0755));
    CALL(mkdir("missing/d", 0755));
    printf("links %d\n", links_of("d"));
    CALL(mkdirat(AT_FDCWD, "d/sub", 0755));
    printf("links %d\n", links_of("d"));
    CALL(rmdir("d"));
    CALL(rmdir("d/."));
    CALL(rmdir("d/sub/.."));
    CALL(rmdir("missing"));
    put("file", "x");
    CALL(rmdir("file"));
    CALL(unlink("d"));
    CALL(unlink("d/"));
    CALL(unlink("file/"));
    CALL(unlink("missing"));
    CALL(unlink(""));
    CALL(unlinkat(AT_FDCWD, "d/sub", 0));
    CALL(unlinkat(AT_FDCWD, "file", AT_REMOVEDIR));
    CALL(unlinkat(AT_FDCWD, "file", 1));
    CALL(unlinkat(99, "file", 0));
    CALL(unlinkat(AT_FDCWD, "d/sub", AT_REMOVEDIR));
    int d = open("d", O_RDONLY | O_DIRECTORY), f = open("file", O_RDONLY);
    CALL(mkdirat(d, "inner", 0700));
    CALL(mkdirat(f, "inner", 0700));
    CALL(mkdirat(f, "/tmp/../tmp", 0700));
    CALL(rmdir("d/inner"));
    CALL(fchdir(d));
    CALL(rmdir("../d"));
    CALL(mkdir("late", 0700));
    CALL(open("late", O_CREAT | O_RDWR, 0600));
    char cwd[200];
    YES(getcwd(cwd, sizeof cwd) == NULL);
    CALL(syscall(SYS_getcwd, cwd, sizeof cwd));
    struct stat st;
    CALL(fstat(d, &st));
    printf("links %ld\n", (long)st.st_nlink);
    CALL(chdir(".."));
    YES(getcwd(cwd, sizeof cwd) != NULL);
    CALL(syscall(SYS_getcwd, cwd, 2));
    CALL(fchdir(f));
    CALL(fchdir(99));
    CALL(chdir("file"));
    CALL(chdir("missing"));
    CALL(rmdir("e"));
    close(d), close(f);
    unlink("file");
}

static void links(void) {
    put("a", "contents");
    CALL(link("a", "b"));
    printf("links %d %d\n", links_of("a"), links_of("b"));
    CALL(link("a", "b"));
    CALL(link("missing", "c"));
    CALL(link(".", "c"));
    CALL(link("a", "missing/c"));
    CALL(link("a", "c/"));
    CALL(link("a/", "c"));
    put("b", "other");
    printf("%s\n", get("a"));
    CALL(unlink("a"));
    printf("links %d\n", links_of("b"));
    CALL(symlink("b", "s"));
    CALL(symlink("b", "s"));
    CALL(symlink("", "empty"));
    CALL(symlink("b", "t/"));
    CALL(symlink("missing", "dangling"));
    char text[16];
    CALL(readlink("s", text, sizeof text));
    CALL(readlink("dangling", text, 3));
    CALL(readlink("s", text, 0));
    CALL(readlink("b", text, sizeof text));
    CALL(readlink("absent", text, sizeof text));
    CALL(readlink("s", (char *)1, 10));
    CALL(open("s", O_RDONLY | O_NOFOLLOW));
    int f = open("s", O_PATH | O_NOFOLLOW);
    YES(f >= 0);
    CALL(readlinkat(f, "", text, sizeof text));
    close(f);
    CALL(open("dangling", O_RDONLY));
    CALL(open("dangling", O_RDWR | O_CREAT | O_EXCL, 0600));
    CALL(close(open("dangling", O_RDWR | O_CREAT, 0600)));
    printf("made through a link: %s\n", get("missing")[0] == 0 ? "yes" : "no");
    CALL(link("s", "hard"));
    printf("%o\n", mode_of("hard") & S_IFMT);
    CALL(linkat(AT_FDCWD, "s", AT_FDCWD, "followed", AT_SYMLINK_FOLLOW));
    printf("%o\n", mode_of("followed") & S_IFMT);
    CALL(linkat(AT_FDCWD, "s", AT_FDCWD, "x", 0x40));
    CALL(symlink("loop", "loop"));
    CALL(open("loop", O_RDONLY));
    CALL(open("loop/x", O_RDONLY));
    CALL(lstat("loop", &(struct stat){0}));
    char from[32], to[32];
    put("chain0", "end of the chain");
    for (int i = 1; i <= 41; i++) {
        snprintf(from, sizeof from, "chain%d", i), snprintf(to, sizeof to, "chain%d", i - 1);
        if (symlink(to, from) != 0) perror(from);
    }
    printf("forty: %s, forty-one: %s\n", get("chain40"), get("chain41"));
    CALL(mkdir("dir", 0755));
    CALL(symlink("dir", "to_dir"));
    CALL(open("to_dir", O_RDONLY | O_NOFOLLOW | O_DIRECTORY));
    CALL(mkdir("to_dir/in", 0755));
    CALL(mkdir("to_dir/", 0755));
    CALL(rmdir("to_dir"));
    CALL(rmdir("to_dir/"));
    CALL(unlink("to_dir/"));
    CALL(symlink("fresh", "to_fresh"));
    CALL(mkdir("to_fresh", 0755));
    CALL(mkdir("to_fresh/", 0755));
    CALL(unlink("to_dir"));
    list(".");
    for (int i = 0; i <= 41; i++) snprintf(from, sizeof from, "chain%d", i), unlink(from);
    list("dir");
    rmdir("dir/in"), rmdir("dir");
}

static void renaming(void) {
    put("x", "x"), put("y", "y");
    CALL(rename("x", "y"));
    printf("y is %s, x is %s\n", get("y"), get("x"));
    CALL(rename("missing", "z"));
    CALL(rename("y", "missing/z"));
    CALL(rename("y", "y"));
    CALL(mkdir("p", 0755)), CALL(mkdir("p/q", 0755)), CALL(mkdir("r", 0755));
    CALL(rename("p", "p/q/s"));
    CALL(rename("p/q", "p"));
    CALL(rename("y", "r"));
    CALL(rename("r", "y"));
    CALL(rename("r", "p"));
    CALL(rename("p/q", "r"));
    CALL(rename("r", "p/"));
    CALL(rename("p/.", "s"));
    CALL(rename("p", ".."));
    CALL(rename("y", "y2/"));
    CALL(rename("y/", "y2"));
    CALL(rename("p", "new_name/"));
    printf("links %d\n", links_of("new_name"));
    put("u", "u"), put("v", "v");
    CALL(link("u", "w"));
    CALL(rename("u", "w"));
    printf("links of one file: %d\n", links_of("u"));
    CALL(renameat2(AT_FDCWD, "u", AT_FDCWD, "v", RENAME_NOREPLACE));
    CALL(renameat2(AT_FDCWD, "u", AT_FDCWD, "free", RENAME_NOREPLACE));
    CALL(renameat2(AT_FDCWD, "free", AT_FDCWD, "v", RENAME_EXCHANGE));
    printf("%s %s\n", get("free"), get("v"));
    CALL(renameat2(AT_FDCWD, "free", AT_FDCWD, "new_name", RENAME_EXCHANGE));
    printf("%o %o\n", mode_of("free") & S_IFMT, mode_of("new_name") & S_IFMT);
    CALL(renameat2(AT_FDCWD, "free", AT_FDCWD, "missing2", RENAME_EXCHANGE));
    CALL(renameat2(AT_FDCWD, "free", AT_FDCWD, "v", RENAME_EXCHANGE | RENAME_NOREPLACE));
    CALL(renameat2(AT_FDCWD, "free", AT_FDCWD, "v", 0x100));
    CALL(renameat(99, "v", AT_FDCWD, "v2"));
    symlink("v", "sym");
    CALL(rename("sym", "sym2"));
    printf("%o\n", mode_of("sym2") & S_IFMT);
    CALL(rename("v", "sym2"));
    printf("%s\n", get("sym2"));
    int f = open("sym2", O_RDONLY);
    char c;
    CALL(unlink("sym2"));
    CALL(read(f, &c, 1));
    close(f);
    list(".");
    rmdir("free"), rmdir("r");
}

static void resolved(void) {
    CALL(mkdir("tree", 0755)), CALL(mkdir("tree/in", 0755));
    put("tree/in/file", "f"), put("outside", "o");
    symlink("../outside", "tree/up"), symlink("in", "tree/down"), symlink("/", "tree/root");
    int d = open("tree", O_RDONLY | O_DIRECTORY);
    static const char *paths[] = {"in/file", "up", "../outside", "down/file", "root", "/etc", "in/../in/file", "missing"};
    static const struct { const char *name; unsigned long long resolve; } rules[] = {{"plain", 0}, {"beneath", RESOLVE_BENEATH},
        {"in_root", RESOLVE_IN_ROOT}, {"no_symlinks", RESOLVE_NO_SYMLINKS}, {"no_magiclinks", RESOLVE_NO_MAGICLINKS},
            {"no_xdev", RESOLVE_NO_XDEV}};
    for (unsigned r = 0; r < sizeof rules / sizeof *rules; r++) {
        printf("%s:", rules[r].name);
        for (unsigned p = 0; p < sizeof paths / sizeof *paths; p++) {
            if (rules[r].resolve == RESOLVE_NO_XDEV && (p == 4 || p == 5)) continue;
            struct open_how how = {.flags = O_RDONLY, .resolve = rules[r].resolve};
            int f = syscall(SYS_openat2, d, paths[p], &how, sizeof how);
            printf(" %s", f >= 0 ? "ok" : strerrorname_np(errno));
            if (f >= 0) close(f);
        }
        printf("\n");
    }
    struct open_how how = {.flags = O_RDONLY, .mode = 0644};
    CALL(syscall(SYS_openat2, d, "in", &how, sizeof how));
    how = (struct open_how){.flags = 1ull << 40};
    CALL(syscall(SYS_openat2, d, "in", &how, sizeof how));
    how = (struct open_how){.resolve = 1 << 20};
    CALL(syscall(SYS_openat2, d, "in", &how, sizeof how));
    how = (struct open_how){.resolve = RESOLVE_BENEATH | RESOLVE_IN_ROOT};
    CALL(syscall(SYS_openat2, d, "in", &how, sizeof how));
    how = (struct open_how){0};
    CALL(syscall(SYS_openat2, d, "in", &how, 8));
    char wide[64] = {0};
    OK(syscall(SYS_openat2, d, "in", wide, sizeof wide));
    wide[60] = 1;
    CALL(syscall(SYS_openat2, d, "in", wide, sizeof wide));
    close(d);
}

static void special(void) {
    CALL(mkfifo("fifo", 0644));
    CALL(mkfifo("fifo", 0644));
    printf("%o\n", mode_of("fifo"));
    CALL(open("fifo", O_WRONLY | O_NONBLOCK));
    int f = open("fifo", O_RDONLY | O_NONBLOCK);
    YES(f >= 0);
    close(f);
    CALL(mknod("regular", S_IFREG | 0600, 0));
    CALL(mknod("nothing", 0600, 0));
    printf("%o\n", mode_of("nothing"));
    CALL(mknod("dir", S_IFDIR | 0600, 0));
    CALL(mknod("link", S_IFLNK | 0600, 0));
    CALL(mknod("regular", S_IFREG | 0600, 0));
    CALL(access("regular", F_OK)), CALL(access("regular", R_OK | W_OK)), CALL(access("regular", 8)),
        CALL(access("absent", F_OK));
    CALL(faccessat(AT_FDCWD, "regular", F_OK, AT_SYMLINK_NOFOLLOW));
    CALL(syscall(SYS_faccessat2, AT_FDCWD, "regular", F_OK, 0x8000));
    CALL(syscall(SYS_faccessat2, AT_FDCWD, "", F_OK, AT_EMPTY_PATH));
}

/* A directory that was removed, or made way for another, lists nothing, not even itself. */
static void removed_directories(void) {
    char entries[1024];
    OK(mkdir("gone", 0755)), OK(mkdir("replaced", 0755)), OK(mkdir("other", 0755));
    int gone = OK(open("gone", O_RDONLY)), half = OK(open("gone", O_RDONLY)), replaced = OK(open("replaced", O_RDONLY));
    YES(syscall(SYS_getdents64, half, entries, sizeof entries) > 0);
    OK(rmdir("gone")), OK(rename("other", "replaced"));
    CALL(syscall(SYS_getdents64, gone, entries, sizeof entries));
    CALL(syscall(SYS_getdents64, half, entries, sizeof entries));
    int again = OK(openat(gone, ".", O_RDONLY)), by_path = OK(openat(replaced, ".", O_RDONLY | O_DIRECTORY));
    CALL(syscall(SYS_getdents64, again, entries, sizeof entries));
    CALL(syscall(SYS_getdents64, by_path, entries, sizeof entries));
    int file = OK(open("was", O_RDWR | O_CREAT, 0644));
    OK(unlink("was"));
    CALL(syscall(SYS_getdents64, file, entries, sizeof entries));
    OK(rmdir("replaced"));
}

int main(void) {
    umask(022);
    removed_directories();
    opening();
    directories();
    links();
    renaming();
    resolved();
    special();
    return 0;
}
