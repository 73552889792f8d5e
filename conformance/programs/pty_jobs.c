/* Sessions and process groups at a terminal: who controls it, who may use it, who gets its signals. */
#include "report.h"
#include "pty.h"
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static char name_[64];
static int pipes[2][2];

/* Messages between parent and child, so that each waits for the other. */
static void tell(int which) { if (write(pipes[which][1], "x", 1) != 1) _exit(90); }
static void await(int which) { char c; while (read(pipes[which][0], &c, 1) != 1) if (errno != EINTR) _exit(91); }

static void pair(void)
{
    fresh();
    close(slave);
    slave = -1;
    ptsname_r(master, name_, sizeof name_);
    for (int i = 0; i < 2; i++) { if (pipes[i][0]) { close(pipes[i][0]); close(pipes[i][1]); } if (pipe(pipes[i])) exit(1); }
}

static void ended(pid_t pid)
{
    int status;
    waitpid(pid, &status, 0);
    if (WIFEXITED(status)) printf("child exited %d\n", WEXITSTATUS(status));
    else printf("child died of %s\n", sigabbrev_np(WTERMSIG(status)));
}

static volatile sig_atomic_t got[65];
static void note(int signal) { got[signal]++; }
static void notes(int signal, siginfo_t *info, void *context)
{
    (void)context;
    got[signal]++;
    printf("%s code %d pid %d\n", sigabbrev_np(signal), info->si_code, info->si_pid == 0 ? 0 : info->si_pid == getpid() ? 1 : 2);
}
static void handle(int signal, int flags, void *function)
{
    struct sigaction action = {.sa_flags = flags};
    action.sa_sigaction = function;
    sigaction(signal, &action, NULL);
}

static void stat_terminal(void)
{
    char text[1024], state;
    int tty, foreground, parent, group, session, own = getpid();
    FILE *file = fopen("/proc/self/stat", "r");
    if (!file || !fgets(text, sizeof text, file)) exit(1);
    fclose(file);
    sscanf(strrchr(text, ')') + 1, " %c %d %d %d %d %d", &state, &parent, &group, &session, &tty, &foreground);
    printf("stat: leader %d group %d tty %d foreground %d\n", session == own, group == own, tty ? (int)major(tty) : 0,
           foreground == own ? 1 : foreground == group ? 2 : foreground < 1 ? foreground : 3);
}

