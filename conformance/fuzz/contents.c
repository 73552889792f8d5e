/* Random operations on the contents of two files, checked against a model in memory (after Apple's and Linux's fsx).
 *
 *   contents DIRECTORY SEED OPERATIONS alone|turns|together
 *
 * alone: one process. turns: two processes that take turns, each with descriptors and mappings of its own: what one does the
 * other must see. together: two processes at once, each on stripes of its own (of bytes, not pages) of the same file.
 * With CLEAN_TAILS nothing is written behind the end of a file in its last page: Linux's tmpfs shows that when the file grows.
 * Prints one line at the end; on a difference the operations before it, and exits with 1. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define MOST (6ul << 20)
#define FILES 2
#define LOGGED 60
#define RW (PROT_READ | PROT_WRITE)

/* What both processes share: the model, the state of the random numbers, and the log of what was done. */
static struct shared {
    uint64_t random;
    size_t most, size[FILES];
    unsigned long operation;
    char log[LOGGED][160];
    unsigned char model[FILES][MOST];
} *state;
static const char *directory;
static int who;
static unsigned char *buffer;

static uint64_t randomly(void) {
    state->random = state->random * 6364136223846793005u + 1442695040888963407u;
    uint64_t x = state->random;
    x ^= x >> 29; x *= 0xbf58476d1ce4e5b9u; x ^= x >> 32;
    return x;
}
static size_t below(size_t n) { return n == 0 ? 0 : randomly() % n; }
static int one_in(int n) { return below(n) == 0; }

static void note(const char *format, ...) {
    char *line = state->log[state->operation % LOGGED];
    int at = snprintf(line, 160, "%lu by %d: ", state->operation, who);
    va_list list;
    va_start(list, format);
    vsnprintf(line + at, 160 - at, format, list);
    va_end(list);
    if (getenv("VERBOSE")) fprintf(stderr, "%s\n", line);
}

static _Noreturn void differs(const char *format, ...) {
    int error = errno;
    for (unsigned long i = state->operation > LOGGED - 1 ? state->operation - (LOGGED - 1) : 0; i <= state->operation; i++)
        printf("%s\n", state->log[i % LOGGED]);
    va_list list;
    va_start(list, format);
    printf("DIFFERS: "), vprintf(format, list), printf(" (errno %d)\n", error);
    va_end(list);
    fflush(stdout);
    _exit(1);
}

static sigjmp_buf back;
static volatile sig_atomic_t expected;
static void caught(int number) {
    if (expected) siglongjmp(back, number);
    signal(number, SIG_DFL), raise(number);
}
/* What reading (or writing back) a byte leads to: a signal or 0. */
static int touch(volatile unsigned char *at, int write) {
    int number = sigsetjmp(back, 1);
    expected = 1;
    if (number == 0) { unsigned char c = *at; if (write) *at = c; }
    expected = 0;
    return number;
}

/* Each process: descriptors of each file, and long-lived mappings. */
static struct file {
    char path[256];
    int fd, other, append;
    /* A shared mapping and a private one: at, offset and length, and of the private one which pages are its own. */
    unsigned char *map;
    size_t offset, length;
    unsigned char *own;
    size_t own_offset, own_length;
    unsigned char *copy, *copied;
} files[FILES];

static int opened(const char *path, int flags) {
    int fd = open(path, flags, 0644);
    if (fd < 0) differs("open %s", path);
    return fd;
}
static void open_files(void) {
    for (int i = 0; i < FILES; i++) {
        struct file *f = &files[i];
        f->fd = opened(f->path, O_RDWR | O_CREAT);
        f->other = opened(f->path, O_RDWR);
        f->append = opened(f->path, O_WRONLY | O_APPEND);
    }
}
static int any_fd(struct file *f) { return one_in(2) ? f->fd : f->other; }

