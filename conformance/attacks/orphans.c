/* orphans HOW: host processes that our kernel knows nothing of, to be there when the sandbox has ended: some wait for ever, and some are
 * never the same for long, since each makes another and ends. Then "ready", and a line is read: the end of its input ends the program,
 * which is what HOW "exits" is for, and "waits" not. */
#include "takeover.h"
#include <sched.h>

static void waits_for_ever(void) {
    for (;;) HOST(SYS_ppoll, 0, 0, 0, 0);
}

static void never_the_same(void) {
    for (;;)
        if (HOST(SYS_clone, CLONE_FILES | CLONE_PARENT) > 0) HOST(SYS_exit_group, 0);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    take_over();
    for (int i = 0; i < 12; i++)
        if (HOST(SYS_clone, CLONE_FILES | CLONE_PARENT) == 0) {
            if (i % 3 == 0) never_the_same();
            /* Its own child, not the warden's. */
            if (i % 3 == 1) HOST(SYS_clone, CLONE_FILES | 17);
            waits_for_ever();
        }
    say("ready\n");
    if (getchar() == EOF && is(argv[1], "waits")) return 1;
    return 0;
}
