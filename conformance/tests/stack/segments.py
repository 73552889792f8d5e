"""Segments made by hand against a server behind the sandbox's own stack (`peers.py serve`): segments.py INTERFACE SERVER OWN.

OWN is an address that nobody else answers for. Each line says what was tried and whether it went as the RFCs have it.
"""
import random
import socket
import struct
import sys
import time

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
PORT = 7000


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Wire:
    """Frames on an interface; answers for its own address."""

    def __init__(self, interface, server, own):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((interface, 0))
        self.hardware = self.socket.getsockname()[4]
        self.server, self.own = socket.inet_aton(server), socket.inet_aton(own)
        self.theirs = None
        self.backlog = []
        self.resolve()

    def resolve(self):
        request = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + self.hardware + self.own + bytes(6) + self.server
        for _ in range(50):
            self.socket.send(b"\xff" * 6 + self.hardware + b"\x08\x06" + request)
            end = time.monotonic() + 0.2
            while self.theirs is None and (frame := self.frame(end)):
                if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2" and frame[28:32] == self.server:
                    self.theirs = frame[22:28]
            if self.theirs:
                return
        sys.exit("the server's address is nobody's")

    def frame(self, end):
        left = end - time.monotonic()
        if left <= 0:
            return None
        self.socket.settimeout(left)
        try:
            frame = self.socket.recv(1 << 17)
        except TimeoutError:
            return None
        if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1" and frame[38:42] == self.own:
            reply = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + self.hardware + self.own + frame[22:32]
            self.socket.send(frame[6:12] + self.hardware + b"\x08\x06" + reply)
        return frame

    def packet(self, protocol, payload, source=None, options=b""):
        source = source or self.own
        length = 20 + len(options) + len(payload)
        words = 5 + len(options) // 4
        head = struct.pack("!BBHHHBBH4s4s", 0x40 | words, 0, length, 1, 0, 64, protocol, 0, source, self.server)
        head = head[:10] + struct.pack("!H", checksum(head + options)) + head[12:] + options
        return self.theirs + self.hardware + b"\x08\x00" + head + payload

    def segment(self, port, seq, ack, flags, data=b"", window=65535, source=None, to=PORT, wrong=0):
        source = source or self.own
        head = struct.pack("!HHIIBBHHH", port, to, seq % 2**32, ack % 2**32, 5 << 4, flags, window, 0, 0)
        pseudo = source + self.server + struct.pack("!BBH", 0, 6, len(head) + len(data))
        total = checksum(pseudo + head + data) ^ wrong
        self.socket.send(self.packet(6, head[:16] + struct.pack("!H", total) + head[18:] + data, source))

    def answer(self, port, timeout=1.0, wanted=lambda segment: True):
        """The next segment for a port: sequence and acknowledgement numbers, flags, window, data."""
        end = time.monotonic() + timeout
        while frame := self.frame(end):
            if frame[12:14] != b"\x08\x00" or frame[23] != 6 or frame[30:34] != self.own:
                continue
            total = struct.unpack("!H", frame[16:18])[0]
            segment = frame[34 : 14 + total]
            _, to, seq, ack, offset, flags, window = struct.unpack("!HHIIBBH", segment[:16])
            found = (seq, ack, flags, window, segment[(offset >> 4) * 4 :])
            if to == port and wanted(found):
                return found
        return None

    def drain(self):
        while self.frame(time.monotonic() + 0.05):
            pass


class Connection:
    def __init__(self, wire, port, window=65535):
        self.wire, self.port = wire, port
        self.seq = random.getrandbits(32)
        wire.segment(port, self.seq, 0, SYN, window=window)
        found = wire.answer(port, 3, lambda segment: segment[2] == SYN | ACK)
        assert found and found[1] == (self.seq + 1) % 2**32, f"no connection: {found}"
        self.seq, self.ack = self.seq + 1, found[0] + 1
        self.send(b"", ACK, window=window)

    def send(self, data=b"", flags=ACK | PSH, at=0, **more):
        self.wire.segment(self.port, self.seq + at, self.ack, flags, data, **more)

    def receive(self, timeout=1.0, **more):
        """Data in order, acknowledged."""
        here = lambda segment: segment[4] and segment[0] == self.ack % 2**32
        found = self.wire.answer(self.port, timeout, here)
        if not found:
            return None
        self.ack += len(found[4])
        self.send(b"", ACK, **more)
        return found[4]

    def say(self, data):
        self.send(data)
        self.seq += len(data)

    def echo(self, data):
        """Whether what is sent comes back."""
        self.say(data)
        got = b""
        while len(got) < len(data) and (part := self.receive(3)):
            got += part
        return got == data


