/* IP_RECVERR and MSG_ERRQUEUE: datagrams that nobody takes come back. */
#define _GNU_SOURCE
#include "report.h"
#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

static int unused(int family)
{
    int s = socket(family, SOCK_DGRAM, 0);
    struct sockaddr_in6 a = { family }; socklen_t n = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof a;
    bind(s, (void *)&a, n); getsockname(s, (void *)&a, &n);
    close(s);
    return ntohs(a.sin6_port);
}

static void events(const char *what, int s)
{
    struct pollfd p = { s, POLLIN | POLLPRI, 0 };
    poll(&p, 1, 20);
    printf("%s:%s%s%s\n", what, p.revents & POLLIN ? " IN" : "", p.revents & POLLPRI ? " PRI" : "", p.revents & POLLERR ? " ERR" : "");
}

static void take(int s, size_t most)
{
    char b[100], control[512], text[64];
    struct sockaddr_in6 from = { 0 };
    struct iovec v = { b, most };
    struct msghdr m = { &from, sizeof from, &v, 1, control, sizeof control, 0 };
    ssize_t n = recvmsg(s, &m, MSG_ERRQUEUE);
    if (n < 0) { printf("error queue: %s\n", strerrorname_np(errno)); return; }
    struct sockaddr_in *i = (void *)&from;
    inet_ntop(from.sin6_family, from.sin6_family == AF_INET ? (void *)&i->sin_addr : (void *)&from.sin6_addr, text, sizeof text);
    printf("error queue: %zd '%.*s' to %s, name %u,%s%s\n", n, (int)n, b, text, m.msg_namelen, m.msg_flags & MSG_ERRQUEUE ? " ERRQUEUE" : "",
           m.msg_flags & MSG_TRUNC ? " TRUNC" : "");
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        struct sock_extended_err *e = (void *)CMSG_DATA(c);
        struct sockaddr_in *o = (void *)SO_EE_OFFENDER(e);
        inet_ntop(o->sin_family, o->sin_family == AF_INET ? (void *)&o->sin_addr : (void *)&((struct sockaddr_in6 *)o)->sin6_addr, text, sizeof text);
        printf("  level %d type %d length %zu: %s origin %d type %d code %d info %u data %u by %s port %d\n", c->cmsg_level, c->cmsg_type,
               (size_t)c->cmsg_len, strerrorname_np(e->ee_errno), e->ee_origin, e->ee_type, e->ee_code, e->ee_info, e->ee_data, text, ntohs(o->sin_port));
    }
}

static void with(int family)
{
    int s = socket(family, SOCK_DGRAM, 0), on = 1, e; char b[10];
    struct sockaddr_in a = { AF_INET, htons(unused(AF_INET)), { htonl(INADDR_LOOPBACK) } };
    struct sockaddr_in6 a6 = { AF_INET6, htons(unused(AF_INET6)), 0, IN6ADDR_LOOPBACK_INIT, 0 };
    struct sockaddr *to = family == AF_INET ? (void *)&a : (void *)&a6;
    socklen_t n = family == AF_INET ? sizeof a : sizeof a6, l = sizeof e;
    CALL(sendto(s, "quiet", 5, 0, to, n));
    usleep(2000); events("unconnected", s);
    take(s, 100);
    CALL(setsockopt(s, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, family == AF_INET ? IP_RECVERR : IPV6_RECVERR, &on, sizeof on));
    CALL(sendto(s, "hello", 5, 0, to, n));
    usleep(2000); events("asked for", s);
    take(s, 100);
    events("taken", s);
    take(s, 100);
    CALL(sendto(s, "again", 5, 0, to, n)); usleep(2000);
    CALL(sendto(s, "once more", 9, 0, to, n)); usleep(2000);
    CALL(recv(s, b, 10, MSG_DONTWAIT));
    CALL(recv(s, b, 10, MSG_DONTWAIT));
    take(s, 3);
    getsockopt(s, SOL_SOCKET, SO_ERROR, &e, &l);
    printf("SO_ERROR %s\n", e ? strerrorname_np(e) : "none");
    events("left", s);
    CALL(setsockopt(s, SOL_SOCKET, SO_SELECT_ERR_QUEUE, &on, sizeof on));
    CALL(sendto(s, "third", 5, 0, to, n)); usleep(2000);
    events("selected", s);
    close(s);
}

int main(void)
{
    with(AF_INET);
    with(AF_INET6);
    int t = socket(AF_INET, SOCK_STREAM, 0); char b[4];
    CALL(recv(t, b, 4, MSG_ERRQUEUE));
    int p[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, p);
    CALL(recv(p[0], b, 4, MSG_ERRQUEUE | MSG_DONTWAIT));
}
