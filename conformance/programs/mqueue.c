/* POSIX message queues: mq_open, mq_unlink, mq_timedsend, mq_timedreceive, mq_notify, mq_getsetattr. */
#include "children.h"
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <time.h>

static char name[32];
static char text[9000];
static int opened(int flags, long most, long size) { struct mq_attr a = { 0, most, size, 0 }; return mq_open(name, flags | O_CREAT, 0600, &a); }
static void take(int q)
{
    unsigned priority = 77; memset(text, 0, sizeof text); errno = 0;
    long n = mq_receive(q, text, sizeof text, &priority);
    if (n < 0) printf("receive: %s\n", strerrorname_np(errno)); else printf("receive: %ld bytes, priority %u, %s\n", n, priority, text);
}
static void attr(int q) { struct mq_attr a; if (CALL(mq_getattr(q, &a)) == 0) printf("flags %lx most %ld size %ld now %ld\n", a.mq_flags, a.mq_maxmsg, a.mq_msgsize, a.mq_curmsgs); }
static void ready(int q) { struct pollfd p = { q, POLLIN | POLLOUT | POLLPRI | POLLRDNORM | POLLWRNORM, 0 }; poll(&p, 1, 0); printf("poll %x\n", p.revents); }
static void status(int q) { char line[128] = ""; lseek(q, 0, SEEK_SET); long n = read(q, line, sizeof line); char *pid = strstr(line, "PID:"); printf("%ld %.*s %d\n", n, pid ? (int)(pid - line) : 0, line, pid && atoi(pid + 4) == getpid()); }
static struct timespec in_ms(long ms) { struct timespec t; clock_gettime(CLOCK_REALTIME, &t); t.tv_nsec += ms * 1000000; t.tv_sec += t.tv_nsec / 1000000000; t.tv_nsec %= 1000000000; return t; }

