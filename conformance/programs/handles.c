/* Handles of files (name_to_handle_at(2)): what is refused, and that they stand for one file. Opening by them is for the host's root. */
#include "report.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static struct { struct file_handle h; unsigned char bytes[128]; } a, b;
static int mount_a, mount_b;
static int get(const char *path, typeof(a) *handle, int *mount, int flags)
{
    memset(handle, 0, sizeof *handle);
    handle->h.handle_bytes = 128;
    return name_to_handle_at(AT_FDCWD, path, &handle->h, mount, flags);
}
static int same(void) { return a.h.handle_bytes == b.h.handle_bytes && a.h.handle_type == b.h.handle_type && mount_a == mount_b && !memcmp(a.bytes, b.bytes, a.h.handle_bytes); }

static void of(const char *directory)
{
    if (chdir(directory)) { perror(directory); return; }
    printf("-- a directory\n");
    close(open("handles-f", O_CREAT | O_WRONLY, 0600)), close(open("handles-g", O_CREAT | O_WRONLY, 0600)), symlink("handles-f", "handles-l");
    CALL(get("handles-f", &a, &mount_a, 0)), CALL(get("handles-f", &b, &mount_b, 0)), YES(same());
    rename("handles-f", "handles-h"), link("handles-h", "handles-f");
    CALL(get("handles-h", &b, &mount_b, 0)), YES(same()), CALL(get("handles-l", &b, &mount_b, AT_SYMLINK_FOLLOW)), YES(same());
    CALL(get("handles-l", &b, &mount_b, 0)), YES(same()), CALL(get("handles-g", &b, &mount_b, 0)), YES(same());
    CALL(get(".", &a, &mount_a, 0)), CALL(get("", &b, &mount_b, AT_EMPTY_PATH)), YES(same());
    a.h.handle_bytes = 0, CALL(name_to_handle_at(AT_FDCWD, ".", &a.h, &mount_a, 0)), YES(a.h.handle_bytes == b.h.handle_bytes);
    a.h.handle_bytes = 129, CALL(name_to_handle_at(AT_FDCWD, ".", &a.h, &mount_a, 0));
    CALL(name_to_handle_at(AT_FDCWD, "handles-none", &a.h, &mount_a, 0)), CALL(name_to_handle_at(AT_FDCWD, ".", (void *)8, &mount_a, 0));
    CALL(get(".", &a, &mount_a, 8)), CALL(get("", &a, &mount_a, 0));
    unlink("handles-f"), unlink("handles-g"), unlink("handles-h"), unlink("handles-l");
}

/* As somebody who may not: natively an ordinary user. */
static void opening(void)
{
    CALL(get("/dev/shm", &a, &mount_a, 0));
    CALL(open_by_handle_at(AT_FDCWD, &a.h, O_RDONLY)), CALL(open_by_handle_at(AT_FDCWD, &a.h, O_RDONLY | O_DIRECTORY));
    int shm = open("/dev/shm", O_RDONLY), path = open("/dev/shm", O_PATH);
    CALL(open_by_handle_at(shm, &a.h, O_RDONLY)), CALL(open_by_handle_at(path, &a.h, O_RDONLY)), CALL(open_by_handle_at(-1, &a.h, O_RDONLY));
    CALL(open_by_handle_at(AT_FDCWD, (void *)8, O_RDONLY));
    a.h.handle_bytes = 0, CALL(open_by_handle_at(-1, &a.h, O_RDONLY)), a.h.handle_bytes = 129, CALL(open_by_handle_at(-1, &a.h, O_RDONLY));
    a.h.handle_bytes = 12, a.h.handle_type = -1, CALL(open_by_handle_at(AT_FDCWD, &a.h, O_RDONLY));
}

int main(int count, char **arguments)
{
    of("/dev/shm");
    for (int i = 1; i < count; i++) of(arguments[i]);
    CALL(get("/proc/self/status", &a, &mount_a, 0)), CALL(get("/dev/pts", &a, &mount_a, 0));
    fflush(stdout);
    pid_t child = fork();
    if (!child) { if (getuid() == 0 && (setgid(1001) || setuid(1001))) _exit(9); opening(); fflush(stdout); _exit(0); }
    waitpid(child, NULL, 0);
    return 0;
}
