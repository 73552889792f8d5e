/* TCP and UDP on the loopback interface: names, connections, ends, resets, readiness, options, errors. */
#define _GNU_SOURCE
#include "report.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

static void events(const char *what, int fd)
{
    struct pollfd p = { fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0 };
    int n = poll(&p, 1, 0);
    printf("%s: %d%s%s%s%s%s\n", what, n, p.revents & POLLIN ? " IN" : "", p.revents & POLLOUT ? " OUT" : "",
           p.revents & POLLRDHUP ? " RDHUP" : "", p.revents & POLLHUP ? " HUP" : "", p.revents & POLLERR ? " ERR" : "");
}

static void errors(int fd)
{
    int e; socklen_t l = sizeof e;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &l);
    printf("SO_ERROR %s\n", e ? strerrorname_np(e) : "none");
}

static volatile int pipes;
static void on_pipe(int s) { (void)s; pipes++; }

static struct sockaddr_in v4(const char *ip, int port)
{
    struct sockaddr_in a = { AF_INET, htons(port) };
    inet_pton(AF_INET, ip, &a.sin_addr);
    return a;
}

static struct sockaddr_in6 v6(const char *ip, int port)
{
    struct sockaddr_in6 a = { AF_INET6, htons(port) };
    inet_pton(AF_INET6, ip, &a.sin6_addr);
    return a;
}

static int port_of(int fd)
{
    struct sockaddr_storage a; socklen_t l = sizeof a;
    getsockname(fd, (void *)&a, &l);
    return ntohs(((struct sockaddr_in *)&a)->sin_port);
}

static void show(const char *what, int (*get)(int, struct sockaddr *, socklen_t *), int fd, int expected)
{
    struct sockaddr_storage a; socklen_t l = sizeof a; char text[64];
    if (get(fd, (void *)&a, &l)) { printf("%s: %s\n", what, strerrorname_np(errno)); return; }
    struct sockaddr_in *i = (void *)&a; struct sockaddr_in6 *j = (void *)&a;
    inet_ntop(a.ss_family, a.ss_family == AF_INET ? (void *)&i->sin_addr : (void *)&j->sin6_addr, text, sizeof text);
    int port = ntohs(i->sin_port);
    printf("%s: length %u %s port %s\n", what, l, text, port == 0 ? "0" : port == expected ? "as expected" : "some");
}

#define V4(ip, port) (struct sockaddr *)&(struct sockaddr_in){ v4(ip, port).sin_family, v4(ip, port).sin_port, v4(ip, port).sin_addr }, sizeof(struct sockaddr_in)

static int listening(int family, const char *ip, int backlog)
{
    int s = socket(family, SOCK_STREAM, 0);
    struct sockaddr_in a = { 0 }; struct sockaddr_in6 b = { 0 };
    if (family == AF_INET) a = v4(ip, 0); else b = v6(ip, 0);
    if (bind(s, family == AF_INET ? (void *)&a : (void *)&b, family == AF_INET ? sizeof a : sizeof b) || listen(s, backlog)) perror("listening");
    return s;
}

static void connected(int *c, int *s)
{
    int l = listening(AF_INET, "127.0.0.1", 5);
    *c = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = v4("127.0.0.1", port_of(l));
    if (connect(*c, (void *)&a, sizeof a)) perror("connect");
    *s = accept(l, NULL, NULL);
    close(l);
}