static void basics(void)
{
    CALL(mq_open(name, O_RDWR)); CALL(mq_unlink(name)); CALL(mq_open("x", O_RDWR | O_CREAT, 0600, NULL)); CALL(mq_open("/a/b", O_RDWR | O_CREAT, 0600, NULL)); CALL(mq_open("/", O_RDWR | O_CREAT, 0600, NULL));
    CALL(syscall(SYS_mq_open, ".", O_RDWR | O_CREAT, 0600, NULL)); CALL(syscall(SYS_mq_open, "..", O_RDWR, 0600, NULL)); CALL(syscall(SYS_mq_open, NULL, O_RDWR, 0600, NULL)); CALL(syscall(SYS_mq_open, name + 1, O_RDWR | O_CREAT, 0600, 8L)); CALL(syscall(SYS_mq_unlink, "a/b")); CALL(syscall(SYS_mq_unlink, NULL)); CALL(syscall(SYS_mq_unlink, ""));
    char longest[300]; memset(longest, 'n', 299); longest[299] = 0; CALL(syscall(SYS_mq_open, longest, O_RDWR | O_CREAT, 0600, NULL)); longest[256] = 0; CALL(syscall(SYS_mq_open, longest, O_RDWR | O_CREAT, 0600, NULL)); CALL(syscall(SYS_mq_unlink, longest));
    CALL(opened(O_RDWR, 0, 1)); CALL(opened(O_RDWR, 1, 0)); CALL(opened(O_RDWR, -1, 1)); CALL(opened(O_RDWR, 70000, 1)); CALL(opened(O_RDWR, 1, (16 << 20) + 1));
    int q = opened(O_RDWR, 3, 10); YES(q >= 0); YES(fcntl(q, F_GETFD) == FD_CLOEXEC); printf("%x\n", fcntl(q, F_GETFL)); attr(q); ready(q);
    CALL(opened(O_RDWR | O_EXCL, 3, 10)); int w = mq_open(name, O_WRONLY), r = mq_open(name, O_RDONLY | O_NONBLOCK); CALL(syscall(SYS_mq_open, name + 1, 3, 0, NULL));
    attr(r); CALL(mq_send(q, "low", 3, 1)); CALL(mq_send(w, "high", 4, 9)); CALL(mq_send(q, "", 0, 1)); attr(q); ready(q); ready(w); status(q);
    CALL(fcntl(q, F_SETFL, O_NONBLOCK)); CALL(mq_send(q, "full", 4, 0)); CALL(mq_send(r, "x", 1, 0)); take(w); take(q); take(r); take(q); take(q); take(r); ready(q); status(q);
    CALL(mq_send(q, "01234567890", 11, 0)); CALL(mq_send(q, "x", 1, 32768)); CALL(mq_send(q, "top", 3, 32767)); CALL(mq_send(99, "x", 1, 0)); CALL(mq_send(1, "x", 1, 0)); CALL(mq_send(q, NULL, 1, 0)); CALL(mq_receive(q, text, 9, NULL)); CALL(mq_receive(q, text, 10, NULL)); CALL(mq_receive(1, text, 10, NULL)); CALL(mq_getattr(1, (struct mq_attr *)text)); CALL(mq_notify(1, NULL));
    CALL(mq_send(q, "lost", 4, 0)); CALL(mq_receive(q, NULL, 10, NULL)); attr(q);
    struct mq_attr a = { 1, 0, 0, 0 }, old; CALL(mq_setattr(q, &a, &old)); a.mq_flags = 0; CALL(mq_setattr(q, &a, &old)); printf("%lx\n", old.mq_flags); printf("%x\n", fcntl(q, F_GETFL)); CALL(syscall(SYS_mq_getsetattr, q, NULL, NULL)); CALL(syscall(SYS_mq_getsetattr, q, 8L, NULL)); CALL(syscall(SYS_mq_getsetattr, q, NULL, 8L));
    struct stat st; CALL(fstat(q, &st)); printf("mode %o size %ld links %ld blocks %ld owner %d\n", st.st_mode, (long)st.st_size, (long)st.st_nlink, (long)st.st_blocks, st.st_uid == getuid());
    CALL(fchmod(q, 0640)); CALL(fstat(q, &st)); printf("mode %o\n", st.st_mode); CALL(write(q, "x", 1)); CALL(pread(q, text, 5, 0)); CALL(lseek(q, 0, SEEK_END)); CALL(fsync(q)); OK((long)mmap(NULL, 4096, PROT_READ, MAP_SHARED, q, 0));
    char link[64], shown[128] = ""; snprintf(link, sizeof link, "/proc/self/fd/%d", q); readlink(link, shown, 127); YES(!strcmp(shown, name));
    struct statfs fs; CALL(fstatfs(q, &fs)); printf("type %lx\n", (long)fs.f_type);
    struct epoll_event ev = { EPOLLIN, { 0 } }; int ep = epoll_create1(0); CALL(epoll_ctl(ep, EPOLL_CTL_ADD, q, &ev)); CALL(epoll_wait(ep, &ev, 1, 0)); CALL(mq_send(q, "x", 1, 0)); CALL(epoll_wait(ep, &ev, 1, 0)); take(q); CALL(epoll_wait(ep, &ev, 1, 0));
    CALL(mq_unlink(name)); CALL(mq_unlink(name)); CALL(mq_open(name, O_RDWR)); CALL(mq_send(q, "still", 5, 0)); CALL(mq_receive(r, text, 10, NULL)); CALL(fstat(q, &st)); printf("links %ld\n", (long)st.st_nlink);
    readlink(link, shown, 127); YES(strstr(shown, " (deleted)") != NULL); int other = opened(O_RDWR, 1, 1); CALL(mq_send(other, "1", 1, 0)); attr(q); attr(other); CALL(mq_unlink(name));
    close(q); close(w); close(r); close(other); close(ep);
    q = mq_open(name, O_RDWR | O_CREAT, 0600, NULL); attr(q); close(q); umask(077); mq_unlink(name); q = mq_open(name, O_RDWR | O_CREAT, 0666, NULL); fstat(q, &st); printf("mode %o\n", st.st_mode); umask(022); close(q); mq_unlink(name);
}

