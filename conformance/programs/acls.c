/* Access control lists (acl(5)): what is taken, what it does to the mode, who may do what then, and what new files start with. */
#include "report.h"
#include <fcntl.h>
#include <grp.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"
enum { OWNER = 1, USER = 2, GROUP_OF = 4, GROUP = 8, MASK = 16, OTHER = 32 };
enum { ONE = 1001, TWO = 1002, SHARED = 1003, FOURTH = 1004 };

struct entry { uint16_t tag, perm; uint32_t id; };
struct list { uint32_t version; struct entry e[12]; int count; };
static struct list list;

static void empty(void) { memset(&list, 0, sizeof list), list.version = 2; }
static void add(int tag, int perm, uint32_t id) { list.e[list.count++] = (struct entry){tag, perm, id}; }
#define LIST(...) ({ empty(); int v_[] = {__VA_ARGS__}; \
    for (unsigned i_ = 0; i_ + 2 < sizeof v_ / sizeof *v_; i_ += 3) add(v_[i_], v_[i_ + 1], v_[i_ + 2]); })
static size_t length(void) { return 4 + 8 * list.count; }

static void show(const char *path, const char *name) {
    struct list got;
    ssize_t n = getxattr(path, name, &got, sizeof got);
    struct stat s;
    if (stat(path, &s)) { printf("%s: %s\n", path, strerrorname_np(errno)); return; }
    printf("%s %s mode %o:", path, strrchr(name, '_') + 1, s.st_mode);
    if (n < 0) { printf(" %s\n", strerrorname_np(errno)); return; }
    for (int i = 0; i < (n - 4) / 8; i++) printf(" %d:%d:%d", got.e[i].tag, (int)got.e[i].id, got.e[i].perm);
    printf("\n");
}
static void both(const char *path) { show(path, ACCESS), show(path, DEFAULT); }
static void names(const char *path) {
    char text[1000];
    ssize_t n = listxattr(path, text, sizeof text);
    int access = 0, other = 0;
    for (char *at = text; at < text + n; at += strlen(at) + 1) {
        if (!strncmp(at, "system.posix_acl", 16)) access++;
        if (!strcmp(at, "user.x")) other++;
    }
    printf("%s: %d lists, %d others\n", path, access, other);
}
static void file(const char *path, int mode) {
    unlink(path);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    chown(path, ONE, ONE), chmod(path, mode);
}

