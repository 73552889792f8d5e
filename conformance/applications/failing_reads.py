# What programs see of a filesystem that fails (failing_fuse.c), in the directory that is named.
import mmap, os, sys
def says(call):
    try: return call()
    except OSError as error: return error.strerror
os.chdir(sys.argv[1])
good = os.open("good", os.O_RDWR)
bad = os.open("bad", os.O_RDWR)
print(os.pread(good, 3, 0), os.stat("bad").st_size)
print(says(lambda: os.pread(bad, 3, 0)), says(lambda: os.pwrite(bad, b"x", 0)), says(lambda: os.fsync(bad)))
print(says(lambda: os.ftruncate(bad, 0)), says(lambda: os.mkdir("d")), says(lambda: os.unlink("good")), says(lambda: os.open("new", os.O_CREAT | os.O_WRONLY)))
print(says(lambda: os.sendfile(1, bad, 0, 10)), says(lambda: os.copy_file_range(bad, good, 10)), os.path.exists("new"))
pid = os.fork()
if pid == 0: mmap.mmap(bad, 4096, access=mmap.ACCESS_READ)[0]; os._exit(0)
print(os.waitpid(pid, 0)[1] & 127, os.pread(good, 3, 4000))
