/* futex(2): every operation, its errors, and what wakes whom. */
#include "report.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#define ROBUST_ITEMS 3

static unsigned word, other;
static long futex(unsigned *at, int op, unsigned value, const void *timeout, unsigned *second, unsigned third) {
    return syscall(SYS_futex, at, op, value, timeout, second, third);
}
static const struct timespec soon = {0, 20000000}, wrong = {0, 1000000000}, negative = {-1, 0};

static struct timespec in_a_moment(clockid_t clock) {
    struct timespec at;
    clock_gettime(clock, &at);
    at.tv_nsec += 20000000;
    if (at.tv_nsec >= 1000000000) at.tv_sec++, at.tv_nsec -= 1000000000;
    return at;
}

struct sleeper { unsigned *at; int op; unsigned mask; long result; int error; pthread_t thread; volatile int tid; };
static void *sleep_on(void *argument) {
    struct sleeper *me = argument;
    me->tid = syscall(SYS_gettid);
    me->result = futex(me->at, me->op, *me->at, NULL, NULL, me->mask);
    me->error = me->result == -1 ? errno : 0;
    return NULL;
}
/* Waits until a thread sleeps in its call. */
static void until_asleep(int tid) {
    char path[64], text[256], letter = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    for (int i = 0; i < 2000 && letter != 'S'; i++) {
        FILE *file = fopen(path, "r");
        if (file && fgets(text, sizeof text, file)) letter = strrchr(text, ')')[2];
        if (file) fclose(file);
        usleep(1000);
    }
    usleep(2000);
}
static void start(struct sleeper *s, unsigned *at, int op, unsigned mask) {
    *s = (struct sleeper){.at = at, .op = op, .mask = mask};
    pthread_create(&s->thread, NULL, sleep_on, s);
    while (s->tid == 0) sched_yield();
    until_asleep(s->tid);
}
static void end(const char *what, struct sleeper *s) {
    pthread_join(s->thread, NULL);
    printf("%s: %ld %s\n", what, s->result, s->error ? strerrorname_np(s->error) : "");
}

static void waiting(void) {
    CALL(futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_WAIT, 0, &soon, NULL, 0));
    CALL(futex(&word, FUTEX_WAIT_PRIVATE, 0, &soon, NULL, 0));
    CALL(futex(&word, FUTEX_WAIT, 0, &wrong, NULL, 0));
    CALL(futex(&word, FUTEX_WAIT, 0, &negative, NULL, 0));
    CALL(futex(&word, FUTEX_WAIT, 0, (void *)1, NULL, 0));
    CALL(futex((unsigned *)((char *)&word + 1), FUTEX_WAIT, 0, NULL, NULL, 0));
    CALL(futex((unsigned *)64, FUTEX_WAIT, 0, NULL, NULL, 0));
    CALL(futex((unsigned *)0xffff800000000000, FUTEX_WAIT, 0, NULL, NULL, 0));
    CALL(futex((unsigned *)0xffff800000000000, FUTEX_WAKE, 1, NULL, NULL, 0));
    CALL(futex((unsigned *)64, FUTEX_WAKE, 1, NULL, NULL, 0));
    CALL(futex((unsigned *)64, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
    CALL(futex((unsigned *)((char *)&word + 1), FUTEX_WAKE, 1, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_WAKE, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_WAKE_BITSET, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_FD, 0, NULL, NULL, 0));
    CALL(futex(&word, 99, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0));
    struct timespec at = in_a_moment(CLOCK_MONOTONIC), past = {1, 0};
    CALL(futex(&word, FUTEX_WAIT_BITSET, 0, &at, NULL, ~0u));
    CALL(futex(&word, FUTEX_WAIT_BITSET, 0, &past, NULL, ~0u));
    at = in_a_moment(CLOCK_REALTIME);
    CALL(futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &at, NULL, ~0u));
    char *read_only = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CALL(futex((unsigned *)read_only, FUTEX_WAIT_PRIVATE, 0, &soon, NULL, 0));
    CALL(futex((unsigned *)read_only, FUTEX_WAIT, 0, &soon, NULL, 0));
    char *none = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CALL(futex((unsigned *)none, FUTEX_WAIT, 0, &soon, NULL, 0));
}

