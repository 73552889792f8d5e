/* Datagrams, sequences of packets, and what messages carry: descriptors, credentials, flags. */
#define _GNU_SOURCE
#include "report.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <linux/sockios.h>

static volatile int pipes;
static void on_pipe(int s) { (void)s; pipes++; }

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

static void flags(unsigned f)
{
    printf("flags%s%s%s%s\n", f & MSG_TRUNC ? " TRUNC" : "", f & MSG_CTRUNC ? " CTRUNC" : "", f & MSG_EOR ? " EOR" : "",
           f & ~(MSG_TRUNC | MSG_CTRUNC | MSG_EOR | MSG_CMSG_CLOEXEC) ? " more" : "");
}

static void errors(int fd)
{
    int e; socklen_t l = sizeof e;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &l);
    printf("SO_ERROR %s\n", e ? strerrorname_np(e) : "none");
}

static void receive(int fd, int how, int size)
{
    char b[64] = { 0 }, c[256];
    struct sockaddr_un a;
    struct iovec v = { b, size };
    struct msghdr m = { &a, sizeof a, &v, 1, c, sizeof c, 0 };
    long n = recvmsg(fd, &m, how);
    if (n < 0) { printf("recvmsg: %s\n", strerrorname_np(errno)); return; }
    printf("recvmsg %ld '%s' from %u control %zu ", n, b, m.msg_namelen, m.msg_controllen);
    flags(m.msg_flags);
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        printf("  level %d type %d length %zu\n", h->cmsg_level, h->cmsg_type, (size_t)h->cmsg_len);
        if (h->cmsg_type == SCM_CREDENTIALS) {
            struct ucred u;
            memcpy(&u, CMSG_DATA(h), sizeof u);
            printf("  me %d %d %d unknown %d\n", u.pid == getpid(), u.uid == getuid(), u.gid == getgid(), u.pid == 0);
        }
        if (h->cmsg_type == SCM_RIGHTS)
            for (unsigned i = 0; i < (h->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
                int f;
                memcpy(&f, CMSG_DATA(h) + i * sizeof f, sizeof f);
                struct stat st = { 0 };
                int r = fstat(f, &st);
                printf("  file: %d flags %x kind %o\n", r, fcntl(f, F_GETFD), st.st_mode & S_IFMT);
                close(f);
            }
    }
}

static long pass(int fd, const char *text, int length, const int *files, int count, int control)
{
    char c[2048] = { 0 };
    struct iovec v = { (void *)text, length };
    struct msghdr m = { NULL, 0, &v, 1, c, CMSG_SPACE(count * sizeof(int)), 0 };
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(h), files, count * sizeof(int));
    if (control) m.msg_controllen = control;
    return sendmsg(fd, &m, MSG_NOSIGNAL);
}