static void controlling(void)
{
    printf("-- controlling terminal\n");
    pair();
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        int value = 7;
        CALL(open("/dev/tty", O_RDWR) >= 0 ? 0 : -1);
        setsid();
        CALL(open("/dev/tty", O_RDWR));
        stat_terminal();
        slave = open(name_, O_RDWR | O_NOCTTY);
        CALL(ioctl(slave, TIOCGSID, &value));
        CALL(ioctl(slave, TIOCGPGRP, &value));
        CALL(ioctl(master, TIOCGSID, &value));
        CALL(ioctl(master, TIOCGPGRP, &value)); printf("%d\n", value);
        CALL(ioctl(slave, TIOCNOTTY));
        stat_terminal();
        CALL(open("/dev/tty", O_RDWR));
        int wronly = open(name_, O_WRONLY);
        stat_terminal();
        close(wronly);
        int again = open(name_, O_RDWR);
        stat_terminal();
        YES(tcgetsid(slave) == getpid());
        YES(tcgetpgrp(slave) == getpid());
        YES(tcgetpgrp(master) == getpid());
        YES(tcgetsid(master) == getpid());
        int tty = open("/dev/tty", O_RDWR);
        YES(tty >= 0);
        struct stat by_tty, by_name, open_;
        fstat(tty, &by_tty); stat("/dev/tty", &by_name);
        YES(by_tty.st_rdev == by_name.st_rdev && major(by_tty.st_rdev) == 5 && minor(by_tty.st_rdev) == 0);
        stat(name_, &by_name); fstat(slave, &open_);
        YES(by_name.st_rdev == open_.st_rdev && by_name.st_ino == open_.st_ino && major(open_.st_rdev) == 136);
        YES(!strcmp(ttyname(slave), name_));
        YES(!strcmp(ttyname(tty), "/dev/tty"));
        YES(!strcmp(ctermid(NULL), "/dev/tty"));
        YES(isatty(master) && isatty(slave) && isatty(tty));
        CALL(write(tty, "through tty\n", 12));
        CALL(ioctl(slave, TIOCSCTTY, 0));
        CALL(ioctl(tty, TIOCSCTTY, 0));
        close(again); close(tty);
        fflush(stdout);
        pid_t grandchild = fork();
        if (grandchild == 0) {
            stat_terminal();
            CALL(setsid() > 0);
            stat_terminal();
            CALL(ioctl(slave, TIOCGSID, &value));
            CALL(ioctl(slave, TIOCSCTTY, 0));
            CALL(open("/dev/tty", O_RDWR));
            _exit((fflush(stdout), 0));
        }
        ended(grandchild);
        fflush(stdout);
        grandchild = fork();
        if (grandchild == 0) {
            CALL(ioctl(slave, TIOCSCTTY, 0));
            CALL(ioctl(slave, TIOCNOTTY));
            stat_terminal();
            CALL(ioctl(slave, TIOCNOTTY));
            _exit((fflush(stdout), 0));
        }
        ended(grandchild);
        stat_terminal();
        handle(SIGHUP, SA_SIGINFO, notes);
        handle(SIGCONT, SA_SIGINFO, notes);
        CALL(ioctl(slave, TIOCNOTTY));
        stat_terminal();
        CALL(ioctl(slave, TIOCSCTTY, 0));
        stat_terminal();
        CALL(ioctl(slave, TIOCNOTTY));
        CALL(ioctl(master, TIOCSCTTY, 0));
        stat_terminal();
        CALL(tcsetpgrp(slave, -3));
        CALL(tcsetpgrp(slave, 4000000));
        CALL(tcsetpgrp(slave, getppid()));
        CALL(tcsetpgrp(slave, getpid()));
        CALL(ioctl(slave, TIOCSPGRP, 0));
        fflush(stdout);
        _exit(3);
    }
    ended(pid);
    char buffer[64];
    show("master", buffer, read(master, buffer, sizeof buffer));
    show("then", buffer, read(master, buffer, sizeof buffer));
    slave = open(name_, O_RDWR | O_NOCTTY);
    YES(slave >= 0);
    nonblocking(master, 1);
    show("again", buffer, read(master, buffer, sizeof buffer));
    int value;
    CALL(ioctl(slave, TIOCGSID, &value));
}

/* A session with its leader in the foreground and a child in a group of its own in the background. */
static void background(void)
{
    printf("-- the background\n");
    pair();
    fflush(stdout);
    pid_t leader = fork();
    if (leader == 0) {
        char buffer[64];
        int status;
        setsid();
        slave = open(name_, O_RDWR);
        pid_t child = fork();
        if (child == 0) {
            setpgid(0, 0);
            tell(0);
            show("read", buffer, read(slave, buffer, sizeof buffer));
            fflush(stdout);
            tell(0);
            handle(SIGTTIN, 0, note);
            await(1);
            show("read with handler", buffer, read(slave, buffer, sizeof buffer)); printf("%d\n", got[SIGTTIN]);
            signal(SIGTTIN, SIG_IGN);
            show("read ignoring", buffer, read(slave, buffer, sizeof buffer));
            signal(SIGTTIN, SIG_DFL);
            sigset_t set; sigemptyset(&set); sigaddset(&set, SIGTTIN); sigaddset(&set, SIGTTOU);
            sigprocmask(SIG_BLOCK, &set, NULL);
            show("read blocking", buffer, read(slave, buffer, sizeof buffer));
            struct termios now; tcgetattr(slave, &now);
            CALL(tcsetattr(slave, TCSANOW, &now));
            sigprocmask(SIG_UNBLOCK, &set, NULL);
            CALL(write(slave, "written from behind\n", 20));
            handle(SIGTTOU, 0, note);
            CALL(tcsetattr(slave, TCSANOW, &now)); printf("%d\n", got[SIGTTOU]);
            CALL(tcsetpgrp(slave, getpgrp())); printf("%d\n", got[SIGTTOU]);
            CALL(tcflush(slave, TCIFLUSH)); printf("%d\n", got[SIGTTOU]);
            CALL(tcdrain(slave)); printf("%d\n", got[SIGTTOU]);
            CALL(tcflow(slave, TCOON)); printf("%d\n", got[SIGTTOU]);
            sigprocmask(SIG_BLOCK, &set, NULL);
            now.c_lflag |= TOSTOP;
            CALL(tcsetattr(slave, TCSANOW, &now));
            CALL(write(slave, "tostop\n", 7));
            sigprocmask(SIG_UNBLOCK, &set, NULL);
            CALL(write(slave, "tostop\n", 7)); printf("%d\n", got[SIGTTOU]);
            signal(SIGTTOU, SIG_DFL);
            fflush(stdout);
            CALL(write(slave, "at last\n", 8));
            fflush(stdout);
            _exit(5);
        }
        setpgid(child, child);
        await(0);
        waitpid(child, &status, WUNTRACED);
        printf("stopped %d by %s\n", WIFSTOPPED(status), sigabbrev_np(WSTOPSIG(status)));
        CALL(waitpid(child, &status, WUNTRACED | WNOHANG));
        siginfo_t info = {0};
        CALL(tcsetpgrp(slave, child));
        kill(-child, SIGCONT);
        waitid(P_PID, child, &info, WCONTINUED);
        printf("continued: code %d status %s\n", info.si_code, sigabbrev_np(info.si_status));
        if (write(master, "for you\n", 8) != 8) printf("short\n");
        await(0);
        /* From the background itself now: ignoring SIGTTOU, as shells do. */
        signal(SIGTTOU, SIG_IGN);
        CALL(tcsetpgrp(slave, getpgrp()));
        fflush(stdout);
        tell(1);
        waitpid(child, &status, WUNTRACED);
        printf("stopped %d by %s\n", WIFSTOPPED(status), sigabbrev_np(WSTOPSIG(status)));
        CALL(tcsetpgrp(slave, child));
        fflush(stdout);
        kill(-child, SIGCONT);
        ended(child);
        fflush(stdout);
        _exit(0);
    }
    ended(leader);
    char buffer[128];
    show("master", buffer, get(master, buffer, sizeof buffer));
}

