/* Listings of directories that only others may change, in pieces and from the middle. */
#include "report.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct entry { uint64_t ino; int64_t next; uint16_t length; uint8_t kind; char name[]; };

#define MOST 20000
static struct { char *name; int64_t behind; uint64_t ino; int kind; } seen[MOST];

static int list(int d, size_t room) {
    static char buffer[1 << 16];
    int count = 0;
    long length;
    while ((length = syscall(SYS_getdents64, d, buffer, room)) > 0)
        for (long at = 0; at < length && count < MOST; ) {
            struct entry *e = (void *)(buffer + at);
            free(seen[count].name);
            seen[count].name = strdup(e->name), seen[count].behind = e->next, seen[count].ino = e->ino;
            seen[count++].kind = e->kind;
            at += e->length;
        }
    return length < 0 ? -1 : count;
}

static void look(const char *path) {
    char small[400];
    int d = open(path, O_RDONLY | O_DIRECTORY), other = open(path, O_RDONLY | O_DIRECTORY);
    int whole = list(d, 1 << 16), pieces = (lseek(d, 0, SEEK_SET), list(d, 400));
    printf("%s: %d entries, %d in pieces\n", path, whole, pieces);
    CALL(syscall(SYS_getdents64, d, small, 400)), CALL(syscall(SYS_getdents64, other, small, 20));
    int found = 0, tried = 0;
    for (int i = 0; i + 1 < pieces; i += 7, tried++) {
        int at = tried % 2 ? d : other;
        lseek(at, seen[i].behind, SEEK_SET);
        struct entry *e = (void *)small;
        found += syscall(SYS_getdents64, at, small, 400) > 0 && !strcmp(e->name, seen[i + 1].name);
    }
    YES(found == tried);
    int same = 0, kinds = 0;
    for (int i = 0; i < pieces; i++) {
        struct stat s;
        int dots = !strcmp(seen[i].name, "..");
        if (fstatat(d, seen[i].name, &s, AT_SYMLINK_NOFOLLOW)) continue;
        same += dots || s.st_ino == seen[i].ino, kinds += (s.st_mode & S_IFMT) >> 12 == (unsigned)seen[i].kind;
    }
    YES(same == pieces), YES(kinds == pieces);
    lseek(d, seen[pieces - 1].behind, SEEK_SET), CALL(syscall(SYS_getdents64, d, small, 400));
    CALL(lseek(d, -1, SEEK_SET)), CALL(fsync(d)), CALL(read(d, small, 1));
    close(d), close(other);
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    for (int i = 0; i < 2; i++) look("/usr/bin"), look("/usr/include/linux"), look("/usr/share");
    return 0;
}
