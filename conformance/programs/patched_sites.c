/* Call sites that are rewritten once they have trapped a few times, where that is hard: threads racing on a site, code over the
 * end of a page, mapped twice, unmapped and mapped again, written again, shared, forked, executed, jumped into. */
#include "report.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

enum { OFTEN = 40 };
typedef long function(long, long, long);

/* mov $nr,%eax; syscall; ret: the number's instruction can become a jump. */
static int with_number(uint8_t *p, int number) {
    const uint8_t code[] = {0xb8, number, number >> 8, 0, 0, 0x0f, 0x05, 0xc3};
    memcpy(p, code, sizeof code);
    return sizeof code;
}
/* mov $nr,%r11d; mov %r11,%rax; syscall; cmp $-4096,%rax; ret: the call and what follows can. */
static int with_next(uint8_t *p, int number) {
    const uint8_t code[] = {0x41, 0xbb, number, number >> 8, 0, 0, 0x4c, 0x89, 0xd8, 0x0f, 0x05, 0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0xc3};
    memcpy(p, code, sizeof code);
    return sizeof code;
}
enum { NEXT_SYSCALL = 9, NEXT_MOVED = 11 };

static int file_of(const char *name, const void *bytes, size_t length) {
    int fd = open(name, O_CREAT | O_RDWR | O_TRUNC, 0700);
    if (write(fd, bytes, length) != (long)length)
        exit(9);
    return fd;
}

static uint8_t page[8192];

static void *map(int fd, int flags) { return mmap(NULL, sizeof page, PROT_READ | PROT_EXEC, flags, fd, 0); }

static long sum(function *f, int times) {
    long total = 0;
    for (int i = 0; i < times; i++)
        total += f(-1, 0, 0);
    return total;
}

static void *call_often(void *f) { return (void *)sum(f, 3000); }

static void threads_race(void) {
    for (int round = 0; round < 12; round++) {
        memset(page, 0xcc, sizeof page);
        round & 1 ? with_next(page, SYS_close) : with_number(page, SYS_close);
        int fd = file_of("race", page, sizeof page);
        uint8_t *text = map(fd, MAP_PRIVATE);
        pthread_t threads[4];
        long total = 0;
        for (int i = 0; i < 4; i++)
            pthread_create(&threads[i], NULL, call_often, text);
        for (int i = 0; i < 4; i++) {
            void *part;
            pthread_join(threads[i], &part);
            total += (long)part;
        }
        printf("four threads on one site: %ld\n", total);
        munmap(text, sizeof page);
        close(fd);
        unlink("race");
    }
}

static void over_a_page_end(void) {
    long total = 0;
    for (int before = 1; before < 18; before++) {
        memset(page, 0xcc, sizeof page);
        before & 1 ? with_number(page + 4096 - before, SYS_close) : with_next(page + 4096 - before, SYS_close);
        char name[32];
        snprintf(name, sizeof name, "end%d", before);
        int fd = file_of(name, page, sizeof page);
        uint8_t *text = map(fd, MAP_PRIVATE);
        total += sum((function *)(text + 4096 - before), OFTEN);
        munmap(text, sizeof page);
        /* Only the first page is there. */
        before & 1 ? with_number(page + 4096 - 8, SYS_close) : with_next(page + 4096 - 18, SYS_close);
        close(file_of(name, page, sizeof page));
        text = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
        total += sum((function *)(text + 4096 - (before & 1 ? 8 : 18)), OFTEN);
        munmap(text, 4096);
        close(fd);
    }
    printf("sites over the end of a page: %ld\n", total);
}

