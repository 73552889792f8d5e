/* poll(2), select(2), epoll(7) on everything that there is: edges, one shots, nesting, exclusive waiters; eventfd, timerfd, signalfd. */
#include "report.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

static char b[70000];
static int p[2];
static const char *events(int bits) {
    static char text[8][128];
    static int next;
    char *at = text[next++ % 8];
    static const struct { int bit; const char *name; } names[] = {{POLLIN, "IN"}, {POLLPRI, "PRI"}, {POLLOUT, "OUT"},
        {POLLERR, "ERR"}, {POLLHUP, "HUP"}, {POLLNVAL, "NVAL"}, {POLLRDHUP, "RDHUP"}};
    at[0] = 0;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (bits & names[i].bit) strcat(strcat(at, at[0] ? "|" : ""), names[i].name);
    return at[0] ? at : "nothing";
}
static void polled(const char *what, int fd) {
    struct pollfd one = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
    int result = poll(&one, 1, 0);
    printf("%s: %d %s\n", what, result, events(one.revents));
}
static void waited(const char *what, int ep) {
    struct epoll_event got[8];
    int count = epoll_wait(ep, got, 8, 0);
    printf("%s: %d", what, count);
    for (int i = 0; i < count; i++) printf(" %u=%s", got[i].data.u32, events(got[i].events));
    printf("\n");
}
static void put(int fd, const char *text) {
    if (write(fd, text, strlen(text)) < 0) printf("write: %s\n", strerrorname_np(errno));
}

static void pipes(void) {
    signal(SIGPIPE, SIG_IGN);
    pipe2(p, O_NONBLOCK);
    polled("empty, to read", p[0]), polled("empty, to write", p[1]);
    put(p[1], "x"), polled("filled, to read", p[0]);
    while (write(p[1], b, 4096) > 0) {}
    polled("full, to write", p[1]);
    CALL(read(p[0], b, 100)), polled("a little room", p[1]), CALL(write(p[1], b, 50));
    CALL(read(p[0], b, 8192)), polled("two pages of room", p[1]);
    int reader = p[0];
    close(p[1]), polled("nobody writes, data left", reader);
    while (read(reader, b, sizeof b) > 0) {}
    polled("nobody writes", reader), CALL(read(reader, b, 1)), close(reader);
    pipe2(p, O_NONBLOCK), close(p[0]), polled("nobody reads", p[1]), CALL(write(p[1], "x", 1)), close(p[1]);
    pipe2(p, O_DIRECT | O_NONBLOCK), put(p[1], "one"), put(p[1], "three");
    CALL(read(p[0], b, 100)), CALL(read(p[0], b, 2)), CALL(read(p[0], b, 100)), close(p[0]), close(p[1]);
}

static void others(void) {
    int f = open("file", O_RDWR | O_CREAT, 0600), d = open(".", O_RDONLY), null = open("/dev/null", O_RDWR), e = eventfd(0, 0);
    int full = eventfd(0, EFD_NONBLOCK), t = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), path = open("file", O_PATH);
    unsigned long most = -2;
    polled("a file", f), polled("a directory", d), polled("/dev/null", null), polled("an event counter", e);
    CALL(write(full, &most, 8)), polled("a full counter", full), polled("a timer", t), polled("a place", path),
        polled("nothing", 77);
    put(e, "\1\0\0\0\0\0\0"), polled("no event yet", e);
    struct pollfd many[3] = {{-1, POLLIN, 7}, {99, POLLIN, 0}, {f, POLLIN, 0}};
    CALL(poll(many, 3, 0)), printf("%s, %s, %s\n", events(many[0].revents), events(many[1].revents), events(many[2].revents));
    CALL(poll(NULL, 0, 0)), CALL(poll((void *)1, 1, 0)), CALL(poll(many, 1 << 30, 0)),
        CALL(ppoll(NULL, 0, &(struct timespec){0, -1}, NULL)),
        CALL(ppoll(NULL, 0, &(struct timespec){0, 1000000}, NULL));
    close(f), close(d), close(null), close(e), close(full), close(t), close(path);
}

