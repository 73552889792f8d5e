/* Flags and options of internet sockets that change what one call does: corked and put-off data, several messages a call, low-water
   marks, what a datagram tells of its way, groups of servers at one port, urgent data and addresses of both families. */
#define _GNU_SOURCE
#include "report.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <linux/sockios.h>

static int family;
static union { struct sockaddr a; struct sockaddr_in v4; struct sockaddr_in6 v6; } place;
static socklen_t length;

static int bound(int kind)
{
    int s = socket(family, kind, 0);
    memset(&place, 0, sizeof place);
    place.a.sa_family = family;
    length = family == AF_INET ? sizeof place.v4 : sizeof place.v6;
    if (family == AF_INET) place.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK); else place.v6.sin6_addr = in6addr_loopback;
    if (bind(s, &place.a, length)) perror("bind");
    getsockname(s, &place.a, &length);
    return s;
}

static void connected(int *c, int *s)
{
    int l = bound(SOCK_STREAM);
    listen(l, 5);
    *c = socket(family, SOCK_STREAM, 0);
    if (connect(*c, &place.a, length)) perror("connect");
    *s = accept(l, NULL, NULL);
    close(l);
}

static int readable(int s)
{
    struct pollfd p = { s, POLLIN, 0 };
    return poll(&p, 1, 0);
}

static int number(int s, int level, int name)
{
    int v = -1; socklen_t l = sizeof v;
    return getsockopt(s, level, name, &v, &l) ? -errno : v;
}

