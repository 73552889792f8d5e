/* Threads and futexes. */
#include "report.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER; static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static int counter, ready; static unsigned word;
static long futex(unsigned *u, int op, unsigned v, void *t, unsigned *u2, unsigned v3) { return syscall(SYS_futex, u, op, v, t, u2, v3); }
static void *add(void *x) { for (int i = 0; i < 10000; i++) { pthread_mutex_lock(&m); counter++; pthread_mutex_unlock(&m); } return (void *)((long)x * 2); }
static void *waiter(void *x) { pthread_mutex_lock(&m); while (!ready) pthread_cond_wait(&c, &m); ready++; pthread_mutex_unlock(&m); return 0; }
static void *sleeper(void *x) { return (void *)futex(&word, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0); }
static void *die_with_lock(void *x) { pthread_mutex_lock(x); return 0; }
static pthread_barrier_t bar; static void *at_barrier(void *x) { return (void *)(long)pthread_barrier_wait(&bar); }
int main(void) {
    pthread_t t[16]; void *r; long sum = 0;
    for (long i = 0; i < 16; i++) pthread_create(&t[i], 0, add, (void *)i);
    for (int i = 0; i < 16; i++) { pthread_join(t[i], &r); sum += (long)r; }
    printf("%d %ld\n", counter, sum);
    for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, waiter, 0);
    usleep(20000); pthread_mutex_lock(&m); ready = 1; pthread_cond_broadcast(&c); pthread_mutex_unlock(&m);
    for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
    printf("ready %d\n", ready);
    struct timespec ts = {0, 10000000}, bad = {0, 2000000000}, neg = {-1, 0};
    CALL(futex(&word, FUTEX_WAIT, 1, 0, 0, 0)); CALL(futex(&word, FUTEX_WAIT, 0, &ts, 0, 0)); CALL(futex(&word, FUTEX_WAIT, 0, &bad, 0, 0)); CALL(futex(&word, FUTEX_WAIT, 0, &neg, 0, 0));
    CALL(futex((unsigned *)1, FUTEX_WAIT, 0, 0, 0, 0)); CALL(futex((unsigned *)0, FUTEX_WAIT, 0, 0, 0, 0)); CALL(futex((unsigned *)64, FUTEX_WAKE, 1, 0, 0, 0)); CALL(futex(&word, 77, 0, 0, 0, 0));
    CALL(futex(&word, FUTEX_WAKE, 5, 0, 0, 0)); CALL(futex(&word, FUTEX_WAIT_BITSET, 0, 0, 0, 0));
    pthread_create(&t[0], 0, sleeper, 0); usleep(50000); CALL(futex(&word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0)); pthread_join(t[0], &r); printf("sleeper %ld\n", (long)r);
    unsigned other = 0; for (int i = 0; i < 3; i++) pthread_create(&t[i], 0, sleeper, 0); usleep(50000);
    CALL(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)5, &other, 0)); CALL(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)5, &other, 9));
    CALL(futex(&other, FUTEX_WAKE_PRIVATE, 5, 0, 0, 0)); for (int i = 0; i < 3; i++) pthread_join(t[i], 0);
    pthread_mutexattr_t at; pthread_mutex_t rm; pthread_mutexattr_init(&at); pthread_mutexattr_setrobust(&at, PTHREAD_MUTEX_ROBUST); pthread_mutex_init(&rm, &at);
    pthread_create(&t[0], 0, die_with_lock, &rm); pthread_join(t[0], 0); YES(pthread_mutex_lock(&rm) == EOWNERDEAD); YES(pthread_mutex_consistent(&rm) == 0); YES(pthread_mutex_unlock(&rm) == 0);
    pthread_mutex_t pi; pthread_mutexattr_init(&at); pthread_mutexattr_setprotocol(&at, PTHREAD_PRIO_INHERIT); pthread_mutex_init(&pi, &at); m = pi;
    counter = 0; for (long i = 0; i < 8; i++) pthread_create(&t[i], 0, add, (void *)i); for (int i = 0; i < 8; i++) pthread_join(t[i], 0); printf("pi %d\n", counter);
    pthread_barrier_init(&bar, 0, 5); long serial = 0; for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, at_barrier, 0); serial += pthread_barrier_wait(&bar) == -1; for (int i = 0; i < 4; i++) { pthread_join(t[i], &r); serial += (long)r == -1; } printf("serial %ld\n", serial);
    YES(syscall(SYS_gettid) == getpid()); CALL(syscall(SYS_tgkill, getpid(), 999999, 0)); CALL(syscall(SYS_tgkill, -1, 1, 0)); CALL(syscall(SYS_set_robust_list, 0, 1));
    pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER; CALL(pthread_rwlock_rdlock(&rw)); CALL(pthread_rwlock_trywrlock(&rw)); CALL(pthread_rwlock_unlock(&rw));
    return 0;
}
