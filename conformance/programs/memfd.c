/* memfd_create and every seal. */
#include "children.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#define MFD_EXEC 16u
#endif
static char b[8192];
static int made(unsigned flags) { int m = memfd_create("name", flags | MFD_ALLOW_SEALING); ftruncate(m, 8192); return m; }
static void mapped(int m, int prot, int flags) { errno = 0; void *p = mmap(NULL, 4096, prot, flags, m, 0); if (p == MAP_FAILED) { printf("map %d %d: %s\n", prot, flags, strerrorname_np(errno)); return; } errno = 0; int r = mprotect(p, 4096, PROT_READ | PROT_WRITE); printf("map %d %d: ok, mprotect %d %s\n", prot, flags, r, r ? strerrorname_np(errno) : ""); munmap(p, 4096); }
static void tried(int m)
{
    struct stat st;
    CALL(write(m, b, 10)); CALL(pwrite(m, b, 10, 8190)); CALL(pwrite(m, b, 10, 8192)); CALL(pwrite(m, b, 0, 0)); CALL(ftruncate(m, 4096)); CALL(ftruncate(m, 8192)); CALL(ftruncate(m, 12288)); CALL(fallocate(m, 0, 0, 4096)); CALL(fallocate(m, 0, 0, 20000)); CALL(fallocate(m, FALLOC_FL_KEEP_SIZE, 0, 30000)); CALL(fallocate(m, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)); CALL(pread(m, b, 1, 0)); CALL(fchmod(m, 0600)); CALL(fchmod(m, 0700)); CALL(fchown(m, -1, -1)); CALL(futimens(m, NULL));
    mapped(m, PROT_READ, MAP_SHARED); mapped(m, PROT_READ | PROT_WRITE, MAP_SHARED); mapped(m, PROT_READ | PROT_WRITE, MAP_PRIVATE); mapped(m, PROT_NONE, MAP_SHARED); mapped(m, PROT_READ | PROT_EXEC, MAP_SHARED);
    fstat(m, &st); printf("size %ld mode %o links %ld\n", (long)st.st_size, st.st_mode, (long)st.st_nlink);
}
int main(void)
{
    unsigned all[] = { 0, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE, F_SEAL_EXEC, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) { printf("-- seals %x\n", all[i]); int m = made(0); CALL(fcntl(m, F_ADD_SEALS, all[i])); CALL(fcntl(m, F_GET_SEALS)); tried(m); close(m); }
    puts("-- rules"); int m = memfd_create("x", 0); CALL(fcntl(m, F_GET_SEALS)); CALL(fcntl(m, F_ADD_SEALS, F_SEAL_WRITE)); close(m);
    m = made(0); CALL(fcntl(m, F_ADD_SEALS, 0x40)); CALL(fcntl(m, F_ADD_SEALS, F_SEAL_SEAL)); CALL(fcntl(m, F_ADD_SEALS, F_SEAL_SEAL)); CALL(fcntl(m, F_ADD_SEALS, 0)); CALL(fcntl(m, F_GET_SEALS)); close(m);
    m = made(0); char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, m, 0); CALL(fcntl(m, F_ADD_SEALS, F_SEAL_WRITE)); CALL(fcntl(m, F_ADD_SEALS, F_SEAL_FUTURE_WRITE)); p[0] = 'w'; CALL(pread(m, b, 1, 0)); printf("%c\n", b[0]); CALL(pwrite(m, b, 1, 0)); CALL(fcntl(m, F_ADD_SEALS, F_SEAL_WRITE)); munmap(p, 4096); CALL(fcntl(m, F_ADD_SEALS, F_SEAL_WRITE)); CALL(fcntl(m, F_GET_SEALS)); close(m);
    m = made(0); p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, m, 0); CALL(fcntl(m, F_ADD_SEALS, F_SEAL_WRITE)); munmap(p, 4096); CALL(fcntl(m, F_ADD_SEALS, F_SEAL_WRITE)); close(m);
    m = made(0); p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, m, 0); CALL(fcntl(m, F_ADD_SEALS, F_SEAL_WRITE)); p[0] = 1; munmap(p, 4096); close(m);
    m = made(0); p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, m, 0); printf("%x\n", reaped(CHILD(CALL(fcntl(m, F_ADD_SEALS, F_SEAL_WRITE))))); close(m); munmap(p, 4096);
    m = made(0); char path[64]; sprintf(path, "/proc/self/fd/%d", m); int r = open(path, O_RDONLY), w = open(path, O_RDWR); YES(r >= 0 && w >= 0); CALL(fcntl(r, F_ADD_SEALS, F_SEAL_GROW)); CALL(fcntl(w, F_ADD_SEALS, F_SEAL_GROW)); CALL(fcntl(r, F_GET_SEALS)); mapped(r, PROT_READ, MAP_SHARED); OK(open(path, O_RDWR | O_TRUNC)); CALL(fcntl(m, F_ADD_SEALS, F_SEAL_SHRINK)); close(r); close(w); OK(open(path, O_RDWR | O_TRUNC)); char link[64]; int n = readlink(path, link, 63); printf("%.*s\n", n, link); close(m);
    puts("-- executable"); struct stat st; m = memfd_create("n", MFD_NOEXEC_SEAL); fstat(m, &st); printf("%o\n", st.st_mode); CALL(fcntl(m, F_GET_SEALS)); CALL(fchmod(m, 0755)); CALL(fchmod(m, 0644)); CALL(fcntl(m, F_ADD_SEALS, F_SEAL_WRITE)); close(m); m = memfd_create("e", MFD_EXEC | MFD_ALLOW_SEALING); fstat(m, &st); printf("%o\n", st.st_mode); CALL(fcntl(m, F_GET_SEALS)); CALL(fcntl(m, F_ADD_SEALS, F_SEAL_EXEC)); CALL(fcntl(m, F_GET_SEALS)); CALL(fchmod(m, 0644)); close(m); m = memfd_create("e", MFD_EXEC | MFD_ALLOW_SEALING); fchmod(m, 0644); CALL(fcntl(m, F_ADD_SEALS, F_SEAL_EXEC)); CALL(fcntl(m, F_GET_SEALS)); close(m);
    CALL(memfd_create("x", MFD_EXEC | MFD_NOEXEC_SEAL)); CALL(memfd_create("x", 0x20)); CALL(memfd_create(NULL, 0)); CALL(memfd_create("x", MFD_HUGETLB | (17u << 26))); CALL(memfd_create("x", 21u << 26)); char name[300]; memset(name, 'n', 299); name[299] = 0; CALL(memfd_create(name, 0)); name[250] = 0; CALL(memfd_create(name, 0)); name[249] = 0; OK(memfd_create(name, 0)); YES(fcntl(m = memfd_create("", MFD_CLOEXEC), F_GETFD) == 1); printf("%x\n", fcntl(m, F_GETFL));
    int pipes[2]; pipe(pipes); CALL(fcntl(pipes[1], F_ADD_SEALS, F_SEAL_WRITE)); CALL(fcntl(pipes[1], F_GET_SEALS)); int f = open("plain", O_CREAT | O_RDWR, 0600); CALL(fcntl(f, F_GET_SEALS)); CALL(fcntl(f, F_ADD_SEALS, F_SEAL_GROW)); return 0;
}
