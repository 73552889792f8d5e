/* What is seen of processes and threads that have ended and that nobody has waited for yet. */
#include "report.h"
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const char *const LINES[] = { "Name", "Umask", "State", "FDSize", "VmSize", "VmRSS", "CoreDumping", "Threads" };

static void status(const char *path)
{
    char line[300]; FILE *file = fopen(path, "r");
    if (!file) { printf("status: %s\n", strerrorname_np(errno)); return; }
    while (fgets(line, sizeof line, file))
        for (unsigned i = 0; i < sizeof LINES / sizeof *LINES; i++)
            if (!strncmp(line, LINES[i], strlen(LINES[i]))) printf("%.*s%s", line[0] == 'V' ? 6 : 40, line, line[0] == 'V' ? "\n" : "");
    fclose(file);
}

static int entries(const char *path)
{
    DIR *directory = opendir(path); int count = 0;
    if (!directory) return -1;
    for (struct dirent *entry; (entry = readdir(directory));) count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

static void show(const char *what, int pid, int tid)
{
    static const char *const texts[] = { "cmdline", "environ", "maps", "comm" };
    static const char *const links[] = { "exe", "cwd", "root" };
    char path[100], text[4096];
    printf("-- %s\n", what);
    snprintf(path, sizeof path, "/proc/%d/status", tid); status(path);
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
    FILE *file = fopen(path, "r");
    if (file) { long size = -1; fscanf(file, "%*d %*s %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %*u %ld", text, &size); printf("stat %c, size %s\n", text[0], size ? "some" : "0"); fclose(file); }
    else printf("stat: %s\n", strerrorname_np(errno));
    snprintf(path, sizeof path, "/proc/%d/task", pid); printf("%d threads\n", entries(path));
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "/proc/%d/task/%d/%s", pid, tid, texts[i]);
        int fd = open(path, O_RDONLY); ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text);
        printf("%s: %s\n", texts[i], size < 0 ? strerrorname_np(errno) : size > 0 ? "something" : "nothing");
        close(fd);
    }
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "/proc/%d/task/%d/%s", pid, tid, links[i]);
        printf("%s: %s\n", links[i], readlink(path, text, sizeof text) < 0 ? strerrorname_np(errno) : "somewhere");
    }
    snprintf(path, sizeof path, "/proc/%d/fd", pid); printf("%d descriptors\n", entries(path) > 0);
    CALL(kill(pid, 0));
}

static void *shortly(void *x) { usleep(1000); return x; }
static void *for_ever(void *x) { for (;;) pause(); return x; }

int main(void)
{
    int status, go[2]; unsigned long tid;
    pid_t c = fork();
    if (!c) _exit(3);
    waitid(P_PID, c, NULL, WEXITED | WNOWAIT); show("a process", c, c); waitpid(c, &status, 0); printf("%x\n", status); show("waited for", c, c);

    // The main thread has ended, another has not; a new program takes its place.
    pipe(go); c = fork();
    if (!c) { pthread_t t; pthread_create(&t, NULL, for_ever, NULL); close(go[0]); close(go[1]); pthread_exit(NULL); }
    close(go[1]); read(go[0], &status, 1); usleep(50000); show("a main thread", c, c); kill(c, SIGKILL); waitpid(c, &status, 0); printf("%x\n", status); close(go[0]);

    // A tracee's thread.
    c = fork();
    if (!c) { ptrace(PTRACE_TRACEME); raise(SIGSTOP); pthread_t t; pthread_create(&t, NULL, shortly, NULL); pthread_join(t, NULL); for (;;) pause(); }
    waitpid(c, &status, 0); ptrace(PTRACE_SETOPTIONS, c, NULL, PTRACE_O_TRACECLONE); ptrace(PTRACE_CONT, c, NULL, NULL);
    waitpid(c, &status, 0); ptrace(PTRACE_GETEVENTMSG, c, NULL, &tid); waitpid(tid, &status, __WALL); printf("%x\n", status);
    ptrace(PTRACE_CONT, tid, NULL, NULL); ptrace(PTRACE_CONT, c, NULL, NULL); usleep(100000);
    show("a traced thread", c, tid); CALL(ptrace(PTRACE_CONT, tid, NULL, NULL)); YES(waitpid(tid, &status, __WALL) == (pid_t)tid); printf("%x\n", status);
    show("waited for", c, tid); kill(c, SIGKILL); waitpid(c, &status, 0); printf("%x\n", status);
    return 0;
}
