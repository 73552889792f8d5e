/* /proc and /dev, by shape: which files there are, what their lines look like, and that they agree with what calls say. */
#include "report.h"
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <termios.h>

static char text[1 << 18];
static const char *get(const char *path) {
    int f = open(path, O_RDONLY);
    if (f < 0) return strcpy(text, strerrorname_np(errno));
    size_t length = 0;
    ssize_t n;
    while (length < sizeof text - 1 && (n = read(f, text + length, sizeof text - 1 - length)) > 0) length += n;
    text[length] = 0;
    close(f);
    return text;
}
/* The words before the colon of each line. */
static void keys(const char *path, const char *const *wanted) {
    get(path);
    printf("%s:", path);
    for (; *wanted; wanted++) {
        char key[64];
        snprintf(key, sizeof key, "%s:", *wanted);
        char *at = strstr(text, key);
        printf(" %s%s", at && (at == text || at[-1] == '\n') ? "" : "NO ", *wanted);
    }
    printf("\n");
}
static const char *value(const char *path, const char *key) {
    static char line[256];
    get(path);
    for (char *at = text; at; at = strchr(at, '\n')) {
        if (*at == '\n') at++;
        if (!strncmp(at, key, strlen(key)) && at[strlen(key)] == ':') {
            at += strlen(key) + 1;
            size_t length = strcspn(at, "\n");
            while (*at == ' ' || *at == '\t') at++, length--;
            snprintf(line, sizeof line, "%.*s", (int)length, at);
            return line;
        }
    }
    return "(none)";
}

static void own_status(void) {
    static const char *const names[] = {"Name", "Umask", "State", "Tgid", "Ngid", "Pid", "PPid", "TracerPid", "Uid", "Gid",
        "FDSize", "Groups", "VmPeak", "VmSize", "VmLck", "VmHWM", "VmRSS", "VmData", "VmStk", "VmExe", "VmLib", "Threads",
        "SigQ", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
        "NoNewPrivs", "Seccomp", "Cpus_allowed", "Cpus_allowed_list", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches",
        NULL};
    keys("/proc/self/status", names);
    printf("%s\n", value("/proc/self/status", "Name"));
    printf("%s\n", value("/proc/self/status", "State"));
    printf("%s\n", value("/proc/self/status", "Threads"));
    YES(atoi(value("/proc/self/status", "Pid")) == getpid());
    YES(atoi(value("/proc/self/status", "PPid")) == getppid());
    YES(atoi(value("/proc/thread-self/status", "Pid")) == syscall(SYS_gettid));
    int fields = 1;
    get("/proc/self/stat");
    char *after = strrchr(text, ')');
    for (char *at = after; (at = strchr(at + 1, ' ')); ) fields++;
    printf("fields of stat: %d, state %c, %s\n", fields, after[2], strstr(text, "(program)") ? "named" : "unnamed");
    unsigned long size, resident, shared, code, lib, data, dirty;
    int count = sscanf(get("/proc/self/statm"), "%lu %lu %lu %lu %lu %lu %lu", &size, &resident, &shared, &code, &lib, &data,
        &dirty);
    printf("statm: %d numbers, in order %d\n", count, size >= resident && resident > 0 && lib == 0 && dirty == 0);
    printf("comm: %s", get("/proc/self/comm"));
    int f = open("/proc/self/comm", O_WRONLY);
    CALL(write(f, "renamed", 7)), close(f), printf("comm: %s", get("/proc/self/comm")),
        printf("%s\n", value("/proc/self/status", "Name"));
}

