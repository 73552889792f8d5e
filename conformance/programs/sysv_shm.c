/* System V shared memory: shmget, shmat, shmdt, shmctl. */
#include "report.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <setjmp.h>

#define PAGE 4096L
static struct shmid_ds ds;
static long attached(int id) { return shmctl(id, IPC_STAT, &ds) ? -1 : (long)ds.shm_nattch; }
static sigjmp_buf jump;
static void fault(int signal, siginfo_t *info, void *context) { (void)context; siglongjmp(jump, signal * 10 + info->si_code); }
static int writes(volatile char *at) { int r = sigsetjmp(jump, 1); if (r) return r; *at = 1; return 0; }

static int in_child(int (*what)(int, char *), int id, char *at)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) { int r = what(id, at); fflush(stdout); _exit(r); }
    int status; waitpid(pid, &status, 0);
    return status;
}
static int sees(int id, char *at) { YES(at[5] == 'x'); at[6] = 'y'; printf("attached in the child: %ld\n", attached(id)); return 0; }
static int detaches(int id, char *at) { CALL(shmdt(at)); printf("attached: %ld\n", attached(id)); return 3; }
static int executes(int id, char *at) { (void)id; (void)at; execl("/bin/true", "true", NULL); return 9; }
static int is_another(int id, char *at)
{
    (void)at;
    if (setgid(1234) || setuid(1234)) return 8;
    CALL(shmctl(id, IPC_STAT, &ds)); CALL(shmctl(id, IPC_RMID, NULL)); CALL(shmctl(id, IPC_SET, &ds));
    OK((long)shmat(id, NULL, 0)); OK((long)shmat(id, NULL, SHM_RDONLY)); OK((long)shmat(id, NULL, SHM_RDONLY | SHM_EXEC));
    CALL(shmctl(id, SHM_LOCK, NULL)); CALL(shmctl(id, SHM_UNLOCK, NULL));
    return 0;
}

static void attaching(void)
{
    int id = shmget(IPC_PRIVATE, PAGE * 4 + 7, 0600 | IPC_CREAT);
    YES(id >= 0);
    CALL(shmctl(id, IPC_STAT, &ds));
    printf("size %zu mode %o nattch %ld cpid %d lpid %d atime %d dtime %d\n", ds.shm_segsz, ds.shm_perm.mode, (long)ds.shm_nattch,
           ds.shm_cpid == getpid(), ds.shm_lpid, ds.shm_atime != 0, ds.shm_dtime != 0);
    YES(ds.shm_perm.__key == IPC_PRIVATE && ds.shm_perm.uid == geteuid() && ds.shm_perm.cgid == getegid() && ds.shm_ctime != 0);
    char *at = shmat(id, NULL, 0), *again = shmat(id, NULL, SHM_RDONLY);
    YES(at != (void *)-1 && again != (void *)-1 && at != again);
    at[5] = 'x'; at[PAGE * 4 + 4000] = 'z';
    YES(again[5] == 'x' && again[PAGE * 4 + 4000] == 'z');
    printf("attached: %ld\n", attached(id));
    YES(ds.shm_lpid == getpid() && ds.shm_atime != 0 && ds.shm_dtime == 0);
    printf("a write to the read-only attachment: %d\n", writes(again));
    CALL(mprotect(again, PAGE, PROT_READ | PROT_WRITE)); CALL(mprotect(again, PAGE, PROT_NONE)); CALL(mprotect(again, PAGE, PROT_READ));
    printf("attached after a split: %ld\n", attached(id));
    printf("child: %x\n", in_child(sees, id, at));
    YES(at[6] == 'y');
    printf("attached after the child: %ld\n", attached(id));
    printf("child: %x\n", in_child(detaches, id, at));
    printf("child: %x\n", in_child(executes, id, at));
    printf("attached after exec: %ld\n", attached(id));
    CALL(munmap(again + PAGE, PAGE)); printf("attached: %ld\n", attached(id));
    CALL(shmdt(again + PAGE)); CALL(shmdt(again + 1)); CALL(shmdt(again)); CALL(shmdt(again));
    printf("attached: %ld\n", attached(id));
    YES(ds.shm_dtime != 0);
    CALL(shmdt(at)); CALL(shmdt(NULL)); CALL(shmdt(&id));
    printf("a write after: %d\n", writes(at));
    at = shmat(id, NULL, 0); YES(at[5] == 'x' && at[6] == 'y');
    CALL(munmap(at, PAGE)); CALL(shmdt(at)); CALL(shmdt(at + PAGE));
    printf("attached: %ld\n", attached(id));
    CALL(munmap(at, PAGE * 5)); printf("attached: %ld\n", attached(id));
    CALL(shmctl(id, IPC_RMID, NULL)); CALL(shmctl(id, IPC_RMID, NULL)); CALL(shmctl(id, IPC_STAT, &ds));
    OK((long)shmat(id, NULL, 0));
}