static void datagrams(void)
{
    int s[2];
    char b[64];
    CALL(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    events("fresh", s[0]);
    CALL(send(s[0], "one", 3, 0)); CALL(send(s[0], "twotwo", 6, 0)); CALL(send(s[0], "", 0, 0)); CALL(write(s[0], "x", 0));
    int n;
    CALL(ioctl(s[1], FIONREAD, &n)); printf("next %d\n", n);
    CALL(recv(s[1], b, sizeof b, 0));
    CALL(recv(s[1], b, 3, MSG_PEEK));
    CALL(recv(s[1], b, 3, MSG_PEEK | MSG_TRUNC));
    receive(s[1], 0, 2);
    receive(s[1], 0, 10);
    CALL(recv(s[1], b, 10, 0));
    CALL(recv(s[1], b, 10, MSG_DONTWAIT));
    CALL(recv(s[1], b, 10, MSG_OOB | MSG_DONTWAIT));
    CALL(send(s[0], "x", 1, MSG_OOB));
    char *big = calloc(1, 300000);
    CALL(send(s[0], big, 300000, 0));
    CALL(send(s[0], big, 100000, 0)); CALL(recv(s[1], big, 300000, 0));
    free(big);
    CALL(shutdown(s[0], SHUT_WR));
    CALL(send(s[0], "x", 1, 0)); printf("SIGPIPE %d\n", pipes);
    CALL(send(s[1], "y", 1, 0));
    events("shut for writing", s[0]); events("other", s[1]);
    close(s[0]);
    events("peer closed", s[1]);
    CALL(recv(s[1], b, 1, MSG_DONTWAIT));
    CALL(send(s[1], "x", 1, 0));
    CALL(send(s[1], "x", 1, 0));
    errors(s[1]);
    close(s[1]);
    /* names */
    struct sockaddr_un a, other, from;
    socklen_t l = named(&a, "\0here", 5), o = named(&other, "\0there", 6), f;
    int r = socket(AF_UNIX, SOCK_DGRAM, 0), w = socket(AF_UNIX, SOCK_DGRAM, 0), x = socket(AF_UNIX, SOCK_DGRAM, 0);
    CALL(sendto(w, "x", 1, 0, (void *)&a, l));
    CALL(bind(r, (void *)&a, l));
    CALL(listen(r, 1)); CALL(accept(r, NULL, NULL));
    CALL(sendto(w, "from nobody", 11, 0, (void *)&a, l));
    f = sizeof from;
    CALL(recvfrom(r, b, sizeof b, 0, (void *)&from, &f)); printf("from %u\n", f);
    CALL(bind(w, (void *)&other, o));
    CALL(connect(w, (void *)&a, l));
    CALL(send(w, "from w", 6, 0));
    f = sizeof from;
    CALL(recvfrom(r, b, sizeof b, 0, (void *)&from, &f)); printf("from %u %s\n", f, from.sun_path + 1);
    CALL(sendto(x, "not the peer", 12, 0, (void *)&other, o));
    CALL(connect(x, (void *)&other, o));
    CALL(sendto(r, "back", 4, 0, (void *)&other, o));
    receive(w, 0, 10);
    CALL(send(r, "x", 1, 0));
    /* a queue of ten and one */
    fcntl(x, F_SETFL, O_NONBLOCK);
    CALL(connect(x, (void *)&a, l));
    int count = 0;
    while (send(x, "q", 1, 0) == 1) count++;
    printf("queued %d %s\n", count, strerrorname_np(errno));
    events("full", x);
    recv(r, b, 1, 0);
    events("a place", x);
    CALL(connect(x, &(struct sockaddr){ AF_UNSPEC }, 2));
    CALL(send(x, "x", 1, 0));
    struct timeval t = { 0, 20000 };
    setsockopt(w, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    CALL(send(w, "last place", 10, 0)); CALL(send(w, "no place", 8, 0));
    close(r);
    CALL(send(w, "gone", 4, 0)); CALL(send(w, "gone", 4, 0));
    close(w); close(x);
    /* a peer that turns away */
    r = socket(AF_UNIX, SOCK_DGRAM, 0); w = socket(AF_UNIX, SOCK_DGRAM, 0);
    bind(r, (void *)&a, l); bind(w, (void *)&other, o);
    connect(r, (void *)&other, o); connect(w, (void *)&a, l);
    send(r, "lost", 4, 0);
    CALL(connect(w, &(struct sockaddr){ AF_UNSPEC }, 2));
    events("left", r);
    CALL(recv(w, b, 10, MSG_DONTWAIT));
    CALL(recv(r, b, 10, MSG_DONTWAIT));
    events("told", r);
    close(r); close(w);
}

static void packets(void)
{
    int s[2];
    char b[64];
    pipes = 0;
    CALL(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s));
    CALL(send(s[0], "first", 5, MSG_EOR)); CALL(send(s[0], "second", 6, 0)); CALL(send(s[0], "", 0, 0));
    receive(s[1], 0, 3);
    receive(s[1], MSG_WAITALL, 30);
    CALL(recv(s[1], b, 10, 0));
    CALL(recv(s[1], b, 10, MSG_DONTWAIT));
    close(s[0]);
    events("closed", s[1]);
    CALL(recv(s[1], b, 10, 0)); CALL(recv(s[1], b, 10, MSG_DONTWAIT));
    CALL(send(s[1], "x", 1, 0)); printf("SIGPIPE %d\n", pipes);
    close(s[1]);
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s);
    send(s[0], "unread", 6, 0);
    close(s[1]);
    events("closed with unread", s[0]);
    CALL(send(s[0], "x", 1, 0)); CALL(send(s[0], "x", 1, 0)); CALL(recv(s[0], b, 1, 0));
    printf("SIGPIPE %d\n", pipes);
    close(s[0]);
    struct sockaddr_un a;
    socklen_t l = named(&a, "\0packets", 8);
    int server = socket(AF_UNIX, SOCK_SEQPACKET, 0), c = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    CALL(send(c, "x", 1, 0)); CALL(recv(c, b, 1, 0));
    events("unconnected", c);
    CALL(bind(server, (void *)&a, l)); CALL(listen(server, 3)); CALL(connect(c, (void *)&a, l));
    int x = accept(server, NULL, NULL);
    CALL(sendto(c, "to", 2, 0, (void *)&a, l));
    receive(x, 0, 10);
    close(server); close(c); close(x);
}

