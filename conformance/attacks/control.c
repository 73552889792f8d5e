/* control MESSAGE: finds the socket to the supervisor among the host descriptors, and sends what a supervisor should not believe. */
#include "takeover.h"

#define MSG_NOSIGNAL_ 0x4000

static unsigned char message[1 << 20];

static long control_socket(void) {
    for (long fd = 3; fd < 1024; fd++) {
        struct stat what;
        if (HOST(SYS_newfstatat, fd, "", &what, AT_EMPTY_PATH) == 0 && S_ISSOCK(what.st_mode)) return fd;
    }
    say("no socket\n");
    exit(2);
}

static long control;

static void tell(const void *bytes, long length) { HOST(SYS_sendto, control, bytes, length, MSG_NOSIGNAL_); }

/* Variants of FromSandbox. */
enum { STARTED, EXITED, NOT_EXECUTED, FATAL };

/* postcard: the number of the variant, then its fields; numbers in groups of seven bits. */
static long text_message(int variant, const char *text, long length) {
    long at = 0;
    message[at++] = variant;
    if (variant == NOT_EXECUTED) {
        message[at++] = 0; /* the first process */
        message[at++] = 4; /* errno 2, zigzag */
    }
    for (long rest = length; ; rest >>= 7) {
        message[at++] = (rest & 0x7f) | (rest > 0x7f ? 0x80 : 0);
        if (rest <= 0x7f) break;
    }
    for (long i = 0; i < length; i++) message[at++] = text ? text[i] : 'A';
    return at;
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    const char *what = argv[1];
    take_over();
    control = control_socket();
    alarm(20);
    trying();
    if (is(what, "garbage")) {
        memset(message, 0xff, 100);
        tell(message, 100);
    } else if (is(what, "empty")) {
        tell(message, 0);
    } else if (is(what, "too_long")) {
        memset(message, 0, sizeof message);
        for (long length = sizeof message; length > 16 << 10; length /= 2) tell(message, length);
    } else if (is(what, "length_that_lies")) {
        tell("\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
    } else if (is(what, "not_utf8")) {
        tell("\x03\x04\xff\xfe\x80\xc0", 6);
    } else if (is(what, "escape_sequences")) {
        static const char text[] = "\x1b]0;title\x07\x1b[2J\x9b\xc2\x9b" "c\xe2\x80\xaereversed\r\x08\x7f\x1b[6n";
        long length = text_message(FATAL, NULL, 200);
        memcpy(message + length - 200, "\x1b]0;title\x07\x1b[2J\xc2\x9b" "6n\xe2\x80\xae\r\x08\x7f", 24);
        (void)text;
        tell(message, length);
    } else if (is(what, "escape_sequences_of_a_path")) {
        tell(message, text_message(NOT_EXECUTED, "\x1b]0;title\x07\n\nsandbox-exec: all is well\r", 38));
    } else if (is(what, "descriptors")) {
        /* SCM_RIGHTS needs sendmsg(2). */
        char data = 0;
        struct { void *base; long length; } vector = { &data, 1 };
        struct { long length; int level, type, fds[2]; } rights = { 20, 1, 1, { 1, 0 } };
        struct { void *name; long name_length; void *vector; long vectors; void *rights; long room; long flags; } header =
            { 0, 0, &vector, 1, &rights, 20, 0 };
        HOST(SYS_sendmsg, control, &header, 0);
        escaped("sendmsg came back");
    } else if (is(what, "to_an_address")) {
        char address[] = "\x01\0\0trapbox";
        HOST(SYS_sendto, control, message, 1, 0, address, 10);
        escaped("sendto an address came back");
    } else if (is(what, "flood")) {
        long length = text_message(NOT_EXECUTED, NULL, 8000);
        for (;;) tell(message, length);
    } else if (is(what, "flood_of_starts")) {
        static const unsigned char started[] = { STARTED, 7 }; /* a process that nobody has asked for */
        for (;;) tell(started, sizeof started);
    } else if (is(what, "exited_and_on")) {
        static const unsigned char exited[] = { EXITED, 0, 0 }; /* the first process, with status 0 */
        tell(exited, sizeof exited);
        for (;;) HOST(SYS_sched_yield);
    } else if (is(what, "exited_oddly")) {
        static const unsigned char exited[] = { EXITED, 0, 0xff, 0xff, 0xff, 0xff, 0x0f };
        tell(exited, sizeof exited);
        for (;;) HOST(SYS_sched_yield);
    } else if (is(what, "closed_and_on")) {
        HOST(SYS_close, control);
        for (;;) HOST(SYS_sched_yield);
    } else if (is(what, "steals_messages")) {
        /* What the supervisor sends is taken away from the warden; the test sends SIGTERM twice. */
        say("ready\n");
        alarm(0);
        struct { void *base; long length; } vector = { message, sizeof message };
        struct { void *name; long name_length; void *vector; long vectors; void *rights; long room; long flags; } header =
            { 0, 0, &vector, 1, 0, 0, 0 };
        for (;;) HOST(SYS_recvmsg, control, &header, 0x40);
    }
    for (int i = 0; i < 100000; i++) HOST(SYS_sched_yield);
    return 0;
}