static void orphans(void)
{
    printf("-- orphaned groups\n");
    pair();
    fflush(stdout);
    pid_t leader = fork();
    if (leader == 0) {
        setsid();
        slave = open(name_, O_RDWR);
        pid_t child = fork();
        if (child == 0) {
            setpgid(0, 0);
            pid_t grandchild = fork();
            if (grandchild == 0) {
                char buffer[16];
                await(0);
                while (getppid() != leader && getppid() == getpgrp()) usleep(1000);
                usleep(20000);
                show("read", buffer, read(slave, buffer, sizeof buffer));
                struct termios now; tcgetattr(slave, &now);
                CALL(tcsetattr(slave, TCSANOW, &now));
                CALL(tcsetpgrp(slave, getpgrp()));
                CALL(raise(SIGTSTP));
                CALL(raise(SIGTTIN));
                printf("not stopped\n");
                fflush(stdout);
                tell(1);
                _exit(0);
            }
            _exit(0);
        }
        setpgid(child, child);
        ended(child);
        fflush(stdout);
        tell(0);
        await(1);
        _exit(0);
    }
    ended(leader);

    printf("-- a stopped group is orphaned\n");
    pair();
    fflush(stdout);
    pid_t top = fork();
    if (top == 0) {
        setsid();
        pid_t child = fork();
        if (child == 0) {
            setpgid(0, 0);
            pid_t grandchild = fork();
            if (grandchild == 0) {
                sigset_t set; sigemptyset(&set); sigaddset(&set, SIGHUP); sigaddset(&set, SIGCONT);
                sigprocmask(SIG_BLOCK, &set, NULL);
                tell(0);
                raise(SIGSTOP);
                await(1);
                siginfo_t info;
                for (int i = 0; i < 2; i++) {
                    int signal = sigwaitinfo(&set, &info);
                    printf("%s code %d pid %d\n", sigabbrev_np(signal), info.si_code, info.si_pid);
                }
                fflush(stdout);
                tell(0);
                _exit(0);
            }
            await(0);
            int status;
            waitpid(grandchild, &status, WUNTRACED);
            printf("stopped %d\n", WIFSTOPPED(status));
            fflush(stdout);
            _exit(0);
        }
        ended(child);
        fflush(stdout);
        tell(1);
        await(0);
        _exit(0);
    }
    ended(top);
}