static void rights(void)
{
    int s[2], p[2], many[254];
    char b[64];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    pipe(p);
    int three[] = { p[0], s[0], 0 };
    CALL(pass(s[0], "abc", 3, three, 3, 0));
    receive(s[1], MSG_PEEK, 10);
    receive(s[1], MSG_CMSG_CLOEXEC, 10);
    /* a read stops behind descriptors, and closes them if they are not asked for */
    CALL(send(s[0], "before", 6, 0)); CALL(pass(s[0], "with", 4, p, 2, 0)); CALL(send(s[0], "after", 5, 0));
    receive(s[1], 0, 3);
    receive(s[1], 0, 60); receive(s[1], 0, 60);
    CALL(pass(s[0], "with", 4, p, 2, 0)); CALL(pass(s[0], "more", 4, p, 1, 0));
    CALL(read(s[1], b, 2)); receive(s[1], 0, 10); receive(s[1], MSG_DONTWAIT, 10);
    CALL(pass(s[0], "", 0, p, 2, 0));
    CALL(recv(s[1], b, 1, MSG_DONTWAIT));
    for (int i = 0; i < 254; i++) many[i] = p[0];
    CALL(pass(s[0], "x", 1, many, 253, 0)); receive(s[1], 0, 10) ;
    CALL(pass(s[0], "x", 1, many, 254, 0));
    many[1] = 12345;
    CALL(pass(s[0], "x", 1, many, 2, 0));
    CALL(pass(s[0], "x", 1, p, 1, 7));
    CALL(pass(s[0], "x", 1, p, 1, 17)); 
    recv(s[1], b, 10, MSG_DONTWAIT);
    /* room for one of two; none at all; the table is full */
    struct { struct cmsghdr h; int f[4]; } c;
    struct iovec v = { b, 10 };
    struct msghdr m = { NULL, 0, &v, 1, &c, CMSG_LEN(sizeof(int)), 0 };
    CALL(pass(s[0], "x", 1, p, 2, 0));
    CALL(recvmsg(s[1], &m, 0)); flags(m.msg_flags); printf("%zu %zu\n", (size_t)m.msg_controllen, (size_t)c.h.cmsg_len);
    close(c.f[0]);
    CALL(pass(s[0], "x", 1, p, 2, 0));
    m.msg_controllen = 0;
    CALL(recvmsg(s[1], &m, 0)); flags(m.msg_flags); printf("%zu\n", (size_t)m.msg_controllen);
    struct rlimit old, none = { 0, 0 };
    getrlimit(RLIMIT_NOFILE, &old);
    none.rlim_max = old.rlim_max;
    none.rlim_cur = 0;
    CALL(pass(s[0], "x", 1, p, 2, 0));
    setrlimit(RLIMIT_NOFILE, &none);
    m.msg_controllen = sizeof c;
    CALL(recvmsg(s[1], &m, 0)); flags(m.msg_flags); printf("%zu\n", (size_t)m.msg_controllen);
    setrlimit(RLIMIT_NOFILE, &old);
    /* unread descriptors are closed with the socket */
    CALL(pass(s[0], "x", 1, &p[1], 1, 0));
    close(p[1]);
    close(s[1]); close(s[0]);
    CALL(read(p[0], b, 1));
    close(p[0]);
    /* a socket in flight in itself, and two in each other */
    pipe(p);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    int cycle[] = { s[1], p[1] };
    CALL(pass(s[0], "x", 1, cycle, 2, 0));
    close(p[1]); close(s[0]); close(s[1]);
    CALL(read(p[0], b, 1));
    close(p[0]);
    pipe(p);
    int t[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s); socketpair(AF_UNIX, SOCK_DGRAM, 0, t);
    int one[] = { t[1] }, two[] = { s[1], p[1] };
    CALL(pass(s[0], "x", 1, one, 1, 0)); CALL(pass(t[0], "x", 1, two, 2, 0));
    close(p[1]); close(s[0]); close(s[1]); close(t[0]); close(t[1]);
    CALL(read(p[0], b, 1));
    close(p[0]);
    /* a long chain: each socket in the next one's queue */
    pipe(p);
    int last = p[1];
    for (int i = 0; i < 2000; i++) {
        socketpair(AF_UNIX, SOCK_STREAM, 0, s);
        if (pass(s[0], "x", 1, &last, 1, 0) != 1) { printf("chain: %s\n", strerrorname_np(errno)); break; }
        close(last); close(s[0]);
        last = s[1];
    }
    close(last);
    CALL(read(p[0], b, 1));
    close(p[0]);
    /* another process receives and uses */
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s);
    pipe(p);
    fflush(stdout);
    if (!fork()) {
        char k[64]; struct iovec i = { b, 10 };
        struct msghdr h = { NULL, 0, &i, 1, k, sizeof k, 0 };
        recvmsg(s[1], &h, 0);
        int f; memcpy(&f, CMSG_DATA(CMSG_FIRSTHDR(&h)), sizeof f);
        write(f, "passed", 6);
        _exit(0);
    }
    CALL(pass(s[0], "x", 1, &p[1], 1, 0));
    close(p[1]);
    CALL(read(p[0], b, 10)); printf("%.6s\n", b);
    wait(NULL);
    close(p[0]); close(s[0]); close(s[1]);
}