static void streams(void)
{
    int c, s, n; char b[64];
    connected(&c, &s);
    CALL(send(c, "abc", 3, MSG_MORE)); CALL(send(c, "def", 3, MSG_DONTROUTE | MSG_CONFIRM)); CALL(recv(s, b, 6, MSG_WAITALL)); printf("%.6s\n", b);
    CALL(send(c, "ghi", 3, 0)); CALL(recv(s, b, 6, MSG_WAITALL | MSG_DONTWAIT));
    struct timeval short_while = { 0, 50000 }; setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &short_while, sizeof short_while);
    CALL(send(c, "jkl", 3, 0)); CALL(recv(s, b, 6, MSG_WAITALL)); CALL(recv(s, b, 6, MSG_WAITALL));
    CALL(ioctl(c, SIOCOUTQ, &n)); printf("not acknowledged %d\n", n); CALL(ioctl(c, SIOCOUTQNSD, &n)); printf("not sent %d\n", n);
    n = 4; CALL(setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &n, sizeof n)); printf("low water %d\n", number(s, SOL_SOCKET, SO_RCVLOWAT));
    send(c, "mno", 3, 0); usleep(1000); printf("three of four: %d\n", readable(s)); CALL(recv(s, b, 10, 0)); send(c, "pqrs", 4, 0); usleep(1000); printf("four of four: %d\n", readable(s)); CALL(recv(s, b, 10, 0));
    n = 1; setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &n, sizeof n);
    CALL(setsockopt(c, IPPROTO_TCP, TCP_CORK, &n, sizeof n)); CALL(write(c, "corked", 6)); n = 0; CALL(setsockopt(c, IPPROTO_TCP, TCP_CORK, &n, sizeof n)); CALL(recv(s, b, 6, MSG_WAITALL));
    struct iovec v[3] = { { "x", 1 }, { "yz", 2 }, { b, 10 } }; struct mmsghdr m[2] = { { { NULL, 0, v, 1 } }, { { NULL, 0, v + 1, 1 } } };
    CALL(sendmmsg(c, m, 2, 0)); printf("%u %u\n", m[0].msg_len, m[1].msg_len);
    m[0] = (struct mmsghdr){ { NULL, 0, v + 2, 1 } }; CALL(recvmmsg(s, m, 1, 0, NULL)); printf("%u\n", m[0].msg_len);
    CALL(send(c, "z", 1, MSG_EOR | MSG_NOSIGNAL)); CALL(recv(s, b, 1, MSG_CMSG_CLOEXEC)); CALL(send(c, "e", 1, MSG_ERRQUEUE)); CALL(recv(s, b, 1, MSG_ERRQUEUE)); CALL(recv(s, b, 9, MSG_DONTWAIT));
    n = 1; CALL(setsockopt(c, SOL_SOCKET, SO_ZEROCOPY, &n, sizeof n)); CALL(send(c, "zero", 4, MSG_ZEROCOPY)); CALL(recv(s, b, 4, MSG_WAITALL)); printf("%.4s\n", b);
    /* urgent data of both families */
    CALL(send(c, "ab!", 3, MSG_OOB)); usleep(1000); CALL(recv(s, b, 9, 0)); CALL(ioctl(s, SIOCATMARK, &n)); printf("at mark %d\n", n); CALL(recv(s, b, 1, MSG_OOB)); printf("%c\n", b[0]); CALL(recv(s, b, 1, MSG_OOB));
    /* a file, to the socket */
    FILE *f = tmpfile(); fputs("of a file", f); fflush(f); off_t at = 3; CALL(sendfile(c, fileno(f), &at, 100)); CALL(recv(s, b, 6, MSG_WAITALL)); printf("%.6s %ld\n", b, (long)at); fclose(f);
    /* an end without linger is a reset */
    struct linger now = { 1, 0 }; CALL(setsockopt(c, SOL_SOCKET, SO_LINGER, &now, sizeof now)); close(c); usleep(1000); CALL(read(s, b, 1)); CALL(read(s, b, 1)); close(s);
    connected(&c, &s); struct linger later = { 1, 5 }; setsockopt(c, SOL_SOCKET, SO_LINGER, &later, sizeof later); CALL(write(c, "left", 4)); CALL(close(c)); CALL(recv(s, b, 9, MSG_WAITALL)); CALL(close(s));
    connected(&c, &s); CALL(sendto(c, "f", 1, MSG_FASTOPEN, &place.a, length)); CALL(send(c, "f", 1, MSG_FASTOPEN));
    /* peeking goes on where it was */
    n = 0; CALL(setsockopt(s, SOL_SOCKET, SO_PEEK_OFF, &n, sizeof n)); CALL(send(c, "0123456789", 10, 0)); CALL(recv(s, b, 4, MSG_PEEK)); CALL(recv(s, b, 4, MSG_PEEK)); printf("%.4s\n", b); CALL(recv(s, b, 6, 0)); CALL(recv(s, b, 4, MSG_PEEK)); printf("%.2s %d\n", b, number(s, SOL_SOCKET, SO_PEEK_OFF)); close(c); close(s);
    /* a connection that sending asks for */
    int l = bound(SOCK_STREAM); listen(l, 5); c = socket(family, SOCK_STREAM, 0); CALL(send(c, "f", 1, MSG_FASTOPEN)); struct sockaddr none = { AF_UNSPEC }; CALL(sendto(c, "f", 1, MSG_FASTOPEN, &none, length));
    CALL(sendto(c, "fast", 4, MSG_FASTOPEN, &place.a, length)); s = accept(l, NULL, NULL); CALL(recv(s, b, 9, 0)); CALL(send(c, "f", 1, MSG_FASTOPEN)); close(c); close(s);
    c = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0); CALL(sendto(c, "fast", 4, MSG_FASTOPEN, &place.a, length)); s = accept(l, NULL, NULL); usleep(1000); CALL(send(c, "now", 3, 0)); CALL(recv(s, b, 9, 0)); close(c); close(s); close(l);
    c = socket(family, SOCK_STREAM, 0); CALL(sendto(c, "fast", 4, MSG_FASTOPEN, &place.a, length)); close(c);
}

