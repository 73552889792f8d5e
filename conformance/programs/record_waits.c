/* Waiting for record locks: no circle is seen where there is none, and every circle is. */
#define _GNU_SOURCE
#include "report.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { PROCESSES = 4, ROUNDS = 3000, FILES = 3 };

static int lock(int fd, int command, short type, off_t start, off_t length) {
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return fcntl(fd, command, &range);
}
static int opened(int file) {
    char name[16];
    snprintf(name, sizeof name, "file%d", file);
    return open(name, O_RDWR | O_CREAT, 0600);
}

/* Processes that hold one lock at a time, or take several in one order, wait in no circle. */
static int hold_one(int me) {
    int failed = 0, fd[FILES];
    for (int i = 0; i < FILES; i++) fd[i] = opened(i);
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < FILES; i++) {
            failed += lock(fd[i], F_SETLKW, F_WRLCK, 0, 8) != 0;
            failed += lock(fd[i], F_SETLK, F_UNLCK, 0, 8) != 0;
        }
    (void)me;
    return failed;
}
static int in_one_order(int me) {
    int failed = 0, fd = opened(0);
    for (int round = 0; round < ROUNDS; round++) {
        for (int at = 0; at < 4; at++) failed += lock(fd, F_SETLKW, (round + me) % 3 ? F_WRLCK : F_RDLCK, at, 1) != 0;
        for (int at = 0; at < 4; at++) failed += lock(fd, F_SETLK, F_UNLCK, at, 1) != 0;
    }
    return failed;
}
static int then_closed(int me) {
    int failed = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int fd = opened((round + me) % 2);
        failed += lock(fd, F_SETLKW, F_WRLCK, 0, 0) != 0;
        close(fd);
    }
    return failed;
}
static void together(const char *what, int (*body)(int)) {
    int failed = 0, start[2];
    char c;
    if (pipe(start)) return;
    fflush(stdout);
    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0) {
            close(start[1]);
            int count = read(start[0], &c, 1) == 0 ? body(i) : 255;
            _exit(count > 255 ? 255 : count);
        }
    close(start[0]), close(start[1]);
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        wait(&status);
        failed += WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
    }
    printf("%s: %d failed\n", what, failed);
}

/* Two threads of one process wait, each for another; who closes the circle with either is told. */
static void *waits_for_second(void *unused) {
    lock(opened(1), F_SETLKW, F_WRLCK, 1, 1);
    return unused;
}
static void circle_through_a_thread(void) {
    int ready[2], one = opened(0), two = opened(1), status;
    char c;
    if (pipe(ready)) return;
    lock(one, F_SETLK, F_WRLCK, 0, 1);
    fflush(stdout);
    pid_t first = fork();
    if (first == 0) {
        /* Holds byte 1 of both; one thread waits for byte 0 of the one, the other for nothing. */
        lock(opened(1), F_SETLK, F_WRLCK, 0, 1);
        pthread_t thread;
        pthread_create(&thread, NULL, waits_for_second, NULL);
        usleep(200000);
        if (write(ready[1], "x", 1) != 1) _exit(9);
        int result = lock(opened(0), F_SETLKW, F_WRLCK, 0, 1);
        _exit(result ? 1 : 0);
    }
    pid_t second = fork();
    if (second == 0) {
        lock(opened(1), F_SETLK, F_WRLCK, 1, 1);
        usleep(700000);
        _exit(0);
    }
    if (read(ready[0], &c, 1) != 1) return;
    usleep(200000);
    CALL(lock(two, F_SETLKW, F_WRLCK, 0, 1));
    CALL(lock(one, F_SETLK, F_UNLCK, 0, 1));
    waitpid(first, &status, 0);
    printf("first: %d\n", WEXITSTATUS(status));
    waitpid(second, &status, 0);
}

/* What was given up for a shared lock, or in part, is waited for no longer. */
static void narrowed(void) {
    int fd = opened(0), ready[2];
    char c;
    if (pipe(ready)) return;
    lock(fd, F_SETLK, F_WRLCK, 0, 10);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        lock(fd, F_SETLK, F_WRLCK, 20, 1);
        if (write(ready[1], "x", 1) != 1) _exit(9);
        int got = lock(fd, F_SETLKW, F_RDLCK, 0, 5);
        if (write(ready[1], "y", 1) != 1) _exit(9);
        usleep(200000);
        _exit(got ? 1 : 0);
    }
    if (read(ready[0], &c, 1) != 1) return;
    usleep(200000);
    CALL(lock(fd, F_SETLK, F_RDLCK, 0, 5));
    if (read(ready[0], &c, 1) != 1) return;
    CALL(lock(fd, F_SETLKW, F_WRLCK, 20, 1));
    int status;
    waitpid(child, &status, 0);
    printf("child: %d\n", WEXITSTATUS(status));
}

int main(void) {
    together("one lock at a time", hold_one);
    together("several in one order", in_one_order);
    together("let go by close", then_closed);
    circle_through_a_thread();
    narrowed();
    return 0;
}
