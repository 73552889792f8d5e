/* packet WAY OTHER: finds the packet socket of `--network=stack` among the host descriptors, and tries what a frame on its own interface is
 * not. OTHER is the number of another interface. Frames are of a type that nobody speaks; the test looks where they arrive. */
#include "takeover.h"
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define TYPE 0x88b5 /* for experiments (IEEE 802) */

static long packet;
static int other;
/* What the host is told of a frame (`struct virtio_net_hdr`), then the frame. */
static unsigned char frame[10 + 60];

/* The launcher makes it before the one to the supervisor. */
static void find_packet_socket(void) {
    for (long fd = 1023; fd > 2; fd--) {
        struct stat what;
        if (HOST(SYS_newfstatat, fd, "", &what, AT_EMPTY_PATH) == 0 && S_ISSOCK(what.st_mode)) packet = fd;
    }
}

static void fill(const char *text) {
    memset(frame, 0, sizeof frame);
    memset(frame + 10, 0xff, 6);
    memcpy(frame + 16, "\x02\0\0\0\0\x01", 6);
    frame[22] = TYPE >> 8;
    frame[23] = TYPE & 0xff;
    strcpy((char *)frame + 24, text);
}

static struct sockaddr_ll elsewhere(void) {
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = __builtin_bswap16(TYPE), .sll_ifindex = other, .sll_halen = 6};
    memset(at.sll_addr, 0xff, 6);
    return at;
}

static long own(void) { return HOST(SYS_sendto, packet, frame, sizeof frame, MSG_DONTWAIT, 0, 0); }

static void with_an_address(void) {
    struct sockaddr_ll at = elsewhere();
    HOST(SYS_sendto, packet, frame, sizeof frame, MSG_DONTWAIT, &at, sizeof at);
}

static void by_sendmsg(void) {
    struct sockaddr_ll at = elsewhere();
    struct iovec vector = {frame, sizeof frame};
    struct msghdr message = {&at, sizeof at, &vector, 1, 0, 0, 0};
    HOST(SYS_sendmsg, packet, &message, MSG_DONTWAIT);
}

static void by_sendmmsg(void) {
    struct sockaddr_ll at = elsewhere();
    struct iovec vector = {frame, sizeof frame};
    struct mmsghdr message = {{&at, sizeof at, &vector, 1, 0, 0, 0}, 0};
    HOST(SYS_sendmmsg, packet, &message, 1, MSG_DONTWAIT);
}

static void bound_elsewhere(void) {
    struct sockaddr_ll at = elsewhere();
    HOST(SYS_bind, packet, &at, sizeof at);
}

static void connected(void) {
    struct sockaddr_ll at = elsewhere();
    HOST(SYS_connect, packet, &at, sizeof at);
}

static void promiscuous(void) {
    struct packet_mreq all = {.mr_ifindex = other, .mr_type = PACKET_MR_PROMISC};
    HOST(SYS_setsockopt, packet, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all);
}

static void ring(void) {
    struct tpacket_req request = {4096, 16, 2048, 32};
    HOST(SYS_setsockopt, packet, SOL_PACKET, PACKET_RX_RING, &request, sizeof request);
}

static void fanout(void) {
    int group = 1;
    HOST(SYS_setsockopt, packet, SOL_PACKET, PACKET_FANOUT, &group, sizeof group);
}

static void filter(void) {
    struct sock_filter all = {BPF_RET | BPF_K, 0, 0, 0xffff};
    struct sock_fprog program = {1, &all};
    HOST(SYS_setsockopt, packet, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

static void device(void) { HOST(SYS_setsockopt, packet, SOL_SOCKET, SO_BINDTODEVICE, "eth1", 5); }

static void statistics(void) {
    int room[4];
    int length = sizeof room;
    HOST(SYS_getsockopt, packet, SOL_PACKET, PACKET_STATISTICS, room, &length);
}

static void interface_down(void) {
    struct ifreq request = {.ifr_name = "eth1"};
    HOST(SYS_ioctl, packet, SIOCSIFFLAGS, &request);
}

static void another_socket(void) { HOST(SYS_socket, AF_PACKET, SOCK_RAW, 0); }

static void waiting(void) { HOST(SYS_sendto, packet, frame, sizeof frame, 0, 0, 0); }

/* What the host is told of frames may be any lie: it looks. */
static void lies(void) {
    unsigned seed = 1;
    static unsigned char large[10 + 65000];
    for (int i = 0; i < 20000; i++) {
        for (int at = 0; at < 10; at++) large[at] = (seed = seed * 1103515245 + 12345) >> 16;
        memcpy(large + 10, frame + 10, sizeof frame - 10);
        if (seed & 0x10000) memcpy(large + 22, "\x08\x00\x45\0\xff\0\0\0\0\0\x40\x06", 12);
        HOST(SYS_sendto, packet, large, i % 7 ? 10 + seed % 65000 : seed % 30, MSG_DONTWAIT, 0, 0);
    }
}

static const struct {
    const char *name;
    void (*try)(void);
} WAYS[] = {
    {"with_an_address", with_an_address}, {"by_sendmsg", by_sendmsg}, {"by_sendmmsg", by_sendmmsg}, {"bound_elsewhere", bound_elsewhere},
    {"connected", connected}, {"promiscuous", promiscuous}, {"ring", ring}, {"fanout", fanout}, {"filter", filter}, {"device", device},
    {"statistics", statistics}, {"interface_down", interface_down}, {"another_socket", another_socket}, {"waiting", waiting},
};

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    if (is(argv[1], "list")) {
        for (unsigned i = 0; i < sizeof WAYS / sizeof *WAYS; i++) printf("way %s\n", WAYS[i].name);
        return 0;
    }
    other = atoi(argv[2]);
    take_over();
    find_packet_socket();
    alarm(20);
    fill(argv[1]);
    trying();
    if (is(argv[1], "own")) {
        long sent = own();
        say("sent %ld\n", sent);
    } else if (is(argv[1], "lies")) {
        lies();
        fill("after_lies");
        own();
    }
    for (unsigned i = 0; i < sizeof WAYS / sizeof *WAYS; i++)
        if (is(argv[1], WAYS[i].name)) {
            WAYS[i].try();
            escaped("%s came back", argv[1]);
        }
    held();
    return 0;
}