static void basics(void)
{
    char b[100];
    int s = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    events("fresh", s);
    show("fresh", getsockname, s, 0); show("fresh peer", getpeername, s, 0);
    CALL(read(s, b, 1)); pipes = 0; CALL(write(s, b, 1)); printf("SIGPIPE %d\n", pipes);
    CALL(accept(s, NULL, NULL)); int alone = socket(AF_INET, SOCK_STREAM, 0); CALL(shutdown(alone, SHUT_RDWR)); events("shut alone", alone); close(alone);
    struct sockaddr_in a = v4("127.0.0.1", 0);
    CALL(bind(s, (void *)&a, 15)); CALL(bind(s, (void *)&a, 2));
    a.sin_family = AF_INET6; CALL(bind(s, (void *)&a, sizeof a));
    a.sin_family = AF_INET;
    struct sockaddr_in far = v4("10.1.2.3", 80);
    CALL(bind(s, (void *)&far, sizeof far));
    CALL(bind(s, (void *)&a, sizeof a)); CALL(bind(s, (void *)&a, sizeof a));
    int port = port_of(s);
    show("bound", getsockname, s, port);
    a.sin_port = htons(port);
    CALL(connect(c, (void *)&a, sizeof a)); errors(c); events("refused", c);
    CALL(listen(s, 5)); CALL(listen(s, 6)); events("listening", s);
    int d = socket(AF_INET, SOCK_STREAM, 0);
    CALL(bind(d, (void *)&a, sizeof a));
    CALL(connect(d, (void *)&a, 4)); 
    CALL(connect(d, (void *)&a, sizeof a));
    show("client", getsockname, d, 0); show("client's peer", getpeername, d, port);
    events("client", d); events("listening", s);
    struct sockaddr_in p; socklen_t l = sizeof p;
    int x = accept4(s, (void *)&p, &l, SOCK_NONBLOCK | SOCK_CLOEXEC);
    printf("accepted from %s, length %u, port as client's %d\n", inet_ntoa(p.sin_addr), l, ntohs(p.sin_port) == port_of(d));
    show("accepted", getsockname, x, port); show("accepted's peer", getpeername, x, port_of(d));
    CALL(connect(d, (void *)&a, sizeof a)); CALL(bind(d, (void *)&a, sizeof a)); CALL(listen(d, 1));
    CALL(connect(s, (void *)&a, sizeof a)); CALL(read(s, b, 1)); CALL(accept(d, NULL, NULL));
    CALL(read(x, b, 1));
    CALL(write(d, "hello", 5)); CALL(recv(x, b, 100, MSG_PEEK)); int n; CALL(ioctl(x, FIONREAD, &n)); printf("%d\n", n);
    events("with data", x);
    l = sizeof p;
    CALL(recvfrom(x, b, 3, 0, (void *)&p, &l)); printf("%u\n", l);
    CALL(recv(x, b, 100, MSG_TRUNC));
    CALL(sendto(x, "to", 2, 0, (void *)&far, sizeof far)); CALL(read(d, b, 10));
    CALL(shutdown(d, SHUT_WR)); events("shut", d); events("its peer", x);
    CALL(read(x, b, 1)); CALL(write(x, "still", 5)); CALL(read(d, b, 10)); pipes = 0; CALL(write(d, "x", 1)); printf("SIGPIPE %d\n", pipes);
    CALL(close(x)); events("both ended", d); CALL(read(d, b, 10)); show("ended", getpeername, d, 0); CALL(shutdown(d, SHUT_RD));
    close(d); close(c); close(s);
    CALL(socket(AF_INET, SOCK_STREAM, 17)); CALL(socket(AF_INET, SOCK_SEQPACKET, 0)); CALL(socket(AF_INET, SOCK_DGRAM, 6));
    CALL(socket(AF_INET, 20, 0)); CALL(socket(AF_INET, SOCK_STREAM, 300)); CALL(socketpair(AF_INET, SOCK_STREAM, 0, (int[2]){ 0 }));
    CALL(socket(AF_IPX, SOCK_DGRAM, 0)); CALL(socket(200, SOCK_DGRAM, 0));
}

