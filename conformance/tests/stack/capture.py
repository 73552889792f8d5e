"""Whole connections, packet by packet, as they come out of the sandbox's own stack.

capture.py plain INTERFACE          the interface is to cut and sum up what is sent before it sends it, not to leave it to the other end
capture.py serve INTERFACE IP       waits for a client in the sandbox that has IP, then looks at what it has sent
capture.py ask INTERFACE IP         asks a server there (peers.py serve), then looks at what it has sent
capture.py longest INTERFACE IP     asks it for much, and tells the bytes of the longest segment that has come in one piece
"""
import collections
import ctypes
import fcntl
import hashlib
import socket
import struct
import sys
import threading
import time

import peers
from segments import ACK, FIN, RST, SYN, checksum

PORT, CLOSED = 7100, 7101
MTU = 1500
COUNT = 8 << 20
SO_RCVBUFFORCE, SOL_PACKET, PACKET_STATISTICS = 33, 263, 6
SIOCETHTOOL = 0x8946
# ETHTOOL_SGSO, ETHTOOL_STSO, ETHTOOL_STXCSUM of <linux/ethtool.h>
OFFLOADS = [0x24, 0x1F, 0x17]

Packet = collections.namedtuple("Packet", "source sport dport seq ack flags window options data")
failures = []


def expect(right, what):
    if not right:
        failures.append(what)


def plain(interface):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in OFFLOADS:
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sQ16x", interface.encode(), ctypes.addressof(value))
            fcntl.ioctl(any_socket, SIOCETHTOOL, request)


class Capture:
    def __init__(self, interface):
        self.frames = []
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
        self.socket.bind((interface, 0))
        self.socket.settimeout(0.1)
        self.stopped = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while True:
            try:
                self.frames.append(self.socket.recv(1 << 16))
            except TimeoutError:
                if self.stopped:
                    return

    def stop(self):
        """What was captured, once nothing more comes."""
        time.sleep(0.5)
        self.stopped = True
        self.thread.join()
        _, dropped = struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        expect(dropped == 0, f"the capture has lost {dropped} frames")
        return self.frames


def options_of(bytes_):
    found, at = {}, 0
    while at < len(bytes_) and bytes_[at] != 0:
        if bytes_[at] == 1:
            at += 1
            continue
        length = bytes_[at + 1]
        found[bytes_[at]] = bytes_[at + 2 : at + length]
        at += length
    return found


def parse(frame, inside):
    """A segment of TCP; sums and lengths must hold if it is the sandbox's."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    words, total = frame[14] & 15, struct.unpack("!H", frame[16:18])[0]
    head, segment = frame[14 : 14 + words * 4], frame[14 + words * 4 : 14 + total]
    sport, dport, seq, ack, offset, flags, window = struct.unpack("!HHIIBBH", segment[:16])
    options = options_of(segment[20 : (offset >> 4) * 4])
    if head[12:16] == inside:
        pseudo = head[12:20] + struct.pack("!BBH", 0, 6, len(segment))
        expect(total <= MTU, f"a packet of {total} bytes")
        expect(checksum(head) == 0, "the sum of a header of IP")
        expect(checksum(pseudo + segment) == 0, f"the sum of a segment of {len(segment)} bytes")
        expect(head[8] == 64, f"a time to live of {head[8]}")
    return Packet(head[12:16], sport, dport, seq, ack, flags, window, options, segment[(offset >> 4) * 4 :])


def since(number, start):
    """How far a sequence number is behind another, as they wrap around."""
    return (number - start) % 2**32


class Side:
    """What one side has sent so far, counted from its first sequence number."""

    def __init__(self):
        self.start = self.scale = self.mss = self.end = None
        self.edge = self.acked = 0
        self.stream = bytearray()
        self.scaled = False


def follow(packets, inside, who):
    """Checks all that the sandbox has sent on one connection; the bytes of its stream."""
    own, peer = Side(), Side()
    for packet in packets:
        ours = packet.source == inside
        side, other = (own, peer) if ours else (peer, own)
        if packet.flags & SYN:
            side.start = packet.seq
            side.mss = struct.unpack("!H", packet.options.get(2, b"\0\0"))[0]
            side.scale = packet.options.get(3, b"\0")[0]
            side.scaled = 3 in packet.options
            if ours:
                expect(side.mss == MTU - 40, f"{who}: an MSS of {side.mss}")
                expect(side.scaled and side.scale <= 14, f"{who}: no window scale")
                expect(4 in packet.options, f"{who}: SACK is not permitted")
                expect(not packet.data, f"{who}: data with the SYN")
        if packet.flags & ACK and other.start is not None:
            scale = 0 if packet.flags & SYN or not (own.scaled and peer.scaled) else side.scale
            acked = since(packet.ack, other.start)
            sent = len(other.stream) + 1 + (other.end is not None)
            if ours:
                expect(acked <= sent, f"{who}: it acknowledges {acked} of {sent}")
            other.acked = max(other.acked, acked)
            other.edge = max(other.edge, acked + (packet.window << scale))
        if packet.data or packet.flags & FIN:
            at = since(packet.seq, side.start) - 1
            if ours:
                expect(len(packet.data) <= peer.mss, f"{who}: {len(packet.data)} bytes of data in a segment")
                expect(at + len(packet.data) + 1 <= side.edge, f"{who}: {at + len(packet.data) + 1} is beyond {side.edge}")
                expect(packet.flags & ACK, f"{who}: data without an acknowledgement")
                expect(at <= len(side.stream), f"{who}: something is left out before {at}")
            known = len(side.stream) - at
            if known < len(packet.data):
                expect(side.end is None, f"{who}: data behind the end")
                side.stream += packet.data[max(known, 0) :]
            if packet.flags & FIN:
                side.end = at + len(packet.data)
                if ours:
                    expect(side.end == len(side.stream), f"{who}: the end is at {side.end}")
        expect(not packet.flags & RST, f"{who}: a reset")
    for side, name in [(own, "the sandbox"), (peer, "the other side")]:
        expect(side.end is not None, f"{who}: {name} has not ended")
        expect(side.end is None or side.acked == side.end + 2, f"{who}: the end of {name} was not acknowledged")
    return bytes(own.stream)


def check(frames, inside, expected):
    """`expected`: for each connection by the other side's port what the sandbox must have sent."""
    packets = [packet for packet in (parse(frame, inside) for frame in frames) if packet]
    for (port, mine), stream in expected.items():
        flow = [one for one in packets if {one.sport, one.dport} == {port, mine}]
        who = f"port {port}"
        if stream is None:
            answers = [one for one in flow if one.source == inside]
            asked = [one for one in flow if one.source != inside]
            expect(len(answers) == len(asked) == 1, f"{who}: {len(answers)} answers to {len(asked)} segments")
            if answers and asked:
                expect(answers[0].flags == RST | ACK, f"{who}: flags {answers[0].flags}")
                expect(answers[0].ack == (asked[0].seq + 1) % 2**32, f"{who}: acknowledges something else")
            continue
        sent = follow(flow, inside, who)
        expect(hashlib.sha256(sent).digest() == hashlib.sha256(stream).digest(), f"{who}: {len(sent)} other bytes than {len(stream)}")
    print(len(packets) > 100, *sorted(set(failures))[:20] or ["right"], sep="\n")


