/* The line discipline of a pseudo-terminal: what is typed, what is echoed, what the program reads. */
#include "report.h"
#include "pty.h"

static void title(const char *text) { printf("-- %s\n", text); }

/* Types, and shows what the terminal shows and what a program could read then. */
static void typed_(const char *bytes, size_t length)
{
    char buffer[5000];
    if (write(master, bytes, length) != (ssize_t)length) printf("short write\n");
    settle();
    show("echo", buffer, get(master, buffer, sizeof buffer));
    while (readable(slave)) {
        ssize_t n = read(slave, buffer, sizeof buffer);
        show("read", buffer, n);
        if (n < 0) break;
    }
}
#define typed(text) (printf("type %s: ", #text), typed_(text, sizeof(text) - 1))

static void written_(const char *bytes, size_t length)
{
    char buffer[5000];
    printf("%zd ", write(slave, bytes, length));
    show("out", buffer, get(master, buffer, sizeof buffer));
}
#define written(text) (printf("write %s: ", #text), written_(text, sizeof(text) - 1))

static void canonical(void)
{
    fresh();
    title("canonical, as it comes");
    typed("hello\n");
    typed("one\ntwo\n");
    typed("abc\x7f" "d\n");
    typed("abc\x15xyz\n");
    typed("foo bar  \x17zip\n");
    typed("a_b9 +\x17\x17x\n");
    typed("tab\there\x7f\x7f\x7f\x7f\x7f\n");
    typed("\t\t\x7f\n");
    typed("a\tb\x15\n");
    typed("ctrl\x01\x02\x7f\x7f\n");
    typed("\x16\x03\x16\x04 literal\x16\x7f\n");
    typed("reprint\x12 me\n");
    typed("cr\r");
    typed("end\x04");
    typed("\x04");
    typed("\x7f\x15\x17\n");
    typed("\xc3\xa4\x7f\x7fx\n");
    typed("nul\0x\n");
    typed("two\x04words\x04");
    typed("esc\x1b[A\n");

    title("modes of canonical input");
    change(iflag, IUTF8, 0); typed("\xc3\xa4\xe2\x82\xac\x7fz\n"); typed("\xc3\xa4\tx\x7f\x7f\n");
    change(iflag, 0, IUTF8);
    change(lflag, 0, ECHOE); typed("ab\x7f\x7f" "c\n"); change(lflag, ECHOE, 0);
    change(lflag, 0, ECHOKE); typed("abc\x15" "d\n"); change(lflag, 0, ECHOK); typed("abc\x15" "d\n");
    change(lflag, ECHOK | ECHOKE, 0);
    change(lflag, ECHOPRT, 0); typed("abcd\x7f\x7f\x7fX\n"); typed("ab c\x17\n"); change(lflag, 0, ECHOPRT);
    change(lflag, 0, ECHOCTL); typed("a\x01\x7f\x7f\n"); typed("\x1b\n"); change(lflag, ECHOCTL, 0);
    change(lflag, 0, ECHO); typed("silent\x7f\x15word\x17last\n"); change(lflag, ECHONL, 0); typed("nl\n");
    change(lflag, ECHO, ECHONL);
    change(lflag, 0, IEXTEN); typed("a\x16\x17\x12\x0f\n"); change(lflag, IEXTEN, 0);
    change(iflag, 0, ICRNL); typed("cr\rlf\n"); change(iflag, INLCR, 0); typed("x\ny\r\x04"); 
    change(iflag, ICRNL, INLCR); change(iflag, IGNCR, 0); typed("a\rb\n"); change(iflag, 0, IGNCR);
    change(iflag, ISTRIP, 0); typed("\xe1\xe2\n"); change(iflag, 0, ISTRIP);
    change(iflag, IUCLC, 0); typed("ABC\xc4\n"); change(iflag, 0, IUCLC);
    change(iflag, PARMRK, 0); typed("a\xff" "b\n"); change(iflag, 0, PARMRK);
    character(VEOL, ';'); typed("a;b;c\n"); character(VEOL2, '!'); typed("x!y;\n");
    character(VEOL, 0); character(VEOL2, 0);
    character(VERASE, 0); typed("ab\x7f" "c\n"); character(VERASE, '#'); typed("ab#c\n"); character(VERASE, 127);

    title("short reads of a line");
    char buffer[64];
    if (write(master, "0123456789\nab\x04xyz\n", 18) != 18) printf("short\n");
    settle();
    for (int i = 0; i < 6; i++) {
        ssize_t n = read(slave, buffer, i == 0 ? 4 : i == 1 ? 6 : i == 2 ? 3 : i == 3 ? 2 : 20);
        show("part", buffer, n);
        if (!readable(slave)) break;
    }
    get(master, buffer, sizeof buffer);

    title("a line that is too long");
    fresh();
    change(lflag, 0, ECHO);
    char *longer = malloc(6000);
    memset(longer, 'x', 6000);
    for (int i = 0; i < 5000; i++) longer[i] = 'a' + i % 26;
    longer[4999] = '\n';
    printf("typed %zd\n", write(master, longer, 5000));
    settle();
    char *all = malloc(6000);
    ssize_t n = read(slave, all, 6000);
    printf("read %zd, starts %.4s, ends %.4s", n, all, all + n - 4);
    YES(!readable(slave));
    free(longer);
    free(all);
}

