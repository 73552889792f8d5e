/* Unix stream sockets: pairs, names, connections, shutdown, readiness, options, errors. */
#define _GNU_SOURCE
#include "report.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <linux/sockios.h>

static void events(const char *what, int fd)
{
    struct pollfd p = { fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0 };
    int n = poll(&p, 1, 0);
    printf("%s: %d%s%s%s%s%s\n", what, n, p.revents & POLLIN ? " IN" : "", p.revents & POLLOUT ? " OUT" : "",
           p.revents & POLLRDHUP ? " RDHUP" : "", p.revents & POLLHUP ? " HUP" : "", p.revents & POLLERR ? " ERR" : "");
}

static socklen_t named(struct sockaddr_un *a, const char *name, int length)
{
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    memcpy(a->sun_path, name, length);
    return offsetof(struct sockaddr_un, sun_path) + length;
}

static int option(int fd, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    if (getsockopt(fd, SOL_SOCKET, name, &value, &length)) { printf("option %d: %s\n", name, strerrorname_np(errno)); return -1; }
    printf("option %d = %d (%u)\n", name, value, length);
    return value;
}

static void show_name(const char *what, int (*get)(int, struct sockaddr *, socklen_t *), int fd)
{
    struct sockaddr_un a;
    memset(&a, 'x', sizeof a);
    socklen_t length = sizeof a;
    if (get(fd, (void *)&a, &length)) { printf("%s: %s\n", what, strerrorname_np(errno)); return; }
    printf("%s: length %u family %d", what, length, a.sun_family);
    if (length > 2) printf(" name %s%s", a.sun_path[0] ? "" : "@", a.sun_path[0] ? a.sun_path : a.sun_path + 1);
    printf("\n");
}

static volatile int pipes;
static void on_pipe(int s) { (void)s; pipes++; }
static void nothing(int s) { (void)s; }

static void pairs(void)
{
    int s[2];
    char b[100];
    CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    events("fresh", s[0]);
    CALL(write(s[0], "hello", 5));
    CALL(write(s[0], " world", 6));
    events("with data", s[1]);
    int n;
    CALL(ioctl(s[1], FIONREAD, &n)); printf("waiting %d\n", n);
    CALL(ioctl(s[1], SIOCINQ, &n)); printf("waiting %d\n", n);
    CALL(recv(s[1], b, 3, MSG_PEEK));
    CALL(recv(s[1], b, sizeof b, 0)); printf("%.11s\n", b);
    CALL(recv(s[1], b, sizeof b, MSG_DONTWAIT));
    CALL(recv(s[1], b, 0, MSG_DONTWAIT));
    CALL(read(s[1], b, 0));
    CALL(write(s[0], b, 0));
    struct iovec v[2] = { { "ab", 2 }, { "cde", 3 } };
    CALL(writev(s[1], v, 2));
    struct iovec r[2] = { { b, 1 }, { b + 1, 50 } };
    CALL(readv(s[0], r, 2)); printf("%.5s\n", b);
    CALL(lseek(s[0], 0, SEEK_SET));
    CALL(pread(s[0], b, 1, 0));
    struct stat st;
    CALL(fstat(s[0], &st)); printf("mode %o size %ld\n", st.st_mode, (long)st.st_size);
    CALL(ftruncate(s[0], 0));
    CALL(fsync(s[0]));
    int flags = fcntl(s[0], F_GETFL);
    printf("flags %o\n", flags);
    show_name("name", getsockname, s[0]);
    show_name("peer", getpeername, s[0]);
    struct sockaddr_un a; socklen_t l = named(&a, "\0zz", 3);
    CALL(connect(s[0], (void *)&a, l));
    CALL(listen(s[0], 1));
    CALL(sendto(s[0], "x", 1, 0, (void *)&a, l));
    CALL(accept(s[0], NULL, NULL));
    /* half close */
    CALL(shutdown(s[0], SHUT_WR));
    events("after SHUT_WR", s[0]);
    events("peer of it", s[1]);
    CALL(send(s[0], "x", 1, MSG_NOSIGNAL));
    CALL(write(s[1], "late", 4));
    CALL(read(s[0], b, 10));
    CALL(read(s[1], b, 10));
    CALL(close(s[1]));
    events("peer closed", s[0]);
    CALL(read(s[0], b, 10));
    pipes = 0;
    CALL(write(s[0], "x", 1)); printf("SIGPIPE %d\n", pipes);
    show_name("peer", getpeername, s[0]);
    close(s[0]);
    /* closed with data unread */
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    write(s[0], "data", 4); write(s[1], "more", 4);
    close(s[1]);
    events("closed with unread data", s[0]);
    CALL(read(s[0], b, 10));
    CALL(read(s[0], b, 10));
    CALL(read(s[0], b, 10));
    pipes = 0;
    CALL(send(s[0], "x", 1, 0)); printf("SIGPIPE %d\n", pipes);
    close(s[0]);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    CALL(shutdown(s[0], SHUT_RD));
    CALL(read(s[0], b, 10));
    CALL(send(s[1], "x", 1, MSG_NOSIGNAL));
    CALL(shutdown(s[0], 3));
    CALL(shutdown(s[0], -1));
    CALL(shutdown(s[0], SHUT_RDWR));
    events("both shut", s[0]);
    events("its peer", s[1]);
    close(s[0]); close(s[1]);
    CALL(socketpair(AF_UNIX, 7, 0, s));
    CALL(socketpair(AF_UNIX, SOCK_STREAM, 5, s));
    CALL(socketpair(AF_UNIX, SOCK_STREAM | 0x100000, 0, s));
    CALL(socketpair(AF_UNIX, 15, 0, s));
    CALL(socketpair(99, SOCK_STREAM, 0, s));
    CALL(socket(AF_UNIX, SOCK_STREAM, 2));
    CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, (void *)8));
    CALL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, AF_UNIX, s));
    printf("%x %o\n", fcntl(s[0], F_GETFD), fcntl(s[1], F_GETFL));
    CALL(read(s[0], b, 1));
    int total = 0, r1;
    char block[4096] = { 0 };
    while ((r1 = write(s[0], block, sizeof block)) > 0) total += r1;
    printf("full: %s %d\n", strerrorname_np(errno), total > 100000);
    events("full", s[0]);
    while ((r1 = read(s[1], block, sizeof block)) > 0) total -= r1;
    printf("left %d %s\n", total, strerrorname_np(errno));
    events("drained", s[0]);
    close(s[0]); close(s[1]);
    CALL(send(0x7fff, "x", 1, 0));
    int f = open("/dev/null", O_RDWR);
    CALL(send(f, "x", 1, 0));
    CALL(getsockname(f, (void *)&a, &l));
    CALL(listen(f, 1));
    close(f);
}

