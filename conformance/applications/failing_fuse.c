/* A filesystem that fails: `good` holds a page, every read and write of `bad` ends in EIO, and nothing can be made.
 *   failing_fuse DIRECTORY     mounts it there (as root), says "mounted", and serves until it is unmounted. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { ROOT = 1, GOOD, BAD };
static int device;

static void answer(struct fuse_in_header *in, int error, void *data, size_t size) {
    struct fuse_out_header out = {.len = sizeof out + size, .error = -error, .unique = in->unique};
    struct iovec parts[2] = {{&out, sizeof out}, {data, size}};
    if (writev(device, parts, 2) < 0 && errno != ENOENT) perror("answering");
}

static struct fuse_attr attributes(unsigned long node) {
    struct fuse_attr attr = {.ino = node, .nlink = 1, .blksize = 4096, .size = node == ROOT ? 0 : 4096};
    attr.mode = node == ROOT ? S_IFDIR | 0777 : S_IFREG | 0666;
    return attr;
}

static void lookup(struct fuse_in_header *in, const char *name) {
    unsigned long node = strcmp(name, "good") == 0 ? GOOD : strcmp(name, "bad") == 0 ? BAD : 0;
    if (node == 0) { answer(in, ENOENT, NULL, 0); return; }
    struct fuse_entry_out entry = {.nodeid = node, .attr = attributes(node)};
    answer(in, 0, &entry, sizeof entry);
}

static void serve(struct fuse_in_header *in, void *argument) {
    static char page[4096];
    memset(page, 'g', sizeof page);
    switch (in->opcode) {
        case FUSE_INIT: {
            struct fuse_init_in *init = argument;
            struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
                .max_readahead = init->max_readahead, .max_write = 4096};
            answer(in, 0, &out, sizeof out);
            break;
        }
        case FUSE_LOOKUP: lookup(in, argument); break;
        case FUSE_GETATTR: {
            struct fuse_attr_out out = {.attr = attributes(in->nodeid)};
            answer(in, 0, &out, sizeof out);
            break;
        }
        case FUSE_OPEN: case FUSE_OPENDIR: {
            struct fuse_open_out out = {0};
            answer(in, 0, &out, sizeof out);
            break;
        }
        case FUSE_READ: {
            struct fuse_read_in *read = argument;
            size_t left = read->offset < sizeof page ? sizeof page - read->offset : 0;
            if (in->nodeid == BAD) answer(in, EIO, NULL, 0);
            else answer(in, 0, page, left < read->size ? left : read->size);
            break;
        }
        case FUSE_READDIR: answer(in, 0, NULL, 0); break;
        case FUSE_STATFS: {
            struct fuse_statfs_out out = {.st = {.bsize = 4096, .namelen = 255}};
            answer(in, 0, &out, sizeof out);
            break;
        }
        case FUSE_FLUSH: case FUSE_RELEASE: case FUSE_RELEASEDIR: case FUSE_ACCESS: answer(in, 0, NULL, 0); break;
        case FUSE_FORGET: case FUSE_BATCH_FORGET: case FUSE_INTERRUPT: break;
        case FUSE_WRITE: case FUSE_FSYNC: case FUSE_SETATTR: case FUSE_CREATE: case FUSE_MKDIR: case FUSE_UNLINK: answer(in, EIO, NULL, 0); break;
        default: answer(in, ENOSYS, NULL, 0);
    }
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    device = open("/dev/fuse", O_RDWR);
    char options[128];
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device);
    if (device < 0 || mount("failing", arguments[1], "fuse", MS_NOSUID | MS_NODEV, options)) { perror("mounting"); return 1; }
    puts("mounted"), fflush(stdout);
    static char request[1 << 20];
    for (;;) {
        ssize_t got = read(device, request, sizeof request);
        if (got < 0 && errno == ENODEV) return 0;
        if (got < (ssize_t)sizeof(struct fuse_in_header)) continue;
        serve((void *)request, request + sizeof(struct fuse_in_header));
    }
}
