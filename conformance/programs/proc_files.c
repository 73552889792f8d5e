/* What lies in /proc/self, and the fields of what is read there: names and modes, as values differ. */
#include "report.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

static const char *files[] = {"auxv", "cgroup", "cmdline", "comm", "coredump_filter", "cpuset", "environ", "gid_map", "io", "limits",
    "loginuid", "maps", "mem", "mountinfo", "mounts", "mountstats", "oom_adj", "oom_score", "oom_score_adj", "pagemap", "personality",
    "projid_map", "sched", "schedstat", "sessionid", "setgroups", "smaps", "smaps_rollup", "stack", "stat", "statm", "status", "syscall",
    "timerslack_ns", "uid_map", "wchan"};
static const char *links[] = {"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"};

static char text[1 << 16];
static long contents(const char *path) {
    int fd = open(path, O_RDONLY);
    long n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = 0;
    if (fd >= 0) close(fd);
    return n;
}

/* The first word of each line. */
static void fields(const char *path) {
    contents(path);
    printf("%s:", path);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        /* What depends on the processor and on how the kernel was configured. */
        if (strncmp(line, "DirectMap", 9) == 0 || strncmp(line, "Balloon", 7) == 0 || strncmp(line, "x86_", 4) == 0) continue;
        line[strcspn(line, ":\t")] = 0;
        if (strstr(line, "  ")) *strstr(line, "  ") = 0;
        if (line[0] >= 'A' && (line[0] <= 'Z' || line[0] >= 'a') && !strpbrk(line, "-")) printf(" %s", line);
    }
    printf("\n");
}

static void put(const char *path, const char *value) {
    int fd = open(path, O_WRONLY);
    errno = 0;
    long n = write(fd, value, strlen(value));
    printf("%s < %s: %ld %s, then ", path, value, n, n < 0 ? strerrorname_np(errno) : "");
    close(fd);
    contents(path);
    printf("%s", text);
}

int main(void) {
    struct stat st;
    struct statfs fs;
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/%s", files[i]);
        printf("%s: %o\n", files[i], lstat(path, &st) ? 0 : st.st_mode);
    }
    for (unsigned i = 0; i < sizeof links / sizeof *links; i++) {
        char path[64], target[64] = "", again[64];
        snprintf(path, sizeof path, "/proc/self/ns/%s", links[i]);
        long n = readlink(path, target, sizeof target - 1);
        int fd = open(path, O_RDONLY);
        fstat(fd, &st), fstatfs(fd, &fs);
        snprintf(again, sizeof again, "%.*s:[%lu]", (int)strcspn(target, ":"), target, (unsigned long)st.st_ino);
        printf("%s: %s %o %lx %s\n", links[i], n > 0 && strcmp(target, again) == 0 ? "itself" : target, st.st_mode, (long)fs.f_type,
            strndupa(target, strcspn(target, ":")));
        for (int command = 0xb701; command < 0xb706; command++) {
            unsigned uid = 7;
            int r = ioctl(fd, command, &uid);
            printf(" %x: %s %x %u\n", command, r < 0 ? strerrorname_np(errno) : "ok", command == 0xb703 ? r : 0, uid);
            if (command == 0xb701 && r >= 0) fstat(r, &st), printf("  %lu %d\n", (unsigned long)st.st_ino, fcntl(r, F_GETFD)), close(r);
        }
        close(fd);
    }
    fields("/proc/self/status"), fields("/proc/self/io"), fields("/proc/self/smaps_rollup"), fields("/proc/meminfo"), fields("/proc/self/limits");
    put("/proc/self/oom_score_adj", "300"), put("/proc/self/oom_score_adj", "1001"), put("/proc/self/oom_score_adj", "0x10\n");
    put("/proc/self/oom_score_adj", "x"), put("/proc/self/oom_score_adj", "17"), put("/proc/self/oom_adj", "15");
    put("/proc/self/coredump_filter", "0x7f"), put("/proc/self/coredump_filter", "7\n"), put("/proc/self/coredump_filter", "-");
    put("/proc/self/timerslack_ns", "70000"), put("/proc/self/timerslack_ns", "0");
    printf("%ld %s", contents("/proc/self/setgroups"), text);
    printf("%s", (contents("/proc/self/uid_map"), text));
    contents("/proc/cgroups");
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (strncmp(line, "memory", 6) == 0 || strncmp(line, "cpu\t", 4) == 0) printf("%.*s\n", (int)strcspn(line, "\t"), line);
    static const char *readable[] = {"/proc/filesystems", "/proc/stat", "/proc/vmstat", "/proc/loadavg", "/proc/uptime", "/proc/version",
        "/proc/cmdline", "/proc/devices", "/proc/cpuinfo", "/proc/self/mountstats", "/proc/self/sched", "/proc/self/schedstat",
        "/proc/net/raw", "/proc/net/udplite", "/sys/devices/system/cpu/online", "/sys/devices/system/cpu/cpu0/topology/core_id",
        "/sys/devices/system/node/node0/meminfo", "/sys/kernel/mm/transparent_hugepage/enabled", "/proc/sys/vm/dirty_ratio"};
    for (unsigned i = 0; i < sizeof readable / sizeof *readable; i++) printf("%s %s\n", readable[i], contents(readable[i]) > 0 ? "says something" : strerrorname_np(errno));
    return 0;
}