static void ends(void)
{
    int c, s; char b[10];
    connected(&c, &s);
    close(s); events("peer closed", c); CALL(read(c, b, 1)); show("peer closed", getpeername, c, 0);
    CALL(send(c, "x", 1, MSG_NOSIGNAL)); usleep(20000); events("written to a closed peer", c);
    pipes = 0; CALL(send(c, "x", 1, 0)); printf("SIGPIPE %d\n", pipes); errors(c); CALL(read(c, b, 1)); close(c);
    connected(&c, &s);
    write(c, "unread", 6); write(s, "data", 4); usleep(10000); close(s); events("reset", c);
    CALL(read(c, b, 2)); CALL(read(c, b, 10)); CALL(read(c, b, 10)); CALL(read(c, b, 10)); pipes = 0; CALL(write(c, "x", 1)); printf("SIGPIPE %d\n", pipes); close(c);
    connected(&c, &s);
    struct linger g = { 1, 0 }; setsockopt(s, SOL_SOCKET, SO_LINGER, &g, sizeof g); close(s); events("lingerless", c);
    errors(c); CALL(read(c, b, 1)); CALL(send(c, "x", 1, MSG_NOSIGNAL)); close(c);
    connected(&c, &s);
    CALL(shutdown(c, SHUT_RD)); events("shut for reading", c); CALL(read(c, b, 1)); CALL(write(s, "x", 1)); usleep(10000); CALL(read(c, b, 1)); CALL(write(c, "y", 1)); CALL(read(s, b, 1)); close(c); close(s);
    connected(&c, &s);
    struct sockaddr u = { AF_UNSPEC }; CALL(connect(c, &u, sizeof u)); usleep(10000); events("dissolved", s); CALL(read(s, b, 1)); show("dissolved", getpeername, c, 0); events("dissolved", c); close(c); close(s);
    /* a listening socket that goes */
    int l = listening(AF_INET, "127.0.0.1", 5);
    struct sockaddr_in a = v4("127.0.0.1", port_of(l));
    c = socket(AF_INET, SOCK_STREAM, 0); connect(c, (void *)&a, sizeof a); close(l); usleep(10000); events("never accepted", c); CALL(read(c, b, 1)); close(c);
    l = listening(AF_INET, "127.0.0.1", 5); CALL(shutdown(l, SHUT_RD)); events("no more", l); CALL(accept(l, NULL, NULL)); close(l);
}

static void without_waiting(void)
{
    int l = listening(AF_INET, "127.0.0.1", 5), port = port_of(l);
    struct sockaddr_in a = v4("127.0.0.1", port);
    int c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CALL(connect(c, (void *)&a, sizeof a));
    struct pollfd p = { c, POLLOUT, 0 };
    CALL(poll(&p, 1, 1000)); errors(c); CALL(connect(c, (void *)&a, sizeof a)); CALL(connect(c, (void *)&a, sizeof a));
    close(c); close(l);
    c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CALL(connect(c, (void *)&a, sizeof a)); CALL(poll(&p, 1, 1000)); events("refused", c); errors(c); events("told", c);
    CALL(connect(c, (void *)&a, sizeof a)); CALL(connect(c, (void *)&a, sizeof a));
    close(c);
    int e = epoll_create1(0); struct epoll_event v = { EPOLLIN | EPOLLET, { .fd = 1 } };
    l = listening(AF_INET, "127.0.0.1", 5); epoll_ctl(e, EPOLL_CTL_ADD, l, &v);
    a = v4("127.0.0.1", port_of(l)); c = socket(AF_INET, SOCK_STREAM, 0);
    CALL(epoll_wait(e, &v, 1, 0)); connect(c, (void *)&a, sizeof a); CALL(epoll_wait(e, &v, 1, 1000)); CALL(epoll_wait(e, &v, 1, 0));
    int s = accept(l, NULL, NULL); v.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET; epoll_ctl(e, EPOLL_CTL_ADD, s, &v);
    CALL(epoll_wait(e, &v, 1, 1000)); printf("%x\n", v.events); write(c, "x", 1); CALL(epoll_wait(e, &v, 1, 1000)); printf("%x\n", v.events);
    close(c); CALL(epoll_wait(e, &v, 1, 1000)); printf("%x\n", v.events); close(s); close(l); close(e);
    struct timeval t = { 0, 30000 }; char b[1];
    connected(&c, &s); setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t); CALL(read(c, b, 1)); close(c); close(s);
    /* a full queue: the third waits for the first to be accepted */
    l = listening(AF_INET, "127.0.0.1", 0); a = v4("127.0.0.1", port_of(l));
    int c1 = socket(AF_INET, SOCK_STREAM, 0), c2 = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CALL(connect(c1, (void *)&a, sizeof a)); CALL(connect(c2, (void *)&a, sizeof a)); usleep(10000); events("no place", c2); CALL(connect(c2, (void *)&a, sizeof a));
    close(accept(l, NULL, NULL)); p.fd = c2; CALL(poll(&p, 1, 5000)); s = accept(l, NULL, NULL); errors(c2); close(s); close(c1); close(c2); close(l);
}

