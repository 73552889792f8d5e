/* outside WAY SECRET MINE OPEN SHOWN: raw host calls that change what was not granted for writing. On the host SECRET is a file that
 * anyone may write to, MINE one that belongs to the sandbox's own identity, OPEN a directory that anyone may write to, and SHOWN a
 * directory of the sandbox's own that was granted for reading, with a file "mine". The working directory was granted for writing.
 * Whatever comes back, the test looks at all of them afterwards. */
#include "takeover.h"

static const char *secret, *mine, *outside, *shown;
static long here;
static char path[4096], text[256];

static const char *in(const char *directory, const char *name) {
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static long own_file(void) { return HOST(SYS_openat, here, "own", O_RDWR | O_CREAT, 0600); }

static void chmod_by_name(void) { HOST(SYS_fchmodat, AT_FDCWD, mine, 0777); }

static void chmod_from_the_root(void) { HOST(SYS_fchmodat, HOST(SYS_openat, AT_FDCWD, "/", O_PATH), mine + 1, 0777); }

static void chmod_climbing(void) {
    strcpy(path, "../../../../../../../..");
    strcat(path, mine);
    HOST(SYS_fchmodat, here, path, 0777);
}

static void chmod_in_its_directory(void) {
    *strrchr(strcpy(path, mine), '/') = 0;
    HOST(SYS_fchmodat, HOST(SYS_openat, AT_FDCWD, path, O_PATH), strrchr(mine, '/') + 1, 0777);
}

static void chmod_of_a_descriptor(void) { HOST(SYS_fchmod, HOST(SYS_openat, AT_FDCWD, mine, O_PATH), 0777); }

static void chmod_of_a_magic_link(void) {
    snprintf(path, sizeof path, "/proc/self/fd/%ld", HOST(SYS_openat, AT_FDCWD, mine, O_PATH));
    HOST(SYS_fchmodat, AT_FDCWD, path, 0777);
}

static void chmod_through_a_link(void) {
    HOST(SYS_symlinkat, mine, here, "link");
    HOST(SYS_fchmodat, here, "link", 0777);
}

static void chmod_of_what_is_shown(void) { HOST(SYS_fchmod, HOST(SYS_openat, AT_FDCWD, in(shown, "mine"), O_RDONLY), 0777); }

static void chmod_in_what_is_shown(void) { HOST(SYS_fchmodat, HOST(SYS_openat, AT_FDCWD, shown, O_PATH), "mine", 0777); }

static void chmod_set_user_id(void) { HOST(SYS_fchmod, own_file(), 04755); }

static void chown_by_name(void) { HOST(SYS_fchownat, AT_FDCWD, mine, -1, 1, 0); }

static void chown_of_what_is_shown(void) {
    HOST(SYS_fchownat, HOST(SYS_openat, AT_FDCWD, in(shown, "mine"), O_RDONLY), "", -1, 1, AT_EMPTY_PATH);
}

static void times_by_name(void) { HOST(SYS_utimensat, AT_FDCWD, mine, 0, 0); }

static void times_of_a_secret(void) { HOST(SYS_utimensat, AT_FDCWD, secret, 0, 0); }

static void times_of_what_is_shown(void) {
    HOST(SYS_utimensat, HOST(SYS_openat, AT_FDCWD, in(shown, "mine"), O_RDONLY), "", 0, AT_EMPTY_PATH);
}

static void times_through_a_link(void) {
    HOST(SYS_symlinkat, mine, here, "link");
    HOST(SYS_utimensat, here, "link", 0, 0);
}

static void xattr_of_what_is_shown(void) {
    HOST(SYS_fsetxattr, HOST(SYS_openat, AT_FDCWD, in(shown, "mine"), O_RDONLY), "user.a", "b", 1, 0);
}

static void truncation(void) { HOST(SYS_openat, AT_FDCWD, secret, O_WRONLY | O_TRUNC); }

static void writing(void) {
    long fd = HOST(SYS_openat, AT_FDCWD, secret, O_RDWR);
    if (fd >= 0) HOST(SYS_pwrite64, fd, "x", 1, 0);
}

static void writing_to_what_is_shown(void) {
    long fd = HOST(SYS_openat, AT_FDCWD, in(shown, "mine"), O_RDWR);
    if (fd >= 0) HOST(SYS_pwrite64, fd, "x", 1, 0);
}

static void writing_to_a_reopened_file(void) {
    snprintf(text, sizeof text, "/proc/self/fd/%ld", HOST(SYS_openat, AT_FDCWD, in(shown, "mine"), O_RDONLY));
    long fd = HOST(SYS_openat, AT_FDCWD, text, O_RDWR);
    if (fd >= 0) HOST(SYS_pwrite64, fd, "x", 1, 0);
}

static void a_file(void) { HOST(SYS_openat, AT_FDCWD, in(outside, "new"), O_WRONLY | O_CREAT, 0666); }

static void a_file_in_what_is_shown(void) { HOST(SYS_openat, AT_FDCWD, in(shown, "new"), O_WRONLY | O_CREAT, 0666); }

static void a_directory(void) { HOST(SYS_mkdirat, AT_FDCWD, in(outside, "new"), 0777); }

static void a_link(void) { HOST(SYS_symlinkat, "x", AT_FDCWD, in(outside, "new")); }

static void a_pipe(void) { HOST(SYS_mknodat, AT_FDCWD, in(outside, "new"), S_IFIFO | 0666, 0); }

static void a_file_without_a_name(void) {
    long fd = HOST(SYS_openat, here, ".", O_TMPFILE | O_RDWR, 0600);
    HOST(SYS_linkat, fd, "", AT_FDCWD, in(outside, "new"), AT_EMPTY_PATH);
}

static void removal(void) { HOST(SYS_unlinkat, AT_FDCWD, in(shown, "mine"), 0); }

static void removal_of_a_directory(void) { HOST(SYS_unlinkat, AT_FDCWD, outside, AT_REMOVEDIR); }

static void move_out(void) {
    own_file();
    HOST(SYS_renameat2, here, "own", AT_FDCWD, in(outside, "new"), 0);
}

static void move_in(void) { HOST(SYS_renameat2, AT_FDCWD, in(shown, "mine"), here, "taken", 0); }

static void exchange(void) {
    own_file();
    HOST(SYS_renameat2, here, "own", AT_FDCWD, in(shown, "mine"), 2);
}

static void hard_link_out(void) {
    own_file();
    HOST(SYS_linkat, here, "own", AT_FDCWD, in(outside, "new"), 0);
}

static void hard_link_in(void) {
    if (HOST(SYS_linkat, AT_FDCWD, mine, here, "taken", 0) == 0) HOST(SYS_fchmodat, here, "taken", 0777);
    if (HOST(SYS_linkat, AT_FDCWD, in(shown, "mine"), here, "taken", 0) == 0) HOST(SYS_fchmodat, here, "taken", 0777);
}

static void hard_link_of_a_descriptor(void) {
    long fd = HOST(SYS_openat, AT_FDCWD, mine, O_PATH);
    if (HOST(SYS_linkat, fd, "", here, "taken", AT_EMPTY_PATH) == 0) HOST(SYS_fchmodat, here, "taken", 0777);
    fd = HOST(SYS_openat, AT_FDCWD, in(shown, "mine"), O_RDONLY);
    if (HOST(SYS_linkat, fd, "", here, "taken", AT_EMPTY_PATH) == 0) HOST(SYS_fchmodat, here, "taken", 0777);
}

#define WAY(name) { #name, name }
static const struct { const char *name; void (*go)(void); } ways[] = {
    WAY(chmod_by_name), WAY(chmod_from_the_root), WAY(chmod_climbing), WAY(chmod_in_its_directory), WAY(chmod_of_a_descriptor),
    WAY(chmod_of_a_magic_link), WAY(chmod_through_a_link), WAY(chmod_of_what_is_shown), WAY(chmod_in_what_is_shown),
    WAY(chmod_set_user_id), WAY(chown_by_name), WAY(chown_of_what_is_shown), WAY(times_by_name), WAY(times_of_a_secret),
    WAY(times_of_what_is_shown), WAY(times_through_a_link), WAY(xattr_of_what_is_shown), WAY(truncation), WAY(writing),
    WAY(writing_to_what_is_shown), WAY(writing_to_a_reopened_file), WAY(a_file), WAY(a_file_in_what_is_shown), WAY(a_directory),
    WAY(a_link), WAY(a_pipe), WAY(a_file_without_a_name), WAY(removal), WAY(removal_of_a_directory), WAY(move_out), WAY(move_in),
    WAY(exchange), WAY(hard_link_out), WAY(hard_link_in), WAY(hard_link_of_a_descriptor),
};

int main(int argc, char **argv) {
    if (argc < 6) return 2;
    secret = argv[2], mine = argv[3], outside = argv[4], shown = argv[5];
    if (is(argv[1], "list")) {
        for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) say("way %s\n", ways[i].name);
        return 0;
    }
    if (!getcwd(text, sizeof text)) return 2;
    take_over();
    here = HOST(SYS_openat, AT_FDCWD, text, O_PATH);
    if (here < 0) return 2;
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++)
        if (is(argv[1], ways[i].name)) {
            trying();
            ways[i].go();
            held();
            return 0;
        }
    return 2;
}
