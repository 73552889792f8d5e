/* keys WHAT [NUMBER...]: against a kernel whose memory is closed to the program by protection keys (--kernel-guard=on). The program knows
 * where everything lies and jumps where it likes; whatever it tries, afterwards it cannot read the kernel's memory. Addresses of
 * the image's instructions come as arguments: offsets into the image. */
#include "takeover.h"
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>


static volatile unsigned long heap;
static sigjmp_buf back;
static volatile int last_signal;
static void faulted(int signal, siginfo_t *info, void *context) {
    (void)info, (void)context;
    last_signal = signal;
    siglongjmp(back, 1);
}

/* No call in between: each would close the keys on its way back. The signals do not block themselves, so no mask is to be restored. */
static int can_read(unsigned long at) {
    if (sigsetjmp(back, 0)) return 0;
    return (*(volatile unsigned char *)at, 1);
}
static int can_write(unsigned long at) {
    if (sigsetjmp(back, 0)) return 0;
    *(volatile unsigned char *)at = 0x90;
    return 1;
}
static void look(const char *what) {
    if (can_read(heap)) escaped("the heap can be read after %s", what);
    if (can_read(block)) escaped("the thread block can be read after %s", what);
    if (can_write(block + 64)) escaped("the thread block can be written to after %s", what);
}

/* Memory: every region, by loads, stores and the kernel's own copies, and what changes mappings. */
static void memory(void) {
    unsigned long regions[] = {base, block, block - 4096, block - 8192, heap, heap + (1 << 20), base + FRAMES, base + (1 << 21)};
    for (unsigned i = 0; i < sizeof regions / sizeof *regions; i++) {
        unsigned long at = regions[i];
        if (can_read(at)) escaped("%#lx can be read", at - base);
        if (can_write(at)) escaped("%#lx can be written to", at - base);
    }
    int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY), own = open("/proc/self/mem", O_RDWR);
    int pipes[2], target = open("/tmp/keys", O_RDWR | O_CREAT, 0600);
    if (pipe(pipes)) exit(2);
    for (unsigned i = 0; i < sizeof regions / sizeof *regions; i++) {
        void *at = (void *)regions[i];
        unsigned char byte = 0;
        struct iovec here = {&byte, 1}, there = {at, 1};
        long taken = 0;
        taken |= read(zero, at, 16) > 0;
        taken |= (write(pipes[1], at, 16) > 0) << 1;
        taken |= (write(target, at, 16) > 0) << 2;
        taken |= (pread(own, &byte, 1, (off_t)at) > 0) << 3;
        taken |= (pwrite(own, &byte, 1, (off_t)at) > 0) << 4;
        taken |= (process_vm_readv(getpid(), &here, 1, &there, 1, 0) > 0) << 5;
        taken |= (process_vm_writev(getpid(), &here, 1, &there, 1, 0) > 0) << 6;
        taken |= (syscall(SYS_getrandom, at, 16, 0) > 0) << 7;
        taken |= (syscall(SYS_futex, at, 1, 1, 0, 0, 0) >= 0) << 8;
        taken |= (mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at) << 9;
        taken |= (mprotect(at, PAGE, PROT_READ | PROT_WRITE) == 0) << 10;
        taken |= (madvise(at, PAGE, MADV_DONTNEED) == 0) << 11;
        taken |= (syscall(SYS_mremap, at, PAGE, PAGE, MREMAP_MAYMOVE) >= 0) << 12;
        taken |= (syscall(SYS_pkey_mprotect, at, PAGE, PROT_READ, 0) == 0) << 13;
        taken |= (mlock(at, PAGE) == 0) << 14;
        taken |= (stat((char *)at, &(struct stat){0}) == 0 || errno != EFAULT) << 15;
        taken |= (syscall(SYS_clock_gettime, 0, at) == 0 && !can_write((unsigned long)at) && errno != EFAULT) << 16;
        if (taken) escaped("%#lx is reached by the calls %#lx", regions[i] - base, taken);
        munmap(at, PAGE); /* says that nothing is there; nothing may be gone */
        (void)null;
    }
    look("calls on the kernel's addresses");
}

