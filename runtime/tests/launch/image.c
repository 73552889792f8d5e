// Stands for the kernel image in tests of the launch: does what the arguments of its "program" say, one after the other, and
// writes a line of what came of each. Built freestanding; jumped to with rdi = region base.
#define _GNU_SOURCE
#include <asm/unistd.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <stddef.h>
#include <stdint.h>

#define HEAP_OFFSET (64ull << 30)

static long host(long nr, long a, long b, long c, long d, long e);

// The only `syscall` of the image, in the section that the launcher looks for.
__asm__(".section .gadget,\"ax\",@progbits\n.balign 4096\ngadget: syscall\nret\n.balign 4096\n.text\n");
__asm__(".globl _start\n_start: and $-16,%rsp\nxor %ebp,%ebp\ncall run\nud2\n");

static long host(long nr, long a, long b, long c, long d, long e) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = 0;
    long result;
    __asm__ volatile("call gadget" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static unsigned long length(const char *text) {
    unsigned long n = 0;
    while (text[n]) n++;
    return n;
}

static void say(const char *text) { host(__NR_write, 1, (long)text, length(text), 0, 0); }

static void say_number(long number) {
    char digits[24], *at = digits + 23;
    unsigned long rest = number < 0 ? -number : number;
    *at = 0;
    do *--at = '0' + rest % 10; while (rest /= 10);
    if (number < 0) *--at = '-';
    say(at);
}

static int starts(const char *text, const char *with) {
    while (*with) if (*text++ != *with++) return 0;
    return 1;
}

static void list(const char *path) {
    static char entries[8192];
    long fd = host(__NR_openat, AT_FDCWD, (long)path, O_RDONLY | O_DIRECTORY, 0, 0), got;
    if (fd < 0) { say_number(fd); return; }
    while ((got = host(__NR_getdents64, fd, (long)entries, sizeof entries, 0, 0)) > 0)
        for (long at = 0; at < got; at += *(uint16_t *)(entries + at + 16))
            if (entries[at + 19] != '.') { say(entries + at + 19); say(" "); }
    host(__NR_close, fd, 0, 0, 0, 0);
}

static void to_supervisor(const unsigned char *bytes, long count) {
    for (int fd = 3; fd < 64; fd++)
        if (host(__NR_sendto, fd, (long)bytes, count, 0, 0) >= 0) return;
}

static long capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2];
    long held = host(__NR_capget, (long)&header, (long)sets, 0, 0, 0);
    for (int i = 0; i < 2; i++) held |= sets[i].effective | sets[i].permitted | sets[i].inheritable;
    for (int one = 0; one < 64; one++) {
        held |= host(__NR_prctl, PR_CAPBSET_READ, one, 0, 0, 0) == 1;
        held |= host(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, one, 0, 0) == 1;
    }
    return held;
}

static long descriptors(void) {
    long count = 0;
    for (int fd = 0; fd < 1024; fd++) count += host(__NR_fcntl, fd, F_GETFD, 0, 0, 0) >= 0;
    return count;
}