static void mapped_twice_and_again(void) {
    memset(page, 0xcc, sizeof page);
    with_number(page, SYS_close), with_next(page + 64, SYS_close);
    int fd = file_of("twice", page, sizeof page);
    uint8_t *a = map(fd, MAP_PRIVATE), *b = map(fd, MAP_PRIVATE);
    printf("mapped twice: %ld %ld\n", sum((function *)a, OFTEN) + sum((function *)(a + 64), OFTEN),
           sum((function *)b, OFTEN) + sum((function *)(b + 64), OFTEN));
    /* Other code in the same place. */
    memset(page, 0xcc, sizeof page);
    with_number(page, SYS_dup), with_next(page + 64, SYS_dup);
    page[128] = 0xb8, page[129] = 42, page[133] = 0xc3; /* mov $42,%eax; ret */
    memset(page + 130, 0, 3);
    int other = file_of("other", page, sizeof page);
    YES(mmap(a, sizeof page, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, other, 0) == a);
    printf("mapped over: %ld %ld %ld\n", sum((function *)a, OFTEN), sum((function *)(a + 64), OFTEN), sum((function *)(a + 128), OFTEN));
    munmap(b, sizeof page);
    YES(mmap(b, sizeof page, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, other, 0) == b);
    printf("mapped again: %ld\n", sum((function *)b, OFTEN) + sum((function *)(b + 64), OFTEN));
    /* Moved: the code is where the new addresses say. */
    uint8_t *moved = mremap(b, sizeof page, sizeof page, MREMAP_MAYMOVE | MREMAP_FIXED, a);
    YES(moved == a);
    printf("moved: %ld\n", sum((function *)moved, OFTEN) + sum((function *)(moved + 64), OFTEN));
    /* The program gives its changes back. */
    YES(madvise(a, sizeof page, MADV_DONTNEED) == 0);
    printf("dropped: %ld\n", sum((function *)a, OFTEN) + sum((function *)(a + 64), OFTEN));
    munmap(a, sizeof page);
    close(fd), close(other);
}

