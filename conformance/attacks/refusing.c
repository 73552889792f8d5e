/* refusing WHAT COMMAND...: runs a command on a host that refuses WHAT, as far as the command can tell.
 * "userns": in a user namespace (with all ids for root, its own for others) that may have no more of them (namespaces(7), ENOSPC).
 * "landlock": a kernel without Landlock: a seccomp filter, which everything below inherits, says ENOSYS. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void failed(const char *what) {
    perror(what);
    exit(2);
}

static void put(const char *file, const char *text) {
    int fd = open(file, O_WRONLY);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) failed(file);
    close(fd);
}

/* Ids of a process's new namespace, one to one. */
static void map_ids(pid_t pid, const char *kind, unsigned id) {
    char file[64], text[64];
    snprintf(file, sizeof file, "/proc/%d/%s_map", pid, kind);
    snprintf(text, sizeof text, "%u %u %u\n", id, id, id ? 1 : 65536);
    put(file, text);
}

static void refuse_namespaces(void) {
    unsigned user = getuid(), group = getgid();
    pid_t own = getpid(), helper;
    int status, ready[2];
    char byte;
    if (pipe(ready) != 0 || (helper = fork()) < 0) failed("fork");
    if (helper == 0) {
        close(ready[1]);
        /* Root's maps are written from outside; others' could be from inside, too. */
        if (read(ready[0], &byte, 1) != 1) exit(2);
        char file[64];
        snprintf(file, sizeof file, "/proc/%d/setgroups", own);
        if (user != 0) put(file, "deny");
        map_ids(own, "uid", user);
        map_ids(own, "gid", user == 0 ? 0 : group);
        exit(0);
    }
    if (unshare(CLONE_NEWUSER) != 0) failed("unshare");
    if (write(ready[1], "r", 1) != 1 || waitpid(helper, &status, 0) != helper || status != 0) failed("maps");
    close(ready[0]), close(ready[1]);
    put("/proc/sys/user/max_user_namespaces", "0");
}

static void refuse_landlock(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_landlock_create_ruleset, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) failed("seccomp");
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    if (strcmp(argv[1], "userns") == 0) refuse_namespaces();
    else if (strcmp(argv[1], "landlock") == 0) refuse_landlock();
    else return 2;
    execvp(argv[2], argv + 2);
    failed(argv[2]);
}
