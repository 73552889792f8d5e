/* States of TCP on the loopback interface, as /proc/net/tcp, sock_diag(7) and bind(2) show them: connections, what they leave, ports. */
#define _GNU_SOURCE
#include "report.h"
#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

static const char *const STATES[] = { "?", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT", "FIN_WAIT", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV" };

static struct sockaddr_in at(int port) { return (struct sockaddr_in){ AF_INET, htons(port), { htonl(INADDR_LOOPBACK) } }; }

static int port_of(int fd)
{
    struct sockaddr_in6 a; socklen_t l = sizeof a;
    getsockname(fd, (void *)&a, &l);
    return ntohs(a.sin6_port);
}

static int compare(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* What a file says of the two ports, in an order of its own. */
static void table(const char *file, int server, int client)
{
    FILE *f = fopen(file, "r");
    char line[400], *found[32];
    int count = 0;
    while (fgets(line, sizeof line, f)) {
        char local[40], peer[40];
        unsigned lp, pp, state, tx, rx, timer, uid, inode; unsigned long when;
        if (sscanf(line, " %*d: %32[0-9A-F]:%X %32[0-9A-F]:%X %X %X:%X %X:%lX %*X %u %*u %u", local, &lp, peer, &pp, &state, &tx, &rx, &timer, &when, &uid, &inode) != 11) continue;
        if ((int)lp != server && (int)lp != client) continue;
        const char *who = (int)lp == server ? "server" : "client", *whom = pp == 0 ? "nobody" : (int)pp == server ? "server" : (int)pp == client ? "client" : "other";
        /* The time that is left: a minute at most. */
        const char *left = timer != 3 ? "" : when > 0 && when <= 6000 ? " for a while" : " for how long?";
        /* An end that was not read yet counts as a byte there, until the reader has seen it. */
        if (state == 8) rx = 0;
        asprintf(&found[count++], "  %s %s to %s %s %s, waiting %u, %s, %s%s", who, local, peer, whom, STATES[state], rx, inode ? "somebody's" : "nobody's", uid == getuid() ? "own" : "other", left);
    }
    fclose(f);
    qsort(found, count, sizeof *found, compare);
    for (int i = 0; i < count; i++) { puts(found[i]); free(found[i]); }
}

static void shown(const char *what, int server, int client)
{
    printf("%s:\n", what);
    table("/proc/net/tcp", server, client);
    table("/proc/net/tcp6", server, client);
}

/* The same by sock_diag(7), as ss(8) asks. */
static void asked(int server, int client)
{
    int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
    struct { struct nlmsghdr h; struct inet_diag_req_v2 r; } q = { { sizeof q, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 }, { .sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP, .idiag_states = -1 } };
    if (send(s, &q, sizeof q, 0) != sizeof q) perror("send");
    static char b[1 << 16] __attribute__((aligned(8)));
    char *found[32]; int count = 0, more = 1;
    while (more) {
        int n = recv(s, b, sizeof b, 0);
        if (n <= 0) break;
        for (struct nlmsghdr *h = (void *)b; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
            if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR) { more = 0; break; }
            struct inet_diag_msg *m = NLMSG_DATA(h);
            int lp = ntohs(m->id.idiag_sport), pp = ntohs(m->id.idiag_dport);
            if (lp != server && lp != client) continue;
            if (m->idiag_state == 8) m->idiag_rqueue = 0;
            asprintf(&found[count++], "  %s to %s %s%s, waiting %u of %u, %s", lp == server ? "server" : "client", pp == 0 ? "nobody" : pp == server ? "server" : "client", STATES[m->idiag_state],
                     m->idiag_timer == 3 ? (m->idiag_expires > 0 && m->idiag_expires <= 60000 ? " for a while" : "?") : "", m->idiag_rqueue, m->idiag_state == 10 ? m->idiag_wqueue : 0, m->idiag_inode ? "somebody's" : "nobody's");
        }
    }
    close(s);
    qsort(found, count, sizeof *found, compare);
    for (int i = 0; i < count; i++) { puts(found[i]); free(found[i]); }
}

static int listening(int reuse, int port)
{
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = at(port);
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    if (bind(s, (void *)&a, sizeof a)) { printf("bind: %s\n", strerrorname_np(errno)); close(s); return -1; }
    if (listen(s, 5)) { printf("listen: %s\n", strerrorname_np(errno)); close(s); return -1; }
    return s;
}

