/* Notice of changes in a directory (fcntl(2) F_NOTIFY). */
#include "report.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static volatile sig_atomic_t got, got_fd, got_code, got_band, count;
static void handler(int signal, siginfo_t *info, void *context) {
    (void)context;
    got = signal;
    got_fd = info->si_fd;
    got_code = info->si_code;
    got_band = info->si_band;
    count++;
}
static int d;
static void after(const char *what) {
    printf("%s: %d\n", what, (int)count);
    count = 0;
}
/* Everything that can happen in a directory, one after the other. */
static void events(void) {
    struct stat s;
    char b[4];
    int f = open("d/f", O_CREAT | O_RDWR, 0600);
    after("create");
    write(f, "x", 1);
    after("write");
    pread(f, b, 1, 0);
    after("read");
    ftruncate(f, 0);
    after("truncate");
    fchmod(f, 0640);
    after("chmod");
    close(f);
    after("close");
    stat("d/f", &s);
    after("stat");
    utimensat(AT_FDCWD, "d/f", NULL, 0);
    after("times");
    rename("d/f", "d/g");
    after("rename in it");
    rename("d/g", "g");
    after("rename out");
    rename("g", "d/g");
    after("rename into");
    link("d/g", "d/h");
    after("link");
    unlink("d/h");
    after("unlink");
    mkdir("d/sub", 0755);
    after("mkdir");
    close(open("d/sub/deep", O_CREAT | O_WRONLY, 0600));
    unlink("d/sub/deep");
    after("below");
    rmdir("d/sub");
    after("rmdir");
    chmod("d", 0755);
    after("chmod itself");
    unlink("d/g");
    after("unlink");
}

int main(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGIO, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    mkdir("d", 0755);
    close(open("file", O_CREAT | O_WRONLY, 0644));
    int f = open("file", O_RDONLY), p = open("d", O_PATH);
    d = open("d", O_RDONLY);
    CALL(fcntl(f, F_NOTIFY, DN_CREATE));
    CALL(fcntl(p, F_NOTIFY, DN_CREATE));
    CALL(fcntl(d, F_NOTIFY, 0));
    CALL(fcntl(d, F_NOTIFY, DN_MULTISHOT));
    static const struct { int mask; const char *name; } masks[] = {{DN_ACCESS, "access"}, {DN_MODIFY, "modify"}, {DN_CREATE, "create"},
        {DN_DELETE, "delete"}, {DN_RENAME, "rename"}, {DN_ATTRIB, "attrib"}, {DN_CREATE | DN_DELETE | DN_MODIFY, "several"}};
    for (unsigned i = 0; i < sizeof masks / sizeof *masks; i++) {
        printf("== %s\n", masks[i].name);
        fcntl(d, F_NOTIFY, masks[i].mask | DN_MULTISHOT);
        events();
        fcntl(d, F_NOTIFY, 0);
        fcntl(d, F_NOTIFY, masks[i].mask);
        events();
    }
    printf("%d\n", got == SIGIO);
    CALL(fcntl(d, F_SETSIG, SIGUSR1));
    CALL(fcntl(d, F_NOTIFY, DN_CREATE));
    CALL(fcntl(d, F_NOTIFY, DN_DELETE));
    mkdir("d/x", 0700);
    printf("%d %d %d %x\n", got == SIGUSR1, got_fd == d, got_code, (int)got_band);
    rmdir("d/x");
    after("added to what there was");
    /* Another process is told through its own descriptor; a closed one ends it. */
    CALL(fcntl(d, F_NOTIFY, DN_CREATE | DN_MULTISHOT));
    int copy = dup(d);
    pid_t child = fork();
    if (!child) {
        close(d);
        close(copy);
        mkdir("d/y", 0700);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    after("another process");
    rmdir("d/y");
    close(copy);
    mkdir("d/y", 0700);
    after("its duplicate closed");
    rmdir("d/y");
    close(d);
    mkdir("d/y", 0700);
    after("closed");
    return 0;
}
