/* What a system call leaves alone, at a call site that traps at first and is rewritten later: every register and flag, the red
 * zone, vector and x87 state. Random instruction sequences around `syscall`, from a fixed seed. */
#include "report.h"
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct state {
    uint64_t gpr[16]; /* rax rcx rdx rbx rsp rbp rsi rdi r8-r15 */
    uint64_t flags;
    uint32_t mxcsr, x87_control;
    double x87;
    uint8_t red_zone[128];
    uint8_t ymm[16][32];
} __attribute__((aligned(32)));

struct state in, out;
uint64_t saved_rsp;
void *target;
extern char enter_back[];
void enter_asm(void);

/* Loads `in`, jumps to `target`, which jumps to `enter_back`; there `out` is stored. The stack pointer is far from `out`: the red
 * zone below it is part of the state. */
#define TEXT(name) TEXT_(name)
#define TEXT_(name) #name
_Static_assert(offsetof(struct state, flags) == 128 && offsetof(struct state, mxcsr) == 136, "as below");
_Static_assert(offsetof(struct state, x87_control) == 140 && offsetof(struct state, x87) == 144, "as below");
_Static_assert(offsetof(struct state, red_zone) == 152, "as below");
__asm__(".text\nenter_asm:\n"
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "sub $520,%rsp\n"
        "mov %rsp,saved_rsp(%rip)\n"
        "fninit\n fldcw 140+in(%rip)\n fldl 144+in(%rip)\n ldmxcsr 136+in(%rip)\n"
        "sub $256,%rsp\n pushq 128+in(%rip)\n popfq\n lea 256(%rsp),%rsp\n"
        "mov in+8(%rip),%rcx\n mov in+16(%rip),%rdx\n mov in+24(%rip),%rbx\n"
        "mov in+40(%rip),%rbp\n mov in+64(%rip),%r8\n mov in+72(%rip),%r9\n mov in+80(%rip),%r10\n mov in+88(%rip),%r11\n"
        "mov in+96(%rip),%r12\n mov in+104(%rip),%r13\n mov in+112(%rip),%r14\n mov in+120(%rip),%r15\n"
        /* No flags change from here on. */
        ".set offset, 0\n .rept 16\n mov 152+offset+in(%rip),%rax\n mov %rax,-128+offset(%rsp)\n .set offset, offset+8\n .endr\n"
        "mov in+0(%rip),%rax\n mov in+48(%rip),%rsi\n mov in+56(%rip),%rdi\n"
        "jmp *target(%rip)\n"
        ".globl enter_back\nenter_back:\n"
        "mov %rax,out+0(%rip)\n mov %rcx,out+8(%rip)\n mov %rdx,out+16(%rip)\n mov %rbx,out+24(%rip)\n"
        "mov %rbp,out+40(%rip)\n mov %rsi,out+48(%rip)\n mov %rdi,out+56(%rip)\n"
        "mov %r8,out+64(%rip)\n mov %r9,out+72(%rip)\n mov %r10,out+80(%rip)\n mov %r11,out+88(%rip)\n"
        "mov %r12,out+96(%rip)\n mov %r13,out+104(%rip)\n mov %r14,out+112(%rip)\n mov %r15,out+120(%rip)\n"
        "lea -256(%rsp),%rsp\n pushfq\n popq 128+out(%rip)\n pushq $0x202\n popfq\n lea 256(%rsp),%rsp\n"
        ".set offset, 0\n .rept 16\n mov -128+offset(%rsp),%rax\n mov %rax,152+offset+out(%rip)\n .set offset, offset+8\n .endr\n"
        /* Where the stack pointer is, seen from where it was. */
        "mov %rsp,%rax\n sub saved_rsp(%rip),%rax\n mov %rax,out+32(%rip)\n mov saved_rsp(%rip),%rsp\n"
        "stmxcsr 136+out(%rip)\n fnstcw 140+out(%rip)\n fstpl 144+out(%rip)\n fninit\n"
        "add $520,%rsp\n"
        "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");

#define EACH_YMM(move) \
    move(0) move(1) move(2) move(3) move(4) move(5) move(6) move(7) move(8) move(9) move(10) move(11) move(12) move(13) move(14) move(15)
#define LOAD(n) "vmovdqu " TEXT(n) "*32(%0),%%ymm" TEXT(n) "\n"
#define STORE(n) "vmovdqu %%ymm" TEXT(n) "," TEXT(n) "*32(%0)\n"
static int avx;