static size_t rounded(size_t n) { return (n + PAGE - 1) & -PAGE; }
static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
static size_t some_offset(int i) {
    size_t at = one_in(4) ? below(state->most) : below(state->size[i] + 1);
    if (one_in(3)) at &= -PAGE;
    return at;
}
static size_t some_length(size_t at) {
    static const size_t lengths[] = {1, 16, 512, PAGE, 3 * PAGE, 64 << 10, 1 << 20, MOST};
    size_t n = 1 + below(lengths[below(one_in(8) ? 8 : 6)]);
    if (one_in(3)) n = rounded(n);
    return smaller(n, state->most - at);
}
static void fill(unsigned char *at, size_t n) {
    unsigned char start = randomly() | 1;
    for (size_t i = 0; i < n; i++) at[i] = start + i * 31 + (i >> 8);
}

static void same(const char *what, const unsigned char *got, const unsigned char *want, size_t n, size_t at) {
    if (memcmp(got, want, n) == 0) return;
    size_t i = 0, bad = 0;
    while (got[i] == want[i]) i++;
    for (size_t j = i; j < n; j++) bad += got[j] != want[j];
    differs("%s: byte %#zx is %02x, not %02x; %zu of %zu bytes differ", what, at + i, got[i], want[i], bad, n);
}

static void grown(int i, size_t end) { if (end > state->size[i]) state->size[i] = end; }
static void modelled_write(int i, size_t at, const unsigned char *bytes, size_t n) {
    memcpy(state->model[i] + at, bytes, n);
    grown(i, at + n);
}
static void modelled_size(int i, size_t size) {
    if (size < state->size[i]) memset(state->model[i] + size, 0, state->size[i] - size);
    state->size[i] = size;
}

static void do_read(int i) {
    size_t at = some_offset(i), n = some_length(at), want = at >= state->size[i] ? 0 : smaller(n, state->size[i] - at);
    int fd = any_fd(&files[i]), kind = below(3);
    note("read %d at %#zx + %#zx, kind %d", i, at, n, kind);
    ssize_t got;
    struct iovec v[3] = {{buffer, n / 3}, {buffer + n / 3, n / 5}, {buffer + n / 3 + n / 5, n - n / 3 - n / 5}};
    if (kind == 0) got = pread(fd, buffer, n, at);
    else if (kind == 1) got = preadv(fd, v, 3, at);
    else lseek(fd, at, SEEK_SET), got = read(fd, buffer, n);
    if (got != (ssize_t)want) differs("read %zd, not %zu", got, want);
    same("read", buffer, state->model[i] + at, want, at);
}

static void do_write(int i) {
    size_t at = some_offset(i), n = some_length(at);
    int fd = any_fd(&files[i]), kind = below(4);
    fill(buffer, n);
    struct iovec v[3] = {{buffer, n / 3}, {buffer + n / 3, n / 5}, {buffer + n / 3 + n / 5, n - n / 3 - n / 5}};
    if (kind == 3) at = state->size[i], n = smaller(n, state->most - at);
    note("write %d at %#zx + %#zx, kind %d", i, at, n, kind);
    ssize_t done;
    if (kind == 0) done = pwrite(fd, buffer, n, at);
    else if (kind == 1) done = pwritev(fd, v, 3, at);
    else if (kind == 2) lseek(fd, at, SEEK_SET), done = write(fd, buffer, n);
    else done = write(files[i].append, buffer, n);
    if (done != (ssize_t)n) differs("wrote %zd, not %zu", done, n);
    if (n > 0) modelled_write(i, at, buffer, n);
}

/* Linux unmaps what lies behind the end, own copies of private mappings too. */
static void forget_copies(struct file *f, size_t from, size_t end) {
    for (size_t p = 0; f->own && p < f->own_length; p += PAGE)
        if (f->own_offset + p >= from && f->own_offset + p < end) f->copied[p / PAGE] = 0;
}
/* From where on each file was cut since the turn began. */
static size_t cut[FILES];
static void was_cut(int i, size_t from) {
    cut[i] = smaller(cut[i], from), forget_copies(&files[i], from, -1);
}

