/* setuid WAY: host calls that give a file in the bound working directory setuid or setgid bits. */
#include "takeover.h"

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    char path[4096], file[4200];
    if (!getcwd(path, sizeof path)) return 2;
    take_over();
    snprintf(file, sizeof file, "%s/%s", path, is(argv[1], "fchmodat") ? "setuid" : "fresh");
    trying();
    long result = -1;
    if (is(argv[1], "fchmodat")) result = HOST(SYS_fchmodat, AT_FDCWD, file, 06755);
    if (is(argv[1], "openat")) result = HOST(SYS_openat, AT_FDCWD, file, O_CREAT | O_WRONLY, 06755);
    if (is(argv[1], "mkdirat")) result = HOST(SYS_mkdirat, AT_FDCWD, file, 02777);
    escaped("%s came back with %ld", argv[1], result);
    return 0;
}
