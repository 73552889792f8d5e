/* System V semaphores: semget, semop, semtimedop, semctl. */
#include "children.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

union semun { int val; struct semid_ds *buf; unsigned short *array; struct seminfo *info; };
static struct semid_ds ds;
static int made(int n) { return semget(IPC_PRIVATE, n, 0600 | IPC_CREAT); }
static int gone(int id) { return semctl(id, 0, IPC_RMID); }
static int set(int id, int n, int v) { return semctl(id, n, SETVAL, (union semun){ .val = v }); }
static int get(int id, int n) { return semctl(id, n, GETVAL); }
static int op(int id, int n, int change, int flags) { struct sembuf b = { n, change, flags }; return semop(id, &b, 1); }
static void show(int id, int n) { unsigned short all[64]; semctl(id, 0, GETALL, (union semun){ .array = all }); for (int i = 0; i < n; i++) printf(" %d", all[i]); puts(""); }
/* Waits until so many wait for a semaphore to grow, or to become zero. */
static void until(int id, int n, int what, int count) { while (semctl(id, n, what) != count) usleep(1000); }

static void basics(void)
{
    int id = made(3);
    YES(id >= 0);
    show(id, 3);
    CALL(set(id, 1, 5)); CALL(op(id, 1, -2, 0)); CALL(op(id, 1, -4, IPC_NOWAIT)); CALL(op(id, 1, 0, IPC_NOWAIT)); CALL(op(id, 0, 0, IPC_NOWAIT)); show(id, 3);
    CALL(op(id, 2, 32767, 0)); CALL(op(id, 2, 1, 0)); CALL(set(id, 0, 32768)); CALL(set(id, 0, -1)); CALL(set(id, 0, 32767)); CALL(set(id, 3, 1)); CALL(set(id, -1, 1)); CALL(get(id, 3)); CALL(get(id, -1)); CALL(op(id, 3, 1, 0));
    YES(semctl(id, 2, GETPID) == getpid()); CALL(semctl(id, 1, GETNCNT)); CALL(semctl(id, 1, GETZCNT));
    /* All or nothing. */
    struct sembuf some[] = { { 0, -1, 0 }, { 1, -1, 0 }, { 2, 1, IPC_NOWAIT } }; CALL(semop(id, some, 3)); show(id, 3);
    struct sembuf blocked[] = { { 0, -1, 0 }, { 1, -9, IPC_NOWAIT }, { 2, -1, 0 } }; CALL(semop(id, blocked, 3)); show(id, 3);
    struct sembuf twice[] = { { 1, -3, 0 }, { 1, 0, 0 }, { 1, 2, 0 } }; CALL(semop(id, twice, 3)); show(id, 3);
    struct sembuf range[] = { { 0, -1, 0 }, { 7, 1, 0 } }; CALL(semop(id, range, 2)); show(id, 3);
    CALL(semop(id, NULL, 1)); CALL(semop(id, some, 0)); CALL(semop(id, some, 501)); CALL(semop(-1, some, 1)); CALL(semop(id + 7000, some, 1)); CALL(semop(-1, some, 0)); CALL(semop(-1, NULL, 1));
    unsigned short all[3] = { 1, 2, 3 }; CALL(semctl(id, 0, SETALL, (union semun){ .array = all })); show(id, 3);
    all[1] = 40000; CALL(semctl(id, 0, SETALL, (union semun){ .array = all })); show(id, 3);
    CALL(semctl(id, 0, SETALL, (union semun){ .array = NULL })); CALL(semctl(id, 0, GETALL, (union semun){ .array = NULL }));
    CALL(semctl(id, 0, 99)); CALL(semctl(-1, 0, GETVAL)); CALL(semctl(id, 0, IPC_STAT, (union semun){ .buf = NULL }));
    CALL(semctl(id, 0, IPC_STAT, (union semun){ .buf = &ds }));
    printf("nsems %lu mode %o otime %d ctime %d key %d\n", ds.sem_nsems, ds.sem_perm.mode, ds.sem_otime != 0, ds.sem_ctime != 0, ds.sem_perm.__key);
    ds.sem_perm.mode = 0777; ds.sem_perm.uid = 5; CALL(semctl(id, 0, IPC_SET, (union semun){ .buf = &ds })); CALL(semctl(id, 0, IPC_STAT, (union semun){ .buf = &ds })); printf("mode %o uid %d\n", ds.sem_perm.mode, ds.sem_perm.uid);
    CALL(gone(id)); CALL(gone(id)); CALL(get(id, 0));
    CALL(semget(IPC_PRIVATE, 0, 0600)); CALL(semget(IPC_PRIVATE, -1, 0600)); CALL(semget(IPC_PRIVATE, 32001, 0600));
    key_t key = 0x7e000000 | getpid();
    CALL(semget(key, 3, 0600)); id = semget(key, 3, 0600 | IPC_CREAT); YES(id >= 0); CALL(semget(key, 3, 0600 | IPC_CREAT | IPC_EXCL)); YES(semget(key, 0, 0) == id); YES(semget(key, 2, 0) == id); CALL(semget(key, 4, IPC_CREAT));
    CALL(semctl(id, 0, IPC_STAT, (union semun){ .buf = &ds })); printf("otime %d\n", ds.sem_otime != 0);
    CALL(gone(id)); CALL(semget(key, 3, 0600));
    int first = made(1), second; gone(first); second = made(1); YES(first != second); CALL(get(first, 0)); gone(second);
}