static void do_truncate(int i) {
    size_t size = one_in(10) ? 0 : one_in(2) ? below(state->most) : below(state->size[i] + 2 * PAGE) % state->most;
    int kind = below(3);
    note("truncate %d to %#zx, kind %d", i, size, kind);
    int r = kind == 0 ? truncate(files[i].path, size) : ftruncate(kind == 1 ? files[i].fd : files[i].other, size);
    if (r) differs("truncate");
    if (size < state->size[i]) was_cut(i, rounded(size));
    modelled_size(i, size);
}

static void do_open_truncate(int i) {
    note("open %d with O_TRUNC", i);
    close(opened(files[i].path, O_WRONLY | O_TRUNC));
    was_cut(i, 0);
    modelled_size(i, 0);
}

/* A mapping for the moment. */
static void do_map(int i) {
    size_t at = below(smaller(state->size[i] + 1, state->most)) & -PAGE, n = some_length(at);
    int write = one_in(2);
    size_t inside = at >= state->size[i] ? 0 : smaller(n, state->size[i] - at);
    note("%s %d mapped at %#zx + %#zx", write ? "write" : "read", i, at, n);
    unsigned char *p = mmap(NULL, n, write ? RW : PROT_READ, MAP_SHARED, any_fd(&files[i]), at);
    if (p == MAP_FAILED) differs("mmap");
    same("mapped", p, state->model[i] + at, inside, at);
    if (write && inside > 0) {
        size_t from = below(inside), m = 1 + below(inside - from);
        note("write %d mapped at %#zx + %#zx", i, at + from, m);
        fill(p + from, m);
        memcpy(state->model[i] + at + from, p + from, m);
        /* Behind the end, in the last page: nobody may ever see it in the file. */
        if (at + inside == state->size[i] && one_in(4) && !getenv("CLEAN_TAILS")) memset(p + inside, 0xee, rounded(inside) - inside);
        if (one_in(3) && msync(p, n, one_in(2) ? MS_SYNC : MS_ASYNC)) differs("msync");
    }
    if (rounded(inside) < n && touch(p + rounded(inside), write) != SIGBUS) differs("no SIGBUS behind the end");
    munmap(p, n);
}

/* The long-lived shared mapping: made anew, moved, resized, read or written. */
static void do_keep_map(int i) {
    struct file *f = &files[i];
    if (f->map == NULL || one_in(20)) {
        if (f->map) munmap(f->map, f->length);
        f->offset = below(state->most) & -PAGE, f->length = rounded(some_length(f->offset));
        note("keep %d mapped at %#zx + %#zx", i, f->offset, f->length);
        f->map = mmap(NULL, f->length, RW, MAP_SHARED, f->fd, f->offset);
        if (f->map == MAP_FAILED) differs("mmap");
    } else if (one_in(8)) {
        size_t n = rounded(some_length(f->offset));
        note("keep %d mapped at %#zx + %#zx, %#zx before", i, f->offset, n, f->length);
        f->map = mremap(f->map, f->length, n, MREMAP_MAYMOVE);
        if (f->map == MAP_FAILED) differs("mremap");
        f->length = n;
    } else if (one_in(8)) {
        static const int advice[] = {MADV_DONTNEED, MADV_WILLNEED, MADV_COLD, MADV_PAGEOUT, MADV_SEQUENTIAL, MADV_NORMAL, MADV_REMOVE};
        int k = below(7);
        size_t from = below(f->length) & -PAGE, n = rounded(1 + below(f->length - from));
        /* These two split areas, and mremap(2) takes one alone. */
        if (k == 4 || k == 5) from = 0, n = f->length;
        note("advice %d on kept %d at %#zx + %#zx", advice[k], i, f->offset + from, n);
        if (madvise(f->map + from, n, advice[k])) { if (advice[k] == MADV_REMOVE) return; differs("madvise"); }
        size_t start = f->offset + from;
        if (advice[k] == MADV_REMOVE && start < state->size[i])
            memset(state->model[i] + start, 0, smaller(n, state->size[i] - start));
        return;
    }
    size_t inside = state->size[i] <= f->offset ? 0 : smaller(f->length, state->size[i] - f->offset);
    if (inside > 0 && one_in(2)) {
        size_t from = below(inside), n = 1 + below(smaller(inside - from, 8 * PAGE));
        note("write kept %d at %#zx + %#zx", i, f->offset + from, n);
        fill(f->map + from, n);
        memcpy(state->model[i] + f->offset + from, f->map + from, n);
    } else {
        note("read kept %d at %#zx + %#zx", i, f->offset, inside);
        same("kept mapping", f->map, state->model[i] + f->offset, inside, f->offset);
    }
    if (rounded(inside) < f->length) {
        size_t from = rounded(inside) + below(f->length - rounded(inside));
        note("touch kept %d at %#zx", i, f->offset + from);
        if (touch(f->map + from, one_in(2)) != SIGBUS) differs("no SIGBUS at %#zx of a kept mapping", f->offset + from);
    }
}