static void datagrams(void)
{
    int a = bound(SOCK_DGRAM), b = socket(family, SOCK_DGRAM, 0), n = 1; char t[64];
    CALL(connect(b, &place.a, length));
    CALL(send(b, "one ", 4, MSG_MORE)); printf("put off: %d\n", readable(a)); CALL(send(b, "message", 7, 0)); CALL(recv(a, t, 64, MSG_DONTWAIT)); printf("%.11s\n", t);
    CALL(setsockopt(b, IPPROTO_UDP, UDP_CORK, &n, sizeof n)); printf("cork %d\n", number(b, IPPROTO_UDP, UDP_CORK)); CALL(send(b, "two ", 4, 0)); CALL(write(b, "parts", 5)); CALL(ioctl(b, SIOCOUTQ, &n)); n = 0;
    printf("corked: %d\n", readable(a)); CALL(setsockopt(b, IPPROTO_UDP, UDP_CORK, &n, sizeof n)); CALL(recv(a, t, 64, MSG_DONTWAIT)); printf("%.9s\n", t); CALL(recv(a, t, 64, MSG_DONTWAIT));
    struct iovec v[4] = { { "first", 5 }, { "second", 6 }, { t, 4 }, { t + 8, 20 } }; struct mmsghdr m[3] = { { { NULL, 0, v, 1 } }, { { NULL, 0, v + 1, 1 } }, { { NULL, 0, v, 2 } } };
    CALL(sendmmsg(b, m, 3, MSG_CONFIRM)); printf("%u %u %u\n", m[0].msg_len, m[1].msg_len, m[2].msg_len);
    for (int i = 0; i < 3; i++) m[i] = (struct mmsghdr){ { NULL, 0, v + 2, 1 } };
    CALL(recvmmsg(a, m, 2, MSG_WAITFORONE, NULL)); printf("%u %x, %u %x\n", m[0].msg_len, m[0].msg_hdr.msg_flags, m[1].msg_len, m[1].msg_hdr.msg_flags);
    m[0].msg_hdr.msg_iov = v + 3; struct timespec soon = { 0, 20000000 }; CALL(recvmmsg(a, m, 3, MSG_WAITFORONE, &soon)); printf("%u\n", m[0].msg_len); CALL(recvmmsg(a, m, 3, MSG_DONTWAIT, NULL));
    /* where a datagram came to */
    int level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6; n = 1;
    CALL(setsockopt(a, level, family == AF_INET ? IP_PKTINFO : IPV6_RECVPKTINFO, &n, sizeof n)); if (family == AF_INET) { CALL(setsockopt(a, level, IP_RECVTTL, &n, sizeof n)); CALL(setsockopt(a, level, IP_RECVTOS, &n, sizeof n)); int hops = 33; CALL(setsockopt(b, level, IP_TTL, &hops, sizeof hops)); }
    CALL(send(b, "p", 1, MSG_DONTROUTE)); char c[256]; struct msghdr k = { NULL, 0, v + 3, 1, c, sizeof c }; CALL(recvmsg(a, &k, 0));
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&k); h; h = CMSG_NXTHDR(&k, h)) {
        printf("level %d type %d length %zu", h->cmsg_level, h->cmsg_type, (size_t)h->cmsg_len - CMSG_LEN(0));
        if (h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_PKTINFO) { struct in_pktinfo *i = (void *)CMSG_DATA(h); printf(" %d %s", i->ipi_ifindex, inet_ntoa(i->ipi_spec_dst)); printf(" %s", inet_ntoa(i->ipi_addr)); }
        else if (h->cmsg_level == IPPROTO_IPV6 && h->cmsg_type == IPV6_PKTINFO) { struct in6_pktinfo *i = (void *)CMSG_DATA(h); char x[64]; printf(" %d %s", i->ipi6_ifindex, inet_ntop(AF_INET6, &i->ipi6_addr, x, sizeof x)); }
        else printf(" %d", *CMSG_DATA(h));
        printf("\n");
    }
    CALL(send(b, "o", 1, MSG_OOB)); CALL(recv(a, t, 1, MSG_OOB | MSG_DONTWAIT)); CALL(send(b, "z", 1, MSG_ZEROCOPY)); CALL(recv(a, t, 4, MSG_DONTWAIT)); CALL(send(b, "f", 1, MSG_FASTOPEN)); recv(a, t, 4, MSG_DONTWAIT);
    /* SO_PEEK_OFF moves on */
    n = 0; CALL(setsockopt(a, SOL_SOCKET, SO_PEEK_OFF, &n, sizeof n)); send(b, "0123456789", 10, 0); CALL(recv(a, t, 4, MSG_PEEK)); CALL(recv(a, t, 4, MSG_PEEK)); printf("%.4s %d\n", t, number(a, SOL_SOCKET, SO_PEEK_OFF)); CALL(recv(a, t, 10, 0)); printf("%d\n", number(a, SOL_SOCKET, SO_PEEK_OFF));
    n = -1; setsockopt(a, SOL_SOCKET, SO_PEEK_OFF, &n, sizeof n);
    /* put off for whoever was named first; what is too long together is lost */
    int d = bound(SOCK_DGRAM); CALL(sendto(b, "for d ", 6, MSG_MORE, &place.a, length)); CALL(send(b, "too", 3, 0)); CALL(recv(a, t, 64, MSG_DONTWAIT)); CALL(recv(d, t, 64, MSG_DONTWAIT));
    char *big = calloc(1, 40000); CALL(send(b, big, 40000, MSG_MORE)); CALL(send(b, big, 40000, MSG_MORE)); CALL(send(b, "alone", 5, 0)); CALL(recv(a, t, 64, MSG_DONTWAIT)); free(big);
    CALL(send(b, "never", 5, MSG_MORE)); CALL(close(b)); CALL(recv(a, t, 64, MSG_DONTWAIT)); close(a); close(d);
}

