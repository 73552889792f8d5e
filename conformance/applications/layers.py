"""Changes a tree that is there already in every way that overlays have to tell apart, and prints what it sees.

`prepare` makes the tree, which becomes the lower; `change` changes it. Numbers and times that differ from run to run are only
compared with each other."""
import errno
import os
import shutil
import sys


def prepare():
    for directory in ("d/sub/deep", "gone", "moved/in", "empty", "full"):
        os.makedirs(directory)
    for name in ("plain", "d/one", "d/two", "d/sub/three", "gone/x", "moved/in/y", "full/z", "to-link", "to-exchange", "replaced"):
        with open(name, "w") as file:
            file.write(name * 100)
        os.utime(name, ns=(1_000_000_007, 2_000_000_003))
    os.symlink("plain", "link")
    with open("sparse", "wb") as file:
        file.write(b"start")
        file.seek(5 << 20)
        file.write(b"end")
    os.chmod("plain", 0o640)
    os.setxattr("plain", "user.colour", b"green")
    os.setxattr("d", "user.shape", b"round")


def show(path):
    try:
        status = os.lstat(path)
    except OSError as error:
        print(path, errno.errorcode[error.errno])
        return
    links = status.st_nlink if not os.path.isdir(path) or os.path.islink(path) else "-"
    size = status.st_size if not os.path.isdir(path) else "-"
    print(path, oct(status.st_mode), links, size, end=" ")
    if os.path.islink(path):
        print(os.readlink(path))
    elif os.path.isdir(path):
        names = sorted(os.listdir(path))
        # A number in a listing is the one that stat gives, mount points aside.
        with os.scandir(path) as entries:
            same = all(entry.inode() == os.lstat(entry.path).st_ino for entry in entries)
        print(names, same)
    else:
        with open(path, "rb") as file:
            data = file.read()
        print(len(data), data[:12], data[-4:], {name: os.getxattr(path, name) for name in os.listxattr(path)})


def attempt(function, *arguments):
    try:
        result = function(*arguments)
        print(function.__name__, *arguments, "->", result if not callable(result) else "")
    except OSError as error:
        print(function.__name__, *arguments, "->", errno.errorcode[error.errno])


def keeps(what, path, change):
    """The number of a file stays, whatever is done to it."""
    before = os.lstat(path)
    change()
    after = os.lstat(path)
    print(what, (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino))
    return before, after


def append(path, text):
    with open(path, "a") as file:
        file.write(text)


def change():
    reader = open("d/one")
    before, after = keeps("append", "d/one", lambda: append("d/one", "more"))
    print(before.st_mtime_ns, after.st_mtime_ns != before.st_mtime_ns, after.st_size - before.st_size)
    reader.close()
    before, after = keeps("chmod", "plain", lambda: os.chmod("plain", 0o600))
    print(before.st_mtime_ns == after.st_mtime_ns, before.st_atime_ns == after.st_atime_ns)
    keeps("directory", "d/sub/deep", lambda: append("d/sub/deep/new", "x"))
    keeps("link times", "link", lambda: os.utime("link", ns=(5, 6), follow_symlinks=False))
    print(os.lstat("link").st_mtime_ns)
    keeps("sparse", "sparse", lambda: append("sparse", "!"))
    with open("sparse") as file:
        print(os.lseek(file.fileno(), 8192, os.SEEK_DATA) >= 4 << 20, os.stat("sparse").st_blocks < 1000)
    os.setxattr("plain", "user.taste", b"sweet")
    os.setxattr("d/two", "user.only", b"1")
    print(sorted(os.listxattr("plain")), os.getxattr("d", "user.shape"))
    os.removexattr("plain", "user.colour")
    for path in ("d", "d/one", "d/two", "d/sub", "d/sub/deep", "plain", "link", "sparse"):
        show(path)

    for path in ("d/two", "gone", "gone/x"):
        attempt(os.rmdir, path)
    os.unlink("gone/x")
    os.rmdir("gone")
    show("gone")
    os.mkdir("gone")
    show("gone")
    attempt(os.stat, "gone/x")
    append("gone/x", "again")
    show("gone/x")
    os.unlink("d/two")
    append("d/two", "anew")
    show("d/two")
    shutil.rmtree("full")
    append("full", "a file now")
    show("full")
    os.unlink("replaced")
    os.mkdir("replaced")
    show("replaced")
    print(sorted(os.listdir(".")))

    os.rename("plain", "d/plain")
    show("d/plain")
    show("plain")
    os.rename("d/sub/three", "d/one")
    show("d/one")
    attempt(os.rename, "empty", "d")
    attempt(os.rename, "d/one", "empty")
    attempt(os.rename, "empty", "d/one")
    os.mkdir("fresh")
    append("fresh/in", "x")
    os.rename("fresh", "empty")
    show("empty")
    shutil.move("moved", "elsewhere")
    show("moved")
    show("elsewhere/in/y")
    os.rename("elsewhere/in/y", "moved")
    show("moved")

    os.link("to-link", "linked")
    append("linked", "both")
    show("to-link")
    show("linked")
    print(os.path.samefile("to-link", "linked"))
    os.unlink("to-link")
    show("linked")
    os.link("linked", "to-link")
    os.rename("linked", "to-link")
    show("linked")
    handle = open("to-exchange", "r+")
    os.unlink("to-exchange")
    status = os.fstat(handle.fileno())
    print(status.st_nlink, handle.read(11))
    handle.write("more")
    handle.close()
    reader = open("d/sub/deep/new")
    os.unlink("d/sub/deep/new")
    print(os.fstat(reader.fileno()).st_nlink, reader.read())
    for base, directories, files in sorted(os.walk(".")):
        print(base, sorted(directories), sorted(files))


prepare() if sys.argv[1] == "prepare" else change()
