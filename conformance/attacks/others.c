/* others WAY PID: acts on processes outside of the sandbox, by their host ids. */
#include "takeover.h"
#include <sched.h>
#include <signal.h>
#include <sys/uio.h>

struct way {
    const char *name;
    long number, arguments[6];
};

static char word[64];
static struct iovec ours = { word, sizeof word }, theirs = { (void *)0x400000, sizeof word };
static long program[2] = { 0, 0 };

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    long pid = atol(argv[2]);
    take_over();
    const struct way ways[] = {
        { "kill", SYS_kill, { pid, SIGKILL } },
        { "kill_everyone", SYS_kill, { -1, SIGKILL } },
        { "tkill", SYS_tkill, { pid, SIGKILL } },
        { "tgkill", SYS_tgkill, { pid, pid, SIGKILL } },
        { "rt_sigqueueinfo", SYS_rt_sigqueueinfo, { pid, SIGKILL, (long)word } },
        { "pidfd_open", SYS_pidfd_open, { pid } },
        { "pidfd_send_signal", SYS_pidfd_send_signal, { 3, SIGKILL } },
        { "pidfd_getfd", SYS_pidfd_getfd, { 3, 0 } },
        { "ptrace_attach", SYS_ptrace, { 16, pid } },
        { "ptrace_seize", SYS_ptrace, { 0x4206, pid } },
        { "ptrace_traceme", SYS_ptrace, { 0 } },
        { "process_vm_readv", SYS_process_vm_readv, { pid, (long)&ours, 1, (long)&theirs, 1 } },
        { "process_vm_writev", SYS_process_vm_writev, { pid, (long)&ours, 1, (long)&theirs, 1 } },
        { "process_madvise", SYS_process_madvise, { 3, (long)&theirs, 1, MADV_COLD } },
        { "write_to_a_file", SYS_write, { 200, (long)word, 1 } },
        { "wait4", SYS_wait4, { pid, (long)word, 1, 0 } },
        { "clone_pidfd", SYS_clone, { 0x1000 | 0x8400, 0, (long)word } },
        { "clone_ptrace", SYS_clone, { 0x2000 | 0x8400 } },
        { "madvise_mergeable", SYS_madvise, { (long)word & ~0xfffl, 4096, 12 } },
        { "madvise_hwpoison", SYS_madvise, { (long)word & ~0xfffl, 4096, 100 } },
        { "futex_lock_pi", SYS_futex, { (long)word, 6, 0, 0 } },
        { "futex_requeue_pi", SYS_futex, { (long)word, 12, 1, 1, (long)word + 8, 0 } },
        { "mmap_hugetlb", SYS_mmap, { 0, 2 << 20, 3, 0x40032, -1, 0 } },
        { "open_tmpfile", SYS_openat, { AT_FDCWD, (long)"/tmp", 020200002, 0600 } },
        { "open_noatime", SYS_openat, { AT_FDCWD, (long)"/etc/hosts", O_NOATIME } },
        { "kcmp", SYS_kcmp, { pid, pid, 0 } },
        { "prlimit64", SYS_prlimit64, { pid, 7, (long)word } },
        { "setpriority", SYS_setpriority, { 0, pid, 19 } },
        { "sched_setscheduler", SYS_sched_setscheduler, { pid, 0, (long)word } },
        { "ioprio_set", SYS_ioprio_set, { 1, pid, 0x6000 } },
        { "move_pages", SYS_move_pages, { pid, 0 } },
        { "migrate_pages", SYS_migrate_pages, { pid, 1, (long)word, (long)word } },
        { "setns", SYS_setns, { 3, 0 } },
        { "unshare", SYS_unshare, { CLONE_NEWUSER } },
        { "clone_namespaces", SYS_clone, { CLONE_NEWUSER | CLONE_NEWNS | SIGCHLD } },
        { "clone3", SYS_clone3, { (long)word, sizeof word } },
        { "prctl_dumpable", SYS_prctl, { 4, 1 } },
        { "prctl_pdeathsig", SYS_prctl, { 1, 0 } },
        { "prctl_seccomp", SYS_prctl, { 22, 2, (long)program } },
        { "seccomp_filter", SYS_seccomp, { 1, 0, (long)program } },
        { "rt_sigprocmask", SYS_rt_sigprocmask, { 0, (long)word, 0, 8 } },
        { "rt_sigaction", SYS_rt_sigaction, { SIGSYS, (long)word, 0, 8 } },
        { "setuid", SYS_setuid, { 0 } },
        { "capset", SYS_capset, { (long)word, (long)word } },
        { "setsid", SYS_setsid, { 0 } },
        { "keyctl", SYS_keyctl, { 0, -5 } },
        { "bpf", SYS_bpf, { 0, (long)word, sizeof word } },
        { "perf_event_open", SYS_perf_event_open, { (long)word, pid, -1, -1 } },
        { "userfaultfd", SYS_userfaultfd, { 0 } },
        { "io_uring_setup", SYS_io_uring_setup, { 1, (long)word } },
        { "open_by_handle_at", SYS_open_by_handle_at, { AT_FDCWD, (long)word, 0 } },
        { "name_to_handle_at", SYS_name_to_handle_at, { AT_FDCWD, (long)"/", (long)word, (long)word } },
        { "mount", SYS_mount, { (long)"cgroup", (long)"/tmp", (long)"cgroup", 0, (long)"memory" } },
        { "mount_bind", SYS_mount, { (long)"/", (long)"/etc", 0, 4096 } },
        { "umount2", SYS_umount2, { (long)"/etc/shadow", 2 } },
        { "open_tree", SYS_open_tree, { AT_FDCWD, (long)"/", 1 } },
        { "fsopen", SYS_fsopen, { (long)"tmpfs", 0 } },
        { "mount_setattr", SYS_mount_setattr, { AT_FDCWD, (long)"/usr", 0, (long)word, 32 } },
        { "pivot_root", SYS_pivot_root, { (long)"/", (long)"/usr" } },
        { "chroot", SYS_chroot, { (long)"/usr" } },
        { "mknodat", SYS_mknodat, { AT_FDCWD, (long)"sda", S_IFBLK | 0666, 8 << 8 } },
        { "socket", SYS_socket, { 2, 1, 0 } },
        { "socket_unix", SYS_socket, { 1, 1, 0 } },
        { "sendmsg", SYS_sendmsg, { 5, (long)word, 0 } },
        { "splice", SYS_splice, { 0, 0, 1, 0, 1, 0 } },
        { "vmsplice", SYS_vmsplice, { 1, (long)&ours, 1, 0 } },
        { "tee", SYS_tee, { 0, 1, 1, 0 } },
        { "memfd_create", SYS_memfd_create, { (long)"x", 0 } },
        { "execve", SYS_execve, { (long)"/usr/bin/id", 0, 0 } },
        { "execveat", SYS_execveat, { AT_FDCWD, (long)"/usr/bin/su", 0, 0, 0 } },
        { "open_for_writing", SYS_openat, { AT_FDCWD, (long)"/etc/hosts", O_RDWR } },
        { "open_creating", SYS_openat, { AT_FDCWD, (long)"/tmp/x", O_CREAT, 0644 } },
        { "open_truncating", SYS_openat, { AT_FDCWD, (long)"/etc/hosts", O_TRUNC } },
        { "openat2", SYS_openat2, { AT_FDCWD, (long)"/", (long)word, 24 } },
        { "linkat", SYS_linkat, { AT_FDCWD, (long)"/etc/hosts", AT_FDCWD, (long)"hosts", 0 } },
        { "unlinkat", SYS_unlinkat, { AT_FDCWD, (long)"/etc/hosts", 0 } },
        { "tiocsti", SYS_ioctl, { 0, 0x5412, (long)"x" } },
        { "tioclinux", SYS_ioctl, { 0, 0x541c, (long)"\x02" } },
        { "tiocsctty", SYS_ioctl, { 0, 0x540e, 1 } },
        { "fcntl_setown", SYS_fcntl, { 0, 8, pid } },
        { "syslog", SYS_syslog, { 3, (long)word, sizeof word } },
        { "reboot", SYS_reboot, { 0xfee1dead, 672274793, 0x4321fedc } },
        { "swapon", SYS_swapon, { (long)"/etc/hosts", 0 } },
        { "settimeofday", SYS_settimeofday, { (long)word, 0 } },
        { "iopl", SYS_iopl, { 3 } },
        { "modify_ldt", SYS_modify_ldt, { 1, (long)word, 16 } },
    };
    if (is(argv[1], "list")) {
        for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) say("way %s\n", ways[i].name);
        return 0;
    }
    /* Calls that the filter lets through and that take a process. */
    if (is(argv[1], "affinity")) {
        unsigned long mask[16] = { 1 };
        trying();
        if (HOST(SYS_sched_setaffinity, pid, sizeof mask, mask) >= 0) escaped("set the affinity of a host process");
        if (HOST(SYS_sched_getaffinity, pid, sizeof mask, mask) >= 0) escaped("read the affinity of a host process");
        held();
        return 0;
    }
    if (is(argv[1], "poke")) {
        trying();
        if (HOST(SYS_tgkill, pid, pid, 63) >= 0) escaped("signalled a host process");
        held();
        return 0;
    }
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++)
        if (is(argv[1], ways[i].name)) {
            const long *a = ways[i].arguments;
            trying();
            long result = host(ways[i].number, a[0], a[1], a[2], a[3], a[4], a[5]);
            escaped("%s came back with %ld", argv[1], result);
            return 0;
        }
    return 2;
}
