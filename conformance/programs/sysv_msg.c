/* System V message queues: msgget, msgsnd, msgrcv, msgctl. */
#include "children.h"
#include <signal.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <limits.h>
#include <sys/syscall.h>

#ifndef MSG_COPY
#define MSG_COPY 040000
#endif
static struct msqid_ds ds;
static struct { long type; char text[9000]; } in, out;
static int send_(int id, long type, const char *text, int flags) { out.type = type; strcpy(out.text, text); return msgsnd(id, &out, strlen(text), flags); }
static void take(int id, long type, size_t room, int flags)
{
    memset(&in, 0, sizeof in); errno = 0;
    long n = msgrcv(id, &in, room, type, flags);
    if (n < 0) printf("receive %ld of %zu with %o: %s\n", type, room, flags, strerrorname_np(errno));
    else printf("receive %ld of %zu with %o: %ld bytes, type %ld, %.20s\n", type, room, flags, n, in.type, in.text);
}
static int made(void) { return msgget(IPC_PRIVATE, 0600); }
static int gone(int id) { return msgctl(id, IPC_RMID, NULL); }
static void stat_(int id) { if (!msgctl(id, IPC_STAT, &ds)) printf("%lu messages, %lu of %lu bytes\n", ds.msg_qnum, ds.__msg_cbytes, ds.msg_qbytes); }

static void basics(void)
{
    int id = made();
    YES(id >= 0); CALL(msgctl(id, IPC_STAT, &ds));
    printf("mode %o stime %d rtime %d ctime %d lspid %d lrpid %d\n", ds.msg_perm.mode, ds.msg_stime != 0, ds.msg_rtime != 0, ds.msg_ctime != 0, ds.msg_lspid, ds.msg_lrpid);
    CALL(send_(id, 5, "five", 0)); CALL(send_(id, 3, "three", 0)); CALL(send_(id, 9, "nine", 0)); CALL(send_(id, 3, "three again", 0)); CALL(send_(id, 1, "", 0)); stat_(id);
    YES(ds.msg_lspid == getpid() && ds.msg_stime != 0 && ds.msg_rtime == 0);
    take(id, 2, 100, MSG_COPY | IPC_NOWAIT); take(id, 0, 100, MSG_COPY | IPC_NOWAIT); take(id, 9, 100, MSG_COPY | IPC_NOWAIT); take(id, 0, 2, MSG_COPY | IPC_NOWAIT); take(id, 0, 2, MSG_COPY | IPC_NOWAIT | MSG_NOERROR); take(id, 0, 100, MSG_COPY); take(id, 0, 100, MSG_COPY | IPC_NOWAIT | MSG_EXCEPT); take(id, -1, 100, MSG_COPY | IPC_NOWAIT); stat_(id);
    take(id, 9, 2, 0); take(id, 9, 2, MSG_NOERROR); take(id, -3, 100, 0); take(id, 3, 100, MSG_EXCEPT); take(id, -100, 100, 0); take(id, 4, 100, IPC_NOWAIT); take(id, 0, 100, 0); take(id, 0, 100, IPC_NOWAIT); take(id, 0, 100, IPC_NOWAIT | MSG_COPY); stat_(id);
    YES(ds.msg_lrpid == getpid() && ds.msg_rtime != 0);
    CALL(send_(id, 0, "x", 0)); CALL(send_(id, -1, "x", 0)); CALL(send_(-1, 1, "x", 0)); CALL(send_(id + 777, 1, "x", 0)); out.type = 1;
    CALL(msgsnd(id, &out, 8193, 0)); CALL(msgsnd(id, &out, -1, 0)); CALL(msgsnd(id, NULL, 1, 0)); CALL(msgsnd(id, &out, 8192, 0)); CALL(msgsnd(id, &out, 8192, IPC_NOWAIT)); CALL(msgsnd(id, &out, 1, IPC_NOWAIT)); CALL(msgsnd(id, &out, 0, IPC_NOWAIT)); stat_(id);
    take(id, 0, -1, 0); take(id, 0, 100, 0); take(id, 0, 100, MSG_NOERROR); take(id, LONG_MIN, 9000, 0); take(-1, 0, 1, 0);
    CALL(send_(id, 1, "lost", 0)); CALL(msgrcv(id, NULL, 10, 0, 0)); stat_(id);
    CALL(send_(id, 1, "short", 0)); CALL(msgrcv(id, (char *)sbrk(0) - 10, 10, 0, 0)); stat_(id);
    take(id, 0, 10, IPC_NOWAIT);
    ds.msg_qbytes = 100; CALL(msgctl(id, IPC_SET, &ds)); CALL(msgsnd(id, &out, 101, IPC_NOWAIT)); CALL(msgsnd(id, &out, 100, IPC_NOWAIT)); CALL(msgsnd(id, &out, 0, IPC_NOWAIT)); stat_(id);
    ds.msg_qbytes = 16000; ds.msg_perm.mode = 0666; ds.msg_perm.uid = 9; CALL(msgctl(id, IPC_SET, &ds)); CALL(msgctl(id, IPC_STAT, &ds)); printf("mode %o uid %d bytes %lu\n", ds.msg_perm.mode, ds.msg_perm.uid, ds.msg_qbytes);
    CALL(msgctl(id, 99, NULL)); CALL(msgctl(-1, IPC_STAT, &ds)); CALL(msgctl(id, IPC_STAT, NULL)); CALL(msgctl(id, IPC_SET, NULL));
    CALL(gone(id)); CALL(gone(id)); CALL(send_(id, 1, "x", 0)); take(id, 0, 1, 0);
    key_t key = 0x7e000000 | getpid();
    CALL(msgget(key, 0600)); id = msgget(key, 0600 | IPC_CREAT); YES(id >= 0); CALL(msgget(key, IPC_CREAT | IPC_EXCL)); YES(msgget(key, 0) == id); CALL(gone(id)); CALL(msgget(key, 0));
}