static void *idle(void *argument) { pause(); return NULL; }
static void own_links(void) {
    char link[4096], cwd[4096];
    struct stat a, b;
    ssize_t length = readlink("/proc/self/exe", link, sizeof link - 1);
    link[length] = 0, printf("exe %s\n", strrchr(link, '/')), CALL(stat("/proc/self/exe", &a)), stat(link, &b),
        YES(a.st_ino == b.st_ino);
    length = readlink("/proc/self/cwd", link, sizeof link - 1), link[length] = 0, getcwd(cwd, sizeof cwd),
        YES(strcmp(link, cwd) == 0), length = readlink("/proc/self/root", link, sizeof link - 1), link[length] = 0,
        printf("root %s\n", link), length = readlink("/proc/self", link, sizeof link - 1), link[length] = 0,
        YES(atoi(link) == getpid());
    int f = open("file", O_RDWR | O_CREAT, 0600), p[2], m = memfd_create("name", 0);
    pipe(p);
    if (write(f, "contents", 8) < 0) perror("write");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", f), length = readlink(path, link, sizeof link - 1), link[length] = 0,
        strcat(cwd, "/file"), YES(strcmp(link, cwd) == 0), CALL(lstat(path, &a)),
        printf("%o %ld\n", a.st_mode, (long)a.st_size), unlink("file"), length = readlink(path, link, sizeof link - 1),
        link[length] = 0, printf("%s\n", strrchr(link, '/')), printf("%s\n", get(path));
    snprintf(path, sizeof path, "/proc/self/fd/%d", p[0]), length = readlink(path, link, sizeof link - 1), link[length] = 0,
        fstat(p[0], &a), snprintf(cwd, sizeof cwd, "pipe:[%lu]", (long)a.st_ino), YES(strcmp(link, cwd) == 0), lstat(path, &a),
        printf("%o\n", a.st_mode);
    snprintf(path, sizeof path, "/proc/self/fd/%d", m), length = readlink(path, link, sizeof link - 1), link[length] = 0,
        printf("%s\n", link);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", f), lseek(f, 5, SEEK_SET),
        printf("pos %s flags %s\n", value(path, "pos"), value(path, "flags"));
    CALL(open("/proc/self/fd/99", O_RDONLY)), CALL(open("/proc/self/fd/x", O_RDONLY)), CALL(open("/proc/999999", O_RDONLY)),
        CALL(open("/proc/self/missing", O_RDONLY)), CALL(unlink("/proc/self/status")), CALL(mkdir("/proc/x", 0700)),
        CALL(open("/proc/x", O_CREAT | O_RDWR, 0600)), CALL(rename("/proc/self/status", "/proc/self/x")),
        CALL(readlink("/proc/self/status", link, 10)), CALL(open("/proc/self/status", O_RDONLY | O_DIRECTORY)),
        CALL(chdir("/proc/self/status"));
    pthread_t thread;
    pthread_create(&thread, NULL, idle, NULL);
    DIR *tasks = opendir("/proc/self/task"), *fds = opendir("/proc/self/fd");
    struct dirent *e;
    int count = 0;
    while ((e = readdir(tasks))) count += e->d_name[0] != '.';
    printf("%d tasks\n", count);
    for (count = 0; (e = readdir(fds));) count += atoi(e->d_name) == f || atoi(e->d_name) == p[1] || atoi(e->d_name) == m;
    printf("%d of three descriptors\n", count), closedir(tasks), closedir(fds), close(f), close(p[0]), close(p[1]), close(m);
}

