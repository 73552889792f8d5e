#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
static pthread_barrier_t barrier;
static int worked[3];
static void work(int number) { worked[number]++; }
static void *run(void *argument) { int number = (long)argument; pthread_barrier_wait(&barrier); work(number); pthread_barrier_wait(&barrier); return 0; }
static void ready(void) { }
int main(void)
{
    pthread_t threads[3];
    pthread_barrier_init(&barrier, 0, 4);
    for (long i = 0; i < 3; i++)
        pthread_create(&threads[i], 0, run, (void *)i);
    usleep(100000);
    ready();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], 0);
    printf("%d\n", worked[0] + worked[1] + worked[2]);
    return 0;
}