static void places(void)
{
    int id = shmget(IPC_PRIVATE, PAGE * 3, 0600);
    char *room = mmap(NULL, PAGE * 16, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(room + PAGE * 8, PAGE * 8);
    OK((long)shmat(id, room + 1, 0)); OK((long)shmat(id, room, 0)); OK((long)shmat(id, room + PAGE * 7, 0));
    YES(shmat(id, room, SHM_REMAP) == room);
    YES(shmat(id, room + PAGE * 8 + 77, SHM_RND) == room + PAGE * 8);
    room[1] = 'a'; YES(room[PAGE * 8 + 1] == 'a');
    OK((long)shmat(id, NULL, SHM_REMAP)); OK((long)shmat(id, (void *)100, SHM_RND | SHM_REMAP)); OK((long)shmat(id, (void *)100, 0));
    OK((long)shmat(id, (void *)PAGE, 0)); OK((long)shmat(id, (void *)-PAGE, 0)); OK((long)shmat(id, (void *)(-PAGE * 2), SHM_REMAP)); OK((long)shmat(id, (void *)(1L << 60), 0));
    OK((long)shmat(-1, NULL, 0)); OK((long)shmat(id + 1000, NULL, 0)); OK((long)shmat(id, room + PAGE * 11, SHM_EXEC | SHM_RDONLY));
    printf("attached: %ld\n", attached(id));
    /* A hole in the middle, something else in it. */
    munmap(room + PAGE * 9, PAGE);
    YES(mmap(room + PAGE * 9, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == room + PAGE * 9);
    printf("attached: %ld\n", attached(id));
    CALL(shmdt(room + PAGE * 8)); printf("attached: %ld\n", attached(id));
    CALL(madvise(room + PAGE * 9, PAGE, MADV_DONTNEED));
    CALL(shmdt(room + PAGE * 11)); CALL(shmdt(room)); printf("attached: %ld\n", attached(id));
    char *at = shmat(id, NULL, 0), *moved = mremap(at, PAGE * 3, PAGE * 3, MREMAP_MAYMOVE | MREMAP_FIXED, room + PAGE * 12);
    YES(moved == room + PAGE * 12); printf("attached: %ld\n", attached(id));
    at = mremap(moved, PAGE * 3, PAGE * 4, 0); YES(at == moved || at == MAP_FAILED);
    YES(moved[1] == 'a');
    CALL(shmdt(moved)); printf("attached: %ld\n", attached(id));
    CALL(shmctl(id, IPC_RMID, NULL));
}

static void removal(void)
{
    int id = shmget(IPC_PRIVATE, PAGE, 0600);
    char *at = shmat(id, NULL, 0);
    CALL(shmctl(id, IPC_RMID, NULL)); CALL(shmctl(id, IPC_STAT, &ds));
    printf("mode %o nattch %ld\n", ds.shm_perm.mode, (long)ds.shm_nattch);
    at[0] = 'q';
    char *again = shmat(id, NULL, 0);
    YES(again != (void *)-1 && again[0] == 'q');
    CALL(shmctl(id, IPC_RMID, NULL));
    CALL(shmdt(at)); CALL(shmctl(id, IPC_STAT, &ds)); CALL(shmdt(again)); CALL(shmctl(id, IPC_STAT, &ds));
    /* The last process that has it attached ends. */
    id = shmget(IPC_PRIVATE, PAGE, 0600);
    fflush(stdout);
    int pipes[2]; pipe(pipes);
    if (fork() == 0) { at = shmat(id, NULL, 0); write(pipes[1], "a", 1); pause(); }
    char c; read(pipes[0], &c, 1);
    CALL(shmctl(id, IPC_RMID, NULL)); printf("attached: %ld\n", attached(id));
    kill(0, 0); signal(SIGTERM, SIG_IGN); kill(0, SIGTERM); signal(SIGTERM, SIG_DFL);
    wait(NULL); CALL(shmctl(id, IPC_STAT, &ds));
    /* By key: no longer found once removed. */
    key_t key = 0x7e000000 | getpid();
    id = shmget(key, PAGE, 0600 | IPC_CREAT | IPC_EXCL); YES(id >= 0);
    CALL(shmget(key, PAGE, 0600 | IPC_CREAT | IPC_EXCL)); YES(shmget(key, PAGE, 0600) == id); YES(shmget(key, 0, 0) == id); YES(shmget(key, 1, IPC_CREAT) == id);
    CALL(shmget(key, PAGE + 1, 0)); CALL(shmget(key + (1 << 23), PAGE, 0600));
    at = shmat(id, NULL, 0); CALL(shmctl(id, IPC_RMID, NULL)); CALL(shmget(key, 0, 0));
    CALL(shmctl(id, IPC_STAT, &ds)); YES(ds.shm_perm.__key == 0);
    int other = shmget(key, PAGE, 0600 | IPC_CREAT | IPC_EXCL); YES(other >= 0 && other != id);
    CALL(shmctl(other, IPC_RMID, NULL)); shmdt(at);
    int first = shmget(IPC_PRIVATE, PAGE, 0600); shmctl(first, IPC_RMID, NULL);
    int second = shmget(IPC_PRIVATE, PAGE, 0600); YES(first != second); CALL(shmctl(first, IPC_STAT, &ds)); shmctl(second, IPC_RMID, NULL);
}

static void limits(void)
{
    CALL(shmget(IPC_PRIVATE, 0, 0600)); CALL(shmget(IPC_PRIVATE, -1, 0600)); CALL(shmget(IPC_PRIVATE, 1UL << 62, 0600));
    CALL(shmget(IPC_PRIVATE, 2 << 20, 0600 | SHM_HUGETLB)); CALL(shmget(IPC_PRIVATE, 2 << 20, 0600 | SHM_HUGETLB | (21 << 26))); CALL(shmget(IPC_PRIVATE, 2 << 20, 0600 | SHM_HUGETLB | (17 << 26)));
    int id = shmget(IPC_PRIVATE, 1 << 20, 0600 | SHM_NORESERVE);
    CALL(shmctl(id, SHM_LOCK, NULL)); CALL(shmctl(id, IPC_STAT, &ds)); printf("mode %o\n", ds.shm_perm.mode);
    CALL(shmctl(id, SHM_LOCK, NULL)); CALL(shmctl(id, SHM_UNLOCK, NULL)); CALL(shmctl(id, IPC_STAT, &ds)); printf("mode %o\n", ds.shm_perm.mode);
    CALL(shmctl(id, 99, NULL)); CALL(shmctl(-1, IPC_STAT, &ds)); CALL(shmctl(id, IPC_STAT, NULL)); CALL(shmctl(id, IPC_SET, NULL)); CALL(shmctl(id, IPC_STAT | 0x100, &ds)); CALL(shmctl(1 << 30, IPC_RMID, NULL)); CALL(shmctl(-1, SHM_LOCK, 0));
    ds.shm_perm.mode = 07777; ds.shm_perm.uid = 77; ds.shm_perm.gid = 78;
    CALL(shmctl(id, IPC_SET, &ds)); CALL(shmctl(id, IPC_STAT, &ds));
    printf("mode %o uid %d gid %d cuid is mine: %d\n", ds.shm_perm.mode, ds.shm_perm.uid, ds.shm_perm.gid, ds.shm_perm.cuid == geteuid());
    for (int mode = 0; mode < 8; mode++) {
        ds.shm_perm.mode = 0600 | mode; shmctl(id, IPC_SET, &ds);
        printf("others %d: %x\n", mode, in_child(is_another, id, NULL));
    }
    struct shminfo info; memset(&info, 0x55, sizeof info);
    YES(shmctl(0, IPC_INFO, (void *)&info) >= 0);
    printf("max %lu min %lu mni %lu seg %lu all %lu\n", info.shmmax, info.shmmin, info.shmmni, info.shmseg, info.shmall);
    struct shm_info used; memset(&used, 0x55, sizeof used);
    YES(shmctl(0, SHM_INFO, (void *)&used) >= 0);
    YES(used.used_ids >= 1 && used.shm_tot >= 256 && used.shm_swp == 0 && used.swap_attempts == 0);
    int found = 0, most = shmctl(0, SHM_INFO, (void *)&used);
    for (int i = 0; i <= most; i++) { if (shmctl(i, SHM_STAT, &ds) == id) found++; if (shmctl(i, SHM_STAT_ANY, &ds) == id) found++; }
    printf("found by place: %d\n", found);
    CALL(shmctl(-3, SHM_STAT, &ds)); CALL(shmctl(32000, SHM_STAT, &ds));
    CALL(shmctl(id, IPC_RMID, NULL));
    /* More than a mapping of many pages, sparsely used. */
    id = shmget(IPC_PRIVATE, 256 << 20, 0600); char *at = shmat(id, NULL, 0); YES(at != (void *)-1);
    at[200 << 20] = 5; YES(at[100 << 20] == 0 && at[200 << 20] == 5); CALL(shmdt(at)); CALL(shmctl(id, IPC_RMID, NULL));
}

static void text(void)
{
    int id = shmget(IPC_PRIVATE, 12345, 0640), shown = 0;
    char *at = shmat(id, NULL, 0);
    char line[512]; FILE *file = fopen("/proc/sysvipc/shm", "r");
    fgets(line, sizeof line, file); fputs(line, stdout);
    while (fgets(line, sizeof line, file)) {
        int key, shmid, uid; unsigned mode; unsigned long size, count; int cpid, lpid;
        if (sscanf(line, "%d %d %o %lu %d %d %lu %d", &key, &shmid, &mode, &size, &cpid, &lpid, &count, &uid) != 8 || shmid != id) continue;
        shown++;
        printf("key %d mode %o size %lu mine %d %d attached %lu width %zu\n", key, mode, size, cpid == getpid(), lpid == getpid(), count, strlen(line));
    }
    YES(shown == 1); fclose(file);
    char maps[64]; snprintf(maps, sizeof maps, "%lx-", (unsigned long)at);
    file = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, file)) if (!strncmp(line, maps, strlen(maps))) { printf("%.4s", strchr(line, ' ') + 1); char *name = strchr(line, '/'); printf(" %s", name ? name : "none\n"); }
    fclose(file);
    for (const char *const *name = (const char *const[]){ "shmmax", "shmall", "shmmni", NULL }; *name; name++) {
        char path[64]; snprintf(path, sizeof path, "/proc/sys/kernel/%s", *name); file = fopen(path, "r"); fgets(line, sizeof line, file); printf("%s %s", *name, line); fclose(file);
    }
    shmdt(at); CALL(shmctl(id, IPC_RMID, NULL));
}

int main(void)
{
    setpgid(0, 0);
    sigaction(SIGSEGV, &(struct sigaction){ .sa_sigaction = fault, .sa_flags = SA_SIGINFO }, NULL);
    puts("-- attaching"); attaching();
    puts("-- places"); places();
    puts("-- removal"); removal();
    puts("-- limits"); limits();
    puts("-- text"); text();
    return 0;
}