static int connected(int port)
{
    int c = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = at(port);
    if (connect(c, (void *)&a, sizeof a)) printf("connect: %s\n", strerrorname_np(errno));
    return c;
}

static int try_bind(int port, int reuse)
{
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = at(port);
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    int r = bind(s, (void *)&a, sizeof a) ? errno : 0;
    close(s);
    return r;
}

static void bindable(const char *what, int port)
{
    int plain = try_bind(port, 0), reuse = try_bind(port, 1);
    printf("%s: bind %s, with SO_REUSEADDR %s\n", what, plain ? strerrorname_np(plain) : "works", reuse ? strerrorname_np(reuse) : "works");
}

static void states(void)
{
    struct sockaddr_in any = at(0);
    int b = socket(AF_INET, SOCK_STREAM, 0); bind(b, (void *)&any, sizeof any);
    shown("bound alone", port_of(b), 0); close(b);
    int l = listening(1, 0), port = port_of(l), c = connected(port), client = port_of(c);
    shown("waits to be accepted", port, client); asked(port, client);
    int s = accept(l, NULL, NULL);
    write(c, "hello", 5);
    shown("accepted", port, client); asked(port, client);
    struct stat st; fstat(s, &st); YES(st.st_uid == getuid());
    close(l); shown("nobody listens", port, client); bindable("a connection at the port", port);
    char t[10];
    CALL(read(s, t, 10));
    CALL(shutdown(c, SHUT_WR)); usleep(20000); shown("the client has ended", port, client); asked(port, client);
    CALL(close(s)); usleep(20000); shown("the server has closed", port, client); asked(port, client); bindable("the server's port", port); bindable("the client's port", client);
    CALL(close(c)); shown("closed", port, client); bindable("the client's port", client);
}

static void orders(int reuse)
{
    printf("SO_REUSEADDR %d\n", reuse);
    int l = listening(reuse, 0), port = port_of(l), c = connected(port), client = port_of(c), s = accept(l, NULL, NULL);
    CALL(close(s)); usleep(20000); shown("the server has closed first", port, client); asked(port, client); bindable("while it listens", port);
    CALL(close(l)); bindable("the client still there", port);
    CALL(close(c)); usleep(20000); shown("then the client", port, client); asked(port, client); bindable("what is left", port);
    int again = listening(reuse, port);
    if (again >= 0) { c = connected(port); s = accept(again, NULL, NULL); CALL(write(c, "x", 1)); close(c); close(s); close(again); }
    /* unread data: a reset, which leaves nothing */
    l = listening(reuse, 0); port = port_of(l); c = connected(port); client = port_of(c); s = accept(l, NULL, NULL); close(l);
    write(c, "x", 1); usleep(20000); CALL(close(s)); usleep(20000); shown("reset", port, client); bindable("after a reset", port); close(c); bindable("after a reset", client);
    /* written to what is closed: likewise */
    l = listening(reuse, 0); port = port_of(l); c = connected(port); client = port_of(c); s = accept(l, NULL, NULL); close(l);
    CALL(close(s)); usleep(20000); CALL(write(c, "x", 1)); usleep(20000); shown("written to", port, client); bindable("after that", port); close(c);
    /* ended in both directions by one side alone */
    l = listening(reuse, 0); port = port_of(l); c = connected(port); client = port_of(c); s = accept(l, NULL, NULL); close(l);
    CALL(shutdown(c, SHUT_RDWR)); usleep(20000); shown("shut", port, client);
    struct sockaddr_in p; socklen_t n = sizeof p; CALL(getpeername(c, (void *)&p, &n)); CALL(shutdown(c, SHUT_RDWR)); n = sizeof p; CALL(getpeername(s, (void *)&p, &n));
    CALL(shutdown(s, SHUT_WR)); usleep(20000); shown("both shut", port, client); n = sizeof p; CALL(getpeername(c, (void *)&p, &n)); n = sizeof p; CALL(getpeername(s, (void *)&p, &n)); CALL(shutdown(s, SHUT_WR)); close(c); close(s);
    /* reading alone changes no state */
    l = listening(reuse, 0); port = port_of(l); c = connected(port); client = port_of(c); s = accept(l, NULL, NULL); close(l);
    CALL(shutdown(c, SHUT_RD)); shown("shut for reading", port, client); close(c); close(s);
}