static long credentials(int fd, int pid, int uid, int length)
{
    char c[CMSG_SPACE(sizeof(struct ucred))] = { 0 };
    struct ucred u = { pid, uid, getgid() };
    struct iovec v = { "cred", 4 };
    struct msghdr m = { NULL, 0, &v, 1, c, sizeof c, 0 };
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET; h->cmsg_type = SCM_CREDENTIALS; h->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(h), &u, sizeof u);
    return sendmsg(fd, &m, 0);
}

static void who(void)
{
    int kinds[] = { SOCK_STREAM, SOCK_DGRAM };
    for (int k = 0; k < 2; k++) {
        int s[2], on = 1;
        socketpair(AF_UNIX, kinds[k], 0, s);
        CALL(send(s[0], "early", 5, 0));
        CALL(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
        CALL(send(s[0], "late", 4, 0));
        receive(s[1], 0, 20); receive(s[1], 0, 20);
        CALL(credentials(s[0], getpid(), getuid(), sizeof(struct ucred)));
        receive(s[1], 0, 20);
        CALL(credentials(s[0], getpid(), getuid(), 11));
        fflush(stdout);
        if (!fork()) { send(s[0], "child", 5, 0); _exit(0); }
        wait(NULL);
        CALL(send(s[0], "parent", 6, 0));
        receive(s[1], 0, 20); receive(s[1], 0, 20);
        char b[10]; struct iovec v = { b, 10 };
        struct msghdr m = { NULL, 0, &v, 1, NULL, 0, 0 };
        send(s[0], "x", 1, 0);
        CALL(recvmsg(s[1], &m, 0)); flags(m.msg_flags);
        char few[20];
        m.msg_control = few; m.msg_controllen = sizeof few;
        send(s[0], "x", 1, 0);
        CALL(recvmsg(s[1], &m, 0)); flags(m.msg_flags); printf("%zu\n", (size_t)m.msg_controllen);
        close(s[0]); close(s[1]);
    }
}

static void several(void)
{
    int s[2];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, s);
    struct iovec v[3] = { { "one", 3 }, { "two2", 4 }, { "three", 5 } };
    struct mmsghdr out[3] = { { { NULL, 0, &v[0], 1 } }, { { NULL, 0, &v[1], 1 } }, { { NULL, 0, &v[2], 1 } } };
    CALL(sendmmsg(s[0], out, 3, 0)); printf("%u %u %u\n", out[0].msg_len, out[1].msg_len, out[2].msg_len);
    char b[4][16] = { { 0 } };
    struct iovec r[4] = { { b[0], 16 }, { b[1], 16 }, { b[2], 2 }, { b[3], 16 } };
    struct mmsghdr in[4] = { { { NULL, 0, &r[0], 1 } }, { { NULL, 0, &r[1], 1 } }, { { NULL, 0, &r[2], 1 } }, { { NULL, 0, &r[3], 1 } } };
    CALL(recvmmsg(s[1], in, 4, MSG_WAITFORONE, NULL));
    printf("%u %u %u %s %s %s\n", in[0].msg_len, in[1].msg_len, in[2].msg_len, b[0], b[1], b[2]);
    flags(in[2].msg_hdr.msg_flags);
    CALL(recvmmsg(s[1], in, 4, MSG_DONTWAIT, NULL));
    struct timespec t = { 0, 2000000000 };
    CALL(recvmmsg(s[1], in, 4, MSG_DONTWAIT, &t));
    CALL(sendmmsg(s[0], out, 0, 0));
    struct msghdr bad = { NULL, 0, v, 2000 };
    CALL(sendmsg(s[0], &bad, 0)); CALL(recvmsg(s[1], &bad, MSG_DONTWAIT));
    CALL(sendmsg(s[0], (void *)8, 0));
    bad.msg_iovlen = 1; bad.msg_name = b; bad.msg_namelen = -1;
    CALL(sendmsg(s[0], &bad, 0));
    bad.msg_name = NULL; bad.msg_namelen = 0; bad.msg_iov = (void *)8;
    CALL(sendmsg(s[0], &bad, 0));
    close(s[0]); close(s[1]);
    /* SO_PEEK_OFF */
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    int zero = 0, now; socklen_t l = sizeof now;
    CALL(setsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof zero));
    send(s[0], "abcdefgh", 8, 0);
    memset(b, 0, sizeof b);
    CALL(recv(s[1], b[0], 3, MSG_PEEK)); CALL(recv(s[1], b[1], 3, MSG_PEEK)); CALL(recv(s[1], b[2], 2, 0));
    getsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &now, &l);
    printf("%s %s %s %d\n", b[0], b[1], b[2], now);
    CALL(recv(s[1], b[3], 10, MSG_PEEK)); printf("%s\n", b[3]);
    close(s[0]); close(s[1]);
}

int main(void)
{
    signal(SIGPIPE, on_pipe);
    datagrams();
    packets();
    rights();
    who();
    several();
    return 0;
}