static void both_families(void)
{
    int l = listening(AF_INET6, "::", 5), port = port_of(l), x; char b[10];
    struct sockaddr_in a = v4("127.0.0.1", port); struct sockaddr_in6 a6 = v6("::1", port), mapped = v6("::ffff:127.0.0.1", port);
    int c = socket(AF_INET, SOCK_STREAM, 0); CALL(connect(c, (void *)&a, sizeof a)); x = accept(l, NULL, NULL); show("v4 at v6", getpeername, x, port_of(c)); show("v4 at v6", getsockname, x, port); close(c); close(x);
    c = socket(AF_INET6, SOCK_STREAM, 0); CALL(connect(c, (void *)&a6, sizeof a6)); x = accept(l, NULL, NULL); show("v6", getpeername, x, port_of(c)); show("v6", getsockname, x, port); CALL(write(c, "6", 1)); CALL(read(x, b, 1)); close(c); close(x);
    c = socket(AF_INET6, SOCK_STREAM, 0); CALL(connect(c, (void *)&mapped, sizeof mapped)); x = accept(l, NULL, NULL); show("mapped", getpeername, c, port); show("mapped", getsockname, x, port); close(c); close(x);
    c = socket(AF_INET, SOCK_STREAM, 0); CALL(bind(c, (void *)&a, sizeof a)); close(c);
    c = socket(AF_INET, SOCK_STREAM, 0); CALL(connect(c, (void *)&a6, sizeof a6)); close(c);
    c = socket(AF_INET6, SOCK_STREAM, 0); CALL(connect(c, (void *)&a, sizeof a)); CALL(connect(c, (void *)&a6, 20)); close(c); close(l);
    int on = 1; l = socket(AF_INET6, SOCK_STREAM, 0); CALL(setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on)); struct sockaddr_in6 any = v6("::", 0); bind(l, (void *)&any, sizeof any); CALL(setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on)); listen(l, 1);
    a.sin_port = htons(port_of(l)); c = socket(AF_INET, SOCK_STREAM, 0); CALL(connect(c, (void *)&a, sizeof a)); close(c);
    c = socket(AF_INET, SOCK_STREAM, 0); CALL(bind(c, (void *)&a, sizeof a)); close(c); close(l);
    /* wildcard as a destination */
    l = listening(AF_INET, "0.0.0.0", 5); a = v4("0.0.0.0", port_of(l)); c = socket(AF_INET, SOCK_STREAM, 0); CALL(connect(c, (void *)&a, sizeof a)); show("wildcard", getpeername, c, port_of(l)); close(c);
    a = v4("127.5.6.7", port_of(l)); c = socket(AF_INET, SOCK_STREAM, 0); CALL(connect(c, (void *)&a, sizeof a)); show("127.5.6.7", getpeername, c, port_of(l)); show("from", getsockname, c, 0); x = accept(l, NULL, NULL); show("accepted", getsockname, x, port_of(l)); close(x); close(c); close(l);
}

