/* Descriptors: dup and close families, every command of fcntl(2), locks of all kinds, limits. */
#include "report.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef F_DUPFD_QUERY
#define F_DUPFD_QUERY 1027
#endif
#define F_WITHIN(f) (fcntl(f, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_PATH))

static void duplicates(void) {
    int f = open("file", O_RDWR | O_CREAT, 0644), closed = dup(f);
    close(closed);
    if (write(f, "0123456789", 10) < 0) perror("write");
    CALL(dup2(f, f) == f), CALL(dup3(f, f, 0)), CALL(dup2(closed, closed)), CALL(dup2(closed, 50)), CALL(dup2(f, -1)),
        CALL(dup2(f, 1 << 20));
    CALL(dup3(f, 50, O_CLOEXEC)), CALL(fcntl(50, F_GETFD)), CALL(dup2(f, 50)), CALL(fcntl(50, F_GETFD)),
        CALL(dup3(f, 50, O_NONBLOCK));
    CALL(fcntl(f, F_DUPFD, 100)), CALL(fcntl(f, F_DUPFD, 100)), CALL(fcntl(f, F_DUPFD_CLOEXEC, 100)), CALL(fcntl(102, F_GETFD)),
        CALL(fcntl(f, F_DUPFD, -1)), CALL(fcntl(f, F_DUPFD, 1 << 30));
    CALL(lseek(50, 3, SEEK_SET)), CALL(lseek(f, 0, SEEK_CUR));
    CALL(close(50)), CALL(close(50)), CALL(close(-1));
    CALL(fcntl(f, F_SETFD, FD_CLOEXEC)), CALL(fcntl(f, F_GETFD)), CALL(fcntl(f, F_SETFD, 0)), CALL(fcntl(f, F_GETFD)),
        CALL(fcntl(f, F_SETFD, 6)), CALL(fcntl(f, F_GETFD));
    CALL(close_range(100, 101, 0)), CALL(fcntl(101, F_GETFD)), CALL(fcntl(102, F_GETFD)), CALL(close_range(5, 4, 0)),
        CALL(close_range(0, 1, 99));
    CALL(close_range(100, ~0u, CLOSE_RANGE_CLOEXEC)), CALL(fcntl(102, F_GETFD)),
        CALL(close_range(100, ~0u, CLOSE_RANGE_UNSHARE)), CALL(fcntl(102, F_GETFD));
    struct rlimit old, now;
    getrlimit(RLIMIT_NOFILE, &old);
    now = old, now.rlim_cur = 20;
    setrlimit(RLIMIT_NOFILE, &now);
    int last = -1, next;
    while ((next = dup(f)) >= 0) last = next;
    printf("up to %d, then %s\n", last, strerrorname_np(errno));
    CALL(open("file", O_RDONLY)), CALL(dup2(f, 20)), CALL(dup2(f, 19)), CALL(fcntl(f, F_DUPFD, 20)), CALL(pipe((int[2]){0}));
    close(19);
    CALL(pipe((int[2]){0})), CALL(open("file", O_RDONLY));
    setrlimit(RLIMIT_NOFILE, &old);
    for (int i = f; i < 20; i++) close(i);
}

