"""What becomes of the caller's terminal: its modes, its keys, its size.

    host_terminal.py SANDBOX_EXEC

Plays the terminal emulator around sandbox-exec; says what is not as it should be, and how many things were looked at."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

SANDBOX = sys.argv[1]
looked_at = 0
failures = 0


def check(what, condition, detail=""):
    global looked_at, failures
    looked_at += 1
    if not condition:
        failures += 1
        print(f"FAILED: {what} {detail}")


class Session:
    """A session on a terminal; the command is a child of its leader, so that the terminal outlives it."""

    def __init__(self, *command):
        self.report, theirs = os.pipe()
        leader, self.fd = pty.fork()
        self.leader = leader
        if leader == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            child = os.fork()
            if child == 0:
                os.setpgid(0, 0)
                os.tcsetpgrp(0, os.getpid())
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                signal.signal(signal.SIGTTOU, signal.SIG_DFL)
                os.execv(SANDBOX, [SANDBOX, *command])
            os.write(theirs, b"%d\n" % child)
            _, status = os.waitpid(child, 0)
            os.write(theirs, b"%d\n" % os.waitstatus_to_exitcode(status))
            time.sleep(100)
            os._exit(0)
        os.close(theirs)
        self.saved = termios.tcgetattr(self.fd)
        self.pid = int(self.line())
        self.seen = b""

    def line(self):
        text = b""
        while not text.endswith(b"\n"):
            text += os.read(self.report, 1)
        return text

    def wait(self, text, patience=100):
        deadline = time.monotonic() + patience
        while text.encode() not in self.seen:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                return False
            try:
                self.seen += os.read(self.fd, 4096)
            except OSError:
                return False
        return True

    def type(self, text):
        os.write(self.fd, text.encode())

    def raw(self):
        return not termios.tcgetattr(self.fd)[3] & termios.ICANON

    def restored(self, patience=60):
        deadline = time.monotonic() + patience
        while termios.tcgetattr(self.fd) != self.saved and time.monotonic() < deadline:
            time.sleep(0.01)
        return termios.tcgetattr(self.fd) == self.saved

    def status(self, patience=100):
        if not select.select([self.report], [], [], patience)[0]:
            os.kill(self.pid, signal.SIGKILL)
            return "none in time"
        return int(self.line())

    def close(self):
        os.kill(self.leader, signal.SIGKILL)
        os.waitpid(self.leader, 0)
        os.close(self.fd)
        os.close(self.report)


def modes():
    s = Session("-t", "sh", "-c", "stty raw -echo; echo ready; exit 3")
    check("the program is seen", s.wait("ready"))
    check("the exit code comes out", s.status() == 3)
    check("the modes after an ordinary end", s.restored())
    s.close()

    for name, kill, expected in [
        ("the supervisor is killed", lambda s: os.kill(s.pid, signal.SIGKILL), -9),
        ("the supervisor is told to end", lambda s: os.kill(s.pid, signal.SIGTERM), 143),
        ("the warden is killed", lambda s: os.kill(child_of(s.pid, True), signal.SIGKILL), 125),
        ("everything in the group is killed", lambda s: os.killpg(s.pid, signal.SIGKILL), -9),
    ]:
        s = Session("-t", "sh", "-c", "echo ready; sleep 100")
        check("the program is seen", s.wait("ready"))
        check("the terminal is raw meanwhile", s.raw())
        kill(s)
        status = s.status()
        check(f"the status when {name}", status == expected, status)
        check(f"the modes when {name}", s.restored())
        s.close()

    s = Session("-t", "no-such-program")
    check("a program that is not there", s.status() == 127)
    check("its message", s.wait("no-such-program"))
    check("the modes after it", s.restored())
    s.close()

    s = Session("-t", "sh", "-c", "echo ready; read x; echo got $x")
    s.wait("ready")
    os.kill(s.pid, signal.SIGTSTP)
    check("the modes while it is stopped", s.restored())
    os.kill(s.pid, signal.SIGCONT)
    deadline = time.monotonic() + 60
    while not s.raw() and time.monotonic() < deadline:
        time.sleep(0.01)
    check("raw again once it goes on", s.raw())
    s.type("word\r")
    check("and it goes on", s.wait("got word") and s.status() == 0)
    s.close()


def child_of(pid, warden):
    """The warden: the child that is not the watcher, which is in our network namespace."""
    own = os.readlink(f"/proc/{pid}/ns/net")
    for child in open(f"/proc/{pid}/task/{pid}/children").read().split():
        if (os.readlink(f"/proc/{child}/ns/net") != own) == warden:
            return int(child)
    raise SystemExit("no such child")


def keys():
    s = Session("-t", "sh", "-c", "trap 'echo caught' INT; echo ready; while :; do sleep 0.1; done")
    s.wait("ready")
    s.type("\x03")
    check("Ctrl-C reaches the program", s.wait("caught"))
    s.type("\x1c")
    check("Ctrl-\\ ends it", s.status() == 128 + 3)
    s.close()

    # Without a terminal of its own: Ctrl-C ends the sandbox.
    for script in ["echo ready; sleep 100; echo no", "trap '' INT; echo ready; sleep 100", "trap 'echo caught' INT; echo ready; while :; do sleep 0.1; done"]:
        s = Session("sh", "-c", script)
        check("the program is seen", s.wait("ready"))
        started = time.monotonic()
        s.type("\x03")
        status = s.status()
        check("Ctrl-C ends the sandbox", status == 130, status)
        check("at once", time.monotonic() - started < 60, time.monotonic() - started)
        check("and nothing goes on", b"no" not in s.seen)
        s.close()

    # The first process forks once, before the bomb leaves it no room.
    s = Session("--pids", "100", "sh", "-c", "echo ready; bomb() { bomb | bomb & }; (bomb) 2>/dev/null & exec sleep 100")
    check("the bomb is seen", s.wait("ready"))
    time.sleep(1)
    s.type("\x03")
    status = s.status()
    check("Ctrl-C ends a fork bomb", status == 130, status)
    s.close()


def size():
    s = Session("-t", "sh", "-c", "stty size; trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.05; done")
    check("some size", s.wait("ready"))
    fcntl.ioctl(s.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    check("the new size", s.wait("33 77") and s.status() == 4)
    s.close()


def gone():
    """The caller's terminal hangs up: so does the sandbox's."""
    s = Session("-t", "sh", "-c", "trap 'exit 9' HUP; echo ready; while :; do sleep 0.1; done")
    s.wait("ready")
    os.kill(s.pid, signal.SIGHUP)
    check("a hang-up reaches the session", s.status() == 9)
    s.close()


def streams():
    """A terminal inside, though there is none outside."""
    import subprocess

    run = subprocess.run([SANDBOX, "-t", "sh", "-c", "test -t 0 -a -t 1 && stty size; cat"], input=b"typed\n", capture_output=True, timeout=100)
    check("input that ends", sorted(run.stdout.split()) == [b"24", b"80", b"typed", b"typed"], run)
    run = subprocess.run([SANDBOX, "-t", "cat"], input=b"half", capture_output=True, timeout=100)
    check("input that ends in a line", run.stdout == b"halfhalf", run)
    run = subprocess.run([SANDBOX, "-t", "seq", "200000"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    expected = b"".join(b"%d\r\n" % number for number in range(1, 200001))
    check("nothing of much output is lost", run.stdout.endswith(expected[-100000:]) and len(run.stdout) - len(expected) in (0, 2, 4), len(run.stdout))


for part in [modes, keys, size, gone, streams]:
    part()
print(looked_at, "things looked at,", failures, "failures")
sys.exit(1 if failures else 0)