static void sharing(void)
{
    int a = socket(AF_INET, SOCK_STREAM, 0), b = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in p = v4("127.0.0.1", 0); bind(a, (void *)&p, sizeof p); p.sin_port = htons(port_of(a));
    setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); CALL(bind(b, (void *)&p, sizeof p)); setsockopt(b, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    CALL(bind(b, (void *)&p, sizeof p)); CALL(listen(a, 1)); CALL(listen(b, 1)); close(a); CALL(listen(b, 1)); close(b);
    a = socket(AF_INET, SOCK_STREAM, 0); b = socket(AF_INET, SOCK_STREAM, 0); CALL(setsockopt(a, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on)); setsockopt(b, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    p.sin_port = 0; bind(a, (void *)&p, sizeof p); p.sin_port = htons(port_of(a)); CALL(bind(b, (void *)&p, sizeof p)); CALL(listen(a, 1)); CALL(listen(b, 1)); close(a); close(b);
    struct sockaddr_in other = v4("127.0.0.2", 0); a = socket(AF_INET, SOCK_STREAM, 0); b = socket(AF_INET, SOCK_STREAM, 0); p.sin_port = 0; bind(a, (void *)&p, sizeof p); other.sin_port = htons(port_of(a)); CALL(bind(b, (void *)&other, sizeof other)); close(a); close(b);
}

static void number(int s, int level, int name)
{
    int v = -1; socklen_t l = sizeof v;
    if (getsockopt(s, level, name, &v, &l)) printf("option %d %d: %s\n", level, name, strerrorname_np(errno));
    else printf("option %d %d = %d (%u)\n", level, name, v, l);
}

static void options(void)
{
    int s = socket(AF_INET, SOCK_STREAM, 0), v;
    number(s, SOL_SOCKET, SO_TYPE); number(s, SOL_SOCKET, SO_DOMAIN); number(s, SOL_SOCKET, SO_PROTOCOL); number(s, SOL_SOCKET, SO_KEEPALIVE);
    number(s, SOL_SOCKET, SO_REUSEADDR); number(s, SOL_SOCKET, SO_ACCEPTCONN); number(s, SOL_SOCKET, SO_RCVBUF); number(s, SOL_SOCKET, SO_SNDBUF);
    int tcp[] = { TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_CORK, TCP_USER_TIMEOUT, TCP_FASTOPEN, 999 };
    for (unsigned i = 0; i < sizeof tcp / sizeof *tcp; i++) number(s, IPPROTO_TCP, tcp[i]);
    int set[] = { TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT, TCP_QUICKACK, TCP_DEFER_ACCEPT };
    for (unsigned i = 0; i < sizeof set / sizeof *set; i++) { v = 30; CALL(setsockopt(s, IPPROTO_TCP, set[i], &v, sizeof v)); if (i < 5) number(s, IPPROTO_TCP, set[i]); }
    v = 0; CALL(setsockopt(s, IPPROTO_TCP, TCP_KEEPIDLE, &v, sizeof v)); v = 1; CALL(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &v, 2)); CALL(setsockopt(s, IPPROTO_TCP, 999, &v, sizeof v));
    number(s, IPPROTO_IP, IP_TTL); number(s, IPPROTO_IP, IP_TOS); v = 10; CALL(setsockopt(s, IPPROTO_IP, IP_TTL, &v, sizeof v)); number(s, IPPROTO_IP, IP_TTL); v = 300; CALL(setsockopt(s, IPPROTO_IP, IP_TTL, &v, sizeof v));
    number(s, IPPROTO_IPV6, IPV6_V6ONLY); number(s, 12345, 1); CALL(setsockopt(s, 12345, 1, &v, sizeof v)); CALL(setsockopt(s, SOL_SOCKET, SO_PASSCRED, &v, sizeof v)); CALL(setsockopt(s, SOL_SOCKET, SO_PEEK_OFF, &v, sizeof v));
    char name[16] = { 0 }; socklen_t l = sizeof name; CALL(setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "none such", 9)); CALL(getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, name, &l));
    close(s);
    int c; connected(&c, &s); struct tcp_info i = { 0 }; l = sizeof i; CALL(getsockopt(c, IPPROTO_TCP, TCP_INFO, &i, &l)); printf("state %d\n", i.tcpi_state); shutdown(c, SHUT_WR); usleep(10000); l = sizeof i; getsockopt(s, IPPROTO_TCP, TCP_INFO, &i, &l); printf("state %d\n", i.tcpi_state); close(c); close(s);
    s = socket(AF_INET6, SOCK_DGRAM, 0); number(s, IPPROTO_IPV6, IPV6_V6ONLY); number(s, IPPROTO_IPV6, IPV6_UNICAST_HOPS); number(s, SOL_SOCKET, SO_PROTOCOL); number(s, SOL_SOCKET, SO_RCVBUF); number(s, SOL_SOCKET, SO_SNDBUF); close(s);
}

