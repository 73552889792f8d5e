/* What a new program finds: arguments, environment, auxiliary vector, stack layout; and scripts, however deep. */
#include "report.h"
#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

static void vector(char **argv) {
    char **end = environ;
    while (*end) end++;
    ElfW(auxv_t) *entry = (void *)(end + 1);
    unsigned long string = (unsigned long)argv[0];
    printf("%% 16 of the vector: %lu\n", (unsigned long)(argv - 1) % 16);
    for (; entry->a_type != AT_NULL; entry++) {
        unsigned long value = entry->a_un.a_val;
        switch (entry->a_type) {
        case AT_PAGESZ: case AT_CLKTCK: case AT_PHENT: case AT_PHNUM: case AT_FLAGS: case AT_UID: case AT_EUID: case AT_GID: case AT_EGID: case AT_SECURE: case AT_HWCAP: case AT_MINSIGSTKSZ:
            printf("aux %lu: %lu\n", (unsigned long)entry->a_type, value);
            break;
        case AT_EXECFN: case AT_PLATFORM:
            printf("aux %lu: %s\n", (unsigned long)entry->a_type,
                entry->a_type == AT_EXECFN ? strrchr((char *)value, '/') : (char *)value);
            break;
        case AT_RANDOM:
            printf("aux %lu: on the stack above the vector: %d\n", (unsigned long)entry->a_type,
                value > (unsigned long)entry && value < string);
            break;
        case AT_BASE: case AT_SYSINFO_EHDR: case AT_ENTRY: case AT_PHDR:
            printf("aux %lu: there: %d, page offset %lu\n", (unsigned long)entry->a_type, value != 0,
                entry->a_type == AT_ENTRY ? 0 : value % 4096);
            break;
        /* Restartable sequences, and what the kernel itself keeps from programs. */
        case 27: case 28: case AT_HWCAP2:
            break;
        default:
            printf("aux %lu\n", (unsigned long)entry->a_type);
        }
    }
    printf("strings in order: %d\n", argv[0] < environ[0] && environ[0] < (char *)getauxval(AT_EXECFN));
    printf("the name ends 8 bytes before the stack's end: ");
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned long low, high, top = 0;
    while (fgets(line, sizeof line, maps)) if (strstr(line, "[stack]") && sscanf(line, "%lx-%lx", &low, &high) == 2) top = high;
    fclose(maps);
    char *name = (char *)getauxval(AT_EXECFN);
    printf("%ld\n", (long)(top - (unsigned long)(name + strlen(name) + 1)));
}

/* Runs a program; its status. */
static void run(const char *path, char *const *arguments, char *const *variables) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        execve(path, arguments, variables);
        int error = errno;
        printf("execve: %s\n", strerrorname_np(error)), fflush(stdout);
        _exit(111);
    }
    int status;
    waitpid(child, &status, 0);
    printf("%s: %s %d\n", path > (char *)4096 && strrchr(path, '/') ? strrchr(path, '/') : "",
        WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}
static void put(const char *path, const char *text, int mode) {
    int f = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (write(f, text, strlen(text)) < 0) perror(path);
    close(f);
    chmod(path, mode);
}

static char self[PATH_MAX];
#define RUN(path, ...) run(path, (char *[]){__VA_ARGS__, NULL}, (char *[]){"ONE=1", NULL})
static void programs(void) {
    RUN(self, "zeroth", "show", "", "two words");
    run(self, (char *[]){"zeroth", "show", NULL}, (char *[]){NULL});
    run(self, (char *[]){NULL}, (char *[]){"ONE=1", NULL});
    run(self, NULL, NULL);
    RUN("missing", "x"), RUN("", "x"), RUN(".", "x"), RUN("/etc/passwd", "x"), RUN("/etc/passwd/x", "x"), RUN("/dev/null", "x");
    put("empty", "", 0755), RUN("./empty", "x");
    put("text", "echo no\n", 0755), RUN("./text", "x");
    put("unreadable", "#!/bin/sh\n", 0111), RUN("./unreadable", "x");
    put("not_executable", "#!/bin/sh\n", 0644), RUN("./not_executable", "x");
    put("short", "\177ELF", 0755), RUN("./short", "x");
    put("other_machine", "\177ELF\2\1\1", 0755), RUN("./other_machine", "x");
    symlink("loop", "loop"), RUN("./loop", "x");
    mkdir("shut", 0755), put("shut/inner", "#!/bin/sh\nexit 3\n", 0755), RUN("./shut/inner", "x");
    int f = open(self, O_RDONLY);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) fexecve(f, (char *[]){"by descriptor", "show", NULL}, (char *[]){NULL}), _exit(112);
    waitpid(child, NULL, 0);
}

