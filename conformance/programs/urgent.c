/* Urgent data of TCP: the mark, reading around it, reading it alone and among the others, SIGURG, readiness. */
#define _GNU_SOURCE
#include "report.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>

static volatile int urged;
static void on_urgent(int s) { (void)s; urged++; }
static volatile int inputs;
static void on_input(int s) { (void)s; inputs++; }

static void connected(int *c, int *s)
{
    int l = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = { AF_INET, 0, { htonl(INADDR_LOOPBACK) } };
    socklen_t n = sizeof a;
    bind(l, (void *)&a, n); listen(l, 1); getsockname(l, (void *)&a, &n);
    *c = socket(AF_INET, SOCK_STREAM, 0);
    connect(*c, (void *)&a, n);
    *s = accept(l, NULL, NULL);
    close(l);
}

static void show(const char *what, int s)
{
    int mark = -1, in = -1;
    struct pollfd p = { s, POLLIN | POLLPRI | POLLRDHUP, 0 };
    poll(&p, 1, 20);
    ioctl(s, SIOCATMARK, &mark); ioctl(s, FIONREAD, &in);
    printf("%s: at mark %d, waiting %d%s%s%s\n", what, mark, in, p.revents & POLLIN ? " IN" : "", p.revents & POLLPRI ? " PRI" : "",
           p.revents & POLLRDHUP ? " RDHUP" : "");
}

static void take(const char *what, int s, size_t most, int flags)
{
    char b[100] = { 0 };
    struct iovec v = { b, most };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
    ssize_t n = recvmsg(s, &m, flags | MSG_DONTWAIT);
    if (n < 0) printf("%s: %s\n", what, strerrorname_np(errno));
    else printf("%s: %zd '%.*s'%s%s\n", what, n, (int)n, b, m.msg_flags & MSG_OOB ? " OOB" : "", m.msg_flags & MSG_TRUNC ? " TRUNC" : "");
}

static void alone(void)
{
    int c, s; connected(&c, &s);
    take("nothing urgent", s, 1, MSG_OOB);
    CALL(send(c, "abc", 3, 0)); CALL(send(c, "deX", 3, MSG_OOB)); CALL(send(c, "fg", 2, 0));
    show("sent", s);
    take("peek", s, 10, MSG_PEEK);
    take("peek urgent", s, 1, MSG_OOB | MSG_PEEK);
    take("no room", s, 0, MSG_OOB);
    take("up to the mark", s, 10, 0);
    show("at it", s);
    take("urgent", s, 5, MSG_OOB);
    take("again", s, 5, MSG_OOB);
    show("taken", s);
    take("peek behind", s, 10, MSG_PEEK);
    take("behind", s, 10, 0);
    show("behind it", s);
    take("too late", s, 1, MSG_OOB);
    close(c); close(s);
}

static void only(void)
{
    int c, s; connected(&c, &s);
    CALL(send(c, "U", 1, MSG_OOB));
    show("one urgent byte", s);
    take("the others", s, 10, 0);
    show("after that", s);
    take("urgent", s, 10, MSG_OOB);
    CALL(send(c, "1", 1, MSG_OOB)); usleep(2000);
    CALL(send(c, "2", 1, MSG_OOB)); usleep(2000);
    show("two of them", s);
    take("urgent", s, 10, MSG_OOB);
    take("the others", s, 10, 0);
    CALL(send(c, "xA", 2, MSG_OOB)); usleep(2000);
    CALL(send(c, "yB", 2, MSG_OOB)); usleep(2000);
    show("two with others", s);
    take("first", s, 10, 0);
    take("urgent", s, 10, MSG_OOB);
    take("second", s, 10, 0);
    CALL(send(c, "e", 1, MSG_OOB));
    CALL(shutdown(c, SHUT_WR)); usleep(2000);
    show("the end", s);
    take("the others", s, 10, 0);
    take("urgent", s, 10, MSG_OOB);
    take("the end", s, 10, 0);
    close(c); close(s);
}

static void among_others(void)
{
    int c, s, on = 1; connected(&c, &s);
    CALL(setsockopt(s, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on));
    CALL(send(c, "ab", 2, 0)); CALL(send(c, "cU", 2, MSG_OOB)); CALL(send(c, "de", 2, 0)); usleep(2000);
    show("inline", s);
    take("urgent", s, 1, MSG_OOB);
    take("first", s, 10, 0);
    show("at it", s);
    take("one", s, 1, 0);
    show("behind", s);
    take("rest", s, 10, 0);
    close(c); close(s);
}

static void signalled(void)
{
    int c, s; connected(&c, &s);
    signal(SIGURG, on_urgent);
    CALL(fcntl(s, F_SETOWN, getpid()));
    send(c, "U", 1, MSG_OOB);
    for (int i = 0; i < 200 && !urged; i++) usleep(1000);
    printf("signals: %d\n", urged);
    fd_set r, e; FD_ZERO(&r); FD_ZERO(&e); FD_SET(s, &r); FD_SET(s, &e);
    struct timeval t = { 1, 0 };
    int n = select(s + 1, &r, NULL, &e, &t);
    printf("select: %d %d %d\n", n, !!FD_ISSET(s, &r), !!FD_ISSET(s, &e));
    /* Signal-driven I/O, which has the same owner. */
    signal(SIGIO, on_input);
    int on = 1;
    CALL(ioctl(s, FIOASYNC, &on));
    CALL(!!(fcntl(s, F_GETFL) & O_ASYNC));
    send(c, "x", 1, 0);
    for (int i = 0; i < 200 && !inputs; i++) usleep(1000);
    YES(inputs > 0);
    on = 0; CALL(ioctl(s, FIOASYNC, &on));
    char byte; CALL(recv(s, &byte, 1, 0));
    send(c, "U", 1, MSG_OOB);
    /* What waits is not ended by an urgent byte: that is none of those it waits for. */
    struct timeval soon = { 0, 50000 };
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
    char b[4];
    CALL(recv(s, b, 4, 0));
    CALL(recv(s, b, 4, MSG_OOB));
    int u = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in a = { AF_INET, htons(9), { htonl(INADDR_LOOPBACK) } };
    CALL(sendto(u, "x", 1, MSG_OOB, (void *)&a, sizeof a));
    int fresh = socket(AF_INET, SOCK_STREAM, 0);
    CALL(recv(fresh, b, 1, MSG_OOB));
    int mark; CALL(ioctl(fresh, SIOCATMARK, &mark));
    close(c); close(s);
}

int main(void)
{
    alone();
    only();
    among_others();
    signalled();
}