/* The long-lived private mapping: what it has not written itself is the file's. */
static void do_keep_private(int i) {
    struct file *f = &files[i];
    if (f->own == NULL || one_in(20)) {
        if (f->own) munmap(f->own, f->own_length), free(f->copy), free(f->copied);
        f->own_offset = below(one_in(4) ? state->most : smaller(state->size[i] + 1, state->most)) & -PAGE, f->own_length = rounded(some_length(f->own_offset));
        note("keep %d mapped privately at %#zx + %#zx", i, f->own_offset, f->own_length);
        f->own = mmap(NULL, f->own_length, RW, MAP_PRIVATE, f->fd, f->own_offset);
        if (f->own == MAP_FAILED) differs("mmap");
        f->copy = malloc(f->own_length), f->copied = calloc(f->own_length / PAGE, 1);
    }
    size_t inside = state->size[i] <= f->own_offset ? 0 : smaller(f->own_length, state->size[i] - f->own_offset);
    size_t page = (below(f->own_length)) & -PAGE;
    size_t n = page >= inside ? 0 : smaller(PAGE, inside - page);
    unsigned char *model = state->model[i] + f->own_offset + page;
    note("private page %#zx of %d%s", f->own_offset + page, i, f->copied[page / PAGE] ? ", own" : "");
    if (f->copied[page / PAGE]) {
        same("own page", f->own + page, f->copy + page, PAGE, f->own_offset + page);
    } else if (n == 0) {
        if (touch(f->own + page, one_in(2)) != SIGBUS) differs("no SIGBUS at %#zx of a private mapping", f->own_offset + page);
        return;
    } else {
        same("private mapping", f->own + page, model, n, f->own_offset + page);
    }
    if (one_in(3)) {
        note("write private page %#zx of %d", f->own_offset + page, i);
        fill(f->own + page, 1 + below(PAGE));
        memcpy(f->copy + page, f->own + page, PAGE);
        f->copied[page / PAGE] = 1;
    } else if (one_in(6)) {
        note("drop private page %#zx of %d", f->own_offset + page, i);
        if (madvise(f->own + page, PAGE, MADV_DONTNEED)) differs("madvise");
        f->copied[page / PAGE] = 0;
    }
}

static void do_allocate(int i) {
    static const int modes[] = {0, 1, 3, 0x10, 0x11, 0x08, 0x20, 0x41, 0x40};
    int mode = modes[below(9)];
    size_t at = some_offset(i), n = some_length(at), size = state->size[i];
    if (mode == 0x08 || mode == 0x20) at &= -PAGE, n = rounded(n);
    if (mode == 0x20 && size + n > state->most) return;
    if (n == 0 || (mode != 0x20 && at + n > state->most)) return;
    note("fallocate %d mode %#x at %#zx + %#zx, size %#zx", i, mode, at, n, size);
    if (fallocate(any_fd(&files[i]), mode, at, n)) {
        if (errno == EOPNOTSUPP) return;
        if (errno == EINVAL && (mode == 0x20 ? at >= size : mode == 0x08 && at + n >= size)) return;
        differs("fallocate");
    }
    if ((mode == 0x08 && at + n >= size) || (mode == 0x20 && at >= size)) differs("fallocate took what is at the end");
    unsigned char *model = state->model[i];
    if (mode == 3 || mode == 0x10 || mode == 0x11)
        if (at < size) memset(model + at, 0, smaller(n, size - at));
    if (mode == 0 || mode == 0x10 || mode == 0x40) grown(i, at + n);
    if (mode == 0x08) {
        memmove(model + at, model + at + n, size - at - n), memset(model + size - n, 0, n);
        state->size[i] = size - n;
    }
    if (mode == 0x20) memmove(model + at + n, model + at, size - at), memset(model + at, 0, n), state->size[i] += n;
    if (mode == 0x08 || mode == 0x20) was_cut(i, at);
}

