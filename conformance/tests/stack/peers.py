"""Two ends of a network, for the tests of the sandbox's own stack: `peers.py serve`, and `peers.py check V4 V6 NOBODY` or
`peers.py remains V4 OWN`.

What these print is the same whichever end is in a sandbox.
"""
import errno
import hashlib
import random
import select
import socket
import struct
import subprocess
import sys
import threading
import time

PORT = 7000
# Connections that are not closed.
KEPT = []
# A slow reader is to read.
BEGIN = threading.Event()
PART = random.Random(1).randbytes(1 << 16)


def source(connection, count):
    """Sends so many bytes; their digest."""
    digest = hashlib.sha256()
    while count:
        part = PART[:count]
        connection.sendall(part)
        digest.update(part)
        count -= len(part)
    return digest.hexdigest()


def sink(connection, count):
    """Takes so many bytes; their digest."""
    digest = hashlib.sha256()
    while count:
        part = connection.recv(min(count, 1 << 18))
        if not part:
            return "short"
        digest.update(part)
        count -= len(part)
    return digest.hexdigest()


def line(connection):
    text = b""
    while not text.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            break
        text += byte
    return text.decode()


def serve_one(connection):
    try:
        words = line(connection).split()
        match words:
            case ["sink", count]:
                connection.sendall(sink(connection, int(count)).encode() + b"\n")
            case ["slow", count]:
                BEGIN.wait(60)
                BEGIN.clear()
                connection.sendall(sink(connection, int(count)).encode() + b"\n")
            case ["source", count]:
                source(connection, int(count))
            case ["echo"]:
                while part := connection.recv(1 << 16):
                    connection.sendall(part)
            case ["reset"]:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case ["begin"]:
                BEGIN.set()
            case ["silent"]:
                connection.recv(1)
            case ["keep"]:
                KEPT.append(connection)
                return
            case ["connect", host, port, own]:
                with socket.create_connection((host, int(port)), 60, ("", int(own))) as other:
                    other.sendall(b"here I am")
                    other.recv(1)
        connection.close()
    except OSError as error:
        print("server:", error.strerror, flush=True)


def serve():
    datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagrams.bind(("::", PORT))

    def echo():
        while True:
            part, sender = datagrams.recvfrom(1 << 16)
            datagrams.sendto(part, sender)

    threading.Thread(target=echo, daemon=True).start()
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::", PORT))
    listener.listen(1024)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve_one, args=[connection], daemon=True).start()


def name(error):
    return errno.errorcode.get(error.errno, str(error))


def ask(host, words, timeout=60):
    connection = socket.create_connection((host, PORT), timeout)
    connection.sendall(words.encode() + b"\n")
    return connection