static void keys(void)
{
    printf("-- keys\n");
    pair();
    fflush(stdout);
    pid_t leader = fork();
    if (leader == 0) {
        setsid();
        slave = open(name_, O_RDWR);
        const struct { const char *key; int signal; } all[] = {{"\x03", SIGINT}, {"\x1c", SIGQUIT}, {"\x1a", SIGTSTP}};
        for (int i = 0; i < 3; i++) {
            handle(all[i].signal, SA_SIGINFO, notes);
            char echo[16];
            if (write(master, "lost", 4) != 4) printf("short\n");
            settle();
            show("echo", echo, get(master, echo, sizeof echo));
            if (write(master, all[i].key, 1) != 1) printf("short\n");
            while (!got[all[i].signal]) usleep(100);
        }
        char buffer[64];
        settle();
        YES(!readable(slave));
        if (write(master, "line\n", 5) != 5) printf("short\n");
        show("read", buffer, read(slave, buffer, sizeof buffer));
        show("echo", buffer, get(master, buffer, sizeof buffer));
        change(lflag, NOFLSH, 0);
        got[SIGINT] = 0;
        if (write(master, "kept\x03!\n", 7) != 7) printf("short\n");
        while (!got[SIGINT]) usleep(100);
        show("read", buffer, read(slave, buffer, sizeof buffer));
        got[SIGINT] = 0;
        CALL(ioctl(master, 0x40045436, SIGINT)); printf("%d\n", got[SIGINT]);
        CALL(ioctl(master, 0x40045436, SIGTERM));
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            signal(SIGTSTP, SIG_DFL); signal(SIGINT, SIG_DFL); signal(SIGQUIT, SIG_DFL);
            setpgid(0, 0);
            signal(SIGTTOU, SIG_IGN);
            tcsetpgrp(slave, getpid());
            tell(0);
            for (;;) pause();
        }
        await(0);
        int status;
        if (write(master, "\x1a", 1) != 1) printf("short\n");
        waitpid(child, &status, WUNTRACED);
        printf("stopped %d by %s\n", WIFSTOPPED(status), sigabbrev_np(WSTOPSIG(status)));
        kill(child, SIGCONT);
        waitpid(child, &status, WCONTINUED);
        YES(WIFCONTINUED(status));
        if (write(master, "\x1c", 1) != 1) printf("short\n");
        waitpid(child, &status, 0);
        printf("died of %s\n", sigabbrev_np(WTERMSIG(status)));
        printf("leader: %d %d\n", got[SIGQUIT], got[SIGTSTP]);
        fflush(stdout);
        _exit(0);
    }
    ended(leader);

    printf("-- a blocked read and a key\n");
    pair();
    fflush(stdout);
    leader = fork();
    if (leader == 0) {
        char buffer[16];
        setsid();
        slave = open(name_, O_RDWR);
        handle(SIGINT, 0, note);
        tell(0);
        show("interrupted", buffer, read(slave, buffer, sizeof buffer));
        handle(SIGINT, SA_RESTART, note);
        tell(0);
        show("restarted", buffer, read(slave, buffer, sizeof buffer));
        printf("%d\n", got[SIGINT]);
        fflush(stdout);
        _exit(0);
    }
    await(0); usleep(20000);
    if (write(master, "\x03", 1) != 1) printf("short\n");
    await(0); usleep(20000);
    if (write(master, "\x03", 1) != 1) printf("short\n");
    usleep(20000);
    if (write(master, "go\n", 3) != 3) printf("short\n");
    ended(leader);
}

static void sizes(void)
{
    printf("-- window size\n");
    pair();
    fflush(stdout);
    pid_t leader = fork();
    if (leader == 0) {
        struct winsize size = {1, 2, 3, 4};
        setsid();
        slave = open(name_, O_RDWR);
        CALL(ioctl(slave, TIOCGWINSZ, &size));
        printf("%d %d %d %d\n", size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel);
        handle(SIGWINCH, SA_SIGINFO, notes);
        size = (struct winsize){24, 80, 5, 6};
        CALL(ioctl(master, TIOCSWINSZ, &size));
        CALL(ioctl(master, TIOCSWINSZ, &size));
        size.ws_row = 25;
        CALL(ioctl(slave, TIOCSWINSZ, &size));
        memset(&size, 0, sizeof size);
        CALL(ioctl(master, TIOCGWINSZ, &size));
        printf("%d %d %d %d, %d signals\n", size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel, got[SIGWINCH]);
        CALL(ioctl(slave, TIOCSWINSZ, 0));
        fflush(stdout);
        _exit(0);
    }
    ended(leader);
}