/* Holes may be given coarsely or not at all, but nothing but zeros lies in one. */
static void do_seek(int i) {
    size_t at = some_offset(i), size = state->size[i];
    int hole = one_in(2), fd = any_fd(&files[i]);
    note("seek %s in %d from %#zx", hole ? "hole" : "data", i, at);
    off_t to = lseek(fd, at, hole ? SEEK_HOLE : SEEK_DATA);
    if (at >= size) {
        if (to != -1 || errno != ENXIO) differs("%ld behind the end", (long)to);
        return;
    }
    if (to == -1 && (hole || errno != ENXIO)) differs("seek");
    if (to != -1 && (to < (off_t)at || to > (off_t)size || (!hole && to == (off_t)size))) differs("to %#lx", (long)to);
    if (hole) return;
    for (size_t k = at; k < (to == -1 ? size : (size_t)to); k++)
        if (state->model[i][k]) differs("data at %#zx is said to be in a hole", k);
}

static void do_copy(int i) {
    int j = one_in(2) ? i : 1 - i, kind = below(3);
    size_t from = some_offset(i), to = some_offset(j), n = some_length(from > to ? from : to);
    size_t left = from >= state->size[i] ? 0 : state->size[i] - from, want = smaller(n, left);
    if (i == j) {
        /* Overlapping ranges are refused by one and undefined with the others. */
        size_t apart = from > to ? from - to : to - from;
        /* Nor may it go on with what it has just appended. */
        n = smaller(smaller(n, apart), left), want = n;
        if (n == 0) return;
    }
    note("copy %d at %#zx to %d at %#zx + %#zx, kind %d", i, from, j, to, n, kind);
    off_t in = from, out = to;
    ssize_t done = 0, more = 1;
    int pipes[2];
    if (kind == 2) { if (pipe(pipes)) differs("pipe"); n = smaller(n, 16 * PAGE), want = smaller(want, n); }
    lseek(files[j].fd, to, SEEK_SET);
    while (done < (ssize_t)n && more > 0) {
        if (kind == 0) more = copy_file_range(files[i].other, &in, files[j].fd, &out, n - done, 0);
        else if (kind == 1) more = sendfile(files[j].fd, files[i].other, &in, n - done);
        else {
            more = splice(files[i].other, &in, pipes[1], NULL, smaller(n - done, 4 * PAGE), 0);
            for (ssize_t put = 0; more > 0 && put < more;) {
                ssize_t step = splice(pipes[0], NULL, files[j].fd, &out, more - put, 0);
                if (step <= 0) differs("splice");
                put += step;
            }
        }
        if (more < 0) differs("copy");
        done += more;
    }
    if (kind == 2) close(pipes[0]), close(pipes[1]);
    if (done != (ssize_t)want) differs("copied %zd, not %zu", done, want);
    if (want > 0) memcpy(buffer, state->model[i] + from, want), modelled_write(j, to, buffer, want);
}

static void do_check(int i) {
    struct stat st;
    note("check %d", i);
    if (fstat(files[i].fd, &st) || st.st_size != (off_t)state->size[i]) differs("size %#lx, not %#zx", (long)st.st_size, state->size[i]);
    if (stat(files[i].path, &st) || st.st_size != (off_t)state->size[i]) differs("size %#lx, not %#zx", (long)st.st_size, state->size[i]);
    ssize_t got = pread(files[i].fd, buffer, MOST, 0);
    if (got != (ssize_t)state->size[i]) differs("read %zd, not %zu", got, state->size[i]);
    same("whole file", buffer, state->model[i], got, 0);
}