static void waking(void) {
    struct sleeper s[4];
    for (int i = 0; i < 4; i++) start(&s[i], &word, FUTEX_WAIT, 0);
    CALL(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0));
    end("first come", &s[0]);
    CALL(futex(&word, FUTEX_WAKE, 2, NULL, NULL, 0));
    end("second", &s[1]), end("third", &s[2]);
    CALL(futex(&word, FUTEX_WAKE_PRIVATE, 5, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_WAKE, 5, NULL, NULL, 0));
    end("fourth", &s[3]);
    start(&s[0], &word, FUTEX_WAIT_BITSET_PRIVATE, 1), start(&s[1], &word, FUTEX_WAIT_BITSET_PRIVATE, 2);
    CALL(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 9, NULL, NULL, 4));
    CALL(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 9, NULL, NULL, 2));
    end("bit two", &s[1]);
    CALL(futex(&word, FUTEX_WAKE_PRIVATE, 9, NULL, NULL, 0));
    end("bit one", &s[0]);
}

static void requeueing(void) {
    struct sleeper s[4];
    for (int i = 0; i < 4; i++) start(&s[i], &word, FUTEX_WAIT_PRIVATE, 0);
    CALL(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2, &other, 5));
    CALL(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2, &other, 0));
    end("woken", &s[0]);
    CALL(futex(&other, FUTEX_WAKE_PRIVATE, 9, NULL, NULL, 0));
    end("moved", &s[1]), end("moved", &s[2]);
    CALL(futex(&word, FUTEX_REQUEUE_PRIVATE, 0, (void *)9, &other, 0));
    CALL(futex(&word, FUTEX_WAKE_PRIVATE, 9, NULL, NULL, 0));
    CALL(futex(&other, FUTEX_WAKE_PRIVATE, 9, NULL, NULL, 0));
    end("moved without a look", &s[3]);
    CALL(futex(&word, FUTEX_CMP_REQUEUE, -1, (void *)1, &other, 0));
    CALL(futex(&word, FUTEX_REQUEUE, 1, (void *)1, (unsigned *)3, 0));
    CALL(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)1, &word, 0));
}

/* FUTEX_WAKE_OP: changes the second word, and wakes its sleepers if the old value compares. */
static void wake_op(void) {
    static const struct { const char *name; int op, argument, compare, with; unsigned before; } cases[] = {
        {"set eq", FUTEX_OP_SET, 7, FUTEX_OP_CMP_EQ, 3, 3}, {"add ne", FUTEX_OP_ADD, 2, FUTEX_OP_CMP_NE, 3, 3},
        {"or lt", FUTEX_OP_OR, 8, FUTEX_OP_CMP_LT, 5, 3}, {"andn le", FUTEX_OP_ANDN, 1, FUTEX_OP_CMP_LE, 3, 3},
        {"xor gt", FUTEX_OP_XOR, 5, FUTEX_OP_CMP_GT, 2, 3},
            {"shifted ge", FUTEX_OP_ADD | FUTEX_OP_OPARG_SHIFT, 4, FUTEX_OP_CMP_GE, 9, 3},
        {"negative lt", FUTEX_OP_SET, 1, FUTEX_OP_CMP_LT, 0, -5},
            {"negative argument", FUTEX_OP_ADD, 0xfff, FUTEX_OP_CMP_GT, 0xffe, 0},
    };
    struct sleeper s[2];
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        other = cases[i].before;
        start(&s[0], &word, FUTEX_WAIT, 0), start(&s[1], &other, FUTEX_WAIT, 0);
        unsigned encoded = FUTEX_OP(cases[i].op, cases[i].argument, cases[i].compare, cases[i].with);
        long woken = futex(&word, FUTEX_WAKE_OP, 9, (void *)9, &other, encoded);
        printf("wake_op %s: woken %ld, the word is %d\n", cases[i].name, woken, other);
        futex(&other, FUTEX_WAKE, 9, NULL, NULL, 0);
        pthread_join(s[0].thread, NULL), pthread_join(s[1].thread, NULL);
    }
    other = 0;
    CALL(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &other, 0x60000000));
    CALL(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &other, 0x06000000));
    CALL(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, (unsigned *)64, 0));
    CALL(futex((unsigned *)64, FUTEX_WAKE_OP, 1, (void *)1, &other, 0));
}

