/* Children whose output is printed when they are waited for, so that it stands in one order. */
#pragma once
#include "report.h"
#include <sys/mman.h>
#include <sys/wait.h>

static struct { pid_t pid; int fd; } children_[64];

/* Runs a block in a child process; its pid. */
#define CHILD(...) ({ fflush(stdout); int fd_ = memfd_create("output", 0); pid_t p_ = fork(); \
    if (p_ == 0) { dup2(fd_, 1); __VA_ARGS__; fflush(stdout); _exit(0); } \
    for (int i_ = 0; i_ < 64; i_++) if (!children_[i_].pid) { children_[i_].pid = p_; children_[i_].fd = fd_; break; } p_; })

static void printed(pid_t pid)
{
    char buffer[4096]; long n;
    for (int i = 0; i < 64; i++)
        if (pid > 0 && children_[i].pid == pid) {
            fflush(stdout);
            for (long at = 0; (n = pread(children_[i].fd, buffer, sizeof buffer, at)) > 0; at += n) write(1, buffer, n);
            close(children_[i].fd); children_[i].pid = 0;
        }
}

/* Waits for a child; its status. */
static int reaped(pid_t pid) { int status = -1; while (waitpid(pid, &status, 0) < 0 && errno == EINTR) ; printed(pid); return status; }

/* Waits until a process sleeps, and a little longer. */
static void __attribute__((unused)) sleeps(pid_t pid)
{
    usleep(30000);
    for (char state = 0; state != 'S'; usleep(1000)) {
        char path[64], line[512]; snprintf(path, sizeof path, "/proc/%d/stat", pid);
        FILE *file = fopen(path, "r"); if (!file) return;
        if (fgets(line, sizeof line, file)) state = strrchr(line, ')')[2];
        fclose(file);
    }
    usleep(20000);
}