static void waiting(void)
{
    int id = made(2);
    pid_t grows = CHILD(CALL(op(id, 0, -3, 0)));
    until(id, 0, GETNCNT, 1);
    pid_t less = CHILD(CALL(op(id, 0, -1, 0)));
    until(id, 0, GETNCNT, 2);
    CALL(semctl(id, 0, GETNCNT)); CALL(semctl(id, 0, GETZCNT)); CALL(semctl(id, 1, GETNCNT));
    CALL(op(id, 0, 1, 0)); printf("%x\n", reaped(less)); CALL(semctl(id, 0, GETNCNT)); CALL(op(id, 0, 3, 0)); printf("%x\n", reaped(grows)); show(id, 2);
    YES(semctl(id, 0, GETPID) == grows);
    set(id, 1, 2);
    pid_t zero = CHILD(CALL(op(id, 1, 0, 0))); until(id, 1, GETZCNT, 1); CALL(semctl(id, 1, GETNCNT)); CALL(op(id, 1, -1, 0)); CALL(op(id, 1, -1, 0)); printf("%x\n", reaped(zero));
    /* Several at once: the one that it blocks at is counted. */
    struct sembuf both[] = { { 0, -1, 0 }, { 1, -1, 0 } };
    pid_t two = CHILD(CALL(semop(id, both, 2))); until(id, 0, GETNCNT, 1); CALL(semctl(id, 1, GETNCNT));
    CALL(op(id, 0, 1, 0)); until(id, 1, GETNCNT, 1); CALL(semctl(id, 0, GETNCNT)); show(id, 2); CALL(op(id, 1, 1, 0)); printf("%x\n", reaped(two)); show(id, 2);
    /* Woken by SETVAL and SETALL; one wakes another. */
    pid_t chain = CHILD(struct sembuf c[] = { { 0, -1, 0 }, { 1, 2, 0 } }; CALL(semop(id, c, 2))); until(id, 0, GETNCNT, 1);
    pid_t end = CHILD(op(id, 1, -2, 0)); until(id, 1, GETNCNT, 1);
    CALL(set(id, 0, 1)); printf("%x\n", reaped(chain)); printf("%x\n", reaped(end)); show(id, 2);
    pid_t all = CHILD(CALL(op(id, 1, -7, 0))); until(id, 1, GETNCNT, 1); unsigned short values[] = { 3, 8 }; CALL(semctl(id, 0, SETALL, (union semun){ .array = values })); printf("%x\n", reaped(all)); show(id, 2);
    /* A sleeper whose operations become out of range. */
    set(id, 0, 0); set(id, 1, 32767);
    pid_t range = CHILD(struct sembuf c[] = { { 0, -1, 0 }, { 1, 1, 0 } }; CALL(semop(id, c, 2))); until(id, 0, GETNCNT, 1); CALL(op(id, 0, 1, 0)); printf("%x\n", reaped(range)); show(id, 2);
    set(id, 0, 0);
    pid_t removed = CHILD(CALL(op(id, 0, -1, 0))); until(id, 0, GETNCNT, 1); CALL(gone(id)); printf("%x\n", reaped(removed));
}

static void nothing(int signal) { (void)signal; }

