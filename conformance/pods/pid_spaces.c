/* What processes of two pid namespaces that share everything else see of each other: `pid_spaces server|client DIRECTORY`, each the first
   process of its namespace. Nobody has a number in the other's. */
#define _GNU_SOURCE
#include "../programs/report.h"
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#define KEY 0x70696473
#define QUEUE "/pid_spaces"

static struct sockaddr_un address = { AF_UNIX, "\0pid_spaces" };
#define LENGTH (offsetof(struct sockaddr_un, sun_path) + 11)

static void peer_of(int socket) {
    struct ucred peer = { -1, 0, 0 };
    socklen_t length = sizeof peer;
    CALL(getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length));
    printf("peer %d\n", peer.pid);
}

/* A line, who sent it, and a descriptor that came with it. */
static int take(int socket) {
    char text[32] = "", data[256];
    int fd = -1;
    struct iovec part = { text, sizeof text - 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = data, .msg_controllen = sizeof data };
    recvmsg(socket, &message, 0);
    printf("got %s", text);
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_type == SCM_CREDENTIALS) printf(" from %d", ((struct ucred *)CMSG_DATA(header))->pid);
        if (header->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(header), sizeof fd);
    }
    printf("\n");
    return fd;
}

static void give(int socket, const char *text, int fd) {
    char data[CMSG_SPACE(sizeof fd)] = { 0 };
    struct iovec part = { (char *)text, strlen(text) };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    if (fd >= 0) {
        message.msg_control = data;
        message.msg_controllen = sizeof data;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    sendmsg(socket, &message, 0);
}

static void about(int pidfd) {
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
    int fd = open(path, O_RDONLY);
    read(fd, text, sizeof text - 1);
    close(fd);
    char *at = strstr(text, "Pid:");
    printf("%s", at == NULL ? "no pid\n" : at);
}

static void objects(void) {
    struct shmid_ds segment;
    struct msqid_ds queue;
    CALL(shmctl(shmget(KEY, 0, 0), IPC_STAT, &segment));
    printf("shm %d %d\n", segment.shm_cpid, segment.shm_lpid);
    CALL(msgctl(msgget(KEY, 0), IPC_STAT, &queue));
    printf("msg %d %d\n", queue.msg_lspid, queue.msg_lrpid);
    CALL(semctl(semget(KEY, 0, 0), 0, GETPID));
}

static volatile siginfo_t told;
static void note(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    memcpy((void *)&told, info, sizeof told);
}

static void server(void) {
    struct sigaction action = { .sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART };
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
    struct mq_attr attributes = { .mq_maxmsg = 2, .mq_msgsize = 8 };
    struct flock lock = { .l_type = F_WRLCK };
    struct { long type; char text[1]; } message = { 1, "x" };
    int on = 1;
    sigaction(SIGUSR1, &action, NULL);
    int file = open("lock", O_RDWR | O_CREAT, 0600);
    CALL(fcntl(file, F_SETLK, &lock));
    shmdt(shmat(shmget(KEY, 4096, IPC_CREAT | 0600), NULL, 0));
    msgsnd(msgget(KEY, IPC_CREAT | 0600), &message, 1, 0);
    semctl(semget(KEY, 1, IPC_CREAT | 0600), 0, SETVAL, 1);
    mq_unlink(QUEUE);
    mqd_t queue = mq_open(QUEUE, O_RDWR | O_CREAT, 0600, &attributes);
    CALL(mq_notify(queue, &event));
    int listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    setsockopt(listener, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    CALL(bind(listener, (struct sockaddr *)&address, LENGTH)); CALL(listen(listener, 1));
    int with = accept(listener, NULL, NULL);
    setsockopt(with, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    peer_of(with);
    int fd = -1;
    socklen_t length = sizeof fd;
    CALL(getsockopt(with, SOL_SOCKET, SO_PEERPIDFD, &fd, &length));
    about(fd);
    int theirs = take(with);
    about(theirs);
    CALL(syscall(SYS_pidfd_send_signal, theirs, 0, NULL, 0));
    CALL(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
    siginfo_t info;
    CALL(waitid(P_PIDFD, theirs, &info, WEXITED));
    give(with, "hello", -1);
    take(with);
    objects();
    for (int i = 0; told.si_signo == 0 && i < 2000; i++) usleep(1000);
    printf("told by %d, code %d\n", told.si_pid, told.si_code);
    shmctl(shmget(KEY, 0, 0), IPC_RMID, NULL);
    msgctl(msgget(KEY, 0), IPC_RMID, NULL);
    semctl(semget(KEY, 0, 0), 0, IPC_RMID);
    give(with, "bye", -1);
}

static void client(void) {
    struct flock lock = { .l_type = F_WRLCK };
    struct { long type; char text[1]; } message;
    char text[128] = "";
    int on = 1, with = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    while (connect(with, (struct sockaddr *)&address, LENGTH) < 0) usleep(10000);
    setsockopt(with, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    peer_of(with);
    give(with, "mine", syscall(SYS_pidfd_open, getpid(), 0));
    take(with);
    int file = open("lock", O_RDWR);
    CALL(fcntl(file, F_GETLK, &lock));
    printf("locked by %d\n", lock.l_pid);
    objects();
    shmdt(shmat(shmget(KEY, 0, 0), NULL, 0));
    CALL(msgrcv(msgget(KEY, 0), &message, 1, 0, 0));
    struct sembuf down = { 0, -1, 0 };
    CALL(semop(semget(KEY, 0, 0), &down, 1));
    objects();
    mqd_t queue = mq_open(QUEUE, O_RDWR);
    pread(queue, text, sizeof text - 1, 0);
    char *at = strstr(text, "NOTIFY_PID:");
    printf("%.13s\n", at == NULL ? "none" : at);
    CALL(mq_send(queue, "x", 1, 0));
    /* The server's number as the kernel, or another namespace, may have it. */
    for (int id = 2; id < 140000; id++)
        if (kill(id, 0) == 0) printf("somebody is %d\n", id);
    CALL(kill(-1, SIGKILL));
    give(with, "done", -1);
    take(with);
}

int main(int count, char **arguments) {
    if (count < 3 || chdir(arguments[2]) != 0) return 1;
    if (strcmp(arguments[1], "server") == 0) server(); else client();
    return 0;
}
