/* Trees of processes, as deep and as wide as the argument says. */
#include "report.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static int deep(int levels)
{
    if (levels == 0)
        return 1;
    pid_t child = fork();
    if (child == 0)
        _exit(deep(levels - 1));
    int status;
    if (waitpid(child, &status, 0) != child)
        return 99;
    /* Counts the levels, modulo something that fits. */
    return WIFEXITED(status) ? (WEXITSTATUS(status) + 1) % 97 : 98;
}

static void wide(int count)
{
    int gate[2], status, sum = 0, reaped = 0;
    pipe(gate);
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child < 0) {
            perror("fork");
            exit(1);
        }
        if (child == 0) {
            char byte;
            close(gate[1]);
            read(gate[0], &byte, 1);
            _exit(i % 100);
        }
    }
    close(gate[1]);
    while (wait(&status) > 0) {
        reaped++;
        sum += WEXITSTATUS(status);
    }
    printf("wide: %d reaped, statuses %d\n", reaped, sum);
    close(gate[0]);
}

/* Each generation leaves its child alone: all come to the subreaper. */
static void orphans(int count)
{
    int status, reaped = 0;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (fork() == 0) {
        for (int i = 0; i < count; i++)
            if (fork() > 0)
                _exit(i % 100);
        _exit(7);
    }
    while (wait(&status) > 0)
        reaped++;
    printf("orphans: %d reaped\n", reaped);
}

/* A tree with two branches at each node. */
static int branching(int levels)
{
    int status, sum = 1;
    if (levels == 0)
        return 1;
    for (int i = 0; i < 2; i++)
        if (fork() == 0)
            _exit(branching(levels - 1) % 101);
    while (wait(&status) > 0)
        sum += WEXITSTATUS(status);
    return sum % 101;
}

int main(int argc, char **argv)
{
    int size = argc > 1 ? atoi(argv[1]) : 200;
    printf("deep: %d\n", deep(size));
    wide(size);
    orphans(size);
    printf("branching: %d\n", branching(7));
    return 0;
}