static void nothing(int signal) { (void)signal; }

static void waiting(void)
{
    int q = opened(O_RDWR, 2, 10);
    pid_t c = CHILD(take(q)); sleeps(c); CALL(mq_send(q, "one", 3, 5)); printf("%x\n", reaped(c)); attr(q);
    /* Whoever waits longest gets it. */
    pid_t first = CHILD(text[0] = mq_receive(q, text, 10, NULL); printf("%s\n", text + 1)); sleeps(first); pid_t second = CHILD(take(q)); sleeps(second);
    CALL(mq_send(q, "1st", 3, 0)); printf("%x\n", reaped(first)); CALL(mq_send(q, "2nd", 3, 0)); printf("%x\n", reaped(second));
    CALL(mq_send(q, "a", 1, 1)); CALL(mq_send(q, "b", 1, 2)); c = CHILD(CALL(mq_send(q, "c", 1, 3))); sleeps(c); attr(q); take(q); printf("%x\n", reaped(c)); take(q); take(q); attr(q);
    struct timespec t = in_ms(40); CALL(mq_timedreceive(q, text, 10, NULL, &t)); CALL(mq_timedreceive(q, text, 10, NULL, &t)); t.tv_nsec = -1; CALL(mq_timedreceive(q, text, 10, NULL, &t)); t.tv_nsec = 1000000000; CALL(mq_timedsend(q, "x", 1, 0, &t)); CALL(syscall(SYS_mq_timedsend, q, "x", 1, 0, 8L)); t = in_ms(0); t.tv_sec -= 5; CALL(mq_timedsend(q, "x", 1, 0, &t)); CALL(mq_timedsend(q, "y", 1, 0, &t)); CALL(mq_timedsend(q, "z", 1, 0, &t)); t = in_ms(30); CALL(mq_timedsend(q, "z", 1, 0, &t)); take(q); take(q); t.tv_sec = -1; CALL(mq_timedreceive(q, text, 10, NULL, &t));
    for (int restart = 0; restart < 2; restart++) {
        sigaction(SIGALRM, &(struct sigaction){ .sa_handler = nothing, .sa_flags = restart ? SA_RESTART : 0 }, NULL);
        t = in_ms(100); setitimer(ITIMER_REAL, &(struct itimerval){ .it_value = { 0, 30000 } }, NULL); CALL(mq_timedreceive(q, text, 10, NULL, &t));
    }
    sigaction(SIGALRM, &(struct sigaction){ .sa_handler = nothing }, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){ .it_value = { 0, 30000 } }, NULL); take(q);
    c = CHILD(take(q)); sleeps(c); kill(c, SIGKILL); printf("%x\n", reaped(c)); CALL(mq_send(q, "kept", 4, 0)); attr(q);
    c = CHILD(struct pollfd p = { q, POLLOUT, 0 }; mq_send(q, "fill", 4, 0); CALL(poll(&p, 1, 5000)); printf("%x\n", p.revents)); sleeps(c); take(q); printf("%x\n", reaped(c)); take(q);
    c = CHILD(struct pollfd p = { q, POLLIN, 0 }; CALL(poll(&p, 1, 5000)); printf("%x\n", p.revents)); sleeps(c); mq_send(q, "x", 1, 0); printf("%x\n", reaped(c));
    close(q); mq_unlink(name);
}

static siginfo_t seen;
static volatile int times;
static void told(int signal, siginfo_t *info, void *context) { (void)signal; (void)context; seen = *info; times++; }

