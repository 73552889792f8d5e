/* host_call NUMBER benign|hostile: one host call, straight from the gadget. */
#include "takeover.h"
#include <stdint.h>

static char path[] = "/etc/passwd", buffer[1 << 16];

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    long number = strtol(argv[1], NULL, 0);
    take_over();
    alarm(2); /* a call that waits for ever */
    trying();
    if (is(argv[2], "benign")) {
        long result = HOST(number);
        say("answered %ld\n", result);
        return 0;
    }
    const long values[] = { -1, (long)path, (long)buffer, INT32_MAX, INT64_MIN, (long)0xffffffff81000000, (long)0xffffffffff600000,
                            (long)base, (long)(base + HEAP), 0, 1, 0x7ffffffff000, 1l << 32 };
    enum { COUNT = sizeof values / sizeof *values };
    for (int i = 0; i < 4 * COUNT; i++) {
        long a[6];
        for (int j = 0; j < 6; j++) a[j] = values[i < COUNT ? i : (i * 7 + j * (i / COUNT + 3)) % COUNT];
        long result = host(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        say("answered %ld\n", result);
    }
    return 0;
}