static void interrupted(void)
{
    int id = made(1);
    struct sembuf b = { 0, -1, 0 };
    for (int restart = 0; restart < 2; restart++) {
        sigaction(SIGALRM, &(struct sigaction){ .sa_handler = nothing, .sa_flags = restart ? SA_RESTART : 0 }, NULL);
        setitimer(ITIMER_REAL, &(struct itimerval){ .it_value = { 0, 30000 } }, NULL);
        CALL(semop(id, &b, 1)); CALL(semctl(id, 0, GETNCNT));
        setitimer(ITIMER_REAL, &(struct itimerval){ .it_value = { 0, 30000 } }, NULL);
        CALL(semtimedop(id, &b, 1, &(struct timespec){ 10, 0 }));
    }
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    CALL(semtimedop(id, &b, 1, &(struct timespec){ 0, 50000000 }));
    clock_gettime(CLOCK_MONOTONIC, &after);
    YES((after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec >= 50000000L);
    CALL(semtimedop(id, &b, 1, &(struct timespec){ 0, 0 })); CALL(semtimedop(id, &b, 1, &(struct timespec){ 0, -1 })); CALL(semtimedop(id, &b, 1, &(struct timespec){ -1, 0 })); CALL(semtimedop(id, &b, 1, &(struct timespec){ 0, 1000000000 })); CALL(syscall(SYS_semtimedop, id, &b, 1, 8L));
    op(id, 0, 1, 0); CALL(semtimedop(id, &b, 1, &(struct timespec){ 1, 0 }));
    /* A stop and a continuation end the wait, too. */
    pid_t stopped = CHILD(CALL(op(id, 0, -1, 0))); until(id, 0, GETNCNT, 1);
    kill(stopped, SIGSTOP); int status; waitpid(stopped, &status, WUNTRACED); kill(stopped, SIGCONT); usleep(50000);
    CALL(op(id, 0, 1, 0)); printf("%x\n", reaped(stopped));
    pid_t killed = CHILD(CALL(op(id, 0, -5, 0))); until(id, 0, GETNCNT, 1); kill(killed, SIGKILL); printf("%x\n", reaped(killed)); CALL(semctl(id, 0, GETNCNT));
    gone(id);
}

static void *in_thread(void *id) { op(*(int *)id, 0, -2, SEM_UNDO); return NULL; }

static void undone(void)
{
    int id = made(3);
    set(id, 0, 10);
    printf("%x\n", reaped(CHILD(CALL(op(id, 0, -4, SEM_UNDO)); show(id, 3)))); show(id, 3); YES(semctl(id, 0, GETPID) != getpid());
    printf("%x\n", reaped(CHILD(op(id, 0, 5, SEM_UNDO); op(id, 0, -15, 0)))); show(id, 3);
    set(id, 0, 10);
    printf("%x\n", reaped(CHILD(op(id, 0, -4, SEM_UNDO); set(id, 0, 7)))); show(id, 3);
    printf("%x\n", reaped(CHILD(op(id, 0, -4, SEM_UNDO); unsigned short v[] = { 1, 2, 3 }; semctl(id, 0, SETALL, (union semun){ .array = v })))); show(id, 3);
    set(id, 0, 10);
    /* Killed; executing a program keeps it to the end; a forked child does not inherit it. */
    pid_t killed = CHILD(op(id, 0, -4, SEM_UNDO); pause()); while (get(id, 0) != 6) usleep(1000); kill(killed, SIGKILL); printf("%x\n", reaped(killed)); show(id, 3);
    printf("%x\n", reaped(CHILD(op(id, 0, -4, SEM_UNDO); execl("/bin/true", "true", NULL)))); show(id, 3);
    printf("%x\n", reaped(CHILD(op(id, 0, -4, SEM_UNDO); printf("%x\n", reaped(CHILD())); show(id, 3)))); show(id, 3);
    /* Threads share it: nothing is taken back before the last of them ends. */
    printf("%x\n", reaped(CHILD(pthread_t t; pthread_create(&t, NULL, in_thread, &id); pthread_join(t, NULL); usleep(20000); show(id, 3)))); show(id, 3);
    /* All or nothing with it; its own limits. */
    printf("%x\n", reaped(CHILD(struct sembuf b[] = { { 0, -1, SEM_UNDO }, { 1, -30, IPC_NOWAIT } }; CALL(semop(id, b, 2)); show(id, 3)))); show(id, 3);
    set(id, 2, 0);
    printf("%x\n", reaped(CHILD(CALL(op(id, 2, 32767, SEM_UNDO)); CALL(op(id, 2, -32767, 0)); CALL(op(id, 2, 1, SEM_UNDO)); CALL(op(id, 2, 2, SEM_UNDO)); show(id, 3)))); show(id, 3);
    /* A sleeper undoes, and an undo wakes a sleeper. */
    set(id, 0, 0);
    pid_t sleeper = CHILD(CALL(op(id, 0, -1, SEM_UNDO))); until(id, 0, GETNCNT, 1); op(id, 0, 1, 0); printf("%x\n", reaped(sleeper)); show(id, 3);
    pid_t holder = CHILD(op(id, 0, -1, SEM_UNDO); pause()); while (get(id, 0)) usleep(1000);
    pid_t waiter = CHILD(CALL(op(id, 0, -1, 0))); until(id, 0, GETNCNT, 1); kill(holder, SIGTERM); printf("%x\n", reaped(holder)); printf("%x\n", reaped(waiter)); show(id, 3);
    printf("%x\n", reaped(CHILD(op(id, 1, 7, SEM_UNDO); show(id, 3); CALL(unshare(CLONE_SYSVSEM)); show(id, 3); CALL(unshare(CLONE_FS | CLONE_FILES)); CALL(unshare(CLONE_VM)); CALL(unshare(1)); CALL(unshare(CLONE_PARENT))))); show(id, 3);
    printf("%x\n", reaped(CHILD(int own = made(1); op(own, 0, 1, SEM_UNDO); gone(own); op(id, 1, 1, SEM_UNDO)))); show(id, 3);
    gone(id);
}

static void others(void)
{
    int id = made(1);
    for (int mode = 0; mode < 8; mode++) {
        semctl(id, 0, IPC_STAT, (union semun){ .buf = &ds }); ds.sem_perm.mode = 0600 | mode; semctl(id, 0, IPC_SET, (union semun){ .buf = &ds });
        printf("mode %d\n", mode);
        reaped(CHILD(if (setgid(1234) || setuid(1234)) _exit(1);
            CALL(get(id, 0)); CALL(op(id, 0, 1, 0)); CALL(op(id, 0, -1, 0)); CALL(op(id, 0, 0, 0)); CALL(set(id, 0, 0)); CALL(semctl(id, 0, IPC_STAT, (union semun){ .buf = &ds })); CALL(semctl(id, 0, GETNCNT)); CALL(gone(id)); CALL(semctl(id, 0, IPC_SET, (union semun){ .buf = &ds }))));
    }
    struct seminfo info; memset(&info, 0x55, sizeof info);
    YES(semctl(0, 0, IPC_INFO, (union semun){ .info = &info }) >= 0);
    printf("map %d mni %d mns %d mnu %d msl %d opm %d ume %d usz %d vmx %d aem %d\n", info.semmap, info.semmni, info.semmns, info.semmnu, info.semmsl, info.semopm, info.semume, info.semusz, info.semvmx, info.semaem);
    int most = semctl(0, 0, SEM_INFO, (union semun){ .info = &info }), found = 0; YES(info.semusz >= 1 && info.semaem >= 1);
    for (int i = 0; i <= most; i++) { if (semctl(i, 0, SEM_STAT, (union semun){ .buf = &ds }) == id) found++; if (semctl(i, 0, SEM_STAT_ANY, (union semun){ .buf = &ds }) == id) found++; }
    printf("found by place: %d\n", found);
    char line[256]; FILE *file = fopen("/proc/sysvipc/sem", "r"); fgets(line, sizeof line, file); fputs(line, stdout);
    while (fgets(line, sizeof line, file)) { int key, semid; unsigned mode, n; if (sscanf(line, "%d %d %o %u", &key, &semid, &mode, &n) == 4 && semid == id) printf("mode %o n %u width %zu\n", mode, n, strlen(line)); }
    fclose(file); file = fopen("/proc/sys/kernel/sem", "r"); fgets(line, sizeof line, file); fputs(line, stdout); fclose(file);
    gone(id);
}

/* Many processes pass a token around and count under a lock. */
static void crowd(void)
{
    int id = made(9); set(id, 0, 1); set(id, 8, 1);
    volatile int *count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 8; i++)
        CHILD(for (int n = 0; n < 200; n++) { op(id, i, -1, 0); op(id, (i + 1) % 8, 1, 0); op(id, 8, -1, SEM_UNDO); ++*count; op(id, 8, 1, SEM_UNDO); });
    while (wait(NULL) > 0) ;
    printf("counted %d\n", *count); show(id, 9); gone(id);
}

int main(void)
{
    puts("-- basics"); basics();
    puts("-- waiting"); waiting();
    puts("-- interrupted"); interrupted();
    puts("-- undone"); undone();
    puts("-- others"); others();
    puts("-- crowd"); crowd();
    return 0;
}
