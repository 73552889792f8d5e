/* SO_TIMESTAMP and SO_TIMESTAMPNS of datagrams. */
#define _GNU_SOURCE
#include "report.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

static void take(const char *what, int s)
{
    char b[10], control[256];
    struct iovec v = { b, sizeof b };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    ssize_t n = recvmsg(s, &m, 0);
    printf("%s: %zd", what, n);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        long *words = (void *)CMSG_DATA(c);
        long most = c->cmsg_type == SCM_TIMESTAMP ? 1000000 : 1000000000;
        printf(", level %d type %d length %zu%s%s", c->cmsg_level, c->cmsg_type, (size_t)c->cmsg_len,
               labs(words[0] - time(NULL)) < 3 ? " now" : " then", words[1] >= 0 && words[1] < most ? "" : " out of range");
    }
    printf("\n");
}

static void with(int r, int s)
{
    int on = 1, off = 0, got; socklen_t l = sizeof got;
    send(s, "a", 1, 0); take("off", r);
    CALL(setsockopt(r, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on));
    send(s, "b", 1, 0); take("microseconds", r);
    CALL(setsockopt(r, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on));
    CALL(getsockopt(r, SOL_SOCKET, SO_TIMESTAMP, &got, &l)); printf("SO_TIMESTAMP %d\n", got);
    send(s, "c", 1, 0); take("nanoseconds", r);
    CALL(setsockopt(r, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on));
    CALL(getsockopt(r, SOL_SOCKET, SO_TIMESTAMPNS, &got, &l)); printf("SO_TIMESTAMPNS %d\n", got);
    send(s, "d", 1, 0); take("microseconds again", r);
    CALL(setsockopt(r, SOL_SOCKET, SO_TIMESTAMP, &off, sizeof off));
    send(s, "e", 1, 0); take("off", r);
}

int main(void)
{
    int r = socket(AF_INET, SOCK_DGRAM, 0), s = socket(AF_INET, SOCK_DGRAM, 0), p[2];
    struct sockaddr_in a = { AF_INET, 0, { htonl(INADDR_LOOPBACK) } };
    socklen_t l = sizeof a;
    bind(r, (void *)&a, l); getsockname(r, (void *)&a, &l); connect(s, (void *)&a, l);
    with(r, s);
    socketpair(AF_UNIX, SOCK_DGRAM, 0, p);
    with(p[0], p[1]);
}