static void scripts(void) {
    char text[5000], name[32];
    snprintf(text, sizeof text, "#!%s show\n", self), put("script", text, 0755), RUN("./script", "zeroth", "a", "b");
    snprintf(text, sizeof text, "#! \t%s  two words here \t \n", self), put("script", text, 0755),
        RUN("./script", "zeroth", "a");
    snprintf(text, sizeof text, "#!%s", self), put("script", text, 0755), RUN("./script", "zeroth", "show");
    snprintf(text, sizeof text, "#!%s show\r\n", self), put("script", text, 0755), RUN("./script", "zeroth");
    put("script", "#!\n", 0755), RUN("./script", "x"), put("script", "#!   \n", 0755), RUN("./script", "x"),
        put("script", "#!missing\n", 0755), RUN("./script", "x"), put("script", "#!.\n", 0755), RUN("./script", "x"),
        put("script", "#!./not_executable\n", 0755), RUN("./script", "x");
    for (int i = 1; i <= 6; i++) {
        snprintf(name, sizeof name, "nested%d", i);
        if (i == 1) snprintf(text, sizeof text, "#!%s show\n", self);
        else snprintf(text, sizeof text, "#!./nested%d level%d\n", i - 1, i);
        put(name, text, 0755), snprintf(name, sizeof name, "./nested%d", i), RUN(name, "zeroth", "last");
    }
    put("itself", "#!./itself\n", 0755), RUN("./itself", "x");
    memset(text, 'a', sizeof text), memcpy(text, "#!/", 3), text[4999] = 0, put("long", text, 0755), RUN("./long", "x");
    snprintf(text, sizeof text, "#!%s ", self), memset(text + strlen(text), 'b', 400), text[600] = 0, put("long", text, 0755),
        RUN("./long", "x", "show");
}

static void limits(void) {
    static char big[(1 << 17) + 10];
    memset(big, 'x', sizeof big - 1);
    RUN(self, "x", "count", big);
    big[(1 << 17) - 1] = 0;
    RUN(self, "x", "count", big);
    static char *many[3000];
    big[1000] = 0;
    for (int i = 0; i < 2999; i++) many[i] = big;
    many[0] = "x", many[1] = "count";
    run(self, many, (char *[]){NULL});
    for (int i = 2; i < 2999; i++) many[i] = "short";
    run(self, many, (char *[]){NULL});
    struct rlimit old, small = {1 << 20, RLIM_INFINITY};
    getrlimit(RLIMIT_STACK, &old), small.rlim_max = old.rlim_max, setrlimit(RLIMIT_STACK, &small);
    for (int i = 2; i < 2999; i++) many[i] = big;
    big[200] = 0, run(self, many, (char *[]){NULL}), setrlimit(RLIMIT_STACK, &old);
    run(self, (char *[]){(char *)1, NULL}, NULL), run(self, (char **)1, NULL), run((char *)1, (char *[]){"x", NULL}, NULL);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "count")) {
        printf("%d arguments, the last of %zu bytes\n", argc, strlen(argv[argc - 1]));
        return 0;
    }
    if (argc > 1 || getenv("ONE") || (strcmp(argv[0], "again") && !strstr(argv[0], "/program"))) {
        printf("%d arguments:", argc);
        for (int i = 0; i < argc; i++) printf(" '%s'", strstr(argv[i], "program") ? "program" : argv[i]);
        printf("; variables:");
        for (char **v = environ; *v; v++) printf(" %s", *v);
        printf("\n");
        return argc;
    }
    self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
    if (strcmp(argv[0], "again")) execve(self, (char *[]){"again", NULL}, (char *[]){"PATH=/usr/bin:/bin", "HOME=/", NULL});
    vector(argv);
    programs();
    scripts();
    limits();
    return 0;
}