static void own_memory(char **argv) {
    char *mine = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), line[512], find[64];
    FILE *maps = fopen("/proc/self/maps", "r");
    int stack = 0, heap = 0, vdso = 0, own = 0, program = 0, sorted = 1, shaped = 1;
    unsigned long low, high, offset, last = 0, inode;
    unsigned major_, minor_;
    malloc(10);
    snprintf(find, sizeof find, "%lx-%lx r--p 00000000 00:00 0 \n", (long)mine, (long)mine + 8192);
    while (fgets(line, sizeof line, maps)) {
        char perm[8], name[256] = "";
        int n = sscanf(line, "%lx-%lx %7s %lx %x:%x %lu %255s", &low, &high, perm, &offset, &major_, &minor_, &inode, name);
        if (n < 7) shaped = 0;
        if (low < last) sorted = 0;
        last = high;
        if (strlen(name) && strcspn(line, "/[") != 73) shaped = 0;
        stack += !strcmp(name, "[stack]"), heap += !strcmp(name, "[heap]"), vdso += !strcmp(name, "[vdso]"),
            program += strstr(name, "/program") != NULL,
            own += strstr(line, find) != NULL || (low <= (unsigned long)mine && high >= (unsigned long)mine + 8192 && !strcmp(perm, "r--p"));
    }
    fclose(maps);
    printf("maps: stack %d heap %d vdso %d own %d program %d sorted %d shaped %d\n", stack, heap, vdso, own, program, sorted,
        shaped);
    get("/proc/self/smaps"),
        printf("smaps: %d %d %d\n", strstr(text, "\nRss:") != NULL, strstr(text, "\nPss:") != NULL,
        strstr(text, "\nVmFlags:") != NULL);
    static const char *const rollup[] = {"Rss", "Pss", "Private_Dirty", "Anonymous", "Swap", NULL};
    keys("/proc/self/smaps_rollup", rollup);
    get("/proc/self/cmdline"),
        printf("cmdline %s, %zu\n", strcmp(text, argv[0]) == 0 ? "right" : "wrong", strlen(argv[0]) - strlen(text));
    int f = open("/proc/self/auxv", O_RDONLY);
    unsigned long pair[2], found = 0;
    while (read(f, pair, 16) == 16) if (pair[0] == AT_PHDR) found = pair[1] == getauxval(AT_PHDR);
    printf("auxv %s\n", found ? "right" : "wrong"), close(f);
    f = open("/proc/self/pagemap", O_RDONLY), YES(f >= 0 || errno == EACCES || errno == ENOENT || errno == EPERM), close(f);
    printf("limits: %s\n",
        strncmp(get("/proc/self/limits"), "Limit                     Soft Limit           Hard Limit           Units     \n",
        70) ? "other" : "shaped"), printf("io, oom_score_adj: %s", get("/proc/self/oom_score_adj")), printf("environ %d\n",
        open("/proc/self/environ", O_RDONLY) >= 0), printf("wchan %d, loginuid %d\n", open("/proc/self/wchan", O_RDONLY) >= 0,
        open("/proc/self/cgroup", O_RDONLY) >= 0), printf("personality, mountinfo %d, mounts %d\n",
        access("/proc/self/mountinfo", R_OK), access("/proc/self/mounts", R_OK));
}

static void whole_system(void) {
    static const char *const memory[] = {"MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "SwapTotal", "SwapFree",
        "Shmem", NULL};
    keys("/proc/meminfo", memory);
    get("/proc/cpuinfo"),
        printf("cpuinfo: %d %d %d\n", strstr(text, "processor\t: 0\n") != NULL, strstr(text, "\nflags\t") != NULL,
        strstr(text, "\nmodel name\t") != NULL);
    get("/proc/stat"), printf("stat: %d %d %d %d\n", !strncmp(text, "cpu  ", 5), strstr(text, "\ncpu0 ") != NULL,
        strstr(text, "\nbtime ") != NULL, strstr(text, "\nprocesses ") != NULL);
    double a, b, c;
    int running, all, last;
    printf("loadavg %d, uptime %d\n", sscanf(get("/proc/loadavg"), "%lf %lf %lf %d/%d %d", &a, &b, &c, &running, &all, &last),
        sscanf(get("/proc/uptime"), "%lf %lf", &a, &b));
    struct utsname u;
    uname(&u);
    char version[600];
    snprintf(version, sizeof version, "Linux version %s ", u.release),
        printf("version %s\n", strncmp(get("/proc/version"), version, strlen(version)) ? "other" : "shaped"),
        get("/proc/sys/kernel/osrelease"), text[strcspn(text, "\n")] = 0, YES(strcmp(text, u.release) == 0),
        get("/proc/sys/kernel/hostname"), text[strcspn(text, "\n")] = 0, YES(strcmp(text, u.nodename) == 0);
    static const char *const numbers[] = {"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max",
        "/proc/sys/vm/max_map_count", "/proc/sys/vm/overcommit_memory", "/proc/sys/fs/file-max", "/proc/sys/fs/nr_open",
        "/proc/sys/fs/pipe-max-size", "/proc/sys/kernel/cap_last_cap", "/proc/sys/kernel/ngroups_max",
        "/proc/sys/vm/mmap_min_addr", "/proc/sys/kernel/randomize_va_space", "/proc/sys/net/core/somaxconn"};
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char *end;
        get(numbers[i]), strtoul(text, &end, 10),
            printf("%s: %s\n", numbers[i], end > text && *end == '\n' ? "a number" : text);
    }
    printf("filesystems: %d %d\n", strstr(get("/proc/filesystems"), "nodev\tproc\n") != NULL,
        strstr(text, "nodev\ttmpfs\n") != NULL), printf("uuid %zu boot_id %zu\n", strlen(get("/proc/sys/kernel/random/uuid")),
        strlen(get("/proc/sys/kernel/random/boot_id"))), printf("swaps: %d\n", !strncmp(get("/proc/swaps"), "Filename\t", 9)),
        printf("devices: %d\n", strstr(get("/proc/devices"), "Character devices:") != NULL);
}