static void hang_up(void)
{
    printf("-- the master closes\n");
    pair();
    fflush(stdout);
    pid_t leader = fork();
    if (leader == 0) {
        char buffer[16];
        int value;
        setsid();
        slave = open(name_, O_RDWR);
        int second = open("/dev/tty", O_RDWR);
        handle(SIGHUP, 0, note);
        handle(SIGCONT, 0, note);
        pid_t reader = fork();
        if (reader == 0) {
            close(master);
            signal(SIGHUP, SIG_IGN);
            tell(0);
            show("blocked read", buffer, read(slave, buffer, sizeof buffer));
            show("next read", buffer, read(slave, buffer, sizeof buffer));
            fflush(stdout);
            tell(1);
            _exit(0);
        }
        await(0); usleep(20000);
        close(master);
        await(1);
        ended(reader);
        YES(got[SIGHUP] == 1 && got[SIGCONT] == 1);
        show("read", buffer, read(slave, buffer, sizeof buffer));
        CALL(write(slave, "x", 1));
        CALL(ioctl(slave, TCGETS, buffer));
        CALL(ioctl(slave, TIOCSPGRP, &value));
        CALL(ioctl(slave, FIONREAD, &value));
        struct pollfd p = {slave, POLLIN | POLLOUT | POLLPRI, 0};
        CALL(poll(&p, 1, 0)); printf("%x\n", p.revents);
        show("tty", buffer, read(second, buffer, sizeof buffer));
        CALL(open(name_, O_RDWR | O_NOCTTY));
        CALL(open("/dev/tty", O_RDWR));
        stat_terminal();
        YES(isatty(slave));
        fflush(stdout);
        _exit(0);
    }
    close(master);
    master = -1;
    ended(leader);

    printf("-- the leader ends\n");
    pair();
    fflush(stdout);
    leader = fork();
    if (leader == 0) {
        setsid();
        slave = open(name_, O_RDWR);
        pid_t front = fork();
        if (front == 0) {
            setpgid(0, 0);
            handle(SIGHUP, 0, note);
            handle(SIGCONT, 0, note);
            signal(SIGTTOU, SIG_IGN);
            tcsetpgrp(slave, getpid());
            tell(0);
            while (!got[SIGHUP]) usleep(1000);
            await(1);
            stat_terminal();
            CALL(open("/dev/tty", O_RDWR));
            char buffer[8];
            int value;
            CALL(ioctl(slave, TIOCGSID, &value));
            if (write(master, "still\n", 6) != 6) printf("short\n");
            show("read", buffer, read(slave, buffer, 8));
            printf("%d\n", got[SIGCONT]);
            fflush(stdout);
            tell(0);
            _exit(0);
        }
        pid_t behind = fork();
        if (behind == 0) { pause(); _exit(0); }
        await(0);
        if (write(pipes[0][1], &behind, sizeof behind) != sizeof behind) _exit(9);
        _exit(7);
    }
    ended(leader);
    pid_t behind;
    while (read(pipes[0][0], &behind, sizeof behind) != sizeof behind) ;
    tell(1);
    await(0);
    CALL(kill(behind, SIGKILL));

    printf("-- the slave closes\n");
    fresh();
    struct pollfd p = {master, POLLIN | POLLOUT, 0};
    CALL(poll(&p, 1, 0)); printf("%x\n", p.revents);
    CALL(write(slave, "last", 4));
    close(slave);
    char buffer[16];
    CALL(poll(&p, 1, 0)); printf("%x\n", p.revents);
    show("master", buffer, read(master, buffer, 16));
    show("master", buffer, read(master, buffer, 16));
    CALL(poll(&p, 1, 0)); printf("%x\n", p.revents);
    CALL(write(master, "typed\n", 6));
    ptsname_r(master, name_, sizeof name_);
    slave = open(name_, O_RDWR | O_NOCTTY);
    show("kept", buffer, read(slave, buffer, 16));
    CALL(poll(&p, 1, 100)); printf("%x\n", p.revents);
    int epoll = epoll_create1(0);
    struct epoll_event event = {EPOLLIN | EPOLLOUT | EPOLLET, {0}};
    CALL(epoll_ctl(epoll, EPOLL_CTL_ADD, slave, &event));
    CALL(epoll_wait(epoll, &event, 1, 0)); printf("%x\n", event.events);
    CALL(epoll_wait(epoll, &event, 1, 0));
    if (write(master, "more\n", 5) != 5) printf("short\n");
    CALL(epoll_wait(epoll, &event, 1, 1000)); printf("%x\n", event.events & (EPOLLIN | EPOLLHUP));
    close(master);
    CALL(epoll_wait(epoll, &event, 1, 1000)); printf("%x\n", event.events);
    master = -1;
}