static void written_again(void) {
    memset(page, 0xcc, sizeof page);
    with_number(page, SYS_close), with_next(page + 64, SYS_close);
    int fd = file_of("written", page, sizeof page);
    uint8_t *text = map(fd, MAP_PRIVATE);
    long before = sum((function *)text, OFTEN) + sum((function *)(text + 64), OFTEN);
    YES(mprotect(text, sizeof page, PROT_READ | PROT_WRITE) == 0);
    printf("its own bytes when it may write: %d\n", memcmp(text, page, sizeof page));
    with_number(text, SYS_dup), with_next(text + 64, SYS_dup);
    YES(mprotect(text, sizeof page, PROT_READ | PROT_EXEC) == 0);
    printf("written again: %ld %ld\n", before, sum((function *)text, OFTEN) + sum((function *)(text + 64), OFTEN));
    YES(mprotect(text, sizeof page, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    long total = 0;
    for (int i = 0; i < 60; i++) {
        (i & 1 ? with_number : with_next)(text + 128 * (i & 3), i & 4 ? SYS_close : SYS_dup);
        total += sum((function *)(text + 128 * (i & 3)), 10);
    }
    printf("written while it may be executed: %ld\n", total);
    munmap(text, sizeof page);
    uint8_t *anonymous = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    with_number(anonymous, SYS_close);
    printf("memory without a file: %ld\n", sum((function *)anonymous, OFTEN));
    munmap(anonymous, 4096);
    close(fd);
}

static void shared_text(void) {
    memset(page, 0xcc, sizeof page);
    with_number(page, SYS_close), with_next(page + 64, SYS_close);
    int fd = file_of("shared", page, sizeof page);
    uint8_t *text = map(fd, MAP_SHARED);
    printf("shared: %ld", sum((function *)text, OFTEN) + sum((function *)(text + 64), OFTEN));
    static uint8_t back[sizeof page];
    printf(" %ld", (long)pread(fd, back, sizeof back, 0));
    printf(" %d %d\n", memcmp(back, page, sizeof page), memcmp(text, page, sizeof page));
    munmap(text, sizeof page);
    /* A private mapping's rewritten code never reaches the file. */
    text = map(fd, MAP_PRIVATE);
    sum((function *)text, OFTEN);
    printf("private: %ld %d\n", (long)pread(fd, back, sizeof back, 0), memcmp(back, page, sizeof page));
    munmap(text, sizeof page);
    close(fd);
}

static void forked(void) {
    memset(page, 0xcc, sizeof page);
    with_number(page, SYS_close), with_next(page + 64, SYS_close);
    int fd = file_of("forked", page, sizeof page), status;
    uint8_t *text = map(fd, MAP_PRIVATE);
    long before = sum((function *)text, OFTEN) + sum((function *)(text + 64), OFTEN);
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        if (!child) {
            long in_child = sum((function *)text, OFTEN) + sum((function *)(text + 64), OFTEN);
            mprotect(text, sizeof page, PROT_READ | PROT_WRITE);
            _exit(in_child == before && !memcmp(text, page, sizeof page) ? 7 : 8);
        }
        waitpid(child, &status, 0);
        printf("forked: %d\n", WEXITSTATUS(status));
    }
    printf("the parent goes on: %d\n", sum((function *)text, OFTEN) + sum((function *)(text + 64), OFTEN) == before);
    munmap(text, sizeof page);
    close(fd);
}

/* Jumps to an address with a number in RAX. */
static long jump(void *to, long number) {
    long result;
    __asm__ volatile("call *%1" : "=a"(result) : "r"(to), "0"(number), "D"(-1L), "S"(0L), "d"(0L) : "rcx", "r11", "memory");
    return result;
}

/* The same while the processor checks alignment (AC). */
static long jump_aligned(void *to, long number) {
    long result;
    __asm__ volatile("pushfq; orl $0x40000, (%%rsp); popfq; call *%1; pushfq; andl $~0x40000, (%%rsp); popfq"
                     : "=a"(result) : "r"(to), "0"(number), "D"(-1L), "S"(0L), "d"(0L) : "rcx", "r11", "memory", "cc");
    return result;
}

static void jumped_into(void) {
    memset(page, 0xcc, sizeof page);
    with_number(page, SYS_close), with_next(page + 64, SYS_close);
    int fd = file_of("jumped", page, sizeof page);
    uint8_t *text = map(fd, MAP_PRIVATE);
    printf("before: %ld\n", sum((function *)text, OFTEN) + sum((function *)(text + 64), OFTEN));
    long moved = 0, call = 0, other = 0, head = 0, aligned = 0;
    for (int i = 0; i < OFTEN; i++) {
        moved += jump(text + 64 + NEXT_MOVED, 1000 + i);      /* the instruction that was moved */
        call += jump(text + 5, SYS_dup);                      /* the call behind the number's instruction */
        other += jump(text + 64 + NEXT_SYSCALL, SYS_umask) >= 0;
        head += jump(text, 12345);
        aligned += jump_aligned(text + 64 + NEXT_MOVED, 1000 + i);
    }
    printf("jumped into: %ld %ld %ld %ld %ld\n", moved, call, other, head, aligned);
    umask(022);
    munmap(text, sizeof page);
    close(fd);
}

static void closed_library(void) {
    const char *source = "extern long syscall(long, ...); long f(long n) { long r; __asm__ volatile(\"syscall\" : \"=a\"(r) : "
                         "\"0\"(n), \"D\"(-1L) : \"rcx\", \"r11\", \"memory\"); return r; } long g(void) { return f(NUMBER); }";
    char command[1024];
    for (int i = 0; i < 2; i++) {
        snprintf(command, sizeof command, "echo '%s' | gcc -O1 -DNUMBER=%d -shared -fPIC -o lib%d.so -xc - 2>&1", source,
                 i ? SYS_dup : SYS_close, i);
        printf("built: %d\n", system(command));
    }
    long total = 0;
    for (int i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "./lib%d.so", i & 1);
        void *library = dlopen(name, RTLD_NOW);
        function *g = library ? (function *)dlsym(library, "g") : NULL;
        if (!g) {
            printf("no library: %s\n", dlerror());
            return;
        }
        total += sum(g, OFTEN);
        dlclose(library);
    }
    printf("libraries opened and closed: %ld\n", total);
}

static volatile long strange, handled;
static struct {
    uintptr_t start, end;
} executable[64];
static int executables;

static void read_maps(void) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512], access[8];
    executables = 0;
    while (maps && fgets(line, sizeof line, maps) && executables < 64)
        if (sscanf(line, "%lx-%lx %7s", &executable[executables].start, &executable[executables].end, access) == 3 && access[2] == 'x')
            executables++;
    if (maps)
        fclose(maps);
}

