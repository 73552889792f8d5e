/* pages DAMAGE files|execve SECRET: damages what the kernel keeps in this address space, then asks for the host's files, or for a
 * program of the host. */
#include "takeover.h"

static void code(unsigned char *at, const char *bytes, long length) {
    for (long i = 0; i < length; i++) at[i] = bytes[i];
}

static void damage(const char *what) {
    unsigned long page = (unsigned long)gadget;
    if (is(what, "gadget_mapped_over")) {
        HOST(SYS_mmap, page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        /* The instruction behind the call is gone with the page: this never comes back. */
        escaped("a call came back to a page of zeros");
    } else if (is(what, "gadget_rewritten")) {
        HOST(SYS_mprotect, page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
        code(gadget + 2048, "\x0f\x05\xc3", 3);
        gadget += 2048;
    } else if (is(what, "gadget_aliased")) {
        /* A second copy, at an address that the filter does not know. */
        unsigned char *copy = (void *)HOST(SYS_mmap, base - 16 * GIB, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        code(copy, "\x0f\x05\xc3", 3);
        gadget = copy;
    } else if (is(what, "gadget_moved")) {
        unsigned long to = base + 63 * GIB;
        HOST(SYS_mremap, page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
        gadget = (unsigned char *)to;
    } else if (is(what, "gadget_unmapped")) {
        HOST(SYS_munmap, page, PAGE);
    } else if (is(what, "gadget_dropped")) {
        HOST(SYS_madvise, page, PAGE, MADV_DONTNEED);
    } else if (is(what, "thread_block")) {
        memset((void *)block, 0x41, 1024);
    } else if (is(what, "kernel_stack")) {
        for (unsigned long at = block - 64 * 1024; at < block; at += 8) *(volatile unsigned long *)at = (unsigned long)gadget;
    } else if (is(what, "alternate_stack")) {
        long off[3] = { 0, 2 /* SS_DISABLE */, 0 };
        HOST(SYS_sigaltstack, off, 0);
    } else if (is(what, "handler")) {
        /* The handler's code and all other code of the image: return at once. */
        for (unsigned long at = base; at < base + (4ul << 20); at += PAGE)
            if (at != page && HOST(SYS_mprotect, at, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0) memset((void *)at, 0xc3, PAGE);
    } else if (is(what, "heap")) {
        /* Every kernel object: tasks, file tables, inodes. */
        static unsigned char resident[1 << 18];
        if (HOST(SYS_mincore, base + HEAP, GIB, resident) == 0)
            for (unsigned long i = 0; i < sizeof resident; i++)
                if (resident[i] & 1) memset((void *)(base + HEAP + i * PAGE), 0, PAGE);
    } else if (is(what, "file_table")) {
        /* Every small number in the heap that could be a host descriptor becomes the root's, and the other way round. */
        static unsigned char resident[1 << 18];
        if (HOST(SYS_mincore, base + HEAP, GIB, resident) == 0)
            for (unsigned long i = 0; i < sizeof resident; i++)
                for (unsigned at = 0; (resident[i] & 1) && at < PAGE; at += 4) {
                    volatile int *word = (int *)(base + HEAP + i * PAGE + at);
                    if (*word > 2 && *word < 16) *word = 19 - *word;
                }
    } else if (is(what, "trampolines")) {
        /* They lie 1 to 2 GiB from the code that they serve. */
        for (unsigned long i = 0; i < 5; i++) {
            unsigned long at = ((unsigned long)write & ~0xfffful) - GIB - i * 0x10000;
            HOST(SYS_mprotect, at, 0x10000, PROT_READ | PROT_WRITE | PROT_EXEC);
            HOST(SYS_mmap, at, 0x10000, PROT_READ | PROT_EXEC, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        }
    } else {
        exit(2);
    }
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    take_over();
    trying();
    damage(argv[1]);
    if (is(argv[2], "files")) {
        const char *const paths[] = { argv[3], "/etc/shadow", "/proc/self/root/etc/shadow", "../../../../etc/shadow" };
        for (int i = 0; i < 4; i++) {
            char text[64] = "";
            long fd = HOST(SYS_openat, AT_FDCWD, paths[i], 0);
            if (fd >= 0 && fd < 1024 && HOST(SYS_read, fd, text, sizeof text - 1) > 0) escaped("read %s: %s", paths[i], text);
            int ours = open(paths[i], O_RDONLY);
            if (ours >= 0 && read(ours, text, sizeof text - 1) > 0) escaped("our kernel read %s: %s", paths[i], text);
        }
        held();
    } else {
        const char *const arguments[] = { "/usr/bin/id", NULL };
        long result = HOST(SYS_execve, arguments[0], arguments, arguments + 1);
        /* A copy of the gadget traps, and then our own kernel may run the program. */
        if (!is(argv[1], "gadget_aliased")) escaped("execve came back with %ld", result);
    }
    HOST(SYS_exit_group, 0);
    return 0;
}
