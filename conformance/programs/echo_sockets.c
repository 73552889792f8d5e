/* Echo sockets of ICMP, IPv4 and IPv6: requests to the own addresses come back. */
#define _GNU_SOURCE
#include "report.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/* Hosts allow such sockets to the groups of a setting, by default to none: in a network of its own it can be changed. Where that is
   refused it need not be. */
static void write_to(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    if (fd >= 0 && write(fd, text, strlen(text)) < 0) { }
    close(fd);
}

static void own_network(void)
{
    char uids[40], gids[40];
    snprintf(uids, sizeof uids, "0 %d 1", getuid()); snprintf(gids, sizeof gids, "0 %d 1", getgid());
    if (unshare(CLONE_NEWNET)) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET)) return;
        write_to("/proc/self/setgroups", "deny"); write_to("/proc/self/uid_map", uids); write_to("/proc/self/gid_map", gids);
    }
    write_to("/proc/sys/net/ipv4/ping_group_range", "0 0");
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP };
    ioctl(s, SIOCSIFFLAGS, &r);
    close(s);
}

static unsigned sum(const unsigned char *b, int n)
{
    unsigned s = 0;
    for (int i = 0; i < n; i++) s += i % 2 ? b[i] : b[i] << 8;
    while (s >> 16) s = (s & 0xffff) + (s >> 16);
    return s;
}

static void with(int family)
{
    int s = socket(family, SOCK_DGRAM, family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6), on = 1;
    if (s < 0) { printf("socket: %s\n", strerrorname_np(errno)); return; }
    struct sockaddr_in a = { AF_INET, 0, { htonl(INADDR_LOOPBACK) } };
    struct sockaddr_in6 a6 = { AF_INET6, 0, 0, IN6ADDR_LOOPBACK_INIT, 0 };
    struct sockaddr *to = family == AF_INET ? (void *)&a : (void *)&a6;
    socklen_t n = family == AF_INET ? sizeof a : sizeof a6;
    unsigned char m[64] = { family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST, 0, 9, 9, 1, 2, 0, 7, 'd', 'a', 't', 'a' }, b[100];
    CALL(setsockopt(s, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, family == AF_INET ? IP_RECVTTL : IPV6_RECVHOPLIMIT, &on, sizeof on));
    struct pollfd p = { s, POLLIN, 0 };
    CALL(poll(&p, 1, 0));
    CALL(sendto(s, m, 13, 0, to, n));
    CALL(poll(&p, 1, 1000));
    char control[128], text[64];
    struct sockaddr_in6 from = { 0 };
    struct iovec v = { b, sizeof b };
    struct msghdr h = { &from, sizeof from, &v, 1, control, sizeof control, 0 };
    ssize_t got = CALL(recvmsg(s, &h, 0));
    struct sockaddr_in6 own; socklen_t l = sizeof own;
    getsockname(s, (void *)&own, &l);
    struct sockaddr_in *i = (void *)&from;
    inet_ntop(family, family == AF_INET ? (void *)&i->sin_addr : (void *)&from.sin6_addr, text, sizeof text);
    printf("type %d code %d sequence %d '%s' from %s port %d, name %u\n", b[0], b[1], b[7], b + 8, text, ntohs(from.sin6_port), h.msg_namelen);
    YES(memcmp(b + 4, &own.sin6_port, 2) == 0 && own.sin6_port);
    if (family == AF_INET) YES(sum(b, got) == 0xffff);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c))
        printf("level %d type %d: %d\n", c->cmsg_level, c->cmsg_type, *(int *)CMSG_DATA(c));
    CALL(sendto(s, m, 7, 0, to, n));
    m[0] = 0; CALL(sendto(s, m, 13, 0, to, n));
    m[0] = family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST;
    CALL(send(s, m, 13, 0));
    CALL(connect(s, to, n));
    CALL(send(s, m, 13, 0));
    CALL(recv(s, b, 10, MSG_TRUNC | MSG_PEEK));
    CALL(recv(s, b, sizeof b, 0));
    CALL(recv(s, b, sizeof b, MSG_DONTWAIT));
    close(s);
}