def echoing(wire, port, **more):
    connection = Connection(wire, port, **more)
    connection.say(b"echo\n")
    wire.answer(port, 1, lambda segment: segment[1] == connection.seq % 2**32)
    return connection


def report(what, right):
    print("ok" if right else "WRONG", what, flush=True)


def order(wire):
    c = echoing(wire, 20001)
    report("data comes back", c.echo(b"plain"))
    c.send(b"world", at=6)
    early = wire.answer(c.port, 1, lambda segment: segment[1] == c.seq % 2**32)
    report("a segment that comes early is answered by what is missing", early is not None and not early[4])
    c.send(b"hello ")
    c.seq += 11
    got = b""
    while len(got) < 11 and (part := c.receive(3)):
        got += part
    report("segments in the wrong order come out in the right one", got == b"hello world")
    c.send(b"twice")
    c.send(b"twice")
    c.seq += 5
    first = c.receive(3)
    report("what comes twice is there once", first == b"twice" and c.receive(0.5) is None and c.echo(b"next"))
    c.send(b"xxxxover", at=-4)
    c.seq += 4
    report("what overlaps is taken once", c.receive(3) == b"over")
    c.send(b"far away", at=1 << 24)
    far = wire.answer(c.port, 2)
    report("what is out of the window is answered by where it is", far is not None and far[1] == c.seq % 2**32)
    report("and the connection goes on", c.echo(b"still here"))


def loss(wire):
    c = echoing(wire, 20002)
    c.say(b"lost?")
    first = wire.answer(c.port, 1, lambda segment: segment[4])
    again = wire.answer(c.port, 4, lambda segment: segment[4])
    report("what is not acknowledged is sent again", first and again and first[0] == again[0] and first[4] == again[4])
    report("and is taken then", c.receive(5) == b"lost?" and c.echo(b"more"))
    c.send(b"bad sum", wrong=0x1234)
    report("a wrong sum is no data", c.receive(0.6) is None)
    report("and the right one is", c.echo(b"bad sum"))


def window(wire):
    c = echoing(wire, 20003)
    c.send(b"", ACK, window=0)
    c.send(b"0123456789", window=0)
    c.seq += 10
    probe = wire.answer(c.port, 5, lambda segment: segment[4])
    report("a shut window is probed by no more than a byte", probe is None or len(probe[4]) <= 1)
    c.send(b"", ACK, window=4)
    small = wire.answer(c.port, 5, lambda segment: segment[4] and segment[0] == c.ack % 2**32)
    report("a small window is kept to", small is not None and len(small[4]) <= 4)
    c.ack += len(small[4]) if small else 0
    c.send(b"", ACK, window=65535)
    got = small[4] if small else b""
    while len(got) < 10 and (part := c.receive(5)):
        got += part
    report("an open one lets all through", got == b"0123456789")


def resets(wire):
    c = echoing(wire, 20004)
    c.send(b"", RST, at=1 << 24)
    report("a reset out of the window changes nothing", c.echo(b"alive"))
    c.send(b"", SYN | ACK)
    wire.drain()
    report("neither does a late opening", c.echo(b"alive still"))
    c.send(b"", RST)
    time.sleep(0.1)
    wire.drain()
    c.send(b"anybody?")
    gone = wire.answer(c.port, 2)
    report("a reset ends it", gone is not None and gone[2] & RST != 0)
    wire.segment(20005, 77, 0, SYN, to=PORT + 1)
    refused = wire.answer(20005, 2)
    report("nobody's port refuses", refused is not None and refused[2] == RST | ACK and refused[1] == 78)
    wire.segment(20006, 77, 1234, ACK)
    stray = wire.answer(20006, 2)
    report("a stray acknowledgement is reset", stray is not None and stray[2] & RST and stray[0] == 1234)
    c = Connection(wire, 20007)
    c.say(b"source 100000000\n")
    wire.answer(c.port, 2, lambda segment: segment[4])
    c.send(b"", RST)
    time.sleep(0.1)
    report("the server lives on", echoing(wire, 20008).echo(b"hello"))