/* Several servers at one port: every connection, and every datagram, goes to one of them, and all of them get some. */
static void group(int kind)
{
    int s[4], on = 1, got[4] = { 0 }, total = 0, served = 0, to[64]; char t[4];
    for (int i = 0; i < 4; i++) {
        s[i] = socket(family, kind, 0); setsockopt(s[i], SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
        if (i == 0) { memset(&place, 0, sizeof place); place.a.sa_family = family; length = family == AF_INET ? sizeof place.v4 : sizeof place.v6; if (family == AF_INET) place.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK); else place.v6.sin6_addr = in6addr_loopback; }
        if (bind(s[i], &place.a, length)) perror("bind");
        if (i == 0) getsockname(s[0], &place.a, &length);
        if (kind == SOCK_STREAM) listen(s[i], 64);
        fcntl(s[i], F_SETFL, O_NONBLOCK);
    }
    for (int i = 0; i < 64; i++) {
        to[i] = socket(family, kind, 0);
        if (connect(to[i], &place.a, length)) perror("connect");
        if (kind == SOCK_DGRAM) send(to[i], "x", 1, 0);
    }
    usleep(10000);
    for (int i = 0; i < 4; i++) {
        for (int a; (a = kind == SOCK_STREAM ? accept(s[i], NULL, NULL) : (int)recv(s[i], t, 1, 0)) >= 0; total++) { got[i]++; if (kind == SOCK_STREAM) close(a); }
        served += got[i] > 0;
    }
    printf("group of kind %d: %d, by %d\n", kind, total, served);
    for (int i = 0; i < 64; i++) close(to[i]);
    for (int i = 0; i < 4; i++) close(s[i]);
}

int main(void)
{
    int families[] = { AF_INET, AF_INET6 };
    for (int i = 0; i < 2; i++) {
        family = families[i];
        printf("family %d\n", family);
        streams(); datagrams(); group(SOCK_STREAM); group(SOCK_DGRAM);
    }
    return 0;
}