static void raw(void)
{
    fresh();
    title("raw");
    change(lflag, 0, ICANON | ECHO | ISIG | IEXTEN);
    change(iflag, 0, IXON | ICRNL);
    typed("a\r\n\x03\x04\x11\x13\x7f\xff");
    title("no lines, but echo and flow control");
    change(lflag, ECHO, 0);
    typed("a\rb\nc\x03\x7f\t");
    change(iflag, ICRNL, 0); typed("x\ry\n"); change(iflag, INLCR, ICRNL); typed("x\ry\n"); change(iflag, 0, INLCR);
    change(iflag, IXON, 0); typed("a\x13" "b"); typed("\x11"); 
    change(iflag, IXANY, 0); typed("a\x13"); typed("b");
    change(iflag, 0, IXANY | IXON);

    title("MIN and TIME");
    char buffer[16];
    change(lflag, 0, ECHO);
    for (int min = 0; min <= 3; min += 3)
        for (int time = 0; time <= 1; time++) {
            character(VMIN, min); character(VTIME, time);
            printf("min %d time %d\n", min, time);
            if (!(min == 3 && time == 0)) {
                if (min == 0) show("nothing", buffer, read(slave, buffer, 10));
                if (write(master, "x", 1) != 1) printf("short\n");
                settle();
                printf("poll: %d ", readable(slave));
                show("one", buffer, read(slave, buffer, 10));
            }
            if (write(master, "12345", 5) != 5) printf("short\n");
            settle();
            show("part", buffer, read(slave, buffer, 2));
            show("rest", buffer, read(slave, buffer, 10));
        }
    character(VMIN, 4); character(VTIME, 0);
    nonblocking(slave, 1);
    if (write(master, "abc", 3) != 3) printf("short\n");
    settle();
    YES(!readable(slave));
    show("less than MIN", buffer, read(slave, buffer, 10));
    CALL(read(slave, buffer, 10));
    nonblocking(slave, 0);

    title("switching modes with input there");
    character(VMIN, 1);
    if (write(master, "left over", 9) != 9) printf("short\n");
    settle();
    change(lflag, ICANON, 0);
    YES(readable(slave));
    show("line without end", buffer, read(slave, buffer, 16));
    YES(!readable(slave));
    if (write(master, "half", 4) != 4) printf("short\n");
    settle();
    YES(!readable(slave));
    change(lflag, 0, ICANON);
    YES(readable(slave));
    show("half", buffer, read(slave, buffer, 16));
}

static void output(void)
{
    fresh();
    title("output");
    written("a\nb\r\nc\td\n");
    written("\x1b[31m\b\x01\n");
    change(oflag, 0, ONLCR); written("a\nb\n"); change(oflag, ONLCR, 0);
    change(oflag, OCRNL, 0); written("a\rb\n"); change(oflag, 0, OCRNL);
    change(oflag, ONOCR, 0); written("\r\ra\rb\r\n"); change(oflag, 0, ONOCR);
    change(oflag, ONLRET, ONLCR); written("ab\n\tc\n\r"); change(oflag, ONLCR, ONLRET);
    change(oflag, OLCUC, 0); written("abc\xe4\n"); change(oflag, 0, OLCUC);
    change(oflag, XTABS, 0); written("a\tbc\td\n\t|\n"); written("\xc3\xa4\t|\n");
    change(iflag, IUTF8, 0); written("\xc3\xa4\t|\n"); change(iflag, 0, IUTF8);
    written("abc"); typed("\t\x7f\n"); change(oflag, 0, XTABS);
    change(oflag, 0, OPOST); written("raw\n\t\n");
}

