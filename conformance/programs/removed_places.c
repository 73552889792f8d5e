/* What can be done with a directory, a file and a link whose names are gone, by descriptors that only stand for their places. */
#include "report.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <utime.h>

static char link_to[64];
static const char *through(int fd) { sprintf(link_to, "/proc/self/fd/%d", fd); return link_to; }
static void show(int fd)
{
    struct stat s;
    CALL(fstat(fd, &s)), printf("mode %o, %ld links, size %ld\n", s.st_mode, (long)s.st_nlink, S_ISREG(s.st_mode) ? (long)s.st_size : 0);
}

static void directory(void)
{
    mkdir("x", 0755);
    int place = open("x", O_PATH), opened = open("x", O_RDONLY), again;
    char bytes[1000];
    struct stat s;
    rmdir("x");
    CALL((again = open(through(place), O_RDONLY | O_DIRECTORY)) >= 0), CALL(getdents64(again, bytes, sizeof bytes)), show(again);
    CALL(stat(through(place), &s)), CALL(openat(again, "z", O_CREAT | O_WRONLY, 0600)), CALL(mkdirat(place, "z", 0700));
    CALL(openat(place, ".", O_RDONLY) >= 0), CALL(openat(place, "..", O_RDONLY) >= 0), CALL(getdents64(opened, bytes, sizeof bytes));
    int home = open(".", O_RDONLY);
    CALL(fchdir(place)), CALL(open(".", O_RDONLY) >= 0), CALL(open("..", O_RDONLY) >= 0), CALL(getcwd(bytes, sizeof bytes) != NULL), CALL(access(".", R_OK));
    char name[300] = {0};
    memset(name, 'x', 299);
    CALL(readlinkat(place, name, bytes, 1)), CALL(openat(place, name, O_CREAT | O_WRONLY, 0600)), CALL(mkdirat(place, name, 0700)), CALL(access(name, F_OK));
    fchdir(home);
    CALL(access(name, F_OK));
    CALL(chmod(through(place), 0700)), show(place), CALL(utime(through(place), NULL));
}

static void file(void)
{
    int f = open("x", O_CREAT | O_WRONLY, 0600), again;
    char bytes[10] = {0};
    write(f, "data", 4), close(f);
    int place = open("x", O_PATH), other = open("x", O_PATH);
    unlink("x");
    show(place), CALL((again = open(through(place), O_RDONLY)) >= 0), CALL(read(again, bytes, 10)), printf("%s\n", bytes), close(again);
    CALL((again = open(through(other), O_RDWR)) >= 0), CALL(pwrite(again, "more", 4, 2)), close(again), show(place);
    CALL(chmod(through(place), 0400)), CALL(truncate(through(place), 3)), CALL(utime(through(place), NULL)), show(other);
    CALL(linkat(AT_FDCWD, through(place), AT_FDCWD, "y", AT_SYMLINK_FOLLOW)), close(place);
    CALL((again = open(through(other), O_RDONLY)) >= 0), CALL(read(again, bytes, 10)), close(again), close(other);
    /* Replaced. */
    close(open("x", O_CREAT | O_WRONLY, 0640)), close(open("y", O_CREAT | O_WRONLY, 0600));
    place = open("x", O_PATH), CALL(rename("y", "x")), show(place), CALL((again = open(through(place), O_RDWR)) >= 0), CALL(write(again, "1", 1)), show(place);
    unlink("x");
}

static void symbolic_link(void)
{
    char bytes[100];
    symlink("somewhere", "x");
    int place = open("x", O_PATH | O_NOFOLLOW);
    unlink("x");
    ssize_t length = CALL(readlinkat(place, "", bytes, sizeof bytes));
    printf("%.*s\n", (int)length, bytes), show(place);
}

int main(void) { directory(), file(), symbolic_link(); return 0; }