static void act(const char *command) {
    const char *path = command;
    while (*path && *path != ' ') path++;
    if (*path) path++;
    say(command);
    say("=");
    if (starts(command, "uid")) say_number(host(__NR_getuid, 0, 0, 0, 0, 0));
    else if (starts(command, "gid")) say_number(host(__NR_getegid, 0, 0, 0, 0, 0));
    else if (starts(command, "pid")) say_number(host(__NR_getpid, 0, 0, 0, 0, 0));
    else if (starts(command, "session")) say_number(host(__NR_getsid, 0, 0, 0, 0, 0));
    else if (starts(command, "umask")) say_number(host(__NR_umask, 0, 0, 0, 0, 0));
    else if (starts(command, "capabilities")) say_number(capabilities());
    else if (starts(command, "descriptors")) say_number(descriptors());
    else if (starts(command, "securebits")) say_number(host(__NR_prctl, PR_GET_SECUREBITS, 0, 0, 0, 0));
    else if (starts(command, "no-new-privs")) say_number(host(__NR_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    else if (starts(command, "death-signal")) {
        int signal = 0;
        host(__NR_prctl, PR_GET_PDEATHSIG, (long)&signal, 0, 0, 0);
        say_number(signal);
    } else if (starts(command, "mask")) {
        long mask = -1;
        host(__NR_rt_sigprocmask, 0, 0, (long)&mask, 8, 0);
        say_number(mask);
    } else if (starts(command, "handlers")) {
        long set = 0;
        for (int signal = 1; signal < 65; signal++) {
            long action[4] = {0};
            if (host(__NR_rt_sigaction, signal, 0, (long)action, 8, 0) == 0) set += action[0] != 0;
        }
        say_number(set);
    } else if (starts(command, "list")) list(path);
    else if (starts(command, "size")) {
        static char bytes[4096];
        long fd = host(__NR_openat, AT_FDCWD, (long)path, O_RDONLY, 0, 0);
        say_number(fd < 0 ? fd : host(__NR_read, fd, (long)bytes, sizeof bytes, 0, 0));
    } else if (starts(command, "create")) {
        long fd = host(__NR_openat, AT_FDCWD, (long)path, O_WRONLY | O_CREAT, 0644, 0);
        say_number(fd < 0 ? fd : host(__NR_write, fd, (long)"made\n", 5, 0, 0));
    } else if (starts(command, "bind")) {
        // struct sockaddr_in of any address and port.
        static unsigned char address[16] = {2};
        long fd = host(__NR_socket, 2, 1, 0, 0, 0);
        say_number(fd < 0 ? fd : host(__NR_bind, fd, (long)address, sizeof address, 0, 0));
    } else if (starts(command, "remount")) {
        say_number(host(__NR_mount, 0, (long)path, 0, 0x1020, 0));
    } else if (starts(command, "exit")) {
        // FromSandbox::Exited { process: 0, status: 7 << 8 }: variant 1, the numbers as varints, the status in zigzag (0xe00).
        static const unsigned char message[] = {0x01, 0x00, 0x80, 0x1c};
        to_supervisor(message, sizeof message);
        host(__NR_exit_group, 0, 0, 0, 0, 0);
    } else if (starts(command, "garbage")) {
        static const unsigned char message[] = {0xff, 0xff, 0xff};
        to_supervisor(message, sizeof message);
        host(__NR_pause, 0, 0, 0, 0, 0);
    } else if (starts(command, "flood")) {
        static unsigned char message[40000];
        to_supervisor(message, sizeof message);
        host(__NR_pause, 0, 0, 0, 0, 0);
    } else if (starts(command, "hide")) {
        say("\n");
        for (int fd = 0; fd < 64; fd++) host(__NR_close, fd, 0, 0, 0, 0);
        for (;;) host(__NR_pause, 0, 0, 0, 0, 0);
    } else if (starts(command, "stay")) {
        say("\n");
        for (;;) host(__NR_pause, 0, 0, 0, 0, 0);
    } else if (starts(command, "crash")) {
        *(volatile int *)0 = 0;
    }
    say("\n");
}

static unsigned long varint(const unsigned char **at) {
    unsigned long value = 0;
    for (int shift = 0;; shift += 7) {
        unsigned char byte = *(*at)++;
        value |= (unsigned long)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) return value;
    }
}

// The configuration begins with argv: a count, then a length and the bytes of each (postcard's wire format).
// There is no filter, and so no listener of it: the courier is told, and ends.
static void send_courier_home(volatile uint32_t *word) {
    const uint32_t none = UINT32_MAX - 1, delivered = UINT32_MAX - 2;
    __atomic_store_n(word, none, __ATOMIC_SEQ_CST);
    host(__NR_futex, (long)word, 1 /* FUTEX_WAKE */, 1, 0, 0);
    while (*word != delivered) host(__NR_sched_yield, 0, 0, 0, 0, 0);
    host(__NR_wait4, -1, 0, 0, 0, 0);
}

__attribute__((used)) void run(unsigned long base) {
    static char command[4096];
    send_courier_home((volatile uint32_t *)(base + HEAP_OFFSET + 16));
    const unsigned char *at = (const unsigned char *)(base + HEAP_OFFSET + 24);
    for (unsigned long left = varint(&at); left; left--) {
        unsigned long count = varint(&at);
        for (unsigned long i = 0; i < count; i++) command[i] = at[i];
        command[count] = 0;
        at += count;
        act(command);
    }
    host(__NR_exit_group, 3, 0, 0, 0, 0);
}
