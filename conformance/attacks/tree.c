/* tree WAY SECRET: the ways out of a file tree that need no takeover, asked of our kernel. The working directory is bound. */
#include "takeover.h"
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

static volatile int done;

static void must_not_read(const char *path, const char *how) {
    char text[64] = "";
    int fd = open(path, O_RDONLY);
    if (fd < 0) return;
    if (read(fd, text, sizeof text - 1) > 0 && strstr(text, "SECRET")) escaped("%s: %s", how, text);
    close(fd);
}

static void swap_links(const char *secret) {
    /* A name that is a file, a link to the secret and a directory's link by turns, while the other process opens it. */
    mkdir("d", 0755);
    close(open("d/f", O_CREAT | O_WRONLY, 0644));
    pid_t child = fork();
    if (child == 0) {
        char up[512];
        snprintf(up, sizeof up, "../../../../../../..%s", secret);
        for (int i = 0; i < 2000; i++) {
            unlink("x"); close(open("x", O_CREAT | O_WRONLY, 0644));
            unlink("x"); symlink(secret, "x");
            unlink("x"); symlink(up, "x");
            rename("d", "e"); symlink("/var/tmp", "d"); unlink("d"); rename("e", "d");
        }
        _exit(0);
    }
    while (waitpid(child, NULL, WNOHANG) == 0) {
        must_not_read("x", "a link that changes");
        must_not_read("d/../x", "a directory that changes");
        int fd = open("x", O_WRONLY | O_TRUNC);
        if (fd >= 0) { if (write(fd, "overwritten", 11) < 0) {} close(fd); }
    }
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    const char *way = argv[1], *secret = argv[2];
    if (is(way, "symlinks")) {
        swap_links(secret);
    } else if (is(way, "hard_links")) {
        if (link(secret, "linked") == 0) escaped("a hard link to the secret");
        if (link("/etc/passwd", "passwd") == 0) escaped("a hard link out of a read-only mount");
        if (linkat(AT_FDCWD, "/proc/self/exe", AT_FDCWD, "exe", AT_SYMLINK_FOLLOW) == 0 && unlink("exe") != 0) escaped("exe");
    } else if (is(way, "dots")) {
        char path[2048] = "";
        for (int i = 0; i < 40; i++) {
            strcat(path, "../");
            char full[4096];
            snprintf(full, sizeof full, "%s%s", path, secret + 1);
            must_not_read(full, "dots");
        }
        mkdir("deep", 0755);
        int before = open("deep", O_DIRECTORY);
        rename("deep", "elsewhere");
        fchdir(before);
        must_not_read("../../../../var/tmp", "a directory that was moved away");
        rmdir("../elsewhere");
        must_not_read(path, "a directory that is gone");
    } else if (is(way, "mounts")) {
        static const char *const flags[] = { "tmpfs", "proc", "cgroup", "cgroup2", "overlay", "sysfs", "devtmpfs" };
        for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) mount("none", "/tmp", flags[i], 0, "lowerdir=/");
        mount("/", "/mnt", NULL, MS_BIND | MS_REC, NULL);
        mount("/dev/vda", "/mnt", "ext4", 0, NULL);
        umount2("/etc/shadow", MNT_DETACH);
        umount2("/etc", MNT_DETACH);
        mount(NULL, "/usr", NULL, MS_REMOUNT | MS_BIND, NULL);
        must_not_read("/etc/shadow", "uncovered");
        must_not_read(secret, "mounted");
    } else if (is(way, "namespaces")) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) say("it has namespaces of our kernel\n");
        if (chroot("/tmp") == 0) { chdir("/"); must_not_read("../../../../etc/shadow", "out of a chroot"); }
        must_not_read(secret, "in a namespace");
    } else if (is(way, "devices")) {
        static const int numbers[][2] = { { 1, 1 }, { 1, 2 }, { 8, 0 }, { 254, 0 }, { 253, 0 }, { 10, 232 }, { 1, 11 } };
        for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
            char text[16];
            unlink("node");
            for (int block = 0; block < 2; block++)
                if (mknod("node", (block ? S_IFBLK : S_IFCHR) | 0666, makedev(numbers[i][0], numbers[i][1])) == 0) {
                    int fd = open("node", O_RDWR);
                    if (fd >= 0 && read(fd, text, sizeof text) > 0) escaped("device %d:%d was read", numbers[i][0], numbers[i][1]);
                    unlink("node");
                }
        }
    } else if (is(way, "setuid")) {
        /* A file on the host that would give its runner the owner's rights. */
        int fd = open("shell", O_CREAT | O_WRONLY, 06755);
        if (fd >= 0) close(fd);
        chmod("shell", 06755);
        fchmod(fd, 06755);
        umask(0);
        mkdir("sticky", 06777);
        mknod("made", S_IFREG | 06777, 0);
        say("made\n");
    } else if (is(way, "handles")) {
        struct { struct file_handle handle; unsigned char bytes[128]; } h;
        int id;
        /* The mechanism of "shocker": inode 2 is the root of many filesystems. */
        for (unsigned long inode = 1; inode < 200; inode++)
            for (int type = 0; type < 4; type++) {
                h.handle.handle_bytes = 8;
                h.handle.handle_type = type;
                memset(h.bytes, 0, sizeof h.bytes);
                memcpy(h.handle.f_handle, &inode, 8);
                int fd = open_by_handle_at(AT_FDCWD, &h.handle, O_RDONLY);
                if (fd >= 0) {
                    char path[64];
                    snprintf(path, sizeof path, "/proc/self/fd/%d/etc/shadow", fd);
                    must_not_read(path, "a handle");
                    close(fd);
                }
            }
        h.handle.handle_bytes = 128;
        name_to_handle_at(AT_FDCWD, "/etc/passwd", &h.handle, &id, 0);
    } else if (is(way, "own_program")) {
        /* The mechanism of CVE-2019-5736: the runtime's own binary, through /proc/self/exe and descriptors of it. */
        int fd = open("/proc/self/exe", O_PATH);
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        int again = open(path, O_WRONLY | O_TRUNC);
        if (again >= 0) { if (write(again, "#!/bin/sh\n", 10) < 0) {} close(again); }
        again = open("/proc/1/exe", O_WRONLY);
        if (again >= 0) escaped("process 1's program is open for writing");
    } else if (is(way, "left_over")) {
        /* The mechanism of CVE-2024-21626: a descriptor or working directory that the runtime left open. */
        for (int fd = 0; fd < 1024; fd++) {
            char path[512];
            snprintf(path, sizeof path, "/proc/self/fd/%d/../../../../..%s", fd, secret);
            must_not_read(path, "a descriptor");
            snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
            if (fd > 2 && chdir(path) == 0) escaped("descriptor %d is a directory that nobody opened", fd);
        }
        must_not_read("/proc/self/cwd/../../../../../../etc/shadow", "the working directory");
        must_not_read("/proc/1/cwd/etc/shadow", "process 1");
        must_not_read("/proc/1/root/etc/shadow", "process 1");
    } else if (is(way, "release_agent")) {
        static const char *const files[] = { "/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/memory/release_agent", "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper", "/proc/sysrq-trigger", "/proc/sys/fs/binfmt_misc/register" };
        for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
            int fd = open(files[i], O_WRONLY);
            if (fd >= 0 && write(fd, "|/tmp/x", 7) > 0) say("our kernel took %s\n", files[i]);
            if (fd >= 0) close(fd);
        }
    }
    held();
    return 0;
}
