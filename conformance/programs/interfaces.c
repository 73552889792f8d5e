/* The loopback interface, as getifaddrs(3), if_nametoindex(3) and ioctl(2) tell of it. */
#define _GNU_SOURCE
#include "report.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int main(void)
{
    struct ifaddrs *all;
    OK(getifaddrs(&all));
    for (struct ifaddrs *a = all; a; a = a->ifa_next) {
        if (strcmp(a->ifa_name, "lo") || !a->ifa_addr) continue;
        char t[64] = "", m[64] = "";
        int family = a->ifa_addr->sa_family;
        if (family == AF_INET) {
            inet_ntop(family, &((struct sockaddr_in *)a->ifa_addr)->sin_addr, t, sizeof t);
            inet_ntop(family, &((struct sockaddr_in *)a->ifa_netmask)->sin_addr, m, sizeof m);
        } else if (family == AF_INET6) {
            inet_ntop(family, &((struct sockaddr_in6 *)a->ifa_addr)->sin6_addr, t, sizeof t);
            inet_ntop(family, &((struct sockaddr_in6 *)a->ifa_netmask)->sin6_addr, m, sizeof m);
        }
        printf("lo %d flags %x %s %s\n", family, a->ifa_flags, t, m);
    }
    freeifaddrs(all);
    char name[IF_NAMESIZE];
    CALL(if_nametoindex("lo")); CALL(if_nametoindex("nope0"));
    printf("%s\n", if_indextoname(1, name));
    struct if_nameindex *list = if_nameindex();
    printf("first %u %s\n", list[0].if_index, list[0].if_name);
    if_freenameindex(list);
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq r = { .ifr_name = "lo" };
    CALL(ioctl(s, SIOCGIFFLAGS, &r)); printf("%x\n", (unsigned short)r.ifr_flags);
    CALL(ioctl(s, SIOCGIFADDR, &r)); printf("%s\n", inet_ntoa(((struct sockaddr_in *)&r.ifr_addr)->sin_addr));
    CALL(ioctl(s, SIOCGIFNETMASK, &r)); printf("%s\n", inet_ntoa(((struct sockaddr_in *)&r.ifr_addr)->sin_addr));
    CALL(ioctl(s, SIOCGIFMTU, &r)); printf("%d\n", r.ifr_mtu);
    CALL(ioctl(s, SIOCGIFHWADDR, &r)); printf("%d\n", r.ifr_hwaddr.sa_family);
    CALL(ioctl(s, SIOCGIFINDEX, &r)); printf("%d\n", r.ifr_ifindex);
    struct ifreq none = { .ifr_name = "nope0" };
    CALL(ioctl(s, SIOCGIFFLAGS, &none));
    close(s);
    /* the protocol itself */
    CALL(socket(AF_NETLINK, SOCK_STREAM, 0)); CALL(socket(AF_NETLINK, SOCK_RAW, 77));
    s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct sockaddr_nl a = { AF_NETLINK }; socklen_t l = sizeof a;
    CALL(bind(s, (void *)&a, sizeof a)); CALL(getsockname(s, (void *)&a, &l)); printf("%u %d\n", l, a.nl_pid == (unsigned)getpid());
    struct { struct nlmsghdr h; struct ifinfomsg i; } q = { { sizeof q, RTM_GETLINK, NLM_F_REQUEST, 7, 0 }, { .ifi_index = 1 } };
    CALL(send(s, &q, sizeof q, 0));
    char b[8192]; struct nlmsghdr *h = (void *)b;
    OK(recv(s, b, sizeof b, 0)); printf("type %d sequence %u flags %x\n", h->nlmsg_type, h->nlmsg_seq, h->nlmsg_flags);
    q.i.ifi_index = 12345;
    CALL(send(s, &q, sizeof q, 0)); OK(recv(s, b, sizeof b, 0)); printf("type %d error %d\n", h->nlmsg_type, ((struct nlmsgerr *)NLMSG_DATA(h))->error);
    CALL(recv(s, b, sizeof b, MSG_DONTWAIT));
    struct pollfd p = { s, POLLIN | POLLOUT, 0 }; CALL(poll(&p, 1, 0)); printf("%x\n", p.revents);
    close(s);
    return 0;
}