static void taken(void) {
    file("f", 0644);
    CALL(getxattr("f", ACCESS, NULL, 0)), CALL(getxattr("f", DEFAULT, NULL, 0)), CALL(removexattr("f", ACCESS));
    LIST(OWNER, 6, -1, USER, 7, TWO, GROUP_OF, 4, -1, MASK, 5, -1, OTHER, 0, -1);
    CALL(setxattr("f", ACCESS, &list, length(), 0)), both("f"), names("f");
    CALL(setxattr("f", ACCESS, &list, length(), XATTR_CREATE)), CALL(setxattr("f", ACCESS, &list, length(), 8));
    CALL(setxattr("f", DEFAULT, &list, length(), 0)), CALL(setxattr("f", DEFAULT, "", 0, 0)), CALL(removexattr("f", DEFAULT));
    CALL(getxattr("f", ACCESS, NULL, 0)), CALL(getxattr("f", ACCESS, &list, 5));
    setxattr("f", "user.x", "1", 1, 0), names("f");
    /* Lists that are none. */
    LIST(OWNER, 6, -1, USER, 7, TWO, GROUP_OF, 4, -1, OTHER, 0, -1), CALL(setxattr("f", ACCESS, &list, length(), 0));
    LIST(OWNER, 6, -1, GROUP_OF, 4, -1), CALL(setxattr("f", ACCESS, &list, length(), 0));
    LIST(GROUP_OF, 6, -1, OWNER, 4, -1, OTHER, 0, -1), CALL(setxattr("f", ACCESS, &list, length(), 0));
    LIST(OWNER, 6, -1, GROUP_OF, 9, -1, OTHER, 0, -1), CALL(setxattr("f", ACCESS, &list, length(), 0));
    LIST(OWNER, 6, -1, GROUP_OF, 4, -1, 3, 4, -1, OTHER, 0, -1), CALL(setxattr("f", ACCESS, &list, length(), 0));
    LIST(OWNER, 6, -1, USER, 4, -1, GROUP_OF, 4, -1, MASK, 4, -1, OTHER, 0, -1), CALL(setxattr("f", ACCESS, &list, length(), 0));
    LIST(OWNER, 6, -1, GROUP_OF, 4, -1, MASK, 4, -1, MASK, 4, -1, OTHER, 0, -1), CALL(setxattr("f", ACCESS, &list, length(), 0));
    LIST(OWNER, 6, -1, GROUP_OF, 4, -1, OTHER, 0, -1), list.version = 3, CALL(setxattr("f", ACCESS, &list, length(), 0));
    list.version = 2, CALL(setxattr("f", ACCESS, &list, length() - 1, 0)), CALL(setxattr("f", ACCESS, &list, 3, 0));
    both("f");
    /* A list that the mode can say is not kept; one without entries takes the list away, and leaves the mode. */
    CALL(setxattr("f", ACCESS, &list, length(), 0)), both("f");
    LIST(OWNER, 7, 5, USER, 6, TWO, USER, 4, TWO, GROUP_OF, 7, 6, GROUP, 7, SHARED, MASK, 3, 7, OTHER, 1, 8);
    CALL(setxattr("f", ACCESS, &list, length(), 0)), both("f");
    CALL(setxattr("f", ACCESS, &list, 4, 0)), both("f");
    LIST(OWNER, 6, -1, GROUP_OF, 4, -1, MASK, 7, -1, OTHER, 0, -1), CALL(setxattr("f", ACCESS, &list, length(), 0)), both("f");
    CALL(removexattr("f", ACCESS)), both("f");
    CALL(setxattr("f", "system.posix_acl", "x", 1, 0)), CALL(setxattr("f", "system.x", "x", 1, 0));
    symlink("f", "l");
    CALL(lsetxattr("l", ACCESS, &list, length(), 0)), CALL(lgetxattr("l", ACCESS, NULL, 0)), CALL(getxattr("l", ACCESS, NULL, 0));
    mknod("pipe", S_IFIFO | 0600, 0), CALL(setxattr("pipe", ACCESS, &list, length(), 0)), both("pipe");
    unlink("l"), unlink("pipe");
}

static void modes(void) {
    file("f", 06755);
    LIST(OWNER, 7, -1, USER, 7, TWO, GROUP_OF, 5, -1, MASK, 7, -1, OTHER, 5, -1);
    CALL(setxattr("f", ACCESS, &list, length(), 0)), both("f");
    static const int all[] = {0640, 0777, 0, 0654, 02710, 04070};
    for (int i = 0; i < 6; i++) CALL(chmod("f", all[i])), both("f");
    CALL(chmod("f", 06777)), CALL(chown("f", TWO, SHARED)), both("f");
    int f = open("f", O_WRONLY);
    CALL(fchmod(f, 0611)), both("f"), CALL(ftruncate(f, 3)), both("f"), CALL(fsetxattr(f, ACCESS, &list, length(), 0)), both("f");
    close(f);
}

