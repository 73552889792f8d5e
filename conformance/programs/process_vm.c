/* process_vm_readv, process_vm_writev, /proc/PID/mem: whole, in parts, errors; two processes that ask each other. */
#include "report.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

static char text[32] = "the parent's";
static const char fixed[16] = "read-only";
static volatile int *flag; static char *area, *none, *big;
enum { BIG = 3 << 20 };
static long get(pid_t pid, void *to, void *from, size_t length) { struct iovec l = {to, length}, r = {from, length}; return process_vm_readv(pid, &l, 1, &r, 1, 0); }
static long put(pid_t pid, void *from, void *to, size_t length) { struct iovec l = {from, length}, r = {to, length}; return process_vm_writev(pid, &l, 1, &r, 1, 0); }

int main(void) {
    flag = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    area = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); munmap(area + 2 * 4096, 4096);
    none = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); strcpy(none, "hidden"); mprotect(none, 4096, PROT_NONE);
    big = mmap(0, BIG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        strcpy(text, "the child's"); memset(area, 'a', 4096); memset(area + 4096, 'b', 4096); for (int i = 0; i < BIG; i++) big[i] = i * 7 + (i >> 12);
        flag[0] = 1; while (flag[0] != 2) ; /* in program code all the time */
        flag[0] = 3; while (flag[0] != 4) pause(); return 0;
    }
    while (flag[0] != 1) usleep(1000);
    char buffer[20000]; CALL(get(pid, buffer, text, 32)); printf("%s, here %s\n", buffer, text);
    CALL(put(pid, "changed", text, 8)); CALL(get(pid, buffer, text, 32)); printf("%s\n", buffer);
    CALL(get(pid, buffer, area, 8192)); YES(buffer[0] == 'a' && buffer[4095] == 'a' && buffer[4096] == 'b' && buffer[8191] == 'b'); CALL(get(pid, buffer, area + 100, 9000)); CALL(put(pid, buffer, area + 8000, 1000)); CALL(get(pid, buffer, area + 8192, 8)); CALL(put(pid, buffer, area + 8192, 8)); CALL(get(pid, buffer, none, 8)); CALL(put(pid, buffer, (char *)fixed, 8)); CALL(get(pid, buffer, (char *)fixed, 16)); CALL(get(pid, buffer, 0, 8)); CALL(get(pid, buffer, (void *)-4096l, 8));
    char *mine = malloc(BIG); CALL(get(pid, mine, big, BIG)); int bad = 0; for (int i = 0; i < BIG; i++) bad += mine[i] != (char)(i * 7 + (i >> 12)); printf("bad %d\n", bad); memset(mine, 'z', BIG); CALL(put(pid, mine, big, BIG)); CALL(get(pid, buffer, big + BIG - 5, 5)); printf("%.5s\n", buffer);
    struct iovec l[3] = {{buffer, 5}, {buffer + 100, 0}, {buffer + 200, 10}}, r[3] = {{area, 3}, {area + 4096, 100}, {0, 0}}; CALL(process_vm_readv(pid, l, 3, r, 3, 0)); printf("%.5s %.10s\n", buffer, buffer + 200); r[0].iov_base = 0; CALL(process_vm_readv(pid, l, 3, r, 3, 0)); r[0].iov_base = area; r[1].iov_base = (void *)8; CALL(process_vm_readv(pid, l, 3, r, 3, 0)); CALL(process_vm_writev(pid, l, 3, r, 3, 0));
    CALL(process_vm_readv(pid, l, 3, r, 3, 1)); CALL(process_vm_readv(pid, l, 0, r, 3, 0)); CALL(process_vm_readv(pid, l, 3, r, 0, 0)); CALL(process_vm_readv(pid, l, 1025, r, 3, 0)); CALL(process_vm_readv(pid, l, 3, r, 1025, 0)); CALL(process_vm_readv(99999, l, 3, r, 3, 0)); CALL(process_vm_readv(99999, l, 0, r, 3, 0)); CALL(process_vm_readv(pid, (void *)8, 3, r, 3, 0)); CALL(process_vm_readv(pid, l, 3, (void *)8, 3, 0)); l[0].iov_base = none; CALL(process_vm_readv(pid, l, 3, r, 3, 0)); l[0].iov_base = area + 8190; CALL(process_vm_readv(pid, l, 1, r, 1, 0)); l[0].iov_len = -1; CALL(process_vm_readv(pid, l, 1, r, 1, 0)); l[0].iov_len = 5; r[0].iov_len = -1; CALL(process_vm_readv(pid, l, 1, r, 1, 0)); CALL(get(parent, buffer, text, 32)); printf("%s\n", buffer);

    char name[64]; sprintf(name, "/proc/%d/mem", pid); int fd = open(name, O_RDWR); YES(fd >= 0); CALL(pread(fd, buffer, 8, (off_t)text)); printf("%.8s\n", buffer); CALL(pwrite(fd, "through", 8, (off_t)text)); CALL(pread(fd, buffer, 8, (off_t)text)); printf("%.8s\n", buffer); CALL(lseek(fd, (off_t)fixed, SEEK_SET) == (off_t)fixed); CALL(read(fd, buffer, 4)); printf("%.4s\n", buffer); CALL(read(fd, buffer, 5)); printf("%.5s\n", buffer); CALL(lseek(fd, 0, SEEK_END)); CALL(lseek(fd, -10, SEEK_SET) == -10); YES(lseek(fd, (off_t)fixed, SEEK_SET) == (off_t)fixed); CALL(write(fd, "poked", 5)); CALL(pread(fd, buffer, 9, (off_t)fixed)); printf("%.9s here %s\n", buffer, fixed); CALL(pread(fd, buffer, 7, (off_t)none)); printf("%s\n", buffer); CALL(pread(fd, buffer, 8, 8)); CALL(pwrite(fd, buffer, 8, 8)); CALL(pread(fd, buffer, 10000, (off_t)area)); CALL(pwrite(fd, buffer, 10000, (off_t)area)); CALL(pread(fd, buffer, 8, (off_t)area + 8192)); CALL(pread(fd, (void *)8, 8, (off_t)area)); CALL(pwrite(fd, (void *)8, 8, (off_t)area)); CALL(pread(fd, buffer, 0, 8)); CALL(lseek(fd, 0, 9));
    flag[0] = 2; while (flag[0] != 3) usleep(1000); usleep(20000); CALL(get(pid, buffer, text, 8)); printf("asleep: %s\n", buffer); CALL(pwrite(fd, (void *)&(int){4}, 4, (off_t)&flag[1]));
    flag[0] = 4; kill(pid, SIGKILL); int status; siginfo_t si; waitid(P_PID, pid, &si, WEXITED | WNOWAIT); CALL(get(pid, buffer, text, 8)); CALL(pread(fd, buffer, 8, (off_t)text)); CALL(pwrite(fd, buffer, 8, (off_t)text)); waitpid(pid, &status, 0); CALL(get(pid, buffer, text, 8)); CALL(pread(fd, buffer, 8, (off_t)text)); close(fd);
    fd = open("/proc/self/mem", O_RDWR); CALL(pread(fd, buffer, 16, (off_t)text)); printf("%s\n", buffer); CALL(pwrite(fd, "own", 4, (off_t)fixed)); printf("%s\n", (const char *)(volatile const char *)fixed); close(fd);

    /* Two that ask each other. */
    flag[0] = 0; pid = fork(); if (pid == 0) { for (int i = 0; i < 3000; i++) if (get(parent, buffer, text, 8) != 8) _exit(1); _exit(0); } int failures = 0; for (int i = 0; i < 3000; i++) failures += get(pid, buffer, text, 8) != 8 && errno != ESRCH; printf("failures %d\n", failures); waitpid(pid, &status, 0); printf("other %x\n", status);
    /* Killed while it is asked. */
    for (int i = 0; i < 20; i++) { pid = fork(); if (pid == 0) for (;;) ; pid_t killer = fork(); if (killer == 0) { usleep(1000 * (i % 4)); kill(pid, SIGKILL); _exit(0); } while (get(pid, buffer, text, 8) == 8) ; if (errno != ESRCH && errno != EFAULT) perror("read"); waitpid(pid, &status, 0); waitpid(killer, &status, 0); }
    return 0;
}