static void flags(void) {
    int f = open("file", O_RDWR | O_APPEND), again = dup(f), other = open("file", O_RDONLY);
    printf("%o %o\n", F_WITHIN(f), F_WITHIN(other));
    CALL(fcntl(f, F_SETFL, O_NONBLOCK)), printf("%o %o\n", F_WITHIN(f), F_WITHIN(again));
    CALL(fcntl(f, F_SETFL, O_WRONLY | O_CREAT | O_EXCL | O_TRUNC)), printf("%o\n", F_WITHIN(f));
    CALL(fcntl(other, F_SETFL, O_NOATIME)), CALL(fcntl(f, F_SETFL, -1)), CALL(fcntl(99, F_GETFL)), CALL(fcntl(f, 9999)),
        CALL(fcntl(99, 9999));
    int on = 1, p[2];
    CALL(fcntl(f, F_SETFL, 0)), CALL(ioctl(f, FIONBIO, &on)), printf("%o\n", F_WITHIN(f)), CALL(ioctl(f, FIOCLEX)),
        CALL(fcntl(f, F_GETFD)), CALL(ioctl(f, FIONCLEX)), CALL(fcntl(f, F_GETFD));
    CALL(ioctl(f, FIONREAD, &on)), printf("%d\n", on), CALL(ioctl(f, TCGETS, &on)), CALL(ioctl(99, FIONREAD, &on)),
        CALL(ioctl(f, 0x12345678, 0)), CALL(ioctl(f, FIONBIO, 1));
    pipe(p);
    CALL(fcntl(p[0], F_SETOWN, getpid())), YES(fcntl(p[0], F_GETOWN) == getpid()), CALL(fcntl(p[0], F_SETSIG, SIGUSR1)),
        CALL(fcntl(p[0], F_GETSIG)), CALL(fcntl(p[0], F_SETSIG, 99));
    struct f_owner_ex owner = {F_OWNER_TID, syscall(SYS_gettid)}, got;
    CALL(fcntl(p[0], F_SETOWN_EX, &owner)), CALL(fcntl(p[0], F_GETOWN_EX, &got)),
        YES(got.type == F_OWNER_TID && got.pid == owner.pid);
    CALL(fcntl(p[0], F_SETOWN, 999999)), owner.type = 9, CALL(fcntl(p[0], F_SETOWN_EX, &owner)), CALL(fcntl(p[0], F_SETOWN, 0)),
        CALL(fcntl(p[0], F_GETOWN));
    CALL(fcntl(f, F_GETPIPE_SZ)), CALL(fcntl(f, F_GET_SEALS)), CALL(fcntl(p[0], F_GET_SEALS)), CALL(fcntl(f, F_ADD_SEALS, 0));
    CALL(fcntl(f, F_NOTIFY, 0)), CALL(fcntl(f, F_NOTIFY, (int)DN_MULTISHOT)), CALL(fcntl(f, F_GETLEASE)), CALL(fcntl(p[0], F_SETLEASE, F_RDLCK));
    int o = open("file", O_PATH);
    CALL(fcntl(o, F_SETFD, 1)), CALL(fcntl(o, F_GETFD)), CALL(fcntl(o, F_SETFL, 0)), CALL(dup(o) >= 0),
        CALL(fcntl(o, F_GETLK, 1)), CALL(ioctl(o, FIONREAD, &on)), CALL(flock(o, LOCK_SH)), CALL(fsync(o)),
        CALL(lseek(o, 0, SEEK_SET));
    close(f), close(again), close(other), close(o), close(p[0]), close(p[1]);
}