static void on_alarm(int signal, siginfo_t *info, void *context) {
    uintptr_t rip = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    int known = 0;
    for (int i = 0; i < executables; i++)
        known |= rip >= executable[i].start && rip < executable[i].end;
    if (!known)
        strange = rip;
    handled++;
}

/* Whatever a signal interrupts, its handler sees an address of the program. */
static void signals_land_anywhere(void) {
    memset(page, 0xcc, sizeof page);
    with_number(page, SYS_close), with_next(page + 64, SYS_close);
    int fd = file_of("signals", page, sizeof page);
    uint8_t *text = map(fd, MAP_PRIVATE);
    sum((function *)text, OFTEN), sum((function *)(text + 64), OFTEN);
    read_maps();
    struct sigaction action = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {{0, 300}, {0, 300}}, never = {0};
    setitimer(ITIMER_REAL, &every, NULL);
    long wrong = 0;
    while (handled < 2000)
        wrong += sum((function *)text, 100) != -900, wrong += sum((function *)(text + 64), 100) != -900;
    setitimer(ITIMER_REAL, &never, NULL);
    printf("signals: wrong results %ld, strange addresses %d\n", wrong, strange != 0);
    munmap(text, sizeof page);
    close(fd);
}

/* A blocking call that is restarted, and one that is not, at a rewritten site. */
static void restarted(void) {
    memset(page, 0xcc, sizeof page);
    with_number(page, SYS_read), with_next(page + 64, SYS_read);
    int fd = file_of("restarted", page, sizeof page), ends[2];
    uint8_t *text = map(fd, MAP_PRIVATE);
    sum((function *)text, OFTEN), sum((function *)(text + 64), OFTEN);
    for (int i = 0; i < 4; i++) {
        struct sigaction action = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO | (i & 2 ? SA_RESTART : 0)};
        sigaction(SIGALRM, &action, NULL);
        if (pipe(ends))
            return;
        pid_t child = fork();
        if (!child) {
            usleep(120000);
            _exit(write(ends[1], "x", 1) != 1);
        }
        struct itimerval once = {{0, 0}, {0, 30000}};
        setitimer(ITIMER_REAL, &once, NULL);
        char byte;
        long result = ((function *)(text + (i & 1 ? 64 : 0)))(ends[0], (long)&byte, 1);
        printf("interrupted read: %ld\n", result);
        waitpid(child, NULL, 0);
        close(ends[0]), close(ends[1]);
    }
    munmap(text, sizeof page);
    close(fd);
}

static sigjmp_buf out;
static void on_fault(int signal, siginfo_t *info, void *context) {
    printf("fault: signal %d at %p, code %d, rip %s\n", signal, info->si_addr, info->si_code,
           ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] ? "somewhere" : "0");
    siglongjmp(out, 1);
}

static void null_call(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    if (!sigsetjmp(out, 1))
        ((void (*volatile)(void))0)();
    /* A moved instruction that faults: the address is where it stood. */
    memset(page, 0xcc, sizeof page);
    const uint8_t code[] = {0x48, 0x89, 0xf8, 0x90, 0x0f, 0x05, 0x4c, 0x89, 0x02, 0xc3}; /* mov %rdi,%rax; nop; syscall; mov %r8,(%rdx); ret */
    memcpy(page, code, sizeof code);
    int fd = file_of("faults", page, sizeof page);
    uint8_t *text = map(fd, MAP_PRIVATE);
    long room;
    for (int i = 0; i < OFTEN; i++)
        ((function *)text)(SYS_sched_yield, 0, (long)&room);
    if (!sigsetjmp(out, 1))
        ((function *)text)(SYS_sched_yield, 0, 16);
    munmap(text, sizeof page);
    close(fd);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        printf("executed again: %d\n", getppid() > 0);
        return 0;
    }
    threads_race();
    over_a_page_end();
    mapped_twice_and_again();
    written_again();
    shared_text();
    forked();
    jumped_into();
    closed_library();
    signals_land_anywhere();
    restarted();
    null_call();
    fflush(stdout);
    execl("/proc/self/exe", argv[0], "again", NULL);
    return 1;
}
