/* What mappings show when their file is made shorter, and longer again: in the process that does it and in another. */
#include "report.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define PAGE 4096ul
#define RW (PROT_READ | PROT_WRITE)

static sigjmp_buf back;
static void caught(int number) { siglongjmp(back, number); }

static void show(const char *name, volatile char *at) {
    int number = sigsetjmp(back, 1);
    if (number == 0) printf("%s %d  ", name, *at);
    else printf("%s signal %d  ", name, number);
}

static char *shared, *private, *untouched;
static void look(const char *when) {
    printf("%s: ", when);
    show("shared", shared + PAGE), show("private", private + PAGE), show("untouched", untouched + PAGE);
    show("last", shared + 100), show("own", private + 100), printf("\n"), fflush(stdout);
}

/* Fresh contents, a mapping of each kind, the private one written to. */
static void map(int fd) {
    char bytes[4 * PAGE];
    memset(bytes, 7, sizeof bytes);
    OK(pwrite(fd, bytes, sizeof bytes, 0));
    shared = mmap(NULL, 4 * PAGE, RW, MAP_SHARED, fd, 0);
    private = mmap(NULL, 4 * PAGE, RW, MAP_PRIVATE, fd, 0);
    untouched = mmap(NULL, 4 * PAGE, RW, MAP_PRIVATE, fd, 0);
    memset(private, 9, 4 * PAGE);
}

static void change(const char *path, int fd, int number) {
    switch (number) {
        case 0: ftruncate(fd, 50); break;
        case 1: ftruncate(fd, 4 * PAGE); break;
        case 2: truncate(path, PAGE); break;
        case 3: pwrite(fd, "x", 1, 2 * PAGE); break;
        case 4: close(open(path, O_WRONLY | O_TRUNC)); break;
        case 5: fallocate(fd, 0, 0, 3 * PAGE); break;
    }
}

static void in_one_process(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT, 0644);
    map(fd);
    look("whole");
    for (int i = 0; i < 6; i++) change(path, fd, i), look("changed");
    munmap(shared, 4 * PAGE), munmap(private, 4 * PAGE), munmap(untouched, 4 * PAGE);
    close(fd), unlink(path);
}

/* The other process looks while it does nothing else, computes, or sleeps in a call: it is not in the way. */
static void in_another(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT, 0644), to[2], from[2];
    pipe(to), pipe(from);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        char c;
        close(to[1]);
        map(fd);
        write(from[1], "r", 1);
        while (read(to[0], &c, 1) == 1) look("the other's view"), write(from[1], "r", 1);
        _exit(0);
    }
    char c;
    close(to[0]), read(from[0], &c, 1);
    for (int i = 0; i < 6; i++) change(path, fd, i), write(to[1], "l", 1), read(from[0], &c, 1);
    close(to[1]);
    int status = -1;
    waitpid(child, &status, 0);
    printf("ended with %d\n", status);
    close(fd), unlink(path);
}

/* Two that map the same file cut it at once: neither waits for the other for ever. */
static void at_once(const char *path) {
    pid_t children[2];
    for (int k = 0; k < 2; k++) {
        children[k] = fork();
        if (children[k] > 0) continue;
        int fd = open(path, O_RDWR | O_CREAT, 0644);
        for (int i = 0; i < 300; i++) {
            ftruncate(fd, 4 * PAGE);
            char *p = mmap(NULL, 4 * PAGE, RW, MAP_SHARED, fd, 0);
            ftruncate(fd, i % 3 * PAGE);
            munmap(p, 4 * PAGE);
        }
        _exit(0);
    }
    for (int k = 0; k < 2; k++) waitpid(children[k], NULL, 0);
    printf("both ended\n");
    unlink(path);
}

int main(void) {
    struct sigaction action = {.sa_handler = caught, .sa_flags = SA_NODEFER};
    sigaction(SIGBUS, &action, NULL), sigaction(SIGSEGV, &action, NULL);
    in_one_process("here"), in_one_process("/tmp/truncated");
    in_another("here"), in_another("/tmp/truncated");
    at_once("here"), at_once("/tmp/truncated");
    int fd = memfd_create("m", 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    map(fd);
    for (int i = 0; i < 6; i++) change(path, fd, i), look("memfd");
    return 0;
}