static void do_other(int i) {
    struct file *f = &files[i];
    int kind = below(4);
    note("other %d on %d", kind, i);
    if (kind == 0 && fsync(f->fd)) differs("fsync");
    if (kind == 1 && fdatasync(f->other)) differs("fdatasync");
    if (kind == 2) {
        int fd = opened(f->path, O_RDWR);
        if (dup2(fd, f->fd) < 0) differs("dup2");
        close(fd);
    }
    if (kind == 3) {
        /* A child's view: shared mappings are shared, private ones copied. */
        pid_t child = fork();
        if (child == 0) {
            size_t inside = state->size[i] <= f->offset || !f->map ? 0 : smaller(f->length, state->size[i] - f->offset);
            if (inside > 0) same("child's mapping", f->map, state->model[i] + f->offset, inside, f->offset);
            if (inside > 0) {
                size_t at = below(inside);
                f->map[at] = state->model[i][f->offset + at] = randomly();
            }
            for (size_t p = 0; f->own && p < f->own_length; p += PAGE)
                if (f->copied[p / PAGE]) same("child's own page", f->own + p, f->copy + p, PAGE, f->own_offset + p);
            _exit(0);
        }
        int status = -1;
        if (waitpid(child, &status, 0) != child || status != 0) differs("child: %d", status);
    }
}

static void one_operation(void) {
    int i = below(FILES), k = below(100);
    if (k < 16) do_read(i);
    else if (k < 34) do_write(i);
    else if (k < 42) do_truncate(i);
    else if (k < 43) do_open_truncate(i);
    else if (k < 55) do_map(i);
    else if (k < 65) do_keep_map(i);
    else if (k < 75) do_keep_private(i);
    else if (k < 83) do_allocate(i);
    else if (k < 87) do_seek(i);
    else if (k < 93) do_copy(i);
    else if (k < 97) do_check(i);
    else do_other(i);
    state->operation++;
}

/* Two processes that take turns: a byte in a pipe is the turn, and says from where on each file was cut. */
static void take_turns(unsigned long operations) {
    int to[2][2];
    if (pipe(to[0]) || pipe(to[1])) differs("pipe");
    pid_t child = fork();
    who = child == 0;
    int in = to[who][0], out = to[1 - who][1];
    close(to[who][1]), close(to[1 - who][0]);
    open_files();
    if (who == 0 && write(out, cut, sizeof cut) != sizeof cut) differs("pass");
    for (;;) {
        size_t gone[FILES];
        ssize_t got = read(in, gone, sizeof gone);
        if (got == 0) break;
        if (got != sizeof gone) differs("turn");
        for (int i = 0; i < FILES; i++) forget_copies(&files[i], gone[i], -1);
        if (state->operation >= operations) break;
        memset(cut, 0xff, sizeof cut);
        for (int n = 1 + below(3); n > 0; n--) one_operation();
        if (write(out, cut, sizeof cut) != sizeof cut && errno != EPIPE) differs("pass");
    }
    close(in), close(out);
    if (who) _exit(0);
    int status = -1;
    if (waitpid(child, &status, 0) != child || status != 0) differs("the other ended with %#x", status);
}