def streams(host, count):
    with ask(host, f"sink {count}") as connection:
        sent = source(connection, count)
        print("sent", count, line(connection).strip() == sent)
    expected = hashlib.sha256(b"".join([PART] * (count // len(PART)))).hexdigest()
    with ask(host, f"source {count}") as connection:
        print("received", count, sink(connection, count) == expected, connection.recv(1))


def halves(host):
    with ask(host, "echo") as connection:
        connection.sendall(b"one\n")
        print("echo", line(connection).strip())
        connection.sendall(b"two")
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        print("after the end", connection.recv(10), connection.recv(10))
        try:
            connection.send(b"x")
        except OSError as error:
            print("sending after the end", name(error))


def resets(host):
    with ask(host, "reset") as connection:
        try:
            print("reset", connection.recv(1))
        except OSError as error:
            print("reset", name(error))
        try:
            connection.send(b"x")
        except OSError as error:
            print("and then", name(error))


def waits(host):
    with ask(host, "silent") as connection:
        connection.settimeout(0.2)
        try:
            connection.recv(1)
        except TimeoutError:
            print("nothing came")
        connection.setblocking(False)
        try:
            connection.recv(1)
        except OSError as error:
            print("not waiting", name(error))
        poll = select.poll()
        poll.register(connection, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
        print("silent", [events for _, events in poll.poll(0)])
        connection.send(b"x")
        poll.modify(connection, select.POLLIN | select.POLLRDHUP)
        print("its end", [events for _, events in poll.poll(5000)], connection.recv(1))


def full(host, count):
    """The reader begins late: the window closes meanwhile."""
    with ask(host, f"slow {count}") as connection:
        connection.setblocking(False)
        sent = 0

        def rest():
            at = sent % len(PART)
            return PART[at : at + count - sent]

        # What is on its way still makes room; once the window is closed nothing does.
        while sent < count and select.select([], [connection], [], 0.5)[1]:
            try:
                sent += connection.send(rest())
            except BlockingIOError:
                pass
        print("full", sent < count)
        ask(host, "begin").close()
        connection.setblocking(True)
        while sent < count:
            sent += connection.send(rest())
        expected = hashlib.sha256(b"".join([PART] * (count // len(PART)))).hexdigest()
        print("emptied", line(connection).strip() == expected)


def connecting(family, host):
    for port in [PORT, PORT + 1]:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            print("connect", errno.errorcode[connection.connect_ex((host, port))])
            poll = select.poll()
            poll.register(connection, select.POLLOUT)
            events = [events & (select.POLLOUT | select.POLLERR) for _, events in poll.poll(5000)]
            print(events, connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            print("once more", errno.errorcode.get(connection.connect_ex((host, port)), "0"))
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        try:
            connection.connect((host, PORT + 1))
        except OSError as error:
            print("refused", name(error))
        # Another try with the same socket.
        connection.connect((host, PORT))
        print("peer", connection.getpeername()[:2], connection.getsockname()[0] != host)


def nobody(host):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        start = time.monotonic()
        try:
            connection.connect((host, PORT))
        except OSError as error:
            print("nobody there", name(error), 2 < time.monotonic() - start < 5)


def datagrams(family, host, sizes):
    with socket.socket(family, socket.SOCK_DGRAM) as plain:
        plain.settimeout(5)
        for size in sizes:
            plain.sendto(PART[:size], (host, PORT))
            part, sender = plain.recvfrom(1 << 16)
            print("datagram", size, part == PART[:size], sender[:2])
    with socket.socket(family, socket.SOCK_DGRAM) as connected:
        connected.settimeout(5)
        connected.connect((host, PORT + 1))
        connected.send(b"x")
        try:
            connected.recv(1)
        except OSError as error:
            print("datagram refused", name(error))


def many(host, count):
    connections = [ask(host, "echo") for _ in range(count)]
    for at, connection in enumerate(connections):
        connection.sendall(b"number %d\n" % at)
    right = sum(line(connection) == f"number {at}\n" for at, connection in enumerate(connections))
    for connection in connections:
        connection.close()
    print("many", right)
    for _ in range(count):
        with ask(host, "echo") as connection:
            connection.sendall(b"x\n")
            right -= line(connection) == "x\n"
    print("one after the other", right)


def check(v4, v6, absent):
    streams(v4, 64 << 20)
    streams(v6, 16 << 20)
    for host in [v4, v6]:
        halves(host)
        resets(host)
        waits(host)
        full(host, 16 << 20)
    connecting(socket.AF_INET, v4)
    connecting(socket.AF_INET6, v6)
    datagrams(socket.AF_INET, v4, [0, 1, 1400, 1473, 8000])
    datagrams(socket.AF_INET6, v6, [0, 1, 1400])
    many(v4, 500)
    nobody(absent)


def state(connection):
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def listed(port, wanted=None):
    """The states of connections at a port, as both tables have them, at last those that are wanted."""
    end = time.monotonic() + 60
    while True:
        with open("/proc/net/tcp") as table:
            lines = [line.split() for line in table.readlines()[1:]]
        # Who owns it, and whether it goes by itself.
        found = [(line[3], line[5][:2], line[9] != "0") for line in lines if line[1].endswith(f":{port:04X}")]
        if wanted is None or wanted in [state for state, _, _ in found] or time.monotonic() > end:
            break
    shown = subprocess.run(["ss", "-Htan", f"sport = {port}"], capture_output=True, text=True).stdout
    return sorted(found), sorted(line.split()[0] for line in shown.splitlines())


def take(what, host, port, reuse=False):
    """Whether a port can be had, to listen and to connect from."""
    for listens in [True, False]:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            try:
                one.bind(("", port))
                one.listen() if listens else one.connect((host, PORT))
                print(what, reuse, listens, "had")
            except OSError as error:
                print(what, reuse, listens, name(error))
            if not listens:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def remains(host, own):
    """What connections leave at the port, by how they end; from this side."""

    def ask_from(port, words, reuse):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        connection.bind(("", port))
        connection.connect((host, PORT))
        connection.sendall(words.encode() + b"\n")
        return connection

    for at, reuse in enumerate([False, True]):
        port = 6100 + 10 * at
        one = ask_from(port, "echo", reuse)
        one.shutdown(socket.SHUT_WR)
        print("ended", one.recv(1), state(one), listed(port, "06"))
        take("while it is there", host, port, reuse)
        one.close()
        print("closed", listed(port))
        take("ended here", host, port)
        take("ended here", host, port, True)
        one = ask_from(port + 1, "keep", reuse)
        one.close()
        print("half closed", listed(port + 1, "05"))
        take("half closed", host, port + 1, reuse)
        one = ask_from(port + 2, "source 5", reuse)
        while one.recv(10):
            pass
        print("ended there", state(one))
        one.close()
        deadline = time.monotonic() + 60
        while listed(port + 2) != ([], []) and time.monotonic() < deadline:
            pass
        take("ended there", host, port + 2)
        one = ask_from(port + 3, "silent", reuse)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
        print("reset", listed(port + 3))
        take("reset", host, port + 3)
        # A server that ends its connection first.
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        server.bind(("", port + 4))
        server.listen()
        with ask(host, f"connect {own} {port + 4} {port + 5}"):
            one, _ = server.accept()
            one.shutdown(socket.SHUT_WR)
            while one.recv(10):
                pass
            one.close()
            server.close()
            print("served", listed(port + 4, "06"))
            take("served", host, port + 4)
            take("served", host, port + 4, True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    if sys.argv[1] == "remains":
        remains(*sys.argv[2:])
        sys.exit()
    check(*sys.argv[2:])
