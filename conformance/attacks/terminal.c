/* terminal own|handed_on: pushes input into the terminal that the caller types at. */
#include "takeover.h"
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    const char *line = "echo ESCAPED: typed\n";
    /* Its own pseudo-terminal, whose input is the sandbox's. */
    if (is(argv[1], "handed_on"))
        for (int fd = 0; fd < 3; fd++)
            for (const char *c = line; *c; c++)
                if (ioctl(fd, TIOCSTI, c) == 0) escaped("descriptor %d took a character", fd);
    take_over();
    for (long fd = 0; fd < 1024 && is(argv[1], "own"); fd++) {
        struct stat what;
        if (HOST(SYS_newfstatat, fd, "", &what, AT_EMPTY_PATH) != 0 || !S_ISCHR(what.st_mode)) continue;
        /* Terminals: the console and lines, the controlling one, pseudo-terminals. */
        unsigned major = major(what.st_rdev);
        if (major == 4 || major == 5 || (major >= 128 && major < 144)) escaped("host descriptor %ld is a terminal", fd);
    }
    for (int i = 0; i < 3; i++) HOST(SYS_openat, AT_FDCWD, "/dev/tty", O_RDONLY);
    if (gadget) HOST(SYS_write, 1, "", 0);
    puts("held");
    return 0;
}