static void devices(void) {
    static const char *const nodes[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"};
    struct stat st;
    char b[16] = "xxxxxxxxxxxxxxx";
    for (unsigned i = 0; i < 6; i++) stat(nodes[i], &st),
        printf("%s %o %u:%u\n", nodes[i], st.st_mode, major(st.st_rdev), minor(st.st_rdev));
    int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR), full = open("/dev/full", O_RDWR),
        random_ = open("/dev/urandom", O_RDWR);
    CALL(read(null, b, 4)), CALL(write(null, b, 4)), CALL(lseek(null, 10, SEEK_SET)), CALL(ftruncate(null, 0)),
        CALL(read(zero, b, 4)), printf("%d %d\n", b[3], b[4]), CALL(write(zero, b, 4)), CALL(pread(zero, b, 4, 1000)),
        CALL(read(full, b, 8)), printf("%d\n", b[7]), CALL(write(full, b, 4)), CALL(write(full, b, 0)),
        CALL(read(random_, b, 16)), CALL(write(random_, b, 4)), CALL(read(null, (void *)1, 4)), CALL(read(zero, (void *)1, 4)),
        CALL(write(null, (void *)1, 4)), CALL(read(random_, (void *)1, 4)), CALL(ioctl(null, TCGETS, b)), CALL(isatty(null)),
        CALL(open("/dev/null", O_RDONLY | O_DIRECTORY)), CALL(open("/dev/null/x", O_RDONLY)),
        CALL(close(open("/dev/null", O_WRONLY | O_TRUNC | O_CREAT, 0644)));
    static const char *const links[] = {"/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr"};
    for (unsigned i = 0; i < 4; i++) {
        char to[64];
        ssize_t length = readlink(links[i], to, 63);
        to[length > 0 ? length : 0] = 0, printf("%s -> %s\n", links[i], to);
    }
    int f = open("/dev/shm/made-by-a-test", O_RDWR | O_CREAT | O_EXCL, 0600);
    YES(f >= 0), CALL(ftruncate(f, 100)), CALL(unlink("/dev/shm/made-by-a-test")), close(f), CALL(access("/dev/pts", X_OK)),
        CALL(mknod("/dev/shm/null", S_IFCHR | 0600, makedev(1, 3)) == 0 || errno == EPERM), unlink("/dev/shm/null");
    printf("an echo through /dev/fd: "), fflush(stdout);
    f = open("/dev/stdout", O_WRONLY), CALL(write(f, "echo\n", 5)), close(f);
}

int main(int argc, char **argv) {
    own_status();
    own_links();
    own_memory(argv);
    whole_system();
    devices();
    return 0;
}