static void notice(void)
{
    sigaction(SIGUSR1, &(struct sigaction){ .sa_sigaction = told, .sa_flags = SA_SIGINFO }, NULL);
    int q = opened(O_RDWR | O_NONBLOCK, 5, 10);
    struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value = { .sival_int = 42 } };
    CALL(mq_notify(q, &ev)); CALL(mq_notify(q, &ev)); status(q); CALL(mq_send(q, "a", 1, 0)); printf("%d times, code %d, value %d, mine %d %d\n", times, seen.si_code, seen.si_value.sival_int, seen.si_pid == getpid(), seen.si_uid == getuid());
    CALL(mq_send(q, "b", 1, 0)); printf("%d\n", times); CALL(mq_notify(q, &ev)); CALL(mq_send(q, "c", 1, 0)); printf("%d\n", times); take(q); take(q); take(q); printf("%d\n", times);
    pid_t c = CHILD(CALL(mq_send(q, "from the child", 5, 0))); printf("%x\n", reaped(c)); printf("%d times, from it %d\n", times, seen.si_pid == c); take(q);
    /* Not while somebody waits for a message. */
    CALL(mq_notify(q, &ev)); fcntl(q, F_SETFL, 0); c = CHILD(take(q)); sleeps(c); CALL(mq_send(q, "d", 1, 0)); printf("%x\n", reaped(c)); printf("%d\n", times); fcntl(q, F_SETFL, O_NONBLOCK);
    c = CHILD(CALL(mq_notify(q, &ev)); CALL(mq_notify(q, NULL))); printf("%x\n", reaped(c)); status(q); CALL(mq_notify(q, NULL)); status(q); CALL(mq_send(q, "e", 1, 0)); printf("%d\n", times); take(q);
    /* Gone with any descriptor that its owner closes, and with the owner. */
    CALL(mq_notify(q, &ev)); close(dup(q)); status(q);
    c = CHILD(CALL(mq_notify(q, &ev))); printf("%x\n", reaped(c)); CALL(mq_notify(q, &ev)); CALL(mq_notify(q, NULL));
    ev.sigev_notify = SIGEV_NONE; CALL(mq_notify(q, &ev)); status(q); CALL(mq_send(q, "f", 1, 0)); status(q); printf("%d\n", times); take(q);
    ev.sigev_notify = SIGEV_SIGNAL; ev.sigev_signo = 65; CALL(mq_notify(q, &ev)); ev.sigev_signo = -1; CALL(mq_notify(q, &ev)); ev.sigev_signo = 0; CALL(mq_notify(q, &ev)); CALL(mq_send(q, "g", 1, 0)); ev.sigev_notify = 9; CALL(mq_notify(q, &ev)); ev.sigev_notify = SIGEV_THREAD_ID; CALL(mq_notify(q, &ev)); CALL(syscall(SYS_mq_notify, q, 8L));
    close(q); mq_unlink(name);
}

static int pipe_ends[2];
static void in_a_thread(union sigval value) { dprintf(pipe_ends[1], "%d", value.sival_int); }
static void notice_in_a_thread(void)
{
    char text[16] = "";
    pipe(pipe_ends);
    int q = opened(O_RDWR | O_NONBLOCK, 5, 10);
    struct sigevent ev = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = in_a_thread, .sigev_value = { .sival_int = 7 } };
    CALL(mq_notify(q, &ev)); CALL(mq_notify(q, &ev)); status(q); CALL(mq_send(q, "a", 1, 0)); CALL(read(pipe_ends[0], text, 16)); printf("%s\n", text); status(q); take(q);
    CALL(mq_notify(q, &ev)); CALL(mq_notify(q, NULL)); CALL(mq_send(q, "b", 1, 0)); CALL(fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK)); CALL(read(pipe_ends[0], text, 16)); take(q);
    /* What the C library does for it. */
    char cookie[32] = "told by a socket, 32 bytes long.", got[64] = "";
    int s = socket(AF_NETLINK, SOCK_RAW, 0), other = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct { unsigned long cookie; int socket, how; char rest[48]; } raw = { (unsigned long)cookie, s, SIGEV_THREAD };
    CALL(syscall(SYS_mq_notify, q, &raw)); CALL(mq_send(q, "c", 1, 0)); CALL(recv(s, got, 64, 0)); printf("%.31s %d\n", got, got[31]); take(q);
    CALL(syscall(SYS_mq_notify, q, &raw)); CALL(syscall(SYS_mq_notify, q, NULL)); CALL(recv(s, got, 64, 0)); printf("%.31s %d\n", got, got[31]); CALL(recv(s, got, 64, MSG_DONTWAIT));
    raw.cookie = 8; CALL(syscall(SYS_mq_notify, q, &raw)); raw.cookie = (unsigned long)cookie;
    raw.socket = 99; CALL(syscall(SYS_mq_notify, q, &raw)); raw.socket = q; CALL(syscall(SYS_mq_notify, q, &raw)); raw.socket = other; CALL(syscall(SYS_mq_notify, q, &raw));
    close(s); close(other); close(q); mq_unlink(name);
}