/* Sees all messages, requests too; those of IPv4 with their headers. */
static void raw(int family)
{
    int s = socket(family, SOCK_RAW, family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6), other = socket(family, SOCK_RAW, family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
    if (s < 0) { printf("raw socket: %s\n", strerrorname_np(errno)); return; }
    struct sockaddr_in a = { AF_INET, 0, { htonl(INADDR_LOOPBACK) } };
    struct sockaddr_in6 a6 = { AF_INET6, 0, 0, IN6ADDR_LOOPBACK_INIT, 0 };
    struct sockaddr *to = family == AF_INET ? (void *)&a : (void *)&a6;
    socklen_t n = family == AF_INET ? sizeof a : sizeof a6;
    unsigned char m[16] = { family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST, 0, 0, 0, 1, 2, 0, 7, 'r', 'a', 'w' }, b[100];
    if (family == AF_INET) { unsigned c = ~sum(m, 12) & 0xffff; m[2] = c >> 8; m[3] = c; }
    struct sockaddr_in6 own = { 0 }; socklen_t l = sizeof own;
    CALL(getsockname(s, (void *)&own, &l)); printf("port %d\n", ntohs(own.sin6_port));
    /* The other socket sees replies alone. */
    struct icmp6_filter f6; unsigned f4 = ~(1u << ICMP_ECHOREPLY);
    ICMP6_FILTER_SETBLOCKALL(&f6); ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &f6);
    if (family == AF_INET) CALL(setsockopt(other, 255 /* SOL_RAW */, 1 /* ICMP_FILTER */, &f4, sizeof f4));
    else CALL(setsockopt(other, IPPROTO_ICMPV6, ICMP6_FILTER, &f6, sizeof f6));
    l = sizeof f6; if (family == AF_INET) CALL(getsockopt(other, 255, 1, &f6, &l)); else CALL(getsockopt(other, IPPROTO_ICMPV6, ICMP6_FILTER, &f6, &l)); printf("%u\n", l);
    CALL(sendto(s, m, 12, 0, to, n));
    int both[] = { s, s, other, other };
    for (int i = 0; i < 4; i++) {
        struct sockaddr_in6 from = { 0 }; l = sizeof from;
        struct pollfd p = { both[i], POLLIN, 0 };
        if (!poll(&p, 1, i == 3 ? 0 : 2000)) { printf("nothing\n"); continue; }
        int got = recvfrom(both[i], b, sizeof b, 0, (void *)&from, &l), head = family == AF_INET ? 20 : 0;
        printf("%d bytes, type %d '%s' from %u\n", got, b[head], b + head + 8, l);
        if (head) { printf("version %x length %d hops %d protocol %d\n", b[0], b[2] << 8 | b[3], b[8], b[9]); YES(sum(b, 20) == 0xffff); YES(b[0] == 0x45 && sum(b + 20, got - 20) == 0xffff); }
    }
    /* A sum that does not hold is not answered. */
    if (family == AF_INET) {
        m[3]++; CALL(sendto(s, m, 12, 0, to, n)); CALL(recv(s, b, sizeof b, 0)); usleep(20000); CALL(recv(s, b, sizeof b, MSG_DONTWAIT));
        CALL(sendto(s, m, 12, 0, to, n)); CALL(recv(s, b, 10, MSG_TRUNC));
        /* What is too short to be a message is not seen. */
        CALL(sendto(s, m, 4, 0, to, n)); usleep(20000); CALL(recv(s, b, sizeof b, MSG_DONTWAIT)); m[3]--;
    }
    CALL(connect(s, to, n)); CALL(send(s, m, 12, 0)); CALL(recv(s, b, sizeof b, 0)); CALL(recv(s, b, sizeof b, 0));
    if (family == AF_INET6) {
        int on = 1; char control[64]; struct iovec v = { b, sizeof b }; struct msghdr h = { NULL, 0, &v, 1, control, sizeof control, 0 };
        CALL(setsockopt(s, IPPROTO_IPV6, IPV6_2292HOPLIMIT, &on, sizeof on)); CALL(send(s, m, 12, 0)); CALL(recvmsg(s, &h, 0)); CALL(recv(s, b, sizeof b, 0));
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) printf("level %d type %d: %d\n", c->cmsg_level, c->cmsg_type, *(int *)CMSG_DATA(c));
    }
    /* Echo sockets' messages are seen, too. */
    int e = socket(family, SOCK_DGRAM, family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
    CALL(sendto(e, m, 12, 0, to, n)); CALL(recv(e, b, sizeof b, 0)); CALL(recv(s, b, sizeof b, 0)); CALL(recv(s, b, sizeof b, 0));
    close(e); close(s); close(other);
}

int main(void)
{
    own_network();
    with(AF_INET);
    with(AF_INET6);
    raw(AF_INET);
    raw(AF_INET6);
    CALL(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMPV6));
    CALL(socket(AF_INET, SOCK_STREAM, IPPROTO_ICMP));
    /* Without the capability there are none. */
    struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct none[2] = { 0 };
    CALL(syscall(SYS_capset, &h, none));
    CALL(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)); CALL(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6)); CALL(socket(AF_INET, SOCK_RAW, IPPROTO_TCP));
}