static void selected(void) {
    pipe(p);
    fd_set r, w, x;
    r = (fd_set){0}, w = (fd_set){0}, x = (fd_set){0}, FD_SET(p[0], &r), FD_SET(p[1], &w);
    FD_SET(p[0], &x);
    struct timeval none = {0, 0}, some = {0, 20000}, wrong = {-1, 0};
    CALL(select(p[1] + 1, &r, &w, &x, &none)),
        printf("%d %d %d\n", !!FD_ISSET(p[0], &r), !!FD_ISSET(p[1], &w), !!FD_ISSET(p[0], &x));
    r = (fd_set){0}, FD_SET(p[0], &r), CALL(select(p[0] + 1, &r, NULL, NULL, &some)), printf("left %ld\n", (long)some.tv_usec);
    some.tv_usec = 500000, put(p[1], "x"), FD_SET(p[0], &r), CALL(select(p[0] + 1, &r, NULL, NULL, &some)),
        printf("left some: %d\n", some.tv_usec > 100000);
    CALL(select(-1, NULL, NULL, NULL, &none)), CALL(select(0, NULL, NULL, NULL, &wrong)),
        CALL(select(1, (void *)1, NULL, NULL, &none)), r = (fd_set){0}, FD_SET(40, &r), CALL(select(41, &r, NULL, NULL, &none));
    r = (fd_set){0}, FD_SET(p[0], &r), CALL(select(p[0], &r, NULL, NULL, &none)),
        CALL(pselect(0, NULL, NULL, NULL, &(struct timespec){0, 1000000000}, NULL));
    close(p[0]), close(p[1]);
}

static void handler(int number) {}
static void masked(void) {
    sigset_t block, none;
    sigemptyset(&block), sigaddset(&block, SIGUSR1), sigprocmask(SIG_BLOCK, &block, NULL), sigemptyset(&none);
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL), raise(SIGUSR1);
    CALL(ppoll(NULL, 0, &(struct timespec){0, 10000000}, NULL)), CALL(ppoll(NULL, 0, NULL, &none));
    raise(SIGUSR1), CALL(pselect(0, NULL, NULL, NULL, NULL, &none));
    int ep = epoll_create1(0);
    struct epoll_event got;
    raise(SIGUSR1), CALL(epoll_pwait(ep, &got, 1, 1000, &none)), CALL(epoll_pwait(ep, &got, 1, 0, &none));
    CALL(syscall(SYS_epoll_pwait2, ep, &got, 1, &(struct timespec){0, 1000000}, NULL, 8)),
        CALL(syscall(SYS_epoll_pwait2, ep, &got, 1, &(struct timespec){0, -1}, NULL, 8));
    CALL(syscall(SYS_ppoll, NULL, 0, NULL, &none, 3));
    close(ep), sigprocmask(SIG_UNBLOCK, &block, NULL);
}

static void controls(void) {
    int ep = epoll_create1(EPOLL_CLOEXEC), f = open("file", O_RDWR | O_CREAT, 0600), e = eventfd(1, EFD_NONBLOCK),
        dup_ = dup(e);
    struct epoll_event ev = {EPOLLIN, {.u32 = 1}};
    CALL(fcntl(ep, F_GETFD)), CALL(epoll_create1(1)), CALL(epoll_create(0)), CALL(epoll_create(-1));
    CALL(epoll_ctl(ep, EPOLL_CTL_ADD, e, &ev)), CALL(epoll_ctl(ep, EPOLL_CTL_ADD, e, &ev)), ev.data.u32 = 2,
        CALL(epoll_ctl(ep, EPOLL_CTL_ADD, dup_, &ev)), waited("twice the same", ep);
    CALL(epoll_ctl(ep, EPOLL_CTL_MOD, 99, &ev)), CALL(epoll_ctl(ep, EPOLL_CTL_ADD, f, &ev)),
        CALL(epoll_ctl(ep, EPOLL_CTL_DEL, f, NULL)), CALL(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &ev)),
        CALL(epoll_ctl(f, EPOLL_CTL_ADD, e, &ev)), CALL(epoll_ctl(99, EPOLL_CTL_ADD, e, &ev)), CALL(epoll_ctl(ep, 9, e, &ev)),
        CALL(epoll_ctl(ep, EPOLL_CTL_MOD, e, NULL)), CALL(epoll_ctl(ep, EPOLL_CTL_MOD, e, (void *)1)),
        CALL(epoll_ctl(ep, EPOLL_CTL_DEL, e, NULL)), CALL(epoll_ctl(ep, EPOLL_CTL_DEL, e, NULL)),
        CALL(epoll_ctl(ep, EPOLL_CTL_MOD, e, &ev)), waited("the other stays", ep);
    close(e), waited("still open", ep), close(dup_), waited("all closed", ep);
    struct epoll_event got[2];
    CALL(epoll_wait(ep, got, 0, 0)), CALL(epoll_wait(ep, got, -1, 0)), CALL(epoll_wait(ep, (void *)1, 1, 0)),
        CALL(epoll_wait(f, got, 1, 0)), CALL(epoll_wait(99, got, 1, 0)), CALL(epoll_wait(ep, got, 1 << 30, 0)),
        CALL(epoll_wait(ep, got, 1, 20));
    CALL(read(ep, b, 1)), CALL(write(ep, b, 1)), polled("an empty epoll", ep), close(ep), close(f);
}