static void waiting(void)
{
    int id = made();
    pid_t any = CHILD(take(id, 0, 100, 0)); sleeps(any); CALL(send_(id, 7, "hello", 0)); printf("%x\n", reaped(any)); stat_(id); YES(ds.msg_lrpid == any && ds.msg_rtime != 0);
    pid_t three = CHILD(take(id, 3, 100, 0)); sleeps(three); CALL(send_(id, 4, "four", 0)); stat_(id); CALL(send_(id, 3, "three", 0)); printf("%x\n", reaped(three)); stat_(id); take(id, 0, 100, 0);
    pid_t less = CHILD(take(id, -3, 100, 0)); sleeps(less); CALL(send_(id, 4, "four", 0)); CALL(send_(id, 2, "two", 0)); printf("%x\n", reaped(less)); take(id, 0, 100, 0);
    pid_t except = CHILD(take(id, 3, 100, MSG_EXCEPT)); sleeps(except); CALL(send_(id, 3, "three", 0)); CALL(send_(id, 2, "two", 0)); printf("%x\n", reaped(except)); take(id, 0, 100, 0);
    /* One with too little room fails, the next one gets it. */
    pid_t small = CHILD(take(id, 0, 2, 0)); sleeps(small); pid_t cut = CHILD(take(id, 0, 2, MSG_NOERROR)); sleeps(cut);
    CALL(send_(id, 1, "long", 0)); printf("%x\n", reaped(small)); printf("%x\n", reaped(cut)); stat_(id);
    pid_t removed = CHILD(take(id, 0, 2, 0)); sleeps(removed); CALL(gone(id)); printf("%x\n", reaped(removed));
    id = made(); out.type = 1; CALL(msgsnd(id, &out, 8192, 0)); CALL(msgsnd(id, &out, 8000, 0));
    pid_t full = CHILD(out.type = 2; CALL(msgsnd(id, &out, 8192, 0))); sleeps(full);
    pid_t fits = CHILD(out.type = 3; CALL(msgsnd(id, &out, 8192, 0))); sleeps(fits);
    CALL(msgrcv(id, &in, 8192, 0, 0)); CALL(msgrcv(id, &in, 8192, 0, 0)); printf("%x\n", reaped(full)); printf("%x\n", reaped(fits)); stat_(id); CALL(msgrcv(id, &in, 8192, 0, 0));
    ds.msg_qbytes = 8192; msgctl(id, IPC_SET, &ds); pid_t set = CHILD(CALL(msgsnd(id, &out, 8000, 0))); sleeps(set); msgctl(id, IPC_STAT, &ds); ds.msg_qbytes = 16384; CALL(msgctl(id, IPC_SET, &ds)); printf("%x\n", reaped(set)); stat_(id);
    pid_t ended = CHILD(CALL(msgsnd(id, &out, 8192, 0))); sleeps(ended); CALL(gone(id)); printf("%x\n", reaped(ended));
}

static void nothing(int signal) { (void)signal; }