static void datagrams(void)
{
    int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0); char t[64]; struct sockaddr_in p = v4("127.0.0.1", 0), from; socklen_t l;
    events("fresh", a); show("fresh", getsockname, a, 0); CALL(send(a, "x", 1, 0)); CALL(recv(a, t, 1, MSG_DONTWAIT)); CALL(listen(a, 1)); CALL(accept(a, NULL, NULL)); CALL(shutdown(a, SHUT_RD)); close(a); a = socket(AF_INET, SOCK_DGRAM, 0);
    CALL(bind(a, (void *)&p, sizeof p)); CALL(bind(a, (void *)&p, sizeof p)); p.sin_port = htons(port_of(a)); CALL(bind(b, (void *)&p, sizeof p));
    CALL(sendto(b, "hello", 5, 0, (void *)&p, sizeof p)); CALL(sendto(b, "", 0, 0, (void *)&p, sizeof p)); CALL(sendto(b, "third", 5, 0, (void *)&p, sizeof p)); show("sender", getsockname, b, 0);
    int n; CALL(ioctl(a, FIONREAD, &n)); printf("%d\n", n); events("with data", a); l = sizeof from; CALL(recvfrom(a, t, 3, MSG_PEEK | MSG_TRUNC, (void *)&from, &l)); printf("%s %u %d\n", inet_ntoa(from.sin_addr), l, ntohs(from.sin_port) == port_of(b));
    struct iovec v = { t, 2 }; struct msghdr m = { &from, sizeof from, &v, 1 }; CALL(recvmsg(a, &m, 0)); printf("%x %u\n", m.msg_flags, m.msg_namelen); CALL(recv(a, t, 10, 0)); CALL(read(a, t, 10)); CALL(recv(a, t, 10, MSG_DONTWAIT));
    CALL(connect(b, (void *)&p, sizeof p)); show("connected", getsockname, b, 0); show("connected", getpeername, b, port_of(a)); CALL(write(b, "w", 1)); CALL(read(a, t, 10));
    l = sizeof from; getsockname(b, (void *)&from, &l); CALL(sendto(a, "back", 4, 0, (void *)&from, l)); CALL(recv(b, t, 10, 0)); int x = socket(AF_INET, SOCK_DGRAM, 0); CALL(sendto(x, "stranger", 8, 0, (void *)&from, l)); CALL(recv(b, t, 10, MSG_DONTWAIT)); close(x);
    char *big = calloc(1, 70000); CALL(send(b, big, 65507, 0)); CALL(recv(a, big, 70000, 0)); CALL(send(b, big, 65508, 0)); free(big);
    close(a); CALL(send(b, "x", 1, 0)); usleep(10000); events("nobody there", b); CALL(send(b, "x", 1, 0)); CALL(send(b, "x", 1, 0)); usleep(10000); CALL(recv(b, t, 1, MSG_DONTWAIT)); CALL(recv(b, t, 1, MSG_DONTWAIT));
    struct sockaddr u = { AF_UNSPEC }; CALL(connect(b, &u, sizeof u)); show("dissolved", getpeername, b, 0); show("dissolved", getsockname, b, 0); CALL(sendto(b, "x", 1, 0, (void *)&p, sizeof p)); usleep(10000); errors(b); p.sin_port = 0; CALL(sendto(b, "x", 1, 0, (void *)&p, sizeof p)); CALL(sendto(b, "x", 1, 0, (void *)&p, 5)); p.sin_family = AF_UNIX; CALL(sendto(b, "x", 1, 0, (void *)&p, sizeof p)); p = v4("255.255.255.255", 9); CALL(sendto(b, "x", 1, 0, (void *)&p, sizeof p)); close(b);
    int on = 1; a = socket(AF_INET, SOCK_DGRAM, 0); b = socket(AF_INET, SOCK_DGRAM, 0); setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); setsockopt(b, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); p = v4("127.0.0.1", 0); bind(a, (void *)&p, sizeof p); p.sin_port = htons(port_of(a)); CALL(bind(b, (void *)&p, sizeof p)); close(a); close(b);
    a = socket(AF_INET6, SOCK_DGRAM, 0); struct sockaddr_in6 q = v6("::", 0); CALL(bind(a, (void *)&q, sizeof q)); b = socket(AF_INET, SOCK_DGRAM, 0); p = v4("127.0.0.1", port_of(a)); CALL(sendto(b, "four", 4, 0, (void *)&p, sizeof p)); setsockopt(a, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on); struct sockaddr_in6 g; char c[128]; struct msghdr k = { &g, sizeof g, &v, 1, c, sizeof c };
    CALL(recvmsg(a, &k, 0)); inet_ntop(AF_INET6, &g.sin6_addr, t, sizeof t); printf("%s %u %zu\n", t, k.msg_namelen, (size_t)k.msg_controllen); close(a); close(b);
    /* hop limit and traffic class, as options and with a message */
    a = socket(AF_INET6, SOCK_DGRAM, 0); b = socket(AF_INET6, SOCK_DGRAM, 0); q = v6("::1", 0); bind(a, (void *)&q, sizeof q); q.sin6_port = htons(port_of(a));
    CALL(setsockopt(a, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof on)); CALL(setsockopt(a, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof on)); int hops = 17; CALL(setsockopt(b, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &hops, sizeof hops)); CALL(sendto(b, "h", 1, 0, (void *)&q, sizeof q));
    for (int i = 0; i < 3; i++) {
        k = (struct msghdr){ NULL, 0, &v, 1, c, sizeof c }; CALL(recvmsg(a, &k, 0));
        for (struct cmsghdr *h = CMSG_FIRSTHDR(&k); h; h = CMSG_NXTHDR(&k, h)) { int n; memcpy(&n, CMSG_DATA(h), sizeof n); printf("type %d = %d\n", h->cmsg_type, n); }
        if (i == 2) break;
        struct { struct cmsghdr h; int n; int pad; } one = { { CMSG_LEN(sizeof(int)), IPPROTO_IPV6, IPV6_HOPLIMIT }, i ? -1 : 99 }; struct msghdr m1 = { &q, sizeof q, &v, 1, &one, sizeof one }; CALL(sendmsg(b, &m1, 0));
    }
    close(a); close(b); a = socket(AF_INET, SOCK_DGRAM, 136); CALL(a >= 0); close(a);
}