static void __attribute__((noinline)) enter(void) {
    if (avx)
        __asm__ volatile(EACH_YMM(LOAD)::"r"(in.ymm) : "memory");
    enter_asm();
    if (avx)
        __asm__ volatile(EACH_YMM(STORE) "ldmxcsr %1\n" ::"r"(out.ymm), "m"((uint32_t){0x1f80}) : "memory");
}

static uint64_t seed = 0x9e3779b97f4a7c15;
static uint64_t next(void) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed;
}

struct bytes {
    const char *text;
    int length;
};
#define BYTES(text) {text, sizeof text - 1}
#define READS_CODE "\x48\x8b" /* mov from memory, 64 bits */
/* What may stand behind a call. */
static const struct bytes AFTER[] = {
    BYTES("\x48\x3d\x00\xf0\xff\xff"),                 /* cmp $-4096,%rax */
    BYTES("\x48\x3d\x01\xf0\xff\xff"),                 /* cmp $-4095,%rax */
    BYTES("\x48\x89\xc3"),                             /* mov %rax,%rbx */
    BYTES("\x49\x89\xc4"),                             /* mov %rax,%r12 */
    BYTES("\x89\x44\x24\x80"),                         /* mov %eax,-128(%rsp) */
    BYTES("\x48\x85\xc0"),                             /* test %rax,%rax */
    BYTES("\x85\xc0"),                                 /* test %eax,%eax: too short to be moved alone */
    BYTES("\x48\x83\xf8\xff"),                         /* cmp $-1,%rax */
    BYTES("\x48\x63\xd0"),                             /* movslq %eax,%rdx */
    BYTES("\x48\x8d\x50\x05"),                         /* lea 5(%rax),%rdx */
    BYTES("\x41\xb8\x07\x00\x00\x00"),                 /* mov $7,%r8d */
    BYTES("\xb9\x07\x00\x00\x00"),                     /* mov $7,%ecx */
    BYTES("\x48\x01\xc2"),                             /* add %rax,%rdx */
    BYTES("\x48\x81\xc2\x00\x01\x00\x00"),             /* add $256,%rdx */
    BYTES("\xc7\x44\x24\xf0\x05\x00\x00\x00"),         /* movl $5,-16(%rsp) */
    BYTES("\x0f\x1f\x40\x00"),                         /* nopl 0(%rax) */
    BYTES("\x49\x8b\x44\x24\xe8"),                     /* mov -24(%r12),%rax: r12 is made an address */
    BYTES("\x80\x7c\x24\x98\x00"),                     /* cmpb $0,-104(%rsp) */
    BYTES("\x0f\xb6\xc0"),                             /* movzbl %al,%eax */
    BYTES("\xc6\x44\x24\xa0\x01"),                     /* movb $1,-96(%rsp) */
    BYTES("\x90"),                                     /* nop */
    BYTES(READS_CODE "\x05\x00\x00\x00\x00"),            /* mov 0(%rip),%rax */
    BYTES(READS_CODE "\x15\x01\x00\x00\x00"),            /* mov 1(%rip),%rdx */
    BYTES("\xf3\x0f\x1e\xfa"),                         /* endbr64 */
};
#define COUNT(array) ((int)(sizeof array / sizeof *array))

enum { SLOT = 64, SLOTS = 256 };