static void triggers(void) {
    int ep = epoll_create1(0);
    pipe2(p, O_NONBLOCK);
    struct epoll_event in = {EPOLLIN, {.u32 = 1}}, out = {EPOLLOUT | EPOLLET, {.u32 = 2}};
    epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &in), epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &out);
    waited("writable", ep), waited("edge once", ep), put(p[1], "a"), waited("level", ep), waited("level again", ep);
    in.events = EPOLLIN | EPOLLET, epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &in), waited("edge after a change", ep),
        waited("no new edge", ep), put(p[1], "b"), waited("a new edge", ep), CALL(read(p[0], b, 1)),
        waited("not all read: no edge", ep), put(p[1], "c"), put(p[1], "d"), waited("two at once", ep);
    in.events = EPOLLIN | EPOLLONESHOT, epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &in), waited("one shot", ep), put(p[1], "e"),
        waited("spent", ep), epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &in), waited("armed again", ep);
    in.events = 0, epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &in), waited("nothing asked", ep), close(p[1]),
        waited("a hang-up comes unasked", ep), in.events = EPOLLIN | EPOLLRDHUP, epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &in),
        waited("data and hang-up", ep), close(p[0]), waited("closed", ep);
    int more[4][2];
    for (int i = 0; i < 4; i++) pipe2(more[i], O_NONBLOCK), in = (struct epoll_event){EPOLLIN, {.u32 = 10 + i}},
        epoll_ctl(ep, EPOLL_CTL_ADD, more[i][0], &in), put(more[i][1], "x");
    struct epoll_event got[2];
    for (int round = 0; round < 3; round++) printf("%d:", epoll_wait(ep, got, 2, 0)),
        printf(" %u %u\n", got[0].data.u32, got[1].data.u32);
    for (int i = 0; i < 4; i++) close(more[i][0]), close(more[i][1]);
    close(ep);
}

static void nested(void) {
    int inner = epoll_create1(0), outer = epoll_create1(0), e = eventfd(0, EFD_NONBLOCK);
    struct epoll_event ev = {EPOLLIN, {.u32 = 1}};
    CALL(epoll_ctl(inner, EPOLL_CTL_ADD, e, &ev)), ev.data.u32 = 2, CALL(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &ev)),
        CALL(epoll_ctl(inner, EPOLL_CTL_ADD, outer, &ev)), waited("quiet", outer);
    put(e, "\1\0\0\0\0\0\0"), CALL(write(e, &(unsigned long){1}, 8)), polled("the inner one", inner), waited("outer", outer),
        waited("inner", inner), CALL(read(e, b, 8)), waited("outer", outer), waited("inner", inner);
    int chain[8], depth;
    for (chain[0] = inner, depth = 1; depth < 8; depth++) {
        chain[depth] = epoll_create1(0);
        if (epoll_ctl(chain[depth], EPOLL_CTL_ADD, chain[depth - 1], &ev) != 0) break;
    }
    printf("depth %d: %s\n", depth, strerrorname_np(errno));
    ev.events = EPOLLIN | EPOLLEXCLUSIVE, CALL(epoll_ctl(outer, EPOLL_CTL_ADD, e, &ev)),
        CALL(epoll_ctl(outer, EPOLL_CTL_MOD, e, &ev)), ev.events |= EPOLLONESHOT,
        CALL(epoll_ctl(chain[2], EPOLL_CTL_ADD, e, &ev)), ev.events = EPOLLIN | EPOLLEXCLUSIVE,
        CALL(epoll_ctl(chain[2], EPOLL_CTL_ADD, chain[5], &ev));
}

static int shared_event, woken;
static void *wait_exclusively(void *argument) {
    int ep = epoll_create1(0);
    struct epoll_event ev = {EPOLLIN | EPOLLEXCLUSIVE, {.u32 = 1}}, got;
    epoll_ctl(ep, EPOLL_CTL_ADD, shared_event, &ev);
    __atomic_fetch_add((int *)argument, 1, __ATOMIC_SEQ_CST);
    unsigned long value;
    if (epoll_wait(ep, &got, 1, 3000) == 1 && read(shared_event, &value, 8) == 8) __atomic_fetch_add(&woken, 1,
        __ATOMIC_SEQ_CST);
    return NULL;
}
static void exclusive(void) {
    pthread_t threads[4];
    int ready = 0;
    shared_event = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK);
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, wait_exclusively, &ready);
    while (__atomic_load_n(&ready, __ATOMIC_SEQ_CST) < 4) usleep(1000);
    usleep(50000);
    for (int i = 0; i < 4; i++) CALL(write(shared_event, &(unsigned long){1}, 8)), usleep(30000);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    printf("each of four woken for one event: %d\n", woken);
}