static void settings(void)
{
    struct termios now;
    fresh();
    title("settings");
    memset(&now, 0, sizeof now);
    tcgetattr(slave, &now);
    printf("%x %x %x %x %d\n", now.c_iflag, now.c_oflag, now.c_cflag, now.c_lflag, now.c_line);
    for (int i = 0; i < 19; i++) printf("%d ", now.c_cc[i]);
    printf("\n");
    now.c_cflag = CS5 | PARENB | B9600 | HUPCL;
    CALL(tcsetattr(slave, TCSANOW, &now));
    tcgetattr(master, &now);
    printf("%x %d %d\n", now.c_cflag, (int)cfgetospeed(&now), (int)cfgetispeed(&now));
    unsigned char old[18] = {0};
    CALL(ioctl(slave, TCGETA, old));
    for (int i = 0; i < 17; i++) printf("%d ", old[i]);
    printf("\n");
    old[0] = 1;
    CALL(ioctl(slave, TCSETA, old));
    tcgetattr(slave, &now);
    printf("%x\n", now.c_iflag);
    struct { unsigned flags[4]; unsigned char line, cc[19]; unsigned in, out; } two;
    CALL(ioctl(slave, 0x802c542a, &two));
    printf("%x %u %u\n", two.flags[2], two.in, two.out);
    two.flags[2] = (two.flags[2] & ~CBAUD) | 010000;
    two.in = two.out = 12345;
    CALL(ioctl(slave, 0x402c542b, &two));
    CALL(ioctl(slave, 0x802c542a, &two));
    printf("%x %u %u\n", two.flags[2], two.in, two.out);
    CALL(tcsetattr(slave, 77, &now));
    CALL(ioctl(slave, TCGETS, 0));
    CALL(ioctl(slave, TCSETS, 8));
    CALL(ioctl(slave, 0x5499, 0));
    int value = -1;
    CALL(ioctl(slave, TIOCOUTQ, &value)); printf("%d\n", value);
    CALL(ioctl(slave, TIOCGETD, &value)); printf("%d\n", value);
    value = 0; CALL(ioctl(slave, TIOCSETD, &value));
    CALL(ioctl(slave, TIOCGSOFTCAR, &value)); printf("%d\n", value);
    CALL(ioctl(slave, TIOCGEXCL, &value)); printf("%d\n", value);
    CALL(ioctl(slave, TIOCMGET, &value));
    CALL(ioctl(slave, TCSBRK, 0));
    CALL(tcdrain(slave));
    CALL(tcsendbreak(slave, 0));
    CALL(tcflush(slave, 7));
    CALL(tcflow(slave, 7));
    CALL(lseek(slave, 0, SEEK_CUR));
    char byte;
    CALL(pread(slave, &byte, 1, 0));
    CALL(fsync(slave));
    CALL(ftruncate(slave, 0));
}

static void flushing(void)
{
    char buffer[100];
    int value;
    fresh();
    title("flushing");
    change(lflag, 0, ECHO);
    if (write(master, "lost\nkept?", 10) != 10) printf("short\n");
    settle();
    CALL(ioctl(slave, FIONREAD, &value)); printf("%d\n", value);
    CALL(tcflush(slave, TCIFLUSH));
    YES(!readable(slave));
    CALL(ioctl(slave, FIONREAD, &value)); printf("%d\n", value);
    if (write(master, "new\n", 4) != 4) printf("short\n");
    settle();
    show("after", buffer, read(slave, buffer, 100));
    if (write(master, "ab\x04" "cd\n", 6) != 6) printf("short\n");
    settle();
    CALL(ioctl(slave, FIONREAD, &value)); printf("%d\n", value);
    struct termios now;
    tcgetattr(slave, &now);
    CALL(tcsetattr(slave, TCSAFLUSH, &now));
    YES(!readable(slave));
    CALL(write(slave, "output", 6));
    settle_output();
    CALL(ioctl(master, FIONREAD, &value)); printf("%d\n", value);
    CALL(tcflush(master, TCIFLUSH));
    YES(!readable(master));

    title("stop and start by calls");
    nonblocking(slave, 1);
    CALL(tcflow(slave, TCOOFF));
    CALL(write(slave, "x", 1));
    CALL(tcflow(slave, TCOON));
    CALL(write(slave, "x", 1));
    CALL(tcflow(slave, TCIOFF));
    CALL(tcflow(slave, TCION));
    show("flow", buffer, get(master, buffer, 100));
    nonblocking(slave, 0);
    title("Ctrl-S and Ctrl-Q");
    if (write(master, "\x13", 1) != 1) printf("short\n");
    settle();
    struct pollfd out = {slave, POLLOUT, 0};
    for (int i = 0; i < 200 && poll(&out, 1, 0) == 1; i++) usleep(1000);
    printf("writable: %d\n", poll(&out, 1, 0));
    nonblocking(slave, 1);
    CALL(write(slave, "held", 4));
    nonblocking(slave, 0);
    if (write(master, "\x11", 1) != 1) printf("short\n");
    printf("writable: %d\n", poll(&out, 1, 5000));
    CALL(write(slave, "goes", 4));
    show("out", buffer, get(master, buffer, 100));
}

int main(void)
{
    alarm(60);
    canonical();
    raw();
    output();
    settings();
    flushing();
    return 0;
}