/* Shared futexes meet across processes and across mappings; private ones do not. */
static void between_processes(void) {
    int f = memfd_create("words", 0);
    ftruncate(f, 4096);
    unsigned *a = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0),
        *b = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
    unsigned *anonymous = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct sleeper s;
    start(&s, a, FUTEX_WAIT, 0);
    CALL(futex(b, FUTEX_WAKE, 1, NULL, NULL, 0));
    end("through another mapping", &s);
    start(&s, a, FUTEX_WAIT_PRIVATE, 0);
    CALL(futex(b, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
    CALL(futex(a, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
    end("private", &s);
    pid_t child = fork();
    if (child == 0) {
        futex(anonymous, FUTEX_WAIT, 0, NULL, NULL, 0);
        _exit(*anonymous);
    }
    usleep(20000);
    *anonymous = 42;
    futex(anonymous, FUTEX_WAKE, 1, NULL, NULL, 0);
    int status;
    waitpid(child, &status, 0);
    printf("a child woke and saw %d\n", WEXITSTATUS(status));
}

static void nothing(int number) {}
static void *poke(void *thread) {
    usleep(30000);
    pthread_kill(*(pthread_t *)thread, SIGUSR1);
    return NULL;
}
static void interrupted(int flags) {
    struct sigaction action = {.sa_handler = nothing, .sa_flags = flags};
    sigaction(SIGUSR1, &action, NULL);
    pthread_t me = pthread_self(), thread;
    struct timespec wait = {0, 60000000};
    pthread_create(&thread, NULL, poke, &me);
    printf("a handler %s, ", flags ? "that restarts" : "that does not");
    CALL(futex(&word, FUTEX_WAIT_PRIVATE, 0, &wait, NULL, 0));
    pthread_join(thread, NULL);
    pthread_create(&thread, NULL, poke, &me);
    struct timespec at = in_a_moment(CLOCK_MONOTONIC);
    at.tv_nsec += 40000000;
    if (at.tv_nsec >= 1000000000) at.tv_sec++, at.tv_nsec -= 1000000000;
    CALL(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, &at, NULL, ~0u));
    pthread_join(thread, NULL);
}

static long locked, unlocked;
static int locked_error;
static void *lock_pi(void *argument) {
    locked = futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, argument, NULL, 0);
    locked_error = errno;
    unlocked = locked == 0 ? futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) : 1;
    return NULL;
}
static void join_locker(pthread_t thread) {
    pthread_join(thread, NULL);
    printf("the other thread's lock: %ld %s, unlock: %ld\n", locked, locked ? strerrorname_np(locked_error) : "", unlocked);
}
static void priority_inheritance(void) {
    word = 0;
    CALL(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    YES(word == (unsigned)syscall(SYS_gettid));
    CALL(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    pthread_t thread;
    struct timespec at = in_a_moment(CLOCK_REALTIME);
    pthread_create(&thread, NULL, lock_pi, &at);
    join_locker(thread);
    pthread_create(&thread, NULL, lock_pi, NULL);
    for (int i = 0; i < 5000 && !(word & FUTEX_WAITERS); i++) usleep(1000);
    YES(word & FUTEX_WAITERS);
    CALL(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    join_locker(thread);
    printf("free: %u\n", word);
    CALL(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    word = 999999;
    CALL(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    word = FUTEX_OWNER_DIED;
    CALL(futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    YES(word == ((unsigned)syscall(SYS_gettid) | FUTEX_OWNER_DIED));
    CALL(futex((unsigned *)2, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_CMP_REQUEUE_PI_PRIVATE, 2, (void *)1, &other, 0));
    CALL(futex(&word, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 1, NULL, &word, 0));
    word = 0;
}

/* A thread that dies holding robust locks marks them, and wakes one that waits. */
struct lock { struct robust_list list; unsigned word; };
static struct lock locks[ROBUST_ITEMS];
static struct robust_list_head head;
static void *die_with_locks(void *argument) {
    unsigned me = syscall(SYS_gettid);
    head.list.next = &locks[0].list;
    head.futex_offset = offsetof(struct lock, word);
    for (int i = 0; i < ROBUST_ITEMS; i++) {
        locks[i].list.next = i + 1 < ROBUST_ITEMS ? &locks[i + 1].list : &head.list;
        locks[i].word = me;
    }
    locks[1].word = 12345;
    locks[0].word |= FUTEX_WAITERS;
    head.list_op_pending = argument ? &locks[1].list : NULL;
    CALL(syscall(SYS_set_robust_list, &head, sizeof head));
    usleep(30000);
    syscall(SYS_exit, 0);
    return NULL;
}
static void robust(void) {
    struct robust_list_head *got;
    size_t length;
    CALL(syscall(SYS_set_robust_list, &head, 3));
    CALL(syscall(SYS_get_robust_list, 0, &got, &length));
    printf("length %zu\n", length);
    CALL(syscall(SYS_get_robust_list, 999999, &got, &length));
    CALL(syscall(SYS_get_robust_list, 0, (void *)1, &length));
    pthread_t thread;
    pthread_create(&thread, NULL, die_with_locks, NULL);
    usleep(10000);
    CALL(futex(&locks[0].word, FUTEX_WAIT, locks[0].word, NULL, NULL, 0));
    pthread_join(thread, NULL);
    printf("died: %x, not its own: %u, died: %x\n", locks[0].word, locks[1].word, locks[2].word);
}

static void *wake_later(void *at) {
    usleep(30000);
    futex(at, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return NULL;
}
static void several(void) {
    unsigned words[3] = {1, 2, 3};
    struct futex_waitv list[3];
    for (int i = 0; i < 3; i++) list[i] = (struct futex_waitv){.val = i + 1, .uaddr = (unsigned long)&words[i],
        .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG};
    struct timespec at = in_a_moment(CLOCK_MONOTONIC);
    CALL(syscall(SYS_futex_waitv, list, 3, 0, &at, CLOCK_MONOTONIC));
    CALL(syscall(SYS_futex_waitv, list, 0, 0, &at, CLOCK_MONOTONIC));
    CALL(syscall(SYS_futex_waitv, list, 129, 0, &at, CLOCK_MONOTONIC));
    CALL(syscall(SYS_futex_waitv, list, 3, 1, &at, CLOCK_MONOTONIC));
    CALL(syscall(SYS_futex_waitv, list, 3, 0, &at, CLOCK_BOOTTIME));
    CALL(syscall(SYS_futex_waitv, NULL, 3, 0, &at, CLOCK_MONOTONIC));
    list[1].val = 9;
    CALL(syscall(SYS_futex_waitv, list, 3, 0, NULL, 0));
    list[1].val = 2, list[1].flags = FUTEX_PRIVATE_FLAG;
    CALL(syscall(SYS_futex_waitv, list, 3, 0, NULL, 0));
    list[1].flags = FUTEX_32 | FUTEX_PRIVATE_FLAG, list[2].__reserved = 1;
    CALL(syscall(SYS_futex_waitv, list, 3, 0, NULL, 0));
    list[2].__reserved = 0;
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, wake_later, &words[2]);
        CALL(syscall(SYS_futex_waitv, list, 3, 0, NULL, 0));
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

/* CLONE_CHILD_CLEARTID and set_tid_address(2). */
static int tid_word;
static int short_lived(void *argument) { return 0; }
static void clear_child_tid(void) {
    char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int parent_word = 0;
    tid_word = 77;
    int tid = clone(short_lived, stack + 65536,
        CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
        CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID, NULL, &parent_word, NULL, &tid_word);
    YES(tid > 0 && parent_word == tid);
    while (tid_word != 0) futex((unsigned *)&tid_word, FUTEX_WAIT, tid_word, &soon, NULL, 0);
    printf("cleared: %d\n", tid_word);
    YES(syscall(SYS_set_tid_address, &tid_word) == getpid());
}

int main(void) {
    waiting();
    waking();
    requeueing();
    wake_op();
    between_processes();
    interrupted(0);
    interrupted(SA_RESTART);
    priority_inheritance();
    robust();
    several();
    clear_child_tid();
    return 0;
}