static void counters(void) {
    int e = eventfd(5, EFD_NONBLOCK | EFD_CLOEXEC), s = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    unsigned long v = 0, most = -2, too_much = -1, one = 1;
    CALL(fcntl(e, F_GETFD)), CALL(read(e, &v, 8)), printf("%lu\n", v), CALL(read(e, &v, 8)), CALL(read(e, &v, 7)),
        CALL(write(e, &v, 7)), CALL(write(e, &too_much, 8)), CALL(write(e, &most, 8)), CALL(write(e, &one, 8)),
        CALL(read(e, b, 100)), CALL(write(e, (void *)1, 8)), CALL(write(e, &one, 8)), CALL(read(e, (void *)1, 8));
    CALL(read(s, &v, 8)), printf("%lu\n", v), CALL(read(s, &v, 8)), CALL(read(s, &v, 8)), CALL(eventfd(0, 4)),
        CALL(pread(e, &v, 8, 0)), CALL(ftruncate(e, 0)), CALL(readv(s, &(struct iovec){&v, 8}, 1)),
        close(e), close(s);
    int t = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec set = {{0, 5000000}, {0, 5000000}}, got, off = {0};
    CALL(timerfd_gettime(t, &got)), printf("%ld %ld\n", got.it_value.tv_nsec, got.it_interval.tv_nsec), CALL(read(t, &v, 8)),
        CALL(timerfd_settime(t, 0, &set, NULL)), usleep(22000), CALL(read(t, &v, 8)), YES(v >= 3),
        CALL(timerfd_settime(t, 0, &off, &got)), printf("%ld\n", got.it_interval.tv_nsec), CALL(read(t, &v, 8));
    set = (struct itimerspec){{0}, {1, 0}}, CALL(timerfd_settime(t, TFD_TIMER_ABSTIME, &set, NULL)), usleep(1000),
        CALL(read(t, &v, 8)), printf("%lu\n", v), CALL(read(t, &v, 4)), CALL(write(t, &v, 8)),
        CALL(timerfd_settime(t, 8, &set, NULL)), set.it_value.tv_nsec = -1, CALL(timerfd_settime(t, 0, &set, NULL)),
        CALL(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0)), CALL(timerfd_create(CLOCK_MONOTONIC, 4)),
        CALL(timerfd_settime(0, 0, &off, NULL)), CALL(timerfd_gettime(t, (void *)1)), close(t);
}

static void signals(void) {
    sigset_t set;
    struct signalfd_siginfo got[3];
    sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGRTMIN + 1), sigaddset(&set, SIGCHLD),
        sigprocmask(SIG_BLOCK, &set, NULL);
    int s = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    CALL(fcntl(s, F_GETFD)), polled("no signal", s), CALL(read(s, got, sizeof got)), raise(SIGUSR1), polled("a signal", s),
        sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 77}),
        sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 78});
    printf("%ld\n", (long)(read(s, got, sizeof got) / sizeof *got));
    for (int i = 0; i < 3; i++) printf("%d code %d value %d from %s\n",
        (int)got[i].ssi_signo - (got[i].ssi_signo > 31 ? SIGRTMIN : 0), got[i].ssi_code, got[i].ssi_int,
        (int)got[i].ssi_pid == getpid() ? "myself" : "another");
    if (fork() == 0) _exit(9);
    usleep(50000), CALL(read(s, got, sizeof *got)),
        printf("%d code %d status %d\n", (int)got[0].ssi_signo, got[0].ssi_code, got[0].ssi_status), wait(NULL),
        CALL(read(s, got, 10)), CALL(write(s, got, 128)), sigemptyset(&set), sigaddset(&set, SIGUSR2),
        YES(signalfd(s, &set, 0) == s), raise(SIGUSR1), polled("not in the set now", s), CALL(signalfd(0, &set, 0)),
        CALL(signalfd(99, &set, 0)), CALL(signalfd(-1, &set, 4)), CALL(syscall(SYS_signalfd4, -1, &set, 4, 0)), close(s);
}

int main(void) {
    pipes();
    others();
    selected();
    masked();
    controls();
    triggers();
    nested();
    exclusive();
    counters();
    signals();
    return 0;
}