static void as(int user, void (*what)(void)) {
    pid_t child = fork();
    if (!child) {
        gid_t groups[] = {SHARED};
        if (setgroups(user == FOURTH, groups) || setgid(user) || setuid(user)) _exit(9);
        printf("user %d: ", user);
        what();
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}
static void rights(void) {
    for (int wanted = 1; wanted < 8; wanted++) printf("%s", access("d/f", wanted) ? "-" : "+");
    printf(" %s", access("d", X_OK) ? strerrorname_np(errno) : "in");
    int f = open("d/f", O_RDONLY), g = open("d/f", O_WRONLY);
    printf(" read %d write %d", f >= 0, g >= 0);
    printf(" run %d", execl("d/f", "f", NULL) && errno == EACCES);
    struct sockaddr_un a = {AF_UNIX, "d/s"};
    int s = socket(AF_UNIX, SOCK_DGRAM, 0);
    printf(" connect %d", connect(s, (void *)&a, sizeof a));
    printf(" make %d", mkdir("d/n", 0777)), printf(" remove %d", rmdir("d/n"));
    printf(" chmod %d acl %d\n", chmod("d/f", 0), setxattr("d/f", ACCESS, NULL, 0, 0));
}
static void everyone(void) { as(ONE, rights), as(TWO, rights), as(SHARED, rights), as(FOURTH, rights), as(1005, rights); }
static void permitted(void) {
    mkdir("d", 0755), chmod("d", 0755), file("d/f", 0640);
    int s = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct sockaddr_un a = {AF_UNIX, "d/s"};
    bind(s, (void *)&a, sizeof a), chmod("d/s", 0600);
    everyone();
    LIST(OWNER, 6, -1, USER, 3, TWO, GROUP_OF, 4, -1, GROUP, 2, SHARED, MASK, 7, -1, OTHER, 1, -1);
    setxattr("d/f", ACCESS, &list, length(), 0), setxattr("d/s", ACCESS, &list, length(), 0), both("d/f");
    everyone();
    chown("d/f", 0, SHARED), both("d/f"), everyone();
    chmod("d/f", 0644), both("d/f"), everyone();
    chmod("d/f", 0607), both("d/f"), everyone();
    LIST(OWNER, 7, -1, USER, 7, TWO, GROUP_OF, 0, -1, GROUP, 0, SHARED, MASK, 7, -1, OTHER, 5, -1);
    setxattr("d", ACCESS, &list, length(), 0), both("d"), everyone();
    close(s), unlink("d/s"), unlink("d/f"), rmdir("d");
}

static void made(const char *what) {
    printf("%s\n", what), both("d/x");
    unlink("d/x"), rmdir("d/x");
}
static void inherited(void) {
    mkdir("d", 0755);
    LIST(OWNER, 7, -1, USER, 6, TWO, GROUP_OF, 5, -1, GROUP, 7, SHARED, MASK, 6, -1, OTHER, 4, -1);
    CALL(setxattr("d", DEFAULT, &list, length(), 0)), both("d"), names("d");
    for (int i = 0; i < 3; i++) {
        umask(i ? 077 : 022);
        static const int asked[] = {0666, 0777, 02711};
        close(open("d/x", O_CREAT | O_WRONLY, asked[i])), made("open");
        mkdir("d/x", asked[i]), made("mkdir"), mknod("d/x", S_IFIFO | asked[i], 0), made("mkfifo");
    }
    CALL(symlink("nowhere", "d/x")), CALL(lgetxattr("d/x", ACCESS, NULL, 0)), unlink("d/x");
    int s = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct sockaddr_un a = {AF_UNIX, "d/x"};
    bind(s, (void *)&a, sizeof a), close(s), made("bind");
    char path[64];
    int f = open("d", O_TMPFILE | O_RDWR, 0666);
    sprintf(path, "/proc/self/fd/%d", f), CALL(linkat(AT_FDCWD, path, AT_FDCWD, "d/x", AT_SYMLINK_FOLLOW)), close(f), made("O_TMPFILE");
    mkdir("d/x", 0770), mkdir("d/x/y", 0777), both("d/x/y"), rmdir("d/x/y"), made("below");
    /* One that the mode can say. */
    LIST(OWNER, 7, -1, GROUP_OF, 5, -1, OTHER, 1, -1), CALL(setxattr("d", DEFAULT, &list, length(), 0));
    close(open("d/x", O_CREAT | O_WRONLY, 0666)), made("open"), mkdir("d/x", 0777), made("mkdir");
    CALL(setxattr("d", DEFAULT, "", 0, 0)), both("d"), close(open("d/x", O_CREAT | O_WRONLY, 0666)), made("open");
    CALL(removexattr("d", DEFAULT)), rmdir("d"), umask(022);
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    umask(022);
    static const char *const places[] = {"/tmp", "/dev/shm"};
    for (int i = 0; i < 2; i++) {
        char path[64];
        sprintf(path, "%s/acls", places[i]);
        mkdir(path, 0755), chmod(path, 0755);
        if (chdir(path)) return 1;
        taken(), modes(), permitted(), inherited();
        unlink("f");
        if (chdir("/")) return 1;
        if (rmdir(path)) perror(path);
    }
    return 0;
}
