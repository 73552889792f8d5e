/* A pseudo-terminal to test with. */
#pragma once
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

#ifndef IUCLC
#define IUCLC 01000
#endif
#ifndef XTABS
#define XTABS 0014000
#endif

static int master = -1, slave = -1;

/* A new pair that is nobody's controlling terminal. */
static void fresh(void)
{
    if (master >= 0) { close(slave); close(master); }
    int no = 0;
    char name[64];
    master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0 || ioctl(master, TIOCSPTLCK, &no)) { perror("ptmx"); exit(1); }
    if (ptsname_r(master, name, sizeof name)) { perror("ptsname"); exit(1); }
    slave = open(name, O_RDWR | O_NOCTTY);
    if (slave < 0) { perror(name); exit(1); }
}

static int __attribute__((unused)) readable(int fd)
{
    struct pollfd p = {fd, POLLIN, 0};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

/* Linux hands typed bytes to the line discipline from a worker: until they are through. A poll waits for it. */
static void settle(void) { for (int i = 0; i < 3; i++) { readable(slave); usleep(1500); } readable(slave); }
static void __attribute__((unused)) settle_output(void) { for (int i = 0; i < 3; i++) { readable(master); usleep(1500); } readable(master); }

static void __attribute__((unused)) show(const char *what, const char *bytes, ssize_t n)
{
    printf("%s ", what);
    if (n < 0) { printf("-1 %s\n", strerrorname_np(errno)); return; }
    printf("%zd \"", n);
    for (ssize_t i = 0; i < n; i++) {
        unsigned char c = bytes[i];
        if (c < 32 || c > 126 || c == '"' || c == '\\') printf("\\x%02x", c); else putchar(c);
    }
    printf("\"\n");
}

/* Everything that can be read now or very soon. */
static ssize_t __attribute__((unused)) get(int fd, char *buffer, size_t size)
{
    size_t got = 0;
    struct pollfd p = {fd, POLLIN, 0};
    int wait = 10;
    while (got < size && poll(&p, 1, wait) == 1 && (p.revents & POLLIN)) {
        ssize_t n = read(fd, buffer + got, size - got);
        if (n <= 0) return got ? (ssize_t)got : n;
        got += n;
    }
    return got;
}

#define change(field, on, off) do { \
    struct termios t_; tcgetattr(slave, &t_); \
    t_.c_##field = (t_.c_##field & ~(tcflag_t)(off)) | (on); \
    if (tcsetattr(slave, TCSANOW, &t_)) perror("tcsetattr"); \
    printf("[%s +%s -%s] ", #field, #on, #off); } while (0)

static void __attribute__((unused)) character(int index, int value)
{
    struct termios t;
    tcgetattr(slave, &t);
    t.c_cc[index] = value;
    if (tcsetattr(slave, TCSANOW, &t)) perror("tcsetattr");
}

static void __attribute__((unused)) nonblocking(int fd, int on)
{
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}