static void *echo(void *argument)
{
    int fd = (int)(long)argument; char b[8192]; long n;
    while ((n = read(fd, b, sizeof b)) > 0) for (long done = 0; done < n;) done += write(fd, b + done, n - done);
    close(fd); return NULL;
}

static void volume(void)
{
    int c, s; connected(&c, &s); pthread_t t; pthread_create(&t, NULL, echo, (void *)(long)s); fflush(stdout);
    if (!fork()) { close(s); unsigned char b[5000]; unsigned x = 1; for (int i = 0; i < 400; i++) { for (unsigned j = 0; j < sizeof b; j++) b[j] = x = x * 69069 + 1; for (unsigned d = 0; d < sizeof b;) d += write(c, b + d, sizeof b - d); } shutdown(c, SHUT_WR); _exit(0); }
    unsigned char b[3333]; unsigned x = 1; long total = 0, wrong = 0, n; while ((n = read(c, b, sizeof b)) > 0) { for (long j = 0; j < n; j++) wrong += b[j] != (unsigned char)(x = x * 69069 + 1); total += n; }
    printf("echoed %ld, wrong %ld\n", total, wrong); wait(NULL); pthread_join(t, NULL); close(c);
}

int main(void)
{
    signal(SIGPIPE, on_pipe);
    basics(); ends(); without_waiting(); both_families(); sharing(); options(); datagrams(); volume();
    return 0;
}
