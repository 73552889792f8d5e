/* Names without end: makes and takes away COUNT files of different names in DIRECTORY, or with COUNT 0 walks what is there. After each
   tenth (each walk: three times) it says how far it is and waits for a line, so that whoever looks from outside sees it at rest. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static long seen;

static void rest(const char *what, long count) {
    printf("%s %ld\n", what, count);
    fflush(stdout);
    if (getchar() == EOF) exit(1);
}
static int fails(const char *what, const char *name) {
    fprintf(stderr, "%s %s: %s\n", what, name, strerror(errno));
    return 1;
}
static int look(const char *path, const struct stat *status, int kind, struct FTW *at) {
    (void)path, (void)status, (void)at;
    if (kind == FTW_NS || kind == FTW_DNR) return fails("look at", path);
    seen++;
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 3 || chdir(argv[1])) return fails("usage: names DIRECTORY COUNT; enter", argc > 1 ? argv[1] : "");
    long count = atol(argv[2]);
    rest("start", 0);
    for (int walk = 0; count == 0 && walk < 3; walk++) {
        seen = 0;
        if (nftw(".", look, 64, FTW_PHYS)) return 1;
        rest("walked", seen);
    }
    for (long number = 0; number < count;) {
        char name[64];
        snprintf(name, sizeof name, "a name that is used once %ld", number);
        int file = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
        if (file < 0) return fails("make", name);
        close(file);
        if (unlink(name)) return fails("unlink", name);
        /* A name that is not there is remembered, too. */
        if (access(name, F_OK) == 0) return fails("still there", name);
        if (++number % (count / 10 ? count / 10 : 1) == 0) rest("made", number);
    }
    return 0;
}