int main(void) {
    avx = __builtin_cpu_supports("avx");
    static uint8_t code[SLOT * SLOTS], reads_code[SLOTS];
    static const int numbers[] = {SYS_getuid, SYS_getgid, SYS_sched_yield, SYS_umask, SYS_close, SYS_lseek, 400, SYS_alarm};
    memset(code, 0xcc, sizeof code);
    for (int i = 0; i < SLOTS; i++) {
        uint8_t *p = code + SLOT * i;
        int number = numbers[next() % COUNT(numbers)];
        if (next() & 1) {
            *p++ = 0xb8; /* mov $number,%eax */
            memcpy(p, &number, 4), p += 4;
        } else {
            *p++ = 0x41, *p++ = 0xba, *p++ = 1, *p++ = 0, *p++ = 0, *p++ = 0; /* mov $1,%r10d */
            *p++ = 0xb8;
            memcpy(p, &number, 4), p += 4;
            *p++ = 0x41, *p++ = 0xb9, *p++ = 9, *p++ = 0, *p++ = 0, *p++ = 0; /* mov $9,%r9d stands between */
        }
        *p++ = 0x0f, *p++ = 0x05;
        for (int n = 1 + next() % 2; n--;) {
            const struct bytes *after = &AFTER[next() % COUNT(AFTER)];
            reads_code[i] |= after->text[0] == READS_CODE[0] && after->text[1] == READS_CODE[1] && (after->text[2] & 0xc7) == 5;
            memcpy(p, after->text, after->length), p += after->length;
        }
        *p++ = 0xff, *p++ = 0x25; /* jmp *(%rip) with the address at the end of the slot */
        int distance = code + SLOT * i + SLOT - 8 - (p + 4);
        memcpy(p, &distance, 4);
    }
    int fd = open("code", O_CREAT | O_RDWR | O_TRUNC, 0700);
    void *back = enter_back;
    for (int i = 0; i < SLOTS; i++)
        memcpy(code + SLOT * i + SLOT - 8, &back, 8);
    if (write(fd, code, sizeof code) != sizeof code)
        return 1;
    uint8_t *text = mmap(NULL, sizeof code, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    int differences = 0;
    for (int i = 0; i < SLOTS; i++) {
        struct state first;
        for (int r = 0; r < 16; r++)
            in.gpr[r] = next();
        in.gpr[0] = 0;
        in.gpr[12] = (uint64_t)&in + 512; /* r12: an address */
        in.gpr[7] = 0777777 & next();     /* rdi: no descriptor that is open */
        in.gpr[7] |= 4096;
        in.flags = 0x202 | (next() & 0x8d5) | (next() & 1 ? 0x400 : 0) | (next() & 1 && !reads_code[i] ? 0x40000 : 0); /* CF PF AF ZF SF OF, DF, AC */
        in.mxcsr = 0x1f80 | (next() & 0x6000), in.x87_control = 0x37f | (next() & 0xc00);
        in.x87 = (double)next();
        for (unsigned b = 0; b < sizeof in.red_zone; b++)
            in.red_zone[b] = next();
        for (unsigned b = 0; b < sizeof in.ymm; b++)
            ((uint8_t *)in.ymm)[b] = next();
        target = text + SLOT * i;
        for (int run = 0; run < 24; run++) {
            umask(022);
            alarm(0);
            memset(&out, 0, sizeof out);
            enter();
            if (run == 0)
                first = out;
            else if (memcmp(&first, &out, sizeof out)) {
                if (differences++ < 10) {
                    printf("sequence %d, run %d differs:", i, run);
                    for (int r = 0; r < 16; r++)
                        if (first.gpr[r] != out.gpr[r])
                            printf(" r%d %#lx %#lx", r, first.gpr[r], out.gpr[r]);
                    if (first.flags != out.flags)
                        printf(" flags %#lx %#lx", first.flags, out.flags);
                    printf(" %s\n", memcmp(first.ymm, out.ymm, sizeof out.ymm) ? "vectors" : "");
                }
                break;
            }
        }
        /* What Linux keeps, against what went in. */
        static const int kept[] = {6, 7, 8, 13, 14, 15, 5};
        for (int k = 0; k < COUNT(kept); k++)
            if (kept[k] != 8 && out.gpr[kept[k]] != in.gpr[kept[k]])
                printf("sequence %d: register %d is not kept\n", i, kept[k]);
        if (out.mxcsr != in.mxcsr || out.x87_control != in.x87_control || out.x87 != in.x87)
            printf("sequence %d: floating point state is not kept\n", i);
        if (avx && memcmp(out.ymm, in.ymm, sizeof in.ymm))
            printf("sequence %d: vectors are not kept\n", i);
        if ((out.gpr[11] | 0x10000) != (in.flags | 0x10000))
            printf("sequence %d: r11 %#lx flags %#lx\n", i, out.gpr[11], in.flags);
        if (out.gpr[1] != 7 && out.gpr[1] - (uint64_t)(text + SLOT * i) > SLOT)
            printf("sequence %d: rcx is not the return address\n", i);
        printf("%d: %#lx %#lx %#lx\n", i, out.gpr[0], out.gpr[8] == in.gpr[8] ? 0 : out.gpr[8], out.flags & 0x40cd5);
    }
    printf("differences: %d\n", differences);
    return 0;
}
