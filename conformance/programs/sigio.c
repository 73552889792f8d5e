/* Signal-driven I/O: O_ASYNC, F_SETOWN, F_SETSIG. */
#include "children.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

static volatile int times; static siginfo_t last;
static void told(int signal, siginfo_t *info, void *context) { (void)signal; (void)context; times++; last = *info; }
static void show(const char *what) { printf("%s: %d", what, times); if (times) printf(" signal %d code %d", last.si_signo, last.si_code); if (times && last.si_signo != SIGIO) printf(" band %lx fd %d", last.si_band, last.si_fd); puts(""); times = 0; }
int main(void)
{
    struct sigaction act = { .sa_sigaction = told, .sa_flags = SA_SIGINFO | SA_RESTART }; sigaction(SIGIO, &act, NULL); sigaction(SIGRTMIN + 2, &act, NULL); sigaction(SIGUSR1, &act, NULL);
    int p[2]; char b[100]; pipe(p); CALL(fcntl(p[0], F_GETOWN)); struct f_owner_ex ex; CALL(fcntl(p[0], F_GETOWN_EX, &ex)); printf("%d %d\n", ex.type, ex.pid); CALL(fcntl(p[0], F_GETSIG));
    write(p[1], "x", 1); show("nothing asked"); CALL(fcntl(p[0], F_SETFL, O_ASYNC)); printf("%x\n", fcntl(p[0], F_GETFL)); write(p[1], "x", 1); show("nobody");
    CALL(fcntl(p[0], F_SETOWN, getpid())); YES(fcntl(p[0], F_GETOWN) == getpid()); write(p[1], "x", 1); show("write"); write(p[1], "xx", 2); show("write again"); read(p[0], b, 100); show("read");
    CALL(fcntl(p[0], F_SETSIG, SIGUSR1)); CALL(fcntl(p[0], F_GETSIG)); write(p[1], "x", 1); show("own signal"); CALL(fcntl(p[0], F_SETSIG, SIGRTMIN + 2)); write(p[1], "x", 1); show("real-time"); CALL(fcntl(p[0], F_SETSIG, 65)); CALL(fcntl(p[0], F_SETSIG, -1)); CALL(fcntl(p[0], F_SETSIG, 0)); write(p[1], "x", 1); show("back");
    ex.type = F_OWNER_TID; ex.pid = gettid(); CALL(fcntl(p[0], F_SETOWN_EX, &ex)); write(p[1], "x", 1); show("thread"); memset(&ex, 9, sizeof ex); CALL(fcntl(p[0], F_GETOWN_EX, &ex)); YES(ex.type == F_OWNER_TID && ex.pid == gettid());
    setpgid(0, 0); CALL(fcntl(p[0], F_SETOWN, -getpid())); YES(fcntl(p[0], F_GETOWN) == -getpid()); write(p[1], "x", 1); show("process group"); CALL(fcntl(p[0], F_GETOWN_EX, &ex)); YES(ex.type == F_OWNER_PGRP && ex.pid == getpid());
    CALL(fcntl(p[0], F_SETOWN, 999999)); CALL(fcntl(p[0], F_SETOWN, -999999)); CALL(fcntl(p[0], F_SETOWN, 1 << 31)); ex.type = 3; CALL(fcntl(p[0], F_SETOWN_EX, &ex)); ex.type = F_OWNER_TID; ex.pid = 999999; CALL(fcntl(p[0], F_SETOWN_EX, &ex)); CALL(fcntl(p[0], F_SETOWN_EX, 8)); CALL(fcntl(p[0], F_SETOWN, 0)); write(p[1], "x", 1); show("nobody again"); YES(fcntl(p[0], F_GETOWN) == 0);
    CALL(fcntl(p[0], F_SETOWN, getpid())); pid_t c = CHILD(write(p[1], "c", 1)); printf("%x\n", reaped(c)); show("from a child"); c = CHILD(struct timespec t = { 20, 0 }; printf("%d\n", nanosleep(&t, NULL))); sleeps(c); CALL(fcntl(p[0], F_SETOWN, c)); write(p[1], "x", 1); printf("%x\n", reaped(c)); YES(fcntl(p[0], F_GETOWN) == 0); show("it went to the child");
    CALL(fcntl(p[0], F_SETOWN, getpid())); int d = dup(p[0]); write(p[1], "x", 1); show("dup"); CALL(fcntl(d, F_SETFL, 0)); write(p[1], "x", 1); show("off"); int on = 1; CALL(ioctl(p[0], FIOASYNC, &on)); write(p[1], "x", 1); show("FIOASYNC"); on = 0; CALL(ioctl(p[0], FIOASYNC, &on)); write(p[1], "x", 1); show("FIOASYNC off"); fcntl(p[0], F_SETFL, O_ASYNC); read(p[0], b, 100); close(p[1]); show("the last writer closes"); close(p[0]); close(d); show("closed");
    mkdir("w", 0700); int in = inotify_init(); inotify_add_watch(in, "w", IN_CREATE); fcntl(in, F_SETOWN, getpid()); CALL(fcntl(in, F_SETFL, O_ASYNC | O_NONBLOCK)); close(open("w/f", O_CREAT | O_RDWR, 0600)); show("inotify"); unlink("w/f");
    fcntl(in, F_SETOWN, -getpgrp()); while (read(in, b, sizeof b) > 0) ; close(open("w/f", O_CREAT | O_RDWR, 0600)); show("inotify, to the group"); unlink("w/f"); close(in);
    int at = open("w", O_RDONLY); fcntl(at, F_SETOWN, -getpgrp()); CALL(fcntl(at, F_NOTIFY, DN_CREATE)); close(open("w/f", O_CREAT | O_RDWR, 0600)); show("dnotify, to the group"); unlink("w/f"); close(at); rmdir("w");
    // Who fills a pipe sleeps until the reader, who is told by the signal only, has emptied it.
    pipe(p); fcntl(p[0], F_SETOWN, -getpgrp()); fcntl(p[0], F_SETFL, O_ASYNC); c = CHILD(static char much[300000]; signal(SIGIO, SIG_IGN); close(p[0]); printf("%zd\n", write(p[1], much, sizeof much))); close(p[1]);
    for (int i = 0; !times && i < 5000; i++) usleep(1000);
    YES(times > 0); static char taken[4096]; while (read(p[0], taken, sizeof taken) > 0) ; printf("%x\n", reaped(c)); times = 0; close(p[0]);
    // The last descriptors are closed by an end.
    pipe(p); fcntl(p[0], F_SETOWN, -getpgrp()); fcntl(p[0], F_SETFL, O_ASYNC); c = CHILD(signal(SIGIO, SIG_IGN); close(p[0]); pause()); sleeps(c); close(p[1]); show("not yet"); kill(c, SIGKILL); printf("%x\n", reaped(c)); show("the last writer ends"); close(p[0]);
    int f = open("plain", O_CREAT | O_RDWR, 0600); fcntl(f, F_SETOWN, getpid()); CALL(fcntl(f, F_SETFL, O_ASYNC)); write(f, "x", 1); show("plain file"); printf("%x\n", fcntl(f, F_GETFL)); unlink("plain");
    return 0;
}