static void names(void)
{
    struct sockaddr_un a, b;
    socklen_t l, m;
    char buffer[200];
    unlink("s1"); unlink("link"); unlink("plain");
    int s = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
    events("unbound", s);
    CALL(read(s, buffer, 1));
    CALL(send(s, "x", 1, MSG_NOSIGNAL));
    CALL(listen(s, 5));
    CALL(accept(s, NULL, NULL));
    show_name("unbound", getsockname, s);
    show_name("unbound peer", getpeername, s);
    l = named(&a, "s1", 2);
    CALL(connect(c, (void *)&a, l));
    CALL(bind(s, (void *)&a, 2 + 109));
    CALL(bind(s, (void *)&a, 1));
    a.sun_family = AF_INET;
    CALL(bind(s, (void *)&a, l));
    a.sun_family = AF_UNIX;
    CALL(bind(s, (void *)8, l));
    CALL(bind(s, (void *)&a, l));
    struct stat st;
    CALL(stat("s1", &st)); printf("mode %o\n", st.st_mode);
    CALL(open("s1", O_RDWR));
    CALL(bind(c, (void *)&a, l));
    CALL(bind(s, (void *)&a, l));
    m = named(&b, "s2", 2);
    CALL(bind(s, (void *)&b, m));
    CALL(access("s2", F_OK));
    show_name("bound", getsockname, s);
    CALL(connect(c, (void *)&a, l));
    CALL(listen(s, 1));
    events("listening", s);
    option(s, SO_ACCEPTCONN); option(c, SO_ACCEPTCONN);
    CALL(fcntl(s, F_SETFL, O_NONBLOCK));
    CALL(accept(s, NULL, NULL));
    CALL(ioctl(s, FIONREAD, &m));
    CALL(read(s, buffer, 1));
    symlink("s1", "link");
    m = named(&b, "link", 5);
    CALL(connect(c, (void *)&b, m));
    events("connected, not accepted", c);
    events("listening with a connection", s);
    CALL(connect(c, (void *)&a, l));
    CALL(write(c, "early", 5));
    show_name("client's peer", getpeername, c);
    int d = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), e = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CALL(connect(d, (void *)&a, l));
    CALL(connect(e, (void *)&a, l));
    m = sizeof b;
    int x = accept4(s, (void *)&b, &m, SOCK_CLOEXEC | SOCK_NONBLOCK);
    printf("accepted %d: length %u, flags %o %x\n", x >= 0, m, fcntl(x, F_GETFL), fcntl(x, F_GETFD));
    CALL(connect(e, (void *)&a, l));
    show_name("accepted", getsockname, x);
    show_name("accepted's peer", getpeername, x);
    CALL(read(x, buffer, 10)); printf("%.5s\n", buffer);
    CALL(accept4(s, NULL, NULL, 1));
    struct ucred u;
    m = sizeof u;
    CALL(getsockopt(x, SOL_SOCKET, SO_PEERCRED, &u, &m));
    printf("peer is me %d %d %d\n", u.pid == getpid(), u.uid == getuid(), u.gid == getgid());
    m = sizeof u;
    CALL(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &u, &m)); printf("%d\n", u.pid == getpid());
    int fresh = socket(AF_UNIX, SOCK_STREAM, 0);
    m = sizeof u;
    CALL(getsockopt(fresh, SOL_SOCKET, SO_PEERCRED, &u, &m)); printf("%d %d %d %u\n", u.pid, u.uid, u.gid, m);
    m = 4;
    CALL(getsockopt(x, SOL_SOCKET, SO_PEERCRED, &u, &m)); printf("%u\n", m);
    /* other types, files and permissions */
    l = named(&a, "s1", 3);
    int g = socket(AF_UNIX, SOCK_DGRAM, 0);
    CALL(connect(g, (void *)&a, l));
    close(g);
    close(open("plain", O_CREAT | O_RDWR, 0644));
    m = named(&b, "plain", 6);
    CALL(connect(fresh, (void *)&b, m));
    CALL(bind(fresh, (void *)&b, m));
    m = named(&b, "no/such", 8);
    CALL(bind(fresh, (void *)&b, m));
    CALL(connect(fresh, (void *)&b, m));
    /* closing the listening socket */
    close(s);
    events("never accepted", d);
    CALL(read(d, buffer, 1));
    CALL(read(d, buffer, 1));
    CALL(write(x, "still", 5)); CALL(read(c, buffer, 10));
    CALL(connect(fresh, (void *)&a, l));
    close(c); close(d); close(e); close(x); close(fresh);
    unlink("s1"); unlink("link"); unlink("plain");
    /* a removed name does not end the socket */
    s = socket(AF_UNIX, SOCK_STREAM, 0);
    CALL(fchmod(s, 0700));
    bind(s, (void *)&a, l); listen(s, 5);
    CALL(stat("s1", &st)); printf("mode %o\n", st.st_mode);
    rename("s1", "moved");
    m = named(&b, "moved", 6);
    c = socket(AF_UNIX, SOCK_STREAM, 0);
    CALL(connect(c, (void *)&b, m));
    show_name("peer keeps its name", getpeername, c);
    unlink("moved");
    x = accept(s, NULL, NULL);
    CALL(write(x, "a", 1)); CALL(read(c, buffer, 3));
    CALL(shutdown(s, SHUT_RD));
    CALL(accept(s, NULL, NULL));
    close(s); close(c); close(x);
    /* abstract */
    s = socket(AF_UNIX, SOCK_STREAM, 0); c = socket(AF_UNIX, SOCK_STREAM, 0);
    l = named(&a, "\0trapbox\0test", 13);
    CALL(bind(s, (void *)&a, l));
    CALL(bind(c, (void *)&a, l));
    CALL(bind(c, (void *)&a, l - 1));
    g = socket(AF_UNIX, SOCK_DGRAM, 0);
    CALL(connect(g, (void *)&a, l));
    CALL(bind(g, (void *)&a, l));
    close(g);
    CALL(listen(s, -1));
    CALL(connect(c, (void *)&a, l + 1));
    CALL(connect(c, (void *)&a, l));
    show_name("abstract", getpeername, c);
    close(s);
    CALL(write(c, "x", 1) == -1 && errno == EPIPE);
    close(c);
    s = socket(AF_UNIX, SOCK_STREAM, 0);
    CALL(bind(s, (void *)&a, 2));
    m = sizeof b; getsockname(s, (void *)&b, &m);
    printf("autobind: length %u, %d\n", m, b.sun_path[0]);
    CALL(bind(s, (void *)&a, 2));
    CALL(bind(s, (void *)&a, l));
    m = 1; memset(&b, 0, sizeof b);
    CALL(getsockname(s, (void *)&b, &m)); printf("%u %d\n", m, b.sun_family);
    m = -1;
    CALL(getsockname(s, (void *)&b, &m));
    m = sizeof b;
    CALL(getsockname(s, (void *)8, &m));
    close(s);
}

