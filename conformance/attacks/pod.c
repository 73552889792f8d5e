/* pod SECRET HUB VOLUME: ways from a container that has joined a pod to what lies around its tree. SECRET is a file of the host that was not
 * granted, HUB the directory below which trees are mounted, VOLUME a directory with a "file" that was granted for reading. */
#include "takeover.h"

#define LAST 4096

static long open_at(long directory, const char *path, long flags) {
    return HOST(SYS_openat, directory, path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static void must_not_have(long top, const char *secret, const char *hub, const char *volume) {
    char path[4096], text[64] = "";
    long fd = open_at(top, secret + 1, O_RDONLY);
    if (fd >= 0 && HOST(SYS_pread64, fd, text, sizeof text - 1, 0) > 0 && strstr(text, "SECRET")) escaped("read: %s", text);
    if (fd >= 0) HOST(SYS_close, fd);
    const char *places[] = {"", "root", hub + 1, volume + 1};
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s%smade", places[i], *places[i] ? "/" : "");
        if (HOST(SYS_mkdirat, top, path, 0700) == 0) escaped("made %s", path);
        if (open_at(top, path, O_WRONLY | O_CREAT) >= 0) escaped("made the file %s", path);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s%s/file", i ? "root" : "", volume);
        if (open_at(top, path + !i, O_WRONLY | O_TRUNC) >= 0) escaped("opened %s for writing", path);
    }
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    int tops = 0;
    take_over();
    for (long fd = 3; fd < LAST; fd++) {
        struct stat status;
        if (HOST(SYS_newfstatat, fd, "", &status, AT_EMPTY_PATH) != 0 || !S_ISDIR(status.st_mode)) continue;
        long at = open_at(fd, ".", O_PATH | O_DIRECTORY);
        for (int i = 0; i < 64 && at >= 0; i++) {
            long above = open_at(at, "..", O_PATH | O_DIRECTORY);
            if (above < 0) break;
            HOST(SYS_close, at);
            at = above;
        }
        if (at < 0) continue;
        tops++;
        must_not_have(at, argv[1], argv[2], argv[3]);
        HOST(SYS_close, at);
    }
    say("%s\n", tops > 1 ? "looked around" : "saw nothing to look from");
    held();
    return 0;
}