static void interrupted(void)
{
    int id = made();
    for (int restart = 0; restart < 2; restart++) {
        sigaction(SIGALRM, &(struct sigaction){ .sa_handler = nothing, .sa_flags = restart ? SA_RESTART : 0 }, NULL);
        setitimer(ITIMER_REAL, &(struct itimerval){ .it_value = { 0, 30000 } }, NULL); take(id, 0, 1, 0);
    }
    out.type = 1; CALL(msgsnd(id, &out, 8192, 0)); CALL(msgsnd(id, &out, 8192, 0));
    setitimer(ITIMER_REAL, &(struct itimerval){ .it_value = { 0, 30000 } }, NULL); CALL(msgsnd(id, &out, 8192, 0)); stat_(id);
    CALL(msgrcv(id, &in, 8192, 0, 0)); CALL(msgrcv(id, &in, 8192, 0, 0));
    pid_t stopped = CHILD(take(id, 0, 10, 0)); sleeps(stopped); kill(stopped, SIGSTOP); int status; waitpid(stopped, &status, WUNTRACED); kill(stopped, SIGCONT); usleep(30000); CALL(send_(id, 1, "go on", 0)); printf("%x\n", reaped(stopped));
    pid_t killed = CHILD(take(id, 0, 10, 0)); sleeps(killed); kill(killed, SIGKILL); printf("%x\n", reaped(killed)); CALL(send_(id, 1, "stays", 0)); stat_(id);
    gone(id);
}

static void others(void)
{
    int id = made();
    for (int mode = 0; mode < 8; mode++) {
        msgctl(id, IPC_STAT, &ds); ds.msg_perm.mode = 0600 | mode; msgctl(id, IPC_SET, &ds);
        printf("mode %d\n", mode);
        reaped(CHILD(if (setgid(1234) || setuid(1234)) _exit(1);
            CALL(send_(id, 1, "x", 0)); take(id, 0, 10, IPC_NOWAIT); CALL(msgctl(id, IPC_STAT, &ds)); CALL(gone(id)); CALL(msgctl(id, IPC_SET, &ds))));
    }
    reaped(CHILD(if (setgid(1234) || setuid(1234)) _exit(1); int own = made(); msgctl(own, IPC_STAT, &ds); ds.msg_qbytes = 16385; CALL(msgctl(own, IPC_SET, &ds)); ds.msg_qbytes = 16384; CALL(msgctl(own, IPC_SET, &ds)); CALL(gone(own))));
    struct msginfo info; memset(&info, 0x55, sizeof info);
    YES(msgctl(0, IPC_INFO, (void *)&info) >= 0);
    printf("pool %d map %d max %d mnb %d mni %d ssz %d tql %d seg %d\n", info.msgpool, info.msgmap, info.msgmax, info.msgmnb, info.msgmni, info.msgssz, info.msgtql, info.msgseg);
    CALL(send_(id, 1, "x", 0));
    int most = msgctl(0, MSG_INFO, (void *)&info), found = 0; YES(info.msgpool >= 1 && info.msgmap >= 1 && info.msgtql >= 1);
    for (int i = 0; i <= most; i++) { if (msgctl(i, MSG_STAT, &ds) == id) found++; if (msgctl(i, MSG_STAT_ANY, &ds) == id) found++; }
    printf("found by place: %d\n", found);
    char line[256]; FILE *file = fopen("/proc/sysvipc/msg", "r"); fgets(line, sizeof line, file); fputs(line, stdout);
    while (fgets(line, sizeof line, file)) { int key, msqid; unsigned mode; unsigned long bytes, n; if (sscanf(line, "%d %d %o %lu %lu", &key, &msqid, &mode, &bytes, &n) == 5 && msqid == id) printf("mode %o bytes %lu n %lu width %zu\n", mode, bytes, n, strlen(line)); }
    fclose(file);
    for (const char *const *name = (const char *const[]){ "msgmax", "msgmnb", "msgmni", NULL }; *name; name++) {
        char path[64]; snprintf(path, sizeof path, "/proc/sys/kernel/%s", *name); file = fopen(path, "r"); fgets(line, sizeof line, file); printf("%s %s", *name, line); fclose(file);
    }
    gone(id);
}

/* Many messages through few places, nothing lost. */
static void crowd(void)
{
    int id = made(); msgctl(id, IPC_STAT, &ds); ds.msg_qbytes = 64; msgctl(id, IPC_SET, &ds);
    for (int sender = 1; sender <= 3; sender++)
        CHILD(struct { long type; int n; } m; for (m.n = 0; m.n < 500; m.n++) { m.type = sender; msgsnd(id, &m, sizeof m.n, 0); });
    for (int sender = 1; sender <= 3; sender++)
        CHILD(struct { long type; int n; } m; int ok = 1; for (int n = 0; n < 500; n++) ok &= msgrcv(id, &m, sizeof m.n, sender, 0) == sizeof m.n && m.n == n; _exit(!ok));
    int bad = 0, status; while (wait(&status) > 0) bad |= status;
    printf("bad %d\n", bad); stat_(id); gone(id);
}

int main(void)
{
    puts("-- basics"); basics();
    puts("-- waiting"); waiting();
    puts("-- interrupted"); interrupted();
    puts("-- others"); others();
    puts("-- crowd"); crowd();
    return 0;
}
