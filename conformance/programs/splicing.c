/* splice, tee, vmsplice: what moves, what stays, and the errors. */
#include "report.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <sys/wait.h>

static int pipes[2], other[2];
static char bytes[200000] __attribute__((aligned(4096))), back[200000];

static void contents(const char *what, int fd)
{
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    long total = 0, count;
    while ((count = read(fd, back + total, sizeof back - total)) > 0)
        total += count;
    fcntl(fd, F_SETFL, flags);
    printf("%s: %ld bytes, %s, end %s\n", what, total, memcmp(back, bytes, total) ? "others" : "the same",
           count == 0 ? "end of file" : strerrorname_np(errno));
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = i * 7 % 251;
    pipe(pipes);
    pipe(other);
    int file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0644);
    write(file, bytes, 100000);
    puts("== file to pipe");
    loff_t at = 0;
    CALL(splice(file, &at, pipes[1], NULL, 5000, 0));
    printf("offset %ld, position %ld\n", (long)at, (long)lseek(file, 0, SEEK_CUR));
    contents("pipe", pipes[0]);
    lseek(file, 0, SEEK_SET);
    CALL(splice(file, NULL, pipes[1], NULL, 100000, 0));
    CALL(lseek(file, 0, SEEK_CUR));
    CALL(splice(file, NULL, pipes[1], NULL, 100000, SPLICE_F_NONBLOCK));
    contents("pipe", pipes[0]);
    at = 100000;
    CALL(splice(file, &at, pipes[1], NULL, 10, 0));
    puts("== pipe to file");
    int to = open("to", O_RDWR | O_CREAT | O_TRUNC, 0644);
    write(pipes[1], bytes, 3000);
    at = 0;
    CALL(splice(pipes[0], NULL, to, &at, 100000, 0));
    printf("offset %ld, position %ld\n", (long)at, (long)lseek(to, 0, SEEK_CUR));
    CALL(splice(pipes[0], NULL, to, NULL, 10, SPLICE_F_NONBLOCK));
    contents("to", to);
    puts("== pipe to pipe");
    write(pipes[1], bytes, 5000);
    CALL(tee(pipes[0], other[1], 3000, 0));
    contents("teed", other[0]);
    CALL(splice(pipes[0], NULL, other[1], NULL, 3000, 0));
    contents("moved", other[0]);
    CALL(splice(pipes[0], NULL, other[1], NULL, 3000, 0));
    CALL(tee(pipes[0], other[1], 10, SPLICE_F_NONBLOCK));
    CALL(splice(pipes[0], NULL, pipes[1], NULL, 10, SPLICE_F_NONBLOCK));
    CALL(tee(pipes[0], pipes[1], 10, SPLICE_F_NONBLOCK));
    lseek(file, 0, SEEK_SET);
    read(other[0], back, 2000);
    puts("== memory");
    struct iovec iov[2] = {{bytes, 1000}, {bytes + 1000, 2000}};
    CALL(vmsplice(pipes[1], iov, 2, 0));
    contents("from memory", pipes[0]);
    struct iovec much = {bytes, sizeof bytes};
    CALL(vmsplice(pipes[1], &much, 1, SPLICE_F_NONBLOCK));
    CALL(vmsplice(pipes[1], &much, 1, SPLICE_F_NONBLOCK));
    contents("from memory", pipes[0]);
    write(pipes[1], bytes, 500);
    struct iovec in = {back, 1000};
    CALL(vmsplice(pipes[0], &in, 1, 0));
    CALL(vmsplice(pipes[0], &in, 1, SPLICE_F_NONBLOCK));
    CALL(vmsplice(file, &in, 1, 0));
    CALL(vmsplice(pipes[1], &in, 1, 16));
    CALL(vmsplice(-1, &in, 1, 0));
    CALL(vmsplice(pipes[1], &in, 0, 0));
    CALL(vmsplice(pipes[1], &in, 2000, 0));
    struct iovec bad = {(void *)8, 100};
    CALL(vmsplice(pipes[1], &bad, 1, 0));
    puts("== errors");
    int reader = open("file", O_RDONLY), appends = open("to", O_WRONLY | O_APPEND), event = eventfd(0, 0),
        directory = open(".", O_RDONLY);
    write(pipes[1], bytes, 10);
    CALL(splice(-1, NULL, -1, NULL, 0, 99));
    CALL(splice(-1, NULL, pipes[1], NULL, 1, 0));
    CALL(splice(file, NULL, pipes[1], NULL, 1, 16));
    CALL(splice(file, NULL, to, NULL, 10, 0));
    CALL(splice(pipes[0], &at, to, NULL, 10, 0));
    CALL(splice(file, NULL, pipes[1], &at, 10, 0));
    CALL(splice(pipes[1], NULL, to, NULL, 10, 0));
    CALL(splice(file, NULL, pipes[0], NULL, 10, 0));
    CALL(splice(pipes[0], NULL, reader, NULL, 10, 0));
    CALL(splice(pipes[0], NULL, appends, NULL, 10, 0));
    CALL(splice(event, NULL, pipes[1], NULL, 8, SPLICE_F_NONBLOCK));
    CALL(splice(directory, NULL, pipes[1], NULL, 8, 0));
    at = -1;
    CALL(splice(file, &at, pipes[1], NULL, 10, 0));
    CALL(splice(file, (void *)8, pipes[1], NULL, 10, 0));
    CALL(tee(pipes[0], other[1], 0, 0));
    CALL(tee(pipes[0], other[1], 0, 16));
    CALL(tee(pipes[0], file, 1, 0));
    CALL(tee(pipes[1], other[1], 1, 0));
    CALL(tee(-1, other[1], 1, 0));
    contents("left", pipes[0]);
    puts("== waiting");
    if (fork() == 0) {
        usleep(50000);
        write(pipes[1], bytes, 100);
        _exit(0);
    }
    CALL(splice(pipes[0], NULL, other[1], NULL, 1000, 0));
    wait(NULL);
    if (fork() == 0) {
        usleep(50000);
        write(pipes[1], bytes, 100);
        _exit(0);
    }
    CALL(tee(pipes[0], other[1], 1000, 0));
    wait(NULL);
    puts("== nobody reads, nobody writes");
    close(other[0]);
    CALL(splice(pipes[0], NULL, other[1], NULL, 10, 0));
    lseek(file, 0, SEEK_SET);
    CALL(splice(file, NULL, other[1], NULL, 10, 0));
    CALL(lseek(file, 0, SEEK_CUR));
    CALL(vmsplice(other[1], iov, 1, 0));
    contents("left", pipes[0]);
    close(pipes[1]);
    CALL(splice(pipes[0], NULL, to, NULL, 10, 0));
    CALL(vmsplice(pipes[0], &in, 1, 0));
    return 0;
}