static const char *lock_text(const struct flock *l) {
    static char text[80];
    snprintf(text, sizeof text, "type %d whence %d start %ld len %ld", l->l_type, l->l_whence, (long)l->l_start,
        (long)l->l_len);
    return text;
}
/* What another process finds. */
static void other_sees(short type, long start, long length) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int f = open("file", O_RDWR);
        struct flock l = {.l_type = type, .l_start = start, .l_len = length};
        if (fcntl(f, F_GETLK, &l) != 0) perror("F_GETLK");
        if (l.l_type == F_UNLCK) printf("another sees nothing at %ld+%ld\n", start, length);
        else printf("another sees %s, holder %s\n", lock_text(&l), l.l_pid == getppid() ? "right" : "wrong");
        l = (struct flock){.l_type = type, .l_start = start, .l_len = length};
        CALL(fcntl(f, F_SETLK, &l));
        _exit(0);
    }
    waitpid(child, NULL, 0);
}
static void record_locks(void) {
    int f = open("file", O_RDWR), r = open("file", O_RDONLY), w = open("file", O_WRONLY);
    ftruncate(f, 100);
    struct flock l = {.l_type = F_WRLCK, .l_start = 10, .l_len = 10};
    CALL(fcntl(f, F_SETLK, &l));
    other_sees(F_RDLCK, 0, 15), other_sees(F_WRLCK, 20, 5), other_sees(F_WRLCK, 0, 0);
    l = (struct flock){.l_type = F_RDLCK, .l_start = 12, .l_len = 3}, CALL(fcntl(f, F_SETLK, &l));
    other_sees(F_RDLCK, 12, 3), other_sees(F_RDLCK, 0, 0);
    l = (struct flock){.l_type = F_UNLCK, .l_start = 0, .l_len = 0}, CALL(fcntl(f, F_SETLK, &l));
    other_sees(F_WRLCK, 0, 0);
    lseek(f, 50, SEEK_SET);
    l = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = -10, .l_len = 5}, CALL(fcntl(f, F_SETLK, &l));
    l = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = 0, .l_len = -10}, CALL(fcntl(f, F_SETLK, &l));
    other_sees(F_RDLCK, 0, 60), other_sees(F_RDLCK, 80, 100);
    CALL(close(dup(r)));
    other_sees(F_RDLCK, 40, 5);
    l = (struct flock){.l_type = F_WRLCK}, CALL(fcntl(r, F_SETLK, &l)), l.l_type = F_RDLCK, CALL(fcntl(w, F_SETLK, &l)),
        CALL(fcntl(f, F_SETLK, (void *)1));
    l = (struct flock){.l_type = 9}, CALL(fcntl(f, F_SETLK, &l)), l = (struct flock){.l_type = F_RDLCK, .l_whence = 9},
        CALL(fcntl(f, F_SETLK, &l)), l = (struct flock){.l_type = F_RDLCK, .l_start = -1}, CALL(fcntl(f, F_SETLK, &l));
    l = (struct flock){.l_type = F_UNLCK}, CALL(fcntl(f, F_GETLK, &l)), l = (struct flock){.l_type = F_RDLCK},
        CALL(fcntl(99, F_SETLK, &l));
    close(f), close(r), close(w);
}
static void open_file_locks(void) {
    int f = open("file", O_RDWR), g = open("file", O_RDWR);
    struct flock l = {.l_type = F_WRLCK, .l_len = 10};
    CALL(fcntl(f, F_OFD_SETLK, &l)), l = (struct flock){.l_type = F_WRLCK, .l_len = 10}, CALL(fcntl(g, F_OFD_SETLK, &l));
    l = (struct flock){.l_type = F_WRLCK, .l_len = 10}, CALL(fcntl(g, F_OFD_GETLK, &l)),
        printf("%s pid %d\n", lock_text(&l), l.l_pid);
    l = (struct flock){.l_type = F_WRLCK, .l_len = 10, .l_pid = 1}, CALL(fcntl(f, F_OFD_SETLK, &l));
    int h = dup(f);
    close(f);
    l = (struct flock){.l_type = F_WRLCK, .l_len = 10}, CALL(fcntl(g, F_OFD_SETLK, &l));
    close(h);
    l = (struct flock){.l_type = F_WRLCK, .l_len = 10}, CALL(fcntl(g, F_OFD_SETLK, &l));
    close(g);
}
static void whole_file_locks(void) {
    int f = open("file", O_RDONLY), g = open("file", O_RDONLY), d = dup(f);
    CALL(flock(f, LOCK_EX)), CALL(flock(g, LOCK_SH | LOCK_NB)), CALL(flock(d, LOCK_SH)), CALL(flock(g, LOCK_SH | LOCK_NB)),
        CALL(flock(g, LOCK_EX | LOCK_NB)), CALL(flock(g, LOCK_UN)), CALL(flock(f, 16)), CALL(flock(f, LOCK_EX | LOCK_NB));
    close(f), CALL(flock(g, LOCK_SH | LOCK_NB)), close(d), CALL(flock(g, LOCK_EX | LOCK_NB)), CALL(flock(99, LOCK_SH));
    int p[2];
    char c;
    pipe(p);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int mine = open("file", O_RDONLY);
        CALL(flock(mine, LOCK_SH | LOCK_NB));
        if (write(p[1], "x", 1) < 0) perror("write");
        CALL(flock(mine, LOCK_SH)), _exit(0);
    }
    if (read(p[0], &c, 1) < 0) perror("read");
    close(p[0]), close(p[1]);
    printf("letting go\n");
    fflush(stdout);
    int result = flock(g, LOCK_UN);
    waitpid(child, NULL, 0);
    printf("let go: %d\n", result);
    close(g);
}
/* Two that wait for each other. */
static void deadlock(void) {
    int f = open("file", O_RDWR), p[2];
    char c;
    pipe(p);
    struct flock first = {.l_type = F_WRLCK, .l_len = 1}, second = {.l_type = F_WRLCK, .l_start = 1, .l_len = 1};
    fcntl(f, F_SETLK, &first);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        fcntl(f, F_SETLK, &second);
        if (write(p[1], "x", 1) < 0) perror("write");
        int result = fcntl(f, F_SETLKW, &first);
        printf("the child got its lock: %d\n", result), _exit(0);
    }
    if (read(p[0], &c, 1) < 0) perror("read");
    usleep(300000);
    CALL(fcntl(f, F_SETLKW, &second));
    first.l_type = F_UNLCK, fcntl(f, F_SETLK, &first);
    waitpid(child, NULL, 0);
    close(f);
}
static void nothing(int number) {}
static void interrupted(void) {
    int f = open("file", O_RDWR), g = open("file", O_RDWR);
    flock(f, LOCK_EX);
    struct sigaction action = {.sa_handler = nothing};
    sigaction(SIGALRM, &action, NULL);
    ualarm(30000, 0);
    CALL(flock(g, LOCK_EX));
    close(f), close(g);
}

int main(void) {
    duplicates();
    flags();
    record_locks();
    open_file_locks();
    whole_file_locks();
    deadlock();
    interrupted();
    return 0;
}
