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
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

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

int main(void)
{
    own_network();
    with(AF_INET);
    with(AF_INET6);
    CALL(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMPV6));
    CALL(socket(AF_INET, SOCK_STREAM, IPPROTO_ICMP));
}