static int other_user(void) { return setgid(1234) || setuid(1234); }

static void rights(void)
{
    int q = opened(O_RDWR, 2, 10);
    for (int mode = 0; mode < 7; mode += 2) {
        fchmod(q, 0600 | mode); printf("mode %d\n", mode);
        reaped(CHILD(if (other_user()) _exit(1); OK(mq_open(name, O_RDONLY)); OK(mq_open(name, O_WRONLY)); OK(mq_open(name, O_RDWR)); OK(mq_open(name, O_RDWR | O_CREAT, 0600, NULL)); OK(mq_unlink(name))));
    }
    mq_unlink(name); close(q);
    reaped(CHILD(if (other_user()) _exit(1); CALL(opened(O_RDWR, 11, 10)); CALL(opened(O_RDWR, 1, 8193)); OK(opened(O_RDWR, 10, 8192)); CALL(mq_unlink(name))));
    /* RLIMIT_MSGQUEUE counts bytes and what the kernel needs for each message. */
    for (long limit = 2 * (10 + 48 + 48) - 2; limit <= 2 * (10 + 48 + 48) + 1; limit++)
        reaped(CHILD(if (setgid(1235) || setuid(1235)) _exit(1); setrlimit(RLIMIT_MSGQUEUE, &(struct rlimit){ limit, limit }); OK(opened(O_RDWR, 2, 10)); OK(mq_unlink(name))));
    for (const char *const *file = (const char *const[]){ "msg_default", "msg_max", "msgsize_default", "msgsize_max", "queues_max", NULL }; *file; file++) {
        char path[64], line[64] = "none\n"; snprintf(path, sizeof path, "/proc/sys/fs/mqueue/%s", *file); FILE *f = fopen(path, "r"); if (f) { fgets(line, sizeof line, f); fclose(f); } printf("%s %s", *file, line);
    }
}

static void crowd(void)
{
    int q = opened(O_RDWR, 4, 8);
    for (int i = 0; i < 3; i++) CHILD(for (int n = 0; n < 300; n++) mq_send(q, (char *)&n, sizeof n, i));
    for (int i = 0; i < 3; i++) CHILD(int sum = 0, n; for (int k = 0; k < 300; k++) { mq_receive(q, text, sizeof text, NULL); memcpy(&n, text, sizeof n); sum += n; } _exit(sum == 0));
    int bad = 0, s; while (wait(&s) > 0) bad |= s; printf("bad %d\n", bad); attr(q); close(q); mq_unlink(name);
}

int main(void)
{
    snprintf(name, sizeof name, "/conformance-%d", getpid());
    puts("-- basics"); basics();
    puts("-- waiting"); waiting();
    puts("-- notice"); notice(); notice_in_a_thread();
    puts("-- rights"); rights();
    puts("-- crowd"); crowd();
    return 0;
}