/* Instructions that open keys, or change GS, in the program's pages. */
static const unsigned char WRPKRU[] = {0x31, 0xc0, 0x31, 0xc9, 0x31, 0xd2, 0x0f, 0x01, 0xef, 0xc3};
/* mov $0x200,%eax; xor %edx,%edx; xrstor (%rdi); ret */
static const unsigned char XRSTOR[] = {0xb8, 0, 2, 0, 0, 0x31, 0xd2, 0x0f, 0xae, 0x2f, 0xc3};
/* wrgsbase %rdi; ret */
static const unsigned char WRGSBASE[] = {0xf3, 0x48, 0x0f, 0xae, 0xdf, 0xc3};
static unsigned char area[4096] __attribute__((aligned(64)));

static void run(void *code, const char *what) {
    if (!sigsetjmp(back, 0)) ((void (*)(void *))code)(area);
    look(what);
}
static unsigned char *fresh(int prot) {
    return mmap(NULL, 2 * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
struct opener { const char *name; const unsigned char *code; unsigned long length; };
static const struct opener OPENERS[] = {{"WRPKRU", WRPKRU, sizeof WRPKRU}, {"XRSTOR", XRSTOR, sizeof XRSTOR}};

static void code_of(const struct opener *opener) {
    const unsigned char *code = opener->code;
    unsigned long length = opener->length;
    unsigned char *at = fresh(PROT_READ | PROT_WRITE | PROT_EXEC);
    if (at != MAP_FAILED && !sigsetjmp(back, 0)) { memcpy(at, code, length); run(at, "code in writable memory"); }
    at = fresh(PROT_READ | PROT_WRITE);
    memcpy(at, code, length);
    mprotect(at, PAGE, PROT_READ | PROT_EXEC);
    run(at, "mprotect");
    at = fresh(PROT_READ | PROT_WRITE);
    memcpy(at, code, length);
    mprotect(at, PAGE, PROT_EXEC);
    run(at, "mprotect to executable alone");
    /* One that runs from one page to the next, executable one after the other, in both orders, and put side by side. */
    for (volatile int split = 1; split < (int)length; split++) {
        for (volatile int order = 0; order < 2; order++) {
            at = fresh(PROT_READ | PROT_WRITE);
            memcpy(at + PAGE - split, code, length);
            mprotect(at + (order ? PAGE : 0), PAGE, PROT_READ | PROT_EXEC);
            if (!sigsetjmp(back, 0)) ((volatile unsigned char *)at)[order ? PAGE : 0]; 
            mprotect(at + (order ? 0 : PAGE), PAGE, PROT_READ | PROT_EXEC);
            run(at + PAGE - split, "two pages");
            run(at + PAGE - split, "two pages, again");
            munmap(at, 2 * PAGE);
        }
        at = fresh(PROT_READ | PROT_WRITE);
        unsigned char *other = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(at, 0x90, 2 * PAGE);
        memcpy(at + PAGE - split, code, split);
        memset(other, 0x90, PAGE);
        memcpy(other, code + split, length - split);
        mprotect(at, PAGE, PROT_READ | PROT_EXEC);
        mprotect(other, PAGE, PROT_READ | PROT_EXEC);
        if (!sigsetjmp(back, 0)) ((void (*)(void))(other + PAGE - 1))(); /* both have been run */
        if (!sigsetjmp(back, 0)) ((void (*)(void))(at + 1))();
        if (mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + PAGE) == at + PAGE) run(at + PAGE - split, "mremap");
        munmap(at, 2 * PAGE);
        munmap(other, 4 * PAGE);
    }
    /* Files: private, shared, and changed once they are mapped. */
    char name[] = "/tmp/code-XXXXXX";
    int file = mkstemp(name);
    unsigned char page[PAGE];
    memset(page, 0x90, PAGE);
    memcpy(page, code, length);
    if (write(file, page, PAGE) != PAGE) exit(2);
    at = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
    if (at != MAP_FAILED) {
        run(at, "a mapped file");
        madvise(at, PAGE, MADV_DONTNEED);
        run(at, "a mapped file, read anew");
    }
    at = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    if (at != MAP_FAILED) run(at, "a shared file");
    memset(page, 0xc3, length);
    if (pwrite(file, page, PAGE, 0) != PAGE) exit(2);
    at = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
    unsigned char *alias = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (at != MAP_FAILED && alias != MAP_FAILED) {
        run(at, "a harmless file");
        memcpy(alias, code, length);
        run(at, "a file that was changed through an alias");
        if (pwrite(file, code, length, 0) < 0) exit(2);
        run(at, "a file that was changed by write");
        madvise(at, PAGE, MADV_DONTNEED);
        run(at, "a changed file, read anew");
        if (ftruncate(file, 0) || ftruncate(file, PAGE) || pwrite(file, code, length, 0) < 0) exit(2);
        run(at, "a file that was cut and made again");
    }
    unlink(name);
    int shared = syscall(SYS_memfd_create, "code", 0);
    if (ftruncate(shared, PAGE)) exit(2);
    alias = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
    at = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, shared, 0);
    memcpy(alias, code, length);
    if (at != MAP_FAILED) run(at, "two mappings of the same memory");
    at = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, shared, 0);
    if (at != MAP_FAILED) run(at, "a private mapping of shared memory");
    at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at != MAP_FAILED) { memcpy(at, code, length); run(at, "shared anonymous memory"); }
    /* Writes that protections do not stop. */
    at = fresh(PROT_READ | PROT_WRITE);
    memset(at, 0xc3, PAGE);
    mprotect(at, PAGE, PROT_READ | PROT_EXEC);
    run(at, "a harmless page");
    int own = open("/proc/self/mem", O_RDWR);
    if (pwrite(own, code, length, (off_t)(unsigned long)at) < 0) {}
    run(at, "/proc/self/mem");
    struct iovec here = {(void *)code, length}, there = {at, length};
    process_vm_writev(getpid(), &here, 1, &there, 1, 0);
    run(at, "process_vm_writev");
    /* By a debugger of one's own, which is a child. */
    if (fork() == 0) {
        if (ptrace(PTRACE_ATTACH, getppid(), 0, 0) == 0) {
            waitpid(getppid(), NULL, 0);
            for (unsigned long done = 0; done < length; done += 8) {
                unsigned long word = 0;
                memcpy(&word, code + done, length - done < 8 ? length - done : 8);
                ptrace(PTRACE_POKETEXT, getppid(), at + done, word);
            }
            ptrace(PTRACE_DETACH, getppid(), 0, 0);
        }
        _exit(0);
    }
    while (wait(NULL) < 0 && errno == EINTR) {}
    run(at, "PTRACE_POKETEXT");
}

