/* host_files SECRET: raw host calls that look for files that were not granted. SECRET is a file that anyone may read on the host. */
#include "takeover.h"
#include <dirent.h>

static char text[4096];

/* A file that must not be there; covered ones are there and empty. */
static void must_not_read(long directory, const char *path, const char *how) {
    static const int flags[] = { 0, O_PATH, O_DIRECTORY, O_NONBLOCK, O_NOFOLLOW, O_NOCTTY, O_SYNC, O_PATH | O_NOFOLLOW };
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        long fd = HOST(SYS_openat, directory, path, flags[i] | O_CLOEXEC);
        if (fd < 0) continue;
        long got = HOST(SYS_pread64, fd, text, sizeof text - 1, 0);
        if (got > 0) escaped("%s: %s with flags %#x: %ld bytes", how, path, flags[i], got);
        HOST(SYS_close, fd);
    }
    if (HOST(SYS_readlinkat, directory, path, text, sizeof text) > 0) say("link %s\n", path);
}

/* Whether two directories are the same. */
static int same(const struct stat *one, const struct stat *other) {
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

/* Climbs from a directory until it gets no higher: that must be the tree that the sandbox was given. */
static void climb(long fd, const struct stat *root, const char *secret) {
    char path[1024] = "";
    struct stat here;
    for (int depth = 0; depth < 64; depth++) {
        strcat(path, "../");
        must_not_read(fd, "../etc/shadow", "a sibling");
    }
    if (HOST(SYS_newfstatat, fd, path, &here, 0) == 0 && !same(&here, root)) escaped("descriptor %ld leads above the root", fd);
    strncat(path, secret + 1, sizeof path - strlen(path) - 1);
    must_not_read(fd, path, "climbing");
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    const char *secret = argv[1];
    take_over();
    struct stat root;
    if (HOST(SYS_newfstatat, AT_FDCWD, "/", &root, 0) != 0) return 2;
    must_not_read(AT_FDCWD, secret, "by its name");
    static const char *const names[] = {
        "/etc/shadow", "/etc/gshadow", "/etc/shadow-", "/etc/ssl/private", "/etc/machine-id", "/proc/self/environ", "/proc/1/environ",
        "/proc/self/root/etc/shadow", "/proc/1/root/etc/shadow", "/proc/self/cwd/../../etc/shadow", "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger", "/proc/kcore", "/proc/kallsyms", "/proc/mounts", "/proc/self/exe", "/proc/self/mem", "/proc/self/maps",
        "/sys/kernel/uevent_helper", "/sys/fs/cgroup/release_agent", "/sys/kernel/security", "/dev/mem", "/dev/kmem", "/dev/sda", "/dev/vda",
        "/dev/tty", "/dev/ptmx", "/dev/console", "/dev/shm", "/dev/fuse", "/dev/kvm", "/run/docker.sock", "/var/run/docker.sock",
        "/root/.ssh/id_ed25519", "/root/.bash_history", "/var/lib/dpkg/status", "/boot", "/var/log/syslog", "/old/etc/shadow",
        "/old", "/new", "/blank.d/../../etc/shadow" };
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) must_not_read(AT_FDCWD, names[i], "by its name");
    /* The supervisor has the same user, and works in the directory that the test runs in; the sandbox's own processes in the root. */
    for (int pid = 1; pid < 65536; pid++) {
        char link[64];
        snprintf(link, sizeof link, "/proc/%d/cwd", pid);
        long length = HOST(SYS_readlinkat, AT_FDCWD, link, text, sizeof text);
        if (length > 0 && !(length == 1 && text[0] == '/')) escaped("process %d works in %.*s", pid, (int)length, text);
    }
    int directories = 0;
    for (long fd = -128; fd < 1024; fd++) {
        struct stat what;
        if (HOST(SYS_newfstatat, fd, "", &what, AT_EMPTY_PATH) != 0 && fd != AT_FDCWD) continue;
        must_not_read(fd, "", "an empty path");
        must_not_read(fd, ".", "a dot");
        char magic[64];
        snprintf(magic, sizeof magic, "/proc/self/fd/%ld", fd);
        /* What the descriptor itself gives is no news. */
        if (HOST(SYS_pread64, fd, text, 1, 0) <= 0) must_not_read(AT_FDCWD, magic, "a magic link");
        if (HOST(SYS_newfstatat, fd, "..", &what, 0) != 0) continue;
        directories++;
        climb(fd, &root, secret);
    }
    if (directories < 2) escaped("found only %d directories: is this the right place to look?", directories);
    /* What lies in the root is the test's to judge. */
    long top = HOST(SYS_openat, AT_FDCWD, "/", O_DIRECTORY), got;
    while ((got = HOST(SYS_getdents64, top, text, sizeof text)) > 0)
        for (long at = 0; at < got;) {
            struct dirent64 *entry = (struct dirent64 *)(text + at);
            say("root %s\n", entry->d_name);
            at += entry->d_reclen;
        }
    held();
    return 0;
}
