/* What settings of /proc/sys mean to the calls that they are about. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *outcome(int result)
{
    return result >= 0 ? "0" : strerrorname_np(errno);
}

static void show(const char *path)
{
    char text[256] = "";
    char full[256];
    snprintf(full, sizeof full, "/proc/sys/%s", path);
    int fd = open(full, O_RDONLY);
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    for (ssize_t at = 0; at < length; at++)
        if (text[at] == '\t' || text[at] == '\n')
            text[at] = at + 1 == length ? 0 : ' ';
    printf(" %s", text);
}

static void shared_memory(void)
{
    /* 20 pages and two segments in all, 16 pages in one. */
    printf("shm: too long %s", outcome(shmget(IPC_PRIVATE, 65537, 0600)));
    printf(", one %s", outcome(shmget(IPC_PRIVATE, 65536, 0600)));
    printf(", too many pages %s", outcome(shmget(IPC_PRIVATE, 16385, 0600)));
    printf(", few %s", outcome(shmget(IPC_PRIVATE, 16384, 0600)));
    printf(", a third %s\n", outcome(shmget(IPC_PRIVATE, 1, 0600)));
}

static void messages(void)
{
    struct { long kind; char text[200]; } message = { .kind = 1 };
    int queue = msgget(IPC_PRIVATE, 0600);
    printf("msg: queue %s", outcome(queue));
    printf(", too long %s", outcome(msgsnd(queue, &message, 101, IPC_NOWAIT)));
    printf(", 100 bytes %s", outcome(msgsnd(queue, &message, 100, IPC_NOWAIT)));
    printf(", 100 bytes %s", outcome(msgsnd(queue, &message, 100, IPC_NOWAIT)));
    printf(", full %s", outcome(msgsnd(queue, &message, 100, IPC_NOWAIT)));
    printf(", second %s\n", outcome(msgget(IPC_PRIVATE, 0600)));
}

static void semaphores(void)
{
    printf("sem: of a set %s", outcome(semget(IPC_PRIVATE, 11, 0600)));
    int ten = semget(IPC_PRIVATE, 10, 0600);
    printf(", ten %s", outcome(ten));
    printf(", too many of all %s", outcome(semget(IPC_PRIVATE, 3, 0600)));
    int two = semget(IPC_PRIVATE, 2, 0600);
    printf(", two %s", outcome(two));
    printf(", none left %s", outcome(semget(IPC_PRIVATE, 1, 0600)));
    semctl(two, 0, IPC_RMID);
    printf(", one again %s", outcome(semget(IPC_PRIVATE, 1, 0600)));
    struct sembuf six[6] = { 0 };
    printf(", operations %s\n", outcome(semop(ten, six, 6)));
}

static void posix_queues(void)
{
    struct mq_attr attr;
    mqd_t queue = mq_open("/one", O_CREAT | O_RDWR, 0600, NULL);
    mq_getattr(queue, &attr);
    printf("mq: default %ld %ld", attr.mq_maxmsg, attr.mq_msgsize);
    struct mq_attr above = { .mq_maxmsg = 21, .mq_msgsize = 100 };
    printf(", second %s", outcome(mq_open("/two", O_CREAT | O_RDWR, 0600, NULL)));
    mq_unlink("/one");
    printf(", without a name %s", outcome(mq_open("/two", O_CREAT | O_RDWR, 0600, NULL)));
    mq_close(queue);
    printf(", above %s", outcome(mq_open("/two", O_CREAT | O_RDWR, 0600, &above)));
    above.mq_maxmsg = 20;
    printf(", at most %s\n", outcome(mq_open("/two", O_CREAT | O_RDWR, 0600, &above)));
}

static void ports(void)
{
    int found = 0;
    for (int index = 0; index < 3; index++) {
        struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t length = sizeof at;
        int fd = socket(AF_INET, SOCK_DGRAM, 0);
        if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0) {
            printf("ports: %d, then %s\n", found, outcome(-1));
            return;
        }
        getsockname(fd, (struct sockaddr *)&at, &length);
        found += ntohs(at.sin_port);
    }
    printf("ports: %d\n", found);
}

static void keepalive(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int options[] = { TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT };
    printf("keepalive:");
    for (int index = 0; index < 3; index++) {
        int value = 0;
        socklen_t length = sizeof value;
        getsockopt(fd, IPPROTO_TCP, options[index], &value, &length);
        printf(" %d", value);
    }
    printf("\n");
}

int main(void)
{
    const char *names[] = {
        "kernel/shmmax", "kernel/shmall", "kernel/shmmni", "kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem",
        "fs/mqueue/msg_max", "fs/mqueue/msg_default", "fs/mqueue/msgsize_max", "fs/mqueue/msgsize_default", "fs/mqueue/queues_max",
        "net/ipv4/ip_local_port_range", "net/ipv4/tcp_keepalive_time", "net/ipv4/tcp_keepalive_intvl", "net/ipv4/tcp_keepalive_probes",
    };
    printf("proc:");
    for (unsigned index = 0; index < sizeof names / sizeof *names; index++)
        show(names[index]);
    printf("\n");
    shared_memory();
    messages();
    semaphores();
    posix_queues();
    ports();
    keepalive();
    return 0;
}
