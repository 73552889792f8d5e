/* What the first process of a pid namespace sees of itself and others, by every call that takes or gives the number of a process. Prints the
   same natively under `unshare --pid --fork --mount-proc --ipc` and as the first process of a container of a pod. */
#define _GNU_SOURCE
#include "../programs/report.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/netlink.h>
#include <mqueue.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#define NS_GET_PARENT 0xb702

/* Numbers that the kernel may have for processes of the namespace, or others, but that are nobody's in it. */
static const int NOBODY[] = { 3999, 65537, 65538, 131073, 4128769, 4194303, INT_MAX };

static void title(const char *name) { printf("-- %s\n", name); }

static char *contents(const char *path) {
    static char text[8192];
    int fd = open(path, O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    text[length < 0 ? 0 : length] = 0;
    if (length < 0) snprintf(text, sizeof text, "%s", strerrorname_np(errno));
    return text;
}

static void line_of(const char *path, const char *name) {
    char *at = strstr(contents(path), name);
    if (at == NULL) { printf("no %s\n", name); return; }
    at += *at == '\n';
    at[strcspn(at, "\n")] = 0;
    printf("%s\n", at);
}

/* A child that waits to be killed. */
static pid_t sleeper(void) {
    pid_t child = fork();
    if (child == 0) for (;;) pause();
    return child;
}

static void end(pid_t child) {
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

static volatile siginfo_t last;
static void note(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    memcpy((void *)&last, info, sizeof last);
}

static void catch(int signal) {
    struct sigaction action = { .sa_sigaction = note, .sa_flags = SA_SIGINFO };
    sigaction(signal, &action, NULL);
    memset((void *)&last, 0, sizeof last);
}

static void wait_for(int signal) {
    for (int i = 0; last.si_signo != signal && i < 2000; i++) usleep(1000);
    printf("signal %d code %d from %d\n", last.si_signo, last.si_code, last.si_pid);
    memset((void *)&last, 0, sizeof last);
}

static void *thread(void *unused) {
    (void)unused;
    printf("thread: %d of %d\n", gettid(), getpid());
    return NULL;
}

static void run_thread(void) {
    pthread_t id;
    pthread_create(&id, NULL, thread, NULL);
    pthread_join(id, NULL);
}

static void own(void) {
    title("own");
    setsid();
    CALL(getpid()); CALL(gettid()); CALL(getppid()); CALL(getpgrp()); CALL(getsid(0)); CALL(getpgid(1)); CALL(getsid(1));
    CALL(syscall(SYS_set_tid_address, NULL));
    run_thread();
}

static void children(void) {
    title("children");
    siginfo_t info = { 0 };
    catch(SIGCHLD);
    pid_t child = fork();
    if (child == 0) {
        CALL(getpid()); CALL(getppid()); CALL(getpgrp()); CALL(getsid(0));
        run_thread();
        _exit(3);
    }
    CALL(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    CALL(child);
    printf("si_pid %d\n", info.si_pid);
    int status;
    CALL(wait4(-1, &status, 0, NULL));
    wait_for(SIGCHLD);
    signal(SIGCHLD, SIG_DFL);
    pid_t there = 0, *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    child = syscall(SYS_clone, SIGCHLD | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID, NULL, &there, shared, 0);
    if (child == 0) _exit(0);
    CALL(waitpid(child, NULL, 0));
    YES(there == child && *shared == child && child > 1);
    CALL(syscall(SYS_clone, SIGCHLD | CLONE_PARENT, NULL, NULL, NULL, 0));
    child = vfork();
    if (child == 0) { CALL(getppid()); _exit(0); }
    YES(waitpid(child, NULL, 0) == child);
    for (size_t i = 0; i < sizeof NOBODY / sizeof *NOBODY; i++) {
        int other = NOBODY[i];
        CALL(waitpid(other, NULL, WNOHANG)); CALL(waitpid(-other, NULL, WNOHANG));
        CALL(waitid(P_PID, other, NULL, WEXITED)); CALL(waitid(P_PGID, other, NULL, WEXITED));
    }
    /* Orphans come to process 1, as the subreaper's do to it. */
    int pair[2];
    pipe(pair);
    for (int reaper = 0; reaper < 2; reaper++) {
        child = fork();
        if (child == 0) {
            if (reaper) prctl(PR_SET_CHILD_SUBREAPER, 1);
            pid_t middle = fork();
            if (middle == 0) {
                if (fork() == 0) {
                    pid_t parent = getppid();
                    write(pair[1], "x", 1);
                    while (getppid() == parent) usleep(1000);
                    printf("orphan of %s\n", getppid() == 1 ? "process 1" : "the subreaper");
                    _exit(0);
                }
                char byte;
                read(pair[0], &byte, 1);
                _exit(0);
            }
            waitpid(middle, NULL, 0);
            if (reaper) wait(NULL);
            _exit(0);
        }
        waitpid(child, NULL, 0);
        if (!reaper) YES(wait(NULL) > 1);
    }
    int of_mine = 7;
    prctl(PR_GET_CHILD_SUBREAPER, &of_mine);
    printf("subreaper %d\n", of_mine);
}

static void nobody(void) {
    title("nobody");
    for (size_t i = 0; i < sizeof NOBODY / sizeof *NOBODY; i++) {
        int other = NOBODY[i];
        unsigned cpus[64];
        struct rlimit limit;
        struct timespec time;
        void *head;
        size_t length;
        char byte;
        struct iovec local = { &byte, 1 }, remote = { &byte, 1 };
        siginfo_t info = { .si_code = SI_QUEUE };
        struct sched_param parameter;
        clockid_t clock = (~(clockid_t)other << 3) | 2;
        CALL(kill(other, 0)); CALL(kill(-other, 0)); CALL(syscall(SYS_tkill, other, 0)); CALL(syscall(SYS_tgkill, other, other, 0));
        CALL(syscall(SYS_tgkill, 1, other, 0)); CALL(syscall(SYS_tgkill, other, 1, 0));
        CALL(syscall(SYS_rt_sigqueueinfo, other, SIGUSR1, &info)); CALL(syscall(SYS_rt_tgsigqueueinfo, other, other, SIGUSR1, &info));
        CALL(getpgid(other)); CALL(getsid(other)); CALL(setpgid(other, 0)); CALL(setpgid(0, other));
        CALL(syscall(SYS_pidfd_open, other, 0));
        CALL(sched_getscheduler(other)); CALL(sched_getparam(other, &parameter)); CALL(syscall(SYS_sched_getaffinity, other, sizeof cpus, cpus));
        CALL(sched_rr_get_interval(other, &time)); CALL(getpriority(PRIO_PROCESS, other)); CALL(getpriority(PRIO_PGRP, other));
        CALL(setpriority(PRIO_PROCESS, other, 1)); CALL(syscall(SYS_ioprio_get, 1, other)); CALL(syscall(SYS_ioprio_get, 2, other));
        CALL(prlimit(other, RLIMIT_NOFILE, NULL, &limit));
        CALL(process_vm_readv(other, &local, 1, &remote, 1, 0)); CALL(ptrace(PTRACE_ATTACH, other, 0, 0)); CALL(ptrace(PTRACE_CONT, other, 0, 0));
        CALL(syscall(SYS_get_robust_list, other, &head, &length));
        CALL(clock_gettime(clock, &time));
        unsigned header[2] = { 0x20080522, other }, data[6];
        CALL(syscall(SYS_capget, header, data));
        int fd = open("/dev/null", O_RDONLY);
        struct f_owner_ex owner = { F_OWNER_TID, other };
        CALL(fcntl(fd, F_SETOWN, other)); CALL(fcntl(fd, F_SETOWN, -other)); CALL(fcntl(fd, F_SETOWN_EX, &owner));
        close(fd);
        uint32_t word = other & 0x3fffffff;
        CALL(syscall(SYS_futex, &word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
        char path[64];
        snprintf(path, sizeof path, "/proc/%d", other);
        CALL(access(path, F_OK));
        snprintf(path, sizeof path, "/proc/self/task/%d", other);
        CALL(access(path, F_OK));
    }
}

static void signals(void) {
    title("signals");
    catch(SIGUSR1);
    catch(SIGRTMIN);
    pid_t child = fork();
    if (child == 0) {
        /* One after the other, as process 1 takes them. */
        long failed = kill(1, SIGUSR1);
        usleep(100000);
        failed |= syscall(SYS_tgkill, 1, 1, SIGUSR1);
        usleep(100000);
        union sigval value = { 5 };
        failed |= sigqueue(1, SIGRTMIN, value);
        usleep(100000);
        siginfo_t info = { .si_code = SI_QUEUE, .si_pid = 77777 };
        failed |= syscall(SYS_rt_tgsigqueueinfo, 1, 1, SIGRTMIN, &info);
        usleep(100000);
        int fd = syscall(SYS_pidfd_open, 1, 0);
        failed |= syscall(SYS_pidfd_send_signal, fd, SIGUSR1, NULL, 0);
        usleep(100000);
        CALL(failed);
        /* Of those, process 1 takes no notice. */
        CALL(kill(1, SIGTERM)); CALL(kill(1, SIGKILL)); CALL(kill(1, SIGSTOP));
        _exit(0);
    }
    wait_for(SIGUSR1); wait_for(SIGUSR1); wait_for(SIGRTMIN); wait_for(SIGRTMIN); wait_for(SIGUSR1);
    YES(waitpid(child, NULL, 0) == child);
    CALL(kill(1, SIGKILL));
    raise(SIGUSR1);
    wait_for(SIGUSR1);
    /* One that waits for them. */
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    child = fork();
    if (child == 0) { kill(getppid(), SIGUSR2); _exit(0); }
    siginfo_t info;
    CALL(sigwaitinfo(&set, &info));
    YES(info.si_pid == child);
    waitpid(child, NULL, 0);
    /* Everybody but process 1 and who asks. */
    pid_t some[3];
    for (int i = 0; i < 3; i++) some[i] = sleeper();
    CALL(kill(-1, SIGTERM));
    for (int i = 0; i < 3; i++) {
        int status;
        YES(waitpid(some[i], &status, 0) == some[i] && WTERMSIG(status) == SIGTERM);
    }
    CALL(kill(-1, 0));
    /* A group. */
    child = sleeper();
    CALL(setpgid(child, child) == 0 && getpgid(child) == child);
    CALL(kill(-child, SIGTERM));
    YES(waitpid(-child, NULL, 0) == child);
    /* The death of a parent. */
    signal(SIGUSR1, SIG_DFL);
    child = fork();
    if (child == 0) {
        pid_t parent = getpid();
        if (fork() == 0) {
            catch(SIGUSR1);
            prctl(PR_SET_PDEATHSIG, SIGUSR1);
            kill(parent, SIGKILL);
            while (getppid() == parent) usleep(1000);
            for (int i = 0; last.si_signo == 0 && i < 2000; i++) usleep(1000);
            printf("death signal %d from %s\n", last.si_signo, last.si_pid == parent ? "the parent" : "another");
            _exit(0);
        }
        for (;;) pause();
    }
    waitpid(child, NULL, 0);
    wait(NULL);
    /* A timer for a thread. */
    struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
    timer_t timer;
    for (int id = 1; id < 70000; id += 65536) {
        event._sigev_un._tid = id;
        CALL(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer));
    }
}

static void others(void) {
    title("others");
    pid_t child = sleeper();
    struct rlimit limit;
    void *head;
    size_t length;
    struct timespec time;
    char here = 'h', there = 't';
    struct iovec local = { &here, 1 }, remote = { &there, 1 };
    YES(child > 1 && child < 1000);
    CALL(kill(child, 0)); CALL(syscall(SYS_tkill, child, 0)); CALL(syscall(SYS_tgkill, child, child, 0));
    CALL(getpgid(child)); CALL(getsid(child)); CALL(sched_getscheduler(child)); CALL(getpriority(PRIO_PROCESS, child));
    CALL(setpriority(PRIO_PROCESS, child, 3)); CALL(getpriority(PRIO_PROCESS, child)); CALL(syscall(SYS_ioprio_get, 1, child));
    CALL(getpriority(PRIO_PROCESS, 1)); CALL(getpriority(PRIO_PGRP, 1)); CALL(sched_getscheduler(1)); CALL(syscall(SYS_ioprio_get, 1, 1));
    CALL(prlimit(child, RLIMIT_NOFILE, NULL, &limit)); CALL(syscall(SYS_get_robust_list, child, &head, &length));
    CALL(process_vm_readv(child, &local, 1, &remote, 1, 0));
    clockid_t clock;
    CALL(clock_getcpuclockid(child, &clock)); CALL(clock_gettime(clock, &time)); CALL(clock_getcpuclockid(1, &clock)); CALL(clock_gettime(clock, &time));
    pthread_getcpuclockid(pthread_self(), &clock);
    CALL(clock_gettime(clock, &time));
    unsigned header[2] = { 0x20080522, child }, data[6];
    CALL(syscall(SYS_capget, header, data));
    int fd = syscall(SYS_pidfd_open, child, 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    line_of(path, "\nPid:"); line_of(path, "\nNSpid:");
    CALL(syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0));
    siginfo_t info = { 0 };
    CALL(waitid(P_PIDFD, fd, &info, WEXITED));
    YES(info.si_pid == child);
    line_of(path, "\nPid:"); line_of(path, "\nNSpid:");
    close(fd);
}

static void traced(void) {
    title("traced");
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        pid_t below = fork();
        if (below == 0) _exit(0);
        waitpid(below, NULL, 0);
        _exit(0);
    }
    int status;
    YES(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    siginfo_t info;
    CALL(ptrace(PTRACE_GETSIGINFO, child, 0, &info));
    YES(info.si_pid == child);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", child);
    line_of(path, "TracerPid");
    CALL(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEFORK | PTRACE_O_EXITKILL));
    ptrace(PTRACE_CONT, child, 0, 0);
    YES(waitpid(child, &status, 0) == child);
    printf("status %x\n", status);
    unsigned long below = 0;
    CALL(ptrace(PTRACE_GETEVENTMSG, child, 0, &below));
    YES(below > (unsigned long)child && below < (unsigned long)child + 5);
    YES(waitpid(below, &status, __WALL) == (pid_t)below);
    CALL(ptrace(PTRACE_GETSIGINFO, child, 0, &info));
    YES(info.si_pid == child);
    ptrace(PTRACE_CONT, below, 0, 0);
    ptrace(PTRACE_CONT, child, 0, 0);
    for (pid_t one; (one = waitpid(-1, &status, __WALL)) > 0;)
        if (WIFSTOPPED(status)) ptrace(PTRACE_CONT, one, 0, WSTOPSIG(status) == SIGCHLD ? SIGCHLD : 0);
    /* Process 1 itself, by its child, which is not to stop it for good. */
    child = fork();
    if (child == 0) {
        CALL(ptrace(PTRACE_ATTACH, 1, 0, 0));
        CALL(waitpid(1, &status, 0));
        CALL(ptrace(PTRACE_DETACH, 1, 0, 0));
        _exit(0);
    }
    YES(waitpid(child, NULL, 0) == child);
    line_of("/proc/1/status", "TracerPid");
}

static void files(void) {
    title("files");
    char name[] = "/tmp/pid_space_XXXXXX";
    int fd = mkstemp(name);
    pid_t child = sleeper();
    struct f_owner_ex owner = { F_OWNER_PID, child };
    CALL(fcntl(fd, F_SETOWN, 1)); CALL(fcntl(fd, F_GETOWN)); CALL(fcntl(fd, F_SETOWN, -1)); CALL(fcntl(fd, F_GETOWN) == -1);
    CALL(fcntl(fd, F_SETOWN_EX, &owner)); CALL(fcntl(fd, F_GETOWN_EX, &owner)); YES(owner.pid == child);
    owner = (struct f_owner_ex){ F_OWNER_TID, 1 };
    CALL(fcntl(fd, F_SETOWN_EX, &owner)); CALL(fcntl(fd, F_GETOWN_EX, &owner));
    printf("%d %d\n", owner.type, owner.pid);
    end(child);
    int ready[2];
    pipe(ready);
    child = fork();
    struct flock lock = { .l_type = F_WRLCK };
    if (child == 0) {
        fcntl(fd, F_SETLK, &lock);
        write(ready[1], "x", 1);
        for (;;) pause();
    }
    char byte;
    read(ready[0], &byte, 1);
    CALL(fcntl(fd, F_GETLK, &lock));
    YES(lock.l_pid == child);
    end(child);
    close(fd);
    unlink(name);
}

static void credentials_of(int socket) {
    char data[128], byte;
    struct iovec part = { &byte, 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = data, .msg_controllen = sizeof data };
    struct cmsghdr *header;
    CALL(recvmsg(socket, &message, 0));
    for (header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header))
        if (header->cmsg_type == SCM_CREDENTIALS) printf("credentials of %d\n", ((struct ucred *)CMSG_DATA(header))->pid);
}

static long send_as(int socket, pid_t pid) {
    char data[CMSG_SPACE(sizeof(struct ucred))] = { 0 };
    struct iovec part = { "x", 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = data, .msg_controllen = sizeof data };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(struct ucred)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_CREDENTIALS };
    struct ucred ucred = { pid, 0, 0 };
    memcpy(CMSG_DATA(header), &ucred, sizeof ucred);
    return sendmsg(socket, &message, 0);
}

static void sockets(void) {
    title("sockets");
    int pair[2], on = 1;
    struct ucred peer;
    socklen_t length = sizeof peer;
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
    setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    CALL(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &length));
    printf("peer %d\n", peer.pid);
    int fd = -1;
    length = sizeof fd;
    CALL(getsockopt(pair[0], SOL_SOCKET, SO_PEERPIDFD, &fd, &length) == 0 && fd > 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    line_of(path, "\nPid:");
    close(fd);
    pid_t child = fork();
    if (child == 0) { write(pair[1], "x", 1); _exit(0); }
    waitpid(child, NULL, 0);
    char data[128], byte;
    struct iovec part = { &byte, 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = data, .msg_controllen = sizeof data };
    recvmsg(pair[0], &message, 0);
    YES(((struct ucred *)CMSG_DATA(CMSG_FIRSTHDR(&message)))->pid == child);
    CALL(write(pair[1], "x", 1));
    credentials_of(pair[0]);
    CALL(send_as(pair[1], 1));
    credentials_of(pair[0]);
    CALL(send_as(pair[1], 65537)); CALL(send_as(pair[1], 3999));
    child = sleeper();
    CALL(send_as(pair[1], child));
    CALL(recv(pair[0], &byte, 1, 0));
    end(child);
    int link = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    struct sockaddr_nl address = { .nl_family = AF_NETLINK };
    length = sizeof address;
    CALL(bind(link, (struct sockaddr *)&address, sizeof address));
    CALL(getsockname(link, (struct sockaddr *)&address, &length));
    printf("port %u\n", address.nl_pid);
}

static void objects(void) {
    title("objects");
    int shm = shmget(IPC_PRIVATE, 4096, 0600), msg = msgget(IPC_PRIVATE, 0600), sem = semget(IPC_PRIVATE, 1, 0600);
    struct shmid_ds segment;
    struct msqid_ds queue;
    struct { long type; char text[1]; } message = { 1, "x" };
    shmdt(shmat(shm, NULL, 0));
    CALL(shmctl(shm, IPC_STAT, &segment));
    printf("shm %d %d\n", segment.shm_cpid, segment.shm_lpid);
    CALL(msgsnd(msg, &message, 1, 0)); CALL(msgctl(msg, IPC_STAT, &queue));
    printf("msg %d %d\n", queue.msg_lspid, queue.msg_lrpid);
    CALL(semctl(sem, 0, SETVAL, 1)); CALL(semctl(sem, 0, GETPID));
    pid_t child = fork();
    if (child == 0) {
        struct sembuf down = { 0, -1, 0 };
        shmdt(shmat(shm, NULL, 0));
        msgrcv(msg, &message, 1, 0, 0);
        semop(sem, &down, 1);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    shmctl(shm, IPC_STAT, &segment);
    msgctl(msg, IPC_STAT, &queue);
    YES(segment.shm_cpid == 1 && segment.shm_lpid == child && queue.msg_lspid == 1 && queue.msg_lrpid == child);
    YES(semctl(sem, 0, GETPID) == child);
    int cpid = -1, lpid = -1, id = -1;
    FILE *list = fopen("/proc/sysvipc/shm", "r");
    char line[512];
    while (list != NULL && fgets(line, sizeof line, list) != NULL)
        if (sscanf(line, "%*d %d %*o %*u %d %d", &id, &cpid, &lpid) == 3 && id == shm) break;
    YES(id == shm && cpid == 1 && lpid == child);
    fclose(list);
    list = fopen("/proc/sysvipc/msg", "r");
    while (list != NULL && fgets(line, sizeof line, list) != NULL)
        if (sscanf(line, "%*d %d %*o %*u %*u %d %d", &id, &cpid, &lpid) == 3 && id == msg) break;
    YES(id == msg && cpid == 1 && lpid == child);
    fclose(list);
    shmctl(shm, IPC_RMID, NULL); msgctl(msg, IPC_RMID, NULL); semctl(sem, 0, IPC_RMID);

    struct mq_attr attributes = { .mq_maxmsg = 2, .mq_msgsize = 8 };
    mqd_t mq = mq_open("/pid_space", O_RDWR | O_CREAT, 0600, &attributes);
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
    catch(SIGUSR1);
    CALL(mq_notify(mq, &event));
    YES(strstr(contents("/proc/self/fd/0"), "none") == NULL);
    char notified[128] = "";
    pread(mq, notified, sizeof notified - 1, 0);
    char *at = strstr(notified, "NOTIFY_PID:");
    printf("%.13s\n", at == NULL ? "none" : at);
    child = fork();
    if (child == 0) { mq_send(mq, "x", 1, 0); _exit(0); }
    waitpid(child, NULL, 0);
    for (int i = 0; last.si_signo == 0 && i < 2000; i++) usleep(1000);
    YES(last.si_signo == SIGUSR1 && last.si_pid == child);
    mq_unlink("/pid_space");
}

static void terminals(void) {
    title("terminals");
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    grantpt(master);
    unlockpt(master);
    const char *name = ptsname(master);
    pid_t child = fork();
    if (child == 0) {
        YES(setsid() == getpid());
        int slave = open(name, O_RDWR);
        pid_t group = 0;
        CALL(ioctl(slave, TIOCGPGRP, &group)); YES(group == getpid());
        CALL(ioctl(slave, TIOCGSID, &group)); YES(group == getpid());
        signal(SIGTTOU, SIG_IGN);
        pid_t below = sleeper();
        YES(setpgid(below, below) == 0);
        CALL(ioctl(slave, TIOCSPGRP, &below)); CALL(ioctl(slave, TIOCGPGRP, &group)); YES(group == below);
        for (size_t i = 0; i < sizeof NOBODY / sizeof *NOBODY; i++) CALL(ioctl(slave, TIOCSPGRP, &NOBODY[i]));
        int parent, pgid, sid, device, foreground;
        char *stat = strrchr(contents("/proc/self/stat"), ')');
        sscanf(stat, ") %*c %d %d %d %d %d", &parent, &pgid, &sid, &device, &foreground);
        YES(parent == 1 && pgid == getpid() && sid == getpid() && foreground == below);
        end(below);
        _exit(0);
    }
    YES(waitpid(child, NULL, 0) == child);
}

static uint32_t *word;
static void *locker(void *unused) {
    (void)unused;
    CALL(syscall(SYS_futex, word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    YES((*word & FUTEX_TID_MASK) == (uint32_t)gettid());
    CALL(syscall(SYS_futex, word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    return NULL;
}

static void futexes(void) {
    title("futexes");
    word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CALL(syscall(SYS_futex, word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    printf("word %x\n", *word);
    CALL(syscall(SYS_futex, word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
    pthread_t id;
    pthread_create(&id, NULL, locker, NULL);
    while (!(*word & FUTEX_WAITERS)) usleep(1000);
    syscall(SYS_futex, word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    pthread_join(id, NULL);
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
    for (int inherit = 0; inherit < 2; inherit++) {
        pthread_mutexattr_setprotocol(&kind, inherit ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE);
        pthread_mutex_t *mutex = (pthread_mutex_t *)(word + 64);
        memset(mutex, 0, sizeof *mutex);
        pthread_mutex_init(mutex, &kind);
        pid_t child = fork();
        if (child == 0) { pthread_mutex_lock(mutex); _exit(0); }
        waitpid(child, NULL, 0);
        YES(pthread_mutex_lock(mutex) == EOWNERDEAD);
        YES(pthread_mutex_consistent(mutex) == 0 && pthread_mutex_unlock(mutex) == 0);
    }
}

static void seen_in_proc(void) {
    title("proc");
    /* What was left of tracees. */
    while (waitpid(-1, NULL, 0) > 0);
    char link[64] = "";
    pid_t child = sleeper();
    DIR *proc = opendir("/proc");
    int seen = 0;
    for (struct dirent *entry; (entry = readdir(proc)) != NULL;) {
        int id = atoi(entry->d_name);
        if (id == 0) continue;
        seen++;
        if (id != 1 && id != child) printf("also %d\n", id);
    }
    closedir(proc);
    printf("%d processes\n", seen);
    CALL(readlink("/proc/self", link, sizeof link)); printf("self %s\n", link);
    CALL(readlink("/proc/thread-self", link, sizeof link)); printf("thread-self %s\n", link);
    for (char **name = (char *[]){ "Tgid", "\nPid", "PPid", "TracerPid", "NStgid", "NSpid", "NSpgid", "NSsid", NULL }; *name != NULL; name++)
        line_of("/proc/self/status", *name);
    printf("%.4s\n", contents("/proc/self/stat"));
    printf("%.4s\n", contents("/proc/1/task/1/stat"));
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", child);
    int id = 0, parent = 0, group = 0, session = 0;
    sscanf(contents(path), "%d (%*[^)]) %*c %d %d %d", &id, &parent, &group, &session);
    YES(id == child && parent == 1 && group == 1 && session == 1);
    snprintf(path, sizeof path, "/proc/%d/task/%d/comm", child, child);
    CALL(access(path, F_OK));
    int last_id = 0;
    sscanf(contents("/proc/loadavg"), "%*f %*f %*f %*d/%*d %d", &last_id);
    YES(last_id == child);
    int space = open("/proc/self/ns/pid", O_RDONLY);
    CALL(ioctl(space, NS_GET_PARENT));
    close(space);
    end(child);
    snprintf(path, sizeof path, "/proc/%d", child);
    CALL(access(path, F_OK));
}

static void *executes(void *path) {
    execl(path, path, "executed", NULL);
    return NULL;
}

static void executing(const char *path) {
    title("executing");
    pid_t child = fork();
    if (child == 0) {
        pthread_t id;
        pthread_create(&id, NULL, executes, (void *)path);
        pthread_join(id, NULL);
        _exit(1);
    }
    int status;
    YES(waitpid(child, &status, 0) == child && status == 0);
}

int main(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], "executed") == 0) {
        YES(getpid() == gettid() && getpid() > 1 && getppid() == 1);
        return 0;
    }
    own(); children(); nobody(); signals(); others(); traced(); files(); sockets(); objects(); terminals(); futexes(); seen_in_proc();
    executing(arguments[0]);
    title("end");
    sleeper();
    return 7;
}