def ends(wire):
    c = echoing(wire, 20009)
    c.say(b"last words")
    c.send(b"", FIN | ACK)
    c.seq += 1
    report("the end comes behind the data", c.receive(3) == b"last words")
    end = wire.answer(c.port, 3, lambda segment: segment[2] & FIN)
    report("and is answered by the other end", end is not None and end[1] == c.seq % 2**32)


def openings(wire):
    c = Connection(wire, 20012)
    c.say(f"connect {socket.inet_ntoa(wire.own)} 20013 20014\n".encode())
    opening = lambda segment: segment[2] == SYN
    first = wire.answer(20013, 5, opening)
    wire.segment(20013, 7777, 5555, ACK, to=20014)
    reset = wire.answer(20013, 5, lambda segment: segment[2] & RST)
    report("an answer for an earlier connection is reset", first and reset and reset[0] == 5555)
    # The timer would send the first one again.
    again = wire.answer(20013, 5, opening)
    report("and this one asked for anew, not by the timer", first and again and first[0] != again[0])
    wire.segment(20013, 7777, 5556, ACK, to=20014)
    reset = wire.answer(20013, 5, lambda segment: segment[2] & RST)
    third = wire.answer(20013, 5, opening)
    report("once", reset and again and third and third[0] == again[0])
    if third:
        wire.segment(20013, 7777, third[0] + 1, SYN | ACK, to=20014)
        data = wire.answer(20013, 5, lambda segment: segment[4])
        report("and has it then", data is not None and data[1] == 7778 and data[4] == b"here I am")
        wire.segment(20013, 7778, 0, RST, to=20014)


def flood(wire, count):
    before = time.monotonic()
    for at in range(count):
        source = wire.own[:3] + bytes([100 + at % 100])
        wire.segment(1024 + at % 60000, random.getrandbits(32), 0, SYN, source=source)
    print("flooded", time.monotonic() - before < 60, flush=True)
    wire.drain()
    report("a flood of openings keeps nobody out", echoing(wire, 20010).echo(b"me, too"))


def garbage(wire, count):
    chance = random.Random(7)
    seen = [wire.packet(6, bytes(20)), wire.packet(17, bytes(8)), wire.packet(1, b"\x08\0" + bytes(20))]
    six = wire.theirs + wire.hardware + b"\x86\xdd" + bytes([0x60, 0, 0, 0, 0, 20, 6, 64]) + bytes(52)
    arp = wire.theirs + wire.hardware + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + bytes(20)
    seen += [six, arp]
    for _ in range(count):
        frame = bytearray(chance.choice(seen) + chance.randbytes(chance.randrange(64)))
        for _ in range(chance.randrange(1, 8)):
            frame[chance.randrange(12, len(frame))] = chance.getrandbits(8)
        if frame[12:14] == b"\x08\x00" and chance.random() < 0.8:
            words = (frame[14] & 15) * 4
            frame[24:26] = b"\0\0"
            frame[24:26] = struct.pack("!H", checksum(bytes(frame[14 : 14 + words])))
        wire.socket.send(bytes(frame[: chance.randrange(14, len(frame) + 1)]))
    wire.drain()
    wire.resolve()
    report("garbage changes nothing", echoing(wire, 20011).echo(b"after all that"))


if __name__ == "__main__":
    wire = Wire(*sys.argv[1:4])
    order(wire)
    loss(wire)
    window(wire)
    resets(wire)
    ends(wire)
    openings(wire)
    flood(wire, 5000)
    garbage(wire, 20000)
