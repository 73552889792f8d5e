/* floods WHAT [SECONDS]: more of it than there is. What our kernel counts is asked of it; what it cannot count once it has been taken
 * over ("raw") is asked of the host. */
#include "takeover.h"
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

static int out_of_time(void) {
    static time_t start;
    if (!start) start = time(NULL);
    return time(NULL) - start > 10;
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    const char *what = argv[1];
    long count = 0;
    if (is(what, "raw_processes")) {
        take_over();
        trying();
        /* Each stays; with memory of its own. */
        for (;;) {
            long pid = HOST(SYS_clone, CLONE_FILES | CLONE_PARENT);
            if (pid == 0)
                for (;;) HOST(SYS_ppoll, 0, 0, 0, 0);
            if (pid < 0) {
                say("%ld processes, then error %ld\n", count, -pid);
                break;
            }
            if (++count > 100000) break;
        }
        held();
        HOST(SYS_exit_group, 0);
    } else if (is(what, "raw_memory")) {
        take_over();
        trying();
        /* Page frames beyond what the sandbox may use: our kernel is not asked. */
        for (unsigned long at = 0; at < 4 * GIB; at += PAGE) {
            *(volatile char *)(base + FRAMES + GIB + at) = 1;
            if (at % (256ul << 20) == 0) say("%lu MiB\n", at >> 20);
        }
        say("all of it\n");
    } else if (is(what, "raw_descriptors")) {
        take_over();
        while (HOST(SYS_openat, AT_FDCWD, "/", O_PATH) >= 0 && count < 4000000) count++;
        say("%ld descriptors\n", count);
        held();
        HOST(SYS_exit_group, 0);
    } else if (is(what, "processes")) {
        pid_t pid;
        while ((pid = fork()) > 0 && count < 100000) count++;
        if (pid == 0) for (;;) pause();
        printf("%ld processes, then %s\n", count, strerror(errno));
        held();
        fflush(stdout);
        kill(getpid(), SIGKILL);
    } else if (is(what, "memory")) {
        for (;;) {
            char *area = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
            if (area == MAP_FAILED) break;
            memset(area, 1, 16 << 20);
            count += 16;
        }
        printf("%ld MiB, then %s\n", count, strerror(errno));
        held();
    } else if (is(what, "disk")) {
        static char data[1 << 20];
        int fd = open("/tmp/flood", O_CREAT | O_WRONLY, 0600);
        while (write(fd, data, sizeof data) == sizeof data) count++;
        printf("%ld MiB, then %s\n", count, strerror(errno));
        held();
    } else if (is(what, "inodes")) {
        char name[64];
        for (;;) {
            snprintf(name, sizeof name, "/tmp/inode-%ld", count);
            int fd = open(name, O_CREAT | O_WRONLY, 0600);
            if (fd < 0) break;
            close(fd);
            if (++count >= 2000000 || out_of_time()) { printf("%ld inodes and no end\n", count); return 1; }
        }
        printf("%ld inodes, then %s\n", count, strerror(errno));
        held();
    } else if (is(what, "pipes")) {
        int fds[2];
        static char data[1 << 16];
        while (count < 2000 && pipe(fds) == 0) {
            fcntl(fds[1], F_SETFL, O_NONBLOCK);
            while (write(fds[1], data, sizeof data) > 0) {}
            count++;
        }
        printf("%ld pipes, then %s\n", count, strerror(errno));
        held();
    } else if (is(what, "output")) {
        static char data[1 << 16];
        memset(data, 'x', sizeof data);
        for (;;)
            if (write(1, data, sizeof data) < 0) return 1;
    } else if (is(what, "log")) {
        /* Each is a line in the log at level "warn". */
        for (int i = 0; i < 100000; i++) syscall(1000 + i % 50);
        held();
    }
    return 0;
}