static void options(void)
{
    int s = socket(AF_UNIX, SOCK_STREAM, 0), v;
    int known[] = { SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ERROR, SO_SNDBUF, SO_RCVBUF, SO_RCVLOWAT, SO_SNDLOWAT, SO_REUSEADDR,
                    SO_KEEPALIVE, SO_PASSCRED, SO_PEEK_OFF, SO_BROADCAST, SO_PRIORITY, SO_ACCEPTCONN, 9999 };
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++) option(s, known[i]);
    v = 1;
    CALL(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &v, sizeof v)); option(s, SO_REUSEADDR);
    CALL(setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &v, sizeof v));
    CALL(setsockopt(s, SOL_SOCKET, SO_SNDBUF, &v, sizeof v)); option(s, SO_SNDBUF);
    CALL(setsockopt(s, SOL_SOCKET, SO_RCVBUF, &v, sizeof v)); option(s, SO_RCVBUF);
    v = 50000;
    CALL(setsockopt(s, SOL_SOCKET, SO_SNDBUF, &v, sizeof v)); option(s, SO_SNDBUF);
    CALL(setsockopt(s, SOL_SOCKET, SO_RCVBUF, &v, sizeof v)); option(s, SO_RCVBUF);
    CALL(setsockopt(s, SOL_SOCKET, SO_TYPE, &v, sizeof v));
    CALL(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &v, 3));
    CALL(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &v, -1));
    CALL(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, NULL, 4));
    CALL(setsockopt(s, 6, 1, &v, sizeof v));
    CALL(setsockopt(s, SOL_SOCKET, 9999, &v, sizeof v));
    socklen_t l = sizeof v;
    CALL(getsockopt(s, 6, 1, &v, &l));
    struct timeval t = { 1, 500000 };
    CALL(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    struct timeval u; l = sizeof u;
    CALL(getsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &u, &l)); printf("%ld.%06ld %u\n", (long)u.tv_sec, (long)u.tv_usec, l);
    t.tv_usec = 1000000;
    CALL(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    CALL(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, 8));
    struct linger g = { 1, 7 };
    CALL(setsockopt(s, SOL_SOCKET, SO_LINGER, &g, sizeof g));
    memset(&g, 0, sizeof g); l = sizeof g;
    CALL(getsockopt(s, SOL_SOCKET, SO_LINGER, &g, &l)); printf("%d %d\n", g.l_onoff, g.l_linger);
    char c[2]; l = 2;
    CALL(getsockopt(s, SOL_SOCKET, SO_TYPE, c, &l)); printf("%u %d\n", l, c[0]);
    l = 0;
    CALL(getsockopt(s, SOL_SOCKET, SO_TYPE, c, &l));
    l = -1;
    CALL(getsockopt(s, SOL_SOCKET, SO_TYPE, c, &l));
    close(s);
}