/* Two processes at once: bytes of stripe k belong to process k % 2. */
static void work_together(unsigned long operations) {
    size_t stripe = 700 + below(9000), size = state->most;
    struct file *f = &files[0];
    unsigned char *model = state->model[0];
    open_files();
    if (ftruncate(f->fd, 0) || ftruncate(f->fd, size)) differs("ftruncate");
    memset(model, 0, MOST), state->size[0] = size;
    uint64_t seed = state->random;
    pid_t child = fork();
    who = child == 0;
    /* A log and random numbers of one's own, the model stays common. */
    struct shared *own = mmap(NULL, sizeof *own, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    own->random = seed * 2 + who + 1, own->most = size, own->size[0] = size;
    state = own;
    open_files();
    unsigned char *map = mmap(NULL, size, RW, MAP_SHARED, f->fd, 0);
    if (map == MAP_FAILED) differs("mmap");
    for (; state->operation < operations; state->operation++) {
        size_t stripes = size / stripe, k = (below(stripes) & ~1ul) + who, start = k * stripe;
        if (start + stripe > size) continue;
        size_t from = start + below(stripe), n = 1 + below(start + stripe - from), other = ((below(stripes) & ~1ul) + who) * stripe;
        int kind = below(9), fd = any_fd(f);
        note("kind %d at %#zx + %#zx", kind, from, n);
        if (kind == 0) {
            if (pread(fd, buffer, n, from) != (ssize_t)n) differs("read");
            same("read", buffer, model + from, n, from);
        } else if (kind == 1) {
            same("mapped", map + from, model + from, n, from);
        } else if (kind < 4) {
            fill(buffer, n), memcpy(model + from, buffer, n);
            if (pwrite(fd, buffer, n, from) != (ssize_t)n) differs("write");
        } else if (kind == 4) {
            fill(buffer, n), memcpy(model + from, buffer, n), memcpy(map + from, buffer, n);
        } else if (kind == 5) {
            if (fallocate(fd, one_in(2) ? 3 : 0x11, from, n)) { if (errno == EOPNOTSUPP) continue; differs("fallocate"); }
            memset(model + from, 0, n);
        } else if (kind == 6 && other != start && other + stripe <= size) {
            size_t to = other + (from - start);
            off_t in = from, out = to;
            for (size_t done = 0; done < n;) {
                ssize_t step = copy_file_range(f->fd, &in, f->other, &out, n - done, 0);
                if (step <= 0) differs("copy");
                done += step;
            }
            memcpy(model + to, model + from, n);
        } else if (kind == 7 && one_in(30)) {
            munmap(map, size), map = mmap(NULL, size, RW, MAP_SHARED, f->other, 0);
            if (map == MAP_FAILED) differs("mmap");
        } else if (kind == 8 && one_in(30)) {
            close(f->fd), f->fd = opened(f->path, O_RDWR);
        }
    }
    if (who) _exit(0);
    int status = -1;
    if (waitpid(child, &status, 0) != child || status != 0) differs("the other ended with %#x", status);
    if (pread(f->fd, buffer, size, 0) != (ssize_t)size) differs("read");
    same("at the end", buffer, model, size, 0);
}

int main(int count, char **arguments) {
    if (count != 5) return 2;
    directory = arguments[1];
    state = mmap(NULL, sizeof *state, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    buffer = malloc(MOST);
    state->random = strtoull(arguments[2], NULL, 0) * 0x9e3779b97f4a7c15u + 1;
    unsigned long operations = strtoul(arguments[3], NULL, 0);
    static const size_t most[] = {5 * PAGE + 77, 64 << 10, 256 << 10, 1 << 20, MOST};
    for (int i = 0; i < 5; i++) randomly();
    state->most = most[below(5)];
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    signal(SIGPIPE, SIG_IGN);
    struct sigaction action = {.sa_handler = caught, .sa_flags = SA_NODEFER};
    sigaction(SIGBUS, &action, NULL), sigaction(SIGSEGV, &action, NULL);
    for (int i = 0; i < FILES; i++) {
        snprintf(files[i].path, sizeof files[i].path, "%s/f%d", directory, i);
        /* What is there already is where it begins: a file of the lower tree of an overlay. */
        int fd = open(files[i].path, O_RDONLY);
        if (fd < 0) continue;
        ssize_t got = read(fd, state->model[i], state->most);
        state->size[i] = got < 0 ? 0 : got;
        close(fd);
        if (truncate(files[i].path, state->size[i])) differs("truncate");
    }
    if (strcmp(arguments[4], "turns") == 0) take_turns(operations);
    else if (strcmp(arguments[4], "together") == 0) work_together(operations);
    else {
        open_files();
        while (state->operation < operations) one_operation();
    }
    printf("contents %s: no difference\n", arguments[4]);
    return 0;
}