static unsigned char *turning;
static volatile int stop;
static void *writes(void *opener) {
    const struct opener *what = opener;
    while (!stop) {
        memcpy(turning, what->code, what->length);
        memset(turning, 0xc3, what->length);
    }
    return NULL;
}
/* Another thread writes all the time; this one makes the page executable and runs it. */
static void race(void) {
    for (unsigned i = 0; i < 2; i++) {
        turning = fresh(PROT_READ | PROT_WRITE | PROT_EXEC);
        if (turning == MAP_FAILED) turning = fresh(PROT_READ | PROT_WRITE);
        memset(turning, 0xc3, PAGE);
        pthread_t thread;
        stop = 0;
        pthread_create(&thread, NULL, writes, (void *)&OPENERS[i]);
        for (int round = 0; round < 300; round++) {
            run(turning, "a race");
        }
        stop = 1;
        pthread_join(thread, NULL);
    }
}

/* The kernel rewrites call sites of code while another thread has it copy into that very page. */
static unsigned char *rewritten;
static int openers_file;
static void *copies(void *unused) {
    (void)unused;
    while (!stop) {
        if (pread(openers_file, rewritten + 2048, sizeof WRPKRU, 0) > 0) break;
    }
    return NULL;
}
static void rewriting(void) {
    /* mov $39,%eax; syscall; ret */
    static const unsigned char CALL[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};
    char name[] = "/tmp/rewritten-XXXXXX", other[] = "/tmp/openers-XXXXXX";
    int file = mkstemp(name);
    openers_file = mkstemp(other);
    unsigned char page[PAGE];
    memset(page, 0xc3, PAGE);
    for (unsigned at = 0; at + 16 <= 2048; at += 16) memcpy(page + at, CALL, sizeof CALL);
    if (write(file, page, PAGE) != PAGE || write(openers_file, WRPKRU, sizeof WRPKRU) < 0) exit(2);
    for (volatile int round = 0; round < 3; round++) {
        rewritten = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
        pthread_t thread;
        stop = 0;
        pthread_create(&thread, NULL, copies, NULL);
        for (volatile unsigned at = 0; at + 16 <= 2048; at += 16) {
            for (int i = 0; i < 12; i++) ((int (*)(void))(rewritten + at))();
            run(rewritten + 2048, "a copy to code that is rewritten");
        }
        stop = 1;
        pthread_join(thread, NULL);
        run(rewritten + 2048, "a copy to code that was rewritten");
        munmap(rewritten, PAGE);
        /* What was learned of a file is not learned again. */
        page[2048 + 64]++;
        if (pwrite(file, page, PAGE, 0) != PAGE) exit(2);
    }
    unlink(name);
    unlink(other);
}