static long elapsed(struct timespec *from)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - from->tv_sec) * 1000 + (now.tv_nsec - from->tv_nsec) / 1000000;
}

static void waiting(void)
{
    int s[2];
    char b[64];
    struct timespec from;
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    struct timeval t = { 0, 50000 };
    setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    clock_gettime(CLOCK_MONOTONIC, &from);
    CALL(read(s[0], b, 1)); printf("waited %d\n", elapsed(&from) >= 49);
    setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    char *big = calloc(1, 1 << 20);
    clock_gettime(CLOCK_MONOTONIC, &from);
    long n = write(s[0], big, 1 << 20);
    printf("partial %d, waited %d\n", n > 100000 && n < 1 << 20, elapsed(&from) >= 49);
    CALL(write(s[0], big, 1));
    free(big);
    close(s[0]); close(s[1]);
    /* MSG_WAITALL, low water */
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    fflush(stdout);
    if (!fork()) {
        for (int i = 0; i < 4; i++) { usleep(20000); send(s[1], "abc", 3, 0); }
        usleep(20000);
        _exit(0);
    }
    close(s[1]);
    CALL(recv(s[0], b, 9, MSG_WAITALL)); printf("%.9s\n", b);
    CALL(recv(s[0], b, 9, MSG_WAITALL));
    wait(NULL);
    close(s[0]);
    /* signals: interrupted, and restarted */
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    struct sigaction action = { .sa_handler = nothing };
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = { { 0, 0 }, { 0, 30000 } };
    setitimer(ITIMER_REAL, &timer, NULL);
    CALL(read(s[0], b, 1));
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    if (!fork()) { usleep(100000); write(s[1], "z", 1); _exit(0); }
    setitimer(ITIMER_REAL, &timer, NULL);
    CALL(read(s[0], b, 1));
    wait(NULL);
    t.tv_sec = 5;
    setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    setitimer(ITIMER_REAL, &timer, NULL);
    CALL(read(s[0], b, 1));
    close(s[0]); close(s[1]);
    /* poll waits for the other end */
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    if (!fork()) { usleep(30000); close(s[0]); write(s[1], "z", 1); usleep(30000); _exit(0); }
    close(s[1]);
    struct pollfd p = { s[0], POLLIN, 0 };
    CALL(poll(&p, 1, 5000)); printf("%x\n", p.revents);
    read(s[0], b, 1);
    CALL(poll(&p, 1, 5000)); printf("%x\n", p.revents);
    wait(NULL);
    close(s[0]);
    /* connect waits for a place */
    struct sockaddr_un a;
    socklen_t l = named(&a, "\0waits", 6);
    int server = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(server, (void *)&a, l); listen(server, 0);
    int c1 = socket(AF_UNIX, SOCK_STREAM, 0), c2 = socket(AF_UNIX, SOCK_STREAM, 0);
    CALL(connect(c1, (void *)&a, l));
    t.tv_sec = 0;
    setsockopt(c2, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    CALL(connect(c2, (void *)&a, l));
    t.tv_usec = 0;
    setsockopt(c2, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    if (!fork()) { usleep(30000); int x = accept(server, NULL, NULL); usleep(50000); _exit(x < 0); }
    CALL(connect(c2, (void *)&a, l));
    wait(NULL);
    close(server); close(c1); close(c2);
}

static void sending_files(void)
{
    int s[2];
    char b[32] = { 0 };
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    int f = open("data", O_CREAT | O_RDWR | O_TRUNC, 0600);
    write(f, "0123456789", 10);
    off_t at = 2;
    CALL(sendfile(s[0], f, &at, 5)); printf("%ld\n", (long)at);
    CALL(read(s[1], b, sizeof b)); printf("%s\n", b);
    CALL(sendfile(f, s[0], NULL, 5) == -1);
    int p[2];
    pipe(p);
    write(p[1], "through", 7);
    CALL(splice(p[0], NULL, s[0], NULL, 7, 0));
    CALL(read(s[1], b, sizeof b)); printf("%.7s\n", b);
    write(s[1], "back", 4);
    CALL(splice(s[0], NULL, p[1], NULL, 100, 0));
    CALL(read(p[0], b, sizeof b)); printf("%.4s\n", b);
    unlink("data");
    close(f); close(s[0]); close(s[1]); close(p[0]); close(p[1]);
}

static void *echo(void *argument)
{
    int fd = (int)(long)argument;
    char b[8192];
    long n;
    while ((n = read(fd, b, sizeof b)) > 0)
        for (long done = 0; done < n;) done += write(fd, b + done, n - done);
    close(fd);
    return NULL;
}

static void volume(void)
{
    int s[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    pthread_t t;
    pthread_create(&t, NULL, echo, (void *)(long)s[1]);
    if (!fork()) {
        close(s[1]);
        unsigned char b[5000];
        unsigned x = 1;
        for (int i = 0; i < 400; i++) {
            for (unsigned j = 0; j < sizeof b; j++) b[j] = x = x * 69069 + 1;
            for (unsigned done = 0; done < sizeof b;) done += write(s[0], b + done, sizeof b - done);
        }
        shutdown(s[0], SHUT_WR);
        _exit(0);
    }
    unsigned char b[3333];
    unsigned x = 1;
    long total = 0, wrong = 0, n;
    while ((n = read(s[0], b, sizeof b)) > 0) {
        for (long j = 0; j < n; j++) wrong += b[j] != (unsigned char)(x = x * 69069 + 1);
        total += n;
    }
    printf("echoed %ld, wrong %ld\n", total, wrong);
    wait(NULL);
    pthread_join(t, NULL);
    close(s[0]);
}

int main(void)
{
    umask(022);
    signal(SIGPIPE, on_pipe);
    pairs();
    names();
    options();
    waiting();
    sending_files();
    volume();
    return 0;
}