static void packets(void)
{
    char buffer[64];
    int on = 1;
    printf("-- packets\n");
    fresh();
    change(lflag, 0, ECHO);
    CALL(ioctl(master, TIOCPKT, &on));
    CALL(ioctl(master, 0x80045438, &on)); printf("%d\n", on);
    CALL(write(slave, "data", 4));
    settle_output();
    show("packet", buffer, read(master, buffer, 64));
    CALL(tcflow(slave, TCOOFF));
    struct pollfd p = {master, POLLIN | POLLPRI | POLLOUT, 0};
    CALL(poll(&p, 1, 0)); printf("%x\n", p.revents);
    show("packet", buffer, read(master, buffer, 64));
    CALL(tcflow(slave, TCOON));
    show("packet", buffer, read(master, buffer, 64));
    CALL(tcflush(slave, TCIOFLUSH));
    show("packet", buffer, read(master, buffer, 64));
    change(iflag, 0, IXON);
    show("packet", buffer, read(master, buffer, 64));
    change(iflag, IXON, 0);
    show("packet", buffer, read(master, buffer, 64));
    change(lflag, EXTPROC, 0);
    show("packet", buffer, read(master, buffer, 64));
    change(lflag, 0, EXTPROC);
    show("packet", buffer, read(master, buffer, 64));
    CALL(write(slave, "abc", 3));
    settle_output();
    show("packet", buffer, read(master, buffer, 2));
    show("packet", buffer, read(master, buffer, 64));
    on = 0;
    CALL(ioctl(master, TIOCPKT, &on));
    CALL(write(slave, "plain", 5));
    settle_output();
    show("plain", buffer, read(master, buffer, 64));
    CALL(ioctl(slave, TIOCPKT, &on));
}

static void opening(void)
{
    int value = 9;
    char buffer[64];
    printf("-- opening\n");
    pair();
    close(master);
    master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    CALL(ioctl(master, 0x80045439, &value)); printf("%d\n", value);
    CALL(open(ptsname(master), O_RDWR | O_NOCTTY));
    CALL(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY));
    value = 0;
    CALL(ioctl(master, TIOCSPTLCK, &value));
    slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    YES(slave >= 0 && fcntl(slave, F_GETFD) == FD_CLOEXEC);
    YES(!strcmp(ttyname(slave), ptsname(master)));
    CALL(grantpt(master)); CALL(unlockpt(master));
    CALL(ioctl(slave, TIOCGPTN, &value));
    CALL(ioctl(slave, TIOCGPTPEER, O_RDWR));
    CALL(ioctl(slave, TIOCSPTLCK, &value));
    /* Input that comes before anybody opens the slave. */
    close(slave);
    slave = -1;
    CALL(close(open("/dev/ptmx", O_RDWR)));
    CALL(access("/dev/pts/123456", F_OK));
    CALL(access("/dev/pts/01", F_OK));
    CALL(access("/dev/pts/ptmx", F_OK));
    CALL(mkdir("/dev/pts/d", 0700) == -1 ? 0 : 1);
    CALL(unlink("/dev/pts/ptmx") == -1 ? 0 : 1);
    snprintf(buffer, sizeof buffer, "%s", ptsname(master));
    CALL(chmod(buffer, 0600));
    struct stat info;
    CALL(stat(buffer, &info)); printf("%o %d\n", info.st_mode, (int)info.st_nlink);
    close(master);
    CALL(stat(buffer, &info));
    master = slave = -1;
}

int main(void)
{
    alarm(100);
    signal(SIGHUP, SIG_DFL);
    controlling();
    background();
    orphans();
    keys();
    sizes();
    hang_up();
    packets();
    opening();
    return 0;
}