static void code(void) {
    memset(area, 0, sizeof area);
    for (unsigned i = 0; i < 2; i++) code_of(&OPENERS[i]);
    /* GS that leads elsewhere would be the next call's block. */
    unsigned char *at = fresh(PROT_READ | PROT_WRITE);
    memcpy(at, WRGSBASE, sizeof WRGSBASE);
    mprotect(at, PAGE, PROT_READ | PROT_EXEC);
    unsigned long before, after;
    __asm__ volatile("rdgsbase %0" : "=r"(before));
    if (!sigsetjmp(back, 0)) ((void (*)(void *))at)(area);
    __asm__ volatile("rdgsbase %0" : "=r"(after));
    if (before != after) escaped("GS was changed");
    /* What libraries have: libc's pkey_set(3) has the instruction. */
    int (*set)(int, unsigned) = dlsym(RTLD_DEFAULT, "pkey_set");
    for (volatile int key = 0; set && key < 16; key++) {
        if (!sigsetjmp(back, 0)) set(key, 0);
    }
    look("pkey_set");
}

/* The frame of the program's own signal, which has the extended state with PKRU, is the program's to change. */
static int present;
static void opens(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    unsigned char *state = (unsigned char *)((ucontext_t *)context)->uc_mcontext.fpregs;
    /* `struct _fpx_sw_bytes`: how long the state is. */
    unsigned magic, length;
    memcpy(&magic, state + 464, 4);
    memcpy(&length, state + 468, 4);
    if (magic != FP_XSTATE_MAGIC1) return;
    for (unsigned at = 576; at + 4 < length; at += 4) *(volatile unsigned *)(state + at) = 0;
    if (present) *(volatile unsigned long *)(state + 512) |= 1 << 9;
}
static void frames(void) {
    struct sigaction action = {.sa_sigaction = opens, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    if (!sigsetjmp(back, 0)) raise(SIGUSR1);
    look("a changed frame");
}

/* Jumps to an instruction of the image, with registers as they would open the keys: must not come back with them open. Every word of the
 * stack leads to where that is looked at. */
__attribute__((used)) static void has_arrived(void) {
    look("a jump");
    held();
    _exit(0);
}
void arrived(void);
__asm__("arrived: and $-16, %rsp; call has_arrived; ud2");
static void jump(unsigned long to, unsigned long eax, unsigned long stack) {
    alarm(10);
    static unsigned long words[8192] __attribute__((aligned(4096)));
    for (unsigned i = 0; i < 8192; i++) words[i] = (unsigned long)arrived;
    memset(area, 0, sizeof area);
    if (sigsetjmp(back, 0)) has_arrived();
    unsigned long sp = stack ? stack : (unsigned long)(words + 4096) + 8;
    __asm__ volatile("mov %[sp], %%rsp; xor %%ecx, %%ecx; xor %%edx, %%edx; mov %[area], %%rdi; mov %[area], %%rsi; mov %[area], %%rbx; jmp *%[to]"
                     :
                     : [to] "r"(to), "a"(eax), [sp] "r"(sp), [area] "r"(area)
                     : "memory", "rcx", "rdx", "rdi", "rsi", "rbx");
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    heap = look_around(faulted) + HEAP;
    unsigned long numbers[3] = {0};
    for (int i = 2; i < argc && i < 5; i++) numbers[i - 2] = strtoul(argv[i], NULL, 0);
    alarm(120);
    trying();
    look("the start");
    if (is(argv[1], "memory")) memory();
    else if (is(argv[1], "code")) code();
    else if (is(argv[1], "race")) race();
    else if (is(argv[1], "rewriting")) rewriting();
    else if (is(argv[1], "frames")) present = numbers[0] != 0, frames();
    else if (is(argv[1], "jump")) jump(base + numbers[0], numbers[1], numbers[2] ? block - numbers[2] : 0);
    else return 2;
    look(argv[1]);
    held();
    return 0;
}
