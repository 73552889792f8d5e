/* other_abi WAY SECRET: other doors into the host's kernel than the `syscall` instruction in 64-bit mode. */
#include "takeover.h"
#include <time.h>

static char *low; /* below 4 GiB: code and the path */

static void judge(long fd, const char *way) {
    if (fd < 0) return;
    char text[64] = "";
    long got = HOST(SYS_read, fd, text, sizeof text - 1);
    escaped("%s opened the file, and read %ld bytes: %s", way, got, text);
}

static long int80(long number, long b, long c, long d) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(b), "c"(c), "d"(d) : "memory", "r8", "r9", "r10", "r11");
    return result;
}

/* Through a far return to the 32-bit code segment and back. */
static void far_jump(void) {
    unsigned char code[] = { 0xb8, 5, 0, 0, 0,          /* mov $5 (open), %eax */
                             0xbb, 0, 0, 0, 0,          /* mov $path, %ebx */
                             0x31, 0xc9, 0x31, 0xd2,    /* flags, mode: 0 */
                             0xcd, 0x80,                /* int $0x80 */
                             0xea, 0, 0, 0, 0, 0x33, 0, /* ljmp back to 64 bits */
                             0x90, 0x0f, 0x0b };
    unsigned name = (unsigned)(long)low, back = name + 2048 + 23;
    memcpy(code + 6, &name, 4);
    memcpy(code + 17, &back, 4);
    memcpy(low + 2048, code, sizeof code);
    trying();
    __asm__ volatile("pushq $0x23; push %0; lretq" : : "r"((long)low + 2048) : "memory");
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    const char *way = argv[1];
    take_over();
    low = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (low == MAP_FAILED) return 2;
    strcpy(low, argv[2]);
    if (is(way, "int80")) {
        judge(int80(5, (long)low, 0, 0), way);   /* open */
        judge(int80(295, -100, (long)low, 0), way); /* openat */
        judge(int80(437, -100, (long)low, 0), way); /* openat2 */
        for (long number = 6; number < 470; number++) {
            /* The calls that end or replace the process, or wait, have their own tests natively. */
            if (number == 11 || number == 7 || number == 29 || number == 72 || number == 114 || number == 119 || number == 120 ||
                number == 173 || number == 190 || number == 2 || number == 252 || number == 90 || number == 91 || number == 125 ||
                number == 163 || number == 177 || number == 179 || number == 358)
                continue;
            int80(number, -1, -1, -1);
        }
        long result = int80(11, (long)low, 0, 0);
        if (result >= 0) escaped("execve gave %ld", result);
    } else if (is(way, "sysenter")) {
        trying();
        __asm__ volatile("mov %%rsp, %%rbp; sysenter" : : "a"(5), "b"(low), "c"(0), "d"(0) : "memory");
    } else if (is(way, "far_jump")) {
        far_jump();
    } else if (is(way, "x32")) {
        for (long number = 0; number < 600; number++) {
            long result;
            __asm__ volatile("syscall" : "=a"(result) : "a"(number | 0x40000000), "D"(-100), "S"(low), "d"(0) : "rcx", "r11", "memory");
            if (result != -ENOSYS) escaped("x32 call %ld gave %ld", number, result);
        }
    } else if (is(way, "vsyscall")) {
        long now = ((long (*)(long *))0xffffffffff600400)(NULL), mine = time(NULL);
        if (now < mine - 5 || now > mine + 5) escaped("time is %ld", now);
        /* The page can only be executed, and only at its three entries. */
        trying();
        ((void (*)(void))0xffffffffff600100)();
        escaped("the middle of the page runs");
    }
    held();
    return 0;
}