def wanted(count):
    return b"".join([peers.PART] * (count // len(peers.PART)))


def ask(interface, ip):
    capture = Capture(interface)
    expected = {}

    def done(connection, stream):
        expected[(peers.PORT, connection.getsockname()[1])] = stream
        while connection.recv(1 << 16):
            pass
        connection.close()

    connection = peers.ask(ip, f"source {COUNT}")
    peers.sink(connection, COUNT)
    done(connection, wanted(COUNT))
    # The reader begins late, with little room: the window closes.
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
    connection.connect((ip, peers.PORT))
    connection.sendall(f"source {COUNT // 8}\n".encode())
    time.sleep(1)
    peers.sink(connection, COUNT // 8)
    done(connection, wanted(COUNT // 8))
    # The sandbox takes data, and says of them what they were.
    connection = peers.ask(ip, f"sink {COUNT}")
    digest = peers.source(connection, COUNT)
    expect(peers.line(connection).strip() == digest, "what it has taken")
    done(connection, digest.encode() + b"\n")
    # This side ends first, and the sandbox while data are on their way.
    connection = peers.ask(ip, "echo")
    connection.sendall(b"some bytes")
    connection.shutdown(socket.SHUT_WR)
    done(connection, b"some bytes")
    with socket.socket() as refused:
        refused.bind(("", 0))
        expect(refused.connect_ex((ip, CLOSED)) == 111, "a port that nobody listens at")
        expected[(CLOSED, refused.getsockname()[1])] = None
    check(capture.stop(), socket.inet_aton(ip), expected)


def longest(interface, ip):
    capture = Capture(interface)
    with peers.ask(ip, f"source {8 * COUNT}") as connection:
        peers.sink(connection, 8 * COUNT)
    if ":" in ip:
        # Behind the headers of Ethernet and IPv6; those of TCP have no options but in the first segment.
        source = socket.inet_pton(socket.AF_INET6, ip)
        lengths = [len(frame) - 74 for frame in capture.stop() if frame[22:38] == source and frame[20] == 6]
    else:
        frames = [parse(frame, None) for frame in capture.stop() if frame[26:30] == socket.inet_aton(ip)]
        lengths = [len(packet.data) for packet in frames if packet]
    print(max(lengths))
    print("right" if not failures else failures)


def serve(interface, ip):
    listener = socket.create_server(("", PORT))
    capture = Capture(interface)
    print("ready", flush=True)
    connection, peer = listener.accept()
    peers.sink(connection, COUNT)
    connection.sendall(b"got it")
    expect(connection.recv(1) == b"", "the end")
    connection.close()
    check(capture.stop(), socket.inet_aton(ip), {(peer[1], PORT): wanted(COUNT)})


def client(ip):
    """In the sandbox, for `serve`."""
    with socket.create_connection((ip, PORT)) as connection:
        peers.source(connection, COUNT)
        print(connection.recv(10))


if __name__ == "__main__":
    {"plain": plain, "serve": serve, "ask": ask, "longest": longest, "client": client}[sys.argv[1]](*sys.argv[2:])