/* A client that has asked for its port connects twice between the same places. */
static void twice(void)
{
    int on = 1, l = listening(1, 0), port = port_of(l);
    int c = socket(AF_INET, SOCK_STREAM, 0), d = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = at(0), to = at(port);
    setsockopt(c, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); setsockopt(d, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    bind(c, (void *)&a, sizeof a); a = at(port_of(c));
    CALL(bind(d, (void *)&a, sizeof a));
    CALL(connect(c, (void *)&to, sizeof to)); CALL(connect(d, (void *)&to, sizeof to));
    int s = accept(l, NULL, NULL), client = port_of(c);
    close(c); close(s); usleep(20000); shown("the client has closed first", port, client);
    /* With a port that was asked for, it may follow at once. */
    CALL(connect(d, (void *)&to, sizeof to)); shown("the second client", port, client);
    s = accept(l, NULL, NULL); close(s); close(d); usleep(20000); shown("the server has closed first", port, client);
    /* Another one may follow at once. */
    c = socket(AF_INET, SOCK_STREAM, 0); setsockopt(c, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    CALL(bind(c, (void *)&a, sizeof a)); CALL(connect(c, (void *)&to, sizeof to)); shown("once more", port, client);
    close(c); close(l);
}

/* Connected to its own place, a socket talks to itself (RFC 9293, section 3.5). */
static void itself(void)
{
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = at(0), p; socklen_t l = sizeof p; char b[10];
    bind(s, (void *)&a, sizeof a); a = at(port_of(s));
    CALL(connect(s, (void *)&a, sizeof a)); CALL(getpeername(s, (void *)&p, &l)); YES(p.sin_port == a.sin_port);
    CALL(write(s, "echo", 4)); CALL(read(s, b, 10)); CALL(recv(s, b, 10, MSG_DONTWAIT)); CALL(connect(s, (void *)&a, sizeof a));
    shown("itself", ntohs(a.sin_port), 0);
    CALL(write(s, "last", 4)); CALL(shutdown(s, SHUT_WR)); CALL(read(s, b, 10)); CALL(read(s, b, 10)); usleep(20000); shown("shut", ntohs(a.sin_port), 0); bindable("shut", ntohs(a.sin_port));
    close(s); bindable("closed", ntohs(a.sin_port));
    s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0); a = at(0); bind(s, (void *)&a, sizeof a); a = at(port_of(s));
    CALL(connect(s, (void *)&a, sizeof a)); usleep(20000); CALL(connect(s, (void *)&a, sizeof a)); CALL(write(s, "x", 1)); close(s); usleep(20000); bindable("closed unread", ntohs(a.sin_port));
}

static void both_families(void)
{
    int l = socket(AF_INET6, SOCK_STREAM, 0), port;
    struct sockaddr_in6 a = { AF_INET6, 0, 0, IN6ADDR_ANY_INIT, 0 };
    bind(l, (void *)&a, sizeof a); listen(l, 3); port = port_of(l);
    int c = connected(port), client = port_of(c), s = accept(l, NULL, NULL);
    shown("IPv4 at an IPv6 server", port, client); close(c); close(s); usleep(20000); shown("closed", port, client);
    a.sin6_addr = in6addr_loopback; a.sin6_port = htons(port);
    c = socket(AF_INET6, SOCK_STREAM, 0); connect(c, (void *)&a, sizeof a); client = port_of(c); s = accept(l, NULL, NULL);
    shown("IPv6", port, client); close(s); close(c); usleep(20000); shown("closed", port, client); close(l);
}

static void congestion(void)
{
    int s = socket(AF_INET, SOCK_STREAM, 0); char b[16] = "";
    socklen_t n = sizeof b;
    CALL(setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "reno", 4)); CALL(getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, b, &n)); printf("%s %u\n", b, n);
    CALL(setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "reno\0more", 9)); CALL(setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "renown", 6)); CALL(setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "reno and more than that", 20)); CALL(setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "", 0));
    CALL(setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "none such", 9)); n = 2; CALL(getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, b, &n)); printf("%u\n", n);
    /* A connection that was accepted has the listening socket's. */
    int l = listening(1, 0); CALL(setsockopt(l, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
    int c = connected(port_of(l)), a = accept(l, NULL, NULL); memset(b, 0, sizeof b); n = sizeof b; CALL(getsockopt(a, IPPROTO_TCP, TCP_CONGESTION, b, &n)); printf("%s\n", b);
    close(s); close(c); close(a); close(l);
}

int main(void)
{
    states(); orders(1); orders(0); twice(); itself(); both_families(); congestion();
    return 0;
}
