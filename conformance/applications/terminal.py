"""Drives an interactive program through a pseudo-terminal and prints what its user saw.

    terminal.py DIALOGUE COMMAND...

DIALOGUE is the name of one of the dialogues below. The transcript is the same from run to run: process ids are replaced, and each
step waits for what it expects before the next is typed."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

PATIENCE = float(os.environ.get("TERMINAL_PATIENCE", "120"))
# A program that tells when it is in the foreground. The shell shows the variable's name, not the path.
FRONT = "/usr/bin/python3 " + os.path.join(os.path.dirname(os.path.abspath(__file__)), "front.py")


class Terminal:
    def __init__(self, command, rows=30, columns=100):
        self.seen = b""
        self.transcript = []
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", PS1="> ", LC_ALL="C.UTF-8", HISTFILE="/dev/null", INPUTRC="/dev/null")
            os.execvp(command[0], command)
        self.resize(rows, columns)

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.fd, text.encode())

    def wait(self, expected, quiet=False):
        """Reads until `expected` (a regular expression) has come; what came up to its end goes to the transcript."""
        pattern = re.compile(expected.encode(), re.DOTALL)
        deadline = time.monotonic() + PATIENCE
        while not (found := pattern.search(self.seen)):
            left = deadline - time.monotonic()
            if left <= 0 or not self.read(left):
                self.transcript.append(self.seen)
                self.show()
                sys.exit(f"waited for {expected!r} in vain")
        if not quiet:
            self.transcript.append(self.seen[: found.end()])
        self.seen = self.seen[found.end() :]

    def read(self, timeout):
        if not select.select([self.fd], [], [], timeout)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.seen += data
        return bool(data)

    def close(self):
        """Until the program has ended: the rest of what it said, and its status."""
        while self.read(PATIENCE):
            pass
        self.transcript.append(self.seen)
        _, status = os.waitpid(self.pid, 0)
        self.transcript.append(b"\n[status %d]\n" % os.waitstatus_to_exitcode(status))

    def show(self):
        text = b"".join(self.transcript).decode(errors="backslashreplace")
        text = re.sub(r"(\[\d+\]) \d+\r", r"\1 PID", text)
        text = re.sub(r"(job \d+)\[\d+\]", r"\1[PID]", text)
        for line in text.split("\n"):
            print(repr(line))


def settled():
    """A program that has shown what it should gets the time to come to where it waits for keys: there is nothing to see of that."""
    time.sleep(0.3)


FRONT_NOW = r"\nfront\r\n"


def shell(command):
    t = Terminal(command)
    t.wait(r"[#$>] $", quiet=True)
    # From here on the prompt is the same whoever we are.
    t.type(f"PS1='> '; bind 'set enable-bracketed-paste off'; ulimit -c 0; cd /; FRONT='{FRONT}'\r")
    t.wait(r"\r\n.*> $", quiet=True)
    # The job that was started last has been stopped.
    until_stopped = "until grep -q '^State:.T' /proc/$!/status; do sleep 0.05; done"

    def run(line, expected=r"\r\n.*> $"):
        t.type(line + "\r")
        t.wait(expected)

    run("test -t 0 -a -t 1 -a -t 2 && echo a terminal")
    run("stty size; stty -a | grep -c -- isig")
    run("tty | tr -d 0-9")
    # Ctrl-C, Ctrl-\, Ctrl-Z, fg and bg.
    t.type("$FRONT\r"); t.wait(FRONT_NOW); t.type("\x03"); t.wait("> $")
    run("echo $?")
    t.type("$FRONT\r"); t.wait(FRONT_NOW); t.type("\x1c"); t.wait("> $")
    run("echo $?")
    t.type("$FRONT\r"); t.wait(FRONT_NOW); t.type("\x1a"); t.wait("> $")
    run("jobs")
    run("bg")
    run("jobs")
    t.type("fg\r"); t.wait(FRONT_NOW); t.type("\x03"); t.wait("> $")
    run("jobs; echo $?")
    # A job of the background that wants to read; input and its end.
    run("cat & " + until_stopped)
    run("jobs")
    t.type("fg\r"); t.wait(r"cat\r\n")
    t.type("to the cat\r"); t.wait(r"to the cat\r\nto the cat\r\n")
    t.type("\x04"); t.wait("> $")
    run("echo $?")
    # One that wants to write where it may not.
    run("stty tostop; echo behind & " + until_stopped)
    run("jobs; stty -tostop")
    run("fg")
    # A pipeline is one job.
    t.type("$FRONT | cat | cat\r"); t.wait(FRONT_NOW); t.type("\x1a"); t.wait("> $")
    run("jobs %1")
    t.type("fg\r"); t.wait(FRONT_NOW); t.type("\x03"); t.wait("> $")
    # Several jobs.
    run("sleep 100 & sleep 200 & jobs", r"&\r\n.*&\r\n.*> $")
    # `wait` would keep the shell from telling of them.
    run("kill %2; while kill -0 $! 2>/dev/null; do sleep 0.05; done")
    run("other=$(jobs -p %1); kill %1; while kill -0 $other 2>/dev/null; do sleep 0.05; done")
    # The history and line editing.
    run("echo one")
    t.type("\x1b[A"); t.wait("echo one"); t.type("\r"); t.wait(r"one\r\n.*> $")
    run("!!", r"echo one\r\none\r\n.*> $")
    t.type("\x12one\r"); t.wait(r"one\r\n.*> $", quiet=True)
    run("echo $_")
    t.type("ecko two\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x7fh\x05!\r"); t.wait(r"two!\r\n.*> $", quiet=True)
    # Bash notes an interrupt that comes while it shows the line only at the next key; natively, too.
    t.type("lost"); t.wait("lost$", quiet=True); settled(); t.type("\x03"); t.wait("> $", quiet=True)
    t.type("echo kil\x15"); t.type("echo \x19\x7f\x7f\x7f\x7f\x17"); t.type("echo killed\r"); t.wait(r"killed\r\n.*> $", quiet=True)
    run("history 3")
    # The window changes.
    t.type("sh -c 'trap \"stty size; exit\" WINCH; echo ready; while :; do sleep 0.05; done'\r"); t.wait(r"ready\r\n")
    t.resize(40, 120)
    t.wait("> $")
    # Modes are a program's to change.
    t.type("stty -echo; echo hush; read secret; stty echo; echo got $secret\r"); t.wait(r"\nhush\r\n")
    t.type("hidden\r"); t.wait(r"got hidden\r\n.*> $")
    t.type("(stty raw; echo go; dd bs=1 count=3 2>/dev/null | od -An -c; stty sane)\r"); t.wait(r"\ngo\n")
    t.type("a\x03\r"); t.wait("> $")
    # A shell in the shell, suspended.
    t.type("bash --norc -i\r"); t.wait(r"[#$>] $", quiet=True)
    t.type("suspend\r"); t.wait("> $", quiet=True)
    run("jobs")
    t.type("fg\r"); t.wait("norc -i\r\n.*[#$>] $", quiet=True)
    t.type("exit 5\r"); t.wait("> $", quiet=True)
    run("echo $?")
    # The controlling terminal, and what is not at it.
    run("echo to the terminal > /dev/tty")
    run("setsid -w sh -c 'echo lost > /dev/tty'; echo $?")
    run("ps -o tty= -p $$ | tr -d 0-9; test $(ps -o tpgid= -p $$) = $$ || echo another group")
    t.type("exit 7\r")
    t.close()
    t.show()


def hang_up(command):
    """The terminal goes while a job runs."""
    t = Terminal(command)
    t.wait(r"[#$>] $", quiet=True)
    t.type("PS1='> '; trap 'echo bye > went; exit 3' HUP; rm -f went; echo rea''dy\r")
    t.wait(r"ready\r\n.*> $", quiet=True)
    os.close(t.fd)
    _, status = os.waitpid(t.pid, 0)
    print("status", os.waitstatus_to_exitcode(status))


def programs(command):
    """Programs that take the whole screen, from a shell."""
    t = Terminal(command)
    t.wait(r"[#$>] $", quiet=True)
    t.type("PS1='> '; bind 'set enable-bracketed-paste off'; cd $(mktemp -d); export EXINIT= LESSHISTFILE=- TERM=xterm\r")
    t.wait(r"\r\n.*> $", quiet=True)

    def run(line, expected=r"\r\n.*> $", quiet=True):
        t.type(line + "\r")
        t.wait(expected, quiet)

    run("seq 1 500 > lines")
    run("less lines", r"29\r\n.*$")
    t.type("G"); t.wait(r"500\r\n.*END.*$"); settled()
    t.type("g"); t.wait(r"M1\r\n.*:.*$"); settled(); t.type("q"); t.wait(r"> $", quiet=True)
    run("vi -u NONE -i NONE text", r"text.*$")
    settled()
    t.type("ihello from vi\x1b:wq\r"); t.wait(r"written.*> $", quiet=True)
    run("cat text", quiet=False)
    run("script -q -c 'echo in a script; tty | tr -d 0-9' typescript", r"script.*> $", quiet=False)
    run("grep -c 'in a script' typescript", quiet=False)
    t.type("top -d 1\r"); t.wait(r"top - .*COMMAND.*\n.*top.*$", quiet=True); settled(); t.type("q"); t.wait(r"> $", quiet=True)
    run("/usr/bin/python3 -q", r">>> $", quiet=True)
    run("1 + 41", r"42\r\n.*>>> $")
    t.type(r"""exec("print('round'); \nwhile True: pass")""" + "\r"); t.wait(r"\nround\r\n", quiet=True); t.type("\x03"); t.wait(r"KeyboardInterrupt\r\n.*>>> $", quiet=True)
    t.type("\x04"); t.wait(r"> $", quiet=True)
    run("echo $?", quiet=False)
    t.type("exit 0\r")
    t.close()
    t.transcript = [part for part in t.transcript if b"\x1b" not in part]
    t.show()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    {"shell": shell, "hang_up": hang_up, "programs": programs}[sys.argv[1]](sys.argv[2:])
